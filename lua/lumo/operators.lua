--- Atomic changes of one attribute, or of a place inside of one, in the database itself: what others change at
--- the same time is kept. No hook runs, and no automatic date moves.
local columns = require "lumo.columns"
local core = require "lumo.core"
local records = require "lumo.record"
local run = require "lumo.run"
local validation = require "lumo.validation"
local raise = require("lumo.errors").raise

local operators = {}

--- The definition of the elements of the array at a path, where there is one.
local function element_column(state, path)
  local column = type(path) == "string" and columns.at(state, path)
  return column and column.of
end

--- What a field's removal would break: E_ARGUMENT for an element of an array, in whose place a null would stay,
--- E_VALIDATION for what is required.
local function check_removal(state, path)
  local array, place = path:match("^(.*)%.(%d+)$")
  local column = array and columns.at(state, array)
  if column and column.type == "array" then
    raise("E_ARGUMENT", "unset of element %s of \"%s.%s\" would leave a null in its place; pull removes elements",
      place, state.name, array)
  end
  if state.rules then validation.check_removal(state, columns.at(state, path), path) end
end

--- Sends one operator and takes over what became of the attribute.
---@param self lumo.Record
---@param method string
---@param path string
---@param argument any a list of values, or a number
---@param client lumo.Client
local function apply(self, method, path, argument, client)
  local plan, elements = core.operator_plan(self, method, path, argument)
  local state = core.record_is(self)
  if elements and state.rules then
    validation.check_elements(state, element_column(state, path), path, elements)
  end
  run(client, plan)
  records.remember({ self }, client)
  if not core.record_operated(self, plan, path) then records.raise_gone(state, method) end
end

--- Adds 1 to a column of a stored record.
---@param self lumo.Record
---@param column string
---@param client lumo.Client
function operators.count_up(self, column, client)
  apply(self, "increment", column, 1, client)
end

--- The method for a record that is stored.
local function change(self, method, path, argument)
  local state = records.check_stored(self, method)
  apply(self, method, path, argument, records.client(self, state))
  return self
end

--- The values of a call as a list; a method without values would do nothing.
local function list_of(method, ...)
  local count = select("#", ...)
  if count == 0 then raise("E_ARGUMENT", "%s needs a column and a value", method) end
  for i = 1, count do
    if (select(i, ...)) == nil then raise("E_ARGUMENT", "value %d of %s is nil", i, method) end
  end
  return core.array { ... }
end

--- The same for new elements, with the defaults of their columns.
local function elements_of(self, method, path, ...)
  local list = list_of(method, ...)
  local column = element_column(records.check_stored(self, method), path)
  for i = 1, column and #list or 0 do list[i] = columns.complete(column, list[i]) end
  return list
end

---@class (partial) lumo.Record
local Record = {}

--- Appends values to an array of the stored document. Raises E_CAST, E_VALIDATION (of rules for elements),
--- E_ROW_NOT_FOUND, and E_ARGUMENT while the attribute has changes that are not saved. Commands: findAndModify.
---@param path string a column, or a dotted path into one
---@param ... any one value or more
---@return lumo.Record self
function Record:push(path, ...)
  return change(self, "push", path, elements_of(self, "push", path, ...))
end

--- Appends those of the values that the array does not hold. Raises as push. Commands: findAndModify.
---@param path string a column, or a dotted path into one
---@param ... any one value or more
---@return lumo.Record self
function Record:add_to_set(path, ...)
  return change(self, "add_to_set", path, elements_of(self, "add_to_set", path, ...))
end

--- Removes from an array all elements that are equal to one of the values; a table of fields stands for the
--- elements that have these fields. Raises as push. Commands: findAndModify.
---@param path string a column, or a dotted path into one
---@param ... any one value or more
---@return lumo.Record self
function Record:pull(path, ...)
  return change(self, "pull", path, list_of("pull", ...))
end

--- Adds n to a number of the stored document; what is missing counts as 0. A lumo.decimal is for columns that may hold
--- one. Raises as push. Commands: findAndModify.
---@param path string a column, or a dotted path into one
---@param n number|lumo.int64|lumo.decimal|nil 1 when nil
---@return lumo.Record self
function Record:inc(path, n)
  return change(self, "inc", path, n == nil and 1 or n)
end

--- The same.
---@param column string
---@param n number|lumo.int64|lumo.decimal|nil 1 when nil
---@return lumo.Record self
function Record:increment(column, n)
  return change(self, "increment", column, n == nil and 1 or n)
end

--- Removes a field of the stored document. Raises as push, and E_VALIDATION for one that is required. Commands:
--- findAndModify.
---@param path string a column, or a dotted path into one
---@return lumo.Record self
function Record:unset(path)
  local state = records.check_stored(self, "unset")
  if type(path) == "string" then check_removal(state, path) end
  return change(self, "unset", path)
end

for name, method in pairs(Record) do
  records.method(name, method --[[@as function]])
end

return operators
