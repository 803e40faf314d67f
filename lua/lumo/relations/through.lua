--- has_many_through: the related records belong to those of a model between, which belong to the parent. To the core
--- the documents between are rows of a pivot that is only read; of several models between it makes such rows.
local base = require "lumo.relations.base"
local core = require "lumo.core"
local events = require "lumo.events"
local names = require "lumo.names"
local naming = require "lumo.naming"
local queries = require "lumo.query"
local registry = require "lumo.registry"
local raise = require("lumo.errors").raise

local through = {}

---@class (partial) lumo.ThroughRelation: lumo.Relation
---@field local_key string the parent's attribute that the model between points to
---@field foreign_key string the attribute of the model between (of several the first) that points to it
---@field through_local_key string the attribute of the model between (the last) that the related records point to
---@field through_foreign_key string the related model's attribute that points to it
---@field through_state lumo.State of the model between (the last)

---@class lumo.ThroughKeys between one of the models between and the next
---@field local_key string|nil the attribute of the one that the next points to
---@field foreign_key string|nil the attribute of the next that points to it

---@class lumo.ThroughOptions
---@field foreign_key string|nil
---@field local_key string|nil
---@field through_local_key string|nil
---@field through_foreign_key string|nil
---@field through_keys lumo.ThroughKeys[]|nil beside the list of models between, of all but the last
---@field serialize_as string|false|nil
---@field on_query fun(query: lumo.Query)|nil

local OPTIONS = {
  foreign_key = true, local_key = true, through_local_key = true, through_foreign_key = true, through_keys = true,
  serialize_as = true, on_query = true,
}

local KEYS = { "foreign_key", "local_key", "through_local_key", "through_foreign_key" }
local LINK_OPTIONS, LINK_KEYS = { local_key = true, foreign_key = true }, { "local_key", "foreign_key" }
local MOST_BETWEEN = 7 -- as many hops as a query takes, without the last

--- The two attributes that lead from the documents of one model to those of the next.
local function link(self, from, to, local_key, foreign_key)
  foreign_key = foreign_key or naming.make(self.state.naming, "foreign_key", from.name, from.primary)
  local found = {
    from = base.check_key(self, local_key or from.primary, from), to = base.check_key(self, foreign_key, to),
  }
  base.check_types(self, { state = from, key = found.from }, { state = to, key = found.to })
  return found
end

--- The models on the way, the parent first, and the links from each to the next.
local function way(self)
  local options, models, links = self.definition.options, { self.state }, {}
  for i, model in ipairs(self.definition.through) do models[i + 1] = registry.resolve(model) end
  models[#models + 1] = registry.resolve(self.definition.related)
  for i = 2, #models do base.check_connection(self, models[i]) end
  links[1] = link(self, models[1], models[2], options.local_key, options.foreign_key)
  for i = 2, #models - 2 do
    local keys = options.through_keys and options.through_keys[i - 1] or {}
    links[i] = link(self, models[i], models[i + 1], keys.local_key, keys.foreign_key)
  end
  links[#links + 1] =
    link(self, models[#models - 1], models[#models], options.through_local_key, options.through_foreign_key)
  return models, links
end

local function boot(self)
  local models, links = way(self)
  local parent, related, between = self.state, models[#models], models[#models - 1]
  self.local_key, self.foreign_key = links[1].from, links[1].to
  self.through_local_key, self.through_foreign_key = links[#links].from, links[#links].to
  self.related_state, self.through_state = related, between
  self.parent_key, self.related_key = self.local_key, self.through_foreign_key
  self.hops = {}
  for i, one in ipairs(links) do
    self.hops[i] = {
      collection = models[i + 1].collection, from = models[i].by_attribute[one.from].stored,
      to = models[i + 1].by_attribute[one.to].stored,
    }
  end
  self.hops[#links].side = "related"
  local compiled = {
    name = self.relation_name, parent = parent.schema, related = related.schema, local_key = self.local_key,
    related_key = self.related_key, fields = {}, shares_keys = true,
  }
  if #links > 2 then
    compiled.hops = self.hops
  else
    self.hops[1].side = "pivot"
    compiled.rows, compiled.attributes, compiled.pivot_table = between.schema, between.schema, between.collection
    compiled.owner_field, compiled.related_field = self.hops[1].to, self.hops[2].from
  end
  self.handle = core.relation(compiled)
end

local BOOTED = {
  local_key = true, foreign_key = true, through_local_key = true, through_foreign_key = true, related_state = true,
  through_state = true, parent_key = true, related_key = true, hops = true, handle = true,
}

---@class (partial) lumo.ThroughRelation
local methods = {}

--- The model between, of several the last.
---@param self any
---@return lumo.Model
function methods.through_model(self)
  return self:boot().through_state.model
end

--- A query over the related records: of one parent, or for many of them or to stand inside of another query.
---@param method string for error messages
---@param parent lumo.Record|nil
---@param client lumo.Client|nil
---@param flag string|nil of the builder; "is_related_query" when nil
---@return lumo.Query
function methods:related_query(method, parent, client, flag)
  if parent and method ~= "delete" then events.loads(self, parent) end -- which no preload would spare
  local q = core.related_query(self:boot().handle, method, parent)
  return base.apply_on_query(self, queries.of_relation(q, self.related_state, self, client, flag or "is_related_query"))
end

--- The attribute name of a stored field of the model between; where there are several, of the owner's key.
function methods:pivot_attribute(stored)
  if #self:boot().hops > 2 then return self.foreign_key end
  local column = self.through_state.by_stored[stored]
  return column and column.name or stored
end

--- Distributes related records over their parents by `extras.through_<foreign key>`; parents with none get an empty
--- list.
---@param parents lumo.Record[]
---@param related lumo.Record[]
function methods:set_related_for_many(parents, related)
  self:boot()
  local name = "through_" .. self.foreign_key
  base.distribute(self, parents, related, self.local_key, function(one) return one.extras[name] end)
end

local Through = base.class(boot, BOOTED, methods, {
  is_one = false, client_module = "lumo.relations.clients", extras_prefix = "through_",
})

--- The models between as a list without holes.
local function between_list(between, context)
  if type(between) ~= "table" or registry.of(between) then
    return { base.check_model(between, context, "the model between") }
  end
  local list, size = {}, core.list_size(between)
  if not size or size == 0 or size > MOST_BETWEEN then
    raise("E_ARGUMENT", "%s needs a model between, or a list of 1 to %d", context, MOST_BETWEEN)
  end
  for i = 1, size do list[i] = base.check_model(between[i], context, "the models between") end
  return list
end

local function check_names(options, known, context)
  for _, name in ipairs(known) do
    if options[name] ~= nil and not base.is_name(options[name]) then
      raise("E_ARGUMENT", "option \"%s\" of %s is a name", name, context)
    end
  end
  return options
end

--- The keys between the models between, as many as there are of them but one, or fewer.
local function between_keys(given, most, context)
  if given == nil then return nil end
  local size = type(given) == "table" and core.list_size(given)
  if not size or size > most then
    raise("E_ARGUMENT", "option \"through_keys\" of %s is a list of { local_key =, foreign_key = }, one from each "
      .. "model between to the next", context)
  end
  local list = {}
  for i = 1, size do
    list[i] = check_names(names.options("through_keys", given[i], LINK_OPTIONS), LINK_KEYS, context)
  end
  return list
end

--- A relation to the records of a model that belong to those of another one (`between`), which belong to this one: or
--- to those of a list of models, each of which belongs to the one before. Reads bring along
--- `extras.through_<foreign key>`.
---@param related string|table|fun(): table|string
---@param between string|table|(fun(): table|string)|table[] a model, or a pivot's; or a list of them, the nearest first
---@param options lumo.ThroughOptions|nil
function through.has_many_through(related, between, options)
  local context = "has_many_through"
  base.check_model(related, context, "the related model")
  local list = between_list(between, context)
  options = base.check_options(names.options(context, options, OPTIONS), context)
  check_names(options, KEYS, context)
  options.through_keys = between_keys(options.through_keys, #list - 1, context)
  return base.definition {
    type = "hasManyThrough", class = Through, related = related, through = list, options = options,
  }
end

return through
