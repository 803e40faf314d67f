/* The calls of libmongoc that one step makes: what each is given, and whether it is made again. */
#include "private.h"

/* Not cleared as a whole: the two errors in it are a kilobyte. */
void lumo_answer_init(const lumo_run_state *run, const lumo_step *step, lumo_answer *answer) {
  answer->ok = answer->has_reply = false;
  answer->error.domain = answer->error.code = 0;
  answer->error.message[0] = '\0';
  lumo_trace_reset(&answer->trace, run->connection, step->collection);
}

void lumo_answer_free(lumo_answer *answer) {
  if (answer->has_reply) bson_destroy(&answer->reply);
  answer->has_reply = false;
}

lumo_extent lumo_extent_of(const lumo_step *step) {
  lumo_extent found = {0};
  lumo_statement statement;
  size_t at = 0;
  if (step->kind != LUMO_STEP_WRITE) return found;
  for (unsigned n = 0; lumo_statement_next(step->statements, &at, &statement); n++) {
    if (n > 0) found.several = true;
    if (statement.kind == LUMO_UPDATE_MANY || statement.kind == LUMO_DELETE_MANY) found.many = true;
  }
  return found;
}

lumo_calls lumo_calls_begin(const lumo_run_state *run, const lumo_answer *answer, bool allowed) {
  return (lumo_calls){.deadline = answer->trace.deadline_ms, .allowed = allowed && !run->transaction};
}

/* No attempt of this call has been executed: each was refused, or broken off before anything stayed. */
static bool is_unexecuted(const lumo_answer *answer) {
  const lumo_trace *trace = &answer->trace;
  return trace->failed && trace->answered == 0 && !trace->lost &&
         (lumo_code_refuses((int32_t)trace->error.code) || trace->interrupted);
}

/* Waits before what has been sent is sent again; false: there is no time for it. */
static bool hold_back(lumo_calls *calls, const lumo_answer *answer) {
  bool stepping_down = answer->trace.interrupted || answer->error.domain != MONGOC_ERROR_STREAM;
  lumo_backoff(stepping_down ? LUMO_STEPPING_DOWN : ++calls->repeats);
  return lumo_clock_ms() < calls->deadline;
}

bool lumo_calls_again(lumo_calls *calls, const lumo_run_state *run, const lumo_step *step,
                      lumo_answer *answer) {
  lumo_trace *trace = &answer->trace;
  if (answer->ok) return false;
  lumo_extent touched = lumo_extent_of(step);
  if (trace->interrupted && (touched.several || touched.many)) trace->lost = true;
  trace->lost |= calls->lost;
  bool again = false, unavailable = lumo_answer_unavailable(answer);
  if (trace->timed_out || lumo_clock_ms() >= calls->deadline) return false;
  if (trace->sent == 0)
    again = lumo_error_is_selection(&answer->error) || (!run->transaction && unavailable);
  else if (calls->allowed && unavailable && (calls->harmless || is_unexecuted(answer)))
    again = hold_back(calls, answer);
  if (!again) return false;
  calls->lost = trace->lost || trace->answered > 0;
  lumo_answer_free(answer);
  return true;
}

bool lumo_append_session(mongoc_client_session_t *session, bson_t *opts, lumo_answer *answer) {
  return !session || mongoc_client_session_append(session, opts, &answer->error);
}

bool lumo_append_write_options(const lumo_run_state *run, bson_t *opts, lumo_answer *answer) {
  return lumo_append_session(run->transaction, opts, answer) &&
         (run->transaction || lumo_policy_append_write(run->plan->policy, opts));
}

static const mongoc_read_prefs_t *read_preference(const lumo_run_state *run, const lumo_step *step) {
  const lumo_policy *policy = run->transaction ? NULL : run->plan->policy;
  if (policy && policy->read) return policy->read;
  return step->reads && !run->transaction ? mongoc_client_get_read_prefs(run->client) : NULL;
}

void lumo_call_command(const lumo_run_state *run, const lumo_step *step, const bson_t *command,
                       const bson_t *opts, lumo_answer *answer, const lumo_calls *calls) {
  const char *database = step->database ? step->database : run->connection->database;
  lumo_trace_begin(&answer->trace, run->connection, run->client, step->collection);
  answer->trace.deadline_ms = calls->deadline;
  answer->trace.retries = step->writes && !run->transaction;
  if (step->writes || step->kind == LUMO_STEP_WRITE)
    answer->ok = mongoc_client_write_command_with_opts(run->client, database, command, opts, &answer->reply,
                                                       &answer->error);
  else
    answer->ok = mongoc_client_command_with_opts(run->client, database, command, read_preference(run, step),
                                                 opts, &answer->reply, &answer->error);
  lumo_trace_end();
  answer->has_reply = true;
  if (answer->ok && lumo_answer_refused(answer)) answer->ok = false;
}
