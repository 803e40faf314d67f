/* Lists of ids as packed bytes. Whatever takes ids (attach, sync, find_many, eager loading) turns them into
 * one of these, once; every join of rows and ids is a look-up here. */
#ifndef LUMO_CORE_KEYS_H
#define LUMO_CORE_KEYS_H

#include "bson.h"
#include "error.h"

/* Distinct values in the order in which they were first added. Equality is lumo_value_equal. A zeroed struct
 * is a valid empty list. */
typedef struct lumo_keys {
  lumo_buf bytes; /* the values' bytes, one after the other */
  struct lumo_key {
    uint32_t offset, len;
    uint8_t type;
  } * items;
  uint32_t count, capacity;
  uint32_t *slots; /* open addressing: index + 1, 0 is free */
  uint32_t slot_mask;
} lumo_keys;

void lumo_keys_free(lumo_keys *keys);
/* *index is the value's place. 1: added, 0: it was there, -1: no memory. O(1). */
int lumo_keys_add(lumo_keys *keys, const lumo_value *value, uint32_t *index);
/* The place of a value, or -1. O(1). */
int64_t lumo_keys_find(const lumo_keys *keys, const lumo_value *value);
lumo_value lumo_keys_at(const lumo_keys *keys, uint32_t index);
bool lumo_keys_copy(lumo_keys *to, const lumo_keys *from);
/* How an `$in` list is cut so that no command exceeds the server's limits: the end (exclusive) of the portion
 * that starts at `from`, at most `limit` values and LUMO_PORTION_BYTES bytes, and at least one value. */
#define LUMO_PORTION_KEYS 100000 /* the usual limit */
#define LUMO_PORTION_BYTES (12 * 1024 * 1024)
#define LUMO_PORTION_OVERHEAD 16 /* bytes of an array's element beside its value, counted generously */
uint32_t lumo_keys_portion(const lumo_keys *keys, uint32_t from, uint32_t limit);
/* Appends `name: [k…]` for items from `from` up to `to` (exclusive). */
void lumo_keys_write(const lumo_keys *keys, uint32_t from, uint32_t to, lumo_buf *out, const char *name,
                     size_t name_len);
/* Appends `field: {$in: [k…]}` for the same. */
void lumo_keys_filter(const lumo_keys *keys, uint32_t from, uint32_t to, lumo_buf *out, const char *field);

/* Ids with pivot attributes. Documents stand in `documents`; offset 0 with length 0 means none. */
typedef struct lumo_pairs {
  lumo_keys keys;
  lumo_buf documents;
  struct lumo_pair {
    uint32_t set,
        set_len; /* the attributes given by the caller: merged into a row that exists, part of a new one */
    uint32_t fresh, fresh_len; /* written only with a new row: defaults, automatic dates */
  } * items;                   /* beside keys.items */
  uint32_t capacity;
} lumo_pairs;

void lumo_pairs_free(lumo_pairs *pairs);
/* Adds an id with its documents (NULL: none). The same id again with equal `set` is counted once; with a
 * different one it is E_ARGUMENT. Documents that name a key field are the caller's to refuse. */
bool lumo_pairs_add(lumo_pairs *pairs, const lumo_value *id, const uint8_t *set, uint32_t set_len,
                    const uint8_t *fresh, uint32_t fresh_len, lumo_error *error);
/* Puts the ids in BSON order (for ids that came from a map). O(n log n). */
bool lumo_pairs_sort(lumo_pairs *pairs);

/* The id of a pivot row: the first 12 bytes of SHA-256 over the BSON document of the two (field, value)
 * pairs, sorted by field name bytewise, integral numbers (int32, int64, integral doubles within 2^63) as
 * int64. Frozen: changing it would make every stored pair attach a second time. */
bool lumo_pair_id(const char *owner_field, const lumo_value *owner, const char *related_field,
                  const lumo_value *related, uint8_t id[12]);

#endif
