/* Transactions: starting, committing and aborting them, for a run's own and for sessions that several plans
 * share. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../core/mem.h"
#include "private.h"

int64_t lumo_clock_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void lumo_backoff(unsigned n) {
  static _Thread_local unsigned seed;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  /* Writers that collided must not collide again: nanoseconds and the place of this thread's variables tell
   * them apart. */
  seed ^= (unsigned)now.tv_nsec ^ (unsigned)(uintptr_t)&seed;
  int64_t limit_us = n < 8 ? (int64_t)2000 << (n - 1) : 250000;
  int64_t us = limit_us / 2 + rand_r(&seed) % (limit_us / 2);
  struct timespec pause = {us / 1000000, us % 1000000 * 1000};
  nanosleep(&pause, NULL);
}

mongoc_client_session_t *lumo_session_start(mongoc_client_t *client, bson_error_t *error) {
  mongoc_session_opt_t *opts = mongoc_session_opts_new();
  mongoc_session_opts_set_causal_consistency(opts, false);
  mongoc_client_session_t *session = mongoc_client_start_session(client, opts, error);
  mongoc_session_opts_destroy(opts);
  return session;
}

bool lumo_transaction_start(const lumo_connection *connection, mongoc_client_session_t *session,
                            bson_error_t *error) {
  mongoc_transaction_opt_t *opts = mongoc_transaction_opts_new();
  mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
  mongoc_transaction_opts_set_read_prefs(opts, primary);
  if (connection->majority) {
    mongoc_write_concern_t *concern = mongoc_write_concern_new();
    mongoc_write_concern_set_w(concern, MONGOC_WRITE_CONCERN_W_MAJORITY);
    mongoc_transaction_opts_set_write_concern(opts, concern);
    mongoc_write_concern_destroy(concern);
  }
  bool ok = mongoc_client_session_start_transaction(session, opts, error);
  mongoc_read_prefs_destroy(primary);
  mongoc_transaction_opts_destroy(opts);
  return ok;
}

bool lumo_transaction_commit(const lumo_connection *connection, mongoc_client_session_t *session,
                             const char *op, int64_t deadline, lumo_error *error) {
  lumo_context context = {.op = op, .database = connection->database, .writes = true, .in_transaction = true};
  for (unsigned n = 1;; n++) {
    lumo_answer answer = {.ok = false};
    lumo_trace_begin(&answer.trace, connection, NULL);
    answer.ok = mongoc_client_session_commit_transaction(session, &answer.reply, &answer.error);
    lumo_trace_end();
    answer.has_reply = true;
    if (!answer.ok) lumo_error_classify(error, &answer, &context);
    bson_destroy(&answer.reply);
    if (answer.ok) return true;
    bool waited = answer.error.domain == MONGOC_ERROR_SERVER_SELECTION || answer.trace.timed_out;
    bool unknown = error->labels & LUMO_LABEL_UNKNOWN_COMMIT;
    if (unknown) error->outcome = LUMO_UNKNOWN;
    if (!unknown || waited || lumo_clock_ms() >= deadline) return false;
    lumo_backoff(n);
    lumo_error_reset(error);
  }
}

static void abort_transaction(const lumo_connection *connection, mongoc_client_session_t *session) {
  lumo_trace trace;
  lumo_trace_begin(&trace, connection, NULL);
  /* No error is looked at: what this cannot tell the server, the server finds out by itself. */
  mongoc_client_session_abort_transaction(session, NULL);
  lumo_trace_end();
}

/* Whether any server is known to be there, found out without waiting. */
static bool is_any_up(mongoc_client_t *client) {
  size_t count;
  bool up = false;
  mongoc_server_description_t **servers = mongoc_client_get_server_descriptions(client, &count);
  for (size_t i = 0; i < count; i++)
    if (strcmp(mongoc_server_description_type(servers[i]), "Unknown") != 0) up = true;
  mongoc_server_descriptions_destroy_all(servers, count);
  return up;
}

/* The same, after waiting for one. A connection that broke makes its server unknown for a moment, and the
 * transaction that it leaves behind would hold its locks for a minute: it is worth a wait to abort it. */
static bool comes_up(mongoc_client_t *client) {
  lumo_server_info info;
  bson_error_t ignored;
  return lumo_connection_describe(client, &info, &ignored);
}

bool lumo_session_end(const lumo_connection *connection, mongoc_client_t *client,
                      mongoc_client_session_t *session, bool wait) {
  bool up = true;
  if (mongoc_client_session_in_transaction(session)) {
    /* Without a server, destroying the session would wait for one once more, to tell it. A client that was
     * reset has nothing to tell; the sessions that it forgets with that have lost their server anyway. */
    up = wait ? comes_up(client) : is_any_up(client);
    if (up)
      abort_transaction(connection, session);
    else
      mongoc_client_reset(client);
  }
  mongoc_client_session_destroy(session);
  return up;
}

/* ---- sessions that several plans share ---- */

static lumo_context session_context(const lumo_connection *connection) {
  return (lumo_context){.op = "transaction", .database = connection->database};
}

/* Fills session->session; false with *error when the deployment has no transactions or no server answers. */
static bool open_transaction(lumo_session *session, lumo_error *error) {
  lumo_connection *connection = session->connection;
  lumo_context context = session_context(connection);
  lumo_server_info info;
  lumo_answer answer = {.ok = false};
  lumo_trace_begin(&answer.trace, connection, NULL);
  bool found = lumo_connection_describe(session->client, &info, &answer.error);
  if (found && info.transactions) {
    session->session = lumo_session_start(session->client, &answer.error);
    answer.ok = session->session && lumo_transaction_start(connection, session->session, &answer.error);
  }
  lumo_trace_end();
  if (answer.ok) return true;
  if (found && !info.transactions)
    lumo_error_set(error, "E_UNSUPPORTED", "transactions need a replica set or a sharded cluster");
  else
    lumo_error_classify(error, &answer, &context);
  return false;
}

lumo_session *lumo_session_new(lumo_connection *connection, lumo_error *error) {
  lumo_context context = session_context(connection);
  lumo_session *session = lumo_calloc(1, sizeof *session);
  if (!session) {
    lumo_error_memory(error);
    return NULL;
  }
  session->connection = lumo_connection_ref(connection);
  session->generation = lumo_driver_generation();
  session->client = lumo_connection_checkout(connection, error);
  if (session->client && open_transaction(session, error)) return session;
  lumo_session_free(session);
  lumo_error_complete(error, &context);
  return NULL;
}

static bool is_ours(const lumo_session *session, lumo_error *error) {
  if (session->generation == lumo_driver_generation()) return true;
  return lumo_error_set(error, "E_ARGUMENT", "the transaction was opened before this process was forked");
}

static bool is_open(const lumo_session *session, lumo_error *error) {
  if (session->session && mongoc_client_session_in_transaction(session->session)) return true;
  return lumo_error_set(error, "E_ARGUMENT", "the transaction is over");
}

bool lumo_session_commit(lumo_session *session, lumo_error *error) {
  lumo_context context = session_context(session->connection);
  if (!is_ours(session, error) || !is_open(session, error)) {
    lumo_error_complete(error, &context);
    return false;
  }
  return lumo_transaction_commit(session->connection, session->session, context.op,
                                 lumo_clock_ms() + session->connection->timeout_ms, error);
}

bool lumo_session_abort(lumo_session *session, lumo_error *error) {
  lumo_context context = session_context(session->connection);
  if (!is_ours(session, error) || !is_open(session, error)) {
    lumo_error_complete(error, &context);
    return false;
  }
  lumo_session_end(session->connection, session->client, session->session, !session->unreachable);
  session->session = NULL;
  return true;
}

void lumo_session_free(lumo_session *session) {
  if (!session) return;
  bool ours =
      session->generation == lumo_driver_generation(); /* else it is the parent's, who still uses it */
  if (ours && session->session)
    lumo_session_end(session->connection, session->client, session->session, !session->unreachable);
  if (session->client) lumo_connection_checkin(session->connection, session->client, session->generation);
  lumo_connection_unref(session->connection);
  lumo_free(session);
}
