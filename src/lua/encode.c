/* Lua values to BSON: every cast, and every rule about what may be stored. Calls no metamethod and no user
 * function and, short of an error, makes nothing in Lua: no step of the collector runs a finalizer, so a
 * table cannot change while it is walked, and no second walk begins before the first has ended. */
#include "private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/mem.h"
#include "../core/text.h"

/* Registry slots of this file: the metatable of buffers, the list of fields and its metatable. */
static const char slot_buffer, slot_fields_meta, slot_fields;

/* Texts that the registry has as strings, each under its own address: pushing a new string may run the
 * collector. */
static const char cjson_modules[][16] = {"cjson", "cjson.safe"}, cjson_array[] = "array_mt",
                  cjson_empty_array[] = "empty_array_mt";

/* ---- buffers ---- */

enum { SCRATCH_KEPT = 4 * 1024 * 1024 }; /* bytes that the scratch buffer holds on to between uses */

static int buffer_gc(lua_State *L) {
  lumo_buf_free(lua_touserdata(L, 1));
  return 0;
}

lumo_buf *lumo_push_buffer(lua_State *L) {
  lumo_buf *buf = lumo_newvalue(L, sizeof *buf);
  *buf = (lumo_buf){0};
  lumo_get(L, &slot_buffer);
  lua_setmetatable(L, -2);
  return buf;
}

/* The buffer that is handed out to one user after the other. */
typedef struct scratch {
  lumo_buf buf; /* the first member: buffer_gc frees it */
  bool lent;
} scratch;

static scratch *push_new_scratch(lua_State *L) {
  scratch *s = lumo_newvalue(L, sizeof *s);
  *s = (scratch){0};
  lumo_get(L, &slot_buffer);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lumo_set(L, &LUMO_SCRATCH);
  return s;
}

/* A buffer that is lent, or that an error has kept from being given back, is left to whoever has it on the
 * stack. */
static scratch *push_scratch(lua_State *L) {
  lumo_get(L, &LUMO_SCRATCH);
  scratch *s = lua_touserdata(L, -1);
  if (s->lent) {
    s = push_new_scratch(L);
    lua_remove(L, -2);
  }
  if (s->buf.cap > SCRATCH_KEPT) lumo_buf_free(&s->buf);
  lumo_buf_clear(&s->buf);
  return s;
}

lumo_buf *lumo_scratch(lua_State *L) {
  scratch *s = push_scratch(L);
  lua_pop(L, 1); /* the registry keeps it */
  return &s->buf;
}

lumo_buf *lumo_lend_scratch(lua_State *L) {
  scratch *s = push_scratch(L);
  s->lent = true;
  return &s->buf;
}

void lumo_return_scratch(lumo_buf *buf) {
  ((scratch *)buf)->lent = false;
}

static void out_of_memory(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_error_memory(&error);
  lumo_raise(L, &error);
}

void lumo_check_buffer(lua_State *L, lumo_buf *buf) {
  if (buf->failed) out_of_memory(L);
}

/* ---- the walk's state ---- */

/* One field of a document that is being written. */
typedef struct field {
  const char *key; /* its stored name: in the Lua string that the table holds, or the column's */
  uint32_t key_len;
  uint32_t rank;   /* place in the document */
  uint64_t prefix; /* the key's first 8 bytes as a number, the first byte highest: decides most comparisons */
  int slot;        /* stack index of its value; 0: it has to be fetched again */
  uint32_t position;         /* lumo.ordered: of its pair, from 1 */
  const lumo_column *column; /* or NULL */
  lumo_value stored;         /* what the stored document has there */
  bool hidden;               /* none of the table's: `stored` is written back */
} field;

/* The fields of all documents that are open, the outermost's first. Owned by a userdata; kept from call to
 * call. */
typedef struct field_list {
  field *items;
  size_t count, capacity;
} field_list;

enum {
  USUAL_TEXT = 65536, /* bytes of text that need no look at their number */
  FIELDS_KEPT = 4096, /* capacity that is kept between calls */
  VALUES_KEPT =
      32, /* values of one document that stay on the Lua stack; more are fetched again by their keys */
};

/* A level of nesting: the table that is open, and where it stands. */
typedef struct level {
  lumo_place place;
  const struct level *up;
  const char *key; /* its stored name; NULL: an array element, or the outermost */
  size_t key_len;
  const void *table;
  int depth;
} level;

typedef struct walk {
  lua_State *L;
  lumo_buf *buf;
  lumo_encode_mode mode;
  const lumo_value *stored; /* what is stored in the place of the outermost value, or NULL */
  field_list *fields;       /* NULL until the first document */
} walk;

static int fields_gc(lua_State *L) {
  field_list *list = lua_touserdata(L, 1);
  lumo_free(list->items);
  *list = (field_list){0};
  return 0;
}

static field_list *fields_of(walk *w) {
  if (w->fields) return w->fields;
  lumo_get(w->L, &slot_fields);
  w->fields = lua_touserdata(w->L, -1);
  lua_pop(w->L, 1);
  w->fields->count = 0; /* what an error has left */
  if (w->fields->capacity > FIELDS_KEPT) {
    lumo_free(w->fields->items);
    *w->fields = (field_list){0};
  }
  return w->fields;
}

static field *add_field(walk *w) {
  field_list *list = w->fields;
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 64;
    field *items = lumo_realloc(list->items, capacity * sizeof *items);
    if (!items) out_of_memory(w->L);
    list->items = items;
    list->capacity = capacity;
  }
  return &list->items[list->count++];
}

/* ---- errors ---- */

const char *lumo_expectation(const lumo_column *column) {
  static const char *const texts[] = {
      [LUMO_ANY] = "a value",       [LUMO_STRING] = "a string", [LUMO_INTEGER] = "an integer",
      [LUMO_INT32] = "an int32",    [LUMO_INT64] = "an int64",  [LUMO_NUMBER] = "a number",
      [LUMO_BOOLEAN] = "a boolean", [LUMO_DATE] = "a date",     [LUMO_OBJECTID] = "an objectid",
      [LUMO_DECIMAL] = "a decimal", [LUMO_BINARY] = "a binary", [LUMO_UUID] = "a uuid",
      [LUMO_ARRAY] = "an array",    [LUMO_OBJECT] = "an object"};
  return texts[column ? column->type : LUMO_ANY];
}

/* Appends the path of a place, the model left out: "meta.tags[3]". */
static void write_path(const lumo_place *place, char *out, size_t size) {
  if (!place) return;
  write_path(place->parent, out, size);
  size_t len = strlen(out);
  if (place->key)
    snprintf(out + len, size - len, "%s%.*s", len ? "." : "", (int)place->key_len, place->key);
  else if (place->position > 0)
    snprintf(out + len, size - len, "[%lld]", (long long)place->position);
}

static const char *model_of(const lumo_place *place) {
  while (place && !place->model) place = place->parent;
  return place ? place->model : NULL;
}

int lumo_raise_cast(lua_State *L, const lumo_place *place, const lumo_column *column, int index,
                    const char *why) {
  char path[192] = "", where[256], message[512];
  const char *model = model_of(place);
  write_path(place, path, sizeof path);
  if (model)
    snprintf(where, sizeof where, "\"%s%s%s\"", model, path[0] && path[0] != '[' ? "." : "", path);
  else if (path[0])
    snprintf(where, sizeof where, "\"%s\"", path);
  else
    snprintf(where, sizeof where, "the value");
  if (why)
    snprintf(message, sizeof message, "%s %s", where, why);
  else
    snprintf(message, sizeof message, "%s expects %s, got %s", where, lumo_expectation(column),
             lumo_typename(L, index));
  lumo_raise_place(L, "E_CAST", model, path, message);
}

static void refuse(walk *w, const level *at, const lumo_column *column, int index) {
  lumo_raise_cast(w->L, &at->place, column, index, NULL);
}

static void refuse_because(walk *w, const level *at, const char *why) {
  lumo_raise_cast(w->L, &at->place, NULL, 0, why);
}

/* ---- scalars ---- */

static void put(walk *w, const char *key, size_t key_len, const lumo_value *v) {
  lumo_bson_value(w->buf, key, key_len, v);
}

static void encode_text(walk *w, int index, const char *key, size_t key_len, const level *at) {
  size_t len;
  const char *text = lua_tolstring(w->L, index, &len);
  if (len > LUMO_BSON_MAX_SIZE) refuse_because(w, at, "is longer than 16 MiB");
  if (!lumo_utf8_valid(text, len))
    refuse_because(w, at, "is not valid UTF-8 (bytes are stored by lumo.binary)");
  lumo_bson_string(w->buf, key, key_len, text, len);
}

/* True if the stored number is this integer: it is then written back as it is. */
static bool same_integer(const lumo_value *stored, int64_t v) {
  double d;
  if (!stored) return false;
  switch (stored->type) {
  case LUMO_BSON_INT32: return lumo_value_int32(stored) == v;
  case LUMO_BSON_INT64: return lumo_value_int64(stored) == v;
  case LUMO_BSON_DOUBLE:
    d = lumo_value_double(stored);
    return d >= -9223372036854775808.0 && d < 9223372036854775808.0 && d == floor(d) && (int64_t)d == v;
  default: return false;
  }
}

/* The same for a double, to the sign of its zero; every NaN is the same, as LuaJIT keeps only one. */
static bool same_double(const lumo_value *stored, double v) {
  double d;
  if (!stored) return false;
  if (stored->type != LUMO_BSON_DOUBLE)
    return v >= -9223372036854775808.0 && v < 9223372036854775808.0 && v == floor(v) &&
           !(v == 0 && signbit(v)) && same_integer(stored, (int64_t)v);
  d = lumo_value_double(stored);
  return memcmp(&d, &v, sizeof d) == 0 || (isnan(d) && isnan(v));
}

static void put_integer(walk *w, lumo_type type, const char *key, size_t key_len, const lumo_value *stored,
                        int64_t v) {
  if (same_integer(stored, v))
    put(w, key, key_len, stored);
  else if (type == LUMO_INT64)
    lumo_bson_int64(w->buf, key, key_len, v);
  else
    lumo_bson_integer(w->buf, key, key_len, v);
}

static void put_double(walk *w, const char *key, size_t key_len, const lumo_value *stored, double v) {
#ifdef LUMO_LUAJIT
  if (isnan(v)) v = NAN; /* LuaJIT's own has the sign bit set */
#endif
  if (same_double(stored, v))
    put(w, key, key_len, stored);
  else
    lumo_bson_double(w->buf, key, key_len, v);
}

static void encode_integer(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                           const lumo_value *stored, const level *at) {
  int64_t v;
  char why[80];
  if (!lumo_to_integer(w->L, index, &v)) {
    if (lua_type(w->L, index) != LUA_TNUMBER) refuse(w, at, column, index);
    snprintf(why, sizeof why, "expects %s, got a number that is not one", lumo_expectation(column));
    refuse_because(w, at, why);
  }
  if (column->type == LUMO_INT32 && (v < INT32_MIN || v > INT32_MAX))
    refuse_because(w, at, "expects an int32, got a larger number");
  put_integer(w, column->type, key, key_len, stored, v);
}

/* A number where any number goes. What Lua 5.4 holds as an integer is stored as one; LuaJIT's numbers are
 * integers where they are integral and nothing asks for doubles. */
static void encode_number(walk *w, int index, bool as_double, const char *key, size_t key_len,
                          const lumo_value *stored) {
  lua_State *L = w->L;
  double d = lua_tonumber(L, index);
#ifdef LUMO_LUAJIT
  bool integer = !as_double && lumo_isinteger(L, index) && !(d == 0 && signbit(d));
#else
  bool integer = lua_isinteger(L, index);
  (void)as_double;
#endif
  if (integer)
    put_integer(w, LUMO_INTEGER, key, key_len, stored, (int64_t)lua_tointeger(L, index));
  else
    put_double(w, key, key_len, stored, d);
}

static void encode_number_column(walk *w, int index, const lumo_column *column, const char *key,
                                 size_t key_len, const lumo_value *stored, const level *at) {
  int64_t v;
  if (lua_type(w->L, index) == LUA_TNUMBER)
    encode_number(w, index, true, key, key_len, stored);
  else if (lumo_test_int64(w->L, index, &v))
    put_integer(w, LUMO_INT64, key, key_len, stored, v);
  else
    refuse(w, at, column, index);
}

static void encode_objectid(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                            const level *at) {
  const uint8_t *same = lumo_test_objectid(w->L, index);
  uint8_t id[12];
  if (!same) {
    size_t len;
    if (lua_type(w->L, index) != LUA_TSTRING) refuse(w, at, column, index);
    const char *text = lua_tolstring(w->L, index, &len);
    if (!lumo_objectid_parse(text, len, id))
      refuse_because(w, at, "expects an objectid, got text that is not 24 hex digits");
  }
  lumo_bson_objectid(w->buf, key, key_len, same ? same : id);
}

static void encode_date(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                        const level *at) {
  int64_t ms;
  if (!lumo_to_date(w->L, index, &ms)) {
    int type = lua_type(w->L, index);
    if (type == LUA_TSTRING)
      refuse_because(w, at, "expects a date, got text that is not ISO 8601 in whole milliseconds");
    if (type == LUA_TNUMBER) refuse_because(w, at, "expects a date, got a number out of range");
    refuse(w, at, column, index);
  }
  lumo_bson_date(w->buf, key, key_len, ms);
}

static void encode_decimal(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                           const level *at) {
  uint8_t decimal[16];
  if (!lumo_to_decimal(w->L, index, decimal)) {
    int type = lua_type(w->L, index);
    if (type == LUA_TSTRING) refuse_because(w, at, "expects a decimal, got text that is not one");
    if (type == LUA_TNUMBER) refuse_because(w, at, "expects a decimal, got a number that is not an integer");
    refuse(w, at, column, index);
  }
  put(w, key, key_len, &(lumo_value){decimal, 16, LUMO_BSON_DECIMAL});
}

/* Writes the bytes as a binary without a copy in between. */
static void put_binary(walk *w, const char *key, size_t key_len, uint8_t subtype, const void *bytes,
                       size_t len) {
  uint8_t head[5] = {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16), (uint8_t)(len >> 24), subtype};
  lumo_bson_key(w->buf, LUMO_BSON_BINARY, key, key_len);
  lumo_buf_append(w->buf, head, sizeof head);
  lumo_buf_append(w->buf, bytes, len);
}

static void encode_binary(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                          const level *at) {
  lumo_value v;
  size_t len;
  if (lua_type(w->L, index) == LUA_TSTRING) {
    const char *bytes = lua_tolstring(w->L, index, &len);
    if (len > LUMO_BSON_MAX_SIZE) refuse_because(w, at, "is longer than 16 MiB");
    put_binary(w, key, key_len, 0, bytes, len);
  } else if (lumo_test_value(w->L, index, &v) && v.type == LUMO_BSON_BINARY) {
    put(w, key, key_len, &v);
  } else {
    refuse(w, at, column, index);
  }
}

static void encode_uuid(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                        const level *at) {
  lumo_value v;
  uint8_t uuid[16];
  size_t len;
  if (lumo_test(w->L, index, &LUMO_MT_UUID) && lumo_test_value(w->L, index, &v)) {
    put(w, key, key_len, &v);
    return;
  }
  if (lua_type(w->L, index) != LUA_TSTRING) refuse(w, at, column, index);
  const char *text = lua_tolstring(w->L, index, &len);
  if (!lumo_uuid_parse(text, len, uuid)) refuse_because(w, at, "expects a uuid, got text that is not one");
  put_binary(w, key, key_len, 4, uuid, 16);
}

/* ---- tables ---- */

static void encode_value(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                         const lumo_value *stored, const level *at);

typedef enum { SHAPE_EMPTY, SHAPE_ARRAY, SHAPE_DOCUMENT, SHAPE_ORDERED } shape;

/* Whether the metatable on the top of the stack is one of the marks that the loaded cjson puts on arrays. */
static bool is_cjson_mark(lua_State *L, const char *mark) {
  const size_t count = sizeof cjson_modules / sizeof *cjson_modules;
  bool same = false;
  int metatable = lua_gettop(L);
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  for (size_t i = 0; !same && i < count && lua_type(L, -1) == LUA_TTABLE; i++) {
    lumo_get(L, cjson_modules[i]);
    lua_rawget(L, -2);
    if (lua_type(L, -1) == LUA_TTABLE) {
      lumo_get(L, mark);
      lua_rawget(L, -2);
      same = lua_rawequal(L, -1, metatable);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  lua_settop(L, metatable);
  return same;
}

/* What a table is by its mark, or by its first key when it has none that counts. */
static shape shape_of(lua_State *L, int index) {
  bool array = false, ordered = false, empty_array = false;
  if (lua_getmetatable(L, index)) {
    lumo_get(L, &LUMO_MT_ARRAY);
    lumo_get(L, &LUMO_MT_ORDERED);
    array = lua_rawequal(L, -2, -3);
    ordered = lua_rawequal(L, -1, -3);
    lua_pop(L, 2);
    if (!array && !ordered) {
      array = is_cjson_mark(L, cjson_array);
      empty_array = !array && is_cjson_mark(L, cjson_empty_array);
    }
    lua_pop(L, 1);
  }
  if (array) return SHAPE_ARRAY;
  if (ordered) return SHAPE_ORDERED;
  lua_pushnil(L);
  if (!lua_next(L, index)) return empty_array ? SHAPE_ARRAY : SHAPE_EMPTY;
  bool positions = lua_type(L, -2) == LUA_TNUMBER;
  lua_pop(L, 2);
  return positions ? SHAPE_ARRAY : SHAPE_DOCUMENT;
}

/* Opens a level for the table at `index`. Only a table that is nested too deep can be a cycle; where one
 * closes is then looked for, as the nearest place of a table inside itself. */
static level enter(walk *w, int index, const level *at) {
  level inner = *at;
  inner.table = lua_topointer(w->L, index);
  if (inner.depth > LUMO_BSON_MAX_DEPTH) {
    const level *closes = NULL;
    for (const level *one = &inner; one; one = one->up)
      for (const level *other = one->up; other; other = other->up)
        if (one->table == other->table) closes = one;
    if (closes) refuse_because(w, closes, "contains itself");
    refuse_because(w, at, "is nested deeper than 100");
  }
  luaL_checkstack(w->L, VALUES_KEPT + LUA_MINSTACK, "nested values");
  return inner;
}

/* The level of a value inside the table of `outer`. */
static level inside(const level *outer) {
  return (level){.place = {.parent = &outer->place}, .up = outer, .depth = outer->depth + 1};
}

/* Checks that the keys of a table are 1 to n, and returns n. */
static lua_Integer check_positions(walk *w, int index, const level *at) {
  lua_State *L = w->L;
  int64_t position, largest = 0, count = 0;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TNUMBER || !lumo_to_integer(L, -1, &position) || position < 1)
      refuse_because(w, at, "mixes positions and other keys");
    if (position > largest) largest = position;
    count++;
  }
  if (count == largest) return (lua_Integer)largest;
  for (position = 1;; position++) {
    lua_rawgeti(L, index, (int)position);
    if (lua_isnil(L, -1)) break;
    lua_pop(L, 1);
  }
  char why[64];
  snprintf(why, sizeof why, "has a hole at position %lld", (long long)position);
  refuse_because(w, at, why);
  return 0;
}

typedef struct element_key {
  char digits[12];
  size_t len;
} element_key;

static void set_element_key(element_key *key, uint32_t index) {
  char *p = key->digits + sizeof key->digits;
  do *--p = (char)('0' + index % 10);
  while ((index /= 10) != 0);
  key->len = (size_t)(key->digits + sizeof key->digits - p);
  memmove(key->digits, p, key->len);
}

/* An array that is being written, its stored counterpart walked along. */
typedef struct elements {
  const lumo_column *of;
  lumo_iter stored;
  bool has_stored;
  level inner; /* of the element; its position is the number of those done */
} elements;

/* The value on the top of the stack as the next element; pops it. */
static void encode_element(walk *w, elements *e) {
  element_key key;
  set_element_key(&key, (uint32_t)e->inner.place.position++);
  e->has_stored = e->has_stored && lumo_iter_next(&e->stored);
  encode_value(w, lua_gettop(w->L), e->of, key.digits, key.len, e->has_stored ? &e->stored.value : NULL,
               &e->inner);
  lua_pop(w->L, 1);
}

/* Nearly always the keys come as 1, 2, 3 …; from the first that does not on, elements are fetched by
 * position. */
static void encode_elements(walk *w, int index, const lumo_column *of, const lumo_value *stored,
                            const level *at) {
  lua_State *L = w->L;
  elements e = {.of = of, .inner = inside(at)};
  lua_Integer *done = &e.inner.place.position, count;
  e.has_stored = stored && stored->type == LUMO_BSON_ARRAY && lumo_iter_value(&e.stored, stored);
  lua_pushnil(L);
  while (lua_next(L, index)) {
    if (lua_type(L, -2) == LUA_TNUMBER && lua_tonumber(L, -2) == (lua_Number)(*done + 1)) {
      encode_element(w, &e);
      continue;
    }
    lua_pop(L, 2);
    for (count = check_positions(w, index, at); *done < count;) {
      lua_rawgeti(L, index, (int)(*done + 1));
      encode_element(w, &e);
    }
    return;
  }
}

/* ---- documents ---- */

static uint64_t prefix_of(const char *key, size_t len) {
  uint8_t bytes[8] = {0};
  uint64_t prefix = 0;
  memcpy(bytes, key, len < 8 ? len : 8);
  for (int i = 0; i < 8; i++) prefix = prefix << 8 | bytes[i];
  return prefix;
}

static inline int order_keys(const field *a, const field *b) {
  if (a->prefix != b->prefix) return a->prefix < b->prefix ? -1 : 1;
  int order = memcmp(a->key, b->key, a->key_len < b->key_len ? a->key_len : b->key_len);
  return order ? order : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

static int by_key(const void *a, const void *b) {
  return order_keys(a, b);
}

static int by_rank(const void *a, const void *b) {
  const field *left = a, *right = b;
  return left->rank != right->rank ? (left->rank > right->rank) - (left->rank < right->rank)
                                   : order_keys(left, right);
}

/* Documents are small: up to a dozen fields are moved faster than qsort is called. */
static inline void sort_fields(field *items, size_t count, int (*order)(const void *, const void *)) {
  if (count > 12) {
    qsort(items, count, sizeof *items, order);
    return;
  }
  for (size_t i = 1; i < count; i++) {
    if (order(&items[i - 1], &items[i]) <= 0) continue;
    field moved = items[i];
    size_t j = i;
    for (; j > 0 && order(&moved, &items[j - 1]) < 0; j--) items[j] = items[j - 1];
    items[j] = moved;
  }
}

static void begin_field(walk *w, const lumo_schema *schema, int slot, uint32_t position, int key_index) {
  size_t len;
  const char *name = lua_tolstring(w->L, key_index, &len);
  const lumo_column *column = schema ? lumo_schema_find(schema, name, len) : NULL;
  field *f = add_field(w);
  f->key = column ? column->stored : name;
  f->key_len = column ? column->stored_len : (uint32_t)len;
  f->prefix = prefix_of(f->key, f->key_len);
  f->slot = slot;
  f->position = position;
  f->column = column;
  f->stored.type = LUMO_BSON_END;
  f->hidden = false;
}

static void gather_pairs(walk *w, int index, const lumo_schema *schema, const level *at) {
  lua_State *L = w->L;
  lua_Integer count = check_positions(w, index, at);
  for (lua_Integer i = 1; i <= count; i++) {
    lua_rawgeti(L, index, (int)i);
    bool pair = lua_type(L, -1) == LUA_TTABLE;
    for (int j = 1; pair && j <= 3; j++) lua_rawgeti(L, -j, j);
    if (!pair || lua_type(L, -3) != LUA_TSTRING || lua_isnil(L, -2) || !lua_isnil(L, -1)) {
      level inner = inside(at);
      inner.place.position = i;
      refuse_because(w, &inner, "expects a pair { key, value }");
    }
    begin_field(w, schema, 0, (uint32_t)i, -3);
    lua_pop(L, 4); /* the pair keeps the key */
  }
}

static void gather(walk *w, int index, const lumo_schema *schema, const level *at) {
  lua_State *L = w->L;
  int kept = 0;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    if (lua_type(L, -2) != LUA_TSTRING) refuse_because(w, at, "mixes names and other keys");
    bool keep = kept++ < VALUES_KEPT;
    begin_field(w, schema, keep ? lua_gettop(L) - 1 : 0, 0, -2);
    if (keep)
      lua_insert(L, -2); /* the value stays below the key that lua_next takes */
    else
      lua_pop(L, 1);
  }
}

/* Adds the fields that reading the document of this table has left out, where it would leave them out again.
 */
static void gather_hidden(walk *w, int index, const lumo_schema *schema) {
  lumo_iter it;
  if (!schema || !lumo_find_hidden(w->L, index, &it)) return;
  while (lumo_iter_next(&it)) {
    if (!lumo_is_hidden(schema, it.key, it.key_len)) continue;
    field *f = add_field(w);
    *f = (field){.key = it.key,
                 .key_len = it.key_len,
                 .prefix = prefix_of(it.key, it.key_len),
                 .position = UINT32_MAX,
                 .stored = it.value,
                 .hidden = true};
  }
}

/* Gives the fields (sorted by key) that the stored document has their values, and their places unless the
 * order is given. */
static void match_stored(field *items, size_t count, const lumo_value *stored, bool ordered,
                         uint32_t *ranks) {
  lumo_iter it;
  lumo_iter_value(&it, stored);
  for (; lumo_iter_next(&it); ++*ranks) {
    field wanted = {.key = it.key, .key_len = it.key_len, .prefix = prefix_of(it.key, it.key_len)};
    field *found = bsearch(&wanted, items, count, sizeof *items, by_key);
    if (!found) continue;
    if (!found->hidden) found->stored = it.value;
    if (!ordered) found->rank = *ranks;
  }
}

static bool key_is(const field *f, const char *text) {
  return f->key_len == strlen(text) && memcmp(f->key, text, f->key_len) == 0;
}

/* The place of a DBRef's key among its like, which the server wants first and in this order; 3 for any other
 * key. */
static uint32_t reference_rank(const field *f) {
  return key_is(f, "$ref") ? 0 : key_is(f, "$id") ? 1 : key_is(f, "$db") ? 2 : 3;
}

static bool is_reference(const field *items, size_t count) {
  bool ref = false, id = false;
  for (size_t i = 0; i < count; i++) {
    ref = ref || key_is(&items[i], "$ref");
    id = id || key_is(&items[i], "$id");
  }
  return ref && id;
}

/* Whether a document at the end of the path below `v` has the key; what the path names in an array, it names
 * in each of its elements. */
static bool holds_key(const lumo_value *v, const level *const *path, size_t length, const field *f) {
  lumo_iter it;
  bool element = length > 0 && !path[0]->key;
  const char *key = length > 0 ? path[0]->key : f->key;
  size_t key_len = length > 0 ? path[0]->key_len : f->key_len;
  if (v->type != (element ? LUMO_BSON_ARRAY : LUMO_BSON_DOCUMENT) || !lumo_iter_value(&it, v)) return false;
  while (lumo_iter_next(&it)) {
    if (!element && (it.key_len != key_len || memcmp(it.key, key, key_len) != 0)) continue;
    if (length == 0 || holds_key(&it.value, path + 1, length - 1, f)) return true;
    if (!element) return false;
  }
  return false;
}

/* Elements of an array are compared with the stored ones of the same position, but may have been moved: a key
 * is the stored document's, too, if any element there has it. */
static bool is_known(const walk *w, const field *f, const level *at) {
  const level *path[LUMO_BSON_MAX_DEPTH];
  size_t first = LUMO_BSON_MAX_DEPTH;
  if (f->stored.type != LUMO_BSON_END) return true;
  if (!w->stored) return false;
  for (; at->up; at = at->up) path[--first] = at;
  return holds_key(w->stored, path + first, LUMO_BSON_MAX_DEPTH - first, f);
}

/* What no key may be; then what a new key of data may not be. */
static const char *wrong_key(const walk *w, const field *f, bool reference, const level *at) {
  const char *why = NULL;
  bool nul = false, dot = false, ascii = true;
  for (uint32_t i = 0; i < f->key_len; i++) {
    nul |= f->key[i] == '\0';
    dot |= f->key[i] == '.';
    ascii &= (signed char)f->key[i] >= 0;
  }
  if (nul) return "has a key with NUL";
  if (!ascii && !lumo_utf8_valid(f->key, f->key_len)) return "has a key that is not valid UTF-8";
  if (w->mode != LUMO_ENCODE_DATA || f->column) return NULL;
  if (f->key_len == 0)
    why = "has an empty key";
  else if (f->key[0] == '$' && !(reference && reference_rank(f) < 3))
    why = "has a key that begins with \"$\"";
  else if (dot)
    why = "has a key with a dot";
  return why && !is_known(w, f, at) ? why : NULL;
}

static void check_declared(walk *w, const field *f, const lumo_schema *schema, const level *at) {
  char prefix[192] = "";
  lumo_error error;
  bool taken = lumo_schema_find_stored(schema, f->key, f->key_len) != NULL;
  if (f->column || (!taken && (!schema->strict || is_known(w, f, at)))) return;
  write_path(&at->place, prefix, sizeof prefix - 1);
  if (prefix[0]) strcat(prefix, ".");
  lumo_error_init(&error);
  lumo_schema_undefined(schema, prefix, f->key, f->key_len, &error);
  lumo_raise_place(w->L, error.code, schema->model, error.attribute, error.message);
}

/* Puts the gathered fields into the order in which they are written, and checks their keys. */
static void arrange(walk *w, field *items, size_t count, const lumo_schema *schema, const lumo_value *stored,
                    bool ordered, const level *at) {
  bool reference = false;
  uint32_t ranks = 0; /* those of the stored document's fields; then a DBRef's, the declared, the rest */
  sort_fields(items, count, by_key);
  for (size_t i = 0; i < count; i++) {
    if (i > 0 && order_keys(&items[i - 1], &items[i]) == 0) refuse_because(w, at, "has a key twice");
    items[i].rank = ordered ? items[i].position : UINT32_MAX;
  }
  if (stored && stored->type == LUMO_BSON_DOCUMENT) match_stored(items, count, stored, ordered, &ranks);
  if (w->mode == LUMO_ENCODE_DATA && at->depth > 1 && count && items[0].key[0] <= '$')
    reference = is_reference(items, count);
  for (size_t i = 0; i < count; i++) {
    field *f = &items[i];
    const char *why = wrong_key(w, f, reference, at);
    if (why) refuse_because(w, at, why);
    if (schema) check_declared(w, f, schema, at);
    if (f->rank == UINT32_MAX && reference && reference_rank(f) < 3) f->rank = ranks + reference_rank(f);
    if (f->rank == UINT32_MAX && f->column) f->rank = ranks + 3 + f->column->index;
  }
  if (schema || stored || ordered || reference) sort_fields(items, count, by_rank);
}

/* Pushes the value of a field that did not stay on the stack. lua_getfield, for it does not run the collector
 * as pushing the key would; the table has the key, so no metamethod is asked. */
static void fetch(lua_State *L, int index, const field *f) {
  if (f->position) {
    lua_rawgeti(L, index, (int)f->position);
    lua_rawgeti(L, -1, 2);
    lua_remove(L, -2);
  } else {
    lua_getfield(L, index, f->column ? f->column->name : f->key);
  }
}

/* The fields of the table at `index` into the document that is open. */
static void encode_fields(walk *w, int index, const lumo_schema *schema, const lumo_value *stored,
                          bool ordered, const level *at) {
  lua_State *L = w->L;
  field_list *list = fields_of(w);
  size_t first = list->count;
  int top = lua_gettop(L);
  if (ordered)
    gather_pairs(w, index, schema, at);
  else
    gather(w, index, schema, at);
  gather_hidden(w, index, schema);
  size_t end = list->count;
  if (end > first) arrange(w, list->items + first, end - first, schema, stored, ordered, at);
  level inner = inside(at);
  for (size_t i = first; i < end; i++) {
    field f = list->items[i]; /* inner documents may move the list */
    inner.place.key = f.column ? f.column->name : f.key;
    inner.place.key_len = f.column ? f.column->name_len : f.key_len;
    inner.key = f.key;
    inner.key_len = f.key_len;
    if (f.hidden) {
      put(w, f.key, f.key_len, &f.stored);
      continue;
    }
    if (!f.slot) fetch(L, index, &f);
    encode_value(w, f.slot ? f.slot : lua_gettop(L), f.column, f.key, f.key_len,
                 f.stored.type != LUMO_BSON_END ? &f.stored : NULL, &inner);
    if (!f.slot) lua_pop(L, 1);
  }
  list->count = first;
  lua_settop(L, top);
}

static void encode_table(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                         const lumo_value *stored, const level *at) {
  index = lua_absindex(w->L, index);
  lumo_type type = column ? column->type : LUMO_ANY;
  level opened = enter(w, index, at);
  shape found = shape_of(w->L, index);
  if (type == LUMO_ARRAY ? found <= SHAPE_ARRAY : type == LUMO_ANY && found == SHAPE_ARRAY) {
    size_t mark = lumo_bson_begin_array(w->buf, key, key_len);
    encode_elements(w, index, column ? column->of : NULL, stored, &opened);
    lumo_bson_end(w->buf, mark);
  } else if (type == LUMO_ARRAY) {
    refuse_because(w, at, "expects an array, got a document");
  } else if (found == SHAPE_ARRAY) {
    refuse_because(w, at, "expects an object, got an array");
  } else {
    size_t mark = lumo_bson_begin_document(w->buf, key, key_len);
    encode_fields(w, index, column ? column->fields : NULL, stored, found == SHAPE_ORDERED, &opened);
    lumo_bson_end(w->buf, mark);
  }
}

/* ---- any value ---- */

static void encode_any(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                       const lumo_value *stored, const level *at) {
  lua_State *L = w->L;
  lumo_value v;
  switch (lua_type(L, index)) {
  case LUA_TBOOLEAN: lumo_bson_boolean(w->buf, key, key_len, lua_toboolean(L, index)); break;
  case LUA_TNUMBER: encode_number(w, index, false, key, key_len, stored); break;
  case LUA_TSTRING: encode_text(w, index, key, key_len, at); break;
  case LUA_TTABLE: encode_table(w, index, column, key, key_len, stored, at); break;
  default:
    if (!lumo_test_value(L, index, &v)) refuse(w, at, column, index);
    if (v.type == LUMO_BSON_INT64)
      put_integer(w, LUMO_INT64, key, key_len, stored, lumo_value_int64(&v));
    else
      put(w, key, key_len, &v);
  }
}

static void encode_value(walk *w, int index, const lumo_column *column, const char *key, size_t key_len,
                         const lumo_value *stored, const level *at) {
  lua_State *L = w->L;
  if (lumo_is_null(L, index)) {
    lumo_bson_null(w->buf, key, key_len);
    return;
  }
  switch (column ? column->type : LUMO_ANY) {
  case LUMO_ANY: encode_any(w, index, column, key, key_len, stored, at); break;
  case LUMO_STRING:
    if (lua_type(L, index) != LUA_TSTRING) refuse(w, at, column, index);
    encode_text(w, index, key, key_len, at);
    break;
  case LUMO_INTEGER:
  case LUMO_INT32:
  case LUMO_INT64: encode_integer(w, index, column, key, key_len, stored, at); break;
  case LUMO_NUMBER: encode_number_column(w, index, column, key, key_len, stored, at); break;
  case LUMO_BOOLEAN:
    if (lua_type(L, index) != LUA_TBOOLEAN) refuse(w, at, column, index);
    lumo_bson_boolean(w->buf, key, key_len, lua_toboolean(L, index));
    break;
  case LUMO_DATE: encode_date(w, index, column, key, key_len, at); break;
  case LUMO_OBJECTID: encode_objectid(w, index, column, key, key_len, at); break;
  case LUMO_DECIMAL: encode_decimal(w, index, column, key, key_len, at); break;
  case LUMO_BINARY: encode_binary(w, index, column, key, key_len, at); break;
  case LUMO_UUID: encode_uuid(w, index, column, key, key_len, at); break;
  case LUMO_ARRAY:
  case LUMO_OBJECT:
    if (lua_type(L, index) != LUA_TTABLE) refuse(w, at, column, index);
    encode_table(w, index, column, key, key_len, stored, at);
    break;
  }
}

/* ---- the two ways in ---- */

static void finish(walk *w, size_t mark, const level *at) {
  lumo_check_buffer(w->L, w->buf);
  if (w->mode == LUMO_ENCODE_DATA && w->buf->len - mark > LUMO_BSON_MAX_SIZE)
    refuse_because(w, at, "is too large: a document has at most 16 MiB");
}

/* Appends a value that is what a column of its type usually holds; false for all others. */
static inline bool encode_usual(lua_State *L, int index, lumo_type type, const char *key, size_t key_len,
                                lumo_buf *buf) {
  int64_t v;
  size_t len;
  switch (type) {
  case LUMO_STRING: {
    if (lua_type(L, index) != LUA_TSTRING) return false;
    const char *text = lua_tolstring(L, index, &len);
    if (len > USUAL_TEXT || !lumo_utf8_valid(text, len)) return false;
    lumo_bson_string(buf, key, key_len, text, len);
    return true;
  }
  case LUMO_INTEGER:
    if (lua_type(L, index) != LUA_TNUMBER || !lumo_to_integer(L, index, &v)) return false;
    lumo_bson_integer(buf, key, key_len, v);
    return true;
  case LUMO_BOOLEAN:
    if (lua_type(L, index) != LUA_TBOOLEAN) return false;
    lumo_bson_boolean(buf, key, key_len, lua_toboolean(L, index));
    return true;
  case LUMO_DATE:
    if (!lumo_test_datetime(L, index, &v)) return false;
    lumo_bson_date(buf, key, key_len, v);
    return true;
  case LUMO_OBJECTID: {
    const uint8_t *id = lumo_test_objectid(L, index);
    if (!id) return false;
    lumo_bson_objectid(buf, key, key_len, id);
    return true;
  }
  default: return false;
  }
}

/* A value of any kind, in a place that may be asked for when it is refused. */
static __attribute__((noinline)) void encode_walk(lua_State *L, int index, const lumo_column *column,
                                                  const char *key, size_t key_len, const lumo_value *stored,
                                                  lumo_buf *buf, const lumo_place *place,
                                                  lumo_encode_mode mode) {
  walk w = {L, buf, mode, stored, NULL};
  level at = {.depth = 2}; /* the document around it is the first level */
  size_t mark = buf->len;
  if (place) at.place = *place;
  encode_value(&w, index, column, key, key_len, stored, &at);
  finish(&w, mark, &at);
}

void lumo_encode(lua_State *L, int index, const lumo_column *column, const char *key, size_t key_len,
                 const lumo_value *stored, lumo_buf *buf, const lumo_place *place, lumo_encode_mode mode) {
  if (column && !stored && encode_usual(L, index, column->type, key, key_len, buf))
    lumo_check_buffer(L, buf);
  else
    encode_walk(L, index, column, key, key_len, stored, buf, place, mode);
}

void lumo_encode_document(lua_State *L, int index, const lumo_schema *fields, const lumo_value *stored,
                          lumo_buf *buf, const lumo_place *place, lumo_encode_mode mode) {
  walk w = {L, buf, mode, stored, NULL};
  level at = {.depth = 1};
  size_t mark = buf->len;
  lumo_column object = {.type = LUMO_OBJECT};
  if (place) at.place = *place;
  index = lua_absindex(L, index);
  if (lua_type(L, index) != LUA_TTABLE) refuse(&w, &at, &object, index);
  level opened = enter(&w, index, &at);
  shape found = shape_of(L, index);
  if (found == SHAPE_ARRAY) refuse_because(&w, &at, "expects an object, got an array");
  lumo_bson_begin(buf);
  encode_fields(&w, index, fields, stored, found == SHAPE_ORDERED, &opened);
  lumo_bson_end(buf, mark);
  finish(&w, mark, &at);
}

static void keep_text(lua_State *L, const char *text) {
  lua_pushstring(L, text);
  lumo_set(L, text);
}

void lumo_open_encode(lua_State *L) {
  static const luaL_Reg buffer_meta[] = {{"__gc", buffer_gc}, {NULL, NULL}};
  static const luaL_Reg fields_meta[] = {{"__gc", fields_gc}, {NULL, NULL}};
  lumo_metatable(L, &slot_buffer, "lumo.buffer", NULL, buffer_meta);
  push_new_scratch(L);
  lua_pop(L, 1);
  lumo_metatable(L, &slot_fields_meta, "lumo.fields", NULL, fields_meta);
  field_list *list = lumo_newvalue(L, sizeof *list);
  *list = (field_list){0};
  lua_insert(L, -2);
  lua_setmetatable(L, -2);
  lumo_set(L, &slot_fields);
  keep_text(L, cjson_modules[0]);
  keep_text(L, cjson_modules[1]);
  keep_text(L, cjson_array);
  keep_text(L, cjson_empty_array);
  lua_pop(L, 1);
}
