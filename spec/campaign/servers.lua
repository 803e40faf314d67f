-- Servers of a campaign's own: mongods that can be killed, stopped and started again, alone or as a replica set,
-- and proxies that cut connections. Loaded by dofile from the project's root.
local lumo = require "lumo"

local servers = {}

local seed = tonumber((tostring({}):gsub("^table: 0?x?", "")):sub(-7), 16) or 0
math.randomseed(os.time() + seed)

function servers.quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local quote = servers.quote

function servers.shell(line)
  local pipe = assert(io.popen(line, "r"))
  local output = pipe:read("*a")
  pipe:close()
  return (output:gsub("%s+$", ""))
end

local shell = servers.shell

function servers.now_ms()
  return lumo.datetime.now().ms
end

function servers.sleep(seconds)
  os.execute(("sleep %.3f"):format(seconds))
end

function servers.free_port()
  while true do
    -- Below those that clients get: who connects again and again to a server that is down would get its port some day.
    local port = 20000 + math.random(12000)
    if shell(("bash -c '</dev/tcp/127.0.0.1/%d' 2>/dev/null && echo taken"):format(port)) == "" then
      return port
    end
  end
end

function servers.write_file(path, text)
  local file = assert(io.open(path .. ".new", "w"))
  assert(file:write(text))
  assert(file:close())
  assert(os.rename(path .. ".new", path))
end

function servers.exists(path)
  local file = io.open(path, "r")
  return file ~= nil and file:close()
end

-- The program, as lumo.embedded finds it: asked of a server that it has started.
local program
function servers.program()
  if not program then
    local named = os.getenv("LUMO_MONGOD")
    if named and named ~= "" then
      program = named
    else
      local server = require("lumo.embedded").start()
      program = shell(("readlink /proc/%d/exe"):format(server.pid))
      server.stop()
    end
  end
  return program
end

---- one mongod

local Mongod = {}
Mongod.__index = Mongod

-- What a campaign needs of every server: fault injection, and transactions of killed clients that end soon.
local OPTIONS = "--bind_ip 127.0.0.1 --nounixsocket --quiet --wiredTigerCacheSizeGB 0.25 --oplogSize 64"
  .. " --setParameter enableTestCommands=1 --setParameter transactionLifetimeLimitSeconds=3"

--- options: set (the replica set's name), seconds (its longest life, should the campaign die).
function servers.mongod(options)
  local folder = shell("mktemp -d")
  local self = setmetatable({ folder = folder, port = servers.free_port(), pidfile = folder .. "/pid" }, Mongod)
  self.host = "127.0.0.1:" .. self.port
  self.line = ("timeout -k 1 %d %s --dbpath %s --port %d --pidfilepath %s %s%s >>%s/log 2>&1 &"):format(
    options.seconds or 600, quote(servers.program()), quote(folder), self.port, self.pidfile, OPTIONS,
    options.set and " --replSet " .. options.set or "", folder)
  self:start()
  return self
end

function Mongod:start()
  os.execute(self.line)
end

--- Its own address, whatever it is a member of.
function Mongod:direct(database)
  return ("mongodb://%s/%s?directConnection=true"):format(self.host, database or "admin")
end

function Mongod:pid()
  return tonumber(shell("cat " .. self.pidfile .. " 2>/dev/null"))
end

function Mongod:signal(name)
  local pid = self:pid()
  if pid then os.execute(("kill -%s %d 2>/dev/null"):format(name, pid)) end
end

--- Kills it for good, and waits for its end: a zombie's threads may still have the port.
function Mongod:kill()
  local pid = self:pid()
  if not pid then return end
  os.execute(("kill -9 %d 2>/dev/null; while test -e /proc/%d; do sleep 0.02; done; rm -f %s")
    :format(pid, pid, self.pidfile))
end

function Mongod:remove()
  self:signal("CONT")
  self:kill()
  os.execute("rm -rf " .. quote(self.folder))
end

--- Waits until it answers; `writable` as a primary or standalone.
function Mongod:wait(writable)
  local conn = lumo.connect(self:direct(), { name = "probe " .. self.port, timeout_ms = 30000 })
  local deadline = servers.now_ms() + 60000
  while true do
    local ok, reply = pcall(conn.command, conn, { hello = 1 })
    if ok and (reply.isWritablePrimary or not writable) then break end
    if servers.now_ms() > deadline then error("a server did not start: " .. tostring(reply)) end
    servers.sleep(0.05)
  end
  conn:close()
end

---- deployments

local function admin(member, ...)
  local conn = lumo.connect(member:direct(), { name = "admin " .. member.port, timeout_ms = 30000 })
  local ok, reply = pcall(conn.command, conn, lumo.ordered { ... })
  conn:close()
  if not ok then error(reply, 0) end
  return reply
end

servers.admin = admin

function servers.standalone(seconds)
  local member = servers.mongod { seconds = seconds }
  member:wait(true)
  return member
end

--- A replica set of `count`; { members, uri }.
function servers.replica_set(count, seconds)
  local set = { members = {}, name = "rs" }
  local hosts, config = {}, {}
  for i = 1, count do
    local member = servers.mongod { set = set.name, seconds = seconds }
    set.members[i], hosts[i] = member, member.host
    config[i] = { _id = i - 1, host = member.host }
  end
  for _, member in ipairs(set.members) do member:wait(false) end
  admin(set.members[1], { "replSetInitiate", {
    _id = set.name, members = lumo.array(config),
    settings = { electionTimeoutMillis = 1000, heartbeatIntervalMillis = 300 },
  } })
  set.members[1]:wait(count == 1)
  set.uri = ("mongodb://%s/admin?replicaSet=%s"):format(table.concat(hosts, ","), set.name)
  function set.remove()
    for _, member in ipairs(set.members) do member:remove() end
  end
  return set
end

---- proxies

--- A proxy before a port. `orders` is the file that tells it when to do what (see proxy.py); `server`, a Mongod, is
--- the one that it can kill, start again and stop.
function servers.proxy(port, server, seconds)
  local folder = shell("mktemp -d")
  local proxy = { port = servers.free_port(), orders = folder .. "/orders" }
  local words = { "timeout", "-k", "1", tostring(seconds or 600), "python3", "spec/campaign/proxy.py",
    tostring(proxy.port), tostring(port), quote(proxy.orders), folder .. "/pid" }
  if server then
    words[#words + 1] = server.pidfile
    words[#words + 1] = quote(server.line)
  end
  os.execute(table.concat(words, " ") .. (" >%s/log 2>&1 &"):format(folder))
  repeat servers.sleep(0.02) until servers.exists(folder .. "/pid")
  function proxy.remove()
    os.execute(("kill $(cat %s/pid) 2>/dev/null; rm -rf %s"):format(folder, quote(folder)))
  end
  return proxy
end

return servers
