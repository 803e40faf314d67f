/* Threads that run what would block its caller, and how they tell that it is done. Knows neither libmongoc
 * nor what a task does: spec/c tests it alone. All functions are thread safe. */
#ifndef LUMO_DRIVER_WORKER_H
#define LUMO_DRIVER_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "../core/error.h"

/* ---- slots: one waiter's place to be woken ---- */

/* A descriptor that becomes readable when all tasks submitted with it are done. Counted, so that it stays
 * open as long as a task may write to it, whatever has become of the waiter. */
typedef struct lumo_slot lumo_slot;

/* An eventfd, for loops that watch descriptors. NULL: *error says why. */
lumo_slot *lumo_slot_new(lumo_error *error);
lumo_slot *lumo_slot_ref(lumo_slot *slot);
void lumo_slot_unref(lumo_slot *slot);
int lumo_slot_fd(const lumo_slot *slot);
/* Takes the wake-up of an eventfd, so that the slot can be waited on again. False: there was none. */
bool lumo_slot_clear(lumo_slot *slot);

/* A socket to which this process connects, for loops that give no descriptor away (nginx): each connection
 * becomes a slot, which is woken by one byte. It lies in a private folder of its own, which is removed with
 * it. */
typedef struct lumo_listener lumo_listener;
lumo_listener *lumo_listener_new(lumo_error *error);
/* Removes the folder, if this is still the process that made it. */
void lumo_listener_free(lumo_listener *listener);
const char *lumo_listener_path(const lumo_listener *listener);
#define LUMO_TOKEN_LENGTH 8
/* The slot of the connection that has sent these 8 bytes, once; NULL when there is none. Connections of other
 * processes are closed. */
lumo_slot *lumo_listener_accept(lumo_listener *listener, const char *token, lumo_error *error);

/* So many wakes are to come, of which the last one wakes the waiter. NULL is allowed. */
void lumo_slot_expect(lumo_slot *slot, size_t wakes);
void lumo_slot_wake(lumo_slot *slot);
/* Whether the waiter is gone, as far as that can be seen: of sockets. NULL is allowed: nobody waited there.
 */
bool lumo_slot_is_left(const lumo_slot *slot);

/* ---- tasks ---- */

/* Tasks that share a line run one at a time, in the order in which they were submitted. Zeroed at first;
 * owned by what the tasks keep alive. */
typedef struct lumo_line {
  bool busy; /* under the lock of the workers */
} lumo_line;

typedef struct lumo_task lumo_task;
typedef struct lumo_task_class {
  void (*run)(lumo_task *task); /* on a thread of the pool */
  /* In place of run: it was not started, and will not be. */
  void (*fail)(lumo_task *task, const lumo_error *error);
  /* After run, on its thread: nobody will read the result. Frees what of it is large or held from others, and
   * touches nothing that a submitter reads while the task runs. Only of tasks that are submitted with a slot.
   */
  void (*drop)(lumo_task *task);
  void (*free)(lumo_task *task); /* with the last reference, on any thread */
} lumo_task_class;

/* The head of every task. It has two holders: who submitted it, and the workers until it is done. So neither
 * a waiter that is gone nor a closed Lua state frees what a thread still uses. */
struct lumo_task {
  const lumo_task_class *class;
  atomic_uint references;
  lumo_line *line; /* or NULL */
  lumo_slot *slot; /* a reference from submit until it is done; NULL: nobody is woken */
  /* Under the lock of the workers: */
  enum { LUMO_TASK_NEW, LUMO_TASK_QUEUED, LUMO_TASK_RUNNING, LUMO_TASK_DONE } state;
  bool abandoned; /* nobody waits for it: … */
  bool detached;  /* … from the beginning */
  bool dropped;   /* its result has been dropped, and counted */
  lumo_task *next;
};
/* One reference, the submitter's. */
void lumo_task_init(lumo_task *task, const lumo_task_class *class, lumo_line *line);
void lumo_task_unref(lumo_task *task);

/* ---- workers ---- */

typedef struct lumo_workers lumo_workers;
typedef struct lumo_workers_stats {
  unsigned threads, running, queued;
  unsigned long dropped; /* results that nobody waited for */
} lumo_workers_stats;

/* Starts no thread yet. Threads are made as they are needed: `size` at most for tasks without a line, and as
 * many more for those with one (who has a line may hold what the others wait for). One reference. */
lumo_workers *lumo_workers_new(unsigned size, lumo_error *error);
/* No new tasks; the threads end when those that were submitted are done. */
void lumo_workers_close(lumo_workers *workers);
lumo_workers *lumo_workers_ref(lumo_workers *workers);
void lumo_workers_unref(lumo_workers *workers);
/* The end of the task is one of the wakes that the slot (or NULL) expects. A task that cannot be queued
 * fails: nothing else tells. */
void lumo_workers_submit(lumo_workers *workers, lumo_task *task, lumo_slot *slot);
/* Whether the task is done; after this its results may be read. */
bool lumo_workers_done(lumo_workers *workers, lumo_task *task);
/* Fails the task if it has not been started. */
void lumo_workers_cancel(lumo_workers *workers, lumo_task *task, const lumo_error *error);
/* Nobody waits for it any more: it is not started, or its result is dropped and counted. Takes the
 * submitter's reference. */
void lumo_workers_abandon(lumo_workers *workers, lumo_task *task);
/* Submits a task that nobody waits for, and that is run all the same. Takes the reference. */
void lumo_workers_detach(lumo_workers *workers, lumo_task *task);
void lumo_workers_count(lumo_workers *workers, lumo_workers_stats *stats);

/* Before the process ends: waits until all that nobody waits for has come to its end, and the threads of
 * closed workers with it, `timeout_ms` at most. What has not is left alone: what it uses belongs to it. */
void lumo_workers_leave(int timeout_ms);
/* In a forked child, before its first use: the parent's threads are not there. */
void lumo_workers_forked(void);

#endif
