#include "query.h"

#include <stdio.h>
#include <string.h>

/* One reply holds as many documents as fit 16 MB when the batch is asked for so; the largest int32 is
 * accepted by every server. */
#define WHOLE_REPLY 2147483647

void lumo_query_free(lumo_query *query) {
  lumo_filter_free(&query->filter);
  lumo_buf_free(&query->joins);
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
  *to = (lumo_query){.schema = from->schema,
                     .join_count = from->join_count,
                     .limit = from->limit,
                     .skip = from->skip,
                     .everything = from->everything};
  if (lumo_filter_copy(&to->filter, &from->filter) && copy_buf(&to->joins, &from->joins) &&
      copy_buf(&to->projection, &from->projection) && copy_buf(&to->sort, &from->sort) &&
      copy_buf(&to->extra, &from->extra))
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

/* What the filter demands of a side, and `bound`, as one document. */
static void write_side(const lumo_query *query, lumo_side side, const uint8_t *bound, uint32_t bound_len,
                       lumo_buf *out) {
  if (!bound) {
    lumo_filter_write_side(&query->filter, side, out);
    return;
  }
  size_t document = lumo_bson_begin(out);
  size_t array = lumo_bson_begin_array(out, LUMO_KEY("$and"));
  lumo_bson_document(out, LUMO_KEY("0"), bound, bound_len);
  if (query->filter.count > 0) {
    lumo_bson_key(out, LUMO_BSON_DOCUMENT, LUMO_KEY("1"));
    lumo_filter_write_side(&query->filter, side, out);
  }
  lumo_bson_end(out, array);
  lumo_bson_end(out, document);
}

void lumo_query_filter(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, lumo_buf *out) {
  write_side(query, LUMO_SIDE_RELATED, bound, bound_len, out);
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

/* ---- joins ---- */

void lumo_join_name(uint32_t number, char *name) {
  snprintf(name, LUMO_JOIN_NAME, "lumo:%u", (unsigned)number);
}

/* The end of the document that starts at `at`. */
static size_t document_end(const lumo_buf *documents, size_t at) {
  const uint8_t *size = documents->data + at;
  return at + ((size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24);
}

void lumo_query_drop_joins(lumo_query *query, uint32_t count) {
  size_t at = 0;
  if (count >= query->join_count) return;
  for (uint32_t i = 0; i < count; i++) at = document_end(&query->joins, at);
  query->joins.len = at;
  query->join_count = count;
}

/* {$match: what the filter demands of a side, and `bound`}, unless that is nothing. */
static void add_match(const lumo_query *query, lumo_side side, const uint8_t *bound, uint32_t bound_len,
                      lumo_stages *stages) {
  const size_t before = stages->out->len, empty = 5;
  size_t stage = lumo_stage_open(stages);
  lumo_bson_key(stages->out, LUMO_BSON_DOCUMENT, LUMO_KEY("$match"));
  size_t filter = stages->out->len;
  write_side(query, side, bound, bound_len, stages->out);
  bool is_empty = stages->out->len - filter == empty;
  lumo_bson_end(stages->out, stage);
  if (!is_empty || stages->out->failed) return;
  stages->out->len = before;
  stages->count--;
}

void lumo_query_match(const lumo_query *query, lumo_side side, const uint8_t *bound, uint32_t bound_len,
                      bool sorted, lumo_stages *stages) {
  if (query->joins.failed || query->sort.failed) stages->out->failed = true;
  add_match(query, side, bound, bound_len, stages);
  if (sorted && query->sort.len > 0) {
    lumo_stage sort = lumo_stage_begin(stages, "$sort");
    lumo_buf_append(stages->out, query->sort.data, query->sort.len);
    lumo_stage_end(stages, sort);
  }
  if (side != LUMO_SIDE_RELATED || query->join_count == 0) return;
  lumo_stage_run(stages, query->joins.data, query->joins.len);
  size_t stage = lumo_stage_open(stages);
  lumo_bson_key(stages->out, LUMO_BSON_DOCUMENT, LUMO_KEY("$match"));
  lumo_filter_write_joined(&query->filter, side, stages->out);
  lumo_bson_end(stages->out, stage);
}

/* Takes the results of the joins out of the documents, or leaves only what is selected. */
static void add_projection(const lumo_query *query, lumo_stages *stages) {
  lumo_stage project = lumo_stage_begin(stages, "$project");
  if (query->projection.failed) stages->out->failed = true;
  lumo_buf_append(stages->out, query->projection.data, query->projection.len);
  for (uint32_t i = 0; i < query->join_count && query->projection.len == 0; i++) {
    char name[LUMO_JOIN_NAME];
    lumo_join_name(i, name);
    lumo_bson_int32(stages->out, name, strlen(name), 0);
  }
  lumo_stage_end(stages, project);
}

/* ---- aggregates ---- */

/* The documents that the query means, as the first stages; in its order only where that decides which are
 * cut off. */
static void write_documents(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, bool ordered,
                            lumo_stages *stages) {
  lumo_query_match(query, LUMO_SIDE_RELATED, bound, bound_len, ordered && (query->skip || query->limit),
                   stages);
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

/* What find would give, of a query with joins. The sort stands before them: an index may give it, and a limit
 * ends the joining early. */
static void write_joined_find(const lumo_query *query, const uint8_t *bound, uint32_t bound_len,
                              int64_t limit, int32_t batch_size, lumo_buf *out) {
  size_t command;
  lumo_stages stages = begin_aggregate(query, out, &command);
  lumo_query_match(query, LUMO_SIDE_RELATED, bound, bound_len, true, &stages);
  if (query->skip) lumo_stage_number(&stages, "$skip", query->skip);
  if (limit) lumo_stage_number(&stages, "$limit", limit);
  add_projection(query, &stages);
  end_aggregate(query, &stages, batch_size, command);
}

void lumo_query_find(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, int64_t limit,
                     int32_t batch_size, lumo_buf *out) {
  if (!batch_size) batch_size = WHOLE_REPLY;
  if (query->join_count > 0) {
    write_joined_find(query, bound, bound_len, limit, batch_size, out);
    return;
  }
  size_t command = lumo_bson_begin(out);
  const char *collection = query->schema->collection;
  lumo_bson_string(out, LUMO_KEY("find"), collection, strlen(collection));
  write_filter(query, bound, bound_len, "filter", out);
  write_elements(&query->projection, "projection", out);
  write_elements(&query->sort, "sort", out);
  if (query->skip) lumo_bson_int64(out, LUMO_KEY("skip"), query->skip);
  if (limit) lumo_bson_int64(out, LUMO_KEY("limit"), limit);
  lumo_bson_int32(out, LUMO_KEY("batchSize"), batch_size);
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
  lumo_stages_distinct(&stages, field, field_len, elements);
  end_aggregate(query, &stages, WHOLE_REPLY, command);
}

void lumo_query_ids(const lumo_query *query, const uint8_t *bound, uint32_t bound_len, lumo_buf *out) {
  size_t command;
  lumo_stages stages = begin_aggregate(query, out, &command);
  lumo_query_match(query, LUMO_SIDE_RELATED, bound, bound_len, false, &stages);
  lumo_stage project = lumo_stage_begin(&stages, "$project");
  lumo_bson_int32(out, LUMO_KEY("_id"), 1);
  lumo_stage_end(&stages, project);
  end_aggregate(query, &stages, WHOLE_REPLY, command);
}
