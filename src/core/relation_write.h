/* What changes pairs: attach, sync, toggle, detach and their like, as plans. See the table of the client in
 * docs for the commands that each sends. */
#ifndef LUMO_CORE_RELATION_WRITE_H
#define LUMO_CORE_RELATION_WRITE_H

#include "keys.h"
#include "plan.h"

/* A pivot collection as seen from one relation. Texts are borrowed: a plan copies what it keeps. */
typedef struct lumo_pivot {
  const char *collection; /* NULL: there is none, the related documents hold the owner's key themselves */
  const char *owner_key, *related_key; /* stored field names */
  /* Rows that stand in no collection are read only: what these stages (one document after the other) make of
   * the collection's documents whose `source_key` is an owner's. NULL: the documents are the rows. */
  const uint8_t *stages;
  uint32_t stages_len;
  const char *source_key;
  const char *created_at, *updated_at; /* stored names of the pivot timestamps, or NULL */
  const uint8_t
      *condition; /* a BSON filter: rows for which it does not hold are none of the relation's, or NULL */
  uint32_t condition_len;
  bool duplicates; /* bag behaviour: attach always adds a row, with generated ids */
  bool atomic;     /* multi-command writes in one transaction where there are any */
  bool guarded;    /* other unique indexes may refuse some of several rows: then even one insert is a write of
                      several commands */
} lumo_pivot;

/* For batchSize: more rows than a reply of 16 MB holds, so that the server's size limit decides and not its
 * default of 101. */
#define LUMO_BATCH_SIZE 1000000

/* A copy that lives alone, in one block; false: no memory. */
bool lumo_pivot_copy(lumo_pivot *to, const lumo_pivot *from);
void lumo_pivot_free(lumo_pivot *pivot);

/* The fate of each id of the input, in its order. */
typedef enum {
  LUMO_PAIR_UNCHANGED,
  LUMO_PAIR_ATTACHED,
  LUMO_PAIR_UPDATED,
  LUMO_PAIR_DETACHED
} lumo_pair_fate;

typedef struct lumo_pairs_plan {
  lumo_plan plan;
  /* ---- results, once the plan is done ---- */
  lumo_pairs pairs;   /* the input */
  uint8_t *fates;     /* lumo_pair_fate, beside pairs.items */
  lumo_keys detached; /* sync: the ids removed that were not in the input, in the order of the rows read */
  /* The rest is private to relation_write.c, which allocates a larger struct. */
} lumo_pairs_plan;

typedef enum {
  LUMO_ATTACH,
  LUMO_ATTACH_MADE, /* the ids were generated just now: they can have no rows, so nobody is asked for them */
  LUMO_ATTACH_EACH, /* by one upsert for each pair: one command, where attach needs a find for it */
  LUMO_SYNC,
  LUMO_SYNC_WITHOUT_DETACHING,
  LUMO_TOGGLE,
} lumo_pairs_op;

/* `pairs` is taken (emptied) whether or not it succeeds. `now` is milliseconds since the epoch, for
 * timestamps. `name` is the public method's, for errors. Attach and sync-without-detaching are the same
 * operation under two names, but with `duplicates`: there attach adds rows without asking, and the other only
 * what is missing. */
lumo_pairs_plan *lumo_pairs_plan_new(lumo_pairs_op op, const char *name, const lumo_pivot *pivot,
                                     const lumo_value *owner, lumo_pairs *pairs, int64_t now,
                                     lumo_error *error);

/* Appends as a document what is known of the row of pair `index` once the plan is done: its keys and the
 * attributes given; all of a row that was added. */
void lumo_pairs_row(const lumo_pairs_plan *plan, uint32_t index, lumo_buf *out);

/* detach: `ids` NULL removes all pairs of the owner. Result: nRemoved. An empty list makes a plan that is
 * done at once. */
lumo_write_plan *lumo_detach_plan_new(const char *name, const lumo_pivot *pivot, const lumo_value *owner,
                                      const lumo_keys *ids, lumo_error *error);

/* update_pivot_data: merges `set` (a BSON document of stored names) into the pair's row (all of its rows with
 * duplicates); the updated_at timestamp moves only if a value differs. The condition binds it. Result:
 * nMatched. */
lumo_write_plan *lumo_pivot_update_plan_new(const char *name, const lumo_pivot *pivot,
                                            const lumo_value *owner, const lumo_value *related,
                                            const uint8_t *set, uint32_t set_len, int64_t now,
                                            lumo_error *error);

/* Reads of pairs, each one command. rows: the pivot documents of the owner (of one related id when `related`
 * is given), all fields. ids: only the related key. count: rows, as an aggregate whose one document has `n`;
 * none when there are no rows. `limit` 0: all. */
lumo_read_plan *lumo_pivot_rows_plan_new(const char *name, const lumo_pivot *pivot, const lumo_value *owner,
                                         const lumo_value *related, int32_t limit, lumo_error *error);
lumo_read_plan *lumo_pivot_ids_plan_new(const char *name, const lumo_pivot *pivot, const lumo_value *owner,
                                        lumo_error *error);
lumo_read_plan *lumo_pivot_count_plan_new(const char *name, const lumo_pivot *pivot, const lumo_value *owner,
                                          lumo_error *error);

/* The `_id`s of the rows, of all owners, whose related document is gone from `collection`, where `field`
 * holds the related key. Streaming. */
lumo_read_plan *lumo_pivot_orphans_plan_new(const char *name, const lumo_pivot *pivot, const char *collection,
                                            const char *field, lumo_error *error);

/* Appends to a document that is being written the filter that binds a pivot query to its owner: the owner's
 * key and the condition (as an $and beside it, so neither can widen the other). */
void lumo_pivot_filter(lumo_buf *out, const lumo_pivot *pivot, const lumo_value *owner);

#endif
