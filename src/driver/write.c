/* The statements of a WRITE step as calls of libmongoc. */
#include <stdio.h>
#include <string.h>

#include "private.h"

/* What was encoded here need not be validated again: {validate: false}, {validate: false, upsert: true}. */
static const uint8_t plain_bytes[] = "\x10\0\0\0\x08validate\0\0",
                     upsert_bytes[] = "\x19\0\0\0\x08validate\0\0\x08upsert\0\x01";

typedef struct write_opts {
  bson_t plain, upsert;
} write_opts;

/* A stage of a pipeline, which is the bytes of an array: its key is its place. */
static bool is_stage(const lumo_iter *it, unsigned place) {
  char key[12];
  lumo_iter stage;
  snprintf(key, sizeof key, "%u", place);
  return strcmp(it->key, key) == 0 && it->value.type == LUMO_BSON_DOCUMENT &&
         lumo_iter_value(&stage, &it->value) && lumo_iter_next(&stage) && stage.key[0] == '$';
}

/* What is neither operators nor a pipeline, libmongoc would send as a replacement of the whole document. */
static bool is_update(const lumo_statement *statement) {
  lumo_iter it;
  if (!lumo_iter_init(&it, statement->document, statement->document_len) || !lumo_iter_next(&it))
    return false;
  if (it.key[0] == '$') return true; /* operators: the server refuses what else there is */
  unsigned place = 0;
  do {
    if (!is_stage(&it, place++)) return false;
  } while (lumo_iter_next(&it));
  return !it.bad;
}

/* The options of a statement are, in libmongoc's words, those of the statement (hint, collation) and of the
 * bulk (comment). */
static bool add_options(mongoc_bulk_operation_t *bulk, const lumo_statement *statement, bson_t *opts) {
  bson_t options;
  bson_iter_t it;
  if (!bson_init_static(&options, statement->options, statement->options_len) ||
      !bson_iter_init(&it, &options))
    return false;
  while (bson_iter_next(&it)) {
    const char *key = bson_iter_key(&it);
    if (strcmp(key, "comment") == 0)
      mongoc_bulk_operation_set_comment(bulk, bson_iter_value(&it));
    else if (strcmp(key, "hint") != 0 && strcmp(key, "collation") != 0)
      return false;
    else if (!bson_append_iter(opts, NULL, 0, &it))
      return false;
  }
  return true;
}

static bool add_statement_with(mongoc_bulk_operation_t *bulk, const lumo_statement *statement,
                               const bson_t *opts, bson_error_t *error) {
  bson_t filter, document;
  bool has_filter = statement->filter && bson_init_static(&filter, statement->filter, statement->filter_len);
  bool has_document =
      statement->document && bson_init_static(&document, statement->document, statement->document_len);
  switch (statement->kind) {
  case LUMO_INSERT:
    return has_document && mongoc_bulk_operation_insert_with_opts(bulk, &document, opts, error);
  case LUMO_UPDATE_ONE:
  case LUMO_UPSERT_ONE:
    return has_filter && has_document && is_update(statement) &&
           mongoc_bulk_operation_update_one_with_opts(bulk, &filter, &document, opts, error);
  case LUMO_UPDATE_MANY:
    return has_filter && has_document && is_update(statement) &&
           mongoc_bulk_operation_update_many_with_opts(bulk, &filter, &document, opts, error);
  case LUMO_DELETE_ONE:
    return has_filter && mongoc_bulk_operation_remove_one_with_opts(bulk, &filter, opts, error);
  case LUMO_DELETE_MANY:
    return has_filter && mongoc_bulk_operation_remove_many_with_opts(bulk, &filter, opts, error);
  }
  return false;
}

static const bson_t *plain_opts(const lumo_statement *statement, const write_opts *opts) {
  switch (statement->kind) {
  case LUMO_UPSERT_ONE: return &opts->upsert;
  case LUMO_DELETE_ONE:
  case LUMO_DELETE_MANY: return NULL;
  default: return &opts->plain;
  }
}

static bool add_statement(mongoc_bulk_operation_t *bulk, const lumo_statement *statement,
                          const write_opts *opts, bson_error_t *error) {
  const bson_t *plain = plain_opts(statement, opts);
  if (!statement->options) return add_statement_with(bulk, statement, plain, error);
  bson_t own = BSON_INITIALIZER;
  if (plain) bson_concat(&own, plain);
  bool ok = add_options(bulk, statement, &own) && add_statement_with(bulk, statement, &own, error);
  bson_destroy(&own);
  return ok;
}

/* What statements say about sending them again. libmongoc repeats what the server recognizes by its
 * transaction number, once: inserts, and updates and deletes of one. Deletes of many are repeated here, as
 * they come to the same; what the first attempt had removed is then missing in the count. */
typedef struct repeat_rules {
  bool numbered;     /* there are such as libmongoc repeats */
  bool only_deletes; /* of many */
} repeat_rules;

/* libmongoc splits what is larger than a server takes, but what it splits in a transaction begins the
 * transaction with every part. There the parts are made here, below the limits of all servers: 100,000
 * statements, messages of 48 MB. */
#define PART_STATEMENTS 100000
#define PART_BYTES (40 * 1024 * 1024)
#define STATEMENT_OVERHEAD 64 /* what a command has around the documents of one */

/* The statements of one bulk operation. */
typedef struct write_part {
  size_t begin, end;     /* their bytes among those of the step */
  size_t size;           /* of their documents */
  uint32_t first, count; /* the first one's index; how many there are */
} write_part;

static bool has_time_limit(const lumo_statement *statement) {
  lumo_value v;
  return statement->options &&
         lumo_bson_find(statement->options, statement->options_len, LUMO_KEY("maxTimeMS"), &v);
}

static bool has_room(const write_part *part, size_t size) {
  size_t bytes = part->size + (size_t)part->count * STATEMENT_OVERHEAD;
  return part->count == 0 ||
         (part->count < PART_STATEMENTS && bytes + size + STATEMENT_OVERHEAD <= PART_BYTES);
}

/* Fills the bulk from the part's beginning on, and sets its end. */
static bool add_statements(mongoc_bulk_operation_t *bulk, const lumo_buf *statements, bool all,
                           write_part *part, repeat_rules *repeats, bson_error_t *error) {
  write_opts opts;
  lumo_statement statement;
  size_t at = part->begin;
  bool ok = true, full = false;
  part->end = part->begin;
  part->size = 0;
  part->count = 0;
  bson_init_static(&opts.plain, plain_bytes, sizeof plain_bytes);
  bson_init_static(&opts.upsert, upsert_bytes, sizeof upsert_bytes);
  repeats->numbered = false;
  repeats->only_deletes = true;
  while (ok && lumo_statement_next(statements, &at, &statement)) {
    size_t size = statement.options_len + statement.filter_len + statement.document_len;
    full = (!all && !has_room(part, size)) || has_time_limit(&statement);
    if (full) break;
    part->end = at;
    part->size += size;
    part->count++;
    if (statement.kind != LUMO_DELETE_MANY) repeats->only_deletes = false;
    if (statement.kind != LUMO_DELETE_MANY && statement.kind != LUMO_UPDATE_MANY) repeats->numbered = true;
    ok = add_statement(bulk, &statement, &opts, error);
  }
  return ok && (full || at == statements->len);
}

static mongoc_bulk_operation_t *new_bulk(const lumo_run_state *run, const lumo_step *step) {
  mongoc_bulk_operation_t *bulk = mongoc_bulk_operation_new(step->ordered);
  mongoc_bulk_operation_set_database(bulk, run->connection->database);
  mongoc_bulk_operation_set_collection(bulk, step->collection);
  mongoc_bulk_operation_set_client(bulk, run->client);
  const lumo_policy *policy = run->transaction ? NULL : run->plan->policy;
  mongoc_bulk_operation_set_write_concern(bulk, policy && policy->write_concern
                                                    ? policy->write_concern
                                                    : mongoc_client_get_write_concern(run->client));
  if (run->transaction) mongoc_bulk_operation_set_client_session(bulk, run->transaction);
  return bulk;
}

/* False if the statements are not well formed: nothing is sent then. */
static bool call_write(const lumo_run_state *run, const lumo_step *step, write_part *part,
                       lumo_answer *answer, lumo_calls *calls) {
  mongoc_bulk_operation_t *bulk = new_bulk(run, step);
  repeat_rules repeats;
  bool ok = add_statements(bulk, step->statements, !run->transaction, part, &repeats, &answer->error);
  calls->harmless = repeats.only_deletes || step->repeatable;
  if (ok) {
    lumo_trace_begin(&answer->trace, run->connection, run->client, step->collection);
    answer->trace.deadline_ms = calls->deadline;
    answer->trace.retries = repeats.numbered && !run->transaction;
    answer->ok = mongoc_bulk_operation_execute(bulk, &answer->reply, &answer->error) != 0;
    lumo_trace_end();
    answer->has_reply = true;
  }
  mongoc_bulk_operation_destroy(bulk);
  return ok;
}

/* ---- a write with a time limit ---- */

/* The command of one statement that changes many; false if it is of another kind. */
static bool build_timed(const lumo_step *step, const lumo_statement *statement, bson_t *command) {
  bool update = statement->kind == LUMO_UPDATE_MANY;
  bson_t options, filter, change, list, item;
  bson_iter_t it;
  if ((!update && statement->kind != LUMO_DELETE_MANY) || (update && !is_update(statement)) ||
      !bson_init_static(&options, statement->options, statement->options_len) ||
      !bson_init_static(&filter, statement->filter, statement->filter_len) ||
      (update && !bson_init_static(&change, statement->document, statement->document_len)))
    return false;
  BSON_APPEND_UTF8(command, update ? "update" : "delete", step->collection);
  BSON_APPEND_ARRAY_BEGIN(command, update ? "updates" : "deletes", &list);
  BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &item);
  BSON_APPEND_DOCUMENT(&item, "q", &filter);
  if (update) {
    BSON_APPEND_DOCUMENT(&item, "u", &change);
    BSON_APPEND_BOOL(&item, "multi", true);
  } else {
    BSON_APPEND_INT32(&item, "limit", 0);
  }
  bson_copy_to_excluding_noinit(&options, &item, "comment", "maxTimeMS", NULL);
  bson_append_document_end(&list, &item);
  bson_append_array_end(command, &list);
  for (bson_iter_init(&it, &options); bson_iter_next(&it);)
    if (strcmp(bson_iter_key(&it), "comment") == 0 || strcmp(bson_iter_key(&it), "maxTimeMS") == 0)
      bson_append_iter(command, NULL, 0, &it);
  return true;
}

/* Names the counters of a reply as a bulk operation does. */
static void name_counters(lumo_answer *answer, bool update) {
  static const char *const others[] = {"nInserted", "nUpserted"};
  const uint8_t *data = bson_get_data(&answer->reply);
  bson_t named = BSON_INITIALIZER;
  int64_t n = lumo_reply_count(data, answer->reply.len, "n");
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) bson_append_int64(&named, others[i], -1, 0);
  BSON_APPEND_INT64(&named, "nMatched", update ? n : 0);
  BSON_APPEND_INT64(&named, "nModified", lumo_reply_count(data, answer->reply.len, "nModified"));
  BSON_APPEND_INT64(&named, "nRemoved", update ? 0 : n);
  bson_copy_to_excluding_noinit(&answer->reply, &named, "n", "nModified", NULL);
  bson_destroy(&answer->reply);
  bson_steal(&answer->reply, &named);
}

/* libmongoc's bulk operations have no time limit, and it would not repeat such a write in any case: a command
 * of its own does. False if the statement is not well formed. */
static bool send_timed(const lumo_run_state *run, const lumo_step *step, const lumo_statement *statement,
                       lumo_answer *answer) {
  bson_t command = BSON_INITIALIZER, opts = BSON_INITIALIZER;
  bool formed = build_timed(step, statement, &command);
  bool update = statement->kind == LUMO_UPDATE_MANY;
  if (formed && lumo_append_write_options(run, &opts, answer)) {
    lumo_calls calls = lumo_calls_begin(run, answer, run->connection->retry_writes);
    calls.harmless = !update || step->repeatable;
    do lumo_call_command(run, step, &command, &opts, answer, &calls);
    while (lumo_calls_again(&calls, run, step, answer));
    if (answer->trace.answered > 0) name_counters(answer, update);
  }
  bson_destroy(&opts);
  bson_destroy(&command);
  return formed;
}

/* The part's first statement, if it has a time limit; then it is the whole part. */
static bool take_timed(const lumo_step *step, write_part *part, lumo_statement *statement) {
  size_t at = part->begin;
  if (!lumo_statement_next(step->statements, &at, statement) || !has_time_limit(statement)) return false;
  part->end = at;
  part->count = 1;
  return true;
}

static bool send_part(const lumo_run_state *run, const lumo_step *step, write_part *part,
                      lumo_answer *answer) {
  lumo_statement timed;
  lumo_answer_init(run, step, answer);
  if (take_timed(step, part, &timed)) return send_timed(run, step, &timed, answer);
  lumo_calls calls = lumo_calls_begin(run, answer, run->connection->retry_writes);
  do {
    if (!call_write(run, step, part, answer, &calls)) return false;
  } while (lumo_calls_again(&calls, run, step, answer));
  return true;
}

/* Appends the elements of both lists, the second one's statements counted from `first`. */
static void append_both(bson_t *out, const char *name, const bson_t *before, const bson_t *part,
                        uint32_t first) {
  bson_t list, item, copy;
  bson_iter_t it, inner;
  uint32_t n = 0;
  char key[12];
  BSON_APPEND_ARRAY_BEGIN(out, name, &list);
  for (int second = 0; second < 2; second++) {
    if (!bson_iter_init_find(&it, second ? part : before, name) || !bson_iter_recurse(&it, &inner)) continue;
    while (bson_iter_next(&inner)) {
      uint32_t len = 0;
      const uint8_t *data = NULL;
      bson_iter_document(&inner, &len, &data);
      if (!data || !bson_init_static(&item, data, len)) continue;
      int64_t index = lumo_reply_count(data, len, "index") + (second ? first : 0);
      snprintf(key, sizeof key, "%u", n++);
      BSON_APPEND_DOCUMENT_BEGIN(&list, key, &copy);
      BSON_APPEND_INT32(&copy, "index", (int32_t)index);
      bson_copy_to_excluding_noinit(&item, &copy, "index", NULL);
      bson_append_document_end(&list, &copy);
    }
  }
  bson_append_array_end(out, &list);
}

/* Makes the reply of a part that of all statements so far. `before` is that of the parts before it. */
static void merge_reply(lumo_answer *answer, const bson_t *before, uint32_t first) {
  static const char *const counters[] = {"nInserted", "nMatched", "nModified", "nRemoved", "nUpserted"};
  bson_t merged = BSON_INITIALIZER, *part = &answer->reply;
  if (first == 0 || !bson_has_field(part, "nInserted")) return;
  for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
    bson_append_int64(&merged, counters[i], -1,
                      lumo_reply_count(bson_get_data(before), before->len, counters[i]) +
                          lumo_reply_count(bson_get_data(part), part->len, counters[i]));
  append_both(&merged, "upserted", before, part, first);
  append_both(&merged, "writeErrors", before, part, first);
  bson_copy_to_excluding_noinit(part, &merged, "nInserted", "nMatched", "nModified", "nRemoved", "nUpserted",
                                "upserted", "writeErrors", NULL);
  bson_destroy(part);
  bson_steal(part, &merged);
}

bool lumo_write_send(const lumo_run_state *run, const lumo_step *step, lumo_answer *answer) {
  bson_t before = BSON_INITIALIZER;
  write_part part = {0};
  bool formed;
  for (;;) {
    formed = send_part(run, step, &part, answer);
    if (!formed) break;
    merge_reply(answer, &before, part.first);
    if (!answer->ok || part.end >= step->statements->len) break;
    bson_destroy(&before);
    bson_steal(&before, &answer->reply);
    part = (write_part){.begin = part.end, .first = part.first + part.count};
  }
  bson_destroy(&before);
  return formed;
}
