--- `lumo doctor`: what is wrong in the database with the relations of the models, and mending what can be mended
--- without a loss.
local core = require "lumo.core"
local index_plan = require "lumo.index_plan"
local lumo = require "lumo"
local queries = require "lumo.query"
local registry = require "lumo.registry"
local run = require "lumo.run"
local transactions = require "lumo.transaction"

local doctor = {}

--- The BSON types in which the values of a column's type are stored; nil: any.
local STORED_AS = {
  string = { string = true }, integer = { int = true, long = true }, int32 = { int = true }, int64 = { long = true },
  number = { double = true, int = true, long = true }, boolean = { bool = true }, date = { date = true },
  objectid = { objectId = true }, decimal = { decimal = true }, binary = { binData = true }, uuid = { binData = true },
}

--- A finding: told at once, and counted unless it has been mended.
local function tell(report, is_mended, message, ...)
  if not is_mended then report.findings = report.findings + 1 end
  print(("  %s %s"):format(is_mended and "mended:" or "found: ", message:format(...)))
end

local function client_of(relation)
  return transactions.client({}, relation.state.connection)
end

local function documents(relation, pipeline)
  local plan = core.aggregate_plan(relation.pivot_table, lumo.array(pipeline), false)
  run(client_of(relation), plan)
  return core.plan_documents(plan)
end

--- Removes the rows of the pivot whose `_id`s a pipeline finds; gives their number.
local function delete_rows(relation, pipeline)
  local plan = core.aggregate_plan(relation.pivot_table, lumo.array(pipeline), true)
  return queries.delete_found(relation:row_state(), relation.rows, plan, client_of(relation))
end

local function join(list, more)
  local joined = {}
  for i, one in ipairs(list) do joined[i] = one end
  joined[#joined + 1] = more
  return joined
end

--- The stages that find the `_id`s of rows whose record on one side is gone. Of the whole pivot: relation:prune()
--- sees the part that on_query leaves, and the related side.
local function orphan_stages(field, state, key)
  local types = {}
  for name in pairs(STORED_AS[state.by_attribute[key].type] or {}) do types[#types + 1] = name end
  -- A key of another type points to nothing that could be looked up, but perhaps to something that is there: it is
  -- told elsewhere, and stays.
  local known = #types > 0 and { [field] = { ["$type"] = lumo.array(types) } } or {}
  return {
    { ["$match"] = known },
    { ["$lookup"] = {
      from = state.collection, localField = field, foreignField = state.by_attribute[key].stored, as = "there",
    } },
    { ["$match"] = { there = { ["$size"] = 0 } } },
    { ["$project"] = { _id = 1 } },
  }
end

local function check_orphans(report, relation, fix)
  for _, side in ipairs {
    { relation.pivot_foreign_key, relation.state, relation.local_key },
    { relation.pivot_related_foreign_key, relation.related_state, relation.related_key },
  } do
    local field, state, key = side[1], side[2], side[3]
    local stages = orphan_stages(field, state, key)
    local counted = documents(relation, join(stages, { ["$count"] = "n" }))[1]
    if counted then
      local removed = fix and delete_rows(relation, stages)
      tell(report, fix, "%d rows of \"%s\" whose %s is gone%s", removed or counted.n, relation.pivot_table, state.name,
        fix and ": removed" or "")
    end
  end
end

--- What a row says, as bytes: equal ones say the same.
local function content(row)
  local copy = {}
  for key, value in pairs(row) do
    if key ~= "_id" then copy[key] = value end
  end
  return lumo.bson.encode(copy)
end

--- Of rows of one pair those that say nothing else than the first.
local function copies_of_first(rows)
  local copies = {}
  for i = 2, #rows do
    if content(rows[1]) == content(rows[i]) then copies[#copies + 1] = rows[i]._id end
  end
  return copies
end

local function check_duplicates(report, relation, fix)
  if relation.duplicates then return end
  local owner, related = relation.pivot_foreign_key, relation.pivot_related_foreign_key
  local pairs_found = documents(relation, {
    { ["$group"] = {
      _id = lumo.ordered { { "owner", "$" .. owner }, { "related", "$" .. related } },
      ids = { ["$push"] = "$_id" }, n = { ["$sum"] = 1 },
    } },
    { ["$match"] = { n = { ["$gt"] = 1 } } },
  })
  local removed, left = 0, 0
  for _, found in ipairs(pairs_found) do
    local rows = documents(relation, {
      { ["$match"] = { _id = { ["$in"] = found.ids } } }, { ["$sort"] = { _id = 1 } },
    })
    local copies = copies_of_first(rows)
    if fix and #copies > 0 then
      removed = removed + delete_rows(relation, {
        { ["$match"] = { _id = { ["$in"] = lumo.array(copies) } } }, { ["$project"] = { _id = 1 } },
      })
    end
    if not fix or #copies < #rows - 1 then left = left + 1 end
  end
  if removed > 0 then
    tell(report, true, "%d rows of \"%s\" that stand there twice and say the same: removed", removed,
      relation.pivot_table)
  end
  if left > 0 then
    tell(report, false, "%d pairs of \"%s\" have several rows%s", left, relation.pivot_table,
      fix and ", which differ: nobody but you knows which is right" or "")
  end
end

--- A key of another type than the column it points to is found by no query.
local function check_key(report, relation, field, state, key)
  local wanted = STORED_AS[state.by_attribute[key].type]
  if not wanted then return end
  local types = documents(relation, {
    { ["$group"] = { _id = { ["$type"] = "$" .. field }, n = { ["$sum"] = 1 } } }, { ["$sort"] = { _id = 1 } },
  })
  for _, found in ipairs(types) do
    if not wanted[found._id] then
      tell(report, false, "\"%s\" of \"%s\" is %s in %d rows, and \"%s.%s\" is %s", field, relation.pivot_table,
        found._id, found.n, state.name, key, state.by_attribute[key].type)
    end
  end
end

local function check_relation(report, relation, fix)
  relation:boot()
  print(("%s.%s"):format(relation.state.name, relation.relation_name))
  check_key(report, relation, relation.pivot_foreign_key, relation.state, relation.local_key)
  check_key(report, relation, relation.pivot_related_foreign_key, relation.related_state, relation.related_key)
  check_orphans(report, relation, fix)
  check_duplicates(report, relation, fix)
end

--- Two relations over one pivot have the same rows: they are looked at once.
local function pivot_of(relation)
  local first, second = relation.pivot_foreign_key, relation.pivot_related_foreign_key
  if second < first then first, second = second, first end
  return table.concat({ relation.pivot_table, first, second }, "\0")
end

local function check_indexes(report, fix)
  print("indexes")
  local plan = lumo.index_plan()
  if fix then
    for _, name in ipairs(index_plan.create(plan)) do tell(report, true, "the index %s was missing: created", name) end
  end
  for _, one in ipairs(plan.missing) do
    if not fix or (one.count or 0) > 0 then
      tell(report, false, "the index %s.%s is missing", one.collection, one.name)
    end
  end
  for _, one in ipairs(plan.duplicates) do
    tell(report, false, "the unique index %s.%s would refuse %d values", one.collection, one.name, one.count)
  end
  for _, one in ipairs(plan.differs) do
    tell(report, false, "the index %s.%s differs from what \"%s\" declares", one.collection, one.name, one.owner)
  end
end

--- Looks at every many-to-many relation and at the indexes; prints what it finds.
---@param fix boolean|nil removes orphans and copies of rows, creates missing indexes
---@return integer findings that are left
function doctor.run(fix)
  local report, seen = { findings = 0 }, {}
  for _, state in ipairs(registry.all()) do
    local relations = {}
    for _, relation in pairs(state.relations) do
      if relation.type == "manyToMany" then relations[#relations + 1] = relation end
    end
    table.sort(relations, function(a, b) return a.relation_name < b.relation_name end)
    for _, relation in ipairs(relations) do
      local pivot = pivot_of(relation)
      if not seen[pivot] then check_relation(report, relation, fix) end
      seen[pivot] = true
    end
  end
  check_indexes(report, fix)
  print(report.findings == 0 and "nothing is wrong" or ("%d findings"):format(report.findings))
  return report.findings
end

return doctor
