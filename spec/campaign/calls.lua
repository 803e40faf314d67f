-- What each public function is called with. Results are compared between runs, so they are texts, numbers or booleans,
-- and hold nothing that differs from run to run. Loaded once fixture.reset has made what is called.
local lumo = require "lumo"
local api = require "campaign.api"
local fixture = require "campaign.fixture"

local unpack = table.unpack or unpack -- LuaJIT has the latter

local calls = {}
local s = fixture.state

local function ids(list)
  local texts = {}
  for i, one in ipairs(list) do texts[i] = tostring(one) end
  return table.concat(texts, " ")
end

local function keys(records)
  local texts = {}
  for i, one in ipairs(records) do texts[i] = tostring(one.id) end
  table.sort(texts)
  return table.concat(texts, " ")
end

local function pairs_text(pairs_)
  return ("%s|%s|%s|%s"):format(ids(pairs_.attached), ids(pairs_.updated), ids(pairs_.unchanged), ids(pairs_.detached))
end

-- lumo
calls["lumo.connect"] = function()
  local connection = lumo.connect(fixture.uri(), { name = "second", database = "unused" })
  local database = connection.database
  connection:close()
  return database
end
calls["lumo.connection"] = function() return lumo.connection().database end
calls["lumo.model"] = function()
  local model = lumo.model("CampaignOther", {
    columns = { a = "string", b = { "object", columns = { c = { "array", of = "integer" } } } },
    relations = { tags = lumo.belongs_to_many("CampaignTag", nil, "other_id", "tag_id") },
  })
  return tostring(model) .. model:get_relation("tags").pivot_table
end
calls["lumo.belongs_to_many"] = function() return type(lumo.belongs_to_many("CampaignTag", nil, "a", "b")) end
calls["lumo.many_to_many"] = function() return type(lumo.many_to_many("CampaignTag", { pivot_columns = { "x" } })) end
for _, kind in ipairs { "has_one", "has_many", "belongs_to" } do
  calls["lumo." .. kind] = function() return type(lumo[kind]("CampaignTag", { foreign_key = "a" })) end
end
calls["lumo.has_many_through"] = function()
  local definition = lumo.has_many_through("CampaignTag", { "CampaignNote", "CampaignPostTag" }, {
    through_keys = { { local_key = "any" } },
  })
  s.Post:query():where("title", "post 2"):update { owner = s.Line:first()._id }
  local post = s.Post:find(s.post_id):load("deep", function(q) q:has("tags", "=", 0):group_limit(1) end)
  return type(definition) .. keys(post.deep) .. s.Post:query():has("deep"):with_count("deep"):first().extras.deep_count
end
calls["lumo.load"] = function()
  local posts = lumo.load(s.Post:query():order_by("title"):exec(), "tags")
  return keys(posts[1].tags) .. "/" .. #posts[2].tags
end
calls["lumo.count_commands"] = function()
  local count, list = lumo.count_commands(function() s.Post:count() end)
  return count .. list[1].name
end
calls["lumo.use_runtime"] = function() return lumo.use_runtime("inline") end
local function told(register)
  return function()
    local n = 0
    local off = register(function() n = n + 1 end)
    local ok, err = pcall(s.Post.count, s.Post)
    off()
    if not ok then error(err, 0) end
    return n
  end
end
calls["lumo.on"] = told(function(fn) return lumo.on("command", fn) end)
calls["lumo.slow_log"] = told(function(fn) return lumo.slow_log { ms = 0, fn = fn } end)
calls["lumo.warn_about"] = function()
  local n = 0
  lumo.warn_about { lazy_loading = "warn", collection_scans = "warn", fn = function() n = n + 1 end }
  local ok, err = pcall(function()
    for _, post in ipairs(s.Post:all()) do post:load("tags") end
    s.Post:query():where("title", "post 1"):where_has("tags", function(q) q:where("any", 5) end):exec()
  end)
  lumo.warn_about { lazy_loading = "off", collection_scans = "off" }
  if not ok then error(err, 0) end
  return n > 0
end
calls["lumo.ensure_indexes"] = function() return type(lumo.ensure_indexes()) end
calls["lumo.to_json"] = function() return lumo.to_json({ s.post, s.post }) end
calls["lumo.to_table"] = function() return lumo.to_table({ s.post })[1].title end
calls["lumo.objectid"] = function() return tostring(lumo.objectid(fixture.id(7))) .. #tostring(lumo.objectid()) end
calls["lumo.datetime"] = function() return tostring(lumo.datetime("2024-01-02T03:04:05Z") - 1) end
calls["datetime.now"] = function() return type(lumo.datetime.now().ms) end
calls["datetime.from_ms"] = function() return tostring(lumo.datetime.from_ms(1)) end
calls["lumo.decimal"] = function() return tostring(lumo.decimal("1.50")) end
calls["lumo.binary"] = function() return lumo.binary("bytes", 2).bytes end
calls["lumo.uuid"] = function() return #tostring(lumo.uuid()) end
calls["lumo.int64"] = function() return tostring(lumo.int64("9007199254740993")) end
calls["lumo.regex"] = function() return tostring(lumo.regex("a", "i")) end
calls["lumo.timestamp"] = function() return tostring(lumo.timestamp(1, 2)) end
calls["lumo.array"] = function() return #lumo.array { 1, 2 } end
calls["lumo.ordered"] = function() return #lumo.ordered { { "a", 1 } } end

local DOCUMENT = {
  a = { 1, 2, { b = "text", c = lumo.null } }, d = lumo.decimal("1"), i = lumo.objectid(fixture.id(9)),
    t = lumo.datetime(1),
  o = lumo.ordered { { "z", 1.5 }, { "y", true } }, r = lumo.regex("a"), n = lumo.binary("b"),
}
local BYTES = lumo.bson.encode(DOCUMENT)
local JSON = lumo.bson.to_json(BYTES, "canonical")
calls["bson.encode"] = function() return lumo.bson.encode(DOCUMENT) end
calls["bson.decode"] = function() return lumo.bson.decode(BYTES).a[3].b end
calls["bson.to_json"] = function() return lumo.bson.to_json(BYTES) end
calls["bson.from_json"] = function() return lumo.bson.from_json(JSON) end
calls["value_datetime.seconds"] = function() return lumo.datetime(5):seconds() end
calls["value_value.kind"] = function() return lumo.regex("a"):kind() end

-- connections
local function reply_field(reply) return reply.ok end
calls["connection.command"] = function() return reply_field(s.conn:command { ping = 1 }) end
calls["connection.ping"] = function() return s.conn:ping() end
calls["connection.server"] = function() return s.conn:server().topology end
calls["connection.stats"] = function() return s.conn:stats().threads end
calls["connection.close"] = function()
  local connection = lumo.connect(fixture.uri(), { name = "third", database = "unused" })
  connection:ping()
  connection:close()
  return true
end

-- statics
calls["model.new"] = function() return s.Post:new({ title = "a", labels = { "x" }, views = 2 }).title end
calls["model.create"] = function()
  return s.Post:create({ title = "a", labels = { "x" }, meta = { colour = "red" } }).is_persisted
end
calls["model.create_many"] = function()
  return #s.Post:create_many { { title = "a" }, { views = 2 }, { any = { b = 1 } } }
end
calls["model.query"] = function() return tostring(s.Post:query()) end
calls["model.all"] = function() return keys(s.Post:all()) end
calls["model.first"] = function() return s.Post:first().status end
calls["model.first_or_fail"] = function() return type(s.Post:first_or_fail().title) end
calls["model.count"] = function() return s.Post:count() end
calls["model.find"] = function() return s.Post:find(s.post_id).title end
calls["model.find_or_fail"] = function() return s.Post:find_or_fail(s.post_id).title end
calls["model.find_by"] = function() return s.Post:find_by("title", "post 2").views end
calls["model.find_by_or_fail"] = function() return s.Post:find_by_or_fail({ title = "post 2" }).views end
calls["model.find_many"] = function() return keys(s.Tag:find_many(s.tag_ids)) end
calls["model.aggregate"] = function() return s.Post:aggregate({ { ["$count"] = "n" } })[1].n end
calls["model.has_column"] = function() return s.Post:has_column("title") end
calls["model.has_relation"] = function() return s.Post:has_relation("tags") end
calls["model.get_relation"] = function() return tostring(s.Post:get_relation("tags")) end
local function new_relation(add)
  local model = lumo.model("CampaignRelated", { columns = { a = "string" } })
  add(model)
  return model:has_relation("more")
end
calls["model.add_relation"] = function()
  return new_relation(function(model) model:add_relation("more", lumo.many_to_many("CampaignTag")) end)
end
calls["model.belongs_to_many"] = function()
  return new_relation(function(model) model:belongs_to_many("more", "CampaignTag", nil, "a", "b") end)
end
calls["model.many_to_many"] = function()
  return new_relation(function(model) model:many_to_many("more", "CampaignTag", {}) end)
end
for _, kind in ipairs { "has_one", "has_many", "belongs_to" } do
  calls["model." .. kind] = function()
    return new_relation(function(model) model[kind](model, "more", "CampaignTag", { foreign_key = "a" }) end)
  end
end
calls["model.has_many_through"] = function()
  return new_relation(function(model) model:has_many_through("more", "CampaignTag", "CampaignPostTag") end)
end
calls["model.ensure_indexes"] = function() return type(s.Post:ensure_indexes()) end

calls["model.create_quietly"] = function() return s.Post:create_quietly({ title = "a" }).is_persisted end
calls["model.find_many_by"] = function() return keys(s.Post:find_many_by("title", "post 2")) end
calls["model.first_or_new"] = function() return s.Post:first_or_new({ title = "post 9" }, { views = 9 }).views end
calls["model.first_or_create"] = function()
  return s.Post:first_or_create({ title = "post 9" }, { views = 9 }).views
end
calls["model.update_or_create"] = function()
  return s.Post:update_or_create({ title = "post 1" }, { views = 9 }).views
end
local ROWS = { { title = "post 1", views = 7 }, { title = "post 9", views = 9 } }
calls["model.fetch_or_new_up_many"] = function() return #s.Post:fetch_or_new_up_many("title", ROWS) end
calls["model.fetch_or_create_many"] = function() return #s.Post:fetch_or_create_many("title", ROWS) end
calls["model.update_or_create_many"] = function() return s.Post:update_or_create_many("title", ROWS)[1].views end
calls["model.truncate"] = function() return s.Loose:truncate() == nil end
calls["model.transaction"] = function()
  return s.Post:transaction(function(trx) return s.Post:create({ title = "t" }, { client = trx }).title end)
end
calls["model.add_column"] = function() return new_relation(function(model)
  model:add_column("b", { "array", of = "string" })
  model:many_to_many("more", "CampaignTag", {})
end) end
calls["model.get_column"] = function() return type(s.Post:get_column("title")) end
local function hooked(register)
  local model = lumo.model("CampaignHooked", { collection = "loose", columns = { title = "string" } })
  register(model)
  return model
end
local function with_hooks(when)
  return function()
    local n = 0
    local model = hooked(function(m)
      m[when](m, "save", function(record) n = n + #record.title end)
      m[when](m, "fetch", function() n = n + 1 end)
    end)
    model:create { title = "hook" }
    model:query():exec()
    return n
  end
end
calls["model.before"] = with_hooks("before")
calls["model.after"] = with_hooks("after")
local function scoped()
  local model = hooked(function(m)
    m:scope("titled", function(q, title) q:where("title", title) end)
  end)
  return model:query():apply("titled", "loose")
end
calls["model.scope"] = function() return scoped():count() end

-- queries: what only builds is shown as text
local function built(method, ...)
  local arguments, n = { ... }, select("#", ...)
  return function()
    local q = s.Post:query():where("title", "x")
    return tostring(q[method](q, unpack(arguments, 1, n)))
  end
end
local BUILDERS = {
  where = { "views", ">", 1 }, where_not = { { title = "a", views = 2 } }, where_in = { "views", { 1, 2, 3 } },
  where_not_in = { "title", { "a", "b" } }, where_null = { "at" }, where_not_null = { "at" },
    where_between = { "views", 1, 2 },
  where_not_between = { "views", { 1, 2 } }, where_like = { "title", "a%" }, where_ilike = { "title", "a_" },
  where_exists = { "any" }, where_not_exists = { "any" }, where_column = { "views", "<", "score" },
  where_raw = { { ["$expr"] = { ["$gt"] = { "$views", 1 } } } }, where_size = { "labels", 2 },
    where_all = { "labels", { "red" } },
  where_regex = { "title", "^p" },
}
for family, arguments in pairs(BUILDERS) do
  for _, form in ipairs { "", "and_", "or_" } do
    calls["query." .. form .. family] = built(form .. family, unpack(arguments))
  end
end
calls["query.select"] = built("select", { "title", "meta.colour" })
calls["query.order_by"] = built("order_by", { { "title", "desc" }, "views" })
calls["query.limit"] = built("limit", 2)
calls["query.offset"] = built("offset", 2)
calls["query.for_page"] = built("for_page", 2, 10)
calls["query.everything"] = built("everything")
calls["query.clone"] = built("clone")
local function add_condition(q) q:where("views", 1):or_where(function(g) g:where("title", "b") end) end
calls["query.when"] = built("when", true, add_condition)
calls["query.unless"] = built("unless", false, add_condition)
calls["query.apply"] = function() return tostring(scoped()) end
calls["query.match"] = built("match", { false, print }, add_condition)
calls["query.hint"] = built("hint", lumo.ordered { { "title", 1 } })
calls["query.collation"] = built("collation", { locale = "de", strength = 1 })
calls["query.max_time_ms"] = built("max_time_ms", 1000)
calls["query.comment"] = built("comment", "campaign")
calls["query.debug"] = built("clone") -- debug itself writes to the terminal
--- Across a relation, with a condition of both sides.
local function across()
  return s.post:related("plain"):query():where("name", "tag 1"):or_where_pivot("role", "admin")
end
calls["query.lean"] = function()
  return across():lean():exec()[1].pivot.role .. s.Post:query():where("title", "post 1"):lean():first().views
end
calls["query.preload"] = function()
  local q = s.Post:query():preload("tags", function(tags) tags:where("name", "!=", "x") end)
  return keys(q:where("title", "post 1"):first().tags)
end
calls["query.preload_once"] = function()
  return keys(s.Post:query():preload_once("tags"):where("title", "post 1"):first().tags)
end
for _, name in ipairs { "sum", "avg", "min", "max" } do
  calls["query." .. name] = function()
    local q, other = s.Post:query(), across()
    return ("%s %s"):format(tostring(q[name](q, "views")), tostring(other[name](other, "post_plain.rank")))
  end
end
calls["query.pluck"] = function() return #s.Post:query():pluck("title") + #across():pluck("post_plain.role") end
calls["query.explain"] = function()
  return tostring(s.Post:query():explain()) .. tostring(across():explain())
    .. tostring(s.Post:query():preload("tags"):with_count("tags"):explain())
end
calls["query.paginate"] = function() return #s.Post:query():order_by("title"):paginate(1, 2) end
calls["query.find_one_and_update"] = function()
  local tag = across():find_one_and_update { name = "changed" }
  return s.Post:query():where("title", "post 1"):find_one_and_update({ views = 8 }).views .. tag.name .. tag.pivot.role
end
calls["query.find_one_and_delete"] = function()
  local tag = across():find_one_and_delete()
  return s.Post:query():where("title", "post 1"):find_one_and_delete().views .. tag.name
end
local PIVOT = {
  where_pivot = { "role", "admin" }, where_not_pivot = { "role", "x" }, where_in_pivot = { "role", { "admin", "x" } },
  where_not_in_pivot = { "role", { "x" } }, where_null_pivot = { "any" }, where_not_null_pivot = { "role" },
}
for family, arguments in pairs(PIVOT) do
  for _, form in ipairs { "", "and_", "or_" } do
    local method = form .. family
    calls["query." .. method] = function()
      local q = s.post:related("plain"):query()
      return keys(q[method](q, unpack(arguments)):exec())
    end
  end
end
calls["query.pivot_columns"] = function()
  return s.post:related("plain"):query():pivot_columns({ "rank" }):first().extras.pivot_role
end
calls["query.exec"] = function() return keys(s.post.tags:query():where("name", "!=", "x"):order_by("name"):exec()) end
calls["query.first"] = function() return s.Post:query():where("title", "post 1"):first().views end
calls["query.first_or_fail"] = function() return s.Post:query():order_by("title"):first_or_fail().title end
calls["query.exists"] = function() return s.Post:query():where("title", "post 1"):exists() end
calls["query.count"] = function() return s.post.tags:query():count() + s.Post:query():limit(2):count() end
calls["query.each"] = function()
  local n = 0
  for post in s.Post:query():each() do n = n + post.views end
  for _ in across():each() do n = n + 1 end
  return n
end
calls["query.update"] = function()
  return s.Post:query():where("views", ">", 1):update { title = "new", any = { 1, 2 } }
end
calls["query.increment"] = function()
  local rules = { locale = "de", strength = 1 }
  return s.Post:query():where("views", ">", 0):collation(rules):comment("c"):max_time_ms(9000):increment("views", 2)
end
calls["query.decrement"] = function() return s.Post:query():where("views", ">", 0):decrement("views") end
calls["query.delete"] = function() return across():delete() + s.post.tags:query():where("name", "tag 1"):comment("c"):delete() end

-- records
calls["record.save"] = function()
  local post = s.Post:find(s.post_id)
  post.title, post.labels[3] = "changed", "green"
  post:save()
  return post.is_dirty
end
calls["record.delete"] = function()
  local post = s.Post:find(s.post_id)
  post:delete()
  return post.is_deleted
end
calls["record.enable_force_update"] = function() return s.post:enable_force_update().title end
calls["record.refresh"] = function() return s.Post:find(s.post_id):refresh().title end
calls["record.fresh"] = function() return s.post:fresh().title end
calls["record.fill"] = function()
  return s.Post:new({ views = 1 }):fill({ title = "a", free = { b = { 1 } } }).title
end
calls["record.merge"] = function() return s.Post:new({ views = 1 }):merge({ title = "a", labels = { "l" } }).views end
calls["record.get"] = function() return s.post:get("free").a.b end
calls["record.set"] = function() return s.Post:new():set("any", { a = { 1, 2 } }).any.a[2] end
calls["record.has_changed"] = function() return s.post:has_changed("title") end
calls["record.serialize"] = function() return s.post:serialize({ fields = { "permalink" } }).permalink end
calls["record.to_table"] = function() return s.post:to_table().slug end
calls["record.to_json"] = function() return s.post:load("tags"):to_json():gsub("%x+Z", "") end
calls["record.load"] = function() return keys(s.Post:find(s.post_id):load("tags", function(q) q:limit(5) end).tags) end
calls["record.save_quietly"] = function()
  local post = s.Post:find(s.post_id)
  post.title = "quiet"
  return post:save_quietly().title
end
calls["record.delete_quietly"] = function()
  local post = s.Post:find(s.post_id)
  post:delete_quietly()
  return post.is_deleted
end
calls["record.increment"] = function() return s.Post:find(s.post_id):increment("views", 2).views end
calls["record.load_once"] = function() return keys(s.Post:find(s.post_id):load_once("tags").tags) end
local function in_transaction()
  local trx = lumo.transaction()
  local ok, err = pcall(function()
    local post = s.Post:find(s.post_id)
    post:use_transaction(trx)
    post.title = "in a transaction"
    post:save()
    post.tags:detach()
  end)
  trx:rollback()
  if not ok then error(err, 0) end
  return s.Post:find(s.post_id).title
end
calls["record.use_transaction"] = in_transaction
calls["lumo.transaction"] = function()
  local n = 0
  lumo.transaction(function(trx)
    trx:after("commit", function() n = n + 1 end)
    s.post.tags:sync { s.tag_ids[3] }
    s.Post:query():where("title", "post 2"):update { views = 3 }
  end)
  return n
end
calls["lumo.guard"] = function() return lumo.guard(function(a) return a + 1 end, 1) ~= nil end
calls["record.related"] = function() return tostring(s.post:related("tags")) end

-- the client
local function called(method, ...)
  local arguments, n = { ... }, select("#", ...)
  return function()
    local tags = s.post:related("tags")
    local result = tags[method](tags, unpack(arguments, 1, n))
    return type(result) == "table" and result.attached and pairs_text(result) or result
  end
end
local T = s.tag_ids
calls["client.exec"] = function()
  local list = s.post:related("tags"):exec()
  return keys(list) .. list[1].extras.pivot_rank .. tostring(list[1].pivot.rank)
end
calls["client.query"] = function() return tostring(s.post:related("plain"):query()) end
calls["client.pivot_query"] = function()
  return s.post:related("plain"):pivot_query():where("role", "admin"):count()
end
calls["client.attach"] = function()
  return pairs_text(s.post:related("tags"):attach(T[3])) .. pairs_text(s.post:related("plain"):attach {
    [T[1]] = { role = "user" }, [T[4]] = { role = "new" },
  })
end
calls["client.attach_with_pivot_data"] = called("attach_with_pivot_data", {
  { id = T[1], pivot_data = { rank = 9 } }, { id = T[4], pivot_data = { any = { 1 } } },
})
calls["client.sync"] = called("sync", { T[2], T[3], T[4] })
calls["client.sync_with_pivot_data"] = called("sync_with_pivot_data", { { id = T[2], pivot_data = { rank = 7 } } })
calls["client.toggle"] = called("toggle", { T[1], T[3] })
calls["client.detach"] = called("detach", { T[1], T[2] })
calls["client.exists"] = called("exists", T[1])
calls["client.ids"] = function() return ids(s.post:related("tags"):ids()) end
calls["client.count"] = called("count")
calls["client.pivot_data"] = function() return s.post:related("tags"):pivot_data(T[1]).rank end
calls["client.update_pivot_data"] = called("update_pivot_data", T[1], { rank = 3 })

calls["client.create"] = function() return s.post:related("tags"):create({ name = "made" }, { rank = 8 }).name end
calls["client.create_many"] = function()
  return #s.post:related("plain"):create_many({ { name = "a" }, { name = "b" } }, { { role = "x" } })
end
calls["client.save"] = function()
  local tag = s.Tag:new { name = "saved" }
  s.post:related("tags"):save(tag, { rank = 2 })
  return tag.extras.pivot_rank
end
calls["client.save_many"] = function()
  local list = { s.Tag:find(T[1]), s.Tag:new { name = "saved" } }
  list[1].name = "renamed"
  s.post:related("plain"):save_many(list, { { role = "x" } })
  return list[1].name
end
calls["client.create_quietly"] = function()
  return s.post:related("tags"):create_quietly({ name = "made" }, { rank = 8 }).name
end
calls["client.create_many_quietly"] = function()
  return #s.post:related("plain"):create_many_quietly({ { name = "a" }, { name = "b" } }, { { role = "x" } })
end
calls["client.save_quietly"] = function()
  local tag = s.Tag:new { name = "saved" }
  s.post:related("tags"):save_quietly(tag, { rank = 2 })
  return tag.extras.pivot_rank
end
calls["client.save_many_quietly"] = function()
  local list = { s.Tag:find(T[1]), s.Tag:new { name = "saved" } }
  list[1].name = "renamed"
  s.post:related("plain"):save_many_quietly(list, { { role = "x" } })
  return list[1].name
end
calls["client.find"] = function() return s.post:related("tags"):find(T[2]).name end
calls["client.first_or_create"] = function() return s.post:related("tags"):first_or_create({ name = "made" }).name end
calls["client.update_or_create"] = function()
  return s.post:related("tags"):update_or_create({ name = "tag 1" }, { any = 1 }).any
end
calls["client.paginate"] = function() return #s.post:related("tags"):paginate(1, 1) end
calls["client.preload"] = function() return tostring(s.post:related("tags"):query()) end

-- the relation object
local relation = s.Post:get_relation("tags")
calls["relation.boot"] = function() return tostring(relation:boot()) end
calls["relation.related_model"] = function() return tostring(relation:related_model()) end
calls["relation.pivot_model"] = function() return tostring(relation:pivot_model()) end
calls["relation.pivot_attribute"] = function() return relation:pivot_attribute("rank") end
calls["relation.pivot_class"] = function() return type(relation:pivot_class()) end
calls["relation.row_state"] = function() return relation:row_state().name end
calls["relation.related_query"] = function() return tostring(relation:related_query("exec", s.post, s.conn)) end
calls["relation.client"] = function() return tostring(relation:client(s.post)) end
calls["relation.check_attributes"] = function() return relation:check_attributes({ rank = 1 }, false) == nil end
calls["relation.fields_with"] = function() return #s.Post:get_relation("plain"):fields_with({ "role" }) end
calls["relation.prune"] = function() return relation:prune() end
calls["relation.eager_query"] = function() return tostring(relation:eager_query { s.post }) end
calls["relation.set_related"] = function()
  local post = s.Post:find(s.post_id)
  relation:set_related(post, { s.tag })
  return keys(post.tags)
end
calls["relation.push_related"] = function()
  local post = s.Post:find(s.post_id)
  relation:push_related(post, s.tag)
  return keys(post.tags)
end
calls["relation.set_related_for_many"] = function()
  local post = s.Post:find(s.post_id)
  relation:set_related_for_many({ post }, post:related("tags"):exec())
  return keys(post.tags)
end
calls["relation.get_pivot_pair"] = function() return relation:get_pivot_pair(s.post)[1] end
calls["relation.get_pivot_related_pair"] = function() return relation:get_pivot_related_pair(s.tag)[1] end

-- and the properties of records, which run code when they are read
calls["record.properties"] = function()
  local post = s.Post:find(s.post_id)
  post.title = "other"
  local n = 0
  for _, name in ipairs(api.properties()) do
    if post[name] ~= nil then n = n + 1 end
  end
  return n .. post.dirty.title .. post.original.title .. post.attributes.views
end

-- relations in conditions and counts
local function has_related(q) q:where("name", "!=", "x"):where_pivot("rank", ">", 0) end
for _, form in ipairs { "", "and_", "or_" } do
  for _, negated in ipairs { "", "doesnt_" } do
    local plain, callback = form .. negated .. "has", form .. "where_" .. negated .. "has"
    if negated ~= "" then plain, callback = form .. "doesnt_have", form .. "where_doesnt_have" end
    calls["query." .. plain] = function()
      local q = s.Post:query():where("views", ">", 0)
      if negated == "" then q[plain](q, "tags", ">=", 2) else q[plain](q, "plain") end
      return keys(q:exec())
    end
    calls["query." .. callback] = function()
      local q = s.Post:query():where("views", ">", 0)
      return keys(q[callback](q, "tags", has_related):exec())
    end
  end
end
local function most(q) q:max("any"):as("most") end
calls["query.with_count"] = function()
  return s.Post:query():with_count("tags"):order_by("title"):first().extras.tags_count
end
calls["query.with_aggregate"] = function()
  return s.Post:query():with_aggregate("tags", most):order_by("title"):first().extras.most
end
calls["query.as"] = calls["query.with_aggregate"]
calls["query.count_distinct"] = function()
  return s.Post:query():with_aggregate("tags", function(q) q:count_distinct("any"):as("kinds") end):order_by("title")
    :first().extras.kinds
end
calls["record.load_count"] = function() return s.Post:find(s.post_id):load_count("tags").extras.tags_count end
calls["record.load_aggregate"] = function() return s.Post:find(s.post_id):load_aggregate("tags", most).extras.most end
calls["lumo.load_count"] = function() return lumo.load_count(s.Post:all(), "tags")[1].extras.tags_count ~= nil end
calls["lumo.load_aggregate"] = function()
  return lumo.load_aggregate({ s.Post:find(s.post_id) }, "tags", most)[1].extras.most
end
local function grouped()
  local posts = s.Post:query():preload("plain", function(q)
    q:group_order_by("name", "desc"):group_limit(1)
  end):order_by("title"):exec()
  return keys(posts[1].plain)
end
calls["query.group_limit"], calls["query.group_order_by"] = grouped, grouped
calls["query.order_by_pivot"] = function()
  return s.post:related("plain"):query():order_by_pivot("created_at", "desc"):order_by("name"):first().name
end
calls["relation.sub_query"] = function() return tostring(relation:sub_query():where("name", "x")) end
calls["relation.bound_handle"] = function() return type(relation:bound_handle("campaign", s.conn)) end

-- relations without a pivot
local NOTES = { { text = "note 1", any = 7 }, { text = "new", any = 8 } }
local DIRECT = {
  exec = function(client)
    local found = client:exec()
    return found and (found.id and tostring(found.id) or keys(found))
  end,
  query = function(client) return tostring(client:query()) end,
  preload = function(client) return type(client:preload("post")) end,
  find = function(client) return client:find(fixture.id(301)) ~= nil or client:find(fixture.id(401)) ~= nil end,
  paginate = function(client) return #client:paginate(1, 5) end,
  cursor_paginate = function(client) return #client:cursor_paginate { per_page = 1 } end,
  create = function(client) return client:create({ text = "made" }).text end,
  create_quietly = function(client) return client:create_quietly({ text = "made" }).text end,
  create_many = function(client) return #client:create_many(NOTES) end,
  create_many_quietly = function(client) return #client:create_many_quietly(NOTES) end,
  save = function(client)
    local note = s.Note:new { text = "saved" }
    client:save(note)
    return note.is_persisted
  end,
  save_quietly = function(client)
    local note = s.Note:new { text = "saved" }
    client:save_quietly(note)
    return note.is_persisted
  end,
  save_many = function(client) return client:save_many { s.Note:new { text = "a" }, s.Note:new { text = "b" } } ~= 1 end,
  save_many_quietly = function(client) return client:save_many_quietly { s.Note:new { text = "a" } } ~= 1 end,
  first_or_create = function(client) return client:first_or_create({ text = "made" }, { any = 1 }).text end,
  update_or_create = function(client) return client:update_or_create({ text = "note 1" }, { any = 2 }).any end,
  fetch_or_create_many = function(client) return #client:fetch_or_create_many("text", NOTES) end,
  update_or_create_many = function(client) return client:update_or_create_many("text", NOTES)[2].any end,
  associate = function(client)
    client:associate(s.Post:find(fixture.id(2)))
    return tostring(s.Note:find(fixture.id(301)).post_id)
  end,
  dissociate = function(client)
    client:dissociate()
    return tostring(s.Note:find(fixture.id(301)).post_id)
  end,
}
local OWNERS = {
  Post = function() return s.Post:find(s.post_id) end, Note = function() return s.Note:find(fixture.id(301)) end,
}
for name, owner in pairs(api.direct) do
  for method, call in pairs(DIRECT) do
    calls[("client_%s.%s"):format(name, method)] = function() return call(OWNERS[owner]():related(name)) end
  end
end

-- more of queries
for _, form in ipairs { "", "and_", "or_" } do
  calls["query." .. form .. "where_elem_match"] = built(form .. "where_elem_match", "numbers", function(one)
    one:where(">", 1):where("<", 9):or_where(function(other) other:where_in({ 1, 2 }):where_not(3) end)
  end)
end
calls["query.distinct"] = function()
  return table.concat(s.Post:query():distinct("title"), " ") .. table.concat(across():distinct("post_plain.role"), " ")
end
calls["query.read_preference"] = function()
  return s.Post:query():read_preference({ mode = "nearest", tags = { { dc = "x" }, {} } }):count()
end
calls["query.read_concern"] = function() return s.Post:query():read_concern("local"):count() end
calls["query.write_concern"] = function()
  return s.Post:query():where("views", ">", 0):write_concern("majority"):update { title = "w" }
end


-- one place of a document
local function operator(method, ...)
  local arguments, n = { ... }, select("#", ...)
  return function()
    local post = s.Post:find(s.post_id)
    post[method](post, unpack(arguments, 1, n))
    return tostring(post.views) .. table.concat(post.labels, ",") .. tostring(post.score)
  end
end
calls["record.push"] = operator("push", "labels", "green", "blue")
calls["record.add_to_set"] = operator("add_to_set", "labels", "green", "red")
calls["record.pull"] = operator("pull", "labels", "red")
calls["record.inc"] = operator("inc", "views", 3)
calls["record.unset"] = operator("unset", "score")

-- indexes
calls["model.indexes"] = function() return type(s.Post:indexes()) end
calls["lumo.index_plan"] = function() return type(lumo.index_plan().is_empty) end

-- change streams
local function stream() return s.Loose:watch { max_await_ms = 1 } end
local function watched(read)
  return function()
    local events = stream()
    local ok, result = pcall(function()
      events:try_next() -- from here on
      s.Loose:create { title = "watched" }
      return read(events)
    end)
    events:close()
    if not ok then error(result, 0) end
    return result
  end
end
calls["stream.next"] = watched(function(events) return events:next().record.title end)
calls["stream.try_next"] = watched(function(events)
  local event
  repeat event = events:try_next() until event
  return event.type
end)
calls["stream.each"] = watched(function(events) return events:each()().type end)
calls["model.watch"] = function() return type(stream()) end
calls["stream.close"] = function()
  local events = stream()
  events:try_next()
  events:close()
  return events:try_next() == nil
end

-- transactions that are used where they are passed
local function transaction(fn)
  return function()
    local trx = lumo.transaction()
    local ok, result = pcall(fn, trx)
    if trx.is_active then trx:rollback() end
    if not ok then error(result, 0) end
    return result
  end
end
calls["transaction.commit"] = transaction(function(trx)
  s.Loose:create({ title = "committed" }, { client = trx })
  trx:commit()
  return s.Loose:count()
end)
calls["transaction.rollback"] = transaction(function(trx)
  s.Loose:create({ title = "rolled back" }, { client = trx })
  trx:rollback()
  return s.Loose:count()
end)
calls["transaction.after"] = transaction(function(trx)
  local n = 0
  trx:after("rollback", function() n = n + 1 end)
  s.Loose:create({ title = "rolled back" }, { client = trx })
  trx:rollback()
  return n
end)
calls["transaction.run"] = transaction(function(trx)
  return trx:run(function()
    s.Loose:create { title = "inside" }
    return s.Loose:count()
  end)
end)

-- pages by key
local function by_key(options)
  return s.Post:query():order_by("views", "desc"):order_by("title"):cursor_paginate(options)
end
calls["query.cursor_paginate"] = function()
  local first = by_key { per_page = 2 }
  local second = by_key { per_page = 2, cursor = first.next_cursor }
  return second[1].title .. by_key({ per_page = 2, cursor = second.prev_cursor })[1].title
end
calls["client.cursor_paginate"] = function() return #s.post:related("plain"):cursor_paginate { per_page = 1 } end
local function cursor_page(method, ...)
  local arguments, n = { ... }, select("#", ...)
  return function()
    local list = by_key { per_page = 2 }
    list:base_url("/posts")
    local result = list[method](list, unpack(arguments, 1, n))
    return type(result) == "table" and (result.per_page or #result) or type(result)
  end
end
for _, name in ipairs { "get_meta", "get_next_page_url", "get_previous_page_url", "serialize" } do
  calls["cursor_page." .. name] = cursor_page(name)
end
calls["cursor_page.base_url"] = cursor_page("base_url", "/x")
calls["cursor_page.query_string"] = cursor_page("query_string", { a = "b" })

-- pages
local function page(method, ...)
  local arguments, n = { ... }, select("#", ...)
  return function()
    local list = s.Post:query():order_by("title"):paginate(1, 2)
    list:base_url("/posts")
    local result = list[method](list, unpack(arguments, 1, n))
    return type(result) == "table" and (result.total or #result) or tostring(result)
  end
end
for _, name in ipairs { "get_meta", "get_next_page_url", "get_previous_page_url", "serialize" } do
  calls["page." .. name] = page(name)
end
calls["page.get_url"] = page("get_url", 2)
calls["page.get_urls_for_range"] = page("get_urls_for_range", 1, 2)
calls["page.query_string"] = function()
  return s.Post:query():paginate(1, 2):base_url("/posts"):query_string({ a = "b" }):get_url(2)
end
calls["page.base_url"] = function() return s.Post:query():paginate(1, 2):base_url("/posts"):get_url(2) end

return calls
