-- The builder over the related records of one parent: what its conditions, orders, limits and terminals give where
-- both sides of the relation have a say.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("relation_builder")
teardown(helper.drop)

--- fn must raise this code, with a message that has the pattern.
local function expect_error(code, pattern, fn)
  local err = helper.expect_error(code, fn)
  if pattern then assert.truthy(err.message:find(pattern), err.message) end
end

local function over(options)
  options.pivot_foreign_key, options.pivot_related_foreign_key = "post_id", "tag_id"
  options.pivot_table = options.pivot_table or "builder_pairs"
  options.pivot_columns = options.pivot_columns or { "weight", "kind" }
  return lumo.many_to_many("BuilderTag", options)
end

local Post = lumo.model("BuilderPost", {
  collection = "builder_posts",
  columns = { id = { "integer", primary = true }, title = "string" },
  relations = {
    tags = over {},
    whole = over { pivot_columns = "*" },
    loud = over { on_query = function(q) q:where_pivot("kind", "x"):or_where("n", ">", 40) end },
    bag = over { pivot_table = "builder_bag", duplicates = true },
    slugs = lumo.many_to_many("BuilderTag", {
      pivot_table = "builder_slugs", pivot_foreign_key = "post_id", pivot_related_foreign_key = "slug",
      related_key = "slug", pivot_columns = { "weight" },
    }),
  },
})

local Tag = lumo.model("BuilderTag", {
  collection = "builder_tags",
  columns = {
    id = { "integer", primary = true }, name = "string", n = "integer", slug = "any",
    part = { "object", columns = { a = "integer" } },
  },
  relations = {
    posts = lumo.many_to_many("BuilderPost", {
      pivot_table = "builder_pairs", pivot_foreign_key = "tag_id", pivot_related_foreign_key = "post_id",
    }),
  },
})

local post

before_each(function()
  helper.clear("builder_posts", "builder_tags", "builder_pairs", "builder_bag", "builder_slugs")
  post = Post:create { id = 1, title = "P" }
  local other, tags, rows = Post:create { id = 2, title = "Q" }, {}, {}
  for i, name in ipairs { "ada", "bee", "cat", "dog", "eel" } do
    tags[i] = { id = i, name = name, n = i * 10, slug = ("s%d"):format(math.floor((i + 1) / 2)), part = { a = 6 - i } }
  end
  Tag:create_many(tags)
  -- Post 1 has 1 2 3 4 and the orphan 9; post 2 has 5 and 1.
  for i, row in ipairs { { 1, 3, "x" }, { 2, 1, "y" }, { 3, 2, "x" }, { 4, 5, "z" }, { 9, 4, "x" } } do
    rows[i] = { _id = i, post_id = 1, tag_id = row[1], weight = row[2], kind = row[3] }
  end
  rows[6] = { _id = 6, post_id = 2, tag_id = 5, weight = 9, kind = "x" }
  rows[7] = { _id = 7, post_id = 2, tag_id = 1, weight = 8, kind = "x" }
  helper.insert("builder_pairs", rows)
  assert.equal(2, other.id)
end)

local function names(list)
  local all = {}
  for i, one in ipairs(list) do all[i] = one.name end
  return table.concat(all, " ")
end

local function sorted_names(list)
  local all = {}
  for i, one in ipairs(list) do all[i] = one.name end
  table.sort(all)
  return table.concat(all, " ")
end

local function query(relation)
  return post:related(relation or "tags"):query()
end

--- The list and how many commands it took.
local function exec(q)
  local list
  local count = lumo.count_commands(function() list = q:exec() end)
  return list, count
end

describe("an or between both sides", function()
  it("is evaluated by the server, in one command", function()
    local list, count = exec(query():where("n", 20):or_where_pivot("weight", 5):order_by("name"))
    assert.equal("bee dog", names(list))
    assert.equal(1, count)
    assert.equal(1, list[1].extras.pivot_weight)
    assert.equal("z", list[2].pivot.kind)
    assert.equal(4, list[2].extras.pivot_tag_id)
    assert.is_nil(list[1]:get("__lumo_pivot"))
  end)

  it("never leaves the parent nor what on_query says", function()
    assert.equal("ada bee cat dog", sorted_names(query():where("n", ">", 0):or_where_pivot("weight", ">", 0):exec()))
    assert.equal("ada cat", sorted_names(query("loud"):exec()))
    assert.equal("ada cat", sorted_names(query("loud"):where("n", 10):or_where_pivot("weight", 2)
      :or_where("n", 20):exec()))
    assert.equal("cat", sorted_names(query("loud"):where("n", ">", 10):exec()))
  end)

  for _, case in ipairs {
    { "groups of both sides", "ada bee", function(q)
      q:where(function(g) g:where("n", 10):or_where_pivot("kind", "y") end):where("name", "<", "c")
    end },
    { "a negated group", "bee dog", function(q)
      q:where_not(function(g) g:where("name", "ada"):or_where_pivot("kind", "x") end)
    end },
    { "groups inside groups", "ada dog", function(q)
      q:where(function(g)
        g:where(function(h) h:where("n", 10):where_pivot("kind", "x") end)
          :or_where(function(h) h:where("n", 40):where_pivot("kind", "z") end)
      end)
    end },
    { "a raw filter of the related side", "ada dog", function(q)
      q:where_raw { ["$expr"] = { ["$gte"] = { "$n", 40 } } }:or_where_pivot("weight", 3)
    end },
    { "the whole family", "ada cat dog", function(q)
      q:where_in_pivot("kind", { "x" }):or_where("n", 40):or_where_null("name")
    end },
    { "null on the pivot", "ada", function(q) q:where("n", 10):or_where_null_pivot("kind") end },
    { "not null on the pivot", "ada bee cat dog", function(q)
      q:where("n", 999):or_where_not_null_pivot("kind")
    end },
    { "qualified names", "bee dog", function(q)
      q:where("builder_tags.n", 20):or_where("builder_pairs.weight", 5)
    end },
    { "columns of both sides compared", "ada bee", function(q)
      q:where_column("builder_pairs.tag_id", "=", "n"):or_where("n", "<", 30)
    end },
    { "a dotted column", "bee dog", function(q) q:where("part.a", 2):or_where_pivot("weight", 1) end },
    { "a pattern on either side", "bee cat", function(q)
      q:where_like("name", "c%"):or_where("builder_pairs.kind", "like", "y%")
    end },
  } do
    it("takes " .. case[1], function()
      local q = query()
      case[3](q)
      assert.equal(case[2], sorted_names(q:exec()))
      assert.equal(#q:exec(), q:count())
    end)
  end

  it("compares columns of the pivot with each other", function()
    helper.update("builder_pairs", { _id = 3 }, { ["$set"] = { weight = 3 } })
    assert.equal("cat", names(query():where_column("builder_pairs.tag_id", "=", "builder_pairs.weight"):exec()))
    assert.equal("ada bee dog", sorted_names(query():where_column("builder_pairs.tag_id", "!=", "builder_pairs.weight")
      :exec()))
  end)

  it("reads what select and pivot_columns ask for", function()
    local one = query():select("name"):pivot_columns { "kind" }:where("n", 20):or_where_pivot("weight", 99):first()
    assert.equal("bee", one.name)
    assert.is_nil(one.n)
    assert.equal("y", one.pivot.kind)
    local whole = query("whole"):where("n", 20):or_where_pivot("weight", 99):first()
    assert.equal("y", whole.extras.pivot_kind)
    assert.is_nil(whole.pivot.__lumo_pivot)
  end)

  it("bounds update and delete on the related records", function()
    assert.equal(2, query():where("n", 20):or_where_pivot("weight", 5):update { name = "new" })
    assert.equal("ada cat new new", sorted_names(query():exec()))
    assert.equal("eel", Tag:find(5).name)
    assert.equal(1, query():where("n", 20):or_where_pivot("weight", 99):increment("n", 5))
    assert.equal(25, Tag:find(2).n)
    assert.equal(2, query():where("n", 25):or_where_pivot("weight", 5):delete())
    assert.equal("ada cat", sorted_names(query():exec()))
    assert.equal(0, query():where("n", 1000):or_where_pivot("weight", 1000):delete())
  end)
end)

describe("order_by_pivot", function()
  it("sorts by columns of the pair", function()
    local list, count = exec(query():order_by_pivot("weight"))
    assert.equal("bee cat ada dog", names(list))
    assert.equal(2, count)
    assert.equal("dog ada cat bee", names(query():order_by_pivot("weight", "desc"):exec()))
    assert.equal("dog ada cat bee", names(query():orderByPivot("weight", "desc"):exec()))
    assert.equal("dog bee cat ada",
      names(query():order_by("builder_pairs.kind", "desc"):order_by_pivot("weight"):exec()))
    assert.equal("dog bee cat ada", names(query():order_by_pivot { { "kind", "desc" }, "weight" }:exec()))
  end)

  it("mixes with order_by, in the order in which they were given", function()
    assert.equal("cat ada bee dog", names(query():order_by_pivot("kind"):order_by("name", "desc"):exec()))
    assert.equal("ada cat bee dog", names(query():order_by { { "builder_pairs.kind" }, { "builder_tags.n" } }:exec()))
    assert.equal("dog cat bee ada", names(query():order_by("name", "desc"):order_by_pivot("kind"):exec()))
  end)

  it("takes limits that count records, not rows", function()
    local list, count = exec(query():order_by_pivot("weight", "desc"):limit(2))
    assert.equal("dog ada", names(list)) -- the orphan would be second
    assert.equal(1, count)
    assert.equal("cat bee", names(query():order_by_pivot("weight", "desc"):offset(2):exec()))
    assert.equal("ada", names(query():order_by_pivot("weight", "desc"):where("n", "<", 40):limit(1):exec()))
    assert.equal("dog", query():order_by_pivot("weight", "desc"):first().name)
    assert.equal("cat", names(query():order_by_pivot("kind"):order_by("name"):offset(1):limit(1):exec()))
  end)

  it("pages", function()
    local page = query():order_by_pivot("kind"):paginate(2, 3)
    assert.equal(4, page.total)
    assert.equal("dog", names(page))
    local seen = {}
    for number = 1, 4 do seen[number] = query():order_by_pivot("kind"):paginate(number, 1)[1].name end
    assert.equal("ada cat bee dog", table.concat(seen, " ")) -- equals by the related key, so that no page repeats
    assert.equal(2, query():where("n", 20):or_where_pivot("weight", 5):paginate(1, 1).total)
  end)

  it("refuses what it does not know", function()
    expect_error("E_ARGUMENT", "order_by_pivot", function() query():order_by_pivot("weight", "up") end)
    expect_error("E_ARGUMENT", "order_by_pivot", function() query():order_by_pivot(nil) end)
    expect_error("E_ARGUMENT", "order_by_pivot", function() query():order_by_pivot {} end)
    expect_error("E_ARGUMENT", "many%-to%-many", function() Tag:query():order_by_pivot("weight") end)
    expect_error("E_UNDEFINED_COLUMN", nil, function() query():order_by("weight") end)
  end)
end)

describe("a bag", function()
  before_each(function()
    post.bag:attach { [2] = { weight = 1 } }
    post.bag:attach { [1] = { weight = 2 } }
    post.bag:attach { [1] = { weight = 3 } }
    post.bag:attach { [9] = { weight = 4 } }
  end)

  local function bag() return query("bag"):order_by("name") end

  it("gives a record for each row, and limits and pages count them", function()
    assert.equal("ada ada bee", names(bag():exec()))
    assert.equal("ada ada", names(bag():limit(2):exec()))
    assert.equal("ada", names(bag():limit(1):exec()))
    assert.equal("ada bee", names(bag():offset(1):exec()))
    assert.equal("ada", names(bag():offset(1):limit(1):exec()))
    assert.equal(3, bag():count())
    assert.equal(2, query("bag"):where("n", 10):count())
    assert.equal(2, query("bag"):where("n", 10):or_where_pivot("weight", 99):count())
    local first, second = bag():paginate(1, 2), bag():paginate(2, 2)
    assert.equal("3 ada ada", first.total .. " " .. names(first))
    assert.equal("3 bee", second.total .. " " .. names(second))
    assert.equal("bee ada", names(query("bag"):order_by_pivot("weight"):limit(2):exec()))
    assert.equal(40, query("bag"):sum("n"))
  end)
end)

describe("terminals", function()
  it("count and exists respect both sides", function()
    assert.equal(4, query():count())
    assert.equal(2, query():where_pivot("kind", "x"):count())
    assert.equal(1, query():where("n", 20):or_where_pivot("weight", 99):count())
    assert.equal(1, query():limit(3):offset(3):count())
    assert.is_true(query():exists())
    assert.is_true(query():where("n", 20):or_where_pivot("weight", 99):exists())
    assert.is_false(query():where_pivot("weight", 4):exists()) -- an orphan
    assert.is_false(query():where("n", 21):or_where_pivot("weight", 99):exists())
  end)

  it("sum, avg, min and max take columns of either side", function()
    assert.equal(100, query():sum("n"))
    assert.equal(25, query():avg("n"))
    assert.equal("ada", query():min("name"))
    assert.equal("dog", query():max("name"))
    assert.equal(11, query():sum("builder_pairs.weight"))
    assert.equal(5, query():max("builder_pairs.weight"))
    assert.equal(40, query():where_pivot("kind", "x"):sum("n"))
    assert.equal(50, query():where("n", 10):or_where_pivot("weight", 5):sum("n"))
    assert.equal(60, query():order_by_pivot("weight"):limit(3):sum("n"))
    assert.equal(0, query():where("n", 0):sum("n"))
    assert.is_nil(query():where("n", 0):avg("n"))
    assert.equal(1, lumo.count_commands(function() query():sum("n") end))
    expect_error("E_UNDEFINED_COLUMN", nil, function() query():sum("nope") end)
  end)

  it("pluck takes columns of either side, in order", function()
    helper.update("builder_tags", { _id = 3 }, { ["$unset"] = { name = "" } })
    assert.same({ "ada", "bee", lumo.null, "dog" }, query():order_by("n"):pluck("name"))
    assert.same({ 3, 1, 2, 5 }, query():order_by("n"):pluck("builder_pairs.weight"))
    assert.same({ 2, 3, 1, 4 }, query():order_by_pivot("weight"):pluck("id") )
    assert.same({ 5, 4, 3, 2 }, query():order_by("n"):pluck("part.a"))
  end)

  it("distinct takes columns of either side", function()
    assert.same({ "s1", "s2" }, query():distinct("slug"))
    assert.same({ "x", "y", "z" }, query():distinct("builder_pairs.kind"))
    assert.same({ "x" }, query():where("n", 10):or_where_pivot("weight", 2):distinct("builder_pairs.kind"))
    assert.same({ 2, 3, 4, 5 }, query():distinct("part.a"))
    assert.same({}, query():where("n", 0):distinct("n"))
  end)

  it("lean gives plain tables with the pivot row", function()
    local list = query():lean():order_by_pivot("weight"):exec()
    assert.equal("bee cat ada dog", names(list))
    assert.is_nil(getmetatable(list[1]))
    assert.same({ post_id = 1, tag_id = 2, weight = 1, kind = "y" }, list[1].pivot)
    assert.equal(2, list[1]._id)
    assert.equal("dog", query():lean():where("n", 40):or_where_pivot("weight", 99):first().name)
  end)

  it("each reads batch by batch", function()
    local rows, tags = {}, {}
    for i = 1, 2500 do
      tags[i] = { _id = 1000 + i, name = ("t%04d"):format(i), n = i }
      rows[i] = { _id = 1000 + i, post_id = 3, tag_id = 1000 + i, weight = -i }
    end
    helper.insert("builder_tags", tags)
    helper.insert("builder_pairs", rows)
    local three, seen, last = Post:create { id = 3 }, 0, nil
    local _, list = lumo.count_commands(function()
      for tag in three:related("tags"):query():order_by_pivot("weight"):each() do
        seen = seen + 1
        assert.is_true(last == nil or tag.pivot.weight > last)
        last = tag.pivot.weight
      end
    end)
    assert.equal(2500, seen)
    assert.equal("aggregate getMore getMore", ("%s %s %s"):format(list[1].name, list[2].name, list[3].name))
    assert.equal(3, #list)
    seen = 0
    for tag in three:related("tags"):query():lean():where("n", "<=", 1500):or_where_pivot("weight", -2000):each() do
      assert.equal(3, tag.pivot.post_id)
      seen = seen + 1
    end
    assert.equal(1501, seen)
    seen = 0
    for _ in three:related("tags"):query():limit(10):each() do seen = seen + 1 end
    assert.equal(10, seen)
    for _ in query():where("n", 0):each() do error("there is none") end
    assert.equal(-2500, three:related("tags"):query():order_by_pivot("weight"):each()().pivot.weight) -- left open
    assert.equal(2500, three:related("tags"):query():count())
  end)

  it("find_one_and_update and find_one_and_delete change the first, if it still matches", function()
    local one = query():where("n", ">", 10):order_by_pivot("weight", "desc"):find_one_and_update { name = "new" }
    assert.equal("new", one.name)
    assert.equal(4, one.id)
    assert.equal(5, one.pivot.weight)
    assert.equal("new", Tag:find(4).name)
    one.name = "newer"
    one:save()
    assert.equal("newer", Tag:find(4).name)
    assert.is_nil(query():where("n", 77):find_one_and_update { name = "x" })
    local gone = query():order_by("n"):find_one_and_delete()
    assert.equal("ada", gone.name)
    assert.is_true(gone.is_deleted)
    assert.is_nil(Tag:find(1))
    assert.equal("bee", query():where("n", 0):or_where_pivot("kind", "y"):find_one_and_delete().name)
    assert.equal("eel", Tag:find(5).name)
    expect_error("E_ARGUMENT", "empty", function() query():find_one_and_update {} end)
    expect_error("E_ARGUMENT", "no limit", function() query():limit(1):find_one_and_delete() end)
    expect_error("E_CAST", nil, function() query():where("n", 77):find_one_and_update { n = "many" } end)
    expect_error("E_UNDEFINED_COLUMN", nil, function() query():find_one_and_update { kind = "many" } end)
  end)

  it("takes each record once when many take at once", function()
    local taken = {}
    for _ = 1, 5 do
      local one = query():where("n", ">", 0):find_one_and_update { n = -1 }
      taken[#taken + 1] = one and one.name
    end
    table.sort(taken)
    assert.equal("ada bee cat dog", table.concat(taken, " "))
  end)

  it("explain is of the first command", function()
    local reply = query():where("name", "ada"):explain()
    assert.truthy(reply.queryPlanner.namespace:find("builder_pairs", 1, true))
    reply = query():where("n", 1):or_where_pivot("weight", 2):explain()
    assert.truthy(reply.stages or reply.queryPlanner)
  end)

  it("tostring shows the commands", function()
    local text = tostring(query():where("n", 1):where_pivot("weight", 2):order_by_pivot("kind"):limit(3))
    assert.truthy(text:find('"aggregate":"builder_pairs"', 1, true))
    local first, second = tostring(query():where("n", 1):where_pivot("weight", 2):limit(3)):match("^(.-)\n(.*)$")
    assert.truthy(first:find('{"find":"builder_pairs","filter":{"post_id":{"$in":[1]},', 1, true))
    assert.truthy(first:find('{"weight":{"$eq":2}}', 1, true))
    assert.truthy(second:find('{"find":"builder_tags","filter":{"_id":{"$in":[]},', 1, true))
    assert.truthy(second:find('{"n":{"$eq":1}}', 1, true))
    local debugged
    lumo.load(post, "tags", function(q) debugged = tostring(q:where("n", 1)) end)
    assert.truthy(debugged:find('"find":"builder_tags"', 1, true))
  end)

  it("group_limit and group_order_by are a plain limit and order", function()
    assert.equal("dog ada", names(query():group_order_by("builder_pairs.weight", "desc"):group_limit(2):exec()))
    assert.equal("ada bee", names(query():groupLimit(2):exec()))
    expect_error("E_ARGUMENT", "whole number from 1", function() query():group_limit(0) end)
    expect_error("E_ARGUMENT", "of a relation", function() Tag:query():group_limit(1) end)
    expect_error("E_ARGUMENT", "of a relation", function() Tag:query():group_order_by("n") end)
  end)

  it("clones carry all of it", function()
    local q = query():where("n", 20):or_where_pivot("weight", 5):order_by_pivot("weight", "desc")
    local copy = q:clone():limit(1)
    assert.equal("dog bee", names(q:exec()))
    assert.equal("dog", names(copy:exec()))
  end)

  it("says what it is", function()
    assert.is_true(query().is_related_query)
    assert.is_false(query().is_related_preload_query)
    assert.is_true(post:related("tags"):pivot_query().isPivotOnlyQuery)
    assert.is_true(Post:get_relation("tags"):eager_query({ post }).is_related_preload_query)
    assert.is_nil(Tag:query().is_related_query)
  end)
end)

describe("has and where_has of the related records", function()
  -- ada alone is in both posts, with weight 8 in the second one
  local function second(q) q:where("title", "Q") end

  it("are evaluated by the server, beside all else", function()
    local list, count = exec(query():where_has("posts", second))
    assert.equal("ada", names(list))
    assert.equal(1, count)
    assert.equal(3, list[1].pivot.weight)
    assert.is_nil(list[1]:get("lumo:0"))
    assert.equal("bee cat dog", sorted_names(query():where_doesnt_have("posts", second):exec()))
    assert.equal("ada bee", sorted_names(query():where_has("posts", second):or_where_pivot("weight", 1):exec()))
    assert.equal("ada", names(query():has("posts", ">", 1):exec()))
    assert.equal("dog bee cat", names(query():has("posts", "=", 1):order_by_pivot("kind", "desc"):exec()))
    assert.equal("ada", query():where_has("posts", function(q) q:where_pivot("weight", 8) end):first().name)
  end)

  it("serve every terminal", function()
    local function q() return query():has("posts", "=", 1) end
    assert.equal(3, q():count())
    assert.is_true(q():exists())
    assert.equal(90, q():sum("n"))
    assert.same({ "bee", "cat", "dog" }, q():order_by("name"):pluck("name"))
    assert.same({ _id = 1, name = "ada", n = 10, slug = "s1", part = { a = 5 },
      pivot = { post_id = 1, tag_id = 1, weight = 3, kind = "x" } }, query():has("posts", "=", 2):lean():first())
    local seen = 0
    for _ in q():each() do seen = seen + 1 end
    assert.equal(3, seen)
    assert.equal(3, q():paginate(1, 2).total)
    assert.equal(1, query():has("posts", "=", 2):update { name = "new" })
    assert.equal("new", Tag:find(1).name)
    assert.equal("new", query():has("posts", "=", 2):find_one_and_delete().name)
  end)

  it("work in a preload, with its limits", function()
    local posts = Post:query():order_by("id"):preload("tags", function(q)
      q:where_doesnt_have("posts", second):group_limit(2)
    end):exec()
    assert.equal("dog cat", names(posts[1].tags))
    assert.equal("", names(posts[2].tags))
  end)
end)

describe("keys that are none", function()
  before_each(function()
    helper.insert("builder_pairs", {
      { _id = 20, post_id = 1, tag_id = lumo.null, weight = 20 }, { _id = 21, post_id = 1, weight = 21 },
      { _id = 22, post_id = 1, tag_id = lumo.regex("."), weight = 22 },
      { _id = 23, post_id = 1, tag_id = lumo.array { 5 }, weight = 23 },
      { _id = 24, post_id = 1, tag_id = "1", weight = 24 },
    })
  end)

  it("are skipped by finds and pipelines alike", function()
    assert.equal(4, #query():exec())
    assert.equal("dog", query():order_by_pivot("weight", "desc"):first().name)
    assert.equal(4, #query():where("n", ">", 0):or_where_pivot("weight", ">", 0):exec())
    assert.equal(4, query():count())
    assert.equal(100, query():sum("n"))
  end)

  it("match related records by a key that is not unique, nor always there", function()
    -- s1: ada and bee (n 10 20), s2: cat and dog, s3: eel
    helper.insert("builder_tags", {
      { _id = 50, name = "list", n = 1, slug = lumo.array { "s1" } }, { _id = 51, name = "none", n = 2 },
    })
    helper.insert("builder_slugs", {
      { _id = 1, post_id = 1, slug = "s1", weight = 2 }, { _id = 2, post_id = 1, slug = "s2", weight = 1 },
      { _id = 3, post_id = 1, slug = "s9", weight = 3 },
    })
    local function slugs() return query("slugs") end
    assert.equal("ada bee cat dog", names(slugs():order_by("name"):exec()))
    assert.equal("cat dog ada bee", names(slugs():order_by_pivot("weight"):order_by("name"):exec()))
    assert.equal("ada cat dog", sorted_names(slugs():where("n", 10):or_where_pivot("weight", 1):exec()))
    assert.equal(4, slugs():count())
    assert.equal(100, slugs():sum("n"))
    assert.equal("bee", slugs():where("n", 20):or_where_pivot("weight", 99):first().name)
  end)
end)

describe("in a transaction", function()
  it("pipelines see what it has written", function()
    lumo.transaction(function()
      post.tags:attach { [5] = { weight = 7 } }
      assert.equal("eel", query():order_by_pivot("weight", "desc"):first().name)
      assert.equal("bee eel", sorted_names(query():where("n", 20):or_where_pivot("weight", 7):exec()))
      local seen = 0
      for _ in query():each() do seen = seen + 1 end
      assert.equal(5, seen)
      assert.equal("eel", query():where("n", 50):find_one_and_update { name = "eel" }.name)
    end)
    assert.equal(5, query():count())
  end)
end)
