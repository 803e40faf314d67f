-- The two doors for errors: raising, and `nil, err` on a connection that was opened for it.
local helper = require "spec.helper"
local lumo = require "lumo"

describe("the doors for errors", function()
  local conn, Note, Tag

  setup(function()
    helper.connect("doors")
    conn = lumo.connect(helper.uri(), { name = "returning", database = helper.database, errors = "return" })
    Note = lumo.model("DoorNote", {
      connection = "returning",
      columns = { text = { "string", required = true }, n = "integer" },
      relations = { tags = lumo.many_to_many("DoorTag") },
    })
    Tag = lumo.model("DoorTag", { connection = "returning", columns = { name = "string" } })
    lumo.model("DoorRaising", { collection = "door_notes", columns = { text = "string" } })
    helper.create_index("door_notes", { { "n", 1 } }, { unique = true, sparse = true })
    Note:create { text = "first", n = 1 }
  end)

  teardown(function()
    conn:close()
    helper.drop()
  end)

  --- nil and an error object with this code came back.
  local function returned(code, ok, err, ...)
    assert.is_nil(ok)
    assert.is_table(err)
    assert.equal(code, err.code)
    assert.equal(0, select("#", ...))
    return err
  end

  describe("that returns", function()
    it("gives nil and the error from statics", function()
      returned("E_ROW_NOT_FOUND", Note:find_or_fail(lumo.objectid()))
      returned("E_ROW_NOT_FOUND", Note:findOrFail(lumo.objectid()))
      returned("E_DUPLICATE_KEY", Note:create { text = "again", n = 1 })
      returned("E_VALIDATION", Note:create { n = 7 })
    end)

    it("from queries, records, relations, connections", function()
      local note = Note:find_by("n", 1)
      returned("E_ROW_NOT_FOUND", Note:query():where("n", 99):first_or_fail())
      returned("E_SERVER", Note:query():hint("no_such_index"):exec())
      local copy = Note:create { text = "gone" }
      assert.equal(1, Note:query():where("_id", copy.id):delete())
      copy.text = "x"
      returned("E_ROW_NOT_FOUND", copy:save())
      returned("E_ROW_NOT_FOUND", copy:refresh())
      returned("E_SERVER", conn:command { nonsense = 1 })
      local unsaved = Tag:new { name = "x" }
      assert.has_error(function() note:related("tags"):attach(unsaved) end) -- a mistake
      assert.equal("y", note:related("tags"):create({ name = "y" }).name)
      returned("E_SERVER", note:related("tags"):query():hint("no_such_index"):exec())
      assert.equal(1, #note:load("tags").tags)
    end)

    it("from lumo.load and lumo.transaction", function()
      local note = Note:find_by("n", 1)
      note:related("tags"):create { name = "z" }
      returned("E_SERVER", lumo.load({ note }, "tags", function(q) q:hint("no_such_index") end))
      local err = returned("E_DUPLICATE_KEY", Note:transaction(function()
        Note:create { text = "in", n = 50 }
        return Note:create { text = "in", n = 1 }
      end))
      assert.is_string(tostring(err))
      assert.equal(0, Note:query():where("text", "in"):count())
    end)

    it("says what went well as always", function()
      assert.is_nil((select(2, Note:find(lumo.objectid()))))
      assert.equal(1, select("#", Note:find(lumo.objectid())))
      assert.is_false((Note:query():where("n", 99):exists()))
      local results = { Note:transaction(function() return nil, "two" end) }
      assert.equal("two", results[2])
      assert.same({ 1, 2 }, { Note:transaction(function() return 1, 2 end) })
    end)

    it("raises mistakes of the program", function()
      helper.expect_error("E_ARGUMENT", Note.find, Note, nil)
      helper.expect_error("E_UNDEFINED_COLUMN", Note.create, Note, { nope = 1 })
      helper.expect_error("E_CAST", Note.create, Note, { text = "x", n = "y" })
      helper.expect_error("E_ARGUMENT", function() Note:query():where("n", nil) end)
      helper.expect_error("E_ARGUMENT", function() Note:query():delete() end)
      local line = debug.getinfo(1, "l").currentline + 1
      local _, err = pcall(function() Note:find(nil) end)
      assert.matches("doors_spec.lua:" .. line, err.message, 1, true)
    end)

    it("raises what is no error of lumo's", function()
      local ok, err = pcall(Note.transaction, Note, function() error("my own", 0) end)
      assert.is_false(ok)
      assert.equal("my own", err)
    end)
  end)

  describe("inside of operations", function()
    it("hooks raise, which ends what they belong to", function()
      local Hooked = lumo.model("DoorHooked", { connection = "returning", columns = { n = "integer" } })
      local inside
      Hooked:before("create", function()
        inside = { pcall(Note.find_or_fail, Note, lumo.objectid()) }
        Note:find_or_fail(lumo.objectid())
      end)
      returned("E_ROW_NOT_FOUND", Hooked:create { n = 1 })
      assert.is_false(inside[1])
      assert.equal("E_ROW_NOT_FOUND", inside[2].code)
      assert.equal(0, Hooked:count())
    end)

    it("the body of a transaction is outside of them", function()
      local seen
      local result = Note:transaction(function()
        seen = { Note:find_or_fail(lumo.objectid()) }
        return "went on"
      end)
      assert.equal("went on", result)
      assert.is_nil(seen[1])
      assert.equal("E_ROW_NOT_FOUND", seen[2].code)
    end)

    it("a body that returns nil and an error rolls back", function()
      local given = returned("E_ROW_NOT_FOUND", lumo.transaction(function()
        Note:create { text = "rolled back" }
        return Note:find_or_fail(lumo.objectid())
      end, { connection = "returning" }))
      assert.is_table(given)
      assert.equal(0, Note:query():where("text", "rolled back"):count())
    end)

    it("transactions by hand return, too", function()
      local trx = lumo.transaction { connection = "returning" }
      returned("E_DUPLICATE_KEY", Note:create({ text = "x", n = 1 }, { client = trx }))
      returned("E_DUPLICATE_KEY", trx:commit())
      assert.is_false(trx.is_active)
    end)
  end)

  describe("loops", function()
    it("end with false and the error", function()
      local turns, last, why = 0, nil, nil
      for note, err in Note:query():hint("no_such_index"):each() do
        turns = turns + 1
        last, why = note, err
      end
      assert.equal(1, turns)
      assert.is_false(last)
      assert.equal("E_SERVER", why.code)
    end)

    it("over a pipeline end so, too", function()
      local turns, last, why = 0, nil, nil
      for row, err in Note:aggregate({ { ["$nonsense"] = 1 } }, { each = true, connection = "returning" }) do
        turns = turns + 1
        last, why = row, err
      end
      assert.equal(1, turns)
      assert.is_false(last)
      assert.is_truthy(why.server_code)
      local rows = {}
      for row in Note:aggregate({ { ["$match"] = { text = "first" } } }, { each = true, connection = "returning" }) do
        rows[#rows + 1] = row.text
      end
      assert.same({ "first" }, rows)
      returned(why.code, Note:aggregate({ { ["$nonsense"] = 1 } }, { connection = "returning" }))
    end)

    it("give what there is", function()
      local n = 0
      for note, err in Note:query():where("text", "first"):each() do
        assert.equal("first", note.text)
        assert.is_nil(err)
        n = n + 1
      end
      assert.equal(1, n)
    end)
  end)

  describe("that raises", function()
    it("stays as it is beside the other one", function()
      local Raising = lumo.model("DoorRaising")
      helper.expect_error("E_ROW_NOT_FOUND", Raising.find_or_fail, Raising, lumo.objectid())
      helper.expect_error("E_SERVER", function() helper.conn:command { nonsense = 1 } end)
      local results = { lumo.transaction(function() return nil, "kept" end) }
      assert.equal("kept", results[2])
    end)

    it("is what a call names", function()
      local Raising = lumo.model("DoorRaising")
      returned("E_ROW_NOT_FOUND", Raising:find_or_fail(lumo.objectid(), { client = conn }))
      helper.expect_error("E_ROW_NOT_FOUND", Note.find_or_fail, Note, lumo.objectid(), { client = helper.conn })
    end)
  end)

  it("are chosen by a word that is known", function()
    helper.expect_error("E_ARGUMENT", lumo.connect, helper.uri(), { name = "x", errors = "both" })
    helper.expect_error("E_ARGUMENT", lumo.connect, helper.uri(), { name = "x", errors = true })
    local third = lumo.connect(helper.uri(), { name = "third", database = helper.database, errors = "raise" })
    helper.expect_error("E_SERVER", third.command, third, { nonsense = 1 })
    third:close()
  end)
end)
