/* The watcher of an embedded server for lumo/embedded.lua. A handle's end is its server's end. */
#include "private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../embedded/watcher.h"

extern char **environ;

static const char MT_WATCHER = 0;

static lumo_watcher *check_watcher(lua_State *L, int i) {
  lumo_watcher *watcher = lumo_test(L, i, &MT_WATCHER);
  if (watcher == NULL) lumo_raise_argument(L, "embedded", i, "the handle of an embedded server", i);
  return watcher;
}

static const char *check_path(lua_State *L, int i) {
  size_t length;
  const char *path = luaL_checklstring(L, i, &length);
  if (strlen(path) != length) lumo_raise_code(L, "E_ARGUMENT", "a path cannot hold a NUL byte");
  return path;
}

/* Who has a locked folder; nil while its server is starting or stopping, which passes. */
static void push_holder(lua_State *L, pid_t holder) {
  if (holder == getpid())
    lua_pushliteral(L, "this process");
  else if (holder > 0 && (kill(holder, 0) == 0 || errno == EPERM))
    lua_pushfstring(L, "process %d", (int)holder);
  else
    lua_pushnil(L);
}

/* (path or nil) → handle, folder; when another server has the folder: nil, who has it. */
static int embedded_open(lua_State *L) {
  const char *path = lua_isnoneornil(L, 1) ? NULL : check_path(L, 1);
  lumo_watcher *watcher = lumo_newud(L, sizeof *watcher);
  lumo_watcher_init(watcher);
  lumo_get(L, &MT_WATCHER);
  lua_setmetatable(L, -2);
  lumo_error error;
  lumo_error_init(&error);
  pid_t holder = 0;
  switch (lumo_watcher_open(watcher, path, &holder, &error)) {
  case LUMO_FOLDER_OPENED: lua_pushstring(L, watcher->folder); return 2;
  case LUMO_FOLDER_LOCKED:
    lua_pushnil(L);
    push_holder(L, holder);
    return 2;
  default: return lumo_raise(L, &error);
  }
}

/* Pushes the array of a list's strings, which stays valid as long as both are on the stack. */
static char **push_arguments(lua_State *L, int list) {
  size_t count = lua_rawlen(L, list);
  char **argv = lumo_newud(L, (count + 1) * sizeof *argv);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, list, (int)i + 1);
    if (lua_type(L, -1) != LUA_TSTRING) /* a number's text would not be kept by the list */
      lumo_raise_code(L, "E_ARGUMENT", "the arguments of an embedded server are strings");
    argv[i] = (char *)check_path(L, -1);
    lua_pop(L, 1);
  }
  argv[count] = NULL;
  return argv;
}

/* The environment but for libraries that were to be loaded into this process only, such as a sanitizer's. */
static char **push_environment(lua_State *L) {
  size_t count = 0, kept = 0;
  while (environ[count] != NULL) count++;
  char **envp = lumo_newud(L, (count + 1) * sizeof *envp);
  for (size_t i = 0; i < count; i++)
    if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0) envp[kept++] = environ[i];
  envp[kept] = NULL;
  return envp;
}

/* (handle, {program, argument, …}) → the server's pid */
static int embedded_run(lua_State *L) {
  lumo_watcher *watcher = check_watcher(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  char **argv = push_arguments(L, 2), **envp = push_environment(L);
  lumo_error error;
  lumo_error_init(&error);
  if (!lumo_watcher_run(watcher, argv, envp, &error)) return lumo_raise(L, &error);
  lua_pushinteger(L, watcher->server);
  return 1;
}

/* (handle, milliseconds) → nil while the server runs, else how it ended, and its exit status if it had one */
static int embedded_wait(lua_State *L) {
  lumo_watcher *watcher = check_watcher(L, 1);
  if (!lumo_watcher_wait(watcher, (int)luaL_checkinteger(L, 2))) return 0;
  if (watcher->status != -1 && WIFEXITED(watcher->status)) {
    lua_pushfstring(L, "exit status %d", WEXITSTATUS(watcher->status));
    lua_pushinteger(L, WEXITSTATUS(watcher->status));
    return 2;
  }
  if (watcher->status != -1)
    lua_pushfstring(L, "signal %d, %s", WTERMSIG(watcher->status), strsignal(WTERMSIG(watcher->status)));
  else
    lua_pushliteral(L, "its watcher was killed");
  return 1;
}

/* (handle) Stops the server; false in a fork of its owner, which cannot. Also the handle's __gc. */
static int embedded_close(lua_State *L) {
  lumo_watcher *watcher = check_watcher(L, 1);
  bool allowed = watcher->owner == 0 || watcher->owner == getpid();
  if (allowed) lumo_watcher_close(watcher);
  lua_pushboolean(L, allowed);
  return 1;
}

/* () → a TCP port of 127.0.0.1 that is free now */
static int embedded_port(lua_State *L) {
  int port = lumo_watcher_port();
  if (port == 0) return lumo_raise_code(L, "E_NETWORK", "no port of 127.0.0.1 is free: %s", strerror(errno));
  lua_pushinteger(L, port);
  return 1;
}

/* (path) → whether this is a program that may be run */
static int embedded_executable(lua_State *L) {
  const char *path = check_path(L, 1);
  struct stat info;
  lua_pushboolean(L, stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0);
  return 1;
}

static const luaL_Reg functions[] = {
    {"embedded_open", embedded_open},
    {"embedded_run", embedded_run},
    {"embedded_wait", embedded_wait},
    {"embedded_close", embedded_close},
    {"embedded_port", embedded_port},
    {"embedded_executable", embedded_executable},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {{"__gc", embedded_close}, {NULL, NULL}};

void lumo_open_embedded(lua_State *L) {
  lumo_metatable(L, &MT_WATCHER, "lumo.embedded", NULL, metamethods);
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
