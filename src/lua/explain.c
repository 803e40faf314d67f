/* How the server answers the commands of a plan, for Lua. */
#include "../core/mem.h"
#include "private.h"

/* core.plan_inspect(plan, verbosity or nil, dry, refuses): see lumo_inspect_options. */
static int plan_inspect(lua_State *L) {
  static const char *const verbosities[] = {"queryPlanner", "executionStats", "allPlansExecution", NULL};
  lumo_plan *plan = lumo_check_any_plan(L, 1);
  lumo_inspect_options options = {.dry = lua_toboolean(L, 3), .refuses = lua_toboolean(L, 4)};
  if (!lua_isnoneornil(L, 2)) options.verbosity = verbosities[luaL_checkoption(L, 2, NULL, verbosities)];
  if (lumo_plan_inspect(plan, &options)) return 0;
  lumo_error error;
  lumo_error_init(&error);
  lumo_error_memory(&error);
  return lumo_raise(L, &error);
}

/* What a plan has inspected, between its C memory and the table. */
typedef struct {
  lumo_inspected *items;
  size_t count;
} items_box;

static int items_gc(lua_State *L) {
  items_box *box = lua_touserdata(L, 1);
  lumo_inspected_free(box->items, box->count);
  *box = (items_box){0};
  return 0;
}

static items_box *push_items(lua_State *L) {
  items_box *box = lumo_newud(L, sizeof *box);
  *box = (items_box){0};
  if (luaL_newmetatable(L, "lumo.inspected")) {
    lua_pushcfunction(L, items_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return box;
}

/* Pushes the elements of an array as a list. */
static void push_elements(lua_State *L, const lumo_buf *elements) {
  lumo_iter it = lumo_iter_elements(elements);
  lua_newtable(L);
  for (int n = 1; lumo_iter_next(&it); n++) {
    lumo_push_value(L, &it.value);
    lua_rawseti(L, -2, n);
  }
}

static void set_boolean(lua_State *L, const char *name, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, int64_t value) {
  lumo_push_int64(L, value);
  lua_setfield(L, -2, name);
}

static void push_item(lua_State *L, const lumo_inspected *item) {
  const lumo_explanation *said = &item->explanation;
  lua_createtable(L, 0, 16);
  lua_pushstring(L, item->name);
  lua_setfield(L, -2, "name");
  lua_pushstring(L, item->collection);
  lua_setfield(L, -2, "collection");
  push_elements(L, &item->fields);
  lua_setfield(L, -2, "fields");
  push_elements(L, &said->indexes);
  lua_setfield(L, -2, "indexes");
  push_elements(L, &said->joins);
  lua_setfield(L, -2, "joins");
  set_boolean(L, "filtered", item->filtered);
  set_boolean(L, "scans", said->scans);
  set_boolean(L, "sorts_in_memory", said->sorts);
  set_boolean(L, "covered", said->covered);
  set_boolean(L, "empty", said->empty);
  if (said->counted) {
    set_number(L, "keys_examined", said->keys);
    set_number(L, "documents_examined", said->documents);
    set_number(L, "returned", said->returned);
  }
  lumo_push_document(L, item->reply, item->reply_len);
  lua_setfield(L, -2, "reply");
}

/* core.plan_inspected(plan): the commands since the last call, as a list. */
static int plan_inspected(lua_State *L) {
  lumo_plan *plan = lumo_check_any_plan(L, 1);
  items_box *box = push_items(L);
  lumo_plan_inspected(plan, &box->items, &box->count);
  lua_createtable(L, (int)box->count, 0);
  for (size_t i = 0; i < box->count; i++) {
    push_item(L, &box->items[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.inspected_forget() */
static int inspected_forget(lua_State *L) {
  (void)L;
  lumo_inspected_forget();
  return 0;
}

void lumo_open_explain(lua_State *L) {
  static const luaL_Reg functions[] = {{"plan_inspect", plan_inspect},
                                       {"plan_inspected", plan_inspected},
                                       {"inspected_forget", inspected_forget},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
