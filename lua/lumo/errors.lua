--- Raising from Lua. The error objects themselves are made in C, in one place for both.
local core = require "lumo.core"

local errors = {}

--- Raises an error with a message made by string.format.
---@param code string "E_…"
---@param message string
---@param ... any
function errors.raise(code, message, ...)
  return core.raise(code, message:format(...))
end

--- Raises E_ARGUMENT for a method that was not called on what it belongs to.
---@param method string
---@param owner string "a record"
function errors.not_called_on(method, owner)
  return errors.raise("E_ARGUMENT", "%s is called on %s; was it called with a dot instead of a colon?",
    method, owner)
end

return errors
