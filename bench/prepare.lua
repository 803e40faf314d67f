-- The data of the benchmark: 10,000 posts, an empty pivot with lumo's indexes.
local common = require "bench.common"
local lumo = require "lumo"
local pairs_model = require "bench.pairs_model"

common.connection:command({ dropDatabase = 1 })
local rows = {}
for n = 1, 10000 do
  rows[n] = common.post(n)
end
common.Post:create_many(rows)
common.Created:create_many({ common.post(1) })
pairs_model.Owner:ensure_indexes()
assert(lumo.model("Post"):count() == 10000)
