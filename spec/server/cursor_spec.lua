-- Pages by key: each document of the result stands on one page, whatever the order, in both directions.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local conn = helper.connect("cursors")
teardown(helper.drop)

local expect_refused, expect_error = helper.expect_refused, helper.expect_error
local expect_commands = helper.expect_commands

local Row = lumo.model("CursorRow", {
  collection = "rows",
  columns = {
    n = "integer", text = "string", at = "date", ratio = "number", flag = "boolean", any = "any",
    group = { "string", column = "grp" }, meta = { "object", columns = { rank = "integer" } },
    labels = { "array", of = "string" }, lists = { "array", of = { "object", columns = { n = "integer" } } },
  },
  relations = {
    tags = lumo.belongs_to_many("CursorTag"),
    owned = lumo.has_many("CursorOwned"),
    far = lumo.has_many_through("CursorFar", "CursorOwned"),
    bag = lumo.many_to_many("CursorTag", { pivot_table = "bag", duplicates = true, pivot_columns = { "note" } }),
  },
})
local Tag = lumo.model("CursorTag", { collection = "tags", columns = { name = "string", weight = "integer" } })

local Owned = lumo.model("CursorOwned", { collection = "owned", columns = { cursor_row_id = "objectid", n = "integer" },
  relations = { far = lumo.has_many("CursorFar") } })
local Far = lumo.model("CursorFar", { collection = "far", columns = { cursor_owned_id = "objectid", n = "integer" } })

local function q()
  return Row:query()
end

local function id_of(one)
  return tostring(one._id)
end

local function ids(list)
  local found = {}
  for i, one in ipairs(list) do found[i] = id_of(one) end
  return found
end

--- All pages of make(), forwards; then back to the first one. Gives the ids in the order in which they came.
local function walk(make, per_page)
  local pages, cursor, seen = {}, nil, {}
  repeat
    local page = make():cursor_paginate { per_page = per_page, cursor = cursor }
    pages[#pages + 1] = page
    for _, id in ipairs(ids(page)) do seen[#seen + 1] = id end
    assert.equal(page.next_cursor ~= nil, page.has_more)
    assert.is_true(#page == per_page or not page.has_more)
    cursor = page.next_cursor
    assert.is_true(#pages < 100, "pages without end")
  until not cursor
  assert.is_nil(pages[1].prev_cursor)
  for i = #pages, 2, -1 do
    local back = make():cursor_paginate { per_page = per_page, cursor = pages[i].prev_cursor }
    assert.same(ids(pages[i - 1]), ids(back))
    assert.equal(i > 2, back.prev_cursor ~= nil)
    assert.is_true(back.has_more)
    local again = make():cursor_paginate { per_page = per_page, cursor = back.next_cursor }
    assert.same(ids(pages[i]), ids(again))
  end
  return seen
end

local function expect_whole(make, sorted)
  local expected = ids((sorted or make)():exec())
  for _, per_page in ipairs { 1, 3, 7, 50 } do
    assert.same(expected, walk(make, per_page))
  end
  return expected
end

--- The same order with the key that cursor_paginate adds.
local function by(...)
  local columns = { ... }
  local last = columns[#columns][2] or "asc"
  return function() return q():order_by(columns) end,
    function() return q():order_by(columns):order_by("_id", last) end
end

local VALUES = {
  n = { 1, 2, 2, 3, -5, lumo.null, false },
  text = { "a", "b", "B", "", "ä", lumo.null, false },
  ratio = { 0.5, -1, 0 / 0, 1 / 0, -1 / 0, 2, lumo.null, false },
  flag = { true, lumo.null },
  at = { lumo.datetime(1e9), lumo.datetime(1e9 + 0.001), lumo.datetime(-5), false },
  any = { 1, 2.5, "x", lumo.null, true, lumo.objectid(), lumo.datetime(5), { a = 1 }, { a = 2 }, lumo.binary("x", 0),
    lumo.decimal("3.5"), lumo.uuid(), lumo.timestamp(5, 1), 0 / 0, false,
    lumo.bson.decode(lumo.bson.encode { v = lumo.ordered {} }).v },
}

before_each(function()
  helper.clear("rows", "tags", "cursor_row_cursor_tag", "bag")
  local documents, seed = {}, 7
  for i = 1, 40 do
    local document = { grp = i % 3 == 0 and "x" or "y", meta = { rank = i % 4 } }
    for field, values in pairs(VALUES) do
      seed = (seed * 1103515245 + 12345) % 2 ^ 31
      local value = values[math.floor(seed / 65536) % #values + 1]
      if value ~= false then document[field] = value end
    end
    if i % 5 == 0 then document.meta = nil end
    documents[i] = document
  end
  helper.insert("rows", documents)
end)

describe("cursor_paginate", function()
  it("without an order goes by the primary key", function()
    expect_whole(q, function() return q():order_by("_id") end)
    expect_whole(function() return q():order_by("id", "desc") end)
  end)

  for field in pairs(VALUES) do
    it("orders by " .. field .. " both ways, null and missing and other types included", function()
      expect_whole(by({ field, "asc" }))
      expect_whole(by({ field, "desc" }))
    end)
  end

  it("orders by several columns, each in its own direction", function()
    expect_whole(by({ "group", "desc" }, { "n", "asc" }))
    expect_whole(by({ "flag" }, { "ratio", "desc" }, { "text" }))
    expect_whole(by({ "any", "desc" }, { "meta.rank" }))
    expect_whole((by({ "n" }, { "_id", "desc" }, { "text" })))
    expect_whole(by({ "meta", "desc" }, { "text", "desc" }))
  end)

  it("stays inside of the filter", function()
    local function make() return q():where("group", "x"):or_where("n", ">", 1):order_by("n", "desc") end
    local expected = expect_whole(make, function() return make():order_by("_id", "desc") end)
    assert.is_true(#expected > 10 and #expected < 40)
  end)

  it("compares text as the query's collation does", function()
    local rules = { locale = "de", strength = 1 }
    expect_whole(function() return q():collation(rules):order_by("text") end,
      function() return q():collation(rules):order_by("text"):order_by("_id") end)
  end)

  it("sends one command for each page", function()
    local cursor
    expect_commands(1, function() cursor = q():order_by("n"):cursor_paginate { per_page = 5 }.next_cursor end)
    expect_commands(1, function() q():order_by("n"):cursor_paginate { per_page = 5, cursor = cursor } end)
  end)

  it("reads a page in the middle by the index of its order, and no more than the page", function()
    conn:command(lumo.ordered { { "createIndexes", "rows" }, { "indexes",
      lumo.array { { key = lumo.ordered { { "grp", 1 }, { "n", 1 }, { "_id", 1 } }, name = "order" } } } })
    local function make() return q():order_by { { "group" }, { "n" } } end
    local cursor = make():cursor_paginate { per_page = 20 }.next_cursor
    conn:command { profile = 0 }
    pcall(conn.command, conn, { drop = "system.profile" })
    conn:command { profile = 2 }
    make():hint("order"):cursor_paginate { per_page = 5, cursor = cursor }
    conn:command { profile = 0 }
    local entry = helper.docs("system.profile", { op = "query" })[1]
    conn:command(lumo.ordered { { "dropIndexes", "rows" }, { "index", "order" } })
    assert.is_nil(entry.hasSortStage)
    assert.is_true(entry.docsExamined <= 8, tostring(entry.docsExamined))
  end)

  it("pages stay whole while documents come and go", function()
    local function read(cursor) return q():order_by("n", "desc"):cursor_paginate { per_page = 10, cursor = cursor } end
    local all = ids(q():order_by("n", "desc"):order_by("_id", "desc"):exec())
    local first = read()
    local new = Row:create { n = 100 }
    first[10]:delete() -- the place that the cursor names
    first[4]:delete()
    local second = read(first.next_cursor)
    assert.equal(all[11], id_of(second[1]))
    assert.equal(all[20], id_of(second[10]))
    local back = ids(read(second.prev_cursor))
    assert.equal(9, #back)
    assert.equal(id_of(new), back[1])
    assert.equal(all[9], back[9])
  end)

  it("an empty page still knows the way back", function()
    local first = q():order_by("n"):cursor_paginate { per_page = 39 }
    local second = q():order_by("n"):cursor_paginate { per_page = 39, cursor = first.next_cursor }
    assert.equal(1, #second)
    second[1]:delete()
    local empty = q():order_by("n"):cursor_paginate { per_page = 39, cursor = first.next_cursor }
    assert.is_true(empty.is_empty)
    assert.is_false(empty.has_more)
    local back = q():order_by("n"):cursor_paginate { per_page = 39, cursor = empty.prev_cursor }
    assert.same(ids(first), ids(back))
    Row:query():everything():delete()
    local nothing = q():order_by("n"):cursor_paginate { per_page = 5, cursor = second.prev_cursor }
    assert.is_true(nothing.is_empty)
    assert.is_nil(nothing.prev_cursor)
    Row:create { n = 1000 }
    assert.equal(1, #q():order_by("n"):cursor_paginate { per_page = 5, cursor = nothing.next_cursor })
    assert.is_true(Row:query():where("n", 1):cursor_paginate().is_empty)
  end)
end)

describe("a page of cursor_paginate", function()
  it("is a list with what a client needs", function()
    local page = q():order_by("n", "desc"):cursorPaginate { perPage = 3 }
    assert.equal(3, #page)
    assert.equal(3, page.per_page)
    assert.equal(page.nextCursor, page.next_cursor)
    assert.is_true(page.hasMore)
    assert.is_false(page.isEmpty)
    assert.matches("^[%w_%-]+$", page.next_cursor)
    assert.is_nil(page.no_such)
    page:base_url("/rows"):query_string { sort = "n", cursor = "old" }
    assert.equal("/rows?sort=n&cursor=" .. page.next_cursor, page:get_next_page_url())
    assert.is_nil(page:get_previous_page_url())
    local meta = page:getMeta()
    assert.same({ per_page = 3, has_more = true, next_cursor = page.next_cursor,
      next_page_url = page:get_next_page_url() }, meta)
    local serialized = page:serialize { fields = { "n" } }
    assert.same(meta, serialized.meta)
    assert.equal(3, #serialized.data)
    assert.equal(page[3].n, serialized.data[3].n)
    assert.equal(20, #q():cursor_paginate())
  end)

  it("has records with their preloads, and only of the page", function()
    for _, row in ipairs(Row:all()) do row:related("tags"):create { name = "t" } end
    local page
    expect_commands(3, function() page = q():preload("tags"):cursor_paginate { per_page = 2 } end)
    assert.equal("t", page[2].tags[1].name)
  end)

  it("has the keys of the order, whatever is selected", function()
    local function make() return q():select("text"):order_by("n"):order_by("meta.rank") end
    expect_whole(make, function() return make():order_by("_id") end)
  end)

  it("of a lean query has plain tables", function()
    local first = q():lean():order_by("group"):cursor_paginate { per_page = 4 }
    assert.is_nil(getmetatable(first[1]))
    assert.equal("x", first[1].grp)
    local second = q():lean():order_by("group"):cursor_paginate { per_page = 4, cursor = first.next_cursor }
    assert.is_not.equal(first[4]._id, second[1]._id)
    assert.equal("x", second:serialize().data[1].grp)
  end)

  it("fires the hooks of pages and of fetches", function()
    local fired = {}
    local Hooked = lumo.model("CursorHooked", { collection = "rows", columns = { n = "integer", grp = "string" } })
    Hooked:before("paginate", function(_, query)
      fired[#fired + 1] = "before paginate"
      query:where("grp", "x")
    end)
    Hooked:before("fetch", function(query)
      fired[#fired + 1] = "before fetch"
      query:where_not_null("n")
    end)
    Hooked:after("fetch", function(list) fired[#fired + 1] = "after fetch " .. #list end)
    Hooked:after("paginate", function(page) fired[#fired + 1] = "after paginate " .. tostring(page.has_more) end)
    local page = Hooked:query():cursor_paginate { per_page = 2 }
    assert.same({ "before paginate", "before fetch", "after fetch 2", "after paginate true" }, fired)
    assert.equal("x", page[1].grp)
    assert.equal(2, #Hooked:query():cursor_paginate { per_page = 2, cursor = page.next_cursor })
  end)
end)

describe("a relation's cursor_paginate", function()
  it("pages the related records of one parent", function()
    local rows = Row:query():limit(2):exec()
    for i, row in ipairs(rows) do
      local list = {}
      for k = 1, 9 do list[k] = { name = ("t%d"):format(k % 4), weight = k * i } end
      row:related("tags"):create_many(list)
    end
    local function make() return rows[1]:related("tags"):query():order_by("name", "desc") end
    local expected = expect_whole(make, function() return make():order_by("_id", "desc") end)
    assert.equal(9, #expected)
    local page = make():cursor_paginate { per_page = 4 }
    assert.equal(tostring(rows[1]._id), tostring(page[1].extras.pivot_cursor_row_id))
    expect_refused("E_ARGUMENT", function()
      rows[2]:related("tags"):query():order_by("name", "desc"):cursor_paginate { cursor = page.next_cursor }
    end)
    expect_refused("E_ARGUMENT", function()
      Tag:query():order_by("name", "desc"):cursor_paginate { cursor = page.next_cursor }
    end)
    assert.equal(5, #rows[1]:related("tags"):query():where("weight", ">", 4):cursor_paginate())
    assert.equal(9, #rows[1].tags:cursor_paginate())
    local pivots = rows[1]:related("tags"):pivot_query():cursor_paginate { per_page = 6 }
    assert.equal(3, #rows[1]:related("tags"):pivot_query():cursor_paginate { cursor = pivots.next_cursor })
  end)
end)

describe("cursor_paginate of other relations", function()
  it("pages what one parent has", function()
    helper.clear("owned", "far")
    local rows = Row:query():limit(2):exec()
    for i = 1, 7 do
      local one = Owned:create { cursor_row_id = rows[1]._id, n = i % 3 }
      Far:create { cursor_owned_id = one._id, n = i % 2 }
      Owned:create { cursor_row_id = rows[2]._id, n = i }
    end
    for _, name in ipairs { "owned", "far" } do
      local function make() return rows[1]:related(name):query():order_by("n", "desc") end
      assert.equal(7, #expect_whole(make, function() return make():order_by("_id", "desc") end))
      local cursor = rows[1]:related(name):cursor_paginate { per_page = 2 }.next_cursor
      assert.equal(5, #rows[1]:related(name):cursor_paginate { cursor = cursor })
      expect_refused("E_ARGUMENT", function() rows[2]:related(name):cursor_paginate { cursor = cursor } end)
    end
  end)
end)

describe("a relation's cursor_paginate by columns of the pivot", function()
  local row

  local function pluck(page)
    local list = {}
    for i, tag in ipairs(page) do list[i] = tag.weight end
    return list
  end

  --- The weights of all pages, forwards and back.
  local function expect_weights(expected, make)
    for _, per_page in ipairs { 1, 2, 4, 20 } do
      local pages, cursor, seen = {}, nil, {}
      repeat
        local page = make():cursor_paginate { per_page = per_page, cursor = cursor }
        pages[#pages + 1] = page
        for _, tag in ipairs(page) do seen[#seen + 1] = tag.weight end
        cursor = page.next_cursor
      until not cursor or #pages > 50
      assert.same(expected, seen)
      for i = #pages, 2, -1 do
        local back = make():cursor_paginate { per_page = per_page, cursor = pages[i].prev_cursor }
        assert.same(pluck(pages[i - 1]), pluck(back))
      end
    end
  end

  before_each(function()
    row = Row:first()
    local list, attributes = {}, {}
    for i = 1, 8 do
      list[i] = { name = i % 2 == 0 and "even" or "odd", weight = i }
      attributes[i] = { rank = i % 3, note = i ~= 5 and ("n%d"):format(9 - i) or nil }
    end
    row:related("tags"):create_many(list, attributes)
    row:related("bag"):create_many(list, attributes)
  end)

  it("orders by them, alone and among others, null included", function()
    expect_weights({ 3, 6, 1, 4, 7, 2, 5, 8 }, function()
      return row:related("tags"):query():order_by_pivot("rank")
    end)
    expect_weights({ 8, 5, 2, 7, 4, 1, 6, 3 }, function()
      return row:related("tags"):query():order_by_pivot("rank", "desc"):order_by("weight", "desc")
    end)
    expect_weights({ 5, 7, 3, 1, 8, 6, 4, 2 }, function()
      return row:related("tags"):query():pivot_columns { "rank" }:order_by("name", "desc"):order_by_pivot("note")
    end)
  end)

  it("with conditions on either side, an or across them included", function()
    expect_weights({ 3, 1, 4, 7, 5 }, function()
      return row:related("tags"):query():where("name", "odd"):or_where_pivot("note", "n5"):order_by_pivot("rank")
    end)
    expect_weights({ 3, 6, 1, 4, 7 }, function()
      return row:related("tags"):query():where("weight", "<", 8):where_pivot("rank", "<", 2):order_by_pivot("rank")
    end)
  end)

  it("knows each row of a record that is there twice", function()
    local eight = row:related("bag"):query():where("weight", 8):first()
    row:related("bag"):attach { [eight._id] = { rank = 0, note = "again" } }
    expect_weights({ 8, 8, 7, 6, 5, 4, 3, 2, 1 }, function()
      return row:related("bag"):query():order_by("weight", "desc")
    end)
    expect_weights({ 3, 6, 8, 1, 4, 7, 2, 5, 8 }, function()
      return row:related("bag"):query():order_by_pivot("rank"):order_by("weight")
    end)
  end)

  it("has cursors of its own", function()
    local cursor = row:related("tags"):query():where_pivot("rank", 1):cursor_paginate { per_page = 1 }.next_cursor
    for _, other in ipairs {
      row:related("tags"):query():where_pivot("rank", 2), row:related("bag"):query():where_pivot("rank", 1),
      row:related("tags"):query():where_pivot("rank", 1):order_by_pivot("rank"),
    } do
      expect_refused("E_ARGUMENT", function() other:cursor_paginate { cursor = cursor } end)
    end
  end)
end)

describe("a cursor", function()
  local function cursor_of(query) return query:cursor_paginate { per_page = 3 }.next_cursor end

  it("is refused by every other query", function()
    local cursor = cursor_of(q():where("group", "y"):order_by("n"))
    for _, other in ipairs {
      q():order_by("n"), q():where("group", "x"):order_by("n"), q():where("group", "y"),
      q():where("group", "y"):order_by("n", "desc"), q():where("group", "y"):order_by("n"):order_by("text"),
      q():where("group", "y"):where("n", 1):order_by("n"), q():where("group", "y"):order_by("text"),
      q():where("group", "y"):order_by("n"):collation { locale = "de" },
      Tag:query():order_by("weight"),
    } do
      local err = expect_refused("E_ARGUMENT", function() other:cursor_paginate { cursor = cursor } end)
      assert.matches("cursor", err.message)
    end
    q():where("group", "y"):order_by("n"):limit(1):clone()
    assert.equal(2, #q():where("group", "y"):order_by("n"):select("n"):comment("x"):max_time_ms(9999)
      :cursor_paginate { per_page = 2, cursor = cursor })
  end)

  it("is refused when it was changed or cut", function()
    local cursor = cursor_of(q():order_by("n"))
    local function refused(text)
      expect_refused("E_ARGUMENT", function() q():order_by("n"):cursor_paginate { cursor = text } end)
    end
    for i = 1, #cursor do
      local other = cursor:sub(i, i) == "A" and "B" or "A"
      if i < #cursor then refused(cursor:sub(1, i - 1) .. other .. cursor:sub(i + 1)) end
      refused(cursor:sub(1, i - 1))
    end
    for _, text in ipairs { "", "x", "=", "a b", "\0", cursor .. "A", cursor .. "=", ("A"):rep(100), "\255\255" } do
      refused(text)
    end
    for _, bad in ipairs { 5, true, {}, lumo.null, function() end } do refused(bad) end
  end)

  it("holds values, never operators", function()
    helper.clear("rows")
    helper.insert("rows", { { any = { ["$gt"] = "" } }, { any = { ["$gt"] = "a" } }, { any = { ["$gt"] = "b" } },
      { any = "$n" }, { any = "$$ROOT" }, { any = { ["$expr"] = true } } })
    expect_whole(by({ "any" }))
    expect_whole(by({ "any", "desc" }))
  end)
end)

describe("cursor_paginate refuses", function()
  it("limits, offsets and sizes that are none", function()
    expect_refused("E_ARGUMENT", function() q():limit(5):cursor_paginate() end)
    expect_refused("E_ARGUMENT", function() q():offset(5):cursor_paginate() end)
    for _, bad in ipairs { 0, -1, 1.5, "3", {}, true, 2 ^ 31, 0 / 0 } do
      expect_refused("E_ARGUMENT", function() q():cursor_paginate { per_page = bad } end)
    end
    for _, bad in ipairs { 5, "x", true } do
      expect_refused("E_ARGUMENT", function() q():cursor_paginate(bad) end)
    end
    expect_refused("E_ARGUMENT", function() q():cursor_paginate { page = 1 } end)
    expect_refused("E_ARGUMENT", function() q():where(function(g) g:where("n", 1):cursor_paginate() end) end)
  end)

  it("orders by arrays", function()
    expect_refused("E_UNSUPPORTED", function() q():order_by("labels"):cursor_paginate() end)
    expect_refused("E_UNSUPPORTED", function() q():order_by("lists.n"):cursor_paginate() end)
    helper.clear("rows")
    helper.insert("rows", { { any = lumo.array { 1, 2 } }, { any = lumo.array { 3 } } })
    expect_error("E_UNSUPPORTED", function() q():order_by("any"):cursor_paginate { per_page = 1 } end)
  end)
end)
