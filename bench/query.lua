-- Building and compiling a query, and what it leaves to the collector beyond the query itself.
local common = require "bench.common"
local core = require "lumo.core"
local lumo = require "lumo"

local PASSES, BUILDS = 20, 20000

local Thing = lumo.model("Thing", { columns = { a = "integer", b = "integer", c = "integer" } })

for _ = 1, PASSES do
  collectgarbage()
  local start = common.cpu()
  for i = 1, BUILDS do
    core.query_find_plan(Thing:query():where("a", i):where("b", ">", 2):order_by("c"):limit(10), "exec", 0, false)
  end
  common.note("build", (common.cpu() - start) / BUILDS)
end

--- Bytes that fn leaves, called many times.
local function garbage(fn)
  collectgarbage()
  collectgarbage("stop")
  local before = collectgarbage("count")
  for i = 1, 1000 do fn(i) end
  local bytes = (collectgarbage("count") - before) * 1024 / 1000
  collectgarbage("restart")
  return bytes
end

local bare = garbage(function() return Thing:query() end)
local full = garbage(function(i) return Thing:query():where("a", i):where("b", ">", 2):order_by("c"):limit(10) end)
common.note("build_garbage", full / bare)
common.report()
