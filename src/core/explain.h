/* Commands that the server can be asked to explain, and what it answers: pure, on bytes. */
#ifndef LUMO_CORE_EXPLAIN_H
#define LUMO_CORE_EXPLAIN_H

#include "plan.h"

/* A find, aggregate, update, delete or findAndModify, as a step sends it. Views into the step, but `command`.
 */
typedef struct lumo_explainable {
  const char *name, *collection;
  lumo_value filter; /* a document; of a pipeline its first $match; LUMO_BSON_END: there is none */
  bool filtered;     /* the filter demands anything; without one a scan of the collection is what is meant */
  bool joined;       /* other collections are looked up */
  bool stores;       /* a pipeline that writes its result */
  lumo_buf command;  /* the document; to be freed */
} lumo_explainable;

/* The next one of a step, of a WRITE one of its statements; *at starts at 0. False: there is none any more,
 * or (command.failed) no memory. `command` is reused. */
bool lumo_explainable_next(const lumo_step *step, size_t *at, lumo_explainable *out);
/* {explain: command, verbosity, maxTimeMS}; the last is left out when 0. */
void lumo_explainable_write(const lumo_explainable *one, const char *verbosity, int32_t max_ms,
                            lumo_buf *out);
/* A number that is the same for commands that differ in their values only: the index that serves one serves
 * the other, as a rule. */
uint64_t lumo_explainable_shape(const lumo_explainable *one);
/* True if it says itself that the collection is to be read as a whole: hint {$natural: …}. */
bool lumo_explainable_scans(const lumo_explainable *one);
/* The names of the fields that a filter looks at, each once, as the elements of an array. */
void lumo_filter_fields(const lumo_value *filter, lumo_buf *out);

/* What the server says. Of the plan that it has chosen, not of those that it has rejected. */
typedef struct lumo_explanation {
  bool scans;      /* the collection is read as a whole */
  bool join_scans; /* another one that it reads is, in spite of conditions */
  bool sorts;      /* what was found is sorted in memory */
  bool covered;    /* the index has all that is asked for */
  bool empty;      /* there is nothing to read: no such collection, or no document can match */
  bool counted;    /* executionStats: the figures are there */
  int64_t keys, documents, returned;
  lumo_buf indexes; /* elements of an array of names, each once */
  lumo_buf joins; /* of an array of {how: "lookup" or "union", from, indexes: […], known, scans}; not known:
                            queryPlanner does not tell */
  uint32_t join_count;
} lumo_explanation;
/* Fills a zeroed one. False: no memory. Whatever is strange in a reply is passed over. */
bool lumo_explanation_read(lumo_explanation *out, const uint8_t *reply, uint32_t len);
void lumo_explanation_free(lumo_explanation *explanation);

#endif
