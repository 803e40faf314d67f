--- Where in the app something is called: the first function on the stack that is not lumo's own.
local OWN = debug.getinfo(1, "S").source:match("^(.*[/\\])") or "@lumo/"

---@return string|nil place "app.lua:12"; nil where there is none
return function()
  for level = 2, 60 do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.what ~= "C" and info.source:sub(1, #OWN) ~= OWN then
      return ("%s:%d"):format(info.short_src, info.currentline)
    end
  end
end
