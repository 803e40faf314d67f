/* Connections: the URI and its defaults, one pool of clients per process, cursors that were left open. */
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "../core/mem.h"
#include "private.h"

#define DEFAULT_POOL_SIZE 32
#define DEFAULT_TIMEOUT_MS 10000
/* How long libmongoc waits for a server before it asks again here whether there is time left. */
#define SELECTION_SLICE_MS 250

/* ---- the process ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned generation; /* written only by a forked child, before it has a second thread */

void lumo_driver_lock(void) {
  pthread_mutex_lock(&lock);
}

void lumo_driver_unlock(void) {
  pthread_mutex_unlock(&lock);
}

unsigned lumo_driver_generation(void) {
  return generation;
}

/* The lock is taken around a fork, so that no other thread has it, and the state under it is whole, in the
 * child. */
static void forked_child(void) {
  generation++;
  lumo_workers_forked();
  lumo_driver_unlock();
}

static void start_process(void) {
  /* Without a handler: it would print to stderr what is returned as an error anyway, and hold a lock that a
   * fork may catch. */
  mongoc_log_set_handler(NULL, NULL);
  mongoc_init();
  pthread_atfork(lumo_driver_lock, lumo_driver_unlock, forked_child);
}

/* ---- making one ---- */

static bool bad_database(lumo_error *error, const char *what) {
  return lumo_error_set(error, "E_ARGUMENT", "invalid database name: %s", what);
}

static bool check_database(const char *name, lumo_error *error) {
  if (!name)
    return lumo_error_set(error, "E_ARGUMENT", "no database: neither the URI nor the options name one");
  if (!*name) return bad_database(error, "it is empty");
  if (strlen(name) > 63) return bad_database(error, "it is longer than 63 bytes");
  if (strpbrk(name, "/\\. \"$*<>:|?"))
    return bad_database(error, "it holds a blank or one of / \\ . \" $ * < > : | ?");
  return true;
}

static bool parse_uri(lumo_connection *connection, const char *uri, lumo_error *error) {
  bson_error_t cause;
  connection->uri = mongoc_uri_new_with_error(uri, &cause);
  if (connection->uri) return true;
  /* libmongoc's words may quote any part of the URI. */
  if (!strchr(uri, '@')) bson_strncpy(error->cause, cause.message, sizeof error->cause);
  if (strncmp(uri, "mongodb://", 10) != 0 && strncmp(uri, "mongodb+srv://", 14) != 0)
    return lumo_error_set(error, "E_ARGUMENT", "the connection URI has none of MongoDB's schemes");
  if (strstr(cause.message, "database name"))
    return lumo_error_set(error, "E_ARGUMENT", "the connection URI has an invalid database name");
  return lumo_error_set(
      error, "E_ARGUMENT",
      "the connection URI does not parse (special characters in user names and passwords must be "
      "percent-encoded)");
}

static bool set_int(mongoc_uri_t *uri, const char *option, int32_t value, bool override) {
  return (!override && mongoc_uri_has_option(uri, option)) ||
         mongoc_uri_set_option_as_int32(uri, option, value);
}

/* Takes what the URI says of waiting and retrying, and gives libmongoc what lets us keep to it. */
static bool bound_waits(lumo_connection *connection, int32_t timeout_ms) {
  mongoc_uri_t *uri = connection->uri;
  int32_t wait = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, timeout_ms);
  connection->selection_timeout_ms = wait;
  connection->retry_reads = mongoc_uri_get_option_as_bool(uri, MONGOC_URI_RETRYREADS, true);
  connection->retry_writes = mongoc_uri_get_option_as_bool(uri, MONGOC_URI_RETRYWRITES, true);
  return set_int(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS,
                 wait < SELECTION_SLICE_MS ? wait : SELECTION_SLICE_MS, true) &&
         mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYREADS, false);
}

static bool configure(lumo_connection *connection, const lumo_connection_options *options,
                      lumo_error *error) {
  mongoc_uri_t *uri = connection->uri;
  if (options->policy) lumo_policy_apply(options->policy, uri);
  const char *database = options->database ? options->database : mongoc_uri_get_database(uri);
  if (!check_database(database, error)) return false;
  connection->database = lumo_malloc(strlen(database) + 1);
  if (!connection->database) return lumo_error_memory(error);
  strcpy(connection->database, database);
  const mongoc_write_concern_t *concern = mongoc_uri_get_write_concern(uri);
  if (!mongoc_write_concern_is_acknowledged(concern))
    return lumo_error_set(error, "E_ARGUMENT", "w=0: unacknowledged writes are not supported");
  connection->majority = mongoc_write_concern_get_w(concern) == MONGOC_WRITE_CONCERN_W_DEFAULT;
  int32_t timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : DEFAULT_TIMEOUT_MS;
  int32_t pool_size = options->pool_size > 0 ? options->pool_size : DEFAULT_POOL_SIZE;
  connection->timeout_ms = timeout_ms;
  /* serverSelectionTryOnce needs no setting: pooled clients always wait. */
  if (!bound_waits(connection, timeout_ms) || !set_int(uri, MONGOC_URI_CONNECTTIMEOUTMS, timeout_ms, false) ||
      !set_int(uri, MONGOC_URI_SOCKETTIMEOUTMS, timeout_ms, false) ||
      !set_int(uri, MONGOC_URI_WAITQUEUETIMEOUTMS, timeout_ms, false) ||
      !set_int(uri, MONGOC_URI_MAXPOOLSIZE, pool_size, options->pool_size > 0))
    return lumo_error_set(error, "E_ARGUMENT", "the connection URI refuses a pool size or timeout");
  if (options->app_name && !mongoc_uri_set_appname(uri, options->app_name))
    return lumo_error_set(error, "E_ARGUMENT",
                          "the application's name is not UTF-8 or longer than 128 bytes");
  connection->pool_size = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_MAXPOOLSIZE, pool_size);
  connection->socket_timeout_ms = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, timeout_ms);
  return true;
}

lumo_connection *lumo_connection_new(const char *uri, const lumo_connection_options *options,
                                     lumo_error *error) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, start_process);
  lumo_connection *connection = lumo_calloc(1, sizeof *connection);
  if (!connection) {
    lumo_error_memory(error);
    return NULL;
  }
  atomic_init(&connection->references, 1);
  if (parse_uri(connection, uri, error) && configure(connection, options, error)) return connection;
  lumo_connection_unref(connection);
  return NULL;
}

lumo_connection *lumo_connection_ref(lumo_connection *connection) {
  atomic_fetch_add_explicit(&connection->references, 1, memory_order_relaxed);
  return connection;
}

void lumo_connection_unref(lumo_connection *connection) {
  if (!connection || atomic_fetch_sub_explicit(&connection->references, 1, memory_order_acq_rel) != 1) return;
  lumo_connection_close(connection);
  if (connection->uri) mongoc_uri_destroy(connection->uri);
  lumo_free(connection->database);
  lumo_free(connection);
}

int32_t lumo_connection_timeout(const lumo_connection *connection) {
  return connection->timeout_ms;
}

int32_t lumo_connection_socket_timeout(const lumo_connection *connection) {
  return connection->socket_timeout_ms > 0 ? connection->socket_timeout_ms : INT32_MAX;
}

const char *lumo_connection_database(const lumo_connection *connection) {
  return connection->database;
}

/* ---- the pool ---- */

static void *destroy_pool(void *pool) {
  mongoc_client_pool_destroy(pool);
  return NULL;
}

/* Ending a pool waits: half a second for a monitor to look up, a selection timeout to tell a dead server that
 * its sessions are over. No caller (a collector, the end of a script) has use for that, so a thread does it.
 * Called without signals: none must be delivered there. */
static void end_pool(mongoc_client_pool_t *pool) {
  if (!pool) return;
  sigset_t all, before;
  pthread_t thread;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = pthread_create(&thread, NULL, destroy_pool, pool) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (started)
    pthread_detach(thread);
  else
    mongoc_client_pool_destroy(pool);
}

/* Under the lock. What another process made is forgotten: its pool has that process's sockets and no threads
 * here. */
static void leave_parent(lumo_connection *connection) {
  if (connection->generation == generation) return;
  connection->generation = generation;
  connection->pool = NULL;
  connection->spare = NULL;
  connection->workers = NULL;
  connection->in_use = 0;
  connection->warm = false;
  while (connection->abandoned) {
    lumo_lease *lease = connection->abandoned;
    connection->abandoned = lease->next;
    lumo_free(lease);
  }
  lumo_orphans_free(connection);
}

/* Under the lock. The pool, if it is to end now; nothing refers to it any more. */
static mongoc_client_pool_t *take_idle_pool(lumo_connection *connection) {
  if (!connection->closed || connection->in_use > 0) return NULL;
  mongoc_client_pool_t *pool = connection->pool;
  connection->pool = NULL;
  return pool;
}

/* The pool of this process, marked as in use, and its spare client, if there is one. Made outside the lock,
 * for with mongodb+srv it asks the DNS; if two threads make one, the second is thrown away before it has
 * started anything. */
static mongoc_client_pool_t *use_pool(lumo_connection *connection, mongoc_client_t **spare, bool *warm,
                                      lumo_error *error) {
  mongoc_client_pool_t *made = NULL, *pool;
  for (;;) {
    lumo_driver_lock();
    leave_parent(connection);
    bool closed = connection->closed;
    if (!closed && !connection->pool) {
      connection->pool = made;
      made = NULL;
    }
    pool = closed ? NULL : connection->pool;
    *spare = NULL;
    if (pool) {
      connection->in_use++;
      *spare = connection->spare;
      connection->spare = NULL;
    }
    *warm = connection->warm;
    lumo_driver_unlock();
    if (pool || closed) {
      if (made) mongoc_client_pool_destroy(made);
      if (closed)
        lumo_error_set(error, "E_UNDEFINED_CONNECTION", "the connection to database \"%s\" is closed",
                       connection->database);
      return pool;
    }
    bson_error_t cause = {0};
    made = mongoc_client_pool_new_with_error(connection->uri, &cause);
    if (!made) {
      lumo_error_set(error, "E_NETWORK", "the connection to database \"%s\" cannot be set up",
                     connection->database);
      bson_strncpy(error->cause, cause.message, sizeof error->cause);
      error->retryable = true;
      return NULL;
    }
    mongoc_client_pool_set_error_api(made, MONGOC_ERROR_API_VERSION_2);
    lumo_trace_pool(made);
  }
}

static void unuse_pool(lumo_connection *connection) {
  lumo_driver_lock();
  connection->in_use--;
  mongoc_client_pool_t *idle = take_idle_pool(connection);
  lumo_driver_unlock();
  end_pool(idle);
}

mongoc_client_t *lumo_connection_checkout(lumo_connection *connection, lumo_error *error) {
  bool warm;
  sigset_t all, before;
  mongoc_client_t *client;
  mongoc_client_pool_t *pool = use_pool(connection, &client, &warm, error);
  if (!pool || client) return client;
  if (!warm) { /* the first pop starts the monitoring threads, which must not take the program's signals */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
  }
  client = mongoc_client_pool_pop(pool);
  if (!warm) {
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    lumo_driver_lock();
    connection->warm = true;
    lumo_driver_unlock();
  }
  if (client) return client;
  unuse_pool(connection);
  lumo_error_set(
      error, "E_TIMEOUT",
      "all %d clients of the connection stayed in use for its timeout (pool_size, open cursors and "
      "transactions)",
      connection->pool_size);
  error->retryable = true;
  return NULL;
}

/* Keeps the client as the spare one. Not if so many others are in use that one of them may wait in the pool.
 */
static bool keep_spare(lumo_connection *connection, mongoc_client_t *client) {
  lumo_driver_lock();
  bool kept =
      !connection->closed && !connection->spare && connection->in_use <= (unsigned)connection->pool_size;
  if (kept) {
    connection->spare = client;
    connection->in_use--;
  }
  lumo_driver_unlock();
  return kept;
}

void lumo_connection_checkin(lumo_connection *connection, mongoc_client_t *client, unsigned made_in) {
  if (made_in != generation || keep_spare(connection, client)) return; /* the parent's is left alone */
  mongoc_client_pool_push(connection->pool, client);
  unuse_pool(connection);
}

void lumo_connection_close(lumo_connection *connection) {
  lumo_driver_lock();
  leave_parent(connection);
  /* Who has workers must not wait; the end of their sessions ends the cursors, too. */
  bool kill = !connection->closed && connection->pool && connection->abandoned && !connection->workers;
  lumo_driver_unlock();
  lumo_error ignored;
  lumo_error_init(&ignored);
  mongoc_client_t *client = kill ? lumo_connection_checkout(connection, &ignored) : NULL;
  if (client) {
    lumo_connection_reap(connection, client);
    lumo_connection_checkin(connection, client, generation);
  }
  lumo_driver_lock();
  connection->closed = true;
  mongoc_client_t *spare = connection->spare;
  connection->spare = NULL;
  if (spare) connection->in_use++; /* until it is back in the pool */
  /* No client was to be had, or these came in the meantime: the server's own timeout ends them. */
  lumo_lease *left = connection->abandoned;
  connection->abandoned = NULL;
  lumo_orphans_free(connection);
  mongoc_client_pool_t *pool = take_idle_pool(connection);
  lumo_workers *workers = connection->workers;
  connection->workers = NULL;
  lumo_driver_unlock();
  if (workers) {
    lumo_workers_close(workers);
    lumo_workers_unref(workers);
  }
  while (left) {
    lumo_lease *next = left->next;
    lumo_free(left);
    left = next;
  }
  end_pool(pool);
  if (spare) lumo_connection_checkin(connection, spare, generation);
}

/* ---- the workers ---- */

lumo_workers *lumo_connection_workers(lumo_connection *connection, bool make, lumo_error *error) {
  lumo_driver_lock();
  leave_parent(connection);
  if (connection->closed)
    lumo_error_set(error, "E_UNDEFINED_CONNECTION", "the connection to database \"%s\" is closed",
                   connection->database);
  else if (!connection->workers && make)
    connection->workers = lumo_workers_new((unsigned)connection->pool_size, error);
  lumo_workers *workers = connection->workers ? lumo_workers_ref(connection->workers) : NULL;
  lumo_driver_unlock();
  return workers;
}

/* ---- the server ---- */

mongoc_server_description_t *lumo_connection_select(const lumo_connection *connection,
                                                    mongoc_client_t *client, bool any, int64_t deadline,
                                                    bson_error_t *error) {
  mongoc_read_prefs_t *nearest = any ? mongoc_read_prefs_new(MONGOC_READ_NEAREST) : NULL;
  mongoc_server_description_t *server;
  int32_t slice = connection->selection_timeout_ms;
  if (slice > SELECTION_SLICE_MS) slice = SELECTION_SLICE_MS;
  for (;;) {
    int64_t began = lumo_clock_ms();
    server = mongoc_client_select_server(client, !any, nearest, error);
    int64_t now = server ? 0 : lumo_clock_ms();
    /* A failure before the slice is over is no wait, and comes again. */
    if (server || now >= deadline || now - began < slice / 2 || !lumo_error_is_selection(error)) break;
  }
  mongoc_read_prefs_destroy(nearest);
  return server;
}

bool lumo_connection_describe(const lumo_connection *connection, mongoc_client_t *client, bool any,
                              lumo_server_info *info, bson_error_t *error) {
  int64_t deadline = lumo_clock_ms() + connection->selection_timeout_ms;
  mongoc_server_description_t *server = lumo_connection_select(connection, client, any, deadline, error);
  if (!server) return false;
  const bson_t *hello = mongoc_server_description_hello_response(server);
  const char *type = mongoc_server_description_type(server);
  bson_iter_t it;
  memset(info, 0, sizeof *info);
  if (bson_iter_init_find(&it, hello, "maxWireVersion"))
    info->wire_version = (int32_t)bson_iter_as_int64(&it);
  bool sessions = bson_has_field(hello, "logicalSessionTimeoutMinutes");
  if (strcmp(type, "Standalone") == 0) {
    info->topology = LUMO_TOPOLOGY_SINGLE;
  } else if (strncmp(type, "RS", 2) == 0) {
    info->topology = LUMO_TOPOLOGY_REPLICA_SET;
    info->transactions = sessions && info->wire_version >= 7;
  } else if (strcmp(type, "Mongos") == 0 || strcmp(type, "LoadBalancer") == 0) {
    info->topology = LUMO_TOPOLOGY_SHARDED;
    info->transactions =
        (sessions && info->wire_version >= 8) || *type == 'L'; /* a balancer is not asked hello */
  }
  bson_strncpy(info->host, mongoc_server_description_host(server)->host_and_port, sizeof info->host);
  mongoc_server_description_destroy(server);
  return true;
}

bool lumo_connection_server(lumo_connection *connection, lumo_server_info *info, lumo_error *error) {
  lumo_context context = {.op = "server", .database = connection->database};
  mongoc_client_t *client = lumo_connection_checkout(connection, error);
  if (!client) {
    lumo_error_complete(error, &context);
    return false;
  }
  lumo_answer answer = {.ok = false};
  lumo_trace_begin(&answer.trace, connection, client, NULL);
  answer.ok = lumo_connection_describe(connection, client, false, info, &answer.error);
  lumo_trace_end();
  lumo_connection_checkin(connection, client, generation);
  if (!answer.ok) lumo_error_classify(error, &answer, &context);
  return answer.ok;
}

/* ---- leases ---- */

lumo_lease *lumo_lease_new(lumo_connection *connection, const char *collection, lumo_error *error) {
  size_t len = strlen(collection) + 1;
  lumo_lease *lease = lumo_malloc(sizeof *lease + len);
  if (!lease) {
    lumo_error_memory(error);
    return NULL;
  }
  *lease = (lumo_lease){.connection = lumo_connection_ref(connection), .generation = generation};
  memcpy(lease->collection, collection, len);
  return lease;
}

void lumo_lease_release(void *pointer) {
  lumo_lease *lease = pointer;
  lumo_connection *connection = lease->connection;
  bool ours = lease->generation == generation;
  if (ours && lease->session)
    mongoc_client_session_destroy(lease->session); /* before its client is somebody else's */
  if (ours && lease->client) lumo_connection_checkin(connection, lease->client, lease->generation);
  lumo_driver_lock();
  leave_parent(connection);
  bool keep = ours && lease->cursor && !connection->closed;
  if (keep) {
    lease->connection = NULL;
    lease->next = connection->abandoned;
    connection->abandoned = lease;
  }
  lumo_driver_unlock();
  if (!keep) lumo_free(lease);
  lumo_connection_unref(connection);
}

/* A server that is not known to be up is not asked: that would wait for it. Its cursors end with it, or by
 * its own timeout. */
static bool is_up(mongoc_client_t *client, uint32_t server_id) {
  mongoc_server_description_t *server = mongoc_client_get_server_description(client, server_id);
  bool up = server && strcmp(mongoc_server_description_type(server), "Unknown") != 0;
  if (server) mongoc_server_description_destroy(server);
  return up;
}

static void kill_cursor(lumo_connection *connection, mongoc_client_t *client, const lumo_lease *lease) {
  if (!is_up(client, lease->server_id)) return;
  bson_t command = BSON_INITIALIZER, opts = BSON_INITIALIZER, cursors;
  lumo_trace trace;
  BSON_APPEND_UTF8(&command, "killCursors", lease->collection);
  BSON_APPEND_ARRAY_BEGIN(&command, "cursors", &cursors);
  BSON_APPEND_INT64(&cursors, "0", lease->cursor);
  bson_append_array_end(&command, &cursors);
  BSON_APPEND_INT64(&opts, "serverId", lease->server_id);
  lumo_trace_begin(&trace, connection, client, lease->collection);
  /* Whether it works is nobody's concern: the cursor's owner is gone. */
  mongoc_client_command_with_opts(client, connection->database, &command, NULL, &opts, NULL, NULL);
  lumo_trace_end();
  bson_destroy(&opts);
  bson_destroy(&command);
}

void lumo_connection_reap(lumo_connection *connection, mongoc_client_t *client) {
  if (!atomic_load_explicit(&connection->abandoned, memory_order_relaxed))
    return; /* the lock is spared in every run but a few */
  lumo_driver_lock();
  lumo_lease *lease = connection->generation == generation ? connection->abandoned : NULL;
  if (lease) connection->abandoned = NULL;
  lumo_driver_unlock();
  while (lease) {
    lumo_lease *next = lease->next;
    kill_cursor(connection, client, lease);
    lumo_free(lease);
    lease = next;
  }
}
