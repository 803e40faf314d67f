-- What the arguments of every public method are, and which values that do not belong there each takes on
-- purpose: the table that spec/server/matrix_spec.lua goes by.
local lumo = require "lumo"

--- @param s table one of everything, as spec/campaign/fixture.lua makes it
--- @return table<string, table<string, string[]>> METHODS by group and name
--- @return table<string, table> KINDS
return function(s)

---- what arguments are: a value that is right, the bad ones that are taken on purpose, and where inside of it
---- bad ones go, too

local function set(text)
  local names = {}
  for name in text:gmatch("%S+") do names[name] = true end
  return names
end

local function tag_row(value) return { name = "tag", any = value } end

local ATTRIBUTES_INSIDE = {
  views = { function(bad) return { views = bad } end, set "nil null" },
  title = { function(bad) return { title = bad } end, set "nil null unknown" },
  any = { function(bad) return { any = bad } end, set "nil null empty holes unknown unknown_key nan huge" },
  meta = { function(bad) return { meta = bad } end, set "nil null empty" },
  ["meta.colour"] = { function(bad) return { meta = { colour = bad } } end, set "nil null unknown" },
  labels = { function(bad) return { labels = { bad } } end, set "nil null unknown" },
}

local FILTER_INSIDE = {
  views = { function(bad) return { views = bad } end, set "null" },
  title = { function(bad) return { title = bad } end, set "null unknown" },
  any = { function(bad) return { any = bad } end, set "null unknown unknown_key nan huge" },
  ["meta.colour"] = { function(bad) return { ["meta.colour"] = bad } end, set "null unknown" },
}

local function in_list(inside, more)
  local result = { entry = { function(bad) return { bad } end, set(more or "nil empty") } }
  for name, one in pairs(inside) do
    result[name] = { function(bad) return { (one[1](bad)) } end, one[2] }
  end
  return result
end

local KINDS
KINDS = {
  column = { function() return "views" end },
  array = { function() return "labels" end },
  path = { function() return "meta.depth" end },
  columns = { function() return { "views" } end },
  views = { function() return 1 end, "null" }, -- a value in a condition on that column
  title = { function() return "x" end, "null unknown" },
  any = { function() return "x" end, "null unknown unknown_key nan huge" },
  list_of_views = { function() return { 1 } end, "empty", {
    entry = { function(bad) return { 1, bad } end, set "nil null" },
  } },
  pair_of_views = { function() return { 1, 2 } end, nil, { entry = { function(bad) return { 1, bad } end, set "null" } } },
  to_views = { function() return 1 end, "nil null" }, -- a value that is assigned
  to_title = { function() return "x" end, "nil null unknown" },
  to_any = { function() return "x" end, "nil null empty unknown unknown_key nan huge holes" },
  element = { function() return "x" end, "null unknown" }, -- of an array of strings
  attributes = { function() return { title = "x" } end, "nil empty", ATTRIBUTES_INSIDE },
  values = { function() return { title = "x" } end, "empty", ATTRIBUTES_INSIDE },
  changes = { function() return { title = "x" } end, nil, ATTRIBUTES_INSIDE }, -- at least one
  filter = { function() return { title = "x" } end, nil, FILTER_INSIDE },
  rows = { function() return { { title = "x" } } end, "empty", in_list(ATTRIBUTES_INSIDE) },
  keyed_rows = { function() return { { title = "x" } } end, "empty", {
    title = { function(bad) return { { title = bad } } end, set "unknown" },
    views = { function(bad) return { { title = "x", views = bad } } end, set "nil null" },
  } },
  options = { function() return {} end, "nil empty", {
    client = { function(bad) return { client = bad } end, set "nil" },
    connection = { function(bad) return { connection = bad } end, set "nil" },
  } },
  fn = { function() return function() end end },
  maybe_fn = { function() return function() end end, "nil" },
  anything = { function() return 1 end, "nil null empty holes type operator unknown unknown_key nan huge utf8 large "
    .. "large_key deep cycle" },
  id = { function() return s.post_id end },
  ids = { function() return { s.post_id } end, "empty", {
    entry = { function(bad) return { bad } end, set "nil null" }, -- null is what no document has
  } },
  label = { function() return "x" end, "unknown utf8 large" }, -- a text that only Lua sees
  number = { function() return 1 end, "nil" },
  count = { function() return 1 end },
  maybe_count = { function() return 1 end, "nil" },
  text = { function() return "x" end, "unknown" },
  pattern = { function() return "x" end, "unknown large" }, -- the server says how long one may be
  event = { function() return "save" end },
  direction = { function() return "desc" end, "nil" },
  operator = { function() return "=" end },
  boolean = { function() return true end, "nil" },
  relation = { function() return "tags" end },
  named = { function() return "no_relation_yet" end, "unknown" },
  raw = { function() return { title = "x" } end, "operator unknown_key empty" },
  pipeline = { function() return { { ["$match"] = { title = "x" } } } end, "empty" },
  trx = { function() return s.trx end },
  fields = { function() return { fields = { "title" } } end, "nil empty", {
    fields = { function(bad) return { fields = bad } end, set "nil empty" },
    relations = { function(bad) return { relations = bad } end, set "nil empty" },
  } },
  related = { function() return s.tag end },
  related_id = { function() return s.tag_ids[4] end },
  related_id_or_ids = { function() return s.tag_ids[4] end, "empty" },
  related_ids = { function() return { s.tag_ids[4] } end, "empty", {
    entry = { function(bad) return { bad } end, set "nil" },
    attributes = { function(bad) return { [s.tag_ids[4]] = { rank = bad } } end, set "nil null" },
    map = { function(bad) return { [s.tag_ids[4]] = bad } end, set "nil empty unknown_key" },
  } },
  pairs_list = { function() return { { id = s.tag_ids[4] } } end, "empty", {
    id = { function(bad) return { { id = bad } } end, set "" },
    data = { function(bad) return { { id = s.tag_ids[4], pivot_data = { rank = bad } } } end, set "nil null" },
  } },
  pair = { function() return { rank = 1 } end, "nil empty unknown_key", {
    rank = { function(bad) return { rank = bad } end, set "nil null" },
  } },
  to_pair = { function() return { rank = 1 } end, "empty unknown_key", {
    rank = { function(bad) return { rank = bad } end, set "nil null" },
  } },
  tag = { function() return tag_row(1) end, "nil empty", {
    name = { function(bad) return { name = bad } end, set "nil null unknown" },
  } },
  tags = { function() return { tag_row(1) } end, "empty", {
    name = { function(bad) return { { name = bad } } end, set "nil null unknown" },
  } },
  tag_filter = { function() return { name = "x" } end, nil, {
    name = { function(bad) return { name = bad } end, set "null unknown" },
  } },
  records = { function() return { s.tag } end, "empty", { entry = { function(bad) return { bad } end, set "nil" } } },
  role = { function() return "role" end, "unknown large" }, -- a field of a pivot that no model describes
  parent = { function() return s.post end },
  parents = { function() return { s.post } end, "empty", { entry = { function(bad) return { bad } end, set "nil" } } },
}

---- the methods: the kinds of their arguments, one form after the other; "" takes none. A kind behind "=" is
---- given its right value and not varied.

local READ_CONDITIONS = {
  where = { "column views", "=column operator views", "=title_column title", "=any_column any", "filter", "fn" },
  where_not = { "column views", "filter", "fn" },
  where_in = { "column list_of_views" }, where_not_in = { "column list_of_views" },
  where_null = { "column" }, where_not_null = { "column" },
  where_between = { "column pair_of_views" }, where_not_between = { "column pair_of_views" },
  where_like = { "=title_column pattern" }, where_ilike = { "=title_column pattern" },
  where_regex = { "=title_column pattern", "=title_column =pattern flags" },
  where_exists = { "column" }, where_not_exists = { "column" },
  where_column = { "column =operator =path", "=column operator path" },
  where_raw = { "raw" }, where_elem_match = { "array fn" },
  where_size = { "array count" }, where_all = { "array =elements", "=array elements" },
  has = { "relation", "=relation comparison count" }, doesnt_have = { "relation" },
  where_has = { "relation maybe_fn", "=relation maybe_fn =comparison count" },
  where_doesnt_have = { "relation maybe_fn" },
}
local PIVOT_CONDITIONS = {
  where_pivot = { "role any", "pivot_fn" }, where_not_pivot = { "role any" }, where_in_pivot = { "role list_of_any" },
  where_not_in_pivot = { "role list_of_any" }, where_null_pivot = { "role" }, where_not_null_pivot = { "role" },
}
KINDS.title_column = { function() return "title" end }
KINDS.any_column = { function() return "any" end }
KINDS.comparison = { function() return ">" end, "nil" }
KINDS.flags = { function() return "i" end, "nil" }
KINDS.pivot_fn = { function() return function() end end, "unknown_key" } -- of a pivot without a model
KINDS.elements = { function() return { "x" } end, "empty", {
  entry = { function(bad) return { "x", bad } end, set "nil null unknown empty" },
} }
KINDS.list_of_any = { function() return { 1 } end, "empty" }

local METHODS = { query = {} }
for name, forms in pairs(READ_CONDITIONS) do
  for _, prefix in ipairs { "", "and_", "or_" } do METHODS.query[prefix .. name] = forms end
end
for name, forms in pairs(PIVOT_CONDITIONS) do
  for _, prefix in ipairs { "", "and_", "or_" } do METHODS.query[prefix .. name] = forms end
end

local function add(group, methods)
  METHODS[group] = METHODS[group] or {}
  for name, forms in pairs(methods) do METHODS[group][name] = forms end
end

add("query", {
  as = { "named" }, apply = { "fn" }, avg = { "column" }, sum = { "column" }, min = { "column" }, max = { "column" },
  count_distinct = { "column" }, clone = { "" }, collation = { "collation" }, comment = { "text" }, count = { "" },
  debug = { "" }, decrement = { "column down" }, increment = { "column number" }, delete = { "" },
  distinct = { "column" }, each = { "" }, everything = { "" }, exec = { "" }, exists = { "" }, explain = { "verbosity" },
  find_one_and_delete = { "" }, find_one_and_update = { "changes" }, first = { "" }, first_or_fail = { "" },
  for_page = { "page maybe_page" }, hint = { "hint" }, lean = { "" }, limit = { "count" }, offset = { "count" },
  match = { "=boolean" }, max_time_ms = { "count" }, order_by = { "column direction", "orders" },
  paginate = { "maybe_page maybe_page" }, cursor_paginate = { "cursor_options" }, pivot_columns = { "names" }, pluck = { "column" },
  preload = { "relation maybe_fn" }, preload_once = { "relation maybe_fn" }, read_concern = { "text_of_concern" },
  read_preference = { "preference" }, write_concern = { "concern" }, select = { "column", "columns" },
  unless = { "anything fn maybe_fn" }, when = { "anything fn maybe_fn" }, update = { "changes" },
  with_aggregate = { "relation =asking" }, with_count = { "relation maybe_fn" },
  group_limit = { "count" }, group_order_by = { "=name_column direction", "tag_column =direction" },
  order_by_pivot = { "role direction" },
})
KINDS.name_column = { function() return "name" end }
KINDS.tag_column = KINDS.name_column
KINDS.down = { function() return 1 end, "nil huge" } -- 2^63 less is an int64
KINDS.verbosity = { function() return "queryPlanner" end, "nil" }
KINDS.page = { function() return 1 end }
KINDS.maybe_page = { function() return 1 end, "nil" }
KINDS.hint = { function() return "_id_" end, "unknown operator unknown_key" } -- MongoDB's own, as collation
KINDS.collation = { function() return { locale = "de" } end, "operator unknown_key" }
KINDS.orders = { function() return { { "title", "desc" } } end, nil, {
  entry = { function(bad) return { { bad, "asc" } } end, set "" },
  direction = { function(bad) return { { "title", bad } } end, set "nil" },
} }
KINDS.names = { function() return { "role" } end, "empty" }
KINDS.text_of_concern = { function() return "local" end }
KINDS.preference = { function() return "primary" end }
KINDS.concern = { function() return { w = 1 } end, "unknown" } -- a tag of the replica set
KINDS.asking = { function() return function(q) q:count():as("n") end end }

add("model", {
  add_column = { "named_column definition" }, add_relation = { "named =new_relation", "=named new_relation" },
  belongs_to_many = { "named =tag_model" }, many_to_many = { "named =tag_model" },
  has_one = { "named =tag_model" }, has_many = { "named =tag_model" }, belongs_to = { "named =tag_model" },
  has_many_through = { "named =tag_model =post_model" },
  before = { "event fn" }, after = { "event fn" }, scope = { "label fn" },
  aggregate = { "pipeline options" }, all = { "options" }, count = { "options" }, first = { "options" },
  first_or_fail = { "options" }, query = { "options" }, truncate = { "options" }, ensure_indexes = { "options" },
  new = { "attributes" }, create = { "attributes options" }, create_quietly = { "attributes options" },
  create_many = { "rows options" }, fetch_or_create_many = { "keys keyed_rows options" },
  fetch_or_new_up_many = { "keys keyed_rows options" }, update_or_create_many = { "keys keyed_rows options" },
  find = { "id options" }, find_or_fail = { "id options" }, find_many = { "ids options" },
  find_by = { "column views", "filter" }, find_by_or_fail = { "column views", "filter" },
  find_many_by = { "column views", "filter" },
  first_or_new = { "filter attributes options" }, first_or_create = { "filter attributes options" },
  update_or_create = { "filter attributes options" },
  get_column = { "asked" }, has_column = { "asked" }, has_relation = { "asked" }, get_relation = { "relation" },
  indexes = { "" }, transaction = { "maybe_fn options" }, watch = { "watch_options", "=relation watch_options" },
})
KINDS.watch_options = { function() return {} end, "nil empty", {
  operations = { function(bad) return { operations = { bad } } end, set "unknown utf8" },
  resume_after = { function(bad) return { resume_after = bad } end, set "nil" },
  max_await_ms = { function(bad) return { max_await_ms = bad } end, set "nil" },
  full_document = { function(bad) return { full_document = bad } end, set "nil" },
} }
KINDS.asked = { function() return "title" end, KINDS.anything[2] }
KINDS.keys = { function() return "title" end, nil, { entry = { function(bad) return { bad } end, set "" } } }
KINDS.named_column = { function() return "column_" .. tostring({}):gsub("%W", "") end, "unknown" }
KINDS.definition = { function() return "string" end, nil }
KINDS.new_relation = { function() return lumo.many_to_many("CampaignTag") end }
KINDS.post_model = { function() return "CampaignPost" end }
KINDS.tag_model = { function() return "CampaignTag" end }

add("record", {
  save = { "" }, save_quietly = { "" }, delete = { "" }, delete_quietly = { "" }, refresh = { "" }, fresh = { "" },
  enable_force_update = { "" }, to_table = { "" }, to_json = { "" }, serialize = { "fields" },
  fill = { "values" }, merge = { "values" }, get = { "field =get_options", "=column get_options" },
  set = { "column to_views", "=title_column to_title", "=any_column to_any" },
  has_changed = { "column" }, increment = { "column number" }, inc = { "path number", "=column number" },
  push = { "array element" }, add_to_set = { "array element" }, pull = { "array element" }, unset = { "path" },
  load = { "relation maybe_fn" }, load_once = { "relation maybe_fn" }, load_count = { "relation maybe_fn" },
  load_aggregate = { "relation =asking" }, related = { "relation" }, use_transaction = { "trx" },
})
KINDS.field = { function() return "title" end, "unknown utf8 large" } -- any name may be asked for
KINDS.get_options = { function() return {} end, "nil empty" }

add("client", {
  attach = { "related_ids", "related_id_or_ids" }, sync = { "related_ids boolean", "related_id_or_ids" }, toggle = { "related_ids" },
  attach_with_pivot_data = { "pairs_list" }, sync_with_pivot_data = { "pairs_list boolean" },
  detach = { "related_ids" }, exists = { "related_id" }, pivot_data = { "related_id" }, find = { "related_id" },
  update_pivot_data = { "related_id to_pair" }, ids = { "" }, count = { "" }, exec = { "" }, query = { "" },
  pivot_query = { "" }, create = { "tag pair" }, create_many = { "tags pairs_beside" },
  save = { "related pair boolean" }, save_many = { "records pairs_beside boolean" },
  create_quietly = { "tag pair" }, create_many_quietly = { "tags pairs_beside" },
  save_quietly = { "related pair boolean" }, save_many_quietly = { "records pairs_beside boolean" },
  first_or_create = { "tag_filter tag pair" }, update_or_create = { "tag_filter tag pair" },
  paginate = { "maybe_page maybe_page" }, cursor_paginate = { "cursor_options" },
})
KINDS.cursor_options = { function() return {} end, "nil empty", {
  per_page = { function(bad) return { per_page = bad } end, set "nil" },
  cursor = { function(bad) return { cursor = bad } end, set "nil" },
} }
KINDS.pairs_beside = { function() return { { rank = 1 } } end, "nil empty", {
  rank = { function(bad) return { { rank = bad } } end, set "nil null" },
} }

add("relation", {
  boot = { "" }, client = { "parent" }, get_pivot_pair = { "parent" }, get_pivot_related_pair = { "related" },
  eager_query = { "parents" }, set_related = { "parent =records", "=parent records" },
  push_related = { "parent =related", "=parent added" }, set_related_for_many = { "parents =no_records" },
  related_model = { "" }, pivot_model = { "" }, sub_query = { "" }, prune = { "" },
})
KINDS.added = { function() return s.tag end, "empty" }
KINDS.no_records = { function() return {} end }


add("lumo", {
  array = { "table" }, ordered = { "pairs" }, objectid = { "hex" }, uuid = { "uuid_text" }, decimal = { "decimal_text" },
  int64 = { "integer_text" }, binary = { "bytes =subtype", "=bytes subtype" }, regex = { "bytes =flags", "=bytes flags" },
  timestamp = { "count =count", "=count count" }, datetime = { "date" },
  to_json = { "records" }, to_table = { "records" }, guard = { "fn" }, count_commands = { "fn" },
  load = { "parents relation maybe_fn" }, load_count = { "parents relation maybe_fn" },
  load_aggregate = { "parents relation =asking" }, transaction = { "maybe_fn options" },
  connection = { "connection_name" }, model = { "model_name =model_definition", "=model_name model_definition" },
  belongs_to_many = { "model_to_come" }, many_to_many = { "model_to_come relation_options" },
  ensure_indexes = { "" }, index_plan = { "plan_options" }, use_runtime = { "runtime" },
  has_one = { "model_to_come" }, has_many = { "model_to_come" }, belongs_to = { "model_to_come" },
  has_many_through = {
    "model_to_come =model_to_come", "=model_to_come model_to_come", "=model_to_come models_to_come",
  },
  on = { "listened =fn", "=listened fn" }, slow_log = { "slow_options" }, warn_about = { "warn_options" },
})
KINDS.listened = { function() return "command" end }
KINDS.slow_options = { function() return { ms = 1e9 } end, nil, {
  ms = { function(bad) return { ms = bad } end, set "huge" },
} }
KINDS.warn_options = { function() return { lazy_loading = "off" } end, nil, {
  lazy_loading = { function(bad) return { lazy_loading = bad } end, set "" },
  collection_scans = { function(bad) return { lazy_loading = "off", collection_scans = bad } end, set "nil" },
  fn = { function(bad) return { lazy_loading = "off", fn = bad } end, set "nil" },
} }
KINDS.runtime = { function() return nil end, "nil" }
KINDS.model_to_come = { function() return "CampaignTag" end, "unknown utf8 large" } -- looked for on first use
KINDS.models_to_come = { function() return { "CampaignTag", "CampaignTag" } end, "unknown utf8 large" }
KINDS.table = { function() return { 1 } end, "empty holes operator unknown_key large_key deep cycle" }
KINDS.pairs = { function() return { { "a", 1 } } end, "empty holes operator unknown_key large_key deep cycle" }
KINDS.hex = { function() return ("0"):rep(24) end, "nil" }
KINDS.uuid_text = { function() return "00000000-0000-4000-8000-000000000000" end, "nil" }
KINDS.decimal_text = { function() return "1.5" end }
KINDS.integer_text = { function() return "15" end }
KINDS.bytes = { function() return "x" end, "unknown utf8 large" }
KINDS.subtype = { function() return 5 end, "nil" }
KINDS.flags = { function() return "i" end, "nil" }
KINDS.date = { function() return 5 end }
KINDS.connection_name = { function() return "default" end, "nil" }
KINDS.model_name = { function() return "CampaignBadInput" end, "unknown" }
KINDS.model_definition = { function() return {} end, "empty", {
  columns = { function(bad) return { columns = bad } end, set "nil empty" },
  column = { function(bad) return { columns = { x = bad } } end, set "nil" },
  collection = { function(bad) return { collection = bad } end, set "nil unknown" },
  strict = { function(bad) return { strict = bad } end, set "nil" },
  extends = { function(bad) return { extends = bad } end, set "nil unknown" },
  relations = { function(bad) return { relations = bad } end, set "nil empty" },
} }
KINDS.relation_options = { function() return {} end, "nil empty" }
KINDS.plan_options = { function() return {} end, "nil empty" }

add("bson", {
  encode = { "document" }, decode = { "bson" }, to_json = { "bson =json_mode", "=bson json_mode" }, from_json = { "json" },
})
KINDS.document = { function() return { a = 1 } end, "empty operator unknown_key large_key" }
KINDS.bson = { function() return "\5\0\0\0\0" end }
KINDS.json_mode = { function() return "canonical" end, "nil" }
KINDS.json = { function() return "{}" end }
add("datetime", { now = { "" }, from_ms = { "milliseconds" } })
KINDS.milliseconds = { function() return 5 end }
add("connection", {
  ping = { "" }, server = { "" }, stats = { "" }, command = { "command" },
})
KINDS.command = { function() return { ping = 1 } end, "operator unknown_key" } -- MongoDB's own
add("transaction", { after = { "ending fn" }, commit = { "" }, rollback = { "" }, run = { "fn" } })
KINDS.ending = { function() return "commit" end }
add("stream", { close = { "" }, each = { "" }, next = { "" }, try_next = { "" } })
add("page", {
  base_url = { "url" }, query_string = { "url_values" }, get_meta = { "" }, get_url = { "count" },
  get_next_page_url = { "" }, get_previous_page_url = { "" }, get_urls_for_range = { "count =count", "=count count" },
  serialize = { "fields" },
})
add("cursor_page", {
  base_url = { "url" }, query_string = { "url_values" }, get_meta = { "" }, get_next_page_url = { "" },
  get_previous_page_url = { "" }, serialize = { "fields" },
})
local TO_ONE = {
  create = { "note" }, create_quietly = { "note" }, exec = { "" }, query = { "" }, save = { "note_record" },
  save_quietly = { "note_record" }, first_or_create = { "note_filter note" }, update_or_create = { "note_filter note" },
}
add("client_cover", TO_ONE)
add("client_cover", { first_or_create = { "cover_filter note" }, update_or_create = { "cover_filter note" } })
add("client_notes", TO_ONE)
add("client_notes", {
  create_many = { "notes" }, create_many_quietly = { "notes" }, save_many = { "note_records" },
  save_many_quietly = { "note_records" }, fetch_or_create_many = { "note_key keyed_notes" },
  update_or_create_many = { "note_key keyed_notes" }, find = { "id" }, paginate = { "maybe_page maybe_page" },
  cursor_paginate = { "cursor_options" }, preload = { "=lines_name maybe_fn" },
})
add("client_lines", {
  exec = { "" }, query = { "" }, find = { "id" }, paginate = { "maybe_page maybe_page" },
  cursor_paginate = { "cursor_options" }, preload = { "=post_name maybe_fn" },
})
add("client_post", { associate = { "post_record" }, dissociate = { "" }, exec = { "" }, query = { "" } })
local TEXT_INSIDE = { text = { function(bad) return { text = bad } end, set "nil null unknown" } }
KINDS.note = { function() return { text = "x" } end, "nil empty", TEXT_INSIDE }
KINDS.notes = { function() return { { text = "x" } } end, "empty", in_list(TEXT_INSIDE) }
KINDS.cover_filter = { function() return { text = "x" } end, "empty", { -- of has_one there is one anyway
  text = { function(bad) return { text = bad } end, set "nil null unknown" },
} }
KINDS.note_filter = { function() return { text = "x" } end, nil, {
  text = { function(bad) return { text = bad } end, set "null unknown" },
} }
KINDS.keyed_notes = { function() return { { text = "x" } } end, "empty", {
  text = { function(bad) return { { text = bad } } end, set "unknown" },
} }
KINDS.note_key = { function() return "text" end }
KINDS.note_record = { function() return s.Note:new { text = "x" } end }
KINDS.note_records = { function() return { s.Note:new { text = "x" } } end, "empty" }
KINDS.lines_name = { function() return "lines" end }
KINDS.post_name = { function() return "post" end }
KINDS.post_record = { function() return s.post end }
KINDS.url = { function() return "/posts" end, "unknown utf8 large" }
KINDS.url_values = { function() return { a = "b" } end, "empty operator unknown_key large_key" }
for _, kind in ipairs { "int64", "value", "datetime" } do
  add("value_" .. kind, { tonumber = { "" }, kind = { "" }, seconds = { "" } })
end

return METHODS, KINDS
end
