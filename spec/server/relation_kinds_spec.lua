-- has one, has many, belongs to, has many through in the hands of somebody careless: odd keys, parents that are new,
-- deleted or there twice, failures in the middle, builders inside of builders.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("relation_kinds")

local Country = lumo.model("KindCountry", {
  columns = { name = "string" },
  relations = {
    authors = lumo.has_many("KindAuthor", { foreign_key = "country_id" }),
    books = lumo.has_many_through("KindBook", "KindAuthor", {
      foreign_key = "country_id", through_foreign_key = "author_id",
    }),
  },
})

local Author = lumo.model("KindAuthor", {
  columns = { name = "string", country_id = "objectid" },
  relations = {
    country = lumo.belongs_to("KindCountry", { foreign_key = "country_id" }),
    books = lumo.has_many("KindBook", { foreign_key = "author_id" }),
    best = lumo.has_one("KindBook", { foreign_key = "author_id" }), -- a second one over the same key
    edited = lumo.has_many("KindBook", { foreign_key = "editor_id" }),
  },
})

local Book = lumo.model("KindBook", {
  columns = {
    author_id = "objectid", editor_id = "objectid", title = { "string", required = true }, pages = "integer",
  },
  relations = {
    author = lumo.belongs_to("KindAuthor", { foreign_key = "author_id" }),
    editor = lumo.belongs_to("KindAuthor", { foreign_key = "editor_id" }),
    notes = lumo.has_many("KindNote", { foreign_key = "book_id" }),
  },
})

local Note = lumo.model("KindNote", {
  columns = { book_id = "objectid", text = "string" },
  relations = { book = lumo.belongs_to("KindBook", { foreign_key = "book_id" }) },
})

local Node = lumo.model("KindNode", {
  columns = { up_id = "objectid", name = "string" },
  relations = {
    below = lumo.has_many("KindNode", { foreign_key = "up_id" }),
    up = lumo.belongs_to("KindNode", { foreign_key = "up_id" }),
    grandchildren = lumo.has_many_through("KindNode", "KindNode", {
      foreign_key = "up_id", through_foreign_key = "up_id",
    }),
  },
})

local function refused(code, fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal(code, type(err) == "table" and err.code or tostring(err), tostring(err))
  return err
end

local function list_of(list, attribute)
  local values = {}
  for i, one in ipairs(list) do values[i] = tostring(one[attribute]) end
  return table.concat(values, " ")
end

local function commands(fn)
  local n, list = lumo.count_commands(fn)
  local all = {}
  for i, one in ipairs(list) do all[i] = one.name end
  return n, table.concat(all, " ")
end

before_each(function()
  for _, Model in ipairs { Country, Author, Book, Note, Node } do Model:truncate() end
end)

teardown(helper.drop)

describe("a client of one parent", function()
  it("sends nothing for what is no record, no table, no column", function()
    local author, book = Author:create { name = "a" }, Book:create { title = "x" }
    local deleted = Author:create { name = "gone" }
    deleted:delete()
    local gone = Book:create { title = "gone" }
    gone:delete()
    local n = commands(function()
      for _, wrong in ipairs { 1, "x", true, {}, print, lumo.null, lumo.objectid() } do
        refused("E_ARGUMENT", function() author.books:save(wrong) end)
        refused("E_ARGUMENT", function() book:related("author"):associate(wrong) end)
        refused("E_ARGUMENT", function() author.books:save_many { wrong } end)
      end
      for _, wrong in ipairs { 1, "x", true, print, lumo.null } do
        refused("E_ARGUMENT", function() author.books:create(wrong) end)
        refused("E_ARGUMENT", function() author.books:create_many { wrong } end)
        refused("E_ARGUMENT", function() author.books:create_many(wrong) end)
        refused("E_ARGUMENT", function() author.books:save_many(wrong) end)
        refused("E_ARGUMENT", function() author.books:first_or_create(wrong) end)
        refused("E_ARGUMENT", function() author.books:update_or_create(wrong) end)
        refused("E_ARGUMENT", function() author.books:first_or_create({ title = "x" }, wrong) end)
        refused("E_ARGUMENT", function() author.books:fetch_or_create_many("title", wrong) end)
        refused("E_ARGUMENT", function() author.books:fetch_or_create_many("title", { wrong }) end)
        refused("E_ARGUMENT", function() author.books:update_or_create_many("title", { { title = "x" }, wrong }) end)
      end
      refused("E_ARGUMENT", function() author.books:save(nil) end)
      refused("E_ARGUMENT", function() author.books:first_or_create(nil) end)
      refused("E_ARGUMENT", function() author.books:first_or_create {} end)
      refused("E_ARGUMENT", function() author.books:update_or_create {} end)
      refused("E_MODEL_DELETED", function() author.books:save(gone) end)
      refused("E_MODEL_DELETED", function() author.books:save_many { gone } end)
      refused("E_MODEL_DELETED", function() deleted.books:create { title = "y" } end)
      refused("E_MODEL_DELETED", function() deleted.books:first_or_create { title = "y" } end)
      refused("E_MODEL_DELETED", function() deleted.books:fetch_or_create_many("title", { { title = "y" } }) end)
      refused("E_MODEL_DELETED", function() book:related("author"):associate(deleted) end)
      refused("E_MODEL_DELETED", function() gone:related("author"):associate(author) end)
      refused("E_MODEL_DELETED", function() gone:related("author"):dissociate() end)
      assert.equal(0, #author.books:create_many {})
      assert.is_nil(author.books:save_many {})
    end)
    assert.equal(0, n)
    assert.equal(1, Book:count())
  end)

  it("sends nothing where one of the records breaks a rule, so that no owner is left over", function()
    local owner, fine, bad = Author:new { name = "new" }, Book:new { title = "fine" }, Book:new { pages = 1 }
    local n = commands(function()
      refused("E_VALIDATION", function() owner.books:create { pages = 1 } end)
      refused("E_VALIDATION", function() owner.books:create_many { { title = "fine" }, {} } end)
      refused("E_VALIDATION", function() owner.books:save_many { fine, bad } end)
      refused("E_VALIDATION", function() owner.books:first_or_create { pages = 1 } end)
      refused("E_CAST", function() owner.books:fetch_or_create_many("title", { { title = {} } }) end)
      refused("E_VALIDATION", function() bad:related("author"):associate(owner) end)
    end)
    assert.equal(0, n)
    assert.is_true(owner.is_new and fine.is_new)
    assert.is_nil(owner._id)
    assert.is_nil(fine.author_id)
  end)

  it("answers in both spellings", function()
    local author = Author:create { name = "a" }
    author.books:createMany { { title = "1" }, { title = "2" } }
    author.books:saveMany { Book:new { title = "3" } }
    author.books:createQuietly { title = "4" }
    author.books:createManyQuietly { { title = "5" } }
    author.books:saveQuietly(Book:new { title = "6" })
    author.books:saveManyQuietly { Book:new { title = "7" } }
    author.books:firstOrCreate { title = "8" }
    author.books:updateOrCreate({ title = "8" }, { pages = 8 })
    author.books:fetchOrCreateMany("title", { { title = "9" } })
    author.books:updateOrCreateMany("title", { { title = "9", pages = 9 } })
    assert.equal("1 2 3 4 5 6 7 8 9", list_of(author.books:query():orderBy("title"):exec(), "title"))
    assert.equal(17, author.books:query():sum("pages"))
  end)

  it("runs no hooks of the related model where that is asked for, and the parent's first", function()
    local order = {}
    local Child = lumo.model("KindHookChild", { columns = { parent_id = "objectid" } })
    local Parent = lumo.model("KindHookParent", { columns = { name = "string" }, relations = {
      children = lumo.has_many(Child, { foreign_key = "parent_id" }),
    } })
    for name, Model in pairs { child = Child, parent = Parent } do
      for _, event in ipairs { "save", "create" } do
        Model:before(event, function() order[#order + 1] = "before " .. event .. " " .. name end)
        Model:after(event, function() order[#order + 1] = "after " .. event .. " " .. name end)
      end
    end
    local parent = Parent:new { name = "p" }
    parent.children:create {}
    assert.equal("before create parent,before save parent,before create child,before save child,"
      .. "after create parent,after save parent,after create child,after save child", table.concat(order, ","))
    order = {}
    parent.children:create_quietly {}
    parent.children:create_many_quietly { {}, {} }
    parent.children:save_quietly(Child:new {})
    parent.children:save_many_quietly { Child:new {} }
    assert.same({}, order)
    assert.equal(6, Child:count())
  end)

  it("leaves records as they were when storing fails", function()
    local author, other = Author:create { name = "a" }, Author:new { name = "new" }
    local fine, bad = Book:new { title = "fine" }, Book:new { pages = 1 }
    refused("E_VALIDATION", function() author.books:save(bad) end)
    assert.is_nil(bad.author_id)
    assert.is_true(bad.is_new)
    refused("E_VALIDATION", function() other.books:save_many { fine, bad } end)
    assert.is_true(other.is_new)
    assert.is_true(fine.is_new)
    assert.is_nil(fine.author_id)
    assert.is_nil(bad.author_id)
    assert.equal(0, Book:count())
    assert.equal(1, Author:count())
    local owned = author.books:create { title = "owned" }
    owned.title = nil
    refused("E_VALIDATION", function() owned:related("author"):dissociate() end)
    assert.equal(author._id, owned.author_id)
    refused("E_VALIDATION", function() owned:related("author"):associate(other) end)
    assert.equal(author._id, owned.author_id)
    assert.is_true(other.is_new)
    assert.equal(1, Author:count())
  end)

  it("checks the rules of rows that are looked for before a parent that is new is stored", function()
    for _, method in ipairs { "fetch_or_create_many", "update_or_create_many" } do
      local author = Author:new { name = "new" }
      local _, names = commands(function()
        refused("E_VALIDATION", function() author.books[method](author.books, "pages", { { pages = 1 } }) end)
      end)
      assert.is_nil(names:find("insert"))
      assert.is_true(author.is_new)
      assert.is_nil(author.id)
      assert.equal(0, Author:count())
      local list = author.books[method](author.books, "title", { { title = method }, { title = "other" } })
      assert.equal(author._id, list[1].author_id)
      assert.equal(2, author.books:query():count())
      Author:truncate()
    end
  end)

  it("belongs to the transaction that is open, whatever the parent was read in", function()
    local author = Author:create { name = "a" }
    author.books:create { title = "0", pages = 0 }
    for _, method in ipairs { "fetch_or_create_many", "update_or_create_many" } do
      pcall(lumo.transaction, function()
        author.books[method](author.books, "title", { { title = "0", pages = 1 }, { title = "1" } })
        assert.equal(2, author.books:query():count())
        error("no", 0)
      end)
      assert.equal(1, Book:count())
      assert.equal(0, Book:first().pages)
    end
  end)

  it("is a part of the parent's transaction, all of it", function()
    local kept = Author:create { name = "kept" }
    pcall(lumo.transaction, function(trx)
      local author = Author:find(kept._id, { client = trx })
      author.books:create_many { { title = "1" }, { title = "2" } }
      author.books:first_or_create { title = "3" }
      author.books:fetch_or_create_many("title", { { title = "4" } })
      author.books:save(Book:new { title = "5" })
      local book = author.books:query():order_by("title"):first()
      book:related("author"):dissociate()
      book:related("author"):associate(author)
      assert.equal(5, author.books:query():count())
      assert.equal(5, #author:load("books").books)
      assert.equal(0, kept.books:query():count())
      error("no")
    end)
    assert.equal(0, Book:count())
  end)

  it("is a part of the transaction of the records that it stores", function()
    local author, made = Author:create { name = "a" }, Author:new { name = "b" }
    local book, other = author.books:create { title = "1" }, Book:new { title = "2" }
    local trx = lumo.transaction()
    made:use_transaction(trx):save()
    other:related("author"):associate(made)
    assert.equal(trx, other.trx)
    author.books:save(Book:new({ title = "3" }):use_transaction(trx))
    book:use_transaction(trx):related("author"):associate(made)
    assert.equal(1, Book:count())
    trx:rollback()
    assert.is_true(other.is_new)
    assert.is_nil(other.author_id)
    assert.equal(author._id, book.author_id)
    assert.is_false(book.is_dirty)
    assert.equal("1", list_of(Book:all(), "title"))
    assert.equal(author._id, Book:first().author_id)
  end)

  it("refuses records that came through another connection", function()
    local author, book = Author:create { name = "a" }, Book:create { title = "1" }
    local other = lumo.connect(helper.uri(), { name = "kinds_other", database = helper.database })
    local far, far_author = Book:find(book._id, { client = other }), Author:find(author._id, { client = other })
    local n = commands(function()
      refused("E_ARGUMENT", function() author.books:save(far) end)
      refused("E_ARGUMENT", function() author.books:save_many { book, far } end)
      refused("E_ARGUMENT", function() book:related("author"):associate(far_author) end)
    end)
    assert.equal(0, n)
    other:close()
  end)

  it("stores a record once that is given twice, and one that belongs to itself", function()
    local author, book = Author:create { name = "a" }, Book:new { title = "1" }
    author.books:save_many { book, book }
    assert.equal(1, author.books:query():count())
    local node, other = Node:new { name = "n" }, Node:new { name = "o" }
    node.below:save(node)
    other:related("up"):associate(other)
    assert.same({ node._id, other._id }, { Node:find(node._id).up_id, Node:find(other._id).up_id })
  end)

  it("tells hooks whose the record is going to be, an owner that is new too", function()
    local Child = lumo.model("KindToldChild", { columns = { up_id = "objectid" } })
    local Up = lumo.model("KindToldUp", { columns = { name = "string" }, relations = {
      children = lumo.has_many(Child, { foreign_key = "up_id" }),
    } })
    local seen
    Child:before("create", function(child) seen = child.up_id end)
    local up = Up:new {}
    up.children:create {}
    assert.equal(up._id, seen)
    assert.equal(1, up.children:query():count())
  end)

  it("makes one of what several look for at once, where an index says so", function()
    local Only = lumo.model("KindOnly", {
      columns = { author_id = "objectid", title = "string", n = "integer" },
      indexes = { { "author_id", "title", unique = true } },
    })
    local Owner = lumo.model("KindOwner", { columns = {}, relations = {
      only = lumo.has_many(Only, { foreign_key = "author_id" }),
    } })
    Only:ensure_indexes()
    local owner = Owner:create {}
    local meanwhile = true
    Only:before("create", function(one)
      if not meanwhile then return end
      meanwhile = false
      Only:create_quietly { author_id = one.author_id, title = one.title, n = 1 }
    end)
    assert.equal(1, owner.only:first_or_create({ title = "x" }, { n = 2 }).n)
    meanwhile = true
    assert.equal(3, owner.only:update_or_create({ title = "y" }, { n = 3 }).n)
    assert.equal(2, Only:count())
  end)

  it("does not leave its parent when values name another key", function()
    local author, other = Author:create { name = "a" }, Author:create { name = "b" }
    local made = author.books:create { title = "1", author_id = other._id }
    assert.equal(author._id, made.author_id)
    local list = author.books:fetch_or_create_many("title", { { title = "2", author_id = other._id } })
    assert.equal(author._id, list[1].author_id)
    author.books:first_or_create({ title = "3" }, { author_id = other._id })
    author.books:first_or_create { title = "3", author_id = other._id }
    author.books:update_or_create({ title = "3" }, { author_id = other._id, pages = 3 })
    assert.equal(3, author.books:query():sum("pages"))
    assert.equal(3, author.books:query():count())
    assert.equal(0, other.books:query():count())
    other.books:save(made) -- moves it
    assert.equal(2, author.books:query():count())
    assert.equal("1", list_of(other.books:exec(), "title"))
  end)

  it("follows the key of today, and a list what was loaded", function()
    local author, other = Author:create { name = "a" }, Author:create { name = "b" }
    local book = author.books:create { title = "1" }
    book:load("author")
    book.author_id = other._id
    assert.equal("a", book.author.name)
    assert.equal("b", book:related("author"):exec().name)
    book:load("author")
    assert.equal("b", book.author.name)
    book.author_id = nil
    assert.is_nil(book:related("author"):exec())
    assert.is_nil(book:load("author").author)
  end)
end)

describe("keys", function()
  it("are of any type, of attributes that are not primary, under other names in the database", function()
    for kind, values in pairs {
      integer = { 1, 2 }, string = { "a", "b" }, uuid = { lumo.uuid(), lumo.uuid() },
      int64 = { lumo.int64("9007199254740993"), lumo.int64("9007199254740995") },
      date = { lumo.datetime(1), lumo.datetime(2) },
    } do
      local Child = lumo.model("KindKeyed" .. kind, {
        columns = { owner_code = { kind, column = "oc" }, name = "string" },
        relations = {
          owner = lumo.belongs_to("KindOwner" .. kind, { foreign_key = "owner_code", local_key = "code" }),
        },
      })
      local Owner = lumo.model("KindOwner" .. kind, { columns = { code = { kind, column = "c" } }, relations = {
        children = lumo.has_many("KindKeyed" .. kind, { foreign_key = "owner_code", local_key = "code" }),
        child = lumo.has_one("KindKeyed" .. kind, { foreign_key = "owner_code", local_key = "code" }),
      } })
      local one, two = Owner:create { code = values[1] }, Owner:create { code = values[2] }
      one.children:create { name = "x" }
      two.children:create_many { { name = "y" }, { name = "z" } }
      local list = lumo.load(Owner:query():order_by("code"):exec(), "children")
      assert.equal(3, #list[1].children + #list[2].children, kind)
      assert.equal("y z", list_of(lumo.load(two, "children").children, "name"), kind)
      local child = Child:query():where("name", "x"):preload("owner"):first()
      assert.equal(tostring(one.code), tostring(child.owner.code), kind)
      assert.equal(1, Owner:query():has("children", ">", 1):count(), kind)
      assert.equal(2, Owner:query():where("code", values[2]):with_count("children"):first().extras.children_count)
      assert.equal("x", one:load("child").child.name)
    end
  end)

  it("may be given by a hook or prepare, of parents whose primary key is not an ObjectId", function()
    local Child = lumo.model("KindCodedChild", { columns = { parent_id = "string", name = "string" }, relations = {
      parent = lumo.belongs_to("KindCoded", { foreign_key = "parent_id" }),
    } })
    local Parent = lumo.model("KindCoded", { columns = { _id = "string", name = "string" }, relations = {
      children = lumo.has_many(Child, { foreign_key = "parent_id" }),
    } })
    local parent = Parent:new { _id = "p", name = "x" }
    parent.children:create { name = "c" }
    assert.equal("p", Child:first().parent_id)
    local without = Parent:new { name = "none" }
    local n = commands(function()
      refused("E_MISSING_ATTRIBUTE_VALUE", function() without.children:create { name = "d" } end)
      refused("E_MISSING_ATTRIBUTE_VALUE", function() Child:new {}:related("parent"):associate(without) end)
    end)
    assert.equal(0, n)
    assert.equal("x", Child:query():preload("parent"):first().parent.name)
  end)

  it("of types that are never equal are told, instead of finding nothing for ever", function()
    local Child = lumo.model("KindTextChild", { columns = { up_id = "string", n = "integer", any = "any" } })
    local Up = lumo.model("KindTextUp", { columns = { f = "number" }, relations = {
      children = lumo.has_many(Child, { foreign_key = "up_id" }),
      low = lumo.has_many_through("KindTextUp", Child, {
        foreign_key = "any", through_local_key = "up_id", through_foreign_key = "f",
      }),
      numbers = lumo.has_many(Child, { local_key = "f", foreign_key = "n" }),
      anything = lumo.has_many(Child, { foreign_key = "any" }),
    } })
    local up = Up:create { f = 3 }
    Child:create { n = 3, any = up._id }
    local err = refused("E_ARGUMENT", function() up.children:exec() end)
    assert.matches("\"KindTextUp._id\" (objectid) with \"KindTextChild.up_id\" (string)", err.message, 1, true)
    refused("E_ARGUMENT", function() Up:query():has("low"):exec() end)
    assert.same({ 1, 1 }, { #up.numbers:exec(), #up.anything:exec() })
  end)

  it("of type uuid and binary may be equal", function()
    local Child = lumo.model("KindBytesChild", { columns = { up_key = "binary" } })
    local Up = lumo.model("KindBytesUp", { columns = { key = "uuid" }, relations = {
      children = lumo.has_many(Child, { local_key = "key", foreign_key = "up_key" }),
    } })
    local up = Up:create { key = lumo.uuid() }
    Child:create { up_key = up.key }
    assert.equal(1, #up.children:exec())
  end)

  it("that share a name in JSON are not serialized from one record", function()
    local Child = lumo.model("KindSharedChild", { columns = { up_id = "objectid" } })
    local function many() return lumo.has_many(Child, { foreign_key = "up_id", serialize_as = "list" }) end
    local Up = lumo.model("KindSharedUp", { columns = {}, relations = { a = many(), b = many() } })
    local up = Up:create():load("a")
    assert.matches('"list":[]', up:to_json(), 1, true)
    up:load("b")
    for _, name in ipairs { "to_json", "serialize" } do
      local err = refused("E_ARGUMENT", function() up[name](up) end)
      assert.matches('relations "a" and "b" of "KindSharedUp"', err.message, 1, true)
    end
    assert.same({}, up:to_table().b)
  end)

  it("may be columns with prepare and consume", function()
    local columns = {
      owner = {
        "string", prepare = function(v) return v and v:upper() end, consume = function(v) return v and v:lower() end,
      },
      name = "string",
    }
    local Child = lumo.model("KindPreparedChild", { columns = columns, relations = {
      parent = lumo.belongs_to("KindPrepared", { foreign_key = "owner", local_key = "owner" }),
    } })
    local Parent = lumo.model("KindPrepared", { columns = columns, relations = {
      children = lumo.has_many("KindPreparedChild", { foreign_key = "owner", local_key = "owner" }),
    } })
    local parent = Parent:create { owner = "abc" }
    parent.children:create { name = "x" }
    assert.equal("abc", Child:first().owner)
    assert.equal(1, #parent.children:exec())
    assert.equal(1, parent.children:query():count())
    assert.equal("x", list_of(Parent:query():preload("children"):first().children, "name"))
    assert.equal("abc", Child:query():preload("parent"):first().parent.owner)
    assert.equal("x", parent.children:first_or_create({ name = "x" }).name)
    assert.equal(1, Child:count())
    assert.equal(1, #parent.children:fetch_or_create_many("name", { { name = "x" } }))
    assert.equal(1, Child:count())
    assert.equal("abc", Child:query():where_has("parent", function() end):first().owner)
  end)

  it("are found in what a loose model has", function()
    local Loose = lumo.model("KindLoose", { strict = false, columns = { owner_id = "objectid" } })
    local Owner = lumo.model("KindLooseOwner", { strict = false, columns = {}, relations = {
      things = lumo.has_many("KindLoose", { foreign_key = "owner_id" }),
    } })
    local owner = Owner:create { name = "o" }
    owner.things:create { colour = "red" }
    owner.things:first_or_create({ colour = "red" }, { size = 1 })
    assert.equal("red", list_of(Owner:query():preload("things"):first().things, "colour"))
    assert.equal(1, Loose:count())
  end)
end)

describe("loading", function()
  local a, b
  before_each(function()
    a, b = Author:create { name = "a" }, Author:create { name = "b" }
    a.books:create_many { { title = "1", pages = 10 }, { title = "2", pages = 30 }, { title = "3", pages = 20 } }
    b.books:create_many { { title = "4", pages = 5 }, { title = "5", pages = 50 } }
    for _, book in ipairs(Book:query():exec()) do
      for i = 1, book.pages / 10 do book.notes:create { text = book.title .. i } end
    end
  end)

  it("gives each of two copies of a parent a list of its own", function()
    local list = { a, b, a, Author:find(a._id) }
    lumo.load(list, "books")
    assert.equal(3, #list[1].books)
    assert.equal(3, #list[4].books)
    assert.not_equal(list[1].books, list[4].books)
    list[4].books[4] = "x"
    assert.equal(3, #a.books)
    lumo.load({}, "books")
    refused("E_ARGUMENT", function() lumo.load({ a, Book:first() }, "books") end)
    refused("E_ARGUMENT", function() lumo.load({ a, "x" }, "books") end)
    refused("E_UNDEFINED_RELATIONSHIP", function() lumo.load({ a }, "nope") end)
    refused("E_ARGUMENT", function() lumo.load(nil, "books") end)
  end)

  it("refuses new parents", function()
    local n = commands(function()
      refused("E_MISSING_ATTRIBUTE_VALUE", function() Author:new { name = "x" }:load("books") end)
      refused("E_MISSING_ATTRIBUTE_VALUE", function() Country:new { name = "x" }:load("books") end)
      refused("E_MISSING_ATTRIBUTE_VALUE", function() Author:new {}.books:query() end)
    end)
    assert.equal(0, n)
  end)

  it("joins, limits and orders in the callback, all at once", function()
    local list
    local n = commands(function()
      list = Author:query():order_by("name"):preload("books", function(q)
        q:where_has("notes", function(notes) notes:where("text", "!=", "4") end)
        q:group_limit(2):order_by("pages", "desc")
      end):exec()
    end)
    assert.equal(2, n)
    assert.equal("2 3", list_of(list[1].books, "title"))
    assert.equal("5", list_of(list[2].books, "title"))
    list = Author:query():order_by("name"):preload("books", function(q)
      q:where_has("notes", function() end, ">=", 2):group_limit(1):group_order_by("pages"):order_by("title", "desc")
    end):exec()
    assert.equal("3", list_of(list[1].books, "title"))
    assert.equal("5", list_of(list[2].books, "title"))
    list = Author:query():order_by("name"):preload("books", function(q)
      q:select("title"):doesnt_have("notes")
    end):exec()
    assert.equal(0, #list[1].books)
    assert.equal("4", list_of(list[2].books, "title"))
    list = Author:query():order_by("name"):preload("books", function(q)
      q:with_count("notes"):order_by("title"):preload("notes")
    end):exec()
    assert.equal(3, list[1].books[2].extras.notes_count)
    assert.equal(3, #list[1].books[2].notes)
    list = Author:query():order_by("name"):preload("best", function(q) q:order_by("pages", "desc") end):exec()
    assert.equal("2", list[1].best.title)
    assert.equal("5", list[2].best.title)
  end)

  it("refuses in the callback what cannot be of many parents", function()
    for i, wrong in ipairs {
      function(q) q:exec() end, function(q) q:paginate(1, 1) end, function(q) q:where("nope", 1) end,
      function(q) q:where("title", nil) end, function(q) q:group_limit(0) end, function(q) q:group_limit("x") end,
      function(q) q:where_pivot("x", 1) end, function(q) q:pivot_columns { "x" } end,
    } do
      local ok, err = pcall(function() lumo.load({ a, b }, "books", wrong) end)
      assert.is_false(ok, "case " .. i)
      assert.matches("^E_", type(err) == "table" and err.code or "case " .. i .. tostring(err))
    end
  end)

  it("knows a wrong name anywhere in a path before it sends anything", function()
    local author = Author:create { name = "a" }
    author.books:create { title = "1" }
    local n = commands(function()
      refused("E_UNDEFINED_RELATIONSHIP", function() Author:query():preload("books.nope"):exec() end)
      refused("E_UNDEFINED_RELATIONSHIP", function() author:load("books.notes.nope") end)
      refused("E_UNDEFINED_RELATIONSHIP", function() lumo.load({ author }, "books.nope.notes") end)
    end)
    assert.equal(0, n)
  end)

  it("leaves a query alone whose copy loads more, and what is asked for once already", function()
    Author:create({ name = "a" }).books:create({ title = "1" }).notes:create { text = "x" }
    local query = Author:query():preload("books")
    local copy = query:clone():preload("books.notes"):preload("books", function(q) q:where("title", "none") end)
    assert.equal(0, #copy:first().books)
    local book = query:first().books[1]
    assert.is_nil(book.preloaded.notes)
    local once = Author:query():preload("books.notes", function(q) q:where("text", "none") end)
    assert.equal(0, #once:preload_once("books.notes"):preloadOnce("books"):first().books[1].notes)
  end)

  it("runs on_query with what it preloads, and says what it is for", function()
    local seen = {}
    local Parent = lumo.model("KindOnQuery", { collection = "kind_authors", columns = { name = "string" }, relations = {
      books = lumo.has_many("KindBook", { foreign_key = "author_id", on_query = function(q)
        if q.is_related_sub_query then seen.sub = true
        elseif q.is_related_preload_query then seen.preload = true
        elseif q.is_related_query then seen.query = true end
        q:where("pages", ">", 5)
        if not q.is_related_sub_query then q:preload("notes") end
      end }),
    } })
    local parent
    local ok, err = pcall(function() parent = Parent:query():has("books", "=", 1):preload("books"):first() end)
    assert.is_true(ok, tostring(err))
    assert.equal("b", parent.name)
    assert.equal("5", list_of(parent.books, "title"))
    parent.books:query():exec()
    assert.same({ sub = true, preload = true, query = true }, seen)
  end)

  it("leaves out of JSON what is nil, and what is not loaded", function()
    local book = Book:create { title = "nobody's" }
    assert.is_nil(book:serialize().author)
    book:load("author"):load("notes")
    assert.is_nil(book:serialize().author)
    assert.same({}, book:to_table().notes)
    assert.not_matches('"author"', book:to_json(), 1, true)
    book:related("author"):associate(a)
    assert.equal("a", book:load("author"):serialize().author.name)
    assert.matches('"author":{', book:to_json(), 1, true)
  end)

  it("keeps 10,000 parents apart, in one command", function()
    local rows, children = {}, {}
    for i = 1, 10000 do rows[i] = { name = "n" .. i } end
    local nodes = Node:create_many(rows)
    for i = 1, 10000, 3 do children[#children + 1] = { up_id = nodes[i]._id, name = "c" .. i } end
    Node:create_many(children)
    local n = commands(function() lumo.load(nodes, "below") end)
    assert.is_true(n <= 3, n)
    for i, node in ipairs(nodes) do
      assert.equal(i % 3 == 1 and "c" .. i or "", list_of(node.below, "name"))
    end
    local kids = Node:query():where_not_null("up_id"):exec()
    lumo.load(kids, "up")
    for _, kid in ipairs(kids) do assert.equal("n" .. kid.name:sub(2), kid.up.name) end
  end)
end)

describe("a builder of one parent", function()
  local author
  before_each(function()
    author = Author:create { name = "a" }
    for i = 1, 5 do author.books:create { title = "t" .. i, pages = i } end
    Author:create { name = "b" }.books:create { title = "other", pages = 100 }
  end)

  it("pages, streams, aggregates, changes and deletes what is the parent's alone", function()
    local first = author.books:query():order_by("title"):cursor_paginate { per_page = 2 }
    local second = author.books:query():order_by("title"):cursor_paginate { per_page = 2, cursor = first.next_cursor }
    assert.equal("t1 t2", list_of(first, "title"))
    assert.equal("t3 t4", list_of(second, "title"))
    local n = 0
    for book in author.books:query():each() do
      n = n + 1
      assert.equal(author._id, book.author_id)
    end
    assert.equal(5, n)
    assert.equal(15, author.books:query():sum("pages"))
    assert.equal(3, author.books:query():avg("pages"))
    assert.equal(5, author.books:query():max("pages"))
    assert.equal(5, #author.books:query():distinct("title"))
    assert.is_true(author.books:query():where("title", "t1"):exists())
    assert.is_false(author.books:query():where("title", "other"):exists())
    assert.equal(5, author.books:query():everything():increment("pages"))
    assert.equal(2, author.books:query():where("title", "t1"):or_where("title", "other"):first().pages)
    assert.equal(7, author.books:query():order_by("title"):find_one_and_update({ pages = 7 }).pages)
    assert.equal("t5", author.books:query():order_by("title", "desc"):find_one_and_delete().title)
    assert.equal(4, author.books:query():where("title", "other"):or_where("pages", ">", 0):delete())
    assert.equal(1, Book:count())
    refused("E_ARGUMENT", function() author.books:query():where("title", nil) end)
    refused("E_ARGUMENT", function() author.books:query():where {} end)
  end)

  it("takes conditions of other kinds of relations, nested", function()
    local land = Country:create { name = "land" }
    author:related("country"):associate(land)
    local book = author.books:query():where("title", "t3"):first()
    book.notes:create { text = "n" }
    book.editor_id = author._id
    book:save()
    assert.equal("t3", list_of(author.books:query():has("notes"):exec(), "title"))
    assert.equal("t3", list_of(author.books:query():has("editor.country"):exec(), "title"))
    assert.equal("n", Note:query():has("book.author.country"):first().text)
    assert.equal("land", Country:query():has("authors.books.notes"):first().name)
    assert.equal("land", Country:query():has("books.notes"):first().name)
    assert.equal("land", Country:query():where_has("books", function(q)
      q:where_has("notes", function(notes) notes:where("text", "n") end)
    end):first().name)
    assert.is_nil(Country:query():where_has("books", function(q) q:where("title", "other") end):first())
    assert.equal(1, Country:query():with_count("books", function(q) q:has("notes") end):first().extras.books_count)
    local list = Book:query():with_count("editor"):order_by("title"):exec()
    assert.equal(0, list[1].extras.editor_count)
    assert.equal(1, list[4].extras.editor_count)
    land = Country:query():with_aggregate("books", function(q) q:sum("pages"):as("all") end):first()
    assert.equal(15, land.extras.all)
  end)

  it("goes through relations of a model to itself", function()
    local top = Node:create { name = "top" }
    local left, right = top.below:create { name = "left" }, top.below:create { name = "right" }
    left.below:create { name = "low" }
    assert.equal("left right", list_of(top.below:query():order_by("name"):exec(), "name"))
    assert.equal("top", right:related("up"):exec().name)
    assert.equal("low", list_of(top.grandchildren:exec(), "name"))
    assert.is_nil(top:load("up").up)
    local tree = Node:query():where_null("up_id"):preload("below.below.up"):preload("grandchildren"):first()
    local low = tree.below[1].below[1] or tree.below[2].below[1]
    assert.equal("left", low.up.name)
    assert.equal("low", list_of(tree.grandchildren, "name"))
    local second = Node:query():has("up"):doesnt_have("up.up"):order_by("name")
    assert.equal("left right", table.concat(second:pluck("name"), " "))
    assert.equal("top", Node:query():has("grandchildren"):first().name)
    assert.equal("top", Node:query():has("below", "=", 2):first().name)
    top:related("up"):associate(top)
    assert.equal("top", top:related("up"):exec().name)
  end)
end)

describe("has many through", function()
  it("goes the way of a key that the parent holds, to the _id and from it", function()
    Note:has_many_through("authors", "KindAuthor", "KindBook", {
      local_key = "book_id", foreign_key = "_id", through_local_key = "author_id", through_foreign_key = "_id",
    })
    Note:has_many_through("siblings", "KindNote", "KindBook", {
      local_key = "book_id", foreign_key = "_id", through_foreign_key = "book_id",
    })
    local author = Author:create { name = "a" }
    local one = author.books:create { title = "1" }
    local note = one.notes:create { text = "x" }
    one.notes:create { text = "y" }
    author.books:create({ title = "2" }).notes:create { text = "z" }
    for _, loaded in ipairs { note:load("authors"):load("siblings"),
      Note:query():where("text", "x"):preload("authors"):preload("siblings"):first() } do
      assert.equal("a", list_of(loaded.authors, "name"))
      assert.equal("x y", list_of(loaded.siblings, "text"))
    end
    assert.equal("a", list_of(note.authors:exec(), "name"))
    assert.equal("y x", list_of(note.siblings:query():order_by("text", "desc"):limit(5):exec(), "text"))
    assert.equal(2, note.siblings:query():count())
    assert.equal(3, Note:query():has("authors"):count())
    for each in note.siblings:query():where("text", "y"):each() do assert.equal("y", each.text) end
  end)

  it("limits and pages by the _id, as many records have one key", function()
    local land = Country:create { name = "l" }
    local first, second = land.authors:create { name = "1" }, land.authors:create { name = "2" }
    for i = 1, 12 do (i % 3 == 0 and first or second).books:create { title = ("%02d"):format(i) } end
    local loaded = Country:query():preload("books", function(q) q:group_limit(3) end):first()
    assert.equal("12 11 10", list_of(loaded.books, "title"))
    assert.equal("01 02 03", list_of(land.books:query():limit(3):exec(), "title"))
    local titles = {}
    for page = 1, 3 do titles[page] = list_of(land.books:paginate(page, 5), "title") end
    assert.equal("01 02 03 04 05 06 07 08 09 10 11 12", table.concat(titles, " "))
    local streamed = {}
    for each in land.books:query():limit(4):each() do streamed[#streamed + 1] = each end
    assert.equal("01 02 03 04", list_of(streamed, "title"))
  end)
end)

describe("has many through several models", function()
  -- World, then countries, authors, books, notes.
  local Planet = lumo.model("KindPlanet", {
    columns = { name = "string" },
    relations = {
      authors = lumo.has_many_through("KindAuthor", { "KindLand" }, { -- a list of one
        foreign_key = "planet_id", through_foreign_key = "country_id",
      }),
      books = lumo.has_many_through("KindBook", { "KindLand", "KindAuthor" }, {
        foreign_key = "planet_id", through_keys = { { foreign_key = "country_id" } }, through_foreign_key = "author_id",
      }),
      long = lumo.has_many_through("KindBook", { "KindLand", "KindAuthor" }, {
        foreign_key = "planet_id", throughKeys = { { foreignKey = "country_id" } }, through_foreign_key = "author_id",
        on_query = function(q) q:where("pages", ">", 20) end,
      }),
      notes = lumo.has_many_through(Note, { "KindLand", Author, function() return Book end }, {
        foreign_key = "planet_id", through_keys = { { foreign_key = "country_id" }, { foreign_key = "author_id" } },
        through_foreign_key = "book_id",
      }),
    },
  })
  local Land = lumo.model("KindLand", {
    columns = { planet_id = { "objectid", column = "p" }, name = "string" },
    relations = { authors = lumo.has_many("KindAuthor", { foreign_key = "country_id" }) },
  })
  local earth, mars

  before_each(function()
    Planet:truncate()
    Land:truncate()
    earth, mars = Planet:create { name = "earth" }, Planet:create { name = "mars" }
    local number = 0
    for i, planet in ipairs { earth, earth, mars } do
      local land = Land:create { planet_id = planet._id, name = "land" .. i }
      for k = 1, 2 do
        local author = land.authors:create { name = "a" .. i .. k }
        for _ = 1, k do
          number = number + 1
          local book = author.books:create { title = "b" .. number, pages = number * 10 }
          for n = 1, number % 3 do book.notes:create { text = book.title .. "n" .. n } end
        end
      end
    end
    -- Of nobody, of somebody who is gone, without a key, with a list of keys.
    Land:create { name = "nowhere" }
    Author:create { name = "homeless" }.books:create { title = "lost", pages = 1000 }
    Book:create { title = "nobody's", pages = 1000 }
    Author:create { name = "exile", country_id = lumo.objectid() }.books:create { title = "far", pages = 1000 }
  end)

  it("reads of one parent, like every relation", function()
    assert.equal("b1 b2 b3 b4 b5 b6", list_of(earth.books:query():order_by("title"):exec(), "title"))
    assert.equal("b7 b8 b9", list_of(mars.books:query():order_by("title"):exec(), "title"))
    assert.equal("b7n1 b8n1 b8n2", list_of(mars.notes:query():order_by("text"):exec(), "text"))
    assert.equal(6, earth.books:query():count())
    assert.equal(210, earth.books:query():sum("pages"))
    assert.equal("b6 b5", list_of(earth.books:query():order_by("pages", "desc"):limit(2):exec(), "title"))
    assert.equal("b3 b4", list_of(earth.books:query():order_by("pages"):offset(2):limit(2):exec(), "title"))
    assert.equal("b6", earth.books:query():where("pages", 60):or_where("title", "b7"):first().title)
    assert.equal("b2", earth.books:find(Book:find_by("title", "b2")._id).title)
    assert.is_nil(earth.books:find(Book:find_by("title", "b7")._id))
    assert.equal(2, #earth.books:paginate(1, 2))
    assert.equal(6, earth.books:paginate(1, 2).total)
    assert.equal(3, #mars.books:query():distinct("title"))
    local n = 0
    for _ in earth.books:query():each() do n = n + 1 end
    assert.equal(6, n)
    assert.equal("b3 b4 b5 b6", list_of(earth.long:query():order_by("title"):exec(), "title"))
    assert.equal(earth._id, earth.books:exec()[1].extras.through_planet_id)
    assert.equal("b1 b2 b4 b5", list_of(earth.books:query():has("notes"):order_by("title"):exec(), "title"))
    assert.equal(2, earth.books:query():where("pages", "<", 25):update { pages = 1 })
    assert.equal(3, mars.books:query():everything():delete())
    assert.equal(0, mars.books:query():count())
    assert.equal(9, Book:count())
    assert.is_not_nil(earth.books:query():explain())
  end)

  it("loads for many in two commands, with limits and conditions on both sides of the way", function()
    local list
    local n = commands(function() list = Planet:query():order_by("name"):preload("notes"):exec() end)
    assert.equal(3, n)
    assert.equal(6, #list[1].notes)
    assert.equal(3, #list[2].notes)
    list = Planet:query():order_by("name"):preload("books", function(q)
      q:group_limit(2):order_by("pages", "desc"):with_count("notes")
    end):exec()
    assert.equal("b6 b5", list_of(list[1].books, "title"))
    assert.equal("b9 b8", list_of(list[2].books, "title"))
    assert.equal(2, list[2].books[2].extras.notes_count)
    list = Planet:query():order_by("name"):preload("books", function(q)
      q:has("notes"):group_limit(1):group_order_by("pages", "desc")
    end):exec()
    assert.equal("b5", list_of(list[1].books, "title"))
    assert.equal("b8", list_of(list[2].books, "title"))
    list = Planet:query():order_by("name"):preload("books", function(q) q:group_limit(3) end):exec()
    assert.equal(3, #list[1].books)
    assert.equal(3, #list[2].books)
    lumo.load({ earth, mars, earth }, "long.author.country")
    assert.equal(4, #earth.long)
    local relation = Planet:get_relation("books")
    relation:set_related_for_many({ earth, mars }, relation:eager_query({ earth, mars }):exec())
    assert.equal("b7 b8 b9", list_of(mars.books, "title"))
    assert.equal(Author, relation.through_model())
    assert.equal("planet_id", relation.foreign_key)
    assert.equal("author_id", relation.throughForeignKey)
  end)

  it("is counted and asked for by the server", function()
    local function planets(q) return table.concat(q:order_by("name"):pluck("name"), " ") end
    assert.equal("earth", planets(Planet:query():has("books", ">", 3)))
    assert.equal("earth mars", planets(Planet:query():has("notes")))
    assert.equal("mars", planets(Planet:query():where_has("books", function(q) q:where("title", "b7") end)))
    assert.equal("earth", planets(Planet:query():where_doesnt_have("books", function(q) q:where("title", "b7") end)))
    assert.equal("mars", planets(Planet:query():where_has("books", function(q)
      q:where_has("notes", function(notes) notes:where("text", "b7n1") end)
    end)))
    assert.equal("mars", planets(Planet:query():where_has("books.author", function(q) q:where("name", "a31") end)))
    local list = Planet:query():order_by("name"):with_count("books"):with_count("notes")
      :with_aggregate("long", function(q) q:max("pages"):as("longest") end):exec()
    assert.same({ 6, 6, 60 }, { list[1].extras.books_count, list[1].extras.notes_count, list[1].extras.longest })
    assert.same({ 3, 3, 90 }, { list[2].extras.books_count, list[2].extras.notes_count, list[2].extras.longest })
    assert.equal(6, earth:load_count("books").extras.books_count)
  end)

  it("goes through one model more than once", function()
    local Line = lumo.model("KindLine", { columns = { up_id = "objectid", name = "string" }, relations = {
      below = lumo.has_many("KindLine", { foreign_key = "up_id" }),
      third = lumo.has_many_through("KindLine", { "KindLine", "KindLine" }, {
        foreign_key = "up_id", through_keys = { { foreign_key = "up_id" } }, through_foreign_key = "up_id",
      }),
    } })
    local one = Line:create { name = "1" }
    local three = one.below:create { name = "2" }.below:create { name = "3" }
    three.below:create_many { { name = "4" }, { name = "5" } }
    assert.equal("4 5", list_of(one.third:query():order_by("name"):exec(), "name"))
    assert.equal(2, #lumo.load(Line:all(), "third")[1].third)
    assert.equal("1", table.concat(Line:query():has("third"):pluck("name")))
  end)

  it("refuses what is no list of models or of keys", function()
    local n = commands(function()
      for _, wrong in ipairs { {}, { 5 }, { "A", 5 }, { "A", nil, "B" }, { "A", lumo.null }, { name = "A" },
        { "A", "B", "C", "D", "E", "F", "G", "H" } } do
        refused("E_ARGUMENT", function() lumo.has_many_through("KindBook", wrong) end)
      end
      for _, wrong in ipairs { 5, "x", { 5 }, { { nope = "x" } }, { { foreign_key = 5 } }, { { local_key = "a.b" } },
        { { foreign_key = "x" }, { foreign_key = "x" } } } do
        refused("E_ARGUMENT", function()
          lumo.has_many_through("KindBook", { "A", "B" }, { through_keys = wrong })
        end)
      end
      refused("E_ARGUMENT", function() lumo.has_many_through("A", "B", { through_keys = { { local_key = "x" } } }) end)
      refused("E_ARGUMENT", function() earth.books:query():where_pivot("name", "x") end)
      refused("E_ARGUMENT", function() earth.books:query():order_by_pivot("name") end)
      refused("E_MISSING_ATTRIBUTE_VALUE", function() Planet:new {}.books:exec() end)
    end)
    assert.equal(0, n)
    local Wrong = lumo.model("KindWrong", { columns = {}, relations = {
      books = lumo.has_many_through("KindBook", { "KindLand", "KindAuthor" }, { foreign_key = "planet_id" }),
    } })
    local err = refused("E_MISSING_MODEL_ATTRIBUTE", function() return Wrong:get_relation("books").foreign_key end)
    assert.matches('expects "kind_land_id" to exist on "KindAuthor"', err.message, 1, true)
  end)
end)

describe("definitions", function()
  it("are inherited, added afterwards, and bound by every static", function()
    local Base = lumo.model("KindBase", { columns = { name = "string" }, relations = {
      books = lumo.has_many("KindBook", { foreign_key = "author_id" }),
    } })
    local Derived = lumo.model("KindDerived", { extends = Base, columns = { extra = "string" } })
    local one = Derived:create { name = "d" }
    one.books:create { title = "of derived" }
    assert.equal("of derived", list_of(Derived:query():preload("books"):first().books, "title"))
    Derived:has_many("edited", "KindBook", { foreign_key = "editor_id" })
    Derived:hasOne("best", "KindBook", { foreign_key = "author_id" })
    Derived:add_column("parent_id", "objectid")
    Derived:belongsTo("parent", "KindBase", { foreign_key = "parent_id" })
    Derived:hasManyThrough("notes", "KindNote", "KindBook", {
      foreign_key = "author_id", through_foreign_key = "book_id",
    })
    assert.is_false(Base:has_relation("edited"))
    one = Derived:first()
    assert.equal("of derived", one:load("best").best.title)
    assert.equal(0, #one.notes:exec())
    assert.is_nil(one:related("parent"):exec())
    refused("E_ARGUMENT", function() Derived:has_many("name", "KindBook") end)
    refused("E_ARGUMENT", function() Derived:has_many(5, "KindBook") end)
    refused("E_ARGUMENT", function() Derived:has_many("save", "KindBook") end)
    refused("E_ARGUMENT", function() Derived:has_many("more") end)
  end)

  it("are objects with builders of their own", function()
    local author = Author:create { name = "a" }
    author.books:create { title = "x" }
    local relation = Author:getRelation("books")
    assert.equal("x", list_of(relation:client(author):exec(), "title"))
    assert.is_true(relation:subQuery().is_related_sub_query)
    local eager = relation:eagerQuery { author }
    assert.is_true(eager.is_related_preload_query)
    assert.equal("x", list_of(eager:exec(), "title"))
    assert.equal("x", list_of(Country:get_relation("books"):eager_query {}:exec(), "title") .. "x")
    refused("E_ARGUMENT", function() relation:sub_query():exec() end)
    refused("E_ARGUMENT", function() relation:eager_query { Book:first() } end)
    refused("E_ARGUMENT", function() relation:client(Book:first()) end)
    refused("E_ARGUMENT", function() relation:client(nil) end)
    refused("E_ARGUMENT", function() relation:client(5) end)
    local land = Country:create { name = "l" }
    author:related("country"):associate(land)
    local through = Country:get_relation("books")
    through:set_related_for_many({ land }, through:eager_query({ land }):exec())
    assert.equal("x", list_of(land.books, "title"))
    assert.equal(land._id, land.books[1].extras.through_country_id)
  end)
end)
