-- One story over every kind of relation, embedded documents, indexes, events and change streams, in one spelling or
-- the other. It is run inline, in a loop and inside nginx, and must end the same; what it tells is a line for each
-- part of it.
local lumo = require "lumo"

local relations = {}

local spellings = {
  snake = function(name) return name end,
  camel = function(name) return (name:gsub("_(%l)", string.upper)) end,
}

local function options(spell, given)
  local result = {}
  for name, value in pairs(given or {}) do result[spell(name)] = value end
  return result
end

--- Calls a method by its name in the spelling at hand.
local function caller(spell)
  return function(object, name, ...)
    local method = object[spell(name)]
    if method == nil then error(spell(name) .. " is missing", 2) end
    return method(object, ...)
  end
end

local function define(spell, suffix)
  local function relation(kind, related, ...)
    local arguments = { ... }
    arguments[#arguments] = options(spell, arguments[#arguments])
    return lumo[spell(kind)](related .. suffix, (table.unpack or unpack)(arguments))
  end
  local m = {}
  local function model(name, columns, of, indexes)
    m[name] = lumo.model(name .. suffix, {
      collection = name:lower() .. suffix, columns = columns, relations = of, indexes = indexes,
    })
  end
  model("Country", { name = "string" }, {
    users = relation("has_many", "User", { foreign_key = "country_id", on_delete = "restrict" }),
    posts = relation("has_many_through", "Post", "User" .. suffix,
      { foreign_key = "country_id", through_foreign_key = "user_id" }),
  })
  model("User", { name = "string", country_id = "objectid" }, {
    country = relation("belongs_to", "Country", { foreign_key = "country_id" }),
    profile = relation("has_one", "Profile", { foreign_key = "user_id", on_delete = "nullify" }),
    posts = relation("has_many", "Post", { foreign_key = "user_id", on_delete = "cascade" }),
  })
  model("Profile", { about = "string", user_id = "objectid" })
  model("Post", {
    title = "string", views = { "integer", default = 0 }, user_id = "objectid",
    labels = { "array", of = "string" }, votes = { "array", of = { "object", columns = {
      name = "string", n = "integer",
    } } },
    stats = { "object", columns = { likes = "integer" } },
  }, {
    tags = relation("many_to_many", "Tag", {
      pivot_table = "post_tag" .. suffix, pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      pivot_columns = { "weight" }, on_delete = "detach",
    }),
  }, { { "title" }, { { "views", "desc" }, "title" } })
  model("Tag", { name = "string" })
  model("Hooked", { name = "string", user_id = "objectid" })
  m.Hooked[spell "belongs_to"](m.Hooked, "user", "User" .. suffix, options(spell, { foreign_key = "user_id" }))
  m.User[spell "has_many"](m.User, "hooked", "Hooked" .. suffix, options(spell, { foreign_key = "user_id" }))
  return m
end

local function texts(list, attribute)
  local result = {}
  for i, one in ipairs(list) do result[i] = tostring(one[attribute or "title"]) end
  table.sort(result)
  return table.concat(result, ",")
end

local parts = {}

function parts.belonging(m, call)
  local land, ada = m.Country:create { name = "Land" }, m.User:new { name = "Ada" }
  local country = call(ada, "related", "country")
  call(country, "associate", land)
  local before = ada.is_persisted and ada.country_id == land._id and call(land.users:query(), "count")
  local eve = call(land.users, "create", { name = "Eve" })
  call(call(eve, "related", "country"), "dissociate")
  call(call(ada, "related", "profile"), "save", m.Profile:new { about = "Counts." })
  call(call(ada, "related", "profile"), "update_or_create", { about = "Counts." }, { about = "Counts things." })
  return ("%s %s %s %s"):format(tostring(before), tostring(eve.country_id), call(m.Profile, "count"),
    call(ada, "load", "profile").profile.about)
end

function parts.many(m, call)
  local ada = call(m.User, "find_by", "name", "Ada")
  call(ada.posts, "create_many", { { title = "One", views = 1 }, { title = "Two", views = 2 } })
  call(ada.posts, "save_many", { m.Post:new { title = "Three", views = 3 } })
  call(ada.posts, "first_or_create", { title = "Three" })
  local fetched = call(ada.posts, "fetch_or_create_many", "title", { { title = "One" }, { title = "Four" } })
  local updated = call(ada.posts, "update_or_create_many", "title", { { title = "Four", views = 4 } })
  local users = call(call(m.User, "query"), "preload", "posts", function(q)
    call(call(q, "group_limit", 2), "group_order_by", "views", "desc")
  end)
  local counted = call(call(call(m.User, "query"), "with_count", "posts"), "where_has", "posts", function(q)
    q:where("views", ">", 3)
  end)
  return ("%d %d %s %s"):format(#fetched, updated[1].views, texts(call(users:where("name", "Ada"), "first").posts),
    call(counted, "first").extras.posts_count)
end

function parts.through(m, call)
  local land = call(m.Country, "find_by", "name", "Land")
  local list = call(call(call(land, "related", "posts"), "query"):order_by("title"), "exec")
  local countries = call(call(call(m.Country, "query"), "preload", "posts"), "exec")
  local none = call(call(m.Country, "query"), "where_doesnt_have", "posts", function(q) q:where("views", 1) end)
  return ("%s %d %d"):format(texts(list), #countries[1].posts, call(none, "count"))
end

function parts.pairs(m, call, spell)
  local one, two = call(m.Post, "find_by", "title", "One"), call(m.Post, "find_by", "title", "Two")
  local red, blue = m.Tag:create { name = "red" }, m.Tag:create { name = "blue" }
  local attached = call(one.tags, "attach", { [red._id] = { weight = 1 }, [blue._id] = { weight = 2 } })
  local synced = call(one.tags, "sync_with_pivot_data", { { id = red._id, [spell "pivot_data"] = { weight = 5 } } })
  local toggled = call(two.tags, "toggle", { red._id, blue._id })
  call(two.tags, "update_pivot_data", blue, { weight = 9 })
  call(two.tags, "create", { name = "green" }, { weight = 3 })
  local heavy = call(call(two.tags, "query"), "where_pivot", "weight", ">", 2)
  local loaded = call(call(m.Post, "query"):where("title", "Two"):preload("tags"), "first")
  return ("%d %d/%d %d %s %s %s %d"):format(#attached.attached, #synced.updated, #synced.detached, #toggled.attached,
    texts(call(heavy, "exec"), "name"), texts(loaded.tags, "name"), call(two.tags, "pivot_data", blue).weight,
    call(two.tags, "detach"))
end

function parts.deleting(m, call)
  local land, ada = call(m.Country, "find_by", "name", "Land"), call(m.User, "find_by", "name", "Ada")
  local ok, err = pcall(call, land, "delete")
  call(call(m.Post, "find_by", "title", "One"), "delete")
  local rows = lumo.connection():command(lumo.ordered { { "count", m.pivot } }).n
  call(ada, "delete")
  call(land, "delete")
  return ("%s %s %d %d %s %d"):format(tostring(ok), err.code, rows, call(m.Post, "count"),
    tostring(call(m.Profile, "first").user_id), call(m.Country, "count"))
end

function parts.embedded(m, call)
  local post = m.Post:create { title = "Parts", labels = { "a" }, votes = { { name = "x", n = 1 } } }
  call(post, "push", "votes", { name = "y", n = 2 })
  call(post, "push", "labels", "b", "c")
  call(post, "pull", "labels", "a")
  call(post, "add_to_set", "labels", "b", "d")
  call(post, "inc", "stats.likes", 3)
  post.votes[1].n = 7
  local sent = {}
  local off = lumo.on("command", function(event)
    if event.collection == "post" .. m.suffix then sent[#sent + 1] = event.name end
  end)
  call(post, "save")
  off()
  call(post, "unset", "title")
  local found = call(call(m.Post, "query"), "where_elem_match", "votes", function(q)
    q:where("name", "y"):where("n", 2)
  end)
  local again = call(found, "first")
  return ("%s %s %d %d %s"):format(table.concat(sent, ","), table.concat(again.labels, ","), again.votes[1].n,
    again.stats.likes, tostring(again.title))
end

function parts.indexes(m, call, spell)
  local made = call(m.Post, "ensure_indexes")
  local second = call(m.Post, "ensure_indexes")
  local mine = 0
  for _, kind in ipairs { "missing", "differs" } do
    for _, one in ipairs(lumo[spell "index_plan"]()[kind]) do
      if tostring(one.collection) == "post" .. m.suffix then mine = mine + 1 end
    end
  end
  return ("%d %d %d"):format(#made, #second, mine)
end

function parts.events(m, call, spell)
  local seen, slow = {}, 0
  local off = lumo.on("command", function(event)
    if event.collection == "tag" .. m.suffix then seen[#seen + 1] = event.name .. " " .. event.op end
  end)
  local stop = lumo[spell "slow_log"] { ms = 0, fn = function(event)
    if event.collection == "tag" .. m.suffix then slow = slow + 1 end
  end }
  m.Tag:create { name = "seen" }
  call(m.Tag, "find_by", "name", "seen")
  off()
  stop()
  call(m.Tag, "count")
  return ("%s %d"):format(table.concat(seen, ","), slow)
end

function parts.streams(m, call, spell)
  local given = options(spell, { max_await_ms = 300, full_document = "update_lookup" })
  local stream = m.Post:watch(given)
  local of_pairs = m.Post:watch("tags", options(spell, { max_await_ms = 300 }))
  local post, tag = m.Post:create { title = "watched" }, m.Tag:create { name = "watched" }
  call(post.tags, "attach", { [tag._id] = { weight = 4 } })
  call(post, "merge", { title = "watched on" })
  call(post, "save")
  call(post, "delete")
  local types = {}
  for i = 1, 3 do types[i] = stream:next().type end
  local one, two = of_pairs:next(), of_pairs:next()
  types[4], types[5], types[6] = one.type, two.type, tostring(two.owner_id == post._id)
  types[7] = tostring(call(stream, "try_next"))
  stream:close()
  of_pairs:close()
  return table.concat(types, " ") .. " " .. one.pivot.weight
end

--- Hooks that wait for the server, wherever they are called.
function parts.hooks(m, call)
  local told, refusing = {}, false
  for _, event in ipairs { "save", "create", "update", "delete", "find", "fetch", "paginate" } do
    for _, when in ipairs { "before", "after" } do
      m.Hooked[when](m.Hooked, event, function()
        told[#told + 1] = (when == "before" and "<" or ">") .. event .. call(m.Hooked:query():lean(), "count")
        if refusing and when == "after" then error("no", 0) end
      end)
    end
  end
  local user = m.User:create { name = "hooked" }
  local one = call(user.hooked, "create", { name = "a" })
  call(one, "merge", { name = "b" }):save()
  call(call(m.User, "query"):where("id", user.id):preload("hooked"), "first")
  call(user.hooked, "paginate", 1)
  for each in m.Hooked:query():each() do call(m.Hooked, "find", each.id) end
  refusing = true
  local ok = pcall(function() call(user.hooked, "create_many", { { name = "c" }, { name = "d" } }) end)
  refusing = false
  one:delete()
  return ("%s %s %d"):format(table.concat(told, " "), tostring(ok), call(m.Hooked, "count"))
end

local ORDER = {
  "belonging", "many", "through", "pairs", "deleting", "embedded", "indexes", "events", "streams", "hooks",
}

--- Runs all parts in a spelling; `tell` gets a line for each.
function relations.run(spelling, tell)
  local spell = spellings[spelling]
  local m = define(spell, "_" .. spelling)
  m.suffix, m.pivot = "_" .. spelling, "post_tag_" .. spelling
  for _, name in ipairs(ORDER) do
    local ok, result = pcall(parts[name], m, caller(spell), spell)
    tell(("%s: %s"):format(name, ok and result or "raised " .. tostring(result)))
  end
end

return relations
