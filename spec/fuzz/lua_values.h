/* Lua values made of input bytes, and the Lua state in which the targets use them. */
#ifndef LUMO_FUZZ_LUA_VALUES_H
#define LUMO_FUZZ_LUA_VALUES_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <string.h>

#include "fuzz.h"

int luaopen_lumo_core(lua_State *L);

typedef struct input {
  const uint8_t *data;
  size_t left;
} input;

static unsigned take(input *in) {
  if (in->left == 0) return 0;
  in->left--;
  return *in->data++;
}

static void push_text(lua_State *L, input *in) {
  size_t len = take(in) % 32;
  if (len > in->left) len = in->left;
  lua_pushlstring(L, (const char *)in->data, len);
  in->data += len;
  in->left -= len;
}

static const char *const names[] = {"a",     "title", "views", "labels", "free", "meta", "colour",
                                    "at",    "owner", "price", "bytes",  "code", "any",  "_id",
                                    "id",    "$ref",  "$id",   "$gt",    "a.b",  "",     "list",
                                    "small", "big",   "score", "active"};

static void push_name(lua_State *L, input *in) {
  unsigned which = take(in);
  if (which % 4 == 0)
    push_text(L, in);
  else
    lua_pushstring(L, names[which / 4 % (sizeof names / sizeof *names)]);
}

static lua_Integer take_integer(input *in) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) v = v << 8 | take(in);
  return (lua_Integer)v;
}

static double take_double(input *in) {
  uint8_t bytes[8];
  double d;
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)take(in);
  memcpy(&d, bytes, 8);
  return d;
}

/* A function of the core, called with the `arguments` values on the top; pushes its result, or nil if it
 * raises. */
static void push_made(lua_State *L, const char *function, int arguments) {
  lua_getglobal(L, "core");
  lua_getfield(L, -1, function);
  lua_remove(L, -2);
  lua_insert(L, -1 - arguments);
  if (lua_pcall(L, arguments, 1, 0) != LUA_OK) {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
}

/* Marks that change what a table is, some of them a lie; pops nothing. */
static void mark_table(lua_State *L, unsigned how) {
  static const char *const makers[] = {"array", "ordered"};
  if (how % 8 > 2) return;
  if (how % 8 == 2) {
    lua_newtable(L);
    lua_pushcfunction(L, lua_error); /* raises if anything ever calls it */
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    return;
  }
  lua_pushvalue(L, -1);
  push_made(L, makers[how % 8], 1);
  lua_pop(L, 1);
}

/* Pushes one value. Tables that are open stand at `tables` and above: a value may be one of them again. */
static void push_value(lua_State *L, input *in, int depth, int tables) {
  luaL_checkstack(L, 20, NULL);
  switch (take(in) % 20) {
  case 0: lua_pushboolean(L, take(in) & 1); return;
  case 1: lua_pushinteger(L, (lua_Integer)(int8_t)take(in)); return;
  case 2: lua_pushinteger(L, take_integer(in)); return;
  case 3: lua_pushnumber(L, take_double(in)); return;
  case 4:
  case 5: push_text(L, in); return;
  case 6: lua_pushlightuserdata(L, NULL); return;
  case 7:
    lua_pushnumber(L, take_double(in));
    push_made(L, "datetime", 1);
    return;
  case 8: push_made(L, "objectid", 0); return;
  case 9:
    push_text(L, in);
    lua_pushinteger(L, take(in));
    push_made(L, "binary", 2);
    return;
  case 10:
    push_text(L, in);
    push_made(L, "decimal", 1);
    return;
  case 11:
    push_text(L, in);
    lua_pushliteral(L, "i");
    push_made(L, "regex", 2);
    return;
  case 12: lua_pushcfunction(L, lua_error); return;
  case 13: /* a value of any kind that BSON has, malformed or not */
    push_text(L, in);
    push_made(L, "bson_decode", 1);
    return;
  case 14: /* a table around itself */
    if (lua_gettop(L) > tables) {
      lua_pushvalue(L, tables + 1 + (int)(take(in) % (unsigned)(lua_gettop(L) - tables)));
      return;
    }
    /* fall through */
  default: break;
  }
  if (depth > 120 || in->left == 0) {
    lua_pushnil(L);
    return;
  }
  unsigned shape = take(in), count = take(in) % 12;
  lua_newtable(L);
  int table = lua_gettop(L);
  for (unsigned i = 0; i < count && in->left > 0; i++) {
    if (shape & 1)
      lua_pushinteger(L, (lua_Integer)(take(in) % 16 ? i + 1 : take(in)));
    else
      push_name(L, in);
    push_value(L, in, depth + 1, tables);
    if (shape & 2) { /* a pair, as lumo.ordered has them */
      lua_createtable(L, 2, 0);
      lua_insert(L, -3);
      lua_rawseti(L, -3, 2);
      lua_rawseti(L, -2, 1);
      lua_rawseti(L, table, (lua_Integer)i + 1);
    } else {
      lua_rawset(L, table);
    }
  }
  mark_table(L, shape >> 2);
}

/* The state: `core` as a global, and the script's global functions. */
static lua_State *new_state(const char *script) {
  lua_State *L = luaL_newstate();
  MUST(L);
  luaL_openlibs(L);
  luaL_requiref(L, "lumo.core", luaopen_lumo_core, 0);
  lua_setglobal(L, "core");
  if (luaL_dostring(L, script) != LUA_OK) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    abort();
  }
  return L;
}

/* Calls the global function with the `arguments` values on the top. It must not raise: what may raise, it
 * calls protected. */
static void call_script(lua_State *L, const char *function, int arguments) {
  lua_getglobal(L, function);
  lua_insert(L, -1 - arguments);
  if (lua_pcall(L, arguments, 0, 0) == LUA_OK) return;
  fprintf(stderr, "%s\n", luaL_tolstring(L, -1, NULL));
  abort();
}

/* The columns that both targets use: one of each type. */
#define SCHEMA                                                                                               \
  "local columns = {}\n"                                                                                     \
  "local function column(name, kind, more)\n"                                                                \
  "  local c = more or {}\n"                                                                                 \
  "  c.name, c.stored, c.serialized, c.type = name, c.stored or name, name, kind\n"                          \
  "  return c\n"                                                                                             \
  "end\n"                                                                                                    \
  "for name, kind in pairs { title = 'string', views = 'integer', small = 'int32', big = 'int64', score = "  \
  "'number',\n"                                                                                              \
  "  active = 'boolean', at = 'date', owner = 'objectid', price = 'decimal', bytes = 'binary', code = "      \
  "'uuid',\n"                                                                                                \
  "  any = 'any', list = 'array', free = 'object' } do columns[#columns + 1] = column(name, kind) end\n"     \
  "columns[#columns + 1] = column('_id', 'objectid', { primary = true })\n"                                  \
  "columns[#columns + 1] = column('labels', 'array', { of = column('of', 'string') })\n"                     \
  "columns[#columns + 1] = column('meta', 'object', { columns = { column('colour', 'string'),\n"             \
  "  column('depth', 'integer', { stored = 'deep' }) } })\n"                                                 \
  "local function schema(strict)\n"                                                                          \
  "  return core.schema { model = 'Fuzz', collection = 'fuzz', strict = strict, columns = columns }\n"       \
  "end\n"

#endif
