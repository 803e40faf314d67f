--- Many-to-many relations: their definition, their boot, and the relation object.
local base = require "lumo.relations.base"
local core = require "lumo.core"
local events = require "lumo.events"
local names = require "lumo.names"
local naming = require "lumo.naming"
local registry = require "lumo.registry"
local validation = require "lumo.validation"
local errors = require "lumo.errors"
local raise = errors.raise

local relation = {}

---@class (partial) lumo.PivotRelation: lumo.Relation
---@field local_key string attribute of the parent model
---@field pivot_table string collection of the pivot
---@field pivot_foreign_key string field of the pivot that holds the parent's key
---@field pivot_related_foreign_key string field of the pivot that holds the related key
---@field pivot_columns string[] fields of the pivot that reads bring along; {"*"}: all
---@field pivot_state lumo.State|nil of the pivot model
---@field row_model lumo.State|nil what row_state has made
---@field rows userdata the schema of pivot documents
---@field fields string[]|nil stored names of what reads bring along; nil: all
---@field duplicates boolean
---@field timestamps { created: string?, updated: string? }

local OPTIONS = {
  pivot_table = true, pivot_foreign_key = true, pivot_related_foreign_key = true, local_key = true, related_key = true,
  pivot_columns = true, pivot_timestamps = true, serialize_as = true, on_query = true, pivot_model = true,
  duplicates = true, atomic = true, serial = true, check_related = true, on_delete = true,
}

local TEXTS = { "pivot_table", "pivot_foreign_key", "pivot_related_foreign_key", "local_key", "related_key" }

local is_name = base.is_name

local function check_options(options, context)
  for _, name in ipairs(TEXTS) do
    local given = options[name]
    if name == "pivot_table" and type(given) == "string" then given = given:gsub("%.", "") end -- collections may
    if given ~= nil and not is_name(given) then
      raise("E_ARGUMENT", "option \"%s\" of %s is a name", name, context)
    end
  end
  for _, name in ipairs { "duplicates", "atomic", "check_related" } do
    if options[name] ~= nil and type(options[name]) ~= "boolean" then
      raise("E_ARGUMENT", "option \"%s\" of %s is a boolean", name, context)
    end
  end
  if options.serial ~= nil and type(options.serial) ~= "string" then
    raise("E_ARGUMENT", "option \"serial\" of %s is the name of an integer column", context)
  end
  if options.serial ~= nil and options.atomic == false then
    raise("E_ARGUMENT", "%s: serial takes turns in transactions, which atomic = false never opens", context)
  end
  if options.on_delete ~= nil and options.on_delete ~= "detach" then
    raise("E_ARGUMENT", "option \"on_delete\" of %s is \"detach\"", context)
  end
  base.check_options(options, context)
  return options
end

local ManyToMany -- the class of its relation objects

local function define(related, pivot, options, context)
  base.check_model(related, context, "the related model")
  options = check_options(names.options(context, options, OPTIONS), context)
  return base.definition {
    type = "manyToMany", class = ManyToMany, related = related, pivot = pivot, options = options,
  }
end

--- A many-to-many relation, keys given by position.
---@param related string|table|fun(): table|string
---@param pivot string|table|fun(): table|string|nil the pivot model
---@param pivot_foreign_key string|nil
---@param pivot_related_key string|nil
---@param local_key string|nil
---@param related_key string|nil
---@param options table|nil as many_to_many's
function relation.belongs_to_many(related, pivot, pivot_foreign_key, pivot_related_key, local_key, related_key, options)
  if type(pivot_foreign_key) == "table" and pivot_related_key == nil then -- belongs_to_many(related, pivot, options)
    options, pivot_foreign_key = pivot_foreign_key, nil
  end
  local definition = define(related, pivot, options, "belongs_to_many")
  local given = {
    pivot_foreign_key = pivot_foreign_key, pivot_related_foreign_key = pivot_related_key, local_key = local_key,
    related_key = related_key,
  }
  for name, value in pairs(check_options(given, "belongs_to_many")) do
    definition.options[name] = value
  end
  return definition
end

--- A many-to-many relation, everything by option.
---@param related string|table|fun(): table|string
---@param options table|nil
function relation.many_to_many(related, options)
  return define(related, nil, options, "many_to_many")
end

-- Boot ------------------------------------------------------------------------------------------------------

local check_key, check_connection = base.check_key, base.check_connection

--- The stored names of the pivot's automatic dates: the option's, else those of the pivot model's columns.
local function timestamps(options, pivot)
  local given = options.pivot_timestamps
  if given == true then return "created_at", "updated_at" end
  if type(given) == "table" then
    given = names.options("pivot_timestamps", given, { created_at = true, updated_at = true })
    local function pick(name)
      local value = given[name]
      if value == false then return nil end
      if value == nil or value == true then return name end
      if not is_name(value) then raise("E_ARGUMENT", "option \"pivot_timestamps\" is true or a table of names") end
      return value
    end
    return pick("created_at"), pick("updated_at")
  end
  if given then raise("E_ARGUMENT", "option \"pivot_timestamps\" is true or a table of names") end
  local created, updated
  if not pivot then return nil, nil end
  for _, column in ipairs(pivot.columns) do
    if column.auto_update then
      updated = updated or column.stored
    elseif column.auto_create then
      created = created or column.stored
    end
  end
  return created, updated
end

--- Columns for a pivot that no model describes: the keys by the types of what they point to, and the
--- timestamps.
local function plain_columns(owner, related, created_at, updated_at)
  local columns = {
    { name = "_id", stored = "_id", serialized = "_id", type = "any", primary = true },
    { name = owner.field, stored = owner.field, serialized = owner.field, type = owner.type },
    { name = related.field, stored = related.field, serialized = related.field, type = related.type },
  }
  for _, name in ipairs { created_at or false, updated_at or false } do
    if name then columns[#columns + 1] = { name = name, stored = name, serialized = name, type = "date" } end
  end
  return columns
end

--- Stored names of the pivot's fields named by attributes, after those in `fields`; nil: all of them.
local function add_fields(fields, wanted, pivot, context)
  if wanted == "*" then return nil end
  if type(wanted) ~= "table" then raise("E_ARGUMENT", "%s takes a list of names", context) end
  if #wanted == 0 and next(wanted) ~= nil then raise("E_ARGUMENT", "%s takes a list of names", context) end
  local seen = {}
  for _, name in ipairs(fields) do seen[name] = true end
  for _, name in ipairs(wanted) do
    if name == "*" then return nil end
    if not is_name(name) then raise("E_ARGUMENT", "%s takes a list of names", context) end
    local column = pivot and pivot.by_attribute[name]
    name = column and column.stored or name
    if not seen[name] then
      seen[name] = true
      fields[#fields + 1] = name
    end
  end
  return fields
end

--- The pivot fields that reads bring along, as stored names (nil: all of them), and as they are shown.
local function pivot_fields(self, pivot, created_at, updated_at)
  local wanted = self.definition.options.pivot_columns
  if wanted == nil and pivot then return nil, { "*" } end
  local stamps = {}
  if created_at then stamps[1] = created_at end
  if updated_at then stamps[#stamps + 1] = updated_at end
  local fields = add_fields(stamps, wanted or {}, pivot, "option \"pivot_columns\"")
  return fields, fields and (wanted or {}) or { "*" }
end

local function resolve_pivot(self)
  local options, given = self.definition.options, self.definition.pivot
  local pivot
  if given ~= nil then
    pivot = registry.resolve(given)
  elseif options.pivot_model ~= nil then
    pivot = registry.resolve(options.pivot_model)
  end
  if pivot and options.pivot_table and options.pivot_table ~= pivot.collection then
    raise("E_ARGUMENT", "relation \"%s.%s\" names the pivot collection \"%s\", but its pivot model is stored in \"%s\"",
      self.state.name, self.relation_name, options.pivot_table, pivot.collection)
  end
  return pivot
end

--- A name that can be a field of pivot documents.
local function check_field(self, option, name)
  if type(name) ~= "string" or name == "" or name:find(".", 1, true) or name:find("^%$") or name:find("\0", 1, true)
    or name == "_id" then
    raise("E_ARGUMENT", "relation \"%s.%s\": %s cannot be the name of a field",
      self.state.name, self.relation_name, option)
  end
end

--- A strict pivot model stores what it declares, and nothing else.
local function check_timestamps(self, pivot, created_at, updated_at)
  if not (pivot and pivot.strict) then return end
  for _, stored in ipairs { created_at or updated_at, updated_at } do
    if not pivot.by_stored[stored] then check_key(self, stored, pivot) end
  end
end

--- Whether the pivot model declares a unique index that is on more than the two keys, or on less.
local function has_other_unique(self, pivot)
  for _, index in ipairs(pivot and pivot.indexes or {}) do
    local keys = {}
    for _, field in ipairs(index.key) do keys[field[1]] = true end
    if index.unique and not (#index.key == 2 and keys[self.pivot_foreign_key] and keys[self.pivot_related_foreign_key])
    then
      return true
    end
  end
  return false
end

local function boot(self)
  local options, parent = self.definition.options, self.state
  local related = registry.resolve(self.definition.related)
  local pivot = resolve_pivot(self)
  check_connection(self, related)
  check_connection(self, pivot)
  local local_key = check_key(self, options.local_key or parent.primary, parent)
  local related_key = check_key(self, options.related_key or related.primary, related)
  local foreign_key = options.pivot_foreign_key
    or naming.make(parent.naming, "pivot_foreign_key", parent.name, parent.primary)
  local related_foreign_key = options.pivot_related_foreign_key
    or naming.make(parent.naming, "pivot_foreign_key", related.name, related.primary)
  if foreign_key == related_foreign_key then
    raise("E_ARGUMENT", "relation \"%s.%s\" has \"%s\" for both keys of its pivot; "
      .. "name pivot_foreign_key and pivot_related_foreign_key", parent.name, self.relation_name, foreign_key)
  end
  local created_at, updated_at = timestamps(options, pivot)
  check_timestamps(self, pivot, created_at, updated_at)
  for name, stored in pairs { pivot_foreign_key = foreign_key, pivot_related_foreign_key = related_foreign_key,
    created_at = created_at, updated_at = updated_at } do
    check_field(self, name, stored)
  end
  local table_name = pivot and pivot.collection or options.pivot_table
    or naming.make(parent.naming, "pivot_table", parent.name, related.name)
  if not is_name((table_name:gsub("%.", ""))) then
    raise("E_ARGUMENT", "relation \"%s.%s\": naming makes a pivot collection name that MongoDB does not take",
      parent.name, self.relation_name)
  end
  local rows, attributes
  if pivot then
    -- Fields that the pivot model does not declare pass, unless it insists.
    attributes = pivot.strict and pivot.schema or pivot.relaxed_schema()
    rows = attributes
  else
    rows = core.schema {
      model = table_name, collection = table_name, strict = false,
      columns = plain_columns({ field = foreign_key, type = parent.by_attribute[local_key].type },
        { field = related_foreign_key, type = related.by_attribute[related_key].type }, created_at, updated_at),
    }
    attributes = rows
  end
  local fields, columns = pivot_fields(self, pivot, created_at, updated_at)
  self.local_key, self.related_key, self.parent_key = local_key, related_key, local_key
  self.pivot_foreign_key, self.pivot_related_foreign_key = foreign_key, related_foreign_key
  self.pivot_table, self.pivot_columns = table_name, columns
  self.related_state, self.pivot_state = related, pivot
  self.handle = core.relation {
    name = self.relation_name, parent = parent.schema, related = related.schema, rows = rows, attributes = attributes,
    local_key = local_key, related_key = related_key, pivot_table = table_name, owner_field = foreign_key,
    related_field = related_foreign_key, created_at = created_at, updated_at = updated_at,
    duplicates = options.duplicates or false, atomic = options.atomic ~= false, fields = fields,
  }
  if has_other_unique(self, pivot) then core.relation_guard(self.handle) end
  self.rows = rows
  self.fields = fields
  --- The way from a parent to its related records, for what follows it on the server: the documents of a
  --- collection whose field `to` equals the field `from` of the document before. `side` names the conditions
  --- of a builder that speak of them. An optional hop is made when something is asked of its documents.
  self.hops = {
    { collection = table_name, from = parent.by_attribute[local_key].stored, to = foreign_key, side = "pivot" },
    {
      collection = related.collection, from = related_foreign_key, to = related.by_attribute[related_key].stored,
      side = "related", optional = true,
    },
  }
  self.timestamps = { created = created_at, updated = updated_at }
  self.duplicates = options.duplicates or false
  if options.serial then
    local column = parent.by_attribute[check_key(self, options.serial, parent)]
    if column.type ~= "integer" and column.type ~= "int64" and column.type ~= "int32" then
      raise("E_ARGUMENT", "relation \"%s.%s\": serial names \"%s\", which is no integer column", parent.name,
        self.relation_name, options.serial)
    end
  end
end

-- What needs the boot before it can be answered.
local BOOTED = {
  local_key = true, related_key = true, pivot_foreign_key = true, pivot_related_foreign_key = true, pivot_table = true,
  pivot_columns = true, parent_key = true, handle = true, related_state = true, rows = true, duplicates = true,
  hops = true, timestamps = true,
}

---@class (partial) lumo.PivotRelation
local methods = {}

--- The pivot model, or nil.
---@param self any
---@return lumo.Model|nil
function methods.pivot_model(self)
  return self:boot().pivot_state and self.pivot_state.model or nil
end

--- The attribute name of a stored pivot field.
function methods:pivot_attribute(stored)
  local state = self.pivot_state
  local column = state and state.by_stored[stored]
  return column and column.name or stored
end

--- The class of `record.pivot` where there is a pivot model.
function methods:pivot_class()
  return self.pivot_state and self:row_state().class
end

--- Raises E_VALIDATION if attributes of a pair break the rules of the pivot model; of an update only those
--- that are given count.
function methods:check_attributes(attributes, update)
  local pivot = self:boot().pivot_state
  if not pivot or not pivot.rules then return end
  local one = core.record_new(pivot.relaxed_class(), attributes, 0)
  local only = {}
  for _, column in ipairs(pivot.rules) do
    local is_key = column.stored == self.pivot_foreign_key or column.stored == self.pivot_related_foreign_key
    if not is_key and (not update or attributes[column.name] ~= nil) then only[column.name] = true end
  end
  validation.check(one, pivot, only)
end

--- What pivot documents are hydrated as: the name of a model and the class of its records.
---@return lumo.State
function methods:row_state()
  local pivot = self.pivot_state
  if not self.row_model then
    if pivot then
      self.row_model = pivot.strict and pivot or setmetatable({ class = pivot.relaxed_class() }, { __index = pivot })
    else
      self.row_model = require("lumo.model").plain_state(self.pivot_table, self.rows)
    end
  end
  return self.row_model --[[@as lumo.State]]
end

--- The compiled relation as what reads and writes pairs alone sees it: under what on_query says of the pivot.
---@param method string for error messages
---@param client lumo.Client
---@return userdata
function methods:bound_handle(method, client)
  if not self.on_query then return self.handle end
  local q = core.related_query(self.handle, method, nil)
  require("lumo.query").of_relation(q, self.related_state, self, client, "is_pivot_only_query")
  self.on_query(q)
  return core.relation_under(self.handle, q)
end

--- A query over the related records: of one parent, or unbound for eager loading.
---@param method string for error messages
---@param parent lumo.Record|nil
---@param client lumo.Client|nil
---@param flag string|nil of the builder; "is_related_query" when nil
---@return lumo.Query
function methods:related_query(method, parent, client, flag)
  if type(method) ~= "string" then raise("E_ARGUMENT", "related_query needs a name for its messages") end
  if parent then events.loads(self, parent) end
  local q = core.related_query(self.handle, method, parent)
  require("lumo.query").of_relation(q, self.related_state, self, client, flag or "is_related_query")
  return base.apply_on_query(self, q)
end

local function value_of(record, attribute, method)
  if not core.record_is(record) then raise("E_ARGUMENT", "%s needs a record, got %s",
    method, type(record)) end
  return core.record_get(record, attribute)
end

--- { field, value } of the pivot for a parent: `{ "user_id", id }`.
---@param parent lumo.Record
---@return table
function methods:get_pivot_pair(parent)
  base.check_record(self:boot(), parent, self.state, "get_pivot_pair")
  return { self.pivot_foreign_key, value_of(parent, self.local_key, "get_pivot_pair") }
end

--- { field, value } of the pivot for a related record.
---@param related lumo.Record
---@return table
function methods:get_pivot_related_pair(related)
  base.check_record(self:boot(), related, self.related_state, "get_pivot_related_pair")
  return { self.pivot_related_foreign_key, value_of(related, self.related_key, "get_pivot_related_pair") }
end

--- The fields that reads bring along, and these; nil: all.
function methods:fields_with(list)
  local always = self:boot().fields
  if not always then return nil end
  local fields = {}
  for i, name in ipairs(always) do fields[i] = name end
  return add_fields(fields, list, self.pivot_state, "pivot_columns")
end

--- Removes the rows of the pivot whose related record is gone, of all parents; of those that on_query lets
--- see. Without hooks. Commands: an aggregate, and a delete for each thousand of them.
---@return integer removed
function methods:prune()
  local queries, transactions = require "lumo.query", require "lumo.transaction"
  local target = transactions.client({}, self:boot().state.connection)
  local plan = core.orphans_plan(self:bound_handle("prune", target))
  return queries.delete_found(self:row_state(), self.rows, plan, target)
end

--- Distributes related records over their parents by `extras.pivot_<foreign key>`; parents with none get an
--- empty list.
---@param parents lumo.Record[]
---@param related lumo.Record[]
function methods:set_related_for_many(parents, related)
  self:boot()
  local name = "pivot_" .. self.pivot_foreign_key
  base.distribute(self, parents, related, self.local_key, function(one) return one.extras[name] end)
end

ManyToMany = base.class(boot, BOOTED, methods, { is_one = false, client_module = "lumo.relations.pivot_client" })

return relation
