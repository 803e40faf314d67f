/* A model's compiled columns as a userdata. Its companion table holds, by column number, the defaults that
 * are Lua values, and at [0] the list of the attribute names. */
#include <string.h>

#include "private.h"

typedef struct {
  lumo_schema *schema;
  bool defaults; /* the companion table has any */
} schema_box;

const lumo_schema *lumo_check_schema(lua_State *L, int i) {
  schema_box *box = lumo_test(L, i, &LUMO_MT_SCHEMA);
  if (!box || !box->schema) lumo_raise_code(L, "E_ARGUMENT", "a compiled schema is expected");
  return box->schema;
}

bool lumo_schema_has_defaults(lua_State *L, int i) {
  return ((schema_box *)lua_touserdata(L, i))->defaults;
}

void lumo_push_names(lua_State *L, int i) {
  lumo_getuv(L, i);
  lua_rawgeti(L, -1, 0);
  lua_remove(L, -2);
}

static int schema_gc(lua_State *L) {
  schema_box *box = lua_touserdata(L, 1);
  lumo_schema_free(box->schema);
  box->schema = NULL;
  return 0;
}

static const char *text_field(lua_State *L, int definition, const char *name) {
  lua_getfield(L, definition, name);
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  lua_pop(L, 1); /* the table keeps the string alive */
  return text;
}

static bool flag_field(lua_State *L, int definition, const char *name) {
  lua_getfield(L, definition, name);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

static lumo_type type_field(lua_State *L, int definition) {
  lumo_type type = LUMO_ANY;
  const char *text = text_field(L, definition, "type");
  if (!text || !lumo_type_parse(text, &type))
    lumo_raise_code(L, "E_ARGUMENT", "\"%s\" is not a column type", text ? text : "nil");
  return type;
}

static void add_columns(lua_State *L, int definition, lumo_schema *schema, int defaults);

/* What an array's elements and an object's fields are. The parts are put into the column as soon as they are
 * made, so the schema's owner frees them whatever is raised. */
static void add_inner(lua_State *L, int definition, const lumo_schema *schema, lumo_column *column) {
  lumo_error error;
  lumo_error_init(&error);
  lua_getfield(L, definition, "of");
  if (lua_istable(L, -1)) {
    int inner = lua_gettop(L);
    column->of = lumo_column_new(column->name, column->stored, type_field(L, inner), &error);
    if (!column->of) lumo_raise(L, &error);
    add_inner(L, inner, schema, column->of);
  }
  lua_pop(L, 1);
  lua_getfield(L, definition, "columns");
  if (lua_istable(L, -1)) {
    column->fields = lumo_schema_new(schema->model, NULL, schema->strict, &error);
    if (!column->fields) lumo_raise(L, &error);
    add_columns(L, lua_gettop(L), column->fields, 0);
    if (!lumo_schema_seal(column->fields, &error)) lumo_raise(L, &error);
  }
  lua_pop(L, 1);
}

/* `list` is a list of column definitions; defaults, if not 0, the table for their default values. */
static void add_columns(lua_State *L, int list, lumo_schema *schema, int defaults) {
  lumo_error error;
  lumo_error_init(&error);
  luaL_checkstack(L, 10, "too many nested columns");
  for (int i = 1; i <= (int)lua_rawlen(L, list); i++) {
    lua_rawgeti(L, list, i);
    int definition = lua_gettop(L);
    const char *name = text_field(L, definition, "name");
    lumo_column *column =
        lumo_schema_add(schema, name, text_field(L, definition, "stored"),
                        text_field(L, definition, "serialized"), type_field(L, definition), &error);
    if (!column) lumo_raise(L, &error);
    column->primary = flag_field(L, definition, "primary");
    column->auto_create = flag_field(L, definition, "auto_create");
    column->auto_update = flag_field(L, definition, "auto_update");
    add_inner(L, definition, schema, column);
    if (defaults) {
      lua_getfield(L, definition, "default");
      lua_setfield(L, defaults, name);
    }
    lua_pop(L, 1);
  }
}

static void push_names(lua_State *L, const lumo_schema *schema) {
  lua_createtable(L, (int)schema->count, 0);
  for (uint32_t i = 0; i < schema->count; i++) {
    lua_pushlstring(L, schema->columns[i]->name, schema->columns[i]->name_len);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

/* core.schema{ model, collection, strict, columns = { { name, stored, serialized, type, primary, auto_create,
 * auto_update, default, of, columns }, … } } */
static int schema_new(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  schema_box *box = lumo_newud(L, sizeof *box);
  *box = (schema_box){0};
  lumo_get(L, &LUMO_MT_SCHEMA);
  lua_setmetatable(L, 2);
  box->schema = lumo_schema_new(text_field(L, 1, "model"), text_field(L, 1, "collection"),
                                flag_field(L, 1, "strict"), &error);
  if (!box->schema) lumo_raise(L, &error);
  lua_newtable(L); /* 3: default values by name */
  lua_getfield(L, 1, "columns");
  add_columns(L, 4, box->schema, 3);
  if (!lumo_schema_seal(box->schema, &error)) lumo_raise(L, &error);
  lua_newtable(L); /* 5: the same by number, as sealing orders the columns */
  for (uint32_t i = 0; i < box->schema->count; i++) {
    lua_getfield(L, 3, box->schema->columns[i]->name);
    if (!lua_isnil(L, -1)) box->defaults = true;
    lua_rawseti(L, 5, (int)i + 1);
  }
  push_names(L, box->schema);
  lua_rawseti(L, 5, 0);
  lumo_setuv(L, 2);
  lua_settop(L, 2);
  return 1;
}

/* The attribute names in the order in which documents are written. */
static int schema_names(lua_State *L) {
  push_names(L, lumo_check_schema(L, 1));
  return 1;
}

void lumo_open_schema(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__gc", schema_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"schema", schema_new}, {"schema_names", schema_names}, {NULL, NULL}};
  lumo_metatable(L, &LUMO_MT_SCHEMA, "lumo.schema", NULL, metamethods);
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
  lua_newtable(L); /* the names of the types, as a set */
  for (int type = LUMO_ANY; type <= LUMO_OBJECT; type++) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, lumo_type_name((lumo_type)type));
  }
  lua_setfield(L, -2, "column_types");
}
