/* Jobs: what blocks, done on a thread of the connection's workers. */
#include <string.h>

#include "../core/mem.h"
#include "private.h"

static lumo_job *job_of(lumo_task *task) {
  return (lumo_job *)task; /* its head */
}

static lumo_context context_of(const lumo_job *job) {
  return (lumo_context){.op = job->plan->name,
                        .database = job->connection->database,
                        .to_write = job->plan->writes,
                        .in_transaction = job->session != NULL};
}

/* For errors that own nothing, of a job that sends nothing. */
static void fail_with(lumo_job *job, const lumo_error *error) {
  job->error = *error;
  if (!job->plan) return;
  lumo_context context = context_of(job);
  lumo_error_complete(&job->error, &context);
}

static void say_busy(const lumo_job *job, lumo_error *error) {
  lumo_error_set(error, "E_TIMEOUT",
                 "all %d threads of the connection stayed busy for its timeout (pool_size)",
                 job->connection->pool_size);
  error->retryable = true;
}

/* What is little beside the timeout. */
static int64_t margin_ms(const lumo_job *job) {
  return job->connection->timeout_ms / 10;
}

/* How long it has waited for its thread. */
static int64_t waited_ms(const lumo_job *job) {
  return atomic_load_explicit(&job->started_ms, memory_order_relaxed) - job->submitted_ms;
}

static void run_plan(lumo_job *job) {
  /* Too late: nobody would wait for its answer. */
  if (waited_ms(job) > job->connection->timeout_ms - margin_ms(job)) {
    lumo_error busy;
    lumo_error_init(&busy);
    say_busy(job, &busy);
    fail_with(job, &busy);
    return;
  }
  lumo_run_result result = lumo_run(job->connection, job->plan, job->session, &job->answered, &job->error);
  job->ok = result != LUMO_RUN_FAILED;
  job->paused = result == LUMO_RUN_PAUSED;
}

static void run_job(lumo_task *task) {
  lumo_job *job = job_of(task);
  atomic_store_explicit(&job->started_ms, lumo_clock_ms(), memory_order_relaxed);
  bool is_end = job->kind == LUMO_JOB_COMMIT || job->kind == LUMO_JOB_ABORT;
  /* Nobody will hear that it was not done. A transaction that was to end must not keep its locks for that. */
  if (!is_end && waited_ms(job) > 0 && lumo_slot_is_left(task->slot)) return;
  switch (job->kind) {
  case LUMO_JOB_RUN: run_plan(job); break;
  case LUMO_JOB_BEGIN:
    job->session = lumo_session_new(job->connection, job->policy, &job->error);
    job->ok = job->session != NULL;
    break;
  case LUMO_JOB_COMMIT: job->ok = lumo_session_commit(job->session, &job->error); break;
  case LUMO_JOB_ABORT: job->ok = lumo_session_abort(job->session, &job->error); break;
  case LUMO_JOB_SERVER: job->ok = lumo_connection_server(job->connection, &job->info, &job->error); break;
  }
}

static void fail_job(lumo_task *task, const lumo_error *error) {
  fail_with(job_of(task), error);
}

/* Replies, and clients. The plan itself stays: who has given the job up explains that by it. */
static void drop_job(lumo_task *task) {
  lumo_job *job = job_of(task);
  if (job->kind == LUMO_JOB_RUN) {
    lumo_plan *plan = job->plan;
    if (plan->lease) plan->release_lease(plan->lease);
    plan->lease = NULL;
    plan->class->restart(plan);
  } else if (job->kind == LUMO_JOB_BEGIN) {
    lumo_session_unref(job->session);
    job->session = NULL;
  }
}

static void free_job(lumo_task *task) {
  lumo_job *job = job_of(task);
  lumo_plan_free(job->plan);
  lumo_session_unref(job->session);
  lumo_policy_unref(job->policy);
  lumo_workers_unref(job->workers);
  lumo_connection_unref(job->connection);
  lumo_error_reset(&job->error);
  lumo_free(job);
}

static const lumo_task_class job_class = {run_job, fail_job, drop_job, free_job};

lumo_job *lumo_job_new(lumo_job_kind kind, lumo_connection *connection, lumo_plan *plan,
                       lumo_session *session, lumo_policy *policy) {
  lumo_job *job = lumo_malloc(sizeof *job);
  if (!job) return NULL;
  job->line = (lumo_line){0};
  lumo_task_init(&job->task, &job_class, session ? &session->line : plan && plan->lease ? &job->line : NULL);
  job->kind = kind;
  job->generation = lumo_driver_generation();
  job->connection = lumo_connection_ref(connection);
  job->workers = NULL;
  job->plan = plan;
  job->session = session ? lumo_session_ref(session) : NULL;
  job->policy = policy ? lumo_policy_ref(policy) : NULL;
  job->ok = job->paused = job->taken = job->given_up = false;
  atomic_init(&job->started_ms, 0);
  atomic_init(&job->answered, false);
  lumo_error_init(&job->error);
  return job;
}

/* ---- waiting ---- */

void lumo_jobs_submit(lumo_job *const *jobs, size_t count, lumo_slot *slot) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_workers *workers = lumo_connection_workers(jobs[0]->connection, true, &error);
  lumo_slot_expect(slot, count);
  int64_t now = lumo_clock_ms();
  for (size_t i = 0; i < count; i++) {
    jobs[i]->submitted_ms = now;
    if (workers) {
      jobs[i]->workers = lumo_workers_ref(workers);
      lumo_workers_submit(workers, &jobs[i]->task, slot);
    } else {
      fail_with(jobs[i], &error);
      jobs[i]->task.state = LUMO_TASK_DONE;
      lumo_slot_wake(slot);
    }
  }
  lumo_workers_unref(workers);
}

static bool is_ours(const lumo_job *job) {
  return job->generation == lumo_driver_generation();
}

bool lumo_job_done(lumo_job *job) {
  if (!is_ours(job)) return false;
  return job->workers ? lumo_workers_done(job->workers, &job->task) : job->task.state == LUMO_TASK_DONE;
}

static void cancel(lumo_job *job) {
  lumo_error error;
  if (!is_ours(job) || !job->workers) return;
  lumo_error_init(&error);
  say_busy(job, &error);
  lumo_workers_cancel(job->workers, &job->task, &error);
}

/* After a short wait for the thread libmongoc's own limit ends the wait for the answer soon enough, and its
 * error says more. Where the URI lets answers take longer than the timeout, that limit stands alone. */
static bool is_overdue(const lumo_job *job) {
  const lumo_connection *connection = job->connection;
  bool bounded = connection->socket_timeout_ms > 0 && connection->socket_timeout_ms <= connection->timeout_ms;
  return bounded && job->kind == LUMO_JOB_RUN && waited_ms(job) > margin_ms(job) &&
         !atomic_load_explicit(&job->answered, memory_order_relaxed);
}

bool lumo_jobs_expire(lumo_job *const *jobs, size_t count) {
  bool expired = false;
  for (size_t i = 0; i < count; i++) cancel(jobs[i]);
  for (size_t i = 0; i < count; i++)
    if (!lumo_job_done(jobs[i]) && !is_overdue(jobs[i])) return false;
  for (size_t i = 0; i < count; i++) {
    jobs[i]->given_up = !lumo_job_done(jobs[i]);
    expired |= jobs[i]->given_up;
  }
  return expired;
}

void lumo_job_explain(const lumo_job *job, lumo_error *error) {
  lumo_context context = context_of(job);
  lumo_error_set(error, "E_TIMEOUT",
                 "%s: no answer within %d ms, of which %d were spent waiting for a thread "
                 "(pool_size)",
                 job->plan->name, job->connection->timeout_ms, (int)waited_ms(job));
  if (job->plan->writes && !job->session) error->outcome = LUMO_UNKNOWN;
  error->retryable = !job->plan->writes && !job->session;
  lumo_error_complete(error, &context);
}

void lumo_job_release(lumo_job *job) {
  if (!is_ours(job)) return; /* the parent's threads may have been at it, and never end here */
  if (job->workers && !job->taken) {
    lumo_workers_abandon(job->workers, &job->task);
    return;
  }
  lumo_session_unref(job->session);
  job->session = NULL;
  lumo_task_unref(&job->task);
}

void lumo_connection_workers_count(lumo_connection *connection, lumo_workers_stats *stats) {
  lumo_error ignored;
  lumo_error_init(&ignored);
  *stats = (lumo_workers_stats){0};
  lumo_workers *workers = lumo_connection_workers(connection, false, &ignored);
  if (workers) lumo_workers_count(workers, stats);
  lumo_workers_unref(workers);
}
