-- The command line, as somebody at a terminal uses it: in processes of its own.
local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("cli")

local app -- the file with the models

--- Runs `lumo …` with text as its input; gives its output (errors too) and its status.
local function command(line, input)
  local file = helper.write_file(input or "")
  local output = helper.shell(("%s bin/lumo %s < %s 2>&1; echo status=$?"):format(helper.interpreter, line, file))
  os.remove(file)
  local text, status = output:match("^(.*)status=(%d+)%s*$")
  return text, tonumber(status)
end

local function object_ids(...)
  local list = {}
  for i = 1, select("#", ...) do list[i] = lumo.objectid() end
  return (table.unpack or unpack)(list)
end

setup(function()
  app = helper.write_file(([[
    local lumo = require "lumo"
    lumo.connect(%q, { database = %q })
    lumo.model("CliPost", {
      columns = { title = "string", slug = "string" },
      indexes = { { "slug", unique = true } },
      relations = { tags = lumo.many_to_many("CliTag") },
    })
    lumo.model("CliTag", { columns = { label = "string" }, relations = { posts = lumo.many_to_many("CliPost") } })
  ]]):format(helper.uri(), helper.database))
end)

teardown(function()
  os.remove(app)
  helper.drop()
end)

before_each(function()
  for _, name in ipairs { "cli_posts", "cli_tags", "cli_post_cli_tag" } do
    pcall(helper.command, { { "drop", name } })
  end
end)

describe("lumo", function()
  it("says how it is used, and refuses what it does not know", function()
    local text, status = command("help")
    assert.equal(0, status)
    assert.matches("lumo doctor APP", text, 1, true)
    assert.equal(0, (select(2, command("doctor --help"))))
    for _, line in ipairs {
      "", "nope", "indexes", "indexes drop x.lua", "indexes plan", "shell", "doctor " .. app .. " --nope",
      "server --path", "shell " .. app .. " too many", "indexes plan " .. app .. " --drop",
    } do
      text, status = command(line)
      assert.equal(2, status, line)
      assert.matches("lumo shell APP", text, 1, true)
    end
    text, status = command("doctor nowhere.lua")
    assert.equal(3, status)
    assert.matches("nowhere.lua", text, 1, true)
  end)

  it("says what an app has raised, whatever it is", function()
    for code, expected in pairs {
      ["error('a text')"] = "a text",
      ["error({ message = 'a message', code = 7 })"] = "lumo: a message\n",
      ["error({ code = 7, deep = { 1, 'x' } })"] = "lumo: { code = 7, deep = { 1, \"x\" } }\n",
      ["error(setmetatable({}, { __index = { message = 'from a class' } }))"] = "lumo: from a class\n",
      ["error({})"] = "lumo: {}\n",
      ["error(nil)"] = "nil was raised",
      ["error(7)"] = "7",
      ["error(setmetatable({}, { __tostring = function() return 'own text' end }))"] = "lumo: own text\n",
      ["error(setmetatable({}, { __tostring = function() return {} end }))"] = "has no text",
      ["error(setmetatable({ a = 1 }, { __index = error }))"] = "has no text",
      ["error(setmetatable({ a = 1 }, { __metatable = false }))"] = "lumo: { a = 1 }\n",
      ["error(print)"] = "function",
    } do
      local file = helper.write_file(code)
      for _, line in ipairs { "doctor ", "indexes plan ", "shell " } do
        local text, status = command(line .. file)
        assert.equal(3, status, code)
        assert.matches(expected, text, 1, true)
        assert.is_nil(text:find("table: 0x", 1, true))
      end
      os.remove(file)
    end
    for _, code in ipairs { "return nil", "return false", "return {}", "" } do
      local file = helper.write_file(("require('lumo').connect(%q, { database = %q }) "):format(helper.uri(),
        helper.database) .. code)
      assert.equal(0, (select(2, command("shell " .. file))), code)
      os.remove(file)
    end
    local text = command("shell " .. app, "error { message = 'by hand' }\nerror()\nerror { a = { 1 } }")
    assert.matches("by hand", text, 1, true)
    assert.matches("nil was raised", text, 1, true)
    assert.matches("a = { 1 }", text, 1, true)
  end)

  it("indexes plan and apply", function()
    local text, status = command("indexes plan " .. app)
    assert.equal(1, status)
    assert.matches("missing +cli_posts.slug_1", text)
    text, status = command("indexes apply " .. app)
    assert.equal(0, status)
    assert.matches("created +cli_posts.slug_1", text)
    text, status = command("indexes plan " .. app)
    assert.equal(0, status)
    assert.matches("as the models want them", text, 1, true)
    helper.command { { "createIndexes", "cli_posts" }, { "indexes", { { key = { old = 1 }, name = "old_1" } } } }
    assert.matches("hidden +cli_posts.old_1", (command("indexes apply " .. app .. " --drop")))
    assert.matches("dropped +cli_posts.old_1", (command("indexes apply " .. app .. " --drop")))
  end)

  it("shell runs lines with the models at hand", function()
    local text, status = command("shell " .. app, [[
local one = CliPost:create { title = "first" }
CliPost:count()
post = CliPost:first()
post
CliPost:all()
function twice(x)
  return 2 * x
end

twice(21), "text"
error("on purpose")
CliPost:find(nil)
{ a = 1, "x" }
]])
    assert.equal(0, status, text)
    assert.matches("\n?1\n", text)
    assert.matches("CliPost%(%x+%) {.*\"title\":\"first\"", text)
    assert.matches("42\ntext\n", text)
    assert.matches("on purpose", text, 1, true)
    assert.matches("E_ARGUMENT", text, 1, true)
    assert.matches("{ \"x\", a = 1 }", text, 1, true)
  end)

  it("doctor finds and mends orphans, copies of rows and missing indexes, and leaves what it cannot know", function()
    local p1, p2, t1, t2, gone = object_ids(1, 2, 3, 4, 5)
    helper.insert("cli_posts", { { _id = p1 }, { _id = p2 } })
    helper.insert("cli_tags", { { _id = t1 }, { _id = t2 } })
    local function row(post, tag, more)
      local one = { cli_post_id = post, cli_tag_id = tag }
      for key, value in pairs(more or {}) do one[key] = value end
      return one
    end
    helper.insert("cli_post_cli_tag", {
      row(p1, t1), row(p1, t1), row(p1, t1), -- copies
      row(p2, t1, { weight = 1 }), row(p2, t1, { weight = 2 }), -- not the same
      row(p1, gone), row(gone, t2), -- orphans
    })
    local text, status = command("doctor " .. app)
    assert.equal(1, status)
    assert.matches("1 rows of \"cli_post_cli_tag\" whose CliTag is gone", text, 1, true)
    assert.matches("1 rows of \"cli_post_cli_tag\" whose CliPost is gone", text, 1, true)
    assert.matches("2 pairs of \"cli_post_cli_tag\" have several rows", text, 1, true)
    assert.matches("the index cli_posts.slug_1 is missing", text, 1, true)
    assert.equal(7, #helper.docs("cli_post_cli_tag")) -- it only looked

    text, status = command("doctor " .. app .. " --fix")
    assert.equal(1, status)
    assert.matches("1 pairs of \"cli_post_cli_tag\" have several rows, which differ", text, 1, true)
    assert.equal(3, #helper.docs("cli_post_cli_tag"))
    assert.equal(2, #helper.docs("cli_post_cli_tag", { cli_post_id = p2 }))

    helper.command { { "delete", "cli_post_cli_tag" }, { "deletes", { { q = { weight = 2 }, limit = 1 } } } }
    helper.command { { "delete", "cli_posts" }, { "deletes", { { q = { _id = p2 }, limit = 0 } } } }
    helper.insert("cli_posts", { { _id = p2, slug = "s" } })
    text, status = command("doctor " .. app .. " --fix")
    assert.equal(0, status, text)
    assert.matches("created", text, 1, true)
    text, status = command("doctor " .. app)
    assert.equal(0, status, text)
    assert.matches("nothing is wrong", text, 1, true)
  end)

  it("doctor leaves rows alone that are another relation's", function()
    local file = helper.write_file(([[
      local lumo = require "lumo"
      lumo.connect(%q, { database = %q })
      local function of_kind(kind) return function(q) q:where_pivot("kind", kind) end end
      local function over(related, kind)
        return lumo.many_to_many(related, {
          pivot_table = "cli_marks", pivot_related_foreign_key = "item_id", on_query = kind and of_kind(kind),
        })
      end
      lumo.model("CliUser", { columns = {}, relations = {
        posts = over("CliPost", "post"), tags = over("CliTag", "tag"),
        liked = lumo.many_to_many("CliPost", { pivot_table = "cli_likes", pivot_related_foreign_key = "item_id" }),
        liked_tags = lumo.many_to_many("CliTag", { pivot_table = "cli_likes", pivot_related_foreign_key = "item_id" }),
        broken = lumo.many_to_many("CliTag", { on_query = function() error("needs a request") end }),
      } })
      lumo.model("CliPost", { columns = {} })
      lumo.model("CliTag", { columns = {} })
    ]]):format(helper.uri(), helper.database))
    local user, post, tag, gone = object_ids(1, 2, 3, 4)
    helper.insert("cli_users", { { _id = user } })
    helper.insert("cli_posts", { { _id = post } })
    helper.insert("cli_tags", { { _id = tag } })
    local function row(item, kind, n) return { cli_user_id = user, item_id = item, kind = kind, n = n } end
    helper.insert("cli_marks", {
      row(post, "post"), row(tag, "tag"), row(gone, "post"), row(gone, "tag"), row(gone, "other"),
      row(post, "other", 1), row(post, "other", 1), row(tag, "tag", 1), row(tag, "tag", 2), row(tag, "tag", 2),
    })
    helper.insert("cli_likes", { row(post), row(tag), row(gone) })
    local text = command("doctor " .. file .. " --fix")
    os.remove(file)
    assert.matches("mended: 1 rows of \"cli_marks\" whose CliPost is gone", text, 1, true)
    assert.matches("mended: 1 rows of \"cli_marks\" whose CliTag is gone", text, 1, true)
    assert.matches("CliUser.broken\n  skipped: .-needs a request", text)
    local left = {}
    for _, one in ipairs(helper.docs("cli_marks")) do
      local name = one.item_id == post and "post" or one.item_id == tag and "tag" or "gone"
      left[#left + 1] = name .. ":" .. one.kind .. (one.n or "")
    end
    table.sort(left)
    assert.equal("gone:other post:other1 post:other1 post:post tag:tag tag:tag1 tag:tag2", table.concat(left, " "))
    assert.equal(2, #helper.docs("cli_likes", { item_id = { ["$in"] = { post, tag } } }))
    assert.equal(2, #helper.docs("cli_likes"))
    for _, name in ipairs { "cli_marks", "cli_likes", "cli_users" } do helper.command { { "drop", name } } end
  end)

  it("doctor tells of keys of another type", function()
    local tag = lumo.objectid()
    helper.insert("cli_tags", { { _id = tag } })
    helper.insert("cli_post_cli_tag", { { cli_post_id = "0123456789abcdef01234567", cli_tag_id = tag } })
    local text, status = command("doctor " .. app)
    assert.equal(1, status)
    assert.matches("\"cli_post_id\" of \"cli_post_cli_tag\" is string in 1 rows", text, 1, true)
    helper.insert("cli_posts", { { slug = "same" }, { slug = "same" } })
    text, status = command("doctor " .. app .. " --fix")
    assert.equal(1, status)
    assert.equal(0, #helper.docs("cli_post_cli_tag", { cli_post_id = { ["$type"] = "objectId" } }))
    assert.equal(1, #helper.docs("cli_post_cli_tag", { cli_post_id = "0123456789abcdef01234567" }), text)
    -- What can be made is made, though duplicates are in the way of another index.
    assert.matches("mended: the index cli_post_cli_tag", text, 1, true)
    assert.matches("the unique index cli_posts.slug_1 would refuse 1 values", text, 1, true)
  end)

  it("server runs until it is interrupted", function()
    local folder = helper.shell("mktemp -d"):gsub("%s+$", "")
    local text = helper.shell(([[
      %s bin/lumo server --path %s/data >%s/out 2>&1 & pid=$!
      for i in $(seq 200); do grep -q mongodb:// %s/out && break; sleep 0.1; done
      kill -INT $pid; wait $pid; echo status=$?
      cat %s/out; rm -r %s]]):format(helper.interpreter, folder, folder, folder, folder, folder))
    assert.matches("status=0", text, 1, true)
    assert.matches("mongodb://127.0.0.1:%d+/lumo%?replicaSet=lumo", text)
  end)
end)
