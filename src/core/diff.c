#include "diff.h"

#include <stdio.h>

static bool diff_value(lumo_diff *diff, const lumo_value *before, const lumo_value *after, int depth);

static bool is_nested(const lumo_value *v) {
  return v->type == LUMO_BSON_DOCUMENT || v->type == LUMO_BSON_ARRAY;
}

/* Equal to the byte: numbers of different types are not, as what was assigned is what is to be stored. */
static bool is_same(const lumo_value *a, const lumo_value *b) {
  return a->type == b->type && a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* Whether a path may name the field. A number would name a position if the document became an array. */
static bool can_be_part(const char *key, uint32_t len) {
  uint32_t digits = 0;
  if (len == 0 || key[0] == '$' || memchr(key, '.', len)) return false;
  while (digits < len && key[digits] >= '0' && key[digits] <= '9') digits++;
  return digits < len;
}

static size_t enter(lumo_diff *diff, const char *key, size_t len) {
  size_t before = diff->path->len;
  if (before > 0) lumo_buf_append(diff->path, ".", 1);
  lumo_buf_append(diff->path, key, len);
  return before;
}

static const char *path_text(const lumo_diff *diff) {
  return (const char *)diff->path->data;
}

static void put(const lumo_diff *diff, lumo_buf *out, const lumo_value *value) {
  if (diff->path->failed)
    out->failed = true;
  else if (value)
    lumo_bson_value(out, path_text(diff), diff->path->len, value);
  else
    lumo_bson_null(out, path_text(diff), diff->path->len);
}

/* What had been added at some moment. */
typedef struct extent {
  size_t set, unset, guard;
} extent;

static extent extent_of(const lumo_diff *diff) {
  return (extent){diff->set->len, diff->unset->len, diff->guard->len};
}

static void take_back(lumo_diff *diff, const extent *start) {
  diff->set->len = start->set;
  diff->unset->len = start->unset;
  diff->guard->len = start->guard;
}

/* ---- documents ---- */

static bool has_key(const lumo_value *document, const lumo_iter *it) {
  lumo_value found;
  return lumo_bson_find(document->data, document->len, it->key, it->key_len, &found);
}

/* A field that is in one of the documents only. */
static bool diff_field(lumo_diff *diff, const lumo_iter *it, const lumo_value *added) {
  if (!can_be_part(it->key, it->key_len)) return false;
  size_t mark = enter(diff, it->key, it->key_len);
  put(diff, added ? diff->set : diff->unset, added);
  diff->path->len = mark;
  return true;
}

static bool diff_common_field(lumo_diff *diff, const lumo_iter *before, const lumo_iter *after, int depth) {
  if (is_same(&before->value, &after->value)) return true;
  if (!can_be_part(before->key, before->key_len)) return false;
  size_t mark = enter(diff, before->key, before->key_len);
  bool done = diff_value(diff, &before->value, &after->value, depth);
  diff->path->len = mark;
  return done;
}

/* The encoder keeps the order of the fields that were there, so that one walk along both finds what was
 * removed; new ones are at the end. Anything else is another order. */
static bool diff_documents(lumo_diff *diff, const lumo_value *before, const lumo_value *after, int depth) {
  lumo_iter old, new;
  if (!lumo_iter_value(&old, before) || !lumo_iter_value(&new, after)) return false;
  bool more = lumo_iter_next(&new);
  while (lumo_iter_next(&old)) {
    if (more && old.key_len == new.key_len &&memcmp(old.key, new.key, old.key_len) == 0) {
      if (!diff_common_field(diff, &old, &new, depth)) return false;
      more = lumo_iter_next(&new);
    } else if (has_key(after, &old) || !diff_field(diff, &old, NULL)) {
      return false;
    }
  }
  for (; more; more = lumo_iter_next(&new))
    if (has_key(before, &new) || !diff_field(diff, &new, &new.value)) return false;
  return !old.bad && !new.bad;
}

/* ---- arrays ---- */

static uint32_t count_elements(const lumo_value *array) {
  lumo_iter it;
  uint32_t count = 0;
  lumo_iter_value(&it, array);
  while (lumo_iter_next(&it)) count++;
  return count;
}

static void guard_size(lumo_diff *diff, uint32_t count) {
  if (diff->path->failed) return;
  size_t mark = lumo_bson_begin_document(diff->guard, path_text(diff), diff->path->len);
  lumo_bson_int32(diff->guard, LUMO_KEY("$size"), (int32_t)count);
  lumo_bson_end(diff->guard, mark);
}

/* By the element's _id, if it has one: false otherwise. The path is the element's. */
static bool guard_identity(lumo_diff *diff, const lumo_value *element) {
  lumo_value id;
  if (element->type != LUMO_BSON_DOCUMENT ||
      !lumo_bson_find(element->data, element->len, LUMO_KEY("_id"), &id) || lumo_value_is_null(&id))
    return false;
  size_t part = enter(diff, LUMO_KEY("_id"));
  if (!diff->path->failed) {
    size_t mark = lumo_bson_begin_document(diff->guard, path_text(diff), diff->path->len);
    lumo_bson_value(diff->guard, LUMO_KEY("$eq"), &id);
    lumo_bson_end(diff->guard, mark);
  }
  diff->path->len = part;
  return true;
}

/* Element by element; both have `count`. */
static bool diff_elements(lumo_diff *diff, const lumo_value *before, const lumo_value *after, uint32_t count,
                          int depth) {
  lumo_iter old, new;
  uint32_t position = 0;
  bool sized = false;
  if (!lumo_iter_value(&old, before) || !lumo_iter_value(&new, after)) return false;
  for (; lumo_iter_next(&old) && lumo_iter_next(&new); position++) {
    char digits[12];
    if (is_same(&old.value, &new.value)) continue;
    size_t mark = enter(diff, digits, (size_t)snprintf(digits, sizeof digits, "%u", position));
    bool identified = guard_identity(diff, &old.value);
    bool done = diff_value(diff, &old.value, &new.value, depth);
    diff->path->len = mark;
    if (!done) return false;
    if (!identified && !sized) {
      guard_size(diff, count);
      sized = true;
    }
  }
  return !old.bad && !new.bad;
}

/* An array is set whole where its length has changed, as positions then mean other elements. Else never,
 * though it may be shorter: it would undo what others do to other elements. */
static bool diff_arrays(lumo_diff *diff, const lumo_value *before, const lumo_value *after, int depth) {
  uint32_t count = count_elements(before);
  if (count == count_elements(after)) return diff_elements(diff, before, after, count, depth);
  put(diff, diff->set, after);
  return true;
}

/* ---- both ---- */

/* At the current path, where the values differ. */
static bool diff_value(lumo_diff *diff, const lumo_value *before, const lumo_value *after, int depth) {
  if (depth > LUMO_BSON_MAX_DEPTH) return false;
  if (before->type != after->type || !is_nested(before)) {
    put(diff, diff->set, after);
    return true;
  }
  if (before->type == LUMO_BSON_ARRAY) return diff_arrays(diff, before, after, depth + 1);
  return diff_documents(diff, before, after, depth + 1);
}

bool lumo_diff_add(lumo_diff *diff, const char *name, size_t name_len, const lumo_value *before,
                   const lumo_value *after) {
  const extent start = extent_of(diff);
  lumo_buf_clear(diff->path);
  enter(diff, name, name_len);
  if (before->type == after->type && is_nested(before) && diff_value(diff, before, after, 1)) return true;
  take_back(diff, &start);
  return false;
}
