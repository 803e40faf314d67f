--- The one way from Lua to a server: every operation is a plan, and every plan is run here.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local events = require "lumo.events"
local runtime = require "lumo.runtime"

--- Runs a plan in a transaction. The server ends a transaction when it refuses one of its commands: the first
--- such error stays with it, for commands that come after it and for the commit.
---@return boolean done
local function run_inside(trx, handle, plan)
  if trx.failure ~= nil then error(trx.failure, 0) end
  local ok, result = pcall(runtime.run, handle, plan, trx.session)
  if ok then return result end
  if core.is_error(result) and (result.server_code or result.code == "E_NETWORK" or result.code == "E_TIMEOUT") then
    trx.failure = result
  end
  return error(result, 0) --[[@as any]]
end

---@return boolean done
local function send(client, plan)
  local trx, handle = ambient.transaction(client), ambient.handle(client)
  if trx then return run_inside(trx, handle, plan) end
  ambient.give_policy(client, plan)
  return runtime.run(handle, plan)
end

--- Runs a plan and waits for it. Raises the plan's error.
---@param client lumo.Client the connection, transaction or explicit outside that it runs on
---@param plan userdata
---@return boolean done false when a streaming plan has paused with a batch
local function run(client, plan)
  if not events.is_watching then return send(client, plan) end
  local watch = events.before(plan)
  local ok, result = pcall(send, client, plan)
  events.after(client, plan, watch, not ok and result or nil)
  if not ok then error(result, 0) end
  return result
end

return run
