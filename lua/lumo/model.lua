--- Models: their definition, and what is compiled of it.
local kinds = require "lumo.relations.base"
local columns = require "lumo.columns"
local connections = require "lumo.connection"
local core = require "lumo.core"
local indexes = require "lumo.indexes"
local direct = require "lumo.relations.direct"
local handle = require "lumo.relations.handle"
local names = require "lumo.names"
local naming = require "lumo.naming"
local place_of_caller = require "lumo.place"
local records = require "lumo.record"
local registry = require "lumo.registry"
local relations = require "lumo.relations.many_to_many"
---@class (partial) lumo.Model
---@field [string] any methods of its records, and what else a script puts there
local Model = require "lumo.statics"
local through = require "lumo.relations.through"
local validation = require "lumo.validation"
local raise = require("lumo.errors").raise

local model = {}

-- Relations -------------------------------------------------------------------------------------------------

--- Raises E_ARGUMENT if a column has the relation's name in JSON. Relations may share one: views of the same data, of
--- which one at a time is loaded.
local function check_serialized(state, relation)
  if not relation.serialize_as then return end
  for _, column in ipairs(state.columns) do
    if column.serialized == relation.serialize_as then
      raise("E_ARGUMENT", "relation \"%s\" and column \"%s\" of \"%s\" are serialized under one name, \"%s\"",
        relation.relation_name, column.name, state.name, column.serialized)
    end
  end
end

local function add_relation(state, name, definition)
  columns.check_name(state.name, name)
  if state.names[name] ~= nil then
    raise("E_ARGUMENT", "relation \"%s.%s\" has a name that its records use already", state.name, name)
  end
  local relation = kinds.bind(definition, state, name)
  check_serialized(state, relation)
  state.relations[name] = relation
  state.names[name] = { function(record) return handle.property(record, relation:boot()) end }
end

--- Adds a relation to a model that is defined already.
---@param name string
---@param definition table made by lumo.many_to_many, lumo.has_many or their like
---@return lumo.Model self
function Model:add_relation(name, definition)
  add_relation(registry.check(self, "add_relation"), name, definition)
  return self
end

--- add_relation with lumo.belongs_to_many of the other arguments.
---@param name string
---@param ... any as of lumo.belongs_to_many
---@return lumo.Model self
function Model:belongs_to_many(name, ...)
  registry.check(self, "belongs_to_many")
  return Model.add_relation(self, name, relations.belongs_to_many(...))
end

--- add_relation with lumo.many_to_many of the other arguments.
---@param name string
---@param ... any as of lumo.many_to_many
---@return lumo.Model self
function Model:many_to_many(name, ...)
  registry.check(self, "many_to_many")
  return Model.add_relation(self, name, relations.many_to_many(...))
end

---@class (partial) lumo.Model
---@field has_one fun(self: lumo.Model, name: string, related: any, options: lumo.DirectOptions|nil): lumo.Model
---@field has_many fun(self: lumo.Model, name: string, related: any, options: lumo.DirectOptions|nil): lumo.Model
---@field belongs_to fun(self: lumo.Model, name: string, related: any, options: lumo.DirectOptions|nil): lumo.Model

for _, kind in ipairs { "has_one", "has_many", "belongs_to" } do
  --- add_relation with lumo.has_one (has_many, belongs_to) of the other arguments.
  Model[kind] = function(self, name, ...)
    registry.check(self, kind)
    return Model.add_relation(self, name, direct[kind](...))
  end
end

--- add_relation with lumo.has_many_through of the other arguments.
---@param name string
---@param ... any as of lumo.has_many_through
---@return lumo.Model self
function Model:has_many_through(name, ...)
  registry.check(self, "has_many_through")
  return Model.add_relation(self, name, through.has_many_through(...))
end

--- Adds a column to a model that is defined already. Records that exist keep the columns that they were made
--- with.
---@param name string
---@param definition string|table as in the definition of a model
---@return lumo.Model self
function Model:add_column(name, definition)
  local state = registry.check(self, "add_column")
  if type(name) ~= "string" or definition == nil then
    raise("E_ARGUMENT", "add_column takes a name and a definition, got %s and %s",
      type(name), type(definition))
  end
  model.recompile(state, { [name] = definition })
  return self
end

names.alias(Model)

-- Definition ------------------------------------------------------------------------------------------------

local DEFINITION = {
  collection = true, columns = true, relations = true, connection = true, strict = true, extends = true,
  indexes = true, naming = true,
}

local LONGEST_NAME = 100 -- bytes, of a model's name
local LONGEST_COLLECTION = 200 -- MongoDB takes 255 with the database's name and a dot

local function is_collection(name)
  return type(name) == "string" and name ~= "" and #name <= LONGEST_COLLECTION and not name:find("[%$%z]")
    and not name:find("^system%.") and pcall(core.bson_encode, { v = name })
end

local function collection_of(name, strategy)
  local made = naming.make(strategy, "collection", name)
  if not is_collection(made) then
    raise("E_ARGUMENT", "naming of \"%s\" makes a collection name that MongoDB does not take", name)
  end
  return made
end

local function check_definition(name, definition)
  if type(name) ~= "string" or not name:find("^%a[%w_]*$") or #name > LONGEST_NAME then
    raise("E_ARGUMENT", "lumo.model needs a name of at most %d letters, digits and underscores", LONGEST_NAME)
  end
  if type(definition) ~= "table" then
    raise("E_ARGUMENT", "lumo.model needs a definition, got %s", type(definition))
  end
  definition = names.options(("model \"%s\""):format(name), definition, DEFINITION)
  if definition.collection ~= nil and not is_collection(definition.collection) then
    raise("E_ARGUMENT", "model \"%s\" has a collection name that MongoDB does not take", name)
  end
  if definition.connection ~= nil and not connections.may_be(definition.connection) then
    raise("E_ARGUMENT", "option \"connection\" of model \"%s\" is a connection or its name, got %s",
      name, type(definition.connection))
  end
  if definition.relations ~= nil and type(definition.relations) ~= "table" then
    raise("E_ARGUMENT", "option \"relations\" of model \"%s\" is a table, got %s", name, type(definition.relations))
  end
  if definition.strict ~= nil and type(definition.strict) ~= "boolean" then
    raise("E_ARGUMENT", "option \"strict\" of model \"%s\" is a boolean", name)
  end
  return definition
end

--- The definition's columns after those of the base; one of the same name takes the base's place.
local function compile_columns(state, definition, base, reserved)
  local name = state.name
  local function named(what, attribute) return naming.make(state.naming, what, name, attribute) end
  local own = columns.normalise_list(name, definition.columns or {}, named)
  local list, place = {}, {}
  for _, column in ipairs(base and base.columns or {}) do
    list[#list + 1] = column
    place[column.name] = #list
  end
  for _, column in ipairs(own) do
    list[place[column.name] or #list + 1] = column
  end
  if not columns.has_primary(list) then
    table.insert(list, 1, columns.normalise(name, "_id", "objectid", named))
  end
  columns.check_distinct(name, list)
  for _, column in ipairs(list) do
    if reserved[column.name] ~= nil then
      raise("E_ARGUMENT", "column \"%s.%s\" has a name that records use themselves", name, column.name)
    end
  end
  return list
end

--- What a record answers when no column, method or property has that name.
local function missing(state)
  return function(record, key)
    if type(key) ~= "string" then return nil end
    local base = state.base
    while base do -- methods that were put on a base model
      local method = base.names[key]
      if type(method) == "function" then return method end
      base = base.base
    end
    if state.definition_strict then return nil end
    return core.record_get(record, key)
  end
end

local function strict_flag(strict)
  return strict ~= false
end

--- Schema and class of the same columns that let undeclared names pass: for pivot attributes and pivot
--- records.
local function relaxed(state)
  local schema, class
  local function make()
    if schema then return end
    schema = core.schema { model = state.name, collection = state.collection, strict = false, columns = state.columns }
    class = core.record_class(schema, state, state.names, function(record, key)
      return type(key) == "string" and core.record_get(record, key) or nil
    end)
  end
  return function() make() return schema end, function() make() return class end
end

--- Fills names with the columns' numbers, in the order that the schema settled on.
local function add_columns(state)
  for number, name in ipairs(core.schema_names(state.schema)) do
    state.names[name] = number
    local column = state.by_attribute[name]
    if column and column.primary then
      state.primary = name
      if not state.by_attribute.id then state.names.id = number end
    end
  end
end

local function compile(state, definition)
  state.query_companion = nil -- it has the schema
  state.names = records.names()
  state.columns = compile_columns(state, definition, state.base, state.names)
  state.by_attribute, state.by_stored, state.prepares = {}, {}, false
  for _, column in ipairs(state.columns) do
    state.by_attribute[column.name] = column
    state.by_stored[column.stored] = column
    state.prepares = state.prepares or column.prepare ~= nil
    if validation.has_rules(column) then
      state.rules = state.rules or {}
      table.insert(state.rules, column)
    end
  end
  state.schema = core.schema {
    model = state.name, collection = state.collection, strict = strict_flag(state.strict), columns = state.columns,
  }
  state.definition_strict = strict_flag(state.strict)
  for _, column in ipairs(state.columns) do
    columns.check_default(state.schema, column, column.name)
  end
  for _, relation in pairs(state.relations) do check_serialized(state, relation) end
  add_columns(state)
  state.class = core.record_class(state.schema, state, state.names, missing(state))
  state.relaxed_schema, state.relaxed_class = relaxed(state)
end

--- Compiles a model anew with more columns; its methods and relations stay.
function model.recompile(state, more)
  for name in pairs(more) do
    local taken = state.names[name]
    if taken ~= nil and type(taken) ~= "number" then
      raise("E_ARGUMENT", "\"%s\" of \"%s\" is a method, relation or property and cannot be a column",
        name, state.name)
    end
  end
  local before = {}
  for key, value in pairs(state) do before[key] = value end
  state.base, state.rules = { columns = state.columns }, nil
  local ok, err = pcall(compile, state, { columns = more })
  if not ok then -- refused: the model is as it was
    for key in pairs(state) do state[key] = before[key] end
    for key, value in pairs(before) do state[key] = value end
    error(err, 0)
  end
  state.base = before.base
  for name, value in pairs(before.names) do
    if state.names[name] == nil then state.names[name] = value end
  end
  for _, relation in pairs(state.relations) do
    relation.is_booted = false
  end
end

local properties = {
  model_name = function(state) return state.name end,
  collection = function(state) return state.collection end,
  primary_key = function(state) return state.primary end,
}
names.alias(properties)

--- What a model answers to beside its own fields. The statics are kept in the table as they are asked for: Lua finds
--- them there without a call.
local function answers_of(state)
  return setmetatable({}, {
    __index = function(answers, key)
      local static = Model[key]
      if static then
        answers[key] = static
        return static
      end
      local property = properties[key]
      if property then return property(state) end
      return state.base and state.base.model[key] or nil
    end,
  })
end

--- A function that a script puts on a model is a method of its records.
local function add_method(self, key, value)
  local state = registry.of(self)
  if type(value) == "function" and type(key) == "string" then
    local taken = state.names[key]
    if taken ~= nil and type(taken) ~= "function" then
      raise("E_ARGUMENT", "\"%s\" of \"%s\" is a column, relation or property and cannot be a method",
        key, state.name)
    end
    state.names[key] = value
  end
  rawset(self, key, value)
end

local function model_tostring(self)
  return ("Model(%s)"):format(registry.of(self).name)
end

--- Gives a state its model, as scripts see it.
local function with_model(state)
  state.model = setmetatable({}, {
    __name = "lumo.model", __metatable = false, __tostring = model_tostring, __newindex = add_method,
    __index = answers_of(state),
  })
  return state
end

--- Defines a model, or gives the one of that name when there is no definition. A name that is defined already
--- from another place
--- of the source is E_ARGUMENT.
---@param name string
---@param ... table|nil the definition
---@return lumo.Model
function model.model(name, ...)
  if select("#", ...) == 0 then return registry.resolve(name).model end
  local definition = check_definition(name, (...))
  local place, known = place_of_caller() or "?", registry.find(name)
  if known and known.place ~= place then
    raise("E_ARGUMENT", "model \"%s\" is defined already, at %s", name, known.place)
  end
  local base = definition.extends and registry.resolve(definition.extends)
  local strict = definition.strict
  if strict == nil and base then strict = base.strict end
  local strategy = naming.strategy(("naming of model \"%s\""):format(name), definition.naming, base and base.naming)
  local state = with_model {
    name = name, place = place, base = base, relations = {}, strict = strict,
    naming = strategy, collection = definition.collection or collection_of(name, strategy),
    connection = definition.connection or (base and base.connection),
  } --[[@as any]]
  compile(state, definition)
  state.indexes = indexes.compile(state, definition.indexes, base)
  registry.attach(state)
  for relation_name, relation in pairs(base and base.relations or {}) do
    if not (definition.relations and definition.relations[relation_name]) then
      add_relation(state, relation_name, relation.definition)
    end
  end
  for relation_name, relation in pairs(definition.relations or {}) do
    add_relation(state, relation_name, relation)
  end
  registry.add(state)
  return state.model
end

--- A state for documents that no model describes: the rows of a pivot.
---@param name string
---@param schema userdata
---@return lumo.State
function model.plain_state(name, schema)
  local state = with_model {
    name = name, collection = name, schema = schema, names = records.names(), relations = {}, columns = {},
    by_attribute = { _id = { primary = true, type = "any" } }, by_stored = {}, strict = false,
  } --[[@as any]]
  registry.attach(state)
  add_columns(state)
  state.class = core.record_class(schema, state, state.names, missing(state))
  return state
end

return model
