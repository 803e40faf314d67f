/* Slots, and the socket through which a process gets them where its loop gives no descriptor away. */
#define _GNU_SOURCE /* accept4, struct ucred */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../core/mem.h"
#include "worker.h"

struct lumo_slot {
  atomic_uint references;
  atomic_size_t expected; /* wakes to come */
  int fd;                 /* an eventfd, or our end of a connection; below 0 when its waiter has left */
  bool is_socket;
};

static lumo_slot *make_slot(int fd, bool is_socket, lumo_error *error) {
  lumo_slot *slot = lumo_malloc(sizeof *slot);
  if (!slot) {
    close(fd);
    lumo_error_memory(error);
    return NULL;
  }
  slot->fd = fd;
  slot->is_socket = is_socket;
  atomic_init(&slot->references, 1);
  atomic_init(&slot->expected, 0);
  return slot;
}

static bool refuse(lumo_error *error, const char *what) {
  error->retryable = true;
  return lumo_error_set(error, "E_UNSUPPORTED", "%s: %s", what, strerror(errno));
}

lumo_slot *lumo_slot_new(lumo_error *error) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd >= 0) return make_slot(fd, false, error);
  refuse(error, "no descriptor to wait with");
  return NULL;
}

lumo_slot *lumo_slot_ref(lumo_slot *slot) {
  atomic_fetch_add_explicit(&slot->references, 1, memory_order_relaxed);
  return slot;
}

void lumo_slot_unref(lumo_slot *slot) {
  if (!slot || atomic_fetch_sub_explicit(&slot->references, 1, memory_order_acq_rel) != 1) return;
  if (slot->fd >= 0) close(slot->fd);
  lumo_free(slot);
}

int lumo_slot_fd(const lumo_slot *slot) {
  return slot->fd;
}

bool lumo_slot_clear(lumo_slot *slot) {
  uint64_t wakes;
  return read(slot->fd, &wakes, sizeof wakes) == sizeof wakes;
}

void lumo_slot_expect(lumo_slot *slot, size_t wakes) {
  if (slot) atomic_store_explicit(&slot->expected, wakes, memory_order_relaxed);
}

void lumo_slot_wake(lumo_slot *slot) {
  if (!slot || atomic_fetch_sub_explicit(&slot->expected, 1, memory_order_acq_rel) != 1) return;
  uint64_t one = 1;
  ssize_t written;
  do written = slot->is_socket ? send(slot->fd, "!", 1, MSG_NOSIGNAL) : write(slot->fd, &one, sizeof one);
  while (written < 0 && errno == EINTR);
  if (written > 0 || !slot->is_socket) return;
  /* The waiter has closed its end, and this was the last use of ours: a descriptor is too dear to wait for
   * the collector. */
  close(slot->fd);
  slot->fd = -1;
}

bool lumo_slot_is_left(const lumo_slot *slot) {
  char byte;
  return slot && slot->is_socket && recv(slot->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* ---- the listener ---- */

#define FOLDER "lumo-wait-" /* then the process, and what makes it unique */
#define BACKLOG 511

/* A connection that has not told its token yet, or whose owner has not asked for it. */
typedef struct arrival {
  struct arrival *next;
  int fd;
  size_t len;
  char token[LUMO_TOKEN_LENGTH];
} arrival;

struct lumo_listener {
  int fd;
  pid_t pid;
  arrival *arrivals;
  char folder[80];
  struct sockaddr_un address;
};

static const char *temporary_folder(void) {
  const char *folder = getenv("TMPDIR");
  return folder && folder[0] == '/' && strlen(folder) < 40 ? folder : "/tmp";
}

static void remove_folder(const char *folder) {
  char path[144];
  snprintf(path, sizeof path, "%s/socket", folder);
  unlink(path);
  rmdir(folder);
}

/* Processes that were killed have left their folders. */
static void sweep(const char *parent) {
  DIR *dir = opendir(parent);
  if (!dir) return;
  for (struct dirent *entry; (entry = readdir(dir));) {
    char folder[128];
    struct stat status;
    int pid, len = 0;
    if (sscanf(entry->d_name, FOLDER "%d-%n", &pid, &len) != 1 || len == 0 || pid <= 0) continue;
    if (kill(pid, 0) == 0 || errno != ESRCH) continue;
    if (snprintf(folder, sizeof folder, "%s/%s", parent, entry->d_name) >= (int)sizeof folder) continue;
    if (lstat(folder, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid())
      remove_folder(folder);
  }
  closedir(dir);
}

static bool open_listener(lumo_listener *listener, lumo_error *error) {
  sweep(temporary_folder());
  snprintf(listener->folder, sizeof listener->folder, "%s/" FOLDER "%d-XXXXXX", temporary_folder(),
           (int)getpid());
  if (!mkdtemp(listener->folder)) { /* with mode 0700 */
    int status = errno;
    listener->folder[0] = '\0';
    errno = status;
    return refuse(error, "no folder can be made for the socket that requests wait with");
  }
  listener->address.sun_family = AF_UNIX;
  snprintf(listener->address.sun_path, sizeof listener->address.sun_path, "%s/socket", listener->folder);
  listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener->fd >= 0 &&
      bind(listener->fd, (struct sockaddr *)&listener->address, sizeof listener->address) == 0 &&
      listen(listener->fd, BACKLOG) == 0)
    return true;
  return refuse(error, "no socket that requests can wait with");
}

lumo_listener *lumo_listener_new(lumo_error *error) {
  lumo_listener *listener = lumo_calloc(1, sizeof *listener);
  if (!listener) {
    lumo_error_memory(error);
    return NULL;
  }
  listener->fd = -1;
  listener->pid = getpid();
  if (open_listener(listener, error)) return listener;
  lumo_listener_free(listener);
  return NULL;
}

void lumo_listener_free(lumo_listener *listener) {
  if (!listener) return;
  while (listener->arrivals) {
    arrival *next = listener->arrivals->next;
    close(listener->arrivals->fd);
    lumo_free(listener->arrivals);
    listener->arrivals = next;
  }
  if (listener->fd >= 0) close(listener->fd);
  if (listener->folder[0] && listener->pid == getpid()) remove_folder(listener->folder);
  lumo_free(listener);
}

const char *lumo_listener_path(const lumo_listener *listener) {
  return listener->address.sun_path;
}

static bool is_own(int fd) {
  struct ucred peer;
  socklen_t len = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == getpid();
}

static bool take_arrivals(lumo_listener *listener, lumo_error *error) {
  for (;;) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    if (fd < 0) return refuse(error, "no descriptor to wait with");
    arrival *one = is_own(fd) ? lumo_calloc(1, sizeof *one) : NULL;
    if (!one) {
      close(fd);
      continue;
    }
    one->fd = fd;
    one->next = listener->arrivals;
    listener->arrivals = one;
  }
}

/* Reads on. False: the connection is of no use. */
static bool read_token(arrival *one) {
  while (one->len < LUMO_TOKEN_LENGTH) {
    ssize_t got = read(one->fd, one->token + one->len, LUMO_TOKEN_LENGTH - one->len);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    if (got == 0) return false;
    one->len += (size_t)got;
  }
  return true;
}

lumo_slot *lumo_listener_accept(lumo_listener *listener, const char *token, lumo_error *error) {
  int found = -1;
  if (!take_arrivals(listener, error)) return NULL;
  for (arrival **at = &listener->arrivals; *at;) {
    arrival *one = *at;
    bool useful = read_token(one);
    bool mine = useful && one->len == LUMO_TOKEN_LENGTH && memcmp(one->token, token, LUMO_TOKEN_LENGTH) == 0;
    if (useful && !mine) {
      at = &one->next;
      continue;
    }
    if (mine && found < 0)
      found = one->fd;
    else
      close(one->fd);
    *at = one->next;
    lumo_free(one);
  }
  if (found >= 0) return make_slot(found, true, error);
  lumo_error_set(error, "E_UNSUPPORTED", "the connection that a request wants to wait with did not arrive");
  error->retryable = true;
  return NULL;
}
