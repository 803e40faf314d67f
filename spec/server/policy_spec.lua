-- Read preference, read concern and write concern: what commands carry, and what is refused. What they do to
-- reads in a replica set of three is in replica_set_spec.lua.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local conn = helper.connect("policies")
teardown(function()
  conn:command { profile = 0 }
  helper.drop()
end)

local expect_refused, expect_error = helper.expect_refused, helper.expect_error

local Note = lumo.model("PolicyNote", {
  collection = "notes",
  columns = { text = "string", n = { "integer", default = 0 } },
  relations = { labels = lumo.belongs_to_many("PolicyLabel") },
})
lumo.model("PolicyLabel", { collection = "labels", columns = { name = "string" } })

--- The commands that fn has sent, as the server's profiler kept them.
local function profiled(fn)
  conn:command { profile = 0 }
  pcall(conn.command, conn, { drop = "system.profile" })
  conn:command { profile = 2 }
  fn()
  conn:command { profile = 0 }
  return helper.docs("system.profile", { ["command.profile"] = { ["$exists"] = false } }, { ts = 1 })
end

--- fn's write is done, but not as surely as was asked for.
local function unmet(fn)
  local err = expect_error("E_WRITE", fn)
  assert.equal("applied", err.outcome)
  assert.equal(100, err.server_code)
end

--- The one command that fn has sent.
local function sent(fn)
  local list = profiled(fn)
  assert.equal(1, #list)
  return list[1].command
end

before_each(function()
  helper.clear("notes", "labels", "policy_label_policy_note")
  helper.insert("notes", { { text = "a", n = 1 }, { text = "b", n = 2 } })
end)

describe("a query's", function()
  it("read preference goes with every read", function()
    local function preference(fn) return sent(fn)["$readPreference"] end
    local function q() return Note:query():read_preference("primaryPreferred") end
    assert.same({ mode = "primaryPreferred" }, preference(function() q():exec() end))
    assert.same({ mode = "primaryPreferred" }, preference(function() q():count() end))
    assert.same({ mode = "primaryPreferred" }, preference(function() q():sum("n") end))
    assert.same({ mode = "primaryPreferred" }, preference(function() q():distinct("n") end))
    assert.same({ mode = "primaryPreferred" }, preference(function() for _ in q():each() do end end))
    assert.same({ mode = "primaryPreferred" }, preference(function()
      Note:query():readPreference("nearest"):read_preference { mode = "primaryPreferred" }:first()
    end))
    assert.is_nil(preference(function() Note:query():exec() end))
    assert.same({ mode = "nearest", tags = { {} }, maxStalenessSeconds = 120 }, preference(function()
      Note:query():read_preference { mode = "nearest", tags = { {} }, max_staleness_seconds = 120 }:exec()
    end))
  end)

  it("read concern goes with every read", function()
    assert.same({ level = "majority", provenance = "clientSupplied" },
      profiled(function() Note:query():read_concern("majority"):exec() end)[1].readConcern)
    assert.equal("available",
      profiled(function() Note:query():readConcern("available"):avg("n") end)[1].readConcern.level)
  end)

  it("write concern goes with its writes", function()
    local function q() return Note:query():where("text", "a"):write_concern { w = 7, wtimeout = 500 } end
    for _, write in ipairs {
      function() q():update { n = 5 } end,
      function() q():increment("n") end,
      function() q():find_one_and_update { n = 6 } end,
      function() q():find_one_and_delete() end,
      function() Note:query():where("text", "b"):writeConcern(7):delete() end,
    } do
      unmet(write)
    end
    helper.insert("notes", { { text = "a" } })
    assert.equal(1, Note:query():where("text", "a"):write_concern("majority"):update { n = 9 })
    assert.equal(1, Note:query():where("text", "a"):write_concern { j = true }:update { n = 9 })
  end)

  it("parts add up, and the last word holds", function()
    local command = sent(function()
      Note:query { read_preference = "nearest", read_concern = "local" }:read_preference("secondaryPreferred"):exec()
    end)
    assert.same({ mode = "secondaryPreferred" }, command["$readPreference"])
    assert.equal("local", command.readConcern.level)
  end)

  it("policy is that of its preloads, unless they say otherwise", function()
    local note = Note:first()
    note:related("labels"):create { name = "x" }
    local list = profiled(function() Note:query():read_preference("nearest"):preload("labels"):exec() end)
    assert.equal(3, #list)
    for _, entry in ipairs(list) do assert.same({ mode = "nearest" }, entry.command["$readPreference"]) end
  end)
end)

describe("a call's", function()
  local strict = { write_concern = { w = 7, wtimeout = 500 } }

  it("write concern goes with what it writes", function()
    for _, write in ipairs {
      function() Note:create({ text = "c" }, strict) end,
      function() Note:create_many({ { text = "d" }, { text = "e" } }, strict) end,
      function() Note:first_or_create({ text = "f" }, { n = 1 }, strict) end,
      function() Note:update_or_create({ text = "a" }, { n = 9 }, strict) end,
      function() Note:update_or_create_many({ "text" }, { { text = "a", n = 8 } }, strict) end,
      function() Note:find_by("text", "b"):merge { n = 3 }:save(strict) end,
      function() Note:new { text = "g" }:save { writeConcern = { w = 7, wtimeout = 500 } } end,
      function() Note:new { text = "h" }:save_quietly(strict) end,
      function() Note:find_by("text", "b"):delete(strict) end,
    } do
      unmet(write)
    end
    assert.equal(8, Note:find_by("text", "a").n)
    assert.is_nil(Note:find_by("text", "b"))
    assert.equal(7, Note:count())
    unmet(function() Note:truncate(strict) end)
  end)

  it("write concern is that of the transaction that hooks make necessary", function()
    local Hooked = lumo.model("PolicyHooked", { collection = "notes", columns = { text = "string" } })
    Hooked:after("save", function() end)
    unmet(function() Hooked:create({ text = "hooked" }, strict) end)
    assert.equal(1, Hooked:query():where("text", "hooked"):count())
    local record = Hooked:query():where("text", "hooked"):first()
    record.text = "again"
    unmet(function() record:save(strict) end)
    assert.equal(1, Hooked:query():where("text", "again"):count())
  end)

  it("read policy goes with what it reads, and its own connection", function()
    local command = sent(function() Note:all { read_preference = "nearest", client = conn } end)
    assert.same({ mode = "nearest" }, command["$readPreference"])
    command = sent(function() Note:aggregate({ { ["$match"] = { n = 1 } } }, { read_concern = "majority" }) end)
    assert.equal("majority", command.readConcern.level)
    command = sent(function() Note:find(lumo.objectid(), { read_preference = "nearest" }) end)
    assert.same({ mode = "nearest" }, command["$readPreference"])
    assert.equal(1, conn:command({ ping = 1 }, { read_preference = "secondaryPreferred" }).ok)
  end)
end)

describe("a transaction's", function()
  it("read concern and write concern are those of its commands and its commit", function()
    local list = profiled(function()
      lumo.transaction(function() Note:first() end, { read_concern = "snapshot" })
    end)
    assert.equal("snapshot", list[1].command.readConcern.level)
    local ended = {}
    unmet(function()
      lumo.transaction(function(trx)
        trx:after("commit", function() ended[1] = "commit" end):after("rollback", function() ended[1] = "rollback" end)
        Note:create { text = "t" }
      end, { write_concern = { w = 7, wtimeout = 500 } })
    end)
    assert.is_nil(ended[1])
    assert.equal(1, Note:query():where("text", "t"):count())
    local trx = lumo.transaction { writeConcern = { w = 7, wtimeout = 500 } }
    Note:create({ text = "u" }, { client = trx })
    unmet(function() trx:commit() end)
    lumo.transaction(function() Note:create { text = "v" } end, { write_concern = 1, max_commit_time_ms = 10000 })
    Note:transaction(function() Note:create { text = "w" } end, { write_concern = "majority" })
    assert.equal(3, Note:query():where_in("text", { "u", "v", "w" }):count())
  end)

  it("policy is not changed by what runs in it", function()
    lumo.transaction(function(trx)
      local note = Note:first()
      for _, call in ipairs {
        function() Note:query():read_preference("nearest"):first() end,
        function() Note:query():read_concern("majority"):exec() end,
        function() Note:query():where("n", 1):write_concern(1):update { n = 2 } end,
        function() Note:create({ text = "x" }, { write_concern = 1 }) end,
        function() Note:create({ text = "x" }, { client = trx, write_concern = 1 }) end,
        function() note:merge { n = 7 }:save { write_concern = 1 } end,
        function() lumo.transaction(function() end, { read_concern = "snapshot" }) end,
      } do
        expect_refused("E_ARGUMENT", call)
      end
      Note:query { client = conn }:read_preference("nearest"):first() -- outside, on purpose
    end)
    expect_refused("E_ARGUMENT", function() lumo.transaction(function() end, { read_preference = "secondary" }) end)
  end)
end)

describe("a connection's", function()
  it("policy stands for the URI's", function()
    local uri = helper.uri_with { database = conn.database, query = { "readPreference=nearest", "w=1" } }
    local other = lumo.connect(uri,
      { name = "policy", read_preference = "secondaryPreferred", read_concern = "majority",
        write_concern = { w = 7, wtimeout = 500 } })
    local command = sent(function() Note:all { connection = "policy" } end)
    assert.same({ mode = "secondaryPreferred" }, command["$readPreference"])
    assert.equal("majority", command.readConcern.level)
    unmet(function() Note:create({ text = "c" }, { connection = "policy" }) end)
    unmet(function()
      lumo.transaction(function() Note:create({ text = "d" }, { connection = "policy" }) end, { connection = "policy" })
    end)
    Note:create({ text = "e" }, { connection = "policy", write_concern = 1 })
    other:close()
  end)

  it("URI is heard", function()
    local other = lumo.connect(helper.uri_with { database = conn.database,
      query = { "readPreference=nearest", "readConcernLevel=majority", "w=7", "wtimeoutMS=500" } }, { name = "policy" })
    local command = sent(function() Note:all { connection = "policy" } end)
    assert.same({ mode = "nearest" }, command["$readPreference"])
    assert.equal("majority", command.readConcern.level)
    unmet(function() Note:create({ text = "c" }, { connection = "policy" }) end)
    other:close()
  end)
end)

describe("what is no policy", function()
  it("is refused where it is named", function()
    local bad = {
      read_preference = { "fastest", "", 5, true, {}, lumo.null, { mode = "nearest", tags = {} }, { mode = 1 },
        { mode = "nearest", tags = { "x" } }, { mode = "nearest", tags = { { dc = 1 } } },
        { mode = "nearest", tag = {} },
        { mode = "primary", tags = { { dc = "x" } } }, { mode = "nearest", max_staleness_seconds = 5 },
        { mode = "nearest", max_staleness_seconds = 0 }, { mode = "nearest", max_staleness_seconds = "120" } },
      read_concern = { "dirty", "", 5, {}, lumo.null, "major\0ity" },
      write_concern = { 0, -1, 1.5, "", {}, lumo.null, true, { w = 0 }, { j = 1 }, { wtimeout = 0 }, { wtimeout = 1.5 },
        { x = 1 }, { w = {} }, { w = 1, wtimeout = 2 ^ 31 } },
    }
    for name, values in pairs(bad) do
      for i, value in ipairs(values) do
        local what = name .. " " .. i
        for where, call in pairs {
          method = function() Note:query()[name](Note:query(), value) end,
          query = function() Note:query { [name] = value } end,
          connect = function() lumo.connect(helper.uri(), { name = "bad", [name] = value }) end,
        } do
          assert.is_true(pcall(expect_refused, "E_ARGUMENT", call), what .. " " .. where)
        end
      end
      expect_refused("E_ARGUMENT", function() Note:query()[name](Note:query()) end)
    end
    expect_refused("E_ARGUMENT", function() lumo.transaction(function() end, { max_commit_time_ms = 0 }) end)
    local note = Note:first()
    expect_refused("E_ARGUMENT", function() note:save { read_concern = "local" } end)
  end)
end)
