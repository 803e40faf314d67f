--- has_one, has_many and belongs_to: the key of one side stands in the documents of the other.
local base = require "lumo.relations.base"
local core = require "lumo.core"
local events = require "lumo.events"
local names = require "lumo.names"
local naming = require "lumo.naming"
local queries = require "lumo.query"
local registry = require "lumo.registry"
local raise = require("lumo.errors").raise

local direct = {}

---@class (partial) lumo.DirectRelation: lumo.Relation
---@field local_key string the owner's attribute that the key is of
---@field foreign_key string the attribute that holds it: of the related model, of belongs_to the parent's

---@class lumo.DirectOptions
---@field foreign_key string|nil
---@field local_key string|nil
---@field serialize_as string|false|nil
---@field on_query fun(query: lumo.Query)|nil
---@field on_delete "cascade"|"nullify"|"restrict"|nil

local OPTIONS = { foreign_key = true, local_key = true, serialize_as = true, on_query = true, on_delete = true }
local BELONGS_OPTIONS = { foreign_key = true, local_key = true, serialize_as = true, on_query = true }
local ON_DELETE = { cascade = true, nullify = true, restrict = true }

local function define(type_name, class, related, options, context, known)
  base.check_model(related, context, "the related model")
  options = base.check_options(names.options(context, options, known), context)
  for _, name in ipairs { "foreign_key", "local_key" } do
    if options[name] ~= nil and not base.is_name(options[name]) then
      raise("E_ARGUMENT", "option \"%s\" of %s is a name", name, context)
    end
  end
  if options.on_delete ~= nil and not ON_DELETE[options.on_delete] then
    raise("E_ARGUMENT", "option \"on_delete\" of %s is \"cascade\", \"nullify\" or \"restrict\"", context)
  end
  return base.definition { type = type_name, class = class, related = related, options = options }
end

--- The side that owns the key, the side that holds it, and their attributes.
local function boot(self)
  local options, parent = self.definition.options, self.state
  local related = registry.resolve(self.definition.related)
  base.check_connection(self, related)
  local belongs = self.type == "belongsTo"
  local owner, holder = parent, related
  if belongs then owner, holder = related, parent end
  self.local_key = base.check_key(self, options.local_key or owner.primary, owner)
  self.foreign_key = base.check_key(self,
    options.foreign_key or naming.make(parent.naming, "foreign_key", owner.name, owner.primary), holder)
  base.check_types(self, { state = owner, key = self.local_key }, { state = holder, key = self.foreign_key })
  self.related_state = related
  -- As the core compares them: an attribute of the parent with one of the related model.
  self.parent_key = belongs and self.foreign_key or self.local_key
  self.related_key = belongs and self.local_key or self.foreign_key
  self.hops = { {
    collection = related.collection, from = parent.by_attribute[self.parent_key].stored,
    to = related.by_attribute[self.related_key].stored, side = "related",
  } }
  self.handle = core.relation {
    name = self.relation_name, parent = parent.schema, related = related.schema, local_key = self.parent_key,
    related_key = self.related_key, optional = belongs, shares_keys = true,
  }
end

local BOOTED = {
  local_key = true, foreign_key = true, related_state = true, parent_key = true, related_key = true, hops = true,
  handle = true,
}

---@class (partial) lumo.DirectRelation
local methods = {}

--- A query over the related records: bound to one parent, or for many of them or to stand inside of another query.
---@param method string for error messages
---@param parent lumo.Record|nil
---@param client lumo.Client|nil
---@param flag string|nil of the builder; "is_related_query" when nil
---@return lumo.Query
function methods:related_query(method, parent, client, flag)
  local q
  if parent then
    if method ~= "delete" then events.loads(self, parent) end -- which no preload would spare
    q = queries.of_relation(core.bound_query(self:boot().handle, method, parent), self.related_state, nil, client,
      flag or "is_related_query")
  else
    q = queries.of_relation(core.related_query(self:boot().handle, method, nil), self.related_state, self, client,
      flag or "is_related_query")
  end
  return base.apply_on_query(self, q)
end

--- Raises E_MISSING_ATTRIBUTE_VALUE for a key that is not known because it was not selected: without one a record that
--- belongs to nobody has nothing related.
---@param list lumo.Record[]
function methods:check_parents(list, method)
  if not self:boot().is_optional then return end
  for _, one in ipairs(list) do
    local side = core.record_side(one)
    if side and side.partial and core.record_get(one, self.parent_key) == nil then
      core.raise("E_MISSING_ATTRIBUTE_VALUE", ("Cannot %s \"%s\", value of \"%s.%s\" is nil")
        :format(method, self.relation_name, self.state.name, self.parent_key),
        { model = self.state.name, attribute = self.parent_key })
    end
  end
end

--- Distributes related records over their parents by the keys; parents with none get an empty list, or nil.
---@param parents lumo.Record[]
---@param related lumo.Record[]
function methods:set_related_for_many(parents, related)
  self:boot()
  base.distribute(self, parents, related, self.parent_key, function(one) return one:get(self.related_key) end)
end

local function class(constants)
  local own = {}
  for name, method in pairs(methods) do own[name] = method end
  constants.client_module, constants.is_direct = "lumo.relations.clients", true
  return base.class(boot, BOOTED, own, constants)
end

local HasOne = class { is_one = true }
local HasMany = class { is_one = false }
local BelongsTo = class { is_one = true, is_optional = true }

--- A relation to the one record of another model that holds this one's key.
---@param related string|table|fun(): table|string
---@param options lumo.DirectOptions|nil
function direct.has_one(related, options)
  return define("hasOne", HasOne, related, options, "has_one", OPTIONS)
end

--- A relation to the records of another model that hold this one's key.
---@param related string|table|fun(): table|string
---@param options lumo.DirectOptions|nil
function direct.has_many(related, options)
  return define("hasMany", HasMany, related, options, "has_many", OPTIONS)
end

--- A relation to the record of another model whose key this one holds.
---@param related string|table|fun(): table|string
---@param options lumo.DirectOptions|nil without on_delete
function direct.belongs_to(related, options)
  return define("belongsTo", BelongsTo, related, options, "belongs_to", BELONGS_OPTIONS)
end

return direct
