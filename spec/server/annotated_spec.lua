-- The annotations and the functions are the same: every public function, written in Lua or in C, has an annotation in
-- the class that editors know its owner by, and every function that such a class is said to have is there.
local helper = dofile("spec/helper.lua")
package.path = "./spec/?.lua;" .. package.path
local api = require "campaign.api"
local fixture = require "campaign.fixture"
local annotated = require "campaign.annotated"

helper.connect("annotated")
fixture.conn = helper.conn
teardown(helper.drop)

local CLASSES = {
  lumo = "lumo", bson = "lumo.bson", datetime = "lumo.datetime_maker", model = "lumo.Model", query = "lumo.Query",
  record = "lumo.Record", relation = "lumo.PivotRelation", connection = "lumo.Connection",
  transaction = "lumo.Transaction", stream = "lumo.Stream", page = "lumo.Page", cursor_page = "lumo.CursorPage",
  client = "lumo.PivotClient", client_notes = "lumo.OwnedManyClient", client_cover = "lumo.OwnedClient",
  client_post = "lumo.BelongingClient", client_lines = "lumo.ThroughClient",
  value_datetime = "lumo.datetime", value_int64 = "lumo.int64", value_value = "lumo.value",
}

describe("what is annotated", function()
  local groups = api.groups(fixture.reset(fixture.define()))
  local classes = annotated.classes()

  for group, entries in pairs(groups) do
    it("is what there is of " .. group, function()
      local class = assert(CLASSES[group], "no class stands for " .. group)
      local annotations, missing, exists = annotated.names(classes, class), {}, {}
      for _, entry in ipairs(entries) do
        exists[entry.name] = true
        if annotations[entry.name] == nil then missing[#missing + 1] = entry.name end
      end
      assert.equal("", table.concat(missing, " "), class .. " lacks")
      for name, is_function in pairs(annotations) do
        if is_function and not exists[name] and not api.is_internal(group, name) then missing[#missing + 1] = name end
      end
      assert.equal("", table.concat(missing, " "), class .. " has too much")
    end)
  end

  it("is every property of a record", function()
    local annotations = annotated.names(classes, "lumo.Record")
    local missing = {}
    for _, name in ipairs(api.properties()) do
      if annotations[name] == nil then missing[#missing + 1] = name end
    end
    assert.equal("", table.concat(missing, " "))
  end)
end)
