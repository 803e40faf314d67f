/* What the files of the driver share. Nothing outside this folder includes it. */
#ifndef LUMO_DRIVER_PRIVATE_H
#define LUMO_DRIVER_PRIVATE_H

#include <mongoc/mongoc.h>
#include <stdatomic.h>

#include "driver.h"

/* ---- clock.c ---- */

/* Monotonic. */
int64_t lumo_clock_ms(void);
/* Sleeps before the n-th repetition (from 1): about 2 ms doubled each time, at most 250, with jitter. */
void lumo_backoff(unsigned n);
#define LUMO_STEPPING_DOWN                                                                                   \
  8 /* such an n: some 200 ms, as who steps down calls itself the primary for a while */

/* ---- events.c: what libmongoc did on this thread ---- */

typedef struct lumo_command_log lumo_command_log;

/* What happened on the wire during one call into libmongoc, which may send a command more than once (its
 * retries) and a write as many commands. libmongoc's own replies lose some of it. */
typedef struct lumo_trace {
  const char *collection; /* of the step, for the log of commands; "" for commands on the database */
  const lumo_connection *connection;
  mongoc_client_t *client; /* whose call it is */
  int64_t deadline_ms; /* by lumo_clock_ms: until when a server is waited for. The selection timeout from the
                        * beginning, if the caller says nothing else after it */
  bool retries;  /* set by the caller after the beginning: libmongoc retries the command. It is held back then
                  * until there is a server, or the time for waiting is over */
  bool refusing; /* the client opens no connections until the end of the call: a retry would exceed the
                    timeout */
  uint32_t sent; /* attempts */
  uint32_t answered;  /* attempts that came back with ok: 1 */
  uint32_t server_id; /* of the last attempt */
  bool lost; /* an attempt got no answer, and no later one has made up for it: it may have been executed */
  bool interrupted;   /* the server broke an attempt off, and no later one has made up for it */
  bool timed_out;     /* an attempt waited the whole socket timeout */
  bool failed;        /* a command failed as a whole, and no retry of it succeeded: … */
  bool retried;       /* … libmongoc retries such a failure once */
  bson_error_t error; /* … it failed with this */
  char code_name[48]; /* … which the server calls so, or "" */
} lumo_trace;

void lumo_trace_reset(lumo_trace *trace, const lumo_connection *connection, const char *collection);
/* Between begin, which resets it, and end the trace gathers what this thread sends. Not nested. What is sent
 * outside (endSessions when a pool ends) is not counted as a command either. */
void lumo_trace_begin(lumo_trace *trace, const lumo_connection *connection, mongoc_client_t *client,
                      const char *collection);
void lumo_trace_end(void);
/* Makes the pool's clients report to the traces. */
void lumo_trace_pool(mongoc_client_pool_t *pool);

/* Between begin and end what this thread sends is written down in the log, too; NULL: in none. Not nested. */
void lumo_log_begin(lumo_command_log *log);
void lumo_log_end(void);
void lumo_log_free(void *log); /* NULL is allowed */
/* What this thread sends meanwhile is in no log at all. */
void lumo_log_pause(bool paused);

/* ---- policy.c ---- */

struct lumo_policy {
  atomic_uint references;
  mongoc_read_prefs_t *read; /* each NULL: the connection's */
  mongoc_read_concern_t *read_concern;
  mongoc_write_concern_t *write_concern;
  int32_t max_commit_ms;
};
void lumo_policy_apply(const lumo_policy *policy, mongoc_uri_t *uri);
/* Add its concern to the options of a command; a NULL policy adds nothing. */
bool lumo_policy_append_read(const lumo_policy *policy, bson_t *opts);
bool lumo_policy_append_write(const lumo_policy *policy, bson_t *opts);

/* ---- connection.c: pools and clients ---- */

/* Guards the state of all connections, and what inspect.c knows; never held over I/O. One for the process, so
 * that it is whole in a forked child. */
void lumo_driver_lock(void);
void lumo_driver_unlock(void);
/* Counts the forks that led to this process: what was made in an older generation belongs to the parent, and
 * is never touched. */
unsigned lumo_driver_generation(void);

typedef struct lumo_lease lumo_lease;
typedef struct lumo_orphan lumo_orphan;

struct lumo_connection {
  atomic_uint references;
  mongoc_uri_t *uri;
  char *database;
  int32_t pool_size, timeout_ms;
  int32_t socket_timeout_ms;      /* as the URI has it in the end */
  int32_t selection_timeout_ms;   /* the time to wait for a server. libmongoc is given a slice of it, as it
                                   * waits whatever else has taken its time before */
  bool retry_reads, retry_writes; /* the URI's: reads are repeated here, where the time is known, and so are
                                   * writes when libmongoc's one retry has failed, too */
  bool majority;                  /* the URI names no write concern: transactions commit with majority */
  /* Under the lock: */
  unsigned generation;        /* of the pool */
  mongoc_client_pool_t *pool; /* NULL until the first use in this process */
  unsigned in_use;            /* clients that are out of the pool to be used, and waits for one */
  mongoc_client_t *spare;     /* or NULL: the one that came back last and is kept out of the pool for the next
                               * use, since libmongoc looks up its options each time */
  bool warm;                  /* a first client has been popped: the monitors run */
  bool closed;
  lumo_workers *workers;         /* NULL until the first job in this process */
  lumo_lease *_Atomic abandoned; /* cursors to be killed at the next opportunity */
  lumo_orphan *_Atomic orphans;  /* sessions whose transactions a server that did not answer may still hold */
};

/* A reference to the workers of this process, made if so wanted. NULL: there are none, or *error says why
 * they cannot be made. */
lumo_workers *lumo_connection_workers(lumo_connection *connection, bool make, lumo_error *error);
/* A client for this thread; give it back with checkin. NULL: *error says why. */
mongoc_client_t *lumo_connection_checkout(lumo_connection *connection, lumo_error *error);
/* Sends nothing. The generation is that of the checkout. */
void lumo_connection_checkin(lumo_connection *connection, mongoc_client_t *client, unsigned generation);
/* Kills the abandoned cursors. For a client that has just got an answer, so that this waits for no dead
 * server. */
void lumo_connection_reap(lumo_connection *connection, mongoc_client_t *client);
/* Waits for a server for writes, or for any, to the deadline (monotonic ms). To be destroyed by the caller.
 */
mongoc_server_description_t *lumo_connection_select(const lumo_connection *connection,
                                                    mongoc_client_t *client, bool any, int64_t deadline,
                                                    bson_error_t *error);
/* What that server can do; selects one, which waits at most the selection timeout. */
bool lumo_connection_describe(const lumo_connection *connection, mongoc_client_t *client, bool any,
                              lumo_server_info *info, bson_error_t *error);

/* An open cursor's hold on the session, the server and (between two runs) the client that it must be read
 * with. */
struct lumo_lease {
  lumo_connection *connection;      /* a reference; NULL once abandoned */
  mongoc_client_t *client;          /* NULL while a run has it, or when it belongs to a transaction */
  mongoc_client_session_t *session; /* NULL in a transaction, and where the server has no sessions */
  unsigned generation;
  bool in_transaction;
  uint32_t server_id;
  int32_t batch_size; /* of the command that opened the cursor; 0: none */
  int64_t cursor;     /* 0: exhausted, nothing to kill */
  lumo_lease *next;   /* in the connection's list of abandoned ones */
  char collection[];
};
lumo_lease *lumo_lease_new(lumo_connection *connection, const char *collection, lumo_error *error);
/* lumo_plan's release_lease: no I/O; an open cursor goes to the abandoned ones. */
void lumo_lease_release(void *lease);

/* ---- errors.c: the only place that says what a failure is ---- */

/* One call into libmongoc and what came of it. */
typedef struct lumo_answer {
  bool ok;
  bool has_reply; /* `reply` is to be destroyed */
  bson_t reply;
  bson_error_t error;
  lumo_trace trace;
} lumo_answer;

/* What was being done, for the words of an error and for its outcome. */
typedef struct lumo_context {
  const char *op, *database, *collection; /* collection NULL or "": the database itself */
  bool writes;                            /* this call changes data */
  bool written;                           /* an earlier step of the plan has changed some */
  bool to_write;                          /* the plan is there to change data, though this call may not */
  bool in_transaction;                    /* so that nothing of it stays if this fails */
  bool many; /* a statement of this call changes many documents: one that fails may have changed some */
} lumo_context;

/* Fills *error from a failed answer. */
void lumo_error_classify(lumo_error *error, const lumo_answer *answer, const lumo_context *context);
/* For failures that libmongoc had no part in: completes op, ns and outcome. */
void lumo_error_complete(lumo_error *error, const lumo_context *context);
/* True if libmongoc returned true for a reply that says that something went wrong; fills answer->error. */
bool lumo_answer_refused(lumo_answer *answer);
/* True if the merged reply of a WRITE counts documents that were changed. */
bool lumo_reply_changed(const uint8_t *reply, uint32_t len);
/* True if the only thing wrong with a write is that unique indexes refused statements. */
bool lumo_answer_duplicates_only(const lumo_answer *answer);
/* True if no server was known when one was to be chosen, which time may mend. */
bool lumo_error_is_selection(const bson_error_t *error);
/* True if a call with a fresh connection may succeed: no answer came, or the server was not the primary. */
bool lumo_answer_unavailable(const lumo_answer *answer);
/* True if the server refuses with this code before it does anything: it is not the primary. */
bool lumo_code_refuses(int32_t code);
/* True if a server breaks off with this code what it may have done in part. */
bool lumo_code_interrupts(int32_t code);

/* ---- session.c: transactions ---- */

struct lumo_session {
  atomic_uint references;
  lumo_line line;              /* one job at a time */
  lumo_task end;               /* what the last reference leaves to a worker */
  lumo_connection *connection; /* a reference */
  mongoc_client_t *client;
  mongoc_client_session_t *session; /* NULL once aborted */
  unsigned generation;
  bool gave_up;          /* the last step waited its whole time for a server or its answer */
  lumo_command_log *log; /* of what ends it (lumo_session_watch), or NULL */
};

/* A session whose clock does not order its reads (no causal consistency). NULL with an error of libmongoc. */
mongoc_client_session_t *lumo_session_start(mongoc_client_t *client, bson_error_t *error);
bool lumo_transaction_start(const lumo_connection *connection, const lumo_policy *policy,
                            mongoc_client_session_t *session, bson_error_t *error);
/* Repeats the commit while its result is unknown, to the deadline (monotonic ms). On failure error->labels
 * tell whether the result is unknown or the whole transaction may be run again; a transaction that is not
 * committed for sure is ended on the server, too. */
bool lumo_transaction_commit(lumo_connection *connection, mongoc_client_session_t *session, const char *op,
                             int64_t deadline, lumo_error *error);
/* Destroys the session, with an abort if its transaction is open. If no server is known to be there, `wait`
 * allows to wait for one (as long as the selection timeout), and without it nothing is sent. False: there was
 * none to tell; the session is one of the connection's orphans then. */
bool lumo_session_end(lumo_connection *connection, mongoc_client_t *client, mongoc_client_session_t *session,
                      bool wait);
/* Kills the orphans, before anything else is sent: they may have locked what it needs. False: *answer says
 * why. */
bool lumo_orphans_kill(lumo_connection *connection, mongoc_client_t *client, lumo_answer *answer);
/* Under the lock. Forgets them. */
void lumo_orphans_free(lumo_connection *connection);

/* ---- step.c: one step of a plan ---- */

/* A run of a plan: which client and session its steps go by, and what is known so far. */
typedef struct lumo_run_state {
  lumo_connection *connection;
  lumo_plan *plan;
  mongoc_client_t *client;              /* NULL until a step needs one */
  unsigned generation;                  /* of the client */
  mongoc_client_session_t *transaction; /* NULL: none */
  bool own_transaction;                 /* begun by this run, and so restarted by it */
  atomic_bool *answered;                /* NULL: nobody asks */
  unsigned steps;                       /* sent since the start or the last restart */
  bool written;                         /* a step has changed data since then */
  bool gave_up; /* the last failure was a wait for a server or for its answer: another try waits again */
  lumo_error *error;
} lumo_run_state;

typedef enum { LUMO_SENT, LUMO_SEND_FAILED, LUMO_SENT_DEAD } lumo_sent;

/* Sends a READ, MORE, WRITE or COMMAND. LUMO_SENT: *reply is the server's, to be fed. LUMO_SENT_DEAD: it
 * holds the duplicate keys that have ended this run's own transaction. */
lumo_sent lumo_step_send(lumo_run_state *run, const lumo_step *step, lumo_reply *reply);
/* Gives up the cursor that a step left open; in an aborted transaction the server has closed it. */
void lumo_run_drop_lease(lumo_run_state *run);

/* ---- call.c: the calls of libmongoc that one step makes ---- */

void lumo_answer_init(const lumo_run_state *run, const lumo_step *step, lumo_answer *answer);
void lumo_answer_free(lumo_answer *answer);

/* What a WRITE that failed may have done in part: it has several statements, or one that changes many
 * documents. */
typedef struct lumo_extent {
  bool several, many;
} lumo_extent;
lumo_extent lumo_extent_of(const lumo_step *step);

/* The calls that one step makes of libmongoc, all in the time of one. Where primaries step down one after the
 * other, libmongoc's single retry is not enough. */
typedef struct lumo_calls {
  int64_t deadline;
  bool allowed;     /* to repeat what has been sent */
  bool harmless;    /* executing it twice comes to the same as once */
  bool lost;        /* one of the calls may have been executed */
  unsigned repeats; /* of what has been sent */
} lumo_calls;
lumo_calls lumo_calls_begin(const lumo_run_state *run, const lumo_answer *answer, bool allowed);
/* Whether to make the call again. Nothing was sent: no server is known yet (libmongoc waits a slice of our
 * time), or a connection could not be set up; a transaction is restarted for the latter. Or nothing was
 * executed, or no harm is done. */
bool lumo_calls_again(lumo_calls *calls, const lumo_run_state *run, const lumo_step *step,
                      lumo_answer *answer);

/* True without a session, too. */
bool lumo_append_session(mongoc_client_session_t *session, bson_t *opts, lumo_answer *answer);
/* The session and the write concern of a command that writes. */
bool lumo_append_write_options(const lumo_run_state *run, bson_t *opts, lumo_answer *answer);
/* A command to the step's database; what the server refuses in its reply, too, is a failure. */
void lumo_call_command(const lumo_run_state *run, const lumo_step *step, const bson_t *command,
                       const bson_t *opts, lumo_answer *answer, const lumo_calls *calls);

/* ---- inspect.c ---- */

typedef struct lumo_inspector lumo_inspector;
/* Before a step of a plan with an inspector is sent. False: *run->error says why it must not be. */
bool lumo_inspect(lumo_run_state *run, const lumo_step *step);
/* Whether its reads are not to be sent, but fed with a reply without documents. */
bool lumo_plan_is_dry(const lumo_plan *plan);
bool lumo_dry_reply(lumo_reply *reply, lumo_error *error);

/* ---- write.c ---- */

/* Sends the statements, up to the first failure, and fills *answer. False if one is not well formed. */
bool lumo_write_send(const lumo_run_state *run, const lumo_step *step, lumo_answer *answer);

#endif
