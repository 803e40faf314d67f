/* BSON as bytes: a writer that appends to a growing buffer, a reader that walks without copying, and the
 * checks that make walking safe. Nothing here knows Lua, a schema or a server.
 *
 * Sizes are bytes. Every function is O(length of what it is given) unless it says otherwise, and none
 * recurses deeper than LUMO_BSON_MAX_DEPTH. */
#ifndef LUMO_CORE_BSON_H
#define LUMO_CORE_BSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LUMO_BSON_MAX_DEPTH 100 /* nested documents and arrays, the outermost document included */
#define LUMO_BSON_MAX_SIZE (16 * 1024 * 1024) /* the server's limit for a stored document */

typedef enum {
  LUMO_BSON_END = 0x00, /* as a value's type: there is no value (missing field) */
  LUMO_BSON_DOUBLE = 0x01,
  LUMO_BSON_STRING = 0x02,
  LUMO_BSON_DOCUMENT = 0x03,
  LUMO_BSON_ARRAY = 0x04,
  LUMO_BSON_BINARY = 0x05,
  LUMO_BSON_UNDEFINED = 0x06,
  LUMO_BSON_OBJECTID = 0x07,
  LUMO_BSON_BOOL = 0x08,
  LUMO_BSON_DATE = 0x09,
  LUMO_BSON_NULL = 0x0A,
  LUMO_BSON_REGEX = 0x0B,
  LUMO_BSON_DBPOINTER = 0x0C,
  LUMO_BSON_CODE = 0x0D,
  LUMO_BSON_SYMBOL = 0x0E,
  LUMO_BSON_CODE_SCOPE = 0x0F,
  LUMO_BSON_INT32 = 0x10,
  LUMO_BSON_TIMESTAMP = 0x11,
  LUMO_BSON_INT64 = 0x12,
  LUMO_BSON_DECIMAL = 0x13,
  LUMO_BSON_MINKEY = 0xFF,
  LUMO_BSON_MAXKEY = 0x7F,
} lumo_bson_type;

/* ---- bytes: little-endian whatever the machine is; compilers make single moves of these ---- */

static inline uint32_t lumo_load32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t lumo_load64(const uint8_t *p) {
  return (uint64_t)lumo_load32(p) | (uint64_t)lumo_load32(p + 4) << 32;
}

static inline void lumo_store32(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)v;
  p[1] = (uint8_t)(v >> 8);
  p[2] = (uint8_t)(v >> 16);
  p[3] = (uint8_t)(v >> 24);
}

static inline void lumo_store64(uint8_t *p, uint64_t v) {
  lumo_store32(p, (uint32_t)v);
  lumo_store32(p + 4, (uint32_t)(v >> 32));
}

/* ---- the buffer ---- */

/* A growing run of bytes. Owner: whoever embeds it; freed by lumo_buf_free. Running out of memory sets
 * `failed` and turns every later append into a no-op, so a writer checks once, at its end. A zeroed buffer is
 * a valid empty one. */
typedef struct lumo_buf {
  uint8_t *data;
  size_t len, cap;
  bool failed;
  bool lent; /* the bytes are in memory of somebody else's: never freed, and left when there are more of them
              */
} lumo_buf;

/* An empty buffer that begins in memory that somebody lends it for as long as it is used. */
static inline lumo_buf lumo_buf_lend(void *memory, size_t size) {
  return (lumo_buf){.data = (uint8_t *)memory, .cap = size, .lent = true};
}

void lumo_buf_free(lumo_buf *buf);              /* frees and zeroes */
void lumo_buf_clear(lumo_buf *buf);             /* len = 0, failed = false, memory kept */
bool lumo_buf_grow(lumo_buf *buf, size_t more); /* lumo_buf_reserve, where there is no room yet */
/* Room for `more` bytes beyond len. A failed buffer may still have it, so `failed` is asked first. */
static inline bool lumo_buf_reserve(lumo_buf *buf, size_t more) {
  return (!buf->failed && buf->cap - buf->len >= more) || lumo_buf_grow(buf, more);
}
static inline void lumo_buf_append(lumo_buf *buf, const void *bytes, size_t len) {
  if (len == 0 || !lumo_buf_reserve(buf, len)) return;
  memcpy(buf->data + buf->len, bytes, len);
  buf->len += len;
}
/* Gives the bytes away (free with lumo_free) and leaves the buffer empty. */
uint8_t *lumo_buf_take(lumo_buf *buf, size_t *len);

/* ---- values ---- */

/* A view of one value: its type byte and its bytes as they stand in a document (a string with its length
 * prefix and NUL). Owns nothing: valid as long as the bytes behind it are. */
typedef struct lumo_value {
  const uint8_t *data;
  uint32_t len;
  uint8_t type; /* lumo_bson_type */
} lumo_value;

static inline int32_t lumo_value_int32(const lumo_value *v) {
  return (int32_t)lumo_load32(v->data);
}
/* Also of a date or timestamp. */
static inline int64_t lumo_value_int64(const lumo_value *v) {
  return (int64_t)lumo_load64(v->data);
}
static inline double lumo_value_double(const lumo_value *v) {
  uint64_t bits = lumo_load64(v->data);
  double d;
  memcpy(&d, &bits, sizeof d);
  return d;
}
static inline bool lumo_value_bool(const lumo_value *v) {
  return v->data[0] != 0;
}
/* The text of a string, code or symbol; *len without the NUL. */
static inline const char *lumo_value_text(const lumo_value *v, uint32_t *len) {
  *len = lumo_load32(v->data) - 1;
  return (const char *)v->data + 4;
}
/* The bytes of a binary (old subtype 2's inner length skipped) and its subtype. */
const uint8_t *lumo_value_binary(const lumo_value *v, uint32_t *len, uint8_t *subtype);
/* True for null, undefined and missing. */
static inline bool lumo_value_is_null(const lumo_value *v) {
  return v->type == LUMO_BSON_NULL || v->type == LUMO_BSON_UNDEFINED || v->type == LUMO_BSON_END;
}
/* Equal as MongoDB compares: numbers by value across their types (decimal128 only with itself, by bytes),
 * documents field by field in order, all else by type and bytes. */
bool lumo_value_equal(const lumo_value *a, const lumo_value *b);
/* MongoDB's sort order, as a number < 0, 0, > 0. Consistent with lumo_value_equal. decimal128 sorts among
 * numbers by its double value. */
int lumo_value_compare(const lumo_value *a, const lumo_value *b);
/* A hash under which equal values are equal. */
uint64_t lumo_value_hash(const lumo_value *v);

/* ---- the reader ---- */

/* Walks the elements of a document or array. The iterator checks every length that it steps over, so it never
 * reads outside the document even if that was not validated; `bad` tells that it stopped for a malformed
 * element. */
typedef struct lumo_iter {
  const uint8_t *next, *end;
  const char *key; /* NUL-terminated, inside the document */
  uint32_t key_len;
  lumo_value value;
  bool bad;
} lumo_iter;

/* False (and bad) if the header and the trailing NUL of the document do not fit `len`. */
bool lumo_iter_init(lumo_iter *it, const uint8_t *doc, size_t len);
/* Over a document or array value (of CODE_SCOPE: not accepted). */
bool lumo_iter_value(lumo_iter *it, const lumo_value *v);
/* Over elements without a header around them, as they stand in a buffer. */
lumo_iter lumo_iter_elements(const lumo_buf *elements);
bool lumo_iter_next(lumo_iter *it);
/* For a caller who thinks to know the next key (NUL-terminated): steps over its element, without looking at
 * the value. False, and nothing has happened, if it is another, or malformed. */
bool lumo_iter_pass(lumo_iter *it, const char *key, uint32_t key_len);
/* The value of an element whose key is key_len long; type LUMO_BSON_END if it does not fit before `end`, the
 * place of the document's last NUL. */
lumo_value lumo_element_value(const uint8_t *element, uint32_t key_len, const uint8_t *end);

/* The value of a top-level field; type LUMO_BSON_END when absent. */
bool lumo_bson_find(const uint8_t *doc, size_t len, const char *key, size_t key_len, lumo_value *out);
/* The same with a dotted path; array positions by number. */
bool lumo_bson_find_path(const uint8_t *doc, size_t len, const char *path, size_t path_len, lumo_value *out);

/* The whole check: structure, lengths, UTF-8 of keys and strings, booleans of 0 or 1, array keys not checked,
 * depth. On failure *at is the offset of the offending byte. Memory-safe on any input. */
bool lumo_bson_validate(const uint8_t *doc, size_t len, size_t *at);
bool lumo_utf8_valid(const char *text, size_t len);

/* ---- the writer ---- */

/* begin writes a place for the length and returns its offset; end writes the final NUL and fills the length
 * in. */
size_t lumo_bson_begin(lumo_buf *buf);
void lumo_bson_end(lumo_buf *buf, size_t mark);
/* Element headers and whole elements. Keys are written as given: the caller knows that they hold no NUL. */
void lumo_bson_key(lumo_buf *buf, uint8_t type, const char *key, size_t key_len);
size_t lumo_bson_begin_document(lumo_buf *buf, const char *key, size_t key_len);
size_t lumo_bson_begin_array(lumo_buf *buf, const char *key, size_t key_len);
/* The decimal text of an array position as a key: writes type, digits, NUL. */
void lumo_bson_index(lumo_buf *buf, uint8_t type, uint32_t index);
void lumo_bson_value(lumo_buf *buf, const char *key, size_t key_len, const lumo_value *v);
void lumo_bson_double(lumo_buf *buf, const char *key, size_t key_len, double v);
void lumo_bson_string(lumo_buf *buf, const char *key, size_t key_len, const char *text, size_t len);
void lumo_bson_document(lumo_buf *buf, const char *key, size_t key_len, const uint8_t *doc, size_t len);
void lumo_bson_objectid(lumo_buf *buf, const char *key, size_t key_len, const uint8_t id[12]);
void lumo_bson_boolean(lumo_buf *buf, const char *key, size_t key_len, bool v);
void lumo_bson_date(lumo_buf *buf, const char *key, size_t key_len, int64_t ms);
void lumo_bson_null(lumo_buf *buf, const char *key, size_t key_len);
void lumo_bson_int32(lumo_buf *buf, const char *key, size_t key_len, int32_t v);
void lumo_bson_int64(lumo_buf *buf, const char *key, size_t key_len, int64_t v);
/* int32 where it fits, else int64: how an untyped integer is stored. */
void lumo_bson_integer(lumo_buf *buf, const char *key, size_t key_len, int64_t v);

/* For keys that are literals. */
#define LUMO_KEY(literal) (literal), (sizeof(literal) - 1)

#endif
