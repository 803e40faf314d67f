--- The one way from Lua to a server: every operation is a plan, and every plan is run here.
local ambient = require "lumo.ambient"
local core = require "lumo.core"

--- Runs a plan and waits for it. Raises the plan's error.
---@param client lumo.Client the connection, transaction or explicit outside that it runs on
---@param plan userdata
---@return boolean done false when a streaming plan has paused with a batch
local function run(client, plan)
  local trx = ambient.transaction(client)
  return core.run(ambient.connection(client).handle, plan, trx and trx.session)
end

return run
