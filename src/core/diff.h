/* The smallest update that makes one stored value of another: what differs between two documents, as paths
 * for $set and $unset. */
#ifndef LUMO_CORE_DIFF_H
#define LUMO_CORE_DIFF_H

#include "bson.h"

/* Where the parts of an update go; the buffers are the caller's. */
typedef struct lumo_diff {
  lumo_buf *set;   /* elements under dotted paths */
  lumo_buf *unset; /* the same, of any value */
  /* Conditions for the update's filter under which positions in arrays still mean what they meant when
   * `before` was read: the element has the _id that it had or, where elements have none, the array its
   * length. */
  lumo_buf *guard;
  lumo_buf *path; /* to work in */
} lumo_diff;

/* Adds what makes `after` of `before`, stored under `name`. An array is set whole if its length has changed
 * or its elements would take more bytes. False, with nothing added, where only the whole value can be set: it
 * is neither twice a document nor twice an array, fields have changed their order, or a path would have a
 * field's name that is a number, is empty, holds a dot or begins with "$". O(length of both), and O(fields)
 * more for each field that is removed or added. */
bool lumo_diff_add(lumo_diff *diff, const char *name, size_t name_len, const lumo_value *before,
                   const lumo_value *after);

#endif
