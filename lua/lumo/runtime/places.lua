--- Places to wait in that outlive the waiting: descriptors are dear.
local KEPT = 64 -- of those that nobody uses

--- The functions take, give and drop of a kind of place.
---@param make fun(): table
---@param drop fun(place: table)|nil what is to be done before one is forgotten
return function(make, drop)
  local free = {}
  drop = drop or function() end
  local function take()
    return table.remove(free) or make()
  end
  local function give(place)
    if #free < KEPT then
      free[#free + 1] = place
    else
      drop(place)
    end
  end
  return take, give, drop
end
