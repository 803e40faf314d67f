--- Plans that do not need each other: at once where waiting for one does not keep this thread from another, else
--- one after the other. In a transaction, too, they take turns.
local ambient = require "lumo.ambient"
local events = require "lumo.events"
local run = require "lumo.run"
local runtime = require "lumo.runtime"

---@alias lumo.Load { target: lumo.Client, plan: userdata }

--- Runs plans of one connection at once. Raises the first error of any.
---@param list lumo.Load[]
local function together(handle, list)
  local plans, watches, watching = {}, {}, events.is_watching
  for i, one in ipairs(list) do
    ambient.give_policy(one.target, one.plan)
    plans[i] = one.plan
    if watching then watches[i] = events.before(one.plan) end
  end
  local failed = runtime.run_all(handle, plans)
  for i, one in ipairs(watching and list or {}) do
    events.after(one.target, one.plan, watches[i], failed[i])
  end
  for i in ipairs(list) do
    if failed[i] ~= nil then error(failed[i], 0) end
  end
end

--- Runs them all. Raises the first error of any.
---@param list lumo.Load[]
local function run_all(list)
  local groups, order = {}, {}
  local parallel = #list > 1 and runtime.is_parallel()
  for _, one in ipairs(list) do
    if not parallel or ambient.transaction(one.target) then
      run(one.target, one.plan)
    else
      local handle = ambient.handle(one.target)
      if not groups[handle] then
        groups[handle] = {}
        order[#order + 1] = handle
      end
      table.insert(groups[handle], one)
    end
  end
  for _, handle in ipairs(order) do
    together(handle, groups[handle])
  end
end

return run_all
