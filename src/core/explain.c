#include "explain.h"

#include <string.h>

enum { DEEPEST = 60 }; /* levels that are looked at */

static bool is_key(const lumo_iter *it, const char *key) {
  return strcmp(it->key, key) == 0;
}

static bool is_text(const lumo_value *v, const char *text) {
  uint32_t len;
  return v->type == LUMO_BSON_STRING && strcmp(lumo_value_text(v, &len), text) == 0;
}

static bool is_nested(const lumo_value *v) {
  return v->type == LUMO_BSON_DOCUMENT || v->type == LUMO_BSON_ARRAY;
}

static lumo_value find(const lumo_value *document, const char *key) {
  lumo_value found = {0};
  if (is_nested(document)) lumo_bson_find(document->data, document->len, key, strlen(key), &found);
  return found;
}

static lumo_value as_document(const uint8_t *data, size_t len) {
  return (lumo_value){.data = data, .len = (uint32_t)len, .type = LUMO_BSON_DOCUMENT};
}

/* ---- what may be explained ---- */

/* Whether a filter demands anything: {}, and {$and: [{}]}, do not. */
static bool demands(const lumo_value *filter, unsigned depth) {
  lumo_iter it, list;
  if (depth > DEEPEST || !is_nested(filter) || !lumo_iter_value(&it, filter)) return false;
  while (lumo_iter_next(&it)) {
    bool joins = is_key(&it, "$and") || is_key(&it, "$or") || is_key(&it, "$nor");
    if (!joins && !is_key(&it, "$comment")) return true;
    if (!joins || it.value.type != LUMO_BSON_ARRAY || !lumo_iter_value(&list, &it.value)) continue;
    while (lumo_iter_next(&list))
      if (demands(&list.value, depth + 1)) return true;
  }
  return false;
}

static void look_at_pipeline(lumo_explainable *one, const lumo_value *pipeline) {
  lumo_iter it;
  lumo_value found;
  if (pipeline->type != LUMO_BSON_ARRAY || !lumo_iter_value(&it, pipeline)) return;
  for (bool first = true; lumo_iter_next(&it); first = false) {
    if (first) one->filter = find(&it.value, "$match");
    one->joined |= find(&it.value, "$lookup").type != LUMO_BSON_END;
    one->stores |=
        find(&it.value, "$out").type != LUMO_BSON_END || find(&it.value, "$merge").type != LUMO_BSON_END;
    found = find(&it.value, "$unionWith");
    found = find(&found, "pipeline");
    if (found.type == LUMO_BSON_ARRAY) {
      lumo_explainable other = {0};
      look_at_pipeline(&other, &found);
      one->joined |= other.joined;
    }
  }
}

/* A command that stands in a step as it is. */
static bool take_command(const lumo_step *step, lumo_explainable *one) {
  lumo_iter it;
  uint32_t len;
  static const char *const names[] = {"find", "aggregate", "findAndModify"};
  lumo_value whole = as_document(step->command, step->command_len);
  if (!lumo_iter_init(&it, step->command, step->command_len) || !lumo_iter_next(&it) ||
      it.value.type != LUMO_BSON_STRING)
    return false;
  for (size_t i = 0; i < sizeof names / sizeof *names && !one->name; i++)
    if (is_key(&it, names[i])) one->name = names[i];
  if (!one->name) return false;
  one->collection = lumo_value_text(&it.value, &len);
  lumo_value pipeline = find(&whole, "pipeline");
  if (pipeline.type == LUMO_BSON_ARRAY)
    look_at_pipeline(one, &pipeline);
  else
    one->filter = find(&whole, step->kind == LUMO_STEP_COMMAND ? "query" : "filter");
  lumo_buf_append(&one->command, step->command, step->command_len);
  return true;
}

/* A statement as a command: {update: collection, updates: [{q, u, multi, upsert, hint, collation}]}. What it
 * changes may be long, and has no part in how the documents are found. */
static void write_statement(const lumo_statement *statement, lumo_explainable *one) {
  lumo_iter it;
  lumo_buf *out = &one->command;
  bool deletes = statement->kind == LUMO_DELETE_ONE || statement->kind == LUMO_DELETE_MANY;
  bool many = statement->kind == LUMO_UPDATE_MANY || statement->kind == LUMO_DELETE_MANY;
  size_t mark = lumo_bson_begin(out);
  lumo_bson_string(out, one->name, 6, one->collection, strlen(one->collection));
  size_t list = lumo_bson_begin_array(out, deletes ? "deletes" : "updates", 7);
  lumo_bson_index(out, LUMO_BSON_DOCUMENT, 0);
  size_t document = lumo_bson_begin(out);
  lumo_bson_document(out, LUMO_KEY("q"), statement->filter, statement->filter_len);
  if (deletes) {
    lumo_bson_int32(out, LUMO_KEY("limit"), many ? 0 : 1);
  } else {
    size_t update = lumo_bson_begin_document(out, LUMO_KEY("u"));
    size_t unset = lumo_bson_begin_document(out, LUMO_KEY("$unset"));
    lumo_bson_boolean(out, LUMO_KEY("x"), true);
    lumo_bson_end(out, unset);
    lumo_bson_end(out, update);
    lumo_bson_boolean(out, LUMO_KEY("multi"), many);
    lumo_bson_boolean(out, LUMO_KEY("upsert"), statement->kind == LUMO_UPSERT_ONE);
  }
  if (statement->options && lumo_iter_init(&it, statement->options, statement->options_len))
    while (lumo_iter_next(&it))
      if (is_key(&it, "hint") || is_key(&it, "collation"))
        lumo_bson_value(out, it.key, it.key_len, &it.value);
  lumo_bson_end(out, document);
  lumo_bson_end(out, list);
  lumo_bson_end(out, mark);
}

static bool take_statement(const lumo_step *step, size_t *at, lumo_explainable *one) {
  lumo_statement statement;
  do
    if (!lumo_statement_next(step->statements, at, &statement)) return false;
  while (statement.kind == LUMO_INSERT);
  one->name = statement.kind == LUMO_DELETE_ONE || statement.kind == LUMO_DELETE_MANY ? "delete" : "update";
  one->collection = step->collection;
  one->filter = as_document(statement.filter, statement.filter_len);
  write_statement(&statement, one);
  return true;
}

bool lumo_explainable_next(const lumo_step *step, size_t *at, lumo_explainable *out) {
  lumo_buf command = out->command;
  lumo_buf_clear(&command);
  *out = (lumo_explainable){.command = command};
  bool found = false;
  if (step->kind == LUMO_STEP_WRITE)
    found = take_statement(step, at, out);
  else if ((step->kind == LUMO_STEP_READ || step->kind == LUMO_STEP_COMMAND) && (*at)++ == 0)
    found = take_command(step, out);
  out->filtered = found && demands(&out->filter, 0);
  return found && !out->command.failed;
}

void lumo_explainable_write(const lumo_explainable *one, const char *verbosity, int32_t max_ms,
                            lumo_buf *out) {
  size_t mark = lumo_bson_begin(out);
  lumo_bson_document(out, LUMO_KEY("explain"), one->command.data, (uint32_t)one->command.len);
  lumo_bson_string(out, LUMO_KEY("verbosity"), verbosity, strlen(verbosity));
  if (max_ms) lumo_bson_int32(out, LUMO_KEY("maxTimeMS"), max_ms);
  lumo_bson_end(out, mark);
}

/* ---- shapes ---- */

static uint64_t mix(uint64_t hash, const void *bytes, size_t len) {
  for (size_t i = 0; i < len; i++) hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
  return hash;
}

/* Texts that are no values of the app's: field paths, and names of collections and fields in a $lookup. */
static bool is_name(const lumo_iter *it) {
  static const char *const keys[] = {"from", "coll", "localField", "foreignField"};
  uint32_t len;
  if (it->value.type != LUMO_BSON_STRING) return false;
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (is_key(it, keys[i])) return true;
  return lumo_value_text(&it->value, &len)[0] == '$';
}

/* Numbers of all types are one: a value of the app's may have either. */
static uint8_t kind_of(const lumo_value *v) {
  bool number = v->type == LUMO_BSON_INT32 || v->type == LUMO_BSON_INT64 || v->type == LUMO_BSON_DECIMAL;
  return number ? LUMO_BSON_DOUBLE : v->type;
}

/* The shape of a filter or a pipeline. Of a list of values that are alike it is that of one. */
static uint64_t shape_of(const lumo_value *v, unsigned depth) {
  lumo_iter it;
  uint64_t hash = 0xcbf29ce484222325u, before = 0;
  if (depth > DEEPEST || !lumo_iter_value(&it, v)) return hash;
  while (lumo_iter_next(&it)) {
    uint8_t kind = kind_of(&it.value);
    uint64_t one = mix(0xcbf29ce484222325u, &kind, 1);
    if (v->type == LUMO_BSON_DOCUMENT) one = mix(one, it.key, it.key_len);
    if (is_key(&it, "$sort") || is_name(&it)) {
      one = mix(one, it.value.data, it.value.len);
    } else if (is_nested(&it.value)) {
      uint64_t inner = shape_of(&it.value, depth + 1);
      one = mix(one, &inner, sizeof inner);
    }
    if (v->type == LUMO_BSON_ARRAY && one == before) continue;
    before = one;
    hash = mix(hash, &one, sizeof one);
  }
  return hash;
}

/* Where a command says how it is to be answered: of an update or delete its only statement. */
static lumo_value place_of_options(const lumo_explainable *one) {
  lumo_value whole = as_document(one->command.data, one->command.len), list;
  list = find(&whole, one->name[0] == 'd' ? "deletes" : "updates");
  return list.type == LUMO_BSON_ARRAY ? find(&list, "0") : whole;
}

uint64_t lumo_explainable_shape(const lumo_explainable *one) {
  static const char *const options[] = {"sort", "hint", "collation"};
  lumo_value whole = place_of_options(one), pipeline = find(&whole, "pipeline");
  uint64_t hash = shape_of(pipeline.type == LUMO_BSON_ARRAY ? &pipeline : &one->filter, 0);
  hash = mix(hash, one->name, strlen(one->name));
  hash = mix(hash, one->collection, strlen(one->collection));
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    lumo_value v = find(&whole, options[i]);
    hash = mix(mix(hash, options[i], 4), v.data, v.len);
  }
  return hash;
}

bool lumo_explainable_scans(const lumo_explainable *one) {
  lumo_value whole = place_of_options(one), hint = find(&whole, "hint");
  return find(&hint, "$natural").type != LUMO_BSON_END || is_text(&hint, "$natural");
}

/* ---- lists of names ---- */

/* Appends a name to the elements of an array, unless it is there. */
static void add_name(lumo_buf *list, const char *name, size_t len) {
  lumo_iter it = lumo_iter_elements(list);
  uint32_t count = 0, known;
  for (; lumo_iter_next(&it); count++) {
    const char *text = lumo_value_text(&it.value, &known);
    if (known == len && memcmp(text, name, len) == 0) return;
  }
  lumo_bson_index(list, LUMO_BSON_STRING, count);
  uint8_t size[4];
  lumo_store32(size, (uint32_t)len + 1);
  lumo_buf_append(list, size, sizeof size);
  lumo_buf_append(list, name, len);
  lumo_buf_append(list, "", 1);
}

static void add_fields(const lumo_value *filter, lumo_buf *out, unsigned depth) {
  lumo_iter it;
  if (depth > DEEPEST || !is_nested(filter) || !lumo_iter_value(&it, filter)) return;
  while (lumo_iter_next(&it)) {
    bool is_field = it.key[0] != '$' && filter->type == LUMO_BSON_DOCUMENT;
    if (is_field)
      add_name(out, it.key, it.key_len);
    else if (it.value.type == LUMO_BSON_ARRAY || filter->type == LUMO_BSON_ARRAY)
      add_fields(&it.value, out, depth + 1);
  }
}

void lumo_filter_fields(const lumo_value *filter, lumo_buf *out) {
  add_fields(filter, out, 0);
}

/* ---- answers ---- */

static int64_t number_of(const lumo_value *document, const char *key) {
  lumo_value v = find(document, key);
  if (v.type == LUMO_BSON_INT32) return lumo_value_int32(&v);
  if (v.type == LUMO_BSON_INT64) return lumo_value_int64(&v);
  double number = v.type == LUMO_BSON_DOUBLE ? lumo_value_double(&v) : 0;
  return number > -0x1p62 && number < 0x1p62 ? (int64_t)number : 0;
}

typedef struct lumo_join {
  const char *how;
  lumo_value from, indexes;
  const lumo_buf *names; /* in place of `indexes`: elements of an array */
  bool has_database, known, scans;
} lumo_join;

static void add_index(lumo_explanation *out, const lumo_value *name) {
  uint32_t len;
  if (name->type != LUMO_BSON_STRING) return;
  const char *text = lumo_value_text(name, &len);
  add_name(&out->indexes, text, len);
}

/* Another collection that is read, whose name may have the database before it. `indexes` is a name, an array
 * of them, or neither. */
static void add_join(lumo_explanation *out, const lumo_join *join) {
  lumo_buf *joins = &out->joins;
  uint32_t len = 0;
  const char *name = join->from.type == LUMO_BSON_STRING ? lumo_value_text(&join->from, &len) : "";
  const char *dot = join->has_database ? memchr(name, '.', len) : NULL;
  if (dot) {
    len -= (uint32_t)(dot + 1 - name);
    name = dot + 1;
  }
  lumo_bson_index(joins, LUMO_BSON_DOCUMENT, out->join_count++);
  size_t mark = lumo_bson_begin(joins);
  lumo_bson_string(joins, LUMO_KEY("how"), join->how, strlen(join->how));
  lumo_bson_string(joins, LUMO_KEY("from"), name, len);
  if (join->indexes.type == LUMO_BSON_ARRAY) {
    lumo_bson_value(joins, LUMO_KEY("indexes"), &join->indexes);
  } else {
    size_t list = lumo_bson_begin_array(joins, LUMO_KEY("indexes"));
    if (join->indexes.type == LUMO_BSON_STRING) lumo_bson_value(joins, LUMO_KEY("0"), &join->indexes);
    if (join->names) lumo_buf_append(joins, join->names->data, join->names->len);
    lumo_bson_end(joins, list);
  }
  lumo_bson_boolean(joins, LUMO_KEY("known"), join->known);
  lumo_bson_boolean(joins, LUMO_KEY("scans"), join->scans);
  lumo_bson_end(joins, mark);
  out->join_scans |= join->scans;
}

/* EQ_LOOKUP: a join of the server's newer engine, which it plans beforehand. */
static void read_join_stage(lumo_explanation *out, const lumo_value *stage) {
  lumo_value strategy = find(stage, "strategy");
  lumo_join join = {.how = "lookup",
                    .from = find(stage, "foreignCollection"),
                    .has_database = true,
                    .indexes = find(stage, "indexName"),
                    .known = true,
                    .scans = is_text(&strategy, "HashJoin") || is_text(&strategy, "NestedLoopJoin")};
  add_join(out, &join);
}

/* A stage of the winning plan, and those below it. */
static void read_stage(lumo_explanation *out, const lumo_value *stage, unsigned depth) {
  static const char *const below[] = {"inputStage", "inputStages", "queryPlan",  "winningPlan",
                                      "shards",     "outerStage",  "innerStage", NULL};
  lumo_iter it;
  if (depth > DEEPEST || !is_nested(stage)) return;
  lumo_value name = find(stage, "stage"), index = find(stage, "indexName");
  if (is_text(&name, "COLLSCAN")) out->scans = true;
  if (is_text(&name, "SORT")) out->sorts = true;
  if (is_text(&name, "EOF")) out->empty = true;
  if (is_text(&name, "PROJECTION_COVERED") || is_text(&name, "COUNT_SCAN") || is_text(&name, "DISTINCT_SCAN"))
    out->covered = true;
  if (is_text(&name, "IDHACK")) add_name(&out->indexes, LUMO_KEY("_id_"));
  if (is_text(&name, "EQ_LOOKUP"))
    read_join_stage(out, stage);
  else
    add_index(out, &index);
  for (const char *const *key = below; *key; key++) {
    lumo_value inner = find(stage, *key);
    if (inner.type == LUMO_BSON_DOCUMENT) read_stage(out, &inner, depth + 1);
    if (inner.type != LUMO_BSON_ARRAY || !lumo_iter_value(&it, &inner)) continue;
    while (lumo_iter_next(&it)) read_stage(out, &it.value, depth + 1);
  }
}

static void add_figures(lumo_explanation *out, const lumo_value *stats) {
  out->keys += number_of(stats, "totalKeysExamined");
  out->documents += number_of(stats, "totalDocsExamined");
}

static void read_stages(lumo_explanation *out, const lumo_value *stages, bool outermost, unsigned depth);

/* What one server says of one command or of the first part of a pipeline. */
static void read_answer(lumo_explanation *out, const lumo_value *answer, bool outermost, unsigned depth) {
  lumo_iter it;
  if (depth > DEEPEST) return;
  lumo_value planner = find(answer, "queryPlanner"), stats = find(answer, "executionStats");
  lumo_value stages = find(answer, "stages"), shards = find(answer, "shards");
  lumo_value plan = find(&planner, "winningPlan");
  read_stage(out, &plan, depth + 1);
  if (stats.type == LUMO_BSON_DOCUMENT) {
    out->counted = true;
    add_figures(out, &stats);
    if (outermost) out->returned += number_of(&stats, "nReturned");
  }
  if (stages.type == LUMO_BSON_ARRAY) read_stages(out, &stages, outermost, depth + 1);
  if (!is_nested(&shards) || !lumo_iter_value(&it, &shards)) return;
  while (lumo_iter_next(&it))
    if (it.value.type == LUMO_BSON_DOCUMENT) read_answer(out, &it.value, outermost, depth + 1);
}

static void read_lookup(lumo_explanation *out, const lumo_value *stage, const lumo_value *lookup) {
  lumo_join join = {.how = "lookup",
                    .from = find(lookup, "from"),
                    .indexes = find(stage, "indexesUsed"),
                    .known = find(stage, "collectionScans").type != LUMO_BSON_END,
                    .scans = number_of(stage, "collectionScans") > 0};
  add_join(out, &join);
  add_figures(out, stage);
}

/* A pipeline of its own, of whose first part the conditions tell whether a scan is what is meant. */
static void read_union(lumo_explanation *out, const lumo_value *united, unsigned depth) {
  lumo_explanation other = {0};
  lumo_value pipeline = find(united, "pipeline");
  if (pipeline.type != LUMO_BSON_ARRAY) return;
  read_stages(&other, &pipeline, false, depth + 1);
  lumo_value first = find(&pipeline, "0"), cursor = find(&first, "$cursor"),
             planner = find(&cursor, "queryPlanner");
  lumo_value parsed = find(&planner, "parsedQuery");
  lumo_join join = {.how = "union",
                    .from = find(united, "coll"),
                    .names = &other.indexes,
                    .known = true,
                    .scans = other.join_scans || (other.scans && demands(&parsed, 0))};
  add_join(out, &join);
  out->keys += other.keys;
  out->documents += other.documents;
  out->joins.failed |= other.indexes.failed || other.joins.failed;
  lumo_explanation_free(&other);
}

/* The stages of a pipeline that is not one plan. */
static void read_stages(lumo_explanation *out, const lumo_value *stages, bool outermost, unsigned depth) {
  lumo_iter it, keys;
  int64_t last = 0;
  if (depth > DEEPEST || !lumo_iter_value(&it, stages)) return;
  while (lumo_iter_next(&it)) {
    if (it.value.type != LUMO_BSON_DOCUMENT || !lumo_iter_value(&keys, &it.value) || !lumo_iter_next(&keys))
      continue;
    last = number_of(&it.value, "nReturned");
    if (is_key(&keys, "$sort")) out->sorts = true;
    if (is_key(&keys, "$lookup")) read_lookup(out, &it.value, &keys.value);
    if (is_key(&keys, "$cursor") || is_key(&keys, "$geoNearCursor"))
      read_answer(out, &keys.value, false, depth + 1);
    if (is_key(&keys, "$unionWith")) read_union(out, &keys.value, depth);
  }
  if (outermost) out->returned += last;
}

bool lumo_explanation_read(lumo_explanation *out, const uint8_t *reply, uint32_t len) {
  lumo_value whole = as_document(reply, len);
  read_answer(out, &whole, true, 0);
  return !out->indexes.failed && !out->joins.failed;
}

void lumo_explanation_free(lumo_explanation *explanation) {
  lumo_buf_free(&explanation->indexes);
  lumo_buf_free(&explanation->joins);
}
