-- The data of the benchmark: 10,000 posts of either kind, a pivot with lumo's indexes, a collection to insert into.
local common = require "bench.common"
local lumo = require "lumo"

-- The embedded server's own 0.25 GB are too little for one transaction of 50,000 inserts.
common.connection:command(
  lumo.ordered { { "setParameter", 1 }, { "wiredTigerEngineRuntimeConfig", "cache_size=1G" } }, { database = "admin" })
common.connection:command({ dropDatabase = 1 })
for _, kind in ipairs { { common.Post, common.post }, { common.NestedPost, common.nested_post } } do
  local rows = {}
  for n = 1, 10000 do
    rows[n] = kind[2](n)
  end
  kind[1]:create_many(rows)
  assert(kind[1]:count() == 10000)
end
common.Created:create(common.post(1))
common.Owner:ensure_indexes()
