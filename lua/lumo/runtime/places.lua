--- Places to wait in that outlive the waiting: descriptors are dear.
local KEPT = 64 -- of those that nobody uses

--- The two functions take and give of a kind of place.
---@param make fun(): table
---@param drop fun(place: table)|nil what is to be done before one is forgotten
return function(make, drop)
  local free = {}
  local function take()
    return table.remove(free) or make()
  end
  local function give(place)
    if #free < KEPT then
      free[#free + 1] = place
    elseif drop then
      drop(place)
    end
  end
  return take, give
end
