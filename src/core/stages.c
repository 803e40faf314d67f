#include "stages.h"

#include <string.h>

lumo_stages lumo_stages_begin(lumo_buf *out, const char *key) {
  return (lumo_stages){.out = out, .mark = lumo_bson_begin_array(out, key, strlen(key))};
}

void lumo_stages_end(lumo_stages *stages) {
  lumo_bson_end(stages->out, stages->mark);
}

size_t lumo_stage_open(lumo_stages *stages) {
  lumo_bson_index(stages->out, LUMO_BSON_DOCUMENT, stages->count++);
  return lumo_bson_begin(stages->out);
}

lumo_stage lumo_stage_begin(lumo_stages *stages, const char *name) {
  size_t stage = lumo_stage_open(stages);
  return (lumo_stage){stage, lumo_bson_begin_document(stages->out, name, strlen(name))};
}

void lumo_stage_end(lumo_stages *stages, lumo_stage stage) {
  lumo_bson_end(stages->out, stage.argument);
  lumo_bson_end(stages->out, stage.stage);
}

void lumo_stage_whole(lumo_stages *stages, const uint8_t *stage, size_t len) {
  lumo_bson_index(stages->out, LUMO_BSON_DOCUMENT, stages->count++);
  lumo_buf_append(stages->out, stage, len);
}

void lumo_stage_run(lumo_stages *stages, const uint8_t *documents, size_t len) {
  for (size_t at = 0, size; at < len; at += size) {
    lumo_value value = {documents + at, 4, LUMO_BSON_INT32}; /* a document begins with its length */
    size = (size_t)lumo_value_int32(&value);
    lumo_stage_whole(stages, documents + at, size);
  }
}

void lumo_stage_document(lumo_stages *stages, const char *name, const uint8_t *document, size_t len) {
  size_t stage = lumo_stage_open(stages);
  lumo_bson_document(stages->out, name, strlen(name), document, len);
  lumo_bson_end(stages->out, stage);
}

void lumo_stage_texts(lumo_stages *stages, const char *name, const char *const texts[][2], uint32_t count) {
  lumo_stage stage = lumo_stage_begin(stages, name);
  for (uint32_t i = 0; i < count; i++)
    lumo_bson_string(stages->out, texts[i][0], strlen(texts[i][0]), texts[i][1], strlen(texts[i][1]));
  lumo_stage_end(stages, stage);
}

void lumo_stage_text(lumo_stages *stages, const char *name, const char *text) {
  size_t stage = lumo_stage_open(stages);
  lumo_bson_string(stages->out, name, strlen(name), text, strlen(text));
  lumo_bson_end(stages->out, stage);
}

void lumo_stage_number(lumo_stages *stages, const char *name, int64_t number) {
  size_t stage = lumo_stage_open(stages);
  lumo_bson_int64(stages->out, name, strlen(name), number);
  lumo_bson_end(stages->out, stage);
}

void lumo_stages_distinct(lumo_stages *stages, const char *field, size_t field_len, bool elements) {
  lumo_buf *out = stages->out;
  if (elements) { /* of a path through arrays $unwind knows nothing: the field is taken out first */
    lumo_stage project = lumo_stage_begin(stages, "$project");
    lumo_bson_string(out, LUMO_KEY("v"), field, field_len);
    lumo_stage_end(stages, project);
    lumo_stage_text(stages, "$unwind", "$v");
  }
  lumo_stage group = lumo_stage_begin(stages, "$group");
  lumo_bson_string(out, LUMO_KEY("_id"), elements ? "$v" : field, elements ? 2 : field_len);
  lumo_stage_end(stages, group);
  lumo_stage sort = lumo_stage_begin(stages, "$sort");
  lumo_bson_int32(out, LUMO_KEY("_id"), 1);
  lumo_stage_end(stages, sort);
}
