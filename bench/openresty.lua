-- Waiting in nginx: how many operations of 50 ms one worker serves, what another location feels of it, what handing an
-- operation to a thread costs, and what a thread weighs. `bench/openresty.lua probe PORT SECONDS PATH` and
-- `bench/openresty.lua load PORT SECONDS PATH` are its clients.
local socket = require "socket"

local CLIENTS, THREADS = 64, 32

local function percentile(list, part)
  table.sort(list)
  return list[math.max(1, math.ceil(#list * part))]
end

local function median(list) return percentile(list, 0.5) end

local function request(port, path)
  local sock = assert(socket.connect("127.0.0.1", port))
  sock:send(("GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n"):format(path))
  return sock
end

local clients = {}

--- One request after the other; the 99th percentile of their times in milliseconds.
function clients.probe(port, seconds, path)
  local times, began = {}, socket.gettime()
  while socket.gettime() - began < seconds do
    local sent = socket.gettime()
    local sock = request(port, path)
    sock:receive("*a")
    sock:close()
    times[#times + 1] = (socket.gettime() - sent) * 1000
    socket.sleep(0.005)
  end
  return percentile(times, 0.99)
end

--- So many clients, each asking again when it has its answer. Answers in a second, after the first one.
function clients.load(port, seconds, path)
  local open, place, good, began = {}, {}, 0, socket.gettime()
  local function ask(i)
    open[i] = request(port, path)
    place[open[i]] = i
  end
  for i = 1, CLIENTS do ask(i) end
  local counts_from = began + 1
  while socket.gettime() - began < seconds do
    for _, sock in ipairs((socket.select(open, nil, 1))) do
      local served = sock:receive("*a"):find("slept", 1, true)
      if served and socket.gettime() > counts_from then good = good + 1 end
      sock:close()
      ask(place[sock])
      place[sock] = nil
    end
  end
  local rate = good / (socket.gettime() - counts_from)
  for _, sock in ipairs(open) do sock:close() end
  return rate
end

if clients[arg[1]] then
  print(clients[arg[1]](tonumber(arg[2]), tonumber(arg[3]), arg[4]))
  os.exit(0)
end

local lumo = require "lumo"
local nginx = dofile "spec/runtime/nginx.lua"

local ROUNDS, IDLE_SECONDS, BUSY_SECONDS = 5, 2, 4
local FIND_ROUNDS = 20

local conn = lumo.connect(os.getenv("LUMO_TEST_URI"), { database = "lumo_bench_openresty" })
conn:command { dropDatabase = 1 }
lumo.model("Note", { columns = { text = "string", n = "integer" } }):create { text = "x", n = 1 }

local server = nginx.start {
  app = "bench.openresty_app", env = { LUMO_TEST_DATABASE = "lumo_bench_openresty", POOL_SIZE = THREADS },
}

local worker = nginx.command("pgrep -P " .. server:pid()):match("%d+")

--- Starts a client in a process of its own; the function waits for what it says. The load has the lowest priority: its
--- 64 clients would be on other machines, and are not to keep the one who measures from a processor.
local function client(name, seconds, path)
  local nice = name == "load" and "nice -n 19 " or ""
  local pipe = io.popen(("%slua5.4 bench/openresty.lua %s %d %d %s"):format(nice, name, server.port, seconds, path))
  return function()
    local number = tonumber((pipe:read("*a")))
    pipe:close()
    return number
  end
end

-- Handing over: what a thread does and what blocks take turns, and so does a byte that goes over pipes.
local handed, inline, pipes = {}, {}, {}
for _ = 1, FIND_ROUNDS do
  for by_thread, on_own in server:get("/finds").body:gmatch("(%S+) (%S+)") do
    handed[#handed + 1], inline[#inline + 1] = tonumber(by_thread), tonumber(on_own)
  end
  for _ = 1, 5 do pipes[#pipes + 1] = tonumber((nginx.command("build/bench/pipe"):match("%S+"))) end
end

--- The kilobytes of the worker without Lua's garbage, and its threads, after so many requests.
local function weigh(path)
  client("load", BUSY_SECONDS, path)()
  server:get("/gc")
  return nginx.usage(worker).kilobytes, tonumber(server:get("/threads").body)
end

local light, few = weigh("/warm") -- what nginx and Lua need for requests is there before the threads are
local heavy, many = weigh("/sleep")

local rates, idle, busy, ratios = {}, {}, {}, {}
for round = 1, ROUNDS do
  idle[round] = client("probe", IDLE_SECONDS, "/quiet")()
  local load = client("load", BUSY_SECONDS + 2, "/sleep")
  socket.sleep(1) -- all threads have their connections
  busy[round] = client("probe", BUSY_SECONDS, "/quiet")()
  rates[round] = load()
  ratios[round] = busy[round] / idle[round]
end
server:clear()
conn:command { dropDatabase = 1 }

local function row(name, text, value, limit, is_met)
  print(("| %s | %s | %s | %s |"):format(name, text, limit, is_met(value) and "met" or "missed"))
end

local function row_of_finds(name, of)
  local with, without, pipe = of(handed), of(inline), of(pipes)
  row("find by id, by a thread less on nginx's own, " .. name, ("%.1f - %.1f µs"):format(with, without), with - without,
    ("8 x %.1f µs, a round trip over pipes"):format(pipe), function(v) return v <= 8 * pipe end)
end

print("| waiting in nginx | | bound | |\n|---|---|---|---|")
local bound, rate = THREADS * 1000 / 50, median(rates)
row(("%d clients, 50 ms each, one worker, %d threads"):format(CLIENTS, THREADS), ("%.0f requests/s"):format(rate), rate,
  ("%.0f"):format(bound * 0.9), function(v) return v >= bound * 0.9 end)
row("99th percentile of another location, busy / idle",
  ("%.2f / %.2f ms: %.1f"):format(median(busy), median(idle), median(ratios)), median(ratios), "3 times",
  function(v) return v <= 3 end)
row_of_finds("medians", median)
row_of_finds("the best", function(list) return percentile(list, 0) end)
local weight = (heavy - light) / (many - few)
row("memory of a thread with its connection", ("%.0f KB"):format(weight), weight, "100 KB",
  function(v) return v <= 100 end)
