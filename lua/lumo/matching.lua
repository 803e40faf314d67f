--- Rows that are looked for by key columns: what fetch_or_create_many and its kin have in common, of models and of
--- relations.
local accessors = require "lumo.accessors"
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local key_text = require "lumo.key_text"
local queries = require "lumo.query"
local records = require "lumo.record"
local registry = require "lumo.registry"
local raise = require("lumo.errors").raise

local matching = {}

--- The length of a list. Raises E_ARGUMENT for what is none.
---@param list any[]
---@param what string the beginning of the message: "find_many needs a list of primary keys"
---@return integer
function matching.check_list(list, what)
  if type(list) ~= "table" then raise("E_ARGUMENT", "%s, got %s", what, type(list)) end
  return core.list_size(list) or core.raise("E_ARGUMENT", what .. " without holes")
end

--- The values of the key attributes as one text.
local function signature(values, keys)
  local parts = {}
  for i, key in ipairs(keys) do
    local text = key_text(values[key])
    parts[i] = ("%d:%s"):format(#text, text)
  end
  return table.concat(parts)
end

--- The key attributes of a record that is stored, those that a function prepares as it has stored them.
local function stored_keys(record, state, keys)
  local values = {}
  for _, key in ipairs(keys) do
    local column = state.by_attribute[key]
    values[key] = record:get(key, { raw = column ~= nil and column.prepare ~= nil })
  end
  return values
end

--- The names of key columns as a list.
local function check_keys(state, keys, method)
  keys = type(keys) == "table" and keys or { keys }
  if matching.check_list(keys, method .. " needs a list of key columns") == 0 then
    raise("E_ARGUMENT", "%s needs the names of the key columns", method)
  end
  for _, key in ipairs(keys) do
    if type(key) ~= "string" then raise("E_ARGUMENT", "%s needs the names of the key columns", method) end
    if state.strict ~= false and not state.by_attribute[key] then
      raise("E_UNDEFINED_COLUMN", "\"%s\" is not a column of the \"%s\" model%s",
        key, state.name, registry.suggest(key, state.by_attribute))
    end
  end
  return keys
end

--- New records for all rows, and by their place the stored ones that have the same keys. Commands: find.
---@param state lumo.State
---@param keys string|string[]
---@param rows table<string, any>[]
---@param client lumo.Client
---@param method string for error messages
---@return lumo.Record[] made
---@return lumo.Record[] stored those of the rows that are there, by row
function matching.rows(state, keys, rows, client, method)
  keys = check_keys(state, keys, method)
  local made, places = {}, {}
  local q = queries.of_model(state)
  core.query_state(q).client = client
  for i = 1, matching.check_list(rows, method .. " needs a list of rows") do
    made[i] = core.record_new(state.class, rows[i], 0)
    local search = {}
    for _, key in ipairs(keys) do
      search[key] = made[i][key]
      if search[key] == nil then
        raise("E_MISSING_ATTRIBUTE_VALUE", "%s: row %d of \"%s\" has no \"%s\"", method, i, state.name, key)
      end
    end
    search = accessors.prepared(state, search)
    local text = signature(search, keys)
    if places[text] then raise("E_ARGUMENT", "%s: rows %d and %d have the same keys",
      method, places[text], i) end
    places[text] = i
    q:or_where(search)
  end
  local stored = {}
  for _, one in ipairs(#made > 0 and q:exec() or {}) do
    local place = places[signature(stored_keys(one, state, keys), keys)]
    if place and not stored[place] then stored[place] = one end
  end
  return made, stored
end

--- What stores the rows: the missing ones as new records, and with `update` those that are there with the rows' values.
--- Commands: find.
---@param update boolean|nil
---@return lumo.Step[] steps none when nothing is to be stored
---@return lumo.Record[] list a record for each row
function matching.steps(state, keys, rows, client, method, update)
  local made, stored = matching.rows(state, keys, rows, client, method)
  local there, missing, places = {}, {}, {} ---@type lumo.Record[], table[], integer[]
  for i = 1, #made do
    if not stored[i] then
      missing[#missing + 1], places[#missing + 1] = rows[i], i
    elseif update then
      there[#there + 1] = stored[i]:merge(rows[i])
    end
  end
  local new = core.records_new(state.class, missing, ambient.connection(client).number, core.now())
  for n, one in ipairs(new) do stored[places[n]] = one end
  local steps = {}
  if #there > 0 then steps[1] = records.update_step(there, state) end
  if #new > 0 then steps[#steps + 1] = records.insert_step(new, state, #new > 1) end
  return steps, stored
end

return matching
