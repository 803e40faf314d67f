--- What all kinds of relation have in common: their definition, being bound to a model, booting on first use, and the
--- methods that do not depend on where the keys stand.
local core = require "lumo.core"
local doors = require "lumo.doors"
local errors = require "lumo.errors"
local key_text = require "lumo.key_text"
local names = require "lumo.names"
local naming = require "lumo.naming"
local registry = require "lumo.registry"
local transactions = require "lumo.transaction"
local raise = errors.raise

local base = {}

---@class (partial) lumo.Relation
---@field type "manyToMany"|"hasOne"|"hasMany"|"belongsTo"|"hasManyThrough"
---@field relation_name string the property of the parent's records
---@field serialize_as string|false its name in JSON; false hides it
---@field booted boolean
---@field model table the parent model
---@field on_query (fun(query: lumo.Query))|nil
---@field boot fun(self: lumo.Relation): lumo.AnyRelation resolves the models and keys, once
---@field definition table what it was made of
---@field state lumo.State the parent's
---@field related_state lumo.State
---@field is_one boolean the related value is a record, not a list
---@field is_optional boolean|nil a parent may have no key
---@field is_booted boolean
---@field parent_key string the attribute of the parent that is compared
---@field related_key string the attribute of the related model that is
---@field hops table[] the way from a parent to its related records
---@field handle userdata the compiled relation
---@field client_module string the module of its clients
---@field related_query lumo.related_query a builder over the related records

---@alias lumo.related_query
---| fun(self: any, method: string, parent: lumo.Record?, client: lumo.Client?, flag: string?): lumo.Query

--- A relation whose kind an editor cannot know: it may have the fields of each.
---@class lumo.AnyRelation: lumo.PivotRelation, lumo.DirectRelation, lumo.ThroughRelation

--- What lumo.has_many and its like give: a relation that no model has yet.
local Definition = { __name = "lumo.relation_definition" }

--- What can stand in a command as the name of a field: not what MongoDB would take for a path or an operator.
function base.is_name(name)
  return type(name) == "string" and name ~= "" and not name:find("[%.%z]") and not name:find("^%$")
end

--- Raises E_ARGUMENT unless the value may stand for a model.
function base.check_model(given, context, what)
  if type(given) ~= "string" and type(given) ~= "function" and not registry.of(given) then
    core.raise("E_ARGUMENT", ("%s needs %s: itself, its name, or a function that returns it"):format(context, what))
  end
  return given
end

--- The options that every relation has.
function base.check_options(options, context)
  if options.serialize_as ~= nil and options.serialize_as ~= false and type(options.serialize_as) ~= "string" then
    raise("E_ARGUMENT", "option \"serialize_as\" of %s is a name, or false", context)
  end
  if options.on_query ~= nil and type(options.on_query) ~= "function" then
    raise("E_ARGUMENT", "option \"on_query\" of %s is a function", context)
  end
  return options
end

--- A definition. `bind(definition, state, name)` makes the relation object of it.
function base.definition(fields)
  return setmetatable(fields, Definition)
end

--- Binds a definition to its parent. The related model is resolved later, at boot.
---@param definition table
---@param state lumo.State the parent's
---@param name string
---@return lumo.AnyRelation
function base.bind(definition, state, name)
  if type(definition) ~= "table" or getmetatable(definition) ~= Definition then
    raise("E_ARGUMENT", "relation \"%s.%s\" is made with lumo.many_to_many, lumo.has_many or their like",
      state.name, name)
  end
  local serialize_as = definition.options.serialize_as
  if serialize_as == nil then serialize_as = naming.make(state.naming, "serialized", state.name, name) end
  return setmetatable({
    definition = definition, state = state, is_booted = false, relation_name = name, serialize_as = serialize_as,
    model = state.model, on_query = definition.options.on_query, type = definition.type,
  }, definition.class)
end

-- Boot ------------------------------------------------------------------------------------------------------

--- Raises E_MISSING_MODEL_ATTRIBUTE unless the model has the column.
function base.check_key(self, key, state)
  if not state.by_attribute[key] then
    local message = "Relation \"%s.%s\" expects \"%s\" to exist on \"%s\" model, but is missing. "
      .. "Did you forget to define the column?"
    core.raise("E_MISSING_MODEL_ATTRIBUTE", message:format(self.state.name, self.relation_name, key, state.name),
      { model = state.name, attribute = key })
  end
  return key
end

local NUMBERS = { integer = true, int32 = true, int64 = true, number = true, decimal = true }
local BYTES = { binary = true, uuid = true }
local OPEN = { any = true, array = true, object = true }

--- Raises E_ARGUMENT for two keys of which none can ever be equal to the other, so that nothing would be found.
---@param from { state: lumo.State, key: string }
---@param to { state: lumo.State, key: string }
function base.check_types(self, from, to)
  local a, b = from.state.by_attribute[from.key], to.state.by_attribute[to.key]
  if a.type == b.type or OPEN[a.type] or OPEN[b.type] then return end
  if NUMBERS[a.type] and NUMBERS[b.type] or BYTES[a.type] and BYTES[b.type] then return end
  if a.prepare or b.prepare then return end -- stored as something else
  raise("E_ARGUMENT", "relation \"%s.%s\" compares \"%s.%s\" (%s) with \"%s.%s\" (%s), which are never equal",
    self.state.name, self.relation_name, from.state.name, from.key, a.type, to.state.name, to.key, b.type)
end

function base.check_connection(self, other)
  if other and other.connection ~= nil and other.connection ~= self.state.connection then
    raise("E_ARGUMENT", "relation \"%s.%s\" cannot reach \"%s\", whose definition names another connection",
      self.state.name, self.relation_name, other.name)
  end
end

-- Records ---------------------------------------------------------------------------------------------------

--- Raises E_ARGUMENT for what is no list of records of that model.
function base.check_records(self, list, state, method)
  if type(list) ~= "table" then
    raise("E_ARGUMENT", "%s of \"%s.%s\" needs a list of records, got %s",
      method, self.state.name, self.relation_name, type(list))
  end
  if not core.list_size(list) then
    raise("E_ARGUMENT", "%s of \"%s.%s\" needs a list of records without holes",
      method, self.state.name, self.relation_name)
  end
  for i, one in ipairs(list) do
    local found = core.record_is(one)
    if not found or found.name ~= state.name then
      raise("E_ARGUMENT", "%s of \"%s.%s\" needs records of \"%s\", entry %d is not one",
        method, self.state.name, self.relation_name, state.name, i)
    end
  end
  return list
end

--- The same of one record.
function base.check_record(self, one, state, method)
  local found = core.record_is(one)
  if not found or found.name ~= state.name then
    raise("E_ARGUMENT", "%s of \"%s.%s\" needs a record of \"%s\", got %s",
      method, self.state.name, self.relation_name, state.name, type(one))
  end
end

--- Raises E_ARGUMENT for a record that came through another connection than the parent.
function base.check_connections(self, list, connection, method)
  for i, one in ipairs(list) do
    local number = core.record_connection(one)
    if number ~= 0 and number ~= connection.number then
      raise("E_ARGUMENT", "%s \"%s\": entry %d came through another connection than the parent", method,
        self.relation_name, i)
    end
  end
end

--- set_related_for_many of every kind: checks both lists, and distributes the related records over their parents by a
--- key: `key_of(related)` is compared with the parents' attribute.
function base.distribute(self, parents, related, attribute, key_of)
  base.check_records(self, parents, self.state, "set_related_for_many")
  base.check_records(self, related, self.related_state, "set_related_for_many")
  local by_key = {}
  for _, one in ipairs(related) do
    local key = key_text(key_of(one))
    by_key[key] = by_key[key] or {}
    table.insert(by_key[key], one)
  end
  for _, parent in ipairs(parents) do
    local value = parent:get(attribute)
    local found = value ~= nil and by_key[key_text(value)] or {}
    if self.is_one then self:set_related(parent, found[1]) else self:set_related(parent, found) end
  end
end

-- The class -------------------------------------------------------------------------------------------------

--- Gives a query of the relation what on_query says, as a group of its own, so that an or_where of the user cannot
--- escape it.
function base.apply_on_query(self, q)
  if self.on_query then
    q:where(function(group) self.on_query(group) end)
    core.query_settle(q)
  end
  return q
end

---@class (partial) lumo.Relation
local shared = {}

--- The related model: also without a self, as a function of its own.
---@param self any
---@return lumo.Model
function shared.related_model(self)
  return self:boot().related_state.model
end

--- The client of one parent.
---@param parent lumo.Record
---@return lumo.RelatedClient
function shared:client(parent)
  base.check_record(self:boot(), parent, self.state, "client")
  return require("lumo.relations.handle").new(parent, self)
end

--- Makes a list of records, or of a relation to one a record or nil, the loaded value of the relation.
---@param parent lumo.Record
---@param value lumo.Record[]|lumo.Record|nil
function shared:set_related(parent, value)
  local handle = require "lumo.relations.handle"
  self:boot()
  base.check_record(self, parent, self.state, "set_related")
  if self.is_one then
    if value ~= nil then base.check_record(self, value, self.related_state, "set_related") end
    return handle.set_one(parent, self, value)
  end
  local copy = {}
  for i, one in ipairs(base.check_records(self, value, self.related_state, "set_related")) do copy[i] = one end
  handle.set_list(parent, self, copy)
end

--- Adds a related record, or a list of them, to the loaded value; of a relation to one it takes its place.
---@param parent lumo.Record
---@param one lumo.Record|lumo.Record[]
function shared:push_related(parent, one)
  if self:boot().is_one then return self:set_related(parent, one) end
  base.check_record(self, parent, self.state, "push_related")
  local added = base.check_records(self, core.record_is(one) and { one } or one, self.related_state, "push_related")
  local list = parent.preloaded[self.relation_name]
    or require("lumo.relations.handle").set_list(parent, self, {})
  for _, record in ipairs(added) do list[#list + 1] = record end
end

--- A builder over the related records that stands inside of another query and is never sent itself:
--- is_related_sub_query.
---@return lumo.Query
function shared:sub_query()
  return self:boot():related_query("sub_query", nil, nil, "is_related_sub_query")
end

--- A builder over the related records of many parents, as preload uses it.
---@param parents lumo.Record[]
---@return lumo.Query
function shared:eager_query(parents)
  self:boot()
  base.check_records(self, parents, self.state, "eager_query")
  local records = require "lumo.record"
  local target = #parents > 0 and records.client(parents[1], self.state) or nil
  local q = self:related_query("eager_query", nil, target, "is_related_preload_query")
  core.query_state(q).parents = parents
  return q
end

--- Makes the class of a kind's relation objects.
---@param boot fun(self: table) computes keys and names
---@param booted table<string, boolean> what needs the boot before it can be answered
---@param methods table
---@param constants table<string, any> what is the same for all objects of the class
function base.class(boot, booted, methods, constants)
  local Class = { __name = "lumo.relations.many_to_many" }
  for name, method in pairs(shared) do methods[name] = methods[name] or method end

  --- Resolves the related models and computes keys and names. lumo calls it itself when the relation is first used.
  function methods:boot()
    if not rawget(self, "is_booted") then
      boot(self)
      self.is_booted = true
    end
    return self
  end

  for name, method in pairs(methods) do
    methods[name] = function(self, ...)
      if type(self) ~= "table" or getmetatable(self) ~= Class then errors.not_called_on(name, "a relation") end
      return method(self, ...)
    end
  end
  doors.wrap(methods, function(self) return transactions.client({}, self.state.connection) end)
  local models = { related_model = true, pivot_model = true, through_model = true }
  local own = {}
  for name in pairs(models) do own[name] = methods[name] end
  names.alias(methods)

  Class.__tostring = function(self) return ("Relation(%s.%s)"):format(self.state.name, self.relation_name) end
  Class.__index = function(self, key)
    if type(key) ~= "string" then return nil end
    local name = names.snake(key)
    if own[name] then -- a function as it stands: relation.related_model()
      return function() return own[name](self) end
    end
    local method = methods[key]
    if method then return method end
    if name == "booted" then return rawget(self, "is_booted") end
    if booted[name] and not rawget(self, "is_booted") then methods.boot(self) end
    local value = rawget(self, name)
    if value == nil then return constants[name] end
    return value
  end
  return Class
end

return base
