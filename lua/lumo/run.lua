--- The one way from Lua to a server: every operation is a plan, and every plan is run here.
local core = require "lumo.core"

--- Runs a plan on a connection and waits for it. Raises the plan's error.
---@param connection lumo.Connection
---@param plan userdata
---@return boolean done false when a streaming plan has paused with a batch
local function run(connection, plan)
  return core.run(connection.handle, plan)
end

return run
