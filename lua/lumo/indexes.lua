--- The indexes that models declare and that relations need on their pivots. What of them a server has, and making
--- them, is index_plan.lua.
local core = require "lumo.core"
local names = require "lumo.names"
local values = require "lumo.values"
local raise = require("lumo.errors").raise

local indexes = {}

---@class lumo.Index
---@field name string as on the server: "slug_1"
---@field key { [1]: string, [2]: integer|string }[] stored fields and their kinds, in order
---@field unique boolean|nil
---@field sparse boolean|nil
---@field hidden boolean|nil
---@field partial table|nil the filter of a partial index
---@field expire_after_seconds integer|nil
---@field collation table|nil
---@field weights table<string, integer>|nil of a text index, by stored field
---@field default_language string|nil of a text index
---@field owner string|nil what wants it: "Post", "Post.tags"; nil of one that a server has

local KINDS = { asc = 1, desc = -1, [1] = 1, [-1] = -1, text = "text", ["2dsphere"] = "2dsphere", ["2d"] = "2d",
  hashed = "hashed" }

local OPTIONS = {
  name = "string", unique = "boolean", sparse = "boolean", hidden = "boolean", expire_after_seconds = "number",
  collation = "table", weights = "table", default_language = "string", partial = "any",
}

-- Declarations ----------------------------------------------------------------------------------------------

local function check_options(context, given)
  local written = {}
  for key, value in pairs(given) do
    if type(key) ~= "number" then written[key] = value end
  end
  local options = names.options(context, written, OPTIONS)
  for name, value in pairs(options) do
    if OPTIONS[name] ~= "any" and type(value) ~= OPTIONS[name] then
      raise("E_ARGUMENT", "%s: option \"%s\" is a %s", context, name, OPTIONS[name])
    end
  end
  local seconds = options.expire_after_seconds
  if seconds and not (seconds >= 0 and seconds <= 2147483647 and seconds % 1 == 0) then
    raise("E_ARGUMENT", "%s: expire_after_seconds is a whole number from 0", context)
  end
  return options
end

--- The filter of a partial index: MongoDB's own, or what a function adds to a builder.
local function partial_filter(schema, context, given)
  if type(given) == "function" then
    local q = core.query_new(schema)
    given(q)
    given = core.query_filter(q)
  end
  if type(given) ~= "table" or next(given) == nil then
    raise("E_ARGUMENT", "%s: partial is a filter, or a function that adds conditions to a query", context)
  end
  return given
end

--- "slug" or { "slug", "desc" } as { stored field, kind }.
local function field_of(q, context, given)
  local name, kind = given, 1 ---@type any, integer|string
  if type(given) == "table" then name, kind = given[1], given[2] == nil and 1 or KINDS[given[2]] end
  if type(name) ~= "string" then raise("E_ARGUMENT", "%s needs the names of columns", context) end
  if not kind then
    raise("E_ARGUMENT", "%s: \"%s\" is no kind of index; they are asc desc text 2dsphere 2d hashed",
      context, tostring(given[2]))
  end
  return { core.query_resolve(q, "indexes", name), kind }
end

local function default_name(key)
  local parts = {}
  for i, field in ipairs(key) do parts[i] = ("%s_%s"):format(field[1], field[2]) end
  return table.concat(parts, "_")
end

local function stored_weights(q, weights)
  local stored = {}
  for name, weight in pairs(weights) do stored[core.query_resolve(q, "indexes", name)] = weight end
  return stored
end

--- The number of columns of an entry, nil if there are holes among them.
local function column_count(given)
  local count = 0
  for key in pairs(given) do
    if type(key) == "number" then count = count + 1 end
  end
  for i = 1, count do
    if given[i] == nil then return nil end
  end
  return count
end

--- What no server takes.
local function check_combination(context, index)
  local kinds = {}
  for _, field in ipairs(index.key) do kinds[field[2]] = true end
  if index.name == "" or index.name == "*" or index.name == "_id_" or index.name:find("%z") then
    raise("E_ARGUMENT", "%s: \"%s\" is no name for it", context, index.name)
  elseif index.expire_after_seconds and #index.key > 1 then
    raise("E_ARGUMENT", "%s: expire_after_seconds is for an index of one column", context)
  elseif index.sparse and index.partial ~= nil then
    raise("E_ARGUMENT", "%s is sparse or partial, not both", context)
  elseif index.unique and kinds.hashed then
    raise("E_ARGUMENT", "%s: a hashed index is not unique", context)
  elseif (index.weights or index.default_language) and not kinds.text then
    raise("E_ARGUMENT", "%s: weights and default_language are for a text index", context)
  end
end

--- One entry of a model's `indexes`: { "slug", unique = true }, { { "a", "desc" }, "b" } or just "slug".
local function compile(state, q, number, given)
  local context = ("index %d of \"%s\""):format(number, state.name)
  if type(given) == "string" then given = { given } end
  local count = type(given) == "table" and column_count(given)
  if not count or count == 0 then
    raise("E_ARGUMENT", "%s needs columns, without holes: \"slug\", { \"slug\", unique = true } or "
      .. "{ { \"a\", \"desc\" }, \"b\" }", context)
  end
  local index, seen = check_options(context, given), {}
  index.key = {}
  for i = 1, count do
    local field = field_of(q, context, given[i])
    if seen[field[1]] then raise("E_ARGUMENT", "%s has \"%s\" twice", context, field[1]) end
    index.key[i], seen[field[1]] = field, true
  end
  index.name = index.name or default_name(index.key)
  index.owner = state.name
  check_combination(context, index)
  if index.partial ~= nil then index.partial = partial_filter(state.schema, context, index.partial) end
  if index.weights then index.weights = stored_weights(q, index.weights) end
  return index
end

--- The model's own indexes of a definition, after those of its base. Raises E_ARGUMENT, E_UNDEFINED_COLUMN.
---@param state lumo.State
---@param given table|nil
---@param base lumo.State|nil
---@return lumo.Index[]
function indexes.compile(state, given, base)
  local list = {}
  for i, index in ipairs(base and base.indexes or {}) do list[i] = index end
  if given == nil then return list end
  if type(given) ~= "table" then
    raise("E_ARGUMENT", "option \"indexes\" of model \"%s\" is a list, got %s", state.name, type(given))
  end
  local q = core.query_new(state.schema)
  for number, entry in ipairs(given) do list[#list + 1] = compile(state, q, number, entry) end
  local wanted = {}
  for _, index in ipairs(list) do indexes.add(wanted, index, state.collection) end
  return list
end

-- Comparing -------------------------------------------------------------------------------------------------

--- The key as the server keeps it: the fields of a text index become two of its own, and have weights.
local function as_stored(index)
  local key, weights, placed = {}, nil, false
  for _, field in ipairs(index.key) do
    if field[2] ~= "text" or field[1] == "_fts" then
      key[#key + 1] = ("%s=%s"):format(field[1], type(field[2]) == "number" and ("%d"):format(field[2]) or field[2])
    else
      weights = weights or {}
      weights[field[1]] = index.weights and index.weights[field[1]] or 1
      if not placed then key[#key + 1], key[#key + 2], placed = "_fts=text", "_ftsx=1", true end
    end
  end
  return table.concat(key, " "), weights or index.weights
end

local function is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not is_same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

--- Of a collation the server keeps every setting, a declaration only those that it means.
local function is_part(part, whole)
  if part == nil or whole == nil then return part == whole end
  for key, value in pairs(part) do
    if whole[key] ~= value then return false end
  end
  return true
end

---@return boolean whether two indexes are on the same fields, in the same order and kinds
function indexes.same_key(a, b)
  return (as_stored(a)) == (as_stored(b))
end

--- How an index of the server differs from the one wanted, in words by option; an empty table: it does not.
---@param there lumo.Index
---@param wanted lumo.Index
---@return table<string, string>
function indexes.differences(there, wanted)
  local found = {}
  local there_key, there_weights = as_stored(there)
  local wanted_key, wanted_weights = as_stored(wanted)
  if there_key ~= wanted_key then found.key = ("%s, wanted %s"):format(there_key, wanted_key) end
  for _, option in ipairs { "unique", "sparse", "hidden" } do
    if (there[option] or false) ~= (wanted[option] or false) then
      found[option] = ("%s, wanted %s"):format(tostring(there[option] or false), tostring(wanted[option] or false))
    end
  end
  if there.expire_after_seconds ~= wanted.expire_after_seconds then
    found.expire_after_seconds = ("%s, wanted %s"):format(tostring(there.expire_after_seconds),
      tostring(wanted.expire_after_seconds))
  end
  if not is_same(there.partial, wanted.partial) then found.partial = "another filter" end
  if not is_part(wanted.collation, there.collation) then found.collation = "another one" end
  if not is_same(there_weights, wanted_weights) then found.weights = "others" end
  if wanted.default_language and wanted.default_language ~= there.default_language then
    found.default_language = "another one"
  end
  return found
end

-- What is wanted --------------------------------------------------------------------------------------------

local function pair_index(relation, first, second, unique)
  local index = { key = { { first, 1 }, { second, 1 } }, unique = unique or nil }
  index.name = default_name(index.key)
  index.owner = ("%s.%s"):format(relation.state.name, relation.relation_name)
  return index
end

--- A pivot is read from both sides, and one of its two indexes is unique unless the relation is a bag: the one
--- that is already, else the one that begins with the owner.
local function pivot_indexes(relation, there)
  local owner, related = relation.pivot_foreign_key, relation.pivot_related_foreign_key
  local forward, backward = pair_index(relation, owner, related), pair_index(relation, related, owner)
  for _, wanted in ipairs { forward, backward } do
    for _, index in ipairs(there) do
      if index.unique and not index.partial and indexes.same_key(index, wanted) then wanted.unique = true end
    end
  end
  if not forward.unique and not backward.unique and not relation.duplicates then forward.unique = true end
  return { forward, backward }
end

--- Whether a server keeps the two apart where they have different names. Of text indexes it has one at most.
local function is_apart(a, b)
  if not indexes.same_key(a, b) then return true end
  local _, weights = as_stored(a)
  return not weights and not (is_same(a.partial, b.partial) and is_same(a.collation, b.collation)
    and (a.sparse or false) == (b.sparse or false))
end

--- What is wanted twice is made once, unique if one of them is. Raises E_ARGUMENT where both cannot be had.
---@param list lumo.Index[]
---@param index lumo.Index
---@param collection string for the message
function indexes.add(list, index, collection)
  for i, known in ipairs(list) do
    local apart = is_apart(known, index)
    local differs = not apart and indexes.differences(known, index) or {}
    differs.unique = nil
    if apart and known.name == index.name or next(differs) ~= nil then
      raise("E_ARGUMENT", "the indexes \"%s\" of %s and \"%s\" of %s on \"%s\" cannot both be there: %s",
        known.name, known.owner, index.name, index.owner, collection,
        apart and "give one of them another name" or ("they differ in " .. next(differs)))
    end
    if not apart then
      if index.unique and not known.unique then list[i] = index end
      return
    end
  end
  list[#list + 1] = index
end

--- The relations of a model, by name.
local function relations_of(state)
  local list = {}
  for _, relation in pairs(state.relations) do list[#list + 1] = relation end
  table.sort(list, function(a, b) return a.relation_name < b.relation_name end)
  return list
end

--- The collections in which models want indexes, by name; `wants(there)` gives the indexes, when it is known
--- which ones are there.
---@param states lumo.State[]
---@return { name: string, wants: fun(there: lumo.Index[]): lumo.Index[] }[]
function indexes.collections(states)
  local by_name, list = {}, {}
  local function collection(name)
    if not by_name[name] then
      local own, pivots = {}, {}
      by_name[name] = { name = name, own = own, pivots = pivots, wants = function(there)
        local wanted = {}
        for _, index in ipairs(own) do indexes.add(wanted, index, name) end
        for _, relation in ipairs(pivots) do
          for _, index in ipairs(pivot_indexes(relation, there)) do indexes.add(wanted, index, name) end
        end
        return wanted
      end }
      list[#list + 1] = by_name[name]
    end
    return by_name[name]
  end
  for _, state in ipairs(states) do
    local home = collection(state.collection)
    for _, index in ipairs(state.indexes) do table.insert(home.own, index) end
    for _, relation in ipairs(relations_of(state)) do
      if relation.type == "manyToMany" then
        table.insert(collection(relation:boot().pivot_table).pivots, relation)
      end
    end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- The document that createIndexes takes.
---@param index lumo.Index
---@return table
function indexes.document(index)
  local key = {}
  for i, field in ipairs(index.key) do key[i] = { field[1], field[2] } end
  ---@type { [1]: string, [2]: any }[]
  local document = { { "key", values.ordered(key) }, { "name", index.name } }
  for _, option in ipairs {
    { "unique", index.unique }, { "sparse", index.sparse }, { "hidden", index.hidden },
    { "partialFilterExpression", index.partial }, { "expireAfterSeconds", index.expire_after_seconds },
    { "collation", index.collation }, { "weights", index.weights }, { "default_language", index.default_language },
  } do
    if option[2] ~= nil then document[#document + 1] = option end
  end
  return values.ordered(document)
end

--- The index that a listIndexes describes.
---@param document table
---@param key { [1]: string, [2]: any }[] the fields in the order, which a table does not keep
---@return lumo.Index
function indexes.of_server(document, key)
  return {
    name = document.name, key = key, unique = document.unique, sparse = document.sparse, hidden = document.hidden,
    partial = document.partialFilterExpression, expire_after_seconds = document.expireAfterSeconds,
    collation = document.collation, weights = document.weights, default_language = document.default_language,
  }
end

return indexes
