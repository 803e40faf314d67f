/* Aggregates by document: what stands behind each of many documents, counted, added up and the like by the
 * server. with_count and its kin. */
#ifndef LUMO_CORE_AGGREGATES_H
#define LUMO_CORE_AGGREGATES_H

#include "hops.h"
#include "keys.h"
#include "plan.h"

typedef enum {
  LUMO_COUNT,
  LUMO_SUM,
  LUMO_AVG,
  LUMO_MIN,
  LUMO_MAX,
  LUMO_COUNT_DISTINCT,
} lumo_aggregate_op;

typedef struct lumo_aggregate {
  lumo_way way;
  lumo_aggregate_op op;
  const char *field; /* stored path; NULL: the documents themselves are counted */
  lumo_side side;    /* of the field */
  lumo_keys owners;  /* the values of the first hop's `from` */
} lumo_aggregate;

/* One plan for all of them, at least one. Its documents are {_id: owner's key, n: result, a: number of the
 * aggregate (absent: 0)}; an owner that has nothing behind it has none. Commands: 1 for up to 1,000 owners,
 * where nothing is joined for up to 100,000; one more for each further portion. With `apart` each aggregate
 * has commands of its own: in a transaction the server refuses to unite collections. */
lumo_read_plan *lumo_aggregates_plan_new(const char *name, const lumo_aggregate *aggregates, uint32_t count,
                                         bool apart, lumo_error *error);

#endif
