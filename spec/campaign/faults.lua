-- The fault campaign: every command of every operation of a relation (and of records and bulk writes) fails in every
-- way that a server and a network know, in a transaction and out of it. Afterwards the result is right or the error
-- tells the truth, within the timeout plus half a second; nothing is lost; the next call works.
--
--   lua spec/campaign/faults.lua PART [--long]      PART: a name of `parts`, below
--
-- It ends with "N passed, N failed". spec/campaign/faults.sh runs all parts.
local lumo = require "lumo"
local servers = dofile("spec/campaign/servers.lua")

local part_name, long = arg[1], arg[2] == "--long"
local SLACK_MS = 500

---- what is counted

local passed, failed, late = 0, 0, 0

local function verdict(name, problem)
  if problem then
    failed = failed + 1
    io.write(("FAILED %s: %s: %s\n"):format(part_name, name, problem))
  else
    passed = passed + 1
  end

end

io.stdout:setvbuf("line")

---- the world: two collections and their pivot, written through `world.conn`, checked through `world.raw`

local world = {}
local DATABASE = "faults"
local function id(n) return lumo.objectid(("%024x"):format(n)) end
local POST = id(1)
local function tag(n) return id(100 + n) end

local function relation(atomic)
  return lumo.many_to_many("FaultTag", {
    pivot_table = "post_tags", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
    pivot_columns = { "w" }, atomic = atomic,
  })
end

local function define()
  world.Tag = lumo.model("FaultTag", { collection = "tags", columns = { name = "string" } })
  world.Post = lumo.model("FaultPost", {
    collection = "posts", columns = { title = "string", group = "integer", code = "integer" },
    relations = { tags = relation(true), loose = relation(false) },
  })
end

--- Opens the connections: `uri` for the operations, `direct` for the truth.
local function open(uri, direct, timeout_ms)
  define()
  world.timeout_ms = timeout_ms
  world.conn = lumo.connect(uri, { database = DATABASE, timeout_ms = timeout_ms, app_name = "faults" })
  world.truth = lumo.connect(direct, { name = "truth", database = DATABASE, timeout_ms = 30000 })
end

local function truth(fn)
  return fn(world.truth)
end

local function insert(conn, collection, documents)
  conn:command(lumo.ordered {
    { "insert", collection }, { "documents", lumo.array(documents) }, { "writeConcern", { j = true } } })
end

local function empty(conn, collection)
  local all = lumo.ordered { { "q", {} }, { "limit", 0 } }
  conn:command(lumo.ordered {
    { "delete", collection }, { "deletes", lumo.array { all } }, { "writeConcern", { j = true } } })
end

local function reset()
  truth(function(conn)
    for _, collection in ipairs { "post_tags", "posts", "tags" } do empty(conn, collection) end
    insert(conn, "posts", {
      { _id = POST, title = "one", group = 1, code = 1 }, { _id = id(2), title = "two", group = 2, code = 2 },
      { _id = id(3), title = "three", group = 2, code = 3 },
    })
    local tags, rows = {}, {}
    for i = 1, 6 do tags[i] = { _id = tag(i), name = "t" .. i } end
    insert(conn, "tags", tags)
    for i = 1, 3 do rows[i] = { _id = id(200 + i), post_id = POST, tag_id = tag(i), w = i } end
    rows[4] = { _id = id(204), post_id = id(2), tag_id = tag(1), w = 7 }
    insert(conn, "post_tags", rows)
  end)
end

--- What is stored: a map from what a document is to what is in it, and `double` when something is there twice.
local function state()
  return truth(function(conn)
    local found = { all = {} }
    local function read(collection, describe)
      local reply = conn:command(lumo.ordered { { "find", collection }, { "batchSize", 1000 } })
      for _, document in ipairs(reply.cursor.firstBatch) do
        local key, value = describe(document)
        if found.all[key] then found.double = key end
        found.all[key] = value
      end
    end
    read("post_tags", function(d) return "pair " .. tostring(d.post_id) .. " " .. tostring(d.tag_id), tostring(d.w) end)
    read("posts", function(d) return "post " .. tostring(d.code), ("%s %s"):format(d.title, tostring(d.group)) end)
    read("tags", function(d) return "tag " .. tostring(d._id), d.name end)
    return found
  end)
end

local function same(a, b)
  for key, value in pairs(a.all) do if b.all[key] ~= value then return false end end
  for key in pairs(b.all) do if a.all[key] == nil then return false end end
  return true
end

--- Between two states: everything is as in one of them.
local function between(found, before, after)
  for key, value in pairs(found.all) do
    if value ~= before.all[key] and value ~= after.all[key] then return false, key .. " is " .. value end
  end
  for key in pairs(before.all) do
    if after.all[key] ~= nil and found.all[key] == nil then return false, key .. " is lost" end
  end
  return true
end

---- the operations

local function pairs_text(result)
  local words = {}
  for _, name in ipairs { "attached", "updated", "unchanged", "detached" } do
    local ids = {}
    for i, one in ipairs(result[name]) do ids[i] = tostring(one):sub(-3) end
    if name == "detached" then table.sort(ids) end -- in the order of the rows read, which a restart may change
    words[#words + 1] = name .. "=" .. table.concat(ids, ",")
  end
  return table.concat(words, " ")
end

local function names_of(list)
  local names = {}
  for i, one in ipairs(list) do names[i] = one.name .. tostring(one.extras.pivot_w) end
  table.sort(names)
  return table.concat(names, " ")
end

local function sorted_text(ids)
  local texts = {}
  for i, one in ipairs(ids) do texts[i] = tostring(one) end
  table.sort(texts)
  return table.concat(texts, " ")
end

-- post: the record, loaded before the fault. relation: "tags" (atomic) or "loose". `again`: the call may be repeated
-- after any failure. `fewer`: what a retry tells may be less than was done. `plain`: no relation, so run once.
local operations = {
  { "attach one", again = true, function(r) return pairs_text(r:attach(tag(4))) end },
  { "attach one with attributes", again = true, function(r) return pairs_text(r:attach { [tag(1)] = { w = 9 } }) end },
  { "attach many", again = true, function(r) return pairs_text(r:attach { tag(1), tag(4), tag(5) }) end },
  { "attach with attributes", again = true, function(r)
    return pairs_text(r:attach { [tag(1)] = { w = 9 }, [tag(4)] = { w = 4 } })
  end },
  { "sync", again = true, function(r) return pairs_text(r:sync { [tag(1)] = { w = 9 }, [tag(4)] = { w = 4 } }) end },
  { "sync without detaching", again = true, function(r)
    return pairs_text(r:sync({ [tag(1)] = { w = 9 }, [tag(4)] = { w = 4 } }, false))
  end },
  { "toggle", function(r) return pairs_text(r:toggle { tag(1), tag(4) }) end },
  { "detach one", again = true, fewer = true, function(r) return r:detach(tag(1)) end },
  { "detach all", again = true, fewer = true, function(r) return r:detach() end },
  { "update_pivot_data", again = true, function(r) return tostring(r:update_pivot_data(tag(1), { w = 9 })) end },
  { "exists", again = true, function(r) return tostring(r:exists(tag(1))) end },
  { "ids", again = true, function(r) return sorted_text(r:ids()) end },
  { "count", again = true, function(r) return tostring(r:count()) end },
  { "pivot_data", again = true, function(r) return tostring(r:pivot_data(tag(2)).w) end },
  { "exec", again = true, function(r) return names_of(r:exec()) end },
  { "load", again = true, function(_, post, name)
    post:load(name)
    return names_of(post[name])
  end },
  { "find", plain = true, again = true, function() return world.Post:find(POST).title end },
  { "create", plain = true, function()
    return world.Post:create({ title = "new", group = 9, code = 9 }).title
  end },
  { "create_many", plain = true, function()
    return #world.Post:create_many { { title = "a", group = 9, code = 8 }, { title = "b", group = 9, code = 9 } }
  end },
  { "save", plain = true, again = true, function(_, post)
    post.title = "changed"
    post:save()
    return post.title .. tostring(post.is_dirty)
  end },
  { "delete", plain = true, function(_, post)
    post:delete()
    return tostring(post.is_deleted)
  end },
  { "bulk update", plain = true, again = true, function()
    return world.Post:query():where("group", 2):update({ title = "both" })
  end },
  { "bulk delete", plain = true, again = true, fewer = true, function()
    return world.Post:query():where("group", 2):delete()
  end },
}

--- Every operation in its forms, with what it does when nothing fails: { name, run, commands, result, after }.
local function cases()
  local list = {}
  reset()
  local before = state()
  for _, operation in ipairs(operations) do
    for _, name in ipairs(operation.plain and { "tags" } or { "tags", "loose" }) do
      reset()
      local post = world.Post:find(POST)
      local case = { operation = operation, relation = name, before = before }
      case.name = operation[1] .. (operation.plain and "" or name == "tags" and " (atomic)" or " (not atomic)")
      local _, commands = lumo.count_commands(function() case.result = operation[2](post[name], post, name) end)
      case.commands, case.after = commands, state()
      for _, command in ipairs(commands) do
        if command.name == "commitTransaction" then case.atomic = true end
      end
      list[#list + 1] = case
    end
  end
  return list
end

---- one fault

local function word_of(err)
  if type(err) ~= "table" and type(err) ~= "userdata" then return "not an error object: " .. tostring(err) end
  local cause = tostring(err.cause)
  return ("%s outcome=%s %s | %s"):format(tostring(err.code), tostring(err.outcome), err.message, cause)
end

local CODES = {}
for code in ("E_NETWORK E_TIMEOUT E_SERVER E_WRITE E_DUPLICATE_KEY E_ROW_NOT_FOUND"):gmatch("%S+") do
  CODES[code] = true
end

--- A result of attach, sync or toggle that tells less than `whole`: what an attempt had done whose answer was lost was
--- found there by the next one.
local function tells_less(result, whole)
  local fates, unchanged = {}, " unchanged=([%w,]*)"
  for fate, list in whole:gmatch("(%a+)=([%w,]*)") do
    for one in list:gmatch("%w+") do fates[one] = fate end
  end
  local count = 0
  for fate, list in result:gmatch("(%a+)=([%w,]*)") do
    for one in list:gmatch("%w+") do
      count = count + 1
      if fate ~= fates[one] and not (fate == "unchanged" and fates[one]) then return false end
    end
  end
  for _ in pairs(fates) do count = count - 1 end
  return count == 0 and result:match(unchanged) ~= nil
end

--- `vague`: lumo itself has repeated what libmongoc could not, or the server knows no transaction numbers.
local function check_result(case, result, vague)
  if result == case.result then return nil end
  if case.operation.fewer and tonumber(result) and tonumber(result) <= tonumber(case.result) then return nil end
  if vague and type(result) == "string" and tells_less(result, case.result) then return nil end
  return ("gave %s in place of %s"):format(tostring(result), tostring(case.result))
end

local function check_state(case, ok, err, found)
  if found.double then return found.double .. " is there twice" end
  if ok then return not same(found, case.after) and "succeeded, but the state is not what it makes" or nil end
  if err.code == "E_ROW_NOT_FOUND" then return "a row that is there was said to be gone" end
  local outcome = err.outcome
  if outcome == nil or outcome == "not_applied" then
    return not same(found, case.before) and "said to be not applied, but the state has changed" or nil
  end
  if same(found, case.before) and outcome ~= "applied" or same(found, case.after) then return nil end
  if case.atomic then return "half done in a transaction" end
  local fine, what = between(found, case.before, case.after)
  return not fine and what or nil
end

local function check_next(case, post, ok)
  local fine, err = pcall(function() return post[case.relation]:count() end)
  if not fine then return "the next call failed: " .. word_of(err) end
  if ok or not case.operation.again then return nil end
  fine, err = pcall(case.operation[2], post[case.relation], post, case.relation)
  if not fine then return "the repetition failed: " .. word_of(err) end
  return not same(state(), case.after) and "the repetition did not finish it" or nil
end

--- What a machine that is busy does now and then, but not thrice in a row.
local LATE, NEXT_FAILED = "took %d ms: %s", "the next call failed: E_NETWORK"

local function is_noise(problem)
  return problem:match("^took ") or problem:sub(1, #NEXT_FAILED) == NEXT_FAILED
end

--- Runs a case with a fault that `inject` sets up and `mend` takes away; `must` is "succeed", or nil. `mend` may say
--- that the fault never happened.
local function try_once(case, inject, mend, must, vague)
  local fine, problem = pcall(function()
    reset()
    local post = world.Post:find(POST)
    inject()
    local began = servers.now_ms()
    local ok, result = pcall(case.operation[2], post[case.relation], post, case.relation)
    local took = servers.now_ms() - began
    local err = not ok and result
    local missed = mend()
    if missed then return missed .. (err and ": " .. word_of(err) or "") end
    if err and not CODES[type(err) ~= "string" and err.code or 0] then return word_of(err) end
    if took > world.timeout_ms + SLACK_MS then return LATE:format(took, err and word_of(err) or "ok") end
    if must == "succeed" and err then return word_of(err) end
    local wrong = ok and check_result(case, result, vague) or check_state(case, ok, err, state())
    if wrong then return wrong .. (err and " after " .. word_of(err) or "") end
    return check_next(case, post, ok)
  end)
  return not fine and tostring(problem) or problem
end

local function try(case, fault, inject, mend, must, vague)
  local problem
  for _ = 1, 3 do
    problem = try_once(case, inject, mend, must, vague)
    if not problem or not is_noise(problem) then break end
    late = late + 1
  end
  verdict(case.name .. ", " .. fault, problem)
end

---- faults by the server's own failCommand

local function fail_command(mode, data)
  truth(function(conn)
    local command = { { "configureFailPoint", "failCommand" }, { "mode", mode }, { "data", data or {} } }
    conn:command(lumo.ordered(command), { database = "admin" })
  end)
end

local function fail_on(command, times, data)
  return function()
    data.failCommands = lumo.array { command.name }
    data.appName = "faults"
    if command.collection then data.namespace = DATABASE .. "." .. command.collection end
    fail_command({ times = times }, data)
  end
end

local function fail_nothing()
  fail_command("off", nil)
end

local WRITES = { insert = true, update = true, delete = true, commitTransaction = true }

local function copy(data)
  local result = {}
  for key, value in pairs(data) do result[key] = value end
  return result
end

--- The errors that one command of a case can meet: { name, data, retried, quick }. `retried`: one is overcome. `quick`:
--- it makes nobody look for a server, which takes half a second.
local function errors_for(case, command, alone)
  local list = { { "WriteConflict", { errorCode = 112 }, quick = true } }
  if case.atomic then
    local transient = lumo.array { "TransientTransactionError" }
    list[1] = { "WriteConflict", { errorCode = 112, errorLabels = transient }, retried = true, quick = true }
    if command.name == "commitTransaction" then
      list[1] = { "NoSuchTransaction", { errorCode = 251, errorLabels = transient }, retried = true, quick = true }
    end
  end
  if not alone then -- a standalone server is always writable
    list[#list + 1] = { "NotWritablePrimary", { errorCode = 10107 }, retried = true }
  end
  if long then -- the short form has the proxy close them
    list[#list + 1] = { "connection closed by the server", { closeConnection = true }, retried = true }
  end
  if WRITES[command.name] and (not case.atomic or command.name == "commitTransaction") then
    local refusal = { code = 64, errmsg = "waiting timed out" }
    list[#list + 1] = { "write concern error", { writeConcernError = refusal }, quick = true }
  end
  return list
end

--- What libmongoc or lumo sends again after one failure: everything but updates of many documents on a replica set;
--- on a standalone server, which knows no retryable writes, what comes to the same when it is done twice.
local function is_resent(case, command, alone)
  local name = case.operation[1]
  if name == "bulk update" and command.name == "update" then return false end
  return not alone or not WRITES[command.name] or not (name == "delete" or name:match("^create"))
end

local function errors_part(alone)
  for _, case in ipairs(cases()) do
    for i, command in ipairs(case.commands) do
      for _, one in ipairs(errors_for(case, command, alone)) do
        for _, times in ipairs(long and { 1, 2, 3 } or one.quick and { 1, 2 } or { 1 }) do
          local sure = times == 1 and one.retried and is_resent(case, command, alone)
          try(case, ("%s %dx at %d. %s"):format(one[1], times, i, command.name),
            fail_on(command, times, copy(one[2])), fail_nothing, sure and "succeed" or nil, alone or times > 1)
        end
      end
    end
  end
end

---- faults by the proxy

local function order(proxy, command, when, action, count)
  return function()
    local place = command.collection or "*"
    servers.write_file(proxy.orders, ("%s %s %s %s %d"):format(command.name, place, when, action, count))
  end
end

local function order_met(proxy, count)
  if not servers.exists(proxy.orders) then return nil end
  os.remove(proxy.orders)
  return count == 1 and "the fault did not happen" or nil
end

local function cut_part(list, proxy, moments, alone)
  for _, case in ipairs(list) do
    for i, command in ipairs(case.commands) do
      for _, when in ipairs(moments) do
        for _, count in ipairs(long and { 1, 2, 3 } or { 1 }) do
          local sure = count == 1 and is_resent(case, command, alone)
          try(case, ("connection cut %dx %s %d. %s"):format(count, when, i, command.name),
            order(proxy, command, when, "cut", count), function() return order_met(proxy, count) end,
            sure and "succeed" or nil, alone or count > 1)
        end
      end
    end
  end
end

-- In the short form, of the relation's operations those that send more than one write, and one of each other kind.
local SHORT = {}
for name in ("attach one;attach many;sync;toggle;detach one;exec;save;bulk update"):gmatch("[^;]+") do
  SHORT[name] = true
end

local function some_cases()
  local list = {}
  for _, case in ipairs(cases()) do
    if long or SHORT[case.operation[1]] then list[#list + 1] = case end
  end
  return list
end

local function stop_part(proxy, server, alone)
  for _, case in ipairs(some_cases()) do
    for i, command in ipairs(case.commands) do
      for _, when in ipairs { "before", "after" } do
        try(case, ("server frozen %s %d. %s"):format(when, i, command.name),
          order(proxy, command, when, "stop", 1), function()
            server:signal("CONT")
            servers.sleep(0.2) -- what it had been sent while it was frozen, it does now
            return order_met(proxy, 1)
          end, nil, alone)
      end
    end
  end
end

local function kill_part(proxy, server)
  for _, case in ipairs(some_cases()) do
    for i, command in ipairs(case.commands) do
      if long or i == 1 or i == #case.commands then
        for _, when in ipairs { "before", "after" } do
          try(case, ("server killed %s %d. %s"):format(when, i, command.name),
            order(proxy, command, when, "kill", 1), function()
              local missed = order_met(proxy, 1)
              if not missed then server:wait(true) end
              return missed
            end, nil, true) -- while it starts, it refuses more than one attempt
        end
      end
    end
  end
end

---- duplicate keys

local function index(name, keys, unique)
  truth(function(conn)
    local one = { key = lumo.ordered(keys), name = name, unique = unique }
    conn:command(lumo.ordered { { "createIndexes", "post_tags" }, { "indexes", lumo.array { one } } })
  end)
end

local function drop_index(name)
  truth(function(conn) conn:command(lumo.ordered { { "dropIndexes", "post_tags" }, { "index", name } }) end)
end

--- The _id of the row that lumo makes for a pair, found out by letting it make one.
local function derived_id(n)
  reset()
  world.Post:find(POST).tags:attach(tag(n))
  return truth(function(conn)
    local filter = { post_id = POST, tag_id = tag(n) }
    return conn:command(lumo.ordered { { "find", "post_tags" }, { "filter", filter } }).cursor.firstBatch[1]._id
  end)
end

local function keys_part()
  local four = derived_id(4)
  local all = cases()
  for _, case in ipairs(all) do
    if case.operation[1]:match("^attach") or case.operation[1]:match("^sync") or case.operation[1] == "toggle" then
      -- Another pair's row sits on the derived _id of a pair to be attached: it takes a generated one.
      local squatter = { _id = four, post_id = id(3), tag_id = tag(6), w = 5 }
      local changed = copy(case)
      changed.before = { all = copy(case.before.all) }
      changed.after = { all = copy(case.after.all) }
      local key = "pair " .. tostring(id(3)) .. " " .. tostring(tag(6))
      changed.before.all[key], changed.after.all[key] = "5", "5"
      for _, unique in ipairs { false, true } do
        if unique then index("pair", { { "post_id", 1 }, { "tag_id", 1 } }, true) end
        try(changed, "its _id taken" .. (unique and ", unique index" or ""), function()
          truth(function(conn) insert(conn, "post_tags", { squatter }) end)
        end, function() end, "succeed")
        if unique then drop_index("pair") end
      end
      -- An index of somebody else's refuses a row: the error names it, and nothing of an atomic write stays.
      reset()
      index("w", { { "w", 1 } }, true)
      local attributes = case.operation[1]:match("with attributes") or case.operation[1]:match("^sync")
      if attributes then
        local refused
        try(case, "another unique index refuses it", function()
          truth(function(conn)
            insert(conn, "post_tags", { { _id = id(300), post_id = id(3), tag_id = tag(6), w = 9 } })
          end)
          refused = true
        end, function()
          truth(function(conn)
            local gone = lumo.ordered { { "q", { _id = id(300) } }, { "limit", 1 } }
            conn:command(lumo.ordered { { "delete", "post_tags" }, { "deletes", lumo.array { gone } } })
          end)
          return not refused and "no row was there" or nil
        end)
      end
      drop_index("w")
    end
  end
end

---- step-downs

local STEP_DOWNS = [[
local lumo = require "lumo"
local uri, seconds, count = arg[1], tonumber(arg[2]), 0
local conn = lumo.connect(uri, { timeout_ms = 20000 })
local deadline = os.time() + seconds
while os.time() < deadline do
  local ok, err = pcall(conn.command, conn, lumo.ordered {
    { "replSetStepDown", 1 }, { "secondaryCatchUpPeriodSecs", 1 }, { "force", true } })
  if ok or err.code == "E_NETWORK" then count = count + 1 end
  os.execute("sleep 2") -- a new primary lives for a second or so
end
print(count)
]]

--- One writer against a set whose primary steps down again and again: no error, and the state is what a table says.
local function steps_part(set, seconds)
  reset()
  local script = os.tmpname()
  servers.write_file(script, STEP_DOWNS)
  local lua = arg[-1] or "lua5.4"
  local stepper = io.popen(("%s %s %s %d 2>&1"):format(lua, script, servers.quote(set.uri), seconds))
  local post = world.Post:find(POST)
  local model = { 1, 2, 3 } -- w by tag
  local counts = {}
  local function one(name, fn)
    local began = servers.now_ms()
    local ok, err = pcall(fn)
    local took = servers.now_ms() - began
    counts[name] = (counts[name] or 0) + 1
    verdict(name .. " during step-downs", not ok and word_of(err)
      or took > world.timeout_ms + SLACK_MS and ("took %d ms"):format(took) or nil)
  end
  local deadline = servers.now_ms() + seconds * 1000
  local n = 0
  while servers.now_ms() < deadline do
    n = n + 1
    local a, b = n % 6 + 1, (n * 5 + 2) % 6 + 1
    local tags = n % 2 == 0 and post.tags or post.loose
    one("attach", function() tags:attach { tag(a), tag(b) } end)
    model[a], model[b] = model[a] or "nil", model[b] or "nil"
    one("attach one", function() tags:attach { [tag(a)] = { w = n } } end)
    model[a] = n
    one("update_pivot_data", function() tags:update_pivot_data(tag(a), { w = n + 1 }) end)
    model[a] = n + 1
    one("toggle", function() post.tags:toggle { tag(a), tag(b) } end)
    model[a], model[b] = nil, nil
    one("sync", function() tags:sync { [tag(1)] = { w = n }, [tag(a)] = { w = n } } end)
    model = { [1] = n, [a] = n }
    one("detach", function() tags:detach(tag(a)) end)
    model[a] = nil
    one("exec", function() tags:exec() end)
    one("save", function()
      post.title = "step " .. n
      post:save()
    end)
  end
  local downs = tonumber((stepper:read("*a"):gsub("%s+$", "")))
  stepper:close()
  os.remove(script)
  verdict("there were step-downs", (not downs or downs < seconds / 10) and tostring(downs) or nil)
  local found = state()
  local expected = { all = {} }
  for key, value in pairs(found.all) do
    if not key:match("^pair " .. tostring(POST)) then expected.all[key] = value end
  end
  for i, w in pairs(model) do expected.all["pair " .. tostring(POST) .. " " .. tostring(tag(i))] = tostring(w) end
  verdict("the state after step-downs",
    found.double or not same(found, expected) and "something is lost or too much" or nil)
  verdict("the last save", found.all["post 1"] ~= ("step %d 1"):format(n) and tostring(found.all["post 1"]) or nil)
  io.write(("   %d rounds of operations, %s step-downs\n"):format(n, tostring(downs)))
end

---- the parts

local LIFE = long and 3000 or 400

local function on_set(timeout_ms, fn)
  local set = servers.replica_set(1, LIFE)
  local server = set.members[1]
  local proxy = servers.proxy(server.port, server, LIFE)
  local uri = ("mongodb://127.0.0.1:%d/%s?directConnection=true"):format(proxy.port, DATABASE)
  open(uri, server:direct(), timeout_ms)
  local ok, err = pcall(fn, proxy, server)
  proxy.remove()
  set.remove()
  return ok, err
end

local function alone(timeout_ms, fn)
  local server = servers.standalone(LIFE)
  local proxy = servers.proxy(server.port, server, LIFE)
  -- Without journal=true a standalone server acknowledges what the next kill -9 takes back.
  open(("mongodb://127.0.0.1:%d/%s?journal=true"):format(proxy.port, DATABASE), server:direct(), timeout_ms)
  local ok, err = pcall(fn, proxy, server, true)
  proxy.remove()
  server:remove()
  return ok, err
end

-- The replica set of one that users have from lumo.
local function embedded(fn, ...)
  local server = require("lumo.embedded").start { args = { "--setParameter", "enableTestCommands=1" } }
  open(server.uri, server.uri, 3000)
  local ok, err = pcall(fn, ...)
  server.stop()
  return ok, err
end

local parts = {
  ["cut-before"] = function()
    return on_set(3000, function(proxy) cut_part(cases(), proxy, { "before" }, false) end)
  end,
  ["cut-after"] = function()
    return on_set(3000, function(proxy) cut_part(cases(), proxy, { "after" }, false) end)
  end,
  ["cut-alone"] = function()
    return alone(3000, function(proxy) cut_part(some_cases(), proxy, { "before", "after" }, true) end)
  end,
  ["errors-alone"] = function() return alone(3000, function() errors_part(true) end) end,
  ["frozen"] = function() return on_set(1000, stop_part) end,
  ["frozen-alone"] = function() return alone(1000, stop_part) end,
  ["killed"] = function() return on_set(10000, kill_part) end,
  ["killed-alone"] = function() return alone(10000, kill_part) end,
  ["errors"] = function() return embedded(errors_part, false) end,
  ["keys"] = function() return embedded(keys_part) end,
  ["steps"] = function()
    local set = servers.replica_set(3, LIFE)
    open(set.uri, set.uri, 10000)
    local ok, err = pcall(steps_part, set, long and 300 or 45)
    set.remove()
    return ok, err
  end,
}

if not parts[part_name or ""] then
  local names = {}
  for name in pairs(parts) do names[#names + 1] = name end
  table.sort(names)
  error("no such part; there are: " .. table.concat(names, " "), 0)
end

local began = servers.now_ms()
local ok, problem = parts[part_name]()
if not ok then verdict("the campaign itself", tostring(problem or "broke off")) end
io.write(("   faults %s: %d s, %d calls made again because they were late\n"):format(part_name,
  math.floor((servers.now_ms() - began) / 1000), late))
io.write(("%d passed, %d failed\n"):format(passed, failed))
os.exit(failed == 0 and passed > 0 and 0 or 1)
