/* Time that passes, whatever is done to the time of day. */
#include <stdlib.h>
#include <time.h>

#include "private.h"

int64_t lumo_clock_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void lumo_backoff(unsigned n) {
  static _Thread_local unsigned seed;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  /* Writers that collided must not collide again: nanoseconds and the place of this thread's variables tell
   * them apart. */
  seed ^= (unsigned)now.tv_nsec ^ (unsigned)(uintptr_t)&seed;
  int64_t limit_us = n < 8 ? (int64_t)2000 << (n - 1) : 250000;
  int64_t us = limit_us / 2 + rand_r(&seed) % (limit_us / 2);
  struct timespec pause = {us / 1000000, us % 1000000 * 1000};
  nanosleep(&pause, NULL);
}
