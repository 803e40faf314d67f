--- What deleting a record does with what belongs to it: the options on_delete of its relations.
local core = require "lumo.core"
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

local acts = {}

--- The related records go first, with what hangs on them: by then nothing points to what is gone.
function acts.cascade(q, relation, walk)
  local children = without_seen(q:exec(), relation.related_state, walk.seen)
  if #children == 0 then return end
  add(children, relation.related_state, walk)
  table.insert(walk.steps, delete_step(children, relation.related_state, walk.quiet))
end

function acts.nullify(q, relation, walk)
  table.insert(walk.steps, { list = {}, state = relation.related_state, events = {}, write = function()
    q:everything():update { [relation.foreign_key] = core.null }
  end })
end

function acts.restrict(q, relation)
  if q:exists() then
    raise("E_ARGUMENT", "a \"%s\" record cannot be deleted while it has \"%s\" (on_delete = \"restrict\")",
      relation.state.name, relation.relation_name)
  end
end

--- Adds what the deletion of these records needs to be done first.
function add(list, state, walk)
  for _, relation in ipairs(on_delete.relations(state)) do
    relation:boot()
    for _, one in ipairs(list) do
      local action = relation.definition.options.on_delete
      if action == "detach" then
        local detach = require("lumo.relations.pairs").detach(one, relation, walk.client, "delete", true)
        table.insert(walk.steps, { list = {}, state = state, events = {}, write = detach })
      elseif core.record_get(one, relation.parent_key) ~= nil then
        acts[action](relation:related_query("delete", one, walk.client), relation, walk)
      end
    end
  end
end

--- The steps that come before the deletion of a record, in order. Reads what is to be deleted with it. Raises
--- E_ARGUMENT where "restrict" forbids it.
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
