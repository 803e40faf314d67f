-- The models and documents that campaigns work on, in a database of their own.
--
-- LUMO_TEST_URI  a server, as script/with-server gives it
local lumo = require "lumo"

local fixture = {}

local function id_of(n)
  return ("%024x"):format(n)
end

fixture.id = id_of

local COLUMNS = {
  title = "string", views = "integer", small = "int32", big = "int64", score = "number", active = "boolean",
  at = "date", owner = "objectid", price = "decimal", bytes = "binary", code = "uuid", any = "any",
  labels = { "array", of = "string" }, list = "array", numbers = { "array", of = "integer" },
  rows = { "array", of = { "object", columns = { colour = "string", any = "any" } } },
  meta = { "object", columns = { colour = "string", depth = "integer" } }, free = "object",
  slug = { "string", column = "post_slug", serialize_as = "permalink" },
  status = { "string", default = "draft" }, counter = { "integer", default = function() return 1 end },
  created_at = { "date", auto_create = true }, updated_at = { "date", auto_create = true, auto_update = true },
}

--- Defines the models. May be called again: a definition from the same place replaces the former.
function fixture.define()
  local s = {}
  s.Tag = lumo.model("CampaignTag", {
    collection = "tags", columns = { name = "string", any = "any" },
  })
  s.PostTag = lumo.model("CampaignPostTag", {
    collection = "post_tags",
    columns = {
      post_id = "objectid", tag_id = "objectid", rank = { "integer", default = 5 }, any = "any",
      updated_at = { "date", auto_create = true, auto_update = true },
    },
  })
  s.Loose = lumo.model("CampaignLoose", { collection = "loose", strict = false, columns = { title = "string" } })
  s.Note = lumo.model("CampaignNote", {
    collection = "notes", columns = { text = "string", any = "any", post_id = "objectid" },
    relations = {
      post = lumo.belongs_to("CampaignPost", { foreign_key = "post_id" }),
      lines = lumo.has_many("CampaignLine", { foreign_key = "note_id" }),
    },
  })
  s.Line = lumo.model("CampaignLine", {
    collection = "lines", columns = { text = "string", any = "any", note_id = "objectid" },
    relations = { post = lumo.belongs_to("CampaignNote", { foreign_key = "note_id" }) },
  })
  s.Post = lumo.model("CampaignPost", {
    collection = "posts", columns = COLUMNS,
    relations = {
      tags = lumo.belongs_to_many(s.Tag, s.PostTag, "post_id", "tag_id"),
      plain = lumo.many_to_many(s.Tag, {
        pivot_table = "post_plain", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
        pivot_columns = { "role", "any" }, pivot_timestamps = true,
        on_query = function(q) q:where_not("name", "hidden") end,
      }),
      bag = lumo.many_to_many(s.Tag, {
        pivot_table = "post_bag", pivot_foreign_key = "post_id", pivot_related_foreign_key = "tag_id",
        duplicates = true, atomic = false,
      }),
      untyped = lumo.many_to_many(s.Tag, { -- keys of any type
        pivot_table = "post_untyped", pivot_foreign_key = "post_any", pivot_related_foreign_key = "tag_any",
        local_key = "any", related_key = "any",
      }),
      notes = lumo.has_many("CampaignNote", { foreign_key = "post_id" }),
      cover = lumo.has_one("CampaignNote", { foreign_key = "post_id" }),
      lines = lumo.has_many_through("CampaignLine", "CampaignNote", {
        foreign_key = "post_id", through_foreign_key = "note_id",
      }),
      deep = lumo.has_many_through("CampaignPost", { "CampaignNote", "CampaignLine" }, {
        foreign_key = "post_id", through_keys = { { foreign_key = "note_id" } }, through_foreign_key = "owner",
      }),
    },
  })
  return s
end

local COLLECTIONS = { "posts", "tags", "post_tags", "post_plain", "post_bag", "post_untyped", "loose", "notes", "lines" }
fixture.collections = COLLECTIONS

--- Writes do not wait for the server's disk: campaigns are about the client.
function fixture.uri()
  local uri = assert(os.getenv("LUMO_TEST_URI"), "LUMO_TEST_URI is not set")
  return uri .. (uri:find("?", 1, true) and "&" or "?") .. "w=1&journal=false"
end

function fixture.connect(name)
  fixture.database = ("lumo_campaign_%s_%d"):format(name, os.time())
  fixture.conn = lumo.connect(fixture.uri(), { database = fixture.database })
  return fixture.conn
end

function fixture.drop()
  fixture.conn:command { dropDatabase = 1 }
end

local QUICK = { "writeConcern", lumo.ordered { { "w", 1 }, { "j", false } } }

local function insert(collection, documents)
  fixture.conn:command(lumo.ordered { { "insert", collection }, { "documents", lumo.array(documents) }, QUICK })
end

local POSTS, TAGS = 3, 4

--- All documents of a collection, ordered by _id.
function fixture.docs(collection)
  return fixture.conn:command(lumo.ordered {
    { "find", collection }, { "sort", { _id = 1 } }, { "batchSize", 100000 },
  }).cursor.firstBatch
end

--- Puts the documents back to what they were at first: three posts, four tags, the first post with two of them. What
--- has methods is in `s`, which is fixture.state from then on.
function fixture.reset(s)
  fixture.state, s.conn = s, fixture.conn
  for _, collection in ipairs(COLLECTIONS) do
    fixture.conn:command(lumo.ordered {
      { "delete", collection }, { "deletes", lumo.array { lumo.ordered { { "q", {} }, { "limit", 0 } } } }, QUICK,
    })
  end
  local posts, tags, rows = {}, {}, {}
  for i = 1, POSTS do
    posts[i] = {
      _id = lumo.objectid(id_of(i)), title = "post " .. i, views = i, score = i + 0.5, any = "any " .. i,
        post_slug = "p" .. i,
      labels = lumo.array { "red", "blue" }, meta = { colour = "red", depth = i }, free = { a = { b = i } },
    }
  end
  for i = 1, TAGS do
    tags[i] = { _id = lumo.objectid(id_of(100 + i)), name = "tag " .. i, any = "tag any " .. i }
  end
  for i = 1, 2 do
    rows[i] = {
      _id = lumo.objectid(id_of(200 + i)), post_id = posts[1]._id, tag_id = tags[i]._id, rank = i, role = "admin",
    }
  end
  insert("posts", posts)
  insert("tags", tags)
  for _, collection in ipairs { "post_tags", "post_plain", "post_bag" } do insert(collection, rows) end
  insert("post_untyped", { { post_any = "any 1", tag_any = "tag any 1" }, { post_any = "any 1",
    tag_any = "tag any 2" } })
  insert("loose", { { _id = lumo.objectid(id_of(1)), title = "loose", extra = "field" } })
  insert("notes", {
    { _id = lumo.objectid(id_of(301)), text = "note 1", post_id = posts[1]._id },
    { _id = lumo.objectid(id_of(302)), text = "note 2", post_id = posts[2]._id },
  })
  insert("lines", { { _id = lumo.objectid(id_of(401)), text = "line 1", note_id = lumo.objectid(id_of(301)) } })
  s.post_id, s.tag_ids = posts[1]._id, {}
  for i = 1, TAGS do s.tag_ids[i] = tags[i]._id end
  return fixture.read(s)
end

--- Reads the records anew, where the documents are as reset has left them.
function fixture.read(s)
  s.post = s.Post:find(s.post_id)
  s.tag = s.Tag:find(s.tag_ids[3])
  s.note = s.Note:find(id_of(301))
  return s
end

return fixture
