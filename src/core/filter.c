#include "filter.h"

#include <string.h>

#include "mem.h"

lumo_filter lumo_filter_lend(void *bytes, size_t size, struct lumo_clause *clauses, uint32_t capacity) {
  return (lumo_filter){
      .bytes = lumo_buf_lend(bytes, size), .clauses = clauses, .capacity = capacity, .lent = true};
}

void lumo_filter_free(lumo_filter *filter) {
  lumo_buf_free(&filter->bytes);
  if (!filter->lent) lumo_free(filter->clauses);
  memset(filter, 0, sizeof *filter);
}

bool lumo_filter_copy(lumo_filter *to, const lumo_filter *from) {
  memset(to, 0, sizeof *to);
  if (from->count == 0) return true;
  lumo_buf_append(&to->bytes, from->bytes.data, from->bytes.len);
  to->clauses = lumo_malloc(from->count * sizeof *to->clauses);
  if (!to->clauses || to->bytes.failed) {
    lumo_filter_free(to);
    return false;
  }
  memcpy(to->clauses, from->clauses, from->count * sizeof *to->clauses);
  to->count = to->capacity = from->count;
  to->depth = from->depth;
  to->base = from->base;
  return true;
}

/* The end of the last finished condition: what stands beyond it is a condition that failed half-way. */
static uint32_t finished(const lumo_filter *filter) {
  for (uint32_t i = filter->count; i > 0; i--) {
    const struct lumo_clause *c = &filter->clauses[i - 1];
    if (c->kind == LUMO_CLAUSE_CONDITION) return c->offset + c->len;
  }
  return 0;
}

static bool add(lumo_filter *filter, struct lumo_clause clause) {
  if (filter->count == filter->capacity) {
    uint32_t capacity = filter->capacity ? filter->capacity * 2 : 8;
    struct lumo_clause *grown = lumo_realloc(filter->lent ? NULL : filter->clauses, capacity * sizeof *grown);
    if (!grown) return false;
    if (filter->lent) memcpy(grown, filter->clauses, filter->count * sizeof *grown);
    filter->lent = false;
    filter->clauses = grown;
    filter->capacity = capacity;
  }
  filter->clauses[filter->count++] = clause;
  return true;
}

void lumo_filter_begin(lumo_filter *filter) {
  filter->bytes.len = finished(filter);
  filter->bytes.failed = false;
}

bool lumo_filter_end(lumo_filter *filter, lumo_join join, bool negated, lumo_side side) {
  if (filter->bytes.failed) return false;
  uint32_t offset = finished(filter);
  return add(filter, (struct lumo_clause){.kind = LUMO_CLAUSE_CONDITION,
                                          .join = join,
                                          .negated = negated,
                                          .side = side,
                                          .offset = offset,
                                          .len = (uint32_t)filter->bytes.len - offset});
}

bool lumo_filter_open(lumo_filter *filter, lumo_join join, bool negated, lumo_error *error) {
  if (filter->depth >= LUMO_FILTER_MAX_DEPTH)
    return lumo_error_set(error, "E_ARGUMENT", "where groups are nested deeper than %d",
                          LUMO_FILTER_MAX_DEPTH);
  if (!add(filter, (struct lumo_clause){.kind = LUMO_CLAUSE_GROUP, .join = join, .negated = negated}))
    return lumo_error_memory(error);
  filter->depth++;
  return true;
}

void lumo_filter_close(lumo_filter *filter) {
  if (filter->depth == 0) return;
  filter->depth--;
  if (filter->clauses[filter->count - 1].kind == LUMO_CLAUSE_GROUP) {
    filter->count--;
    return;
  }
  /* Without memory for its end the group ends with the filter, which changes its meaning: the buffer's
   * failure flag makes the query raise. */
  if (!add(filter, (struct lumo_clause){.kind = LUMO_CLAUSE_END})) filter->bytes.failed = true;
}

lumo_filter_mark lumo_filter_position(const lumo_filter *filter) {
  return (lumo_filter_mark){filter->count, filter->depth};
}

void lumo_filter_rewind(lumo_filter *filter, lumo_filter_mark mark) {
  if (mark.count <= filter->count) filter->count = mark.count;
  filter->depth = mark.depth;
}

/* The clause after clause i, groups stepped over whole. */
static uint32_t after(const lumo_filter *f, uint32_t i) {
  uint32_t depth = 0;
  for (; i < f->count; i++) {
    if (f->clauses[i].kind == LUMO_CLAUSE_GROUP) depth++;
    if (f->clauses[i].kind == LUMO_CLAUSE_END) depth--;
    if (depth == 0) return i + 1;
  }
  return i;
}

/* Where the group at i ends inside: at its END, if it is closed. */
static uint32_t inside(const lumo_filter *f, uint32_t i) {
  uint32_t end = after(f, i);
  return f->clauses[end - 1].kind == LUMO_CLAUSE_END ? end - 1 : end;
}

/* What writes a filter: paired, the pivot's paths lead into the field that holds the pivot row. */
typedef struct writer {
  const lumo_filter *filter;
  bool paired;
} writer;

static void write_level(const writer *w, uint32_t from, uint32_t to, lumo_buf *out);

/* The elements of a condition, whose names are paths: only where_column and where_raw have operators there,
 * and neither is the pivot's. */
static void write_condition(const writer *w, const struct lumo_clause *c, lumo_buf *out) {
  const uint8_t *document = w->filter->bytes.data + c->offset;
  lumo_iter it;
  if (!w->paired || c->side != LUMO_SIDE_PIVOT) {
    lumo_buf_append(out, document + 4, c->len - 5);
    return;
  }
  lumo_iter_init(&it, document, c->len);
  while (lumo_iter_next(&it)) {
    lumo_buf_append(out, &it.value.type, 1);
    lumo_buf_append(out, LUMO_KEY(LUMO_PIVOT_FIELD "."));
    lumo_buf_append(out, it.key, it.key_len + 1);
    lumo_buf_append(out, it.value.data, it.value.len);
  }
}

/* The elements of one clause, without a document around them. */
static void write_clause(const writer *w, uint32_t i, lumo_buf *out) {
  const lumo_filter *f = w->filter;
  const struct lumo_clause *c = &f->clauses[i];
  size_t array = 0, document = 0;
  if (c->negated) {
    array = lumo_bson_begin_array(out, LUMO_KEY("$nor"));
    document = lumo_bson_begin_document(out, LUMO_KEY("0"));
  }
  if (c->kind == LUMO_CLAUSE_CONDITION) {
    write_condition(w, c, out);
  } else {
    write_level(w, i + 1, inside(f, i), out);
  }
  if (c->negated) {
    lumo_bson_end(out, document);
    lumo_bson_end(out, array);
  }
}

/* The clauses from..to have no `or` among them. */
static void write_term(const writer *w, uint32_t from, uint32_t to, lumo_buf *out) {
  const lumo_filter *f = w->filter;
  if (after(f, from) >= to) {
    write_clause(w, from, out);
    return;
  }
  size_t array = lumo_bson_begin_array(out, LUMO_KEY("$and"));
  uint32_t n = 0;
  for (uint32_t i = from; i < to; i = after(f, i)) {
    lumo_bson_index(out, LUMO_BSON_DOCUMENT, n++);
    size_t mark = lumo_bson_begin(out);
    write_clause(w, i, out);
    lumo_bson_end(out, mark);
  }
  lumo_bson_end(out, array);
}

static uint32_t term_end(const lumo_filter *f, uint32_t from, uint32_t to) {
  uint32_t i = after(f, from);
  while (i < to && f->clauses[i].join == LUMO_AND) i = after(f, i);
  return i;
}

static void write_level(const writer *w, uint32_t from, uint32_t to, lumo_buf *out) {
  if (from >= to) return;
  uint32_t end = term_end(w->filter, from, to);
  if (end >= to) {
    write_term(w, from, to, out);
    return;
  }
  size_t array = lumo_bson_begin_array(out, LUMO_KEY("$or"));
  uint32_t n = 0;
  for (; from < to; from = end) {
    end = term_end(w->filter, from, to);
    lumo_bson_index(out, LUMO_BSON_DOCUMENT, n++);
    size_t mark = lumo_bson_begin(out);
    write_term(w, from, end, out);
    lumo_bson_end(out, mark);
  }
  lumo_bson_end(out, array);
}

bool lumo_filter_wrap(lumo_filter *filter) {
  uint32_t from = filter->base;
  if (from == filter->count || term_end(filter, from, filter->count) >= filter->count) return true;
  const struct lumo_clause group = {.kind = LUMO_CLAUSE_GROUP, .join = LUMO_AND},
                           end = {.kind = LUMO_CLAUSE_END};
  if (!add(filter, end) || !add(filter, end)) return false;
  memmove(filter->clauses + from + 1, filter->clauses + from,
          (filter->count - from - 2) * sizeof *filter->clauses);
  filter->clauses[from] = group;
  return true;
}

void lumo_filter_settle(lumo_filter *filter) {
  filter->base = filter->count;
}

static lumo_truth level_truth(const lumo_filter *f, uint32_t from, uint32_t to);

static lumo_truth clause_truth(const lumo_filter *f, uint32_t i) {
  static const lumo_truth opposite[] = {LUMO_TRUTH_DEPENDS, LUMO_TRUTH_NEVER, LUMO_TRUTH_ALWAYS};
  const struct lumo_clause *c = &f->clauses[i];
  lumo_truth truth = c->kind == LUMO_CLAUSE_CONDITION ? c->truth : level_truth(f, i + 1, inside(f, i));
  return c->negated ? opposite[truth] : truth;
}

static lumo_truth term_truth(const lumo_filter *f, uint32_t from, uint32_t to) {
  lumo_truth all = LUMO_TRUTH_ALWAYS;
  for (uint32_t i = from; i < to; i = after(f, i)) {
    lumo_truth one = clause_truth(f, i);
    if (one == LUMO_TRUTH_NEVER) return one;
    if (one == LUMO_TRUTH_DEPENDS) all = one;
  }
  return all;
}

/* Of clauses with `or` among them; of none: always. */
static lumo_truth level_truth(const lumo_filter *f, uint32_t from, uint32_t to) {
  lumo_truth any = from < to ? LUMO_TRUTH_NEVER : LUMO_TRUTH_ALWAYS;
  for (uint32_t end; from < to; from = end) {
    end = term_end(f, from, to);
    lumo_truth one = term_truth(f, from, end);
    if (one == LUMO_TRUTH_ALWAYS) return one;
    if (one == LUMO_TRUTH_DEPENDS) any = one;
  }
  return any;
}

bool lumo_filter_narrows(const lumo_filter *filter) {
  return level_truth(filter, filter->base, filter->count) != LUMO_TRUTH_ALWAYS;
}

/* The sides of which the clauses from..to speak. */
static unsigned sides(const lumo_filter *f, uint32_t from, uint32_t to) {
  unsigned mask = 0;
  for (uint32_t i = from; i < to; i++)
    if (f->clauses[i].kind == LUMO_CLAUSE_CONDITION) mask |= f->clauses[i].side;
  return mask;
}

/* The same, where what is joined belongs to the documents that it is joined to. */
static unsigned stored_sides(const lumo_filter *f, uint32_t from, uint32_t to) {
  unsigned mask = sides(f, from, to);
  return mask & LUMO_SIDE_JOINED ? (mask & ~(unsigned)LUMO_SIDE_JOINED) | LUMO_SIDE_RELATED : mask;
}

bool lumo_filter_has(const lumo_filter *filter, lumo_side side) {
  return (sides(filter, 0, filter->count) & side) != 0;
}

/* Groups may stand inside groups: LUMO_FILTER_MAX_DEPTH of them. */
static bool range_splits(const lumo_filter *f, uint32_t from, uint32_t to) {
  if (stored_sides(f, from, to) != LUMO_SIDE_BOTH) return true;
  if (term_end(f, from, to) < to) return false;
  for (uint32_t i = from; i < to; i = after(f, i)) {
    if (stored_sides(f, i, after(f, i)) != LUMO_SIDE_BOTH) continue;
    const struct lumo_clause *c = &f->clauses[i];
    if (c->kind == LUMO_CLAUSE_CONDITION || c->negated || !range_splits(f, i + 1, inside(f, i))) return false;
  }
  return true;
}

bool lumo_filter_splits(const lumo_filter *filter) {
  return range_splits(filter, 0, filter->base) && range_splits(filter, filter->base, filter->count);
}

static void write_element(const writer *w, uint32_t from, uint32_t to, lumo_buf *out, uint32_t *n) {
  lumo_bson_index(out, LUMO_BSON_DOCUMENT, (*n)++);
  size_t mark = lumo_bson_begin(out);
  write_level(w, from, to, out);
  lumo_bson_end(out, mark);
}

/* Which parts of a filter are written: those that speak of sides in `mask` alone, and of one in `must` (0: of
 * any). */
typedef struct choice {
  unsigned mask, must;
} choice;

static bool is_chosen(choice which, unsigned speaks) {
  return speaks && (speaks & which.mask) == speaks && (!which.must || (speaks & which.must));
}

/* What of from..to is chosen, as elements of an $and: all of it, else its parts that are joined by `and`. */
static void write_range(const writer *w, uint32_t from, uint32_t to, choice which, lumo_buf *out,
                        uint32_t *n) {
  const lumo_filter *f = w->filter;
  unsigned speaks = sides(f, from, to);
  bool is_and = from < to && term_end(f, from, to) >= to;
  if (is_chosen(which, speaks) && !(which.must && is_and && after(f, from) < to)) {
    write_element(w, from, to, out, n);
    return;
  }
  for (uint32_t i = from; is_and && i < to; i = after(f, i)) {
    const struct lumo_clause *c = &f->clauses[i];
    if (is_chosen(which, sides(f, i, after(f, i))))
      write_element(w, i, after(f, i), out, n);
    else if (c->kind == LUMO_CLAUSE_GROUP && !c->negated)
      write_range(w, i + 1, inside(f, i), which, out, n);
  }
}

static void write_chosen(const writer *w, choice which, lumo_buf *out) {
  const lumo_filter *filter = w->filter;
  size_t mark = lumo_bson_begin(out);
  unsigned speaks = sides(filter, 0, filter->count);
  bool whole = (speaks & which.mask) == speaks && !which.must;
  if (filter->bytes.failed) out->failed = true;
  if (whole && (filter->base == 0 || filter->base == filter->count)) {
    write_level(w, 0, filter->count, out);
  } else {
    uint32_t n = 0;
    size_t before = out->len;
    size_t array = lumo_bson_begin_array(out, LUMO_KEY("$and"));
    write_range(w, 0, filter->base, which, out, &n);
    write_range(w, filter->base, filter->count, which, out, &n);
    lumo_bson_end(out, array);
    if (n == 0 && !out->failed) out->len = before; /* the server refuses an empty $and */
  }
  lumo_bson_end(out, mark);
}

void lumo_filter_write(const lumo_filter *filter, lumo_buf *out) {
  write_chosen(&(writer){filter, false}, (choice){LUMO_SIDE_BOTH | LUMO_SIDE_JOINED, 0}, out);
}

void lumo_filter_write_side(const lumo_filter *filter, unsigned mask, lumo_buf *out) {
  write_chosen(&(writer){filter, false}, (choice){mask, 0}, out);
}

void lumo_filter_write_joined(const lumo_filter *filter, lumo_side side, lumo_buf *out) {
  write_chosen(&(writer){filter, false}, (choice){side | LUMO_SIDE_JOINED, LUMO_SIDE_JOINED}, out);
}

void lumo_filter_write_paired(const lumo_filter *filter, lumo_buf *out) {
  write_chosen(&(writer){filter, true}, (choice){LUMO_SIDE_BOTH | LUMO_SIDE_JOINED, 0}, out);
}

/* ---- over one value ---- */

/* A document of operators knows `and` (its elements) and $not, and of these all else is made: a or b is
 * not (not a and not b). */
static void write_operators(const lumo_filter *f, uint32_t from, uint32_t to, lumo_buf *out);

/* The operators of a condition `{"": {…}}`. */
static lumo_value operators_of(const lumo_filter *f, const struct lumo_clause *c) {
  lumo_value operators = {0};
  lumo_bson_find(f->bytes.data + c->offset, c->len, "", 0, &operators);
  return operators;
}

/* Whether none of the operators stands in the document that is being written from `mark` on. */
static bool are_new(const lumo_value *operators, const lumo_buf *out, size_t mark) {
  lumo_buf written = {.data = out->data + mark, .len = out->len - mark};
  lumo_iter mine, theirs;
  if (!lumo_iter_value(&mine, operators)) return false;
  while (lumo_iter_next(&mine)) {
    theirs = lumo_iter_elements(&written);
    while (lumo_iter_next(&theirs))
      if (strcmp(mine.key, theirs.key) == 0) return false;
  }
  return true;
}

static void write_negated(const lumo_filter *f, uint32_t i, unsigned negations, lumo_buf *out) {
  const struct lumo_clause *c = &f->clauses[i];
  size_t marks[2];
  for (unsigned n = 0; n < negations; n++) marks[n] = lumo_bson_begin_document(out, LUMO_KEY("$not"));
  if (c->kind == LUMO_CLAUSE_CONDITION) {
    lumo_value operators = operators_of(f, c);
    lumo_buf_append(out, operators.data + 4, operators.len - 5);
  } else {
    uint32_t end = after(f, i);
    if (f->clauses[end - 1].kind == LUMO_CLAUSE_END) end--;
    write_operators(f, i + 1, end, out);
  }
  while (negations > 0) lumo_bson_end(out, marks[--negations]);
}

static void write_operators_term(const lumo_filter *f, uint32_t from, uint32_t to, lumo_buf *out) {
  size_t mark = out->len;
  for (uint32_t i = from; i < to && !out->failed; i = after(f, i)) {
    const struct lumo_clause *c = &f->clauses[i];
    bool plain = from == i && after(f, i) >= to;
    if (!c->negated && !plain && c->kind == LUMO_CLAUSE_CONDITION) {
      lumo_value operators = operators_of(f, c);
      plain = are_new(&operators, out, mark);
    }
    write_negated(f, i, c->negated ? 1 : plain ? 0 : 2, out);
  }
}

static void write_operators(const lumo_filter *f, uint32_t from, uint32_t to, lumo_buf *out) {
  if (from >= to) return;
  uint32_t end = term_end(f, from, to);
  if (end >= to) {
    write_operators_term(f, from, to, out);
    return;
  }
  size_t neither = lumo_bson_begin_document(out, LUMO_KEY("$not"));
  for (; from < to; from = end) {
    end = term_end(f, from, to);
    size_t term = lumo_bson_begin_document(out, LUMO_KEY("$not"));
    write_operators_term(f, from, end, out);
    lumo_bson_end(out, term);
  }
  lumo_bson_end(out, neither);
}

void lumo_filter_write_element(const lumo_filter *filter, lumo_buf *out) {
  size_t mark = lumo_bson_begin(out);
  if (filter->bytes.failed) out->failed = true;
  write_operators(filter, 0, filter->count, out);
  lumo_bson_end(out, mark);
}

/* ---- patterns ---- */

void lumo_like_pattern(lumo_buf *out, const char *like, size_t len) {
  lumo_buf_append(out, "^", 1);
  for (size_t i = 0; i < len; i++) {
    char c = like[i];
    if (c == '%') {
      if (i + 1 == len) return; /* any end will do: the server then reads an index's range and nothing else */
      lumo_buf_append(out, ".*", 2);
    } else if (c == '_') {
      lumo_buf_append(out, ".", 1);
    } else {
      if (c == '\\' && i + 1 < len) c = like[++i];
      if (c && strchr("\\^$.|?*+()[]{}-/#", c)) lumo_buf_append(out, "\\", 1);
      lumo_buf_append(out, &c, 1);
    }
  }
  lumo_buf_append(out, "\\z", 2); /* "$" matches before a newline at the end, too */
}
