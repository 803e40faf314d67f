--- Waiting in nginx: by one byte that a thread sends over a unix socket, which is all that nginx lets Lua wait
--- for from outside.
local core = require "lumo.core"
local raise = require("lumo.errors").raise

local ngx = ngx

local nginx = {}

local YIELDS, BLOCKS = 1, 2
-- Phases that are missing here serve requests, or come before there are workers, and can do neither.
local PHASES = {
  rewrite = YIELDS, access = YIELDS, content = YIELDS, timer = YIELDS,
  ssl_cert = YIELDS, ssl_session_fetch = YIELDS, ssl_client_hello = YIELDS,
  init_worker = BLOCKS, exit_worker = BLOCKS,
}

--- Whether the caller can wait without blocking. Raises E_UNSUPPORTED in phases where it cannot wait at all.
function nginx.current()
  local phase = ngx.get_phase()
  local kind = PHASES[phase]
  if not kind then
    raise("E_UNSUPPORTED", "MongoDB cannot be asked in nginx's phase \"%s\", where nothing may wait; do it in "
      .. "rewrite, access or content, or in a timer", phase)
  end
  return kind == YIELDS and core.can_yield()
end

-- Places: connections to a socket of this process -------------------------------------------------------------

local FOREVER = 2 ^ 31 - 1 -- milliseconds
local CONNECT_MS = 5000
local KEPT = 256

local listener, path, listens_in
local free, made = {}, 0

local function listen()
  listener = core.listener_new()
  path, listens_in = "unix:" .. core.listener_path(listener), ngx.worker.pid()
end

--- Tells which connection this is, and gets the other end of it.
local function introduce(sock, place)
  made = made + 1
  local token = ("%08x"):format(made % 2 ^ 32)
  local sent, err = sock:send(token)
  if not sent then return nil, err end
  place.slot = core.listener_accept(listener, token)
  return place
end

--- Every place has a pool of its own, so that its connection comes back from there and no other.
local function new_place()
  made = made + 1
  return { options = { pool = "lumo:" .. made, pool_size = 1 } }
end

local function connect(place)
  local sock = ngx.socket.tcp()
  sock:settimeout(CONNECT_MS)
  local ok, err = sock:connect(path, place.options)
  if not ok then return nil, err end
  place.sock = sock
  if place.slot and sock:getreusedtimes() > 0 then return place end
  return introduce(sock, place)
end

local function no_place(err)
  return raise("E_UNSUPPORTED", "no connection to wait with (%s); each operation under way needs one of nginx's "
    .. "worker_connections and two descriptors of its worker_rlimit_nofile", tostring(err))
end

function nginx.take()
  if not listener or listens_in ~= ngx.worker.pid() then
    free = {}
    listen()
  end
  local place = table.remove(free)
  local taken, err = connect(place or new_place())
  if taken then return taken end
  if err == "no such file or directory" or err == "connection refused" then -- somebody has cleared the folder away
    free = {}
    listen()
    taken, err = connect(new_place())
  end
  return taken or no_place(err)
end

function nginx.wait(place, ms)
  place.sock:settimeout(ms or FOREVER)
  local byte, err = place.sock:receive(1)
  if byte then return true end
  if err ~= "timeout" then raise("E_NETWORK", "the connection to wait with was closed: %s", tostring(err)) end
  return false
end

function nginx.give(place)
  local sock = place.sock
  place.sock = nil
  if #free >= KEPT then
    sock:close()
  elseif sock:setkeepalive(0, 1) then
    free[#free + 1] = place
  end
end

function nginx.drop(place)
  place.sock:close()
end

function nginx.pause(ms)
  ngx.sleep(ms / 1000)
end

return nginx
