-- Many to many: what the client does, what it returns, what is stored in the pivot, and what it sends.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("pivot")
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused
local expect_commands, expect_at_most = helper.expect_commands, helper.expect_at_most
local pluck, texts, sorted = helper.pluck, helper.texts, helper.sorted

local Post = lumo.model("PivotPost", {
  collection = "posts",
  columns = { title = "string" },
  relations = {
    tags = lumo.belongs_to_many("PivotTag", "PivotPostTag", "post_id", "tag_id"),
    plain = lumo.many_to_many("PivotTag", {
      pivot_table = "plain", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      pivot_columns = { "role" },
    }),
    bag = lumo.many_to_many("PivotTag", {
      pivot_table = "bag", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      duplicates = true,
    }),
    stepwise = lumo.many_to_many("PivotTag", {
      pivot_table = "stepwise", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      atomic = false,
    }),
    stamped = lumo.many_to_many("PivotTag", {
      pivot_table = "stamped", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      pivot_timestamps = true,
    }),
    dated = lumo.manyToMany("PivotTag", {
      pivotTable = "dated", pivotForeignKey = "post_id", pivotRelatedForeignKey = "tag_id",
      pivotTimestamps = { createdAt = "joined_at", updatedAt = "changed_at" },
    }),
    typed = lumo.many_to_many("PivotTag", {
      pivot_table = "typed", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      pivot_model = "PivotTyped",
    }),
  },
})

local Tag = lumo.model("PivotTag", {
  collection = "tags",
  columns = { name = "string", slug = "string" },
  relations = {
    posts = lumo.belongs_to_many("PivotPost", "PivotPostTag", "tag_id", "post_id"),
  },
})

lumo.model("PivotPostTag", {
  collection = "post_tags",
  columns = { post_id = "objectid", tag_id = "objectid", weight = "integer" },
})

lumo.model("PivotTyped", {
  collection = "typed",
  strict = true,
  columns = {
    post_id = "objectid",
    tag_id = "objectid",
    role = { "string", default = "guest" },
    since = "date",
    level = { "integer", column = "lvl" },
  },
})

-- Everything by default, with integer keys.
local Member = lumo.model("PivotMember", {
  collection = "members",
  columns = { id = { "integer", primary = true }, name = "string" },
  relations = { teams = lumo.many_to_many("PivotTeam") },
})

local Team = lumo.model("PivotTeam", {
  collection = "teams",
  columns = { id = { "integer", primary = true }, name = "string" },
  relations = { members = lumo.many_to_many("PivotMember") },
})

local TEAMS = "pivot_member_pivot_team"

local post, other, a, b, c, d
local absent = lumo.objectid("60a1e2c3d4e5f6a7b8c9d0ff")

before_each(function()
  helper.clear("posts", "tags", "post_tags", "plain", "bag", "stepwise", "stamped", "dated", "typed",
    "members", "teams", TEAMS)
  post = Post:create { title = "post" }
  other = Post:create { title = "other" }
  local tags = Tag:create_many {
    { name = "a", slug = "sa" }, { name = "b", slug = "sb" }, { name = "c", slug = "sc" },
    { name = "d", slug = "sd" },
  }
  a, b, c, d = tags[1]._id, tags[2]._id, tags[3]._id, tags[4]._id
end)

local function rows(owner, collection)
  return helper.docs(collection or "post_tags", { post_id = (owner or post)._id })
end

local function row(tag, collection)
  return helper.doc(collection or "post_tags", { post_id = post._id, tag_id = tag })
end

-- The related ids that the pivot holds for a post, as sorted texts.
local function pairs_of(owner, collection)
  return sorted(pluck(rows(owner, collection), "tag_id"))
end

-- `expected` may leave out the empty lists.
local function assert_pairs(expected, result)
  for _, name in ipairs { "attached", "updated", "unchanged", "detached" } do
    assert.same(texts(expected[name] or {}), texts(result[name]), name)
  end
end

describe("attach", function()
  it("adds one pair by one command, given an id, its text, a record, or a list of one", function()
    for _, ids in ipairs { a, tostring(a), Tag:find(a), { a }, { tostring(a) }, { Tag:find(a) } } do
      helper.clear("post_tags")
      local result
      expect_commands(1, function() result = post.tags:attach(ids) end)
      assert_pairs({ attached = { a } }, result)
      assert.equal(a, result.attached[1])
      assert.same(texts { a }, pairs_of())
      assert.equal("objectId", helper.type_of("post_tags", {}, "tag_id"))
    end
  end)

  it("adds one pair with attributes by one command, and tells added, changed and unchanged", function()
    local function attach(attributes)
      local result
      expect_commands(1, function() result = post.tags:attach { [a] = attributes } end)
      return result
    end
    assert_pairs({ attached = { a } }, attach { weight = 1 })
    assert_pairs({ unchanged = { a } }, attach { weight = 1 })
    assert_pairs({ updated = { a } }, attach { weight = 2 })
    assert_pairs({ unchanged = { a } }, attach {})
    assert.equal(2, row(a).weight)
  end)

  it("adds many pairs by two commands, in the order given", function()
    local result
    expect_at_most(2, 0, function() result = post.tags:attach { c, a, b } end)
    assert_pairs({ attached = { c, a, b } }, result)
    assert.same(sorted { a, b, c }, pairs_of())
    assert.same({}, pairs_of(other))
  end)

  it("touches nothing that is there", function()
    post.tags:attach { [a] = { weight = 7 } }
    local before = row(a)
    local result
    expect_at_most(2, 0, function() result = post.tags:attach { b, a, c } end)
    assert_pairs({ attached = { b, c }, unchanged = { a } }, result)
    assert.equal(before._id, row(a)._id)
    assert.equal(7, row(a).weight)

    expect_at_most(2, 0, function() result = post.tags:attach { a, b, c } end)
    assert_pairs({ unchanged = { a, b, c } }, result)
    expect_commands(1, function() result = post.tags:attach { a } end)
    assert_pairs({ unchanged = { a } }, result)
    assert.equal(3, #rows())
  end)

  it("merges attributes into rows that are there, by three commands and a commit", function()
    post.tags:attach { [a] = { weight = 1, note = "kept" } }
    post.tags:attach { b }
    local id = row(a)._id
    local result
    expect_at_most(3, 1, function()
      result = post.tags:attach { [a] = { weight = 2 }, [b] = {}, [c] = { weight = 3 } }
    end)
    assert_pairs({ attached = { c }, updated = { a }, unchanged = { b } }, result)
    assert.equal(id, row(a)._id)
    assert.equal(2, row(a).weight)
    assert.equal("kept", row(a).note)
    assert.equal(3, row(c).weight)
  end)

  it("names ids from a map in their order as BSON", function()
    local map = {}
    for _, id in ipairs { d, b, a, c } do
      map[id] = { weight = 1 }
    end
    assert.same(sorted { a, b, c, d }, texts(post.tags:attach(map).attached))
  end)

  it("takes text as keys of a map", function()
    post.tags:attach { [tostring(a)] = { weight = 5 }, [tostring(b)] = { weight = 6 } }
    assert.equal(5, row(a).weight)
    assert.equal("objectId", helper.type_of("post_tags", { weight = 6 }, "tag_id"))
  end)

  it("counts an id once that is given twice, in whatever form", function()
    local result = post.tags:attach { a, b, a, tostring(a), Tag:find(a) }
    assert_pairs({ attached = { a, b } }, result)
    assert.equal(2, #rows())
  end)

  it("of nothing is nothing", function()
    assert_pairs({}, post.tags:attach {})
    assert.equal(0, #rows())
  end)

  it("takes 2,000 ids in the same two commands", function()
    local ids = {}
    for i = 1, 2000 do
      ids[i] = lumo.objectid()
    end
    local result
    expect_at_most(2, 0, function() result = post.plain:attach(ids) end)
    assert.same(texts(ids), texts(result.attached))
    expect_at_most(2, 0, function() result = post.plain:attach(ids) end)
    assert.equal(2000, #result.unchanged)
    assert.equal(2000, #helper.docs("plain", {}))
    expect_commands(1, function() assert.equal(2000, #post.plain:ids()) end)
    expect_commands(1, function() assert.equal(2000, post.plain:detach()) end)
  end)

  it("is sync without detaching", function()
    post.tags:attach { a }
    local result
    expect_at_most(2, 0, function() result = post.tags:sync({ b, a }, false) end)
    assert_pairs({ attached = { b }, unchanged = { a } }, result)
    assert.same(sorted { a, b }, pairs_of())
  end)
end)

describe("attach_with_pivot_data", function()
  it("does what attach does with a map, in the order given", function()
    post.tags:attach { a }
    local result
    expect_at_most(3, 1, function()
      result = post.tags:attach_with_pivot_data {
        { id = c, pivot_data = { weight = 3 } },
        { id = tostring(a), pivot_data = { weight = 1 } },
        { id = b, pivot_data = {} },
      }
    end)
    assert_pairs({ attached = { c, b }, updated = { a } }, result)
    assert.equal(1, row(a).weight)
    assert.equal(3, row(c).weight)
    assert.equal(3, #rows())
  end)

  it("counts equal elements once and refuses contradicting ones", function()
    local result = post.tags:attach_with_pivot_data {
      { id = a, pivot_data = { weight = 1 } },
      { id = a, pivot_data = { weight = 1 } },
    }
    assert_pairs({ attached = { a } }, result)
    expect_refused("E_ARGUMENT", function()
      post.tags:attach_with_pivot_data {
        { id = a, pivot_data = { weight = 1 } },
        { id = a, pivot_data = { weight = 2 } },
      }
    end)
    assert.equal(1, row(a).weight)
  end)

  it("refuses anything but a list of { id, pivot_data }", function()
    for _, list in ipairs {
      a, "x", { a }, { id = a, pivot_data = {} }, { [a] = { weight = 1 } },
      { { pivot_data = { weight = 1 } } }, { { id = a, weight = 1 } }, { { id = a, pivot_data = "heavy" } },
      { { id = a, pivot_data = {} }, [3] = { id = b, pivot_data = {} } },
    } do
      expect_refused("E_ARGUMENT", function() post.tags:attach_with_pivot_data(list) end)
      expect_refused("E_ARGUMENT", function() post.tags:sync_with_pivot_data(list) end)
    end
    assert.equal(0, #rows())
  end)
end)

describe("sync", function()
  it("makes the pairs be exactly these, by four commands and a commit at most", function()
    post.tags:attach { a, b }
    other.tags:attach { a }
    local result
    expect_at_most(4, 1, function() result = post.tags:sync { d, b, c } end)
    assert_pairs({ attached = { d, c }, unchanged = { b }, detached = { a } }, result)
    assert.same(sorted { b, c, d }, pairs_of())
    assert.same(texts { a }, pairs_of(other))
  end)

  it("keeps _id, creation time and unmentioned attributes of kept rows", function()
    local old = lumo.datetime("2001-02-03T04:05:06Z")
    post.tags:attach_with_pivot_data {
      { id = a, pivot_data = { weight = 1, note = "n", created_at = old } },
      { id = b, pivot_data = { weight = 2 } },
    }
    local id = row(a)._id
    post.tags:sync { a, c }
    assert.equal(id, row(a)._id)
    assert.equal(1, row(a).weight)
    assert.equal("n", row(a).note)
    assert.equal(old, row(a).created_at)

    local result
    expect_at_most(4, 1, function()
      result = post.tags:sync { [a] = { weight = 5 }, [c] = {}, [d] = { weight = 4 } }
    end)
    assert_pairs({ attached = { d }, updated = { a }, unchanged = { c } }, result)
    assert.equal(id, row(a)._id)
    assert.equal(5, row(a).weight)
    assert.equal("n", row(a).note)
    assert.equal(old, row(a).created_at)
  end)

  it("writes nothing when nothing differs", function()
    post.tags:attach_with_pivot_data { { id = a, pivot_data = { weight = 1, note = "n" } } }
    local result
    local _, names = helper.commands(function() result = post.tags:sync { [a] = { weight = 1 } } end)
    assert_pairs({ unchanged = { a } }, result)
    for _, name in ipairs(names) do
      assert.is_nil(({ insert = true, update = true, delete = true })[name])
    end
  end)

  it("compares attributes as values, whatever type of number is stored", function()
    post.tags:attach { [a] = { weight = 1, info = { x = 1, list = { 1, 2 } } } }
    helper.convert("post_tags", {}, "weight", "$toLong")
    local result = post.tags:sync { [a] = { weight = 1, info = { x = 1, list = { 1, 2 } } } }
    assert_pairs({ unchanged = { a } }, result)
    result = post.tags:sync { [a] = { info = { x = 1, list = { 2, 1 } } } }
    assert_pairs({ updated = { a } }, result)
  end)

  it("stores null for lumo.null", function()
    post.tags:attach { [a] = { role = "admin" } }
    assert_pairs({ updated = { a } }, post.tags:sync { [a] = { role = lumo.null } })
    assert.equal("null", helper.type_of("post_tags", {}, "role"))
    assert_pairs({ unchanged = { a } }, post.tags:sync { [a] = { role = lumo.null } })
  end)

  it("of nothing removes everything of this parent", function()
    post.tags:attach { a, b }
    other.tags:attach { a }
    local result
    expect_at_most(4, 1, function() result = post.tags:sync {} end)
    assert.same(sorted { a, b }, sorted(result.detached))
    assert.same({}, pairs_of())
    assert.same(texts { a }, pairs_of(other))
  end)

  it("leaves everything as it was when it fails", function()
    helper.create_index("post_tags", { { "slot", 1 } }, { unique = true, sparse = true })
    finally(function() helper.command { { "dropIndexes", "post_tags" }, { "index", "slot" } } end)
    post.tags:attach { a, b }
    local before = texts(pluck(rows(), "_id"))

    expect_error("E_DUPLICATE_KEY", function()
      post.tags:sync { [b] = { weight = 9 }, [c] = { slot = 1 }, [d] = { slot = 1 } }
    end)
    assert.same(before, texts(pluck(rows(), "_id")))
    assert.same(sorted { a, b }, pairs_of())
    assert.is_nil(row(b).weight)

    local result = post.tags:sync { [b] = { weight = 9 }, [c] = { slot = 1 }, [d] = { slot = 2 } }
    assert.same(sorted { c, d }, sorted(result.attached))
  end)

  it("with pivot data takes a list, in its order", function()
    post.tags:attach { a }
    local result
    expect_at_most(4, 1, function()
      result = post.tags:sync_with_pivot_data {
        { id = c, pivot_data = { weight = 12 } }, { id = b, pivot_data = { weight = 8 } },
      }
    end)
    assert_pairs({ attached = { c, b }, detached = { a } }, result)
    assert.equal(12, row(c).weight)

    result = post.tags:sync_with_pivot_data({ { id = d, pivot_data = { weight = 1 } } }, false)
    assert_pairs({ attached = { d } }, result)
    assert.same(sorted { b, c, d }, pairs_of())
  end)
end)

describe("detach", function()
  before_each(function()
    post.tags:attach { a, b, c }
    other.tags:attach { a }
  end)

  it("removes the given pairs by one command and returns their number", function()
    expect_commands(1, function() assert.equal(2, post.tags:detach { a, c, d }) end)
    assert.same(texts { b }, pairs_of())
    assert.same(texts { a }, pairs_of(other))
    assert.equal(1, post.tags:detach(b))
    assert.equal(0, post.tags:detach(b))
  end)

  it("takes texts and records", function()
    assert.equal(2, post.tags:detach { tostring(a), Tag:find(b) })
    assert.same(texts { c }, pairs_of())
  end)

  it("without an argument removes all of this parent by one command", function()
    expect_commands(1, function() assert.equal(3, post.tags:detach()) end)
    assert.same({}, pairs_of())
    assert.same(texts { a }, pairs_of(other))
  end)

  it("of an empty list removes nothing", function()
    assert.equal(0, post.tags:detach {})
    assert.equal(3, #rows())
  end)
end)

describe("toggle", function()
  it("detaches the attached and attaches the rest, by three commands and a commit at most", function()
    post.tags:attach { a, b }
    other.tags:attach { a }
    local result
    expect_at_most(3, 1, function() result = post.tags:toggle { d, a, c } end)
    assert_pairs({ attached = { d, c }, detached = { a } }, result)
    assert.same(sorted { b, c, d }, pairs_of())
    assert.same(texts { a }, pairs_of(other))

    result = post.tags:toggle(b)
    assert_pairs({ detached = { b } }, result)
    result = post.tags:toggle { a, a }
    assert_pairs({ attached = { a } }, result)
    assert_pairs({}, post.tags:toggle {})
    assert.same(sorted { a, c, d }, pairs_of())
  end)
end)

describe("asking for pairs", function()
  before_each(function()
    post.tags:attach_with_pivot_data { { id = a, pivot_data = { weight = 1 } }, { id = b, pivot_data = {} } }
  end)

  it("exists, ids and count cost one command each", function()
    expect_commands(1, function() assert.is_true(post.tags:exists(a)) end)
    expect_commands(1, function() assert.is_false(post.tags:exists(c)) end)
    assert.is_true(post.tags:exists(tostring(a)))
    assert.is_true(post.tags:exists(Tag:find(a)))

    local ids
    expect_commands(1, function() ids = post.tags:ids() end)
    assert.same(sorted { a, b }, sorted(ids))
    assert.same({}, other.tags:ids())

    expect_commands(1, function() assert.equal(2, post.tags:count()) end)
    assert.equal(0, other.tags:count())
  end)

  it("pivot_data gives the attributes by one command, without _id and keys", function()
    local data
    post.plain:attach { [a] = { role = "admin", info = { n = 1 } } }
    expect_commands(1, function() data = post.plain:pivot_data(a) end)
    assert.same({ role = "admin", info = { n = 1 } }, data)
    expect_commands(1, function() assert.is_nil(post.plain:pivot_data(b)) end)
    post.plain:attach { b }
    assert.same({}, post.plain:pivot_data(b))
    assert.equal(1, post.tags:pivot_data(a).weight)
    assert.is_nil(post.tags:pivot_data(c))
  end)

  it("update_pivot_data merges by one command and says whether the pair is there", function()
    local id = row(a)._id
    expect_commands(1, function() assert.is_true(post.tags:update_pivot_data(a, { note = "n" })) end)
    assert.equal("n", row(a).note)
    assert.equal(1, row(a).weight)
    assert.equal(id, row(a)._id)
    assert.is_true(post.tags:update_pivot_data(a, { note = "n" }))

    expect_commands(1, function() assert.is_false(post.tags:update_pivot_data(c, { note = "n" })) end)
    assert.equal(2, #rows())
    assert.is_nil(row(b).note)
  end)
end)

describe("exec", function()
  it("loads the related records by two commands, pivot data with them", function()
    post.tags:attach { [a] = { weight = 10, extra = "e" }, [b] = { weight = 5 } }
    other.tags:attach { [a] = { weight = 99 } }
    local tags
    expect_commands(2, function() tags = post.tags:exec() end)
    table.sort(tags, function(x, y) return x.name < y.name end)

    assert.same({ "a", "b" }, pluck(tags, "name"))
    assert.is_true(tags[1].is_persisted)
    assert.equal(post._id, tags[1].extras.pivot_post_id)
    assert.equal(a, tags[1].extras.pivot_tag_id)
    assert.equal(10, tags[1].extras.pivot_weight)
    assert.equal("e", tags[1].extras.pivot_extra)
    assert.equal(10, tags[1].pivot.weight)
    assert.equal(5, tags[2].extras.pivot_weight)
    assert.is_false(tags[1].is_dirty)
  end)

  it("gives the columns that pivot_columns names, and none otherwise", function()
    post.plain:attach { [a] = { role = "admin", secret = "s" } }
    local tag = post.plain:exec()[1]
    assert.equal("admin", tag.extras.pivot_role)
    assert.equal("admin", tag.pivot.role)
    assert.is_nil(tag.extras.pivot_secret)
    assert.equal(post._id, tag.extras.pivot_post_id)

    post.bag:attach { [a] = { role = "admin" } }
    tag = post.bag:exec()[1]
    assert.is_nil(tag.extras.pivot_role)
    assert.equal(a, tag.extras.pivot_tag_id)
  end)

  it("of a parent without pairs is an empty list", function()
    assert.same({}, post.tags:exec())
  end)

  it("works from the other side, on the same rows", function()
    post.tags:attach { a }
    other.tags:attach { a }
    local tag = Tag:find(a)
    local titles = pluck(tag.posts:exec(), "title")
    table.sort(titles)
    assert.same({ "other", "post" }, titles)
    assert_pairs({ unchanged = { post._id } }, tag.posts:attach { post._id })
    assert.equal(1, tag.posts:detach { other._id })
    assert.same({}, pairs_of(other))
  end)
end)

describe("wrong arguments", function()
  before_each(function()
    post.tags:attach { a }
  end)

  after_each(function()
    assert.same(texts { a }, pairs_of())
  end)

  it("an explicit nil is no empty list and no missing argument", function()
    local missing = nil
    for _, call in ipairs {
      function() post.tags:attach(missing) end,
      function() post.tags:attach() end,
      function() post.tags:sync(missing) end,
      function() post.tags:sync() end,
      function() post.tags:detach(missing) end,
      function() post.tags:toggle(missing) end,
      function() post.tags:exists(missing) end,
      function() post.tags:pivot_data(missing) end,
      function() post.tags:update_pivot_data(missing, { weight = 1 }) end,
      function() post.tags:update_pivot_data(a, missing) end,
      function() post.tags:attach_with_pivot_data(missing) end,
      function() post.tags:sync_with_pivot_data(missing) end,
    } do
      expect_refused("E_ARGUMENT", call)
    end
  end)

  it("lists with holes are refused", function()
    for _, ids in ipairs { { a, nil, b }, { [2] = b }, { a, [5] = b }, { a, x = b } } do
      expect_refused("E_ARGUMENT", function() post.tags:attach(ids) end)
      expect_refused("E_ARGUMENT", function() post.tags:sync(ids) end)
      expect_refused("E_ARGUMENT", function() post.tags:detach(ids) end)
      expect_refused("E_ARGUMENT", function() post.tags:toggle(ids) end)
    end
  end)

  it("a list of { id, pivot_data } belongs to the other method, which is named", function()
    local list = { { id = b, pivot_data = { weight = 1 } } }
    local err = expect_refused("E_ARGUMENT", function() post.tags:attach(list) end)
    assert.is_truthy(err.message:find("attach_with_pivot_data", 1, true))
    err = expect_refused("E_ARGUMENT", function() post.tags:sync(list) end)
    assert.is_truthy(err.message:find("sync_with_pivot_data", 1, true))
  end)

  it("unsaved records and records of other models are no ids", function()
    for _, record in ipairs { Tag:new { name = "x" }, Tag:new { _id = b }, other, post } do
      for _, ids in ipairs { record, { record } } do
        expect_refused("E_ARGUMENT", function() post.tags:attach(ids) end)
        expect_refused("E_ARGUMENT", function() post.tags:sync(ids) end)
        expect_refused("E_ARGUMENT", function() post.tags:detach(ids) end)
      end
      expect_refused("E_ARGUMENT", function() post.tags:exists(record) end)
      expect_refused("E_ARGUMENT", function() post.tags:pivot_data(record) end)
    end
  end)

  it("attributes cannot change the keys", function()
    for _, attributes in ipairs { { post_id = other._id }, { tag_id = b } } do
      expect_refused("E_ARGUMENT", function() post.tags:attach { [a] = attributes } end)
      expect_refused("E_ARGUMENT", function() post.tags:sync { [a] = attributes } end)
      expect_refused("E_ARGUMENT", function() post.tags:update_pivot_data(a, attributes) end)
    end
  end)

  it("a map whose keys mean one id with different attributes is refused", function()
    expect_refused("E_ARGUMENT", function()
      post.tags:attach { [a] = { weight = 1 }, [tostring(a)] = { weight = 2 } }
    end)
  end)

  it("methods are called with a colon", function()
    expect_refused("E_ARGUMENT", function() post.tags.attach { b } end)
    expect_refused("E_ARGUMENT", function() post.tags.detach() end)
  end)

  it("raise at the caller's line", function()
    local err = expect_error("E_ARGUMENT", function() post.tags:sync(nil) end)
    assert.is_truthy(tostring(err):find("pivot_spec.lua", 1, true))
  end)
end)

describe("relations that cannot work", function()
  local function message(code, fn)
    return expect_refused(code, fn).message
  end

  it("say what name is not defined", function()
    local text = message("E_UNDEFINED_RELATIONSHIP", function() post:related("nope") end)
    assert.is_truthy(text:find('"nope" is not defined as a relationship on "PivotPost" model', 1, true), text)
    expect_refused("E_UNDEFINED_RELATIONSHIP", function() post:load("nope") end)
    expect_refused("E_UNDEFINED_RELATIONSHIP", function() post:related("title") end)
  end)

  it("say what column is not defined", function()
    local text = message("E_MISSING_MODEL_ATTRIBUTE", function()
      local Broken = lumo.model("PivotBrokenLocal", {
        columns = { name = "string" },
        relations = { tags = lumo.many_to_many("PivotTag", { local_key = "serial" }) },
      })
      Broken:new({ _id = lumo.objectid() }):related("tags"):attach { a }
    end)
    assert.is_truthy(text:find('Relation "PivotBrokenLocal.tags" expects "serial" to exist on'
      .. ' "PivotBrokenLocal" model, but is missing. Did you forget to define the column?', 1, true), text)

    text = message("E_MISSING_MODEL_ATTRIBUTE", function()
      local Broken = lumo.model("PivotBrokenRelated", {
        columns = { name = "string" },
        relations = { tags = lumo.many_to_many("PivotTag", { related_key = "serial" }) },
      })
      Broken:new({ _id = lumo.objectid() }):related("tags"):attach { "x" }
    end)
    assert.is_truthy(text:find('Relation "PivotBrokenRelated.tags" expects "serial" to exist on'
      .. ' "PivotTag" model, but is missing. Did you forget to define the column?', 1, true), text)
  end)

  it("say what value is missing", function()
    local member = Member:new { name = "without id" }
    for verb, call in pairs {
      attach = function() member.teams:attach { 1 } end,
      sync = function() member.teams:sync { 1 } end,
      detach = function() member.teams:detach { 1 } end,
      toggle = function() member.teams:toggle { 1 } end,
    } do
      local text = message("E_MISSING_ATTRIBUTE_VALUE", call)
      local expected = ('Cannot %s "teams", value of "PivotMember.id" is nil'):format(verb)
      assert.is_truthy(text:find(expected, 1, true), text)
    end
    for _, call in ipairs {
      function() member.teams:exec() end,
      function() member.teams:ids() end,
      function() member.teams:count() end,
      function() member.teams:exists(1) end,
      function() member.teams:pivot_data(1) end,
      function() member.teams:detach() end,
      function() member:related("teams"):query():exec() end,
      function() member:related("teams"):pivot_query():exec() end,
      function() Post:new({ title = "x" }).tags:attach { a } end,
    } do
      expect_refused("E_MISSING_ATTRIBUTE_VALUE", call)
    end
  end)
end)

describe("integer keys", function()
  local member

  before_each(function()
    member = Member:create { id = 1, name = "m" }
    Team:create_many { { id = 1, name = "t1" }, { id = 2, name = "t2" }, { id = 10, name = "t10" } }
  end)

  local function team_ids()
    local ids = pluck(helper.docs(TEAMS, { pivot_member_id = 1 }), "pivot_team_id")
    table.sort(ids)
    return ids
  end

  it("work with every default of many_to_many", function()
    local result = member.teams:attach { 10, 2 }
    assert.same({ 10, 2 }, result.attached)
    assert.same({ 2, 10 }, team_ids())
    local names = pluck(member.teams:exec(), "name")
    table.sort(names)
    assert.same({ "t10", "t2" }, names)
    assert.same({ "m" }, pluck(Team:find(2).members:exec(), "name"))
    assert.equal(1, Team:find(2).members:detach { 1 })
    assert.same({ 10 }, team_ids())
    assert.is_true(member.teams:exists(10))
    assert.same({ 10 }, member.teams:ids())
  end)

  it("are the keys of a map whose values are tables, in numeric order", function()
    local result = member.teams:sync {
      [10] = { role = "guest" }, [1] = { role = "admin" }, [2] = { role = lumo.null },
    }
    assert.same({ 1, 2, 10 }, result.attached)
    assert.equal("admin", member.teams:pivot_data(1).role)
    assert.equal("guest", member.teams:pivot_data(10).role)

    result = member.teams:attach { [1] = { role = "owner" } }
    assert.same({ 1 }, result.updated)
    assert.equal("owner", member.teams:pivot_data(1).role)
  end)

  it("are not text, and not fractions", function()
    for _, id in ipairs { "2", 2.5, lumo.objectid() } do
      expect_refused("E_CAST", function() member.teams:attach { id } end)
      expect_refused("E_CAST", function() member.teams:sync { id } end)
      expect_refused("E_CAST", function() member.teams:exists(id) end)
    end
    expect_refused("E_CAST", function() member.teams:attach { ["2"] = { role = "x" } } end)
    assert.same({}, team_ids())
  end)

  it("are one id as integer and as integral float", function()
    local result = member.teams:attach { 2, 2.0 }
    assert.same({ 2 }, result.attached)
    assert.same({ 2 }, member.teams:attach({ 2.0 }).unchanged)
    assert.same({ 2 }, team_ids())
  end)

  it("match rows whose keys others stored as another type of number", function()
    member.teams:attach { 2 }
    helper.convert(TEAMS, {}, "pivot_team_id", "$toDouble")
    assert.same({ 2 }, member.teams:sync({ 2 }).unchanged)
    assert.same({ "t2" }, pluck(member.teams:exec(), "name"))
    assert.equal(1, #helper.docs(TEAMS))
  end)

  it("are taken from saved records", function()
    assert.same({ 2 }, member.teams:attach({ Team:find(2) }).attached)
    assert.is_true(member.teams:exists(Team:find(2)))
  end)
end)

describe("keys that are no primary keys", function()
  local Author = lumo.model("PivotAuthor", {
    collection = "authors",
    columns = { code = { "string", column = "author_code" } },
    relations = { topics = lumo.belongs_to_many("PivotTopic", nil, "author", "topic", "code", "slug") },
  })
  local Topic = lumo.model("PivotTopic", {
    collection = "topics",
    columns = { slug = { "string", column = "topic_slug" }, name = "string" },
  })

  it("are stored and joined by their values", function()
    helper.clear("authors", "topics", "pivot_author_pivot_topic")
    local author = Author:create { code = "ann" }
    local lua = Topic:create { slug = "lua", name = "Lua" }
    Topic:create { slug = "c", name = "C" }
    assert.same({ "c", "lua" }, author.topics:attach({ "c", lua }).attached)
    local stored = helper.docs("pivot_author_pivot_topic", {}, { topic = 1 })
    assert.same({ "c", "lua" }, pluck(stored, "topic"))
    assert.same({ "ann", "ann" }, pluck(stored, "author"))

    local names = pluck(author.topics:exec(), "name")
    table.sort(names)
    assert.same({ "C", "Lua" }, names)
    assert.is_true(author.topics:exists("lua"))
    expect_refused("E_CAST", function() author.topics:attach { 5 } end)
  end)
end)

describe("a pivot model", function()
  it("gives attributes their types, names and defaults", function()
    local result = post.typed:attach_with_pivot_data {
      { id = a, pivot_data = { level = 3.0, since = "2020-02-29T12:30:00Z" } },
      { id = b, pivot_data = { role = "admin" } },
    }
    assert_pairs({ attached = { a, b } }, result)
    local stored = row(a, "typed")
    assert.equal("guest", stored.role)
    assert.equal(3, stored.lvl)
    assert.is_nil(stored.level)
    assert.equal(lumo.datetime("2020-02-29T12:30:00Z"), stored.since)
    assert.equal("admin", row(b, "typed").role)

    local data = post.typed:pivot_data(a)
    assert.equal(3, data.level)
    assert.equal("guest", data.role)
    assert.equal("2020-02-29T12:30:00", tostring(data.since):sub(1, 19))
  end)

  it("fills in defaults for one pair as for many, and never into rows that are there", function()
    post.typed:attach { a }
    assert.equal("guest", row(a, "typed").role)
    post.typed:update_pivot_data(a, { role = "admin" })
    post.typed:attach { a }
    post.typed:sync { [a] = { level = 1 }, [b] = {} }
    assert.equal("admin", row(a, "typed").role)
    assert.equal("guest", row(b, "typed").role)
  end)

  it("refuses what it does not declare where it is strict", function()
    expect_refused("E_UNDEFINED_COLUMN", function() post.typed:attach { [a] = { rank = 1 } } end)
    post.typed:attach { a }
    expect_refused("E_UNDEFINED_COLUMN", function() post.typed:update_pivot_data(a, { rank = 1 }) end)
  end)

  it("stores what it does not declare where it is not", function()
    post.tags:attach { [a] = { rank = "first", weight = 1 } }
    assert.equal("first", row(a).rank)
    assert.equal("first", post.tags:pivot_data(a).rank)
  end)

  it("types the pivot of loaded records", function()
    post.typed:attach { [a] = { level = 3, since = 0 } }
    local tag = post.typed:exec()[1]
    assert.equal(3, tag.pivot.level)
    assert.equal("guest", tag.pivot.role)
    assert.equal("1970-01-01T00:00:00", tostring(tag.pivot.since):sub(1, 19))
  end)
end)

describe("pivot timestamps", function()
  local old = lumo.datetime("2001-02-03T04:05:06Z")

  local function age(collection, ...)
    local set = {}
    for _, name in ipairs { ... } do
      set[name] = old
    end
    helper.update(collection, {}, { ["$set"] = set })
  end

  it("are set when a pair is attached, alone or with others", function()
    local before = helper.now_ms()
    post.stamped:attach { a }
    post.stamped:attach { b, c }
    post.stamped:attach { [d] = { role = "x" } }
    for _, id in ipairs { a, b, c, d } do
      local stored = row(id, "stamped")
      assert.is_true(stored.created_at.ms >= before and stored.created_at.ms <= helper.now_ms())
      assert.equal(stored.created_at, stored.updated_at)
    end
  end)

  it("stay while a row does not change", function()
    post.stamped:attach { [a] = { role = "x" }, [b] = { role = "x" } }
    age("stamped", "created_at", "updated_at")
    post.stamped:attach { a }
    post.stamped:attach { a, b }
    post.stamped:attach { [a] = { role = "x" } }
    post.stamped:sync { a, b }
    post.stamped:sync { [a] = { role = "x" }, [b] = { role = "x" } }
    post.stamped:update_pivot_data(a, { role = "x" })
    for _, id in ipairs { a, b } do
      assert.equal(old, row(id, "stamped").created_at)
      assert.equal(old, row(id, "stamped").updated_at)
    end
  end)

  it("move updated_at when a row changes", function()
    for _, change in ipairs {
      function() post.stamped:sync { [a] = { role = "y" } } end,
      function() post.stamped:update_pivot_data(a, { role = "z" }) end,
      function() post.stamped:attach { [a] = { role = "w" } } end,
      function() post.stamped:attach { [a] = { role = "v" }, [b] = { role = "v" } } end,
    } do
      post.stamped:attach { a }
      age("stamped", "created_at", "updated_at")
      local before = helper.now_ms()
      change()
      assert.equal(old, row(a, "stamped").created_at)
      assert.is_true(row(a, "stamped").updated_at.ms >= before)
    end
  end)

  it("have the names that the relation gives them", function()
    post.dated:attach { a }
    local stored = row(a, "dated")
    assert.is_truthy(stored.joined_at)
    assert.is_truthy(stored.changed_at)
    assert.is_nil(stored.created_at)
    age("dated", "joined_at", "changed_at")
    post.dated:update_pivot_data(a, { role = "x" })
    assert.equal(old, row(a, "dated").joined_at)
    assert.is_true(row(a, "dated").changed_at.ms > old.ms)
  end)

  it("come with loaded records", function()
    post.stamped:attach { a }
    local tag = post.stamped:exec()[1]
    assert.equal(row(a, "stamped").created_at, tag.extras.pivot_created_at)
    assert.equal(row(a, "stamped").updated_at, tag.extras.pivot_updated_at)
  end)
end)

describe("a relation with duplicates", function()
  it("adds a row on every attach", function()
    assert_pairs({ attached = { a } }, post.bag:attach { a })
    assert_pairs({ attached = { a, b } }, post.bag:attach { a, b })
    assert_pairs({ attached = { a } }, post.bag:attach(a))
    assert.equal(3, #helper.docs("bag", { tag_id = a }))
    assert.equal(4, post.bag:count())
    assert.is_true(post.bag:exists(a))
  end)

  it("keeps and updates every row of a kept id on sync", function()
    post.bag:attach { a, b }
    post.bag:attach { a }
    local before = sorted(pluck(helper.docs("bag", { tag_id = a }), "_id"))
    assert_pairs({ attached = { c }, unchanged = { a }, detached = { b } }, post.bag:sync { a, c })
    assert_pairs({ updated = { a }, detached = { c } }, post.bag:sync { [a] = { role = "x" } })
    local kept = helper.docs("bag", { tag_id = a })
    assert.same(before, sorted(pluck(kept, "_id")))
    assert.same({ "x", "x" }, pluck(kept, "role"))
  end)

  it("detaches every row of a pair", function()
    post.bag:attach { a }
    post.bag:attach { a, b }
    assert.equal(2, post.bag:detach { a })
    assert.equal(1, post.bag:detach())
  end)
end)

describe("atomic = false", function()
  it("does the same without a transaction", function()
    post.stepwise:attach { a, b }
    local result
    local _, names = helper.commands(function()
      result = post.stepwise:sync { [b] = { role = "x" }, [c] = {}, [d] = { role = "y" } }
    end)
    assert.same(sorted { c, d }, sorted(result.attached))
    assert.same(texts { b }, texts(result.updated))
    assert.same(texts { a }, texts(result.detached))
    assert.same(sorted { b, c, d }, pairs_of(post, "stepwise"))
    for _, name in ipairs(names) do
      assert.are_not.equal("commitTransaction", name)
    end
    -- What is lost half-way must be nothing: deleting comes last.
    assert.equal("delete", names[#names])
  end)
end)

describe("a standalone server", function()
  it("takes every relation write without transactions", function()
    local mongod = helper.start_mongod()
    finally(function()
      mongod:remove()
      lumo.connect(helper.uri(), { name = "alone", database = helper.database }) -- its models stay defined
    end)
    local alone = lumo.connect(mongod.address, { name = "alone", database = "alone" })
    assert.is_false(alone:server().capabilities.transactions)

    local Left = lumo.model("PivotAloneLeft", {
      connection = "alone",
      columns = { id = { "integer", primary = true } },
      relations = { rights = lumo.many_to_many("PivotAloneRight") },
    })
    local Right = lumo.model("PivotAloneRight", {
      connection = "alone",
      columns = { id = { "integer", primary = true } },
    })
    local left = Left:create { id = 1 }
    Right:create_many { { id = 1 }, { id = 2 }, { id = 3 }, { id = 4 } }
    left.rights:attach { 1, 2 }
    local result = left.rights:sync { [2] = { role = "x" }, [3] = {}, [4] = {} }
    assert.same({ 3, 4 }, result.attached)
    assert.same({ 2 }, result.updated)
    assert.same({ 1 }, result.detached)
    result = left.rights:toggle { 1, 2 }
    assert.same({ 1 }, result.attached)
    assert.same({ 2 }, result.detached)
    assert.equal(3, #left.rights:exec())
    alone:close()
  end)
end)

describe("orphans", function()
  it("are skipped by loading, and counted as the rows that they are", function()
    post.tags:attach { a, b, absent }
    helper.delete("tags", { _id = a })
    assert.same({ "b" }, pluck(post.tags:exec(), "name"))
    assert.same({ "b" }, pluck(post:related("tags"):query():exec(), "name"))
    assert.same(sorted { a, b, absent }, sorted(post.tags:ids()))
    assert.is_true(post.tags:exists(a))
    assert.equal(3, post.tags:count())
    assert.equal(3, #post:related("tags"):pivot_query():exec())
    assert.same({ "b" }, pluck(post:related("tags"):query():order_by("name"):limit(1):exec(), "name"))
  end)
end)

describe("derived ids", function()
  -- The pair as BSON, made by hand: the two fields in the order of their names.
  local function little_endian(number, bytes)
    local out = {}
    for i = 1, bytes do
      out[i] = string.char(number % 256)
      number = math.floor(number / 256)
    end
    return table.concat(out)
  end

  local function document(body)
    return little_endian(#body + 5, 4) .. body .. "\0"
  end

  local function objectid_field(name, id)
    local bytes = tostring(id):gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end)
    return "\7" .. name .. "\0" .. bytes
  end

  local function int64_field(name, value)
    return "\18" .. name .. "\0" .. little_endian(value, 8)
  end

  local function derived(post_id, tag_id)
    local pair = document(objectid_field("post_id", post_id) .. objectid_field("tag_id", tag_id))
    return helper.sha256(pair):sub(1, 24)
  end

  it("are the first 12 bytes of SHA-256 over the pair", function()
    post.tags:attach { a }
    assert.equal(derived(post._id, a), tostring(row(a)._id))
    post.tags:attach { b, c }
    assert.equal(derived(post._id, b), tostring(row(b)._id))
    post.tags:sync { [d] = { weight = 1 }, [c] = {} }
    assert.equal(derived(post._id, d), tostring(row(d)._id))
    post.tags:toggle { a, b }
    assert.equal(derived(post._id, a), tostring(row(a)._id))
  end)

  it("never change: a vector with ObjectIds and one with integers", function()
    local fixed = Post:create { _id = "60a1e2c3d4e5f6a7b8c9d0e1", title = "fixed" }
    fixed.tags:attach { "60a1e2c3d4e5f6a7b8c9d0e2" }
    assert.equal("3d3e70564165e6b4a10c6319", tostring(rows(fixed)[1]._id))

    local member = Member:create { id = 1 }
    member.teams:attach { 2 }
    local pair = document(int64_field("pivot_member_id", 1) .. int64_field("pivot_team_id", 2))
    assert.equal("880e569987bc2bd3332dd16c", helper.sha256(pair):sub(1, 24))
    assert.equal("880e569987bc2bd3332dd16c", tostring(helper.doc(TEAMS)._id))
  end)

  it("are the same from both sides", function()
    Tag:find(a).posts:attach { post._id }
    assert.equal(derived(post._id, a), tostring(row(a)._id))
    local id = row(a)._id
    post.tags:attach { a }
    assert.equal(id, row(a)._id)
  end)

  it("are not asked of rows that others inserted", function()
    helper.insert("post_tags", {
      { _id = "their own", post_id = post._id, tag_id = a, weight = 1 },
      { _id = 17, post_id = post._id, tag_id = b, weight = 1 },
    })
    assert_pairs({ unchanged = { a } }, post.tags:attach { a })
    assert_pairs({ attached = { c }, unchanged = { a, b } }, post.tags:attach { a, b, c })
    assert_pairs({ updated = { a } }, post.tags:attach { [a] = { weight = 2 } })
    assert_pairs({ updated = { a }, unchanged = { b }, detached = { c } },
      post.tags:sync { [a] = { weight = 3 }, [b] = { weight = 1 } })
    assert.equal("their own", row(a)._id)
    assert.equal(17, row(b)._id)
    assert.equal(2, #rows())
    assert.equal(2, post.tags:detach { a, b })
  end)

  it("taken by a row of another pair give way to generated ones", function()
    local function re_key()
      helper.clear("post_tags")
      helper.insert("post_tags", {
        { _id = lumo.objectid(derived(post._id, a)), post_id = other._id, tag_id = b, weight = 7 },
      })
    end
    for _, attach in ipairs {
      function() return post.tags:attach(a) end,
      function() return post.tags:attach { [a] = { weight = 1 } } end,
      function() return post.tags:attach { a, c } end,
      function() return post.tags:attach { [a] = { weight = 1 }, [c] = { weight = 1 } } end,
      function() return post.tags:sync { a, c } end,
      function() return post.tags:toggle { a, c } end,
    } do
      re_key()
      local result = attach()
      local attached = {}
      for _, id in ipairs(result.attached) do
        attached[tostring(id)] = true
      end
      assert.is_true(attached[tostring(a)])
      assert.are_not.equal(derived(post._id, a), tostring(row(a)._id))
      assert.equal("objectId", helper.type_of("post_tags", { tag_id = a }, "_id"))
      assert.equal(7, helper.doc("post_tags", { post_id = other._id }).weight)
      assert_pairs({ unchanged = { a } }, post.tags:attach { a })
    end
  end)
end)

describe("ensure_indexes", function()
  it("makes the two indexes of a pivot, unique unless duplicates are wanted", function()
    Post:ensure_indexes()
    local indexes = helper.indexes("post_tags")
    assert.is_true(indexes["post_id,tag_id"].unique)
    assert.is_false(indexes["tag_id,post_id"].unique)
    indexes = helper.indexes("bag")
    assert.is_false(indexes["post_id,tag_id"].unique)
    assert.is_false(indexes["tag_id,post_id"].unique)

    assert.has_no.errors(function() Post:ensure_indexes() end)
    assert.has_no.errors(function() Tag:ensureIndexes() end)

    post.tags:attach { a, b }
    post.tags:attach { [a] = { weight = 1 } }
    post.tags:sync { b, c }
    assert.same(sorted { b, c }, pairs_of())
    assert.is_false(pcall(helper.insert, "post_tags", { { post_id = post._id, tag_id = b } }))
  end)
end)

describe("lumo.ensure_indexes", function()
  it("makes the indexes of all models", function()
    local output = helper.run(([[
      local lumo = require "lumo"
      lumo.connect(%q, { database = %q })
      local relations = { tags = lumo.many_to_many("EnsureTag", { pivot_table = "ensured" }) }
      lumo.model("EnsurePost", { columns = {}, relations = relations })
      lumo.model("EnsureTag", { columns = {} })
      print(#lumo.ensure_indexes(), #lumo.ensureIndexes())
    ]]):format(helper.uri(), helper.database))
    assert.equal("2\t0", (output:gsub("%s+$", "")))
    assert.is_true(helper.indexes("ensured")["ensure_post_id,ensure_tag_id"].unique)
  end)
end)

describe("the property", function()
  before_each(function()
    post.tags:attach { a, b }
  end)

  it("is a handle before loading: counting, indexing and iterating are E_NOT_LOADED", function()
    assert.equal("userdata", type(post.tags))
    local err = expect_refused("E_NOT_LOADED", function() return #post.tags end)
    assert.is_truthy(err.message:find("load", 1, true))
    expect_refused("E_NOT_LOADED", function() return post.tags[1] end)
    if not helper.is_jit then
      expect_refused("E_NOT_LOADED", function()
        for _ in ipairs(post.tags) do error("nothing is loaded") end
      end)
      expect_refused("E_NOT_LOADED", function()
        for _ in pairs(post.tags) do error("nothing is loaded") end
      end)
    end
    assert.is_nil(post.preloaded.tags)
  end)

  it("is a list after load, which costs two commands", function()
    expect_commands(2, function() post:load("tags") end)
    assert.equal("table", type(post.tags))
    assert.equal(2, #post.tags)
    local names = {}
    for _, tag in ipairs(post.tags) do
      names[#names + 1] = tag.name
    end
    table.sort(names)
    assert.same({ "a", "b" }, names)
    table.sort(post.tags, function(x, y) return x.name > y.name end)
    assert.equal("b", post.tags[1].name)
    assert.equal("b", post.preloaded.tags[1].name)
    local first, second = (rawget(_G, "unpack") or table.unpack)(post.tags)
    assert.same({ "b", "a" }, { first.name, second.name })
    assert.equal(post._id, post.tags[1].extras.pivot_post_id)
    expect_commands(0, function() helper.touch(post.tags[1].name, post.preloaded.tags) end)
  end)

  it("has the methods in both states, in both spellings", function()
    local methods = {
      "exec", "query", "pivot_query", "attach", "attach_with_pivot_data", "sync", "sync_with_pivot_data",
      "detach", "toggle", "exists", "ids", "count", "pivot_data", "update_pivot_data",
      "pivotQuery", "attachWithPivotData", "syncWithPivotData", "pivotData", "updatePivotData",
    }
    local function check(client)
      for _, name in ipairs(methods) do
        assert.equal("function", type(client[name]), name)
      end
      assert.is_nil(client.no_such_method)
    end
    check(post.tags)
    check(post:related("tags"))
    post:load("tags")
    check(post.tags)
    check(post:related("tags"))
    assert.equal("userdata", type(post:related("tags")))
  end)

  it("is left as it was by writes, until it is loaded again", function()
    post:load("tags")
    local result = post.tags:attach { c }
    assert_pairs({ attached = { c } }, result)
    assert.equal(2, #post.tags)
    assert.equal(3, post.tags:count())
    post.tags:detach { a }
    assert.equal(2, #post.tags)
    post:load("tags")
    local names = pluck(post.tags, "name")
    table.sort(names)
    assert.same({ "b", "c" }, names)
  end)

  it("is not loaded by exec, which gives a new list each time", function()
    local first = post.tags:exec()
    local second = post.tags:exec()
    assert.is_false(first == second)
    assert.is_nil(post.preloaded.tags)
    expect_error("E_NOT_LOADED", function() return #post.tags end)
  end)

  it("is an empty list after loading nothing", function()
    other:load("tags")
    assert.equal(0, #other.tags)
    assert.same({}, other.preloaded.tags)
    assert_pairs({ attached = { a } }, other.tags:attach { a })
  end)

  it("cannot be assigned", function()
    assert.is_false(pcall(function() post.tags = {} end))
    assert.is_false(pcall(function() Post:create { tags = { a } } end))
  end)
end)

describe("related():query()", function()
  local function names(query)
    return table.concat(pluck(query:exec(), "name"), " ")
  end

  local function tags()
    return post:related("tags"):query()
  end

  before_each(function()
    post.tags:attach { [a] = { weight = 3 }, [b] = { weight = 2 }, [c] = { weight = 1 } }
    other.tags:attach { d }
  end)

  it("filters, orders and cuts the related records of this parent", function()
    assert.equal("a b c", names(tags():order_by("name")))
    assert.equal("c b a", names(tags():order_by("name", "desc")))
    assert.equal("b", names(tags():where("slug", "sb")))
    assert.equal("a b", names(tags():order_by("name"):limit(2)))
    assert.equal("b c", names(tags():where("name", ">", "a"):order_by("name")))
    assert.equal("", names(tags():where("name", "d")))
    assert.equal("c", tags():order_by("name", "desc"):first().name)
    assert.is_nil(tags():where("name", "d"):first())
    expect_error("E_ROW_NOT_FOUND", function() tags():where("name", "d"):first_or_fail() end)
    assert.equal("a b c", names(post.tags:query():orderBy("name")))
  end)

  it("brings pivot data along", function()
    local tag = tags():where("name", "b"):first()
    assert.equal(2, tag.extras.pivot_weight)
    assert.equal(b, tag.extras.pivot_tag_id)
  end)

  it("never lets or escape the parent", function()
    assert.equal("a b", names(tags():where("name", "a"):or_where("name", "b"):order_by("name")))
    assert.equal("a", names(tags():where("name", "a"):or_where("name", "d"):order_by("name")))
    assert.equal("", names(other:related("tags"):query():where("name", "a"):or_where("name", "b")))
  end)

  it("updates and deletes related records of this parent only", function()
    assert.equal(2, tags():where_in("name", { "a", "b", "d" }):update { slug = "new" })
    assert.same({ "new", "new", "sc", "sd" }, pluck(helper.docs("tags", {}, { name = 1 }), "slug"))

    expect_refused("E_ARGUMENT", function() tags():delete() end)
    expect_refused("E_ARGUMENT", function() tags():update { slug = "x" } end)
    assert.equal(1, tags():where_in("name", { "a", "d" }):delete())
    assert.equal(2, tags():everything():delete())
    assert.same({ "d" }, pluck(helper.docs("tags"), "name"))
    assert.equal(3, #rows())
  end)
end)

describe("related():pivot_query()", function()
  local function pivots()
    return post:related("tags"):pivot_query()
  end

  before_each(function()
    post.tags:attach { [a] = { weight = 3 }, [b] = { weight = 2 }, [c] = { weight = 1 } }
    other.tags:attach { [a] = { weight = 100 } }
  end)

  it("filters, orders and cuts the pivot documents of this parent", function()
    assert.same({ 1, 2, 3 }, pluck(pivots():order_by("weight"):exec(), "weight"))
    assert.same({ 3, 2 }, pluck(pivots():order_by("weight", "desc"):limit(2):exec(), "weight"))
    assert.same({ 2, 3 }, pluck(pivots():where("weight", ">", 1):order_by("weight"):exec(), "weight"))
    assert.equal(1, pivots():order_by("weight"):first().weight)
    assert.equal(c, pivots():order_by("weight"):first().tag_id)
    assert.equal(3, pivots():count())
    assert.equal(2, pivots():where("weight", "<", 3):count())
    assert.is_false(pivots():where("weight", 100):exists())
    assert.equal(0, pivots():where("weight", 99):or_where("weight", 100):count())
  end)

  it("costs one command", function()
    expect_commands(1, function() pivots():where("weight", ">", 1):exec() end)
  end)

  it("reads pivots without a model by their stored names", function()
    post.plain:attach { [a] = { role = "admin", n = 1 }, [b] = { role = "guest", n = 2 } }
    local found = post:related("plain"):pivot_query():where("role", "admin"):exec()
    assert.equal(1, #found)
    assert.equal(1, found[1].n)
    assert.equal(2, post:related("plain"):pivotQuery():orderBy("n", "desc"):first().n)
  end)

  it("updates and deletes pivot documents of this parent only", function()
    assert.equal(1, pivots():where("weight", ">", 2):update { weight = 30 })
    assert.equal(30, row(a).weight)
    assert.equal(1, pivots():where("weight", 1):delete())
    assert.same(sorted { a, b }, pairs_of())

    expect_refused("E_ARGUMENT", function() pivots():delete() end)
    expect_refused("E_ARGUMENT", function() pivots():update { weight = 0 } end)
    assert.equal(2, pivots():everything():delete())
    assert.equal(100, rows(other)[1].weight)
    assert.equal(4, #helper.docs("tags"))
  end)
end)
