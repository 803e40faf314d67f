-- What a query shows of itself, and iteration over cursors: in bounded memory, and leaving nothing behind.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local conn = helper.connect("each")
teardown(helper.drop)

local Row = lumo.model("EachRow", {
  collection = "rows",
  columns = { n = "integer", text = "string", list = { "array", of = "integer" },
    items = { "array", of = { "object", columns = { a = "integer" } } } },
  relations = { marks = lumo.belongs_to_many("EachMark") },
})
lumo.model("EachMark", { collection = "marks", columns = { name = "string" } })

local COUNT = 5000

--- Cursors that the server has open.
local function open_cursors()
  return tonumber(tostring(conn:command({ serverStatus = 1 }).metrics.cursor.open.total))
end

--- Whether all of them are gone, once a collector has run and something was sent.
local function all_closed(before)
  for _ = 1, 20 do
    collectgarbage()
    collectgarbage()
    conn:ping()
    Row:query():limit(1):exec()
    if open_cursors() <= before then return true end
  end
  return false, open_cursors()
end

setup(function()
  local documents = {}
  for i = 1, COUNT do documents[i] = { n = i, text = ("x"):rep(200) } end
  helper.insert("rows", documents)
  local first = Row:query():order_by("n"):first()
  local marks = {}
  for i = 1, 2500 do marks[i] = { name = ("m%d"):format(i) } end
  first:related("marks"):create_many(marks)
end)

describe("each", function()
  it("gives all of them, a batch at a time", function()
    local sum = 0
    local count, names = helper.commands(function()
      for row in Row:query():each() do sum = sum + row.n end
    end)
    assert.equal(COUNT * (COUNT + 1) / 2, sum)
    assert.is_true(count > 2 and count < 12, table.concat(names, " "))
    assert.equal("find", names[1])
    assert.equal("getMore", names[2])
  end)

  for what, make in pairs {
    records = function() return Row:query():each() end,
    ["plain tables"] = function() return Row:query():lean():each() end,
    ["an aggregation"] = function() return Row:aggregate({ { ["$match"] = {} } }, { each = true }) end,
    ["related records"] = function() return Row:query():order_by("n"):first():related("marks"):query():each() end,
  } do
    it("of " .. what .. " leaves no cursor behind when the loop is left", function()
      local before = open_cursors()
      local function leave() -- in a coroutine of its own, whose stack goes with it
        local seen = 0
        for one in make() do
          seen = seen + 1
          assert.is_truthy(one)
          if seen == 3 then break end
        end
        local iterator = make()
        iterator()
        pcall(function()
          for _ in make() do error("left by an error") end
        end)
      end
      for _ = 1, 5 do coroutine.wrap(leave)() end
      assert.is_true(all_closed(before))
    end)
  end

  it("gives its client back when the loop is left", function()
    local small = lumo.connect(helper.uri_with { database = conn.database }, { name = "each", pool_size = 2,
      timeout_ms = 2000 })
    for _ = 1, 6 do
      for row in Row:query { connection = "each" }:each() do
        if row.n then break end
      end
      collectgarbage()
      collectgarbage()
      assert.equal(COUNT, Row:query({ connection = "each" }):count())
    end
    small:close()
  end)

  it("holds memory flat", function()
    local function peak(limit)
      collectgarbage()
      collectgarbage()
      local base, most, seen = collectgarbage("count"), 0, 0
      for row in Row:query():limit(limit):lean():each() do
        seen = seen + 1
        assert(row.n)
        if seen % 500 == 0 then
          collectgarbage()
          most = math.max(most, collectgarbage("count") - base)
        end
      end
      return most
    end
    peak(1000)
    local short, long = peak(2000), peak(COUNT)
    assert.is_true(long < short * 1.5 + 300, ("%.0f KiB for %d, %.0f KiB for 2000"):format(long, COUNT, short))
  end)

  it("in a transaction reads in it", function()
    local ok, err = pcall(lumo.transaction, function()
      Row:create { n = -1 }
      local seen = 0
      for row in Row:query():where("n", "<", 1500):each() do
        if row.n == -1 then seen = seen + 1 end
      end
      assert.equal(1, seen)
      error("back", 0)
    end)
    assert.same({ false, "back" }, { ok, err })
  end)
end)

describe("tostring of a query", function()
  local function shown(query)
    return tostring(query)
  end

  it("is the command that exec would send, and sends none", function()
    local text
    assert.equal(0, (lumo.count_commands(function()
      text = shown(Row:query():where("n", ">", 5):order_by("n", "desc"):limit(3):offset(1):select("text"):comment("c"))
    end)))
    local command = lumo.bson.from_json(text)
    command = type(command) == "string" and lumo.bson.decode(command) or command
    assert.equal("rows", command.find)
    assert.same({ n = { ["$gt"] = 5 } }, command.filter)
    assert.same({ n = -1 }, command.sort)
    assert.equal(3, command.limit)
    assert.equal(1, command.skip)
    assert.same({ text = 1, _id = 1 }, command.projection)
    assert.equal("c", command.comment)
  end)

  it("is an aggregate where exec sends one, and both commands of a relation", function()
    assert.matches('^{"aggregate":"rows"', shown(Row:query():has("marks")))
    local related = shown(Row:query():order_by("n"):first():related("marks"):query():where("name", "m1"))
    assert.matches('^{"find":"each_mark_each_row".*\n{"find":"marks".*"m1"', related)
    local pivot = shown(Row:query():order_by("n"):first():related("marks"):pivot_query())
    assert.matches('^{"find":"each_mark_each_row"', pivot)
  end)

  it("of conditions on elements is their filter", function()
    local seen = {}
    Row:query():where_elem_match("items", function(item)
      item:where("a", 1):or_where("a", 2)
      seen[1] = tostring(item)
    end):where_elem_match("list", function(n)
      n:where(">", 1)
      seen[2] = tostring(n)
    end)
    assert.same({ '{"$or":[{"a":{"$eq":1}},{"a":{"$eq":2}}]}', '{"$gt":1}' }, seen)
  end)
end)
