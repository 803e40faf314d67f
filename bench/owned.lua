-- Preloading the 20 posts of each of 1,000 authors; the bytes that saving one changed element of an array sends, of
-- 1,000 elements over those of 10.
local common = require "bench.common"
local lumo = require "lumo"

local PASSES, COUNT, PER_AUTHOR = 5, 1000, 20

local function preload()
  local authors = common.Writer:query():exec()
  local relation = common.Writer:get_relation("works")
  assert(#authors == COUNT)
  for _ = 1, PASSES do
    for i = 1, COUNT do relation:set_related(authors[i], {}) end -- lets the last pass's lists go
    collectgarbage()
    collectgarbage()
    local start, start_cpu = common.wall(), common.cpu()
    local commands = lumo.count_commands(function() lumo.load(authors, "works") end)
    common.note("owned_cpu", common.cpu() - start_cpu)
    common.note("owned", common.wall() - start)
    assert(commands == 1)
    assert(#authors[COUNT].works == PER_AUTHOR)
  end
end

--- All bytes that clients have sent to the server, as it counts them.
local function received()
  return tonumber(tostring(common.connection:command({ serverStatus = 1 }, { database = "admin" }).network.bytesIn))
end

--- The bytes of one save, with those of one serverStatus.
local function saved_bytes(count)
  local items = {}
  for i = 1, count do items[i] = { name = "item", n = i } end
  local order = common.Order:create { items = items }
  local lowest = math.huge
  for n = 1, 20 do -- the server's own clients are heard, too, now and then
    local before = received()
    order.items[count / 2].n = -n
    order:save()
    lowest = math.min(lowest, received() - before)
  end
  return lowest
end

preload()
-- Places have names of other lengths: "items.4.n" and "items.499.n".
common.note("element", saved_bytes(1000) / saved_bytes(10))
common.report()
