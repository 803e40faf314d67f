/* Extended JSON version 2, both ways, depth limited and without libbson's recursive functions. */
#ifndef LUMO_CORE_JSON_H
#define LUMO_CORE_JSON_H

#include "bson.h"
#include "error.h"

typedef enum {
  LUMO_JSON_CANONICAL, /* every type kept: {"$numberInt":"1"} */
  LUMO_JSON_RELAXED,   /* numbers and dates as readers like them: 1, {"$date":"…Z"} */
  LUMO_JSON_PLAIN, /* what a web client expects: an ObjectId, a date, a UUID, a decimal and an int64 beyond
                      2^53 as a string, NaN and infinities as null, binary as base64 text, the rare kinds as
                      in relaxed */
} lumo_json_mode;

/* Appends the text of a document or a value. The bytes must be valid BSON (lumo_bson_validate); no blanks are
 * written.
 * "/" is not escaped; control characters, '"' and "\" are; all else stays UTF-8. */
void lumo_json_document(lumo_buf *out, const uint8_t *doc, size_t len, bool is_array, lumo_json_mode mode);
void lumo_json_value(lumo_buf *out, const lumo_value *v, lumo_json_mode mode);
/* A JSON string literal of UTF-8 text, quotes included. */
void lumo_json_string(lumo_buf *out, const char *text, size_t len);

/* Parses Extended JSON (canonical, relaxed, and the legacy forms of the corpus) whose top is an object;
 * appends one BSON document. Refuses what the corpus's parse errors show, duplicate keys are kept, depth at
 * most LUMO_BSON_MAX_DEPTH. On failure E_ARGUMENT with the byte position in the message. */
bool lumo_json_parse(lumo_buf *out, const char *text, size_t len, lumo_error *error);

#endif
