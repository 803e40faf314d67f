/* The pool of threads and its slots, driven hard: this program is also run under ThreadSanitizer. */
#define _GNU_SOURCE

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core/mem.h"
#include "driver/worker.h"

static lumo_error error;
static atomic_uint made, freed, running, most_running;

/* A task that sleeps, or waits for its gate, and leaves a result. */
typedef struct job {
  lumo_task task;
  unsigned pause_us;
  atomic_bool *gate; /* not before this is true */
  unsigned *order;   /* takes the next number of its line, unguarded: only one may run at a time */
  unsigned number, result;
  bool failed;
  char code[32];
} job;

static void run_job(lumo_task *task) {
  job *one = (job *)task;
  unsigned now = atomic_fetch_add(&running, 1) + 1, most = atomic_load(&most_running);
  while (now > most && !atomic_compare_exchange_weak(&most_running, &most, now)) {
  }
  while (one->gate && !atomic_load(one->gate)) usleep(200);
  if (one->pause_us) usleep(one->pause_us);
  if (one->order) one->number = (*one->order)++;
  one->result = 4711;
  atomic_fetch_sub(&running, 1);
}

static void fail_job(lumo_task *task, const lumo_error *why) {
  job *one = (job *)task;
  one->failed = true;
  snprintf(one->code, sizeof one->code, "%s", why->code);
}

static void drop_job(lumo_task *task) {
  ((job *)task)->result = 0;
}

static void free_job(lumo_task *task) {
  atomic_fetch_add(&freed, 1);
  free(task);
}

static job *make_job(lumo_line *line) {
  static const lumo_task_class class = {run_job, fail_job, drop_job, free_job};
  job *one = calloc(1, sizeof *one);
  lumo_task_init(&one->task, &class, line);
  atomic_fetch_add(&made, 1);
  return one;
}

static void submit(lumo_workers *workers, job *one, lumo_slot *slot) {
  lumo_slot_expect(slot, 1);
  lumo_workers_submit(workers, &one->task, slot);
}

/* False when nothing comes. */
static bool wait_slot(lumo_slot *slot, int ms) {
  struct pollfd fd = {.fd = lumo_slot_fd(slot), .events = POLLIN};
  return poll(&fd, 1, ms) == 1 && lumo_slot_clear(slot);
}

static lumo_workers_stats count(lumo_workers *workers) {
  lumo_workers_stats stats;
  lumo_workers_count(workers, &stats);
  return stats;
}

/* Closes, and sees everything that was made freed. */
static void finish(lumo_workers *workers) {
  lumo_workers_close(workers);
  lumo_workers_unref(workers);
  lumo_workers_leave(5000);
  CHECK_INT(atomic_load(&freed), atomic_load(&made));
}

/* ---- many waiters ---- */

#define WAITERS 6
#define ROUNDS 500

static void *wait_often(void *argument) {
  lumo_workers *workers = argument;
  lumo_error ignored;
  lumo_slot *slot = lumo_slot_new(&ignored);
  long good = 0;
  for (int i = 0; i < ROUNDS; i++) {
    job *one = make_job(NULL);
    submit(workers, one, slot);
    bool woken = wait_slot(slot, 10000);
    good += woken && lumo_workers_done(workers, &one->task) && one->result == 4711;
    lumo_task_unref(&one->task);
  }
  lumo_slot_unref(slot);
  return (void *)good;
}

static void test_many_waiters(void) {
  lumo_workers *workers = lumo_workers_new(4, &error);
  pthread_t threads[WAITERS];
  atomic_store(&most_running, 0);
  for (int i = 0; i < WAITERS; i++) pthread_create(&threads[i], NULL, wait_often, workers);
  for (int i = 0; i < WAITERS; i++) {
    void *good;
    pthread_join(threads[i], &good);
    CHECK_INT((long)good, ROUNDS);
  }
  CHECK(atomic_load(&most_running) <= 4);
  CHECK(count(workers).threads <= 4);
  CHECK_INT(count(workers).dropped, 0);
  finish(workers);
}

/* ---- groups: one wake for several ---- */

static void test_group(void) {
  lumo_workers *workers = lumo_workers_new(3, &error);
  lumo_slot *slot = lumo_slot_new(&error);
  for (int round = 0; round < 200; round++) {
    job *jobs[5];
    lumo_slot_expect(slot, 5);
    for (int i = 0; i < 5; i++) {
      jobs[i] = make_job(NULL);
      jobs[i]->pause_us = (unsigned)(i * 50);
      lumo_workers_submit(workers, &jobs[i]->task, slot);
    }
    bool woken = wait_slot(slot, 10000);
    int done = 0;
    for (int i = 0; i < 5; i++) {
      done += lumo_workers_done(workers, &jobs[i]->task);
      lumo_task_unref(&jobs[i]->task);
    }
    if (!woken || done != 5) CHECK_INT(done, 5);
  }
  CHECK(!wait_slot(slot, 20)); /* no wake is left over */
  lumo_slot_unref(slot);
  finish(workers);
}

/* ---- lines: one at a time, in order, and past those that wait ---- */

#define LINES 5
#define IN_LINE 200

static void test_lines(void) {
  lumo_workers *workers = lumo_workers_new(4, &error);
  lumo_slot *slot = lumo_slot_new(&error);
  static lumo_line lines[LINES];
  unsigned order[LINES] = {0};
  static job *jobs[LINES][IN_LINE];
  lumo_slot_expect(slot, LINES * IN_LINE);
  for (int i = 0; i < IN_LINE; i++)
    for (int k = 0; k < LINES; k++) {
      jobs[k][i] = make_job(&lines[k]);
      jobs[k][i]->order = &order[k];
      lumo_workers_submit(workers, &jobs[k][i]->task, slot);
    }
  CHECK(wait_slot(slot, 20000));
  int wrong = 0;
  for (int k = 0; k < LINES; k++)
    for (int i = 0; i < IN_LINE; i++) {
      wrong += !lumo_workers_done(workers, &jobs[k][i]->task) || jobs[k][i]->number != (unsigned)i;
      lumo_task_unref(&jobs[k][i]->task);
    }
  CHECK_INT(wrong, 0);
  lumo_slot_unref(slot);
  finish(workers);
}

static void test_line_passes(void) {
  lumo_workers *workers = lumo_workers_new(2, &error);
  lumo_slot *slot = lumo_slot_new(&error), *other = lumo_slot_new(&error);
  lumo_line line = {0};
  atomic_bool gate = false;
  job *waiting[6], *lined = make_job(&line);
  lumo_slot_expect(slot, 6);
  for (int i = 0; i < 6; i++) {
    waiting[i] = make_job(NULL);
    waiting[i]->gate = &gate;
    lumo_workers_submit(workers, &waiting[i]->task, slot);
  }
  submit(workers, lined, other);
  CHECK(wait_slot(other, 5000)); /* although all threads for the others wait */
  for (int i = 0; i < 1000 && count(workers).running < 2; i++) usleep(1000);
  CHECK_INT(count(workers).running, 2);
  CHECK_INT(count(workers).queued, 4);
  atomic_store(&gate, true);
  CHECK(wait_slot(slot, 5000));
  CHECK(count(workers).threads <= 4);
  for (int i = 0; i < 6; i++) lumo_task_unref(&waiting[i]->task);
  lumo_task_unref(&lined->task);
  lumo_slot_unref(slot);
  lumo_slot_unref(other);
  finish(workers);
}

/* ---- cancelled, abandoned, detached ---- */

static void test_cancel(void) {
  lumo_workers *workers = lumo_workers_new(1, &error);
  lumo_slot *slot = lumo_slot_new(&error), *other = lumo_slot_new(&error);
  atomic_bool gate = false;
  job *busy = make_job(NULL), *late = make_job(NULL);
  lumo_error why;
  lumo_error_init(&why);
  lumo_error_set(&why, "E_TIMEOUT", "late");
  busy->gate = &gate;
  submit(workers, busy, slot);
  submit(workers, late, other);
  CHECK(!wait_slot(other, 50));
  lumo_workers_cancel(workers, &late->task, &why);
  CHECK(wait_slot(other, 5000));
  CHECK(lumo_workers_done(workers, &late->task) && late->failed && late->result == 0);
  CHECK_TEXT(late->code, strlen(late->code), "E_TIMEOUT");
  while (count(workers).running == 0) usleep(100);
  lumo_workers_cancel(workers, &busy->task, &why); /* it runs: nothing happens */
  atomic_store(&gate, true);
  CHECK(wait_slot(slot, 5000));
  CHECK(!busy->failed && busy->result == 4711);
  lumo_task_unref(&busy->task);
  lumo_task_unref(&late->task);
  lumo_slot_unref(slot);
  lumo_slot_unref(other);
  finish(workers);
}

static void test_abandon(void) {
  lumo_workers *workers = lumo_workers_new(1, &error);
  lumo_slot *slot = lumo_slot_new(&error);
  atomic_bool gate = false;
  job *busy = make_job(NULL), *queued = make_job(NULL), *fresh = make_job(NULL);
  busy->gate = &gate;
  submit(workers, busy, slot);
  lumo_workers_submit(workers, &queued->task, NULL);
  while (count(workers).running == 0) usleep(100);
  unsigned before = atomic_load(&freed);
  lumo_workers_abandon(workers, &queued->task);
  lumo_workers_abandon(workers, &fresh->task);
  CHECK_INT(atomic_load(&freed) - before, 2);
  lumo_workers_abandon(workers, &busy->task);
  lumo_slot_unref(slot); /* the task keeps it open */
  lumo_workers_leave(20);
  CHECK_INT(atomic_load(&freed) - before, 2); /* it still runs: waiting for it was given up */
  atomic_store(&gate, true);
  lumo_workers_leave(5000);
  CHECK_INT(atomic_load(&freed) - before, 3);
  CHECK_INT(count(workers).dropped, 2);
  finish(workers);
}

static void test_detach(void) {
  lumo_workers *workers = lumo_workers_new(2, &error);
  unsigned before = atomic_load(&freed);
  for (int i = 0; i < 50; i++) {
    job *one = make_job(NULL);
    one->pause_us = 500;
    lumo_workers_detach(workers, &one->task);
  }
  lumo_workers_leave(5000);
  CHECK_INT(atomic_load(&freed) - before, 50);
  CHECK_INT(count(workers).dropped, 0);
  finish(workers);
}

static void test_close(void) {
  lumo_workers *workers = lumo_workers_new(2, &error);
  lumo_slot *slot = lumo_slot_new(&error);
  job *jobs[20], *late = make_job(NULL);
  lumo_slot_expect(slot, 20);
  for (int i = 0; i < 20; i++) {
    jobs[i] = make_job(NULL);
    jobs[i]->pause_us = 1000;
    lumo_workers_submit(workers, &jobs[i]->task, slot);
  }
  lumo_workers_close(workers);
  submit(workers, late, NULL);
  CHECK(late->failed);
  CHECK_TEXT(late->code, strlen(late->code), "E_UNDEFINED_CONNECTION");
  CHECK(wait_slot(slot, 5000)); /* what was there before is done */
  for (int i = 0; i < 20; i++) {
    CHECK(lumo_workers_done(workers, &jobs[i]->task));
    lumo_task_unref(&jobs[i]->task);
  }
  lumo_task_unref(&late->task);
  lumo_slot_unref(slot);
  finish(workers);
}

/* ---- all of it at once ---- */

static void *mix(void *argument) {
  lumo_workers *workers = argument;
  lumo_error ignored;
  lumo_line line = {0};
  unsigned seed = (unsigned)(uintptr_t)&line;
  lumo_slot *slot = lumo_slot_new(&ignored);
  lumo_error_init(&ignored);
  lumo_error_set(&ignored, "E_TIMEOUT", "late");
  for (int i = 0; i < ROUNDS; i++) {
    job *one = make_job(rand_r(&seed) % 3 == 0 ? &line : NULL);
    one->pause_us = (unsigned)rand_r(&seed) % 200;
    switch (rand_r(&seed) % 4) {
    case 0:
      lumo_slot_unref(slot); /* as a waiter that dies: its slot is never used again */
      slot = lumo_slot_new(&ignored);
      submit(workers, one, slot);
      lumo_slot_unref(slot);
      slot = lumo_slot_new(&ignored);
      lumo_workers_abandon(workers, &one->task);
      break;
    case 1:
      submit(workers, one, slot);
      lumo_workers_cancel(workers, &one->task, &ignored);
      wait_slot(slot, 10000);
      lumo_task_unref(&one->task);
      break;
    case 2:
      if (one->task.line) one->task.line = NULL; /* the line ends with this function */
      lumo_workers_detach(workers, &one->task);
      break;
    default:
      submit(workers, one, slot);
      wait_slot(slot, 10000);
      lumo_task_unref(&one->task);
    }
  }
  /* The line must outlive the abandoned tasks on it. */
  job *last = make_job(&line);
  submit(workers, last, slot);
  bool good = wait_slot(slot, 10000) && lumo_workers_done(workers, &last->task);
  lumo_task_unref(&last->task);
  lumo_slot_unref(slot);
  return good ? workers : NULL;
}

static void test_mix(void) {
  lumo_workers *workers = lumo_workers_new(4, &error);
  pthread_t threads[WAITERS];
  for (int i = 0; i < WAITERS; i++) pthread_create(&threads[i], NULL, mix, workers);
  for (int i = 0; i < WAITERS; i++) {
    void *good;
    pthread_join(threads[i], &good);
    CHECK(good != NULL);
  }
  CHECK(count(workers).threads <= 8);
  finish(workers);
}

/* ---- signals ---- */

static _Atomic(pthread_t) handled_by;

static void on_signal(int number) {
  (void)number;
  atomic_store(&handled_by, pthread_self());
}

static void test_signals(void) {
  struct sigaction action = {.sa_handler = on_signal}, before;
  sigaction(SIGUSR1, &action, &before);
  lumo_workers *workers = lumo_workers_new(4, &error);
  for (int i = 0; i < 8; i++) {
    job *one = make_job(NULL);
    one->pause_us = 20000;
    lumo_workers_detach(workers, &one->task);
  }
  for (int i = 0; i < 20; i++) {
    atomic_store(&handled_by, 0);
    kill(getpid(), SIGUSR1);
    usleep(500);
    CHECK(pthread_equal(atomic_load(&handled_by), pthread_self()));
  }
  finish(workers);
  sigaction(SIGUSR1, &before, NULL);
}

/* ---- the listener ---- */

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

/* A second process is this program with another part: a forked one has this one's memory, which tools take
 * for its leaks. */
static const char *self;

static void run_self(const char *part, const char *path) {
  execl(self, self, part, path, (char *)NULL);
  _exit(127);
}

/* Another process that knows the token: it is not let in. */
static int intrude(const char *path) {
  char byte;
  int fd = connect_to(path);
  if (fd < 0) return 2;
  send(fd, "cccccccc", 8, MSG_NOSIGNAL); /* it may be closed already */
  return read(fd, &byte, 1) <= 0 ? 0 : 1;
}

/* Leaves its folder behind, and tells where. */
static int leave(void) {
  char folder[128] = "";
  lumo_listener *listener = lumo_listener_new(&error);
  snprintf(folder, sizeof folder, "%s", listener ? lumo_listener_path(listener) : "/");
  *strrchr(folder, '/') = '\0';
  _exit(write(1, folder, sizeof folder) == sizeof folder ? 0 : 1);
}

static void test_listener(void) {
  char folder[128], byte;
  struct stat status;
  lumo_listener *listener = lumo_listener_new(&error);
  if (!CHECK(listener != NULL)) return;
  snprintf(folder, sizeof folder, "%s", lumo_listener_path(listener));
  *strrchr(folder, '/') = '\0';
  CHECK(stat(folder, &status) == 0 && (status.st_mode & 0777) == 0700);

  int a = connect_to(lumo_listener_path(listener)), b = connect_to(lumo_listener_path(listener));
  CHECK_INT(write(b, "bbbbbbbb", 8), 8);
  CHECK_INT(write(a, "aaaa", 4), 4);
  CHECK(lumo_listener_accept(listener, "aaaaaaaa", &error) == NULL); /* half a token is none */
  CHECK_INT(write(a, "aaaa", 4), 4);
  lumo_slot *slot = lumo_listener_accept(listener, "aaaaaaaa", &error);
  CHECK(slot != NULL);
  CHECK(lumo_listener_accept(listener, "aaaaaaaa", &error) == NULL); /* once */

  lumo_workers *workers = lumo_workers_new(2, &error);
  for (int i = 0; i < 3; i++) {
    job *one = make_job(NULL);
    submit(workers, one, slot);
    CHECK_INT(read(a, &byte, 1), 1);
    CHECK(lumo_workers_done(workers, &one->task));
    lumo_task_unref(&one->task);
  }
  close(a); /* the waiter is gone: nobody is hurt, by a signal neither, and the result is dropped at once */
  job *one = make_job(NULL);
  submit(workers, one, slot);
  while (!lumo_workers_done(workers, &one->task)) usleep(100);
  CHECK_INT(one->result, 0);
  CHECK_INT(count(workers).dropped, 1);
  lumo_workers_abandon(workers, &one->task);
  CHECK_INT(count(workers).dropped, 1);
  lumo_slot_unref(slot);
  finish(workers);

  pid_t child = fork();
  if (child == 0) {
    char path[128];
    snprintf(path, sizeof path, "%s", lumo_listener_path(listener));
    lumo_listener_free(listener); /* the folder is the parent's */
    run_self("intrude", path);
  }
  int ended = 1;
  for (int i = 0; i < 500 && waitpid(child, &ended, WNOHANG) == 0; i++) {
    CHECK(lumo_listener_accept(listener, "cccccccc", &error) == NULL);
    usleep(10000);
  }
  CHECK_INT(ended, 0);
  slot = lumo_listener_accept(listener, "bbbbbbbb", &error);
  CHECK(slot != NULL);
  lumo_slot_unref(slot);
  close(b);
  lumo_listener_free(listener);
  CHECK(stat(folder, &status) != 0);
}

/* What a process that was killed has left is removed by the next one. */
static void test_sweep(void) {
  int ends[2];
  char folder[128] = "";
  struct stat status;
  CHECK(pipe(ends) == 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    run_self("leave", "");
  }
  CHECK_INT(read(ends[0], folder, sizeof folder), sizeof folder);
  waitpid(child, NULL, 0);
  CHECK(stat(folder, &status) == 0);
  lumo_listener *listener = lumo_listener_new(&error);
  CHECK(stat(folder, &status) != 0);
  lumo_listener_free(listener);
  close(ends[0]);
  close(ends[1]);
}

static void test_no_memory(void) {
  for (unsigned long n = 1; n <= 2; n++) {
    lumo_error_init(&error);
    lumo_mem_fail_at(1);
    bool failed = n == 1 ? !lumo_workers_new(1, &error) : !lumo_listener_new(&error);
    lumo_mem_fail_at(0);
    CHECK(failed && strcmp(error.code, "E_MEMORY") == 0);
  }
  lumo_error_init(&error);
  lumo_mem_fail_at(1);
  CHECK(!lumo_slot_new(&error) && strcmp(error.code, "E_MEMORY") == 0);
  lumo_mem_fail_at(0);
}

int main(int argc, char **argv) {
  lumo_error_init(&error);
  self = argv[0];
  if (argc == 3) return strcmp(argv[1], "intrude") == 0 ? intrude(argv[2]) : leave();
  test_many_waiters();
  test_group();
  test_lines();
  test_line_passes();
  test_cancel();
  test_abandon();
  test_detach();
  test_close();
  test_mix();
  test_signals();
  test_listener();
  test_sweep();
  test_no_memory();
  return check_report();
}
