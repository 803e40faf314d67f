#include "relation_read.h"

#include <string.h>

#include "mem.h"
#include "stages.h"

#define NO_KEY UINT32_MAX

typedef enum { PIVOT, RELATED, END } phase_number;

/* A pivot row that names a related record. */
typedef struct joint {
  uint32_t owner; /* index into the owners */
  uint32_t key;   /* index into the related keys */
  uint32_t pivot; /* index into the pivot documents */
} joint;

typedef struct related_plan {
  lumo_related_plan head;
  lumo_pivot pivot;
  lumo_keys owners;
  lumo_related_query
      query; /* its pointers lead into `texts`, but for the pivot fields, which are in the projection */
  char *texts;
  lumo_buf pivot_projection; /* a document; empty: whole rows */
  /* ---- what a restart forgets ---- */
  phase_number phase;
  uint32_t from, to; /* the portion of owners or keys that the last command asked for */
  int64_t cursor;
  const char *cursor_collection;
  lumo_keys keys; /* distinct related keys of the rows read */
  joint *joints;  /* FIND: in the order of the pivot rows */
  uint32_t joint_count, joint_capacity;
  uint32_t joined_documents, joined_joints; /* what has been made into rows already */
  lumo_buf out;                             /* the command or statements of the current step */
} related_plan;

/* ---- pieces of commands ---- */

static void write_text(lumo_buf *out, const char *key, const char *text) {
  lumo_bson_string(out, key, strlen(key), text, strlen(text));
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

/* The elements of a filter on the pivot for a portion of the owners. */
static void write_pivot_filter(const related_plan *plan, lumo_buf *out, uint32_t from, uint32_t to) {
  lumo_keys_filter(&plan->owners, from, to, out, plan->pivot.owner_key);
  write_and(out, plan->pivot.condition, plan->pivot.condition_len, plan->query.pivot_filter,
            plan->query.pivot_filter_len);
}

/* The elements of a filter on the related collection for a portion of the keys. */
static void write_related_filter(const related_plan *plan, lumo_buf *out, uint32_t from, uint32_t to) {
  lumo_keys_filter(&plan->keys, from, to, out, plan->query.key);
  write_and(out, plan->query.filter, plan->query.filter_len, NULL, 0);
}

/* Does the order of the related documents matter? A limit needs one to be repeatable. */
static bool is_ordered(const related_plan *plan) {
  return plan->query.sort || plan->query.limit > 0 || plan->query.skip > 0;
}

/* The sort's elements: by the related key where the caller has said nothing. */
static void write_sort_elements(const related_plan *plan, lumo_buf *out) {
  const lumo_related_query *query = &plan->query;
  if (query->sort)
    lumo_buf_append(out, query->sort + 4, query->sort_len - 5);
  else
    lumo_bson_int32(out, query->key, strlen(query->key), 1);
}

static void write_cursor(lumo_buf *out) {
  size_t cursor = lumo_bson_begin_document(out, LUMO_KEY("cursor"));
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, cursor);
}

/* ---- commands ---- */

static void build_pivot_find(related_plan *plan) {
  lumo_buf *out = &plan->out;
  size_t command = lumo_bson_begin(out);
  write_text(out, "find", plan->pivot.collection);
  size_t filter = lumo_bson_begin_document(out, LUMO_KEY("filter"));
  write_pivot_filter(plan, out, plan->from, plan->to);
  lumo_bson_end(out, filter);
  if (plan->pivot_projection.len > 0)
    lumo_bson_document(out, LUMO_KEY("projection"), plan->pivot_projection.data, plan->pivot_projection.len);
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, command);
}

static void build_related_find(related_plan *plan) {
  const lumo_related_query *query = &plan->query;
  lumo_buf *out = &plan->out;
  size_t command = lumo_bson_begin(out);
  write_text(out, "find", query->collection);
  size_t filter = lumo_bson_begin_document(out, LUMO_KEY("filter"));
  write_related_filter(plan, out, plan->from, plan->to);
  lumo_bson_end(out, filter);
  if (query->projection)
    lumo_bson_document(out, LUMO_KEY("projection"), query->projection, query->projection_len);
  if (is_ordered(plan)) {
    size_t sort = lumo_bson_begin_document(out, LUMO_KEY("sort"));
    write_sort_elements(plan, out);
    lumo_bson_end(out, sort);
  }
  if (query->skip > 0) lumo_bson_int64(out, LUMO_KEY("skip"), query->skip);
  if (query->limit > 0) lumo_bson_int64(out, LUMO_KEY("limit"), query->limit);
  lumo_buf_append(out, query->extra, query->extra_len);
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, command);
}

static void build_related_count(related_plan *plan) {
  lumo_buf *out = &plan->out;
  size_t command = lumo_bson_begin(out);
  write_text(out, "aggregate", plan->query.collection);
  lumo_stages list = lumo_stages_begin(out, "pipeline");
  lumo_stage match = lumo_stage_begin(&list, "$match");
  write_related_filter(plan, out, plan->from, plan->to);
  lumo_stage_end(&list, match);
  lumo_stage_text(&list, "$count", "n");
  lumo_stages_end(&list);
  lumo_buf_append(out, plan->query.extra, plan->query.extra_len);
  write_cursor(out);
  lumo_bson_end(out, command);
}

/* One statement per portion of the keys. */
static void build_related_write(related_plan *plan) {
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

/* ---- more keys than one command holds, in order ----
 *
 * Portions cannot be put in order here: the sort fields may not even be in the projection, and a collation is
 * the server's. So an ordered find takes as many keys as one command has bytes for, and beyond that the
 * server joins:
 *   [{$match: owners and not null}, {$group: {_id: "$related"}}, {$lookup: …, as: "r"}, {$unwind: {path:
 * "$r"}},
 *    {$replaceRoot: {newRoot: "$r"}}, {$match: filter}, {$sort}, {$skip}, {$limit}, {$project}]
 * Order matters inside an owner only, so portions of owners go one by one. */

static void add_sort(const related_plan *plan, lumo_stages *list) {
  lumo_stage stage = lumo_stage_begin(list, "$sort");
  write_sort_elements(plan, list->out);
  lumo_stage_end(list, stage);
}

static void add_pivot_match(const related_plan *plan, lumo_stages *list) {
  const char *key = plan->pivot.related_key;
  lumo_stage stage = lumo_stage_begin(list, "$match");
  write_pivot_filter(plan, list->out, plan->from, plan->to);
  size_t related = lumo_bson_begin_document(list->out, key, strlen(key));
  lumo_bson_null(list->out, LUMO_KEY("$ne"));
  lumo_bson_end(list->out, related);
  lumo_stage_end(list, stage);
}

/* A hint names an index of the related collection and has no meaning here. */
static void write_extra_without_hint(const lumo_related_query *query, lumo_buf *out) {
  lumo_buf document = {0};
  lumo_iter it;
  size_t mark = lumo_bson_begin(&document);
  lumo_buf_append(&document, query->extra, query->extra_len);
  lumo_bson_end(&document, mark);
  if (document.failed) out->failed = true;
  lumo_iter_init(&it, document.data, document.failed ? 0 : document.len);
  while (lumo_iter_next(&it))
    if (strcmp(it.key, "hint") != 0) lumo_bson_value(out, it.key, it.key_len, &it.value);
  lumo_buf_free(&document);
}

static void build_joined_find(related_plan *plan) {
  const lumo_related_query *query = &plan->query;
  lumo_buf *out = &plan->out, path = {0};
  lumo_buf_append(&path, "$", 1);
  lumo_buf_append(&path, plan->pivot.related_key, strlen(plan->pivot.related_key) + 1);
  if (path.failed) out->failed = true;
  if (out->failed) {
    lumo_buf_free(&path);
    return;
  }
  size_t command = lumo_bson_begin(out);
  write_text(out, "aggregate", plan->pivot.collection);
  lumo_stages list = lumo_stages_begin(out, "pipeline");
  add_pivot_match(plan, &list);
  lumo_stage_texts(&list, "$group", (const char *const[][2]){{"_id", (const char *)path.data}}, 1);
  lumo_stage_texts(
      &list, "$lookup",
      (const char *const[][2]){
          {"from", query->collection}, {"localField", "_id"}, {"foreignField", query->key}, {"as", "r"}},
      4);
  lumo_stage_texts(&list, "$unwind", (const char *const[][2]){{"path", "$r"}}, 1);
  lumo_stage_texts(&list, "$replaceRoot", (const char *const[][2]){{"newRoot", "$r"}}, 1);
  if (query->filter) lumo_stage_document(&list, "$match", query->filter, query->filter_len);
  add_sort(plan, &list);
  if (query->skip > 0) lumo_stage_number(&list, "$skip", query->skip);
  if (query->limit > 0) lumo_stage_number(&list, "$limit", query->limit);
  if (query->projection && query->projection_len > 5)
    lumo_stage_document(&list, "$project", query->projection, query->projection_len);
  lumo_stages_end(&list);
  write_extra_without_hint(query, out);
  lumo_bson_boolean(out, LUMO_KEY("allowDiskUse"), true);
  write_cursor(out);
  lumo_bson_end(out, command);
  lumo_buf_free(&path);
}

/* ---- the join ---- */

/* The pairs (document, joint) of one key are the product of two lists. The outer side is walked in its order,
 * the inner one by chains, one per key: with an order the documents are outside, without one the joints are.
 */
typedef struct join {
  const related_plan *plan;
  uint32_t joints_end;
  uint32_t owner_from;
  bool documents_outside;
  uint32_t *document_keys; /* of the documents from joined_documents on; NO_KEY: none */
  uint32_t *first;         /* per key: the first of the inner side, + 1 */
  uint32_t *next;          /* beside the inner side: the one after it, + 1 */
  uint32_t *counts;        /* rows per owner, then the place of its next row */
  uint64_t total;
} join;

static uint32_t side_from(const join *j, bool documents) {
  return documents ? j->plan->joined_documents : j->plan->joined_joints;
}

static uint32_t side_to(const join *j, bool documents) {
  return documents ? j->plan->head.documents.count : j->joints_end;
}

static uint32_t side_key(const join *j, bool documents, uint32_t index) {
  return documents ? j->document_keys[index - j->plan->joined_documents] : j->plan->joints[index].key;
}

static void find_document_keys(join *j) {
  const related_plan *plan = j->plan;
  const char *key = plan->query.key;
  for (uint32_t i = plan->joined_documents; i < plan->head.documents.count; i++) {
    const struct lumo_doc *document = &plan->head.documents.items[i];
    lumo_value value;
    lumo_bson_find(document->data, document->len, key, strlen(key), &value);
    int64_t found = lumo_keys_find(&plan->keys, &value);
    j->document_keys[i - plan->joined_documents] = found < 0 ? NO_KEY : (uint32_t)found;
  }
}

/* From the end, so that each chain runs forward. */
static void chain_inner(join *j) {
  bool documents = !j->documents_outside;
  uint32_t from = side_from(j, documents);
  for (uint32_t i = side_to(j, documents); i-- > from;) {
    uint32_t key = side_key(j, documents, i);
    if (key == NO_KEY) continue;
    j->next[i - from] = j->first[key];
    j->first[key] = i + 1;
  }
}

/* Walks all pairs, owners mixed. Without rows it counts; with rows it puts each pair into its owner's place.
 */
static void walk_pairs(join *j, lumo_related_row *rows) {
  bool outside = j->documents_outside;
  uint32_t inner_from = side_from(j, !outside);
  for (uint32_t i = side_from(j, outside); i < side_to(j, outside); i++) {
    uint32_t key = side_key(j, outside, i);
    if (key == NO_KEY) continue;
    for (uint32_t inner = j->first[key]; inner != 0; inner = j->next[inner - 1 - inner_from]) {
      uint32_t document = outside ? i : inner - 1;
      const joint *of = &j->plan->joints[outside ? inner - 1 : i];
      uint32_t *count = &j->counts[of->owner - j->owner_from];
      if (rows)
        rows[*count] = (lumo_related_row){of->owner, document, of->pivot};
      else
        j->total++;
      (*count)++;
    }
  }
}

static bool make_rows(related_plan *plan, join *j, uint32_t owners) {
  find_document_keys(j);
  chain_inner(j);
  walk_pairs(j, NULL);
  if (j->total > UINT32_MAX - plan->head.row_count) return false;
  if (j->total == 0) return true;
  uint32_t place = plan->head.row_count;
  lumo_related_row *rows = lumo_realloc(plan->head.rows, (place + (size_t)j->total) * sizeof *rows);
  if (!rows) return false;
  plan->head.rows = rows;
  for (uint32_t i = 0; i < owners; i++) {
    uint32_t count = j->counts[i];
    j->counts[i] = place;
    place += count;
  }
  walk_pairs(j, rows);
  plan->head.row_count = place;
  return true;
}

/* Makes rows, for these owners, of all that was read since the last time: a counting sort by owner. */
static bool join_rows(related_plan *plan, uint32_t owner_from, uint32_t owner_to) {
  join j = {.plan = plan, .owner_from = owner_from, .documents_outside = is_ordered(plan)};
  j.joints_end = plan->joined_joints; /* joints stand portion of owners by portion of owners */
  while (j.joints_end < plan->joint_count && plan->joints[j.joints_end].owner < owner_to) j.joints_end++;
  uint32_t documents = plan->head.documents.count - plan->joined_documents;
  uint32_t inner = j.documents_outside ? j.joints_end - plan->joined_joints : documents;
  j.document_keys = lumo_malloc(documents * sizeof *j.document_keys);
  j.first = lumo_calloc(plan->keys.count, sizeof *j.first);
  j.next = lumo_malloc(inner * sizeof *j.next);
  j.counts = lumo_calloc(owner_to - owner_from, sizeof *j.counts);
  bool enough =
      j.document_keys && j.first && j.next && j.counts && make_rows(plan, &j, owner_to - owner_from);
  lumo_free(j.document_keys);
  lumo_free(j.first);
  lumo_free(j.next);
  lumo_free(j.counts);
  plan->joined_documents = plan->head.documents.count;
  plan->joined_joints = j.joints_end;
  return enough;
}

/* ---- taking replies ---- */

static bool add_joint(related_plan *plan, joint added) {
  if (plan->joint_count == plan->joint_capacity) {
    size_t capacity = plan->joint_capacity ? (size_t)plan->joint_capacity * 2 : 64;
    joint *joints = capacity < UINT32_MAX ? lumo_realloc(plan->joints, capacity * sizeof *joints) : NULL;
    if (!joints) return false;
    plan->joints = joints;
    plan->joint_capacity = (uint32_t)capacity;
  }
  plan->joints[plan->joint_count++] = added;
  return true;
}

static bool take_pivot(related_plan *plan, uint32_t pivot) {
  const struct lumo_doc *row = &plan->head.pivots.items[pivot];
  const char *owner_key = plan->pivot.owner_key, *related_key = plan->pivot.related_key;
  lumo_value owner, related;
  int64_t found = 0; /* of one owner all rows are */
  uint32_t key;
  lumo_bson_find(row->data, row->len, related_key, strlen(related_key), &related);
  if (lumo_value_is_null(&related) || related.type == LUMO_BSON_REGEX)
    return true; /* no key: among the keys of a filter a pattern would match other records */
  if (plan->query.op != LUMO_RELATED_FIND) return lumo_keys_add(&plan->keys, &related, &key) >= 0;
  if (plan->owners.count > 1) {
    lumo_bson_find(row->data, row->len, owner_key, strlen(owner_key), &owner);
    found = lumo_keys_find(&plan->owners, &owner);
  }
  if (found < 0) return true; /* the key field is an array that holds an owner: no row of ours */
  return lumo_keys_add(&plan->keys, &related, &key) >= 0 &&
         add_joint(plan, (joint){(uint32_t)found, key, pivot});
}

static bool feed_pivots(related_plan *plan, lumo_reply *reply, lumo_error *error) {
  uint32_t before = plan->head.pivots.count;
  if (!lumo_docs_take(&plan->head.pivots, reply, &plan->cursor, error)) return false;
  for (uint32_t i = before; i < plan->head.pivots.count; i++)
    if (!take_pivot(plan, i)) return lumo_error_memory(error);
  if (plan->query.op != LUMO_RELATED_FIND) lumo_docs_free(&plan->head.pivots); /* only the keys are needed */
  return true;
}

static bool feed_count(related_plan *plan, lumo_reply *reply, lumo_error *error) {
  lumo_docs docs = {0};
  bool fine = lumo_docs_take(&docs, reply, &plan->cursor, error);
  for (uint32_t i = 0; fine && i < docs.count; i++)
    plan->head.count += lumo_reply_count(docs.items[i].data, docs.items[i].len, "n");
  lumo_docs_free(&docs);
  return fine;
}

static bool related_feed(lumo_plan *base, lumo_reply *reply, lumo_error *error) {
  related_plan *plan = (related_plan *)base;
  if (plan->phase == PIVOT) return feed_pivots(plan, reply, error);
  switch (plan->query.op) {
  case LUMO_RELATED_FIND: return lumo_docs_take(&plan->head.documents, reply, &plan->cursor, error);
  case LUMO_RELATED_COUNT: return feed_count(plan, reply, error);
  case LUMO_RELATED_UPDATE: plan->head.count = lumo_reply_count(reply->data, reply->len, "nMatched"); break;
  case LUMO_RELATED_DELETE: plan->head.count = lumo_reply_count(reply->data, reply->len, "nRemoved"); break;
  }
  plan->phase = END;
  return true;
}

/* ---- running through the phases ---- */

/* The next portion of a list; false at its end. */
static bool next_portion(related_plan *plan, const lumo_keys *list, uint32_t limit) {
  plan->from = plan->to;
  plan->to = lumo_keys_portion(list, plan->from, limit);
  return plan->to > plan->from;
}

static void set_read(related_plan *plan, lumo_step *step, const char *collection) {
  *step = (lumo_step){.kind = LUMO_STEP_READ,
                      .collection = collection,
                      .command = plan->out.data,
                      .command_len = (uint32_t)plan->out.len};
  plan->cursor_collection = collection;
}

static bool next_find(related_plan *plan, lumo_step *step, lumo_error *error) {
  bool ordered = is_ordered(plan);
  bool on_server = ordered && lumo_keys_portion(&plan->keys, 0, UINT32_MAX) < plan->keys.count;
  const lumo_keys *list = on_server ? &plan->owners : &plan->keys;
  bool read = plan->to > 0;
  uint32_t from = plan->from, to = plan->to;
  bool more = next_portion(plan, list, ordered && !on_server ? UINT32_MAX : LUMO_PORTION_KEYS);
  if (on_server && read && !join_rows(plan, from, to)) return lumo_error_memory(error);
  if (!on_server && !more && !join_rows(plan, 0, plan->owners.count)) return lumo_error_memory(error);
  if (!more) {
    plan->phase = END;
    return true;
  }
  if (on_server)
    build_joined_find(plan);
  else
    build_related_find(plan);
  set_read(plan, step, on_server ? plan->pivot.collection : plan->query.collection);
  return true;
}

static bool next_related(related_plan *plan, lumo_step *step, lumo_error *error) {
  switch (plan->query.op) {
  case LUMO_RELATED_FIND: return next_find(plan, step, error);
  case LUMO_RELATED_COUNT:
    if (!next_portion(plan, &plan->keys, LUMO_PORTION_KEYS)) {
      plan->phase = END;
      return true;
    }
    build_related_count(plan);
    set_read(plan, step, plan->query.collection);
    step->single = true;
    return true;
  default:
    build_related_write(plan);
    *step = (lumo_step){.kind = LUMO_STEP_WRITE,
                        .collection = plan->query.collection,
                        .statements = &plan->out,
                        .ordered = true};
    return true;
  }
}

static bool related_next(lumo_plan *base, lumo_step *step, lumo_error *error) {
  related_plan *plan = (related_plan *)base;
  *step = (lumo_step){.kind = LUMO_STEP_DONE};
  if (plan->cursor != 0) {
    *step =
        (lumo_step){.kind = LUMO_STEP_MORE, .collection = plan->cursor_collection, .cursor = plan->cursor};
    return true;
  }
  lumo_buf_clear(&plan->out);
  if (plan->phase == PIVOT && next_portion(plan, &plan->owners, LUMO_PORTION_KEYS)) {
    build_pivot_find(plan);
    set_read(plan, step, plan->pivot.collection);
  } else {
    if (plan->phase == PIVOT) {
      plan->phase = plan->keys.count > 0 ? RELATED : END;
      plan->from = plan->to = 0;
    }
    if (plan->phase == RELATED && !next_related(plan, step, error)) return false;
  }
  return !plan->out.failed || lumo_error_memory(error);
}

static void related_restart(lumo_plan *base) {
  related_plan *plan = (related_plan *)base;
  lumo_docs_free(&plan->head.documents);
  lumo_docs_free(&plan->head.pivots);
  lumo_free(plan->head.rows);
  plan->head.rows = NULL;
  plan->head.row_count = 0;
  plan->head.count = 0;
  plan->phase = PIVOT;
  plan->from = plan->to = 0;
  plan->cursor = 0;
  plan->joint_count = 0;
  plan->joined_documents = plan->joined_joints = 0;
  lumo_keys_free(&plan->keys);
}

static void related_free(lumo_plan *base) {
  related_plan *plan = (related_plan *)base;
  related_restart(base);
  lumo_pivot_free(&plan->pivot);
  lumo_keys_free(&plan->owners);
  lumo_free(plan->texts);
  lumo_buf_free(&plan->pivot_projection);
  lumo_free(plan->joints);
  lumo_buf_free(&plan->out);
  lumo_free(plan);
}

/* ---- making the plan ---- */

/* Moves bytes into the block and *block behind them. NULL stays NULL. */
static const void *move_in(char **block, const void *bytes, size_t size) {
  if (!bytes) return NULL;
  void *place = memcpy(*block, bytes, size);
  *block += size;
  return place;
}

static bool copy_query(related_plan *plan, const lumo_related_query *from) {
  lumo_related_query *to = &plan->query;
  size_t collection = strlen(from->collection) + 1, key = strlen(from->key) + 1;
  char *block = lumo_malloc(collection + key + from->filter_len + from->projection_len + from->sort_len +
                            from->extra_len + from->update_len + from->pivot_filter_len);
  if (!block) return false;
  plan->texts = block;
  *to = *from;
  to->pivot_fields = NULL;
  to->collection = move_in(&block, from->collection, collection);
  to->key = move_in(&block, from->key, key);
  to->filter = move_in(&block, from->filter, from->filter_len);
  to->projection = move_in(&block, from->projection, from->projection_len);
  to->sort = move_in(&block, from->sort, from->sort_len);
  to->extra = move_in(&block, from->extra, from->extra_len);
  to->update = move_in(&block, from->update, from->update_len);
  to->pivot_filter = move_in(&block, from->pivot_filter, from->pivot_filter_len);
  return true;
}

/* Without _id, unless it was asked for, the index on the two keys may answer alone. */
static bool write_pivot_projection(related_plan *plan, const lumo_related_query *query) {
  const char *owner_key = plan->pivot.owner_key, *related_key = plan->pivot.related_key;
  lumo_buf *out = &plan->pivot_projection;
  bool with_id = false, reads = query->op == LUMO_RELATED_FIND;
  if (reads && query->all_pivot_fields) return true;
  size_t projection = lumo_bson_begin(out);
  for (uint32_t i = 0; reads && i < query->pivot_field_count; i++) {
    const char *field = query->pivot_fields[i];
    if (strcmp(field, "_id") == 0)
      with_id = true;
    else if (strcmp(field, owner_key) != 0 && strcmp(field, related_key) != 0)
      lumo_bson_int32(out, field, strlen(field), 1);
  }
  lumo_bson_int32(out, LUMO_KEY("_id"), with_id);
  if (reads) lumo_bson_int32(out, owner_key, strlen(owner_key), 1);
  lumo_bson_int32(out, related_key, strlen(related_key), 1);
  lumo_bson_end(out, projection);
  return !out->failed;
}

lumo_related_plan *lumo_related_plan_new(const char *name, const lumo_pivot *pivot, const lumo_keys *owners,
                                         const lumo_related_query *query, lumo_error *error) {
  related_plan *plan = lumo_calloc(1, sizeof *plan);
  if (!plan) {
    lumo_error_memory(error);
    return NULL;
  }
  if (!lumo_pivot_copy(&plan->pivot, pivot) || !lumo_keys_copy(&plan->owners, owners) ||
      !copy_query(plan, query) || !write_pivot_projection(plan, query)) {
    related_free(&plan->head.plan);
    lumo_error_memory(error);
    return NULL;
  }
  static const lumo_plan_class class = {related_next, related_feed, related_restart, related_free};
  lumo_plan_init(&plan->head.plan, &class, name);
  plan->head.plan.writes = query->op == LUMO_RELATED_UPDATE || query->op == LUMO_RELATED_DELETE;
  return &plan->head;
}
