--- Connections: opened by URI, known by name, and remembered by number in the records that came through them.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local doors = require "lumo.doors"
local errors = require "lumo.errors"
local events = require "lumo.events"
local names = require "lumo.names"
local policies = require "lumo.policy"
local run = require "lumo.run"
local runtime = require "lumo.runtime"
local raise = errors.raise
local not_called_on = errors.not_called_on

local connection = {}

local by_name, by_number = {}, {}

---@class lumo.Connection
---@field name string|nil the name it was registered under
---@field number integer its number in this process
---@field database string
---@field handle userdata|nil until it is closed
---@field errors "raise"|"return"|nil
---@field embedded table|nil the server that was started for it, see lumo.embedded
local Connection = {}

---@class lumo.ConnectOptions
---@field name string|nil "default" when nil
---@field database string|nil overrides the URI's
---@field pool_size integer|nil connections at most, 32 when nil
---@field timeout_ms integer|nil the longest wait for a server, an answer or a free connection, 10000 when nil
---@field app_name string|nil shown by the server's log
---@field errors "raise"|"return"|nil "return": what sends gives nil and the error where others raise, see doors.lua
---@field read_preference lumo.ReadPreference|nil these three override the URI's
---@field read_concern lumo.ReadConcern|nil
---@field write_concern lumo.WriteConcern|nil

local CONNECT_OPTIONS = {
  name = true, database = true, pool_size = true, timeout_ms = true, app_name = true, errors = true,
  read_preference = true, read_concern = true, write_concern = true,
}

local function check_options(options)
  for _, name in ipairs { "pool_size", "timeout_ms" } do
    local value = options[name]
    if value ~= nil and (type(value) ~= "number" or value < 1 or value > 2147483647 or value % 1 ~= 0) then
      raise("E_ARGUMENT", "option \"%s\" of lumo.connect is a whole number from 1", name)
    end
  end
  for _, name in ipairs { "name", "database", "app_name" } do
    if options[name] ~= nil and type(options[name]) ~= "string" then
      raise("E_ARGUMENT", "option \"%s\" of lumo.connect is a string", name)
    end
    if options[name] == "" or options[name] and options[name]:find("\0", 1, true) then
      raise("E_ARGUMENT", "option \"%s\" of lumo.connect is empty or holds NUL", name)
    end
  end
  if options.errors ~= nil and options.errors ~= "return" and options.errors ~= "raise" then
    raise("E_ARGUMENT", "option \"errors\" of lumo.connect is \"raise\" or \"return\"")
  end
  return options
end

local Connection_mt = {}
Connection_mt.__index = Connection
Connection_mt.__name = "lumo.connection"
Connection_mt.__tostring = function(self) return ("Connection(%s)"):format(self.name or self.database) end

--- Opens a connection that no name is given to. Parses and checks; nothing is sent before the first use.
---@param uri string
---@param options table|nil as lumo.connect's
---@return lumo.Connection
function connection.open(uri, options)
  options = check_options(names.options("lumo.connect", options, CONNECT_OPTIONS))
  if type(uri) == "string" and uri:find("\0", 1, true) then
    raise("E_ARGUMENT", "the connection URI holds NUL")
  end
  if type(uri) ~= "string" then
    raise("E_ARGUMENT", "lumo.connect needs a URI, got %s", type(uri))
  end
  local policy = policies.of(options)
  options.policy = policy and policy.handle
  local handle = core.connection_new(uri, options)
  local number = #by_number + 1
  if number > 65535 then -- records keep the number in 16 bits
    raise("E_ARGUMENT", "more than 65535 connections have been opened")
  end
  local opened = setmetatable({
    handle = handle, number = number, name = options.name, database = core.connection_database(handle),
    errors = options.errors,
  }, Connection_mt)
  if opened.errors == "return" then doors.open() end
  by_number[number] = opened
  return opened
end

local function open_embedded(path, options)
  local settings = check_options(names.options("lumo.connect", options, CONNECT_OPTIONS))
  settings.database = settings.database or "lumo"
  local server = require("lumo.embedded").start { path = path ~= "" and path or nil }
  local ok, opened = pcall(connection.open, server.uri, settings)
  if not ok then
    server.stop()
    error(opened, 0)
  end
  opened.embedded = server
  return opened
end

--- Registers a connection, as the default one unless `name` is given. A second one under the same name takes
--- its place.
--- Sends nothing (but for "embedded:", which starts a server).
---@param uri string|nil "mongodb://…", "mongodb+srv://…", "embedded:", "embedded:DIR"; nil: MONGODB_URI
---@param options lumo.ConnectOptions|nil
---@return lumo.Connection
function connection.connect(uri, options)
  if uri == nil then
    uri = os.getenv("MONGODB_URI")
    if not uri or uri == "" then
      raise("E_ARGUMENT", "lumo.connect needs a URI: none was given, and MONGODB_URI is not set in the environment")
    end
  end
  local path = type(uri) == "string" and uri:match("^embedded:(.*)$")
  local opened = path and open_embedded(path, options) or connection.open(uri, options)
  opened.name = opened.name or "default"
  by_name[opened.name] = opened
  events.connected(opened)
  return opened
end

--- The connection of that name.
---@param name string|nil "default" when nil
---@return lumo.Connection
function connection.get(name)
  name = name or "default"
  local found = by_name[name]
  if not found then
    if name == "default" then
      raise("E_UNDEFINED_CONNECTION", "there is no connection yet: call lumo.connect first")
    end
    local known = {}
    for other in pairs(by_name) do
      known[#known + 1] = other
    end
    table.sort(known)
    raise("E_UNDEFINED_CONNECTION", "there is no connection named \"%s\"%s",
      tostring(name), #known > 0 and "; there are: " .. table.concat(known, " ") or "")
  end
  return found
end

---@param number integer
---@return lumo.Connection|nil
function connection.by_number(number)
  return by_number[number]
end

--- A connection given as the object or by its name.
---@param given lumo.Connection|string
---@return lumo.Connection
function connection.resolve(given)
  if type(given) == "string" then return connection.get(given) end
  if type(given) == "table" and getmetatable(given) == Connection_mt then return given end
  return raise("E_ARGUMENT", "a connection or its name is expected, got %s", type(given)) --[[@as any]]
end

--- Whether the value may stand for a connection; one that is named may be opened later.
function connection.may_be(given)
  return type(given) == "string" or type(given) == "table" and getmetatable(given) == Connection_mt
end

--- The connection that a model's definition names, else the default one.
---@param state lumo.State
---@return lumo.Connection
function connection.of_model(state)
  return state.connection and connection.resolve(state.connection) or connection.get()
end

local function check(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Connection_mt then
    not_called_on(method, "a connection")
  end
  return self
end

--- Runs a database command and gives its reply as a plain table. Raises on `ok: 0`.
--- Commands: that one.
---@param document table a lumo.ordered whose first key is the command's name, or a table with that one key
---@param options { database: string?, read_preference: lumo.ReadPreference? }|nil
---@return table reply
function Connection:command(document, options)
  check(self, "command")
  options = names.options("command", options, { database = true, read_preference = true })
  if options.database ~= nil and type(options.database) ~= "string" then
    raise("E_ARGUMENT", "option \"database\" of command is a string")
  end
  if type(options.database) == "string" and options.database:find("\0", 1, true) then
    raise("E_ARGUMENT", "the name of a database cannot hold NUL")
  end
  local plan = core.command_plan(options.database, document, false)
  run(ambient.with_policy(self, policies.of(options)), plan)
  return core.plan_reply(plan)
end

--- Asks the server for a sign of life. Commands: ping.
---@return boolean true
function Connection:ping()
  check(self, "ping")
  self:command({ ping = 1 })
  return true
end

---@class lumo.Server
---@field version string "6.0.5"
---@field topology "single"|"replica_set"|"sharded"
---@field wire_version integer
---@field host string
---@field capabilities { transactions: boolean }

--- What the deployment is. Commands: buildInfo.
---@return lumo.Server
function Connection:server()
  check(self, "server")
  local info = runtime.server(ambient.handle(self))
  info.version = self:command({ buildInfo = 1 }).version
  return names.alias(info)
end

--- How busy the threads are on which its operations run where Lua must not wait (in nginx, in event loops). Sends
--- nothing. `dropped` counts results that nobody waited for any more.
---@return { threads: integer, running: integer, waiting: integer, dropped: integer }
function Connection:stats()
  check(self, "stats")
  return core.connection_stats(ambient.handle(self))
end

--- Ends its pool of clients and, if it started one, its embedded server. Using it afterwards raises
--- E_UNDEFINED_CONNECTION.
function Connection:close()
  check(self, "close")
  if not self.handle then return end
  core.connection_close(self.handle)
  self.handle = nil -- records that came through it still know it, by its number
  if by_name[self.name] == self then by_name[self.name] = nil end
  if self.embedded then
    self.embedded.stop()
    self.embedded = nil
  end
end

names.alias(Connection)
connection.methods = Connection

return connection
