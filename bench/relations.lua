-- Eager loading: the labels of 1,000 parents with 20 each and pivot data; of 5,000 parents, which merges 100,000
-- pivot rows.
local common = require "bench.common"
local lumo = require "lumo"

local PASSES = 5

local relation = common.Parent:get_relation("labels")
local parents = common.Parent:query():order_by("_id"):exec()
assert(#parents == 5000)

local function memory()
  collectgarbage()
  collectgarbage()
  return collectgarbage("count") * 1024
end

local function measure(name, count)
  local list = { (table.unpack or unpack)(parents, 1, count) }
  for _ = 1, PASSES do
    for i = 1, count do relation:set_related(list[i], {}) end -- lets the last pass's lists go
    local before = memory()
    local start, start_cpu = common.wall(), common.cpu()
    local commands = lumo.count_commands(function() lumo.load(list, "labels") end)
    common.note(name .. "_cpu", common.cpu() - start_cpu)
    common.note(name, common.wall() - start)
    common.note(name .. "_memory", memory() - before)
    assert(commands == 2)
    assert(#list[count].labels == 20 and list[count].labels[1].extras.pivot_role)
  end
end

measure("eager", 1000)
measure("merge", 5000)
common.report()
