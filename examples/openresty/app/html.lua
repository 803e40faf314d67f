-- Text that is HTML already, and text that is not: whatever is put into a template is escaped, unless a template
-- made it.
local html = {}

local Html = {}
Html.__index = Html
Html.__tostring = function(self) return self.text end

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

local function escape(value)
  if getmetatable(value) == Html then return value.text end
  return (tostring(value):gsub("[&<>\"']", ENTITIES))
end

--- A template with its {names} filled in.
function html.fill(template, values)
  local text = template:gsub("{([%a_]+)}", function(name)
    local value = values[name]
    if value == nil then error(("the template has no value for {%s}"):format(name), 0) end
    return escape(value)
  end)
  return setmetatable({ text = text }, Html)
end

--- The results of fn over a list, one after the other.
function html.each(list, fn)
  local parts = {}
  for i, one in ipairs(list) do parts[i] = escape(fn(one)) end
  return setmetatable({ text = table.concat(parts) }, Html)
end

return html
