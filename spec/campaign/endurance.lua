-- Many mixed operations in one process: resident memory, file descriptors, and the server's cursors and
-- sessions end where they stood after the warm-up.
--
--   lua spec/campaign/endurance.lua OPERATIONS
package.path = "./spec/?.lua;" .. package.path
local lumo = require "lumo"
local fixture = require "campaign.fixture"

local total = tonumber(arg[1])
local LIMIT_KB = 1024
local FEW = 10 -- connections: how many cursors are abandoned at once, each on one of its own, is the collector's doing

fixture.connect("endurance")
local s = fixture.reset(fixture.define())
local T = s.tag_ids
local many = {} -- more than a batch
for i = 1, 1500 do many[i] = { title = "loose " .. i } end
s.Loose:create_many(many)

local function first_line(command)
  local pipe = io.popen(command)
  local line = pipe:read("*l")
  pipe:close()
  return line
end

local pid = tonumber(first_line("echo $PPID"))

local function resident_kb()
  local file = io.open("/proc/self/status")
  local kb = file:read("*a"):match("VmRSS:%s+(%d+)")
  file:close()
  return tonumber(kb)
end

local function descriptors()
  return tonumber(first_line(("ls /proc/%d/fd | wc -l"):format(pid)))
end

local function server_counts()
  local status = fixture.conn:command { serverStatus = 1 }
  return tonumber(tostring(status.metrics.cursor.open.total)), tonumber(tostring(status.connections.current))
end

local function refused(fn, ...)
  assert(not pcall(fn, ...), "an operation that must be refused was not")
end

-- In turns: what is made goes away within the round, so that rounds are alike.
local round = {
  function() return s.Post:find(s.post_id).labels[1] end,
  function()
    local post = s.Post:create { title = "new", labels = { "a", "b" }, meta = { colour = "red" } }
    post.title = "changed"
    post:save()
    post:delete()
  end,
  function() return #s.Post:query():where("views", ">", 0):order_by("title"):exec() end,
  function() s.Post:query():where("title", "post 2"):increment("views") end,
  function()
    s.post.tags:attach { [T[3]] = { rank = 3 }, [T[4]] = { rank = 4 } }
    s.post.tags:detach { T[3], T[4] }
  end,
  function()
    s.post.tags:sync { T[2], T[3] }
    s.post.tags:sync { T[1], T[2] }
  end,
  function()
    s.post.tags:toggle { T[4] }
    s.post.tags:toggle { T[4] }
  end,
  function() return #lumo.load(s.Post:all(), "tags") end,
  function() return s.post:related("plain"):query():where("name", "tag 1"):count() end,
  function() s.post:related("plain"):update_pivot_data(T[1], { role = "user" }) end,
  function() -- a cursor that is left open in the middle
    local each = s.Loose:query():each()
    return each().title
  end,
  function() return s.post:to_json() .. #lumo.to_json(s.Post:all()) end,
  function()
    return lumo.bson.decode(lumo.bson.encode({ a = { 1, { b = lumo.objectid() } }, d = lumo.datetime.now() })).d
  end,
  function() refused(s.Post.create, s.Post, { views = "text" }) end,
  function() refused(s.Post.find_or_fail, s.Post, lumo.objectid()) end,
  function() refused(function() s.Post:query():where("nope", 1) end) end,
  function() refused(s.Tag.create, s.Tag, { _id = T[1], name = "duplicate" }) end, -- the server's refusal
  function()
    refused(s.Post.query(s.Post):where_raw({ ["$nope"] = 1 }).exec, s.Post:query():where_raw({ ["$nope"] = 1 }))
  end,
  function()
    refused(lumo.transaction, function(trx)
      s.Post:create({ title = "never" }, { client = trx })
      error("rolled back")
    end)
  end,
}

local function run(operations)
  for i = 1, operations do
    round[(i - 1) % #round + 1]()
  end
end

local function measure()
  for _ = 1, 4 do collectgarbage() end
  fixture.conn:ping() -- cursors that were collected end before the next command
  local at = { memory = resident_kb(), descriptors = descriptors() }
  at.cursors, at.connections = server_counts()
  return at
end

local warm_up = math.max(2000, math.floor(total / 10))
run(warm_up)
local before = measure()
local peak = before.memory
local started = os.time()
local done = 0
while done < total do
  local part = math.min(10000, total - done)
  run(part)
  done = done + part
  collectgarbage()
  peak = math.max(peak, resident_kb())
end
local after = measure()

local passed, failed = 0, 0
local function check(what, good, text)
  print(("   %s: %s"):format(what, text))
  if good then passed = passed + 1 else failed = failed + 1 end
end

print(("   %d operations after %d of warm-up, %d s"):format(total, warm_up, os.time() - started))
check("resident memory", after.memory - before.memory <= LIMIT_KB,
  ("%d kB, then %d kB (%+d), at most %d kB"):format(before.memory, after.memory, after.memory - before.memory, peak))
local opened = after.connections - before.connections
check("connections to the server", opened <= FEW, ("%d, then %d"):format(before.connections, after.connections))
check("file descriptors", after.descriptors - before.descriptors <= math.max(opened, 0),
  ("%d, then %d"):format(before.descriptors, after.descriptors))
check("cursors on the server", after.cursors <= before.cursors, ("%d, then %d"):format(before.cursors, after.cursors))
fixture.drop()
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1, true)
