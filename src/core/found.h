/* A bulk write to documents that only an aggregate can find: their ids first, then the write. */
#ifndef LUMO_CORE_FOUND_H
#define LUMO_CORE_FOUND_H

#include "plan.h"

typedef struct lumo_found {
  const char *source;     /* the collection that the aggregate runs on */
  const char *collection; /* the one that is written */
  const uint8_t *filter;  /* a document: what is asked of a found document once more when it is written */
  uint32_t filter_len;
  const uint8_t *update; /* a document of operators; NULL: the documents are removed */
  uint32_t update_len;
  const uint8_t *options; /* elements that go along with the write (lumo_statement_options) */
  uint32_t options_len;
} lumo_found;

/* `command` is taken: an aggregate on `source` whose documents have the `_id`s. The rest is copied. The
 * result is that of a write plan. Commands: 2 (1 when nothing is found), atomic; a statement for each 100,000
 * documents. */
lumo_write_plan *lumo_found_plan_new(const char *name, const lumo_found *found, lumo_buf *command,
                                     lumo_error *error);

#endif
