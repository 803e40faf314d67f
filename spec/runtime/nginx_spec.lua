-- lumo in a real nginx: all of it over HTTP. LUMO_LONG_REQUESTS makes the run that looks for growth long.
local lumo = require "lumo"
local helper = require "spec.helper"
local nginx = dofile "spec/runtime/nginx.lua"

local missing = nginx.missing()
local POOL_SIZE = 8 -- as app.lua has it where the environment says nothing else

describe("nginx", function()
  if missing then
    pending(missing)
    return
  end

  local server, servers = nil, {}

  --- One for a single test: a database of its own environment beside the options.
  local function start(options)
    options = options or {}
    options.env = options.env or {}
    options.env.LUMO_TEST_DATABASE = helper.database
    local started = nginx.start(options)
    servers[#servers + 1] = started
    return started
  end

  local function notes(text)
    return helper.command({ { "count", "notes" }, { "query", { text = text } } }).n
  end

  local function each_of(path, n)
    local paths = {}
    for i = 1, n do paths[i] = path end
    return paths
  end

  local function statuses(answers)
    local good, other = 0, {}
    for _, answer in ipairs(answers) do
      if answer.status == 200 then
        good = good + 1
      else
        other[#other + 1] = answer.status or "none"
      end
    end
    return good, table.concat(other, " ")
  end

  setup(function()
    helper.connect("nginx")
    lumo.model("Note", { columns = { text = "string", n = "integer" } })
    server = start()
  end)

  teardown(function()
    for _, one in ipairs(servers) do
      one:clear() end
    helper.drop()
  end)

  before_each(function() helper.clear("notes") end)

  describe("phases", function()
    setup(function()
      server:get("/phases")
      server:get("/balanced")
    end)

    for _, phase in ipairs { "init_worker", "timer", "rewrite", "access", "content" } do
      it("waits in " .. phase, function()
        assert.equal(phase, nginx.eventually(function()
          local body = server:get("/report?phase=" .. phase).body
          return body ~= "nothing" and body
        end))
      end)
    end

    for _, phase in ipairs { "init", "set", "balancer", "header_filter", "body_filter", "log" } do
      it("refuses to wait in " .. phase, function()
        local body = server:get("/report?phase=" .. phase).body
        assert.matches("^E_UNSUPPORTED ", body)
        assert.matches("phase \"" .. phase .. "\"", body, 1, true)
      end)
    end

    it("waits in ssl_certificate, while others are served", function()
      local one = start { tls = true }
      one:get("/phase")
      local began = nginx.now()
      nginx.command(("curl -sk https://127.0.0.1:%d/phase >%s/answer 2>/dev/null &"):format(one.tls_port, one.folder))
      nginx.sleep(0.1)
      assert.equal(200, one:get("/pid").status)
      assert.is_true(nginx.now() - began < 0.7) -- the handshake takes 0.8
      assert.equal("", nginx.read(one.folder .. "/answer"))
      assert.is_truthy(nginx.eventually(function() return nginx.read(one.folder .. "/answer") == "content\n" end))
      assert.equal("ssl_certificate", one:get("/report?phase=ssl_certificate").body)
    end)

    it("waits in exit_worker", function()
      local other = start()
      assert.equal("content", other:get("/phase").body)
      other:stop("QUIT")
      assert.matches("at exit: exit_worker", other:log(), 1, true)
    end)
  end)

  describe("waiting", function()
    it("serves others while the server works", function()
      local began = nginx.now()
      local paths = each_of("/sleep?ms=300", 8)
      paths[9] = "/pid"
      local answers = server:get_all(paths)
      assert.equal(9, (statuses(answers)))
      assert.is_true(nginx.now() - began < 1.5) -- one after the other would take 2.4
      assert.is_true(answers[9].seconds < 0.25)
    end)

    it("keeps transactions apart, whatever runs beside", function()
      local paths = {}
      for i = 1, 12 do paths[i] = "/transaction?text=t" .. i end
      for i, answer in ipairs(server:get_all(paths)) do
        assert.equal("15", answer.body)
        assert.equal(5, notes("t" .. i))
      end
    end)

    it("gives each thread of a request its own transaction", function()
      assert.equal("1 1 2", server:get("/threads?text=threads").body)
    end)

    it("lets threads share one, one command after the other", function()
      assert.equal("8", server:get("/shared?text=shared").body)
    end)

    it("iterates cursors", function()
      local documents, sum = {}, 0
      for n = 1, 250 do
        documents[n] = { text = "each", n = n }
        sum = sum + n
      end
      helper.insert("notes", documents)
      assert.equal("250 " .. sum, server:get("/each?text=each").body)
    end)

    it("loads relations that do not need each other at once", function()
      assert.equal("ready", server:get("/setup").body)
      helper.conn:command(lumo.ordered {
        { "configureFailPoint", "failCommand" }, { "mode", "alwaysOn" },
        { "data", { failCommands = lumo.array { "find" }, blockConnection = true, blockTimeMS = 100 } },
      }, { database = "admin" })
      local answer = server:get("/preload")
      helper.conn:command(lumo.ordered { { "configureFailPoint", "failCommand" }, { "mode", "off" } },
        { database = "admin" })
      local commands, posts, tags, authors, seconds = answer.body:match("^(%S+) (%S+) (%S+) (%S+) (%S+)$")
      assert.same({ "5", "1", "2", "1" }, { commands, posts, tags, authors })
      assert.is_true(tonumber(seconds) < 0.42) -- three finds in a row; two more are beside them
    end)
  end)

  describe("requests that end early", function()
    local function dropped()
      return tonumber(server:get("/stats").body:match("%d+$"))
    end

    local function goes_on()
      assert.equal("content", server:get("/phase").body)
    end

    it("leave their plans to the threads", function()
      local before = dropped()
      for _, how in ipairs { "exit", "kill" } do
        assert.equal(200, server:get("/kill?ms=200&how=" .. how).status)
      end
      assert.is_truthy(nginx.eventually(function()
        server:get("/gc")
        return dropped() == before + 2
      end))
      goes_on()
    end)

    it("leave them when the client goes away", function()
      local one = start { abort = "on" }
      one:get("/phase") -- it is there, and sees them go
      for _ = 1, 4 do one:leave("/sleep?ms=400", 0.1) end
      assert.is_truthy(nginx.eventually(function()
        one:get("/gc")
        return one:get("/stats").body:match("%d+$") == "4"
      end))
      assert.equal("content", one:get("/phase").body)
      assert.is_nil(one:log():match("exited on signal"))
    end)

    it("keep no large result and no descriptor until Lua collects them", function()
      local one, rows = start(), {}
      for i = 1, 8 do rows[i] = { text = ("x"):rep(2000000) .. "large" } end
      for i = 1, 8 do helper.command { { "insert", "notes" }, { "documents", lumo.array { rows[i] } } } end
      one:get("/gone?text=large") -- its threads and connections are there
      local pid, before = one:get("/pid").body, nil
      for n = 1, 12 do
        if n == 2 then before = nginx.usage(pid) end
        if n > 1 then one:get("/gone?text=large") end
        assert.is_truthy(nginx.eventually(function()
          return one:get("/stats").body:match(" 0 0 (%d+)$") == tostring(n)
        end))
      end
      local after = nginx.usage(pid)
      local grown = after.kilobytes - before.kilobytes
      assert.is_true(grown < 64000, ("%d KB more"):format(grown)) -- 11 results are 176 MB
      assert.is_true(after.descriptors <= before.descriptors + 3, after.descriptors .. " after " .. before.descriptors)
    end)

    it("begin nothing that still waits for a thread", function()
      local one = start { env = { POOL_SIZE = 1 } }
      one:get("/phase")
      assert.equal(200, one:get("/kill?ms=300&how=exit").status)
      assert.equal(200, one:get("/gone?text=unasked&how=create").status)
      assert.is_truthy(nginx.eventually(function() return one:get("/stats").body == "1 0 0 2" end))
      assert.equal(0, notes("unasked"))
    end)

    it("roll their transactions back, which reach into no later request", function()
      local first = server:get("/exit?text=left").body
      -- nginx uses the coroutine of a request for a later one.
      local reused = false
      for i = 1, 20 do
        server:get("/transaction?text=later" .. i)
        reused = reused or server:get("/exit?text=left").body == first
      end
      assert.is_true(reused)
      for i = 1, 20 do assert.equal(5, notes("later" .. i)) end
      assert.is_truthy(nginx.eventually(function()
        server:get("/gc")
        return helper.command({ { "serverStatus", 1 } }).transactions.currentOpen == 0
      end))
      assert.equal(0, notes("left"))
      goes_on()
    end)
  end)

  it("requests that end in transactions do not keep their connections", function()
    local one = start { env = { POOL_SIZE = 2, TIMEOUT_MS = 300 } }
    one:get("/phase")
    for _ = 1, 2 do one:get("/exit?text=left") end
    assert.is_truthy(nginx.eventually(function() return one:get("/count?text=left").body == "0" end, 3))
    assert.equal("15", one:get("/transaction?text=later").body)
  end)

  describe("reload and quit", function()
    it("drop no request", function()
      local one = start { workers = 2 }
      local good, sent = 0, 0
      for round = 1, 6 do
        if round % 2 == 0 then one:signal("HUP") end
        local answers = one:get_all(each_of("/sleep?ms=50", 16))
        local ok, other = statuses(answers)
        assert.equal("", other)
        good, sent = good + ok, sent + 16
      end
      assert.equal(sent, good)
      local pids = {}
      for _, answer in ipairs(one:get_all(each_of("/sleep?ms=100", 4))) do pids[#pids + 1] = answer.status end
      assert.same({ 200, 200, 200, 200 }, pids)
    end)

    it("wait for what is under way", function()
      local one = start()
      local paths = each_of("/sleep?ms=300", 6)
      nginx.command(("(sleep 0.1; kill -QUIT %d) >/dev/null 2>&1 &"):format(one:pid()))
      local good = statuses(one:get_all(paths))
      assert.equal(6, good)
      assert.is_nil(one:log():match("exited on signal"))
    end)

    --- From the signal to the end of a worker whose threads have all had something to do, at best of three: a machine
    --- that does other things delays some.
    local function time_of_end(signal, keep_busy)
      local best = math.huge
      for _ = 1, 3 do
        local one = start()
        one:get_all(each_of("/sleep?ms=50", POOL_SIZE))
        local worker = one:get("/pid").body
        if keep_busy then
          -- All but the one whose connection exit_worker needs, where app.lua asks the server for something.
          for _ = 1, POOL_SIZE - 1 do one:leave("/sleep?ms=2000", 0.02) end
        end
        local began = nginx.now()
        nginx.command(("kill -%s %s"):format(signal, worker))
        assert.is_truthy(nginx.eventually(function() return not nginx.is_alive(worker) end))
        best = math.min(best, nginx.now() - began)
        assert.is_nil(one:log():match("exited on signal"))
        one:stop()
      end
      return best
    end

    it("end within 300 ms when they must, whatever the threads are doing", function()
      assert.is_true(time_of_end("TERM", true) < 0.3)
    end)

    it("end at once when there is nothing to wait for", function()
      assert.is_true(time_of_end("QUIT") < 0.3)
      assert.is_true(time_of_end("TERM") < 0.3)
    end)

    it("let a transaction come to its end", function()
      local one = start()
      local worker = one:get("/pid").body
      nginx.command(("(sleep 0.2; kill -HUP %d) >/dev/null 2>&1 &"):format(one:pid()))
      assert.equal("committed", one:get("/hold?text=finished&s=1").body)
      assert.equal(1, notes("finished"))
      assert.is_truthy(nginx.eventually(function() return not nginx.is_alive(worker) end))
      assert.is_not.equal(worker, one:get("/pid").body)
    end)

    it("roll back the transaction that they cut off", function()
      local one = start { shutdown = "300ms" }
      local paths = { "/hold?text=held&s=3", "/pid" }
      nginx.command(("(sleep 0.2; kill -HUP %d) >/dev/null 2>&1 &"):format(one:pid()))
      local answers = one:get_all(paths, 8)
      assert.is_nil((answers[1].body or ""):match("committed"))
      assert.is_truthy(nginx.eventually(function() return not nginx.is_alive(answers[2].body) end))
      assert.is_truthy(nginx.eventually(function()
        return helper.command({ { "serverStatus", 1 } }).transactions.currentOpen == 0
      end))
      assert.equal(0, notes("held"))
      assert.equal("15", one:get("/transaction?text=held").body)
    end)

    it("leave no folder behind", function()
      local one = start()
      local worker = one:get("/pid").body
      one:get("/phase")
      assert.matches("%S", (nginx.command("ls -d /tmp/lumo-wait-" .. worker .. "-*")))
      one:stop("QUIT")
      assert.matches("No such file", (nginx.command("ls -d /tmp/lumo-wait-" .. worker .. "-*")))
    end)
  end)

  describe("trouble", function()
    it("a busy pool ends in E_TIMEOUT, and is well again", function()
      local one = start { env = { POOL_SIZE = 2, TIMEOUT_MS = 500 } }
      local ok, late, busy = 0, 0, 0
      for _, answer in ipairs(one:get_all(each_of("/error?ms=400", 8))) do
        if answer.body == "ok" then
          ok = ok + 1
        else
          late = late + 1
          busy = busy + (answer.body:match("^E_TIMEOUT all 2 threads") and 1 or 0)
          assert.matches("^E_TIMEOUT ", answer.body)
          assert.is_true(answer.seconds < 0.9)
        end
      end
      assert.is_true(ok >= 2 and busy >= 2 and ok + late == 8)
      assert.is_truthy(nginx.eventually(function() return one:get("/error?ms=1").body == "ok" end))
      assert.is_truthy(nginx.eventually(function() return one:get("/stats").body:match("^2 0 0") end))
    end)

    it("a server that hangs costs a request one timeout, wherever it waits", function()
      local one = start { env = { POOL_SIZE = 2, TIMEOUT_MS = 1000 } }
      one:get("/phase")
      nginx.command(("(sleep 0.5; curl -s 'http://127.0.0.1:%d/error?ms=4000' >%s/late) >/dev/null 2>&1 &")
        :format(one.port, one.folder))
      local began = nginx.now()
      local first = one:get_all(each_of("/error?ms=4000", 2))
      for _, answer in ipairs(first) do assert.matches("^E_TIMEOUT", answer.body) end
      local late = nginx.eventually(function()
        local text = nginx.read(one.folder .. "/late")
        return text ~= "" and text
      end)
      local seconds = nginx.now() - began
      assert.matches("^E_TIMEOUT command: no answer within 1000 ms, of which %d+ were spent waiting for a thread", late)
      assert.is_true(seconds > 1.4 and seconds < 1.9, seconds) -- 0.5 and 1; else 2
      assert.is_truthy(nginx.eventually(function() return one:get("/error").body == "ok" end))
      assert.is_truthy(nginx.eventually(function() return one:get("/stats").body == "2 0 0 1" end, 8))
    end)

    it("a killed worker's place is taken, and its folder removed", function()
      local worker = server:get("/pid").body
      server:get("/phase")
      nginx.command("kill -9 " .. worker)
      assert.equal("content", nginx.eventually(function() return server:get("/phase").body end))
      assert.matches("No such file", (nginx.command("ls -d /tmp/lumo-wait-" .. worker .. "-*")))
    end)

    it("a folder that was cleared away is made again", function()
      server:get("/phase")
      nginx.command("rm -rf /tmp/lumo-wait-" .. server:get("/pid").body .. "-*")
      assert.equal(16, (statuses(server:get_all(each_of("/sleep?ms=30", 16)))))
    end)

    it("two of them know nothing of each other", function()
      local a, b = start(), start()
      for _ = 1, 3 do
        assert.equal(8, (statuses(a:get_all(each_of("/sleep?ms=20", 8)))))
        assert.equal(8, (statuses(b:get_all(each_of("/sleep?ms=20", 8)))))
      end
      a:stop("QUIT")
      assert.equal("content", b:get("/phase").body)
    end)

    it("few descriptors are an error that says so", function()
      local one = start { ulimit = 60, connections = 40, env = { POOL_SIZE = 4 } }
      assert.equal("ok", one:get("/error").body)
      local refused = 0
      for _, answer in ipairs(one:get_all(each_of("/error?ms=100", 30), 8)) do
        if answer.body and answer.body ~= "ok" then
          assert.matches("^E_UNSUPPORTED no ", answer.body)
          refused = refused + 1
        end
      end
      assert.is_true(refused > 0)
      assert.is_truthy(nginx.eventually(function() return one:get("/error").body == "ok" end))
      assert.is_nil(one:log():match("exited on signal"))
    end)

    it("a server that stops and starts again is found again", function()
      local mongod = helper.start_mongod()
      local one = start { env = { LUMO_TEST_URI = mongod.address, TIMEOUT_MS = 1000 } }
      finally(function() mongod:remove() end)
      assert.equal("0", one:get("/count?text=a").body)
      nginx.command(("(sleep 0.2; kill %s) >/dev/null 2>&1 &"):format(mongod.pid))
      assert.is_truthy(nginx.eventually(function()
        local failed = 0
        for _, answer in ipairs(one:get_all(each_of("/error", 16), 10)) do
          assert.is_truthy(answer.body == "ok" or answer.body:match("^E_[NST]"), answer.body)
          failed = failed + (answer.body:match("^E_[NT]") and 1 or 0)
        end
        return failed == 16
      end, 10))
      assert.is_truthy(nginx.eventually(function() return not nginx.is_alive(mongod.pid) end))
      mongod:start()
      assert.equal("ok", nginx.eventually(function()
        local body = one:get("/error").body
        return body == "ok" and body
      end, 10))
      assert.equal(16, (statuses(one:get_all(each_of("/count?text=a", 16)))))
    end)
  end)

  it("grows in nothing, however many requests come", function()
    local one = start()
    local total = tonumber(os.getenv("LUMO_LONG_REQUESTS") or 2000)
    local function serve(n)
      for _ = 1, n, 32 do
        assert.equal(32, (statuses(one:get_all(each_of("/find?text=none", 32)))))
      end
      one:get("/gc")
      one:get("/gc")
    end
    serve(1000)
    local pid = one:get("/pid").body
    local before = nginx.usage(pid)
    serve(total)
    local after = nginx.usage(pid)
    assert.equal(pid, one:get("/pid").body)
    -- Threads are made when all that there are have something to do, which may come late: up to the size of the pool,
    -- each with its connection.
    local made = math.max(after.threads - before.threads, 0)
    assert.is_true(made <= POOL_SIZE, ("%d threads, then %d"):format(before.threads, after.threads))
    assert.is_true(after.descriptors <= before.descriptors + 2 + 2 * made)
    assert.is_true(after.kilobytes <= before.kilobytes + 1024 + made * 100,
      ("%d KB, then %d KB"):format(before.kilobytes, after.kilobytes))
  end)
end)
