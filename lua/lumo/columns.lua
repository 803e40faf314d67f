--- Column definitions, in whatever form they were written, as plain tables with all their names.
local core = require "lumo.core"
local defaults = require "lumo.defaults"
local names = require "lumo.names"
local registry = require "lumo.registry"
local raise = require("lumo.errors").raise

local columns = {}

local COLUMN_OPTIONS = {
  column = true, serialize_as = true, default = true, required = true, primary = true, auto_create = true,
  auto_update = true, validate = true, enum = true, min = true, max = true, match = true, of = true, columns = true,
  prepare = true, consume = true, serialize = true,
}

local OPTION_TYPES = {
  validate = "function", enum = "table", min = "number", max = "number", match = "string",
  prepare = "function", consume = "function", serialize = "function",
  required = "boolean", primary = "boolean", auto_create = "boolean", auto_update = "boolean",
}

--- Options that only the columns of a model have: inside of objects and arrays nothing would read them.
local OUTER = { "primary", "auto_create", "auto_update", "prepare", "consume", "serialize" }

local LONGEST_NAME = 500 -- bytes

--- A field name that MongoDB and dotted paths take.
local function check_name(context, name)
  if type(name) ~= "string" or name == "" or name:find("[%.%z]") or name:find("^%$") then
    raise("E_ARGUMENT", "%s: \"%s\" cannot be a name: it is empty, dotted, begins with \"$\" or holds NUL",
      context, tostring(name))
  end
  if #name > LONGEST_NAME or not pcall(core.bson_encode, { [name] = true }) then
    raise("E_ARGUMENT", "%s: a name is UTF-8 text of at most %d bytes", context, LONGEST_NAME)
  end
  return name
end

local normalise_list

--- The inner definition of `of`: a type name, or a table as a column's.
local function normalise_inner(context, given, named)
  local column = type(given) == "table" and given or { given }
  return normalise_list(context, { { "of", column } }, named, "of")[1]
end

local function check_options(context, options)
  for option, wanted in pairs(OPTION_TYPES) do
    if options[option] ~= nil and type(options[option]) ~= wanted then
      raise("E_ARGUMENT", "%s: option \"%s\" is a %s", context, option, wanted)
    end
  end
end

--- What cannot stand together in a model's column.
local function check_functions(context, column)
  if column.primary and column.type == "array" then
    raise("E_ARGUMENT", "column \"%s\" is the primary key, and MongoDB takes no array there", context)
  end
  if column.primary and (column.prepare or column.consume) then
    raise("E_ARGUMENT", "column \"%s\" is the primary key, which is stored as it is", context)
  end
  if column.prepare and (column.auto_create or column.auto_update) then
    raise("E_ARGUMENT", "column \"%s\" is set automatically, so nothing prepares it", context)
  end
end

--- The types of which `min` and `max` bound a number or a length.
local BOUNDED = {
  string = true, array = true, any = true, integer = true, int32 = true, int64 = true, number = true, decimal = true,
}

local function check_bounds(context, column)
  for _, bound in ipairs { "min", "max" } do
    if column[bound] and not BOUNDED[column.type] then
      raise("E_ARGUMENT", "column \"%s\": only a number, a text or an array has \"%s\"", context, bound)
    end
  end
end

--- Raises E_ARGUMENT if two columns that stand side by side have one name in documents or in JSON.
---@param context string
---@param list table[]
local function check_distinct(context, list)
  for _, what in ipairs { "stored", "serialized" } do
    local owner = {}
    for _, column in ipairs(list) do
      local name = column[what]
      if name and owner[name] then
        raise("E_ARGUMENT", "columns \"%s\" and \"%s\" of \"%s\" are %s under one name, \"%s\"",
          owner[name], column.name, context, what, name)
      end
      if name then owner[name] = column.name end
    end
  end
end

local function refuse_outer(context, column)
  for _, option in ipairs(OUTER) do
    if column[option] then
      raise("E_ARGUMENT", "%s: option \"%s\" belongs to a column of a model, not to one inside of another",
        context, option)
    end
  end
end

--- One column, whatever the form it was written in, with all its names. `named(what, attribute)` makes those that are
--- left out; `inside`: of another column, "of" for the elements of an array.
local function normalise(context, name, given, named, inside)
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
  if inside then refuse_outer(context, column) end
  column.primary = options.primary or (not inside and name == "_id")
  if inside == "of" then
    column.stored, column.serialized = name, name
  else
    column.stored = check_name(context, options.column or (column.primary and "_id" or named("column", name)))
    column.serialized = options.serialize_as
    if column.serialized == nil then column.serialized = named("serialized", name) end
  end
  if column.primary and column.stored ~= "_id" then
    raise("E_ARGUMENT", "column \"%s\" is the primary key, which MongoDB stores as _id", context)
  end
  if not inside and not column.primary and column.stored == "_id" then
    raise("E_ARGUMENT", "column \"%s\" cannot be stored as _id: say primary = true if it is the key", context)
  end
  if column.serialized ~= false then check_name(context, column.serialized) end
  column.column, column.serialize_as = nil, nil
  if (column.auto_create or column.auto_update) and column.type ~= "date" then
    raise("E_ARGUMENT", "column \"%s\" is set automatically, so it is a date", context)
  end
  if options.of ~= nil then
    if column.type ~= "array" then raise("E_ARGUMENT", "column \"%s\": only an array has \"of\"", context) end
    column.of = normalise_inner(context, options.of, named)
  end
  if options.columns ~= nil then
    if column.type ~= "object" then
      raise("E_ARGUMENT", "column \"%s\": only an object has \"columns\"", context)
    end
    column.columns, column.by_name = normalise_list(context, options.columns, named, true), {}
    check_distinct(context, column.columns)
    for _, one in ipairs(column.columns) do column.by_name[one.name] = one end
  end
  check_functions(context, column)
  check_bounds(context, column)
  if not inside then column.complete = defaults.completer(column) end
  return column
end

--- Columns written as a map (then in alphabetical order) or as a list of { name, definition }.
function normalise_list(context, given, named, inside)
  local list = {}
  if type(given) ~= "table" then raise("E_ARGUMENT", "\"%s\": columns are a table", context) end
  if given[1] ~= nil then
    for _, entry in ipairs(given) do
      if type(entry) ~= "table" then
        raise("E_ARGUMENT", "\"%s\": a list of columns has entries { \"name\", \"type\" }", context)
      end
      list[#list + 1] = normalise(context, entry[1], entry[2], named, inside)
    end
    return list
  end
  local keys = {}
  for name in pairs(given) do
    keys[#keys + 1] = check_name(context, name)
  end
  table.sort(keys)
  for _, name in ipairs(keys) do
    list[#list + 1] = normalise(context, name, given[name], named, inside)
  end
  return list
end

--- The definition at the end of a dotted path of attribute names and positions, as far as columns are
--- declared; else nil.
---@param state lumo.State
---@param path string
---@return table|nil
local function at(state, path)
  local column, inner = nil, state.by_attribute
  for part in path:gmatch("[^.]+") do
    while column and column.of and not part:find("^%d+$") do column = column.of end -- a field of the elements
    if column and column.of then
      column = column.of
    else
      if column then inner = column.by_name end
      column = inner and inner[part]
      if not column then return nil end
    end
  end
  return column
end

local function has_primary(list)
  for _, column in ipairs(list) do
    if column.primary then return true end
  end
  return false
end

columns.check_name = check_name
columns.normalise = normalise
columns.normalise_list = normalise_list
columns.has_primary = has_primary
columns.check_distinct = check_distinct
columns.at = at
columns.complete = defaults.complete
columns.check_default = defaults.check

return columns
