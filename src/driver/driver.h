/* The one path to a server: connections, sessions and the runner of plans, on libmongoc. Only this folder
 * includes mongoc.h. No function here knows Lua. All functions are thread safe but those on one plan or one
 * session, which one thread at a time may use. */
#ifndef LUMO_DRIVER_DRIVER_H
#define LUMO_DRIVER_DRIVER_H

#include <stdatomic.h>

#include "../core/error.h"
#include "../core/explain.h"
#include "../core/plan.h"
#include "worker.h"

/* ---- policies: from which servers and how surely is read and written ---- */

/* Immutable and counted: starts with one reference. */
typedef struct lumo_policy lumo_policy;
/* A zero or NULL leaves to the connection what it says. */
typedef struct lumo_policy_options {
  const char *read_mode; /* "secondaryPreferred" */
  const uint8_t *tags;   /* a BSON array of documents */
  uint32_t tags_len;
  int32_t max_staleness_s;
  const char *read_concern; /* "majority" */
  const char *w_tag;        /* "majority", or a name that the replica set's configuration defines; or … */
  int32_t w;                /* … a number of servers */
  int journal;              /* 1, -1: no */
  int32_t wtimeout_ms;
  int32_t max_commit_ms; /* how long the server may work on a commit */
} lumo_policy_options;
/* E_ARGUMENT for names that MongoDB does not know and combinations that it does not take. */
lumo_policy *lumo_policy_new(const lumo_policy_options *options, lumo_error *error);
lumo_policy *lumo_policy_ref(lumo_policy *policy);
void lumo_policy_unref(lumo_policy *policy); /* NULL is allowed */
/* Makes the plan's commands go by the policy. In a transaction that others have begun they go by that one's.
 */
void lumo_policy_give(lumo_policy *policy, lumo_plan *plan);

/* ---- connections ---- */

typedef struct lumo_connection lumo_connection;

typedef struct lumo_connection_options {
  const char *database; /* overrides the URI's, or NULL */
  const char *app_name; /* or NULL */
  int32_t pool_size;    /* clients at most, 0: 32 */
  int32_t timeout_ms; /* bounds server selection, connecting and each wait on a socket or for a pooled client,
                         0: 10000 */
  const lumo_policy *policy; /* overrides what the URI says of reading and writing, or NULL */
} lumo_connection_options;

/* Parses and checks; sends nothing, starts no thread (so it may run before a fork). Counted: starts with one
 * reference. E_ARGUMENT for a URI that does not parse (without repeating it), no database or an invalid one
 * (empty, over 63 bytes, or any of / \ . " $ * < > : | ? blank NUL). */
lumo_connection *lumo_connection_new(const char *uri, const lumo_connection_options *options,
                                     lumo_error *error);
lumo_connection *lumo_connection_ref(lumo_connection *connection);
void lumo_connection_unref(lumo_connection *connection);
/* Ends the pool when nothing uses it any more; later runs are E_UNDEFINED_CONNECTION "… is closed". Abandoned
 * cursors are killed first. */
void lumo_connection_close(lumo_connection *connection);
const char *lumo_connection_database(const lumo_connection *connection);

typedef enum {
  LUMO_TOPOLOGY_UNKNOWN,
  LUMO_TOPOLOGY_SINGLE,
  LUMO_TOPOLOGY_REPLICA_SET,
  LUMO_TOPOLOGY_SHARDED
} lumo_topology;
typedef struct lumo_server_info {
  lumo_topology topology;
  int32_t wire_version; /* 17: MongoDB 6.0 */
  bool transactions;    /* multi-document transactions can run */
  char host[256];       /* host:port of the server that was chosen for writes */
} lumo_server_info;
/* From the handshake: sends nothing once a server has been found. */
bool lumo_connection_server(lumo_connection *connection, lumo_server_info *info, lumo_error *error);

/* ---- sessions: transactions that several plans share ---- */

typedef struct lumo_session lumo_session;
/* A session with an open transaction; nothing is sent yet. Counted: starts with one reference. E_UNSUPPORTED
 * on a standalone server. The policy (or NULL) is that of the transaction. */
lumo_session *lumo_session_new(lumo_connection *connection, const lumo_policy *policy, lumo_error *error);
/* Retries an unknown commit within the connection's timeout. A failed commit leaves the session to be freed.
 */
bool lumo_session_commit(lumo_session *session, lumo_error *error);
bool lumo_session_abort(lumo_session *session, lumo_error *error);
lumo_connection *lumo_session_connection(const lumo_session *session);
lumo_session *lumo_session_ref(lumo_session *session);
/* The last reference aborts what is open: on a thread of the connection's workers where it has any, so that
 * the caller does not wait. */
void lumo_session_unref(lumo_session *session);

/* ---- running ---- */

typedef enum { LUMO_RUN_DONE, LUMO_RUN_PAUSED, LUMO_RUN_FAILED } lumo_run_result;

/* Runs a plan to its end or its next pause. With a session every step belongs to its transaction, and a
 * transient error is returned (labels say so) for the owner of the session to retry the whole. Without one, a
 * plan that is `atomic` gets a transaction of its own where the deployment has them: restarted after
 * transient errors and dead transactions, commit retried while its result is unknown, all within 120 s.
 * Otherwise each step goes by itself with libmongoc's retryable reads and writes. On failure *error is
 * complete: code, op, ns, outcome, labels, cause. `answered` (or NULL) is set with the first reply. */
lumo_run_result lumo_run(lumo_connection *connection, lumo_plan *plan, lumo_session *session,
                         atomic_bool *answered, lumo_error *error);

/* ---- jobs: the same on a thread of the connection's workers ---- */

typedef enum {
  LUMO_JOB_RUN,    /* lumo_run */
  LUMO_JOB_BEGIN,  /* lumo_session_new */
  LUMO_JOB_COMMIT, /* lumo_session_commit */
  LUMO_JOB_ABORT,  /* lumo_session_abort */
  LUMO_JOB_SERVER, /* lumo_connection_server */
} lumo_job_kind;

/* What to do, what it needs for that, and what came of it. */
typedef struct lumo_job {
  lumo_task task;
  lumo_job_kind kind;
  unsigned generation;
  lumo_connection *connection; /* a reference */
  lumo_workers *workers;       /* a reference, from submit on */
  lumo_plan *plan;             /* RUN: owned from lumo_job_new until it is taken back */
  lumo_session *session;       /* a reference, or NULL; BEGIN: the result */
  lumo_policy *policy;         /* BEGIN: of the transaction, a reference, or NULL */
  lumo_line line;              /* of a plan that has its client already */
  int64_t submitted_ms;
  _Atomic int64_t started_ms; /* on its thread; 0: not yet */
  atomic_bool answered;       /* a server has, so that it goes on */
  bool given_up;              /* by who waited for it: what comes of it is dropped */
  /* When the job is done: */
  bool ok;     /* else `error` says why not */
  bool paused; /* RUN: LUMO_RUN_PAUSED */
  bool taken;  /* set by who has taken the results */
  lumo_server_info info;
  lumo_error error;
} lumo_job;

/* Takes the plan (NULL but for RUN), unless there is no memory: NULL. One reference, of who waits for it. */
lumo_job *lumo_job_new(lumo_job_kind kind, lumo_connection *connection, lumo_plan *plan,
                       lumo_session *session, lumo_policy *policy);
/* Submits jobs of one connection; the slot is woken once, when all are done. What has waited for a thread
 * until its waiter left is not begun, but for the end of a transaction. */
void lumo_jobs_submit(lumo_job *const *jobs, size_t count, lumo_slot *slot);
/* False also for a job that was submitted before this process was forked: it is never done here. */
bool lumo_job_done(lumo_job *job);
/* The connection's timeout has passed since these were submitted. Those that wait for a thread fail with
 * E_TIMEOUT. One that got its thread late and has no answer yet has had its time, too, though libmongoc
 * cannot be told: if none of the others goes on, such ones are given up. True: nothing is to be waited for.
 */
bool lumo_jobs_expire(lumo_job *const *jobs, size_t count);
/* What is said of a job that was given up: E_TIMEOUT, and whether it may still change something. */
void lumo_job_explain(const lumo_job *job, lumo_error *error);
/* Takes that one reference, at any time; a job whose results were taken gives up its session at once. */
void lumo_job_release(lumo_job *job);
int32_t lumo_connection_timeout(const lumo_connection *connection);
/* How long one answer of a server is waited for, in milliseconds. */
int32_t lumo_connection_socket_timeout(const lumo_connection *connection);
/* Zeros when nothing has been submitted in this process. */
void lumo_connection_workers_count(lumo_connection *connection, lumo_workers_stats *stats);

/* ---- watching commands ---- */

typedef struct lumo_command_event {
  char name[32];        /* "find" */
  char collection[128]; /* empty for commands on the database */
  int64_t duration_us;
  bool failed;
} lumo_command_event;

/* From now on the commands of this plan are written down (handshakes, monitoring, authentication and
 * endSessions are none; commits, aborts, getMores and each retry are). False: no memory. */
bool lumo_plan_watch(lumo_plan *plan);
/* Those since then or the last call, which the caller frees by lumo_free; NULL when there are none. False: no
 * memory for one of them. */
bool lumo_plan_watched(lumo_plan *plan, lumo_command_event **events, size_t *count);
/* The same of what lumo_session_commit and lumo_session_abort send. */
bool lumo_session_watch(lumo_session *session);
bool lumo_session_watched(lumo_session *session, lumo_command_event **events, size_t *count);

/* ---- inspecting commands ---- */

typedef struct lumo_inspect_options {
  const char *verbosity; /* every find, aggregate, update, delete and findAndModify is explained so, static
                            storage; NULL: only what reads a collection as a whole is looked for. Whether it
                            does is asked once for commands of one shape, unless it does, is no command for
                            those who count, and never fails */
  bool dry;              /* what reads is explained alone, and found nothing */
  bool refuses;          /* without a verbosity: such a command fails before it is sent, by E_ARGUMENT */
} lumo_inspect_options;

typedef struct lumo_inspected {
  char name[32]; /* "find" */
  char collection[128];
  bool filtered;   /* it has conditions, … */
  lumo_buf fields; /* … on these fields: elements of an array of names */
  lumo_explanation explanation;
  uint8_t *reply; /* the server's */
  uint32_t reply_len;
  uint64_t shape; /* without a verbosity */
} lumo_inspected;

/* From now on the plan's commands are inspected before they are sent; outside of its transaction, if it runs
 * in one. False: no memory. */
bool lumo_plan_inspect(lumo_plan *plan, const lumo_inspect_options *options);
/* Those since the last call, in their order, to be freed. */
void lumo_plan_inspected(lumo_plan *plan, lumo_inspected **items, size_t *count);
void lumo_inspected_free(lumo_inspected *items, size_t count);
/* What has been looked at is looked at again. */
void lumo_inspected_forget(void);

#endif
