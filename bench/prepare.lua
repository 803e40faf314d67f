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
local function fill(model, count, row)
  local rows = {}
  for n = 1, count do
    rows[n] = row(n)
  end
  return model:create_many(rows)
end
local labels = fill(common.Label, 1000, function(n)
  return { name = ("label %d"):format(n), color = "blue", text = "What the label means, in one sentence." }
end)
local parents = fill(common.Parent, 5000, function(n) return { name = ("parent %d"):format(n) } end)
for first = 0, 80000, 20000 do
  fill(common.LabelParent, 20000, function(n)
    local row = first + n - 1
    local parent, position = math.floor(row / 20), row % 20
    return {
      parent_id = parents[parent + 1]._id, label_id = labels[(parent * 7 + position * 31) % 1000 + 1]._id,
      role = "member", position = position,
    }
  end)
end
local writers = fill(common.Writer, 1000, function(n) return { name = ("writer %d"):format(n) } end)
fill(common.Work, 20000, function(n)
  return {
    writer_id = writers[n % 1000 + 1]._id,
    title = ("Work number %06d, and a title as long as most of them are"):format(n),
    summary = "What the work has to say, in one sentence.", views = n, rating = n + 0.25,
    created_at = lumo.datetime.from_ms(1700000000000 + n),
  }
end)
common.Work:ensure_indexes()
common.Parent:ensure_indexes()
common.Owner:ensure_indexes()
