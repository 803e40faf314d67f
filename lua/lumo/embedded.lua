--- A private MongoDB server: a replica set of one on a free loopback port, which ends with this process.
require "lumo" -- for who loads this module alone: errors then name the caller's line
local core = require "lumo.core"
local connection = require "lumo.connection"
local names = require "lumo.names"
local values = require "lumo.values"

local embedded = {}

local REPLICA_SET = "lumo"
local START_SECONDS = 60 -- a kept folder may have a journal to replay
local LOCK_SECONDS = 10 -- a server that is stopping has its folder for 5 s at most, and some to tidy up
local PORT_ATTEMPTS = 5
local EXIT_PORT_TAKEN = 48 -- mongod's exit status when it cannot listen

--- What the server is started with unless `args` names the same option. Few and small files: by default the
--- journal alone takes 300 MB.
local DEFAULTS = {
  { "--bind_ip", "127.0.0.1" },
  { "--nounixsocket" },
  { "--quiet" },
  { "--wiredTigerCacheSizeGB", "0.25" },
  { "--wiredTigerEngineConfigString", "log=(file_max=16MB)" },
  { "--oplogSize", "256" },
}

--- Options that decide where the server listens, keeps its data and writes its log, and whose child it is.
local OWN = {
  ["--port"] = true, ["--dbpath"] = true, ["--replSet"] = true, ["--logpath"] = true, ["--syslog"] = true,
  ["--fork"] = true, ["--config"] = true, ["-f"] = true, ["--shutdown"] = true,
}

local running = {} -- handles: kept here, servers live until they are stopped or the Lua state is closed

local function raise(code, message, ...)
  return core.raise(code, message:format(...))
end

----------------------------------------------------------------------------------------------------
-- Arguments

local TYPES = { path = "string", mongod = "string", args = "table" }

local function check_options(given)
  local options = names.options("embedded.start", given, TYPES)
  for name, value in pairs(options) do
    if type(value) ~= TYPES[name] or value == "" then
      raise("E_ARGUMENT", 'option "%s" of embedded.start must be a %s that is not empty', name, TYPES[name])
    end
  end
  return options
end

--- The names of the options in `args`: "--port" of "--port=1".
local function check_args(args)
  local given, count = {}, 0
  for _ in pairs(args) do
    count = count + 1
  end
  for i = 1, count do
    local arg = args[i]
    if type(arg) ~= "string" then
      raise("E_ARGUMENT", 'option "args" of embedded.start must be a list of strings')
    end
    local name = arg:match("^%-[^=]*")
    if OWN[name] then
      raise("E_ARGUMENT", 'option "%s" of mongod cannot be given to an embedded server: lumo sets it', name)
    elseif name then
      given[name] = true
    end
  end
  return given
end

--- There each worker would start a server of its own, and block its event loop meanwhile.
local function inside_nginx()
  local ngx = rawget(_G, "ngx")
  return type(ngx) == "table" and ngx.config ~= nil
end

local function find_program(option)
  local named = option or os.getenv("LUMO_MONGOD")
  if named and named ~= "" then
    if core.embedded_executable(named) then
      return named
    end
    raise("E_UNSUPPORTED", "%s is \"%s\", which is not a program that can be run",
      option and "option \"mongod\" of embedded.start" or "LUMO_MONGOD", named)
  end
  local places = {}
  for folder in (os.getenv("PATH") or ""):gmatch("[^:]+") do
    places[#places + 1] = folder .. "/mongod"
  end
  local home, cache = os.getenv("HOME"), os.getenv("XDG_CACHE_HOME")
  if cache and cache ~= "" or home then
    places[#places + 1] = (cache and cache ~= "" and cache or home .. "/.cache") .. "/lumo/bin/mongod"
  end
  for _, place in ipairs(places) do
    if core.embedded_executable(place) then
      return place
    end
  end
  raise("E_UNSUPPORTED", "no mongod was found on PATH nor as \"%s\": run script/setup to get one, " ..
    "or set LUMO_MONGOD to the path of one", places[#places] or "lumo/bin/mongod")
end

----------------------------------------------------------------------------------------------------
-- One try to start

--- Waits for a server that is stopping, not for one whose owner is alive.
local function open_folder(path)
  local deadline = os.time() + LOCK_SECONDS
  while true do
    local handle, place = core.embedded_open(path)
    if handle then
      return handle, place
    elseif place or os.time() > deadline then
      raise("E_ARGUMENT", 'the folder "%s" is in use by the embedded server of %s', path,
        place or "another process")
    end
    core.pause(20)
  end
end

local function command_line(settings, folder, port)
  local line = { settings.program, "--dbpath", folder, "--port", tostring(port), "--replSet", REPLICA_SET }
  for _, default in ipairs(DEFAULTS) do
    if not settings.given[default[1]] then
      for _, word in ipairs(default) do
        line[#line + 1] = word
      end
    end
  end
  for _, arg in ipairs(settings.args) do
    line[#line + 1] = arg
  end
  return line
end

local function read_log(folder)
  local file = io.open(folder .. "/mongod.log", "rb")
  if not file then
    return ""
  end
  local text = file:read("*a")
  file:close()
  return text or ""
end

--- The last lines of a log that matter: errors, and what was printed before the log began.
local function last_errors(text)
  local all, errors = {}, {}
  for line in text:gmatch("[^\n]+") do
    local severity, message = line:match('"s":"(%u)".-"msg":(.*)}')
    local short = (message or line):sub(1, 300)
    all[#all + 1] = short
    if not severity or severity == "E" or severity == "F" then
      errors[#errors + 1] = short
    end
  end
  local from = #errors > 0 and errors or all
  return #from > 0 and table.concat(from, "; ", math.max(1, #from - 4)) or "it printed nothing"
end

local function raise_ended(folder, how)
  raise("E_SERVER", "mongod ended at its start (%s): %s", how, last_errors(read_log(folder)))
end

--- Reads the server's own log: a port that answers may be somebody else's. False: the port has been taken.
local function wait_for_listening(handle, folder)
  local deadline = os.time() + START_SECONDS
  repeat
    local how, status = core.embedded_wait(handle, 10)
    if status == EXIT_PORT_TAKEN then
      return false
    elseif how then
      raise_ended(folder, how)
    elseif read_log(folder):find("[Ww]aiting for connections") then
      return true
    end
  until os.time() > deadline
  raise("E_TIMEOUT", "mongod was not ready after %d s: %s", START_SECONDS, last_errors(read_log(folder)))
end

----------------------------------------------------------------------------------------------------
-- The replica set

local NOT_INITIALIZED, ALREADY_INITIALIZED = 94, 23

---@param send fun(command: table, ...: any): any
local function initiate(send, host)
  local config = { _id = REPLICA_SET, members = { { _id = 0, host = host } } }
  local ok, err = pcall(send, { "replSetInitiate", config })
  -- A server that has not read its stored configuration yet says that it has none, but refuses a new one.
  ---@cast err lumo.Error
  if not ok and err.server_code ~= ALREADY_INITIALIZED then
    error(err, 0)
  end
end

--- A kept folder remembers the port of its last run, where nobody listens now: then only force is accepted.
---@param send fun(command: table, ...: any): any
local function configure(send, host)
  local ok, reply = pcall(send, { "replSetGetConfig", 1 })
  if not ok then
    local failure = reply --[[@as lumo.Error]]
    if failure.server_code ~= NOT_INITIALIZED then
      error(reply, 0)
    end
    return initiate(send, host)
  end
  local config = reply.config
  if config.members[1].host ~= host or config.members[2] then
    config.members[1].host = host
    config.members = { config.members[1] }
    config.version = config.version + 1
    send({ "replSetReconfig", config }, { "force", true })
  end
end

local function make_primary(host)
  local conn = connection.open("mongodb://" .. host .. "/admin?directConnection=true")
  local function send(...)
    return conn:command(values.ordered { ... })
  end
  local ok, err = pcall(function()
    local deadline = os.time() + START_SECONDS
    while not send({ "hello", 1 }).isWritablePrimary do
      if os.time() > deadline then
        raise("E_TIMEOUT", "the embedded server did not become writable in %d s", START_SECONDS)
      end
      configure(send, host)
      core.pause(5)
    end
  end)
  conn:close()
  return ok, err
end

----------------------------------------------------------------------------------------------------

local function start_in(folder, handle, settings)
  local port = core.embedded_port()
  local pid = core.embedded_run(handle, command_line(settings, folder, port))
  if not wait_for_listening(handle, folder) then
    return nil, last_errors(read_log(folder))
  end
  local ok, err = make_primary("127.0.0.1:" .. port)
  local how = not ok and core.embedded_wait(handle, 100)
  if how then
    raise_ended(folder, how)
  elseif not ok then
    error(err, 0)
  end
  local uri = ("mongodb://127.0.0.1:%d/lumo?replicaSet=%s"):format(port, REPLICA_SET)
  return { uri = uri, port = port, pid = pid, path = folder }
end

--- The started server and its handle, or nil and why when its port was taken by somebody else meanwhile.
local function launch(settings)
  local handle, folder = open_folder(settings.path)
  local ok, server, reason = pcall(start_in, folder, handle, settings)
  if ok and server then
    return server, handle
  end
  core.embedded_close(handle)
  if not ok then
    error(server, 0)
  end
  return nil, reason
end

---@class lumo.EmbeddedServer
---@field uri string for this and for other processes
---@field port integer on 127.0.0.1
---@field pid integer of mongod
---@field path string the folder with its data, absolute
---@field stop fun() stops it and waits for its end; a second call does nothing
---@field wait fun(ms: integer): string|nil waits so long for it to end by itself: how it ended, nil while it runs

--- Starts a server and waits until it is writable (about a third of a second). It stops by `stop()`, when the
--- Lua state is closed, and when this process ends in whatever way; a temporary folder goes with it. A forked
--- child never stops it.
---
--- Options: `path`, the folder for the data, made when missing and kept (default: a temporary one); `args`,
--- more
--- options for mongod; `mongod`, its path (default: LUMO_MONGOD, then PATH, then the user's cache).
---
--- Raises E_UNSUPPORTED (no mongod that can run, or inside nginx), E_ARGUMENT (an option; a folder that
--- cannot be
--- used or is in use), E_SERVER (mongod ended at its start: the message has its last errors), E_TIMEOUT.
---@param options? { path?: string, args?: string[], mongod?: string }
---@return lumo.EmbeddedServer
function embedded.start(options)
  options = check_options(options)
  if inside_nginx() then
    raise("E_UNSUPPORTED",
      "an embedded server cannot be started inside nginx: start one outside and connect to its uri")
  end
  local args = options.args or {}
  local settings = {
    path = options.path, args = args, given = check_args(args), program = find_program(options.mongod),
  }
  local server, handle
  for _ = 1, PORT_ATTEMPTS do
    server, handle = launch(settings)
    if server then
      break
    end
  end
  if not server then
    raise("E_SERVER", "mongod could not listen on any of %d ports: %s", PORT_ATTEMPTS, handle)
  end
  running[handle] = true
  function server.stop()
    if running[handle] and not core.embedded_close(handle) then
      raise("E_ARGUMENT", "an embedded server can be stopped only by the process that started it")
    end
    running[handle] = nil
  end
  function server.wait(ms)
    if type(ms) ~= "number" or ms < 0 or ms > 2147483647 or ms % 1 ~= 0 then
      raise("E_ARGUMENT", "wait takes a whole number of milliseconds")
    end
    if not running[handle] then return "stopped" end
    return (core.embedded_wait(handle, ms))
  end
  return server
end

return embedded
