/* The runner: a plan's steps one after the other, in a transaction where it asks for one. */
#include <string.h>

#include "../core/mem.h"
#include "private.h"

#define TRANSACTION_LIMIT_MS 120000
/* Restarts for duplicate keys. A plan learns from each, so that more than a few are a fight without end. */
#define DEAD_LIMIT 200

typedef enum { DONE, PAUSED, FAILED, DEAD } progress;

static lumo_context context_of(const lumo_run_state *run, const lumo_step *step) {
  const lumo_connection *connection = run->connection;
  return (lumo_context){.op = run->plan->name,
                        .database = connection->database,
                        .collection = step ? step->collection : NULL,
                        .writes = step && (step->kind == LUMO_STEP_WRITE || step->writes),
                        .written = run->written,
                        .to_write = run->plan->writes,
                        .in_transaction = run->transaction != NULL};
}

static progress fail(lumo_run_state *run, const lumo_step *step) {
  lumo_context context = context_of(run, step);
  lumo_error_complete(run->error, &context);
  return FAILED;
}

static bool need_client(lumo_run_state *run) {
  if (run->client) return true;
  run->generation = lumo_driver_generation();
  run->client = lumo_connection_checkout(run->connection, run->error);
  if (!run->client) return false;
  lumo_answer answer;
  if (lumo_orphans_kill(run->connection, run->client, &answer)) return true;
  lumo_context context = context_of(run, NULL);
  lumo_error_classify(run->error, &answer, &context);
  bson_destroy(&answer.reply);
  return false;
}

/* Sends one step and feeds its reply. DONE: the next one may come. */
static progress do_step(lumo_run_state *run, const lumo_step *step) {
  lumo_reply reply = {0};
  lumo_sent sent = LUMO_SENT;
  if (!need_client(run)) return fail(run, step);
  if (run->plan->inspector && !lumo_inspect(run, step)) return fail(run, step);
  if (step->kind == LUMO_STEP_READ && lumo_plan_is_dry(run->plan)) {
    if (!lumo_dry_reply(&reply, run->error)) return fail(run, step);
  } else {
    sent = lumo_step_send(run, step, &reply);
  }
  if (sent == LUMO_SEND_FAILED) return FAILED;
  if (run->answered) atomic_store_explicit(run->answered, true, memory_order_relaxed);
  bool fed = run->plan->class->feed(run->plan, &reply, run->error);
  lumo_free(reply.data);
  if (!fed) return fail(run, step);
  return sent == LUMO_SENT_DEAD ? DEAD : DONE;
}

static progress run_steps(lumo_run_state *run) {
  for (;;) {
    lumo_step step = {.kind = LUMO_STEP_DONE};
    if (!run->plan->class->next(run->plan, &step, run->error)) return fail(run, NULL);
    if (step.kind == LUMO_STEP_DONE) return DONE;
    if (step.kind == LUMO_STEP_PAUSE) return PAUSED;
    progress result = do_step(run, &step);
    if (result != DONE) return result;
  }
}

/* ---- in a transaction of its own ---- */

static void restart(lumo_run_state *run) {
  lumo_error_reset(run->error);
  lumo_run_drop_lease(run);
  run->plan->class->restart(run->plan);
  run->steps = 0;
  run->written = false;
}

/* A failure of libmongoc outside of any step. */
static progress fail_setup(lumo_run_state *run, const bson_error_t *cause) {
  lumo_context context = context_of(run, NULL);
  lumo_answer answer = {.error = *cause, .trace = {.connection = run->connection}};
  lumo_error_classify(run->error, &answer, &context);
  run->gave_up = cause->domain == MONGOC_ERROR_SERVER_SELECTION;
  if (strcmp(run->error->code, "E_NETWORK") == 0) run->error->labels |= LUMO_LABEL_TRANSIENT;
  return FAILED;
}

/* A deployment can turn out to have no transactions only when the first command of one arrives (a storage
 * engine without them). */
static bool is_unsupported(const lumo_run_state *run) {
  return run->steps == 1 && (run->error->server_code == 20 || run->error->server_code == 263);
}

/* The steps and the commit. */
static progress run_to_commit(lumo_run_state *run, int64_t deadline) {
  const char *op = run->plan->name;
  progress result = run_steps(run);
  if (result == PAUSED) {
    lumo_error_set(run->error, "E_UNSUPPORTED", "%s: a plan cannot pause in its own transaction", op);
    return fail(run, NULL);
  }
  if (result != DONE || lumo_transaction_commit(run->connection, run->transaction, op, deadline, run->error))
    return result;
  /* There was nothing to lose if it has only read. */
  if (!run->written) run->error->outcome = run->plan->writes ? LUMO_NOT_APPLIED : LUMO_OUTCOME_NONE;
  return FAILED;
}

/* Runs the plan once, in a session of this attempt. */
static progress attempt(lumo_run_state *run, int64_t deadline) {
  bson_error_t cause = {0};
  run->transaction = lumo_session_start(run->client, &cause);
  if (!run->transaction) return fail_setup(run, &cause);
  run->own_transaction = true;
  bool started = lumo_transaction_start(run->connection, run->plan->policy, run->transaction, &cause);
  progress result = started ? run_to_commit(run, deadline) : fail_setup(run, &cause);
  lumo_run_drop_lease(run);
  if (!lumo_session_end(run->connection, run->client, run->transaction, !run->gave_up)) run->gave_up = true;
  run->transaction = NULL;
  run->own_transaction = false;
  return result;
}

/* Whether a failed attempt is made again: only for what the server says is transient, and not where all of a
 * timeout has been waited. */
static bool is_transient(const lumo_run_state *run) {
  const lumo_error *error = run->error;
  return (error->labels & LUMO_LABEL_TRANSIENT) && error->outcome != LUMO_UNKNOWN && !run->gave_up;
}

static progress fail_dead(lumo_run_state *run, unsigned times) {
  lumo_error_set(run->error, "E_DUPLICATE_KEY", "%s: a unique index refused it in each of %u transactions",
                 run->plan->name, times);
  run->error->server_code = 11000;
  run->error->outcome = LUMO_NOT_APPLIED;
  return fail(run, NULL);
}

static progress run_attempts(lumo_run_state *run) {
  int64_t deadline = lumo_clock_ms() + TRANSACTION_LIMIT_MS;
  for (unsigned dead = 0, transient = 0;;) {
    progress result = attempt(run, deadline);
    if (result == DONE) return DONE;
    bool late = lumo_clock_ms() >= deadline;
    if (result == DEAD) {
      if (++dead >= DEAD_LIMIT || late) return fail_dead(run, dead);
    } else {
      if (is_unsupported(run) || late || !is_transient(run)) return FAILED;
      lumo_backoff(++transient);
    }
    restart(run);
  }
}

static progress run_atomic(lumo_run_state *run) {
  lumo_server_info info;
  bson_error_t cause = {0};
  if (!need_client(run)) return fail(run, NULL);
  if (!lumo_connection_describe(run->connection, run->client, false, &info, &cause))
    return fail_setup(run, &cause);
  if (!info.transactions) return run_steps(run);
  progress result = run_attempts(run);
  if (result != FAILED || !is_unsupported(run)) return result;
  restart(run);
  return run_steps(run);
}

/* ---- the whole ---- */

/* What a plan has to know of the server before its first step. */
static progress tell_version(lumo_run_state *run) {
  lumo_server_info info;
  bson_error_t cause = {0};
  if (!(run->plan->asks_version || run->plan->least_version) || run->plan->wire_version != 0) return DONE;
  if (!need_client(run)) return fail(run, NULL);
  if (!lumo_connection_describe(run->connection, run->client, true, &info, &cause))
    return fail_setup(run, &cause);
  run->plan->wire_version = info.wire_version;
  return lumo_plan_suits(run->plan, run->error) ? DONE : fail(run, NULL);
}

/* Takes the client from an open cursor's lease, or from the session. */
static bool adopt(lumo_run_state *run, lumo_session *session) {
  lumo_lease *lease = run->plan->lease;
  unsigned generation = lumo_driver_generation();
  if ((session && session->generation != generation) || (lease && lease->generation != generation))
    return lumo_error_set(run->error, "E_ARGUMENT",
                          "%s: its transaction or cursor was opened before this process was forked",
                          run->plan->name);
  if (session && (!session->session || !mongoc_client_session_in_transaction(session->session)))
    return lumo_error_set(run->error, "E_ARGUMENT", "%s: the transaction is over", run->plan->name);
  if (session) {
    run->client = session->client;
    run->transaction = session->session;
    run->generation = generation;
  } else if (lease && lease->client) {
    run->client = lease->client;
    run->generation = generation;
    lease->client = NULL;
  }
  return true;
}

/* Gives the client back, or leaves it with the cursor of a plan that pauses. */
static void settle(lumo_run_state *run, lumo_session *session, progress result) {
  if (result != PAUSED) lumo_run_drop_lease(run);
  if (!run->client) return;
  if (result != FAILED) lumo_connection_reap(run->connection, run->client);
  if (session) return;
  lumo_lease *lease = run->plan->lease;
  if (lease && lease->session)
    lease->client = run->client;
  else
    lumo_connection_checkin(run->connection, run->client, run->generation);
}

lumo_run_result lumo_run(lumo_connection *connection, lumo_plan *plan, lumo_session *session,
                         atomic_bool *answered, lumo_error *error) {
  lumo_run_state run = {.connection = connection, .plan = plan, .answered = answered, .error = error};
  progress result;
  lumo_log_begin(plan->log);
  if (plan->ended) plan->class->restart(plan); /* a transaction around it is tried again */
  if (!adopt(&run, session))
    result = fail(&run, NULL);
  else if ((result = tell_version(&run)) == DONE)
    result = plan->atomic && !session ? run_atomic(&run) : run_steps(&run);
  plan->ended = result != PAUSED;
  if (session) session->gave_up = run.gave_up;
  settle(&run, session, result);
  lumo_log_end();
  return result == DONE ? LUMO_RUN_DONE : result == PAUSED ? LUMO_RUN_PAUSED : LUMO_RUN_FAILED;
}
