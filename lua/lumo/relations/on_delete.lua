--- What deleting a record does with what belongs to it: the options on_delete of its relations. What belongs to it is
--- read and written without fetch hooks: one that hides records is not to leave them behind with nobody to belong to.
local core = require "lumo.core"
local queries = require "lumo.query"
local records = require "lumo.record"
local run = require "lumo.run"
local raise = require("lumo.errors").raise

local on_delete = {}

--- The relations of a model whose option says something, by name.
---@param state lumo.State
---@return lumo.Relation[]
function on_delete.relations(state)
  local found = {}
  for _, relation in pairs(state.relations) do
    if relation.definition.options.on_delete then found[#found + 1] = relation end
  end
  table.sort(found, function(a, b) return a.relation_name < b.relation_name end)
  return found
end

local function key_of(state, one)
  return ("%s %s"):format(state.collection, tostring(core.record_get(one, state.primary)))
end

--- The step that deletes records of which nobody has said that they must be there.
local function delete_step(list, state, quiet)
  return { list = list, state = state, events = quiet and {} or { "delete" }, write = function(client)
    local plans = {}
    for i, one in ipairs(list) do plans[i] = core.delete_plan(one) end
    run(client, #plans == 1 and plans[1] or core.plan_joined(plans, true))
    records.remember(list, client)
    for _, one in ipairs(list) do core.record_deleted(one) end
  end }
end

local function without_seen(list, state, seen)
  local left = {}
  for _, one in ipairs(list) do
    local key = key_of(state, one)
    if not seen[key] then
      seen[key] = true
      left[#left + 1] = one
    end
  end
  return left
end

local add

--- What belongs to these records, hidden by hooks or not.
local function all_related(list, relation)
  local q = relation:eager_query(list)
  return queries.read(q, core.query_kept(q), "delete", 0)
end

-- What is done for a list of records, all of which have the relation's key.
local acts = {}

--- The related records go first, with what hangs on them: by then nothing points to what is gone.
function acts.cascade(list, relation, walk)
  local children = without_seen(all_related(list, relation), relation.related_state, walk.seen)
  if #children == 0 then return end
  add(children, relation.related_state, walk)
  table.insert(walk.steps, delete_step(children, relation.related_state, walk.quiet))
end

function acts.nullify(list, relation, walk)
  for _, one in ipairs(list) do
    local q = relation:related_query("delete", one, walk.client):everything()
    table.insert(walk.steps, { list = {}, state = relation.related_state, events = {}, write = function()
      queries.unset(q, relation.foreign_key)
    end })
  end
end

function acts.restrict(list, relation, walk)
  for _, one in ipairs(list) do
    if relation:related_query("delete", one, walk.client):exists() then
      raise("E_ARGUMENT", "a \"%s\" record cannot be deleted while it has \"%s\" (on_delete = \"restrict\")",
        relation.state.name, relation.relation_name)
    end
  end
end

function acts.detach(list, relation, walk)
  for _, one in ipairs(list) do
    local detach = require("lumo.relations.pairs").detach(one, relation, walk.client, "delete", true, nil, walk.quiet)
    table.insert(walk.steps, { list = {}, state = relation.state, events = {}, write = detach })
  end
end

--- Those to which anything can belong. Raises E_MISSING_ATTRIBUTE_VALUE for one whose key was not selected.
local function with_key(list, relation)
  local found, key = {}, relation.parent_key
  for _, one in ipairs(list) do
    local side = core.record_side(one)
    if core.record_get(one, key) ~= nil then
      found[#found + 1] = one
    elseif side and side.partial then
      core.raise("E_MISSING_ATTRIBUTE_VALUE", ("Cannot delete \"%s\", value of \"%s.%s\" is nil")
        :format(relation.relation_name, relation.state.name, key), { model = relation.state.name, attribute = key })
    end
  end
  return found
end

--- Adds what the deletion of these records needs to be done first.
function add(list, state, walk)
  for _, relation in ipairs(on_delete.relations(state)) do
    local owners = with_key(list, relation:boot())
    if #owners > 0 then acts[relation.definition.options.on_delete](owners, relation, walk) end
  end
end

--- The steps that come before the deletion of a record, in order. Reads what is to be deleted with it, by one command
--- for each relation and level. Raises E_ARGUMENT where "restrict" forbids it.
---@param one lumo.Record
---@param client lumo.Client
---@param quiet boolean|nil without hooks
---@return lumo.Step[]
function on_delete.steps(one, client, quiet)
  local state = core.record_is(one)
  local walk = { steps = {}, seen = { [key_of(state, one)] = true }, client = client, quiet = quiet }
  add({ one }, state, walk)
  return walk.steps
end

return on_delete
