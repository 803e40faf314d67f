-- The server of script/with-server. It says its URI and stops, as every embedded server, when its script ends:
-- here with its input.
local server = require("lumo.embedded").start({ args = { "--setParameter", "enableTestCommands=1" } })
print(server.uri)
io.stdout:flush()
io.read("*a")
