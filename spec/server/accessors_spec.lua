-- The functions of columns: prepare, consume, serialize, and the defaults of columns inside of others.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("accessors")
teardown(helper.drop)

local expect_error, expect_refused, expect_commands = helper.expect_error, helper.expect_refused, helper.expect_commands

local function split(text)
  local list = {}
  for part in text:gmatch("[^,]+") do list[#list + 1] = part end
  return list
end

local prepared = 0
local Account = lumo.model("Account", {
  collection = "accounts",
  columns = {
    email = { "string", column = "mail", serialize_as = "e_mail", prepare = function(value) return value:lower() end },
    tags = {
      "string", prepare = function(list) return table.concat(list, ",") end, consume = split,
    },
    price = {
      "integer", prepare = function(value) return value * 100 end, consume = function(value) return value / 100 end,
      serialize = function(value, name, record) return ("%s of %s: %.2f"):format(name, record.name, value) end,
    },
    password = { "string", serialize_as = false, min = 4, prepare = function(value)
      prepared = prepared + 1
      return ("%s#%d"):format(value, prepared) -- comes out differently every time, as with a salt
    end },
    name = "string",
    shout = { "string", consume = function(value) return value:upper() end },
  },
})

describe("prepare", function()
  before_each(function() helper.clear("accounts") end)

  it("makes what create and save store", function()
    local one = Account:create { email = "A@B", tags = { "x", "y" }, price = 3, password = "secret" }
    local doc = helper.doc("accounts", {})
    assert.same({ "a@b", "x,y", 300 }, { doc.mail, doc.tags, doc.price })
    assert.equal("a@b", one.email)
    assert.is_false(one.is_dirty)
    one.email = "C@D"
    assert.equal("C@D", one.email)
    assert.same({ email = "C@D" }, one.dirty)
    expect_commands(1, function() one:save() end)
    assert.equal("c@d", helper.doc("accounts", {}).mail)
    assert.equal("c@d", one.email)
  end)

  it("is called with the value, the attribute's name and the record", function()
    local got
    local Model = lumo.model("PreparedWith", { columns = {
      slug = { "string", column = "s", prepare = function(...)
        got = { ... }
        return "x"
      end },
    } })
    local one = Model:create { slug = "given" }
    assert.equal("given", got[1])
    assert.equal("slug", got[2])
    assert.equal(one, got[3])
  end)

  it("leaves nil and null alone; its nil stores nothing", function()
    local Model = lumo.model("PreparedNil", { collection = "prepared_nil", columns = {
      a = { "string", prepare = function(value) return value ~= "none" and value .. "!" or nil end }, b = "string",
    } })
    local one = Model:create { a = lumo.null }
    assert.equal(lumo.null, helper.doc("prepared_nil", {}).a)
    one:merge({ a = "x" }):save()
    assert.equal("x!", helper.doc("prepared_nil", {}).a)
    one:merge({ a = "none" }):save()
    assert.is_nil(helper.doc("prepared_nil", {}).a)
    one.a = "y"
    one:save()
    one.a = nil
    one:save()
    assert.is_nil(helper.doc("prepared_nil", {}).a)
  end)

  it("may come out differently each time", function()
    local one = Account:create { password = "secret" }
    assert.is_false(one.is_dirty)
    expect_commands(0, function() one:save() end)
    one.password = "other"
    assert.is_true(one.is_dirty)
    one:save()
    assert.is_false(one.is_dirty)
    assert.truthy(helper.doc("accounts", {}).password:find("^other#"))
  end)

  it("casts its result when saving, and then nothing is sent", function()
    local Model = lumo.model("PreparedCast", { columns = { n = { "integer", prepare = function(v) return v end } } })
    local err = expect_refused("E_CAST", function() Model:create { n = "x" } end)
    assert.equal("n", err.attribute)
    local one = Model:new { n = "x" }
    expect_refused("E_CAST", function() one:save() end)
    assert.equal("x", one.n)
    assert.is_true(one.is_new)
  end)

  it("goes through its own error, nothing sent", function()
    local Model = lumo.model("PreparedError", { columns = {
      n = { "any", prepare = function() error("mine", 0) end },
    } })
    local ok, err
    expect_commands(0, function() ok, err = pcall(Model.create, Model, { n = 1 }) end)
    assert.same({ false, "mine" }, { ok, err })
  end)

  it("comes after the rules", function()
    local err = expect_refused("E_VALIDATION", function() Account:create { password = "abc" } end)
    assert.equal("min", err.errors[1].rule)
  end)

  it("works for create_many, merge, fill, defaults and extended models", function()
    local Base = lumo.model("PreparedBase", { columns = {
      a = { "string", default = "D", prepare = string.lower },
    } })
    local Model = lumo.model("PreparedChild", { extends = Base, collection = "prepared_child" })
    local list = Model:create_many { {}, { a = "X" } }
    assert.same({ "d", "x" }, helper.pluck(list, "a"))
    list[1]:fill({ a = "Y" }):save()
    assert.equal("y", Model:find(list[1].id).a)
  end)

  it("works in bulk updates and find_one_and_update, and not in filters", function()
    Account:create { email = "A@B" }
    assert.equal(1, Account:query():where("email", "a@b"):update { email = "C@D", tags = { "q" } })
    assert.is_nil(Account:find_by("email", "C@D"))
    assert.equal("c@d", Account:find_by("email", "c@d").email)
    local one = Account:query():everything():find_one_and_update { price = 2 }
    assert.equal(2, one.price)
    assert.equal(200, helper.doc("accounts", {}).price)
  end)

  it("works where records are searched for by what they would have", function()
    local one = Account:first_or_create({ email = "A@B" }, { name = "a" })
    assert.equal(one.id, Account:first_or_create({ email = "a@B" }, { name = "b" }).id)
    assert.equal(one.id, Account:update_or_create({ email = "A@b" }, { name = "c" }).id)
    local list = Account:fetch_or_create_many("email", { { email = "a@B" }, { email = "NEW" } })
    assert.equal(one.id, list[1].id)
    assert.equal("new", list[2].email)
    assert.equal(2, Account:count())
  end)

  it("gives back the assigned value when saving fails", function()
    helper.create_index("accounts", { { "mail", 1 } }, { unique = true })
    Account:create { email = "taken" }
    local one = Account:create { email = "free" }
    one.email = "TAKEN"
    expect_error("E_DUPLICATE_KEY", function() one:save() end)
    assert.equal("TAKEN", one.email)
    one.email = "other"
    one:save()
    assert.equal("other", one:fresh().email)
    helper.command { { "dropIndexes", "accounts" }, { "index", "*" } }
  end)
end)

describe("consume", function()
  before_each(function() helper.clear("accounts") end)

  it("makes what is read, once for each document", function()
    Account:create { tags = { "a" }, price = 1, shout = "hi" }
    local one = Account:first()
    assert.same({ "a" }, one.tags)
    assert.is_true(rawequal(one.tags, one.tags))
    assert.equal(1, one.price)
    assert.equal("HI", one.shout)
    assert.equal("hi", one:get("shout", { raw = true }))
    assert.same({ "a" }, one.original.tags)
    assert.same({ "a" }, one.attributes.tags)
    assert.is_false(one.is_dirty)
  end)

  it("notices a table that is changed in place", function()
    local one = Account:create { tags = { "a" }, name = "n" }
    local tags = one.tags
    tags[2] = "b"
    assert.same({ tags = { "a", "b" } }, one.dirty)
    one:save()
    assert.equal("a,b", helper.doc("accounts", {}).tags)
    tags[3] = "c" -- the same table after a save
    one:save()
    assert.equal("a,b,c", helper.doc("accounts", {}).tags)
    assert.is_false(one.is_dirty)
    one.name = "m"
    expect_commands(1, function() one:save() end)
  end)

  it("works in pluck, refresh and fresh, and not in lean", function()
    local one = Account:create { price = 1, shout = "a" }
    assert.same({ 1 }, Account:query():pluck("price"))
    helper.update("accounts", {}, { ["$set"] = { price = 700 } })
    assert.equal(1, one.price)
    assert.equal(7, one:fresh().price)
    assert.equal(7, one:refresh().price)
    assert.equal(700, Account:query():lean():first().price)
  end)

  it("has its value of a stored one that does not fit refused when read", function()
    Account:create { name = "x" }
    helper.update("accounts", {}, { ["$set"] = { price = "text" } })
    local one = Account:first()
    assert.equal("price", expect_error("E_CAST", function() return one.price end).attribute)
    one.name = "y"
    one:save()
    assert.equal("text", helper.doc("accounts", {}).price)
  end)
end)

describe("a number that is prepared", function()
  it("cannot be counted up in the database", function()
    local one = Account:create { price = 1 }
    expect_refused("E_ARGUMENT", function() one:increment("price") end)
    expect_refused("E_ARGUMENT", function() Account:query():where("price", 100):increment("price") end)
  end)
end)

describe("serialize", function()
  before_each(function() helper.clear("accounts") end)

  it("makes what serialize and to_json give, and not to_table", function()
    local one = Account:create { email = "A", price = 2, name = "N", tags = { "x" }, password = "secret" }
    local plain = one:serialize()
    assert.equal("price of N: 2.00", plain.price)
    assert.same({ "x" }, plain.tags)
    assert.is_nil(plain.password)
    assert.equal("a", plain.e_mail)
    assert.equal(2, one:to_table().price)
    local decoded = lumo.bson.decode(lumo.bson.from_json(one:to_json()))
    plain._id, decoded._id = nil, nil
    assert.same(plain, decoded)
    assert.same({ price = "price of N: 2.00" }, one:serialize { fields = { "price" } })
  end)

  it("says null for null, and nothing for what is missing", function()
    local one = Account:create { price = lumo.null }
    assert.equal(lumo.null, one:serialize().price)
    assert.truthy(one:to_json():find('"price":null', 1, true))
    assert.is_nil(Account:new({}):serialize().price)
  end)

  it("refuses what no JSON can be made of", function()
    local Model = lumo.model("SerializedWrong", { columns = {
      a = { "any", serialize = function() return print end },
    } })
    local one = Model:new { a = 1 }
    expect_error("E_CAST", function() one:to_json() end)
    expect_error("E_CAST", function() one:serialize() end)
  end)
end)

describe("functions of columns", function()
  it("may not read or write the database", function()
    for _, option in ipairs { "prepare", "consume", "serialize", "default", "validate" } do
      local Model = lumo.model("Reading_" .. option, { columns = {
        a = { "string", [option] = function(value)
          Account:count()
          return value or "x"
        end },
        b = "string",
      } })
      local err = expect_error("E_ARGUMENT", function()
        local one = Model:create { a = option ~= "default" and "x" or nil }
        return one:fresh().a, one:to_json()
      end)
      assert.truthy(tostring(err):find("must not read or write", 1, true))
      assert.equal(0, Account:count()) -- and the ban ends with the function
    end
  end)

  it("are refused where nothing would call them", function()
    local function define(column) return function() lumo.model("Refused", { columns = { a = column } }) end end
    local same = function(value) return value end
    for _, option in ipairs { "prepare", "consume", "serialize" } do
      expect_error("E_ARGUMENT", define { "string", [option] = "text" })
      expect_error("E_ARGUMENT", define { "object", columns = { b = { "string", [option] = same } } })
      expect_error("E_ARGUMENT", define { "array", of = { "string", [option] = same } })
    end
    expect_error("E_ARGUMENT", define { "string", primary = true, prepare = same })
    expect_error("E_ARGUMENT", define { "string", primary = true, consume = same })
    expect_error("E_ARGUMENT", define { "date", auto_create = true, prepare = same })
    expect_error("E_ARGUMENT", define { "object", columns = { b = { "date", auto_create = true } } })
    expect_error("E_ARGUMENT", define { "object", columns = { b = { "string", primary = true } } })
  end)
end)

describe("a pivot model's functions", function()
  local Membership = lumo.model("AccessorsMembership", { collection = "memberships", columns = {
    role = { "string", prepare = string.lower, consume = string.upper },
  } })
  local Team = lumo.model("AccessorsTeam", { collection = "teams", columns = { name = "string" } })
  local Person = lumo.model("AccessorsPerson", { collection = "people", columns = { name = "string" }, relations = {
    teams = lumo.many_to_many(Team, { pivot_model = Membership, pivot_foreign_key = "person_id",
      pivot_related_foreign_key = "team_id", pivot_columns = { "role" } }),
  } })

  it("hold for attach, sync, update_pivot_data, create and what is read", function()
    local person, team = Person:create { name = "p" }, Team:create { name = "t" }
    local function stored() return helper.doc("memberships", { team_id = team.id }).role end
    person.teams:attach { [team.id] = { role = "Admin" } }
    assert.equal("admin", stored())
    local pairs_made = person.teams:sync({ [team.id] = { role = "ADMIN" } }, false)
    assert.equal(1, #pairs_made.unchanged)
    person.teams:sync_with_pivot_data { { id = team.id, pivot_data = { role = "Owner" } } }
    assert.equal("owner", stored())
    person.teams:update_pivot_data(team.id, { role = "Guest" })
    assert.equal("guest", stored())
    assert.equal("GUEST", person.teams:pivot_data(team.id).role)
    local found = person.teams:exec()[1]
    assert.equal("GUEST", found.extras.pivot_role)
    assert.equal("GUEST", found.pivot.role)
    local made = person.teams:create({ name = "u" }, { role = "Made" })
    assert.equal("made", helper.doc("memberships", { team_id = made.id }).role)
  end)
end)

describe("defaults of columns inside of others", function()
  local made = 0
  local Page = lumo.model("DefaultsPage", { collection = "pages", columns = {
    stats = { "object", default = {}, columns = {
      views = { "integer", default = 0 }, hot = { "boolean", default = false },
      number = { "integer", column = "n", default = function()
        made = made + 1
        return made
      end },
    } },
    notes = { "array", of = { "object", columns = { text = "string", likes = { "integer", default = 0 },
      marks = { "array", of = "string", default = {} } } } },
    other = { "object", columns = { a = { "string", default = "x" } } },
  } })
  before_each(function() helper.clear("pages") end)

  it("are given by new, create and create_many, which leave the values as they were", function()
    local note = { text = "a" }
    local page = Page:create { notes = { note, { likes = 5 } } }
    assert.same({ text = "a" }, note)
    local doc = helper.doc("pages", {})
    assert.same({ 0, false, made }, { doc.stats.views, doc.stats.hot, doc.stats.n })
    assert.same({ 0, 5 }, helper.pluck(doc.notes, "likes"))
    assert.is_nil(doc.other)
    assert.equal(0, page.notes[1].likes)
    assert.equal("x", Page:new({ other = lumo.ordered {} }).other.a)
    assert.is_false(page.is_dirty)
  end)

  it("are given by assignments, to the table that is assigned", function()
    local page = Page:create {}
    local notes = { { text = "a" }, { text = "b" } }
    page.notes = notes
    assert.equal(0, notes[1].likes)
    table.insert(notes[1].marks, "m")
    assert.same({}, notes[2].marks)
    page:save()
    assert.same({ "m" }, { helper.doc("pages", {}).notes[1].marks[1] })
    page:merge({ other = {} }):save()
    assert.equal("x", page:fresh().other.a)
  end)

  it("do not come back when an attribute is removed", function()
    local page = Page:create {}
    page.stats.views = nil
    page:save()
    assert.is_nil(page:fresh().stats.views)
    assert.is_nil(page.stats.views)
  end)

  it("meet values of any kind without harm", function()
    local circle = {}
    circle.a = circle
    for _, value in ipairs { 1, "x", { 1 }, { { "a" } }, circle } do
      expect_refused({ "E_CAST", "E_UNDEFINED_COLUMN" }, function() Page:create { stats = value } end)
      local page = Page:new {}
      expect_refused({ "E_CAST", "E_UNDEFINED_COLUMN" }, function() page.stats = value end)
      assert.equal(0, page.stats.views)
    end
  end)
end)

describe("three names of columns inside of others", function()
  local Place = lumo.model("NamesPlace", { collection = "places", columns = {
    address = { "object", column = "adr", serialize_as = "ADDRESS", columns = {
      street = { "string", column = "str", serialize_as = "STREET" },
      secret = { "string", serialize_as = false },
    } },
    visits = { "array", of = { "object", columns = { at = { "date", column = "t", serialize_as = "when" } } } },
  } })

  it("are those of attributes, documents and JSON", function()
    local at = lumo.datetime("2024-01-02T03:04:05Z")
    local place = Place:create { address = { street = "Main", secret = "s" }, visits = { { at = at } } }
    local doc = helper.doc("places", {})
    assert.same({ str = "Main", secret = "s" }, doc.adr)
    assert.equal(at, doc.visits[1].t)
    for _, one in ipairs { place, place:fresh() } do
      assert.same({ STREET = "Main" }, one:serialize().ADDRESS)
      assert.same({ when = tostring(at) }, one:serialize().visits[1])
      assert.same({ street = "Main", secret = "s" }, one:to_table().address)
      assert.truthy(one:to_json():find('"ADDRESS":{"STREET":"Main"}', 1, true))
      assert.truthy(one:to_json():find('"visits":[{"when":"', 1, true))
    end
    place.address.street = "Side" -- a change that is not saved is told, too
    assert.equal("Side", place:serialize().ADDRESS.STREET)
    assert.equal(1, Place:query():where("address.street", "Main"):count())
    assert.same({ "Main" }, Place:query():pluck("address.street"))
    local err = expect_error("E_UNDEFINED_COLUMN", function() Place:query():where("address.str", "x") end)
    assert.equal("address.str", err.attribute)
  end)
end)
