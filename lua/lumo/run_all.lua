--- Plans that do not need each other: at once where waiting for one does not keep this thread from another, else
--- one after the other. In a transaction, too, they take turns.
local ambient = require "lumo.ambient"
local events = require "lumo.events"
local run = require "lumo.run"
local runtime = require "lumo.runtime"

--- Runs them all. Raises the first error of any.
---@param list { target: lumo.Client, plan: userdata }[]
local function run_all(list)
  local together, order = {}, {}
  local parallel = #list > 1 and not events.is_watching and runtime.is_parallel()
  for _, one in ipairs(list) do
    if not parallel or ambient.transaction(one.target) then
      run(one.target, one.plan)
    else
      local handle = ambient.handle(one.target)
      ambient.give_policy(one.target, one.plan)
      if not together[handle] then
        together[handle] = {}
        order[#order + 1] = handle
      end
      table.insert(together[handle], one.plan)
    end
  end
  for _, handle in ipairs(order) do
    runtime.run_all(handle, together[handle])
  end
end

return run_all
