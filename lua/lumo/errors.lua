--- Raising from Lua. The error objects themselves are made in C, in one place for both.
local core = require "lumo.core"

---@class lumo.Error what lumo raises; `tostring` gives code and message
---@field code string "E_…"
---@field message string without values of documents, credentials and addresses
---@field op string|nil what was being done: "insert", "sync"
---@field model string|nil
---@field attribute string|nil the path of the value that was refused
---@field key string|nil of E_DUPLICATE_KEY: the fields of the index
---@field value any of E_DUPLICATE_KEY: the values that were refused
---@field ns string|nil database and collection
---@field labels string[]|nil the server's
---@field retryable boolean|nil the same call may succeed later
---@field outcome "not_applied"|"applied"|"unknown"|nil of a write
---@field server_code integer|nil
---@field cause string|nil the server's own words, which may hold values
---@field where string|nil of misuse: the caller's file and line
---@field errors table[]|nil of E_VALIDATION: all failures

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
---@return never
function errors.raise(code, message, ...)
  return core.raise(code, message:format(cut(...)))
end

--- Raises E_ARGUMENT for a method that was not called on what it belongs to.
---@param method string
---@param owner string "a record"
---@return never
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
