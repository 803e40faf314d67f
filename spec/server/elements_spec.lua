-- Conditions on the elements of arrays, and the distinct values of columns.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("elements")
teardown(helper.drop)

local expect_refused, expect_commands = helper.expect_refused, helper.expect_commands

local Order = lumo.model("ElementOrder", {
  collection = "orders",
  columns = {
    code = "string",
    total = "integer",
    scores = { "array", of = "integer", column = "marks" },
    words = { "array", of = "string" },
    free = "array",
    items = { "array", of = { "object", columns = {
      sku = "string", quantity = { "integer", column = "qty" }, at = "date",
      parts = { "array", of = { "object", columns = { name = "string", n = "integer" } } },
    } } },
    anything = { "array", of = "object" },
    address = { "object", columns = { phones = { "array", of = "string" } } },
  },
})

local function codes(query)
  return table.concat(query:order_by("code"):pluck("code"), " ")
end

local function q()
  return Order:query()
end

before_each(function()
  helper.clear("orders")
  helper.insert("orders", {
    { code = "a", total = 3, marks = lumo.array { 1, 3, 7 }, words = lumo.array { "red", "big" },
      items = lumo.array { { sku = "x", qty = 1 }, { sku = "y", qty = 9 } } },
    { code = "b", total = 3, marks = lumo.array { 4, 10 }, words = lumo.array { "Red" },
      items = lumo.array { { sku = "x", qty = 5, parts = lumo.array { { name = "p", n = 2 } } } },
      anything = lumo.array { { deep = { x = 1 } } } },
    { code = "c", total = 5, marks = lumo.array {}, words = lumo.array { "a.b", lumo.null },
      address = { phones = lumo.array { "1", "2" } }, items = lumo.array { { qty = 2 } } },
    { code = "d", total = lumo.null },
  })
end)

describe("where_elem_match over documents", function()
  it("wants one element for which all conditions hold", function()
    assert.equal("b", codes(q():where_elem_match("items", function(item)
      item:where("sku", "x"):where("quantity", ">", 2)
    end)))
    assert.equal("a b", codes(q():where("items.sku", "x"):where("items.quantity", ">", 2)))
  end)

  it("takes every family, groups and or", function()
    local function match(fn) return codes(q():where_elem_match("items", fn)) end
    assert.equal("a b", match(function(item) item:where_in("sku", { "x", "z" }) end))
    assert.equal("c", match(function(item) item:where_null("sku") end))
    assert.equal("a c", match(function(item) item:where("sku", "y"):or_where("quantity", 2) end))
    assert.equal("a b", match(function(item)
      item:where("quantity", ">=", 1):where(function(inner) inner:where("sku", "y"):or_where("quantity", 5) end)
    end))
    assert.equal("a b", match(function(item) item:where { sku = "x" } end))
    assert.equal("a", match(function(item) item:where_not("sku", "x"):where_between("quantity", { 8, 10 }) end))
    assert.equal("a b", match(function(item)
      item:where_exists("sku"):when(true, function(e) e:where_like("sku", "x%") end)
    end))
    assert.equal("b", match(function(item) item:where_raw { qty = { ["$mod"] = { 5, 0 } } } end))
  end)

  it("nests", function()
    assert.equal("b", codes(q():where_elem_match("items", function(item)
      item:where("sku", "x"):where_elem_match("parts", function(part) part:where("name", "p"):where("n", 2) end)
    end)))
  end)

  it("casts by the columns of the element, and knows no others", function()
    local err = expect_refused("E_CAST", function()
      q():where_elem_match("items", function(item) item:where("quantity", { ["$gt"] = 1 }) end)
    end)
    assert.matches("items.quantity", err.message, 1, true)
    expect_refused("E_UNDEFINED_COLUMN", function()
      q():where_elem_match("items", function(item) item:where("qty", 1) end)
    end)
    assert.equal("b", codes(q():where_elem_match("anything", function(one) one:where("deep.x", 1) end)))
  end)

  it("has or_ and and_ forms, in both spellings, and is negated by a group", function()
    local function sku(value)
      return function(item) item:where("sku", value) end
    end
    assert.equal("a d", codes(q():where("code", "d"):or_where_elem_match("items", sku "y")))
    assert.equal("a", codes(q():where("code", "a"):and_where_elem_match("items", sku "x")))
    assert.equal("a d", codes(q():where("code", "d"):orWhereElemMatch("items", sku "y")))
    assert.equal("c d", codes(q():where_not(function(inner) inner:where_elem_match("items", sku "x") end)))
  end)
end)

describe("where_elem_match over values", function()
  local function match(column, fn) return codes(q():where_elem_match(column, fn)) end

  it("names no column", function()
    assert.equal("a", match("scores", function(n) n:where(">", 2):where("<", 4) end))
    assert.equal("a b", codes(q():where("scores", ">", 2):where("scores", "<", 5)))
    assert.equal("a", match("scores", function(n) n:where(7) end))
    assert.equal("b", match("scores", function(n) n:where_in { 10, 11 } end))
    assert.equal("a", match("scores", function(n) n:where_between { 2, 3 } end))
    assert.equal("a", match("scores", function(n) n:where_between(2, 3) end))
    assert.equal("a", match("words", function(w) w:where_like("r%") end))
    assert.equal("a b", match("words", function(w) w:where_ilike("r%") end))
    assert.equal("c", match("words", function(w) w:where_like("a.b") end))
    assert.equal("c", match("words", function(w) w:where_null() end))
    assert.equal("c", match("address.phones", function(phone) phone:where("2") end))
  end)

  it("takes or, groups and negation about the one element", function()
    assert.equal("a b", match("scores", function(n) n:where("<", 2):or_where(">", 8) end))
    assert.equal("b", match("scores", function(n) n:where("<", 0):or_where(">", 3):where("<", 5) end))
    assert.equal("a b", match("scores", function(n)
      n:where(">", 0):where(function(inner) inner:where(1):or_where(10) end)
    end))
    assert.equal("a b", match("scores", function(n) n:where_not("<", 4) end))
    assert.equal("a", match("scores", function(n) n:where_not("<", 2):where_not(">", 6):where_not(4) end))
    assert.equal("b", match("scores", function(n)
      n:where_not(function(inner) inner:where("<", 4):or_where(7) end):where("<", 6)
    end))
    assert.equal("a b", match("words", function(w) w:where_like("r%"):or_where_like("R%"):where_not("big") end))
    assert.equal("a", match("words", function(w) w:where_ilike("r%"):where_like("%d"):where_not_in { "Red" } end))
    assert.equal("", match("words", function(w) w:where_like("r%"):where_like("b%") end))
  end)

  it("casts by the type of the elements", function()
    expect_refused("E_CAST", function() q():where_elem_match("scores", function(n) n:where("7") end) end)
    expect_refused("E_CAST", function() q():where_elem_match("scores", function(n) n:where { ["$gt"] = 1 } end) end)
    expect_refused("E_ARGUMENT", function() q():where_elem_match("scores", function(n) n:where(">", nil) end) end)
    expect_refused("E_ARGUMENT", function() q():where_elem_match("scores", function(n) n:where("no such", 1) end) end)
  end)
end)

describe("where_elem_match refuses", function()
  it("what is no array with declared elements", function()
    for _, column in ipairs { "total", "free", "address", "items.sku" } do
      expect_refused("E_ARGUMENT", function() q():where_elem_match(column, function(e) e:where("x", 1) end) end)
    end
    expect_refused("E_UNDEFINED_COLUMN", function() q():where_elem_match("nope", function() end) end)
  end)

  it("a function that gives no condition, or none at all", function()
    expect_refused("E_ARGUMENT", function() q():where_elem_match("items", function() end) end)
    for _, bad in ipairs { { "items" }, { "items", 5 }, { "items", {} }, { "items", "x" }, { nil, function() end } } do
      expect_refused("E_ARGUMENT", function() q():where_elem_match(bad[1], bad[2]) end)
    end
  end)

  it("everything but conditions inside", function()
    for _, method in ipairs { "exec", "first", "count", "delete", "each", "clone", "lean", "order_by", "limit",
      "preload" } do
      expect_refused("E_ARGUMENT", function()
        q():where_elem_match("items", function(item) item[method](item, "sku") end)
      end)
    end
    expect_refused("E_UNSUPPORTED", function()
      q():where_elem_match("items", function(item) item:where_column("sku", "=", "quantity") end)
    end)
    expect_refused("E_UNSUPPORTED", function()
      q():where_elem_match("scores", function(n) n:where_raw { ["$gt"] = 1 } end)
    end)
  end)

  it("and leaves the query as it was when the function raises", function()
    local query = q():where("code", "a")
    local before = tostring(query)
    assert.has_error(function()
      query:where_elem_match("items", function(item)
        item:where("sku", "x")
        error("own")
      end)
    end)
    assert.equal(before, tostring(query))
  end)
end)

describe("distinct", function()
  it("gives each value once, in order, with one command", function()
    expect_commands(1, function() assert.same({ 3, 5 }, q():distinct("total")) end)
    assert.same({ "a", "b", "c", "d" }, q():distinct("code"))
    assert.same({}, q():where("code", "nobody"):distinct("total"))
  end)

  it("gives the elements of arrays, those inside of arrays, too", function()
    assert.same({ 1, 3, 4, 7, 10 }, q():distinct("scores"))
    assert.same({ "Red", "a.b", "big", "red" }, q():distinct("words"))
    assert.same({ "x", "y" }, q():distinct("items.sku"))
    assert.same({ "1", "2" }, q():distinct("address.phones"))
  end)

  it("is of what matches, limits respected", function()
    assert.same({ 3 }, q():where("code", "a"):distinct("total"))
    assert.same({ 5 }, q():order_by("code", "desc"):limit(2):distinct("total"))
    assert.same({ "big", "red" }, q():collation { locale = "en", strength = 2 }:where_in("code", { "a", "b" })
      :distinct("words"))
  end)

  it("refuses what is no column", function()
    expect_refused("E_UNDEFINED_COLUMN", function() q():distinct("nope") end)
    for _, bad in ipairs { 5, {}, lumo.null, true } do
      expect_refused("E_ARGUMENT", function() q():distinct(bad) end)
    end
    expect_refused("E_ARGUMENT", function() q():distinct() end)
  end)
end)
