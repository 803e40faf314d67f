-- Wrong input of a relation's methods: an error with a code, and the database exactly as it was before.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("bad_input")
teardown(helper.drop)

local expect_error, expect_refused = helper.expect_error, helper.expect_refused

local function over(options)
  options.pivot_foreign_key, options.pivot_related_foreign_key = "post_id", "tag_id"
  return lumo.many_to_many(options.related or "BadTag", options)
end

local KINDS = { "plain", "typed", "bag", "stepwise", "turns", "hooked" }

local function relations()
  local function with(options)
    options.related = nil
    return over(options)
  end
  return {
    plain = with { pivot_table = "plain" },
    typed = with { pivot_table = "typed", pivot_model = "BadTyped" },
    bag = with { pivot_table = "bag", duplicates = true },
    stepwise = with { pivot_table = "stepwise", atomic = false },
    turns = with { pivot_table = "turns", serial = "version" },
    hooked = with { pivot_table = "hooked", pivot_model = "BadHooked" },
    checked = with { pivot_table = "checked", check_related = true },
    declared = with { pivot_table = "declared", pivot_model = "BadDeclared" },
    learnt = with { pivot_table = "learnt" },
    coded = with { pivot_table = "coded", local_key = "code", related_key = "code" },
  }
end

local Post = lumo.model("BadPost", {
  collection = "posts", columns = { code = "string", version = "integer" }, relations = relations(),
})
local Tag = lumo.model("BadTag", { collection = "tags", columns = { code = "string", name = "string" } })
local Number = lumo.model("BadNumber", { collection = "numbers", columns = { id = { "integer", primary = true } } })
Post:many_to_many("numbers", "BadNumber", {
  pivot_table = "post_numbers", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
})
local typed = { post_id = "objectid", tag_id = "objectid", level = { "integer", min = 0 }, slot = "integer" }
lumo.model("BadTyped", { collection = "typed", strict = true, columns = typed })
lumo.model("BadHooked", { collection = "hooked", strict = true, columns = typed }):before("save", function() end)
local Declared = lumo.model("BadDeclared", {
  collection = "declared", columns = typed,
  indexes = { { "post_id", "tag_id", unique = true }, { "tag_id", unique = true } },
})
Declared:ensure_indexes()

helper.create_index("tags", { { "code", 1 } }, { unique = true, sparse = true })
helper.create_index("learnt", { { "tag_id", 1 } }, { unique = true })

local COLLECTIONS = {
  "posts", "tags", "numbers", "plain", "typed", "bag", "stepwise", "turns", "hooked", "checked", "declared", "learnt",
  "coded", "post_numbers",
}
for _, name in ipairs(COLLECTIONS) do helper.create_index(name, { { "x", 1 } }) end

local function stored(collections)
  local all = {}
  for _, name in ipairs(collections or COLLECTIONS) do all[name] = helper.docs(name) end
  return all
end

local post, other, a, b, c
local absent = lumo.objectid()

before_each(function()
  helper.clear((table.unpack or unpack)(COLLECTIONS))
  post, other = Post:create { version = 0 }, Post:create {}
  a, b, c = Tag:create { name = "a" }, Tag:create { name = "b" }, Tag:create { name = "c" }
  for _, kind in ipairs(KINDS) do post[kind]:attach { a, b } end
end)

--- The call fails with a code and changes nothing.
local function refused(codes, call, collections)
  local before = stored(collections)
  local err = expect_error(codes, call)
  assert.same(before, stored(collections))
  assert.not_equal("applied", err.outcome)
  return err
end

-- What is wrong, the code, and the arguments of the methods that can be wrong in this way.
local CASES = {
  { "a number for an id", "E_CAST", function() return 5 end },
  { "text that is no id", "E_CAST", function() return "nonsense" end },
  { "a list with a wrong id at its end", "E_CAST", function() return { c._id, "nonsense" } end },
  { "a boolean", "E_CAST", function() return { true } end },
  { "an operator", { "E_ARGUMENT", "E_CAST" }, function() return { { ["$ne"] = 1 } } end },
  { "a function", { "E_CAST", "E_ARGUMENT" }, function() return function() end end },
  { "nil", "E_ARGUMENT", function() return nil end },
  { "null", "E_ARGUMENT", function() return lumo.null end },
  { "a list with null", "E_ARGUMENT", function() return { c._id, lumo.null } end },
  { "a list with a hole", "E_ARGUMENT", function() return { c._id, nil, a._id } end },
  { "a record that is not stored", "E_ARGUMENT", function() return { c, Tag:new {} } end },
  { "a record of another model", "E_ARGUMENT", function() return { c, post } end },
  { "a model", { "E_ARGUMENT", "E_CAST" }, function() return Tag end },
  { "lists inside a list", { "E_ARGUMENT", "E_CAST" }, function() return { { a._id }, { b._id } } end },
}

local MAPS = {
  { "a map mixed with a list", "E_ARGUMENT", function() return { a._id, [b._id] = { level = 1 } } end },
  { "a map whose values are no tables", "E_ARGUMENT", function() return { [a._id] = 1 } end },
  { "one id twice, with different attributes", "E_ARGUMENT", function()
    return { [a._id] = { level = 1 }, [tostring(a._id)] = { level = 2 } }
  end },
  { "attributes that name the parent's key", "E_ARGUMENT", function()
    return { [c._id] = { level = 1 }, [a._id] = { post_id = other._id } }
  end },
  { "attributes that name the related key", "E_ARGUMENT", function() return { [a._id] = { tag_id = c._id } } end },
  { "attributes that name _id", "E_ARGUMENT", function() return { [a._id] = { _id = absent } } end },
  { "keys that are no ids", "E_CAST", function() return { nonsense = { level = 1 } } end },
  { "an attribute's name that MongoDB would read as an operator", "E_CAST", function()
    return { [c._id] = { level = 1 }, [a._id] = { ["$inc"] = 1 } }
  end, kinds = { "plain", "bag", "stepwise", "turns" } },
  { "a column that the pivot model does not have", "E_UNDEFINED_COLUMN", function()
    return { [c._id] = { level = 1 }, [a._id] = { lvel = 1 } }
  end, kinds = { "typed", "hooked" } },
  { "a value that its column does not take", "E_CAST", function()
    return { [c._id] = { level = 1 }, [a._id] = { level = "high" } }
  end, kinds = { "typed", "hooked" } },
  { "a value that breaks a rule", "E_VALIDATION", function()
    return { [c._id] = { level = 1 }, [a._id] = { level = -1 } }
  end, kinds = { "typed", "hooked" } },
}

local LISTS = {
  { "no list", "E_ARGUMENT", function() return 5 end },
  { "a list of ids", "E_ARGUMENT", function() return { a._id } end },
  { "nil", "E_ARGUMENT", function() return nil end },
  { "an entry without an id", "E_ARGUMENT", function() return { { id = c }, { pivot_data = {} } } end },
  { "an entry with another name", "E_ARGUMENT", function() return { { id = c, data = {} } } end },
  { "one id twice, with different attributes", "E_ARGUMENT", function()
    return { { id = c, pivot_data = { level = 1 } }, { id = c._id, pivot_data = { level = 2 } } }
  end },
  { "attributes that name a key", "E_ARGUMENT", function() return { { id = c, pivot_data = { tag_id = a._id } } } end },
  { "attributes that are no table", "E_ARGUMENT", function() return { { id = c, pivot_data = 5 } } end },
}

local function each_kind(cases, methods)
  for _, case in ipairs(cases) do
    it(case[1], function()
      for _, kind in ipairs(case.kinds or KINDS) do
        for _, method in ipairs(methods) do
          refused(case[2], function() post[kind][method](post[kind], case[3]()) end, { kind, "posts" })
        end
      end
    end)
  end
end

describe("ids:", function() each_kind(CASES, { "attach", "sync", "toggle", "detach" }) end)
describe("maps:", function() each_kind(MAPS, { "attach", "sync" }) end)
describe("lists:", function() each_kind(LISTS, { "attach_with_pivot_data", "sync_with_pivot_data" }) end)

describe("one id:", function()
  for _, method in ipairs { "exists", "pivot_data" } do
    for _, case in ipairs { CASES[1], CASES[2], CASES[7], CASES[8], CASES[14] } do
      it(("%s: %s"):format(method, case[1]), function()
        expect_refused(case[2], function() post.plain[method](post.plain, case[3]()) end)
      end)
    end
  end

  it("update_pivot_data", function()
    for _, kind in ipairs(KINDS) do
      local relation = post[kind]
      refused("E_CAST", function() relation:update_pivot_data("nonsense", { level = 1 }) end)
      refused("E_ARGUMENT", function() relation:update_pivot_data(nil, { level = 1 }) end)
      refused("E_ARGUMENT", function() relation:update_pivot_data(a, { post_id = other._id }) end)
      refused("E_ARGUMENT", function() relation:update_pivot_data(a, {}) end)
      refused("E_ARGUMENT", function() relation:update_pivot_data(a) end)
      refused("E_ARGUMENT", function() relation:update_pivot_data(a, 5) end)
    end
    refused("E_CAST", function() post.typed:update_pivot_data(a, { level = {} }) end)
    refused("E_UNDEFINED_COLUMN", function() post.hooked:update_pivot_data(a, { lvel = 1 }) end)
    refused("E_VALIDATION", function() post.typed:update_pivot_data(a, { level = -1 }) end)
  end)
end)

describe("a parent", function()
  it("that is not stored has no pairs to write or read", function()
    local new = Post:new {}
    for _, method in ipairs { "attach", "sync", "toggle", "detach", "exists", "pivot_data" } do
      local err = expect_refused("E_MISSING_ATTRIBUTE_VALUE", function() new.plain[method](new.plain, a) end)
      assert.truthy(tostring(err):find(('Cannot %s "plain", value of "BadPost._id" is nil'):format(method), 1, true))
    end
    for _, method in ipairs { "ids", "count", "exec", "query", "pivot_query" } do
      expect_refused("E_MISSING_ATTRIBUTE_VALUE", function() new.plain[method](new.plain) end)
    end
  end)

  it("whose key has no value has none either, and neither has a related record", function()
    refused("E_MISSING_ATTRIBUTE_VALUE", function() post.coded:attach("x") end)
    refused("E_MISSING_ATTRIBUTE_VALUE", function() post.coded:create { code = "y" } end)
    refused("E_MISSING_ATTRIBUTE_VALUE", function() post.coded:save(Tag:new { code = "y" }) end)
    post.code = "p"
    post:save()
    refused("E_MISSING_ATTRIBUTE_VALUE", function() post.coded:attach(a) end)
    refused("E_MISSING_ATTRIBUTE_VALUE", function() post.coded:create { name = "z" } end)
  end)

  it("that was deleted attaches nothing", function()
    other:delete()
    for _, method in ipairs { "attach", "sync", "toggle" } do
      refused("E_MODEL_DELETED", function() other.plain[method](other.plain, a) end)
    end
  end)
end)

describe("ids of documents that do not exist", function()
  it("are attached, unless check_related says otherwise", function()
    assert.same({ absent }, post.plain:attach(absent).attached)
    post.checked:attach { a }
    for _, method in ipairs { "attach", "sync", "toggle" } do
      refused("E_ARGUMENT", function() post.checked[method](post.checked, { b, absent }) end)
      refused("E_ARGUMENT", function() post.checked[method](post.checked, absent) end)
    end
    refused("E_ARGUMENT", function() post.checked:attach { [absent] = { level = 1 } } end)
    refused("E_ARGUMENT", function() post.checked:sync_with_pivot_data { { id = absent } } end)
  end)
end)

describe("integer keys", function()
  it("take no text and no fraction", function()
    Number:create { id = 1 }
    for _, id in ipairs { "1", 1.5, absent, 2 ^ 70 } do
      refused("E_CAST", function() post.numbers:attach { 1, id } end)
      refused("E_CAST", function() post.numbers:sync(id) end)
    end
  end)
end)

describe("a unique index that is violated half-way", function()
  it("through create_many leaves nothing, of records and of pairs", function()
    Tag:create { code = "taken" }
    for _, kind in ipairs(KINDS) do
      if kind ~= "stepwise" then
        local err = refused("E_DUPLICATE_KEY", function()
          post[kind]:create_many { { code = "new" }, { code = "taken" }, { code = "other" } }
        end)
        assert.same({ "code", "not_applied" }, { err.key, err.outcome })
        refused("E_DUPLICATE_KEY", function()
          post[kind]:save_many { Tag:new { code = "new" }, Tag:new { code = "taken" } }
        end)
      end
    end
    local before = #helper.docs("stepwise")
    expect_error("E_DUPLICATE_KEY", function() post.stepwise:create_many { { code = "new" }, { code = "taken" } } end)
    assert.equal(before, #helper.docs("stepwise"))
  end)

  it("through the pairs of create_many leaves nothing", function()
    other.declared:attach(a)
    Declared:query():everything():update { slot = 1 }
    helper.create_index("declared", { { "slot", 1 } }, { unique = true, sparse = true })
    finally(function()
      helper.command { { "dropIndexes", "declared" }, { "index", "slot" } }
    end)
    refused("E_DUPLICATE_KEY", function()
      post.declared:create_many({ { name = "x" }, { name = "y" } }, { {}, { slot = 1 } })
    end)
  end)

  it("through attach leaves nothing where the pivot model declares the index", function()
    other.declared:attach(b)
    refused("E_DUPLICATE_KEY", function() post.declared:attach { a, b, c } end)
    refused("E_DUPLICATE_KEY", function() post.declared:attach { [a._id] = { level = 1 }, [b._id] = {} } end)
    refused("E_DUPLICATE_KEY", function() post.declared:sync { a, b, c } end)
    refused("E_DUPLICATE_KEY", function() post.declared:attach(b) end)
    assert.equal(2, #post.declared:attach { a, c }.attached)
  end)

  it("through attach leaves nothing where it was seen before; the first time the error says so", function()
    other.learnt:attach(b)
    local err = expect_error("E_DUPLICATE_KEY", function() post.learnt:attach { a, b, c } end)
    assert.equal("applied", err.outcome)
    assert.equal(3, #helper.docs("learnt"))
    post.learnt:detach()
    refused("E_DUPLICATE_KEY", function() post.learnt:attach { a, b, c } end)
    refused("E_DUPLICATE_KEY", function() post.learnt:toggle { a, b, c } end)
  end)
end)
