-- The chaos campaign: eight processes attach, detach, sync, toggle and update pairs at random, create, save, find or
-- create related records, and sync in turn, on a parent of their own each and on shared ones, while processes and the
-- server are killed at random. Every process writes down what it is about to do and what it was told; what is stored in
-- the end must agree with that.
--
--   lua spec/campaign/chaos.lua [--long]
--
-- It runs on a replica set and on a standalone server, each with and without the unique index, and ends with
-- "N passed, N failed".
local lumo = require "lumo"
local core = require "lumo.core"
local unpack = table.unpack or unpack

local DATABASE, WORKERS, TAGS, COUPLES = "chaos", 8, 10, 4
local SHARED = { 101, 102, 103 } -- parents that all processes write
local COUPLED = 110 -- a shared parent where tags 1 and 2, 3 and 4, … only ever change together
local MADE, FIRST, TURNS = 120, 121, 122 -- shared parents whose related records are made; that is synced in turn
local RELATIONS = { [MADE] = "made", [FIRST] = "made", [TURNS] = "turns" }

local function id(n) return lumo.objectid(("%024x"):format(n)) end
local function number_of(one) return tonumber(tostring(one):sub(-6), 16) end

local function define()
  local function over(pivot, serial)
    return lumo.many_to_many("ChaosTag", {
      pivot_table = pivot, pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
      pivot_columns = { "w" }, serial = serial,
    })
  end
  return lumo.model("ChaosPost", {
    collection = "posts", columns = { title = "string", version = "integer" },
    relations = { tags = over("post_tags"), made = over("made_tags"), turns = over("turn_tags", "version") },
  }), lumo.model("ChaosTag", { collection = "tags", columns = { name = "string" } })
end

---- what an operation does to a state (a map from tag to its attribute, 0 where it has none)
--
-- An operation is { name, ids, w }; w 0: without attributes.

local function effect(operation, before)
  local name, w = operation.name, operation.w
  local after, told = {}, { attached = {}, updated = {}, unchanged = {}, detached = {} }
  local given = {}
  for tag, value in pairs(before) do after[tag] = value end
  for _, tag in ipairs(operation.ids) do
    given[tag] = true
    local here = before[tag] ~= nil
    if name == "detach" or name == "toggle" and here then
      after[tag] = nil
      if here then table.insert(told.detached, tag) end
    elseif name == "update" then
      if here then
        after[tag] = w
        table.insert(told.updated, tag)
      end
    elseif not here then
      after[tag] = w
      table.insert(told.attached, tag)
    elseif w ~= 0 and before[tag] ~= w then
      after[tag] = w
      table.insert(told.updated, tag)
    else
      table.insert(told.unchanged, tag)
    end
  end
  for tag in pairs(before) do
    if name == "sync" and not given[tag] then
      after[tag] = nil
      table.insert(told.detached, tag)
    end
  end
  return after, told
end

local LISTS = { "attached", "updated", "unchanged", "detached" }

local function list_text(list)
  table.sort(list)
  return table.concat(list, ",")
end

local function told_text(told)
  local words = {}
  for i, name in ipairs(LISTS) do words[i] = name .. "=" .. list_text(told[name]) end
  return table.concat(words, " ")
end

local function state_text(state)
  local words = {}
  for tag = 1, TAGS do
    if state[tag] then words[#words + 1] = tag .. ":" .. state[tag] end
  end
  return #words > 0 and table.concat(words, ",") or "-"
end

local function parse_state(text)
  local state = {}
  for tag, w in text:gmatch("(%d+):(%d+)") do state[tonumber(tag)] = tonumber(w) end
  return state
end

---- a process

local function pick_ids(most)
  local ids, seen = {}, {}
  for _ = 1, math.random(most) do
    local tag = math.random(TAGS)
    if not seen[tag] then
      seen[tag] = true
      ids[#ids + 1] = tag
    end
  end
  return ids
end

local function pick(parent, stamp)
  if parent == MADE then return { name = math.random(2) == 1 and "create" or "save", ids = { stamp }, w = stamp } end
  if parent == FIRST then return { name = "first", ids = { math.random(TAGS) }, w = stamp } end
  if parent == TURNS then return { name = "turn", ids = pick_ids(5), w = stamp } end
  if parent == COUPLED then -- only what a transaction makes whole
    local ids, w = {}, stamp
    local name = ({ "attach", "sync", "toggle" })[math.random(3)]
    for couple = 1, COUPLES do
      if math.random(2) == 1 then ids[#ids + 1], ids[#ids + 2] = couple * 2 - 1, couple * 2 end
    end
    if #ids == 0 then ids = { 1, 2 } end
    return { name = name, ids = ids, w = name == "toggle" and 0 or w }
  end
  local name = ({ "attach", "attach", "detach", "sync", "toggle", "update" })[math.random(6)]
  local w = (name == "update" or (name ~= "detach" and name ~= "toggle" and math.random(2) == 1)) and stamp or 0
  local ids = pick_ids((name == "update" or name == "detach") and 1 or 5)
  return { name = name, ids = ids, w = w }
end

local function argument_of(operation)
  local argument = {}
  for i, tag in ipairs(operation.ids) do
    if operation.w ~= 0 then argument[id(tag)] = { w = operation.w } else argument[i] = id(tag) end
  end
  return argument
end

--- What makes a related record and its pair; w of the pair tells who was first. A text when it is one of those.
local function make(tags, operation, Tag)
  local name, attributes = "m" .. operation.ids[1], { w = operation.w }
  if operation.name == "create" then
    tags:create({ name = name }, attributes)
  elseif operation.name == "save" then
    tags:save(Tag:new { name = name }, attributes)
  elseif operation.name == "first" then
    tags:first_or_create({ name = "f" .. operation.ids[1] }, nil, attributes)
  elseif operation.name == "turn" then
    tags:sync(argument_of(operation))
  else
    return nil
  end
  return "done"
end

--- Runs it; gives what it was told as text.
local function apply(tags, operation, Tag)
  local made = make(tags, operation, Tag)
  if made then return made end
  local told = { attached = {}, updated = {}, unchanged = {}, detached = {} }
  if operation.name == "detach" then
    if tags:detach(id(operation.ids[1])) > 0 then told.detached = { operation.ids[1] } end
  elseif operation.name == "update" then
    if tags:update_pivot_data(id(operation.ids[1]), { w = operation.w }) then told.updated = { operation.ids[1] } end
  else
    local result = tags[operation.name](tags, argument_of(operation))
    for _, name in ipairs(LISTS) do
      for i, one in ipairs(result[name]) do told[name][i] = number_of(one) end
    end
  end
  return told_text(told)
end

--- Runs it; gives what it was told as text, and whether more is done than it tells: the answer to an attempt was lost,
--- and lumo itself made the next one. libmongoc makes the first such for an operation that the server knows by number.
local function perform(tags, operation, numbered, Tag)
  local told
  local _, commands = lumo.count_commands(function() told = apply(tags, operation, Tag) end)
  local broken = 0
  for _, command in ipairs(commands) do
    if command.failed then broken = broken + 1 end
  end
  return told, broken > ((numbered and operation.name ~= "detach") and 1 or 0)
end

local function read_state(conn, parent)
  local reply = conn:command(lumo.ordered {
    { "find", "post_tags" }, { "filter", { post_id = id(parent) } }, { "batchSize", 1000 } })
  local state, double = {}, nil
  for _, row in ipairs(reply.cursor.firstBatch) do
    local tag = number_of(row.tag_id)
    if state[tag] then double = tag end
    state[tag] = row.w or 0
  end
  return state, double
end

--- worker URI NUMBER COUNT FIRST LOG SEED: `count` operations, numbered from `first`.
local function worker(uri, number, count, first, log_path, seed)
  number, count, first = tonumber(number), tonumber(count), tonumber(first)
  math.randomseed(tonumber(seed))
  local conn = lumo.connect(uri, { database = DATABASE, timeout_ms = 20000 })
  local Post, Tag = define()
  local log = assert(io.open(log_path, "a"))
  log:setvbuf("no") -- a line is one write: it outlives a kill
  local function say(...)
    log:write(table.concat({ ... }, " ") .. "\n")
  end
  local function say_state(parent)
    for attempt = 1, 10 do
      local ok, state = pcall(read_state, conn, parent)
      if ok then return say("STATE", parent, state_text(state)) end
      if attempt == 10 then error(state, 0) end
    end
  end
  local own = number
  local posts = {}
  for _, parent in ipairs { own, COUPLED, MADE, FIRST, TURNS, unpack(SHARED) } do
    repeat
      local ok, post = pcall(Post.find, Post, id(parent))
      posts[parent] = ok and post
    until posts[parent]
  end
  say_state(own)
  for n = first, first + count - 1 do
    core.pause(math.random(0, 60))
    local kind = math.random(13)
    local parent = kind <= 4 and own or kind <= 6 and COUPLED or kind <= 10 and SHARED[math.random(#SHARED)]
      or kind == 11 and MADE or kind == 12 and FIRST or TURNS
    local operation = pick(parent, n * 10 + number)
    say("DO", n, parent, operation.name, operation.w, table.concat(operation.ids, ","))
    local ok, told, doubtful = pcall(perform, posts[parent][RELATIONS[parent] or "tags"], operation,
      uri:find("replicaSet=") ~= nil, Tag)
    if ok then
      say(doubtful and "PERHAPS" or "TOLD", n, told)
    else
      say("ERROR", n, told.code or "none", told.outcome or "nil", (tostring(told):gsub("\n", " ")))
      if parent == own then say_state(own) end
    end
  end
  say("END")
end

---- the judge

local passed, failed = 0, 0
local function verdict(name, problem)
  if problem then
    failed = failed + 1
    io.write(("FAILED chaos: %s: %s\n"):format(name, problem))
  else
    passed = passed + 1
  end
  io.stdout:flush()
end

--- Operations that more than one storage transaction makes, unless lumo opens one around them.
local function is_whole(operation, transactions)
  if #operation.ids <= 1 and operation.name ~= "sync" then return true end
  if operation.name == "attach" and operation.w == 0 or operation.name == "detach" then return false end
  return transactions
end

local function fits(found, before, operation, transactions)
  local after = effect(operation, before)
  local text = state_text(found)
  if text == state_text(before) or text == state_text(after) then return true end
  if is_whole(operation, transactions) then return false end
  for tag = 1, TAGS do
    if found[tag] ~= before[tag] and found[tag] ~= after[tag] then return false end
  end
  return true
end

--- Every operation of a log: { n, parent, name, w, ids, answer = "TOLD" …, told, outcome, state }.
local function read_log(path)
  local list = {}
  for line in io.lines(path) do
    local n, parent, name, w, ids = line:match("^DO (%d+) (%d+) (%a+) (%d+) ([%d,]+)$")
    if n then
      local entry = { n = tonumber(n), parent = tonumber(parent), name = name, w = tonumber(w), ids = {} }
      for tag in ids:gmatch("%d+") do table.insert(entry.ids, tonumber(tag)) end
      list[#list + 1] = entry
    elseif line:match("^TOLD") or line:match("^PERHAPS") then
      local last = list[#list]
      last.answer, last.told = line:match("^(%a+) %d+ (.*)$")
    elseif line:match("^ERROR") then
      local last = list[#list]
      last.answer, last.code, last.outcome, last.words = line:match("^(%a+) %d+ (%S+) (%S+) (.*)$")
    elseif line:match("^STATE") then
      list[#list + 1] = { state = parse_state(line:match("^STATE %d+ (.*)$")) }
    end
  end
  return list
end

local ERRORS = { E_NETWORK = true, E_TIMEOUT = true, E_SERVER = true, E_WRITE = true }

--- A parent of its own: each answer and the state are exactly what the operations before have made.
local function judge_own(name, list, own, final, transactions)
  local state, open, exact = {}, nil, 0
  local function settle(found)
    if open then
      local certain = open.answer == "ERROR" and (open.outcome == "nil" or open.outcome == "not_applied")
      if certain and state_text(found) ~= state_text(state) then
        return ("operation %d was said to be not applied (%s), but changed %s to %s"):format(open.n, open.words,
          state_text(state), state_text(found))
      elseif not certain and not fits(found, state, open, transactions) then
        return ("operation %d (%s %s) left %s of %s"):format(open.n, open.name, table.concat(open.ids, ","),
          state_text(found), state_text(state))
      end
    elseif state_text(found) ~= state_text(state) then
      return ("acknowledged %s, stored %s"):format(state_text(state), state_text(found))
    end
    state, open = found, nil
  end
  for _, entry in ipairs(list) do
    if entry.state then
      local problem = settle(entry.state)
      if problem then return verdict(name, problem) end
    elseif entry.parent == own and entry.answer == "TOLD" then
      local after, told = effect(entry, state)
      if told_text(told) ~= entry.told then
        return verdict(name, ("operation %d (%s %s) on %s was told %s"):format(entry.n, entry.name,
          table.concat(entry.ids, ","), state_text(state), entry.told))
      end
      state, exact = after, exact + 1
    elseif entry.parent == own and entry.answer == "PERHAPS" then
      state = effect(entry, state)
    elseif entry.parent == own then
      open = entry
    end
  end
  verdict(name, settle(final))
  return exact
end

--- Shared parents: what was told to be attached less what was told to be detached is what is there, but for the
--- operations of which nobody knows.
local function judge_sum(name, logs, parent, final, transactions)
  local net, unknown, all_unknown = {}, {}, 0
  for tag = 1, TAGS do net[tag], unknown[tag] = 0, 0 end
  for _, list in ipairs(logs) do
    for _, entry in ipairs(list) do
      if entry.parent == parent and entry.answer == "TOLD" then
        for tag in entry.told:match("attached=([%d,]*)"):gmatch("%d+") do
          net[tonumber(tag)] = net[tonumber(tag)] + 1
        end
        for tag in entry.told:match("detached=([%d,]*)$"):gmatch("%d+") do
          net[tonumber(tag)] = net[tonumber(tag)] - 1
        end
      elseif entry.parent == parent and not (entry.answer == "ERROR" and entry.outcome ~= "unknown"
        and entry.outcome ~= "applied") then
        if entry.name == "sync" then all_unknown = all_unknown + 1 end
        for _, tag in ipairs(entry.ids) do
          if entry.name ~= "sync" then unknown[tag] = unknown[tag] + 1 end
        end
      end
    end
  end
  local problem
  for tag = 1, TAGS do
    local doubt = unknown[tag] + all_unknown
    local off = (final[tag] and 1 or 0) - net[tag]
    -- Without a transaction two processes can both tell that they detached a row.
    if off < -doubt or transactions and off > doubt then
      problem = ("tag %d: %d told, which is off by %d, with %d operations in doubt"):format(tag, net[tag], off, doubt)
    end
  end
  verdict(name, problem)
end

--- All documents of a collection.
local function read_all(conn, collection)
  return conn:command(lumo.ordered {
    { "find", collection }, { "filter", {} }, { "batchSize", 100000 } }).cursor.firstBatch
end

--- Who has answered how to the operations on a parent: told, refused without a trace, or nobody knows.
local function entries_of(logs, parent)
  local told, refused, doubtful = {}, {}, {}
  for _, list in ipairs(logs) do
    for _, entry in ipairs(list) do
      if entry.parent == parent then
        local into = (entry.answer == "TOLD" or entry.answer == "PERHAPS") and told or doubtful
        if entry.answer == "ERROR" and (entry.outcome == "nil" or entry.outcome == "not_applied") then into = refused end
        into[#into + 1] = entry
      end
    end
  end
  return told, refused, doubtful
end

--- Made records: what was told is there, with one pair; what was refused is not; a record without its pair is there
--- only where no transaction has made both.
local function judge_made(name, conn, logs, transactions)
  local tags, rows, problem = {}, {}, nil
  for _, tag in ipairs(read_all(conn, "tags")) do
    if tags[tag.name] then problem = "two records are called " .. tag.name end
    tags[tag.name] = tostring(tag._id)
  end
  for _, row in ipairs(read_all(conn, "made_tags")) do
    local key = number_of(row.post_id) .. " " .. tostring(row.tag_id)
    if rows[key] then problem = "a pair is there twice" end
    rows[key] = row
  end
  local function has_pair(parent, tag) return tags[tag] and rows[parent .. " " .. tags[tag]] ~= nil end
  for parent, letter in pairs { [MADE] = "m", [FIRST] = "f" } do
    local told, refused, doubtful = entries_of(logs, parent)
    for _, entry in ipairs(told) do
      local tag = letter .. entry.ids[1]
      if not has_pair(parent, tag) then problem = ("%s was told, but is not there with its pair"):format(tag) end
    end
    for _, entry in ipairs(parent == MADE and refused or {}) do
      local tag = letter .. entry.ids[1]
      if tags[tag] then problem = ("%s was refused (%s), but is there"):format(tag, entry.words) end
    end
    for _, entry in ipairs(doubtful) do
      local tag = letter .. entry.ids[1]
      if transactions and tags[tag] and not has_pair(parent, tag) then problem = tag .. " has no pair" end
    end
  end
  verdict(name, problem)
end

--- Syncs that take turns: what is there is what one of them has wanted, whole; and each has counted once.
local function judge_turns(name, conn, logs)
  local told, _, doubtful = entries_of(logs, TURNS)
  local found, known = {}, #told == 0 and { ["-"] = true } or {}
  for _, row in ipairs(read_all(conn, "turn_tags")) do
    if number_of(row.post_id) == TURNS then found[number_of(row.tag_id)] = row.w end
  end
  for _, list in ipairs { told, doubtful } do
    for _, entry in ipairs(list) do
      local state = {}
      for _, tag in ipairs(entry.ids) do state[tag] = entry.w end
      known[state_text(state)] = true
    end
  end
  verdict(name, not known[state_text(found)] and state_text(found) .. " is what no sync has wanted" or nil)
  local version = 0
  for _, post in ipairs(read_all(conn, "posts")) do
    if number_of(post._id) == TURNS then version = post.version or 0 end
  end
  verdict(name .. ", counted", (version < #told or version > #told + #doubtful)
    and ("%d turns were told, %d are in doubt, but %d counted"):format(#told, #doubtful, version) or nil)
end

local function judge(config, conn, logs, transactions)
  local exact, errors, doubts, count = 0, {}, 0, 0
  for _, list in ipairs(logs) do
    for _, entry in ipairs(list) do
      if entry.n then count = count + 1 end
      if entry.n and (not entry.answer or entry.outcome == "unknown") then doubts = doubts + 1 end
      if entry.code then
        errors[entry.code] = (errors[entry.code] or 0) + 1
        if not ERRORS[entry.code] then verdict(config .. ", an error", entry.code .. " " .. entry.words) end
      end
    end
  end
  local doubles = conn:command(lumo.ordered {
    { "aggregate", "post_tags" },
    { "pipeline", lumo.array {
      { ["$group"] = { _id = { p = "$post_id", t = "$tag_id" }, n = { ["$sum"] = 1 } } },
      { ["$match"] = { n = { ["$gt"] = 1 } } } } },
    { "cursor", {} } }).cursor.firstBatch
  verdict(config .. ", no pair twice", #doubles > 0 and #doubles .. " pairs are there twice" or nil)
  for number, list in ipairs(logs) do
    local name, found = config .. ", parent " .. number, read_state(conn, number)
    exact = exact + (judge_own(name, list, number, found, transactions) or 0)
  end
  for _, parent in ipairs { COUPLED, unpack(SHARED) } do
    judge_sum(("%s, sum of parent %d"):format(config, parent), logs, parent, read_state(conn, parent), transactions)
  end
  judge_made(config .. ", made records", conn, logs, transactions)
  if transactions then
    judge_turns(config .. ", turns", conn, logs)
    local found, problem = read_state(conn, COUPLED), nil
    for couple = 1, COUPLES do
      local a, b = found[couple * 2 - 1], found[couple * 2]
      if a ~= b then problem = ("couple %d is half done: %s and %s"):format(couple, tostring(a), tostring(b)) end
    end
    verdict(config .. ", couples", problem)
  end
  local words = {}
  for code, n in pairs(errors) do words[#words + 1] = n .. " " .. code end
  table.sort(words)
  io.write(("   %s: %d operations (%d checked exactly, %d in doubt); errors: %s\n"):format(config, count, exact, doubts,
    #words > 0 and table.concat(words, ", ") or "none"))
end

---- the killer

local function campaign(long)
  local servers = dofile("spec/campaign/servers.lua")
  local shell = servers.shell
  local interpreter = arg[-1] or "lua5.4"

  local function fill(server, unique)
    local conn = lumo.connect(server:direct(), { name = "chaos", database = DATABASE, timeout_ms = 30000 })
    local posts, tags = {}, {}
    for number = 1, WORKERS do posts[number] = { _id = id(number), title = "own" } end
    for _, parent in ipairs { COUPLED, MADE, FIRST, TURNS, unpack(SHARED) } do
      posts[#posts + 1] = { _id = id(parent), title = "shared" }
    end
    for tag = 1, TAGS do tags[tag] = { _id = id(tag), name = "t" .. tag } end
    conn:command(lumo.ordered { { "insert", "posts" }, { "documents", lumo.array(posts) } })
    conn:command(lumo.ordered { { "insert", "tags" }, { "documents", lumo.array(tags) } })
    local index = { key = lumo.ordered { { "post_id", 1 }, { "tag_id", 1 } }, name = "pair", unique = unique }
    for _, pivot in ipairs { "post_tags", "made_tags", "turn_tags" } do
      conn:command(lumo.ordered { { "createIndexes", pivot }, { "indexes", lumo.array { index } } })
    end
    index = { key = { name = 1 }, name = "name", unique = true }
    conn:command(lumo.ordered { { "createIndexes", "tags" }, { "indexes", lumo.array { index } } })
    return conn
  end

  local function lines_of(path, pattern)
    return tonumber(shell(("grep -c '%s' %s || true"):format(pattern, path))) or 0
  end

  local function run(config, server, uri, transactions, unique, count)
    local conn = fill(server, unique)
    local folder = shell("mktemp -d")
    local each, pids, kills, downs = math.ceil(count / WORKERS), {}, 0, 0
    local function log_of(number) return ("%s/%d.log"):format(folder, number) end
    local function start(number)
      local done = servers.exists(log_of(number)) and lines_of(log_of(number), "^DO ") or 0
      os.execute(("echo START >>%s"):format(log_of(number))) -- an operation under it is this process's
      local pidfile = ("%s/%d.pid"):format(folder, number)
      local words = ("%s spec/campaign/chaos.lua worker \"%s\" %d %d %d %s %d"):format(interpreter, uri, number,
        each - done, done + 1, log_of(number), math.random(2 ^ 30))
      os.execute(("timeout 3000 sh -c 'echo $$ >%s; exec %s' >>%s/out 2>&1 &"):format(pidfile, words, folder))
      repeat servers.sleep(0.01) until servers.exists(pidfile) and shell("cat " .. pidfile) ~= ""
      pids[number] = shell(("cat %s; rm %s"):format(pidfile, pidfile))
    end
    local function alive(number)
      return shell(("kill -0 %s 2>/dev/null && ! grep -qs '^State:.Z' /proc/%s/status && echo yes")
        :format(pids[number], pids[number])) == "yes"
    end
    local function begun()
      local sum = 0
      for number = 1, WORKERS do sum = sum + lines_of(log_of(number), "^DO ") end
      return sum
    end
    for number = 1, WORKERS do start(number) end
    local next_down, at_least, broken = servers.now_ms() + 700, WORKERS, nil
    repeat
      servers.sleep(0.03)
      local running = {}
      for number = 1, WORKERS do
        if alive(number) then
          running[#running + 1] = number
        elseif lines_of(log_of(number), "^DO ") < each then
          start(number)
          running[#running + 1] = number
        end
      end
      for _, number in ipairs(running) do -- one that is in the middle of an operation
        if math.random(4) == 1 and shell("tail -n 1 " .. log_of(number) .. " 2>/dev/null"):match("^DO") then
          os.execute(("kill -9 %s 2>/dev/null"):format(pids[number]))
          kills = kills + 1
          break
        end
      end
      -- On a busy machine it takes long until the server is there again and all have found it.
      if #running > 0 and servers.now_ms() > next_down and begun() >= at_least then
        server:kill()
        server:start()
        downs = downs + 1
        next_down, at_least = servers.now_ms() + 1500 + math.random(2500), begun() + 2 * WORKERS
      end
      -- libmongoc complains of a file that an earlier process of that number left when it was killed.
      local output = shell(("grep -v -e Killed -e counters %s/out 2>/dev/null || true"):format(folder))
      if output ~= "" then broken = output end
    until #running == 0 or broken
    server:wait(true)
    servers.sleep(4) -- transactions of killed processes end
    verdict(config .. ", the processes", broken)
    local logs = {}
    for number = 1, WORKERS do logs[number] = read_log(log_of(number)) end
    judge(config, conn, logs, transactions)
    io.write(("   %s: %d processes and the server %d times killed\n"):format(config, kills, downs))
    conn:close()
    if failed == 0 then
      os.execute("rm -rf " .. folder)
    else
      io.write("   logs: " .. folder .. "\n")
    end
  end

  local count = long and 10000 or 250
  local life = long and 3000 or 300
  for _, unique in ipairs { true, false } do
    local suffix = unique and ", unique index" or ", no unique index"
    local set = servers.replica_set(1, life)
    local uri = ("mongodb://%s/%s?replicaSet=%s"):format(set.members[1].host, DATABASE, set.name)
    run("replica set" .. suffix, set.members[1], uri, true, unique, count)
    set.remove()
    -- Without journal=true a standalone server acknowledges what the next kill -9 takes back.
    local alone = servers.standalone(life)
    uri = ("mongodb://%s/%s?journal=true"):format(alone.host, DATABASE)
    run("standalone" .. suffix, alone, uri, false, unique, count)
    alone:remove()
  end
  io.write(("%d passed, %d failed\n"):format(passed, failed))
  os.exit(failed == 0 and passed > 0 and 0 or 1)
end

if arg[1] == "worker" then
  worker(unpack(arg, 2))
else
  campaign(arg[1] == "--long")
end
