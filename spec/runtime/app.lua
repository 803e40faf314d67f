-- What the nginx of spec/runtime serves: each function is a location of that name.
local lumo = require "lumo"

local app = {}

-- The name of a connection is its options, so that a spec's nginx has those that its requests ask for.
lumo.connect(os.getenv("LUMO_TEST_URI"), {
  database = os.getenv("LUMO_TEST_DATABASE"), pool_size = tonumber(os.getenv("POOL_SIZE") or 8),
  timeout_ms = tonumber(os.getenv("TIMEOUT_MS") or 10000),
})

local Note = lumo.model("Note", { columns = { text = "string", n = "integer" } })
lumo.model("Tag", { columns = { name = "string" } })
lumo.model("Author", { columns = { name = "string" } })
local Post = lumo.model("Post", {
  columns = { title = "string" },
  relations = { tags = lumo.many_to_many("Tag"), authors = lumo.many_to_many("Author") },
})

--- Keeps the server busy for so long.
local function sleep(ms)
  return lumo.connection():command(lumo.ordered { { "sleep", 1 }, { "millis", ms }, { "lock", "none" } },
    { database = "admin" })
end

function app.pid() ngx.say(ngx.worker.pid()) end

function app.phase()
  ngx.say(Note:create({ text = ngx.get_phase() }).text)
end

function app.sleep()
  sleep(tonumber(ngx.var.arg_ms))
  ngx.say("slept")
end

function app.find()
  local note = Note:find_by("text", ngx.var.arg_text)
  ngx.say(note and note.n or "none")
end

function app.count()
  ngx.say(Note:query():where("text", ngx.var.arg_text):count())
end

--- An object of lumo's errors, as a handler sees it.
function app.error()
  local ms = tonumber(ngx.var.arg_ms or 0)
  local ok, err = pcall(ms > 0 and sleep or Note.count, ms > 0 and ms or Note)
  ngx.say(ok and "ok" or err.code .. " " .. err.message)
end

function app.stats()
  local stats = lumo.connection():stats()
  ngx.say(("%d %d %d %d"):format(stats.threads, stats.running, stats.waiting, stats.dropped))
end

function app.transaction()
  local text = ngx.var.arg_text
  local sum = lumo.transaction(function()
    for n = 1, 5 do
      Note:create { text = text, n = n }
      ngx.sleep(0.001)
    end
    return Note:query():where("text", text):sum("n")
  end)
  ngx.say(sum)
end

--- Two transactions of one request at the same time, each of its thread.
function app.threads()
  local text = ngx.var.arg_text
  local function work(n)
    return lumo.transaction(function()
      Note:create { text = text, n = n }
      ngx.sleep(0.02)
      return Note:query():where("text", text):count()
    end)
  end
  local a, b = ngx.thread.spawn(work, 1), ngx.thread.spawn(work, 2)
  local _, of_a = ngx.thread.wait(a)
  local _, of_b = ngx.thread.wait(b)
  ngx.say(of_a, " ", of_b, " ", Note:query():where("text", text):count())
end

--- One transaction in two threads at once: its commands take turns.
function app.shared()
  local trx = lumo.transaction()
  local list = {}
  for n = 1, 8 do
    list[n] = ngx.thread.spawn(function() return Note:create({ text = ngx.var.arg_text, n = n }, { client = trx }) end)
  end
  for _, thread in ipairs(list) do assert(ngx.thread.wait(thread)) end
  trx:commit()
  ngx.say(Note:query():where("text", ngx.var.arg_text):count())
end

--- Ends the request in the middle of a transaction.
function app.exit()
  lumo.transaction(function()
    Note:create { text = ngx.var.arg_text }
    ngx.say(tostring(coroutine.running()))
    ngx.exit(200)
  end)
end

--- Ends a request while one of its threads waits for a plan.
function app.kill()
  local thread = ngx.thread.spawn(sleep, tonumber(ngx.var.arg_ms))
  ngx.sleep(0.02)
  if ngx.var.arg_how == "kill" then
    ngx.say(tostring(ngx.thread.kill(thread)))
  else
    ngx.exit(200)
  end
end

--- Ends the request while one of its threads waits for a plan, and collects nothing.
function app.gone()
  collectgarbage("stop")
  ngx.thread.spawn(ngx.var.arg_how == "create"
    and function() Note:create { text = ngx.var.arg_text } end
    or function() Note:query():where("text", "like", "%" .. ngx.var.arg_text):exec() end)
  ngx.exit(200)
end

--- A transaction that holds until it is told to go on.
function app.hold()
  lumo.transaction(function()
    Note:create { text = ngx.var.arg_text }
    ngx.sleep(tonumber(ngx.var.arg_s))
  end)
  ngx.say("committed")
end

function app.each()
  local n, held = 0, 0
  for note in Note:query():where("text", ngx.var.arg_text):each() do
    n = n + 1
    held = held + note.n
  end
  ngx.say(n, " ", held)
end

function app.preload()
  local posts
  local began = ngx.now()
  local commands = lumo.count_commands(function()
    posts = Post:query():preload("tags"):preload("authors"):exec()
  end)
  ngx.update_time()
  ngx.say(commands, " ", #posts, " ", #posts[1].tags, " ", #posts[1].authors, " ", ngx.now() - began)
end

function app.setup()
  local post = Post:create { title = "a" }
  post:related("tags"):create_many { { name = "x" }, { name = "y" } }
  post:related("authors"):create { name = "z" }
  ngx.say("ready")
end

function app.gc()
  collectgarbage()
  collectgarbage()
  ngx.say(collectgarbage("count"))
end

--- In the middle of a TLS handshake.
function app.certificate()
  sleep(800)
  app.try("ssl_certificate")
end

--- Where nginx is asked for something in each phase; what came of it is told by /report.
app.reports = {}
function app.report() ngx.say(app.reports[ngx.var.arg_phase] or "nothing") end

function app.try(phase)
  local ok, result = pcall(function() return Note:create({ text = phase }).text end)
  app.reports[phase] = ok and result or result.code .. " " .. result.message
end

return app
