-- What relations_spec runs in a process of its own: relations_program.lua LOOP, which is "inline" or "luv".
local loop = arg[1]
package.path = "./spec/runtime/?.lua;" .. package.path
local lumo = require "lumo"
local relations = require "relations"
local walk = require "walk"

local conn = walk.connect(loop .. (rawget(_G, "jit") and "_luajit" or ""))

local lines = {}
local function tell(line) lines[#lines + 1] = line end

local function run()
  relations.run("snake", tell)
  relations.run("camel", tell)
  walk.run(tell)
end

local ticks = 0
if loop == "luv" then
  local uv = require "luv"
  lumo.use_runtime("luv")
  local timer = uv.new_timer()
  timer:start(10, 10, function() ticks = ticks + 1 end)
  coroutine.wrap(function()
    local ok, err = pcall(run)
    timer:close()
    if not ok then tell("raised " .. tostring(err)) end
  end)()
  uv.run()
else
  run()
end
for _, line in ipairs(lines) do print(line) end
print("threads: " .. tostring(conn:stats().threads > 0) .. ", ticks: " .. tostring(ticks > 20))
