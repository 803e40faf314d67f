-- Records: their life from new to deleted, what is stored, and what is sent for it.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("record")
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused
local expect_commands = helper.expect_commands
local pluck, texts = helper.pluck, helper.texts

local made = 0
local Post = lumo.model("RecordPost", {
  collection = "posts",
  columns = {
    title = "string",
    slug = { "string", column = "post_slug", serialize_as = "permalink" },
    views = { "integer", default = 0 },
    number = { "integer", default = function()
      made = made + 1
      return made
    end },
    score = "number",
    meta = "object",
    labels = { "array", of = "string" },
    published = "date",
    raw = "any",
  },
})

local Stamped = lumo.model("RecordStamped", {
  collection = "stamped",
  columns = {
    title = "string",
    created_at = { "date", auto_create = true },
    updated_at = { "date", auto_create = true, auto_update = true },
  },
})

local Country = lumo.model("RecordCountry", {
  collection = "countries",
  columns = { code = { "string", primary = true }, name = "string" },
})

-- A list fixes the order of stored fields.
local Ordered = lumo.model("RecordOrdered", {
  collection = "ordered",
  columns = { { "zebra", "string" }, { "apple", "string" }, { "mango", "object" } },
})

before_each(function()
  helper.clear("posts", "stamped", "countries", "ordered")
end)

local function stored(record)
  return helper.doc("posts", { _id = record._id })
end

describe("create", function()
  it("stores one document with one command and generates its _id", function()
    local post
    expect_commands(1, function()
      post = Post:create { title = "Hello", labels = { "a", "b" }, meta = { color = "red" } }
    end)
    assert.is_true(post.is_persisted)
    assert.is_false(post.is_new)
    assert.is_true(post.is_local)
    assert.is_false(post.is_dirty)

    local document = helper.doc("posts")
    assert.equal(post._id, document._id)
    assert.equal(24, #tostring(document._id))
    assert.equal("Hello", document.title)
    assert.same({ "a", "b" }, document.labels)
    assert.same({ color = "red" }, document.meta)
  end)

  it("stores attributes under their column names", function()
    Post:create { slug = "a-b" }
    local document = helper.doc("posts")
    assert.equal("a-b", document.post_slug)
    assert.is_nil(document.slug)
    assert.is_nil(document.permalink)
  end)

  it("stores no field for an attribute without a value", function()
    Post:create { title = "x" }
    assert.equal("missing", helper.type_of("posts", {}, "score"))
    assert.equal("missing", helper.type_of("posts", {}, "meta"))
  end)

  it("applies defaults, from values and from functions", function()
    local first = Post:create { title = "a" }
    local second = Post:create { title = "b" }
    assert.equal(0, first.views)
    assert.equal(0, stored(first).views)
    assert.equal(first.number + 1, second.number)
    assert.equal(second.number, stored(second).number)
  end)

  it("lets given values win over defaults, null included", function()
    assert.equal(5, stored(Post:create { views = 5 }).views)
    Post:create { title = "nothing", views = lumo.null }
    assert.equal("null", helper.type_of("posts", { title = "nothing" }, "views"))
  end)

  it("takes an _id that is given", function()
    local id = lumo.objectid()
    assert.equal(id, Post:create({ _id = id, title = "x" })._id)
    local hex = tostring(lumo.objectid())
    assert.equal(lumo.objectid(hex), Post:create({ _id = hex, title = "y" })._id)
    assert.equal("objectId", helper.type_of("posts", { title = "y" }, "_id"))
  end)

  it("stores a declared primary column as _id", function()
    local country = Country:create { code = "de", name = "Germany" }
    assert.equal("de", country.id)
    local document = helper.doc("countries")
    assert.equal("de", document._id)
    assert.is_nil(document.code)
    assert.equal("Germany", Country:find("de").name)
  end)

  it("writes fields in the order of the columns, after _id", function()
    Ordered:create { mango = {}, apple = "a", zebra = "z" }
    assert.same({ "_id", "zebra", "apple", "mango" }, helper.field_order("ordered", {}))
    Post:create { title = "t", score = 1, labels = {}, views = 1, number = 1, slug = "s" }
    assert.same({ "_id", "labels", "number", "score", "post_slug", "title", "views" },
      helper.field_order("posts", {}))
  end)

  it("stores empty tables as what their columns are", function()
    Post:create { labels = {}, meta = {}, raw = {} }
    assert.equal("array", helper.type_of("posts", {}, "labels"))
    assert.equal("object", helper.type_of("posts", {}, "meta"))
    assert.equal("object", helper.type_of("posts", {}, "raw"))
  end)

  it("refuses unknown names before it sends anything", function()
    expect_refused("E_UNDEFINED_COLUMN", function() Post:create { titel = "x" } end)
    assert.equal(0, #helper.docs("posts"))
  end)

  it("refuses a key that exists, and says which", function()
    Country:create { code = "de", name = "Germany" }
    local err = expect_error("E_DUPLICATE_KEY", function() Country:create { code = "de", name = "Other" } end)
    assert.equal("_id", err.key)
    assert.equal("de", err.value)
    assert.equal("Germany", helper.doc("countries").name)
  end)
end)

describe("create_many", function()
  it("sends one insert for all rows and returns the records in order", function()
    local posts
    local _, names = helper.commands(function()
      posts = Post:create_many { { title = "a" }, { title = "b" }, { title = "c" } }
    end)
    local inserts = 0
    for _, name in ipairs(names) do
      inserts = inserts + (name == "insert" and 1 or 0)
    end
    assert.equal(1, inserts)
    assert.same({ "a", "b", "c" }, pluck(posts, "title"))
    assert.same(texts(pluck(posts, "_id")), texts(pluck(helper.docs("posts", {}, { title = 1 }), "_id")))
    assert.is_true(posts[3].is_persisted)
  end)

  it("is all or nothing", function()
    Country:create { code = "de", name = "Germany" }
    local err = expect_error("E_DUPLICATE_KEY", function()
      Country:create_many { { code = "at" }, { code = "de" }, { code = "ch" } }
    end)
    assert.equal("de", err.value)
    assert.equal(1, #helper.docs("countries"))
  end)

  it("refuses one bad row before anything is sent", function()
    expect_refused("E_CAST", function() Post:create_many { { title = "a" }, { views = "many" } } end)
    expect_refused("E_ARGUMENT", function() Post:create_many { { title = "a" }, nil, { title = "c" } } end)
    expect_refused("E_ARGUMENT", function() Post:create_many { title = "a" } end)
    expect_refused("E_ARGUMENT", function() Post:create_many(nil) end)
    assert.equal(0, #helper.docs("posts"))
  end)

  it("of nothing is nothing", function()
    expect_commands(0, function() assert.same({}, Post:create_many {}) end)
  end)
end)

describe("finding", function()
  local a, b

  before_each(function()
    a = Post:create { title = "a", slug = "one", views = 1 }
    b = Post:create { title = "b", slug = "two", views = 2 }
  end)

  it("by id takes the id and its text, and sends one command", function()
    expect_commands(1, function() assert.equal("a", Post:find(a._id).title) end)
    assert.equal("b", Post:find(tostring(b._id)).title)
    local found = Post:find(a._id)
    assert.is_true(found.is_persisted)
    assert.is_false(found.is_local)
    assert.is_false(found.is_dirty)
    assert.equal(a._id, found._id)
  end)

  it("by an id that is not there gives nil, or raises", function()
    assert.is_nil(Post:find(lumo.objectid()))
    expect_error("E_ROW_NOT_FOUND", function() Post:find_or_fail(lumo.objectid()) end)
    assert.equal("a", Post:find_or_fail(a._id).title)
  end)

  it("refuses no id at all, and what is none", function()
    expect_refused("E_ARGUMENT", function() Post:find(nil) end)
    expect_refused("E_ARGUMENT", function() Post:find() end)
    expect_refused("E_ARGUMENT", function() Post:find_or_fail(nil) end)
    expect_refused("E_CAST", function() Post:find("not an id") end)
    expect_refused("E_CAST", function() Post:find(5) end)
  end)

  it("by column or by a table of columns", function()
    assert.equal("b", Post:find_by("slug", "two").title)
    assert.equal("b", Post:find_by({ slug = "two", views = 2 }).title)
    assert.is_nil(Post:find_by { slug = "two", views = 1 })
    assert.is_nil(Post:find_by("slug", "three"))
    expect_refused("E_ARGUMENT", function() Post:find_by("slug", nil) end)
    expect_refused("E_ARGUMENT", function() Post:find_by("slug") end)
    expect_refused("E_ARGUMENT", function() Post:find_by {} end)
    expect_refused("E_UNDEFINED_COLUMN", function() Post:find_by("post_slug", "two") end)
  end)

  it("many ids gives each found record once, in the order asked for", function()
    local found
    expect_commands(1, function()
      found = Post:find_many { b._id, lumo.objectid(), tostring(a._id), b._id }
    end)
    assert.same({ "b", "a" }, pluck(found, "title"))
    assert.same({}, Post:find_many {})
    expect_refused("E_ARGUMENT", function() Post:find_many(nil) end)
    expect_refused("E_ARGUMENT", function() Post:find_many { a._id, nil, b._id } end)
  end)

  it("all and first", function()
    local titles = pluck(Post:all(), "title")
    table.sort(titles)
    assert.same({ "a", "b" }, titles)
    assert.is_truthy(Post:first().title)
    helper.clear("posts")
    assert.same({}, Post:all())
    assert.is_nil(Post:first())
  end)

  it("counts", function()
    assert.equal(2, Post:count())
  end)

  it("gives MongoDB's own aggregation as plain tables", function()
    local rows = Post:aggregate {
      { ["$group"] = { _id = lumo.null, total = { ["$sum"] = "$views" } } },
    }
    assert.equal(1, #rows)
    assert.equal(3, rows[1].total)
  end)
end)

describe("save", function()
  it("inserts a new record once", function()
    local post = Post:new { title = "x" }
    expect_commands(1, function() post:save() end)
    expect_commands(0, function() post:save() end)
    assert.is_true(post.is_persisted)
    assert.equal("x", stored(post).title)
  end)

  it("sends nothing when nothing changed", function()
    local post = Post:create { title = "x", labels = { "a" }, meta = { n = 1 } }
    expect_commands(0, function() post:save() end)
    post.title = "x"
    post.views = 0
    assert.is_false(post.is_dirty)
    expect_commands(0, function() post:save() end)

    local found = Post:find(post._id)
    expect_commands(0, function() found:save() end)
  end)

  it("sends only what changed", function()
    local post = Post:create { title = "old", views = 1 }
    helper.update("posts", { _id = post._id }, {
      ["$set"] = { views = 100, title = "theirs", extra = "kept" },
    })
    post.score = 2.5
    expect_commands(1, function() post:save() end)

    local document = stored(post)
    assert.equal(2.5, document.score)
    assert.equal(100, document.views)
    assert.equal("theirs", document.title)
    assert.equal("kept", document.extra)
  end)

  it("forgets a change that was taken back", function()
    local post = Post:create { title = "x" }
    post.title = "y"
    post.title = "x"
    assert.is_false(post.is_dirty)
    expect_commands(0, function() post:save() end)
  end)

  it("removes a field that is set to nil, and stores lumo.null as null", function()
    local post = Post:create { title = "x", score = 1.5, views = 5 }
    post.score = nil
    post.title = lumo.null
    expect_commands(1, function() post:save() end)
    assert.is_nil(post.score)
    assert.is_nil(post.title)
    assert.equal("missing", helper.type_of("posts", {}, "score"))
    assert.equal("null", helper.type_of("posts", {}, "title"))
    assert.equal(5, stored(post).views)
  end)

  it("counts a table that was mutated in place as changed", function()
    local post = Post:create { meta = { color = "red", size = { w = 1 } }, labels = { "a" } }
    post.meta.size.w = 2
    table.insert(post.labels, "b")
    assert.is_true(post.is_dirty)
    expect_commands(1, function() post:save() end)
    assert.same({ color = "red", size = { w = 2 } }, stored(post).meta)
    assert.same({ "a", "b" }, stored(post).labels)
    assert.is_false(post.is_dirty)

    local found = Post:find(post._id)
    found.meta.color = nil
    found:save()
    assert.same({ size = { w = 2 } }, stored(post).meta)
  end)

  it("never takes a table for changed because it was read", function()
    helper.insert("posts", { {
      title = "x",
      meta = lumo.ordered { { "z", 1 }, { "a", lumo.int64("5") }, { "m", { 1.5, lumo.null, "t" } } },
      labels = { "b", "a" },
      raw = lumo.ordered {
        { "when", lumo.datetime.now() },
        { "id", lumo.objectid() },
        { "deep", { { {} } } },
      },
    } })
    helper.convert("posts", {}, "meta.z", "$toDouble")
    local post = Post:first()
    helper.touch(post.meta.a, post.meta.m[1], post.labels[1], post.raw.deep[1])
    assert.is_false(post.is_dirty)
    assert.same({}, post.dirty)
    expect_commands(0, function() post:save() end)
  end)

  it("keeps the key order of a stored table that changed", function()
    local document = lumo.ordered { { "zebra", "z" }, { "mango", lumo.ordered { { "y", 1 }, { "b", 2 } } } }
    helper.insert("ordered", { document })
    local record = Ordered:first()
    record.mango.y = 3
    record:save()
    local rows = helper.aggregate("ordered", {
      { ["$project"] = { keys = { ["$objectToArray"] = "$mango" } } },
    })
    assert.same({ "y", "b" }, pluck(rows[1].keys, "k"))
  end)

  it("keeps the BSON types of numbers that did not change", function()
    local post = Post:create { title = "x", views = 5, score = 5, raw = 5 }
    helper.convert("posts", {}, "views", "$toDouble")
    helper.convert("posts", {}, "score", "$toInt")
    helper.convert("posts", {}, "raw", "$toLong")
    post = Post:find(post._id)
    helper.touch(post.views, post.score, post.raw)
    post.title = "y"
    post:save()
    assert.equal("double", helper.type_of("posts", {}, "views"))
    assert.equal("int", helper.type_of("posts", {}, "score"))
    assert.equal("long", helper.type_of("posts", {}, "raw"))
  end)

  it("leaves fields alone that no column declares, and get reads them", function()
    helper.insert("posts", { { title = "x", legacy = { deep = { 1, 2 } }, flag = true } })
    local post = Post:first()
    assert.same({ 1, 2 }, post:get("legacy").deep)
    assert.is_true(post:get("flag"))
    assert.is_nil(post.flag)
    post.title = "y"
    post:save()
    assert.same({ deep = { 1, 2 } }, stored(post).legacy)
    assert.is_true(stored(post).flag)
  end)

  it("raises when the document is gone", function()
    local post = Post:create { title = "x" }
    helper.clear("posts")
    post.title = "y"
    expect_error("E_ROW_NOT_FOUND", function() post:save() end)
    assert.equal(0, #helper.docs("posts"))
    assert.is_true(post.is_dirty)
    assert.equal("y", post.title)
  end)
end)

describe("a save that fails", function()
  setup(function()
    helper.create_index("posts", { { "post_slug", 1 } }, { unique = true, sparse = true })
  end)

  teardown(function()
    helper.command { { "dropIndexes", "posts" }, { "index", "post_slug" } }
  end)

  it("leaves a new record new", function()
    Post:create { slug = "taken" }
    local post = Post:new { slug = "taken", title = "x" }
    local before = post._id
    local err = expect_error("E_DUPLICATE_KEY", function() post:save() end)
    assert.equal("post_slug", err.key)
    assert.equal("taken", err.value)
    assert.equal("not_applied", err.outcome)
    assert.is_true(post.is_new)
    assert.is_false(post.is_persisted)
    assert.is_true(post.is_dirty)
    assert.equal(before, post._id)

    post.slug = "free"
    post:save()
    assert.is_true(post.is_persisted)
    assert.equal("free", stored(post).post_slug)
  end)

  it("leaves a changed record changed", function()
    Post:create { slug = "taken" }
    local post = Post:create { slug = "mine", title = "x" }
    post.slug = "taken"
    post.title = "y"
    expect_error("E_DUPLICATE_KEY", function() post:save() end)
    assert.is_true(post.is_dirty)
    assert.equal("taken", post.slug)
    assert.equal("mine", post.original.slug)
    assert.equal("mine", stored(post).post_slug)
    assert.equal("x", stored(post).title)

    post.slug = "other"
    post:save()
    assert.equal("other", stored(post).post_slug)
    assert.equal("y", stored(post).title)
  end)

  it("tells no value in its message", function()
    Post:create { slug = "taken-by-somebody" }
    local err = expect_error("E_DUPLICATE_KEY", function() Post:create { slug = "taken-by-somebody" } end)
    assert.same({ "RecordPost", "slug", "post_slug" }, { err.model, err.attribute, err.key })
    assert.is_nil(tostring(err.message):find("taken-by-somebody", 1, true))
  end)
end)

describe("the state of a record", function()
  it("tells what changed, from what and to what", function()
    local post = Post:create { title = "old", views = 1 }
    post.title = "new"
    assert.is_true(post.is_dirty)
    assert.is_true(post.isDirty)
    assert.same({ title = "new" }, post.dirty)
    assert.equal("old", post.original.title)
    assert.equal("new", post.attributes.title)
    assert.equal(1, post.attributes.views)
    post:save()
    assert.is_false(post.is_dirty)
    assert.same({}, post.dirty)
    assert.equal("new", post.original.title)
  end)

  it("has extras that may be written to and are not stored", function()
    local post = Post:create { title = "x" }
    post.extras.note = "mine"
    assert.equal("mine", post.extras.note)
    assert.is_false(post.is_dirty)
    post:save()
    assert.is_nil(stored(post).note)
  end)

  it("is readable as text", function()
    local post = Post:create { title = "x" }
    assert.equal(("RecordPost(%s)"):format(tostring(post._id)), tostring(post))
  end)

  it("does not let the primary key of a persisted record change", function()
    local post = Post:create { title = "x" }
    expect_error("E_ARGUMENT", function() post._id = lumo.objectid() end)
    expect_error("E_ARGUMENT", function() post:set("_id", lumo.objectid()) end)
    expect_error("E_ARGUMENT", function() post:merge { _id = lumo.objectid() } end)
    local country = Country:create { code = "de" }
    expect_error("E_ARGUMENT", function() country.code = "at" end)
    assert.equal("de", country.code)
    assert.is_false(country.is_dirty)
  end)

  it("does not let properties and methods be assigned", function()
    local post = Post:new { title = "x" }
    for _, name in ipairs { "is_new", "save", "original" } do
      assert.is_false(pcall(function() post[name] = true end))
    end
    assert.is_true(post.is_new)
  end)
end)

describe("get, set, merge and fill", function()
  it("get and set do what properties do", function()
    local post = Post:new { title = "x" }
    assert.equal("x", post:get("title"))
    post:set("title", "y")
    assert.equal("y", post.title)
    expect_error("E_UNDEFINED_COLUMN", function() post:set("titel", "z") end)
    expect_error("E_CAST", function() post:set("views", "z") end)
  end)

  it("merge changes only what it is given", function()
    local post = Post:create { title = "x", views = 3, score = 1 }
    post:merge { title = "y" }
    assert.equal("y", post.title)
    assert.equal(3, post.views)
    assert.same({ title = "y" }, post.dirty)
  end)

  it("fill replaces all attributes but the primary key", function()
    local post = Post:create { title = "x", score = 1, slug = "s" }
    local id = post._id
    post:fill { title = "y" }
    assert.equal(id, post._id)
    assert.equal("y", post.title)
    assert.is_nil(post.score)
    assert.is_nil(post.slug)
    post:save()
    local document = stored(post)
    assert.equal("y", document.title)
    assert.is_nil(document.score)
    assert.is_nil(document.post_slug)
  end)

  it("change nothing when one of the values is refused", function()
    local post = Post:create { title = "x", views = 3 }
    expect_error("E_CAST", function() post:merge { title = "y", views = "many" } end)
    expect_error("E_UNDEFINED_COLUMN", function() post:merge { title = "y", titel = "z" } end)
    expect_error("E_CAST", function() post:fill { title = "y", views = "many" } end)
    assert.equal("x", post.title)
    assert.equal(3, post.views)
    assert.is_false(post.is_dirty)
  end)
end)

describe("refresh", function()
  it("reads the document again and drops changes", function()
    local post = Post:create { title = "x", views = 1 }
    helper.update("posts", {}, { ["$set"] = { title = "theirs" }, ["$unset"] = { views = "" } })
    post.score = 5
    expect_commands(1, function() post:refresh() end)
    assert.equal("theirs", post.title)
    assert.is_nil(post.views)
    assert.is_nil(post.score)
    assert.is_false(post.is_dirty)
  end)

  it("raises when the document is gone", function()
    local post = Post:create { title = "x" }
    helper.clear("posts")
    expect_error("E_ROW_NOT_FOUND", function() post:refresh() end)
    assert.equal("x", post.title)
  end)
end)

describe("delete", function()
  it("removes the document with one command, and the record may not be used again", function()
    local post = Post:create { title = "x" }
    local other = Post:create { title = "other" }
    expect_commands(1, function() post:delete() end)
    assert.is_true(post.is_deleted)
    assert.same(texts { other._id }, texts(pluck(helper.docs("posts"), "_id")))
    assert.equal("x", post.title)

    expect_refused("E_MODEL_DELETED", function() post:save() end)
    expect_refused("E_MODEL_DELETED", function() post:delete() end)
    expect_refused("E_MODEL_DELETED", function() post.title = "y" end)
    expect_refused("E_MODEL_DELETED", function() post:set("title", "y") end)
    expect_refused("E_MODEL_DELETED", function() post:merge { title = "y" } end)
    expect_refused("E_MODEL_DELETED", function() post:fill { title = "y" } end)
    assert.equal("x", post.title)
  end)

  it("raises when the document is gone", function()
    local post = Post:create { title = "x" }
    helper.clear("posts")
    expect_error("E_ROW_NOT_FOUND", function() post:delete() end)
    assert.is_false(post.is_deleted)
  end)
end)

describe("automatic dates", function()
  it("are set when the document is created", function()
    local before = helper.now_ms()
    local record = Stamped:create { title = "x" }
    local document = helper.doc("stamped")
    assert.is_true(document.created_at.ms >= before and document.created_at.ms <= helper.now_ms())
    assert.equal(document.created_at, record.created_at)
    assert.equal(document.updated_at, record.updated_at)
  end)

  it("are moved by a save that changes something, updated_at only", function()
    local old = lumo.datetime("2001-02-03T04:05:06Z")
    local record = Stamped:create { title = "x" }
    helper.update("stamped", {}, { ["$set"] = { created_at = old, updated_at = old } })
    record:refresh()
    expect_commands(0, function() record:save() end)
    assert.equal(old, helper.doc("stamped").updated_at)

    record.title = "y"
    local before = helper.now_ms()
    record:save()
    local document = helper.doc("stamped")
    assert.equal(old, document.created_at)
    assert.is_true(document.updated_at.ms >= before)
    assert.equal(document.updated_at, record.updated_at)
  end)

  it("give way to values that are given", function()
    local old = lumo.datetime("2001-02-03T04:05:06Z")
    Stamped:create { title = "x", created_at = old }
    assert.equal(old, helper.doc("stamped").created_at)
  end)
end)

describe("a stored value that its column cannot hold", function()
  local post

  before_each(function()
    helper.insert("posts", {
      { title = "x", views = "many", published = 5, labels = "no list", score = 1.5 },
    })
    post = Post:first()
  end)

  it("does not keep the record from being loaded", function()
    assert.equal("x", post.title)
    assert.equal(1.5, post.score)
  end)

  it("raises when that attribute is read", function()
    local err = expect_error("E_CAST", function() return post.views end)
    assert.equal("views", err.attribute)
    expect_error("E_CAST", function() return post:get("views") end)
    expect_error("E_CAST", function() return post.published end)
    expect_error("E_CAST", function() return post.labels end)
  end)

  it("is given raw by get", function()
    assert.equal("many", post:get("views", { raw = true }))
    assert.equal(5, post:get("published", { raw = true }))
    assert.equal("no list", post:get("labels", { raw = true }))
  end)

  it("is left alone by saving other columns", function()
    post.title = "y"
    assert.is_true(post.is_dirty)
    post:save()
    local document = stored(post)
    assert.equal("y", document.title)
    assert.equal("many", document.views)
    assert.equal(5, document.published)
  end)

  it("can be replaced", function()
    post.views = 7
    post:save()
    assert.equal(7, post.views)
    assert.equal(7, stored(post).views)
  end)
end)

describe("serializing", function()
  local post

  before_each(function()
    post = Post:create {
      title = 'quo"te', slug = "a-b", views = 3, labels = { "a" }, meta = {},
      published = lumo.datetime("2020-01-02T03:04:05Z"),
    }
  end)

  it("serialize speaks serialized names, to_table attribute names", function()
    assert.equal("a-b", post:serialize().permalink)
    assert.is_nil(post:serialize().slug)
    assert.equal("a-b", post:to_table().slug)
    assert.equal("a-b", post:toTable().slug)
    assert.equal(tostring(post._id), post:to_table()._id)
    assert.same({ "a" }, post:to_table().labels)
  end)

  it("serialize refuses names that nothing has", function()
    local function refused(code, options)
      expect_refused(code, function() post:serialize(options) end)
    end
    refused("E_UNDEFINED_COLUMN", { fields = { "slug" } })
    refused("E_UNDEFINED_COLUMN", { fields = { omit = { "nope" } } })
    refused("E_UNDEFINED_COLUMN", { fields = { pick = { "views", "nope" } } })
    refused("E_ARGUMENT", { fields = { 1 } })
    refused("E_UNDEFINED_RELATIONSHIP", { relations = { nope = {} } })
  end)

  it("serialize takes the fields that are asked for", function()
    local picked = post:serialize { fields = { "title", "permalink" } }
    assert.same({ title = 'quo"te', permalink = "a-b" }, picked)
    local rest = post:serialize { fields = { omit = { "title" } } }
    assert.is_nil(rest.title)
    assert.equal("a-b", rest.permalink)
    assert.same({ views = 3 }, post:serialize { fields = { pick = { "views" } } })
  end)

  it("to_json is JSON that anybody can read", function()
    local json = post:to_json()
    assert.is_truthy(json:find('"title"%s*:%s*"quo\\"te"'), json)
    assert.is_truthy(json:find('"permalink"%s*:%s*"a%-b"'), json)
    assert.is_truthy(json:find('"views"%s*:%s*3[,%s}]'), json)
    assert.is_truthy(json:find('"labels"%s*:%s*%[%s*"a"%s*%]'), json)
    assert.is_truthy(json:find('"meta"%s*:%s*{%s*}'), json)
    assert.is_truthy(json:find(('"%s"'):format(tostring(post._id)), 1, true), json)
    assert.is_truthy(json:find('"published"%s*:%s*"2020%-01%-02T03:04:05'), json)
    assert.equal(json, post:toJson())
  end)
end)
