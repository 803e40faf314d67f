-- The embedded server: what start gives and refuses, and that none outlives its owner, however that one ends.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo
local embedded = require "lumo.embedded"
local quote, shell = helper.quote, helper.shell

local function trim(text)
  return (text:gsub("%s+$", ""))
end

local function exists(path)
  return shell(("test -e %s && echo yes"):format(quote(path))) ~= ""
end

-- What /proc/PID/stat says from its third field on; nothing when there is no such process.
local function process(pid)
  local file = io.open(("/proc/%s/stat"):format(pid))
  local stat = file and file:read("*a") or ""
  if file then
    file:close()
  end
  local state, parent, session = stat:match("%) (%a) (%d+) %d+ (%d+)")
  return { state = state, parent = tonumber(parent), session = tonumber(session) }
end

-- A zombie does not run: nobody may be there to reap it.
local function alive(pid)
  local state = process(pid).state
  return state ~= nil and state ~= "Z"
end

local function self_pid()
  return tonumber(shell("echo $PPID"))
end

local function eventually(seconds, condition)
  local deadline = helper.now_ms() + seconds * 1000
  while not condition() do
    if helper.now_ms() > deadline then
      return false
    end
    shell("sleep 0.05")
  end
  return true
end

-- Where this process finds its modules, in words that hold in any folder.
local function lua_environment()
  local here = trim(shell("pwd"))
  local words = {}
  for name, places in pairs { LUA_PATH = package.path, LUA_CPATH = package.cpath } do
    local absolute = places:gsub("[^;]+", function(place)
      return place:find("^/") and place or here .. "/" .. place
    end)
    words[#words + 1] = ("%s=%s %s_5_4=%s"):format(name, quote(absolute), name, quote(absolute))
  end
  return table.concat(words, " ")
end

-- A script in a second process that starts a server in the folder of its first argument ("" for none).
local STARTS = [[
  local embedded = require "lumo.embedded"
  local server = embedded.start { path = arg[1] ~= "" and arg[1] or nil }
  print(("pid=%d path=<%s>"):format(server.pid, server.path))
  io.stdout:flush()
]]

local function started(output)
  local pid, path = output:match("pid=(%d+) path=<(.-)>")
  assert(pid, "the second process started no server: " .. output)
  return tonumber(pid), path
end

local function with_connection(server, fn)
  local conn = lumo.connect(server.uri, { name = "embedded " .. server.port })
  local ok, result = pcall(fn, conn)
  conn:close()
  if not ok then
    error(result, 0)
  end
  return result
end

local function insert(server, value)
  with_connection(server, function(conn)
    conn:command(lumo.ordered { { "insert", "kept" }, { "documents", lumo.array { { value = value } } } })
  end)
end

local function count(server)
  return with_connection(server, function(conn)
    local pipeline = lumo.array { { ["$group"] = { _id = "all", n = { ["$sum"] = 1 } } } }
    local reply = conn:command(lumo.ordered {
      { "aggregate", "kept" }, { "pipeline", pipeline }, { "cursor", { batchSize = 1 } },
    })
    return reply.cursor.firstBatch[1].n
  end)
end

describe("embedded server", function()
  local folder -- of this spec; the kept folders are below it
  local servers

  local function start(options)
    local server = embedded.start(options)
    servers[#servers + 1] = server
    return server
  end

  setup(function()
    folder = trim(shell("mktemp -d"))
  end)

  teardown(function()
    shell("rm -rf " .. quote(folder))
  end)

  before_each(function()
    servers = {}
  end)

  after_each(function()
    for _, server in ipairs(servers) do
      server.stop()
    end
  end)

  describe("start", function()
    it("gives a writable replica set in a private temporary folder, and stop removes both", function()
      local server = start()
      assert.equal(("mongodb://127.0.0.1:%d/lumo?replicaSet=lumo"):format(server.port), server.uri)
      assert.equal("drwx------", shell("ls -ld " .. quote(server.path)):sub(1, 10))
      assert.is_true(alive(server.pid))
      insert(server, 1)
      assert.equal(1, count(server))
      server.stop()
      assert.is_false(alive(server.pid))
      assert.is_false(exists(server.path))
      server.stop()
    end)

    it("runs several servers side by side", function()
      local one, two = start(), start {}
      assert.are_not.equal(one.port, two.port)
      assert.are_not.equal(one.path, two.path)
      one.stop()
      insert(two, 1)
      assert.equal(1, count(two))
    end)

    it("makes and keeps a named folder with its data, whatever its name and the next port", function()
      local path = folder .. "/deep er/it's \"ü\" $HOME;é\\"
      local first = start { path = path }
      assert.equal(path, first.path)
      insert(first, 1)
      first.stop()
      local second = start { path = path .. "/../it's \"ü\" $HOME;é\\/" }
      assert.equal(path, second.path)
      insert(second, 2)
      assert.equal(2, count(second))
    end)

    it("takes a relative folder from the current one", function()
      local output = helper.run(STARTS, ("cd %s && %s"):format(quote(folder), lua_environment()), "relative")
      local _, path = started(output)
      assert.equal(folder .. "/relative", path)
      assert.is_true(exists(path .. "/WiredTiger"))
    end)

    it("finds the mongod of the user's cache", function()
      local cache = folder .. "/cache/lumo/bin"
      local program = trim(shell(("readlink /proc/%d/exe"):format(start().pid)))
      shell(("mkdir -p %s && ln -s %s %s/mongod"):format(cache, quote(program), cache))
      local environment = ("%s XDG_CACHE_HOME=%s/cache PATH= LUMO_MONGOD="):format(lua_environment(), folder)
      local interpreter = trim(shell("command -v " .. quote(helper.interpreter)))
      local script = helper.write_file(STARTS
        .. 'print(io.open("/proc/" .. server.pid .. "/cmdline"):read("*a"))')
      local output = shell(("%s %s %s ''"):format(environment, quote(interpreter), quote(script)))
      os.remove(script)
      started(output)
      assert.truthy(output:find(cache .. "/mongod", 1, true), output)
    end)

    it("takes another port when the one it chose has been taken meanwhile", function()
      local core = require "lumo.core"
      local free_port = core.embedded_port
      local first = start()
      local ports = { first.port, first.port }
      core.embedded_port = function()
        return table.remove(ports) or free_port()
      end
      local ok, second = pcall(start)
      core.embedded_port = free_port
      assert.is_true(ok, tostring(second))
      assert.equal(0, #ports)
      assert.are_not.equal(first.port, second.port)
      insert(second, 1)
    end)

    it("hands args to mongod, before its own choice of the same option", function()
      local server = start {
        args = { "--setParameter", "enableTestCommands=1", "--wiredTigerCacheSizeGB=0.3" },
      }
      local parsed = with_connection(server, function(conn)
        return conn:command({ getCmdLineOpts = 1 }, { database = "admin" }).parsed
      end)
      assert.equal("1", parsed.setParameter.enableTestCommands)
      assert.equal(0.3, parsed.storage.wiredTiger.engineConfig.cacheSizeGB)
    end)

    it("keeps the owner's pipes out of mongod and its watcher, and both out of its session", function()
      local pipe = io.popen("cat >/dev/null", "w")
      local server = start()
      local listing = "ls -l /proc/%s/fd 2>/dev/null | grep -o 'pipe:[^ ]*'"
      local owned = shell(listing:format(self_pid()))
      assert.truthy(owned:find("pipe:", 1, true))
      for _, pid in ipairs { server.pid, process(server.pid).parent } do
        for name in shell(listing:format(pid)):gmatch("%S+") do
          assert.falsy(owned:find(name, 1, true))
        end
        assert.are_not.equal(process(self_pid()).session, process(pid).session)
      end
      pipe:close()
    end)
  end)

  describe("refusals", function()
    it("are clear for wrong options", function()
      local function refused(options, text)
        local err = helper.expect_error("E_ARGUMENT", embedded.start, options)
        assert.truthy(tostring(err):find(text, 1, true), tostring(err))
      end
      refused("data", "options")
      refused({ folder = "x" }, '"folder"')
      refused({ path = 1 }, '"path"')
      refused({ path = "" }, '"path"')
      refused({ path = "a\0b" }, "NUL")
      refused({ args = "--quiet" }, '"args"')
      refused({ args = { "--quiet", 1 } }, '"args"')
      refused({ args = { [2] = "--quiet" } }, '"args"')
      refused({ args = { "--port", "1" } }, "--port")
      refused({ args = { "--fork" } }, "--fork")
      refused({ args = { "--dbpath=/tmp" } }, "--dbpath")
    end)

    it("name a folder that cannot be used", function()
      local file = helper.write_file("text")
      for _, path in ipairs { file, file .. "/below", "/proc/self/lumo" } do
        local err = helper.expect_error("E_ARGUMENT", embedded.start, { path = path })
        assert.truthy(tostring(err):find(path, 1, true), tostring(err))
      end
      os.remove(file)
    end)

    it("say how to get a mongod where there is none", function()
      local script = [[
        local ok, err = pcall(require("lumo.embedded").start)
        print(ok, err.code, err.message)
      ]]
      local empty = ("%s PATH=%s HOME=%s XDG_CACHE_HOME= LUMO_MONGOD="):format(lua_environment(), folder,
        folder)
      local interpreter = trim(shell("command -v " .. quote(helper.interpreter)))
      local path = helper.write_file(script)
      local output = shell(("%s %s %s 2>&1"):format(empty, quote(interpreter), quote(path)))
      os.remove(path)
      assert.truthy(output:find("^false%s+E_UNSUPPORTED"), output)
      assert.truthy(output:find("script/setup", 1, true), output)
      assert.truthy(output:find("LUMO_MONGOD", 1, true), output)
      assert.truthy(output:find(folder .. "/.cache/lumo/bin/mongod", 1, true), output)
    end)

    it("name a mongod that cannot be run", function()
      local file = helper.write_file("\127ELF half of a download")
      local err = helper.expect_error("E_UNSUPPORTED", embedded.start, { mongod = file })
      assert.truthy(tostring(err):find(file, 1, true), tostring(err))
      shell("chmod +x " .. quote(file))
      local options = { mongod = file, path = folder .. "/unused" }
      err = helper.expect_error("E_UNSUPPORTED", embedded.start, options)
      assert.truthy(tostring(err):find(file, 1, true), tostring(err))
      os.remove(file)
    end)

    it("give mongod's own words when it ends at its start, and leave nothing behind", function()
      local parent = folder .. "/temporary" -- where nobody else has servers
      shell("mkdir " .. quote(parent))
      local begin = helper.now_ms()
      local output = helper.run([[
        local ok, err = pcall(require("lumo.embedded").start, { args = { "--noSuchOption" } })
        print(ok, err.code, err)
      ]], "TMPDIR=" .. quote(parent))
      assert.truthy(output:find("^false%s+E_SERVER%s"), output)
      assert.truthy(output:find("noSuchOption", 1, true), output)
      assert.is_true(helper.now_ms() - begin < 20000)
      assert.equal("", shell("ls " .. quote(parent)))
    end)

    it("tell of broken data, and the folder is free again", function()
      local path = folder .. "/broken"
      start({ path = path }).stop()
      shell(("cd %s && cp WiredTiger.turtle turtle && echo broken > WiredTiger.turtle"):format(path))
      local err = helper.expect_error("E_SERVER", embedded.start, { path = path })
      assert.truthy(tostring(err):find("turtle", 1, true), tostring(err))
      shell(("cd %s && mv turtle WiredTiger.turtle"):format(path))
      start { path = path }
    end)

    it("hold inside nginx", function()
      rawset(_G, "ngx", { config = {} })
      local ok, err = pcall(embedded.start)
      rawset(_G, "ngx", nil)
      assert.is_false(ok)
      assert.equal("E_UNSUPPORTED", err.code)
      assert.truthy(err.message:find("nginx", 1, true))
    end)
  end)

  describe("one folder", function()
    it("has one server of this process", function()
      local path = folder .. "/one"
      local server = start { path = path }
      local err = helper.expect_error("E_ARGUMENT", embedded.start, { path = path })
      assert.truthy(tostring(err):find(path, 1, true), tostring(err))
      assert.truthy(tostring(err):find("this process", 1, true), tostring(err))
      insert(server, 1)
      server.stop()
      assert.equal(1, count(start { path = path }))
    end)

    it("has one server of all processes; the refusal names the owner", function()
      local path = folder .. "/two"
      local server = start { path = path }
      local output, status = helper.spawn(STARTS, lua_environment(), path):wait()
      assert.are_not.equal(0, status)
      assert.truthy(output:find(path, 1, true), output)
      assert.truthy(output:find("process " .. self_pid(), 1, true), output)
      insert(server, 1)
    end)

    it("can be had at once when its last owner has just died", function()
      local path = folder .. "/three"
      for _ = 1, 3 do
        local owner = helper.spawn(STARTS .. "os.execute('kill -9 $PPID')", lua_environment(), path)
        local pid = started(owner:wait())
        local server = start { path = path }
        assert.is_false(alive(pid))
        server.stop()
      end
    end)
  end)

  describe("the end of the owner", function()
    local WAIT_FOR_SIGNAL = " for _ = 1, 500 do require('lumo.core').pause(20) end"
    local ends = {
      ["the end of the script"] = "",
      ["an error"] = "error('on purpose')",
      ["os.exit(true)"] = "os.exit(true)",
      ["os.exit(false)"] = "os.exit(false)",
      ["os.exit with a closed state"] = "os.exit(0, true)",
      ["kill -9"] = "os.execute('kill -9 $PPID')",
      ["SIGTERM"] = "os.execute('(sleep 0.1; kill -TERM $PPID) &')" .. WAIT_FOR_SIGNAL,
      ["SIGINT"] = "os.execute('(sleep 0.1; kill -INT $PPID) &')" .. WAIT_FOR_SIGNAL,
      ["kill -9 while the server starts"] = false,
    }

    for name, ending in pairs(ends) do
      it("by " .. name .. " stops the server and removes its temporary folder", function()
        local script = ending and STARTS .. ending or [[
          local core = require "lumo.core"
          local run = core.embedded_run
          function core.embedded_run(handle, line)
            local pid = run(handle, line)
            print(("pid=%d path=<%s>"):format(pid, line[3]))
            io.stdout:flush()
            os.execute("kill -9 $PPID")
          end
          require("lumo.embedded").start()
        ]]
        local pid, path = started(helper.spawn(script, lua_environment(), ""):wait())
        assert.is_true(eventually(8, function() return not alive(pid) and not exists(path) end))
      end)
    end

    it("kills a server that does not listen to SIGTERM, and what it has started", function()
      local path = folder .. "/stubborn"
      local stubborn = helper.write_file(
        "#!/bin/sh\ntrap '' TERM\nsleep 987 &\necho $$ >$2/pid\nwhile :; do wait; done\n")
      shell("chmod +x " .. quote(stubborn))
      local script = helper.write_file(
        ("require('lumo.embedded').start { path = arg[1], mongod = %q }"):format(stubborn))
      local owner = shell(("%s %s %s %s >/dev/null 2>&1 & echo $!"):format(lua_environment(),
        quote(helper.interpreter), quote(script), quote(path)))
      local pid
      assert.is_true(eventually(8, function()
        pid = tonumber(shell(("cat %s/pid 2>/dev/null"):format(path)))
        return pid ~= nil
      end))
      local child = tonumber(shell(("cat /proc/%d/task/%d/children"):format(pid, pid)):match("%d+"))
      assert.is_true(alive(child))
      shell("kill -9 " .. owner)
      shell("sleep 1")
      assert.is_true(alive(pid))
      assert.is_true(eventually(8, function() return not alive(pid) and not alive(child) end))
      os.remove(stubborn)
      os.remove(script)
    end)
  end)

  it("outlives a forked child of its owner", function()
    local library = folder .. "/forker.so"
    local source = "#include <stdlib.h>\n#include <unistd.h>\n"
      .. 'int luaopen_forker(void *L) { (void)L; if (fork() == 0) setenv("IN_CHILD", "1", 1); return 0; }\n'
    local file = helper.write_file(source)
    assert.equal("", shell(("cc -shared -fPIC -x c -o %s %s 2>&1"):format(quote(library), quote(file))))
    os.remove(file)
    local script = STARTS .. ("package.cpath = package.cpath .. %q\n"):format(";" .. folder .. "/?.so") .. [[
      require "forker"
      if os.getenv("IN_CHILD") then
        print("child", pcall(server.stop))
        server = nil
        collectgarbage()
        os.exit(0, true)
      end
      os.execute("sleep 1")
      local conn = require("lumo").connect(server.uri)
      print("parent", conn:ping())
      io.stdout:flush()
    ]]
    local output, status = helper.spawn(script, lua_environment(), ""):wait()
    assert.equal(0, status, output)
    assert.truthy(output:find("child%s+false%s+.-process that started it"), output)
    assert.truthy(output:find("parent", 1, true), output)
    local pid, path = started(output)
    assert.is_true(eventually(8, function() return not alive(pid) and not exists(path) end))
  end)

  it("ends when its watcher is killed, and stop still returns", function()
    local server = start()
    shell("kill -9 " .. process(server.pid).parent)
    assert.is_true(eventually(8, function() return not alive(server.pid) end))
    server.stop()
    shell("rm -rf " .. quote(server.path)) -- nobody was left to do it
  end)

  it("may be killed: stop returns and removes its temporary folder", function()
    local server = start()
    shell("kill -9 " .. server.pid)
    assert.is_true(eventually(8, function() return not alive(server.pid) end))
    server.stop()
    assert.is_false(exists(server.path))
  end)
end)
