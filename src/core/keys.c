#include "keys.h"

#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "sha256.h"

#define MAX_KEYS (1u << 30) /* twice as many slots still fit uint32_t */

/* ---- lists of distinct values ---- */

void lumo_keys_free(lumo_keys *keys) {
  lumo_buf_free(&keys->bytes);
  lumo_free(keys->items);
  lumo_free(keys->slots);
  *keys = (lumo_keys){0};
}

lumo_value lumo_keys_at(const lumo_keys *keys, uint32_t index) {
  const struct lumo_key *key = &keys->items[index];
  /* A list of values without bytes (null) has no memory to point into. */
  const uint8_t *data = keys->bytes.data ? keys->bytes.data + key->offset : NULL;
  return (lumo_value){data, key->len, key->type};
}

/* The slot that holds the value, or the free one where it belongs. There is always a free one. */
static uint32_t find_slot(const lumo_keys *keys, const lumo_value *value) {
  uint32_t slot = (uint32_t)lumo_value_hash(value) & keys->slot_mask;
  while (keys->slots[slot] != 0) {
    lumo_value there = lumo_keys_at(keys, keys->slots[slot] - 1);
    if (lumo_value_equal(&there, value)) break;
    slot = (slot + 1) & keys->slot_mask;
  }
  return slot;
}

/* Enters all items, which are known to be distinct, into the empty slots. */
static void fill_slots(lumo_keys *keys) {
  for (uint32_t i = 0; i < keys->count; i++) {
    lumo_value value = lumo_keys_at(keys, i);
    uint32_t slot = (uint32_t)lumo_value_hash(&value) & keys->slot_mask;
    while (keys->slots[slot] != 0) slot = (slot + 1) & keys->slot_mask;
    keys->slots[slot] = i + 1;
  }
}

/* Room for one more item, with at least half of the slots free. */
static bool grow(lumo_keys *keys) {
  if (keys->count < keys->capacity) return true;
  if (keys->count >= MAX_KEYS) return false;
  uint32_t capacity = keys->capacity ? keys->capacity * 2 : 8;
  struct lumo_key *items = lumo_realloc(keys->items, capacity * sizeof *items);
  if (!items) return false;
  keys->items = items;
  uint32_t *slots = lumo_calloc((size_t)capacity * 2, sizeof *slots);
  if (!slots) return false;
  lumo_free(keys->slots);
  keys->slots = slots;
  keys->slot_mask = capacity * 2 - 1;
  keys->capacity = capacity;
  fill_slots(keys);
  return true;
}

int lumo_keys_add(lumo_keys *keys, const lumo_value *value, uint32_t *index) {
  int64_t found = lumo_keys_find(keys, value);
  if (found >= 0) {
    *index = (uint32_t)found;
    return 0;
  }
  if (!grow(keys) || value->len > UINT32_MAX - keys->bytes.len) return -1;
  struct lumo_key item = {(uint32_t)keys->bytes.len, value->len, value->type};
  uint32_t slot = find_slot(keys, value);
  lumo_buf_append(&keys->bytes, value->data, value->len);
  if (keys->bytes.failed) return -1;
  keys->items[keys->count] = item;
  *index = keys->count++;
  keys->slots[slot] = keys->count;
  return 1;
}

int64_t lumo_keys_find(const lumo_keys *keys, const lumo_value *value) {
  if (keys->count == 0) return -1;
  return (int64_t)keys->slots[find_slot(keys, value)] - 1;
}

static void *copy_of(const void *block, size_t size) {
  void *copy = lumo_malloc(size);
  if (copy && size) memcpy(copy, block, size);
  return copy;
}

bool lumo_keys_copy(lumo_keys *to, const lumo_keys *from) {
  *to = (lumo_keys){0};
  if (from->count == 0) return true;
  lumo_buf_append(&to->bytes, from->bytes.data, from->bytes.len);
  to->items = copy_of(from->items, from->capacity * sizeof *from->items);
  to->slots = copy_of(from->slots, ((size_t)from->slot_mask + 1) * sizeof *from->slots);
  if (to->bytes.failed || !to->items || !to->slots) {
    lumo_keys_free(to);
    return false;
  }
  to->count = from->count;
  to->capacity = from->capacity;
  to->slot_mask = from->slot_mask;
  return true;
}

uint32_t lumo_keys_portion(const lumo_keys *keys, uint32_t from, uint32_t limit) {
  size_t bytes = 0;
  uint32_t to = from;
  while (to < keys->count && to - from < limit) {
    bytes += keys->items[to].len + LUMO_PORTION_OVERHEAD;
    if (bytes > LUMO_PORTION_BYTES && to > from) break;
    to++;
  }
  return to;
}

void lumo_keys_write(const lumo_keys *keys, uint32_t from, uint32_t to, lumo_buf *out, const char *name,
                     size_t name_len) {
  size_t array = lumo_bson_begin_array(out, name, name_len);
  for (uint32_t i = from; i < to; i++) {
    lumo_value value = lumo_keys_at(keys, i);
    lumo_bson_index(out, value.type, i - from);
    lumo_buf_append(out, value.data, value.len);
  }
  lumo_bson_end(out, array);
}

void lumo_keys_filter(const lumo_keys *keys, uint32_t from, uint32_t to, lumo_buf *out, const char *field) {
  size_t mark = lumo_bson_begin_document(out, field, strlen(field));
  lumo_keys_write(keys, from, to, out, LUMO_KEY("$in"));
  lumo_bson_end(out, mark);
}

/* ---- ids with attributes ---- */

void lumo_pairs_free(lumo_pairs *pairs) {
  lumo_keys_free(&pairs->keys);
  lumo_buf_free(&pairs->documents);
  lumo_free(pairs->items);
  *pairs = (lumo_pairs){0};
}

/* An empty document says as little as none. */
static bool is_empty(const uint8_t *document, uint32_t len) {
  return !document || len <= 5;
}

static bool same_set(const lumo_pairs *pairs, uint32_t index, const uint8_t *set, uint32_t set_len) {
  const struct lumo_pair *pair = &pairs->items[index];
  if (pair->set_len == 0 || is_empty(set, set_len)) return pair->set_len == 0 && is_empty(set, set_len);
  lumo_value first = {pairs->documents.data + pair->set, pair->set_len, LUMO_BSON_DOCUMENT};
  lumo_value second = {set, set_len, LUMO_BSON_DOCUMENT};
  return lumo_value_equal(&first, &second);
}

/* Appends a document, if there is one, and says where it stands. */
static bool keep_document(lumo_buf *documents, const uint8_t *document, uint32_t len, uint32_t *at,
                          uint32_t *at_len) {
  *at = *at_len = 0;
  if (is_empty(document, len)) return true;
  if (len > UINT32_MAX - documents->len) return false;
  *at = (uint32_t)documents->len;
  *at_len = len;
  lumo_buf_append(documents, document, len);
  return !documents->failed;
}

bool lumo_pairs_add(lumo_pairs *pairs, const lumo_value *id, const uint8_t *set, uint32_t set_len,
                    const uint8_t *fresh, uint32_t fresh_len, lumo_error *error) {
  uint32_t index;
  int64_t found = lumo_keys_find(&pairs->keys, id);
  if (found >= 0) {
    if (same_set(pairs, (uint32_t)found, set, set_len)) return true;
    return lumo_error_set(error, "E_ARGUMENT", "the same id is given twice with different attributes");
  }
  if (pairs->keys.count == pairs->capacity) {
    uint32_t capacity = pairs->capacity ? pairs->capacity * 2 : 8;
    struct lumo_pair *items =
        pairs->capacity < MAX_KEYS ? lumo_realloc(pairs->items, capacity * sizeof *items) : NULL;
    if (!items) return lumo_error_memory(error);
    pairs->items = items;
    pairs->capacity = capacity;
  }
  struct lumo_pair pair;
  if (!keep_document(&pairs->documents, set, set_len, &pair.set, &pair.set_len) ||
      !keep_document(&pairs->documents, fresh, fresh_len, &pair.fresh, &pair.fresh_len) ||
      lumo_keys_add(&pairs->keys, id, &index) < 0)
    return lumo_error_memory(error);
  pairs->items[index] = pair;
  return true;
}

struct sorted {
  lumo_value value;
  uint32_t index; /* where it stood */
};

static int compare_sorted(const void *a, const void *b) {
  return lumo_value_compare(&((const struct sorted *)a)->value, &((const struct sorted *)b)->value);
}

bool lumo_pairs_sort(lumo_pairs *pairs) {
  lumo_keys *keys = &pairs->keys;
  if (keys->count < 2) return true;
  struct sorted *sorted = lumo_malloc(keys->count * sizeof *sorted);
  struct lumo_key *key_items = lumo_malloc(keys->capacity * sizeof *key_items);
  struct lumo_pair *pair_items = lumo_malloc(pairs->capacity * sizeof *pair_items);
  bool enough = sorted && key_items && pair_items;
  if (enough) {
    for (uint32_t i = 0; i < keys->count; i++) sorted[i] = (struct sorted){lumo_keys_at(keys, i), i};
    qsort(sorted, keys->count, sizeof *sorted, compare_sorted);
    for (uint32_t i = 0; i < keys->count; i++) {
      key_items[i] = keys->items[sorted[i].index];
      pair_items[i] = pairs->items[sorted[i].index];
    }
    lumo_free(keys->items);
    keys->items = key_items;
    lumo_free(pairs->items);
    pairs->items = pair_items;
    memset(keys->slots, 0, ((size_t)keys->slot_mask + 1) * sizeof *keys->slots);
    fill_slots(keys);
  } else {
    lumo_free(key_items);
    lumo_free(pair_items);
  }
  lumo_free(sorted);
  return enough;
}

/* ---- the id of a pair ---- */

/* Numbers that are equal give one id, whatever their type. */
static void write_canonical(lumo_buf *out, const char *field, const lumo_value *value) {
  if (value->type == LUMO_BSON_INT32) {
    lumo_bson_int64(out, field, strlen(field), lumo_value_int32(value));
    return;
  }
  if (value->type == LUMO_BSON_DOUBLE) {
    double d = lumo_value_double(value);
    if (d >= -9223372036854775808.0 && d < 9223372036854775808.0 && (double)(int64_t)d == d) {
      lumo_bson_int64(out, field, strlen(field), (int64_t)d);
      return;
    }
  }
  lumo_bson_value(out, field, strlen(field), value);
}

bool lumo_pair_id(const char *owner_field, const lumo_value *owner, const char *related_field,
                  const lumo_value *related, uint8_t id[12]) {
  lumo_buf document = {0};
  uint8_t hash[32];
  bool owner_first = strcmp(owner_field, related_field) < 0;
  size_t mark = lumo_bson_begin(&document);
  write_canonical(&document, owner_first ? owner_field : related_field, owner_first ? owner : related);
  write_canonical(&document, owner_first ? related_field : owner_field, owner_first ? related : owner);
  lumo_bson_end(&document, mark);
  bool enough = !document.failed;
  if (enough) {
    lumo_sha256(document.data, document.len, hash);
    memcpy(id, hash, 12);
  }
  lumo_buf_free(&document);
  return enough;
}
