-- Everything that users hold, in every order of letting go: after its connection was closed, after what it came
-- from was collected, from other coroutines, in a forked child. Each use gives the right result or an error
-- object.
--
--   lumo_host spec/campaign/lifecycles.lua ROUNDS SEED        (or luajit, which forks by its FFI)
package.path = "./spec/?.lua;" .. package.path
local lumo = require "lumo"
local core = require "lumo.core"
local fixture = require "campaign.fixture"

local rounds, seed = tonumber(arg[1]), tonumber(arg[2])
local host = rawget(_G, "host")
math.randomseed(seed)
print("seed " .. seed)

fixture.connect("lifecycles")
local s = fixture.reset(fixture.define())
for i = 1, 1500 do -- so that a cursor has several batches
  if i % 500 == 1 then s.bulk = {} end
  s.bulk[#s.bulk + 1] = { name = "bulk " .. i }
  if i % 500 == 0 then s.Tag:create_many(s.bulk) end
end
s.bulk = nil
local TAGS = s.Tag:count()

local passed, failed = 0, 0

local function check(what, good, detail)
  if good then
    passed = passed + 1
  else
    failed = failed + 1
    print(("   %s: %s"):format(what, tostring(detail)))
  end
end

--- `fn` gives what is wanted, or raises an error object.
local function use(what, wanted, fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then
    check(what, result == wanted, ("gave %s"):format(tostring(result)))
  else
    check(what, core.is_error(result), result)
  end
end

--- The same, and it must not raise.
local function works(what, wanted, fn, ...)
  local ok, result = pcall(fn, ...)
  check(what, ok and result == wanted, result)
end

---- one of everything

local function count(list)
  local n = 0
  for _ in list do n = n + 1 end
  return n
end

--- Objects by name, each with a use of it and the result. What one keeps alive of another is what is tested.
local function everything()
  local post = s.Post:find(s.post_id)
  post:load("tags")
  local list = post.tags
  local handle = post:related("tags")
  local tag = handle:exec()[1]
  local each = s.Tag:query():each()
  each()
  local query = s.Post:query():where("title", "post 1")
  local changed = s.Post:find(s.post_id)
  changed.labels[3] = "green"
  changed.any = { a = { 1, 2 } }
  local _, err = pcall(s.Tag.create, s.Tag, { _id = s.tag_ids[1] })
  local plan = core.query_find_plan(query, "find", 0, false)
  return {
    { "record", post, "post 1", function(o) return o.title end },
    { "loaded list", list, 2, function(o) return #o end },
    { "record of a loaded list", list[1], "tag 1", function(o) return o.name end },
    { "handle", handle, 2, function(o) return o:count() end },
    { "related record", tag, 1, function(o) return o.extras.pivot_rank end },
    { "pivot record", tag.pivot, 1, function(o) return o.rank end },
    { "iterator", each, TAGS - 1, function(o) return count(o) end },
    { "query", query, 1, function(o) return o:exec()[1].views end },
    { "clone", query:clone(), 1, function(o) return o:count() end },
    { "query of a handle", handle:query(), 2, function(o) return #o:exec() end },
    { "query of pivots", handle:pivot_query(), 2, function(o) return o:count() end },
    { "changed record", changed, "green", function(o) return o.dirty.labels[3] end },
    { "table of a record", changed.labels, "blue", function(o) return o[2] end },
    { "error", err, "E_DUPLICATE_KEY", function(o) return o.code end },
    { "plan", plan, true, function(o) return core.run(s.conn.handle, o, nil) end },
    { "id", post.id, fixture.id(1), function(o) return tostring(o) end },
    { "JSON of a list", list, true, function(o) return lumo.to_json(o):find("tag 1", 1, true) ~= nil end },
  }
end

local function shuffled(list)
  for i = #list, 2, -1 do
    local j = math.random(i)
    list[i], list[j] = list[j], list[i]
  end
  return list
end

---- any order of collection

local function collection()
  local objects = shuffled(everything())
  while #objects > 0 do
    local one = table.remove(objects)
    if math.random(3) > 1 then -- else it goes unused
      works(one[1] .. " while others are collected", one[3], one[4], one[2])
    end
    one = nil -- luacheck: no unused
    if math.random(2) == 1 then collectgarbage() end
  end
end

---- a connection that was closed

local function closed()
  s.conn = lumo.connect(fixture.uri(), { database = fixture.database })
  local objects = shuffled(everything())
  local connection = s.conn
  connection:close()
  for _, one in ipairs(objects) do
    use(one[1] .. " after close", one[3], one[4], one[2])
    if math.random(4) == 1 then collectgarbage() end
  end
  for _, one in ipairs(objects) do
    if one[1] == "changed record" then use("save after close", nil, one[2].save, one[2]) end
  end
  use("close after close", nil, connection.close, connection)
  use("ping after close", nil, connection.ping, connection)
  use("delete after close", nil, function() s.Post:find(s.post_id):delete() end)
  objects, connection = nil, nil -- luacheck: no unused
  collectgarbage()
  s.conn = lumo.connect(fixture.uri(), { database = fixture.database })
  works("a new connection", "post 1", function() return s.Post:find(s.post_id).title end)
end

---- coroutines

local function coroutines()
  local objects
  local thread = coroutine.create(function()
    objects = everything()
    coroutine.yield()
    error("ends with an error")
  end)
  coroutine.resume(thread)
  if math.random(2) == 1 then coroutine.resume(thread) end
  thread = nil -- luacheck: no unused
  collectgarbage()
  for _, one in ipairs(shuffled(objects)) do
    works(one[1] .. " made in a dead coroutine", one[3], coroutine.wrap(one[4]), one[2])
  end

  local each, n = s.Tag:query():each(), 0
  local function step()
    while each() do
      n = n + 1
      coroutine.yield()
    end
  end
  local turns = { coroutine.wrap(step), coroutine.wrap(step), coroutine.wrap(step) }
  for i = 1, TAGS do turns[i % 3 + 1]() end
  check("an iterator in three coroutines", n == TAGS, n)

  local query = s.Post:query()
  local building = coroutine.wrap(function()
    query:where(function(group)
      group:where("title", "post 1")
      coroutine.yield()
      group:or_where("title", "post 2")
    end)
  end)
  building()
  use("a query while a group of it is open", nil, function() tostring(query) end)
  building()
  works("a group over a yield", 2, query.count, query)

  local left = s.Post:query():where("views", 1)
  pcall(left.where, left, function(group)
    group:where("title", "nothing")
    error("in the middle")
  end)
  works("a query whose group failed", 1, left.count, left)
end

---- plans

local function plans()
  local query = s.Tag:query()
  local plan = core.query_find_plan(query, "each", 0, true)
  core.run(s.conn.handle, plan, nil)
  core.plan_close(plan)
  core.plan_close(plan)
  use("a plan after close", nil, core.run, s.conn.handle, plan, nil)
  use("results after close", nil, core.plan_records, plan, s.Tag, 0)
  use("results of another kind", nil, core.plan_pairs, core.query_find_plan(query, "find", 0, false))
  local done = core.query_find_plan(query, "find", 0, false)
  core.run(s.conn.handle, done, nil)
  use("a plan that is done", true, core.run, s.conn.handle, done, nil)
end

---- a fork

local function fork(fn)
  if host then return host.fork(fn) end
  local ffi = require "ffi"
  pcall(ffi.cdef, "int fork(void); int waitpid(int, int *, int); void _exit(int);")
  io.stdout:flush()
  local child = ffi.C.fork()
  if child == 0 then
    local ok, err = pcall(fn)
    if not ok then io.stderr:write(tostring(err), "\n") end
    os.exit(ok and 0 or 1, true)
  end
  local status = ffi.new("int[1]")
  ffi.C.waitpid(child, status, 0)
  return status[0]
end

local function forks()
  local objects = shuffled(everything())
  local status = fork(function()
    local before = failed
    for _, one in ipairs(objects) do
      use(one[1] .. " in a child", one[3], one[4], one[2])
      if math.random(3) == 1 then collectgarbage() end
    end
    works("a find in a child", "post 1", function() return s.Post:find(s.post_id).title end)
    works("a write in a child", 1, function() return s.Post:query():where("title", "post 3"):update { score = 1 } end)
    objects = nil
    collectgarbage()
    if failed > before then error("a use in the child failed") end
  end)
  check("the child", status == 0, status)
  for _, one in ipairs(objects) do
    works(one[1] .. " after a fork", one[3], one[4], one[2])
  end
end

----

for round = 1, rounds do
  -- Every other round the collector runs all the time.
  if round % 2 == 0 then
    collectgarbage("setpause", 1)
    collectgarbage("setstepmul", 1000)
  else
    collectgarbage("setpause", 200)
    collectgarbage("setstepmul", 200)
  end
  for _, part in ipairs(shuffled { collection, closed, coroutines, plans, forks }) do part() end
end

fixture.conn = s.conn
fixture.drop()
print(("%d passed, %d failed"):format(passed, failed))
if host then return failed == 0 end
os.exit(failed == 0 and 0 or 1, true)
