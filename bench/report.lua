-- The table of ratios from lines `ROUND SIDE NAME VALUE`: of each round's ratios the median.
local ROWS = {
  -- what, the Lua figure, the C figure (none: the figure itself is the ratio; with `own` it is Lua's, too), the bound
  { "hydrate, nothing read", "read_0", "walk", 0.9 },
  { "hydrate, 3 columns read", "read_3", "walk", 2.0 },
  { "hydrate, 13 columns read", "read_13", "walk", 6.5 },
  { "hydrate with an array and an object, 13 columns read", "nested_13", "walk_nested" },
  { "hydrate, nothing read, collector running", "read_0_collector", "walk" },
  { "hydrate, 3 columns read, collector running", "read_3_collector", "walk" },
  { "hydrate, 13 columns read, collector running", "read_13_collector", "walk" },
  { "memory of an unread record / its BSON", "memory", nil, 1.25 },
  { "find by id", "find", "find", 1.15 },
  { "save of one column", "save", "save", 1.15 },
  { "create_many of 50,000", "create_many", "create_many", 1.0 },
  { "create_many of 50,000, collector stopped", "create_many_stopped", "create_many" },
  { "create_many with a before hook / without", "create_many_hook", "create_many", 1.5, own = true },
  { "attach of 10,000 ids, wall time", "attach", "attach", 1.5 },
  { "attach of 10,000 ids", "attach_cpu", "attach_cpu" },
  { "sync of 10,000, 100 differ, wall time", "sync", "sync", 1.3 },
  { "sync of 10,000, 100 differ", "sync_cpu", "sync_cpu" },
  { "1,000 parents with 20 labels, wall time", "eager", "eager", 1.3 },
  { "1,000 parents with 20 labels", "eager_cpu", "eager_cpu" },
  { "1,000 parents with 20 labels, memory", "eager_memory", "eager_memory", 1.5 },
  { "5,000 parents with 20 labels: 100,000 pivot rows", "merge_cpu", "merge_cpu", 1.5 },
  { "with_count of 1,000 parents, wall time", "with_count", "with_count", 1.2 },
  { "bytes received for 3 labels of each of 1,000 parents / of those rows and labels alone", "group_limit", nil, 1.5 },
  { "1,000 authors with 20 posts, wall time", "owned", "owned", 1.3 },
  { "1,000 authors with 20 posts", "owned_cpu", "owned_cpu" },
  { "bytes of saving one element, of 1,000 / of 10", "element", nil, 1.05 },
  { "a query, built and compiled", "build", "build", 3.0 },
  { "a query, what is left to the collector / the builder alone", "build_garbage", nil, 1.0 },
  { "to_json / decoding, and encoding by cjson", "to_json", "cjson", 0.2, own = true },
  { "1,000,000 records streamed, growth in MiB", "stream", nil, 1.0 },
}

local figures, rounds = {}, 0
for line in io.lines(arg[1]) do
  local round, side, name, value = line:match("^(%d+) (%S+) (%S+) (%S+)$")
  round = tonumber(round)
  figures[round] = figures[round] or { c = {}, ["lua5.4"] = {}, luajit = {} }
  figures[round][side][name] = tonumber(value)
  rounds = math.max(rounds, round)
end

local function median(values)
  table.sort(values)
  local middle = (#values + 1) / 2
  return (values[math.floor(middle)] + values[math.ceil(middle)]) / 2
end

--- The median of what fn gives for the rounds, nil if it gives nothing.
local function over_rounds(fn)
  local values = {}
  for round = 1, rounds do
    values[#values + 1] = fn(figures[round])
  end
  return #values > 0 and median(values) or nil
end

local function ratio(row, side)
  return over_rounds(function(round)
    local value, base = round[side][row[2]], 1
    if row[3] then base = (row.own and round[side] or round.c)[row[3]] end
    return value and value / base
  end)
end

local function time(seconds)
  if seconds >= 1e-3 then return ("%.1f ms"):format(seconds * 1e3) end
  if seconds >= 1e-5 then return ("%.1f µs"):format(seconds * 1e6) end
  return ("%.0f ns"):format(seconds * 1e9)
end

local function amount(row)
  local value = row[3] and not row.own and over_rounds(function(round) return round.c[row[3]] end)
  if not value then return "" end
  if row[2]:match("memory$") then return ("%.1f MB"):format(value / 1e6) end
  return time(value)
end

print("| | C | Lua 5.4 | bound | | LuaJIT |")
print("|---|---|---|---|---|---|")
for _, row in ipairs(ROWS) do
  local lua, luajit, bound = ratio(row, "lua5.4"), ratio(row, "luajit"), row[4]
  if lua then -- some rows are measured only when asked for
    local verdict = not bound and "" or lua <= bound and "met" or "missed"
    local limit = bound and ("%.2f"):format(bound) or ""
    print(("| %s | %s | %.2f | %s | %s | %.2f |"):format(row[1], amount(row), lua, limit, verdict, luajit))
  end
end
