---@meta lumo.core

-- What editors are told of the part that is written in C; nothing loads this file. Its functions serve lumo's own files
-- alone, which tell their types in what they make of them.

-- luacheck: ignore 212

---@class lumo.core
---@field [string] any
local core = {}

--- Whether a value is an error object of lumo.
---@param value any
---@return boolean
---@return_cast value lumo.Error
function core.is_error(value) end

--- Raises an error object.
---@param code string "E_…"
---@param message string
---@param fields table|nil of the object, beside code and message
---@return never
function core.raise(code, message, fields) end

return core
