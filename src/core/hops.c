#include "hops.h"

#include <string.h>

/* Where a join inside of a pipeline puts what it finds. */
#define FOUND "lumo:h"

static void write_text(lumo_buf *out, const char *key, const char *text) {
  lumo_bson_string(out, key, strlen(key), text, strlen(text));
}

/* ---- the way ---- */

static bool is_asked(const lumo_way *way, const lumo_hop *hop) {
  const lumo_query *query = way->query;
  if (!hop->side) return false;
  return lumo_filter_has(&query->filter, hop->side) ||
         (hop->side == LUMO_SIDE_RELATED && query->join_count > 0);
}

uint32_t lumo_way_reach(const lumo_way *way, unsigned side) {
  for (uint32_t i = way->count; i > 1; i--) {
    const lumo_hop *hop = &way->hops[i - 1];
    if (!hop->optional || hop->condition || is_asked(way, hop) || (side && hop->side == side)) return i;
  }
  return 1;
}

void lumo_stage_not_null(lumo_stages *stages, const char *field) {
  lumo_stage match = lumo_stage_begin(stages, "$match");
  size_t condition = lumo_bson_begin_document(stages->out, field, strlen(field));
  lumo_bson_null(stages->out, LUMO_KEY("$ne"));
  lumo_bson_end(stages->out, condition);
  lumo_stage_end(stages, match);
}

void lumo_way_conditions(const lumo_way *way, uint32_t number, lumo_stages *stages) {
  const lumo_hop *hop = &way->hops[number];
  if (is_asked(way, hop))
    lumo_query_match(way->query, hop->side, hop->condition, hop->condition_len, false, stages);
  else if (hop->condition)
    lumo_stage_document(stages, "$match", hop->condition, hop->condition_len);
}

void lumo_wanted_path(lumo_buf *out, const lumo_wanted *wanted, uint32_t from) {
  for (uint32_t i = from; i < wanted->hop; i++) lumo_buf_append(out, LUMO_KEY(FOUND "."));
  lumo_buf_append(out, wanted->field, strlen(wanted->field));
}

bool lumo_way_is_paired(const lumo_way *way) {
  return !lumo_filter_splits(&way->query->filter);
}

void lumo_way_pair(const lumo_way *way, const char *row, lumo_stages *stages) {
  lumo_buf *out = stages->out;
  lumo_stage stage = lumo_stage_begin(stages, "$replaceRoot");
  size_t root = lumo_bson_begin_document(out, LUMO_KEY("newRoot"));
  size_t merged = lumo_bson_begin_array(out, LUMO_KEY("$mergeObjects"));
  write_text(out, "0", "$" FOUND);
  size_t pivot = lumo_bson_begin_document(out, LUMO_KEY("1"));
  write_text(out, LUMO_PIVOT_FIELD, row);
  lumo_bson_end(out, pivot);
  lumo_bson_end(out, merged);
  lumo_bson_end(out, root);
  lumo_stage_end(stages, stage);
  size_t match = lumo_stage_open(stages);
  lumo_bson_key(out, LUMO_BSON_DOCUMENT, LUMO_KEY("$match"));
  lumo_filter_write_paired(&way->query->filter, out);
  lumo_bson_end(out, match);
}

/* Leaves of the documents of a hop what is wanted of them. */
static void add_projection(const lumo_wanted *wanted, uint32_t hop, lumo_stages *stages) {
  lumo_stage project = lumo_stage_begin(stages, "$project");
  if (wanted->field) {
    uint8_t type = LUMO_BSON_INT32;
    lumo_buf_append(stages->out, &type, 1);
    lumo_wanted_path(stages->out, wanted, hop);
    lumo_buf_append(stages->out, "\0\1\0\0\0", 5); /* the name's end, and 1 */
  } else {
    lumo_bson_int32(stages->out, LUMO_KEY("_id"), 1);
  }
  lumo_stage_end(stages, project);
}

/* `$lookup: {…, pipeline: [` of the documents of a hop that meet its conditions, each as often as there are
 * ways on from it; the caller ends the pipeline and then the two documents. */
typedef struct lookup {
  size_t document;
  lumo_stages stages;
} lookup;

static lookup begin_lookup(const lumo_way *way, uint32_t hop, uint32_t reach, const char *from,
                           const char *as, const lumo_wanted *wanted, lumo_buf *out) {
  const lumo_hop *to = &way->hops[hop];
  lookup l = {.document = lumo_bson_begin_document(out, LUMO_KEY("$lookup"))};
  write_text(out, "from", to->collection);
  write_text(out, "localField", from);
  write_text(out, "foreignField", to->to);
  write_text(out, "as", as);
  l.stages = lumo_stages_begin(out, "pipeline");
  if (strcmp(to->to, "_id") != 0) lumo_stage_not_null(&l.stages, to->to);
  lumo_way_conditions(way, hop, &l.stages);
  if (hop + 1 < reach) {
    lumo_way_join(way, hop + 1, reach, way->hops[hop + 1].from, wanted, &l.stages);
    if (lumo_way_is_paired(way)) lumo_way_pair(way, "$$ROOT", &l.stages);
  }
  return l;
}

static void end_lookup(lookup *l) {
  lumo_stages_end(&l->stages);
  lumo_bson_end(l->stages.out, l->document);
}

void lumo_way_join(const lumo_way *way, uint32_t hop, uint32_t reach, const char *from,
                   const lumo_wanted *wanted, lumo_stages *stages) {
  size_t stage = lumo_stage_open(stages);
  lookup l = begin_lookup(way, hop, reach, from, FOUND, wanted, stages->out);
  if (!lumo_way_is_paired(way)) add_projection(wanted, hop, &l.stages);
  end_lookup(&l);
  lumo_bson_end(stages->out, stage);
  lumo_stage_text(stages, "$unwind", "$" FOUND);
}

/* ---- conditions: has ---- */

/* `count` compared, said so that counting can stop early: at least `least`, or exactly that. */
typedef struct bound {
  int64_t least;
  bool exactly, negated;
} bound;

static bound bound_of(lumo_comparison comparison, int64_t n) {
  switch (comparison) {
  case LUMO_COMPARE_GTE: return (bound){.least = n};
  case LUMO_COMPARE_GT: return (bound){.least = n + 1};
  case LUMO_COMPARE_LT: return (bound){.least = n, .negated = true};
  case LUMO_COMPARE_LTE: return (bound){.least = n + 1, .negated = true};
  default: break;
  }
  bool differs = comparison == LUMO_COMPARE_NE;
  if (n == 0) return (bound){.least = 1, .negated = !differs};
  return (bound){.least = n, .exactly = true, .negated = differs};
}

/* {$lookup: …}, which makes `as` the array [{n: count}], or [] when nothing is there. */
static void write_join(const lumo_way *way, const bound *wants, const char *as, lumo_buf *out) {
  const lumo_wanted none = {0};
  size_t stage = lumo_bson_begin(out);
  lookup l = begin_lookup(way, 0, lumo_way_reach(way, 0), way->hops[0].from, as, &none, out);
  lumo_stage_number(&l.stages, "$limit", wants->least + wants->exactly);
  lumo_stage_text(&l.stages, "$count", "n");
  end_lookup(&l);
  lumo_bson_end(out, stage);
}

static void write_comparison(const bound *wants, const char *as, lumo_buf *out) {
  char path[LUMO_JOIN_NAME + 2];
  size_t len = strlen(as);
  memcpy(path, as, len);
  memcpy(path + len, ".n", 2);
  size_t condition = lumo_bson_begin_document(out, path, len + 2);
  lumo_bson_int64(out, wants->exactly ? "$eq" : "$gte", wants->exactly ? 3 : 4, wants->least);
  lumo_bson_end(out, condition);
}

bool lumo_query_has(lumo_query *query, const lumo_way *way, lumo_comparison comparison, int64_t n,
                    lumo_join join, bool negated) {
  char as[LUMO_JOIN_NAME];
  const bound wants = bound_of(comparison, n);
  bool always = wants.least == 0; /* nothing has to be counted for that */
  size_t before = query->joins.len;
  negated = negated != wants.negated;
  lumo_join_name(query->join_count, as);
  lumo_filter_begin(&query->filter);
  size_t condition = lumo_bson_begin(&query->filter.bytes);
  if (!always) {
    write_join(way, &wants, as, &query->joins);
    write_comparison(&wants, as, &query->filter.bytes);
  }
  lumo_bson_end(&query->filter.bytes, condition);
  if (query->joins.failed ||
      !lumo_filter_end(&query->filter, join, negated, always ? LUMO_SIDE_RELATED : LUMO_SIDE_JOINED)) {
    query->joins.len = before;
    query->joins.failed = false;
    lumo_filter_begin(&query->filter); /* drops what stands there of the condition */
    return false;
  }
  query->filter.clauses[query->filter.count - 1].truth = always ? LUMO_TRUTH_ALWAYS : LUMO_TRUTH_DEPENDS;
  query->join_count += !always;
  return true;
}
