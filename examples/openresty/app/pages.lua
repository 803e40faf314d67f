-- What the pages look like.
local html = require "app.html"
local models = require "app.models"

local fill, each = html.fill, html.each
local pages = {}

local NOTHING = fill("", {})

local function layout(title, body)
  return fill([[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title} - team board</title>
<link rel="stylesheet" href="/static/style.css">
</head>
<body>
<header><a href="/" class="brand">Team board</a><nav><a href="/">People</a> <a href="/admin">Projects</a></nav></header>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
]], { title = title, body = body })
end

local function project_links(user)
  if #user.projects == 0 then return fill("<span class=\"none\">no project</span>", {}) end
  return each(user.projects, function(project)
    return fill("<a class=\"tag\" href=\"/projects/{id}\">{title} <em>{role}</em></a> ", {
      id = project._id, title = project.title, role = project.pivot.role,
    })
  end)
end

local function page_links(page)
  local function link(url, text)
    return url and fill("<a href=\"{url}\">{text}</a>", { url = url, text = text }) or NOTHING
  end
  return fill("<p class=\"pages\">{before} page {current} of {last} {after}</p>", {
    before = link(page:get_previous_page_url(), "before"), after = link(page:get_next_page_url(), "after"),
    current = page.current_page, last = page.last_page,
  })
end

--- The people, a page of them, with their projects.
function pages.people(page)
  return layout("People", fill("<table><tr><th>Name</th><th>Projects</th></tr>{rows}</table>{links}", {
    rows = each(page, function(user)
      return fill("<tr><td><a href=\"/users/{id}\">{name}</a></td><td>{projects}</td></tr>", {
        id = user._id, name = user.name, projects = project_links(user),
      })
    end),
    links = page_links(page),
  }))
end

local function role_options(chosen)
  return each(models.ROLES, function(role)
    return fill("<option{selected}>{role}</option>", {
      role = role, selected = role == chosen and fill(" selected", {}) or NOTHING,
    })
  end)
end

--- One person, and the form that says which projects are theirs.
function pages.person(user, projects, token, saved)
  local roles = {}
  for _, project in ipairs(user.projects) do roles[tostring(project._id)] = project.pivot.role end
  return layout(user.name, fill([[
{saved}<p class="mail">{email}</p>
<form method="post" action="/users/{id}/projects">
<input type="hidden" name="csrf" value="{token}">
<table><tr><th></th><th>Project</th><th>Role</th></tr>{rows}</table>
<button>Save</button>
</form>]], {
    saved = saved and fill("<p class=\"saved\" role=\"status\">Saved.</p>", {}) or NOTHING,
    email = user.email, id = user._id, token = token,
    rows = each(projects, function(project)
      local id = tostring(project._id)
      return fill([[<tr>
<td class="pick"><input type="checkbox" name="project" value="{id}" id="p{id}"{checked}></td>
<td><label for="p{id}">{title}</label></td>
<td><select name="role_{id}" aria-label="Role in {title}">{roles}</select></td></tr>
]], {
        id = id, title = project.title, roles = role_options(roles[id]),
        checked = roles[id] and fill(" checked", {}) or NOTHING,
      })
    end),
  }))
end

--- One project and who works on it.
function pages.project(project)
  return layout(project.title, fill("<table><tr><th>Name</th><th>Role</th><th>Since</th></tr>{rows}</table>", {
    rows = each(project.users, function(user)
      return fill("<tr><td><a href=\"/users/{id}\">{name}</a></td><td>{role}</td><td>{since}</td></tr>", {
        id = user._id, name = user.name, role = user.pivot.role,
        since = tostring(user.pivot.created_at):sub(1, 10),
      })
    end),
  }))
end

--- All projects and how many people each has.
function pages.admin(projects)
  return layout("Projects", fill("<table><tr><th>Project</th><th>People</th><th>Leads</th></tr>{rows}</table>", {
    rows = each(projects, function(project)
      return fill("<tr><td><a href=\"/projects/{id}\">{title}</a></td><td>{people}</td><td>{leads}</td></tr>", {
        id = project._id, title = project.title, people = project.extras.users_count, leads = project.extras.leads,
      })
    end),
  }))
end

function pages.failure(status, text)
  return layout(("%d"):format(status), fill("<p>{text}</p>", { text = text }))
end

return pages
