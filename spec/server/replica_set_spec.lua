-- A replica set of three: who is asked, what a step-down does to writes, and what goes on without a primary.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo
local servers = dofile("spec/campaign/servers.lua")

local SECONDS = 300 -- the servers' longest life, should this file break off
local set, conn, direct, database

local Note = lumo.model("SetNote", {
  collection = "notes", connection = "set",
  columns = { text = "string", n = { "integer", default = 0 } },
  relations = { tags = lumo.belongs_to_many("SetTag") },
})
lumo.model("SetTag", { collection = "tags", connection = "set", columns = { name = "string" } })

--- Who is primary now, by its host.
local function primary()
  local reply
  local deadline = servers.now_ms() + 30000
  repeat
    local ok, found = pcall(conn.command, conn, { hello = 1 })
    reply = ok and found.isWritablePrimary and found or nil
    if not reply then servers.sleep(0.1) end
  until reply or servers.now_ms() > deadline
  return assert(reply, "no primary").me
end

setup(function()
  set = servers.replica_set(3, SECONDS)
  database = "set_spec"
  conn = lumo.connect(set.uri, { name = "set", database = database, timeout_ms = 20000 })
  direct = {}
  for _, member in ipairs(set.members) do
    direct[member.host] = lumo.connect(member:direct(database), { name = "at " .. member.host, timeout_ms = 20000 })
  end
  primary()
  Note:create_many({ { text = "a", n = 1 }, { text = "b", n = 2 }, { text = "c", n = 3 } },
    { write_concern = { w = 3, wtimeout = 20000 } })
  Note:first():related("tags"):create { name = "x" }
end)

teardown(function()
  for _, one in pairs(direct or {}) do one:close() end
  if conn then conn:close() end
  if set then set.remove() end
end)

--- The reads on the notes and their like that fn has sent, by host: { ["127.0.0.1:1"] = { "find", … } }.
local function asked(fn)
  for _, one in pairs(direct) do
    one:command { profile = 0 }
    pcall(one.command, one, { profile = 2 })
  end
  local mark = ("mark %d"):format(servers.now_ms())
  fn(mark)
  local found = {}
  for host, one in pairs(direct) do
    one:command { profile = 0 }
    local reply = one:command(lumo.ordered { { "find", "system.profile" }, { "filter", {
      ns = { ["$regex"] = "\\.(notes|tags|set_note_set_tag)$" }, ["command.comment"] = mark,
    } } })
    for _, entry in ipairs(reply.cursor.firstBatch) do
      found[host] = found[host] or {}
      table.insert(found[host], entry.op == "getmore" and "getMore" or entry.op)
    end
  end
  return found
end

local function hosts_of(found)
  local list = {}
  for host in pairs(found) do list[#list + 1] = host end
  return list
end

describe("reads go", function()
  it("to the primary, unless something else is said", function()
    local first = primary()
    assert.same({ first }, hosts_of(asked(function(mark) Note:query():comment(mark):exec() end)))
  end)

  it("where the query's preference says, each kind of them", function()
    local first = primary()
    for what, read in pairs {
      exec = function(q) return #q:exec() end,
      count = function(q) return q:count() end,
      sum = function(q) return q:sum("n") end,
      distinct = function(q) return #q:distinct("text") end,
      pluck = function(q) return #q:pluck("text") end,
      paginate = function(q) return #q:paginate(1, 2) end,
      cursor = function(q) return #q:cursor_paginate { per_page = 2 } end,
      each = function(q) for _ in q:each() do end return 1 end,
      preload = function(q) return #q:preload("tags"):exec() end,
    } do
      local found = hosts_of(asked(function(mark)
        assert.is_true(read(Note:query():read_preference("secondary"):comment(mark)) > 0)
      end))
      assert.is_true(#found > 0, what)
      for _, host in ipairs(found) do assert.is_not.equal(first, host, what) end
    end
    assert.same({ first }, hosts_of(asked(function(mark)
      Note:query():read_preference("primary"):comment(mark):exec()
    end)))
  end)

  it("where the connection's preference says, while writes and transactions go to the primary", function()
    local first = primary()
    local other = lumo.connect(set.uri, { name = "secondaries", database = database, read_preference = "secondary" })
    local found = hosts_of(asked(function(mark) Note:query({ connection = "secondaries" }):comment(mark):exec() end))
    assert.equal(1, #found)
    assert.is_not.equal(first, found[1])
    local note = Note:create({ text = "d" }, { connection = "secondaries", write_concern = { w = 3 } })
    assert.same({ first }, hosts_of(asked(function(mark)
      lumo.transaction(function()
        Note:query({ connection = "secondaries" }):comment(mark):exec()
      end, { connection = "secondaries" })
    end)))
    assert.equal("d", Note:find(note._id, { connection = "secondaries" }).text)
    note:delete { write_concern = { w = 3 } }
    other:close()
  end)

  it("with a cursor to the server that has it, batch after batch", function()
    local documents = {}
    for i = 1, 3000 do documents[i] = { text = "many", n = i } end
    Note:create_many(documents, { write_concern = { w = 3, wtimeout = 20000 } })
    local seen = 0
    local found = asked(function(mark)
      local query = Note:query():where("text", "many"):read_preference("secondary"):comment(mark)
      for _ in query:each() do seen = seen + 1 end
    end)
    assert.equal(3000, seen)
    local hosts = hosts_of(found)
    assert.equal(1, #hosts)
    assert.is_true(#found[hosts[1]] > 2)
    Note:query():where("text", "many"):delete()
  end)

  it("of commands by their option", function()
    local first = primary()
    assert.equal(first, conn:command({ hello = 1 }).me)
    assert.is_not.equal(first, conn:command({ hello = 1 }, { read_preference = "secondary" }).me)
    assert.equal("replica_set", conn:server().topology)
  end)
end)

local function step_down()
  local host = primary()
  direct[host]:command(lumo.ordered {
    { "replSetStepDown", 5 }, { "secondaryCatchUpPeriodSecs", 5 }, { "force", true },
  }, { database = "admin" })
  return host
end

describe("a step-down", function()

  it("is waited for by writes of one document, by reads and by transactions", function()
    for what, call in pairs {
      save = function() Note:create { text = "after" } end,
      increment = function() assert.is_true(Note:query():where("text", "a"):first():increment("n").n > 1) end,
      read = function() assert.is_true(#Note:all() > 0) end,
      transaction = function()
        lumo.transaction(function()
          local note = Note:query():where("text", "b"):first()
          note.n = note.n + 1
          note:save()
          Note:create { text = "in a transaction" }
        end, { connection = "set" })
      end,
    } do
      local before = step_down()
      call()
      assert.is_not.equal(before, primary(), what)
    end
    assert.equal(1, Note:query():where("text", "after"):count())
    assert.equal(1, Note:query():where("text", "in a transaction"):count())
    assert.equal(3, Note:query():where("text", "b"):first().n)
  end)

  it("of a write of many tells what became of it", function()
    step_down()
    local ok, err = pcall(function() return Note:query():where("n", ">", 0):update { text = "b" } end)
    if ok then
      assert.equal(0, Note:query():where("n", ">", 0):where("text", "!=", "b"):count())
    else
      assert.is_truthy(({ not_applied = true, applied = true, unknown = true })[err.outcome], tostring(err))
      assert.is_true(err.retryable)
    end
  end)
end)

describe("a change stream", function()
  --- What comes of it when the set's primary goes while it waits and while it is not read.
  local function goes_on_over(change)
    local majority = { write_concern = { w = "majority", wtimeout = 20000 } }
    local stream, of_pairs = Note:watch { max_await_ms = 300 }, Note:watch("tags", { max_await_ms = 300 })
    local tag = Note:query():preload("tags"):order_by("id"):first().tags[1]
    for round = 1, 2 do
      local before = Note:create({ text = "watched", n = 2 * round }, majority)
      local undo = change()
      local after = Note:create({ text = "watched", n = 2 * round + 1 }, majority)
      before:related("tags"):attach(tag)
      after:related("tags"):attach(tag)
      for _, note in ipairs { before, after } do
        assert.equal(note._id, stream:next().id)
        local event = of_pairs:next()
        assert.equal("attached", event.type)
        assert.equal(note._id, event.owner_id)
      end
      assert.is_nil(stream:try_next())
      assert.is_nil(of_pairs:try_next())
      undo()
    end
    stream:close()
    of_pairs:close()
  end

  it("goes on over a step-down", function()
    goes_on_over(function()
      step_down()
      primary()
      return function() end
    end)
  end)

  it("goes on over the death of the primary", function()
    goes_on_over(function()
      local host = primary()
      for _, member in ipairs(set.members) do
        if member.host == host then
          member:kill()
          primary()
          return function() member:start() member:wait(false) end
        end
      end
    end)
  end)

  it("of secondaries goes on when the one that it reads dies", function()
    local others = lumo.connect(set.uri, { name = "watchers", database = database, read_preference = "secondary",
      timeout_ms = 20000 })
    local stream = Note:watch { client = others, max_await_ms = 300 }
    local host = primary()
    local one = Note:create { text = "one" }
    repeat until stream:next().id == one._id -- a secondary's beginning may lie before what others have seen
    for _, member in ipairs(set.members) do -- one after the other, so that its server is among them
      if member.host ~= host then
        member:kill()
        local note = Note:create { text = "two" }
        assert.equal(note._id, stream:next().id)
        member:start()
        member:wait(false)
      end
    end
    assert.is_nil(stream:try_next())
    stream:close()
    others:close()
  end)
end)

describe("without a primary", function()
  it("secondaries are read by who allows it, and writes fail in their time", function()
    local first = primary()
    local stopped, left = {}, nil
    for _, member in ipairs(set.members) do
      if member.host ~= first and not left then left = member else stopped[#stopped + 1] = member end
    end
    assert.equal(2, #stopped)
    local short = lumo.connect(set.uri, { name = "short", database = database, timeout_ms = 2000 })
    assert.is_true(#Note:all { connection = "short" } > 0)
    for _, member in ipairs(stopped) do member:kill() end
    assert.is_true(#Note:query({ connection = "short" }):read_preference("secondaryPreferred"):exec() > 0)
    assert.is_true(#Note:query({ connection = "short" }):read_preference("nearest"):exec() > 0)
    local began = servers.now_ms()
    local err = helper.expect_error("E_NETWORK", function() Note:create({ text = "z" }, { connection = "short" }) end)
    assert.equal("not_applied", err.outcome)
    err = helper.expect_error("E_NETWORK", function() Note:all { connection = "short" } end)
    assert.is_true(err.retryable)
    assert.is_true(servers.now_ms() - began < 12000)
    for _, member in ipairs(stopped) do member:start() end
    primary()
    Note:create({ text = "again" }, { connection = "short" })
    short:close()
  end)
end)
