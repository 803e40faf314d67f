/* Text from anywhere as Extended JSON: refused, or a valid document that its own JSON gives again. */
#include <string.h>

#include "core/json.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  lumo_buf bytes = {0}, text = {0}, again = {0};
  lumo_error error;
  size_t at;
  lumo_error_init(&error);
  if (lumo_json_parse(&bytes, (const char *)data, size, &error)) {
    MUST(lumo_bson_validate(bytes.data, bytes.len, &at));
    lumo_json_document(&text, bytes.data, bytes.len, false, LUMO_JSON_CANONICAL);
    MUST(lumo_json_parse(&again, (const char *)text.data, text.len, &error));
    MUST(again.len == bytes.len && memcmp(again.data, bytes.data, bytes.len) == 0);
    lumo_buf_clear(&text);
    lumo_json_document(&text, bytes.data, bytes.len, false, LUMO_JSON_RELAXED);
    lumo_buf_clear(&again);
    MUST(lumo_json_parse(&again, (const char *)text.data, text.len, &error));
  } else {
    MUST(error.code && error.message[0]);
  }
  lumo_error_reset(&error);
  lumo_buf_free(&bytes);
  lumo_buf_free(&text);
  lumo_buf_free(&again);
  return 0;
}
