--- The functions prepare and consume of columns, where values pass that no record holds: bulk updates, plucked
--- values, the attributes of pairs. What records do with them is in C.
local core = require "lumo.core"

local accessors = {}

-- What was given, by what was made of it.
local givens = setmetatable({}, { __mode = "k" })

--- One value as it is to be stored; nil and lumo.null are as they are.
local function prepare(column, value)
  if not column.prepare or value == nil or value == core.null then return value end
  local prepared = core.column_call(column.prepare, value, column.name)
  if prepared == nil then return core.null end
  return prepared
end

--- Attributes as they are to be stored: the table given where no column of the model prepares any.
---@param state lumo.State|nil
---@param attributes table<string, any>
---@return table<string, any>
function accessors.prepared(state, attributes)
  if not (state and state.prepares) or type(attributes) ~= "table" then return attributes end
  local result = setmetatable({}, debug.getmetatable(attributes))
  for name, value in next, attributes do
    local column = state.by_attribute[name]
    rawset(result, name, column and prepare(column, value) or value)
  end
  givens[result] = attributes
  return result
end

--- The attributes as they were given, of what accessors.prepared has made of them.
function accessors.given(attributes)
  return givens[attributes] or attributes
end

--- The same for the attributes of pairs, in the forms that attach and sync take.
---@param state lumo.State|nil the pivot model's
---@param value any ids, a map from ids to attributes, or a list of { id =, pivot_data = }
---@param form string "pivot_list" for the last
---@return any
function accessors.prepared_pairs(state, value, form)
  if not (state and state.prepares) or type(value) ~= "table" then return value end
  local result = setmetatable({}, debug.getmetatable(value))
  for key, entry in next, value do
    if type(entry) ~= "table" then
      rawset(result, key, entry)
    elseif form ~= "pivot_list" then
      rawset(result, key, accessors.prepared(state, entry))
    else
      local copy = {}
      for name, one in next, entry do
        local is_data = name == "pivot_data" or name == "pivotData"
        copy[name] = is_data and accessors.prepared(state, one) or one
      end
      rawset(result, key, copy)
    end
  end
  return result
end

--- One stored value of a column as its attribute.
---@param column table|nil a column's definition
---@param value any
---@return any
function accessors.consumed(column, value)
  if not (column and column.consume) or value == nil or value == core.null then return value end
  return (core.column_call(column.consume, value, column.name))
end

return accessors
