-- A change stream whose server goes away while it is open: it goes on by itself, loses nothing, repeats nothing.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo
local servers = dofile("spec/campaign/servers.lua")

local SECONDS = 180 -- the servers' longest life, should this file break off
local DATABASE = "watch_resume"
local set, server, conn

local Note = lumo.model("ResumeNote", {
  collection = "notes", connection = "resume", columns = { n = "integer" },
  relations = { tags = lumo.many_to_many("ResumeTag", {
    pivot_table = "pairs", pivot_foreign_key = "note_id", pivot_related_foreign_key = "tag_id",
  }) },
})
local Tag = lumo.model("ResumeTag", { collection = "tags", connection = "resume", columns = { n = "integer" } })

local function connect(options)
  options.name, options.database = options.name or "resume", DATABASE
  return lumo.connect(set.uri, options)
end

--- Has the server killed, or stopped, and started again in `after` seconds, while this process goes on.
local function restart_in(after, signal)
  os.execute(("(sleep %.2f; pid=$(cat %s); kill -%s $pid; while test -e /proc/$pid; do sleep 0.02; done; rm -f %s; "
    .. "sleep 0.3; %s) &"):format(after, server.pidfile, signal, server.pidfile, server.line:gsub("%s*&$", "")))
end

-- Writes notes and pairs 1 … LAST and gives up none: a note is written again until the server says that it is there.
local WRITER = [[
  local lumo = require "lumo"
  local conn = lumo.connect(%q, { database = %q, timeout_ms = 30000 })
  local function write(collection, document)
    for _ = 1, 400 do
      local ok, err = pcall(conn.command, conn, lumo.ordered {
        { "insert", collection }, { "documents", lumo.array { document } },
        { "writeConcern", { w = "majority", j = true } },
      })
      if ok or err.code == "E_DUPLICATE_KEY" then return end -- the latter: it is there, the answer had got lost
      os.execute("sleep 0.05")
    end
    error("it could not be written")
  end
  for n = %d, %d do
    write("notes", { _id = n + 1000, n = n })
    write("pairs", { _id = n + 1000, weight = n,
      note_id = lumo.objectid(("%%024x"):format(n)), tag_id = lumo.objectid(("%%024x"):format(n)) })
    os.execute("sleep 0.02")
  end
]]

local function write_later(first, last)
  return helper.spawn(WRITER:format(set.uri, DATABASE, first, last), "timeout 60")
end

--- Reads until the number `last` has come; the numbers in the order in which they came.
local function numbers(stream, number_of, last)
  local seen = {}
  for event in stream:each() do
    seen[#seen + 1] = number_of(event)
    if seen[#seen] == last then break end
  end
  return seen
end

local function count_to(first, last)
  local list = {}
  for n = first, last do list[#list + 1] = n end
  return list
end

local function number_of_note(event)
  assert.equal("insert", event.type)
  return event.record.n
end

local function number_of_pair(event)
  assert.equal("attached", event.type)
  return event.pivot.weight
end

setup(function()
  helper.connect("watch_resume")
  set = servers.replica_set(1, SECONDS)
  server = set.members[1]
  conn = connect { timeout_ms = 20000 }
  Note:create { n = 0 }
  Tag:create { n = 0 }
  conn:command { create = "pairs" }
end)

teardown(function()
  if conn then conn:close() end
  if set then set.remove() end
  helper.drop()
end)

describe("a stream whose server is restarted", function()
  local last = 0
  for _, signal in ipairs { "KILL", "TERM" } do
    it("goes on while it waits, and between two events, after SIG" .. signal, function()
      local notes, pairs_of = Note:watch { max_await_ms = 300 }, Note:watch("tags", { max_await_ms = 300 })
      local first = last + 1
      last = last + 25
      local writer = write_later(first, last)
      servers.admin(server, { "setParameter", 1 }, { "shutdownTimeoutMillisForSignaledShutdown", 100 })
      restart_in(0.3, signal)
      assert.same(count_to(first, last), numbers(notes, number_of_note, last))
      assert.equal(0, select(2, writer:wait()))
      assert.same(count_to(first, last), numbers(pairs_of, number_of_pair, last)) -- it has not been read meanwhile
      assert.is_nil(notes:try_next())
      assert.is_nil(pairs_of:try_next())
      notes:close()
      pairs_of:close()
    end)
  end

  it("goes on behind a token of before in another stream", function()
    local stream = Note:watch { max_await_ms = 300 }
    local one, two = Note:create { n = 1 }, Note:create { n = 2 }
    local event = stream:next()
    assert.equal(one._id, event.id)
    stream:close()
    server:kill()
    server:start()
    local three = Note:create { n = 3 }
    stream = Note:watch { resume_after = event.token, max_await_ms = 300 }
    assert.equal(two._id, stream:next().id)
    assert.equal(three._id, stream:next().id)
    assert.is_nil(stream:try_next())
    stream:close()
  end)

  it("raises when none comes back in time, and goes on when one does later", function()
    local short = connect { name = "resume_short", timeout_ms = 1500 }
    local stream = Note:watch { client = short, max_await_ms = 300 }
    local one, two = Note:create { n = 1 }, Note:create { n = 2 }
    assert.equal(one._id, stream:next().id)
    assert.equal(two._id, stream:next().id)
    local token = stream.resume_token
    server:kill()
    for _ = 1, 2 do
      local began = servers.now_ms()
      local err = helper.expect_error("E_NETWORK", function() stream:next() end)
      assert.is_true(err.retryable)
      assert.is_true(servers.now_ms() - began < 3500)
      assert.equal(token, stream.resume_token)
    end
    server:start()
    local three = Note:create { n = 3 }
    assert.equal(three._id, stream:next().id)
    assert.is_nil(stream:try_next())
    stream:close()
    short:close()
  end)
end)

describe("a stream whose connection is cut", function()
  it("goes on, whether the answer had been given or not", function()
    local proxy = servers.proxy(server.port, nil, SECONDS)
    local cut = lumo.connect(("mongodb://127.0.0.1:%d/%s?directConnection=true"):format(proxy.port, DATABASE),
      { name = "resume_cut", timeout_ms = 5000 })
    local stream = Note:watch { client = cut, max_await_ms = 300 }
    local of_pairs = Note:watch("tags", { client = cut, max_await_ms = 300 })
    local function cut_next(moment)
      servers.write_file(proxy.orders, ("getMore * %s cut 1"):format(moment))
    end
    local function is_cut()
      return not servers.exists(proxy.orders)
    end
    for _, moment in ipairs { "before", "after" } do
      local note, tag = Note:create { n = 1 }, Tag:create { n = 1 }
      note.tags:attach(tag)
      cut_next(moment)
      assert.equal(note._id, stream:next().id)
      assert.is_true(is_cut())
      cut_next(moment)
      local event = of_pairs:next()
      assert.is_true(is_cut())
      assert.equal(note._id, event.owner_id)
      assert.equal(tag._id, event.related_id)
      cut_next(moment)
      assert.is_nil(stream:try_next())
      assert.is_true(is_cut())
      assert.is_nil(stream:try_next())
      assert.is_nil(of_pairs:try_next())
    end
    stream:close()
    of_pairs:close()
    cut:close()
    proxy.remove()
  end)
end)
