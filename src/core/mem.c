#include "mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Allocations left until one fails; 0 is off, which costs one relaxed load per allocation. */
static atomic_ulong countdown;

static bool must_fail(void) {
  unsigned long left = atomic_load_explicit(&countdown, memory_order_relaxed);
  while (left != 0)
    if (atomic_compare_exchange_weak_explicit(&countdown, &left, left - 1, memory_order_relaxed,
                                              memory_order_relaxed))
      return left == 1;
  return false;
}

/* Zero bytes are asked for as one: NULL then always means that there is no memory, and realloc never frees.
 * */
void *lumo_malloc(size_t size) {
  return must_fail() ? NULL : malloc(size ? size : 1);
}

void *lumo_calloc(size_t count, size_t size) {
  return must_fail() ? NULL : calloc(count ? count : 1, size ? size : 1);
}

void *lumo_realloc(void *block, size_t size) {
  return must_fail() ? NULL : realloc(block, size ? size : 1);
}

void lumo_free(void *block) {
  free(block);
}

void lumo_mem_fail_at(unsigned long n) {
  atomic_store_explicit(&countdown, n, memory_order_relaxed);
}
