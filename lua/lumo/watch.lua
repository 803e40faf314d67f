--- Change streams: what happens to the documents of a model, or to the pairs of a relation, as it happens.
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local errors = require "lumo.errors"
local names = require "lumo.names"
local records = require "lumo.record"
local registry = require "lumo.registry"
local run = require "lumo.run"
local transactions = require "lumo.transaction"
local values = require "lumo.values"
local raise = errors.raise

local watch = {}

local NO_CHANGE_STREAMS = 40573 -- the server's code where there is no replica set
local CURSOR_NOT_FOUND = 43 -- from a server that cannot tell that it was a change stream's
local AWAIT_MS = 1000

---@class lumo.Stream
---@field resume_token string|nil where a stream opened with `resume_after` goes on: behind the last event given
local Stream = {}
Stream.__index = Stream
Stream.__name = "lumo.stream"

---@class lumo.Event
---@field type string "insert" "update" "replace" "delete" "drop" "rename" "invalidate"; of a relation "attached",
--- "detached" and "pivot_updated" in place of the first four
---@field token string for `resume_after`: the stream goes on behind this event
---@field at lumo.datetime|nil when it happened, by the server's clock
---@field id any the primary key of the document
---@field record lumo.Record|nil the document afterwards: of inserts and replacements, of updates with full_document
---@field before lumo.Record|nil the document before, with full_document_before_change
---@field updated table<string, any>|nil of an update: new values by attribute, dotted where a part of it changed
---@field removed string[]|nil of an update: attributes that were removed
---@field truncated table<string, integer>|nil of an update: arrays that were cut short, by attribute, and their length
---@field owner_id any of a relation: the key of the side that is watched
---@field related_id any of a relation: the key of the other side
---@field pivot table<string, any>|nil of a relation: the attributes of the pair; of a detached one, those it had

---@class lumo.WatchOptions
---@field operations string[]|nil of a model: only these types of events
---@field pipeline table[]|nil of a model: MongoDB's own stages, after the stream
---@field full_document "default"|"update_lookup"|"when_available"|"required"|nil of a model: event.record of updates
---@field full_document_before_change "off"|"when_available"|"required"|nil of a model: for event.before
---@field resume_after string|nil a token
---@field start_at lumo.value|nil a timestamp
---@field max_await_ms integer|nil how long the server waits for an event before it answers without one, below the
--- connection's timeout; when nil 1000, or half of a timeout that is shorter than two seconds
---@field client lumo.Client|nil
---@field connection string|nil

-- Opening ---------------------------------------------------------------------------------------------------

local FULL_DOCUMENT = { default = "default", update_lookup = "updateLookup", when_available = "whenAvailable",
  required = "required" }
local BEFORE_CHANGE = { off = "off", when_available = "whenAvailable", required = "required" }

local OPERATIONS = {
  insert = true, update = true, replace = true, delete = true, drop = true, rename = true, invalidate = true,
}

local OPTIONS = {
  client = true, connection = true, operations = true, pipeline = true, full_document = true,
  full_document_before_change = true, resume_after = true, start_at = true, max_await_ms = true,
}
local RELATION_OPTIONS = {
  client = true, connection = true, resume_after = true, start_at = true, max_await_ms = true,
}

local function token_document(text)
  local ok, bytes = pcall(core.bson_from_json, type(text) == "string" and text or "")
  local token = ok and core.bson_decode(bytes)
  local data = token and token._data
  if type(data) ~= "string" or not data:find("^%x+$") then
    raise("E_ARGUMENT", "option \"resume_after\" of watch is a token that an event gave")
  end
  return token
end

local function token_text(bytes)
  return core.bson_to_json(bytes, "canonical")
end

local function check_list(options, name, kind)
  local list = options[name]
  if list == nil then return end
  if type(list) ~= "table" or #list == 0 then
    raise("E_ARGUMENT", "option \"%s\" of watch is a list that is not empty", name)
  end
  local count = 0
  for _, one in pairs(list) do
    count = count + 1
    if type(one) ~= kind then
      raise("E_ARGUMENT", "option \"%s\" of watch is a list of %ss, got %s in it", name, kind, type(one))
    end
  end
  if count ~= #list then raise("E_ARGUMENT", "option \"%s\" of watch is a list without holes and names", name) end
end

local function is_timestamp(value)
  local ok, kind = pcall(core.value_methods.value.kind, value)
  return ok and kind == "timestamp"
end

local function check_options(options)
  local wait = options.max_await_ms
  if wait ~= nil and (type(wait) ~= "number" or wait < 1 or wait > 60000 or wait % 1 ~= 0) then
    raise("E_ARGUMENT", "option \"max_await_ms\" of watch is a whole number from 1 to 60000")
  end
  for name, known in pairs { full_document = FULL_DOCUMENT, full_document_before_change = BEFORE_CHANGE } do
    local given = options[name]
    if given ~= nil and not known[given] then
      local all = {}
      for word in pairs(known) do all[#all + 1] = word end
      table.sort(all)
      raise("E_ARGUMENT", "option \"%s\" of watch is one of %s", name, table.concat(all, " "))
    end
  end
  check_list(options, "operations", "string")
  check_list(options, "pipeline", "table")
  for _, operation in ipairs(options.operations or {}) do
    if not OPERATIONS[operation] then
      raise("E_ARGUMENT", "option \"operations\" of watch names some of insert update replace delete drop rename "
        .. "invalidate, got %s", operation)
    end
  end
  if options.start_at ~= nil and not is_timestamp(options.start_at) then
    raise("E_ARGUMENT", "option \"start_at\" of watch is a lumo.timestamp")
  end
  if options.resume_after ~= nil and options.start_at ~= nil then
    raise("E_ARGUMENT", "watch takes resume_after or start_at, not both")
  end
  return options
end

--- How long the server is to wait for events. The connection's own timeout would end a longer wait.
local function await_ms(options, connection)
  local limit, wait = core.connection_socket_timeout(ambient.handle(connection)), options.max_await_ms
  if wait and wait >= limit then
    raise("E_ARGUMENT", "option \"max_await_ms\" of watch must be below the connection's timeout, %d ms", limit)
  end
  return wait or math.max(1, math.min(AWAIT_MS, math.floor(limit / 2)))
end

--- The plan that reads the stream from where it stands.
local function open(self)
  local stage, options = {}, self.options
  if options.full_document then stage.fullDocument = FULL_DOCUMENT[options.full_document] end
  if options.full_document_before_change then
    stage.fullDocumentBeforeChange = BEFORE_CHANGE[options.full_document_before_change]
  end
  if self.position then -- startAfter alone takes the token of a stream that is over
    local begins = options.resume_after and not self.has_events
    stage[begins and "startAfter" or "resumeAfter"] = token_document(self.position)
  elseif options.start_at then
    stage.startAtOperationTime = options.start_at
  end
  local pipeline = { { ["$changeStream"] = stage } } ---@type table[]
  if options.operations then
    pipeline[2] = { ["$match"] = { operationType = { ["$in"] = values.array(options.operations) } } }
  end
  for _, more in ipairs(options.pipeline or {}) do pipeline[#pipeline + 1] = more end
  self.plan = core.aggregate_plan(self.collection, values.array(pipeline), true, self.await_ms)
end

-- Reading ---------------------------------------------------------------------------------------------------

--- Whether a stream whose cursor has failed may be opened again where it stood, as MongoDB's drivers agree: where no
--- server has answered, or one says so.
local function is_resumable(err)
  if not core.is_error(err) then return false end
  if not err.server_code then return err.code == "E_NETWORK" or err.code == "E_TIMEOUT" end
  if err.server_code == CURSOR_NOT_FOUND then return true end
  for _, label in ipairs(err.labels or {}) do
    if label == "ResumableChangeStreamError" then return true end
  end
  return false
end

local function fail(err)
  if core.is_error(err) and err.server_code == NO_CHANGE_STREAMS then
    raise("E_UNSUPPORTED", "watch needs a replica set: a standalone server has no change streams")
  end
  error(err, 0)
end

--- Sorts what came into events, and remembers where the stream goes on.
local function take(self, plan)
  local tokens, events = core.plan_field_bytes(plan, "_id"), self.make(self, plan)
  for i, event in ipairs(events) do
    event.token = token_text(tokens[i])
  end
  local after, last = core.plan_token(plan), events[#events]
  local position = after and token_text(after) or last and last.token or self.position
  self.events, self.given, self.position = events, 0, position
  self.has_events = self.has_events or #events > 0
end

local function give_up(self)
  if self.plan then core.plan_close(self.plan) end
  self.plan = nil
end

local function read(self)
  local done = run(self.client, self.plan)
  take(self, self.plan)
  self.is_over = done
end

--- One answer of the server, which may have no events. A stream that has broken off is opened again where it stood,
--- once: the command that does it waits for a server and its answer as every read does.
local function fetch(self)
  local was_open = self.plan ~= nil
  if not was_open then open(self) end
  local ok, err = pcall(read, self)
  if ok then return end
  give_up(self)
  if not (was_open and is_resumable(err)) then fail(err) end
  fetch(self)
end

--- The event that is there, or false. One that cannot be told is raised, and is behind the stream as all others are.
local function pending(self)
  local event = self.events[self.given + 1]
  if event then
    self.given = self.given + 1
    self.resume_token = event.token
    if event.failure ~= nil then error(event.failure, 0) end
    return event
  end
  self.resume_token = self.position or self.resume_token
  return false
end

--- Opens the stream: from here on it tells what happens.
local function begin(self)
  fetch(self)
  if #self.events == 0 then self.resume_token = self.position or self.resume_token end
end

local function check(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Stream then errors.not_called_on(method, "a stream") end
  return self
end

--- The next event, if one comes within max_await_ms; else nil, and nil for ever once the stream is over (its
--- collection was dropped) or closed. Commands: a getMore when no event is waiting; an aggregate when the stream has
--- broken off. Raises E_NETWORK when no server comes back within the connection's timeout, E_SERVER where the position
--- is no longer in the oplog, E_CAST for a pair that holds what its columns cannot. Called again it goes on where it
--- stood.
---@return lumo.Event|nil
function Stream:try_next()
  check(self, "try_next")
  local event = pending(self)
  if not event and not self.is_over then
    fetch(self)
    event = pending(self)
  end
  return event or nil
end

--- The next event, however long it takes; nil once the stream is over or closed. Raises and sends as try_next.
---@return lumo.Event|nil
function Stream:next()
  check(self, "next")
  local event
  repeat event = self:try_next() until event or self.is_over
  return event
end

--- `for event in stream:each() do`: next, until the stream is over.
---@return fun(): lumo.Event|nil
function Stream:each()
  check(self, "each")
  return function() return self:next() end
end

--- Gives the server's cursor up; resume_token stays behind the last event that was given. Sends nothing now: the cursor
--- is killed with the connection's next command.
function Stream:close()
  check(self, "close")
  give_up(self)
  self.position, self.is_over, self.events, self.given = self.resume_token, true, {}, 0
end

Stream.__close = Stream.close
names.alias(Stream)
watch.methods = Stream

local function new(state, options, collection, make)
  local connection = ambient.connection(transactions.client(options, state.connection))
  if options.resume_after ~= nil then token_document(options.resume_after) end
  return setmetatable({
    state = state, options = options, collection = collection, make = make, events = {}, given = 0, is_over = false,
    client = ambient.outside(connection), -- no transaction can have a change stream
    await_ms = await_ms(options, connection), has_events = false,
    position = options.resume_after, resume_token = options.resume_after,
  }, Stream)
end

-- Events of a model -----------------------------------------------------------------------------------------

--- "post_slug.x" → "slug.x".
local function attribute_of(state, stored)
  local first, rest = stored:match("^([^.]+)(.*)$")
  local column = first and state.by_stored[first]
  return column and column.name .. rest or stored
end

local function add_changes(event, state, description)
  event.updated, event.removed, event.truncated = {}, {}, {}
  for stored, value in pairs(description.updatedFields or {}) do event.updated[attribute_of(state, stored)] = value end
  for i, stored in ipairs(description.removedFields or {}) do event.removed[i] = attribute_of(state, stored) end
  for _, cut in ipairs(description.truncatedArrays or {}) do
    event.truncated[attribute_of(state, cut.field)] = cut.newSize
  end
end

--- What a field of the stages' own making does not hold.
local function given(value)
  if value ~= core.null then return value end
end

local function model_events(self, plan)
  local state, list = self.state, {}
  local number, companion = ambient.connection(self.client).number, records.companion(self.client)
  local after = core.plan_field_records(plan, "fullDocument", state.class, number, companion)
  local before = core.plan_field_records(plan, "fullDocumentBeforeChange", state.class, number, companion)
  local ids, times = core.plan_values(plan, "documentKey._id", true), core.plan_values(plan, "wallTime", true)
  local descriptions = core.plan_values(plan, "updateDescription", true)
  for i, operation in ipairs(core.plan_values(plan, "operationType", true)) do
    local event = { type = given(operation), record = after[i] or nil, before = before[i] or nil }
    event.id, event.at = given(ids[i]), given(times[i])
    if type(descriptions[i]) == "table" then add_changes(event, state, descriptions[i]) end
    list[i] = event
  end
  return list
end

-- Events of a relation --------------------------------------------------------------------------------------

local PAIR_EVENTS = { insert = "attached", update = "pivot_updated", replace = "pivot_updated", delete = "detached" }

--- Ids and attributes of a row, as pivot_data gives them.
local function add_row(event, relation, row, document)
  event.owner_id = core.record_get(row, relation:pivot_attribute(relation.pivot_foreign_key))
  event.related_id = core.record_get(row, relation:pivot_attribute(relation.pivot_related_foreign_key))
  event.pivot = {}
  for stored in pairs(document) do
    local is_key = stored == "_id" or stored == relation.pivot_foreign_key
      or stored == relation.pivot_related_foreign_key
    local attribute = relation:pivot_attribute(stored)
    if not is_key then event.pivot[attribute] = core.record_get(row, attribute) end
  end
end

local function relation_events(self, plan)
  local relation, list = self.relation, {}
  local class, number = relation:row_state().class, ambient.connection(self.client).number
  local rows, bytes = {}, {}
  for _, field in ipairs { "fullDocumentBeforeChange", "fullDocument" } do -- the latter where there are both
    for i, row in ipairs(core.plan_field_records(plan, field, class, number)) do rows[i] = row or rows[i] or false end
    for i, one in ipairs(core.plan_field_bytes(plan, field)) do bytes[i] = one or bytes[i] or false end
  end
  local times = core.plan_values(plan, "wallTime", true)
  for i, operation in ipairs(core.plan_values(plan, "operationType", true)) do
    local event = { type = PAIR_EVENTS[operation] or operation }
    event.at = given(times[i])
    if rows[i] then
      local ok, err = pcall(add_row, event, relation, rows[i], core.bson_decode(bytes[i]))
      if not ok then event.failure = err end
    end
    list[i] = event
  end
  return list
end

--- A removed row is known by its `_id` only, unless the collection keeps images of documents before changes.
local function keep_images(relation, client)
  local connection, collection = ambient.connection(client), relation.pivot_table
  local reply = connection:command(values.ordered {
    { "listCollections", 1 }, { "filter", { name = collection } }, { "cursor", {} },
  })
  local found = reply.cursor.firstBatch[1]
  local images = found and found.options.changeStreamPreAndPostImages
  if images and images.enabled then return end
  local setting = { "changeStreamPreAndPostImages", { enabled = true } }
  local command = { found and "collMod" or "create", collection }
  local ok, err = pcall(connection.command, connection, values.ordered { command, setting })
  if ok then return end
  raise("E_UNSUPPORTED", "watching \"%s.%s\" needs a collection that keeps images before changes (MongoDB 6.0), "
    .. "and \"%s\" could not be made one: %s", relation.state.name, relation.relation_name, collection, tostring(err))
end

-- ---------------------------------------------------------------------------------------------------------

--- A stream of what happens to a model's documents: `Post:watch{…}`; or, with the name of a many-to-many relation,
--- of what happens to its pairs: `Post:watch("tags", {…})`. It begins at once, unless `resume_after` (an event's
--- token, or a stream's resume_token) or `start_at` (a lumo.timestamp) say otherwise. A stream that breaks off goes on
--- by itself where it stood. Of a relation, the pivot is made to keep images before changes, if it does not do so.
--- Hooks do not run. It is outside of any transaction. Commands: aggregate; of a relation listCollections, too, and a
--- create or collMod the first time. Raises as Stream:try_next, and E_UNSUPPORTED where images cannot be kept.
---@param state lumo.State
---@param name string|nil
---@param options lumo.WatchOptions|nil
---@return lumo.Stream
function watch.new(state, name, options)
  if name == nil then
    options = check_options(names.options("watch", options, OPTIONS))
    local stream = new(state, options, state.collection, model_events)
    begin(stream)
    return stream
  end
  local relation = registry.relation(state, name)
  if relation.type ~= "manyToMany" then
    raise("E_UNSUPPORTED", "watch is for many-to-many relations, and \"%s.%s\" is none", state.name, name)
  end
  options = check_options(names.options("watch", options, RELATION_OPTIONS))
  options.full_document, options.full_document_before_change = "when_available", "when_available"
  local stream = new(state, options, relation:boot().pivot_table, relation_events)
  stream.relation = relation
  keep_images(relation, stream.client)
  begin(stream)
  return stream
end

return watch
