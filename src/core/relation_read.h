/* Reading across the pivot: what a relation's query finds, counts or changes, of one parent (exec, query) or
 * of many (load, preload). */
#ifndef LUMO_CORE_RELATION_READ_H
#define LUMO_CORE_RELATION_READ_H

#include "filter.h"
#include "hops.h"
#include "keys.h"
#include "plan.h"
#include "relation_write.h"

typedef enum {
  LUMO_RELATED_FIND,
  LUMO_RELATED_COUNT,
  LUMO_RELATED_VALUE,
  LUMO_RELATED_DISTINCT,
  LUMO_RELATED_UPDATE,
  LUMO_RELATED_DELETE
} lumo_related_op;

/* What is asked. All borrowed; a plan copies what it keeps. NULL documents mean none.
 *
 * A filter that splits comes as its two parts. One that does not, or has joins, comes whole, over paired
 * documents (LUMO_PIVOT_FIELD), and the two parts hold what it demands of each side in any case. Orders speak
 * of paired documents, too. */
typedef struct lumo_related_query {
  const char *collection;
  const char *key;  /* stored name of the related key: "_id" */
  bool shares_keys; /* many related records have one key, so that it puts none of them in order: _id does */
  lumo_related_op op;
  const uint8_t *filter; /* on the related records */
  uint32_t filter_len;
  const uint8_t *pivot_filter; /* on the pivot, beside the owner's key and the pivot's own condition */
  uint32_t pivot_filter_len;
  const uint8_t *paired_filter;
  uint32_t paired_filter_len;
  const uint8_t *joins; /* the stages of `join_count` joins (query.h), which a paired filter waits for */
  uint32_t joins_len, join_count;
  const uint8_t *projection, *sort; /* FIND. A projection has the related key: the caller sees to it */
  uint32_t projection_len, sort_len;
  const uint8_t *group_sort; /* by which the limit counts, where that is not the order of the result */
  uint32_t group_sort_len;
  int64_t limit, skip; /* FIND, VALUE, DISTINCT: of each owner; counted in records given, so that orphans do
                          not count. 0: none. Without an order they go by the related key, or the _id,
                          ascending */
  bool eager;          /* FIND: for parents whose records are loaded. Two commands, even for one parent */
  bool streaming;      /* FIND of one owner: PAUSE after each batch, with only its rows in the results */
  const uint8_t *
      extra; /* elements for the related command as they are (hint, collation, maxTimeMS, comment), or NULL */
  uint32_t extra_len;
  const uint8_t *update; /* UPDATE: a document of operators */
  uint32_t update_len;
  const char *accumulator, *field; /* VALUE: "$sum" of a field of paired documents, "$points"; DISTINCT: of
                                      that field */
  bool elements;                   /* DISTINCT: the field may hold arrays */
  const char *const *pivot_fields; /* stored names to read of the pivot beside the two keys; NULL with count
                                      0: only the keys */
  uint32_t pivot_field_count;
  bool all_pivot_fields; /* read the pivot documents whole */
} lumo_related_query;

/* The fields of rows that are made of the documents of several collections. */
#define LUMO_MADE_OWNER "owner"
#define LUMO_MADE_RELATED "_id"
/* Appends the stages that make such rows on the way over `count` hops (3 or more): of the documents of the
 * first hop, joined with those of all others but the last, which are the related records. */
void lumo_pivot_stages(lumo_buf *out, const lumo_hop *hops, uint32_t count);

#define LUMO_STREAM_BATCH 1000 /* documents in a batch of a read that streams */

/* One related record of one parent. Rows stand parent by parent, in the parents' order; inside a parent in
 * the order of the sort, and without one in that of the pivot rows, as far as the server keeps it. A pair
 * that stands twice in the pivot (a bag) gives two rows. Orphans give none. */
typedef struct lumo_related_row {
  uint32_t owner;    /* index into the owners */
  uint32_t document; /* index into documents */
  uint32_t pivot;    /* index into pivots; LUMO_NO_PIVOT where there is no pivot */
} lumo_related_row;
#define LUMO_NO_PIVOT UINT32_MAX

typedef struct lumo_related_plan {
  lumo_plan plan;
  /* ---- results, once done ---- */
  lumo_docs documents; /* FIND: related documents, each once where many owners are asked for; VALUE: one
                          with `n`, or none; DISTINCT: the values as `_id`s */
  lumo_docs pivots;    /* FIND: the pivot rows read */
  lumo_related_row *rows;
  uint32_t row_count;
  int64_t count; /* COUNT: related records; UPDATE: matched; DELETE: removed */
  /* The rest is private to relation_plan.h. */
} lumo_related_plan;

/* Without a pivot collection it is a FIND for loading (`eager`): the related documents whose `key` is an
 * owner's, by one command. Owners are copied. Commands: 2 (1 when there are no rows, or where one pipeline
 * gives all that one owner's query asks for); `$in` lists are split so that no command exceeds 100,000 keys
 * or 12 MiB, and UPDATE and DELETE go as one multi statement per portion. A limit of many owners by an order
 * of the pivot's alone reads no more rows than it gives, on servers from 5.2, but where there are orphans
 * among them. O(parents + rows) here, without what the server sorts. */
lumo_related_plan *lumo_related_plan_new(const char *name, const lumo_pivot *pivot, const lumo_keys *owners,
                                         const lumo_related_query *query, lumo_error *error);

/* What a FIND that has not run would send: appends its first command to `pivot`, and the one to the related
 * collection, without keys, to `related`. False if there is no second one. */
bool lumo_related_plan_show(lumo_related_plan *plan, lumo_buf *pivot, lumo_buf *related);

#endif
