--- Loading relations into records: at once with a query (preload), or into records that are there already
--- (load).
local ambient = require "lumo.ambient"
local aggregates = require "lumo.aggregates"
local core = require "lumo.core"
local handle = require "lumo.relations.handle"
local errors = require "lumo.errors"
local events = require "lumo.events"
local hooks = require "lumo.hooks"
local names = require "lumo.names"
local queries = require "lumo.query"
local records = require "lumo.record"
local registry = require "lumo.registry"
local run_all = require "lumo.run_all"
local raise = errors.raise
local not_called_on = errors.not_called_on

local load = {}

-- What is to be loaded, as a tree: a list of { name =, callback =, children = the same } --------------------

local function check_request(path, callback, method)
  registry.check_path(path, method)
  if callback ~= nil and type(callback) ~= "function" then
    raise("E_ARGUMENT", "the second argument of %s is a function, got %s", method, type(callback))
  end
end

--- What a copy of a query is to load.
function queries.copy_of_preloads(tree)
  local copy = {}
  for i, node in ipairs(tree) do
    copy[i] = { name = node.name, callback = node.callback, children = queries.copy_of_preloads(node.children) }
  end
  return copy
end

--- Adds a dotted path; its callback belongs to its last part.
local function add_path(tree, path, callback)
  local node
  for name in path:gmatch("[^.]+") do
    node = nil
    for _, known in ipairs(tree) do
      if known.name == name then node = known end
    end
    if not node then
      node = { name = name, children = {} }
      tree[#tree + 1] = node
    end
    tree = node.children
  end
  if callback then node.callback = callback end
end

-- Building --------------------------------------------------------------------------------------------------

local function build(node, relation, client)
  local q = relation:related_query("load", nil, client, "is_related_preload_query")
  if node.callback then node.callback(q) end
  return q
end

--- Adds the builders of a tree to those in `built`, by node, so that mistakes in names and callbacks are found before
--- anything is sent. What a function preloads with is built ahead as well, unless it is what is being preloaded:
--- documents end such a recursion, not the functions. Raises E_UNDEFINED_RELATIONSHIP, and what callbacks raise.
---@param above table<lumo.Relation, true> those whose functions are being built
local function build_tree(built, tree, state, client, above)
  for _, node in ipairs(tree) do
    local relation = registry.relation(state, node.name):boot()
    if not built[node] then
      built[node] = build(node, relation, client)
      local inner = core.query_kept(built[node]).preloads
      if inner and not above[relation] then
        above[relation] = true
        build_tree(built, inner, relation.related_state, client, above)
        above[relation] = nil
      end
      build_tree(built, node.children, relation.related_state, client, above)
    end
  end
  return built
end

--- The builder of a node, for one use. There is none where a node loads for a second list: a further batch, or
--- records of another connection.
local function take(built, node, relation, client)
  local q = built[node] or build(node, relation, client)
  built[node] = nil
  core.query_state(q).client = client
  return q
end

-- Loading ---------------------------------------------------------------------------------------------------

--- Gives each record its related ones.
local function distribute(list, relation, lists, places)
  local taken = {}
  for i, parent in ipairs(list) do
    local place = places[i]
    local related = lists[place] or {}
    if taken[place] then -- the same parent twice: each has a list of its own
      local copy = {}
      for k, one in ipairs(related) do copy[k] = one end
      related = copy
    end
    taken[place] = true
    if relation.is_one then
      handle.set_one(parent, relation, related[1])
    else
      handle.set_list(parent, relation, related)
    end
  end
end

--- What was read, in one list.
local function joined(lists)
  local all, n = {}, 0
  for _, related in ipairs(lists) do
    for _, one in ipairs(related) do
      n = n + 1
      all[n] = one
    end
  end
  return all
end

--- What loads one relation into records of one client: its query, the plan of it, and whom it is for. `policy` is
--- that of the query for whose records it loads.
local function prepare(list, node, relation, target, policy, built)
  if #list == 1 then events.loads(relation, list[1]) end
  local q = take(built, node, relation, target)
  hooks.run(relation.related_state, "before", "fetch", q)
  local kept = core.query_state(q)
  policy = kept.policy or policy
  target = ambient.with_policy(target, policy)
  queries.before_read(q, kept, built)
  if relation.is_optional then relation:check_parents(list, "load") end
  local plan, owners, places = core.load_plan(q, list)
  return {
    list = list, node = node, relation = relation, target = target, policy = policy, query = q, kept = kept,
    plan = plan, owners = owners, places = places, built = built,
  }
end

--- Makes records of what was read, loads what is to be loaded into them, and hands them out: a hook that raises keeps
--- them from their parents.
local function finish(one)
  local relation = one.relation
  local companion = records.companion(one.target, { relation = relation, partial = core.query_partial(one.query) })
  local lists = core.related_records(one.plan, relation.related_state.class, companion,
    ambient.connection(one.target).number, one.owners)
  local kept = one.kept
  if hooks.has(relation.related_state) or kept.preloads or kept.aggregates or one.node.children[1] then
    local all = joined(lists)
    hooks.run(relation.related_state, "after", "fetch", all)
    queries.after_read(all, kept, one.built, one.policy)
    load.tree(all, one.node.children, one.built, one.policy)
  end
  distribute(one.list, relation, lists, one.places)
end

local function prepare_node(loads, list, node, built, policy)
  local state = core.record_is(list[1])
  local relation = registry.relation(state, node.name):boot()
  local groups, order = records.by_client(list, state)
  for _, target in ipairs(order) do
    loads[#loads + 1] = prepare(groups[target], node, relation, target, policy, built)
  end
end

--- Loads a tree of relations into records of one model, those of one level at once where the runtime can.
--- Commands: 2 for each relation.
function load.tree(list, tree, built, policy)
  if #list == 0 then return end
  local loads = {}
  for _, node in ipairs(tree) do
    prepare_node(loads, list, node, built, policy)
  end
  run_all(loads)
  for _, one in ipairs(loads) do
    finish(one)
  end
end

function load.into(list, path, callback, method)
  check_request(path, callback, method)
  local tree = {}
  add_path(tree, path, callback)
  if not list[1] then return end
  local state = core.record_is(list[1])
  load.tree(list, tree, build_tree({}, tree, state, records.client(list[1], state), {}))
end

---@class (partial) lumo.Record
---@field load fun(self: lumo.Record, path: string, fn: fun(query: lumo.Query)|nil): lumo.Record
---@field load_once fun(self: lumo.Record, path: string, fn: fun(query: lumo.Query)|nil): lumo.Record
---@field related fun(self: lumo.Record, name: string): lumo.RelatedClient the relation's client, loaded or not

--- Loads a relation, or a dotted path of relations, whether it was loaded before or not. Commands: 2 for each
--- part.
records.method("load", function(self, path, callback)
  if not core.record_is(self) then not_called_on("load", "a record") end
  load.into({ self }, path, callback, "load")
  return self
end)

--- Loads a relation unless it is loaded.
records.method("load_once", function(self, path, callback)
  if not core.record_is(self) then not_called_on("load_once", "a record") end
  check_request(path, callback, "load_once")
  if not handle.is_loaded(self, path) then load.into({ self }, path, callback, "load_once") end
  return self
end)

records.method("related", function(self, name)
  local state = core.record_is(self) or not_called_on("related", "a record")
  return handle.new(self, registry.relation(state, name):boot())
end)

--- Loads a relation, or a dotted path of relations, into all records of a list. Commands: 2 for each part of
--- the path,
--- whatever the number of records.
---@param list lumo.Record[]|lumo.Record records of one model
---@param path string
---@param callback fun(query: lumo.Query)|nil for the last part
---@return lumo.Record[]|lumo.Record list
function load.load(list, path, callback)
  if core.record_is(list) then
    load.into({ list }, path, callback, "load")
    return list
  end
  records.check_list(list, "load")
  load.into(list, path, callback, "load")
  return list
end

-- With a query ----------------------------------------------------------------------------------------------

---@class (partial) lumo.Query
local Query = core.query_methods

--- Loads a relation (or a dotted path of them) into what the query finds. Commands: 2 more for each part of
--- the path.
---@param path string
---@param callback fun(query: lumo.Query)|nil
---@return lumo.Query self
function Query:preload(path, callback)
  check_request(path, callback, "preload")
  registry.relation(queries.to_send(self, "preload").state, path:match("^[^.]+") --[[@as string]])
  local kept = core.query_state(self)
  kept.preloads = kept.preloads or {}
  add_path(kept.preloads, path, callback)
  return self
end

--- preload, unless the relation is preloaded already.
---@param path string
---@param callback fun(query: lumo.Query)|nil
---@return lumo.Query self
function Query:preload_once(path, callback)
  check_request(path, callback, "preload_once")
  local tree = core.query_kept(self).preloads or {}
  for name in path:gmatch("[^.]+") do
    local found
    for _, node in ipairs(tree) do
      if node.name == name then found = node end
    end
    if not found then return self:preload(path, callback) end
    tree = found.children
  end
  return self
end

names.alias(Query)

--- What a query calls before it is sent: the keys that its preloads and aggregates need must be read.
--- Gives the builders of its preloads, for after_read.
function queries.before_read(q, kept, built)
  local client = queries.client(q)
  built = build_tree(built or {}, kept.preloads or {}, kept.state,
    ambient.transaction(client) or ambient.connection(client), {})
  for _, node in ipairs(kept.preloads or {}) do
    core.query_also(q, registry.relation(kept.state, node.name):boot().parent_key)
  end
  if kept.lean and kept.aggregates then
    raise("E_ARGUMENT", "with_count and with_aggregate put their results into records, and the query is lean")
  end
  for _, asked in ipairs(kept.aggregates or {}) do
    core.query_also(q, asked.relation.parent_key)
  end
  return built
end

--- What a query calls with the records that it has read; `policy` is that of the query around it.
function queries.after_read(list, kept, built, policy)
  policy = kept.policy or policy
  if kept.preloads then load.tree(list, kept.preloads, built, policy) end
  if kept.aggregates then aggregates.into(list, kept.aggregates, "with_count", policy) end
  return list
end

return load
