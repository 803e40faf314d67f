--- What stands behind each of many records, counted or added up by the server: with_count and its kin. One
--- command for all of them.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local names = require "lumo.names"
local queries = require "lumo.query"
local records = require "lumo.record"
local registry = require "lumo.registry"
local run = require "lumo.run"
local errors = require "lumo.errors"
local raise = errors.raise

local aggregates = {} ---@type table<string, function>

---@class (partial) lumo.Query
local Query = core.query_methods

-- What is asked for ------------------------------------------------------------------------------------------

---@class lumo.Aggregate
---@field relation lumo.Relation
---@field alias string the name in `extras`
---@field operator string
---@field column string|nil
---@field query lumo.Query over the related records

local function check(name, callback, method)
  if type(name) ~= "string" then
    raise("E_ARGUMENT", "%s needs the name of a relation, got %s", method, type(name))
  end
  if callback ~= nil and type(callback) ~= "function" then
    raise("E_ARGUMENT", "the second argument of %s is a function, got %s", method, type(callback))
  end
end

--- Runs the callback on a sub-query, which writes down what it says of the result.
local function ask(state, name, callback, method)
  check(name, callback, method)
  local relation = registry.relation(state, name):boot()
  local q = relation:sub_query()
  local asked = { relation = relation, query = q, method = method }
  local kept = core.query_state(q)
  kept.asked = asked
  if callback then callback(q) end
  core.query_check_inner(q, method)
  kept.asked = nil
  return asked
end

local function count_of(state, name, callback, method)
  local asked = ask(state, name, callback, method)
  asked.operator = "count"
  asked.alias = asked.alias or asked.relation.relation_name .. "_count"
  return asked
end

local function aggregate_of(state, name, callback, method)
  if type(callback) ~= "function" then
    raise("E_ARGUMENT", "%s needs the name of a relation and a function, got %s", method, type(callback))
  end
  local asked = ask(state, name, callback, method)
  if not asked.operator then raise("E_ARGUMENT", "%s \"%s\": the function names no aggregate", method, name) end
  if not asked.alias then
    raise("E_ARGUMENT", "%s \"%s\": the function names no alias for the result: q:as(\"…\")", method, name)
  end
  return asked
end

---@class (partial) lumo.Query
---@field count_distinct fun(self: lumo.Query, column: string): any inside of with_aggregate: of different values

--- The builder's methods that are aggregates: of a sub-query they say what is asked for, and send nothing.
for _, operator in ipairs { "count", "sum", "avg", "min", "max", "count_distinct" } do
  local terminal = Query[operator]
  Query[operator] = function(q, column, ...)
    local asked = core.query_kept(q).asked
    if not asked then
      if terminal then return terminal(q, column, ...) end
      raise("E_ARGUMENT", "%s is for with_aggregate", operator)
    end
    if asked.method ~= "with_aggregate" and asked.method ~= "load_aggregate" then
      raise("E_ARGUMENT", "%s counts by itself; with_aggregate and load_aggregate take %s", asked.method, operator)
    end
    if asked.operator then
      raise("E_ARGUMENT", "%s takes one aggregate, got %s and %s", asked.method, asked.operator, operator)
    end
    if operator == "count" and column == "*" then column = nil end
    if operator ~= "count" or column ~= nil then core.query_check_column(q, operator, column) end
    asked.operator, asked.column = operator, column
    return q
  end
end

--- Names the result of with_count, with_aggregate, load_count and load_aggregate in `extras`.
---@param alias string
---@return lumo.Query self
function Query:as(alias)
  local asked = core.query_kept(self).asked
  if not asked then raise("E_ARGUMENT", "as is for the functions of with_count and with_aggregate") end
  if type(alias) ~= "string" or alias == "" then
    raise("E_ARGUMENT", "as needs a name, got %s", alias == "" and "an empty text" or type(alias))
  end
  asked.alias = alias
  return self
end

-- With a query -----------------------------------------------------------------------------------------------

--- Adds what is asked for; a second one of the same name takes the place of the first.
local function add(q, asked)
  local kept = core.query_state(q)
  local list = {}
  for _, one in ipairs(kept.aggregates or {}) do
    if one.alias ~= asked.alias then list[#list + 1] = one end
  end
  list[#list + 1] = asked
  kept.aggregates = list -- a clone keeps the list that it has
  return q
end

--- Counts what each record that the query finds is related to: `extras.<name>_count`. Without conditions on
--- the related records these are rows of the pivot. Commands: one more for all counts and aggregates of the
--- query; in a transaction one for each.
---@param name string
---@param callback fun(query: lumo.Query)|nil conditions, and another name: q:as("drafts")
---@return lumo.Query self
function Query:with_count(name, callback)
  return add(self, count_of(queries.to_send(self, "with_count").state, name, callback, "with_count"))
end

--- Another aggregate over what each record is related to: `q:sum("points"):as("total")` gives `extras.total`.
--- In the function count, sum, avg, min, max and count_distinct send nothing. Of nothing count and sum are 0,
--- the others nil. Raises E_ARGUMENT without an aggregate or a name. Commands: as with_count.
---@param name string
---@param callback fun(query: lumo.Query)
---@return lumo.Query self
function Query:with_aggregate(name, callback)
  return add(self, aggregate_of(queries.to_send(self, "with_aggregate").state, name, callback, "with_aggregate"))
end

-- Into records -----------------------------------------------------------------------------------------------

local function load_group(list, asked, client, method)
  local specs = {}
  for i, one in ipairs(asked) do
    specs[i] = {
      name = one.relation.relation_name, key = one.relation.parent_key, optional = one.relation.is_optional,
      hops = one.relation.hops,
      query = one.query, operator = one.operator, column = one.column,
    }
  end
  local apart = ambient.transaction(client) ~= nil -- where the server does not unite collections
  local plan, gathered = core.aggregates_plan(specs, list, method, apart)
  run(client, plan)
  local values, places = core.aggregates_values(plan, gathered)
  for i, one in ipairs(asked) do
    local alias, found, of = one.alias, values[i], places[i]
    for k, record in ipairs(list) do
      record.extras[alias] = found[of[k]]
    end
  end
end

--- Puts the results into the extras of records of one model. Commands: 1 for those of one connection.
---@param list lumo.Record[]
---@param asked lumo.Aggregate[]
---@param method string for error messages
---@param policy table|nil of the query that found the records
function aggregates.into(list, asked, method, policy)
  if #list == 0 or #asked == 0 then return end
  local groups, order = records.by_client(list, core.record_is(list[1]))
  for _, client in ipairs(order) do
    load_group(groups[client], asked, ambient.with_policy(client, policy), method)
  end
end

---@class (partial) lumo.Record
---@field load_count fun(self: lumo.Record, name: string, fn: function?): lumo.Record
---@field load_aggregate fun(self: lumo.Record, name: string, fn: function): lumo.Record

for method, make in pairs { load_count = count_of, load_aggregate = aggregate_of } do
  --- load_count(name, fn), load_aggregate(name, fn): what with_count and with_aggregate give, into a record that
  --- is there already. Raises E_MISSING_ATTRIBUTE_VALUE for a record without the relation's key. Commands: 1.
  records.method(method, function(self, name, callback)
    local state = core.record_is(self) or errors.not_called_on(method, "a record")
    aggregates.into({ self }, { make(state, name, callback, method) }, method)
    return self
  end)

  --- lumo.load_count(list, name, fn), lumo.load_aggregate(list, name, fn): the same for a list of records of one
  --- model. Commands: 1 for up to 1,000 records, for up to 100,000 where only the pivot is asked.
  aggregates[method] = function(list, name, callback)
    local state = records.check_list(list, method)
    if not state then
      check(name, callback, method)
      return list
    end
    local all = core.record_is(list) and { list } or list
    aggregates.into(all, { make(state, name, callback, method) }, method)
    return list
  end
end

names.alias(Query)

return aggregates
