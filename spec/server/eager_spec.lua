-- Eager loading: what each parent gets where filters, orders and limits are of one side, of the other, or of both;
-- compared with what each parent's own query gives, and with the commands that it may take.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("eager")
teardown(helper.drop)

local function over(options)
  options.pivot_foreign_key, options.pivot_related_foreign_key = options.from or "post_id", options.to or "tag_id"
  options.from, options.to = nil, nil
  options.pivot_table = options.pivot_table or "eager_pairs"
  options.pivot_columns = options.pivot_columns or { "weight", "kind" }
  return options
end

local Post = lumo.model("EagerPost", {
  collection = "eager_posts",
  columns = { id = { "integer", primary = true }, title = "string" },
  relations = {
    tags = lumo.many_to_many("EagerTag", over {}),
    whole = lumo.many_to_many("EagerTag", over { pivot_columns = "*" }),
    kind_x = lumo.many_to_many("EagerTag", over { on_query = function(q) q:where_pivot("kind", "x") end }),
    bag = lumo.many_to_many("EagerTag", over { pivot_table = "eager_bag", duplicates = true }),
  },
})

lumo.model("EagerTag", {
  collection = "eager_tags",
  columns = { id = { "integer", primary = true }, name = "string", n = "integer" },
  relations = { posts = lumo.many_to_many("EagerPost", over { from = "tag_id", to = "post_id" }) },
})

local POSTS, TAGS = 12, 9
local rows -- of the pivot, as plain tables

-- Every post has tags of its own in an order of its own; tag 9 is missing: its rows are orphans. Post 12 has none.
setup(function()
  local posts, tags = {}, {}
  for i = 1, POSTS do posts[i] = { _id = i, title = ("P%02d"):format(i) } end
  for i = 1, TAGS - 1 do tags[i] = { _id = i, name = ("tag%d"):format((i * 5) % 7), n = i % 3 } end
  rows = {}
  for post = 1, POSTS - 1 do
    for tag = 1, TAGS do
      if (post * tag) % 4 ~= 3 then
        rows[#rows + 1] = {
          _id = #rows + 1, post_id = post, tag_id = tag, weight = (post * 7 + tag * 11) % 13,
          kind = tag % 2 == 0 and "x" or "y",
        }
      end
    end
  end
  helper.insert("eager_posts", posts)
  helper.insert("eager_tags", tags)
  helper.insert("eager_pairs", rows)
end)

local function show(list)
  local all = {}
  for i, one in ipairs(list) do all[i] = ("%d/%d"):format(one.id, one.pivot.weight) end
  return table.concat(all, " ")
end

local function load_all(callback, relation)
  local posts = Post:query():order_by("id"):exec()
  local count = lumo.count_commands(function() lumo.load(posts, relation or "tags", callback) end)
  return posts, count
end

--- What a parent must get: made by hand from all rows. `less` sorts { tag, row }.
local function expected(post, keep, less, limit)
  local list = {}
  for _, row in ipairs(rows) do
    if row.post_id == post and row.tag_id < TAGS then
      local tag = { id = row.tag_id, name = ("tag%d"):format((row.tag_id * 5) % 7), n = row.tag_id % 3 }
      if not keep or keep(tag, row) then list[#list + 1] = { tag = tag, row = row } end
    end
  end
  table.sort(list, less)
  local all = {}
  for i = 1, math.min(#list, limit or #list) do
    all[i] = ("%d/%d"):format(list[i].row.tag_id, list[i].row.weight)
  end
  return table.concat(all, " ")
end

--- Orders: each a list of { side, column, direction } with the tag's id as the last word.
local function by(...)
  local keys = { ... }
  return function(a, b)
    for _, key in ipairs(keys) do
      local one, two = a[key[1]][key[2]], b[key[1]][key[2]]
      if one ~= two then
        if key[3] == "desc" then return one > two end
        return one < two
      end
    end
    return a.tag.id < b.tag.id
  end
end

local ID_DESC = by { "tag", "id", "desc" }
local function either(tag, row) return tag.n == 1 or row.weight > 8 end

describe("a preload", function()
  for _, case in ipairs {
    { "of everything, by a related column", function(q) q:order_by("n"):order_by("id") end, nil, by { "tag", "n" } },
    { "by a pivot column", function(q) q:order_by_pivot("weight"):order_by_pivot("tag_id") end, nil,
      by { "row", "weight" } },
    { "by columns of both sides", function(q)
      q:order_by("n", "desc"):order_by_pivot("weight", "desc"):order_by("id")
    end, nil, by({ "tag", "n", "desc" }, { "row", "weight", "desc" }) },
    { "with an or between both sides", function(q)
      q:where("n", 1):or_where_pivot("weight", ">", 8):order_by("id")
    end, either, by { "tag", "id" } },
    { "with an or between both sides, by the pivot", function(q)
      q:where("n", 1):or_where_pivot("weight", ">", 8):order_by_pivot("weight", "desc"):order_by("id")
    end, either, by { "row", "weight", "desc" } },
    { "with filters on both sides", function(q)
      q:where("n", "<", 2):where_pivot("weight", ">", 3):order_by("id")
    end, function(tag, row) return tag.n < 2 and row.weight > 3 end, by { "tag", "id" } },
    { "with group_limit: the related key, descending", function(q) q:group_limit(3) end, nil, ID_DESC, 3 },
    { "with group_limit by a pivot column", function(q)
      q:group_limit(2):group_order_by("eager_pairs.weight", "desc")
    end, nil, by { "row", "weight", "desc" }, 2 },
    { "with group_limit by a related column", function(q)
      q:group_limit(2):group_order_by { { "eager_tags.n", "desc" }, "id" }
    end, nil, by { "tag", "n", "desc" }, 2 },
    { "with group_limit by both", function(q)
      q:group_limit(3):group_order_by("n"):group_order_by("eager_pairs.weight")
    end, nil, by({ "tag", "n" }, { "row", "weight" }), 3 },
    { "with group_limit and filters on both sides", function(q)
      q:group_limit(2):where("n", "<", 2):where_pivot("kind", "x")
    end, function(tag, row) return tag.n < 2 and row.kind == "x" end, ID_DESC, 2 },
    { "with group_limit and a filter on the pivot", function(q) q:group_limit(2):where_pivot("kind", "x") end,
      function(_, row) return row.kind == "x" end, ID_DESC, 2 },
    { "with group_limit and an or between both sides", function(q)
      q:group_limit(2):where("n", 1):or_where_pivot("weight", ">", 8)
    end, either, ID_DESC, 2 },
    { "with group_limit by the pivot and an or between both sides", function(q)
      q:group_limit(2):group_order_by("eager_pairs.weight"):where("n", 1):or_where_pivot("weight", ">", 8)
    end, either, by { "row", "weight" }, 2 },
    { "with a plain limit by a related column", function(q) q:limit(2):order_by("n", "desc"):order_by("id") end, nil,
      by { "tag", "n", "desc" }, 2 },
    { "with a plain limit by a pivot column", function(q) q:limit(2):order_by_pivot("weight") end, nil,
      by { "row", "weight" }, 2 },
    { "with a plain limit alone", function(q) q:limit(2) end, nil, by { "tag", "id" }, 2 },
    { "with group_order_by alone", function(q) q:group_order_by("eager_pairs.weight"):group_order_by("id") end, nil,
      by { "row", "weight" } },
  } do
    it(case[1] .. " gives each parent its own", function()
      local posts, count = load_all(case[2])
      for i, post in ipairs(posts) do
        assert.equal(expected(i, case[3], case[4], case[5]), show(post.tags), "post " .. i)
      end
      -- Orphans among the first rows of a TOP read make their owners' rows be read once more.
      assert.is_true(count <= (case[1]:find("limit") and 4 or 2), count .. " commands")
    end)
  end

  it("takes 2 commands with group_limit where there are no orphans", function()
    for _, callback in ipairs {
      function(q) q:group_limit(2):where_pivot("tag_id", "<", TAGS) end,
      function(q) q:group_limit(2):where_pivot("tag_id", "<", TAGS):group_order_by("eager_pairs.weight") end,
      function(q) q:group_limit(2):group_order_by("name") end,
      function(q) q:group_limit(2):where("n", 1) end,
      function(q) q:group_limit(2):where("n", 1):or_where_pivot("weight", 3) end,
    } do
      local _, count = load_all(callback)
      assert.equal(2, count)
    end
    local one = Post:find(1)
    assert.equal(2, lumo.count_commands(function()
      one:load("tags", function(q) q:group_limit(1):where_pivot("tag_id", "<", TAGS) end)
    end))
    assert.equal("8/4", show(one.tags))
  end)

  it("keeps the order of the list apart from that of the limit", function()
    local posts = load_all(function(q)
      q:group_limit(3):group_order_by("eager_pairs.weight", "desc"):order_by("id")
    end)
    local function sorted_by_id(text)
      local all = {}
      for word in text:gmatch("%S+") do all[#all + 1] = word end
      table.sort(all)
      return table.concat(all, " ")
    end
    for i, post in ipairs(posts) do
      assert.equal(sorted_by_id(expected(i, nil, by { "row", "weight", "desc" }, 3)), show(post.tags))
    end
    -- the same where both orders are of one side, and where the limit is by the related records
    posts = load_all(function(q)
      q:group_limit(3):group_order_by("eager_pairs.weight", "desc"):order_by_pivot("tag_id")
    end)
    for i, post in ipairs(posts) do
      assert.equal(sorted_by_id(expected(i, nil, by { "row", "weight", "desc" }, 3)), show(post.tags))
    end
    posts = load_all(function(q) q:group_limit(3):group_order_by { { "n", "desc" }, "id" }:order_by_pivot("tag_id") end)
    for i, post in ipairs(posts) do
      assert.equal(sorted_by_id(expected(i, nil, by { "tag", "n", "desc" }, 3)), show(post.tags))
    end
    posts = load_all(function(q) q:group_limit(3):group_order_by { { "n", "desc" }, "id" }:order_by("id") end)
    for i, post in ipairs(posts) do
      assert.equal(sorted_by_id(expected(i, nil, by { "tag", "n", "desc" }, 3)), show(post.tags))
    end
  end)

  it("skips with an offset", function()
    local posts = load_all(function(q) q:order_by_pivot("weight"):offset(1):limit(2) end)
    for i, post in ipairs(posts) do
      local all, wanted = expected(i, nil, by { "row", "weight" }), {}
      for word in all:gmatch("%S+") do wanted[#wanted + 1] = word end
      assert.equal(table.concat({ wanted[2], wanted[3] }, " "), show(post.tags))
    end
    posts = load_all(function(q) q:where("n", 1):or_where_pivot("weight", ">", 8):order_by("id"):offset(1) end)
    for i, post in ipairs(posts) do
      assert.equal((expected(i, either, by { "tag", "id" }):gsub("^%S+ ?", "")), show(post.tags))
    end
  end)

  it("gives a parent that stands twice in the list its records twice", function()
    local post = Post:find(2)
    local posts = { post, Post:find(1), Post:find(2) }
    lumo.load(posts, "tags", function(q) q:group_limit(2) end)
    assert.equal(expected(2, nil, ID_DESC, 2), show(posts[1].tags))
    assert.equal(expected(1, nil, ID_DESC, 2), show(posts[2].tags))
    assert.equal(expected(2, nil, ID_DESC, 2), show(posts[3].tags))
    assert.are_not.equal(posts[1].tags, posts[3].tags)
  end)

  it("gives each parent's rows whole, and on_query's part of them", function()
    local posts = load_all(function(q) q:group_limit(1):where("n", 1):or_where_pivot("weight", 99) end, "whole")
    local one = posts[1].whole[1]
    assert.equal(one.id % 2 == 0 and "x" or "y", one.pivot.kind)
    posts = load_all(function(q) q:group_limit(2) end, "kind_x")
    for i, post in ipairs(posts) do
      assert.equal(expected(i, function(_, row) return row.kind == "x" end, ID_DESC, 2), show(post.kind_x))
    end
    posts = load_all(function(q) q:where("n", 1):or_where_pivot("weight", ">", 8):order_by("id") end, "kind_x")
    for i, post in ipairs(posts) do
      local keep = function(tag, row) return row.kind == "x" and either(tag, row) end
      assert.equal(expected(i, keep, by { "tag", "id" }), show(post.kind_x))
    end
  end)

  it("nests, each level with its own limit", function()
    local posts
    local count = lumo.count_commands(function()
      posts = Post:query():order_by("id"):preload("tags", function(q)
        q:where_pivot("tag_id", "<", TAGS):group_limit(2)
          :preload("posts", function(inner) inner:group_limit(1):order_by("title") end)
      end):exec()
    end)
    assert.equal(5, count)
    for i, post in ipairs(posts) do
      assert.equal(expected(i, nil, ID_DESC, 2), show(post.tags))
      for _, tag in ipairs(post.tags) do
        local last
        for _, row in ipairs(rows) do
          if row.tag_id == tag.id then last = row.post_id end
        end
        assert.equal(1, #tag.posts)
        assert.equal(last, tag.posts[1].id)
      end
    end
  end)

  it("reads what select asks for, where the server joins too", function()
    local posts = load_all(function(q) q:select("name"):where("n", 1):or_where_pivot("weight", ">", 8) end)
    local tag = posts[1].tags[1]
    assert.truthy(tag.name)
    assert.is_nil(tag.n)
  end)

  it("counts records in a bag, not orphans, and gives one for each row", function()
    helper.insert("eager_bag", {
      { _id = 1, post_id = 1, tag_id = 1, weight = 1 }, { _id = 2, post_id = 1, tag_id = 1, weight = 2 },
      { _id = 3, post_id = 1, tag_id = 2, weight = 3 }, { _id = 4, post_id = 1, tag_id = 9, weight = 4 },
      { _id = 5, post_id = 2, tag_id = 9, weight = 5 },
    })
    local posts = load_all(function(q) q:group_limit(2):group_order_by("eager_bag.weight", "desc") end, "bag")
    assert.equal("2/3 1/2", show(posts[1].bag))
    assert.equal("", show(posts[2].bag))
    posts = load_all(function(q) q:limit(2):order_by("id"):order_by_pivot("weight") end, "bag")
    assert.equal("1/1 1/2", show(posts[1].bag))
    posts = load_all(function(q) q:where("n", 1):or_where_pivot("weight", 3):order_by_pivot("weight") end, "bag")
    assert.equal("1/1 1/2 2/3", show(posts[1].bag))
    posts = load_all(function(q) q:limit(2):order_by("id") end, "bag")
    assert.equal(2, #posts[1].bag)
  end)

  it("runs inside a transaction", function()
    local ok, err = pcall(lumo.transaction, function()
      local post = Post:create { id = 100, title = "new" }
      post.tags:attach { [1] = { weight = 1 }, [2] = { weight = 2 } }
      post:load("tags", function(q) q:group_limit(1) end)
      assert.equal("2/2", show(post.tags))
      post:load("tags", function(q) q:where("n", 1):or_where_pivot("weight", 1) end)
      assert.equal("1/1", show(post.tags))
      error("undo", 0)
    end)
    assert.is_false(ok)
    assert.equal("undo", err)
  end)

  it("refuses a limit that is none", function()
    for _, wrong in ipairs { 0, -1, 1.5, "2", false } do
      helper.expect_error("E_ARGUMENT", function() load_all(function(q) q:group_limit(wrong) end) end)
    end
    helper.expect_error("E_ARGUMENT", function() load_all(function(q) q:group_limit() end) end)
    helper.expect_error("E_ARGUMENT", function() load_all(function(q) q:group_order_by("n", "up") end) end)
    helper.expect_error("E_UNDEFINED_COLUMN", function() load_all(function(q) q:group_order_by("weight") end) end)
  end)
end)

describe("the query of many parents", function()
  it("gives them one after the other, in every form", function()
    local posts = Post:query():where("id", "<=", 3):order_by("id"):exec()
    local function q() return Post:get_relation("tags"):eager_query(posts):group_limit(2) end
    local wanted = {}
    for i = 1, 3 do wanted[i] = expected(i, nil, ID_DESC, 2) end
    wanted = table.concat(wanted, " ")
    assert.equal(wanted, show(q():exec()))
    assert.equal(#q():exec(), #q():lean():exec())
    assert.equal(#q():exec(), #q():pluck("name"))
    assert.is_true(q():exists())
    local all = {}
    for one in q():each() do all[#all + 1] = one end
    assert.equal(wanted, show(all))
    assert.equal(0, #Post:get_relation("tags"):eager_query({}):exec())
  end)
end)

describe("a mistake in a function", function()
  local function nothing_sent(fn)
    local sent = lumo.count_commands(function() assert.is_false((pcall(fn))) end)
    assert.equal(0, sent)
  end

  it("is found before anything is sent, on every level", function()
    local list = Post:query():limit(3):exec()
    for _, wrong in ipairs {
      function(q) q:where("nope", 1) end, function(q) q:order_by("nope") end, function() error("on purpose") end,
      function(q) q:preload("nope") end, function(q) q:preload("posts.nope") end,
      function(q) q:preload("posts", function(inner) inner:where("nope", 1) end) end,
      function(q) q:preload("posts.tags", function(inner) inner:where("nope", 1) end) end,
      function(q) q:with_count("posts", function(inner) inner:limit(1) end) end,
      function(q) q:with_aggregate("posts", function(inner) inner:count():as("n"):comment("no") end) end,
    } do
      nothing_sent(function() Post:query():preload("tags", wrong):exec() end)
      nothing_sent(function() Post:query():preload("tags.posts.tags", wrong):first() end)
      nothing_sent(function() for _ in Post:query():preload("tags", wrong):each() do error("got one") end end)
      nothing_sent(function() lumo.load(list, "tags.posts.tags", wrong) end)
      nothing_sent(function() list[1].tags:query():preload("posts.tags", wrong):exec() end)
    end
    nothing_sent(function() Post:query():with_count("tags", function(q) q:limit(1) end):exec() end)
  end)

  it("has it called once for what it loads, and may preload with itself", function()
    local calls = 0
    local function count() calls = calls + 1 end
    Post:query():limit(3):preload("tags", count):exec()
    assert.equal(1, calls)
    local query = Post:query():where("title", "none"):preload("tags.posts", count)
    assert.equal(0, #query:exec())
    assert.equal(2, calls) -- its mistakes would be found without documents, too
    query:exec()
    assert.equal(3, calls)
    local Node = lumo.model("EagerNode", { collection = "eager_nodes", columns = { up_id = "objectid" } })
    Node:has_many("below", "EagerNode", {
      foreign_key = "up_id", on_query = function(q) if q.is_related_preload_query then q:preload("below") end end,
    })
    Node:has_many("plain", "EagerNode", { foreign_key = "up_id" })
    local node = Node:create {}
    local top = node
    for _ = 1, 6 do node = node.plain:create {} end
    local function deep(q) q:preload("plain", deep) end
    for name, one in pairs {
      below = Node:query():where("id", top.id):preload("below"):first(),
      plain = Node:query():where("id", top.id):preload("plain", deep):first(),
    } do
      local depth = 0
      while one[name][1] do one, depth = one[name][1], depth + 1 end
      assert.equal(6, depth)
    end
  end)
end)

describe("many parents", function()
  it("travel in few commands, and bring few rows", function()
    local posts, pairs_list = {}, {}
    for i = 1, 2100 do
      posts[i] = { _id = 10000 + i, title = "many" }
      for k = 1, 4 do pairs_list[#pairs_list + 1] = { post_id = 10000 + i, tag_id = (i + k) % 8 + 1, weight = k } end
    end
    helper.insert("eager_posts", posts)
    helper.insert("eager_pairs", pairs_list)
    local list = Post:query():where("title", "many"):order_by("id"):exec()
    assert.equal(2, lumo.count_commands(function() lumo.load(list, "tags", function(q) q:group_limit(2) end) end))
    assert.equal(2, #list[2100].tags)
    -- pipelines that join go by 1,000 owners
    assert.equal(4, lumo.count_commands(function()
      lumo.load(list, "tags", function(q) q:where("n", 0):or_where_pivot("weight", 1) end)
    end))
    for i = 1, 2100, 300 do
      local want = 0
      for k = 1, 4 do
        local tag = (i + k) % 8 + 1
        if k == 1 or tag % 3 == 0 then want = want + 1 end
      end
      assert.equal(want, #list[i].tags)
    end
  end)
end)
