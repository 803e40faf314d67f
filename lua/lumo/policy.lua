--- How commands read and write: read preference, read concern, write concern. Connections, transactions, queries and
--- calls take them under the same names, which are MongoDB's.
local core = require "lumo.core"
local names = require "lumo.names"
local raise = require("lumo.errors").raise

local policy = {}

---@alias lumo.ReadMode "primary"|"primaryPreferred"|"secondary"|"secondaryPreferred"|"nearest"
---@alias lumo.ReadPreference lumo.ReadMode|{ mode: lumo.ReadMode, tags: table[]?, max_staleness_seconds: integer? }
---@alias lumo.ReadConcern "local"|"available"|"majority"|"linearizable"|"snapshot"
---@alias lumo.WriteConcern "majority"|string|integer|{ w: string|integer?, j: boolean?, wtimeout: integer? }

---@class lumo.PolicyOptions
---@field read_preference lumo.ReadPreference|nil
---@field read_concern lumo.ReadConcern|nil
---@field write_concern lumo.WriteConcern|nil
---@field max_commit_time_ms integer|nil of a transaction

local function whole(value, what, least)
  if value == nil then return nil end
  if type(value) ~= "number" or value % 1 ~= 0 or value < least or value > 2147483647 then
    raise("E_ARGUMENT", "%s is a whole number from %d", what, least)
  end
  return value
end

local LONGEST_TEXT = 256 -- bytes: names of modes, levels and tags

local function is_name(value)
  return value ~= "" and #value <= LONGEST_TEXT and not value:find("%z") and pcall(core.bson_encode, { v = value })
end

local function text(value, what)
  if value == nil then return nil end
  if type(value) ~= "string" or not is_name(value) then
    raise("E_ARGUMENT", "%s is a text, got %s", what, type(value) == "string" and "an invalid one" or type(value))
  end
  return value
end

local READ_FIELDS = { mode = true, tags = true, max_staleness_seconds = true }

local function read_preference(given, fields)
  if type(given) ~= "table" then given = { mode = given } end
  given = names.options("read_preference", given, READ_FIELDS)
  fields.read_mode = text(given.mode, "the mode of a read preference")
    or raise("E_ARGUMENT", "a read preference needs a mode")
  fields.max_staleness = whole(given.max_staleness_seconds, "max_staleness_seconds", 1)
  local tags = given.tags
  if tags ~= nil then
    if type(tags) ~= "table" or #tags == 0 then
      raise("E_ARGUMENT", "the tags of a read preference are a list of tables, the first that fits is taken")
    end
    for _, set in ipairs(tags) do
      if type(set) ~= "table" then raise("E_ARGUMENT", "the tags of a read preference are tables of texts") end
      for key, value in pairs(set) do
        if type(key) ~= "string" or type(value) ~= "string" then
          raise("E_ARGUMENT", "the tags of a read preference are tables of texts")
        end
      end
    end
    fields.tags = tags
  end
end

local WRITE_FIELDS = { w = true, j = true, wtimeout = true }

local function write_concern(given, fields)
  if type(given) ~= "table" then given = { w = given } end
  given = names.options("write_concern", given, WRITE_FIELDS)
  if next(given) == nil then raise("E_ARGUMENT", "a write concern needs w, j or wtimeout") end
  if type(given.w) == "string" then
    fields.w_tag = text(given.w, "w of a write concern")
  else
    fields.w = whole(given.w, "w of a write concern: a text, or a number that", 1)
  end
  if given.j ~= nil and type(given.j) ~= "boolean" then
    raise("E_ARGUMENT", "j of a write concern is a boolean, got %s", type(given.j))
  end
  fields.journal = given.j
  fields.wtimeout = whole(given.wtimeout, "wtimeout of a write concern, in milliseconds,", 1)
end

--- The policy that options make, or nil where they have none. `base`, another one, holds where they are silent.
---@param options lumo.PolicyOptions
---@param base table|nil
---@return { fields: table, handle: userdata }|nil
function policy.of(options, base)
  if options.read_preference == nil and options.read_concern == nil and options.write_concern == nil
    and options.max_commit_time_ms == nil then
    return base
  end
  local fields = {}
  for name, value in pairs(base and base.fields or {}) do fields[name] = value end
  if options.read_preference ~= nil then
    fields.tags, fields.max_staleness = nil, nil
    read_preference(options.read_preference, fields)
  end
  fields.read_concern = text(options.read_concern, "a read concern") or fields.read_concern
  if options.write_concern ~= nil then
    fields.w, fields.w_tag, fields.journal, fields.wtimeout = nil, nil, nil, nil
    write_concern(options.write_concern, fields)
  end
  fields.max_commit = whole(options.max_commit_time_ms, "max_commit_time_ms", 1)
  return { fields = fields, handle = core.policy_new(fields) }
end

return policy
