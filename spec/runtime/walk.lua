-- A walk over every public function of lumo, found in its own tables: what each gives, and that it answers to its
-- camelCase spelling. The texts must be the same wherever it is walked: inline, in a loop, inside nginx.
local folder = debug.getinfo(1, "S").source:match("^@(.*)runtime/[^/]*$")
package.path = folder .. "?.lua;" .. package.path

local lumo = require "lumo"
local core = require "lumo.core"
local api = require "campaign.api"
local fixture = require "campaign.fixture"

local walk = {}

-- What runtimes differ in on purpose.
local ELSEWHERE = { ["lumo.use_runtime"] = true, ["connection.stats"] = true }
-- Values of 64 bits, which a Lua with such integers does not have.
local OF_LUAJIT = { ["value_int64.tonumber"] = true }

local function camel(name)
  return (name:gsub("_(%l)", string.upper))
end

--- One of everything that has methods, by group; `close` gives back what holds something.
local function objects(s)
  local list = {
    lumo = lumo, bson = lumo.bson, datetime = lumo.datetime, model = s.Post, query = s.Post:query(), record = s.post,
    client = s.post:related("tags"), relation = s.Post:get_relation("tags"), connection = lumo.connection(),
    transaction = lumo.transaction(), stream = s.Post:watch(), page = s.Post:query():paginate(1, 1),
    cursor_page = s.Post:query():cursor_paginate { per_page = 1 },
    value_datetime = lumo.datetime(0), value_value = lumo.regex("a"), value_int64 = lumo.int64("9007199254740993"),
  }
  for name, owner in pairs(api.direct) do list["client_" .. name] = s[owner:lower()]:related(name) end
  return list, function()
    list.transaction:rollback()
    list.stream:close()
  end
end

--- Whether an object gives the same under both spellings of a name. What stands for a model is a function of its own
--- each time it is asked for.
local function answers(object, name)
  local one, other = object[name], object[camel(name)]
  return one ~= nil and (one == other or type(other) == "function" and name:find("_model$") and one() == other())
end

local function check_spellings(s, groups, tell)
  local list, close = objects(s)
  for group, entries in pairs(groups) do
    local object = list[group] or error("nothing stands for " .. group)
    for _, entry in ipairs(entries) do
      if not OF_LUAJIT[entry.full] and not answers(object, entry.name) then
        tell(("%s: raised for its spelling %s"):format(entry.full, camel(entry.name)))
      end
    end
  end
  close()
end

local function text_of(value)
  if type(value) == "number" then return ("%.10g"):format(value) end
  local text = tostring(value):gsub("[^ -~]", function(char) return ("\\%d"):format(char:byte()) end)
  return (text:gsub(fixture.database, "DATABASE")) -- each walk has its own
end

--- The names of all functions that are called, sorted.
local function names_of(groups)
  local list = { "record.properties" }
  for _, entries in pairs(groups) do
    for _, entry in ipairs(entries) do
      if not ELSEWHERE[entry.full] and not OF_LUAJIT[entry.full] then list[#list + 1] = entry.full end
    end
  end
  table.sort(list)
  return list
end

local READS = {
  find = true, aggregate = true, count = true, distinct = true, getMore = true, ping = true, explain = true,
}

local function has_only_read(commands)
  for _, one in ipairs(commands or { { name = "the beginning" } }) do
    if not READS[one.name] then return false end
  end
  return true
end

function walk.connect(name)
  return fixture.connect("walk_" .. name)
end

--- Calls everything; `tell` gets a line for each name, or for what is wrong.
function walk.run(tell)
  local s = fixture.reset(fixture.define())
  local groups = api.groups(s)
  check_spellings(s, groups, tell)
  local calls, list = require "campaign.calls", nil
  for _, name in ipairs(names_of(groups)) do
    local call, ok, result = calls[name] or error(name .. " is not called by spec/campaign/calls.lua"), nil, nil
    if has_only_read(list) then fixture.read(s) else fixture.reset(s) end
    list = select(2, lumo.count_commands(function() ok, result = pcall(call) end))
    local reason = core.is_error(result) and result.code .. " " .. result.message or result
    tell(("%s: %s"):format(name, ok and text_of(result) or "raised " .. text_of(reason)))
  end
  fixture.drop()
end

return walk
