#include "bson.h"

#include <math.h>
#include <string.h>

#include "mem.h"

/* ---- the buffer ---- */

void lumo_buf_free(lumo_buf *buf) {
  if (buf->data && !buf->lent) lumo_free(buf->data);
  *buf = (lumo_buf){0};
}

void lumo_buf_clear(lumo_buf *buf) {
  buf->len = 0;
  buf->failed = false;
}

bool lumo_buf_grow(lumo_buf *buf, size_t more) {
  if (buf->failed) return false;
  size_t cap = buf->cap < 64 ? 64 : buf->cap;
  while (cap - buf->len < more && cap <= SIZE_MAX / 2) cap *= 2;
  uint8_t *data = cap - buf->len < more ? NULL : lumo_realloc(buf->lent ? NULL : buf->data, cap);
  if (!data) {
    buf->failed = true;
    return false;
  }
  if (buf->lent && buf->len > 0) memcpy(data, buf->data, buf->len);
  buf->data = data;
  buf->cap = cap;
  buf->lent = false;
  return true;
}

/* NULL after a failure. What lies in lent memory moves out of it. */
uint8_t *lumo_buf_take(lumo_buf *buf, size_t *len) {
  if (buf->lent) lumo_buf_grow(buf, buf->cap - buf->len);
  if (buf->failed) lumo_buf_free(buf);
  uint8_t *data = buf->data;
  *len = buf->len;
  *buf = (lumo_buf){0};
  return data;
}

/* ---- values ---- */

const uint8_t *lumo_value_binary(const lumo_value *v, uint32_t *len, uint8_t *subtype) {
  *subtype = v->data[4];
  /* The outer length, which the reader has checked, and not the inner one, which only the validator does. */
  uint32_t skip = *subtype == 0x02 && v->len >= 9 ? 9 : 5;
  *len = v->len - skip;
  return v->data + skip;
}

/* ---- the reader ---- */

/* Bytes of a value by its type: a fixed number, or how to find it. */
enum { SIZE_UNKNOWN = 0, SIZE_NONE = 0x80, SIZE_TEXT, SIZE_DOCUMENT, SIZE_OTHER };

static const uint8_t value_size[256] = {
    [LUMO_BSON_DOUBLE] = 8,
    [LUMO_BSON_STRING] = SIZE_TEXT,
    [LUMO_BSON_DOCUMENT] = SIZE_DOCUMENT,
    [LUMO_BSON_ARRAY] = SIZE_DOCUMENT,
    [LUMO_BSON_BINARY] = SIZE_OTHER,
    [LUMO_BSON_UNDEFINED] = SIZE_NONE,
    [LUMO_BSON_OBJECTID] = 12,
    [LUMO_BSON_BOOL] = 1,
    [LUMO_BSON_DATE] = 8,
    [LUMO_BSON_NULL] = SIZE_NONE,
    [LUMO_BSON_REGEX] = SIZE_OTHER,
    [LUMO_BSON_DBPOINTER] = SIZE_OTHER,
    [LUMO_BSON_CODE] = SIZE_TEXT,
    [LUMO_BSON_SYMBOL] = SIZE_TEXT,
    [LUMO_BSON_CODE_SCOPE] = SIZE_OTHER,
    [LUMO_BSON_INT32] = 4,
    [LUMO_BSON_TIMESTAMP] = 8,
    [LUMO_BSON_INT64] = 8,
    [LUMO_BSON_DECIMAL] = 16,
    [LUMO_BSON_MINKEY] = SIZE_NONE,
    [LUMO_BSON_MAXKEY] = SIZE_NONE,
};

/* The first NUL from p on. There is one at `end` at the latest: the document's own last byte. */
static inline const uint8_t *find_nul(const uint8_t *p, const uint8_t *end) {
  for (; end - p >= 8; p += 8) {
    uint64_t word = lumo_load64(p);
    uint64_t zeros = (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
    if (zeros) return p + (__builtin_ctzll(zeros) >> 3);
  }
  while (*p) p++;
  return p;
}

/* The size of a text value (length prefix, bytes, NUL) in `room` bytes; 0 if it is malformed. */
static inline size_t text_size(const uint8_t *p, size_t room) {
  if (room < 5) return 0;
  size_t len = lumo_load32(p);
  if (len < 1 || len > room - 4 || p[4 + len - 1] != 0) return 0;
  return 4 + len;
}

/* The same for the kinds that are rare or odd. `end` is where the document's last NUL stands. */
static size_t other_size(uint8_t type, const uint8_t *p, const uint8_t *end) {
  size_t room = (size_t)(end - p), size;
  const uint8_t *nul;
  switch (type) {
  case LUMO_BSON_BINARY:
    if (room < 5 || lumo_load32(p) > room - 5) return 0;
    return 5 + (size_t)lumo_load32(p);
  case LUMO_BSON_REGEX:
    nul = find_nul(p, end);
    if (nul == end) return 0;
    nul = find_nul(nul + 1, end);
    return nul == end ? 0 : (size_t)(nul + 1 - p);
  case LUMO_BSON_DBPOINTER: size = text_size(p, room); return size && room - size >= 12 ? size + 12 : 0;
  default: /* CODE_SCOPE: its own length, a text, a document that ends where the whole does */
    if (room < 14 || lumo_load32(p) < 14 || lumo_load32(p) > room) return 0;
    room = lumo_load32(p) - 4;
    size = text_size(p + 4, room);
    if (size == 0 || room - size < 5 || lumo_load32(p + 4 + size) != room - size) return 0;
    return 4 + room;
  }
}

/* The scope of a code with scope. */
static lumo_value code_scope(const lumo_value *v) {
  uint32_t before = 8 + lumo_load32(v->data + 4);
  return (lumo_value){v->data + before, v->len - before, LUMO_BSON_DOCUMENT};
}

static bool iter_bad(lumo_iter *it, const uint8_t *at) {
  it->next = it->end = at;
  it->value = (lumo_value){0};
  it->bad = true;
  return false;
}

bool lumo_iter_init(lumo_iter *it, const uint8_t *doc, size_t len) {
  *it = (lumo_iter){0};
  if (len < 5) return iter_bad(it, doc);
  size_t size = lumo_load32(doc);
  if (size < 5 || size > len || doc[size - 1] != 0) return iter_bad(it, doc);
  it->next = doc + 4;
  it->end = doc + size - 1;
  return true;
}

bool lumo_iter_value(lumo_iter *it, const lumo_value *v) {
  if (v->type == LUMO_BSON_DOCUMENT || v->type == LUMO_BSON_ARRAY) return lumo_iter_init(it, v->data, v->len);
  *it = (lumo_iter){0};
  return iter_bad(it, v->data);
}

lumo_iter lumo_iter_elements(const lumo_buf *elements) {
  lumo_iter it = {.next = elements->data, .end = elements->data};
  if (elements->len > 0) it.end += elements->len; /* an empty buffer may be NULL */
  return it;
}

/* The size of the value of an element; -1 if it is malformed. The common kinds come first, by branches and
 * not by a jump table: this is where reading a document spends its time. */
static inline int64_t size_of_value(uint8_t type, const uint8_t *p, const uint8_t *end) {
  size_t room = (size_t)(end - p), size = value_size[type];
  if (size == SIZE_TEXT) {
    size = text_size(p, room);
  } else if (size < SIZE_NONE) { /* fixed, or 0 for an unknown type */
    if (size > room) return -1;
  } else if (size == SIZE_DOCUMENT) {
    if (room < 5) return -1;
    size = lumo_load32(p);
    if (size < 5 || size > room) return -1;
  } else if (size == SIZE_NONE) {
    return 0;
  } else {
    size = other_size(type, p, end);
  }
  return size ? (int64_t)size : -1;
}

/* Steps over the element at it->next, whose key ends at `nul`. */
static inline bool step_over(lumo_iter *it, const uint8_t *nul) {
  const uint8_t *start = it->next, *end = it->end;
  if (nul == end) return iter_bad(it, start);
  const uint8_t *p = nul + 1;
  int64_t size = size_of_value(start[0], p, end);
  if (size < 0) return iter_bad(it, start);
  it->key = (const char *)start + 1;
  it->key_len = (uint32_t)(nul - start - 1);
  it->value = (lumo_value){p, (uint32_t)size, start[0]};
  it->next = p + size;
  return true;
}

bool lumo_iter_next(lumo_iter *it) {
  if (it->next == it->end) return false;
  return step_over(it, find_nul(it->next + 1, it->end));
}

/* memcmp(a, b, n) == 0 for the length of a key, for which a call would be most of the work. */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, size_t n) {
  size_t at = 0;
  if (n < 8) {
    if (n >= 4) return lumo_load32(a) == lumo_load32(b) && lumo_load32(a + n - 4) == lumo_load32(b + n - 4);
    while (at < n && a[at] == b[at]) at++;
    return at == n;
  }
  for (; at + 8 < n; at += 8)
    if (lumo_load64(a + at) != lumo_load64(b + at)) return false;
  return lumo_load64(a + n - 8) == lumo_load64(b + n - 8);
}

bool lumo_iter_pass(lumo_iter *it, const char *key, uint32_t key_len) {
  const uint8_t *start = it->next, *end = it->end;
  /* Type, key and NUL must lie before the document's own NUL. */
  if ((size_t)(end - start) < (size_t)key_len + 2 ||
      !same_bytes(start + 1, (const uint8_t *)key, (size_t)key_len + 1))
    return false;
  const uint8_t *p = start + 2 + key_len;
  int64_t size = size_of_value(start[0], p, end);
  if (size < 0) return false;
  it->next = p + size;
  return true;
}

lumo_value lumo_element_value(const uint8_t *element, uint32_t key_len, const uint8_t *end) {
  const uint8_t *p = element + 1 + key_len + 1;
  int64_t size = p <= end ? size_of_value(element[0], p, end) : -1;
  return size < 0 ? (lumo_value){0} : (lumo_value){p, (uint32_t)size, element[0]};
}

bool lumo_bson_find(const uint8_t *doc, size_t len, const char *key, size_t key_len, lumo_value *out) {
  lumo_iter it;
  *out = (lumo_value){0};
  if (!lumo_iter_init(&it, doc, len)) return false;
  while (lumo_iter_next(&it))
    if (it.key_len == key_len && memcmp(it.key, key, key_len) == 0) {
      *out = it.value;
      return true;
    }
  return false;
}

/* The element at a position given as decimal digits without leading zeros, as the server reads them. */
static bool find_position(const lumo_value *array, const char *digits, size_t count, lumo_value *out) {
  uint64_t position = 0;
  if (count == 0 || count > 9 || (count > 1 && digits[0] == '0')) return false;
  for (size_t i = 0; i < count; i++) {
    if (digits[i] < '0' || digits[i] > '9') return false;
    position = position * 10 + (uint64_t)(digits[i] - '0');
  }
  lumo_iter it;
  if (!lumo_iter_value(&it, array)) return false;
  while (lumo_iter_next(&it))
    if (position-- == 0) {
      *out = it.value;
      return true;
    }
  return false;
}

bool lumo_bson_find_path(const uint8_t *doc, size_t len, const char *path, size_t path_len, lumo_value *out) {
  lumo_value here = {doc, (uint32_t)len, LUMO_BSON_DOCUMENT}, found;
  const char *end = path + path_len;
  *out = (lumo_value){0};
  for (;;) {
    const char *dot = memchr(path, '.', (size_t)(end - path));
    size_t part = (size_t)((dot ? dot : end) - path);
    bool there = false;
    if (here.type == LUMO_BSON_DOCUMENT)
      there = lumo_bson_find(here.data, here.len, path, part, &found);
    else if (here.type == LUMO_BSON_ARRAY)
      there = find_position(&here, path, part, &found);
    if (!there) return false;
    if (!dot) break;
    here = found;
    path = dot + 1;
  }
  *out = found;
  return true;
}

/* ---- the whole check ---- */

/* The length of the well-formed character at p, 0 if there is none. No overlong forms, no surrogates, nothing
 * beyond U+10FFFF. */
static size_t utf8_character(const uint8_t *p, size_t room) {
  uint8_t lead = p[0], low = 0x80, high = 0xBF;
  size_t len;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  if (lead < 0xE0) {
    len = 2;
  } else if (lead < 0xF0) {
    len = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else {
    len = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  }
  if (room < len || p[1] < low || p[1] > high) return 0;
  for (size_t i = 2; i < len; i++)
    if ((p[i] & 0xC0) != 0x80) return 0;
  return len;
}

/* How many bytes at the front are well-formed UTF-8. */
static size_t utf8_span(const uint8_t *p, size_t len) {
  const uint64_t high = 0x8080808080808080u;
  size_t at = 0;
  while (at < len) {
    if (len - at >= 32 && !((lumo_load64(p + at) | lumo_load64(p + at + 8) | lumo_load64(p + at + 16) |
                             lumo_load64(p + at + 24)) &
                            high)) {
      at += 32;
      continue;
    }
    if (len - at >= 8 && !(lumo_load64(p + at) & high)) {
      at += 8;
      continue;
    }
    size_t step = utf8_character(p + at, len - at);
    if (step == 0) break;
    at += step;
  }
  return at;
}

bool lumo_utf8_valid(const char *text, size_t len) {
  return utf8_span((const uint8_t *)text, len) == len;
}

/* The checks below return NULL for a good value, else where it is wrong. */
static const uint8_t *check_utf8(const void *text, size_t len) {
  size_t span = utf8_span(text, len);
  return span == len ? NULL : (const uint8_t *)text + span;
}

static const uint8_t *check_text(const uint8_t *p) {
  return check_utf8(p + 4, lumo_load32(p) - 1);
}

static const uint8_t *check_regex(const lumo_value *v) {
  const uint8_t *end = v->data + v->len, *nul = find_nul(v->data, end - 1);
  const uint8_t *wrong = check_utf8(v->data, (size_t)(nul - v->data));
  return wrong ? wrong : check_utf8(nul + 1, (size_t)(end - 1 - (nul + 1)));
}

static const uint8_t *check_binary(const lumo_value *v) {
  if (v->data[4] != 0x02) return NULL;
  return v->len >= 9 && lumo_load32(v->data + 5) == v->len - 9 ? NULL : v->data;
}

/* Checks one element beyond what the reader has; *inner gets the document to walk next, if it has one. */
static const uint8_t *check_element(const lumo_iter *it, lumo_value *inner) {
  const lumo_value *v = &it->value;
  const uint8_t *wrong = check_utf8(it->key, it->key_len);
  if (wrong) return wrong;
  switch (v->type) {
  case LUMO_BSON_STRING:
  case LUMO_BSON_CODE:
  case LUMO_BSON_SYMBOL:
  case LUMO_BSON_DBPOINTER: return check_text(v->data);
  case LUMO_BSON_BOOL: return v->data[0] <= 1 ? NULL : v->data;
  case LUMO_BSON_BINARY: return check_binary(v);
  case LUMO_BSON_REGEX: return check_regex(v);
  case LUMO_BSON_CODE_SCOPE: *inner = code_scope(v); return check_text(v->data + 4);
  case LUMO_BSON_DOCUMENT:
  case LUMO_BSON_ARRAY: *inner = *v; return NULL;
  default: return NULL;
  }
}

bool lumo_bson_validate(const uint8_t *doc, size_t len, size_t *at) {
  lumo_iter stack[LUMO_BSON_MAX_DEPTH], *top = stack;
  const uint8_t *wrong = doc;
  if (!lumo_iter_init(top, doc, len) || (size_t)(top->end + 1 - doc) != len) goto malformed;
  for (;;) {
    if (!lumo_iter_next(top)) {
      wrong = top->next;
      if (top->bad) goto malformed;
      if (top == stack) return true;
      top--;
      continue;
    }
    lumo_value inner = {0};
    wrong = check_element(top, &inner);
    if (wrong) goto malformed;
    if (inner.type == LUMO_BSON_END) continue;
    wrong = inner.data;
    if (top == stack + LUMO_BSON_MAX_DEPTH - 1 || !lumo_iter_value(++top, &inner)) goto malformed;
  }
malformed:
  *at = (size_t)(wrong - doc);
  return false;
}

/* ---- comparing ---- */

/* The server's order of types; kinds that share a number are compared by content first. */
static int type_rank(uint8_t type) {
  switch (type) {
  case LUMO_BSON_MINKEY: return 0;
  case LUMO_BSON_END:
  case LUMO_BSON_UNDEFINED: return 1;
  case LUMO_BSON_NULL: return 2;
  case LUMO_BSON_DOUBLE:
  case LUMO_BSON_INT32:
  case LUMO_BSON_INT64:
  case LUMO_BSON_DECIMAL: return 3;
  case LUMO_BSON_STRING:
  case LUMO_BSON_SYMBOL: return 4;
  case LUMO_BSON_DOCUMENT: return 5;
  case LUMO_BSON_ARRAY: return 6;
  case LUMO_BSON_BINARY: return 7;
  case LUMO_BSON_OBJECTID: return 8;
  case LUMO_BSON_BOOL: return 9;
  case LUMO_BSON_DATE: return 10;
  case LUMO_BSON_TIMESTAMP: return 11;
  case LUMO_BSON_REGEX: return 12;
  case LUMO_BSON_DBPOINTER: return 13;
  case LUMO_BSON_CODE: return 14;
  case LUMO_BSON_CODE_SCOPE: return 15;
  default: return 16; /* MAXKEY */
  }
}

#define ORDER(a, b) (((a) > (b)) - ((a) < (b)))

static int order_bytes(const void *a, size_t a_len, const void *b, size_t b_len) {
  size_t both = a_len < b_len ? a_len : b_len;
  int order = both ? memcmp(a, b, both) : 0; /* a value without bytes may have a NULL pointer */
  return order ? order : ORDER(a_len, b_len);
}

/* NaN is equal to itself and below every other number, as on the server. */
static int order_double(double a, double b) {
  if (isnan(a) || isnan(b)) return isnan(b) - isnan(a);
  return ORDER(a, b);
}

/* Exact, where converting the integer would round. */
static int order_int64_double(int64_t a, double b) {
  if (isnan(b)) return 1;
  if (b >= 9223372036854775808.0) return -1;
  if (b < -9223372036854775808.0) return 1;
  int64_t whole = (int64_t)b;
  if (a != whole) return ORDER(a, whole);
  return ORDER(0.0, b - (double)whole);
}

/* Close to the nearest double: exact steps up to 27 digits of exponent, which is what real data has. */
static double decimal_to_double(const uint8_t *bytes) {
  uint64_t low = lumo_load64(bytes), high = lumo_load64(bytes + 8);
  bool negative = high >> 63;
  unsigned combination = (unsigned)(high >> 58) & 0x1F;
  if (combination == 0x1F) return NAN;
  if (combination == 0x1E) return negative ? -INFINITY : INFINITY;
  uint64_t coefficient = high & 0x1FFFFFFFFFFFFu;
  /* More than 34 digits, as in every number of the form that begins with 11, count as zero. */
  if ((combination >> 3) == 3 || coefficient > 0x1ED09BEAD87C0u ||
      (coefficient == 0x1ED09BEAD87C0u && low > 0x378D8E63FFFFFFFFu))
    return 0;
  long double value = (long double)coefficient * 18446744073709551616.0L + (long double)low;
  int exponent = (int)((high >> 49) & 0x3FFF) - 6176;
  long double scale = 1, power = 10;
  for (int left = exponent < 0 ? -exponent : exponent; left; left >>= 1, power *= power)
    if (left & 1) scale *= power;
  if (value == 0) return 0;
  double d = (double)(exponent < 0 ? value / scale : value * scale);
  return negative ? -d : d;
}

static double number_to_double(const lumo_value *v) {
  switch (v->type) {
  case LUMO_BSON_DOUBLE: return lumo_value_double(v);
  case LUMO_BSON_INT32: return lumo_value_int32(v);
  case LUMO_BSON_INT64: return (double)lumo_value_int64(v);
  default: return decimal_to_double(v->data);
  }
}

static int64_t number_to_int64(const lumo_value *v) {
  return v->type == LUMO_BSON_INT32 ? lumo_value_int32(v) : lumo_value_int64(v);
}

/* By double value; then decimals after the others, and then exactly. Rounding to double keeps the order of
 * the others, so this is one total order. */
static int order_numbers(const lumo_value *a, const lumo_value *b) {
  int order;
  if (a->type == LUMO_BSON_DECIMAL || b->type == LUMO_BSON_DECIMAL) {
    order = order_double(number_to_double(a), number_to_double(b));
    if (order == 0) order = ORDER(a->type == LUMO_BSON_DECIMAL, b->type == LUMO_BSON_DECIMAL);
    return order ? order : memcmp(a->data, b->data, 16);
  }
  if (a->type == LUMO_BSON_DOUBLE && b->type == LUMO_BSON_DOUBLE)
    return order_double(lumo_value_double(a), lumo_value_double(b));
  if (a->type == LUMO_BSON_DOUBLE) return -order_int64_double(number_to_int64(b), lumo_value_double(a));
  if (b->type == LUMO_BSON_DOUBLE) return order_int64_double(number_to_int64(a), lumo_value_double(b));
  int64_t left = number_to_int64(a), right = number_to_int64(b);
  return ORDER(left, right);
}

static int order_text(const lumo_value *a, const lumo_value *b) {
  uint32_t a_len, b_len;
  const char *a_text = lumo_value_text(a, &a_len), *b_text = lumo_value_text(b, &b_len);
  int order = order_bytes(a_text, a_len, b_text, b_len);
  return order ? order : ORDER(a->type, b->type);
}

static int order_values(const lumo_value *a, const lumo_value *b, int depth);

/* Element by element: kind, then name (arrays have none), then value; the shorter one first. */
static int order_documents(const lumo_value *a, const lumo_value *b, int depth) {
  lumo_iter x, y;
  if (depth == LUMO_BSON_MAX_DEPTH) return order_bytes(a->data, a->len, b->data, b->len);
  lumo_iter_value(&x, a);
  lumo_iter_value(&y, b);
  for (;;) {
    bool x_more = lumo_iter_next(&x), y_more = lumo_iter_next(&y);
    if (!x_more || !y_more) return x_more - y_more;
    int order = type_rank(x.value.type) - type_rank(y.value.type);
    if (order == 0 && a->type == LUMO_BSON_DOCUMENT) order = order_bytes(x.key, x.key_len, y.key, y.key_len);
    if (order == 0) order = order_values(&x.value, &y.value, depth + 1);
    if (order) return order;
  }
}

static int order_values(const lumo_value *a, const lumo_value *b, int depth) {
  int rank = type_rank(a->type), order = rank - type_rank(b->type);
  if (order) return order;
  switch (a->type) {
  case LUMO_BSON_DOUBLE:
  case LUMO_BSON_INT32:
  case LUMO_BSON_INT64:
  case LUMO_BSON_DECIMAL: return order_numbers(a, b);
  case LUMO_BSON_STRING:
  case LUMO_BSON_SYMBOL:
  case LUMO_BSON_CODE: return order_text(a, b);
  case LUMO_BSON_DOCUMENT:
  case LUMO_BSON_ARRAY: return order_documents(a, b, depth);
  case LUMO_BSON_BINARY: /* length, subtype, bytes */
  case LUMO_BSON_DBPOINTER:
    order = ORDER(a->len, b->len);
    return order ? order : memcmp(a->data + 4, b->data + 4, a->len - 4);
  case LUMO_BSON_CODE_SCOPE: {
    lumo_value a_code = {a->data + 4, a->len - 4, LUMO_BSON_CODE},
               b_code = {b->data + 4, b->len - 4, LUMO_BSON_CODE};
    lumo_value a_scope = code_scope(a), b_scope = code_scope(b);
    order = order_text(&a_code, &b_code);
    return order ? order : order_documents(&a_scope, &b_scope, depth);
  }
  case LUMO_BSON_DATE: {
    int64_t left = lumo_value_int64(a), right = lumo_value_int64(b);
    return ORDER(left, right);
  }
  case LUMO_BSON_TIMESTAMP: {
    uint64_t left = lumo_load64(a->data), right = lumo_load64(b->data);
    return ORDER(left, right);
  }
  default: /* the type byte tells apart what shares a rank and has no bytes */
    order = order_bytes(a->data, a->len, b->data, b->len);
    return order ? order : ORDER(a->type, b->type);
  }
}

int lumo_value_compare(const lumo_value *a, const lumo_value *b) {
  return order_values(a, b, 1);
}

bool lumo_value_equal(const lumo_value *a, const lumo_value *b) {
  if (a->type == b->type && order_bytes(a->data, a->len, b->data, b->len) == 0) return true;
  return order_values(a, b, 1) == 0;
}

/* ---- hashing ---- */

static inline uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 32;
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *p, size_t len) {
  hash = mix(hash, len);
  for (; len >= 8; p += 8, len -= 8) hash = mix(hash, lumo_load64(p));
  uint64_t rest = 0;
  for (size_t i = 0; i < len; i++) rest |= (uint64_t)p[i] << (8 * i);
  return mix(hash, rest);
}

/* Whole doubles hash as the integers that they equal. */
static uint64_t hash_double(uint64_t hash, double d) {
  if (d >= -9223372036854775808.0 && d < 9223372036854775808.0 && (double)(int64_t)d == d)
    return mix(hash, (uint64_t)(int64_t)d);
  uint64_t bits = 0x7FF8000000000000u; /* every NaN alike */
  if (!isnan(d)) memcpy(&bits, &d, sizeof bits);
  return mix(hash, bits);
}

static uint64_t hash_value(uint64_t hash, const lumo_value *v, int depth) {
  lumo_iter it;
  hash = mix(hash, (uint64_t)type_rank(v->type));
  switch (v->type) {
  case LUMO_BSON_DOUBLE: return hash_double(hash, lumo_value_double(v));
  case LUMO_BSON_INT32: return mix(hash, (uint64_t)(int64_t)lumo_value_int32(v));
  case LUMO_BSON_INT64: return mix(hash, (uint64_t)lumo_value_int64(v));
  case LUMO_BSON_CODE_SCOPE:
    return hash_bytes(hash, v->data + 8, lumo_load32(v->data + 4)); /* the code alone */
  case LUMO_BSON_DOCUMENT:
  case LUMO_BSON_ARRAY:
    if (depth == LUMO_BSON_MAX_DEPTH) return hash; /* what is deeper is told apart by lumo_value_equal */
    lumo_iter_value(&it, v);
    while (lumo_iter_next(&it)) {
      if (v->type == LUMO_BSON_DOCUMENT) hash = hash_bytes(hash, (const uint8_t *)it.key, it.key_len);
      hash = hash_value(hash, &it.value, depth + 1);
    }
    return hash;
  default: return hash_bytes(hash, v->data, v->len);
  }
}

/* The last step spreads what is left in the upper bits: tables take the lower ones. */
uint64_t lumo_value_hash(const lumo_value *v) {
  uint64_t hash = hash_value(0, v, 1) * 0xD6E8FEB86659FD93u;
  return hash ^ hash >> 32;
}

/* ---- the writer ---- */

size_t lumo_bson_begin(lumo_buf *buf) {
  size_t mark = buf->len;
  if (!lumo_buf_reserve(buf, 4)) return mark;
  lumo_store32(buf->data + mark, 0);
  buf->len = mark + 4;
  return mark;
}

void lumo_bson_end(lumo_buf *buf, size_t mark) {
  if (!lumo_buf_reserve(buf, 1)) return;
  buf->data[buf->len++] = 0;
  if (buf->len - mark > INT32_MAX)
    buf->failed = true; /* a length that BSON cannot state */
  else
    lumo_store32(buf->data + mark, (uint32_t)(buf->len - mark));
}

/* Writes an element's header and returns the place for `size` bytes of value, NULL if there is no room. */
static inline uint8_t *element(lumo_buf *buf, uint8_t type, const char *key, size_t key_len, size_t size) {
  if (!lumo_buf_reserve(buf, key_len + 2 + size)) return NULL;
  uint8_t *p = buf->data + buf->len;
  *p++ = type;
  if (key_len) memcpy(p, key, key_len);
  p[key_len] = 0;
  buf->len += key_len + 2 + size;
  return p + key_len + 1;
}

void lumo_bson_key(lumo_buf *buf, uint8_t type, const char *key, size_t key_len) {
  element(buf, type, key, key_len, 0);
}

static size_t begin_inner(lumo_buf *buf, uint8_t type, const char *key, size_t key_len) {
  element(buf, type, key, key_len, 4);
  return buf->len - 4; /* after a failure: nothing is written at it any more */
}

size_t lumo_bson_begin_document(lumo_buf *buf, const char *key, size_t key_len) {
  return begin_inner(buf, LUMO_BSON_DOCUMENT, key, key_len);
}

size_t lumo_bson_begin_array(lumo_buf *buf, const char *key, size_t key_len) {
  return begin_inner(buf, LUMO_BSON_ARRAY, key, key_len);
}

void lumo_bson_index(lumo_buf *buf, uint8_t type, uint32_t index) {
  char digits[10], *first = digits + sizeof digits;
  do *--first = (char)('0' + index % 10);
  while ((index /= 10) != 0);
  element(buf, type, first, (size_t)(digits + sizeof digits - first), 0);
}

static void element_bytes(lumo_buf *buf, uint8_t type, const char *key, size_t key_len, const void *bytes,
                          size_t len) {
  uint8_t *p = element(buf, type, key, key_len, len);
  if (p && len) memcpy(p, bytes, len);
}

/* A missing value leaves no element. */
void lumo_bson_value(lumo_buf *buf, const char *key, size_t key_len, const lumo_value *v) {
  if (v->type != LUMO_BSON_END) element_bytes(buf, v->type, key, key_len, v->data, v->len);
}

void lumo_bson_double(lumo_buf *buf, const char *key, size_t key_len, double v) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  uint8_t *p = element(buf, LUMO_BSON_DOUBLE, key, key_len, 8);
  if (p) lumo_store64(p, bits);
}

void lumo_bson_string(lumo_buf *buf, const char *key, size_t key_len, const char *text, size_t len) {
  if (len >= INT32_MAX) {
    buf->failed = true;
    return;
  }
  uint8_t *p = element(buf, LUMO_BSON_STRING, key, key_len, len + 5);
  if (!p) return;
  lumo_store32(p, (uint32_t)len + 1);
  if (len) memcpy(p + 4, text, len);
  p[4 + len] = 0;
}

void lumo_bson_document(lumo_buf *buf, const char *key, size_t key_len, const uint8_t *doc, size_t len) {
  element_bytes(buf, LUMO_BSON_DOCUMENT, key, key_len, doc, len);
}

void lumo_bson_objectid(lumo_buf *buf, const char *key, size_t key_len, const uint8_t id[12]) {
  element_bytes(buf, LUMO_BSON_OBJECTID, key, key_len, id, 12);
}

void lumo_bson_boolean(lumo_buf *buf, const char *key, size_t key_len, bool v) {
  uint8_t *p = element(buf, LUMO_BSON_BOOL, key, key_len, 1);
  if (p) *p = v;
}

static void element_int64(lumo_buf *buf, uint8_t type, const char *key, size_t key_len, int64_t v) {
  uint8_t *p = element(buf, type, key, key_len, 8);
  if (p) lumo_store64(p, (uint64_t)v);
}

void lumo_bson_date(lumo_buf *buf, const char *key, size_t key_len, int64_t ms) {
  element_int64(buf, LUMO_BSON_DATE, key, key_len, ms);
}

void lumo_bson_null(lumo_buf *buf, const char *key, size_t key_len) {
  element(buf, LUMO_BSON_NULL, key, key_len, 0);
}

void lumo_bson_int32(lumo_buf *buf, const char *key, size_t key_len, int32_t v) {
  uint8_t *p = element(buf, LUMO_BSON_INT32, key, key_len, 4);
  if (p) lumo_store32(p, (uint32_t)v);
}

void lumo_bson_int64(lumo_buf *buf, const char *key, size_t key_len, int64_t v) {
  element_int64(buf, LUMO_BSON_INT64, key, key_len, v);
}

void lumo_bson_integer(lumo_buf *buf, const char *key, size_t key_len, int64_t v) {
  if (v >= INT32_MIN && v <= INT32_MAX)
    lumo_bson_int32(buf, key, key_len, (int32_t)v);
  else
    lumo_bson_int64(buf, key, key_len, v);
}
