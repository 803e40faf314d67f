-- lumo.bson: tables to bytes, bytes to tables, both to Extended JSON. The corpus has its own file.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local expect_error, is_jit = helper.expect_error, helper.is_jit
local bson = lumo.bson

local function hex(bytes)
  return (bytes:gsub(".", function(char) return ("%02x"):format(char:byte()) end))
end

local function json(document)
  return bson.to_json(bson.encode(document), "canonical")
end

local function relaxed(document)
  return bson.to_json(bson.encode(document))
end

local function refused(document)
  return expect_error("E_CAST", bson.encode, document)
end

describe("encoding", function()
  it("writes the bytes of the specification", function()
    assert.equal("0500000000", hex(bson.encode {}))
    assert.equal("160000000268656c6c6f0006000000776f726c640000", hex(bson.encode { hello = "world" }))
    assert.equal("0c0000001061000100000000", hex(bson.encode { a = 1 }))
    assert.equal("0f000000055f00020000008001ff00", hex(bson.encode { _ = lumo.binary("\1\255", 0x80) }))
    assert.equal("140000000461000c0000001030000100000000" .. "00", hex(bson.encode { a = { 1 } }))
  end)

  it("sorts keys bytewise", function()
    assert.equal('{"":1,"$a":2,"Z":3,"a":4,"a.b":5,"aa":6,"aaaaaaaaa":7,"aaaaaaaab":8,"é":9}', relaxed {
      [""] = 1, ["$a"] = 2, Z = 3, a = 4, ["a.b"] = 5, aa = 6, aaaaaaaaa = 7, aaaaaaaab = 8, ["é"] = 9,
    })
    local document, keys = {}, {}
    for i = 1, 500 do
      keys[i] = ("k%x"):format(i * 7919 % 65536)
      document[keys[i]] = i
    end
    table.sort(keys)
    local at = 0
    for key in relaxed(document):gmatch('"(k%x+)":') do
      at = at + 1
      assert.equal(keys[at], key)
    end
    assert.equal(500, at)
  end)

  it("keeps the order of lumo.ordered, nested too", function()
    local inner = lumo.ordered { { "z", 1 }, { "a", lumo.null } }
    local document = lumo.ordered { { "b", inner }, { "a", { inner } } }
    assert.equal('{"b":{"z":1,"a":null},"a":[{"z":1,"a":null}]}', relaxed(document))
    assert.equal("{}", relaxed(lumo.ordered {}))
    refused(lumo.ordered { { "a", 1 }, { "b", 2 }, { "a", 3 } })
    refused(lumo.ordered { { "a", nil } })
    refused(lumo.ordered { { 1, 2 } })
    refused(lumo.ordered { { "a", 1, 2 } })
    refused(lumo.ordered { "a" })
    refused(lumo.ordered { a = 1 })
  end)

  it("tells arrays from documents", function()
    local document = { a = lumo.array {}, b = {}, c = { 1, "x", { true } } }
    assert.equal('{"a":[],"b":{},"c":[1,"x",[true]]}', relaxed(document))
    local sparse = {}
    for i = 40, 1, -1 do
      sparse[i] = i
    end
    assert.equal(40, #bson.decode(bson.encode { a = sparse }).a)
    refused { a = { 1, nil, 3 } }
    refused { a = { 1, x = 2 } }
    refused { a = { [1.5] = 1 } }
    refused { a = { [-1] = 1 } }
    refused { a = { [true] = 1 } }
    refused { 1, 2 }
    refused(lumo.array {})
  end)

  it("names the positions of long arrays right", function()
    local list = {}
    for i = 1, 1234 do
      list[i] = i
    end
    local at = 0
    local bytes = bson.encode { a = list }
    for key in bytes:sub(12):gmatch("\16(%d+)%z....") do
      assert.equal(at, tonumber(key))
      at = at + 1
    end
    assert.equal(1234, at)
  end)

  it("stores numbers as what they are", function()
    assert.equal('{"a":{"$numberInt":"2147483647"},"b":{"$numberLong":"2147483648"}}',
      json { a = 2147483647, b = 2147483648 })
    assert.equal('{"a":{"$numberDouble":"0.5"}}', json { a = 0.5 })
    assert.equal('{"a":{"$numberInt":"-2147483648"},"b":{"$numberLong":"-2147483649"}}',
      json { a = -2147483648, b = -2147483649 })
    assert.equal('{"a":{"$numberDouble":"-0.0"}}', json { a = -0.0 })
    local largest = lumo.int64("9223372036854775807")
    assert.equal('{"a":{"$numberLong":"9223372036854775807"}}', json { a = largest })
    if is_jit then
      assert.equal('{"a":{"$numberInt":"5"}}', json { a = 5.0 })
      assert.equal('{"a":{"$numberLong":"9007199254740992"},"b":{"$numberDouble":"1.8014398509481984e+16"}}',
        json { a = 2 ^ 53, b = 2 ^ 54 })
    else
      assert.equal('{"a":{"$numberDouble":"5.0"}}', json { a = 5.0 })
    end
  end)

  it("takes any key without NUL, in UTF-8", function()
    assert.equal('{"$set":{"a.b":{"":1}}}', relaxed { ["$set"] = { ["a.b"] = { [""] = 1 } } })
    refused { ["a\0"] = 1 }
    refused { ["\255"] = 1 }
    assert.equal("a", refused({ a = { ["\192\128"] = 1 } }).attribute)
  end)

  it("refuses what BSON has no place for", function()
    local texts = { "\255", "cut \226\130", "\237\160\128" }
    for _, value in ipairs { print, coroutine.create(print), io.stdout, texts[1], texts[2], texts[3] } do
      local err = refused { list = { "fine", { deep = value } } }
      assert.equal("list[2].deep", err.attribute)
    end
    for _, value in ipairs { 5, "text", true, print } do
      expect_error("E_ARGUMENT", bson.encode, value)
    end
    expect_error("E_ARGUMENT", bson.encode)
    expect_error("E_ARGUMENT", bson.encode, lumo.objectid())
  end)

  it("is limited to 100 levels and refuses circles", function()
    local function nested(levels)
      local document = {}
      for _ = 2, levels do
        document = { a = document }
      end
      return document
    end
    local deepest = bson.encode(nested(100))
    assert.equal(deepest, bson.encode(bson.decode(deepest)))
    assert.is_truthy(refused(nested(101)).message:find("nested deeper than 100", 1, true))
    local circle = { a = { {} } }
    circle.a[1].b = circle
    local err = refused(circle)
    assert.equal("a[1].b", err.attribute)
    assert.is_truthy(err.message:find("contains itself", 1, true))
  end)

  it("works again after an error", function()
    for _ = 1, 3 do
      refused { a = { b = { c = { 1, 2, print } } } }
      assert.equal('{"a":{"b":{"c":[1,2,3]}}}', relaxed { a = { b = { c = { 1, 2, 3 } } } })
    end
  end)

  it("leaves the table and the stack as they were", function()
    local document = { a = { 1, 2, { x = "y" } }, b = lumo.ordered { { "k", 1 } } }
    local before = bson.encode(document)
    for _ = 1, 300 do
      bson.encode(document)
    end
    assert.equal(before, bson.encode(document))
    assert.equal(1, document.a[1])
  end)
end)

describe("decoding", function()
  it("gives back what was encoded", function()
    local document = {
      text = "grüße \0 🎉", integer = 5, float = 0.5, yes = true, no = false, null = lumo.null,
      id = lumo.objectid(), moment = lumo.datetime(1.5), price = lumo.decimal("1.50"),
      bytes = lumo.binary("\0\1"), uuid = lumo.uuid(), big = lumo.int64("9223372036854775807"),
      regex = lumo.regex("a", "i"), stamp = lumo.timestamp(1, 2),
      list = { 1, { a = 1 }, { 2, 3 }, lumo.null }, inner = { deep = { er = "x" } },
    }
    local read = bson.decode(bson.encode(document))
    for key, value in pairs(document) do
      if type(value) ~= "table" then
        assert.is_true(value == read[key], key)
      end
    end
    assert.same(document.list[2], read.list[2])
    assert.equal(lumo.null, read.list[4])
    assert.equal("x", read.inner.deep.er)
    assert.equal(bson.encode(document), bson.encode(read))
  end)

  it("gives arrays their mark and documents none", function()
    local read = bson.decode(bson.encode { a = lumo.array {}, b = {} })
    assert.is_false(getmetatable(read.a))
    assert.is_nil(getmetatable(read.b))
    assert.is_nil(getmetatable(read))
  end)

  it("refuses bytes that are no document, saying where", function()
    local good = bson.encode { a = "text", b = { 1, 2, { c = lumo.objectid() } } }
    local short = { "", "\0", "\5\0\0\0", "\5\0\0\0\1" }
    for _, bytes in ipairs { short[1], short[2], short[3], short[4], good .. "\0", good:sub(1, -2) } do
      local err = expect_error("E_ARGUMENT", bson.decode, bytes)
      assert.is_truthy(err.message:find("byte %d+"))
      expect_error("E_ARGUMENT", bson.to_json, bytes)
    end
    expect_error("E_ARGUMENT", bson.decode, 5)
    expect_error("E_ARGUMENT", bson.decode)
  end)

  it("survives any damage", function()
    local good = bson.encode {
      a = "text", b = { 1, 2.5, { c = lumo.objectid() } }, d = lumo.regex("a", "i"), e = true,
    }
    for i = 1, #good do
      for _, byte in ipairs { 0, 1, 4, 5, 127, 128, 255 } do
        local bytes = good:sub(1, i - 1) .. string.char(byte) .. good:sub(i + 1)
        local ok, read = pcall(bson.decode, bytes)
        if ok then
          assert.is_table(read)
          bson.encode(read)
        else
          assert.equal("E_ARGUMENT", read.code)
        end
      end
      assert.is_false(pcall(bson.decode, good:sub(1, i - 1)))
    end
  end)
end)

describe("Extended JSON", function()
  it("comes relaxed unless told", function()
    local bytes = bson.encode { a = 1, d = lumo.datetime(0) }
    assert.equal('{"a":1,"d":{"$date":"1970-01-01T00:00:00Z"}}', bson.to_json(bytes, "relaxed"))
    assert.equal(bson.to_json(bytes, "relaxed"), bson.to_json(bytes))
    local canonical = bson.to_json(bytes, "canonical")
    assert.equal('{"a":{"$numberInt":"1"},"d":{"$date":{"$numberLong":"0"}}}', canonical)
  end)

  it("refuses other modes, other arguments and other text", function()
    local bytes = bson.encode {}
    for _, mode in ipairs { "plain", "", 5, true } do
      expect_error("E_ARGUMENT", bson.to_json, bytes, mode)
    end
    for _, text in ipairs { "", "{", "[]", "1", '{"a":}', '{"a":1}x', '{"a":1,}', "{'a':1}", '{"\255":1}' } do
      expect_error("E_ARGUMENT", bson.from_json, text)
    end
    expect_error("E_ARGUMENT", bson.from_json, 5)
    expect_error("E_ARGUMENT", bson.to_json, {})
  end)
end)
