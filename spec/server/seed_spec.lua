-- Every name and every example of the two documents that the relation follows: the reference of the class ManyToMany
-- with its query client and query builder, and the guide to belongsToMany. Each case is one name there; all of them
-- run in both spellings, over models that are defined in that spelling.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("seed")
teardown(helper.drop)

local sorted, texts = helper.sorted, helper.texts

local function snake(name) return name end
local function camel(name) return (name:gsub("_(%l)", string.upper)) end

--- Calls a method by its name in the spelling at hand.
local function caller(spell)
  return function(object, name, ...)
    local method = object[spell(name)]
    assert.is_not_nil(method, ("%s is missing"):format(spell(name)))
    return method(object, ...)
  end
end

local function options(spell, given)
  local result = {}
  for name, value in pairs(given) do result[spell(name)] = value end
  return result
end

--- One attribute of each record, sorted.
local function names_of(list, attribute)
  local values = helper.pluck(list, attribute or "title")
  table.sort(values)
  return values
end

---- the class

local function class_models(spell, suffix)
  local many_to_many = lumo[spell("many_to_many")]
  local m = {}
  local given = {
    pivot_table = "user_projects" .. suffix, pivot_foreign_key = "user_id", pivot_related_foreign_key = "project_id",
    local_key = "id", related_key = "id", pivot_columns = { "role", "created_at", "updated_at" },
    serialize_as = "teamProjects",
  }
  local function with(more)
    local all = {}
    for name, value in pairs(given) do all[name] = value end
    for name, value in pairs(more) do all[name] = value end
    return many_to_many("SeedProject" .. suffix, options(spell, all))
  end
  m.User = lumo.model("SeedUser" .. suffix, {
    collection = "users" .. suffix,
    columns = { id = { "integer", primary = true }, name = "string" },
    relations = {
      projects = with { pivot_timestamps = true },
      active = with { on_query = function(query) query:where("is_active", true) end },
      with_tasks = with {
        on_query = function(query)
          if not query[spell("is_related_sub_query")] then query:preload("tasks") end
        end,
      },
      bare = many_to_many(function() return m.Project end),
    },
  })
  m.Project = lumo.model("SeedProject" .. suffix, {
    collection = "projects" .. suffix,
    columns = {
      id = { "integer", primary = true }, title = "string", is_active = { "boolean", default = true },
      updated_at = "integer",
    },
    relations = { tasks = many_to_many("SeedTask" .. suffix) },
  })
  m.Task = lumo.model("SeedTask" .. suffix, {
    collection = "tasks" .. suffix, columns = { id = { "integer", primary = true } },
  })
  m.pivot = "user_projects" .. suffix
  return m
end

--- A user with projects 1 to 4 of the roles admin, editor, guest and none.
local function fill(m, call)
  for id, title in ipairs { "one", "two", "three", "four" } do
    m.Project:create { id = id, title = title, updated_at = 10 - id }
  end
  local user = m.User:create { id = 1, name = "u" }
  call(user:related("projects"), "attach", {
    [1] = { role = "admin" }, [2] = { role = "editor" }, [3] = { role = "guest" }, [4] = { score = 1 },
  })
  return user
end

--- A case for a method of the builder: what it finds of the four projects.
local function finds(expected, name, ...)
  local arguments = { n = select("#", ...), ... }
  return function(m, call)
    local user = fill(m, call)
    local query = call(user:related("projects"), "query")
    if name:find("^or_") then call(query, "where_pivot", "role", "guest") end
    call(query, name, (table.unpack or unpack)(arguments, 1, arguments.n))
    assert.same(expected, names_of(query:exec()))
  end
end

local CLASS = {
  type = function(m, _, relation) assert.equal("manyToMany", relation(m.User, "projects").type) end,
  relation_name = function(m, _, relation, spell)
    assert.equal("projects", relation(m.User, "projects")[spell("relation_name")])
  end,
  serialize_as = function(m, call, relation, spell)
    assert.equal("teamProjects", relation(m.User, "projects")[spell("serialize_as")])
    assert.equal("bare", relation(m.User, "bare")[spell("serialize_as")])
    local user = fill(m, call):load("projects")
    assert.equal(4, #user:serialize().teamProjects)
  end,
  booted = function(m, _, relation) assert.equal("boolean", type(relation(m.User, "with_tasks").booted)) end,
  boot = function(m, call, relation)
    local found = relation(m.User, "active")
    assert.equal(found, call(found, "boot"))
    assert.is_true(found.booted)
  end,
  model = function(m, _, relation) assert.equal(m.User, relation(m.User, "projects").model) end,
  related_model = function(m, _, relation, spell)
    assert.equal(m.Project, relation(m.User, "projects")[spell("related_model")]())
    assert.equal(m.Project, relation(m.User, "bare")[spell("related_model")]())
  end,
  local_key = function(m, _, relation, spell)
    assert.equal("id", relation(m.User, "projects")[spell("local_key")])
    assert.equal("id", relation(m.User, "bare")[spell("local_key")])
  end,
  related_key = function(m, _, relation, spell)
    assert.equal("id", relation(m.User, "projects")[spell("related_key")])
  end,
  pivot_foreign_key = function(m, _, relation, spell)
    assert.equal("user_id", relation(m.User, "projects")[spell("pivot_foreign_key")])
    assert.truthy(relation(m.User, "bare")[spell("pivot_foreign_key")]:find("^seed_user.*_id$"))
  end,
  pivot_related_foreign_key = function(m, _, relation, spell)
    assert.equal("project_id", relation(m.User, "projects")[spell("pivot_related_foreign_key")])
  end,
  pivot_table = function(m, _, relation, spell)
    assert.equal(m.pivot, relation(m.User, "projects")[spell("pivot_table")])
    assert.truthy(relation(m.User, "bare")[spell("pivot_table")]:find("^seed_project.*_seed_user"))
  end,
  pivot_columns = function(m, call, relation, spell)
    assert.same({ "role", "created_at", "updated_at" }, relation(m.User, "projects")[spell("pivot_columns")])
    local user = fill(m, call)
    local one = call(user:related("projects"), "query"):where("id", 4)
    assert.is_nil(one:first().extras.pivot_score)
    assert.equal(1, call(one, "pivot_columns", { "score" }):first().extras.pivot_score)
    assert.truthy(one:first().extras.pivot_created_at)
    assert.equal(4, one:first().extras.pivot_project_id)
  end,
  on_query = function(m, call, relation, spell)
    assert.equal("function", type(relation(m.User, "active")[spell("on_query")]))
    local user = fill(m, call)
    m.Project:query():where("id", 2):update { is_active = false }
    assert.same({ "four", "one", "three" }, names_of(user.active:exec()))
    m.Task:create { id = 7 }
    m.Project:find(1).tasks:attach(7)
    local loaded = m.User:query():preload("with_tasks"):first()
    for _, project in ipairs(loaded.with_tasks) do assert.equal(project.id == 1 and 1 or 0, #project.tasks) end
    assert.equal(1, m.User:query():has("with_tasks"):count())
  end,
  set_related = function(m, call, relation)
    local user, project = m.User:new(), m.Project:new()
    call(relation(m.User, "projects"), "set_related", user, { project })
    assert.equal(project, user.projects[1])
  end,
  push_related = function(m, call, relation)
    local user = m.User:new()
    for _ = 1, 3 do call(relation(m.User, "projects"), "push_related", user, m.Project:new()) end
    assert.equal(3, #user.projects)
  end,
  set_related_for_many = function(m, call, relation)
    local users, projects = {}, {}
    for i = 1, 4 do users[i] = m.User:new { id = i } end
    for i, user_id in ipairs { 1, 1, 2, 3 } do
      projects[i] = m.Project:new { id = i }
      projects[i].extras.pivot_user_id = user_id
    end
    call(relation(m.User, "projects"), "set_related_for_many", users, projects)
    assert.same({ 2, 1, 1, 0 }, { #users[1].projects, #users[2].projects, #users[3].projects, #users[4].projects })
    assert.equal(projects[4], users[3].projects[1])
  end,
  client = function(m, call, relation)
    local user = fill(m, call)
    assert.equal(4, call(relation(m.User, "projects"), "client", user):count())
  end,
  get_pivot_pair = function(m, call, relation)
    fill(m, call)
    assert.same({ "user_id", 1 }, call(relation(m.User, "projects"), "get_pivot_pair", m.User:find(1)))
  end,
  get_pivot_related_pair = function(m, call, relation)
    fill(m, call)
    assert.same({ "project_id", 1 }, call(relation(m.User, "projects"), "get_pivot_related_pair", m.Project:find(1)))
  end,
  eager_query = function(m, call, relation)
    local user = fill(m, call)
    local query = call(relation(m.User, "projects"), "eager_query", { user })
    assert.same({ "four", "one" }, names_of(query:where_in("id", { 1, 4 }):exec()))
  end,
  sub_query = function(m, call, relation, spell)
    local query = call(relation(m.User, "projects"), "sub_query")
    assert.is_true(query[spell("is_related_sub_query")])
    helper.expect_refused({ "E_ARGUMENT", "E_UNSUPPORTED" }, function() query:exec() end)
  end,
  get_relation = function(m, call)
    assert.equal("projects", call(m.User, "get_relation", "projects").relation_name)
  end,
  related = function(m, call)
    assert.equal(4, call(fill(m, call), "related", "projects"):count())
  end,

  -- the query client
  create = function(m, call, _, spell)
    local user = m.User:create { id = 1 }
    local project = call(user:related("projects"), "create", { id = 5, title = "Shipping v5" })
    assert.is_true(project[spell("is_persisted")])
    call(user:related("projects"), "create", { id = 6, title = "Shipping v5" }, { role = "admin" })
    assert.equal("admin", helper.doc(m.pivot, { project_id = 6 }).role)
    local trx = lumo.transaction()
    local inside = m.User:query({ client = trx }):first()
    call(inside:related("projects"), "create", { id = 7 })
    assert.equal(2, m.Project:count())
    trx:commit()
    assert.equal(3, user.projects:count())
  end,
  create_many = function(m, call)
    local user = m.User:create { id = 1 }
    call(user:related("projects"), "create_many",
      { { id = 1, title = "Shipping v5" }, { id = 2, title = "Recording screencasts" } })
    call(user:related("projects"), "create_many", { { id = 3 }, { id = 4 } }, { { role = "admin" }, nil })
    assert.equal(4, user.projects:count())
    assert.equal(1, #helper.docs(m.pivot, { role = "admin" }))
    assert.is_false((pcall(function() call(user:related("projects"), "create_many", { { id = 5 }, { id = 4 } }) end)))
    assert.equal(4, m.Project:count())
  end,
  save = function(m, call, _, spell)
    m.User:create { id = 1 }
    local project = m.Project:new { id = 9 }
    project.title = "Shipping v5"
    local user = m.User:find(1)
    call(user:related("projects"), "save", project)
    assert.is_true(project[spell("is_persisted")])
    assert.equal(1, project.extras.pivot_user_id)
    assert.is_true(project.extras.pivot_project_id == project.id)
    call(user:related("projects"), "save", project, {}, true)
    assert.equal(1, user.projects:count())
  end,
  save_many = function(m, call)
    local user = m.User:create { id = 1 }
    local one, two = m.Project:new { id = 1 }, m.Project:new { id = 2 }
    one.title, two.title = "Shipping v5", "Recording screencasts"
    call(user:related("projects"), "save_many", { one, two })
    assert.same({ "Recording screencasts", "Shipping v5" }, names_of(user.projects:exec()))
  end,
  attach = function(m, call)
    fill(m, call)
    local user, project = m.User:create { id = 2 }, m.Project:find(1)
    call(user:related("projects"), "attach", { project.id })
    assert.equal(1, user.projects:count())
    call(user:related("projects"), "attach", { [project.id] = { role = "admin" } })
    assert.equal("admin", helper.doc(m.pivot, { user_id = 2 }).role)
  end,
  detach = function(m, call)
    local user = fill(m, call)
    call(user:related("projects"), "detach", { 1, 2, 3 })
    assert.same({ 4 }, user.projects:ids())
    call(user:related("projects"), "detach")
    assert.equal(0, user.projects:count())
  end,
  sync = function(m, call)
    local user = fill(m, call)
    call(user:related("projects"), "sync", { 1, 2, 4, 5 })
    assert.same({ "1", "2", "4", "5" }, sorted(user.projects:ids()))
    call(user:related("projects"), "detach", { 1 })
    local result = call(user:related("projects"), "sync", { 1, 2 }, false)
    assert.same({ { 1 }, {} }, { result.attached, result.detached })
    result = call(user:related("projects"), "sync", {
      [1] = { role = "admin" }, [4] = { role = "guest" }, [3] = { role = lumo.null },
    })
    assert.same({ "1", "3", "4" }, sorted(user.projects:ids()))
    assert.same({ { 3 }, { 1, 4 }, { "2", "5" } }, { result.attached, result.updated, sorted(result.detached) })
    assert.equal(lumo.null, helper.doc(m.pivot, { project_id = 3 }).role)
  end,
  query = function(m, call)
    local user = fill(m, call)
    assert.equal(1, #call(user:related("projects"), "query"):where("title", "two"):exec())
  end,

  -- the query builder
  where_pivot = finds({ "one" }, "where_pivot", "role", "admin"),
  and_where_pivot = finds({ "one" }, "and_where_pivot", "role", "admin"),
  or_where_pivot = finds({ "one", "three" }, "or_where_pivot", "role", "admin"),
  where_not_pivot = finds({ "four", "three", "two" }, "where_not_pivot", "role", "admin"),
  and_where_not_pivot = finds({ "four", "three", "two" }, "and_where_not_pivot", "role", "admin"),
  or_where_not_pivot = finds({ "four", "three", "two" }, "or_where_not_pivot", "role", "admin"),
  where_in_pivot = finds({ "one", "two" }, "where_in_pivot", "role", { "admin", "editor" }),
  and_where_in_pivot = finds({ "one", "two" }, "and_where_in_pivot", "role", { "admin", "editor" }),
  or_where_in_pivot = finds({ "one", "three", "two" }, "or_where_in_pivot", "role", { "admin", "editor" }),
  where_not_in_pivot = finds({ "four", "three" }, "where_not_in_pivot", "role", { "admin", "editor" }),
  and_where_not_in_pivot = finds({ "four", "three" }, "and_where_not_in_pivot", "role", { "admin", "editor" }),
  or_where_not_in_pivot = finds({ "four", "three" }, "or_where_not_in_pivot", "role", { "admin", "editor" }),
  where_null_pivot = finds({ "four" }, "where_null_pivot", "role"),
  and_where_null_pivot = finds({ "four" }, "and_where_null_pivot", "role"),
  or_where_null_pivot = finds({ "four", "three" }, "or_where_null_pivot", "role"),
  where_not_null_pivot = finds({ "one", "three", "two" }, "where_not_null_pivot", "role"),
  and_where_not_null_pivot = finds({ "one", "three", "two" }, "and_where_not_null_pivot", "role"),
  or_where_not_null_pivot = finds({ "one", "three", "two" }, "or_where_not_null_pivot", "role"),
  group_limit = function(m, call)
    fill(m, call)
    m.User:create { id = 2 }.projects:attach { 1, 2, 3 }
    local users = m.User:query():order_by("id"):preload("projects", function(q) call(q, "group_limit", 2) end):exec()
    assert.same({ { "four", "three" }, { "three", "two" } },
      { names_of(users[1].projects), names_of(users[2].projects) })
  end,
  group_order_by = function(m, call)
    fill(m, call)
    local user = m.User:query():preload("projects", function(query)
      call(call(query, "group_limit", 3), "group_order_by", m.Project.collection .. ".updated_at", "desc")
    end):first()
    assert.same({ "one", "two", "three" }, helper.pluck(user.projects, "title"))
  end,
}

-- The names as the reference lists them, so that no case can be forgotten.
local CLASS_NAMES = [[
  type relation_name serialize_as booted boot model related_model local_key related_key pivot_foreign_key
  pivot_related_foreign_key pivot_table pivot_columns on_query set_related push_related set_related_for_many client
  get_pivot_pair get_pivot_related_pair eager_query sub_query get_relation related
  create create_many save save_many attach detach sync query
  where_pivot and_where_pivot or_where_pivot where_not_pivot or_where_not_pivot and_where_not_pivot
  where_in_pivot and_where_in_pivot or_where_in_pivot where_not_in_pivot or_where_not_in_pivot and_where_not_in_pivot
  where_null_pivot and_where_null_pivot or_where_null_pivot where_not_null_pivot or_where_not_null_pivot
  and_where_not_null_pivot group_limit group_order_by
]]

---- the guide

local function guide_models(spell, suffix)
  local belongs_to_many = lumo[spell("belongs_to_many")]
  local m = {}
  m.Post = lumo.model("SeedPost" .. suffix, {
    collection = "posts" .. suffix, columns = { _id = "objectid", title = "string", content = "string" },
    relations = {
      tags = belongs_to_many(function() return m.Tag end, function() return m.PostTag end, "post_id", "tag_id"),
    },
  })
  m.Tag = lumo.model("SeedTag" .. suffix, {
    collection = "tags" .. suffix, columns = { _id = "objectid", name = "string", slug = "string" },
    relations = {
      posts = belongs_to_many(function() return m.Post end, function() return m.PostTag end, "tag_id", "post_id",
        "_id", "_id"),
    },
  })
  m.PostTag = lumo.model("SeedPostTag" .. suffix, {
    collection = "post_tags" .. suffix,
    columns = { _id = "objectid", post_id = "objectid", tag_id = "objectid", createdAt = "date" },
  })
  m.pivot = "post_tags" .. suffix
  return m
end

local function guide_fill(m)
  local post = m.Post:create { title = "Introduction to MongoDB", content = "MongoDB is a NoSQL database..." }
  return post, m.Tag:create { name = "MongoDB", slug = "mongodb" }, m.Tag:create { name = "NoSQL", slug = "nosql" },
    m.Tag:create { name = "Performance", slug = "performance" }
end

local function data(spell, id, pivot_data)
  return { id = id, [spell("pivot_data")] = pivot_data }
end

local GUIDE = {
  belongs_to_many = function(m, call)
    local relation = call(m.Post, "get_relation", "tags")
    assert.same({ "post_id", "tag_id", m.pivot }, {
      relation.pivot_foreign_key, relation.pivot_related_foreign_key, relation.pivot_table,
    })
    assert.equal(m.PostTag, relation.pivot_model())
  end,
  exec = function(m)
    local post, tag = guide_fill(m)
    post.tags:attach(tag)
    assert.same({ "MongoDB" }, names_of(m.Post:find(post._id).tags:exec(), "name"))
    assert.same({ post.title }, names_of(m.Tag:find(tostring(tag._id)).posts:exec()))
  end,
  attach = function(m, call)
    local post, one, two = guide_fill(m)
    call(post.tags, "attach", { one._id, two._id })
    assert.equal(2, post.tags:count())
  end,
  attach_with_pivot_data = function(m, call, spell)
    local post, one, two = guide_fill(m)
    call(post.tags, "attach_with_pivot_data", {
      data(spell, one._id, { createdAt = lumo.datetime.now(), weight = 10 }), data(spell, two._id, { weight = 5 }),
    })
    assert.equal(10, helper.doc(m.pivot, { tag_id = one._id }).weight)
    assert.truthy(helper.doc(m.pivot, { tag_id = one._id }).createdAt)
  end,
  detach = function(m, call)
    local post, one, two = guide_fill(m)
    post.tags:attach { one._id, two._id }
    call(post.tags, "detach", { one._id })
    assert.same(texts { two._id }, texts(post.tags:ids()))
    call(post.tags, "detach")
    assert.equal(0, post.tags:count())
  end,
  sync = function(m, call)
    local post, one, two, three = guide_fill(m)
    post.tags:attach { one._id, two._id }
    call(post.tags, "sync", { two._id, three._id })
    assert.same(sorted { two._id, three._id }, sorted(post.tags:ids()))
  end,
  sync_with_pivot_data = function(m, call, spell)
    local post, one, two, three = guide_fill(m)
    post.tags:attach { one._id, two._id }
    call(post.tags, "sync_with_pivot_data", {
      data(spell, two._id, { weight = 8 }), data(spell, three._id, { weight = 12 }),
    })
    assert.same({ 8, 12 }, {
      helper.doc(m.pivot, { tag_id = two._id }).weight, helper.doc(m.pivot, { tag_id = three._id }).weight,
    })
    assert.is_false(post.tags:exists(one))
  end,
  exists = function(m, call)
    local post, one, two = guide_fill(m)
    post.tags:attach { one._id }
    assert.is_true(call(post.tags, "exists", one._id))
    assert.is_false(call(post.tags, "exists", two._id))
  end,
  pivot_data = function(m, call)
    local post, one = guide_fill(m)
    post.tags:attach { [one._id] = { weight = 10 } }
    assert.equal(10, call(post.tags, "pivot_data", one._id).weight)
  end,
  update_pivot_data = function(m, call)
    local post, one = guide_fill(m)
    post.tags:attach { [one._id] = { weight = 10 } }
    call(post.tags, "update_pivot_data", one._id, { weight = 15 })
    assert.equal(15, post.tags:pivot_data(one).weight)
  end,
  find = function(m) assert.equal("MongoDB", m.Tag:find(select(2, guide_fill(m))._id).name) end,
  create = function(m) assert.is_not_nil(guide_fill(m)._id) end,
  query = function(m)
    local post, one = guide_fill(m)
    post.tags:attach { one._id }
    assert.equal(1, #m.Tag:query():where("slug", "mongodb"):first().posts:exec())
  end,
}

local GUIDE_NAMES = [[
  belongs_to_many exec attach attach_with_pivot_data detach sync sync_with_pivot_data exists pivot_data
  update_pivot_data find create query
]]

local function walk(text, cases, run)
  local count = 0
  for name in text:gmatch("%S+") do
    count = count + 1
    it(name, function()
      assert.is_function(cases[name], "no case for " .. name)
      run(cases[name])
    end)
  end
  it("is walked whole", function()
    for _ in pairs(cases) do count = count - 1 end
    assert.equal(0, count)
  end)
end

for suffix, spell in pairs { _s = snake, _c = camel } do
  local call = caller(spell)
  local spelling = spell == snake and "in snake_case" or "in camelCase"

  describe("the class, its client and its builder, " .. spelling, function()
    local m = class_models(spell, suffix)
    local function relation(Model, name) return call(Model, "get_relation", name) end
    before_each(function()
      helper.clear("users" .. suffix, "projects" .. suffix, "tasks" .. suffix, m.pivot)
    end)
    walk(CLASS_NAMES, CLASS, function(case) case(m, call, relation, spell) end)
  end)

  describe("the guide, " .. spelling, function()
    local m = guide_models(spell, suffix)
    before_each(function() helper.clear("posts" .. suffix, "tags" .. suffix, m.pivot) end)
    walk(GUIDE_NAMES, GUIDE, function(case) case(m, call, spell) end)
  end)
end
