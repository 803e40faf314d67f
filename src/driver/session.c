/* Transactions: starting, committing and aborting them, for a run's own and for sessions that several plans
 * share. */
#include <stdio.h>
#include <string.h>

#include "../core/mem.h"
#include "private.h"

mongoc_client_session_t *lumo_session_start(mongoc_client_t *client, bson_error_t *error) {
  mongoc_session_opt_t *opts = mongoc_session_opts_new();
  mongoc_session_opts_set_causal_consistency(opts, false);
  mongoc_client_session_t *session = mongoc_client_start_session(client, opts, error);
  mongoc_session_opts_destroy(opts);
  return session;
}

bool lumo_transaction_start(const lumo_connection *connection, const lumo_policy *policy,
                            mongoc_client_session_t *session, bson_error_t *error) {
  mongoc_transaction_opt_t *opts = mongoc_transaction_opts_new();
  mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
  mongoc_transaction_opts_set_read_prefs(opts, primary);
  if (policy && policy->read_concern) mongoc_transaction_opts_set_read_concern(opts, policy->read_concern);
  if (policy && policy->max_commit_ms)
    mongoc_transaction_opts_set_max_commit_time_ms(opts, policy->max_commit_ms);
  if (policy && policy->write_concern) {
    mongoc_transaction_opts_set_write_concern(opts, policy->write_concern);
  } else if (connection->majority) {
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

static void abort_transaction(const lumo_connection *connection, mongoc_client_session_t *session) {
  lumo_trace trace;
  lumo_trace_begin(&trace, connection, mongoc_client_session_get_client(session), NULL);
  trace.retries = true;
  /* No error is looked at: what this cannot tell the server, the server finds out by itself. */
  mongoc_client_session_abort_transaction(session, NULL);
  lumo_trace_end();
}

/* ---- orphans ---- */

struct lumo_orphan {
  lumo_orphan *next;
  uint32_t len;
  uint8_t lsid[]; /* the document that names the session */
};

/* Without memory it is forgotten, and the server's own limit ends its transaction. */
static void keep_orphan(lumo_connection *connection, const mongoc_client_session_t *session) {
  const bson_t *lsid = mongoc_client_session_get_lsid((mongoc_client_session_t *)session);
  lumo_orphan *orphan = lumo_malloc(sizeof *orphan + lsid->len);
  if (!orphan) return;
  orphan->len = lsid->len;
  memcpy(orphan->lsid, bson_get_data(lsid), lsid->len);
  lumo_driver_lock();
  orphan->next = connection->orphans;
  connection->orphans = orphan;
  lumo_driver_unlock();
}

void lumo_orphans_free(lumo_connection *connection) {
  lumo_orphan *orphan = connection->orphans;
  connection->orphans = NULL;
  while (orphan) {
    lumo_orphan *next = orphan->next;
    lumo_free(orphan);
    orphan = next;
  }
}

static void append_sessions(bson_t *command, const lumo_orphan *orphan) {
  bson_t list, lsid;
  char key[12];
  BSON_APPEND_ARRAY_BEGIN(command, "killSessions", &list);
  for (unsigned n = 0; orphan; orphan = orphan->next, n++) {
    snprintf(key, sizeof key, "%u", n);
    if (bson_init_static(&lsid, orphan->lsid, orphan->len)) BSON_APPEND_DOCUMENT(&list, key, &lsid);
  }
  bson_append_array_end(command, &list);
}

/* Gives the orphans back to the list, or frees them. */
static void settle_orphans(lumo_connection *connection, lumo_orphan *orphans, bool killed) {
  lumo_driver_lock();
  for (lumo_orphan *orphan = orphans, *next; orphan; orphan = next) {
    next = orphan->next;
    if (killed) {
      lumo_free(orphan);
    } else {
      orphan->next = connection->orphans;
      connection->orphans = orphan;
    }
  }
  lumo_driver_unlock();
}

bool lumo_orphans_kill(lumo_connection *connection, mongoc_client_t *client, lumo_answer *answer) {
  if (!atomic_load_explicit(&connection->orphans, memory_order_relaxed)) return true;
  lumo_driver_lock();
  lumo_orphan *orphans = connection->orphans;
  connection->orphans = NULL;
  lumo_driver_unlock();
  if (!orphans) return true;
  bson_t command = BSON_INITIALIZER;
  lumo_server_info info;
  append_sessions(&command, orphans);
  *answer = (lumo_answer){.has_reply = true, .reply = BSON_INITIALIZER};
  lumo_trace_begin(&answer->trace, connection, client, NULL);
  if (lumo_connection_describe(connection, client, false, &info, &answer->error)) {
    bson_destroy(&answer->reply);
    answer->ok = mongoc_client_command_with_opts(client, "admin", &command, NULL, NULL, &answer->reply,
                                                 &answer->error);
  }
  lumo_trace_end();
  bson_destroy(&command);
  /* A server that refuses (for want of a right) will not do it the next time. */
  bool settled = answer->ok || answer->trace.answered > 0 || answer->error.domain == MONGOC_ERROR_SERVER;
  settle_orphans(connection, orphans, settled);
  if (settled) bson_destroy(&answer->reply);
  return settled;
}

/* ---- the commit ---- */

/* After a commit that has not committed. libmongoc aborts nothing once it has tried to commit, and the server
 * would hold the transaction's locks for a minute: its session is killed, now or before the next command. The
 * session is not used again. */
static void abort_uncommitted(lumo_connection *connection, mongoc_client_session_t *session, bool reached) {
  mongoc_client_t *client = mongoc_client_session_get_client(session);
  lumo_answer answer;
  keep_orphan(connection, session);
  if (reached && !lumo_orphans_kill(connection, client, &answer)) bson_destroy(&answer.reply);
  mongoc_client_reset(client);
}

bool lumo_transaction_commit(lumo_connection *connection, mongoc_client_session_t *session, const char *op,
                             int64_t deadline, lumo_error *error) {
  lumo_context context = {.op = op, .database = connection->database, .writes = true, .in_transaction = true};
  mongoc_client_t *client = mongoc_client_session_get_client(session);
  int64_t give_up = lumo_clock_ms() + connection->selection_timeout_ms;
  bool sent = false;
  for (unsigned n = 1;; n++) {
    lumo_answer answer = {.ok = false};
    lumo_trace_begin(&answer.trace, connection, client, NULL);
    answer.trace.retries = true;
    answer.ok = mongoc_client_session_commit_transaction(session, &answer.reply, &answer.error);
    lumo_trace_end();
    answer.has_reply = true;
    if (!answer.ok) lumo_error_classify(error, &answer, &context);
    bson_destroy(&answer.reply);
    if (answer.ok) return true;
    sent |= answer.trace.sent > 0;
    /* libmongoc leaves it out when its retry finds no connection. */
    if (!answer.ok && answer.trace.lost)
      error->labels = (error->labels & ~(uint32_t)LUMO_LABEL_TRANSIENT) | LUMO_LABEL_UNKNOWN_COMMIT;
    bool unknown = error->labels & LUMO_LABEL_UNKNOWN_COMMIT;
    bool gone = lumo_error_is_selection(&answer.error) || answer.trace.lost;
    int64_t now = lumo_clock_ms();
    if (unknown && sent) error->outcome = LUMO_UNKNOWN;
    if (!unknown && answer.error.domain == MONGOC_ERROR_WRITE_CONCERN) error->outcome = LUMO_APPLIED;
    if (!unknown || answer.trace.timed_out || now >= (gone ? give_up : deadline)) {
      /* What is transient, the server has aborted. */
      if (error->outcome == LUMO_NOT_APPLIED && !(error->labels & LUMO_LABEL_TRANSIENT))
        abort_uncommitted(connection, session, !gone);
      return false;
    }
    lumo_backoff(n);
    lumo_error_reset(error);
  }
}

/* ---- the end of a session ---- */

/* A connection that broke makes its server unknown for a moment, and the transaction that it leaves behind
 * would hold its locks for a minute: it is worth a wait to abort it. */
static bool comes_up(const lumo_connection *connection, mongoc_client_t *client) {
  lumo_server_info info;
  bson_error_t ignored;
  return lumo_connection_describe(connection, client, false, &info, &ignored);
}

bool lumo_session_end(lumo_connection *connection, mongoc_client_t *client, mongoc_client_session_t *session,
                      bool wait) {
  bool told = true;
  if (mongoc_client_session_in_transaction(session)) {
    told = wait && comes_up(connection, client);
    if (told) {
      abort_transaction(connection, session);
    } else {
      keep_orphan(connection, session);
      /* Destroying the session would wait once more, to tell the server. A client that was reset has nothing
       * to tell; the sessions that it forgets with that have lost their server anyway. */
      mongoc_client_reset(client);
    }
  }
  mongoc_client_session_destroy(session);
  return told;
}

/* ---- sessions that several plans share ---- */

static lumo_context session_context(const lumo_connection *connection) {
  return (lumo_context){.op = "transaction", .database = connection->database};
}

/* Fills session->session; false with *error when the deployment has no transactions or no server answers. */
static bool open_transaction(lumo_session *session, const lumo_policy *policy, lumo_error *error) {
  lumo_connection *connection = session->connection;
  lumo_context context = session_context(connection);
  lumo_server_info info;
  lumo_answer answer = {.ok = false};
  lumo_trace_begin(&answer.trace, connection, session->client, NULL);
  bool found = lumo_connection_describe(connection, session->client, false, &info, &answer.error);
  if (found && info.transactions) {
    session->session = lumo_session_start(session->client, &answer.error);
    answer.ok =
        session->session && lumo_transaction_start(connection, policy, session->session, &answer.error);
  }
  lumo_trace_end();
  if (answer.ok) return true;
  if (found && !info.transactions)
    lumo_error_set(error, "E_UNSUPPORTED", "transactions need a replica set or a sharded cluster");
  else
    lumo_error_classify(error, &answer, &context);
  return false;
}

static void free_session(lumo_session *session);

lumo_session *lumo_session_new(lumo_connection *connection, const lumo_policy *policy, lumo_error *error) {
  lumo_context context = session_context(connection);
  lumo_session *session = lumo_calloc(1, sizeof *session);
  if (!session) {
    lumo_error_memory(error);
    return NULL;
  }
  atomic_init(&session->references, 1);
  session->connection = lumo_connection_ref(connection);
  session->generation = lumo_driver_generation();
  session->client = lumo_connection_checkout(connection, error);
  if (session->client && open_transaction(session, policy, error)) return session;
  free_session(session);
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
  lumo_log_begin(session->log);
  bool ok = lumo_transaction_commit(session->connection, session->session, context.op,
                                    lumo_clock_ms() + session->connection->timeout_ms, error);
  lumo_log_end();
  return ok;
}

bool lumo_session_abort(lumo_session *session, lumo_error *error) {
  lumo_context context = session_context(session->connection);
  if (!is_ours(session, error) || !is_open(session, error)) {
    lumo_error_complete(error, &context);
    return false;
  }
  lumo_log_begin(session->log);
  lumo_session_end(session->connection, session->client, session->session, !session->gave_up);
  lumo_log_end();
  session->session = NULL;
  return true;
}

lumo_session *lumo_session_ref(lumo_session *session) {
  atomic_fetch_add_explicit(&session->references, 1, memory_order_relaxed);
  return session;
}

lumo_connection *lumo_session_connection(const lumo_session *session) {
  return session->connection;
}

/* Gives up what the session holds; may wait. */
static void close_session(lumo_session *session) {
  bool ours =
      session->generation == lumo_driver_generation(); /* else it is the parent's, who still uses it */
  if (ours && session->session)
    lumo_session_end(session->connection, session->client, session->session, !session->gave_up);
  session->session = NULL;
  if (session->client) lumo_connection_checkin(session->connection, session->client, session->generation);
  session->client = NULL;
}

static void free_session(lumo_session *session) {
  close_session(session);
  lumo_log_free(session->log);
  lumo_connection_unref(session->connection);
  lumo_free(session);
}

/* ---- the end of a session whose owner must not wait ---- */

static lumo_session *session_of(lumo_task *task) {
  return (lumo_session *)((char *)task - offsetof(lumo_session, end));
}

static void run_end(lumo_task *task) {
  close_session(session_of(task));
}

static void fail_end(lumo_task *task, const lumo_error *error) {
  (void)task, (void)error;
}

static void free_end(lumo_task *task) {
  free_session(session_of(task));
}

void lumo_session_unref(lumo_session *session) {
  static const lumo_task_class end_class = {run_end, fail_end, NULL, free_end};
  lumo_error ignored;
  lumo_workers *workers = NULL;
  if (!session || atomic_fetch_sub_explicit(&session->references, 1, memory_order_acq_rel) != 1) return;
  lumo_error_init(&ignored);
  if (session->generation == lumo_driver_generation() && session->session &&
      mongoc_client_session_in_transaction(session->session))
    workers = lumo_connection_workers(session->connection, false, &ignored);
  if (!workers) {
    free_session(session);
    return;
  }
  lumo_task_init(&session->end, &end_class, &session->line);
  lumo_workers_detach(workers, &session->end);
  lumo_workers_unref(workers);
}
