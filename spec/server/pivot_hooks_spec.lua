-- Hooks of a pivot model: they fire for each pair that a relation writes, before-hooks may change it, after-hooks come
-- before the commit, and everything else is as it is without them.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("pivot_hooks")
teardown(helper.drop)

local expect_error, expect_refused, expect_at_most = helper.expect_error, helper.expect_refused, helper.expect_at_most
local sorted, texts = helper.sorted, helper.texts

local told, acts, seen

local function over(options)
  options.pivot_table = options.pivot_table or "grants"
  options.pivot_foreign_key, options.pivot_related_foreign_key = "user_id", "right_id"
  options.pivot_model = options.pivot_model or "HookedGrant"
  return lumo.many_to_many("HookedRight", options)
end

local function define_pivot(name, collection)
  local Pivot = lumo.model(name, {
    collection = collection,
    columns = {
      user_id = "any", right_id = "any", level = { "integer", default = 1, min = 0 }, note = "string",
      granted_at = { "date", auto_create = true }, changed_at = { "date", auto_update = true },
    },
  })
  for _, when in ipairs { "before", "after" } do
    for _, event in ipairs { "create", "update", "save", "delete" } do
      Pivot[when](Pivot, event, function(row)
        told[#told + 1] = when .. " " .. event
        seen[#seen + 1] = row
        if acts[when .. " " .. event] then acts[when .. " " .. event](row) end
      end)
    end
  end
  return Pivot
end

local Grant = define_pivot("HookedGrant", "grants")
define_pivot("HookedBag", "bag")
define_pivot("HookedStamped", "stamped")

local User = lumo.model("HookedUser", {
  collection = "users", columns = { name = "string" },
  relations = {
    rights = over {},
    high = over { on_query = function(q) q:where_pivot("note", "high") end },
    bag = over { pivot_table = "bag", pivot_model = "HookedBag", duplicates = true },
    stamped = over { pivot_table = "stamped", pivot_model = "HookedStamped", pivot_timestamps = true },
    stepwise = over { atomic = false },
    owned = over { on_delete = "detach" },
  },
})

local Right = lumo.model("HookedRight", { collection = "rights", columns = { name = "string" } })

for _, name in ipairs { "grants", "bag", "stamped" } do helper.create_index(name, { { "x", 1 } }) end

local user, a, b, c

local function forget() told, acts, seen = {}, {}, {} end

before_each(function()
  forget()
  helper.clear("users", "rights", "grants", "bag", "stamped")
  user = User:create { name = "u" }
  local rights = Right:create_many { { name = "a" }, { name = "b" }, { name = "c" } }
  a, b, c = rights[1], rights[2], rights[3]
end)

local function row_of(right, collection)
  return helper.doc(collection or "grants", { user_id = user._id, right_id = right._id })
end

local CREATED = { "before create", "before save", "after create", "after save" }
local UPDATED = { "before update", "before save", "after update", "after save" }

describe("attach", function()
  it("creates the pairs that are missing, each with its hooks", function()
    acts["before create"] = function(row)
      assert.is_true(row.is_new)
      assert.equal(user._id, row.user_id)
      assert.equal(1, row.level)
      row.note = "by hook"
    end
    acts["after create"] = function(row)
      assert.is_true(row.is_persisted)
      assert.equal("by hook", row.note)
      row.memory = nil
    end
    assert.same(texts { a._id }, texts(user.rights:attach(a).attached))
    assert.same(CREATED, told)
    local row = row_of(a)
    assert.same({ "by hook", 1 }, { row.note, row.level })
    assert.truthy(row.granted_at)
    assert.same({ seen[1]._id, seen[1] }, { row._id, seen[4] })
  end)

  it("uses the derived ids, so that plain writers meet it", function()
    user.rights:attach { a, b }
    helper.delete("grants", { right_id = b._id })
    local before = row_of(a)._id
    user.rights:detach()
    -- The same relation without hooks derives the same id.
    local Plain = lumo.model("HookedPlain", {
      collection = "users", columns = {},
      relations = { rights = lumo.many_to_many("HookedRight", {
        pivot_table = "grants", pivot_foreign_key = "user_id", pivot_related_foreign_key = "right_id" }) },
    })
    Plain:find(user._id).rights:attach(a)
    assert.equal(before, row_of(a)._id)
  end)

  it("updates rows that differ, and leaves the others without a hook", function()
    user.rights:attach { a, b }
    local before = row_of(b)
    forget()
    local result = user.rights:attach { [a._id] = { level = 5 }, [b._id] = { level = 1 } }
    assert.same({ texts { a._id }, texts { b._id } }, { texts(result.updated), texts(result.unchanged) })
    assert.same(UPDATED, told)
    assert.equal(5, row_of(a).level)
    assert.same(before, row_of(b))
    forget()
    user.rights:attach { a, b }
    assert.same({}, told)
  end)

  it("sends one command more than without hooks, and a commit", function()
    expect_at_most(3, 1, function() user.rights:attach { a, b, c } end)
    expect_at_most(2, 1, function()
      user.rights:attach { [a._id] = { level = 2 }, [b._id] = { level = 3 }, [c._id] = { level = 4 } }
    end)
  end)

  it("is undone when a hook raises", function()
    for _, line in ipairs { "before create", "after save" } do
      forget()
      acts[line] = function(row) if row.right_id == b._id then error("no", 0) end end
      local ok, err = pcall(function() user.rights:attach { a, b } end)
      assert.same({ false, "no" }, { ok, err })
      assert.equal(0, #helper.docs("grants"))
    end
  end)

  it("lets no hook change whose row it is", function()
    acts["before save"] = function(row) row.right_id = c._id end
    expect_error("E_ARGUMENT", function() user.rights:attach(a) end)
    assert.equal(0, #helper.docs("grants"))
    forget()
    user.rights:attach(a)
    acts["before update"] = function(row) row.user_id = c._id end
    expect_error("E_ARGUMENT", function() user.rights:attach { [a._id] = { level = 2 } } end)
    assert.equal(1, row_of(a).level)
  end)

  it("keeps the rules of the model, also for what a hook makes of it", function()
    acts["before save"] = function(row) row.level = -1 end
    expect_error("E_VALIDATION", function() user.rights:attach(a) end)
    assert.equal(0, #helper.docs("grants"))
  end)

  it("meets a row of another pair that has its id", function()
    user.rights:attach(a)
    helper.update("grants", {}, { ["$set"] = { user_id = "another" } })
    forget()
    assert.same(texts { a._id }, texts(user.rights:attach(a).attached))
    assert.equal(2, #helper.docs("grants"))
    user.rights:detach(a)
    assert.same(texts { a._id }, texts(user.stepwise:attach(a).attached))
    assert.equal(1, user.rights:count())
  end)
end)

describe("sync", function()
  it("creates, updates and deletes, each with its hooks", function()
    user.rights:attach { a, b }
    forget()
    local result = user.rights:sync { [b._id] = { level = 7 }, [c._id] = { note = "n" } }
    assert.same({ texts { c._id }, texts { b._id }, texts { a._id } },
      { texts(result.attached), texts(result.updated), texts(result.detached) })
    assert.same({
      "before create", "before save", "before update", "before save", "before delete",
      "after create", "after save", "after update", "after save", "after delete",
    }, told)
    assert.is_true(seen[5].is_deleted)
    assert.same(sorted { b._id, c._id }, sorted(user.rights:ids()))
    assert.same({ 7, "n", 1 }, { row_of(b).level, row_of(c).note, row_of(c).level })
    forget()
    result = user.rights:sync {}
    assert.equal(2, #result.detached)
    assert.equal(4, #told)
    assert.equal(0, user.rights:count())
  end)

  it("without detaching keeps the rest", function()
    user.rights:attach { a, b }
    local result = user.rights:sync({ c }, false)
    assert.same({ 1, 0 }, { #result.attached, #result.detached })
    assert.equal(3, user.rights:count())
  end)

  it("of many sends as few commands as for one", function()
    local ids = {}
    for i = 1, 30 do ids[i] = lumo.objectid() end
    user.rights:attach { a, b }
    expect_at_most(3, 1, function() user.rights:sync(ids) end)
    assert.equal(30, user.rights:count())
  end)

  it("under a condition sees its rows only", function()
    user.rights:attach { [a._id] = { note = "low" }, [b._id] = { note = "high" } }
    forget()
    local result = user.high:sync { c }
    assert.same(texts { b._id }, texts(result.detached))
    assert.same({ "high", "low" }, { row_of(c).note, row_of(a).note })
    result = user.high:attach(a)
    assert.same(texts { a._id }, texts(result.updated))
    assert.equal("high", row_of(a).note)
    helper.update("grants", { right_id = a._id }, { ["$set"] = { note = "low" } })
    result = user.high:toggle { a, b, c }
    assert.same({ texts { b._id }, texts { a._id }, texts { c._id } },
      { texts(result.attached), texts(result.updated), texts(result.detached) })
  end)
end)

describe("toggle and detach", function()
  it("delete with hooks", function()
    user.rights:attach { a, b }
    forget()
    local result = user.rights:toggle { a, c }
    assert.same({ texts { c._id }, texts { a._id } }, { texts(result.attached), texts(result.detached) })
    assert.same({ "before create", "before save", "before delete", "after create", "after save", "after delete" }, told)
    forget()
    expect_at_most(2, 1, function() assert.equal(1, user.rights:detach { a, b }) end)
    assert.same({ "before delete", "after delete" }, told)
    assert.equal(1, user.rights:detach())
    forget()
    assert.equal(0, user.rights:detach())
    assert.equal(0, user.rights:detach {})
    assert.equal(0, user.rights:detach(a))
    assert.same({}, told)
  end)

  it("are undone when a hook raises", function()
    user.rights:attach { a, b }
    acts["after delete"] = function() error("no", 0) end
    assert.is_false((pcall(function() user.rights:detach() end)))
    assert.equal(2, user.rights:count())
  end)

  it("fire when the owner is deleted, in its transaction", function()
    user.owned:attach { a, b }
    forget()
    acts["after delete"] = function() error("no", 0) end
    assert.is_false((pcall(function() user:delete() end)))
    assert.equal(2, #helper.docs("grants"))
    assert.equal(1, User:count())
    assert.is_false(user.is_deleted)
    forget()
    user:delete()
    assert.same({ "before delete", "before delete", "after delete", "after delete" }, told)
    assert.equal(0, #helper.docs("grants"))
  end)
end)

describe("update_pivot_data", function()
  it("saves the row with hooks when it changes", function()
    user.rights:attach(a)
    forget()
    assert.is_true(user.rights:update_pivot_data(a, { level = 3 }))
    assert.same(UPDATED, told)
    assert.equal(3, row_of(a).level)
    forget()
    assert.is_true(user.rights:update_pivot_data(a, { level = 3 }))
    assert.is_false(user.rights:update_pivot_data(b, { level = 3 }))
    assert.same({}, told)
  end)
end)

describe("create and save", function()
  it("fire the pivot's hooks when the record is there", function()
    acts["before create"] = function(row)
      assert.equal(1, Right:query():where("_id", row.right_id):count())
      row.level = 9
    end
    local made = user.rights:create({ name = "new" }, { note = "n" })
    assert.same(CREATED, told)
    assert.same({ 9, "n", user._id }, { made.extras.pivot_level, made.pivot.note, made.extras.pivot_user_id })
    assert.equal(seen[1], made.pivot)
    forget()
    user.rights:save_many({ a, Right:new { name = "x" } }, { { level = 2 } })
    assert.equal(8, #told)
    assert.equal(2, a.extras.pivot_level)
    assert.equal(3, user.rights:count())
    assert.equal(3, #user.rights:create_many { { name = "p" }, { name = "q" }, { name = "r" } })
    assert.equal(6, user.rights:count())
  end)

  it("are undone altogether when one raises", function()
    acts["after save"] = function() error("no", 0) end
    assert.is_false((pcall(function() user.rights:create { name = "new" } end)))
    assert.equal(3, Right:count())
    assert.equal(0, #helper.docs("grants"))
  end)
end)

describe("the quiet calls", function()
  it("run no hooks of the pivot or of the related model, and keep rules, defaults and dates", function()
    local Loud = lumo.model("HookedLoud", { extends = Right, collection = "rights" })
    for _, event in ipairs { "create", "update", "save" } do
      Loud:before(event, function() told[#told + 1] = "related " .. event end)
    end
    local Owner = lumo.model("HookedQuiet", { extends = User, collection = "users", relations = {
      loud = lumo.many_to_many("HookedLoud", {
        pivot_table = "grants", pivot_model = "HookedGrant", pivot_foreign_key = "user_id",
        pivot_related_foreign_key = "right_id",
      }),
    } })
    local owner = Owner:find(user._id)
    local made = owner.loud:create_quietly({ name = "x" }, { note = "y" })
    local two = owner.loud:createManyQuietly({ { name = "1" }, { name = "2" } }, { nil, { level = 5 } })
    local saved, stored = Loud:new { name = "new" }, Loud:find(a._id)
    stored.name = "renamed"
    owner.loud:save_quietly(saved, { level = 3 })
    owner.loud:saveManyQuietly { stored, made }
    assert.same({}, told)
    assert.equal("renamed", Right:find(a._id).name)
    local row = row_of(made)
    assert.equal("y", row.note)
    assert.equal(1, row.level)
    assert.is_not_nil(row.granted_at)
    assert.equal(5, row_of(two[2]).level)
    assert.equal(3, saved.extras.pivot_level)
    assert.equal(5, owner.loud:count())
    local before = Right:count()
    helper.expect_error("E_VALIDATION", owner.loud.create_quietly, owner.loud, { name = "z" }, { level = -1 })
    helper.expect_error("E_VALIDATION", owner.loud.save_quietly, owner.loud, Loud:new {}, { level = -1 })
    helper.expect_error("E_ARGUMENT", owner.loud.save_quietly, owner.loud, { name = "no record" })
    assert.equal(before, Right:count())
    owner.loud:create { name = "loud" }
    assert.equal("related create related save before create before save after create after save",
      table.concat(told, " "))
  end)
end)

describe("other kinds of relations", function()
  it("with duplicates add rows, and keep and update every row of an id", function()
    user.bag:attach { a, b }
    user.bag:attach(a)
    assert.equal(3, user.bag:count())
    assert.equal(12, #told)
    forget()
    local result = user.bag:sync { [a._id] = { level = 4 } }
    assert.same({ texts { a._id }, texts { b._id } }, { texts(result.updated), texts(result.detached) })
    assert.equal(2, #helper.docs("bag", { level = 4 }))
    assert.equal(10, #told)
    assert.equal(2, user.bag:detach(a))
  end)

  it("keep the relation's own timestamps", function()
    user.stamped:attach(a)
    local before = row_of(a, "stamped")
    assert.equal(before.created_at, before.updated_at)
    helper.update("stamped", {}, { ["$set"] = { updated_at = lumo.datetime(0) } })
    user.stamped:attach(a)
    assert.equal(0, row_of(a, "stamped").updated_at.ms)
    user.stamped:attach { [a._id] = { level = 2 } }
    assert.is_true(row_of(a, "stamped").updated_at.ms > 0)
    assert.equal(before.created_at, row_of(a, "stamped").created_at)
    user.stamped:update_pivot_data(a, { level = 3, updated_at = lumo.datetime(5) })
    assert.equal(5000, row_of(a, "stamped").updated_at.ms)
  end)

  it("work without a transaction", function()
    user.stepwise:attach { a, b }
    local _, names = helper.commands(function()
      assert.equal(1, #user.stepwise:sync({ b, c }).detached)
    end)
    for _, name in ipairs(names) do assert.not_equal("commitTransaction", name) end
    assert.same(sorted { b._id, c._id }, sorted(user.stepwise:ids()))
  end)

  it("go with a transaction around them", function()
    acts["after create"] = function() Right:create { name = "by hook" } end
    pcall(function()
      lumo.transaction(function()
        user.rights:attach { a, b }
        assert.equal(5, Right:count())
        error("no", 0)
      end)
    end)
    assert.equal(0, #helper.docs("grants"))
    assert.equal(3, Right:count())
  end)

  it("bulk writes and prune have no hooks", function()
    user.rights:attach { a, b }
    forget()
    user.rights:pivot_query():everything():update { level = 2 }
    user.rights:pivot_query():where("right_id", a._id):delete()
    b:delete()
    assert.equal(1, User:get_relation("rights"):prune())
    assert.same({}, told)
  end)

  it("refuse the same things before anything is sent", function()
    for code, call in pairs {
      E_ARGUMENT = function() user.rights:attach(nil) end,
      E_CAST = function() user.rights:attach { [a._id] = { level = "x" } } end,
      E_VALIDATION = function() user.rights:attach { [a._id] = { level = -1 } } end,
    } do
      expect_refused(code, call)
    end
    expect_refused("E_ARGUMENT", function() user.rights:attach { [a._id] = { right_id = b._id } } end)
    expect_refused("E_ARGUMENT", function() user.rights:detach(nil) end)
    assert.same({}, told)
  end)
end)

describe("a pivot model that gets its first hook later", function()
  it("has it from then on", function()
    local Late = lumo.model("HookedLate", { collection = "grants", columns = { user_id = "any", right_id = "any" } })
    local Owner = lumo.model("HookedLateUser", {
      collection = "users", columns = {}, relations = { rights = over { pivot_model = "HookedLate" } },
    })
    local owner = Owner:find(user._id)
    owner.rights:attach(a)
    local count = 0
    Late:after("create", function() count = count + 1 end)
    owner.rights:attach { b, c }
    assert.equal(2, count)
    assert.equal(3, Grant:count())
  end)
end)

describe("columns of a pivot model that are prepared for storing", function()
  it("are prepared once, with hooks as without", function()
    local columns = {
      user_id = "any", right_id = "any",
      note = {
        "string", max = 3,
        prepare = function(value) return "<" .. value .. ">" end, consume = function(value) return value:sub(2, -2) end,
      },
    }
    local Hooked = lumo.model("HookedPrepared", { collection = "grants", columns = columns })
    Hooked:before("save", function() told[#told + 1] = "save" end)
    lumo.model("HookedPreparedPlain", { collection = "grants", columns = columns })
    local Owner = lumo.model("HookedPreparedUser", {
      collection = "users", columns = {},
      relations = {
        hooked = over { pivot_model = "HookedPrepared" }, plain = over { pivot_model = "HookedPreparedPlain" },
      },
    })
    local owner = Owner:find(user._id)
    for _, name in ipairs { "hooked", "plain" } do
      helper.clear("grants")
      owner[name]:attach { [a._id] = { note = "abc" } }
      assert.equal("<abc>", row_of(a).note)
      assert.same({}, owner[name]:attach { [a._id] = { note = "abc" } }.updated)
      owner[name]:update_pivot_data(a, { note = "x" })
      assert.equal("<x>", row_of(a).note)
      local one = owner[name]:create({ name = "n" }, { note = "new" })
      assert.same({ "new", "new" }, { one.extras.pivot_note, one.pivot.note })
      assert.equal("<new>", row_of(one).note)
      assert.same({ "new", "x" }, sorted(owner[name]:pivot_query():pluck("note")))
      expect_refused("E_VALIDATION", function() owner[name]:attach { [b._id] = { note = "abcd" } } end)
    end
    assert.equal(3, #told)
  end)
end)
