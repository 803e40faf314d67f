--- `lumo shell`: a prompt whose globals are the models.
local core = require "lumo.core"
local registry = require "lumo.registry"

local shell = {}

local MOST = 20 -- entries of a table that are shown

local show

local function show_table(value, depth)
  if depth > 2 then return "{ … }" end
  local parts, count = {}, 0
  for i, one in ipairs(value) do
    count = i
    if i <= MOST then parts[i] = show(one, depth + 1) end
  end
  if count > MOST then parts[#parts + 1] = ("… %d more"):format(count - MOST) end
  local keys = {}
  for key in pairs(value) do
    local is_listed = type(key) == "number" and key >= 1 and key <= count and key % 1 == 0
    if not is_listed then keys[#keys + 1] = key end
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    parts[#parts + 1] = ("%s = %s"):format(tostring(key), show(value[key], depth + 1))
  end
  local separator = depth == 0 and count > 1 and ",\n  " or ", "
  return #parts == 0 and "{}" or ("{ %s }"):format(table.concat(parts, separator))
end

--- A value as text: records with their attributes, tables with a part of their entries.
function show(value, depth)
  if registry.of(value) then return tostring(value) end
  if core.record_is(value) then return ("%s %s"):format(tostring(value), value:to_json()) end
  if type(value) == "string" then return depth > 0 and ("%q"):format(value) or value end
  local metatable = type(value) == "table" and getmetatable(value)
  if type(value) ~= "table" or type(metatable) == "table" and metatable.__tostring then return tostring(value) end
  return show_table(value, depth)
end

--- What a line sees: the models, lumo, and whatever earlier lines have set.
local function environment(lumo)
  local env = { lumo = lumo }
  for _, state in ipairs(registry.all()) do env[state.name] = state.model end
  return setmetatable(env, { __index = _G })
end

--- A line (or several) as a function: an expression, whose value is shown, or a statement. Nil while it goes on.
local function compile(text, env)
  local chunk = load("return " .. text, "=shell", "t", env)
  if chunk then return chunk end
  local statement, err = load(text, "=shell", "t", env)
  if not statement and err:find("<eof>", 1, true) then return nil end
  return statement, err
end

local function read_chunk(env, prompt)
  local text
  while true do
    if prompt then io.stdout:write(text and ">> " or "> ") io.stdout:flush() end
    local line = io.read("*l")
    if not line then return nil, text and "the last statement is not finished" end
    text = text and text .. "\n" .. line or line
    if text:find("%S") then
      local chunk, err = compile(text, env)
      if chunk or err then return chunk or function() error(err, 0) end end
    else
      text = nil
    end
  end
end

local function print_results(ok, ...)
  if not ok then
    io.stderr:write(tostring((...)), "\n")
    return
  end
  for i = 1, select("#", ...) do
    print(show((select(i, ...)), 0))
  end
end

--- Reads and runs lines until there are no more. A prompt is shown to people only.
---@param lumo table
function shell.run(lumo)
  local env = environment(lumo)
  local status = os.execute("test -t 0")
  local interactive = status == true or status == 0
  while true do
    local chunk, err = read_chunk(env, interactive)
    if not chunk then
      if err then error(err, 0) end
      return
    end
    print_results(pcall(chunk))
  end
end

return shell
