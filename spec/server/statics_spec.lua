-- What models answer to beside plain finding and creating: find-or-make, truncate, definition by program,
-- inheritance, validation, and the records' own further methods.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local conn = helper.connect("statics")
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused
local expect_commands = helper.expect_commands
local pluck = helper.pluck

local User = lumo.model("StaticUser", {
  collection = "users",
  columns = {
    email = { "string", column = "mail" }, name = "string", age = "integer", score = "number",
    role = { "string", default = "guest" }, born = "date", tags = { "array", of = "string" },
  },
})
helper.create_index("users", { { "mail", 1 } }, { unique = true, sparse = true })

local Plain = lumo.model("StaticPlain", {
  collection = "plain", columns = { key = "string", n = "integer", score = "number" },
})

-- Runs a transaction to its end and rolls it back; what else it raises goes through.
local function undo(fn)
  local _, err = pcall(lumo.transaction, function(trx)
    fn(trx)
    error("undo", 0)
  end)
  if err ~= "undo" then error(err, 0) end
end

before_each(function()
  helper.clear("users", "plain")
end)

local function stored(collection, field)
  return table.concat(pluck(helper.docs(collection or "users", {}, { [field or "name"] = 1 }), field or "name"), " ")
end

describe("first_or_new", function()
  it("finds, or makes a record that is not stored", function()
    local made
    expect_commands(1, function() made = User:first_or_new({ email = "a@x" }, { name = "a" }) end)
    assert.is_true(made.is_new)
    assert.equal("a@x", made.email)
    assert.equal("a", made.name)
    assert.equal("guest", made.role)
    made:save()
    local found = User:first_or_new({ email = "a@x" }, { name = "other" })
    assert.is_true(found.is_persisted)
    assert.equal("a", found.name)
    assert.is_true(User:firstOrNew({ email = "b@x" }).is_new)
    assert.equal(1, User:count())
  end)

  it("lets what is extra win over what is searched for", function()
    local made = User:first_or_new({ email = "a@x", name = "search" }, { name = "extra" })
    assert.equal("extra", made.name)
  end)
end)

describe("first_or_create", function()
  it("finds, or stores a new record", function()
    local made
    expect_commands(2, function() made = User:first_or_create({ email = "a@x" }, { name = "a" }) end)
    assert.is_true(made.is_persisted)
    local found
    expect_commands(1, function() found = User:first_or_create({ email = "a@x" }, { name = "b" }) end)
    assert.equal(made._id, found._id)
    assert.equal("a", found.name)
    assert.equal("a", stored())
  end)

  it("searches by all of the table, null included", function()
    User:create { email = "a@x", name = "a", age = 1 }
    local other = User:first_or_create({ name = "a", age = 2 })
    assert.equal(2, other.age)
    assert.equal(2, User:count())
    assert.equal("a@x", User:first_or_create({ name = "a", age = 1 }).email)
    assert.equal(other._id, User:first_or_create({ email = lumo.null })._id)
  end)

  it("raises what a unique index refused for another reason", function()
    User:create { email = "a@x", name = "a" }
    expect_error("E_DUPLICATE_KEY", function() User:first_or_create({ name = "b" }, { email = "a@x" }) end)
    assert.equal("a", stored())
  end)

  it("belongs to the transaction that is open, or given", function()
    undo(function()
      User:first_or_create { email = "a@x" }
    end)
    assert.equal(0, User:count())
    local trx = lumo.transaction()
    local made = User:first_or_create({ email = "a@x" }, nil, { client = trx })
    assert.equal(trx, made.trx)
    assert.equal(made._id, User:first_or_create({ email = "a@x" }, nil, { client = trx })._id)
    trx:rollback()
    assert.equal(0, User:count())
  end)

  it("of four processes at once stores one record where a unique index says so", function()
    local script = [[
      local lumo = require "lumo"
      lumo.connect(arg[1], { database = arg[2] })
      local User = lumo.model("User", { collection = "users", columns = { email = { "string", column = "mail" },
        name = "string", age = "integer" } })
      while lumo.datetime.now().ms < tonumber(arg[3]) do end
      for i = 1, 50 do
        local email = ("%d@x"):format(i)
        print(i, tostring(User:first_or_create({ email = email }, { name = "p" .. arg[4] })._id))
        User:update_or_create({ email = "u" .. email }, { age = tonumber(arg[4]) })
      end
    ]]
    local processes, moment = {}, helper.now_ms() + 500
    for i = 1, 4 do
      processes[i] = helper.spawn(script, nil, helper.uri(), helper.database, ("%d"):format(moment), i)
    end
    local ids = {}
    for _, process in ipairs(processes) do
      local output, status = process:wait()
      assert.equal(0, status, output)
      for i, id in output:gmatch("(%d+)\t(%x+)") do
        ids[i] = ids[i] or id
        assert.equal(ids[i], id)
      end
    end
    assert.equal(100, User:count())
  end)
end)

describe("update_or_create", function()
  it("changes what it finds, or stores a new record", function()
    local made
    expect_commands(2, function() made = User:update_or_create({ email = "a@x" }, { name = "a" }) end)
    assert.equal("a", stored())
    local found
    expect_commands(2, function() found = User:update_or_create({ email = "a@x" }, { name = "b", age = 5 }) end)
    assert.equal(made._id, found._id)
    assert.equal("b", stored())
    assert.equal(5, helper.doc("users").age)
    assert.is_false(found.is_dirty)
    expect_commands(1, function() User:updateOrCreate({ email = "a@x" }, { name = "b" }) end)
    assert.equal("b", User:update_or_create({ email = "a@x" }).name)
  end)
end)

describe("find-or-make", function()
  it("refuses what is nothing to search for", function()
    for _, method in ipairs { "first_or_new", "first_or_create", "update_or_create" } do
      for _, bad in ipairs { {}, "a@x", 5, true } do
        expect_refused("E_ARGUMENT", function() User[method](User, bad) end)
      end
      expect_refused("E_ARGUMENT", function() User[method](User) end)
      expect_refused("E_ARGUMENT", function() User[method](User, { name = "a" }, "x") end)
      expect_refused("E_ARGUMENT", function() User[method](User, { name = "a" }, nil, { nonsense = 1 }) end)
      expect_refused("E_UNDEFINED_COLUMN", function() User[method](User, { mail = "a" }) end)
      expect_refused("E_CAST", function() User[method](User, { age = "x" }) end)
      expect_refused("E_CAST", function() User[method](User, { age = { ["$gt"] = 1 } }) end)
    end
  end)
end)

describe("the many forms", function()
  local rows

  before_each(function()
    User:create { email = "b@x", name = "old b", age = 7 }
    rows = { { email = "a@x", name = "a" }, { email = "b@x", name = "b" }, { email = "c@x", name = "c" } }
  end)

  it("fetch_or_new_up_many: stored ones and new ones, in the rows' order", function()
    local list
    expect_commands(1, function() list = User:fetch_or_new_up_many("email", rows) end)
    assert.same({ "a", "old b", "c" }, pluck(list, "name"))
    assert.same({ true, false, true }, pluck(list, "is_new"))
    assert.equal(1, User:count())
  end)

  it("fetch_or_create_many: the missing are stored by one insert", function()
    local list
    expect_commands(3, function() list = User:fetch_or_create_many("email", rows) end)
    assert.same({ "a", "old b", "c" }, pluck(list, "name"))
    assert.same({ true, true, true }, pluck(list, "is_persisted"))
    assert.equal("a c old b", stored())
    expect_commands(1, function() User:fetchOrCreateMany({ "email" }, rows) end)
    assert.equal(3, User:count())
  end)

  it("update_or_create_many: the stored are changed, the missing stored, in one transaction", function()
    local list
    local _, names = helper.commands(function() list = User:update_or_create_many("email", rows) end)
    assert.same({ "find", "update", "insert", "commitTransaction" }, names)
    assert.same({ "a", "b", "c" }, pluck(list, "name"))
    assert.equal("a b c", stored())
    assert.equal(7, helper.doc("users", { mail = "b@x" }).age)
    assert.is_nil(list[1].trx)
  end)

  it("update_or_create_many: is all or nothing", function()
    User:create { email = "z@x", name = "z" }
    rows[2].email = "b@x"
    local Hooked = lumo.model("StaticHooked", { collection = "users", extends = User })
    Hooked:after("create", function(one)
      if one.name == "c" then error("no c", 0) end
    end)
    assert.equal("no c", select(2, pcall(Hooked.update_or_create_many, Hooked, "email", rows)))
    assert.equal("old b z", stored())
  end)

  it("update_or_create_many: belongs to the transaction that is open, or stays outside", function()
    undo(function()
      User:update_or_create_many("email", rows)
      assert.equal(3, User:count())
    end)
    assert.equal("old b", stored())
    local trx = lumo.transaction()
    User:update_or_create_many("email", rows, { client = trx })
    User:fetch_or_create_many("email", { { email = "d@x", name = "d" } }, { client = trx })
    assert.equal(1, User:count())
    trx:rollback()
    assert.equal("old b", stored())
    undo(function()
      User:update_or_create_many("email", rows, { client = conn })
    end)
    assert.equal("a b c", stored())
  end)

  it("tell rows by several keys, whatever their types", function()
    local list = User:update_or_create_many({ "name", "age" }, {
      { name = "old b", age = 7, role = "found" }, { name = "old b", age = 8, role = "new" },
    })
    assert.equal("b@x", list[1].email)
    assert.equal(2, User:count())
    local born = lumo.datetime("2001-01-01T00:00:00Z")
    for _ = 1, 2 do
      User:update_or_create_many({ "born" }, { { born = "2001-01-01T00:00:00Z", name = "dated" } })
      User:update_or_create_many({ "score" }, { { score = 1, name = "one" }, { score = 2.5, name = "half" } })
      User:update_or_create_many({ "tags" }, { { tags = { "x", "y" }, name = "tagged" } })
      User:update_or_create_many({ "age" }, { { age = 9007199254740991, name = "big" } })
      User:update_or_create_many({ "age" }, { { age = 9007199254740990, name = "near" } })
    end
    assert.equal("big dated half near old b old b one tagged", stored())
    assert.equal(born, User:find_by("name", "dated").born)
  end)

  it("take an empty list, and send nothing for it", function()
    for _, method in ipairs { "fetch_or_new_up_many", "fetch_or_create_many", "update_or_create_many" } do
      expect_commands(0, function() assert.same({}, User[method](User, "email", {})) end)
    end
  end)

  it("refuse rows that they cannot tell apart, and send nothing", function()
    for _, method in ipairs { "fetch_or_new_up_many", "fetch_or_create_many", "update_or_create_many" } do
      local function refused(codes, ...)
        local arguments = { ... }
        expect_refused(codes, function() User[method](User, arguments[1], arguments[2], arguments[3]) end)
      end
      refused("E_ARGUMENT", "email", { { email = "a@x" }, { email = "a@x" } })
      refused("E_MISSING_ATTRIBUTE_VALUE", "email", { { name = "a" } })
      refused("E_ARGUMENT", {}, rows)
      refused("E_ARGUMENT", { 5 }, rows)
      refused("E_ARGUMENT", nil, rows)
      refused("E_ARGUMENT", "email", nil)
      refused("E_ARGUMENT", "email", "x")
      refused("E_ARGUMENT", "email", { { email = "a@x" }, nil, { email = "b@x" } })
      refused({ "E_ARGUMENT", "E_CAST" }, "email", { "x" })
      refused("E_UNDEFINED_COLUMN", "mail", rows)
      refused("E_UNDEFINED_COLUMN", "email", { { mail = "x" } })
      refused("E_CAST", "email", { { email = "a", age = "x" } })
      refused("E_ARGUMENT", "email", rows, { nonsense = true })
    end
  end)
end)

describe("find_many", function()
  it("orders and tells apart keys of any type", function()
    local near = { 9007199254740990, 9007199254740991, 5 }
    local Numbered = lumo.model("StaticNumbered", {
      collection = "plain", columns = { id = { "integer", primary = true }, key = "string" },
    })
    for _, id in ipairs(near) do Numbered:create { id = id } end
    assert.same(near, pluck(Numbered:find_many(near), "id"))
    assert.same({ 5, near[1] }, pluck(Numbered:find_many { 5, near[1], 5, 77 }, "id"))
    helper.clear("plain")
    local Dated = lumo.model("StaticDated", {
      collection = "plain", columns = { id = { "date", primary = true }, key = "string" },
    })
    Dated:create { id = "2001-01-01T00:00:00Z", key = "x" }
    Dated:create { id = "2002-01-01T00:00:00Z", key = "y" }
    assert.same({ "y", "x" }, pluck(Dated:find_many { "2002-01-01T00:00:00Z", "2001-01-01T01:00:00+01:00" }, "key"))
  end)

  it("find_many_by takes a column or a table", function()
    User:create_many { { name = "a", age = 1 }, { name = "b", age = 1 }, { name = "c", age = 2 } }
    assert.equal(2, #User:find_many_by("age", 1))
    assert.equal(1, #User:find_many_by { age = 1, name = "b" })
    assert.same({}, User:findManyBy("age", 99))
    expect_refused("E_ARGUMENT", function() User:find_many_by("age", nil) end)
    expect_refused("E_ARGUMENT", function() User:find_many_by() end)
    expect_refused("E_ARGUMENT", function() User:find_many_by {} end)
  end)

  it("finding by a column or a table runs on what the options name, and drops no argument", function()
    local trx = lumo.transaction()
    User:create({ name = "inside", age = 1 }, { client = trx })
    assert.equal(1, #User:find_many_by("age", 1, { client = trx }))
    assert.equal("inside", User:find_by({ age = 1 }, { client = trx }).name)
    assert.equal("inside", User:find_by_or_fail("age", 1, { client = trx }).name)
    assert.is_nil(User:find_by("age", 1))
    trx:rollback()
    expect_refused("E_ARGUMENT", function() User:find_by("name", "like", "a%") end)
    expect_refused("E_ARGUMENT", function() User:find_by("age", 1, {}, 2) end)
    expect_refused("E_ARGUMENT", function() User:find_many_by({ age = 1 }, { "age", "name" }) end)
  end)
end)

describe("truncate", function()
  it("removes everything and says how much", function()
    User:create_many { { name = "a" }, { name = "b" } }
    local removed
    expect_commands(1, function() removed = User:truncate() end)
    assert.equal(2, removed)
    assert.equal(0, User:count())
    assert.equal(0, User:truncate())
    User:create { name = "c" }
    undo(function()
      User:truncate()
    end)
    assert.equal("c", stored())
  end)
end)

describe("add_column", function()
  local number = 0

  local function define(columns)
    number = number + 1
    local chunk = assert(load(("\n"):rep(number) .. "return ...", "@columns " .. number))
    return chunk(function(...) return lumo.model(...) end)("StaticAdded" .. number,
      { collection = "plain", columns = columns or { key = "string" } })
  end

  it("adds a column to records, filters and documents", function()
    local Added = define()
    function Added:shout() return self.key:upper() end
    assert.is_false(Added:has_column("n"))
    assert.equal(Added, Added:add_column("n", { "integer", column = "number", default = 5, max = 9 }))
    assert.is_true(Added:has_column("n"))
    assert.equal("number", Added:get_column("n").stored)
    assert.equal("integer", Added:getColumn("n").type)
    local record = Added:create { key = "k" }
    assert.equal(5, record.n)
    assert.equal(5, helper.doc("plain").number)
    assert.equal("K", record:shout())
    assert.equal("k", Added:query():where("n", 5):first().key)
    expect_error("E_VALIDATION", function() Added:create { n = 10 } end)
    expect_error("E_CAST", function() Added:create { n = "x" } end)
  end)

  it("that is refused leaves the model as it was", function()
    local Added = define { key = { "string", required = true } }
    function Added:shout() return self.key:upper() end
    Added:many_to_many("users", "StaticUser", { serialize_as = "people" })
    expect_refused("E_CAST", function() Added:add_column("n", { "integer", default = "x" }) end)
    expect_refused("E_ARGUMENT", function() Added:many_to_many("others", "StaticUser", { serialize_as = "key" }) end)
    assert.is_false(Added:has_relation("others"))
    for _, bad in ipairs {
      { "save", "string" }, { "n", "nonsense" }, { "n" }, { "a.b", "string" }, { "n", { "string", nonsense = 1 } },
      { "shout", "string" }, { "_id", { "string", column = "x" } }, { "n", { "string", serialize_as = "people" } },
    } do
      expect_refused("E_ARGUMENT", function() Added:add_column(bad[1], bad[2]) end)
    end
    expect_refused("E_ARGUMENT", function() Added:add_column() end)
    assert.is_false(Added:has_column("n"))
    assert.equal("K", Added:create({ key = "k" }):shout())
    expect_error("E_VALIDATION", function() Added:create {} end)
    assert.is_nil(Added:get_column("n"))
  end)

  it("may not take a relation's name", function()
    local Added = define()
    Added:many_to_many("users", "StaticUser")
    assert.is_true(Added:has_relation("users"))
    expect_refused("E_ARGUMENT", function() Added:add_column("users", "string") end)
    assert.is_true(Added:has_relation("users"))
    assert.is_false(Added:has_column("users"))
  end)

  it("is the model's own: those that extend it already keep their columns", function()
    local Base = define()
    local Derived = lumo.model("StaticAddedBefore", { extends = Base, collection = "plain" })
    Base:add_column("n", "integer")
    assert.is_true(Base:has_column("n"))
    assert.is_false(Derived:has_column("n"))
    assert.is_true(lumo.model("StaticAddedAfter", { extends = Base, collection = "plain" }):has_column("n"))
  end)

  it("get_column gives a copy", function()
    local Added = define()
    Added:get_column("key").type = "nonsense"
    assert.equal("string", Added:get_column("key").type)
  end)
end)

describe("extends", function()
  local Base = lumo.model("StaticBase", {
    collection = "plain", columns = { key = { "string", required = true }, n = { "integer", default = 1 } },
    relations = {
      users = lumo.many_to_many("StaticUser", {
        pivot_table = "plain_users", pivot_foreign_key = "plain_id", pivot_related_foreign_key = "user_id",
      }),
    },
  })
  local Child = lumo.model("StaticChild", {
    collection = "plain", extends = "StaticBase", columns = { more = "string", n = { "integer", default = 2 } },
  })
  local Grandchild = lumo.model("StaticGrandchild", { collection = "plain", extends = Child })

  it("inherits columns, rules and defaults, which may be replaced", function()
    local record = Grandchild:create { key = "k", more = "m" }
    assert.equal(2, record.n)
    assert.equal("m", helper.doc("plain").more)
    assert.equal(1, Base:create({ key = "b" }).n)
    expect_refused("E_VALIDATION", function() Grandchild:create {} end)
    expect_refused("E_UNDEFINED_COLUMN", function() Base:new { more = "m" } end)
  end)

  it("inherits methods and statics, also those that come later", function()
    function Base:shout() return self.key:upper() end
    function Base.say() return "base" end
    assert.equal("K", Grandchild:new({ key = "k" }):shout())
    assert.equal("base", Grandchild.say())
    function Child:shout() return self.key .. "!" end
    assert.equal("k!", Grandchild:new({ key = "k" }):shout())
    assert.equal("K", Base:new({ key = "k" }):shout())
  end)

  it("inherits relations", function()
    assert.is_true(Grandchild:has_relation("users"))
    helper.create_index("plain_users", { { "plain_id", 1 } })
    local user, record = User:create { name = "u" }, Grandchild:create { key = "k" }
    record.users:attach(user)
    assert.equal("u", record.users:exec()[1].name)
    assert.equal(Grandchild, Grandchild:get_relation("users").model)
  end)

  it("needs a model", function()
    expect_refused("E_UNDEFINED_MODEL", function() lumo.model("StaticX", { extends = "StaticBasis" }) end)
    expect_refused("E_ARGUMENT", function() lumo.model("StaticX", { extends = 5 }) end)
  end)
end)

describe("validation", function()
  local Checked = lumo.model("StaticChecked", {
    collection = "plain",
    columns = {
      key = { "string", required = true, min = 2, max = 4, match = "^%a+$" },
      n = { "integer", min = 0, max = 10 },
      kind = { "string", enum = { "a", "b" } },
      even = { "integer", validate = function(value) return value % 2 == 0, "is odd" end },
      list = { "array", of = { "integer", min = 0 }, max = 2 },
      inner = { "object", columns = { size = { "integer", max = 5 }, name = { "string", required = true } } },
    },
  })

  it("lets through what keeps the rules", function()
    Checked:create {
      key = "abcd", n = 10, kind = "b", even = 2, list = { 1, 2 }, inner = { size = 5, name = "x" },
    }
    Checked:create { key = "ab", n = 0 }
    Checked:create { key = "abc" }
    assert.equal(3, Checked:count())
  end)

  it("raises all failures in one error, with nothing sent", function()
    local err = expect_refused("E_VALIDATION", function()
      Checked:create { key = "1", n = 11, kind = "c", even = 3, list = { 1, 2, 3 } }
    end)
    local rules = {}
    for _, one in ipairs(err.errors) do
      rules[#rules + 1] = one.attribute .. " " .. one.rule
      assert.equal("string", type(one.message))
    end
    table.sort(rules)
    assert.same({ "even validate", "key match", "key min", "kind enum", "list max", "n max" }, rules)
    assert.equal("StaticChecked", err.model)
    assert.equal("not_applied", err.outcome)
    assert.is_truthy(err.message:find("is odd", 1, true))
    assert.is_nil(err.message:find("11", 1, true))
  end)

  it("required wants a value, not null", function()
    expect_refused("E_VALIDATION", function() Checked:create {} end)
    expect_refused("E_VALIDATION", function() Checked:create { key = lumo.null } end)
    local record = Checked:create { key = "ab" }
    record.key = nil
    local err = expect_refused("E_VALIDATION", function() record:save() end)
    assert.equal("required", err.errors[1].rule)
    assert.same({ key = lumo.null }, record.dirty)
  end)

  it("looks into arrays and objects", function()
    local err = expect_refused("E_VALIDATION", function() Checked:create { key = "ab", list = { 1, -1 } } end)
    assert.equal("list.2", err.errors[1].attribute)
    err = expect_refused("E_VALIDATION", function() Checked:create { key = "ab", inner = { size = 6 } } end)
    local seen = pluck(err.errors, "attribute")
    table.sort(seen)
    assert.same({ "inner.name", "inner.size" }, seen)
    for _, column in ipairs {
      { "array", of = { "integer", min = 0 } },
      { "array", of = { "object", columns = { n = { "integer", min = 0 } } } },
    } do
      local Inner = lumo.model("StaticInner", { collection = "plain", columns = { list = column } })
      local bad = column.of[1] == "integer" and { 1, -1 } or { { n = 1 }, { n = -1 } }
      expect_refused("E_VALIDATION", function() Inner:create { list = bad } end)
    end
  end)

  it("counts characters, not bytes", function()
    local Named = lumo.model("StaticNamed", {
      collection = "plain", columns = { key = { "string", max = 4, min = 4 } },
    })
    assert.equal("äöüß", Named:create({ key = "äöüß" }).key)
    expect_refused("E_VALIDATION", function() Named:create { key = "äö" } end)
  end)

  it("of a stored record is of what changed", function()
    helper.insert("plain", { { key = "way too long", n = 99, kind = 5 } })
    local record = Checked:first()
    record.even = 4
    record:save()
    assert.equal(4, helper.doc("plain").even)
    record.n = 98
    expect_refused("E_VALIDATION", function() record:save() end)
    record.n = 5
    record:save()
    local part = Checked:query():select("n"):first()
    part.n = 6
    part:save()
    assert.equal(6, helper.doc("plain").n)
    assert.equal("way too long", helper.doc("plain").key)
  end)

  it("is for create_many too: none is stored", function()
    expect_refused("E_VALIDATION", function() Checked:create_many { { key = "ab" }, { key = "1" } } end)
    assert.equal(0, Checked:count())
  end)

  it("validate may raise, and says so by itself", function()
    local Raising = lumo.model("StaticRaising", {
      collection = "plain", columns = { key = { "string", validate = function() error("mine", 0) end } },
    })
    assert.equal("mine", select(2, pcall(Raising.create, Raising, { key = "x" })))
  end)

  it("rules must be well made", function()
    for _, bad in ipairs {
      { "string", min = "2" }, { "string", match = 5 }, { "string", enum = "a" }, { "string", validate = "x" },
      { "string", required = "yes" }, { "date", min = 1 }, { "binary", max = 1 }, { "object", min = 1 },
    } do
      expect_refused("E_ARGUMENT", function() lumo.model("StaticBad", { columns = { key = bad } }) end)
    end
  end)

  it("of bounds hold for decimals and large integers", function()
    local Bounded = lumo.model("StaticBounded", { collection = "plain", columns = {
      price = { "decimal", min = 0, max = 10 }, n = { "integer", max = 100 },
    } })
    local function broken(values)
      return helper.pluck(expect_refused("E_VALIDATION", function() Bounded:create(values) end).errors, "rule")
    end
    assert.same({ "min" }, broken { price = lumo.decimal("-0.01") })
    assert.same({ "max" }, broken { price = lumo.decimal("10.01") })
    assert.same({ "max" }, broken { price = lumo.decimal("Infinity") })
    assert.same({ "max" }, broken { n = lumo.int64("9223372036854775807") })
    assert.equal("9.99", tostring(Bounded:create { price = lumo.decimal("9.99"), n = 100 }.price))
  end)

  it("a malformed pattern is the definition's mistake, and says whose", function()
    local Malformed = lumo.model("StaticMalformed", {
      collection = "plain", columns = { key = { "string", match = "a[" } },
    })
    local err = expect_refused("E_ARGUMENT", function() Malformed:create { key = "a" } end)
    assert.is_truthy(err.message:find('"match" of column "key"', 1, true))
  end)
end)

describe("record:increment", function()
  it("adds in the database and reads the new value", function()
    local user = User:create { name = "a", age = 1 }
    helper.update("users", {}, { ["$set"] = { age = 10, name = "theirs" } })
    expect_commands(1, function() assert.equal(user, user:increment("age")) end)
    assert.equal(11, user.age)
    assert.equal("a", user.name)
    user:increment("age", -5)
    assert.equal(6, helper.doc("users").age)
    user:increment("score", 0.5)
    assert.equal(0.5, user.score)
    assert.is_false(user.is_dirty)
  end)

  it("leaves other changes unsaved, and replaces those of its column", function()
    local user = User:create { name = "a", age = 1 }
    user.name = "b"
    user.age = 50
    user:increment("age")
    assert.equal(2, user.age)
    assert.same({ name = "b" }, user.dirty)
    assert.equal("a", stored())
  end)

  it("refuses what it cannot add to", function()
    local user = User:create { name = "a", age = 1 }
    expect_refused("E_CAST", function() user:increment("name") end)
    expect_refused("E_UNDEFINED_COLUMN", function() user:increment("nope") end)
    expect_refused({ "E_ARGUMENT", "E_CAST" }, function() user:increment("age", "x") end)
    expect_refused({ "E_ARGUMENT", "E_CAST" }, function() user:increment("age", 0.5) end)
    expect_refused({ "E_ARGUMENT", "E_CAST" }, function() user:increment("_id") end)
    expect_refused("E_ARGUMENT", function() user:increment() end)
    expect_refused("E_ARGUMENT", function() User:new({ age = 1 }):increment("age") end)
    helper.clear("users")
    expect_error("E_ROW_NOT_FOUND", function() user:increment("age") end)
    assert.equal(1, user.age)
    User:create { name = "gone" }
    local gone = User:first()
    gone:delete()
    expect_refused("E_MODEL_DELETED", function() gone:increment("age") end)
  end)
end)

describe("record:has_changed", function()
  it("tells whether any of the columns differs from what is stored", function()
    local user = User:create { name = "a", age = 1, tags = { "x" } }
    assert.is_false(user:has_changed())
    user.name = "b"
    assert.is_true(user:has_changed())
    assert.is_true(user:has_changed("name"))
    assert.is_true(user:hasChanged("age", "name"))
    assert.is_false(user:has_changed("age"))
    user.name = "a"
    assert.is_false(user:has_changed("name"))
    user.tags[2] = "y"
    assert.is_true(user:has_changed("tags"))
    user.age = nil
    assert.is_true(user:has_changed("age"))
    expect_refused("E_UNDEFINED_COLUMN", function() user:has_changed("mail") end)
    expect_refused({ "E_UNDEFINED_COLUMN", "E_ARGUMENT" }, function() user:has_changed(5) end)
    expect_refused({ "E_UNDEFINED_COLUMN", "E_ARGUMENT" }, function() user:has_changed(nil) end)
  end)
end)

describe("a failed save", function()
  it("leaves the record as it was", function()
    User:create { email = "taken@x", name = "t" }
    local user = User:create { email = "a@x", name = "a" }
    user.email = "taken@x"
    user.age = 5
    expect_error("E_DUPLICATE_KEY", function() user:save() end)
    assert.same({ email = "taken@x", age = 5 }, user.dirty)
    assert.equal("a@x", user.original.email)
    local fresh = User:new { email = "taken@x" }
    expect_error("E_DUPLICATE_KEY", function() fresh:save() end)
    assert.is_true(fresh.is_new)
    user.email = "b@x"
    user:save()
    assert.equal(5, helper.doc("users", { mail = "b@x" }).age)
  end)

  it("takes back what a before-hook did to its tables", function()
    local Hooked = lumo.model("HookedTables", {
      collection = "users", columns = { tags = "array", age = { "integer", max = 9 } },
    })
    Hooked:before("save", function(user) table.insert(user.tags, "hook") end)
    local user = Hooked:new { tags = { "a" }, age = 10 }
    assert.equal("a", user.tags[1])
    expect_refused("E_VALIDATION", function() user:save() end)
    assert.same({ "a" }, user.tags)
    user.age = 9
    assert.same({ "a", "hook" }, user:save():fresh().tags)
  end)
end)

describe("statics", function()
  it("are called with a colon, on a model", function()
    for _, name in ipairs {
      "new", "create", "create_many", "create_quietly", "query", "all", "first", "first_or_fail", "find",
      "find_or_fail", "find_by", "find_by_or_fail", "find_many", "find_many_by", "first_or_new", "first_or_create",
      "update_or_create", "fetch_or_new_up_many", "fetch_or_create_many", "update_or_create_many", "count",
      "truncate", "transaction", "before", "after", "scope", "add_column", "has_column", "get_column",
      "add_relation", "has_relation", "get_relation", "belongs_to_many", "many_to_many", "ensure_indexes",
      "aggregate",
    } do
      local camel = name:gsub("_(%l)", string.upper)
      assert.equal(User[name], User[camel], name)
      assert.equal("function", type(User[name]), name)
      expect_refused("E_ARGUMENT", function() User[name]() end)
      expect_refused("E_ARGUMENT", function() User[name]({}) end)
    end
  end)

  it("on a plain model leave the other models alone", function()
    Plain:first_or_create({ key = "a" }, { n = 1 })
    assert.equal(0, User:count())
    assert.equal("a", stored("plain", "key"))
  end)
end)
