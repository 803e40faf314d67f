-- What the nginx of bench/openresty.lua serves.
local ffi = require "ffi"
local lumo = require "lumo"

local app = { reports = {} }

local conn = lumo.connect(os.getenv("LUMO_TEST_URI"), {
  database = os.getenv("LUMO_TEST_DATABASE"), pool_size = tonumber(os.getenv("POOL_SIZE")),
})
local few = lumo.connect(os.getenv("LUMO_TEST_URI"), {
  name = "few", database = os.getenv("LUMO_TEST_DATABASE"), pool_size = 4,
})
local Note = lumo.model("Note", { columns = { text = "string", n = "integer" } })

-- Short rounds, so that some are not disturbed by what else the machine does.
local ROUNDS, FINDS = 20, 10

ffi.cdef [[
  struct lumo_bench_time { long seconds, nanoseconds; };
  int clock_gettime(int clock, struct lumo_bench_time *now);
]]
local now = ffi.new "struct lumo_bench_time"

local function clock()
  ffi.C.clock_gettime(1, now)
  return tonumber(now.seconds) + tonumber(now.nanoseconds) / 1e9
end

--- Microseconds for one find by id.
local function time_finds(id)
  local began = clock()
  for _ = 1, FINDS do Note:find(id) end
  return (clock() - began) * 1e6 / FINDS
end

--- The same where Lua cannot yield, inside a function that C calls: operations wait on nginx's own thread there.
local function time_blocking_finds(id)
  local time
  ("x"):gsub("x", function() time = time_finds(id) end)
  return time
end

function app.try() end

local function sleep(connection)
  connection:command(lumo.ordered { { "sleep", 1 }, { "millis", 50 }, { "lock", "none" } }, { database = "admin" })
  ngx.say("slept")
end

function app.sleep() sleep(conn) end

--- The same by few threads of another connection.
function app.warm() sleep(few) end

function app.quiet() ngx.say("quiet") end

--- Lines of what a find takes by a thread, and on nginx's own.
function app.finds()
  local id = Note:first().id
  for _ = 1, ROUNDS do ngx.say(time_finds(id), " ", time_blocking_finds(id)) end
end

function app.gc()
  collectgarbage()
  collectgarbage()
end

function app.threads() ngx.say(conn:stats().threads) end

return app
