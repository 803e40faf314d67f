#include "json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "text.h"

#define LITERAL(buf, text) lumo_buf_append((buf), (text), sizeof(text) - 1)

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The options of a regular expression are stored in alphabetical order. Only what can be options is sorted:
 * anything else is left as it is. */
static const char *sorted_options(const char *options, size_t len, char sorted[16]) {
  if (len > 16) return options;
  for (size_t i = 0; i < len; i++) {
    size_t at = i;
    if ((unsigned char)options[i] >= 0x80) return options;
    for (; at > 0 && sorted[at - 1] > options[i]; at--) sorted[at] = sorted[at - 1];
    sorted[at] = options[i];
  }
  return sorted;
}

/* ---- BSON to text ---- */

static void put_escape(lumo_buf *out, unsigned char c) {
  static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
  char text[8];
  for (const char *name = names; *name; name += 2)
    if ((unsigned char)*name == c) {
      lumo_buf_append(out, (char[]){'\\', name[1]}, 2);
      return;
    }
  snprintf(text, sizeof text, "\\u%04x", c);
  lumo_buf_append(out, text, 6);
}

/* A word in which a byte's high bit is set if it is not plain in a JSON string: below 0x20, '"' or "\\". May
 * also be set in bytes behind such a one. */
static inline uint64_t special_bytes(uint64_t word) {
  const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
  uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';
  return ((word - ones * 0x20) | (quote - ones) | (backslash - ones)) & ~word & high;
}

/* Copies the bytes at the front that go into a JSON string as they are, and returns how many: there is room
 * for len of them, and what follows the copy is undefined. Looking and copying in one go is what most of the
 * time of writing JSON depends on. */
static size_t copy_plain(uint8_t *to, const uint8_t *text, size_t len) {
  size_t at = 0;
#ifdef __SSE2__
  const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1F);
  for (; len - at >= 16; at += 16) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(text + at));
    __m128i special = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
    special = _mm_or_si128(special, _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes));
    _mm_storeu_si128((__m128i *)(to + at), bytes);
    int mask = _mm_movemask_epi8(special);
    if (mask) return at + (size_t)__builtin_ctz((unsigned)mask);
  }
#endif
  for (; len - at >= 8; at += 8) {
    uint64_t word = lumo_load64(text + at), special = special_bytes(word);
    lumo_store64(to + at, word);
    if (special) return at + ((size_t)__builtin_ctzll(special) >> 3);
  }
  if (at < len && len >= 8) { /* the last 8, of which some have been copied */
    uint64_t word = lumo_load64(text + len - 8), special = special_bytes(word);
    lumo_store64(to + len - 8, word);
    return len - 8 + (special ? (size_t)__builtin_ctzll(special) >> 3 : 8);
  }
  for (; at < len; at++) {
    uint8_t c = text[at];
    if (c < 0x20 || c == '"' || c == '\\') break;
    to[at] = c;
  }
  return at;
}

void lumo_json_string(lumo_buf *out, const char *text, size_t len) {
  lumo_buf_append(out, "\"", 1);
  for (;;) {
    if (!lumo_buf_reserve(out, len + 1)) return;
    size_t plain = copy_plain(out->data + out->len, (const uint8_t *)text, len);
    out->len += plain;
    if (plain == len) break;
    put_escape(out, (unsigned char)text[plain]);
    text += plain + 1;
    len -= plain + 1;
  }
  out->data[out->len++] = '"';
}

static void put_base64(lumo_buf *out, const uint8_t *bytes, size_t len) {
  if (!lumo_buf_reserve(out, (len + 2) / 3 * 4 + 2)) return;
  char *p = (char *)out->data + out->len;
  *p++ = '"';
  for (; len > 0; bytes += 3, len -= len < 3 ? len : 3) {
    uint32_t word = (uint32_t)bytes[0] << 16;
    if (len > 1) word |= (uint32_t)bytes[1] << 8;
    if (len > 2) word |= bytes[2];
    *p++ = base64_digits[word >> 18];
    *p++ = base64_digits[word >> 12 & 63];
    *p++ = len > 1 ? base64_digits[word >> 6 & 63] : '=';
    *p++ = len > 2 ? base64_digits[word & 63] : '=';
  }
  *p++ = '"';
  out->len = (size_t)(p - (char *)out->data);
}

/* A number's text, in quotes and a wrapper where the mode wants its type kept. */
static void put_number(lumo_buf *out, const char *wrapper, const char *digits, size_t len,
                       lumo_json_mode mode) {
  if (mode != LUMO_JSON_CANONICAL) {
    lumo_buf_append(out, digits, len);
    return;
  }
  LITERAL(out, "{\"");
  lumo_buf_append(out, wrapper, strlen(wrapper));
  LITERAL(out, "\":\"");
  lumo_buf_append(out, digits, len);
  LITERAL(out, "\"}");
}

static void put_double(lumo_buf *out, double v, lumo_json_mode mode) {
  char text[32];
  size_t len = lumo_double_text(v, text);
  if (mode == LUMO_JSON_PLAIN && v != 0 && len > 2 && memcmp(text + len - 2, ".0", 2) == 0)
    len -= 2; /* a web client's 5 */
  if (isfinite(v))
    put_number(out, "$numberDouble", text, len, mode);
  else if (mode == LUMO_JSON_PLAIN)
    LITERAL(out, "null");
  else
    put_number(out, "$numberDouble", text, len, LUMO_JSON_CANONICAL);
}

static void put_integer(lumo_buf *out, const char *wrapper, int64_t v, lumo_json_mode mode) {
  char text[24], *p = text + sizeof text;
  bool quoted = mode == LUMO_JSON_PLAIN && (v > 9007199254740992 || v < -9007199254740992);
  uint64_t rest = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
  if (quoted) *--p = '"';
  do *--p = (char)('0' + rest % 10);
  while ((rest /= 10) > 0);
  if (v < 0) *--p = '-';
  if (quoted) *--p = '"';
  put_number(out, wrapper, p, (size_t)(text + sizeof text - p), mode);
}

/* A wrapper of one key whose text needs no escapes; without the wrapper in plain mode. */
static void put_simple(lumo_buf *out, const char *wrapper, const char *text, lumo_json_mode mode) {
  if (mode == LUMO_JSON_PLAIN)
    lumo_json_string(out, text, strlen(text));
  else
    put_number(out, wrapper, text, strlen(text), LUMO_JSON_CANONICAL);
}

static void put_objectid(lumo_buf *out, const uint8_t *id, lumo_json_mode mode) {
  char text[27];
  lumo_objectid_text(id, text + 1);
  if (mode == LUMO_JSON_PLAIN) {
    text[0] = text[25] = '"';
    lumo_buf_append(out, text, 26);
  } else {
    put_simple(out, "$oid", text + 1, mode);
  }
}

static void put_date(lumo_buf *out, int64_t ms, lumo_json_mode mode) {
  char quoted[42], *text = quoted + 1;
  size_t len = lumo_date_text(ms, text);
  bool readable = ms >= 0 && ms < 253402300800000; /* 1970 to 9999: what relaxed mode spells out */
  if (mode == LUMO_JSON_CANONICAL || (mode == LUMO_JSON_RELAXED && !readable)) {
    LITERAL(out, "{\"$date\":");
    put_integer(out, "$numberLong", ms, LUMO_JSON_CANONICAL);
    LITERAL(out, "}");
    return;
  }
  if (mode == LUMO_JSON_PLAIN) {
    quoted[0] = text[len] = '"';
    lumo_buf_append(out, quoted, len + 2);
    return;
  }
  if (ms % 1000 == 0) memcpy(text + len - 5, "Z", 2);
  put_simple(out, "$date", text, mode);
}

static void put_binary(lumo_buf *out, const lumo_value *v, lumo_json_mode mode) {
  uint32_t len;
  uint8_t subtype;
  const uint8_t *bytes = lumo_value_binary(v, &len, &subtype);
  char text[40];
  if (mode == LUMO_JSON_PLAIN) {
    if (subtype != 0x04 || len != 16) {
      put_base64(out, bytes, len);
      return;
    }
    lumo_uuid_text(bytes, text);
    lumo_json_string(out, text, 36);
    return;
  }
  LITERAL(out, "{\"$binary\":{\"base64\":");
  put_base64(out, bytes, len);
  lumo_buf_append(out, text, (size_t)snprintf(text, sizeof text, ",\"subType\":\"%02x\"}}", subtype));
}

static void put_regex(lumo_buf *out, const lumo_value *v) {
  const char *pattern = (const char *)v->data, *options = pattern + strlen(pattern) + 1;
  size_t len = strlen(options);
  char sorted[16];
  LITERAL(out, "{\"$regularExpression\":{\"pattern\":");
  lumo_json_string(out, pattern, strlen(pattern));
  LITERAL(out, ",\"options\":");
  lumo_json_string(out, sorted_options(options, len, sorted), len);
  LITERAL(out, "}}");
}

/* The text of a string, or of anything else that begins with one. */
static void put_text(lumo_buf *out, const lumo_value *v) {
  uint32_t len;
  const char *text = lumo_value_text(v, &len);
  lumo_json_string(out, text, len);
}

static void put_timestamp(lumo_buf *out, uint64_t v) {
  char text[64];
  int len = snprintf(text, sizeof text, "{\"$timestamp\":{\"t\":%lu,\"i\":%lu}}", (unsigned long)(v >> 32),
                     (unsigned long)(v & 0xFFFFFFFFu));
  lumo_buf_append(out, text, (size_t)len);
}

static void put_document(lumo_buf *out, const uint8_t *doc, size_t len, bool is_array, lumo_json_mode mode,
                         int depth);

static void put_code_scope(lumo_buf *out, const lumo_value *v, lumo_json_mode mode, int depth) {
  lumo_value code = {v->data + 4, v->len - 4, LUMO_BSON_CODE};
  uint32_t len;
  const char *text = lumo_value_text(&code, &len);
  const uint8_t *scope = (const uint8_t *)text + len + 1;
  LITERAL(out, "{\"$code\":");
  lumo_json_string(out, text, len);
  LITERAL(out, ",\"$scope\":");
  /* A wrapper in a wrapper: the plain form would not say what it is. */
  if (mode == LUMO_JSON_PLAIN) mode = LUMO_JSON_RELAXED;
  put_document(out, scope, (size_t)(v->data + v->len - scope), false, mode, depth);
  LITERAL(out, "}");
}

static void put_dbpointer(lumo_buf *out, const lumo_value *v) {
  LITERAL(out, "{\"$dbPointer\":{\"$ref\":");
  put_text(out, v);
  LITERAL(out, ",\"$id\":");
  put_objectid(out, v->data + v->len - 12, LUMO_JSON_CANONICAL);
  LITERAL(out, "}}");
}

static void put_decimal(lumo_buf *out, const lumo_value *v, lumo_json_mode mode) {
  char text[48];
  lumo_decimal_text(v->data, text);
  put_simple(out, "$numberDecimal", text, mode);
}

static void put_wrapped_text(lumo_buf *out, const char *opening, const lumo_value *v) {
  lumo_buf_append(out, opening, strlen(opening));
  put_text(out, v);
  LITERAL(out, "}");
}

static void put_value(lumo_buf *out, const lumo_value *v, lumo_json_mode mode, int depth) {
  switch (v->type) {
  case LUMO_BSON_DOUBLE: put_double(out, lumo_value_double(v), mode); break;
  case LUMO_BSON_STRING: put_text(out, v); break;
  case LUMO_BSON_DOCUMENT:
  case LUMO_BSON_ARRAY: put_document(out, v->data, v->len, v->type == LUMO_BSON_ARRAY, mode, depth); break;
  case LUMO_BSON_BINARY: put_binary(out, v, mode); break;
  case LUMO_BSON_UNDEFINED: LITERAL(out, "{\"$undefined\":true}"); break;
  case LUMO_BSON_OBJECTID: put_objectid(out, v->data, mode); break;
  case LUMO_BSON_BOOL:
    if (lumo_value_bool(v))
      LITERAL(out, "true");
    else
      LITERAL(out, "false");
    break;
  case LUMO_BSON_DATE: put_date(out, lumo_value_int64(v), mode); break;
  case LUMO_BSON_REGEX: put_regex(out, v); break;
  case LUMO_BSON_DBPOINTER: put_dbpointer(out, v); break;
  case LUMO_BSON_CODE: put_wrapped_text(out, "{\"$code\":", v); break;
  case LUMO_BSON_SYMBOL: put_wrapped_text(out, "{\"$symbol\":", v); break;
  case LUMO_BSON_CODE_SCOPE: put_code_scope(out, v, mode, depth); break;
  case LUMO_BSON_INT32: put_integer(out, "$numberInt", lumo_value_int32(v), mode); break;
  case LUMO_BSON_TIMESTAMP: put_timestamp(out, (uint64_t)lumo_value_int64(v)); break;
  case LUMO_BSON_INT64: put_integer(out, "$numberLong", lumo_value_int64(v), mode); break;
  case LUMO_BSON_DECIMAL: put_decimal(out, v, mode); break;
  case LUMO_BSON_MINKEY: LITERAL(out, "{\"$minKey\":1}"); break;
  case LUMO_BSON_MAXKEY: LITERAL(out, "{\"$maxKey\":1}"); break;
  default: LITERAL(out, "null"); break; /* null, and a missing value */
  }
}

/* Valid BSON is not deeper than the limit, which therefore only stops what was not validated. */
static void put_document(lumo_buf *out, const uint8_t *doc, size_t len, bool is_array, lumo_json_mode mode,
                         int depth) {
  lumo_iter it;
  lumo_buf_append(out, is_array ? "[" : "{", 1);
  size_t first = out->len;
  if (depth < LUMO_BSON_MAX_DEPTH && lumo_iter_init(&it, doc, len))
    while (lumo_iter_next(&it)) {
      if (out->len > first) LITERAL(out, ",");
      if (!is_array) {
        lumo_json_string(out, it.key, it.key_len);
        LITERAL(out, ":");
      }
      put_value(out, &it.value, mode, depth + 1);
    }
  lumo_buf_append(out, is_array ? "]" : "}", 1);
}

void lumo_json_document(lumo_buf *out, const uint8_t *doc, size_t len, bool is_array, lumo_json_mode mode) {
  put_document(out, doc, len, is_array, mode, 0);
}

void lumo_json_value(lumo_buf *out, const lumo_value *v, lumo_json_mode mode) {
  put_value(out, v, mode, 0);
}

/* ---- text to BSON ---- */

/* JSON nests deeper than the BSON that it stands for: up to two levels for a code with scope, and three for
 * the innermost wrapper. What the result's depth is, is checked on the result. */
#define MAX_JSON_DEPTH (2 * LUMO_BSON_MAX_DEPTH + 3)

typedef struct {
  lumo_buf *out;
  const char *text, *at, *end;
  int depth, deepest;
  lumo_error *error;
} parser;

static bool refuse(parser *p, const char *at, const char *why) {
  return lumo_error_set(p->error, "E_ARGUMENT", "%s at byte %zu of the JSON text", why,
                        (size_t)(at - p->text) + 1);
}

static void skip_blanks(parser *p) {
  while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t')) p->at++;
}

/* Skips blanks and the character, if it is the next. */
static bool accept(parser *p, char wanted) {
  skip_blanks(p);
  if (p->at == p->end || *p->at != wanted) return false;
  p->at++;
  return true;
}

/* The four digits after "\u". */
static bool parse_unit(parser *p, uint32_t *unit) {
  if (p->end - p->at < 4) return false;
  *unit = 0;
  for (int i = 0; i < 4; i++) {
    char c = *p->at++;
    uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                            : 16;
    if (digit == 16) return false;
    *unit = *unit << 4 | digit;
  }
  return true;
}

static void put_utf8(lumo_buf *out, uint32_t c) {
  uint8_t bytes[4];
  size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const uint8_t leads[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
  for (size_t i = len; i-- > 1; c >>= 6) bytes[i] = (uint8_t)(0x80 | (c & 0x3F));
  bytes[0] = (uint8_t)(leads[len] | c);
  lumo_buf_append(out, bytes, len);
}

/* What follows a backslash. Characters beyond the first plane come as two halves; a half alone is no
 * character. */
static bool parse_escape(parser *p, bool is_key) {
  static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  const char *start = p->at - 1;
  uint32_t c, low;
  if (p->at == p->end) return refuse(p, start, "unfinished escape");
  char name = *p->at++;
  const char *found = name ? strchr(plain, name) : NULL;
  if (found) {
    lumo_buf_append(p->out, &meant[found - plain], 1);
    return true;
  }
  if (name != 'u' || !parse_unit(p, &c)) return refuse(p, start, "malformed escape");
  if (c >= 0xD800 && c < 0xDC00) {
    if (p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u') return refuse(p, start, "lone surrogate");
    p->at += 2;
    if (!parse_unit(p, &low) || low < 0xDC00 || low > 0xDFFF) return refuse(p, start, "lone surrogate");
    c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
  } else if (c >= 0xDC00 && c < 0xE000) {
    return refuse(p, start, "lone surrogate");
  }
  if (c == 0 && is_key) return refuse(p, start, "NUL in a key");
  put_utf8(p->out, c);
  return true;
}

/* Appends the bytes of a string literal, whose opening quote has been read. */
static bool parse_string(parser *p, bool is_key) {
  for (;;) {
    const char *run = p->at;
    while (p->at < p->end && (unsigned char)*p->at >= 0x20 && *p->at != '"' && *p->at != '\\') p->at++;
    if (!lumo_utf8_valid(run, (size_t)(p->at - run))) return refuse(p, run, "invalid UTF-8 in the string");
    lumo_buf_append(p->out, run, (size_t)(p->at - run));
    if (p->at == p->end) return refuse(p, p->at, "unfinished string");
    char c = *p->at++;
    if (c == '"') return true;
    if (c != '\\') return refuse(p, p->at - 1, "control character in a string");
    if (!parse_escape(p, is_key)) return false;
  }
}

static void append_int32(lumo_buf *out, uint32_t v) {
  lumo_buf_append(out, (uint8_t[]){(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)}, 4);
}

static void patch_int32(lumo_buf *out, size_t at, uint32_t v) {
  if (out->failed) return;
  for (int i = 0; i < 4; i++) out->data[at + (size_t)i] = (uint8_t)(v >> (8 * i));
}

static void append_int64(lumo_buf *out, uint64_t v) {
  append_int32(out, (uint32_t)v);
  append_int32(out, (uint32_t)(v >> 32));
}

static void append_double(lumo_buf *out, double v) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  append_int64(out, bits);
}

static void append_text(lumo_buf *out, const char *text, size_t len) {
  append_int32(out, (uint32_t)len + 1);
  lumo_buf_append(out, text, len);
  lumo_buf_append(out, "", 1);
}

static bool parse_text(parser *p) {
  lumo_buf *out = p->out;
  size_t mark = out->len;
  append_int32(out, 0);
  if (!parse_string(p, false)) return false;
  lumo_buf_append(out, "", 1);
  size_t len = out->len - mark - 4;
  if (len > INT32_MAX) out->failed = true;
  patch_int32(out, mark, (uint32_t)len);
  return true; /* a failed buffer is told once, at the end */
}

/* -?digits that fit 64 bits, and nothing else */
static bool parse_integer(const char *text, size_t len, int64_t *v) {
  bool minus = len > 0 && *text == '-';
  *v = 0;
  if (len == (size_t)minus) return false;
  for (size_t i = minus; i < len; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    int64_t digit = minus ? '0' - text[i] : text[i] - '0';
    if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, digit, v)) return false;
  }
  return true;
}

static void skip_digits(parser *p) {
  while (p->at < p->end && *p->at >= '0' && *p->at <= '9') p->at++;
}

/* Skips a number by JSON's grammar; *whole says that it has neither fraction nor exponent. */
static bool skip_number(parser *p, bool *whole) {
  const char *first;
  *whole = true;
  if (*p->at == '-') p->at++;
  first = p->at;
  skip_digits(p);
  if (p->at == first || (*first == '0' && p->at - first > 1)) return false;
  if (p->at < p->end && *p->at == '.') {
    *whole = false;
    first = ++p->at;
    skip_digits(p);
    if (p->at == first) return false;
  }
  if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
    *whole = false;
    p->at++;
    if (p->at < p->end && (*p->at == '+' || *p->at == '-')) p->at++;
    first = p->at;
    skip_digits(p);
    if (p->at == first) return false;
  }
  return true;
}

static bool parse_number(parser *p, uint8_t *type) {
  const char *start = p->at;
  bool whole;
  int64_t integer;
  double real;
  if (!skip_number(p, &whole)) return refuse(p, start, "malformed number");
  size_t len = (size_t)(p->at - start);
  if (whole && parse_integer(start, len, &integer)) {
    bool fits = integer >= INT32_MIN && integer <= INT32_MAX;
    *type = fits ? LUMO_BSON_INT32 : LUMO_BSON_INT64;
    if (fits)
      append_int32(p->out, (uint32_t)integer);
    else
      append_int64(p->out, (uint64_t)integer);
    return true;
  }
  if (!lumo_double_parse(start, len, &real)) return refuse(p, start, "number beyond the range of a double");
  *type = LUMO_BSON_DOUBLE;
  append_double(p->out, real);
  return true;
}

/* ---- wrappers ---- */

/* An object of which one key is the name of a wrapper, as the document that it was first written as. `value`
 * is that key's. Its bytes stand in the output and stay there while the real value is appended behind them,
 * for which there is room already. */
typedef struct {
  lumo_buf *out;
  lumo_value document, value;
  int count;    /* elements of the document */
  bool wrapped; /* the value was itself made from a wrapper: {"$numberLong":"1"} and not 1 */
} wrapper;

/* These append the bytes of the value and return its type, or LUMO_BSON_END if the object is not what it
 * should be. */
typedef uint8_t convert_function(const wrapper *w);

/* The string of a wrapper that is one key with a string. */
static const char *only_text(const wrapper *w, size_t *len) {
  uint32_t text_len;
  if (w->count != 1 || w->value.type != LUMO_BSON_STRING) return NULL;
  const char *text = lumo_value_text(&w->value, &text_len);
  *len = text_len;
  return text;
}

/* A member of an inner document that must have exactly `count` members. */
static bool member(const lumo_value *document, int count, const char *name, uint8_t type, lumo_value *out) {
  lumo_iter it;
  if (document->type != LUMO_BSON_DOCUMENT || !lumo_iter_value(&it, document)) return false;
  while (lumo_iter_next(&it)) count--;
  if (count != 0) return false;
  return lumo_bson_find(document->data, document->len, name, strlen(name), out) && out->type == type;
}

static uint8_t convert_oid(const wrapper *w) {
  uint8_t id[12];
  size_t len;
  const char *text = only_text(w, &len);
  if (!text || !lumo_objectid_parse(text, len, id)) return LUMO_BSON_END;
  lumo_buf_append(w->out, id, sizeof id);
  return LUMO_BSON_OBJECTID;
}

static uint8_t convert_symbol(const wrapper *w) {
  size_t len;
  const char *text = only_text(w, &len);
  if (!text) return LUMO_BSON_END;
  append_text(w->out, text, len);
  return LUMO_BSON_SYMBOL;
}

static uint8_t convert_int32(const wrapper *w) {
  size_t len;
  int64_t v;
  const char *text = only_text(w, &len);
  if (!text || !parse_integer(text, len, &v) || v < INT32_MIN || v > INT32_MAX) return LUMO_BSON_END;
  append_int32(w->out, (uint32_t)v);
  return LUMO_BSON_INT32;
}

static uint8_t convert_int64(const wrapper *w) {
  size_t len;
  int64_t v;
  const char *text = only_text(w, &len);
  if (!text || !parse_integer(text, len, &v)) return LUMO_BSON_END;
  append_int64(w->out, (uint64_t)v);
  return LUMO_BSON_INT64;
}

static uint8_t convert_double(const wrapper *w) {
  size_t len;
  double v;
  const char *text = only_text(w, &len);
  if (!text || !lumo_double_parse(text, len, &v)) return LUMO_BSON_END;
  append_double(w->out, v);
  return LUMO_BSON_DOUBLE;
}

static uint8_t convert_decimal(const wrapper *w) {
  uint8_t decimal[16];
  size_t len;
  const char *text = only_text(w, &len);
  if (!text || !lumo_decimal_parse(text, len, decimal)) return LUMO_BSON_END;
  lumo_buf_append(w->out, decimal, sizeof decimal);
  return LUMO_BSON_DECIMAL;
}

/* {"$date":{"$numberLong":"…"}}, or ISO text; the inner wrapper has become an int64. */
static uint8_t convert_date(const wrapper *w) {
  size_t len;
  int64_t ms;
  const char *text = only_text(w, &len);
  if (text) {
    if (!lumo_date_parse(text, len, &ms)) return LUMO_BSON_END;
  } else {
    if (w->count != 1 || !w->wrapped || w->value.type != LUMO_BSON_INT64) return LUMO_BSON_END;
    ms = lumo_value_int64(&w->value);
  }
  append_int64(w->out, (uint64_t)ms);
  return LUMO_BSON_DATE;
}

/* A part of a timestamp: an integer of 32 bits without sign. */
static bool timestamp_part(const lumo_value *document, const char *name, uint32_t *part) {
  lumo_value v;
  int64_t number;
  if (member(document, 2, name, LUMO_BSON_INT32, &v))
    number = lumo_value_int32(&v);
  else if (member(document, 2, name, LUMO_BSON_INT64, &v))
    number = lumo_value_int64(&v);
  else
    return false;
  *part = (uint32_t)number;
  return number >= 0 && number <= UINT32_MAX;
}

static uint8_t convert_timestamp(const wrapper *w) {
  uint32_t seconds, increment;
  if (w->count != 1 || !timestamp_part(&w->value, "t", &seconds) ||
      !timestamp_part(&w->value, "i", &increment))
    return LUMO_BSON_END;
  append_int32(w->out, increment);
  append_int32(w->out, seconds);
  return LUMO_BSON_TIMESTAMP;
}

static uint8_t append_regex(lumo_buf *out, const lumo_value *pattern, const lumo_value *options) {
  uint32_t pattern_len, options_len;
  const char *pattern_text = lumo_value_text(pattern, &pattern_len);
  const char *options_text = lumo_value_text(options, &options_len);
  char sorted[16];
  if (memchr(pattern_text, 0, pattern_len) || memchr(options_text, 0, options_len)) return LUMO_BSON_END;
  lumo_buf_append(out, pattern_text, pattern_len + 1);
  lumo_buf_append(out, sorted_options(options_text, options_len, sorted), options_len);
  lumo_buf_append(out, "", 1);
  return LUMO_BSON_REGEX;
}

static uint8_t convert_regex(const wrapper *w) {
  lumo_value pattern, options;
  if (w->count != 1 || !member(&w->value, 2, "pattern", LUMO_BSON_STRING, &pattern) ||
      !member(&w->value, 2, "options", LUMO_BSON_STRING, &options))
    return LUMO_BSON_END;
  return append_regex(w->out, &pattern, &options);
}

/* The older {"$regex":"…","$options":"…"}. Anything else with these keys is a query and stays a document. */
static uint8_t convert_legacy_regex(const wrapper *w) {
  lumo_value options;
  if (w->value.type != LUMO_BSON_STRING || !member(&w->document, 2, "$options", LUMO_BSON_STRING, &options))
    return LUMO_BSON_DOCUMENT;
  return append_regex(w->out, &w->value, &options);
}

static uint8_t convert_dbpointer(const wrapper *w) {
  lumo_value ref, id;
  if (w->count != 1 || !member(&w->value, 2, "$ref", LUMO_BSON_STRING, &ref) ||
      !member(&w->value, 2, "$id", LUMO_BSON_OBJECTID, &id))
    return LUMO_BSON_END;
  lumo_buf_append(w->out, ref.data, ref.len);
  lumo_buf_append(w->out, id.data, id.len);
  return LUMO_BSON_DBPOINTER;
}

static uint8_t convert_code(const wrapper *w) {
  lumo_value scope;
  uint32_t text_len;
  if (w->value.type != LUMO_BSON_STRING) return LUMO_BSON_END;
  const char *text = lumo_value_text(&w->value, &text_len);
  if (w->count == 1) {
    append_text(w->out, text, text_len);
    return LUMO_BSON_CODE;
  }
  if (!member(&w->document, 2, "$scope", LUMO_BSON_DOCUMENT, &scope)) return LUMO_BSON_END;
  append_int32(w->out, 4 + w->value.len + scope.len);
  append_text(w->out, text, text_len);
  lumo_buf_append(w->out, scope.data, scope.len);
  return LUMO_BSON_CODE_SCOPE;
}

static bool is_literal_one(const wrapper *w) {
  return w->count == 1 && !w->wrapped && w->value.type == LUMO_BSON_INT32 && lumo_value_int32(&w->value) == 1;
}

static uint8_t convert_minkey(const wrapper *w) {
  return is_literal_one(w) ? LUMO_BSON_MINKEY : LUMO_BSON_END;
}

static uint8_t convert_maxkey(const wrapper *w) {
  return is_literal_one(w) ? LUMO_BSON_MAXKEY : LUMO_BSON_END;
}

static uint8_t convert_undefined(const wrapper *w) {
  bool good = w->count == 1 && w->value.type == LUMO_BSON_BOOL && lumo_value_bool(&w->value);
  return good ? LUMO_BSON_UNDEFINED : LUMO_BSON_END;
}

static uint8_t convert_uuid(const wrapper *w) {
  uint8_t uuid[16];
  size_t len;
  const char *text = only_text(w, &len);
  if (!text || len != 36 || !lumo_uuid_parse(text, len, uuid)) return LUMO_BSON_END;
  append_int32(w->out, sizeof uuid);
  lumo_buf_append(w->out, (uint8_t[]){0x04}, 1);
  lumo_buf_append(w->out, uuid, sizeof uuid);
  return LUMO_BSON_BINARY;
}

/* 64 for what is no digit. */
static uint32_t base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return (uint32_t)(c - 'A');
  if (c >= 'a' && c <= 'z') return (uint32_t)(c - 'a') + 26;
  if (c >= '0' && c <= '9') return (uint32_t)(c - '0') + 52;
  return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* Appends what base64 text stands for: whole groups of four, padded, no stray bits. */
static bool append_base64(lumo_buf *out, const char *text, size_t len) {
  if (len % 4 != 0) return false;
  for (size_t at = 0; at < len; at += 4) {
    uint32_t word = 0;
    size_t padding = 0;
    if (at + 4 == len) padding = text[at + 3] != '=' ? 0 : text[at + 2] != '=' ? 1 : 2;
    for (size_t i = 0; i < 4; i++) {
      uint32_t value = i < 4 - padding ? base64_value(text[at + i]) : 0;
      if (value == 64) return false;
      word = word << 6 | value;
    }
    if ((word & ((1u << (8 * padding)) - 1)) != 0) return false;
    lumo_buf_append(out, (uint8_t[]){(uint8_t)(word >> 16), (uint8_t)(word >> 8), (uint8_t)word},
                    3 - padding);
  }
  return true;
}

/* One or two hexadecimal digits. */
static bool parse_subtype(const lumo_value *v, uint8_t *subtype) {
  uint32_t len;
  unsigned value = 0;
  const char *text = lumo_value_text(v, &len);
  if (len < 1 || len > 2) return false;
  for (uint32_t i = 0; i < len; i++) {
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
    if (!digit) return false;
    unsigned place = (unsigned)(digit - digits);
    value = value << 4 | (place < 16 ? place : place - 6);
  }
  *subtype = (uint8_t)value;
  return true;
}

/* {"$binary":{"base64":"…","subType":"…"}} or the older {"$binary":"…","$type":"…"} */
static uint8_t convert_binary(const wrapper *w) {
  lumo_value base64 = w->value, type;
  uint8_t subtype;
  uint32_t len;
  bool good;
  if (w->value.type == LUMO_BSON_STRING)
    good = member(&w->document, 2, "$type", LUMO_BSON_STRING, &type);
  else
    good = w->count == 1 && member(&w->value, 2, "base64", LUMO_BSON_STRING, &base64) &&
           member(&w->value, 2, "subType", LUMO_BSON_STRING, &type);
  if (!good || !parse_subtype(&type, &subtype)) return LUMO_BSON_END;
  const char *text = lumo_value_text(&base64, &len);
  size_t mark = w->out->len, inner = subtype == 0x02 ? 4 : 0; /* the old kind has its length twice */
  append_int32(w->out, 0);
  lumo_buf_append(w->out, &subtype, 1);
  if (inner) append_int32(w->out, 0);
  size_t start = w->out->len;
  if (!append_base64(w->out, text, len)) return LUMO_BSON_END;
  uint32_t size = (uint32_t)(w->out->len - start);
  if (inner) patch_int32(w->out, start - inner, size);
  patch_int32(w->out, mark, size + (uint32_t)inner);
  return LUMO_BSON_BINARY;
}

static const struct wrapper_kind {
  const char *name;
  convert_function *convert;
} wrapper_kinds[] = {
    {"$oid", convert_oid},
    {"$date", convert_date},
    {"$numberInt", convert_int32},
    {"$numberLong", convert_int64},
    {"$numberDouble", convert_double},
    {"$numberDecimal", convert_decimal},
    {"$binary", convert_binary},
    {"$uuid", convert_uuid},
    {"$code", convert_code},
    {"$symbol", convert_symbol},
    {"$timestamp", convert_timestamp},
    {"$regularExpression", convert_regex},
    {"$dbPointer", convert_dbpointer},
    {"$minKey", convert_minkey},
    {"$maxKey", convert_maxkey},
    {"$undefined", convert_undefined},
    {"$regex", convert_legacy_regex},
};

static const struct wrapper_kind *find_wrapper(const char *key, size_t len) {
  if (len < 4 || key[0] != '$') return NULL;
  for (size_t i = 0; i < sizeof wrapper_kinds / sizeof wrapper_kinds[0]; i++)
    if (strlen(wrapper_kinds[i].name) == len && memcmp(wrapper_kinds[i].name, key, len) == 0)
      return &wrapper_kinds[i];
  return NULL;
}

/* ---- values, objects, arrays ---- */

/* What the parser learned of an object while it wrote it. */
typedef struct {
  size_t mark; /* where the document begins in the output */
  int count;
  const struct wrapper_kind *wrapper; /* NULL: an ordinary document */
  bool wrapped;
} object;

static bool parse_value(parser *p, uint8_t *type, bool *wrapped);

/* Puts the value that an object stands for in the place of the document that it was written as. */
static bool unwrap(parser *p, const object *o, const char *start, uint8_t *type) {
  lumo_buf *out = p->out;
  size_t len = out->len - o->mark;
  /* No value is longer than its document but by a few bytes, so nothing moves while there are views into it.
   * */
  if (!lumo_buf_reserve(out, len + 64)) return true; /* told once, at the end */
  wrapper w = {.out = out, .count = o->count, .wrapped = o->wrapped};
  w.document = (lumo_value){out->data + o->mark, (uint32_t)len, LUMO_BSON_DOCUMENT};
  lumo_bson_find(w.document.data, len, o->wrapper->name, strlen(o->wrapper->name), &w.value);
  *type = o->wrapper->convert(&w);
  if (*type == LUMO_BSON_DOCUMENT) return true;
  if (*type == LUMO_BSON_END) {
    char why[48];
    snprintf(why, sizeof why, "malformed %s", o->wrapper->name);
    return refuse(p, start, why);
  }
  size_t value_len = out->len - o->mark - len;
  memmove(out->data + o->mark, out->data + o->mark + len, value_len);
  out->len = o->mark + value_len;
  return true;
}

/* One member: writes its element, the type byte at last, when it is known. */
static bool parse_member(parser *p, object *o) {
  lumo_buf *out = p->out;
  size_t place = out->len;
  uint8_t type;
  bool wrapped;
  if (!accept(p, '"')) return refuse(p, p->at, "a key is missing");
  lumo_buf_append(out, "", 1);
  if (!parse_string(p, true)) return false;
  /* $regex is a query's key as well: any other wrapper decides before it. */
  const struct wrapper_kind *kind =
      out->failed ? NULL : find_wrapper((const char *)out->data + place + 1, out->len - place - 1);
  lumo_buf_append(out, "", 1);
  if (!accept(p, ':')) return refuse(p, p->at, "\":\" is missing");
  if (!parse_value(p, &type, &wrapped)) return false;
  if (!out->failed) out->data[place] = type;
  if (kind && (!o->wrapper || o->wrapper->convert == convert_legacy_regex)) {
    o->wrapper = kind;
    o->wrapped = wrapped;
  }
  o->count++;
  return true;
}

/* An object whose brace has been read, as a document or as the value that it wraps. */
static bool parse_object(parser *p, uint8_t *type, bool *wrapped) {
  const char *start = p->at - 1;
  object o = {.mark = lumo_bson_begin(p->out)};
  if (!accept(p, '}')) {
    do
      if (!parse_member(p, &o)) return false;
    while (accept(p, ','));
    if (!accept(p, '}')) return refuse(p, p->at, "\",\" or \"}\" is missing");
  }
  lumo_bson_end(p->out, o.mark);
  *type = LUMO_BSON_DOCUMENT;
  /* The outermost object cannot be a regular expression, so with these keys it is a query. */
  if (p->depth == 1 && o.wrapper && o.wrapper->convert == convert_legacy_regex) o.wrapper = NULL;
  if (o.wrapper && !p->out->failed && !unwrap(p, &o, start, type)) return false;
  *wrapped = *type != LUMO_BSON_DOCUMENT;
  return true;
}

static bool parse_array(parser *p) {
  lumo_buf *out = p->out;
  size_t mark = lumo_bson_begin(out);
  uint32_t index = 0;
  bool wrapped;
  if (!accept(p, ']')) {
    do {
      size_t place = out->len;
      uint8_t type;
      lumo_bson_index(out, LUMO_BSON_END, index++);
      if (!parse_value(p, &type, &wrapped)) return false;
      if (!out->failed) out->data[place] = type;
    } while (accept(p, ','));
    if (!accept(p, ']')) return refuse(p, p->at, "\",\" or \"]\" is missing");
  }
  lumo_bson_end(out, mark);
  return true;
}

static bool accept_word(parser *p, const char *word) {
  size_t len = strlen(word);
  if ((size_t)(p->end - p->at) < len || memcmp(p->at, word, len) != 0) return false;
  p->at += len;
  return true;
}

static bool parse_nested(parser *p, uint8_t *type, bool *wrapped) {
  if (++p->depth > MAX_JSON_DEPTH) return refuse(p, p->at, "nesting too deep");
  if (p->depth > p->deepest) p->deepest = p->depth;
  bool good;
  if (accept(p, '{')) {
    good = parse_object(p, type, wrapped);
  } else {
    p->at++;
    *type = LUMO_BSON_ARRAY;
    good = parse_array(p);
  }
  p->depth--;
  return good;
}

/* Appends a value's bytes and tells its type; *wrapped: it was spelt as a wrapper. */
static bool parse_value(parser *p, uint8_t *type, bool *wrapped) {
  *wrapped = false;
  skip_blanks(p);
  char c = p->at < p->end ? *p->at : '\0';
  if (c == '{' || c == '[') return parse_nested(p, type, wrapped);
  if (c == '-' || (c >= '0' && c <= '9')) return parse_number(p, type);
  if (accept(p, '"')) {
    *type = LUMO_BSON_STRING;
    return parse_text(p);
  }
  if (accept_word(p, "null")) {
    *type = LUMO_BSON_NULL;
    return true;
  }
  bool yes = accept_word(p, "true");
  if (!yes && !accept_word(p, "false")) return refuse(p, p->at, "a value is missing");
  *type = LUMO_BSON_BOOL;
  lumo_buf_append(p->out, &(uint8_t){yes}, 1);
  return true;
}

static bool parse_whole(parser *p) {
  size_t mark = p->out->len, at;
  uint8_t type;
  bool wrapped;
  skip_blanks(p);
  const char *start = p->at;
  if (p->at == p->end || *p->at != '{') return refuse(p, p->at, "an object is missing");
  if (!parse_value(p, &type, &wrapped)) return false;
  if (wrapped) return refuse(p, start, "a wrapped value instead of a document");
  skip_blanks(p);
  if (p->at != p->end) return refuse(p, p->at, "more than one object");
  if (p->out->failed) return lumo_error_memory(p->error);
  if (p->deepest > LUMO_BSON_MAX_DEPTH && !lumo_bson_validate(p->out->data + mark, p->out->len - mark, &at))
    return lumo_error_set(p->error, "E_ARGUMENT", "nesting too deep in the JSON text");
  return true;
}

bool lumo_json_parse(lumo_buf *out, const char *text, size_t len, lumo_error *error) {
  parser p = {.out = out, .text = text, .at = text, .end = text + len, .error = error};
  size_t before = out->len;
  if (parse_whole(&p)) return true;
  out->len = before;
  return false;
}
