-- Defining models: what a definition may say, what it means when it says nothing, what is refused.
-- Nothing here needs a connection.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local expect_error = helper.expect_error

local function refused(name, definition)
  return expect_error("E_ARGUMENT", function() return lumo.model(name, definition) end)
end

local function contains(err, text)
  assert.is_truthy(err.message:find(text, 1, true), ("%q is not in %q"):format(text, err.message))
end

describe("columns side by side", function()
  it("have different names in documents and in JSON, inside of an object, too", function()
    local function twice(option)
      local pair = { a = { "string", [option] = "x" }, b = { "string", [option] = "x" } }
      contains(refused("DefinitionTwice", { columns = pair }), "under one name, \"x\"")
      contains(refused("DefinitionTwice", { columns = { o = { "object", columns = pair } } }), "under one name, \"x\"")
    end
    twice("column")
    twice("serialize_as")
    lumo.model("DefinitionTwice", { columns = {
      a = { "string", serialize_as = false }, b = { "string", serialize_as = false },
      c = { "string", serialize_as = "a" },
    } })
  end)
end)

describe("a relation", function()
  it("has no column's name in JSON, but may share one with other relations", function()
    local function many(options) return lumo.many_to_many("DefinitionUser", options) end
    local columns = { title = "string", label = { "string", serialize_as = "tag_list" } }
    for _, relations in ipairs {
      { users = many { serialize_as = "title" } },
      { tag_list = many() },
      { users = lumo.has_many("DefinitionUser", { serialize_as = "tag_list" }) },
    } do
      contains(refused("DefinitionShared", { columns = columns, relations = relations }), "under one name")
    end
    local relations = { users = many { serialize_as = "title" } }
    local err = refused("DefinitionShared", { columns = columns, relations = relations })
    contains(err, "relation \"users\" and column \"title\" of \"DefinitionShared\"")
    lumo.model("DefinitionShared", {
      columns = { title = { "string", serialize_as = false } },
      relations = {
        users = many { serialize_as = "title" }, others = many { serialize_as = false },
        active = many { serialize_as = "title", on_query = function() end },
      },
    })
  end)
end)

describe("a default", function()
  it("that its column cannot hold is told when the model is defined", function()
    for kind, bad in pairs {
      integer = "0", int32 = 2 ^ 31, number = true, string = 5, boolean = "no", date = "yesterday", objectid = "x",
      decimal = "1,5", array = "a", object = 5, uuid = "x",
    } do
      local err = expect_error("E_CAST", function()
        lumo.model("DefinitionDefault", { columns = { value = { kind, default = bad } } })
      end)
      assert.equal("value", err.attribute)
      contains(err, "DefinitionDefault.value")
    end
    for path, column in pairs {
      list = { "array", of = "integer", default = { 1, "x" } },
      meta = { "object", columns = { n = { "integer", default = "x" } } },
      items = { "array", of = { "object", columns = { n = { "array", of = "string", default = { 5 } } } } },
    } do
      local err = expect_error("E_CAST", lumo.model, "DefinitionDefault", { columns = { [path] = column } })
      assert.equal(path, err.attribute:match("^%a+"))
    end
    expect_error("E_UNDEFINED_MODEL", lumo.model, "DefinitionDefault")
  end)

  it("is cast like other values, and a function or what is prepared is not looked at", function()
    local prepared = { "integer", default = "a,b", prepare = function(text) return #text end }
    local Defaults = lumo.model("DefinitionDefaults", { columns = {
      n = { "integer", default = 5.0 }, day = { "date", default = "2024-01-02" },
      none = { "string", default = lumo.null },
      any = { "any", default = { a = 1 } }, empty = { "array", of = "string", default = {} },
      price = { "decimal", default = "1.50" }, meta = { "object", default = {}, columns = { n = "integer" } },
      called = { "integer", default = function() return "x" end }, size = prepared,
    } })
    expect_error("E_CAST", function() Defaults:new {} end)
    local made = Defaults:new { called = 1 }
    assert.equal(5, made.n)
    assert.equal(lumo.datetime("2024-01-02"), made.day)
    assert.equal(lumo.decimal("1.50"), made.price)
  end)
end)

describe("a model's connection", function()
  it("is a connection or its name", function()
    for _, bad in ipairs { 5, true, {}, print } do
      contains(refused("DefinitionConnected", { connection = bad, columns = { a = "string" } }), "connection")
    end
    lumo.model("DefinitionConnected", { connection = "opened later", columns = { a = "string" } })
  end)
end)

describe("a model's collection", function()
  it("is the plural in snake_case unless the definition names it", function()
    local User = lumo.model("User", { columns = { name = "string" } })
    local UserProfile = lumo.model("UserProfile", { columns = { name = "string" } })
    local Category = lumo.model("Category", { columns = { name = "string" } })
    local Person = lumo.model("Person", { columns = { name = "string" } })
    assert.equal("users", User.collection)
    assert.equal("user_profiles", UserProfile.collection)
    assert.equal("categories", Category.collection)
    assert.equal("people", Person.collection)
  end)

  it("is the one that the definition names", function()
    local Tale = lumo.model("DefinitionTale", { collection = "stories_2", columns = { title = "string" } })
    assert.equal("stories_2", Tale.collection)
  end)

  it("must be a name that a server takes", function()
    for _, name in ipairs { "", "a$b", "a\0b", 5 } do
      refused("DefinitionBadCollection", { collection = name, columns = { title = "string" } })
    end
  end)
end)

describe("a definition", function()
  it("is found by its name", function()
    local Found = lumo.model("DefinitionFound", { columns = { title = "string" } })
    assert.equal(Found, lumo.model("DefinitionFound"))
  end)

  it("that is not there is E_UNDEFINED_MODEL, with the nearest name", function()
    lumo.model("DefinitionNearby", { columns = { title = "string" } })
    contains(expect_error("E_UNDEFINED_MODEL", lumo.model, "DefinitionNeraby"), "DefinitionNearby")
  end)

  it("takes columns as a map and as a list", function()
    local Map = lumo.model("DefinitionMap", {
      columns = {
        title = "string",
        slug = { "string", required = true },
        views = { "integer", default = 0 },
      },
    })
    local List = lumo.model("DefinitionList", {
      columns = {
        { "title", "string" },
        { "slug", { "string", required = true } },
        { "views", { "integer", default = 0 } },
      },
    })
    for _, Model in ipairs { Map, List } do
      local record = Model:new { title = "a", slug = "b" }
      assert.equal("a", record.title)
      assert.equal("b", record.slug)
      expect_error("E_UNDEFINED_COLUMN", function() record.other = 1 end)
    end
  end)

  it("knows every type of the contract", function()
    for i, kind in ipairs {
      "string", "integer", "int32", "int64", "number", "boolean", "date", "objectid", "decimal", "binary",
      "uuid", "array", "object", "any",
    } do
      assert.has_no.errors(function()
        lumo.model("DefinitionType" .. i, { columns = { value = kind, other = { kind } } })
      end)
    end
  end)

  it("refuses unknown types, naming the column", function()
    contains(refused("DefinitionBadType", { columns = { title = "strin" } }), "title")
    contains(refused("DefinitionBadType", { columns = { title = { "strin" } } }), "title")
    refused("DefinitionBadType", { columns = { title = {} } })
    refused("DefinitionBadType", { columns = { title = 5 } })
    refused("DefinitionBadType", { columns = { title = true } })
    refused("DefinitionBadType", { columns = { labels = { "array", of = "strin" } } })
    refused("DefinitionBadType", { columns = { meta = { "object", columns = { color = "strin" } } } })
    refused("DefinitionBadType", { columns = { { "title", "strin" } } })
  end)

  it("refuses unknown column options", function()
    local err = refused("DefinitionBadOption", { columns = { title = { "string", requird = true } } })
    contains(err, "requird")
  end)

  it("refuses unknown keys beside columns", function()
    contains(refused("DefinitionBadKey", { colection = "x", columns = { title = "string" } }), "colection")
  end)

  it("refuses what is no definition", function()
    expect_error("E_ARGUMENT", function() lumo.model(5, { columns = {} }) end)
    expect_error("E_ARGUMENT", function() lumo.model("", { columns = {} }) end)
    expect_error("E_ARGUMENT", function() lumo.model("DefinitionNoTable", "columns") end)
    expect_error("E_ARGUMENT", function() lumo.model("DefinitionNoColumns", { columns = "title" }) end)
    expect_error("E_ARGUMENT", function() lumo.model() end)
  end)

  it("takes camelCase options", function()
    local Model = lumo.model("DefinitionCamelOptions", {
      columns = {
        slug = { "string", serializeAs = "permalink" },
        created_at = { "date", autoCreate = true, autoUpdate = true },
      },
    })
    assert.equal("x", Model:new({ slug = "x" }):serialize().permalink)
  end)

  it("refuses two columns with one stored name", function()
    refused("DefinitionTwice", { columns = { a = "string", b = { "string", column = "a" } } })
    refused("DefinitionTwice", { columns = { { "a", "string" }, { "a", "string" } } })
  end)

  it("refuses stored names that MongoDB cannot address", function()
    for _, name in ipairs { "", "$a", "a.b", "a\0b" } do
      refused("DefinitionStoredName", { columns = { a = { "string", column = name } } })
    end
  end)

  it("refuses the names that records use themselves", function()
    for _, name in ipairs {
      "extras", "save", "is_new", "is_persisted", "is_dirty", "attributes", "original", "dirty", "preloaded",
      "related", "load", "delete", "refresh", "get", "set", "fill", "merge", "serialize", "to_json", "trx",
      "isPersisted", "toJson",
    } do
      contains(refused("DefinitionReserved", { columns = { [name] = "string" } }), name)
    end
  end)

  it("that is refused leaves no model behind", function()
    refused("DefinitionNeverMade", { columns = { title = "strin" } })
    expect_error("E_UNDEFINED_MODEL", lumo.model, "DefinitionNeverMade")
  end)
end)

describe("defining a name again", function()
  it("from another place is refused and names the first place", function()
    lumo.model("DefinitionOnce", { columns = { title = "string" } })
    local err = refused("DefinitionOnce", { columns = { title = "string" } })
    contains(err, "DefinitionOnce")
    contains(err, "definition_spec.lua")
    assert.equal("a", lumo.model("DefinitionOnce"):new({ title = "a" }).title)
  end)

  it("from the same place replaces it, as reloading a file does", function()
    local models = {}
    for i, column in ipairs { "first", "second" } do
      models[i] = lumo.model("DefinitionReloaded", { columns = { [column] = "string" } })
    end
    local Model = lumo.model("DefinitionReloaded")
    assert.equal(models[2], Model)
    assert.equal("x", Model:new({ second = "x" }).second)
    expect_error("E_UNDEFINED_COLUMN", function() return Model:new { first = "x" } end)
  end)
end)

describe("a column's three names", function()
  local Article = lumo.model("DefinitionArticle", {
    columns = {
      slug = { "string", column = "post_slug", serialize_as = "permalink" },
      secret = { "string", serialize_as = false },
      title = "string",
    },
  })
  local article = Article:new { slug = "a-b", secret = "s", title = "T" }

  it("are the attribute's in Lua", function()
    assert.equal("a-b", article.slug)
    assert.equal("a-b", article:get("slug"))
    assert.is_nil(article.post_slug)
    assert.is_nil(article.permalink)
    assert.equal("a-b", article:to_table().slug)
    assert.is_nil(article:to_table().permalink)
    assert.equal("a-b", article.attributes.slug)
  end)

  it("are the serialized one in JSON", function()
    local out = article:serialize()
    assert.equal("a-b", out.permalink)
    assert.is_nil(out.slug)
    assert.is_nil(out.post_slug)
    assert.equal("T", out.title)
    local json = article:to_json()
    assert.is_truthy(json:find('"permalink"%s*:%s*"a%-b"'))
    assert.is_nil(json:find("post_slug", 1, true))
  end)

  it("hide what serialize_as = false hides, from JSON only", function()
    assert.is_nil(article:serialize().secret)
    assert.is_nil(article:to_json():find("secret", 1, true))
    assert.equal("s", article.secret)
    assert.equal("s", article:to_table().secret)
  end)

  it("are not interchangeable in new values", function()
    expect_error("E_UNDEFINED_COLUMN", function() return Article:new { post_slug = "x" } end)
    expect_error("E_UNDEFINED_COLUMN", function() return Article:new { permalink = "x" } end)
  end)

  it("are data, to which the camelCase rule does not apply", function()
    local Model = lumo.model("DefinitionCamelData", {
      columns = { user_name = "string", userAge = "integer" },
    })
    local record = Model:new { user_name = "a", userAge = 5 }
    assert.equal("a", record.user_name)
    assert.is_nil(record.userName)
    assert.equal(5, record.userAge)
    assert.is_nil(record.user_age)
    expect_error("E_UNDEFINED_COLUMN", function() record.userName = "b" end)
  end)
end)

describe("the primary key", function()
  it("is _id, an objectid, unless the definition declares one", function()
    local Model = lumo.model("DefinitionPlainKey", { columns = { title = "string" } })
    local id = lumo.objectid()
    local record = Model:new { _id = id, title = "a" }
    assert.equal(id, record._id)
    assert.equal(id, record.id)
    assert.equal(id, record.primary_key_value)
    assert.equal(id, record.primaryKeyValue)
  end)

  it("may have another attribute name and type", function()
    local Model = lumo.model("DefinitionOwnKey", {
      columns = { id = { "integer", primary = true }, name = "string" },
    })
    local record = Model:new { id = 7, name = "a" }
    assert.equal(7, record.id)
    assert.equal(7, record.primary_key_value)
  end)

  it("is what record.id reads, whatever its name", function()
    local Model = lumo.model("DefinitionCodeKey", { columns = { code = { "string", primary = true } } })
    local record = Model:new { code = "de" }
    assert.equal("de", record.id)
    assert.equal("de", record.code)
  end)

  it("gives way to a column called id", function()
    local Model = lumo.model("DefinitionForeignId", { columns = { id = "string" } })
    local record = Model:new { id = "from elsewhere" }
    assert.equal("from elsewhere", record.id)
    assert.is_nil(record.primary_key_value)
  end)

  it("is one", function()
    refused("DefinitionTwoKeys", {
      columns = { a = { "integer", primary = true }, b = { "integer", primary = true } },
    })
  end)

  it("is stored as _id, so no other column may be", function()
    refused("DefinitionStolenKey", { columns = { a = { "string", column = "_id" } } })
  end)
end)

describe("a new record", function()
  local Post = lumo.model("DefinitionPost", {
    columns = {
      title = "string",
      views = { "integer", default = 0 },
      status = { "string", default = function() return "draft" end },
    },
  })
  function Post:headline()
    return self.title:upper()
  end

  it("has the methods of its model", function()
    assert.equal("HELLO", Post:new({ title = "hello" }):headline())
  end)

  it("refuses unknown names and suggests the nearest", function()
    contains(expect_error("E_UNDEFINED_COLUMN", function() return Post:new { titel = "x" } end), "title")
    contains(expect_error("E_UNDEFINED_COLUMN", function() Post:new({}).titel = "x" end), "title")
    assert.is_nil(Post:new({}).titel)
  end)

  it("takes unknown names where the model is not strict", function()
    local Loose = lumo.model("DefinitionLoose", { strict = false, columns = { title = "string" } })
    local record = Loose:new { title = "a", anything = { 1, 2 } }
    assert.same({ 1, 2 }, record:get("anything"))
    record.more = "b"
    assert.equal("b", record:get("more"))
  end)

  it("takes no values but a table", function()
    expect_error("E_ARGUMENT", function() return Post:new("title") end)
    expect_error("E_ARGUMENT", function() return Post:new(5) end)
    assert.has_no.errors(function() return Post:new() end)
  end)

  it("says so when a method is called with a dot", function()
    expect_error("E_ARGUMENT", function() return Post.new { title = "x" } end)
    local record = Post:new { title = "x" }
    expect_error("E_ARGUMENT", function() return record.save() end)
    expect_error("E_ARGUMENT", function() return record.get("title") end)
  end)

  it("is new, local and not persisted", function()
    local record = Post:new { title = "x" }
    assert.is_true(record.is_new)
    assert.is_true(record.is_local)
    assert.is_false(record.is_persisted)
    assert.is_false(record.is_deleted)
    assert.is_true(record.isNew)
    assert.is_false(record.isPersisted)
    assert.equal(Post, record.model)
  end)
end)

describe("a relation's models", function()
  it("are resolved on first use, so they may be defined later", function()
    local Early = lumo.model("DefinitionEarly", {
      columns = { name = "string" },
      relations = { lates = lumo.belongs_to_many("DefinitionLate", nil, "early_id", "late_id") },
    })
    lumo.model("DefinitionLate", { columns = { name = "string" } })
    assert.has_no.errors(function() return Early:new({ _id = lumo.objectid() }):related("lates") end)
  end)

  it("must be known when they are used", function()
    local Lonely = lumo.model("DefinitionLonely", {
      columns = { name = "string" },
      relations = { others = lumo.many_to_many("DefinitionNobody") },
    })
    expect_error("E_UNDEFINED_MODEL", function()
      return Lonely:new({ _id = lumo.objectid() }):related("others"):query()
    end)
  end)

  it("are refused as anything but a name, a model or a function", function()
    expect_error("E_ARGUMENT", function() return lumo.many_to_many(5) end)
    expect_error("E_ARGUMENT", function() return lumo.many_to_many(nil) end)
    expect_error("E_ARGUMENT", function()
      return lumo.many_to_many("DefinitionTag", { pivot_tabel = "x" })
    end)
  end)

  it("answer to the relation's name only", function()
    local Model = lumo.model("DefinitionUnrelated", { columns = { name = "string" } })
    local err = expect_error("E_UNDEFINED_RELATIONSHIP", function() return Model:new({}):related("nope") end)
    contains(err, '"nope" is not defined as a relationship on "DefinitionUnrelated" model')
  end)
end)
