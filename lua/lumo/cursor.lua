--- Pages by key: a list of records that knows the cursors of the pages beside it. A cursor names a place in the
--- query's order, so that pages stay whole while documents come and go, and the last page costs what the first does.
local core = require "lumo.core"
local errors = require "lumo.errors"
local hooks = require "lumo.hooks"
local names = require "lumo.names"
local paginate = require "lumo.paginate"
local queries = require "lumo.query"
local raise = errors.raise

---@class lumo.CursorPage a list of records
---@field [integer] lumo.Record
---@field per_page integer
---@field next_cursor string|nil of the page behind this one; nil: there is none
---@field prev_cursor string|nil of the page before this one; nil: there is none
---@field has_more boolean whether there is a page behind this one
---@field is_empty boolean
local Page = {}

local properties = {
  per_page = function(at) return at.per_page end,
  next_cursor = function(at) return at.next_cursor end,
  prev_cursor = function(at) return at.prev_cursor end,
  has_more = function(at) return at.next_cursor ~= nil end,
}
names.alias(properties)

local AT = {} -- key of where a page stands, in its metatable

local function at_of(page, method)
  local metatable = getmetatable(page)
  return type(metatable) == "table" and metatable[AT] or errors.not_called_on(method, "a page of cursor_paginate")
end

--- What the page says of itself, and its neighbours' URLs.
---@return table<string, any>
function Page:get_meta()
  local at = at_of(self, "get_meta")
  return {
    per_page = at.per_page, has_more = at.next_cursor ~= nil,
    next_cursor = at.next_cursor, prev_cursor = at.prev_cursor,
    next_page_url = self:get_next_page_url(), previous_page_url = self:get_previous_page_url(),
  }
end

--- Sets the path that URLs begin with; "/" without it.
---@param url string
---@return lumo.CursorPage self
function Page:base_url(url)
  paginate.set_base_url(at_of(self, "base_url"), url)
  return self
end

--- Sets what URLs carry beside the cursor.
---@param values table<string, any>
---@return lumo.CursorPage self
function Page:query_string(values)
  paginate.set_query_string(at_of(self, "query_string"), values)
  return self
end

--- nil where there is no page behind this one.
---@return string|nil
function Page:get_next_page_url()
  local at = at_of(self, "get_next_page_url")
  return at.next_cursor and paginate.url(at, "cursor", at.next_cursor) or nil
end

--- nil where there is no page before this one.
---@return string|nil
function Page:get_previous_page_url()
  local at = at_of(self, "get_previous_page_url")
  return at.prev_cursor and paginate.url(at, "cursor", at.prev_cursor) or nil
end

--- { meta, data } ready for a JSON encoder; what a lean query has found stays as it is.
---@param pick table|nil as record:serialize's
---@return { meta: table, data: table[] }
function Page:serialize(pick)
  local at = at_of(self, "serialize")
  return { meta = self:get_meta(), data = paginate.data(self, at.is_lean, pick) }
end

names.alias(Page)

---@return lumo.CursorPage
local function make(list, at)
  return setmetatable(list, {
    [AT] = at, __name = "lumo.cursor_page",
    __index = function(self, key)
      if Page[key] then return Page[key] end
      if key == "is_empty" or key == "isEmpty" then return #self == 0 end
      local property = properties[key]
      if property then return property(at) end
    end,
  }) --[[@as lumo.CursorPage]]
end

local function reverse(list)
  local n = #list
  for i = 1, math.floor(n / 2) do list[i], list[n + 1 - i] = list[n + 1 - i], list[i] end
end

--- The cursors of the pages beside the one that was read from `cursor` on: `n` results, and `more` beyond them.
local function neighbours(q, bound, plan, cursor, backward, n, more)
  if n == 0 then -- all that is left lies where the cursor came from
    local turned = cursor and core.cursor_turned(q, bound, cursor)
    return backward and turned or nil, not backward and turned or nil
  end
  local first, last = 1, n
  if backward then first, last = n, 1 end
  local has_next, has_previous = more, cursor ~= nil
  if backward then has_next, has_previous = true, more end
  return has_next and core.cursor_text(q, bound, plan, last, false) or nil,
    has_previous and core.cursor_text(q, bound, plan, first, true) or nil
end

local OPTIONS = { per_page = true, cursor = true }

---@class (partial) lumo.Query
local Query = core.query_methods

--- A page by key. Without a cursor it is the first one; with one, which an earlier page of the same query gave as
--- next_cursor or prev_cursor, the one that it names. The order may have any number of columns in either direction;
--- the primary key, added at its end, tells apart what is equal. Raises E_ARGUMENT for a cursor of another query
--- (another model, filter, order or collation) and for limit and offset, E_UNSUPPORTED for an order by an array.
--- Commands: as exec.
---@param options { per_page: integer?, cursor: string? }|nil per_page: 20 when nil
---@return lumo.CursorPage
function Query:cursor_paginate(options)
  core.query_kept(self) -- raises if it is no query
  options = names.options("cursor_paginate", options, OPTIONS)
  local per_page = paginate.whole(options.per_page == nil and 20 or options.per_page, "cursor_paginate", "per_page")
  local q = self:clone()
  local kept = queries.to_send(q, "cursor_paginate")
  if kept.parents then raise("E_UNSUPPORTED", "cursor_paginate is not for the query of many parents") end
  local state, cursor = kept.state, options.cursor
  hooks.run(state, "before", "paginate", q, q)
  if not kept.lean then hooks.run(state, "before", "fetch", q) end
  local bound, backward = core.cursor_begin(q, cursor)
  local pivot_fields = core.cursor_pivot_fields(q)
  if pivot_fields then core.query_pivot_fields(q, pivot_fields) end
  local at = { per_page = per_page, is_lean = kept.lean }
  local list = queries.read(q, kept, "cursor_paginate", per_page + 1, function(list, plan)
    local more = #list > per_page
    list[per_page + 1] = nil
    at.next_cursor, at.prev_cursor = neighbours(q, bound, plan, cursor, backward, #list, more)
    if backward then reverse(list) end
  end)
  if not kept.lean then hooks.run(state, "after", "fetch", list) end
  local page = make(list, at)
  hooks.run(state, "after", "paginate", page)
  return page
end

names.alias(Query)

return Page
