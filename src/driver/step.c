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

/* The reply's bytes change hands without a copy: libbson's allocator is malloc, and lumo_free is free. */
static void take_reply(lumo_answer *answer, lumo_reply *reply) {
  reply->data = bson_destroy_with_steal(&answer->reply, true, &reply->len);
  answer->has_reply = false;
}

/* The one place that turns a failed call into an error; frees the answer. */
static lumo_sent fail(lumo_run_state *run, const lumo_step *step, lumo_answer *answer) {
  lumo_context context = context_of(run, step);
  lumo_error *error = run->error;
  context.many = lumo_extent_of(step).many;
  lumo_error_classify(error, answer, &context);
  run->gave_up = answer->error.domain == MONGOC_ERROR_SERVER_SELECTION || answer->trace.timed_out;
  /* libmongoc leaves the label out when the connection fails before the command is written. */
  if (run->transaction && strcmp(error->code, "E_NETWORK") == 0) error->labels |= LUMO_LABEL_TRANSIENT;
  lumo_answer_free(answer);
  return LUMO_SEND_FAILED;
}

/* ---- READ and MORE ---- */

/* A session for a cursor that may stay open, in a new lease on the plan. */
static bool open_lease(lumo_run_state *run, const lumo_step *step, lumo_answer *answer) {
  lumo_lease *lease = lumo_lease_new(run->connection, step->collection, run->error);
  if (!lease) return false;
  run->plan->lease = lease;
  run->plan->release_lease = lumo_lease_release;
  lease->in_transaction = run->transaction != NULL;
  if (run->transaction) return true;
  lumo_calls calls = lumo_calls_begin(run, answer, false);
  do lease->session = lumo_session_start(run->client, &answer->error); /* which looks for a server */
  while (!lease->session && lumo_calls_again(&calls, run, step, answer));
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
  lumo_answer_init(run, step, &answer);
  lumo_run_drop_lease(run); /* a plan that gave up a cursor for a new one */
  bool ready = step->single || open_lease(run, step, &answer);
  if (!ready && !run->plan->lease) { /* no memory */
    bson_destroy(&opts);
    return refuse(run, step);
  }
  lumo_lease *lease = run->plan->lease;
  mongoc_client_session_t *session = run->transaction ? run->transaction : lease ? lease->session : NULL;
  if (ready && lumo_append_session(session, &opts, &answer) &&
      (run->transaction || lumo_policy_append_read(run->plan->policy, &opts))) {
    lumo_calls calls = lumo_calls_begin(run, &answer, run->connection->retry_reads);
    calls.harmless = true;
    do call_read(run, step, &command, &opts, &answer);
    while (lumo_calls_again(&calls, run, step, &answer));
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
  lumo_answer_init(run, step, &answer);
  append_get_more(&command, &opts, step, lease);
  /* Never repeated, by libmongoc neither: the batch may have been taken from the cursor. */
  if (lumo_append_session(run->transaction ? run->transaction : lease->session, &opts, &answer))
    call_read(run, step, &command, &opts, &answer);
  bson_destroy(&command);
  bson_destroy(&opts);
  if (!answer.ok) return fail(run, step, &answer);
  lease->cursor = cursor_of(&answer);
  if (!lease->cursor) close_lease(run);
  take_reply(&answer, reply);
  return LUMO_SENT;
}

/* ---- any command ---- */

/* ---- WRITE ---- */

static lumo_sent send_write(lumo_run_state *run, const lumo_step *step, lumo_reply *reply) {
  lumo_answer answer;
  if (!lumo_write_send(run, step, &answer))
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

static lumo_sent send_command(lumo_run_state *run, const lumo_step *step, lumo_reply *reply) {
  lumo_answer answer;
  bson_t command, opts = BSON_INITIALIZER;
  if (!bson_init_static(&command, step->command, step->command_len) || bson_empty(&command))
    return refuse_argument(run, step, "the command is not a document, or an empty one");
  lumo_answer_init(run, step, &answer);
  if (step->writes ? lumo_append_write_options(run, &opts, &answer)
                   : lumo_append_session(run->transaction, &opts, &answer)) {
    bool retries = step->reads ? run->connection->retry_reads : step->writes && run->connection->retry_writes;
    lumo_calls calls = lumo_calls_begin(run, &answer, retries);
    calls.harmless = step->reads;
    do lumo_call_command(run, step, &command, &opts, &answer, &calls);
    while (lumo_calls_again(&calls, run, step, &answer));
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
