/* Places in an ordered result, for paging by key: the text that names one, and the filter for what stands
 * behind it. A place is a document of the values of the sort's keys, "0", "1", …; the last key tells all
 * documents apart. */
#ifndef LUMO_CORE_CURSOR_H
#define LUMO_CORE_CURSOR_H

#include "filter.h"

/* One key of a sort. The path is borrowed. Across a relation sorts speak of paired documents: a path of the
 * PIVOT side begins with its field. */
typedef struct lumo_order_key {
  const char *path; /* stored */
  uint32_t path_len;
  bool descending;
  lumo_side side; /* RELATED or PIVOT: whose field it is */
} lumo_order_key;

/* The path in the document of its side. */
#define LUMO_PIVOT_PREFIX LUMO_PIVOT_FIELD "."
static inline uint32_t lumo_order_prefix(const lumo_order_key *key) {
  return key->side == LUMO_SIDE_PIVOT ? (uint32_t)sizeof LUMO_PIVOT_PREFIX - 1 : 0;
}

typedef enum {
  LUMO_CURSOR_BACKWARD = 1, /* what stands before the place … */
  LUMO_CURSOR_AT = 2,       /* … or behind it, with what stands at it */
} lumo_cursor_flags;

/* Whether documents can be told to stand before or behind a document with this value: not of an array, which
 * is sorted by one of its elements. */
bool lumo_cursor_takes(const lumo_value *value);

/* Adds to the filter what stands behind (or before) the place in MongoDB's order, null and missing being one
 * value and values of any type having their place in it. */
bool lumo_cursor_filter(lumo_filter *filter, const lumo_order_key *keys, uint32_t count,
                        const lumo_buf *place, unsigned flags, lumo_error *error);

/* The text of a place in the results of a query, which `query` stands for: bytes that no other one has. Made
 * of letters, digits, "-" and "_". */
void lumo_cursor_write(const lumo_buf *query, const lumo_buf *place, unsigned flags, lumo_buf *text);
/* Appends the place to `place`. False if the text is none of this query, with so many keys, or without
 * memory, which shows in `place`. */
bool lumo_cursor_read(const char *text, size_t len, const lumo_buf *query, uint32_t count, lumo_buf *place,
                      unsigned *flags);

#endif
