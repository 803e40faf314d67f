-- Queries: what a filter means, what a query returns and sends, and the guards of bulk writes.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("query")
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused
local expect_commands = helper.expect_commands
local pluck = helper.pluck

local Post = lumo.model("QueryPost", {
  collection = "posts",
  columns = {
    name = "string",
    slug = { "string", column = "post_slug" },
    a = "integer",
    b = "integer",
    c = "integer",
    role = "string",
    meta = "object",
    labels = { "array", of = "string" },
    published = "date",
  },
})

-- The names of the records that a query finds, in alphabetical order, joined.
local function names(query)
  local found = pluck(query:exec(), "name")
  table.sort(found)
  return table.concat(found, " ")
end

local function q()
  return Post:query()
end

setup(function()
  helper.insert("posts", {
    { name = "one", post_slug = "s1", a = 1, b = 1, c = 1, role = "admin", labels = { "x", "y" },
      meta = { color = "red", size = { w = 10 } }, published = lumo.datetime("2020-01-01T00:00:00Z") },
    { name = "two", post_slug = "s2", a = 1, b = 2, c = 2, role = "guest", labels = { "y" },
      meta = { color = "blue", size = { w = 20 } }, published = lumo.datetime("2021-01-01T00:00:00Z") },
    { name = "three", post_slug = "s3", a = 2, b = 1, c = 1, role = lumo.null, labels = lumo.array {} },
    { name = "four", post_slug = "s4", a = 2, b = 2, c = 1 },
    { name = "five", a = 3, b = 3, c = 3, role = "admin", meta = { color = "red" } },
  })
end)

describe("where", function()
  it("compares with a value", function()
    assert.equal("one two", names(q():where("a", 1)))
    assert.equal("five", names(q():where("name", "five")))
    assert.equal("", names(q():where("a", 99)))
  end)

  it("takes operators", function()
    assert.equal("one two", names(q():where("a", "=", 1)))
    assert.equal("five four three", names(q():where("a", "!=", 1)))
    assert.equal("five four three", names(q():where("a", "<>", 1)))
    assert.equal("five four three", names(q():where("a", ">", 1)))
    assert.equal("five four three", names(q():where("a", ">=", 2)))
    assert.equal("one two", names(q():where("a", "<", 2)))
    assert.equal("four one three two", names(q():where("a", "<=", 2)))
    assert.equal("five one two", names(q():where("a", "in", { 1, 3 })))
    assert.equal("four three", names(q():where("a", "not_in", { 1, 3 })))
    assert.equal("two", names(q():where("published", ">", "2020-06-01T00:00:00Z")))
  end)

  it("takes a table of columns, all of which must match", function()
    assert.equal("two", names(q():where { a = 1, b = 2 }))
    assert.equal("four", names(q():where({ a = 2, b = 2, c = 1 })))
  end)

  it("takes a table whose keys are demanded", function()
    assert.equal("two", names(q():where({ a = 1, b = 2 }, { "a", "b" })))
    local missing = nil
    expect_refused("E_ARGUMENT", function() q():where({ a = 1, b = missing }, { "a", "b" }):exec() end)
  end)

  it("takes groups", function()
    assert.equal("five one", names(q():where(function(g)
      g:where("a", 1):or_where("a", 3)
    end):where("role", "admin")))
    assert.equal("one two", names(q():where("a", 1):where(function(g)
      g:where("b", 1):or_where(function(h) h:where("b", 2):where("c", 2) end)
    end)))
  end)

  it("chains by and", function()
    assert.equal("one", names(q():where("a", 1):where("b", 1)))
    assert.equal("one", names(q():where("a", 1):and_where("b", 1)))
    assert.equal("", names(q():where("a", 1):where("a", 2)))
    assert.equal("two", names(q():where("a", ">", 0):where("a", "<", 2):where("b", 2)))
  end)

  it("binds and closer than or, as SQL does", function()
    -- a = 1 OR (a = 2 AND b = 2)
    assert.equal("four one two", names(q():where("a", 1):or_where("a", 2):where("b", 2)))
    -- (a = 1 AND b = 1) OR (a = 2 AND b = 2) OR a = 3
    assert.equal("five four one",
      names(q():where("a", 1):where("b", 1):or_where("a", 2):where("b", 2):or_where("a", 3)))
    -- (a = 1 AND c = 2) OR (c = 1 AND b = 1)
    assert.equal("one three two", names(q():where("a", 1):and_where("c", 2):or_where { c = 1, b = 1 }))
    -- a = 99 OR a = 3
    assert.equal("five", names(q():where("a", 99):or_where("a", 3)))
  end)

  it("takes or first, which is then the only alternative", function()
    assert.equal("one two", names(q():or_where("a", 1)))
    assert.equal("five one two", names(q():or_where("a", 1):or_where("a", 3)))
  end)

  it("means stored names, given attribute names", function()
    assert.equal("one", names(q():where("slug", "s1")))
    assert.equal("one two", names(q():where_in("slug", { "s1", "s2" })))
    expect_refused("E_UNDEFINED_COLUMN", function() q():where("post_slug", "s1"):exec() end)
  end)

  it("reaches into objects by dotted paths", function()
    assert.equal("five one", names(q():where("meta.color", "red")))
    assert.equal("two", names(q():where("meta.size.w", ">", 10)))
    expect_refused("E_UNDEFINED_COLUMN", function() q():where("mata.color", "red"):exec() end)
    expect_refused({ "E_UNDEFINED_COLUMN", "E_ARGUMENT" }, function()
      q():where("name.first", "red"):exec()
    end)
  end)

  it("matches an element of an array, or the whole array", function()
    assert.equal("one two", names(q():where("labels", "y")))
    assert.equal("one", names(q():where("labels", "x")))
    assert.equal("one", names(q():where("labels", { "x", "y" })))
    assert.equal("", names(q():where("labels", { "y", "x" })))
    expect_refused("E_CAST", function() q():where("labels", 5):exec() end)
  end)

  it("finds by the primary key, as id and as text", function()
    local one = q():where("name", "one"):first()
    assert.equal("one", names(q():where("_id", one._id)))
    assert.equal("one", names(q():where("_id", tostring(one._id))))
    assert.equal("five four three two", names(q():where_not_in("_id", { one._id })))
  end)

  it("refuses unknown columns and suggests the nearest", function()
    local err = expect_refused("E_UNDEFINED_COLUMN", function() q():where("naem", "x"):exec() end)
    assert.is_truthy(err.message:find("name", 1, true))
    expect_refused("E_UNDEFINED_COLUMN", function() q():where { naem = "x" }:exec() end)
    expect_refused("E_UNDEFINED_COLUMN", function() q():where_null("naem"):exec() end)
    expect_refused("E_UNDEFINED_COLUMN", function() q():where_in("naem", { "x" }):exec() end)
    expect_refused("E_UNDEFINED_COLUMN", function() q():order_by("naem"):exec() end)
    expect_refused("E_UNDEFINED_COLUMN", function() q():select("naem"):exec() end)
  end)

  it("refuses a nil where a value is needed", function()
    local missing = nil
    for _, build in ipairs {
      function() return q():where("a", missing) end,
      function() return q():where("a", "=", missing) end,
      function() return q():where("a", ">", missing) end,
      function() return q():or_where("a", missing) end,
      function() return q():and_where("a", missing) end,
      function() return q():where_not("a", missing) end,
      function() return q():or_where_not("a", missing) end,
      function() return q():where_in("a", missing) end,
      function() return q():where_not_in("a", missing) end,
      function() return q():where_between("a", missing) end,
      function() return q():where(missing) end,
      function() return q():where(missing, 1) end,
      function() return q():where("a") end,
      function() return q():where() end,
      function() return q():where_null(missing) end,
      function() return q():where_raw(missing) end,
    } do
      expect_refused("E_ARGUMENT", function() build():exec() end)
    end
  end)

  it("refuses empty tables and empty groups", function()
    expect_refused("E_ARGUMENT", function() q():where {}:exec() end)
    expect_refused("E_ARGUMENT", function() q():or_where {}:exec() end)
    expect_refused("E_ARGUMENT", function() q():where_not {}:exec() end)
    expect_refused("E_ARGUMENT", function() q():where_raw {}:exec() end)
  end)

  it("refuses unknown operators and wrong argument types", function()
    expect_refused("E_ARGUMENT", function() q():where("a", "==", 1):exec() end)
    expect_refused("E_ARGUMENT", function() q():where("a", "$gt", 1):exec() end)
    expect_refused("E_ARGUMENT", function() q():where("a", {}, 1):exec() end)
    expect_refused("E_ARGUMENT", function() q():where(5, 1):exec() end)
    expect_refused("E_ARGUMENT", function() q():where_in("a", 1):exec() end)
    expect_refused("E_ARGUMENT", function() q():where_in("a", { 1, nil, 3 }):exec() end)
    expect_refused("E_ARGUMENT", function() q().where("a", 1) end)
  end)

  it("raises at the caller's line", function()
    local err = expect_error("E_ARGUMENT", function() q():where("a", nil) end)
    assert.is_truthy(tostring(err):find("query_spec.lua", 1, true))
  end)
end)

describe("the where family", function()
  it("not: matches missing and null too, as MongoDB does", function()
    assert.equal("four three two", names(q():where_not("role", "admin")))
    assert.equal("four three two", names(q():where("role", "!=", "admin")))
    assert.equal("five four three", names(q():where_not { a = 1 }))
    assert.equal("four", names(q():where("a", 2):where_not("b", 1)))
    assert.equal("five four one two", names(q():where("a", 1):or_where_not("b", 1)))
    assert.equal("two", names(q():where("a", 1):and_where_not("b", 1)))
  end)

  it("not: turns a whole table or group round", function()
    assert.equal("five four three two", names(q():where_not { a = 1, b = 1 }))
    assert.equal("five", names(q():where_not(function(g) g:where("a", 1):or_where("a", 2) end)))
  end)

  it("not: takes operators", function()
    assert.equal("one two", names(q():where_not("a", ">", 1)))
  end)

  it("in and not in", function()
    assert.equal("five one two", names(q():where_in("a", { 1, 3 })))
    assert.equal("four three", names(q():where_not_in("a", { 1, 3 })))
    assert.equal("four three two", names(q():where_not_in("role", { "admin" })))
    assert.equal("five four three", names(q():where("a", 3):or_where_in("a", { 2 })))
    assert.equal("five four one three", names(q():where("b", 1):or_where_not_in("a", { 1 })))
    assert.equal("four", names(q():where("b", 2):and_where_not_in("a", { 1 })))
  end)

  it("in: an empty list matches nothing, not in: everything", function()
    assert.equal("", names(q():where_in("a", {})))
    assert.equal("five four one three two", names(q():where_not_in("a", {})))
    assert.equal("one two", names(q():where("a", 1):or_where_in("a", {})))
    assert.equal("", names(q():where("a", 1):where("a", "in", {})))
  end)

  it("null matches null and missing, not null neither", function()
    assert.equal("four three", names(q():where_null("role")))
    assert.equal("five one two", names(q():where_not_null("role")))
    assert.equal("five four three", names(q():where("a", 3):or_where_null("role")))
    assert.equal("five one two", names(q():where("a", 1):or_where_not_null("role")))
    assert.equal("five", names(q():where_null("slug")))
    assert.equal("four three", names(q():where("role", lumo.null)))
  end)

  it("between takes both ends in", function()
    assert.equal("four one three two", names(q():where_between("a", { 1, 2 })))
    assert.equal("five", names(q():where_not_between("a", { 1, 2 })))
    assert.equal("five four three", names(q():where("a", 3):or_where_between("a", { 2, 2 })))
    local dates = { "2019-01-01T00:00:00Z", "2020-06-01T00:00:00Z" }
    assert.equal("one", names(q():where_between("published", dates)))
    for _, bounds in ipairs { {}, { 1 }, { 1, 2, 3 } } do
      expect_refused("E_ARGUMENT", function() q():where_between("a", bounds):exec() end)
    end
    expect_refused("E_CAST", function() q():where_between("a", { 1, "x" }):exec() end)
  end)

  it("raw is MongoDB's own, and joins the rest like any filter", function()
    assert.equal("five four three", names(q():where_raw { a = { ["$gt"] = 1 } }))
    assert.equal("one", names(q():where("a", 1):where_raw { post_slug = "s1" }))
    assert.equal("five one two", names(q():where("a", 1):or_where_raw { a = 3 }))
    assert.equal("one", names(q():where("a", 1):where_raw { ["$or"] = { { b = 1 }, { b = 9 } } }))
  end)

  it("answers to camelCase too", function()
    assert.equal("five one two", names(q():whereIn("a", { 1, 3 })))
    assert.equal("four three", names(q():whereNotIn("a", { 1, 3 })))
    assert.equal("four three", names(q():whereNull("role")))
    assert.equal("five one two", names(q():whereNotNull("role")))
    assert.equal("five one two", names(q():where("a", 1):orWhere("a", 3)))
    assert.equal("four one three two", names(q():whereBetween("a", { 1, 2 })))
    assert.equal("five", names(q():whereNotBetween("a", { 1, 2 })))
    assert.equal("four three two", names(q():whereNot("role", "admin")))
    assert.equal("five", names(q():whereRaw { a = 3 }))
    assert.equal("five", q():orderBy("a", "desc"):firstOrFail().name)
  end)
end)

describe("results", function()
  local function listed(query)
    return table.concat(pluck(query:exec(), "name"), " ")
  end

  it("come in the order asked for", function()
    assert.equal("five four one three two", listed(q():order_by("name")))
    assert.equal("two three one four five", listed(q():order_by("name", "desc")))
    assert.equal("five four three two one", listed(q():order_by("a", "desc"):order_by("b", "desc")))
    assert.equal("five four three two one", listed(q():order_by { { "a", "desc" }, { "b", "desc" } }))
    assert.equal("one two three four five", listed(q():order_by { { "a" }, { "b", "asc" } }))
    expect_refused("E_ARGUMENT", function() q():order_by("name", "down"):exec() end)
    expect_refused("E_ARGUMENT", function() q():order_by(nil):exec() end)
  end)

  it("are cut by limit and offset", function()
    assert.equal("five four", listed(q():order_by("name"):limit(2)))
    assert.equal("one three", listed(q():order_by("name"):offset(2):limit(2)))
    assert.equal("three two", listed(q():order_by("name"):offset(3)))
    assert.equal("", listed(q():order_by("name"):offset(10)))
    for _, bad in ipairs { -1, 1.5, "2", true } do
      expect_refused("E_ARGUMENT", function() q():limit(bad):exec() end)
      expect_refused("E_ARGUMENT", function() q():offset(bad):exec() end)
    end
    expect_refused("E_ARGUMENT", function() q():limit(nil):exec() end)
  end)

  it("have the columns asked for, and the primary key", function()
    local record = q():where("name", "one"):select("name", "slug"):first()
    assert.equal("one", record.name)
    assert.equal("s1", record.slug)
    assert.is_nil(record.a)
    assert.is_nil(record:get("labels"))
    assert.equal(24, #tostring(record._id))
    local listed_columns = q():where("name", "one"):select({ "b" }):first()
    assert.equal(1, listed_columns.b)
    assert.is_nil(listed_columns.name)
  end)

  it("are records, clean and persisted", function()
    local record = q():where("name", "one"):exec()[1]
    assert.is_true(record.is_persisted)
    assert.is_false(record.is_dirty)
    assert.equal(Post, record.model)
  end)

  it("cost one command, however many they are", function()
    expect_commands(1, function() q():exec() end)
    expect_commands(1, function() q():where("a", 1):order_by("name"):limit(1):exec() end)
    expect_commands(0, function() q():where("a", 1):order_by("name") end)
  end)

  it("first gives the first or nil, first_or_fail the first or an error", function()
    expect_commands(1, function() assert.equal("five", q():order_by("name"):first().name) end)
    assert.is_nil(q():where("a", 99):first())
    assert.equal("five", q():order_by("name"):first_or_fail().name)
    expect_error("E_ROW_NOT_FOUND", function() q():where("a", 99):first_or_fail() end)
  end)

  it("count and exists", function()
    expect_commands(1, function() assert.equal(5, q():count()) end)
    expect_commands(1, function() assert.equal(2, q():where("a", 1):count()) end)
    assert.equal(0, q():where("a", 99):count())
    expect_commands(1, function() assert.is_true(q():where("a", 1):exists()) end)
    assert.is_false(q():where("a", 99):exists())
    assert.is_true(q():exists())
  end)

  it("do not change when the builder is used again", function()
    local query = q():where("a", 1)
    assert.equal("one two", names(query))
    assert.equal(2, query:count())
    assert.equal("one two", names(query))
  end)
end)

describe("many documents", function()
  local Row = lumo.model("QueryRow", {
    collection = "rows",
    columns = { _id = { "integer", primary = true }, text = "string" },
  })
  local total = 3000

  setup(function()
    local documents = {}
    local text = ("x"):rep(2000)
    for i = 1, total do
      documents[i] = { _id = i, text = text }
    end
    helper.insert("rows", documents)
  end)

  it("are iterated in batches, each once and in order", function()
    local seen = 0
    for row in Row:query():order_by("_id"):each() do
      seen = seen + 1
      assert.equal(seen, row._id)
    end
    assert.equal(total, seen)
  end)

  it("may be left half-way, and other calls made between", function()
    local seen = 0
    for row in Row:query():order_by("_id"):each() do
      seen = seen + 1
      if seen % 10 == 0 then
        assert.equal(2000, #Row:find(row._id).text)
      end
      if seen == 150 then
        break
      end
    end
    assert.equal(150, seen)
    collectgarbage()
    assert.equal(total, Row:count())
  end)

  it("are iterated within limit and filter", function()
    local ids = {}
    for row in Row:query():where("_id", ">", 100):order_by("_id"):limit(250):each() do
      ids[#ids + 1] = row._id
    end
    assert.equal(250, #ids)
    assert.equal(101, ids[1])
    assert.equal(350, ids[250])
  end)

  it("iterate over nothing", function()
    for _ in Row:query():where("_id", -1):each() do
      error("there is nothing")
    end
  end)

  it("come in one command while they fit one reply", function()
    local rows
    expect_commands(1, function() rows = Row:query():order_by("_id"):exec() end)
    assert.equal(total, #rows)
    assert.equal(total, rows[total]._id)
  end)

  it("come whole when they do not fit one reply", function()
    helper.update("rows", { _id = { ["$lte"] = 1200 } }, { ["$set"] = { text = ("y"):rep(16000) } })
    local rows = Row:query():exec()
    assert.equal(total, #rows)
  end)
end)

describe("bulk writes", function()
  local Item = lumo.model("QueryItem", {
    collection = "items",
    columns = {
      name = "string",
      n = { "integer", column = "amount" },
      tag = "string",
      price = "decimal",
      size = "number",
      meta = { "object", column = "m", columns = { k = "integer", o = { "object", columns = { k = "integer" } } } },
      any = "any",
    },
  })

  before_each(function()
    helper.clear("items")
    helper.insert("items", {
      { name = "a", amount = 1 }, { name = "b", amount = 2 }, { name = "c", amount = 2, tag = "t" },
    })
  end)

  local function amounts()
    return pluck(helper.docs("items", {}, { name = 1 }), "amount")
  end

  it("update changes what matches and returns how many matched", function()
    expect_commands(1, function()
      assert.equal(2, Item:query():where("n", 2):update { n = 5, tag = "new" })
    end)
    assert.same({ 1, 5, 5 }, amounts())
    assert.equal(2, Item:query():where("n", 5):update { n = 5 })
    assert.equal(0, Item:query():where("n", 99):update { n = 6 })
    assert.same({ nil, "new", "new" }, pluck(helper.docs("items", {}, { name = 1 }), "tag"))
  end)

  it("increment adds", function()
    expect_commands(1, function() assert.equal(2, Item:query():where("n", 2):increment("n", 10)) end)
    assert.same({ 1, 12, 12 }, amounts())
    assert.equal(1, Item:query():where("name", "a"):increment("n", -1))
    assert.same({ 0, 12, 12 }, amounts())
    expect_refused({ "E_CAST", "E_ARGUMENT" }, function() Item:query():where("n", 2):increment("n", "1") end)
    expect_refused({ "E_CAST", "E_ARGUMENT" }, function() Item:query():where("n", 2):increment("name", 1) end)
    expect_refused("E_UNDEFINED_COLUMN", function() Item:query():where("n", 2):increment("amount", 1) end)
  end)

  it("increment and decrement take decimals and integers of 64 bits", function()
    local function a() return Item:query():where("name", "a") end
    local function first() return a():first() end
    a():increment("price", lumo.decimal "1.25")
    assert.equal(lumo.decimal "1.25", first().price)
    a():decrement("price", lumo.decimal "0.5")
    assert.equal(lumo.decimal "0.75", first().price)
    a():decrement("price", lumo.decimal "-2.25")
    a():increment("price")
    assert.equal(lumo.decimal "4.00", first().price)
    a():increment("any", lumo.decimal "0.1")
    a():decrement("any", lumo.decimal "0.3")
    assert.equal(lumo.decimal "-0.2", first().any)
    a():update { n = 0 }
    a():increment("n", lumo.int64 "9007199254740995")
    assert.equal(lumo.int64 "9007199254740995", first().n)
    a():decrement("n", lumo.int64 "9007199254740993")
    assert.equal(2, first().n)
    a():decrement("n", -2147483648)
    assert.equal(2147483650, first().n)
    a():increment("price", lumo.int64 "9007199254740993")
    assert.equal(lumo.decimal "9007199254740997.00", first().price)
    a():decrement("size", 0.5)
    assert.equal(-0.5, first().size)
    for _, method in ipairs { "increment", "decrement" } do
      local function refused(column, amount)
        expect_refused({ "E_CAST", "E_ARGUMENT" }, function()
          local query = Item:query():everything()
          query[method](query, column, amount)
        end)
      end
      refused("n", lumo.decimal "1")
      refused("size", lumo.decimal "1.5")
      refused("name", lumo.decimal "1")
      refused("name", lumo.int64 "9007199254740993")
      for _, bad in ipairs { "1", true, {}, lumo.null, lumo.objectid() } do refused("price", bad) end
    end
    expect_refused("E_CAST", function() Item:query():everything():decrement("n", lumo.int64 "-9223372036854775808") end)
    expect_error("E_CAST", function() Item:query():everything():decrement("name", 1) end)
  end)

  it("update takes no path together with one inside of it", function()
    local function refused(values, outer, inner)
      local err = expect_refused("E_ARGUMENT", function() Item:query():everything():update(values) end)
      assert.is_truthy(err.message:find(('"%s" and "%s"'):format(outer, inner), 1, true), err.message)
    end
    refused({ meta = { k = 1 }, ["meta.k"] = 2 }, "meta", "meta.k")
    refused({ n = 1, meta = {}, ["meta.o.k"] = 2 }, "meta", "meta.o.k")
    refused({ ["meta.o"] = { k = 1 }, ["meta.o.k"] = 2, ["meta.k"] = 3 }, "meta.o", "meta.o.k")
    refused({ meta = lumo.null, ["meta.k"] = 2 }, "meta", "meta.k")
    assert.equal(3, Item:query():everything():update { ["meta.k"] = 1, ["meta.o.k"] = 2, n = 7 })
    assert.same({ k = 1, o = { k = 2 } }, helper.doc("items", { name = "a" }).m)
  end)

  it("delete removes what matches and returns how many", function()
    expect_commands(1, function() assert.equal(2, Item:query():where("n", 2):delete()) end)
    assert.same({ 1 }, amounts())
    assert.equal(0, Item:query():where("n", 2):delete())
  end)

  it("need a filter", function()
    local function no_filter(build)
      expect_refused("E_ARGUMENT", function() build():delete() end)
      expect_refused("E_ARGUMENT", function() build():update { n = 0 } end)
      expect_refused("E_ARGUMENT", function() build():increment("n", 1) end)
    end
    no_filter(function() return Item:query() end)
    no_filter(function() return Item:query():order_by("name") end)
    no_filter(function() return Item:query():where(function() end) end)
    assert.same({ 1, 2, 2 }, amounts())
  end)

  it("need a filter that an empty list does not make hold for all", function()
    for _, build in ipairs {
      function(query) query:where_not_in("name", {}) end,
      function(query) query:where("name", "a"):or_where_not_in("name", {}) end,
      function(query) query:where_not("name", "in", {}) end,
      function(query) query:where("name", "a"):or_where_not(function(g) g:where("n", 1):where_in("name", {}) end) end,
      function(query) query:where(function(g) g:where_not_in("name", {}):or_where("n", 1) end) end,
    } do
      local function built()
        local query = Item:query()
        build(query)
        return query
      end
      assert.equal(3, built():count())
      expect_refused("E_ARGUMENT", function() built():delete() end)
      expect_refused("E_ARGUMENT", function() built():update { n = 0 } end)
    end
    assert.equal(0, Item:query():where_in("name", {}):delete())
    assert.equal(0, Item:query():where_not("name", "not_in", {}):delete())
    assert.equal(1, Item:query():where("n", 1):where_not_in("name", {}):update { n = 1 })
    assert.equal(1, Item:query():where_in("name", {}):or_where("n", 1):update { n = 1 })
    assert.same({ 1, 2, 2 }, amounts())
  end)

  it("reach everything when they say so", function()
    assert.equal(3, Item:query():everything():update { tag = "all" })
    assert.equal(3, Item:query():everything():increment("n", 1))
    assert.same({ 2, 3, 3 }, amounts())
    assert.equal(3, Item:query():everything():delete())
    assert.equal(0, #helper.docs("items"))
  end)

  it("refuse values that columns cannot hold, unknown columns and empty changes", function()
    expect_refused("E_CAST", function() Item:query():everything():update { n = "many" } end)
    expect_refused("E_UNDEFINED_COLUMN", function() Item:query():everything():update { amount = 5 } end)
    expect_refused("E_ARGUMENT", function() Item:query():everything():update {} end)
    expect_refused("E_ARGUMENT", function() Item:query():everything():update(nil) end)
    expect_refused("E_ARGUMENT", function() Item:query():everything():update { _id = lumo.objectid() } end)
    assert.same({ 1, 2, 2 }, amounts())
  end)

  it("store null and leave the rest of the document alone", function()
    Item:query():where("name", "c"):update { tag = lumo.null }
    local document = helper.doc("items", { name = "c" })
    assert.equal(lumo.null, document.tag)
    assert.equal(2, document.amount)
  end)
end)
