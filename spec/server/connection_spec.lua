-- Connections: how they are named and made, what they say when they cannot be made, and how they come back.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local conn = helper.connect("connection")
teardown(helper.drop)

local expect_error = helper.expect_error

-- Nothing listens on port 1.
local NOWHERE = "mongodb://127.0.0.1:1/blog"

local function assert_tells_no_secret(err)
  assert.is_nil(tostring(err):find("hunter2", 1, true))
  assert.is_nil(tostring(err):find("mongodb://", 1, true))
  assert.is_nil(tostring(err.message):find("hunter2", 1, true))
end

describe("lumo.connect", function()
  it("returns the connection that lumo.connection finds by its name", function()
    local reports = lumo.connect(NOWHERE, { name = "reports" })
    assert.equal(reports, lumo.connection("reports"))
  end)

  it("returns the default connection, which needs no name", function()
    assert.equal(conn, lumo.connection())
  end)

  it("touches no network", function()
    local before = helper.now_ms()
    helper.expect_commands(0, function()
      lumo.connect("mongodb://192.0.2.1:27017/blog", { name = "silent" })
    end)
    assert.is_true(helper.now_ms() - before < 1000)
  end)

  it("takes camelCase options", function()
    local camel = lumo.connect(helper.uri(), {
      name = "camel", database = helper.database, poolSize = 2, timeoutMs = 5000,
    })
    assert.has_no.errors(function() camel:ping() end)
    camel:close()
  end)

  it("takes the database of the URI", function()
    local named = lumo.connect(helper.uri_with { database = helper.database }, { name = "named" })
    helper.insert("marks", { { _id = 1, seen = true } })
    local reply = named:command(lumo.ordered { { "find", "marks" }, { "filter", { _id = 1 } } })
    assert.is_true(reply.cursor.firstBatch[1].seen)
    named:close()
  end)

  it("prefers the database option to the URI's", function()
    local named = lumo.connect(helper.uri_with { database = "lumo_spec_not_this_one" }, {
      name = "named", database = helper.database,
    })
    helper.clear("marks")
    helper.insert("marks", { { _id = 2, seen = true } })
    local reply = named:command(lumo.ordered { { "count", "marks" } })
    assert.equal(1, reply.n)
    named:close()
  end)

  it("refuses a URI without a database", function()
    expect_error("E_ARGUMENT", lumo.connect, "mongodb://127.0.0.1:27017")
    expect_error("E_ARGUMENT", lumo.connect, "mongodb://127.0.0.1:27017/")
    expect_error("E_ARGUMENT", lumo.connect, "mongodb://127.0.0.1:27017/?retryWrites=true")
  end)

  it("refuses invalid database names in the option", function()
    for _, name in ipairs { "a b", "a.b", "a/b", "a$b", "a\0b", "", ("x"):rep(64) } do
      expect_error("E_ARGUMENT", lumo.connect, "mongodb://127.0.0.1:27017", { name = "bad", database = name })
    end
    expect_error("E_ARGUMENT", lumo.connect, "mongodb://127.0.0.1:27017", { name = "bad", database = 5 })
  end)

  it("refuses invalid database names in the URI", function()
    for _, name in ipairs { "a%20b", "a.b", ("x"):rep(64) } do
      expect_error("E_ARGUMENT", lumo.connect, "mongodb://127.0.0.1:27017/" .. name, { name = "bad" })
    end
  end)

  it("accepts a database name of 63 bytes", function()
    assert.has_no.errors(function()
      lumo.connect("mongodb://127.0.0.1:27017", { name = "long", database = ("x"):rep(63) })
    end)
  end)

  it("leaves no connection behind when it refuses", function()
    expect_error("E_ARGUMENT", lumo.connect, "mongodb://127.0.0.1/a.b", { name = "never made" })
    expect_error("E_UNDEFINED_CONNECTION", lumo.connection, "never made")
  end)

  it("refuses what is no URI, without repeating it", function()
    for _, uri in ipairs { "nonsense", "http://bob:hunter2@127.0.0.1/x", "mongodb://bob:hunter2@:x/y", "" } do
      assert_tells_no_secret(expect_error("E_ARGUMENT", lumo.connect, uri, { name = "bad" }))
    end
    expect_error("E_ARGUMENT", lumo.connect, 27017)
    expect_error("E_ARGUMENT", lumo.connect, {})
  end)

  it("names the caller's line when it is misused", function()
    local err = expect_error("E_ARGUMENT", function() lumo.connect(27017) end)
    assert.is_truthy(tostring(err):find("connection_spec.lua", 1, true))
  end)

  it("takes MONGODB_URI of the environment when it is called without a URI", function()
    local output = helper.run([[
      local lumo = require "lumo"
      local conn = lumo.connect()
      print("ok", conn:command({ ping = 1 }).ok, lumo.connection() == conn)
    ]], "MONGODB_URI=" .. helper.quote(helper.uri_with { database = helper.database }))
    assert.is_truthy(output:match("^ok%s+1[.0]*%s+true"), output)
  end)

  it("fails without a URI where MONGODB_URI is not set", function()
    local output = helper.run([[
      local lumo = require "lumo"
      local ok, err = pcall(lumo.connect)
      print(ok, err.code, err.message)
    ]], "env -u MONGODB_URI")
    assert.is_truthy(output:match("^false%s+E_ARGUMENT%s"), output)
    assert.is_truthy(output:find("MONGODB_URI", 1, true), output)
  end)
end)

describe("lumo.connection", function()
  it("refuses unknown names and suggests the nearest", function()
    lumo.connect(NOWHERE, { name = "reports" })
    local err = expect_error("E_UNDEFINED_CONNECTION", lumo.connection, "reprots")
    assert.is_truthy(err.message:find("reports", 1, true))
  end)

  it("is what a model without a connection misses", function()
    local output = helper.run([[
      local lumo = require "lumo"
      local Post = lumo.model("Post", { columns = { title = "string" } })
      local ok, err = pcall(function() return Post:all() end)
      print(ok, err.code)
    ]])
    assert.is_truthy(output:match("^false%s+E_UNDEFINED_CONNECTION"), output)
  end)
end)

describe("a connection", function()
  it("pings with one command", function()
    helper.expect_commands(1, function() conn:ping() end)
  end)

  it("runs commands and gives their replies as plain tables", function()
    local reply = conn:command(lumo.ordered { { "hello", 1 } })
    assert.equal(1, reply.ok)
    assert.equal("table", type(reply))
    assert.is_true(reply.isWritablePrimary)
  end)

  it("raises when a command fails on the server, and says what the server said", function()
    local err = expect_error("E_SERVER", function() conn:command { thisCommandDoesNotExist = 1 } end)
    assert.equal(59, err.server_code)
    assert.equal(59, err.serverCode)
    assert.is_nil(err.noSuchField)
    assert.is_truthy(#tostring(err) > 0)
    assert.equal("string", type(err.message))
  end)

  it("raises when a command is not given as a table", function()
    expect_error("E_ARGUMENT", function() conn:command("ping") end)
    expect_error("E_ARGUMENT", function() conn:command(nil) end)
    expect_error("E_ARGUMENT", function() conn:command {} end)
  end)

  it("takes a command of several keys in its order only", function()
    local reply = conn:command(lumo.ordered { { "listCollections", 1 }, { "nameOnly", true }, { "filter", {} } })
    assert.equal(1, reply.ok)
    local err = helper.expect_refused("E_ARGUMENT", function()
      conn:command { listCollections = 1, nameOnly = true }
    end)
    assert.matches("lumo.ordered", err.message, 1, true)
  end)

  it("waits for a free client for its timeout, and no longer", function()
    local small = lumo.connect(helper.uri(), { name = "small", database = helper.database, pool_size = 2,
      timeout_ms = 400 })
    local trx = lumo.transaction { connection = "small" }
    local other = lumo.transaction { connection = "small" }
    local began = helper.now_ms()
    local err = expect_error("E_TIMEOUT", function() small:ping() end)
    local waited = helper.now_ms() - began
    assert.is_true(waited >= 350 and waited < 3000, tostring(waited))
    assert.is_true(err.retryable)
    expect_error("E_TIMEOUT", function() lumo.transaction { connection = "small" } end)
    trx:rollback()
    assert.is_true(small:ping())
    other:rollback()
    assert.is_true(small:ping())
    small:close()
  end)

  it("describes its server", function()
    local version = conn:command({ buildInfo = 1 }).version
    local server = conn:server()
    assert.equal(version, server.version)
    assert.equal("replica_set", server.topology)
    assert.is_true(server.capabilities.transactions)
  end)

  it("says so when a method is called with a dot", function()
    expect_error("E_ARGUMENT", function() conn.ping() end)
    expect_error("E_ARGUMENT", function() conn.command { ping = 1 } end)
    expect_error("E_ARGUMENT", function() conn.close("x") end)
  end)

  it("serves nothing after close, until its name is connected again", function()
    local function open()
      return lumo.connect(helper.uri(), { name = "closing", database = helper.database })
    end
    local closing = open()
    closing:ping()
    closing:close()
    expect_error("E_UNDEFINED_CONNECTION", function() closing:ping() end)
    expect_error("E_UNDEFINED_CONNECTION", function() closing:command { ping = 1 } end)

    assert.has_no.errors(function() open():ping() end)
    assert.has_no.errors(function() lumo.connection("closing"):ping() end)
    lumo.connection("closing"):close()
  end)

  it("does not close the others", function()
    local other = lumo.connect(helper.uri(), { name = "other", database = helper.database })
    other:ping()
    other:close()
    assert.has_no.errors(function() conn:ping() end)
  end)
end)

describe("several connections", function()
  it("serve one model by its definition, its query, its transaction and its records", function()
    local names = { "", "_one", "_two" }
    for _, suffix in ipairs { "_one", "_two" } do
      lumo.connect(helper.uri(), { name = "several" .. suffix, database = helper.database .. suffix })
    end
    local Note = lumo.model("SeveralNote", { collection = "several", connection = "several_one",
      columns = { text = "string" } })
    local function counts()
      local found = {}
      for i, suffix in ipairs(names) do
        found[i] = Note:count { connection = suffix == "" and "default" or "several" .. suffix }
      end
      return found
    end
    local first = Note:create { text = "by definition" }
    local second = Note:create({ text = "by option" }, { connection = "several_two" })
    Note:create({ text = "by client" }, { client = lumo.connection("several_two") })
    Note:create({ text = "at home" }, { connection = "default" })
    assert.same({ 1, 1, 2 }, counts())
    second.text = "goes where it came from"
    second:save()
    assert.equal(1, Note:query({ connection = "several_two" }):where("text", second.text):count())
    second:delete()
    first:refresh()
    lumo.transaction(function(trx)
      Note:create({ text = "in a transaction" }, { client = trx })
    end, { connection = "several_two" })
    assert.same({ 1, 1, 2 }, counts())
    for _, suffix in ipairs(names) do
      Note:truncate { connection = suffix == "" and "default" or "several" .. suffix }
      if suffix ~= "" then
        lumo.connection("several" .. suffix):command { dropDatabase = 1 }
        lumo.connection("several" .. suffix):close()
      end
    end
  end)
end)

describe("a model's own connection", function()
  it("is the one that its definition names", function()
    local name = helper.database .. "_b"
    local second = lumo.connect(helper.uri(), { name = "second", database = name })
    local Note = lumo.model("ConnectionNote", {
      collection = "notes", connection = "second", columns = { text = "string" },
    })
    Note:create { text = "over there" }
    assert.equal(0, #helper.docs("notes"))
    assert.equal(1, second:command(lumo.ordered { { "count", "notes" } }).n)
    second:command { dropDatabase = 1 }
    second:close()
  end)

  it("must exist when it is used", function()
    local Note = lumo.model("ConnectionLostNote", {
      connection = "no such connection", columns = { text = "string" },
    })
    expect_error("E_UNDEFINED_CONNECTION", function() Note:all() end)
  end)
end)

describe("an unreachable server", function()
  local Page = lumo.model("ConnectionPage", { connection = "away", columns = { title = "string" } })

  it("is E_NETWORK within the timeout, for commands and for models", function()
    local away = lumo.connect("mongodb://bob:hunter2@127.0.0.1:1/blog", { name = "away", timeout_ms = 400 })
    for _, call in ipairs {
      function() away:ping() end,
      function() away:command { ping = 1 } end,
      function() away:server() end,
      function() Page:all() end,
      function() Page:create { title = "x" } end,
      function() Page:query():where("title", "x"):delete() end,
    } do
      local before = helper.now_ms()
      local err = expect_error("E_NETWORK", call)
      assert.is_true(helper.now_ms() - before < 2500)
      assert_tells_no_secret(err)
    end
    away:close()
  end)

  it("leaves a record that could not be saved as it was", function()
    local away = lumo.connect(NOWHERE, { name = "away", timeout_ms = 300 })
    local page = Page:new { title = "kept" }
    local err = expect_error("E_NETWORK", function() page:save() end)
    assert.equal("not_applied", err.outcome)
    assert.is_true(page.is_new)
    assert.is_false(page.is_persisted)
    assert.is_true(page.is_dirty)
    assert.equal("kept", page.title)
    away:close()
  end)
end)

describe("a wrong password", function()
  local user = "bob"

  setup(function()
    helper.command { { "createUser", user }, { "pwd", "hunter2" }, { "roles", lumo.array { "readWrite" } } }
  end)

  teardown(function()
    helper.command { { "dropUser", user } }
  end)

  local function connect_with(password)
    local uri = helper.uri_with {
      user = user, password = password, database = helper.database,
      query = { "authSource=" .. helper.database },
    }
    return lumo.connect(uri, { name = "locked", timeout_ms = 5000 })
  end

  it("is E_AUTH, and tells no secret", function()
    local locked = connect_with("hunter2-but-wrong")
    assert_tells_no_secret(expect_error("E_AUTH", function() locked:ping() end))
    locked:close()
  end)

  it("does not stand in the way of the right one", function()
    local locked = connect_with("wrong")
    expect_error("E_AUTH", function() locked:ping() end)
    locked:close()
    locked = connect_with("hunter2")
    assert.has_no.errors(function() locked:ping() end)
    locked:close()
  end)
end)

describe("a server that goes away and comes back", function()
  it("fails the calls between, and serves the next one on the same connection", function()
    local mongod = helper.start_mongod()
    finally(function() mongod:remove() end)

    local away = lumo.connect(mongod.address, { name = "restarted", database = "notes", timeout_ms = 1500 })
    local Note = lumo.model("ConnectionRestartedNote", {
      connection = "restarted", collection = "notes", columns = { text = "string" },
    })
    local note = Note:create { text = "before" }

    mongod:stop()
    note.text = "after"
    expect_error({ "E_NETWORK", "E_TIMEOUT" }, function() note:save() end)
    assert.is_true(note.is_dirty)

    mongod:start()
    assert.has_no.errors(function() note:save() end)
    assert.equal("after", Note:find(note._id).text)
    away:close()
  end)

  it("answers within the timeout when the server hangs", function()
    local mongod = helper.start_mongod()
    finally(function() mongod:remove() end)

    local slow = lumo.connect(mongod.address, { name = "hanging", database = "notes", timeout_ms = 1000 })
    slow:ping()
    mongod:signal("STOP")
    helper.shell("sleep 0.2") -- its threads do not all stop at once
    local before = helper.now_ms()
    expect_error({ "E_NETWORK", "E_TIMEOUT" }, function() slow:ping() end)
    assert.is_true(helper.now_ms() - before < 5000)

    mongod:signal("CONT")
    assert.has_no.errors(function() slow:ping() end)
    slow:close()
  end)
end)
