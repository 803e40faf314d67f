/* Records: a userdata over raw BSON without __gc, columns decoded when they are read. A record has a
 * companion table only once it needs one (an assigned value, a table that was handed out, anything that the
 * Lua layer keeps with it): [column number]  the Lua value that stands for the column, see the flags of
 * lumo_record.places [0]              the userdata that holds the document, when it is not in the record's
 * own block
 *   [&UNDECLARED]    values of attributes that no column declares (models with strict = false)
 *   names            what lua/lumo keeps: extras, preloaded, trx, relation
 * The class of a record is its metatable: [1] the schema userdata, [2] the address of CLASS, [3] the
 * state of its model in lua/lumo. */
#include "../core/record.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../core/diff.h"
#include "../core/json.h"
#include "../core/text.h"
#include "private.h"

static const char CLASS = 0, UNSET = 0, UNDECLARED = 0, CONTENTS = 0;

/* How many functions of transactions, which may be run again, are under way: while there are any, slot_touch
 * is told of each record that its user changes, or may change through a table of its. */
static atomic_int watchers;
static const char slot_touch, slot_watch;

/* ---- buffers to write with ---- */

/* What a write needs side by side, as one userdata. One that has been used is kept in its registry slot
 * (which else holds false) for the next write. */
enum { WORK_BUFFERS = 8, WORK_KEPT = 64 * 1024 /* bytes that each of them holds on to */ };
static const char slot_work, slot_work_meta;

static int work_gc(lua_State *L) {
  lumo_buf *work = lua_touserdata(L, 1);
  for (int n = 0; n < WORK_BUFFERS; n++) lumo_buf_free(&work[n]);
  return 0;
}

/* Pushes WORK_BUFFERS empty buffers. */
static lumo_buf *push_work(lua_State *L) {
  lumo_get(L, &slot_work);
  lumo_buf *work = lua_touserdata(L, -1);
  if (work) {
    lua_pushboolean(L, 0);
    lumo_set(L, &slot_work);
    return work;
  }
  lua_pop(L, 1);
  work = lumo_newvalue(L, WORK_BUFFERS * sizeof *work);
  memset(work, 0, WORK_BUFFERS * sizeof *work);
  lumo_get(L, &slot_work_meta);
  lua_setmetatable(L, -2);
  return work;
}

/* The buffers at i are done with. Those that an error has kept from coming here are the collector's. */
static void keep_work(lua_State *L, int i) {
  lumo_buf *work = lua_touserdata(L, i);
  for (int n = 0; n < WORK_BUFFERS; n++) {
    if (work[n].cap > WORK_KEPT) lumo_buf_free(&work[n]);
    lumo_buf_clear(&work[n]);
  }
  lua_pushvalue(L, i);
  lumo_set(L, &slot_work);
}

/* ---- the block and its companion ---- */

static bool is_class(lua_State *L, int i) {
  lua_rawgeti(L, i, 2);
  bool is = lua_touserdata(L, -1) == (void *)&CLASS;
  lua_pop(L, 1);
  return is;
}

lumo_record *lumo_test_record(lua_State *L, int i) {
  lumo_record *record = lua_touserdata(L, i);
  if (!record || lua_islightuserdata(L, i) || !lua_getmetatable(L, i)) return NULL;
  bool is = is_class(L, lua_gettop(L));
  lua_pop(L, 1);
  return is ? record : NULL;
}

static lumo_record *check_record(lua_State *L, int i) {
  lumo_record *record = lumo_test_record(L, i);
  if (!record)
    lumo_raise_code(L, "E_ARGUMENT",
                    "a record is expected, got %s; was a method called with a dot instead of a colon?",
                    luaL_typename(L, i));
  return record;
}

const lumo_schema *lumo_class_schema(lua_State *L, int i) {
  lua_rawgeti(L, i, 1);
  const lumo_schema *schema = lumo_check_schema(L, -1);
  lua_pop(L, 1);
  return schema;
}

static lumo_record *new_block(lua_State *L, int klass, const lumo_schema *schema, uint32_t doc_len,
                              uint32_t pivot_len) {
  lumo_record *record = lumo_newud(L, lumo_record_size(schema, doc_len, pivot_len));
  memset(record, 0, lumo_record_size(schema, 0, 0));
  record->schema = schema;
  lua_pushvalue(L, klass);
  lua_setmetatable(L, -2);
  return record;
}

lumo_record *lumo_push_record(lua_State *L, int klass, const lumo_schema *schema, int companion, bool shared,
                              const uint8_t *doc, uint32_t doc_len, const uint8_t *pivot, uint32_t pivot_len,
                              uint16_t connection) {
  klass = lua_absindex(L, klass);
  if (companion) companion = lua_absindex(L, companion);
  lumo_record *record = new_block(L, klass, schema, shared ? 0 : doc_len, pivot_len);
  uint8_t *room = lumo_record_room(record);
  record->doc = doc;
  record->doc_len = doc_len;
  record->connection = connection;
  record->flags = LUMO_RECORD_PERSISTED;
  if (!shared) {
    record->doc = memcpy(room, doc, doc_len);
    room += doc_len;
  }
  if (companion) {
    record->flags |= LUMO_RECORD_SIDE | LUMO_RECORD_SIDE_SHARED;
    lua_pushvalue(L, companion);
    lumo_setuv(L, -2);
  }
  if (pivot) {
    memcpy(room, pivot, pivot_len);
    record->pivot = (uint32_t)(room - (uint8_t *)record);
    record->pivot_len = pivot_len;
  }
  if (!lumo_record_index(record))
    lumo_raise_code(L, "E_SERVER", "a document of \"%s\" is malformed", record->schema->model);
  return record;
}

void lumo_push_twin(lua_State *L, int klass, const lumo_record *like, int companion, const uint8_t *pivot,
                    uint32_t pivot_len) {
  lumo_record *record = new_block(L, klass, like->schema, 0, pivot_len);
  memcpy(record, like, lumo_record_size(like->schema, 0, 0));
  record->pivot = pivot ? (uint32_t)(lumo_record_room(record) - (uint8_t *)record) : 0;
  record->pivot_len = pivot_len;
  if (pivot) memcpy(lumo_record_room(record), pivot, pivot_len);
  lua_pushvalue(L, companion);
  lumo_setuv(L, -2);
}

lumo_record *lumo_push_local(lua_State *L, int klass, const lumo_schema *schema, const lumo_buf *block,
                             uint16_t connection) {
  uint32_t places = schema->count * (uint32_t)sizeof(uint32_t), doc_len = (uint32_t)block->len - places;
  lumo_record *record = new_block(L, klass, schema, doc_len, 0);
  memcpy(record->places, block->data, block->len);
  record->doc = lumo_record_room(record);
  record->doc_len = doc_len;
  record->connection = connection;
  record->flags = LUMO_RECORD_LOCAL;
  return record;
}

/* Pushes the companion table for reading, or nil. */
static void push_side(lua_State *L, int i, const lumo_record *record) {
  if (record->flags & LUMO_RECORD_SIDE)
    lumo_getuv(L, i);
  else
    lua_pushnil(L);
}

static void copy_entries(lua_State *L, int from, int to) {
  for (lua_pushnil(L); lua_next(L, from);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, to);
  }
}

/* Pushes the companion table as one that may be written. */
static void push_own_side(lua_State *L, int i, lumo_record *record) {
  i = lua_absindex(L, i);
  if ((record->flags & LUMO_RECORD_SIDE) && !(record->flags & LUMO_RECORD_SIDE_SHARED)) {
    lumo_getuv(L, i);
    return;
  }
  lua_createtable(L, 0, 4); /* at once what most records come to need */
  if (record->flags & LUMO_RECORD_SIDE_SHARED) {
    int own = lua_gettop(L);
    lumo_getuv(L, i);
    copy_entries(L, own + 1, own);
    lua_pop(L, 1);
  }
  lua_pushvalue(L, -1);
  lumo_setuv(L, i);
  record->flags = (uint8_t)((record->flags | LUMO_RECORD_SIDE) & ~LUMO_RECORD_SIDE_SHARED);
}

/* The user of the record at i is about to change it, or has got a table of its. */
static void tell_touched(lua_State *L, int i) {
  if (atomic_load_explicit(&watchers, memory_order_relaxed) == 0) return;
  i = lua_absindex(L, i);
  lumo_get(L, &slot_touch);
  lua_pushvalue(L, i);
  lua_call(L, 1, 0);
}

/* core.on_record_touched(fn): fn(record) before a record changes, while there is a watch. */
static int on_record_touched(lua_State *L) {
  lua_settop(L, 1);
  lumo_set(L, &slot_touch);
  return 0;
}

/* core.watch_records(): a watch, which core.unwatch_records ends, or the collector: a coroutine may be left
 * in its transaction. */
static int watch_records(lua_State *L) {
  bool *open = lua_newuserdata(L, sizeof *open);
  *open = false;
  lumo_get(L, &slot_watch);
  lua_setmetatable(L, -2);
  *open = true;
  atomic_fetch_add(&watchers, 1);
  return 1;
}

static int unwatch_records(lua_State *L) {
  bool *open = lua_touserdata(L, 1);
  if (*open) atomic_fetch_sub(&watchers, 1);
  *open = false;
  return 0;
}

/* core.record_side(record, create): what lua/lumo keeps with a record. */
static int record_side(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  if (lua_toboolean(L, 2))
    push_own_side(L, 1, record);
  else
    push_side(L, 1, record);
  return 1;
}

/* ---- reading ---- */

static lumo_place place_of(const lumo_record *record, const lumo_column *column) {
  return (lumo_place){.model = record->schema->model, .key = column->name, .key_len = column->name_len};
}

/* Pushes what the companion table holds for the column: never nil. */
static void push_side_value(lua_State *L, int i, const lumo_record *record, uint32_t column) {
  push_side(L, i, record);
  lua_rawgeti(L, -1, (int)column + 1);
  lua_remove(L, -2);
}

static bool is_unset(lua_State *L, int i) {
  return lua_touserdata(L, i) == (void *)&UNSET;
}

/* The value on top of the stack gives way to what a function of the column, which has one, makes of it. */
static void call_function(lua_State *L, int i, const lumo_column *column, int function) {
  i = lua_absindex(L, i);
  lua_getmetatable(L, i);
  lua_rawgeti(L, -1, 1);
  lumo_push_column_function(L, -1, column->index, function);
  lua_replace(L, -3);
  lua_pop(L, 1);
  lua_insert(L, -2);
  lua_pushlstring(L, column->name, column->name_len);
  lua_pushvalue(L, i);
  lumo_call_column_function(L, 3);
}

/* Pushes the stored value of a column as its attribute: nil when missing or null. */
static void push_stored(lua_State *L, int i, const lumo_record *record, uint32_t number) {
  const lumo_column *column = record->schema->columns[number];
  lumo_value value = lumo_record_value(record, number);
  lumo_place place = place_of(record, column);
  lumo_push_column_value(L, &value, column, &place);
  if ((column->functions & LUMO_COLUMN_CONSUME) && !lua_isnil(L, -1))
    call_function(L, i, column, LUMO_COLUMN_CONSUME);
}

/* Keeps the attribute on top of the stack, as it was made from the document: a table may be changed in place
 * and is compared when saving, and what a function made is not made again. */
static void keep_handed_out(lua_State *L, int i, lumo_record *record, uint32_t number) {
  push_own_side(L, i, record);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, (int)number + 1);
  lua_pop(L, 1);
  record->places[number] |= LUMO_PLACE_HANDED_OUT;
}

/* Pushes the attribute as a script sees it. */
static void push_attribute(lua_State *L, int i, lumo_record *record, uint32_t number) {
  const lumo_column *column = record->schema->columns[number];
  if (record->places[number] & ~LUMO_PLACE_OFFSET) {
    push_side_value(L, i, record, number);
    if (lua_islightuserdata(L, -1)) { /* null or unset */
      lua_pop(L, 1);
      lua_pushnil(L);
    }
    return;
  }
  i = lua_absindex(L, i);
  if (column->functions & LUMO_COLUMN_CONSUME) {
    push_stored(L, i, record, number);
    if (!lua_isnil(L, -1) && !lua_islightuserdata(L, -1)) keep_handed_out(L, i, record, number);
    return;
  }
  lumo_value value = lumo_record_value(record, number);
  lumo_place place = place_of(record, column);
  lumo_push_column_value(L, &value, column, &place);
  if (value.type == LUMO_BSON_DOCUMENT || value.type == LUMO_BSON_ARRAY)
    keep_handed_out(L, i, record, number);
}

enum { PROP_PERSISTED = -1, PROP_NEW = -2, PROP_LOCAL = -3, PROP_DELETED = -4 };

static int push_property(lua_State *L, const lumo_record *record, lua_Integer property) {
  switch (property) {
  case PROP_PERSISTED: lua_pushboolean(L, record->flags & LUMO_RECORD_PERSISTED); break;
  case PROP_NEW: lua_pushboolean(L, !(record->flags & (LUMO_RECORD_PERSISTED | LUMO_RECORD_DELETED))); break;
  case PROP_LOCAL: lua_pushboolean(L, record->flags & LUMO_RECORD_LOCAL); break;
  default: lua_pushboolean(L, record->flags & LUMO_RECORD_DELETED); break;
  }
  return 1;
}

/* Upvalues: 1 names, 2 a Lua function for names that are not there. In `names` a positive number is a column,
 * a negative one a property of the block, a function a method, and a table {f} a property that f(record)
 * computes. */
static int record_index(lua_State *L) {
  lumo_record *record = lua_touserdata(L, 1);
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  switch (lua_type(L, -1)) {
  case LUA_TNUMBER: {
    lua_Integer number = lua_tointeger(L, -1);
    if (number < 0) return push_property(L, record, number);
    push_attribute(L, 1, record, (uint32_t)number - 1);
    /* What was only decoded is no table. */
    if ((record->places[number - 1] & ~LUMO_PLACE_OFFSET) && lua_istable(L, -1)) tell_touched(L, 1);
    return 1;
  }
  case LUA_TTABLE:
    lua_rawgeti(L, -1, 1);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
  case LUA_TNIL:
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, 1);
    return 1;
  default: return 1;
  }
}

/* ---- writing attributes ---- */

static void refuse_deleted(lua_State *L, const lumo_record *record) {
  if (record->flags & LUMO_RECORD_DELETED)
    lumo_raise_code(L, "E_MODEL_DELETED", "a deleted \"%s\" record cannot be changed", record->schema->model);
}

/* Casts the value at `value` for the record at i and pushes it as that will give it back: a scalar in the
 * column's own type, a table as it is (it stays shared with the caller). What a function prepares for storing
 * is cast then. Raises without having changed anything. */
static void push_cast(lua_State *L, int i, int value, const lumo_schema *schema, const lumo_column *column) {
  lumo_place place = {.model = schema->model, .key = column->name, .key_len = column->name_len};
  if (lua_isnil(L, value)) {
    lua_pushlightuserdata(L, (void *)&UNSET);
    return;
  }
  if (column->functions & LUMO_COLUMN_PREPARE) {
    lua_pushvalue(L, value);
    return;
  }
  lumo_buf *buf = lumo_lend_scratch(L);
  lumo_encode(L, value, column, "", 0, NULL, buf, &place, LUMO_ENCODE_DATA);
  lumo_check_buffer(L, buf);
  lumo_value cast = {.type = buf->data[0], .data = buf->data + 2, .len = (uint32_t)buf->len - 2};
  /* A table that only describes a scalar, such as os.date"*t", is given back as the scalar. */
  if (cast.type == LUMO_BSON_DOCUMENT || cast.type == LUMO_BSON_ARRAY || cast.type == LUMO_BSON_STRING)
    lua_pushvalue(L, value);
  else if (cast.type == LUMO_BSON_NULL)
    lua_pushlightuserdata(L, NULL);
  else
    lumo_push_column_value(L, &cast, column, &place);
  lumo_return_scratch(buf);
  lua_remove(L, -2);
  if ((column->functions & LUMO_COLUMN_COMPLETE) && lua_istable(L, -1))
    call_function(L, i, column, LUMO_COLUMN_COMPLETE);
}

static void refuse_primary(lua_State *L, const lumo_record *record, const lumo_column *column) {
  if (column->primary && (record->flags & LUMO_RECORD_PERSISTED))
    lumo_raise_code(L, "E_ARGUMENT", "the primary key \"%s.%s\" of a persisted record cannot be assigned",
                    record->schema->model, column->name);
}

void lumo_put_attribute(lua_State *L, int i, lumo_record *record, uint32_t number) {
  push_own_side(L, i, record);
  lua_insert(L, -2);
  lua_rawseti(L, -2, (int)number + 1);
  lua_pop(L, 1);
  record->places[number] = (record->places[number] & LUMO_PLACE_OFFSET) | LUMO_PLACE_ASSIGNED;
}

static void assign(lua_State *L, int i, lumo_record *record, uint32_t number, int value) {
  const lumo_column *column = record->schema->columns[number];
  refuse_primary(L, record, column);
  push_cast(L, i, value, record->schema, column);
  lumo_put_attribute(L, i, record, number);
}

/* Pushes the table of undeclared values, making it. */
static void push_undeclared(lua_State *L, int i, lumo_record *record) {
  push_own_side(L, i, record);
  lua_pushlightuserdata(L, (void *)&UNDECLARED);
  lua_rawget(L, -2);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)&UNDECLARED);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
  }
  lua_remove(L, -2);
}

static int raise_undefined(lua_State *L, const lumo_schema *schema, const char *name) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_schema_undefined(schema, "", name, strlen(name), &error);
  return lumo_raise(L, &error);
}

void lumo_check_undeclared(lua_State *L, const lumo_schema *schema, const char *name, size_t len, int value) {
  if (schema->strict) raise_undefined(L, schema, name);
  lumo_place place = {.model = schema->model, .key = name, .key_len = len};
  if (len == 0 || name[0] == '$' || strlen(name) != len || memchr(name, '.', len))
    lumo_raise_code(L, "E_CAST", "\"%s.%s\" cannot be the name of a field", schema->model, name);
  const lumo_column *column = lumo_schema_find_stored(schema, name, len);
  if (column)
    lumo_raise_code(L, "E_ARGUMENT", "\"%s\" of \"%s\" is what its attribute \"%s\" is stored by", name,
                    schema->model, column->name);
  if (lua_isnil(L, value)) return;
  lumo_buf *buf = lumo_push_buffer(L);
  lumo_encode(L, value, NULL, name, len, NULL, buf, &place, LUMO_ENCODE_DATA);
  lumo_check_buffer(L, buf);
  lua_pop(L, 1);
}

/* An attribute that no column declares: as it is, where the model is not strict. */
static void assign_undeclared(lua_State *L, int i, lumo_record *record, int name, int value) {
  size_t len;
  const char *text = lua_tolstring(L, name, &len);
  lumo_check_undeclared(L, record->schema, text, len, value);
  push_undeclared(L, i, record);
  lua_pushvalue(L, name);
  if (lua_isnil(L, value))
    lua_pushlightuserdata(L, (void *)&UNSET);
  else
    lua_pushvalue(L, value);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

/* The column that the name at `name` means, or NULL; raises for names of methods and properties.
 * Upvalue-free: asks the schema and the class. */
static const lumo_column *writable_column(lua_State *L, const lumo_record *record, int i, int name) {
  size_t len;
  if (lua_type(L, name) != LUA_TSTRING)
    lumo_raise_code(L, "E_ARGUMENT", "the name of an attribute is a string, got %s", luaL_typename(L, name));
  const char *text = lua_tolstring(L, name, &len);
  const lumo_column *column = lumo_schema_find(record->schema, text, len);
  if (column) return column;
  lua_getmetatable(L, i);
  lua_getfield(L, -1, "names");
  lua_pushvalue(L, name);
  lua_rawget(L, -2);
  if (lua_type(L, -1) == LUA_TNUMBER &&
      lua_tointeger(L, -1) > 0) /* `id` for a primary column of another name */
    column = record->schema->columns[lua_tointeger(L, -1) - 1];
  else if (!lua_isnil(L, -1))
    lumo_raise_code(L, "E_ARGUMENT", "\"%s\" of a \"%s\" record cannot be assigned: it is not an attribute",
                    text, record->schema->model);
  lua_pop(L, 3);
  return column;
}

static int record_newindex(lua_State *L) {
  lumo_record *record = lua_touserdata(L, 1);
  refuse_deleted(L, record);
  tell_touched(L, 1);
  const lumo_column *column = writable_column(L, record, 1, 2);
  if (column)
    assign(L, 1, record, column->index, 3);
  else
    assign_undeclared(L, 1, record, 2, 3);
  return 0;
}

static int record_set(lua_State *L) {
  check_record(L, 1);
  return record_newindex(L);
}

/* fill: the undeclared fields that the document has, and those assigned since, are unset. */
static void unset_undeclared(lua_State *L, lumo_record *record) {
  lumo_iter it;
  push_undeclared(L, 1, record); /* 6 */
  for (lua_pushnil(L); lua_next(L, 6); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    lua_pushlightuserdata(L, (void *)&UNSET);
    lua_rawset(L, 6); /* an existing key: allowed while traversing */
  }
  if (record->doc && lumo_iter_init(&it, record->doc, record->doc_len)) {
    while (lumo_iter_next(&it)) {
      if (lumo_schema_find_stored(record->schema, it.key, it.key_len)) continue;
      lua_pushlstring(L, it.key, it.key_len);
      lua_pushlightuserdata(L, (void *)&UNSET);
      lua_rawset(L, 6);
    }
  }
  lua_settop(L, 5);
}

/* core.record_merge(record, values, replace): all of the values or, if one is refused, none. With `replace`
 * the attributes that are not given, but the primary key, are unset. */
static int record_merge(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  const lumo_schema *schema = record->schema;
  refuse_deleted(L, record);
  if (!lua_istable(L, 2))
    lumo_raise_argument(L, lua_toboolean(L, 3) ? "fill" : "merge", 1, "a table of attributes", 2);
  lua_settop(L, 3);
  tell_touched(L, 1);
  lua_createtable(L, (int)schema->count, 0); /* 4: cast values by column number */
  lua_newtable(L);                           /* 5: undeclared ones by name */
  for (lua_pushnil(L); lua_next(L, 2); lua_settop(L, 6)) {
    const lumo_column *column = writable_column(L, record, 1, 6);
    if (column) {
      refuse_primary(L, record, column);
      push_cast(L, 1, 7, schema, column);
      lua_rawseti(L, 4, (int)column->index + 1);
    } else {
      size_t len;
      const char *name = lua_tolstring(L, 6, &len);
      lumo_check_undeclared(L, schema, name, len, 7);
      lua_pushvalue(L, 6);
      lua_pushvalue(L, 7);
      lua_rawset(L, 5);
    }
  }
  if (lua_toboolean(L, 3) && !schema->strict) unset_undeclared(L, record);
  for (lua_pushnil(L); lua_next(L, 5); lua_settop(L, 6)) assign_undeclared(L, 1, record, 6, 7);
  lua_settop(L, 5);
  for (uint32_t i = 0; i < schema->count; i++) {
    lua_rawgeti(L, 4, (int)i + 1);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      if (!lua_toboolean(L, 3) || schema->columns[i]->primary) continue;
      lua_pushlightuserdata(L, (void *)&UNSET);
    }
    lumo_put_attribute(L, 1, record, i);
  }
  lua_pushvalue(L, 1);
  return 1;
}

/* ---- what changed ---- */

/* Whether the table on top of the stack, which was made from the document, still is what is stored. */
static bool is_as_stored(lua_State *L, const lumo_record *record, uint32_t number) {
  const lumo_column *column = record->schema->columns[number];
  lumo_value stored = lumo_record_value(record, number);
  lumo_place place = place_of(record, column);
  int value = lua_gettop(L);
  lumo_buf *buf = lumo_push_buffer(L);
  lumo_encode(L, value, column, "", 0, &stored, buf, &place, LUMO_ENCODE_DATA);
  bool same = !buf->failed && buf->data[0] == stored.type && buf->len == 2 + stored.len &&
              memcmp(buf->data + 2, stored.data, stored.len) == 0;
  lua_pop(L, 1);
  return same;
}

/* The companion's value of a column with functions, on top of the stack, as what is stored of it: it gives
 * way to that, or nil. False: it stands for the document's value, which has not changed. */
static bool prepare_value(lua_State *L, int i, const lumo_record *record, uint32_t number) {
  const lumo_column *column = record->schema->columns[number];
  bool prepares = column->functions & LUMO_COLUMN_PREPARE;
  if (record->places[number] & LUMO_PLACE_HANDED_OUT) {
    bool consumed = column->functions & LUMO_COLUMN_CONSUME;
    if (consumed && (!prepares || !lua_istable(L, -1))) return false;
    if (!consumed && is_as_stored(L, record, number)) return false;
  }
  if (prepares && !lua_islightuserdata(L, -1)) {
    call_function(L, i, column, LUMO_COLUMN_PREPARE);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      lua_pushlightuserdata(L, (void *)&UNSET);
    }
  }
  return true;
}

bool lumo_record_element(lua_State *L, int i, uint32_t number, const char *key, size_t key_len,
                         lumo_buf *buf) {
  lumo_record *record = lua_touserdata(L, i);
  const lumo_column *column = record->schema->columns[number];
  lumo_value stored = lumo_record_value(record, number);
  bool as_stored = !(record->places[number] & ~LUMO_PLACE_OFFSET);
  if (!as_stored) {
    push_side_value(L, i, record, number);
    if (column->functions && !prepare_value(L, i, record, number)) {
      as_stored = true;
      lua_pop(L, 1);
    }
  }
  if (as_stored) {
    if (stored.type == LUMO_BSON_END) return false;
    lumo_bson_value(buf, key, key_len, &stored);
    return true;
  }
  bool there = !is_unset(L, -1);
  if (there) {
    lumo_place place = place_of(record, column);
    lumo_encode(L, lua_gettop(L), column, key, key_len, stored.type == LUMO_BSON_END ? NULL : &stored, buf,
                &place, LUMO_ENCODE_DATA);
  }
  lua_pop(L, 1);
  return there;
}

static bool same_value(const lumo_buf *buf, size_t element, size_t name_len, const lumo_value *stored) {
  const uint8_t *data = buf->data + element + 1 + name_len + 1;
  return !buf->failed && buf->data[element] == stored->type &&
         buf->len == element + 2 + name_len + stored->len && memcmp(data, stored->data, stored->len) == 0;
}

typedef enum { SAME, CHANGED, REMOVED } change;

/* Whether the document was read by a projection, and of the field (if one is named) only a part. */
static bool is_partial(lua_State *L, int i, const char *field) {
  const lumo_record *record = lua_touserdata(L, i);
  if (!(record->flags & LUMO_RECORD_SIDE)) return false;
  lumo_getuv(L, i);
  lua_getfield(L, -1, "partial");
  bool is = lua_istable(L, -1);
  if (is && field) {
    lua_getfield(L, -1, field);
    is = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
  return is;
}

bool lumo_record_is_partial(lua_State *L, int i) {
  return is_partial(L, i, NULL);
}

/* What became of a column since the document: CHANGED leaves its element in buf, the others leave buf as it
 * was. */
static change column_change(lua_State *L, int i, uint32_t number, lumo_buf *buf) {
  lumo_record *record = lua_touserdata(L, i);
  const lumo_column *column = record->schema->columns[number];
  if (!(record->places[number] & ~LUMO_PLACE_OFFSET)) return SAME;
  size_t before = buf->len;
  lumo_value stored = lumo_record_value(record, number);
  if (!lumo_record_element(L, i, number, column->stored, column->stored_len, buf))
    /* A field that was not selected may be there. */
    return stored.type == LUMO_BSON_END && !is_partial(L, i, NULL) ? SAME : REMOVED;
  if (same_value(buf, before, column->stored_len, &stored)) {
    buf->len = before;
    return SAME;
  }
  if (!(record->places[number] & LUMO_PLACE_ASSIGNED) && is_partial(L, i, column->stored))
    lumo_raise_code(L, "E_ARGUMENT",
                    "only a part of \"%s.%s\" was selected, so it cannot be saved: assign it whole",
                    record->schema->model, column->name);
  return CHANGED;
}

/* The same for the undeclared attributes: sorted by name, so that the same record is always written alike.
 * Pushes nothing. */
static void undeclared_changes(lua_State *L, int i, lumo_buf *set, lumo_buf *unset) {
  lumo_record *record = lua_touserdata(L, i);
  if (!(record->flags & LUMO_RECORD_SIDE)) return;
  int top = lua_gettop(L);
  push_side(L, i, record);
  lua_pushlightuserdata(L, (void *)&UNDECLARED);
  lua_rawget(L, -2);
  if (lua_istable(L, -1)) {
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
      size_t len, before = set->len;
      const char *name = lua_tolstring(L, -2, &len);
      lumo_value stored;
      bool there = record->doc && lumo_bson_find(record->doc, record->doc_len, name, len, &stored);
      if (is_unset(L, -1)) {
        if (there) lumo_bson_null(unset, name, len);
        continue;
      }
      lumo_place place = {.model = record->schema->model, .key = name, .key_len = len};
      lumo_encode(L, lua_gettop(L), NULL, name, len, there ? &stored : NULL, set, &place, LUMO_ENCODE_DATA);
      if (there && same_value(set, before, len, &stored)) set->len = before;
    }
  }
  lua_settop(L, top);
}

/* Gathers all changes: elements to set and names to remove. */
static void changes(lua_State *L, int i, lumo_buf *set, lumo_buf *unset) {
  const lumo_record *record = lua_touserdata(L, i);
  for (uint32_t n = 0; n < record->schema->count; n++) {
    if (column_change(L, i, n, set) == REMOVED)
      lumo_bson_null(unset, record->schema->columns[n]->stored, record->schema->columns[n]->stored_len);
  }
  undeclared_changes(L, i, set, unset);
  lumo_check_buffer(L, set);
  lumo_check_buffer(L, unset);
}

/* The attribute name of a stored one: itself when no column declares it. */
static void push_attribute_name(lua_State *L, const lumo_schema *schema, const char *stored, uint32_t len) {
  const lumo_column *column = lumo_schema_find_stored(schema, stored, len);
  if (column)
    lua_pushlstring(L, column->name, column->name_len);
  else
    lua_pushlstring(L, stored, len);
}

/* core.record_dirty(record): attribute → current value for what changed (lumo.null for what was removed). A
 * record that was never stored is dirty in all it has. */
static int record_dirty(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  lua_settop(L, 1);
  lumo_buf *set = lumo_push_buffer(L), *unset = lumo_push_buffer(L);
  lua_newtable(L); /* 4 */
  changes(L, 1, set, unset);
  if (!(record->flags & LUMO_RECORD_PERSISTED)) {
    lumo_buf *whole = lumo_push_buffer(L); /* 5 */
    lumo_record_apply(record->doc, record->doc_len, set, unset, whole);
    lumo_check_buffer(L, whole);
    lua_replace(L, 2);
    set = lua_touserdata(L, 2);
    memmove(set->data, set->data + 4, set->len - 5);
    set->len -= 5;
  }
  lumo_iter it = lumo_iter_elements(set);
  while (lumo_iter_next(&it)) {
    const lumo_column *column = lumo_schema_find_stored(record->schema, it.key, it.key_len);
    push_attribute_name(L, record->schema, it.key, it.key_len);
    if (column && column->functions)
      push_attribute(L, 1, record, column->index);
    else
      lumo_push_value(L, &it.value);
    lua_rawset(L, 4);
  }
  it = lumo_iter_elements(unset);
  while (lumo_iter_next(&it)) {
    push_attribute_name(L, record->schema, it.key, it.key_len);
    lua_pushlightuserdata(L, NULL);
    lua_rawset(L, 4);
  }
  lua_settop(L, 4);
  return 1;
}

/* core.record_original(record): attribute → value as they stand in the document that is stored, undeclared
 * ones of a model that is not strict included. */
static int record_original(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  lumo_iter it;
  lua_newtable(L);
  if (!(record->flags & LUMO_RECORD_PERSISTED)) return 1;
  if (!record->schema->strict && lumo_iter_init(&it, record->doc, record->doc_len)) {
    while (lumo_iter_next(&it)) {
      if (lumo_schema_find_stored(record->schema, it.key, it.key_len) || it.value.type == LUMO_BSON_NULL)
        continue;
      lua_pushlstring(L, it.key, it.key_len);
      lumo_push_value(L, &it.value);
      lua_rawset(L, -3);
    }
  }
  for (uint32_t i = 0; i < record->schema->count; i++) {
    lua_pushlstring(L, record->schema->columns[i]->name, record->schema->columns[i]->name_len);
    push_stored(L, 1, record, i);
    lua_rawset(L, -3);
  }
  return 1;
}

/* ---- storing ---- */

/* Pushes a userdata that holds the document: it takes the record's place once the write has succeeded,
 * without any further allocation that could fail. */
static void push_pending(lua_State *L, const lumo_buf *doc, size_t from) {
  memcpy(lumo_newud(L, doc->len - from), doc->data + from, doc->len - from);
}

/* A write is about to store what functions have prepared of the assigned attributes. */
static void mark_prepared(lumo_record *record) {
  for (uint32_t n = 0; n < record->schema->count; n++)
    if ((record->schema->columns[n]->functions & LUMO_COLUMN_PREPARE) &&
        (record->places[n] & LUMO_PLACE_ASSIGNED))
      record->places[n] |= LUMO_PLACE_PREPARED;
}

/* What the record lacks that an insert gives: an ObjectId and the automatic dates, as elements of `set`. */
static void fill_in(lua_State *L, int i, int64_t now, lumo_buf *probe, lumo_buf *set) {
  const lumo_record *record = lua_touserdata(L, i);
  for (uint32_t n = 0; n < record->schema->count; n++) {
    const lumo_column *column = record->schema->columns[n];
    bool automatic = column->auto_create || column->auto_update;
    if (!column->primary && !automatic) continue;
    lumo_buf_clear(probe);
    if (lumo_record_element(L, i, n, column->stored, column->stored_len, probe) &&
        !(probe->data && probe->data[0] == LUMO_BSON_NULL))
      continue;
    if (automatic) {
      lumo_bson_date(set, column->stored, column->stored_len, now);
    } else if (column->type == LUMO_OBJECTID) {
      uint8_t id[12];
      lumo_objectid_new(id);
      lumo_bson_objectid(set, column->stored, column->stored_len, id);
    } else {
      lumo_raise_code(L, "E_ARGUMENT",
                      "\"%s.%s\" is the primary key and must be given before the record is saved",
                      record->schema->model, column->name);
    }
  }
}

/* Appends the record's document as it is to be inserted, its columns in the schema's order and then the rest.
 */
static void write_insert(lua_State *L, int i, int64_t now, lumo_buf *statements) {
  lumo_record *record = lua_touserdata(L, i);
  lumo_buf *work = push_work(L);
  lumo_buf *set = &work[0], *unset = &work[1], *given = &work[2], *probe = &work[3];
  lumo_value value;
  changes(L, i, set, unset);
  fill_in(L, i, now, probe, set);
  lumo_record_apply(record->doc, record->doc_len, set, unset, given);
  lumo_check_buffer(L, given);
  size_t mark = lumo_bson_begin(statements);
  for (uint32_t n = 0; n < record->schema->count; n++) {
    const lumo_column *column = record->schema->columns[n];
    if (lumo_bson_find(given->data, given->len, column->stored, column->stored_len, &value))
      lumo_bson_value(statements, column->stored, column->stored_len, &value);
  }
  lumo_iter it;
  lumo_iter_init(&it, given->data, given->len);
  while (lumo_iter_next(&it)) {
    if (!lumo_schema_find_stored(record->schema, it.key, it.key_len))
      lumo_bson_value(statements, it.key, it.key_len, &it.value);
  }
  lumo_bson_end(statements, mark);
  mark_prepared(record);
  keep_work(L, lua_gettop(L));
  lua_pop(L, 1);
}

/* True if the record's own document is what an insert would store. */
static bool is_complete(const lumo_record *record) {
  if (record->flags & LUMO_RECORD_SIDE) return false;
  for (uint32_t n = 0; n < record->schema->count; n++) {
    const lumo_column *column = record->schema->columns[n];
    if ((column->primary || column->auto_create || column->auto_update) &&
        !(record->places[n] & LUMO_PLACE_OFFSET))
      return false;
  }
  return true;
}

/* Makes the userdata at `pending` the record's document. */
static void adopt(lua_State *L, int i, int pending) {
  lumo_record *record = lua_touserdata(L, i);
  push_own_side(L, i, record);
  lua_pushvalue(L, pending);
  lua_rawseti(L, -2, 0);
  lua_pop(L, 1);
  record->doc = lua_touserdata(L, pending);
  record->doc_len = (uint32_t)lua_rawlen(L, pending);
  lumo_record_index(record); /* it has been walked before: as a reply, or by the encoder */
}

/* Appends the insert of a record's document as it is to be stored, and pushes that as a userdata, nil where
 * it is the record's own. */
static void plan_insert(lua_State *L, int i, int64_t now, lumo_buf *statements) {
  lumo_record *record = check_record(L, i);
  uint32_t len = record->doc_len;
  if (is_complete(record)) {
    lumo_statement_insert_kept(statements, record->doc, len);
    lua_pushnil(L);
  } else {
    lumo_statement_begin(statements, LUMO_INSERT);
    size_t start = statements->len;
    write_insert(L, i, now, statements);
    lumo_check_buffer(L, statements);
    len = (uint32_t)(statements->len - start);
    push_own_side(L, i, record); /* made now, so that storing needs no memory */
    lua_pop(L, 1);
    push_pending(L, statements, start);
  }
  if (len > LUMO_BSON_MAX_SIZE)
    lumo_raise_code(L, "E_CAST", "a \"%s\" document is larger than 16 MiB", record->schema->model);
}

/* core.insert_plan(records, now, atomic): → plan, pending documents by the places of their records (nil where
 * the record's own document is stored as it is). The plan keeps the list, for it refers to such documents:
 * what lies in a record's block never changes. */
static int insert_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  int64_t now = (int64_t)luaL_checknumber(L, 2);
  int count = (int)lua_rawlen(L, 1);
  bool atomic = lua_toboolean(L, 3);
  lua_settop(L, 1);
  lumo_buf *statements = lumo_push_buffer(L); /* 2 */
  lua_newtable(L);                            /* 3: pending documents */
  const char *collection = NULL;
  for (int n = 1; n <= count; n++) {
    lua_rawgeti(L, 1, n);
    plan_insert(L, 4, now, statements);
    collection = ((const lumo_record *)lua_touserdata(L, 4))->schema->collection;
    if (!lua_isnil(L, 5)) lua_rawseti(L, 3, n);
    lua_settop(L, 3);
  }
  lumo_check_buffer(L, statements);
  lumo_prepare_plan(L);
  lua_pushvalue(L, 1);
  lumo_setuv(L, 4);
  lumo_fill_plan(L, 4, LUMO_PLAN_WRITE,
                 lumo_write_plan_new("insert", collection, statements, true, atomic, &error), &error);
  lua_insert(L, 3);
  return 2;
}

/* A document or a regular expression could be read as an operator, so that they are compared by $eq; the
 * server finds what stands for itself without its planner. */
void lumo_write_id_filter(const lumo_record *record, const lumo_buf *conditions, lumo_buf *out) {
  const lumo_column *primary = record->schema->columns[record->schema->primary];
  lumo_value id = lumo_record_value(record, (uint32_t)record->schema->primary);
  size_t filter = lumo_bson_begin(out);
  if (id.type == LUMO_BSON_DOCUMENT || id.type == LUMO_BSON_REGEX) {
    size_t operators = lumo_bson_begin_document(out, primary->stored, primary->stored_len);
    lumo_bson_value(out, LUMO_KEY("$eq"), &id);
    lumo_bson_end(out, operators);
  } else {
    lumo_bson_value(out, primary->stored, primary->stored_len, &id);
  }
  if (conditions) lumo_buf_append(out, conditions->data, conditions->len);
  lumo_bson_end(out, filter);
}

static void write_operator(const char *name, const lumo_buf *elements, lumo_buf *out) {
  if (elements->len == 0) return;
  size_t mark = lumo_bson_begin_document(out, name, strlen(name));
  lumo_buf_append(out, elements->data, elements->len);
  lumo_bson_end(out, mark);
}

/* Dates that move with every update, unless the caller has set them. */
static void touch(const lumo_record *record, int64_t now, lumo_buf *set) {
  for (uint32_t n = 0; n < record->schema->count; n++) {
    const lumo_column *column = record->schema->columns[n];
    if (column->auto_update && !(record->places[n] & LUMO_PLACE_ASSIGNED))
      lumo_bson_date(set, column->stored, column->stored_len, now);
  }
}

void lumo_check_record_key(lua_State *L, const lumo_record *record, const char *method) {
  if (!(record->places[record->schema->primary] & LUMO_PLACE_OFFSET))
    lumo_raise_code(L, "E_MISSING_ATTRIBUTE_VALUE", "Cannot %s a \"%s\" record, value of \"%s.%s\" is nil",
                    method, record->schema->model, record->schema->model,
                    record->schema->columns[record->schema->primary]->name);
}

/* Whether the column's value was changed in place: then only what differs in it is sent, so that others may
 * change the rest. An assigned one replaces what is stored. */
static bool is_changed_in_place(const lumo_record *record, const lumo_column *column) {
  return column && !(column->functions & LUMO_COLUMN_PREPARE) &&
         (record->places[column->index] & (LUMO_PLACE_HANDED_OUT | LUMO_PLACE_ASSIGNED)) ==
             LUMO_PLACE_HANDED_OUT;
}

/* The changes of whole columns, `set`, as those that are sent. Gives the first column that a position in an
 * array is sent of, or NULL. */
static const lumo_column *narrow(const lumo_record *record, const lumo_buf *set, lumo_diff *diff) {
  const lumo_column *guarded = NULL;
  lumo_iter it = lumo_iter_elements(set);
  while (lumo_iter_next(&it)) {
    const lumo_column *column = lumo_schema_find_stored(record->schema, it.key, it.key_len);
    if (is_changed_in_place(record, column)) {
      lumo_value before = lumo_record_value(record, column->index);
      size_t guard = diff->guard->len;
      bool added = lumo_diff_add(diff, column->stored, column->stored_len, &before, &it.value);
      if (!guarded && diff->guard->len > guard) guarded = column;
      if (added) continue;
    }
    lumo_bson_value(diff->set, it.key, it.key_len, &it.value);
  }
  return guarded;
}

/* core.update_plan(record, now, force): → plan, pending document, name of an attribute in which positions of
 * an array are written on condition that it has not changed meanwhile, or nil; nothing when nothing has
 * changed (and force is not set). */
static int update_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_record *record = check_record(L, 1);
  int64_t now = (int64_t)luaL_checknumber(L, 2);
  bool force = lua_toboolean(L, 3);
  lumo_check_record_key(L, record, "save");
  lua_settop(L, 1);
  lumo_buf *work = push_work(L); /* 2 */
  lumo_buf *set = &work[0], *unset = &work[1], *statement = &work[2], *document = &work[3];
  lumo_diff diff = {.set = &work[4], .unset = &work[5], .guard = &work[6], .path = &work[7]};
  changes(L, 1, set, unset);
  if (set->len == 0 && unset->len == 0 && !force) {
    keep_work(L, 2);
    return 0;
  }
  touch(record, now, set);
  const lumo_column *guarded = narrow(record, set, &diff);
  lumo_buf_append(diff.unset, unset->data, unset->len);
  for (int n = 4; n < WORK_BUFFERS; n++) lumo_check_buffer(L, &work[n]);
  lumo_statement_begin(statement, LUMO_UPDATE_ONE);
  lumo_write_id_filter(record, diff.guard, statement);
  size_t update = lumo_bson_begin(statement);
  write_operator("$set", diff.set, statement);
  write_operator("$unset", diff.unset, statement);
  if (set->len == 0 &&
      unset->len == 0) { /* a forced update of a model without automatic dates: the key onto itself */
    const lumo_column *primary = record->schema->columns[record->schema->primary];
    lumo_value id = lumo_record_value(record, (uint32_t)record->schema->primary);
    size_t mark = lumo_bson_begin_document(statement, LUMO_KEY("$set"));
    lumo_bson_value(statement, primary->stored, primary->stored_len, &id);
    lumo_bson_end(statement, mark);
  }
  lumo_bson_end(statement, update);
  lumo_record_apply(record->doc, record->doc_len, set, unset, document);
  lumo_check_buffer(L, document);
  if (document->len > LUMO_BSON_MAX_SIZE)
    lumo_raise_code(L, "E_CAST", "a \"%s\" document is larger than 16 MiB", record->schema->model);
  push_own_side(L, 1, record);
  lumo_prepare_plan(L); /* 4 */
  push_pending(L, document, 0);
  lumo_check_buffer(L, statement);
  lumo_write_plan *plan =
      lumo_write_plan_new("save", record->schema->collection, statement, true, false, &error);
  if (plan) plan->repeatable = !guarded; /* values are set to what they are then, without a condition */
  lumo_fill_plan(L, 4, LUMO_PLAN_WRITE, plan, &error);
  mark_prepared(record);
  keep_work(L, 2);
  if (!guarded) return 2;
  lua_pushlstring(L, guarded->name, guarded->name_len);
  return 3;
}

/* Whether the write has stored what the companion holds for the column. What a function prepares is not
 * prepared anew to see that: it may come out differently. */
static bool is_settled(lua_State *L, int i, uint32_t number, lumo_buf *probe) {
  const lumo_record *record = lua_touserdata(L, i);
  uint32_t place = record->places[number];
  if ((record->schema->columns[number]->functions & LUMO_COLUMN_PREPARE) && (place & LUMO_PLACE_ASSIGNED))
    return place & LUMO_PLACE_PREPARED;
  push_side_value(L, i, record, number);
  bool removed = is_unset(L, -1) && !(place & LUMO_PLACE_OFFSET);
  lua_pop(L, 1);
  lumo_buf_clear(probe);
  return removed || column_change(L, i, number, probe) == SAME;
}

/* A column whose companion value is the document's again needs no flag: a scalar is dropped, a table stays
 * handed out. What was changed while the write was under way stays assigned. */
static void settle(lua_State *L, int i, uint32_t number, lumo_buf *probe) {
  lumo_record *record = lua_touserdata(L, i);
  uint32_t *place = &record->places[number];
  if (!(*place & ~LUMO_PLACE_OFFSET)) return;
  if (!is_settled(L, i, number, probe)) {
    *place = (*place & LUMO_PLACE_OFFSET) | LUMO_PLACE_ASSIGNED;
    return;
  }
  push_own_side(L, i, record);
  lua_rawgeti(L, -1, (int)number + 1);
  if (lua_istable(L, -1)) {
    *place = (*place & LUMO_PLACE_OFFSET) | LUMO_PLACE_HANDED_OUT;
    lua_pop(L, 2);
    return;
  }
  *place &= LUMO_PLACE_OFFSET;
  lua_pop(L, 1);
  lua_pushnil(L);
  lua_rawseti(L, -2, (int)number + 1);
  lua_pop(L, 1);
}

static void forget_undeclared(lua_State *L, int i, lumo_record *record) {
  if (!(record->flags & LUMO_RECORD_SIDE)) return;
  push_own_side(L, i, record);
  lua_pushlightuserdata(L, (void *)&UNDECLARED);
  lua_pushnil(L);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

/* What a write has stored of the undeclared attributes. Tables stay, as they may be changed in place. */
static void settle_undeclared(lua_State *L, int i, lumo_record *record) {
  int top = lua_gettop(L);
  if (!(record->flags & LUMO_RECORD_SIDE)) return;
  push_own_side(L, i, record);
  lua_pushlightuserdata(L, (void *)&UNDECLARED);
  lua_rawget(L, -2);
  if (lua_istable(L, -1)) {
    for (lua_pushnil(L); lua_next(L, -2);) {
      if (lua_istable(L, -1)) {
        lua_pop(L, 1);
        continue;
      }
      lua_pop(L, 1);
      lua_pushvalue(L, -1);
      lua_pushnil(L);
      lua_rawset(L, -4); /* an existing key: allowed while traversing */
    }
  }
  lua_settop(L, top);
}

/* The write of the record at i has succeeded; at `pending` is its document, nil: its own. */
static void take_stored(lua_State *L, int i, int pending, uint16_t connection) {
  lumo_record *record = check_record(L, i);
  if (lua_toboolean(L, pending)) {
    adopt(L, i, pending);
    lumo_buf *probe = push_work(L);
    int work = lua_gettop(L);
    for (uint32_t n = 0; n < record->schema->count; n++) settle(L, i, n, probe);
    keep_work(L, work);
    settle_undeclared(L, i, record);
  }
  record->connection = connection;
  record->flags |= LUMO_RECORD_PERSISTED;
}

/* core.record_stored(record, pending or nil, connection number) */
static int record_stored(lua_State *L) {
  lua_settop(L, 3);
  take_stored(L, 1, 2, (uint16_t)lua_tointeger(L, 3));
  return 0;
}

/* core.records_stored(records, pending by their places, connection number) */
static int records_stored(lua_State *L) {
  uint16_t connection = (uint16_t)luaL_checkinteger(L, 3);
  int count = (int)lua_rawlen(L, 1);
  lua_settop(L, 2);
  for (int n = 1; n <= count; n++) {
    lua_rawgeti(L, 1, n);
    lua_rawgeti(L, 2, n);
    take_stored(L, 3, 4, connection);
    lua_settop(L, 2);
  }
  return 0;
}

/* core.record_keep_key(record, pending): after an insert of which it is not known whether it was applied, the
 * key that it was given stays, so that saving again cannot insert a second document. */
static int record_keep_key(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  uint32_t number = (uint32_t)record->schema->primary;
  const lumo_column *primary = record->schema->columns[number];
  lumo_value id;
  if (!lua_toboolean(L, 2) || (record->places[number] & LUMO_PLACE_OFFSET)) return 0;
  if (lumo_bson_find(lua_touserdata(L, 2), lua_rawlen(L, 2), primary->stored, primary->stored_len, &id)) {
    lumo_push_value(L, &id);
    lumo_put_attribute(L, 1, record, number);
  }
  return 0;
}

/* core.record_replace(record, read plan): the document as it was found. False when none was. */
static int record_replace(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  const lumo_read_plan *plan = lumo_check_plan(L, 2, LUMO_PLAN_READ);
  lua_settop(L, 2);
  if (plan->docs.count == 0) {
    lua_pushboolean(L, 0);
    return 1;
  }
  memcpy(lumo_newud(L, plan->docs.items[0].len), plan->docs.items[0].data, plan->docs.items[0].len);
  for (uint32_t n = 0; n < record->schema->count; n++) record->places[n] &= LUMO_PLACE_OFFSET;
  forget_undeclared(L, 1, record);
  adopt(L, 1, 3);
  lua_pushboolean(L, 1);
  return 1;
}

bool lumo_record_changed(lua_State *L, int i, uint32_t column) {
  lumo_buf *probe = lumo_push_buffer(L);
  bool changed = column_change(L, lua_absindex(L, i), column, probe) != SAME;
  lua_pop(L, 1);
  return changed;
}

void lumo_record_take_field(lua_State *L, int i, const char *stored, size_t len, const lumo_value *value) {
  lumo_record *record = lua_touserdata(L, i);
  const lumo_column *column = lumo_schema_find_stored(record->schema, stored, len);
  lumo_buf *set = lumo_push_buffer(L), *unset = lumo_push_buffer(L), *whole = lumo_push_buffer(L);
  if (value->type == LUMO_BSON_END)
    lumo_bson_null(unset, stored, len);
  else
    lumo_bson_value(set, stored, len, value);
  lumo_record_apply(record->doc, record->doc_len, set, unset, whole);
  lumo_check_buffer(L, whole);
  push_pending(L, whole, 0);
  adopt(L, i, lua_gettop(L));
  if (column) {
    record->places[column->index] &= LUMO_PLACE_OFFSET;
  } else {
    push_undeclared(L, i, record);
    lua_pushlstring(L, stored, len);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
  }
  lua_pop(L, 4);
}

/* core.delete_plan(record) */
static int delete_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_record *record = check_record(L, 1);
  lumo_check_record_key(L, record, "delete");
  lumo_buf *statement = lumo_push_buffer(L);
  lumo_statement_begin(statement, LUMO_DELETE_ONE);
  lumo_write_id_filter(record, NULL, statement);
  lumo_check_buffer(L, statement);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_WRITE,
                 lumo_write_plan_new("delete", record->schema->collection, statement, true, false, &error),
                 &error);
  return 1;
}

/* core.reload_plan(record): a find of its document. */
static int reload_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_record *record = check_record(L, 1);
  lumo_check_record_key(L, record, "refresh");
  lumo_buf *command = lumo_push_buffer(L);
  size_t mark = lumo_bson_begin(command);
  const char *collection = record->schema->collection;
  lumo_bson_string(command, LUMO_KEY("find"), collection, strlen(collection));
  lumo_bson_key(command, LUMO_BSON_DOCUMENT, LUMO_KEY("filter"));
  lumo_write_id_filter(record, NULL, command);
  lumo_bson_int32(command, LUMO_KEY("limit"), 1);
  lumo_bson_end(command, mark);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_READ,
                 lumo_read_plan_new("refresh", collection, command, true, false, &error), &error);
  return 1;
}

static int record_deleted(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  record->flags = (uint8_t)((record->flags | LUMO_RECORD_DELETED) & ~LUMO_RECORD_PERSISTED);
  return 0;
}

/* ---- states ---- */

/* Appends the table at `table` and a copy of it to the list at `list`, unless it is there. Objects with
 * methods are none of a document's tables, and stay out. */
static void keep_table(lua_State *L, int list, int table) {
  table = lua_absindex(L, table);
  lua_pushvalue(L, table);
  lua_rawget(L, list);
  bool known = !lua_isnil(L, -1);
  lua_pop(L, 1);
  if (known) return;
  if (luaL_getmetafield(L, table, "__index")) {
    lua_pop(L, 1);
    return;
  }
  lua_pushvalue(L, table);
  lua_pushboolean(L, 1);
  lua_rawset(L, list);
  int n = (int)lua_rawlen(L, list);
  lua_pushvalue(L, table);
  lua_rawseti(L, list, n + 1);
  lua_newtable(L);
  copy_entries(L, table, lua_gettop(L));
  lua_rawseti(L, list, n + 2);
}

/* Pushes the contents of the tables that the companion at `side` holds as attributes, and of those inside of
 * them, which may be changed in place: { table, copy, table, copy, … }. */
static void push_contents(lua_State *L, int side) {
  lua_newtable(L);
  int list = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, side); lua_pop(L, 1)) {
    bool attributes = lua_type(L, -2) == LUA_TNUMBER || lua_touserdata(L, -2) == (void *)&UNDECLARED;
    if (attributes && lua_istable(L, -1)) keep_table(L, list, -1);
  }
  for (int n = 2; n <= (int)lua_rawlen(L, list); n += 2) {
    lua_rawgeti(L, list, n);
    int copy = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, copy); lua_pop(L, 1))
      if (lua_istable(L, -1)) keep_table(L, list, -1);
    lua_settop(L, list);
  }
}

/* Gives the table at `table` the contents of `copy`. What has not changed needs no memory. */
static void give_contents(lua_State *L, int table, int copy) {
  for (lua_pushnil(L); lua_next(L, table);) {
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_pushvalue(L, -1);
    lua_rawget(L, copy);
    lua_rawset(L, table); /* an existing key: allowed while traversing */
  }
  copy_entries(L, copy, table);
}

/* core.record_snapshot(record): its state, to be given back once by core.record_restore(record, snapshot). */
static int record_snapshot(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  lua_settop(L, 1);
  lumo_record *copy = lumo_newud(L, lumo_record_size(record->schema, 0, 0));
  memcpy(copy, record, lumo_record_size(record->schema, 0, 0));
  if (!(record->flags & LUMO_RECORD_SIDE)) return 1;
  lumo_getuv(L, 1);
  if (!(record->flags & LUMO_RECORD_SIDE_SHARED)) {
    lua_newtable(L);
    copy_entries(L, 3, 4);
    push_contents(L, 3);
    lua_pushlightuserdata(L, (void *)&CONTENTS);
    lua_insert(L, -2);
    lua_rawset(L, 4);
  }
  lumo_setuv(L, 2);
  lua_settop(L, 2);
  return 1;
}

/* The tables of a snapshot's companion, at 3, have their contents back. */
static void restore_contents(lua_State *L) {
  lua_rawgetp(L, 3, &CONTENTS); /* 4 */
  for (int n = 1; lua_istable(L, 4) && n < (int)lua_rawlen(L, 4); n += 2) {
    lua_rawgeti(L, 4, n);
    lua_rawgeti(L, 4, n + 1);
    give_contents(L, 5, 6);
    lua_settop(L, 4);
  }
  lua_pushlightuserdata(L, (void *)&CONTENTS);
  lua_pushnil(L);
  lua_rawset(L, 3);
  lua_settop(L, 3);
}

static int record_restore(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  lumo_record *copy = lua_touserdata(L, 2);
  if (!copy || lua_rawlen(L, 2) != lumo_record_size(record->schema, 0, 0) || copy->schema != record->schema)
    lumo_raise_code(L, "E_ARGUMENT", "a snapshot of this record is expected");
  if (copy->flags & LUMO_RECORD_SIDE) {
    lumo_getuv(L, 2);
    if (!(copy->flags & LUMO_RECORD_SIDE_SHARED)) restore_contents(L);
    lumo_setuv(L, 1);
  }
  memcpy(record, copy, lumo_record_size(record->schema, 0, 0));
  return 0;
}

/* ---- what else is asked of a record ---- */

/* Pushes the attribute or field that is named at 2, raw if 3 is true, of the record at 1. */
static void push_named(lua_State *L, lumo_record *record) {
  size_t len;
  if (lua_type(L, 2) != LUA_TSTRING) lumo_raise_argument(L, "get", 1, "the name of an attribute", 2);
  const char *name = lua_tolstring(L, 2, &len);
  const lumo_column *column = lumo_schema_find(record->schema, name, len);
  lumo_value value = {0};
  if (column && !lua_toboolean(L, 3)) {
    push_attribute(L, 1, record, column->index);
    return;
  }
  if (column) {
    value = lumo_record_value(record, column->index);
  } else {
    push_side(L, 1, record);
    if (lua_istable(L, -1) && !lua_toboolean(L, 3)) {
      lua_pushlightuserdata(L, (void *)&UNDECLARED);
      lua_rawget(L, -2);
      if (lua_istable(L, -1)) {
        lua_getfield(L, -1, name);
        if (lua_isnil(L, -1)) goto stored;
        if (lua_islightuserdata(L, -1)) lua_pushnil(L); /* null or unset */
        return;
      }
    }
  stored:
    if (record->doc) lumo_bson_find(record->doc, record->doc_len, name, len, &value);
  }
  if (lumo_value_is_null(&value))
    lua_pushnil(L);
  else
    lumo_push_value(L, &value);
  if (!column && !lua_toboolean(L, 3) && !record->schema->strict && lua_istable(L, -1) &&
      !is_partial(L, 1, name)) { /* it may be changed in place */
    push_undeclared(L, 1, record);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
  }
}

/* core.record_get(record, name, raw): an attribute, or a field that no column declares; nil when there is
 * none. */
static int record_get(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  lua_settop(L, 3);
  push_named(L, record);
  if (lua_istable(L, -1)) tell_touched(L, 1);
  return 1;
}

/* core.record_connection(record, number or nil): the number of the connection that it was loaded from or
 * saved to, 0: none; set when given. */
static int record_connection(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  if (!lua_isnoneornil(L, 2)) record->connection = (uint16_t)lua_tointeger(L, 2);
  lua_pushinteger(L, record->connection);
  return 1;
}

/* Whether a field that no column declares has the name that a column goes by. */
static bool is_taken(const lumo_schema *fields, const lumo_iter *it, bool serialized) {
  if (lumo_schema_find_stored(fields, it->key, it->key_len)) return false;
  for (uint32_t i = 0; i < fields->count; i++) {
    const char *name = serialized ? fields->columns[i]->serialized : fields->columns[i]->name;
    if (name && strcmp(name, it->key) == 0) return true;
  }
  return false;
}

/* A value under another key, and what its declared columns hold under their names as attributes or in JSON.
 */
static void write_renamed(lumo_buf *out, const char *key, size_t key_len, const lumo_value *value,
                          const lumo_column *column, bool serialized) {
  lumo_iter it;
  bool array = value->type == LUMO_BSON_ARRAY && column && column->of;
  bool object = value->type == LUMO_BSON_DOCUMENT && column && column->fields;
  if ((!array && !object) || !lumo_iter_value(&it, value)) {
    lumo_bson_value(out, key, key_len, value);
    return;
  }
  lumo_bson_key(out, value->type, key, key_len);
  size_t mark = lumo_bson_begin(out);
  while (lumo_iter_next(&it)) {
    if (object && is_taken(column->fields, &it, serialized)) continue;
    const lumo_column *inner =
        array ? column->of : lumo_schema_find_stored(column->fields, it.key, it.key_len);
    const char *name = array || !inner ? it.key : serialized ? inner->serialized : inner->name;
    if (name)
      write_renamed(out, name, name == it.key ? it.key_len : strlen(name), &it.value, inner, serialized);
  }
  lumo_bson_end(out, mark);
}

/* Whether a column that reads as nil is null rather than missing. */
static bool is_null(lua_State *L, int i, const lumo_record *record, uint32_t number) {
  if (!(record->places[number] & ~LUMO_PLACE_OFFSET))
    return lumo_record_value(record, number).type == LUMO_BSON_NULL;
  push_side_value(L, i, record, number);
  bool is = lumo_is_null(L, -1);
  lua_pop(L, 1);
  return is;
}

/* An attribute that functions make: as they make it. */
static void write_made(lua_State *L, int i, uint32_t number, bool serialized, const char *name,
                       lumo_buf *out) {
  lumo_record *record = lua_touserdata(L, i);
  const lumo_column *column = record->schema->columns[number];
  lumo_place place = place_of(record, column);
  push_attribute(L, i, record, number);
  if (serialized && (column->functions & LUMO_COLUMN_SERIALIZE) && !lua_isnil(L, -1))
    call_function(L, i, column, LUMO_COLUMN_SERIALIZE);
  if (!lua_isnil(L, -1))
    lumo_encode(L, lua_gettop(L), NULL, name, strlen(name), NULL, out, &place, LUMO_ENCODE_RAW);
  else if (is_null(L, i, record, number))
    lumo_bson_null(out, name, strlen(name));
  lua_pop(L, 1);
}

static void write_column(lua_State *L, int i, uint32_t number, bool serialized, const char *name,
                         lumo_buf *out) {
  lumo_record *record = lua_touserdata(L, i);
  const lumo_column *column = record->schema->columns[number];
  if (column->functions & ~LUMO_COLUMN_COMPLETE) {
    write_made(L, i, number, serialized, name, out);
  } else if (column->renamed) {
    lumo_buf *buf = lumo_push_buffer(L);
    if (lumo_record_element(L, i, number, "", 0, buf)) {
      lumo_check_buffer(L, buf);
      lumo_value value = {.type = buf->data[0], .data = buf->data + 2, .len = (uint32_t)buf->len - 2};
      write_renamed(out, name, strlen(name), &value, column, serialized);
    }
    lua_pop(L, 1);
  } else {
    lumo_record_element(L, i, number, name, strlen(name), out);
  }
}

/* The fields that no column declares, with changes applied, as elements; nothing where the model is strict.
 */
static void write_undeclared(lua_State *L, int i, lumo_buf *out) {
  lumo_record *record = lua_touserdata(L, i);
  const lumo_schema *schema = record->schema;
  if (schema->strict) return;
  lumo_buf *set = lumo_push_buffer(L), *unset = lumo_push_buffer(L), *whole = lumo_push_buffer(L);
  changes(L, i, set, unset);
  lumo_record_apply(record->doc, record->doc_len, set, unset, whole);
  lumo_check_buffer(L, whole);
  lumo_iter it;
  lumo_iter_init(&it, whole->data, whole->len);
  while (lumo_iter_next(&it))
    if (!lumo_schema_find_stored(schema, it.key, it.key_len))
      lumo_bson_value(out, it.key, it.key_len, &it.value);
  lua_pop(L, 3);
}

/* The current document (changes applied) under the attribute names of its columns, or the serialized ones.
 * Fields that no column declares come along only where the model is not strict. */
static void write_document(lua_State *L, int i, bool serialized, lumo_buf *out) {
  const lumo_schema *schema = ((lumo_record *)lua_touserdata(L, i))->schema;
  size_t mark = lumo_bson_begin(out);
  for (uint32_t n = 0; n < schema->count; n++) {
    const lumo_column *column = schema->columns[n];
    const char *name = serialized ? column->serialized : column->name;
    if (name) write_column(L, i, n, serialized, name, out);
  }
  write_undeclared(L, i, out);
  lumo_bson_end(out, mark);
  lumo_check_buffer(L, out);
}

/* What is to become a column's JSON; type LUMO_BSON_END: nothing. What is as it was read is not copied. */
static lumo_value json_value(lua_State *L, int i, uint32_t number, lumo_buf *element) {
  const lumo_record *record = lua_touserdata(L, i);
  const lumo_column *column = record->schema->columns[number];
  bool as_stored = !(record->places[number] & ~LUMO_PLACE_OFFSET);
  if (as_stored && !column->functions && !column->renamed) return lumo_record_value(record, number);
  lumo_buf_clear(element);
  write_column(L, i, number, true, "", element);
  lumo_check_buffer(L, element);
  lumo_iter it = lumo_iter_elements(element);
  return lumo_iter_next(&it) ? it.value : (lumo_value){0};
}

/* The members of the object that the record is in JSON. `element` is a buffer to work in. */
static void write_members(lua_State *L, int i, lumo_buf *element, lumo_buf *out) {
  const lumo_schema *schema = ((lumo_record *)lua_touserdata(L, i))->schema;
  const size_t first = out->len;
  for (uint32_t n = 0; n < schema->count; n++) {
    const lumo_column *column = schema->columns[n];
    if (!column->json) continue;
    lumo_value value = json_value(L, i, n, element);
    if (value.type == LUMO_BSON_END) continue;
    if (out->len > first) lumo_buf_append(out, ",", 1);
    lumo_buf_append(out, column->json, column->json_len);
    lumo_json_value(out, &value, LUMO_JSON_PLAIN);
  }
  lumo_buf_clear(element);
  write_undeclared(L, i, element);
  lumo_check_buffer(L, element);
  lumo_iter it = lumo_iter_elements(element);
  while (lumo_iter_next(&it)) {
    if (out->len > first) lumo_buf_append(out, ",", 1);
    lumo_json_string(out, it.key, it.key_len);
    lumo_buf_append(out, ":", 1);
    lumo_json_value(out, &it.value, LUMO_JSON_PLAIN);
  }
}

/* core.record_json(record, members): the JSON text of the record; `members` is JSON text to stand inside the
 * same braces, or nil. */
static int record_json(lua_State *L) {
  check_record(L, 1);
  lua_settop(L, 2);
  lumo_buf *work = push_work(L), *text = &work[1]; /* 3 */
  lumo_buf_append(text, "{", 1);
  write_members(L, 1, &work[0], text);
  if (lua_isstring(L, 2)) {
    size_t len;
    const char *members = lua_tolstring(L, 2, &len);
    if (text->len > 1) lumo_buf_append(text, ",", 1);
    lumo_buf_append(text, members, len);
  }
  lumo_buf_append(text, "}", 1);
  lumo_check_buffer(L, text);
  lua_pushlstring(L, (const char *)text->data, text->len);
  keep_work(L, 3);
  return 1;
}

/* A value as one that every JSON encoder for Lua takes: what has no JSON type of its own becomes its text, as
 * in to_json. `text` is a buffer to work in. Recursion ends with the depth of the document, which the encoder
 * or the reply's check has limited. */
static void write_plain(lumo_buf *out, const char *key, size_t key_len, const lumo_value *value,
                        lumo_buf *text) {
  lumo_iter it;
  switch (value->type) {
  case LUMO_BSON_DOCUMENT:
  case LUMO_BSON_ARRAY: {
    lumo_bson_key(out, value->type, key, key_len);
    size_t mark = lumo_bson_begin(out);
    if (lumo_iter_value(&it, value))
      while (lumo_iter_next(&it)) write_plain(out, it.key, it.key_len, &it.value, text);
    lumo_bson_end(out, mark);
    return;
  }
  case LUMO_BSON_DOUBLE:
  case LUMO_BSON_STRING:
  case LUMO_BSON_BOOL:
  case LUMO_BSON_NULL:
  case LUMO_BSON_INT32: lumo_bson_value(out, key, key_len, value); return;
  case LUMO_BSON_INT64:
    if (llabs(lumo_value_int64(value)) <= (1LL << 53)) {
      lumo_bson_value(out, key, key_len, value);
      return;
    }
    break;
  default: break;
  }
  lumo_buf_clear(text);
  lumo_json_value(text, value, LUMO_JSON_PLAIN);
  if (text->failed)
    out->failed = true;
  else if (text->len > 1 && text->data[0] == '"')
    lumo_bson_string(out, key, key_len, (const char *)text->data + 1, text->len - 2);
  else
    lumo_bson_string(out, key, key_len, (const char *)text->data, text->len);
}

/* core.record_table(record, serialized): the current document as a table under serialized or attribute names,
 * ids, dates and the like as text; null is lumo.null. */
static int record_table(lua_State *L) {
  check_record(L, 1);
  bool serialized = lua_toboolean(L, 2);
  lua_settop(L, 1);
  lumo_buf *document = lumo_push_buffer(L), *plain = lumo_push_buffer(L), *text = lumo_push_buffer(L);
  write_document(L, 1, serialized, document);
  lumo_iter it;
  size_t mark = lumo_bson_begin(plain);
  lumo_iter_init(&it, document->data, document->len);
  while (lumo_iter_next(&it)) write_plain(plain, it.key, it.key_len, &it.value, text);
  lumo_bson_end(plain, mark);
  lumo_check_buffer(L, plain);
  lumo_push_document(L, plain->data, plain->len);
  return 1;
}

/* core.json_string(text): as a JSON literal. */
static int json_string(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  lumo_buf *out = lumo_lend_scratch(L); /* copying the text to Lua may run finalizers */
  lumo_json_string(out, text, len);
  lumo_check_buffer(L, out);
  lua_pushlstring(L, (const char *)out->data, out->len);
  lumo_return_scratch(out);
  return 1;
}

/* core.record_attributes(record): attribute → value of all that the record has, undeclared ones of a model
 * that is not strict included. */
static int record_attributes(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  lua_settop(L, 1);
  lua_newtable(L);
  if (!record->schema->strict) {
    lumo_buf *document = lumo_push_buffer(L);
    write_document(L, 1, false, document);
    lumo_iter it;
    lumo_iter_init(&it, document->data, document->len);
    while (lumo_iter_next(&it)) {
      if (lumo_schema_find(record->schema, it.key, it.key_len) || it.value.type == LUMO_BSON_NULL) continue;
      lua_pushlstring(L, it.key, it.key_len);
      lumo_push_value(L, &it.value);
      lua_rawset(L, 2);
    }
    lua_pop(L, 1);
  }
  for (uint32_t n = 0; n < record->schema->count; n++) {
    lua_pushlstring(L, record->schema->columns[n]->name, record->schema->columns[n]->name_len);
    push_attribute(L, 1, record, n);
    lua_rawset(L, 2);
  }
  return 1;
}

/* core.record_pivot(record, class or nil, connection number): the pivot document that the record was loaded
 * with, as a table or as a record of the pivot model; nil when there is none. */
static int record_pivot(lua_State *L) {
  lumo_record *record = check_record(L, 1);
  const uint8_t *pivot = (const uint8_t *)record + record->pivot;
  if (!record->pivot)
    lua_pushnil(L);
  else if (lua_istable(L, 2))
    lumo_push_record(L, 2, lumo_class_schema(L, 2), 0, false, pivot, record->pivot_len, NULL, 0,
                     record->connection);
  else
    lumo_push_document(L, pivot, record->pivot_len);
  return 1;
}

static int keys_gc(lua_State *L) {
  lumo_keys_free(lua_touserdata(L, 1));
  return 0;
}

/* core.order_records(class, records, ids): the records whose primary keys are among the ids, in the order of
 * the ids, each once. */
static int order_records(lua_State *L) {
  const lumo_schema *schema = lumo_class_schema(L, 1);
  const lumo_column *primary = schema->columns[schema->primary];
  lumo_place place = {.model = schema->model, .key = primary->name, .key_len = primary->name_len};
  lua_settop(L, 3);
  lumo_keys *keys = lumo_newud(L, sizeof *keys); /* 4 */
  memset(keys, 0, sizeof *keys);
  if (luaL_newmetatable(L, "lumo.keys")) {
    lua_pushcfunction(L, keys_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, 4);
  lumo_buf *buf = lumo_push_buffer(L); /* 5 */
  lua_newtable(L);                     /* 6: by place among the ids */
  for (int i = 1; i <= (int)lua_rawlen(L, 3); i++) {
    uint32_t index;
    lumo_buf_clear(buf);
    lua_rawgeti(L, 3, i);
    lumo_encode(L, 7, primary, "", 0, NULL, buf, &place, LUMO_ENCODE_DATA);
    lumo_check_buffer(L, buf);
    lumo_value id = {.type = buf->data[0], .data = buf->data + 2, .len = (uint32_t)buf->len - 2};
    if (lumo_keys_add(keys, &id, &index) < 0) {
      lumo_error error;
      lumo_error_init(&error);
      lumo_error_memory(&error);
      lumo_raise(L, &error);
    }
    lua_settop(L, 6);
  }
  for (int i = 1; i <= (int)lua_rawlen(L, 2); i++) {
    lua_rawgeti(L, 2, i);
    const lumo_record *record = check_record(L, 7);
    lumo_value id = lumo_record_value(record, (uint32_t)record->schema->primary);
    int64_t found = lumo_keys_find(keys, &id);
    if (found >= 0) lua_rawseti(L, 6, (int)found + 1);
    lua_settop(L, 6);
  }
  lua_newtable(L); /* 7: without the gaps of what was not found */
  int n = 0;
  for (uint32_t i = 0; i < keys->count; i++) {
    lua_rawgeti(L, 6, (int)i + 1);
    if (lua_isnil(L, -1))
      lua_pop(L, 1);
    else
      lua_rawseti(L, 7, ++n);
  }
  return 1;
}

/* core.record_is(value): the state of its model, nil if the value is not a record. */
static int record_is(lua_State *L) {
  lumo_record *record = lumo_test_record(L, 1);
  if (!record) {
    lua_pushnil(L);
    return 1;
  }
  lua_getmetatable(L, 1);
  lua_rawgeti(L, -1, 3);
  return 1;
}

static int record_tostring(lua_State *L) {
  lumo_record *record = lua_touserdata(L, 1);
  int primary = record->schema->primary;
  lua_pushfstring(L, "%s(", record->schema->model);
  push_attribute(L, 1, record, (uint32_t)primary);
  lua_getglobal(L, "tostring");
  lua_insert(L, -2);
  lua_call(L, 1, 1);
  lua_pushliteral(L, ")");
  lua_concat(L, 3);
  return 1;
}

/* core.record_class(schema, model, names, missing): the metatable of a model's records. */
static int record_class(lua_State *L) {
  lumo_check_schema(L, 1);
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TFUNCTION);
  lua_settop(L, 4);
  lua_newtable(L);
  lua_pushvalue(L, 1);
  lua_rawseti(L, 5, 1);
  lua_pushlightuserdata(L, (void *)&CLASS);
  lua_rawseti(L, 5, 2);
  lua_pushvalue(L, 2);
  lua_rawseti(L, 5, 3);
  lua_pushvalue(L, 3);
  lua_setfield(L, 5, "names");
  lua_pushvalue(L, 3);
  lua_pushvalue(L, 4);
  lua_pushcclosure(L, record_index, 2);
  lua_setfield(L, 5, "__index");
  lua_pushcfunction(L, record_newindex);
  lua_setfield(L, 5, "__newindex");
  lua_pushcfunction(L, record_tostring);
  lua_setfield(L, 5, "__tostring");
  lua_pushliteral(L, "lumo.record");
  lua_setfield(L, 5, "__name");
  lua_pushboolean(L, 0);
  lua_setfield(L, 5, "__metatable");
  return 1;
}

void lumo_open_record(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"record_class", record_class},
      {"record_is", record_is},
      {"order_records", order_records},
      {"record_side", record_side},
      {"record_get", record_get},
      {"record_set", record_set},
      {"record_merge", record_merge},
      {"record_dirty", record_dirty},
      {"record_original", record_original},
      {"record_attributes", record_attributes},
      {"record_json", record_json},
      {"record_table", record_table},
      {"json_string", json_string},
      {"record_pivot", record_pivot},
      {"record_connection", record_connection},
      {"record_stored", record_stored},
      {"records_stored", records_stored},
      {"record_replace", record_replace},
      {"record_keep_key", record_keep_key},
      {"record_deleted", record_deleted},
      {"on_record_touched", on_record_touched},
      {"watch_records", watch_records},
      {"unwatch_records", unwatch_records},
      {"record_snapshot", record_snapshot},
      {"record_restore", record_restore},
      {"insert_plan", insert_plan},
      {"update_plan", update_plan},
      {"delete_plan", delete_plan},
      {"reload_plan", reload_plan},
      {NULL, NULL},
  };
  static const luaL_Reg work_metamethods[] = {{"__gc", work_gc}, {NULL, NULL}};
  static const luaL_Reg watch_metamethods[] = {{"__gc", unwatch_records}, {NULL, NULL}};
  lumo_metatable(L, &slot_work_meta, "lumo.work", NULL, work_metamethods);
  lumo_metatable(L, &slot_watch, "lumo.watch", NULL, watch_metamethods);
  lua_pop(L, 2);
  lua_pushboolean(L, 0);
  lumo_set(L, &slot_work);
  luaL_setfuncs(L, functions, 0);
  lua_newtable(L); /* the properties that the block itself answers, for the table of names */
  static const struct {
    const char *name;
    int property;
  } properties[] = {{"is_persisted", PROP_PERSISTED},
                    {"is_new", PROP_NEW},
                    {"is_local", PROP_LOCAL},
                    {"is_deleted", PROP_DELETED}};
  for (size_t i = 0; i < sizeof properties / sizeof *properties; i++) {
    lua_pushinteger(L, properties[i].property);
    lua_setfield(L, -2, properties[i].name);
  }
  lua_setfield(L, -2, "record_properties");
}
