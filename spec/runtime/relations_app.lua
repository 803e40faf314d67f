-- What the nginx of relations_spec serves: each function is a location of that name.
local walk = require "walk"
local relations = require "relations"
local lumo = require "lumo"

local app = { reports = {} }

walk.connect("nginx")
local Note = lumo.model("StreamedNote", { columns = { text = "string" } })

function app.try() end -- of what the configuration asks in other phases
function app.pid() ngx.say(ngx.worker.pid()) end
function app.walk() walk.run(ngx.say) end
function app.relations() relations.run(ngx.var.arg_spelling, ngx.say) end

--- Waits for an event that another request makes.
function app.watch()
  local stream = Note:watch { max_await_ms = 2000 }
  app.is_watching = true
  local event = stream:next()
  app.is_watching = false
  stream:close()
  ngx.say(event.type, " ", event.record.text)
end

function app.publish()
  while not app.is_watching do ngx.sleep(0.01) end
  ngx.say(Note:create({ text = ngx.var.arg_text }).is_persisted)
end

return app
