--- The one rule by which every name of lumo's own also answers to its camelCase spelling. Column names,
--- attributes and values are
--- data and never come through here.
local raise = require("lumo.errors").raise

local names = {}

--- "attach_with_pivot_data" → "attachWithPivotData".
---@param name string
---@return string
function names.camel(name)
  return (name:gsub("(%w)_(%l)", function(before, letter) return before .. letter:upper() end))
end

--- "pivotForeignKey" → "pivot_foreign_key".
---@param name string
---@return string
function names.snake(name)
  return (name:gsub("(%l)(%u)", "%1_%2"):gsub("(%u)(%u%l)", "%1_%2"):lower())
end

--- Adds the camelCase spelling of every key beside it.
---@generic T: table
---@param methods T
---@return T methods the same table
function names.alias(methods)
  local added = {}
  for name, value in pairs(methods) do
    if type(name) == "string" and not name:find("^_") then
      added[names.camel(name)] = value
    end
  end
  for name, value in pairs(added) do
    methods[name] = value
  end
  return methods
end

local function list_of(known)
  local all = {}
  for name in pairs(known) do
    all[#all + 1] = name
  end
  table.sort(all)
  return table.concat(all, " ")
end

--- A table of options in either spelling as one in snake_case, unknown ones refused.
---@param context string whose options they are, for the message: "lumo.connect"
---@param given table|nil
---@param known table<string, any> what it may have
---@return any options a table
function names.options(context, given, known)
  local options = {}
  if given == nil then return options end
  if type(given) ~= "table" then
    raise("E_ARGUMENT", "%s takes a table of options, got %s", context, type(given))
  end
  for key, value in pairs(given) do
    local name = type(key) == "string" and names.snake(key) or tostring(key)
    if not known[name] then
      raise("E_ARGUMENT", "%s has no option \"%s\"; it has: %s", context, tostring(key), list_of(known))
    end
    options[name] = value
  end
  return options
end

return names
