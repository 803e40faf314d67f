/* Tables of values that become new records: each is written as the block that its record holds, the places of
 * its columns and its document. */
#include <string.h>

#include "../core/record.h"
#include "../core/text.h"
#include "private.h"

/* A call that makes records, and the row that it is at. */
typedef struct row {
  const lumo_schema *schema;
  bool id_is_primary;      /* no column is called "id": the primary one answers to it */
  int klass, schema_index; /* stack places */
  int values;              /* of the row's table */
  int first;               /* of the first column's value; behind it the others', nil where there is none */
  bool unknown;            /* the table has keys that name no column */
  lumo_buf *buf;
  int64_t
      now; /* >= 0: it is about to be inserted: a missing ObjectId and the automatic dates are filled in */
  uint16_t connection;
} row;

/* ---- the values of a row, by column ---- */

static int place_of(const row *at, const lumo_column *column) {
  return at->first + (int)column->index;
}

static bool is_id(const row *at, const char *name, size_t len) {
  return at->id_is_primary && len == 2 && memcmp(name, "id", 2) == 0;
}

/* The value on the top of the stack, of the key below it, goes to the column that the key names. */
static void place_value(lua_State *L, row *at) {
  const lumo_column *column = NULL;
  size_t len;
  if (lua_type(L, -2) == LUA_TSTRING) {
    const char *name = lua_tolstring(L, -2, &len);
    column = lumo_schema_find(at->schema, name, len);
    if (!column && is_id(at, name, len)) {
      column = at->schema->columns[at->schema->primary];
      if (!lua_isnil(L, place_of(at, column))) { /* its own name has come before */
        lua_pop(L, 1);
        return;
      }
    }
  }
  if (!column) {
    at->unknown = true;
    lua_pop(L, 1);
    return;
  }
  /* Of many rows little is in a cache, and texts will be read soon. */
  if (lua_type(L, -1) == LUA_TSTRING) __builtin_prefetch(lua_topointer(L, -1));
  lua_replace(L, place_of(at, column));
}

/* Pushes the values of all columns. One walk of the table also finds what names no column. */
static void push_values(lua_State *L, row *at) {
  at->first = lua_gettop(L) + 1;
  at->unknown = false;
  luaL_checkstack(L, (int)at->schema->count + LUA_MINSTACK, NULL);
  lua_settop(L, at->first + (int)at->schema->count); /* the last is the first key: nil */
  while (lua_next(L, at->values)) place_value(L, at);
}

/* Refuses names that no column has. */
static void check_names(lua_State *L, const row *at) {
  const lumo_schema *schema = at->schema;
  for (lua_pushnil(L); lua_next(L, at->values); lua_pop(L, 1)) {
    size_t len;
    if (lua_type(L, -2) != LUA_TSTRING)
      lumo_raise_code(L, "E_ARGUMENT", "the name of an attribute is a string, got %s", luaL_typename(L, -2));
    const char *name = lua_tolstring(L, -2, &len);
    if (lumo_schema_find(schema, name, len) || is_id(at, name, len)) continue;
    lua_getfield(L, at->klass, "names");
    lua_pushvalue(L, -3);
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1))
      lumo_raise_code(L, "E_ARGUMENT", "\"%s\" of a \"%s\" record is not an attribute", name, schema->model);
    lumo_check_undeclared(L, schema, name, len, lua_gettop(L)); /* the value is checked when it is written */
    lua_pop(L, 2);
  }
}

/* Defaults for what the row lacks. Their functions run before anything is written. */
static void fill_defaults(lua_State *L, const row *at) {
  if (!lumo_schema_has_defaults(L, at->schema_index)) return;
  lumo_getuv(L, at->schema_index);
  for (uint32_t i = 0; i < at->schema->count; i++) {
    if (!lua_isnil(L, at->first + (int)i)) continue;
    lua_rawgeti(L, -1, (int)i + 1);
    if (lua_isfunction(L, -1)) lumo_call_column_function(L, 0);
    lua_replace(L, at->first + (int)i);
  }
  lua_pop(L, 1);
}

/* ---- the document ---- */

/* The table at `value`, the row's value of a column of columns, gives way to a copy that has their defaults.
 */
static void complete_value(lua_State *L, const row *at, const lumo_column *column, int value) {
  lumo_push_column_function(L, at->schema_index, column->index, LUMO_COLUMN_COMPLETE);
  lua_pushvalue(L, value);
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushboolean(L, 1);
  lumo_call_column_function(L, 4);
  lua_replace(L, value);
}

/* Appends the element of a column if it is to have one. Values that a function prepares for storing are left
 * out: they are assigned once there is a record. */
static void encode_column(lua_State *L, const row *at, const lumo_column *column) {
  int value = place_of(at, column);
  if (column->functions & LUMO_COLUMN_PREPARE) return;
  if ((column->functions & LUMO_COLUMN_COMPLETE) && lua_istable(L, value))
    complete_value(L, at, column, value);
  if (!lua_isnil(L, value)) {
    lumo_place place = {.model = at->schema->model, .key = column->name, .key_len = column->name_len};
    if (column->primary && lumo_is_null(L, value)) lumo_raise_cast(L, &place, column, value, NULL);
    lumo_encode(L, value, column, column->stored, column->stored_len, NULL, at->buf, &place,
                LUMO_ENCODE_DATA);
  } else if (at->now >= 0 && column->primary && column->type == LUMO_OBJECTID) {
    uint8_t id[12];
    lumo_objectid_new(id);
    lumo_bson_objectid(at->buf, column->stored, column->stored_len, id);
  } else if (at->now >= 0 && (column->auto_create || column->auto_update)) {
    lumo_bson_date(at->buf, column->stored, column->stored_len, at->now);
  }
}

/* Appends the undeclared attributes of a row; check_names has let them pass. */
static void encode_undeclared(lua_State *L, const row *at) {
  for (lua_pushnil(L); lua_next(L, at->values); lua_pop(L, 1)) {
    size_t len;
    const char *name = lua_tolstring(L, -2, &len);
    if (lumo_schema_find(at->schema, name, len) || is_id(at, name, len)) continue;
    lumo_place place = {.model = at->schema->model, .key = name, .key_len = len};
    lumo_encode(L, -1, NULL, name, len, NULL, at->buf, &place, LUMO_ENCODE_DATA);
  }
}

/* Fills the buffer with the block of the row: places, document. */
static void encode_row(lua_State *L, const row *at) {
  const lumo_schema *schema = at->schema;
  lumo_buf *buf = at->buf;
  size_t places = schema->count * sizeof(uint32_t);
  lumo_buf_clear(buf);
  if (!lumo_buf_reserve(buf, places)) lumo_check_buffer(L, buf);
  memset(buf->data, 0, places);
  buf->len = places;
  lumo_bson_begin(buf);
  for (uint32_t i = 0; i < schema->count; i++) {
    uint32_t place = (uint32_t)(buf->len - places);
    encode_column(L, at, schema->columns[i]);
    if (buf->len > places + place) memcpy(buf->data + i * sizeof place, &place, sizeof place);
  }
  if (at->unknown) {
    check_names(L, at);
    encode_undeclared(L, at);
  }
  lumo_bson_end(buf, places);
  lumo_check_buffer(L, buf);
}

/* ---- the record ---- */

/* Assigns the new record on top of the stack the values of its row that are prepared when it is stored. */
static void assign_unprepared(lua_State *L, const row *at) {
  int i = lua_gettop(L);
  for (uint32_t n = 0; n < at->schema->count; n++) {
    const lumo_column *column = at->schema->columns[n];
    if (!(column->functions & LUMO_COLUMN_PREPARE) || lua_isnil(L, place_of(at, column))) continue;
    lua_pushvalue(L, place_of(at, column));
    lumo_put_attribute(L, i, lua_touserdata(L, i), n);
  }
}

/* Puts the record of a row in the place of its values, which are on top of the stack. */
static void make_record(lua_State *L, row *at) {
  at->values = lua_gettop(L);
  if (!lua_istable(L, at->values)) lumo_raise_argument(L, "new", 1, "a table of attributes", at->values);
  push_values(L, at);
  fill_defaults(L, at);
  encode_row(L, at);
  lumo_push_local(L, at->klass, at->schema, at->buf, at->connection);
  assign_unprepared(L, at);
  lua_replace(L, at->values);
  lua_settop(L, at->values);
}

/* The arguments are (class, row or rows, connection number, now or nil). Pushes two things. */
static row begin(lua_State *L) {
  row at = {.schema = lumo_class_schema(L, 1), .klass = 1, .schema_index = 3};
  at.id_is_primary = !lumo_schema_find(at.schema, "id", 2);
  at.connection = (uint16_t)luaL_optinteger(L, 3, 0);
  at.now = lua_isnoneornil(L, 4) ? -1 : (int64_t)luaL_checknumber(L, 4);
  lua_settop(L, 2);
  lua_rawgeti(L, 1, 1);
  at.buf = lumo_lend_scratch(L);
  return at;
}

/* core.record_new(class, values or nil, connection number, now or nil): a local record, not stored yet. */
static int record_new(lua_State *L) {
  row at = begin(L);
  if (lua_isnil(L, 2))
    lua_newtable(L);
  else
    lua_pushvalue(L, 2);
  make_record(L, &at);
  lumo_return_scratch(at.buf);
  return 1;
}

/* core.records_new(class, rows, connection number, now or nil): the same of a list of tables. */
static int records_new(lua_State *L) {
  row at = begin(L);
  int count = (int)lua_rawlen(L, 2);
  lua_createtable(L, count, 0); /* 5 */
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, i);
    make_record(L, &at);
    lua_rawseti(L, 5, i);
  }
  lumo_return_scratch(at.buf);
  return 1;
}

/* core.record_check(class, values): raises what record_new would raise for the values, and makes nothing; no
 * function of a column is called. */
static int record_check(lua_State *L) {
  row at = begin(L);
  lua_pushvalue(L, 2);
  at.values = lua_gettop(L);
  if (!lua_istable(L, at.values)) lumo_raise_argument(L, "new", 1, "a table of attributes", at.values);
  push_values(L, &at);
  for (uint32_t i = 0; i < at.schema->count; i++) {
    const lumo_column *column = at.schema->columns[i];
    lumo_place place = {.model = at.schema->model, .key = column->name, .key_len = column->name_len};
    if ((column->functions & LUMO_COLUMN_PREPARE) || lua_isnil(L, place_of(&at, column))) continue;
    lumo_buf_clear(at.buf);
    lumo_encode(L, place_of(&at, column), column, "", 0, NULL, at.buf, &place, LUMO_ENCODE_DATA);
  }
  if (at.unknown) check_names(L, &at);
  lumo_return_scratch(at.buf);
  return 0;
}

/* core.list_size(table): how many elements the list has; nil: it has holes, or is no list. */
static int list_size(lua_State *L) {
  int count = 0;
  luaL_checktype(L, 1, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) count++;
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, 1, i);
    if (lua_isnil(L, -1)) return 1;
    lua_pop(L, 1);
  }
  lua_pushinteger(L, count);
  return 1;
}

void lumo_open_row(lua_State *L) {
  static const luaL_Reg functions[] = {{"record_new", record_new},
                                       {"records_new", records_new},
                                       {"record_check", record_check},
                                       {"list_size", list_size},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
