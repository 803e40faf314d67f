/* A byte from one thread to another and back, over two pipes: what a hand-over costs at least. Prints
 * microseconds.
 */
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 200 /* a few milliseconds, which nothing else may disturb */

static int there[2], back[2];

static void *answer(void *unused) {
  char byte;
  for (int i = 0; i < ROUNDS; i++)
    if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1) break;
  return unused;
}

int main(void) {
  struct timespec begin, end;
  pthread_t thread;
  char byte = 0;
  if (pipe(there) || pipe(back) || pthread_create(&thread, NULL, answer, NULL)) return 1;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (int i = 0; i < ROUNDS; i++)
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return 1;
  clock_gettime(CLOCK_MONOTONIC, &end);
  pthread_join(thread, NULL);
  printf("%.2f\n",
         ((double)(end.tv_sec - begin.tv_sec) * 1e6 + (double)(end.tv_nsec - begin.tv_nsec) / 1e3) / ROUNDS);
  return 0;
}
