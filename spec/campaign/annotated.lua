-- What the annotations (LuaCATS) of lumo's files say that there is, as an editor understands them: the names of each
-- class, those of its bases included.
local annotated = {}

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

--- Reads a file into `classes`: by class { names = { [name] = is_function }, bases }.
local function read(path, classes, aliases)
  local current, bound, open = nil, {}, nil -- the class of the comment; that of each table; that of an open constructor
  local function class_of(name)
    classes[name] = classes[name] or { names = {}, bases = {} }
    return classes[name]
  end
  local has_comment, is_function = false, false
  for _, line in ipairs(lines_of(path)) do
    line = line:gsub("@class %(partial%)", "@class")
    local class, bases = line:match("^%s*%-%-%-@class ([%w_.]+):?%s*([%w_., ]*)")
    local field, what = line:match("^%s*%-%-%-@field ([%w_]+)%s+(.*)$")
    local is_comment = line:find("^%s*%-%-%-") ~= nil
    if class then
      current = class_of(class)
      for base in bases:gmatch("lumo[%w_.]*") do table.insert(current.bases, base) end
    elseif field and current then
      current.names[field] = what:find("^fun%(") ~= nil or aliases[what:match("^[%w_.]+")] == true
    elseif not is_comment then
      local table_name = line:match("^local ([%w_]+) =") or line:match("^([%w_.]+) =")
      if table_name and current then
        bound[table_name] = current
        open = line:find("{$") and current or nil
      end
      local owner, method = line:match("^function ([%w_.]+)[:.]([%w_]+)%(")
      if owner and bound[owner] and has_comment then bound[owner].names[method] = true end
      owner, method = line:match("^([%w_]+)%.([%w_]+) =")
      if owner and bound[owner] and has_comment then bound[owner].names[method] = is_function end
      local key = open and line:match("^  (%l[%w_]*) = ")
      if key then open.names[key] = is_function end
      if line:find("^}") then open = nil end
      current, is_function = nil, false
    else
      is_function = is_function or line:find("^%s*%-%-%-@type fun%(") ~= nil
      local alias, type_ = line:match("^%-%-%-@alias ([%w_.]+)%s*(.*)$")
      if alias then aliases[alias] = type_ == "" or type_:find("^fun%(") ~= nil end
    end
    has_comment = is_comment
  end
end

--- All classes of the files under lua/.
function annotated.classes()
  local classes, aliases = {}, {}
  local pipe = assert(io.popen("find lua -name '*.lua' | sort"))
  for path in pipe:lines() do read(path, classes, aliases) end
  pipe:close()
  return classes
end

--- The names of a class and of its bases: whether each is a function.
function annotated.names(classes, name, found)
  found = found or {}
  local class = classes[name] or { names = {}, bases = {} }
  for one, is_function in pairs(class.names) do found[one] = is_function or found[one] or false end
  for _, base in ipairs(class.bases) do annotated.names(classes, base, found) end
  return found
end

return annotated
