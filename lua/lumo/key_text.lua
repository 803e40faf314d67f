--- A value as a text, the same for equal values and for those alone, whether they were assigned or read: so that Lua
--- can look rows up by their keys.
local core = require "lumo.core"

---@param value any
---@return string
local function key_text(value)
  local kind = type(value)
  if kind == "table" then return "table:" .. core.bson_encode { value = value } end
  if kind ~= "number" then return kind .. ":" .. tostring(value) end
  return (math.type and math.type(value) == "integer" and "number:%d" or "number:%.17g"):format(value)
end

return key_text
