-- Documents of a reply into records that are kept: nothing read, 3 columns read, all 13 read, without and with
-- the collector; memory of an unread record.
local common = require "bench.common"
local core = require "lumo.core"
local registry = require "lumo.registry"
local run = require "lumo.run"

local PASSES = 10

-- The reply once; making records of it is what is measured.
local state = registry.of(common.Post)
local plan = core.query_find_plan(common.Post:query():limit(10000), "exec", 0, false)
run(common.connection, plan)

local function hydrate()
  return core.plan_records(plan, state.class, common.connection.number)
end

local function read_3(posts)
  for i = 1, #posts do
    local post = posts[i]
    local _ = post.title, post.views, post.created_at
  end
end

local function read_13(posts)
  for i = 1, #posts do
    local post = posts[i]
    local _ = post._id, post.title, post.slug, post.body, post.author_id, post.status, post.views, post.rating,
      post.featured, post.labels, post.meta, post.created_at, post.updated_at
  end
end

local function measure(name, read)
  collectgarbage()
  local start = common.cpu()
  local posts = hydrate()
  if read then read(posts) end
  common.note(name, (common.cpu() - start) / #posts)
  assert(#posts == 10000)
end

local function measure_memory()
  collectgarbage()
  collectgarbage("stop")
  local before = collectgarbage("count")
  local posts = hydrate()
  common.note("memory", (collectgarbage("count") - before) * 1024 / #posts / 750)
  collectgarbage("restart")
end

measure_memory()
for _ = 1, PASSES do
  for _, collector in ipairs { "stop", "restart" } do
    local suffix = collector == "stop" and "" or "_collector"
    for name, read in pairs { read_0 = false, read_3 = read_3, read_13 = read_13 } do
      collectgarbage(collector)
      measure(name .. suffix, read)
      collectgarbage("restart")
    end
  end
end
common.report()
