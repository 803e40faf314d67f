#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

void lumo_error_init(lumo_error *error) {
  error->code = NULL;
  /* Emptied one by one: the texts are 2 kB, too much to clear before every operation. */
  error->message[0] = error->cause[0] = error->op[0] = error->ns[0] = error->attribute[0] = error->key[0] =
      '\0';
  error->value = NULL;
  error->value_len = 0;
  error->server_code = 0;
  error->write_index = -1;
  error->labels = 0;
  error->outcome = LUMO_OUTCOME_NONE;
  error->retryable = false;
}

void lumo_error_reset(lumo_error *error) {
  lumo_free(error->value);
  lumo_error_init(error);
}

/* The start of the last character of a text that was cut after `len` bytes, if that character is incomplete.
 * */
static size_t cut_at_character(const char *text, size_t len) {
  size_t start = len;
  while (start > 0 && len - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) start--;
  if (start == 0) return len;
  unsigned char lead = (unsigned char)text[start - 1];
  size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  return len - (start - 1) < want ? start - 1 : len;
}

bool lumo_error_set(lumo_error *error, const char *code, const char *format, ...) {
  char text[sizeof error->message]; /* the arguments may point into the error itself */
  va_list args;
  va_start(args, format);
  int len = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (len < 0)
    text[0] = '\0';
  else if ((size_t)len >= sizeof text)
    text[cut_at_character(text, sizeof text - 1)] = '\0';
  memcpy(error->message, text, strlen(text) + 1);
  error->code = code;
  return false;
}

bool lumo_error_memory(lumo_error *error) {
  return lumo_error_set(error, "E_MEMORY", "not enough memory");
}
