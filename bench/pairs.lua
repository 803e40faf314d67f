-- attach of 10,000 new ids, and a sync in which 100 come and 100 go.
local common = require "bench.common"

local ROWS, DIFFERENT, PASSES = 10000, 100, 5

local function ids_from(first)
  local ids = {}
  for i = 1, ROWS do
    ids[i] = first + i - 1
  end
  return ids
end

local function measure(name, fn)
  collectgarbage()
  local start, start_cpu = common.wall(), common.cpu()
  local result = fn()
  common.note(name .. "_cpu", common.cpu() - start_cpu)
  common.note(name, common.wall() - start)
  return result
end

local before, after = ids_from(1), ids_from(1 + DIFFERENT)
for _ = 1, PASSES do
  local owner = common.Owner:create({ name = "owner" })
  local result = measure("attach", function() return owner.tags:attach(before) end)
  assert(#result.attached == ROWS)
  result = measure("sync", function() return owner.tags:sync(after) end)
  assert(#result.attached == DIFFERENT and #result.detached == DIFFERENT)
end
common.report()
