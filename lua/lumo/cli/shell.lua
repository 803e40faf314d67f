--- `lumo shell`: a prompt whose globals are the models.
local registry = require "lumo.registry"
local show = require "lumo.cli.show"

local shell = {}

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
    io.stderr:write(show.error((...)), "\n")
    return
  end
  for i = 1, select("#", ...) do
    print(show.value((select(i, ...))))
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
