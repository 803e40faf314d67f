--- Pages: a list of records that knows where it stands among all.
local core = require "lumo.core"
local errors = require "lumo.errors"
local hooks = require "lumo.hooks"
local names = require "lumo.names"
local records = require "lumo.record"
local raise = errors.raise

local paginate = {}

---@class lumo.Page a list of records
---@field [integer] lumo.Record
---@field total integer
---@field per_page integer
---@field current_page integer
---@field last_page integer at least 1
---@field first_page integer 1
---@field has_pages boolean more than one
---@field has_more_pages boolean
---@field is_empty boolean
---@field has_total boolean anything is found at all
local Page = {}

local properties = {
  total = function(at) return at.total end,
  per_page = function(at) return at.per_page end,
  current_page = function(at) return at.page end,
  first_page = function() return 1 end,
  last_page = function(at) return math.max(math.ceil(at.total / at.per_page), 1) end,
  has_total = function(at) return at.total > 0 end,
}
function properties.has_pages(at) return properties.last_page(at) > 1 end
function properties.has_more_pages(at) return properties.last_page(at) > at.page end
names.alias(properties)

local AT = {} -- key of where a page stands, in its metatable

---@return { page: integer, per_page: integer, total: integer, [string]: any }
local function at_of(page, method)
  local metatable = getmetatable(page)
  return type(metatable) == "table" and metatable[AT] or errors.not_called_on(method, "a page")
end

--- Numbers of the page under the names of its properties, and its URLs.
---@return table<string, any>
function Page:get_meta()
  local at = at_of(self, "get_meta")
  local last = properties.last_page(at)
  return {
    total = at.total, per_page = at.per_page, current_page = at.page, last_page = last, first_page = 1,
    first_page_url = self:get_url(1), last_page_url = self:get_url(last),
    next_page_url = self:get_next_page_url(), previous_page_url = self:get_previous_page_url(),
  }
end

--- Sets the path that URLs begin with; "/" without it.
---@param url string
---@return lumo.Page self
function Page:base_url(url)
  paginate.set_base_url(at_of(self, "base_url"), url)
  return self
end

--- Sets what URLs carry beside the page.
---@param values table<string, any>
---@return lumo.Page self
function Page:query_string(values)
  paginate.set_query_string(at_of(self, "query_string"), values)
  return self
end

-- URLs, of pages by number and by cursor --------------------------------------------------------------------

function paginate.set_base_url(at, url)
  if type(url) ~= "string" then raise("E_ARGUMENT", "base_url needs a string, got %s", type(url)) end
  at.base_url = url
end

function paginate.set_query_string(at, values)
  if type(values) ~= "table" then raise("E_ARGUMENT", "query_string needs a table, got %s", type(values)) end
  for key, value in pairs(values) do
    local kind = value == core.null and "null" or type(value)
    if type(key) ~= "string" or kind == "null" or kind == "table" or kind == "function" then
      raise("E_ARGUMENT", "query_string takes texts, numbers and booleans by name; \"%s\" is a %s", tostring(key), kind)
    end
  end
  at.query_string = values
end

local function escape(text)
  return (tostring(text):gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function check_number(value, method)
  if type(value) ~= "number" or value % 1 ~= 0 or math.abs(value) > 2147483647 then
    raise("E_ARGUMENT", "%s needs the number of a page, got %s", method, type(value))
  end
end

--- The URL with its query string and the one parameter that tells the page. What the base has after a "?" or a "#"
--- stays where it belongs.
function paginate.url(at, name, value)
  local parts, keys = {}, {}
  for key in pairs(at.query_string or {}) do
    if key ~= name then keys[#keys + 1] = tostring(key) end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    parts[#parts + 1] = escape(key) .. "=" .. escape(at.query_string[key])
  end
  parts[#parts + 1] = name .. "=" .. value
  local base, fragment = (at.base_url or "/"):match("^([^#]*)(.*)$")
  local joint = not base:find("?", 1, true) and "?" or base:find("[?&]$") and "" or "&"
  return base .. joint .. table.concat(parts, "&") .. fragment
end

--- The URL of a page; numbers below 1 are page 1.
---@param page integer
---@return string
function Page:get_url(page)
  local at = at_of(self, "get_url")
  check_number(page, "get_url")
  return paginate.url(at, "page", ("%d"):format(math.max(page, 1)))
end

--- nil on the last page.
---@return string|nil
function Page:get_next_page_url()
  local at = at_of(self, "get_next_page_url")
  return properties.has_more_pages(at) and self:get_url(at.page + 1) or nil
end

--- nil on the first page.
---@return string|nil
function Page:get_previous_page_url()
  local at = at_of(self, "get_previous_page_url")
  return at.page > 1 and self:get_url(at.page - 1) or nil
end

--- { page, url, is_active } for each page from start to stop.
---@param start integer
---@param stop integer
---@return table[]
function Page:get_urls_for_range(start, stop)
  local at, list = at_of(self, "get_urls_for_range"), {}
  check_number(start, "get_urls_for_range")
  check_number(stop, "get_urls_for_range")
  for page = start, stop do
    list[#list + 1] = { page = page, url = self:get_url(page), is_active = page == at.page }
  end
  return list
end

local SERIALIZE_OPTIONS = { fields = true, relations = true }

--- { meta, data } ready for a JSON encoder; what a lean query has found stays as it is.
---@param pick table|nil as record:serialize's
---@return { meta: table, data: table[] }
function Page:serialize(pick)
  local at = at_of(self, "serialize")
  return { meta = self:get_meta(), data = paginate.data(self, at.is_lean, pick) }
end

--- What a page holds, for its serialize.
function paginate.data(list, is_lean, pick)
  local options = names.options("serialize", pick, SERIALIZE_OPTIONS)
  if not is_lean then return records.list_to_table(list, true, options) end
  local data = {}
  for i, document in ipairs(list) do data[i] = document end
  return core.array(data)
end

names.alias(Page)

--- A list of records as page `page` of `total`.
---@return lumo.Page
local function make(list, page, per_page, total, is_lean)
  local at = { page = page, per_page = per_page, total = total, is_lean = is_lean }
  return setmetatable(list, {
    [AT] = at, __name = "lumo.page",
    __index = function(self, key)
      if Page[key] then return Page[key] end
      if key == "is_empty" or key == "isEmpty" then return #self == 0 end
      local property = properties[key]
      if property then return property(at) end
    end,
  }) --[[@as lumo.Page]]
end

--- Checks the number or the size of a page.
function paginate.whole(value, method, name)
  if type(value) ~= "number" or value < 1 or value % 1 ~= 0 or value > 2147483646 then
    raise("E_ARGUMENT", "%s needs a whole number from 1 as %s, got %s", method, name, type(value))
  end
  return value
end

local MOST = 2 ^ 53 - 1 -- documents that a limit can let through

---@class (partial) lumo.Query
local Query = core.query_methods

--- One page of what is found, and how many there are in all. Commands: a count, and as exec.
---@param page integer|nil from 1, which it is when nil
---@param per_page integer|nil 20 when nil
---@return lumo.Page
function Query:paginate(page, per_page)
  page = paginate.whole(page == nil and 1 or page, "paginate", "the page")
  per_page = paginate.whole(per_page == nil and 20 or per_page, "paginate", "the page size")
  local kept = core.query_state(self)
  local state, count_query = kept.state, self:clone()
  local limit, offset = core.query_bounds(self)
  if limit > 0 or offset > 0 then count_query:for_page(1, MOST) end -- pages are of all that matches
  hooks.run(state, "before", "paginate", count_query, self)
  local total = count_query:count()
  local list = self:clone():for_page(page, per_page):exec()
  local made = make(list, page, per_page, total, kept.lean)
  hooks.run(state, "after", "paginate", made)
  return made
end

return paginate
