--[[
debtags.lua: Debian's packages and their tags as a many-to-many relation.

    apt-cache dumpavail | lua examples/debtags.lua import
    lua examples/debtags.lua import < examples/data/packages-sample.txt
    lua examples/debtags.lua show nginx
    lua examples/debtags.lua tag implemented-in::c --and role::program --limit 20
    lua examples/debtags.lua similar nginx
    lua examples/debtags.lua retag nginx web::server role::program
    lua examples/debtags.lua stats

In a checkout, `script/lua` in the place of `lua` finds what was built there.

Three collections: `packages` and `tags`, whose primary keys are their names, and `package_tags`, one document
per pair. Importing again changes only what differs, so the same input twice gives the same database.
]]

local USAGE = [[
usage: debtags.lua [--uri URI] COMMAND

  import                             load the output of `apt-cache dumpavail` from standard input
  show PACKAGE                       a package and its tags
  tag TAG [--and TAG]... [--limit N] packages that have all of these tags
  similar PACKAGE [--limit N]        packages that share most tags with this one
  retag PACKAGE TAG...               make these the package's tags
  stats                              numbers of packages, tags and pairs, and the largest tags

  --limit N   at most N lines (20)
  --uri URI   the database: mongodb://HOST/NAME or embedded:FOLDER
              default: MONGODB_URI of the environment, else embedded: with its data
              in ${XDG_CACHE_HOME:-~/.cache}/lumo/debtags

exit codes: 0 done, 1 failed (an unknown package too), 2 wrong usage
]]

local BATCH = 1000 -- packages per read and insert, and pairs per attach

-- ---- the models ---------------------------------------------------------------------------------

local lumo = require "lumo"

local Package = lumo.model("Package", {
  collection = "packages",
  columns = {
    { "name", { "string", primary = true } }, -- stored as _id
    { "version", "string" },
    { "section", "string" },
    { "maintainer", "string" },
    { "size", "integer" }, -- of the package file, in bytes
    { "description", "string" },
  },
  relations = { tags = lumo.belongs_to_many("Tag", "PackageTag", "package_id", "tag_id") },
})

local Tag = lumo.model("Tag", {
  collection = "tags",
  columns = {
    { "name", { "string", primary = true } }, -- "role::program"
    { "facet", "string" }, -- "role"
  },
  relations = { packages = lumo.belongs_to_many("Package", "PackageTag", "tag_id", "package_id") },
})

local PackageTag = lumo.model("PackageTag", {
  collection = "package_tags",
  columns = { package_id = "string", tag_id = "string" },
})

local ATTRIBUTES = { "version", "section", "maintainer", "size", "description" } -- beside the name

-- ---- small things -------------------------------------------------------------------------------

-- Ends the program with one line on standard error; caught by the last lines of this file.
local function fail(message, exit_code)
  error({ message = message, exit_code = exit_code }, 0)
end

local function is_terminal(descriptor)
  local status = os.execute("test -t " .. descriptor) -- true on Lua 5.4, 0 on LuaJIT
  return status == true or status == 0
end

-- 63666 → "63,666"
local function grouped(number)
  local digits = ("%d"):format(number)
  local head = #digits % 3
  return (digits:sub(1, head) .. digits:sub(head + 1):gsub("%d%d%d", ",%0")):gsub("^,", "")
end

local function facet_of(tag_name)
  return tag_name:match("^(.-)::")
end

-- The length of the UTF-8 character that starts at `i`, or nil (RFC 3629: no overlong forms, no surrogates).
local function character_length(text, i)
  local a, b, c, d = text:byte(i, i + 3)
  local function continues(byte, low, high)
    return byte and byte >= (low or 0x80) and byte <= (high or 0xBF)
  end
  if a < 0x80 then
    return 1
  elseif a >= 0xC2 and a <= 0xDF then
    return continues(b) and 2 or nil
  elseif a >= 0xE0 and a <= 0xEF then
    return continues(b, a == 0xE0 and 0xA0, a == 0xED and 0x9F) and continues(c) and 3 or nil
  elseif a >= 0xF0 and a <= 0xF4 then
    return continues(b, a == 0xF0 and 0x90, a == 0xF4 and 0x8F) and continues(c) and continues(d) and 4 or nil
  end
  return nil
end

-- Text that a database of UTF-8 takes: bytes that are none become U+FFFD.
local function to_utf8(text)
  if not text:find("[\128-\255]") then
    return text
  end
  local parts, i = {}, 1
  while i <= #text do
    local length = character_length(text, i)
    parts[#parts + 1] = length and text:sub(i, i + length - 1) or "\239\191\189"
    i = i + (length or 1)
  end
  return table.concat(parts)
end

-- A progress bar on standard error: redrawn in place on a terminal, else a line at every tenth. Returns the
-- function to call with how much is done, from 0 to 1.
local bar_is_open = false

local function progress(label)
  local terminal, shown = is_terminal(2), nil
  return function(done)
    local percent = math.floor(done * 100)
    local step = terminal and percent or percent - percent % 10
    if step == shown then
      return
    end
    shown = step
    if terminal then
      local filled = math.floor(percent * 40 / 100)
      local bar = ("#"):rep(filled) .. ("-"):rep(40 - filled)
      bar_is_open = percent < 100
      io.stderr:write(("\r%-10s [%s] %3d %%"):format(label, bar, percent), bar_is_open and "" or "\n")
    else
      io.stderr:write(("%-10s %3d %%\n"):format(label, step))
    end
    io.stderr:flush()
  end
end

-- ---- Debian's formats ---------------------------------------------------------------------------

-- deb-version(7): "~" sorts before the end of the text, letters before other characters.
local function rank(character)
  if character == "" then
    return 0
  elseif character == "~" then
    return -1
  end
  return character:byte() + (character:find("%a") and 0 or 256)
end

-- Below 0, 0 or above 0. Runs of non-digits go by rank, runs of digits by their number.
local function compare_part(a, b)
  while a ~= "" or b ~= "" do
    local text_a, digits_a, rest_a = a:match("^(%D*)0*(%d*)(.*)$")
    local text_b, digits_b, rest_b = b:match("^(%D*)0*(%d*)(.*)$")
    for i = 1, math.max(#text_a, #text_b) do
      local x, y = rank(text_a:sub(i, i)), rank(text_b:sub(i, i))
      if x ~= y then
        return x - y
      end
    end
    if #digits_a ~= #digits_b then
      return #digits_a - #digits_b
    elseif digits_a ~= digits_b then
      return digits_a < digits_b and -1 or 1
    end
    a, b = rest_a, rest_b
  end
  return 0
end

local function version_parts(version)
  local epoch, rest = version:match("^(%d+):(.*)$")
  rest = rest or version
  local upstream, revision = rest:match("^(.*)%-([^-]*)$")
  return { epoch or "0", upstream or rest, revision or "" }
end

local function is_newer(version, than)
  local a, b = version_parts(version), version_parts(than)
  for i = 1, 3 do
    local order = compare_part(a[i], b[i])
    if order ~= 0 then
      return order > 0
    end
  end
  return false
end

-- The list of names in "role::program, implemented-in::{c,c++}": three, each once.
local function parse_tags(field)
  local expanded = field:gsub("([^%s,{}]*){([^{}]*)}", function(prefix, names)
    return (names:gsub("[^,%s]+", function(name)
      return prefix .. name
    end))
  end)
  local list, seen = {}, {}
  for name in expanded:gmatch("[^,%s]+") do
    if not seen[name] then
      seen[name] = true
      list[#list + 1] = name
    end
  end
  return list
end

local FIELDS = {}
for name in ("Package Version Section Maintainer Size Description Tag"):gmatch("%a+") do
  FIELDS[name] = true
end

-- The next paragraph as a table of the FIELDS that it has, and its length in bytes; nil at the end.
local function read_paragraph(file)
  local fields, field, started, bytes = {}, nil, false, 0
  for line in file:lines() do
    bytes = bytes + #line + 1
    if line:find("^%s*$") then
      if started then
        return fields, bytes
      end
    elseif line:find("^[ \t]") then
      if field then
        fields[field] = fields[field] .. "\n" .. line
      end
    else
      started = true
      local name, value = line:match("^([%w-]+):%s*(.*)$")
      field = FIELDS[name] and name or nil
      if field then
        fields[field] = value
      end
    end
  end
  if started then
    return fields, bytes
  end
  return nil
end

-- A description's further lines begin with a blank, and a lone "." stands for an empty one.
local function parse_description(field)
  return (field:gsub("\n[ \t]([^\n]*)", function(line)
    return "\n" .. (line:find("^%.%s*$") and "" or line)
  end))
end

-- The attributes of a paragraph, its tag names as `tags`; nil when it is no package.
local function to_row(fields)
  if not (fields.Package and fields.Version) then
    return nil
  end
  for name, value in pairs(fields) do
    fields[name] = to_utf8(value:gsub("%s+$", ""))
  end
  return {
    name = fields.Package,
    version = fields.Version,
    section = fields.Section,
    maintainer = fields.Maintainer,
    size = fields.Size and tonumber(fields.Size:match("^%d+$")),
    description = fields.Description and parse_description(fields.Description),
    tags = parse_tags(fields.Tag or ""),
  }
end

-- ---- import -------------------------------------------------------------------------------------

-- What one import knows: the versions read so far, the tags, and the pairs to be added. These wait by tag: a
-- package has some four tags and a tag up to 10,000 packages, so a call from the tag's side attaches many
-- pairs at once. The pair's document is the same from either side.
local function new_importer()
  return {
    versions = {}, -- package name → the newest version read in this import
    tags = {}, -- tag name → record
    waiting = {}, -- tag name → list of package names
    read = 0, skipped = 0, created = 0, updated = 0, tags_created = 0, attached = 0, detached = 0,
  }
end

local function attach_waiting(importer, tag_name)
  local result = importer.tags[tag_name].packages:attach(importer.waiting[tag_name])
  importer.attached = importer.attached + #result.attached
  importer.waiting[tag_name] = nil
end

local function attach_all(importer, on_progress)
  local names = {}
  for name in pairs(importer.waiting) do
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do
    attach_waiting(importer, name)
    if on_progress then
      on_progress(i / #names)
    end
  end
end

-- Makes sure that the tags of these rows exist and are in importer.tags: at most one find and one insert.
local function prepare_tags(importer, rows)
  local unknown, listed = {}, {}
  for _, row in ipairs(rows) do
    for _, name in ipairs(row.tags) do
      if not importer.tags[name] and not listed[name] then
        listed[name] = true
        unknown[#unknown + 1] = name
      end
    end
  end
  if #unknown == 0 then
    return
  end
  for _, tag in ipairs(Tag:find_many(unknown)) do
    importer.tags[tag.name] = tag
  end
  local new = {}
  for _, name in ipairs(unknown) do
    if not importer.tags[name] then
      new[#new + 1] = { name = name, facet = facet_of(name) }
    end
  end
  if #new > 0 then
    for _, tag in ipairs(Tag:create_many(new)) do
      importer.tags[tag.name] = tag
    end
    importer.tags_created = importer.tags_created + #new
  end
end

-- The packages of these rows that the database has, by name, and the set of each one's tag names: two finds.
local function find_existing(rows)
  local names = {}
  for i, row in ipairs(rows) do
    names[i] = row.name
  end
  local existing, tag_names, found = {}, {}, {}
  for i, package in ipairs(Package:find_many(names)) do
    existing[package.name], tag_names[package.name], found[i] = package, {}, package.name
  end
  if #found > 0 then
    for pair in PackageTag:query():where_in("package_id", found):each() do
      tag_names[pair.package_id][pair.tag_id] = true
    end
  end
  return existing, tag_names
end

-- Saves the attributes that differ; nothing is sent when none does.
local function update_package(importer, package, row)
  for _, name in ipairs(ATTRIBUTES) do
    package[name] = row[name]
  end
  if package.is_dirty then
    package:save()
    importer.updated = importer.updated + 1
  end
end

-- Takes away the tags that the row does not have, and lets the missing ones wait.
local function compare_tags(importer, package, row, had)
  for _, name in ipairs(row.tags) do
    if had[name] then
      had[name] = nil
    else
      local waiting = importer.waiting[name] or {}
      importer.waiting[name] = waiting
      waiting[#waiting + 1] = row.name
      if #waiting == BATCH then
        attach_waiting(importer, name)
      end
    end
  end
  local stale = {}
  for name in pairs(had) do
    stale[#stale + 1] = name
  end
  if #stale > 0 then
    importer.detached = importer.detached + package.tags:detach(stale)
  end
end

local function write_batch(importer, rows)
  prepare_tags(importer, rows)
  local existing, tag_names = find_existing(rows)
  local new = {}
  for _, row in ipairs(rows) do
    if existing[row.name] then
      update_package(importer, existing[row.name], row)
    else
      local values = { name = row.name }
      for _, name in ipairs(ATTRIBUTES) do
        values[name] = row[name]
      end
      new[#new + 1] = values
    end
  end
  if #new > 0 then
    Package:create_many(new)
    importer.created = importer.created + #new
  end
  for _, row in ipairs(rows) do
    compare_tags(importer, existing[row.name], row, tag_names[row.name] or {})
  end
end

-- A pipe does not tell its length: it is copied to a temporary file, so that the progress bar has an end.
local function open_input(input)
  local start = input:seek("cur")
  if not start then
    local copy = assert(io.tmpfile())
    for block in function() return input:read(65536) end do
      assert(copy:write(block))
    end
    input, start = copy, 0
  end
  local size = input:seek("end") - start
  input:seek("set", start)
  return input, size
end

local commands = {}

-- Reads and writes all of the input, but for the pairs that still wait.
local function import_rows(importer, input, size, on_progress)
  local rows, at, done = {}, {}, 0 -- `at`: package name → its place in rows
  for fields, bytes in read_paragraph, input do
    done = done + bytes
    local row = to_row(fields)
    local known = row and importer.versions[row.name]
    if not row then
      importer.skipped = importer.skipped + 1
    elseif not known or is_newer(row.version, known) then
      -- Other architectures and archives bring further versions: the newest is kept, and of equals the first.
      if known and not at[row.name] then
        attach_all(importer) -- the older one is written: its pairs must be there to be compared
      end
      importer.read = importer.read + (known and 0 or 1)
      importer.versions[row.name] = row.version
      at[row.name] = at[row.name] or #rows + 1
      rows[at[row.name]] = row
    end
    if #rows == BATCH then
      write_batch(importer, rows)
      rows, at = {}, {}
      on_progress(math.min(done / size, 1))
    end
  end
  if #rows > 0 then
    write_batch(importer, rows)
  end
  if importer.read > 0 then
    on_progress(1)
  end
end

function commands.import()
  if is_terminal(0) then
    fail("import reads standard input: apt-cache dumpavail | debtags.lua import", 2)
  end
  local started = os.time()
  local input, size = open_input(io.stdin)
  lumo.ensure_indexes()
  local importer = new_importer()
  import_rows(importer, input, size, progress("packages"))
  if importer.read == 0 then
    fail("the input has no packages: it should be the output of apt-cache dumpavail")
  end
  attach_all(importer, progress("pairs"))
  if importer.skipped > 0 then
    io.stderr:write(grouped(importer.skipped), " paragraphs that lack a name or a version are left out\n")
  end
  print(("%s packages read: %s new, %s changed; %s new tags; %s pairs added, %s removed; %d s"):format(
    grouped(importer.read), grouped(importer.created), grouped(importer.updated),
    grouped(importer.tags_created), grouped(importer.attached), grouped(importer.detached),
    os.time() - started))
end

-- ---- the other commands -------------------------------------------------------------------------

local function find_package(name)
  return Package:find(name) or fail(("no such package: %s"):format(name))
end

-- The first line of a package's description.
local function synopsis(package)
  return (package.description or ""):match("^[^\n]*")
end

function commands.show(arguments)
  local package = find_package(arguments[1])
  package:load("tags")
  print(("%s %s"):format(package.name, package.version))
  print(("  section     %s"):format(package.section or "-"))
  print(("  maintainer  %s"):format(package.maintainer or "-"))
  print(("  size        %s"):format(package.size and grouped(package.size) .. " bytes" or "-"))
  local names = {}
  for i, tag in ipairs(package.tags) do
    names[i] = tag.name
  end
  table.sort(names)
  print(("  tags        %s"):format(#names > 0 and table.concat(names, "\n              ") or "-"))
  print("\n  " .. (package.description or "-"):gsub("\n", "\n  "))
end

function commands.tag(arguments, options)
  -- How many of the tags each package has: those with all of them stay.
  local counts, found, wanted, names = {}, {}, 0, {}
  for _, name in ipairs(parse_tags(table.concat(arguments, ",") .. "," .. table.concat(options.also, ","))) do
    local tag = Tag:find(name) or fail(("no such tag: %s"):format(name))
    wanted, names[#names + 1] = wanted + 1, name
    for _, package_name in ipairs(tag.packages:ids()) do
      counts[package_name] = (counts[package_name] or 0) + 1
    end
  end
  for package_name, count in pairs(counts) do
    if count == wanted then
      found[#found + 1] = package_name
    end
  end
  table.sort(found)
  local total = #found
  for i = total, options.limit + 1, -1 do
    found[i] = nil
  end
  print(("%s: %s packages%s"):format(table.concat(names, " and "), grouped(total),
    total > #found and (", the first %d"):format(#found) or ""))
  if #found > 0 then
    for _, package in ipairs(Package:find_many(found)) do
      print(("  %-28s %s"):format(package.name, synopsis(package)))
    end
  end
end

function commands.similar(arguments, options)
  local package = find_package(arguments[1])
  local tag_names = package.tags:ids()
  if #tag_names == 0 then
    print(("%s has no tags"):format(package.name))
    return
  end
  -- A pipeline in MongoDB's own words. A Lua table has no order and these sort keys need one: lumo.ordered.
  local rows = PackageTag:aggregate{
    { ["$match"] = { tag_id = { ["$in"] = tag_names }, package_id = { ["$ne"] = package.name } } },
    { ["$group"] = { _id = "$package_id", shared = { ["$sum"] = 1 } } },
    { ["$sort"] = lumo.ordered{ { "shared", -1 }, { "_id", 1 } } },
    { ["$limit"] = options.limit },
  }
  local names, shared = {}, {}
  for i, row in ipairs(rows) do
    names[i], shared[row._id] = row._id, row.shared
  end
  print(("%s has %d tags; packages that share most of them:"):format(package.name, #tag_names))
  if #names > 0 then
    for _, other in ipairs(Package:find_many(names)) do
      print(("  %3d  %-28s %s"):format(shared[other.name], other.name, synopsis(other)))
    end
  end
end

function commands.retag(arguments)
  local package = find_package(arguments[1])
  local names = parse_tags(table.concat(arguments, ",", 2))
  for _, name in ipairs(names) do
    if not name:find("^[^:]+::[^:].*$") then
      fail(("a tag is written facet::name, not %s"):format(name), 2)
    end
  end
  local importer = new_importer()
  prepare_tags(importer, { { tags = names } })
  -- sync makes the package's tags be exactly these, and says what it did with each.
  local result = package.tags:sync(names)
  for _, change in ipairs{ { "+", result.attached }, { "-", result.detached }, { "=", result.unchanged } } do
    for _, name in ipairs(change[2]) do
      print(("%s %s"):format(change[1], name))
    end
  end
end

function commands.stats()
  print(("%8s packages\n%8s tags\n%8s pairs"):format(
    grouped(Package:count()), grouped(Tag:count()), grouped(PackageTag:count())))
  local rows = PackageTag:aggregate{
    { ["$group"] = { _id = "$tag_id", packages = { ["$sum"] = 1 } } },
    { ["$sort"] = lumo.ordered{ { "packages", -1 }, { "_id", 1 } } },
    { ["$limit"] = 10 },
  }
  if #rows > 0 then
    print("\nlargest tags:")
  end
  for _, row in ipairs(rows) do
    print(("%8s  %s"):format(grouped(row.packages), row._id))
  end
end

-- ---- the command line ---------------------------------------------------------------------------

-- Per command: the least and the most arguments, and the options that it knows beside --uri.
local SHAPES = {
  import = { 0, 0 },
  show = { 1, 1 },
  tag = { 1, 1, ["--and"] = true, ["--limit"] = true },
  similar = { 1, 1, ["--limit"] = true },
  retag = { 2, math.huge },
  stats = { 0, 0 },
}

local function wrong_usage(message)
  fail(message .. " (--help shows the usage)", 2)
end

-- The command's name, its arguments, its options; nil for --help.
local function parse_arguments(list)
  local words, options, given, i = {}, { also = {}, limit = 20 }, {}, 1 ---@type string[], table, table, integer
  while i <= #list do
    local word = list[i]
    if word == "-h" or word == "--help" then
      return nil
    elseif word:sub(1, 1) == "-" then
      local name, value = word:match("^(%-%-%l+)=(.*)$")
      name = name or word
      if name ~= "--uri" and name ~= "--and" and name ~= "--limit" then
        wrong_usage(("unknown option %s"):format(name))
      end
      if not value then
        i = i + 1
        value = list[i] or wrong_usage(("%s needs a value"):format(name))
      end
      if name == "--uri" then
        options.uri = value
      elseif name == "--and" then
        options.also[#options.also + 1] = value
      else
        options.limit = value:find("^%d%d?%d?%d?%d?%d?$") and tonumber(value) or 0
        if options.limit < 1 then
          wrong_usage("--limit is a number from 1 to 999999")
        end
      end
      given[#given + 1] = name
    else
      words[#words + 1] = word
    end
    i = i + 1
  end
  local command = table.remove(words, 1) or wrong_usage("a command is missing")
  local shape = SHAPES[command] or wrong_usage(("unknown command %s"):format(command))
  if #words < shape[1] or #words > shape[2] then
    wrong_usage(("%s: too %s arguments"):format(command, #words < shape[1] and "few" or "many"))
  end
  for _, name in ipairs(given) do
    if name ~= "--uri" and not shape[name] then
      wrong_usage(("%s has no option %s"):format(command, name))
    end
  end
  return command, words, options
end

local function default_uri()
  if (os.getenv("MONGODB_URI") or "") ~= "" then
    return os.getenv("MONGODB_URI")
  end
  local cache = os.getenv("XDG_CACHE_HOME") or ""
  if cache:sub(1, 1) ~= "/" then -- the XDG rules: a relative path is ignored
    cache = (os.getenv("HOME") or fail("HOME is not set: name the database with --uri")) .. "/.cache"
  end
  return "embedded:" .. cache .. "/lumo/debtags"
end

local function main()
  local command, arguments, options = parse_arguments(arg)
  if not command then
    io.stdout:write(USAGE)
    return
  end
  local connection = lumo.connect(options.uri or default_uri())
  commands[command](arguments, options)
  connection:close()
end

local ok, err = pcall(main)
if not ok then
  -- A wrong argument names the line that gave it, but here it came from the command line.
  local message = type(err) == "table" and err.message:gsub("^[^:]+%.lua:%d+: ", "") or tostring(err)
  io.stderr:write(bar_is_open and "\n" or "", "debtags: ", message, "\n")
  os.exit(type(err) == "table" and err.exit_code or 1, true)
end
