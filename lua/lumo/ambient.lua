--- What a plan runs on: a connection (in whose ambient transaction, if the coroutine has one), a transaction,
--- or a connection on
--- purpose outside of any.
local core = require "lumo.core"
local errors = require "lumo.errors"
local raise = errors.raise

local ambient = {}

---@alias lumo.ClientView { connection: lumo.Connection, is_outside: true?, policy: table? }
---@alias lumo.Client lumo.Connection|lumo.Transaction|lumo.ClientView

-- For each coroutine, the open transaction of each connection; who runs in one holds it.
local open_of = setmetatable({}, { __mode = "k" })
local BY_HOLDERS = { __mode = "v" }
-- How many calls of ambient.run have not ended: mostly none, and then nobody asks for coroutines. One that was killed
-- is counted for ever, which costs the others only that question.
local running = 0

-- nginx kills the coroutine of a request that ends, in the middle of a transaction too, and uses it again.
local reuses_coroutines = type(rawget(_G, "ngx")) == "table"
local MAIN = {}

local function this_coroutine()
  return coroutine.running() or MAIN
end

--- A connection outside of the ambient transaction.
---@param connection lumo.Connection
---@return lumo.Client
function ambient.outside(connection)
  return { connection = connection, is_outside = true }
end

--- Whether a value stands for a connection in a certain way: outside of the ambient transaction, or with a policy.
function ambient.is_view(value)
  return type(value) == "table" and (rawget(value, "is_outside") or rawget(value, "policy")) and true or false
end

--- The connection of a client.
---@param client lumo.Client
---@return lumo.Connection
function ambient.connection(client)
  return client.connection or client --[[@as lumo.Connection]]
end

--- What a client's plans are handed to. Raises E_UNDEFINED_CONNECTION for a connection that was closed.
---@param client lumo.Client
---@return userdata
function ambient.handle(client)
  local connection = client.connection or client --[[@as lumo.Connection]]
  return connection.handle
    or raise("E_UNDEFINED_CONNECTION", "the connection \"%s\" is closed",
      connection.name or connection.database)
end

--- Whether a function is being called in this coroutine, by the caller's caller or further up.
---@param fn function
---@return boolean
function ambient.is_called(fn)
  local level = 4
  local info = debug.getinfo(level, "f")
  while info and info.func ~= fn do
    level = level + 1
    info = debug.getinfo(level, "f")
  end
  return info ~= nil
end

--- The open transactions of this coroutine by connection, or nil.
local function open_here(key)
  local open = open_of[key]
  if open and reuses_coroutines and not ambient.is_called(ambient.run) then
    open_of[key] = nil
    return nil
  end
  return open
end

--- The open transactions of this coroutine by connection, false for what follows the end of one, or nil.
function ambient.open()
  return open_here(this_coroutine())
end

--- The transaction in which a client's plans run, or nil. Raises E_ARGUMENT for one that is over: what follows in
--- its function would else be sent without it, unnoticed.
---@param client lumo.Client
---@return lumo.Transaction|nil
function ambient.transaction(client)
  if client.is_transaction then
    if not client.session then raise("E_ARGUMENT", "the transaction has ended") end
    return client --[[@as lumo.Transaction]]
  end
  if running == 0 or client.is_outside then return nil end
  local open = open_here(this_coroutine())
  local trx = open and open[ambient.connection(client)] or nil
  if trx and not trx.session then
    raise("E_ARGUMENT", "the transaction around this has ended; { client = connection } runs outside of it on purpose")
  end
  return trx
end

--- The client with a policy for its commands; a transaction has its own. Raises E_ARGUMENT in one.
---@param client lumo.Client
---@param policy table|nil of lumo.policy
---@return lumo.Client
function ambient.with_policy(client, policy)
  if not policy then return client end
  if ambient.transaction(client) then
    raise("E_ARGUMENT", "read preference, read concern and write concern are a transaction's, not of what runs in it")
  end
  return { connection = ambient.connection(client), is_outside = client.is_outside, policy = policy }
end

--- Makes a plan go by its client's policy, if that has one.
---@param client lumo.Client
---@param plan userdata
function ambient.give_policy(client, plan)
  local policy = client.policy
  if policy then core.plan_policy(plan, policy.handle) end
end

--- Ends what ambient.run began, then packs what pcall gave: packing may find no memory.
local function leave(key, connection, before, ...)
  running = running - 1
  local open = open_of[key]
  open[connection] = before
  if next(open) == nil then open_of[key] = nil end
  return { n = select("#", ...), ... }
end

--- Runs fn with the transaction ambient in this coroutine; gives what pcall gives, packed.
---@param trx lumo.Transaction
---@param fn function
---@return { n: integer }
function ambient.run(trx, fn)
  local key = this_coroutine()
  local open = open_here(key) or setmetatable({}, BY_HOLDERS)
  open_of[key] = open
  local before = open[trx.connection]
  open[trx.connection] = trx
  running = running + 1
  return leave(key, trx.connection, before, pcall(fn, trx))
end

--- Calls fn(trx, …) with the transaction, which has ended, not ambient here: what follows its end is no part of it. Its
--- place is kept, so that giving it back takes no memory.
---@param trx lumo.Transaction
---@param fn function
---@param ... any
function ambient.without(trx, fn, ...)
  local key, connection = this_coroutine(), trx.connection
  local open = open_here(key)
  if not open or open[connection] ~= trx then return fn(trx, ...) end
  open[connection] = false
  local ok, err = pcall(fn, trx, ...)
  open[connection] = trx
  if not ok then error(err, 0) end
end

return ambient
