-- Documents of a reply into records that are kept: nothing read, 3 columns read, all 13 read, without and with
-- the collector; memory of an unread record.
-- luacheck: ignore 531 (what is read is not kept)
local common = require "bench.common"
local core = require "lumo.core"
local registry = require "lumo.registry"
local run = require "lumo.run"

local PASSES = 10

--- A function that makes records of one reply: what is measured, without the waiting for it.
local function hydrator(model)
  local state = registry.of(model)
  local plan = core.query_find_plan(model:query(), "exec", 0, false)
  run(common.connection, plan)
  return function() return core.plan_records(plan, state.class, common.connection.number) end
end

local function read_none() end

local function read_3(posts)
  for i = 1, #posts do
    local post = posts[i]
    local _ = post.title, post.views, post.created_at
  end
end

local function read_13(posts)
  for i = 1, #posts do
    local post = posts[i]
    local _ = post._id, post.title, post.slug, post.summary, post.body, post.author_id, post.status, post.views,
      post.likes, post.rating, post.featured, post.created_at, post.updated_at
  end
end

local function read_13_nested(posts)
  for i = 1, #posts do
    local post = posts[i]
    local _ = post._id, post.title, post.slug, post.labels, post.body, post.author_id, post.status, post.views,
      post.meta, post.rating, post.featured, post.created_at, post.updated_at
  end
end

local function measure(name, hydrate, read, collector)
  for _ = 1, PASSES do
    collectgarbage()
    collectgarbage(collector)
    local start = common.cpu()
    local posts = hydrate()
    read(posts)
    common.note(name, (common.cpu() - start) / #posts)
    assert(#posts == 10000)
    collectgarbage("restart")
  end
end

local function measure_memory(hydrate)
  collectgarbage()
  collectgarbage("stop")
  local before = collectgarbage("count")
  local posts = hydrate()
  common.note("memory", (collectgarbage("count") - before) * 1024 / #posts / 750)
  collectgarbage("restart")
end

local hydrate, hydrate_nested = hydrator(common.Post), hydrator(common.NestedPost)
measure_memory(hydrate)
for _, collector in ipairs { "stop", "restart" } do
  local suffix = collector == "stop" and "" or "_collector"
  measure("read_0" .. suffix, hydrate, read_none, collector)
  measure("read_3" .. suffix, hydrate, read_3, collector)
  measure("read_13" .. suffix, hydrate, read_13, collector)
  measure("nested_13" .. suffix, hydrate_nested, read_13_nested, collector)
end
common.report()
