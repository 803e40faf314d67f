/* Jobs as userdata, and what their waiters are woken by: for lua/lumo/runtime, where alone Lua waits. */
#include <errno.h>
#include <poll.h>

#include "private.h"

/* ---- slots ---- */

typedef struct {
  lumo_slot *slot;
} slot_box;

static lumo_slot *check_slot(lua_State *L, int i) {
  slot_box *box = lumo_test(L, i, &LUMO_MT_SLOT);
  if (!box || !box->slot) lumo_raise_code(L, "E_ARGUMENT", "a slot is expected");
  return box->slot;
}

static slot_box *prepare_slot(lua_State *L) {
  slot_box *box = lumo_newud(L, sizeof *box);
  box->slot = NULL;
  lumo_get(L, &LUMO_MT_SLOT);
  lua_setmetatable(L, -2);
  return box;
}

static int slot_gc(lua_State *L) {
  slot_box *box = lua_touserdata(L, 1);
  lumo_slot_unref(box->slot);
  box->slot = NULL;
  return 0;
}

/* core.slot_new(): one that is waited on by its descriptor. */
static int slot_new(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  slot_box *box = prepare_slot(L);
  box->slot = lumo_slot_new(&error);
  if (!box->slot) lumo_raise(L, &error);
  return 1;
}

static int slot_fd(lua_State *L) {
  lua_pushinteger(L, lumo_slot_fd(check_slot(L, 1)));
  return 1;
}

/* core.slot_clear(slot): takes the wake-up; false when there is none. */
static int slot_clear(lua_State *L) {
  lua_pushboolean(L, lumo_slot_clear(check_slot(L, 1)));
  return 1;
}

/* core.slot_wait(slot, ms): the same, but waits for it; ms below 0: as long as it takes. Blocks. */
static int slot_wait(lua_State *L) {
  lumo_slot *slot = check_slot(L, 1);
  struct pollfd fd = {.fd = lumo_slot_fd(slot), .events = POLLIN};
  int ms = (int)luaL_checknumber(L, 2), ready;
  do ready = poll(&fd, 1, ms);
  while (ready < 0 && errno == EINTR);
  lua_pushboolean(L, ready > 0 && lumo_slot_clear(slot));
  return 1;
}

/* ---- the listener ---- */

typedef struct {
  lumo_listener *listener;
} listener_box;

static lumo_listener *check_listener(lua_State *L, int i) {
  listener_box *box = lumo_test(L, i, &LUMO_MT_LISTENER);
  if (!box || !box->listener) lumo_raise_code(L, "E_ARGUMENT", "a listener is expected");
  return box->listener;
}

static int listener_gc(lua_State *L) {
  listener_box *box = lua_touserdata(L, 1);
  lumo_listener_free(box->listener);
  box->listener = NULL;
  return 0;
}

static int listener_new(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  listener_box *box = lumo_newud(L, sizeof *box);
  box->listener = NULL;
  lumo_get(L, &LUMO_MT_LISTENER);
  lua_setmetatable(L, -2);
  box->listener = lumo_listener_new(&error);
  if (!box->listener) lumo_raise(L, &error);
  return 1;
}

static int listener_path(lua_State *L) {
  lua_pushstring(L, lumo_listener_path(check_listener(L, 1)));
  return 1;
}

/* core.listener_accept(listener, token): the slot of the connection that has sent this token. */
static int listener_accept(lua_State *L) {
  lumo_error error;
  size_t len;
  lumo_error_init(&error);
  lumo_listener *listener = check_listener(L, 1);
  const char *token = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, len == LUMO_TOKEN_LENGTH, 2, "not a token");
  slot_box *box = prepare_slot(L);
  box->slot = lumo_listener_accept(listener, token, &error);
  if (!box->slot) lumo_raise(L, &error);
  return 1;
}

/* ---- jobs ---- */

typedef struct {
  lumo_job *job;
} job_box;

static lumo_job *check_job(lua_State *L, int i) {
  job_box *box = lumo_test(L, i, &LUMO_MT_JOB);
  if (!box || !box->job) lumo_raise_code(L, "E_ARGUMENT", "a job is expected");
  return box->job;
}

static int job_gc(lua_State *L) {
  job_box *box = lua_touserdata(L, 1);
  if (box->job) lumo_job_release(box->job);
  box->job = NULL;
  return 0;
}

/* Pushes a job's userdata; the plan has its owner before and after. */
static int push_job(lua_State *L, lumo_job_kind kind, lumo_connection *connection, lumo_plan *plan,
                    lumo_session *session, lumo_policy *policy) {
  job_box *box = lumo_newud(L, sizeof *box);
  box->job = NULL;
  lumo_get(L, &LUMO_MT_JOB);
  lua_setmetatable(L, -2);
  box->job = lumo_job_new(kind, connection, plan, session, policy);
  if (box->job) return 1;
  lumo_error error;
  lumo_error_init(&error);
  lumo_error_memory(&error);
  lumo_raise(L, &error);
}

/* core.job_run(connection, plan, session or nil): the plan is the job's until its result is taken. */
static int job_run(lua_State *L) {
  lumo_connection *connection = lumo_check_connection(L, 1);
  lumo_plan *plan = lumo_check_any_plan(L, 2);
  lumo_refuse_in_column_function(L);
  push_job(L, LUMO_JOB_RUN, connection, plan, lumo_opt_session(L, 3), NULL);
  lumo_lend_plan(L, 2);
  lumo_mark_threaded(L, 3);
  return 1;
}

/* core.job_begin(connection, policy or nil) */
static int job_begin(lua_State *L) {
  return push_job(L, LUMO_JOB_BEGIN, lumo_check_connection(L, 1), NULL, NULL, lumo_opt_policy(L, 2));
}

static int job_server(lua_State *L) {
  return push_job(L, LUMO_JOB_SERVER, lumo_check_connection(L, 1), NULL, NULL, NULL);
}

static int push_session_job(lua_State *L, lumo_job_kind kind) {
  lumo_session *session = lumo_opt_session(L, 1);
  if (!session) lumo_raise_code(L, "E_ARGUMENT", "a session is expected");
  lumo_mark_threaded(L, 1);
  return push_job(L, kind, lumo_session_connection(session), NULL, session, NULL);
}

static int job_commit(lua_State *L) {
  return push_session_job(L, LUMO_JOB_COMMIT);
}

static int job_abort(lua_State *L) {
  return push_session_job(L, LUMO_JOB_ABORT);
}

/* core.can_yield(): whether Lua lets the caller yield. */
static int can_yield(lua_State *L) {
  lua_pushboolean(L, lua_isyieldable(L));
  return 1;
}

/* core.job_timeout(job): of its connection, in milliseconds. */
static int job_timeout(lua_State *L) {
  lua_pushinteger(L, lumo_connection_timeout(check_job(L, 1)->connection));
  return 1;
}

#define JOBS_LIMIT 64

/* core.jobs_submit(slot, job, …): jobs of one connection, JOBS_LIMIT at most; the slot is woken once. */
static int jobs_submit(lua_State *L) {
  lumo_job *jobs[JOBS_LIMIT];
  int count = lua_gettop(L) - 1;
  lumo_slot *slot = check_slot(L, 1);
  luaL_argcheck(L, count > 0 && count <= JOBS_LIMIT, 2, "too few or too many jobs");
  for (int i = 0; i < count; i++) jobs[i] = check_job(L, i + 2);
  lumo_jobs_submit(jobs, (size_t)count, slot);
  return 0;
}

/* core.jobs_expire(job, …): their time is over. True: they are not waited for any more, though some may still
 * run; their slot is used up. */
static int jobs_expire(lua_State *L) {
  lumo_job *jobs[JOBS_LIMIT];
  int count = lua_gettop(L);
  luaL_argcheck(L, count > 0 && count <= JOBS_LIMIT, 1, "too few or too many jobs");
  for (int i = 0; i < count; i++) jobs[i] = check_job(L, i + 1);
  lua_pushboolean(L, lumo_jobs_expire(jobs, (size_t)count));
  return 1;
}

/* Pushes what the call gives that a job stands for. */
static int push_result(lua_State *L, lumo_job *job) {
  switch (job->kind) {
  case LUMO_JOB_RUN: lua_pushboolean(L, !job->paused); return 1;
  case LUMO_JOB_SERVER: lumo_push_server(L, &job->info); return 1;
  case LUMO_JOB_BEGIN: {
    lumo_session **session = lumo_prepare_session(L);
    *session = job->session;
    job->session = NULL;
    return 1;
  }
  case LUMO_JOB_COMMIT:
  case LUMO_JOB_ABORT: break;
  }
  return 0;
}

/* The plan stays with the thread that is at it. */
static int raise_given_up(lua_State *L, lumo_job *job) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_job_explain(job, &error);
  job_gc(L);
  return lumo_raise(L, &error);
}

/* core.job_result(job, plan): what the call that it stands for gives; raises what that raises. The job is
 * used up, and the plan its owner's again. */
static int job_result(lua_State *L) {
  lumo_job *job = check_job(L, 1);
  if (job->given_up) return raise_given_up(L, job);
  if (!lumo_job_done(job)) lumo_raise_code(L, "E_ARGUMENT", "the job is not done");
  if (job->plan) {
    lumo_return_plan(L, 2, job->plan);
    job->plan = NULL;
  }
  lumo_error error = job->error; /* and what it owns */
  bool ok = job->ok;
  lumo_error_init(&job->error);
  job->taken = true;
  int results = ok ? push_result(L, job) : 0;
  job_gc(L); /* now: a session of it is its owner's alone */
  if (!ok) lumo_raise(L, &error);
  return results;
}

/* ---- the end of the state ---- */

#define LEAVE_MS 250

/* The last finalizer of a state that closes, which may be the process's last act. */
static int leave(lua_State *L) {
  (void)L;
  lumo_workers_leave(LEAVE_MS);
  return 0;
}

void lumo_open_job(lua_State *L) {
  static const char anchor;
  static const luaL_Reg leave_metamethods[] = {{"__gc", leave}, {NULL, NULL}};
  static const luaL_Reg slot_metamethods[] = {{"__gc", slot_gc}, {NULL, NULL}};
  static const luaL_Reg listener_metamethods[] = {{"__gc", listener_gc}, {NULL, NULL}};
  static const luaL_Reg job_metamethods[] = {{"__gc", job_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"can_yield", can_yield},
      {"slot_new", slot_new},
      {"slot_fd", slot_fd},
      {"slot_clear", slot_clear},
      {"slot_wait", slot_wait},
      {"listener_new", listener_new},
      {"listener_path", listener_path},
      {"listener_accept", listener_accept},
      {"job_run", job_run},
      {"job_begin", job_begin},
      {"job_commit", job_commit},
      {"job_abort", job_abort},
      {"job_server", job_server},
      {"job_result", job_result},
      {"job_timeout", job_timeout},
      {"jobs_submit", jobs_submit},
      {"jobs_expire", jobs_expire},
      {NULL, NULL},
  };
  lumo_newud(L, 1);
  lua_newtable(L);
  luaL_setfuncs(L, leave_metamethods, 0);
  lua_setmetatable(L, -2);
  lumo_set(L, &anchor);
  lumo_metatable(L, &LUMO_MT_SLOT, "lumo.slot", NULL, slot_metamethods);
  lumo_metatable(L, &LUMO_MT_LISTENER, "lumo.listener", NULL, listener_metamethods);
  lumo_metatable(L, &LUMO_MT_JOB, "lumo.job", NULL, job_metamethods);
  lua_pop(L, 3);
  luaL_setfuncs(L, functions, 0);
}
