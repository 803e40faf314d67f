-- How many documents are written at once: hint, collation, comment and time limit of update, increment and delete.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local conn = helper.connect("bulk")
local admin = lumo.connect(helper.uri_with { database = "admin" }, { name = "bulk admin" })

local function fail_point(name, mode, data)
  admin:command(lumo.ordered { { "configureFailPoint", name }, { "mode", mode }, { "data", data or lumo.ordered {} } })
end

teardown(function()
  fail_point("maxTimeAlwaysTimeOut", "off")
  fail_point("failCommand", "off")
  conn:command { profile = 0 }
  admin:close()
  helper.drop()
end)

local expect_error, expect_commands = helper.expect_error, helper.expect_commands

local Word = lumo.model("BulkWord", {
  collection = "words",
  columns = { text = "string", n = "integer" },
  relations = { pages = lumo.many_to_many("BulkPage") },
})
local Page = lumo.model("BulkPage", { collection = "pages", columns = { title = "string", n = "integer" } })

local GERMAN = { locale = "de", strength = 1 }

before_each(function()
  helper.clear("words", "pages", "bulk_page_bulk_word")
  helper.insert("words", { { text = "Ärger", n = 1 }, { text = "arger", n = 2 }, { text = "Öl", n = 3 } })
  helper.create_index("words", { { "text", 1 } }, { name = "by_text" })
end)

local function q()
  return Word:query()
end

--- What the profiler kept of the writes that fn has sent.
local function profiled(fn)
  conn:command { profile = 0 }
  pcall(conn.command, conn, { drop = "system.profile" })
  conn:command { profile = 2 }
  fn()
  conn:command { profile = 0 }
  return helper.docs("system.profile", { op = { ["$in"] = lumo.array { "update", "remove" } } }, { ts = 1 })
end

for _, limit in ipairs { 0, 60000 } do
  local function limited(query)
    return limit > 0 and query:max_time_ms(limit) or query
  end
  describe(limit > 0 and "with a time limit" or "without a time limit", function()
    it("a collation holds for all of them, with one command each", function()
      local function find() return limited(q():collation(GERMAN):where("text", "ARGER")) end
      expect_commands(1, function() assert.equal(2, find():update { n = 7 }) end)
      expect_commands(1, function() assert.equal(2, find():increment("n", 3)) end)
      expect_commands(1, function() assert.equal(2, find():decrement("n")) end)
      assert.same({ 3, 9 }, q():distinct("n"))
      expect_commands(1, function() assert.equal(2, find():delete()) end)
      expect_commands(1, function() assert.equal(0, find():delete()) end)
      assert.equal(1, Word:count())
    end)

    it("hint and comment arrive", function()
      local list = profiled(function()
        limited(q():where("text", "Öl"):hint("by_text"):comment("why")):update { n = 5 }
        limited(q():where("n", 5):hint(lumo.ordered { { "text", 1 } }):comment("gone")):delete()
      end)
      assert.equal(2, #list)
      assert.same({ ["$hint"] = "by_text" }, list[1].command.hint)
      assert.equal("why", list[1].command.comment)
      assert.matches("IXSCAN", list[1].planSummary)
      assert.same({ text = 1 }, list[2].command.hint)
      assert.equal("gone", list[2].command.comment)
      assert.matches("IXSCAN", list[2].planSummary)
    end)

    it("what the server refuses is an error", function()
      local err = expect_error({ "E_WRITE", "E_SERVER" }, function()
        limited(q():where("n", 1):hint("no_such_index")):update { n = 2 }
      end)
      assert.equal("update", err.op)
      expect_error({ "E_WRITE", "E_SERVER" }, function()
        limited(q():where("n", 1):collation { locale = "no such" }):delete()
      end)
      helper.create_index("words", { { "n", 1 } }, { name = "one_n", unique = true })
      err = expect_error("E_DUPLICATE_KEY", function() limited(q():where("n", ">", 1)):update { n = 1 } end)
      assert.equal("n", err.key)
      conn:command(lumo.ordered { { "dropIndexes", "words" }, { "index", "one_n" } })
    end)

    it("they belong to the transaction around them", function()
      pcall(lumo.transaction, function()
        assert.equal(2, limited(q():collation(GERMAN):where("text", "arger")):delete())
        assert.equal(1, Word:count())
        error("back")
      end)
      assert.equal(3, Word:count())
    end)

    it("they go to the related side of a relation", function()
      local word = Word:first()
      word:related("pages"):create_many { { title = "é", n = 1 }, { title = "E", n = 2 }, { title = "o", n = 3 } }
      local function find()
        return limited(word:related("pages"):query():where("title", "e"):collation { locale = "fr", strength = 1 })
      end
      local list = profiled(function() assert.equal(2, find():comment("side"):update { n = 9 }) end)
      assert.equal("side", list[1].command.comment)
      assert.equal(2, find():delete())
      assert.equal(1, Page:count())
    end)
  end)
end

describe("a time limit", function()
  it("that runs out is E_TIMEOUT, and of many it is unknown how many were changed", function()
    fail_point("maxTimeAlwaysTimeOut", "alwaysOn")
    local update = expect_error("E_TIMEOUT", function() q():where("n", ">", 0):max_time_ms(50):update { n = 5 } end)
    local remove = expect_error("E_TIMEOUT", function() q():where("n", ">", 0):max_time_ms(50):delete() end)
    fail_point("maxTimeAlwaysTimeOut", "off")
    for _, err in ipairs { update, remove } do
      assert.equal("unknown", err.outcome)
      assert.equal(50, err.server_code)
    end
  end)
end)

describe("a server that stops in the middle of", function()
  local function interrupted(command, fn)
    fail_point("failCommand", { times = 1 }, {
      failCommands = lumo.array { command }, errorCode = 11602,
    })
    return expect_error("E_SERVER", fn)
  end

  it("a write of many leaves its outcome unknown", function()
    assert.equal("unknown", interrupted("update", function() q():where("n", ">", 0):update { n = 5 } end).outcome)
  end)

  it("a write of one, which is done again, does not", function()
    fail_point("failCommand", { times = 1 }, { failCommands = lumo.array { "update" }, errorCode = 11602 })
    local word = Word:first()
    word.n = 77
    word:save()
    assert.equal(77, word:refresh().n)
  end)
end)
