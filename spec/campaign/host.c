/* Lua 5.4 with lumo linked into it, for what only a host program can do: to let the n-th allocation of Lua or
 * of lumo fail, and to fork.
 *
 *   lumo_host SCRIPT [ARGUMENT…]
 *
 * Scripts find a global table `host`:
 *
 * host.fail(kind, n, sticky): the n-th allocation from now on fails ("lua" or "lumo"; n = 0: none, only
 * count); with `sticky` every later one of that kind, too.
 *
 * host.stop(): ends it. Returns whether any has failed, and how many there were of Lua's and of lumo's.
 *
 * host.fork(fn): calls fn in a forked child, closes the state there and ends the child; returns its status.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int luaopen_lumo_core(lua_State *L);

enum { LUA, LUMO };

static struct {
  atomic_bool armed, sticky, failed, again;
  atomic_int kind;
  atomic_ulong at;       /* the one to fail; 0: none */
  atomic_ulong count[2]; /* since armed, by kind */
} state;

static bool must_fail(int kind) {
  if (!state.armed) return false;
  unsigned long number = ++state.count[kind];
  if (kind != state.kind || !state.at) return false;
  /* Lua asks a second time, after a collection. */
  bool fails = number == state.at || state.again || (state.sticky && number > state.at);
  state.again = fails && kind == LUA && !state.again;
  if (fails) state.failed = true;
  return fails;
}

static void *allocate(void *unused, void *block, size_t old_size, size_t size) {
  (void)unused;
  if (size == 0) {
    free(block);
    return NULL;
  }
  if ((!block || size > old_size) && must_fail(LUA)) return NULL;
  return realloc(block, size);
}

/* The linker puts these in the place of lumo's own (--wrap). */
void *__real_lumo_malloc(size_t size);
void *__real_lumo_calloc(size_t count, size_t size);
void *__real_lumo_realloc(void *block, size_t size);
void *__wrap_lumo_malloc(size_t size);
void *__wrap_lumo_calloc(size_t count, size_t size);
void *__wrap_lumo_realloc(void *block, size_t size);

void *__wrap_lumo_malloc(size_t size) {
  return must_fail(LUMO) ? NULL : __real_lumo_malloc(size);
}

void *__wrap_lumo_calloc(size_t count, size_t size) {
  return must_fail(LUMO) ? NULL : __real_lumo_calloc(count, size);
}

void *__wrap_lumo_realloc(void *block, size_t size) {
  return must_fail(LUMO) ? NULL : __real_lumo_realloc(block, size);
}

static int host_fail(lua_State *L) {
  static const char *const kinds[] = {"lua", "lumo", NULL};
  int kind = luaL_checkoption(L, 1, NULL, kinds);
  lua_Integer at = luaL_checkinteger(L, 2);
  state.armed = false;
  state.kind = kind;
  state.at = (unsigned long)at;
  state.sticky = lua_toboolean(L, 3);
  state.failed = state.again = false;
  state.count[LUA] = state.count[LUMO] = 0;
  state.armed = true;
  return 0;
}

static int host_stop(lua_State *L) {
  state.armed = false;
  lua_pushboolean(L, state.failed);
  lua_pushinteger(L, (lua_Integer)state.count[LUA]);
  lua_pushinteger(L, (lua_Integer)state.count[LUMO]);
  return 3;
}

static int on_error(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

static int host_fork(lua_State *L) {
  int status = 0;
  pid_t child = fork();
  if (child < 0) return luaL_error(L, "fork failed");
  if (child == 0) {
    bool ok = lua_pcall(L, 0, 0, 0) == LUA_OK;
    if (!ok) fprintf(stderr, "%s\n", luaL_tolstring(L, -1, NULL));
    lua_close(L);
    fflush(NULL);
    _exit(ok ? 0 : 1); /* no search for leaks: the parent's pools are given up on purpose */
  }
  while (waitpid(child, &status, 0) < 0) continue;
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : 128);
  return 1;
}

static void open_host(lua_State *L, int argc, char **argv) {
  static const luaL_Reg functions[] = {
      {"fail", host_fail}, {"stop", host_stop}, {"fork", host_fork}, {NULL, NULL}};
  luaL_openlibs(L);
  luaL_newlib(L, functions);
  lua_setglobal(L, "host");
  lua_newtable(L);
  for (int i = 1; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - 1);
  }
  lua_setglobal(L, "arg");
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_lumo_core);
  lua_setfield(L, -2, "lumo.core");
  lua_pop(L, 1);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s SCRIPT [ARGUMENT…]\n", argv[0]);
    return 2;
  }
  lua_State *L = lua_newstate(allocate, NULL);
  if (!L) return 2;
  open_host(L, argc, argv);
  lua_pushcfunction(L, on_error);
  bool ok = luaL_loadfile(L, argv[1]) == LUA_OK && lua_pcall(L, 0, 1, 1) == LUA_OK;
  if (!ok) fprintf(stderr, "%s\n", lua_tostring(L, -1));
  bool good = ok && lua_toboolean(L, -1); /* a script returns whether all went well */
  lua_close(L);
  return good ? 0 : 1;
}
