/* Three processes: the owner (the Lua process), the watcher and the server. The watcher is a grandchild of
 * the owner, so the owner has no child that it did not ask for and no zombie. The owner may have threads,
 * so from the fork on the watcher makes async-signal-safe calls only: no malloc, no stdio, no locale. All
 * that can fail with a message worth reading, and all memory, is prepared before. */
#define _GNU_SOURCE
#include "watcher.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOCK_FILE "lumo.lock"
#define WATCHER_NAME "lumo-watcher"
#define STOP_MS 5000   /* what the server gets between SIGTERM and SIGKILL */
#define CLOSE_MS 15000 /* what the owner waits for the watcher, which never needs it all */
#define DEPTH_MAX 16   /* folders in folders that are removed; a server makes two levels */

/* What the watcher tells the owner, as one packet. */
typedef struct {
  enum { STARTED, FAILED, ENDED } what;
  int value; /* the server's pid; an errno; the server's wait status */
} message;

/* The descriptors that the watcher keeps, at these numbers; 0 to 2 are /dev/null. */
enum { CONTROL = 3, OWNER, DIRECTORY, LOG, LOCK, KEPT_END };

/* All that the watcher needs, prepared by the owner. */
typedef struct {
  char *const *argv, *const *envp;
  const char *folder; /* NULL: not to be removed */
  char *title;        /* where this process' command line stands, for ps; or NULL */
  size_t title_size;
  int null;
  int kept[KEPT_END]; /* by the numbers above, at the owner's numbers; the first three are not used */
} plan;

static int pidfd_open_of(pid_t pid) {
  return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void fd_close(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* ---- removing a folder, without malloc: for both sides ---- */

typedef struct {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
} directory_entry; /* the kernel's linux_dirent64 */

static void folder_empty(int folder, int depth);

static bool entry_remove(int folder, const char *name, int depth) {
  if (unlinkat(folder, name, 0) == 0) return true;
  if (errno != EISDIR || depth == 0) return false;
  int inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (inner < 0) return false;
  folder_empty(inner, depth - 1);
  close(inner);
  return unlinkat(folder, name, AT_REMOVEDIR) == 0;
}

/* Links are removed, not followed. Reads again after removing, since a listing may skip entries while it
 * shrinks. */
static void folder_empty(int folder, int depth) {
  _Alignas(directory_entry) char buffer[2048];
  bool removed;
  do {
    removed = false;
    lseek(folder, 0, SEEK_SET);
    long size;
    while ((size = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0) {
      for (long at = 0; at < size;) {
        const directory_entry *entry = (const directory_entry *)(buffer + at);
        at += entry->length;
        if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0)
          removed |= entry_remove(folder, entry->name, depth);
      }
    }
  } while (removed);
}

static void folder_remove(int folder, const char *path) {
  folder_empty(folder, DEPTH_MAX);
  rmdir(path);
}

/* ---- the lock: its file names the owner ---- */

/* 0: nobody has written it yet, or its server is stopping. */
static pid_t lock_holder(int lock) {
  char text[16];
  ssize_t length = pread(lock, text, sizeof text - 1, 0);
  text[length > 0 ? length : 0] = '\0';
  return (pid_t)strtol(text, NULL, 10);
}

static bool lock_write(int lock, pid_t owner) {
  char text[16];
  int length = snprintf(text, sizeof text, "%d\n", (int)owner);
  return ftruncate(lock, 0) == 0 && pwrite(lock, text, (size_t)length, 0) == length;
}

/* No owner in it: stopping. */
static void lock_clear(int lock) {
  if (ftruncate(lock, 0) < 0)
    return; /* the next one to try reads an owner that has ended, and waits just so */
}

/* ---- the server's side of its fork ---- */

static _Noreturn void server_exec(const plan *p, pid_t watcher, int failure) {
  setsid(); /* a group of its own, so that stopping reaches what a wrapper script has started */
  sigset_t none;
  sigemptyset(&none);
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == watcher && dup2(LOG, 1) == 1 &&
      dup2(LOG, 2) == 2 && sigprocmask(SIG_SETMASK, &none, NULL) == 0)
    execve(p->argv[0], p->argv, p->envp);
  int code = errno;
  if (write(failure, &code, sizeof code) < 0) _exit(126);
  _exit(127);
}

/* ---- the watcher ---- */

static void tell(int control, int what, int value) {
  message m = {what, value};
  send(control, &m, sizeof m, MSG_NOSIGNAL | MSG_DONTWAIT); /* an owner that is gone needs no word */
}

/* Handlers of the owner must not run here, nor what it ignores be ignored by the server. Signals stay
 * blocked. */
static void signals_reset(void) {
  struct sigaction standard = {.sa_handler = SIG_DFL};
  for (int number = 1; number < NSIG; number++) sigaction(number, &standard, NULL);
}

static void descriptors_close_from(int first) {
  if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
  long limit = sysconf(_SC_OPEN_MAX); /* before Linux 5.9 */
  for (int fd = first; fd < (limit > 0 && limit < 65536 ? limit : 65536); fd++) close(fd);
}

/* `ps` and `pkill -f` are not to take the watcher for the script that it watches. */
static void title_set(const plan *p) {
  prctl(PR_SET_NAME, WATCHER_NAME);
  for (size_t i = 0; i < p->title_size; i++) p->title[i] = i < sizeof WATCHER_NAME ? WATCHER_NAME[i] : '\0';
}

/* Leaves the descriptors of the enumeration above and no other: a pipe of the owner's that stayed open
 * here would keep its reader waiting. Only the lock goes on to the server, which so holds the folder for
 * as long as it lives. */
static bool descriptors_keep(plan *p) {
  for (int i = CONTROL; i < KEPT_END; i++)
    if ((p->kept[i] = fcntl(p->kept[i], F_DUPFD_CLOEXEC, KEPT_END)) < 0) return false;
  for (int i = 0; i < CONTROL; i++)
    if (dup2(p->null, i) < 0) return false;
  for (int i = CONTROL; i < KEPT_END; i++)
    if (dup3(p->kept[i], i, i == LOCK ? 0 : O_CLOEXEC) < 0) return false;
  descriptors_close_from(KEPT_END);
  return true;
}

/* The server's pid, or 0 and errno. Returns when the program has been executed. */
static pid_t server_start(const plan *p) {
  int failure[2];
  if (pipe2(failure, O_CLOEXEC) < 0) return 0;
  pid_t watcher = getpid(), server = _Fork();
  if (server == 0) server_exec(p, watcher, failure[1]);
  int code = server < 0 ? errno : 0;
  close(failure[1]);
  if (server > 0 && read(failure[0], &code, sizeof code) > 0) waitpid(server, NULL, 0);
  close(failure[0]);
  errno = code;
  return code == 0 ? server : 0;
}

/* For a server that has ended. What a wrapper script left behind goes with it: the group still exists,
 * because its leader is reaped last. */
static int server_reap(pid_t server) {
  int status = 0;
  kill(-server, SIGKILL);
  waitpid(server, &status, 0);
  return status;
}

static void server_stop(pid_t server, int server_fd) {
  struct pollfd end = {.fd = server_fd, .events = POLLIN};
  kill(-server, SIGTERM);
  if (poll(&end, 1, STOP_MS) != 1) kill(-server, SIGKILL);
  server_reap(server);
}

/* One byte on the socket asks for the end. The socket's own end does not: an owner that executes another
 * program loses it and lives on, and its pidfd still tells when it ends. */
static bool asked_to_stop(struct pollfd *control) {
  char byte;
  if (control->revents != 0 && recv(control->fd, &byte, 1, MSG_DONTWAIT) > 0) return true;
  if ((control->revents & POLLHUP) != 0) control->fd = -1;
  return false;
}

/* Returns when the server is to go: its owner has ended, has asked for it, or SIGTERM came. A server that
 * ends by itself is told to the owner, and its folder waits for it: the log is there. True: the server has
 * ended. */
static bool watch(pid_t server, int server_fd, int signals) {
  struct pollfd ends[] = {{.fd = OWNER, .events = POLLIN},
                          {.fd = CONTROL, .events = POLLIN},
                          {.fd = signals, .events = POLLIN},
                          {.fd = server_fd, .events = POLLIN}};
  do {
    poll(ends, 4, -1);
    if (ends[3].revents != 0) {
      tell(CONTROL, ENDED, server_reap(server));
      ends[3].fd = -1;
    }
  } while (ends[0].revents == 0 && ends[2].revents == 0 && !asked_to_stop(&ends[1]));
  return ends[3].fd < 0;
}

static _Noreturn void watcher_main(plan *p) {
  signals_reset();
  title_set(p);
  if (!descriptors_keep(p)) {
    tell(p->kept[CONTROL], FAILED, errno);
    _exit(1);
  }
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  int signals = signalfd(-1, &term, SFD_CLOEXEC);
  pid_t server = signals < 0 ? 0 : server_start(p);
  int server_fd = server == 0 ? -1 : pidfd_open_of(server);
  if (server_fd < 0) {
    tell(CONTROL, FAILED, errno);
    if (server > 0) {
      kill(-server, SIGKILL);
      server_reap(server);
    }
    _exit(1); /* the owner has the folder and removes it */
  }
  tell(CONTROL, STARTED, server);
  bool ended = watch(server, server_fd, signals);
  lock_clear(LOCK);
  if (!ended) server_stop(server, server_fd);
  if (p->folder != NULL) folder_remove(DIRECTORY, p->folder);
  close(LOCK); /* before the socket, whose end tells the owner that the folder is free */
  _exit(0);
}

/* In the owner's child, which ends at once so that the watcher is nobody's. */
static _Noreturn void watcher_detach(plan *p) {
  setsid(); /* Ctrl-C is for the owner; its end is for the watcher */
  pid_t watcher = _Fork();
  if (watcher == 0) watcher_main(p);
  if (watcher < 0) tell(p->kept[CONTROL], FAILED, errno);
  _exit(0);
}

/* ---- the owner: the folder ---- */

void lumo_watcher_init(lumo_watcher *watcher) {
  *watcher = (lumo_watcher){.control = -1, .lock = -1, .directory = -1};
}

static bool folder_error(lumo_error *error, const char *verb, const char *path) {
  return lumo_error_set(error, "E_ARGUMENT", "cannot %s the folder \"%s\": %s", verb, path, strerror(errno));
}

static bool folder_make(lumo_watcher *watcher, const char *path, lumo_error *error) {
  size_t length = strlen(path);
  if (length == 0 || length >= sizeof watcher->folder) {
    errno = length == 0 ? ENOENT : ENAMETOOLONG;
    return folder_error(error, "create", path);
  }
  char prefix[PATH_MAX];
  for (size_t end = 1; end <= length; end++) {
    if (path[end] != '/' && path[end] != '\0') continue;
    memcpy(prefix, path, end);
    prefix[end] = '\0';
    if (mkdir(prefix, 0700) < 0 && errno != EEXIST) return folder_error(error, "create", path);
  }
  return realpath(path, watcher->folder) != NULL || folder_error(error, "open", path);
}

static bool folder_make_temporary(lumo_watcher *watcher, lumo_error *error) {
  const char *parent = getenv("TMPDIR");
  if (parent == NULL || parent[0] == '\0') parent = "/tmp";
  char resolved[PATH_MAX];
  if (realpath(parent, resolved) == NULL) return folder_error(error, "open", parent);
  if (snprintf(watcher->folder, sizeof watcher->folder, "%s/lumo-XXXXXX", resolved) >=
      (int)sizeof watcher->folder)
    errno = ENAMETOOLONG;
  else if (mkdtemp(watcher->folder) != NULL)
    return watcher->temporary = true;
  return folder_error(error, "create a temporary folder in", parent);
}

/* The lock belongs to the open file, so it lives on in the watcher and in the server, whatever the owner
 * does. */
static lumo_folder_result folder_lock(lumo_watcher *watcher, pid_t *holder, lumo_error *error) {
  watcher->directory = open(watcher->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (watcher->directory >= 0)
    watcher->lock = openat(watcher->directory, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (watcher->lock < 0) {
    folder_error(error, watcher->directory < 0 ? "open" : "write to", watcher->folder);
    return LUMO_FOLDER_FAILED;
  }
  if (flock(watcher->lock, LOCK_EX | LOCK_NB) == 0 && lock_write(watcher->lock, watcher->owner))
    return LUMO_FOLDER_OPENED;
  lumo_folder_result result = errno == EWOULDBLOCK ? LUMO_FOLDER_LOCKED : LUMO_FOLDER_FAILED;
  if (result == LUMO_FOLDER_LOCKED)
    *holder = lock_holder(watcher->lock);
  else
    folder_error(error, "lock", watcher->folder);
  fd_close(&watcher->lock); /* lumo_watcher_close clears only a file that is ours */
  return result;
}

lumo_folder_result lumo_watcher_open(lumo_watcher *watcher, const char *path, pid_t *holder,
                                     lumo_error *error) {
  lumo_folder_result result = LUMO_FOLDER_FAILED;
  watcher->owner = getpid();
  if (path == NULL ? folder_make_temporary(watcher, error) : folder_make(watcher, path, error))
    result = folder_lock(watcher, holder, error);
  if (result != LUMO_FOLDER_OPENED) lumo_watcher_close(watcher);
  return result;
}

/* ---- the owner: the processes ---- */

static bool start_error(lumo_error *error, const char *program, int code) {
  return lumo_error_set(error, "E_UNSUPPORTED", "cannot start \"%s\": %s", program, strerror(code));
}

/* Fields 48 and 49 of /proc/self/stat are the addresses of the command line; the second field may hold
 * blanks. */
static void plan_find_title(plan *p) {
  char stat[2048] = "";
  int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  ssize_t length = read(file, stat, sizeof stat - 1);
  fd_close(&file);
  char *field = length > 0 ? strrchr(stat, ')') : NULL;
  for (int i = 2; field != NULL && i < 48; i++) field = strchr(field + 1, ' ');
  if (field == NULL) return;
  uintptr_t start = strtoull(field, &field, 10), end = strtoull(field, NULL, 10);
  if (start == 0 || end <= start) return;
  p->title = (char *)start;
  p->title_size = end - start;
}

/* Both processes' descriptors; those of the watcher are closed here once it has its copies. */
static bool plan_open(const lumo_watcher *watcher, plan *p, int *control, lumo_error *error) {
  int pair[2];
  if ((p->kept[OWNER] = pidfd_open_of(watcher->owner)) < 0)
    return lumo_error_set(error, "E_UNSUPPORTED",
                          "an embedded server needs Linux 5.3 or later (pidfd_open: %s)", strerror(errno));
  p->kept[LOG] = openat(watcher->directory, LUMO_WATCHER_LOG,
                        O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (p->kept[LOG] < 0) return folder_error(error, "write a log to", watcher->folder);
  if ((p->null = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
    return start_error(error, p->argv[0], errno);
  *control = pair[0];
  p->kept[CONTROL] = pair[1];
  return true;
}

static void plan_close(plan *p) {
  fd_close(&p->null);
  fd_close(&p->kept[OWNER]);
  fd_close(&p->kept[LOG]);
  fd_close(&p->kept[CONTROL]);
}

/* Signals wait while there is a moment in which a handler of the owner could run in the child. */
static bool watcher_fork(plan *p) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t child = _Fork();
  if (child == 0) watcher_detach(p);
  int code = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR) {
  }
  errno = code;
  return child > 0;
}

/* The next message; false when the watcher process is gone. */
static bool message_read(int control, message *m) {
  ssize_t size;
  while ((size = recv(control, m, sizeof *m, 0)) < 0 && errno == EINTR) {
  }
  return size == (ssize_t)sizeof *m;
}

bool lumo_watcher_run(lumo_watcher *watcher, char *const argv[], char *const envp[], lumo_error *error) {
  plan p = {.argv = argv,
            .envp = envp,
            .folder = watcher->temporary ? watcher->folder : NULL,
            .null = -1,
            .kept = {-1, -1, -1, [CONTROL] = -1, [OWNER] = -1, [DIRECTORY] = watcher->directory, [LOG] = -1,
                     [LOCK] = watcher->lock}};
  plan_find_title(&p);
  int control = -1;
  bool forked = plan_open(watcher, &p, &control, error);
  if (forked && !(forked = watcher_fork(&p))) start_error(error, argv[0], errno);
  plan_close(&p);
  message first = {FAILED, ECHILD}; /* a watcher that was killed sends none */
  if (!forked || !message_read(control, &first) || first.what != STARTED) {
    fd_close(&control);
    return forked ? start_error(error, argv[0], first.value) : false;
  }
  watcher->control = control;
  watcher->server = first.value;
  fd_close(&watcher->lock);
  fd_close(&watcher->directory);
  return true;
}

bool lumo_watcher_wait(lumo_watcher *watcher, int milliseconds) {
  if (watcher->owner != getpid() || watcher->control < 0 || watcher->ended) return watcher->ended;
  struct pollfd end = {.fd = watcher->control, .events = POLLIN};
  message m;
  if (poll(&end, 1, milliseconds) == 1) {
    watcher->ended = true;
    watcher->status = message_read(watcher->control, &m) ? m.value : -1;
  }
  return watcher->ended;
}

static int64_t milliseconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Asks for the end, and waits for the end of the socket: the watcher closes it last. */
static void watcher_stop(int control) {
  struct pollfd end = {.fd = control, .events = POLLIN};
  int64_t deadline = milliseconds_now() + CLOSE_MS, left;
  send(control, "", 1, MSG_NOSIGNAL);
  while ((left = deadline - milliseconds_now()) > 0) {
    message m;
    if (poll(&end, 1, (int)left) == 1 && !message_read(control, &m)) return;
  }
}

void lumo_watcher_close(lumo_watcher *watcher) {
  if (watcher->owner == getpid()) {
    if (watcher->control >= 0)
      watcher_stop(watcher->control);
    else if (watcher->temporary)
      folder_remove(watcher->directory, watcher->folder);
    else if (watcher->lock >= 0)
      lock_clear(watcher->lock);
  }
  fd_close(&watcher->control);
  fd_close(&watcher->lock);
  fd_close(&watcher->directory);
  lumo_watcher_init(watcher);
}

int lumo_watcher_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool bound = probe >= 0 && bind(probe, (struct sockaddr *)&address, length) == 0 &&
               getsockname(probe, (struct sockaddr *)&address, &length) == 0;
  fd_close(&probe);
  return bound ? ntohs(address.sin_port) : 0;
}
