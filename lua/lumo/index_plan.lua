--- What the indexes of a server lack and have too many of, beside those that models want, and making them so.
local core = require "lumo.core"
local indexes = require "lumo.indexes"
local names = require "lumo.names"
local run = require "lumo.run"
local values = require "lumo.values"
local raise = require("lumo.errors").raise

local index_plan = {}

local NAMESPACE_NOT_FOUND = 26
local EXAMPLES = 3 -- of duplicate values, for a report

---@class lumo.IndexEntry: lumo.Index
---@field collection string
---@field connection lumo.Connection
---@field differences table<string, string>|nil of one that differs: by option, in words
---@field wanted lumo.Index|nil of one that differs: what it should be
---@field count integer|nil of duplicates: how many values stand there more than once
---@field examples table[]|nil of duplicates: a few of them

---@class lumo.IndexPlan
---@field missing lumo.IndexEntry[] wanted and not there
---@field differs lumo.IndexEntry[] there under the key or the name of one that is wanted, but with other options
---@field extra lumo.IndexEntry[] there and not wanted by any model
---@field duplicates lumo.IndexEntry[] of what is missing or differs, unique ones that the documents there would break
---@field created string[] what apply has done: "posts.slug_1"
---@field changed string[]
---@field hidden string[]
---@field dropped string[]
---@field is_empty boolean nothing is missing, extra or different
local Plan = {}

-- Reading ---------------------------------------------------------------------------------------------------

local function fetch(connection, name, collection, document)
  local plan = core.cursor_plan(name, collection, document)
  run(connection, plan)
  return plan
end

--- The indexes of a collection; none when there is no collection.
local function existing(connection, collection)
  local ok, plan = pcall(fetch, connection, "listIndexes", collection, values.ordered {
    { "listIndexes", collection }, { "cursor", {} },
  })
  if not ok then
    if core.is_error(plan) and plan.server_code == NAMESPACE_NOT_FOUND then return {} end
    error(plan, 0)
  end
  local list, keys = {}, core.plan_ordered(plan, "key")
  for i, document in ipairs(core.plan_documents(plan)) do
    list[i] = indexes.of_server(document, keys[i])
  end
  return list
end

--- What an index has of a document for a field, as a list: the elements of an array, and null where there is nothing.
local function keys_of(field)
  local path, none = "$" .. field, values.array {}
  return { ["$cond"] = values.array {
    { ["$not"] = values.array { { ["$isArray"] = path } } },
    values.array { { ["$ifNull"] = values.array { path, values.null } } },
    { ["$cond"] = values.array { { ["$eq"] = values.array { path, none } }, values.array { none }, path } },
  } }
end

--- The values that a unique index would refuse: those that several documents have. Commands: aggregate.
local function duplicates(connection, collection, index)
  local match, lists, stages, id = index.partial or {}, {}, {}, {}
  if index.sparse then
    local present = {}
    for i, field in ipairs(index.key) do present[i] = { [field[1]] = { ["$exists"] = true } } end
    match = { ["$and"] = values.array { match, { ["$or"] = values.array(present) } } }
  end
  for i, field in ipairs(index.key) do
    local name = "k" .. i
    lists[name], id[i] = keys_of(field[1]), { name, "$" .. name }
    stages[i] = { ["$unwind"] = "$" .. name }
  end
  table.insert(stages, 1, { ["$match"] = match })
  table.insert(stages, 2, { ["$project"] = lists })
  for _, stage in ipairs {
    { ["$group"] = { _id = values.ordered { { "key", values.ordered(id) }, { "of", "$_id" } } } },
    { ["$group"] = { _id = "$_id.key", n = { ["$sum"] = 1 } } },
    { ["$match"] = { n = { ["$gt"] = 1 } } },
    { ["$facet"] = {
      count = values.array { { ["$count"] = "n" } },
      examples = values.array {
        { ["$sort"] = values.ordered { { "n", -1 }, { "_id", 1 } } }, { ["$limit"] = EXAMPLES },
      },
    } },
  } do
    stages[#stages + 1] = stage
  end
  local command = {
    { "aggregate", collection }, { "pipeline", values.array(stages) }, { "cursor", {} }, { "allowDiskUse", true },
  }
  if index.collation then command[#command + 1] = { "collation", index.collation } end
  local found = core.plan_documents(fetch(connection, "aggregate", collection, values.ordered(command)))[1]
  local count = found.count[1] and found.count[1].n or 0
  return count, found.examples
end

-- Comparing -------------------------------------------------------------------------------------------------

local function entry(index, connection, collection, more)
  local one = { collection = collection, connection = connection }
  for key, value in pairs(index) do one[key] = value end
  for key, value in pairs(more or {}) do one[key] = value end
  return one
end

--- Looks for what a unique index that is to be made would refuse.
local function search_duplicates(plan, one, connection, collection, wanted)
  if not wanted.unique then return end
  one.count, one.examples = duplicates(connection, collection, wanted)
  if one.count > 0 then table.insert(plan.duplicates, one) end
end

--- Takes out of `list` the first that fn accepts.
local function take(list, fn)
  for i, index in ipairs(list) do
    if fn(index) then return table.remove(list, i) end
  end
end

--- The changes that collMod can make of an index that differs, nil when it takes another index.
local function in_place(one)
  local changes = {}
  for option in pairs(one.differences) do
    if option == "hidden" then
      changes[#changes + 1] = { "hidden", one.wanted.hidden or false }
    elseif option == "expire_after_seconds" and one.expire_after_seconds and one.wanted.expire_after_seconds then
      changes[#changes + 1] = { "expireAfterSeconds", one.wanted.expire_after_seconds }
    else
      return nil
    end
  end
  return changes
end

local function compare_collection(plan, connection, collection, search)
  local there = existing(connection, collection.name)
  local left, open = {}, {}
  for _, index in ipairs(there) do
    if index.name ~= "_id_" then left[#left + 1] = index end
  end
  for _, wanted in ipairs(collection.wants(there)) do
    local exact = take(left, function(index) return next(indexes.differences(index, wanted)) == nil end)
    if not exact then open[#open + 1] = wanted end
  end
  for _, wanted in ipairs(open) do
    local near = take(left, function(index)
      return index.name == wanted.name or indexes.same_key(index, wanted)
    end)
    local one
    if near then
      one = entry(near, connection, collection.name, {
        differences = indexes.differences(near, wanted), wanted = wanted, owner = wanted.owner,
      })
      table.insert(plan.differs, one)
    else
      one = entry(wanted, connection, collection.name)
      table.insert(plan.missing, one)
    end
    if search and #there > 0 and not (near and in_place(one)) then
      search_duplicates(plan, one, connection, collection.name, wanted)
    end
  end
  for _, index in ipairs(left) do
    table.insert(plan.extra, entry(index, connection, collection.name))
  end
end

--- What is missing, extra and different, and with `search` which values are there twice.
local function compare(states, resolve, search)
  local plan = setmetatable({
    missing = {}, differs = {}, extra = {}, duplicates = {}, created = {}, changed = {}, hidden = {}, dropped = {},
  }, Plan) --[[@as lumo.IndexPlan]]
  local groups, order = {}, {}
  for _, state in ipairs(states) do
    local connection = resolve(state)
    if not groups[connection] then
      groups[connection] = {}
      order[#order + 1] = connection
    end
    table.insert(groups[connection], state)
  end
  for _, connection in ipairs(order) do
    for _, collection in ipairs(indexes.collections(groups[connection])) do
      compare_collection(plan, connection, collection, search)
    end
  end
  return plan
end

--- What is missing, extra and different. Commands: for each collection a listIndexes, and an aggregate for each
--- unique index that is missing or would take another one's place.
---@param states lumo.State[]
---@param resolve fun(state: lumo.State): lumo.Connection
---@return lumo.IndexPlan
function index_plan.new(states, resolve)
  return compare(states, resolve, true)
end

-- Applying --------------------------------------------------------------------------------------------------

local function full_name(one, name)
  return ("%s.%s"):format(one.collection, name or one.name)
end

--- One createIndexes for each collection.
local function create(plan, list)
  local documents, order = {}, {}
  for _, one in ipairs(list) do
    local group = documents[one.connection] or {}
    documents[one.connection] = group
    if not group[one.collection] then
      group[one.collection] = {}
      order[#order + 1] = one
    end
    table.insert(group[one.collection], indexes.document(one))
  end
  for _, one in ipairs(order) do
    one.connection:command(values.ordered {
      { "createIndexes", one.collection }, { "indexes", values.array(documents[one.connection][one.collection]) },
    })
  end
  for _, one in ipairs(list) do table.insert(plan.created, full_name(one)) end
end

local function modify(one, changes)
  local index = { { "name", one.name } }
  for _, change in ipairs(changes) do index[#index + 1] = change end
  one.connection:command(values.ordered { { "collMod", one.collection }, { "index", values.ordered(index) } })
end

--- Hides an index that is seen, drops one that is hidden: so there is a run between the two in which it shows
--- whether anybody misses it. True when it is gone.
local function retire(plan, one)
  if not one.hidden then
    modify(one, { { "hidden", true } })
    table.insert(plan.hidden, full_name(one))
    return false
  end
  one.connection:command(values.ordered { { "dropIndexes", one.collection }, { "index", one.name } })
  table.insert(plan.dropped, full_name(one))
  return true
end

local function describe_duplicates(list)
  local parts = {}
  for i, one in ipairs(list) do parts[i] = ("%s (%d)"):format(full_name(one), one.count) end
  return table.concat(parts, ", ")
end

--- Creates what is missing, but for unique indexes that documents are in the way of.
---@return string[] created "posts.slug_1"
function index_plan.create(plan)
  local list = {}
  for _, one in ipairs(plan.missing) do
    if (one.count or 0) == 0 then list[#list + 1] = one end
  end
  create(plan, list)
  return plan.created
end

--- Creates what is missing and changes in place what can be. With `drop` indexes that are extra or differ are
--- hidden, and those that are hidden already are dropped (and made anew where they differ).
---@param drop boolean|nil
---@return lumo.IndexPlan self
function index_plan.apply(plan, drop)
  local in_the_way = {}
  for _, one in ipairs(plan.duplicates) do
    if drop or not one.differences then in_the_way[#in_the_way + 1] = one end
  end
  if #in_the_way > 0 then
    raise("E_DUPLICATE_KEY", "nothing was changed: there are duplicates under unique indexes that are to be made: %s",
      describe_duplicates(in_the_way))
  end
  create(plan, plan.missing)
  for _, one in ipairs(plan.differs) do
    local changes = in_place(one)
    if changes then
      modify(one, changes)
      table.insert(plan.changed, full_name(one))
    elseif drop and retire(plan, one) then
      create(plan, { entry(one.wanted, one.connection, one.collection) })
    end
  end
  for _, one in ipairs(drop and plan.extra or {}) do retire(plan, one) end
  return plan
end

--- Creates what is missing, never changes or drops. Raises E_ARGUMENT where one of another kind is in the way.
---@param states lumo.State[]
---@param resolve fun(state: lumo.State): lumo.Connection
---@return string[] names of the indexes that were created
function index_plan.ensure(states, resolve)
  local plan = compare(states, resolve, false)
  local first = plan.differs[1]
  if first then
    local option, words = next(first.differences --[[@as table]])
    raise("E_ARGUMENT", "\"%s\" wants the index \"%s\", and there is one that differs (%s: %s); see lumo.index_plan()",
      first.owner, full_name(first), option, words)
  end
  create(plan, plan.missing)
  local made = {}
  for i, one in ipairs(plan.missing) do made[i] = one.name end
  return made
end

-- Showing ---------------------------------------------------------------------------------------------------

local function option_words(one)
  local words = {}
  for _, option in ipairs { "unique", "sparse", "hidden" } do
    if one[option] then words[#words + 1] = option end
  end
  if one.partial then words[#words + 1] = "partial" end
  if one.expire_after_seconds then words[#words + 1] = ("expires after %d s"):format(one.expire_after_seconds) end
  return #words > 0 and (" (%s)"):format(table.concat(words, ", ")) or ""
end

local function differing_words(one)
  local words = {}
  for option, text in pairs(one.differences) do words[#words + 1] = ("%s: %s"):format(option, text) end
  table.sort(words)
  return ": " .. table.concat(words, "; ")
end

local function duplicate_words(one)
  return (": %d values stand there more than once, one of them %d times"):format(one.count, one.examples[1].n)
end

local function add_lines(lines, label, list, words)
  for _, one in ipairs(list) do
    local owner = one.owner and (" for %s"):format(one.owner) or ""
    lines[#lines + 1] = ("%-10s %s%s%s"):format(label, full_name(one), words(one), owner)
  end
end

local function add_done(lines, label, list)
  for _, name in ipairs(list) do lines[#lines + 1] = ("%-10s %s"):format(label, name) end
end

function Plan:__tostring()
  local lines = {}
  add_lines(lines, "missing", self.missing, option_words)
  add_lines(lines, "differs", self.differs, differing_words)
  add_lines(lines, "extra", self.extra, option_words)
  add_lines(lines, "duplicate", self.duplicates, duplicate_words)
  for _, done in ipairs { "created", "changed", "hidden", "dropped" } do add_done(lines, done, self[done]) end
  if #lines == 0 then return "all indexes are as the models want them" end
  return table.concat(lines, "\n")
end

Plan.__name = "lumo.index_plan"
function Plan:__index(key)
  if key == "is_empty" or key == "isEmpty" then
    return #self.missing == 0 and #self.differs == 0 and #self.extra == 0
  end
end

local OPTIONS = { apply = true, drop = true }

--- The options of lumo.index_plan.
function index_plan.options(given)
  local options = names.options("index_plan", given, OPTIONS)
  for name in pairs(OPTIONS) do
    if options[name] ~= nil and type(options[name]) ~= "boolean" then
      raise("E_ARGUMENT", "option \"%s\" of index_plan is a boolean", name)
    end
  end
  if options.drop and not options.apply then raise("E_ARGUMENT", "index_plan: drop needs apply") end
  return options
end

return index_plan
