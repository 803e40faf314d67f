-- All that lumo offers does in a loop and inside nginx what it does inline: a story over the relations, embedded
-- documents, indexes, events and change streams, in both spellings, and every public function of all, one by one.
local helper = require "spec.helper"
local nginx = dofile "spec/runtime/nginx.lua"

local STORY = {
  "belonging: 1 nil 1 Counts things.",
  "many: 2 4 Four,Three 4",
  "through: Four,One,Three,Two 4 0",
  "pairs: 2 1/1 2 blue,green blue,green,red 9 3",
  "deleting: false E_ARGUMENT 0 0 nil 0",
  "embedded: update b,c,d 7 3 nil",
  "indexes: 4 0 0",
  "events: insert insert,find find 2",
  "streams: insert update delete attached detached true nil 4",
  "hooks: <create0 <save0 >create1 >save1 <update1 <save1 >update1 >save1 <fetch1 >fetch1"
    .. " <paginate1 <fetch1 >fetch1 >paginate1 <fetch1 >fetch1 <find1 >find1"
    .. " <create1 <create1 <save1 <save1 >create3 <delete1 >delete0 false 0",
}

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return lines
end

--- The lines from one on, `count` of them or all.
local function part(lines, from, count)
  local list = {}
  for i = from, math.min(#lines, from + (count or #lines) - 1) do list[#list + 1] = lines[i] end
  return list
end

local function raised(lines)
  local list = {}
  for _, line in ipairs(lines) do
    if line:find("raised", 1, true) then list[#list + 1] = line end
  end
  return list
end

local function start(lua, loop)
  local there = os.execute(("%s -e 'require \"%s\"' 2>/dev/null"):format(lua, loop == "inline" and "string" or loop))
  if there ~= true and there ~= 0 then return nil end
  return io.popen(("timeout 60 %s spec/runtime/relations_program.lua %s 2>&1"):format(lua, loop))
end

describe("relations and all the rest", function()
  local inline, luv, in_nginx = {}, {}, {}

  setup(function()
    helper.uri()
    local pipes = {}
    for _, lua in ipairs { "lua5.4", "luajit" } do
      pipes[lua] = { inline = start(lua, "inline"), luv = start(lua, "luv") }
    end
    if not nginx.missing() then
      local server = nginx.start { app = "relations_app" }
      local stories = server:get_all { "/relations?spelling=snake", "/relations?spelling=camel" }
      in_nginx.snake, in_nginx.camel = lines_of(stories[1].body), lines_of(stories[2].body)
      in_nginx.events = server:get_all { "/watch", "/publish?text=told", "/pid" }
      in_nginx.walk = server:get_all { "/walk", "/pid", "/pid", "/pid" }
      in_nginx.log = server:log()
      server:clear()
    end
    for lua, both in pairs(pipes) do
      for loop, pipe in pairs(both) do
        (loop == "luv" and luv or inline)[lua] = lines_of(pipe:read("*a"))
        pipe:close()
      end
    end
  end)

  for _, lua in ipairs { "lua5.4", "luajit" } do
    it("are told inline on " .. lua, function()
      local lines = inline[lua]
      assert.same(STORY, part(lines, 1, #STORY))
      assert.same(STORY, part(lines, #STORY + 1, #STORY))
      assert.same({}, raised(lines))
      assert.is_true(#lines > 300)
      assert.equal("threads: false, ticks: false", lines[#lines])
    end)

    it("are told in luv on " .. lua, function()
      if not luv[lua] then return pending("there is no luv for " .. lua) end
      local last = #luv[lua]
      assert.same(part(inline[lua], 1, last - 1), part(luv[lua], 1, last - 1))
      assert.equal("threads: true, ticks: true", luv[lua][last])
    end)
  end

  if nginx.missing() then
    pending(nginx.missing())
    return
  end

  for _, spelling in ipairs { "snake", "camel" } do
    it("are told in two requests of nginx at once, in " .. spelling .. " case", function()
      assert.same(STORY, in_nginx[spelling])
    end)
  end

  it("are all called in a request, and others are served meanwhile", function()
    local walked = in_nginx.walk[1]
    assert.equal(200, walked.status)
    local expected = part(inline.luajit, 2 * #STORY + 1)
    expected[#expected] = nil
    assert.same(expected, lines_of(walked.body))
    for i = 2, 4 do assert.is_true(in_nginx.walk[i].seconds < walked.seconds / 2) end
  end)

  it("a request waits for an event that another one makes", function()
    local answers = in_nginx.events
    assert.equal("insert told", answers[1].body)
    assert.equal("true", answers[2].body)
    assert.is_true(answers[3].seconds < 1)
    assert.is_falsy(in_nginx.log:find("[error]", 1, true))
  end)
end)
