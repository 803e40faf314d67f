--- lumo: an object-document mapper for MongoDB. This file is the table that `require "lumo"` gives.
local core = require "lumo.core"
core.set_source_prefix((debug.getinfo(1, "S").source:gsub("^@", ""):match("^(.*[/\\])") or ""))

local connections = require "lumo.connection"
local errors = require "lumo.errors"
local indexes = require "lumo.indexes"
local load = require "lumo.load"
local models = require "lumo.model"
local names = require "lumo.names"
require "lumo.paginate"
local records = require "lumo.record"
local relations = require "lumo.relation"
local transactions = require "lumo.transaction"
local values = require "lumo.values"
local raise = errors.raise

---@class lumo
local lumo = {
  connect = connections.connect,
  connection = connections.get,
  model = models.model,
  belongs_to_many = relations.belongs_to_many,
  many_to_many = relations.many_to_many,
  load = load.load,
  transaction = transactions.transaction,
  guard = errors.guard,
}

for name, value in pairs(values) do
  lumo[name] = value
end

--- Runs fn and gives how many commands it sent (commits and getMores included, handshakes and monitoring not)
--- and a list of them.
---@param fn function
---@return integer count
---@return { name: string, collection: string?, duration_ms: number, failed: boolean }[] commands
function lumo.count_commands(fn)
  if type(fn) ~= "function" then
    raise("E_ARGUMENT", "count_commands needs a function, got %s", type(fn))
  end
  local begin = core.commands_begin()
  local ok, err = pcall(fn)
  local list = core.commands_end(begin)
  if not ok then error(err, 0) end
  return #list, list
end

--- Creates the indexes that the relations of all models need on their pivots. Commands: createIndexes for
--- each pivot.
---@return string[] names
function lumo.ensure_indexes()
  return indexes.ensure_all(function(state)
    return state.connection and connections.resolve(state.connection) or connections.get()
  end)
end

local function check_list(list, method)
  if type(list) ~= "table" then
    raise("E_ARGUMENT", "lumo.%s needs a record or a list of records, got %s", method, type(list))
  end
  for i, one in ipairs(list) do
    if not core.record_is(one) then
      raise("E_ARGUMENT", "lumo.%s needs a list of records, entry %d is not one", method, i)
    end
  end
  return list
end

--- JSON text of a record or of a list of records.
---@param list lumo.Record|lumo.Record[]
---@return string
function lumo.to_json(list)
  if core.record_is(list) then return list:to_json() end
  return records.list_to_json(check_list(list, "to_json"))
end

--- Plain tables of a record or of a list of records, for any JSON encoder.
---@param list lumo.Record|lumo.Record[]
---@return table
function lumo.to_table(list)
  if core.record_is(list) then return list:to_table() end
  return records.list_to_table(check_list(list, "to_table"), false, {})
end

for _, group in ipairs { lumo, lumo.datetime, lumo.bson } do
  names.alias(group)
end

return lumo
