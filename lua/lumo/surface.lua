--- The public functions, put behind the doors for errors: which table of methods belongs to what, and so to which
--- connection.
local ambient = require "lumo.ambient"
local connections = require "lumo.connection"
local core = require "lumo.core"
local doors = require "lumo.doors"
local handle = require "lumo.relations.handle"
local queries = require "lumo.query"
local records = require "lumo.record"
local registry = require "lumo.registry"
local statics = require "lumo.statics"
local transactions = require "lumo.transaction"
local watch = require "lumo.watch"

local function of_self(self)
  return self
end

--- What options { client =, connection = } at the end of the arguments name, or nil.
local function of_options(default, ...)
  local n = select("#", ...)
  local options = n > 0 and select(n, ...) or nil
  if type(options) ~= "table" or not (rawget(options, "client") or rawget(options, "connection")) then return nil end
  local ok, client = pcall(transactions.client, options, default)
  return ok and client or nil -- what looks like options may be values of such columns
end

local function of_model(self, ...)
  local default = registry.of(self).connection
  return of_options(default, ...) or transactions.client({}, default)
end

local function of_record(self)
  return records.client(self, core.record_is(self))
end

local function of_handle(self)
  local _, _, client = handle.open(self, "client")
  return client
end

local function of_list(list)
  return of_record(core.record_is(list) and list or list[1])
end

--- Puts doors before all of them. `lumo` is the module's table, before its names have got their other spellings.
---@param lumo table<string, any>
return function(lumo)
  doors.wrap(statics, of_model)
  doors.wrap(core.query_methods, queries.client)
  doors.wrap(queries.groups, queries.client)
  doors.wrap(records.methods, of_record)
  doors.wrap(require("lumo.relations.pivot_client").methods_of(), of_handle)
  for _, methods in pairs(require("lumo.relations.clients").classes) do doors.wrap(methods, of_handle) end
  doors.wrap(connections.methods, of_self)
  doors.wrap(transactions.methods, of_self)
  doors.wrap(watch.methods, function(self) return ambient.connection(self.client) end)
  local lists = { load = lumo.load, load_count = lumo.load_count, load_aggregate = lumo.load_aggregate }
  local others = { transaction = lumo.transaction, ensure_indexes = lumo.ensure_indexes, index_plan = lumo.index_plan }
  doors.wrap(lists, of_list)
  doors.wrap(others, function(...) return of_options(nil, ...) or connections.get() end)
  for _, group in ipairs { lists, others } do
    for name, fn in pairs(group) do lumo[name] = fn end
  end
end
