-- An nginx of the specs' own, and a client that asks it for many things at once.
local posix = require "socket"

local nginx = {}

local MODULES = "/usr/lib/nginx/modules/"
nginx.binary = os.getenv("LUMO_NGINX") or "/usr/sbin/nginx"

local function exists(path)
  local file = io.open(path)
  return file and file:close() and true
end

--- Why there is no nginx to test with, or nil.
function nginx.missing()
  if not exists(nginx.binary) then return nginx.binary .. " is not there" end
  if not exists(MODULES .. "ngx_http_lua_module.so") then return "nginx has no Lua module" end
  if not exists((os.getenv("LUMO_LUAJIT_MODULES") or "") .. "/lumo/core.so") then
    return "lumo is not built for LuaJIT (LUMO_LUAJIT_MODULES)"
  end
end

local function command(line)
  local pipe = io.popen(line .. " 2>&1; echo \" $?\"")
  local text = pipe:read("*a")
  pipe:close()
  local output, status = text:match("^(.-) (%d+)\n$")
  return output, tonumber(status)
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

function nginx.read(path)
  local file = io.open(path)
  local text = file and file:read("*a") or ""
  if file then file:close() end
  return text
end

local function free_port()
  local server = assert(posix.bind("127.0.0.1", 0))
  local _, port = server:getsockname()
  server:close()
  return port
end

local TEMPLATE = [[
@user@
daemon on; worker_processes @workers@; pid @folder@/pid; error_log @folder@/error.log info;
worker_shutdown_timeout @shutdown@; @main@
load_module @modules@ndk_http_module.so;
load_module @modules@ngx_http_lua_module.so;
env LUMO_TEST_URI; env LUMO_TEST_DATABASE; env POOL_SIZE; env TIMEOUT_MS; env TMPDIR; env MONGOC_DISABLE_SHM;
events { worker_connections @connections@; }
http {
  access_log off; lua_package_path "@root@/lua/?.lua;@root@/lua/?/init.lua;@root@/spec/runtime/?.lua;@root@/?.lua;;";
  lua_package_cpath "@cpath@/?.so;;";
  client_body_temp_path @folder@/body; proxy_temp_path @folder@/proxy; fastcgi_temp_path @folder@/fastcgi;
  uwsgi_temp_path @folder@/uwsgi; scgi_temp_path @folder@/scgi;
  init_by_lua_block { app = require "@app@"; lumo = require "lumo"; app.try("init") }
  init_worker_by_lua_block {
    app.try("init_worker")
    ngx.timer.at(0, function() app.try("timer") end)
  }
  exit_worker_by_lua_block {
    app.try("exit_worker")
    ngx.log(ngx.NOTICE, "at exit: ", app.reports.exit_worker)
  }
  server {
    listen 127.0.0.1:@port@;
    location = /phases {
      set_by_lua_block $phase { app.try("set") return "" }
      rewrite_by_lua_block { app.try("rewrite") }
      access_by_lua_block { app.try("access") }
      content_by_lua_block { app.try("content") ngx.say("ok") }
      header_filter_by_lua_block { app.try("header_filter") }
      body_filter_by_lua_block { app.try("body_filter") }
      log_by_lua_block { app.try("log") }
    }
    location = /balanced { proxy_pass http://upstream; }
    @tls@
    location ~ ^/(?<name>\w+)$ {
      lua_check_client_abort @abort@;
      content_by_lua_block { lumo.guard(app[ngx.var.name]) }
    }
  }
  upstream upstream {
    server 127.0.0.1:1;
    balancer_by_lua_block { app.try("balancer") ngx.exit(502) }
  }
}
]]

local TLS = [[
    listen 127.0.0.1:@tls_port@ ssl; ssl_certificate @folder@/cert.pem; ssl_certificate_key @folder@/key.pem;
    ssl_certificate_by_lua_block { app.certificate() }
]]

--- Whether a process runs; one that has ended may wait for its parent for long.
function nginx.is_alive(pid)
  local state = nginx.read(("/proc/%d/stat"):format(pid)):match("%) (%u)")
  return state ~= nil and state ~= "Z"
end

local Server = {}
Server.__index = Server

--- Starts one. Options: workers, connections, shutdown, abort, tls (a tls_port beside the port), main (lines of the
--- configuration), env, ulimit.
function nginx.start(options)
  local folder = command("mktemp -d"):match("%S+")
  local self = setmetatable({ folder = folder, port = free_port(), pids = {} }, Server)
  local values = {
    app = options.app or "app", workers = options.workers or 1,
    user = command("id -u"):match("^0\n") and "user root;" or "",
    folder = folder, shutdown = options.shutdown or "10s", main = options.main or "", modules = MODULES,
    connections = options.connections or 512, root = command("pwd"):match("%S+"),
    cpath = os.getenv("LUMO_LUAJIT_MODULES"), port = self.port, abort = options.abort or "off",
  }
  values.tls = ""
  if options.tls then
    self.tls_port = free_port()
    values.tls_port = self.tls_port
    values.tls = TLS:gsub("@([%w_]+)@", values)
    command(("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem")
      :format(folder))
  end
  write(folder .. "/nginx.conf", (TEMPLATE:gsub("@([%w_]+)@", values)))
  local env = {}
  for name, value in pairs(options.env or {}) do
    env[#env + 1] = ("%s='%s'"):format(name, value)
  end
  self.command = ("%s -c %s/nginx.conf -p %s -e %s/error.log"):format(nginx.binary, folder, folder, folder)
  local output, status = command(("%s env %s %s"):format(
    options.ulimit and ("ulimit -n %d;"):format(options.ulimit) or "", table.concat(env, " "), self.command))
  if status ~= 0 then error("nginx does not start: " .. output .. self:log()) end
  return self
end

function Server:log()
  return nginx.read(self.folder .. "/error.log")
end

function Server:pid()
  return tonumber(nginx.read(self.folder .. "/pid"))
end

function Server:signal(name)
  return command(("kill -%s %d"):format(name, self:pid()))
end

--- Quits if it still runs, and waits; `how` is QUIT or TERM. Returns how long it took.
function Server:stop(how)
  local began, pid = posix.gettime(), self:pid()
  if pid then
    command(("kill -%s %d"):format(how or "TERM", pid))
    while nginx.is_alive(pid) and posix.gettime() - began < 20 do posix.sleep(0.005) end
  end
  return posix.gettime() - began
end

function Server:clear()
  self:stop()
  command("rm -rf " .. self.folder)
end

--- Asks for all paths at once. A list of { status =, body =, seconds = }; no status: no answer.
function Server:get_all(paths, timeout)
  local answers, open, index_of = {}, {}, {}
  local began = posix.gettime()
  for i, path in ipairs(paths) do
    local sock = posix.tcp()
    answers[i] = { text = "" }
    if sock:connect("127.0.0.1", self.port) then
      sock:send(("GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n"):format(path))
      sock:settimeout(0)
      open[#open + 1] = sock
      index_of[sock] = i
    end
  end
  while #open > 0 and posix.gettime() - began < (timeout or 30) do
    for _, sock in ipairs((posix.select(open, nil, 0.5))) do
      local answer = answers[index_of[sock]]
      local text, err, part = sock:receive("*a")
      answer.text = answer.text .. (text or part or "")
      if text or err == "closed" then
        answer.seconds = posix.gettime() - began
        sock:close()
        for k, other in ipairs(open) do
          if other == sock then table.remove(open, k) break end
        end
      end
    end
  end
  for _, sock in ipairs(open) do sock:close() end
  for _, answer in ipairs(answers) do
    answer.status = tonumber(answer.text:match("^HTTP/%S+ (%d+)"))
    answer.body = answer.text:match("\r\n\r\n(.*)$")
    answer.body = answer.body and answer.body:gsub("\n$", "")
  end
  return answers
end

function Server:get(path, timeout)
  return self:get_all({ path }, timeout)[1]
end

--- Sends a request and leaves before the answer comes.
function Server:leave(path, after)
  local sock = posix.tcp()
  assert(sock:connect("127.0.0.1", self.port))
  sock:send(("GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n"):format(path))
  posix.sleep(after)
  sock:close()
end

--- What a worker uses: { threads =, descriptors =, kilobytes = }.
function nginx.usage(pid)
  local status = nginx.read(("/proc/%d/status"):format(pid))
  return {
    threads = tonumber(status:match("Threads:%s+(%d+)")), kilobytes = tonumber(status:match("VmRSS:%s+(%d+)")),
    descriptors = tonumber(command(("ls /proc/%d/fd | wc -l"):format(pid)):match("%d+")),
  }
end

nginx.command, nginx.sleep, nginx.now = command, posix.sleep, posix.gettime

--- Waits until fn gives a true value, and gives it; nil after `seconds`.
function nginx.eventually(fn, seconds)
  local until_then = posix.gettime() + (seconds or 5)
  repeat
    local value = fn()
    if value then return value end
    posix.sleep(0.02)
  until posix.gettime() > until_then
  return nil
end

return nginx
