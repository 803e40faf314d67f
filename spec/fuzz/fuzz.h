/* What fuzz targets share. */
#ifndef LUMO_FUZZ_H
#define LUMO_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the input is; the fuzzer then keeps the input. */
#define MUST(condition)                                                                                      \
  do {                                                                                                       \
    if (condition) break;                                                                                    \
    fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                           \
    abort();                                                                                                 \
  } while (0)

#endif
