--- Transactions: the function form, which is ambient in its coroutine and retried, and the manual form, which
--- is used where it is
--- passed.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local connections = require "lumo.connection"
local errors = require "lumo.errors"
local events = require "lumo.events"
local names = require "lumo.names"
local policies = require "lumo.policy"
local runtime = require "lumo.runtime"
local raise = errors.raise
local not_called_on = errors.not_called_on

local transaction = {}

local RETRY_SECONDS = 120 -- how long a transaction is tried again, as MongoDB's drivers do

---@class lumo.Transaction
---@field connection lumo.Connection
---@field is_active boolean
---@field is_transaction true
---@field is_committed boolean|nil
---@field session userdata|nil until it is over
---@field snapshots table<lumo.Record, any> the states of the records that it changes
---@field order lumo.Record[] those records
---@field touched table<lumo.Record, any>|nil the states of records that were changed while the function runs
---@field after_commit function[]
---@field after_rollback function[]
---@field failure any the first error that the server has ended it with
---@field told function|nil what tells listeners of its end
local Transaction = {}
local Transaction_mt = { __name = "lumo.transaction" }
local properties = {
  is_active = function(self) return rawget(self, "session") ~= nil end,
}
names.alias(properties)

function Transaction_mt.__index(self, key)
  local property = properties[key]
  if property then return property(self) end
  return Transaction[key]
end

function Transaction_mt.__tostring(self)
  return ("Transaction(%s)"):format(self.is_active and "open" or "over")
end

---@class lumo.ClientOptions: lumo.PolicyOptions
---@field client lumo.Client|nil
---@field connection lumo.Connection|string|nil

--- The options by which a call says what it runs on, and how.
transaction.CLIENT_OPTIONS = {
  client = true, connection = true, read_preference = true, read_concern = true, write_concern = true,
}

local function named_client(options, default)
  local client = options.client
  if client ~= nil then
    if type(client) == "table" and rawget(client, "is_transaction") or ambient.is_view(client) then return client end
    return ambient.outside(connections.resolve(client))
  end
  local given = options.connection or default
  return given and connections.resolve(given) or connections.get()
end

--- What the options of a call name: transaction.CLIENT_OPTIONS.
---@param options lumo.ClientOptions
---@param default lumo.Connection|string|nil
---@return lumo.Client
function transaction.client(options, default)
  return ambient.with_policy(named_client(options, default), policies.of(options))
end

-- The object ------------------------------------------------------------------------------------------------

local function check(self, method)
  if type(self) ~= "table" or not rawget(self, "is_transaction") then not_called_on(method, "a transaction") end
  return self
end

local function begin(connection, policy)
  return setmetatable({
    is_transaction = true, connection = connection,
    session = runtime.begin(ambient.handle(connection), policy and policy.handle),
    snapshots = {}, order = {}, after_commit = {}, after_rollback = {},
  }, Transaction_mt)
end

--- Keeps the state of a record that a write is about to change, for the case that the transaction fails.
---@param record lumo.Record
function Transaction:remember(record)
  check(self, "remember")
  if self.snapshots[record] then return end
  self.snapshots[record] = core.record_snapshot(record)
  self.order[#self.order + 1] = record
end

--- Before a record is changed: a function that runs again finds it as the first time. Of records that it has dropped
--- no state is kept, nor of those that were read in the transaction.
---@param record lumo.Record
function transaction.tell_touched(record)
  for _, trx in pairs(ambient.open() or {}) do
    local side, touched = core.record_side(record), trx and rawget(trx, "touched")
    if touched and not touched[record] and not trx.snapshots[record] and not (side and side.trx == trx) then
      touched[record] = core.record_snapshot(record)
    end
  end
end

core.on_record_touched(transaction.tell_touched)

local BY_RECORD = { __mode = "k" }

--- Before the function runs again: the records that it has changed have the states that they had when it began, but
--- those whose changes went to another connection.
local function rewind(self)
  for record, snapshot in pairs(self.touched) do
    local number = core.record_connection(record)
    if number == 0 or number == self.connection.number then core.record_restore(record, snapshot) end
  end
end

local function give_back(self)
  for i = #self.order, 1, -1 do
    core.record_restore(self.order[i], self.snapshots[self.order[i]])
  end
end

--- Runs what waits for this end, all of it and once, and forgets what waits for the other. Raises the first
--- error of any.
local function run_after(self, event)
  local list, first = self[event], nil
  self.after_commit, self.after_rollback = {}, {}
  for _, fn in ipairs(list) do
    local ok, err = pcall(fn)
    if not ok and not first then first = { err } end
  end
  if first then error(first[1], 0) end
end

--- Ends it: frees the session, gives the records their states back if it failed, and forgets what was kept.
local function finish(self, failed)
  core.session_free(self.session)
  self.session = nil
  if failed then give_back(self) end
  self.snapshots, self.order = {}, {}
end

--- Has the server end it, by runtime.commit or runtime.abort: what pcall gives.
local function end_session(self, how)
  local ended, told = events.ending(self)
  local ok, err = pcall(how, self.session)
  self.told = told
  if ended then ended(not ok and err or nil) end
  return ok, err
end

local function roll_back(self)
  end_session(self, runtime.abort) -- the server ends by itself a transaction that it cannot be told of
  finish(self, true)
end

local function tell_end(self, event)
  local told, ok, err = self.told, true, nil
  self.told = nil
  if told then ok, err = pcall(told) end
  if event then run_after(self, event) end
  if not ok then error(err, 0) end
end

--- After everything else of its end: who listens gets to know of it, and what waits for this end is run. Raises the
--- first error of any.
---@param event "after_commit"|"after_rollback"|false
local function conclude(self, event)
  ambient.without(self, tell_end, event)
end

--- Whether what failed may have been committed all the same: its answer was lost, or only its write concern
--- was not met.
local function may_be_applied(err)
  return core.is_error(err) and (err.outcome == "unknown" or err.outcome == "applied")
end

--- True, or false and the error; the transaction is over in any case.
local function commit(self)
  if self.failure ~= nil then
    roll_back(self)
    return false, self.failure
  end
  local ok, err = end_session(self, runtime.commit)
  finish(self, not ok and not may_be_applied(err))
  self.is_committed = ok
  return ok, err
end

--- Commits. What the function of its function form sends afterwards is E_ARGUMENT, but with { client = connection }.
--- Raises the commit's error, after which the transaction is over: rolled back, unless the error's
--- `outcome` is "unknown" or "applied"; then it is neither for `after`. Commands: commitTransaction.
function Transaction:commit()
  check(self, "commit")
  if not self.session then raise("E_ARGUMENT", "the transaction has ended") end
  local ok, err = commit(self)
  conclude(self, ok and "after_commit" or not may_be_applied(err) and "after_rollback")
  if not ok then error(err, 0) end
end

--- Rolls back; the records that were saved or deleted in it have their state of before again. Commands:
--- abortTransaction.
function Transaction:rollback()
  check(self, "rollback")
  if not self.session then raise("E_ARGUMENT", "the transaction has ended") end
  roll_back(self)
  conclude(self, "after_rollback")
end

--- Runs fn once when the transaction has been committed or rolled back, and outside of it. Raises E_ARGUMENT when it
--- is over already.
---@param event "commit"|"rollback"
---@param fn function
---@return lumo.Transaction self
function Transaction:after(event, fn)
  check(self, "after")
  if event ~= "commit" and event ~= "rollback" then
    raise("E_ARGUMENT", "after takes \"commit\" or \"rollback\", got %s", tostring(event))
  end
  if type(fn) ~= "function" then raise("E_ARGUMENT", "after takes a function, got %s", type(fn)) end
  if not self.session then raise("E_ARGUMENT", "the transaction has ended") end
  local list = event == "commit" and self.after_commit or self.after_rollback
  list[#list + 1] = fn
  return self
end

local function results_or_raise(results)
  if not results[1] then error(results[2], 0) end
  return (table.unpack or unpack)(results, 2, results.n)
end

--- Runs fn with this transaction ambient: the way in for another coroutine.
---@param fn fun(trx: lumo.Transaction): any
---@return any what fn gives
function Transaction:run(fn)
  check(self, "run")
  if type(fn) ~= "function" then raise("E_ARGUMENT", "run takes a function, got %s", type(fn)) end
  if not self.session then raise("E_ARGUMENT", "the transaction has ended") end
  return results_or_raise(ambient.run(self, fn))
end

names.alias(Transaction)
transaction.methods = Transaction

-- The two forms ---------------------------------------------------------------------------------------------

local function is_transient(err)
  for _, label in ipairs(core.is_error(err) and err.labels or {}) do
    if label == "TransientTransactionError" then return true end
  end
  return false
end

--- The same where there may be no memory, not even for a call as deep as its: the server's locks do not wait for the
--- collector.
local function roll_back_anyway(self)
  pcall(roll_back, self)
  if not self.session then return end
  core.session_free(self.session)
  self.session = nil
  pcall(give_back, self)
end

--- One try of the function form: true and the results, or false and the error. The function may have ended the
--- transaction itself.
local function attempt(trx, fn)
  trx.touched = setmetatable({}, BY_RECORD)
  local watch = core.watch_records()
  local packed, results = pcall(ambient.run, trx, fn)
  core.unwatch_records(watch)
  if not packed then -- no memory for the results
    if trx.session then roll_back_anyway(trx) end
    error(results, 0)
  end
  if not trx.session then return results end
  if not results[1] then
    roll_back_anyway(trx)
    return results
  end
  local ok, err = commit(trx)
  return ok and results or { false, err, n = 2 }
end

local OPTIONS = {
  client = true, connection = true, read_concern = true, write_concern = true, max_commit_time_ms = true,
}

--- Runs fn in a transaction and commits, or rolls back and raises fn's error. Everything on that connection
--- in that coroutine belongs to it. Transient
--- errors run fn again, for 120 s at most. Inside another transaction of the connection it joins that one.
--- Raises E_UNSUPPORTED on a
--- standalone server. Without fn it gives a transaction that is used by passing it, and ended by commit or
--- rollback.
---@param fn (fun(trx: lumo.Transaction): any)|lumo.ClientOptions|nil
---@param options lumo.ClientOptions|nil without a read preference: it reads from the primary
---@param default lumo.Connection|string|nil
---@return any
function transaction.transaction(fn, options, default)
  if type(fn) == "table" and options == nil then
    fn, options = nil, fn
  end
  options = names.options("transaction", options, OPTIONS)
  if fn ~= nil and type(fn) ~= "function" then
    raise("E_ARGUMENT", "transaction needs a function, got %s", type(fn))
  end
  local client = transaction.client(options, default)
  local connection = ambient.connection(client)
  local policy = rawget(client, "policy")
  if not fn then return begin(connection, policy) end
  local outer = ambient.transaction(client)
  if outer then return results_or_raise(ambient.run(outer, fn)) end
  local deadline, pause = core.clock() + RETRY_SECONDS * 1000, 1
  while true do
    local trx = begin(connection, policy)
    local results = attempt(trx, fn)
    if results[1] then
      conclude(trx, "after_commit")
      return results_or_raise(results)
    end
    local over = trx.is_committed or not is_transient(results[2]) or core.clock() > deadline
    conclude(trx, over and not may_be_applied(results[2]) and "after_rollback")
    if over then error(results[2], 0) end
    rewind(trx)
    runtime.pause(math.random(pause)) -- others are at work on the same documents
    pause = math.min(pause * 2, 256)
  end
end

return transaction
