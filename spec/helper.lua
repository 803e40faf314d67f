-- What the specs share: a server, a fresh database per file, raw access to what is stored, other processes.
-- Specs load it by dofile("spec/helper.lua") from the project's root; all files of a run get the same helper.
--
-- LUMO_TEST_URI  a replica set started with enableTestCommands=1; without it an embedded server is used
-- LUMO_LUA       the interpreter for second processes; without it the one that runs the specs

-- busted forgets the modules that a spec file loaded when the file ends. One process has one lumo, as a
-- program has: it is kept in the registry and put back for the next file.
local registry = debug.getregistry()
local kept = registry["lumo.spec"]
if kept then
  for name, module in pairs(kept.modules) do
    package.loaded[name] = module
  end
  return kept.helper
end

local lumo = require "lumo"

local helper = { lumo = lumo, is_jit = rawget(_G, "jit") ~= nil }
kept = { helper = helper, modules = {} }

-- Called whenever the helper has loaded a part of lumo that is not loaded by `require "lumo"`.
local function keep_modules()
  for name, module in pairs(package.loaded) do
    if name == "lumo" or name:match("^lumo%.") then
      kept.modules[name] = module
    end
  end
end

keep_modules()
registry["lumo.spec"] = kept

---- the server

local function lowest_argument()
  local arguments = rawget(_G, "arg") or {}
  local lowest = 0
  while arguments[lowest - 1] do
    lowest = lowest - 1
  end
  return lowest < 0 and arguments[lowest] or nil
end

helper.interpreter = os.getenv("LUMO_LUA") or lowest_argument() or (helper.is_jit and "luajit" or "lua5.4")

--- The URI of the server that the specs share, started on first use.
function helper.uri()
  if not kept.uri then
    kept.uri = os.getenv("LUMO_TEST_URI")
    if not kept.uri or kept.uri == "" then
      local embedded = require "lumo.embedded"
      keep_modules()
      kept.server = embedded.start { args = { "--setParameter", "enableTestCommands=1" } }
      kept.uri = kept.server.uri
    end
  end
  return kept.uri
end

--- The shared server's URI with other parts: user, password, database, query (a list of "name=value").
function helper.uri_with(parts)
  local hosts, database, query = helper.uri():match("^mongodb://([^/?]+)/?([^?]*)%??(.*)$")
  hosts = hosts:gsub("^.*@", "")
  local user = parts.user and ("%s:%s@"):format(parts.user, parts.password) or ""
  local options = { query ~= "" and query or nil }
  for _, option in ipairs(parts.query or {}) do
    options[#options + 1] = option
  end
  local tail = #options > 0 and "?" .. table.concat(options, "&") or ""
  return ("mongodb://%s%s/%s%s"):format(user, hosts, parts.database or database, tail)
end

local function unique_suffix()
  local address = tostring({}):gsub("^table: 0?x?", "")
  return ("%x_%s"):format(os.time(), address:sub(-6))
end

--- Makes the default connection one to a fresh database; every spec file calls it once, at its top.
function helper.connect(name)
  helper.database = ("lumo_spec_%s_%s"):format(name, unique_suffix())
  helper.conn = lumo.connect(helper.uri(), { database = helper.database })
  return helper.conn
end

--- Forgets the models of other files, for what looks at all models: their connections may be gone.
function helper.forget_models()
  local _, by_name = debug.getupvalue(require("lumo.registry").find, 1)
  for name in pairs(by_name) do
    by_name[name] = nil
  end
end

--- For `teardown(helper.drop)`.
function helper.drop()
  helper.conn:command { dropDatabase = 1 }
end

---- what is stored, seen without models

local function command(pairs_list)
  return helper.conn:command(lumo.ordered(pairs_list))
end

helper.command = command

--- The documents of a collection as plain tables, ordered by _id unless `sort` says otherwise.
function helper.docs(collection, filter, sort)
  local reply = command {
    { "find", collection },
    { "filter", filter or {} },
    { "sort", sort or { _id = 1 } },
    { "batchSize", 100000 },
  }
  return reply.cursor.firstBatch
end

function helper.doc(collection, filter)
  local found = helper.docs(collection, filter)
  if #found ~= 1 then
    error(("expected one document in %s, found %d"):format(collection, #found), 2)
  end
  return found[1]
end

function helper.aggregate(collection, pipeline)
  local reply = command {
    { "aggregate", collection }, { "pipeline", lumo.array(pipeline) }, { "cursor", { batchSize = 100000 } },
  }
  return reply.cursor.firstBatch
end

local function check_write(reply)
  if reply.writeErrors then
    error("the raw write failed: " .. tostring(reply.writeErrors[1].errmsg), 3)
  end
  return reply
end

function helper.insert(collection, documents)
  return check_write(command { { "insert", collection }, { "documents", lumo.array(documents) } })
end

--- `update` is a document, or a list of stages in lumo.array.
function helper.update(collection, filter, update)
  local statement = lumo.ordered { { "q", filter }, { "u", update }, { "multi", true } }
  return check_write(command { { "update", collection }, { "updates", lumo.array { statement } } })
end

function helper.delete(collection, filter)
  local statement = lumo.ordered { { "q", filter }, { "limit", 0 } }
  return check_write(command { { "delete", collection }, { "deletes", lumo.array { statement } } })
end

--- Empties collections.
function helper.clear(...)
  for _, collection in ipairs { ... } do
    helper.delete(collection, {})
  end
end

--- keys: a list of { field, direction }; options: name (default: made of the fields), unique, sparse.
function helper.create_index(collection, keys, options)
  local names = {}
  for i, key in ipairs(keys) do
    names[i] = key[1]
  end
  local index = { key = lumo.ordered(keys), name = table.concat(names, "_") }
  for name, value in pairs(options or {}) do
    index[name] = value
  end
  command { { "createIndexes", collection }, { "indexes", lumo.array { index } } }
end

--- The indexes of a collection as { ["post_id,tag_id"] = { unique = boolean } }, fields in their order.
function helper.indexes(collection)
  local unique = {}
  for _, index in ipairs(command { { "listIndexes", collection } }.cursor.firstBatch) do
    unique[index.name] = index.unique == true
  end
  local found = {}
  for _, index in ipairs(helper.aggregate(collection, {
    { ["$indexStats"] = {} },
    { ["$project"] = { name = 1, fields = { ["$objectToArray"] = "$key" } } },
  })) do
    local fields = {}
    for i, field in ipairs(index.fields) do
      fields[i] = field.k
    end
    found[table.concat(fields, ",")] = { unique = unique[index.name] }
  end
  return found
end

--- The BSON type of a stored field, as the server names it: "int", "long", "double", "missing", …
function helper.type_of(collection, filter, field)
  local rows = helper.aggregate(collection, {
    { ["$match"] = filter },
    { ["$project"] = { type = { ["$type"] = "$" .. field } } },
  })
  return rows[1].type
end

--- The names of a stored document's fields, in their order.
function helper.field_order(collection, filter)
  local rows = helper.aggregate(collection, {
    { ["$match"] = filter },
    { ["$project"] = { fields = { ["$objectToArray"] = "$$ROOT" } } },
  })
  local names = {}
  for i, field in ipairs(rows[1].fields) do
    names[i] = field.k
  end
  return names
end

--- Rewrites a stored field with an operator such as "$toDouble".
function helper.convert(collection, filter, field, operator)
  local stage = { ["$set"] = { [field] = { [operator] = "$" .. field } } }
  helper.update(collection, filter, lumo.array { stage })
end

---- errors

local function code_of(err)
  local kind = type(err)
  if kind ~= "table" and kind ~= "userdata" then
    return nil
  end
  local ok, code = pcall(function() return err.code end)
  return ok and code or nil
end

--- Calls `fn`, which must raise an error object with this code (or one of a list of codes); returns it.
function helper.expect_error(codes, fn, ...)
  if type(codes) == "string" then
    codes = { codes }
  end
  local ok, err = pcall(fn, ...)
  local wanted = table.concat(codes, " or ")
  if ok then
    error(("expected %s, but nothing was raised"):format(wanted), 2)
  end
  for _, code in ipairs(codes) do
    if code_of(err) == code then
      return err
    end
  end
  error(("expected %s, got %s: %s"):format(wanted, tostring(code_of(err)), tostring(err)), 2)
end

---- commands

--- How many commands `fn` sent, and their names ("find", "insert", "commitTransaction") in order.
function helper.commands(fn)
  local count, list = lumo.count_commands(fn)
  local names = {}
  for i, entry in ipairs(list) do
    names[i] = type(entry) == "string" and entry or entry.name
  end
  if count ~= #names then
    error(("count_commands says %s, but lists %d"):format(tostring(count), #names), 2)
  end
  return count, names
end

function helper.expect_commands(expected, fn)
  local count, names = helper.commands(fn)
  if count ~= expected then
    error(("expected %d commands, but sent %d: %s"):format(expected, count, table.concat(names, " ")), 2)
  end
end

--- At most `most` commands beside commits, and at most `commits` of those (default 0).
function helper.expect_at_most(most, commits, fn)
  local count, names = helper.commands(fn)
  local committed = 0
  for _, name in ipairs(names) do
    if name == "commitTransaction" then
      committed = committed + 1
    end
  end
  if count - committed > most or committed > (commits or 0) then
    error(("expected at most %d commands and %d commits, but sent: %s"):format(most, commits or 0,
      table.concat(names, " ")), 2)
  end
end

--- `fn` must raise one of the codes, and must not have sent anything.
function helper.expect_refused(codes, fn)
  local err
  local count, names = helper.commands(function()
    err = helper.expect_error(codes, fn)
  end)
  if count ~= 0 then
    error("expected a refusal before any command, but sent: " .. table.concat(names, " "), 2)
  end
  return err
end

---- ids

--- The texts of a list of ids.
function helper.texts(ids)
  local texts = {}
  for i, id in ipairs(ids) do
    texts[i] = tostring(id)
  end
  return texts
end

--- The texts of a list of ids, sorted.
function helper.sorted(ids)
  local texts = helper.texts(ids)
  table.sort(texts)
  return texts
end

--- One field of each element of a list.
function helper.pluck(list, field)
  local values = {}
  for i, element in ipairs(list) do
    values[i] = element[field]
  end
  return values
end

--- Reads values for reading's sake.
function helper.touch(...)
  return select("#", ...)
end

---- time, files and processes

--- Milliseconds of wall clock.
function helper.now_ms()
  return lumo.datetime.now().ms
end

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

helper.quote = quote

function helper.write_file(bytes)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  assert(file:write(bytes))
  assert(file:close())
  return path
end

function helper.shell(line)
  local pipe = assert(io.popen(line, "r"))
  local output = pipe:read("*a")
  pipe:close()
  return output
end

--- SHA-256 of bytes as 64 hex digits, by the system's own tool.
function helper.sha256(bytes)
  local path = helper.write_file(bytes)
  local digest = helper.shell("sha256sum < " .. quote(path)):match("^%x+")
  os.remove(path)
  if not digest or #digest ~= 64 then
    error("sha256sum gave no digest")
  end
  return digest
end

local Process = {}
Process.__index = Process

--- Starts a Lua script in a second process with `...` as arguments; `environment` goes before the command.
function helper.spawn(script, environment, ...)
  local path = helper.write_file(script)
  local words = { environment or "", quote(helper.interpreter), quote(path) }
  for _, argument in ipairs { ... } do
    words[#words + 1] = quote(argument)
  end
  words[#words + 1] = "2>&1; echo exit:$?"
  return setmetatable({ path = path, pipe = assert(io.popen(table.concat(words, " "), "r")) }, Process)
end

--- What the process wrote to both outputs, and its exit status.
function Process:wait()
  local output = self.pipe:read("*a")
  self.pipe:close()
  os.remove(self.path)
  local text, status = output:match("^(.*)exit:(%d+)%s*$")
  return text, tonumber(status)
end

--- Runs a script to its end, which must be a good one; returns its output.
function helper.run(script, environment, ...)
  local output, status = helper.spawn(script, environment, ...):wait()
  if status ~= 0 then
    error("the second process failed: " .. tostring(output), 2)
  end
  return output
end

---- servers of a spec's own

local Mongod = {}
Mongod.__index = Mongod

--- A standalone mongod in a temporary folder, of the same program that the shared server runs. `timeout`
--- ends it should the spec die before it can.
function helper.start_mongod()
  local pid = helper.conn:command({ serverStatus = 1 }).pid
  local program = helper.shell(("readlink /proc/%s/exe"):format(tostring(pid):match("%d+")))
  program = program:gsub("%s+$", "")
  local folder = helper.shell("mktemp -d"):gsub("%s+$", "")
  local port
  repeat -- below the ports that the system hands out; LuaJIT's math.random would give every process the same
    port = 20000 + tonumber((helper.shell("od -An -N4 -tu4 /dev/urandom"):match("%d+"))) % 12000
  until helper.shell(("bash -c '</dev/tcp/127.0.0.1/%d' 2>/dev/null && echo taken"):format(port)) == ""
  local server = setmetatable({ program = program, folder = folder, port = port }, Mongod)
  server.address = "mongodb://127.0.0.1:" .. port
  server:start()
  return server
end

--- Starts it on its port and waits until it answers.
function Mongod:start()
  helper.shell(("timeout 120 %s --dbpath %s --port %d --bind_ip 127.0.0.1 --nounixsocket --pidfilepath %s/pid"
    .. " --wiredTigerCacheSizeGB 0.25 >%s/log 2>&1 &")
    :format(quote(self.program), quote(self.folder), self.port, self.folder, self.folder))
  local probe = lumo.connect(self.address, {
    name = "spec probe " .. self.port, database = "probe", timeout_ms = 30000,
  })
  probe:ping()
  probe:close()
  self.pid = helper.shell(("cat %s/pid"):format(self.folder)):match("%d+")
end

function Mongod:stop()
  if self.pid then
    -- A zombie has stopped too: nobody may be there to reap it.
    helper.shell(("kill %s; while grep -qs '^State:[^Z]*$' /proc/%s/status; do sleep 0.02; done")
      :format(self.pid, self.pid))
    self.pid = nil
  end
end

--- Sends a signal, for example "STOP" or "CONT".
function Mongod:signal(name)
  helper.shell(("kill -%s %s"):format(name, self.pid))
end

--- Stops it and removes its folder.
function Mongod:remove()
  self:stop()
  helper.shell("rm -rf " .. quote(self.folder))
end

return helper
