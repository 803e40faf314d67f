/* Lists of ids, ids with attributes, and the ids of pairs. */
#include "core/keys.h"
#include "plan_script.h"

static int add_int32(lumo_keys *keys, int32_t n, uint32_t *index) {
  uint8_t bytes[4];
  memcpy(bytes, &n, sizeof bytes);
  lumo_value value = {bytes, sizeof bytes, LUMO_BSON_INT32};
  return lumo_keys_add(keys, &value, index);
}

/* Adds the field `v` of a JSON object. */
static int add_json(lumo_keys *keys, const char *json, uint32_t *index) {
  lumo_buf document = from_json(json);
  lumo_value value = value_of(&document);
  int added = lumo_keys_add(keys, &value, index);
  lumo_buf_free(&document);
  return added;
}

static int64_t find_json(const lumo_keys *keys, const char *json) {
  lumo_buf document = from_json(json);
  lumo_value value = value_of(&document);
  int64_t found = lumo_keys_find(keys, &value);
  lumo_buf_free(&document);
  return found;
}

static void check_keys(const lumo_keys *keys, uint32_t from, uint32_t to, const char *expected) {
  lumo_buf document = {0}, text = {0};
  size_t mark = lumo_bson_begin(&document);
  lumo_keys_filter(keys, from, to, &document, "k");
  lumo_bson_end(&document, mark);
  lumo_json_document(&text, document.data, document.len, false, LUMO_JSON_CANONICAL);
  CHECK_SCRIPT(&text, expected);
  lumo_buf_free(&document);
}

static void test_order_and_equality(void) {
  lumo_keys keys = {0};
  uint32_t index = 99;
  CHECK_INT(find_json(&keys, "{'v':1}"), -1);
  CHECK_INT(add_json(&keys, "{'v':'b'}", &index), 1);
  CHECK_INT(index, 0);
  CHECK_INT(add_json(&keys, "{'v':1}", &index), 1);
  CHECK_INT(add_json(&keys, "{'v':null}", &index), 1);
  CHECK_INT(index, 2);
  /* A number is one id in every type. */
  CHECK_INT(add_json(&keys, "{'v':{'$numberLong':'1'}}", &index), 0);
  CHECK_INT(index, 1);
  CHECK_INT(add_json(&keys, "{'v':{'$numberDouble':'1.0'}}", &index), 0);
  CHECK_INT(find_json(&keys, "{'v':{'$numberDouble':'1.5'}}"), -1);
  /* What looks alike is not equal. */
  CHECK_INT(find_json(&keys, "{'v':'1'}"), -1);
  CHECK_INT(add_json(&keys, "{'v':{'$oid':'0123456789abcdef01234567'}}", &index), 1);
  CHECK_INT(find_json(&keys, "{'v':'0123456789abcdef01234567'}"), -1);
  CHECK_INT(keys.count, 4);
  check_keys(&keys, 0, 4, "{'k':{'$in':['b',{'$numberInt':'1'},null,{'$oid':'0123456789abcdef01234567'}]}}");
  check_keys(&keys, 1, 2, "{'k':{'$in':[{'$numberInt':'1'}]}}");
  check_keys(&keys, 2, 2, "{'k':{'$in':[]}}");
  lumo_keys_free(&keys);
  CHECK_INT(keys.count, 0);
}

/* A list whose values have no bytes has no memory to point into. */
static void test_only_null(void) {
  lumo_keys keys = {0}, copy;
  uint32_t index;
  CHECK_INT(add_json(&keys, "{'v':null}", &index), 1);
  CHECK_INT(add_json(&keys, "{'v':null}", &index), 0);
  CHECK(lumo_keys_copy(&copy, &keys));
  check_keys(&copy, 0, 1, "{'k':{'$in':[null]}}");
  lumo_keys_free(&keys);
  lumo_keys_free(&copy);
}

static void test_many(void) {
  lumo_keys keys = {0}, copy;
  uint32_t index, wrong = 0;
  for (int32_t i = 0; i < 300000; i++) wrong += add_int32(&keys, i * 7, &index) != 1 || index != (uint32_t)i;
  for (int32_t i = 0; i < 300000; i++) wrong += add_int32(&keys, i * 7, &index) != 0 || index != (uint32_t)i;
  CHECK(lumo_keys_copy(&copy, &keys));
  lumo_keys_free(&keys);
  for (int32_t i = 0; i < 300000; i++) {
    lumo_value value = lumo_keys_at(&copy, (uint32_t)i);
    wrong += lumo_value_int32(&value) != i * 7 || lumo_keys_find(&copy, &value) != i;
  }
  CHECK_INT(wrong, 0);
  CHECK_INT(lumo_keys_portion(&copy, 0, LUMO_PORTION_KEYS), 100000);
  CHECK_INT(lumo_keys_portion(&copy, 0, UINT32_MAX), 300000);
  CHECK_INT(lumo_keys_portion(&copy, 250000, LUMO_PORTION_KEYS), 300000);
  CHECK_INT(lumo_keys_portion(&copy, 300000, LUMO_PORTION_KEYS), 300000);
  lumo_keys_free(&copy);
  CHECK(lumo_keys_copy(&copy, &keys)); /* an empty one */
  CHECK_INT(copy.count, 0);
}

/* A portion ends by bytes too, but it is never empty. */
static void test_portion_bytes(void) {
  enum { SIZE = 5 * 1024 * 1024, HUGE_SIZE = 13 * 1024 * 1024 };
  lumo_keys keys = {0};
  uint8_t *bytes = calloc(1, HUGE_SIZE);
  uint32_t index;
  for (uint8_t i = 0; i < 4; i++) {
    uint32_t size = i == 2 ? HUGE_SIZE : SIZE; /* a binary: length, subtype, bytes */
    uint32_t inner = size - 5;
    memcpy(bytes, &inner, 4);
    bytes[5] = i;
    lumo_value value = {bytes, size, LUMO_BSON_BINARY};
    CHECK_INT(lumo_keys_add(&keys, &value, &index), 1);
  }
  CHECK_INT(lumo_keys_portion(&keys, 0, LUMO_PORTION_KEYS), 2);
  CHECK_INT(lumo_keys_portion(&keys, 2, LUMO_PORTION_KEYS), 3);
  CHECK_INT(lumo_keys_portion(&keys, 3, LUMO_PORTION_KEYS), 4);
  free(bytes);
  lumo_keys_free(&keys);
}

/* ---- pairs ---- */

static bool add_pair(lumo_pairs *pairs, const char *id, const char *set, const char *fresh,
                     lumo_error *error) {
  lumo_buf document = from_json(id), sets = {0}, freshes = {0};
  lumo_value value = value_of(&document);
  if (set) sets = from_json(set);
  if (fresh) freshes = from_json(fresh);
  bool added = lumo_pairs_add(pairs, &value, sets.data, (uint32_t)sets.len, freshes.data,
                              (uint32_t)freshes.len, error);
  lumo_buf_free(&document);
  lumo_buf_free(&sets);
  lumo_buf_free(&freshes);
  return added;
}

static void check_set(const lumo_pairs *pairs, uint32_t index, const char *expected) {
  lumo_buf text = {0};
  const struct lumo_pair *pair = &pairs->items[index];
  if (pair->set_len)
    lumo_json_document(&text, pairs->documents.data + pair->set, pair->set_len, false, LUMO_JSON_RELAXED);
  CHECK_SCRIPT(&text, expected);
}

static void test_pairs(void) {
  lumo_pairs pairs = {0};
  lumo_error error;
  lumo_error_init(&error);
  CHECK(add_pair(&pairs, "{'v':3}", "{'role':'admin'}", "{'at':1}", &error));
  CHECK(add_pair(&pairs, "{'v':1}", NULL, NULL, &error));
  CHECK(add_pair(&pairs, "{'v':2}", "{}", "{'at':2}", &error));
  /* The same again, in another type of number. */
  CHECK(add_pair(&pairs, "{'v':{'$numberLong':'3'}}", "{'role':'admin'}", NULL, &error));
  CHECK(add_pair(&pairs, "{'v':1}", "{}", NULL, &error));
  CHECK_INT(pairs.keys.count, 3);
  CHECK(!error.code);
  /* Other attributes for the same id. */
  CHECK(!add_pair(&pairs, "{'v':3}", "{'role':'guest'}", NULL, &error));
  CHECK(error.code && strcmp(error.code, "E_ARGUMENT") == 0);
  CHECK(!add_pair(&pairs, "{'v':3}", NULL, NULL, &error));
  CHECK(!add_pair(&pairs, "{'v':1}", "{'role':null}", NULL, &error));
  CHECK_INT(pairs.keys.count, 3);
  check_set(&pairs, 0, "{'role':'admin'}");
  check_set(&pairs, 1, "");
  CHECK_INT(pairs.items[2].set_len, 0);
  CHECK(pairs.items[2].fresh_len > 5);
  CHECK(lumo_pairs_sort(&pairs));
  check_keys(&pairs.keys, 0, 3, "{'k':{'$in':[{'$numberInt':'1'},{'$numberInt':'2'},{'$numberInt':'3'}]}}");
  check_set(&pairs, 2, "{'role':'admin'}");
  CHECK_INT(find_json(&pairs.keys, "{'v':3}"), 2);
  CHECK_INT(find_json(&pairs.keys, "{'v':1}"), 0);
  lumo_error_reset(&error);
  lumo_pairs_free(&pairs);
}

static void test_sort_many(void) {
  lumo_pairs pairs = {0};
  lumo_error error;
  uint32_t wrong = 0;
  char id[64], set[64];
  lumo_error_init(&error);
  for (int i = 0; i < 1000; i++) {
    int n = i * 617 % 1000;
    snprintf(id, sizeof id, "{'v':%d}", n);
    snprintf(set, sizeof set, "{'n':%d}", n);
    CHECK(add_pair(&pairs, id, set, NULL, &error));
  }
  CHECK(lumo_pairs_sort(&pairs));
  for (uint32_t i = 0; i < 1000; i++) {
    const struct lumo_pair *pair = &pairs.items[i];
    lumo_value id_value = lumo_keys_at(&pairs.keys, i);
    wrong += lumo_value_int32(&id_value) != (int32_t)i || lumo_keys_find(&pairs.keys, &id_value) != i ||
             lumo_reply_count(pairs.documents.data + pair->set, pair->set_len, "n") != i;
  }
  CHECK_INT(wrong, 0);
  lumo_pairs_free(&pairs);
}

/* ---- the ids of pairs: these bytes stand in databases, they may never change ---- */

static void check_pair_id(const char *owner_field, const char *owner, const char *related_field,
                          const char *related, const char *expected) {
  lumo_buf one = from_json(owner), two = from_json(related);
  lumo_value owner_value = value_of(&one), related_value = value_of(&two);
  uint8_t id[12] = {0};
  CHECK(lumo_pair_id(owner_field, &owner_value, related_field, &related_value, id));
  CHECK_HEX(id, sizeof id, expected);
  /* The other side of the relation makes the same. */
  CHECK(lumo_pair_id(related_field, &related_value, owner_field, &owner_value, id));
  CHECK_HEX(id, sizeof id, expected);
  lumo_buf_free(&one);
  lumo_buf_free(&two);
}

static void test_pair_ids(void) {
  check_pair_id("post_id", "{'v':{'$oid':'60a1e2c3d4e5f6a7b8c9d0e1'}}", "tag_id",
                "{'v':{'$oid':'60a1e2c3d4e5f6a7b8c9d0e2'}}", "3d3e70564165e6b4a10c6319");
  check_pair_id("post_id", "{'v':1}", "tag_id", "{'v':2}", "c9e28eceb2266bb3a59d0e3b");
  check_pair_id("post_id", "{'v':{'$numberLong':'1'}}", "tag_id", "{'v':{'$numberDouble':'2.0'}}",
                "c9e28eceb2266bb3a59d0e3b");
  check_pair_id("post_id", "{'v':2}", "tag_id", "{'v':1}", "1ede665eb83a80bc79c450f0");
  check_pair_id("user_id", "{'v':'zo\u00eb'}", "project_id", "{'v':'x'}", "b4572dc92c6d6bd4a341964a");
  check_pair_id("a", "{'v':{'$numberDouble':'1.5'}}", "b", "{'v':-1}", "eafe039410c56ea7b158bfd9");
  /* The ends of int64: 2^63 as a double is not one. */
  check_pair_id("a", "{'v':{'$numberDouble':'9007199254740992.0'}}", "b",
                "{'v':{'$numberDouble':'-9223372036854775808.0'}}", "85aa31e3320d56590699a609");
  check_pair_id("a", "{'v':{'$numberDouble':'9223372036854775808.0'}}", "b", "{'v':0}",
                "1c913a3f97b3a87192000b30");
}

/* ---- memory ---- */

static void test_memory(void) {
  static const uint8_t set[] = {12, 0, 0, 0, LUMO_BSON_INT32, 'n', 0, 1, 0, 0, 0, 0};
  unsigned long n = 1;
  for (bool fine = false; !fine; n++) {
    lumo_pairs pairs = {0};
    lumo_keys copy = {0};
    lumo_error error;
    uint8_t id[12];
    lumo_error_init(&error);
    lumo_mem_fail_at(n);
    fine = true;
    for (int32_t i = 40; i > 0 && fine; i--) {
      uint8_t bytes[4] = {(uint8_t)i};
      lumo_value value = {bytes, sizeof bytes, LUMO_BSON_INT32};
      fine = lumo_pairs_add(&pairs, &value, set, sizeof set, set, sizeof set, &error) &&
             lumo_pair_id("a", &value, "b", &value, id);
    }
    fine = fine && lumo_pairs_sort(&pairs) && lumo_keys_copy(&copy, &pairs.keys);
    lumo_mem_fail_at(0);
    CHECK(!error.code || strcmp(error.code, "E_MEMORY") == 0);
    lumo_pairs_free(&pairs);
    lumo_keys_free(&copy);
  }
  CHECK(n > 50);
}

int main(void) {
  test_order_and_equality();
  test_only_null();
  test_many();
  test_portion_bytes();
  test_pairs();
  test_sort_many();
  test_pair_ids();
  test_memory();
  return check_report();
}
