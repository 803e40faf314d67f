--- `lumo server`: the embedded server, until the user interrupts it.
local server = {}

--- Starts it and waits for its end.
---@param path string|nil the folder for its data; nil: a temporary one
function server.run(path)
  local started = require("lumo.embedded").start { path = path }
  print(started.uri)
  io.stdout:flush()
  io.stderr:write(("data in %s; Ctrl-C ends it\n"):format(started.path))
  local ok, result = pcall(function()
    local ended ---@type string|nil
    repeat ended = started.wait(1000) until ended
    return ended
  end)
  if ok then error(("mongod ended (%s)"):format(result), 0) end
  started.stop()
  if not tostring(result):find("interrupted", 1, true) then error(result, 0) end
end

return server
