-- Relations in the conditions of a query: has, where_has and their kin, by themselves and with all that a query
-- can do.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("has")
teardown(helper.drop)

local function expect_error(code, text, fn)
  local err = helper.expect_error(code, fn)
  if text then assert.truthy(err.message:find(text, 1, true), err.message) end
end

local User = lumo.model("HasUser", {
  collection = "users",
  columns = { name = "string", level = { "integer", default = 1 }, badge = "string" },
  relations = {
    projects = lumo.many_to_many("HasProject", {
      pivot_table = "project_user", pivot_foreign_key = "user_id", pivot_related_foreign_key = "project_id",
      pivot_columns = { "role" },
    }),
    live = lumo.many_to_many("HasProject", {
      pivot_table = "project_user", pivot_foreign_key = "user_id", pivot_related_foreign_key = "project_id",
      on_query = function(q) q:where("active", true):where_pivot("role", "!=", "guest") end,
    }),
    follows = lumo.many_to_many("HasUser", {
      pivot_table = "follows", pivot_foreign_key = "follower_id", pivot_related_foreign_key = "followed_id",
    }),
    badges = lumo.many_to_many("HasBadge", { pivot_table = "badge_user", local_key = "badge", related_key = "code",
      pivot_foreign_key = "user_badge", pivot_related_foreign_key = "badge_code" }),
  },
})
local Project = lumo.model("HasProject", {
  collection = "projects",
  columns = { title = "string", active = { "boolean", default = true }, points = { "integer", default = 0 } },
  relations = {
    users = lumo.many_to_many("HasUser", {
      pivot_table = "project_user", pivot_foreign_key = "project_id", pivot_related_foreign_key = "user_id",
    }),
    tasks = lumo.many_to_many("HasTask", { pivot_table = "project_task", pivot_foreign_key = "project_id",
      pivot_related_foreign_key = "task_id" }),
  },
})
local Task = lumo.model("HasTask", {
  collection = "tasks",
  columns = { title = "string", done = { "boolean", default = false } },
})
lumo.model("HasBadge", { collection = "badges", columns = { code = "string" } })

local users, projects = {}, {}

-- ann: alpha (admin), beta (guest), gamma (editor); bob: beta (admin); cy: an orphan; dee: nothing.
-- alpha: two tasks, one of them done; beta: one task; gamma is not active and has none.
before_each(function()
  helper.clear("users", "projects", "tasks", "project_user", "project_task", "follows", "badges", "badge_user")
  for i, name in ipairs { "ann", "bob", "cy", "dee" } do users[name] = User:create { name = name, level = i } end
  for i, title in ipairs { "alpha", "beta", "gamma" } do
    projects[title] = Project:create { title = title, active = title ~= "gamma", points = i * 10 }
  end
  users.ann.projects:attach {
    [projects.alpha.id] = { role = "admin" }, [projects.beta.id] = { role = "guest" },
    [projects.gamma.id] = { role = "editor" },
  }
  users.bob.projects:attach { [projects.beta.id] = { role = "admin" } }
  users.cy.projects:attach { [lumo.objectid()] = { role = "admin" } }
  projects.alpha.tasks:create_many { { title = "a1", done = true }, { title = "a2" } }
  projects.beta.tasks:create { title = "b1" }
  users.ann.follows:attach { users.bob, users.cy }
  users.bob.follows:attach { users.ann }
end)

--- The names that a query finds, sorted.
local function found(q)
  local list = {}
  for i, one in ipairs(q:exec()) do list[i] = one.name or one.title end
  table.sort(list)
  return table.concat(list, " ")
end

describe("has", function()
  it("finds what has rows in the pivot, orphans among them", function()
    assert.equal("ann bob cy", found(User:query():has("projects")))
    assert.equal("dee", found(User:query():doesnt_have("projects")))
  end)

  it("compares their number", function()
    for _, case in ipairs {
      { ">", 0, "ann bob cy" }, { ">", 1, "ann" }, { ">", 2, "ann" }, { ">", 3, "" }, { ">=", 3, "ann" },
      { ">=", 4, "" }, { "=", 1, "bob cy" }, { "=", 0, "dee" }, { "=", 3, "ann" }, { "=", 2, "" },
      { "!=", 1, "ann dee" }, { "<>", 0, "ann bob cy" }, { "<", 1, "dee" }, { "<", 3, "bob cy dee" },
      { "<=", 1, "bob cy dee" }, { "<=", 0, "dee" }, { ">=", 0, "ann bob cy dee" }, { "<", 0, "" },
    } do
      local operator, n, names = case[1], case[2], case[3]
      assert.equal(names, found(User:query():has("projects", operator, n)), operator .. n)
    end
  end)

  it("is negated as a whole", function()
    assert.equal("bob cy dee", found(User:query():doesnt_have("projects", ">", 1)))
    assert.equal("ann bob cy dee", found(User:query():doesnt_have("projects", "<", 0)))
    assert.equal("", found(User:query():doesnt_have("projects", ">=", 0)))
  end)

  it("joins other conditions by and, by or, and in groups", function()
    assert.equal("ann", found(User:query():where("level", "<", 2):has("projects")))
    assert.equal("bob cy", found(User:query():where("level", ">", 1):and_has("projects")))
    assert.equal("ann bob cy dee", found(User:query():where("name", "dee"):or_has("projects")))
    assert.equal("ann dee", found(User:query():where("name", "ann"):or_doesnt_have("projects")))
    assert.equal("bob cy", found(User:query():has("projects"):where(function(q)
      q:where("name", "cy"):or_has("projects", "=", 1)
    end)))
    assert.equal("ann dee", found(User:query():where_not(function(q) q:has("projects"):where("level", ">", 1) end)))
    assert.equal("ann bob", found(User:query():has("projects"):has("follows")))
    assert.equal("cy", found(User:query():has("projects"):doesnt_have("follows")))
    assert.equal("dee", found(User:query():and_doesnt_have("projects"):and_doesnt_have("follows")))
  end)

  it("follows a path: one that has one", function()
    assert.equal("ann bob", found(User:query():has("projects.tasks")))
    assert.equal("ann", found(User:query():has("projects.tasks", ">", 1)))
    assert.equal("cy dee", found(User:query():doesnt_have("projects.tasks")))
    assert.equal("bob cy dee", found(User:query():doesnt_have("projects.tasks", ">", 1)))
    assert.equal("ann", found(User:query():has("follows.follows.projects", ">=", 3)))
  end)

  it("goes from a model to itself", function()
    assert.equal("ann", found(User:query():has("follows", ">", 1)))
    assert.equal("ann bob", found(User:query():has("follows")))
    assert.equal("bob", found(User:query():where_has("follows", function(q) q:where("name", "ann") end)))
  end)

  it("counts what on_query lets see", function()
    assert.equal("ann bob", found(User:query():has("live")))
    assert.equal("", found(User:query():has("live", ">", 1)))
    assert.equal("bob", found(User:query():where_has("live", function(q) q:where("title", "beta") end)))
    assert.equal("ann bob", found(User:query():where_has("live", function(q)
      q:where("title", "none"):or_where("points", ">", 0) -- an or does not reach on_query
    end)))
  end)

  it("takes other keys, and no key is no key", function()
    local other = User:create { name = "eve", badge = "gold" }
    lumo.connection():command(lumo.ordered { { "insert", "badge_user" }, { "documents", lumo.array {
      lumo.ordered { { "user_badge", "gold" }, { "badge_code", "g" } },
      lumo.ordered { { "user_badge", lumo.null }, { "badge_code", "n" } }, lumo.ordered { { "badge_code", "m" } },
    } } })
    assert.equal("eve", found(User:query():has("badges")))
    assert.equal("", found(User:query():where_has("badges", function(q) q:where("code", "g") end)))
    other.badges:create { code = "x" }
    assert.equal("eve", found(User:query():where_has("badges", function(q) q:where("code", "x") end)))
  end)
end)

describe("where_has", function()
  it("asks the related records, which then must exist", function()
    assert.equal("ann bob", found(User:query():where_has("projects", function(q) q:where("title", "beta") end)))
    assert.equal("ann bob", found(User:query():where_has("projects", function(q) q:where("points", ">=", 0) end)))
    assert.equal("ann bob cy", found(User:query():where_has("projects", function() end)))
    assert.equal("cy dee", found(User:query():where_doesnt_have("projects", function(q)
      q:where("title", "beta")
    end)))
  end)

  it("asks the pivot", function()
    assert.equal("ann bob cy", found(User:query():where_has("projects", function(q)
      q:where_pivot("role", "admin")
    end)))
    assert.equal("ann", found(User:query():where_has("projects", function(q)
      q:where("project_user.role", "guest")
    end)))
    assert.equal("ann", found(User:query():where_has("projects", function(q)
      q:where_in_pivot("role", { "guest", "editor" })
    end, ">=", 2)))
    assert.equal("ann bob", found(User:query():where_has("projects", function(q)
      q:where_pivot("role", "admin"):where("active", true)
    end)))
    assert.equal("bob", found(User:query():where_has("projects", function(q)
      q:where_pivot("role", "admin"):where("title", "beta")
    end)))
  end)

  it("compares the number of those that match", function()
    local function active(q) q:where("active", true) end
    assert.equal("ann", found(User:query():where_has("projects", active, ">", 1)))
    assert.equal("bob", found(User:query():where_has("projects", active, "=", 1)))
    assert.equal("cy dee", found(User:query():where_has("projects", active, "=", 0)))
    assert.equal("bob cy dee", found(User:query():where_doesnt_have("projects", active, ">", 1)))
  end)

  it("nests, and its function belongs to the last part of a path", function()
    assert.equal("ann", found(User:query():where_has("projects", function(q)
      q:where_has("tasks", function(tasks) tasks:where("done", true) end)
    end)))
    assert.equal("ann", found(User:query():where_has("projects.tasks", function(q) q:where("done", true) end)))
    assert.equal("bob cy dee", found(User:query():where_doesnt_have("projects.tasks", function(q)
      q:where("done", true)
    end)))
    assert.equal("bob", found(User:query():where_has("projects", function(q)
      q:where_pivot("role", "admin"):has("tasks", "=", 1)
    end)))
    assert.equal("ann", found(User:query():where_has("projects", function(q)
      q:where("title", "none"):or_doesnt_have("tasks")
    end)))
  end)

  it("has all its forms, in both spellings", function()
    local function beta(q) q:where("title", "beta") end
    assert.equal("ann bob dee", found(User:query():where("name", "dee"):or_where_has("projects", beta)))
    assert.equal("bob", found(User:query():where("level", 2):and_where_has("projects", beta)))
    assert.equal("ann cy dee", found(User:query():where("name", "ann"):or_where_doesnt_have("projects", beta)))
    assert.equal("cy", found(User:query():where("level", 3):and_where_doesnt_have("projects", beta)))
    assert.equal("ann bob", found(User:query():whereHas("projects", beta)))
    assert.equal("cy dee", found(User:query():whereDoesntHave("projects", beta)))
    assert.equal("ann cy dee", found(User:query():where("name", "ann"):orWhereDoesntHave("projects", beta)))
    assert.equal("dee", found(User:query():doesntHave("projects")))
    assert.equal("ann bob cy", found(User:query():where("name", "ann"):orHas("projects")))
  end)

  it("says what it is while on_query and the function run", function()
    local seen = {}
    User:query():where_has("projects", function(q)
      seen = { q.is_related_sub_query, q.isRelatedQuery, q.is_related_preload_query, q.is_pivot_only_query }
    end)
    assert.same({ true, false, false, false }, seen)
    assert.is_true(User:get_relation("projects"):sub_query().is_related_sub_query)
  end)
end)

describe("A query with has", function()
  local function q() return User:query():has("projects"):order_by("name", "desc") end

  it("gives documents without what was joined", function()
    local one = q():first()
    assert.equal("cy", one.name)
    assert.is_nil(one:get("lumo:0"))
    assert.same({ "_id", "badge", "level", "name" }, (function()
      local names = {}
      for name in pairs(q():where("name", "ann"):lean():exec()[1]) do names[#names + 1] = name end
      if #names == 3 then names[#names + 1] = "badge" end -- nil is not stored
      table.sort(names)
      return names
    end)())
    one.level = 9
    one:save()
    assert.equal(9, User:find(one.id).level)
  end)

  it("does all that a query does, in one command each", function()
    for _, case in ipairs {
      { "exec", function() return #q():exec() end, 3 }, { "first", function() return q():first().name end, "cy" },
      { "exists", function() return q():exists() end, true }, { "count", function() return q():count() end, 3 },
      { "limited count", function() return q():limit(2):offset(2):count() end, 1 },
      { "sum", function() return q():sum("level") end, 6 }, { "max", function() return q():max("level") end, 3 },
      { "limited sum", function() return q():limit(1):sum("level") end, 3 },
      { "pluck", function() return table.concat(q():pluck("name"), " ") end, "cy bob ann" },
      { "distinct", function() return table.concat(q():distinct("name"), " ") end, "ann bob cy" },
      { "limit", function() return found(q():limit(1):offset(1)) end, "bob" },
      { "select", function() return q():select("name"):first().level == nil end, true },
      { "lean", function() return q():lean():exec()[2].name end, "bob" },
      { "each", function()
        local names = ""
        for one in q():each() do names = names .. one.name .. " " end
        return names
      end, "cy bob ann " },
      { "comment and collation", function()
        return #User:query():has("projects"):where("name", "ANN"):collation { locale = "en", strength = 2 }
          :comment("x"):max_time_ms(5000):exec()
      end, 1 },
    } do
      local value
      local commands, list = lumo.count_commands(function() value = case[2]() end)
      assert.equal(case[3], value, case[1])
      assert.equal(1, commands, case[1])
      assert.equal("aggregate", list[1].name)
    end
  end)

  it("pages, explains, clones, and tells what it would send", function()
    local page = q():paginate(2, 2)
    assert.equal(3, page.total)
    assert.equal("ann", page[1].name)
    assert.is_table(q():explain())
    local base = q()
    local clone = base:clone():doesnt_have("follows")
    assert.equal("ann bob cy", found(base))
    assert.equal("cy", found(clone))
    assert.truthy(tostring(base):find("$lookup", 1, true))
  end)

  it("pages by key, each page of the same conditions", function()
    local page = q():with_count("projects"):cursor_paginate { per_page = 2 }
    assert.equal("cy bob", page[1].name .. " " .. page[2].name)
    assert.equal(1, page[2].extras.projects_count)
    page = q():cursor_paginate { per_page = 2, cursor = page.next_cursor }
    assert.equal("ann", page[1].name)
    assert.is_nil(page.next_cursor)
    local function titled(title)
      return User:query():where_has("projects", function(p) p:where("title", title) end):order_by("name")
    end
    local cursor = titled("beta"):cursor_paginate { per_page = 1 }.next_cursor
    expect_error("E_ARGUMENT", nil, function() titled("gamma"):cursor_paginate { per_page = 1, cursor = cursor } end)
  end)

  it("asks the stored fields first", function()
    local text = tostring(User:query():has("projects"):where("name", "ann"))
    assert.truthy(text:find('"$match"') < text:find('"$lookup"'))
    assert.truthy(text:find('"ann"') < text:find('"$lookup"'))
    helper.command { { "createIndexes", "users" }, { "indexes", lumo.array {
      { key = { name = "text" }, name = "words" },
    } } }
    assert.equal("ann", found(User:query():has("projects"):where_raw { ["$text"] = { ["$search"] = "ann" } }))
    text = tostring(User:query():has("projects"):or_where("name", "ann"))
    assert.truthy(text:find('"ann"') > text:find('"$lookup"'))
  end)

  it("preloads", function()
    local list = q():preload("projects"):exec()
    assert.equal(3, #list[3].projects)
    assert.equal(0, #list[1].projects)
  end)

  it("is a bulk write: what it finds is written, in one transaction", function()
    assert.equal(3, User:query():has("projects"):update { level = 7 })
    assert.equal("ann bob cy", found(User:query():where("level", 7)))
    assert.equal(1, User:query():doesnt_have("projects"):where("level", 4):increment("level", 2))
    assert.equal(6, User:find_by("name", "dee").level)
    assert.equal(0, User:query():has("projects", ">", 5):decrement("level"))
    assert.equal(1, User:query():where_has("projects", function(p) p:where("title", "gamma") end):delete())
    assert.equal("bob cy dee", found(User:query()))
    local commands = lumo.count_commands(function() User:query():has("projects"):update { level = 1 } end)
    assert.equal(3, commands) -- the ids, the write, the commit
  end)

  it("writes what its options let it find", function()
    local function ann() return User:query():where("name", "ANN"):has("projects") end
    assert.equal(0, ann():update { level = 8 })
    assert.equal(1, ann():collation { locale = "en", strength = 2 }:comment("x"):max_time_ms(5000):update { level = 8 })
    assert.equal(8, User:find(users.ann.id).level)
    assert.equal(3, User:query():has("projects"):hint("_id_"):update { level = 8 })
  end)

  it("keeps the rule that a bulk write needs a filter", function()
    expect_error("E_ARGUMENT", nil, function() User:query():has("projects", ">=", 0):delete() end)
    expect_error("E_ARGUMENT", nil, function() User:query():doesnt_have("projects", "<", 0):update { level = 1 } end)
    assert.equal(0, User:query():has("projects", "<", 0):delete())
    assert.equal(4, User:query():count())
  end)

  it("runs in transactions", function()
    lumo.transaction(function()
      users.dee.projects:attach(projects.alpha)
      assert.equal("ann bob cy dee", found(User:query():has("projects")))
      assert.equal(4, User:query():has("projects"):update { level = 5 })
    end)
    assert.equal(4, User:query():where("level", 5):count())
  end)

  it("finds one and changes it, in two commands", function()
    local one
    local commands = lumo.count_commands(function()
      one = q():where("level", "<", 3):find_one_and_update { level = 8 }
    end)
    assert.equal(2, commands)
    assert.equal("bob 8", one.name .. " " .. one.level)
    assert.equal("cy", q():find_one_and_delete().name)
    assert.equal("ann bob dee", found(User:query()))
    assert.is_nil(User:query():has("projects", ">", 7):find_one_and_update { level = 1 })
    expect_error("E_ARGUMENT", nil, function() q():limit(1):find_one_and_delete() end)
  end)

  it("is as it was after a group that failed", function()
    local query = User:query():where("level", ">", 0)
    pcall(query.where, query, function(group)
      group:has("projects"):where("nope", 1)
    end)
    assert.equal("ann bob cy dee", found(query))
    assert.falsy(tostring(query):find("$lookup", 1, true))
    query:has("projects")
    pcall(query.where, query, function(group) group:has("follows"):where("nope", 1) end)
    assert.equal("ann bob cy", found(query))
    assert.equal("ann bob", found(query:has("follows")))
  end)
end)

describe("Bad input", function()
  local function refused(code, text, ...)
    local arguments, n = { ... }, select("#", ...)
    local method = arguments[1]
    local query = User:query()
    expect_error(code, text, function()
      query[method](query, (table.unpack or unpack)(arguments, 2, n))
    end)
    assert.equal("ann bob cy dee", found(query)) -- and is no condition
  end
  local function fn() end

  it("is refused", function()
    refused("E_UNDEFINED_RELATIONSHIP", '"nope" is not defined as a relationship on "HasUser" model', "has", "nope")
    refused("E_UNDEFINED_RELATIONSHIP", '"nope" is not defined as a relationship on "HasProject" model', "has",
      "projects.nope")
    refused("E_UNDEFINED_RELATIONSHIP", nil, "where_has", "name", fn)
    refused("E_ARGUMENT", nil, "has")
    refused("E_ARGUMENT", nil, "has", nil)
    refused("E_ARGUMENT", nil, "has", {})
    refused("E_ARGUMENT", nil, "has", "")
    refused("E_ARGUMENT", nil, "has", ".projects")
    refused("E_ARGUMENT", nil, "has", "projects.")
    refused("E_ARGUMENT", nil, "has", "projects..tasks")
    refused("E_ARGUMENT", nil, "has", "projects", ">")
    refused("E_ARGUMENT", nil, "has", "projects", ">", nil)
    refused("E_ARGUMENT", nil, "has", "projects", nil, 1)
    refused("E_ARGUMENT", nil, "has", "projects", "like", 1)
    refused("E_ARGUMENT", nil, "has", "projects", 2)
    refused("E_ARGUMENT", nil, "has", "projects", "$gt", 1)
    refused("E_ARGUMENT", nil, "has", "projects", ">", "1")
    refused("E_ARGUMENT", nil, "has", "projects", ">", -1)
    refused("E_ARGUMENT", nil, "has", "projects", ">", 1.5)
    refused("E_ARGUMENT", nil, "has", "projects", ">", 0 / 0)
    refused("E_ARGUMENT", nil, "has", "projects", ">", 1e18)
    refused("E_ARGUMENT", nil, "has", "projects", ">", 1, 2)
    refused("E_ARGUMENT", nil, "has", "projects", ">", {})
    refused("E_ARGUMENT", nil, "where_has", "projects")
    refused("E_ARGUMENT", nil, "where_has", "projects", nil)
    refused("E_ARGUMENT", nil, "where_has", "projects", {})
    refused("E_ARGUMENT", nil, "where_has", "projects", fn, ">")
    refused("E_ARGUMENT", nil, "doesnt_have", "projects", fn)
    refused("E_UNDEFINED_COLUMN", nil, "where_has", "projects", function(q) q:where("nope", 1) end)
    refused("E_CAST", nil, "where_has", "projects", function(q) q:where("points", { ["$ne"] = 1 }) end)
    refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q:where("title", nil) end)
    refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q:limit(3) end)
    refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q:offset(3) end)
    refused("E_UNSUPPORTED", nil, "where_has", "projects", function(q) q:hint("_id_") end)
  end)

  it("is a query inside of another one that is sent", function()
    for _, method in ipairs { "exec", "first", "first_or_fail", "exists", "count", "each", "delete", "paginate",
      "explain", "find_one_and_delete", "count_distinct" } do
      refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q:where("points", 1)[method](q) end)
    end
    for _, method in ipairs { "sum", "avg", "min", "max", "pluck", "distinct" } do
      refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q[method](q, "points") end)
    end
    refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q:where("points", 1):update { points = 1 } end)
    refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q:where("points", 1):increment("points") end)
    refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q:preload("tasks") end)
    refused("E_ARGUMENT", nil, "where_has", "projects", function(q) q:as("x") end)
    expect_error("E_ARGUMENT", nil, function() User:get_relation("projects"):sub_query():exec() end)
    expect_error("E_ARGUMENT", nil, function() User:query():as("x") end)
    expect_error("E_ARGUMENT", nil, function() User.query():has("projects") end)
    local has = User:query().has
    expect_error("E_ARGUMENT", nil, function() has("projects") end)
  end)
end)

describe("Across a relation", function()
  local function tasked(q) q:has("tasks") end

  it("asks the related records of one parent", function()
    local function q() return users.ann.projects:query():has("tasks"):order_by("title") end
    assert.equal("alpha beta", found(q()))
    assert.equal("gamma", found(users.ann.projects:query():doesnt_have("tasks")))
    assert.equal(2, q():count())
    assert.equal("alpha", q():first().title)
    assert.equal("beta", q():limit(1):offset(1):first().title)
    assert.equal("admin", q():first().extras.pivot_role)
    assert.is_true(q():exists())
    assert.equal(30, q():sum("points"))
    assert.equal("alpha beta", table.concat(q():pluck("title"), " "))
    assert.equal("beta", found(q():where_pivot("role", "guest")))
    assert.equal("alpha beta", found(users.ann.projects:query():where_pivot("role", "guest"):or_has("tasks", ">", 1)))
    assert.equal("alpha", found(users.ann.projects:query():where_has("tasks", function(t) t:where("done", true) end)))
    assert.equal("alpha", q():select("title"):first().title)
    assert.is_nil(q():first():get("lumo:0"))
    assert.equal(2, q():paginate(1, 1).total)
    local titles = {}
    for one in q():each() do titles[#titles + 1] = one.title end
    assert.same({ "alpha", "beta" }, titles)
    assert.truthy(tostring(q()):find("$lookup", 1, true))
  end)

  it("asks those of many", function()
    local list = User:query():order_by("name"):preload("projects", function(q)
      q:has("tasks"):order_by("title")
    end):exec()
    local titles = {}
    for i, one in ipairs(list) do titles[i] = #one.projects end
    assert.same({ 2, 1, 0, 0 }, titles)
    assert.equal("alpha", list[1].projects[1].title)
    assert.equal("guest", list[1].projects[2].pivot.role)
    assert.is_nil(list[1].projects[1]:get("lumo:0"))
    list = User:query():order_by("name"):preload("projects", function(q)
      q:where_has("users", function(u) u:where("name", "bob") end):group_limit(1)
    end):exec()
    assert.equal("beta", list[1].projects[1].title)
    assert.equal(1, #list[1].projects)
    users.ann:load("projects", tasked)
    assert.equal(2, #users.ann.projects)
  end)

  it("writes", function()
    assert.equal(2, users.ann.projects:query():has("tasks"):update { points = 7 })
    assert.equal("alpha beta", found(Project:query():where("points", 7)))
    assert.equal(1, users.ann.projects:query():has("tasks", ">", 1):increment("points"))
    assert.equal(8, Project:find(projects.alpha.id).points)
    assert.equal(1, users.ann.projects:query():doesnt_have("tasks"):delete())
    assert.equal("alpha beta", found(Project:query()))
    assert.equal("beta", users.ann.projects:query():has("tasks", "=", 1):find_one_and_delete().title)
  end)

  it("mixes both sides by or inside of a function", function()
    assert.equal("ann bob", found(User:query():where_has("projects", function(q)
      q:where("title", "gamma"):or_where("title", "beta"):or_where_pivot("role", "editor")
    end)))
    assert.equal("ann bob cy", found(User:query():has("projects"):where_doesnt_have("projects", function(q)
      q:where("title", "none"):or_where_pivot("role", "none")
    end)))
    assert.equal("ann bob", found(User:query():where_has("projects", function(q)
      q:where("points", ">", 100):or_where_pivot("role", "admin")
    end)))
    assert.equal("ann", found(User:query():where_has("projects", function(q)
      q:where("title", "gamma"):or_where_pivot("role", "guest")
    end, "=", 2)))
    assert.equal("ann", found(User:query():where_has("projects", function(q)
      q:where_pivot("role", "guest"):or_has("tasks", ">", 1)
    end)))
    assert.equal("ann", found(User:query():where_has("projects", function(q)
      q:where(function(g) g:where("title", "gamma"):or_where_pivot("role", "guest") end):where("active", true)
    end)))
  end)
end)

describe("Over pivot documents", function()
  local Owner = lumo.model("HasOwner", {
    collection = "owners", columns = { name = "string" },
    relations = { projects = lumo.many_to_many("HasProject", {
      pivot_model = "HasMembership", pivot_foreign_key = "owner_id", pivot_related_foreign_key = "project_id",
    }) },
  })
  local Membership = lumo.model("HasMembership", {
    collection = "memberships", columns = { owner_id = "objectid", project_id = "objectid", role = "string" },
    relations = { tasks = lumo.many_to_many("HasTask", { pivot_table = "membership_task" }) },
  })

  it("works where the pivot's model has relations", function()
    local owner = Owner:create { name = "o" }
    owner.projects:attach { [projects.alpha.id] = { role = "a" }, [projects.beta.id] = { role = "b" } }
    Membership:find_by("role", "a").tasks:attach(Task:query():where("done", true):first())
    local function q() return owner.projects:pivot_query():order_by("role") end
    assert.equal("a", q():has("tasks"):first().role)
    assert.equal(1, q():doesnt_have("tasks"):count())
    assert.equal(1, q():with_count("tasks"):first().extras.tasks_count)
    assert.equal(1, q():has("tasks"):update { role = "c" })
    assert.equal(1, Membership:query():where("role", "c"):count())
    expect_error("E_ARGUMENT", nil, function() q():has("tasks"):update { owner_id = lumo.objectid() } end)
    assert.equal(1, q():has("tasks"):delete())
    assert.equal(1, owner.projects:count())
    expect_error("E_UNDEFINED_RELATIONSHIP", nil, function() users.ann.projects:pivot_query():has("projects") end)
  end)

  it("is not for the elements of arrays", function()
    local Basket = lumo.model("HasBasket", {
      columns = { items = { "array", of = { "object", columns = { sku = "string" } } } },
    })
    for _, method in ipairs { "has", "with_count" } do
      expect_error("E_ARGUMENT", nil, function()
        Basket:query():where_elem_match("items", function(item) item[method](item, "projects") end)
      end)
    end
  end)
end)
