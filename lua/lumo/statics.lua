--- What a model answers to: finding, creating and counting. Definition is in model.lua.
local accessors = require "lumo.accessors"
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local doors = require "lumo.doors"
local hooks = require "lumo.hooks"
local index_plan = require "lumo.index_plan"
local matching = require "lumo.matching"
local names = require "lumo.names"
local queries = require "lumo.query"
local records = require "lumo.record"
local registry = require "lumo.registry"
local run = require "lumo.run"
local transactions = require "lumo.transaction"
local watch = require "lumo.watch"
local raise = require("lumo.errors").raise

---@class (partial) lumo.Model
local Model = {}

local check_model, check_list, of_model = registry.check, matching.check_list, queries.of_model

local CLIENT_OPTIONS = transactions.CLIENT_OPTIONS

--- What a static's commands run on.
local function client_of(state, options, method)
  return transactions.client(names.options(method, options, CLIENT_OPTIONS), state.connection)
end

--- A record that is not stored yet. The values are copied. Raises E_CAST, E_UNDEFINED_COLUMN.
---@param values table<string, any>|nil
---@return lumo.Record
function Model:new(values)
  local state = registry.check(self, "new")
  return core.record_new(state.class, values, 0)
end

local function create(self, values, options, method, quiet)
  local state = registry.check(self, method)
  local client = client_of(state, options, method)
  local record = core.record_new(state.class, values, ambient.connection(client).number, core.now())
  records.insert({ record }, state, client, false, quiet)
  return record
end

--- A new record, stored. Raises as record:save(). Commands: insert.
---@param values table<string, any>|nil
---@param options lumo.ClientOptions|nil
---@return lumo.Record
function Model:create(values, options)
  return create(self, values, options, "create", false)
end

--- create without hooks.
---@param values table<string, any>|nil
---@param options lumo.ClientOptions|nil
---@return lumo.Record
function Model:create_quietly(values, options)
  return create(self, values, options, "create_quietly", true)
end

--- New records, stored by one insert: all or none where the deployment has transactions. Commands: insert,
--- and a commit.
---@param list table<string, any>[]
---@param options lumo.ClientOptions|nil
---@return lumo.Record[]
function Model:create_many(list, options)
  local state = registry.check(self, "create_many")
  local client = client_of(state, options, "create_many")
  local count = check_list(list, "create_many needs a list of rows")
  local made = core.records_new(state.class, list, ambient.connection(client).number, core.now())
  if count > 0 then records.insert(made, state, client, count > 1) end
  return made
end

--- A query over all documents.
---@param options lumo.ClientOptions|nil
---@return lumo.Query
function Model:query(options)
  return of_model(check_model(self, "query"), options)
end

doors.without(Model.query)

--- All records. Commands: find.
---@param options lumo.ClientOptions|nil
---@return lumo.Record[]
function Model:all(options)
  return queries.of_model(registry.check(self, "all"), options):exec()
end

--- Any one record, or nil. Commands: find.
---@param options lumo.ClientOptions|nil
---@return lumo.Record|nil
function Model:first(options)
  return queries.of_model(registry.check(self, "first"), options):first()
end

--- Any one record. Raises E_ROW_NOT_FOUND. Commands: find.
---@param options lumo.ClientOptions|nil
---@return lumo.Record
function Model:first_or_fail(options)
  return queries.of_model(registry.check(self, "first_or_fail"), options):first_or_fail()
end

--- How many documents there are. Commands: aggregate.
---@param options lumo.ClientOptions|nil
---@return integer
function Model:count(options)
  return queries.of_model(registry.check(self, "count"), options):count()
end

local function query_by_key(state, id, options, method)
  if id == nil or id == core.null then
    raise("E_ARGUMENT", "%s needs the value of the primary key, got %s",
      method, id == nil and "nil" or "null")
  end
  return queries.of_key(state, id, options)
end

--- The record of that primary key, or nil. Commands: find.
---@param id any
---@param options lumo.ClientOptions|nil
---@return lumo.Record|nil
function Model:find(id, options)
  return queries.first(query_by_key(registry.check(self, "find"), id, options, "find"))
end

--- The record of that primary key. Raises E_ROW_NOT_FOUND. Commands: find.
---@param id any
---@param options lumo.ClientOptions|nil
---@return lumo.Record
function Model:find_or_fail(id, options)
  return queries.first_or_fail(query_by_key(registry.check(self, "find_or_fail"), id, options, "find_or_fail"))
end

--- (column, value, options) or (table, options)
local function query_by(self, method, column, ...)
  local state, given = registry.check(self, method), select("#", ...)
  local is_table = type(column) == "table"
  if given > (is_table and 1 or 2) then
    raise("E_ARGUMENT", "%s takes a column and a value, or a table; and options", method)
  end
  local options = select(is_table and 1 or 2, ...)
  local q = queries.of_model(state, options)
  if is_table then return q:where(column) end
  return q:where(column, (...))
end

--- The first record in which a column has this value (or all columns of a table theirs), or nil. Commands:
--- find.
---@param column string|table<string, any>
---@param ... any the value, and lumo.ClientOptions
---@return lumo.Record|nil
function Model:find_by(column, ...)
  return query_by(self, "find_by", column, ...):first()
end

--- The same; raises E_ROW_NOT_FOUND when there is none.
---@param column string|table<string, any>
---@param ... any the value, and lumo.ClientOptions
---@return lumo.Record
function Model:find_by_or_fail(column, ...)
  return query_by(self, "find_by_or_fail", column, ...):first_or_fail()
end

--- All records in which a column has this value (or all columns of a table theirs). Commands: find.
---@param column string|table<string, any>
---@param ... any the value, and lumo.ClientOptions
---@return lumo.Record[]
function Model:find_many_by(column, ...)
  return query_by(self, "find_many_by", column, ...):exec()
end

-- Finding or making ---------------------------------------------------------------------------------------

--- Both tables, before anything is searched for: what a new record could not have is refused at once.
local function check_search(state, search, extra, method)
  if type(search) ~= "table" or next(search) == nil then
    raise("E_ARGUMENT", "%s needs a table of attributes to search for", method)
  end
  if extra ~= nil and type(extra) ~= "table" then
    raise("E_ARGUMENT", "%s takes further attributes as a table, got %s", method, type(extra))
  end
  core.record_check(state.class, extra or {})
end

local function search_for(state, search, client)
  return queries.of_model(state, { client = client }):where(accessors.prepared(state, search)):first()
end

--- What a call runs on, as a value for `client =`: the ambient transaction stays ambient.
local function same_client(state, options, method)
  options = names.options(method, options, CLIENT_OPTIONS)
  local client = transactions.client(options, state.connection)
  if options.client or options.connection or ambient.is_view(client) then return client end
  return nil, client
end

--- The first record that matches, or a new one, not stored, of both tables. Commands: find.
---@param search table<string, any>
---@param extra table<string, any>|nil
---@param options lumo.ClientOptions|nil
---@return lumo.Record
function Model:first_or_new(search, extra, options)
  local state = registry.check(self, "first_or_new")
  check_search(state, search, extra, "first_or_new")
  local found = search_for(state, search, (same_client(state, options, "first_or_new")))
  return found or self:new(records.joined(search, extra))
end

local function is_duplicate(err)
  return core.is_error(err) and err.code == "E_DUPLICATE_KEY"
end

--- Creates, unless somebody else was first: then that record is found. In a transaction the refused insert
--- has ended it, so its error goes through.
local function create_or_find(self, state, search, extra, options, client)
  local ok, result = pcall(self.create, self, records.joined(search, extra), options)
  if ok then return result, true end
  local found = is_duplicate(result) and not ambient.transaction(client)
    and search_for(state, search, options and options.client)
  if not found then error(result, 0) end
  return found, false
end

--- The first record that matches, or a stored new one of both tables. Race-free where a unique index covers
--- the search.
--- Commands: find, and an insert.
---@param search table<string, any>
---@param extra table<string, any>|nil
---@param options lumo.ClientOptions|nil
---@return lumo.Record
function Model:first_or_create(search, extra, options)
  local state = registry.check(self, "first_or_create")
  check_search(state, search, extra, "first_or_create")
  local explicit, default = same_client(state, options, "first_or_create")
  return search_for(state, search, explicit)
    or (create_or_find(self, state, search, extra, options, explicit or default))
end

--- The first record that matches, with these values stored in it, or a stored new one of both tables.
--- Race-free where a unique
--- index covers the search. Commands: find, and an insert or an update.
---@param search table<string, any>
---@param values table<string, any>|nil
---@param options lumo.ClientOptions|nil
---@return lumo.Record
function Model:update_or_create(search, values, options)
  local state = registry.check(self, "update_or_create")
  check_search(state, search, values, "update_or_create")
  local explicit, default = same_client(state, options, "update_or_create")
  local found, made = search_for(state, search, explicit), false
  if not found then
    found, made = create_or_find(self, state, search, values, options, explicit or default)
  end
  if made then return found end
  local policy = names.options("update_or_create", options, CLIENT_OPTIONS)
  return found:merge(values or {}):save { write_concern = policy.write_concern }
end

--- For each row the stored record with the same keys, or a new one that is not stored. Commands: find.
---@param keys string|string[] names of the key columns
---@param rows table<string, any>[]
---@param options lumo.ClientOptions|nil
---@return lumo.Record[]
function Model:fetch_or_new_up_many(keys, rows, options)
  local state = registry.check(self, "fetch_or_new_up_many")
  local explicit, default = same_client(state, options, "fetch_or_new_up_many")
  local made, stored = matching.rows(state, keys, rows, explicit or default, "fetch_or_new_up_many")
  for i, one in ipairs(made) do
    made[i] = stored[i] or one
  end
  return made
end

local function store_rows(state, keys, rows, client, method, update)
  local steps, list = matching.steps(state, keys, rows, client, method, update)
  if #steps > 0 then records.write(steps, client) end
  return list
end

--- For each row the stored record with the same keys, or a stored new one. Commands: find, insert, and a
--- commit.
---@param keys string|string[] names of the key columns
---@param rows table<string, any>[]
---@param options lumo.ClientOptions|nil
---@return lumo.Record[]
function Model:fetch_or_create_many(keys, rows, options)
  local state = registry.check(self, "fetch_or_create_many")
  local explicit, default = same_client(state, options, "fetch_or_create_many")
  return store_rows(state, keys, rows, explicit or default, "fetch_or_create_many")
end

--- For each row the stored record with the same keys and the row's values, or a stored new one. All before-hooks run
--- before the first write. Commands: find, an update of those that change, insert; in one transaction where there are
--- any.
---@param keys string|string[] names of the key columns
---@param rows table<string, any>[]
---@param options lumo.ClientOptions|nil
---@return lumo.Record[]
function Model:update_or_create_many(keys, rows, options)
  local state = registry.check(self, "update_or_create_many")
  local explicit, default = same_client(state, options, "update_or_create_many")
  return records.in_transaction(explicit or default, function(client)
    return store_rows(state, keys, rows, client, "update_or_create_many", true)
  end)
end

--- Removes all documents, without hooks. Commands: delete.
---@param options lumo.ClientOptions|nil
---@return integer removed
function Model:truncate(options)
  return queries.of_model(registry.check(self, "truncate"), options):everything():delete()
end

-- Hooks and scopes -----------------------------------------------------------------------------------------

--- Registers a hook before an event.
---@param event "save"|"create"|"update"|"delete"|"find"|"fetch"|"paginate"
---@param fn function
---@return lumo.Model self
function Model:before(event, fn)
  hooks.add(registry.check(self, "before"), "before", event, fn)
  return self
end

--- Registers a hook after an event.
---@param event "save"|"create"|"update"|"delete"|"find"|"fetch"|"paginate"
---@param fn function
---@return lumo.Model self
function Model:after(event, fn)
  hooks.add(registry.check(self, "after"), "after", event, fn)
  return self
end

--- Names a function of a query, to be run by query:apply(name, …).
---@param name string
---@param fn fun(query: lumo.Query, ...)
---@return lumo.Model self
function Model:scope(name, fn)
  local state = registry.check(self, "scope")
  if type(name) ~= "string" or type(fn) ~= "function" then
    raise("E_ARGUMENT", "scope takes a name and a function, got %s and %s", type(name), type(fn))
  end
  state.scopes = state.scopes or {}
  state.scopes[name] = fn
  return self
end

--- The records of these primary keys, each once, in the order asked for; those that are not there are left
--- out. Commands: find.
---@param ids any[]
---@param options lumo.ClientOptions|nil
---@return lumo.Record[]
function Model:find_many(ids, options)
  local state = registry.check(self, "find_many")
  check_list(ids, "find_many needs a list of primary keys")
  return core.order_records(state.class, queries.of_model(state, options):where_in(state.primary, ids):exec(), ids)
end

---@class lumo.AggregateOptions: lumo.ClientOptions
---@field each boolean|nil

local AGGREGATE_OPTIONS = { each = true }
for name in pairs(CLIENT_OPTIONS) do AGGREGATE_OPTIONS[name] = true end

--- MongoDB's own aggregation: stages as they are, plain tables as results. Commands: aggregate, and a getMore
--- for each further batch.
---@param pipeline table[]
---@param options lumo.AggregateOptions|nil each: an iterator over the cursor instead of a list
---@return any a list of tables, or the iterator
---@overload fun(self: lumo.Model, pipeline: table[]): table[]
function Model:aggregate(pipeline, options)
  local state = registry.check(self, "aggregate")
  options = names.options("aggregate", options, AGGREGATE_OPTIONS)
  local client = transactions.client(options, state.connection)
  local plan = core.aggregate_plan(state.collection, pipeline, options.each)
  if not options.each then
    run(client, plan)
    return core.plan_documents(plan)
  end
  local batch, i, done = {}, 0, false
  return function()
    i = i + 1
    while batch[i] == nil and not done do
      done = run(client, plan)
      batch, i = core.plan_documents(plan), 1
    end
    return batch[i]
  end
end

--- lumo.transaction on the model's connection.
---@param fn (fun(trx: lumo.Transaction): any)|nil
---@param options table|nil
---@return any what fn gives; without fn the transaction
function Model:transaction(fn, options)
  return transactions.transaction(fn, options, registry.check(self, "transaction").connection)
end

--- Whether the model has a column of that attribute name.
---@param name string
---@return boolean
function Model:has_column(name)
  return registry.check(self, "has_column").by_attribute[name] ~= nil
end

--- The definition of a column as it was compiled, or nil.
---@param name string
---@return { name: string, stored: string, serialized: string|false, type: string }|nil
function Model:get_column(name)
  local column = registry.check(self, "get_column").by_attribute[name]
  if not column then return nil end
  local copy = {} ---@type any
  for key, value in pairs(column) do copy[key] = value end
  return copy
end

--- Whether the model has a relation of that name.
---@param name string
---@return boolean
function Model:has_relation(name)
  return registry.check(self, "has_relation").relations[name] ~= nil
end

--- The relation object. Raises E_UNDEFINED_RELATIONSHIP.
---@param name string
---@return lumo.AnyRelation
function Model:get_relation(name)
  return registry.relation(registry.check(self, "get_relation"), name)
end

--- The indexes that the model declares, its relations' not included.
---@return lumo.Index[]
function Model:indexes()
  local list = {}
  for i, index in ipairs(registry.check(self, "indexes").indexes) do list[i] = index end
  return list
end

--- Creates the indexes that the model declares and that its relations need on their pivots, where they are missing;
--- changes and drops nothing. Raises E_DUPLICATE_KEY where documents are there that a unique one refuses, and
--- E_ARGUMENT where a different index of the same fields or name is in the way. Commands: a listIndexes for each
--- collection, and a createIndexes if anything is missing.
---@param options { client: lumo.Client?, connection: string? }|nil
---@return string[] names of the indexes that were created
function Model:ensure_indexes(options)
  local state = registry.check(self, "ensure_indexes")
  local connection = ambient.connection(client_of(state, options, "ensure_indexes"))
  return index_plan.ensure({ state }, function() return connection end)
end

--- A change stream of the model's documents, `Post:watch{…}`, or of the pairs of a relation, `Post:watch("tags", {…})`.
--- See watch.lua.
---@param name string|lumo.WatchOptions|nil a many-to-many relation
---@param options lumo.WatchOptions|nil
---@return lumo.Stream
function Model:watch(name, options)
  local state = registry.check(self, "watch")
  if type(name) == "string" then return watch.new(state, name, options) end
  return watch.new(state, nil, name)
end

names.alias(Model)

return Model
