/* BSON values that Lua has no type for, as small userdata; and the marks of arrays and ordered documents. */
#include "private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../core/json.h"
#include "../core/text.h"

/* The one layout of all kinds: the value as it stands in a document. A userdata says itself that it is one:
 * asking its metatable would take most of the time of encoding a date. No other has a length that agrees with
 * its size and this number, which is another in each process. */
typedef struct boxed {
  uint32_t mark;
  uint32_t len;
  uint8_t type;
  uint8_t data[];
} boxed;

static const char mark;

static uint32_t own_mark(void) {
  return (uint32_t)(uintptr_t)&mark;
}

static boxed *test_boxed(lua_State *L, int i) {
  boxed *box = lua_touserdata(L, i);
  size_t size = box ? lua_rawlen(L, i) : 0; /* of a light userdata 0, too */
  if (size < offsetof(boxed, data) || box->mark != own_mark()) return NULL;
  return size == offsetof(boxed, data) + box->len ? box : NULL;
}

/* The same if it is of that type. */
static boxed *test_type(lua_State *L, int i, uint8_t type) {
  boxed *box = test_boxed(L, i);
  return box && box->type == type ? box : NULL;
}

bool lumo_test_value(lua_State *L, int i, lumo_value *out) {
  boxed *box = test_boxed(L, i);
  if (!box) return false;
  *out = (lumo_value){box->data, box->len, box->type};
  return true;
}

static boxed *push_boxed(lua_State *L, const char *slot, uint8_t type, uint32_t len) {
  boxed *box = lumo_newvalue(L, offsetof(boxed, data) + len);
  box->mark = own_mark();
  box->len = len;
  box->type = type;
  lumo_get(L, slot);
  lua_setmetatable(L, -2);
  return box;
}

static void push_copy(lua_State *L, const char *slot, uint8_t type, const void *bytes, uint32_t len) {
  boxed *box = push_boxed(L, slot, type, len);
  if (len) memcpy(box->data, bytes, len);
}

static void push_int64_bytes(lua_State *L, const char *slot, uint8_t type, int64_t v) {
  lumo_store64(push_boxed(L, slot, type, 8)->data, (uint64_t)v);
}

static lumo_value view(const boxed *box) {
  return (lumo_value){box->data, box->len, box->type};
}

/* The value that a method or metamethod was called on. */
static boxed *check_boxed(lua_State *L, const char *slot, const char *method) {
  boxed *box = lumo_test(L, 1, slot);
  if (!box)
    lumo_raise_code(L, "E_ARGUMENT", "%s must be called with a colon, on the value (got %s)", method,
                    lumo_typename(L, 1));
  return box;
}

bool lumo_is_null(lua_State *L, int i) {
  return lua_islightuserdata(L, i) && !lua_touserdata(L, i);
}

/* ---- equality and order, for all kinds ---- */

static int value_eq(lua_State *L) {
  boxed *a = test_boxed(L, 1), *b = test_boxed(L, 2);
  lua_pushboolean(L,
                  a && b && a->type == b->type && a->len == b->len && memcmp(a->data, b->data, a->len) == 0);
  return 1;
}

/* One side of a comparison of a lumo.int64 with a number. */
static bool number_side(lua_State *L, int i, double *number, lumo_value *out) {
  if (lua_type(L, i) != LUA_TNUMBER) return lumo_test(L, i, &LUMO_MT_INT64) && lumo_test_value(L, i, out);
  *number = lua_tonumber(L, i);
  *out = (lumo_value){(const uint8_t *)number, sizeof *number, LUMO_BSON_DOUBLE};
  return true;
}

/* An order exists within one kind; a lumo.int64 is also compared with numbers, where the Lua asks (LuaJIT
 * never does for ==). */
static int compare(lua_State *L) {
  boxed *a = test_boxed(L, 1), *b = test_boxed(L, 2);
  lumo_value left, right;
  double numbers[2];
  bool same = a && b && a->type == b->type;
  if (same) {
    left = view(a);
    right = view(b);
  } else if (!number_side(L, 1, &numbers[0], &left) || !number_side(L, 2, &numbers[1], &right)) {
    lumo_raise_code(L, "E_ARGUMENT", "attempt to compare %s with %s", lumo_typename(L, 1),
                    lumo_typename(L, 2));
  }
  return lumo_value_compare(&left, &right);
}

static int value_lt(lua_State *L) {
  lua_pushboolean(L, compare(L) < 0);
  return 1;
}

static int value_le(lua_State *L) {
  lua_pushboolean(L, compare(L) <= 0);
  return 1;
}

/* ---- objectid ---- */

void lumo_push_new_objectid(lua_State *L, const uint8_t id[12]) {
  push_copy(L, &LUMO_MT_OBJECTID, LUMO_BSON_OBJECTID, id, 12);
}

const uint8_t *lumo_test_objectid(lua_State *L, int i) {
  boxed *box = test_type(L, i, LUMO_BSON_OBJECTID);
  return box ? box->data : NULL;
}

static int objectid_new(lua_State *L) {
  uint8_t id[12];
  const uint8_t *same = lumo_test_objectid(L, 1);
  if (lua_isnone(L, 1)) {
    lumo_objectid_new(id);
  } else if (same) {
    memcpy(id, same, 12);
  } else {
    size_t len;
    if (lua_type(L, 1) != LUA_TSTRING) lumo_raise_argument(L, "lumo.objectid", 1, "24 hex digits", 1);
    const char *text = lua_tolstring(L, 1, &len);
    if (!lumo_objectid_parse(text, len, id))
      lumo_raise_code(L, "E_ARGUMENT",
                      "bad argument #1 to \"lumo.objectid\" (the text is not 24 hex digits)");
  }
  lumo_push_objectid(L, id);
  return 1;
}

static int objectid_tostring(lua_State *L) {
  char text[25];
  lumo_objectid_text(check_boxed(L, &LUMO_MT_OBJECTID, "tostring")->data, text);
  lua_pushlstring(L, text, 24);
  return 1;
}

/* ---- integers of 64 bits ---- */

void lumo_push_int64(lua_State *L, int64_t v) {
#ifdef LUMO_LUAJIT
  if (v < -9007199254740992 || v > 9007199254740992)
    push_int64_bytes(L, &LUMO_MT_INT64, LUMO_BSON_INT64, v);
  else
    lua_pushnumber(L, (lua_Number)v);
#else
  lua_pushinteger(L, v);
#endif
}

bool lumo_test_int64(lua_State *L, int i, int64_t *v) {
  boxed *box = test_type(L, i, LUMO_BSON_INT64);
  if (!box) return false;
  lumo_value value = view(box);
  *v = lumo_value_int64(&value);
  return true;
}

/* An integral double within 64 bits. */
static bool double_integer(double d, int64_t *v) {
  if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0) || d != floor(d)) return false;
  *v = (int64_t)d;
  return true;
}

bool lumo_to_integer(lua_State *L, int i, int64_t *v) {
  if (lua_type(L, i) != LUA_TNUMBER) return lumo_test_int64(L, i, v);
#ifndef LUMO_LUAJIT
  if (lua_isinteger(L, i)) {
    *v = lua_tointeger(L, i);
    return true;
  }
#endif
  return double_integer(lua_tonumber(L, i), v);
}

/* A sign, digits, nothing else, within 64 bits. */
static bool parse_integer(const char *text, size_t len, int64_t *v) {
  bool negative = len > 0 && text[0] == '-';
  uint64_t sum = 0, limit = (uint64_t)INT64_MAX + negative;
  size_t i = len > 0 && (text[0] == '-' || text[0] == '+');
  if (i == len) return false;
  for (; i < len; i++) {
    unsigned digit = (unsigned)text[i] - '0';
    if (digit > 9 || sum > (limit - digit) / 10) return false;
    sum = sum * 10 + digit;
  }
  *v = negative ? (int64_t)(0 - sum) : (int64_t)sum;
  return true;
}

/* What reading the same number would give: an integer; on LuaJIT beyond 2^53 a lumo.int64. */
static int int64_new(lua_State *L) {
  int64_t v;
  size_t len;
  bool text = lua_type(L, 1) == LUA_TSTRING;
  if (!text && lua_type(L, 1) != LUA_TNUMBER && !lumo_test_int64(L, 1, &v))
    lumo_raise_argument(L, "lumo.int64", 1, "text or an integer", 1);
  const char *digits = text ? lua_tolstring(L, 1, &len) : NULL;
  if (text ? !parse_integer(digits, len, &v) : !lumo_to_integer(L, 1, &v))
    lumo_raise_code(L, "E_ARGUMENT", "bad argument #1 to \"lumo.int64\" (not an integer of 64 bits)");
  lumo_push_int64(L, v);
  return 1;
}

static int int64_tostring(lua_State *L) {
  lumo_value value = view(check_boxed(L, &LUMO_MT_INT64, "tostring"));
  char text[24];
  int len = snprintf(text, sizeof text, "%lld", (long long)lumo_value_int64(&value));
  lua_pushlstring(L, text, (size_t)len);
  return 1;
}

/* int64:tonumber(): the nearest number. */
static int int64_tonumber(lua_State *L) {
  lumo_value value = view(check_boxed(L, &LUMO_MT_INT64, "int64:tonumber"));
  lua_pushnumber(L, (lua_Number)lumo_value_int64(&value));
  return 1;
}

/* ---- datetime ---- */

void lumo_push_datetime(lua_State *L, int64_t ms) {
  push_int64_bytes(L, &LUMO_MT_DATETIME, LUMO_BSON_DATE, ms);
}

bool lumo_test_datetime(lua_State *L, int i, int64_t *ms) {
  boxed *box = test_type(L, i, LUMO_BSON_DATE);
  if (!box) return false;
  lumo_value value = view(box);
  *ms = lumo_value_int64(&value);
  return true;
}

static bool double_ms(double ms, int64_t *out) {
  return double_integer(round(ms), out);
}

/* The fields of an os.date"*t" table. The registry has each name as a string, under its address here: the
 * encoder must not make one (see encode.c). */
enum { YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, IS_DST, TIME_FIELDS };
static const char time_names[TIME_FIELDS][6] = {"year", "month", "day", "hour", "min", "sec", "isdst"};

/* A field of such a table, read raw; false when it is neither an integer nor absent with a default. */
static bool time_field(lua_State *L, int i, int field, int standard, int offset, int *out) {
  int64_t v = standard;
  lumo_get(L, time_names[field]);
  lua_rawget(L, i);
  bool ok = lua_isnil(L, -1) ? standard >= 0 : lumo_to_integer(L, -1, &v);
  lua_pop(L, 1);
  if (!ok || v < INT32_MIN / 2 || v > INT32_MAX / 2) return false;
  *out = (int)v - offset;
  return true;
}

/* Local time, fields out of their range carried over, as os.time has it. */
static bool table_ms(lua_State *L, int i, int64_t *ms) {
  struct tm tm = {0};
  i = lua_absindex(L, i);
  if (!time_field(L, i, YEAR, -1, 1900, &tm.tm_year) || !time_field(L, i, MONTH, -1, 1, &tm.tm_mon) ||
      !time_field(L, i, DAY, -1, 0, &tm.tm_mday) || !time_field(L, i, HOUR, 12, 0, &tm.tm_hour) ||
      !time_field(L, i, MINUTE, 0, 0, &tm.tm_min) || !time_field(L, i, SECOND, 0, 0, &tm.tm_sec))
    return false;
  lumo_get(L, time_names[IS_DST]);
  lua_rawget(L, i);
  tm.tm_isdst = lua_isboolean(L, -1) ? lua_toboolean(L, -1) : -1;
  lua_pop(L, 1);
  tm.tm_wday = -1; /* stays so when there is no such time: -1 is also the second before the epoch */
  time_t seconds = mktime(&tm);
  if (tm.tm_wday < 0 || seconds > INT64_MAX / 1000 || seconds < INT64_MIN / 1000) return false;
  *ms = (int64_t)seconds * 1000;
  return true;
}

bool lumo_to_date(lua_State *L, int i, int64_t *ms) {
  int64_t seconds;
  size_t len;
  const char *text;
  switch (lua_type(L, i)) {
  case LUA_TNUMBER:
    if (!lumo_to_integer(L, i, &seconds)) return double_ms(lua_tonumber(L, i) * 1000.0, ms);
    return !__builtin_mul_overflow(seconds, (int64_t)1000, ms);
  case LUA_TSTRING: text = lua_tolstring(L, i, &len); return lumo_date_parse(text, len, ms);
  case LUA_TTABLE: return table_ms(L, i, ms);
  default: return lumo_test_datetime(L, i, ms);
  }
}

static int datetime_new(lua_State *L) {
  int64_t ms;
  int type = lua_type(L, 1);
  if (!lumo_to_date(L, 1, &ms)) {
    if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TTABLE)
      lumo_raise_argument(L, "lumo.datetime", 1, "seconds, ISO 8601 text or a table of os.date\"*t\"", 1);
    lumo_raise_code(L, "E_ARGUMENT", "bad argument #1 to \"lumo.datetime\" (the %s is not a date)",
                    lua_typename(L, type));
  }
  lumo_push_datetime(L, ms);
  return 1;
}

static int datetime_now(lua_State *L) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  lumo_push_datetime(L, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
  return 1;
}

static int datetime_from_ms(lua_State *L) {
  int64_t ms;
  if (!lumo_to_integer(L, 1, &ms)) lumo_raise_argument(L, "lumo.datetime.from_ms", 1, "an integer", 1);
  lumo_push_datetime(L, ms);
  return 1;
}

static int64_t check_ms(lua_State *L, const char *method) {
  lumo_value value = view(check_boxed(L, &LUMO_MT_DATETIME, method));
  return lumo_value_int64(&value);
}

static int datetime_seconds(lua_State *L) {
  lua_pushnumber(L, (lua_Number)check_ms(L, "datetime:seconds") / 1000.0);
  return 1;
}

static int datetime_tostring(lua_State *L) {
  char text[40];
  size_t len = lumo_date_text(check_ms(L, "tostring"), text);
  lua_pushlstring(L, text, len);
  return 1;
}

/* datetime - datetime: seconds between them; datetime - seconds: the datetime so much earlier. */
static int datetime_sub(lua_State *L) {
  int64_t a = 0, b = 0;
  if (!lumo_test_datetime(L, 1, &a) || (!lumo_test_datetime(L, 2, &b) && lua_type(L, 2) != LUA_TNUMBER))
    lumo_raise_code(L, "E_ARGUMENT", "attempt to subtract %s from %s", lumo_typename(L, 2),
                    lumo_typename(L, 1));
  if (lua_type(L, 2) != LUA_TNUMBER) {
    lua_pushnumber(L, ((lua_Number)a - (lua_Number)b) / 1000.0);
    return 1;
  }
  if (!double_ms(lua_tonumber(L, 2) * 1000.0, &b) || __builtin_sub_overflow(a, b, &a))
    lumo_raise_code(L, "E_ARGUMENT", "the difference is not a date");
  lumo_push_datetime(L, a);
  return 1;
}

static void datetime_property(lua_State *L, const boxed *box, const char *name) {
  lumo_value value = view(box);
  if (strcmp(name, "ms") == 0)
    lumo_push_int64(L, lumo_value_int64(&value));
  else
    lua_pushnil(L);
}

/* ---- decimal ---- */

bool lumo_to_decimal(lua_State *L, int i, uint8_t decimal[16]) {
  int64_t integer;
  size_t len;
  const char *text;
  char digits[24];
  boxed *box = test_type(L, i, LUMO_BSON_DECIMAL);
  if (box) {
    memcpy(decimal, box->data, 16);
    return true;
  }
  if (lua_type(L, i) == LUA_TSTRING) {
    text = lua_tolstring(L, i, &len);
    return lumo_decimal_parse(text, len, decimal);
  }
  if (!lumo_to_integer(L, i, &integer)) return false;
  len = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)integer);
  return lumo_decimal_parse(digits, len, decimal);
}

static int decimal_new(lua_State *L) {
  uint8_t decimal[16];
  if (!lumo_to_decimal(L, 1, decimal)) {
    if (lua_type(L, 1) != LUA_TSTRING) lumo_raise_argument(L, "lumo.decimal", 1, "text or an integer", 1);
    lumo_raise_code(L, "E_ARGUMENT", "bad argument #1 to \"lumo.decimal\" (the text is not a decimal128)");
  }
  push_copy(L, &LUMO_MT_DECIMAL, LUMO_BSON_DECIMAL, decimal, 16);
  return 1;
}

static int decimal_tostring(lua_State *L) {
  char text[48];
  size_t len = lumo_decimal_text(check_boxed(L, &LUMO_MT_DECIMAL, "tostring")->data, text);
  lua_pushlstring(L, text, len);
  return 1;
}

/* ---- binary and uuid ---- */

enum { SUBTYPE_OLD = 2, SUBTYPE_UUID = 4 };

/* A binary's value: length, subtype, bytes; the old subtype 2 repeats the length. */
static void push_binary(lua_State *L, const char *slot, uint8_t subtype, const void *bytes, size_t len) {
  uint32_t inner = subtype == SUBTYPE_OLD ? 4 : 0;
  boxed *box = push_boxed(L, slot, LUMO_BSON_BINARY, (uint32_t)len + inner + 5);
  lumo_store32(box->data, (uint32_t)len + inner);
  box->data[4] = subtype;
  if (inner) lumo_store32(box->data + 5, (uint32_t)len);
  if (len) memcpy(box->data + 5 + inner, bytes, len);
}

static int binary_new(lua_State *L) {
  int64_t subtype = 0;
  size_t len;
  if (lua_type(L, 1) != LUA_TSTRING) lumo_raise_argument(L, "lumo.binary", 1, "a string", 1);
  const char *bytes = lua_tolstring(L, 1, &len);
  if (!lua_isnoneornil(L, 2) && (!lumo_to_integer(L, 2, &subtype) || subtype < 0 || subtype > 255))
    lumo_raise_argument(L, "lumo.binary", 2, "a subtype of 0 to 255", 2);
  if (len > LUMO_BSON_MAX_SIZE)
    lumo_raise_code(L, "E_ARGUMENT", "bad argument #1 to \"lumo.binary\" (over 16 MiB)");
  push_binary(L, subtype == SUBTYPE_UUID && len == 16 ? &LUMO_MT_UUID : &LUMO_MT_BINARY, (uint8_t)subtype,
              bytes, len);
  return 1;
}

static int uuid_new(lua_State *L) {
  uint8_t uuid[16];
  if (lua_isnone(L, 1)) {
    lumo_uuid_new(uuid);
  } else {
    size_t len;
    if (lua_type(L, 1) != LUA_TSTRING) lumo_raise_argument(L, "lumo.uuid", 1, "text", 1);
    const char *text = lua_tolstring(L, 1, &len);
    if (!lumo_uuid_parse(text, len, uuid))
      lumo_raise_code(L, "E_ARGUMENT", "bad argument #1 to \"lumo.uuid\" (the text is not a UUID)");
  }
  push_binary(L, &LUMO_MT_UUID, SUBTYPE_UUID, uuid, 16);
  return 1;
}

static int uuid_tostring(lua_State *L) {
  char text[37];
  lumo_uuid_text(check_boxed(L, &LUMO_MT_UUID, "tostring")->data + 5, text);
  lua_pushlstring(L, text, 36);
  return 1;
}

static void push_bytes(lua_State *L, const boxed *box) {
  lumo_value value = view(box);
  uint32_t len;
  uint8_t subtype;
  const uint8_t *bytes = lumo_value_binary(&value, &len, &subtype);
  lua_pushlstring(L, (const char *)bytes, len);
}

static int binary_tostring(lua_State *L) {
  push_bytes(L, check_boxed(L, &LUMO_MT_BINARY, "tostring"));
  return 1;
}

static int binary_len(lua_State *L) {
  boxed *box = test_boxed(L, 1);
  lumo_value value = view(box);
  uint32_t len;
  uint8_t subtype;
  lumo_value_binary(&value, &len, &subtype);
  lua_pushinteger(L, (lua_Integer)len);
  return 1;
}

static void binary_property(lua_State *L, const boxed *box, const char *name) {
  if (strcmp(name, "bytes") == 0)
    push_bytes(L, box);
  else if (strcmp(name, "subtype") == 0)
    lua_pushinteger(L, box->data[4]);
  else
    lua_pushnil(L);
}

/* ---- the rare kinds ---- */

static const char *kind_of(uint8_t type) {
  switch (type) {
  case LUMO_BSON_REGEX: return "regex";
  case LUMO_BSON_TIMESTAMP: return "timestamp";
  case LUMO_BSON_MINKEY: return "min_key";
  case LUMO_BSON_MAXKEY: return "max_key";
  case LUMO_BSON_CODE: return "code";
  case LUMO_BSON_CODE_SCOPE: return "code_with_scope";
  case LUMO_BSON_SYMBOL: return "symbol";
  case LUMO_BSON_DBPOINTER: return "dbpointer";
  default: return "undefined";
  }
}

static int flag_order(const void *a, const void *b) {
  return *(const char *)a - *(const char *)b;
}

/* The flags in the order that BSON demands; false for one that MongoDB does not know or that stands twice. */
static bool sort_flags(const char *flags, size_t len, char out[8]) {
  if (len > 6) return false;
  memcpy(out, flags, len);
  out[len] = '\0';
  qsort(out, len, 1, flag_order);
  for (size_t i = 0; i < len; i++)
    if (!strchr("ilmsux", out[i]) || out[i] == out[i + 1]) return false;
  return true;
}

static int regex_new(lua_State *L) {
  size_t len, flags_len = 0;
  char flags[8] = "";
  if (lua_type(L, 1) != LUA_TSTRING) lumo_raise_argument(L, "lumo.regex", 1, "a pattern", 1);
  const char *pattern = lua_tolstring(L, 1, &len);
  if (memchr(pattern, 0, len) || !lumo_utf8_valid(pattern, len) || len > LUMO_BSON_MAX_SIZE)
    lumo_raise_code(L, "E_ARGUMENT",
                    "bad argument #1 to \"lumo.regex\" (a pattern is UTF-8 text without NUL)");
  if (!lua_isnoneornil(L, 2)) {
    if (lua_type(L, 2) != LUA_TSTRING) lumo_raise_argument(L, "lumo.regex", 2, "flags", 2);
    const char *given = lua_tolstring(L, 2, &flags_len);
    if (!sort_flags(given, flags_len, flags))
      lumo_raise_code(L, "E_ARGUMENT",
                      "bad argument #2 to \"lumo.regex\" (flags are some of i, l, m, s, u, x)");
  }
  boxed *box = push_boxed(L, &LUMO_MT_VALUE, LUMO_BSON_REGEX, (uint32_t)(len + flags_len + 2));
  memcpy(box->data, pattern, len + 1);
  memcpy(box->data + len + 1, flags, flags_len + 1);
  return 1;
}

static int timestamp_new(lua_State *L) {
  int64_t parts[2];
  uint8_t bytes[8];
  for (int i = 0; i < 2; i++)
    if (!lumo_to_integer(L, i + 1, &parts[i]) || parts[i] < 0 || parts[i] > UINT32_MAX)
      lumo_raise_argument(L, "lumo.timestamp", i + 1, "an integer of 0 to 4294967295", i + 1);
  lumo_store32(bytes, (uint32_t)parts[1]);
  lumo_store32(bytes + 4, (uint32_t)parts[0]);
  push_copy(L, &LUMO_MT_VALUE, LUMO_BSON_TIMESTAMP, bytes, 8);
  return 1;
}

static int value_kind(lua_State *L) {
  lua_pushstring(L, kind_of(check_boxed(L, &LUMO_MT_VALUE, "value:kind")->type));
  return 1;
}

/* In the words of Extended JSON. */
static int value_tostring(lua_State *L) {
  lumo_value value = view(check_boxed(L, &LUMO_MT_VALUE, "tostring"));
  lumo_buf *text = lumo_lend_scratch(L);
  lumo_json_value(text, &value, LUMO_JSON_RELAXED);
  lumo_check_buffer(L, text);
  lua_pushlstring(L, (const char *)text->data, text->len);
  lumo_return_scratch(text);
  return 1;
}

/* What the constructors were given, under the names of their arguments. */
static void value_property(lua_State *L, const boxed *box, const char *name) {
  lumo_value value = view(box);
  const char *text = (const char *)box->data;
  if (box->type == LUMO_BSON_REGEX && strcmp(name, "pattern") == 0)
    lua_pushstring(L, text);
  else if (box->type == LUMO_BSON_REGEX && strcmp(name, "flags") == 0)
    lua_pushstring(L, text + strlen(text) + 1);
  else if (box->type == LUMO_BSON_TIMESTAMP && strcmp(name, "t") == 0)
    lumo_push_int64(L, (int64_t)((uint64_t)lumo_value_int64(&value) >> 32));
  else if (box->type == LUMO_BSON_TIMESTAMP && strcmp(name, "i") == 0)
    lumo_push_int64(L, (int64_t)((uint64_t)lumo_value_int64(&value) & UINT32_MAX));
  else
    lua_pushnil(L);
}

void lumo_push_bson_value(lua_State *L, const lumo_value *v) {
  const char *slot = &LUMO_MT_VALUE;
  if (v->type == LUMO_BSON_DECIMAL)
    slot = &LUMO_MT_DECIMAL;
  else if (v->type == LUMO_BSON_BINARY)
    slot = v->len == 21 && v->data[4] == SUBTYPE_UUID ? &LUMO_MT_UUID : &LUMO_MT_BINARY;
  push_copy(L, slot, v->type, v->data, v->len);
}

/* ---- arrays and ordered documents: plain tables with a mark ---- */

/* Gives the table of argument 1 the mark, in place. */
static int set_mark(lua_State *L, const char *slot, const char *method) {
  if (lua_type(L, 1) != LUA_TTABLE) lumo_raise_argument(L, method, 1, "a table", 1);
  lua_settop(L, 1);
  lumo_get(L, slot);
  if (lua_getmetatable(L, 1)) {
    if (lua_rawequal(L, -1, -2)) {
      lua_settop(L, 1);
      return 1;
    }
    lua_pushliteral(L, "__metatable");
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1))
      lumo_raise_code(L, "E_ARGUMENT", "bad argument #1 to \"%s\" (the table has a protected metatable)",
                      method);
    lua_pop(L, 2);
  }
  lua_setmetatable(L, 1);
  return 1;
}

static int array_new(lua_State *L) {
  return set_mark(L, &LUMO_MT_ARRAY, "lumo.array");
}

static int ordered_new(lua_State *L) {
  return set_mark(L, &LUMO_MT_ORDERED, "lumo.ordered");
}

/* ---- opening ---- */

/* __index of the kinds that have properties: their methods (upvalue 1) come first. */
static int value_index(lua_State *L) {
  boxed *box = test_boxed(L, 1);
  lua_settop(L, 2);
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  if (!lua_isnil(L, -1) || !box || lua_type(L, 2) != LUA_TSTRING) return 1;
  const char *name = lua_tostring(L, 2);
  switch (box->type) {
  case LUMO_BSON_DATE: datetime_property(L, box, name); break;
  case LUMO_BSON_BINARY: binary_property(L, box, name); break;
  default: value_property(L, box, name);
  }
  return 1;
}

static const luaL_Reg no_methods[] = {{NULL, NULL}};
static const luaL_Reg datetime_methods[] = {{"seconds", datetime_seconds}, {NULL, NULL}};
static const luaL_Reg int64_methods[] = {{"tonumber", int64_tonumber}, {NULL, NULL}};
static const luaL_Reg value_methods[] = {{"kind", value_kind}, {NULL, NULL}};

/* == of equal ids holds without a metamethod, as they are one object. */
static const luaL_Reg objectid_meta[] = {
    {"__tostring", objectid_tostring}, {"__lt", value_lt}, {"__le", value_le}, {NULL, NULL}};
static const luaL_Reg datetime_meta[] = {
    {"__tostring", datetime_tostring}, {"__eq", value_eq}, {"__lt", value_lt}, {"__le", value_le},
    {"__sub", datetime_sub},           {NULL, NULL}};
static const luaL_Reg int64_meta[] = {
    {"__tostring", int64_tostring}, {"__eq", value_eq}, {"__lt", value_lt}, {"__le", value_le}, {NULL, NULL}};
static const luaL_Reg decimal_meta[] = {{"__tostring", decimal_tostring}, {"__eq", value_eq}, {NULL, NULL}};
static const luaL_Reg binary_meta[] = {
    {"__tostring", binary_tostring}, {"__eq", value_eq}, {"__len", binary_len}, {NULL, NULL}};
static const luaL_Reg uuid_meta[] = {
    {"__tostring", uuid_tostring}, {"__eq", value_eq}, {"__len", binary_len}, {NULL, NULL}};
static const luaL_Reg value_meta[] = {{"__tostring", value_tostring}, {"__eq", value_eq}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"objectid", objectid_new},
                                     {"datetime", datetime_new},
                                     {"datetime_now", datetime_now},
                                     {"datetime_from_ms", datetime_from_ms},
                                     {"decimal", decimal_new},
                                     {"binary", binary_new},
                                     {"uuid", uuid_new},
                                     {"int64", int64_new},
                                     {"regex", regex_new},
                                     {"timestamp", timestamp_new},
                                     {"array", array_new},
                                     {"ordered", ordered_new},
                                     {NULL, NULL}};

/* Makes the metatable of one kind and puts its methods into the table on the top of the stack, for names.lua
 * to add the second spelling. */
static void open_kind(lua_State *L, const char *slot, const char *name, const luaL_Reg *methods,
                      const luaL_Reg *meta) {
  lumo_metatable(L, slot, name, methods, meta);
  lua_getfield(L, -1, "__index");
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, value_index, 1);
  lua_setfield(L, -3, "__index");
  lua_setfield(L, -3, name + sizeof "lumo." - 1);
  lua_pop(L, 1);
}

void lumo_open_values(lua_State *L) {
  luaL_setfuncs(L, functions, 0);
  for (int i = 0; i < TIME_FIELDS; i++) {
    lua_pushstring(L, time_names[i]);
    lumo_set(L, time_names[i]);
  }
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_newtable(L);
  open_kind(L, &LUMO_MT_OBJECTID, "lumo.objectid", no_methods, objectid_meta);
  open_kind(L, &LUMO_MT_DATETIME, "lumo.datetime", datetime_methods, datetime_meta);
  open_kind(L, &LUMO_MT_DECIMAL, "lumo.decimal", no_methods, decimal_meta);
  open_kind(L, &LUMO_MT_BINARY, "lumo.binary", no_methods, binary_meta);
  open_kind(L, &LUMO_MT_UUID, "lumo.uuid", no_methods, uuid_meta);
  open_kind(L, &LUMO_MT_INT64, "lumo.int64", int64_methods, int64_meta);
  open_kind(L, &LUMO_MT_VALUE, "lumo.value", value_methods, value_meta);
  lua_setfield(L, -2, "value_methods");
  lumo_metatable(L, &LUMO_MT_ARRAY, "lumo.array", NULL, NULL);
  lumo_metatable(L, &LUMO_MT_ORDERED, "lumo.ordered", NULL, NULL);
  lua_pop(L, 2);
  lumo_open_objectids(L);
}
