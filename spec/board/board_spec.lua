-- The team board of examples/openresty, as its visitors use it: over HTTP, and in a browser. It is started by its one
-- command. The browser is driven by chromedriver (WebDriver); without one those cases are pending.
local cjson = require "cjson"

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function shell(line)
  local pipe = assert(io.popen(line, "r"))
  local output = pipe:read("*a")
  pipe:close()
  return output
end

local function free_port()
  local port
  repeat
    port = 20000 + tonumber((shell("od -An -N4 -tu4 /dev/urandom"):match("%d+"))) % 12000
  until shell(("bash -c '</dev/tcp/127.0.0.1/%d' 2>/dev/null && echo taken"):format(port)) == ""
  return port
end

local folder = shell("mktemp -d"):gsub("%s+$", "")

--- Starts a program in the background; gives its process id. Its output is in `folder`/name.
local function start(name, line)
  return (shell(("exec setsid %s >%s/%s 2>&1 </dev/null & echo $!"):format(line, folder, name)):match("%d+"))
end

local function output_of(name)
  local file = io.open(folder .. "/" .. name, "rb")
  local text = file and file:read("*a") or ""
  if file then file:close() end
  return text
end

local function wait_for(what, fn)
  for _ = 1, 300 do
    local found = fn()
    if found then return found end
    shell("sleep 0.1")
  end
  error(what .. " did not come: " .. output_of("board") .. output_of("driver"))
end

---- over HTTP

local url

--- One request; gives { status =, headers =, body = }. With `jar` cookies are kept there.
local function request(method, path, options)
  options = options or {}
  local line = { "curl -s -i --max-time 20 -X", method, quote((options.url or url) .. path) }
  for _, header in ipairs(options.headers or {}) do line[#line + 1] = "-H " .. quote(header) end
  if options.body then line[#line + 1] = "--data-binary " .. quote(options.body) end
  if options.jar then line[#line + 1] = ("-b %s/%s -c %s/%s"):format(folder, options.jar, folder, options.jar) end
  local text = shell(table.concat(line, " "))
  local head, body = text:match("^(.-\r\n)\r\n(.*)$")
  return { status = head and tonumber(head:match("^HTTP/%S+ (%d+)")), headers = head or "", body = body or text }
end

local function get(path, jar) return request("GET", path, { jar = jar }) end

local function api(path, options)
  local answer = request(options and "POST" or "GET", path, options)
  return cjson.decode(answer.body), answer.status
end

--- The id of a person by name, over the JSON API.
local function person(name)
  for _, one in ipairs(api("/api/users?per_page=100").data) do
    if one.name == name then return one._id, one end
  end
end

--- The token and the projects ({ title = id }) of a person's form.
local function form_of(id, jar)
  local page = get("/users/" .. id, jar).body
  local projects = {}
  for project, title in page:gmatch('<label for="p(%x+)">([^<]+)</label>') do projects[title] = project end
  return page:match('name="csrf" value="([^"]+)"'), projects, page
end

local board

setup(function()
  local port = free_port()
  url = "http://127.0.0.1:" .. port
  board = start("board", "examples/openresty/start " .. port)
  wait_for("the board", function() return get("/health").status == 200 end)
end)

teardown(function()
  shell(("kill -TERM %s; while kill -0 %s 2>/dev/null; do sleep 0.1; done; rm -rf %s"):format(board, board, folder))
end)

describe("the team board over HTTP", function()
  it("shows people with their projects, a page at a time, and escapes what they are called", function()
    local first = get("/")
    assert.equal(200, first.status)
    assert.matches("&lt;b&gt;Bobby&lt;/b&gt; &amp; &#39;Tables&#39;", first.body, 1, true)
    assert.is_nil(first.body:find("<b>Bobby", 1, true))
    assert.matches("page 1 of 2", first.body, 1, true)
    assert.matches("Content%-Security%-Policy: default%-src 'none'", first.headers)
    assert.matches("page 2 of 2", get("/?page=2").body, 1, true)
    assert.equal(400, get("/?page=0").status)
    assert.equal(400, get("/?page=x").status)
    assert.equal(200, get("/api/users?per_page=100").status)
    assert.equal(400, get("/api/users?per_page=101").status)
    local list = api("/api/users?per_page=7&page=2")
    assert.equal(7, #list.data)
    assert.equal(25, list.meta.total)
    assert.equal(4, list.meta.last_page)
    assert.is_string(list.data[1].projects[1].role)
  end)

  it("syncs a person's projects by a form that only its visitor can send", function()
    local id = person("Ada")
    local token, projects = form_of(id, "visitor")
    local function send(body, jar)
      return request("POST", ("/users/%s/projects"):format(id), { body = body, jar = jar })
    end
    local website, search = projects["Website"], projects["Search"]
    local body = ("csrf=%s&project=%s&role_%s=lead&project=%s&role_%s=guest")
      :format(token, website, website, search, search)
    assert.equal(403, send(body).status)                         -- no cookie
    form_of(id, "other")
    assert.equal(403, send(body, "other").status)                -- somebody else's token
    assert.equal(403, send("project=" .. website, "visitor").status)
    local answer = send(body, "visitor")
    assert.equal(303, answer.status)
    local _, ada = person("Ada")
    assert.equal(2, #ada.projects)
    -- Wrong roles and wrong ids change nothing.
    assert.equal(422, send(("csrf=%s&project=%s&role_%s=king"):format(token, website, website), "visitor").status)
    assert.equal(422, send(("csrf=%s&project=zzz"):format(token), "visitor").status)
    assert.equal(400, send(("csrf=%s&project"):format(token), "visitor").status)
    local unknown = send(("csrf=%s&project=ffffffffffffffffffffffff"):format(token), "visitor")
    assert.equal(422, unknown.status)
    assert.is_nil(unknown.body:find(".lua", 1, true)) -- where in the program is no business of visitors
    _, ada = person("Ada")
    assert.equal(2, #ada.projects)
    local _, _, page = form_of(id, "visitor")
    assert.matches('value="' .. website .. '" id="p' .. website .. '" checked', page, 1, true)
    assert.equal(303, send("csrf=" .. token, "visitor").status)  -- none is chosen
    _, ada = person("Ada")
    assert.equal(0, #ada.projects)
  end)

  it("takes JSON only as JSON", function()
    local id = person("Grace")
    local _, projects = form_of(id)
    local path = ("/api/users/%s/projects"):format(id)
    local body = cjson.encode { projects = { [projects["Website"]] = "lead" } }
    local json = "Content-Type: application/json"
    local result, status = api(path, { body = body, headers = { json } })
    assert.equal(200, status)
    assert.equal(1, result.attached + result.updated + result.unchanged)
    assert.equal(415, select(2, api(path, { body = body })))
    for _, wrong in ipairs { "", "x", "[]", '{"projects":1}', '{"projects":{"zz":"lead"}}',
      '{"projects":{"' .. projects["Website"] .. '":{"$ne":1}}}' } do
      local _, code = api(path, { body = wrong, headers = { json } })
      assert.is_true(code == 400 or code == 422, wrong .. " gave " .. tostring(code))
    end
  end)

  it("counts people per project", function()
    local admin = get("/admin").body
    local projects = get("/admin").body:gmatch('<a href="/projects/(%x+)">([^<]+)</a></td><td>(%d+)</td><td>(%d+)</td>')
    local seen = 0
    for id, title, people in projects do
      seen = seen + 1
      local page = get("/projects/" .. id)
      assert.equal(200, page.status)
      local _, rows = page.body:gsub('<a href="/users/', "")
      assert.equal(tonumber(people), rows, title)
    end
    assert.equal(5, seen, admin)
  end)

  it("refuses what is unknown or too large", function()
    assert.equal(404, get("/nothing").status)
    assert.equal(404, get("/users/zz").status)
    assert.equal(404, get("/users/ffffffffffffffffffffffff").status)
    assert.equal(404, get("/projects/0").status)
    local refused = request("DELETE", "/admin")
    assert.equal(405, refused.status)
    assert.matches("\nAllow: GET, HEAD\r", refused.headers)
    assert.equal("200", shell("curl -s -I -o /dev/null -w '%{http_code}' " .. quote(url .. "/admin")))
    assert.equal(413, request("POST", "/users/ffffffffffffffffffffffff/projects", { body = ("x"):rep(40000) }).status)
    assert.equal(404, get("/static/../nginx.conf").status)
  end)

  it("serves many at once", function()
    local one = ("curl -s -o /dev/null -w '%{http_code}\n' '" .. url .. "/?n={}'")
    local output = shell("seq 60 | xargs -P 20 -I{} " .. one .. " | sort | uniq -c")
    assert.equal("60 200", (output:gsub("^%s+", ""):gsub("%s+$", "")))
  end)
end)

describe("the team board in a browser", function()
  local driver, session

  local function call(method, path, body)
    local answer = request(method, path, {
      url = driver, body = body and cjson.encode(body) or (method == "POST" and "{}" or nil),
      headers = { "Content-Type: application/json" },
    })
    local decoded = cjson.decode(answer.body)
    if answer.status ~= 200 then error(answer.body) end
    return decoded.value
  end

  local function at(path) return ("/session/%s%s"):format(session, path) end

  local function find(selector)
    local element = call("POST", at("/element"), { using = "css selector", value = selector })
    local _, id = next(element)
    return id
  end

  local function click(selector) call("POST", at(("/element/%s/click"):format(find(selector)))) end
  local function text(selector) return call("GET", at(("/element/%s/text"):format(find(selector)))) end
  local function open(path) call("POST", at("/url"), { url = url .. path }) end

  local process

  setup(function()
    if shell("command -v chromedriver") == "" then return end
    local port = free_port()
    driver = "http://127.0.0.1:" .. port
    process = start("driver", "chromedriver --port=" .. port)
    wait_for("chromedriver", function() return request("GET", "/status", { url = driver }).status == 200 end)
    session = call("POST", "/session", { capabilities = { alwaysMatch = {
      ["goog:chromeOptions"] = { args = {
        "--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=900,900",
        "--user-data-dir=" .. folder .. "/profile",
      } },
    } } }).sessionId
  end)

  teardown(function()
    if session then call("DELETE", at("")) end
    if process then shell(("kill -- -%s 2>/dev/null"):format(process)) end
  end)

  it("lets a visitor choose projects and roles, and shows them", function()
    if not session then return pending("there is no chromedriver") end
    local id = person("Alan")
    local _, projects = form_of(id)
    local mobile = projects["Mobile app"]
    open("/")
    assert.equal("People", text("h1"))
    open("/users/" .. id)
    assert.equal("Alan", text("h1"))
    for _, project in pairs(projects) do -- exactly one is chosen in the end
      local box = find("#p" .. project)
      local is_chosen = call("GET", at(("/element/%s/selected"):format(box)))
      if is_chosen ~= (project == mobile) then click("#p" .. project) end
    end
    click(("select[name=role_%s] option:nth-child(2)"):format(mobile))
    click("button")
    assert.equal("Saved.", text(".saved"))
    local _, alan = person("Alan")
    assert.equal(1, #alan.projects)
    assert.equal("Mobile app", alan.projects[1].title)
    assert.equal("lead", alan.projects[1].role)
    -- A name that looks like a tag is text in the page.
    local bobby = person("<b>Bobby</b> & 'Tables'")
    open("/users/" .. bobby)
    assert.equal("<b>Bobby</b> & 'Tables'", text("h1"))
    -- The style sheet is there and allowed: the header is dark.
    local colour = call("GET", at(("/element/%s/css/background-color"):format(find("header"))))
    assert.equal("rgba(29, 39, 51, 1)", colour)
    local picture = call("GET", at("/screenshot"))
    assert.is_true(#picture > 5000)
    if os.getenv("LUMO_SCREENSHOT") then
      local file = assert(io.open(os.getenv("LUMO_SCREENSHOT"), "wb"))
      file:write(picture)
      file:close()
    end
  end)
end)
