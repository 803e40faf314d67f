/* SHA-256, for the ids derived from pairs. */
#ifndef LUMO_CORE_SHA256_H
#define LUMO_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

void lumo_sha256(const uint8_t *bytes, size_t len, uint8_t out[32]);

#endif
