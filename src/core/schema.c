#include "schema.h"

#include <stdio.h>
#include <string.h>

#include "json.h"
#include "mem.h"

static const char *const type_names[] = {
    [LUMO_ANY] = "any",         [LUMO_STRING] = "string", [LUMO_INTEGER] = "integer",
    [LUMO_INT32] = "int32",     [LUMO_INT64] = "int64",   [LUMO_NUMBER] = "number",
    [LUMO_BOOLEAN] = "boolean", [LUMO_DATE] = "date",     [LUMO_OBJECTID] = "objectid",
    [LUMO_DECIMAL] = "decimal", [LUMO_BINARY] = "binary", [LUMO_UUID] = "uuid",
    [LUMO_ARRAY] = "array",     [LUMO_OBJECT] = "object"};

const char *lumo_type_name(lumo_type type) {
  return type_names[type];
}

bool lumo_type_parse(const char *text, lumo_type *out) {
  for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++) {
    if (strcmp(text, type_names[i]) != 0) continue;
    *out = (lumo_type)i;
    return true;
  }
  return false;
}

/* ---- making ---- */

static char *copy_text(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = lumo_malloc(size);
  if (copy) memcpy(copy, text, size);
  return copy;
}

lumo_schema *lumo_schema_new(const char *model, const char *collection, bool strict, lumo_error *error) {
  lumo_schema *schema = lumo_calloc(1, sizeof *schema);
  if (schema) {
    schema->model = copy_text(model);
    schema->collection = collection ? copy_text(collection) : NULL;
    schema->strict = strict;
    schema->primary = -1;
    if (schema->model && (schema->collection || !collection)) return schema;
  }
  lumo_schema_free(schema);
  lumo_error_memory(error);
  return NULL;
}

void lumo_schema_free(lumo_schema *schema) {
  if (!schema) return;
  for (uint32_t i = 0; i < schema->count; i++) lumo_column_free(schema->columns[i]);
  lumo_free(schema->columns);
  lumo_free(schema->by_name);
  lumo_free(schema->by_stored);
  lumo_free(schema->model);
  lumo_free(schema->collection);
  lumo_free(schema);
}

/* False: no memory. */
static bool make_json_name(lumo_column *column) {
  lumo_buf json = {0};
  size_t len;
  if (!column->serialized) return true;
  lumo_json_string(&json, column->serialized, column->serialized_len);
  lumo_buf_append(&json, ":", 1);
  column->json = lumo_buf_take(&json, &len);
  column->json_len = (uint32_t)len;
  return column->json != NULL;
}

static lumo_column *column_new(const char *name, const char *stored, const char *serialized, lumo_type type,
                               lumo_error *error) {
  lumo_column *column = lumo_calloc(1, sizeof *column);
  if (column) {
    column->name = copy_text(name);
    column->stored = copy_text(stored);
    column->serialized = serialized ? copy_text(serialized) : NULL;
    column->type = type;
    if (column->name && column->stored && (column->serialized || !serialized)) {
      column->name_len = (uint32_t)strlen(name);
      column->stored_len = (uint32_t)strlen(stored);
      column->serialized_len = serialized ? (uint32_t)strlen(serialized) : 0;
      if (make_json_name(column)) return column;
    }
  }
  lumo_column_free(column);
  lumo_error_memory(error);
  return NULL;
}

lumo_column *lumo_column_new(const char *name, const char *stored, lumo_type type, lumo_error *error) {
  return column_new(name, stored, NULL, type, error);
}

void lumo_column_free(lumo_column *column) {
  if (!column) return;
  lumo_column_free(column->of);
  lumo_schema_free(column->fields);
  lumo_free((char *)column->name);
  lumo_free((char *)column->stored);
  lumo_free((char *)column->serialized);
  lumo_free(column->json);
  lumo_free(column);
}

lumo_column *lumo_schema_add(lumo_schema *schema, const char *name, const char *stored,
                             const char *serialized, lumo_type type, lumo_error *error) {
  if (schema->count == schema->capacity) {
    uint32_t capacity = schema->capacity ? schema->capacity * 2 : 8;
    lumo_column **columns = lumo_realloc(schema->columns, capacity * sizeof *columns);
    if (!columns) {
      lumo_error_memory(error);
      return NULL;
    }
    schema->columns = columns;
    schema->capacity = capacity;
  }
  lumo_column *column = column_new(name, stored, serialized, type, error);
  if (column) schema->columns[schema->count++] = column;
  return column;
}

/* ---- sealing and looking up ---- */

/* By the first and the last 8 bytes: what the names of one model have in the middle seldom tells them apart,
 * and they are compared anyway. */
static uint32_t hash_text(const char *text, size_t len) {
  const uint8_t *p = (const uint8_t *)text;
  uint64_t hash = len;
  if (len >= 8)
    hash ^= lumo_load64(p) ^ lumo_load64(p + len - 8) * 0x9E3779B97F4A7C15u;
  else if (len >= 4)
    hash ^= (uint64_t)lumo_load32(p) << 32 ^ (uint64_t)lumo_load32(p + len - 4) << 8;
  else if (len > 0)
    hash ^= (uint64_t)p[0] << 24 ^ (uint64_t)p[len / 2] << 16 ^ (uint64_t)p[len - 1] << 8;
  hash *= 0xD6E8FEB86659FD93u;
  return (uint32_t)(hash >> 32);
}

static const char *text_of(const lumo_column *column, bool stored, uint32_t *len) {
  *len = stored ? column->stored_len : column->name_len;
  return stored ? column->stored : column->name;
}

/* The slot that holds the name, or the free one where it belongs. */
static uint32_t *slot_of(const lumo_schema *schema, bool stored, const char *text, size_t len) {
  uint32_t *slots = stored ? schema->by_stored : schema->by_name;
  for (uint32_t at = hash_text(text, len);; at++) {
    uint32_t *slot = &slots[at & schema->mask];
    if (*slot == 0) return slot;
    uint32_t other_len;
    const char *other = text_of(schema->columns[*slot - 1], stored, &other_len);
    if (other_len == len && memcmp(other, text, len) == 0) return slot;
  }
}

static bool put_primary_first(lumo_schema *schema, lumo_error *error) {
  uint32_t found = schema->count;
  for (uint32_t i = 0; i < schema->count; i++) {
    if (!schema->columns[i]->primary) continue;
    if (found < schema->count)
      return lumo_error_set(error, "E_ARGUMENT", "\"%s\" model has two primary columns, \"%s\" and \"%s\"",
                            schema->model, schema->columns[found]->name, schema->columns[i]->name);
    found = i;
  }
  if (found == schema->count) return true;
  lumo_column *primary = schema->columns[found];
  memmove(schema->columns + 1, schema->columns, found * sizeof *schema->columns);
  schema->columns[0] = primary;
  schema->primary = 0;
  return true;
}

static bool enter_column(lumo_schema *schema, const lumo_column *column, bool stored, lumo_error *error) {
  uint32_t len;
  const char *text = text_of(column, stored, &len);
  uint32_t *slot = slot_of(schema, stored, text, len);
  if (*slot != 0)
    return lumo_error_set(error, "E_ARGUMENT", "\"%s\" model has two columns %s \"%s\"", schema->model,
                          stored ? "stored as" : "of the name", text);
  *slot = column->index + 1;
  return true;
}

/* Whether what a column holds is spelt differently by its three names. */
static bool renames_inside(const lumo_column *column) {
  if (column->of && renames_inside(column->of)) return true;
  for (uint32_t i = 0; column->fields && i < column->fields->count; i++) {
    const lumo_column *inner = column->fields->columns[i];
    if (!inner->serialized || strcmp(inner->name, inner->stored) != 0 ||
        strcmp(inner->name, inner->serialized) != 0 || renames_inside(inner))
      return true;
  }
  return false;
}

bool lumo_schema_seal(lumo_schema *schema, lumo_error *error) {
  uint32_t slots = 4;
  while (slots < schema->count * 2) slots *= 2;
  if (!put_primary_first(schema, error)) return false;
  schema->by_name = lumo_calloc(slots, sizeof *schema->by_name);
  schema->by_stored = lumo_calloc(slots, sizeof *schema->by_stored);
  if (!schema->by_name || !schema->by_stored) return lumo_error_memory(error);
  schema->mask = slots - 1;
  for (uint32_t i = 0; i < schema->count; i++) {
    schema->columns[i]->index = i;
    schema->columns[i]->renamed = renames_inside(schema->columns[i]);
    if (!enter_column(schema, schema->columns[i], false, error) ||
        !enter_column(schema, schema->columns[i], true, error))
      return false;
  }
  return true;
}

static const lumo_column *find(const lumo_schema *schema, bool stored, const char *text, size_t len) {
  uint32_t index = *slot_of(schema, stored, text, len);
  return index ? schema->columns[index - 1] : NULL;
}

const lumo_column *lumo_schema_find(const lumo_schema *schema, const char *name, size_t len) {
  return find(schema, false, name, len);
}

const lumo_column *lumo_schema_find_stored(const lumo_schema *schema, const char *stored, size_t len) {
  return find(schema, true, stored, len);
}

/* ---- suggestions ---- */

enum { NEAREST_MAX = 63 }; /* longer names get no suggestion */

/* Insertions, deletions, replacements and swaps of neighbours that turn one text into the other; both at most
 * NEAREST_MAX bytes long. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len) {
  uint8_t rows[3][NEAREST_MAX + 1], *before = rows[0], *last = rows[1], *row = rows[2];
  for (size_t j = 0; j <= b_len; j++) last[j] = (uint8_t)j;
  for (size_t i = 1; i <= a_len; i++) {
    row[0] = (uint8_t)i;
    for (size_t j = 1; j <= b_len; j++) {
      unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
      if (last[j] + 1u < best) best = last[j] + 1u;
      if (row[j - 1] + 1u < best) best = row[j - 1] + 1u;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1u < best)
        best = before[j - 2] + 1u;
      row[j] = (uint8_t)best;
    }
    uint8_t *reused = before;
    before = last;
    last = row;
    row = reused;
  }
  return last[b_len];
}

const char *lumo_schema_nearest(const lumo_schema *schema, const char *name, size_t len) {
  const char *nearest = NULL;
  unsigned limit = len <= 3 ? 1 : len <= 7 ? 2 : 3; /* a third of a name may be wrong, not all of it */
  if (len > NEAREST_MAX) return NULL;
  for (uint32_t i = 0; i < schema->count; i++) {
    const lumo_column *column = schema->columns[i];
    if (column->name_len > NEAREST_MAX) continue;
    unsigned distance = edit_distance(name, len, column->name, column->name_len);
    if (distance > limit) continue;
    nearest = column->name;
    if (distance == 0) break;
    limit = distance - 1; /* of equally near ones the first */
  }
  return nearest;
}

enum { NAME_SHOWN = 80 }; /* bytes of a name in a message */

static bool undefined(const lumo_schema *schema, const char *prefix, size_t prefix_len, const char *name,
                      size_t len, const char *nearest, lumo_error *error) {
  int lead = (int)(prefix_len < NAME_SHOWN ? prefix_len : NAME_SHOWN),
      shown = (int)(len < NAME_SHOWN ? len : NAME_SHOWN);
  snprintf(error->attribute, sizeof error->attribute, "%.*s%.*s", lead, prefix, shown, name);
  if (!nearest)
    return lumo_error_set(error, "E_UNDEFINED_COLUMN", "\"%s\" is not a column of the \"%s\" model",
                          error->attribute, schema->model);
  return lumo_error_set(error, "E_UNDEFINED_COLUMN",
                        "\"%s\" is not a column of the \"%s\" model. Did you mean \"%.*s%s\"?",
                        error->attribute, schema->model, lead, prefix, nearest);
}

bool lumo_schema_undefined(const lumo_schema *schema, const char *prefix, const char *name, size_t len,
                           lumo_error *error) {
  return undefined(schema, prefix, strlen(prefix), name, len, lumo_schema_nearest(schema, name, len), error);
}

/* ---- paths ---- */

static bool check_path(const char *path, size_t len, lumo_error *error) {
  if (memchr(path, 0, len) || !lumo_utf8_valid(path, len))
    return lumo_error_set(error, "E_ARGUMENT", "a column name is UTF-8 text without NUL");
  for (size_t i = 0; i <= len; i++) {
    bool starts = i == 0 || path[i - 1] == '.';
    if (starts && (i == len || path[i] == '.'))
      return lumo_error_set(error, "E_ARGUMENT", "a column name or a part of a dotted path is empty");
    if (starts && path[i] == '$')
      return lumo_error_set(error, "E_ARGUMENT",
                            "a column name or a part of a dotted path begins with \"$\"");
  }
  return true;
}

static size_t part_len(const char *path, size_t len) {
  const char *dot = memchr(path, '.', len);
  return dot ? (size_t)(dot - path) : len;
}

static bool is_position(const char *part, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (part[i] < '0' || part[i] > '9') return false;
  return true;
}

/* The column of the longest name that the path begins with, up to a dot or its end: a name that holds a dot
 * wins over splitting there. */
static const lumo_column *longest_match(const lumo_schema *schema, const char *path, size_t len,
                                        size_t *used) {
  for (*used = len;;) {
    const lumo_column *column = lumo_schema_find(schema, path, *used);
    if (column) return column;
    while (*used > 0 && path[*used - 1] != '.') --*used;
    if (*used == 0) return NULL;
    --*used;
  }
}

/* The rest of a path below `column` (NULL: untyped), as far as arrays and untyped values go: positions and
 * names that nothing declares are stored as they are. Moves *path to where a nested schema takes over. */
static const lumo_column *walk_arrays(const lumo_column *column, const char **path, size_t *len,
                                      lumo_buf *stored) {
  while (*len > 0 && column && column->type == LUMO_ARRAY) {
    size_t part = part_len(*path, *len);
    if (is_position(*path, part)) {
      lumo_buf_append(stored, ".", 1);
      lumo_buf_append(stored, *path, part);
      size_t step = part < *len ? part + 1 : part;
      *path += step;
      *len -= step;
    } /* any other part names a field of the elements */
    column = column->of;
  }
  return column;
}

static bool has_names(const lumo_column *column) {
  return !column || column->type == LUMO_ANY || column->type == LUMO_OBJECT || column->type == LUMO_ARRAY;
}

bool lumo_schema_resolve(const lumo_schema *schema, const char *path, size_t len, lumo_buf *stored,
                         const lumo_column **column, lumo_error *error) {
  const char *whole = path;
  const lumo_schema *inside = schema;
  if (!check_path(path, len, error)) return false;
  *column = NULL;
  while (inside && len > 0) {
    size_t lead = (size_t)(path - whole), part = part_len(path, len), used;
    const lumo_column *found = longest_match(inside, path, len, &used);
    if (!found && inside->strict)
      return undefined(inside, whole, lead, path, part, lumo_schema_nearest(inside, path, part), error);
    if (!found) break;
    if (lead > 0) lumo_buf_append(stored, ".", 1);
    lumo_buf_append(stored, found->stored, found->stored_len);
    path += used < len ? used + 1 : used;
    len -= used < len ? used + 1 : used;
    found = walk_arrays(found, &path, &len, stored);
    if (len > 0 && !has_names(found))
      return undefined(schema, whole, (size_t)(path - whole), path, part_len(path, len), NULL, error);
    inside = found && found->type == LUMO_OBJECT ? found->fields : NULL;
    *column = len > 0 ? NULL : found;
  }
  if (len > 0 && path != whole) lumo_buf_append(stored, ".", 1);
  lumo_buf_append(stored, path, len);
  return !stored->failed || lumo_error_memory(error);
}
