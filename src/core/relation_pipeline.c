/* The commands of a read across the pivot. Where the server joins, the documents between its stages are
 * paired ones: the related record with the pivot row in the field LUMO_PIVOT_FIELD, so that whatever is asked
 * of the related side (raw filters and expressions among it) reads as it does without a relation. */
#include <stdio.h>
#include <string.h>

#include "query.h"
#include "relation_plan.h"
#include "stages.h"

#define P LUMO_PIVOT_FIELD

/* ---- pieces ---- */

static void write_text(lumo_buf *out, const char *key, const char *text) {
  lumo_bson_string(out, key, strlen(key), text, strlen(text));
}

/* `key: "<prefix><name>"`, such as _id: "$tag_id". */
static void write_path(lumo_buf *out, const char *key, const char *prefix, const char *name) {
  uint32_t len = (uint32_t)(strlen(prefix) + strlen(name) + 1);
  lumo_bson_key(out, LUMO_BSON_STRING, key, strlen(key));
  uint8_t size[4] = {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16), (uint8_t)(len >> 24)};
  lumo_buf_append(out, size, sizeof size);
  lumo_buf_append(out, prefix, strlen(prefix));
  lumo_buf_append(out, name, strlen(name) + 1);
}

/* `$and: [those of the two documents that there are]`: neither can widen what stands beside it. */
static void write_and(lumo_buf *out, const uint8_t *one, uint32_t one_len, const uint8_t *two,
                      uint32_t two_len) {
  uint32_t index = 0;
  if (!one && !two) return;
  size_t list = lumo_bson_begin_array(out, LUMO_KEY("$and"));
  if (one) {
    lumo_bson_index(out, LUMO_BSON_DOCUMENT, index++);
    lumo_buf_append(out, one, one_len);
  }
  if (two) {
    lumo_bson_index(out, LUMO_BSON_DOCUMENT, index);
    lumo_buf_append(out, two, two_len);
  }
  lumo_bson_end(out, list);
}

/* The elements of a filter on the pivot; on rows that are made the owners have been asked for before. */
static void write_pivot_filter(const related_plan *plan, lumo_buf *out) {
  if (!plan->pivot.stages)
    lumo_keys_filter(plan->owner_list, plan->from, plan->to, out, plan->pivot.owner_key);
  write_and(out, plan->pivot.condition, plan->pivot.condition_len, plan->query.pivot_filter,
            plan->query.pivot_filter_len);
}

/* `$not: {$type: "array"}`: a related record whose key is a list is matched by its elements, and is none of
 * ours. An _id never is one. */
static void write_no_list(lumo_buf *out) {
  size_t no = lumo_bson_begin_document(out, LUMO_KEY("$not"));
  write_text(out, "$type", "array");
  lumo_bson_end(out, no);
}

static bool is_id(const char *key) {
  return strcmp(key, "_id") == 0;
}

/* The elements of a filter on the related collection for a portion of the keys. Those of a RANKED read have
 * passed the filter. */
static void write_related_filter(const related_plan *plan, lumo_buf *out, uint32_t from, uint32_t to) {
  size_t key = lumo_bson_begin_document(out, plan->join_key, strlen(plan->join_key));
  lumo_keys_write(&plan->keys, from, to, out, LUMO_KEY("$in"));
  if (!is_id(plan->join_key)) write_no_list(out);
  lumo_bson_end(out, key);
  if (plan->shape != RANKED) write_and(out, plan->query.filter, plan->query.filter_len, NULL, 0);
}

static bool names_field(const ordering *order, const char *name) {
  lumo_value value;
  return lumo_bson_find(order->document, order->len, name, strlen(name), &value);
}

/* The elements of an order, of which a limit demands that it be total: the related key, or the _id, decides
 * between equals. On the pivot alone its fields are at the root. */
static void write_order(const related_plan *plan, lumo_buf *out, const ordering *order, bool on_pivot) {
  const size_t prefix = on_pivot ? sizeof P : 0; /* with the dot */
  bool by_id = plan->query.shares_keys && !on_pivot;
  const char *key = by_id ? "_id" : plan->pivot.related_key;
  lumo_iter it;
  lumo_buf tie = {0};
  if (!by_id) lumo_buf_append(&tie, LUMO_KEY(P "."));
  lumo_buf_append(&tie, key, strlen(key) + 1);
  lumo_iter_init(&it, order->document, order->len);
  while (lumo_iter_next(&it)) lumo_bson_value(out, it.key + prefix, it.key_len - prefix, &it.value);
  if (tie.failed)
    out->failed = true;
  else if (related_is_bounded(plan) && !names_field(order, (const char *)tie.data))
    lumo_bson_int32(out, (const char *)tie.data + prefix, tie.len - 1 - prefix, 1);
  lumo_buf_free(&tie);
}

static void write_sort(const related_plan *plan, lumo_buf *out, const char *key, const ordering *order,
                       bool on_pivot) {
  size_t sort = lumo_bson_begin_document(out, key, strlen(key));
  write_order(plan, out, order, on_pivot);
  lumo_bson_end(out, sort);
}

/* The elements that the caller added to the command. A hint names an index of the related collection, and a
 * collation is no business of a find by id: `without` are left out. */
static void write_extra(const related_plan *plan, lumo_buf *out, const char *const without[], size_t count) {
  lumo_buf elements = {.data = (uint8_t *)plan->query.extra, .len = plan->query.extra_len};
  lumo_iter it = lumo_iter_elements(&elements);
  while (lumo_iter_next(&it)) {
    bool left_out = false;
    for (size_t i = 0; i < count; i++)
      if (strcmp(it.key, without[i]) == 0) left_out = true;
    if (!left_out) lumo_bson_value(out, it.key, it.key_len, &it.value);
  }
}

static void write_batch_size(const related_plan *plan, lumo_buf *out) {
  lumo_bson_int32(out, LUMO_KEY("batchSize"), plan->query.streaming ? LUMO_STREAM_BATCH : LUMO_BATCH_SIZE);
}

/* ---- pipelines ---- */

static lumo_stages begin_pipeline(lumo_buf *out, size_t *command, const char *collection) {
  *command = lumo_bson_begin(out);
  write_text(out, "aggregate", collection);
  return lumo_stages_begin(out, "pipeline");
}

static void end_pipeline(const related_plan *plan, lumo_stages *list, size_t command) {
  static const char *const without[] = {"hint"};
  lumo_buf *out = list->out;
  lumo_stages_end(list);
  write_extra(plan, out, without, 1);
  lumo_bson_boolean(out, LUMO_KEY("allowDiskUse"), true);
  size_t cursor = lumo_bson_begin_document(out, LUMO_KEY("cursor"));
  write_batch_size(plan, out);
  lumo_bson_end(out, cursor);
  lumo_bson_end(out, command);
}

/* `key: {…}` of documents that name another one: a pattern or a list is no key, but would be taken for one or
 * many by $lookup. */
static void write_is_key(lumo_buf *out, const char *key) {
  size_t related = lumo_bson_begin_document(out, key, strlen(key));
  lumo_bson_null(out, LUMO_KEY("$ne"));
  size_t no = lumo_bson_begin_document(out, LUMO_KEY("$not"));
  size_t types = lumo_bson_begin_array(out, LUMO_KEY("$type"));
  write_text(out, "0", "regex");
  write_text(out, "1", "array");
  lumo_bson_end(out, types);
  lumo_bson_end(out, no);
  lumo_bson_end(out, related);
}

/* Makes the rows of the owners, if they stand in no collection. */
static void add_made_rows(const related_plan *plan, lumo_stages *list) {
  if (!plan->pivot.stages) return;
  lumo_stage stage = lumo_stage_begin(list, "$match");
  lumo_keys_filter(plan->owner_list, plan->from, plan->to, list->out, plan->pivot.source_key);
  lumo_stage_end(list, stage);
  lumo_stage_run(list, plan->pivot.stages, plan->pivot.stages_len);
}

/* The rows of the owners that name a related record. */
static void add_pivot_match(const related_plan *plan, lumo_stages *list) {
  add_made_rows(plan, list);
  lumo_stage stage = lumo_stage_begin(list, "$match");
  write_pivot_filter(plan, list->out);
  write_is_key(list->out, plan->pivot.related_key);
  lumo_stage_end(list, stage);
}

/* Each document becomes {…r, P: "$<row>"}, and is joined with what its filter asks for. */
static void add_paired_root(const related_plan *plan, lumo_stages *list, const char *row) {
  lumo_buf *out = list->out;
  lumo_stage stage = lumo_stage_begin(list, "$replaceRoot");
  size_t root = lumo_bson_begin_document(out, LUMO_KEY("newRoot"));
  size_t merged = lumo_bson_begin_array(out, LUMO_KEY("$mergeObjects"));
  write_text(out, "0", "$r");
  size_t pivot = lumo_bson_begin_document(out, LUMO_KEY("1"));
  write_text(out, P, row);
  lumo_bson_end(out, pivot);
  lumo_bson_end(out, merged);
  lumo_bson_end(out, root);
  lumo_stage_end(list, stage);
  lumo_stage_run(list, plan->query.joins, plan->query.joins_len);
}

static void add_lookup(const related_plan *plan, lumo_stages *list, const char *local) {
  const char *const texts[][2] = {{"from", plan->query.collection},
                                  {"localField", local},
                                  {"foreignField", plan->query.key},
                                  {"as", "r"}};
  lumo_stage_texts(list, "$lookup", texts, 4);
  lumo_stage_text(list, "$unwind", "$r");
}

/* What the filter says of paired documents. */
static void add_paired_match(const related_plan *plan, lumo_stages *list) {
  const lumo_related_query *query = &plan->query;
  const uint8_t *filter = query->paired_filter ? query->paired_filter : query->filter;
  uint32_t len = query->paired_filter ? query->paired_filter_len : query->filter_len;
  if (!filter && is_id(query->key)) return;
  lumo_stage stage = lumo_stage_begin(list, "$match");
  if (!is_id(query->key)) {
    size_t key = lumo_bson_begin_document(list->out, query->key, strlen(query->key));
    write_no_list(list->out);
    lumo_bson_end(list->out, key);
  }
  write_and(list->out, filter, len, NULL, 0);
  lumo_stage_end(list, stage);
}

/* One $lookup for each row. */
static void add_row_join(const related_plan *plan, lumo_stages *list) {
  lumo_buf local = {0};
  lumo_buf_append(&local, LUMO_KEY(P "."));
  lumo_buf_append(&local, plan->pivot.related_key, strlen(plan->pivot.related_key) + 1);
  if (local.failed) {
    list->out->failed = true;
    return;
  }
  lumo_stage wrap = lumo_stage_begin(list, "$project");
  lumo_bson_int32(list->out, LUMO_KEY("_id"), 0);
  write_text(list->out, P, "$$ROOT");
  lumo_stage_end(list, wrap);
  add_lookup(plan, list, (const char *)local.data);
  add_paired_root(plan, list, "$" P);
  lumo_buf_free(&local);
}

/* One $lookup for each related record, however many rows name it: they stand in one document meanwhile, and
 * so must not be many of one owner. */
static void add_record_join(const related_plan *plan, lumo_stages *list) {
  lumo_stage group = lumo_stage_begin(list, "$group");
  write_path(list->out, "_id", "$", plan->pivot.related_key);
  size_t rows = lumo_bson_begin_document(list->out, LUMO_KEY("p"));
  write_text(list->out, "$push", "$$ROOT");
  lumo_bson_end(list->out, rows);
  lumo_stage_end(list, group);
  add_lookup(plan, list, "_id");
  lumo_stage_text(list, "$unwind", "$p");
  add_paired_root(plan, list, "$p");
}

static void add_sort(const related_plan *plan, lumo_stages *list, const ordering *order, bool on_pivot) {
  lumo_stage stage = lumo_stage_begin(list, "$sort");
  write_order(plan, list->out, order, on_pivot);
  lumo_stage_end(list, stage);
}

/* `key: a pivot row` as an expression, of the fields that are to be read. `field` is where it stands:
 * "$$ROOT" or "$<P>". */
static void write_row(const related_plan *plan, lumo_buf *out, const char *key, bool at_root) {
  if (plan->pivot_projection.len == 0) {
    write_text(out, key, at_root ? "$$ROOT" : "$" P);
    return;
  }
  size_t row = lumo_bson_begin_document(out, key, strlen(key));
  for (size_t at = 0; at < plan->pivot_fields.len;) {
    const char *name = (const char *)plan->pivot_fields.data + at;
    write_path(out, name, at_root ? "$" : "$" P ".", name);
    at += strlen(name) + 1;
  }
  lumo_bson_end(out, row);
}

/* ---- TOP ---- */

/* The rows of `rows`, one document each. */
static void add_unwound_rows(lumo_stages *list) {
  lumo_stage_text(list, "$unwind", "$rows");
  lumo_stage_texts(list, "$replaceRoot", (const char *const[][2]){{"newRoot", "$rows"}}, 1);
}

static void write_top(related_plan *plan) {
  size_t command;
  lumo_buf *out = &plan->out;
  lumo_stages list = begin_pipeline(out, &command, plan->pivot.collection);
  add_pivot_match(plan, &list);
  lumo_stage group = lumo_stage_begin(&list, "$group");
  write_path(out, "_id", "$", plan->pivot.owner_key);
  size_t rows = lumo_bson_begin_document(out, LUMO_KEY("rows"));
  size_t top = lumo_bson_begin_document(out, LUMO_KEY("$topN"));
  lumo_bson_int64(out, LUMO_KEY("n"), plan->query.limit);
  write_sort(plan, out, "sortBy", &plan->cut, true);
  write_row(plan, out, "output", true);
  lumo_bson_end(out, top);
  lumo_bson_end(out, rows);
  lumo_stage_end(&list, group);
  add_unwound_rows(&list);
  end_pipeline(plan, &list, command);
}

/* ---- RANKED ---- */

static bool is_reordered(const related_plan *plan) {
  return plan->show.document && (!plan->cut.document || related_is_reordered(plan));
}

/* The elements {p: row, k: _id}, and with `values` those by which the rows are put in order: s: {"0": …}. */
static void write_ranked(const related_plan *plan, lumo_buf *out, bool values) {
  lumo_iter it;
  uint32_t n = 0;
  char name[12];
  write_row(plan, out, "p", false);
  write_text(out, "k", "$_id");
  if (!values) return;
  size_t sorted = lumo_bson_begin_document(out, LUMO_KEY("s"));
  lumo_iter_init(&it, plan->show.document, plan->show.len);
  while (lumo_iter_next(&it)) {
    snprintf(name, sizeof name, "%u", n++);
    write_path(out, name, "$", it.key);
  }
  lumo_bson_end(out, sorted);
}

/* {$sort: {"s.0": ±1, …}} and away with s. */
static void add_value_sort(const related_plan *plan, lumo_stages *list) {
  lumo_iter it;
  uint32_t n = 0;
  char name[16];
  lumo_stage sort = lumo_stage_begin(list, "$sort");
  lumo_iter_init(&it, plan->show.document, plan->show.len);
  while (lumo_iter_next(&it)) {
    int len = snprintf(name, sizeof name, "s.%u", n++);
    lumo_bson_value(list->out, name, (size_t)len, &it.value);
  }
  lumo_stage_end(list, sort);
  lumo_stage project = lumo_stage_begin(list, "$project");
  lumo_bson_int32(list->out, LUMO_KEY("s"), 0);
  lumo_stage_end(list, project);
}

/* {$project: {_id: 0, rows: {$slice: ["$rows", skip, limit]}}} */
static void add_slice(const related_plan *plan, lumo_stages *list) {
  const int64_t most = INT32_MAX, limit = plan->query.limit, skip = plan->query.skip;
  lumo_buf *out = list->out;
  lumo_stage project = lumo_stage_begin(list, "$project");
  lumo_bson_int32(out, LUMO_KEY("_id"), 0);
  size_t rows = lumo_bson_begin_document(out, LUMO_KEY("rows"));
  size_t slice = lumo_bson_begin_array(out, LUMO_KEY("$slice"));
  write_text(out, "0", "$rows");
  lumo_bson_int32(out, LUMO_KEY("1"), (int32_t)(skip < most ? skip : most));
  lumo_bson_int32(out, LUMO_KEY("2"), (int32_t)(limit && limit < most ? limit : most));
  lumo_bson_end(out, slice);
  lumo_bson_end(out, rows);
  lumo_stage_end(list, project);
}

/* Each owner's rows within the limit. */
static void add_cut(const related_plan *plan, lumo_stages *list) {
  lumo_buf *out = list->out;
  bool top = plan->query.limit > 0 && plan->head.plan.wire_version >= LUMO_WIRE_TOP_N;
  if (!top) add_sort(plan, list, &plan->cut, false);
  lumo_stage group = lumo_stage_begin(list, "$group");
  write_path(out, "_id", "$" P ".", plan->pivot.owner_key);
  size_t rows = lumo_bson_begin_document(out, LUMO_KEY("rows"));
  size_t top_n = 0;
  if (top) {
    top_n = lumo_bson_begin_document(out, LUMO_KEY("$topN"));
    lumo_bson_int64(out, LUMO_KEY("n"), plan->query.skip + plan->query.limit);
    write_sort(plan, out, "sortBy", &plan->cut, false);
  }
  size_t row = lumo_bson_begin_document(out, top ? "output" : "$push", top ? 6 : 5);
  write_ranked(plan, out, is_reordered(plan));
  lumo_bson_end(out, row);
  if (top) lumo_bson_end(out, top_n);
  lumo_bson_end(out, rows);
  lumo_stage_end(list, group);
  if (!top || plan->query.skip > 0) add_slice(plan, list);
  add_unwound_rows(list);
  if (is_reordered(plan)) add_value_sort(plan, list);
}

static void write_ranking(related_plan *plan) {
  size_t command;
  lumo_buf *out = &plan->out;
  lumo_stages list = begin_pipeline(out, &command, plan->pivot.collection);
  add_pivot_match(plan, &list);
  if (plan->pivot.duplicates)
    add_row_join(plan, &list);
  else
    add_record_join(plan, &list);
  add_paired_match(plan, &list);
  if (related_is_bounded(plan)) {
    add_cut(plan, &list);
  } else {
    if (plan->show.document) add_sort(plan, &list, &plan->show, false);
    lumo_stage project = lumo_stage_begin(&list, "$project");
    lumo_bson_int32(out, LUMO_KEY("_id"), 0);
    write_ranked(plan, out, false);
    lumo_stage_end(&list, project);
  }
  end_pipeline(plan, &list, command);
}

/* ---- PAIRED ---- */

/* {p: pivot row, r: related record} */
static void add_documents(const related_plan *plan, lumo_stages *list) {
  const lumo_related_query *query = &plan->query;
  if (query->projection && query->projection_len > 5) {
    lumo_stage wanted = lumo_stage_begin(list, "$project");
    lumo_buf_append(list->out, query->projection + 4, query->projection_len - 5);
    lumo_bson_int32(list->out, LUMO_KEY(P), 1);
    lumo_stage_end(list, wanted);
  }
  lumo_stage both = lumo_stage_begin(list, "$project");
  lumo_bson_int32(list->out, LUMO_KEY("_id"), 0);
  write_row(plan, list->out, "p", false);
  write_text(list->out, "r", "$$ROOT");
  lumo_stage_end(list, both);
  lumo_stage bare = lumo_stage_begin(list, "$project");
  lumo_bson_int32(list->out, LUMO_KEY("r." P), 0);
  for (uint32_t i = 0; i < query->join_count; i++) {
    char name[LUMO_JOIN_NAME + 2] = "r.";
    lumo_join_name(i, name + 2);
    lumo_bson_int32(list->out, name, strlen(name), 0);
  }
  lumo_stage_end(list, bare);
}

/* {$group: {_id: null, n: {accumulator: field}}} */
static void add_value(const related_plan *plan, lumo_stages *list) {
  lumo_stage group = lumo_stage_begin(list, "$group");
  lumo_bson_null(list->out, LUMO_KEY("_id"));
  size_t n = lumo_bson_begin_document(list->out, LUMO_KEY("n"));
  write_text(list->out, plan->query.accumulator, plan->query.field);
  lumo_bson_end(list->out, n);
  lumo_stage_end(list, group);
}

static void add_result(const related_plan *plan, lumo_stages *list) {
  switch (plan->query.op) {
  case LUMO_RELATED_FIND: add_documents(plan, list); break;
  case LUMO_RELATED_COUNT: lumo_stage_text(list, "$count", "n"); break;
  case LUMO_RELATED_VALUE: add_value(plan, list); break;
  case LUMO_RELATED_DISTINCT:
    lumo_stages_distinct(list, plan->query.field, strlen(plan->query.field), plan->query.elements);
    break;
  default: { /* what is to be written */
    lumo_stage ids = lumo_stage_begin(list, "$project");
    lumo_bson_int32(list->out, LUMO_KEY("_id"), 1);
    lumo_stage_end(list, ids);
  }
  }
}

/* An order of the pivot's goes first: then the server joins only as many rows as the limit needs. */
static void write_paired(related_plan *plan) {
  size_t command;
  lumo_buf *out = &plan->out;
  const ordering *order = plan->cut.document ? &plan->cut : &plan->show;
  bool sorted = order->document && (plan->query.op == LUMO_RELATED_FIND || related_is_bounded(plan));
  lumo_stages list = begin_pipeline(out, &command, plan->pivot.collection);
  add_pivot_match(plan, &list);
  if (sorted && order->sides == LUMO_SIDE_PIVOT) add_sort(plan, &list, order, true);
  add_row_join(plan, &list);
  add_paired_match(plan, &list);
  if (sorted && order->sides != LUMO_SIDE_PIVOT) add_sort(plan, &list, order, false);
  if (plan->query.op != LUMO_RELATED_COUNT) { /* it counts all */
    if (plan->query.skip > 0) lumo_stage_number(&list, "$skip", plan->query.skip);
    if (plan->query.limit > 0) lumo_stage_number(&list, "$limit", plan->query.limit);
  }
  add_result(plan, &list);
  end_pipeline(plan, &list, command);
}

/* ---- rows of several collections ---- */

#define JOINED "d" /* the document that a row goes on to */

/* {$project: {_id: "$<prefix><key>", owner: …}} */
static void add_made_row(lumo_stages *list, const char *prefix, const char *key, const char *owner) {
  lumo_stage project = lumo_stage_begin(list, "$project");
  write_path(list->out, LUMO_MADE_RELATED, prefix, key);
  write_path(list->out, LUMO_MADE_OWNER, "$", owner);
  lumo_stage_end(list, project);
}

/* The same as for the related records: neither null nor a list is a key, on either side. */
static void add_made_join(lumo_stages *list, const lumo_hop *hop) {
  const char *const texts[][2] = {{"from", hop->collection},
                                  {"localField", LUMO_MADE_RELATED},
                                  {"foreignField", hop->to},
                                  {"as", JOINED}};
  lumo_stage match = lumo_stage_begin(list, "$match");
  write_is_key(list->out, LUMO_MADE_RELATED);
  lumo_stage_end(list, match);
  lumo_stage_texts(list, "$lookup", texts, 4);
  lumo_stage_text(list, "$unwind", "$" JOINED);
  if (is_id(hop->to)) return;
  lumo_buf path = {0};
  lumo_buf_append(&path, LUMO_KEY(JOINED "."));
  lumo_buf_append(&path, hop->to, strlen(hop->to));
  match = lumo_stage_begin(list, "$match");
  size_t key = lumo_bson_begin_document(list->out, (const char *)path.data, path.len);
  write_no_list(list->out);
  lumo_bson_end(list->out, key);
  lumo_stage_end(list, match);
  if (path.failed) list->out->failed = true;
  lumo_buf_free(&path);
}

void lumo_pivot_stages(lumo_buf *out, const lumo_hop *hops, uint32_t count) {
  lumo_buf elements = {0};
  lumo_stages list = {.out = &elements};
  add_made_row(&list, "$", hops[1].from, hops[0].to);
  for (uint32_t i = 1; i + 1 < count; i++) {
    add_made_join(&list, &hops[i]);
    add_made_row(&list, "$" JOINED ".", hops[i + 1].from, LUMO_MADE_OWNER);
  }
  lumo_iter it = lumo_iter_elements(&elements);
  while (lumo_iter_next(&it)) lumo_buf_append(out, it.value.data, it.value.len);
  if (elements.failed) out->failed = true;
  lumo_buf_free(&elements);
}

/* ---- commands ---- */

static const char *const not_of_pivot[] = {"hint", "maxTimeMS", "comment"};

/* What write_pivot_find asks of a collection, of rows that are made. */
static void write_made_find(related_plan *plan) {
  lumo_buf *out = &plan->out;
  size_t command;
  lumo_stages list = begin_pipeline(out, &command, plan->pivot.collection);
  add_pivot_match(plan, &list);
  if (plan->pivot_order) add_sort(plan, &list, plan->pivot_order, true);
  lumo_stages_end(&list);
  if (plan->pivot_order) write_extra(plan, out, not_of_pivot, 3);
  lumo_bson_boolean(out, LUMO_KEY("allowDiskUse"), true);
  size_t cursor = lumo_bson_begin_document(out, LUMO_KEY("cursor"));
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, cursor);
  lumo_bson_end(out, command);
}

static void write_pivot_find(related_plan *plan) {
  lumo_buf *out = &plan->out;
  size_t command = lumo_bson_begin(out);
  write_text(out, "find", plan->pivot.collection);
  size_t filter = lumo_bson_begin_document(out, LUMO_KEY("filter"));
  write_pivot_filter(plan, out);
  lumo_bson_end(out, filter);
  if (plan->pivot_projection.len > 0)
    lumo_bson_document(out, LUMO_KEY("projection"), plan->pivot_projection.data, plan->pivot_projection.len);
  if (plan->pivot_order) {
    write_sort(plan, out, "sort", plan->pivot_order, true);
    write_extra(plan, out, not_of_pivot, 3);
  }
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, command);
}

void lumo_related_write_pivot(related_plan *plan) {
  switch (plan->shape) {
  case FINDS:
    if (plan->pivot.stages)
      write_made_find(plan);
    else
      write_pivot_find(plan);
    break;
  case TOP: write_top(plan); break;
  case RANKED: write_ranking(plan); break;
  case PAIRED: write_paired(plan); break;
  case DIRECT: break; /* there is none */
  }
}

void lumo_related_write_find(related_plan *plan) {
  static const char *const without[] = {"hint", "collation"};
  const lumo_related_query *query = &plan->query;
  lumo_buf *out = &plan->out;
  size_t command = lumo_bson_begin(out);
  write_text(out, "find", query->collection);
  size_t filter = lumo_bson_begin_document(out, LUMO_KEY("filter"));
  write_related_filter(plan, out, plan->from, plan->to);
  lumo_bson_end(out, filter);
  if (query->op == LUMO_RELATED_COUNT) {
    size_t projection = lumo_bson_begin_document(out, LUMO_KEY("projection"));
    if (!is_id(query->key)) lumo_bson_int32(out, LUMO_KEY("_id"), 0);
    lumo_bson_int32(out, query->key, strlen(query->key), 1);
    lumo_bson_end(out, projection);
  } else if (query->projection) {
    lumo_bson_document(out, LUMO_KEY("projection"), query->projection, query->projection_len);
  }
  if (plan->related_order)
    lumo_bson_document(out, LUMO_KEY("sort"), plan->related_order->document, plan->related_order->len);
  if (plan->server_bounds) {
    int64_t skip = plan->cuts ? 0 : query->skip, limit = query->limit;
    if (plan->cuts && limit > 0) limit += query->skip;
    if (skip > 0) lumo_bson_int64(out, LUMO_KEY("skip"), skip);
    if (limit > 0) lumo_bson_int64(out, LUMO_KEY("limit"), limit);
  }
  write_extra(plan, out, without, plan->shape == RANKED ? 2 : 0);
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, command);
}

/* ---- DIRECT ---- */

#define PLACE "lumo:n" /* of a document among those of its owner */

/* Leaves those within the limit, which counts by another order than that of the result. */
static void add_window(const related_plan *plan, lumo_stages *list) {
  lumo_buf *out = list->out;
  lumo_stage stage = lumo_stage_begin(list, "$setWindowFields");
  write_path(out, "partitionBy", "$", plan->query.key);
  lumo_bson_document(out, LUMO_KEY("sortBy"), plan->cut.document, plan->cut.len);
  size_t output = lumo_bson_begin_document(out, LUMO_KEY("output"));
  size_t place = lumo_bson_begin_document(out, LUMO_KEY(PLACE));
  size_t number = lumo_bson_begin_document(out, LUMO_KEY("$documentNumber"));
  lumo_bson_end(out, number);
  lumo_bson_end(out, place);
  lumo_bson_end(out, output);
  lumo_stage_end(list, stage);
  stage = lumo_stage_begin(list, "$match");
  size_t range = lumo_bson_begin_document(out, LUMO_KEY(PLACE));
  lumo_bson_int64(out, LUMO_KEY("$gt"), plan->query.skip);
  if (plan->query.limit > 0) lumo_bson_int64(out, LUMO_KEY("$lte"), plan->query.skip + plan->query.limit);
  lumo_bson_end(out, range);
  lumo_stage_end(list, stage);
}

/* What is selected, or all but what the stages have added. */
static void add_direct_projection(const related_plan *plan, lumo_stages *list) {
  const lumo_related_query *query = &plan->query;
  if (query->projection) {
    lumo_stage_document(list, "$project", query->projection, query->projection_len);
    return;
  }
  lumo_stage stage = lumo_stage_begin(list, "$project");
  lumo_bson_int32(list->out, LUMO_KEY(PLACE), 0);
  for (uint32_t i = 0; i < query->join_count; i++) {
    char name[LUMO_JOIN_NAME];
    lumo_join_name(i, name);
    lumo_bson_int32(list->out, name, strlen(name), 0);
  }
  lumo_stage_end(list, stage);
}

void lumo_related_write_direct(related_plan *plan) {
  const lumo_related_query *query = &plan->query;
  bool windowed = related_is_reordered(plan);
  size_t command;
  if (!windowed && query->join_count == 0) {
    lumo_related_write_find(plan);
    return;
  }
  lumo_stages list = begin_pipeline(&plan->out, &command, query->collection);
  lumo_stage match = lumo_stage_begin(&list, "$match");
  write_related_filter(plan, list.out, plan->from, plan->to);
  lumo_stage_end(&list, match);
  if (query->join_count > 0) {
    lumo_stage_run(&list, query->joins, query->joins_len);
    lumo_stage_document(&list, "$match", query->paired_filter, query->paired_filter_len);
  }
  if (windowed) add_window(plan, &list);
  if (plan->related_order)
    lumo_stage_document(&list, "$sort", plan->related_order->document, plan->related_order->len);
  add_direct_projection(plan, &list);
  end_pipeline(plan, &list, command);
}

void lumo_related_write_count(related_plan *plan) {
  lumo_buf *out = &plan->out;
  size_t command;
  lumo_stages list = begin_pipeline(out, &command, plan->query.collection);
  lumo_stage match = lumo_stage_begin(&list, "$match");
  write_related_filter(plan, out, plan->from, plan->to);
  lumo_stage_end(&list, match);
  lumo_stage_text(&list, "$count", "n");
  lumo_stages_end(&list);
  write_extra(plan, out, NULL, 0);
  size_t cursor = lumo_bson_begin_document(out, LUMO_KEY("cursor"));
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, cursor);
  lumo_bson_end(out, command);
}

void lumo_related_write_statements(related_plan *plan) {
  const lumo_related_query *query = &plan->query;
  bool is_update = query->op == LUMO_RELATED_UPDATE;
  lumo_buf *out = &plan->out;
  for (uint32_t from = 0, to; from < plan->keys.count; from = to) {
    to = lumo_keys_portion(&plan->keys, from, LUMO_PORTION_KEYS);
    lumo_statement_options(out, query->extra, query->extra_len);
    lumo_statement_begin(out, is_update ? LUMO_UPDATE_MANY : LUMO_DELETE_MANY);
    size_t filter = lumo_bson_begin(out);
    write_related_filter(plan, out, from, to);
    lumo_bson_end(out, filter);
    if (is_update) lumo_buf_append(out, query->update, query->update_len);
  }
}
