-- create_many of 50,000 rows from Lua tables.
local common = require "bench.common"

local ROWS, PASSES = 50000, 2

local rows = {}
for n = 1, ROWS do
  rows[n] = common.post(n)
end
for _ = 1, PASSES do
  common.Created:query():everything():delete()
  collectgarbage()
  local start = common.cpu()
  local created = common.Created:create_many(rows)
  common.note("create_many", (common.cpu() - start) / ROWS)
  assert(#created == ROWS)
end
common.report()
