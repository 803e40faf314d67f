/* Relations inside queries: what stands behind a document in other collections, compared or counted by the
 * server. A relation describes the way there as hops; nothing here knows its kind. */
#ifndef LUMO_CORE_HOPS_H
#define LUMO_CORE_HOPS_H

#include "query.h"

/* One step from the documents of a collection into another: those whose field `to` equals the field `from` of
 * the document before. null and missing equal nothing. All borrowed. */
typedef struct lumo_hop {
  const char *collection;
  const char *from, *to;    /* stored names */
  const uint8_t *condition; /* the relation's own filter on this collection, or NULL */
  uint32_t condition_len;
  lumo_side side; /* whose conditions of the query speak of this collection; 0: none do */
  bool optional;  /* the documents before stand for what is behind them: a row of a pivot is counted, whether
                     or not its related record exists, unless something is asked of the record */
} lumo_hop;

/* A way over one or more hops, and the conditions on what is found: those of a builder over the last hop's
 * documents. Only over a pivot and its related records may they be such that do not split by sides. */
typedef struct lumo_way {
  const lumo_hop *hops;
  uint32_t count;
  const lumo_query *query;
} lumo_way;

typedef enum {
  LUMO_COMPARE_EQ,
  LUMO_COMPARE_NE,
  LUMO_COMPARE_GT,
  LUMO_COMPARE_GTE,
  LUMO_COMPARE_LT,
  LUMO_COMPARE_LTE,
} lumo_comparison;

/* Adds to a query the condition that a document has so many behind it, with the join that counts them, as far
 * as the comparison needs. */
bool lumo_query_has(lumo_query *query, const lumo_way *way, lumo_comparison comparison, int64_t n,
                    lumo_join join, bool negated);

/* ---- for what makes pipelines of its own out of a way ---- */

/* A field that is wanted of the documents of one of the hops. */
typedef struct lumo_wanted {
  uint32_t hop;
  const char *field; /* stored path; NULL: none */
} lumo_wanted;

/* How many of the hops have to be made; `side` is that of a field that is wanted, 0: none is. */
uint32_t lumo_way_reach(const lumo_way *way, unsigned side);
/* The stages for the conditions on the documents of a hop. */
void lumo_way_conditions(const lumo_way *way, uint32_t hop, lumo_stages *stages);
/* Stages that join the documents of a hop, and of those behind it up to `reach`, whose key the field `from`
 * holds: one in each document that goes on, with what is wanted of it. */
void lumo_way_join(const lumo_way *way, uint32_t hop, uint32_t reach, const char *from,
                   const lumo_wanted *wanted, lumo_stages *stages);
/* Whether some condition can be asked of pairs only; then lumo_way_join leaves the documents whole. */
bool lumo_way_is_paired(const lumo_way *way);
/* Stages that make paired documents (LUMO_PIVOT_FIELD) of joined ones, `row` being the pivot row as an
 * expression, and let through those that the whole filter asks for. */
void lumo_way_pair(const lumo_way *way, const char *row, lumo_stages *stages);
/* Appends the path to what is wanted from the documents of hop `from`. */
void lumo_wanted_path(lumo_buf *out, const lumo_wanted *wanted, uint32_t from);
/* `{$match: {field: {$ne: null}}}` */
void lumo_stage_not_null(lumo_stages *stages, const char *field);

#endif
