-- The BSON corpus of the MongoDB specifications, byte for byte: Extended JSON both ways, what must be refused, and
-- the way through Lua values and back. LUMO_VECTORS names the folder that holds bson-corpus.

local lumo = dofile("spec/helper.lua").lumo

local is_jit = rawget(_G, "jit") ~= nil
local folder = (os.getenv("LUMO_VECTORS") or "../shared/vectors") .. "/bson-corpus/"

local names = {
  "array", "binary", "boolean", "code", "code_w_scope", "datetime", "dbpointer", "dbref", "decimal128-1",
  "decimal128-2", "decimal128-3", "decimal128-4", "decimal128-5", "decimal128-6", "decimal128-7",
  "document", "double", "int32", "int64", "maxkey", "minkey", "multi-type-deprecated", "multi-type",
  "null", "oid", "regex", "string", "symbol", "timestamp", "top", "undefined",
}

local function read(name)
  local file = io.open(folder .. name .. ".json", "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return lumo.bson.decode(lumo.bson.from_json(text))
end

local function bytes_of(hex)
  return (hex:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function hex_of(bytes)
  return (bytes:gsub(".", function(char) return ("%02X"):format(char:byte()) end))
end

local function utf8_char(digits)
  local code = tonumber(digits, 16)
  if code < 0x80 then
    return nil -- lumo escapes these as well
  elseif code < 0x800 then
    return string.char(0xC0 + math.floor(code / 64), 0x80 + code % 64)
  end
  return string.char(0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

-- JSON without the blanks between its parts, a double's exponent and the letters beyond ASCII in lumo's spelling.
local function squeeze(json)
  json = json:gsub("\\u(%x%x%x%x)", utf8_char):gsub('("%$numberDouble"%s*:%s*"[^"]*)E', "%1e")
  local strings = {}
  json = json:gsub('\\"', "\1"):gsub('"[^"]*"', function(text)
    strings[#strings + 1] = text
    return "\2"
  end)
  local at = 0
  return (json:gsub("%s", ""):gsub("\2", function()
    at = at + 1
    return (strings[at]:gsub("\1", '\\"'))
  end))
end

local function through_lua(bytes)
  return lumo.bson.encode(lumo.bson.decode(bytes))
end

local function code_of(fn, ...)
  local ok, err = pcall(fn, ...)
  return ok and "accepted" or err.code or err
end

-- What decoding cannot keep without the stored document beside it: the width of an integer, on LuaJIT also the
-- difference between integers and doubles; and an order of keys that is not bytewise.
local function keeps_bytes(case)
  local json, narrow = case.canonical_extjson, 2 ^ (is_jit and 53 or 31)
  for digits in json:gsub('"$date".-}', ""):gmatch('"$numberLong"%s*:%s*"(%-?%d+)"') do
    local number = tonumber(digits)
    if number >= -narrow and number < narrow then
      return false
    end
  end
  for text in json:gmatch('"$numberDouble"%s*:%s*"([^"]+)"') do
    local number = tonumber(text)
    if is_jit and number and number % 1 == 0 and not text:find("^%-0") then
      return false
    end
  end
  for _, text in ipairs { "$ref", "$options" } do
    if json:find(text, 1, true) then
      return false
    end
  end
  return not case.lossy and not case.description:find("All BSON types", 1, true)
end

local counts = { valid = 0, exact = 0, decode_errors = 0, parse_errors = 0 }

if not read("top") then
  describe("the BSON corpus", function()
    pending("is not in " .. folder .. " (LUMO_VECTORS names another place)")
  end)
  return
end

describe("the BSON corpus:", function()
  for _, name in ipairs(names) do
    local corpus = read(name)

    for _, case in ipairs(corpus.valid or {}) do
      it(("%s: %s"):format(name, case.description), function()
        local bytes = bytes_of(case.canonical_bson)
        counts.valid = counts.valid + 1

        if not case.lossy then
          assert.equal(hex_of(bytes), hex_of(lumo.bson.from_json(lumo.bson.to_json(bytes, "canonical"))))
          assert.equal(hex_of(bytes), hex_of(lumo.bson.from_json(case.canonical_extjson)))
          if case.degenerate_extjson then
            assert.equal(hex_of(bytes), hex_of(lumo.bson.from_json(case.degenerate_extjson)))
          end
        end
        if case.relaxed_extjson then
          local relaxed = lumo.bson.to_json(bytes, "relaxed")
          assert.equal(relaxed, lumo.bson.to_json(lumo.bson.from_json(case.relaxed_extjson), "relaxed"))
          assert.equal(lumo.bson.to_json(bytes), relaxed)
        end

        local encoded = through_lua(bytes)
        assert.equal(hex_of(encoded), hex_of(through_lua(encoded)))
        if keeps_bytes(case) then
          counts.exact = counts.exact + 1
          assert.equal(hex_of(bytes), hex_of(encoded))
          if case.degenerate_bson and name == "array" then -- a regex goes back as it came
            assert.equal(hex_of(bytes), hex_of(through_lua(bytes_of(case.degenerate_bson))))
          end
        end
      end)

      it(("%s: %s, to the letter"):format(name, case.description), function()
        local json = lumo.bson.to_json(bytes_of(case.canonical_bson), "canonical")
        assert.equal(squeeze(case.canonical_extjson), json)
      end)
    end

    for _, case in ipairs(corpus.decodeErrors or {}) do
      it(("%s refuses bytes: %s"):format(name, case.description), function()
        counts.decode_errors = counts.decode_errors + 1
        local bytes = bytes_of(case.bson)
        assert.equal("E_ARGUMENT", code_of(lumo.bson.decode, bytes))
        assert.equal("E_ARGUMENT", code_of(lumo.bson.to_json, bytes))
      end)
    end

    for _, case in ipairs(corpus.parseErrors or {}) do
      it(("%s refuses text: %s"):format(name, case.description), function()
        counts.parse_errors = counts.parse_errors + 1
        local parse = corpus.bson_type == "0x13" and lumo.decimal or lumo.bson.from_json
        assert.equal("E_ARGUMENT", code_of(parse, case.string))
      end)
    end
  end

  it("has been read whole", function()
    local text = "\nBSON corpus: %d valid (%d byte for byte through Lua), %d decode errors, %d parse errors"
    print(text:format(counts.valid, counts.exact, counts.decode_errors, counts.parse_errors))
    assert.equal(728, counts.valid)
    assert.equal(75, counts.decode_errors)
    assert.equal(180, counts.parse_errors)
    assert.is_true(counts.exact >= (is_jit and 680 or 700))
  end)
end)
