-- What the board does: each function takes a request and gives an answer.
local cjson = require "cjson.safe"
local lumo = require "lumo"
local models = require "app.models"
local pages = require "app.pages"

local User, Project = models.User, models.Project

local PER_PAGE, MOST_PER_PAGE = 20, 100

local board = {}

--- A failure that the visitor is told of.
---@return never
local function refuse(status, text)
  error({ status = status, text = text }, 0)
end

board.refuse = refuse

local function whole_number(text, default, most)
  if text == nil then return default end
  local number = type(text) == "string" and text:match("^%d%d?%d?%d?%d?%d?$") and tonumber(text)
  if not number or number < 1 or number > most then refuse(400, "that is no page") end
  return number
end

--- The record of an id out of a path: what is no id is as good as one that nobody has.
local function find(model, id)
  local found = id:match("^%x+$") and #id == 24 and model:find(id)
  return found or refuse(404, "there is no such page")
end

-- Pages -----------------------------------------------------------------------------------------------------

local function page_of_people(request, path)
  local per_page = whole_number(request.arguments.per_page, PER_PAGE, MOST_PER_PAGE)
  -- People of one name need an order, too, or pages would show some of them twice and others never.
  local page = User:query():order_by { { "name" }, { "_id" } }:preload("projects", function(query)
    query:order_by("title")
  end):paginate(whole_number(request.arguments.page, 1, 100000), per_page)
  if per_page ~= PER_PAGE then page:query_string { per_page = per_page } end
  return page:base_url(path)
end

function board.people(request)
  return { html = pages.people(page_of_people(request, "/")) }
end

function board.person(request, id)
  local user = find(User, id)
  user:load("projects")
  local own = {}
  for i, project in ipairs(user.projects) do own[i] = project._id end
  -- The form says what the pairs are to be: one that it did not show would be lost.
  local projects = Project:query():where("is_active", true):or_where_in("_id", own):order_by("title"):exec()
  return { html = pages.person(user, projects, request.token(), request.arguments.saved ~= nil) }
end

--- The form names the projects that are chosen and a role for each: the pairs become exactly these.
function board.save_person(request, id)
  local form = request.form()
  local user, chosen = find(User, id), {}
  local ids = form.project or {}
  for _, project in ipairs(type(ids) == "table" and ids or { ids }) do
    if type(project) ~= "string" then refuse(400, "a project is chosen by its id") end -- a name without a value is true
    chosen[#chosen + 1] = { id = project, pivot_data = { role = form["role_" .. project] } }
  end
  user.projects:sync_with_pivot_data(chosen)
  return { redirect = ("/users/%s?saved=1"):format(tostring(user._id)) }
end

function board.project(_, id)
  local project = find(Project, id)
  project:load("users", function(query) query:order_by("name") end)
  return { html = pages.project(project) }
end

function board.admin()
  local projects = Project:query():order_by("title"):with_count("users")
    :with_count("users", function(query) query:where_pivot("role", "lead"):as("leads") end):exec()
  return { html = pages.admin(projects) }
end

-- JSON ------------------------------------------------------------------------------------------------------

local function json(user)
  return user:serialize { fields = { pick = { "_id", "name" } }, relations = {
    projects = { fields = { pick = { "_id", "title" } } },
  } }
end

function board.api_people(request)
  local page = page_of_people(request, "/api/users")
  local list = {}
  for i, user in ipairs(page) do
    list[i] = json(user)
    for k, project in ipairs(user.projects) do list[i].projects[k].role = project.pivot.role end
  end
  return { json = { meta = page:get_meta(), data = #list > 0 and list or cjson.empty_array } }
end

--- { "projects": { "<id>": "<role>", … } }
function board.api_save_person(request, id)
  local body = request.json()
  if type(body.projects) ~= "table" then refuse(400, "projects is an object from ids to roles") end
  local user, chosen = find(User, id), {}
  for project, role in pairs(body.projects) do
    if type(role) ~= "string" then refuse(400, "a role is text") end
    chosen[#chosen + 1] = { id = project, pivot_data = { role = role } }
  end
  local result = user.projects:sync_with_pivot_data(chosen)
  return { json = {
    attached = #result.attached, updated = #result.updated, unchanged = #result.unchanged,
    detached = #result.detached,
  } }
end

function board.health()
  lumo.connection():ping()
  return { json = { ok = true } }
end

return board
