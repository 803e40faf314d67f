-- has one, has many, belongs to, has many through: their definition, clients, loading and counting.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("relations")

local Country = lumo.model("RelCountry", {
  collection = "rel_countries",
  columns = { name = "string" },
  relations = {
    authors = lumo.has_many("RelAuthor", { foreign_key = "country_id" }),
    posts = lumo.has_many_through("RelPost", "RelAuthor", {
      foreign_key = "country_id", through_foreign_key = "author_id",
    }),
  },
})

local Author = lumo.model("RelAuthor", {
  collection = "rel_authors",
  columns = { name = "string", country_id = "objectid", posts_written = "integer" },
  relations = {
    country = lumo.belongs_to("RelCountry", { foreign_key = "country_id" }),
    profile = lumo.has_one("RelProfile", { foreign_key = "author_id" }),
    posts = lumo.has_many("RelPost", { foreign_key = "author_id" }),
    published = lumo.has_many("RelPost", {
      foreign_key = "author_id", serialize_as = "out", on_query = function(q) q:where("is_published", true) end,
    }),
  },
})

local Profile = lumo.model("RelProfile", {
  collection = "rel_profiles",
  columns = { author_id = { "objectid", column = "a" }, bio = "string" },
  relations = { author = lumo.belongs_to("RelAuthor", { foreign_key = "author_id" }) },
})

local Post = lumo.model("RelPost", {
  collection = "rel_posts",
  columns = {
    author_id = "objectid", title = { "string", required = true }, views = { "integer", default = 0 },
    is_published = "boolean", slug = "string",
  },
  indexes = { { "slug", unique = true, partial = { slug = { ["$exists"] = true } } } },
  relations = {
    author = lumo.belongs_to("RelAuthor", { foreign_key = "author_id" }),
    comments = lumo.has_many("RelComment", { foreign_key = "post_id" }),
    tags = lumo.many_to_many("RelTag", {
      pivot_table = "rel_pivot", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
    }),
  },
})

local Comment = lumo.model("RelComment", {
  collection = "rel_comments",
  columns = { post_id = "objectid", text = "string" },
  relations = { post = lumo.belongs_to("RelPost", { foreign_key = "post_id" }) },
})

local Tag = lumo.model("RelTag", { collection = "rel_tags", columns = { name = "string" } })

Post:ensure_indexes()

local function refused(code, fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal(code, err.code, tostring(err))
  return err
end

local function titles(list)
  local names = {}
  for i, one in ipairs(list) do names[i] = one.title end
  table.sort(names)
  return table.concat(names, " ")
end

local function commands(fn)
  local n, list = lumo.count_commands(fn)
  local all = {}
  for i, one in ipairs(list) do all[i] = one.name end
  return n, table.concat(all, " ")
end

before_each(function()
  for _, Model in ipairs { Country, Author, Profile, Post, Comment, Tag } do Model:truncate() end
end)

teardown(helper.drop)

describe("a relation object", function()
  it("knows its kind, its models and its keys", function()
    local posts = Author:get_relation("posts")
    assert.equal("hasMany", posts.type)
    assert.equal("posts", posts.relation_name)
    assert.equal("posts", posts.serializeAs)
    assert.equal("out", Author:get_relation("published").serialize_as)
    assert.equal(Author, posts.model)
    assert.equal(Post, posts.related_model())
    assert.equal("_id", posts.local_key)
    assert.equal("author_id", posts.foreignKey)
    assert.is_true(posts.booted)
    assert.equal("hasOne", Author:get_relation("profile").type)
    local author = Post:get_relation("author")
    assert.equal("belongsTo", author.type)
    assert.equal("author_id", author.foreign_key)
    assert.equal("_id", author.local_key)
    local through = Country:getRelation("posts")
    assert.equal("hasManyThrough", through.type)
    assert.equal("country_id", through.foreign_key)
    assert.equal("author_id", through.through_foreign_key)
    assert.equal("_id", through.through_local_key)
    assert.equal(Author, through.through_model())
  end)

  it("has keys by default, after the names of models", function()
    lumo.model("RelHouse", { columns = {}, relations = {
      rooms = lumo.has_many("RelRoom"), door = lumo.has_one("RelDoor"),
      lamps = lumo.has_many_through("RelLamp", "RelRoom"),
    } })
    lumo.model("RelRoom", {
      columns = { rel_house_id = "objectid" }, relations = { house = lumo.belongs_to("RelHouse") },
    })
    lumo.model("RelDoor", { columns = { rel_house_id = "objectid" } })
    lumo.model("RelLamp", { columns = { rel_room_id = "objectid" } })
    local House, Room = lumo.model("RelHouse"), lumo.model("RelRoom")
    assert.equal("rel_house_id", House:get_relation("rooms").foreign_key)
    assert.equal("rel_house_id", House:get_relation("door").foreign_key)
    assert.equal("rel_house_id", Room:get_relation("house").foreign_key)
    assert.equal("rel_house_id", House:get_relation("lamps").foreign_key)
    assert.equal("rel_room_id", House:get_relation("lamps").through_foreign_key)
  end)

  it("is refused when a key is no column, a model is none, an option is unknown", function()
    lumo.model("RelBad", { columns = {}, relations = {
      a = lumo.has_many("RelPost"), b = lumo.has_many("RelNowhere"), c = lumo.belongs_to("RelPost"),
    } })
    local Bad = lumo.model("RelBad")
    local err = refused("E_MISSING_MODEL_ATTRIBUTE", function() return Bad:get_relation("a").foreign_key end)
    assert.matches('Relation "RelBad.a" expects "rel_bad_id" to exist on "RelPost" model', err.message, 1, true)
    refused("E_UNDEFINED_MODEL", function() return Bad:get_relation("b").foreign_key end)
    refused("E_MISSING_MODEL_ATTRIBUTE", function() return Bad:get_relation("c").foreign_key end)
    refused("E_ARGUMENT", function() lumo.has_many("RelPost", { foriegn_key = "x" }) end)
    refused("E_ARGUMENT", function() lumo.has_many(5) end)
    refused("E_ARGUMENT", function() lumo.has_one("RelPost", { on_query = 5 }) end)
    refused("E_ARGUMENT", function() lumo.belongs_to("RelPost", { foreign_key = "" }) end)
    refused("E_ARGUMENT", function() lumo.has_many_through("RelPost") end)
    refused("E_ARGUMENT", function() lumo.has_many("RelPost", { on_delete = "explode" }) end)
  end)
end)

describe("has many", function()
  it("creates and saves with the foreign key set", function()
    local author = Author:create { name = "Ada" }
    local post = author.posts:create { title = "one" }
    assert.equal(author._id, post.author_id)
    assert.is_true(post.is_persisted)
    local made = author.posts:create_many { { title = "two" }, { title = "three" } }
    assert.equal(2, #made)
    local saved = Post:new { title = "four" }
    author.posts:save(saved)
    assert.equal(author._id, saved.author_id)
    author.posts:saveMany { Post:new { title = "five" }, Post:new { title = "six" } }
    assert.equal("five four one six three two", titles(author.posts:exec()))
    assert.equal(6, author.posts:query():count())
    assert.equal("one", author.posts:find(post._id).title)
    assert.is_nil(author.posts:find(lumo.objectid()))
  end)

  it("saves a new parent first, and nothing when anything fails", function()
    local author = Author:new { name = "Grace" }
    author.posts:create { title = "hers" }
    assert.is_true(author.is_persisted)
    assert.equal(1, author.posts:query():count())
    local other = Author:new { name = "Nobody" }
    refused("E_VALIDATION", function() other.posts:create_many { { title = "fine" }, { views = 1 } } end)
    assert.is_true(other.is_new)
    assert.equal(1, Author:count())
    assert.equal(1, Post:count())
  end)

  it("finds or makes inside of the relation", function()
    local author, other = Author:create { name = "a" }, Author:create { name = "b" }
    other.posts:create { title = "same" }
    local post = author.posts:first_or_create({ title = "same" }, { views = 3 })
    assert.equal(3, post.views)
    assert.equal(author._id, post.author_id)
    assert.equal(post._id, author.posts:firstOrCreate({ title = "same" }, { views = 4 })._id)
    assert.equal(9, author.posts:update_or_create({ title = "same" }, { views = 9 }).views)
    assert.equal(2, Post:count())
    local list = author.posts:fetch_or_create_many("title", { { title = "same" }, { title = "new" } })
    assert.equal(post._id, list[1]._id)
    assert.equal(author._id, list[2].author_id)
    list = author.posts:update_or_create_many({ "title" }, { { title = "same", views = 1 }, { title = "newer" } })
    assert.equal(1, list[1].views)
    assert.equal(4, Post:count())
    assert.equal(3, author.posts:query():count())
  end)

  it("is a builder bound to the parent, with everything a builder has", function()
    local author, other = Author:create { name = "a" }, Author:create { name = "b" }
    author.posts:create_many { { title = "x", views = 1 }, { title = "y", views = 5 }, { title = "z", views = 9 } }
    other.posts:create { title = "x", views = 100 }
    local q = author.posts:query()
    assert.is_true(q.is_related_query)
    assert.equal(15, author.posts:query():sum("views"))
    assert.equal("z y", (function()
      local list = author.posts:query():order_by("views", "desc"):limit(2):pluck("title")
      return table.concat(list, " ")
    end)())
    -- an or_where does not escape
    assert.equal(3, author.posts:query():where("title", "x"):or_where("views", ">", 0):count())
    assert.equal(2, author.posts:query():where("views", ">", 1):update { is_published = true })
    assert.equal(3, author.posts:query():everything():delete())
    assert.equal(1, Post:count())
    refused("E_ARGUMENT", function() author.posts:query():delete() end)
    local page = other.posts:paginate(1, 10)
    assert.equal(1, page.total)
    assert.equal(0, #author.posts:exec())
  end)

  it("sees what on_query lets it see", function()
    local author = Author:create { name = "a" }
    author.posts:create_many { { title = "x", is_published = true }, { title = "y" } }
    assert.equal("x", titles(author.published:exec()))
    assert.equal("x y", titles(author.posts:exec()))
    local loaded = Author:query():preload("published"):preload("posts"):first()
    assert.equal("x", titles(loaded.published))
    assert.equal("x y", titles(loaded.posts))
    local out = loaded:serialize()
    assert.equal(1, #out.out)
    assert.is_nil(out.published)
  end)

  it("is E_NOT_LOADED as a list before it is loaded, and a list with a client afterwards", function()
    local author = Author:create { name = "a" }
    author.posts:create { title = "x" }
    refused("E_NOT_LOADED", function() return #author.posts end)
    refused("E_NOT_LOADED", function() return author.posts[1] end)
    author:load("posts")
    assert.equal(1, #author.posts)
    author.posts:create { title = "y" }
    assert.equal(1, #author.posts)
    assert.equal(2, author:related("posts"):query():count())
    assert.equal(author.posts, author.preloaded.posts)
  end)

  it("refuses a parent without a key, and wrong arguments, with nothing sent", function()
    local Keyed = lumo.model("RelKeyed", { columns = { code = "string" }, relations = {
      posts = lumo.has_many("RelPost", { local_key = "code", foreign_key = "slug" }),
    } })
    local author, without = Author:create { name = "a" }, Keyed:create {}
    local n = commands(function()
      local err = refused("E_MISSING_ATTRIBUTE_VALUE", function() without.posts:create { title = "x" } end)
      assert.equal('Cannot create "posts", value of "RelKeyed.code" is nil', err.message)
      refused("E_MISSING_ATTRIBUTE_VALUE", function() without.posts:exec() end)
      refused("E_ARGUMENT", function() author.posts:save(Author:new {}) end)
      refused("E_ARGUMENT", function() author.posts:save("x") end)
      refused("E_ARGUMENT", function() author.posts:save_many(5) end)
      refused("E_ARGUMENT", function() author.posts:create_many(5) end)
      refused("E_UNDEFINED_COLUMN", function() author.posts:create { nope = 1 } end)
      refused("E_ARGUMENT", function() author.posts.create { title = "x" } end)
      refused("E_ARGUMENT", function() author.posts:find(nil) end)
    end)
    assert.equal(0, n)
    local keyed = Keyed:create { code = "k" }
    keyed.posts:create { title = "by code" }
    assert.equal("k", Post:first().slug)
  end)

  it("is a part of the parent's transaction", function()
    local author = Author:create { name = "a" }
    pcall(lumo.transaction, function(trx)
      local inside = Author:query { client = trx }:first()
      inside.posts:create { title = "x" }
      assert.equal(1, inside.posts:query():count())
      error("no")
    end)
    assert.equal(0, author.posts:query():count())
  end)
end)

describe("has one", function()
  it("is the record or nil once it is loaded", function()
    local author, other = Author:create { name = "a" }, Author:create { name = "b" }
    local profile = author:related("profile"):create { bio = "of a" }
    assert.equal(author._id, profile.author_id)
    refused("E_NOT_LOADED", function() return author.profile end)
    author:load("profile")
    assert.equal("of a", author.profile.bio)
    other:load("profile")
    assert.is_nil(other.profile)
    assert.equal("of a", author:related("profile"):query():first().bio)
    assert.equal("of a", author:related("profile"):exec().bio)
    assert.is_nil(other:related("profile"):exec())
    local first = author:related("profile"):first_or_create({}, { bio = "another" })
    assert.equal(profile._id, first._id)
    assert.equal("new", author:related("profile"):update_or_create({}, { bio = "new" }).bio)
    assert.equal(1, Profile:count())
    local own = Profile:new { bio = "saved" }
    other:related("profile"):save(own)
    assert.equal(other._id, own.author_id)
  end)

  it("is preloaded and serialized as one record", function()
    local author = Author:create { name = "a" }
    Author:create { name = "b" }
    author:related("profile"):create { bio = "x" }
    local list
    local n = commands(function() list = Author:query():order_by("name"):preload("profile"):exec() end)
    assert.equal(2, n)
    assert.equal("x", list[1].profile.bio)
    assert.is_nil(list[2].profile)
    assert.equal("x", list[1]:serialize().profile.bio)
    assert.matches('"profile":{', list[1]:to_json(), 1, true)
  end)
end)

describe("belongs to", function()
  it("associates, which saves both, and dissociates", function()
    local post, author = Post:new { title = "x" }, Author:new { name = "a" }
    post:related("author"):associate(author)
    assert.is_true(author.is_persisted)
    assert.is_true(post.is_persisted)
    assert.equal(author._id, post.author_id)
    assert.equal(author._id, Post:first().author_id)
    assert.equal("a", post:related("author"):query():first().name)
    post:related("author"):dissociate()
    assert.is_nil(post.author_id)
    assert.is_nil(Post:first().author_id)
    assert.is_nil(post:related("author"):exec())
    refused("E_ARGUMENT", function() post:related("author"):associate(Tag:new {}) end)
    refused("E_ARGUMENT", function() post:related("author"):associate(nil) end)
  end)

  it("loads one record for many children in one command", function()
    local author, other = Author:create { name = "a" }, Author:create { name = "b" }
    author.posts:create_many { { title = "1" }, { title = "2" } }
    other.posts:create { title = "3" }
    Post:create { title = "4" } -- nobody's
    Post:create { title = "5", author_id = lumo.objectid() } -- of somebody who is gone
    local list
    local n = commands(function() list = Post:query():order_by("title"):preload("author"):exec() end)
    assert.equal(2, n)
    assert.equal("a", list[1].author.name)
    assert.equal("a", list[2].author.name)
    assert.equal("b", list[3].author.name)
    assert.is_nil(list[4].author)
    assert.is_nil(list[5].author)
    refused("E_NOT_LOADED", function() return Post:first().author end)
  end)
end)

describe("has many through", function()
  it("reaches over another model", function()
    local land, sea = Country:create { name = "land" }, Country:create { name = "sea" }
    local a, b = land.authors:create { name = "a" }, land.authors:create { name = "b" }
    local c = sea.authors:create { name = "c" }
    a.posts:create_many { { title = "1", views = 1 }, { title = "2", views = 2 } }
    b.posts:create { title = "3", views = 3 }
    c.posts:create { title = "4", views = 4 }
    assert.equal("1 2 3", titles(land.posts:exec()))
    assert.equal("2 3", titles(land.posts:query():where("views", ">", 1):exec()))
    assert.equal(3, land.posts:query():count())
    local list
    local n = commands(function() list = Country:query():order_by("name"):preload("posts"):exec() end)
    assert.equal(3, n)
    assert.equal("1 2 3", titles(list[1].posts))
    assert.equal("4", titles(list[2].posts))
    assert.is_nil(land.posts.create)
    refused("E_MISSING_ATTRIBUTE_VALUE", function() Country:new {}.posts:exec() end)
  end)

  it("reaches over a pivot", function()
    lumo.model("RelMember", { collection = "rel_members", columns = { user_id = "objectid", project_id = "objectid" } })
    local Task = lumo.model("RelTask", {
      collection = "rel_tasks", columns = { project_id = "objectid", name = "string" },
    })
    local User = lumo.model("RelUser", { collection = "rel_users", columns = {}, relations = {
      tasks = lumo.has_many_through("RelTask", "RelMember", {
        foreign_key = "user_id", through_local_key = "project_id", through_foreign_key = "project_id",
      }),
    } })
    local user, project = User:create {}, lumo.objectid()
    lumo.model("RelMember"):create { user_id = user._id, project_id = project }
    Task:create_many { { project_id = project, name = "mine" }, { project_id = lumo.objectid(), name = "not mine" } }
    assert.equal("mine", user.tasks:exec()[1].name)
    assert.equal(1, #User:query():preload("tasks"):first().tasks)
  end)
end)

describe("loading", function()
  local authors

  before_each(function()
    authors = Author:create_many { { name = "a" }, { name = "b" }, { name = "c" } }
    for i, author in ipairs(authors) do
      for k = 1, i do
        local post = author.posts:create { title = author.name .. k, views = k }
        post.comments:create_many { { text = "x" }, { text = "y" } }
      end
    end
  end)

  it("takes one command for each relation and level, nested paths and callbacks included", function()
    local list
    local n = commands(function()
      list = Author:query():order_by("name"):preload("posts", function(q)
        q:order_by("views", "desc"):preload("comments")
      end):preload("profile"):exec()
    end)
    assert.equal(4, n)
    assert.equal(3, #list[3].posts)
    assert.equal("c3", list[3].posts[1].title)
    assert.equal(2, #list[3].posts[1].comments)
    n = commands(function() lumo.load(authors, "posts.comments") end)
    assert.equal(2, n)
    assert.equal(2, #authors[2].posts[1].comments)
    n = commands(function() authors[1]:load_once("posts") end)
    assert.equal(0, n)
    local posts = Post:query():preload("author.country"):exec()
    assert.is_nil(posts[1].author.country)
  end)

  it("limits per parent", function()
    local list
    local n = commands(function()
      list = Author:query():order_by("name"):preload("posts", function(q)
        q:group_limit(2):group_order_by("views", "desc")
      end):exec()
    end)
    assert.equal(2, n)
    assert.equal(1, #list[1].posts)
    assert.equal(2, #list[3].posts)
    local views = { list[3].posts[1].views, list[3].posts[2].views }
    table.sort(views)
    assert.same({ 2, 3 }, views)
  end)

  it("selects the key that a preload needs", function()
    local one = Author:query():select("name"):preload("posts"):order_by("name"):first()
    assert.equal("a1", one.posts[1].title)
    local post = Post:query():select("title"):order_by("title"):preload("author"):first()
    assert.equal("a", post.author.name)
    refused("E_MISSING_ATTRIBUTE_VALUE", function() Post:query():select("title"):first():related("author"):exec() end)
  end)

  it("set_related, push_related and set_related_for_many put records where loading would", function()
    local relation, posts = Author:get_relation("posts"), Post:all()
    relation:set_related_for_many(authors, posts)
    assert.equal(3, #authors[3].posts)
    relation:set_related(authors[1], {})
    assert.equal(0, #authors[1].posts)
    relation:push_related(authors[1], posts[1])
    assert.equal(1, #authors[1].posts)
    local profile = Profile:new { bio = "x" }
    Author:get_relation("profile"):set_related(authors[1], profile)
    assert.equal(profile, authors[1].profile)
    refused("E_ARGUMENT", function() relation:set_related(authors[1], { Tag:new {} }) end)
  end)
end)

describe("relations in queries", function()
  before_each(function()
    local land = Country:create { name = "land" }
    local a, b = land.authors:create { name = "a" }, land.authors:create { name = "b" }
    Author:create { name = "c" }
    a.posts:create_many { { title = "1", views = 1 }, { title = "2", views = 5 } }
    b.posts:create { title = "3", views = 2 }
    a:related("profile"):create { bio = "x" }
  end)

  local function names(q)
    return table.concat(q:order_by("name"):pluck("name"), " ")
  end

  it("has, where_has and their opposites", function()
    assert.equal("a b", names(Author:query():has("posts")))
    assert.equal("a", names(Author:query():has("posts", ">", 1)))
    assert.equal("c", names(Author:query():doesnt_have("posts")))
    assert.equal("a", names(Author:query():where_has("posts", function(q) q:where("views", ">", 2) end)))
    assert.equal("b c", names(Author:query():where_doesnt_have("posts", function(q) q:where("views", ">", 2) end)))
    assert.equal("a", names(Author:query():has("profile")))
    assert.equal("a b", names(Author:query():has("country")))
    assert.equal("land", names(Country:query():has("authors.posts")))
    assert.equal("land", names(Country:query():has("posts", ">=", 3)))
    assert.equal("", names(Country:query():has("posts", ">", 3)))
    assert.equal("1 2", table.concat(Post:query():where_has("author", function(q)
      q:where("name", "a")
    end):order_by("title"):pluck("title"), " "))
  end)

  it("with_count, with_aggregate and load_count", function()
    local list = Author:query():order_by("name"):with_count("posts"):with_count("profile")
      :with_aggregate("posts", function(q) q:sum("views"):as("views") end):exec()
    assert.same({ 2, 1, 0 }, { list[1].extras.posts_count, list[2].extras.posts_count, list[3].extras.posts_count })
    assert.same({ 6, 2, 0 }, { list[1].extras.views, list[2].extras.views, list[3].extras.views })
    assert.equal(1, list[1].extras.profile_count)
    local land = Country:first()
    land:load_count("authors"):load_count("posts")
    assert.equal(2, land.extras.authors_count)
    assert.equal(3, land.extras.posts_count)
  end)
end)

describe("on_delete", function()
  local function pair(on_delete)
    local number = on_delete .. tostring(math.random(1e9))
    local Child = lumo.model("RelChild" .. number, { columns = { parent_id = "objectid" } })
    local Parent = lumo.model("RelParent" .. number, { columns = {}, relations = {
      children = lumo.has_many(Child, { foreign_key = "parent_id", on_delete = on_delete }),
    } })
    local parent, other = Parent:create {}, Parent:create {}
    parent.children:create_many { {}, {} }
    other.children:create {}
    return parent, Child, Parent
  end

  it("cascade deletes them, with their hooks and what hangs on them", function()
    local parent, Child = pair("cascade")
    local deleted = 0
    Child:before("delete", function() deleted = deleted + 1 end)
    parent:delete()
    assert.equal(1, Child:count())
    assert.equal(2, deleted)
  end)

  it("nullify takes their key out, so that a sparse unique index lets them be", function()
    local parent, Child, Parent = pair("nullify")
    parent:delete()
    assert.equal(3, Child:count())
    assert.equal(2, Child:query():where_null("parent_id"):count())
    assert.equal(1, Child:query():where_exists("parent_id"):count())
    local One = lumo.model("RelNullified", {
      columns = { parent_id = "objectid" }, indexes = { { "parent_id", unique = true, sparse = true } },
    })
    One:ensure_indexes()
    Parent:add_relation("one", lumo.has_one(One, { foreign_key = "parent_id", on_delete = "nullify" }))
    for _ = 1, 2 do
      local owner = Parent:create {}
      owner:related("one"):create {}
      owner:delete()
    end
    assert.equal(2, One:count())
  end)

  it("reads what hangs on many with one command for each relation and level", function()
    local Low = lumo.model("RelLow", { columns = { middle_id = "objectid" } })
    local Middle = lumo.model("RelMiddle", { columns = { top_id = "objectid" }, relations = {
      lows = lumo.has_many(Low, { foreign_key = "middle_id", on_delete = "cascade" }),
      one = lumo.has_one(Low, { foreign_key = "middle_id", on_delete = "cascade" }),
    } })
    local Top = lumo.model("RelTop", { columns = {}, relations = {
      middles = lumo.has_many(Middle, { foreign_key = "top_id", on_delete = "cascade" }),
    } })
    local top = Top:create {}
    for _ = 1, 20 do top.middles:create {}.lows:create_many { {}, {} } end
    Low:create {}
    local n = lumo.count_commands(function() top:delete() end)
    assert.equal(7, n) -- 3 finds, 3 deletes, the commit
    assert.same({ 0, 0, 1 }, { Top:count(), Middle:count(), Low:count() })
  end)

  it("sees what fetch hooks hide: no orphans stay behind, nothing is forgotten", function()
    for _, method in ipairs { "delete", "delete_quietly" } do
      for _, on_delete in ipairs { "cascade", "nullify", "restrict" } do
        local parent, Child = pair(on_delete)
        local fetched, deleted, hidden = 0, 0, true
        for _, event in ipairs { "find", "fetch" } do
          Child:before(event, function(q)
            fetched = fetched + 1
            if hidden then q:where_null("parent_id") end
          end)
        end
        Child:after("fetch", function() fetched = fetched + 1 end)
        Child:before("delete", function() deleted = deleted + 1 end)
        local ok = pcall(parent[method], parent)
        assert.equal(on_delete ~= "restrict", ok)
        assert.equal(0, fetched)
        assert.equal(on_delete == "cascade" and method == "delete" and 2 or 0, deleted)
        hidden = false
        local left = Child:query():where("parent_id", parent._id):count()
        assert.equal(on_delete == "restrict" and 2 or 0, left)
        assert.equal(on_delete == "cascade" and 1 or 3, Child:count())
      end
    end
  end)

  it("quietly detaches without hooks of the pivot model, too", function()
    lumo.model("RelLabel", { columns = {} })
    local told = 0
    local Row = lumo.model("RelLabelled", {
      collection = "rel_labelled", columns = { rel_holder_id = "objectid", rel_label_id = "objectid" },
    })
    Row:before("delete", function() told = told + 1 end)
    local Holder = lumo.model("RelHolder", { columns = {}, relations = {
      labels = lumo.many_to_many("RelLabel", {
        pivot_model = "RelLabelled", pivot_table = "rel_labelled", pivot_foreign_key = "rel_holder_id",
        pivot_related_foreign_key = "rel_label_id", on_delete = "detach",
      }),
    } })
    local loud, quiet = Holder:create {}, Holder:create {}
    for _, one in ipairs { loud, quiet } do one.labels:create {} end
    quiet:delete_quietly()
    assert.equal(0, told)
    loud:delete()
    assert.equal(1, told)
    assert.equal(0, Row:count())
  end)

  it("restrict anywhere below is known before the first write, with transactions or without", function()
    local function tree(options)
      local number = tostring(math.random(1e9))
      local Leaf = lumo.model("RelLeaf" .. number, { columns = { branch_id = "objectid" } })
      local Twig = lumo.model("RelTwig" .. number, { columns = { branch_id = "objectid" } })
      local Branch = lumo.model("RelBranch" .. number, { columns = { tree_id = "objectid" }, relations = {
        a_twigs = lumo.has_many(Twig, { foreign_key = "branch_id", on_delete = "cascade" }),
        b_leaves = lumo.has_many(Leaf, { foreign_key = "branch_id", on_delete = "restrict" }),
      } })
      local Ring = lumo.model("RelRing" .. number, { columns = { tree_id = "objectid" } })
      local Tree = lumo.model("RelTree" .. number, { columns = {}, relations = {
        a_rings = lumo.has_many(Ring, { foreign_key = "tree_id", on_delete = "nullify" }),
        b_branches = lumo.has_many(Branch, { foreign_key = "tree_id", on_delete = "cascade" }),
      } })
      local one = Tree:create({}, options)
      one.a_rings:create {}
      one.b_branches:create({}).a_twigs:create {}
      one.b_branches:create({}).b_leaves:create {}
      return one, Ring
    end
    local function check(options)
      local one, Ring = tree(options)
      local ok, err
      local _, list = lumo.count_commands(function() ok, err = pcall(one.delete, one) end)
      assert.is_false(ok)
      assert.equal("E_ARGUMENT", err.code)
      assert.matches("b_leaves", err.message, 1, true)
      for _, command in ipairs(list) do
        assert.is_true(command.name == "find" or command.name == "abortTransaction", command.name)
      end
      assert.equal(1, Ring:query(options):where("tree_id", one._id):count())
      assert.is_false(one.is_deleted)
    end
    check {}
    local server = helper.start_mongod()
    local alone = lumo.connect(server.address, { name = "rel_standalone", database = "x" })
    finally(function()
      alone:close()
      server:remove()
    end)
    check { client = alone }
  end)

  it("refuses an owner whose key was not selected, rather than forget what belongs to it", function()
    local Part = lumo.model("RelPart", { columns = { whole = "string" } })
    local Whole = lumo.model("RelWhole", { columns = { code = "string", n = "integer" }, relations = {
      parts = lumo.has_many(Part, { local_key = "code", foreign_key = "whole", on_delete = "cascade" }),
    } })
    Whole:create({ code = "a" }).parts:create {}
    refused("E_MISSING_ATTRIBUTE_VALUE", function() Whole:query():select("n"):first():delete() end)
    assert.equal(1, Part:count())
    Whole:first():delete()
    assert.equal(0, Part:count())
    Whole:create({}):delete() -- has no key: nothing belongs to it
  end)

  it("restrict refuses while there are any", function()
    local parent, Child, Parent = pair("restrict")
    local err = refused("E_ARGUMENT", function() parent:delete() end)
    assert.matches("children", err.message, 1, true)
    assert.is_false(parent.is_deleted)
    assert.equal(2, Parent:count())
    parent.children:query():everything():delete()
    parent:delete()
    assert.equal(1, Parent:count())
    assert.equal(1, Child:count())
  end)

  it("goes down several levels, and ends where models point to each other in a circle", function()
    local Node = lumo.model("RelNode", { columns = { up_id = "objectid", name = "string" }, relations = {
      below = lumo.has_many("RelNode", { foreign_key = "up_id", on_delete = "cascade" }),
    } })
    local top = Node:create { name = "top" }
    local middle = top.below:create { name = "middle" }
    local low = middle.below:create { name = "low" }
    top.up_id = low._id -- a circle of documents
    top:save()
    top:delete()
    assert.equal(0, Node:count())
  end)
end)
