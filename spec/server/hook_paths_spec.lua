-- Which hooks fire on which path, each path there is; and for every hook of every path: one that raises goes through,
-- leaves the documents and the records as they were, and before a write it lets nothing be sent. Every hook queries
-- and writes something of its own.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("hook_paths")
-- What is stored is looked at from outside of any transaction of the connection.
helper.conn = lumo.connect(helper.uri(), { name = "hook paths raw", database = helper.database })
teardown(helper.drop)

local EVENTS = { "save", "create", "update", "delete", "find", "fetch", "paginate" }
local COLLECTIONS = { "lands", "users", "posts", "tags", "user_tags" }

-- What the hooks have told, and at which of them one raises.
local told, raising

local Log = lumo.model("PathLog", { collection = "logs", columns = { text = "string" } })

--- Has all hooks of a model tell a letter and what they are: "p<save" before a save, "p>save" after it.
local function tell(model, letter)
  for _, event in ipairs(EVENTS) do
    for _, when in ipairs { "before", "after" } do
      model[when](model, event, function()
        told[#told + 1] = letter .. (when == "before" and "<" or ">") .. event
        if raising == #told then error("raised", 0) end
        Log:create { text = told[#told] }
        assert.is_true(Log:query():where("text", told[#told]):exists())
      end)
    end
  end
  return model
end

local Land = tell(lumo.model("PathLand", {
  collection = "lands", columns = { name = "string" },
  relations = {
    users = lumo.has_many("PathUser", { foreign_key = "land_id", on_delete = "nullify" }),
    posts = lumo.has_many_through("PathPost", "PathUser", {
      foreign_key = "land_id", through_foreign_key = "user_id",
    }),
  },
}), "l")
local User = tell(lumo.model("PathUser", {
  collection = "users", columns = { name = "string", land_id = "objectid" },
  relations = {
    land = lumo.belongs_to("PathLand", { foreign_key = "land_id" }),
    page = lumo.has_one("PathPost", { foreign_key = "user_id" }),
    posts = lumo.has_many("PathPost", { foreign_key = "user_id", on_delete = "cascade" }),
    tags = lumo.many_to_many("PathTag", {
      pivot_table = "user_tags", pivot_foreign_key = "user_id", pivot_related_foreign_key = "tag_id",
      on_delete = "detach",
    }),
  },
}), "u")
local CONTENT = { title = "string", n = "integer", user_id = "objectid" }
-- The hooks of posts stand in a model two levels up.
local Base = lumo.model("PathBase", { collection = "bases", columns = CONTENT })
local Middle = lumo.model("PathMiddle", { collection = "middles", extends = Base })
local Post = lumo.model("PathPost", { collection = "posts", extends = Middle })
tell(Base, "p")
local Tag = tell(lumo.model("PathTag", { collection = "tags", columns = CONTENT }), "t")

local FIND, FETCH, PAGE = "p<find p>find", "p<fetch p>fetch", "p<paginate p<fetch p>fetch p>paginate"
local CREATE, UPDATE = "p<create p<save p>create p>save", "p<update p<save p>update p>save"
local CREATE_MANY = "p<create p<create p<save p<save p>create p>create p>save p>save"
local BOTH = "p<update p<save p<create p<save p>update p>save p>create p>save"

-- { name, hooks, call, prepare }: prepare makes what the call is given, outside of what is told.
local paths = {}
local function path(name, hooks, call, prepare)
  paths[#paths + 1] = { name = name, hooks = hooks, call = call, prepare = prepare }
end

---- models and records

path("create", CREATE, function() Post:create { title = "b" } end)
path("create_many", CREATE_MANY, function() Post:create_many { { title = "b" }, { title = "c" } } end)
path("create_quietly", "", function() Post:create_quietly { title = "b" } end)
path("save, new", CREATE, function(s) s.new:save() end, function(s) s.new = Post:new { title = "b" } end)
path("save", UPDATE, function(s) s.post:save() end, function(s) s.post.n = 2 end)
path("save, clean", UPDATE, function(s) s.post:save() end)
path("save_quietly", "", function(s) s.post:save_quietly() end, function(s) s.post.n = 2 end)
path("delete", "p<delete p>delete", function(s) s.post:delete() end)
path("delete_quietly", "", function(s) s.post:delete_quietly() end)
path("refresh, fresh, increment", "", function(s) s.post:refresh() s.post:fresh() s.post:increment("n") end)
path("delete, cascade and detach", "p<delete u<delete p>delete u>delete", function(s) s.user:delete() end)
path("delete_quietly, cascade and detach", "", function(s) s.user:delete_quietly() end)
path("delete, nullify", "l<delete l>delete", function(s) s.land:delete() end)

for method, argument in pairs {
  first = false, first_or_fail = false, find = "id", find_or_fail = "id", find_by = "title", find_by_or_fail = "title",
} do
  path(method, FIND, function(s)
    if argument == "id" then return Post[method](Post, s.post._id) end
    if argument then return Post[method](Post, "title", "a") end
    Post[method](Post)
  end)
end
path("find_by, none", "p<find", function() Post:find_by("title", "none") end)
path("all", FETCH, function() Post:all() end)
path("find_many", FETCH, function(s) Post:find_many { s.post._id } end)
path("find_many_by", FETCH, function() Post:find_many_by("title", "a") end)
path("first_or_new", FIND, function() Post:first_or_new { title = "a" } end)
path("first_or_new, none", "p<find", function() Post:first_or_new { title = "b" } end)
path("first_or_create", FIND, function() Post:first_or_create { title = "a" } end)
path("first_or_create, none", "p<find " .. CREATE, function() Post:first_or_create { title = "b" } end)
path("update_or_create", FIND .. " " .. UPDATE, function() Post:update_or_create({ title = "a" }, { n = 2 }) end)
path("update_or_create, none", "p<find " .. CREATE, function() Post:update_or_create({ title = "b" }, { n = 2 }) end)
local ROWS = { { title = "a", n = 5 }, { title = "b" } }
path("fetch_or_new_up_many", FETCH, function() Post:fetch_or_new_up_many("title", ROWS) end)
path("fetch_or_create_many", FETCH .. " " .. CREATE, function() Post:fetch_or_create_many("title", ROWS) end)
path("update_or_create_many", FETCH .. " " .. BOTH, function() Post:update_or_create_many("title", ROWS) end)
path("truncate", "", function() Post:truncate() end)
path("counts and lists of values", "", function()
  Post:count()
  Post:query():exists()
  Post:query():sum("n")
  Post:query():pluck("title")
  Post:query():distinct("title")
  Post:aggregate {}
  Post:query():lean():exec()
end)

---- queries

path("query first", FIND, function() Post:query():where("n", 1):first() end)
path("query first_or_fail", FIND, function() Post:query():first_or_fail() end)
path("query exec", FETCH, function() Post:query():exec() end)
path("query each", FETCH, function() for _ in Post:query():each() do assert(true) end end)
path("query paginate", PAGE, function() Post:query():paginate(1) end)
path("query cursor_paginate", PAGE, function() Post:query():cursor_paginate() end)
path("query bulk", "", function()
  Post:query():where("n", 1):update { n = 2 }
  Post:query():where("n", 2):increment("n", 2)
  Post:query():where("n", 4):find_one_and_update { n = 5 }
  Post:query():where("n", 5):delete()
end)

---- relations: the same for each, with the hooks of what is related

local function of_relation(name, letter)
  local is_pairs = name == "tags"
  local Model = is_pairs and Tag or Post
  local function hooks(text) return (text:gsub("p([<>])", letter .. "%1")) end
  local function on(what, text, call, prepare)
    path(name .. " " .. what, hooks(text), function(s) call(s.user:related(name), s) end, prepare)
  end
  -- Across a pivot the owner is saved, too: all before-hooks come first.
  local function with_owner(event, text)
    if not is_pairs and event == "update" then return text end
    local first, last = text:match("^(.-)( p>.*)$")
    return ("u<%s u<save %s u>%s u>save%s"):format(event, first, event, last)
  end
  local function related(s) return is_pairs and s.tag or s.post end
  local function make(s) s.new = Model:new { title = "b" } end

  on("create", CREATE, function(client) client:create { title = "b" } end)
  on("save, new", with_owner("update", CREATE), function(client, s) client:save(s.new) end, make)
  on("save", with_owner("update", UPDATE), function(client, s) client:save(related(s)) end,
    function(s) related(s).n = 9 end)
  path(name .. " save of a new owner", hooks(with_owner("create", CREATE)),
    function(s) s.owner:related(name):save(s.new) end, function(s)
      make(s)
      s.owner = User:new { name = "n" }
    end)
  on("first_or_create", FIND, function(client) client:first_or_create { title = "a" } end)
  on("first_or_create, none", "p<find " .. CREATE, function(client) client:first_or_create { title = "b" } end)
  on("update_or_create", FIND .. " " .. UPDATE,
    function(client) client:update_or_create({ title = "a" }, { n = 5 }) end)
  on("update_or_create, none", "p<find " .. CREATE,
    function(client) client:update_or_create({ title = "b" }, { n = 5 }) end)
  on("exec", name == "page" and FIND or FETCH, function(client) client:exec() end)
  on("first", FIND, function(client) client:query():first() end)
  on("each", FETCH, function(client) for _ in client:query():each() do assert(true) end end)
  on("load", FETCH, function(_, s) s.user:load(name) end)
  on("load_once", FETCH, function(_, s) s.user:load_once(name) end)
  on("lumo.load", FETCH, function(_, s) lumo.load({ s.user }, name) end)
  on("preload", "u<fetch p<fetch p>fetch u>fetch", function() User:query():preload(name):exec() end)
  on("preload of first", "u<find p<fetch p>fetch u>find", function() User:query():preload(name):first() end)
  on("counts", "u<fetch u>fetch", function(_, s)
    User:query():with_count(name):where_has(name, function(q) q:where("title", "a") end):exec()
    s.user:load_count(name)
  end)
  if name == "page" then return end
  on("find", FIND, function(client, s) client:find(related(s)._id) end)
  on("paginate", PAGE, function(client) client:paginate(1) end)
  on("cursor_paginate", PAGE, function(client) client:cursor_paginate() end)
  on("create_many", CREATE_MANY, function(client) client:create_many { { title = "b" }, { title = "c" } } end)
  local many = "p<create p<save p<update p<save p>create p>save p>update p>save"
  on("save_many", with_owner("update", many), function(client, s) client:save_many { s.new, related(s) } end, make)
end

of_relation("page", "p")
of_relation("posts", "p")
of_relation("tags", "t")

for _, name in ipairs { "page", "posts" } do
  path(name .. " create_quietly", "", function(s) s.user:related(name):create_quietly { title = "b" } end)
  path(name .. " save_quietly", "", function(s) s.user:related(name):save_quietly(s.post) end,
    function(s) s.post.n = 9 end)
end
for name, one in pairs { posts = "post", tags = "tag" } do
  path(name .. " create_many_quietly", "",
    function(s) s.user:related(name):create_many_quietly { { title = "b" }, { title = "c" } } end)
  path(name .. " save_many_quietly", "", function(s) s.user:related(name):save_many_quietly { s[one] } end,
    function(s) s[one].n = 9 end)
end
path("tags create_quietly", "", function(s) s.user:related("tags"):create_quietly { title = "b" } end)
path("tags save_quietly", "", function(s) s.user:related("tags"):save_quietly(s.tag) end, function(s) s.tag.n = 9 end)
path("tags save_quietly of a new owner", "u<create u<save u>create u>save",
  function(s) s.owner:related("tags"):save_quietly(s.tag) end, function(s) s.owner = User:new { name = "n" } end)
path("posts fetch_or_create_many", FETCH .. " " .. CREATE,
  function(s) s.user:related("posts"):fetch_or_create_many("title", ROWS) end)
path("posts update_or_create_many", FETCH .. " " .. BOTH,
  function(s) s.user:related("posts"):update_or_create_many("title", ROWS) end)
path("associate", "l<create l<save u<create u<save l>create l>save u>create u>save",
  function(s) s.new:related("land"):associate(s.other) end,
  function(s) s.new, s.other = User:new { name = "n" }, Land:new { name = "m" } end)
path("associate, stored", "u<update u<save u>update u>save", function(s) s.user:related("land"):associate(s.other) end,
  function(s) s.other = Land:create_quietly { name = "m" } end)
path("dissociate", "u<update u<save u>update u>save", function(s) s.user:related("land"):dissociate() end)
path("land exec", "l<find l>find", function(s) s.user:related("land"):exec() end)
path("land preload", "u<fetch l<fetch l>fetch u>fetch", function() User:query():preload("land"):exec() end)
path("through exec", FETCH, function(s) s.land:related("posts"):exec() end)
path("through first", FIND, function(s) s.land:related("posts"):query():first() end)
path("through find", FIND, function(s) s.land:related("posts"):find(s.post._id) end)
path("through paginate", PAGE, function(s) s.land:related("posts"):paginate(1) end)
path("through preload", "l<fetch p<fetch p>fetch l>fetch", function() Land:query():preload("posts"):exec() end)
path("preload of two levels", "l<fetch u<fetch u>fetch p<fetch p>fetch l>fetch",
  function() Land:query():preload("users.posts"):exec() end)
path("attach, sync, detach", "", function(s)
  s.user.tags:detach()
  s.user.tags:attach(s.tag)
  s.user.tags:sync { s.tag }
end)

----------------------------------------------------------------------------------------------------------------

--- The documents and records that a path is about.
local function begin(one)
  helper.clear("lands", "users", "posts", "tags", "user_tags", "logs")
  told, raising = {}, nil
  local s = { land = Land:create_quietly { name = "l" } }
  s.user = User:create_quietly { name = "u", land_id = s.land._id }
  s.post = Post:create_quietly { title = "a", n = 1, user_id = s.user._id }
  s.tag = Tag:create_quietly { title = "a", n = 1 }
  s.user.tags:attach(s.tag)
  if one.prepare then one.prepare(s) end
  told = {}
  return s
end

local function stored()
  local all = {}
  for _, collection in ipairs(COLLECTIONS) do all[collection] = helper.docs(collection, {}, { _id = 1 }) end
  return all
end

local function states(s)
  local all = {}
  for name, one in pairs(s) do
    all[name] = {
      attributes = one:to_table(), dirty = one.dirty, is_persisted = one.is_persisted, is_deleted = one.is_deleted,
      trx = tostring(one.trx),
    }
  end
  return all
end

local WRITES = { insert = true, update = true, delete = true, findAndModify = true }

--- What a call has written that is no log of the hooks.
local function listen()
  local written = {}
  local off = lumo.on("command", function(event)
    if WRITES[event.name] and event.collection ~= "logs" then written[#written + 1] = event.name end
  end)
  return written, off
end

--- Runs a path whose hook number `at` raises.
local function check_raising(one, at, hook)
  local s = begin(one)
  local documents, records = stored(), states(s)
  raising = at
  local written, off = listen()
  local ok, err = pcall(one.call, s)
  off()
  local what = ("%s, raised in %s (%d)"):format(one.name, hook, at)
  assert.is_false(ok, what)
  assert.equal("raised", err, what)
  assert.equal(at, #told, what)
  assert.same(documents, stored(), what)
  assert.same(records, states(s), what)
  if hook:find("<", 1, true) then assert.equal("", table.concat(written, " "), what) end
end

describe("the hooks", function()
  for _, one in ipairs(paths) do
    it("of " .. one.name, function()
      one.call(begin(one))
      local hooks = told
      assert.equal(one.hooks, table.concat(hooks, " "))
      assert.equal(#hooks, #helper.docs("logs"))
      for at, hook in ipairs(hooks) do check_raising(one, at, hook) end
    end)
  end
end)
