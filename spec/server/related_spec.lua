-- Creating and saving related records through a relation: what is stored, what it sends, what the records carry
-- afterwards, and that a failure leaves everything as it was.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("related")
teardown(helper.drop)

local expect_error, expect_refused, expect_at_most = helper.expect_error, helper.expect_refused, helper.expect_at_most

local told, acts

local function watch(Model, name)
  for _, when in ipairs { "before", "after" } do
    for _, event in ipairs { "create", "update", "save" } do
      Model[when](Model, event, function(one)
        local line = ("%s %s %s"):format(name, when, event)
        told[#told + 1] = line
        if acts[line] then acts[line](one) end
      end)
    end
  end
end

local function over(related, options)
  options.pivot_table = options.pivot_table or "members"
  options.pivot_foreign_key, options.pivot_related_foreign_key = "team_id", "user_id"
  return lumo.many_to_many(related, options)
end

local Team = lumo.model("RelatedTeam", {
  collection = "teams",
  columns = { name = "string", code = "string", version = "integer" },
  relations = {
    users = over("RelatedUser", { pivot_columns = "*" }),
    typed = over("RelatedUser", { pivot_table = "typed", pivot_model = "RelatedMember", pivot_timestamps = true }),
    bag = over("RelatedUser", { pivot_table = "bag", duplicates = true }),
    turns = over("RelatedUser", { pivot_table = "turns", serial = "version" }),
    stepwise = over("RelatedUser", { pivot_table = "stepwise", atomic = false }),
    numbered = over("RelatedNumber", { pivot_table = "numbered", pivot_columns = "*" }),
    named = over("RelatedUser", { pivot_table = "named", related_key = "login", local_key = "code" }),
    follows = lumo.many_to_many("RelatedTeam", {
      pivot_table = "follows", pivot_foreign_key = "follower_id", pivot_related_foreign_key = "followed_id",
    }),
    followers = lumo.many_to_many("RelatedTeam", {
      pivot_table = "follows", pivot_foreign_key = "followed_id", pivot_related_foreign_key = "follower_id",
    }),
  },
})

local User = lumo.model("RelatedUser", {
  collection = "users",
  columns = { name = { "string", required = true }, login = "string", age = "integer" },
})

lumo.model("RelatedNumber", {
  collection = "numbers",
  columns = { id = { "integer", primary = true }, name = "string" },
})

lumo.model("RelatedMember", {
  collection = "typed",
  columns = {
    team_id = "objectid", user_id = "objectid",
    role = { "string", default = "guest", enum = { "guest", "admin" } }, level = { "integer", column = "lvl" },
  },
})

helper.create_index("users", { { "login", 1 } }, { unique = true, sparse = true })
for _, name in ipairs { "members", "typed", "bag", "turns", "stepwise", "numbered", "named", "follows" } do
  helper.create_index(name, { { "x", 1 } }) -- so that no transaction has to make it
end
helper.create_index("teams", { { "code", 1 } })
helper.create_index("numbers", { { "name", 1 } })

local ALL = {
  "teams", "users", "members", "typed", "bag", "turns", "stepwise", "numbered", "named", "follows", "numbers",
}
local team

before_each(function()
  told, acts = {}, {}
  helper.clear((table.unpack or unpack)(ALL))
  team = Team:create { name = "team" }
end)

local function stored()
  local all = {}
  for _, name in ipairs(ALL) do all[name] = helper.docs(name) end
  return all
end

describe("create", function()
  it("sends two commands and a commit, and gives the record with its pair", function()
    local one
    expect_at_most(2, 1, function() one = team.users:create({ name = "a" }, { role = "admin" }) end)
    assert.is_true(one.is_persisted)
    assert.equal(team._id, one.extras.pivot_team_id)
    assert.equal(one._id, one.extras.pivot_user_id)
    assert.equal("admin", one.extras.pivot_role)
    assert.equal("admin", one.pivot.role)
    assert.equal("admin", helper.doc("members", {}).role)
  end)

  it("may do without values, and saves a parent that is new", function()
    local new = Team:new { name = "new" }
    expect_at_most(3, 1, function() new.numbered:create { id = 1 } end)
    assert.is_true(new.is_persisted)
    assert.equal(1, new.numbered:count())
    assert.is_true(new.follows:create().is_persisted)
  end)

  it("shows the defaults and timestamps that the row got", function()
    local before = helper.now_ms()
    local one = team.typed:create({ name = "a" }, { level = 3 })
    assert.equal("guest", one.extras.pivot_role)
    assert.equal(3, one.extras.pivot_level)
    assert.is_true(one.extras.pivot_created_at.ms >= before - 1000)
    assert.equal("guest", one.pivot.role)
    assert.equal("RelatedMember", one.pivot.model.model_name)
    local read = team.typed:exec()[1]
    assert.equal(read.extras.pivot_created_at, one.extras.pivot_created_at)
    assert.equal(3, helper.doc("typed", {}).lvl)
  end)
end)

describe("create_many", function()
  it("sends two commands and a commit, whatever the number", function()
    local rows, attributes = {}, {}
    for i = 1, 50 do rows[i], attributes[i] = { name = "u" .. i }, i % 2 == 0 and { n = i } or nil end
    local made
    expect_at_most(2, 1, function() made = team.users:create_many(rows, attributes) end)
    assert.equal(50, #made)
    assert.equal(50, team.users:count())
    assert.equal(2, made[2].extras.pivot_n)
    assert.is_nil(made[1].extras.pivot_n)
    assert.equal(made[2]._id, helper.doc("members", { n = 2 }).user_id)
  end)

  it("sends no more where the keys are given, and adds no second row for a pair", function()
    helper.insert("numbered", { { _id = "theirs", team_id = team._id, user_id = 2, role = "old" } })
    expect_at_most(2, 1, function()
      team.numbered:create_many({ { id = 1 }, { id = 2 }, { id = 3 } }, { { n = 1 } })
    end)
    assert.equal(3, #helper.docs("numbered"))
    assert.equal("old", helper.doc("numbered", { user_id = 2 }).role)
    assert.equal(1, helper.doc("numbered", { user_id = 1 }).n)
  end)

  it("of nothing is nothing", function()
    assert.same({}, team.users:create_many {})
    assert.equal(0, team.users:count())
  end)

  it("in a bag adds rows with ids of their own", function()
    expect_at_most(2, 1, function() team.bag:create_many { { name = "a" }, { name = "b" } } end)
    assert.equal(2, team.bag:count())
  end)
end)

describe("save", function()
  it("sends at most three commands and a commit", function()
    local user = User:new { name = "a" }
    team.name = "changed"
    expect_at_most(3, 1, function() assert.is_nil(team.users:save(user, { role = "admin" })) end)
    assert.is_true(user.is_persisted)
    assert.equal("changed", helper.doc("teams", {}).name)
    assert.equal("admin", user.extras.pivot_role)
    assert.equal(user._id, user.extras.pivot_user_id)
    expect_at_most(1, 1, function() team.users:save(user, { role = "guest" }) end)
    assert.equal("guest", user.extras.pivot_role)
    assert.equal("guest", helper.doc("members", {}).role)
  end)

  it("keeps what extras a record has", function()
    local user = User:create { name = "a" }
    user.extras.mine = 1
    team.users:save(user)
    assert.equal(1, user.extras.mine)
    assert.equal(team._id, user.extras.pivot_team_id)
  end)

  it("of a bag adds a row only if told so", function()
    local user = User:create { name = "a" }
    team.bag:save(user)
    team.bag:save(user)
    assert.equal(1, team.bag:count())
    team.bag:save(user, nil, false)
    assert.equal(2, team.bag:count())
  end)
end)

describe("save_many", function()
  it("sends at most six commands and a commit, whatever the number", function()
    local list, attributes = {}, {}
    for i = 1, 10 do list[i] = User:create { name = "u" .. i } end
    team.users:attach { list[1], list[2] }
    for i = 1, 10 do list[i].age = i end
    for i = 11, 20 do list[i] = User:new { name = "u" .. i } end
    for i = 1, 20 do attributes[i] = { n = i } end
    team.name = "changed"
    expect_at_most(6, 1, function() team.users:save_many(list, attributes) end)
    assert.equal(20, team.users:count())
    assert.equal(10, helper.doc("users", { name = "u10" }).age)
    assert.equal(1, helper.doc("members", { user_id = list[1]._id }).n)
    assert.equal(20, list[20].extras.pivot_n)
  end)

  it("sends nothing for records that are as they are stored", function()
    local a, b = User:create { name = "a" }, User:create { name = "b" }
    expect_at_most(2, 1, function() team.users:save_many { a, b } end)
    expect_at_most(1, 1, function() team.users:save_many { a, b } end)
  end)

  it("takes a record twice for once, and the parent itself", function()
    local a = User:new { name = "a" }
    team.users:save_many { a, a }
    assert.equal(1, team.users:count())
    local new = Team:new { name = "n" }
    new.follows:save_many { new, team }
    assert.equal(2, new.follows:count())
    assert.equal(2, Team:count())
  end)

  it("is refused for a document that is gone, and leaves everything", function()
    local a, b = User:create { name = "a" }, User:create { name = "b" }
    helper.delete("users", { _id = b._id })
    a.age, b.age = 1, 2
    local before = stored()
    expect_error("E_ROW_NOT_FOUND", function() team.users:save_many { a, b } end)
    assert.same(before, stored())
    assert.is_true(a.is_dirty)
  end)
end)

describe("hooks", function()
  local Club, Person
  setup(function()
    Club = lumo.model("RelatedClub", {
      collection = "teams", columns = { name = "string" },
      relations = {
        people = over("RelatedPerson", {}),
        step = over("RelatedPerson", { pivot_table = "stepwise", atomic = false }),
      },
    })
    Person = lumo.model("RelatedPerson", { collection = "users", columns = { name = "string" } })
    watch(Club, "club")
    watch(Person, "person")
  end)

  it("run before and after all writes, those of the parent first", function()
    Club:new { name = "c" }.people:save(Person:new { name = "a" })
    assert.same({
      "club before create", "club before save", "person before create", "person before save",
      "club after create", "club after save", "person after create", "person after save",
    }, told)
  end)

  it("of records that are stored run on a clean save, too", function()
    local club, person = Club:find(team._id), Person:create { name = "a" }
    told = {}
    club.people:save_many { person, Person:new { name = "b" } }
    assert.same({
      "club before update", "club before save", "person before create", "person before save",
      "person before update", "person before save",
      "club after update", "club after save", "person after create", "person after save",
      "person after update", "person after save",
    }, told)
  end)

  it("before the first command may refuse", function()
    local club = Club:new { name = "c" }
    acts["person before save"] = function() error("no", 0) end
    local ok, err
    helper.expect_commands(0, function()
      ok, err = pcall(function() club.people:create { name = "a" } end)
    end)
    assert.is_false(ok)
    assert.equal("no", err)
    assert.is_true(club.is_new)
  end)

  it("after the writes may refuse: nothing is stored, and records are as they were", function()
    local club, person = Club:new { name = "c" }, Person:new { name = "a" }
    acts["person after save"] = function() error("no", 0) end
    local before = stored()
    for _, name in ipairs { "people", "step" } do
      assert.is_false((pcall(function() club[name]:save(person) end)))
      assert.is_true(club.is_new and person.is_new)
      if name == "people" then assert.same(before, stored()) end
    end
  end)
end)

describe("without a transaction, records that were stored before a failure", function()
  it("stay stored, with hooks as without", function()
    local Buyer = lumo.model("RelatedBuyer", { collection = "users", columns = { login = "string" } })
    local Shop = lumo.model("RelatedShop", {
      collection = "teams", columns = { name = "string" },
      relations = { buyers = over("RelatedBuyer", { pivot_table = "stepwise", atomic = false }) },
    })
    Buyer:create { login = "taken" }
    for _ = 1, 2 do
      local shop, buyer = Shop:new { name = "s" }, Buyer:new { login = "taken" }
      local err = expect_error("E_DUPLICATE_KEY", function() shop.buyers:save(buyer) end)
      assert.same({ "applied", true, true }, { err.outcome, shop.is_persisted, buyer.is_new })
      Shop:before("save", function() end)
    end
  end)
end)

describe("a transaction", function()
  it("of the parent is that of what is made through it", function()
    local trx = lumo.transaction()
    local inside = Team:query({ client = trx }):where("name", "team"):first()
    local one = inside.users:create { name = "a" }
    assert.equal(trx, one.trx)
    assert.equal(0, User:count())
    local other = User:new { name = "b" }
    inside.users:save(other)
    trx:rollback()
    assert.equal(0, User:count())
    assert.equal(0, #helper.docs("members"))
    assert.is_true(other.is_new)
  end)

  it("that is open in the coroutine takes part", function()
    pcall(function()
      lumo.transaction(function()
        team.users:create_many { { name = "a" }, { name = "b" } }
        assert.equal(2, team.users:count())
        error("no", 0)
      end)
    end)
    assert.equal(0, User:count())
    assert.equal(0, #helper.docs("members"))
  end)

  it("is taken in turn with serial, for everything that writes", function()
    local user = User:create { name = "a" }
    team.turns:create { name = "b" }
    team.turns:save(user)
    team.turns:detach(user)
    team.turns:create_many { { name = "c" }, { name = "d" } }
    assert.equal(4, helper.doc("teams", {}).version)
    assert.equal(4, team.version)
    local new = Team:new { name = "n" }
    new.turns:create { name = "e" }
    assert.equal(1, new.version)
  end)
end)

describe("without transactions", function()
  it("nothing can take turns", function()
    expect_error("E_ARGUMENT", function() lumo.many_to_many("RelatedUser", { serial = "version", atomic = false }) end)
  end)

  it("an error says that something was written before", function()
    helper.create_index("stepwise", { { "slot", 1 } }, { unique = true, sparse = true })
    finally(function() helper.command { { "dropIndexes", "stepwise" }, { "index", "slot" } } end)
    team.stepwise:create({ name = "a" }, { slot = 1 })
    local err = expect_error("E_DUPLICATE_KEY", function() team.stepwise:create({ name = "b" }, { slot = 1 }) end)
    assert.equal("applied", err.outcome)
    assert.equal(2, #helper.docs("users"))
    err = expect_error("E_DUPLICATE_KEY", function()
      team.stepwise:save(User:find_by("name", "b"), { slot = 1 })
    end)
    assert.equal("not_applied", err.outcome)
  end)
end)

describe("first_or_create and update_or_create", function()
  it("look inside the relation first", function()
    local one = team.users:first_or_create({ login = "a" }, { name = "A" }, { role = "admin" })
    assert.equal("admin", one.extras.pivot_role)
    local again = team.users:first_or_create({ login = "a" }, { name = "B" })
    assert.equal(one._id, again._id)
    assert.equal("A", again.name)
    assert.equal("admin", again.extras.pivot_role)
    local updated = team.users:update_or_create({ login = "a" }, { name = "C" })
    assert.equal(one._id, updated._id)
    assert.equal("C", helper.doc("users", {}).name)
    assert.equal(2, (function()
      team.users:update_or_create({ login = "b" }, { name = "D" })
      return team.users:count()
    end)())
  end)

  it("attach the record that a unique index protects", function()
    local other = Team:create { name = "other" }
    local mine = other.users:create { name = "A", login = "a" }
    local found = team.users:first_or_create({ login = "a" }, { name = "B" }, { role = "guest" })
    assert.equal(mine._id, found._id)
    assert.equal("A", found.name)
    assert.equal("guest", found.extras.pivot_role)
    assert.equal(1, team.users:count())
    local third = Team:create { name = "third" }
    assert.equal("C", third.users:update_or_create({ login = "a" }, { name = "C" }).name)
    assert.equal("C", helper.doc("users", {}).name)
    assert.equal(1, User:count())
  end)

  it("find what somebody else makes and attaches in between", function()
    local Racer = lumo.model("RelatedRacer", { collection = "users", columns = { name = "string", login = "string" } })
    local Race = lumo.model("RelatedRace", { collection = "teams", relations = { racers = over("RelatedRacer", {}) } })
    local race, theirs = Race:find(team._id), lumo.objectid()
    local other = lumo.connect(helper.uri(), { name = "related race", database = helper.database })
    finally(function() other:close() end)
    local function insert(collection, document)
      other:command(lumo.ordered { { "insert", collection }, { "documents", lumo.array { document } } })
    end
    Racer:before("create", function()
      insert("users", { _id = theirs, name = "theirs", login = "a" })
      insert("members", { _id = 1, team_id = team._id, user_id = theirs, role = "first" })
    end)
    local found = race.racers:first_or_create({ login = "a" }, { name = "mine" }, { role = "second" })
    assert.same({ theirs, "theirs" }, { found._id, found.name })
    assert.equal("first", helper.doc("members", {}).role)
    assert.equal(1, #helper.docs("users"))
  end)

  it("leave the record of somebody else alone where no index does", function()
    User:create { name = "A" }
    team.users:first_or_create { name = "A" }
    assert.equal(2, User:count())
  end)

  it("let the error through in a transaction, which it has ended", function()
    User:create { name = "A", login = "a" }
    expect_error("E_DUPLICATE_KEY", function()
      lumo.transaction(function() team.users:first_or_create({ login = "a" }, { name = "B" }) end)
    end)
    assert.equal(0, team.users:count())
  end)

  it("refuse to search for nothing", function()
    for _, value in ipairs { {}, "a" } do
      expect_refused("E_ARGUMENT", function() team.users:first_or_create(value) end)
      expect_refused("E_ARGUMENT", function() team.users:update_or_create(value, {}) end)
    end
    expect_refused("E_ARGUMENT", function() team.users:first_or_create() end)
  end)
end)

describe("what cannot be stored", function()
  local function unchanged(codes, call)
    local before = stored()
    local err = expect_error(codes, call)
    assert.same(before, stored())
    return err
  end

  it("leaves everything: values, attributes, rules, indexes", function()
    User:create { name = "taken", login = "x" }
    for _, name in ipairs { "users", "stepwise" } do
      local relation = team[name]
      unchanged("E_VALIDATION", function() relation:create_many { { name = "a" }, { login = "b" } } end)
      unchanged("E_CAST", function() relation:create { name = {} } end)
      unchanged("E_UNDEFINED_COLUMN", function() relation:create { nam = "a" } end)
      unchanged("E_ARGUMENT", function() relation:create({ name = "a" }, { team_id = lumo.objectid() }) end)
      unchanged("E_ARGUMENT", function() relation:create_many({ { name = "a" } }, { {}, {} }) end)
      unchanged("E_ARGUMENT", function() relation:create({ name = "a" }, "admin") end)
      unchanged("E_ARGUMENT", function() relation:create_many { { name = "a" }, nil, { name = "b" } } end)
      unchanged("E_ARGUMENT", function() relation:create_many { { name = "a" }, "b" } end)
      unchanged("E_ARGUMENT", function() relation:create_many { name = "a" } end)
      unchanged("E_ARGUMENT", function() relation:create_many() end)
      unchanged("E_ARGUMENT", function() relation:create("a") end)
      unchanged("E_ARGUMENT", function() relation:save_many { User:new { name = "a" }, nil, User:new {} } end)
      unchanged("E_ARGUMENT", function() relation:save_many { a = User:new { name = "a" } } end)
      unchanged("E_ARGUMENT", function() relation:save(team) end)
      unchanged("E_ARGUMENT", function() relation:save_many { User:new { name = "a" }, team } end)
      unchanged("E_ARGUMENT", function() relation:save { name = "a" } end)
    end
    unchanged("E_DUPLICATE_KEY", function()
      team.users:create_many { { name = "a", login = "y" }, { name = "b", login = "x" }, { name = "c" } }
    end)
    unchanged("E_DUPLICATE_KEY", function()
      team.users:save_many { User:new { name = "a", login = "y" }, User:new { name = "b", login = "x" } }
    end)
    unchanged("E_VALIDATION", function() team.typed:create({ name = "a" }, { role = "king" }) end)
    unchanged("E_CAST", function() team.typed:create({ name = "a" }, { level = "three" }) end)
  end)

  it("is found before anything is sent where a key is missing", function()
    team.code = "t"
    team:save()
    local err = expect_refused("E_MISSING_ATTRIBUTE_VALUE", function()
      Team:new { name = "x" }.named:create { name = "a", login = "l" }
    end)
    assert.truthy(tostring(err):find('Cannot create "named", value of "RelatedTeam.code" is nil', 1, true))
    unchanged("E_MISSING_ATTRIBUTE_VALUE", function() team.named:create { name = "a" } end)
    unchanged("E_MISSING_ATTRIBUTE_VALUE", function() team.named:save(User:new { name = "a" }) end)
    team.named:create { name = "a", login = "l" }
    assert.same({ "t", "l" }, { helper.doc("named", {}).team_id, helper.doc("named", {}).user_id })
  end)

  it("is what belongs to a deleted record, or is one", function()
    local user = User:create { name = "a" }
    user:delete()
    expect_refused("E_MODEL_DELETED", function() team.users:save(user) end)
    team:delete()
    for _, call in ipairs {
      function() team.users:create { name = "b" } end,
      function() team.users:save(User:new { name = "b" }) end,
      function() team.users:first_or_create { name = "b" } end,
    } do
      expect_error("E_MODEL_DELETED", call)
    end
    assert.equal(0, User:count())
  end)

  it("is a record of another connection", function()
    local other = lumo.connect(helper.uri(), { name = "related other", database = helper.database })
    local user = User:create({ name = "a" }, { client = other })
    expect_refused("E_ARGUMENT", function() team.users:save(user) end)
    other:close()
  end)
end)

describe("a key that was not selected", function()
  it("is named, on reads as on writes", function()
    team.code = "t"
    team:save()
    local partial = Team:query():select("name"):first()
    for _, call in ipairs {
      function() return partial.named:exec() end,
      function() return partial.named:attach("x") end,
      function() return partial:load("named") end,
      function() return partial.named:query() end,
    } do
      local err = expect_refused("E_MISSING_ATTRIBUTE_VALUE", call)
      assert.truthy(tostring(err):find('value of "RelatedTeam.code" is nil', 1, true))
      assert.truthy(tostring(err):find("select", 1, true))
    end
    local user = User:create { name = "a", login = "l" }
    local bare = User:query():select("name"):first()
    expect_refused("E_MISSING_ATTRIBUTE_VALUE", function() team.named:attach(bare) end)
    assert.same({ "l" }, team.named:attach(user).attached)
    assert.equal(1, #Team:query():select("name"):preload("named"):first().named)
    assert.equal(0, #partial.users:exec())
  end)
end)

describe("a relation of a model to itself", function()
  it("has two sides over one pivot", function()
    local a, b = Team:create { name = "a" }, Team:create { name = "b" }
    team.follows:attach { a, b }
    a.follows:attach(team)
    assert.equal(2, team.follows:count())
    assert.equal(1, team.followers:count())
    assert.equal("a", team.followers:exec()[1].name)
    assert.equal("team", b.followers:exec()[1].name)
    assert.same({ tostring(team._id) }, helper.texts(a.followers:attach(team).unchanged))
    local loaded = Team:query():where("name", "team"):preload("follows.followers"):first()
    assert.equal("team", loaded.follows[1].followers[1].name)
    team.follows:create { name = "c" }
    assert.equal(1, Team:find_by("name", "c").followers:count())
    assert.equal(3, #helper.docs("follows", { follower_id = team._id }))
  end)
end)

describe("keys of any type", function()
  local types = {
    integer = { 1, 2, 3 },
    string = { "a", "b", "c" },
    uuid = { lumo.uuid(), lumo.uuid(), lumo.uuid() },
    objectid = { lumo.objectid(), lumo.objectid(), lumo.objectid() },
  }

  for left, parents in pairs(types) do
    for right, relateds in pairs(types) do
      it(("on both sides: %s and %s"):format(left, right), function()
        local suffix = left .. right
        local pivot = "keys_" .. suffix
        local A = lumo.model("KeysA" .. suffix, {
          collection = "keys_a", columns = { key = { left, primary = true } },
          relations = { bs = lumo.many_to_many("KeysB" .. suffix, { pivot_table = pivot, pivot_columns = { "n" },
            pivot_foreign_key = "a", pivot_related_foreign_key = "b" }) },
        })
        local B = lumo.model("KeysB" .. suffix, {
          collection = "keys_b", columns = { key = { right, primary = true } },
          relations = { as = lumo.many_to_many("KeysA" .. suffix, { pivot_table = pivot,
            pivot_foreign_key = "b", pivot_related_foreign_key = "a" }) },
        })
        A:truncate()
        B:truncate()
        local a = A:create { key = parents[1] }
        for i, key in ipairs(relateds) do if i < 3 then B:create { key = key } end end
        assert.equal(2, #a.bs:attach { relateds[1], relateds[2] }.attached)
        a.bs:update_pivot_data(relateds[1], { n = 1 })
        a.bs:create({ key = relateds[3] }, { n = 3 })
        assert.equal(3, #a.bs:exec())
        assert.equal(1, a.bs:find(relateds[1]).extras.pivot_n)
        assert.equal(parents[1], B:find(relateds[2]).as:exec()[1].key)
        assert.same({ relateds[1] }, a.bs:sync { relateds[2], relateds[3] }.detached)
        assert.equal(2, #A:query():preload("bs"):first().bs)
        assert.equal(2, a.bs:detach())
      end)
    end
  end
end)

describe("the pair of a record that was created or saved", function()
  it("is a stored record of the pivot model", function()
    local one = team.typed:create({ name = "a" }, { level = 1 })
    one.pivot.level = 5
    one.pivot:save()
    assert.equal(5, helper.doc("typed", {}).lvl)
    local two = User:new { name = "b" }
    team.typed:save(two)
    assert.equal(helper.doc("typed", { user_id = two._id })._id, two.pivot._id)
  end)

  it("is made by one run of on_query", function()
    local runs = 0
    local Club = lumo.model("RelatedOnce", {
      collection = "teams", columns = {},
      relations = { users = over("RelatedUser", { on_query = function() runs = runs + 1 end }) },
    })
    Club:find(team._id).users:create { name = "a" }
    assert.equal(1, runs)
  end)
end)

describe("timestamps of a strict pivot model", function()
  it("are columns of it", function()
    lumo.model("RelatedStrict", { collection = "typed", strict = true, columns = { team_id = "any", user_id = "any" } })
    local Club = lumo.model("RelatedStrictTeam", {
      collection = "teams", columns = {},
      relations = { users = over("RelatedUser", {
        pivot_table = "typed", pivot_model = "RelatedStrict", pivot_timestamps = { created_at = "since" },
      }) },
    })
    local err = expect_error("E_MISSING_MODEL_ATTRIBUTE", function() Club:get_relation("users"):boot() end)
    assert.truthy(tostring(err):find('expects "since" to exist on "RelatedStrict" model', 1, true))
  end)
end)
