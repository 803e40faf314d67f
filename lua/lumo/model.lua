--- Models: their definition and their statics.
local core = require "lumo.core"
local ambient = require "lumo.ambient"
local clients = require "lumo.client"
local indexes = require "lumo.indexes"
local load = require "lumo.load"
local names = require "lumo.names"
local naming = require "lumo.naming"
local queries = require "lumo.query"
local records = require "lumo.record"
local registry = require "lumo.registry"
local relations = require "lumo.relation"
local run = require "lumo.run"
local transactions = require "lumo.transaction"
local validation = require "lumo.validation"
local raise = require("lumo.errors").raise

local model = {}

-- Columns ---------------------------------------------------------------------------------------------------

local COLUMN_OPTIONS = {
  column = true, serialize_as = true, default = true, required = true, primary = true, auto_create = true,
  auto_update = true, validate = true, enum = true, min = true, max = true, match = true, of = true, columns = true,
}

local RULE_TYPES = { validate = "function", enum = "table", min = "number", max = "number", match = "string" }

--- A field name that MongoDB and dotted paths take.
local function check_name(context, name)
  if type(name) ~= "string" or name == "" or name:find("[%.%z]") or name:find("^%$") then
    raise("E_ARGUMENT", "%s: \"%s\" cannot be a name: it is empty, dotted, begins with \"$\" or holds NUL",
      context, tostring(name))
  end
  return name
end

local normalise_list

--- The inner definition of `of`: a type name, or a table as a column's.
local function normalise_inner(context, given)
  local column = type(given) == "table" and given or { given }
  return normalise_list(context, { { "of", column } })[1]
end

local function check_options(context, options)
  for rule, wanted in pairs(RULE_TYPES) do
    if options[rule] ~= nil and type(options[rule]) ~= wanted then
      raise("E_ARGUMENT", "%s: option \"%s\" is a %s", context, rule, wanted)
    end
  end
  for _, flag in ipairs { "required", "primary", "auto_create", "auto_update" } do
    if options[flag] ~= nil and type(options[flag]) ~= "boolean" then
      raise("E_ARGUMENT", "%s: option \"%s\" is a boolean", context, flag)
    end
  end
end

--- One column, whatever the form it was written in, with all its names.
local function normalise(context, name, given)
  check_name(context, name)
  context = ("%s.%s"):format(context, name)
  if type(given) == "string" then given = { given } end
  if type(given) ~= "table" or type(given[1]) ~= "string" then
    raise("E_ARGUMENT", "column \"%s\" needs a type: \"string\", or { \"string\", … }", context)
  end
  if not core.column_types[given[1]] then
    raise("E_ARGUMENT", "column \"%s\" has an unknown type \"%s\"%s",
      context, given[1], registry.suggest(given[1], core.column_types))
  end
  local written = {}
  for key, value in pairs(given) do
    if key ~= 1 then written[key] = value end
  end
  local options = names.options(("column \"%s\""):format(context), written, COLUMN_OPTIONS)
  check_options(context, options)
  local column = options
  column.name, column.type = name, given[1]
  column.primary = options.primary or name == "_id"
  column.stored = check_name(context, options.column or (column.primary and "_id" or name))
  if column.primary and column.stored ~= "_id" then
    raise("E_ARGUMENT", "column \"%s\" is the primary key, which MongoDB stores as _id", context)
  end
  if not column.primary and column.stored == "_id" then
    raise("E_ARGUMENT", "column \"%s\" cannot be stored as _id: say primary = true if it is the key", context)
  end
  column.serialized = options.serialize_as
  if column.serialized == nil then column.serialized = name end
  if column.serialized ~= false then check_name(context, column.serialized) end
  column.column, column.serialize_as = nil, nil
  if (column.auto_create or column.auto_update) and column.type ~= "date" then
    raise("E_ARGUMENT", "column \"%s\" is set automatically, so it is a date", context)
  end
  if options.of ~= nil then
    if column.type ~= "array" then raise("E_ARGUMENT", "column \"%s\": only an array has \"of\"", context) end
    column.of = normalise_inner(context, options.of)
  end
  if options.columns ~= nil then
    if column.type ~= "object" then
      raise("E_ARGUMENT", "column \"%s\": only an object has \"columns\"", context)
    end
    column.columns = normalise_list(context, options.columns)
  end
  return column
end

--- Columns written as a map (then in alphabetical order) or as a list of { name, definition }.
function normalise_list(context, given)
  local list = {}
  if type(given) ~= "table" then raise("E_ARGUMENT", "\"%s\": columns are a table", context) end
  if given[1] ~= nil then
    for _, entry in ipairs(given) do
      if type(entry) ~= "table" then
        raise("E_ARGUMENT", "\"%s\": a list of columns has entries { \"name\", \"type\" }", context)
      end
      list[#list + 1] = normalise(context, entry[1], entry[2])
    end
    return list
  end
  local keys = {}
  for name in pairs(given) do
    keys[#keys + 1] = check_name(context, name)
  end
  table.sort(keys)
  for _, name in ipairs(keys) do
    list[#list + 1] = normalise(context, name, given[name])
  end
  return list
end

local function has_primary(columns)
  for _, column in ipairs(columns) do
    if column.primary then return true end
  end
  return false
end

-- Statics ---------------------------------------------------------------------------------------------------

---@class lumo.Model
local Model = {}

local CLIENT_OPTIONS = { client = true, connection = true }

--- What a static's commands run on.
local function client_of(state, options, method)
  return transactions.client(names.options(method, options, CLIENT_OPTIONS), state.connection)
end

--- A record that is not stored yet. The values are copied. Raises E_CAST, E_UNDEFINED_COLUMN.
---@param values table<string, any>|nil
---@return lumo.Record
function Model:new(values)
  local state = registry.check(self, "new")
  return core.record_new(state.class, values, 0)
end

--- A new record, stored. Raises as record:save(). Commands: insert.
---@param values table<string, any>|nil
---@param options { client: lumo.Connection? }|nil
---@return lumo.Record
function Model:create(values, options)
  local state = registry.check(self, "create")
  local client = client_of(state, options, "create")
  local record = core.record_new(state.class, values, ambient.connection(client).number, core.now())
  records.insert({ record }, state, client, false)
  return record
end

local function check_list(list, what)
  if type(list) ~= "table" then raise("E_ARGUMENT", "%s, got %s", what, type(list)) end
  local count = 0
  for _ in pairs(list) do count = count + 1 end
  for i = 1, count do
    if list[i] == nil then core.raise("E_ARGUMENT", what .. " without holes") end
  end
  return count
end

--- New records, stored by one insert: all or none where the deployment has transactions. Commands: insert,
--- and a commit.
---@param list table<string, any>[]
---@return lumo.Record[]
function Model:create_many(list, options)
  local state = registry.check(self, "create_many")
  local client = client_of(state, options, "create_many")
  local count = check_list(list, "create_many needs a list of rows")
  local made, now, number = {}, core.now(), ambient.connection(client).number
  for i = 1, count do
    made[i] = core.record_new(state.class, list[i], number, now)
  end
  if count > 0 then records.insert(made, state, client, count > 1) end
  return made
end

--- A query over all documents.
---@param options { client: lumo.Connection?, connection: string? }|nil
---@return lumo.Query
function Model:query(options)
  return queries.of_model(registry.check(self, "query"), options)
end

--- All records. Commands: find.
---@return lumo.Record[]
function Model:all(options)
  return queries.of_model(registry.check(self, "all"), options):exec()
end

--- Any one record, or nil. Commands: find.
function Model:first(options)
  return queries.of_model(registry.check(self, "first"), options):first()
end

--- Any one record. Raises E_ROW_NOT_FOUND. Commands: find.
function Model:first_or_fail(options)
  return queries.of_model(registry.check(self, "first_or_fail"), options):first_or_fail()
end

--- How many documents there are. Commands: aggregate.
---@return integer
function Model:count(options)
  return queries.of_model(registry.check(self, "count"), options):count()
end

local function query_by_key(state, id, options, method)
  if id == nil or id == core.null then
    raise("E_ARGUMENT", "%s needs the value of the primary key, got %s",
      method, id == nil and "nil" or "null")
  end
  return queries.of_model(state, options):where(state.primary, id)
end

--- The record of that primary key, or nil. Commands: find.
---@param id any
---@return lumo.Record|nil
function Model:find(id, options)
  return query_by_key(registry.check(self, "find"), id, options, "find"):first()
end

--- The record of that primary key. Raises E_ROW_NOT_FOUND. Commands: find.
---@return lumo.Record
function Model:find_or_fail(id, options)
  return query_by_key(registry.check(self, "find_or_fail"), id, options, "find_or_fail"):first_or_fail()
end

local function query_by(state, column, value, n, method)
  if n == 0 then core.raise("E_ARGUMENT", method .. " needs a column and a value, or a table") end
  local q = queries.of_model(state)
  if type(column) == "table" then return q:where(column) end
  return q:where(column, value)
end

--- The first record in which a column has this value (or all columns of a table theirs), or nil. Commands:
--- find.
---@param column string|table<string, any>
---@param value any
---@return lumo.Record|nil
function Model:find_by(column, ...)
  return query_by(registry.check(self, "find_by"), column, (...), select("#", column, ...), "find_by"):first()
end

--- The same; raises E_ROW_NOT_FOUND when there is none.
---@return lumo.Record
function Model:find_by_or_fail(column, ...)
  return query_by(registry.check(self, "find_by_or_fail"), column, (...), select("#", column, ...), "find_by_or_fail")
    :first_or_fail()
end

--- A text under which equal keys are equal, whether as given or as read.
local function key_text(state, value)
  if type(value) == "number" then return ("%.17g"):format(value) end
  local text = tostring(value)
  local kind = state.by_attribute[state.primary].type
  return (kind == "objectid" or kind == "uuid") and text:lower() or text
end

--- The records of these primary keys, each once, in the order asked for; those that are not there are left
--- out. Commands: find.
---@param ids any[]
---@return lumo.Record[]
function Model:find_many(ids, options)
  local state = registry.check(self, "find_many")
  check_list(ids, "find_many needs a list of primary keys")
  local found = {}
  for _, record in ipairs(queries.of_model(state, options):where_in(state.primary, ids):exec()) do
    found[key_text(state, record.primary_key_value)] = record
  end
  local ordered = {}
  for _, id in ipairs(ids) do
    local key = key_text(state, id)
    ordered[#ordered + 1] = found[key]
    found[key] = nil
  end
  return ordered
end

local AGGREGATE_OPTIONS = { each = true, client = true, connection = true }

--- MongoDB's own aggregation: stages as they are, plain tables as results. Commands: aggregate, and a getMore
--- for each further batch.
---@param pipeline table[]
---@param options { each: boolean? }|nil each: an iterator over the cursor instead of a list
---@return table[]|fun(): table|nil
function Model:aggregate(pipeline, options)
  local state = registry.check(self, "aggregate")
  options = names.options("aggregate", options, AGGREGATE_OPTIONS)
  local client = transactions.client(options, state.connection)
  local plan = core.aggregate_plan(state.collection, pipeline, options.each)
  if not options.each then
    run(client, plan)
    return core.plan_documents(plan)
  end
  local batch, i, done = {}, 0, false
  return function()
    i = i + 1
    while batch[i] == nil and not done do
      done = run(client, plan)
      batch, i = core.plan_documents(plan), 1
    end
    return batch[i]
  end
end

--- lumo.transaction on the model's connection.
---@param fn (fun(trx: lumo.Transaction): any)|nil
---@param options table|nil
function Model:transaction(fn, options)
  return transactions.transaction(fn, options, registry.check(self, "transaction").connection)
end

function Model:has_column(name)
  return registry.check(self, "has_column").by_attribute[name] ~= nil
end

function Model:has_relation(name)
  return registry.check(self, "has_relation").relations[name] ~= nil
end

--- The relation object. Raises E_UNDEFINED_RELATIONSHIP.
---@param name string
---@return lumo.Relation
function Model:get_relation(name)
  return load.relation(registry.check(self, "get_relation"), name)
end

local function add_relation(state, name, definition)
  check_name(state.name, name)
  if state.names[name] ~= nil then
    raise("E_ARGUMENT", "relation \"%s.%s\" has a name that its records use already", state.name, name)
  end
  local relation = relations.bind(definition, state, name)
  state.relations[name] = relation
  state.names[name] = { function(record) return clients.property(record, relation:boot()) end }
end

--- Adds a relation to a model that is defined already.
---@param name string
---@param definition table made by lumo.belongs_to_many or lumo.many_to_many
function Model:add_relation(name, definition)
  add_relation(registry.check(self, "add_relation"), name, definition)
  return self
end

--- add_relation with lumo.belongs_to_many of the other arguments.
function Model:belongs_to_many(name, ...)
  return self:add_relation(name, relations.belongs_to_many(...))
end

--- add_relation with lumo.many_to_many of the other arguments.
function Model:many_to_many(name, ...)
  return self:add_relation(name, relations.many_to_many(...))
end

--- Creates the indexes that the model's relations need on their pivots. Commands: createIndexes for each
--- pivot.
---@return string[] names of the indexes that are there now
function Model:ensure_indexes(options)
  local state = registry.check(self, "ensure_indexes")
  return indexes.ensure(state, ambient.connection(client_of(state, options, "ensure_indexes")))
end

names.alias(Model)

-- Definition ------------------------------------------------------------------------------------------------

local DEFINITION = { collection = true, columns = true, relations = true, connection = true, strict = true }

--- Where the definition stands: the first function on the stack that is not lumo's own.
local function place_of_definition()
  local own = debug.getinfo(1, "S").source:match("^(.*)[^/\\]+$")
  for level = 2, 50 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.what ~= "C" and info.source:sub(1, #own) ~= own then
      return ("%s:%d"):format(info.short_src, info.currentline)
    end
  end
  return "?"
end

local function check_definition(name, definition)
  if type(name) ~= "string" or not name:find("^%a[%w_]*$") then
    raise("E_ARGUMENT", "lumo.model needs a name of letters, digits and underscores")
  end
  if type(definition) ~= "table" then
    raise("E_ARGUMENT", "lumo.model needs a definition, got %s", type(definition))
  end
  definition = names.options(("model \"%s\""):format(name), definition, DEFINITION)
  if definition.collection ~= nil and (type(definition.collection) ~= "string" or definition.collection == ""
    or definition.collection:find("[%$%z]") or definition.collection:find("^system%.")) then
    raise("E_ARGUMENT", "model \"%s\" has a collection name that MongoDB does not take", name)
  end
  if definition.strict ~= nil and type(definition.strict) ~= "boolean" then
    raise("E_ARGUMENT", "option \"strict\" of model \"%s\" is a boolean", name)
  end
  return definition
end

local function compile_columns(name, definition, reserved)
  local columns = normalise_list(name, definition.columns or {})
  if not has_primary(columns) then
    table.insert(columns, 1, normalise(name, "_id", "objectid"))
  end
  for _, column in ipairs(columns) do
    if reserved[column.name] ~= nil then
      raise("E_ARGUMENT", "column \"%s.%s\" has a name that records use themselves", name, column.name)
    end
  end
  return columns
end

--- What a record answers when no column, method or property has that name.
local function missing(state)
  return function(record, key)
    if state.definition_strict then return nil end
    if type(key) ~= "string" then return nil end
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
  state.names = records.names()
  state.columns = compile_columns(state.name, definition, state.names)
  state.by_attribute, state.by_stored = {}, {}
  for _, column in ipairs(state.columns) do
    state.by_attribute[column.name] = column
    state.by_stored[column.stored] = column
    if validation.has_rules(column) then
      state.rules = state.rules or {}
      table.insert(state.rules, column)
    end
  end
  state.schema = core.schema {
    model = state.name, collection = state.collection, strict = strict_flag(state.strict), columns = state.columns,
  }
  state.definition_strict = strict_flag(state.strict)
  add_columns(state)
  state.class = core.record_class(state.schema, state, state.names, missing(state))
  state.relaxed_schema, state.relaxed_class = relaxed(state)
end

local properties = {
  model_name = function(state) return state.name end,
  collection = function(state) return state.collection end,
  primary_key = function(state) return state.primary end,
}
names.alias(properties)

local Model_mt = { __name = "lumo.model", __metatable = false }

function Model_mt.__index(self, key)
  local static = Model[key]
  if static then return static end
  local property = properties[key]
  return property and property(registry.of(self)) or nil
end

--- A function that a script puts on a model is a method of its records.
function Model_mt.__newindex(self, key, value)
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

function Model_mt.__tostring(self)
  return ("Model(%s)"):format(registry.of(self).name)
end

--- Defines a model, or gives the one of that name when there is no definition. A name that is defined already
--- from another place
--- of the source is E_ARGUMENT.
---@param name string
---@param definition table|nil
---@return lumo.Model
function model.model(name, ...)
  if select("#", ...) == 0 then return registry.resolve(name).model end
  local definition = check_definition(name, (...))
  local place, known = place_of_definition(), registry.find(name)
  if known and known.place ~= place then
    raise("E_ARGUMENT", "model \"%s\" is defined already, at %s", name, known.place)
  end
  local state = {
    name = name, place = place, collection = definition.collection or naming.collection(name), relations = {},
    connection = definition.connection, strict = definition.strict, model = setmetatable({}, Model_mt),
  }
  compile(state, definition)
  registry.add(state)
  for relation_name, relation in pairs(definition.relations or {}) do
    add_relation(state, relation_name, relation)
  end
  return state.model
end

--- A state for documents that no model describes: the rows of a pivot.
---@param name string
---@param schema userdata
function model.plain_state(name, schema)
  local state = {
    name = name, collection = name, schema = schema, names = records.names(), relations = {}, columns = {},
    by_attribute = { _id = { primary = true, type = "any" } }, by_stored = {}, strict = false,
  }
  state.model = setmetatable({}, Model_mt)
  add_columns(state)
  state.class = core.record_class(schema, state, state.names, missing(state))
  return state
end

return model
