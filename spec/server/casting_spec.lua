-- What a column takes and what it refuses, the same on every way in; and that data never becomes instruction.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("casting")
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused

-- A value given where a value is expected may be refused in two ways: no such value, or misuse.
local REFUSED = { "E_CAST", "E_ARGUMENT" }

local NAN = 0 / 0
local INFINITE = 1 / 0

local Thing = lumo.model("CastingThing", {
  collection = "things",
  columns = {
    string = "string",
    integer = "integer",
    int32 = "int32",
    int64 = "int64",
    number = "number",
    boolean = "boolean",
    date = "date",
    objectid = "objectid",
    decimal = "decimal",
    binary = "binary",
    uuid = "uuid",
    array = "array",
    words = { "array", of = "string" },
    object = "object",
    address = { "object", columns = { street = "string", number = "integer" } },
    any = "any",
  },
  relations = {
    parts = lumo.belongs_to_many("CastingPart", "CastingThingPart", "thing_id", "part_id"),
  },
})

local Part = lumo.model("CastingPart", {
  collection = "parts",
  columns = { name = "string" },
})

lumo.model("CastingThingPart", {
  collection = "thing_parts",
  columns = {
    thing_id = "objectid",
    part_id = "objectid",
    weight = "integer",
    role = "string",
    since = "date",
    info = "object",
  },
})

before_each(function()
  helper.clear("things", "parts", "thing_parts")
end)

local HEX = "60a1e2c3d4e5f6a7b8c9d0e1"
local UUID = "00112233-4455-6677-8899-aabbccddeeff"

-- column, value given, what is read back (as text where it is a value type), the stored BSON type
local accepted = {
  { "string", "text", "text", "string" },
  { "string", "", "", "string" },
  { "string", "nul \0 inside", "nul \0 inside", "string" },
  { "string", "$dollar.dot", "$dollar.dot", "string" },
  { "string", "grüße 🎉", "grüße 🎉", "string" },
  { "integer", 5, 5 },
  { "integer", 5.0, 5 },
  { "integer", -2 ^ 53, -2 ^ 53 },
  { "int32", 2147483647, 2147483647, "int" },
  { "int32", -2147483648, -2147483648, "int" },
  { "int64", 5, 5, "long" },
  { "int64", 2 ^ 53, 2 ^ 53, "long" },
  { "number", 5.5, 5.5, "double" },
  { "number", INFINITE, INFINITE, "double" },
  { "boolean", true, true, "bool" },
  { "boolean", false, false, "bool" },
  { "date", 0, "1970-01-01T00:00:00", "date" },
  { "date", 1.5, "1970-01-01T00:00:01.5", "date" },
  { "date", -1, "1969-12-31T23:59:59", "date" },
  { "date", "2020-02-29T12:30:00Z", "2020-02-29T12:30:00", "date" },
  { "date", "2020-02-29T12:30:00", "2020-02-29T12:30:00", "date" },
  { "date", "2020-02-29T12:30:00+02:00", "2020-02-29T10:30:00", "date" },
  { "date", lumo.datetime("2020-02-29T12:30:00Z"), "2020-02-29T12:30:00", "date" },
  { "objectid", HEX, HEX, "objectId" },
  { "objectid", HEX:upper(), HEX, "objectId" },
  { "objectid", lumo.objectid(HEX), HEX, "objectId" },
  { "decimal", "1.50", "1.50", "decimal" },
  { "decimal", lumo.decimal("-0.001"), "-0.001", "decimal" },
  { "binary", "\0\255bytes", nil, "binData" },
  { "uuid", UUID, UUID, "binData" },
  { "uuid", lumo.uuid(UUID), UUID, "binData" },
}

local refused = {
  { "string", 5 }, { "string", true }, { "string", {} }, { "string", { "a" } }, { "string", "\255" },
  { "string", "cut \226\130" }, { "string", "surrogate \237\160\128" }, { "string", lumo.objectid(HEX) },
  { "integer", 5.5 }, { "integer", "5" }, { "integer", "" }, { "integer", true }, { "integer", NAN },
  { "integer", INFINITE }, { "integer", 2 ^ 63 }, { "integer", {} }, { "integer", -2 ^ 64 },
  { "int32", 2147483648 }, { "int32", -2147483649 }, { "int32", 0.5 },
  { "int64", 2 ^ 63 }, { "int64", "9" },
  { "number", "5.5" }, { "number", true }, { "number", {} },
  { "boolean", "true" }, { "boolean", 1 }, { "boolean", 0 }, { "boolean", {} },
  { "date", "yesterday" }, { "date", "2020-13-01T00:00:00Z" }, { "date", "2020-02-30" }, { "date", NAN },
  { "date", INFINITE }, { "date", true }, { "date", {} }, { "date", "" },
  { "objectid", "60a1e2c3" }, { "objectid", HEX .. "00" }, { "objectid", ("z"):rep(24) }, { "objectid", 5 },
  { "objectid", ("\1"):rep(12) }, { "objectid", {} },
  { "decimal", "one" }, { "decimal", "" }, { "decimal", true },
  { "binary", 5 }, { "binary", true },
  { "uuid", "0011" }, { "uuid", 5 }, { "uuid", "00112233-4455-6677-8899-aabbccddeefg" },
  { "array", "a" }, { "array", { a = 1 } }, { "array", { 1, a = 2 } }, { "array", { [1] = 1, [3] = 3 } },
  { "array", { [0] = 1, [1] = 2 } },
  { "words", { 1 } }, { "words", { "a", true } }, { "words", { { "a" } } }, { "words", { "a", [3] = "c" } },
  { "object", "a" }, { "object", { 1, 2 } }, { "object", { 1, a = 2 } }, { "object", { [1.5] = 1 } },
  { "object", { [true] = 1 } },
  { "address", { number = "x" } }, { "address", { street = 5 } },
  { "any", { 1, a = 2 } }, { "any", function() end }, { "any", coroutine.create(function() end) },
  { "any", io.stdout }, { "any", "\255" }, { "any", { "\255" } },
}

local function describe_value(value)
  if type(value) == "string" then
    return ("%q"):format(value):gsub("[^\32-\126]", "?")
  end
  return type(value) .. " " .. tostring(value)
end

describe("a column takes", function()
  for _, row in ipairs(accepted) do
    local column, value, read, bson_type = row[1], row[2], row[3], row[4]

    it(("%s: %s"):format(column, describe_value(value)), function()
      local created = Thing:create { [column] = value }
      local assigned = Thing:new()
      assigned[column] = value
      assigned:save()
      for _, id in ipairs { created._id, assigned._id } do
        local found = Thing:find(id)
        if type(read) == "string" then
          assert.equal(read, tostring(found[column]):sub(1, #read))
        elseif read ~= nil then
          assert.equal(read, found[column])
        end
        if bson_type then
          assert.equal(bson_type, helper.type_of("things", { _id = id }, column))
        end
      end
      assert.equal(2, Thing:query():where(column, value):count())
      assert.equal(2, Thing:query():where(column, "=", value):count())
      assert.equal(2, Thing:query():where_in(column, { value }):count())
    end)
  end

  it("integers as integers, on a Lua that knows them", function()
    local thing = Thing:create { integer = 5.0, any = 5 }
    assert.is_truthy(({ int = true, long = true })[helper.type_of("things", {}, "integer")])
    assert.is_truthy(({ int = true, long = true })[helper.type_of("things", {}, "any")])
    if math.type then
      assert.equal("integer", math.type(Thing:find(thing._id).integer))
    end
  end)

  it("64 bits of an integer", function()
    local big = lumo.int64("9223372036854775807")
    Thing:create { int64 = big }
    assert.equal("9223372036854775807", tostring(Thing:first().int64))
    assert.equal(1, Thing:query():where("int64", big):count())
  end)

  it("a table of os.date, read as local time", function()
    local now = os.time()
    Thing:create { date = os.date("*t", now) }
    assert.equal(now, Thing:first().date:seconds())
  end)

  it("bytes as bytes", function()
    local bytes = "\0\1\255\254 bytes"
    Thing:create { binary = bytes }
    assert.equal(lumo.binary(bytes), Thing:first().binary)
    assert.equal(1, Thing:query():where("binary", bytes):count())
  end)

  it("null everywhere", function()
    for column in pairs { string = 1, integer = 1, date = 1, objectid = 1, array = 1, object = 1, any = 1 } do
      helper.clear("things")
      Thing:create { [column] = lumo.null }
      assert.equal("null", helper.type_of("things", {}, column))
      assert.is_nil(Thing:first()[column])
    end
  end)

  it("arrays and objects with what they hold", function()
    local thing = Thing:create {
      array = { 1, "two", { three = 3 }, { 4, 5 }, lumo.null },
      object = { a = { b = { c = "deep" } }, list = { 1, 2 } },
      address = { street = "Main", number = 5 },
      any = lumo.array {},
    }
    local found = Thing:find(thing._id)
    assert.equal("two", found.array[2])
    assert.equal(3, found.array[3].three)
    assert.equal(5, found.array[4][2])
    assert.equal(lumo.null, found.array[5])
    assert.equal(5, #found.array)
    assert.equal("deep", found.object.a.b.c)
    assert.equal("Main", found.address.street)
    assert.equal("array", helper.type_of("things", {}, "any"))
  end)
end)

describe("a column refuses", function()
  for _, row in ipairs(refused) do
    local column, value = row[1], row[2]

    it(("%s: %s"):format(column, describe_value(value)), function()
      local thing = Thing:create { any = "before" }

      local err = expect_refused("E_CAST", function() thing[column] = value end)
      assert.is_truthy(tostring(err.message):find(column, 1, true))
      assert.is_false(thing.is_dirty)
      expect_refused("E_CAST", function() thing:set(column, value) end)
      expect_refused("E_CAST", function() thing:merge { [column] = value } end)
      expect_refused("E_CAST", function() return Thing:new { [column] = value } end)
      expect_refused("E_CAST", function() Thing:create { [column] = value } end)
      expect_refused("E_CAST", function() Thing:query():everything():update { [column] = value } end)

      assert.equal("before", thing.any)
      assert.is_false(thing.is_dirty)
      assert.equal(1, #helper.docs("things"))
      assert.equal("before", helper.doc("things").any)
    end)
  end

  it("the same values in filters, for scalars", function()
    for _, row in ipairs(refused) do
      local column, value = row[1], row[2]
      if column ~= "array" and column ~= "words" and column ~= "object" and column ~= "address" then
        expect_refused(REFUSED, function() Thing:query():where(column, value):exec() end)
        expect_refused(REFUSED, function() Thing:query():where(column, "!=", value):exec() end)
        expect_refused(REFUSED, function() Thing:query():where_in(column, { value }):exec() end)
        expect_refused(REFUSED, function() Thing:query():where { [column] = value }:exec() end)
        expect_refused(REFUSED, function() Thing:find_by(column, value) end)
      end
    end
  end)

  it("assigning at the caller's line, naming attribute and model", function()
    local err = expect_error("E_CAST", function() Thing:new().integer = "five" end)
    assert.equal("integer", err.attribute)
    assert.equal("CastingThing", err.model)
    assert.is_nil(err.message:find("five", 1, true))
    assert.is_truthy(tostring(err):find("casting_spec.lua", 1, true))
  end)
end)

describe("pivot data", function()
  local thing, part

  before_each(function()
    thing = Thing:create { string = "x" }
    part = Part:create { name = "p" }
  end)

  it("is cast by the pivot model", function()
    thing.parts:attach { [part._id] = { weight = 5.0, since = "2020-02-29T12:30:00Z" } }
    local row = helper.doc("thing_parts")
    assert.equal(5, row.weight)
    assert.is_truthy(({ int = true, long = true })[helper.type_of("thing_parts", {}, "weight")])
    assert.equal(lumo.datetime("2020-02-29T12:30:00Z"), row.since)
  end)

  it("is refused where the pivot model cannot hold it", function()
    for _, attributes in ipairs {
      { weight = "heavy" }, { weight = 1.5 }, { since = "yesterday" }, { role = 5 }, { info = { 1, 2 } },
      { info = { ["$set"] = 1 } }, { info = { ["a.b"] = 1 } }, { role = "\255" }, { weight = 2 ^ 63 },
      { other = { 1, a = 2 } }, { other = { ["$inc"] = { n = 1 } } }, { role = { ["$ne"] = 1 } },
    } do
      expect_refused("E_CAST", function() thing.parts:attach { [part._id] = attributes } end)
      expect_refused("E_CAST", function() thing.parts:sync { [part._id] = attributes } end)
      expect_refused("E_CAST", function()
        thing.parts:attach_with_pivot_data { { id = part._id, pivot_data = attributes } }
      end)
      expect_refused("E_CAST", function() thing.parts:update_pivot_data(part._id, attributes) end)
    end
    assert.equal(0, #helper.docs("thing_parts"))
  end)

  it("with names that are operators or paths is refused", function()
    thing.parts:attach { part._id }
    for _, name in ipairs { "$set", "$inc", "a.b", "", "nul\0", "info.x" } do
      local attributes = { [name] = "x" }
      expect_refused(REFUSED, function() thing.parts:attach { [part._id] = attributes } end)
      expect_refused(REFUSED, function() thing.parts:update_pivot_data(part._id, attributes) end)
    end
    assert.is_nil(helper.doc("thing_parts").info)
  end)

  it("is stored literally when it looks like an expression", function()
    thing.parts:attach { [part._id] = { role = "$thing_id", note = "$$ROOT" } }
    assert.equal("$thing_id", helper.doc("thing_parts").role)
    assert.equal("$$ROOT", helper.doc("thing_parts").note)

    thing.parts:attach { [part._id] = { role = "$_id" } }
    thing.parts:sync_with_pivot_data { { id = part._id, pivot_data = { note = "$role" } } }
    assert.equal("$_id", helper.doc("thing_parts").role)
    assert.equal("$role", helper.doc("thing_parts").note)

    thing.parts:update_pivot_data(part._id, { role = "$$REMOVE" })
    assert.equal("$$REMOVE", helper.doc("thing_parts").role)
    assert.equal("$$REMOVE", thing.parts:pivot_data(part._id).role)
  end)
end)

describe("relation keys", function()
  local thing

  before_each(function()
    thing = Thing:create { string = "x" }
    thing.parts:attach { Part:create({ name = "a" })._id, Part:create({ name = "b" })._id }
  end)

  local bad_ids = {
    5, true, "", "not an id", "60a1e2c3", NAN, { ["$ne"] = 1 }, { ["$gt"] = "" }, { ["$in"] = { 1 } },
    io.stdout, print, lumo.null, lumo.datetime.now(),
  }

  it("are no place for operators or other values", function()
    for _, id in ipairs(bad_ids) do
      expect_refused(REFUSED, function() thing.parts:exists(id) end)
      expect_refused(REFUSED, function() thing.parts:attach { id } end)
      expect_refused(REFUSED, function() thing.parts:sync { id } end)
      expect_refused(REFUSED, function() thing.parts:detach { id } end)
      expect_refused(REFUSED, function() thing.parts:toggle { id } end)
      expect_refused(REFUSED, function() thing.parts:pivot_data(id) end)
      expect_refused(REFUSED, function() thing.parts:update_pivot_data(id, { weight = 1 }) end)
      expect_refused(REFUSED, function()
        thing.parts:attach_with_pivot_data { { id = id, pivot_data = { weight = 1 } } }
      end)
    end
    assert.equal(2, #helper.docs("thing_parts"))
  end)

  it("refuse operator tables given instead of a list", function()
    for _, ids in ipairs { { ["$ne"] = 1 }, { ["$gt"] = "" }, { ["$exists"] = true } } do
      expect_refused(REFUSED, function() thing.parts:attach(ids) end)
      expect_refused(REFUSED, function() thing.parts:sync(ids) end)
      expect_refused(REFUSED, function() thing.parts:detach(ids) end)
      expect_refused(REFUSED, function() thing.parts:toggle(ids) end)
    end
    for _, ids in ipairs { { ["$in"] = { 1 } }, { ["$or"] = { {} } } } do
      expect_refused(REFUSED, function() thing.parts:attach(ids) end)
      expect_refused(REFUSED, function() thing.parts:sync(ids) end)
      expect_refused(REFUSED, function() thing.parts:detach(ids) end)
    end
    assert.equal(2, #helper.docs("thing_parts"))
  end)
end)

describe("operator tables", function()
  before_each(function()
    Thing:create { string = "secret", integer = 5, object = { a = 1 }, any = "x" }
  end)

  it("are refused as values of scalar columns", function()
    for _, operator in ipairs { { ["$ne"] = 1 }, { ["$gt"] = "" }, { ["$regex"] = ".*" } } do
      for _, column in ipairs { "string", "integer", "date", "objectid", "boolean" } do
        expect_refused("E_CAST", function() Thing:query():where(column, operator):exec() end)
        expect_refused("E_CAST", function() Thing:query():where { [column] = operator }:exec() end)
        expect_refused("E_CAST", function() Thing:query():where_not(column, operator):exec() end)
        expect_refused("E_CAST", function() Thing:query():where_in(column, { operator }):exec() end)
        expect_refused("E_CAST", function() Thing:find_by(column, operator) end)
        expect_refused("E_CAST", function() Thing:find_by { [column] = operator } end)
        expect_refused("E_CAST", function() Thing:create { [column] = operator } end)
        expect_refused("E_CAST", function() Thing:query():everything():update { [column] = operator } end)
      end
      expect_refused(REFUSED, function() Thing:find(operator) end)
      expect_refused(REFUSED, function() Thing:find_many { operator } end)
    end
  end)

  it("are compared as they stand, or refused, where a column holds tables", function()
    for _, column in ipairs { "object", "any", "array" } do
      for _, operator in ipairs { { ["$ne"] = 1 }, { ["$exists"] = true }, { ["$gt"] = lumo.null } } do
        local ok, result = pcall(function() return Thing:query():where(column, operator):exec() end)
        if ok then
          assert.same({}, result)
        else
          assert.is_truthy(({ E_CAST = true, E_ARGUMENT = true })[result.code], tostring(result))
        end
      end
    end
  end)

  it("are refused in new values, with their path", function()
    local err = expect_refused("E_CAST", function()
      Thing:create { object = { a = { ["$set"] = { string = "x" } } } }
    end)
    assert.is_truthy(err.message:find("object.a", 1, true), err.message)
    expect_refused("E_CAST", function() Thing:create { any = { ["$where"] = "1" } } end)
    expect_refused("E_CAST", function() Thing:create { array = { { ["$ne"] = 1 } } } end)
    local thing = Thing:first()
    thing.object.b = { ["$inc"] = 1 }
    expect_refused("E_CAST", function() thing:save() end)
    assert.same({ a = 1 }, helper.doc("things").object)
  end)

  it("are refused as names", function()
    local wrong = { "E_ARGUMENT", "E_UNDEFINED_COLUMN" }
    for _, name in ipairs { "$where", "$or", "$expr", "string\0", "object.$a", "" } do
      expect_refused(wrong, function() Thing:query():where(name, "x"):exec() end)
      expect_refused(wrong, function() Thing:query():where { [name] = "x" }:exec() end)
      expect_refused(wrong, function() Thing:query():order_by(name):exec() end)
      expect_refused(wrong, function() Thing:query():select(name):exec() end)
      expect_refused(wrong, function() Thing:query():everything():increment(name, 1) end)
      expect_refused({ "E_ARGUMENT", "E_UNDEFINED_COLUMN", "E_CAST" }, function()
        Thing:query():everything():update { [name] = "x" }
      end)
      expect_refused({ "E_ARGUMENT", "E_UNDEFINED_COLUMN", "E_CAST" }, function()
        Thing:create { [name] = "x" }
      end)
    end
  end)
end)

describe("text that looks like an expression", function()
  it("is stored, changed and found literally", function()
    local thing = Thing:create { string = "$integer", any = "$$ROOT", object = { a = "$string" } }
    assert.equal("$integer", helper.doc("things").string)
    assert.equal("$$ROOT", helper.doc("things").any)
    assert.equal(1, Thing:query():where("string", "$integer"):count())
    assert.equal(1, Thing:query():where("any", "$$ROOT"):count())

    thing.string = "$any"
    thing:save()
    assert.equal("$any", helper.doc("things").string)
    Thing:query():where("string", "$any"):update { string = "$$NOW", integer = 1 }
    assert.equal("$$NOW", helper.doc("things").string)
    assert.equal("$string", helper.doc("things").object.a)
  end)
end)

describe("tables with metatables", function()
  it("are taken for what they hold themselves", function()
    local sly = setmetatable({ a = 1 }, { __index = { b = 2 } })
    Thing:create { object = sly }
    assert.same({ a = 1 }, helper.doc("things").object)
  end)

  it("cannot run code while they are stored", function()
    local ran = false
    local sly = setmetatable({ a = 1 }, {
      __index = function() ran = true end,
      __pairs = function() ran = true; return function() end end,
      __len = function() ran = true; return 5 end,
      __tostring = function() ran = true; return "x" end,
    })
    Thing:create { object = sly }
    assert.is_false(ran)
    assert.same({ a = 1 }, helper.doc("things").object)
  end)
end)

describe("records as values", function()
  it("are refused", function()
    local thing = Thing:create { string = "x" }
    for _, column in ipairs { "string", "object", "any", "array", "objectid" } do
      expect_refused("E_CAST", function() Thing:create { [column] = thing } end)
    end
  end)
end)

describe("documents that cannot be stored", function()
  local thing

  before_each(function()
    thing = Thing:create { string = "before" }
  end)

  local function unchanged()
    assert.equal(1, #helper.docs("things"))
    assert.equal("before", helper.doc("things").string)
  end

  local function nested(depth)
    local root = {}
    local at = root
    for _ = 2, depth do
      at.n = {}
      at = at.n
    end
    return root
  end

  it("because they are too deep", function()
    for _, depth in ipairs { 102, 1000, 100000 } do
      expect_refused("E_CAST", function() Thing:create { any = nested(depth) } end)
      expect_refused(REFUSED, function() Thing:query():where("any", nested(depth)):exec() end)
    end
    unchanged()
    Thing:create { string = "deep", any = nested(90) }
    assert.equal(1, Thing:query():where("any", nested(90)):count())
  end)

  it("because they contain themselves", function()
    local cycle = { a = {} }
    cycle.a.b = cycle
    expect_refused("E_CAST", function() Thing:create { object = cycle } end)
    expect_refused("E_CAST", function() thing.any = cycle end)
    thing.any = { a = {} }
    thing.any.a.b = thing.any
    expect_refused("E_CAST", function() thing:save() end)
    unchanged()
  end)

  it("because of a table that is held twice, which is no cycle, they can", function()
    local shared = { n = 1 }
    Thing:create { string = "twice", object = { a = shared, b = shared } }
    assert.same({ a = { n = 1 }, b = { n = 1 } }, helper.doc("things", { string = "twice" }).object)
  end)

  it("because of their keys, whose path is named", function()
    for _, key in ipairs { "$a", "a.b", "", "nul\0", "\255" } do
      local err = expect_refused("E_CAST", function() Thing:create { object = { inner = { [key] = 1 } } } end)
      assert.is_truthy(err.message:find("object.inner", 1, true), err.message)
      expect_refused("E_CAST", function() Thing:create { array = { { [key] = 1 } } } end)
    end
    unchanged()
  end)

  it("because they have holes", function()
    expect_refused("E_CAST", function() Thing:create { any = { 1, nil, 3 } } end)
    expect_refused("E_CAST", function() Thing:create { array = { 1, 2, nil, 4 } } end)
    expect_refused("E_CAST", function() Thing:create { object = { list = { [2] = "b" } } } end)
    unchanged()
  end)

  it("because they are larger than 16 MB", function()
    local large = ("x"):rep(17 * 1024 * 1024)
    local codes = { "E_CAST", "E_ARGUMENT", "E_WRITE" }
    expect_refused(codes, function() Thing:create { string = large } end)
    expect_refused(codes, function() thing.string = large end)
    assert.is_false(thing.is_dirty)
    -- Two values that fit, in a document that does not.
    thing.string, thing.any = large:sub(1, 9 * 1024 * 1024), large:sub(1, 9 * 1024 * 1024)
    expect_refused(codes, function() thing:save() end)
    assert.is_true(thing.is_dirty)
    unchanged()
    thing.any = nil
    thing.string = "small again"
    thing:save()
    assert.equal("small again", helper.doc("things").string)
  end)

  it("but keys that a stored document already has are written back", function()
    -- By $setField, as an update cannot name such a field.
    local stage = {
      ["$set"] = {
        object = { ["$setField"] = { field = "a.b", input = { old = 1 }, value = "dotted" } },
      },
    }
    helper.update("things", {}, lumo.array { stage })
    local found = Thing:first()
    assert.equal("dotted", found.object["a.b"])
    found.object.old = 2
    found:save()
    assert.same({ old = 2, ["a.b"] = "dotted" }, helper.doc("things").object)
  end)
end)
