/* The one compiler of filters: conditions and groups in the order in which they were given become one MongoDB
 * filter. `or` binds weaker than `and`, as in SQL: a, or b, and c is a OR (b AND c). The values are already
 * BSON; no value is ever looked into for operators. */
#ifndef LUMO_CORE_FILTER_H
#define LUMO_CORE_FILTER_H

#include "bson.h"
#include "error.h"

#define LUMO_FILTER_MAX_DEPTH                                                                                \
  50 /* groups inside groups; each is two levels of BSON, and the server allows about 100 */

typedef enum { LUMO_AND, LUMO_OR } lumo_join;

/* Whose fields a condition speaks of. A filter over a model has only the first kind; one across a relation
 * may mix them; a condition of both is written as it is asked of paired documents. JOINED is a field that is
 * not stored: a join at the head of the query (hops.h) puts it into the documents of the RELATED side. */
typedef enum {
  LUMO_SIDE_RELATED = 1,
  LUMO_SIDE_PIVOT = 2,
  LUMO_SIDE_BOTH = 3,
  LUMO_SIDE_JOINED = 4
} lumo_side;

/* A paired document is a related record with its pivot row in this field. Filters of both sides and orders
 * speak of it. */
#define LUMO_PIVOT_FIELD "__lumo_pivot"

/* What is known of a condition by its form alone. */
typedef enum {
  LUMO_TRUTH_DEPENDS, /* on the document */
  LUMO_TRUTH_ALWAYS,  /* holds for every document, as $nin of nothing: a bulk write cannot rely on it */
  LUMO_TRUTH_NEVER    /* for none, as $in of nothing */
} lumo_truth;

/* A zeroed struct is a valid empty filter. */
typedef struct lumo_filter {
  lumo_buf bytes; /* the conditions, each one BSON document */
  struct lumo_clause {
    enum { LUMO_CLAUSE_CONDITION, LUMO_CLAUSE_GROUP, LUMO_CLAUSE_END } kind;
    lumo_join join;
    lumo_side side; /* of a condition */
    bool negated;
    lumo_truth truth;     /* of a condition, before it is negated */
    uint32_t offset, len; /* a condition's document in `bytes` */
  } * clauses;
  bool lent; /* the clauses are in memory that somebody lends, as the bytes may be */
  uint32_t count, capacity;
  uint32_t depth; /* groups that are open */
  uint32_t base;  /* so many first clauses stand for themselves: an `or` behind them does not reach them */
} lumo_filter;

/* An empty filter that begins in memory that somebody lends it for as long as it is used. */
lumo_filter lumo_filter_lend(void *bytes, size_t size, struct lumo_clause *clauses, uint32_t capacity);
void lumo_filter_free(lumo_filter *filter);
bool lumo_filter_copy(lumo_filter *to, const lumo_filter *from);

/* A condition is written in place: begin, append one BSON document to filter->bytes, end. An error in between
 * loses nothing: the next begin drops the half-written bytes. */
void lumo_filter_begin(lumo_filter *filter);
bool lumo_filter_end(lumo_filter *filter, lumo_join join, bool negated, lumo_side side);

/* Everything up to the matching end is one clause. A group in which nothing stands is dropped. */
bool lumo_filter_open(lumo_filter *filter, lumo_join join, bool negated, lumo_error *error);
void lumo_filter_close(lumo_filter *filter);
/* For a group whose making failed: what the filter was, and back to it. */
typedef struct lumo_filter_mark {
  uint32_t count, depth;
} lumo_filter_mark;
lumo_filter_mark lumo_filter_position(const lumo_filter *filter);
void lumo_filter_rewind(lumo_filter *filter, lumo_filter_mark mark);

/* Makes one group of the clauses behind the base, if an `or` stands among them that would reach what is added
 * next. False: no memory. */
bool lumo_filter_wrap(lumo_filter *filter);

/* The clauses so far become the base. */
void lumo_filter_settle(lumo_filter *filter);
/* Whether what stands behind the base can fail for a document. */
bool lumo_filter_narrows(const lumo_filter *filter);

/* Appends the filter as one whole BSON document: {} when there is no clause. Open groups count as closed. */
void lumo_filter_write(const lumo_filter *filter, lumo_buf *out);

/* Appends a filter over one value, the element of an array, as one whole document of operators: what stands
 * in an $elemMatch over scalars. Its conditions name no field: each is a document `{"": {operator: …}}`. */
void lumo_filter_write_element(const lumo_filter *filter, lumo_buf *out);

/* Whether the filter is an `and` of parts that speak of one side each, so that each side can be asked alone.
 */
bool lumo_filter_splits(const lumo_filter *filter);
/* Whether any condition speaks of that side. */
bool lumo_filter_has(const lumo_filter *filter, lumo_side side);
/* Appends, as one whole BSON document, what the filter demands of these sides (a mask) alone: of a filter
 * that splits all that it says of them. */
void lumo_filter_write_side(const lumo_filter *filter, unsigned sides, lumo_buf *out);
/* Appends what it demands of one side and what was joined to it, without what it demands of the side alone.
 */
void lumo_filter_write_joined(const lumo_filter *filter, lumo_side side, lumo_buf *out);
/* The whole filter over paired documents. */
void lumo_filter_write_paired(const lumo_filter *filter, lumo_buf *out);

/* Appends the pattern of a LIKE: % any text, _ any character, \ takes the next one literally; anchored, all
 * else escaped. */
void lumo_like_pattern(lumo_buf *out, const char *like, size_t len);

#endif
