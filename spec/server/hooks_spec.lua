-- Hooks: when they run, in which order, what they may do, and what they undo.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local conn = helper.connect("hooks")
-- What is stored is looked at from outside of any transaction of `conn`.
helper.conn = lumo.connect(helper.uri(), { name = "hooks raw", database = helper.database })
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused
local commands, expect_commands = helper.commands, helper.expect_commands
local pluck = helper.pluck

local EVENTS = { "save", "create", "update", "delete", "find", "fetch", "paginate" }

-- What the hooks have told since the last test began, and what they do beside telling it.
local told, acts

local number = 0

-- A model of its own, all of whose hooks tell `prefix`, when and event, then do what `acts` says.
local function define(prefix, extends)
  number = number + 1
  local Model = lumo.model(("Hooked%d"):format(number), {
    collection = "posts", extends = extends,
    columns = { title = "string", slug = "string", views = "integer", revision = "integer" },
  })
  for _, event in ipairs(EVENTS) do
    for _, when in ipairs { "before", "after" } do
      Model[when](Model, event, function(...)
        local key = prefix .. when .. " " .. event
        told[#told + 1] = key
        if acts[key] then acts[key](...) end
      end)
    end
  end
  return Model
end

-- A definition's place tells whether it is a new one: each of these has a line of its own.
local function load_definition(prefix, extends)
  local chunk = assert(load(("local define = ...; return function(...) %s return define(...) end")
    :format(("\n"):rep(number)), ("@hooks %d"):format(number)))
  return chunk(define)(prefix, extends)
end

local Post = load_definition("")
local Log = lumo.model("HookLog", { collection = "logs", columns = { text = "string" } })
helper.create_index("posts", { { "slug", 1 } }, { unique = true, sparse = true })
helper.create_index("logs", { { "text", 1 } })

local function stored_titles()
  return table.concat(pluck(helper.docs("posts", {}, { title = 1 }), "title"), " ")
end

-- The next `times` of these commands on a collection fail, as when two writers meet.
local function collide(command, collection, times)
  helper.conn:command(lumo.ordered {
    { "configureFailPoint", "failCommand" }, { "mode", { times = times } },
    { "data", {
      failCommands = lumo.array { command }, namespace = helper.database .. "." .. collection, errorCode = 112,
      errorLabels = lumo.array { "TransientTransactionError" },
    } },
  }, { database = "admin" })
end

before_each(function()
  helper.clear("posts", "logs")
  told, acts = {}, {}
end)

local function forget()
  told = {}
end

-- Runs a transaction to its end and rolls it back; what else it raises goes through.
local function undo(fn)
  local _, err = pcall(lumo.transaction, function(trx)
    fn(trx)
    error("undo", 0)
  end)
  if err ~= "undo" then error(err, 0) end
end

describe("the order of hooks", function()
  it("of a new record: create before save, both ways", function()
    Post:create { title = "a" }
    assert.same({ "before create", "before save", "after create", "after save" }, told)
    forget()
    Post:new({ title = "b" }):save()
    assert.same({ "before create", "before save", "after create", "after save" }, told)
  end)

  it("of a stored record: update before save, both ways", function()
    local post = Post:create { title = "a" }
    forget()
    post.title = "b"
    post:save()
    assert.same({ "before update", "before save", "after update", "after save" }, told)
  end)

  it("of a delete", function()
    local post = Post:create { title = "a" }
    forget()
    post:delete()
    assert.same({ "before delete", "after delete" }, told)
  end)

  it("of many new records: all before-hooks, one insert, all after-hooks", function()
    acts["before create"] = function(one) told[#told] = told[#told] .. " " .. one.title end
    acts["after save"] = acts["before create"]
    local _, names = commands(function() Post:create_many { { title = "a" }, { title = "b" } } end)
    assert.same({ "insert", "commitTransaction" }, names)
    assert.same({
      "before create a", "before create b", "before save", "before save",
      "after create", "after create", "after save a", "after save b",
    }, told)
  end)

  it("of reading", function()
    local post = Post:create { title = "a" }
    forget()
    local function expect(list, fn)
      fn()
      assert.same(list, told)
      forget()
    end
    local find, fetch = { "before find", "after find" }, { "before fetch", "after fetch" }
    expect(find, function() Post:first() end)
    expect(find, function() Post:first_or_fail() end)
    expect(find, function() Post:find(post._id) end)
    expect(find, function() Post:find_or_fail(post._id) end)
    expect(find, function() Post:find_by("title", "a") end)
    expect(find, function() Post:find_by_or_fail("title", "a") end)
    expect(find, function() Post:query():where("title", "a"):first() end)
    expect(fetch, function() Post:all() end)
    expect(fetch, function() Post:query():exec() end)
    expect(fetch, function() Post:find_many_by("title", "a") end)
    expect(fetch, function() for _ in Post:query():each() do assert(true) end end)
    expect({ "before find" }, function() Post:find_by("title", "none") end)
    expect({ "before find" }, function() pcall(Post.find_or_fail, Post, lumo.objectid()) end)
    expect({ "before paginate", "before fetch", "after fetch", "after paginate" }, function()
      Post:query():paginate(1)
    end)
  end)

  it("is that of registration", function()
    local Ordered = lumo.model("HookOrdered", { collection = "posts", columns = { title = "string" } })
    local seen = {}
    for i = 1, 5 do
      assert.equal(Ordered, Ordered:before("save", function() seen[#seen + 1] = i end))
    end
    Ordered:create { title = "a" }
    assert.same({ 1, 2, 3, 4, 5 }, seen)
  end)

  it("begins with the base model's", function()
    local Base = load_definition("base ")
    local Child = load_definition("child ", Base)
    local Grandchild = load_definition("grandchild ", Child)
    Grandchild:create { title = "a" }
    assert.same({
      "base before create", "child before create", "grandchild before create",
      "base before save", "child before save", "grandchild before save",
      "base after create", "child after create", "grandchild after create",
      "base after save", "child after save", "grandchild after save",
    }, told)
    forget()
    Base:create { title = "b" }
    assert.same({ "base before create", "base before save", "base after create", "base after save" }, told)
    forget()
    Child:first()
    assert.same({ "base before find", "child before find", "base after find", "child after find" }, told)
  end)
end)

describe("hooks are given", function()
  it("the record, with the state of that moment", function()
    acts["before create"] = function(one)
      assert.is_true(one.is_new)
      assert.equal("a", one.title)
    end
    acts["after create"] = function(one)
      assert.is_true(one.is_persisted)
      assert.is_false(one.is_dirty)
      assert.is_truthy(one._id)
    end
    local post = Post:create { title = "a" }
    acts["before update"] = function(one)
      assert.equal(post, one)
      assert.same({ title = "b" }, one.dirty)
      assert.equal("a", one.original.title)
    end
    acts["after update"] = function(one) assert.is_false(one.is_dirty) end
    post.title = "b"
    post:save()
    acts["before delete"] = function(one) assert.is_false(one.is_deleted) end
    acts["after delete"] = function(one)
      assert.equal(post, one)
      assert.is_true(one.is_deleted)
    end
    post:delete()
    assert.equal(10, #told)
  end)

  it("the builder before find and fetch, and may narrow it", function()
    Post:create_many { { title = "a", views = 1 }, { title = "b", views = 2 }, { title = "c", views = 3 } }
    acts["before find"] = function(q) q:where("views", ">", 1):order_by("views") end
    acts["before fetch"] = function(q) q:where("views", "<", 3) end
    assert.equal("b", Post:first().title)
    assert.equal("a b", table.concat(pluck(Post:query():order_by("title"):exec(), "title"), " "))
    assert.equal(2, #Post:all())
  end)

  it("the record after find, the list after fetch", function()
    Post:create_many { { title = "a" }, { title = "b" } }
    local one, list
    acts["after find"] = function(found) one = found end
    acts["after fetch"] = function(found) list = found end
    local first, all = Post:first(), Post:all()
    assert.equal(first, one)
    assert.equal(all, list)
    assert.equal(2, #list)
    assert.same({}, Post:query():where("title", "none"):exec())
    assert.same({}, list)
  end)

  it("count query and query before paginate, the page after it", function()
    Post:create_many { { title = "a", views = 1 }, { title = "b", views = 2 }, { title = "c", views = 3 } }
    acts["before paginate"] = function(count, q)
      count:where("views", ">", 1)
      q:where("views", ">", 1)
    end
    local given
    acts["after paginate"] = function(page) given = page end
    local page = Post:query():order_by("title"):paginate(1, 1)
    assert.equal(given, page)
    assert.equal(2, page.total)
    assert.equal("b", page[1].title)
  end)
end)

describe("a before-hook", function()
  it("may change the record, and that is stored", function()
    acts["before save"] = function(one) one.slug = one.title:lower() end
    local post = Post:create { title = "A" }
    assert.equal("a", helper.doc("posts").slug)
    post.title = "B"
    expect_commands(2, function() post:save() end) -- the update and, for the after-hooks, a commit
    assert.equal("b", helper.doc("posts").slug)
    assert.equal("b", post.slug)
  end)

  it("runs on a clean save too, which sends nothing unless a hook changed something", function()
    local post = Post:create { title = "a" }
    forget()
    expect_commands(0, function() post:save() end)
    assert.equal("before update", told[1])
    assert.equal("before save", told[2])
    acts["before save"] = function(one) one.views = 5 end
    post:save()
    assert.equal(5, helper.doc("posts").views)
  end)

  it("that raises lets nothing be sent, and leaves the record as it was", function()
    local post = Post:create { title = "a", views = 1 }
    for _, key in ipairs { "before create", "before save", "before update", "before delete" } do
      acts[key] = function(one)
        one.views = 99
        error("refused by " .. key, 0)
      end
    end
    local function refused(key, fn)
      expect_commands(0, function()
        local ok, err = pcall(fn)
        assert.is_false(ok)
        assert.equal("refused by " .. key, err)
      end)
    end
    refused("before create", function() Post:create { title = "b" } end)
    refused("before create", function() Post:create_many { { title = "b" }, { title = "c" } } end)
    local fresh = Post:new { title = "d" }
    refused("before create", function() fresh:save() end)
    assert.is_true(fresh.is_new)
    assert.is_nil(fresh.views)
    post.title = "b"
    refused("before update", function() post:save() end)
    assert.same({ title = "b" }, post.dirty)
    assert.equal(1, post.views)
    refused("before delete", function() post:delete() end)
    assert.is_false(post.is_deleted)
    assert.equal(1, post.views)
    acts["before create"], acts["before update"] = nil, nil
    refused("before save", function() fresh:save() end)
    refused("before save", function() post:save() end)
    assert.equal("a", stored_titles())
  end)

  it("that raises for one of many stores none of them", function()
    acts["before save"] = function(one)
      if one.title == "b" then error("no b", 0) end
    end
    expect_commands(0, function()
      assert.is_false((pcall(Post.create_many, Post, { { title = "a" }, { title = "b" }, { title = "c" } })))
    end)
    assert.equal("", stored_titles())
  end)

  it("that raises stops reading before anything is sent", function()
    for _, event in ipairs { "find", "fetch", "paginate" } do
      acts["before " .. event] = function() error("no " .. event, 0) end
    end
    expect_commands(0, function()
      assert.equal("no find", select(2, pcall(Post.first, Post)))
      assert.equal("no fetch", select(2, pcall(Post.all, Post)))
      assert.equal("no paginate", select(2, pcall(function() Post:query():paginate() end)))
      assert.equal("no fetch", select(2, pcall(function() for _ in Post:query():each() do assert(true) end end)))
    end)
  end)

  it("keeps the hooks behind it from running", function()
    acts["before create"] = function() error("stop") end
    pcall(Post.create, Post, { title = "a" })
    assert.same({ "before create" }, told)
  end)

  it("raises its own value", function()
    local mine = { code = "mine" }
    acts["before save"] = function() error(mine) end
    local _, err = pcall(Post.create, Post, { title = "a" })
    assert.equal(mine, err)
  end)

  it("comes before validation, which it can satisfy", function()
    local Strict = lumo.model("HookStrict", {
      collection = "posts", columns = { title = { "string", required = true }, views = { "integer", max = 5 } },
    })
    Strict:before("create", function(one) one.title = one.title or "untitled" end)
    Strict:before("save", function(one)
      if one.views == 7 then one.views = 8 end
    end)
    assert.equal("untitled", Strict:create({}).title)
    local record = Strict:new { views = 7 }
    expect_refused("E_VALIDATION", function() record:save() end)
    assert.equal(7, record.views)
    assert.is_nil(record.title)
  end)
end)

describe("an after-hook", function()
  it("that raises rolls back a create and leaves the record as it was", function()
    acts["before save"] = function(one) one.slug = "from the hook" end
    acts["after save"] = function() error("no", 0) end
    local post = Post:new { title = "a" }
    for _ = 1, 2 do
      local _, err = pcall(post.save, post)
      assert.equal("no", err)
      assert.is_true(post.is_new)
      assert.is_nil(post.slug)
      assert.equal("", stored_titles())
    end
    acts = {}
    post:save()
    assert.equal("a", stored_titles())
  end)

  it("that raises rolls back an update and leaves the record as it was", function()
    local post = Post:create { title = "a", revision = 1 }
    acts["before update"] = function(one) one.revision = one.revision + 1 end
    acts["after update"] = function() error("no", 0) end
    post.title = "b"
    assert.is_false((pcall(post.save, post)))
    assert.same({ title = "b" }, post.dirty)
    assert.equal(1, post.revision)
    assert.equal("a", stored_titles())
    acts["after update"] = nil
    post:save()
    assert.equal(2, helper.doc("posts").revision)
    assert.equal("b", stored_titles())
  end)

  it("that raises rolls back a delete and leaves the record as it was", function()
    local post = Post:create { title = "a" }
    acts["after delete"] = function() error("no", 0) end
    assert.is_false((pcall(post.delete, post)))
    assert.is_false(post.is_deleted)
    assert.is_true(post.is_persisted)
    assert.equal("a", stored_titles())
    acts = {}
    post:delete()
    assert.equal("", stored_titles())
  end)

  it("that raises for one of many stores none of them", function()
    acts["after create"] = function(one)
      if one.title == "b" then error("no b", 0) end
    end
    assert.is_false((pcall(Post.create_many, Post, { { title = "a" }, { title = "b" } })))
    assert.equal("", stored_titles())
  end)

  it("that raises rolls back with client = conn too", function()
    acts["after save"] = function() error("no", 0) end
    assert.is_false((pcall(Post.create, Post, { title = "a" }, { client = conn })))
    assert.equal("", stored_titles())
  end)

  it("that raises rolls back what other hooks wrote", function()
    acts["after create"] = function(one) Log:create { text = "made " .. one.title } end
    acts["after save"] = function() error("no", 0) end
    assert.is_false((pcall(Post.create, Post, { title = "a" })))
    assert.equal(0, #helper.docs("logs"))
    acts["after save"] = nil
    Post:create { title = "a" }
    assert.equal("made a", helper.doc("logs").text)
  end)

  it("that raises in somebody's transaction lets it not be committed", function()
    acts["after save"] = function() error("no", 0) end
    local post = Post:new { title = "a" }
    local ok, err = pcall(lumo.transaction, function()
      Log:create { text = "before" }
      assert.is_false((pcall(post.save, post)))
      return "as if nothing was"
    end)
    assert.is_false(ok)
    assert.equal("no", err)
    assert.is_true(post.is_new)
    assert.equal("", stored_titles())
    assert.equal(0, #helper.docs("logs"))
  end)

  it("that raises after reading is heard", function()
    Post:create { title = "a" }
    acts["after find"] = function() error("find", 0) end
    acts["after fetch"] = function() error("fetch", 0) end
    acts["after paginate"] = function() error("paginate", 0) end
    assert.equal("find", select(2, pcall(Post.first, Post)))
    assert.equal("fetch", select(2, pcall(Post.all, Post)))
    acts["after fetch"] = nil
    assert.equal("paginate", select(2, pcall(function() Post:query():paginate() end)))
  end)

  it("runs before the commit", function()
    acts["after save"] = function()
      assert.equal("", stored_titles()) -- raw, outside of the transaction
      assert.equal(1, Post:count())
    end
    Post:create { title = "a" }
    assert.equal("a", stored_titles())
  end)

  it("does not run when the write fails", function()
    Post:create { title = "a", slug = "s" }
    forget()
    local post = Post:new { title = "b", slug = "s" }
    expect_error("E_DUPLICATE_KEY", function() post:save() end)
    assert.same({ "before create", "before save" }, told)
    assert.is_true(post.is_new)
    forget()
    helper.clear("posts")
    local gone = Post:create { title = "c" }
    helper.clear("posts")
    forget()
    gone.title = "d"
    expect_error("E_ROW_NOT_FOUND", function() gone:save() end)
    assert.same({ "before update", "before save" }, told)
    assert.same({ title = "d" }, gone.dirty)
    forget()
    expect_error("E_ROW_NOT_FOUND", function() gone:delete() end)
    assert.same({ "before delete" }, told)
    assert.is_false(gone.is_deleted)
  end)

  it("is repeated with the write when the transaction is tried again, before-hooks are not", function()
    acts["before save"] = function(one) one.revision = (one.revision or 0) + 1 end
    acts["after save"] = function() Log:query():where("text", "none"):update { text = "x" } end
    collide("update", "logs", 1)
    local post = Post:create { title = "a" }
    assert.same({
      "before create", "before save", "after create", "after save", "after create", "after save",
    }, told)
    assert.equal(1, post.revision)
    assert.equal(1, helper.doc("posts").revision)
    assert.is_false(post.is_dirty)
  end)
end)

describe("a hook", function()
  it("may query and write", function()
    acts["before create"] = function(one) one.views = Log:count() end
    acts["after create"] = function() Log:create_many { { text = "1" }, { text = "2" } } end
    assert.equal(0, Post:create({ title = "a" }).views)
    assert.equal(2, Post:create({ title = "b" }).views)
    assert.equal(4, #helper.docs("logs"))
    acts["before delete"] = function(one) Log:query():where("text", "1"):delete() one.views = nil end
    acts["after find"] = function(one) one.extras.logs = Log:count() end
    Post:find_by("title", "a"):delete()
    assert.equal(2, Post:first().extras.logs)
  end)

  it("may save the same record again", function()
    acts["after create"] = function(one)
      acts["after create"] = nil
      one.slug = "slug-" .. tostring(one._id)
      one:save()
    end
    local post = Post:create { title = "a" }
    assert.equal("slug-" .. tostring(post._id), helper.doc("posts").slug)
    assert.is_false(post.is_dirty)
  end)

  it("may yield", function()
    for _, key in ipairs { "before save", "after save", "before find", "after fetch" } do
      acts[key] = function() coroutine.yield(key) end
    end
    local step = coroutine.wrap(function()
      Post:create { title = "a" }
      Post:first()
      return #Post:all()
    end)
    assert.equal("before save", step())
    assert.equal("", stored_titles())
    assert.equal("after save", step())
    assert.equal("", stored_titles())
    assert.equal("before find", step())
    assert.equal("a", stored_titles())
    assert.equal("after fetch", step())
    assert.equal(1, step())
  end)

  it("in a transaction of somebody's belongs to it", function()
    acts["before create"] = function() Log:create { text = "before" } end
    acts["after create"] = function() Log:create { text = "after" } end
    undo(function()
      Post:create { title = "a" }
      assert.equal(2, Log:count())
    end)
    assert.equal(0, #helper.docs("logs"))
    assert.equal("", stored_titles())
  end)

  it("sees its record's state given back before the transaction's next try", function()
    acts["before save"] = function(one) one.revision = (one.revision or 0) + 1 end
    local post, tries = Post:new { title = "a" }, 0
    lumo.transaction(function()
      tries = tries + 1
      post:save()
      if tries == 1 then
        collide("aggregate", "logs", 1)
      end
      Log:count()
    end)
    assert.equal(2, tries)
    assert.equal(1, post.revision)
    assert.equal(1, helper.doc("posts").revision)
  end)

  it("must be a function, of an event that exists", function()
    expect_refused("E_ARGUMENT", function() Post:before("safe", print) end)
    expect_refused("E_ARGUMENT", function() Post:after(nil, print) end)
    expect_refused("E_ARGUMENT", function() Post:before("save") end)
    expect_refused("E_ARGUMENT", function() Post:before("save", "x") end)
    expect_refused("E_ARGUMENT", function() Post.before("save", print) end)
  end)
end)

describe("no hook", function()
  it("runs for the quiet writes", function()
    local post = Post:create_quietly { title = "a" }
    assert.is_true(post.is_persisted)
    post.title = "b"
    assert.equal(post, post:save_quietly())
    assert.equal("b", stored_titles())
    Post:new({ title = "c" }):saveQuietly()
    post:delete_quietly()
    assert.is_true(post.is_deleted)
    Post:createQuietly { title = "d" }
    assert.same({}, told)
    assert.equal("c d", stored_titles())
    expect_commands(1, function() Post:create_quietly { title = "e" } end)
  end)

  it("runs for bulk writes, counts and lean queries", function()
    Post:create_quietly { title = "a", views = 1 }
    Post:query():where("title", "a"):update { views = 2 }
    Post:query():where("title", "a"):increment("views")
    Post:count()
    Post:query():exists()
    Post:query():pluck("title")
    Post:query():lean():exec()
    Post:query():lean():first()
    for _ in Post:query():lean():each() do assert(true) end
    Post:query():everything():delete()
    Post:truncate()
    assert.same({}, told)
  end)
end)

describe("hooks across relations", function()
  local Tag = load_definition("tag ")
  local Owner = lumo.model("HookOwner", {
    collection = "owners", columns = { name = "string" },
    relations = {
      tags = lumo.many_to_many(function() return Tag end, {
        pivot_table = "owner_tags", pivot_foreign_key = "owner_id", pivot_related_foreign_key = "tag_id",
      }),
    },
  })
  helper.create_index("owners", { { "name", 1 } })
  helper.create_index("owner_tags", { { "owner_id", 1 }, { "tag_id", 1 } }, { unique = true })

  local owner

  before_each(function()
    helper.clear("owners", "owner_tags")
    owner = Owner:create { name = "o" }
    forget()
  end)

  it("run for records created through them", function()
    owner.tags:create { title = "a" }
    assert.same({ "tag before create", "tag before save", "tag after create", "tag after save" }, told)
    forget()
    owner.tags:create_many { { title = "b" }, { title = "c" } }
    assert.equal(8, #told)
  end)

  it("that raise leave neither record nor pair", function()
    acts["tag after save"] = function() error("no", 0) end
    assert.is_false((pcall(function() owner.tags:create { title = "a" } end)))
    assert.equal(0, #helper.docs("posts"))
    assert.equal(0, #helper.docs("owner_tags"))
  end)

  it("run for records saved through them", function()
    local tag = Tag:new { title = "a" }
    owner.tags:save(tag)
    assert.same({ "tag before create", "tag before save", "tag after create", "tag after save" }, told)
    assert.equal(1, owner.tags:count())
  end)

  it("run for reading", function()
    owner.tags:create { title = "a" }
    forget()
    owner.tags:exec()
    assert.same({ "tag before fetch", "tag after fetch" }, told)
    forget()
    owner.tags:query():first()
    assert.same({ "tag before find", "tag after find" }, told)
    forget()
    local list
    acts["tag after fetch"] = function(given) list = given end
    owner:load("tags")
    assert.same({ "tag before fetch", "tag after fetch" }, told)
    assert.equal("a", list[1].title)
    forget()
    Owner:query():preload("tags"):exec()
    assert.same({ "tag before fetch", "tag after fetch" }, told)
  end)

  it("go with a transaction that is open around them", function()
    acts["tag after create"] = function() Log:create { text = "made" } end
    undo(function()
      owner.tags:create { title = "a" }
      assert.equal(1, owner.tags:count())
    end)
    assert.equal(0, #helper.docs("posts"))
    assert.equal(0, #helper.docs("owner_tags"))
    assert.equal(0, #helper.docs("logs"))
  end)

  it("before a query is sent add to it what they like, and to no other query", function()
    local Asking = lumo.model("HookAsking", {
      collection = "owners", columns = { name = "string" },
      relations = {
        tags = lumo.many_to_many(function() return Tag end, {
          pivot_table = "owner_tags", pivot_foreign_key = "owner_id", pivot_related_foreign_key = "tag_id",
        }),
      },
    })
    local asks = true
    local function ask(q)
      if asks then q:preload("tags"):with_count("tags") end
    end
    Asking:before("fetch", ask)
    Asking:before("find", ask)
    owner.tags:create { title = "a" }
    local plain = Asking:query()
    local function check(found)
      assert.equal("a", found.tags[1].title)
      assert.equal(1, found.extras.tags_count)
    end
    check(Asking:query():exec()[1])
    check(Asking:query():first())
    check(Asking:find(owner.id))
    for found in Asking:query():each() do check(found) end
    asks = false
    for _, found in ipairs { plain:exec()[1], Asking:query():first() } do
      assert.is_nil(found.extras.tags_count)
      expect_error("E_NOT_LOADED", function() return found.tags[1] end)
    end
  end)

  it("find the pairs gone that a deleted owner takes along, at whatever try", function()
    local Leaving = lumo.model("HookLeaving", {
      collection = "owners", columns = { name = "string" },
      relations = {
        tags = lumo.many_to_many(function() return Tag end, {
          pivot_table = "owner_tags", pivot_foreign_key = "owner_id", pivot_related_foreign_key = "tag_id",
          on_delete = "detach",
        }),
      },
    })
    local left
    Leaving:after("delete", function(one) left = one.tags:count() end)
    local leaving = Leaving:create { name = "l" }
    leaving.tags:create_many { { title = "a" }, { title = "b" } }
    collide("delete", "owners", 2)
    leaving:delete()
    assert.equal(0, left)
    assert.equal(0, #helper.docs("owner_tags"))
    assert.is_true(leaving.is_deleted)
  end)
end)
