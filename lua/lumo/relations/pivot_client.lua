--- The client of a many-to-many relation: what `post.tags` and `post:related("tags")` answer to.
local accessors = require "lumo.accessors"
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local errors = require "lumo.errors"
local handle = require "lumo.relations.handle"
local operators = require "lumo.operators"
local pairs_of = require "lumo.relations.pairs"
local queries = require "lumo.query"
local reading = require "lumo.relations.reading"
local records = require "lumo.record"
local registry = require "lumo.registry"
local run = require "lumo.run"
local storing = require "lumo.relations.storing"
local raise = errors.raise

local client = {}

---@class lumo.PivotClient: lumo.ManyClient
local Client = {}

local open, refuse_deleted = handle.open, reading.refuse_deleted

-- Reading ---------------------------------------------------------------------------------------------------

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

local function check_argument(value, method, more)
  if registry.of(value) then raise("E_ARGUMENT", "%s takes ids or records, got a model", method) end
  if more > 0 then raise("E_ARGUMENT", "%s takes one argument more than the relation, got %d",
    method, more + 1) end
end

--- With `serial` every write of the relation first counts up a column of its owner, in one transaction with
--- the write: so the writes of one owner take turns.
local function in_turn(parent, relation, target, write)
  local column = relation.definition.options.serial
  if not column then return write(target) end
  return records.in_transaction(target, function(inner)
    operators.count_up(parent, column, inner)
    return write(inner)
  end)
end

--- With `check_related` ids that do not exist are refused.
local function check_related(write, target)
  local relation = write.relation
  if not relation.definition.options.check_related then return end
  local ids = core.pairs_ids(write.plan)
  if #ids == 0 then return end
  local related = relation.related_state
  local found = related.model:query { client = target }:where_in(relation.related_key, ids):count()
  if found < #ids then
    raise("E_ARGUMENT", "%s \"%s\": %d of %d ids do not exist in \"%s\"",
      write.method, relation.relation_name, #ids - found, #ids, related.name)
  end
end

local function write_pairs(self, op, method, value, form)
  local parent, relation, target = open(self, method)
  refuse_deleted(parent, relation, method)
  local write = pairs_of.prepare(parent, relation, target, op, method, value, form)
  return in_turn(parent, relation, target, function(inner)
    check_related(write, inner)
    return pairs_of.run(write, inner)
  end)
end

--- Makes sure that these pairs exist, with the attributes given; touches nothing else.
--- Commands: 1 for one id; at most 2 for more; with attributes at most 3, and a commit.
---@param ids any an id or record, a list of them, or a map from id to attributes
---@param ... any nothing more is taken
---@return lumo.Pairs
function Client:attach(ids, ...)
  check_argument(ids, "attach", select("#", ...))
  return write_pairs(self, "attach", "attach", ids, "ids_or_map")
end

--- The same from a list of { id =, pivot_data = }.
---@param list { id: any, pivot_data: table? }[]
---@param ... any nothing more is taken
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
---@param list { id: any, pivot_data: table }[]
---@param detach boolean|nil true when nil
---@return lumo.Pairs
function Client:sync_with_pivot_data(list, detach)
  return write_pairs(self, sync_op(detach, "sync_with_pivot_data"), "sync_with_pivot_data", list, "pivot_list")
end

--- Detaches those of the ids that are attached and attaches the others. Commands: at most 3, and a commit.
---@param ids any an id or record, or a list of them
---@param ... any nothing more is taken
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
  local all = select("#", ...) == 0
  if not all then check_argument((...), "detach", select("#", ...) - 1) end
  return in_turn(parent, relation, target, pairs_of.detach(parent, relation, target, "detach", all, (...)))
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
  return in_turn(parent, relation, target,
    pairs_of.update(parent, relation, target, "update_pivot_data", id, attributes))
end

-- Making related records ------------------------------------------------------------------------------------

local function create(self, method, list, attributes, quiet)
  local parent, relation, target = open(self, method)
  refuse_deleted(parent, relation, method)
  return storing.create(parent, relation, target, method, list, attributes, quiet)
end

local function save(self, method, list, attributes, check_existing, quiet)
  local parent, relation, target = open(self, method)
  refuse_deleted(parent, relation, method)
  storing.save(parent, relation, target, method, list, attributes, check_existing, quiet)
end

--- A new related record, stored and attached: both or neither. Commands: 2, and a commit.
---@param values table<string, any>|nil
---@param attributes table|nil of the pair
---@return lumo.Record
function Client:create(values, attributes)
  return create(self, "create", { values or {} }, { attributes })[1]
end

--- create without hooks of the related model and of the pivot model. Rules are checked all the same.
---@param values table<string, any>|nil
---@param attributes table|nil of the pair
---@return lumo.Record
function Client:create_quietly(values, attributes)
  return create(self, "create_quietly", { values or {} }, { attributes }, true)[1]
end

--- New related records, stored and attached: all or none. Commands: 2, and a commit.
---@param list table<string, any>[]
---@param attributes (table|nil)[]|nil beside the rows; holes mean none
---@return lumo.Record[]
function Client:create_many(list, attributes)
  return create(self, "create_many", list, attributes)
end

--- create_many without hooks of the related model and of the pivot model.
---@param list table<string, any>[]
---@param attributes (table|nil)[]|nil beside the rows; holes mean none
---@return lumo.Record[]
function Client:create_many_quietly(list, attributes)
  return create(self, "create_many_quietly", list, attributes, true)
end

--- Saves parent and record, then attaches it. With `check_existing = false` on a relation with duplicates a
--- row is always added.
--- Commands: at most 3, and a commit.
---@param one lumo.Record
---@param attributes table|nil of the pair
---@param check_existing boolean|nil true when nil
function Client:save(one, attributes, check_existing)
  if not core.record_is(one) then raise("E_ARGUMENT", "save needs a record, got %s", type(one)) end
  save(self, "save", { one }, { attributes }, check_existing)
end

--- save without hooks of the related model and of the pivot model; a parent that is new or changed is saved with its
--- own.
---@param one lumo.Record
---@param attributes table|nil of the pair
---@param check_existing boolean|nil true when nil
function Client:save_quietly(one, attributes, check_existing)
  if not core.record_is(one) then raise("E_ARGUMENT", "save_quietly needs a record, got %s", type(one)) end
  save(self, "save_quietly", { one }, { attributes }, check_existing, true)
end

--- save for a list of records. Commands: at most 6, and a commit.
---@param list lumo.Record[]
---@param attributes (table|nil)[]|nil beside the records; holes mean none
---@param check_existing boolean|nil true when nil
function Client:save_many(list, attributes, check_existing)
  save(self, "save_many", list, attributes, check_existing)
end

--- save_many without hooks of the related model and of the pivot model; the parent as with save_quietly.
---@param list lumo.Record[]
---@param attributes (table|nil)[]|nil beside the records; holes mean none
---@param check_existing boolean|nil true when nil
function Client:save_many_quietly(list, attributes, check_existing)
  save(self, "save_many_quietly", list, attributes, check_existing, true)
end

local function search_for(self, relation, search)
  return reading.Any.query(self):where(accessors.prepared(relation.related_state, search)):first()
end

--- Finds inside the relation, or creates. Refused by a unique index, the record is somebody else's: attached by now,
--- or to be attached. In a transaction the refused insert has ended it, so its error goes through.
local function find_or_create(self, search, values, attributes, method)
  if type(search) ~= "table" or next(search) == nil then
    raise("E_ARGUMENT", "%s needs a table of attributes to search for", method)
  end
  local parent, relation, target = open(self, method)
  core.record_check(relation.related_state.class, values or {})
  storing.check_pair(relation, attributes, target, method)
  local found = search_for(self, relation, search)
  if found then return found, false end
  local ok, result = pcall(create, self, method, { records.joined(search, values) }, { attributes })
  if ok then return result[1], true end
  local refused = core.is_error(result) and result.code == "E_DUPLICATE_KEY" and not ambient.transaction(target)
  found = refused and search_for(self, relation, search)
  if found then return found, false end
  found = refused and relation.related_state.model:query { client = target }
    :where(accessors.prepared(relation.related_state, search)):first()
  if not found then error(result, 0) end
  in_turn(parent, relation, target, function(inner)
    storing.attach(parent, relation, inner, method, found, attributes)
  end)
  return found, false
end

--- The first related record that matches, or a stored and attached new one of both tables. Where a unique index
--- refuses the new one, the record that has its place is attached. Commands: 2, and those of create.
---@param search table<string, any>
---@param extra table<string, any>|nil
---@param attributes table|nil of a new pair
---@return lumo.Record
function Client:first_or_create(search, extra, attributes)
  return (find_or_create(self, search, extra, attributes, "first_or_create"))
end

--- The same, with these values stored in it if it was there. Commands: 2, and an update or those of create.
---@param search table<string, any>
---@param values table<string, any>|nil
---@param attributes table|nil of a new pair
---@return lumo.Record
function Client:update_or_create(search, values, attributes)
  local found, made = find_or_create(self, search, values, attributes, "update_or_create")
  return made and found or found:merge(values or {}):save()
end

local methods = reading.class(reading.Many, Client)

--- The methods of a relation's handle.
---@return table<string, function>
function client.methods_of()
  return methods
end

return client
