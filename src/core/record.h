/* A record's document: raw BSON with the places of its columns. The binding puts this header, the places and
 * (unless it is shared) the document into one block, its userdata. */
#ifndef LUMO_CORE_RECORD_H
#define LUMO_CORE_RECORD_H

#include "schema.h"

enum {
  LUMO_RECORD_PERSISTED = 1, /* the document is stored */
  LUMO_RECORD_LOCAL = 2,     /* made here, not loaded */
  LUMO_RECORD_DELETED = 4,
  LUMO_RECORD_SIDE = 8,         /* it has a companion table */
  LUMO_RECORD_SIDE_SHARED = 16, /* and that table belongs to others too: copied before it is written */
};

/* The high bits of a place tell of the value that the companion table holds for the column. */
#define LUMO_PLACE_ASSIGNED 0x80000000u /* it replaces the document's */
#define LUMO_PLACE_HANDED_OUT                                                                                \
  0x40000000u /* made from the document, and, as a table, perhaps changed in place */
#define LUMO_PLACE_PREPARED                                                                                  \
  0x20000000u /* assigned, and a write under way stores what the column's function has made of it */
#define LUMO_PLACE_OFFSET 0x1FFFFFFFu /* the element's offset in the document; 0: the field is missing */

typedef struct lumo_record {
  const lumo_schema *schema; /* kept alive by the class of the record */
  const uint8_t *doc; /* NULL: none yet. In this block, or in a userdata that the companion table keeps */
  uint32_t doc_len;
  uint32_t pivot, pivot_len; /* a pivot document in this block: its offset from the record's start, 0: none */
  uint16_t connection;       /* number of the connection in the binding's list, 0: none */
  uint8_t flags;
  uint32_t places[]; /* schema->count of them */
} lumo_record;

/* Bytes of a record with room for both documents. */
size_t lumo_record_size(const lumo_schema *schema, uint32_t doc_len, uint32_t pivot_len);
/* The first byte behind the places. */
uint8_t *lumo_record_room(lumo_record *record);

/* Finds the columns in the document and keeps the flags of the places. False if the document is malformed.
 * O(fields), without hashing when the fields come in the schema's order. */
bool lumo_record_index(lumo_record *record);

/* The stored value of a column; type LUMO_BSON_END when missing. O(1). */
lumo_value lumo_record_value(const lumo_record *record, uint32_t column);

/* Appends the document with changes applied: `set` holds whole elements (fields that exist are replaced in
 * their place, others come at the end), `unset` elements of any value whose names are removed. */
void lumo_record_apply(const uint8_t *doc, uint32_t doc_len, const lumo_buf *set, const lumo_buf *unset,
                       lumo_buf *out);

#endif
