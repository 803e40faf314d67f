-- Indexes that models declare: made where they are missing, compared with those that are there, never dropped unasked.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("indexes")
helper.forget_models()

local columns = {
  slug = { "string", column = "post_slug" }, a = "integer", b = "integer", meta = "object", place = "object",
  title = "string", body = "string", state = "string", seen_at = "date",
}

local number = 0

--- A model of its own, on a collection of its own.
local function model(indexes, more)
  number = number + 1
  local definition = { collection = "indexed_" .. number, columns = columns, indexes = indexes }
  for key, value in pairs(more or {}) do definition[key] = value end
  return lumo.model("Indexed" .. number, definition), definition.collection
end

local function created(collection)
  local list = {}
  for _, index in ipairs(helper.command { { "listIndexes", collection } }.cursor.firstBatch) do
    list[index.name] = index
  end
  return list
end

--- The plan's entries of one collection, by name.
local function of(list, collection)
  local found = {}
  for _, one in ipairs(list) do
    if one.collection == collection then found[one.name] = one end
  end
  return found
end

local function refused(code, fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  assert.equal(code, err.code)
  return err
end

describe("a model's indexes", function()
  teardown(helper.drop)

  it("are made under stored names, in order, with their options", function()
    local Model, collection = model {
      "a",
      { "slug", unique = true, sparse = true },
      { { "a", "desc" }, "b", "meta.x" },
      { "seen_at", expire_after_seconds = 3600 },
      { { "title", "text" }, { "body", "text" }, weights = { title = 5 }, name = "words" },
      { { "place", "2dsphere" } },
      { "state", partial = function(q) q:where("a", ">", 1) end, name = "some" },
      { "b", collation = { locale = "en", strength = 2 }, name = "folded" },
      { { "title", "hashed" } },
      { "title", hidden = true },
    }
    assert.same({
      "a_1", "post_slug_1", "a_-1_b_1_meta.x_1", "seen_at_1", "words", "place_2dsphere", "some", "folded",
      "title_hashed", "title_1",
    }, Model:ensure_indexes())
    local there = created(collection)
    assert.is_true(there.post_slug_1.unique)
    assert.is_true(there.post_slug_1.sparse)
    assert.equal(3600, there.seen_at_1.expireAfterSeconds)
    assert.same({ title = 5, body = 1 }, there.words.weights)
    assert.same({ a = { ["$gt"] = 1 } }, there.some.partialFilterExpression)
    assert.equal(2, there.folded.collation.strength)
    assert.is_true(there.title_1.hidden)
    assert.same({ a = -1, b = 1, ["meta.x"] = 1 }, there["a_-1_b_1_meta.x_1"].key)
    -- The second time nothing is missing, extra or different.
    assert.same({}, Model:ensureIndexes())
    local plan = lumo.index_plan()
    for _, list in ipairs { plan.missing, plan.differs, plan.extra, plan.duplicates } do
      assert.same({}, of(list, collection))
    end
    assert.equal("post_slug_1", Model:indexes()[2].name)
  end)

  it("are inherited", function()
    local Base = model { "a" }
    local Child, collection = model({ "b" }, { extends = Base })
    assert.same({ "a_1", "b_1" }, Child:ensure_indexes())
    assert.is_not_nil(created(collection).a_1)
  end)

  it("are refused when they are declared wrongly", function()
    refused("E_UNDEFINED_COLUMN", function() model { "nope" } end)
    refused("E_ARGUMENT", function() model { { "a", uniqe = true } } end)
    refused("E_ARGUMENT", function() model { { "a", unique = "yes" } } end)
    refused("E_ARGUMENT", function() model { {} } end)
    refused("E_ARGUMENT", function() model { { { "a", "down" } } } end)
    refused("E_ARGUMENT", function() model { { "a", expire_after_seconds = -1 } } end)
    refused("E_ARGUMENT", function() model { { "a", partial = {} } } end)
    refused("E_ARGUMENT", function() model { 5 } end)
    refused("E_ARGUMENT", function() model("a") end)
    for _, wrong in ipairs {
      { "a", nil, "b" }, { nil, "b" }, { "a", "a" }, { "a", name = "" }, { "a", name = "_id_" },
      { "a", "b", expire_after_seconds = 1 }, { "a", sparse = true, partial = { b = 1 } },
      { { "a", "hashed" }, unique = true }, { "a", weights = { a = 2 } },
    } do
      assert.matches("index 1 of", refused("E_ARGUMENT", function() model { wrong } end).message)
    end
  end)

  it("are made side by side where a server can have both, else refused and none of them dropped silently", function()
    local Model, collection = model {
      { "a" }, { "a", unique = true, name = "only" }, { "a", sparse = true, name = "thin" },
      { "a", unique = true, partial = { b = { ["$gt"] = 1 } }, name = "some" },
    }
    assert.same({ "only", "thin", "some" }, Model:ensure_indexes()) -- the unique one serves for the plain one
    assert.is_true(created(collection).only.unique)
    assert.same({}, Model:ensure_indexes())
    for words, wrong in pairs {
      ["another name"] = { { "a", name = "same" }, { "b", name = "same" } },
      ["another name."] = { { "a", sparse = true }, "a" },
      weights = { { { "a", "text" } }, { { "b", "text" } } },
      hidden = { { "a", hidden = true }, { "a", name = "other" } },
    } do
      assert.matches((words:gsub("%.", "")), refused("E_ARGUMENT", function() model(wrong) end).message)
    end
    model({ { "a", name = "same" } }, { collection = "indexed_shared" })
    local Other = model({ { "b", name = "same" } }, { collection = "indexed_shared" })
    refused("E_ARGUMENT", function() lumo.ensure_indexes() end)
    helper.forget_models()
    assert.same({ "same" }, Other:ensure_indexes())
  end)

  it("raise where one that differs is in the way, and change nothing", function()
    local Model, collection = model { { "a", unique = true }, "b" }
    helper.command { { "createIndexes", collection }, { "indexes", { { key = { a = 1 }, name = "a_1" } } } }
    local err = refused("E_ARGUMENT", function() Model:ensure_indexes() end)
    assert.matches("index_plan", err.message)
    assert.is_nil(created(collection).b_1)
  end)

  it("raise E_DUPLICATE_KEY where documents are in the way", function()
    local Model, collection = model { { "a", unique = true } }
    helper.insert(collection, { { a = 1 }, { a = 1 } })
    refused("E_DUPLICATE_KEY", function() Model:ensure_indexes() end)
  end)
end)

describe("lumo.index_plan", function()
  it("tells what is missing, extra, different, and which values are there twice; it changes nothing", function()
    local _, collection = model { "a", { "b", unique = true }, { "seen_at", expire_after_seconds = 10 } }
    helper.insert(collection, { { b = 1 }, { b = 1 }, { b = 1 }, { b = 2 }, { b = 3 }, { b = 3 } })
    helper.command { { "createIndexes", collection }, { "indexes", {
      { key = { old = 1 }, name = "old_1" }, { key = { seen_at = 1 }, name = "seen_at_1" },
    } } }
    local plan = lumo.index_plan()
    assert.is_false(plan.is_empty)
    assert.is_not_nil(of(plan.missing, collection).a_1)
    assert.is_not_nil(of(plan.missing, collection).b_1)
    assert.is_not_nil(of(plan.extra, collection).old_1)
    assert.is_not_nil(of(plan.differs, collection).seen_at_1.differences.expire_after_seconds)
    local double = of(plan.duplicates, collection).b_1
    assert.equal(2, double.count)
    assert.same({ _id = { k1 = 1 }, n = 3 }, double.examples[1])
    local text = tostring(plan)
    assert.matches("missing +" .. collection .. "%.a_1", text)
    assert.matches("extra +" .. collection .. "%.old_1", text)
    assert.matches("duplicate +" .. collection .. "%.b_1", text)
    assert.is_nil(created(collection).a_1)
    -- Duplicates refuse the whole.
    local err = refused("E_DUPLICATE_KEY", function() lumo.index_plan { apply = true } end)
    assert.matches(collection .. ".b_1", err.message, 1, true)
    assert.is_nil(created(collection).a_1)
    helper.command { { "drop", collection } }
  end)

  it("finds the values that break a unique index as the server does", function()
    local _, collection = model({
      { "a", unique = true }, { "tags", unique = true }, { "parts.n", unique = true },
      { "b", unique = true, collation = { locale = "en", strength = 2 } },
    }, { columns = {
      a = "string", b = "string", tags = { "array", of = "string" },
      parts = { "array", of = { "object", columns = { n = "integer" } } },
    } })
    helper.insert(collection, {
      { a = lumo.null, tags = { "x", "x", "y" }, b = "A", parts = { { n = 1 }, { n = 1 } } },
      { tags = { "y", "z" }, b = "a", parts = { { n = 2 } } },
      { a = "1", tags = lumo.array {}, b = "b", parts = { { n = 3 }, { n = 2 } } },
      { a = "2", b = "c" },
    })
    local found = of(lumo.index_plan().duplicates, collection)
    assert.same({ _id = { k1 = lumo.null }, n = 2 }, found.a_1.examples[1])
    assert.same({ _id = { k1 = "y" }, n = 2 }, found.tags_1.examples[1])
    assert.same({ _id = { k1 = 2 }, n = 2 }, found["parts.n_1"].examples[1])
    assert.equal("a", found.b_1.examples[1]._id.k1:lower())
    for _, one in pairs(found) do assert.equal(1, one.count) end
    helper.command { { "drop", collection } }
  end)

  it("never drops an index for a unique one that documents are in the way of", function()
    local Model, collection = model { { "a", unique = true } }
    helper.command { { "createIndexes", collection }, { "indexes", { { key = { a = 1 }, name = "a_1" } } } }
    helper.insert(collection, { { a = 1 } })
    lumo.index_plan { apply = true, drop = true }
    helper.insert(collection, { { a = 1 } })
    assert.equal(1, of(lumo.index_plan().duplicates, collection).a_1.count)
    refused("E_DUPLICATE_KEY", function() lumo.index_plan { apply = true, drop = true } end)
    assert.is_true(created(collection).a_1.hidden)
    lumo.index_plan { apply = true } -- leaves it as it is
    Model:first():delete()
    lumo.index_plan { apply = true, drop = true }
    assert.is_true(created(collection).a_1.unique)
  end)

  it("applied creates and changes in place; with drop it hides first and drops the next time", function()
    local _, collection = model { "a", { "b", unique = true }, { "seen_at", expire_after_seconds = 10 } }
    helper.command { { "createIndexes", collection }, { "indexes", {
      { key = { old = 1 }, name = "old_1" }, { key = { b = 1 }, name = "b_1" },
      { key = { seen_at = 1 }, name = "seen_at_1", expireAfterSeconds = 99 },
    } } }
    local plan = lumo.index_plan { apply = true }
    local there = created(collection)
    assert.is_not_nil(there.a_1)
    assert.equal(10, there.seen_at_1.expireAfterSeconds)
    assert.is_nil(there.b_1.unique)
    assert.is_not_nil(there.old_1)
    assert.matches("created +" .. collection .. "%.a_1", tostring(plan))
    lumo.index_plan { apply = true, drop = true }
    there = created(collection)
    assert.is_true(there.old_1.hidden)
    assert.is_true(there.b_1.hidden)
    lumo.indexPlan { apply = true, drop = true }
    there = created(collection)
    assert.is_nil(there.old_1)
    assert.is_true(there.b_1.unique)
    assert.is_nil(there.b_1.hidden)
  end)

  it("takes no other options", function()
    refused("E_ARGUMENT", function() lumo.index_plan { aply = true } end)
    refused("E_ARGUMENT", function() lumo.index_plan { drop = true } end)
    refused("E_ARGUMENT", function() lumo.index_plan { apply = 1 } end)
    refused("E_ARGUMENT", function() lumo.index_plan(5) end)
  end)

  it("knows the two indexes of a pivot from both sides", function()
    local _, posts = model(nil, { relations = {
      others = lumo.many_to_many("PlanOther", {
        pivot_table = "plan_pivot", pivot_foreign_key = "post_id", pivot_related_foreign_key = "other_id",
      }),
    } })
    local Post = lumo.model("Indexed" .. number)
    local Other = lumo.model("PlanOther", { columns = {}, relations = {
      posts = lumo.many_to_many("Indexed" .. number, {
        pivot_table = "plan_pivot", pivot_foreign_key = "other_id", pivot_related_foreign_key = "post_id",
      }),
    } })
    assert.is_string(posts)
    assert.same({ "other_id_1_post_id_1", "post_id_1_other_id_1" }, (function()
      local names = Other:ensure_indexes()
      table.sort(names)
      return names
    end)())
    assert.is_true(created("plan_pivot").other_id_1_post_id_1.unique)
    assert.same({}, Post:ensure_indexes())
    assert.same({}, of(lumo.index_plan().differs, "plan_pivot"))
    assert.same({}, of(lumo.index_plan().extra, "plan_pivot"))
  end)
end)
