--[[
blog.lua: posts and tags, the guide to many-to-many relations as one script.

    lua examples/blog.lua        (in a checkout: script/lua examples/blog.lua)

It connects to the MONGODB_URI of the environment, else starts a private server that is gone at the end. It
works in a database of its own, lumo_blog, and empties its three collections first.
]]

local lumo = require "lumo"

local function heading(text)
  print("\n" .. text)
end

-- What a relation's write did: how many pairs of each kind.
local function describe(result)
  return ("%d attached, %d updated, %d unchanged, %d detached"):format(
    #result.attached, #result.updated, #result.unchanged, #result.detached)
end

-- The names of tags, or the titles of posts, in one line.
local function list(records, attribute)
  local texts = {}
  for i, record in ipairs(records) do
    texts[i] = record[attribute]
  end
  table.sort(texts)
  return #texts > 0 and table.concat(texts, ", ") or "none"
end

-- ---- Setting up models ---------------------------------------------------------------------------

-- The related models are named by strings, so that either may be defined first. A model's primary key is _id,
-- an ObjectId that is made when the document is inserted, unless the definition declares another.
local Post = lumo.model("Post", {
  collection = "posts",
  columns = { title = "string", content = "string" },
  relations = { tags = lumo.belongs_to_many("Tag", "PostTag", "post_id", "tag_id") },
})

local Tag = lumo.model("Tag", {
  collection = "tags",
  columns = { name = "string", slug = "string" },
  relations = { posts = lumo.belongs_to_many("Post", "PostTag", "tag_id", "post_id") },
})

-- The pivot: one document per pair. It may hold more than the two keys, declared or not.
local PostTag = lumo.model("PostTag", {
  collection = "post_tags",
  columns = { post_id = "objectid", tag_id = "objectid", created_at = "date" },
})

local uri = os.getenv("MONGODB_URI") or ""
local connection = lumo.connect(uri ~= "" and uri or "embedded:", { database = "lumo_blog" })

-- Without a filter a bulk delete is an error, unless it says that it means everything.
for _, model in ipairs{ Post, Tag, PostTag } do
  model:query():everything():delete()
end

-- Indexes on the pivot: unique by post and tag, and by tag and post for the way back.
lumo.ensure_indexes()

local post = Post:create{ title = "Many to many", content = "Posts have tags, and tags have posts." }
local tag1 = Tag:create{ name = "MongoDB", slug = "mongodb" }
local tag2 = Tag:create{ name = "NoSQL", slug = "nosql" }
local tag3 = Tag:create{ name = "Lua", slug = "lua" }
print(("created %s and the tags %s"):format(tostring(post), list({ tag1, tag2, tag3 }, "name")))

-- ---- Querying relationships ----------------------------------------------------------------------

heading "Querying"
post.tags:attach(tag1._id)
-- An id may be given as text, as it comes from a URL.
post = Post:find_or_fail(tostring(post._id))
print("tags of the post: " .. list(post.tags:exec(), "name"))
local tag = Tag:find_or_fail(tag1._id)
print("posts of the tag: " .. list(tag.posts:exec(), "title"))

-- ---- Managing relationships ----------------------------------------------------------------------

heading "Attaching"
print("tags 1 and 2: " .. describe(post.tags:attach{ tag1._id, tag2._id }))
-- The pairs are there: attaching them with pivot data adds no document but sets the data.
print("the same with pivot data: " .. describe(post.tags:attach_with_pivot_data{
  { id = tag1._id, pivot_data = { created_at = lumo.datetime.now(), weight = 10 } },
  { id = tag2._id, pivot_data = { created_at = lumo.datetime.now(), weight = 5 } },
}))
print("documents in the pivot: " .. PostTag:count())

heading "Detaching"
print("tag 1: " .. post.tags:detach{ tag1._id } .. " removed")
print("all: " .. post.tags:detach() .. " removed")

heading "Syncing"
post.tags:attach{ tag1._id, tag2._id }
-- After a sync the pairs are exactly these: tag 1 goes, tag 2 stays as it is, tag 3 comes.
print("tags 2 and 3: " .. describe(post.tags:sync{ tag2._id, tag3._id }))
print("tags of the post: " .. list(post.tags:exec(), "name"))
print("with pivot data: " .. describe(post.tags:sync_with_pivot_data{
  { id = tag2._id, pivot_data = { created_at = lumo.datetime.now(), weight = 8 } },
  { id = tag3._id, pivot_data = { created_at = lumo.datetime.now(), weight = 12 } },
}))

heading "Checking"
print("has tag 1: " .. tostring(post.tags:exists(tag1._id)))
print("has tag 2: " .. tostring(post.tags:exists(tag2._id)))

-- ---- Advanced usage ------------------------------------------------------------------------------

heading "Pivot data"
print("weight of tag 2: " .. post.tags:pivot_data(tag2._id).weight)
post.tags:update_pivot_data(tag2._id, { weight = 15 })
print("after the update: " .. post.tags:pivot_data(tag2._id).weight)
print("of a tag that is not attached: " .. tostring(post.tags:pivot_data(tag1._id)))

-- ---- Examples ------------------------------------------------------------------------------------

heading "A post with its tags"
local introduction = Post:create{
  title = "Introduction to MongoDB",
  content = "MongoDB is a NoSQL database...",
}
introduction.tags:attach{ tag1._id, tag2._id }
-- After load the property is an ordinary list of records, which still has the relation's methods.
introduction:load("tags")
for _, each in ipairs(introduction.tags) do
  print(("%s (%s)"):format(each.name, each.slug))
end

heading "Posts with a specific tag"
local mongodb_tag = Tag:query():where("slug", "mongodb"):first()
print(list(mongodb_tag.posts:exec(), "title"))

heading "Additional pivot data"
local advanced = Post:create{
  title = "Advanced MongoDB Techniques",
  content = "Learn advanced techniques...",
}
local extra = Tag:create_many{
  { name = "Advanced", slug = "advanced" },
  { name = "Performance", slug = "performance" },
}
advanced.tags:attach_with_pivot_data{
  { id = tag1._id, pivot_data = { relevance = "high" } },
  { id = extra[1]._id, pivot_data = { relevance = "high" } },
  { id = extra[2]._id, pivot_data = { relevance = "medium" } },
}
-- Related records carry the data of their pair, here in the order of a query on the related side.
for _, each in ipairs(advanced:related("tags"):query():order_by("name"):exec()) do
  print(("%-12s relevance %s"):format(each.name, each.extras.pivot_relevance))
end

connection:close()
