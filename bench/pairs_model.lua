-- An owner and its pivot, for bench/pairs.lua.
local lumo = require "lumo"

local models = {}

models.Tag = lumo.model("Tag", { columns = { id = { "integer", primary = true }, name = "string" } })
models.Owner = lumo.model("Owner", {
  columns = { name = "string" },
  relations = {
    tags = lumo.many_to_many("Tag", {
      pivot_table = "post_tag", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
    }),
  },
})

return models
