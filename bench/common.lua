-- What the Lua sides share: the connection, the models, the documents, and how a figure is said.
local lumo = require "lumo"

local common = {}

local DOCUMENT_SIZE = 750

common.connection = lumo.connect(os.getenv("LUMO_TEST_URI"), { database = "lumo_bench" })

local columns = {
  { "title", "string" }, { "slug", "string" }, { "summary", "string" }, { "body", "string" },
  { "author_id", "objectid" }, { "status", "string" }, { "views", "integer" }, { "likes", "integer" },
  { "rating", "number" }, { "featured", "boolean" }, { "created_at", "date" }, { "updated_at", "date" },
}
common.Post = lumo.model("Post", { columns = columns })
common.Created = lumo.model("Created", { collection = "created", columns = columns })

-- The same with an array and an object in place of two columns.
common.NestedPost = lumo.model("NestedPost", {
  columns = {
    { "title", "string" }, { "slug", "string" }, { "labels", { "array", of = "string" } }, { "body", "string" },
    { "author_id", "objectid" }, { "status", "string" }, { "views", "integer" }, { "meta", "object" },
    { "rating", "number" }, { "featured", "boolean" }, { "created_at", "date" }, { "updated_at", "date" },
  },
})

common.Tag = lumo.model("Tag", { columns = { id = { "integer", primary = true }, name = "string" } })
common.Owner = lumo.model("Owner", {
  columns = { name = "string" },
  relations = {
    tags = lumo.many_to_many("Tag", {
      pivot_table = "post_tag", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
    }),
  },
})

-- 5,000 parents with 20 of 1,000 labels each, and pivot data.
common.Label = lumo.model("Label", { columns = { { "name", "string" }, { "color", "string" }, { "text", "string" } } })
common.Parent = lumo.model("Parent", {
  columns = { name = "string" },
  relations = {
    labels = lumo.many_to_many("Label", {
      pivot_table = "label_parent", pivot_foreign_key = "parent_id", pivot_related_foreign_key = "label_id",
      pivot_columns = { "role", "position" },
    }),
  },
})
common.LabelParent = lumo.model("LabelParent", {
  collection = "label_parent",
  columns = {
    { "parent_id", "objectid" }, { "label_id", "objectid" }, { "role", "string" }, { "position", "integer" },
  },
})

-- 1,000 writers with 20 works each, which hold their writer's key.
common.Writer = lumo.model("Writer", {
  columns = { name = "string" }, relations = { works = lumo.has_many("Work") },
})
common.Work = lumo.model("Work", {
  columns = {
    { "writer_id", "objectid" }, { "title", "string" }, { "summary", "string" }, { "views", "integer" },
    { "rating", "number" }, { "created_at", "date" },
  },
  indexes = { { "writer_id" } },
})

common.Order = lumo.model("Order", {
  columns = { items = { "array", of = { "object", columns = { name = "string", n = "integer" } } } },
})

local authors = {}
for i = 1, 100 do
  authors[i] = lumo.objectid()
end

local function values(n)
  return {
    title = ("Post number %06d, and a title as long as most of them are"):format(n),
    slug = ("post-number-%06d-and-a-title-as-long-as-most-of-them-are"):format(n),
    body = "", author_id = authors[n % #authors + 1], status = "published", views = n, rating = n + 0.25,
    featured = n % 2 == 0, created_at = lumo.datetime.from_ms(1700000000000 + n),
    updated_at = lumo.datetime.from_ms(1700000000000 + n),
  }
end

--- Gives a post a body of the length that makes its document DOCUMENT_SIZE bytes.
local function with_body(post)
  local without = #lumo.bson.encode(post) + 17 -- the _id
  post.body = ("the quick brown fox "):rep(50):sub(1, DOCUMENT_SIZE - without)
  return post
end

--- The post with a number, as bench/common.h makes it.
function common.post(n)
  local post = values(n)
  post.summary, post.likes = "What the post has to say, in one sentence.", n % 100
  return with_body(post)
end

function common.nested_post(n)
  local post = values(n)
  post.labels = { "lua", "mongodb", "benchmark" }
  post.meta = { language = "en", source = "editor", words = n % 1000 }
  return with_body(post)
end

--- CPU of this process in seconds: user and system, all of its threads.
common.cpu = os.clock

--- Seconds of the wall clock, to a millisecond.
function common.wall()
  return lumo.datetime.now().ms / 1000
end

local lowest = {}

--- Keeps the lowest of a figure's values.
function common.note(name, value)
  if not lowest[name] then lowest[#lowest + 1] = name end
  lowest[name] = math.min(lowest[name] or math.huge, value)
end

--- Says all figures: a name and seconds for one unit.
function common.report()
  for _, name in ipairs(lowest) do
    print(("%s %.9g"):format(name, lowest[name]))
  end
end

return common
