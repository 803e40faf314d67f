--- Defaults of columns inside of others: of an object's columns, and of those of an array's elements.
local core = require "lumo.core"

local defaults = {}

local ORDERED = debug.getmetatable(core.ordered {})

--- A value that shares no table with the one given.
local function copy_of(value)
  if type(value) ~= "table" then return value end
  local result = setmetatable({}, debug.getmetatable(value))
  for key, one in next, value do rawset(result, key, copy_of(one)) end
  return result
end

local function default_of(column)
  if type(column.default) == "function" then return column.default() end
  return copy_of(column.default)
end

local fill

--- The elements of an array, one by one.
local function fill_elements(column, value, copy)
  local i = 1
  while rawget(value, i) ~= nil do
    rawset(value, i, fill(column, rawget(value, i), copy))
    i = i + 1
  end
end

--- What is missing among the pairs of lumo.ordered comes behind them.
local function fill_pairs(column, pairs_given)
  local present = {}
  for _, pair in next, pairs_given do
    if type(pair) == "table" and rawget(pair, 1) ~= nil then present[rawget(pair, 1)] = true end
  end
  for _, inner in ipairs(column.columns) do
    local default = nil
    if not present[inner.name] then default = fill(inner, default_of(inner), false) end
    if default ~= nil then rawset(pairs_given, #pairs_given + 1, { inner.name, default }) end
  end
end

local function fill_names(column, value, copy)
  for _, inner in ipairs(column.columns) do
    local given = rawget(value, inner.name)
    if given == nil then
      rawset(value, inner.name, fill(inner, default_of(inner), false))
    else
      rawset(value, inner.name, fill(inner, given, copy))
    end
  end
end

--- Fills in what is missing: in the table given, or in one that shares with it only what no column declares.
--- Raises nothing, whatever the value is: the encoder refuses what is no value.
function fill(column, value, copy)
  if type(value) ~= "table" or not (column.of or column.columns) then return value end
  local result = value
  if copy then
    result = setmetatable({}, debug.getmetatable(value))
    for key, one in next, value do rawset(result, key, one) end
  end
  if column.of then
    fill_elements(column.of, result, copy)
  elseif rawequal(debug.getmetatable(result), ORDERED) then
    fill_pairs(column, result)
  else
    fill_names(column, result, copy)
  end
  return result
end

--- A value of any kind with the defaults of the columns inside of this one; the value given stays as it is.
---@param column table as columns.normalise gives it
---@param value any
---@return any
function defaults.complete(column, value)
  return fill(column, value, true)
end

local function has_any(column)
  if column.of and has_any(column.of) then return true end
  for _, inner in ipairs(column.columns or {}) do
    if inner.default ~= nil or has_any(inner) then return true end
  end
  return false
end

--- A function for the columns inside of this one that have defaults, nil when none has. It takes a value and,
--- fourth, whether to leave that as it is and give a copy.
---@param column table as columns.normalise gives it
---@return (fun(value: any, name: any, record: any, copy: boolean?): any)|nil
function defaults.completer(column)
  if not has_any(column) then return nil end
  return function(value, _, _, copy) return fill(column, value, copy) end
end

--- Raises E_CAST for a default that is a value which its column cannot hold. What a function gives is told when it
--- gives it; what a function prepares may be of any type.
---@param schema userdata of the model
---@param column table as columns.normalise gives it
---@param path string
function defaults.check(schema, column, path)
  if column.prepare then return end
  if column.default ~= nil and type(column.default) ~= "function" then
    core.schema_check(schema, path, column.default)
  end
  local inner = column
  while inner.of do inner = inner.of end
  for _, one in ipairs(inner.columns or {}) do
    defaults.check(schema, one, path .. "." .. one.name)
  end
end

return defaults
