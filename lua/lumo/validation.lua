--- The rules that a column may declare: required, enum, min, max, match, validate. All failures come in one
--- error.
local core = require "lumo.core"

local validation = {}

--- The characters of UTF-8 text: what is no continuation byte begins one.
local function length_of_text(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

-- The columns whose values may be userdata that stand for a number.
local WIDE = { decimal = true, integer = true, int64 = true, number = true }
local ENDLESS = { Infinity = math.huge, ["-Infinity"] = -math.huge }

local function length_or_value(value, column)
  if type(value) == "string" then return length_of_text(value), " characters" end
  if type(value) == "table" then return #value, " elements" end
  if type(value) == "number" then return value, "" end
  if type(value) ~= "userdata" or not WIDE[column.type] then return nil end
  local text = tostring(value)
  return ENDLESS[text] or tonumber(text), ""
end

local rules = {}

function rules.enum(value, allowed)
  for _, one in ipairs(allowed) do
    if value == one then return nil end
  end
  return "is not one of the allowed values"
end

function rules.min(value, least, column)
  local n, unit = length_or_value(value, column)
  if n and n < least then return ("is below the minimum of %s%s"):format(tostring(least), unit) end
end

function rules.max(value, most, column)
  local n, unit = length_or_value(value, column)
  if n and n > most then return ("is above the maximum of %s%s"):format(tostring(most), unit) end
end

function rules.match(value, pattern, column)
  if type(value) ~= "string" then return "does not match its pattern" end
  local ok, found = pcall(string.find, value, pattern)
  if not ok then
    core.raise("E_ARGUMENT", ("option \"match\" of column \"%s\" is no pattern of Lua: %s"):format(column.name, found))
  end
  return not found and "does not match its pattern" or nil
end

function rules.validate(value, fn)
  local answer = core.column_call(function(given)
    local ok, message = fn(given)
    return not ok and (message or "is not valid")
  end, value)
  return answer or nil
end

local ORDER = { "enum", "min", "max", "match", "validate" }

--- Whether a column definition has any rule.
---@param options table
---@return boolean
function validation.has_rules(options)
  if options.required then return true end
  for _, rule in ipairs(ORDER) do
    if options[rule] ~= nil then return true end
  end
  if options.of and validation.has_rules(options.of) then return true end
  for _, inner in ipairs(options.columns or {}) do
    if validation.has_rules(inner) then return true end
  end
  return false
end

--- Adds to `errors` what is wrong with a value, and with the elements or attributes in it.
local function check_value(column, value, path, errors)
  if value == nil or value == core.null then
    if column.required then
      errors[#errors + 1] = { attribute = path, rule = "required", message = "is required" }
    end
    return
  end
  for _, rule in ipairs(ORDER) do
    local setting = column[rule]
    local message = setting ~= nil and rules[rule](value, setting, column)
    if message then errors[#errors + 1] = { attribute = path, rule = rule, message = message } end
  end
  if type(value) ~= "table" then return end
  for i, element in ipairs(column.of and value or {}) do
    check_value(column.of, element, path .. "." .. i, errors)
  end
  for _, inner in ipairs(column.columns or {}) do
    check_value(inner, value[inner.name], path .. "." .. inner.name, errors)
  end
end

--- Raises E_VALIDATION if there is anything in the list of failures.
local function raise_failures(state, errors)
  if #errors == 0 then return end
  local texts = {}
  for i, one in ipairs(errors) do
    texts[i] = ("\"%s.%s\" %s"):format(state.name, one.attribute, one.message)
  end
  local fields = { model = state.name, errors = errors, outcome = "not_applied" }
  core.raise("E_VALIDATION", table.concat(texts, "; "), fields)
end

--- Raises E_VALIDATION if values that are to be elements of an array break the rules for them.
---@param state lumo.State
---@param column table of the elements
---@param path string of the array
---@param values any[]
function validation.check_elements(state, column, path, values)
  local errors = {}
  for i, value in ipairs(values) do
    check_value(column, value, ("%s.%d"):format(path, i), errors)
  end
  raise_failures(state, errors)
end

--- Raises E_VALIDATION if a column's rules want a value.
---@param state lumo.State
---@param column table|nil
---@param path string of the column
function validation.check_removal(state, column, path)
  local errors = {}
  if column then check_value(column, nil, path, errors) end
  raise_failures(state, errors)
end

--- Raises E_VALIDATION with `errors`, a list of { attribute, rule, message }, if the record breaks any rule
--- of its model.
---@param record lumo.Record
---@param state lumo.State
---@param only table<string, any>|nil the attributes to look at; nil: all
function validation.check(record, state, only)
  if not state.rules then return end
  local errors = {}
  for _, column in ipairs(state.rules) do
    if not only or only[column.name] ~= nil then
      check_value(column, record[column.name], column.name, errors)
    end
  end
  raise_failures(state, errors)
end

return validation
