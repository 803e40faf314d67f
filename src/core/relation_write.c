#include "relation_write.h"

#include <string.h>

#include "mem.h"
#include "text.h"

#define MAX_FRUITLESS 16 /* rounds of looking refused pairs up again that lead nowhere */

/* A run of statements fits one command: libmongoc goes on after a refused command of a run that it had to
 * split, and in a transaction the failure of what follows would hide the refusal. */
#define RUN_STATEMENTS LUMO_PORTION_KEYS
#define RUN_BYTES (16 * 1024 * 1024)

/* ---- the pivot ---- */

static size_t text_size(const char *text) {
  return text ? strlen(text) + 1 : 0;
}

/* Moves bytes into the block and *block behind them. NULL stays NULL. */
static const void *move_in(char **block, const void *bytes, size_t size) {
  if (!bytes) return NULL;
  void *place = memcpy(*block, bytes, size);
  *block += size;
  return place;
}

bool lumo_pivot_copy(lumo_pivot *to, const lumo_pivot *from) {
  *to = *from;
  if (!from->collection) { /* a relation without a pivot: nothing to copy, and nothing to hold a block */
    *to = (lumo_pivot){.atomic = from->atomic};
    return true;
  }
  char *block =
      lumo_malloc(text_size(from->collection) + text_size(from->owner_key) + text_size(from->related_key) +
                  text_size(from->created_at) + text_size(from->updated_at) + from->condition_len +
                  from->stages_len + text_size(from->source_key));
  to->collection = NULL;
  if (!block) return false;
  to->collection =
      move_in(&block, from->collection, text_size(from->collection)); /* first: it is the block */
  to->owner_key = move_in(&block, from->owner_key, text_size(from->owner_key));
  to->related_key = move_in(&block, from->related_key, text_size(from->related_key));
  to->created_at = move_in(&block, from->created_at, text_size(from->created_at));
  to->updated_at = move_in(&block, from->updated_at, text_size(from->updated_at));
  to->condition = move_in(&block, from->condition, from->condition_len);
  to->stages = move_in(&block, from->stages, from->stages_len);
  to->source_key = move_in(&block, from->source_key, text_size(from->source_key));
  return true;
}

void lumo_pivot_free(lumo_pivot *pivot) {
  lumo_free((char *)pivot->collection);
  *pivot = (lumo_pivot){0};
}

/* ---- pieces of filters ---- */

/* `field: {$eq: value}`: a value is never read as an operator. */
static void write_equal(lumo_buf *out, const char *field, const lumo_value *value) {
  size_t mark = lumo_bson_begin_document(out, field, strlen(field));
  lumo_bson_value(out, LUMO_KEY("$eq"), value);
  lumo_bson_end(out, mark);
}

/* `key: [condition]`, for $and and its like. Nothing without a condition. */
static void write_condition(lumo_buf *out, const char *key, const lumo_pivot *pivot) {
  if (!pivot->condition) return;
  size_t list = lumo_bson_begin_array(out, key, strlen(key));
  lumo_bson_document(out, LUMO_KEY("0"), pivot->condition, pivot->condition_len);
  lumo_bson_end(out, list);
}

void lumo_pivot_filter(lumo_buf *out, const lumo_pivot *pivot, const lumo_value *owner) {
  write_equal(out, pivot->owner_key, owner);
  write_condition(out, "$and", pivot);
}

/* ---- pieces of rows and updates ---- */

static bool has_field(const lumo_value *document, const char *name, size_t len) {
  lumo_value found;
  return lumo_bson_find(document->data, document->len, name, len, &found);
}

static void write_fields(lumo_buf *out, const lumo_value *document, const lumo_value *except) {
  lumo_iter it;
  lumo_iter_value(&it, document);
  while (lumo_iter_next(&it))
    if (!has_field(except, it.key, it.key_len)) lumo_bson_value(out, it.key, it.key_len, &it.value);
}

/* What makes a row, besides its two keys. A value of type END stands for no document. */
typedef struct row_content {
  uint8_t id[12];
  lumo_value set, fresh;
} row_content;

/* An attribute that the caller gives under a timestamp's name wins over the timestamp. */
static void write_timestamp(lumo_buf *out, const char *name, int64_t now, const row_content *row) {
  if (name && !has_field(&row->set, name, strlen(name)) && !has_field(&row->fresh, name, strlen(name)))
    lumo_bson_date(out, name, strlen(name), now);
}

/* The fields that only a new row gets. */
static void write_fresh(lumo_buf *out, const lumo_pivot *pivot, const row_content *row, int64_t now) {
  write_fields(out, &row->fresh, &row->set);
  write_timestamp(out, pivot->created_at, now, row);
  write_timestamp(out, pivot->updated_at, now, row);
}

/* Does a change of these attributes have to move updated_at? */
static bool moves_timestamp(const lumo_pivot *pivot, const lumo_value *set) {
  return pivot->updated_at && !has_field(set, pivot->updated_at, strlen(pivot->updated_at));
}

/* ---- the merge as a pipeline ----
 *
 * $set replaces an int by the double that equals it, and cannot say "move updated_at if one of these
 * differs". A pipeline writes only what differs:
 *   [{$replaceWith: {$let: {vars: {given: {$literal: set}}, in:
 *     {$cond: [differs, {$mergeObjects: ["$$ROOT", {w: {$cond: [w differs, "$$given.w", "$w"]}, …},
 *                                        {updated_at: now}]}, "$$ROOT"]}}}}]
 * and for an upsert, in front of that, the row to insert, which is the one that has no _id yet. No value of
 * the caller is ever outside of a $literal. */

static void write_text(lumo_buf *out, const char *key, const char *text) {
  lumo_bson_string(out, key, strlen(key), text, strlen(text));
}

/* `key: {$literal: {name: now}}` */
static void write_literal_date(lumo_buf *out, const char *key, const char *name, int64_t now) {
  size_t literal = lumo_bson_begin_document(out, key, strlen(key));
  size_t document = lumo_bson_begin_document(out, LUMO_KEY("$literal"));
  lumo_bson_date(out, name, strlen(name), now);
  lumo_bson_end(out, document);
  lumo_bson_end(out, literal);
}

/* A string element made of a prefix and a field's name: "$name". */
static void write_path(lumo_buf *out, const char *key, const char *prefix, const char *name, size_t len) {
  static const uint8_t nul = 0;
  uint32_t size = (uint32_t)(strlen(prefix) + len + 1);
  const uint8_t prefixed[4] = {(uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16),
                               (uint8_t)(size >> 24)};
  lumo_bson_key(out, LUMO_BSON_STRING, key, strlen(key));
  lumo_buf_append(out, prefixed, sizeof prefixed);
  lumo_buf_append(out, prefix, strlen(prefix));
  lumo_buf_append(out, name, len);
  lumo_buf_append(out, &nul, 1);
}

/* `{$ne: ["$name", "$$given.name"]}` */
static void write_field_differs(lumo_buf *out, const lumo_iter *field) {
  size_t one = lumo_bson_begin(out);
  size_t operands = lumo_bson_begin_array(out, LUMO_KEY("$ne"));
  write_path(out, "0", "$", field->key, field->key_len);
  write_path(out, "1", "$$given.", field->key, field->key_len);
  lumo_bson_end(out, operands);
  lumo_bson_end(out, one);
}

/* `key: {$or: [name differs, …]}` */
static void write_differs(lumo_buf *out, const char *key, const lumo_value *set) {
  lumo_iter it;
  uint32_t index = 0;
  size_t condition = lumo_bson_begin_document(out, key, strlen(key));
  size_t any = lumo_bson_begin_array(out, LUMO_KEY("$or"));
  lumo_iter_value(&it, set);
  while (lumo_iter_next(&it)) {
    lumo_bson_index(out, LUMO_BSON_DOCUMENT, index++);
    write_field_differs(out, &it);
  }
  lumo_bson_end(out, any);
  lumo_bson_end(out, condition);
}

/* `key: {name: {$cond: [name differs, "$$given.name", "$name"]}, …}` */
static void write_differing(lumo_buf *out, const char *key, const lumo_value *set) {
  lumo_iter it;
  size_t fields = lumo_bson_begin_document(out, key, strlen(key));
  lumo_iter_value(&it, set);
  while (lumo_iter_next(&it)) {
    size_t field = lumo_bson_begin_document(out, it.key, it.key_len);
    size_t operands = lumo_bson_begin_array(out, LUMO_KEY("$cond"));
    lumo_bson_key(out, LUMO_BSON_DOCUMENT, LUMO_KEY("0"));
    write_field_differs(out, &it);
    write_path(out, "1", "$$given.", it.key, it.key_len);
    write_path(out, "2", "$", it.key, it.key_len);
    lumo_bson_end(out, operands);
    lumo_bson_end(out, field);
  }
  lumo_bson_end(out, fields);
}

/* `key: {$cond: [differs, merged, "$$ROOT"]}` */
static void write_merge(lumo_buf *out, const char *key, const lumo_pivot *pivot, const lumo_value *set,
                        int64_t now) {
  size_t branch = lumo_bson_begin_document(out, key, strlen(key));
  size_t operands = lumo_bson_begin_array(out, LUMO_KEY("$cond"));
  write_differs(out, "0", set);
  size_t merged = lumo_bson_begin_document(out, LUMO_KEY("1"));
  size_t parts = lumo_bson_begin_array(out, LUMO_KEY("$mergeObjects"));
  write_text(out, "0", "$$ROOT");
  write_differing(out, "1", set);
  if (moves_timestamp(pivot, set)) write_literal_date(out, "2", pivot->updated_at, now);
  lumo_bson_end(out, parts);
  lumo_bson_end(out, merged);
  write_text(out, "2", "$$ROOT");
  lumo_bson_end(out, operands);
  lumo_bson_end(out, branch);
}

/* `key: {$mergeObjects: [{$literal: {_id}}, "$$ROOT", "$$given", {$literal: {fresh fields}}]}`: the same
 * fields in the same order as an insert writes; "$$ROOT" is what the server has made of the filter, the two
 * keys. */
static void write_new_row(lumo_buf *out, const char *key, const lumo_pivot *pivot, const row_content *row,
                          int64_t now) {
  size_t merged = lumo_bson_begin_document(out, key, strlen(key));
  size_t parts = lumo_bson_begin_array(out, LUMO_KEY("$mergeObjects"));
  size_t first = lumo_bson_begin_document(out, LUMO_KEY("0"));
  size_t literal = lumo_bson_begin_document(out, LUMO_KEY("$literal"));
  lumo_bson_objectid(out, LUMO_KEY("_id"), row->id);
  lumo_bson_end(out, literal);
  lumo_bson_end(out, first);
  write_text(out, "1", "$$ROOT");
  write_text(out, "2", "$$given");
  size_t last = lumo_bson_begin_document(out, LUMO_KEY("3"));
  literal = lumo_bson_begin_document(out, LUMO_KEY("$literal"));
  write_fresh(out, pivot, row, now);
  lumo_bson_end(out, literal);
  lumo_bson_end(out, last);
  lumo_bson_end(out, parts);
  lumo_bson_end(out, merged);
}

/* `key: {$cond: [{$eq: [{$type: "$_id"}, "missing"]}, new row, merge]}` */
static void write_upsert(lumo_buf *out, const char *key, const lumo_pivot *pivot, const row_content *row,
                         int64_t now) {
  size_t branch = lumo_bson_begin_document(out, key, strlen(key));
  size_t operands = lumo_bson_begin_array(out, LUMO_KEY("$cond"));
  size_t is_new = lumo_bson_begin_document(out, LUMO_KEY("0"));
  size_t sides = lumo_bson_begin_array(out, LUMO_KEY("$eq"));
  size_t type = lumo_bson_begin_document(out, LUMO_KEY("0"));
  write_text(out, "$type", "$_id");
  lumo_bson_end(out, type);
  write_text(out, "1", "missing");
  lumo_bson_end(out, sides);
  lumo_bson_end(out, is_new);
  write_new_row(out, "1", pivot, row, now);
  write_merge(out, "2", pivot, &row->set, now);
  lumo_bson_end(out, operands);
  lumo_bson_end(out, branch);
}

static void write_pipeline(lumo_buf *out, const lumo_pivot *pivot, const row_content *row, int64_t now,
                           bool upsert) {
  size_t pipeline = lumo_bson_begin(out);
  size_t stage = lumo_bson_begin_document(out, LUMO_KEY("0"));
  size_t replace = lumo_bson_begin_document(out, LUMO_KEY("$replaceWith"));
  size_t let = lumo_bson_begin_document(out, LUMO_KEY("$let"));
  size_t vars = lumo_bson_begin_document(out, LUMO_KEY("vars"));
  size_t given = lumo_bson_begin_document(out, LUMO_KEY("given"));
  lumo_bson_value(out, LUMO_KEY("$literal"), &row->set);
  lumo_bson_end(out, given);
  lumo_bson_end(out, vars);
  if (upsert)
    write_upsert(out, "in", pivot, row, now);
  else
    write_merge(out, "in", pivot, &row->set, now);
  lumo_bson_end(out, let);
  lumo_bson_end(out, replace);
  lumo_bson_end(out, stage);
  lumo_bson_end(out, pipeline);
}

/* ---- the plan of attach, sync and toggle ----
 *
 * It goes through these phases in order; one that has nothing to send is skipped. Only a refused insert goes
 * back, to LOOK. */

typedef enum {
  UPSERT, /* one id to attach, or each by itself: one statement for a pair does it all */
  ROWS,   /* find the rows that are there */
  OTHERS, /* toggle under a condition: find the rows of the rest that it does not hold for */
  LOOK,   /* after a refused insert: find the pairs again, and who else has their derived ids */
  INSERT, /* the missing */
  UPDATE, /* rows whose attributes differ */
  DELETE, /* rows that have to go */
  END,
} phase_number;

typedef enum {
  MISSING, /* no row that we know of */
  BLOCKED, /* missing, and another pair's row has the derived id */
  SETTLED, /* its fate is known */
} pair_state;

typedef struct pairs_plan {
  lumo_pairs_plan head;
  lumo_pairs_op op;
  lumo_pivot pivot;
  lumo_keys owner;  /* its one value */
  lumo_keys fields; /* the names of all attributes given, as strings */
  int64_t now;
  bool collided;      /* an insert has been refused; a restart keeps this and the next */
  uint32_t fruitless; /* refusals since the last time that one id was settled */
  /* ---- what a restart forgets ---- */
  phase_number phase;
  uint32_t from; /* the first id that the phase has not been at yet */
  bool asked;    /* the phase has sent a command */
  bool wrote;    /* rows have been inserted */
  int64_t cursor;
  uint8_t *states;        /* pair_state, beside head.pairs.items */
  uint8_t (*row_ids)[12]; /* the _ids of rows that are written, beside head.pairs.items */
  uint32_t *order;        /* the ids of the last command, by position */
  uint32_t order_count;
  lumo_keys derived; /* LOOK: the derived ids that were asked for, beside order */
  lumo_buf updates;  /* statements */
  size_t updated;    /* how much of them has been sent */
  lumo_keys doomed;  /* _ids of rows to delete */
  lumo_buf out;      /* the command or statements of the current step */
} pairs_plan;

static lumo_value owner_of(const pairs_plan *plan) {
  return lumo_keys_at(&plan->owner, 0);
}

static lumo_value document_at(const lumo_buf *documents, uint32_t at, uint32_t len) {
  return len ? (lumo_value){documents->data + at, len, LUMO_BSON_DOCUMENT} : (lumo_value){0};
}

static row_content content_of(const pairs_plan *plan, uint32_t index) {
  const lumo_pairs *pairs = &plan->head.pairs;
  const struct lumo_pair *pair = &pairs->items[index];
  return (row_content){.set = document_at(&pairs->documents, pair->set, pair->set_len),
                       .fresh = document_at(&pairs->documents, pair->fresh, pair->fresh_len)};
}

static bool is_attach(const pairs_plan *plan) {
  return plan->op != LUMO_SYNC && plan->op != LUMO_TOGGLE;
}

/* In a bag, attach adds rows without asking; the other operations ask there too. */
static bool adds_blindly(const pairs_plan *plan) {
  return plan->op == LUMO_ATTACH_MADE ||
         (plan->pivot.duplicates && (plan->op == LUMO_ATTACH || plan->op == LUMO_ATTACH_EACH));
}

static void derive_id(pairs_plan *plan, uint32_t index, uint8_t id[12]) {
  lumo_value owner = owner_of(plan), related = lumo_keys_at(&plan->head.pairs.keys, index);
  if (!lumo_pair_id(plan->pivot.owner_key, &owner, plan->pivot.related_key, &related, id))
    plan->out.failed = true;
}

static void settle(pairs_plan *plan, uint32_t index, lumo_pair_fate fate) {
  plan->states[index] = SETTLED;
  plan->head.fates[index] = (uint8_t)fate;
}

static void enter(pairs_plan *plan, phase_number phase) {
  plan->phase = phase;
  plan->from = 0;
  plan->asked = false;
}

static bool malformed(lumo_error *error) {
  return lumo_error_set(error, "E_SERVER", "the server's reply lacks a field that was asked for");
}

/* ---- UPSERT ---- */

static void write_upsert_statement(pairs_plan *plan, uint32_t index) {
  const lumo_pivot *pivot = &plan->pivot;
  lumo_buf *out = &plan->out;
  lumo_value owner = owner_of(plan), related = lumo_keys_at(&plan->head.pairs.keys, index);
  row_content row = content_of(plan, index);
  derive_id(plan, index, row.id);
  memcpy(plan->row_ids[index], row.id, sizeof row.id);
  lumo_statement_begin(out, LUMO_UPSERT_ONE);
  size_t filter = lumo_bson_begin(out);
  write_equal(out, pivot->owner_key, &owner);
  write_equal(out, pivot->related_key, &related);
  lumo_bson_end(out, filter);
  if (row.set.type != LUMO_BSON_END) {
    write_pipeline(out, pivot, &row, plan->now, true);
    return;
  }
  size_t update = lumo_bson_begin(out);
  size_t insert = lumo_bson_begin_document(out, LUMO_KEY("$setOnInsert"));
  lumo_bson_objectid(out, LUMO_KEY("_id"), row.id);
  write_fresh(out, pivot, &row, plan->now);
  lumo_bson_end(out, insert);
  lumo_bson_end(out, update);
}

static bool upsert_build(pairs_plan *plan) {
  uint32_t count = plan->head.pairs.keys.count;
  if (!is_attach(plan) || adds_blindly(plan) || plan->pivot.duplicates || plan->collided) return false;
  if (count != 1 && plan->op != LUMO_ATTACH_EACH) return false;
  plan->order_count = 0;
  for (; plan->from < count && plan->order_count < RUN_STATEMENTS && plan->out.len < RUN_BYTES;
       plan->from++) {
    plan->order[plan->order_count++] = plan->from;
    write_upsert_statement(plan, plan->from);
  }
  return plan->order_count > 0;
}

static bool collide(pairs_plan *plan, const lumo_reply *reply, bool *refused, lumo_error *error);

/* Which of the statements were inserts. */
static bool note_upserted(pairs_plan *plan, const lumo_reply *reply, lumo_error *error) {
  lumo_value upserted;
  lumo_iter it;
  if (!lumo_bson_find(reply->data, reply->len, LUMO_KEY("upserted"), &upserted)) return true;
  lumo_iter_value(&it, &upserted);
  while (lumo_iter_next(&it)) {
    int64_t index = lumo_reply_count(it.value.data, it.value.len, "index");
    if (index < 0 || index >= plan->order_count) return malformed(error);
    settle(plan, plan->order[index], LUMO_PAIR_ATTACHED);
  }
  return true;
}

/* Of several that were there already the server does not say which it has changed: they count as unchanged
 * unless all were changed. */
static bool upsert_feed(pairs_plan *plan, lumo_reply *reply, lumo_error *error) {
  bool refused;
  int64_t matched = lumo_reply_count(reply->data, reply->len, "nMatched");
  bool changed = matched > 0 && lumo_reply_count(reply->data, reply->len, "nModified") == matched;
  if (lumo_reply_count(reply->data, reply->len, "nUpserted") > 0) plan->wrote = true;
  for (uint32_t i = 0; i < plan->order_count; i++)
    settle(plan, plan->order[i], changed ? LUMO_PAIR_UPDATED : LUMO_PAIR_UNCHANGED);
  if (!note_upserted(plan, reply, error) || !collide(plan, reply, &refused, error)) return false;
  if (refused)
    enter(plan, LOOK);
  else if (plan->from == plan->head.pairs.keys.count)
    enter(plan, END);
  return true;
}

/* ---- reading rows ---- */

/* Fills `order` with the next ids without a row, as many as one command takes. */
static void take_portion(pairs_plan *plan) {
  const lumo_keys *keys = &plan->head.pairs.keys;
  size_t bytes = 0;
  plan->order_count = 0;
  for (; plan->from < keys->count && plan->order_count < LUMO_PORTION_KEYS; plan->from++) {
    if (plan->states[plan->from] == SETTLED) continue;
    bytes += keys->items[plan->from].len + LUMO_PORTION_OVERHEAD;
    if (bytes > LUMO_PORTION_BYTES && plan->order_count > 0) break;
    plan->order[plan->order_count++] = plan->from;
  }
}

/* `related key: {$in: [the ids of the portion]}` */
static void write_portion(pairs_plan *plan) {
  lumo_buf *out = &plan->out;
  size_t field = lumo_bson_begin_document(out, plan->pivot.related_key, strlen(plan->pivot.related_key));
  size_t list = lumo_bson_begin_array(out, LUMO_KEY("$in"));
  for (uint32_t i = 0; i < plan->order_count; i++) {
    lumo_value id = lumo_keys_at(&plan->head.pairs.keys, plan->order[i]);
    lumo_bson_index(out, id.type, i);
    lumo_buf_append(out, id.data, id.len);
  }
  lumo_bson_end(out, list);
  lumo_bson_end(out, field);
}

typedef struct find_marks {
  size_t command, filter;
} find_marks;

static find_marks begin_find(lumo_buf *out, const char *collection) {
  find_marks marks;
  marks.command = lumo_bson_begin(out);
  write_text(out, "find", collection);
  marks.filter = lumo_bson_begin_document(out, LUMO_KEY("filter"));
  return marks;
}

/* Without _id the find can be answered from the index on the two keys alone. */
static void end_find(pairs_plan *plan, find_marks marks, bool with_id, bool with_owner, bool with_fields) {
  lumo_buf *out = &plan->out;
  lumo_bson_end(out, marks.filter);
  size_t projection = lumo_bson_begin_document(out, LUMO_KEY("projection"));
  lumo_bson_int32(out, LUMO_KEY("_id"), with_id);
  if (with_owner) lumo_bson_int32(out, plan->pivot.owner_key, strlen(plan->pivot.owner_key), 1);
  lumo_bson_int32(out, plan->pivot.related_key, strlen(plan->pivot.related_key), 1);
  for (uint32_t i = 0; with_fields && i < plan->fields.count; i++) {
    uint32_t len;
    lumo_value name = lumo_keys_at(&plan->fields, i);
    const char *text = lumo_value_text(&name, &len);
    lumo_bson_int32(out, text, len, 1);
  }
  lumo_bson_end(out, projection);
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, marks.command);
  plan->asked = true;
}

/* Rows of the ids; for a sync also all others that the condition lets us see. Rows of the ids count whether
 * the condition holds for them or not, as a pair must not stand twice; but in a bag, where it may, those are
 * none of ours. A toggle asks for those that it is to detach. */
static bool rows_build(pairs_plan *plan) {
  const lumo_pivot *pivot = &plan->pivot;
  lumo_buf *out = &plan->out;
  lumo_value owner = owner_of(plan);
  bool whole = plan->op == LUMO_SYNC, first = !plan->asked;
  bool bound = pivot->duplicates || plan->op == LUMO_TOGGLE;
  bool by_id = !whole || (pivot->condition && !bound);
  if (adds_blindly(plan)) return false;
  plan->order_count = 0;
  if (by_id) take_portion(plan);
  if (plan->order_count == 0 && !(whole && first)) return false;
  find_marks marks = begin_find(out, pivot->collection);
  write_equal(out, pivot->owner_key, &owner);
  if (bound) write_condition(out, "$and", pivot);
  if (!whole) {
    write_portion(plan);
  } else if (by_id && first) {
    size_t list = lumo_bson_begin_array(out, LUMO_KEY("$or"));
    lumo_bson_document(out, LUMO_KEY("0"), pivot->condition, pivot->condition_len);
    size_t ids = lumo_bson_begin_document(out, LUMO_KEY("1"));
    write_portion(plan);
    lumo_bson_end(out, ids);
    lumo_bson_end(out, list);
  } else if (by_id) { /* the rest of many ids: what the condition lets through has been read */
    write_portion(plan);
    write_condition(out, "$nor", pivot);
  }
  end_find(plan, marks, plan->fields.count > 0 || !is_attach(plan), false, true);
  return true;
}

/* Queues the update of a row that differs from the attributes given for its id. Only what differs is written,
 * so an unchanged number keeps its type. */
static bool merge(pairs_plan *plan, uint32_t index, const struct lumo_doc *row, lumo_error *error) {
  const lumo_value set = content_of(plan, index).set;
  lumo_buf *out = &plan->updates;
  size_t update = 0, begun = 0;
  lumo_value id, stored;
  lumo_iter it;
  lumo_iter_value(&it, &set);
  while (lumo_iter_next(&it)) {
    if (lumo_bson_find(row->data, row->len, it.key, it.key_len, &stored) &&
        lumo_value_equal(&stored, &it.value))
      continue;
    if (begun == 0) {
      if (!lumo_bson_find(row->data, row->len, LUMO_KEY("_id"), &id)) return malformed(error);
      lumo_statement_begin(out, LUMO_UPDATE_ONE);
      size_t filter = lumo_bson_begin(out);
      write_equal(out, "_id", &id);
      lumo_bson_end(out, filter);
      update = lumo_bson_begin(out);
      begun = lumo_bson_begin_document(out, LUMO_KEY("$set"));
    }
    lumo_bson_value(out, it.key, it.key_len, &it.value);
  }
  if (begun == 0) return true;
  if (moves_timestamp(&plan->pivot, &set))
    lumo_bson_date(out, plan->pivot.updated_at, strlen(plan->pivot.updated_at), plan->now);
  lumo_bson_end(out, begun);
  lumo_bson_end(out, update);
  plan->head.fates[index] = LUMO_PAIR_UPDATED;
  return !out->failed || lumo_error_memory(error);
}

static bool doom(pairs_plan *plan, const struct lumo_doc *row, lumo_error *error) {
  lumo_value id;
  uint32_t index;
  if (!lumo_bson_find(row->data, row->len, LUMO_KEY("_id"), &id)) return malformed(error);
  return lumo_keys_add(&plan->doomed, &id, &index) >= 0 || lumo_error_memory(error);
}

static bool rows_row(pairs_plan *plan, const struct lumo_doc *row, lumo_error *error) {
  const char *key = plan->pivot.related_key;
  lumo_value related;
  uint32_t index;
  lumo_bson_find(row->data, row->len, key, strlen(key), &related);
  if (lumo_value_is_null(&related)) return true;
  int64_t found = lumo_keys_find(&plan->head.pairs.keys, &related);
  if (found < 0) {
    if (plan->op != LUMO_SYNC) return true;
    if (lumo_keys_add(&plan->head.detached, &related, &index) < 0) return lumo_error_memory(error);
    return doom(plan, row, error);
  }
  index = (uint32_t)found;
  if (plan->op == LUMO_TOGGLE) {
    settle(plan, index, LUMO_PAIR_DETACHED);
    return doom(plan, row, error);
  }
  plan->states[index] = SETTLED;
  return merge(plan, index, row, error);
}

static bool others_build(pairs_plan *plan) {
  const lumo_pivot *pivot = &plan->pivot;
  lumo_value owner = owner_of(plan);
  if (plan->op != LUMO_TOGGLE || !pivot->condition || pivot->duplicates) return false;
  take_portion(plan);
  if (plan->order_count == 0) return false;
  find_marks marks = begin_find(&plan->out, pivot->collection);
  write_equal(&plan->out, pivot->owner_key, &owner);
  write_portion(plan);
  end_find(plan, marks, true, false, true);
  return true;
}

/* The pair stands already: it is made one of the relation's by the attributes that the condition asks for. */
static bool others_row(pairs_plan *plan, const struct lumo_doc *row, lumo_error *error) {
  const char *key = plan->pivot.related_key;
  lumo_value related;
  lumo_bson_find(row->data, row->len, key, strlen(key), &related);
  int64_t found = lumo_keys_find(&plan->head.pairs.keys, &related);
  if (found < 0) return true;
  plan->states[found] = SETTLED;
  return merge(plan, (uint32_t)found, row, error);
}

/* ---- LOOK ---- */

static bool look_build(pairs_plan *plan) {
  const lumo_pivot *pivot = &plan->pivot;
  lumo_buf *out = &plan->out;
  lumo_value owner = owner_of(plan);
  uint8_t id[12];
  uint32_t index;
  if (!plan->collided) return false;
  take_portion(plan);
  if (plan->order_count == 0) return false;
  lumo_keys_free(&plan->derived);
  for (uint32_t i = 0; i < plan->order_count; i++) {
    lumo_value value = {id, sizeof id, LUMO_BSON_OBJECTID};
    plan->states[plan->order[i]] = MISSING; /* whether it is blocked is found out anew */
    derive_id(plan, plan->order[i], id);
    if (!out->failed && lumo_keys_add(&plan->derived, &value, &index) < 0) out->failed = true;
    if (out->failed) return false; /* then there may be no id, either */
  }
  find_marks marks = begin_find(out, pivot->collection);
  size_t list = lumo_bson_begin_array(out, LUMO_KEY("$or"));
  size_t pair = lumo_bson_begin_document(out, LUMO_KEY("0"));
  write_equal(out, pivot->owner_key, &owner);
  write_portion(plan);
  lumo_bson_end(out, pair);
  size_t ids = lumo_bson_begin_document(out, LUMO_KEY("1"));
  lumo_keys_filter(&plan->derived, 0, plan->derived.count, out, "_id");
  lumo_bson_end(out, ids);
  lumo_bson_end(out, list);
  end_find(plan, marks, true, true, true);
  return true;
}

/* A row of the pair: another writer was first. A row of another pair under the derived id: this one needs a
 * generated id. */
static bool look_row(pairs_plan *plan, const struct lumo_doc *row, lumo_error *error) {
  const lumo_pivot *pivot = &plan->pivot;
  lumo_value wanted = owner_of(plan), owner, related, id;
  lumo_bson_find(row->data, row->len, pivot->owner_key, strlen(pivot->owner_key), &owner);
  lumo_bson_find(row->data, row->len, pivot->related_key, strlen(pivot->related_key), &related);
  if (!lumo_bson_find(row->data, row->len, LUMO_KEY("_id"), &id)) return malformed(error);
  int64_t found = lumo_value_equal(&owner, &wanted) ? lumo_keys_find(&plan->head.pairs.keys, &related) : -1;
  if (found >= 0 && plan->states[found] != SETTLED) {
    settle(plan, (uint32_t)found, LUMO_PAIR_UNCHANGED);
    plan->fruitless = 0;
    if (plan->op != LUMO_TOGGLE && !merge(plan, (uint32_t)found, row, error)) return false;
  }
  int64_t taken = lumo_keys_find(&plan->derived, &id);
  if (taken >= 0 && plan->states[plan->order[taken]] == MISSING) plan->states[plan->order[taken]] = BLOCKED;
  return true;
}

/* ---- INSERT ---- */

static void write_row(pairs_plan *plan, uint32_t index) {
  const lumo_pivot *pivot = &plan->pivot;
  lumo_buf *out = &plan->out;
  static const lumo_value none;
  lumo_value owner = owner_of(plan), related = lumo_keys_at(&plan->head.pairs.keys, index);
  row_content row = content_of(plan, index);
  if (pivot->duplicates || plan->states[index] == BLOCKED)
    lumo_objectid_new(row.id);
  else
    derive_id(plan, index, row.id);
  memcpy(plan->row_ids[index], row.id, sizeof row.id);
  lumo_statement_begin(out, LUMO_INSERT);
  size_t document = lumo_bson_begin(out);
  lumo_bson_objectid(out, LUMO_KEY("_id"), row.id);
  lumo_bson_value(out, pivot->owner_key, strlen(pivot->owner_key), &owner);
  lumo_bson_value(out, pivot->related_key, strlen(pivot->related_key), &related);
  write_fields(out, &row.set, &none);
  write_fresh(out, pivot, &row, plan->now);
  lumo_bson_end(out, document);
}

static bool insert_build(pairs_plan *plan) {
  uint32_t count = plan->head.pairs.keys.count;
  plan->order_count = 0;
  for (; plan->from < count && plan->order_count < RUN_STATEMENTS && plan->out.len < RUN_BYTES;
       plan->from++) {
    if (plan->states[plan->from] == SETTLED) continue;
    plan->order[plan->order_count++] = plan->from;
    write_row(plan, plan->from);
  }
  return plan->order_count > 0;
}

/* Does a duplicate under this index mean no more than "look again"? True for _id, for the two keys, and where
 * the server does not say which index it was. */
static bool is_own_index(const lumo_pivot *pivot, const lumo_value *pattern) {
  lumo_iter it;
  uint32_t fields = 0;
  if (pattern->type != LUMO_BSON_DOCUMENT) return true;
  lumo_iter_value(&it, pattern);
  while (lumo_iter_next(&it)) {
    fields++;
    if (strcmp(it.key, "_id") != 0 && strcmp(it.key, pivot->owner_key) != 0 &&
        strcmp(it.key, pivot->related_key) != 0)
      return false;
  }
  return fields == 2 || (fields == 1 && has_field(pattern, LUMO_KEY("_id")));
}

static void copy_text(char *to, size_t size, const char *from, size_t len) {
  if (len >= size) len = size - 1;
  memcpy(to, from, len);
  to[len] = '\0';
}

/* Makes E_DUPLICATE_KEY of a write error. */
static bool fail_duplicate(const pairs_plan *plan, const lumo_value *refusal, const lumo_reply *reply,
                           lumo_error *error) {
  lumo_value pattern, value, text;
  lumo_iter it;
  size_t used = 0;
  uint32_t len;
  lumo_bson_find(refusal->data, refusal->len, LUMO_KEY("keyPattern"), &pattern);
  lumo_bson_find(refusal->data, refusal->len, LUMO_KEY("keyValue"), &value);
  lumo_bson_find(refusal->data, refusal->len, LUMO_KEY("errmsg"), &text);
  lumo_iter_value(&it, &pattern);
  while (lumo_iter_next(&it) && used + it.key_len + 3 < sizeof error->key) {
    copy_text(error->key + used, sizeof error->key - used, used ? ", " : "", used ? 2 : 0);
    used += used ? 2 : 0;
    copy_text(error->key + used, sizeof error->key - used, it.key, it.key_len);
    used += it.key_len;
  }
  if (text.type == LUMO_BSON_STRING) {
    const char *words = lumo_value_text(&text, &len);
    copy_text(error->cause, sizeof error->cause, words, len);
  }
  if (value.type == LUMO_BSON_DOCUMENT && (error->value = lumo_malloc(value.len)) != NULL) {
    memcpy(error->value, value.data, value.len);
    error->value_len = value.len;
  }
  error->server_code = 11000;
  error->write_index = (int32_t)lumo_reply_count(refusal->data, refusal->len, "index");
  error->outcome = plan->wrote && !reply->transaction_dead ? LUMO_APPLIED : LUMO_NOT_APPLIED;
  return lumo_error_set(error, "E_DUPLICATE_KEY", "a unique index of \"%s\" refused a row%s",
                        plan->pivot.collection,
                        error->outcome == LUMO_APPLIED ? "; other rows have been written" : "");
}

/* Takes note of the rows that a unique index refused: their ids are without a row again, all others of
 * `order` keep the state that the caller has given them. */
static bool collide(pairs_plan *plan, const lumo_reply *reply, bool *refused, lumo_error *error) {
  lumo_value errors, pattern;
  lumo_iter it;
  *refused = false;
  lumo_bson_find(reply->data, reply->len, LUMO_KEY("writeErrors"), &errors);
  lumo_iter_value(&it, &errors);
  while (lumo_iter_next(&it)) {
    if (it.value.type != LUMO_BSON_DOCUMENT) return malformed(error);
    if (!*refused) plan->fruitless++;
    *refused = plan->collided = true;
    int64_t index = lumo_reply_count(it.value.data, it.value.len, "index");
    lumo_bson_find(it.value.data, it.value.len, LUMO_KEY("keyPattern"), &pattern);
    if (!is_own_index(&plan->pivot, &pattern) || plan->fruitless > MAX_FRUITLESS)
      return fail_duplicate(plan, &it.value, reply, error);
    if (index < 0 || index >= plan->order_count) return malformed(error);
    plan->states[plan->order[index]] = MISSING;
    plan->head.fates[plan->order[index]] = LUMO_PAIR_UNCHANGED;
  }
  return true;
}

static bool insert_feed(pairs_plan *plan, lumo_reply *reply, lumo_error *error) {
  bool refused;
  if (lumo_reply_count(reply->data, reply->len, "nInserted") > 0) {
    plan->wrote = true;
    plan->fruitless = 0;
  }
  for (uint32_t i = 0; i < plan->order_count; i++) settle(plan, plan->order[i], LUMO_PAIR_ATTACHED);
  if (!collide(plan, reply, &refused, error)) return false;
  if (refused) enter(plan, LOOK); /* which comes back for the rest */
  return true;
}

void lumo_pairs_row(const lumo_pairs_plan *head, uint32_t index, lumo_buf *out) {
  const pairs_plan *plan = (const pairs_plan *)head;
  const lumo_pivot *pivot = &plan->pivot;
  lumo_value owner = owner_of(plan), related = lumo_keys_at(&head->pairs.keys, index);
  row_content row = content_of(plan, index);
  size_t document = lumo_bson_begin(out);
  if (head->fates[index] == LUMO_PAIR_ATTACHED)
    lumo_bson_objectid(out, LUMO_KEY("_id"), plan->row_ids[index]);
  lumo_bson_value(out, pivot->owner_key, strlen(pivot->owner_key), &owner);
  lumo_bson_value(out, pivot->related_key, strlen(pivot->related_key), &related);
  write_fields(out, &row.set, &(lumo_value){0});
  if (head->fates[index] == LUMO_PAIR_ATTACHED) write_fresh(out, pivot, &row, plan->now);
  lumo_bson_end(out, document);
}

/* ---- UPDATE, DELETE ---- */

static bool update_build(pairs_plan *plan) {
  size_t at = plan->updated;
  lumo_statement statement;
  for (uint32_t i = 0; i < RUN_STATEMENTS && at - plan->updated < RUN_BYTES; i++)
    if (!lumo_statement_next(&plan->updates, &at, &statement)) break;
  if (at == plan->updated) return false;
  lumo_buf_append(&plan->out, plan->updates.data + plan->updated, at - plan->updated);
  plan->updated = at;
  return true;
}

static bool update_feed(pairs_plan *plan, lumo_reply *reply, lumo_error *error) {
  (void)plan, (void)reply, (void)error; /* how many there were is of no interest: a row may be gone by now */
  return true;
}

/* By _id, many at a time: doing it twice does no harm, so it may be sent again. */
static bool delete_build(pairs_plan *plan) {
  lumo_buf *out = &plan->out;
  for (uint32_t from = 0, to; from < plan->doomed.count; from = to) {
    to = lumo_keys_portion(&plan->doomed, from, LUMO_PORTION_KEYS);
    lumo_statement_begin(out, LUMO_DELETE_MANY);
    size_t filter = lumo_bson_begin(out);
    lumo_keys_filter(&plan->doomed, from, to, out, "_id");
    write_condition(out, "$and", &plan->pivot);
    lumo_bson_end(out, filter);
  }
  return plan->doomed.count > 0;
}

static bool delete_feed(pairs_plan *plan, lumo_reply *reply, lumo_error *error) {
  (void)reply, (void)error;
  enter(plan, END);
  return true;
}

/* ---- running through the phases ---- */

typedef struct phase {
  lumo_step_kind kind;
  /* Puts the next command or run of statements into `out`; false: there is nothing (more) to send. */
  bool (*build)(pairs_plan *plan);
  /* WRITE: takes the reply. */
  bool (*feed)(pairs_plan *plan, lumo_reply *reply, lumo_error *error);
  /* READ: takes one document of a reply. */
  bool (*row)(pairs_plan *plan, const struct lumo_doc *row, lumo_error *error);
} phase;

static const phase phases[] = {
    [UPSERT] = {LUMO_STEP_WRITE, upsert_build, upsert_feed, NULL},
    [ROWS] = {LUMO_STEP_READ, rows_build, NULL, rows_row},
    [OTHERS] = {LUMO_STEP_READ, others_build, NULL, others_row},
    [LOOK] = {LUMO_STEP_READ, look_build, NULL, look_row},
    [INSERT] = {LUMO_STEP_WRITE, insert_build, insert_feed, NULL},
    [UPDATE] = {LUMO_STEP_WRITE, update_build, update_feed, NULL},
    [DELETE] = {LUMO_STEP_WRITE, delete_build, delete_feed, NULL},
};

static bool pairs_next(lumo_plan *base, lumo_step *step, lumo_error *error) {
  pairs_plan *plan = (pairs_plan *)base;
  *step = (lumo_step){.kind = LUMO_STEP_DONE, .collection = plan->pivot.collection};
  if (plan->cursor != 0) {
    step->kind = LUMO_STEP_MORE;
    step->cursor = plan->cursor;
    return true;
  }
  for (; plan->phase != END; enter(plan, plan->phase + 1)) {
    const phase *now = &phases[plan->phase];
    lumo_buf_clear(&plan->out);
    bool any = now->build(plan);
    if (plan->out.failed) return lumo_error_memory(error);
    if (!any) continue;
    step->kind = now->kind;
    if (now->kind == LUMO_STEP_WRITE) {
      step->statements = &plan->out;
      step->repeatable = !plan->pivot.duplicates;
      step->feed_duplicates = (plan->phase == UPSERT || plan->phase == INSERT) && !plan->pivot.duplicates;
    } else {
      step->command = plan->out.data;
      step->command_len = (uint32_t)plan->out.len;
    }
    break;
  }
  return true;
}

static bool pairs_feed(lumo_plan *base, lumo_reply *reply, lumo_error *error) {
  pairs_plan *plan = (pairs_plan *)base;
  const phase *now = &phases[plan->phase];
  if (now->kind == LUMO_STEP_WRITE) return now->feed(plan, reply, error);
  lumo_docs docs = {0};
  bool fine = lumo_docs_take(&docs, reply, &plan->cursor, error);
  for (uint32_t i = 0; fine && i < docs.count; i++) fine = now->row(plan, &docs.items[i], error);
  lumo_docs_free(&docs);
  return fine;
}

static void pairs_restart(lumo_plan *base) {
  pairs_plan *plan = (pairs_plan *)base;
  uint32_t count = plan->head.pairs.keys.count;
  enter(plan, UPSERT);
  plan->wrote = false;
  plan->cursor = 0;
  memset(plan->states, MISSING, count);
  memset(plan->head.fates, LUMO_PAIR_UNCHANGED, count);
  lumo_keys_free(&plan->head.detached);
  lumo_keys_free(&plan->doomed);
  lumo_buf_clear(&plan->updates);
  plan->updated = 0;
}

static void pairs_free(lumo_plan *base) {
  pairs_plan *plan = (pairs_plan *)base;
  lumo_pairs_free(&plan->head.pairs);
  lumo_free(plan->head.fates);
  lumo_keys_free(&plan->head.detached);
  lumo_pivot_free(&plan->pivot);
  lumo_keys_free(&plan->owner);
  lumo_keys_free(&plan->fields);
  lumo_free(plan->states);
  lumo_free(plan->row_ids);
  lumo_free(plan->order);
  lumo_keys_free(&plan->derived);
  lumo_buf_free(&plan->updates);
  lumo_keys_free(&plan->doomed);
  lumo_buf_free(&plan->out);
  lumo_free(plan);
}

/* Collects the names of all attributes. */
static bool collect_fields(pairs_plan *plan) {
  lumo_buf name = {0};
  lumo_iter it;
  uint32_t index;
  bool enough = true;
  for (uint32_t i = 0; i < plan->head.pairs.keys.count && enough; i++) {
    lumo_value set = content_of(plan, i).set;
    lumo_iter_value(&it, &set);
    while (enough && lumo_iter_next(&it)) {
      lumo_buf_clear(&name);
      lumo_bson_string(&name, "", 0, it.key,
                       it.key_len); /* its value stands behind a type and an empty key */
      lumo_value text = {name.data + 2, (uint32_t)name.len - 2, LUMO_BSON_STRING};
      enough = !name.failed && lumo_keys_add(&plan->fields, &text, &index) >= 0;
    }
  }
  lumo_buf_free(&name);
  return enough;
}

static bool fill_plan(pairs_plan *plan, const lumo_pivot *pivot, const lumo_value *owner) {
  uint32_t count = plan->head.pairs.keys.count, index;
  plan->head.fates = lumo_calloc(count, sizeof *plan->head.fates);
  plan->states = lumo_calloc(count, sizeof *plan->states);
  plan->order = lumo_calloc(count, sizeof *plan->order);
  plan->row_ids = lumo_calloc(count, sizeof *plan->row_ids);
  if (!plan->head.fates || !plan->states || !plan->order || !plan->row_ids) return false;
  return lumo_pivot_copy(&plan->pivot, pivot) && lumo_keys_add(&plan->owner, owner, &index) >= 0 &&
         collect_fields(plan);
}

lumo_pairs_plan *lumo_pairs_plan_new(lumo_pairs_op op, const char *name, const lumo_pivot *pivot,
                                     const lumo_value *owner, lumo_pairs *pairs, int64_t now,
                                     lumo_error *error) {
  pairs_plan *plan = lumo_calloc(1, sizeof *plan);
  if (!plan) {
    lumo_pairs_free(pairs);
    lumo_error_memory(error);
    return NULL;
  }
  plan->head.pairs = *pairs;
  *pairs = (lumo_pairs){0};
  plan->op = op;
  plan->now = now;
  if (!fill_plan(plan, pivot, owner)) {
    pairs_free(&plan->head.plan);
    lumo_error_memory(error);
    return NULL;
  }
  static const lumo_plan_class class = {pairs_next, pairs_feed, pairs_restart, pairs_free};
  lumo_plan_init(&plan->head.plan, &class, name);
  /* A find and one write need no transaction: attributes may need two writes, and so may sync and toggle. Of
   * one write of several rows only a foreign index can refuse a part. */
  bool several = plan->head.pairs.keys.count > 1;
  bool two_writes = !is_attach(plan) || (!adds_blindly(plan) && plan->fields.count > 0 && several);
  plan->head.plan.atomic = pivot->atomic && (two_writes || (pivot->guarded && several));
  plan->head.plan.writes = true;
  return &plan->head;
}

/* ---- detach ---- */

lumo_write_plan *lumo_detach_plan_new(const char *name, const lumo_pivot *pivot, const lumo_value *owner,
                                      const lumo_keys *ids, lumo_error *error) {
  lumo_buf statements = {0};
  uint32_t from = 0, count = 0;
  while (ids ? from < ids->count : count == 0) {
    lumo_statement_begin(&statements, LUMO_DELETE_MANY);
    size_t filter = lumo_bson_begin(&statements);
    lumo_pivot_filter(&statements, pivot, owner);
    if (ids) {
      uint32_t to = lumo_keys_portion(ids, from, LUMO_PORTION_KEYS);
      lumo_keys_filter(ids, from, to, &statements, pivot->related_key);
      from = to;
    }
    lumo_bson_end(&statements, filter);
    count++;
  }
  return lumo_write_plan_new(name, pivot->collection, &statements, false, pivot->atomic && count > 1, error);
}

/* ---- update_pivot_data ---- */

lumo_write_plan *lumo_pivot_update_plan_new(const char *name, const lumo_pivot *pivot,
                                            const lumo_value *owner, const lumo_value *related,
                                            const uint8_t *set, uint32_t set_len, int64_t now,
                                            lumo_error *error) {
  lumo_buf statements = {0};
  row_content row = {.set = {set, set_len, LUMO_BSON_DOCUMENT}};
  lumo_statement_begin(&statements, pivot->duplicates ? LUMO_UPDATE_MANY : LUMO_UPDATE_ONE);
  size_t filter = lumo_bson_begin(&statements);
  lumo_pivot_filter(&statements, pivot, owner);
  write_equal(&statements, pivot->related_key, related);
  lumo_bson_end(&statements, filter);
  if (set_len > 5) {
    write_pipeline(&statements, pivot, &row, now, false);
  } else {
    /* Servers before 5.0 refuse an empty $set. $setOnInsert of the key that is there already changes nothing
     * anywhere. */
    size_t update = lumo_bson_begin(&statements);
    size_t begun = lumo_bson_begin_document(&statements, LUMO_KEY("$setOnInsert"));
    lumo_bson_value(&statements, pivot->related_key, strlen(pivot->related_key), related);
    lumo_bson_end(&statements, begun);
    lumo_bson_end(&statements, update);
  }
  lumo_write_plan *plan = lumo_write_plan_new(name, pivot->collection, &statements, false, false, error);
  if (plan) plan->repeatable = true;
  return plan;
}

/* ---- reads of pairs ---- */

static size_t begin_read(lumo_buf *out, const lumo_pivot *pivot, const lumo_value *owner,
                         const lumo_value *related) {
  find_marks marks = begin_find(out, pivot->collection);
  lumo_pivot_filter(out, pivot, owner);
  if (related) write_equal(out, pivot->related_key, related);
  lumo_bson_end(out, marks.filter);
  return marks.command;
}

static lumo_read_plan *end_read(const char *name, const lumo_pivot *pivot, lumo_buf *out, size_t command,
                                bool single, lumo_error *error) {
  lumo_bson_int32(out, LUMO_KEY("batchSize"), LUMO_BATCH_SIZE);
  lumo_bson_end(out, command);
  return lumo_read_plan_new(name, pivot->collection, out, single, false, error);
}

lumo_read_plan *lumo_pivot_rows_plan_new(const char *name, const lumo_pivot *pivot, const lumo_value *owner,
                                         const lumo_value *related, int32_t limit, lumo_error *error) {
  lumo_buf out = {0};
  size_t command = begin_read(&out, pivot, owner, related);
  if (limit > 0) lumo_bson_int32(&out, LUMO_KEY("limit"), limit);
  return end_read(name, pivot, &out, command, limit == 1, error);
}

lumo_read_plan *lumo_pivot_ids_plan_new(const char *name, const lumo_pivot *pivot, const lumo_value *owner,
                                        lumo_error *error) {
  lumo_buf out = {0};
  size_t command = begin_read(&out, pivot, owner, NULL);
  size_t projection = lumo_bson_begin_document(&out, LUMO_KEY("projection"));
  lumo_bson_int32(&out, LUMO_KEY("_id"), 0);
  lumo_bson_int32(&out, pivot->related_key, strlen(pivot->related_key), 1);
  lumo_bson_end(&out, projection);
  return end_read(name, pivot, &out, command, false, error);
}

lumo_read_plan *lumo_pivot_count_plan_new(const char *name, const lumo_pivot *pivot, const lumo_value *owner,
                                          lumo_error *error) {
  lumo_buf out = {0};
  size_t command = lumo_bson_begin(&out);
  write_text(&out, "aggregate", pivot->collection);
  size_t pipeline = lumo_bson_begin_array(&out, LUMO_KEY("pipeline"));
  size_t match = lumo_bson_begin_document(&out, LUMO_KEY("0"));
  size_t filter = lumo_bson_begin_document(&out, LUMO_KEY("$match"));
  lumo_pivot_filter(&out, pivot, owner);
  lumo_bson_end(&out, filter);
  lumo_bson_end(&out, match);
  size_t count = lumo_bson_begin_document(&out, LUMO_KEY("1"));
  write_text(&out, "$count", "n");
  lumo_bson_end(&out, count);
  lumo_bson_end(&out, pipeline);
  size_t cursor = lumo_bson_begin_document(&out, LUMO_KEY("cursor"));
  lumo_bson_end(&out, cursor);
  lumo_bson_end(&out, command);
  return lumo_read_plan_new(name, pivot->collection, &out, true, false, error);
}

/* ---- orphans ---- */

static void write_lookup(lumo_buf *out, const lumo_pivot *pivot, const char *collection, const char *field) {
  size_t lookup = lumo_bson_begin_document(out, LUMO_KEY("$lookup"));
  write_text(out, "from", collection);
  write_text(out, "localField", pivot->related_key);
  write_text(out, "foreignField", field);
  write_text(out, "as", "related");
  lumo_bson_end(out, lookup);
}

static void write_without_related(lumo_buf *out) {
  size_t match = lumo_bson_begin_document(out, LUMO_KEY("$match"));
  size_t related = lumo_bson_begin_document(out, LUMO_KEY("related"));
  lumo_bson_int32(out, LUMO_KEY("$size"), 0);
  lumo_bson_end(out, related);
  lumo_bson_end(out, match);
}

lumo_read_plan *lumo_pivot_orphans_plan_new(const char *name, const lumo_pivot *pivot, const char *collection,
                                            const char *field, lumo_error *error) {
  lumo_buf out = {0};
  size_t command = lumo_bson_begin(&out);
  write_text(&out, "aggregate", pivot->collection);
  size_t pipeline = lumo_bson_begin_array(&out, LUMO_KEY("pipeline"));
  size_t stage = lumo_bson_begin_document(&out, LUMO_KEY("0"));
  size_t match = lumo_bson_begin_document(&out, LUMO_KEY("$match"));
  write_condition(&out, "$and", pivot);
  lumo_bson_end(&out, match);
  lumo_bson_end(&out, stage);
  stage = lumo_bson_begin_document(&out, LUMO_KEY("1"));
  write_lookup(&out, pivot, collection, field);
  lumo_bson_end(&out, stage);
  stage = lumo_bson_begin_document(&out, LUMO_KEY("2"));
  write_without_related(&out);
  lumo_bson_end(&out, stage);
  stage = lumo_bson_begin_document(&out, LUMO_KEY("3"));
  size_t project = lumo_bson_begin_document(&out, LUMO_KEY("$project"));
  lumo_bson_int32(&out, LUMO_KEY("_id"), 1);
  lumo_bson_end(&out, project);
  lumo_bson_end(&out, stage);
  lumo_bson_end(&out, pipeline);
  size_t cursor = lumo_bson_begin_document(&out, LUMO_KEY("cursor"));
  lumo_bson_end(&out, cursor);
  lumo_bson_end(&out, command);
  return lumo_read_plan_new(name, pivot->collection, &out, false, true, error);
}
