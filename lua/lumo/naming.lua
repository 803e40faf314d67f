--- Names that a definition leaves out: of collections, stored and serialized names of columns, of pivot collections and
--- of the keys in them. A strategy is a table of the functions that make them; a model may have one of its own.
local names = require "lumo.names"
local raise = require("lumo.errors").raise

local naming = {}

---@class lumo.NamingStrategy
---@field collection (fun(model: string): string)|nil the model's collection
---@field column (fun(model: string, attribute: string): string)|nil the stored name of a column
---@field serialized (fun(model: string, name: string): string|false)|nil of a column or relation, in JSON
---@field pivot_table (fun(model: string, related: string): string)|nil the pivot collection
---@field pivot_foreign_key (fun(model: string, attribute: string): string)|nil the pivot's field for a model's key
---@field foreign_key (fun(model: string, attribute: string): string)|nil the attribute that holds a model's key

--- "UserProfile" → "user_profile", "HTTPLog" → "http_log".
---@param name string a model's name
---@return string
function naming.snake(name)
  local text = name:gsub("(%l)(%u)", "%1_%2"):gsub("(%d)(%u)", "%1_%2"):gsub("(%u)(%u%l)", "%1_%2")
  return (text:gsub("[%s%-%.]+", "_"):lower())
end

local IRREGULAR = {
  person = "people", child = "children", man = "men", woman = "women", mouse = "mice", goose = "geese", foot = "feet",
  tooth = "teeth", ox = "oxen", leaf = "leaves", life = "lives", knife = "knives", wife = "wives", half = "halves",
  shelf = "shelves", wolf = "wolves", analysis = "analyses", crisis = "crises", thesis = "theses", datum = "data",
  medium = "media", criterion = "criteria", matrix = "matrices", vertex = "vertices", quiz = "quizzes",
  hero = "heroes", potato = "potatoes", tomato = "tomatoes", echo = "echoes", index = "indexes",
}
local UNCOUNTABLE = {
  equipment = true, information = true, money = true, news = true, series = true, sheep = true, species = true,
  fish = true, metadata = true, staff = true, feedback = true, software = true,
}

local function plural_word(word)
  if UNCOUNTABLE[word] then return word end
  if IRREGULAR[word] then return IRREGULAR[word] end
  if word:find("[^aeiou]y$") then return word:sub(1, -2) .. "ies" end
  if word:find("[sxz]$") or word:find("[cs]h$") then return word .. "es" end
  return word .. "s"
end

--- The plural of a snake_case name, in its last word: "user_profile" → "user_profiles".
---@param name string
---@return string
function naming.plural(name)
  local head, last = name:match("^(.*_)([^_]+)$")
  if head then return head .. plural_word(last) end
  return plural_word(name)
end

--- The strategy of all models that have none of their own. Its functions may be replaced, in either spelling; nil gives
--- one back. What is defined already keeps its names.
---@type lumo.NamingStrategy
local default = {}

function default.collection(model_name)
  return naming.plural(naming.snake(model_name))
end

function default.column(_, attribute)
  return attribute
end

function default.serialized(_, name)
  return name
end

--- The singular names of both, sorted.
function default.pivot_table(model_name, related_name)
  local a, b = naming.snake(model_name), naming.snake(related_name)
  if b < a then a, b = b, a end
  return a .. "_" .. b
end

--- "User" and "_id" → "user_id".
function default.pivot_foreign_key(model_name, attribute)
  return naming.snake(model_name) .. "_" .. attribute:gsub("^_+", "")
end

--- The same, of relations whose key is a column of a model.
default.foreign_key = default.pivot_foreign_key

local KNOWN, replaced = {}, {}
for name in pairs(default) do KNOWN[name] = true end

local function check(context, given)
  local strategy = names.options(context, given, KNOWN)
  for name, fn in pairs(strategy) do
    if type(fn) ~= "function" then
      raise("E_ARGUMENT", "\"%s\" of %s is a function, got %s", name, context, type(fn))
    end
  end
  return strategy
end

naming.default = setmetatable({}, {
  __index = function(_, name)
    name = type(name) == "string" and names.snake(name)
    return replaced[name] or default[name]
  end,
  __newindex = function(_, name, fn)
    local key = next(check("lumo.naming", { [name] = fn or type }))
    replaced[key] = fn
  end,
})

--- The strategy of a model: what its definition replaces, in front of its base's or the default one.
---@param context string for messages
---@param given lumo.NamingStrategy|nil
---@param base lumo.NamingStrategy|nil
---@return lumo.NamingStrategy
function naming.strategy(context, given, base)
  return setmetatable(check(context, given), { __index = base or naming.default })
end

--- A name made by a strategy. Raises E_ARGUMENT if it gives none.
---@param strategy lumo.NamingStrategy
---@param what string the function's name
---@param model_name string
---@param other string|nil
---@return any name a string; of "serialized" perhaps false
function naming.make(strategy, what, model_name, other)
  local name = strategy[what](model_name, other)
  if type(name) ~= "string" and not (what == "serialized" and name == false) then
    raise("E_ARGUMENT", "naming of \"%s\": %s gave no name, but %s", model_name, what, type(name))
  end
  return name
end

return naming
