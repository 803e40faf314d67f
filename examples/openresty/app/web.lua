-- From a request of nginx to the board and back: routes, arguments, tokens, errors.
local board = require "app.board"
local cjson = require "cjson.safe"
local lumo = require "lumo"
local pages = require "app.pages"

local web = {}

local ROUTES = {
  { "GET", "^/$", board.people },
  { "GET", "^/users/(%x+)$", board.person },
  { "POST", "^/users/(%x+)/projects$", board.save_person },
  { "GET", "^/projects/(%x+)$", board.project },
  { "GET", "^/admin$", board.admin },
  { "GET", "^/api/users$", board.api_people },
  { "POST", "^/api/users/(%x+)/projects$", board.api_save_person },
  { "GET", "^/health$", board.health },
}

-- Tokens ----------------------------------------------------------------------------------------------------
-- A form carries a token that only the visitor whose session it belongs to can know: another site can send the
-- visitor's cookie along, and cannot read it.

local function random(bytes)
  local file = assert(io.open("/dev/urandom", "rb"))
  local text = file:read(bytes)
  file:close()
  return (text:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

--- One secret for all workers.
local function secret()
  ngx.shared.secrets:safe_add("forms", random(32))
  return ngx.shared.secrets:get("forms")
end

local function token_of(session)
  return (ngx.encode_base64(ngx.hmac_sha1(secret(), session)):gsub("[+/=]", { ["+"] = "-", ["/"] = "_", ["="] = "" }))
end

--- Takes as long for every wrong text.
local function is_equal(a, b)
  if type(a) ~= "string" or #a ~= #b then return false end
  local differing = 0
  for i = 1, #a do differing = bit.bor(differing, bit.bxor(a:byte(i), b:byte(i))) end
  return differing == 0
end

-- Requests --------------------------------------------------------------------------------------------------

local Request = {}
Request.__index = Request

--- The token for a form; gives the visitor a session if there is none yet.
function Request.token()
  local session = ngx.var.cookie_session
  if not session or not session:find("^%x+$") or #session ~= 32 then
    session = random(16)
    ngx.header["Set-Cookie"] = ("session=%s; Path=/; HttpOnly; SameSite=Strict"):format(session)
  end
  return token_of(session)
end

local function body_text()
  ngx.req.read_body()
  return ngx.req.get_body_data() or ""
end

--- The fields of a form that was sent with its token.
function Request.form()
  body_text()
  local form, err = ngx.req.get_post_args(300)
  if not form or err == "truncated" then board.refuse(400, "that form is too large") end
  local session = ngx.var.cookie_session
  if not session or not is_equal(form.csrf, token_of(session)) then
    board.refuse(403, "this form is too old: go back, load the page again, and send it once more")
  end
  return form
end

--- The body as JSON. A form of another site cannot say that it is of this type.
function Request.json()
  local kind = ngx.var.content_type or ""
  if not kind:find("^application/json") then board.refuse(415, "the body is to be application/json") end
  local body = cjson.decode(body_text())
  if type(body) ~= "table" then board.refuse(400, "the body is no JSON object") end
  return body
end

-- Answers ---------------------------------------------------------------------------------------------------

local function send(answer, wants_json)
  if answer.redirect then return ngx.redirect(answer.redirect, 303) end
  ngx.status = answer.status or 200
  ngx.header["Cache-Control"] = "no-store"
  if answer.json or wants_json then
    ngx.header["Content-Type"] = "application/json"
    ngx.print(cjson.encode(answer.json or { error = answer.text }))
  else
    ngx.header["Content-Type"] = "text/html; charset=utf-8"
    ngx.print(tostring(answer.html or pages.failure(answer.status, answer.text)))
  end
end

local function explain(err)
  if type(err) == "table" and err.status then return err end
  local code = err.code -- of an error of lumo; nil of a text
  if code == "E_VALIDATION" or code == "E_CAST" then
    return { status = 422, text = "that cannot be saved: " .. err.message }
  end
  -- The rest says where in the program it happened, which is no business of visitors.
  ngx.log(ngx.ERR, tostring(err))
  if code == "E_ARGUMENT" then
    return { status = 422, text = "that cannot be saved: a project is not there, or is chosen twice" }
  end
  if code == "E_NETWORK" or code == "E_TIMEOUT" then
    return { status = 503, text = "the database cannot be reached; try again in a moment" }
  end
  return { status = 500, text = "something went wrong" }
end

local function route()
  local path, method, allowed = ngx.var.uri, ngx.req.get_method(), nil
  for _, one in ipairs(ROUTES) do
    local capture = path:match(one[2])
    if capture and (one[1] == method or one[1] == "GET" and method == "HEAD") then -- nginx keeps the body of that back
      return one[3](setmetatable({ arguments = ngx.req.get_uri_args(20) }, Request), capture)
    end
    if capture then allowed = one[1] == "GET" and "GET, HEAD" or one[1] end
  end
  if not allowed then return board.refuse(404, "there is no such page") end
  ngx.header["Allow"] = allowed
  return board.refuse(405, "that cannot be done here")
end

--- Answers the request. lumo.guard makes whatever escapes readable in nginx's log.
function web.run()
  lumo.guard(function()
    local ok, answer = pcall(route)
    send(ok and answer or explain(answer), ngx.var.uri:find("^/api/") ~= nil)
  end)
end

return web
