/* What a Lua state shares among the files of the binding: registry slots, metatables, and telling one
 * userdata from another. */
#include "private.h"

/* Only the addresses matter. */
const char LUMO_MT_ERROR = 0, LUMO_MT_OBJECTID = 0, LUMO_MT_DATETIME = 0, LUMO_MT_DECIMAL = 0,
           LUMO_MT_BINARY = 0, LUMO_MT_UUID = 0, LUMO_MT_INT64 = 0, LUMO_MT_VALUE = 0, LUMO_MT_ARRAY = 0,
           LUMO_MT_ORDERED = 0, LUMO_MT_SCHEMA = 0, LUMO_MT_QUERY = 0, LUMO_MT_RELATION = 0, LUMO_MT_PLAN = 0,
           LUMO_MT_CONNECTION = 0, LUMO_MT_SESSION = 0, LUMO_MT_POLICY = 0, LUMO_MT_JOB = 0, LUMO_MT_SLOT = 0,
           LUMO_MT_LISTENER = 0, LUMO_OBJECTIDS = 0, LUMO_COLUMN_FUNCTION = 0, LUMO_SCRATCH = 0;

void lumo_get(lua_State *L, const char *slot) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, slot);
}

void lumo_set(lua_State *L, const char *slot) {
  lua_pushlightuserdata(L, (void *)slot);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void lumo_mark_metatable(lua_State *L, const char *slot) {
  lua_pushlightuserdata(L, (void *)slot);
  lua_rawseti(L, -2, 1);
}

void lumo_register_metatable(lua_State *L, const char *slot) {
  lumo_mark_metatable(L, slot);
  lumo_set(L, slot);
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
  lumo_register_metatable(L, slot);
}

/* No program can put a slot's address into a metatable, and the first element is nearer than the registry. */
void *lumo_test(lua_State *L, int i, const char *slot) {
  void *found = lua_touserdata(L, i);
  if (!found || !lua_getmetatable(L, i)) return NULL;
  lua_rawgeti(L, -1, 1);
  if (lua_touserdata(L, -1) != (const void *)slot) found = NULL;
  lua_pop(L, 2);
  return found;
}

bool lumo_in_column_function(lua_State *L) {
  lumo_get(L, &LUMO_COLUMN_FUNCTION);
  bool in = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return in;
}

void lumo_refuse_in_column_function(lua_State *L) {
  if (lumo_in_column_function(L))
    lumo_raise_code(
        L, "E_ARGUMENT",
        "a function of a column (default, prepare, consume, …) must not read or write the database");
}

void lumo_call_column_function(lua_State *L, int arguments) {
  bool outer = lumo_in_column_function(L);
  lua_pushboolean(L, 1);
  lumo_set(L, &LUMO_COLUMN_FUNCTION);
  int status = lua_pcall(L, arguments, 1, 0);
  lua_pushboolean(L, outer);
  lumo_set(L, &LUMO_COLUMN_FUNCTION);
  if (status != LUA_OK) lua_error(L);
}
