/* The module lumo.core: opens every file of the binding, and holds what they share in the registry. */
#include <time.h>

#include "private.h"

/* Only the addresses matter. */
const char LUMO_MT_ERROR = 0, LUMO_MT_OBJECTID = 0, LUMO_MT_DATETIME = 0, LUMO_MT_DECIMAL = 0,
           LUMO_MT_BINARY = 0, LUMO_MT_UUID = 0, LUMO_MT_INT64 = 0, LUMO_MT_VALUE = 0, LUMO_MT_ARRAY = 0,
           LUMO_MT_ORDERED = 0, LUMO_MT_SCHEMA = 0, LUMO_MT_QUERY = 0, LUMO_MT_RELATION = 0, LUMO_MT_PLAN = 0,
           LUMO_MT_CONNECTION = 0, LUMO_OBJECTIDS = 0, LUMO_SCRATCH = 0;

void lumo_get(lua_State *L, const char *slot) {
  lua_pushlightuserdata(L, (void *)slot);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

void lumo_set(lua_State *L, const char *slot) {
  lua_pushlightuserdata(L, (void *)slot);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void lumo_metatable(lua_State *L, const char *slot, const char *name, const luaL_Reg *methods,
                    const luaL_Reg *metamethods) {
  lua_newtable(L);
  if (metamethods) luaL_setfuncs(L, metamethods, 0);
  if (methods) {
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
  }
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pushvalue(L, -1);
  lumo_set(L, slot);
}

void *lumo_test(lua_State *L, int i, const char *slot) {
  void *found = lua_touserdata(L, i);
  if (!found || lua_islightuserdata(L, i) || !lua_getmetatable(L, i)) return NULL;
  lumo_get(L, slot);
  if (!lua_rawequal(L, -1, -2)) found = NULL;
  lua_pop(L, 2);
  return found;
}

/* core.now(): milliseconds since the epoch. */
static int now(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  lua_pushnumber(L, (lua_Number)((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000));
  return 1;
}

__attribute__((visibility("default"))) int luaopen_lumo_core(lua_State *L) {
  lua_newtable(L);
  lua_pushcfunction(L, now);
  lua_setfield(L, -2, "now");
  lumo_open_error(L);
  lumo_open_values(L);
  lumo_open_codec(L);
  lumo_open_schema(L);
  lumo_open_record(L);
  lumo_open_query(L);
  lumo_open_relation(L);
  lumo_open_plan(L);
  lumo_open_connection(L);
  lumo_open_embedded(L);
  return 1;
}
