-- Some people and projects for an empty database.
local models = require "app.models"
local lumo = require "lumo"

lumo.ensure_indexes()
if models.User:count() > 0 then return end

local projects = models.Project:create_many {
  { title = "Website" }, { title = "Search" }, { title = "Mobile app" }, { title = "Data & reports" },
  { title = "Old shop", is_active = false },
}
local users = {}
for i, name in ipairs {
  "Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Ken", "Dennis", "Frances", "John", "Niklaus", "Tony",
  "Leslie", "Margaret", "Bjarne", "Guido", "Roberto", "Luiz", "Waldemar", "Yukihiro", "Larry", "Anita", "Katherine",
} do
  users[i] = { name = name, email = name:lower() .. "@example.org" }
end
-- A name is text, whatever it holds.
users[#users + 1] = { name = "<b>Bobby</b> & 'Tables'", email = "bobby@example.org" }
for i, user in ipairs(models.User:create_many(users)) do
  user.projects:attach {
    [projects[i % 4 + 1]._id] = { role = i % 5 == 0 and "lead" or "member" },
    [projects[(i + 1) % 4 + 1]._id] = { role = "guest" },
  }
end
