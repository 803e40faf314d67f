/* Text from anywhere as a connection string: refused without a word of it, or a connection that can be freed.
 */
#include <string.h>

#include "driver/driver.h"
#include "fuzz.h"

#define SECRET "s3cr3t-w0rd"

static void attempt(const char *uri, const char *database, bool hides) {
  lumo_error error;
  lumo_connection_options options = {.database = database};
  lumo_error_init(&error);
  lumo_connection *connection = lumo_connection_new(uri, &options, &error);
  if (connection) {
    const char *name = lumo_connection_database(connection);
    MUST(name[0] && strlen(name) <= 63 && !strpbrk(name, "/\\. \"$*<>:|?"));
    lumo_connection_unref(connection);
  } else {
    MUST(error.code && error.message[0]);
    if (hides) MUST(!strstr(error.message, SECRET) && !strstr(error.cause, SECRET));
  }
  lumo_error_reset(&error);
}

/* `prefix` and the input as one text. */
static char *joined(const char *prefix, const uint8_t *data, size_t size) {
  size_t before = strlen(prefix);
  char *text = malloc(before + size + 1);
  MUST(text);
  memcpy(text, prefix, before);
  memcpy(text + before, data, size);
  text[before + size] = '\0';
  return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  /* Most of the parser is behind the scheme. */
  enum { PASSWORD = 2 };
  static const char *const prefixes[] = {"", "mongodb://", "mongodb://user:" SECRET "@", "mongodb://host/?"};
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
    char *text = joined(prefixes[i], data, size);
    bool hides = i == PASSWORD && !strstr(text + strlen(prefixes[i]), SECRET);
    attempt(text, "test", hides);
    attempt(text, NULL, hides);
    if (i == 0) attempt("mongodb://localhost", text, false);
    free(text);
  }
  return 0;
}
