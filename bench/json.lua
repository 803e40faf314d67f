-- JSON of 10,000 records: to_json, beside decoding to tables and encoding these with lua-cjson.
local common = require "bench.common"
local cjson = require "cjson"
local lumo = require "lumo"

local PASSES = 5

local posts = common.Post:all()
local documents = {}
for i, post in ipairs(posts) do
  documents[i] = lumo.bson.encode(post.attributes)
end

--- What cjson refuses is made text.
local TEXTS = { "_id", "author_id", "created_at", "updated_at" }

local function measure(name, fn)
  for _ = 1, PASSES do
    collectgarbage()
    local start = common.cpu()
    local length = 0
    for i = 1, #posts do length = length + #fn(i) end
    common.note(name, (common.cpu() - start) / #posts)
    assert(length > 750 * #posts)
  end
end

measure("to_json", function(i) return posts[i]:to_json() end)
measure("cjson", function(i)
  local post = lumo.bson.decode(documents[i])
  for _, name in ipairs(TEXTS) do
    post[name] = tostring(post[name])
  end
  return cjson.encode(post)
end)

common.report()
