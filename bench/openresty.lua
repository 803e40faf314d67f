-- Waiting in nginx: how many operations of 50 ms one worker serves, what another location feels of it, what handing an
-- operation to a thread costs, and what a thread weighs. `bench/openresty.lua probe PORT SECONDS` is its second client.
local socket = require "socket"

local function percentile(list, part)
  table.sort(list)
  return list[math.max(1, math.ceil(#list * part))]
end

local function request(port, path)
  local sock = assert(socket.connect("127.0.0.1", port))
  sock:send(("GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n"):format(path))
  return sock
end

--- One request after the other; the 99th percentile of their times in milliseconds.
local function probe(port, seconds)
  local times, began = {}, socket.gettime()
  while socket.gettime() - began < seconds do
    local sent = socket.gettime()
    local sock = request(port, "/quiet")
    sock:receive("*a")
    sock:close()
    times[#times + 1] = (socket.gettime() - sent) * 1000
    socket.sleep(0.005)
  end
  return percentile(times, 0.99)
end

if arg[1] == "probe" then
  print(probe(tonumber(arg[2]), tonumber(arg[3])))
  os.exit(0)
end

local lumo = require "lumo"
local nginx = dofile "spec/runtime/nginx.lua"

local CLIENTS, THREADS, SECONDS = 64, 32, 6

--- So many clients, each asking again when it has its answer. Answers in a second.
local function load_with(port, path, seconds)
  local open, good, began = {}, 0, socket.gettime()
  for i = 1, CLIENTS do open[i] = request(port, path) end
  while socket.gettime() - began < seconds do
    local ready = socket.select(open, nil, 1)
    for _, sock in ipairs(ready) do
      if sock:receive("*a"):find("slept", 1, true) then good = good + 1 end
      sock:close()
      for i, other in ipairs(open) do
        if other == sock then open[i] = request(port, path) break end
      end
    end
  end
  for _, sock in ipairs(open) do sock:close() end
  return good / (socket.gettime() - began)
end

local conn = lumo.connect(os.getenv("LUMO_TEST_URI"), { database = "lumo_bench_openresty" })
conn:command { dropDatabase = 1 }
lumo.model("Note", { columns = { text = "string", n = "integer" } }):create { text = "x", n = 1 }

local server = nginx.start {
  app = "bench.openresty_app", env = { LUMO_TEST_DATABASE = "lumo_bench_openresty", POOL_SIZE = THREADS },
}

local worker = nginx.command("pgrep -P " .. server:pid()):match("%d+")

local inline, handed = server:get("/finds").body:match("(%S+) (%S+)")
local light, few = nginx.usage(worker), tonumber(server:get("/threads").body)
local idle = probe(server.port, 3)
load_with(server.port, "/sleep", 1)
local prober = io.popen(("lua5.4 bench/openresty.lua probe %d %d"):format(server.port, SECONDS))
local rate = load_with(server.port, "/sleep", SECONDS)
local busy = tonumber(prober:read("*a"))
local heavy, threads = nginx.usage(worker), tonumber(server:get("/threads").body)
local pipe = math.huge
for _ = 1, 50 do pipe = math.min(pipe, tonumber((nginx.command("build/bench/pipe"):match("%S+")))) end
server:clear()
conn:command { dropDatabase = 1 }

local bound = THREADS * 1000 / 50
local function row(name, text, value, limit, good)
  print(("| %s | %s | %s | %s |"):format(name, text, limit, good(value) and "met" or "missed"))
end

print("| waiting in nginx | | bound | |\n|---|---|---|---|")
row(("%d clients, 50 ms each, one worker, %d threads"):format(CLIENTS, THREADS), ("%.0f requests/s"):format(rate), rate,
  ("%.0f"):format(bound * 0.9), function(v) return v >= bound * 0.9 end)
row("99th percentile of another location, busy / idle", ("%.2f / %.2f ms"):format(busy, idle), busy / idle, "3 times",
  function(v) return v <= 3 end)
row("find by id, by a thread less on nginx's own", ("%.1f - %.1f µs"):format(handed, inline), handed - inline,
  ("8 x %.1f µs, a round trip over pipes"):format(pipe), function(v) return v <= 8 * pipe end)
local weight = (heavy.kilobytes - light.kilobytes) / (threads - few)
row("memory of a thread with its connection", ("%.0f KB"):format(weight), weight, "100 KB",
  function(v) return v <= 100 end)
