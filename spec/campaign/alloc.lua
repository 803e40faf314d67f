-- Every allocation fails in turn, of Lua and of lumo, while each public function runs against a real server: no crash,
-- no leak (the host is built with the sanitizers), "not enough memory" or an error that is documented, and the
-- same call right afterwards gives what it always gives.
--
--   lumo_host spec/campaign/alloc.lua SAMPLES     how many allocations of each call are tried; 0: all
package.path = "./spec/?.lua;" .. package.path
local lumo = require "lumo"
local core = require "lumo.core"
local api = require "campaign.api"
local fixture = require "campaign.fixture"

local samples = tonumber(arg[1])
local only = arg[2] -- a pattern of names, for debugging
local host = host -- luacheck: read globals host

fixture.connect("alloc")
local s = fixture.reset(fixture.define())
local calls = require "campaign.calls"

local WRITES = { insert = true, update = true, delete = true, findAndModify = true }

local function writes(call)
  local _, list = lumo.count_commands(call)
  for _, entry in ipairs(list) do
    if WRITES[entry.name] then return true end
  end
  return false
end

--- Lua's own words, which lumo passes on: a message handler or a library may have put a place in front.
local function is_memory_error(err)
  return type(err) == "string" and err:find("not enough memory", 1, true) ~= nil
end

local passed, failed = 0, 0

-- Lua 5.4 has integers of 64 bits and so no value of that kind.
local UNREACHABLE = { ["value_int64.tonumber"] = true }

local function report(name, kind, n, sticky, text)
  failed = failed + 1
  print(("%s, %s allocation %d%s: %s"):format(name, kind, n, sticky and " and later ones" or "", text))
end

--- A transaction in the manual form whose rollback found no memory ends when it is collected.
local function is_ended_by_hand(name)
  return name:find("^transaction%.") ~= nil or name == "record.use_transaction"
end

--- One call with an allocation that fails. True once n is beyond the last one.
local function try(name, call, expected, kind, n, sticky, dirties)
  if dirties then fixture.reset(s) end
  host.fail(kind, n, sticky)
  local ok, result = pcall(call)
  if not host.stop() then return true end
  if is_ended_by_hand(name) then collectgarbage() end
  if not ok and not is_memory_error(result) then
    return report(name, kind, n, sticky, "raised " .. tostring(result))
  elseif ok and result ~= expected then
    return report(name, kind, n, sticky, ("gave %s"):format(tostring(result)))
  end
  if dirties then fixture.reset(s) end
  ok, result = pcall(call)
  if not ok or result ~= expected then
    return report(name, kind, n, sticky, "the next call: " .. tostring(result))
  end
  passed = passed + 1
end

--- The allocations to try of a call that makes `count`: all, or some spread evenly with the first and the last.
local function spread(count)
  local list = {}
  local wanted = samples == 0 and count or math.min(samples, count)
  for i = 1, wanted do
    list[i] = wanted == 1 and 1 or 1 + (i - 1) * (count - 1) // (wanted - 1)
  end
  return list
end

local function campaign(name, call)
  -- Twice: at first caches fill.
  fixture.reset(s)
  call()
  fixture.reset(s)
  local dirties = writes(call)
  if dirties then fixture.reset(s) end
  local expected = call()
  if dirties then fixture.reset(s) end
  host.fail("lua", 0, false)
  call()
  local counts = {}
  local _
  _, counts.lua, counts.lumo = host.stop()
  for _, kind in ipairs { "lua", "lumo" } do
    for _, sticky in ipairs { false, true } do
      for _, n in ipairs(spread(counts[kind])) do
        if try(name, call, expected, kind, n, sticky, dirties) then break end
      end
    end
  end
  fixture.reset(s)
end

local order = {}
for _, group in pairs(api.groups(s)) do
  for _, entry in ipairs(group) do
    if calls[entry.full] then
      order[#order + 1] = entry.full
    elseif not UNREACHABLE[entry.full] then
      failed = failed + 1
      print(entry.full .. " is not called by spec/campaign/alloc.lua")
    end
  end
end
order[#order + 1] = "record.properties"
table.sort(order)
for _, name in ipairs(order) do
  if not only or name:find(only) then campaign(name, calls[name]) end
end

fixture.drop()
fixture.conn:close()
core.pause(500) -- the thread that ends the pool
print(("%d passed, %d failed"):format(passed, failed))
return failed == 0
