--- The two doors for errors. Everything raises; on a connection that was opened with `errors = "return"` what the
--- world has to answer for (the server, the network, the data) comes back as `nil, err` from the methods that the
--- program called. This is the only place that knows: all other files raise.
local ambient = require "lumo.ambient"
local core = require "lumo.core"

local doors = {}

local is_used = false -- no such connection has been opened: every door is raising, and costs nothing

--- Tells that there is a connection that returns errors.
function doors.open()
  is_used = true
end

-- Which functions on the stack are doors, and which are calls of the program's own code from inside of one.
local DOORS, BODIES = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })

--- Whether the caller's caller was called by lumo itself, or by a hook or callback in an operation: errors are
--- raised there, as they end it.
local function is_inside()
  local level = 3
  local info = debug.getinfo(level, "f")
  while info and not BODIES[info.func] do
    if DOORS[info.func] then return true end
    level = level + 1
    info = debug.getinfo(level, "f")
  end
  return false
end

local function pack(...)
  return { n = select("#", ...), ... }
end

local unpack = table.unpack or unpack

--- Whether the connection of a call returns errors. Who cannot say has made the mistake that is about to be raised.
local function returns(client_of, ...)
  local ok, connection = pcall(function(...) return ambient.connection(client_of(...)) end, ...)
  return ok and connection.errors == "return"
end

--- A mistake of the program is raised through both doors, as is what is no error of lumo's.
local function is_returned(err)
  return core.is_error(err) and not core.is_misuse(err)
end

--- An iterator behind a door: its error is a last turn of the loop with false and the error, so that no loop ends
--- as if it had seen everything.
local function iterator(next_one)
  local is_over = false
  local function through(...)
    if is_over then return nil end
    local results = pack(pcall(next_one, ...))
    if results[1] then return unpack(results, 2, results.n) end
    is_over = true
    if not is_returned(results[2]) then error(results[2], 0) end
    return false, results[2]
  end
  DOORS[through] = true
  return through
end

--- The function behind its door.
---@param fn function
---@param client_of fun(...): lumo.Client|nil of the arguments
---@param may_iterate boolean|nil whether a function that it gives is an iterator
local function door(fn, client_of, may_iterate)
  local function through(...)
    if not is_used then return fn(...) end
    local results = pack(pcall(fn, ...))
    if results[1] then
      local iterates = may_iterate and type(results[2]) == "function" and not is_inside() and returns(client_of, ...)
      if iterates then return iterator(results[2]) end
      return unpack(results, 2, results.n)
    end
    local err = results[2]
    if is_returned(err) and not is_inside() and returns(client_of, ...) then return nil, err end
    return error(err, 0)
  end
  DOORS[through] = true
  return through
end

--- The body of a transaction: the program's own code, for which the doors are as outside. That it returns nil and
--- an error is as good as raising it.
local function body(fn)
  local function call(...)
    local results = pack(fn(...))
    if results[1] == nil and core.is_error(results[2]) then error(results[2], 0) end
    return unpack(results, 1, results.n)
  end
  BODIES[call] = true
  return call
end

--- A door of what runs a function of the program's, its first or second argument.
local function running(fn, client_of)
  local through = door(fn, client_of)
  return function(first, second, ...)
    if is_used and returns(client_of, first, second, ...) then
      if type(first) == "function" then
        first = body(first)
      elseif type(second) == "function" then
        second = body(second)
      end
    end
    return through(first, second, ...)
  end
end

--- A door of what gives an iterator where it is asked for one.
local function may_iterate(fn, client_of)
  return door(fn, client_of, true)
end

--- A door of what gives an iterator.
local function iterating(fn, client_of)
  local function through(...)
    if not is_used or is_inside() or not returns(client_of, ...) then return fn(...) end
    local results = pack(pcall(fn, ...))
    if results[1] and type(results[2]) == "function" then
      return iterator(results[2]), unpack(results, 3, results.n)
    end
    if results[1] then return unpack(results, 2, results.n) end
    local err = results[2]
    if not is_returned(err) then error(err, 0) end
    return iterator(function() error(err, 0) end)
  end
  DOORS[through] = true
  return through
end

local WITHOUT = setmetatable({}, { __mode = "k" })

--- Says of a function that it needs no door: it sends nothing, runs no code of the program's, and all that it raises
--- are the program's mistakes.
---@param fn function
---@return function fn
function doors.without(fn)
  WITHOUT[fn] = true
  return fn
end

local OTHERS = { transaction = running, run = running, each = iterating, aggregate = may_iterate }

--- Puts doors before all functions of a table of methods that Lua has made: those in C send nothing.
---@param methods table
---@param client_of fun(...): lumo.Client|nil
function doors.wrap(methods, client_of)
  local made = {}
  for name, fn in pairs(methods) do
    if type(fn) == "function" and not WITHOUT[fn] and debug.getinfo(fn, "S").what ~= "C" and name:sub(1, 2) ~= "__" then
      made[fn] = made[fn] or (OTHERS[name] or door)(fn, client_of)
    end
  end
  for name, fn in pairs(methods) do
    methods[name] = made[fn] or fn
  end
end

return doors
