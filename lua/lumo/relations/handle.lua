--- What a relation's property is: a handle with the methods of the relation's client until the relation is loaded, and
--- then a list with the same methods, or of a relation to one the record or nil.
local core = require "lumo.core"
local errors = require "lumo.errors"
local records = require "lumo.record"

local handle = {}

local STATE = {} -- key of the state in the metatable of a loaded list

--- The client's methods. They are looked up when they are needed: clients know relations.
local function methods_of(relation)
  return require(relation.client_module).methods_of(relation)
end

--- The parent, the relation and what commands run on, behind a handle or a loaded list.
---@param self userdata|table
---@param method string for the message
---@return lumo.Record parent
---@return lumo.AnyRelation relation
---@return lumo.Client client
function handle.open(self, method)
  local state = core.handle_state(self)
  if not state and type(self) == "table" then
    local metatable = getmetatable(self)
    state = type(metatable) == "table" and metatable[STATE] or nil
  end
  if not state then errors.not_called_on(method, "a relation") end
  return state.parent, state.relation, records.client(state.parent, state.relation.state)
end

--- The handle of a relation for one parent.
---@param parent lumo.Record
---@param relation lumo.Relation
function handle.new(parent, relation)
  return core.handle_new { parent = parent, relation = relation }
end

local function side_of(parent)
  local side = core.record_side(parent, true)
  side.preloaded, side.loaded = side.preloaded or {}, side.loaded or {}
  return side
end

--- Makes a list of records the loaded value of the relation.
---@return lumo.Record[] list the same
function handle.set_list(parent, relation, list)
  setmetatable(list, {
    __index = methods_of(relation), __name = "lumo.list", [STATE] = { parent = parent, relation = relation },
  })
  side_of(parent).preloaded[relation.relation_name] = list
  return list
end

--- Makes a record, or nil, the loaded value of a relation to one.
function handle.set_one(parent, relation, one)
  local side = side_of(parent)
  side.preloaded[relation.relation_name] = one
  side.loaded[relation.relation_name] = true
end

--- Whether the relation of that name is loaded.
function handle.is_loaded(parent, name)
  local side = core.record_side(parent)
  return (side and (side.preloaded and side.preloaded[name] ~= nil or side.loaded and side.loaded[name])) or false
end

local function not_loaded(relation)
  local name = relation.relation_name
  core.raise("E_NOT_LOADED",
    ("\"%s.%s\" is not loaded: call :load(\"%s\") on the record first, or %s of its own"):format(relation.state.name,
      name, name, relation.is_one and (":related(\"%s\"):exec() for a record"):format(name) or ":exec() for a list"),
    { model = relation.state.name, attribute = name })
end

--- The relation's property of a record. Raises E_NOT_LOADED of a relation to one that is not loaded.
function handle.property(parent, relation)
  local side = core.record_side(parent)
  local loaded = side and side.preloaded and side.preloaded[relation.relation_name]
  if loaded ~= nil or not relation.is_one then return loaded or handle.new(parent, relation) end
  return not handle.is_loaded(parent, relation.relation_name) and not_loaded(relation) or nil
end

local function refuse(self)
  return not_loaded(core.handle_state(self).relation)
end

core.handle_metatable {
  __index = function(self, key)
    if type(key) == "string" then return methods_of(core.handle_state(self).relation)[key] end
    return refuse(self)
  end,
  __newindex = refuse,
  __len = refuse,
  __pairs = refuse,
  __ipairs = refuse,
  __call = refuse,
  __tostring = function(self)
    local state = core.handle_state(self)
    return ("%s.%s of %s"):format(state.relation.state.name, state.relation.relation_name, tostring(state.parent))
  end,
  __name = "lumo.handle",
  __metatable = false,
}

return handle
