-- Values under hostile conditions: finalizers that use lumo while lumo works, tables that were moved, and texts
-- that a column cannot hold. Nothing here needs a connection.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo
local core = require "lumo.core"

local expect_error, is_jit = helper.expect_error, helper.is_jit

local Raw = lumo.model("ReviewValuesRaw", { strict = false, columns = {} })

--- A record of the model whose stored document has these fields, under their stored names.
local function loaded(model, fields)
  local _, pending = core.insert_plan({ Raw:new(fields) }, 0, true)
  local record = model:new {}
  core.record_stored(record, pending[1], 0)
  return record
end

--- Saves the record, and gives the JSON of one of its stored tables (the columns here have their stored names in JSON,
--- too); nil when there was nothing to save.
local function saved(record, name)
  local plan, pending = core.update_plan(record, 0, false)
  if not plan then return nil end
  core.record_stored(record, pending, 0)
  return record:to_json():match(('"%s":(%%b%s)'):format(name, record[name][1] and "[]" or "{}"))
end

---- finalizers

local function litter(finalize)
  if is_jit then
    getmetatable(newproxy(true)).__gc = finalize -- luacheck: ignore 113
  else
    setmetatable({}, { __gc = finalize })
  end
end

--- As assert.equal, which makes much itself.
local function same(expected, found)
  if expected ~= found then error(("expected %s, found %s"):format(tostring(expected), tostring(found)), 2) end
end

--- Calls fn with a collector that runs a whole cycle each time that anything is made, and in each of these cycles
--- calls `finalize` from a finalizer.
local function amid_finalizers(finalize, fn)
  local runs, over, problem = 0, false, nil
  local function run()
    if over then return end
    runs = runs + 1
    local ok, err = pcall(finalize)
    problem = problem or not ok and err
    coroutine.wrap(litter)(run) -- where no stack of this thread refers to it
  end
  collectgarbage() -- no cycle is half-way, which would not see what is made now
  collectgarbage("stop")
  coroutine.wrap(litter)(run)
  local pause, step = collectgarbage("setpause", 0), collectgarbage("setstepmul", 0)
  if not is_jit then collectgarbage("incremental", 0, 0, 100) end -- 2^100 bytes at a time
  collectgarbage("restart") -- from now on
  local ok, err = pcall(fn)
  over = true
  collectgarbage("setpause", pause)
  collectgarbage("setstepmul", step)
  if not is_jit then collectgarbage("incremental", 0, 0, 13) end
  assert(ok, err)
  assert(not problem, problem)
  return runs
end

describe("a finalizer that uses lumo", function()
  local other = {}
  for i = 1, 100 do
    other["other" .. i] = ("v"):rep(200)
  end
  local function encode_other()
    lumo.bson.encode(other)
  end

  local Thing = lumo.model("ReviewValuesThing", {
    columns = {
      name = "string", bytes = "binary", meta = "object", oid = "objectid", price = "decimal", at = "date",
    },
  })

  it("leaves a new record what it was given", function()
    local runs = amid_finalizers(encode_other, function()
      for i = 1, 3 do
        local name = ("n%d"):format(i) .. ("x"):rep(3000)
        local record = Thing:new { name = name, meta = { i = i }, oid = ("%024x"):format(i), price = i }
        same(name, record.name)
        same(i, record.meta.i)
        same(("%024x"):format(i), tostring(record.oid))
        same(tostring(i), tostring(record.price))
      end
    end)
    assert.is_true(runs > 20)
  end)

  it("leaves an assigned value what it was", function()
    local record = Thing:new {}
    local runs = amid_finalizers(encode_other, function()
      for i = 1, 3 do
        local bytes = ("%d,"):format(i):rep(500)
        record.oid = ("%024x"):format(i)
        same(("%024x"):format(i), tostring(record.oid))
        record.bytes = bytes
        same(bytes, tostring(record.bytes))
        record.price = i .. ".25"
        same(i .. ".25", tostring(record.price))
        record.at = i
        same(i, record.at:seconds())
        record.name = "n" .. i
        same("n" .. i, record.name)
        record:merge { name = "m" .. i, bytes = bytes .. "m" }
        same("m" .. i, record.name)
        same(bytes .. "m", tostring(record.bytes))
      end
    end)
    assert.is_true(runs > 20)
  end)

  it("leaves a document that is being encoded, its order and its JSON alone", function()
    local document, sum = {}, 0
    for i = 1, 12 do
      document[("a long key, that no Lua keeps just once, number %d"):format(i)] = { os.date("*t", i), i }
      sum = sum + i
    end
    local bytes = lumo.bson.encode(document)
    local text = lumo.bson.to_json(bytes)
    local runs = amid_finalizers(encode_other, function()
      local again = lumo.bson.encode(document)
      same(bytes, again)
      same(text, lumo.bson.to_json(again))
      same(bytes, lumo.bson.from_json(text))
      local found = 0
      for _, pair in pairs(lumo.bson.decode(again)) do
        found = found + pair[2]
      end
      same(sum, found)
    end)
    assert.is_true(runs > 20)
  end)

  it("cannot make a second value for one objectid", function()
    local ids = {}
    for k = 1, 8 do -- and all of them are kept, so that their table grows
      local moment = 0
      repeat -- with the finalizer making it in the first moment of the call, in the second, …
        local text, runs, made, id = ("%022x%02x"):format(k, moment), 0, nil, nil
        moment = moment + 1
        amid_finalizers(function()
          runs = runs + 1
          if runs == moment then made = lumo.objectid(text) end
        end, function() id = lumo.objectid(text) end)
        assert.is_true(made == nil or rawequal(made, id))
        assert.equal(text, tostring(id))
        ids[text] = id
      until made == nil
      assert.is_true(moment > 1, "nothing was made")
    end
    for text, id in pairs(ids) do assert.is_true(rawequal(id, lumo.objectid(text))) end
  end)

  it("has a buffer also after an error in the middle of one", function()
    local record = Thing:new {}
    for i = 1, 100 do
      expect_error("E_CAST", function() record.meta = { a = ("x"):rep(1000), ["a.b"] = 1 } end)
      expect_error("E_CAST", lumo.bson.encode, { ("x"):rep(1000), { a = 1, [2] = 2 } })
      record.name = "n" .. i
      assert.equal("n" .. i, record.name)
      assert.same({ v = { i } }, lumo.bson.decode(lumo.bson.encode { v = { i } }))
    end
  end)
end)

---- fields that reading leaves out

describe("a stored field under the name of another one's attribute", function()
  local columns = { a = { "string", column = "b", serialize_as = "b" } }
  local Hidden = lumo.model("ReviewValuesHidden", {
    columns = {
      meta = { "object", columns = columns },
      list = { "array", of = { "object", columns = columns } },
      free = "any",
    },
  })

  local function record()
    return loaded(Hidden, {
      meta = lumo.ordered { { "z", 3 }, { "b", "read" }, { "a", "hidden" } },
      list = { { a = "first", b = "1" }, { b = "2" }, { a = "third", b = "3" } },
    })
  end

  it("does not make the record dirty when the document is read", function()
    local one = record()
    assert.same({ a = "read", z = 3 }, one.meta)
    assert.equal("1", one.list[1].a)
    assert.is_false(one.is_dirty)
    assert.is_nil(saved(one))
  end)

  it("is written back, in its place, when another field has changed", function()
    local one = record()
    one.meta.a = "changed"
    assert.is_true(one.is_dirty)
    assert.equal('{"z":3,"b":"changed","a":"hidden"}', saved(one, "meta"))
    one.meta.a = nil
    assert.equal('{"z":3,"a":"hidden"}', saved(one, "meta"))
    one.meta.z, one.meta.a = nil, "again"
    assert.equal('{"a":"hidden","b":"again"}', saved(one, "meta"))
    assert.is_false(one.is_dirty)
  end)

  it("goes with its element of an array, wherever that is moved", function()
    local one = record()
    table.insert(one.list, 1, { a = "new" })
    table.remove(one.list, 3)
    assert.equal('[{"b":"new"},{"b":"1","a":"first"},{"a":"third","b":"3"}]', saved(one, "list"))
    one.list[1], one.list[2] = one.list[2], one.list[1]
    assert.equal('[{"b":"1","a":"first"},{"b":"new"},{"a":"third","b":"3"}]', saved(one, "list"))
  end)

  it("goes with the table to another record, and not to where the names mean something else", function()
    local from, to = record(), loaded(Hidden, {})
    from.meta.z = nil
    to.meta, to.free = from.meta, from.meta
    assert.equal('{"b":"read","a":"hidden"}', saved(to, "meta"))
    assert.same({ a = "read" }, to:get("free", { raw = true }))
  end)

  it("goes when the document is replaced", function()
    local one = record()
    one.meta = { a = "z" }
    assert.equal('{"b":"z"}', saved(one, "meta"))
  end)

  it("is forgotten with the table", function()
    local one, tables = record(), setmetatable({}, { __mode = "k" })
    tables[one.meta] = true
    one = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(tables))
  end)
end)

---- elements that were moved

describe("a key that only stored documents may have", function()
  local Strict = lumo.model("ReviewValuesStrict", {
    columns = {
      arr = "array",
      typed = { "array", of = { "object", columns = { x = "integer", deep = { "array", column = "d", serialize_as = "d",
        of = { "object", columns = { y = "integer" } } } } } },
    },
  })

  local function reference(id)
    return lumo.ordered { { "$ref", "things" }, { "$id", id } }
  end

  it("is taken from any stored element of the array", function()
    local one = loaded(Strict, { arr = { { to = reference(1) }, { to = reference(2) } } })
    one.arr[2].to["$id"] = nil -- half a reference: nothing but what is stored allows it
    table.insert(one.arr, 1, { x = 1 })
    table.insert(one.arr, one.arr[3])
    assert.equal('[{"x":1},{"to":{"$ref":"things","$id":1}},{"to":{"$ref":"things"}},{"to":{"$ref":"things"}}]',
      saved(one, "arr"))
  end)

  it("is not taken from another path", function()
    local one = loaded(Strict, { arr = { { to = reference(1) }, { x = { 1 } } } })
    for _, value in ipairs { { from = { ["$ref"] = 1 } }, { to = { { ["$ref"] = 1 } } }, { ["$ref"] = 1 },
      { to = { ["$db"] = 1 } } } do
      one.arr[3] = value
      local err = expect_error("E_CAST", function() return one.is_dirty end)
      assert.is_truthy(err.attribute:find("arr[3]", 1, true))
    end
  end)

  it("may be undeclared where the model is strict", function()
    local one = loaded(Strict, { typed = { { x = 1, old = 1, d = { { y = 1, older = 2 } } } } })
    table.insert(one.typed, 1, { x = 0 })
    table.insert(one.typed[2].deep, 1, { y = 0 })
    assert.equal('[{"x":0},{"d":[{"y":0},{"y":1,"older":2}],"x":1,"old":1}]', saved(one, "typed"))
    one.typed[1].nope = 1
    expect_error("E_UNDEFINED_COLUMN", function() return one.is_dirty end)
    one.typed[1].nope, one.typed[1].older = nil, 1
    expect_error("E_UNDEFINED_COLUMN", function() return one.is_dirty end)
  end)
end)

---- dates

describe("ISO text with more than milliseconds", function()
  local Moment = lumo.model("ReviewValuesMoment", { columns = { at = "date" } })

  it("is a date only when nothing is lost", function()
    for _, text in ipairs { "2024-05-06T07:08:09.123456Z", "2024-05-06T07:08:09.1230001Z",
      "2023-12-31T23:59:59.9999Z" } do
      local err = expect_error("E_CAST", Moment.new, Moment, { at = text })
      assert.equal("at", err.attribute)
      assert.is_truthy(err.message:find("whole milliseconds", 1, true))
      expect_error("E_ARGUMENT", lumo.datetime, text)
    end
    assert.equal("2024-05-06T07:08:09.123Z", tostring(Moment:new { at = "2024-05-06T07:08:09.123000Z" }.at))
    assert.equal("2024-05-06T07:08:09.123Z", tostring(lumo.datetime "2024-05-06T07:08:09.123000000+00:00"))
  end)

  it("of a number of seconds is rounded", function()
    assert.equal("1970-01-01T00:00:01.235Z", tostring(Moment:new { at = 1.2346 }.at))
  end)
end)
