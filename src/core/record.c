#include "record.h"

#include <string.h>

size_t lumo_record_size(const lumo_schema *schema, uint32_t doc_len, uint32_t pivot_len) {
  return offsetof(lumo_record, places) + schema->count * sizeof(uint32_t) + doc_len + pivot_len;
}

uint8_t *lumo_record_room(lumo_record *record) {
  return (uint8_t *)(record->places + record->schema->count);
}

static void keep_place(lumo_record *record, uint32_t column, const uint8_t *element) {
  if (!(record->places[column] & LUMO_PLACE_OFFSET))
    record->places[column] |= (uint32_t)(element - record->doc);
}

bool lumo_record_index(lumo_record *record) {
  const lumo_schema *schema = record->schema;
  lumo_iter it;
  uint32_t next = 0, count = schema->count;
  for (uint32_t i = 0; i < count; i++) record->places[i] &= ~LUMO_PLACE_OFFSET;
  if (!record->doc) return true;
  if (!lumo_iter_init(&it, record->doc, record->doc_len)) return false;
  for (;;) {
    /* Documents mostly hold their fields in the schema's order. */
    for (; next < count; next++) {
      const lumo_column *column = schema->columns[next];
      const uint8_t *element = it.next;
      if (!lumo_iter_pass(&it, column->stored, column->stored_len)) break;
      keep_place(record, next, element);
    }
    const uint8_t *element = it.next;
    if (!lumo_iter_next(&it)) return !it.bad;
    const lumo_column *column = lumo_schema_find_stored(schema, it.key, it.key_len);
    if (!column) continue;
    keep_place(record, column->index, element);
    next = column->index + 1;
  }
}

lumo_value lumo_record_value(const lumo_record *record, uint32_t column) {
  uint32_t place = record->places[column] & LUMO_PLACE_OFFSET;
  if (!place) return (lumo_value){0};
  return lumo_element_value(record->doc + place, record->schema->columns[column]->stored_len,
                            record->doc + record->doc_len - 1);
}

/* The element of that name in a run of elements. */
static bool find_element(const lumo_buf *elements, const char *key, uint32_t key_len, lumo_value *out) {
  lumo_iter it = lumo_iter_elements(elements);
  while (lumo_iter_next(&it)) {
    if (it.key_len == key_len && memcmp(it.key, key, key_len) == 0) {
      *out = it.value;
      return true;
    }
  }
  return false;
}

void lumo_record_apply(const uint8_t *doc, uint32_t doc_len, const lumo_buf *set, const lumo_buf *unset,
                       lumo_buf *out) {
  if (set->failed || unset->failed || !lumo_buf_reserve(out, doc_len + set->len + 5)) out->failed = true;
  size_t mark = lumo_bson_begin(out);
  lumo_iter it = lumo_iter_elements(set);
  lumo_value value;
  /* One change, which is the usual thing, needs no look at what stands behind it. */
  bool single = lumo_iter_next(&it) && it.next == it.end && unset->len == 0, done = false;
  if (lumo_iter_init(&it, doc, doc_len)) {
    const uint8_t *same = it.next; /* what stays as it is, is copied in runs */
    while (!done && lumo_iter_next(&it)) {
      bool is_set = find_element(set, it.key, it.key_len, &value);
      if (!is_set && !find_element(unset, it.key, it.key_len, &value)) continue;
      lumo_buf_append(out, same, (size_t)((const uint8_t *)it.key - 1 - same));
      if (is_set) lumo_bson_value(out, it.key, it.key_len, &value);
      same = it.next;
      done = single;
    }
    lumo_buf_append(out, same, (size_t)((done ? it.end : it.next) - same));
  }
  it = lumo_iter_elements(set);
  while (!done && lumo_iter_next(&it)) {
    if (!lumo_bson_find(doc, doc_len, it.key, it.key_len, &value))
      lumo_bson_value(out, it.key, it.key_len, &it.value);
  }
  lumo_bson_end(out, mark);
}
