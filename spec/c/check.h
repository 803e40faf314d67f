/* What a C test program needs: checks that count and go on, and a last line that the test script reads.
 * Each program is one main() that ends with `return check_report();`. */
#ifndef LUMO_SPEC_CHECK_H
#define LUMO_SPEC_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_passed, check_failed;

#define CHECK(condition) check_true((condition), #condition, __FILE__, __LINE__)
#define CHECK_INT(actual, expected)                                                                          \
  check_int((long long)(actual), (long long)(expected), #actual, __FILE__, __LINE__)
/* Bytes against a NUL-terminated text. */
#define CHECK_TEXT(actual, len, expected)                                                                    \
  check_text((const char *)(actual), (len), (expected), __FILE__, __LINE__)
/* Bytes against their hexadecimal digits; blanks between them are skipped. */
#define CHECK_HEX(actual, len, expected)                                                                     \
  check_hex((const uint8_t *)(actual), (len), (expected), __FILE__, __LINE__)

static inline int check_true(int good, const char *what, const char *file, int line) {
  if (good) {
    check_passed++;
  } else {
    check_failed++;
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  }
  return good;
}

static inline void check_int(long long actual, long long expected, const char *what, const char *file,
                             int line) {
  if (!check_true(actual == expected, what, file, line))
    fprintf(stderr, "  is %lld, should be %lld\n", actual, expected);
}

static inline void check_text(const char *actual, size_t len, const char *expected, const char *file,
                              int line) {
  if (!check_true(len == strlen(expected) && memcmp(actual, expected, len) == 0, expected, file, line))
    fprintf(stderr, "  is %.*s\n", (int)len, actual);
}

/* Hexadecimal digits as bytes of exactly their size, so that a sanitizer sees a read beyond them. Freed with
 * free. */
static inline uint8_t *check_bytes(const char *hex, size_t *len) {
  uint8_t *bytes = malloc(strlen(hex) / 2 + 1), *exact;
  unsigned value;
  int step;
  for (*len = 0; sscanf(hex, " %2x%n", &value, &step) == 1; hex += step) bytes[(*len)++] = (uint8_t)value;
  exact = malloc(*len ? *len : 1);
  memcpy(exact, bytes, *len);
  free(bytes);
  return exact;
}

static inline void check_hex(const uint8_t *actual, size_t len, const char *expected, const char *file,
                             int line) {
  size_t expected_len;
  uint8_t *bytes = check_bytes(expected, &expected_len);
  if (!check_true(len == expected_len && memcmp(actual, bytes, len) == 0, expected, file, line)) {
    fprintf(stderr, "  is ");
    for (size_t i = 0; i < len; i++) fprintf(stderr, "%02x", actual[i]);
    fprintf(stderr, "\n");
  }
  free(bytes);
}

static inline int check_report(void) {
  printf("%d passed, %d failed\n", check_passed, check_failed);
  return check_failed != 0;
}

#endif
