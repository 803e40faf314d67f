-- What loops_spec runs in a process of its own: loops.lua LOOP CASE. The program of a user of that loop.
local name, case = arg[1], arg[2]
package.path = package.path .. ";/usr/share/lua/5.1/?.lua" -- Copas is pure Lua, and packaged for Lua 5.1 alone
local lumo = require "lumo"

local conn = lumo.connect(os.getenv("LUMO_TEST_URI"), {
  database = os.getenv("LUMO_TEST_DATABASE"), pool_size = tonumber(os.getenv("POOL_SIZE") or 8),
  timeout_ms = tonumber(os.getenv("TIMEOUT_MS") or 10000),
})
local Note = lumo.model("Note", { columns = { text = "string", n = "integer" } })

local loops = {}

function loops.luv()
  local uv = require "luv"
  local function sleep(seconds)
    local co, timer = coroutine.running(), uv.new_timer()
    timer:start(seconds * 1000, 0, function()
      timer:close()
      coroutine.resume(co)
    end)
    coroutine.yield()
  end
  return { spawn = function(fn) coroutine.wrap(fn)() end, run = uv.run, sleep = sleep, now = function()
    return uv.hrtime() / 1e9
  end }
end

function loops.cqueues()
  local cqueues = require "cqueues"
  local controller = cqueues.new()
  return {
    spawn = function(fn) controller:wrap(fn) end, sleep = cqueues.sleep, now = cqueues.monotime,
    run = function() assert(controller:loop()) end,
  }
end

function loops.copas()
  local copas, socket = require "copas", require "socket"
  local open = 0
  return {
    spawn = function(fn)
      open = open + 1
      copas.addthread(function()
        fn()
        open = open - 1
      end)
    end,
    run = function() while open > 0 do copas.step(0.1) end end,
    now = socket.gettime,
  }
end

local loop = loops[name]()

local function sleep_on_server(ms)
  return conn:command(lumo.ordered { { "sleep", 1 }, { "millis", ms }, { "lock", "none" } }, { database = "admin" })
end

local cases = {}

function cases.there() end

--- Eight waits take the time of one or two, and something else goes on meanwhile.
function cases.parallel()
  lumo.use_runtime(name)
  conn:ping()
  local ended, ticks, began = 0, 0, loop.now()
  for _ = 1, 8 do
    loop.spawn(function()
      sleep_on_server(300)
      ended = ended + 1
    end)
  end
  if loop.sleep then
    loop.spawn(function()
      while ended < 8 do
        loop.sleep(0.01)
        ticks = ticks + 1
      end
    end)
  end
  loop.run()
  print(ended, loop.now() - began < 1.5, not loop.sleep or ticks >= 5)
end

--- Each coroutine has its own transaction; one that fails takes back what is its own.
function cases.transactions()
  lumo.use_runtime(name)
  local results = {}
  for i = 1, 6 do
    loop.spawn(function()
      local ok, err = pcall(lumo.transaction, function()
        for n = 1, 4 do Note:create { text = "t" .. i, n = n } end
        if i == 6 then error("no", 0) end
      end)
      results[i] = ok and Note:query():where("text", "t" .. i):count() or err
    end)
  end
  loop.run()
  print(table.concat(results, " "), Note:query():where("text", "t6"):count())
end

function cases.cursor()
  lumo.use_runtime(name)
  local rows = {}
  for n = 1, 150 do rows[n] = { text = "each", n = n } end
  local sum = 0
  loop.spawn(function()
    Note:create_many(rows)
    for note in Note:query():where("text", "each"):each() do sum = sum + note.n end
  end)
  loop.run()
  print(sum)
end

--- Hooks wait as everything else does.
function cases.hooks()
  lumo.use_runtime(name)
  Note:before("create", function(note) note.n = Note:query():where("text", "hooked"):count() + 1 end)
  local seen = {}
  loop.spawn(function()
    for i = 1, 3 do seen[i] = Note:create({ text = "hooked" }).n end
  end)
  loop.run()
  print(table.concat(seen, " "))
end

--- Errors are raised where they are waited for.
function cases.errors()
  lumo.use_runtime(name)
  local codes = {}
  loop.spawn(function()
    codes[1] = select(2, pcall(conn.command, conn, { nonsense = 1 })).code
    codes[2] = select(2, pcall(Note.find_or_fail, Note, lumo.objectid())).code
  end)
  loop.run()
  print(table.concat(codes, " "))
end

--- What runs at once is watched as all else is, and fails as all else does.
function cases.preload()
  lumo.use_runtime(name)
  lumo.model("Tag", { columns = { name = "string" } })
  lumo.model("Author", { columns = { name = "string" } })
  local Post = lumo.model("Post", {
    columns = { title = "string" },
    relations = { tags = lumo.many_to_many("Tag"), authors = lumo.many_to_many("Author") },
  })
  local seen, code = {}, nil
  loop.spawn(function()
    local post = Post:create { title = "a" }
    post:related("tags"):create_many { { name = "x" }, { name = "y" } }
    post:related("authors"):create { name = "z" }
    local off = lumo.on("command", function(event) seen[#seen + 1] = event.collection or event.name end)
    Post:query():where("id", post.id):preload("tags"):preload("authors"):exec()
    lumo.transaction(function() Post:create { title = "b" } end)
    off()
    seen[#seen + 1] = #Post:query():preload("tags"):preload("authors"):explain()
    code = select(2, pcall(function()
      Post:query():preload("tags"):preload("authors", function(q) q:hint("no_such_index") end):exec()
    end)).code
  end)
  loop.run()
  print(table.concat(seen, " "), code)
end

--- Coroutines that count at once count what is their own, preloads that run at once included.
function cases.counts()
  lumo.use_runtime(name)
  lumo.model("Tag", { columns = { name = "string" } })
  lumo.model("Author", { columns = { name = "string" } })
  local Post = lumo.model("Post", {
    columns = { title = "string" },
    relations = { tags = lumo.many_to_many("Tag"), authors = lumo.many_to_many("Author") },
  })
  local post = Post:create { title = "counted" }
  post.tags:create { name = "x" }
  post.authors:create { name = "y" }
  local counts, seen = {}, 0
  local off = lumo.on("command", function() seen = seen + 1 end)
  counts[5] = lumo.count_commands(function() -- which resumes all of them
    for i = 1, 4 do
      loop.spawn(function()
        counts[i] = lumo.count_commands(function()
          for _ = 1, i do Post:query():where("id", post.id):preload("tags"):preload("authors"):exec() end
          lumo.transaction(function() Note:create { text = "counts", n = i } end)
        end)
      end)
    end
    loop.run()
  end)
  off()
  counts[6] = seen
  print(table.concat(counts, " "))
end

--- Outside of the loop's coroutines it waits on this thread.
function cases.outside()
  lumo.use_runtime(name)
  Note:create { text = "outside", n = 1 }
  local sum = lumo.transaction(function()
    Note:create { text = "outside", n = 2 }
    return Note:query():where("text", "outside"):sum("n")
  end)
  print(sum, conn:stats().threads)
end

--- A transaction that threads work for, too, from outside.
function cases.both()
  lumo.use_runtime(name)
  local trx = lumo.transaction()
  loop.spawn(function() Note:create({ text = "both", n = 1 }, { client = trx }) end)
  loop.run()
  Note:create({ text = "both", n = 2 }, { client = trx })
  trx:commit()
  print(Note:query():where("text", "both"):count())
end

function cases.auto()
  lumo.use_runtime("auto")
  Note:create { text = "auto", n = 1 }
  local before, inside = conn:stats().threads, nil
  loop.spawn(function()
    if loop.sleep then loop.sleep(0.01) end -- luv's loop runs from here on
    Note:create { text = "auto", n = 2 }
    inside = conn:stats().threads
  end)
  loop.run()
  print(before, inside > 0, Note:query():where("text", "auto"):count())
end

--- More waits than threads: those that get none in time fail.
function cases.exhausted()
  lumo.use_runtime(name)
  local ok, late = 0, 0
  for _ = 1, 6 do
    loop.spawn(function()
      local done, err = pcall(sleep_on_server, 400)
      ok = ok + (done and 1 or 0)
      late = late + (not done and err.code == "E_TIMEOUT" and 1 or 0)
    end)
  end
  loop.run()
  print(ok >= 1, late >= 1, ok + late)
end

--- A thread that came late, and a server that does not answer.
function cases.late()
  lumo.use_runtime(name)
  local told, err
  lumo.on("error", function(event) told = event.op end)
  local began = loop.now()
  loop.spawn(function() sleep_on_server(1000) end)
  loop.spawn(function()
    loop.sleep(0.1)
    err = select(2, pcall(sleep_on_server, 6000))
  end)
  loop.run()
  print(err.code, err.message:match("%(pool_size%)"), told, loop.now() - began < 2.7) -- 2.1; else 3
end

--- The end of the process while threads are at work.
function cases.leave()
  lumo.use_runtime(name)
  for _ = 1, 4 do
    loop.spawn(function() sleep_on_server(2000) end)
  end
  print("left")
  os.exit(0, true)
end

cases[case]()
