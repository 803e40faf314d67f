--- Hooks: functions of the user around what a model does, in the order in which they were registered, a base
--- model's first.
local errors = require "lumo.errors"
local raise = errors.raise

local hooks = {}

local EVENTS = {
  save = true, create = true, update = true, delete = true, find = true, fetch = true, paginate = true,
}

--- Registers a hook.
---@param state lumo.State
---@param when "before"|"after"
---@param event "save"|"create"|"update"|"delete"|"find"|"fetch"|"paginate"
---@param fn function
function hooks.add(state, when, event, fn)
  if not EVENTS[event] then
    raise("E_ARGUMENT", "there is no hook \"%s\"; there are: create delete fetch find paginate save update",
      tostring(event))
  end
  if type(fn) ~= "function" then raise("E_ARGUMENT", "a hook is a function, got %s", type(fn)) end
  local key = when .. " " .. event
  state.hooks = state.hooks or {}
  state.hooks[key] = state.hooks[key] or {}
  table.insert(state.hooks[key], fn)
end

--- Whether any hook stands there, in the model or in a base of it.
---@return boolean
function hooks.any(state, when, event)
  while state do
    if state.hooks and state.hooks[when .. " " .. event] then return true end
    state = state.base
  end
  return false
end

--- Whether a model has any hooks at all, of its own or a base's.
---@return boolean
function hooks.has(state)
  while state do
    if state.hooks then return true end
    state = state.base
  end
  return false
end

--- Runs the hooks; what one raises goes through.
function hooks.run(state, when, event, ...)
  if not state then return end
  if state.base then hooks.run(state.base, when, event, ...) end
  local list = state.hooks and state.hooks[when .. " " .. event]
  if not list then return end
  for _, fn in ipairs(list) do
    fn(...)
  end
end

return hooks
