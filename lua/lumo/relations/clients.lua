--- The clients of relations without a pivot: what `author.posts` and `post:related("author")` answer to.
local accessors = require "lumo.accessors"
local ambient = require "lumo.ambient"
local base = require "lumo.relations.base"
local core = require "lumo.core"
local handle = require "lumo.relations.handle"
local matching = require "lumo.matching"
local reading = require "lumo.relations.reading"
local records = require "lumo.record"
local raise = require("lumo.errors").raise

local clients = {}
local open, refuse_deleted = handle.open, reading.refuse_deleted

-- Writing ---------------------------------------------------------------------------------------------------

--- Whether a record's key is one that inserting it is going to make.
local function makes_key(one, state, attribute)
  return one.is_new and attribute == state.primary and state.by_attribute[attribute].type == "objectid"
end

--- Raises E_MISSING_ATTRIBUTE_VALUE for an owner that has no key and gets none by being stored.
local function check_key(relation, owner, state, method)
  if core.record_get(owner, relation.local_key) ~= nil or makes_key(owner, state, relation.local_key) then return end
  core.raise("E_MISSING_ATTRIBUTE_VALUE", ("Cannot %s \"%s\", value of \"%s.%s\" is nil")
    :format(method, relation.relation_name, state.name, relation.local_key),
    { model = state.name, attribute = relation.local_key })
end

--- The step that stores a record: an insert of a new one, else an update with what changed.
local function store_step(one, state, quiet)
  return one.is_new and records.insert_step({ one }, state, false, quiet) or records.update_step({ one }, state, quiet)
end

--- Runs steps, in one transaction if there may be more than one write. A failure gives the records the states that
--- they had, unless it may have been none.
local function write(steps, client)
  local before = records.snapshots(steps)
  for _, step in ipairs(steps) do records.remember(step.list, client) end -- as they are without the key
  local ok, err = pcall(function()
    for _, step in ipairs(steps) do
      if step.set_key then step.set_key() end -- so that hooks see it
    end
    if #steps == 1 then return records.write(steps, client) end
    records.in_transaction(client, function(inner) records.write(steps, inner) end)
  end)
  if ok then return end
  records.take_back(before, steps, err)
  error(err, 0)
end

--- Makes a step set a key: before all hooks, and again before its rules are checked, as hooks may have changed it.
local function with_key(step, set)
  local check = step.check
  step.set_key = set
  function step.check()
    set()
    if check then check() end
  end
  return step
end

--- Sets the owner's key in the records of a step. An owner that is new is given the one that inserting it would make.
local function with_key_of(step, attribute, owner, owner_attribute)
  return with_key(step, function()
    local key = core.record_get(owner, owner_attribute)
    if key == nil then
      key = core.objectid()
      owner:set(owner_attribute, key)
    end
    for _, one in ipairs(step.list) do one:set(attribute, key) end
  end)
end

--- Stores the parent where that is needed, and the related records with its key: all or nothing.
local function store_related(parent, relation, target, steps, list)
  local all, is_own = {}, false
  for _, one in ipairs(list) do is_own = is_own or one == parent end
  if not is_own and (parent.is_new or parent.is_dirty) then all[1] = store_step(parent, relation.state) end
  for _, step in ipairs(steps) do
    all[#all + 1] = with_key_of(step, relation.foreign_key, parent, relation.local_key)
  end
  if #all > 0 then write(all, target) end
  return list
end

local function open_for_writing(self, method)
  local parent, relation, target = open(self, method)
  refuse_deleted(parent, relation, method)
  check_key(relation, parent, relation.state, method)
  return parent, relation, target
end

local function create_many(self, method, list, quiet)
  local parent, relation, target = open_for_writing(self, method)
  if type(list) ~= "table" then raise("E_ARGUMENT", "%s needs a list of rows, got %s", method, type(list)) end
  if not core.list_size(list) then raise("E_ARGUMENT", "%s needs a list of rows without holes", method) end
  local state, made, number = relation.related_state, {}, ambient.connection(target).number
  for i = 1, #list do made[i] = core.record_new(state.class, list[i], number, core.now()) end
  if #made == 0 then return made end
  return store_related(parent, relation, target, { records.insert_step(made, state, #made > 1, quiet) }, made)
end

local function save_many(self, method, list, quiet)
  local parent, relation, target = open_for_writing(self, method)
  base.check_records(relation, list, relation.related_state, method)
  base.check_connections(relation, list, ambient.connection(target), method)
  local steps, seen = {}, {}
  for _, one in ipairs(list) do
    if one.is_deleted then
      raise("E_MODEL_DELETED", "%s \"%s\" of a deleted \"%s\" record", method, relation.relation_name,
        relation.related_state.name)
    end
    if not seen[one] then steps[#steps + 1] = store_step(one, relation.related_state, quiet) end
    seen[one] = true
  end
  if #steps > 0 then store_related(parent, relation, records.joint_client(target, list), steps, list) end
end

-- Of what holds the parent's key ----------------------------------------------------------------------------

---@class lumo.OwnedClient: lumo.AnyClient
local Owned = {}

--- A new related record, stored with the parent's key; a parent that is new is saved first. All or nothing. Commands:
--- insert; with a parent to be saved one more, and a commit.
---@param values table<string, any>|nil
---@return lumo.Record
function Owned:create(values)
  return create_many(self, "create", { values or {} })[1]
end

--- create without hooks of the related model.
---@param values table<string, any>|nil
---@return lumo.Record
function Owned:create_quietly(values)
  return create_many(self, "create_quietly", { values or {} }, true)[1]
end

--- Saves the parent where that is needed, and the record with the parent's key: both or neither. Commands: as create.
---@param one lumo.Record
function Owned:save(one)
  if not core.record_is(one) then raise("E_ARGUMENT", "save needs a record, got %s", type(one)) end
  save_many(self, "save", { one })
end

--- save without hooks of the related model.
---@param one lumo.Record
function Owned:save_quietly(one)
  if not core.record_is(one) then raise("E_ARGUMENT", "save_quietly needs a record, got %s", type(one)) end
  save_many(self, "save_quietly", { one }, true)
end

--- The values without one that the relation itself gives.
local function without(values, name)
  local left = records.joined(values)
  left[name] = nil
  return left
end

local function search_for(self, relation, search)
  local q = reading.Any.query(self)
  search = without(search, relation.foreign_key)
  if next(search) ~= nil then q:where(accessors.prepared(relation.related_state, search)) end
  return q:first()
end

--- Finds inside the relation, or creates. Refused by a unique index, somebody else may have made it meanwhile.
local function find_or_create(self, search, values, method)
  local parent, relation, target = open_for_writing(self, method)
  if type(search) ~= "table" or not relation.is_one and next(search) == nil then
    raise("E_ARGUMENT", "%s needs a table of attributes to search for", method)
  end
  local row = records.joined(search, values)
  core.record_check(relation.related_state.class, values or {})
  local found = not parent.is_new and search_for(self, relation, search)
  if found then return found, false end
  local ok, result = pcall(create_many, self, method, { row })
  if ok then return result[1], true end
  local refused = core.is_error(result) and result.code == "E_DUPLICATE_KEY" and not ambient.transaction(target)
  found = refused and search_for(self, relation, search)
  if not found then error(result, 0) end
  return found, false
end

--- The first related record that matches, or a new one of both tables. Commands: find, and those of create.
---@param search table<string, any> of has_one it may be empty
---@param extra table<string, any>|nil
---@return lumo.Record
function Owned:first_or_create(search, extra)
  return (find_or_create(self, search, extra, "first_or_create"))
end

--- The same, with these values stored in it if it was there. Commands: find, and an update or those of create.
---@param search table<string, any> of has_one it may be empty
---@param values table<string, any>|nil
---@return lumo.Record
function Owned:update_or_create(search, values)
  local found, made = find_or_create(self, search, values, "update_or_create")
  if made then return found end
  local _, relation = open(self, "update_or_create")
  return found:merge(without(values or {}, relation.foreign_key)):save()
end

---@class lumo.OwnedManyClient: lumo.ManyClient, lumo.OwnedClient
local OwnedMany = {}

--- New related records, stored with the parent's key: all or none. Commands: as create.
---@param list table<string, any>[]
---@return lumo.Record[]
function OwnedMany:create_many(list)
  return create_many(self, "create_many", list)
end

--- create_many without hooks of the related model.
---@param list table<string, any>[]
---@return lumo.Record[]
function OwnedMany:create_many_quietly(list)
  return create_many(self, "create_many_quietly", list, true)
end

--- save for a list of records: all or none. Commands: one for each record, one for the parent, and a commit.
---@param list lumo.Record[]
function OwnedMany:save_many(list)
  save_many(self, "save_many", list)
end

--- save_many without hooks of the related model.
---@param list lumo.Record[]
function OwnedMany:save_many_quietly(list)
  save_many(self, "save_many_quietly", list, true)
end

--- Stores those of the rows that are missing inside the relation, and with `update` the others' values, too.
local function store_rows(self, method, keys, rows, update)
  local parent, relation, target = open_for_writing(self, method)
  if type(rows) ~= "table" then raise("E_ARGUMENT", "%s needs a list of rows, got %s", method, type(rows)) end
  keys = type(keys) == "table" and keys or { keys }
  if not core.list_size(rows) or (core.list_size(keys) or 0) == 0 then
    raise("E_ARGUMENT", "%s needs names of key columns, and a list of rows without holes", method)
  end
  for i = 1, #rows do
    if type(rows[i]) ~= "table" then
      raise("E_ARGUMENT", "%s needs a list of rows, entry %d is a %s", method, i, type(rows[i]))
    end
    core.record_check(relation.related_state.class, rows[i])
  end
  local all_keys, all_rows = { relation.foreign_key }, {}
  for _, key in ipairs(keys) do all_keys[#all_keys + 1] = key end
  local function call(client)
    -- A key that is made when the parent is stored belongs to nobody yet: as good as another one to search for.
    local own = { [relation.foreign_key] = core.record_get(parent, relation.local_key) or core.objectid() }
    for i = 1, #rows do all_rows[i] = records.joined(rows[i], own) end
    local steps, list = matching.steps(relation.related_state, all_keys, all_rows, client, method, update)
    return store_related(parent, relation, client, steps, list)
  end
  if not parent.is_new and not update then return call(target) end
  return records.in_transaction(target, call)
end

--- Of each row the related record with its values of these keys, or a new one, stored. A parent that is new or changed
--- is saved with them, once the rules of all are kept. Commands: find, and an insert.
---@param keys string|string[]
---@param rows table<string, any>[]
---@return lumo.Record[]
function OwnedMany:fetch_or_create_many(keys, rows)
  return store_rows(self, "fetch_or_create_many", keys, rows)
end

--- The same, with the values of the rows stored in those that were there. Commands: find, an insert, and an update of
--- each that differs.
---@param keys string|string[]
---@param rows table<string, any>[]
---@return lumo.Record[]
function OwnedMany:update_or_create_many(keys, rows)
  return store_rows(self, "update_or_create_many", keys, rows, true)
end

-- Of belongs_to ---------------------------------------------------------------------------------------------

---@class lumo.BelongingClient: lumo.AnyClient
local Belonging = {}

--- Makes the parent belong to this record, which is saved first: both are stored, or neither. Commands: an insert or
--- update of each that needs one; a commit if there are two.
---@param owner lumo.Record
function Belonging:associate(owner)
  local child, relation, target = open(self, "associate")
  refuse_deleted(child, relation, "associate")
  local found = core.record_is(owner)
  if not found then raise("E_ARGUMENT", "associate needs a record, got %s", type(owner)) end
  base.check_record(relation, owner, relation.related_state, "associate")
  if owner.is_deleted then
    raise("E_MODEL_DELETED", "associate \"%s\" with a deleted \"%s\" record", relation.relation_name, found.name)
  end
  base.check_connections(relation, { owner }, ambient.connection(target), "associate")
  check_key(relation, owner, relation.related_state, "associate")
  local steps = {}
  if owner ~= child and (owner.is_new or owner.is_dirty) then steps[1] = store_step(owner, relation.related_state) end
  local step = store_step(child, relation.state)
  steps[#steps + 1] = with_key_of(step, relation.foreign_key, owner, relation.local_key)
  write(steps, records.joint_client(target, { owner }))
end

--- Makes the parent belong to nobody, and saves it. Commands: update, or an insert of a new one.
function Belonging:dissociate()
  local child, relation, target = open(self, "dissociate")
  refuse_deleted(child, relation, "dissociate")
  write({ with_key(store_step(child, relation.state), function() child:set(relation.foreign_key, nil) end) }, target)
end

-- ---------------------------------------------------------------------------------------------------------

--- By the type of the relation.
clients.classes = {
  hasOne = reading.class(Owned),
  hasMany = reading.class(reading.Many, Owned, OwnedMany),
  belongsTo = reading.class(Belonging),
  hasManyThrough = reading.class(reading.Many),
}

--- The methods of a relation's handle.
---@param relation lumo.Relation
---@return table<string, function>
function clients.methods_of(relation)
  return clients.classes[relation.type]
end

return clients
