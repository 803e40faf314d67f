--- How to wait: on this thread, or so that an event loop goes on meanwhile. Everything of lumo that waits for a
--- server comes through here.
local core = require "lumo.core"
local errors = require "lumo.errors"
local places = require "lumo.runtime.places"
local raise = errors.raise

local runtime = {}

--- A way to wait for threads.
---@class lumo.Waiter
---@field current fun(): boolean whether the caller is a coroutine that may wait so; may raise where none may
---@field take fun(): table a place to wait in: { slot = userdata, … }
---@field wait fun(place: table, ms: number|nil): boolean true when woken, false after `ms`
---@field give fun(place: table) gives a place back that was woken
---@field drop fun(place: table) forgets one that may still be woken
---@field pause fun(ms: number)

-- On this thread, for a session that threads know: its commands must stay in their order.
local blocking = {
  wait = function(place, ms) return core.slot_wait(place.slot, ms or -1) end,
}
blocking.take, blocking.give, blocking.drop = places(function() return { slot = core.slot_new() } end)

-- Which waiter ----------------------------------------------------------------------------------------------

local NAMES = { "luv", "cqueues", "copas" }

local function load(name)
  return require("lumo.runtime." .. name)
end

local in_nginx = type(rawget(_G, "ngx")) == "table" and type(rawget(ngx, "get_phase")) == "function"
local nginx = in_nginx and load "nginx"

--- The waiter of the loop that the caller is run by, among those that the program has loaded.
local automatic = {}
function automatic.current()
  for _, name in ipairs(NAMES) do
    if package.loaded[name] then
      local waiter = load(name)
      if waiter.is_running() and waiter.current() then return waiter end
    end
  end
end

local chosen = nginx or nil

--- How to wait here: nil means on this thread.
local function choose(session)
  local waiter = chosen
  if waiter == nil then return session and core.session_is_threaded(session) and blocking or nil end
  if waiter == automatic then
    waiter = automatic.current()
  elseif not waiter.current() then
    waiter = nil
  end
  return waiter or session and core.session_is_threaded(session) and blocking or nil
end

--- Chooses how operations wait: "luv", "cqueues", "copas": in coroutines of that loop without blocking it, else
--- as "inline": on this thread; "auto": as the loop does that the calling coroutine is run by, "inline" where
--- there is none. Inside nginx lumo waits in its way from the beginning. Sends nothing.
---@param name "luv"|"cqueues"|"copas"|"auto"|"inline"
function runtime.use(name)
  if nginx then raise("E_UNSUPPORTED", "inside nginx lumo waits in nginx's own way, without being told") end
  if name == "inline" then
    chosen = nil
  elseif name == "auto" then
    chosen = automatic
  else
    for _, known in ipairs(NAMES) do
      if name == known then
        local found, module = pcall(require, name)
        if not found then raise("E_UNSUPPORTED", "the module %s cannot be loaded: %s", name, tostring(module)) end
        chosen = load(name)
        return
      end
    end
    raise("E_ARGUMENT", "use_runtime takes \"luv\", \"cqueues\", \"copas\", \"auto\" or \"inline\", got %s",
      type(name) == "string" and ("%q"):format(name) or type(name))
  end
end

-- Waiting ---------------------------------------------------------------------------------------------------

--- Submits the jobs and waits until all are done. What runs has its own limits of time; what after the connection's
--- timeout still waits for a thread, or for a first answer as it got its thread late, is given up.
local function await(waiter, place, ...)
  core.jobs_submit(place.slot, ...)
  if not waiter.wait(place, core.job_timeout((...))) then
    if core.jobs_expire(...) then return waiter.drop(place) end
    waiter.wait(place)
  end
  waiter.give(place)
end

--- One job, and its result.
local function perform(waiter, make, ...)
  local place = waiter.take() -- before the job has what it needs
  local job = make(...)
  await(waiter, place, job)
  return job
end

local COLLECT_MS, collected = 1000, 0

--- The result of a job, or its error raised. Coroutines that were ended in their transactions may hold all clients,
--- which others then wait for in vain; only the collector knows of them.
local function result_of(job, plan)
  local ok, result = pcall(core.job_result, job, plan)
  if ok then return result end
  if core.is_error(result) and result.code == "E_TIMEOUT" and core.now() - collected > COLLECT_MS then
    collectgarbage()
    collected = core.now()
  end
  return error(result, 0)
end

--- core.run, waiting as it is done here.
---@return boolean done
function runtime.run(handle, plan, session)
  local waiter = (chosen or session) and choose(session)
  if not waiter then return core.run(handle, plan, session) end
  return result_of(perform(waiter, core.job_run, handle, plan, session), plan)
end

--- Whether plans that are run together take the time of one.
function runtime.is_parallel()
  return choose() ~= nil
end

local AT_ONCE = 16

--- Runs plans at once, and waits for all of them.
---@param plans userdata[]
---@return table<integer, any> errors by place
function runtime.run_all(handle, plans)
  local waiter, errors_of = choose(), {}
  for first = 1, #plans, AT_ONCE do
    local place, jobs = waiter.take(), {}
    for i = first, math.min(first + AT_ONCE - 1, #plans) do
      jobs[#jobs + 1] = core.job_run(handle, plans[i])
    end
    await(waiter, place, (table.unpack or unpack)(jobs))
    for i, job in ipairs(jobs) do
      local ok, err = pcall(core.job_result, job, plans[first + i - 1])
      if not ok then errors_of[first + i - 1] = err end
    end
  end
  return errors_of
end

--- core.session_new.
function runtime.begin(handle, policy)
  local waiter = choose()
  if not waiter then return core.session_new(handle, policy) end
  return result_of(perform(waiter, core.job_begin, handle, policy))
end

--- core.session_commit.
function runtime.commit(session)
  local waiter = choose(session)
  if not waiter then return core.session_commit(session) end
  return core.job_result(perform(waiter, core.job_commit, session))
end

--- core.session_abort.
function runtime.abort(session)
  local waiter = choose(session)
  if not waiter then return core.session_abort(session) end
  return core.job_result(perform(waiter, core.job_abort, session))
end

--- core.connection_server.
function runtime.server(handle)
  local waiter = choose()
  if not waiter then return core.connection_server(handle) end
  return core.job_result(perform(waiter, core.job_server, handle))
end

--- core.pause.
---@param ms number
function runtime.pause(ms)
  local waiter = choose()
  return (waiter and waiter.pause or core.pause)(ms)
end

return runtime
