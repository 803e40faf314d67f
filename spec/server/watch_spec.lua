-- Change streams: of documents and of pairs, from their beginning or from where an earlier one stood.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("watch")

local Post = lumo.model("WatchPost", {
  collection = "watch_posts",
  columns = {
    title = { "string", column = "t" }, views = "integer", meta = "object", at = "date", labels = "array",
  },
  relations = {
    tags = lumo.many_to_many("WatchTag", {
      pivot_table = "watch_pivot", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
    }),
    parts = lumo.has_many("WatchTag", { foreign_key = "post_id" }),
  },
})
lumo.model("WatchPair", { collection = "watch_typed_pivot",
  columns = { post_id = "objectid", tag_id = "objectid", weight = "integer" } })
local Typed = lumo.model("WatchTyped", {
  columns = { title = "string" },
  relations = { tags = lumo.many_to_many("WatchTag", {
    pivot_model = "WatchPair", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
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

--- The cursors that are open on a collection.
local function cursors_of(collection)
  local reply = helper.conn:command(lumo.ordered {
    { "aggregate", 1 }, { "cursor", {} },
    { "pipeline", lumo.array {
      { ["$currentOp"] = { idleCursors = true, allUsers = true } },
      { ["$match"] = { type = "idleCursor", ns = helper.database .. "." .. collection } },
    } },
  }, { database = "admin" })
  local ids = {}
  for i, op in ipairs(reply.cursor.firstBatch) do ids[i] = op.cursor.cursorId end
  return ids
end

--- Kills them from another connection than that which has them; how many there were.
local function kill_cursors(collection)
  local ids = cursors_of(collection)
  if #ids > 0 then helper.command { { "killCursors", collection }, { "cursors", lumo.array(ids) } } end
  return #ids
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

  local function fail_next_more(data)
    data.failCommands = { "getMore" }
    helper.conn:command(lumo.ordered {
      { "configureFailPoint", "failCommand" }, { "mode", { times = 1 } }, { "data", data },
    }, { database = "admin" })
  end

  it("neither loses nor repeats an event when its cursor dies", function()
    local stream = Post:watch { max_await_ms = 200 }
    local deaths = {
      function() fail_next_more { errorCode = 10107, errorLabels = { "ResumableChangeStreamError" } } end,
      function() fail_next_more { errorCode = 43 } end,
      function() fail_next_more { closeConnection = true } end,
      function() assert.is_true(kill_cursors("watch_posts") > 0) end,
    }
    for i, die in ipairs(deaths) do
      local made = Post:create_many { { title = "a" }, { title = "b" } }
      die()
      assert.equal(made[1]._id, stream:next().id, i)
      assert.equal(made[2]._id, stream:next().id, i)
      assert.is_nil(stream:try_next())
      die()
      assert.is_nil(stream:try_next())
    end
    stream:close()
  end)

  it("raises what it cannot go on after, and goes on if it is asked again", function()
    for _, code in ipairs { 280, 10107, 237 } do -- of those without the server's word that it may go on
      local stream = Post:watch { max_await_ms = 200 }
      local post = Post:create { title = "one" }
      fail_next_more { errorCode = code, errorLabels = lumo.array {} }
      assert.equal(code, refused("E_SERVER", function() stream:try_next() end).server_code)
      assert.equal(post._id, stream:next().id)
      assert.is_nil(stream:try_next())
      stream:close()
    end
  end)

  it("is opened once where the server does not take it", function()
    local _, list = lumo.count_commands(function()
      local err = refused("E_SERVER", function() Post:watch { pipeline = { { ["$sort"] = { a = 1 } } } } end)
      assert.equal(20, err.server_code)
      refused("E_SERVER", function() Post:watch { resume_after = [[{"_data":"82"}]] } end)
    end)
    assert.equal(2, #list)
  end)

  it("gives its cursor and its client back when it is closed or forgotten", function()
    local conn = lumo.connect(helper.uri(), { name = "watch_one", database = helper.database, pool_size = 1,
      timeout_ms = 1000 })
    collectgarbage()
    collectgarbage()
    helper.conn:ping() -- kills those of earlier tests
    local before = #cursors_of("watch_posts")
    for _, leave in ipairs {
      function(stream) stream:close() end,
      function(stream) stream:close() stream:close() end,
      function() end,
    } do
      leave(Post:watch { client = conn, max_await_ms = 100 })
      collectgarbage()
      collectgarbage()
      conn:ping()
      assert.equal(before, #cursors_of("watch_posts"))
    end
    conn:close()
  end)

  it("that is closed stands behind the last event it gave", function()
    local stream = Post:watch { max_await_ms = 200 }
    local made = Post:create_many { { title = "a" }, { title = "b" }, { title = "c" } }
    for event in stream:each() do
      assert.equal(made[1]._id, event.id)
      stream:close()
    end
    assert.is_nil(stream:try_next())
    local rest = collect(Post:watch { resume_after = stream.resume_token, max_await_ms = 200 }, 2)
    assert.equal(made[2]._id, rest[1].id)
    assert.equal(made[3]._id, rest[2].id)
  end)

  it("tells of arrays that were cut short", function()
    local post = Post:create { title = "one", labels = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 } }
    local stream = Post:watch { max_await_ms = 200 }
    helper.update("watch_posts", { _id = post._id }, lumo.array {
      { ["$set"] = { labels = { ["$slice"] = lumo.array { "$labels", 8 } } } },
    })
    assert.same({ labels = 8 }, stream:next().truncated)
    stream:close()
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
    local again = Short:watch { resume_after = stream.resume_token, max_await_ms = 200 }
    assert.is_nil(again:try_next())
    local made = Short:create { a = 2 }
    assert.equal(made._id, again:next().id)
    again:close()
    local few = Short:watch { operations = { "insert" }, max_await_ms = 200 }
    helper.command { { "drop", "watch_short" } }
    assert.is_nil(few:next())
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
      { operations = { "insert", nil, "update" } }, { operations = { a = "insert" } }, { pipeline = { 5 } },
      { pipeline = { {}, print } }, { max_await_ms = 1.5 }, { max_await_ms = 60001 }, { max_await_ms = 0 / 0 },
      { resume_after = "x" }, { resume_after = 5 }, { resume_after = {} }, { resume_after = "{}" },
      { resume_after = [[{"_data":1}]] }, { resume_after = [[{"_data":"xyz"}]] }, { start_at = 5 },
      { start_at = lumo.datetime.now() }, { start_at = lumo.regex("a") }, { 1 }, 5, true, print,
      { resume_after = [[{"_data":"82"}]], start_at = lumo.timestamp(1, 1) },
    } do
      refused("E_ARGUMENT", function() Post:watch(options) end)
    end
    refused("E_UNDEFINED_RELATIONSHIP", function() Post:watch("nope") end)
    refused("E_UNDEFINED_RELATIONSHIP", function() Post:watch("") end)
    refused("E_ARGUMENT", function() Post:watch("tags", 5) end)
    refused("E_ARGUMENT", function() Post:watch("tags", { resume_after = "x" }) end)
    refused("E_UNSUPPORTED", function() Post:watch("parts") end)
    refused("E_ARGUMENT", function() Post:watch("tags", { operations = { "insert" } }) end)
    refused("E_ARGUMENT", function() Post.watch() end)
    local stream = Post:watch()
    refused("E_ARGUMENT", function() stream.next() end)
    refused("E_ARGUMENT", function() stream.tryNext({}) end)
  end)
end)

describe("a stream and the connection's timeout", function()
  it("waits for events within it", function()
    local conn = lumo.connect(helper.uri(), { name = "watch_short", database = helper.database, timeout_ms = 400 })
    local err = refused("E_ARGUMENT", function() Post:watch { client = conn, max_await_ms = 400 } end)
    assert.matches("below the connection's timeout, 400 ms", err.message, 1, true)
    local stream = Post:watch { client = conn }
    local _, list = lumo.count_commands(function() assert.is_nil(stream:try_next()) end)
    assert.equal(1, #list) -- it has not broken off
    stream:close()
    conn:close()
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

  it("goes on when its cursor dies", function()
    local post, tag = Post:create { title = "p" }, Tag:create { label = "a" }
    local stream = Post:watch("tags", { max_await_ms = 200 })
    post.tags:attach { [tag._id] = { weight = 1 } }
    assert.is_true(kill_cursors("watch_pivot") > 0)
    local event = stream:next()
    assert.equal("attached", event.type)
    assert.equal(tag._id, event.related_id)
    post.tags:detach(tag)
    assert.is_true(kill_cursors("watch_pivot") > 0)
    event = stream:next()
    assert.equal("detached", event.type)
    assert.same({ weight = 1 }, event.pivot)
    assert.is_nil(stream:try_next())
    stream:close()
  end)

  it("raises for a pair that its columns cannot hold, and goes on behind it", function()
    local stream = Typed:watch("tags", { max_await_ms = 200 })
    helper.insert("watch_typed_pivot", {
      { post_id = lumo.objectid(), tag_id = lumo.objectid(), weight = 1 },
      { post_id = lumo.objectid(), tag_id = lumo.objectid(), weight = "heavy" },
      { post_id = lumo.objectid(), tag_id = lumo.objectid(), weight = 3 },
    })
    assert.equal(1, stream:next().pivot.weight)
    refused("E_CAST", function() stream:next() end)
    assert.equal(3, stream:next().pivot.weight)
    assert.is_nil(stream:try_next())
    stream:close()
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
