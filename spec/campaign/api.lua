-- The public functions of lumo, found in its own tables: what a campaign runs over is what users can call.
-- Each name is listed once, in snake_case; its camelCase spelling is the same function.
local lumo = require "lumo"
local core = require "lumo.core"
local names = require "lumo.names"

local api = {}

--- The value of a function's upvalue, by its name in the source.
local function upvalue(fn, wanted)
  for i = 1, 255 do
    local name, value = debug.getupvalue(fn, i)
    if not name then break end
    if name == wanted then return value end
  end
  error(("no upvalue %s: the campaign no longer finds the methods"):format(wanted))
end

local function index_of(value)
  return debug.getmetatable(value).__index
end

local function is_callable(value)
  local metatable = debug.getmetatable(value)
  return type(value) == "function" or type(value) == "table" and type(metatable) == "table"
    and rawget(metatable, "__call") ~= nil
end

-- What other parts of lumo call.
local INTERNAL = { ["transaction.remember"] = true, ["stream.take"] = true }

--- Whether a name is a function that only other parts of lumo call.
function api.is_internal(group, name)
  return INTERNAL[group .. "." .. name] == true
end

--- The functions of a table, sorted, each once.
local function functions(group, methods)
  local list = {}
  for name, value in pairs(methods) do
    if type(name) == "string" and is_callable(value) and name == names.snake(name) and not name:find("^__")
      and not INTERNAL[group .. "." .. name] then
      list[#list + 1] = { group = group, name = name, fn = value, full = group .. "." .. name }
    end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  if #list == 0 then error("no functions found in " .. group) end
  return list
end

--- Relations without a pivot, by their names in the fixture, and whose they are.
api.direct = { notes = "Post", cover = "Post", lines = "Post", post = "Note" }

local function client_methods(handle, relation)
  return upvalue(index_of(handle), "methods_of")(relation)
end

--- Groups of functions. `s` is what spec/campaign/fixture.lua makes: one of everything that has methods.
---@return table<string, { group: string, name: string, fn: function, full: string }[]>
function api.groups(s)
  local record_methods = {}
  for name, value in pairs(require("lumo.record").names()) do
    if type(value) == "function" then record_methods[name] = value end
  end
  local transaction = lumo.transaction()
  local groups = {
    lumo = functions("lumo", lumo),
    bson = functions("bson", lumo.bson),
    datetime = functions("datetime", lumo.datetime),
    model = functions("model", require("lumo.statics")),
    query = functions("query", core.query_methods),
    record = functions("record", record_methods),
    client = functions("client", client_methods(s.post:related("tags"), s.Post:get_relation("tags"))),
    relation = functions("relation", upvalue(index_of(s.Post:get_relation("tags")), "methods")),
    connection = functions("connection", index_of(lumo.connection())),
    transaction = functions("transaction", upvalue(index_of(transaction), "Transaction")),
    stream = functions("stream", index_of(s.Post:watch())),
    page = functions("page", upvalue(index_of(s.Post:query():paginate(1, 1)), "Page")),
    cursor_page = functions("cursor_page", upvalue(index_of(s.Post:query():cursor_paginate { per_page = 1 }), "Page")),
  }
  transaction:rollback()
  for name, owner in pairs(api.direct) do
    local relation = s[owner]:get_relation(name)
    local group = "client_" .. name
    groups[group] = functions(group, client_methods(s[owner:lower()]:related(name), relation))
  end
  for kind, methods in pairs(core.value_methods) do
    if next(methods) then groups["value_" .. kind] = functions("value_" .. kind, methods) end
  end
  return groups
end

--- The computed properties of records: names whose reading runs code.
function api.properties()
  local list = {}
  for name, value in pairs(require("lumo.record").names()) do
    if type(value) ~= "function" and name == names.snake(name) then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

return api
