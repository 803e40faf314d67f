/* The buffer, the writer, the reader, the validator, the order of values; and the core's memory and errors.
 * */
#include <math.h>

#include "check.h"
#include "core/bson.h"
#include "core/error.h"
#include "core/mem.h"

/* One field of every type, and a nested document in an array. */
static const char every_type[] =
    "00010000"
    "01 64 00 000000000000f83f"
    "02 73 00 03000000 c3a9 00"
    "03 6f 00 0c000000 10 78 00 01000000 00"
    "04 61 00 1e000000 10 30 00 02000000 03 31 00 0f000000 02 6b 00 03000000 6869 00 00 00"
    "05 62 00 03000000 80 010203"
    "05 32 00 06000000 02 02000000 ffff"
    "06 75 00"
    "07 5f6964 00 0102030405060708090a0b0c"
    "08 74 00 01"
    "09 6d 00 ffffffffffffffff"
    "0a 6e 00"
    "0b 72 00 612b00 6900"
    "0c 70 00 02000000 63 00 0102030405060708090a0b0c"
    "0d 63 00 02000000 66 00"
    "0e 79 00 02000000 67 00"
    "0f 77 00 0f000000 02000000 68 00 05000000 00"
    "10 69 00 feffffff"
    "11 54 00 0100000002000000"
    "12 6c 00 0000000001000000"
    "13 44 00 01000000000000000000000000004030"
    "ff 4d 00"
    "7f 58 00"
    "00";

static bool validate(const char *hex, size_t *at) {
  size_t len;
  uint8_t *doc = check_bytes(hex, &len);
  *at = 0;
  bool good = lumo_bson_validate(doc, len, at);
  free(doc);
  return good;
}

/* ---- writing ---- */

static void test_writer(void) {
  static const uint8_t id[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  lumo_buf buf = {0};
  size_t top = lumo_bson_begin(&buf);
  lumo_bson_objectid(&buf, LUMO_KEY("_id"), id);
  lumo_bson_double(&buf, LUMO_KEY("d"), 1.5);
  lumo_bson_string(&buf, LUMO_KEY("s"), "a\0b", 3);
  lumo_bson_boolean(&buf, LUMO_KEY("t"), true);
  lumo_bson_date(&buf, LUMO_KEY("m"), -1);
  lumo_bson_null(&buf, LUMO_KEY("n"));
  lumo_bson_int32(&buf, LUMO_KEY("i"), -2);
  lumo_bson_int64(&buf, LUMO_KEY("l"), 1);
  lumo_bson_document(&buf, LUMO_KEY(""), (const uint8_t *)"\5\0\0\0", 5);
  size_t inner = lumo_bson_begin_document(&buf, LUMO_KEY("o"));
  lumo_bson_integer(&buf, LUMO_KEY("x"), 2147483647);
  lumo_bson_integer(&buf, LUMO_KEY("y"), 2147483648);
  lumo_bson_end(&buf, inner);
  size_t array = lumo_bson_begin_array(&buf, LUMO_KEY("a"));
  lumo_bson_index(&buf, LUMO_BSON_NULL, 0);
  lumo_bson_index(&buf, LUMO_BSON_NULL, 4294967295u);
  lumo_bson_end(&buf, array);
  lumo_bson_end(&buf, top);
  CHECK_HEX(
      buf.data, buf.len,
      "88000000 07 5f6964 00 0102030405060708090a0b0c 01 64 00 000000000000f83f 02 73 00 04000000 610062 00"
      "08 74 00 01 09 6d 00 ffffffffffffffff 0a 6e 00 10 69 00 feffffff 12 6c 00 0100000000000000"
      "03 00 05000000 00 03 6f 00 17000000 10 78 00 ffffff7f 12 79 00 0000008000000000 00"
      "04 61 00 14000000 0a 30 00 0a 34323934393637323935 00 00 00");
  lumo_buf_free(&buf);
  CHECK(buf.data == NULL && buf.len == 0 && buf.cap == 0);
}

/* Reading every element and writing it again gives the same bytes; a missing value leaves nothing. */
static void test_copy(void) {
  size_t len;
  uint8_t *doc = check_bytes(every_type, &len);
  lumo_buf buf = {0};
  lumo_iter it;
  lumo_value none = {0};
  size_t top = lumo_bson_begin(&buf);
  CHECK(lumo_iter_init(&it, doc, len));
  lumo_bson_value(&buf, LUMO_KEY("none"), &none);
  while (lumo_iter_next(&it)) lumo_bson_value(&buf, it.key, it.key_len, &it.value);
  CHECK(!it.bad);
  lumo_bson_end(&buf, top);
  CHECK_HEX(buf.data, buf.len, every_type);
  size_t taken_len;
  uint8_t *taken = lumo_buf_take(&buf, &taken_len);
  CHECK(taken_len == len && memcmp(taken, doc, len) == 0 && buf.data == NULL);
  lumo_free(taken);
  free(doc);
}

static void write_sample(lumo_buf *buf) {
  char text[300];
  memset(text, 'x', sizeof text);
  size_t top = lumo_bson_begin(buf);
  for (int i = 0; i < 5; i++) {
    size_t inner = lumo_bson_begin_array(buf, LUMO_KEY("inner"));
    lumo_bson_index(buf, LUMO_BSON_NULL, 0);
    lumo_bson_string(buf, LUMO_KEY("1"), text, sizeof text);
    lumo_bson_end(buf, inner);
  }
  lumo_bson_end(buf, top);
}

static void test_out_of_memory(void) {
  unsigned long n;
  size_t len;
  lumo_buf buf = {0};
  for (n = 1;; n++) {
    lumo_mem_fail_at(n);
    write_sample(&buf);
    lumo_mem_fail_at(0);
    if (!buf.failed) break;
    size_t before = buf.len;
    lumo_bson_null(&buf, LUMO_KEY("k"));
    CHECK(buf.len == before && !lumo_buf_reserve(&buf, 1));
    if (n % 2)
      CHECK(lumo_buf_take(&buf, &len) == NULL && len == 0 && !buf.failed);
    else
      lumo_buf_free(&buf);
  }
  CHECK(n > 3);
  size_t at;
  CHECK(lumo_bson_validate(buf.data, buf.len, &at));
  lumo_buf_clear(&buf);
  CHECK(buf.len == 0 && buf.cap > 0);
  CHECK(!lumo_buf_reserve(&buf, SIZE_MAX - 8) && buf.failed);
  lumo_buf_free(&buf);
}

/* Bytes begin in lent memory, move out when there are more of them, and only then are freed. */
static void test_lent(void) {
  char memory[8];
  size_t len;
  lumo_buf buf = lumo_buf_lend(memory, sizeof memory);
  lumo_buf_append(&buf, "1234567", 7);
  CHECK(buf.data == (uint8_t *)memory && buf.lent);
  lumo_mem_fail_at(1);
  lumo_buf_append(&buf, "89", 2);
  lumo_mem_fail_at(0);
  CHECK(buf.failed && buf.lent && memcmp(memory, "1234567", 7) == 0);
  lumo_buf_clear(&buf);
  buf.len = 7;
  lumo_buf_append(&buf, "89", 2);
  CHECK(!buf.lent && buf.len == 9 && memcmp(buf.data, "123456789", 9) == 0);
  lumo_buf_free(&buf);
  buf = lumo_buf_lend(memory, sizeof memory);
  lumo_buf_append(&buf, "abc", 3);
  uint8_t *taken = lumo_buf_take(&buf, &len);
  CHECK(taken != (uint8_t *)memory && len == 3 && memcmp(taken, "abc", 3) == 0 && !buf.data);
  lumo_free(taken);
  buf = lumo_buf_lend(memory, sizeof memory);
  lumo_mem_fail_at(1);
  CHECK(lumo_buf_take(&buf, &len) == NULL && len == 0);
  lumo_mem_fail_at(0);
  buf = lumo_buf_lend(memory, sizeof memory);
  lumo_buf_free(&buf);
  CHECK(!buf.data && !buf.lent);
}

static void test_memory(void) {
  lumo_mem_fail_at(2);
  void *first = lumo_malloc(0), *second = lumo_calloc(1, 8), *third = lumo_calloc(2, 4);
  CHECK(first && !second && third && memcmp(third, "\0\0\0\0\0\0\0\0", 8) == 0);
  lumo_mem_fail_at(1);
  CHECK(lumo_realloc(third, 100) == NULL);
  third = lumo_realloc(third, 0);
  CHECK(third != NULL);
  lumo_free(first);
  lumo_free(third);
}

/* ---- reading ---- */

static void test_reader(void) {
  size_t len;
  uint8_t *doc = check_bytes(every_type, &len);
  lumo_iter it, inner;
  char types[128] = "", keys[128] = "";
  lumo_iter_init(&it, doc, len);
  while (lumo_iter_next(&it)) {
    snprintf(types + strlen(types), 4, "%02x ", it.value.type);
    snprintf(keys + strlen(keys), 8, "%s ", it.key);
    CHECK_INT(it.key_len, strlen(it.key));
    bool nested = it.value.type == LUMO_BSON_DOCUMENT || it.value.type == LUMO_BSON_ARRAY;
    CHECK_INT(lumo_iter_value(&inner, &it.value), nested);
    CHECK_INT(inner.bad, !nested);
  }
  CHECK_TEXT(types, strlen(types), "01 02 03 04 05 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 ff 7f ");
  CHECK_TEXT(keys, strlen(keys), "d s o a b 2 u _id t m n r p c y w i T l D M X ");
  CHECK(!it.bad && !lumo_iter_next(&it));
  free(doc);
}

static void test_find(void) {
  size_t len;
  uint8_t *doc = check_bytes(every_type, &len);
  lumo_value v;
  uint32_t n;
  uint8_t subtype;
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("d"), &v) && lumo_value_double(&v) == 1.5);
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("i"), &v) && lumo_value_int32(&v) == -2);
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("l"), &v) && lumo_value_int64(&v) == 4294967296);
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("m"), &v) && lumo_value_int64(&v) == -1);
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("t"), &v) && lumo_value_bool(&v));
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("n"), &v) && lumo_value_is_null(&v));
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("s"), &v));
  const char *text = lumo_value_text(&v, &n);
  CHECK_TEXT(text, n, "é");
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("b"), &v));
  const uint8_t *bytes = lumo_value_binary(&v, &n, &subtype);
  CHECK_HEX(bytes, n, "010203");
  CHECK_INT(subtype, 0x80);
  CHECK(lumo_bson_find(doc, len, LUMO_KEY("2"), &v));
  bytes = lumo_value_binary(&v, &n, &subtype);
  CHECK_HEX(bytes, n, "ffff");
  CHECK(!lumo_bson_find(doc, len, LUMO_KEY("_i"), &v) && v.type == LUMO_BSON_END && lumo_value_is_null(&v));
  CHECK(lumo_bson_find_path(doc, len, LUMO_KEY("o.x"), &v) && lumo_value_int32(&v) == 1);
  CHECK(lumo_bson_find_path(doc, len, LUMO_KEY("a.0"), &v) && lumo_value_int32(&v) == 2);
  CHECK(lumo_bson_find_path(doc, len, LUMO_KEY("a.1.k"), &v) && v.type == LUMO_BSON_STRING);
  static const char *const absent[] = {
      "a.2", "a.01", "a.", "a.x", "a.-1", "a.1.k.z", "o.x.y",
      "o.",  "o..x", "",   ".",   "d.0",  "w.x",     "a.99999999999999999999"};
  for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
    CHECK(!lumo_bson_find_path(doc, len, absent[i], strlen(absent[i]), &v) && v.type == LUMO_BSON_END);
  free(doc);
}

/* Reads all that can be reached of unchecked bytes; the sanitizers watch. Returns the number of elements. */
static int walk(const uint8_t *doc, size_t len, int depth) {
  lumo_iter it;
  lumo_value before = {0};
  int count = 0;
  if (depth > LUMO_BSON_MAX_DEPTH || !lumo_iter_init(&it, doc, len)) return 0;
  while (lumo_iter_next(&it)) {
    lumo_value v = it.value;
    uint32_t text_len;
    uint8_t subtype;
    if (v.type == LUMO_BSON_STRING && lumo_value_text(&v, &text_len)[text_len] != 0) return -1000;
    if (v.type == LUMO_BSON_BINARY && lumo_value_binary(&v, &text_len, &subtype) + text_len > doc + len)
      return -1000;
    if (lumo_value_compare(&before, &v) != -lumo_value_compare(&v, &before) && lumo_value_equal(&v, &before))
      return -1000;
    if (lumo_value_hash(&v) != lumo_value_hash(&v)) return -1000;
    before = v;
    count +=
        1 + (v.type == LUMO_BSON_DOCUMENT || v.type == LUMO_BSON_ARRAY ? walk(v.data, v.len, depth + 1) : 0);
  }
  return count;
}

static void test_damaged(void) {
  size_t len, at;
  uint8_t *doc = check_bytes(every_type, &len);
  int refused = 0;
  CHECK_INT(walk(doc, len, 1), 26);
  for (size_t cut = 0; cut < len; cut++) {
    uint8_t *part = malloc(cut ? cut : 1);
    memcpy(part, doc, cut);
    CHECK(!lumo_bson_validate(part, cut, &at) && at <= cut);
    if (cut >= 5) { /* with a header that fits and an end, so that the walk gets to the wound */
      memcpy(part, &(uint32_t){(uint32_t)cut}, 4);
      part[cut - 1] = 0;
    }
    CHECK(walk(part, cut, 1) >= 0);
    free(part);
  }
  for (size_t i = 0; i < len; i++)
    for (int flip = 1; flip < 256; flip += 3) {
      doc[i] ^= (uint8_t)flip;
      bool good = lumo_bson_validate(doc, len, &at);
      refused += !good;
      if (walk(doc, len, 1) < 0 || (!good && at > len)) CHECK(!"a damaged document is walked safely");
      doc[i] ^= (uint8_t)flip;
    }
  CHECK(refused > 5000);
  free(doc);
}

/* ---- validating ---- */

static void test_validate(void) {
  static const struct {
    const char *what, *hex;
    size_t at;
  } bad[] = {
      {"empty", "", 0},
      {"short header", "05000000", 0},
      {"no end", "0500000001", 0},
      {"longer than stated", "0500000000 00", 0},
      {"unknown type", "08000000 14 61 00 00", 4},
      {"type 0 inside", "08000000 00 61 00 00", 4},
      {"key not ended", "07000000 0a 61 00", 4},
      {"key not UTF-8", "08000000 0a e9 00 00", 5},
      {"string length 0", "0c000000 02 61 00 00000000 00", 4},
      {"string not ended", "0e000000 02 61 00 02000000 6162 00", 4},
      {"string not UTF-8", "0e000000 02 61 00 02000000 ff 00 00", 11},
      {"string second byte", "0f000000 02 61 00 03000000 61c3 00 00", 12},
      {"string too long", "0e000000 02 61 00 03000000 61 00 00", 4},
      {"int32 cut", "0a000000 10 61 00 0100 00", 4},
      {"boolean 2", "09000000 08 61 00 02 00", 7},
      {"document length 4", "0d000000 03 61 00 04000000 00 00", 4},
      {"document not ended", "0d000000 03 61 00 05000000 01 00", 7},
      {"document leaks", "0f000000 03 61 00 08000000 0a00 00 00", 4},
      {"binary too long", "0e000000 05 61 00 02000000 00 ff 00", 4},
      {"binary negative", "0e000000 05 61 00 ffffffff 00 ff 00", 4},
      {"old binary short", "0f000000 05 61 00 02000000 02 ffff 00", 7},
      {"old binary inner", "11000000 05 61 00 04000000 02 01000000 00", 7},
      {"regex no options", "0a000000 0b 61 00 6200 00", 4},
      {"regex not UTF-8", "0b000000 0b 61 00 e900 00 00", 7},
      {"dbpointer cut", "15000000 0c 61 00 01000000 00 0102030405060708 00", 4},
      {"code scope inner", "17000000 0f 61 00 10000000 02000000 61 00 05000000 00 00", 4},
      {"code scope scope", "17000000 0f 61 00 0f000000 02000000 61 00 05000000 01 00", 17},
      {"inside an array", "14000000 04 61 00 0c000000 08 30 00 05 0a 31 00 00 00", 14},
  };
  size_t at;
  CHECK(validate(every_type, &at));
  CHECK(validate("0500000000", &at));
  CHECK(validate("12000000 05 61 00 05000000 02 00000000 00", &at) == false); /* inner 0, outer 5 */
  CHECK(validate("11000000 05 61 00 04000000 02 00000000 00", &at));
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    CHECK(!validate(bad[i].hex, &at));
    if (at != bad[i].at) fprintf(stderr, "%s:\n", bad[i].what);
    CHECK_INT(at, bad[i].at);
  }
}

/* `depth` documents, the outermost included. */
static bool validate_nested(int depth, bool scopes) {
  lumo_buf buf = {0};
  size_t marks[200], codes[200], at;
  marks[0] = lumo_bson_begin(&buf);
  for (int i = 1; i < depth; i++) {
    if (scopes) {
      lumo_bson_key(&buf, LUMO_BSON_CODE_SCOPE, "c", 1);
      codes[i] = lumo_bson_begin(&buf);
      lumo_buf_append(&buf, "\1\0\0\0", 5);
      marks[i] = lumo_bson_begin(&buf);
    } else {
      marks[i] = i % 2 ? lumo_bson_begin_array(&buf, "0", 1) : lumo_bson_begin_document(&buf, "d", 1);
    }
  }
  for (int i = depth - 1; i >= 0; i--) {
    lumo_bson_end(&buf, marks[i]);
    if (!scopes || i == 0) continue;
    uint32_t len = (uint32_t)(buf.len - codes[i]);
    memcpy(buf.data + codes[i], &len, 4); /* tests run on little-endian machines */
  }
  lumo_value whole = {buf.data, (uint32_t)buf.len, LUMO_BSON_DOCUMENT};
  CHECK(lumo_value_equal(&whole, &whole) && lumo_value_compare(&whole, &whole) == 0);
  bool good = lumo_bson_validate(buf.data, buf.len, &at);
  lumo_buf_free(&buf);
  return good;
}

static void test_depth(void) {
  CHECK(validate_nested(LUMO_BSON_MAX_DEPTH, false));
  CHECK(!validate_nested(LUMO_BSON_MAX_DEPTH + 1, false));
  CHECK(validate_nested(LUMO_BSON_MAX_DEPTH, true));
  CHECK(!validate_nested(LUMO_BSON_MAX_DEPTH + 1, true));
}

static void test_utf8(void) {
  static const char *const good[] = {
      "",        "00",     "7f",     "c280",     "dfbf",     "e0a080",
      "ed9fbf",  "ee8080", "efbfbf", "f0908080", "f48fbfbf", "6162636465666768 c3a9 6162636465666768",
      "ef bb bf"};
  static const char *const bad[] = {"80",
                                    "bf",
                                    "c0",
                                    "c080",
                                    "c1bf",
                                    "c2",
                                    "c27f",
                                    "e08080",
                                    "e09fbf",
                                    "e0a0",
                                    "eda080",
                                    "edbfbf",
                                    "e28228",
                                    "f0808080",
                                    "f08fbfbf",
                                    "f4908080",
                                    "f5808080",
                                    "f09080",
                                    "ff",
                                    "61626364656667 80",
                                    "6162636465666768 c3"};
  for (int pass = 0; pass < 2; pass++) {
    size_t count = pass ? sizeof bad / sizeof bad[0] : sizeof good / sizeof good[0];
    for (size_t i = 0; i < count; i++) {
      size_t len;
      uint8_t *bytes = check_bytes(pass ? bad[i] : good[i], &len);
      if (!CHECK(lumo_utf8_valid((char *)bytes, len) == !pass))
        fprintf(stderr, "  %s\n", pass ? bad[i] : good[i]);
      free(bytes);
    }
  }
}

/* ---- order ---- */

/* A document of one field per line: values in ascending order; "=" marks one that equals its predecessor. */
static const struct {
  bool same;
  const char *hex; /* type byte and value */
} ascending[] = {
    {false, "ff"},                                                 /* min key */
    {false, "06"},                                                 /* undefined */
    {false, "0a"},                                                 /* null */
    {false, "01 000000000000f87f"},                                /* NaN */
    {true, "01 010000000000f8ff"},                                 /* another NaN */
    {false, "13 0000000000000000000000000000007c"},                /* decimal NaN */
    {false, "01 000000000000f0ff"},                                /* -inf */
    {false, "12 0000000000000080"},                                /* -2^63 */
    {true, "01 000000000000e0c3"},                                 /* -2^63 as a double */
    {false, "10 ffffffff"},                                        /* -1 */
    {false, "10 00000000"},                                        /* 0 */
    {true, "01 0000000000000080"},                                 /* -0.0 */
    {true, "12 0000000000000000"},                                 /* 0 */
    {false, "13 00000000000000000000000000004030"},                /* decimal 0 */
    {false, "01 000000000000e03f"},                                /* 0.5 */
    {false, "10 01000000"},                                        /* 1 */
    {true, "01 000000000000f03f"},                                 /* 1.0 */
    {true, "12 0100000000000000"},                                 /* 1 */
    {false, "01 9a9999999999f13f"},                                /* 1.1 */
    {false, "13 0b000000000000000000000000003e30"},                /* decimal 1.1 */
    {false, "12 0000000000002000"},                                /* 2^53 */
    {true, "01 0000000000004043"},                                 /* 2^53 as a double */
    {false, "12 0100000000002000"},                                /* 2^53 + 1: no double */
    {false, "01 0100000000004043"},                                /* 2^53 + 2 */
    {false, "12 ffffffffffffff7f"},                                /* 2^63 - 1 */
    {false, "01 000000000000e043"},                                /* 2^63 */
    {false, "01 000000000000f07f"},                                /* inf */
    {false, "13 00000000000000000000000000000078"},                /* decimal inf */
    {false, "02 01000000 00"},                                     /* "" */
    {false, "02 02000000 61 00"},                                  /* "a" */
    {false, "0e 02000000 61 00"},                                  /* symbol "a" */
    {false, "02 03000000 6100 00"},                                /* "a\0" */
    {false, "02 03000000 6161 00"},                                /* "aa" */
    {false, "02 02000000 7a 00"},                                  /* "z" */
    {false, "02 03000000 c3a9 00"},                                /* "é" */
    {false, "03 05000000 00"},                                     /* {} */
    {false, "03 0c000000 10 61 00 01000000 00"},                   /* {a: 1} */
    {true, "03 10000000 12 61 00 0100000000000000 00"},            /* {a: 1} as int64 */
    {false, "03 13000000 10 61 00 01000000 10 62 00 00000000 00"}, /* {a: 1, b: 0} */
    {false, "03 0c000000 10 61 00 02000000 00"},                   /* {a: 2} */
    {false, "03 0c000000 10 62 00 00000000 00"},                   /* {b: 0} */
    {false, "03 0e000000 02 61 00 02000000 61 00 00"},             /* {a: "a"}: the kind before the name */
    {false, "04 05000000 00"},                                     /* [] */
    {false, "04 0c000000 10 30 00 01000000 00"},                   /* [1] */
    {true, "04 0c000000 10 39 00 01000000 00"},                    /* [1] with another key */
    {false, "05 00000000 00"},                                     /* binary: length, subtype, bytes */
    {false, "05 01000000 00 ff"},
    {false, "05 01000000 80 01"},
    {false, "05 02000000 00 0000"},
    {false, "07 000000000000000000000001"},
    {false, "07 0100000000000000000000ff"},
    {false, "08 00"},
    {false, "08 01"},
    {false, "09 ffffffffffffffff"}, /* a moment before 1970 */
    {false, "09 0100000000000000"},
    {false, "11 0200000001000000"}, /* timestamp: seconds first, no sign */
    {false, "11 0100000002000000"},
    {false, "11 01000000ffffffff"},
    {false, "0b 6100 6900"},
    {false, "0b 6100 6d00"},
    {false, "0b 6200 00"},
    {false, "0c 02000000 63 00 0102030405060708090a0b0c"},
    {false, "0d 02000000 66 00"},
    {false, "0f 0f000000 02000000 66 00 05000000 00"},
    {false, "0f 16000000 02000000 66 00 0c000000 10 61 00 01000000 00"},
    {true, "0f 1a000000 02000000 66 00 10000000 12 61 00 0100000000000000 00"},
    {false, "0f 0f000000 02000000 67 00 05000000 00"},
    {false, "7f"},
};

static void test_order(void) {
  enum { COUNT = sizeof ascending / sizeof ascending[0] };
  lumo_value values[COUNT];
  uint8_t *bytes[COUNT];
  int rank[COUNT];
  for (int i = 0; i < COUNT; i++) {
    size_t len;
    bytes[i] = check_bytes(ascending[i].hex, &len);
    values[i] = (lumo_value){bytes[i] + 1, (uint32_t)len - 1, bytes[i][0]};
    rank[i] = i == 0 ? 0 : rank[i - 1] + !ascending[i].same;
  }
  for (int i = 0; i < COUNT; i++)
    for (int j = 0; j < COUNT; j++) {
      int order = lumo_value_compare(&values[i], &values[j]);
      bool good = (order > 0) - (order < 0) == (rank[i] > rank[j]) - (rank[i] < rank[j]);
      if (!CHECK(good && lumo_value_equal(&values[i], &values[j]) == (rank[i] == rank[j])))
        fprintf(stderr, "  %s against %s: %d\n", ascending[i].hex, ascending[j].hex, order);
      if (rank[i] == rank[j]) CHECK(lumo_value_hash(&values[i]) == lumo_value_hash(&values[j]));
    }
  lumo_value none = {0}, null = {NULL, 0, LUMO_BSON_NULL};
  CHECK(lumo_value_equal(&none, &none) && lumo_value_equal(&null, &null) && !lumo_value_equal(&none, &null));
  CHECK(lumo_value_compare(&none, &null) < 0);
  for (int i = 0; i < COUNT; i++) free(bytes[i]);
}

/* Different keys should not share buckets: small numbers and ids that differ in their last bytes. */
static void test_hash_spread(void) {
  enum { COUNT = 4096 };
  static uint8_t used[COUNT];
  int filled = 0;
  for (int i = 0; i < COUNT; i++) {
    uint8_t id[12] = {0x65, 1, 2, 3, 4, 5, 6, 7, 8, 0, (uint8_t)(i >> 8), (uint8_t)i};
    lumo_value v = {id, 12, LUMO_BSON_OBJECTID};
    used[lumo_value_hash(&v) % COUNT] = 1;
  }
  for (int i = 0; i < COUNT; i++) filled += used[i];
  CHECK(filled > COUNT / 2); /* 63 % of the places for a random function */
}

/* ---- errors ---- */

static void test_errors(void) {
  lumo_error error;
  char text[600];
  lumo_error_init(&error);
  CHECK(error.code == NULL && error.write_index == -1 && error.value == NULL && error.message[0] == 0);
  snprintf(error.op, sizeof error.op, "insert");
  CHECK(!lumo_error_set(&error, "E_ARGUMENT", "%s is %d", "x", 5));
  CHECK_TEXT(error.message, strlen(error.message), "x is 5");
  CHECK_TEXT(error.op, strlen(error.op), "insert");
  CHECK_TEXT(error.code, strlen(error.code), "E_ARGUMENT");
  lumo_error_set(&error, "E_ARGUMENT", "[%s]", error.message);
  CHECK_TEXT(error.message, strlen(error.message), "[x is 5]");
  for (size_t ascii = 500; ascii < 520; ascii++) /* wherever the cut falls, no character is left in pieces */
    for (int kind = 0; kind < 3; kind++) {
      static const char *const characters[] = {"é", "☆", "😀"};
      memset(text, 'a', ascii);
      snprintf(text + ascii, sizeof text - ascii, "%s%s%s", characters[kind], characters[kind],
               characters[kind]);
      lumo_error_set(&error, "E_ARGUMENT", "%s", text);
      size_t len = strlen(error.message);
      CHECK(lumo_utf8_valid(error.message, len) && memcmp(error.message, text, len) == 0);
      CHECK(len == strlen(text) || len > sizeof error.message - 1 - 4);
    }
  CHECK(!lumo_error_memory(&error));
  CHECK_TEXT(error.code, strlen(error.code), "E_MEMORY");
  error.value = lumo_malloc(8);
  error.labels = LUMO_LABEL_TRANSIENT;
  lumo_error_reset(&error);
  CHECK(error.value == NULL && error.code == NULL && error.labels == 0 && error.op[0] == 0);
}

int main(void) {
  test_memory();
  test_writer();
  test_copy();
  test_out_of_memory();
  test_lent();
  test_reader();
  test_find();
  test_damaged();
  test_validate();
  test_depth();
  test_utf8();
  test_order();
  test_hash_spread();
  test_errors();
  return check_report();
}
