-- The annotations of the public functions, as editors read them (LuaCATS): each function that a script can call and
-- that is written in Lua has a comment, a @param for every parameter and a @return for what it gives, and the types
-- are known.

local helper = dofile("spec/helper.lua")

--- Tables whose functions are public, by the name that the sources give them.
local PUBLIC = {
  Model = true, Query = true, Record = true, Client = true, Connection = true, Transaction = true, Page = true,
  Stream = true, lumo = true,
}
local TYPES = {}
for name in ("any nil boolean true false number integer string table function userdata thread fun"):gmatch("%S+") do
  TYPES[name] = true
end

local function files()
  local list = {}
  for path in helper.shell("find lua -name '*.lua' | sort"):gmatch("[^\n]+") do list[#list + 1] = path end
  return list
end

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

--- The comment that ends above a line.
local function comment_above(lines, at)
  local comment = {}
  while at > 1 and lines[at - 1]:find("^%s*%-%-%-") do
    at = at - 1
    table.insert(comment, 1, lines[at])
  end
  return comment
end

--- Whether the function that begins at a line gives anything.
local function gives(lines, at)
  local indent = lines[at]:match("^%s*")
  if lines[at]:find("[%s;]end%)?$") then return lines[at]:find("%sreturn%s") ~= nil end
  for i = at + 1, #lines do
    if lines[i]:find("^" .. indent .. "end") then return false end
    if lines[i]:find("^%s*return%s+[^%s]") or lines[i]:find("%sreturn%s+[^%s]+.*%send") then
      if not lines[i]:find("return%s*end") then return true end
    end
  end
end

--- { table, name, parameters, comment, line } of every public function in a file.
local function functions_of(path)
  local lines, found = lines_of(path), {}
  for at, line in ipairs(lines) do
    local owner, name, parameters = line:match("^function ([%w_]+)[:.]([%w_]+)%(([^)]*)%)")
    if owner and PUBLIC[owner] and not name:find("^_") then
      found[#found + 1] = {
        full = owner .. "." .. name, parameters = parameters, comment = comment_above(lines, at),
        gives = gives(lines, at), place = ("%s:%d"):format(path, at),
      }
    end
  end
  return found
end

local function declared()
  local known = {}
  for name in pairs(TYPES) do known[name] = true end
  for _, path in ipairs(files()) do
    for _, line in ipairs(lines_of(path)) do
      line = line:gsub("@class %(partial%)", "@class")
      local name = line:match("^%s*%-%-%-@class%s+([%w_.]+)") or line:match("^%s*%-%-%-@alias%s+([%w_.]+)")
      if name then known[name] = true end
    end
  end
  return known
end

--- The type at the beginning of a text: up to a blank outside of brackets.
local function type_at(text)
  local depth = 0
  for i = 1, #text do
    local char = text:sub(i, i)
    if char:find("[%(%[{<]") then depth = depth + 1 end
    if char:find("[%)%]}>]") then depth = depth - 1 end
    local before = text:sub(i - 1, i - 1)
    if char:find("%s") and depth == 0 and not before:find("[:,|]") then return text:sub(1, i - 1) end
  end
  return text
end

--- Names in a type that nothing declares.
local function unknown_types(text, known)
  local unknown = {}
  local bare = text:gsub('"[^"]*"', "")
    :gsub("fun%b()", function(inner) return "fun " .. inner:sub(5, -2):gsub("%.%.%.", "") .. " ," end)
    :gsub("[%w_]+%??%s*:", "") -- names of fields in { a: string }
  for name in bare:gmatch("[%a_][%w_.]*") do
    if not known[name] then unknown[#unknown + 1] = name end
  end
  return unknown
end

local function check(one, known, failures)
  local function fail(text) failures[#failures + 1] = ("%s: %s %s"):format(one.place, one.full, text) end
  if #one.comment == 0 then return fail("has no comment") end
  local described, returns = {}, false
  for _, line in ipairs(one.comment) do
    local name, rest = line:match("^%s*%-%-%-@param%s+([%w_.]+%??)%s+(.*)$")
    local given = line:match("^%s*%-%-%-@return%s+(.*)$")
    if name then described[name:gsub("%?$", "")] = true end
    if given then returns = true end
    for _, unknown in ipairs(unknown_types(type_at(rest or given or ""), known)) do
      fail("names the unknown type " .. unknown)
    end
  end
  for parameter in one.parameters:gmatch("[%w_.]+") do
    if parameter ~= "self" and not described[parameter] then fail("says nothing of its parameter " .. parameter) end
  end
  if one.gives and not returns then fail("does not say what it returns") end
end

describe("the annotations", function()
  it("of every public function are complete, and name types that there are, those of fields too", function()
    local known, failures, count = declared(), {}, 0
    for _, path in ipairs(files()) do
      for _, one in ipairs(functions_of(path)) do
        count = count + 1
        check(one, known, failures)
      end
    end
    assert.is_true(count > 150, ("only %d functions were found"):format(count))
    for _, path in ipairs(files()) do
      for at, line in ipairs(lines_of(path)) do
        local name, rest = line:match("^%s*%-%-%-@field%s+([%w_]+)%s+(.*)$")
        for _, unknown in ipairs(name and unknown_types(type_at(rest), known) or {}) do
          failures[#failures + 1] = ("%s:%d: the field %s names the unknown type %s"):format(path, at, name, unknown)
        end
      end
    end
    assert(#failures == 0, "\n" .. table.concat(failures, "\n"))
  end)
end)
