/* Connections as userdata, and the watching of commands. What users see as a connection is a table of
 * lua/lumo/connection.lua around one. */
#include <string.h>

#include "../core/mem.h"
#include "private.h"

typedef struct {
  lumo_connection *connection;
} connection_box;

lumo_connection *lumo_check_connection(lua_State *L, int i) {
  connection_box *box = lumo_test(L, i, &LUMO_MT_CONNECTION);
  if (!box || !box->connection) lumo_raise_code(L, "E_ARGUMENT", "a connection is expected");
  return box->connection;
}

static int connection_gc(lua_State *L) {
  connection_box *box = lua_touserdata(L, 1);
  if (box->connection) lumo_connection_unref(box->connection);
  box->connection = NULL;
  return 0;
}

/* core.connection_new(uri, { database, app_name, pool_size, timeout_ms, policy }) */
static int connection_new(lua_State *L) {
  lumo_error error;
  lumo_connection_options options = {0};
  lumo_error_init(&error);
  const char *uri = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_getfield(L, 2, "database");
  options.database = lua_tostring(L, -1);
  lua_getfield(L, 2, "app_name");
  options.app_name = lua_tostring(L, -1);
  lua_getfield(L, 2, "pool_size");
  options.pool_size = (int32_t)lua_tointeger(L, -1);
  lua_getfield(L, 2, "timeout_ms");
  options.timeout_ms = (int32_t)lua_tointeger(L, -1);
  lua_getfield(L, 2, "policy");
  options.policy = lumo_opt_policy(L, -1);
  connection_box *box = lumo_newud(L, sizeof *box);
  box->connection = NULL;
  lumo_get(L, &LUMO_MT_CONNECTION);
  lua_setmetatable(L, -2);
  box->connection = lumo_connection_new(uri, &options, &error);
  if (!box->connection) lumo_raise(L, &error);
  return 1;
}

static int connection_close(lua_State *L) {
  lumo_connection_close(lumo_check_connection(L, 1));
  return 0;
}

static int connection_database(lua_State *L) {
  lua_pushstring(L, lumo_connection_database(lumo_check_connection(L, 1)));
  return 1;
}

void lumo_push_server(lua_State *L, const lumo_server_info *info) {
  static const char *const topologies[] = {"unknown", "single", "replica_set", "sharded"};
  lua_createtable(L, 0, 4);
  lua_pushstring(L, topologies[info->topology]);
  lua_setfield(L, -2, "topology");
  lua_pushinteger(L, info->wire_version);
  lua_setfield(L, -2, "wire_version");
  lua_createtable(L, 0, 1);
  lua_pushboolean(L, info->transactions);
  lua_setfield(L, -2, "transactions");
  lua_setfield(L, -2, "capabilities");
  lua_pushstring(L, info->host);
  lua_setfield(L, -2, "host");
}

/* core.connection_server(connection): { topology, wire_version, host, capabilities = { transactions } } */
static int connection_server(lua_State *L) {
  lumo_error error;
  lumo_server_info info;
  lumo_error_init(&error);
  if (!lumo_connection_server(lumo_check_connection(L, 1), &info, &error)) lumo_raise(L, &error);
  lumo_push_server(L, &info);
  return 1;
}

/* core.connection_socket_timeout(connection): in milliseconds. */
static int connection_socket_timeout(lua_State *L) {
  lua_pushinteger(L, lumo_connection_socket_timeout(lumo_check_connection(L, 1)));
  return 1;
}

/* core.connection_stats(connection): { threads, running, waiting, dropped } */
static int connection_stats(lua_State *L) {
  lumo_workers_stats stats;
  lumo_connection_workers_count(lumo_check_connection(L, 1), &stats);
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, (lua_Integer)stats.threads);
  lua_setfield(L, -2, "threads");
  lua_pushinteger(L, (lua_Integer)stats.running);
  lua_setfield(L, -2, "running");
  lua_pushinteger(L, (lua_Integer)stats.queued);
  lua_setfield(L, -2, "waiting");
  lua_pushinteger(L, (lua_Integer)stats.dropped);
  lua_setfield(L, -2, "dropped");
  return 1;
}

/* The first key of a command is its name, and a plain table of several has no first one. */
static void check_keys(lua_State *L, int index) {
  int keys = 0;
  if (lua_getmetatable(L, index)) { /* a lumo.ordered; any other table with one is refused by its encoding */
    lua_pop(L, 1);
    return;
  }
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) keys++;
  if (keys > 1)
    lumo_raise_code(
        L, "E_ARGUMENT",
        "command takes several keys as lumo.ordered{ { name, value }, … }: the first is its name");
}

/* core.command_plan(database or nil, document, writes) */
static int command_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const char *database = luaL_optstring(L, 1, NULL);
  if (!lua_istable(L, 2)) lumo_raise_argument(L, "command", 1, "a command document", 2);
  check_keys(L, 2);
  bool writes = lua_toboolean(L, 3);
  lumo_place place = {.key = "command", .key_len = 7};
  lumo_buf *command = lumo_push_buffer(L);
  lumo_encode_document(L, 2, NULL, NULL, command, &place, LUMO_ENCODE_RAW);
  lumo_check_buffer(L, command);
  if (command->len == 5) lumo_raise_code(L, "E_ARGUMENT", "command needs a document that names the command");
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_COMMAND,
                 lumo_command_plan_new("command", database, command, writes, &error), &error);
  return 1;
}

/* core.cursor_plan(name, collection, document): a command that returns a cursor, which is read to its end. */
static int cursor_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const char *name = luaL_checkstring(L, 1), *collection = luaL_checkstring(L, 2);
  lumo_place place = {.key = name, .key_len = strlen(name)};
  lumo_buf *command = lumo_push_buffer(L);
  lumo_encode_document(L, 3, NULL, NULL, command, &place, LUMO_ENCODE_RAW);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_READ,
                 lumo_read_plan_new(name, collection, command, false, false, &error), &error);
  return 1;
}

/* ---- sessions: transactions that several plans share ---- */

typedef struct {
  lumo_session *session;
  bool threaded;
} session_box;

lumo_session *lumo_opt_session(lua_State *L, int i) {
  if (lua_isnoneornil(L, i)) return NULL;
  session_box *box = lumo_test(L, i, &LUMO_MT_SESSION);
  if (!box || !box->session) lumo_raise_code(L, "E_ARGUMENT", "a session is expected");
  return box->session;
}

void lumo_mark_threaded(lua_State *L, int i) {
  session_box *box = lumo_test(L, i, &LUMO_MT_SESSION);
  if (box) box->threaded = true;
}

/* core.session_is_threaded(session): whether jobs of it have been submitted, one of which may still be at
 * work for a coroutine that is gone. */
static int session_is_threaded(lua_State *L) {
  lumo_opt_session(L, 1);
  const session_box *box = lumo_test(L, 1, &LUMO_MT_SESSION);
  lua_pushboolean(L, box && box->threaded);
  return 1;
}

static int session_gc(lua_State *L) {
  session_box *box = lua_touserdata(L, 1);
  lumo_session_unref(box->session);
  box->session = NULL;
  return 0;
}

lumo_session **lumo_prepare_session(lua_State *L) {
  session_box *box = lumo_newud(L, sizeof *box);
  *box = (session_box){0};
  lumo_get(L, &LUMO_MT_SESSION);
  lua_setmetatable(L, -2);
  return &box->session;
}

/* core.session_new(connection, policy or nil): a session with an open transaction. */
static int session_new(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_connection *connection = lumo_check_connection(L, 1);
  const lumo_policy *policy = lumo_opt_policy(L, 2);
  lumo_session **session = lumo_prepare_session(L);
  *session = lumo_session_new(connection, policy, &error);
  if (!*session) lumo_raise(L, &error);
  return 1;
}

static int session_commit(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_session *session = lumo_opt_session(L, 1);
  if (session && !lumo_session_commit(session, &error)) lumo_raise(L, &error);
  return 0;
}

static int session_abort(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_session *session = lumo_opt_session(L, 1);
  if (session && !lumo_session_abort(session, &error)) lumo_raise(L, &error);
  return 0;
}

/* core.session_free(session): aborts what is open and gives the client back. */
static int session_free(lua_State *L) {
  lumo_opt_session(L, 1);
  return session_gc(L);
}

/* The events between their C memory and the table: a userdata owns them meanwhile. */
static int events_gc(lua_State *L) {
  lumo_command_event **events = lua_touserdata(L, 1);
  lumo_free(*events);
  *events = NULL;
  return 0;
}

static int raise_memory(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_error_memory(&error);
  return lumo_raise(L, &error);
}

/* Pushes what is to own the events of a log. */
static lumo_command_event **push_events(lua_State *L) {
  lumo_command_event **events = lumo_newud(L, sizeof *events);
  *events = NULL;
  if (luaL_newmetatable(L, "lumo.command_events")) {
    lua_pushcfunction(L, events_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return events;
}

/* Pushes them as a list of { name, collection, duration_ms, failed }. */
static int push_event_list(lua_State *L, lumo_command_event **events, size_t count) {
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, (*events)[i].name);
    lua_setfield(L, -2, "name");
    if ((*events)[i].collection[0]) {
      lua_pushstring(L, (*events)[i].collection);
      lua_setfield(L, -2, "collection");
    }
    lua_pushnumber(L, (lua_Number)(*events)[i].duration_us / 1000);
    lua_setfield(L, -2, "duration_ms");
    lua_pushboolean(L, (*events)[i].failed);
    lua_setfield(L, -2, "failed");
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.plan_watch(plan): its commands are written down. */
static int plan_watch(lua_State *L) {
  if (!lumo_plan_watch(lumo_check_any_plan(L, 1))) return raise_memory(L);
  return 0;
}

/* core.plan_watched(plan): → those since then, as a list of { name, collection, duration_ms, failed }; the
 * plan's name. Of a plan that a thread was left with: none, nil. */
static int plan_watched(lua_State *L) {
  if (lumo_plan_is_lent(L, 1)) {
    lua_newtable(L);
    return 1;
  }
  lumo_plan *plan = lumo_check_any_plan(L, 1);
  size_t count = 0;
  lumo_command_event **events = push_events(L);
  if (!lumo_plan_watched(plan, events, &count)) return raise_memory(L);
  push_event_list(L, events, count);
  lua_pushstring(L, plan->name);
  return 2;
}

/* core.session_watch(session): the commands that end it are written down. */
static int session_watch(lua_State *L) {
  lumo_session *session = lumo_opt_session(L, 1);
  if (session && !lumo_session_watch(session)) return raise_memory(L);
  return 0;
}

/* core.session_watched(session): those, as plan_watched's. */
static int session_watched(lua_State *L) {
  lumo_session *session = lumo_opt_session(L, 1);
  size_t count = 0;
  lumo_command_event **events = push_events(L);
  if (session && !lumo_session_watched(session, events, &count)) return raise_memory(L);
  return push_event_list(L, events, count);
}

void lumo_open_connection(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__gc", connection_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"connection_new", connection_new},
      {"connection_close", connection_close},
      {"connection_server", connection_server},
      {"connection_database", connection_database},
      {"connection_socket_timeout", connection_socket_timeout},
      {"connection_stats", connection_stats},
      {"command_plan", command_plan},
      {"cursor_plan", cursor_plan},
      {"session_new", session_new},
      {"session_is_threaded", session_is_threaded},
      {"session_commit", session_commit},
      {"session_abort", session_abort},
      {"session_free", session_free},
      {"plan_watch", plan_watch},
      {"plan_watched", plan_watched},
      {"session_watch", session_watch},
      {"session_watched", session_watched},
      {NULL, NULL},
  };
  static const luaL_Reg session_metamethods[] = {{"__gc", session_gc}, {NULL, NULL}};
  lumo_metatable(L, &LUMO_MT_CONNECTION, "lumo.connection", NULL, metamethods);
  lumo_metatable(L, &LUMO_MT_SESSION, "lumo.session", NULL, session_metamethods);
  lua_pop(L, 2);
  luaL_setfuncs(L, functions, 0);
}
