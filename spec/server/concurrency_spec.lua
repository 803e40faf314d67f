-- Many processes writing the pairs of one parent at once: nothing is lost, doubled or told twice.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("concurrency")
teardown(helper.drop)

-- What every process runs first: its connection and models, and `start()`, which waits for the common moment.
local PRELUDE = [[
local lumo = require "lumo"
local uri, database, post_id, moment, number = arg[1], arg[2], arg[3], tonumber(arg[4]), tonumber(arg[5])
lumo.connect(uri, { database = database, timeout_ms = 60000 })
local Post = lumo.model("Post", {
  collection = "posts",
  columns = { title = "string" },
  relations = {
    tags = lumo.many_to_many("Tag", {
      pivot_table = "post_tags", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
    }),
    hooked = lumo.many_to_many("Tag", {
      pivot_model = "Hooked", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
    }),
    stepwise = lumo.many_to_many("Tag", {
      pivot_model = "Hooked", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id", atomic = false,
    }),
  },
})
lumo.model("Tag", { collection = "tags", columns = { name = "string" } })
lumo.model("Hooked", { collection = "post_tags", columns = { post_id = "objectid", tag_id = "objectid" } })
  :before("create", function(row) row.note = "made" end)
local post = Post:find_or_fail(post_id)

local function start()
  while lumo.datetime.now().ms < moment do end
end

-- The id with this number: the same in every process.
local function tag_id(n)
  return lumo.objectid(("60a1e2c3%016x"):format(n))
end

local function tell(name, ids)
  for _, id in ipairs(ids) do
    print(name, tostring(id))
  end
end
]]

local post_id

before_each(function()
  helper.clear("posts", "post_tags")
  post_id = lumo.objectid()
  helper.insert("posts", { { _id = post_id, title = "shared" } })
end)

-- Runs the script in `count` processes at once; returns how often each id was told under each name.
local function run(count, script)
  local moment = helper.now_ms() + 700
  local processes = {}
  for i = 1, count do
    processes[i] = helper.spawn(PRELUDE .. script, nil, helper.uri(), helper.database, tostring(post_id),
      ("%d"):format(moment), i)
  end
  local told = {}
  for _, process in ipairs(processes) do
    local output, status = process:wait()
    assert.equal(0, status, output)
    for name, id in output:gmatch("(%a+)\t(%x+)\n") do
      told[name] = told[name] or {}
      told[name][id] = (told[name][id] or 0) + 1
    end
  end
  return told
end

local function size(set)
  local n = 0
  for _ in pairs(set or {}) do
    n = n + 1
  end
  return n
end

-- The pairs that are stored, after making sure that no pair is stored twice.
local function distinct_pairs()
  local groups = helper.aggregate("post_tags", {
    { ["$group"] = { _id = { post = "$post_id", tag = "$tag_id" }, n = { ["$sum"] = 1 } } },
  })
  for _, group in ipairs(groups) do
    assert.equal(1, group.n)
  end
  return #groups
end

local function each_once(set)
  for id, times in pairs(set) do
    assert.equal(1, times, id)
  end
end

describe("eight processes", function()
  it("attaching the same 1,000 ids leave 1,000 pairs, each told as attached once", function()
    local told = run(8, [[
      local ids = {}
      for i = 1, 1000 do
        ids[i] = tag_id(i)
      end
      start()
      local result = post.tags:attach(ids)
      assert(#result.attached + #result.unchanged == 1000)
      assert(#result.updated == 0 and #result.detached == 0)
      tell("attached", result.attached)
    ]])
    assert.equal(1000, distinct_pairs())
    assert.equal(1000, #helper.docs("post_tags"))
    assert.equal(1000, size(told.attached))
    each_once(told.attached)
  end)

  it("attaching the same 1,000 ids in different orders do the same", function()
    local told = run(8, [[
      local ids = {}
      for i = 1, 1000 do
        ids[i] = tag_id((i * 7 + number * 131) % 1000)
      end
      start()
      tell("attached", post.tags:attach(ids).attached)
    ]])
    assert.equal(1000, distinct_pairs())
    assert.equal(1000, size(told.attached))
    each_once(told.attached)
  end)

  it("attaching with attributes leave each pair once, with one process's attributes", function()
    local told = run(8, [[
      local map = {}
      for i = 1, 200 do
        map[tag_id(i)] = { by = number, twice = number * 2 }
      end
      start()
      tell("attached", post.tags:attach(map).attached)
    ]])
    assert.equal(200, distinct_pairs())
    assert.equal(200, size(told.attached))
    each_once(told.attached)
    for _, row in ipairs(helper.docs("post_tags")) do
      assert.equal(row.by * 2, row.twice)
    end
  end)

  it("attaching one id at a time leave each pair once", function()
    local told = run(8, [[
      start()
      for i = 1, 50 do
        tell("attached", post.tags:attach(tag_id(i)).attached)
      end
    ]])
    assert.equal(50, distinct_pairs())
    assert.equal(50, size(told.attached))
    each_once(told.attached)
  end)
end)

describe("with hooks of a pivot model, four processes", function()
  for _, name in ipairs { "hooked", "stepwise" } do
    it("attaching the same ids leave each pair once, told as attached once: " .. name, function()
      local told = run(4, ("local relation = post.%s\n"):format(name) .. [[
        start()
        for i = 1, 40 do
          tell("attached", relation:attach(tag_id(i)).attached)
        end
        local result = relation:sync{ tag_id(1), tag_id(2), tag_id(41) }
        tell("attached", result.attached)
      ]])
      assert.equal(3, distinct_pairs())
      assert.equal(3, #helper.docs("post_tags", { note = "made" }))
      assert.is_true(size(told.attached) >= 41)
      if name == "hooked" then assert.equal(1, told.attached[("60a1e2c3%016x"):format(41)]) end
    end)
  end
end)

describe("four processes that find or create the same records", function()
  it("leave one record and one pair of each name", function()
    helper.clear("tags")
    helper.create_index("tags", { { "name", 1 } }, { unique = true })
    finally(function() helper.command { { "dropIndexes", "tags" }, { "index", "name" } } end)
    local told = run(4, [[
      start()
      for i = 1, 20 do
        tell("found", { post.tags:first_or_create({ name = "n" .. i })._id })
      end
    ]])
    assert.equal(20, #helper.docs("tags"))
    assert.equal(20, distinct_pairs())
    assert.equal(20, size(told.found))
    for _, times in pairs(told.found) do assert.equal(4, times) end
  end)
end)

describe("four processes", function()
  it("syncing the same 500 ids leave 500 pairs, each told as attached once", function()
    local told = run(4, [[
      local ids = {}
      for i = 1, 500 do
        ids[i] = tag_id(i)
      end
      start()
      local result = post.tags:sync(ids)
      assert(#result.attached + #result.unchanged == 500)
      tell("attached", result.attached)
      tell("detached", result.detached)
    ]])
    assert.equal(500, distinct_pairs())
    assert.equal(500, size(told.attached))
    each_once(told.attached)
    assert.equal(0, size(told.detached))
  end)

  it("syncing different ids again and again never fail and never store a pair twice", function()
    run(4, [[
      start()
      for round = 1, 10 do
        local ids = {}
        for i = 1, 40 do
          ids[i] = tag_id((i + round * 5 + number * 10) % 80)
        end
        post.tags:sync(ids)
      end
    ]])
    -- Which pairs are left is nobody's promise: syncs of different sets do not take turns.
    assert.is_true(distinct_pairs() <= 80)

    run(1, [[
      local ids = {}
      for i = 1, 40 do
        ids[i] = tag_id(i)
      end
      post.tags:sync(ids)
    ]])
    assert.equal(40, distinct_pairs())
    assert.equal(40, #helper.docs("post_tags"))
  end)

  it("syncing one set over another end with exactly it", function()
    local documents = {}
    for i = 1, 100 do
      documents[i] = { post_id = post_id, tag_id = lumo.objectid(("60a1e2c3%016x"):format(1000 + i)) }
    end
    helper.insert("post_tags", documents)
    local told = run(4, [[
      local map = {}
      for i = 1, 100 do
        map[tag_id(i)] = { weight = 1 }
      end
      start()
      local result = post.tags:sync(map)
      tell("attached", result.attached)
      tell("detached", result.detached)
    ]])
    assert.equal(100, distinct_pairs())
    assert.equal(100, size(told.attached))
    each_once(told.attached)
    assert.equal(100, size(told.detached))
    for _, row in ipairs(helper.docs("post_tags")) do
      assert.equal(1, row.weight)
    end
  end)
end)
