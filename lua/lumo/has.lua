--- Relations in the conditions of a query: has, where_has and their kin. The server joins and counts; nothing
--- is sent before the query is.
local core = require "lumo.core"
local names = require "lumo.names"
local registry = require "lumo.registry"
local raise = require("lumo.errors").raise

---@class (partial) lumo.Query
local Query = core.query_methods

--- The first name of a dotted path, and the rest or nil.
local function split(path, method)
  registry.check_path(path, method)
  local name, rest = path:match("^([^.]+)%.?(.*)$")
  return name, rest ~= "" and rest or nil
end

--- Adds a condition; `how` is { method, join, negated }, `compared` { place of the operator among the arguments,
--- operator, count }. A path asks for one record of each relation that has one of the next; callback and
--- comparison belong to its last part.
local function add(q, how, path, callback, compared)
  local method = how[1]
  local name, rest = split(path, method)
  local relation = registry.relation(core.query_kept(q).state, name):boot()
  local inner = relation:sub_query()
  if rest then
    add(inner, { method, "and", false }, rest, callback, compared)
    compared = { 0, ">=", 1 }
  elseif callback then
    callback(inner)
  end
  core.query_has(q, method, inner, relation.hops, how[2], how[3], (table.unpack or unpack)(compared, 1, 3))
  return q
end

--- What `operator, count` say; `at` is their place among the arguments.
local function comparison(method, at, ...)
  local n = select("#", ...)
  if n == 0 then return { at, ">=", 1 } end
  if n ~= 2 then raise("E_ARGUMENT", "%s compares with an operator and a number", method) end
  return { at, ... }
end

---@class (partial) lumo.Query
---@field has fun(self: lumo.Query, name: string, operator: string?, count: integer?): lumo.Query
---@field and_has fun(self: lumo.Query, name: string, operator: string?, count: integer?): lumo.Query
---@field or_has fun(self: lumo.Query, name: string, operator: string?, count: integer?): lumo.Query
---@field doesnt_have fun(self: lumo.Query, name: string, operator: string?, count: integer?): lumo.Query
---@field and_doesnt_have fun(self: lumo.Query, name: string, operator: string?, count: integer?): lumo.Query
---@field or_doesnt_have fun(self: lumo.Query, name: string, operator: string?, count: integer?): lumo.Query

--- has(name, operator, count): what has related records, so many of them if that is said. Counted are rows of the
--- pivot. doesnt_have is its opposite. A path such as "projects.tasks" asks for one of the projects that has such
--- tasks. Raises E_UNDEFINED_RELATIONSHIP, and E_ARGUMENT for an operator that is none of = != <> > >= < <= or a
--- count that is no whole number from 0.
for _, form in ipairs {
  { "has", "and", false }, { "and_has", "and", false }, { "or_has", "or", false },
  { "doesnt_have", "and", true }, { "and_doesnt_have", "and", true }, { "or_doesnt_have", "or", true },
} do
  Query[form[1]] = function(q, path, ...)
    return add(q, form, path, nil, comparison(form[1], 2, ...))
  end
end

---@alias lumo.where_has fun(q: lumo.Query, name: string, fn: function, operator: string?, n: integer?): lumo.Query

---@class (partial) lumo.Query
---@field where_has lumo.where_has
---@field and_where_has lumo.where_has
---@field or_where_has lumo.where_has
---@field where_doesnt_have lumo.where_has
---@field and_where_doesnt_have lumo.where_has
---@field or_where_doesnt_have lumo.where_has

--- where_has(name, fn, operator, count): the same of related records that meet what fn asks of a builder over them, and
--- of their pivots. The builder stands inside of this query: E_ARGUMENT if fn sends it, limits it or preloads with it.
for _, form in ipairs {
  { "where_has", "and", false }, { "and_where_has", "and", false }, { "or_where_has", "or", false },
  { "where_doesnt_have", "and", true }, { "and_where_doesnt_have", "and", true },
  { "or_where_doesnt_have", "or", true },
} do
  Query[form[1]] = function(q, path, callback, ...)
    if type(callback) ~= "function" then
      raise("E_ARGUMENT", "%s needs the name of a relation and a function, got %s", form[1], type(callback))
    end
    return add(q, form, path, callback, comparison(form[1], 3, ...))
  end
end

names.alias(Query)
