--- The client of a many-to-many relation: what `post.tags` and `post:related("tags")` answer to.
local accessors = require "lumo.accessors"
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local errors = require "lumo.errors"
local names = require "lumo.names"
local operators = require "lumo.operators"
local queries = require "lumo.query"
local records = require "lumo.record"
local registry = require "lumo.registry"
local run = require "lumo.run"
local raise = errors.raise
local not_called_on = errors.not_called_on

local client = {}

---@class lumo.Client
local Client = {}

local STATE = {} -- key of the state in the metatable of a loaded list

--- The parent, the relation and what commands run on, behind a handle or a loaded list.
local function open(self, method)
  local state = core.handle_state(self)
  if not state and type(self) == "table" then
    local metatable = getmetatable(self)
    state = type(metatable) == "table" and metatable[STATE] or nil
  end
  if not state then
    not_called_on(method, "a relation")
  end
  return state.parent, state.relation, records.client(state.parent, state.relation.state)
end

-- Handles and lists -----------------------------------------------------------------------------------------

--- The relation's handle for one parent.
---@param parent lumo.Record
---@param relation lumo.Relation
function client.handle(parent, relation)
  return core.handle_new { parent = parent, relation = relation }
end

--- Makes a list of records the loaded value of the relation.
function client.set_list(parent, relation, list)
  setmetatable(list, {
    __index = Client, __name = "lumo.list", [STATE] = { parent = parent, relation = relation },
  })
  local side = core.record_side(parent, true)
  side.preloaded = side.preloaded or {}
  side.preloaded[relation.relation_name] = list
  return list
end

--- The relation's property of a record: the loaded list, else the handle.
function client.property(parent, relation)
  local side = core.record_side(parent)
  local list = side and side.preloaded and side.preloaded[relation.relation_name]
  return list or client.handle(parent, relation)
end

local function not_loaded(handle)
  local state = core.handle_state(handle)
  local name = state.relation.relation_name
  core.raise("E_NOT_LOADED",
    ("\"%s.%s\" is not loaded: call :load(\"%s\") on the record first, or :exec() for a list of its own")
      :format(state.relation.state.name, name, name), { model = state.relation.state.name, attribute = name })
end

core.handle_metatable {
  __index = function(handle, key)
    if type(key) == "string" then return Client[key] end
    return not_loaded(handle)
  end,
  __newindex = not_loaded,
  __len = not_loaded,
  __pairs = not_loaded,
  __ipairs = not_loaded,
  __call = not_loaded,
  __tostring = function(handle)
    local state = core.handle_state(handle)
    return ("%s.%s of %s"):format(state.relation.state.name, state.relation.relation_name, tostring(state.parent))
  end,
  __name = "lumo.handle",
  __metatable = false,
}

-- Reading ---------------------------------------------------------------------------------------------------

--- The related records, pivot data in `extras.pivot_*` and `record.pivot`. Loads nothing into the parent.
--- Commands: 2 (1 when there are none).
---@return lumo.Record[]
function Client:exec()
  local parent, relation, target = open(self, "exec")
  return relation:related_query("exec", parent, target):exec()
end

--- A builder over the related records of this parent.
---@return lumo.Query
function Client:query()
  local parent, relation, target = open(self, "query")
  return relation:related_query("query", parent, target)
end

--- A builder over the pivot documents of this parent.
---@return lumo.Query
function Client:pivot_query()
  local parent, relation, target = open(self, "pivot_query")
  local q = core.pivot_query(relation:bound_handle("pivot_query", target), parent)
  return queries.of_relation(q, relation:row_state(), nil, target, "is_pivot_only_query")
end

--- Whether the pair exists. Commands: 1.
---@param id any an id, or a saved record of the related model
---@return boolean
function Client:exists(id)
  local parent, relation, target = open(self, "exists")
  local plan = core.pivot_rows_plan("exists", relation:bound_handle("exists", target), parent, id)
  run(target, plan)
  return core.plan_size(plan) > 0
end

--- The ids of the pairs. Commands: 1.
---@return any[]
function Client:ids()
  local parent, relation, target = open(self, "ids")
  local plan = core.pivot_ids_plan(relation:bound_handle("ids", target), parent)
  run(target, plan)
  return core.plan_values(plan, relation.pivot_related_foreign_key)
end

--- The number of pairs, orphans included. Commands: 1.
---@return integer
function Client:count()
  local parent, relation, target = open(self, "count")
  local plan = core.pivot_count_plan(relation:bound_handle("count", target), parent)
  run(target, plan)
  return core.plan_count(plan)
end

--- The pivot attributes of a pair, without `_id` and keys, by the names and types of the pivot model's
--- columns; nil when it is not attached. Commands: 1.
---@param id any
---@return table|nil
function Client:pivot_data(id)
  local parent, relation, target = open(self, "pivot_data")
  local plan = core.pivot_rows_plan("pivot_data", relation:bound_handle("pivot_data", target), parent, id)
  run(target, plan)
  local row, state = core.pivot_row(plan, relation.handle), relation.pivot_state
  for name, value in pairs(state and row or {}) do -- an existing key may be assigned on the way
    row[name] = accessors.consumed(state.by_attribute[name], value)
  end
  return row
end

-- Writing ---------------------------------------------------------------------------------------------------

---@class lumo.Pairs each a list of ids
---@field attached any[]
---@field updated any[]
---@field unchanged any[]
---@field detached any[]

--- The attributes that a call gives, one table after the other.
local function each_attributes(value, form, fn)
  if type(value) ~= "table" then return fn({}) end
  for key, entry in pairs(value) do
    if form == "pivot_list" and type(entry) == "table" then
      fn(entry.pivot_data or entry.pivotData or {})
    elseif form ~= "pivot_list" and type(entry) == "table" and not core.record_is(key) then
      fn(entry)
    elseif form ~= "pivot_list" then
      fn({})
    end
  end
end

--- The rules of the pivot model hold for what is attached.
local function check_rules(relation, value, form)
  local pivot = relation.pivot_state
  if not pivot or not pivot.rules then return end
  each_attributes(value, form, function(attributes)
    if type(attributes) ~= "table" then return end
    relation:check_attributes(attributes, false)
  end)
end

local function check_argument(value, method, more)
  if registry.of(value) then raise("E_ARGUMENT", "%s takes ids or records, got a model", method) end
  if more > 0 then raise("E_ARGUMENT", "%s takes one argument more than the relation, got %d",
    method, more + 1) end
end

local function refuse_deleted(parent, relation, method)
  if parent.is_deleted then
    raise("E_MODEL_DELETED", "%s \"%s\" of a deleted \"%s\" record",
      method, relation.relation_name, relation.state.name)
  end
end

--- With `serial` every write of the relation first counts up a column of its owner, in one transaction with
--- the write: so the writes of one
--- owner take turns.
local function in_turn(parent, relation, target, write)
  local column = relation.definition.options.serial
  if not column then return write(target) end
  return records.in_transaction(target, function(inner)
    operators.count_up(parent, column, inner)
    return write(inner)
  end)
end

--- With `check_related` ids that do not exist are refused.
local function check_related(relation, plan, method, target)
  if not relation.definition.options.check_related then return end
  local ids = core.pairs_ids(plan)
  if #ids == 0 then return end
  local related = relation.related_state
  local found = related.model:query { client = target }:where_in(relation.related_key, ids):count()
  if found < #ids then
    raise("E_ARGUMENT", "%s \"%s\": %d of %d ids do not exist in \"%s\"",
      method, relation.relation_name, #ids - found, #ids,
      related.name)
  end
end

local function write_pairs(self, op, method, value, form)
  local parent, relation, target = open(self, method)
  refuse_deleted(parent, relation, method)
  check_rules(relation, value, form)
  value = accessors.prepared_pairs(relation.pivot_state, value, form)
  local plan = core.pairs_plan(op, method, relation:bound_handle(method, target), parent, value, form, core.now())
  in_turn(parent, relation, target, function(inner)
    check_related(relation, plan, method, inner)
    run(inner, plan)
  end)
  return core.plan_pairs(plan)
end

--- Makes sure that these pairs exist, with the attributes given; touches nothing else.
--- Commands: 1 for one id; at most 2 for more; with attributes at most 3, and a commit.
---@param ids any an id or record, a list of them, or a map from id to attributes
---@return lumo.Pairs
function Client:attach(ids, ...)
  check_argument(ids, "attach", select("#", ...))
  return write_pairs(self, "attach", "attach", ids, "ids_or_map")
end

--- The same from a list of { id =, pivot_data = }.
---@param list { id: any, pivot_data: table? }[]
---@return lumo.Pairs
function Client:attach_with_pivot_data(list, ...)
  check_argument(list, "attach_with_pivot_data", select("#", ...))
  return write_pairs(self, "attach", "attach_with_pivot_data", list, "pivot_list")
end

local function sync_op(detach, method)
  if detach ~= nil and type(detach) ~= "boolean" then
    raise("E_ARGUMENT", "the second argument of %s is a boolean, got %s", method, type(detach))
  end
  return detach == false and "sync_keeping" or "sync"
end

--- Makes the pairs be exactly these. Rows that stay keep their `_id`, their creation time and the attributes
--- that are not mentioned.
--- Commands: at most 4, and a commit.
---@param ids any as attach's; {} removes all
---@param detach boolean|nil false: nothing is removed
---@return lumo.Pairs
function Client:sync(ids, detach)
  check_argument(ids, "sync", 0)
  return write_pairs(self, sync_op(detach, "sync"), "sync", ids, "ids_or_map")
end

--- The same from a list of { id =, pivot_data = }.
---@return lumo.Pairs
function Client:sync_with_pivot_data(list, detach)
  return write_pairs(self, sync_op(detach, "sync_with_pivot_data"), "sync_with_pivot_data", list, "pivot_list")
end

--- Detaches those of the ids that are attached and attaches the others. Commands: at most 3, and a commit.
---@return lumo.Pairs
function Client:toggle(ids, ...)
  check_argument(ids, "toggle", select("#", ...))
  return write_pairs(self, "toggle", "toggle", ids, "ids")
end

--- Removes these pairs, or without an argument all of them; {} removes nothing. Commands: 1.
---@param ... any an id or record, or a list of them
---@return integer removed
function Client:detach(...)
  local parent, relation, target = open(self, "detach")
  local plan
  if select("#", ...) == 0 then
    plan = core.detach_all_plan(relation:bound_handle("detach", target), parent)
  else
    check_argument((...), "detach", select("#", ...) - 1)
    plan = core.detach_plan(relation:bound_handle("detach", target), parent, (...))
  end
  in_turn(parent, relation, target, function(inner) run(inner, plan) end)
  return core.plan_written(plan, "nRemoved")
end

-- Making related records ------------------------------------------------------------------------------------

--- Runs fn(client) in one transaction, unless the relation is not atomic.
local function together(relation, target, fn)
  if relation.definition.options.atomic == false then return fn(ambient.transaction(target) or target) end
  return records.in_transaction(target, fn)
end

--- Sets what reading the pair would have brought along.
local function set_extras(relation, parent, one, attributes)
  local extras = one.extras
  for name, value in pairs(attributes or {}) do
    extras["pivot_" .. name] = value
  end
  extras["pivot_" .. relation.pivot_foreign_key] = parent:get(relation.local_key)
  extras["pivot_" .. relation.pivot_related_foreign_key] = one:get(relation.related_key)
end

--- Attaches saved records with their attributes, which may have holes.
local function attach_records(relation, parent, list, attributes, target, method, check_existing)
  local pairs_list = {}
  for i, one in ipairs(list) do
    pairs_list[i] = { id = one, pivot_data = attributes[i] }
  end
  local op = (relation.duplicates and check_existing) and "sync_keeping" or "attach"
  pairs_list = accessors.prepared_pairs(relation.pivot_state, pairs_list, "pivot_list")
  local handle = relation:bound_handle(method, target)
  local plan = core.pairs_plan(op, method, handle, parent, pairs_list, "pivot_list", core.now())
  in_turn(parent, relation, target, function(inner) run(inner, plan) end)
  for i, one in ipairs(list) do
    set_extras(relation, parent, one, attributes[i])
  end
end

local function check_attributes(attributes, count, method)
  if attributes == nil then return {} end
  if type(attributes) ~= "table" then
    raise("E_ARGUMENT", "%s takes pivot attributes as a list beside the records, got %s",
      method, type(attributes))
  end
  for key in pairs(attributes) do
    if type(key) ~= "number" or key < 1 or key > count or key % 1 ~= 0 then
      raise("E_ARGUMENT", "%s takes one table of pivot attributes for each of %d records", method, count)
    end
  end
  return attributes
end

--- The rules of the pivot model hold before anything is written.
local function check_pair_rules(relation, attributes, count)
  local pivot = relation:boot().pivot_state
  if not pivot or not pivot.rules then return end
  for i = 1, count do
    relation:check_attributes(attributes[i] or {}, false)
  end
end

local function create_many(self, method, list, attributes)
  local parent, relation, target = open(self, method)
  if type(list) ~= "table" then raise("E_ARGUMENT", "%s needs a list of rows, got %s", method, type(list)) end
  attributes = check_attributes(attributes, #list, method)
  check_pair_rules(relation, attributes, #list)
  local related = relation.related_state.model
  return together(relation, target, function(inner)
    if parent.is_new then parent:save() end
    local made = related:create_many(list, { client = inner })
    if #made > 0 then attach_records(relation, parent, made, attributes, inner, method, false) end
    return made
  end)
end

--- A new related record, stored and attached: both or neither. Commands: 2, and a commit.
---@param values table<string, any>|nil
---@param attributes table|nil of the pair
---@return lumo.Record
function Client:create(values, attributes)
  return create_many(self, "create", { values or {} }, { attributes })[1]
end

--- New related records, stored and attached: all or none. Commands: 3, and a commit.
---@param list table<string, any>[]
---@param attributes table[]|nil beside the rows; holes mean none
---@return lumo.Record[]
function Client:create_many(list, attributes)
  return create_many(self, "create_many", list, attributes)
end

local function save_many(self, method, list, attributes, check_existing)
  local parent, relation, target = open(self, method)
  if check_existing ~= nil and type(check_existing) ~= "boolean" then
    raise("E_ARGUMENT", "the third argument of %s is a boolean, got %s", method, type(check_existing))
  end
  if type(list) ~= "table" then raise("E_ARGUMENT", "%s needs a list of records, got %s",
    method, type(list)) end
  for i = 1, #list do
    local state = core.record_is(list[i])
    if not state or state.name ~= relation.related_state.name then
      raise("E_ARGUMENT", "%s needs records of \"%s\", entry %d is not one",
        method, relation.related_state.name, i)
    end
  end
  attributes = check_attributes(attributes, #list, method)
  check_pair_rules(relation, attributes, #list)
  together(relation, target, function(inner)
    parent:save()
    for _, one in ipairs(list) do
      if rawget(inner, "is_transaction") then one:use_transaction(inner) end
      one:save()
    end
    if #list > 0 then attach_records(relation, parent, list, attributes, inner, method, check_existing ~= false) end
  end)
end

--- Saves parent and record, then attaches it. With `check_existing = false` on a relation with duplicates a
--- row is always added.
--- Commands: at most 3, and a commit.
---@param one lumo.Record
---@param attributes table|nil of the pair
---@param check_existing boolean|nil true when nil
function Client:save(one, attributes, check_existing)
  if not core.record_is(one) then raise("E_ARGUMENT", "save needs a record, got %s", type(one)) end
  save_many(self, "save", { one }, { attributes }, check_existing)
end

--- save for a list of records. Commands: one for each record that changes, at most 3 more, and a commit.
---@param list lumo.Record[]
---@param attributes table[]|nil beside the records; holes mean none
---@param check_existing boolean|nil true when nil
function Client:save_many(list, attributes, check_existing)
  save_many(self, "save_many", list, attributes, check_existing)
end

--- Merges attributes into the row of a pair. Commands: 1.
---@param id any
---@param attributes table
---@return boolean found false when it is not attached
function Client:update_pivot_data(id, attributes)
  local parent, relation, target = open(self, "update_pivot_data")
  if type(attributes) == "table" and relation.pivot_state and relation.pivot_state.rules then
    relation:check_attributes(attributes, true)
  end
  attributes = accessors.prepared(relation.pivot_state, attributes)
  local handle = relation:bound_handle("update_pivot_data", target)
  local plan = core.pivot_update_plan(handle, parent, id, attributes, core.now())
  in_turn(parent, relation, target, function(inner) run(inner, plan) end)
  return core.plan_written(plan, "nMatched") > 0
end

--- The related record of that primary key, if it is attached; else nil. Commands: as exec.
---@param id any
---@return lumo.Record|nil
function Client:find(id)
  local parent, relation, target = open(self, "find")
  if id == nil then raise("E_ARGUMENT", "find needs the value of the primary key, got nil") end
  return relation:related_query("find", parent, target):where(relation.related_state.primary, id):first()
end

--- The first related record that matches, or a stored and attached new one of both tables.
---@param search table<string, any>
---@param extra table<string, any>|nil
---@param attributes table|nil of a new pair
---@return lumo.Record
function Client:first_or_create(search, extra, attributes)
  return Client.query(self):where(search):first() or self:create(records.joined(search, extra), attributes)
end

--- The first related record that matches, with these values stored in it, or a stored and attached new one of
--- both tables.
---@return lumo.Record
function Client:update_or_create(search, values, attributes)
  local found = Client.query(self):where(search):first()
  if found then return found:merge(values or {}):save() end
  return self:create(records.joined(search, values), attributes)
end

--- A page of the related records.
function Client:paginate(page, per_page)
  return Client.query(self):paginate(page, per_page)
end

--- A builder over the related records that preloads a relation of theirs.
---@return lumo.Query
function Client:preload(path, callback)
  return Client.query(self):preload(path, callback)
end

names.alias(Client)

return client
