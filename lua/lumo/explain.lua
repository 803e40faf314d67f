--- What the server says of how it answers commands, in words.
local names = require "lumo.names"
local registry = require "lumo.registry"
local raise = require("lumo.errors").raise

local explain = {}

---@class lumo.ExplainedCommand
---@field name string the command: "find"
---@field collection string
---@field model string|nil the model of the collection
---@field relation string|nil the relation whose pivot the collection is: "Post.tags"
---@field op string what lumo was doing: "find", "load"
---@field fields string[] what its filter asks for
---@field filtered boolean it has conditions at all
---@field indexes string[] by which it finds documents
---@field scans boolean it reads the whole collection
---@field sorts_in_memory boolean
---@field covered boolean the index has all that is asked for
---@field empty boolean there is nothing to read
--- other collections that it reads; not known: only executionStats tells how
---@field joins { how: "lookup"|"union", from: string, indexes: string[], known: boolean, scans: boolean }[]
---@field keys_examined integer|nil with executionStats, as the next two
---@field documents_examined integer|nil
---@field returned integer|nil
---@field text string all of that in words
---@field reply table the server's

---@class lumo.Explanation: lumo.ExplainedCommand[] the commands in their order, and what the server says of the first
---@field text string the words of each, a line for each
---@field queryPlanner table|nil
---@field executionStats table|nil
local Explanation_mt = { __name = "lumo.explanation" }

function Explanation_mt.__tostring(self)
  return self.text
end

local function count(n, noun)
  return ("%d %s%s"):format(n, noun, n == 1 and "" or "s")
end

local function how_found(command)
  if command.scans then
    local why = "nothing is asked of its own fields"
    if command.fields[1] then
      why = ("no index for {%s}"):format(table.concat(command.fields, ", "))
    elseif command.filtered then
      why = "no index serves its conditions"
    end
    return "reads the whole collection (COLLSCAN): " .. why
  end
  if command.indexes[1] then
    return ("uses index %s%s"):format(table.concat(command.indexes, ", "), command.covered and " alone" or "")
  end
  return command.empty and "has nothing to read" or "uses no index"
end

local VERBS = { lookup = "looks up", union = "adds" }

local function how_joined(join)
  local what = ("%s %s"):format(VERBS[join.how], join.from)
  if join.scans then return what .. " (COLLSCAN): no index serves that" end
  if join.indexes[1] then return ("%s by index %s"):format(what, table.concat(join.indexes, ", ")) end
  return join.known and what or what .. " (executionStats tells how)"
end

--- "find posts: uses index slug_1; 1 key and 1 document examined, 1 returned"
local function text_of(command)
  local parts = { how_found(command) }
  for _, join in ipairs(command.joins) do parts[#parts + 1] = how_joined(join) end
  if command.sorts_in_memory then parts[#parts + 1] = "sorts in memory" end
  if command.returned then
    parts[#parts + 1] = ("%s and %s examined, %d returned"):format(count(command.keys_examined, "key"),
      count(command.documents_examined, "document"), command.returned)
  end
  return ("%s %s: %s"):format(command.name, command.collection, table.concat(parts, "; "))
end

--- Completes commands that a plan has inspected.
---@param commands table[] of core.plan_inspected
---@param op string
---@return lumo.ExplainedCommand[] commands the same list
function explain.commands(commands, op)
  for _, command in ipairs(commands) do
    command.op = op
    command.model, command.relation = registry.owner_of(command.collection)
    command.text = text_of(command)
    names.alias(command)
  end
  return commands
end

--- Makes the explanation of a list of commands.
---@param commands lumo.ExplainedCommand[]
---@return lumo.Explanation
function explain.new(commands)
  local explanation, lines = {}, {}
  for name, value in pairs(commands[1] and commands[1].reply or {}) do explanation[name] = value end
  for i, command in ipairs(commands) do
    explanation[i], lines[i] = command, command.text
  end
  explanation.text = table.concat(lines, "\n")
  return setmetatable(explanation, Explanation_mt)
end

local VERBOSITY = { queryPlanner = true, executionStats = true, allPlansExecution = true }

--- Checks what an explain is asked for.
---@return "queryPlanner"|"executionStats"|"allPlansExecution" verbosity
function explain.verbosity(given)
  if given == nil then return "queryPlanner" end
  if not VERBOSITY[given] then
    raise("E_ARGUMENT", "explain takes queryPlanner, executionStats or allPlansExecution, got %s", tostring(given))
  end
  return given
end

return explain
