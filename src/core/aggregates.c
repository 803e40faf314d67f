#include "aggregates.h"

#include <string.h>

static void write_text(lumo_buf *out, const char *key, const char *text) {
  lumo_bson_string(out, key, strlen(key), text, strlen(text));
}

#define PORTION_JOINED 1000 /* owners per command where the rows of each are gathered for a join */
#define WHOLE_REPLY 2147483647

static uint32_t hop_of(const lumo_way *way, lumo_side side) {
  uint32_t hop = 0;
  while (hop + 1 < way->count && way->hops[hop].side != side) hop++;
  return hop;
}

static uint32_t aggregate_reach(const lumo_aggregate *a) {
  return lumo_way_reach(&a->way, a->field ? a->side : 0);
}

/* Appends an element `key: "$` path `"`. */
static void write_path(lumo_buf *out, const char *key, const lumo_wanted *wanted) {
  uint8_t size[4];
  lumo_bson_key(out, LUMO_BSON_STRING, key, strlen(key));
  size_t mark = out->len;
  lumo_buf_append(out, "\0\0\0\0", 4);
  lumo_buf_append(out, "$", 1);
  lumo_wanted_path(out, wanted, 0);
  lumo_buf_append(out, "", 1);
  if (out->failed) return;
  uint32_t len = (uint32_t)(out->len - mark - 4);
  for (int i = 0; i < 4; i++) size[i] = (uint8_t)(len >> (8 * i));
  memcpy(out->data + mark, size, 4);
}

/* How the last $group gets at the owner's key and at the value. */
typedef struct source {
  const char *key; /* "$user_id" */
  lumo_wanted value;
} source;

/* `n: {operator: value}` */
static void write_result(lumo_aggregate_op op, const source *s, lumo_buf *out) {
  static const char *const operators[] = {"$sum", "$sum", "$avg", "$min", "$max", "$sum"};
  const char *operator= operators[op];
  size_t result = lumo_bson_begin_document(out, LUMO_KEY("n"));
  if (op == LUMO_COUNT && s->value.field) { /* of those that have a value */
    size_t sum = lumo_bson_begin_document(out, operator, strlen(operator));
    size_t choice = lumo_bson_begin_array(out, LUMO_KEY("$cond"));
    size_t test = lumo_bson_begin_document(out, LUMO_KEY("0"));
    size_t operands = lumo_bson_begin_array(out, LUMO_KEY("$gt"));
    write_path(out, "0", &s->value);
    lumo_bson_null(out, LUMO_KEY("1"));
    lumo_bson_end(out, operands);
    lumo_bson_end(out, test);
    lumo_bson_int32(out, LUMO_KEY("1"), 1);
    lumo_bson_int32(out, LUMO_KEY("2"), 0);
    lumo_bson_end(out, choice);
    lumo_bson_end(out, sum);
  } else if (op == LUMO_COUNT || op == LUMO_COUNT_DISTINCT) {
    lumo_bson_int32(out, operator, strlen(operator), 1);
  } else {
    write_path(out, operator, & s->value);
  }
  lumo_bson_end(out, result);
}

/* One document for each owner and value: what is counted afterwards. */
static void add_distinct(const source *s, lumo_stages *stages) {
  lumo_stage group = lumo_stage_begin(stages, "$group");
  size_t id = lumo_bson_begin_document(stages->out, LUMO_KEY("_id"));
  write_text(stages->out, "k", s->key);
  write_path(stages->out, "v", &s->value);
  lumo_bson_end(stages->out, id);
  lumo_stage_end(stages, group);
  lumo_stage_not_null(stages, "_id.v");
}

static void add_group(lumo_aggregate_op op, const source *s, lumo_stages *stages) {
  bool distinct = op == LUMO_COUNT_DISTINCT;
  if (distinct) add_distinct(s, stages);
  lumo_stage group = lumo_stage_begin(stages, "$group");
  write_text(stages->out, "_id", distinct ? "$_id.k" : s->key);
  write_result(op, s, stages->out);
  lumo_stage_end(stages, group);
}

/* `prefix` and a name as a text in the buffer, which the next one takes; but for its failure, which stays. */
static const char *joined_text(lumo_buf *text, const char *prefix, const char *name) {
  text->len = 0;
  lumo_buf_append(text, prefix, strlen(prefix));
  lumo_buf_append(text, name, strlen(name) + 1);
  return text->failed ? "" : (const char *)text->data;
}

/* Rows by what they lead to, so that each document behind them is joined once, then one by one again: `o` is
 * what is known of the row. */
static void add_joined_rows(const lumo_aggregate *a, uint32_t reach, const source *direct, lumo_buf *text,
                            lumo_stages *stages) {
  lumo_buf *out = stages->out;
  const char *from = a->way.hops[1].from;
  bool own = direct->value.field && direct->value.hop == 0;
  const lumo_wanted behind = own ? (lumo_wanted){0} : direct->value;
  lumo_stage_not_null(stages, from);
  lumo_stage group = lumo_stage_begin(stages, "$group");
  size_t rows = lumo_bson_begin_document(out, LUMO_KEY("o"));
  if (lumo_way_is_paired(&a->way)) {
    write_text(out, "$push", "$$ROOT");
  } else if (own) {
    size_t push = lumo_bson_begin_document(out, LUMO_KEY("$push"));
    write_text(out, "k", direct->key);
    write_path(out, "v", &direct->value);
    lumo_bson_end(out, push);
  } else {
    write_text(out, "$push", direct->key);
  }
  lumo_bson_end(out, rows);
  write_text(out, "_id", joined_text(text, "$", from));
  lumo_stage_end(stages, group);
  lumo_way_join(&a->way, 1, reach, "_id", &behind, stages);
  lumo_stage_text(stages, "$unwind", "$o");
}

/* Where the last $group finds what add_joined_rows has left, after the rows and the records have been paired
 * if they must be. */
static source joined_source(const lumo_aggregate *a, const source *direct, lumo_buf *key, lumo_buf *value,
                            lumo_stages *stages) {
  bool own = direct->value.field && direct->value.hop == 0;
  if (!lumo_way_is_paired(&a->way)) return own ? (source){"$o.k", {0, "o.v"}} : (source){"$o", direct->value};
  lumo_way_pair(&a->way, "$o", stages);
  return (source){joined_text(key, "$" LUMO_PIVOT_FIELD ".", a->way.hops[0].to),
                  {0, own ? joined_text(value, LUMO_PIVOT_FIELD ".", a->field) : a->field}};
}

/* The stages of one aggregate over the owners from..to. */
static void add_aggregate(const lumo_aggregate *a, uint32_t from, uint32_t to, lumo_stages *stages) {
  const lumo_hop *hop = &a->way.hops[0];
  uint32_t reach = aggregate_reach(a);
  lumo_buf key = {0}, text = {0};
  source s = {joined_text(&key, "$", hop->to), {hop_of(&a->way, a->side), a->field}};
  lumo_stage match = lumo_stage_begin(stages, "$match");
  lumo_keys_filter(&a->owners, from, to, stages->out, hop->to);
  lumo_stage_end(stages, match);
  lumo_way_conditions(&a->way, 0, stages);
  if (reach > 1) {
    add_joined_rows(a, reach, &s, &text, stages);
    s = joined_source(a, &s, &key, &text, stages);
  }
  add_group(a->op, &s, stages);
  if (key.failed || text.failed) stages->out->failed = true;
  lumo_buf_free(&key);
  lumo_buf_free(&text);
}

/* Whether it needs the documents of a second collection. */
static bool joins(const lumo_aggregate *a) {
  return aggregate_reach(a) > 1 || a->way.query->join_count > 0;
}

static void add_number(uint32_t number, lumo_stages *stages) {
  lumo_stage set = lumo_stage_begin(stages, "$addFields");
  lumo_bson_int32(stages->out, LUMO_KEY("a"), (int32_t)number);
  lumo_stage_end(stages, set);
}

/* The owners of each aggregate from `from` on that one command asks for. */
static uint32_t portion_size(const lumo_aggregate *aggregates, uint32_t count, uint32_t from) {
  uint32_t most = LUMO_PORTION_KEYS / count;
  for (uint32_t i = 0; i < count; i++)
    if (joins(&aggregates[i]) && most > PORTION_JOINED) most = PORTION_JOINED;
  for (size_t bytes = SIZE_MAX; most > 1 && bytes > LUMO_PORTION_BYTES; most = (most + 1) / 2) {
    bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
      const lumo_keys *keys = &aggregates[i].owners;
      for (uint32_t k = from; k < keys->count && k - from < most; k++)
        bytes += keys->items[k].len + LUMO_PORTION_OVERHEAD;
    }
    if (bytes <= LUMO_PORTION_BYTES) break;
  }
  return most;
}

static uint32_t least(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}

/* One command for the aggregates first..last (exclusive). */
static void write_command(const lumo_aggregate *aggregates, uint32_t first, uint32_t last, uint32_t from,
                          uint32_t size, lumo_buf *out) {
  size_t command = lumo_bson_begin(out);
  write_text(out, "aggregate", aggregates[first].way.hops[0].collection);
  lumo_stages stages = lumo_stages_begin(out, "pipeline");
  for (uint32_t i = first; i < last; i++) {
    const lumo_aggregate *a = &aggregates[i];
    uint32_t owners = a->owners.count, start = least(from, owners), end = least(from + size, owners);
    if (i == first) {
      add_aggregate(a, start, end, &stages);
      if (i > 0) add_number(i, &stages);
    } else if (start < end) {
      lumo_stage with = lumo_stage_begin(&stages, "$unionWith");
      write_text(out, "coll", a->way.hops[0].collection);
      lumo_stages inner = lumo_stages_begin(out, "pipeline");
      add_aggregate(a, start, end, &inner);
      add_number(i, &inner);
      lumo_stages_end(&inner);
      lumo_stage_end(&stages, with);
    }
  }
  lumo_stages_end(&stages);
  lumo_bson_boolean(out, LUMO_KEY("allowDiskUse"), true);
  size_t cursor = lumo_bson_begin_document(out, LUMO_KEY("cursor"));
  lumo_bson_int32(out, LUMO_KEY("batchSize"), WHOLE_REPLY);
  lumo_bson_end(out, cursor);
  lumo_bson_end(out, command);
}

static void write_commands(const lumo_aggregate *aggregates, uint32_t first, uint32_t last, lumo_buf *out) {
  uint32_t owners = 0;
  for (uint32_t i = first; i < last; i++)
    if (aggregates[i].owners.count > owners) owners = aggregates[i].owners.count;
  for (uint32_t from = 0, size; from < owners; from += size) {
    size = portion_size(aggregates + first, last - first, from);
    write_command(aggregates, first, last, from, size, out);
  }
}

lumo_read_plan *lumo_aggregates_plan_new(const char *name, const lumo_aggregate *aggregates, uint32_t count,
                                         bool apart, lumo_error *error) {
  lumo_buf commands = {0};
  uint32_t together = apart ? 1 : count;
  for (uint32_t i = 0; i < count; i += together) write_commands(aggregates, i, i + together, &commands);
  lumo_read_plan *plan =
      lumo_read_plan_new(name, aggregates[0].way.hops[0].collection, &commands, false, false, error);
  for (uint32_t i = 0; plan && i < count; i++)
    if (joins(&aggregates[i])) plan->plan.least_version = LUMO_WIRE_JOINS;
  return plan;
}
