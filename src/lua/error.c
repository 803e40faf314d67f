/* Error objects: tables with one metatable, made here and nowhere else. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../core/mem.h"

/* Registry slots of this file: the protected builder, Lua's own memory message, the folder of lumo's Lua
 * files. */
static const char slot_build, slot_memory, slot_prefix;

/* ---- where the user's code stands ---- */

/* True for a chunk that is one of lumo's own files; `prefix` is NULL until init.lua has told. */
static bool is_own(const lua_Debug *ar, const char *prefix, size_t len) {
  return prefix && ar->source[0] == '@' && strncmp(ar->source + 1, prefix, len) == 0;
}

/* Pushes "file.lua:12" of the innermost Lua function that is not lumo's own, or returns false. */
static bool push_where(lua_State *L) {
  lua_Debug ar;
  size_t len = 0;
  bool found = false;
  lumo_get(L, &slot_prefix);
  const char *prefix = lua_tolstring(L, -1, &len);
  for (int level = 0; !found && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    found = ar.currentline > 0 && !is_own(&ar, prefix, len);
  }
  lua_pop(L, 1);
  if (found) lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
  return found;
}

/* The codes that tell of a mistake in the calling program. */
static bool is_misuse(const char *code) {
  return strcmp(code, "E_ARGUMENT") == 0 || strcmp(code, "E_CAST") == 0 ||
         strcmp(code, "E_NOT_LOADED") == 0 || strcmp(code, "E_MODEL_DELETED") == 0 ||
         strncmp(code, "E_MISSING_", 10) == 0 || strncmp(code, "E_UNDEFINED_", 12) == 0;
}

/* ---- making ---- */

/* Turns the message on the top of the stack into an error object. An E_ARGUMENT's message names the caller's
 * line itself, as Lua's error(…, 2) does; other messages are contractual to the letter, and the line stands
 * beside them. */
static void make_object(lua_State *L, const char *code) {
  int message = lua_gettop(L);
  lua_createtable(L, 0, 4);
  lua_pushstring(L, code);
  lua_setfield(L, -2, "code");
  if (push_where(L)) {
    if (strcmp(code, "E_ARGUMENT") == 0) {
      lua_pushfstring(L, "%s: %s", lua_tostring(L, -1), lua_tostring(L, message));
      lua_replace(L, message);
    }
    lua_setfield(L, -2, "where");
  }
  lua_pushvalue(L, message);
  lua_setfield(L, -2, "message");
  lumo_get(L, &LUMO_MT_ERROR);
  lua_setmetatable(L, -2);
  lua_replace(L, message);
}

static void set_text(lua_State *L, const char *name, const char *text) {
  if (text[0] == '\0') return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

static void set_labels(lua_State *L, uint32_t labels) {
  static const struct {
    uint32_t bit;
    const char *name;
  } names[] = {{LUMO_LABEL_TRANSIENT, "TransientTransactionError"},
               {LUMO_LABEL_UNKNOWN_COMMIT, "UnknownTransactionCommitResult"},
               {LUMO_LABEL_RETRYABLE, "RetryableWriteError"},
               {LUMO_LABEL_RESUMABLE, "ResumableChangeStreamError"}};
  int count = 0;
  if (labels == 0) return;
  lua_newtable(L);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (!(labels & names[i].bit)) continue;
    lua_pushstring(L, names[i].name);
    lua_rawseti(L, -2, ++count);
  }
  lua_setfield(L, -2, "labels");
}

/* The refused value: of an index over one field that value, of a compound one a table by stored name. */
static void push_refused(lua_State *L, const lumo_error *error) {
  lumo_iter it;
  lumo_value only;
  if (lumo_iter_init(&it, error->value, error->value_len) && lumo_iter_next(&it)) {
    only = it.value;
    if (!lumo_iter_next(&it)) {
      lumo_push_value(L, &only);
      return;
    }
  }
  lumo_push_document(L, error->value, error->value_len);
}

static int build(lua_State *L) {
  static const char *const outcomes[] = {"", "not_applied", "applied", "unknown"};
  const lumo_error *error = lua_touserdata(L, 1);
  lua_pushstring(L, error->message);
  make_object(L, error->code);
  set_text(L, "cause", error->cause);
  set_text(L, "op", error->op);
  set_text(L, "ns", error->ns);
  set_text(L, "attribute", error->attribute);
  set_text(L, "key", error->key);
  set_text(L, "outcome", outcomes[error->outcome]);
  set_labels(L, error->labels);
  if (error->value) {
    push_refused(L, error);
    lua_setfield(L, -2, "value");
  }
  if (error->server_code) {
    lua_pushinteger(L, error->server_code);
    lua_setfield(L, -2, "server_code");
  }
  if (error->retryable) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "retryable");
  }
  return 1;
}

/* In a protected call, so that the error's own memory is freed also when Lua has none left; then Lua's memory
 * error is what stands on the stack. */
void lumo_push_error(lua_State *L, lumo_error *error) {
  if (strcmp(error->code, "E_MEMORY") == 0) {
    lumo_get(L, &slot_memory);
  } else {
    lumo_get(L, &slot_build);
    lua_pushlightuserdata(L, error);
    lua_pcall(L, 1, 1, 0);
  }
  lumo_error_reset(error);
}

int lumo_raise(lua_State *L, lumo_error *error) {
  lumo_push_error(L, error);
  lua_error(L);
  __builtin_unreachable();
}

int lumo_raise_code(lua_State *L, const char *code, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_pushstring(L, text);
  make_object(L, code);
  lua_error(L);
  __builtin_unreachable();
}

const char *lumo_typename(lua_State *L, int i) {
  if (lumo_is_null(L, i)) return "lumo.null";
  const char *name = luaL_typename(L, i);
  if (lua_type(L, i) != LUA_TUSERDATA || !lua_getmetatable(L, i)) return name;
  lua_pushliteral(L, "__name");
  lua_rawget(L, -2);
  if (lua_type(L, -1) == LUA_TSTRING) name = lua_tostring(L, -1); /* the metatable keeps it */
  lua_pop(L, 2);
  return name;
}

int lumo_raise_argument(lua_State *L, const char *method, int arg, const char *expected, int index) {
  lumo_raise_code(L, "E_ARGUMENT", "bad argument #%d to \"%s\" (%s expected, got %s)", arg, method, expected,
                  lumo_typename(L, index));
}

int lumo_raise_place(lua_State *L, const char *code, const char *model, const char *attribute,
                     const char *message) {
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_pushstring(L, message);
  make_object(L, code);
  set_text(L, "attribute", attribute);
  if (model) set_text(L, "model", model);
  lua_error(L);
  __builtin_unreachable();
}

/* ---- for Lua ---- */

static bool is_error(lua_State *L, int i) {
  if (lua_type(L, i) != LUA_TTABLE || !lua_getmetatable(L, i)) return false;
  lumo_get(L, &LUMO_MT_ERROR);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

/* core.is_error(v): is it an error object of lumo? */
static int error_is(lua_State *L) {
  lua_pushboolean(L, is_error(L, 1));
  return 1;
}

/* core.is_misuse(error): does it tell of a mistake in the calling program? */
static int error_is_misuse(lua_State *L) {
  const char *code = NULL;
  if (is_error(L, 1)) {
    lua_pushliteral(L, "code");
    lua_rawget(L, 1);
    code = lua_tostring(L, -1);
  }
  lua_pushboolean(L, code && is_misuse(code));
  return 1;
}

/* core.error_new(code, message[, fields]): an error object; the fields are copied into it. */
static int error_new(lua_State *L) {
  const char *code = luaL_checkstring(L, 1);
  luaL_checkstring(L, 2);
  lua_settop(L, 3);
  lua_pushvalue(L, 2);
  make_object(L, code);
  if (lua_isnil(L, 3)) return 1;
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, 3)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, 4);
  }
  return 1;
}

/* core.raise(code, message[, fields]): the same, raised. */
static int error_raise(lua_State *L) {
  error_new(L);
  return lua_error(L);
}

/* core.set_source_prefix(prefix): the folder of lumo's own Lua files, as their chunk names have it, with its
 * last slash. */
static int error_set_source_prefix(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_settop(L, 1);
  lumo_set(L, &slot_prefix);
  return 0;
}

/* core.error_index(fn): fn(error, name) gives the fields that an error object does not have itself. */
static int error_index(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lumo_get(L, &LUMO_MT_ERROR);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "__index");
  return 0;
}

static const char *field_text(lua_State *L, const char *name) {
  lua_pushstring(L, name);
  lua_rawget(L, 1);
  return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

static int error_tostring(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const char *where = field_text(L, "where");
  const char *code = field_text(L, "code");
  const char *message = field_text(L, "message");
  if (!code) code = "E_UNKNOWN"; /* a program may have taken the fields away */
  if (!message) message = "";
  if (where && strncmp(message, where, strlen(where)) != 0)
    lua_pushfstring(L, "%s: %s: %s", where, code, message);
  else
    lua_pushfstring(L, "%s: %s", code, message);
  return 1;
}

static const luaL_Reg metamethods[] = {{"__tostring", error_tostring}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"raise", error_raise},
                                     {"error_new", error_new},
                                     {"is_error", error_is},
                                     {"is_misuse", error_is_misuse},
                                     {"set_source_prefix", error_set_source_prefix},
                                     {"error_index", error_index},
                                     {NULL, NULL}};

void lumo_open_error(lua_State *L) {
  lumo_metatable(L, &LUMO_MT_ERROR, "lumo.error", NULL, metamethods);
  lua_pop(L, 1);
  lua_pushcfunction(L, build);
  lumo_set(L, &slot_build);
  lua_pushliteral(L, "not enough memory");
  lumo_set(L, &slot_memory);
  luaL_setfuncs(L, functions, 0);
}
