-- Cases where something was lost, widened or passed over in silence.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("review")
teardown(helper.drop)

local Item = lumo.model("ReviewItem", {
  collection = "items",
  columns = {
    title = "string",
    slug = { "string", required = true },
    n = "integer",
    meta = "object",
  },
})

local Loose = lumo.model("ReviewLoose", {
  collection = "loose",
  strict = false,
  columns = { slug = { "string", column = "post_slug" } },
})

local Tag = lumo.model("ReviewTag", { collection = "review_tags", columns = { name = "string", active = "boolean" } })

lumo.model("ReviewMembership", {
  collection = "memberships",
  columns = {
    post_id = "objectid", tag_id = "objectid",
    role = { "string", enum = { "member", "admin" } },
    level = { "integer", min = 1 },
  },
})

local Post = lumo.model("ReviewPost", {
  collection = "review_posts",
  columns = { name = "string" },
  relations = {
    tags = lumo.many_to_many(Tag, {
      pivot_table = "post_tag", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      pivot_columns = "*",
    }),
    active = lumo.many_to_many(Tag, {
      pivot_table = "post_tag", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      on_query = function(q) q:where("active", true) end,
    }),
    ruled = lumo.belongs_to_many(Tag, "ReviewMembership", "post_id", "tag_id"),
  },
})

local function code_of(fn, ...)
  local ok, err = pcall(fn, ...)
  return not ok and (type(err) == "table" and err.code or "not an error object: " .. tostring(err)) or nil
end

describe("a bulk write inside of an open group", function()
  it("has no filter yet", function()
    Item:create_many { { slug = "a" }, { slug = "b" } }
    local before = Item:count()
    assert.equal("E_ARGUMENT", code_of(function()
      Item:query():where(function(q) q:delete() end)
    end))
    assert.equal(before, Item:count())
  end)
end)

describe("create_many", function()
  it("takes more rows than one command holds", function()
    local Many = lumo.model("ReviewMany", { collection = "many", columns = { n = "integer" } })
    local rows = {}
    for i = 1, 100001 do rows[i] = { n = i } end
    assert.equal(#rows, #Many:create_many(rows))
    assert.equal(#rows, Many:count())
  end)
end)

describe("a record of a partial select", function()
  it("keeps the fields of an object that were not selected", function()
    local item = Item:create { slug = "s", meta = { a = 1, b = 2 } }
    local part = Item:query():where("id", item.id):select("slug", "meta.a"):first()
    part.meta.a = 9
    pcall(part.save, part)
    assert.equal(2, item:fresh().meta.b)
  end)

  it("is saved though a required column was not selected", function()
    local item = Item:create { slug = "s", title = "old" }
    local part = Item:query():where("id", item.id):select("title"):first()
    part.title = "new"
    part:save()
    assert.equal("new", item:fresh().title)
  end)
end)

it("a stored value that a ruled column cannot hold does not stop the saving of others", function()
  local id = lumo.objectid()
  helper.insert("items", { { _id = id, post = 1, slug = 5, title = "old" } })
  local item = Item:find(id)
  item.title = "new"
  item:save()
  assert.equal("new", helper.doc("items", { _id = id }).title)
end)

describe("find_many", function()
  local function both(type, ids)
    local name = "ReviewKey" .. type
    local model = lumo.model(name, { collection = name, columns = { _id = type } })
    for _, id in ipairs(ids) do
      model:create { _id = id }
    end
    return #model:find_many(ids)
  end

  it("finds ids in each form that find takes", function()
    assert.equal(1, both("uuid", { (tostring(lumo.uuid()):gsub("-", "")) }))
    assert.equal(1, both("date", { "2020-01-01" }))
  end)

  it("tells apart what find tells apart", function()
    assert.equal(2, both("integer", { lumo.int64("9007199254740992"), lumo.int64("9007199254740993") }))
    assert.equal(2, both("any", { 5, "5" }))
  end)
end)

describe("a model that is not strict", function()
  it("merges all attributes or none", function()
    for _ = 1, 20 do
      local record = Loose:create { slug = "s" }
      local values = { bad = function() end }
      for i = 1, 10 do values["k" .. i] = i end
      assert.equal("E_CAST", code_of(record.merge, record, values))
      assert.same({}, record.dirty)
    end
  end)

  it("does not store the key twice when it is given as id", function()
    local record = Loose:create { id = lumo.objectid(), extra = 1 }
    assert.is_nil(helper.doc("loose", { _id = record.id }).id)
  end)

  it("does not write two values for one field", function()
    assert.equal("E_ARGUMENT", code_of(Loose.create, Loose, { slug = "a", post_slug = "b" }))
  end)
end)

describe("a relation", function()
  local post, a, b

  before_each(function()
    post = Post:create { name = "p" }
    a, b = Tag:create { name = "a", active = true }, Tag:create { name = "b", active = false }
    post.tags:attach { a, b }
  end)

  it("keeps its on_query whatever or_where follows", function()
    assert.equal(1, #post.active:query():where("name", "a"):or_where("name", "b"):exec())
    post:load("active", function(q) q:where("name", "a"):or_where("name", "b") end)
    assert.equal(1, #post.active)
  end)

  it("holds pivot attributes to the rules of the pivot model", function()
    assert.equal("E_VALIDATION", code_of(function() post.ruled:attach { [a._id] = { role = "boss" } } end))
    assert.equal("E_VALIDATION", code_of(function() post.ruled:sync { [a._id] = { level = 0 }, [b._id] = {} } end))
    assert.equal("E_VALIDATION", code_of(function()
      post.ruled:attach(a)
      post.ruled:update_pivot_data(a, { level = 0 })
    end))
  end)

  it("does not take a model for an empty list", function()
    assert.equal("E_ARGUMENT", code_of(function() post.tags:sync(Tag) end))
    assert.equal(2, post.tags:count())
  end)

  it("is loaded over each record's own connection", function()
    local other = lumo.connect(helper.uri(), { name = "review_other", database = helper.database .. "_b" })
    local there = Post:create({ name = "there" }, { client = other })
    there.tags:attach(Tag:create({ name = "c" }, { client = other }))
    lumo.load({ post, there }, "tags")
    other:command { dropDatabase = 1 }
    other:close()
    assert.equal(2, #post.tags)
    assert.equal(1, #there.tags)
  end)

  it("refuses an empty path and empty parts of one", function()
    for _, path in ipairs { "", ".", "tags.", ".tags" } do
      assert.is_not_nil(code_of(post.load, post, path), path)
    end
  end)

  it("keeps an unchanged number's type on all ways of writing it", function()
    if helper.is_jit then return end
    post.tags:attach { [a._id] = { weight = 5 } }
    assert.equal(1, #post.tags:attach({ [a._id] = { weight = 5.0 } }).unchanged)
    post.tags:update_pivot_data(a, { weight = 5.0 })
    assert.equal("integer", math.type(post.tags:pivot_data(a).weight))
  end)
end)

it("a finalizer that uses lumo does not disturb what is being made", function()
  if helper.is_jit then return end
  local large = { a = ("v"):rep(3000000) }
  for i = 1, 300 do
    for _ = 1, 2 do
      setmetatable({}, { __gc = function() lumo.bson.encode(large) end })
    end
    local title = i .. ("x"):rep(200000)
    assert.equal(title, Item:new({ title = title, slug = "s" }).title)
  end
  collectgarbage()
end)

it("the id alias stands behind a collection's name, too", function()
  local item = Item:create { slug = "s" }
  assert.equal(1, Item:query():where("items.id", item.id):count())
end)

it("column functions may not do I/O", function()
  local Asks = lumo.model("ReviewAsks", {
    collection = "asks", columns = { n = { "integer", default = function() return Item:count() end } },
  })
  assert.equal("E_ARGUMENT", code_of(Asks.new, Asks, {}))
end)

describe("misuse is an error object:", function()
  local relation = Post:get_relation("tags")
  local function misuse(name, fn)
    it(name, function() assert.equal("E_ARGUMENT", code_of(fn)) end)
  end
  misuse("unless with a dot", function() Item.query(Item).unless(true) end)
  misuse("when without a function", function() Item:query():when(true) end)
  misuse("belongs_to_many with a dot", function() Post.belongs_to_many("x", "y") end)
  misuse("related_model with a dot", function() relation.get_pivot_pair(nil) end)
  misuse("get_pivot_pair of nothing", function() relation:get_pivot_pair() end)
  misuse("a hole in lumo.load", function() lumo.load({ nil, Post:new {} }, "tags") end)
  misuse("serialize with odd relations", function() Post:new({}):serialize { relations = 5 } end)
  misuse("names that a pivot cannot have", function()
    lumo.model("ReviewNames", { relations = { x = lumo.many_to_many("ReviewTag", { pivot_foreign_key = "$a" }) } })
      :get_relation("x"):boot()
  end)
  misuse("a timestamp's name that is a number", function()
    lumo.model("ReviewStamps", {
      relations = { x = lumo.many_to_many("ReviewTag", { pivot_timestamps = { created_at = 123456.75 } }) },
    }):get_relation("x"):boot()
  end)
end)
