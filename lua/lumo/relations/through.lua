--- has_many_through: the related records belong to those of a model between, which belong to the parent. To the core
--- the documents between are rows of a pivot that is only read.
local base = require "lumo.relations.base"
local core = require "lumo.core"
local events = require "lumo.events"
local names = require "lumo.names"
local naming = require "lumo.naming"
local queries = require "lumo.query"
local registry = require "lumo.registry"
local raise = require("lumo.errors").raise

local through = {}

---@class lumo.ThroughRelation: lumo.Relation
---@field local_key string the parent's attribute that the model between points to
---@field foreign_key string the attribute of the model between that points to it
---@field through_local_key string the attribute of the model between that the related records point to
---@field through_foreign_key string the related model's attribute that points to it

---@class lumo.ThroughOptions
---@field foreign_key string|nil
---@field local_key string|nil
---@field through_local_key string|nil
---@field through_foreign_key string|nil
---@field serialize_as string|false|nil
---@field on_query fun(query: lumo.Query)|nil

local OPTIONS = {
  foreign_key = true, local_key = true, through_local_key = true, through_foreign_key = true, serialize_as = true,
  on_query = true,
}

local KEYS = { "foreign_key", "local_key", "through_local_key", "through_foreign_key" }

local function boot(self)
  local options, parent = self.definition.options, self.state
  local related, between = registry.resolve(self.definition.related), registry.resolve(self.definition.through)
  base.check_connection(self, related)
  base.check_connection(self, between)
  self.local_key = base.check_key(self, options.local_key or parent.primary, parent)
  self.foreign_key = base.check_key(self,
    options.foreign_key or naming.make(parent.naming, "foreign_key", parent.name, parent.primary), between)
  self.through_local_key = base.check_key(self, options.through_local_key or between.primary, between)
  self.through_foreign_key = base.check_key(self,
    options.through_foreign_key or naming.make(parent.naming, "foreign_key", between.name, between.primary), related)
  self.related_state, self.through_state = related, between
  self.parent_key, self.related_key = self.local_key, self.through_foreign_key
  local owner_field = between.by_attribute[self.foreign_key].stored
  local between_field = between.by_attribute[self.through_local_key].stored
  self.hops = {
    {
      collection = between.collection, from = parent.by_attribute[self.local_key].stored, to = owner_field,
      side = "pivot",
    },
    {
      collection = related.collection, from = between_field, to = related.by_attribute[self.related_key].stored,
      side = "related",
    },
  }
  self.handle = core.relation {
    name = self.relation_name, parent = parent.schema, related = related.schema, rows = between.schema,
    attributes = between.schema, local_key = self.local_key, related_key = self.related_key,
    pivot_table = between.collection, owner_field = owner_field, related_field = between_field, fields = {},
  }
end

local BOOTED = {
  local_key = true, foreign_key = true, through_local_key = true, through_foreign_key = true, related_state = true,
  through_state = true, parent_key = true, related_key = true, hops = true, handle = true,
}

local methods = {}

--- The model between.
function methods:through_model()
  return self:boot().through_state.model
end

--- A query over the related records: of one parent, or for many of them or to stand inside of another query.
---@param method string for error messages
---@param parent lumo.Record|nil
---@param client lumo.Client
---@param flag string|nil of the builder; "is_related_query" when nil
---@return lumo.Query
function methods:related_query(method, parent, client, flag)
  if parent then events.loads(self, parent) end
  local q = core.related_query(self:boot().handle, method, parent)
  return base.apply_on_query(self, queries.of_relation(q, self.related_state, self, client, flag or "is_related_query"))
end

--- The attribute name of a stored field of the model between.
function methods:pivot_attribute(stored)
  local column = self:boot().through_state.by_stored[stored]
  return column and column.name or stored
end

--- Distributes related records over their parents by `extras.through_<foreign key>`; parents with none get an empty
--- list.
---@param parents lumo.Record[]
---@param related lumo.Record[]
function methods:set_related_for_many(parents, related)
  self:boot()
  base.check_records(self, parents, self.state, "set_related_for_many")
  base.check_records(self, related, self.related_state, "set_related_for_many")
  local name = "through_" .. self.foreign_key
  base.distribute(self, parents, related, self.local_key, function(one) return one.extras[name] end)
end

local Through = base.class(boot, BOOTED, methods, {
  is_one = false, client_module = "lumo.relations.clients", extras_prefix = "through_",
})

--- A relation to the records of a model that belong to those of another one (`between`), which belong to this one.
--- Reads bring along `extras.through_<foreign key>`.
---@param related string|table|fun(): table|string
---@param between string|table|fun(): table|string a model, or a pivot's
---@param options lumo.ThroughOptions|nil
function through.has_many_through(related, between, options)
  local context = "has_many_through"
  base.check_model(related, context, "the related model")
  base.check_model(between, context, "the model between")
  options = base.check_options(names.options(context, options, OPTIONS), context)
  for _, name in ipairs(KEYS) do
    if options[name] ~= nil and not base.is_name(options[name]) then
      raise("E_ARGUMENT", "option \"%s\" of %s is a name", name, context)
    end
  end
  return base.definition {
    type = "hasManyThrough", class = Through, related = related, through = between, options = options,
  }
end

return through
