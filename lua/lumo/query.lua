--- The query builder: what of it calls functions of the user or sends. Conditions, orders and limits are
--- methods in C, in the same table.
local accessors = require "lumo.accessors"
local ambient = require "lumo.ambient"
local connections = require "lumo.connection"
local core = require "lumo.core"
local doors = require "lumo.doors"
local events = require "lumo.events"
local explain = require "lumo.explain"
local hooks = require "lumo.hooks"
local names = require "lumo.names"
local policies = require "lumo.policy"
local record = require "lumo.record"
local run = require "lumo.run"
local transactions = require "lumo.transaction"
local raise = require("lumo.errors").raise

---@class (partial) lumo.Query
---@field is_related_query boolean|nil over the related records of one parent
---@field is_related_preload_query boolean|nil over those of many
---@field is_related_sub_query boolean|nil standing inside of another query
---@field is_pivot_only_query boolean|nil over the pivot documents
local Query = core.query_methods


local query = {}

-- What lua/lumo keeps with a query (model state, connection, relation), to be added to.
local state_of = core.query_state

--- The same, to be read alone.
local kept_of = core.query_kept

--- The same of a query that is sent, or loads something when it is.
function query.to_send(q, method)
  local kept = kept_of(q)
  if kept.flags and kept.flags.is_related_sub_query then
    raise("E_ARGUMENT", "%s: this query stands inside of another one and is not sent itself", method)
  end
  return kept
end

--- What a query runs on: what it was given, else its model's connection, which may not be open before it is
--- sent.
local function client_of(kept)
  local client = kept.client or connections.of_model(kept.state)
  return kept.policy and ambient.with_policy(client, kept.policy) or client
end

--- What the commands of a query run on.
---@param q lumo.Query
---@return lumo.Client
function query.client(q)
  return client_of(kept_of(q))
end

local READ_ONLY = { __newindex = function() error("what the queries of a model share is read alone", 2) end }

--- What the queries of a model begin with, made once for each schema that it gets.
local function companion_of(state)
  state.query_companion = setmetatable({ state.schema, state = state }, READ_ONLY)
  return state.query_companion
end

--- A query over all documents of a model.
---@param state lumo.State
---@param options table|nil { client =, connection = }
---@return lumo.Query
function query.of_model(state, options)
  local q = core.query_of(state.query_companion or companion_of(state))
  if options == nil then return q end
  local kept = state_of(q)
  options = names.options("query", options, transactions.CLIENT_OPTIONS)
  if options.client or options.connection then
    kept.client = transactions.client { client = options.client, connection = options.connection }
  end
  kept.policy = policies.of(options)
  return q
end

local where = Query.where -- in C: of a column and a value

--- A query by the key of one document.
---@param state lumo.State
---@param id any
---@param options table|nil as of_model's
---@return lumo.Query
function query.of_key(state, id, options)
  return where(query.of_model(state, options), state.primary, id)
end

--- A query made by the core (across a relation, over a pivot), dressed for Lua.
---@param q lumo.Query
---@param state lumo.State
---@param relation lumo.AnyRelation|nil whose related records it gives
---@param client lumo.Client|nil
---@param flag string which of the builder's flags is true: "is_related_query"
---@return lumo.Query
function query.of_relation(q, state, relation, client, flag)
  local kept = state_of(q)
  kept.state, kept.relation, kept.client = state, relation, client
  core.query_flag(q, names.alias {
    is_related_query = false, is_related_preload_query = false, is_related_sub_query = false,
    is_pivot_only_query = false, [flag] = true,
  })
  return q
end

--- Deletes the documents whose ids a streaming plan finds, a batch at a time.
---@return integer removed
function query.delete_found(state, schema, plan, client)
  local removed = 0
  repeat
    local done = run(client, plan)
    local ids = core.plan_values(plan, "_id")
    if #ids > 0 then
      local q = core.query_new(schema)
      local kept = state_of(q)
      kept.state, kept.client = state, client
      removed = removed + q:where_in("_id", ids):delete()
    end
  until done
  return removed
end

-- Conditions that take a function ---------------------------------------------------------------------------

local function group(q, fn, join, negated)
  local count, depth, joins = core.query_open(q, join, negated)
  local ok, err = pcall(fn, q)
  if not ok then
    core.query_rewind(q, count, depth, joins)
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

--- The forms that take a function, by name. surface.lua puts doors before them; all that the others raise is a
--- mistake of the program, so that they need none.
query.groups = {}

for _, form in ipairs {
  { "where", "and", false }, { "and_where", "and", false }, { "or_where", "or", false },
  { "where_not", "and", true }, { "and_where_not", "and", true }, { "or_where_not", "or", true },
  { "where_pivot", "and", false }, { "and_where_pivot", "and", false }, { "or_where_pivot", "or", false },
  { "where_not_pivot", "and", true }, { "and_where_not_pivot", "and", true }, { "or_where_not_pivot", "or", true },
} do
  local name, join, negated = form[1], form[2], form[3]
  local condition = Query[name]
  query.groups[name] = function(q, fn) return group(q, fn, join, negated) end
  local function rest(q, first, wanted)
    if type(first) == "function" then return query.groups[name](q, first) end
    demand(first, wanted, name)
    return condition(q, first)
  end
  -- The number of arguments counts, so it takes all of them; where in C leaves two forms to rest, by giving nil.
  Query[name] = doors.without(function(...)
    local q = condition(...)
    if q then return q end
    return rest(...)
  end)
end

--- where_elem_match(column, fn): an array column with an element for which all conditions of fn hold together. fn gets
--- a builder of conditions: on the columns of elements that are documents, `e:where("sku", "x")`; on the element itself
--- where it is a value, `e:where(">", 80)`.
for _, name in ipairs { "where_elem_match", "and_where_elem_match", "or_where_elem_match" } do
  local elem_match = Query[name]
  Query[name] = function(q, column, fn)
    if type(fn) ~= "function" then
      raise("E_ARGUMENT", "%s needs a column and a function, got %s", name, type(fn))
    end
    local element = core.query_element(q, column, name)
    fn(element)
    return elem_match(q, column, element)
  end
end

--- Runs fn(query) if the condition holds, else else_fn(query).
---@param condition any
---@param fn function
---@param else_fn function|nil
---@return lumo.Query self
function Query:when(condition, fn, else_fn)
  if type(fn) ~= "function" or else_fn ~= nil and type(else_fn) ~= "function" then
    raise("E_ARGUMENT", "when and unless need a condition, a function, and perhaps another one")
  end
  if condition then
    fn(self)
  elseif else_fn then
    else_fn(self)
  end
  return self
end

--- Runs fn(query) unless the condition holds, else else_fn(query).
---@param condition any
---@param fn function
---@param else_fn function|nil
---@return lumo.Query self
function Query:unless(condition, fn, else_fn)
  return Query.when(self, not condition, fn, else_fn)
end

--- A query of its own that starts where this one stands.
---@return lumo.Query
function Query:clone()
  local copy = core.query_clone(self)
  local kept = state_of(copy)
  if kept.preloads then kept.preloads = query.copy_of_preloads(kept.preloads) end
  return copy
end

-- Sending ---------------------------------------------------------------------------------------------------

--- The plan of what a query finds, and of how many owners it is. Without a limit of its own it has the query's.
local function find_plan(q, kept, method, limit)
  if kept.parents then return core.load_plan(q, kept.parents) end
  return core.query_find_plan(q, method, limit, false), 1
end

--- Gives the records that a find plan has read, those of many owners one owner after the other.
local function records_of(q, kept, plan, client, owners)
  local number = ambient.connection(client).number
  local partial = core.query_partial(q)
  local companion = record.companion(client,
    (kept.relation or partial) and { relation = kept.relation, partial = partial } or nil)
  if not kept.relation then
    return core.plan_records(plan, kept.state.class, number, companion)
  end
  local lists = core.related_records(plan, kept.state.class, companion, number, owners)
  if owners == 1 then return lists[1] end
  local all = {}
  for _, list in ipairs(lists) do
    for _, one in ipairs(list) do all[#all + 1] = one end
  end
  return all
end

local function documents_of(kept, plan)
  return kept.relation and core.related_documents(plan) or core.plan_documents(plan)
end

--- Reads what a query to send finds, as records, or as plain tables of a lean query. Hooks are the caller's. `adjust`
--- gets the list and the plan before anything is preloaded.
local function read(q, kept, method, limit, adjust)
  local built = (kept.preloads or kept.aggregates) and query.before_read(q, kept)
  local client = client_of(kept)
  local plan, owners = find_plan(q, kept, method, limit)
  run(client, plan)
  local list = kept.lean and documents_of(kept, plan) or records_of(q, kept, plan, client, owners)
  if adjust then adjust(list, plan) end
  core.plan_close(plan) -- what it holds is used again while it is warm, and not left to the collector
  return kept.lean and list or query.after_read(list, kept, built)
end

query.read = read

local function refuse_lean(kept, method)
  if kept.lean then raise("E_ARGUMENT", "%s gives records, and the query is lean", method) end
end

--- Runs the hooks before a query is sent, and gives what is kept with the query then: a hook may have added to it.
local function before(q, kept, event)
  hooks.run(kept.state, "before", event, q)
  return kept_of(q)
end

--- All records that match. Commands: find; across a relation one on the pivot and one on the related
--- collection.
---@return table[]
function Query:exec()
  local kept = query.to_send(self, "exec")
  if kept.lean then return read(self, kept, "exec", 0) end
  kept = before(self, kept, "fetch")
  local list = read(self, kept, "exec", 0)
  hooks.run(kept.state, "after", "fetch", list)
  return list
end

local function first(q, method)
  local kept = query.to_send(q, method)
  if kept.lean then return read(q, kept, method, 1)[1] end
  kept = before(q, kept, "find")
  local found = read(q, kept, method, 1)[1]
  if found ~= nil then hooks.run(kept.state, "after", "find", found) end
  return found
end

--- The first record, or nil. Commands: as exec.
---@return lumo.Record|nil
function Query:first()
  return first(self, "first")
end

query.first = Query.first

--- The first record. Raises E_ROW_NOT_FOUND. Commands: as exec.
---@return lumo.Record
function Query:first_or_fail()
  local found = first(self, "first_or_fail")
  if found == nil then
    local kept = kept_of(self)
    core.raise("E_ROW_NOT_FOUND", ("no \"%s\" matches the query"):format(kept.state.name), { model = kept.state.name })
  end
  return found
end

query.first_or_fail = Query.first_or_fail

--- True if anything matches. Commands: as exec, for the primary key of one document; hooks and preloads have no part
--- in it.
---@return boolean
function Query:exists()
  local kept = query.to_send(self, "exists")
  local plan = find_plan(self:clone():select("id"), kept, "exists", 1)
  run(client_of(kept), plan)
  return (kept.relation and core.related_size(plan) or core.plan_size(plan)) > 0
end

--- How many match, limit and offset respected. Commands: aggregate; across a relation a find on the pivot
--- first.
---@return integer
function Query:count()
  local kept = query.to_send(self, "count")
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

--- What eager loading finds is distributed over the parents, and so is there before the first record is.
local function each_of_many(q)
  local list, i = q:exec(), 0
  return function()
    i = i + 1
    return list[i]
  end
end

--- The records one by one, from a cursor: `for post in query:each() do`. Commands: find, across a relation an
--- aggregate, and a getMore for each further batch.
---@return fun(): lumo.Record|nil
---@return any ... what else Lua's loop takes
function Query:each()
  local kept = query.to_send(self, "each")
  local client = client_of(kept)
  if kept.parents then return each_of_many(self) end
  if not kept.lean then kept = before(self, kept, "fetch") end
  local built = query.before_read(self, kept)
  local plan = core.query_find_plan(self, "each", 0, true)
  local batch, i, done = {}, 0, false
  local function next_record()
    i = i + 1
    while batch[i] == nil and not done do
      done = run(client, plan)
      batch, i = kept.lean and documents_of(kept, plan) or records_of(self, kept, plan, client, 1), 1
      if not kept.lean and batch[1] ~= nil then
        query.after_read(batch, kept, built)
        hooks.run(kept.state, "after", "fetch", batch)
      end
    end
    return batch[i]
  end
  return next_record, nil, nil, setmetatable({ plan = plan }, Closer)
end

local function bulk(q, plan, counter)
  local kept = kept_of(q)
  run(client_of(kept), plan)
  return kept.relation and core.related_count(plan) or core.plan_written(plan, counter)
end

--- Sets these attributes in all documents that match; no records are made, no automatic dates move. Without a
--- filter it is E_ARGUMENT
--- unless everything() was said. Commands: update.
---@param values table<string, any> lumo.null stores null
---@param ... nil nothing: conditions are where's
---@return integer matched
function Query:update(values, ...)
  if select("#", ...) > 0 then raise("E_ARGUMENT", "update takes one table: where says what is to change") end
  local stored = accessors.prepared(kept_of(self).state, values)
  return bulk(self, core.query_update_plan(self, stored), "nMatched")
end

--- Takes a field out of all documents that match. Commands: update.
---@param q lumo.Query
---@param column string
---@return integer matched
function query.unset(q, column)
  return bulk(q, core.query_unset_plan(q, column), "nMatched")
end

--- Adds n to a number in all documents that match. Commands: update.
---@param column string
---@param n number|lumo.int64|lumo.decimal|nil 1 when nil
---@return integer matched
function Query:increment(column, n)
  return bulk(self, core.query_increment_plan(self, column, n == nil and 1 or n, "increment"), "nMatched")
end

--- Takes n from a number in all documents that match. Commands: update.
---@param column string
---@param n number|lumo.int64|lumo.decimal|nil 1 when nil
---@return integer matched
function Query:decrement(column, n)
  return bulk(self, core.query_increment_plan(self, column, n == nil and 1 or n, "decrement"), "nMatched")
end

--- Removes all documents that match. Commands: delete.
---@param ... nil nothing: conditions are where's
---@return integer removed
function Query:delete(...)
  if select("#", ...) > 0 then raise("E_ARGUMENT", "delete takes no arguments: where says what is to go") end
  return bulk(self, core.query_delete_plan(self), "nRemoved")
end

-- Values ---------------------------------------------------------------------------------------------------

local function aggregate(q, operator, column, method)
  local kept = query.to_send(q, method)
  local plan = core.query_group_plan(q, operator, column, method)
  run(client_of(kept), plan)
  if kept.relation then return core.related_value(plan) end
  return core.plan_field(plan, "n")
end

--- The sum of a column over what matches, 0 when nothing does. Commands: aggregate.
---@param column string
---@return number
function Query:sum(column)
  return aggregate(self, "$sum", column, "sum") or 0
end

--- The mean of a column, nil when nothing matches. Commands: aggregate.
---@param column string
---@return number|nil
function Query:avg(column)
  return aggregate(self, "$avg", column, "avg")
end

--- The least value of a column, nil when nothing matches. Commands: aggregate.
---@param column string
---@return any
function Query:min(column)
  return aggregate(self, "$min", column, "min")
end

--- The greatest value of a column, nil when nothing matches. Commands: aggregate.
---@param column string
---@return any
function Query:max(column)
  return aggregate(self, "$max", column, "max")
end

--- The values of one column, in the query's order; lumo.null where a document has none. Commands: find.
---@param column string
---@return any[]
function Query:pluck(column)
  local kept = query.to_send(self, "pluck")
  local stored, of_pivot = core.query_resolve(self, "pluck", column)
  if kept.relation then
    local copy = self:clone():select(of_pivot and "id" or column)
    core.query_pivot_fields(copy, { of_pivot and stored:match("^[^.]+") or nil })
    local plan = find_plan(copy, kept, "pluck", 0)
    run(client_of(kept), plan)
    return core.related_values(plan, stored, of_pivot)
  end
  local plan = core.query_find_plan(self:clone():select(column), "pluck", 0, false)
  run(client_of(kept), plan)
  local values, definition = core.plan_values(plan, stored, true), kept.state.by_attribute[column]
  for i = 1, definition and definition.consume and #values or 0 do
    values[i] = accessors.consumed(definition, values[i])
    if values[i] == nil then values[i] = core.null end
  end
  return values
end

--- The values that a column has in what matches, each once and in MongoDB's order; of an array its elements. null is
--- none. Commands: aggregate.
---@param column string
---@return any[]
function Query:distinct(column)
  local kept = query.to_send(self, "distinct")
  local plan = core.query_distinct_plan(self, column)
  run(client_of(kept), plan)
  if kept.relation then return core.related_distinct(plan) end
  return core.plan_values(plan, "_id")
end

local MOST_TRIES = 100 -- a record that was found and then changed by others, one after the other

--- Changes or removes the first record that matches. Where one command cannot, across a relation and with has, in
--- two steps: the record is found, and then changed if it still is what the filter demands of it; else another one
--- is looked for.
local function modify(q, values, method)
  local kept = query.to_send(q, method)
  refuse_lean(kept, method)
  local client = client_of(kept)
  local number, relation = ambient.connection(client).number, kept.relation
  local plan = core.query_modify_plan(q, values)
  if not relation and not core.query_is_joined(q) then
    run(client, plan)
    return core.plan_modified(plan, kept.state.class, number, record.companion(client))
  end
  local search = q:clone():select("id")
  for _ = 1, MOST_TRIES do
    local found = core.query_find_plan(search, method, 1, false)
    run(client, found)
    if (relation and core.related_size(found) or core.plan_size(found)) == 0 then return nil end
    plan = core.query_modify_plan(q, values, found)
    run(client, plan)
    local companion = record.companion(client, relation and { relation = relation })
    local one = core.plan_modified(plan, kept.state.class, number, companion, relation and found)
    if one then return one end
  end
  return core.raise("E_WRITE", ("%s: others changed each of %d records before it could"):format(method, MOST_TRIES),
    { model = kept.state.name, retryable = true })
end

--- Changes the first document that matches, in the query's order, and gives it as it is afterwards; nil when
--- there is none.
--- Commands: findAndModify; across a relation those of `first` before it.
---@param values table<string, any>
---@return lumo.Record|nil
function Query:find_one_and_update(values)
  if type(values) ~= "table" then
    raise("E_ARGUMENT", "find_one_and_update needs a table of attributes, got %s", type(values))
  end
  return modify(self, accessors.prepared(kept_of(self).state, values), "find_one_and_update")
end

--- Removes the first document that matches, in the query's order, and gives it as it was; nil when there was
--- none.
--- Commands: findAndModify; across a relation those of `first` before it.
---@return lumo.Record|nil
function Query:find_one_and_delete()
  local found = modify(self, nil, "find_one_and_delete")
  if found then
    record.remember({ found }, client_of(kept_of(self)))
    core.record_deleted(found)
  end
  return found
end

--- Makes the query give plain tables under stored names instead of records: no hooks, no casts.
---@return lumo.Query self
function Query:lean()
  state_of(self).lean = true
  return self
end

--- How the server answers each command that exec would send, in words and in its own: `tostring` gives the words. The
--- result is a list of the commands; its other fields are those of the server's answer to the first. "executionStats"
--- and "allPlansExecution" have the server run each command, for figures. A query that preloads, counts relations or
--- goes across one is run, as its later commands depend on what the earlier ones find; any other is not. In a
--- transaction the explanations alone are made outside of it. Commands: an explain for each command, and the commands
--- of exec where it is run.
---@param verbosity "queryPlanner"|"executionStats"|"allPlansExecution"|nil queryPlanner when nil
---@return lumo.Explanation
function Query:explain(verbosity)
  verbosity = explain.verbosity(verbosity)
  query.to_send(self, "explain")
  local q = self:clone()
  local kept = state_of(q)
  if not kept.lean then hooks.run(kept.state, "before", "fetch", q) end
  local depends = kept.relation or kept.parents or kept.preloads or kept.aggregates
  return events.explain(verbosity, not depends, function()
    if depends then return read(q, kept, "explain", 0) end
    run(client_of(kept), find_plan(q, kept, "explain", 0))
  end)
end

--- Prints the command that exec would send, to stderr.
---@return lumo.Query self
function Query:debug()
  kept_of(self) -- raises if it is no query
  io.stderr:write(tostring(self), "\n")
  return self
end

local function check_type(value, method, ...)
  for _, wanted in ipairs { ... } do
    if type(value) == wanted then return value end
  end
  return raise("E_ARGUMENT", "%s takes a %s, got %s", method, table.concat({ ... }, " or a "), type(value))
end

--- The same of what says something: no empty text, no empty table.
local function check_filled(value, method, ...)
  check_type(value, method, ...)
  if value == "" or type(value) == "table" and next(value) == nil then
    raise("E_ARGUMENT", "%s got an empty %s", method, type(value))
  end
  return value
end

--- Makes the server use this index.
---@param index string|table its name, or its key as a lumo.ordered
---@return lumo.Query self
function Query:hint(index)
  return core.query_extra(self, "hint", check_filled(index, "hint", "string", "table"))
end

--- The rules by which text is compared: { locale = "de", strength = 1 }.
---@param rules table
---@return lumo.Query self
function Query:collation(rules)
  return core.query_extra(self, "collation", check_filled(rules, "collation", "table"))
end

--- How long the server may work on it, in milliseconds; longer is E_TIMEOUT.
---@param ms integer
---@return lumo.Query self
function Query:max_time_ms(ms)
  if type(ms) ~= "number" or ms < 1 or ms > 2147483647 or ms % 1 ~= 0 then
    raise("E_ARGUMENT", "max_time_ms takes a whole number from 1, got %s", type(ms))
  end
  return core.query_extra(self, "maxTimeMS", ms)
end

--- A text that the server's log and profiler show with the command.
---@param text string
---@return lumo.Query self
function Query:comment(text)
  return core.query_extra(self, "comment", check_type(text, "comment", "string"))
end

local function set_policy(q, options)
  local kept = state_of(q)
  kept.policy = policies.of(options, kept.policy)
  return q
end

--- From which servers of a replica set it reads, in place of what the connection says. In a transaction, which reads
--- from the primary, sending it raises E_ARGUMENT.
---@param preference lumo.ReadPreference
---@return lumo.Query self
function Query:read_preference(preference)
  if preference == nil then raise("E_ARGUMENT", "read_preference needs a mode, got nil") end
  return set_policy(self, { read_preference = preference })
end

--- Which of the stored data it may read.
---@param level lumo.ReadConcern
---@return lumo.Query self
function Query:read_concern(level)
  if level == nil then raise("E_ARGUMENT", "read_concern needs a level, got nil") end
  return set_policy(self, { read_concern = level })
end

--- How sure update, increment, delete and find_one_and_… must be before they return.
---@param concern lumo.WriteConcern
---@return lumo.Query self
function Query:write_concern(concern)
  if concern == nil then raise("E_ARGUMENT", "write_concern needs a concern, got nil") end
  return set_policy(self, { write_concern = concern })
end

--- Reads these fields of the pivot, too: `extras.pivot_<name>`.
---@param list string[]
---@return lumo.Query self
function Query:pivot_columns(list)
  local relation = kept_of(self).relation
  if not (relation and relation.fields_with) then
    raise("E_ARGUMENT", "pivot_columns is for queries across a many-to-many relation")
  end
  if type(list) == "table" and not core.list_size(list) then
    raise("E_ARGUMENT", "pivot_columns needs a list of names without holes")
  end
  core.query_pivot_fields(self, relation:fields_with(list))
  return self
end

--- Runs a scope of the model (or a function) on the query.
---@param scope string|function
---@param ... any for the scope
---@return lumo.Query self
function Query:apply(scope, ...)
  local state = kept_of(self).state
  local fn = scope --[[@as any]]
  if type(scope) ~= "function" then
    local from = state
    fn = nil
    while from and not fn do
      fn = from.scopes and from.scopes[scope]
      from = from.base
    end
    if not fn then raise("E_ARGUMENT", "\"%s\" is not a scope of the \"%s\" model",
      tostring(scope), state.name) end
  end
  fn(self, ...)
  return self
end

--- Runs the function of the first pair whose condition holds, else the one that stands alone at the end:
--- match({ a, fn }, { b, fn }, fn).
---@param ... table|function pairs { condition, function }, and perhaps a function for all other cases
---@return lumo.Query self
function Query:match(...)
  kept_of(self) -- raises if it is no query
  for i = 1, select("#", ...) do
    local case = select(i, ...)
    if type(case) == "function" then
      case(self)
      return self
    elseif type(case) ~= "table" or type(case[2]) ~= "function" then
      raise("E_ARGUMENT", "match takes pairs { condition, function }, entry %d is not one", i)
    elseif case[1] then
      case[2](self)
      return self
    end
  end
  return self
end

names.alias(Query)

return query
