#include "query.h"

#include <string.h>

#include "stages.h"

/* One reply holds as many documents as fit 16 MB when the batch is asked for so; the largest int32 is
 * accepted by every server. */
#define WHOLE_REPLY 2147483647

void lumo_query_free(lumo_query *query) {
  lumo_filter_free(&query->filter);
  lumo_buf_free(&query->projection);
  lumo_buf_free(&query->sort);
  lumo_buf_free(&query->extra);
}

static bool copy_buf(lumo_buf *to, const lumo_buf *from) {
  memset(to, 0, sizeof *to);
  lumo_buf_append(to, from->data, from->len);
  return !to->failed;
}

bool lumo_query_copy(lumo_query *to, const lumo_query *from) {
  *to = (lumo_query){
      .schema = from->schema, .limit = from->limit, .skip = from->skip, .everything = from->everything};
  if (lumo_filter_copy(&to->filter, &from->filter) && copy_buf(&to->projection, &from->projection) &&
      copy_buf(&to->sort, &from->sort) && copy_buf(&to->extra, &from->extra))
    return true;
  lumo_query_free(to);
  return false;
}

/* Elements of the buffers above are `type int32, name, NUL, 4 bytes`. */
static size_t element_end(const lumo_buf *buf, size_t at) {
  return at + 1 + strlen((const char *)buf->data + at + 1) + 1 + 4;
}

/* True if one of two paths is the other or lies inside it. */
static bool overlaps(const char *a, size_t a_len, const char *b, size_t b_len) {
  size_t common = a_len < b_len ? a_len : b_len;
  if (memcmp(a, b, common) != 0) return false;
  return a_len == b_len || (a_len < b_len ? b[a_len] : a[b_len]) == '.';
}

void lumo_query_select(lumo_buf *buf, const char *stored, size_t len) {
  for (size_t at = 0; at < buf->len; at = element_end(buf, at)) {
    const char *name = (const char *)buf->data + at + 1;
    if (overlaps(name, strlen(name), stored, len) && strlen(name) <= len) return;
  }
  for (size_t at = 0; at < buf->len;) {
    const char *name = (const char *)buf->data + at + 1;
    size_t end = element_end(buf, at);
    if (overlaps(name, strlen(name), stored, len)) {
      memmove(buf->data + at, buf->data + end, buf->len - end);
      buf->len -= end - at;
    } else {
      at = end;
    }
  }
  lumo_bson_int32(buf, stored, len, 1);
}

void lumo_query_order(lumo_buf *buf, const char *stored, size_t len, int direction) {
  for (size_t at = 0; at < buf->len;) {
    const char *name = (const char *)buf->data + at + 1;
    size_t end = element_end(buf, at);
    if (strlen(name) == len && memcmp(name, stored, len) == 0) {
      memmove(buf->data + at, buf->data + end, buf->len - end);
      buf->len -= end - at;
    } else {
      at = end;
    }
  }
  lumo_bson_int32(buf, stored, len, direction);
}

void lumo_query_filter(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, lumo_buf *out) {
  if (!bound) {
    lumo_filter_write(&query->filter, out);
    return;
  }
  size_t document = lumo_bson_begin(out);
  size_t array = lumo_bson_begin_array(out, LUMO_KEY("$and"));
  lumo_bson_document(out, LUMO_KEY("0"), bound, bound_len);
  if (query->filter.count > 0) {
    lumo_bson_key(out, LUMO_BSON_DOCUMENT, LUMO_KEY("1"));
    lumo_filter_write(&query->filter, out);
  }
  lumo_bson_end(out, array);
  lumo_bson_end(out, document);
}

static void write_filter(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, const char *key,
                         lumo_buf *out) {
  lumo_bson_key(out, LUMO_BSON_DOCUMENT, key, strlen(key));
  lumo_query_filter(query, bound, bound_len, out);
}

static void write_elements(const lumo_buf *elements, const char *key, lumo_buf *out) {
  if (elements->failed) out->failed = true;
  if (elements->len == 0) return;
  size_t mark = lumo_bson_begin_document(out, key, strlen(key));
  lumo_buf_append(out, elements->data, elements->len);
  lumo_bson_end(out, mark);
}

void lumo_query_find(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, int64_t limit,
                     int32_t batch_size, lumo_buf *out) {
  size_t command = lumo_bson_begin(out);
  const char *collection = query->schema->collection;
  lumo_bson_string(out, LUMO_KEY("find"), collection, strlen(collection));
  write_filter(query, bound, bound_len, "filter", out);
  write_elements(&query->projection, "projection", out);
  write_elements(&query->sort, "sort", out);
  if (query->skip) lumo_bson_int64(out, LUMO_KEY("skip"), query->skip);
  if (limit) lumo_bson_int64(out, LUMO_KEY("limit"), limit);
  lumo_bson_int32(out, LUMO_KEY("batchSize"), batch_size ? batch_size : WHOLE_REPLY);
  lumo_buf_append(out, query->extra.data, query->extra.len);
  lumo_bson_end(out, command);
}

static void write_match(const lumo_query *query, const uint8_t *bound, uint32_t bound_len,
                        lumo_stages *stages) {
  lumo_bson_index(stages->out, LUMO_BSON_DOCUMENT, stages->count++);
  size_t stage = lumo_bson_begin(stages->out);
  write_filter(query, bound, bound_len, "$match", stages->out);
  lumo_bson_end(stages->out, stage);
}

/* The documents that the query means, as the first stages; in its order only where that decides which are
 * cut off. */
static void write_documents(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, bool ordered,
                            lumo_stages *stages) {
  write_match(query, bound, bound_len, stages);
  if (ordered && query->sort.len > 0 && (query->skip || query->limit)) {
    lumo_stage sort = lumo_stage_begin(stages, "$sort");
    lumo_buf_append(stages->out, query->sort.data, query->sort.len);
    lumo_stage_end(stages, sort);
  }
  if (query->skip) lumo_stage_number(stages, "$skip", query->skip);
  if (query->limit) lumo_stage_number(stages, "$limit", query->limit);
}

static lumo_stages begin_aggregate(const lumo_query *query, lumo_buf *out, size_t *command) {
  const char *collection = query->schema->collection;
  *command = lumo_bson_begin(out);
  lumo_bson_string(out, LUMO_KEY("aggregate"), collection, strlen(collection));
  return lumo_stages_begin(out, "pipeline");
}

/* batch_size 0: the server's default. */
static void end_aggregate(const lumo_query *query, lumo_stages *stages, int32_t batch_size, size_t command) {
  lumo_buf *out = stages->out;
  lumo_stages_end(stages);
  size_t cursor = lumo_bson_begin_document(out, LUMO_KEY("cursor"));
  if (batch_size) lumo_bson_int32(out, LUMO_KEY("batchSize"), batch_size);
  lumo_bson_end(out, cursor);
  lumo_buf_append(out, query->extra.data, query->extra.len);
  lumo_bson_end(out, command);
}

/* An aggregate whose last stage is the $group of everything into one document with `n`: the operator over a
 * field path, or over 1 when there is none. */
static void write_group(const lumo_query *query, const uint8_t *bound, uint32_t bound_len,
                        const char *operator, const char * field, size_t field_len, lumo_buf *out) {
  size_t command;
  lumo_stages stages = begin_aggregate(query, out, &command);
  write_documents(query, bound, bound_len, field != NULL, &stages);
  lumo_stage group = lumo_stage_begin(&stages, "$group");
  lumo_bson_null(out, LUMO_KEY("_id"));
  size_t result = lumo_bson_begin_document(out, LUMO_KEY("n"));
  if (field)
    lumo_bson_string(out, operator, strlen(operator), field, field_len);
  else
    lumo_bson_int32(out, operator, strlen(operator), 1);
  lumo_bson_end(out, result);
  lumo_stage_end(&stages, group);
  end_aggregate(query, &stages, 0, command);
}

void lumo_query_count(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, lumo_buf *out) {
  write_group(query, bound, bound_len, "$sum", NULL, 0, out);
}

void lumo_query_group(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, const char *operator,
                      const char * field, size_t field_len, lumo_buf *out) {
  write_group(query, bound, bound_len, operator, field, field_len, out);
}

void lumo_query_distinct(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, const char *field,
                         size_t field_len, bool elements, lumo_buf *out) {
  size_t command;
  lumo_stages stages = begin_aggregate(query, out, &command);
  write_documents(query, bound, bound_len, true, &stages);
  if (elements) { /* of a path through arrays $unwind knows nothing: the field is taken out first */
    lumo_stage project = lumo_stage_begin(&stages, "$project");
    lumo_bson_string(out, LUMO_KEY("v"), field, field_len);
    lumo_stage_end(&stages, project);
    lumo_stage_text(&stages, "$unwind", "$v");
  }
  lumo_stage group = lumo_stage_begin(&stages, "$group");
  lumo_bson_string(out, LUMO_KEY("_id"), elements ? "$v" : field, elements ? 2 : field_len);
  lumo_stage_end(&stages, group);
  lumo_stage sort = lumo_stage_begin(&stages, "$sort");
  lumo_bson_int32(out, LUMO_KEY("_id"), 1);
  lumo_stage_end(&stages, sort);
  end_aggregate(query, &stages, WHOLE_REPLY, command);
}
