#include "cursor.h"

#include "mem.h"
#include "sha256.h"

bool lumo_cursor_takes(const lumo_value *value) {
  return value->type != LUMO_BSON_ARRAY;
}

/* ---- the filter ---- */

/* {path: {operator: value}}, in the document of the key's side */
static void write_comparison(lumo_buf *out, const lumo_order_key *key, const char *operator,
                             const lumo_value * v) {
  static const lumo_value null = {.type = LUMO_BSON_NULL};
  size_t document = lumo_bson_begin(out);
  uint32_t skip = lumo_order_prefix(key);
  size_t operators = lumo_bson_begin_document(out, key->path + skip, key->path_len - skip);
  lumo_bson_value(out, operator, strlen(operator), lumo_value_is_null(v) ? &null : v);
  lumo_bson_end(out, operators);
  lumo_bson_end(out, document);
}

/* {$expr: {operator: ["$path", {$literal: value}]}}. Other than $gt and $lt of filters, those of expressions
 * compare in the order of sorts, whatever the types, and indexes serve them (from server 5.0 on). A missing
 * field is lower than null. */
static void write_expression(lumo_buf *out, const lumo_order_key *key, const char *operator,
                             const lumo_value * v) {
  size_t document = lumo_bson_begin(out);
  size_t expression = lumo_bson_begin_document(out, LUMO_KEY("$expr"));
  size_t operands = lumo_bson_begin_array(out, operator, strlen(operator));
  uint8_t size[4];
  lumo_store32(size, key->path_len + 2);
  lumo_bson_key(out, LUMO_BSON_STRING, LUMO_KEY("0"));
  lumo_buf_append(out, size, sizeof size);
  lumo_buf_append(out, "$", 1);
  lumo_buf_append(out, key->path, key->path_len);
  lumo_buf_append(out, "", 1);
  size_t literal = lumo_bson_begin_document(out, LUMO_KEY("1"));
  lumo_bson_value(out, LUMO_KEY("$literal"), v);
  lumo_bson_end(out, literal);
  lumo_bson_end(out, operands);
  lumo_bson_end(out, expression);
  lumo_bson_end(out, document);
}

static bool add_equal(lumo_filter *filter, const lumo_order_key *key, const lumo_value *v) {
  lumo_filter_begin(filter);
  write_comparison(&filter->bytes, key, "$eq", v);
  return lumo_filter_end(filter, LUMO_AND, false, key->side);
}

static bool add_beyond(lumo_filter *filter, const lumo_order_key *key, const lumo_value *v, bool up) {
  static const uint8_t min_key[] = {0xFF, 0xFF, 0xFF, 0xFF};
  lumo_filter_begin(filter);
  if (!up && lumo_value_is_null(v)) { /* missing fields, which are equal to it in a sort, are lower here */
    write_comparison(&filter->bytes, key, "$type", &(lumo_value){min_key, 4, LUMO_BSON_INT32});
    return lumo_filter_end(filter, LUMO_AND, false, key->side);
  }
  write_expression(&filter->bytes, key, up ? "$gt" : "$lt", v);
  return lumo_filter_end(filter, LUMO_AND, false, key->side == LUMO_SIDE_PIVOT ? LUMO_SIDE_BOTH : key->side);
}

/* One alternative: equal in the first n keys, beyond in the next one, if there is one. */
static bool add_alternative(lumo_filter *filter, const lumo_order_key *keys, const lumo_value *values,
                            uint32_t n, uint32_t count, unsigned flags, lumo_error *error) {
  bool backward = flags & LUMO_CURSOR_BACKWARD;
  if (!lumo_filter_open(filter, LUMO_OR, false, error)) return false;
  for (uint32_t i = 0; i < n; i++)
    if (!add_equal(filter, &keys[i], &values[i])) return lumo_error_memory(error);
  if (n < count && !add_beyond(filter, &keys[n], &values[n], keys[n].descending == backward))
    return lumo_error_memory(error);
  lumo_filter_close(filter);
  return true;
}

static bool add_alternatives(lumo_filter *filter, const lumo_order_key *keys, const lumo_value *values,
                             uint32_t count, unsigned flags, lumo_error *error) {
  uint32_t alternatives = flags & LUMO_CURSOR_AT ? count + 1 : count;
  for (uint32_t n = 0; n < alternatives; n++)
    if (!add_alternative(filter, keys, values, n, count, flags, error)) return false;
  return true;
}

bool lumo_cursor_filter(lumo_filter *filter, const lumo_order_key *keys, uint32_t count,
                        const lumo_buf *place, unsigned flags, lumo_error *error) {
  lumo_value *values = lumo_malloc((count + 1) * sizeof *values);
  lumo_iter it;
  if (!values) return lumo_error_memory(error);
  lumo_iter_init(&it, place->data, place->len);
  for (uint32_t i = 0; i < count && lumo_iter_next(&it); i++) values[i] = it.value;
  bool ok = (lumo_filter_wrap(filter) || lumo_error_memory(error)) &&
            lumo_filter_open(filter, LUMO_AND, false, error) &&
            add_alternatives(filter, keys, values, count, flags, error);
  if (ok) lumo_filter_close(filter);
  lumo_free(values);
  return ok && (!filter->bytes.failed || lumo_error_memory(error));
}

/* ---- the text ---- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

enum { MARK = 8, HEAD = 1 + MARK }; /* flags, mark; then the place */

/* Base64 for URLs, without padding. */
static void put_text(lumo_buf *text, const uint8_t *bytes, size_t len) {
  for (size_t i = 0; i < len; i += 3) {
    size_t left = len - i;
    uint32_t word = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                    (left > 2 ? bytes[i + 2] : 0);
    for (size_t k = 0; k < (left > 2 ? 4 : left + 1); k++)
      lumo_buf_append(text, &digits[word >> (18 - 6 * k) & 63], 1);
  }
}

static bool take_text(const char *text, size_t len, lumo_buf *bytes) {
  uint32_t word = 0;
  if (len % 4 == 1) return false;
  for (size_t i = 0; i < len; i++) {
    const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
    if (!digit) return false;
    word = word << 6 | (uint32_t)(digit - digits);
    if (i % 4 == 0) continue;
    uint8_t byte = (uint8_t)(word >> (6 - 2 * (i % 4)));
    lumo_buf_append(bytes, &byte, 1);
  }
  return true;
}

/* The first bytes of SHA-256 over query, flags and place. */
static bool make_mark(const lumo_buf *query, const uint8_t *place, size_t place_len, uint8_t flags,
                      uint8_t mark[32]) {
  lumo_buf all = {0};
  lumo_buf_append(&all, query->data, query->len);
  lumo_buf_append(&all, &flags, 1);
  lumo_buf_append(&all, place, place_len);
  if (!all.failed) lumo_sha256(all.data, all.len, mark);
  bool ok = !all.failed;
  lumo_buf_free(&all);
  return ok;
}

void lumo_cursor_write(const lumo_buf *query, const lumo_buf *place, unsigned flags, lumo_buf *text) {
  lumo_buf bytes = {0};
  uint8_t mark[32], byte = (uint8_t)flags;
  bool ok = make_mark(query, place->data, place->len, byte, mark);
  lumo_buf_append(&bytes, &byte, 1);
  lumo_buf_append(&bytes, mark, MARK);
  lumo_buf_append(&bytes, place->data, place->len);
  if (ok && !bytes.failed)
    put_text(text, bytes.data, bytes.len);
  else
    text->failed = true;
  lumo_buf_free(&bytes);
}

/* Whether it is a document of so many values that a cursor takes. */
static bool is_place(const uint8_t *data, size_t len, uint32_t count) {
  lumo_iter it;
  size_t at;
  uint32_t n = 0;
  if (!lumo_bson_validate(data, len, &at) || !lumo_iter_init(&it, data, len)) return false;
  while (lumo_iter_next(&it)) {
    if (!lumo_cursor_takes(&it.value)) return false;
    n++;
  }
  return n == count && !it.bad;
}

bool lumo_cursor_read(const char *text, size_t len, const lumo_buf *query, uint32_t count, lumo_buf *place,
                      unsigned *flags) {
  lumo_buf bytes = {0};
  uint8_t mark[32];
  bool good = take_text(text, len, &bytes) && bytes.len > HEAD && bytes.data[0] < 4;
  if (bytes.failed || (good && !make_mark(query, bytes.data + HEAD, bytes.len - HEAD, bytes.data[0], mark)))
    place->failed = true;
  good = good && !place->failed && memcmp(mark, bytes.data + 1, MARK) == 0 &&
         is_place(bytes.data + HEAD, bytes.len - HEAD, count);
  if (good) {
    *flags = bytes.data[0];
    lumo_buf_append(place, bytes.data + HEAD, bytes.len - HEAD);
  }
  lumo_buf_free(&bytes);
  return good && !place->failed;
}
