/* Loading across the pivot: a find on the pivot, then a command on the related collection, joined by hash.
 * The same plan serves one parent (exec, query) and many (load, preload). */
#ifndef LUMO_CORE_RELATION_READ_H
#define LUMO_CORE_RELATION_READ_H

#include "keys.h"
#include "plan.h"
#include "relation_write.h"

typedef enum {
  LUMO_RELATED_FIND,
  LUMO_RELATED_COUNT,
  LUMO_RELATED_UPDATE,
  LUMO_RELATED_DELETE
} lumo_related_op;

/* What is asked of the related side. All borrowed; a plan copies what it keeps. NULL documents mean none. */
typedef struct lumo_related_query {
  const char *collection;
  const char *key; /* stored name of the related key: "_id" */
  lumo_related_op op;
  const uint8_t *filter; /* BSON filter of the related side */
  uint32_t filter_len;
  const uint8_t *projection,
      *sort; /* FIND. The projection always has the related key: the caller sees to it */
  uint32_t projection_len, sort_len;
  int64_t limit, skip; /* FIND with one owner: counted in related records that exist. 0: none. Without a sort
                          they go by the related key, ascending */
  const uint8_t *
      extra; /* elements for the related command as they are (hint, collation, maxTimeMS, comment), or NULL */
  uint32_t extra_len;
  const uint8_t *update; /* UPDATE: a document of operators */
  uint32_t update_len;
  const uint8_t
      *pivot_filter; /* conditions on the pivot beside the owner's key and the pivot's own condition */
  uint32_t pivot_filter_len;
  const char *const *pivot_fields; /* stored names to read of the pivot beside the two keys; NULL with count
                                      0: only the keys */
  uint32_t pivot_field_count;
  bool all_pivot_fields; /* read the pivot documents whole */
} lumo_related_query;

/* One related record of one parent. Rows stand parent by parent, in the parents' order; inside a parent in
 * the order of the sort, and without one in that of the pivot rows. A pair that stands twice in the pivot (a
 * bag) gives two rows. Orphans give none. */
typedef struct lumo_related_row {
  uint32_t owner;    /* index into the owners */
  uint32_t document; /* index into documents */
  uint32_t pivot;    /* index into pivots */
} lumo_related_row;

typedef struct lumo_related_plan {
  lumo_plan plan;
  /* ---- results, once done ---- */
  lumo_docs documents; /* FIND: distinct related documents */
  lumo_docs pivots;    /* the pivot rows read */
  lumo_related_row *rows;
  uint32_t row_count;
  int64_t count; /* COUNT: related records; UPDATE: matched; DELETE: removed */
  /* The rest is private to relation_read.c. */
} lumo_related_plan;

/* Owners are copied. Commands: 2 (1 when there are no rows); `$in` lists are split so that no command exceeds
 * 100,000 keys or 12 MiB (a find with an order is split by bytes alone), and UPDATE and DELETE go as one
 * multi statement per portion. O(parents + rows). */
lumo_related_plan *lumo_related_plan_new(const char *name, const lumo_pivot *pivot, const lumo_keys *owners,
                                         const lumo_related_query *query, lumo_error *error);

#endif
