--- Waiting in coroutines of cqueues.
local core = require "lumo.core"
local cqueues = require "cqueues"
local places = require("lumo.runtime.places")

local waiter = {}

function waiter.is_running()
  return (cqueues.running()) ~= nil
end

--- Whether the caller is a coroutine that a controller resumes itself.
function waiter.current()
  local _, is_own = cqueues.running()
  return is_own and core.can_yield()
end

waiter.take, waiter.give, waiter.drop = places(function()
  local slot = core.slot_new()
  return { slot = slot, pollfd = core.slot_fd(slot), events = "r" }
end, function(place) cqueues.cancel(place.pollfd) end)

function waiter.wait(place, ms)
  local deadline = ms and cqueues.monotime() + ms / 1000
  repeat
    if core.slot_clear(place.slot) then return true end
    local left = deadline and deadline - cqueues.monotime()
    if left and left <= 0 then return false end
    cqueues.poll(place, left)
  until false
end

function waiter.pause(ms)
  cqueues.sleep(ms / 1000)
end

return waiter
