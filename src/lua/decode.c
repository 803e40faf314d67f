/* BSON to Lua values. */
#include "private.h"

#include <math.h>
#include <stdio.h>

/* Registry slot of the weak table from tables to the hidden fields of their documents, as BSON; nil until
 * there are some. */
static const char slot_hidden;

/* Slots that one level of nesting needs, the error objects included. */
enum { LEVEL_SLOTS = LUA_MINSTACK };

static void push_value(lua_State *L, const lumo_value *v, int depth);

static void enter(lua_State *L, lumo_iter *it, const lumo_value *v, int depth) {
  if (depth > LUMO_BSON_MAX_DEPTH)
    lumo_raise_code(L, "E_CAST", "a stored value is nested deeper than %d", LUMO_BSON_MAX_DEPTH);
  luaL_checkstack(L, LEVEL_SLOTS, NULL);
  lumo_iter_value(it, v);
}

/* The reader stops at malformed bytes, which must not pass for the end. */
static void leave(lua_State *L, const lumo_iter *it) {
  if (it->bad) lumo_raise_code(L, "E_CAST", "a stored value is not valid BSON");
}

/* Counting first costs less than growing the table. */
static int count_elements(const lumo_value *v) {
  lumo_iter it;
  int count = 0;
  lumo_iter_value(&it, v);
  while (lumo_iter_next(&it)) count++;
  return count;
}

static void mark_array(lua_State *L) {
  lumo_get(L, &LUMO_MT_ARRAY);
  lua_setmetatable(L, -2);
}

static void push_array(lua_State *L, const lumo_value *v, int depth) {
  lumo_iter it;
  int position = 0;
  enter(L, &it, v, depth);
  lua_createtable(L, count_elements(v), 0);
  while (lumo_iter_next(&it)) {
    push_value(L, &it.value, depth + 1);
    lua_rawseti(L, -2, ++position);
  }
  leave(L, &it);
  mark_array(L);
}

static void push_document(lua_State *L, const lumo_value *v, int depth) {
  lumo_iter it;
  enter(L, &it, v, depth);
  lua_createtable(L, 0, count_elements(v));
  while (lumo_iter_next(&it)) {
    lua_pushlstring(L, it.key, it.key_len);
    push_value(L, &it.value, depth + 1);
    lua_rawset(L, -3);
  }
  leave(L, &it);
}

static void push_text(lua_State *L, const lumo_value *v) {
  uint32_t len;
  const char *text = lumo_value_text(v, &len);
  lua_pushlstring(L, text, len);
}

static void push_value(lua_State *L, const lumo_value *v, int depth) {
  switch (v->type) {
  case LUMO_BSON_END: lua_pushnil(L); return;
  case LUMO_BSON_NULL: lua_pushlightuserdata(L, NULL); return;
  case LUMO_BSON_DOUBLE: lua_pushnumber(L, lumo_value_double(v)); return;
  case LUMO_BSON_INT32: lua_pushinteger(L, lumo_value_int32(v)); return;
  case LUMO_BSON_INT64: lumo_push_int64(L, lumo_value_int64(v)); return;
  case LUMO_BSON_STRING: push_text(L, v); return;
  case LUMO_BSON_BOOL: lua_pushboolean(L, lumo_value_bool(v)); return;
  case LUMO_BSON_OBJECTID: lumo_push_objectid(L, v->data); return;
  case LUMO_BSON_DATE: lumo_push_datetime(L, lumo_value_int64(v)); return;
  case LUMO_BSON_DOCUMENT: push_document(L, v, depth); return;
  case LUMO_BSON_ARRAY: push_array(L, v, depth); return;
  default: lumo_push_bson_value(L, v);
  }
}

void lumo_push_value(lua_State *L, const lumo_value *v) {
  push_value(L, v, 1);
}

void lumo_push_document(lua_State *L, const uint8_t *doc, size_t len) {
  lumo_value v = {doc, (uint32_t)len, LUMO_BSON_DOCUMENT};
  push_value(L, &v, 1);
}

/* ---- by column ---- */

static void push_typed(lua_State *L, const lumo_value *v, const lumo_column *column, const lumo_place *place,
                       int depth);

/* The stored number as an integer, if it is one within 64 bits. */
static bool stored_integer(const lumo_value *v, int64_t *out) {
  double d;
  switch (v->type) {
  case LUMO_BSON_INT32: *out = lumo_value_int32(v); return true;
  case LUMO_BSON_INT64: *out = lumo_value_int64(v); return true;
  case LUMO_BSON_DOUBLE:
    d = lumo_value_double(v);
    if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0) || d != floor(d)) return false;
    *out = (int64_t)d;
    return true;
  default: return false;
  }
}

/* Whether a column of this type can hold the value: what the type alone decides, not what stands inside. */
static bool fits(const lumo_value *v, lumo_type type) {
  int64_t integer;
  switch (type) {
  case LUMO_ANY: return true;
  case LUMO_STRING: return v->type == LUMO_BSON_STRING;
  case LUMO_INTEGER:
  case LUMO_INT64: return stored_integer(v, &integer);
  case LUMO_INT32: return stored_integer(v, &integer) && integer >= INT32_MIN && integer <= INT32_MAX;
  case LUMO_NUMBER:
    return v->type == LUMO_BSON_DOUBLE || v->type == LUMO_BSON_INT32 || v->type == LUMO_BSON_INT64;
  case LUMO_BOOLEAN: return v->type == LUMO_BSON_BOOL;
  case LUMO_DATE: return v->type == LUMO_BSON_DATE;
  case LUMO_OBJECTID: return v->type == LUMO_BSON_OBJECTID;
  case LUMO_DECIMAL: return v->type == LUMO_BSON_DECIMAL;
  case LUMO_BINARY: return v->type == LUMO_BSON_BINARY;
  case LUMO_UUID: return v->type == LUMO_BSON_BINARY && v->len == 21 && v->data[4] == 4;
  case LUMO_ARRAY: return v->type == LUMO_BSON_ARRAY;
  case LUMO_OBJECT: return v->type == LUMO_BSON_DOCUMENT;
  }
  return false;
}

static const char *stored_name(uint8_t type) {
  static const char *const names[] = {
      [LUMO_BSON_DOUBLE] = "double",       [LUMO_BSON_STRING] = "string",
      [LUMO_BSON_DOCUMENT] = "document",   [LUMO_BSON_ARRAY] = "array",
      [LUMO_BSON_BINARY] = "binary",       [LUMO_BSON_OBJECTID] = "objectid",
      [LUMO_BSON_BOOL] = "boolean",        [LUMO_BSON_DATE] = "date",
      [LUMO_BSON_REGEX] = "regex",         [LUMO_BSON_DBPOINTER] = "dbpointer",
      [LUMO_BSON_CODE] = "code",           [LUMO_BSON_SYMBOL] = "symbol",
      [LUMO_BSON_CODE_SCOPE] = "code",     [LUMO_BSON_INT32] = "int32",
      [LUMO_BSON_TIMESTAMP] = "timestamp", [LUMO_BSON_INT64] = "int64",
      [LUMO_BSON_DECIMAL] = "decimal"};
  const char *name = type < sizeof names / sizeof *names ? names[type] : NULL;
  return name ? name : "of a rare kind";
}

static void refuse(lua_State *L, const lumo_value *v, const lumo_column *column, const lumo_place *place) {
  char why[96];
  snprintf(why, sizeof why, "expects %s, the stored value is %s", lumo_expectation(column),
           stored_name(v->type));
  lumo_raise_cast(L, place, column, 0, why);
}

static void push_typed_array(lua_State *L, const lumo_value *v, const lumo_column *of,
                             const lumo_place *place, int depth) {
  lumo_iter it;
  lumo_place inner = {.parent = place};
  enter(L, &it, v, depth);
  lua_createtable(L, count_elements(v), 0);
  while (lumo_iter_next(&it)) {
    inner.position++;
    push_typed(L, &it.value, of, &inner, depth + 1);
    lua_rawseti(L, -2, (int)inner.position);
  }
  leave(L, &it);
  mark_array(L);
}

static void push_hidden_table(lua_State *L) {
  lumo_get(L, &slot_hidden);
  if (lua_istable(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lumo_set(L, &slot_hidden);
}

bool lumo_is_hidden(const lumo_schema *fields, const char *key, size_t key_len) {
  return !lumo_schema_find_stored(fields, key, key_len) && lumo_schema_find(fields, key, key_len);
}

/* Keeps the hidden fields of the document with the table on the top of the stack, which stands for it, as
 * long as that lives: wherever it is moved, encoding it writes them back. */
static void keep_hidden(lua_State *L, const lumo_value *v, const lumo_schema *fields) {
  lumo_iter it;
  push_hidden_table(L);
  lua_pushvalue(L, -2);
  lumo_buf *buf = lumo_push_buffer(L);
  size_t mark = lumo_bson_begin(buf);
  lumo_iter_value(&it, v);
  while (lumo_iter_next(&it))
    if (lumo_is_hidden(fields, it.key, it.key_len)) lumo_bson_value(buf, it.key, it.key_len, &it.value);
  lumo_bson_end(buf, mark);
  lumo_check_buffer(L, buf);
  lua_pushlstring(L, (const char *)buf->data, buf->len);
  lua_remove(L, -2);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

bool lumo_find_hidden(lua_State *L, int index, lumo_iter *it) {
  size_t len = 0;
  const char *doc = NULL;
  index = lua_absindex(L, index);
  lumo_get(L, &slot_hidden);
  if (lua_istable(L, -1)) {
    lua_pushvalue(L, index);
    lua_rawget(L, -2);
    doc = lua_tolstring(L, -1, &len); /* the table on the stack keeps it */
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return doc && lumo_iter_init(it, (const uint8_t *)doc, len);
}

/* Fields come under their attributes' names; what no column declares comes as it is, unless its name is
 * another's attribute: then the attribute is what is read, and the field is hidden. */
static void push_typed_document(lua_State *L, const lumo_value *v, const lumo_schema *fields,
                                const lumo_place *place, int depth) {
  lumo_iter it;
  bool hidden = false;
  enter(L, &it, v, depth);
  lua_createtable(L, 0, count_elements(v));
  while (lumo_iter_next(&it)) {
    const lumo_column *column = lumo_schema_find_stored(fields, it.key, it.key_len);
    lumo_place inner = {.parent = place, .key = it.key, .key_len = it.key_len};
    if (column) {
      inner.key = column->name;
      inner.key_len = column->name_len;
    } else if (lumo_schema_find(fields, it.key, it.key_len)) {
      hidden = true;
      continue;
    }
    lua_pushlstring(L, inner.key, inner.key_len);
    push_typed(L, &it.value, column, &inner, depth + 1);
    lua_rawset(L, -3);
  }
  leave(L, &it);
  if (hidden) keep_hidden(L, v, fields);
}

static void push_typed(lua_State *L, const lumo_value *v, const lumo_column *column, const lumo_place *place,
                       int depth) {
  int64_t integer = 0;
  if (!column || v->type == LUMO_BSON_NULL || v->type == LUMO_BSON_UNDEFINED) {
    push_value(L, v, depth);
    return;
  }
  if (!fits(v, column->type)) refuse(L, v, column, place);
  switch (column->type) {
  case LUMO_INTEGER:
  case LUMO_INT32:
  case LUMO_INT64:
    stored_integer(v, &integer);
    lumo_push_int64(L, integer);
    return;
  case LUMO_ARRAY:
    if (!column->of) break;
    push_typed_array(L, v, column->of, place, depth);
    return;
  case LUMO_OBJECT:
    if (!column->fields) break;
    push_typed_document(L, v, column->fields, place, depth);
    return;
  default: break;
  }
  push_value(L, v, depth);
}

/* Pushes a value that is what a column of this type usually holds; false for all others. */
static inline bool push_usual(lua_State *L, const lumo_value *v, lumo_type type) {
  switch (v->type) {
  case LUMO_BSON_STRING:
    if (type != LUMO_STRING) return false;
    push_text(L, v);
    return true;
  case LUMO_BSON_INT32:
    if (type != LUMO_INTEGER && type != LUMO_INT32 && type != LUMO_NUMBER) return false;
    lua_pushinteger(L, lumo_value_int32(v));
    return true;
  case LUMO_BSON_DOUBLE:
    if (type != LUMO_NUMBER) return false;
    lua_pushnumber(L, lumo_value_double(v));
    return true;
  case LUMO_BSON_BOOL:
    if (type != LUMO_BOOLEAN) return false;
    lua_pushboolean(L, lumo_value_bool(v));
    return true;
  case LUMO_BSON_DATE:
    if (type != LUMO_DATE) return false;
    lumo_push_datetime(L, lumo_value_int64(v));
    return true;
  case LUMO_BSON_OBJECTID:
    if (type != LUMO_OBJECTID) return false;
    lumo_push_objectid(L, v->data);
    return true;
  default: return false;
  }
}

void lumo_push_column_value(lua_State *L, const lumo_value *v, const lumo_column *column,
                            const lumo_place *place) {
  if (push_usual(L, v, column->type)) return;
  if (lumo_value_is_null(v))
    lua_pushnil(L);
  else
    push_typed(L, v, column, place, 2); /* the document itself is the first level */
}
