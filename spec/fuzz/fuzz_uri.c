/* Text from anywhere as a connection string: refused without a word of it, or a connection that can be freed.
 */
#define _GNU_SOURCE
#include <string.h>

#include "driver/driver.h"
#include "fuzz.h"

static void attempt(const char *uri, const char *database) {
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
    /* Nothing of what may be a password. */
    const char *at = strrchr(uri, '@'), *colon = at ? memrchr(uri, ':', (size_t)(at - uri)) : NULL;
    if (colon && at - colon > 12) {
      char secret[13] = {0};
      memcpy(secret, colon + 1, 12);
      MUST(!strstr(error.message, secret) && !strstr(error.cause, secret));
    }
  }
  lumo_error_reset(&error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char prefix[] = "mongodb://";
  char *text = malloc(sizeof prefix + size);
  if (!text) return 0;
  memcpy(text, prefix, sizeof prefix - 1);
  memcpy(text + sizeof prefix - 1, data, size);
  text[sizeof prefix - 1 + size] = '\0';
  attempt(text, "test"); /* behind the scheme, where most of the parser is */
  attempt(text, NULL);
  attempt(text + sizeof prefix - 1, "test");
  attempt("mongodb://localhost", text + sizeof prefix - 1);
  free(text);
  return 0;
}
