/* The pool of threads: which task runs next, and who hears of its end. */
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "../core/mem.h"

/* What runs on the threads is libmongoc with its TLS and name resolution; the rest of a default stack of 8 MB
 * would only be counted. */
#define STACK_BYTES (512 * 1024)
/* Tasks that wait at most. Each has a waiter, so there are as many as a program has coroutines. */
#define QUEUE_LIMIT 100000

typedef struct task_queue {
  lumo_task *first, **last;
} task_queue;

/* Where a thread waits for something to do. The one that has come last is called first: what it needs is in
 * the caches. A semaphore, so that who is called before it sleeps never sleeps, and who wakes meets no lock.
 */
typedef struct seat {
  lumo_workers *workers;
  sem_t call;
  struct seat *below; /* in the stack of the idle */
  struct seat *next;  /* of all seats of the workers */
} seat;

struct lumo_workers {
  atomic_uint references; /* of the owner and of each thread */
  unsigned size;
  pthread_mutex_t lock;
  /* Under the lock: */
  task_queue plain, lined;
  seat *seats, *idle;
  unsigned threads, called, running, running_plain, queued; /* called: threads that are on their way */
  unsigned long dropped;
  bool closed;
};

/* What is still under way though nobody waits: threads of closed workers, and abandoned tasks. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned count;
} leaving = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static void count_leaving(int change) {
  pthread_mutex_lock(&leaving.lock);
  leaving.count += (unsigned)change;
  pthread_cond_broadcast(&leaving.changed);
  pthread_mutex_unlock(&leaving.lock);
}

/* ---- tasks ---- */

void lumo_task_init(lumo_task *task, const lumo_task_class *class, lumo_line *line) {
  *task = (lumo_task){.class = class, .line = line};
  atomic_init(&task->references, 1);
}

void lumo_task_unref(lumo_task *task) {
  if (atomic_fetch_sub_explicit(&task->references, 1, memory_order_acq_rel) != 1) return;
  lumo_slot_unref(task->slot);
  task->class->free(task);
}

/* ---- the queues (under the lock) ---- */

static void push(task_queue *queue, lumo_task *task) {
  task->next = NULL;
  *queue->last = task;
  queue->last = &task->next;
}

static void remove_at(task_queue *queue, lumo_task **at) {
  lumo_task *task = *at;
  *at = task->next;
  if (!*at) queue->last = at;
}

static task_queue *queue_of(lumo_workers *workers, const lumo_task *task) {
  return task->line ? &workers->lined : &workers->plain;
}

/* Where the next task to run stands, or NULL. Those with a line go first: they hold what others wait for. */
static lumo_task **find_next(lumo_workers *workers) {
  for (lumo_task **at = &workers->lined.first; *at; at = &(*at)->next)
    if (!(*at)->line->busy) return at;
  return workers->plain.first && workers->running_plain < workers->size ? &workers->plain.first : NULL;
}

static lumo_task *take_next(lumo_workers *workers) {
  lumo_task **at = find_next(workers);
  if (!at) return NULL;
  lumo_task *task = *at;
  remove_at(queue_of(workers, task), at);
  workers->queued--;
  workers->running++;
  if (task->line)
    task->line->busy = true;
  else
    workers->running_plain++;
  task->state = LUMO_TASK_RUNNING;
  return task;
}

/* Takes a task out that has not been started. */
static void unqueue(lumo_workers *workers, lumo_task *task) {
  task_queue *queue = queue_of(workers, task);
  lumo_task **at = &queue->first;
  while (*at != task) at = &(*at)->next;
  remove_at(queue, at);
  workers->queued--;
}

/* ---- threads ---- */

static void *work(void *argument);

static seat *add_seat(lumo_workers *workers) {
  seat *place = lumo_calloc(1, sizeof *place);
  if (!place) return NULL;
  place->workers = workers;
  sem_init(&place->call, 0, 0);
  place->next = workers->seats;
  workers->seats = place;
  return place;
}

static void remove_last_seat(lumo_workers *workers) {
  seat *place = workers->seats;
  workers->seats = place->next;
  sem_destroy(&place->call);
  lumo_free(place);
}

/* Under the lock. Without any signal: they are the program's, and its threads' to handle. */
static int start_thread(lumo_workers *workers) {
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t all, before;
  seat *place = add_seat(workers);
  if (!place) return ENOMEM;
  sigfillset(&all);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  atomic_fetch_add_explicit(&workers->references, 1, memory_order_relaxed);
  workers->threads++;
  workers->called++;
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int status = pthread_create(&thread, &attributes, work, place);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (status != 0) {
    workers->threads--;
    workers->called--;
    atomic_fetch_sub_explicit(&workers->references, 1, memory_order_relaxed);
    remove_last_seat(workers);
  }
  return status;
}

/* Under the lock: takes an idle thread, which is to be told so by call(), without the lock at best. */
static seat *choose_idle(lumo_workers *workers) {
  seat *place = workers->idle;
  if (!place) return NULL;
  workers->idle = place->below;
  workers->called++;
  return place;
}

static void call(seat *place) {
  if (place) sem_post(&place->call);
}

static void call_all(lumo_workers *workers) {
  for (seat *place; (place = choose_idle(workers));) call(place);
}

/* Under the lock: gets a thread for the next task, if there is one: an idle one, which is to be called, or
 * a new one. Not 0: no thread could be started. */
static int get_thread(lumo_workers *workers, seat **idle) {
  lumo_task **next = find_next(workers);
  *idle = next ? choose_idle(workers) : NULL;
  if (!next || *idle) return 0;
  /* One more for each that is in a line. */
  unsigned limit =
      workers->size + ((*next)->line ? workers->size : workers->running - workers->running_plain);
  bool may_start = !workers->closed && workers->threads < limit && workers->threads < workers->size * 2;
  return may_start ? start_thread(workers) : 0;
}

/* Under the lock. From now on the thread may be called; it has to wait for that. */
static void sit_down(lumo_workers *workers, seat *place) {
  place->below = workers->idle;
  workers->idle = place;
}

/* Under the lock, which is given back meanwhile. */
static void wait_for_call(lumo_workers *workers, seat *place) {
  pthread_mutex_unlock(&workers->lock);
  while (sem_wait(&place->call) != 0) { /* EINTR, by a debugger */
  }
  pthread_mutex_lock(&workers->lock);
  workers->called--;
}

static bool is_over(const lumo_workers *workers) {
  return workers->closed && workers->queued == 0;
}

/* Under the lock: the end of a task, whose waiter may have left. True if it was abandoned. */
static bool settle(lumo_workers *workers, lumo_task *task, bool left) {
  workers->running--;
  if (task->line)
    task->line->busy = false;
  else
    workers->running_plain--;
  task->state = LUMO_TASK_DONE;
  task->dropped = left || (task->abandoned && !task->detached);
  workers->dropped += task->dropped;
  return task->abandoned;
}

/* Without the lock; returns with it. The thread sits down before it wakes the waiter: who submits again at
 * once then calls this thread, which need not have slept, and not another one. */
static void run_task(lumo_workers *workers, seat *place, lumo_task *task) {
  task->class->run(task);
  bool left = lumo_slot_is_left(task->slot);
  if (left) task->class->drop(task); /* now: a collector that knows nothing of its size takes its time */
  pthread_mutex_lock(&workers->lock);
  bool abandoned = settle(workers, task, left);
  bool sits = !abandoned && !find_next(workers) && !is_over(workers);
  lumo_slot *slot = task->slot;
  task->slot = NULL;
  if (!abandoned) lumo_task_unref(task); /* not the last one: the submitter's is there as long as this lock */
  if (sits) sit_down(workers, place);
  pthread_mutex_unlock(&workers->lock);
  lumo_slot_wake(slot);
  lumo_slot_unref(slot);
  if (abandoned) {
    lumo_task_unref(task); /* which may still send something */
    count_leaving(-1);
  }
  pthread_mutex_lock(&workers->lock);
  if (sits) wait_for_call(workers, place);
}

static void *work(void *argument) {
  seat *place = argument;
  lumo_workers *workers = place->workers;
  pthread_mutex_lock(&workers->lock);
  workers->called--;
  for (;;) {
    lumo_task *task = take_next(workers);
    if (task) {
      seat *idle = NULL;
      /* There may be more for others; who is on the way will see to it. */
      if (workers->called == 0) get_thread(workers, &idle);
      pthread_mutex_unlock(&workers->lock);
      call(idle);
      run_task(workers, place, task);
    } else if (is_over(workers)) {
      break;
    } else {
      sit_down(workers, place);
      wait_for_call(workers, place);
    }
  }
  workers->threads--;
  call_all(workers); /* what the others wait for may have been the last task */
  pthread_mutex_unlock(&workers->lock);
  lumo_workers_unref(workers);
  count_leaving(-1);
  return NULL;
}

/* ---- the pool ---- */

lumo_workers *lumo_workers_new(unsigned size, lumo_error *error) {
  lumo_workers *workers = lumo_calloc(1, sizeof *workers);
  if (!workers) {
    lumo_error_memory(error);
    return NULL;
  }
  atomic_init(&workers->references, 1);
  workers->size = size;
  workers->plain.last = &workers->plain.first;
  workers->lined.last = &workers->lined.first;
  pthread_mutex_init(&workers->lock, NULL);
  return workers;
}

lumo_workers *lumo_workers_ref(lumo_workers *workers) {
  atomic_fetch_add_explicit(&workers->references, 1, memory_order_relaxed);
  return workers;
}

void lumo_workers_unref(lumo_workers *workers) {
  if (!workers || atomic_fetch_sub_explicit(&workers->references, 1, memory_order_acq_rel) != 1) return;
  while (workers->seats) remove_last_seat(workers);
  pthread_mutex_destroy(&workers->lock);
  lumo_free(workers);
}

void lumo_workers_close(lumo_workers *workers) {
  pthread_mutex_lock(&workers->lock);
  if (!workers->closed) {
    workers->closed = true;
    count_leaving((int)workers->threads);
    call_all(workers);
  }
  pthread_mutex_unlock(&workers->lock);
}

/* Under the lock. *idle is to be called. False: *error says why not. */
static bool enqueue(lumo_workers *workers, lumo_task *task, seat **idle, lumo_error *error) {
  if (workers->closed) return lumo_error_set(error, "E_UNDEFINED_CONNECTION", "the connection is closed");
  if (workers->queued >= QUEUE_LIMIT) {
    error->retryable = true;
    return lumo_error_set(error, "E_TIMEOUT", "%u operations are waiting for a thread already",
                          workers->queued);
  }
  push(queue_of(workers, task), task);
  task->state = LUMO_TASK_QUEUED;
  workers->queued++;
  int status = get_thread(workers, idle);
  if (status == 0 || workers->threads > 0) return true;
  unqueue(workers, task);
  task->state = LUMO_TASK_NEW;
  error->retryable = true;
  return lumo_error_set(error, "E_UNSUPPORTED", "no thread can be started: %s", strerror(status));
}

void lumo_workers_submit(lumo_workers *workers, lumo_task *task, lumo_slot *slot) {
  lumo_error error;
  lumo_error_init(&error);
  task->slot = slot ? lumo_slot_ref(slot) : NULL;
  atomic_fetch_add_explicit(&task->references, 1, memory_order_relaxed);
  pthread_mutex_lock(&workers->lock);
  seat *idle = NULL;
  bool queued = enqueue(workers, task, &idle, &error);
  if (!queued) {
    task->class->fail(task, &error);
    task->state = LUMO_TASK_DONE;
  }
  pthread_mutex_unlock(&workers->lock);
  call(idle);
  if (queued) return;
  lumo_slot_wake(slot);
  if (task->detached) count_leaving(-1);
  lumo_task_unref(task);
}

bool lumo_workers_done(lumo_workers *workers, lumo_task *task) {
  pthread_mutex_lock(&workers->lock);
  bool done = task->state == LUMO_TASK_DONE;
  pthread_mutex_unlock(&workers->lock);
  return done;
}

/* Takes it out of the queue if it has not been started. */
static bool withdraw(lumo_workers *workers, lumo_task *task) {
  if (task->state != LUMO_TASK_QUEUED) return false;
  unqueue(workers, task);
  task->state = LUMO_TASK_DONE;
  return true;
}

void lumo_workers_cancel(lumo_workers *workers, lumo_task *task, const lumo_error *error) {
  pthread_mutex_lock(&workers->lock);
  bool withdrawn = withdraw(workers, task);
  if (withdrawn) task->class->fail(task, error);
  pthread_mutex_unlock(&workers->lock);
  if (!withdrawn) return;
  lumo_slot_wake(task->slot);
  lumo_task_unref(task);
}

void lumo_workers_abandon(lumo_workers *workers, lumo_task *task) {
  pthread_mutex_lock(&workers->lock);
  bool withdrawn = withdraw(workers, task);
  if (withdrawn || (task->state == LUMO_TASK_DONE && !task->dropped)) workers->dropped++;
  task->abandoned = true;
  if (task->state == LUMO_TASK_RUNNING) count_leaving(1);
  pthread_mutex_unlock(&workers->lock);
  if (withdrawn) lumo_task_unref(task);
  lumo_task_unref(task);
}

void lumo_workers_detach(lumo_workers *workers, lumo_task *task) {
  task->detached = task->abandoned = true;
  count_leaving(1);
  lumo_workers_submit(workers, task, NULL);
  lumo_task_unref(task);
}

void lumo_workers_count(lumo_workers *workers, lumo_workers_stats *stats) {
  pthread_mutex_lock(&workers->lock);
  *stats = (lumo_workers_stats){workers->threads, workers->running, workers->queued, workers->dropped};
  pthread_mutex_unlock(&workers->lock);
}

/* ---- the process ---- */

void lumo_workers_leave(int timeout_ms) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += (long)timeout_ms % 1000 * 1000000;
  until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_mutex_lock(&leaving.lock);
  while (leaving.count > 0 && pthread_cond_timedwait(&leaving.changed, &leaving.lock, &until) == 0) {
  }
  pthread_mutex_unlock(&leaving.lock);
}

void lumo_workers_forked(void) {
  pthread_mutex_init(&leaving.lock, NULL);
  pthread_cond_init(&leaving.changed, NULL);
  leaving.count = 0;
}
