--- The indexes that relations need on their pivots.
local registry = require "lumo.registry"
local values = require "lumo.values"

local indexes = {}

local function definition(first, second, unique)
  local index = { { "key", values.ordered { { first, 1 }, { second, 1 } } }, { "name", ("%s_1_%s_1"):format(first, second) } }
  if unique then index[3] = { "unique", true } end
  return values.ordered(index)
end

--- Creates what is missing, never drops. A pivot that holds duplicate pairs makes the unique index fail with E_DUPLICATE_KEY.
---@param state lumo.State
---@param connection lumo.Connection
---@return string[] names
function indexes.ensure(state, connection)
  local made, relation_names = {}, {}
  for name in pairs(state.relations) do
    relation_names[#relation_names + 1] = name
  end
  table.sort(relation_names)
  for _, name in ipairs(relation_names) do
    local relation = state.relations[name]:boot()
    local owner, related = relation.pivot_foreign_key, relation.pivot_related_foreign_key
    connection:command(values.ordered {
      { "createIndexes", relation.pivot_table },
      { "indexes", { definition(owner, related, not relation.duplicates), definition(related, owner, false) } },
    })
    made[#made + 1] = ("%s_1_%s_1"):format(owner, related)
    made[#made + 1] = ("%s_1_%s_1"):format(related, owner)
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
