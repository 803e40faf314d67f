-- Writes at their edges: larger than one message, with numbers of another type, and what a failed one says of itself.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("review_write")
teardown(helper.drop)

local expect_error, expect_commands = helper.expect_error, helper.expect_commands
local conn = helper.conn

local Row = lumo.model("ReviewRow", { collection = "rows", columns = { n = "integer", payload = "string" } })

local function keys(pivot)
  return { pivot_table = pivot, pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id" }
end

local function relation(pivot, options)
  local given = keys(pivot)
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  return lumo.many_to_many("ReviewWriteTag", given)
end

local RELATIONS = {
  tags = relation("pairs"),
  stamped = relation("stamped", { pivot_timestamps = true }),
  bag = relation("bag", { duplicates = true }),
  stepwise = relation("pairs", { atomic = false }),
}

local Post = lumo.model("ReviewWritePost", { collection = "posts", relations = RELATIONS })
local Tag = lumo.model("ReviewWriteTag", { collection = "tags" })
local Away = lumo.model("ReviewAway", { collection = "posts", connection = "review away", relations = RELATIONS })

local post, ids

local function fail(mode, data)
  conn:command(lumo.ordered { { "configureFailPoint", "failCommand" }, { "mode", mode }, { "data", data or {} } },
    { database = "admin" })
end

local function fail_next(command, data)
  data.failCommands = lumo.array { command }
  fail({ times = 1 }, data)
end

local function count(collection)
  local counted = helper.aggregate(collection, { { ["$count"] = "n" } })[1]
  return counted and counted.n or 0
end

before_each(function()
  helper.clear("rows", "posts", "tags", "pairs", "stamped", "bag")
  post = Post:create {}
  ids = {}
  for i, tag in ipairs(Tag:create_many { {}, {}, {} }) do
    ids[i] = tag._id
  end
end)

after_each(function() fail "off" end)

describe("a write that needs several messages", function()
  local function numbered(n, shared)
    local list = {}
    for i = 1, n do
      list[i] = { n = shared or i }
    end
    return list
  end

  -- A transaction has to fit the server's cache, of which a quarter of a gigabyte takes less than 40 MB.
  local function has_room()
    local cache = conn:command({ serverStatus = 1 }).wiredTiger.cache
    if tonumber(cache["maximum bytes configured"]) > 5e8 then return true end
    pending("the server's cache is too small")
  end

  it("is written in a transaction, 100,000 statements at a time", function()
    if not has_room() then return end
    local list
    lumo.transaction(function()
      expect_commands(2, function() list = Row:create_many(numbered(100001)) end)
    end)
    assert.equal(100001, #list)
    assert.equal(100001, list[100001].n)
    assert.equal(100001, count("rows"))
    assert.equal(100001, Row:find(list[100001]._id).n)
  end)

  it("is written in a transaction of its own", function()
    if not has_room() then return end
    Row:create_many(numbered(100001))
    assert.equal(100001, count("rows"))
  end)

  it("is written in a transaction, 40 MB at a time", function()
    if not has_room() then return end
    local list = {}
    for i = 1, 5 do
      list[i] = { n = i, payload = ("x"):rep(10000000) }
    end
    lumo.transaction(function() Row:create_many(list) end)
    assert.equal(5, count("rows"))
    assert.equal(10000000, #Row:query():where("n", 5):first().payload)
  end)

  it("names the statement that was refused by its own number, and leaves nothing", function()
    if not has_room() then return end
    helper.create_index("rows", { { "n", 1 } }, { unique = true })
    finally(function() conn:command(lumo.ordered { { "dropIndexes", "rows" }, { "index", "n" } }) end)
    local list = numbered(100003)
    list[100003].n = 5
    local err = expect_error("E_DUPLICATE_KEY", function()
      lumo.transaction(function() Row:create_many(list) end)
    end)
    assert.equal("n", err.key)
    assert.equal("not_applied", err.outcome)
    assert.equal(0, count("rows"))
  end)

  it("is not torn when a later part fails", function()
    if not has_room() then return end
    fail({ skip = 1 }, { failCommands = lumo.array { "insert" }, errorCode = 20 })
    local err = expect_error("E_SERVER", function()
      lumo.transaction(function() Row:create_many(numbered(100001)) end)
    end)
    fail "off"
    assert.equal("not_applied", err.outcome)
    assert.equal(0, count("rows"))
  end)

  it("that is larger than the server's cache allows says what to do", function()
    fail_next("insert", { errorCode = 388 })
    local started = helper.now_ms()
    local err = expect_error("E_SERVER", function()
      lumo.transaction(function() Row:create_many { { n = 1 }, { n = 2 } } end)
    end)
    assert.is_true(helper.now_ms() - started < 10000)
    assert.equal(388, err.server_code)
    assert.equal("not_applied", err.outcome)
    assert.matches("larger than the server's cache allows", err.message, 1, true)
    assert.matches("atomic = false", err.message, 1, true)
  end)
end)

describe("a number that equals the stored one", function()
  local function type_of(pivot, field)
    return helper.type_of(pivot, { post_id = post._id, tag_id = ids[1] }, field)
  end

  local function store(pivot, fields)
    fields.post_id, fields.tag_id = post._id, ids[1]
    helper.insert(pivot, { fields })
    helper.convert(pivot, {}, "w", "$toDouble")
    assert.equal("double", type_of(pivot, "w"))
  end

  for name, pivot in pairs { tags = "pairs", stamped = "stamped" } do
    it("stays as it is when one id is attached: " .. name, function()
      store(pivot, { w = 5 })
      local before = helper.doc(pivot, {})
      local result
      expect_commands(1, function() result = post[name]:attach { [ids[1]] = { w = 5 } } end)
      assert.equal(1, #result.unchanged)
      assert.equal(0, #result.updated)
      assert.equal("double", type_of(pivot, "w"))
      assert.same(before, helper.doc(pivot, {}))
    end)

    it("stays as it is beside one that changes: " .. name, function()
      store(pivot, { w = 5, note = "a" })
      local result
      expect_commands(1, function()
        result = post[name]:attach { [ids[1]] = { w = 5, note = "b", fresh = false } }
      end)
      assert.equal(1, #result.updated)
      assert.equal("double", type_of(pivot, "w"))
      local row = helper.doc(pivot, {})
      assert.equal("b", row.note)
      assert.is_false(row.fresh)
    end)

    it("stays as it is in update_pivot_data, which counts the pair all the same: " .. name, function()
      store(pivot, { w = 5, note = "a" })
      expect_commands(1, function()
        assert.is_true(post[name]:update_pivot_data(ids[1], { w = 5 }))
      end)
      assert.equal("double", type_of(pivot, "w"))
      assert.is_nil(helper.doc(pivot, {}).updated_at)
      assert.is_true(post[name]:update_pivot_data(ids[1], { w = 5, note = "b" }))
      assert.equal("double", type_of(pivot, "w"))
      assert.equal("b", helper.doc(pivot, {}).note)
      assert.is_true(post[name]:update_pivot_data(ids[1], { w = 6 }))
      assert.equal("int", type_of(pivot, "w"))
      assert.is_false(post[name]:update_pivot_data(ids[2], { w = 1 }))
    end)

    it("does not keep null from being told from missing: " .. name, function()
      store(pivot, { w = 5 })
      assert.equal(1, #post[name]:attach { [ids[1]] = { note = lumo.null } }.updated)
      assert.equal("null", type_of(pivot, "note"))
      assert.equal(1, #post[name]:attach { [ids[1]] = { note = lumo.null } }.unchanged)
    end)
  end

  it("stays as it is in every row of a relation with duplicates", function()
    store("bag", { w = 5 })
    helper.insert("bag", { { post_id = post._id, tag_id = ids[1], w = 6 } })
    assert.is_true(post.bag:update_pivot_data(ids[1], { w = 5 }))
    local types = {}
    for _, found in ipairs(helper.aggregate("bag", { { ["$project"] = { t = { ["$type"] = "$w" } } } })) do
      types[found.t] = true
    end
    assert.same({ int = true, double = true }, types)
  end)

  it("values that look like expressions are values", function()
    local odd = { w = "$post_id", note = { ["of"] = "$$ROOT" }, list = { "$w", 1 } }
    assert.equal(1, #post.tags:attach { [ids[1]] = odd }.attached)
    assert.equal(1, #post.tags:attach { [ids[1]] = odd }.unchanged)
    assert.equal("$post_id", helper.doc("pairs", {}).w)
    assert.is_true(post.tags:update_pivot_data(ids[1], { w = "$tag_id", list = { "$x" } }))
    local row = helper.doc("pairs", {})
    assert.equal("$tag_id", row.w)
    assert.equal("$x", row.list[1])
    assert.equal("$$ROOT", row.note.of)
  end)

  it("a new row has its fields in the order of any new row", function()
    post.tags:attach { [ids[1]] = { w = 1 } }
    post.tags:attach { [ids[2]] = { w = 1 }, [ids[3]] = { w = 1 } }
    local order = { "_id", "post_id", "tag_id", "w" }
    for i = 1, 3 do
      assert.same(order, helper.field_order("pairs", { tag_id = ids[i] }))
    end
    post.stamped:attach { [ids[1]] = { w = 1 } }
    assert.same({ "_id", "post_id", "tag_id", "w", "created_at", "updated_at" },
      helper.field_order("stamped", { tag_id = ids[1] }))
  end)
end)

describe("the outcome of a relation's write that failed", function()
  local WRITES = {
    { "attach of one", function(tags) tags:attach(ids[1]) end },
    { "attach of several", function(tags) tags:attach { ids[1], ids[2] } end },
    { "attach with attributes", function(tags) tags:attach { [ids[1]] = { w = 1 }, [ids[2]] = { w = 2 } } end },
    { "sync", function(tags) tags:sync { ids[1], ids[2] } end },
    { "toggle", function(tags) tags:toggle { ids[1], ids[2] } end },
    { "detach", function(tags) tags:detach { ids[1] } end },
    { "update_pivot_data", function(tags) tags:update_pivot_data(ids[1], { w = 1 }) end },
  }

  --- The post on a connection that soon gives up.
  local function brief_post()
    local brief = lumo.connect(helper.uri_with {}, {
      name = "review brief", database = helper.database, timeout_ms = 400, app_name = "brief",
    })
    finally(function() brief:close() end)
    return Post:query({ client = brief }):where("id", post._id):first()
  end

  it("is not_applied when no server is there", function()
    local mongod = helper.start_mongod()
    local away = lumo.connect(mongod.address, { name = "review away", database = "away", timeout_ms = 200 })
    finally(function()
      away:close()
      mongod:remove()
    end)
    local owner = Away:create {}
    mongod:stop()
    for _, name in ipairs { "tags", "stepwise" } do
      for _, write in ipairs(WRITES) do
        local err = expect_error("E_NETWORK", function() write[2](owner[name]) end)
        assert.equal("not_applied", err.outcome, name .. " " .. write[1])
      end
      assert.is_nil(expect_error("E_NETWORK", function() owner[name]:ids() end).outcome)
    end
  end)

  it("is not_applied when the find that goes before is refused or cut", function()
    for _, name in ipairs { "tags", "stepwise" } do
      for _, write in ipairs { WRITES[2], WRITES[3], WRITES[4], WRITES[5] } do
        fail_next("find", { errorCode = 13 })
        local err = expect_error("E_AUTH", function() write[2](post[name]) end)
        assert.equal("not_applied", err.outcome, name .. " " .. write[1])
      end
    end
    local owner = brief_post()
    for _, write in ipairs { WRITES[2], WRITES[3], WRITES[4], WRITES[5] } do
      fail("alwaysOn", { failCommands = lumo.array { "find" }, appName = "brief", closeConnection = true })
      local err = expect_error("E_NETWORK", function() write[2](owner.stepwise) end)
      assert.equal("not_applied", err.outcome, write[1])
      fail "off"
    end
    fail_next("find", { errorCode = 13 })
    assert.is_nil(expect_error("E_AUTH", function() post.tags:ids() end).outcome)
    assert.equal(0, count("pairs"))
  end)

  it("is not_applied in a transaction that is rolled back, whatever was written before", function()
    fail_next("update", { errorCode = 20 })
    helper.insert("pairs", { { post_id = post._id, tag_id = ids[1], w = 0 } })
    local err = expect_error("E_SERVER", function()
      post.tags:sync { [ids[1]] = { w = 1 }, [ids[2]] = { w = 1 } }
    end)
    assert.equal("not_applied", err.outcome)
    assert.equal(1, count("pairs"))
    fail_next("find", { errorCode = 13 })
    err = expect_error("E_AUTH", function()
      lumo.transaction(function()
        Row:create { n = 1 }
        post.tags:sync { ids[1], ids[2] }
      end)
    end)
    assert.equal("not_applied", err.outcome)
    assert.equal(0, count("rows"))
  end)

  it("is applied when a later command of several fails, unknown when its answer is lost", function()
    helper.insert("pairs", { { post_id = post._id, tag_id = ids[1], w = 0 } })
    local function sync() post.stepwise:sync { [ids[1]] = { w = 1 }, [ids[2]] = { w = 1 } } end
    fail_next("update", { errorCode = 20 })
    assert.equal("applied", expect_error("E_SERVER", sync).outcome)
    assert.equal(2, count("pairs"))
    -- Nothing is missing any more: the find is followed by the update that fails.
    fail_next("update", { errorCode = 20 })
    assert.equal("not_applied", expect_error("E_SERVER", sync).outcome)
    local owner = brief_post()
    fail("alwaysOn", { failCommands = lumo.array { "update" }, appName = "brief", closeConnection = true })
    assert.equal("unknown", expect_error("E_NETWORK", function()
      owner.stepwise:sync { [ids[1]] = { w = 1 }, [ids[2]] = { w = 1 } }
    end).outcome)
  end)

  it("is unknown when an update of many documents fails at one of them", function()
    helper.create_index("rows", { { "payload", 1 } }, { unique = true, sparse = true })
    finally(function() conn:command(lumo.ordered { { "dropIndexes", "rows" }, { "index", "payload" } }) end)
    helper.insert("rows", { { n = 1 }, { n = 1 }, { n = 2 } })
    local function update(n)
      return expect_error("E_DUPLICATE_KEY", function() Row:query():where("n", n):update { payload = "same" } end)
    end
    assert.equal("unknown", update(1).outcome)
    assert.equal(1, #helper.docs("rows", { payload = "same" })) -- though the server counts none
    assert.equal("unknown", update(2).outcome)
  end)

  it("is unknown when the server breaks off a write of many", function()
    for _, write in ipairs {
      { "update", function(rows) rows:update { payload = "x" } end },
      { "delete", function(rows) rows:delete() end },
    } do
      fail_next(write[1], { errorCode = 11601 }) -- killOp
      assert.equal("unknown", expect_error("E_SERVER", function() write[2](Row:query():where("n", 1)) end).outcome)
    end
    fail_next("update", { errorCode = 11601 })
    local row = Row:create { n = 1 }
    row.n = 2
    assert.equal("not_applied", expect_error("E_SERVER", function() row:save() end).outcome)
  end)

  it("succeeds where several servers after another are not the primary", function()
    local function thrice(command, code)
      fail({ times = 3 }, { failCommands = lumo.array { command }, errorCode = code })
    end
    thrice("update", 10107)
    assert.same({ ids[1] }, post.stepwise:attach(ids[1]).attached)
    thrice("insert", 11602)
    Row:create { n = 1 }
    assert.equal(1, count("rows"))
    thrice("findAndModify", 10107)
    assert.is_truthy(Row:query():where("n", 1):find_one_and_update { payload = "found" })
  end)

  it("succeeds where the write concern fails once more than libmongoc repeats it", function()
    local concern = { code = 11602, errmsg = "stepping down", errorLabels = lumo.array { "RetryableWriteError" } }
    local function without_concern(command)
      fail({ times = 3 }, { failCommands = lumo.array { command }, writeConcernError = concern,
        errorLabels = lumo.array { "RetryableWriteError" } })
    end
    without_concern "update"
    post.stepwise:attach(ids[1])
    without_concern "update"
    assert.is_true(post.stepwise:update_pivot_data(ids[1], { w = 5 }))
    without_concern "insert"
    post.stepwise:attach { ids[1], ids[2] }
    assert.same({ 5 }, helper.pluck(helper.docs("pairs", { tag_id = ids[1] }), "w"))
    assert.equal(2, count("pairs"))
    local row = Row:create { n = 1 }
    row.n = 2
    without_concern "update"
    row:save()
    -- What a second execution would change is not repeated once more.
    without_concern "findAndModify"
    assert.equal("applied", expect_error("E_WRITE", function() row:increment("n", 1) end).outcome)
    fail "off"
    assert.equal(3, helper.doc("rows", { _id = row._id }).n)
  end)

  for _, name in ipairs { "bag", "stepwise" } do
    it("is applied when some rows of an insert are refused and others are there: " .. name, function()
      local pivot = name == "bag" and "bag" or "pairs"
      helper.create_index(pivot, { { "slot", 1 } }, { unique = true, sparse = true })
      finally(function() conn:command(lumo.ordered { { "dropIndexes", pivot }, { "index", "slot" } }) end)
      local function attach(first, second)
        return expect_error("E_DUPLICATE_KEY", function()
          post[name]:attach { [ids[1]] = { slot = first }, [ids[2]] = { slot = second } }
        end)
      end
      assert.equal("applied", attach(1, 1).outcome)
      assert.equal(1, count(pivot))
      local taken = helper.doc(pivot, {}).tag_id
      local before = count(pivot)
      if name == "bag" then
        assert.equal("not_applied", attach(1, 1).outcome)
        assert.equal(before, count(pivot))
        assert.equal(taken, helper.doc(pivot, {}).tag_id)
      end
    end)
  end
end)

describe("a commit that the server refuses", function()
  local function assert_free()
    local started = helper.now_ms()
    Row:query():where("n", 1):update { payload = "later" }
    assert.is_true(helper.now_ms() - started < 10000)
    assert.equal("later", Row:query():where("n", 1):first().payload)
  end

  it("leaves no transaction open on the server", function()
    Row:create { n = 1 }
    fail_next("commitTransaction", { errorCode = 13 })
    local err = expect_error("E_AUTH", function()
      lumo.transaction(function() Row:query():where("n", 1):update { payload = "never" } end)
    end)
    assert.equal("not_applied", err.outcome)
    assert_free()
    fail_next("commitTransaction", { errorCode = 13 })
    local trx = lumo.transaction()
    Row:query({ client = trx }):where("n", 1):update { payload = "never" }
    assert.equal("not_applied", expect_error("E_AUTH", function() trx:commit() end).outcome)
    assert_free()
  end)

  it("is applied when only its write concern is", function()
    local odd = lumo.connect(helper.uri_with { query = { "w=nowhere" } }, {
      name = "review concern", database = helper.database,
    })
    finally(function() odd:close() end)
    local err = expect_error("E_WRITE", function()
      lumo.transaction(function(trx) Row:create({ n = 7 }, { client = trx }) end, { connection = odd })
    end)
    assert.equal("applied", err.outcome)
    assert.equal(1, count("rows"))
  end)

  it("leaves none of a relation's own, either", function()
    helper.insert("pairs", { { post_id = post._id, tag_id = ids[1], w = 0 } })
    fail_next("commitTransaction", { errorCode = 13 })
    local err = expect_error("E_AUTH", function() post.tags:sync { [ids[1]] = { w = 1 }, [ids[2]] = { w = 1 } } end)
    assert.equal("not_applied", err.outcome)
    local started = helper.now_ms()
    assert.is_true(post.tags:update_pivot_data(ids[1], { w = 2 }))
    assert.is_true(helper.now_ms() - started < 10000)
    assert.equal(2, helper.doc("pairs", {}).w)
  end)
end)
