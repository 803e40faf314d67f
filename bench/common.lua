-- What the Lua sides share: the connection, the model, the documents, and how a figure is said.
local lumo = require "lumo"

local common = {}

local DOCUMENT_SIZE = 750

common.connection = lumo.connect(os.getenv("LUMO_TEST_URI"), { database = "lumo_bench" })

common.columns = {
  { "title", "string" }, { "slug", "string" }, { "body", "string" }, { "author_id", "objectid" }, { "status", "string" },
  { "views", "integer" }, { "rating", "number" }, { "featured", "boolean" }, { "labels", { "array", of = "string" } },
  { "meta", "object" }, { "created_at", "date" }, { "updated_at", "date" },
}

common.Post = lumo.model("Post", { columns = common.columns })
common.Created = lumo.model("Created", { collection = "created", columns = common.columns })

local body = ""

--- The post with a number: the same as bench/common.h makes.
function common.post(n)
  return {
    title = ("Post number %06d and its title"):format(n), slug = ("post-number-%06d-and-its-title"):format(n),
    body = body, author_id = lumo.objectid(), status = "published", views = n, rating = n + 0.25, featured = n % 2 == 0,
    labels = { "lua", "mongodb", "benchmark" }, meta = { language = "en", source = "editor", words = n % 1000 },
    created_at = lumo.datetime.from_ms(1700000000000 + n), updated_at = lumo.datetime.from_ms(1700000000000 + n),
  }
end

local function size_of(n)
  local document = common.post(n)
  document._id = lumo.objectid()
  return #lumo.bson.encode(document)
end

body = ("the quick brown fox "):rep(50):sub(1, DOCUMENT_SIZE - size_of(1))
assert(size_of(1) == DOCUMENT_SIZE)

--- CPU of this process in seconds: user and system, all of its threads.
common.cpu = os.clock

--- Seconds of the wall clock, to a millisecond.
function common.wall()
  return lumo.datetime.now().ms / 1000
end

local lowest = {}

--- Keeps the lowest of a figure's values.
function common.note(name, value)
  if not lowest[name] then lowest[#lowest + 1] = name end
  lowest[name] = math.min(lowest[name] or math.huge, value)
end

--- Says all figures: a name and seconds for one unit.
function common.report()
  for _, name in ipairs(lowest) do
    print(("%s %.9g"):format(name, lowest[name]))
  end
end

return common
