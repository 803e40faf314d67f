-- What a query answers beside lists of records, how it is built in steps, and what goes along with its command.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("query_methods")
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused
local expect_commands = helper.expect_commands
local pluck = helper.pluck

local Item = lumo.model("MethodItem", {
  collection = "items",
  columns = {
    name = "string", group = { "string", column = "grp" }, n = "integer", price = "number", at = "date",
    labels = { "array", of = "string" }, other = "integer", meta = "object",
  },
})

local function q()
  return Item:query()
end

local function names(query)
  local found = pluck(query:exec(), "name")
  table.sort(found)
  return table.concat(found, " ")
end

before_each(function()
  helper.clear("items")
  helper.insert("items", {
    { name = "a", grp = "x", n = 1, price = 1.5, other = 1, at = lumo.datetime("2020-01-01T00:00:00Z"),
      labels = { "red", "big" }, meta = { size = 3 } },
    { name = "b", grp = "x", n = 2, price = 2.5, other = 1, at = lumo.datetime("2021-01-01T00:00:00Z"),
      labels = { "red" } },
    { name = "c", grp = "y", n = 3, other = 5, labels = lumo.array {} },
    { name = "d", grp = "y", n = 4, price = lumo.null },
  })
end)

describe("aggregates", function()
  it("sum, avg, min and max, with one command each", function()
    expect_commands(1, function() assert.equal(10, q():sum("n")) end)
    expect_commands(1, function() assert.equal(2.5, q():avg("n")) end)
    expect_commands(1, function() assert.equal(1, q():min("n")) end)
    expect_commands(1, function() assert.equal(4, q():max("n")) end)
  end)

  it("are of what matches, under attribute names", function()
    assert.equal(3, q():where("group", "x"):sum("n"))
    assert.equal(4, q():sum("price"))
    assert.equal(2, q():avg("price"))
    assert.equal("x", q():min("group"))
    assert.equal("d", q():max("name"))
    assert.equal(3, q():max("meta.size"))
    assert.equal(lumo.datetime("2020-01-01T00:00:00Z"), q():min("at"))
    assert.equal(lumo.datetime("2021-01-01T00:00:00Z"), q():max("at"))
  end)

  it("of nothing are 0 and nil", function()
    local none = q():where("n", 99)
    assert.equal(0, none:sum("n"))
    assert.is_nil(none:avg("n"))
    assert.is_nil(none:min("n"))
    assert.is_nil(none:max("n"))
    assert.equal(0, q():where("name", "c"):sum("price"))
    assert.is_nil(q():where("name", "c"):avg("price"))
  end)

  it("respect order, limit and offset", function()
    assert.equal(7, q():order_by("n", "desc"):limit(2):sum("n"))
    assert.equal(3, q():order_by("n"):offset(2):min("n"))
    assert.equal(2, q():order_by("n"):limit(2):count())
  end)

  it("refuse unknown columns and missing ones", function()
    for _, method in ipairs { "sum", "avg", "min", "max" } do
      expect_refused("E_UNDEFINED_COLUMN", function() local one = q() one[method](one, "grp") end)
      expect_refused("E_ARGUMENT", function() local one = q() one[method](one) end)
      expect_refused("E_ARGUMENT", function() local one = q() one[method](one, 5) end)
    end
  end)
end)

describe("pluck", function()
  it("gives the values of one column, in the query's order", function()
    expect_commands(1, function()
      assert.same({ "d", "c", "b", "a" }, q():order_by("n", "desc"):pluck("name"))
    end)
    assert.same({ "x", "x" }, q():where("group", "x"):pluck("group"))
    assert.same({ 3, 4 }, q():order_by("n"):offset(2):pluck("n"))
    assert.same({}, q():where("n", 99):pluck("n"))
  end)

  it("has lumo.null where there is none, so that places stay", function()
    local prices = q():order_by("n"):pluck("price")
    assert.same({ 1.5, 2.5, lumo.null, lumo.null }, prices)
    assert.equal(3, q():order_by("n"):pluck("meta.size")[1])
  end)

  it("gives ids, dates and tables", function()
    local ids = q():order_by("n"):pluck("_id")
    assert.equal(4, #ids)
    assert.equal("a", Item:find(ids[1]).name)
    assert.equal(lumo.datetime("2020-01-01T00:00:00Z"), q():order_by("n"):pluck("at")[1])
    assert.same({ "red", "big" }, q():order_by("n"):pluck("labels")[1])
  end)

  it("leaves the query as it was", function()
    local query = q():where("n", 1)
    query:pluck("name")
    assert.equal(1, query:first().n)
  end)

  it("refuses unknown columns", function()
    expect_refused("E_UNDEFINED_COLUMN", function() q():pluck("grp") end)
    expect_refused("E_ARGUMENT", function() q():pluck() end)
  end)
end)

describe("find_one_and_update", function()
  it("changes the first that matches and gives it as it is afterwards", function()
    local found
    expect_commands(1, function()
      found = q():where("group", "y"):order_by("n", "desc"):find_one_and_update { n = 40, group = "z" }
    end)
    assert.equal("d", found.name)
    assert.equal(40, found.n)
    assert.equal("z", found.group)
    assert.is_true(found.is_persisted)
    assert.is_false(found.is_dirty)
    assert.equal(Item, found.model)
    assert.equal("z", helper.doc("items", { name = "d" }).grp)
    assert.equal("y", helper.doc("items", { name = "c" }).grp)
    found.n = 41
    found:save()
    assert.equal(41, helper.doc("items", { name = "d" }).n)
  end)

  it("gives nil when nothing matches", function()
    assert.is_nil(q():where("n", 99):find_one_and_update { n = 1 })
    assert.is_nil(q():where("n", 99):findOneAndUpdate { n = 1 })
  end)

  it("gives every document to one taker only", function()
    local taken = {}
    while true do
      local one = q():where("other", 1):order_by("n"):find_one_and_update { other = 2 }
      if not one then break end
      taken[#taken + 1] = one.name
    end
    assert.same({ "a", "b" }, taken)
  end)

  it("refuses bad changes, and sends nothing", function()
    expect_refused("E_ARGUMENT", function() q():find_one_and_update() end)
    expect_refused("E_ARGUMENT", function() q():find_one_and_update {} end)
    expect_refused("E_ARGUMENT", function() q():find_one_and_update("x") end)
    expect_refused("E_CAST", function() q():find_one_and_update { n = "x" } end)
    expect_refused("E_CAST", function() q():find_one_and_update { n = { ["$gt"] = 1 } } end)
    expect_refused("E_UNDEFINED_COLUMN", function() q():find_one_and_update { grp = "x" } end)
    expect_refused("E_ARGUMENT", function() q():find_one_and_update { _id = lumo.objectid() } end)
    expect_refused("E_ARGUMENT", function() q():offset(1):find_one_and_update { n = 1 } end)
    expect_refused("E_ARGUMENT", function() q():lean():find_one_and_update { n = 1 } end)
    local err = expect_refused("E_ARGUMENT", function()
      q():find_one_and_update { meta = { lang = "en" }, ["meta.lang"] = "de" }
    end)
    assert.matches('"meta" and "meta.lang"', err.message, 1, true)
  end)
end)

describe("find_one_and_delete", function()
  it("removes the first that matches and gives it as it was", function()
    local found
    expect_commands(1, function() found = q():order_by("n", "desc"):find_one_and_delete() end)
    assert.equal("d", found.name)
    assert.is_true(found.is_deleted)
    assert.is_false(found.is_persisted)
    assert.equal("a b c", names(q()))
    expect_refused("E_MODEL_DELETED", function() found:save() end)
    assert.is_nil(q():where("n", 99):findOneAndDelete())
    expect_refused("E_ARGUMENT", function() q():lean():find_one_and_delete() end)
  end)
end)

describe("lean", function()
  it("gives plain tables under stored names", function()
    local rows = q():order_by("n"):lean():exec()
    assert.equal("table", type(rows[1]))
    assert.equal("x", rows[1].grp)
    assert.is_nil(rows[1].group)
    assert.equal(lumo.null, rows[4].price)
    assert.equal("a", q():order_by("n"):lean():first().name)
    assert.equal("a", q():order_by("n"):lean():first_or_fail().name)
    assert.is_nil(q():where("n", 99):lean():first())
    expect_error("E_ROW_NOT_FOUND", function() q():where("n", 99):lean():first_or_fail() end)
    local seen = {}
    for row in q():order_by("n"):lean():each() do seen[#seen + 1] = row.grp end
    assert.same({ "x", "x", "y", "y" }, seen)
  end)

  it("still filters by attribute names", function()
    assert.equal(2, #q():where("group", "x"):lean():exec())
    assert.equal(2, q():where("group", "x"):lean():count())
    assert.is_true(q():where("group", "x"):lean():exists())
    assert.same({ "x", "x" }, q():where("group", "x"):lean():pluck("group"))
  end)
end)

describe("explain", function()
  it("gives the server's plan of the find", function()
    local plan = q():where("group", "x"):explain()
    assert.equal("table", type(plan.queryPlanner))
    assert.is_truthy(plan.queryPlanner.namespace:find("items", 1, true))
    assert.is_nil(plan.executionStats)
    local stats = q():where("group", "x"):explain("executionStats")
    assert.equal(2, stats.executionStats.nReturned)
    expect_refused("E_ARGUMENT", function() q():explain("everything") end)
    expect_refused("E_ARGUMENT", function() q():explain(5) end)
  end)
end)

describe("what goes along with the command", function()
  it("hint: an index by name or key", function()
    helper.create_index("items", { { "n", 1 } }, { name = "by_n" })
    local function index_of(query)
      local stage = query:explain().queryPlanner.winningPlan
      while stage.inputStage do stage = stage.inputStage end
      return stage.indexName or stage.stage
    end
    assert.equal("by_n", index_of(q():hint("by_n")))
    assert.equal("by_n", index_of(q():hint(lumo.ordered { { "n", 1 } })))
    assert.equal("COLLSCAN", index_of(q():where("n", ">", 0):hint(lumo.ordered { { "$natural", 1 } })))
    assert.equal("a b c d", names(q():hint("by_n")))
    assert.equal(4, q():hint("by_n"):count())
    expect_error("E_SERVER", function() q():hint("nonsense"):exec() end)
    expect_refused("E_ARGUMENT", function() q():hint() end)
    for _, empty in ipairs { "", {}, lumo.ordered {} } do
      expect_refused("E_ARGUMENT", function() q():collation(empty) end)
      expect_refused("E_ARGUMENT", function() q():hint(empty) end)
    end
    expect_refused("E_ARGUMENT", function() q():hint(5) end)
  end)

  it("collation: how text is compared", function()
    local german = { locale = "de", strength = 1 }
    assert.equal("", names(q():where("name", "A")))
    assert.equal("a", names(q():where("name", "A"):collation(german)))
    assert.equal(1, q():where("name", "A"):collation(german):count())
    assert.equal(1, q():where("name", "A"):collation(german):sum("n"))
    assert.equal(9, q():where("name", "A"):collation(german):find_one_and_update({ n = 9 }).n)
    expect_refused("E_ARGUMENT", function() q():collation("de") end)
  end)

  it("max_time_ms: E_TIMEOUT when it runs out", function()
    assert.equal("a b c d", names(q():max_time_ms(10000)))
    -- Slow commands would do, but a busy machine has its own idea of their time.
    local function always_out(mode)
      helper.conn:command(lumo.ordered { { "configureFailPoint", "maxTimeAlwaysTimeOut" }, { "mode", mode } },
        { database = "admin" })
    end
    local slow = q():max_time_ms(5000)
    always_out("alwaysOn")
    local ok, err = pcall(function()
      expect_error("E_TIMEOUT", function() slow:exec() end)
      expect_error("E_TIMEOUT", function() slow:count() end)
    end)
    always_out("off")
    assert.is_true(ok, tostring(err))
    assert.equal(4, q():maxTimeMs(10000):count())
    for _, bad in ipairs { 0, -1, 1.5, "1", 2 ^ 40 } do
      expect_refused("E_ARGUMENT", function() q():max_time_ms(bad) end)
    end
    expect_refused("E_ARGUMENT", function() q():max_time_ms() end)
  end)

  it("comment: is sent with the command, the last one counts", function()
    assert.is_truthy(tostring(q():comment("from the spec")):find('"comment":"from the spec"', 1, true))
    local twice = tostring(q():comment("one"):comment("two"))
    assert.is_nil(twice:find("one", 1, true))
    assert.is_truthy(twice:find("two", 1, true))
    assert.equal("a b c d", names(q():comment("x")))
    expect_refused("E_ARGUMENT", function() q():comment(5) end)
  end)
end)

describe("building in steps", function()
  it("when and unless", function()
    local function only_x(query) query:where("group", "x") end
    local function only_y(query) query:where("group", "y") end
    assert.equal("a b", names(q():when(true, only_x)))
    assert.equal("a b", names(q():when(0, only_x, only_y)))
    assert.equal("a b c d", names(q():when(false, only_x)))
    assert.equal("c d", names(q():when(nil, only_x, only_y)))
    assert.equal("a b", names(q():unless(nil, only_x)))
    assert.equal("c d", names(q():unless(true, only_x, only_y)))
    expect_refused("E_ARGUMENT", function() q():when(true) end)
    expect_refused("E_ARGUMENT", function() q():when(false, only_x, 5) end)
    expect_refused("E_ARGUMENT", function() q():unless(true, "x") end)
  end)

  it("match runs the first pair whose condition holds", function()
    local function by(name) return function(query) query:where("name", name) end end
    assert.equal("b", names(q():match({ false, by "a" }, { true, by "b" }, { true, by "c" })))
    assert.equal("c", names(q():match({ nil, by "a" }, by "c")))
    assert.equal("a b c d", names(q():match({ false, by "a" })))
    assert.equal("a b c d", names(q():match()))
    expect_refused("E_ARGUMENT", function() q():match({ true, "x" }) end)
    expect_refused("E_ARGUMENT", function() q():match("x") end)
    expect_refused("E_ARGUMENT", function() q():match(nil, by "a") end)
  end)

  it("apply runs scopes by name, inherited ones too, and functions", function()
    local Base = lumo.model("MethodBase", { collection = "items", columns = { name = "string", n = "integer" } })
    assert.equal(Base, Base:scope("above", function(query, n) query:where("n", ">", n or 0) end))
    local Child = lumo.model("MethodChild", { collection = "items", extends = Base })
    Child:scope("below", function(query, n) query:where("n", "<", n) end)
    assert.equal("c d", names(Base:query():apply("above", 2)))
    assert.equal("c", names(Child:query():apply("above", 2):apply("below", 4)))
    assert.equal("a", names(Base:query():apply(function(query, n) query:where("n", n) end, 1)))
    expect_refused("E_ARGUMENT", function() Base:query():apply("below", 4) end)
    expect_refused("E_ARGUMENT", function() Base:query():apply() end)
    expect_refused("E_ARGUMENT", function() Base:scope("x") end)
    expect_refused("E_ARGUMENT", function() Base:scope(5, print) end)
  end)

  it("clone goes its own way", function()
    local one = q():where("group", "x")
    local two = one:clone():where("n", 1):order_by("n"):limit(1):lean()
    one:where("n", 2)
    assert.equal("b", names(one))
    assert.equal("a", two:exec()[1].name)
    assert.equal("userdata", type(one:exec()[1]))
    local three = one:clone()
    three:hint("nonsense")
    assert.equal("b", names(one))
    assert.equal("b", names(one:clone():clone()))
  end)

  it("a group whose function raises leaves the query as it was", function()
    local query = q():where("group", "x")
    local ok, err = pcall(query.where, query, function(group)
      group:where("n", 1)
      error("no", 0)
    end)
    assert.is_false(ok)
    assert.equal("no", err)
    assert.equal("a b", names(query))
    expect_refused("E_CAST", function() query:where("n", "x") end)
    assert.equal("a b", names(query))
  end)

  it("debug shows the command and goes on", function()
    local output = helper.run([[
      local lumo = require "lumo"
      lumo.connect("mongodb://127.0.0.1:1/x")
      local Item = lumo.model("Item", { collection = "items", columns = { n = "integer" } })
      print(tostring(Item:query():where("n", 5):debug():limit(2)))
    ]])
    local first, second = output:match("^([^\n]*)\n([^\n]*)\n")
    for _, line in ipairs { first, second } do
      assert.is_truthy(line:find('"find":"items"', 1, true), line)
      assert.is_truthy(line:find('{"n":{"$eq":5}}', 1, true), line)
    end
    assert.is_nil(first:find("limit", 1, true))
    assert.is_truthy(second:find('"limit":2', 1, true))
  end)
end)

describe("more filters", function()
  before_each(function()
    helper.clear("items")
    helper.insert("items", {
      { name = "Anna", grp = "50% off", n = 1, other = 1, labels = { "red", "big" } },
      { name = "anton", grp = "a_b", n = 2, other = 1, labels = { "red" } },
      { name = "Bert", grp = "a.b", n = 3, other = 5, labels = lumo.array {} },
      { name = "line\nbreak", grp = "[x]" },
    })
  end)

  it("like: % is any text, _ any character, the rest stands for itself", function()
    assert.equal("Anna", names(q():where_like("name", "An%")))
    assert.equal("Anna anton", names(q():where_like("name", "_n%")))
    assert.equal("Anna", names(q():where_like("name", "Anna")))
    assert.equal("", names(q():where_like("name", "Ann")))
    assert.equal("Bert", names(q():where_like("group", "a.b")))
    assert.equal("Bert anton", names(q():where_like("group", "a_b")))
    assert.equal("anton", names(q():where_like("group", "a\\_b")))
    assert.equal("Anna", names(q():where_like("group", "50\\%%")))
    assert.equal("line\nbreak", names(q():where_like("group", "[x]")))
    assert.equal("line\nbreak", names(q():where_like("name", "line%k")))
    assert.equal("Anna", names(q():where("name", "like", "An%")))
  end)

  it("like: a newline at the end is a character like any other", function()
    helper.insert("items", { { name = "Ann\n" } })
    assert.equal("", names(q():where_like("name", "Ann")))
    assert.equal("", names(q():where_ilike("name", "an_")))
    assert.equal("Ann\n Anna", names(q():where_like("name", "Ann_")))
  end)

  it("ilike does not tell capitals", function()
    assert.equal("Anna anton", names(q():where_ilike("name", "AN%")))
    assert.equal("Anna anton", names(q():where("name", "ilike", "an%")))
    assert.equal("Anna Bert", names(q():where("n", 3):or_where_ilike("name", "anna")))
    expect_refused({ "E_ARGUMENT", "E_CAST" }, function() q():where_like("name", 5) end)
    expect_refused("E_ARGUMENT", function() q():where_like("name") end)
    expect_refused("E_UNDEFINED_COLUMN", function() q():where_like("nam", "x") end)
  end)

  it("regex takes a lumo.regex or a pattern", function()
    assert.equal("Anna anton", names(q():where_regex("name", lumo.regex("^an", "i"))))
    assert.equal("anton", names(q():where_regex("name", "^an")))
    assert.equal("anton", names(q():where("name", "regex", "^an")))
    expect_refused("E_ARGUMENT", function() q():where_regex("name", 5) end)
    expect_refused("E_ARGUMENT", function() q():where_regex("name") end)
  end)

  it("regex takes flags for a pattern", function()
    assert.equal("Anna anton", names(q():where_regex("name", "^an", "i")))
    assert.equal("Anna anton", names(q():where("name", "Anna"):orWhereRegex("name", "^AN .* N$", "xi")))
    assert.equal("line\nbreak", names(q():where_regex("name", "line.^break", "ms")))
    assert.equal("anton", names(q():where_regex("name", "^an", ""):where_regex("name", "n$", nil)))
    assert.equal("Anna", names(q():where_elem_match("labels", function(label) label:where_regex("^BIG", "i") end)))
    for _, bad in ipairs { "g", "I", "ii", "i\0", "i m", 5, {}, true } do
      expect_refused("E_ARGUMENT", function() q():where_regex("name", "^an", bad) end)
    end
    expect_refused("E_ARGUMENT", function() q():where_regex("name", lumo.regex("^an", "i"), "i") end)
  end)

  it("refuse arguments that nobody would read", function()
    for _, fn in ipairs {
      function() q():where("n", ">", 1, 2) end,
      function() q():where_null("n", false) end,
      function() q():or_where_not_null("n", true) end,
      function() q():where_exists("n", false) end,
      function() q():where_in("n", { 1 }, { 2 }) end,
      function() q():where_between("n", 1, 2, 3) end,
      function() q():where_like("name", "a", "i") end,
      function() q():where_ilike("name", "a", "i") end,
      function() q():where_size("labels", 1, 2) end,
      function() q():where_all("labels", { "a" }, { "b" }) end,
      function() q():where_regex("name", "a", "i", "m") end,
      function() q():where_column("n", "=", "other", "n") end,
      function() q():where_elem_match("labels", function(label) label:where_in({ "a" }, { "b" }) end) end,
      function() q():limit(5, 10) end,
      function() q():offset(5, 10) end,
      function() q():order_by("n", "asc", "name") end,
      function() q():order_by({ "n" }, "desc") end,
      function() q():where("n", 1):delete { name = "Bert" } end,
      function() q():where("n", 1):update({ n = 2 }, { name = "Bert" }) end,
    } do
      expect_refused("E_ARGUMENT", fn)
    end
    assert.equal("Bert", names(q():where_size("labels", 0, nil):where_not_null("n", nil):limit(1, nil)))
  end)

  it("size and all look into arrays", function()
    assert.equal("Anna", names(q():where_size("labels", 2)))
    assert.equal("Bert", names(q():where_size("labels", 0)))
    assert.equal("Anna", names(q():where_all("labels", { "big", "red" })))
    assert.equal("Anna anton", names(q():where_all("labels", { "red" })))
    assert.equal("Bert anton", names(q():where_size("labels", 0):or_where_size("labels", 1)))
    expect_refused("E_ARGUMENT", function() q():where_size("labels", -1) end)
    expect_refused("E_ARGUMENT", function() q():where_size("labels", "2") end)
    expect_refused("E_CAST", function() q():where_all("labels", { 5 }) end)
    expect_refused("E_ARGUMENT", function() q():where_all("labels", "red") end)
  end)

  it("column compares two columns of a document", function()
    assert.equal("Anna", names(q():where_column("n", "=", "other"):where_not_null("n")))
    assert.equal("anton", names(q():where_column("n", ">", "other")))
    assert.equal("Bert", names(q():where_column("n", "<", "other")))
    assert.equal("Anna Bert", names(q():where_column("n", "<=", "other"):where_not_null("n")))
    assert.equal("Bert anton", names(q():where_column("n", "!=", "other")))
    assert.equal("Bert anton", names(q():whereColumn("n", ">", "other"):orWhereColumn("n", "<", "other")))
    expect_refused("E_UNDEFINED_COLUMN", function() q():where_column("n", "=", "grp") end)
    expect_refused("E_ARGUMENT", function() q():where_column("n", "like", "other") end)
    expect_refused("E_ARGUMENT", function() q():where_column("n", "=") end)
  end)

  it("exists tells a field that is there", function()
    assert.equal("Anna Bert anton", names(q():where_exists("labels")))
    assert.equal("line\nbreak", names(q():where("labels", "exists", false)))
    assert.equal("line\nbreak", names(q():where_not_exists("labels")))
  end)

  it("leave a query as it was when they refuse", function()
    local query = q():where("n", ">", 1)
    for _, refused in ipairs {
      function() query:where_like("name", 5) end,
      function() query:where_size("labels", -1) end,
      function() query:where_all("labels", { 5 }) end,
      function() query:where_column("n", "=", "nope") end,
      function() query:where_column("n", "~", "other") end,
      function() query:where_regex("name", 5) end,
      function() query:where_regex("name", "a", "g") end,
      function() query:where_null("n", true) end,
      function() query:where_between("n", { 1, "x" }) end,
      function() query:where { n = 2, name = 5 } end,
    } do
      assert.is_false((pcall(refused)))
      assert.equal("Bert anton", names(query))
    end
  end)
end)
