-- The value types and the error objects, and how columns take and give them. Nothing here needs a connection.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo
local core = require "lumo.core"

local expect_error, is_jit = helper.expect_error, helper.is_jit

local HEX = "60a1e2c3d4e5f6a7b8c9d0e1"
local UUID = "00112233-4455-6677-8899-aabbccddeeff"
local NAN = 0 / 0

local function refused(fn, ...)
  return expect_error("E_ARGUMENT", fn, ...)
end

local function contains(text, part)
  assert.is_truthy(text:find(part, 1, true), ("%q is not in %q"):format(part, text))
end

describe("an objectid", function()
  it("is made of 24 hex digits, of either case, and gives them back", function()
    assert.equal(HEX, tostring(lumo.objectid(HEX)))
    assert.equal(HEX, tostring(lumo.objectid(HEX:upper())))
  end)

  it("is one value however it was made", function()
    local id = lumo.objectid(HEX)
    assert.is_true(rawequal(id, lumo.objectid(HEX)))
    assert.is_true(rawequal(id, lumo.objectid(id)))
    assert.is_true(rawequal(id, lumo.bson.decode(lumo.bson.encode { id = id }).id))
    assert.equal("found", ({ [id] = "found" })[lumo.objectid(HEX)])
    assert.is_false(id == lumo.objectid())
  end)

  it("is forgotten when nothing holds it, and comes back equal", function()
    local texts = {}
    for i = 1, 1000 do
      texts[i] = tostring(lumo.objectid())
    end
    local kept = lumo.objectid(texts[1])
    collectgarbage()
    collectgarbage()
    assert.is_true(rawequal(kept, lumo.objectid(texts[1])))
    assert.equal(texts[2], tostring(lumo.objectid(texts[2])))
  end)

  it("stays the same value while thousands of others come and go", function()
    local kept = {}
    for i = 1, 20000 do
      local id = lumo.objectid()
      if i % 7 == 0 then kept[#kept + 1] = { id, tostring(id) } end
      if i % 3000 == 0 then
        kept = { (table.unpack or unpack)(kept, #kept - 200) }
        collectgarbage()
      end
    end
    for _, pair in ipairs(kept) do
      assert.is_true(rawequal(pair[1], lumo.objectid(pair[2])))
      assert.equal(pair[2], tostring(pair[1]))
    end
  end)

  it("is one value even if a finalizer makes it while it is made", function()
    local proxy = rawget(_G, "newproxy")
    local texts, wanted = {}, 0
    for i = 1, 3000 do
      texts[i] = tostring(lumo.objectid())
    end
    local drop
    function drop() -- leaves garbage whose finalizer makes the ids that are made just then, and others
      local function finalize()
        if wanted == 0 then return end
        local held = {}
        for i = math.max(wanted - 2, 1), math.min(wanted + 2, #texts) do
          held[i] = lumo.objectid(texts[i])
        end
        for i, id in pairs(held) do
          assert(rawequal(id, lumo.objectid(texts[i])))
        end
        drop()
      end
      if not proxy then return setmetatable({}, { __gc = finalize }) end
      getmetatable(proxy(true)).__gc = finalize
    end
    local held = {}
    drop()
    for i, text in ipairs(texts) do
      wanted = i
      held[i] = lumo.objectid(text)
    end
    wanted = 0
    for i, text in ipairs(texts) do
      assert.is_true(rawequal(held[i], lumo.objectid(text)))
    end
  end)

  it("is new each time without an argument", function()
    local seen = {}
    for _ = 1, 10000 do
      local id = lumo.objectid()
      assert.is_nil(seen[id])
      seen[id] = true
    end
  end)

  it("has the order of its bytes", function()
    local low, high = lumo.objectid(("0"):rep(24)), lumo.objectid("8" .. ("0"):rep(23))
    assert.is_true(low < high)
    assert.is_true(low <= low)
    assert.is_false(high <= low)
    local ids = { high, low }
    table.sort(ids)
    assert.equal(low, ids[1])
  end)

  it("is not made of anything else", function()
    for _, text in ipairs { "", HEX:sub(2), HEX .. "0", ("g"):rep(24), " " .. HEX:sub(2), ("\1"):rep(12) } do
      refused(lumo.objectid, text)
    end
    for _, value in ipairs { 5, true, {}, print, lumo.null } do
      refused(lumo.objectid, value)
    end
    refused(lumo.objectid, nil)
  end)

  it("cannot be tampered with", function()
    local id = lumo.objectid(HEX)
    assert.is_false(getmetatable(id))
    assert.is_false(pcall(setmetatable, id, {}))
    assert.is_false(pcall(function() id.x = 1 end))
    assert.is_false(pcall(function() return id .. "" end))
  end)
end)

describe("a datetime", function()
  it("is made of seconds, of text, of a table, of milliseconds", function()
    assert.equal("1970-01-01T00:00:01.500Z", tostring(lumo.datetime(1.5)))
    assert.equal("1969-12-31T23:59:59.000Z", tostring(lumo.datetime(-1)))
    assert.equal("2020-02-29T10:30:00.000Z", tostring(lumo.datetime("2020-02-29T12:30:00+02:00")))
    assert.equal("2020-02-29T00:00:00.000Z", tostring(lumo.datetime("2020-02-29")))
    assert.equal("1970-01-01T00:00:00.001Z", tostring(lumo.datetime.from_ms(1)))
    local now = os.time()
    assert.equal(now, lumo.datetime(os.date("*t", now)):seconds())
    for _, parts in ipairs {
      { year = 2024, month = 7, day = 1 }, { year = 2024, month = 14, day = -3, hour = 30 },
    } do
      local seconds = lumo.datetime(parts):seconds()
      assert.equal(os.time(parts), seconds)
    end
    assert.equal(lumo.datetime(5), lumo.datetime(lumo.datetime(5)))
  end)

  it("rounds fractions of a millisecond", function()
    assert.equal(2, lumo.datetime(0.0016).ms)
    assert.equal(1, lumo.datetime(0.0014).ms)
    assert.equal(1700000000123, lumo.datetime(1700000000.123).ms)
  end)

  it("gives its milliseconds and seconds", function()
    local moment = lumo.datetime.from_ms(1700000000123)
    assert.equal(1700000000123, moment.ms)
    assert.equal(1700000000.123, moment:seconds())
    assert.is_nil(moment.nope)
    refused(function() return moment.seconds() end)
  end)

  it("is this moment", function()
    local before = os.time()
    local now = lumo.datetime.now():seconds()
    assert.is_true(now >= before and now < before + 60)
  end)

  it("compares and subtracts", function()
    local a, b = lumo.datetime(100), lumo.datetime(160.5)
    assert.is_true(a == lumo.datetime(100))
    assert.is_true(a ~= b)
    assert.is_true(a < b and a <= b and b > a)
    assert.is_false(b <= a)
    assert.equal(60.5, b - a)
    assert.equal(lumo.datetime(100), b - 60.5)
    refused(function() return a - "x" end)
    refused(function() return a - NAN end)
    assert.is_false(pcall(function() return a < 5 end))
    assert.is_false(a == 100)
    assert.is_false(a == lumo.objectid())
  end)

  it("is not made of what is no date", function()
    for _, value in ipairs {
      "yesterday", "", "2020-02-30", "2020-13-01T00:00:00Z", NAN, 1 / 0, 2 ^ 62, true, {}, { year = 2020 },
      { year = "x", month = 1, day = 1 }, { year = 2020, month = 1.5, day = 1 },
      { year = 2 ^ 40, month = 1, day = 1 }, lumo.null, lumo.objectid(HEX),
    } do
      refused(lumo.datetime, value)
    end
    refused(lumo.datetime, nil)
    refused(lumo.datetime.from_ms, 1.5)
    refused(lumo.datetime.from_ms, "1")
  end)
end)

describe("a decimal", function()
  it("keeps its digits", function()
    for _, text in ipairs { "1.50", "-0.001", "NaN", "Infinity", "0", "1E+3", ("9"):rep(34) } do
      assert.equal(text, tostring(lumo.decimal(text)))
    end
    assert.equal("5", tostring(lumo.decimal(5)))
    assert.is_true(lumo.decimal("1.5") == lumo.decimal("1.5"))
    assert.is_false(lumo.decimal("1.5") == lumo.decimal("1.50"))
  end)

  it("is not made of anything else", function()
    for _, value in ipairs { "", "one", "1.5x", ("9"):rep(35), 1.5, true, {} } do
      refused(lumo.decimal, value)
    end
    refused(lumo.decimal, nil)
  end)
end)

describe("a binary", function()
  it("holds bytes", function()
    local bytes = "\0\1\255 bytes"
    local binary = lumo.binary(bytes)
    assert.equal(bytes, tostring(binary))
    assert.equal(bytes, binary.bytes)
    assert.equal(#bytes, #binary)
    assert.equal(0, binary.subtype)
    assert.equal(128, lumo.binary("x", 128).subtype)
    assert.equal("old", tostring(lumo.binary("old", 2)))
    assert.equal(3, #lumo.binary("old", 2))
    assert.equal("", tostring(lumo.binary ""))
    assert.is_true(binary == lumo.binary(bytes))
    assert.is_false(binary == lumo.binary(bytes, 5))
    assert.is_nil(binary.nope)
  end)

  it("of subtype 4 is a uuid", function()
    local uuid = lumo.uuid(UUID)
    assert.equal(UUID, tostring(uuid))
    assert.equal(UUID, tostring(lumo.uuid(UUID:gsub("-", ""):upper())))
    assert.is_true(uuid == lumo.binary(uuid.bytes, 4))
    assert.equal(UUID, tostring(lumo.binary(uuid.bytes, 4)))
    assert.equal(4, uuid.subtype)
    assert.equal(16, #uuid)
    assert.is_false(lumo.uuid() == lumo.uuid())
    assert.equal("4", tostring(lumo.uuid()):sub(15, 15))
    assert.equal("short", tostring(lumo.binary("short", 4)))
  end)

  it("is not made of anything else", function()
    refused(lumo.binary, 5)
    refused(lumo.binary, nil)
    refused(lumo.binary, "x", 256)
    refused(lumo.binary, "x", -1)
    refused(lumo.binary, "x", "0")
    refused(lumo.uuid, "0011")
    refused(lumo.uuid, UUID .. "0")
    refused(lumo.uuid, nil)
    refused(lumo.uuid, 5)
  end)
end)

describe("an int64", function()
  it("is what reading it gives", function()
    assert.equal(5, lumo.int64("5"))
    assert.equal(-5, lumo.int64(-5))
    assert.equal("9223372036854775807", tostring(lumo.int64("9223372036854775807")))
    assert.equal("-9223372036854775808", tostring(lumo.int64("-9223372036854775808")))
    assert.is_true(lumo.int64("9007199254740993") == lumo.int64("9007199254740993"))
    assert.is_false(lumo.int64("9007199254740993") == lumo.int64("9007199254740994"))
    assert.is_true(lumo.int64("9007199254740993") < lumo.int64("9007199254740994"))
    assert.is_true(lumo.int64("-9223372036854775808") <= lumo.int64("-9223372036854775807"))
    if is_jit then
      assert.equal("userdata", type(lumo.int64("9007199254740993")))
      assert.equal(2 ^ 53, lumo.int64("9007199254740993"):tonumber())
      assert.equal("number", type(lumo.int64("9007199254740992")))
    else
      assert.equal("integer", math.type(lumo.int64("5")))
      assert.equal("integer", math.type(lumo.int64(2 ^ 40)))
    end
  end)

  it("is not made of anything else", function()
    for _, value in ipairs {
      "", "-", "+", "5x", "0x10", " 5", "1.0", "9223372036854775808", "-9223372036854775809", 1.5, 2 ^ 63,
      NAN, true, {},
    } do
      refused(lumo.int64, value)
    end
    refused(lumo.int64, nil)
  end)
end)

describe("the rare kinds", function()
  it("say what they are", function()
    local regex = lumo.regex("^a/b", "xi")
    assert.equal("regex", regex:kind())
    assert.equal("^a/b", regex.pattern)
    assert.equal("ix", regex.flags)
    assert.equal('{"$regularExpression":{"pattern":"^a/b","options":"ix"}}', tostring(regex))
    assert.is_true(regex == lumo.regex("^a/b", "ix"))
    assert.is_false(regex == lumo.regex("^a/b"))
    local timestamp = lumo.timestamp(4294967295, 2)
    assert.equal("timestamp", timestamp:kind())
    assert.equal(4294967295, timestamp.t)
    assert.equal(2, timestamp.i)
    assert.is_nil(timestamp.pattern)
    assert.is_nil(regex.t)
  end)

  it("come from documents and go back", function()
    local json = '{"a":{"$minKey":1},"b":{"$maxKey":1},"c":{"$code":"f()"},'
      .. '"d":{"$code":"f()","$scope":{"x":1}},"e":{"$symbol":"s"},"f":{"$undefined":true},'
      .. '"g":{"$timestamp":{"t":1,"i":2}}}'
    local document = lumo.bson.decode(lumo.bson.from_json(json))
    local kinds = {}
    for key, value in pairs(document) do
      kinds[key] = value:kind()
    end
    assert.same({
      a = "min_key", b = "max_key", c = "code", d = "code_with_scope", e = "symbol", f = "undefined",
      g = "timestamp",
    }, kinds)
    assert.equal(json, lumo.bson.to_json(lumo.bson.encode(document)))
  end)

  it("are not made of anything else", function()
    for _, flags in ipairs { "q", "ii", "imsuxlq", 5, true } do
      refused(lumo.regex, "a", flags)
    end
    refused(lumo.regex, "nul\0")
    refused(lumo.regex, "\255")
    refused(lumo.regex, nil)
    refused(lumo.timestamp, -1, 0)
    refused(lumo.timestamp, 0, 2 ^ 32)
    refused(lumo.timestamp, 1.5, 0)
    refused(lumo.timestamp, 1)
  end)
end)

describe("marks", function()
  it("are put on the table itself, once and again", function()
    local list = { 1, 2 }
    assert.is_true(rawequal(list, lumo.array(list)))
    assert.is_true(rawequal(list, lumo.array(list)))
    assert.is_false(getmetatable(list))
    assert.equal(2, #list)
  end)

  it("are not put on what is protected or no table", function()
    refused(lumo.array, setmetatable({}, { __metatable = "mine" }))
    refused(lumo.array, lumo.ordered {})
    refused(lumo.array, nil)
    refused(lumo.ordered, "x")
  end)
end)

describe("null", function()
  it("is lightuserdata NULL, as other modules have it", function()
    assert.equal("userdata", type(lumo.null))
    assert.equal(lumo.null, lumo.bson.decode(lumo.bson.encode { x = lumo.null }).x)
    local has_cjson, cjson = pcall(require, "cjson")
    if has_cjson then
      assert.equal(cjson.null, lumo.null)
    end
  end)
end)

describe("an error", function()
  it("of misuse names the caller's line in its message", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local err = refused(function() lumo.objectid(5) end)
    contains(err.message, ("values_spec.lua:%d: "):format(line))
    contains(err.where, ("values_spec.lua:%d"):format(line))
    assert.equal("E_ARGUMENT: " .. err.message, tostring(err))
  end)

  it("with a message to the letter has the line beside it", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local err = expect_error("E_CAST", function() lumo.bson.encode { a = print } end)
    assert.equal('"a" expects a value, got function', err.message)
    contains(tostring(err), ("values_spec.lua:%d: E_CAST: "):format(line))
    assert.equal("a", err.attribute)
  end)

  it("made by lumo's Lua is the same", function()
    local fields = { model = "Post", op = "find" }
    local err = expect_error("E_ROW_NOT_FOUND", core.raise, "E_ROW_NOT_FOUND", "Row not found", fields)
    contains(err.where, "helper.lua:")
    assert.equal(err.where .. ": E_ROW_NOT_FOUND: Row not found", tostring(err))
    assert.equal("Post", err.model)
    assert.equal("find", err.op)
    assert.is_true(core.is_error(err))
    assert.is_true(core.is_error(core.error_new("E_TIMEOUT", "x")))
    for _, value in ipairs { {}, "E_TIMEOUT", 5, true, lumo.null, lumo.array {} } do
      assert.is_false(core.is_error(value))
    end
    assert.is_false(getmetatable(err))
  end)

  it("can be printed whatever has been done to it", function()
    local err = core.error_new("E_TIMEOUT", "slow")
    err.code, err.message, err.where = nil, {}, nil
    assert.equal("E_UNKNOWN: ", tostring(err))
  end)
end)

describe("a column", function()
  local columns = {
    string = "string", integer = "integer", int32 = "int32", int64 = "int64", number = "number",
    boolean = "boolean", date = "date", objectid = "objectid", decimal = "decimal", binary = "binary",
    uuid = "uuid", array = "array", object = "object", any = "any",
    words = { "array", of = "string" },
    grid = { "array", of = { "array", of = "integer" } },
    address = { "object", columns = { street = "string", number = { "integer", column = "no", serialize_as = "no" } } },
  }
  local Value = lumo.model("ValuesSpecValue", { collection = "values", columns = columns })
  local Loose = lumo.model("ValuesSpecLoose", { strict = false, columns = columns })

  local function through(column, value, model)
    local record = (model or Value):new()
    record[column] = value
    return record[column]
  end

  -- What the column's value is written as.
  local function written(column, value)
    local record = Value:new()
    record[column] = value
    return (record:to_json():gsub('^{"' .. column .. '":', ""):gsub("}$", ""))
  end

  local function cast_error(column, value)
    local err = expect_error("E_CAST", through, column, value)
    contains(err.message, '"ValuesSpecValue.' .. column)
    return err
  end

  it("says which part of a value it refuses, and never shows it", function()
    for _, case in ipairs {
      { "words", { "a", 5 }, "words[2]", "expects a string, got number" },
      { "words", { "a", [3] = "c" }, "words", "has a hole at position 2" },
      { "grid", { { 1 }, { 2, "x" } }, "grid[2][2]", "expects an integer, got string" },
      { "object", { a = { { b = print } } }, "object.a[1].b", "expects a value, got function" },
      { "object", { a = { ["$set"] = 1 } }, "object.a", 'has a key that begins with "$"' },
      { "object", { a = { ["b.c"] = 1 } }, "object.a", "has a key with a dot" },
      { "object", { [""] = 1 }, "object", "has an empty key" },
      { "object", { ["a\0b"] = 1 }, "object", "has a key with NUL" },
      { "object", { ["\255"] = 1 }, "object", "has a key that is not valid UTF-8" },
      { "object", { a = { "\255" } }, "object.a[1]", "is not valid UTF-8" },
      { "object", { 1, 2 }, "object", "expects an object, got an array" },
      { "object", lumo.array {}, "object", "expects an object, got an array" },
      { "array", { a = 1 }, "array", "expects an array, got a document" },
      { "array", lumo.ordered {}, "array", "expects an array, got a document" },
      { "array", { 1, a = 1 }, "array", "mixes positions and other keys" },
      { "array", { [0] = 1, [1] = 2 }, "array", "mixes positions and other keys" },
      { "object", { a = 1, [1] = 2, [true] = 3 }, "object", nil },
      { "address", { street = 5 }, "address.street", "expects a string, got number" },
      { "address", { number = "5" }, "address.number", "expects an integer, got string" },
      { "integer", 5.5, "integer", "expects an integer, got a number that is not one" },
      { "int32", 2 ^ 31, "int32", "expects an int32, got a larger number" },
      { "objectid", "secret", "objectid", "got text that is not 24 hex digits" },
      { "date", "secret", "date", "got text that is not ISO 8601" },
      { "string", lumo.objectid(HEX), "string", "expects a string, got lumo.objectid" },
      { "any", { lumo.ordered { { "a" } } }, "any[1][1]", "expects a pair" },
      { "any", lumo.ordered { { "a", 1 }, { "a", 2 } }, "any", "has a key twice" },
      { "any", lumo.ordered { { "$a", 1 } }, "any", 'has a key that begins with "$"' },
    } do
      local err = cast_error(case[1], case[2])
      assert.equal(case[3], err.attribute)
      contains(err.message, case[4] or "")
      assert.is_nil(err.message:find("secret", 1, true))
      assert.equal("ValuesSpecValue", err.model)
    end
  end)

  it("refuses what is too deep, too large, or contains itself", function()
    local deep = {}
    for _ = 1, 97 do
      deep = { a = deep }
    end
    assert.is_table(through("any", deep))
    contains(cast_error("any", { a = { a = deep } }).message, "nested deeper than 100")
    local circle = { list = {} }
    circle.list[2], circle.list[1] = circle, "x"
    assert.equal("any.list[2]", cast_error("any", circle).attribute)
    contains(cast_error("any", circle).message, "contains itself")
    local shared = { "x" }
    assert.equal('{"a":["x"],"b":["x"]}', written("any", { a = shared, b = shared }))
    contains(cast_error("any", { ("x"):rep(9e6), ("x"):rep(9e6) }).message, "16 MiB")
    contains(cast_error("string", ("x"):rep(2 ^ 24 + 1)).message, "16 MiB")
  end)

  it("keeps integers of 64 bits exact", function()
    for _, text in ipairs { "9223372036854775807", "-9223372036854775808", "9007199254740993", "0" } do
      assert.equal(text, tostring(through("int64", lumo.int64(text))))
      assert.equal(text, tostring(through("integer", lumo.int64(text))))
      assert.equal(text, tostring(through("any", lumo.int64(text))))
      assert.equal(text, tostring(through("decimal", lumo.int64(text))))
    end
    cast_error("int32", lumo.int64("9007199254740993"))
    cast_error("integer", 2 ^ 63)
    cast_error("integer", -2 ^ 63 - 2048)
    assert.equal("-9223372036854775808", tostring(through("integer", -2 ^ 63)))
  end)

  it("keeps a float's kind where it may", function()
    assert.equal(0.5, through("number", 0.5))
    assert.equal(1 / 0, through("number", 1 / 0))
    local nan = through("number", NAN)
    assert.is_true(nan ~= nan)
    assert.equal(-1 / 0, 1 / through("any", -0.0))
    if not is_jit then
      assert.equal("integer", math.type(through("number", 5)))
      assert.equal("float", math.type(through("number", 5.0)))
      assert.equal("float", math.type(through("any", 5.0)))
      assert.equal("integer", math.type(through("integer", 5.0)))
    end
    cast_error("decimal", 0.5)
  end)

  it("takes {} for what it is", function()
    assert.equal("[]", written("array", {}))
    assert.equal("{}", written("object", {}))
    assert.equal("{}", written("any", {}))
    assert.equal("[]", written("any", lumo.array {}))
    assert.equal("{}", written("any", lumo.ordered {}))
    assert.equal("{}", written("object", lumo.ordered {}))
  end)

  it("writes keys in their order: declared, given, bytewise", function()
    assert.equal('{"no":5,"street":"Main"}', written("address", { street = "Main", number = 5 }))
    assert.equal('{"B":"1","a":"2","b":"3"}', written("object", { b = "3", a = "2", B = "1" }))
    assert.equal('{"b":"3","a":"2"}', written("object", lumo.ordered { { "b", "3" }, { "a", "2" } }))
    assert.equal('{"$ref":"posts","$id":"x","$db":"blog"}',
      written("any", { ["$db"] = "blog", ["$id"] = "x", ["$ref"] = "posts" }))
  end)

  it("ignores metatables of others and calls none of their functions", function()
    local called = false
    local function trap() called = true end
    local meta = { __index = trap, __pairs = trap, __len = trap, __tostring = trap }
    local traps = setmetatable({ a = "x" }, meta)
    assert.equal('{"a":"x"}', written("object", traps))
    assert.is_false(called)
  end)

  it("honours the array marks of a loaded cjson", function()
    local saved = package.loaded["cjson.safe"]
    local array_mt, empty_array_mt = {}, {}
    package.loaded["cjson.safe"] = { array_mt = array_mt, empty_array_mt = empty_array_mt }
    local ok, err = pcall(function()
      assert.equal("[]", written("any", setmetatable({}, array_mt)))
      assert.equal("[]", written("any", setmetatable({}, empty_array_mt)))
      assert.equal('{"a":"x"}', written("any", setmetatable({ a = "x" }, empty_array_mt)))
      cast_error("object", setmetatable({}, array_mt))
    end)
    package.loaded["cjson.safe"] = saved
    assert(ok, err)
    assert.equal("{}", written("any", setmetatable({}, array_mt)))
  end)

  it("knows the columns inside an object", function()
    local address = through("address", { street = "Main", number = 5 })
    assert.same({ street = "Main", number = 5 }, address)
    local err = expect_error("E_UNDEFINED_COLUMN", through, "address", { stret = "Main" })
    contains(err.message, 'Did you mean "address.street"?')
    assert.equal("address.stret", err.attribute)
    expect_error("E_UNDEFINED_COLUMN", through, "address", { no = 5 })
    expect_error("E_UNDEFINED_COLUMN", through, "address", { no = 5 }, Loose)
    assert.equal("kept", through("address", { extra = "kept" }, Loose).extra)
  end)

  it("takes a DBRef, and only as one", function()
    cast_error("any", { ["$ref"] = "posts" })
    cast_error("any", { ["$id"] = 5 })
    cast_error("any", { ["$ref"] = "posts", ["$id"] = 5, ["$set"] = 1 })
  end)

  it("takes many fields and elements, in any order", function()
    local list, object, names = {}, {}, {}
    for i = 300, 1, -1 do
      list[i] = "v" .. i
      object["key" .. i] = { "v" .. i }
      names[i] = ('"key%d":["v%d"]'):format(i, i)
    end
    table.sort(names)
    assert.equal('["' .. table.concat(list, '","') .. '"]', written("array", list))
    assert.equal("{" .. table.concat(names, ",") .. "}", written("object", object))
  end)
end)
