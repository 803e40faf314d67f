-- Embedded documents: what is sent when a place inside of an attribute changes, and the atomic operators.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("subdocuments")
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused
local expect_commands = helper.expect_commands

local Article = lumo.model("Article", {
  collection = "articles",
  columns = {
    title = "string",
    meta = { "object", column = "m", columns = {
      author = { "object", column = "by", columns = { name = { "string", column = "n" }, age = "integer" } },
      tags = { "array", of = "string" },
      at = "date",
    } },
    free = "object",
    labels = { "array", of = { "string", min = 2 } },
    numbers = { "array", of = "integer" },
    comments = { "array", column = "c", of = { "object", columns = {
      text = { "string", required = true, column = "t" },
      likes = { "integer", default = 0, min = 0 },
      role = { "string", enum = { "guest", "author" } },
      replies = { "array", of = { "object", columns = { text = "string" } } },
    } } },
    kept = { "array", of = { "object", columns = { _id = "integer", text = "string" } } },
    anything = "any",
    stats = { "object", columns = { views = "integer", score = "decimal" } },
    updated_at = { "date", auto_update = true },
  },
})

---- what was sent: read from the server's profiler

local function profile(level)
  helper.command { { "profile", level } }
end

--- The update of the one save that fn makes.
local function sent(fn)
  profile(0)
  pcall(helper.command, { { "drop", "system.profile" } })
  profile(2)
  fn()
  profile(0)
  local list = helper.docs("system.profile", { op = "update", ns = helper.database .. ".articles" })
  assert.equal(1, #list)
  return list[1].command
end

local function changes(fn)
  local update = sent(fn).u
  if update["$set"] then update["$set"].updated_at = nil end
  local set = next(update["$set"] or {}) and update["$set"] or nil
  return { set = set, unset = update["$unset"] }
end

before_each(function() helper.clear("articles") end)

describe("a change inside of an object", function()
  local function make()
    return Article:create {
      meta = { author = { name = "Ada", age = 36 }, tags = { "a", "b" } }, free = { a = { b = 1 } },
    }
  end

  it("sends its path alone, under stored names", function()
    local one = make()
    one.meta.author.name = "Eve"
    assert.same({ set = { ["m.by.n"] = "Eve" } }, changes(function() one:save() end))
    one.meta.author.age = nil
    assert.same({ unset = { ["m.by.age"] = true } }, (function()
      local update = changes(function() one:save() end)
      for path in pairs(update.unset) do update.unset[path] = true end
      return update
    end)())
    one.free.a.c = { d = 2 }
    assert.same({ set = { ["free.a.c"] = { d = 2 } } }, changes(function() one:save() end))
    local doc = helper.doc("articles", {})
    assert.same({ by = { n = "Eve" }, tags = { "a", "b" } }, doc.m)
    assert.same({ a = { b = 1, c = { d = 2 } } }, doc.free)
    assert.is_false(one.is_dirty)
  end)

  it("leaves alone what others have changed in the meantime", function()
    local one = make()
    local other = Article:find(one.id)
    one.meta.author.name = "Eve"
    other.meta.author.age = 40
    one:save()
    other:save()
    assert.same({ name = "Eve", age = 40 }, one:fresh().meta.author)
  end)

  it("that gives it another value, or a table of its own, is compared all the same", function()
    local one = make()
    one.meta.author = { name = "Ada", age = 37 }
    assert.same({ set = { ["m.by.age"] = 37 } }, changes(function() one:save() end))
    one.free.a = { 1 }
    assert.same({ set = { ["free.a"] = { 1 } } }, changes(function() one:save() end))
  end)

  it("replaces the field when the attribute is assigned", function()
    local one = make()
    helper.update("articles", {}, { ["$set"] = { ["m.by.old"] = 1 } })
    one.meta = { author = { name = "Ada", age = 36 }, tags = { "x" } }
    assert.same({ "by", "tags" }, (function()
      local names = {}
      for name in pairs(changes(function() one:save() end).set.m) do names[#names + 1] = name end
      table.sort(names)
      return names
    end)())
    assert.is_nil(helper.doc("articles", {}).m.by.old)
  end)

  it("sends the whole field where a path cannot name the place", function()
    for _, key in ipairs { "5", "a.b", "$x", "" } do
      helper.clear("articles")
      helper.insert("articles", { { free = { plain = 1, [key] = 1 } } })
      local one = Article:first()
      one.free[key] = 2
      assert.same({ plain = 1, [key] = 2 }, changes(function() one:save() end).set.free)
      assert.same({ plain = 1, [key] = 2 }, helper.doc("articles", {}).free)
    end
  end)

  it("makes the object where it is gone", function()
    local one = make()
    helper.update("articles", {}, { ["$unset"] = { m = true } })
    one.meta.author.name = "Eve"
    one:save()
    assert.same({ by = { n = "Eve" } }, helper.doc("articles", {}).m)
  end)

  it("fails where the object is none any more, and nothing is stored", function()
    local one = make()
    helper.update("articles", {}, { ["$set"] = { m = 5 } })
    one.meta.author.name = "Eve"
    local err = expect_error({ "E_WRITE", "E_SERVER" }, function() one:save() end)
    assert.equal("not_applied", err.outcome)
    assert.equal("Eve", one.meta.author.name)
    assert.is_true(one.is_dirty)
  end)

  it("is sent by path from a date and in an untyped column, too", function()
    local one = Article:create { meta = { at = 0 }, anything = { a = { 1, 2 }, b = 1 } }
    one = Article:find(one.id)
    one.meta.at = lumo.datetime(5)
    one.anything.b = 2
    assert.same({ set = { ["m.at"] = lumo.datetime(5), ["anything.b"] = 2 } }, changes(function() one:save() end))
  end)
end)

describe("a change in an element of an array", function()
  local function rows(count)
    local list = {}
    for i = 1, count do list[i] = { text = ("comment %d"):format(i), likes = i } end
    return list
  end

  it("sends that element's place alone, however long the array is", function()
    local sizes = {}
    for _, count in ipairs { 10, 1000 } do
      helper.clear("articles")
      local one = Article:create { comments = rows(count) }
      one.comments[5].likes = 500
      local command = sent(function() one:save() end)
      assert.equal(500, command.u["$set"]["c.4.likes"])
      assert.is_nil(command.u["$set"].c)
      sizes[#sizes + 1] = #lumo.bson.encode(command.u) + #lumo.bson.encode(command.q)
      assert.equal(500, helper.doc("articles", {}).c[5].likes)
      assert.equal(count, #helper.doc("articles", {}).c)
    end
    assert.equal(sizes[1], sizes[2])
  end)

  it("sends scalars, removed fields and elements of arrays inside by their places", function()
    local one = Article:create {
      labels = { "aaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbb", "cc" }, comments = rows(20),
    }
    one.comments[2].replies = { { text = "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr" }, { text = "ssssssssssssssssss" } }
    one:save()
    one.labels[3] = "dd"
    one.comments[2].replies[1].text = "q"
    assert.same({ set = { ["labels.2"] = "dd", ["c.1.replies.0.text"] = "q" } }, changes(function() one:save() end))
    one.comments[3].likes = nil
    assert.is_not_nil(changes(function() one:save() end).unset["c.2.likes"])
    assert.same({ "dd", "q" }, { one:fresh().labels[3], one:fresh().comments[2].replies[1].text })
  end)

  it("keeps what others do to other elements, however short the array is", function()
    local one = Article:create { labels = { "aa", "bb" }, title = "t" }
    local other = Article:find(one._id)
    one.labels[1] = "xx"
    one:save()
    other.labels[2] = "yy"
    other:save()
    assert.same({ "xx", "yy" }, { one:fresh().labels[1], one:fresh().labels[2] })
    helper.update("articles", {}, { ["$push"] = { labels = "cc" } })
    one:refresh()
    other.labels[1] = "zz"
    local err = expect_error("E_WRITE", function() other:save() end)
    assert.equal("not_applied", err.outcome)
    assert.equal(3, #one:fresh().labels)
  end)

  it("sends the array when elements were added or removed, and the places where they were moved", function()
    local one = Article:create { labels = { "aa", "bb", "cc" }, title = "t" }
    table.insert(one.labels, "dd")
    assert.same({ set = { labels = { "aa", "bb", "cc", "dd" } } }, changes(function() one:save() end))
    table.remove(one.labels, 1)
    assert.same({ set = { labels = { "bb", "cc", "dd" } } }, changes(function() one:save() end))
    table.sort(one.labels, function(a, b) return a > b end)
    assert.same({ set = { ["labels.0"] = "dd", ["labels.2"] = "bb" } }, changes(function() one:save() end))
  end)

  it("fails when the array has another length meanwhile, and nothing is stored", function()
    local one = Article:create { comments = rows(20), title = "t" }
    helper.update("articles", {}, { ["$pop"] = { c = -1 } })
    one.comments[5].likes = 500
    one.title = "u"
    local err = expect_error("E_WRITE", function() one:save() end)
    assert.same({ "comments", "not_applied" }, { err.attribute, err.outcome })
    assert.equal("t", helper.doc("articles", {}).title)
    assert.is_true(one.is_dirty)
    one:refresh().comments[4].likes = 500
    one:save()
    assert.equal("comment 5", helper.doc("articles", {}).c[4].t)
  end)

  it("knows elements by their _id where they have one, whatever came behind them", function()
    local kept = {}
    for i = 1, 20 do kept[i] = { _id = i, text = "text " .. i } end
    local one = Article:create { kept = kept }
    helper.update("articles", {}, { ["$push"] = { kept = { _id = 21, text = "new" } } })
    one.kept[3].text = "changed"
    one:save()
    local doc = helper.doc("articles", {})
    assert.same({ "changed", "new" }, { doc.kept[3].text, doc.kept[21].text })
    helper.update("articles", {}, { ["$pop"] = { kept = -1 } })
    one.kept[7].text = "changed"
    expect_error("E_WRITE", function() one:save() end)
    assert.equal("text 8", helper.doc("articles", {}).kept[7].text)
  end)

  it("says that the document is gone when it is", function()
    local one = Article:create { comments = rows(20) }
    helper.delete("articles", {})
    one.comments[5].likes = 500
    expect_error("E_ROW_NOT_FOUND", function() one:save() end)
  end)

  it("is one command", function()
    local one = Article:create { comments = rows(20) }
    one.comments[5].likes = 500
    expect_commands(1, function() one:save() end)
    expect_commands(0, function() one:save() end)
  end)

  it("comes back when a transaction fails", function()
    local one = Article:create { comments = rows(20) }
    pcall(lumo.transaction, function()
      one.comments[5].likes = 500
      one:save()
      error("no")
    end)
    assert.equal(5, one:fresh().comments[5].likes)
    one:save()
    assert.equal(one.comments[5].likes, one:fresh().comments[5].likes)
  end)
end)

describe("a table that no column declares", function()
  local Loose = lumo.model("LooseTables", { collection = "articles", strict = false, columns = { title = "string" } })

  it("may be changed in place, again and again, where the model is not strict", function()
    Loose:create { bag = { a = 1 }, list = { 1, 2 } }
    local one = Loose:first()
    local bag = one.bag
    assert.is_false(one.is_dirty)
    for i = 2, 3 do
      bag.a = i
      assert.is_true(one.is_dirty)
      one:save()
      assert.is_false(one.is_dirty)
      assert.equal(i, helper.doc("articles", {}).bag.a)
    end
    table.insert(one:get("list"), 3)
    one:save()
    assert.same({ 1, 2, 3 }, one:fresh().list)
    one:get("bag", { raw = true }).a = 9
    assert.is_false(one.is_dirty)
    one:refresh()
    bag.a = 10
    assert.is_false(one.is_dirty)
  end)

  it("is read as what was assigned to it, and changed in place whatever else was read", function()
    local one = Loose:create { bag = { a = 1 }, list = { 1 }, word = "old" }
    one.word = "new"
    assert.equal("new", one.word)
    assert.same({ bag = { a = 1 }, list = { 1 }, word = "old", _id = one._id }, one.original)
    one.word = lumo.null
    assert.is_nil(one.word)
    assert.equal(lumo.null, one.dirty.word)
    one.word = nil
    assert.is_nil(one.word)
    one.bag.a = 2
    table.insert(one.list, 2)
    assert.same({ 1, 2 }, one.list)
    one:save()
    assert.same({ a = 2 }, one:fresh().bag)
    assert.same({ 1, 2 }, one:fresh().list)
    assert.is_nil(one:fresh().word)
  end)
end)

describe("rules inside of objects and arrays", function()
  it("all fail in one error, under their paths, and nothing is sent", function()
    local err = expect_refused("E_VALIDATION", function()
      Article:create { labels = { "ok", "x" }, comments = { { likes = -1 }, { text = "t", role = "king" } } }
    end)
    local found = {}
    for _, one in ipairs(err.errors) do found[#found + 1] = one.attribute .. " " .. one.rule end
    table.sort(found)
    assert.same({ "comments.1.likes min", "comments.1.text required", "comments.2.role enum", "labels.2 min" }, found)
  end)

  it("hold for what was changed in place", function()
    local one = Article:create { comments = { { text = "a" } } }
    one.comments[1].text = nil
    local err = expect_refused("E_VALIDATION", function() one:save() end)
    assert.equal("comments.1.text", err.errors[1].attribute)
    assert.equal("a", helper.doc("articles", {}).c[1].t)
  end)
end)

describe("queries", function()
  it("reach inside by dotted paths and where_elem_match", function()
    Article:create { title = "1", meta = { author = { name = "Ada", age = 36 } },
      comments = { { text = "x", likes = 5 } } }
    Article:create { title = "2", meta = { author = { name = "Eve" } },
      comments = { { text = "x", likes = 1 }, { text = "y", likes = 5 } } }
    local function titles(q) return helper.pluck(q:order_by("title"):exec(), "title") end
    assert.same({ "1" }, titles(Article:query():where("meta.author.name", "Ada")))
    assert.same({ "1", "2" }, titles(Article:query():where("comments.text", "x")))
    assert.same({ "2" }, titles(Article:query():where("comments.1.text", "y")))
    assert.same({ "1" }, titles(Article:query():where_elem_match("comments", function(q)
      q:where("text", "x"):where("likes", ">", 2)
    end)))
    assert.same({ "Ada", "Eve" }, Article:query():order_by("meta.author.name"):pluck("meta.author.name"))
    local err = expect_error("E_UNDEFINED_COLUMN", function() Article:query():where("comments.txt", "x") end)
    assert.truthy(tostring(err):find("comments.text", 1, true))
    expect_error("E_CAST", function() Article:query():where("meta.author.age", "old") end)
    Article:query():where("title", "1"):update { ["meta.author.age"] = 37 }
    assert.equal(37, Article:query():where("meta.author.age", 37):first().meta.author.age)
  end)
end)

describe("push and add_to_set", function()
  it("append in one command, and the record follows", function()
    local one = Article:create { labels = { "aa" }, title = "t" }
    helper.update("articles", {}, { ["$push"] = { labels = "others" } })
    one.title = "unsaved"
    expect_commands(1, function() assert.equal(one, one:push("labels", "bb", "cc")) end)
    assert.same({ "aa", "others", "bb", "cc" }, one.labels)
    assert.same({ "aa", "others", "bb", "cc" }, helper.doc("articles", {}).labels)
    assert.same({ title = "unsaved" }, one.dirty)
    one:add_to_set("labels", "bb", "dd")
    assert.same({ "aa", "others", "bb", "cc", "dd" }, one.labels)
    one:addToSet("meta.tags", "x")
    assert.same({ tags = { "x" } }, one.meta)
    assert.equal("unsaved", one.title)
  end)

  it("cast, fill in defaults and check the rules of elements", function()
    local one = Article:create {}
    local given = { text = "hello" }
    one:push("comments", given)
    assert.same({ text = "hello", likes = 0 }, one.comments[1])
    assert.same({ text = "hello" }, given)
    assert.equal("hello", helper.doc("articles", {}).c[1].t)
    expect_refused("E_CAST", function() one:push("numbers", "x") end)
    local err = expect_refused("E_VALIDATION", function() one:push("comments", { text = "a" }, { role = "king" }) end)
    assert.same({ "comments.2.role", "comments.2.text" }, helper.pluck(err.errors, "attribute"))
    expect_refused("E_VALIDATION", function() one:add_to_set("labels", "x") end)
    expect_refused("E_UNDEFINED_COLUMN", function() one:push("comments", { txt = "a" }) end)
    one:push("comments.0.replies", { text = "r" })
    assert.equal("r", one.comments[1].replies[1].text)
  end)

  it("store tables as they are, in untyped places, too", function()
    local one = Article:create { anything = { 1 } }
    one:push("anything", { a = 1 }, "x", lumo.null)
    assert.same({ 1, { a = 1 }, "x", lumo.null }, one.anything)
    one:push("free.list", 1)
    assert.same({ list = { 1 } }, one.free)
  end)
end)

describe("pull", function()
  it("removes equal values, and documents that have the fields", function()
    local one = Article:create { labels = { "aa", "bb", "aa", "cc" },
      comments = { { text = "a", likes = 1 }, { text = "b", likes = 1 }, { text = "a", likes = 2 } } }
    one:pull("labels", "aa", "cc")
    assert.same({ "bb" }, one.labels)
    one:pull("comments", { text = "a", likes = 2 }, { text = "b" })
    assert.same({ { text = "a", likes = 1 } }, one.comments)
    one:pull("labels", "not there")
    assert.same({ "bb" }, helper.doc("articles", {}).labels)
  end)

  it("reads no value as an operator or a pattern", function()
    local one = Article:create {
      labels = { "aa", "bb" }, anything = { "aa", { a = 1 } }, comments = { { text = "a" } },
    }
    expect_refused("E_CAST", function() one:pull("labels", { ["$ne"] = "x" }) end)
    expect_refused({ "E_CAST", "E_UNDEFINED_COLUMN" }, function() one:pull("comments", { ["$ne"] = "x" }) end)
    expect_refused("E_CAST", function() one:pull("comments", { text = { ["$ne"] = "x" } }) end)
    expect_refused("E_CAST", function() one:pull("anything", { ["$or"] = { {} } }) end)
    expect_refused("E_ARGUMENT", function() one:pull("comments", {}) end)
    expect_refused("E_ARGUMENT", function() one:pull("anything", {}) end)
    expect_refused("E_ARGUMENT", function() one:pull("anything", { a = 1 }, "aa") end)
    one:pull("anything", lumo.regex("a"))
    assert.equal(2, #one.anything)
    one:pull("anything", { a = 1 })
    assert.same({ "aa" }, one.anything)
  end)
end)

describe("inc and unset", function()
  it("change one place", function()
    local one = Article:create { stats = { views = 1 }, comments = { { text = "a", likes = 3 } } }
    helper.update("articles", {}, { ["$inc"] = { ["stats.views"] = 10 } })
    one:inc("stats.views", 2)
    assert.equal(13, one.stats.views)
    one:inc("stats.views")
    one:inc("comments.0.likes", -3)
    assert.same({ 14, 0 }, { one.stats.views, one.comments[1].likes })
    one:inc("stats.score", 3)
    assert.equal(lumo.decimal("3"), one.stats.score)
    one:inc("stats.score", lumo.decimal("-0.25")):increment("stats.score", lumo.int64("9007199254740993"))
    assert.equal(lumo.decimal("9007199254740995.75"), one.stats.score)
    expect_refused("E_CAST", function() one:inc("stats.views", lumo.decimal("1")) end)
    expect_refused("E_CAST", function() one:inc("title", lumo.decimal("1")) end)
    one:unset("stats.views")
    assert.is_nil(one.stats.views)
    assert.is_nil(helper.doc("articles", {}).stats.views)
    one:unset("title")
    one:unset("stats")
    assert.is_nil(one.stats)
    assert.is_nil(helper.doc("articles", {}).stats)
    assert.is_false(one.is_dirty)
    expect_refused("E_CAST", function() one:inc("labels", 1) end)
    expect_refused("E_CAST", function() one:inc("meta.author.age", 1.5) end)
    expect_refused("E_ARGUMENT", function() one:inc("meta.author.age", "1") end)
  end)

  it("leave no element null, and nothing out that is required", function()
    local one = Article:create { comments = { { text = "a" } }, labels = { "aa" }, numbers = { 1 } }
    local err = expect_refused("E_VALIDATION", function() one:unset("comments.0.text") end)
    assert.same({ attribute = "comments.0.text", rule = "required", message = "is required" }, err.errors[1])
    for _, path in ipairs { "comments.0", "labels.0", "numbers.12" } do
      assert.matches("pull", expect_refused("E_ARGUMENT", function() one:unset(path) end).message)
    end
    one:unset("comments.0.likes")
    assert.same({ text = "a" }, one.comments[1])
  end)
end)

describe("atomic operators", function()
  local calls = {
    push = { "labels", "xx" }, add_to_set = { "labels", "xx" }, pull = { "labels", "xx" }, inc = { "stats.views", 1 },
    unset = { "labels" },
  }

  it("refuse what they cannot do, and send nothing", function()
    local one = Article:create { labels = { "aa" } }
    for name, arguments in pairs(calls) do
      local method = one[name]
      local function refused(codes, ...)
        local given = { n = select("#", ...), ... }
        local unpack = table.unpack or unpack
        expect_refused(codes, function() method(one, unpack(given, 1, given.n)) end)
      end
      refused("E_ARGUMENT")
      refused({ "E_ARGUMENT" }, nil, "x")
      refused({ "E_ARGUMENT", "E_UNDEFINED_COLUMN" }, 5, "x")
      refused("E_UNDEFINED_COLUMN", "nope", "xx")
      refused("E_ARGUMENT", "_id", "xx")
      refused({ "E_ARGUMENT", "E_UNDEFINED_COLUMN" }, "$where", "xx")
      refused("E_ARGUMENT", "labels..x", "xx")
      expect_refused("E_ARGUMENT", function() method(Article:new {}, arguments[1], arguments[2]) end)
      expect_refused("E_ARGUMENT", function() method({}, arguments[1], arguments[2]) end)
    end
    for _, name in ipairs { "push", "add_to_set", "pull" } do
      expect_refused("E_ARGUMENT", function() one[name](one, "labels") end)
      expect_refused("E_ARGUMENT", function() one[name](one, "labels", "aa", nil) end)
      expect_refused("E_CAST", function() one[name](one, "title", "aa") end)
    end
    assert.same({ "aa" }, one.labels)
  end)

  it("leave changes that were not saved alone", function()
    local one = Article:create { labels = { "aa" }, stats = { views = 1 } }
    one.labels[1] = "bb"
    expect_refused("E_ARGUMENT", function() one:push("labels", "cc") end)
    one.stats.views = 7
    expect_refused("E_ARGUMENT", function() one:inc("stats.views") end)
    expect_refused("E_ARGUMENT", function() one:unset("stats.score") end)
    one:save()
    assert.same({ "bb", "cc" }, one:push("labels", "cc").labels)
  end)

  it("say when the document is gone, and change no deleted record", function()
    local one = Article:create { labels = { "aa" } }
    local deleted = Article:create { labels = { "aa" } }
    deleted:delete()
    helper.delete("articles", {})
    for name, arguments in pairs(calls) do
      expect_error("E_ROW_NOT_FOUND", function() one[name](one, arguments[1], arguments[2]) end)
      expect_refused("E_MODEL_DELETED", function() deleted[name](deleted, arguments[1], arguments[2]) end)
    end
    assert.same({ "aa" }, one.labels)
  end)

  it("are undone with their transaction, in the record, too", function()
    local one = Article:create { labels = { "aa" }, stats = { views = 1 } }
    pcall(lumo.transaction, function()
      one:push("labels", "bb")
      one:inc("stats.views")
      assert.same({ "aa", "bb" }, one.labels)
      error("no")
    end)
    assert.same({ "aa" }, one.labels)
    assert.equal(1, one.stats.views)
    assert.same({ "aa" }, helper.doc("articles", {}).labels)
    lumo.transaction(function() one:push("labels", "bb") end)
    assert.same({ "aa", "bb" }, helper.doc("articles", {}).labels)
  end)

  it("run no hooks and move no dates", function()
    local ran = 0
    Article:before("save", function() ran = ran + 1 end)
    Article:after("update", function() ran = ran + 1 end)
    local one = Article:create { labels = { "aa" } }
    local before, at = ran, helper.doc("articles", {}).updated_at
    one:push("labels", "bb")
    assert.equal(before, ran)
    assert.equal(at, helper.doc("articles", {}).updated_at)
  end)

  it("work on what no column declares where the model is not strict", function()
    local Loose = lumo.model("LooseArticle", {
      collection = "articles", strict = false, columns = { title = "string" },
    })
    local one = Loose:create { title = "t" }
    one:push("list", 1, 2):inc("count.n", 5)
    assert.same({ 1, 2 }, one:get("list"))
    assert.same({ n = 5 }, one:get("count"))
    assert.is_nil(one:unset("list"):get("list"))
  end)
end)
