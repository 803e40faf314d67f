-- create_many of 50,000 rows from Lua tables.
local common = require "bench.common"

local ROWS, PASSES = 50000, 2

local rows = {}
for n = 1, ROWS do
  rows[n] = common.post(n)
end
local function measure(name, collector)
  common.Created:query():everything():delete()
  collectgarbage()
  collectgarbage(collector)
  local start = common.cpu()
  local created = common.Created:create_many(rows)
  common.note(name, (common.cpu() - start) / ROWS)
  collectgarbage("restart")
  assert(#created == ROWS)
end

for _ = 1, PASSES do
  measure("create_many", "restart")
  measure("create_many_stopped", "stop")
end
local seen = 0
common.Created:before("create", function(post) seen = seen + post.views % 2 end)
for _ = 1, PASSES do
  measure("create_many_hook", "restart")
end
assert(seen > 0)
common.report()
