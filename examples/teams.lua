--[[
teams.lua: users, their projects and their roles in them; the class of a many-to-many relation, the relation object,
its client and its query builder, as one script.

    lua examples/teams.lua       (in a checkout: script/lua examples/teams.lua)

It connects to the MONGODB_URI of the environment, else starts a private server that is gone at the end. It works in a
database of its own, lumo_teams, and empties its three collections first.
]]

local lumo = require "lumo"

local function heading(text)
  print("\n" .. text)
end

-- One attribute of each record, sorted, in one line.
local function list(records, attribute)
  local texts = {}
  for i, record in ipairs(records) do
    texts[i] = tostring(record[attribute])
  end
  table.sort(texts)
  return #texts > 0 and table.concat(texts, ", ") or "none"
end

-- What a relation's write did: how many pairs of each kind.
local function describe(result)
  return ("%d attached, %d updated, %d unchanged, %d detached"):format(
    #result.attached, #result.updated, #result.unchanged, #result.detached)
end

-- ---- Models --------------------------------------------------------------------------------------

-- Everything but the related model could be left out: then the pivot collection would be project_user (the two names
-- in the singular, sorted), its keys user_id and project_id, and reads would bring along nothing of it but the keys.
local User = lumo.model("User", {
  columns = { name = "string" },
  relations = {
    projects = lumo.many_to_many("Project", {
      pivot_table = "project_user",
      pivot_foreign_key = "user_id",             -- a field of the pivot
      pivot_related_foreign_key = "project_id",
      local_key = "_id",                         -- an attribute of User
      related_key = "_id",                       -- an attribute of Project
      pivot_columns = { "role" },                -- what reads bring along
      pivot_timestamps = true,                   -- created_at and updated_at of the pair
      serialize_as = "team_projects",            -- its name in JSON
    }),
    -- The same pairs, of active projects only. on_query gets every query over the related records; what it preloads
    -- would be of no use in a query that is a part of another one.
    active_projects = lumo.many_to_many("Project", {
      pivot_table = "project_user",
      pivot_columns = { "role" },
      on_query = function(query)
        query:where("is_active", true)
        if not query.is_related_sub_query then query:preload("users") end
      end,
    }),
    -- Those in which the user is the owner: a part of the same pairs. What on_query says of the pivot binds writes,
    -- too, and what it compares with one value is what new pairs get.
    owned_projects = lumo.many_to_many("Project", {
      pivot_table = "project_user",
      on_query = function(query) query:where_pivot("role", "owner") end,
    }),
  },
})

local Project = lumo.model("Project", {
  columns = { title = { "string", required = true }, is_active = { "boolean", default = true } },
  relations = {
    users = lumo.many_to_many("User", { pivot_table = "project_user", pivot_columns = { "role" } }),
  },
})

local uri = os.getenv("MONGODB_URI") or ""
local connection = lumo.connect(uri ~= "" and uri or "embedded:", { database = "lumo_teams" })

User:truncate()
Project:truncate()
connection:command(lumo.ordered{
  { "delete", "project_user" }, { "deletes", lumo.array{ lumo.ordered{ { "q", {} }, { "limit", 0 } } } },
})

-- An index of the pivot from each side, one of them unique.
print("indexes created: " .. #lumo.ensure_indexes())

-- ---- The relation object -------------------------------------------------------------------------

heading "The relation object"
local relation = User:get_relation("projects")
print("type                       " .. relation.type)
print("relation_name              " .. relation.relation_name)
print("serialize_as               " .. relation.serialize_as)
print("model                      " .. relation.model.model_name)
print("related_model()            " .. relation.related_model().model_name)
print("local_key                  " .. relation.local_key)
print("related_key                " .. relation.related_key)
print("pivot_foreign_key          " .. relation.pivot_foreign_key)
print("pivot_related_foreign_key  " .. relation.pivot_related_foreign_key)
print("pivot_table                " .. relation.pivot_table)
print("pivot_columns              " .. table.concat(relation.pivot_columns, ", "))
-- Keys and names are computed on first use; boot() does it at once.
print("booted                     " .. tostring(relation:boot().booted))

-- ---- create and create_many ----------------------------------------------------------------------

heading "Creating"
local ada = User:create{ name = "Ada" }

-- Two documents, the project and the pair, or none.
local shipping = ada:related("projects"):create({ title = "Shipping v5" }, { role = "admin" })
print(("%s, as %s"):format(shipping.title, shipping.extras.pivot_role))

-- Attributes stand beside the rows; where there is no table, the pair has none.
ada:related("projects"):create_many(
  { { title = "Recording screencasts" }, { title = "Writing docs" } },
  { { role = "editor" }, nil }
)
print("projects of Ada: " .. list(ada.projects:exec(), "title"))

-- All or nothing: the second row breaks a rule, so the first one is not stored either.
local ok, err = pcall(function()
  ada:related("projects"):create_many{ { title = "Never stored" }, { is_active = false } }
end)
---@cast err +lumo.Error
print(("a row without a title: %s, %s; projects: %d"):format(tostring(ok), err.code, Project:count()))

-- ---- save and save_many --------------------------------------------------------------------------

heading "Saving"
local eve = User:new{ name = "Eve" }
local website = Project:new{ title = "Website" }
eve:related("projects"):save(website, { role = "owner" })      -- stores both, then the pair
print(eve.is_persisted, website.is_persisted)
print(website.extras.pivot_user_id == eve._id, website.extras.pivot_project_id == website._id)

-- A second time adds no pair: it is there.
eve:related("projects"):save(website)
print("pairs of Eve: " .. eve.projects:count())

eve:related("projects"):save_many{ Project:new{ title = "Newsletter", is_active = false }, shipping }
print("projects of Eve: " .. list(eve.projects:exec(), "title"))

-- Found inside the relation, or made: the second call finds what the first has made.
local blog = eve.projects:first_or_create({ title = "Blog" }, nil, { role = "guest" })
print("first_or_create again: " .. tostring(eve.projects:first_or_create{ title = "Blog" }._id == blog._id))
eve.projects:update_or_create({ title = "Blog" }, { is_active = false })
print("Blog is active: " .. tostring(Project:find(blog._id).is_active))

-- ---- attach, detach, sync ------------------------------------------------------------------------

heading "Attaching, detaching, syncing"
print("by ids: " .. describe(ada.projects:attach{ website._id }))
print("with attributes: " .. describe(ada.projects:attach{ [website._id] = { role = "guest" } }))
print("detached: " .. ada.projects:detach{ website._id })

-- After a sync the pairs are exactly these. A kept pair keeps its attributes, its _id and its created_at.
print("sync: " .. describe(ada.projects:sync{ shipping._id, website._id }))
print("role in the kept pair: " .. ada.projects:pivot_data(shipping).role)

-- Without detaching: only adds what is missing.
local docs = Project:find_by("title", "Writing docs")
print("sync(ids, false): " .. describe(ada.projects:sync({ docs._id }, false)))

-- With attributes: inserts, updates and deletes as the difference demands.
print("sync with attributes: " .. describe(ada.projects:sync{
  [shipping._id] = { role = "admin" },              -- as it is
  [website._id] = { role = "editor" },              -- changes
  [docs._id] = { role = lumo.null },                -- null
}))

-- ---- Two relations over one pivot ----------------------------------------------------------------

heading "A part of the pairs"
print("owned by Eve: " .. list(eve.owned_projects:exec(), "title"))
print("takes Blog over: " .. describe(eve.owned_projects:attach(blog)))        -- the pair is there, its role changes
print("owns one only: " .. describe(eve.owned_projects:sync{ website }))       -- the guest's and editor's pairs stay
print("pairs of Eve: " .. eve.projects:count())

-- ---- The query builder ---------------------------------------------------------------------------

heading "Queries across the relation"
local function query()
  return ada:related("projects"):query()
end
print("where_pivot            " .. list(query():where_pivot("role", "admin"):exec(), "title"))
print("or_where_pivot         "
  .. list(query():where_pivot("role", "admin"):or_where_pivot("role", "editor"):exec(), "title"))
print("where_not_pivot        " .. list(query():where_not_pivot("role", "admin"):exec(), "title"))
print("where_in_pivot         " .. list(query():where_in_pivot("role", { "admin", "editor" }):exec(), "title"))
print("where_not_in_pivot     " .. list(query():where_not_in_pivot("role", { "admin", "editor" }):exec(), "title"))
print("where_null_pivot       " .. list(query():where_null_pivot("role"):exec(), "title"))
print("where_not_null_pivot   " .. list(query():where_not_null_pivot("role"):exec(), "title"))

-- Conditions on both sides, order and limit; a name may begin with its collection's.
for _, project in ipairs(query():where("is_active", true):where("project_user.role", "!=", "guest")
  :order_by("projects.title", "desc"):limit(2):exec()) do
  print(("%s, as %s"):format(project.title, tostring(project.pivot.role)))
end

-- pivot_columns reads more of the pair for this query; the timestamps come anyhow.
local first = query():pivot_columns{ "invited_by" }:order_by("title"):first()
print("attached at a date: " .. tostring(first.extras.pivot_created_at.ms > 0))

-- Columns of the pair put in order, and conditions of both sides joined by or.
print("order_by_pivot         " .. query():order_by_pivot("role", "desc"):first().title)
print("or across both sides   "
  .. list(query():where("title", "Writing docs"):or_where_pivot("role", "admin"):exec(), "title"))

-- on_query: Eve has three projects, two of them active.
local active = eve.active_projects:exec()
print(("Eve: %d projects, %d of them active"):format(#eve.projects:exec(), #active))
for _, project in ipairs(active) do
  print(("%s, with %s"):format(project.title, list(project.users, "name")))
end

-- ---- Eager loading -------------------------------------------------------------------------------

heading "Preloading"
local users ---@type lumo.Record[]
local count = lumo.count_commands(function()
  users = User:query():order_by("name"):preload("projects", function(q)
    q:where("is_active", true):order_by("title")
  end):preload("projects.users"):exec()
end)
for _, user in ipairs(users) do
  for _, project in ipairs(user.projects) do
    print(("%s: %s (%s), with %s"):format(
      user.name, project.title, tostring(project.extras.pivot_role), list(project.users, "name")))
  end
end
print("commands: " .. count)

local picked = users[1]:serialize{ fields = { "name" }, relations = { team_projects = { fields = { "title" } } } }
print(("serialized: %s has %d team_projects"):format(picked.name, #picked.team_projects))

-- Per parent: the first project of each user by title; how many there are comes along with it.
users = User:query():order_by("name"):with_count("projects"):preload("projects", function(q)
  q:group_limit(1):group_order_by("projects.title", "asc")
end):exec()
for _, one in ipairs(users) do
  print(("%s: %s, the first of %d"):format(one.name, list(one.projects, "title"), one.extras.projects_count))
end
print("with more than two: " .. list(User:query():has("projects", ">", 2):exec(), "name"))
print("who edits something: " .. list(User:query():where_has("projects", function(q)
  q:where_pivot("role", "editor")
end):exec(), "name"))

-- ---- What the relation object does by itself -----------------------------------------------------

heading "The relation object at work"
local pair = relation:get_pivot_pair(ada)
print(pair[1], pair[2] == ada._id)
pair = relation:get_pivot_related_pair(shipping)
print(pair[1], pair[2] == shipping._id)

-- What preload does, by hand: the related records of several users, distributed by extras.pivot_user_id.
local parents = { User:find_or_fail(ada._id), User:find_or_fail(eve._id) }
local related = relation:eager_query(parents):order_by("title"):exec()
relation:set_related_for_many(parents, related)
print(("%s: %d, %s: %d"):format(parents[1].name, #parents[1].projects, parents[2].name, #parents[2].projects))

-- Records that are known to be related can be set by hand; nothing is sent.
local user = User:new{ name = "Kim" }
relation:set_related(user, { shipping })
relation:push_related(user, Project:new{ title = "Not stored" })
print("set and pushed: " .. list(user.projects, "title"))

-- The client is what user.projects and user:related("projects") are, too.
print("client: " .. relation:client(ada):count() .. " pairs")

-- ---- Transactions --------------------------------------------------------------------------------

heading "Transactions"
-- Records that are read in a transaction belong to it, and so does what their relations write.
local trx = lumo.transaction()
local inside = User:query{ client = trx }:where("name", "Ada"):first()
inside:related("projects"):create{ title = "Rolled back" }
trx:rollback()
print("after the rollback: " .. tostring(Project:find_by("title", "Rolled back")))

lumo.transaction(function()
  eve.projects:detach()
  ada.projects:attach{ [website._id] = { role = "owner" } }
end)
print(("moved: Eve has %d, Ada is %s of the website"):format(
  eve.projects:count(), ada.projects:pivot_data(website).role))

connection:close()
