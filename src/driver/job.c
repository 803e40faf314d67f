/* Jobs: what blocks, done on a thread of the connection's workers. */
#include <string.h>

#include "../core/mem.h"
#include "private.h"

static lumo_job *job_of(lumo_task *task) {
  return (lumo_job *)task; /* its head */
}

static void run_job(lumo_task *task) {
  lumo_job *job = job_of(task);
  switch (job->kind) {
  case LUMO_JOB_RUN: {
    lumo_run_result result = lumo_run(job->connection, job->plan, job->session, &job->error);
    job->ok = result != LUMO_RUN_FAILED;
    job->paused = result == LUMO_RUN_PAUSED;
    break;
  }
  case LUMO_JOB_BEGIN:
    job->session = lumo_session_new(job->connection, job->policy, &job->error);
    job->ok = job->session != NULL;
    break;
  case LUMO_JOB_COMMIT: job->ok = lumo_session_commit(job->session, &job->error); break;
  case LUMO_JOB_ABORT: job->ok = lumo_session_abort(job->session, &job->error); break;
  case LUMO_JOB_SERVER: job->ok = lumo_connection_server(job->connection, &job->info, &job->error); break;
  }
}

/* These errors own nothing. */
static void fail_job(lumo_task *task, const lumo_error *error) {
  job_of(task)->error = *error;
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

static const lumo_task_class job_class = {run_job, fail_job, free_job};

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
  job->ok = job->paused = job->taken = false;
  lumo_error_init(&job->error);
  return job;
}

/* ---- waiting ---- */

void lumo_jobs_submit(lumo_job *const *jobs, size_t count, lumo_slot *slot) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_workers *workers = lumo_connection_workers(jobs[0]->connection, true, &error);
  lumo_slot_expect(slot, count);
  for (size_t i = 0; i < count; i++) {
    if (workers) {
      jobs[i]->workers = lumo_workers_ref(workers);
      lumo_workers_submit(workers, &jobs[i]->task, slot);
    } else {
      jobs[i]->error = error;
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

void lumo_job_cancel(lumo_job *job) {
  lumo_error error;
  if (!is_ours(job) || !job->workers) return;
  lumo_error_init(&error);
  lumo_error_set(&error, "E_TIMEOUT",
                 "all %d threads of the connection stayed busy for its timeout (pool_size)",
                 job->connection->pool_size);
  error.retryable = true;
  lumo_workers_cancel(job->workers, &job->task, &error);
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
