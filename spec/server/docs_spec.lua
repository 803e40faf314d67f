-- The examples in the documentation. Every ```lua block that stands after the line `<!-- run -->` is run; the blocks
-- of one file are one program, in a process and a database of its own. Its errors fail, and so does a line of them
-- that ends with `--> text` and prints anything else.
local helper = dofile("spec/helper.lua")

-- Those that must not become silent, as they teach by such blocks.
local TAUGHT = { "README.md", "docs/guide.md", "docs/models.md", "docs/queries.md", "docs/transactions.md",
  "docs/many-to-many.md" }

-- Runs in the second process: the program's file, the name to show for it.
local RUNNER = [[
local path, name = ...
local file = assert(io.open(path))
local code = file:read("*a")
file:close()
local printed = {}
function print(...)
  local line = debug.getinfo(2, "l").currentline
  local words = {}
  for i = 1, select("#", ...) do words[i] = tostring((select(i, ...))) end
  printed[line] = printed[line] or {}
  table.insert(printed[line], (table.concat(words, " "):gsub("%s+", " ")))
end
local program = assert((loadstring or load)(code, "@" .. name))
local ok, problem = xpcall(program, function(err) return debug.traceback(tostring(err), 2) end)
if not ok then
  io.stderr:write(problem, "\n")
  os.exit(1)
end
local number, failed = 0, false
for line in code:gmatch("([^\n]*)\n") do
  number = number + 1
  local wanted = line:match("%-%->%s*(.-)%s*$")
  local got = printed[number] or { "nothing" }
  for _, text in ipairs(wanted and got or {}) do
    if text ~= wanted:gsub("%s+", " ") then
      failed = true
      io.stderr:write(("%s:%d: printed %s\n"):format(name, number, text))
    end
  end
end
os.exit(failed and 1 or 0)
]]

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

--- The marked blocks as one program whose lines have the numbers that they have in the document; how many there are.
local function program_of(path)
  local lines, count, marked, inside = {}, 0, false, false
  for line in (read(path) .. "\n"):gmatch("([^\n]*)\n") do
    local kept = ""
    if inside then
      inside = line ~= "```"
      kept = inside and line or ""
    elseif line == "<!-- run -->" then
      marked = true
    elseif marked then
      assert(line == "```lua", ("%s:%d: after <!-- run --> comes a ```lua block"):format(path, #lines + 1))
      marked, inside, count = false, true, count + 1
    end
    lines[#lines + 1] = kept
  end
  assert(not inside and not marked, path .. " ends inside of a block")
  return table.concat(lines, "\n") .. "\n", count
end

--- Runs it, the connection string of a fresh database in MONGODB_URI; its output and exit status.
local function run(code, name, database)
  local path = helper.write_file(code)
  local environment = "MONGODB_URI=" .. helper.quote(helper.uri_with { database = database })
  local output, status = helper.spawn(RUNNER, environment, path, name):wait()
  os.remove(path)
  return output, status
end

describe("the documentation", function()
  setup(function() helper.connect("docs") end)

  local function drop(database)
    helper.conn:command({ dropDatabase = 1 }, { database = database })
  end

  local files = { "README.md" }
  for path in helper.shell("ls docs/*.md"):gmatch("[^\n]+") do
    files[#files + 1] = path
  end
  local counts = {}
  for number, path in ipairs(files) do
    local program, count = program_of(path)
    counts[path] = count
    if count > 0 then
      it(("runs the %d examples of %s"):format(count, path), function()
        local database = ("%s_%d"):format(helper.database, number)
        finally(function() drop(database) end)
        local output, status = run(program, path, database)
        assert(status == 0, output)
      end)
    end
  end

  it("has examples that run wherever it teaches", function()
    for _, path in ipairs(TAUGHT) do
      assert.is_true((counts[path] or 0) > 0, path .. " has no block after <!-- run -->")
    end
  end)

  it("would show an error of an example, with the document's line", function()
    local output, status = run("\n\nerror('wrong')\n", "docs/some.md", helper.database)
    assert.equal(1, status)
    assert.truthy(output:find("docs/some.md:3: wrong", 1, true))
  end)

  it("would show that an example prints something else", function()
    local code = "for i = 1, 2 do\n  print(i, 'x')  --> 1  x\nend\nif false then\n  print(1)  --> 1\nend\n"
    local output, status = run(code, "docs/some.md", helper.database)
    assert.equal(1, status)
    assert.equal("docs/some.md:2: printed 2 x\ndocs/some.md:5: printed nothing\n", output)
  end)
end)
