--- What the clients of all relations have in common: reading, and the tables that their methods are put together from.
local core = require "lumo.core"
local handle = require "lumo.relations.handle"
local names = require "lumo.names"
local raise = require("lumo.errors").raise

local reading = {}
local open = handle.open

--- Raises E_MODEL_DELETED for a parent that is deleted.
function reading.refuse_deleted(parent, relation, method)
  if parent.is_deleted then
    raise("E_MODEL_DELETED", "%s \"%s\" of a deleted \"%s\" record",
      method, relation.relation_name, relation.state.name)
  end
end

-- Of every relation -----------------------------------------------------------------------------------------

--- The client of a relation whose kind an editor cannot know: it may have the methods of each.
---@class lumo.RelatedClient: lumo.PivotClient, lumo.OwnedManyClient, lumo.BelongingClient, lumo.ThroughClient

---@class lumo.AnyClient
local Any = {}

--- A builder over the related records of this parent. Raises E_MISSING_ATTRIBUTE_VALUE for a parent without its key.
---@return lumo.Query
function Any:query()
  local parent, relation, target = open(self, "query")
  return relation:related_query("query", parent, target)
end

--- The related records, or of a relation to one the record or nil. Loads nothing into the parent. In a many-to-many
--- relation they have pivot data in `extras.pivot_*` and `record.pivot`. Commands: 1; of many to many and of a relation
--- through another model 2 (1 when there are none).
---@return lumo.Record[]|lumo.Record|nil
function Any:exec()
  local parent, relation, target = open(self, "exec")
  if relation.is_optional then
    relation:check_parents({ parent }, "exec")
    if core.record_get(parent, relation.parent_key) == nil then return nil end
  end
  local q = relation:related_query("exec", parent, target)
  if relation.is_one then return q:first() end
  return q:exec()
end

-- Of relations to many --------------------------------------------------------------------------------------

---@class lumo.ThroughClient: lumo.ManyClient of a relation through other models
---@class lumo.ManyClient: lumo.AnyClient
local Many = {}

--- The related record of that primary key, or nil. Commands: as exec.
---@param id any
---@return lumo.Record|nil
function Many:find(id)
  local parent, relation, target = open(self, "find")
  if id == nil or id == core.null then
    raise("E_ARGUMENT", "find needs the value of the primary key, got %s", id == nil and "nil" or "null")
  end
  return relation:related_query("find", parent, target):where(relation.related_state.primary, id):first()
end

--- A page of the related records.
---@param page integer|nil 1 when nil
---@param per_page integer|nil 20 when nil
---@return lumo.Page
function Many:paginate(page, per_page)
  return Any.query(self):paginate(page, per_page)
end

--- A page by key of the related records.
---@param options { per_page: integer?, cursor: string? }|nil
---@return lumo.CursorPage
function Many:cursor_paginate(options)
  return Any.query(self):cursor_paginate(options)
end

--- A builder over the related records that preloads a relation of theirs.
---@param path string
---@param callback fun(query: lumo.Query)|nil
---@return lumo.Query
function Many:preload(path, callback)
  return Any.query(self):preload(path, callback)
end

-- ---------------------------------------------------------------------------------------------------------

reading.Any, reading.Many = Any, Many

--- The methods of a kind of client: what any has, and these tables, in both spellings.
---@param ... table<string, function>
---@return table<string, function>
function reading.class(...)
  local methods = {}
  for _, part in ipairs { Any, ... } do
    for name, method in pairs(part) do methods[name] = method end
  end
  return names.alias(methods)
end

return reading
