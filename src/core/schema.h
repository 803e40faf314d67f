/* A model's columns, compiled once: names, types and where they stand. Immutable after it has been sealed,
 * shared by records, queries and relations, and read from any thread. */
#ifndef LUMO_CORE_SCHEMA_H
#define LUMO_CORE_SCHEMA_H

#include "bson.h"
#include "error.h"

typedef enum {
  LUMO_ANY,
  LUMO_STRING,
  LUMO_INTEGER, /* int32 where it fits, else int64 */
  LUMO_INT32,
  LUMO_INT64,
  LUMO_NUMBER,
  LUMO_BOOLEAN,
  LUMO_DATE,
  LUMO_OBJECTID,
  LUMO_DECIMAL,
  LUMO_BINARY,
  LUMO_UUID,
  LUMO_ARRAY,
  LUMO_OBJECT,
} lumo_type;

typedef struct lumo_schema lumo_schema;
typedef struct lumo_column lumo_column;

/* What stands with a column as a function in Lua; the core only knows that it is there. */
enum {
  LUMO_COLUMN_PREPARE = 1,   /* attribute to stored value */
  LUMO_COLUMN_CONSUME = 2,   /* stored value to attribute */
  LUMO_COLUMN_SERIALIZE = 4, /* attribute to what serialize and to_json give */
  LUMO_COLUMN_COMPLETE = 8,  /* fills in the defaults of the columns inside */
};

/* Texts are NUL-terminated and owned by the schema. */
struct lumo_column {
  const char *name;       /* attribute */
  const char *stored;     /* field of the document */
  const char *serialized; /* name in JSON; NULL: hidden */
  uint32_t name_len, stored_len, serialized_len;
  uint8_t *json; /* the serialized name as JSON text with its colon: `"title":`; NULL: hidden */
  uint32_t json_len;
  uint32_t index; /* place in the schema, from 0 */
  lumo_type type;
  bool primary, auto_create, auto_update;
  bool renamed; /* a column inside has another name as an attribute, stored, or in JSON; set by sealing */
  uint8_t functions;   /* LUMO_COLUMN_… */
  lumo_column *of;     /* ARRAY: the type of the elements, or NULL; owned */
  lumo_schema *fields; /* OBJECT: the declared columns inside, or NULL; owned */
};

struct lumo_schema {
  char *model, *collection; /* a nested schema has the outer model's name and no collection (NULL) */
  lumo_column **columns;    /* in the order in which documents are written: the primary column first */
  uint32_t count, capacity;
  int32_t primary;               /* index of the primary column; -1 in nested schemas */
  bool strict;                   /* unknown names are errors */
  uint32_t *by_name, *by_stored; /* open addressing: index + 1 */
  uint32_t mask;
};

const char *lumo_type_name(lumo_type type);             /* "objectid" */
bool lumo_type_parse(const char *text, lumo_type *out); /* false: no such type */

lumo_schema *lumo_schema_new(const char *model, const char *collection, bool strict, lumo_error *error);
void lumo_schema_free(lumo_schema *schema); /* NULL allowed */
/* Adds a column of these three names (serialized NULL: hidden); the caller sets its other fields before
 * sealing. */
lumo_column *lumo_schema_add(lumo_schema *schema, const char *name, const char *stored,
                             const char *serialized, lumo_type type, lumo_error *error);
/* A column that stands in no schema: the element type of an array. */
lumo_column *lumo_column_new(const char *name, const char *stored, lumo_type type, lumo_error *error);
void lumo_column_free(lumo_column *column);
/* Puts the primary column first, numbers the columns, builds the look-ups; E_ARGUMENT for two columns of one
 * attribute or stored name. */
bool lumo_schema_seal(lumo_schema *schema, lumo_error *error);

/* NULL when there is none. O(1). */
const lumo_column *lumo_schema_find(const lumo_schema *schema, const char *name, size_t len);
const lumo_column *lumo_schema_find_stored(const lumo_schema *schema, const char *stored, size_t len);
/* The attribute name nearest to a misspelt one, or NULL when none is near. */
const char *lumo_schema_nearest(const lumo_schema *schema, const char *name, size_t len);

/* E_UNDEFINED_COLUMN for a name, with the nearest one as a suggestion; `prefix` ("" or "meta.") is the path
 * that leads to it. */
bool lumo_schema_undefined(const lumo_schema *schema, const char *prefix, const char *name, size_t len,
                           lumo_error *error);

/* A dotted path of attribute names ("meta.author.name", "labels.0") resolved: the stored path is appended to
 * `stored` (no NUL), *column is the column of its end, NULL when untyped. False with E_UNDEFINED_COLUMN
 * (first unknown part, with the nearest name) or E_ARGUMENT (empty part, "$", NUL). A name that holds a
 * declared column's name wins over splitting at its dots. */
bool lumo_schema_resolve(const lumo_schema *schema, const char *path, size_t len, lumo_buf *stored,
                         const lumo_column **column, lumo_error *error);

#endif
