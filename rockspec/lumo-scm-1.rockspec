rockspec_format = "3.0"
package = "lumo"
version = "scm-1"
source = {
  -- Built from a checkout, which is the current directory: luarocks make rockspec/lumo-scm-1.rockspec
  url = "file://.",
}
description = {
  summary = "Object-document mapper for MongoDB with many-to-many relations",
  detailed = [[
lumo maps MongoDB documents to Lua records. Its centrepiece is the many-to-many relation through a pivot collection. The
core is C on libmongoc; it serves Lua 5.4 and LuaJIT with one API. It needs libmongoc 1.23 or later with its headers,
pkg-config, CMake and a C compiler.]],
  license = "MIT",
  labels = { "mongodb", "odm", "database" },
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.1, < 5.5" } -- which of them are really served, the build says: 5.4 and LuaJIT
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "RelWithDebInfo",
    LUA_INCDIR = "$(LUA_INCDIR)",
    LUMO_LIBDIR = "$(LIBDIR)",
    LUMO_LUADIR = "$(LUADIR)",
  },
  install = { bin = { lumo = "bin/lumo" } },
}
