/* What query.c and relation.c share: a compiled relation, and the query userdata that may be bound to one. */
#ifndef LUMO_LUA_RELATION_H
#define LUMO_LUA_RELATION_H

#include "../core/query.h"
#include "../core/relation_read.h"
#include "private.h"

/* A userdata whose companion table keeps the schemas and the texts alive. */
struct lumo_relation {
  const char *name; /* "tags" */
  lumo_pivot pivot;
  const lumo_schema *parent, *related,
      *rows;                     /* rows: of the pivot's documents; NULL: nothing is asked of them */
  const lumo_schema *attributes; /* for casting pivot attributes; strict only where the pivot model says so */
  const lumo_column *local, *key; /* the keys' columns in parent and related */
  bool optional;                  /* a parent without a key has nothing related: no error */
  bool shares_keys;               /* related records are not told apart by their key, as in a foreign key */
  const char **fields; /* stored names of the pivot fields to read, in the companion's [&fields] userdata */
  uint32_t field_count;
  bool all_fields;
  const uint8_t *given; /* a document of what the condition asks new rows to have, or NULL */
  uint32_t given_len;
};
lumo_relation *lumo_check_relation(lua_State *L, int i);

#define LUMO_MAX_HOPS 8
/* has.c: reads the list of hops at `index`, at most LUMO_MAX_HOPS, whose texts the list keeps. */
uint32_t lumo_read_hops(lua_State *L, int index, lumo_hop *hops);

struct lumo_query_box {
  lumo_query query;
  lumo_query_kind kind;
  bool shares;             /* the companion is its model's, which all such queries read and none writes */
  lumo_relation *relation; /* RELATED, PIVOT; kept alive by the companion */
  lumo_buf owner;          /* the owner's key, one BSON element "k"; empty while unbound (eager loading) */
  lumo_buf bound;          /* PIVOT: the filter that binds it to the owner, a document */
  const char **fields; /* RELATED: stored names of the pivot fields to read, instead of the relation's; in the
                          companion's [4], their texts in [3] */
  uint32_t field_count;
  bool all_fields;
  lumo_buf group_sort; /* RELATED, preloading: elements as the query's sort, by which group_limit counts */
  int64_t group_limit; /* 0: none */
  const lumo_column *array; /* ELEMENT, VALUE: the column whose elements these are */
  /* Where the filter and the sort begin: most queries need no other memory. */
  struct lumo_clause clauses[4];
  uint8_t conditions[160], sort[48];
};
/* A query that can be sent: E_ARGUMENT for an ELEMENT or VALUE. */
lumo_query_box *lumo_check_query(lua_State *L, int i, const char *method);

/* relation.c: what a plan of a RELATED query is to do. */
typedef struct lumo_related_request {
  const char *name; /* the operation, for errors */
  lumo_related_op op;
  int64_t limit; /* 0: none */
  bool streaming;
  const lumo_buf *update;          /* UPDATE */
  const char *accumulator, *field; /* VALUE, DISTINCT */
  bool elements;                   /* DISTINCT */
  const lumo_keys *owners;         /* of an eager load; NULL: the query's own */
} lumo_related_request;
/* Leaves the plan on the stack. */
void lumo_push_related_plan(lua_State *L, lumo_query_box *box, const lumo_related_request *request);

#endif
