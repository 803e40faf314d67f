-- What stands behind records, counted and added up by the server: with_count, with_aggregate, load_count,
-- load_aggregate.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("aggregates")
teardown(helper.drop)

local expect_error, expect_commands = helper.expect_error, helper.expect_commands

local function over(related, options)
  options.pivot_table = options.pivot_table or "project_user"
  return lumo.many_to_many(related, options)
end

local User = lumo.model("AggUser", {
  collection = "users",
  columns = { name = "string", code = "integer" },
  relations = {
    projects = over("AggProject", {
      pivot_foreign_key = "user_id", pivot_related_foreign_key = "project_id", pivot_columns = { "score" },
    }),
    live = over("AggProject", {
      pivot_foreign_key = "user_id", pivot_related_foreign_key = "project_id",
      on_query = function(q) q:where("active", true):where_pivot("score", ">", 1):order_by("points") end,
    }),
    friends = over("AggUser", { pivot_table = "friends", pivot_foreign_key = "a", pivot_related_foreign_key = "b" }),
    clubs = over("AggClub", {
      pivot_table = "club_user", local_key = "code", pivot_foreign_key = "user_code",
      pivot_related_foreign_key = "club_id",
    }),
  },
})
local Project = lumo.model("AggProject", {
  collection = "projects",
  columns = { title = "string", active = "boolean", points = "integer", meta = "object", due = "date" },
  relations = {
    users = over("AggUser", { pivot_foreign_key = "project_id", pivot_related_foreign_key = "user_id" }),
  },
})
lumo.model("AggClub", { collection = "clubs", columns = { name = "string" } })

local users, projects

-- ann: alpha (score 3), beta (1), an orphan (5); bob: beta (2), gamma (no score); cy: nothing.
before_each(function()
  helper.clear("users", "projects", "project_user", "friends", "clubs", "club_user")
  users, projects = {}, {}
  for i, name in ipairs { "ann", "bob", "cy" } do users[i] = User:create { name = name, code = i } end
  for i, title in ipairs { "alpha", "beta", "gamma" } do
    projects[i] = Project:create {
      title = title, active = i ~= 3, points = i * 10, meta = { size = i }, due = i * 86400,
    }
  end
  users[1].projects:attach {
    [projects[1].id] = { score = 3 }, [projects[2].id] = { score = 1 }, [lumo.objectid()] = { score = 5 },
  }
  users[2].projects:attach { [projects[2].id] = { score = 2 }, [projects[3].id] = {} }
  users[1].friends:attach { users[2], users[3] }
  users[3].friends:attach(users[1])
  users[1].clubs:create_many { { name = "x" }, { name = "y" } }
end)

local function query() return User:query():order_by("name") end

--- The extras of that name, as one text.
local function extras(list, name)
  local texts = {}
  for i, one in ipairs(list) do texts[i] = tostring(one.extras[name]) end
  return table.concat(texts, " ")
end

--- The results of an aggregate of ann, bob and cy.
local function aggregate(relation, fn)
  local list = query():with_aggregate(relation, function(q) fn(q):as("result") end):exec()
  return extras(list, "result")
end

describe("with_count", function()
  it("counts rows of the pivot, in one command more", function()
    local list
    expect_commands(2, function() list = query():with_count("projects"):exec() end)
    assert.equal("3 2 0", extras(list, "projects_count"))
    assert.equal("number", type(list[3].extras.projects_count))
  end)

  it("counts records once something is asked of them", function()
    local list = query():with_count("projects", function(q) q:where("points", ">", 0):as("real") end)
      :with_count("projects", function(q) q:where("active", true):as("active") end)
      :with_count("projects", function(q) q:where_pivot("score", ">=", 2):as("good") end)
      :with_count("projects", function(q) q:where_pivot("score", ">=", 2):where("title", "beta"):as("both") end)
      :exec()
    assert.equal("2 2 0", extras(list, "real"))
    assert.equal("2 1 0", extras(list, "active"))
    assert.equal("2 1 0", extras(list, "good"))
    assert.equal("0 1 0", extras(list, "both"))
    assert.is_nil(list[1].extras.projects_count)
  end)

  it("takes any number of relations in one command", function()
    local list
    expect_commands(2, function()
      list = query():with_count("projects"):with_count("friends"):with_count("clubs"):with_count("live")
        :with_aggregate("projects", function(q) q:max("project_user.score"):as("best") end):exec()
    end)
    assert.equal("3 2 0", extras(list, "projects_count"))
    assert.equal("2 0 1", extras(list, "friends_count"))
    assert.equal("2 0 0", extras(list, "clubs_count"))
    assert.equal("1 1 0", extras(list, "live_count"))
    assert.equal("5 2 nil", extras(list, "best"))
  end)

  it("mixes both sides by or", function()
    local function either(q) q:where("title", "gamma"):or_where_pivot("score", 1) end
    local list = query():with_count("projects", either)
      :with_aggregate("projects", function(q) either(q) q:sum("points"):as("points") end)
      :with_aggregate("projects", function(q) either(q) q:max("project_user.score"):as("best") end)
      :with_aggregate("projects", function(q) either(q) q:count_distinct("title"):as("titles") end)
      :with_count("projects", function(q) q:where_pivot("score", 1):or_has("users", "=", 1):as("other") end):exec()
    assert.equal("1 1 0", extras(list, "projects_count"))
    assert.equal("20 30 0", extras(list, "points"))
    assert.equal("1 nil nil", extras(list, "best"))
    assert.equal("1 1 0", extras(list, "titles"))
    assert.equal("2 1 0", extras(list, "other"))
  end)

  it("asks for relations of the related records", function()
    local list = query():with_count("projects", function(q)
      q:where_has("users", function(other) other:where("name", "bob") end):as("shared")
    end):with_count("projects", function(q) q:has("users", ">", 1):as("popular") end):exec()
    assert.equal("1 2 0", extras(list, "shared"))
    assert.equal("1 1 0", extras(list, "popular"))
  end)

  it("goes with everything that gives records", function()
    local function q() return query():with_count("projects") end
    assert.equal(3, q():first().extras.projects_count)
    assert.equal(2, q():where("name", "bob"):first_or_fail().extras.projects_count)
    local seen = {}
    for one in q():each() do seen[#seen + 1] = one.extras.projects_count end
    assert.same({ 3, 2, 0 }, seen)
    local page = q():paginate(2, 2)
    assert.equal(0, page[1].extras.projects_count)
    assert.equal("3 2", extras(q():has("projects"):exec(), "projects_count"))
    assert.equal("0", extras(q():doesnt_have("projects"):exec(), "projects_count"))
    expect_commands(1, function() assert.same({}, q():where("name", "none"):exec()) end)
    local base = q()
    local clone = base:clone():with_count("friends")
    assert.is_nil(base:first().extras.friends_count)
    assert.equal(2, clone:first().extras.friends_count)
  end)

  it("needs no selected key", function()
    local list = query():select("name"):with_count("clubs"):exec()
    assert.equal("2 0 0", extras(list, "clubs_count"))
    assert.equal(1, list[1].code)
    assert.is_nil(query():select("name"):first().code)
  end)

  it("stands inside of preloads and relation queries", function()
    local list
    expect_commands(4, function()
      list = query():preload("projects", function(q) q:order_by("title"):with_count("users") end):exec()
    end)
    assert.equal("1 2", extras(list[1].projects, "users_count"))
    assert.equal("2 1", extras(list[2].projects, "users_count"))
    assert.equal(1, list[2].projects[1].extras.users_count + list[2].projects[1].extras.pivot_score - 3)
    local related = users[2].projects:query():with_count("users"):order_by("title"):exec()
    assert.equal("2 1", extras(related, "users_count"))
    assert.equal(2, related[1].extras.pivot_score)
    list = query():select("name"):preload("projects", function(q) q:select("title"):with_count("users") end):exec()
    assert.equal(2, #list[1].projects)
  end)

  it("works on one's own model, with other keys, and names the last of one name", function()
    local list = query():with_count("friends", function(q) q:where("name", "!=", "cy") end):exec()
    assert.equal("1 0 1", extras(list, "friends_count"))
    list = query():with_count("projects"):with_count("projects", function(q) q:where("active", true) end):exec()
    assert.equal("2 1 0", extras(list, "projects_count"))
    list = query():withCount("projects", function(q) q:as("n") end):exec()
    assert.equal("3 2 0", extras(list, "n"))
  end)

  it("runs in a transaction", function()
    lumo.transaction(function()
      users[3].projects:attach(projects[1])
      local list = query():with_count("projects"):with_count("friends"):exec()
      assert.equal("3 2 1", extras(list, "projects_count"))
    end)
  end)

  it("leaves records and their JSON as they are", function()
    local one = query():with_count("projects"):first()
    assert.is_false(one.is_dirty)
    assert.is_nil(one:to_table().projects_count)
    assert.falsy(lumo.to_json(one):find("projects_count", 1, true))
  end)

  it("splits many owners", function()
    local many = {}
    for i = 1, 2500 do many[i] = { name = "m" .. i, code = 100 + i } end
    local made = User:create_many(many)
    made[2500].projects:attach(projects[1])
    made[1].projects:attach(projects[1])
    made[1200].projects:attach(projects[3])
    expect_commands(1, function() lumo.load_count(made, "projects") end)
    assert.equal(1, made[2500].extras.projects_count)
    assert.equal(0, made[2499].extras.projects_count)
    expect_commands(3, function()
      lumo.load_count(made, "projects", function(q) q:where("active", true):as("active") end)
    end)
    assert.equal(1, made[2500].extras.active)
    assert.equal(1, made[1].extras.active)
    assert.equal(0, made[1200].extras.active)
  end)
end)

describe("with_aggregate", function()
  it("adds up columns of the related records", function()
    assert.equal("30 50 0", aggregate("projects", function(q) return q:sum("points") end))
    assert.equal("15.0 25.0 nil", (aggregate("projects", function(q) return q:avg("points") end)
      :gsub("15 ", "15.0 "):gsub("25 ", "25.0 ")))
    assert.equal("10 20 nil", aggregate("projects", function(q) return q:min("points") end))
    assert.equal("20 30 nil", aggregate("projects", function(q) return q:max("points") end))
    assert.equal("beta gamma nil", aggregate("projects", function(q) return q:max("title") end))
    assert.equal("2 3 nil", aggregate("projects", function(q) return q:max("meta.size") end))
    assert.equal(tostring(lumo.datetime(2 * 86400)),
      aggregate("projects", function(q) return q:max("due") end):match("^%S+"))
    assert.equal("2 2 0", aggregate("projects", function(q) return q:count_distinct("points") end))
    assert.equal("1 2 0", aggregate("projects", function(q) return q:count_distinct("active") end))
  end)

  it("adds up columns of the pivot, orphans with them", function()
    assert.equal("9 2 0", aggregate("projects", function(q) return q:sum("project_user.score") end))
    assert.equal("3 1 0", aggregate("projects", function(q) return q:count("project_user.score") end))
    assert.equal("3 2 0", aggregate("projects", function(q) return q:count() end))
    assert.equal("3 2 0", aggregate("projects", function(q) return q:count("*") end))
    assert.equal("3 1 0", aggregate("projects", function(q) return q:count_distinct("project_user.score") end))
    assert.equal("1 2 nil", aggregate("projects", function(q) return q:min("project_user.score") end))
    assert.equal("3 2 0", aggregate("projects", function(q) return q:count("project_user.project_id") end))
  end)

  it("mixes sides, conditions and order of calls", function()
    assert.equal("4 2 0", aggregate("projects", function(q)
      return q:sum("project_user.score"):where("points", ">", 0)
    end))
    assert.equal("3 nil nil", aggregate("projects", function(q)
      return q:max("project_user.score"):where("title", "alpha")
    end))
    assert.equal("10 20 0", aggregate("projects", function(q)
      return q:where_pivot("score", ">", 1):sum("points")
    end))
    assert.equal("3 2 nil", aggregate("live", function(q) return q:max("project_user.score") end))
    assert.equal("20 20 nil", aggregate("projects", function(q)
      return q:has("users", ">", 1):max("points")
    end))
    assert.equal("2 1 0", aggregate("projects", function(q)
      return q:where("active", true):count_distinct("project_user.project_id")
    end))
  end)
end)

describe("load_count and load_aggregate", function()
  it("fill records that are there", function()
    local one = User:find(users[1].id)
    expect_commands(1, function() assert.equal(one, one:load_count("projects")) end)
    assert.equal(3, one.extras.projects_count)
    one:load_aggregate("projects", function(q) q:sum("points"):as("total") end)
      :loadCount("friends", function(q) q:as("circle") end)
    assert.equal(30, one.extras.total)
    assert.equal(2, one.extras.circle)
    users[1].projects:detach()
    one:load_count("projects")
    one:load_aggregate("projects", function(q) q:max("points"):as("total") end)
    assert.equal(0, one.extras.projects_count)
    assert.is_nil(one.extras.total)
  end)

  it("fill lists of them in one command", function()
    local list = query():exec()
    list[4] = list[1] -- the same record twice
    expect_commands(1, function() assert.equal(list, lumo.load_count(list, "projects")) end)
    assert.equal("3 2 0 3", extras(list, "projects_count"))
    expect_commands(1, function()
      lumo.load_aggregate(list, "projects", function(q) q:min("points"):as("least") end)
    end)
    assert.equal("10 20 nil 10", extras(list, "least"))
    assert.equal(2, lumo.load_count(list[1], "friends").extras.friends_count)
    expect_commands(0, function() assert.same({}, lumo.load_count({}, "projects")) end)
  end)

  it("keep the pivot's extras", function()
    local project = users[1].projects:query():where("title", "alpha"):first()
    project:load_count("users")
    assert.equal(1, project.extras.users_count)
    assert.equal(3, project.extras.pivot_score)
    assert.equal(3, project.pivot.score)
  end)

  it("run in the record's transaction", function()
    local trx = lumo.transaction()
    local inside = User:query({ client = trx }):where("name", "cy"):first()
    inside.projects:attach(projects[1])
    assert.equal(1, inside:load_count("projects").extras.projects_count)
    assert.equal(0, users[3]:load_count("projects").extras.projects_count)
    trx:rollback()
    assert.equal(0, inside:load_count("projects").extras.projects_count)
  end)
end)

describe("Bad input", function()
  local function fn(q) q:count():as("n") end

  it("is refused before anything is sent", function()
    for _, case in ipairs {
      { "E_UNDEFINED_RELATIONSHIP", "with_count", "nope" },
      { "E_UNDEFINED_RELATIONSHIP", "with_aggregate", "nope", fn },
      { "E_ARGUMENT", "with_count" }, { "E_ARGUMENT", "with_count", nil }, { "E_ARGUMENT", "with_count", {} },
      { "E_ARGUMENT", "with_count", "projects", {} }, { "E_ARGUMENT", "with_count", "projects", "n" },
      { "E_ARGUMENT", "with_aggregate", "projects" }, { "E_ARGUMENT", "with_aggregate", "projects", nil },
      { "E_ARGUMENT", "with_aggregate", "projects", {} },
      { "E_ARGUMENT", "with_aggregate", "projects", function() end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:as("n") end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:sum("points") end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:sum("points"):max("points"):as("n") end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:sum():as("n") end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:sum({}):as("n") end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:count_distinct():as("n") end },
      { "E_UNDEFINED_COLUMN", "with_aggregate", "projects", function(q) q:sum("nope"):as("n") end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:count():as() end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:count():as("") end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:count():as({}) end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:count():as("n"):exec() end },
      { "E_ARGUMENT", "with_aggregate", "projects", function(q) q:count():as("n"):with_count("users") end },
      { "E_ARGUMENT", "with_count", "projects", function(q) q:count() end },
      { "E_ARGUMENT", "with_count", "projects", function(q) q:sum("points") end },
      { "E_ARGUMENT", "with_count", "projects", function(q) q:exec() end },
      { "E_ARGUMENT", "with_count", "projects", function(q) q:preload("users") end },
    } do
      local q = query()
      helper.expect_refused(case[1], function() q[case[2]](q, case[3], case[4]) end)
      assert.equal("nil nil nil", extras(q:exec(), "n"))
      local one = users[1]
      local method = case[2]:gsub("with", "load")
      helper.expect_refused(case[1], function() one[method](one, case[3], case[4]) end)
      helper.expect_refused(case[1], function() lumo[method]({ one }, case[3], case[4]) end)
    end
  end)

  it("has limits and orders where they would mean nothing, lean queries, other lists", function()
    helper.expect_refused("E_ARGUMENT", function()
      users[1]:load_count("projects", function(q) q:limit(1) end)
    end)
    helper.expect_refused("E_ARGUMENT", function() query():with_count("projects"):lean():exec() end)
    helper.expect_refused("E_ARGUMENT", function() lumo.load_count(nil, "projects") end)
    helper.expect_refused("E_ARGUMENT", function() lumo.load_count({ 1 }, "projects") end)
    helper.expect_refused("E_ARGUMENT", function() lumo.load_count({ users[1], projects[1] }, "projects") end)
    helper.expect_refused("E_ARGUMENT", function() lumo.load_count({}, nil) end)
    helper.expect_refused("E_ARGUMENT", function() User.query():with_count("projects") end)
    local load_count = users[1].load_count
    helper.expect_refused("E_ARGUMENT", function() load_count("projects") end)
  end)

  it("is a record without the key", function()
    local new = User:new { name = "new" }
    local err = helper.expect_refused("E_MISSING_ATTRIBUTE_VALUE", function() new:load_count("clubs") end)
    assert.equal('Cannot load_count "clubs", value of "AggUser.code" is nil', err.message)
    User:create { name = "nokey" }
    expect_error("E_MISSING_ATTRIBUTE_VALUE", function() query():with_count("clubs"):exec() end)
    local part = User:query():select("name"):first()
    helper.expect_refused("E_MISSING_ATTRIBUTE_VALUE", function() part:load_count("clubs") end)
  end)
end)
