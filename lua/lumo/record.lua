--- Records: the methods that wait, and the properties that Lua computes. Attributes are read and written in
--- C.
local core = require "lumo.core"
local events = require "lumo.events"
local accessors = require "lumo.accessors"
local errors = require "lumo.errors"
local ambient = require "lumo.ambient"
local connections = require "lumo.connection"
local hooks = require "lumo.hooks"
local names = require "lumo.names"
local policies = require "lumo.policy"
local registry = require "lumo.registry"
local run = require "lumo.run"
local runtime = require "lumo.runtime"
local transactions = require "lumo.transaction"
local validation = require "lumo.validation"
local raise = errors.raise
local not_called_on = errors.not_called_on

local record = {}

---@class (partial) lumo.Record
---@field [string] any attributes, relations, and the methods of its model
---@field is_persisted boolean it is stored
---@field is_new boolean it is not stored yet
---@field is_local boolean it was made here, not read
---@field is_deleted boolean
---@field is_dirty boolean something has changed since it was read or saved
---@field dirty table<string, any> what has, by attribute
---@field original table<string, any> the attributes as they were read or saved
---@field attributes table<string, any>
---@field extras table<string, any> what came beside the columns: counts, pivot data, and what is put there
---@field pivot table<string, any>|lumo.Record|nil the pair by which it was read
---@field preloaded table<string, any> relations that are loaded
---@field model lumo.Model
---@field trx lumo.Transaction|nil the transaction it was read or saved in, until that ends
---@field primary_key_value any
local Record = {}

--- What is searched for and what comes with it, as the values of one new record.
function record.joined(search, extra)
  if type(search) ~= "table" or extra ~= nil and type(extra) ~= "table" then
    raise("E_ARGUMENT", "what is searched for and what a new record has are tables of attributes")
  end
  local values = {}
  for name, value in pairs(search) do values[name] = value end
  for name, value in pairs(extra or {}) do values[name] = value end
  return values
end

--- The state of a record's model.
local function state_of(self, method)
  local state = core.record_is(self)
  return state
    or not_called_on(method, "a record")
end

--- The open transaction that a record belongs to, or nil.
local function trx_of(self)
  local side = core.record_side(self)
  local trx = side and side.trx
  return trx and trx.session and trx or nil
end

--- What a record's commands run on: its transaction, else the connection that it came through, else its
--- model's.
---@return lumo.Client
function record.client(self, state)
  return trx_of(self) or connections.by_number(core.record_connection(self))
    or connections.of_model(state)
end

--- The client for what writes these records, too: where it is no transaction, the open one that one of them belongs
--- to.
---@param client lumo.Client
---@param list lumo.Record[]
---@return lumo.Client
function record.joint_client(client, list)
  for i = 1, ambient.transaction(client) and 0 or #list do
    local trx = trx_of(list[i])
    if trx and trx.connection == ambient.connection(client) then return trx end
  end
  return client
end

--- The records by what their commands run on, each group in the order of the list.
---@param list lumo.Record[]
---@return table<lumo.Client, lumo.Record[]> groups
---@return lumo.Client[] order
function record.by_client(list, state)
  local groups, order = {}, {}
  for _, one in ipairs(list) do
    local client = record.client(one, state)
    if not groups[client] then
      groups[client] = {}
      order[#order + 1] = client
    end
    table.insert(groups[client], one)
  end
  return groups, order
end

--- Raises E_ARGUMENT for what is not a record or a list of records of one model.
---@param method string of lumo
---@return lumo.State|nil of the records, nil when there are none
function record.check_list(list, method)
  local first = core.record_is(list)
  if first then return first end
  if type(list) ~= "table" then
    raise("E_ARGUMENT", "lumo.%s needs a list of records, got %s", method, type(list))
  end
  if not core.list_size(list) then raise("E_ARGUMENT", "lumo.%s needs a list of records without holes", method) end
  for i = 1, #list do
    local state = core.record_is(list[i])
    first = first or state
    if not state or state ~= first then
      raise("E_ARGUMENT", "lumo.%s needs records of one model, entry %d is not one", method, i)
    end
  end
  return first --[[@as lumo.State]]
end

--- What records that are read now have in common: the transaction that they belong to, and what else is
--- given.
---@param client lumo.Client
---@param companion table|nil
---@return table|nil
function record.companion(client, companion)
  local relation = companion and companion.relation
  if relation and relation.is_direct then companion.relation = nil end -- it brings nothing along
  local trx, batch = ambient.transaction(client), events.batch()
  if not trx and not batch then return companion end
  companion = companion or {}
  companion.trx, companion.batch = trx, batch
  return companion
end

--- Before a write changes records: an open transaction keeps their states.
function record.remember(list, client)
  local trx = ambient.transaction(client)
  if not trx then return end
  for _, one in ipairs(list) do
    trx:remember(one)
    core.record_side(one, true).trx = trx
  end
end

local function refuse_deleted(self, state, verb)
  if self.is_deleted then
    core.raise("E_MODEL_DELETED", ("a deleted \"%s\" record cannot be %s"):format(state.name, verb),
      { model = state.name })
  end
end

local function gone(state, verb, outcome)
  core.raise("E_ROW_NOT_FOUND", ("the \"%s\" document to %s is gone"):format(state.name, verb),
    { model = state.name, op = verb, outcome = outcome or (verb ~= "refresh" and "not_applied" or nil) })
end

--- Raises E_ROW_NOT_FOUND for a record whose document is no longer there.
record.raise_gone = gone

--- The state of a record's model, if the record can be changed in the database.
---@param method string for the message
---@return lumo.State
function record.check_stored(self, method)
  local state = state_of(self, method)
  refuse_deleted(self, state, "changed")
  if self.is_new then
    raise("E_ARGUMENT", "%s: a \"%s\" record that was never saved has no document to change", method, state.name)
  end
  return state
end

--- Runs fn in the client's transaction, or in one of its own where none is open and the deployment has them:
--- for what is more than one write, and for writes whose after-hooks may still refuse them. fn gets what it
--- runs on.
function record.in_transaction(client, fn)
  local open = ambient.transaction(client)
  if open then return fn(open) end
  local connection = ambient.connection(client)
  if not runtime.server(ambient.handle(connection)).capabilities.transactions then return fn(client) end
  return transactions.transaction(fn, { client = ambient.is_view(client) and client or connection })
end

---@class lumo.Step a write of records of one model, with what its hooks need
---@field list lumo.Record[]
---@field state lumo.State
---@field events string[] whose hooks run, in the order of the way in, which is also that of the way out
---@field stays boolean|nil it was written, and no transaction can take it back
---@field check (fun())|nil raises E_VALIDATION where the rules of columns are broken
---@field write fun(client: lumo.Client): boolean? sent: whether it has written anything

local function may_have_hooks(steps)
  for i = 1, #steps do
    if hooks.has(steps[i].state) then return true end
  end
  return false
end

local function any_hook(steps, when)
  for _, step in ipairs(steps) do
    for _, event in ipairs(step.events) do
      if #step.list > 0 and hooks.any(step.state, when, event) then return true end
    end
  end
  return false
end

local function run_hooks(steps, when)
  for _, step in ipairs(steps) do
    for _, event in ipairs(step.events) do
      for _, one in ipairs(step.list) do hooks.run(step.state, when, event, one) end
    end
  end
end

--- One write after the other, once the rules of all are kept. Without a transaction around them those that came
--- before a failure stay.
local function write_all(steps, client)
  for _, step in ipairs(steps) do
    if step.check then step.check() end
  end
  if #steps == 1 then return steps[1].write(client) end
  local wrote, stays = false, not ambient.transaction(client)
  for _, step in ipairs(steps) do
    local ok, sent = pcall(step.write, client)
    if not ok then
      local apart = wrote and stays
      if apart and core.is_error(sent) and sent.outcome ~= "unknown" then sent.outcome = "applied" end
      error(sent, 0)
    end
    step.stays = stays
    wrote = sent or wrote
  end
end

--- The writes and their after-hooks: all or nothing. A transaction that goes on around it cannot be committed
--- once
--- such a hook has refused what it wrote.
local function write_and_tell(steps, client, apart)
  if not any_hook(steps, "after") then return write_all(steps, client) end
  local function both(inner)
    write_all(steps, inner)
    local ok, err = pcall(run_hooks, steps, "after")
    if ok then return end
    if rawget(inner, "is_transaction") and inner.failure == nil then inner.failure = err end
    error(err, 0)
  end
  if apart then return both(client) end
  record.in_transaction(client, both)
end

--- The states of the records of steps, for take_back.
---@param steps lumo.Step[]
---@return table<lumo.Record, any>
function record.snapshots(steps)
  local before = {}
  for _, step in ipairs(steps) do
    for _, one in ipairs(step.list) do before[one] = before[one] or core.record_snapshot(one) end
  end
  return before
end

--- Gives records the states that they had before steps that failed with this error, unless it may have been none.
function record.take_back(before, steps, err)
  local known = core.is_error(err)
  if known and err.outcome == "unknown" then return end
  for _, step in ipairs(known and err.outcome == "applied" and steps or {}) do
    for _, one in ipairs(step.stays and step.list or {}) do before[one] = nil end -- what is stored stays stored
  end
  for one, snapshot in pairs(before) do core.record_restore(one, snapshot) end
end

--- The frame of every write of records: the before-hooks of all steps, the writes, the after-hooks of all. A
--- failure gives the records the states that they had before the first hook, unless it may have been none.
---@param steps lumo.Step[]
---@param client lumo.Client
---@param apart boolean|nil no transaction is opened for after-hooks
function record.write(steps, client, apart)
  if not may_have_hooks(steps) or not (any_hook(steps, "before") or any_hook(steps, "after")) then
    return write_all(steps, client)
  end
  local before = record.snapshots(steps)
  for _, step in ipairs(steps) do record.remember(step.list, client) end
  local ok, err = pcall(function()
    run_hooks(steps, "before")
    write_and_tell(steps, client, apart)
  end)
  if not ok then
    record.take_back(before, steps, err)
    error(err, 0)
  end
end

--- Runs a write; a unique index that refuses it speaks of stored names, to which the error adds the attribute's.
local function run_write(client, plan, state)
  local ok, err = pcall(run, client, plan)
  if ok then return end
  if core.is_error(err) and err.code == "E_DUPLICATE_KEY" then
    local column = err.key and state.by_stored[err.key]
    err.model, err.attribute = state.name, column and column.name or nil
  end
  error(err, 0)
end

--- Of an insert that may have been applied the records keep the keys that they were given.
local function keep_keys(list, pending, err)
  if not core.is_error(err) or err.outcome ~= "unknown" then return end
  for i, one in ipairs(list) do
    core.record_keep_key(one, pending[i])
  end
end

local function insert(list, state, client, atomic)
  local plan, pending = core.insert_plan(list, core.now(), atomic)
  local ok, err = pcall(run_write, client, plan, state)
  if not ok then
    keep_keys(list, pending, err)
    error(err, 0)
  end
  record.remember(list, client)
  core.records_stored(list, pending, ambient.connection(client).number)
end

--- An update of positions in an array has matched nothing: raises, if the document is there, that the array
--- is not what it was.
local function refuse_moved(self, state, client, attribute)
  local plan = core.reload_plan(self)
  run(client, plan)
  if core.plan_size(plan) == 0 then return end
  core.raise("E_WRITE", ("the array in \"%s.%s\" is no longer what was read, so its elements cannot be told apart; "
    .. "refresh the record and change it again, or assign the attribute whole"):format(state.name, attribute),
    { model = state.name, attribute = attribute, op = "save", outcome = "not_applied" })
end

local function gone_outcome(client, matched)
  return matched > 0 and not ambient.transaction(client) and "applied" or "not_applied"
end

--- Sends updates of stored records with one command, and takes over what they have stored.
---@param updates { record: lumo.Record, plan: userdata, pending: userdata, guarded: string?, forced: true? }[]
local function send_updates(updates, state, client)
  local first, list = updates[1], {}
  local plan = first.plan
  if updates[2] then
    local plans = {}
    for i, one in ipairs(updates) do plans[i] = one.plan end
    plan = core.plan_joined(plans, true)
  end
  run_write(client, plan, state)
  local matched = core.plan_written(plan, "nMatched")
  if matched < #updates then
    if first.guarded then refuse_moved(first.record, state, client, first.guarded) end
    gone(state, "save", gone_outcome(client, matched))
  end
  core.plan_close(plan)
  for i = 1, #updates do list[i] = updates[i].record end
  record.remember(list, client)
  local number = ambient.connection(client).number
  for i = 1, #updates do
    local one = updates[i]
    core.record_stored(one.record, one.pending, number)
    if one.forced then core.record_side(one.record, true).force_update = nil end
  end
end

--- Sends what changed in stored records: with one command, but for those whose update holds for an array as it was
--- read, of which each has to say for itself that it was not.
local function update(list, state, client)
  local together, sent = {}, false
  for i = 1, #list do
    local one = list[i]
    local side = core.record_side(one)
    local forced = side and side.force_update
    local plan, pending, guarded = core.update_plan(one, core.now(), forced)
    local entry = plan and { record = one, plan = plan, pending = pending, guarded = guarded, forced = forced }
    if guarded then
      send_updates({ entry }, state, client)
      sent = true
    elseif entry then
      together[#together + 1] = entry
    end
  end
  if #together > 0 then send_updates(together, state, client) end
  return sent or #together > 0
end

local NO_EVENTS, INSERT_EVENTS, UPDATE_EVENTS = {}, { "create", "save" }, { "update", "save" }

--- The step that inserts new records with one command, in one transaction where `atomic` and there are any.
---@param list lumo.Record[]
---@param quiet boolean|nil without hooks
---@return lumo.Step
function record.insert_step(list, state, atomic, quiet)
  return {
    list = list, state = state, events = quiet and NO_EVENTS or INSERT_EVENTS,
    check = state.rules and function()
      for _, one in ipairs(list) do validation.check(one, state) end
    end,
    write = function(client)
      insert(list, state, client, atomic)
      return true
    end,
  }
end

--- The step that sends what changed in stored records.
---@return lumo.Step
function record.update_step(list, state, quiet)
  return {
    list = list, state = state, events = quiet and NO_EVENTS or UPDATE_EVENTS,
    check = state.rules and function()
      for _, one in ipairs(list) do validation.check(one, state, core.record_dirty(one)) end
    end,
    write = function(client) return update(list, state, client) end,
  }
end

--- Inserts new records.
function record.insert(list, state, client, atomic, quiet)
  record.write({ record.insert_step(list, state, atomic, quiet) }, client)
end

local WRITE_OPTIONS = { write_concern = true }

--- What a write of the record runs on, with the write concern of the call's options.
local function writing_client(self, state, options, method)
  if options == nil then return record.client(self, state) end
  return ambient.with_policy(record.client(self, state), policies.of(names.options(method, options, WRITE_OPTIONS)))
end

local function save(self, options, method, quiet)
  local state = state_of(self, method)
  refuse_deleted(self, state, "saved")
  local client = writing_client(self, state, options, method)
  local is_new = self.is_new
  if not state.rules and (quiet or not hooks.has(state)) then -- a step would do no more
    (is_new and insert or update)({ self }, state, client)
    return self
  end
  local step = is_new and record.insert_step({ self }, state, false, quiet)
    or record.update_step({ self }, state, quiet)
  record.write({ step }, client)
  return self
end

--- Stores the record: an insert when it is new, else one update with what changed, or nothing. Raises
--- E_ROW_NOT_FOUND when the
--- document is gone, E_MODEL_DELETED, E_VALIDATION, E_CAST, E_DUPLICATE_KEY. Commands: insert or update, or
--- none; with after-hooks a commit.
---@param options { write_concern: lumo.WriteConcern? }|nil
---@return lumo.Record self
function Record:save(options)
  return save(self, options, "save", false)
end

--- save without hooks.
---@param options { write_concern: lumo.WriteConcern? }|nil
---@return lumo.Record self
function Record:save_quietly(options)
  return save(self, options, "save_quietly", true)
end

--- Makes the record's commands run in this transaction, until it ends.
---@param trx lumo.Transaction
---@return lumo.Record self
function Record:use_transaction(trx)
  local state = state_of(self, "use_transaction")
  if type(trx) ~= "table" or not rawget(trx, "is_transaction") then
    raise("E_ARGUMENT", "use_transaction of a \"%s\" record needs a transaction, got %s",
      state.name, type(trx))
  end
  ambient.transaction(trx) -- raises if it is over
  local number = core.record_connection(self)
  if number ~= 0 and number ~= trx.connection.number then
    raise("E_ARGUMENT", "use_transaction of a \"%s\" record needs a transaction of the connection that it came through",
      state.name)
  end
  transactions.tell_touched(self)
  core.record_side(self, true).trx = trx
  return self
end

--- Makes the next save send an update (and move its automatic dates) even if nothing changed.
---@return lumo.Record self
function Record:enable_force_update()
  state_of(self, "enable_force_update")
  core.record_side(self, true).force_update = true
  return self
end

local function delete(self, options, method, quiet)
  local state = state_of(self, method)
  refuse_deleted(self, state, "deleted again")
  if self.is_new then
    raise("E_ARGUMENT", "a \"%s\" record that was never saved cannot be deleted", state.name)
  end
  local function remove(client) -- may be tried again: a plan is run once
    local plan = core.delete_plan(self)
    run(client, plan)
    if core.plan_written(plan, "nRemoved") == 0 then gone(state, "delete") end
    record.remember({ self }, client)
    core.record_deleted(self)
  end
  local step = { list = { self }, state = state, events = quiet and {} or { "delete" }, write = remove }
  local target, on_delete = writing_client(self, state, options, method), require "lumo.relations.on_delete"
  if #on_delete.relations(state) == 0 then return record.write({ step }, target) end
  record.in_transaction(target, function(client)
    local steps = on_delete.steps(self, client, quiet)
    steps[#steps + 1] = step
    record.write(steps, client)
  end)
end

--- Removes the document. Raises E_ROW_NOT_FOUND when it is gone already. Commands: delete; with after-hooks a
--- commit.
---@param options { write_concern: lumo.WriteConcern? }|nil
function Record:delete(options)
  delete(self, options, "delete", false)
end

--- delete without hooks, those of what on_delete of its relations takes along included.
---@param options { write_concern: lumo.WriteConcern? }|nil
function Record:delete_quietly(options)
  delete(self, options, "delete_quietly", true)
end

--- Reads the document again; changes that were not saved are dropped. Raises E_ROW_NOT_FOUND when it is gone.
--- Commands: find.
---@return lumo.Record self
function Record:refresh()
  local state = state_of(self, "refresh")
  refuse_deleted(self, state, "refreshed")
  if self.is_new then
    raise("E_ARGUMENT", "a \"%s\" record that was never saved cannot be refreshed", state.name)
  end
  local client, plan = record.client(self, state), core.reload_plan(self)
  run(client, plan)
  if core.plan_size(plan) == 0 then gone(state, "refresh") end
  record.remember({ self }, client)
  core.record_replace(self, plan)
  return self
end

--- The document as another record, this one left as it is; nil when it is gone. Commands: find.
---@return lumo.Record|nil
function Record:fresh()
  local state = state_of(self, "fresh")
  if self.is_new then return nil end
  local client, plan = record.client(self, state), core.reload_plan(self)
  run(client, plan)
  return core.plan_records(plan, state.class, ambient.connection(client).number, record.companion(client))[1]
end

--- Replaces all attributes but the primary key: those not given are removed. All or, if one is refused, none.
---@param values table<string, any>
---@return lumo.Record self
function Record:fill(values)
  state_of(self, "fill")
  return core.record_merge(self, values, true)
end

--- Changes the attributes given and no others. All or, if one is refused, none.
---@param values table<string, any>
---@return lumo.Record self
function Record:merge(values)
  state_of(self, "merge")
  return core.record_merge(self, values, false)
end

local GET_OPTIONS = { raw = true }

--- An attribute, or a field of the document that no column declares. With `raw` the stored value whatever its
--- type.
---@param name string
---@param options { raw: boolean? }|nil
---@return any
function Record:get(name, options)
  state_of(self, "get")
  return core.record_get(self, name, names.options("get", options, GET_OPTIONS).raw)
end

--- Assigns an attribute; nil removes the field, lumo.null stores null. Raises E_CAST, E_UNDEFINED_COLUMN.
---@param name string
---@param value any
---@return lumo.Record self
function Record:set(name, value)
  state_of(self, "set")
  core.record_set(self, name, value)
  return self
end

--- True if any of these attributes (or any at all) differs from what is stored.
---@param ... string
---@return boolean
function Record:has_changed(...)
  local state = state_of(self, "has_changed")
  local dirty = core.record_dirty(self)
  if select("#", ...) == 0 then return next(dirty) ~= nil end
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    if type(name) ~= "string" then raise("E_ARGUMENT", "has_changed needs names of columns, got %s",
      type(name)) end
    if state.strict ~= false and not state.by_attribute[name] then
      raise("E_UNDEFINED_COLUMN", "\"%s\" is not a column of the \"%s\" model%s",
        tostring(name), state.name, registry.suggest(tostring(name), state.by_attribute))
    end
    if dirty[name] ~= nil then return true end
  end
  return false
end

--- The names that serialize knows of a model: of its columns, or of its relations.
local function serialized_names(state, relations)
  local known = {}
  for _, column in ipairs(relations and {} or state.columns) do known[column.serialized or 0] = true end
  for _, relation in pairs(relations and state.relations or {}) do known[relation.serialize_as or 0] = true end
  return known
end

--- Names that nothing has would be left out in silence.
local function check_fields(state, ...)
  local known = serialized_names(state, false)
  for _, list in ipairs { ... } do
    if not core.list_size(list) then raise("E_ARGUMENT", "serialize takes names of fields as a list") end
    for _, name in ipairs(list) do
      if type(name) ~= "string" then raise("E_ARGUMENT", "serialize takes names of fields, got %s", type(name)) end
      if not known[name] and state.strict ~= false then
        raise("E_UNDEFINED_COLUMN", "\"%s\" is not what a column of the \"%s\" model is serialized as%s",
          name, state.name, registry.suggest(name, known))
      end
    end
  end
end

local function check_relations(state, relations)
  if relations == nil then return end
  if type(relations) ~= "table" then
    raise("E_ARGUMENT", "serialize takes relations as a table by name, got %s", type(relations))
  end
  local known = serialized_names(state, true)
  for name in pairs(relations) do
    if not known[name] then
      raise("E_UNDEFINED_RELATIONSHIP", "\"%s\" is not what a relationship of the \"%s\" model is serialized as",
        tostring(name), state.name)
    end
  end
end

--- Which of the names stand in a pick, a { pick =, omit = }, or nil (all).
local function picker(fields, state)
  if fields == nil then
    return function() return true end
  end
  local pick, omit = fields, {}
  if type(fields) ~= "table" then
    raise("E_ARGUMENT", "serialize takes fields as a list or { pick =, omit = }, got %s", type(fields))
  end
  if fields.pick or fields.omit then
    pick, omit = fields.pick, fields.omit or {}
  end
  if (pick ~= nil and type(pick) ~= "table") or type(omit) ~= "table" then
    raise("E_ARGUMENT", "serialize takes names to pick or omit as lists")
  end
  check_fields(state, pick or {}, omit)
  local picked, omitted = {}, {}
  for _, name in ipairs(pick or {}) do picked[name] = true end
  for _, name in ipairs(omit) do omitted[name] = true end
  return function(name) return (pick == nil or picked[name]) and not omitted[name] end
end

local SERIALIZE_OPTIONS = { fields = true, relations = true }

--- What `relations` of serialize says of one relation.
local function inner_options(options, key)
  local inner = options.relations and options.relations[key]
  return names.options(("serialize of \"%s\""):format(key), inner, SERIALIZE_OPTIONS)
end

--- The relations by the names that they have in JSON, with one more. Relations may share a name, but not in one record.
local function one_name(state, taken, key, name)
  taken = taken or {}
  if taken[key] then
    local first, second = taken[key], name
    if second < first then first, second = second, first end
    raise("E_ARGUMENT", "relations \"%s\" and \"%s\" of \"%s\" are both loaded, and serialized as \"%s\"",
      first, second, state.name, key)
  end
  taken[key] = name
  return taken
end

local function to_table(self, serialized, options)
  local state = core.record_is(self)
  check_relations(state, options.relations)
  local wanted = picker(options.fields, state)
  local result = {}
  for name, value in pairs(core.record_table(self, serialized)) do
    if wanted(name) then result[name] = value end
  end
  local side, taken = core.record_side(self), nil
  for name, list in pairs(side and side.preloaded or {}) do
    local relation = state.relations[name]
    local key = name
    if serialized then key = relation.serialize_as end
    if key then
      taken = serialized and one_name(state, taken, key, name)
      local inner = inner_options(options, key)
      result[key] = relation.is_one and to_table(list, serialized, inner)
        or record.list_to_table(list, serialized, inner)
    end
  end
  return result
end

--- A list of records as a list of tables.
function record.list_to_table(list, serialized, options)
  local result = {}
  for i, one in ipairs(list) do
    result[i] = to_table(one, serialized, options)
  end
  return core.array(result)
end

--- A table under serialized names, ready for a JSON encoder, loaded relations included.
---@param pick { fields: table?, relations: table<string, table>? }|nil fields: a list of names, or { pick =, omit = }
---@return table<string, any>
function Record:serialize(pick)
  state_of(self, "serialize")
  return to_table(self, true, names.options("serialize", pick, SERIALIZE_OPTIONS))
end

--- The same under attribute names, with hidden columns too.
---@return table<string, any>
function Record:to_table()
  state_of(self, "to_table")
  return to_table(self, false, {})
end

--- JSON text under serialized names, loaded relations included. Takes no options: for a part of it there is
--- serialize.
---@param ... nil nothing
---@return string
function Record:to_json(...)
  local state = state_of(self, "to_json")
  if select("#", ...) > 0 then raise("E_ARGUMENT", "to_json takes no options: serialize does") end
  local side = core.record_side(self)
  if not (side and side.preloaded) then return core.record_json(self) end
  local members, taken = {}, nil
  for name, list in pairs(side.preloaded) do
    local relation = state.relations[name]
    local key = relation.serialize_as
    if key then
      taken = one_name(state, taken, key, name)
      local json = relation.is_one and list:to_json() or record.list_to_json(list)
      members[#members + 1] = core.json_string(key) .. ":" .. json
    end
  end
  table.sort(members)
  return core.record_json(self, #members > 0 and table.concat(members, ",") or nil)
end

---@param list lumo.Record[]
---@return string
function record.list_to_json(list)
  local parts = {}
  for i, one in ipairs(list) do
    parts[i] = one:to_json()
  end
  return "[" .. table.concat(parts, ",") .. "]"
end

-- Properties ------------------------------------------------------------------------------------------------

--- The attributes of a pivot row (a table by stored names), by the names of the pivot's columns.
---@param relation lumo.AnyRelation
---@param row table<string, any>|nil
---@return table<string, any>
function record.pivot_attributes(relation, row)
  local fields = {}
  local columns = relation.pivot_state and relation.pivot_state.by_stored or {}
  for stored, value in pairs(row or {}) do
    if stored ~= "_id" and value ~= core.null then
      fields[relation:pivot_attribute(stored)] = accessors.consumed(columns[stored], value)
    end
  end
  return fields
end

--- What a relation read brought along.
local function pivot_fields(self)
  local side = core.record_side(self)
  local relation = side and side.relation
  return relation and record.pivot_attributes(relation, core.record_pivot(self)) or {}
end

local function add_extras(extras, attributes, prefix)
  for name, value in pairs(attributes) do extras[(prefix or "pivot_") .. name] = value end
  return extras
end

--- Gives a record what reading it through the relation would have brought along.
---@param one lumo.Record
---@param relation lumo.AnyRelation
---@param row lumo.Record|nil of the pivot model
---@param attributes table<string, any>
function record.set_pivot(one, relation, row, attributes)
  local extras = one.extras
  local side = core.record_side(one, true)
  side.relation, side.pivot = relation, row or attributes
  add_extras(extras, attributes)
end

local properties = {}

function properties.is_dirty(self)
  return next(core.record_dirty(self)) ~= nil
end

properties.dirty = core.record_dirty
properties.original = core.record_original
properties.attributes = core.record_attributes

function properties.extras(self)
  local side = core.record_side(self, true)
  if not side.extras then
    side.extras = add_extras({}, pivot_fields(self), side.relation and side.relation.extras_prefix)
  end
  return side.extras
end

function properties.pivot(self)
  local side = core.record_side(self)
  local relation = side and side.relation
  if not relation or relation.extras_prefix then return nil end
  side = core.record_side(self, true)
  if not side.pivot then
    local class = relation:pivot_class()
    side.pivot = class and core.record_pivot(self, class) or pivot_fields(self)
  end
  return side.pivot
end

function properties.preloaded(self)
  local side = core.record_side(self)
  if side and side.preloaded then return side.preloaded end
  return {}
end

function properties.model(self)
  return core.record_is(self).model
end

function properties.primary_key_value(self)
  return self[core.record_is(self).primary]
end

--- The transaction that the record belongs to: none outside one.
properties.trx = trx_of

-- What records answer to ------------------------------------------------------------------------------------

--- The names that every record has before its model's columns are added: numbers are properties in C, tables
--- computed ones.
---@return table<string, any>
function record.names()
  local all = {}
  for name, number in pairs(core.record_properties) do
    all[name] = number
  end
  for name, fn in pairs(properties) do
    all[name] = { fn }
  end
  for name, fn in pairs(Record) do
    all[name] = fn
  end
  return names.alias(all)
end

--- The methods of records, by name.
record.methods = Record

--- Other files add the methods that belong to them (load, related).
---@param name string
---@param fn function
function record.method(name, fn)
  Record[name] = fn
end

return record
