/* The module lumo.core: opens every file of the binding. */
#include <poll.h>
#include <time.h>

#include "private.h"

/* core.now(): milliseconds since the epoch. */
static int now(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  lua_pushnumber(L, (lua_Number)((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000));
  return 1;
}

/* core.clock(): milliseconds for measuring how long something takes, whatever is done to the time of day. */
static int monotonic(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  lua_pushnumber(L, (lua_Number)((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000));
  return 1;
}

/* core.pause(ms): sleeps; blocks. */
static int pause_ms(lua_State *L) {
  poll(NULL, 0, (int)luaL_checknumber(L, 1));
  return 0;
}

__attribute__((visibility("default"))) int luaopen_lumo_core(lua_State *L) {
  lua_newtable(L);
  lua_pushcfunction(L, now);
  lua_setfield(L, -2, "now");
  lua_pushcfunction(L, monotonic);
  lua_setfield(L, -2, "clock");
  lua_pushcfunction(L, pause_ms);
  lua_setfield(L, -2, "pause");
  lumo_open_error(L);
  lumo_open_job(L); /* before all else that has a finalizer */
  lumo_open_values(L);
  lumo_open_codec(L);
  lumo_open_schema(L);
  lumo_open_record(L);
  lumo_open_operators(L);
  lumo_open_row(L);
  lumo_open_query(L);
  lumo_open_where(L);
  lumo_open_query_plan(L);
  lumo_open_cursor(L);
  lumo_open_relation(L);
  lumo_open_has(L);
  lumo_open_plan(L);
  lumo_open_policy(L);
  lumo_open_run(L);
  lumo_open_connection(L);
  lumo_open_explain(L);
  lumo_open_embedded(L);
  return 1;
}
