--- Waiting in threads of Copas. Its loop watches sockets of LuaSocket; a slot in their dress is one to it.
local copas = require "copas"
local core = require "lumo.core"
local places = require("lumo.runtime.places")

local waiter = {}

--- What the loop's select and copas.receive ask of a socket.
local Place = {}
Place.__index = Place
function Place:getfd() return self.fd end
function Place.dirty() return false end
function Place.close() end -- by a Copas that closes the last socket of a thread that ends
function Place:receive()
  if core.slot_clear(self.slot) then return "!" end
  return nil, "timeout"
end

function waiter.is_running()
  return copas.running ~= false
end

function waiter.current()
  return core.can_yield()
end

waiter.take, waiter.give, waiter.drop = places(function()
  local slot = core.slot_new()
  return setmetatable({ slot = slot, fd = core.slot_fd(slot) }, Place)
end)

--- The older ones have no clock: an operation then hears that it waited too long for a thread when it is its turn.
function waiter.wait(place)
  copas.receive(place, 1)
  return true
end

function waiter.pause(ms)
  if copas.sleep then return copas.sleep(ms / 1000) end
  return core.pause(ms)
end

return waiter
