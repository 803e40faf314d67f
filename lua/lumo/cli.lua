--- The command line: which command was asked for, and what its end means to the caller. Each command is a file in
--- the folder cli.
local core = require "lumo.core"
local show = require "lumo.cli.show"

local cli = {}

local FINE, FOUND, USAGE, FAILED = 0, 1, 2, 3

local HELP = [[
lumo shell APP                   a prompt with the models of APP at hand
lumo indexes plan APP            what indexes are missing, extra or different
lumo indexes apply APP [--drop]  creates what is missing; --drop hides what is extra, and drops what is hidden
lumo doctor APP [--fix]          looks for orphans, duplicate pairs, keys of another type, missing indexes
lumo server [--path FOLDER]      the embedded server by hand, until it is interrupted

APP is a Lua file that defines the models; unless it connects itself, MONGODB_URI says where to.
Status: 0 all is well, 1 something was found (plan, doctor), 2 the command line is wrong, 3 an error.]]

---@class lumo.CommandLine
---@field words string[] what is no option
---@field options table<string, string|boolean>

--- Raised for a wrong command line.
local Usage = {}

local function usage(message, ...)
  error(setmetatable({ message = message:format(...) }, Usage), 0)
end

--- Words and options apart. `known` says of each option whether it takes a value.
local function parse(arguments, known)
  local line, i = { words = {}, options = {} }, 1
  while i <= #arguments do
    local word = arguments[i]
    local name = word:match("^%-%-(.+)$")
    if not name then
      line.words[#line.words + 1] = word
    elseif known[name] == nil then
      usage("there is no option --%s here", name)
    elseif known[name] then
      i = i + 1
      line.options[name] = arguments[i] or usage("--%s needs a value", name)
    else
      line.options[name] = true
    end
    i = i + 1
  end
  return line
end

--- Runs the file that defines the models, and connects if it has not done so.
local function load_app(path)
  if not path then usage("the file with the models is missing") end
  local chunk, err = loadfile(path)
  if not chunk then error(err, 0) end
  chunk()
  local lumo = require "lumo"
  if not pcall(lumo.connection) then lumo.connect() end
  return lumo
end

local function indexes_command(line)
  local action = line.words[1]
  if action ~= "plan" and action ~= "apply" then usage("indexes takes plan or apply") end
  if action == "plan" and line.options.drop then usage("--drop belongs to apply") end
  local lumo = load_app(line.words[2])
  local plan = lumo.index_plan { apply = action == "apply", drop = line.options.drop }
  print(plan)
  return (action == "apply" or plan.is_empty) and FINE or FOUND
end

--- name = { options, words allowed, what runs it }
local COMMANDS = {
  shell = { {}, 1, function(line)
    require("lumo.cli.shell").run(load_app(line.words[1]))
    return FINE
  end },
  indexes = { { drop = false }, 2, indexes_command },
  doctor = { { fix = false }, 1, function(line)
    load_app(line.words[1])
    return require("lumo.cli.doctor").run(line.options.fix) == 0 and FINE or FOUND
  end },
  server = { { path = true }, 0, function(line)
    require("lumo.cli.server").run(line.options.path)
    return FINE
  end },
}

local function dispatch(arguments)
  local name = table.remove(arguments, 1)
  if name == nil then usage("a command is missing") end
  if name == "help" or name == "--help" or name == "-h" then
    print(HELP)
    return FINE
  end
  local command = COMMANDS[name] or usage("there is no command \"%s\"", name)
  for _, word in ipairs(arguments) do
    if word == "--help" or word == "-h" then
      print(HELP)
      return FINE
    end
  end
  local line = parse(arguments, command[1])
  if #line.words > command[2] then usage("\"%s\" is one word too many", line.words[command[2] + 1]) end
  return command[3](line)
end

--- Runs one command line; gives the status that the process should end with.
---@param arguments string[]
---@return integer
function cli.main(arguments)
  local ok, result = xpcall(function() return dispatch(arguments) end, function(err)
    if getmetatable(err) == Usage then return err end
    -- The line of this command itself is of no use to anybody; one in the application's file is.
    if core.is_error(err) and tostring(err.where):find(arg[0] --[[@as string]], 1, true) then err.where = nil end
    return show.error(err)
  end)
  if ok then return result end
  if getmetatable(result) == Usage then
    io.stderr:write("lumo: ", result.message, "\n\n", HELP, "\n")
    return USAGE
  end
  io.stderr:write("lumo: ", result, "\n")
  return FAILED
end

return cli
