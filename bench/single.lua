-- One record at a time: found by its key and one column read; one column changed and saved.
local common = require "bench.common"

local BATCHES, BATCH = 20, 500
local Post = common.Post

local ids = {}
for i, post in ipairs(Post:query():limit(BATCH):exec()) do
  ids[i] = post._id
end

math.randomseed(os.time())
for _ = 1, BATCHES do
  local posts, views = {}, math.random(1000000)
  local start = common.cpu()
  for i = 1, BATCH do
    local post = Post:find(ids[i])
    local _ = post.title
    posts[i] = post
  end
  common.note("find", (common.cpu() - start) / BATCH)
  start = common.cpu()
  for i = 1, BATCH do
    posts[i].views = views + i
    posts[i]:save()
  end
  common.note("save", (common.cpu() - start) / BATCH)
end
common.report()
