/* A server process that ends with its owner. A small watcher process stands between the two: it starts the
 * server in a folder, waits for the end of the owner (by a pidfd) or of the server, then stops the server
 * and removes a temporary folder. Two further guards: the server gets SIGTERM when the watcher dies, and
 * the folder stays locked until both are gone.
 *
 * Needs Linux 5.3 and glibc 2.34. Nothing here knows Lua or MongoDB. Not thread safe: one thread at a time
 * may use a lumo_watcher. A fork of the owner inherits a copy that does nothing. */
#ifndef LUMO_EMBEDDED_WATCHER_H
#define LUMO_EMBEDDED_WATCHER_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "../core/error.h"

#define LUMO_WATCHER_LOG "mongod.log" /* in the folder: what the server printed since its start */

/* Plain memory of the caller's, ended by lumo_watcher_close. */
typedef struct lumo_watcher {
  pid_t owner;           /* the process that opened the folder; 0: closed */
  pid_t server;          /* 0: not started */
  int control;           /* the socket to the watcher process; -1: not started */
  int lock;              /* the locked file of the folder, until the watcher process holds it; -1 */
  int directory;         /* the folder, until the watcher process holds it; -1 */
  bool temporary;        /* the folder goes with the server */
  bool ended;            /* the server, or its watcher, has ended */
  int status;            /* when ended: the server's, as of waitpid; -1 if the watcher was killed before it */
  char folder[PATH_MAX]; /* absolute */
} lumo_watcher;

typedef enum { LUMO_FOLDER_OPENED, LUMO_FOLDER_LOCKED, LUMO_FOLDER_FAILED } lumo_folder_result;

/* A closed watcher, on which every function but lumo_watcher_open does nothing. */
void lumo_watcher_init(lumo_watcher *watcher);

/* Makes the folder where it is missing, parents included, and locks it; NULL: a new temporary one under
 * TMPDIR. LOCKED: another server has it, and *holder is the process that owns that one, or 0 while it is
 * starting or stopping. FAILED is E_ARGUMENT: the path cannot be used. */
lumo_folder_result lumo_watcher_open(lumo_watcher *watcher, const char *path, pid_t *holder,
                                     lumo_error *error);

/* Starts argv[0], once, in an open folder; argv and envp end with NULL. E_UNSUPPORTED: the program cannot
 * be executed, or the kernel has no pidfd. A program that starts and then fails is for lumo_watcher_wait
 * to tell. */
bool lumo_watcher_run(lumo_watcher *watcher, char *const argv[], char *const envp[], lumo_error *error);

/* True when the server has ended; waits for that for `milliseconds` at most, less when a signal comes. */
bool lumo_watcher_wait(lumo_watcher *watcher, int milliseconds);

/* Stops the server, waits until it is gone (5 s at most, then it is killed) and removes a temporary
 * folder. May be called again. In a fork of the owner it only closes that process' own copies. */
void lumo_watcher_close(lumo_watcher *watcher);

/* A TCP port of 127.0.0.1 that is free now; 0 when there is none. */
int lumo_watcher_port(void);

#endif
