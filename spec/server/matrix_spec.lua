-- Bad input: every public method, in every place of an argument, is given what does not belong there. It must
-- raise an error object before anything is sent and leave the record as it was, or take the value as the
-- table below says. The methods are found in lumo's own tables: one that is not in the table below fails.

package.path = "./spec/?.lua;" .. package.path
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo
local core = require "lumo.core"
local api = require "campaign.api"
local fixture = require "campaign.fixture"

helper.connect("matrix")
teardown(helper.drop)
fixture.conn = helper.conn

local unpack = table.unpack or unpack
local arguments = require "campaign.arguments"

---- what is given

local function deep()
  local value = {}
  for _ = 1, 150 do value = { a = value } end
  return value
end

local function cycle()
  local value = {}
  value.a = value
  return value
end

local LARGE = ("x"):rep(17 * 1024 * 1024)

--- Each is made anew for every call. "unknown" is a name that nothing has.
local BAD = {
  { "nil", function() return nil end },
  { "null", function() return lumo.null end },
  { "empty", function() return {} end },
  { "holes", function() return { "title", nil, "views" } end },
  { "type", function() return coroutine.create(function() end) end },
  { "operator", function() return { ["$ne"] = 1 } end },
  { "unknown", function() return "no_such_name" end },
  { "unknown_key", function() return { no_such_name = 1 } end },
  { "nan", function() return 0 / 0 end },
  { "huge", function() return 2 ^ 63 end },
  { "utf8", function() return "\255\254" end },
  { "deep", deep },
  { "cycle", cycle },
  { "large", function() return LARGE end },
  { "large_key", function() return { title = LARGE } end },
}

---- the calls

local s = fixture.reset(fixture.define())
s.conn = helper.conn
local METHODS, KINDS = arguments(s)

--- Methods that no matrix can call: those that end what the specs stand on, and those that are lumo's own.
local ELSEWHERE = {
  ["lumo.connect"] = "connection_spec", ["connection.close"] = "connection_spec",
  ["client.preload"] = "query.preload, which it calls",
  ["relation.bound_handle"] = "internal", ["relation.check_attributes"] = "internal",
  ["relation.fields_with"] = "internal", ["relation.pivot_attribute"] = "internal",
  ["relation.pivot_class"] = "internal", ["relation.related_query"] = "internal", ["relation.row_state"] = "internal",
}

local function has_pivot(name)
  return name:find("pivot", 1, true) or name:find("^group_")
end

local transaction -- that is open
s.page, s.cursor_page = s.Post:query():paginate(1, 1), s.Post:query():cursor_paginate {}

--- What a method is called on.
local MAKERS = {
  model = function() return s.Post end,
  query = function(name)
    if has_pivot(name) then return s.post:related("plain"):query() end
    return s.Post:query():where("title", "nothing has this title")
  end,
  record = function() return s.post end,
  client = function() return s.post:related("tags") end,
  relation = function() return s.Post:get_relation("tags") end,
  connection = function() return s.conn end,
  transaction = function()
    transaction = transaction and not transaction.is_completed and transaction or lumo.transaction()
    return transaction
  end,
  stream = function() return s.Post:watch() end,
  page = function() return s.page end,
  cursor_page = function() return s.cursor_page end,
}

for name, owner in pairs(api.direct) do -- relations without a pivot
  MAKERS["client_" .. name] = function() return s[owner:lower()]:related(name) end
end

local function set_of(text)
  local names = {}
  for name in (text or ""):gmatch("%S+") do names[name] = true end
  return names
end

local function state_of(record)
  local names = {}
  for name in pairs(record.dirty) do names[#names + 1] = name end
  table.sort(names)
  return record:to_json() .. table.concat(names, " ") .. tostring(record.is_persisted) .. tostring(record.is_deleted)
end

--- and_where and or_where are where's own function: what takes long is left to that one. Addresses of pages are
--- made letter by letter.
local function is_due(entry, name)
  if not name:find("^large") then return true end
  return not entry.group:find("page", 1, true) and not entry.name:find("^and_") and not entry.name:find("^or_")
end

--- What a kind of argument is not: fn(label, value, whether it is taken on purpose).
local function each_bad(entry, kind, fn)
  for _, bad in ipairs(BAD) do
    local name, make = bad[1], bad[2]
    if not is_due(entry, name) then break end
    fn(name, make(), set_of(kind[2])[name] == true)
    for inside, variant in pairs(kind[3] or {}) do
      fn(("%s in %s"):format(name, inside), variant[1](make()), variant[2][name] == true)
    end
  end
end

local READING = { find = true, aggregate = true, getMore = true, distinct = true, explain = true }

local wrote = false -- since the documents were what they are at first
local changed = true -- perhaps: the record

local function note_writes(commands)
  for _, one in ipairs(commands) do wrote = wrote or not READING[one.name] end
end

--- Calls a method with one argument in place of a right one; gives what is wrong with the outcome, or nil.
local function outcome(entry, made, list, count, taken)
  local before = entry.group == "record" and state_of(s.post)
  local ok, result
  local sent, commands = lumo.count_commands(function()
    ok, result = pcall(entry.fn, unpack(list, 1, count))
  end)
  note_writes(commands)
  changed = ok
  if ok and entry.group == "query" and made ~= nil then
    local went, err = pcall(made.exec, made)
    if not went and not core.is_error(err) then return "raises no error object when sent: " .. tostring(err) end
  end
  if ok and not taken then return "is taken" end
  if ok then return nil end
  if not core.is_error(result) then return "raises no error object: " .. tostring(result):sub(1, 300) end
  if not tostring(result.code):find("^E_%u[%u_]+$") then return "has no code: " .. tostring(result) end
  if taken then return nil end
  if sent > 0 then return ("sends %s, then raises %s"):format(commands[1].name, tostring(result):sub(1, 300)) end
  if before and before ~= state_of(s.post) then return "changes the record, then raises " .. tostring(result) end
end

local function describe_list(kinds, place, label)
  local parts = {}
  for i, kind in ipairs(kinds) do parts[i] = i == place and ("%s: %s"):format(kind, label) or kind end
  return table.concat(parts, ", ")
end

--- All calls of one form of a method.
local function check_form(entry, form, failures)
  local kinds = {}
  for word in form:gmatch("%S+") do kinds[#kinds + 1] = word end
  local maker = MAKERS[entry.group]
  local first = maker and 1 or 0
  for place, word in ipairs(kinds) do
    local kind = KINDS[word]
    if word:sub(1, 1) ~= "=" then
      assert(kind, ("no kind %q of arguments"):format(word))
      each_bad(entry, kind, function(label, bad, taken)
        if changed then s.post, changed = s.Post:find(s.post_id), false end
        local made = maker and maker(entry.name)
        local list = { made }
        for i, other in ipairs(kinds) do
          if i == place then
            list[first + i] = bad
          else
            list[first + i] = KINDS[other:gsub("^=", "")][1]()
          end
        end
        local wrong = outcome(entry, made, list, first + #kinds, taken)
        if wrong then
          failures[#failures + 1] = ("%s(%s) %s"):format(entry.full, describe_list(kinds, place, label), wrong)
        end
      end)
    end
  end
end

--- A dot in place of the colon, and what is no such object at all.
local function check_self(entry, failures)
  if not MAKERS[entry.group] then return end
  for _, wrong in ipairs { {}, { "title" }, { {} }, { 5 }, { lumo.null }, { s.tag_ids[1] } } do
    local ok, err = pcall(entry.fn, unpack(wrong))
    if ok or not core.is_error(err) then
      failures[#failures + 1] = ("%s, called on %s, %s"):format(entry.full, tostring(wrong[1]),
        ok and "does something" or "raises no error object: " .. tostring(err))
    end
  end
end

-- In order, and models last: what is added to them would be known to the others.
local function groups_in_order()
  local order, groups = {}, api.groups(s)
  for group in pairs(groups) do order[#order + 1] = group end
  table.sort(order, function(a, b)
    if (a == "model") ~= (b == "model") then return b == "model" end
    return a < b
  end)
  local i = 0
  return function()
    i = i + 1
    return order[i], groups[order[i]]
  end
end

describe("bad input", function()
  for group, entries in groups_in_order() do
    for _, entry in ipairs(entries) do
      if not ELSEWHERE[entry.full] then
        it("to " .. entry.full .. " is refused, or taken on purpose", function()
          local forms = METHODS[group] and METHODS[group][entry.name]
          assert(forms, entry.full .. " is not in spec/campaign/arguments.lua: say there what its arguments are")
          local failures = {}
          check_self(entry, failures)
          for _, form in ipairs(forms) do check_form(entry, form, failures) end
          if wrote then fixture.reset(s) end
          wrote = false
          assert(#failures == 0, "\n" .. table.concat(failures, "\n"))
        end)
      end
    end
  end

  teardown(function()
    if transaction then transaction:rollback() end
  end)

  it("is thought of for no method that is not there", function()
    local there = {}
    for _, entries in pairs(api.groups(s)) do
      for _, entry in ipairs(entries) do there[entry.full] = true end
    end
    for group, methods in pairs(METHODS) do
      for name in pairs(methods) do
        if not group:find("^value_") then
          assert(there[group .. "." .. name], ("%s.%s is gone: take it out of the table"):format(group, name))
        end
      end
    end
    for full in pairs(ELSEWHERE) do assert(there[full], full .. " is gone: take it out of the table") end
  end)
end)
