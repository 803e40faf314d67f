-- What lumo tells the developer of an app: commands, failures, connections, slow commands, loading one by one.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("events")

local Post = lumo.model("EventPost", {
  collection = "event_posts", columns = { title = "string", n = { "integer" } }, indexes = { { "n", unique = true } },
  relations = {
    tags = lumo.many_to_many("EventTag", { pivot_table = "event_pivot" }),
    notes = lumo.has_many("EventNote", { foreign_key = "post_id" }),
  },
})
local Tag = lumo.model("EventTag", { collection = "event_tags", columns = { label = "string" } })
lumo.model("EventNote", { collection = "event_notes", columns = { post_id = "objectid" } })

local offs = {}

local function on(...)
  local off = lumo.on(...)
  offs[#offs + 1] = off
  return off
end

local function refused(fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  assert.equal("E_ARGUMENT", err.code)
end

before_each(function()
  Post:truncate()
  Post:ensure_indexes()
end)

after_each(function()
  for _, off in ipairs(offs) do off() end
  offs = {}
  lumo.warn_about { lazy_loading = "off" }
end)

teardown(helper.drop)

describe("lumo.on", function()
  it("tells of every command, with model, relation, operation, time and place", function()
    local seen = {}
    local off = on("command", function(event) seen[#seen + 1] = event end)
    local post = Post:create { title = "x", n = 1 }
    post.tags:attach(Tag:create { label = "a" })
    post:load("tags")
    assert.equal("insert", seen[1].name)
    assert.equal("event_posts", seen[1].collection)
    assert.equal("EventPost", seen[1].model)
    assert.matches("events_spec.lua:%d+$", seen[1].place)
    assert.is_false(seen[1].failed)
    assert.is_true(seen[1].duration_ms >= 0)
    assert.equal("EventPost.tags", seen[3].relation)
    assert.equal("attach", seen[3].op)
    assert.equal("load", seen[4].op)
    assert.equal(5, #seen)
    off()
    Post:count()
    assert.equal(5, #seen)
  end)

  it("tells of failures, with their outcome", function()
    local failures, commands = {}, {}
    on("error", function(event) failures[#failures + 1] = event end)
    on("command", function(event) commands[#commands + 1] = event end)
    Post:create { n = 1 }
    pcall(Post.create, Post, { n = 1 })
    assert.equal(1, #failures)
    assert.equal("E_DUPLICATE_KEY", failures[1].error.code)
    assert.is_string(failures[1].op)
    helper.conn:command(lumo.ordered {
      { "configureFailPoint", "failCommand" }, { "mode", { times = 1 } },
      { "data", { failCommands = { "find" }, errorCode = 2 } },
    }, { database = "admin" })
    pcall(Post.all, Post)
    assert.equal("E_SERVER", failures[2].error.code)
    assert.is_true(commands[#commands].failed)
  end)

  it("tells of how transactions end", function()
    local seen, failures = {}, {}
    on("command", function(event) seen[#seen + 1] = event end)
    on("error", function(event) failures[#failures + 1] = event end)
    lumo.transaction(function() Post:create { n = 1 } end)
    assert.equal("insert commitTransaction", seen[1].name .. " " .. seen[2].name)
    assert.equal("transaction", seen[2].op)
    assert.equal(helper.conn.name, seen[2].connection)
    assert.is_nil(seen[2].model or seen[2].relation or seen[2].collection or seen[2].outcome)
    assert.is_true(seen[2].durationMs > 0 and not seen[2].failed)
    assert.matches("events_spec.lua:%d+$", seen[2].place)
    local trx = lumo.transaction()
    Post:create({ n = 2 }, { client = trx })
    trx:rollback()
    assert.equal("abortTransaction", seen[4].name)
    pcall(lumo.transaction, function()
      Post:create { n = 3 }
      error("no")
    end)
    assert.equal("abortTransaction", seen[6].name)
    assert.equal(0, #failures)
    helper.conn:command(lumo.ordered {
      { "configureFailPoint", "failCommand" }, { "mode", { times = 1 } },
      { "data", { failCommands = { "commitTransaction" }, errorCode = 2 } },
    }, { database = "admin" })
    assert.is_false((pcall(lumo.transaction, function() Post:create { n = 4 } end)))
    assert.equal("commitTransaction", seen[9].name)
    assert.is_true(seen[9].failed)
    assert.equal("not_applied", seen[9].outcome)
    assert.equal("E_SERVER", failures[1].error.code)
    assert.equal("transaction", failures[1].op)
  end)

  it("tells of every command that count_commands counts", function()
    local post = Post:create { n = 0 }
    local rows, labels = {}, {}
    for i = 1, 1500 do rows[i] = { n = i } end
    for i = 1, 3 do labels[i] = Tag:create { label = "l" .. i } end
    local function sum(name)
      local seen = {}
      local off = on("command", function(event) seen[#seen + 1] = event.name end)
      local count, list = lumo.count_commands(function()
        Post:create_many(rows)
        for one in Post:query():each() do post = one end
        for one in Post:query():each() do
          if one.n == 5 then break end
        end
        collectgarbage()
        collectgarbage()
        post.tags:sync { [labels[1]._id] = {}, [labels[2]._id] = {} }
        post.tags:sync { labels[2], labels[3] }
        lumo.transaction(function() post.tags:toggle { labels[1] } end)
        pcall(lumo.transaction, function()
          post.tags:detach()
          error("no")
        end)
        post.tags:create { label = "new" }
      end)
      off()
      local sent = {}
      for i, one in ipairs(list) do sent[i] = one.name end
      assert.equal(table.concat(sent, " "), table.concat(seen, " "))
      assert.equal(count, #seen)
      return select(2, table.concat(seen, " "):gsub(name, ""))
    end
    assert.is_true(sum("getMore") >= 1)
    Post:truncate()
    assert.is_true(sum("commitTransaction") >= 2)
  end)

  it("counts what the caller and the coroutines that it resumes send, for all counts around it", function()
    Post:create_many { { n = 1 }, { n = 2 } }
    local inner, outer, others, list
    local other = coroutine.wrap(function()
      others = lumo.count_commands(function()
        Post:count()
        coroutine.yield()
        Post:count()
      end)
    end)
    outer, list = lumo.count_commands(function()
      Post:count()
      other()
      inner = lumo.count_commands(function() lumo.transaction(function() Post:create { n = 3 } end) end)
      other()
      assert.is_false((pcall(lumo.count_commands, function()
        Post:count()
        error("on purpose")
      end)))
      coroutine.wrap(function() Post:count() end)()
      Post:first()
    end)
    assert.same({ 2, 8, 2 }, { inner, outer, others })
    local sent = {}
    for i, one in ipairs(list) do sent[i] = one.name end
    local expected = "aggregate aggregate insert commitTransaction aggregate aggregate aggregate find"
    assert.equal(expected, table.concat(sent, " "))
    assert.equal("EventPost", list[1].model)
    assert.matches("events_spec.lua:%d+$", list[1].place)
    assert.equal(0, (lumo.count_commands(function() end)))
  end)

  it("counts what a listener sends for the listener's own counts alone", function()
    local inner
    on("command", function()
      inner = lumo.count_commands(function() Post:count() end)
    end)
    assert.equal(1, (lumo.count_commands(function() Post:first() end)))
    assert.equal(1, inner)
  end)

  it("counts of a cursor what is sent meanwhile, not what was sent between", function()
    local stream = Post:watch()
    local function poll() return (lumo.count_commands(function() stream:try_next() end)) end
    local first = poll()
    stream:try_next()
    stream:try_next()
    assert.is_true(first >= 1)
    assert.equal(1, poll())
    stream:close()
  end)

  it("runs what waits for the end of a transaction, whatever a listener raises", function()
    local ran = {}
    on("command", function(event)
      if event.name:find("Transaction") then error("from a listener", 0) end
    end)
    local function within(event, fail)
      return select(2, pcall(lumo.transaction, function(trx)
        Post:create { n = fail and 2 or 1 }
        trx:after(event, function() ran[#ran + 1] = event end)
        if fail then error("body", 0) end
      end))
    end
    assert.equal("from a listener", within("commit"))
    assert.equal("from a listener", within("rollback", true))
    assert.same({ "commit", "rollback" }, ran)
    assert.equal(1, Post:count())
  end)

  it("tells of connections", function()
    local made
    on("connect", function(connection) made = connection end)
    local conn = lumo.connect(helper.uri(), { name = "event_connection", database = "x" })
    assert.equal(conn, made)
    conn:close()
  end)

  it("lets what a listener raises come out of the call, and a listener send commands of its own", function()
    local count = 0
    on("command", function()
      count = count + 1
      Post:count()
    end)
    Post:count()
    assert.equal(1, count)
    on("command", function() error("from a listener", 0) end)
    local ok, err = pcall(Post.count, Post)
    assert.is_false(ok)
    assert.equal("from a listener", err)
  end)

  it("takes nothing else", function()
    refused(function() lumo.on("nope", function() end) end)
    refused(function() lumo.on("command") end)
    refused(function() lumo.on(nil, function() end) end)
    refused(function() lumo.slow_log() end)
    refused(function() lumo.slow_log { ms = "x" } end)
    refused(function() lumo.slow_log { ms = 0 / 0 } end)
    refused(function() lumo.slowLog { ms = 1, fn = 5 } end)
    refused(function() lumo.warn_about {} end)
    refused(function() lumo.warnAbout { lazy_loading = "sometimes" } end)
  end)
end)

describe("lumo.slow_log", function()
  it("tells of commands that take long", function()
    local slow = {}
    offs[#offs + 1] = lumo.slow_log { ms = 40, fn = function(event) slow[#slow + 1] = event end }
    Post:create { n = 1 }
    Post:aggregate { { ["$match"] = { ["$expr"] = { ["$function"] = {
      body = "function() { sleep(60); return true }", args = lumo.array {}, lang = "js",
    } } } } }
    assert.is_true(#slow >= 1)
    assert.equal("aggregate", slow[#slow].name)
    assert.is_true(slow[#slow].duration_ms >= 40)
  end)

  it("writes a line to stderr with the place", function()
    local output = helper.shell(("%s -e %q 2>&1"):format(helper.interpreter, ([[
      local lumo = require 'lumo'
      lumo.connect('%s', { database = '%s' })
      lumo.slow_log { ms = 0 }
      lumo.connection():ping()
    ]]):format(helper.uri(), helper.database)))
    assert.matches("^lumo: %d+ ms ping %(command%) at ", output)
  end)
end)

describe("lumo.warn_about", function()
  before_each(function()
    local rows = {}
    for i = 1, 6 do rows[i] = { n = i } end
    Post:create_many(rows)
  end)

  it("tells of relations that are loaded one by one, once for each list", function()
    local told = {}
    lumo.warn_about { lazy_loading = "warn", fn = function(message) told[#told + 1] = message end }
    for _, post in ipairs(Post:all()) do post.tags:exec() end
    assert.equal(1, #told)
    assert.matches('"EventPost.tags" is loaded for one record after the other at .*events_spec.lua:%d+', told[1])
    for _, post in ipairs(Post:all()) do post:load("notes") end
    assert.equal(2, #told)
    for _, post in ipairs(Post:query():preload("tags"):preload("notes"):exec()) do assert.equal(0, #post.tags) end
    lumo.load(Post:all(), "tags")
    for i = 1, 6 do Post:find_by("n", i):load("tags") end -- each from a read of its own
    assert.equal(2, #told)
  end)

  it("raises where that is wanted", function()
    lumo.warn_about { lazy_loading = "raise" }
    refused(function()
      for _, post in ipairs(Post:all()) do post.notes:query():count() end
    end)
  end)
end)
