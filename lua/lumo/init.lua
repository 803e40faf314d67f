--- lumo: an object-document mapper for MongoDB. This file is the table that `require "lumo"` gives.
local core = require "lumo.core"
core.set_source_prefix((debug.getinfo(1, "S").source:gsub("^@", ""):match("^(.*[/\\])") or ""))

local aggregates = require "lumo.aggregates"
local connections = require "lumo.connection"
local errors = require "lumo.errors"
local events = require "lumo.events"
local index_plan = require "lumo.index_plan"
local load = require "lumo.load"
local models = require "lumo.model"
local names = require "lumo.names"
local naming = require "lumo.naming"
require "lumo.has"
require "lumo.relations.pivot_client"
require "lumo.operators"
require "lumo.paginate"
require "lumo.cursor"
local records = require "lumo.record"
local registry = require "lumo.registry"
local direct = require "lumo.relations.direct"
local relations = require "lumo.relations.many_to_many"
local runtime = require "lumo.runtime"
local through = require "lumo.relations.through"
local transactions = require "lumo.transaction"
local values = require "lumo.values"
local raise = errors.raise

---@class lumo: lumo.Values
local lumo = {
  connect = connections.connect,
  connection = connections.get,
  model = models.model,
  belongs_to_many = relations.belongs_to_many,
  many_to_many = relations.many_to_many,
  has_one = direct.has_one,
  has_many = direct.has_many,
  belongs_to = direct.belongs_to,
  has_many_through = through.has_many_through,
  load = load.load,
  load_count = aggregates.load_count,
  load_aggregate = aggregates.load_aggregate,
  transaction = transactions.transaction,
  guard = errors.guard,
  on = events.on,
  count_commands = events.count_commands,
  slow_log = events.slow_log,
  warn_about = events.warn_about,
  naming = naming.default,
  use_runtime = runtime.use,
}

for name, value in pairs(values) do
  lumo[name] = value
end

--- Creates the indexes that all models declare and that their relations need on their pivots, where they are missing;
--- changes and drops nothing. Raises as Model:ensure_indexes. Commands: a listIndexes for each collection, and a
--- createIndexes if anything is missing.
---@return string[] names of the indexes that were created
function lumo.ensure_indexes()
  return index_plan.ensure(registry.all(), connections.of_model)
end

--- What is missing, what is extra, what differs, and the duplicates that would break a unique index; `tostring` lists
--- it. Sends no change unless told: `apply` creates what is missing (E_DUPLICATE_KEY, and nothing changed, where
--- there are duplicates) and changes in place what can be; `drop`, too, hides what is extra or differs, and drops
--- what is hidden already. Commands: a listIndexes for each collection, an aggregate for each unique index that is
--- missing; and those of the changes.
---@param options { apply: boolean?, drop: boolean? }|nil
---@return lumo.IndexPlan
function lumo.index_plan(options)
  options = index_plan.options(options)
  local plan = index_plan.new(registry.all(), connections.of_model)
  return options.apply and index_plan.apply(plan, options.drop) or plan
end

local function check_list(list, method)
  if type(list) ~= "table" then
    raise("E_ARGUMENT", "lumo.%s needs a record or a list of records, got %s", method, type(list))
  end
  if not core.list_size(list) then raise("E_ARGUMENT", "lumo.%s needs a list of records without holes", method) end
  for i, one in ipairs(list) do
    if not core.record_is(one) then
      raise("E_ARGUMENT", "lumo.%s needs a list of records, entry %d is not one", method, i)
    end
  end
  return list
end

--- JSON text of a record or of a list of records.
---@param list lumo.Record|lumo.Record[]
---@param ... nil nothing: options are record:serialize's
---@return string
function lumo.to_json(list, ...)
  if select("#", ...) > 0 then raise("E_ARGUMENT", "lumo.to_json takes no options: record:serialize does") end
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

-- err.serverCode: the fields of errors, too, answer to both spellings.
core.error_index(function(err, key)
  local name = type(key) == "string" and names.snake(key)
  return name ~= key and rawget(err, name) or nil
end)

require "lumo.surface"(lumo)
for _, group in ipairs { lumo, lumo.datetime, lumo.bson } do
  names.alias(group)
end

return lumo
