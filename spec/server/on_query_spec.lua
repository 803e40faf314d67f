-- Several relations over one pivot, each with its on_query: what of it binds reads and writes of pairs, and what new
-- rows get of it.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("on_query")
teardown(helper.drop)

local expect_error, expect_refused, sorted = helper.expect_error, helper.expect_refused, helper.sorted

local function over(options)
  options.pivot_table = options.pivot_table or "memberships"
  options.pivot_foreign_key, options.pivot_related_foreign_key = "club_id", "person_id"
  return lumo.many_to_many("OnQueryPerson", options)
end

local flags
local Club = lumo.model("OnQueryClub", {
  collection = "clubs",
  columns = { name = "string" },
  relations = {
    members = over { pivot_columns = "*" },
    admins = over { pivot_columns = { "role" }, on_query = function(q) q:where_pivot("role", "admin") end },
    dated = over {
      pivot_timestamps = true, on_query = function(q) q:where("memberships.role", "admin") end,
    },
    present = over {
      pivot_columns = "*",
      on_query = function(q) q:where("active", true):where_null_pivot("left_at"):order_by("name") end,
    },
    seniors = over { on_query = function(q) q:where_pivot("level", ">", 3) end },
    staff = over {
      on_query = function(q)
        q:where_pivot(function(group) group:where_pivot("role", "admin"):or_where_pivot("role", "editor") end)
      end,
    },
    mixed = over {
      on_query = function(q) q:where("active", true):or_where_pivot("role", "admin") end,
    },
    watched = over {
      on_query = function(q)
        flags[#flags + 1] = q.is_pivot_only_query and "pivot" or q.is_related_query and "related" or "other"
        if not q.is_related_sub_query then q:preload("clubs") end
      end,
    },
    bag = over {
      pivot_table = "bag", duplicates = true, pivot_columns = "*",
      on_query = function(q) q:where_pivot("role", "admin") end,
    },
    owned = over {
      pivot_table = "owned", on_delete = "detach", on_query = function(q) q:where_pivot("role", "admin") end,
    },
  },
})

local Person = lumo.model("OnQueryPerson", {
  collection = "people",
  columns = { name = "string", active = { "boolean", default = true } },
  relations = {
    clubs = lumo.many_to_many("OnQueryClub", {
      pivot_table = "memberships", pivot_foreign_key = "person_id", pivot_related_foreign_key = "club_id",
    }),
  },
})

local club, ada, eve, kim, zoe

before_each(function()
  helper.clear("clubs", "people", "memberships", "bag", "owned")
  flags = {}
  club = Club:create { name = "club" }
  ada, eve, kim, zoe = Person:create { name = "ada" }, Person:create { name = "eve" },
    Person:create { name = "kim", active = false }, Person:create { name = "zoe" }
  club.members:attach { [ada] = { role = "admin" }, [eve] = { role = "guest" }, [kim] = { role = "admin" } }
end)

local function role_of(person)
  return helper.doc("memberships", { person_id = person._id }).role
end

local function ids(...)
  local list = {}
  for i, one in ipairs { ... } do list[i] = one._id end
  return sorted(list)
end

describe("conditions of on_query on the pivot", function()
  it("bind everything that reads pairs", function()
    assert.same(ids(ada, kim), sorted(club.admins:ids()))
    assert.equal(2, club.admins:count())
    assert.is_true(club.admins:exists(ada))
    assert.is_false(club.admins:exists(eve))
    assert.equal("admin", club.admins:pivot_data(ada).role)
    assert.is_nil(club.admins:pivot_data(eve))
    assert.equal(2, #club.admins:exec())
    assert.equal(2, #Club:query():preload("admins"):first().admins)
    assert.equal(2, club.admins:pivot_query():count())
    assert.equal(3, club.members:count())
  end)

  it("bind detach, with ids and without", function()
    assert.equal(1, club.admins:detach { ada, eve })
    assert.same(ids(eve, kim), sorted(club.members:ids()))
    assert.equal(1, club.admins:detach())
    assert.same(ids(eve), sorted(club.members:ids()))
  end)

  it("bind update_pivot_data, which may lead out of the relation", function()
    assert.is_false(club.admins:update_pivot_data(eve, { role = "editor" }))
    assert.equal("guest", role_of(eve))
    assert.is_true(club.admins:update_pivot_data(ada, { role = "guest" }))
    assert.is_false(club.admins:exists(ada))
  end)

  it("bind what is written through pivot_query, and an or there does not escape them", function()
    assert.equal(2, club.admins:pivot_query():everything():update { note = "x" })
    assert.is_nil(helper.doc("memberships", { person_id = eve._id }).note)
    assert.equal(1, club.admins:pivot_query():where("person_id", ada._id):or_where("person_id", eve._id):delete())
    assert.same(ids(eve, kim), sorted(club.members:ids()))
  end)

  it("bind sync, which removes no row that they hide", function()
    local result = club.admins:sync { ada, zoe }
    assert.same({ tostring(zoe._id) }, helper.texts(result.attached))
    assert.same({ tostring(kim._id) }, helper.texts(result.detached))
    assert.same({ tostring(ada._id) }, helper.texts(result.unchanged))
    assert.equal("admin", role_of(zoe))
    assert.equal("guest", role_of(eve))
    club.admins:sync {}
    assert.same(ids(eve), sorted(club.members:ids()))
  end)

  it("bind on_delete, and prune", function()
    club.owned:attach { ada, eve }
    helper.update("owned", { person_id = eve._id }, { ["$set"] = { role = "guest" } })
    helper.delete("people", {})
    assert.equal(1, Club:get_relation("owned"):prune())
    assert.equal(1, #helper.docs("owned"))
    helper.insert("owned", { { _id = 1, club_id = club._id, person_id = 1, role = "admin" } })
    club:delete()
    assert.equal("guest", helper.doc("owned", {}).role)
  end)
end)

describe("what on_query compares with one value", function()
  it("is an attribute of new rows, whatever writes them", function()
    club.admins:attach(zoe)
    assert.equal("admin", role_of(zoe))
    club.members:detach()
    club.admins:attach { ada, eve }
    club.admins:toggle(kim)
    club.admins:save(zoe)
    assert.equal("admin", club.admins:create({ name = "new" }).extras.pivot_role)
    assert.same({ "admin", "admin", "admin", "admin", "admin" }, helper.pluck(helper.docs("memberships"), "role"))
    assert.equal(5, club.admins:count())
  end)

  it("is given to a row that stands outside: a pair has one row", function()
    local result = club.admins:attach { ada, eve }
    assert.same({ tostring(eve._id) }, helper.texts(result.updated))
    assert.same({ tostring(ada._id) }, helper.texts(result.unchanged))
    assert.equal("admin", role_of(eve))
    assert.equal(3, #helper.docs("memberships"))
    helper.update("memberships", {}, { ["$set"] = { role = "guest" } })
    assert.same({ tostring(kim._id) }, helper.texts(club.admins:attach(kim).updated))
    assert.same({ tostring(ada._id) }, helper.texts(club.admins:sync { ada }.updated))
    assert.same({ "admin", "guest" }, (function() -- the row of kim, an admin by now, is gone
      local roles = helper.pluck(helper.docs("memberships"), "role")
      table.sort(roles)
      return roles
    end)())
  end)

  it("moves the timestamp of such a row", function()
    local before = helper.now_ms()
    club.dated:attach(eve)
    assert.is_true(helper.doc("memberships", { person_id = eve._id }).updated_at.ms >= before)
  end)

  it("is what toggle takes in, beside those that it detaches", function()
    local result = club.admins:toggle { ada, eve, zoe }
    assert.same({ tostring(ada._id) }, helper.texts(result.detached))
    assert.same({ tostring(eve._id) }, helper.texts(result.updated))
    assert.same({ tostring(zoe._id) }, helper.texts(result.attached))
    assert.same(ids(eve, kim, zoe), sorted(club.admins:ids()))
  end)

  it("cannot be contradicted by what a call gives", function()
    local before = helper.docs("memberships")
    for _, call in ipairs {
      function() club.admins:attach { [eve] = { role = "guest" } } end,
      function() club.admins:sync { [eve] = { role = "guest" } } end,
      function() club.admins:attach_with_pivot_data { { id = eve, pivot_data = { role = "guest" } } } end,
    } do
      local err = expect_refused("E_ARGUMENT", call)
      assert.truthy(tostring(err):find('"role"', 1, true))
    end
    expect_error("E_ARGUMENT", function() club.admins:create({ name = "x" }, { role = "guest" }) end)
    assert.same(before, helper.docs("memberships"))
    assert.equal(4, Person:count())
    club.admins:attach { [eve] = { role = "admin", since = 1 } }
    assert.equal("admin", role_of(eve))
  end)

  it("may be null: a pair that was marked as gone comes back", function()
    helper.update("memberships", { person_id = ada._id }, { ["$set"] = { left_at = 5 } })
    assert.is_false(club.present:exists(ada))
    assert.same({ tostring(ada._id) }, helper.texts(club.present:attach(ada).updated))
    assert.is_true(club.present:exists(ada))
    assert.equal("admin", role_of(ada))
  end)
end)

describe("other conditions of on_query", function()
  it("bind, but are not written: the call gives attributes by which the row belongs to the relation", function()
    club.seniors:attach { [zoe] = { level = 4 } }
    assert.same(ids(zoe), sorted(club.seniors:ids()))
    club.seniors:attach(ada)
    assert.same(ids(zoe), sorted(club.seniors:ids()))
    assert.equal(4, #helper.docs("memberships"))
    local result = club.seniors:toggle { zoe, ada }
    assert.same({ tostring(zoe._id) }, helper.texts(result.detached))
    assert.same({ tostring(ada._id) }, helper.texts(result.unchanged))
  end)

  it("that leave a choice leave it to the call", function()
    assert.equal(2, club.staff:count())
    club.staff:attach { [zoe] = { role = "editor" } }
    assert.same(ids(ada, kim, zoe), sorted(club.staff:ids()))
    assert.equal(3, club.staff:detach())
    assert.same(ids(eve), sorted(club.members:ids()))
  end)

  it("on the related records bind no pairs", function()
    assert.equal(1, #club.present:query():where("name", "ada"):exec())
    assert.equal(3, club.present:count())
    assert.same({ "ada", "eve" }, helper.pluck(club.present:exec(), "name"))
    assert.equal(1, club.present:detach(kim))
  end)

  it("that join both sides by or cannot bind pairs alone", function()
    for _, call in ipairs {
      function() club.mixed:detach() end,
      function() club.mixed:sync {} end,
      function() club.mixed:count() end,
      function() club.mixed:pivot_query() end,
    } do
      expect_refused("E_UNSUPPORTED", call)
    end
    assert.equal(3, #helper.docs("memberships"))
  end)
end)

describe("on_query", function()
  it("runs once for each builder, and knows which it is", function()
    club.watched:count()
    club.watched:pivot_query():exec()
    club.watched:exec()
    assert.same({ "pivot", "pivot", "related" }, flags)
  end)
end)

describe("in a bag", function()
  it("rows outside of the condition are other rows of the pair", function()
    helper.insert("bag", {
      { _id = 1, club_id = club._id, person_id = ada._id, role = "guest" },
      { _id = 2, club_id = club._id, person_id = eve._id, role = "guest" },
    })
    club.bag:attach(ada)
    club.bag:save(ada)
    assert.equal(2, #helper.docs("bag", { person_id = ada._id }))
    local result = club.bag:sync { ada, eve }
    assert.same({ tostring(ada._id) }, helper.texts(result.unchanged))
    assert.same({ tostring(eve._id) }, helper.texts(result.attached))
    assert.equal(2, #helper.docs("bag", { role = "guest" }))
    club.bag:toggle { ada, eve, zoe }
    assert.same({ tostring(zoe._id) }, helper.texts(club.bag:ids()))
    assert.equal(2, #helper.docs("bag", { role = "guest" }))
  end)
end)
