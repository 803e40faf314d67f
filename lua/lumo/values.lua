--- BSON values that Lua has no type for, and the codec: what `require "lumo"` shows of them.
local core = require "lumo.core"

---@class lumo.objectid: userdata  Equal ids are one value: `==` and table keys work. `tostring` gives 24 hex digits.
---@class lumo.datetime: userdata  A moment; `tostring` gives ISO 8601 in UTC; has `==`, `<`, `<=` and `-`.
---@field ms integer milliseconds since the epoch
---@field seconds fun(self: lumo.datetime): number  seconds since the epoch, with a fraction
---@operator sub(lumo.datetime): number  seconds between two moments
---@operator sub(number): lumo.datetime  the moment so many seconds earlier
---@class lumo.decimal: userdata  A decimal128; `tostring` gives its digits; `==` compares its bytes (1.0 is not 1.00).
---@class lumo.binary: userdata  Bytes; `tostring` gives them, `#` counts them.
---@field bytes string
---@field subtype integer
---@class lumo.uuid: lumo.binary  A binary of subtype 4 and 16 bytes; `tostring` gives 36 characters.
---@class lumo.int64: userdata  LuaJIT's integer beyond 2^53; `tostring` gives its digits; has `==`, `<` and `<=`.
---@field tonumber fun(self: lumo.int64): number  the nearest number
---@class lumo.value: userdata  A rare kind, which goes back byte for byte; `tostring` gives Extended JSON; has `==`.
---@field kind fun(self: lumo.value): string  "regex", "timestamp", "min_key", "max_key", "code", "code_with_scope", …
---@field pattern string|nil of a regex
---@field flags string|nil of a regex
---@field t integer|nil of a timestamp: seconds
---@field i integer|nil of a timestamp: its number within the second

---@class lumo.Values
local values = {}

--- A new ObjectId, or the one of these 24 hex digits. E_ARGUMENT for other text, and for nil.
---@type fun(hex?: string|lumo.objectid): lumo.objectid
values.objectid = core.objectid

--- `lumo.datetime(seconds | iso | table)`: seconds since the epoch (a fraction is rounded to ms), ISO 8601
--- text (UTC
--- where it names no offset) or a table of `os.date"*t"` (local time, as `os.time` reads it).
--- `lumo.datetime.now()` is this moment; `lumo.datetime.from_ms(ms)` takes milliseconds.
---@class lumo.datetime_maker
---@field now fun(): lumo.datetime
---@field from_ms fun(ms: integer): lumo.datetime
---@overload fun(value: number|string|table|lumo.datetime): lumo.datetime
values.datetime = setmetatable({ now = core.datetime_now, from_ms = core.datetime_from_ms }, {
  __call = function(_, value)
    return core.datetime(value)
  end,
})

--- A decimal128 of its text ("1.50", "NaN") or of an integer.
---@type fun(value: string|integer): lumo.decimal
values.decimal = core.decimal

--- Bytes; the subtype is 0 unless given. Subtype 4 with 16 bytes makes a uuid.
---@type fun(bytes: string, subtype?: integer): lumo.binary
values.binary = core.binary

--- A new random UUID, or that of the text (36 characters, or 32 without dashes).
---@type fun(text?: string): lumo.uuid
values.uuid = core.uuid

--- What reading this integer from a document gives: an integer; on LuaJIT beyond 2^53 a `lumo.int64`.
---@type fun(value: string|number): integer|lumo.int64
values.int64 = core.int64

--- A regular expression as a value; flags are some of i, l, m, s, u, x.
---@type fun(pattern: string, flags?: string): lumo.value
values.regex = core.regex

--- A timestamp of the replication kind: seconds and a number within the second.
---@type fun(t: integer, i: integer): lumo.value
values.timestamp = core.timestamp

--- Marks this table as an array, so that it is one even when empty; returns it.
---@type fun(list: table): table
values.array = core.array

--- Marks this list of pairs { key, value } as a document in this order; returns it.
---@type fun(pairs: table): table
values.ordered = core.ordered

--- null, the same value as `cjson.null` and `ngx.null`.
---@type lightuserdata
values.null = core.null

---@class lumo.bson
values.bson = {
  --- The BSON bytes of a table with string keys (sorted bytewise) or of a `lumo.ordered`. E_CAST, with the
  --- path, for what
  --- BSON cannot hold; any key without NUL is taken.
  ---@type fun(document: table): string
  encode = core.bson_encode,
  --- The table of BSON bytes. E_ARGUMENT for bytes that are no document.
  ---@type fun(bytes: string): table
  decode = core.bson_decode,
  --- Extended JSON of BSON bytes; relaxed unless told.
  ---@type fun(bytes: string, mode?: "canonical"|"relaxed"): string
  to_json = core.bson_to_json,
  --- The BSON bytes of a document in Extended JSON, canonical or relaxed. E_ARGUMENT for other text.
  ---@type fun(text: string): string
  from_json = core.bson_from_json,
}

return values
