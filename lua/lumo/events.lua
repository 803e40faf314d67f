--- What goes on between lumo and its servers, for the developer of an app: every command and every failure, slow
--- commands, and what loads one by one or scans a collection. Nothing of it costs anything while nobody listens.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local names = require "lumo.names"
local place_of_caller = require "lumo.place"
local registry = require "lumo.registry"
local raise = require("lumo.errors").raise

local events = {}

---@class lumo.CommandEvent
---@field name string the command: "find"
---@field collection string|nil none of commitTransaction and abortTransaction
---@field op string what lumo was doing: "find", "load", "attach"; "transaction" of the end of one
---@field model string|nil the model of the collection
---@field relation string|nil the relation whose pivot the collection is: "Post.tags"
---@field connection string|nil the connection's name
---@field duration_ms number
---@field failed boolean
---@field outcome "not_applied"|"applied"|"unknown"|nil of a write that failed
---@field place string|nil where in the app it was called: "app.lua:12"

---@class lumo.ErrorEvent
---@field error lumo.Error
---@field op string
---@field connection string|nil
---@field place string|nil

local listeners = { command = {}, connect = {}, error = {} }

--- Whether anybody listens to what plans do.
events.is_watching = false

local function refresh()
  events.is_watching = #listeners.command > 0 or #listeners.error > 0
end

-- Coroutines in which a listener runs: what it sends itself is no event.
local inside = setmetatable({}, { __mode = "k" })
local MAIN = {}

local function emit(name, event)
  local key = coroutine.running() or MAIN
  if inside[key] then return end
  inside[key] = true
  local ok, err = true, nil
  local current = {}
  for i, fn in ipairs(listeners[name]) do current[i] = fn end
  for _, fn in ipairs(current) do
    if ok then ok, err = pcall(fn, event) end
  end
  inside[key] = nil
  if not ok then error(err, 0) end
end

--- Calls fn with what happens: "command" with every command that has been answered or has failed, "error" with every
--- failure of an operation, "connect" with every connection that lumo.connect makes. fn runs where the operation was
--- called, after it; what fn raises comes out of that call. Sends nothing.
---@param name "command"|"error"|"connect"
---@param fn fun(event: lumo.CommandEvent|lumo.ErrorEvent|lumo.Connection)
---@return fun() off ends it
function events.on(name, fn)
  local list = type(name) == "string" and listeners[name]
  if not list then
    raise("E_ARGUMENT", "lumo.on takes \"command\", \"connect\" or \"error\", got %s", tostring(name))
  end
  if type(fn) ~= "function" then raise("E_ARGUMENT", "lumo.on needs a function, got %s", type(fn)) end
  list[#list + 1] = fn
  refresh()
  return function()
    for i, one in ipairs(list) do
      if one == fn then
        table.remove(list, i)
        break
      end
    end
    refresh()
  end
end

--- Tells of a connection that has been made.
---@param connection lumo.Connection
function events.connected(connection)
  if #listeners.connect > 0 then emit("connect", connection) end
end

-- Where and what --------------------------------------------------------------------------------------------

--- The model that a collection is of, and the relation whose pivot it is.
local function owner_of(collection)
  local model, relation
  for _, state in ipairs(registry.all()) do
    if state.collection == collection then model = model or state.name end
    for name, one in pairs(state.relations) do
      local full = ("%s.%s"):format(state.name, name)
      local is_pivot = one.booted and one.pivot_table == collection
      if is_pivot and (not relation or full < relation) then relation = full end
    end
  end
  return model, relation
end

--- Before a plan that is watched is run.
---@param plan userdata
---@return string|nil place
function events.before(plan)
  core.plan_watch(plan)
  return place_of_caller()
end

--- Tells of commands, and of the failure of what sent them.
local function tell_commands(commands, op, connection, place, err)
  for _, event in ipairs(commands) do
    event.op, event.connection, event.place = op, connection.name, place
    if event.collection then event.model, event.relation = owner_of(event.collection) end
    if event.failed and core.is_error(err) then event.outcome = err.outcome end
    emit("command", names.alias(event))
  end
  if err ~= nil then emit("error", { error = err, op = op, connection = connection.name, place = place }) end
end

--- After it: tells what it has sent, and of its failure.
---@param client lumo.Client
---@param plan userdata
---@param place string|nil
---@param err any nil when it went well
function events.after(client, plan, place, err)
  local commands, op = core.plan_watched(plan)
  tell_commands(commands, op, ambient.connection(client), place, err)
end

--- Before a transaction is ended: what its end sends will be told.
---@param trx lumo.Transaction
---@return fun(err: any)|nil ended takes that down, with the error of a commit that failed; nil while nobody listens
---@return fun()|nil told tells it, once the state of everything is as it will be
function events.ending(trx)
  if not events.is_watching then return nil end
  local place, session, commands, failure = place_of_caller(), trx.session, nil, nil
  core.session_watch(session)
  local function ended(err)
    local ok, list = pcall(core.session_watched, session) -- without memory nobody is told, and the end goes on
    commands, failure = ok and list or {}, err
  end
  return ended, function() tell_commands(commands, "transaction", trx.connection, place, failure) end
end

-- Slow commands ---------------------------------------------------------------------------------------------

local function write_slow(event)
  io.stderr:write(("lumo: %.0f ms %s%s (%s) at %s\n"):format(event.duration_ms, event.name,
    event.collection and " " .. event.collection or "", event.op, event.place or "?"))
end

local SLOW_OPTIONS = { ms = true, fn = true }

--- Tells of every command that takes so long: fn gets its event; without fn a line goes to stderr, with the place in
--- the app that sent it. Sends nothing.
---@param options { ms: number, fn: fun(event: lumo.CommandEvent)? }
---@return fun() off ends it
function events.slow_log(options)
  options = names.options("slow_log", options or {}, SLOW_OPTIONS)
  if type(options.ms) ~= "number" or options.ms ~= options.ms or options.ms < 0 then
    raise("E_ARGUMENT", "slow_log needs \"ms\", a number from 0")
  end
  if options.fn ~= nil and type(options.fn) ~= "function" then
    raise("E_ARGUMENT", "option \"fn\" of slow_log is a function, got %s", type(options.fn))
  end
  local tell = options.fn or write_slow
  return events.on("command", function(event)
    if event.duration_ms >= options.ms then tell(event) end
  end)
end

-- Warnings --------------------------------------------------------------------------------------------------

local MODES = { off = true, warn = true, raise = true }
local ONE_BY_ONE = 5 -- loads of one relation for records of one read

local lazy_loading, on_warning = "off", nil

local function warn(message)
  if on_warning then return on_warning(message) end
  io.stderr:write("lumo: ", message, "\n")
end

local WARN_OPTIONS = { lazy_loading = true, fn = true }

--- Says what lumo does when a relation is loaded for one record after the other of a list that was read at once, where
--- a preload would take two commands: "warn" writes a line to stderr, or calls fn with it; "raise" raises E_ARGUMENT;
--- "off", as it is at first, does nothing. Holds for records that are read from then on. Sends nothing.
---@param options { lazy_loading: "off"|"warn"|"raise", fn: fun(message: string)? }
function events.warn_about(options)
  options = names.options("warn_about", options or {}, WARN_OPTIONS)
  if not MODES[options.lazy_loading] then
    raise("E_ARGUMENT", "option \"lazy_loading\" of warn_about is \"off\", \"warn\" or \"raise\"")
  end
  if options.fn ~= nil and type(options.fn) ~= "function" then
    raise("E_ARGUMENT", "option \"fn\" of warn_about is a function, got %s", type(options.fn))
  end
  lazy_loading, on_warning = options.lazy_loading, options.fn
end

--- What records of one read have in common for that: nil while nobody wants to know.
---@return table|nil
function events.batch()
  return lazy_loading ~= "off" and {} or nil
end

--- A relation is read for one parent.
---@param relation lumo.Relation
---@param parent lumo.Record
function events.loads(relation, parent)
  if lazy_loading == "off" then return end
  local side = core.record_side(parent)
  local batch = side and side.batch
  if not batch then return end
  local parents = batch[relation] or { count = 0 }
  batch[relation] = parents
  if parents[parent] then return end
  parents[parent], parents.count = true, parents.count + 1
  if parents.count ~= ONE_BY_ONE then return end
  local message = ("\"%s.%s\" is loaded for one record after the other at %s: preload it, or lumo.load the list")
    :format(relation.state.name, relation.relation_name, place_of_caller() or "?")
  if lazy_loading == "raise" then raise("E_ARGUMENT", "%s", message) end
  warn(message)
end

return events
