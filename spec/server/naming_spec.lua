-- Naming strategies: every name that a definition may leave out, replaced on a model or for all of them.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("naming")
teardown(helper.drop)

local expect_error = helper.expect_error

local function camel(name) return (name:gsub("_(%l)", string.upper)) end
local function pascal(name) return (camel(name):gsub("^%l", string.upper)) end

local naming = {
  collection = function(model) return "app." .. model end,
  column = function(_, attribute) return pascal(attribute) end,
  serialized = function(_, name) return camel(name) end,
  pivot_table = function(model, related)
    local names = { model, related }
    table.sort(names)
    return table.concat(names, "To")
  end,
  pivot_foreign_key = function(model, attribute) return "fk" .. model .. attribute end,
}

describe("a naming strategy on a model", function()
  local Writer = lumo.model("NamingWriter", {
    naming = naming,
    columns = {
      first_name = "string", last_name = { "string", column = "surname", serialize_as = "family" },
      address = { "object", columns = { zip_code = "string" } },
      past_jobs = { "array", of = { "object", columns = { job_title = "string" } } },
    },
    relations = { best_books = lumo.many_to_many("NamingBook", { pivot_columns = { "role" } }) },
  })
  local Book = lumo.model("NamingBook", {
    naming = naming,
    columns = { page_count = "integer" },
    relations = { writers = lumo.many_to_many("NamingWriter") },
  })

  it("names collections and stored fields, also inside of columns", function()
    local writer = Writer:create {
      first_name = "Ada", last_name = "L", address = { zip_code = "1" }, past_jobs = { { job_title = "x" } },
    }
    assert.equal("app.NamingWriter", Writer.collection)
    local stored = helper.doc("app.NamingWriter", {})
    assert.same({ "Ada", "L", "1", "x" },
      { stored.FirstName, stored.surname, stored.Address.ZipCode, stored.PastJobs[1].JobTitle })
    assert.equal(writer._id, stored._id)
    local found = Writer:query():where("first_name", "Ada"):where("address.zip_code", "1"):first()
    assert.equal("x", found.past_jobs[1].job_title)
  end)

  it("names what is serialized, relations included", function()
    local writer = Writer:find_by("first_name", "Ada")
    writer.best_books:create({ page_count = 3 }, { role = "r" })
    local json = writer:load("best_books"):serialize()
    assert.equal("Ada", json.firstName)
    assert.equal("L", json.family)
    assert.equal(3, json.bestBooks[1].pageCount)
    assert.equal("1", json.address.zipCode)
    assert.equal("bestBooks", Writer:get_relation("best_books").serialize_as)
  end)

  it("names pivot collections and their keys, the same from both sides", function()
    local relation = Writer:get_relation("best_books"):boot()
    assert.equal("NamingBookToNamingWriter", relation.pivot_table)
    assert.equal("fkNamingWriter_id", relation.pivot_foreign_key)
    assert.equal("fkNamingBook_id", relation.pivot_related_foreign_key)
    assert.equal("Ada", Book:first().writers:exec()[1].first_name)
    assert.equal("r", helper.doc("NamingBookToNamingWriter", {}).role)
  end)

  it("is inherited, and replaced in parts", function()
    local Poet = lumo.model("NamingPoet", {
      extends = Writer, columns = { verse_count = "integer" },
      naming = { collection = function() return "poets" end },
    })
    Poet:create { verse_count = 2, first_name = "Eve" }
    assert.same({ 2, "Eve" }, { helper.doc("poets", {}).VerseCount, helper.doc("poets", {}).FirstName })
    Poet:add_column("pen_name", "string")
    Poet:create { pen_name = "Z" }
    assert.equal("Z", helper.doc("poets", { PenName = "Z" }).PenName)
  end)

  it("says what is wrong with it", function()
    local function define(given, columns)
      return function() lumo.model("NamingBroken", { naming = given, columns = columns or { a = "string" } }) end
    end
    local err = expect_error("E_ARGUMENT", define { table_name = type })
    assert.truthy(tostring(err):find("pivot_table", 1, true))
    expect_error("E_ARGUMENT", define { column = "x" })
    expect_error("E_ARGUMENT", define "camel")
    expect_error("E_ARGUMENT", define { column = function() end })
    expect_error("E_ARGUMENT", define { column = function() return "a.b" end })
    expect_error("E_ARGUMENT", define { collection = function() return "$x" end })
    expect_error("E_ARGUMENT", define({ column = function() return "same" end }, { a = "string", b = "string" }))
    local Model = lumo.model("NamingBrokenPivot", {
      naming = { pivotTable = function() return "" end }, columns = {},
      relations = { books = lumo.many_to_many("NamingBook") },
    })
    expect_error("E_ARGUMENT", function() Model:get_relation("books"):boot() end)
  end)
end)

describe("lumo.naming", function()
  it("is the strategy of all models defined from then on", function()
    local before = lumo.naming.pivotTable
    finally(function() lumo.naming.collection, lumo.naming.pivot_table = nil, nil end)
    assert.equal("user_profiles", lumo.naming.collection("UserProfile"))
    local Old = lumo.model("NamingOld", { columns = {} })
    lumo.naming.collection = function(model) return "t_" .. model end
    lumo.naming.pivotTable = function(a, b) return a .. b end
    local New = lumo.model("NamingNew", { columns = {}, relations = { olds = lumo.many_to_many(Old) } })
    assert.same({ "naming_olds", "t_NamingNew" }, { Old.collection, New.collection })
    assert.equal("NamingNewNamingOld", New:get_relation("olds").pivot_table)
    lumo.naming.pivot_table = nil
    assert.equal(before, lumo.naming.pivot_table)
    expect_error("E_ARGUMENT", function() lumo.naming.tables = type end)
    expect_error("E_ARGUMENT", function() lumo.naming.collection = "x" end)
  end)
end)
