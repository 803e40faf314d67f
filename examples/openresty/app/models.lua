-- Users, projects and their pairs. Loaded once, when nginx starts: nothing here sends anything.
local lumo = require "lumo"

lumo.connect(nil, { pool_size = 16, timeout_ms = 5000 }) -- MONGODB_URI

local models = {}

models.ROLES = { "member", "lead", "guest" }

-- What a pair says: the role is checked before anything is written.
models.Membership = lumo.model("Membership", {
  collection = "project_user",
  columns = {
    user_id = "objectid",
    project_id = "objectid",
    role = { "string", enum = models.ROLES, default = "member" },
    created_at = "date",
    updated_at = "date",
  },
})

models.User = lumo.model("User", {
  columns = {
    name = { "string", required = true, max = 100 },
    email = { "string", required = true, max = 200 },
  },
  indexes = { { "email", unique = true }, "name" },
  relations = {
    projects = lumo.many_to_many("Project", {
      pivot_model = "Membership", pivot_foreign_key = "user_id", pivot_related_foreign_key = "project_id",
      pivot_columns = { "role" }, pivot_timestamps = true, check_related = true,
    }),
  },
})

models.Project = lumo.model("Project", {
  columns = {
    title = { "string", required = true, max = 100 },
    is_active = { "boolean", default = true },
  },
  indexes = { "title" },
  relations = {
    users = lumo.many_to_many("User", {
      pivot_model = "Membership", pivot_foreign_key = "project_id", pivot_related_foreign_key = "user_id",
      pivot_columns = { "role" }, pivot_timestamps = true, check_related = true,
    }),
  },
})

return models
