--- Values and errors as text, for who sits at a terminal.
local core = require "lumo.core"
local registry = require "lumo.registry"

local show = {}

local MOST = 20 -- entries of a table that are shown

local text_of

local function text_of_table(value, depth)
  if depth > 2 then return "{ … }" end
  local parts, count = {}, 0
  for i, one in ipairs(value) do
    count = i
    if i <= MOST then parts[i] = text_of(one, depth + 1) end
  end
  if count > MOST then parts[#parts + 1] = ("… %d more"):format(count - MOST) end
  local keys = {}
  for key in pairs(value) do
    local is_listed = type(key) == "number" and key >= 1 and key <= count and key % 1 == 0
    if not is_listed then keys[#keys + 1] = key end
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    parts[#parts + 1] = ("%s = %s"):format(tostring(key), text_of(value[key], depth + 1))
  end
  local separator = depth == 0 and count > 1 and ",\n  " or ", "
  return #parts == 0 and "{}" or ("{ %s }"):format(table.concat(parts, separator))
end

-- A value as text: records with their attributes, tables with a part of their entries.
function text_of(value, depth)
  if registry.of(value) then return tostring(value) end
  if core.record_is(value) then return ("%s %s"):format(tostring(value), value:to_json()) end
  if type(value) == "string" then return depth > 0 and ("%q"):format(value) or value end
  local metatable = type(value) == "table" and getmetatable(value)
  if type(value) ~= "table" or type(metatable) == "table" and metatable.__tostring then return tostring(value) end
  return text_of_table(value, depth)
end

--- A value as text: records with their attributes, tables with a part of their entries.
---@param value any
---@return string
function show.value(value)
  return text_of(value, 0)
end

--- The text of an error that is a table, or nil.
local function text_of_error(err)
  local metatable = debug.getmetatable(err)
  if metatable and metatable.__tostring then return tostring(err) end
  local message = err.message
  return type(message) == "string" and message or text_of_table(err, 0)
end

--- What was raised as text, whatever it is: a table without text of its own by its message, else by its entries.
---@param err any
---@return string
function show.error(err)
  if err == nil then return "an error without a message (nil was raised)" end
  local ok, text = pcall(type(err) == "table" and text_of_error or tostring, err)
  if ok and type(text) == "string" then return text end
  return ("an error that has no text (%s)"):format(type(err))
end

return show
