/* A model's compiled columns as a userdata. Its companion table holds, by column number, the defaults that
 * are Lua values, and below 0 the functions of columns. */
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

/* The kinds of functions: their names in a definition. */
static const char *const function_names[] = {"prepare", "consume", "serialize", "complete"};
enum { FUNCTION_KINDS = sizeof function_names / sizeof *function_names };

/* Where the companion table has a column's function; `kind` counts from 0. */
static int function_slot(uint32_t column, int kind) {
  return -1 - (int)column * FUNCTION_KINDS - kind;
}

void lumo_push_column_function(lua_State *L, int i, uint32_t column, int function) {
  int kind = 0;
  while (function >> (kind + 1)) kind++;
  lumo_getuv(L, i);
  lua_rawgeti(L, -1, function_slot(column, kind));
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

static void add_columns(lua_State *L, int list, lumo_schema *schema, int definitions);

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

/* Which functions the definition has. */
static uint8_t functions_of(lua_State *L, int definition) {
  uint8_t functions = 0;
  for (int kind = 0; kind < FUNCTION_KINDS; kind++)
    if (flag_field(L, definition, function_names[kind])) functions |= (uint8_t)(1 << kind);
  return functions;
}

/* `list` is a list of column definitions. `definitions`, unless it is 0 as for columns inside of others, is a
 * table that gets them by name. */
static void add_columns(lua_State *L, int list, lumo_schema *schema, int definitions) {
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
    if (definitions) {
      column->functions = functions_of(L, definition);
      lua_pushvalue(L, definition);
      lua_setfield(L, definitions, name);
    }
    lua_pop(L, 1);
  }
}

/* Puts what a column's definition (on top of the stack) has for Lua into the companion table. */
static void keep_for_lua(lua_State *L, schema_box *box, const lumo_column *column, int companion) {
  int definition = lua_gettop(L);
  lua_getfield(L, definition, "default");
  if (!lua_isnil(L, -1)) box->defaults = true;
  lua_rawseti(L, companion, (int)column->index + 1);
  for (int kind = 0; kind < FUNCTION_KINDS; kind++) {
    if (!(column->functions & 1 << kind)) continue;
    lua_getfield(L, definition, function_names[kind]);
    lua_rawseti(L, companion, function_slot(column->index, kind));
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
 * auto_update, default, prepare, consume, serialize, complete, of, columns }, … } } */
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
  lua_newtable(L); /* 3: definitions by name */
  lua_getfield(L, 1, "columns");
  add_columns(L, 4, box->schema, 3);
  if (!lumo_schema_seal(box->schema, &error)) lumo_raise(L, &error);
  lua_newtable(L); /* 5: the companion, by number, as sealing orders the columns */
  for (uint32_t i = 0; i < box->schema->count; i++) {
    lua_getfield(L, 3, box->schema->columns[i]->name);
    keep_for_lua(L, box, box->schema->columns[i], 5);
    lua_pop(L, 1);
  }
  lumo_setuv(L, 2);
  lua_settop(L, 2);
  return 1;
}

/* The attribute names in the order in which documents are written. */
static int schema_names(lua_State *L) {
  push_names(L, lumo_check_schema(L, 1));
  return 1;
}

/* core.schema_check(schema, path, value): raises E_CAST for what the column at the path cannot hold. */
static int schema_check(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  size_t len;
  const lumo_schema *schema = lumo_check_schema(L, 1);
  const char *path = luaL_checklstring(L, 2, &len);
  const lumo_column *column;
  lua_settop(L, 3);
  lumo_buf *out = lumo_push_buffer(L);
  if (!lumo_schema_resolve(schema, path, len, out, &column, &error)) lumo_raise(L, &error);
  lumo_place place = {.model = schema->model, .key = path, .key_len = len};
  lumo_encode(L, 3, column, "", 0, NULL, out, &place, LUMO_ENCODE_DATA);
  lumo_check_buffer(L, out);
  return 0;
}

void lumo_open_schema(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__gc", schema_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"schema", schema_new}, {"schema_names", schema_names}, {"schema_check", schema_check}, {NULL, NULL}};
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
