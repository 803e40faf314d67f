--- Waiting in coroutines of a program that runs luv's loop.
local core = require "lumo.core"
local uv = require "luv"
local places = require("lumo.runtime.places")

local waiter = {}

function waiter.is_running()
  return uv.loop_mode ~= nil and uv.loop_mode() ~= nil
end

--- Any coroutine will do: the loop knows none.
function waiter.current()
  return core.can_yield()
end

waiter.take, waiter.give, waiter.drop = places(function()
  local slot = core.slot_new()
  return { slot = slot, poll = uv.new_poll(core.slot_fd(slot)), timer = uv.new_timer() }
end, function(place)
  place.poll:close()
  place.timer:close()
end)

local function resume(co, ...)
  local ok, err = coroutine.resume(co, ...)
  if not ok then error(debug.traceback(co, tostring(err)), 0) end
end

function waiter.wait(place, ms)
  local co = coroutine.running()
  place.poll:start("r", function()
    if not core.slot_clear(place.slot) then return end
    place.poll:stop()
    place.timer:stop()
    resume(co, true)
  end)
  if ms then
    place.timer:start(ms, 0, function()
      place.poll:stop()
      resume(co, false)
    end)
  end
  return coroutine.yield()
end

function waiter.pause(ms)
  local co, timer = coroutine.running(), uv.new_timer()
  timer:start(math.ceil(ms), 0, function()
    timer:close()
    resume(co)
  end)
  coroutine.yield()
end

return waiter
