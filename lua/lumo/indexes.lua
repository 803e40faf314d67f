--- The indexes that relations need on their pivots.
local registry = require "lumo.registry"
local values = require "lumo.values"

local indexes = {}

local NAMESPACE_NOT_FOUND = 26

--- The indexes of a collection as { fields = "a,b", unique = boolean }; none when there is no collection.
local function existing(connection, collection)
  local ok, reply = pcall(connection.command, connection, { listIndexes = collection })
  if not ok then
    if type(reply) == "table" and reply.server_code == NAMESPACE_NOT_FOUND then return {} end
    error(reply, 0)
  end
  local list = {}
  for i, index in ipairs(reply.cursor.firstBatch) do
    list[i] = { key = index.key, unique = index.unique == true, name = index.name }
  end
  return list
end

--- Whether an index is on exactly these two fields, ascending, by the name that MongoDB's tools give such an
--- index or by its key.
local function is_on(index, first, second)
  local count = 0
  for _ in pairs(index.key) do count = count + 1 end
  if count ~= 2 or not index.key[first] or not index.key[second] then return false end
  return index.name == ("%s_1_%s_1"):format(first, second)
end

local function definition(first, second, unique)
  local key = values.ordered { { first, 1 }, { second, 1 } }
  local index = { { "key", key }, { "name", ("%s_1_%s_1"):format(first, second) } }
  if unique then index[3] = { "unique", true } end
  return values.ordered(index)
end

--- What a relation's pivot lacks: an index from each side, one of them unique unless the relation is a bag.
local function missing(relation, there)
  local owner, related = relation.pivot_foreign_key, relation.pivot_related_foreign_key
  local forward, backward, unique
  for _, index in ipairs(there) do
    local is_forward, is_backward = is_on(index, owner, related), is_on(index, related, owner)
    forward, backward = forward or is_forward, backward or is_backward
    unique = unique or (index.unique and (is_forward or is_backward))
  end
  local wanted = {}
  if not relation.duplicates and not unique then
    wanted[1] = definition(owner, related, true)
  elseif not forward then
    wanted[1] = definition(owner, related, false)
  end
  if not backward then wanted[#wanted + 1] = definition(related, owner, false) end
  return wanted
end

--- Creates what is missing, never drops. A pivot that holds duplicate pairs makes the unique index fail with
--- E_DUPLICATE_KEY.
--- Commands: for each relation a listIndexes, and a createIndexes if anything is missing.
---@param state lumo.State
---@param connection lumo.Connection
---@return string[] names of the indexes that were created
function indexes.ensure(state, connection)
  local made, relation_names = {}, {}
  for name in pairs(state.relations) do
    relation_names[#relation_names + 1] = name
  end
  table.sort(relation_names)
  for _, name in ipairs(relation_names) do
    local relation = state.relations[name]:boot()
    local wanted = missing(relation, existing(connection, relation.pivot_table))
    if #wanted > 0 then
      connection:command(values.ordered { { "createIndexes", relation.pivot_table }, { "indexes", wanted } })
    end
    for _, index in ipairs(wanted) do
      made[#made + 1] = index[2][2]
    end
  end
  return made
end

--- For all models, each on its own connection.
---@param resolve fun(state: lumo.State): lumo.Connection
---@return string[] names
function indexes.ensure_all(resolve)
  local made = {}
  for _, state in ipairs(registry.all()) do
    if next(state.relations) then
      for _, name in ipairs(indexes.ensure(state, resolve(state))) do
        made[#made + 1] = name
      end
    end
  end
  return made
end

return indexes
