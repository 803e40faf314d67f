/* libmongoc's command events: the trace of one call, and the log of commands of a plan or a session. */
#include <string.h>

#include "../core/mem.h"
#include "private.h"

static _Thread_local lumo_trace *current;
static _Thread_local lumo_command_log *watching; /* of the plan or session that this thread works for */

struct lumo_command_log {
  lumo_command_event *items;
  size_t count, capacity;
  bool failed; /* no memory: what followed is missing */
};

static void add_event(lumo_command_log *log, const char *name, int64_t duration_us, bool failed) {
  if (!log->failed && log->count == log->capacity) {
    size_t capacity = log->capacity ? log->capacity * 2 : 16;
    lumo_command_event *items = lumo_realloc(log->items, capacity * sizeof *items);
    log->failed = !items;
    if (items) {
      log->items = items;
      log->capacity = capacity;
    }
  }
  if (log->failed) return;
  lumo_command_event *event = &log->items[log->count++];
  *event = (lumo_command_event){.duration_us = duration_us, .failed = failed};
  strncat(event->name, name, sizeof event->name - 1);
  strncat(event->collection, current->collection, sizeof event->collection - 1);
}

static _Thread_local bool paused;

void lumo_log_pause(bool pause) {
  paused = pause;
}

static void log_command(const char *name, int64_t duration_us, bool failed) {
  if (watching && !paused) add_event(watching, name, duration_us, failed); /* nobody else's meanwhile */
}

void lumo_log_free(void *data) {
  lumo_command_log *log = data;
  if (log) lumo_free(log->items);
  lumo_free(log);
}

void lumo_log_begin(lumo_command_log *log) {
  watching = log;
}

void lumo_log_end(void) {
  watching = NULL;
}

/* Moves the events out of a log, which may be NULL. */
static bool take_events(lumo_command_log *log, lumo_command_event **events, size_t *count) {
  *events = log ? log->items : NULL;
  *count = log ? log->count : 0;
  bool ok = !log || !log->failed;
  if (log) *log = (lumo_command_log){0};
  return ok;
}

/* An empty log; one from before holds what a plan has sent while nobody wanted to know. */
static lumo_command_log *begin_log(lumo_command_log *log) {
  if (!log) return lumo_calloc(1, sizeof *log);
  log->count = 0;
  log->failed = false;
  return log;
}

bool lumo_plan_watch(lumo_plan *plan) {
  plan->log = begin_log(plan->log);
  plan->release_log = lumo_log_free;
  return plan->log != NULL;
}

bool lumo_plan_watched(lumo_plan *plan, lumo_command_event **events, size_t *count) {
  return take_events(plan->log, events, count);
}

bool lumo_session_watch(lumo_session *session) {
  session->log = begin_log(session->log);
  return session->log != NULL;
}

bool lumo_session_watched(lumo_session *session, lumo_command_event **events, size_t *count) {
  return take_events(session->log, events, count);
}

/* ---- the trace ---- */

/* ---- between an attempt and its retry ----
 *
 * libmongoc retries at once and with all the time of a first attempt. Here is the only moment to keep that
 * within the timeout of the call. */

static mongoc_stream_t *refuse_connection(const mongoc_uri_t *uri, const mongoc_host_list_t *host, void *data,
                                          bson_error_t *error) {
  (void)uri, (void)host, (void)data;
  bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT, "the timeout is over");
  return NULL;
}

static void hold_retry(lumo_trace *trace, bool answered) {
  bson_error_t ignored;
  mongoc_server_description_t *server = NULL;
  if (answered)
    lumo_backoff(LUMO_STEPPING_DOWN); /* who steps down calls itself the primary for a moment longer */
  if (!trace->timed_out && lumo_clock_ms() < trace->deadline_ms)
    server = lumo_connection_select(trace->connection, trace->client, false, trace->deadline_ms, &ignored);
  /* The attempt's connection is closed, so that a retry needs a new one. */
  trace->refusing = !server;
  if (server)
    mongoc_server_description_destroy(server);
  else
    mongoc_client_set_stream_initiator(trace->client, refuse_connection, NULL);
}

/* Few replies have one of the two fields that hold labels, for which libmongoc would take far longer to look.
 */
static bool asks_for_retry(const bson_t *reply) {
  lumo_value found;
  const uint8_t *data = bson_get_data(reply);
  return (lumo_bson_find(data, reply->len, LUMO_KEY("errorLabels"), &found) ||
          lumo_bson_find(data, reply->len, LUMO_KEY("writeConcernError"), &found)) &&
         mongoc_error_has_label(reply, "RetryableWriteError");
}

static void on_succeeded(const mongoc_apm_command_succeeded_t *event) {
  lumo_trace *trace = current;
  if (!trace) return;
  trace->sent++;
  trace->answered++;
  trace->server_id = mongoc_apm_command_succeeded_get_server_id(event);
  /* After a failure that libmongoc retries this is the retry. After any other one it is the next command of
   * an unordered write, and the failure stands: libmongoc forgets it. */
  if (trace->failed && trace->retried) trace->failed = trace->lost = trace->interrupted = false;
  log_command(mongoc_apm_command_succeeded_get_command_name(event),
              mongoc_apm_command_succeeded_get_duration(event), false);
  /* Written, but the primary stepped down before the others had it: this is retried, too. */
  if (trace->retries && asks_for_retry(mongoc_apm_command_succeeded_get_reply(event)))
    hold_retry(trace, true);
}

/* The server's name of an error is an identifier: anything else is not repeated in messages. */
static void copy_code_name(lumo_trace *trace, const bson_t *reply) {
  bson_iter_t it;
  uint32_t len;
  trace->code_name[0] = '\0';
  if (!reply || !bson_iter_init_find(&it, reply, "codeName") || !BSON_ITER_HOLDS_UTF8(&it)) return;
  const char *name = bson_iter_utf8(&it, &len);
  if (len < sizeof trace->code_name &&
      strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == len)
    memcpy(trace->code_name, name, len + 1);
}

static void on_failed(const mongoc_apm_command_failed_t *event) {
  lumo_trace *trace = current;
  if (!trace) return;
  int64_t duration_us = mongoc_apm_command_failed_get_duration(event);
  const bson_t *reply = mongoc_apm_command_failed_get_reply(event);
  mongoc_apm_command_failed_get_error(event, &trace->error);
  trace->sent++;
  trace->server_id = mongoc_apm_command_failed_get_server_id(event);
  trace->failed = true;
  bool answered = trace->error.domain == MONGOC_ERROR_SERVER;
  trace->retried = !answered || (reply && mongoc_error_has_label(reply, "RetryableWriteError"));
  copy_code_name(trace, reply);
  if (answered && lumo_code_interrupts((int32_t)trace->error.code)) trace->interrupted = true;
  if (!answered) {
    trace->lost = true;
    /* libmongoc's own error does not tell a timeout from a broken connection. Its clock counts whole
     * milliseconds. */
    int32_t timeout_ms = trace->connection->socket_timeout_ms;
    if (timeout_ms > 0 && duration_us >= ((int64_t)timeout_ms - 5) * 1000) trace->timed_out = true;
  }
  log_command(mongoc_apm_command_failed_get_command_name(event), duration_us, true);
  if (trace->retries && trace->retried) hold_retry(trace, answered);
}

void lumo_trace_reset(lumo_trace *trace, const lumo_connection *connection, const char *collection) {
  /* The error is left as it is: it is half a kilobyte, and `failed` tells whether there is one. */
  trace->deadline_ms = lumo_clock_ms() + connection->selection_timeout_ms;
  trace->collection = collection ? collection : "";
  trace->connection = connection;
  trace->client = NULL;
  trace->retries = trace->refusing = false;
  trace->sent = trace->answered = trace->server_id = 0;
  trace->lost = trace->interrupted = trace->timed_out = trace->failed = trace->retried = false;
  trace->code_name[0] = '\0';
}

void lumo_trace_begin(lumo_trace *trace, const lumo_connection *connection, mongoc_client_t *client,
                      const char *collection) {
  lumo_trace_reset(trace, connection, collection);
  trace->client = client;
  current = trace;
}

void lumo_trace_end(void) {
  if (current->refusing)
    mongoc_client_set_stream_initiator(current->client, NULL, NULL); /* libmongoc's own */
  current = NULL;
}

void lumo_trace_pool(mongoc_client_pool_t *pool) {
  mongoc_apm_callbacks_t *callbacks = mongoc_apm_callbacks_new();
  /* No callback for started commands: libmongoc would copy every bulk write's documents into its event. */
  mongoc_apm_set_command_succeeded_cb(callbacks, on_succeeded);
  mongoc_apm_set_command_failed_cb(callbacks, on_failed);
  mongoc_client_pool_set_apm_callbacks(pool, callbacks, NULL);
  mongoc_apm_callbacks_destroy(callbacks);
}
