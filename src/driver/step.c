/* One step of a plan, as calls of libmongoc. */
#include <stdio.h>
#include <string.h>

#include "../core/mem.h"
#include "private.h"

static lumo_context context_of(const lumo_run_state *run, const lumo_step *step) {
  const lumo_connection *connection = run->connection;
  return (lumo_context){.op = run->plan->name,
                        .database = step->database ? step->database : connection->database,
                        .collection = step->collection,
                        .writes = step->kind == LUMO_STEP_WRITE || step->writes,
                        .written = run->written,
                        .to_write = run->plan->writes,
                        .in_transaction = run->transaction != NULL};
}

/* A failure before libmongoc had a part in it. Always LUMO_SEND_FAILED. */
static lumo_sent refuse(lumo_run_state *run, const lumo_step *step) {
  lumo_context context = context_of(run, step);
  lumo_error_complete(run->error, &context);
  return LUMO_SEND_FAILED;
}

static lumo_sent refuse_argument(lumo_run_state *run, const lumo_step *step, const char *why) {
  lumo_error_set(run->error, "E_ARGUMENT", "%s: %s", run->plan->name, why);
  return refuse(run, step);
}

/* Not cleared as a whole: the two errors in it are a kilobyte. */
static void answer_init(const lumo_run_state *run, const lumo_step *step, lumo_answer *answer) {
  answer->ok = answer->has_reply = false;
  answer->error.domain = answer->error.code = 0;
  answer->error.message[0] = '\0';
  lumo_trace_reset(&answer->trace, run->connection, step->collection);
}

static void answer_free(lumo_answer *answer) {
  if (answer->has_reply) bson_destroy(&answer->reply);
  answer->has_reply = false;
}

/* The reply's bytes change hands without a copy: libbson's allocator is malloc, and lumo_free is free. */
static void take_reply(lumo_answer *answer, lumo_reply *reply) {
  reply->data = bson_destroy_with_steal(&answer->reply, true, &reply->len);
  answer->has_reply = false;
}

/* What a WRITE that failed may have done in part: it has several statements, or one that changes many
 * documents. */
typedef struct extent {
  bool several, many;
} extent;

static extent extent_of(const lumo_step *step) {
  extent found = {0};
  lumo_statement statement;
  size_t at = 0;
  if (step->kind != LUMO_STEP_WRITE) return found;
  for (unsigned n = 0; lumo_statement_next(step->statements, &at, &statement); n++) {
    if (n > 0) found.several = true;
    if (statement.kind == LUMO_UPDATE_MANY || statement.kind == LUMO_DELETE_MANY) found.many = true;
  }
  return found;
}

/* The one place that turns a failed call into an error; frees the answer. */
static lumo_sent fail(lumo_run_state *run, const lumo_step *step, lumo_answer *answer) {
  lumo_context context = context_of(run, step);
  lumo_error *error = run->error;
  context.many = extent_of(step).many;
  lumo_error_classify(error, answer, &context);
  run->gave_up = answer->error.domain == MONGOC_ERROR_SERVER_SELECTION || answer->trace.timed_out;
  /* libmongoc leaves the label out when the connection fails before the command is written. */
  if (run->transaction && strcmp(error->code, "E_NETWORK") == 0) error->labels |= LUMO_LABEL_TRANSIENT;
  answer_free(answer);
  return LUMO_SEND_FAILED;
}

/* The calls that one step makes of libmongoc, all in the time of one. Where primaries step down one after the
 * other, libmongoc's single retry is not enough. */
typedef struct call_series {
  int64_t deadline;
  bool allowed;     /* to repeat what has been sent */
  bool harmless;    /* executing it twice comes to the same as once */
  bool lost;        /* one of the calls may have been executed */
  unsigned repeats; /* of what has been sent */
} call_series;

static call_series calls_begin(const lumo_run_state *run, const lumo_answer *answer, bool allowed) {
  return (call_series){.deadline = answer->trace.deadline_ms, .allowed = allowed && !run->transaction};
}

/* No attempt of this call has been executed: each was refused, or broken off before anything stayed. */
static bool is_unexecuted(const lumo_answer *answer) {
  const lumo_trace *trace = &answer->trace;
  return trace->failed && trace->answered == 0 && !trace->lost &&
         (lumo_code_refuses((int32_t)trace->error.code) || trace->interrupted);
}

/* Waits before what has been sent is sent again; false: there is no time for it. */
static bool hold_back(call_series *calls, const lumo_answer *answer) {
  bool stepping_down = answer->trace.interrupted || answer->error.domain != MONGOC_ERROR_STREAM;
  lumo_backoff(stepping_down ? LUMO_STEPPING_DOWN : ++calls->repeats);
  return lumo_clock_ms() < calls->deadline;
}

/* Whether to make the call again. Nothing was sent: no server is known yet (libmongoc waits a slice of our
 * time), or a connection could not be set up; a transaction is restarted for the latter. Or nothing was
 * executed, or no harm is done. */
static bool calls_again(call_series *calls, const lumo_run_state *run, const lumo_step *step,
                        lumo_answer *answer) {
  lumo_trace *trace = &answer->trace;
  if (answer->ok) return false;
  extent touched = extent_of(step);
  if (trace->interrupted && (touched.several || touched.many)) trace->lost = true;
  trace->lost |= calls->lost;
  bool again = false, unavailable = lumo_answer_unavailable(answer);
  if (trace->timed_out || lumo_clock_ms() >= calls->deadline) return false;
  if (trace->sent == 0)
    again = lumo_error_is_selection(&answer->error) || (!run->transaction && unavailable);
  else if (calls->allowed && unavailable && (calls->harmless || is_unexecuted(answer)))
    again = hold_back(calls, answer);
  if (!again) return false;
  calls->lost = trace->lost || trace->answered > 0;
  answer_free(answer);
  return true;
}

/* ---- READ and MORE ---- */

static bool append_session(mongoc_client_session_t *session, bson_t *opts, lumo_answer *answer) {
  return !session || mongoc_client_session_append(session, opts, &answer->error);
}

/* A session for a cursor that may stay open, in a new lease on the plan. */
static bool open_lease(lumo_run_state *run, const lumo_step *step, lumo_answer *answer) {
  lumo_lease *lease = lumo_lease_new(run->connection, step->collection, run->error);
  if (!lease) return false;
  run->plan->lease = lease;
  run->plan->release_lease = lumo_lease_release;
  lease->in_transaction = run->transaction != NULL;
  if (run->transaction) return true;
  call_series calls = calls_begin(run, answer, false);
  do lease->session = lumo_session_start(run->client, &answer->error); /* which looks for a server */
  while (!lease->session && calls_again(&calls, run, step, answer));
  /* A server without sessions has cursors that need none. */
  return lease->session || (answer->error.domain == MONGOC_ERROR_CLIENT &&
                            answer->error.code == MONGOC_ERROR_CLIENT_SESSION_FAILURE);
}

void lumo_run_drop_lease(lumo_run_state *run) {
  lumo_lease *lease = run->plan->lease;
  if (!lease) return;
  if (run->own_transaction) lease->cursor = 0;
  run->plan->lease = NULL;
  lumo_lease_release(lease);
}

/* The cursor has been read to its end, or there was none. */
static void close_lease(lumo_run_state *run) {
  lumo_lease *lease = run->plan->lease;
  if (lease) lease->cursor = 0;
  lumo_run_drop_lease(run);
}

static int64_t cursor_of(const lumo_answer *answer) {
  lumo_value id;
  const uint8_t *reply = bson_get_data(&answer->reply);
  if (!lumo_bson_find_path(reply, answer->reply.len, LUMO_KEY("cursor.id"), &id) ||
      id.type != LUMO_BSON_INT64)
    return 0;
  return lumo_value_int64(&id);
}

/* A batch size that was asked for holds for every batch. */
static int32_t batch_size_of(const lumo_step *step) {
  lumo_value v;
  if (!lumo_bson_find(step->command, step->command_len, LUMO_KEY("batchSize"), &v) &&
      !lumo_bson_find_path(step->command, step->command_len, LUMO_KEY("cursor.batchSize"), &v))
    return 0;
  int64_t n = v.type == LUMO_BSON_INT32   ? lumo_value_int32(&v)
              : v.type == LUMO_BSON_INT64 ? lumo_value_int64(&v)
                                          : 0;
  return n > 0 && n <= INT32_MAX ? (int32_t)n : 0;
}

static void call_read(lumo_run_state *run, const lumo_step *step, const bson_t *command, const bson_t *opts,
                      lumo_answer *answer) {
  const lumo_policy *policy = run->plan->policy;
  /* In a transaction the read preference must be given as primary, whatever the URI's is. */
  mongoc_read_prefs_t *primary = run->transaction ? mongoc_read_prefs_new(MONGOC_READ_PRIMARY) : NULL;
  const mongoc_read_prefs_t *preference = primary ? primary : policy ? policy->read : NULL;
  lumo_trace_begin(&answer->trace, run->connection, run->client, step->collection);
  answer->ok = mongoc_client_read_command_with_opts(run->client, run->connection->database, command,
                                                    preference, opts, &answer->reply, &answer->error);
  lumo_trace_end();
  answer->has_reply = true;
  mongoc_read_prefs_destroy(primary);
}

static lumo_sent send_read(lumo_run_state *run, const lumo_step *step, lumo_reply *reply) {
  lumo_answer answer;
  bson_t command, opts = BSON_INITIALIZER;
  if (!bson_init_static(&command, step->command, step->command_len))
    return refuse_argument(run, step, "the command is not a document");
  answer_init(run, step, &answer);
  lumo_run_drop_lease(run); /* a plan that gave up a cursor for a new one */
  bool ready = step->single || open_lease(run, step, &answer);
  if (!ready && !run->plan->lease) { /* no memory */
    bson_destroy(&opts);
    return refuse(run, step);
  }
  lumo_lease *lease = run->plan->lease;
  mongoc_client_session_t *session = run->transaction ? run->transaction : lease ? lease->session : NULL;
  if (ready && append_session(session, &opts, &answer) &&
      (run->transaction || lumo_policy_append_read(run->plan->policy, &opts))) {
    call_series calls = calls_begin(run, &answer, run->connection->retry_reads);
    calls.harmless = true;
    do call_read(run, step, &command, &opts, &answer);
    while (calls_again(&calls, run, step, &answer));
  }
  bson_destroy(&opts);
  if (!answer.ok) {
    close_lease(run);
    return fail(run, step, &answer);
  }
  int64_t cursor = lease ? cursor_of(&answer) : 0;
  if (cursor) {
    lease->cursor = cursor;
    lease->server_id = answer.trace.server_id;
    lease->batch_size = batch_size_of(step);
  } else {
    close_lease(run);
  }
  take_reply(&answer, reply);
  return LUMO_SENT;
}

static void append_get_more(bson_t *command, bson_t *opts, const lumo_step *step, const lumo_lease *lease) {
  BSON_APPEND_INT64(command, "getMore", step->cursor);
  BSON_APPEND_UTF8(command, "collection", step->collection);
  if (lease->batch_size) BSON_APPEND_INT32(command, "batchSize", lease->batch_size);
  if (step->await_ms) BSON_APPEND_INT64(command, "maxTimeMS", step->await_ms);
  BSON_APPEND_INT64(opts, "serverId", lease->server_id);
}

static lumo_sent send_more(lumo_run_state *run, const lumo_step *step, lumo_reply *reply) {
  lumo_lease *lease = run->plan->lease;
  if (!lease || lease->cursor != step->cursor || lease->in_transaction != (run->transaction != NULL))
    return refuse_argument(run, step, "the cursor is closed");
  lumo_answer answer;
  bson_t command = BSON_INITIALIZER, opts = BSON_INITIALIZER;
  answer_init(run, step, &answer);
  append_get_more(&command, &opts, step, lease);
  /* Never repeated, by libmongoc neither: the batch may have been taken from the cursor. */
  if (append_session(run->transaction ? run->transaction : lease->session, &opts, &answer))
    call_read(run, step, &command, &opts, &answer);
  bson_destroy(&command);
  bson_destroy(&opts);
  if (!answer.ok) return fail(run, step, &answer);
  lease->cursor = cursor_of(&answer);
  if (!lease->cursor) close_lease(run);
  take_reply(&answer, reply);
  return LUMO_SENT;
}

/* ---- WRITE ---- */

typedef struct write_opts {
  bson_t plain, upsert; /* what was encoded here need not be validated again */
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

static bool add_statement(mongoc_bulk_operation_t *bulk, const lumo_statement *statement,
                          const write_opts *opts, bson_error_t *error) {
  bson_t filter, document;
  bool has_filter = statement->filter && bson_init_static(&filter, statement->filter, statement->filter_len);
  bool has_document =
      statement->document && bson_init_static(&document, statement->document, statement->document_len);
  switch (statement->kind) {
  case LUMO_INSERT:
    return has_document && mongoc_bulk_operation_insert_with_opts(bulk, &document, &opts->plain, error);
  case LUMO_UPDATE_ONE:
  case LUMO_UPSERT_ONE:
    return has_filter && has_document && is_update(statement) &&
           mongoc_bulk_operation_update_one_with_opts(
               bulk, &filter, &document, statement->kind == LUMO_UPSERT_ONE ? &opts->upsert : &opts->plain,
               error);
  case LUMO_UPDATE_MANY:
    return has_filter && has_document && is_update(statement) &&
           mongoc_bulk_operation_update_many_with_opts(bulk, &filter, &document, &opts->plain, error);
  case LUMO_DELETE_ONE:
    return has_filter && mongoc_bulk_operation_remove_one_with_opts(bulk, &filter, NULL, error);
  case LUMO_DELETE_MANY:
    return has_filter && mongoc_bulk_operation_remove_many_with_opts(bulk, &filter, NULL, error);
  }
  return false;
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
  uint32_t first, count; /* the first one's index; how many there are */
} write_part;

static bool has_room(const write_part *part, size_t size) {
  size_t bytes = part->end - part->begin + (size_t)part->count * STATEMENT_OVERHEAD;
  return part->count == 0 ||
         (part->count < PART_STATEMENTS && bytes + size + STATEMENT_OVERHEAD <= PART_BYTES);
}

/* Fills the bulk from the part's beginning on, and sets its end. */
static bool add_statements(mongoc_bulk_operation_t *bulk, const lumo_buf *statements, bool all,
                           write_part *part, repeat_rules *repeats, bson_error_t *error) {
  write_opts opts = {BSON_INITIALIZER, BSON_INITIALIZER};
  lumo_statement statement;
  size_t at = part->begin;
  bool ok = true, full = false;
  part->end = part->begin;
  part->count = 0;
  BSON_APPEND_BOOL(&opts.plain, "validate", false);
  BSON_APPEND_BOOL(&opts.upsert, "validate", false);
  BSON_APPEND_BOOL(&opts.upsert, "upsert", true);
  repeats->numbered = false;
  repeats->only_deletes = true;
  while (ok && lumo_statement_next(statements, &at, &statement)) {
    full = !all && !has_room(part, at - part->end);
    if (full) break;
    part->end = at;
    part->count++;
    if (statement.kind != LUMO_DELETE_MANY) repeats->only_deletes = false;
    if (statement.kind != LUMO_DELETE_MANY && statement.kind != LUMO_UPDATE_MANY) repeats->numbered = true;
    ok = add_statement(bulk, &statement, &opts, error);
  }
  bson_destroy(&opts.plain);
  bson_destroy(&opts.upsert);
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
                       lumo_answer *answer, call_series *calls) {
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

static bool send_part(const lumo_run_state *run, const lumo_step *step, write_part *part,
                      lumo_answer *answer) {
  answer_init(run, step, answer);
  call_series calls = calls_begin(run, answer, run->connection->retry_writes);
  do {
    if (!call_write(run, step, part, answer, &calls)) return false;
  } while (calls_again(&calls, run, step, answer));
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

/* Sends all parts, up to the first one that fails. False if a statement is not well formed. */
static bool send_parts(const lumo_run_state *run, const lumo_step *step, lumo_answer *answer) {
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

static lumo_sent send_write(lumo_run_state *run, const lumo_step *step, lumo_reply *reply) {
  lumo_answer answer;
  if (!send_parts(run, step, &answer))
    return refuse_argument(run, step, "a statement is malformed, or an update without operators");
  if (!answer.ok) {
    bool duplicates = step->feed_duplicates && lumo_answer_duplicates_only(&answer);
    if (!duplicates || (run->transaction && !run->own_transaction)) return fail(run, step, &answer);
    reply->transaction_dead = run->own_transaction;
  }
  take_reply(&answer, reply);
  return reply->transaction_dead ? LUMO_SENT_DEAD : LUMO_SENT;
}

/* ---- COMMAND ---- */

static const mongoc_read_prefs_t *read_preference(const lumo_run_state *run) {
  const lumo_policy *policy = run->transaction ? NULL : run->plan->policy;
  return policy ? policy->read : NULL;
}

static void call_command(lumo_run_state *run, const lumo_step *step, const bson_t *command,
                         const bson_t *opts, lumo_answer *answer, const call_series *calls) {
  const char *database = step->database ? step->database : run->connection->database;
  lumo_trace_begin(&answer->trace, run->connection, run->client, step->collection);
  answer->trace.deadline_ms = calls->deadline;
  answer->trace.retries = step->writes && !run->transaction;
  if (step->writes)
    answer->ok = mongoc_client_write_command_with_opts(run->client, database, command, opts, &answer->reply,
                                                       &answer->error);
  else
    answer->ok = mongoc_client_command_with_opts(run->client, database, command, read_preference(run), opts,
                                                 &answer->reply, &answer->error);
  lumo_trace_end();
  answer->has_reply = true;
  if (answer->ok && lumo_answer_refused(answer)) answer->ok = false;
}

static lumo_sent send_command(lumo_run_state *run, const lumo_step *step, lumo_reply *reply) {
  lumo_answer answer;
  bson_t command, opts = BSON_INITIALIZER;
  if (!bson_init_static(&command, step->command, step->command_len) || bson_empty(&command))
    return refuse_argument(run, step, "the command is not a document, or an empty one");
  answer_init(run, step, &answer);
  if (append_session(run->transaction, &opts, &answer) &&
      (!step->writes || run->transaction || lumo_policy_append_write(run->plan->policy, &opts))) {
    call_series calls = calls_begin(run, &answer, step->writes && run->connection->retry_writes);
    do call_command(run, step, &command, &opts, &answer, &calls);
    while (calls_again(&calls, run, step, &answer));
  }
  bson_destroy(&opts);
  if (!answer.ok) return fail(run, step, &answer);
  take_reply(&answer, reply);
  return LUMO_SENT;
}

lumo_sent lumo_step_send(lumo_run_state *run, const lumo_step *step, lumo_reply *reply) {
  run->gave_up = false;
  lumo_sent sent = LUMO_SEND_FAILED;
  switch (step->kind) {
  case LUMO_STEP_READ: sent = send_read(run, step, reply); break;
  case LUMO_STEP_MORE: sent = send_more(run, step, reply); break;
  case LUMO_STEP_WRITE: sent = send_write(run, step, reply); break;
  case LUMO_STEP_COMMAND: sent = send_command(run, step, reply); break;
  case LUMO_STEP_PAUSE:
  case LUMO_STEP_DONE: break; /* the runner's */
  }
  run->steps++;
  if (step->kind == LUMO_STEP_WRITE ? lumo_reply_changed(reply->data, reply->len) : step->writes)
    run->written = true;
  return sent;
}
