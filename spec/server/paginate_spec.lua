-- Pages: which records, which numbers, which URLs.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("paginate")
teardown(helper.drop)

local expect_refused, expect_commands = helper.expect_refused, helper.expect_commands
local pluck = helper.pluck

local Post = lumo.model("PagePost", {
  collection = "posts",
  columns = {
    n = "integer", name = "string", secret = { "string", serialize_as = false },
    slug = { "string", serialize_as = "permalink" },
  },
})
local Empty = lumo.model("PageEmpty", { collection = "nothing", columns = { n = "integer" } })
local Owner = lumo.model("PageOwner", {
  collection = "owners", columns = { name = "string" },
  relations = {
    posts = lumo.many_to_many("PagePost", {
      pivot_table = "owner_posts", pivot_foreign_key = "owner_id", pivot_related_foreign_key = "post_id",
    }),
  },
})

setup(function()
  local documents = {}
  for i = 1, 45 do
    documents[i] = { n = i, name = i <= 30 and "low" or "high", secret = "s", slug = "p" .. i }
  end
  helper.insert("posts", documents)
end)

local function q()
  return Post:query():order_by("n")
end

local function span(page)
  local numbers = pluck(page, "n")
  return #numbers == 0 and "" or ("%d-%d"):format(numbers[1], numbers[#numbers])
end

describe("a page", function()
  it("is a list of records, by default the first twenty", function()
    local page = q():paginate()
    assert.equal(20, #page)
    assert.equal("1-20", span(page))
    assert.equal(Post, page[1].model)
    local seen = 0
    for i, one in ipairs(page) do
      assert.equal(i, one.n)
      seen = seen + 1
    end
    assert.equal(20, seen)
  end)

  it("costs two commands", function()
    expect_commands(2, function() q():paginate(2, 10) end)
  end)

  it("knows where it stands", function()
    for _, case in ipairs {
      -- page, size, span, last page, more
      { 1, 20, "1-20", 3, true }, { 2, 20, "21-40", 3, true }, { 3, 20, "41-45", 3, false },
      { 1, 45, "1-45", 1, false }, { 1, 44, "1-44", 2, true }, { 4, 20, "", 3, false }, { 45, 1, "45-45", 45, false },
      { 1, 1000, "1-45", 1, false },
    } do
      local page = q():paginate(case[1], case[2])
      assert.equal(case[3], span(page))
      assert.equal(45, page.total)
      assert.equal(case[1], page.current_page)
      assert.equal(case[2], page.per_page)
      assert.equal(1, page.first_page)
      assert.equal(case[4], page.last_page)
      assert.equal(case[5], page.has_more_pages)
      assert.equal(case[4] > 1, page.has_pages)
      assert.equal(case[3] == "", page.is_empty)
    end
  end)

  it("of nothing is empty, and its last page is the first", function()
    local page = Empty:query():paginate()
    assert.equal(0, #page)
    assert.is_true(page.is_empty)
    assert.equal(0, page.total)
    assert.equal(1, page.last_page)
    assert.is_false(page.has_pages)
    assert.is_false(page.has_more_pages)
    assert.is_nil(page:get_next_page_url())
    assert.is_nil(page:get_previous_page_url())
  end)

  it("counts what the query matches, whatever its order and limit", function()
    local page = q():where("name", "high"):paginate(2, 10)
    assert.equal(15, page.total)
    assert.equal("41-45", span(page))
    page = q():limit(3):offset(5):paginate(2, 10)
    assert.equal("11-20", span(page))
    assert.equal(45, page.total)
  end)

  it("leaves the query as it was", function()
    local query = q():where("name", "low")
    assert.equal("11-20", span(query:paginate(2, 10)))
    assert.equal("21-30", span(query:paginate(3, 10)))
    assert.equal(30, #query:exec())
    local limited = q():limit(3)
    limited:paginate(1, 10)
    assert.equal(3, #limited:exec())
  end)

  it("takes whole numbers from 1", function()
    for _, bad in ipairs { 0, -1, 1.5, "2", true, 0 / 0, math.huge } do
      expect_refused("E_ARGUMENT", function() q():paginate(bad) end)
      expect_refused("E_ARGUMENT", function() q():paginate(1, bad) end)
    end
    assert.equal("21-40", span(q():paginate(2.0)))
  end)

  it("answers to camelCase too", function()
    local page = q():paginate(2, 10)
    assert.equal(10, page.perPage)
    assert.equal(2, page.currentPage)
    assert.equal(5, page.lastPage)
    assert.equal(1, page.firstPage)
    assert.is_true(page.hasPages)
    assert.is_true(page.hasMorePages)
    assert.is_false(page.isEmpty)
    assert.equal("/?page=3", page:getNextPageUrl())
    assert.equal("/?page=1", page:getPreviousPageUrl())
    assert.equal(45, page:getMeta().total)
    assert.equal("/x?page=7", page:baseUrl("/x"):getUrl(7))
    assert.equal("/x?a=1&page=7", page:queryString({ a = 1 }):getUrl(7))
    assert.equal(1, #page:getUrlsForRange(1, 1))
    assert.is_nil(page.nothing)
  end)

  it("of a lean query is one of plain tables", function()
    local page = q():lean():paginate(1, 2)
    assert.equal("table", type(page[1]))
    assert.equal(2, page[2].n)
    assert.equal(45, page.total)
    assert.equal(2, page:serialize().data[2].n)
  end)

  it("across a relation", function()
    local owner = Owner:create { name = "o" }
    owner.posts:attach(pluck(Post:query():where("n", "<=", 25):exec(), "_id"))
    local page = owner.posts:query():order_by("n"):paginate(3, 10)
    assert.equal("21-25", span(page))
    assert.equal(25, page.total)
    assert.equal(3, page.last_page)
    assert.equal(owner._id, page[1].extras.pivot_owner_id)
    assert.equal(25, owner.posts:paginate(1, 5).total)
  end)

  it("can be read from an open transaction", function()
    lumo.transaction(function(trx)
      Owner:create { name = "inside" }
      local page = Owner:query():where("name", "inside"):paginate()
      assert.equal(1, page.total)
      assert.equal(trx, page[1].trx)
      trx:rollback()
    end)
  end)
end)

describe("the URLs of a page", function()
  it("lead to / unless told otherwise", function()
    local page = q():paginate(2, 10)
    assert.equal("/?page=2", page:get_url(2))
    assert.equal("/?page=3", page:get_next_page_url())
    assert.equal("/?page=1", page:get_previous_page_url())
    assert.equal("/?page=1", page:get_url(0))
    assert.equal("/?page=1", page:get_url(-5))
    assert.is_nil(q():paginate(1, 10):get_previous_page_url())
    assert.is_nil(q():paginate(5, 10):get_next_page_url())
  end)

  it("begin with the base and carry the query string, sorted and escaped", function()
    local page = q():paginate(2, 10)
    assert.equal(page, page:base_url("https://example.org/posts"))
    assert.equal(page, page:query_string { sort = "new & old", ["ä"] = "x/y", n = 5, deep = true, page = 99 })
    assert.equal("https://example.org/posts?deep=true&n=5&sort=new%20%26%20old&%C3%A4=x%2Fy&page=3",
      page:get_next_page_url())
  end)

  it("keep a query and a fragment of the base where they belong", function()
    local page = q():paginate(2, 10)
    assert.equal("/p?lang=is&page=3", page:base_url("/p?lang=is"):get_next_page_url())
    assert.equal("/p?page=3#list", page:base_url("/p#list"):get_next_page_url())
    page:base_url("/p?lang=is#a?b"):query_string { n = 5 }
    assert.equal("/p?lang=is&n=5&page=3#a?b", page:get_next_page_url())
    assert.equal("/p?n=5&page=3", page:base_url("/p?"):get_next_page_url())
  end)

  it("come for a range", function()
    local page = q():paginate(2, 10):base_url("/p")
    assert.same({
      { page = 1, url = "/p?page=1", is_active = false },
      { page = 2, url = "/p?page=2", is_active = true },
      { page = 3, url = "/p?page=3", is_active = false },
    }, page:get_urls_for_range(1, 3))
    assert.same({}, page:get_urls_for_range(3, 2))
  end)

  it("refuse what they are not made of", function()
    local page = q():paginate(1, 10)
    for _, bad in ipairs { "x", {}, true, 1.5, 0 / 0, math.huge } do
      expect_refused("E_ARGUMENT", function() page:get_url(bad) end)
      expect_refused("E_ARGUMENT", function() page:get_urls_for_range(1, bad) end)
      expect_refused("E_ARGUMENT", function() page:get_urls_for_range(bad, 1) end)
    end
    expect_refused("E_ARGUMENT", function() page:get_url() end)
    expect_refused("E_ARGUMENT", function() page:get_urls_for_range(1) end)
    expect_refused("E_ARGUMENT", function() page:base_url(nil) end)
    expect_refused("E_ARGUMENT", function() page:base_url(5) end)
    expect_refused("E_ARGUMENT", function() page:query_string("a=b") end)
    expect_refused("E_ARGUMENT", function() page:query_string { a = {} } end)
    expect_refused("E_ARGUMENT", function() page:query_string { a = lumo.null } end)
    expect_refused("E_ARGUMENT", function() page.get_url(1) end)
  end)
end)

describe("a page as data", function()
  it("get_meta has its numbers and URLs", function()
    assert.same({
      total = 45, per_page = 10, current_page = 2, last_page = 5, first_page = 1,
      first_page_url = "/p?page=1", last_page_url = "/p?page=5",
      next_page_url = "/p?page=3", previous_page_url = "/p?page=1",
    }, q():paginate(2, 10):base_url("/p"):get_meta())
  end)

  it("serialize has meta and data, under serialized names", function()
    local data = q():paginate(1, 2):serialize()
    assert.equal(45, data.meta.total)
    assert.equal(2, #data.data)
    assert.equal("p1", data.data[1].permalink)
    assert.is_nil(data.data[1].secret)
    assert.is_nil(data.data[1].slug)
    local picked = q():paginate(1, 2):serialize { fields = { "n" } }
    assert.same({ { n = 1 }, { n = 2 } }, { picked.data[1], picked.data[2] })
    local page = q():paginate(1, 2)
    expect_refused("E_ARGUMENT", function() page:serialize { nonsense = 1 } end)
  end)
end)
