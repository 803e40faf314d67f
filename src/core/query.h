/* A query as a value: what a builder has gathered, and the commands that are made of it. */
#ifndef LUMO_CORE_QUERY_H
#define LUMO_CORE_QUERY_H

#include "filter.h"
#include "schema.h"
#include "stages.h"

/* A zeroed struct with a schema is a query for everything. The schema is borrowed and outlives the query. */
typedef struct lumo_query {
  const lumo_schema *schema;
  lumo_filter filter;
  lumo_buf joins; /* whole stages that put what the filter's JOINED conditions ask for into the documents: a
                     query that has some is sent as an aggregate */
  uint32_t join_count;
  lumo_buf projection; /* elements `stored: 1`; empty: whole documents */
  lumo_buf sort;       /* elements `stored: ±1` */
  lumo_buf extra;      /* elements of the command as they are: hint, collation, maxTimeMS, comment */
  int64_t limit, skip; /* 0: none */
  bool everything;     /* a bulk write without a filter is meant */
} lumo_query;

void lumo_query_free(lumo_query *query);
bool lumo_query_copy(lumo_query *to, const lumo_query *from);

/* Adds a field to the projection or the sort, given by its stored path; a second mention of a sort field
 * replaces the first, of a projected field (or of one inside it or around it, which the server refuses as a
 * collision) is dropped. */
void lumo_query_select(lumo_buf *projection, const char *stored, size_t len);
void lumo_query_order(lumo_buf *sort, const char *stored, size_t len, int direction);

/* The field that join `number` of a query writes its result to; `name` has room for LUMO_JOIN_NAME bytes. */
#define LUMO_JOIN_NAME 16
void lumo_join_name(uint32_t number, char *name);
/* Drops the joins from `count` on. */
void lumo_query_drop_joins(lumo_query *query, uint32_t count);

/* Stages that let through what the query's conditions on one side ask for, and `bound` (or NULL): the stored
 * ones first, so that indexes serve them, then the sort when `sorted`, then the joins and what waits for
 * them. The results of the joins stay in the documents. */
void lumo_query_match(const lumo_query *query, lumo_side side, const uint8_t *bound, uint32_t bound_len,
                      bool sorted, lumo_stages *stages);

/* Commands as whole BSON documents, appended to out. `bound` is a filter document that is joined by $and so
 * that the query cannot escape it, or NULL. batch_size 0: all that fits a reply. */
void lumo_query_find(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, int64_t limit,
                     int32_t batch_size, lumo_buf *out);
/* An aggregate with one document {n: …}, or none for 0; honours limit and skip. */
void lumo_query_count(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, lumo_buf *out);
/* An aggregate with one document {n: …}: `operator` ($sum, $avg, $min, $max) over a field path ("$views"). */
void lumo_query_group(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, const char *operator,
                      const char * field, size_t field_len, lumo_buf *out);
/* An aggregate with a document {_id: value} for each value of the field path ("$views"), in their order. With
 * `elements` a field may hold arrays, whose elements are the values. */
void lumo_query_distinct(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, const char *field,
                         size_t field_len, bool elements, lumo_buf *out);
/* An aggregate of the `_id`s of what matches, each in a document. */
void lumo_query_ids(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, lumo_buf *out);
/* Only the filter; of a query that has joins what can be asked without them. */
void lumo_query_filter(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, lumo_buf *out);

#endif
