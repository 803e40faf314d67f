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

---@class lumo.Checkup a relation whose pivot is looked at
---@field relation lumo.Relation
---@field condition table|nil what on_query says of the rows: others are none of its business
---@field sides { field: string, state: lumo.State, key: string }[] the keys of its rows, and what they point to

local function pipeline_of(checkup, stages)
  local pipeline = { { ["$match"] = checkup.condition or {} } }
  for _, stage in ipairs(stages) do pipeline[#pipeline + 1] = stage end
  return lumo.array(pipeline)
end

local function documents(checkup, stages)
  local plan = core.aggregate_plan(checkup.relation.pivot_table, pipeline_of(checkup, stages), false)
  run(client_of(checkup.relation), plan)
  return core.plan_documents(plan)
end

--- Removes the rows of the pivot whose `_id`s a pipeline finds; gives their number.
local function delete_rows(checkup, stages)
  local relation = checkup.relation
  local plan = core.aggregate_plan(relation.pivot_table, pipeline_of(checkup, stages), true)
  return queries.delete_found(relation:row_state(), relation.rows, plan, client_of(relation))
end

local function join(list, more)
  local joined = {}
  for i, one in ipairs(list) do joined[i] = one end
  joined[#joined + 1] = more
  return joined
end

--- What else the rows of a relation may point to with that field: what other relations over the pivot say, unless
--- both ask for rows of their own.
local function other_targets(checkup, field, all)
  local targets, relation = {}, checkup.relation
  for _, other in ipairs(all) do
    local apart = checkup.condition and other.condition or other.relation.pivot_table ~= relation.pivot_table
    for _, side in ipairs(not apart and other.sides or {}) do
      if side.field == field then targets[#targets + 1] = side end
    end
  end
  return targets
end

--- The stages that find the `_id`s of rows whose record on one side is gone. relation:prune() sees the related side
--- alone.
local function orphan_stages(side, others)
  local field, state, key, types = side.field, side.state, side.key, {}
  for name in pairs(STORED_AS[state.by_attribute[key].type] or {}) do types[#types + 1] = name end
  -- A key of another type points to nothing that could be looked up, but perhaps to something that is there: it is
  -- told elsewhere, and stays.
  local known = #types > 0 and { [field] = { ["$type"] = lumo.array(types) } } or {}
  local stages, seen = { { ["$match"] = known } }, {}
  for _, target in ipairs(join(others, side)) do
    local from, stored = target.state.collection, target.state.by_attribute[target.key].stored
    if not seen[from .. "\0" .. stored] then
      stages[#stages + 1] = { ["$lookup"] = { from = from, localField = field, foreignField = stored, as = "there" } }
      stages[#stages + 1] = { ["$match"] = { there = { ["$size"] = 0 } } }
    end
    seen[from .. "\0" .. stored] = true
  end
  return join(stages, { ["$project"] = { _id = 1 } })
end

local function check_orphans(report, checkup, all, fix)
  for _, side in ipairs(checkup.sides) do
    local stages = orphan_stages(side, other_targets(checkup, side.field, all))
    local counted = documents(checkup, join(stages, { ["$count"] = "n" }))[1]
    if counted then
      local removed = fix and delete_rows(checkup, stages)
      tell(report, fix, "%d rows of \"%s\" whose %s is gone%s", removed or counted.n, checkup.relation.pivot_table,
        side.state.name, fix and ": removed" or "")
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

--- Of rows of one pair those that say nothing else than one before.
local function copies_of(rows)
  local copies, seen = {}, {}
  for _, row in ipairs(rows) do
    local text = content(row)
    if seen[text] then copies[#copies + 1] = row._id end
    seen[text] = true
  end
  return copies
end

local function check_duplicates(report, checkup, fix)
  local relation = checkup.relation
  if relation.duplicates then return end
  local owner, related = relation.pivot_foreign_key, relation.pivot_related_foreign_key
  local pairs_found = documents(checkup, {
    { ["$group"] = {
      _id = lumo.ordered { { "owner", "$" .. owner }, { "related", "$" .. related } },
      ids = { ["$push"] = "$_id" }, n = { ["$sum"] = 1 },
    } },
    { ["$match"] = { n = { ["$gt"] = 1 } } },
  })
  local removed, left = 0, 0
  for _, found in ipairs(pairs_found) do
    local rows = documents(checkup, {
      { ["$match"] = { _id = { ["$in"] = found.ids } } }, { ["$sort"] = { _id = 1 } },
    })
    local copies = copies_of(rows)
    if fix and #copies > 0 then
      removed = removed + delete_rows(checkup, {
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
local function check_key(report, checkup, side)
  local column = side.state.by_attribute[side.key]
  local wanted = STORED_AS[column.type]
  if not wanted then return end
  local types = documents(checkup, {
    { ["$group"] = { _id = { ["$type"] = "$" .. side.field }, n = { ["$sum"] = 1 } } }, { ["$sort"] = { _id = 1 } },
  })
  for _, found in ipairs(types) do
    if not wanted[found._id] then
      tell(report, false, "\"%s\" of \"%s\" is %s in %d rows, and \"%s.%s\" is %s", side.field,
        checkup.relation.pivot_table, found._id, found.n, side.state.name, side.key, column.type)
    end
  end
end

local function check(report, checkup, all, fix)
  print(tostring(checkup.relation):match("%((.*)%)"))
  for _, side in ipairs(checkup.sides) do check_key(report, checkup, side) end
  check_orphans(report, checkup, all, fix)
  check_duplicates(report, checkup, fix)
end

--- What is to be looked at of a relation; nil where on_query does not let it be.
local function checkup_of(relation)
  relation:boot()
  local ok, handle = pcall(relation.bound_handle, relation, "doctor", client_of(relation))
  if not ok then
    print(("%s.%s\n  skipped: %s"):format(relation.state.name, relation.relation_name, tostring(handle)))
    return nil
  end
  return { relation = relation, condition = core.relation_condition(handle), sides = {
    { field = relation.pivot_foreign_key, state = relation.state, key = relation.local_key },
    { field = relation.pivot_related_foreign_key, state = relation.related_state, key = relation.related_key },
  } }
end

--- Two relations of the same records over the same rows are looked at once.
local function rows_of(checkup)
  local ends = {}
  for i, side in ipairs(checkup.sides) do
    ends[i] = table.concat({ side.field, side.state.collection, side.key }, "\0")
  end
  table.sort(ends)
  local condition = checkup.condition and lumo.bson.encode(checkup.condition) or ""
  return table.concat({ checkup.relation.pivot_table, ends[1], ends[2], condition }, "\0")
end

--- The relations whose rows are looked at, in the order of models and names.
local function checkups()
  local list, seen = {}, {}
  for _, state in ipairs(registry.all()) do
    local relations = {}
    for _, relation in pairs(state.relations) do
      if relation.type == "manyToMany" then relations[#relations + 1] = relation end
    end
    table.sort(relations, function(a, b) return a.relation_name < b.relation_name end)
    for _, relation in ipairs(relations) do
      local checkup = checkup_of(relation)
      local rows = checkup and rows_of(checkup)
      if rows and not seen[rows] then
        list[#list + 1] = checkup
        seen[rows] = true
      end
    end
  end
  return list
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
  local report, all = { findings = 0 }, checkups()
  for _, checkup in ipairs(all) do check(report, checkup, all, fix) end
  check_indexes(report, fix)
  print(report.findings == 0 and "nothing is wrong" or ("%d findings"):format(report.findings))
  return report.findings
end

return doctor
