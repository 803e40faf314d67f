-- What the nginx of bench/openresty.lua serves.
local ffi = require "ffi"
local lumo = require "lumo"

local app = { reports = {} }

local conn = lumo.connect(os.getenv("LUMO_TEST_URI"), {
  database = os.getenv("LUMO_TEST_DATABASE"), pool_size = tonumber(os.getenv("POOL_SIZE")),
})
local Note = lumo.model("Note", { columns = { text = "string", n = "integer" } })

-- Short rounds, so that some are not disturbed by what else the machine does.
local ROUNDS, FINDS = 400, 10

ffi.cdef [[
  struct lumo_bench_time { long seconds, nanoseconds; };
  int clock_gettime(int clock, struct lumo_bench_time *now);
]]
local now = ffi.new "struct lumo_bench_time"

local function clock()
  ffi.C.clock_gettime(1, now)
  return tonumber(now.seconds) + tonumber(now.nanoseconds) / 1e9
end

--- Microseconds for one find by id, in the best of the rounds.
local function time_finds()
  local id, best = Note:first().id, math.huge
  for _ = 1, ROUNDS do
    local began = clock()
    for _ = 1, FINDS do Note:find(id) end
    best = math.min(best, (clock() - began) * 1e6 / FINDS)
  end
  return best
end

--- In init_worker operations wait on nginx's own thread, in the content phase for a thread.
function app.try(phase)
  if phase == "init_worker" then app.inline = time_finds() end
end

function app.sleep()
  conn:command(lumo.ordered { { "sleep", 1 }, { "millis", 50 }, { "lock", "none" } }, { database = "admin" })
  ngx.say("slept")
end

function app.quiet() ngx.say("quiet") end

function app.finds() ngx.say(app.inline, " ", time_finds()) end

function app.threads() ngx.say(conn:stats().threads) end

return app
