--- Loading relations into records that are there already.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local client = require "lumo.client"
local names = require "lumo.names"
local records = require "lumo.record"
local run = require "lumo.run"
local raise = require("lumo.errors").raise

local load = {}

--- The relation of that name. Raises E_UNDEFINED_RELATIONSHIP.
---@param state lumo.State
---@param name string
---@return lumo.Relation
function load.relation(state, name)
  local found = type(name) == "string" and (state.relations[name] or state.relations[names.snake(name)])
  if not found then
    core.raise("E_UNDEFINED_RELATIONSHIP", ("\"%s\" is not defined as a relationship on \"%s\" model")
      :format(tostring(name), state.name), { model = state.name })
  end
  return found
end

local function load_one(list, name, callback)
  local state = core.record_is(list[1])
  local relation = load.relation(state, name):boot()
  local target = records.client(list[1], state)
  local q = relation:related_query("load", nil, target)
  if callback then callback(q) end
  local plan, owners, places = core.load_plan(q, list)
  run(target, plan)
  local class = relation.related_state.class
  local lists = core.related_records(plan, class, records.companion(target, { relation = relation }),
    ambient.connection(target).number, owners)
  local taken, all = {}, {}
  for i, parent in ipairs(list) do
    local place = places[i]
    local related = lists[place]
    if taken[place] then -- the same parent twice: each has a list of its own
      local copy = {}
      for k, one in ipairs(related) do copy[k] = one end
      related = copy
    else
      for _, one in ipairs(related) do all[#all + 1] = one end
    end
    taken[place] = true
    client.set_list(parent, relation, related)
  end
  return all
end

--- Loads a relation, or a dotted path of relations, into all records of the list. Commands: 2 for each part
--- of the path.
---@param list lumo.Record[] all of one model
---@param path string
---@param callback fun(query: lumo.Query)|nil for the last part
function load.into(list, path, callback)
  if type(path) ~= "string" then
    raise("E_ARGUMENT", "load needs the name of a relation, got %s", type(path))
  end
  if callback ~= nil and type(callback) ~= "function" then
    raise("E_ARGUMENT", "the second argument of load is a function, got %s", type(callback))
  end
  for name, dot in path:gmatch("([^.]+)(%.?)") do
    if #list == 0 then return end
    list = load_one(list, name, dot == "" and callback or nil)
  end
end

records.method("load", function(self, name, callback)
  if not core.record_is(self) then
    raise("E_ARGUMENT", "load is called on a record; was it called with a dot instead of a colon?")
  end
  load.into({ self }, name, callback)
  return self
end)

records.method("related", function(self, name)
  local state = core.record_is(self)
    or raise("E_ARGUMENT", "related is called on a record; was it called with a dot instead of a colon?")
  return client.handle(self, load.relation(state, name):boot())
end)

--- Checks what lumo.load was given: a list of records of one model, or one record.
---@param list lumo.Record[]|lumo.Record
---@param path string
---@param callback function|nil
---@return lumo.Record[]|lumo.Record list
function load.load(list, path, callback)
  if core.record_is(list) then
    load.into({ list }, path, callback)
    return list
  end
  if type(list) ~= "table" then
    raise("E_ARGUMENT", "lumo.load needs a list of records, got %s", type(list))
  end
  local first
  for i, one in ipairs(list) do
    local state = core.record_is(one)
    first = first or state
    if not state or state ~= first then
      raise("E_ARGUMENT", "lumo.load needs records of one model, entry %d is not one", i)
    end
  end
  load.into(list, path, callback)
  return list
end

return load
