--- Raising from Lua. The error objects themselves are made in C, in one place for both.
local core = require "lumo.core"

local errors = {}

local SHOWN = 80 -- bytes of a name in a message

local function cut(first, ...)
  if type(first) == "string" and #first > 4 * SHOWN then first = first:sub(1, SHOWN) .. "…" end
  if select("#", ...) == 0 then return first end
  return first, cut(...)
end

--- Raises an error with a message made by string.format; of very long texts in it only the beginning is shown.
---@param code string "E_…"
---@param message string
---@param ... any
function errors.raise(code, message, ...)
  return core.raise(code, message:format(cut(...)))
end

--- Raises E_ARGUMENT for a method that was not called on what it belongs to.
---@param method string
---@param owner string "a record"
function errors.not_called_on(method, owner)
  return errors.raise("E_ARGUMENT", "%s is called on %s; was it called with a dot instead of a colon?",
    method, owner)
end

local function with_traceback(err)
  return debug.traceback(tostring(err), 2)
end

local function give(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

--- Calls fn with the other arguments and gives its results; an error that escapes is raised again as its text
--- with the traceback, which every host can print. For handlers and timers of hosts that show errors only
--- when
--- they are strings.
---@param fn function
---@param ... any
---@return any
function errors.guard(fn, ...)
  if type(fn) ~= "function" then errors.raise("E_ARGUMENT", "guard needs a function, got %s", type(fn)) end
  return give(xpcall(fn, with_traceback, ...))
end

return errors
