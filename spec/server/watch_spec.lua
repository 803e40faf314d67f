-- Change streams: of documents and of pairs, from their beginning or from where an earlier one stood.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("watch")

local Post = lumo.model("WatchPost", {
  collection = "watch_posts",
  columns = { title = { "string", column = "t" }, views = "integer", meta = "object", at = "date" },
  relations = { tags = lumo.many_to_many("WatchTag", {
    pivot_table = "watch_pivot", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
  }) },
})
local Tag = lumo.model("WatchTag", { collection = "watch_tags", columns = { label = "string" } })

local function collect(stream, n)
  local list = {}
  for i = 1, n do
    list[i] = stream:try_next() or stream:try_next() or stream:try_next()
  end
  return list
end

local function refused(code, fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  assert.equal(code, err.code)
  return err
end

teardown(helper.drop)

describe("a stream of a model", function()
  it("gives inserts, updates and deletes as they happen, as records", function()
    local stream = Post:watch { max_await_ms = 200 }
    assert.is_nil(stream:try_next())
    local post = Post:create { title = "one", views = 1, meta = { a = 1 }, at = 5 }
    post.title = "two"
    post.views = nil
    post:save()
    post:delete()
    local events = collect(stream, 3)
    assert.equal("insert", events[1].type)
    assert.equal(post._id, events[1].id)
    assert.equal("one", events[1].record.title)
    assert.equal(5, events[1].record.at:seconds())
    assert.is_true(events[1].record.is_persisted)
    assert.is_true(math.abs(events[1].at:seconds() - os.time()) < 600)
    assert.equal("update", events[2].type)
    assert.same({ title = "two" }, events[2].updated)
    assert.same({ "views" }, events[2].removed)
    assert.is_nil(events[2].record)
    assert.equal("delete", events[3].type)
    assert.equal(post._id, events[3].id)
    assert.is_nil(stream:try_next())
    stream:close()
    assert.is_nil(stream:next())
  end)

  it("can look the document up, and take only some operations or stages", function()
    local stream = Post:watch { operations = { "update" }, full_document = "update_lookup", maxAwaitMs = 200 }
    local post = Post:create { title = "one" }
    post:merge({ title = "two" }):save()
    local event = stream:next()
    assert.equal("update", event.type)
    assert.equal("two", event.record.title)
    local only = Post:watch { pipeline = { { ["$match"] = { ["fullDocument.t"] = "wanted" } } }, max_await_ms = 200 }
    Post:create_many { { title = "other" }, { title = "wanted" } }
    assert.equal("wanted", only:next().record.title)
  end)

  it("goes on behind a token, in another stream and another process", function()
    local stream = Post:watch { max_await_ms = 200 }
    local made = Post:create_many { { title = "a" }, { title = "b" }, { title = "c" } }
    local first = stream:next()
    assert.equal(made[1]._id, first.id)
    assert.equal(first.token, stream.resume_token)
    stream:close()
    local again = Post:watch { resume_after = first.token, max_await_ms = 200 }
    local rest = collect(again, 2)
    assert.equal(made[2]._id, rest[1].id)
    assert.equal(made[3]._id, rest[2].id)
    assert.is_nil(again:try_next())
    local output = helper.run(([[
      local lumo = require "lumo"
      lumo.connect(%q, { database = %q })
      local Post = lumo.model("WatchPost", { collection = "watch_posts", columns = { title = "string" } })
      for event in Post:watch { resume_after = %q }:each() do
        print(event.id)
        if tostring(event.id) == %q then break end
      end
    ]]):format(helper.uri(), helper.database, first.token, tostring(made[3]._id)))
    assert.equal(("%s\n%s\n"):format(tostring(made[2]._id), tostring(made[3]._id)), output)
  end)

  it("neither loses nor repeats an event when its cursor dies", function()
    local stream = Post:watch { max_await_ms = 200 }
    local one = Post:create { title = "one" }
    assert.equal(one._id, stream:next().id)
    local two = Post:create { title = "two" }
    helper.conn:command(lumo.ordered {
      { "configureFailPoint", "failCommand" }, { "mode", { times = 1 } },
      { "data", { failCommands = { "getMore" }, errorCode = 10107 } },
    }, { database = "admin" })
    assert.equal(two._id, stream:next().id)
    helper.conn:command(lumo.ordered {
      { "configureFailPoint", "failCommand" }, { "mode", { times = 1 } },
      { "data", { failCommands = { "getMore" }, closeConnection = true } },
    }, { database = "admin" })
    local three = Post:create { title = "three" }
    assert.equal(three._id, stream:next().id)
    assert.is_nil(stream:try_next())
  end)

  it("surfaces what it cannot go on after", function()
    local stream = Post:watch { max_await_ms = 200 }
    helper.conn:command(lumo.ordered {
      { "configureFailPoint", "failCommand" }, { "mode", { times = 1 } },
      { "data", { failCommands = { "getMore" }, errorCode = 280 } },
    }, { database = "admin" })
    local err = refused("E_SERVER", function() stream:try_next() end)
    assert.equal(280, err.server_code)
  end)

  it("ends with its collection", function()
    local Short = lumo.model("WatchShort", { collection = "watch_short", columns = { a = "integer" } })
    Short:create { a = 1 }
    local stream = Short:watch { max_await_ms = 200 }
    helper.command { { "drop", "watch_short" } }
    local types = {}
    for event in stream:each() do types[#types + 1] = event.type end
    assert.same({ "drop", "invalidate" }, types)
    assert.is_nil(stream:try_next())
  end)

  it("is outside of a transaction", function()
    lumo.transaction(function()
      local stream = Post:watch { max_await_ms = 100 }
      Post:create { title = "not yet" }
      assert.is_nil(stream:try_next())
      stream:close()
    end)
  end)

  it("refuses wrong options", function()
    for _, options in ipairs {
      { nope = 1 }, { max_await_ms = 0 }, { max_await_ms = "x" }, { full_document = "sometimes" },
      { operations = {} }, { operations = { 1 } }, { operations = "insert" }, { pipeline = {} },
      { resume_after = "x" }, { resume_after = 5 }, { resume_after = "{}", start_at = lumo.timestamp(1, 1) },
    } do
      refused("E_ARGUMENT", function() Post:watch(options) end)
    end
    refused("E_UNDEFINED_RELATIONSHIP", function() Post:watch("nope") end)
    refused("E_ARGUMENT", function() Post:watch("tags", { operations = { "insert" } }) end)
    refused("E_ARGUMENT", function() Post.watch() end)
    local stream = Post:watch()
    refused("E_ARGUMENT", function() stream.next() end)
    refused("E_ARGUMENT", function() stream.tryNext({}) end)
  end)
end)

describe("a stream of a relation", function()
  it("gives what happens to pairs, with ids and attributes", function()
    local post, other = Post:create { title = "p" }, Post:create { title = "q" }
    local a, b = Tag:create { label = "a" }, Tag:create { label = "b" }
    local stream = Post:watch("tags", { max_await_ms = 200 })
    post.tags:attach { [a._id] = { weight = 1 } }
    post.tags:update_pivot_data(a, { weight = 2 })
    post.tags:sync { b._id }
    other.tags:attach(a)
    local events = collect(stream, 5)
    local seen = {}
    for i, event in ipairs(events) do seen[i] = event.type end
    assert.same({ "attached", "pivot_updated", "attached", "detached", "attached" }, seen)
    assert.equal(post._id, events[1].owner_id)
    assert.equal(a._id, events[1].related_id)
    assert.same({ weight = 1 }, events[1].pivot)
    assert.same({ weight = 2 }, events[2].pivot)
    assert.equal(a._id, events[2].related_id)
    assert.equal(b._id, events[3].related_id)
    assert.equal(post._id, events[4].owner_id)
    assert.equal(a._id, events[4].related_id)
    assert.same({ weight = 2 }, events[4].pivot)
    assert.equal(other._id, events[5].owner_id)
    local again = Post:watch("tags", { resume_after = events[4].token, max_await_ms = 200 })
    assert.equal(other._id, again:next().owner_id)
  end)
end)

describe("watching a standalone server", function()
  it("is E_UNSUPPORTED", function()
    local server = helper.start_mongod()
    local conn = lumo.connect(server.address, { name = "watch_standalone", database = "x" })
    refused("E_UNSUPPORTED", function() Post:watch { client = conn } end)
    conn:close()
    server:remove()
  end)
end)

describe("a stream whose server is restarted", function()
  it("goes on where it stood, without a loss", function()
    local embedded = require "lumo.embedded"
    local folder = helper.shell("mktemp -d"):gsub("%s+$", "")
    local server = embedded.start { path = folder }
    local conn = lumo.connect(server.uri, { name = "watch_restart" })
    local stream = Post:watch { client = conn, max_await_ms = 200 }
    local one = Post:create({ title = "one" }, { client = conn })
    local event = stream:next()
    assert.equal(one._id, event.id)
    stream:close()
    conn:close()
    server.stop()
    server = embedded.start { path = folder }
    conn = lumo.connect(server.uri, { name = "watch_restart" })
    local two = Post:create({ title = "two" }, { client = conn })
    stream = Post:watch { client = conn, resume_after = event.token, max_await_ms = 200 }
    assert.equal(two._id, stream:next().id)
    assert.is_nil(stream:try_next())
    conn:close()
    server.stop()
    helper.shell("rm -rf " .. folder)
  end)
end)
