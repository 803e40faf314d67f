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

local function first_parents(count)
  return { (table.unpack or unpack)(parents, 1, count) }
end

-- Counting what 1,000 parents have.
for _ = 1, PASSES do
  local list = first_parents(1000)
  local start = common.wall()
  lumo.load_count(list, "labels")
  common.note("with_count", common.wall() - start)
  assert(list[1000].extras.labels_count == 20)
end

-- What the server sends for 3 labels of each of 1,000 parents that have 20: against 3 rows for each and the labels,
-- each once, in a command of their own.
local function received(fn)
  local function out() return tonumber(tostring(lumo.connection():command { serverStatus = 1 }.network.bytesOut)) end
  local own = -out()
  own = own + out()
  local before = out()
  fn()
  return out() - before - own
end

local list, seen = first_parents(1000), {}
local limited = received(function()
  lumo.load(list, "labels", function(q) q:group_limit(3) end)
end)
local rows, labels = {}, {}
for _, parent in ipairs(list) do
  assert(#parent.labels == 3)
  for _, label in ipairs(parent.labels) do
    rows[#rows + 1] = lumo.bson.encode {
      parent_id = parent._id, label_id = label._id, role = label.extras.pivot_role,
      position = label.extras.pivot_position,
    }
    if not seen[label._id] then labels[#labels + 1] = label._id end
    seen[label._id] = true
  end
end
local wanted = received(function() common.Label:find_many(labels) end)
for _, row in ipairs(rows) do wanted = wanted + #row end
common.note("group_limit", limited / wanted)
common.report()
