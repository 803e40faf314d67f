--- What goes on between lumo and its servers, for the developer of an app: every command and every failure, slow
--- commands, and what loads one by one or scans a collection. Nothing of it costs anything while nobody listens.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local explain = require "lumo.explain"
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

-- What warn_about says: "off", "warn" or "raise", and to whom.
local modes, tellers = { lazy_loading = "off", collection_scans = "off" }, {}

local MAIN = {}

local function this_coroutine()
  return coroutine.running() or MAIN
end

-- For each coroutine in which an explanation is made: { verbosity =, dry =, commands = { … } }.
local explaining = setmetatable({}, { __mode = "k" })

-- For each coroutine the innermost of the calls of count_commands that it is in: { commands = { … }, outer = the next
-- one, inside = whether a listener has made it }.
local counting = setmetatable({}, { __mode = "k" })

local is_listening = false

--- Whether anybody wants to know what plans do.
events.is_watching = false

local function refresh()
  is_listening = #listeners.command > 0 or #listeners.error > 0
  events.is_watching = is_listening or next(explaining) ~= nil or next(counting) ~= nil
    or modes.collection_scans ~= "off"
end

-- Coroutines in which a listener runs: what it sends itself is no event.
local inside = setmetatable({}, { __mode = "k" })

--- Calls functions, one after the other until one raises.
local function call(list, event)
  local key = this_coroutine()
  if inside[key] then return end
  inside[key] = true
  local ok, err = true, nil
  for _, fn in ipairs(list) do
    if ok then ok, err = pcall(fn, event) end
  end
  inside[key] = nil
  if not ok then error(err, 0) end
end

local function emit(name, event)
  local current = {}
  for i, fn in ipairs(listeners[name]) do current[i] = fn end
  call(current, event)
end

--- Calls fn with what happens: "command" with every command that has been answered or has failed, "error" with every
--- failure of an operation, "connect" with every connection that lumo.connect makes. fn runs where the operation was
--- called, after it; what fn raises comes out of that call. Sends nothing.
---@param name "command"|"error"|"connect"
---@param fn fun(event: lumo.CommandEvent|lumo.ErrorEvent|lumo.Connection)
---@return fun() off ends it
function events.on(name, fn)
  local list = type(name) == "string" and listeners[name] --[[@as function[]|nil]]
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

-- Plans -----------------------------------------------------------------------------------------------------

--- What this coroutine has in a table by coroutine, put there by a call of fn. A coroutine that was ended in the middle
--- of one may be used again.
local function mine(by_coroutine, fn)
  local key = this_coroutine()
  if by_coroutine[key] and not ambient.is_called(fn) then by_coroutine[key] = nil end
  if next(by_coroutine) == nil then refresh() end
  return by_coroutine[key]
end

--- Whether a coroutine waits for one that it has resumed, and so for this one.
local function is_resuming(coroutine_or_main)
  return coroutine_or_main == MAIN or coroutine.status(coroutine_or_main) == "normal"
end

--- The innermost calls of count_commands that this coroutine is in, by coroutine: its own, and those of what resumed
--- it.
local function counters()
  local key, found = this_coroutine(), {}
  found[key] = mine(counting, events.count_commands)
  for other, counter in pairs(counting) do
    if other ~= key and is_resuming(other) then found[other] = counter end
  end
  return found
end

--- Adds an event to the lists of all these calls. What a listener sends is for those that the listener itself has made.
local function count(event)
  for key, counter in pairs(counters()) do
    while counter do
      if counter.inside == inside[key] then table.insert(counter.commands, event) end
      counter = counter.outer
    end
  end
end

--- Tells of commands, and of the failure of what sent them.
local function tell_commands(commands, op, connection, place, err)
  for _, event in ipairs(commands) do
    event.op, event.connection, event.place = op, connection.name, place
    if event.collection then event.model, event.relation = registry.owner_of(event.collection) end
    if event.failed and core.is_error(err) then event.outcome = err.outcome end
    count(names.alias(event))
  end
  for _, event in ipairs(commands) do emit("command", event) end
  if err ~= nil then emit("error", { error = err, op = op, connection = connection.name, place = place }) end
end

local told = {} -- warnings of scans that have been given

--- Warns of commands that have scanned a collection, or refuses the one that was to.
local function tell_scans(commands, place, refused)
  for _, command in ipairs(commands) do
    local whose = command.relation or command.model or command.collection
    if refused then
      core.raise("E_ARGUMENT", ("%s (%s)"):format(command.text, whose),
        { model = command.model, outcome = refused.outcome })
    end
    local message = ("%s (%s at %s)"):format(command.text, whose, place or "?")
    if not told[message] then
      told[message] = true
      events.warn("collection_scans", message)
    end
  end
end

--- Whether somebody wants to know of the commands that this coroutine sends.
local function is_told()
  return is_listening or next(counters()) ~= nil
end

--- Before a plan that is watched is run.
---@param plan userdata
---@return table watch for events.after
function events.before(plan)
  local watch = { explanation = mine(explaining, events.explain) }
  if watch.explanation then
    core.plan_inspect(plan, watch.explanation.verbosity, watch.explanation.dry)
  elseif modes.collection_scans ~= "off" then
    watch.scans = modes.collection_scans
    core.plan_inspect(plan, nil, false, watch.scans == "raise")
  end
  if is_told() then
    core.plan_watch(plan)
    watch.place = place_of_caller()
  end
  return watch
end

--- After it: tells what it has sent, and of its failure.
---@param client lumo.Client
---@param plan userdata
---@param watch table
---@param err any nil when it went well
function events.after(client, plan, watch, err)
  local commands, op = core.plan_watched(plan)
  local inspects = op and (watch.explanation or watch.scans)
  local inspected = inspects and explain.commands(core.plan_inspected(plan), op) or {}
  local refused = watch.scans == "raise" and inspected[1] and err
  op = op or core.is_error(err) and err.op -- of a plan that a thread was left with
  tell_commands(commands, op, ambient.connection(client), watch.place, not refused and err or nil)
  if watch.scans then
    tell_scans(inspected, inspected[1] and place_of_caller(), refused)
  elseif watch.explanation then
    local list = watch.explanation.commands
    for _, command in ipairs(inspected) do list[#list + 1] = command end
  end
end

local function leave_explaining(key, before, ok, ...)
  explaining[key] = before
  refresh()
  if not ok then error((...), 0) end
end

--- Runs fn and has the server explain the commands that it sends in this coroutine, before each is sent. A dry
--- one does not send what reads.
---@param verbosity "queryPlanner"|"executionStats"|"allPlansExecution"
---@param fn function
---@return lumo.Explanation
function events.explain(verbosity, dry, fn)
  local key, explanation = this_coroutine(), { verbosity = verbosity, dry = dry, commands = {} }
  local before = explaining[key]
  explaining[key] = explanation
  refresh()
  leave_explaining(key, before, pcall(fn))
  return explain.new(explanation.commands)
end

--- Before a transaction is ended: what its end sends will be told.
---@param trx lumo.Transaction
---@return fun(err: any)|nil ended takes that down, with the error of a commit that failed; nil when nobody is told
---@return fun()|nil told tells it, once the state of everything is as it will be
function events.ending(trx)
  if not is_told() then return nil end
  local place, session, commands, failure = place_of_caller(), trx.session, nil, nil
  core.session_watch(session)
  local function ended(err)
    local ok, list = pcall(core.session_watched, session) -- without memory nobody is told, and the end goes on
    commands, failure = ok and list or {}, err
  end
  return ended, function() tell_commands(commands, "transaction", trx.connection, place, failure) end
end

-- Counting --------------------------------------------------------------------------------------------------

--- Runs fn and gives how many commands it sent (commits and getMores included, handshakes and monitoring not)
--- and a list of them. Counted is what this coroutine sends, its preloads that run at once, and what coroutines send
--- that fn resumes itself; not what an event loop or nginx runs meanwhile. Raises what fn raises. Sends nothing itself.
---@param fn function
---@return integer count
---@return lumo.CommandEvent[] commands
function events.count_commands(fn)
  if type(fn) ~= "function" then
    raise("E_ARGUMENT", "count_commands needs a function, got %s", type(fn))
  end
  local key, outer = this_coroutine(), mine(counting, events.count_commands)
  local counter = { commands = {}, outer = outer, inside = inside[key] }
  counting[key] = counter
  refresh()
  local ok, err = pcall(fn)
  counting[key] = outer
  refresh()
  if not ok then error(err, 0) end
  return #counter.commands, counter.commands
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

--- Gives a warning of a kind to who wants it.
function events.warn(kind, message)
  if tellers[kind] then return call({ tellers[kind] }, message) end
  io.stderr:write("lumo: ", message, "\n")
end

local WARN_OPTIONS = { lazy_loading = true, collection_scans = true, fn = true }

--- What lumo does about two mistakes: "warn" writes a line to stderr, or calls fn with it; "raise" raises E_ARGUMENT;
--- "off", as it is at first, does nothing. What a call does not name stays as it is.
---
--- lazy_loading: a relation is loaded for one record after the other of a list that was read at once, where a preload
--- would take two commands. Holds for records that are read from then on. Sends nothing.
---
--- collection_scans: a command that has conditions reads the whole collection, or one that it looks up, for want of an
--- index. With "raise" it is not sent; a warning is given once for each place in the app. Commands: an explain before
--- each command of a shape that is new, or is known to scan; none for lumo.count_commands and lumo.on.
---@param options { lazy_loading: string?, collection_scans: string?, fn: fun(message: string)? } "off", "warn", "raise"
function events.warn_about(options)
  options = names.options("warn_about", options or {}, WARN_OPTIONS)
  if options.lazy_loading == nil and options.collection_scans == nil then
    raise("E_ARGUMENT", "warn_about needs \"lazy_loading\" or \"collection_scans\"")
  end
  for kind in pairs(modes) do
    if options[kind] ~= nil and not MODES[options[kind]] then
      raise("E_ARGUMENT", "option \"%s\" of warn_about is \"off\", \"warn\" or \"raise\"", kind)
    end
  end
  if options.fn ~= nil and type(options.fn) ~= "function" then
    raise("E_ARGUMENT", "option \"fn\" of warn_about is a function, got %s", type(options.fn))
  end
  for kind in pairs(modes) do
    if options[kind] ~= nil then modes[kind], tellers[kind] = options[kind], options.fn end
  end
  if options.collection_scans then
    told = {}
    core.inspected_forget()
  end
  refresh()
end

--- What records of one read have in common for that: nil while nobody wants to know.
---@return table|nil
function events.batch()
  return modes.lazy_loading ~= "off" and {} or nil
end

--- A relation is read for one parent.
---@param relation lumo.Relation
---@param parent lumo.Record
function events.loads(relation, parent)
  if modes.lazy_loading == "off" then return end
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
  if modes.lazy_loading == "raise" then raise("E_ARGUMENT", "%s", message) end
  events.warn("lazy_loading", message)
end

return events
