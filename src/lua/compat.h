/* Lua 5.4 and LuaJIT under one set of names. Nothing else in the project looks at a Lua version. */
#ifndef LUMO_LUA_COMPAT_H
#define LUMO_LUA_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#if LUA_VERSION_NUM == 501

#define LUMO_LUAJIT 1

#define lua_rawlen(L, i) lua_objlen(L, (i))
#define lua_absindex(L, i) ((i) > 0 || (i) <= LUA_REGISTRYINDEX ? (i) : lua_gettop(L) + (i) + 1)
#define LUA_OK 0

/* Pushes the value under a light userdata of the table at i, raw. */
#define lua_rawgetp(L, i, p) (lua_pushlightuserdata((L), (void *)(p)), lua_rawget((L), (i)))

/* A userdata's one companion table (Lua 5.4: its first user value; LuaJIT: its environment). It has none
 * until lumo_setuv is called, and asking before is an error of ours: whoever asks knows. */
#define lumo_newud(L, size) lua_newuserdata((L), (size))
#define lumo_newvalue(L, size) lua_newuserdata((L), (size)) /* never has a companion table */
#define lumo_setuv(L, i) lua_setfenv((L), (i))              /* pops a table */
#define lumo_getuv(L, i) lua_getfenv((L), (i))              /* pushes it */

#else

#define lumo_newud(L, size) lua_newuserdatauv((L), (size), 1)
#define lumo_newvalue(L, size) lua_newuserdatauv((L), (size), 0)
#define lumo_setuv(L, i) lua_setiuservalue((L), (i), 1)
#define lumo_getuv(L, i) lua_getiuservalue((L), (i), 1)

#endif

/* Lua 5.4 tells integers from floats; LuaJIT has doubles, of which the integral ones within 2^53 are exact.
 */
static inline int lumo_isinteger(lua_State *L, int i) {
#ifdef LUMO_LUAJIT
  lua_Number n;
  if (lua_type(L, i) != LUA_TNUMBER) return 0;
  n = lua_tonumber(L, i);
  return n >= -9007199254740992.0 && n <= 9007199254740992.0 && n == (lua_Number)(long long)n;
#else
  return lua_isinteger(L, i);
#endif
}

#endif
