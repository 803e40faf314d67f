--- The rules that a column may declare: required, enum, min, max, match, validate. All failures come in one
--- error.
local core = require "lumo.core"

local validation = {}

local function length_or_value(value)
  if type(value) == "string" then return #value, " characters" end
  if type(value) == "table" then return #value, " elements" end
  if type(value) == "number" then return value, "" end
  return nil
end

local rules = {}

function rules.enum(value, allowed)
  for _, one in ipairs(allowed) do
    if value == one then return nil end
  end
  return "is not one of the allowed values"
end

function rules.min(value, least)
  local n, unit = length_or_value(value)
  if n and n < least then return ("is below the minimum of %s%s"):format(tostring(least), unit) end
end

function rules.max(value, most)
  local n, unit = length_or_value(value)
  if n and n > most then return ("is above the maximum of %s%s"):format(tostring(most), unit) end
end

function rules.match(value, pattern)
  if type(value) ~= "string" or not value:find(pattern) then return "does not match its pattern" end
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
  return false
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
    local wanted = not only or only[column.name] ~= nil
    local value = nil
    if wanted then value = record[column.name] end
    if not wanted then -- luacheck: ignore 542
    elseif value == nil then
      if column.required then
        errors[#errors + 1] = { attribute = column.name, rule = "required", message = "is required" }
      end
    else
      for _, rule in ipairs(ORDER) do
        local setting = column[rule]
        local message = setting ~= nil and rules[rule](value, setting)
        if message then errors[#errors + 1] = { attribute = column.name, rule = rule, message = message } end
      end
    end
  end
  if #errors == 0 then return end
  local texts = {}
  for i, one in ipairs(errors) do
    texts[i] = ("\"%s.%s\" %s"):format(state.name, one.attribute, one.message)
  end
  local fields = { model = state.name, errors = errors, outcome = "not_applied" }
  core.raise("E_VALIDATION", table.concat(texts, "; "), fields)
end

return validation
