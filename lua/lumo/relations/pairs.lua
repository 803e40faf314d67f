--- What writes the pairs of a relation: one plan of the core, or, where hooks of the pivot model have a say in it, the
--- rows of the pivot as records.
local accessors = require "lumo.accessors"
local ambient = require "lumo.ambient"
local core = require "lumo.core"
local hooks = require "lumo.hooks"
local key_text = require "lumo.key_text"
local queries = require "lumo.query"
local records = require "lumo.record"
local run = require "lumo.run"
local raise = require("lumo.errors").raise

local pairs_of = {}

---@class lumo.Pairs each a list of ids
---@field attached any[]
---@field updated any[]
---@field unchanged any[]
---@field detached any[]

---@class lumo.PairsWrite one call that writes pairs
---@field parent lumo.Record
---@field relation lumo.PivotRelation
---@field handle userdata the compiled relation under its conditions
---@field method string the public method's name
---@field op string the core's name of the operation
---@field plan userdata
---@field given table of core.pairs_plan
---@field hooked boolean hooks of the pivot model have a say
---@field entries { id: any, attributes: table }[]|nil once they were asked for
---@field rows table<string, lumo.Record>|nil by key text, where hooks have run

local HOOKED = { "create", "update", "save", "delete" }

local function has_hooks(relation)
  local pivot = relation.pivot_state
  if not pivot then return false end
  for _, event in ipairs(HOOKED) do
    if hooks.any(pivot, "before", event) or hooks.any(pivot, "after", event) then return true end
  end
  return false
end

--- What a pair is given: by the call, and by the relation's condition.
---@param handle userdata
---@param attributes table|nil
---@return table<string, any>
function pairs_of.attributes(handle, attributes)
  local all = core.relation_given(handle)
  for name, value in pairs(attributes or {}) do all[name] = value end
  return all
end

local function entries_of(write)
  if write.entries then return write.entries end
  write.entries = core.pairs_entries(write.plan, write.given)
  for _, entry in ipairs(write.entries) do
    entry.attributes = pairs_of.attributes(write.handle, accessors.given(entry.attributes))
  end
  return write.entries
end

--- A write of the pairs that a call names, every argument checked; nothing is sent.
---@param relation lumo.PivotRelation
---@param client lumo.Client
---@param op string of core.pairs_plan
---@param form string how the argument is read: "ids", "ids_or_map" or "pivot_list"
---@param handle userdata|nil the bound handle, where the call has it already
---@param quiet boolean|nil without hooks of the pivot model
---@return lumo.PairsWrite
function pairs_of.prepare(parent, relation, client, op, method, value, form, handle, quiet)
  local pivot = relation.pivot_state
  local bound = handle or relation:bound_handle(method, client)
  local hooked, ruled = not quiet and has_hooks(relation), pivot and pivot.rules and op ~= "toggle"
  value = accessors.prepared_pairs(pivot, value, form)
  local plan, given = core.pairs_plan(op, method, bound, parent, value, form, core.now(), hooked or ruled)
  local write = {
    parent = parent, relation = relation, handle = bound, method = method, op = op, plan = plan, given = given,
    hooked = hooked,
  }
  if ruled then
    for _, entry in ipairs(entries_of(write)) do relation:check_attributes(entry.attributes, false) end
  end
  return write
end

-- Rows as records -------------------------------------------------------------------------------------------
--
-- The same as the plan does, with one difference: the rows concerned are read first, as records of the pivot model, and
-- are saved and deleted as records are, with their hooks. In a transaction the server sees to it that what was read
-- still holds; without one a row that somebody else adds in between makes it start anew.

--- The rows of a parent, of some related ids or of all.
local function read(write, handle, client, ids)
  local relation = write.relation
  local state = relation:row_state()
  local q = core.pivot_query(handle, write.parent)
  queries.of_relation(q, state, nil, client, "is_pivot_only_query")
  if ids then q:where_in(relation:pivot_attribute(relation.pivot_related_foreign_key), ids) end
  local plan = core.query_find_plan(q, write.method, 0, false)
  run(client, plan)
  return core.plan_records(plan, state.class, ambient.connection(client).number, records.companion(client))
end

--- Those of the `_id`s that stand in the pivot, whosever they are, by text.
local function taken_ids(write, client, ids)
  local relation, taken = write.relation, {}
  local q = core.query_new(relation.rows)
  local kept = core.query_state(q)
  kept.state, kept.client = relation:row_state(), client
  for _, id in ipairs(q:where_in("_id", ids):pluck("_id")) do taken[key_text(id)] = true end
  return taken
end

local function key_of(write, row, field)
  return core.record_get(row, write.relation:pivot_attribute(field))
end

--- A hook may change what a row says of its pair, but not whose it is.
local function check_keys(write, list)
  local relation = write.relation
  local owner = key_text(core.record_get(write.parent, relation.local_key))
  for _, row in ipairs(list) do
    local related = key_text(key_of(write, row, relation.pivot_related_foreign_key))
    if key_text(key_of(write, row, relation.pivot_foreign_key)) ~= owner or related ~= write.texts[row] then
      raise("E_ARGUMENT", "%s \"%s\": a hook has changed the keys of a pair", write.method, relation.relation_name)
    end
  end
end

--- Sets a timestamp of the relation's own, unless the call gives it; those of the pivot model are set by saving.
local function stamp(write, values, given, stored)
  local relation = write.relation
  if not stored or not relation.definition.options.pivot_timestamps then return end
  local name = relation:pivot_attribute(stored)
  if given[name] == nil then values[name] = core.datetime_now() end
end

local function new_row(write, entry, blocked, number)
  local relation, values = write.relation, {}
  for name, value in pairs(entry.attributes) do values[name] = value end
  values[relation:pivot_attribute(relation.pivot_foreign_key)] = core.record_get(write.parent, relation.local_key)
  values[relation:pivot_attribute(relation.pivot_related_foreign_key)] = entry.id
  stamp(write, values, entry.attributes, relation.timestamps.created)
  stamp(write, values, entry.attributes, relation.timestamps.updated)
  if not relation.duplicates and not blocked then
    values[relation.pivot_state.primary] = core.pair_id(write.handle, write.method, write.parent, entry.id)
  end
  return core.record_new(relation:row_state().class, values, number, core.now())
end

--- Gives a row the attributes; true if that changes it.
local function merge(write, row, attributes)
  core.record_merge(row, attributes, false)
  if next(core.record_dirty(row)) == nil then return false end
  local stamped = {}
  stamp(write, stamped, attributes, write.relation.timestamps.updated)
  core.record_merge(row, stamped, false)
  return true
end

--- What is there, by key text: rows that the relation sees, and rows of the ids that it does not.
local function read_rows(write, client)
  local relation, seen, hidden, all = write.relation, {}, {}, {}
  local is_bag, ids, rest = relation.duplicates, core.pairs_ids(write.plan), {}
  if write.op == "attach_made" or is_bag and write.op:find("^attach") then return seen, hidden, all end
  local function keep(rows, list)
    for _, row in ipairs(list) do
      local text = key_text(key_of(write, row, relation.pivot_related_foreign_key))
      write.texts[row] = text
      rows[text] = rows[text] or {}
      table.insert(rows[text], row)
    end
  end
  all = read(write, write.handle, client, write.op ~= "sync" and ids or nil)
  keep(seen, all)
  for _, id in ipairs(ids) do
    if not seen[key_text(id)] then rest[#rest + 1] = id end
  end
  if write.handle ~= relation.handle and not is_bag and #rest > 0 then
    keep(hidden, read(write, relation.handle, client, rest))
  end
  return seen, hidden, all
end

--- Which rows a write inserts, changes and deletes, and what it tells of each id.
local function difference(write, client, blocked)
  local told = { attached = {}, updated = {}, unchanged = {}, detached = {} } ---@type table<string, any[]>
  local inserted, changed, deleted, named = {}, {}, {}, {}
  local number = ambient.connection(client).number
  write.rows, write.texts = {}, {}
  local seen, hidden, all = read_rows(write, client)
  for _, entry in ipairs(entries_of(write)) do
    local text, fate = key_text(entry.id), "unchanged"
    named[text] = true
    if write.op == "toggle" and seen[text] then
      fate = "detached"
      for _, row in ipairs(seen[text]) do deleted[#deleted + 1] = row end
    elseif seen[text] or hidden[text] then
      for _, row in ipairs(seen[text] or hidden[text]) do
        write.rows[text] = row
        if merge(write, row, entry.attributes) then
          changed[#changed + 1], fate = row, "updated"
        end
      end
    else
      local row = new_row(write, entry, blocked[text], number)
      write.rows[text], write.texts[row] = row, text
      inserted[#inserted + 1], fate = row, "attached"
    end
    table.insert(told[fate], entry.id)
  end
  for _, row in ipairs(write.op == "sync" and all or {}) do
    local text = write.texts[row]
    if not named[text] then
      deleted[#deleted + 1] = row
      if named[text] == nil then
        table.insert(told.detached, key_of(write, row, write.relation.pivot_related_foreign_key))
      end
      named[text] = false
    end
  end
  return told, inserted, changed, deleted
end

--- The step that deletes rows, those that are still there and are the relation's. `count` of it is their number.
local function delete_step(write, list)
  local step = { list = list, state = write.relation.pivot_state, events = { "delete" }, count = 0 }
  function step.write(client)
    local ids, primary = {}, write.relation.pivot_state.primary
    for i, row in ipairs(list) do ids[i] = core.record_get(row, primary) end
    local plan = core.query_delete_plan(core.pivot_query(write.handle, write.parent):where_in(primary, ids))
    run(client, plan)
    step.count = core.plan_written(plan, "nRemoved")
    records.remember(list, client)
    for _, row in ipairs(list) do core.record_deleted(row) end
    return step.count > 0
  end
  return step
end

--- A step of records that checks their keys first.
local function guarded(write, step)
  local send = step.write
  function step.write(client)
    check_keys(write, step.list)
    return send(client)
  end
  return step
end

local function write_rows(write, client, blocked)
  local told, inserted, changed, deleted = difference(write, client, blocked)
  local state, steps = write.relation.pivot_state, {}
  if #inserted > 0 then
    local atomic = #inserted > 1 and write.relation.definition.options.atomic ~= false
    steps[#steps + 1] = guarded(write, records.insert_step(inserted, state, atomic))
  end
  if #changed > 0 then steps[#steps + 1] = guarded(write, records.update_step(changed, state)) end
  if #deleted > 0 then steps[#steps + 1] = delete_step(write, deleted) end
  pairs_of.write_records(write.relation, steps, client)
  return told
end

local TRIES = 16

--- Whether somebody else has the row, or its `_id`, or has taken a row away: then looking again tells which.
local function is_collision(write, err)
  local relation = write.relation
  if not core.is_error(err) then return false end
  if err.code == "E_ROW_NOT_FOUND" then return err.model == relation.pivot_state.name end
  if err.code ~= "E_DUPLICATE_KEY" or relation.duplicates then return false end
  local both = { relation.pivot_foreign_key .. ", " .. relation.pivot_related_foreign_key,
    relation.pivot_related_foreign_key .. ", " .. relation.pivot_foreign_key }
  return err.key == "_id" or err.key == both[1] or err.key == both[2]
end

--- The ids whose derived `_id` is taken, by text; looked up after a collision only.
local function blocked_ids(write, client)
  local blocked, ids, texts = {}, {}, {}
  for i, entry in ipairs(entries_of(write)) do
    ids[i] = core.pair_id(write.handle, write.method, write.parent, entry.id)
    texts[key_text(ids[i])] = key_text(entry.id)
  end
  for text in pairs(taken_ids(write, client, ids)) do blocked[texts[text]] = true end
  return blocked
end

local function run_rows(write, client)
  local blocked = {}
  for try = 1, TRIES do
    local ok, result = pcall(pairs_of.together, write.relation, client, function(inner)
      return write_rows(write, inner, blocked)
    end)
    if ok then return result end
    if try == TRIES or ambient.transaction(client) or not is_collision(write, result) then error(result, 0) end
    blocked = blocked_ids(write, client)
  end
end

-- Both ways -------------------------------------------------------------------------------------------------

--- Writes records that belong to one write of a relation.
function pairs_of.write_records(relation, steps, client)
  records.write(steps, client, relation.definition.options.atomic == false)
end

--- Runs fn(client) in one transaction, unless the relation is not atomic: for what is more than one write.
function pairs_of.together(relation, client, fn)
  if relation.definition.options.atomic == false then return fn(ambient.transaction(client) or client) end
  return records.in_transaction(client, fn)
end

--- Sends a prepared write.
---@param write lumo.PairsWrite
---@param client lumo.Client
---@return lumo.Pairs
function pairs_of.run(write, client)
  if write.hooked then return run_rows(write, client) --[[@as lumo.Pairs]] end
  local ok, err = pcall(run, client, write.plan)
  if ok then return core.plan_pairs(write.plan) end
  if core.is_error(err) and err.code == "E_DUPLICATE_KEY" and err.outcome == "applied" then
    core.relation_guard(write.relation.handle) -- a unique index that was not known: it will not happen again
  end
  return error(err, 0) --[[@as any]]
end

--- What is known of the row of a pair once it is written: as a record where there is a pivot model, and by attribute.
---@param write lumo.PairsWrite
---@param related lumo.Record
---@param number integer of the connection
function pairs_of.row(write, related, number)
  local relation = write.relation
  local row = write.rows and write.rows[key_text(core.record_get(related, relation.related_key))]
  if row then return row, core.record_attributes(row) end
  local stored = core.pairs_row(write.plan, write.handle, write.method, related)
  local class = relation:pivot_class()
  if class then row = core.pairs_row(write.plan, write.handle, write.method, related, class, number) end
  return row, records.pivot_attributes(relation, stored)
end

--- Removes pairs: of some ids (one, or a list of them), or with `all` those of the parent.
---@param quiet boolean|nil without hooks of the pivot model
---@return fun(client: lumo.Client): integer send
function pairs_of.detach(parent, relation, client, method, all, ids, quiet)
  local handle = relation:bound_handle(method, client)
  local plan = all and core.detach_all_plan(handle, parent) or core.detach_plan(handle, parent, ids)
  if quiet or not has_hooks(relation) then
    return function(inner)
      run(inner, plan)
      return core.plan_written(plan, "nRemoved")
    end
  end
  local write = { parent = parent, relation = relation, handle = handle, method = method, op = "detach" }
  if not all then
    write.plan = core.pairs_plan("toggle", method, handle, parent, ids, "ids", core.now())
    ids = core.pairs_ids(write.plan)
    if #ids == 0 then return function() return 0 end end
  end
  return function(inner)
    return pairs_of.together(relation, inner, function(target)
      local step = delete_step(write, read(write, handle, target, not all and ids or nil))
      if #step.list > 0 then pairs_of.write_records(relation, { step }, target) end
      return step.count
    end)
  end
end

--- Merges attributes into the row of a pair (all of its rows in a bag).
---@return fun(client: lumo.Client): boolean send
function pairs_of.update(parent, relation, client, method, id, attributes)
  local handle = relation:bound_handle(method, client)
  local stored = accessors.prepared(relation.pivot_state, attributes)
  local plan = core.pivot_update_plan(handle, parent, id, stored, core.now())
  if not has_hooks(relation) then
    return function(inner)
      run(inner, plan)
      return core.plan_written(plan, "nMatched") > 0
    end
  end
  local write = { parent = parent, relation = relation, handle = handle, method = method, op = "update", texts = {} }
  local ids = core.pairs_ids(core.pairs_plan("toggle", method, handle, parent, { id }, "ids", core.now()))
  return function(inner)
    return pairs_of.together(relation, inner, function(target)
      local rows, changed = read(write, handle, target, ids), {}
      for _, row in ipairs(rows) do
        write.texts[row] = key_text(ids[1])
        if merge(write, row, attributes) then changed[#changed + 1] = row end
      end
      if #changed > 0 then
        local step = guarded(write, records.update_step(changed, relation.pivot_state))
        pairs_of.write_records(relation, { step }, target)
      end
      return #rows > 0
    end)
  end
end

return pairs_of
