/* What the files of a read across the pivot share: relation_read.c chooses its shape and runs through it,
 * relation_pipeline.c writes its commands, relation_join.c makes rows of what came back. */
#ifndef LUMO_CORE_RELATION_PLAN_H
#define LUMO_CORE_RELATION_PLAN_H

#include <string.h>

#include "relation_read.h"

/* Which commands answer a read. All shapes but PAIRED end in a find of the related records by key, so that
 * each travels once.
 * FINDS    a find on the pivot, a command on the related collection; joined, and cut per owner, here
 * TOP      a pipeline on the pivot that gives the first rows of each owner by an order of the pivot's
 * RANKED   a pipeline that joins on the server to filter, order and cut by both sides, and gives pivot rows
 *          with the _id of their related record
 * PAIRED   the same for one owner, and it gives the related records, too: nothing else is sent
 * DIRECT   without a pivot: a find on the related collection, or a pipeline where its filter waits for joins
 * or the limit counts by another order than that of the result */
typedef enum { FINDS, TOP, RANKED, PAIRED, DIRECT } shape_number;

typedef enum { START, PIVOT, RELATED, END } phase_number;

#define LUMO_WIRE_TOP_N 15 /* MongoDB 5.2: the first server that knows $topN */

/* An order over paired documents. */
typedef struct ordering {
  const uint8_t *document; /* NULL: none */
  uint32_t len;
  unsigned sides; /* whose fields it names: a mask of lumo_side */
} ordering;

/* A pivot row that names a related record. */
typedef struct joint {
  uint32_t owner; /* index into the owners */
  uint32_t key;   /* index into the keys */
  uint32_t pivot; /* index into the pivot documents */
} joint;

typedef struct related_plan {
  lumo_related_plan head;
  lumo_pivot pivot;
  lumo_keys owners;
  /* Its pointers lead into `texts`, but for the pivot fields, which are in the two that follow. */
  lumo_related_query query;
  char *texts;
  lumo_buf pivot_projection; /* a document; empty: whole rows */
  lumo_buf pivot_fields;     /* the names in it, each with its NUL */
  lumo_buf default_order;    /* a document: the order of a limit where none was given */
  ordering show, cut;        /* inside an owner: of the rows that are given, and by which a limit counts */
  /* ---- what a restart forgets ---- */
  phase_number phase;
  shape_number shape;
  const ordering *pivot_order, *related_order;       /* FINDS, TOP: of the command on that side, or NULL */
  bool server_bounds;                                /* the command on the related collection has the limit */
  bool cuts;                                         /* the rows are cut here */
  enum { NO_BATCH, BATCH_READY, BATCH_GIVEN } batch; /* of a read that streams */
  const lumo_keys *owner_list;                       /* the owners, or `again` */
  lumo_keys again;     /* TOP: owners that had orphans among their first rows, and so need all of theirs */
  uint32_t known_keys; /* so many first keys have been asked for */
  uint32_t from, to;   /* the portion of owners or keys that the last command asked for */
  int64_t cursor;
  const char *cursor_collection;
  const char *join_key; /* stored name of the field by which related records are found: "_id" */
  lumo_keys keys;       /* distinct keys of the rows read */
  joint *joints;        /* in the order of the pivot rows */
  uint32_t joint_count, joint_capacity;
  lumo_buf out; /* the command or statements of the current step */
} related_plan;

/* Whether the rows are given in another order than that by which a limit counts. */
static inline bool related_is_reordered(const related_plan *plan) {
  const ordering *show = &plan->show, *cut = &plan->cut;
  return show->document && cut->document &&
         (show->len != cut->len || memcmp(show->document, cut->document, show->len) != 0);
}

static inline bool related_is_bounded(const related_plan *plan) {
  return plan->query.limit > 0 || plan->query.skip > 0;
}

/* ---- relation_pipeline.c: each appends to plan->out ---- */

/* The command on the pivot for owners from..to. */
void lumo_related_write_pivot(related_plan *plan);
/* The command on the related collection for keys from..to: a find (of a COUNT it reads the keys alone), or
 * the aggregate that counts. */
void lumo_related_write_find(related_plan *plan);
void lumo_related_write_direct(related_plan *plan);
void lumo_related_write_count(related_plan *plan);
/* UPDATE, DELETE: a statement for each portion of the keys. */
void lumo_related_write_statements(related_plan *plan);

/* ---- relation_join.c ---- */

/* Makes the rows of all that was read. False: no memory. O(owners + rows). */
bool lumo_related_join(related_plan *plan);
/* Leaves of each owner's rows those within the limit, in the order in which they are to be given. */
void lumo_related_cut(related_plan *plan);
/* TOP: the owners that have fewer rows than asked for though they may have more go into `again`, and their
 * joints go. False: no memory. */
bool lumo_related_find_short(related_plan *plan);

#endif
