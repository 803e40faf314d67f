-- 1,000,000 documents read one by one: how much the process grows after the first 100,000. Runs once, as it takes long.
local common = require "bench.common"
local lumo = require "lumo"

local DOCUMENTS, WARM = 1000000, 100000

local Point = lumo.model("Point", { columns = { { "n", "integer" }, { "name", "string" } } })

--- Resident memory of this process in bytes.
local function resident()
  for line in io.lines("/proc/self/status") do
    local kilobytes = line:match("^VmRSS:%s+(%d+) kB")
    if kilobytes then return tonumber(kilobytes) * 1024 end
  end
  error("this system does not tell the size of a process")
end

if Point:count() < DOCUMENTS then
  Point:query():everything():delete()
  for first = 1, DOCUMENTS, 10000 do
    local rows = {}
    for i = 1, 10000 do
      rows[i] = { n = first + i - 1, name = "point" }
    end
    Point:create_many(rows)
  end
  collectgarbage()
  collectgarbage()
end

local count, warm, highest = 0, 0, 0
for point in Point:query():each() do
  count = count + 1
  assert(point.n)
  if count % 10000 == 0 then
    local now = resident()
    if count <= WARM then warm = math.max(warm, now) end
    highest = math.max(highest, now)
  end
end
assert(count == DOCUMENTS)
common.note("stream", (highest - warm) / 1048576)
common.report()
