-- One question, several plans: a condition that always holds, but is of both sides, makes the server join where two
-- finds would do. Whatever is asked, all plans must give the same records in the same order, and count them.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("relation_shapes")
teardown(helper.drop)

local function over(pivot_table, duplicates)
  return lumo.many_to_many("ShapeTag", {
    pivot_table = pivot_table, pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
    pivot_columns = { "w", "k" }, duplicates = duplicates,
  })
end

local Post = lumo.model("ShapePost", {
  collection = "shape_posts",
  columns = { id = { "any", primary = true } },
  relations = { tags = over("shape_pairs", false), bag = over("shape_bag", true) },
})
lumo.model("ShapeTag", {
  collection = "shape_tags",
  columns = { id = { "any", primary = true }, n = "any", g = "integer" },
})

-- The same numbers on every Lua.
local seed = 1
local function random(low, high)
  seed = (seed * 16807) % 2147483647
  return low + seed % (high - low + 1)
end
local function one_of(list) return list[random(1, #list)] end

--- Keys of all kinds.
local function key(i)
  local kinds = { i, "k" .. i, lumo.objectid(("%024x"):format(i)), i + 0.5 }
  return kinds[i % 4 + 1]
end

setup(function()
  local posts, tags, pairs_, bag = {}, {}, {}, {}
  for i = 1, 16 do posts[i] = { _id = key(i) } end
  for i = 1, 20 do tags[i] = { _id = key(i * 3), n = one_of { 1, "a", 2.5, true, lumo.null }, g = random(0, 3) } end
  local function add(list, post, tag)
    list[#list + 1] = { _id = #pairs_ + #bag, post_id = post, tag_id = tag, w = random(0, 9), k = random(0, 2) }
  end
  for i = 1, 15 do
    for k = 1, 23 do -- the last three are orphans
      if random(1, 5) < 3 then add(pairs_, key(i), key(k * 3)) end
      for _ = 1, random(0, 5) - 3 do add(bag, key(i), key(k * 3)) end
    end
    add(pairs_, key(i), one_of { lumo.null, lumo.regex("."), lumo.array { key(3) } }) -- no keys
  end
  helper.insert("shape_posts", posts)
  helper.insert("shape_tags", tags)
  helper.insert("shape_pairs", pairs_)
  helper.insert("shape_bag", bag)
end)

---- questions: each is a list of functions that add to a query

local COLUMNS = { "n", "g", "id", "pivot.w", "pivot.k" }

local function qualified(name, relation)
  return (name:gsub("^pivot", relation == "bag" and "shape_bag" or "shape_pairs"))
end

--- Some columns, and at their end what tells all rows apart.
local function random_order(method, relation)
  local order = {}
  for _ = 1, random(0, 2) do order[#order + 1] = { one_of(COLUMNS), one_of { "asc", "desc" } } end
  order[#order + 1] = { "id", one_of { "asc", "desc" } }
  order[#order + 1] = { "pivot._id" }
  return function(q)
    for _, entry in ipairs(order) do q[method](q, qualified(entry[1], relation), entry[2]) end
  end
end

local function random_conditions(ask)
  local low, high = random(0, 3), random(0, 9)
  if random(1, 2) == 1 then ask(function(q) q:where("g", "<=", low) end) end
  if random(1, 5) < 3 then ask(function(q) q:where_pivot("w", ">", high) end) end
  if random(1, 3) == 1 then
    ask(function(q) q:where(function(group) group:where("g", 1):or_where_pivot("w", high) end) end)
  end
end

local function random_question(relation)
  local question = { relation = relation }
  local function ask(fn) question[#question + 1] = fn end
  random_conditions(ask)
  local limit, offset = random(1, 4), random(0, 3)
  local kind = one_of { "plain", "ordered", "limited", "paged", "grouped", "grouped and ordered" }
  if kind ~= "plain" and kind ~= "grouped" then ask(random_order("order_by", relation)) end
  if kind == "limited" then ask(function(q) q:limit(limit) end) end
  if kind == "paged" then ask(function(q) q:limit(limit):offset(offset) end) end
  if kind:find("grouped") then
    ask(function(q) q:group_limit(limit) end)
    ask(random_order("group_order_by", relation))
  end
  question.is_sorted, question.is_grouped = kind ~= "plain", kind:find("grouped") ~= nil
  return question
end

local function holds_always(q)
  q:where(function(group) group:where_raw { _id = { ["$exists"] = true } }:or_where_pivot("w", -1) end)
end

local function asked(question, q, is_paired)
  for _, ask in ipairs(question) do ask(q) end
  if is_paired then holds_always(q) end
  return q
end

local function show(question, list)
  local all = {}
  for i, one in ipairs(list) do all[i] = ("%s/%d/%d"):format(tostring(one.id), one.pivot.w, one.pivot.k) end
  if not question.is_sorted then table.sort(all) end
  return table.concat(all, " ")
end

local function loaded(question, posts, is_paired)
  lumo.load(posts, question.relation, function(q) asked(question, q, is_paired) end)
  local all = {}
  for i, post in ipairs(posts) do all[i] = show(question, post[question.relation]) end
  return all
end

local function streamed(question, q)
  local list = {}
  for one in q:each() do list[#list + 1] = one end
  return show(question, list)
end

describe("all plans give the same", function()
  for number = 1, 80 do
    it("question " .. number, function()
      local posts = Post:query():order_by("id"):exec()
      local question = random_question(one_of { "tags", "bag" })
      local lists = loaded(question, posts, false)
      assert.same(lists, loaded(question, posts, true))
      if question.is_grouped then return end
      local at = random(1, #posts)
      local function query() return posts[at]:related(question.relation):query() end
      assert.equal(lists[at], show(question, asked(question, query(), false):exec()))
      assert.equal(lists[at], show(question, asked(question, query(), true):exec()))
      assert.equal(lists[at], streamed(question, asked(question, query(), false)))
      assert.equal(#posts[at][question.relation], asked(question, query(), false):count())
      assert.equal(#posts[at][question.relation], asked(question, query(), true):count())
    end)
  end
end)
