--- Models by name, and what lumo knows of each: the state that its files share.
local core = require "lumo.core"
local errors = require "lumo.errors"
local names = require "lumo.names"
local raise = errors.raise
local not_called_on = errors.not_called_on

local registry = {}

local by_name = {}
local states = setmetatable({}, { __mode = "k" })

---@class lumo.State what is compiled of one model
---@field name string
---@field collection string
---@field model lumo.Model the model itself, as scripts see it
---@field schema userdata
---@field class table the metatable of its records
---@field names table what a record answers to: column numbers, methods, properties
---@field primary string the primary column's attribute name
---@field columns table[] normalised column definitions, in writing order
---@field by_attribute table<string, table>
---@field prepares boolean a column has a function `prepare`
---@field relations table<string, lumo.AnyRelation>
---@field connection lumo.Connection|string|nil
---@field strict boolean|nil as the definition says; nil when it says nothing
---@field definition_strict boolean what that comes to
---@field place string|nil where it was defined; nil of what no model describes
---@field base lumo.State|nil of the model that it extends
---@field by_stored table<string, table> columns by their stored names
---@field rules table[]|nil columns that have rules
---@field hooks table<string, function[]>|nil by event, "before save"
---@field scopes table<string, function>|nil
---@field indexes lumo.IndexEntry[]
---@field naming lumo.NamingStrategy
---@field query_companion table|nil what its queries begin with, see lumo.query
---@field relaxed_schema fun(): userdata of the same columns, letting undeclared names pass
---@field relaxed_class fun(): table

--- Ties a state to its model.
---@param state lumo.State
function registry.attach(state)
  states[state.model] = state
end

--- Makes a model known by its name.
---@param state lumo.State
function registry.add(state)
  by_name[state.name] = state
end

---@param name string
---@return lumo.State|nil
function registry.find(name)
  return by_name[name]
end

--- All models, by name.
---@return lumo.State[]
function registry.all()
  local all = {}
  for _, state in pairs(by_name) do
    all[#all + 1] = state
  end
  table.sort(all, function(a, b) return a.name < b.name end)
  return all
end

--- The name of the model that a collection is of, and that of the relation whose pivot it is: "Post.tags".
---@param collection string
---@return string|nil model
---@return string|nil relation
function registry.owner_of(collection)
  local model, relation
  for _, state in ipairs(registry.all()) do
    if state.collection == collection then model = model or state.name end
    for name, one in pairs(state.relations) do
      local full = ("%s.%s"):format(state.name, name)
      local is_pivot = one.booted and one.pivot_table == collection
      if is_pivot and (not relation or full < relation) then relation = full end
    end
  end
  return model, relation
end

--- The state behind a model, or nil if the value is not one.
---@return lumo.State|nil
function registry.of(model)
  return states[model]
end

--- The state of the model that a static was called on.
---@param method string for the message
---@return lumo.State
function registry.check(model, method)
  return states[model] or not_called_on(method, "a model")
end

local LONGEST_NAME = 64 -- a longer one resembles nothing, and looking would take long

local function distance(a, b)
  local row = {} ---@type table<integer, integer>
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local before = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      before, row[j] = row[j], math.min(row[j] + 1, row[j - 1] + 1, before + cost)
    end
  end
  return row[#b]
end

--- `. Did you mean "…"?` for a name that is near one of the keys of `known`, else an empty text.
---@param name string
---@param known table<string, any>
function registry.suggest(name, known)
  if #name > LONGEST_NAME then return "" end
  local best, least = nil, 3
  for other in pairs(known) do
    if type(other) == "string" then
      local d = distance(name:lower(), other:lower())
      if d < least or (d == least and best and other < best) then best, least = other, d end
    end
  end
  return best and (". Did you mean \"%s\"?"):format(best) or ""
end

--- A model given as itself, by its name or by a function that returns either. Raises E_UNDEFINED_MODEL.
---@param given table|string|function
---@return lumo.State
function registry.resolve(given)
  if type(given) == "function" then given = given() end
  if type(given) == "string" then
    return by_name[given]
      or raise("E_UNDEFINED_MODEL", "\"%s\" is not a model%s", given, registry.suggest(given, by_name))
  end
  return registry.of(given) or raise("E_ARGUMENT", "a model or its name is expected, got %s", type(given))
end

--- Checks a dotted path of names of relations.
---@param path string
---@param method string for the message
function registry.check_path(path, method)
  if type(path) ~= "string" then
    raise("E_ARGUMENT", "%s needs the name of a relation, got %s", method, type(path))
  end
  if path == "" or path:find("^%.") or path:find("%.$") or path:find("..", 1, true) then
    raise("E_ARGUMENT", "%s: \"%s\" is not a path of relation names", method, path)
  end
end

--- A relation of a model. Raises E_UNDEFINED_RELATIONSHIP.
---@param state lumo.State
---@param name string
---@return lumo.AnyRelation
function registry.relation(state, name)
  local found = type(name) == "string" and (state.relations[name] or state.relations[names.snake(name)])
  if not found then
    core.raise("E_UNDEFINED_RELATIONSHIP", ("\"%s\" is not defined as a relationship on \"%s\" model")
      :format(tostring(name), state.name), { model = state.name })
  end
  return found
end

return registry
