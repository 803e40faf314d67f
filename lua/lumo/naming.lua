--- Default names: of collections, of pivot collections and of the keys in them.
local naming = {}

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

---@param model_name string
---@return string
function naming.collection(model_name)
  return naming.plural(naming.snake(model_name))
end

--- The pivot collection of two models: their singular names, sorted.
---@param a string
---@param b string
---@return string
function naming.pivot_table(a, b)
  a, b = naming.snake(a), naming.snake(b)
  if b < a then a, b = b, a end
  return a .. "_" .. b
end

--- The field of a pivot document that points to a model: "User" and "_id" → "user_id".
---@param model_name string
---@param attribute string
---@return string
function naming.foreign_key(model_name, attribute)
  return naming.snake(model_name) .. "_" .. attribute:gsub("^_+", "")
end

return naming
