--- The query builder: what of it calls functions of the user or sends. Conditions, orders and limits are
--- methods in C, in the same table.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local names = require "lumo.names"
local record = require "lumo.record"
local run = require "lumo.run"
local transactions = require "lumo.transaction"
local raise = require("lumo.errors").raise

---@class lumo.Query
local Query = core.query_methods

local QUERY_OPTIONS = { client = true, connection = true }

local query = {}

--- What lua/lumo keeps with a query: model state, connection, relation.
local function state_of(q)
  return core.query_state(q)
end

--- What a query runs on: what it was given, else its model's connection, which may not be open before it is
--- sent.
local function client_of(kept)
  return kept.client or transactions.client({}, kept.state.connection)
end

--- A query over all documents of a model.
---@param state lumo.State
---@param options table|nil { client =, connection = }
---@return lumo.Query
function query.of_model(state, options)
  options = names.options("query", options, QUERY_OPTIONS)
  local q = core.query_new(state.schema)
  local kept = state_of(q)
  kept.state = state
  if options.client or options.connection then kept.client = transactions.client(options) end
  return q
end

--- A query made by the core (across a relation, over a pivot), dressed for Lua.
---@param q userdata
---@param state { state: table, class: table, name: string }
---@param relation lumo.Relation|nil whose related records it gives
---@param client lumo.Client
function query.of_relation(q, state, relation, client)
  local kept = state_of(q)
  kept.state, kept.relation, kept.client = state, relation, client
  return q
end

-- Conditions that take a function ---------------------------------------------------------------------------

local function group(q, fn, join, negated)
  local count, depth = core.query_open(q, join, negated)
  local ok, err = pcall(fn, q)
  if not ok then
    core.query_rewind(q, count, depth)
    error(err, 0)
  end
  core.query_close(q)
  return q
end

--- where(t, names): a table of conditions in which these names must be there.
local function demand(t, wanted, method)
  if type(wanted) ~= "table" then
    raise("E_ARGUMENT", "%s(table, names) needs a list of names, got %s", method, type(wanted))
  end
  for _, name in ipairs(wanted) do
    if t[name] == nil then
      raise("E_ARGUMENT", "%s needs \"%s\" in the table, and it is nil", method, tostring(name))
    end
  end
end

for _, form in ipairs {
  { "where", "and", false }, { "and_where", "and", false }, { "or_where", "or", false },
  { "where_not", "and", true }, { "and_where_not", "and", true }, { "or_where_not", "or", true },
} do
  local name, join, negated = form[1], form[2], form[3]
  local where = Query[name]
  Query[name] = function(q, first, ...)
    if type(first) == "function" and select("#", ...) == 0 then return group(q, first, join, negated) end
    if type(first) == "table" and select("#", ...) == 1 then
      demand(first, (...), name)
      return where(q, first)
    end
    return where(q, first, ...)
  end
end

--- Runs fn(query) if the condition holds, else else_fn(query).
function Query:when(condition, fn, else_fn)
  if condition then
    fn(self)
  elseif else_fn then
    else_fn(self)
  end
  return self
end

function Query:unless(condition, fn, else_fn)
  return self:when(not condition, fn, else_fn)
end

--- A query of its own that starts where this one stands.
---@return lumo.Query
function Query:clone()
  return core.query_clone(self)
end

-- Sending ---------------------------------------------------------------------------------------------------

--- Gives the records that a find plan has read.
local function records_of(kept, plan, client)
  local number = ambient.connection(client).number
  if not kept.relation then
    return core.plan_records(plan, kept.state.class, number, record.companion(client))
  end
  local companion = record.companion(client, { relation = kept.relation })
  return core.related_records(plan, kept.state.class, companion, number, 1)[1]
end

local function fetch(q, method, limit)
  local kept = state_of(q)
  local plan = core.query_find_plan(q, method, limit, false)
  local client = client_of(kept)
  run(client, plan)
  return records_of(kept, plan, client)
end

--- All records that match. Commands: find; across a relation one on the pivot and one on the related
--- collection.
---@return table[]
function Query:exec()
  return fetch(self, "exec", 0)
end

--- The first record, or nil. Commands: as exec.
function Query:first()
  return fetch(self, "first", 1)[1]
end

--- The first record. Raises E_ROW_NOT_FOUND. Commands: as exec.
function Query:first_or_fail()
  local found = fetch(self, "first_or_fail", 1)[1]
  if found == nil then
    local kept = state_of(self)
    core.raise("E_ROW_NOT_FOUND", ("no \"%s\" matches the query"):format(kept.state.name), { model = kept.state.name })
  end
  return found
end

--- True if anything matches. Commands: as exec, for one document.
---@return boolean
function Query:exists()
  return fetch(self, "exists", 1)[1] ~= nil
end

--- How many match, limit and offset respected. Commands: aggregate; across a relation a find on the pivot
--- first.
---@return integer
function Query:count()
  local kept = state_of(self)
  local plan = core.query_count_plan(self)
  run(client_of(kept), plan)
  if not kept.relation then return core.plan_count(plan) end
  local limit, offset = core.query_bounds(self) -- the related command counts them all
  local count = math.max(core.related_count(plan) - offset, 0)
  if limit > 0 and count > limit then count = limit end
  return count
end

--- Closes a cursor when a loop is left early (Lua 5.4); elsewhere the collector does it.
local Closer = { __close = function(closer) core.plan_close(closer.plan) end }

--- The records one by one, from a cursor: `for post in query:each() do`. Commands: find, and a getMore for
--- each further batch.
---@return fun(): table|nil
function Query:each()
  local kept = state_of(self)
  local client = client_of(kept)
  if kept.relation then
    local list, i = fetch(self, "each", 0), 0
    return function()
      i = i + 1
      return list[i]
    end
  end
  local plan = core.query_find_plan(self, "each", 0, true)
  local batch, i, done = {}, 0, false
  local function next_record()
    i = i + 1
    while batch[i] == nil and not done do
      done = run(client, plan)
      batch, i = records_of(kept, plan, client), 1
    end
    return batch[i]
  end
  return next_record, nil, nil, setmetatable({ plan = plan }, Closer)
end

local function bulk(q, plan, counter)
  local kept = state_of(q)
  run(client_of(kept), plan)
  return kept.relation and core.related_count(plan) or core.plan_written(plan, counter)
end

--- Sets these attributes in all documents that match; no records are made, no automatic dates move. Without a
--- filter it is E_ARGUMENT
--- unless everything() was said. Commands: update.
---@param values table<string, any> lumo.null stores null
---@return integer matched
function Query:update(values)
  return bulk(self, core.query_update_plan(self, values), "nMatched")
end

--- Adds n to a number in all documents that match. Commands: update.
---@param column string
---@param n number|nil 1 when nil
---@return integer matched
function Query:increment(column, n)
  return bulk(self, core.query_increment_plan(self, column, n == nil and 1 or n, "increment"), "nMatched")
end

--- Takes n from a number in all documents that match. Commands: update.
---@return integer matched
function Query:decrement(column, n)
  if n ~= nil and type(n) ~= "number" then
    raise("E_ARGUMENT", "decrement needs a number, got %s", type(n))
  end
  return bulk(self, core.query_increment_plan(self, column, -(n or 1), "decrement"), "nMatched")
end

--- Removes all documents that match. Commands: delete.
---@return integer removed
function Query:delete()
  return bulk(self, core.query_delete_plan(self), "nRemoved")
end

names.alias(Query)

return query
