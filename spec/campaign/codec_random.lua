-- The Lua side of codec_random.py: batches of requests on standard input, each a document as Lua source and as BSON;
-- answers three documents per request, see there. All is preceded by its length in 4 bytes.
local lumo = require "lumo"

local function length(n)
  return string.char(n % 256, math.floor(n / 256) % 256, math.floor(n / 65536) % 256, math.floor(n / 16777216))
end

local function read_length()
  local head = io.read(4)
  if not head then return nil end
  local a, b, c, d = head:byte(1, 4)
  return a + b * 256 + c * 65536 + d * 16777216
end

local function read()
  local n = read_length()
  if not n then return nil end
  return n == 0 and "" or io.read(n)
end

local function write(bytes)
  io.write(length(#bytes), bytes)
end

--- The double of these 8 bytes.
local function double(bytes)
  return lumo.bson.decode("\16\0\0\0\1v\0" .. bytes .. "\0").v
end

local environment = { lumo = lumo, lumo_double = double, lumo_nan = double("\0\0\0\0\0\0\248\127") }

local function from_source(source)
  local chunk
  if rawget(_G, "jit") then
    chunk = assert(loadstring(source)) -- luacheck: globals loadstring
    setfenv(chunk, environment) -- luacheck: globals setfenv
  else
    chunk = assert(load(source, "=document", "t", environment)) -- luacheck: no_unused_args
  end
  return lumo.bson.encode(chunk())
end

local function answer(fn, ...)
  local ok, result = pcall(fn, ...)
  write(ok and result or tostring(result))
end

write(rawget(_G, "jit") and "jit" or "lua")
io.flush()
while true do
  local head = read()
  if not head then break end
  local a, b = head:byte(1, 2)
  local requests = {}
  for i = 1, a + b * 256 do
    requests[i] = { read(), read() }
  end
  for _, request in ipairs(requests) do
    local bytes = request[2]
    answer(from_source, request[1])
    answer(function() return lumo.bson.encode(lumo.bson.decode(bytes)) end)
    answer(function() return lumo.bson.from_json(lumo.bson.to_json(bytes, "canonical")) end)
  end
  io.flush()
end
