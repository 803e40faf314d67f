#include "relation_read.h"

#include <string.h>

#include "mem.h"
#include "relation_plan.h"

#define RANKED_OWNERS 1000 /* in one command: the rows of one related record are gathered in one document */

/* ---- which shape ---- */

static bool is_write(const related_plan *plan) {
  return plan->query.op == LUMO_RELATED_UPDATE || plan->query.op == LUMO_RELATED_DELETE;
}

/* An order that is not the cut's own is made here, of the order in which the other side was read. */
static bool shows_other_side(const related_plan *plan) {
  unsigned show = plan->show.sides, cut = plan->cut.sides;
  return show != cut && show != LUMO_SIDE_BOTH && cut != LUMO_SIDE_BOTH;
}

/* Whether two reads, one of each side, can answer for many owners. */
static bool can_split(const related_plan *plan) {
  const ordering *show = &plan->show, *cut = &plan->cut;
  if (plan->query.paired_filter || show->sides == LUMO_SIDE_BOTH || cut->sides == LUMO_SIDE_BOTH)
    return false;
  return !related_is_reordered(plan) || shows_other_side(plan);
}

static bool can_top(const related_plan *plan) {
  const lumo_related_query *query = &plan->query;
  return plan->cut.sides == LUMO_SIDE_PIVOT && query->limit > 0 && query->skip == 0 && !query->filter &&
         plan->head.plan.wire_version >= LUMO_WIRE_TOP_N;
}

static bool is_direct(const related_plan *plan) {
  return !plan->pivot.collection;
}

static shape_number choose_shape(const related_plan *plan) {
  const lumo_related_query *query = &plan->query;
  if (is_direct(plan)) return DIRECT;
  if (query->op == LUMO_RELATED_VALUE || query->op == LUMO_RELATED_DISTINCT || query->streaming)
    return PAIRED;
  if (query->op != LUMO_RELATED_FIND) return query->paired_filter ? PAIRED : FINDS;
  if (query->eager) return !can_split(plan) ? RANKED : can_top(plan) ? TOP : FINDS;
  if (query->paired_filter || plan->show.sides == LUMO_SIDE_BOTH) return PAIRED;
  return plan->cut.sides == LUMO_SIDE_PIVOT ? PAIRED : FINDS;
}

static const ordering *order_of(const related_plan *plan, unsigned side) {
  if (plan->cut.sides == side) return &plan->cut;
  return plan->show.sides == side ? &plan->show : NULL;
}

static void take_shape(related_plan *plan, shape_number shape) {
  bool finds = plan->query.op == LUMO_RELATED_FIND, bounded = related_is_bounded(plan);
  plan->shape = shape;
  plan->pivot_order = shape == FINDS && finds ? order_of(plan, LUMO_SIDE_PIVOT) : NULL;
  plan->related_order = (shape == FINDS || shape == TOP) && finds ? order_of(plan, LUMO_SIDE_RELATED) : NULL;
  if (shape == DIRECT && (plan->show.document || plan->cut.document))
    plan->related_order = plan->show.document ? &plan->show : &plan->cut;
  plan->server_bounds = shape == FINDS && finds && bounded && !plan->query.eager;
  plan->cuts = (shape == FINDS || shape == TOP) && finds && bounded && plan->query.eager;
  if (shape == DIRECT) plan->cuts = bounded && !related_is_reordered(plan);
  plan->join_key = shape == RANKED || shape == PAIRED ? "_id" : plan->query.key;
  plan->owner_list = &plan->owners;
  plan->known_keys = 0;
  plan->phase = PIVOT;
  plan->from = plan->to = 0;
}

/* ---- taking replies ---- */

static void forget_rows(related_plan *plan) {
  lumo_docs_free(&plan->head.documents);
  lumo_docs_free(&plan->head.pivots);
  lumo_keys_free(&plan->keys);
  plan->joint_count = plan->head.row_count = 0;
}

static bool malformed(lumo_error *error) {
  return lumo_error_set(error, "E_SERVER", "the server's reply is not what its pipeline gives");
}

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

/* Among the keys of a filter a pattern would match other records, and a list would be no one record's. */
static bool is_key(const lumo_value *value) {
  return !lumo_value_is_null(value) && value->type != LUMO_BSON_REGEX && value->type != LUMO_BSON_ARRAY;
}

/* A pivot row and the key of its related record. */
static bool take_row(related_plan *plan, uint32_t pivot, const lumo_value *related) {
  const struct lumo_doc *row = &plan->head.pivots.items[pivot];
  const char *owner_key = plan->pivot.owner_key;
  lumo_value owner;
  int64_t found = 0; /* of one owner all rows are */
  uint32_t key;
  if (!is_key(related)) return true;
  if (plan->owners.count > 1 && plan->query.op == LUMO_RELATED_FIND) {
    lumo_bson_find(row->data, row->len, owner_key, strlen(owner_key), &owner);
    found = lumo_keys_find(&plan->owners, &owner);
  }
  if (found < 0) return true; /* the key field is an array that holds an owner: no row of ours */
  if (lumo_keys_add(&plan->keys, related, &key) < 0) return false;
  return is_write(plan) || add_joint(plan, (joint){(uint32_t)found, key, pivot});
}

static bool take_pivot(related_plan *plan, uint32_t pivot) {
  const struct lumo_doc *row = &plan->head.pivots.items[pivot];
  const char *key = plan->pivot.related_key;
  lumo_value related;
  lumo_bson_find(row->data, row->len, key, strlen(key), &related);
  return take_row(plan, pivot, &related);
}

/* {p: pivot row, k: _id of the related record}; the row's view takes the document's place. */
static bool take_ranked(related_plan *plan, uint32_t pivot, lumo_error *error) {
  struct lumo_doc *item = &plan->head.pivots.items[pivot];
  lumo_value row, key;
  if (!lumo_bson_find(item->data, item->len, LUMO_KEY("p"), &row) || row.type != LUMO_BSON_DOCUMENT ||
      !lumo_bson_find(item->data, item->len, LUMO_KEY("k"), &key))
    return malformed(error);
  *item = (struct lumo_doc){row.data, row.len};
  return take_row(plan, pivot, &key) || lumo_error_memory(error);
}

static bool feed_pivots(related_plan *plan, lumo_reply *reply, lumo_error *error) {
  uint32_t before = plan->head.pivots.count;
  if (!lumo_docs_take(&plan->head.pivots, reply, &plan->cursor, error)) return false;
  for (uint32_t i = before; i < plan->head.pivots.count; i++) {
    if (plan->shape == RANKED && !take_ranked(plan, i, error)) return false;
    if (plan->shape != RANKED && !take_pivot(plan, i)) return lumo_error_memory(error);
  }
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

/* {p: pivot row, r: related record} of the one owner, in order: both become views, and a row. */
static bool take_paired(related_plan *plan, uint32_t document, lumo_error *error) {
  struct lumo_doc *item = &plan->head.documents.items[document];
  lumo_value row, related;
  if (!lumo_bson_find(item->data, item->len, LUMO_KEY("p"), &row) || row.type != LUMO_BSON_DOCUMENT ||
      !lumo_bson_find(item->data, item->len, LUMO_KEY("r"), &related) || related.type != LUMO_BSON_DOCUMENT)
    return malformed(error);
  plan->head.rows[document] = (lumo_related_row){0, document, document};
  *item = (struct lumo_doc){related.data, related.len};
  return lumo_docs_add(&plan->head.pivots, row.data, row.len) || lumo_error_memory(error);
}

static bool feed_paired_find(related_plan *plan, lumo_reply *reply, lumo_error *error) {
  uint32_t before = plan->head.documents.count;
  if (!lumo_docs_take(&plan->head.documents, reply, &plan->cursor, error)) return false;
  uint32_t count = plan->head.documents.count;
  lumo_related_row *rows = lumo_realloc(plan->head.rows, count * sizeof *rows);
  if (!rows) return lumo_error_memory(error);
  plan->head.rows = rows;
  for (uint32_t i = before; i < count; i++)
    if (!take_paired(plan, i, error)) return false;
  plan->head.row_count = count;
  if (!plan->query.streaming) return true;
  if (count > 0)
    plan->batch = BATCH_READY;
  else
    forget_rows(plan); /* an empty batch is nothing to pause for */
  return true;
}

/* The ids of what is to be written. */
static bool feed_ids(related_plan *plan, lumo_reply *reply, lumo_error *error) {
  lumo_docs docs = {0};
  bool fine = lumo_docs_take(&docs, reply, &plan->cursor, error);
  for (uint32_t i = 0; fine && i < docs.count; i++) {
    lumo_value id;
    uint32_t key;
    lumo_bson_find(docs.items[i].data, docs.items[i].len, LUMO_KEY("_id"), &id);
    fine = lumo_keys_add(&plan->keys, &id, &key) >= 0 || lumo_error_memory(error);
  }
  lumo_docs_free(&docs);
  return fine;
}

static bool feed_paired(related_plan *plan, lumo_reply *reply, lumo_error *error) {
  switch (plan->query.op) {
  case LUMO_RELATED_FIND: return feed_paired_find(plan, reply, error);
  case LUMO_RELATED_COUNT: return feed_count(plan, reply, error);
  case LUMO_RELATED_VALUE:
  case LUMO_RELATED_DISTINCT: return lumo_docs_take(&plan->head.documents, reply, &plan->cursor, error);
  default: return feed_ids(plan, reply, error);
  }
}

/* A COUNT whose rows stand more than once for a key asks for the keys that there are. */
static bool counts_rows(const related_plan *plan) {
  return plan->query.op == LUMO_RELATED_COUNT && plan->joint_count > plan->keys.count;
}

static bool related_feed(lumo_plan *base, lumo_reply *reply, lumo_error *error) {
  related_plan *plan = (related_plan *)base;
  if (plan->phase == PIVOT)
    return plan->shape == PAIRED ? feed_paired(plan, reply, error) : feed_pivots(plan, reply, error);
  switch (plan->query.op) {
  case LUMO_RELATED_COUNT:
    if (!counts_rows(plan)) return feed_count(plan, reply, error);
    /* fall through */
  default: return lumo_docs_take(&plan->head.documents, reply, &plan->cursor, error);
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

/* Portions have no common order, so an ordered find takes as many keys as one command has bytes for. Where
 * keys are owners none is needed. */
static uint32_t portion_limit(const related_plan *plan) {
  return plan->related_order && !is_direct(plan) ? UINT32_MAX : LUMO_PORTION_KEYS;
}

/* All pivot rows have been read: what comes next? */
static void leave_pivot(related_plan *plan) {
  bool done = plan->shape == PAIRED && !is_write(plan);
  plan->phase = done ? END : RELATED;
  plan->from = plan->to = plan->known_keys;
  if (plan->related_order && lumo_keys_portion(&plan->keys, 0, UINT32_MAX) < plan->keys.count) {
    forget_rows(plan); /* more than one command holds: the server joins */
    take_shape(plan, plan->query.eager ? RANKED : PAIRED);
  } else if (plan->server_bounds && plan->joint_count > plan->keys.count) {
    plan->cuts = true; /* some records are given more than once */
  }
}

/* The rest of a TOP read: owners that had orphans among their first rows are read whole. Documents that were
 * read in order are read again with theirs. */
static void read_again(related_plan *plan) {
  uint32_t known = plan->related_order ? 0 : plan->keys.count;
  if (known == 0) lumo_docs_free(&plan->head.documents);
  take_shape(plan, FINDS);
  plan->owner_list = &plan->again;
  plan->known_keys = known;
}

static bool end_find(related_plan *plan, lumo_error *error) {
  plan->phase = END;
  if (!lumo_related_join(plan)) return lumo_error_memory(error);
  if (plan->shape == TOP) {
    if (!lumo_related_find_short(plan)) return lumo_error_memory(error);
    if (plan->again.count > 0) {
      read_again(plan);
      return true;
    }
  }
  if (plan->cuts) lumo_related_cut(plan);
  return true;
}

static bool next_find(related_plan *plan, lumo_step *step, lumo_error *error) {
  if (!next_portion(plan, &plan->keys, portion_limit(plan))) return end_find(plan, error);
  if (plan->shape == DIRECT)
    lumo_related_write_direct(plan);
  else
    lumo_related_write_find(plan);
  set_read(plan, step, plan->query.collection);
  return true;
}

static bool next_count(related_plan *plan, lumo_step *step, lumo_error *error) {
  bool rows = counts_rows(plan);
  if (!next_portion(plan, &plan->keys, LUMO_PORTION_KEYS)) {
    plan->phase = END;
    if (!rows) return true;
    if (!lumo_related_join(plan)) return lumo_error_memory(error);
    plan->head.count = plan->head.row_count;
    return true;
  }
  if (rows)
    lumo_related_write_find(plan);
  else
    lumo_related_write_count(plan);
  set_read(plan, step, plan->query.collection);
  step->single = !rows;
  return true;
}

static bool next_write(related_plan *plan, lumo_step *step) {
  if (plan->keys.count == 0) {
    plan->phase = END;
    return true;
  }
  lumo_related_write_statements(plan);
  *step = (lumo_step){.kind = LUMO_STEP_WRITE,
                      .collection = plan->query.collection,
                      .statements = &plan->out,
                      .ordered = true};
  return true;
}

/* Without a pivot each owner is a key, and its own joint. */
static bool take_owners(related_plan *plan) {
  plan->phase = RELATED;
  if (!lumo_keys_copy(&plan->keys, &plan->owners)) return false;
  for (uint32_t i = 0; i < plan->owners.count; i++)
    if (!add_joint(plan, (joint){i, i, LUMO_NO_PIVOT})) return false;
  return true;
}

static bool next_pivot(related_plan *plan, lumo_step *step) {
  uint32_t limit = plan->shape == RANKED ? RANKED_OWNERS : LUMO_PORTION_KEYS;
  if (!next_portion(plan, plan->owner_list, limit)) {
    leave_pivot(plan);
    return true;
  }
  lumo_related_write_pivot(plan);
  set_read(plan, step, plan->pivot.collection);
  return true;
}

/* One move: a step, or a change of the phase. */
static bool move_on(related_plan *plan, lumo_step *step, lumo_error *error) {
  switch (plan->phase) {
  case START: take_shape(plan, choose_shape(plan)); return true;
  case PIVOT:
    if (is_direct(plan)) return take_owners(plan) || lumo_error_memory(error);
    return next_pivot(plan, step);
  case RELATED: break;
  case END: return true;
  }
  if (plan->query.op == LUMO_RELATED_FIND) return next_find(plan, step, error);
  if (plan->query.op == LUMO_RELATED_COUNT) return next_count(plan, step, error);
  return next_write(plan, step);
}

static bool related_next(lumo_plan *base, lumo_step *step, lumo_error *error) {
  related_plan *plan = (related_plan *)base;
  *step = (lumo_step){.kind = LUMO_STEP_DONE};
  if (plan->batch == BATCH_READY) {
    plan->batch = BATCH_GIVEN;
    step->kind = LUMO_STEP_PAUSE;
    return true;
  }
  if (plan->batch == BATCH_GIVEN) forget_rows(plan);
  plan->batch = NO_BATCH;
  if (plan->cursor != 0) {
    *step =
        (lumo_step){.kind = LUMO_STEP_MORE, .collection = plan->cursor_collection, .cursor = plan->cursor};
    return true;
  }
  lumo_buf_clear(&plan->out);
  while (step->kind == LUMO_STEP_DONE && plan->phase != END)
    if (!move_on(plan, step, error)) return false;
  return !plan->out.failed || lumo_error_memory(error);
}

static void related_restart(lumo_plan *base) {
  related_plan *plan = (related_plan *)base;
  forget_rows(plan);
  lumo_free(plan->head.rows);
  plan->head.rows = NULL;
  plan->head.count = 0;
  plan->phase = START;
  plan->batch = NO_BATCH;
  plan->cursor = 0;
  lumo_keys_free(&plan->again);
}

static void related_free(lumo_plan *base) {
  related_plan *plan = (related_plan *)base;
  related_restart(base);
  lumo_pivot_free(&plan->pivot);
  lumo_keys_free(&plan->owners);
  lumo_free(plan->texts);
  lumo_buf_free(&plan->pivot_projection);
  lumo_buf_free(&plan->pivot_fields);
  lumo_buf_free(&plan->default_order);
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

static size_t text_size(const char *text) {
  return text ? strlen(text) + 1 : 0;
}

static bool copy_query(related_plan *plan, const lumo_related_query *from) {
  lumo_related_query *to = &plan->query;
  char *block = lumo_malloc(text_size(from->collection) + text_size(from->key) + from->filter_len +
                            from->pivot_filter_len + from->paired_filter_len + from->joins_len +
                            from->projection_len + from->sort_len + from->group_sort_len + from->extra_len +
                            from->update_len + text_size(from->accumulator) + text_size(from->field));
  if (!block) return false;
  plan->texts = block;
  *to = *from;
  to->pivot_fields = NULL;
  to->collection = move_in(&block, from->collection, text_size(from->collection));
  to->key = move_in(&block, from->key, text_size(from->key));
  to->accumulator = move_in(&block, from->accumulator, text_size(from->accumulator));
  to->field = move_in(&block, from->field, text_size(from->field));
  to->filter = move_in(&block, from->filter, from->filter_len);
  to->pivot_filter = move_in(&block, from->pivot_filter, from->pivot_filter_len);
  to->paired_filter = move_in(&block, from->paired_filter, from->paired_filter_len);
  to->joins = move_in(&block, from->joins, from->joins_len);
  to->projection = move_in(&block, from->projection, from->projection_len);
  to->sort = move_in(&block, from->sort, from->sort_len);
  to->group_sort = move_in(&block, from->group_sort, from->group_sort_len);
  to->extra = move_in(&block, from->extra, from->extra_len);
  to->update = move_in(&block, from->update, from->update_len);
  return true;
}

/* One of the fields to read: of the projection of a find, and of the expressions of a pipeline. */
static void add_pivot_field(related_plan *plan, const char *field) {
  lumo_bson_int32(&plan->pivot_projection, field, strlen(field), 1);
  lumo_buf_append(&plan->pivot_fields, field, strlen(field) + 1);
}

/* Without _id, unless it was asked for, the index on the two keys may answer alone. Of a model between, the
 * two may be one field, and any of them the _id. */
static bool write_pivot_projection(related_plan *plan, const lumo_related_query *query) {
  const char *owner_key = plan->pivot.owner_key, *related_key = plan->pivot.related_key;
  lumo_buf *out = &plan->pivot_projection;
  bool with_id = false, reads = query->op == LUMO_RELATED_FIND;
  if (is_direct(plan) || (reads && query->all_pivot_fields)) return true;
  bool reads_owner = reads && strcmp(owner_key, related_key) != 0;
  bool is_key = strcmp(related_key, "_id") == 0 || (reads_owner && strcmp(owner_key, "_id") == 0);
  size_t projection = lumo_bson_begin(out);
  for (uint32_t i = 0; reads && i < query->pivot_field_count; i++) {
    const char *field = query->pivot_fields[i];
    if (strcmp(field, "_id") == 0)
      with_id = true;
    else if (strcmp(field, owner_key) != 0 && strcmp(field, related_key) != 0)
      add_pivot_field(plan, field);
  }
  if (!is_key && with_id)
    add_pivot_field(plan, "_id");
  else if (!is_key)
    lumo_bson_int32(out, LUMO_KEY("_id"), 0);
  if (reads_owner) add_pivot_field(plan, owner_key);
  add_pivot_field(plan, related_key);
  lumo_bson_end(out, projection);
  return !out->failed && !plan->pivot_fields.failed;
}

static ordering ordering_over(const uint8_t *document, uint32_t len) {
  static const char prefix[] = LUMO_PIVOT_FIELD ".";
  ordering order = {document, len, 0};
  lumo_iter it;
  if (!document) return order;
  lumo_iter_init(&it, document, len);
  while (lumo_iter_next(&it))
    order.sides |= strncmp(it.key, prefix, sizeof prefix - 1) == 0 ? LUMO_SIDE_PIVOT : LUMO_SIDE_RELATED;
  return order;
}

/* {_id: 1}, or {related key: 1} as it is known on one side: the related records where these are read with the
 * limit. */
static bool write_default_order(related_plan *plan) {
  const lumo_related_query *query = &plan->query;
  bool related =
      query->op == LUMO_RELATED_FIND && !query->eager && !query->streaming && !query->paired_filter;
  lumo_buf *out = &plan->default_order, name = {0};
  if (!related && !query->shares_keys) lumo_buf_append(&name, LUMO_KEY(LUMO_PIVOT_FIELD "."));
  const char *key = query->shares_keys ? "_id" : related ? query->key : plan->pivot.related_key;
  lumo_buf_append(&name, key, strlen(key));
  size_t order = lumo_bson_begin(out);
  lumo_bson_int32(out, (const char *)name.data, name.len, 1);
  lumo_bson_end(out, order);
  bool fine = !name.failed && !out->failed;
  lumo_buf_free(&name);
  return fine;
}

static bool take_orders(related_plan *plan) {
  const lumo_related_query *query = &plan->query;
  plan->show = ordering_over(query->sort, query->sort_len);
  if (!related_is_bounded(plan)) return true;
  plan->cut = query->group_sort ? ordering_over(query->group_sort, query->group_sort_len) : plan->show;
  if (plan->cut.document) return true;
  if (!write_default_order(plan)) return false;
  plan->cut = ordering_over(plan->default_order.data, (uint32_t)plan->default_order.len);
  return true;
}

lumo_related_plan *lumo_related_plan_new(const char *name, const lumo_pivot *pivot, const lumo_keys *owners,
                                         const lumo_related_query *query, lumo_error *error) {
  related_plan *plan = lumo_calloc(1, sizeof *plan);
  if (!plan) {
    lumo_error_memory(error);
    return NULL;
  }
  if (!lumo_pivot_copy(&plan->pivot, pivot) || !lumo_keys_copy(&plan->owners, owners) ||
      !copy_query(plan, query) || !write_pivot_projection(plan, query) || !take_orders(plan)) {
    related_free(&plan->head.plan);
    lumo_error_memory(error);
    return NULL;
  }
  static const lumo_plan_class class = {related_next, related_feed, related_restart, related_free};
  lumo_plan_init(&plan->head.plan, &class, name);
  plan->head.plan.writes = is_write(plan);
  plan->head.plan.asks_version = query->eager && related_is_bounded(plan);
  if (query->join_count > 0) plan->head.plan.least_version = LUMO_WIRE_JOINS;
  return &plan->head;
}

bool lumo_related_plan_show(lumo_related_plan *head, lumo_buf *pivot, lumo_buf *related) {
  related_plan *plan = (related_plan *)head;
  take_shape(plan, choose_shape(plan));
  plan->to = plan->owners.count;
  lumo_related_write_pivot(plan);
  lumo_buf_append(pivot, plan->out.data, plan->out.len);
  if (plan->out.failed) pivot->failed = true;
  lumo_buf_clear(&plan->out);
  plan->to = 0;
  bool two = plan->shape != PAIRED;
  if (two) lumo_related_write_find(plan);
  lumo_buf_append(related, plan->out.data, plan->out.len);
  if (plan->out.failed) related->failed = true;
  related_restart(&plan->head.plan);
  return two;
}
