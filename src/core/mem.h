/* Every allocation of the core and of the driver goes through these four, so that one place can count them
 * and a test can make the n-th one fail. */
#ifndef LUMO_CORE_MEM_H
#define LUMO_CORE_MEM_H

#include <stddef.h>

/* As malloc, calloc, realloc and free; NULL means that there is no memory, never an abort. */
void *lumo_malloc(size_t size);
void *lumo_calloc(size_t count, size_t size);
void *lumo_realloc(void *block, size_t size);
void lumo_free(void *block);

/* Test aid: the n-th allocation from now on (1 is the next) fails, and every later one succeeds; 0 turns it
 * off. */
void lumo_mem_fail_at(unsigned long n);

#endif
