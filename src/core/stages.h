/* Aggregation stages, appended to a buffer one after the other as the elements of a pipeline. */
#ifndef LUMO_CORE_STAGES_H
#define LUMO_CORE_STAGES_H

#include "bson.h"

/* A pipeline that is being written. Running out of memory shows in the buffer's `failed`. */
typedef struct lumo_stages {
  lumo_buf *out; /* borrowed */
  uint32_t count;
  size_t mark;
} lumo_stages;

/* Opens the array `key: [` in a document that is being written, and closes it. A pipeline inside of a stage
 * ($lookup, $facet) is one more of these over the same buffer. */
lumo_stages lumo_stages_begin(lumo_buf *out, const char *key);
void lumo_stages_end(lumo_stages *stages);

/* A stage whose argument is a document that is written in between: `{name: {` … `}}`. */
typedef struct lumo_stage {
  size_t stage, argument;
} lumo_stage;
lumo_stage lumo_stage_begin(lumo_stages *stages, const char *name);
void lumo_stage_end(lumo_stages *stages, lumo_stage stage);

/* A stage whose one element the caller writes: `{` … `}`, ended by lumo_bson_end. */
size_t lumo_stage_open(lumo_stages *stages);

/* A stage that is a document already. */
void lumo_stage_whole(lumo_stages *stages, const uint8_t *stage, size_t len);
/* A run of such documents. */
void lumo_stage_run(lumo_stages *stages, const uint8_t *documents, size_t len);
/* Whole stages: `{name: document}`, `{name: {key: text, …}}`, `{name: text}`, `{name: number}`. */
void lumo_stage_document(lumo_stages *stages, const char *name, const uint8_t *document, size_t len);
void lumo_stage_texts(lumo_stages *stages, const char *name, const char *const texts[][2], uint32_t count);
void lumo_stage_text(lumo_stages *stages, const char *name, const char *text);
void lumo_stage_number(lumo_stages *stages, const char *name, int64_t number);

/* Stages that leave the values of a field ("$tags"), each once and in MongoDB's order, as `_id`s. With
 * `elements` it may hold arrays, whose elements are the values. */
void lumo_stages_distinct(lumo_stages *stages, const char *field, size_t field_len, bool elements);

#endif
