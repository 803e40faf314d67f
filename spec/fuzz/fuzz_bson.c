/* Bytes from anywhere: the check, the reader on bytes that were not checked, and whatever walks a document
 * that was. */
#include <string.h>

#include "core/bson.h"
#include "core/json.h"
#include "fuzz.h"

/* Steps over everything, checked or not; the values are looked at only when they were. */
static void walk(const uint8_t *doc, size_t len, bool valid, int depth) {
  lumo_iter it;
  lumo_value last = {0}, found;
  lumo_buf element = {0};
  if (!lumo_iter_init(&it, doc, len)) {
    MUST(!valid);
    return;
  }
  while (lumo_iter_next(&it)) {
    MUST(it.value.data + it.value.len <= doc + len);
    bool nested = it.value.type == LUMO_BSON_DOCUMENT || it.value.type == LUMO_BSON_ARRAY;
    if (nested && depth < LUMO_BSON_MAX_DEPTH + 2) walk(it.value.data, it.value.len, valid, depth + 1);
    if (!valid) continue;
    MUST(lumo_bson_find(doc, len, it.key, it.key_len, &found));
    MUST(lumo_value_equal(&it.value, &it.value) || it.value.type == LUMO_BSON_DOUBLE || nested ||
         it.value.type == LUMO_BSON_CODE_SCOPE);
    int order = lumo_value_compare(&last, &it.value), back = lumo_value_compare(&it.value, &last);
    MUST((order < 0) == (back > 0) && (order == 0) == (back == 0));
    if (lumo_value_equal(&last, &it.value)) MUST(lumo_value_hash(&last) == lumo_value_hash(&it.value));
    lumo_buf_clear(&element);
    lumo_bson_value(&element, it.key, it.key_len, &it.value);
    MUST(element.len == 2 + (size_t)it.key_len + it.value.len);
    last = it.value;
  }
  MUST(!valid || !it.bad);
  lumo_buf_free(&element);
}

/* What was written as canonical JSON reads as a document whose own JSON is the same from then on. */
static void by_json(const uint8_t *doc, size_t len) {
  lumo_buf text = {0}, again = {0}, bytes = {0};
  lumo_error error;
  size_t at;
  lumo_error_init(&error);
  lumo_json_document(&text, doc, len, false, LUMO_JSON_RELAXED);
  lumo_buf_clear(&text);
  lumo_json_document(&text, doc, len, false, LUMO_JSON_PLAIN);
  lumo_buf_clear(&text);
  lumo_json_document(&text, doc, len, false, LUMO_JSON_CANONICAL);
  MUST(!text.failed && lumo_utf8_valid((const char *)text.data, text.len));
  if (lumo_json_parse(&bytes, (const char *)text.data, text.len, &error)) {
    MUST(lumo_bson_validate(bytes.data, bytes.len, &at));
    lumo_json_document(&again, bytes.data, bytes.len, false, LUMO_JSON_CANONICAL);
    lumo_buf_clear(&bytes);
    MUST(lumo_json_parse(&bytes, (const char *)again.data, again.len, &error));
    lumo_buf_clear(&text);
    lumo_json_document(&text, bytes.data, bytes.len, false, LUMO_JSON_CANONICAL);
    MUST(text.len == again.len && memcmp(text.data, again.data, text.len) == 0);
  }
  lumo_error_reset(&error);
  lumo_buf_free(&text);
  lumo_buf_free(&again);
  lumo_buf_free(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  size_t at = 0;
  lumo_value found;
  bool valid = lumo_bson_validate(data, size, &at);
  MUST(valid || at <= size);
  walk(data, size, valid, 1);
  if (size > 8) { /* the first bytes are a path, too */
    lumo_bson_find_path(data + 4, size - 4, (const char *)data, 4, &found);
    lumo_bson_find_path(data, size, "a.0.b", 5, &found);
  }
  if (valid) by_json(data, size);
  return 0;
}
