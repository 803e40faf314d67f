-- lumo in the event loops, on each Lua for which the system has them.
local helper = require "spec.helper"
local lumo = require "lumo"

local function run(lua, loop, case, environment)
  local pipe = io.popen(("env LUMO_TEST_DATABASE=%s %s timeout 20 %s spec/runtime/loops.lua %s %s 2>&1; echo exit:$?")
    :format(helper.database, environment or "", lua, loop, case))
  local output = pipe:read("*a")
  pipe:close()
  local text, status = output:match("^(.-)%s*exit:(%d+)%s*$")
  return text, tonumber(status)
end

describe("an event loop", function()
  setup(function()
    helper.connect("loops")
    helper.insert("notes", { { text = "first" } }) -- so that no transaction has to create the collection
  end)
  teardown(helper.drop)
  before_each(function() helper.delete("notes", {}) end)

  for _, lua in ipairs { "lua5.4", "luajit" } do
    for _, loop in ipairs { "luv", "cqueues", "copas" } do
      local there = os.execute(("%s spec/runtime/loops.lua %s there 2>/dev/null"):format(lua, loop))
      if there ~= true and there ~= 0 then
        pending(("there is no %s for %s"):format(loop, lua))
      else
        describe(loop .. " on " .. lua, function()
          local expected = {
            parallel = "8\ttrue\ttrue",
            transactions = "4 4 4 4 4 no\t0",
            cursor = "11325",
            hooks = "1 2 3",
            errors = "E_SERVER E_ROW_NOT_FOUND",
            preload = "posts post_tag tags author_post authors posts commitTransaction 5\tE_SERVER",
            counts = "7 12 17 22 58 58",
            outside = "3\t0",
            both = "2",
          }
          if loop ~= "copas" then expected.auto = "0\ttrue\t2" end
          for case, text in pairs(expected) do
            it(case, function()
              local output, status = run(lua, loop, case)
              assert.equal(text, output)
              assert.equal(0, status)
            end)
          end

          if loop ~= "copas" then -- the system's has no clock
            it("exhausted", function()
              assert.equal("true\ttrue\t6", (run(lua, loop, "exhausted", "POOL_SIZE=1 TIMEOUT_MS=600")))
            end)

            it("late", function()
              local output = run(lua, loop, "late", "POOL_SIZE=1 TIMEOUT_MS=2000")
              assert.equal("E_TIMEOUT\t(pool_size)\tcommand\ttrue", output)
            end)
          end

          it("leave", function()
            local began = lumo.datetime.now().ms
            local output, status = run(lua, loop, "leave")
            assert.equal("left", output)
            assert.equal(0, status)
            assert.is_true(lumo.datetime.now().ms - began < 1800)
          end)
        end)
      end
    end
  end
end)

describe("lumo.use_runtime", function()
  it("refuses what it does not know", function()
    helper.expect_error("E_ARGUMENT", lumo.use_runtime, "node")
    helper.expect_error("E_ARGUMENT", lumo.use_runtime)
    helper.expect_error("E_ARGUMENT", lumo.useRuntime, 1)
  end)

  it("says which module is missing", function()
    package.preload.copas = function() error("not here") end
    finally(function() package.preload.copas = nil end)
    package.loaded.copas = nil
    local err = helper.expect_error("E_UNSUPPORTED", lumo.use_runtime, "copas")
    assert.matches("copas", err.message)
  end)

  it("takes inline, which is the beginning", function()
    lumo.use_runtime("inline")
  end)
end)
