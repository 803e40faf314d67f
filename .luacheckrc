-- The code runs unchanged on Lua 5.4 and on LuaJIT: what every Lua has, and what is asked for before it is used
-- (`table.unpack or unpack`), which is named here.
std = "min"
max_line_length = 120
max_comment_line_length = 120
cache = false
exclude_files = { "build", "build.luarocks" }
read_globals = {
  "jit",
  "unpack",
  math = { fields = { "type", "tointeger" } },
  table = { fields = { "unpack" } },
}

files["spec"] = { std = "min+busted" }
files["bench/openresty_app.lua"] = { read_globals = { "ngx" } }
files["spec/runtime/app.lua"] = { read_globals = { "ngx" } }
files["spec/runtime/relations_app.lua"] = { read_globals = { "ngx" } }
files["lua/lumo/runtime"] = { read_globals = { "ngx" } }
files["examples/openresty"] = { globals = { "ngx" }, read_globals = { "bit" } }
files["spec/campaign"] = { max_line_length = 140, max_comment_line_length = 140 }
files["rockspec"] = { std = "rockspec" }
