/* What went wrong, as a value. Core and driver fill one of these; the binding turns it into Lua's error
 * object, and that is the only place where one is raised. */
#ifndef LUMO_CORE_ERROR_H
#define LUMO_CORE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

/* What became of a write. NONE: not a write, or nothing had been sent. */
typedef enum { LUMO_OUTCOME_NONE, LUMO_NOT_APPLIED, LUMO_APPLIED, LUMO_UNKNOWN } lumo_outcome;

enum {
  LUMO_LABEL_TRANSIENT = 1,      /* TransientTransactionError */
  LUMO_LABEL_UNKNOWN_COMMIT = 2, /* UnknownTransactionCommitResult */
  LUMO_LABEL_RETRYABLE = 4,      /* RetryableWriteError */
  LUMO_LABEL_RESUMABLE = 8,      /* ResumableChangeStreamError */
};

/* Plain memory, no ownership but of `value`. Texts that do not fit are cut at a character boundary. */
typedef struct lumo_error {
  const char *code;    /* one of the E_ names, static storage; NULL: no error */
  char message[512];   /* no credential, URI or document value ever stands here */
  char cause[1024];    /* the server's or libmongoc's own words; may hold values */
  char op[32];         /* the command: "insert", "find", … or the public method */
  char ns[192];        /* database.collection */
  char attribute[192]; /* the path of the value that was refused: "meta.tags[3]" */
  char key[256];       /* E_DUPLICATE_KEY: the names of the index's fields, joined by ", " */
  uint8_t *value;      /* E_DUPLICATE_KEY: the refused keyValue as a BSON document; lumo_malloc'ed, or NULL */
  uint32_t value_len;
  int32_t server_code; /* 0: not the server's */
  int32_t write_index; /* the statement that failed, from 0; -1: none */
  uint32_t labels;     /* LUMO_LABEL_… */
  lumo_outcome outcome;
  bool retryable; /* calling again may succeed without changing anything else */
} lumo_error;

void lumo_error_init(lumo_error *error);
/* Frees `value` and empties the error. */
void lumo_error_reset(lumo_error *error);
/* Sets code and message (printf style), keeps the rest. Always returns false, for `return lumo_error_set(…)`.
 */
bool lumo_error_set(lumo_error *error, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "not enough memory": code E_MEMORY, which the binding turns into Lua's own memory error. */
bool lumo_error_memory(lumo_error *error);

#endif
