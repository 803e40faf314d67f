-- Every public function × hostile values: the outcome is an error object, or the value is compared or stored
-- literally. The functions are found in the API's own tables, their options in their own error messages, and
-- the commands that were sent are read from the server's profiler.
--
--   lua spec/campaign/injection.lua [long]     without "long" every value goes into a part of the argument positions
--
-- MongoDB's own language is let through on purpose by the functions that say so in their names: RAW below.
package.path = "./spec/?.lua;" .. package.path
local lumo = require "lumo"
local core = require "lumo.core"
local api = require "campaign.api"
local fixture = require "campaign.fixture"

local unpack = table.unpack or unpack
local print = print
_G.print = function() end -- query:debug says what it would send
local long = arg[1] == "long"
local only = arg[2] -- a pattern of names, for debugging

local RAW = {
  ["query.where_raw"] = true, ["query.and_where_raw"] = true, ["query.or_where_raw"] = true,
    ["model.aggregate"] = true,
  ["connection.command"] = true,
}
-- These end what the campaign needs, or wait for ever; they take no values.
local SKIPPED = {
  ["lumo.connect"] = true, ["connection.close"] = true, ["stream.next"] = true, ["stream.each"] = true,
}

fixture.connect("injection")
local s = fixture.reset(fixture.define())

---- hostile values: each is made anew for every call, around a mark by which it is known again in a command

local INSIDE, TEXT = "inside_", "text_" -- what a mark in a table, and one that is a value by itself, begins with

local hostile = {}

local function add(name, make)
  hostile[#hostile + 1] = { name = name, make = make }
end

for _, operator in ipairs {
  "$gt", "$ne", "$where", "$regex", "$in", "$or", "$expr", "$set", "$literal", "$not", "$elemMatch",
} do
  add("{" .. operator .. "}", function(n) return { [operator] = INSIDE .. n } end)
end
add("nested operator", function(n) return { a = { b = { ["$ne"] = INSIDE .. n } } } end)
add("operator in a list", function(n) return { { ["$gt"] = INSIDE .. n } } end)
add("operator far down", function(n)
  local value = { ["$where"] = INSIDE .. n }
  for _ = 1, 60 do value = { a = value } end
  return value
end)
add("ordered operator", function(n) return lumo.ordered { { "$ne", INSIDE .. n } } end)
add("array of operators", function(n) return lumo.array { { ["$ne"] = INSIDE .. n } } end)
add("$or of filters", function(n) return { ["$or"] = { { title = INSIDE .. n } } } end)
add("operator beside a name", function(n) return { a = 1, ["$gt"] = INSIDE .. n } end)
add("$ text", function(n) return "$" .. TEXT .. n end)
add("$$ text", function(n) return "$$ROOT." .. TEXT .. n end)
add("$where text", function() return "$where" end)
add("positional path", function(n) return "free.$[]." .. TEXT .. n end)
add("dotted $ path", function(n) return "free.$" .. TEXT .. n end)
add("empty path parts", function() return "free..a" end)
add("text with NUL", function(n) return "title\0" .. TEXT .. n end)
add("text with NUL and $", function() return "a\0.$where" end)
add("invalid UTF-8", function() return "\255\254" end)
add("empty text", function() return "" end)
add("name of a collection with $", function() return "$cmd" end)
add("long text", function() return ("x"):rep(4000) end)
add("24 characters that are no hex", function() return ("z"):rep(24) end)
add("24 hex digits", function() return fixture.id(101) end)
add("NaN", function() return 0 / 0 end)
add("infinity", function() return math.huge end)
add("fraction", function() return 1.5 end)
add("negative", function() return -1 end)
add("true", function() return true end)
add("false", function() return false end)
add("null", function() return lumo.null end)
add("hole", function() return { 1, nil, 3 } end)
add("hole at the start", function() return { [2] = "x" } end)
add("mixed table", function(n) return { 1, a = INSIDE .. n } end)
add("float key", function() return { [1.5] = "x" } end)
add("cycle", function()
  local value = {}
  value.a = value
  return value
end)
add("metatable that answers operators", function(n)
  return setmetatable({}, {
    __index = function(_, key) -- an end, for loops by position
      return (type(key) ~= "number" or key < 4) and { ["$ne"] = INSIDE .. n } or nil
    end,
    __len = function() return 3 end,
    __pairs = function() return function() end end, __tostring = function() return fixture.id(1) end,
    __call = function() return true end,
  })
end)
add("metatable around a list", function(n)
  return setmetatable({ 1, 2 }, { __index = { id = { ["$gt"] = INSIDE .. n } }, __eq = function() return true end })
end)
for _, marker in ipairs {
  { "$oid", fixture.id(101) }, { "$date", "2024-01-01T00:00:00Z" }, { "$numberLong", "1" }, { "$numberDouble", "NaN" },
  { "$binary", { base64 = "", subType = "00" } }, { "$regularExpression", { pattern = "", options = "" } },
  { "$undefined", true }, { "$minKey", 1 }, { "$symbol", "x" }, { "$uuid", "x" },
} do
  add("look-alike {" .. marker[1] .. "}", function() return { [marker[1]] = marker[2] } end)
end
add("reference", function(n) return { ["$ref"] = "tags", ["$id"] = INSIDE .. n } end)
add("regular expression", function() return lumo.regex("", "i") end)
add("list with a regular expression", function() return { lumo.regex("") } end)
add("min key", function() return lumo.bson.decode(lumo.bson.from_json('{"a":{"$minKey":1}}')).a end)
add("code", function() return lumo.bson.decode(lumo.bson.from_json('{"a":{"$code":"return true"}}')).a end)
add("undefined", function() return lumo.bson.decode(lumo.bson.from_json('{"a":{"$undefined":true}}')).a end)
add("decimal NaN", function() return lumo.decimal("NaN") end)
add("binary", function() return lumo.binary("$where") end)
add("coroutine", function() return coroutine.create(function() end) end)
add("file", function() return io.stdout end)
add("record of another model", function() return s.Loose:new { title = "x" } end)
add("query", function() return s.Post:query():where("title", "x") end)
add("model", function() return s.Tag end)
add("handle", function() return s.post:related("plain") end)
local spare = lumo.connect(fixture.uri(), { name = "spare", database = "unused" })
add("connection", function() return spare end)

---- argument positions

local ID = lumo.objectid(fixture.id(103))

local function as_key(value)
  return type(value) ~= "number" or value == value
end

local positions = {
  { "h", function(h) return h end },
  { "h, h", function(h) return h, h end },
  { '"any", h', function(h) return "any", h end },
  { '"title", h', function(h) return "title", h end },
  { '"any", "=", h', function(h) return "any", "=", h end },
  { '"any", h, 1', function(h) return "any", h, 1 end },
  { '"views", h', function(h) return "views", h end },
  { '"labels", h', function(h) return "labels", h end },
  { '"free", h', function(h) return "free", h end },
  { '"any", {h}', function(h) return "any", { h } end },
  { '"any", {h, h}', function(h) return "any", { h, h } end },
  { '"list", {h}', function(h) return "list", { h } end },
  { "h, 1", function(h) return h, 1 end },
  { 'h, "=", 1', function(h) return h, "=", 1 end },
  { '"any", "=", h as a name', function(h) return "views", "=", h end },
  { "{any = h}", function(h) return { any = h } end },
  { "{title = h}", function(h) return { title = h } end },
  { "{meta = {colour = h}}", function(h) return { meta = { colour = h } } end },
  { "{free = {a = h}}", function(h) return { free = { a = h } } end },
  { "{[h] = 1}", function(h) return { [h] = 1 } end, as_key },
  { "{[h] = {rank = 1}}", function(h) return { [h] = { rank = 1 } } end, as_key },
  { "{free = {[h] = 1}}", function(h) return { free = { [h] = 1 } } end, as_key },
  { "{h}", function(h) return { h } end },
  { "{{h}}", function(h) return { { h } } end },
  { "{{any = h}}", function(h) return { { any = h } } end },
  { "id, h", function(h) return ID, h end },
  { "id, {any = h}", function(h) return ID, { any = h } end },
  { "id, {[h] = 1}", function(h) return ID, { [h] = 1 } end, as_key },
  { "{[id] = h}", function(h) return { [ID] = h } end },
  { "{[id] = {any = h}}", function(h) return { [ID] = { any = h } } end },
  { "{{id = h}}", function(h) return { { id = h, pivot_data = { rank = 1 } } } end },
  { "{{id, pivot_data = h}}", function(h) return { { id = ID, pivot_data = h } } end },
  { "{{id, pivot_data = {any = h}}}", function(h) return { { id = ID, pivot_data = { any = h } } } end },
  { "{any = 1}, h", function(h) return { any = 1 }, h end },
  { '"tags", h', function(h) return "tags", h end },
  { '"tags", {h}', function(h) return "tags", { h } end },
  { '"numbers", element is h', function(h) return "numbers", function(one) one:where(h) end end },
  { '"labels", element in {h}', function(h) return "labels", function(one) one:or_where_in { h } end end },
  { '"rows", colour of the element is h', function(h) return "rows", function(row) row:where("colour", h) end end },
  { '"rows", h of the element', function(h) return "rows", function(row) row:where(h, 1) end end },
}

---- what was sent

local violations = {}

local function violation(text)
  violations[#violations + 1] = text
end

local COMPARISONS = {
  ["$eq"] = true, ["$ne"] = true, ["$gt"] = true, ["$gte"] = true, ["$lt"] = true, ["$lte"] = true,
}
local LISTS = { ["$in"] = true, ["$nin"] = true, ["$all"] = true }
local JOINS = { ["$and"] = true, ["$or"] = true, ["$nor"] = true }

local function holds(value, mark)
  return type(value) == "string" and value:find(mark, 1, true) ~= nil
end

--- No part of a path begins with "$".
local function check_path(path, where)
  if path == "" or path:find("^%$") or path:find("%.%$") or path:find("%z") then
    violation(("the name %q in %s"):format(path, where))
  end
end

local function is_regex(value)
  return type(value) == "userdata" and tostring(value):find("$regularExpression", 1, true) ~= nil
end

--- Expressions: no text of ours is a path or an operator outside of a $literal.
local function check_expression(value, where)
  if holds(value, INSIDE) or (holds(value, TEXT) and value:find("^%$")) then
    violation(("the text %q as an expression in %s"):format(value, where))
  elseif type(value) == "table" then
    for key, one in pairs(value) do
      if key ~= "$literal" then check_expression(one, where .. "." .. tostring(key)) end
    end
  end
end

local check_filter

--- What stands beside a field's name: operators of lumo's with literals, never a value by itself.
local function check_operators(operators, where)
  if type(operators) ~= "table" or next(operators) == nil then
    return violation(("%s is compared without an operator"):format(where))
  end
  for key, value in pairs(operators) do
    local here = ("%s.%s"):format(where, tostring(key))
    if COMPARISONS[key] then
      if holds(value, INSIDE) then violation(here .. " has an operator of the value's") end
    elseif LISTS[key] then
      for _, one in ipairs(type(value) == "table" and value or { value }) do
        if is_regex(one) then violation(here .. " holds a pattern") end
        if key == "$all" and type(one) == "table" and one["$elemMatch"] ~= nil then
          violation(here .. " holds $elemMatch")
        end
        if holds(one, INSIDE) and type(value) ~= "table" then violation(here .. " is not a list") end
      end
    elseif key == "$not" then
      check_operators(value, here)
    elseif key == "$elemMatch" then -- over documents, or over values
      local first = next(value)
      local is_operator = type(first) == "string" and first:find("^%$") and not JOINS[first]
      if is_operator then check_operators(value, here) else check_filter(value, here) end
    elseif key == "$exists" then
      if type(value) ~= "boolean" then violation(here .. " is not a boolean") end
    elseif key == "$type" then -- what a key is not
      local types = type(value) == "table" and table.concat(value, " ") or value
      if types ~= "array" and types ~= "regex array" then violation(here .. " is not a type of lumo's") end
    elseif key == "$size" then
      if type(value) ~= "number" then violation(here .. " is not a number") end
    elseif key == "$regex" then
      if type(value) == "table" or holds(value, INSIDE) then violation(here .. " has an operator of the value's") end
    elseif key ~= "$options" or not (type(value) == "string" and value:find("^[is]*$")) then
      violation(here .. " is no operator of lumo's")
    end
  end
end

function check_filter(filter, where)
  if type(filter) ~= "table" then return violation(where .. " is not a filter") end
  for key, value in pairs(filter) do
    local here = ("%s.%s"):format(where, tostring(key))
    if JOINS[key] then
      for _, one in ipairs(type(value) == "table" and value or { value }) do check_filter(one, here) end
    elseif key == "$expr" then
      check_expression(value, here)
    elseif type(key) ~= "string" then
      violation(here .. " has no name")
    elseif key == "_id" and type(value) ~= "table" and not is_regex(value) then -- nothing that could be an operator
      if holds(value, INSIDE) then violation(here .. " is a part of a value") end
    else
      check_path(key, where)
      if key:find("^%$") == nil then check_operators(value, here) end
    end
  end
end

local UPDATES = { ["$set"] = true, ["$unset"] = true, ["$inc"] = true, ["$setOnInsert"] = true }

local function check_update(update, where)
  if update[1] ~= nil then return check_expression(update, where) end
  for operator, fields in pairs(update) do
    if not UPDATES[operator] then
      violation(("%s.%s is no operator of lumo's"):format(where, operator))
    else
      for path in pairs(fields) do check_path(path, where .. "." .. operator) end
    end
  end
end

local function check_names(document, where)
  for path, value in pairs(document or {}) do
    check_path(path, where)
    if type(value) ~= "number" then violation(("%s.%s is not a number"):format(where, path)) end
  end
end

local function check_pipeline(pipeline)
  for _, stage in ipairs(pipeline) do
    local name, value = next(stage)
    if name == "$match" then
      check_filter(value, "$match")
    elseif name == "$sort" then
      check_names(value, "$sort")
    else
      check_expression(value, name)
    end
  end
end

local function check_command(entry)
  local command = entry.command or {}
  if command["$truncated"] then error("the profiler cut a command off") end
  if entry.ns:find("%$") then violation("the collection " .. entry.ns) end
  if entry.op == "update" then
    check_filter(command.q, "q")
    check_update(command.u, "u")
  elseif entry.op == "remove" then
    check_filter(command.q, "q")
  elseif command.find then
    check_filter(command.filter or {}, "filter")
    check_names(command.projection, "projection")
    check_names(command.sort, "sort")
  elseif command.aggregate then
    check_pipeline(command.pipeline)
  end
end

---- the profiler

local PROFILE_BYTES = 64 * 1024 * 1024
local sent = 0

local function profile(level)
  s.conn:command(lumo.ordered { { "profile", level } })
end

local function begin_profile()
  profile(0)
  pcall(s.conn.command, s.conn, { drop = "system.profile" })
  s.conn:command(lumo.ordered { { "create", "system.profile" }, { "capped", true }, { "size", PROFILE_BYTES } })
end

--- Checks all that the server has seen in the background of `name` since the last time, and forgets it.
local function end_profile(name)
  profile(0)
  local reply = s.conn:command(lumo.ordered {
    { "find", "system.profile" }, { "filter", { ns = { ["$not"] = lumo.regex("system[.]profile$") } } },
    { "batchSize", 10000000 },
  })
  while true do
    for _, entry in ipairs(reply.cursor.firstBatch or reply.cursor.nextBatch) do
      sent = sent + 1
      if not RAW[name] then
        local before = #violations
        check_command(entry)
        for i = before + 1, #violations do
          violations[i] = ("%s sent %s: %s"):format(name, entry.op, violations[i])
        end
      end
    end
    if tostring(reply.cursor.id) == "0" then break end
    reply = s.conn:command(lumo.ordered { { "getMore", reply.cursor.id }, { "collection", "system.profile" } })
  end
  begin_profile()
end

---- calls

local calls, refused, accepted = 0, 0, 0

local function is_query(value)
  return pcall(core.query_state, value)
end

--- Does with a result what a program would: runs a query, saves a record, ends what it has begun.
local function follow(result)
  if type(result) == "function" then pcall(result) end -- an iterator; or what ends a subscription
  if type(result) ~= "userdata" and type(result) ~= "table" then return end
  if core.record_is(result) then
    pcall(function() if not result.is_deleted then result:save() end end)
  elseif is_query(result) then
    pcall(result.exec, result)
    pcall(result.count, result)
  end
end

--- Checks that what a call stored under "any" is the very value.
local function check_stored(where, value)
  local ok, wanted = pcall(lumo.bson.encode, { v = value })
  for _, collection in ipairs { "posts", "tags", "post_tags", "post_plain", "post_bag", "loose", "notes", "lines" } do
    for _, doc in ipairs(fixture.docs(collection)) do
      local any = doc.any
      if any ~= nil and not (type(any) == "string" and any:find("any %d$")) and any ~= 1 then
        if not ok or lumo.bson.encode { v = any } ~= wanted then
          violation(("%s stored another value in %s"):format(where, collection))
        end
      end
    end
  end
end

local touched

--- One call; `self` makes what comes before the arguments. True if it was not refused.
local function call(name, where, fn, ...)
  calls = calls + 1
  local count, list = 0, {}
  local ok, result
  local arguments, n = { ... }, select("#", ...)
  local good, err = pcall(function()
    count, list = lumo.count_commands(function()
      ok, result = pcall(fn, unpack(arguments, 1, n))
      if ok then follow(result) end
    end)
  end)
  if not good then ok, result = false, err end
  touched = false
  for i = 1, count do
    local command = list[i].name
    if command ~= "find" and command ~= "aggregate" and command ~= "getMore" then touched = true end
  end
  if ok then
    accepted = accepted + 1
  else
    refused = refused + 1
    if not core.is_error(result) then
      violation(("%s(%s) raised no error object: %s"):format(name, where, tostring(result):sub(1, 200)))
    end
  end
  return ok
end

local makers = {
  model = function() return s.Post end,
  query = function() return s.Post:query() end,
  record = function() return s.record end,
  relation = function() return s.Post:get_relation("tags") end,
  connection = function() return s.conn end,
  transaction = function()
    if not (s.trx and s.trx.is_active) then s.trx = lumo.transaction() end
    return s.trx
  end,
  stream = function()
    if not s.stream or s.stream.is_over then s.stream = s.Loose:watch { max_await_ms = 1 } end
    return s.stream
  end,
  page = function() return s.Post:query():paginate(1, 2) end,
  cursor_page = function() return s.Post:query():cursor_paginate { per_page = 2 } end,
}

for name, owner in pairs(api.direct) do
  makers["client_" .. name] = function() return s[owner:lower()]:related(name) end
end

local function fresh_record()
  s.record = s.Post:find(s.post_id)
  if not s.record then
    fixture.reset(s)
    s.record = s.Post:find(s.post_id)
  end
end

--- The options of a function: what its refusal of an unknown one lists, for each place of an argument.
local function options_of(fn, self)
  local found = {}
  for place = 1, 7 do
    local arguments = { "CampaignTag", "x", "x", "x", "x", "x" }
    if self ~= nil then table.insert(arguments, 1, self) end
    local at = place + (self ~= nil and 1 or 0)
    arguments[at] = { no_such_option = 1 }
    local ok, err = pcall(fn, unpack(arguments, 1, at))
    local names = not ok and core.is_error(err) and tostring(err.message):match("has no option .-; it has: (.*)$")
    for option in (names or ""):gmatch("%S+") do
      found[#found + 1] = { option = option, place = at, arguments = arguments }
    end
  end
  return found
end

--- Short form: each value goes to a part of the positions, which turns from function to function.
local turn = 0
local function is_due(i, j)
  return long or (i + 7 * j + turn) % 12 == 0
end

local function campaign_on(name, group, fn, make)
  local self = make and make()
  local options = options_of(fn, self)
  turn = turn + 1
  for i, value in ipairs(hostile) do
    for j, position in ipairs(positions) do
      local number = ("%d_%d_%d"):format(turn, i, j)
      if is_due(i, j) and (not position[3] or position[3](value.make(number))) then
        local h = value.make(number)
        local where = ("%s with %s"):format(position[1], value.name)
        if group == "record" and touched ~= false then fresh_record() end
        local ok
        if make then
          ok = call(name, where, fn, make(), position[2](h))
        else
          ok = call(name, where, fn, position[2](h))
        end
        if ok and touched then
          if position[1]:find("any = h", 1, true) then check_stored(("%s(%s)"):format(name, where), h) end
          fixture.reset(s)
        end
      end
    end
    -- In the place of the object, as with a dot in the place of a colon.
    if make then call(name, value.name .. " as self", fn, value.make("0"), "any", 1) end
    for _, one in ipairs(options) do
      local arguments = {}
      for k, argument in pairs(one.arguments) do arguments[k] = argument end
      arguments[one.place] = { [one.option] = value.make("1") }
      call(name, ("option %s = %s"):format(one.option, value.name), fn, unpack(arguments, 1, one.place))
    end
  end
end

---- definitions: names in them become fields and collections

local COLUMN_OPTIONS = { "column", "serialize_as", "default", "enum", "match", "min", "max", "of", "columns" }

local function use_model(definition)
  local model = lumo.model("CampaignHostile", definition)
  local record = model:create({ x = "a" })
  model:query():where("x", "a"):exec()
  record:delete()
end

local function campaign_on_definitions()
  local parent_count = 0
  for _, value in ipairs(hostile) do
    call("lumo.model", "name " .. value.name, lumo.model, value.make("2"), {})
    call("lumo.model", "definition " .. value.name, lumo.model, "CampaignHostile", value.make("2"))
    for _, option in ipairs(COLUMN_OPTIONS) do
      call("lumo.model", ("column option %s = %s"):format(option, value.name), use_model,
        { collection = "hostile",
          columns = { x = { option == "of" and "array" or "string", [option] = value.make("2") } } })
    end
    call("lumo.model", "collection " .. value.name, use_model, { collection = value.make("2"),
      columns = { x = "string" } })
    local name = value.make("2")
    if as_key(name) then
      call("lumo.model", "column " .. value.name, use_model, { collection = "hostile",
        columns = { x = "string", [name] = "string" } })
      call("lumo.model", "relation " .. value.name, lumo.model, "CampaignHostile",
        { relations = { [name] = lumo.many_to_many("CampaignTag") } })
    end
    for _, one in ipairs(options_of(lumo.many_to_many)) do
      parent_count = parent_count + 1
      call("lumo.many_to_many", ("%s = %s"):format(one.option, value.name), function()
        local options = { pivot_table = "hostile_pivot", pivot_foreign_key = "p", pivot_related_foreign_key = "q" }
        options[one.option] = value.make("2")
        local relation = "hostile_" .. parent_count
        s.Loose:many_to_many(relation, "CampaignTag", options)
        local client = s.Loose:first_or_fail():related(relation)
        client:attach(s.tag_ids[1])
        client:exec()
        client:query():where("name", "x"):exec()
        client:detach()
      end)
    end
  end
end

---- all of it

local passed, failed = 0, 0

local function run(name, fn, ...)
  if only and not name:find(only) then return end
  local before = #violations
  profile(2)
  fn(...)
  end_profile(name)
  fixture.reset(s)
  fresh_record()
  if #violations == before then
    passed = passed + 1
  else
    failed = failed + 1
    local shown = {}
    for i = before + 1, #violations do
      if #shown == 8 then
        print(("   … and %d more of %s"):format(#violations - before - 8, name))
        break
      end
      shown[#shown + 1] = violations[i]
      print("   " .. violations[i])
    end
  end
end

begin_profile()
fresh_record()
for group, entries in pairs(api.groups(s)) do
  for _, entry in ipairs(entries) do
    if not SKIPPED[entry.full] then
      if group == "query" then -- of a model, and across a relation
        run(entry.full, campaign_on, entry.full, group, entry.fn, makers.query)
        RAW[entry.full .. " across"] = RAW[entry.full]
        run(entry.full .. " across", campaign_on, entry.full, group, entry.fn, function()
          return s.post:related("plain"):query():where("name", "!=", "x"):or_where_pivot("rank", 1)
        end)
      elseif group == "client" then
        for _, relation in ipairs { "tags", "plain", "bag", "untyped" } do
          run(entry.full, campaign_on, entry.full, group, entry.fn, function() return s.post:related(relation) end)
        end
      else
        run(entry.full, campaign_on, entry.full, group, entry.fn, makers[group])
      end
    end
  end
end
run("model.create", campaign_on, "model.create", "model", s.Loose.create, function() return s.Loose end)
run("model.query", campaign_on_definitions)

fixture.drop()
print(("%d calls with hostile values: %d refused, %d taken; %d commands checked"):format(calls, refused,
  accepted, sent))
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1, true)
