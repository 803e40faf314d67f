-- The guide of belongsToMany, example by example in its order, once in each spelling.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

helper.connect("s0_guide")
teardown(helper.drop)

local texts, sorted, pluck = helper.texts, helper.sorted, helper.pluck

describe("the guide in snake_case", function()
  local Post = lumo.model("GuidePost", {
    collection = "posts",
    columns = {
      _id = { "objectid", primary = true },
      title = "string",
      content = "string",
    },
    relations = {
      tags = lumo.belongs_to_many("GuideTag", "GuidePostTag", "post_id", "tag_id"),
    },
  })

  local Tag = lumo.model("GuideTag", {
    collection = "tags",
    columns = {
      _id = { "objectid", primary = true },
      name = "string",
      slug = "string",
    },
    relations = {
      posts = lumo.belongs_to_many("GuidePost", "GuidePostTag", "tag_id", "post_id"),
    },
  })

  lumo.model("GuidePostTag", {
    collection = "post_tags",
    columns = {
      _id = { "objectid", primary = true },
      post_id = "objectid",
      tag_id = "objectid",
      createdAt = "date",
    },
  })

  local post, tag1, tag2, tag3

  before_each(function()
    helper.clear("posts", "tags", "post_tags")
    post = Post:create { title = "Introduction to MongoDB", content = "MongoDB is a NoSQL database..." }
    tag1 = Tag:create { name = "MongoDB", slug = "mongodb" }
    tag2 = Tag:create { name = "NoSQL", slug = "nosql" }
    tag3 = Tag:create { name = "Performance", slug = "performance" }
  end)

  it("queries a relationship from both sides", function()
    local post_id = lumo.objectid("60a1e2c3d4e5f6a7b8c9d0e1")
    local tag_id = lumo.objectid("60a1e2c3d4e5f6a7b8c9d0e2")
    helper.insert("posts", { { _id = post_id, title = "Found" } })
    helper.insert("tags", { { _id = tag_id, name = "Here", slug = "here" } })
    helper.insert("post_tags", { { post_id = post_id, tag_id = tag_id } })

    local found = Post:find("60a1e2c3d4e5f6a7b8c9d0e1")
    local tags = found.tags:exec()
    assert.equal(1, #tags)
    assert.equal("Here", tags[1].name)

    local tag = Tag:find("60a1e2c3d4e5f6a7b8c9d0e2")
    local posts = tag.posts:exec()
    assert.equal(1, #posts)
    assert.equal("Found", posts[1].title)
  end)

  it("attaches tags", function()
    post.tags:attach { tag1._id, tag2._id }

    local rows = helper.docs("post_tags")
    assert.equal(2, #rows)
    assert.same(sorted { tag1._id, tag2._id }, sorted(pluck(rows, "tag_id")))
    assert.same(texts { post._id, post._id }, texts(pluck(rows, "post_id")))
  end)

  it("attaches with pivot data", function()
    local before = helper.now_ms()
    post.tags:attach_with_pivot_data {
      { id = tag1._id, pivot_data = { createdAt = lumo.datetime.now(), weight = 10 } },
      { id = tag2._id, pivot_data = { createdAt = lumo.datetime.now(), weight = 5 } },
    }

    local row = helper.doc("post_tags", { tag_id = tag1._id })
    assert.equal(post._id, row.post_id)
    assert.equal(10, row.weight)
    assert.is_true(row.createdAt.ms >= before and row.createdAt.ms <= helper.now_ms())
    assert.equal(5, helper.doc("post_tags", { tag_id = tag2._id }).weight)
  end)

  it("leaves one document per pair when the same tags are attached again with pivot data", function()
    post.tags:attach { tag1._id, tag2._id }
    post.tags:attach_with_pivot_data {
      { id = tag1._id, pivot_data = { createdAt = lumo.datetime.now(), weight = 10 } },
      { id = tag2._id, pivot_data = { createdAt = lumo.datetime.now(), weight = 5 } },
    }
    assert.equal(2, #helper.docs("post_tags"))
    assert.equal(10, post.tags:pivot_data(tag1._id).weight)
    assert.equal(5, post.tags:pivot_data(tag2._id).weight)
  end)

  it("detaches one tag, then all", function()
    post.tags:attach { tag1._id, tag2._id, tag3._id }
    post.tags:detach { tag1._id }
    assert.same(sorted { tag2._id, tag3._id }, sorted(pluck(helper.docs("post_tags"), "tag_id")))

    post.tags:detach()
    assert.same({}, helper.docs("post_tags"))
  end)

  it("replaces all relations by sync", function()
    post.tags:attach { tag1._id, tag2._id }
    post.tags:sync { tag2._id, tag3._id }
    assert.same(sorted { tag2._id, tag3._id }, sorted(pluck(helper.docs("post_tags"), "tag_id")))
  end)

  it("replaces all relations with pivot data", function()
    post.tags:attach { tag1._id, tag2._id }
    post.tags:sync_with_pivot_data {
      { id = tag2._id, pivot_data = { createdAt = lumo.datetime.now(), weight = 8 } },
      { id = tag3._id, pivot_data = { createdAt = lumo.datetime.now(), weight = 12 } },
    }
    assert.equal(2, #helper.docs("post_tags"))
    assert.equal(8, helper.doc("post_tags", { tag_id = tag2._id }).weight)
    assert.equal(12, helper.doc("post_tags", { tag_id = tag3._id }).weight)
  end)

  it("checks whether a relationship exists", function()
    post.tags:attach { tag1._id }
    assert.is_true(post.tags:exists(tag1._id))
    assert.is_false(post.tags:exists(tag2._id))
  end)

  it("reads and updates pivot data", function()
    post.tags:attach_with_pivot_data { { id = tag1._id, pivot_data = { weight = 10 } } }
    local pivot_data = post.tags:pivot_data(tag1._id)
    assert.equal(10, pivot_data.weight)

    post.tags:update_pivot_data(tag1._id, { weight = 15 })
    assert.equal(15, post.tags:pivot_data(tag1._id).weight)
    assert.equal(15, helper.doc("post_tags").weight)
  end)

  it("creates posts and tags with relationships", function()
    helper.clear("posts", "tags", "post_tags")
    local new_post = Post:create {
      title = "Introduction to MongoDB",
      content = "MongoDB is a NoSQL database...",
    }
    local first = Tag:create { name = "MongoDB", slug = "mongodb" }
    local second = Tag:create { name = "NoSQL", slug = "nosql" }
    new_post.tags:attach { first._id, second._id }

    assert.equal("Introduction to MongoDB", helper.doc("posts").title)
    assert.same({ "MongoDB", "NoSQL" }, pluck(helper.docs("tags", {}, { name = 1 }), "name"))
    assert.equal(2, #helper.docs("post_tags", { post_id = new_post._id }))
  end)

  it("queries the posts with a specific tag", function()
    local other = Post:create { title = "Unrelated" }
    post.tags:attach { tag1._id }
    other.tags:attach { tag2._id }

    local mongo_db_tag = Tag:query():where("slug", "mongodb"):first()
    local posts = mongo_db_tag.posts:exec()
    assert.same({ "Introduction to MongoDB" }, pluck(posts, "title"))
  end)

  it("adds additional pivot data", function()
    post = Post:create { title = "Advanced MongoDB Techniques", content = "Learn advanced techniques..." }
    local one = Tag:create { name = "MongoDB", slug = "mongodb" }
    local two = Tag:create { name = "Advanced", slug = "advanced" }
    local three = Tag:create { name = "Performance", slug = "performance" }
    post.tags:attach_with_pivot_data {
      { id = one._id, pivot_data = { relevance = "high" } },
      { id = two._id, pivot_data = { relevance = "high" } },
      { id = three._id, pivot_data = { relevance = "medium" } },
    }

    local relevance = {}
    for _, tag in ipairs(post.tags:exec()) do
      relevance[tag.name] = tag.extras.pivot_relevance
    end
    assert.same({ MongoDB = "high", Advanced = "high", Performance = "medium" }, relevance)
  end)
end)

describe("the guide in camelCase", function()
  local Post = lumo.model("CamelPost", {
    collection = "posts",
    columns = {
      _id = { "objectid", primary = true },
      title = "string",
      content = "string",
    },
    relations = {
      tags = lumo.belongsToMany(
        function() return lumo.model("CamelTag") end,
        function() return lumo.model("CamelPostTag") end,
        "post_id", "tag_id"
      ),
    },
  })

  local Tag = lumo.model("CamelTag", {
    collection = "tags",
    columns = {
      _id = { "objectid", primary = true },
      name = "string",
      slug = "string",
    },
    relations = {
      posts = lumo.belongsToMany(Post, "CamelPostTag", "tag_id", "post_id"),
    },
  })

  lumo.model("CamelPostTag", {
    collection = "post_tags",
    columns = {
      _id = { "objectid", primary = true },
      post_id = "objectid",
      tag_id = "objectid",
      createdAt = { "date", autoCreate = true },
    },
  })

  local post, tag1, tag2, tag3

  before_each(function()
    helper.clear("posts", "tags", "post_tags")
    post = Post:create { title = "Introduction to MongoDB", content = "MongoDB is a NoSQL database..." }
    local tags = Tag:createMany {
      { name = "MongoDB", slug = "mongodb" },
      { name = "NoSQL", slug = "nosql" },
      { name = "Performance", slug = "performance" },
    }
    tag1, tag2, tag3 = tags[1], tags[2], tags[3]
  end)

  it("queries a relationship from both sides", function()
    post.tags:attach { tag1._id }
    assert.same({ "MongoDB" }, pluck(Post:find(tostring(post._id)).tags:exec(), "name"))
    assert.same({ "Introduction to MongoDB" }, pluck(Tag:findOrFail(tag1._id).posts:exec(), "title"))
  end)

  it("attaches with pivotData, also to tags attached before", function()
    post.tags:attach { tag1._id, tag2._id }
    post.tags:attachWithPivotData {
      { id = tag1._id, pivotData = { createdAt = lumo.datetime.now(), weight = 10 } },
      { id = tag2._id, pivotData = { createdAt = lumo.datetime.now(), weight = 5 } },
    }
    assert.equal(2, #helper.docs("post_tags"))
    assert.equal(10, post.tags:pivotData(tag1._id).weight)
    assert.equal(5, post.tags:pivotData(tag2._id).weight)
  end)

  it("detaches one tag, then all", function()
    post.tags:attach { tag1._id, tag2._id }
    post.tags:detach { tag1._id }
    assert.same(texts { tag2._id }, texts(pluck(helper.docs("post_tags"), "tag_id")))
    post.tags:detach()
    assert.same({}, helper.docs("post_tags"))
  end)

  it("syncs with and without pivotData", function()
    post.tags:attach { tag1._id, tag2._id }
    post.tags:sync { tag2._id, tag3._id }
    assert.same(sorted { tag2._id, tag3._id }, sorted(pluck(helper.docs("post_tags"), "tag_id")))

    post.tags:syncWithPivotData {
      { id = tag2._id, pivotData = { createdAt = lumo.datetime.now(), weight = 8 } },
      { id = tag3._id, pivotData = { createdAt = lumo.datetime.now(), weight = 12 } },
    }
    assert.equal(8, helper.doc("post_tags", { tag_id = tag2._id }).weight)
    assert.equal(12, helper.doc("post_tags", { tag_id = tag3._id }).weight)
  end)

  it("checks whether a relationship exists", function()
    post.tags:attach { tag1._id }
    assert.is_true(post.tags:exists(tag1._id))
    assert.is_false(post.tags:exists(tag2._id))
  end)

  it("reads and updates pivotData, whose own names stay as they are", function()
    post.tags:attachWithPivotData { { id = tag1._id, pivotData = { weight = 10, mySource = "me" } } }
    post.tags:updatePivotData(tag1._id, { weight = 15 })

    local pivot_data = post.tags:pivotData(tag1._id)
    assert.equal(15, pivot_data.weight)
    assert.equal("me", pivot_data.mySource)
    assert.equal("me", helper.doc("post_tags").mySource)
    assert.is_not_nil(helper.doc("post_tags").createdAt)
  end)

  it("queries the posts with a specific tag", function()
    post.tags:attach { tag1._id }
    local mongoDbTag = Tag:query():where("slug", "mongodb"):firstOrFail()
    assert.same({ "Introduction to MongoDB" }, pluck(mongoDbTag.posts:exec(), "title"))
  end)

  it("adds additional pivotData", function()
    post.tags:attachWithPivotData {
      { id = tag1._id, pivotData = { relevance = "high" } },
      { id = tag2._id, pivotData = { relevance = "high" } },
      { id = tag3._id, pivotData = { relevance = "medium" } },
    }
    local high = post.tags:pivotQuery():where("relevance", "high"):count()
    assert.equal(2, high)
  end)
end)
