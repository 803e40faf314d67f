--- Creating and saving related records: parent, records and pairs are stored in one call, all or nothing.
local accessors = require "lumo.accessors"
local ambient = require "lumo.ambient"
local base = require "lumo.relations.base"
local core = require "lumo.core"
local operators = require "lumo.operators"
local pairs_of = require "lumo.relations.pairs"
local records = require "lumo.record"
local raise = require("lumo.errors").raise

local storing = {}

local function check_list(list, what, method)
  if type(list) ~= "table" then raise("E_ARGUMENT", "%s needs a list of %s, got %s", method, what, type(list)) end
  local count = 0
  for _ in pairs(list) do count = count + 1 end
  for i = 1, count do
    if type(list[i]) ~= "table" and not core.record_is(list[i]) then
      raise("E_ARGUMENT", "%s needs a list of %s without holes, entry %d is %s", method, what, i, type(list[i]))
    end
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

--- What is wrong with the attributes of pairs is said before anything is written. Gives the relation as bound.
local function check_pairs(relation, attributes, count, target, method)
  local handle = relation:boot():bound_handle(method, target)
  local ruled = relation.pivot_state and relation.pivot_state.rules
  for i = 1, count do
    core.check_pair(method, handle, accessors.prepared(relation.pivot_state, attributes[i]))
    if ruled then relation:check_attributes(pairs_of.attributes(handle, attributes[i]), false) end
  end
  return handle
end

--- The same of one pair, for a call that looks for something first.
---@param relation lumo.Relation
---@param attributes table|nil
---@param target lumo.Client
---@param method string
function storing.check_pair(relation, attributes, target, method)
  check_pairs(relation, { attributes }, 1, target, method)
end

--- Whether the key of the related side is one that inserting the records is going to make.
local function makes_key(relation, list)
  local state = relation.related_state
  if relation.related_key ~= state.primary or state.by_attribute[state.primary].type ~= "objectid" then return false end
  for _, one in ipairs(list) do
    if core.record_get(one, state.primary) ~= nil then return false end
  end
  return true
end

--- A key that nobody is going to make must be there before anything is written.
local function check_key(relation, one, state, key, method)
  if core.record_get(one, key) ~= nil then return end
  if one.is_new and key == state.primary and state.by_attribute[key].type == "objectid" then return end
  core.raise("E_MISSING_ATTRIBUTE_VALUE", ("Cannot %s \"%s\", value of \"%s.%s\" is nil")
    :format(method, relation.relation_name, state.name, key), { model = state.name, attribute = key })
end

---@class lumo.Making related records that are stored and attached in one call
---@field parent lumo.Record
---@field relation lumo.Relation
---@field method string
---@field list lumo.Record[]
---@field attributes table[] beside the list, with holes
---@field handle userdata|nil the relation as bound
---@field op string|nil how the pairs are attached where no key had to be made
---@field makes_keys boolean|nil
---@field quiet boolean|nil without hooks of the related model and of the pivot model

--- The step that comes before all others, once the parent is stored.
local function turn_step(making)
  local column = making.relation.definition.options.serial
  return column and { list = {}, state = making.relation.state, events = {}, write = function(client)
    operators.count_up(making.parent, column, client)
    return true
  end }
end

--- The step that inserts the new ones of the list.
local function insert_step(making, list)
  local relation = making.relation
  local state = relation.related_state
  local step = records.insert_step(list, state, #list > 1, making.quiet)
  local send = step.write
  function step.write(client)
    making.makes_keys = #list == #making.list and makes_key(relation, list)
    for _, one in ipairs(list) do check_key(relation, one, state, relation.related_key, making.method) end
    return send(client)
  end
  return step
end

local function attach_all(making, client)
  local relation, given = making.relation, {}
  for i, one in ipairs(making.list) do given[i] = { id = one, pivot_data = making.attributes[i] } end
  local op = making.makes_keys and "attach_made" or making.op
  local write = pairs_of.prepare(making.parent, relation, client, op, making.method, given, "pivot_list", making.handle,
    making.quiet)
  pairs_of.run(write, client)
  local number = ambient.connection(client).number
  for _, one in ipairs(making.list) do
    records.set_pivot(one, relation, pairs_of.row(write, one, number))
  end
end

--- Attaches a record that is stored.
---@param attributes table|nil
function storing.attach(parent, relation, target, method, one, attributes)
  attach_all({
    parent = parent, relation = relation, method = method, list = { one }, attributes = { attributes }, op = "attach",
  }, target)
end

--- Stores what has to be stored and attaches it: all before-hooks, all writes, all after-hooks, in the order parent,
--- related records, pairs.
local function store(making, client, steps)
  if #making.list > 0 then
    steps[#steps + 1] = { list = {}, state = making.relation.related_state, events = {}, write = function(inner)
      attach_all(making, inner)
    end }
  end
  pairs_of.write_records(making.relation, steps, client)
end

local function parent_step(parent, relation, method)
  check_key(relation, parent, relation.state, relation.local_key, method)
  if parent.is_new then return records.insert_step({ parent }, relation.state, false) end
  return records.update_step({ parent }, relation.state)
end

--- Makes related records of rows and attaches them.
---@param parent lumo.Record
---@param relation lumo.Relation
---@param target lumo.Client
---@param method string
---@param list table<string, any>[]
---@param attributes table[]|nil beside the rows
---@param quiet boolean|nil
---@return lumo.Record[]
function storing.create(parent, relation, target, method, list, attributes, quiet)
  check_list(list, "rows", method)
  attributes = check_attributes(attributes, #list, method)
  local handle = check_pairs(relation, attributes, #list, target, method)
  local class, number = relation.related_state.class, ambient.connection(target).number
  return pairs_of.together(relation, target, function(client)
    local steps, made = {}, {}
    for i = 1, #list do made[i] = core.record_new(class, list[i], number, core.now()) end
    local step = parent_step(parent, relation, method)
    if parent.is_new then steps[1] = step end
    local making = {
      parent = parent, relation = relation, method = method, list = made, attributes = attributes, handle = handle,
      op = "attach_each", quiet = quiet,
    }
    steps[#steps + 1] = turn_step(making)
    if #made > 0 then steps[#steps + 1] = insert_step(making, made) end
    store(making, client, steps)
    return made
  end)
end

local function check_savable(relation, list, target, method)
  local state = relation.related_state
  for i = 1, #list do
    local one = list[i]
    local found = core.record_is(one)
    if not found or found.name ~= state.name then
      raise("E_ARGUMENT", "%s needs records of \"%s\", entry %d is not one", method, state.name, i)
    end
    if one.is_deleted then
      raise("E_MODEL_DELETED", "%s \"%s\": entry %d is a deleted record", method, relation.relation_name, i)
    end
  end
  base.check_connections(relation, list, ambient.connection(target), method)
end

--- The records to save, each once: the new ones and the stored ones.
local function new_and_stored(parent, list)
  local new, stored, seen = {}, {}, { [parent] = true }
  for _, one in ipairs(list) do
    local into = one.is_new and new or stored
    if not seen[one] then into[#into + 1] = one end
    seen[one] = true
  end
  return new, stored
end

--- Saves the parent and related records, and attaches these.
---@param list lumo.Record[]
---@param attributes table[]|nil beside the records
---@param check_existing boolean|nil true when nil
---@param quiet boolean|nil
function storing.save(parent, relation, target, method, list, attributes, check_existing, quiet)
  if check_existing ~= nil and type(check_existing) ~= "boolean" then
    raise("E_ARGUMENT", "the third argument of %s is a boolean, got %s", method, type(check_existing))
  end
  check_list(list, "records", method)
  attributes = check_attributes(attributes, #list, method)
  local handle = check_pairs(relation, attributes, #list, target, method)
  check_savable(relation, list, target, method)
  pairs_of.together(relation, records.joint_client(target, list), function(client)
    local making = {
      parent = parent, relation = relation, method = method, list = list, attributes = attributes, handle = handle,
      op = relation.duplicates and check_existing ~= false and "sync_keeping" or "attach", quiet = quiet,
    }
    local new, stored = new_and_stored(parent, list)
    local steps, step = {}, parent_step(parent, relation, method)
    -- The hooks of a parent that is clean run too, as those of saving it do; but a quiet call lets it be.
    if not quiet or parent.is_new or parent.is_dirty then steps[1] = step end
    steps[#steps + 1] = turn_step(making)
    for _, one in ipairs(stored) do check_key(relation, one, relation.related_state, relation.related_key, method) end
    if #new > 0 then steps[#steps + 1] = insert_step(making, new) end
    if #stored > 0 then steps[#steps + 1] = records.update_step(stored, relation.related_state, quiet) end
    store(making, client, steps)
  end)
end

return storing
