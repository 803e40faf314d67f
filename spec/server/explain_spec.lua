-- How the server answers a query: every command that exec would send, by which index, in words; and warnings of scans.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("explain")

local Post = lumo.model("ExplainPost", {
  collection = "explain_posts",
  columns = { slug = "string", views = "integer", author_id = "objectid" },
  indexes = { { "slug" } },
  relations = {
    tags = lumo.many_to_many("ExplainTag", { pivot_table = "explain_pairs", pivot_foreign_key = "post_id",
      pivot_related_foreign_key = "tag_id" }),
    notes = lumo.has_many("ExplainNote", { foreign_key = "post_id" }),
    author = lumo.belongs_to("ExplainAuthor", { foreign_key = "author_id" }),
  },
})
lumo.model("ExplainTag", { collection = "explain_tags", columns = { name = "string" } })
local Note = lumo.model("ExplainNote", {
  collection = "explain_notes", columns = { post_id = "objectid", text = "string" },
})
local Author = lumo.model("ExplainAuthor", { collection = "explain_authors", columns = { name = "string" } })

local post

setup(function()
  helper.drop()
  Post:ensure_indexes()
  local author = Author:create { name = "ada" }
  for i = 1, 6 do
    local one = Post:create { slug = "s" .. i, views = i, author_id = author._id }
    one.tags:create_many { { name = "a" .. i }, { name = "b" .. i } }
    Note:create { post_id = one._id, text = "n" .. i }
    post = post or one
  end
end)

teardown(helper.drop)

local function lines(explanation)
  local all = {}
  for line in tostring(explanation):gmatch("[^\n]+") do all[#all + 1] = line end
  return all
end

local function refused(fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  assert.equal("E_ARGUMENT", err.code)
  return err
end

describe("explain", function()
  it("of a query alone asks once, and keeps what the server says", function()
    local q = Post:query():where("slug", "s1")
    local explanation
    assert.equal(1, (lumo.count_commands(function() explanation = q:explain() end)))
    assert.equal(1, #explanation)
    assert.equal("FETCH", explanation.queryPlanner.winningPlan.stage)
    assert.equal("find explain_posts: uses index slug_1", tostring(explanation))
    local one = explanation[1]
    assert.same({ "find", "explain_posts", "ExplainPost", "find" }, { one.name, one.collection, one.model, one.op })
    assert.same({ "slug_1" }, one.indexes)
    assert.is_false(one.scans or one.sortsInMemory)
    assert.is_nil(one.keys_examined)
    assert.equal(explanation.queryPlanner, one.reply.queryPlanner)
    assert.equal("s1", q:first().slug)
  end)

  it("tells of scans, sorts and figures", function()
    local one = Post:query():where("views", ">", 2):order_by("views"):explain("executionStats")[1]
    assert.is_true(one.scans and one.sorts_in_memory)
    assert.same({ 0, 6, 4 }, { one.keys_examined, one.documents_examined, one.returned })
    assert.equal("find explain_posts: reads the whole collection (COLLSCAN): no index for {views}; sorts in memory; "
      .. "0 keys and 6 documents examined, 4 returned", one.text)
    assert.matches("nothing is asked of its own fields", Post:query():explain().text)
    assert.matches("no index for {slug, views}", Post:query():where("slug", "x"):or_where("views", 1):explain().text)
    assert.matches("uses index slug_1; 1 key and 1 document examined, 1 returned",
      Post:query():where("slug", "s2"):explain("allPlansExecution").text)
    assert.matches("uses index _id_", Post:query():where("id", post.id):explain().text)
    local Nothing = lumo.model("ExplainNothing", { columns = { n = "integer" } })
    assert.equal("find explain_nothings: has nothing to read", Nothing:query():where("n", 1):explain().text)
  end)

  it("tells of preloads and counts, each by what those before it have found", function()
    local q = Post:query():where_in("slug", { "s1", "s2" }):preload("tags"):preload("author"):preload("notes")
      :with_count("notes")
    local explanation
    local sent = lumo.count_commands(function() explanation = q:explain("executionStats") end)
    assert.equal(2 * 6, sent)
    local text = lines(explanation)
    assert.matches("^find explain_posts: uses index slug_1", text[1])
    assert.matches("^find explain_pairs: uses index post_id_1_tag_id_1 alone; %d keys and 0 documents examined, "
      .. "4 returned$", text[2])
    assert.matches("^find explain_tags: uses index _id_; .* 4 returned$", text[3])
    assert.matches("^find explain_authors: uses index _id_", text[4])
    assert.matches("^find explain_notes: reads the whole collection %(COLLSCAN%): no index for {post_id}", text[5])
    assert.matches("^aggregate explain_notes: reads the whole collection", text[6])
    assert.equal("ExplainPost.tags", explanation[2].relation)
    assert.equal("load", explanation[2].op)
    assert.equal("with_count", explanation[6].op)
    assert.equal(1, #Post:query():where("slug", "nobody"):preload("tags"):explain())
  end)

  it("of queries across a relation, and of conditions on one", function()
    local both = lines(post.tags:query():where("name", "a1"):explain())
    assert.matches("^find explain_pairs: uses index post_id_1_tag_id_1", both[1])
    assert.matches("^find explain_tags: uses index _id_", both[2])
    assert.equal(1, #post.tags:pivot_query():explain())
    assert.matches("looks up explain_tags", post.tags:query():order_by_pivot("tag_id"):limit(1):explain().text)
    assert.matches("looks up explain_pairs %(executionStats tells how%)", Post:query():has("tags"):explain().text)
    assert.matches("looks up explain_pairs by index post_id_1_tag_id_1",
      Post:query():has("tags"):explain("executionStats").text)
    local scan = Post:query():where("slug", "s1"):has("notes"):explain("executionStats")[1]
    assert.is_true(scan.joins[1].scans)
    assert.matches("looks up explain_notes %(COLLSCAN%): no index serves that", scan.text)
    local limited = Post:query():where("slug", "s1"):preload("tags", function(q) q:group_limit(1) end):explain()
    assert.equal("aggregate explain_pairs", limited[2].name .. " " .. limited[2].collection)
    local counts = Post:query():where("slug", "s1"):with_count("tags"):with_count("notes"):explain()
    assert.matches("adds explain_notes %(COLLSCAN%)", counts[2].text)
  end)

  it("asks as the query does: hint, collation, read preference, lean, hooks", function()
    assert.same({ "_id_" }, Post:query():where("slug", "s1"):hint("_id_"):explain()[1].indexes)
    assert.is_true(Post:query():where("slug", "s1"):collation { locale = "de" }:explain()[1].scans)
    assert.equal(1, #Post:query():where("slug", "s1"):read_preference("secondaryPreferred"):max_time_ms(5000):lean()
      :explain())
    local Scoped = lumo.model("ExplainScoped", { collection = "explain_posts", columns = { slug = "string" } })
    local after = 0
    Scoped:before("fetch", function(q) q:where("slug", "s1") end)
    Scoped:after("fetch", function() after = after + 1 end)
    local q = Scoped:query()
    assert.matches("uses index slug_1", q:explain().text)
    assert.is_nil(tostring(q):find("slug", 1, true))
    assert.equal(0, after)
  end)

  it("goes on in a transaction, beside it", function()
    local trx = lumo.transaction()
    trx:run(function()
      Post:create { slug = "within" }
      local explanation = Post:query():where("slug", "within"):preload("tags"):explain("executionStats")
      assert.equal(2, #explanation)
      assert.equal(0, explanation[1].returned)
      assert.equal(1, #Post:query():where("slug", "within"):exec())
    end)
    trx:rollback()
    lumo.transaction(function() -- a collection that the others do not see yet
      local Fresh = lumo.model("ExplainFresh", { columns = { n = "integer" } })
      Fresh:create { n = 1 }
      assert.equal("find explain_freshes: has nothing to read", Fresh:query():where("n", 1):explain().text)
    end)
  end)

  it("leaves no trace when it fails", function()
    local q = Post:query():hint("no_such_index")
    helper.expect_error("E_SERVER", q.explain, q)
    assert.equal(6, #Post:all())
    helper.expect_error("E_ARGUMENT", q.explain, q, "everything")
    helper.expect_error("E_ARGUMENT", q.explain, q, 5)
  end)
end)

describe("lumo.warn_about{ collection_scans }", function()
  local told

  local function warn()
    told = {}
    lumo.warn_about { collection_scans = "warn", fn = function(message) told[#told + 1] = message end }
  end

  before_each(warn)
  after_each(function() lumo.warn_about { collection_scans = "off" } end)

  it("tells of commands with conditions that no index serves, once for each place", function()
    for n = 1, 3 do Post:query():where("views", n):exec() end
    assert.equal(1, #told)
    assert.matches("^find explain_posts: reads the whole collection %(COLLSCAN%): no index for {views} "
      .. "%(ExplainPost at .*explain_spec.lua:%d+%)$", told[1])
    Post:query():where("views", 1):count()
    assert.matches("^aggregate explain_posts", told[2])
    Post:query():where("views", 77):update { slug = "x" }
    assert.matches("^update explain_posts.*{views}", told[3])
    Post:query():where("views", 77):delete()
    assert.matches("^delete explain_posts", told[4])
    Post:query():where("views", 77):find_one_and_update { slug = "x" }
    assert.matches("^findAndModify explain_posts", told[5])
    assert.equal("s1", Post:query():where("views", 1):each()().slug)
    assert.equal(6, #told)
    post:load("notes")
    assert.matches("explain_notes.*{post_id} %(ExplainNote at", told[7])
    Post:query():where("slug", "s1"):has("notes"):exec()
    assert.matches("looks up explain_notes %(COLLSCAN%)", told[8])
  end)

  it("says nothing of indexes, of what is to be read whole, and of what says so itself", function()
    post:load("tags")
    Post:all()
    Post:count()
    Post:query():everything():update { author_id = post.author_id }
    Post:query():where("slug", "s1"):preload("tags"):exec()
    Post:query():has("tags"):exec()
    Post:query():where("views", 1):hint(lumo.ordered { { "$natural", 1 } }):exec()
    post.views = 10
    post:save()
    post.tags:sync(post.tags:ids())
    local new = Post:create { slug = "new" }
    new:delete()
    assert.same({}, told)
  end)

  it("is no command, and changes none", function()
    local seen = {}
    local off = lumo.on("command", function(event) seen[#seen + 1] = event.name end)
    assert.equal(1, (lumo.count_commands(function() Post:query():where("views", 3):exec() end)))
    off()
    assert.same({ "find" }, seen)
    assert.equal(1, #told)
    lumo.warn_about { collection_scans = "warn", fn = function() Post:query():where("views", 4):exec() end }
    assert.equal(1, #Post:query():where("views", 3):exec())
    helper.conn:command(lumo.ordered {
      { "configureFailPoint", "failCommand" }, { "mode", { times = 1 } },
      { "data", { failCommands = { "explain" }, errorCode = 2 } },
    }, { database = "admin" })
    lumo.warn_about { collection_scans = "raise" }
    assert.equal(1, #Post:query():where("views", 3):exec())
  end)

  it("sees an index that has come", function()
    local Late = lumo.model("ExplainLate", { columns = { n = "integer" }, indexes = { { "n" } } })
    Late:create { n = 1 }
    local function look() return #Late:query():where("n", 1):exec() end
    lumo.warn_about { collection_scans = "raise" }
    refused(look)
    Late:ensure_indexes()
    assert.equal(1, look())
  end)

  it("raise: what would scan is not sent", function()
    lumo.warn_about { collectionScans = "raise" }
    local err
    assert.equal(0, (lumo.count_commands(function()
      err = refused(function() Post:query():where("views", 3):update { slug = "changed" } end)
    end)))
    assert.equal("not_applied", err.outcome)
    assert.matches("no index for {views}", err.message)
    assert.matches("explain_spec.lua:%d+", err.message)
    refused(function() Post:query():where("views", 3):exec() end)
    assert.equal("s2", Post:find_by("slug", "s2").slug)
    lumo.transaction(function()
      Post:create { slug = "in" }
      refused(function() Post:query():where("views", 3):exec() end)
      refused(function() Post:query():where("views", 3):delete() end)
      assert.equal(1, Post:query():where("slug", "in"):delete())
    end)
    lumo.warn_about { collection_scans = "off" }
    assert.equal("s3", Post:query():where("views", 3):first().slug)
  end)

  it("explains without a warning", function()
    assert.is_true(Post:query():where("views", 3):explain()[1].scans)
    assert.same({}, told)
  end)

  it("writes to stderr, and leaves the other warning as it is", function()
    local output = helper.shell(("%s -e %q 2>&1"):format(helper.interpreter, ([[
      local lumo = require 'lumo'
      lumo.connect('%s', { database = '%s' })
      local Post = lumo.model('Post', { collection = 'explain_posts', columns = { views = 'integer' } })
      lumo.warn_about { lazy_loading = 'raise' }
      lumo.warn_about { collection_scans = 'warn' }
      Post:query():where('views', 2):exec()
    ]]):format(helper.uri(), helper.database)))
    assert.matches("^lumo: find explain_posts: reads the whole collection .COLLSCAN.: no index for {views} %(Post at ",
      output)
  end)

  it("takes nothing else", function()
    refused(function() lumo.warn_about {} end)
    refused(function() lumo.warn_about { collection_scans = true } end)
    refused(function() lumo.warn_about { collection_scans = "sometimes" } end)
    refused(function() lumo.warn_about { collection_scans = "off", fn = 1 } end)
  end)
end)
