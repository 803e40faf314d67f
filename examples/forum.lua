--[[
forum.lua: a small forum with every kind of relation: a user has one profile and many topics, a topic belongs to a user,
has many posts and many tags, a user has posts through topics.

    lua examples/forum.lua       (in a checkout: script/lua examples/forum.lua)

It connects to the MONGODB_URI of the environment, else starts a private server that is gone at the end. It works in a
database of its own, lumo_forum, and empties its collections first.
]]

local lumo = require "lumo"

local User = lumo.model("User", {
  columns = { name = { "string", required = true } },
  relations = {
    profile = lumo.has_one("Profile", { on_delete = "cascade" }),
    topics = lumo.has_many("Topic", { on_delete = "restrict" }),
    answers = lumo.has_many_through("Post", "Topic"), -- what was posted under the user's topics
  },
})

local Profile = lumo.model("Profile", {
  columns = { user_id = "objectid", about = "string" },
})

local Topic = lumo.model("Topic", {
  columns = {
    user_id = "objectid",
    title = { "string", required = true, max = 80 },
    votes = { "array", of = { "object", columns = { name = "string", value = { "integer", min = -1, max = 1 } } } },
    created_at = { "date", auto_create = true },
  },
  relations = {
    user = lumo.belongs_to("User"),
    posts = lumo.has_many("Post", { on_delete = "cascade" }),
    tags = lumo.many_to_many("Tag", { on_delete = "detach" }),
  },
})

local Post = lumo.model("Post", {
  columns = { topic_id = "objectid", author = "string", text = { "string", required = true } },
  relations = { topic = lumo.belongs_to("Topic") },
})

local Tag = lumo.model("Tag", {
  columns = { label = { "string", required = true } },
  indexes = { { "label", unique = true } },
  relations = { topics = lumo.many_to_many("Topic") },
})

local uri = os.getenv("MONGODB_URI") or ""
lumo.connect(uri ~= "" and uri or "embedded:", { database = "lumo_forum" })
for _, model in ipairs { User, Profile, Topic, Post, Tag } do model:truncate() end
lumo.connection():command(lumo.ordered {
  { "delete", "tag_topic" }, { "deletes", { lumo.ordered { { "q", {} }, { "limit", 0 } } } },
})
lumo.ensure_indexes()

-- Writing: keys are set, new owners are saved first.
local ada, ben = User:create { name = "Ada" }, User:create { name = "Ben" }
ada:related("profile"):create { about = "Counts things." }
local engines = ada.topics:create { title = "Engines" }
engines.tags:create { label = "machines" }
engines.tags:first_or_create { label = "history" }
engines.posts:create_many { { author = "Ben", text = "How fast?" }, { author = "Ada", text = "Slow." } }
local bread = Topic:new { title = "Bread" }
bread:related("user"):associate(ben)
bread.tags:attach(Tag:find_by("label", "history"))

-- Loading: a command for each relation and level, two for tags.
local commands = lumo.count_commands(function()
  local users = User:query():order_by("name"):preload("profile"):preload("topics", function(topics)
    topics:order_by("title"):preload("tags"):with_count("posts")
  end):exec()
  for _, user in ipairs(users) do
    print(("%s: %s"):format(user.name, user.profile and user.profile.about or "no profile"))
    for _, topic in ipairs(user.topics) do
      local labels = {}
      for i, tag in ipairs(topic.tags) do labels[i] = tag.label end
      table.sort(labels)
      print(("  %s [%s], %d posts"):format(topic.title, table.concat(labels, ", "), topic.extras.posts_count))
    end
  end
end)
print(commands .. " commands")

-- In queries.
print("with answers: " .. table.concat(User:query():has("answers"):pluck("name"), ", "))
print("about history: " .. table.concat(Topic:query():where_has("tags", function(tags)
  tags:where("label", "history")
end):order_by("title"):pluck("title"), ", "))

-- Embedded documents: what changed in one place is all that is sent.
engines:push("votes", { name = "Ben", value = 1 })
engines:push("votes", { name = "Eve", value = -1 })
engines.votes[2].value = 1
engines:save()
print("votes: " .. #engines.votes)

-- Deleting: a user with topics stays, a topic takes its posts along and lets go of its tags.
local ok, err = pcall(ada.delete, ada)
---@cast err +lumo.Error
print(ok, err.code)
engines:delete()
ada:delete()
print(("left: %d users, %d profiles, %d topics, %d posts, %d tags"):format(
  User:count(), Profile:count(), Topic:count(), Post:count(), Tag:count()))
