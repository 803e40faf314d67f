/* Places in an ordered result: their texts, and the filter for what stands behind them. */
#include "check.h"
#include "core/cursor.h"
#include "core/json.h"
#include "core/mem.h"

static lumo_buf parse(const char *json) {
  lumo_error error;
  lumo_buf buf = {0};
  lumo_error_init(&error);
  CHECK(lumo_json_parse(&buf, json, strlen(json), &error));
  return buf;
}

static lumo_order_key key(const char *path, bool descending, lumo_side side) {
  return (lumo_order_key){path, (uint32_t)strlen(path), descending, side};
}

/* ---- texts ---- */

static bool reads(const lumo_buf *text, size_t len, const lumo_buf *query, uint32_t count) {
  lumo_buf place = {0};
  unsigned flags = 0;
  char *exact = malloc(len + 1); /* without NUL: a sanitizer sees a read beyond it */
  memcpy(exact, text->data, len);
  bool good = lumo_cursor_read(exact, len, query, count, &place, &flags);
  free(exact);
  lumo_buf_free(&place);
  return good;
}

static void texts(void) {
  static const char *const places[] = {
      "{\"0\": 1}", "{\"0\": null, \"1\": \"\\u00e4\"}",
      "{\"0\": {\"$oid\": \"0123456789abcdef01234567\"}, \"1\": {\"a\": 1}}"};
  lumo_buf query = parse("{\"filter\": {}}"), other = parse("{\"filter\": {\"a\": 1}}");
  for (unsigned i = 0; i < 3; i++) {
    lumo_buf place = parse(places[i]), text = {0}, again = {0};
    unsigned flags = 99;
    uint32_t count = i ? 2 : 1;
    lumo_cursor_write(&query, &place, i, &text);
    CHECK(lumo_cursor_read((char *)text.data, text.len, &query, count, &again, &flags));
    CHECK_INT(flags, i);
    CHECK(again.len == place.len && memcmp(again.data, place.data, place.len) == 0);
    CHECK(!reads(&text, text.len, &other, count));
    CHECK(!reads(&text, text.len, &query, count + 1));
    for (size_t len = 0; len < text.len; len++) CHECK(!reads(&text, len, &query, count));
    for (size_t at = 0; at < text.len - 1; at++) { /* of the last digit some bits may mean nothing */
      text.data[at] ^= 1;
      CHECK(!reads(&text, text.len, &query, count));
      text.data[at] ^= 1;
    }
    CHECK(reads(&text, text.len, &query, count));
    lumo_buf_free(&place);
    lumo_buf_free(&text);
    lumo_buf_free(&again);
  }
  lumo_buf array = parse("{\"0\": [1]}"), text = {0};
  lumo_cursor_write(&query, &array, 0, &text);
  CHECK(!reads(&text, text.len, &query, 1));
  lumo_buf_free(&array);
  lumo_buf_free(&text);
  lumo_buf_free(&query);
  lumo_buf_free(&other);
}

/* ---- filters ---- */

static void check_filter(lumo_filter *filter, const lumo_order_key *keys, uint32_t count, const char *values,
                         unsigned flags, const char *expected) {
  lumo_error error;
  lumo_buf place = parse(values), bson = {0}, json = {0};
  lumo_error_init(&error);
  CHECK(lumo_cursor_filter(filter, keys, count, &place, flags, &error));
  lumo_filter_write_paired(filter, &bson);
  lumo_json_document(&json, bson.data, bson.len, false, LUMO_JSON_RELAXED);
  CHECK_TEXT(json.data, json.len, expected);
  lumo_buf_free(&place);
  lumo_buf_free(&bson);
  lumo_buf_free(&json);
  lumo_filter_free(filter);
}

static void add(lumo_filter *filter, const char *json, lumo_join join) {
  lumo_buf condition = parse(json);
  lumo_filter_begin(filter);
  lumo_buf_append(&filter->bytes, condition.data, condition.len);
  CHECK(lumo_filter_end(filter, join, false, LUMO_SIDE_RELATED));
  lumo_buf_free(&condition);
}

static void filters(void) {
  lumo_filter filter = {0};
  lumo_order_key keys[] = {key("a", false, LUMO_SIDE_RELATED), key("_id", true, LUMO_SIDE_RELATED)};
  check_filter(&filter, keys, 2, "{\"0\": \"$x\", \"1\": 5}", 0,
               "{\"$or\":[{\"$expr\":{\"$gt\":[\"$a\",{\"$literal\":\"$x\"}]}},"
               "{\"$and\":[{\"a\":{\"$eq\":\"$x\"}},{\"$expr\":{\"$lt\":[\"$_id\",{\"$literal\":5}]}}]}]}");
  check_filter(&filter, keys, 1, "{\"0\": null}", LUMO_CURSOR_BACKWARD | LUMO_CURSOR_AT,
               "{\"$or\":[{\"a\":{\"$type\":-1}},{\"a\":{\"$eq\":null}}]}");
  /* What the user says with an `or` stays together. */
  add(&filter, "{\"x\": 1}", LUMO_AND);
  add(&filter, "{\"x\": 2}", LUMO_OR);
  check_filter(
      &filter, keys, 1, "{\"0\": 3}", LUMO_CURSOR_BACKWARD,
      "{\"$and\":[{\"$or\":[{\"x\":1},{\"x\":2}]},{\"$expr\":{\"$lt\":[\"$a\",{\"$literal\":3}]}}]}");
  add(&filter, "{\"x\": 1}", LUMO_AND);
  lumo_filter_settle(&filter);
  add(&filter, "{\"y\": 1}", LUMO_AND);
  check_filter(&filter, keys, 1, "{\"0\": 3}", 0,
               "{\"$and\":[{\"x\":1},{\"$and\":[{\"y\":1},"
               "{\"$expr\":{\"$gt\":[\"$a\",{\"$literal\":3}]}}]}]}");
  lumo_order_key pivot[] = {key(LUMO_PIVOT_PREFIX "rank", false, LUMO_SIDE_PIVOT), keys[1]};
  check_filter(&filter, pivot, 2, "{\"0\": 1, \"1\": 2}", 0,
               "{\"$or\":[{\"$expr\":{\"$gt\":[\"$" LUMO_PIVOT_PREFIX "rank\",{\"$literal\":1}]}},"
               "{\"$and\":[{\"" LUMO_PIVOT_PREFIX "rank\":{\"$eq\":1}},"
               "{\"$expr\":{\"$lt\":[\"$_id\",{\"$literal\":2}]}}]}]}");
}

int main(void) {
  texts();
  filters();
  return check_report();
}
