#include "plan.h"

#include <string.h>

#include "mem.h"

/* ---- statements ---- */

void lumo_statement_begin(lumo_buf *statements, lumo_statement_kind kind) {
  uint8_t byte = (uint8_t)kind;
  lumo_buf_append(statements, &byte, 1);
}

#define OPTIONS 'o' /* in the place of a kind: a document of options comes before it */

void lumo_statement_options(lumo_buf *statements, const uint8_t *elements, size_t len) {
  const uint8_t byte = OPTIONS;
  if (len == 0) return;
  lumo_buf_append(statements, &byte, 1);
  size_t mark = lumo_bson_begin(statements);
  lumo_buf_append(statements, elements, len);
  lumo_bson_end(statements, mark);
}

/* The kind of an insert whose document is elsewhere: in its place stands where. */
enum { INSERT_KEPT = 'I' };

void lumo_statement_insert_kept(lumo_buf *statements, const uint8_t *document, uint32_t len) {
  uint8_t kind = INSERT_KEPT;
  lumo_buf_append(statements, &kind, 1);
  lumo_buf_append(statements, &document, sizeof document);
  lumo_buf_append(statements, &len, sizeof len);
}

static bool take_kept(const lumo_buf *statements, size_t *at, const uint8_t **data, uint32_t *len) {
  if (statements->len - *at < sizeof *data + sizeof *len) return false;
  memcpy(data, statements->data + *at, sizeof *data);
  memcpy(len, statements->data + *at + sizeof *data, sizeof *len);
  *at += sizeof *data + sizeof *len;
  return true;
}

/* The BSON document at *at; false when its length does not fit. */
static bool take_document(const lumo_buf *statements, size_t *at, const uint8_t **data, uint32_t *len) {
  if (statements->len - *at < 5) return false;
  const uint8_t *bytes = statements->data + *at;
  uint32_t size =
      (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
  if (size < 5 || size > statements->len - *at) return false;
  *data = bytes;
  *len = size;
  *at += size;
  return true;
}

bool lumo_statement_next(const lumo_buf *statements, size_t *at, lumo_statement *out) {
  if (*at >= statements->len) return false;
  size_t end = *at + 1;
  *out = (lumo_statement){.kind = (lumo_statement_kind)statements->data[*at]};
  if (statements->data[*at] == INSERT_KEPT) {
    out->kind = LUMO_INSERT;
    if (!take_kept(statements, &end, &out->document, &out->document_len)) return false;
    *at = end;
    return true;
  }
  if (statements->data[*at] == OPTIONS) {
    if (!take_document(statements, &end, &out->options, &out->options_len) || end >= statements->len)
      return false;
    out->kind = (lumo_statement_kind)statements->data[end++];
  }
  lumo_statement_kind kind = out->kind;
  if (kind != LUMO_INSERT && !take_document(statements, &end, &out->filter, &out->filter_len)) return false;
  if (kind != LUMO_DELETE_ONE && kind != LUMO_DELETE_MANY &&
      !take_document(statements, &end, &out->document, &out->document_len))
    return false;
  *at = end;
  return true;
}

/* ---- plans ---- */

void lumo_plan_free(lumo_plan *plan) {
  if (!plan) return;
  if (plan->lease) plan->release_lease(plan->lease);
  plan->lease = NULL;
  if (plan->policy) plan->release_policy(plan->policy);
  plan->policy = NULL;
  if (plan->log) plan->release_log(plan->log);
  plan->log = NULL;
  if (plan->inspector) plan->release_inspector(plan->inspector);
  plan->inspector = NULL;
  plan->class->free(plan);
}

void lumo_plan_init(lumo_plan *plan, const lumo_plan_class *class, const char *name) {
  plan->class = class;
  strncpy(plan->name, name, sizeof plan->name - 1);
}

bool lumo_plan_suits(const lumo_plan *plan, lumo_error *error) {
  if (plan->wire_version == 0 || plan->wire_version >= plan->least_version) return true;
  return lumo_error_set(error, "E_UNSUPPORTED",
                        "%s with conditions or columns of another collection needs MongoDB 5.0 or later",
                        plan->name);
}

/* A plan, the copies of its collection's name and of the bytes of a lent buffer behind it are one block. Not
 * calloc: glibc's does not give again what has just been freed. */
static void *plan_new(size_t size, const lumo_plan_class *class, const char *name, const char *text,
                      char **copy, lumo_buf *bytes, lumo_error *error) {
  size_t text_len = text ? strlen(text) + 1 : 0, lent = bytes->lent ? bytes->len : 0;
  uint8_t *block = lumo_malloc(size + text_len + lent);
  if (!block) {
    lumo_buf_free(bytes);
    lumo_error_memory(error);
    return NULL;
  }
  memset(block, 0, size);
  lumo_plan_init((lumo_plan *)block, class, name);
  *copy = text ? memcpy(block + size, text, text_len) : NULL;
  if (bytes->lent) {
    bytes->data = memcpy(block + size + text_len, bytes->data, lent);
    bytes->cap = lent;
  }
  return block;
}

/* Moves a buffer that the caller gives away; false (and freed) when writing it had run out of memory. */
static bool take_buffer(lumo_buf *to, lumo_buf *from, lumo_error *error) {
  if (from->failed) {
    lumo_buf_free(from);
    return lumo_error_memory(error);
  }
  *to = *from;
  memset(from, 0, sizeof *from);
  return true;
}

/* ---- documents of replies ---- */

static void docs_clear(lumo_docs *docs) {
  for (uint32_t i = 0; i < docs->reply_count; i++) lumo_free(docs->replies[i]);
  docs->count = docs->reply_count = 0;
}

void lumo_docs_free(lumo_docs *docs) {
  docs_clear(docs);
  lumo_free(docs->replies);
  lumo_free(docs->items);
  memset(docs, 0, sizeof *docs);
}

/* Room for one more, where capacity is the smallest power of two that holds the count. */
static bool reserve_reply(lumo_docs *docs) {
  uint32_t count = docs->reply_count;
  if (count & (count - 1)) return true;
  uint8_t **replies = lumo_realloc(docs->replies, (count ? 2 * (size_t)count : 1) * sizeof *replies);
  if (!replies) return false;
  docs->replies = replies;
  return true;
}

bool lumo_docs_add(lumo_docs *docs, const uint8_t *data, uint32_t len) {
  if (docs->count == docs->capacity) {
    uint32_t capacity = docs->capacity ? docs->capacity * 2 : 1;
    struct lumo_doc *items = lumo_realloc(docs->items, capacity * sizeof *items);
    if (!items) return false;
    docs->items = items;
    docs->capacity = capacity;
  }
  docs->items[docs->count++] = (struct lumo_doc){data, len};
  return true;
}

static bool malformed(lumo_error *error) {
  return lumo_error_set(error, "E_SERVER", "the server's reply is not one of a cursor");
}

/* The cursor's id and its batch, which stands as firstBatch or nextBatch, in any order. */
static bool find_batch(const lumo_reply *reply, int64_t *id, lumo_value *batch) {
  lumo_value cursor;
  lumo_iter it;
  bool has_id = false, has_batch = false;
  if (!lumo_bson_find(reply->data, reply->len, LUMO_KEY("cursor"), &cursor) ||
      cursor.type != LUMO_BSON_DOCUMENT || !lumo_iter_value(&it, &cursor))
    return false;
  while (lumo_iter_next(&it)) {
    if (it.value.type == LUMO_BSON_INT64 && strcmp(it.key, "id") == 0) {
      *id = lumo_value_int64(&it.value);
      has_id = true;
    } else if (it.value.type == LUMO_BSON_ARRAY &&
               (strcmp(it.key, "firstBatch") == 0 || strcmp(it.key, "nextBatch") == 0)) {
      *batch = it.value;
      has_batch = true;
    }
  }
  return has_id && has_batch && !it.bad;
}

bool lumo_docs_take(lumo_docs *docs, lumo_reply *reply, int64_t *cursor, lumo_error *error) {
  lumo_value batch;
  lumo_iter it;
  if (!find_batch(reply, cursor, &batch) || !lumo_iter_value(&it, &batch)) return malformed(error);
  if (!reserve_reply(docs)) return lumo_error_memory(error);
  uint32_t before = docs->count;
  while (lumo_iter_next(&it)) {
    bool is_document = it.value.type == LUMO_BSON_DOCUMENT;
    if (is_document && lumo_docs_add(docs, it.value.data, it.value.len)) continue;
    docs->count = before; /* the views must not outlive a reply that stays the caller's */
    return is_document ? lumo_error_memory(error) : malformed(error);
  }
  if (it.bad) {
    docs->count = before;
    return malformed(error);
  }
  docs->replies[docs->reply_count++] = reply->data;
  reply->data = NULL;
  return true;
}

/* ---- read ---- */

/* The command that is being run. A second one may be on another collection, which its first element names. */
static bool current_command(lumo_read_plan *read, lumo_step *step) {
  lumo_iter it;
  uint32_t len;
  size_t end = read->at;
  if (!take_document(&read->command, &end, &step->command, &step->command_len)) return false;
  if (read->at > 0 && lumo_iter_init(&it, step->command, step->command_len) && lumo_iter_next(&it) &&
      it.value.type == LUMO_BSON_STRING)
    read->collection = lumo_value_text(&it.value, &len);
  step->collection = read->collection;
  return true;
}

/* What comes after a batch that the caller has had: the next one, the next command, the end. */
static void read_on(lumo_read_plan *read) {
  lumo_step done;
  read->state = LUMO_READ_OPEN;
  if (read->cursor) return;
  take_document(&read->command, &read->at, &done.command, &done.command_len);
  read->state = read->at < read->command.len ? LUMO_READ_START : LUMO_READ_END;
}

static bool read_next(lumo_plan *plan, lumo_step *step, lumo_error *error) {
  lumo_read_plan *read = (lumo_read_plan *)plan;
  *step = (lumo_step){.kind = LUMO_STEP_READ, .single = read->single};
  switch (read->state) {
  case LUMO_READ_START:
    if (!current_command(read, step))
      return lumo_error_set(error, "E_ARGUMENT", "%s is no command", plan->name);
    break;
  case LUMO_READ_OPEN:
    if (read->streaming) docs_clear(&read->docs);
    *step = (lumo_step){.kind = LUMO_STEP_MORE,
                        .collection = read->collection,
                        .cursor = read->cursor,
                        .await_ms = read->await_ms};
    break;
  case LUMO_READ_BATCH:
    read_on(read);
    *step = (lumo_step){.kind = LUMO_STEP_PAUSE};
    break;
  case LUMO_READ_END:
    if (read->streaming) docs_clear(&read->docs); /* the last batch was the last pause's */
    *step = (lumo_step){.kind = LUMO_STEP_DONE};
    break;
  }
  return true;
}

/* A change stream's position moves on even when there is no event for it. */
static bool take_token(lumo_read_plan *read, const lumo_reply *reply) {
  lumo_value token;
  if (!lumo_bson_find_path(reply->data, reply->len, LUMO_KEY("cursor.postBatchResumeToken"), &token) ||
      token.type != LUMO_BSON_DOCUMENT)
    return true;
  lumo_buf_clear(&read->token);
  lumo_buf_append(&read->token, token.data, token.len);
  return !read->token.failed;
}

static bool read_feed(lumo_plan *plan, lumo_reply *reply, lumo_error *error) {
  lumo_read_plan *read = (lumo_read_plan *)plan;
  if (read->tailing && !take_token(read, reply)) return lumo_error_memory(error);
  if (!lumo_docs_take(&read->docs, reply, &read->cursor, error)) return false;
  if (read->single) read->cursor = 0;
  /* An empty batch is nothing to pause for, unless the caller wants to know how time goes by. */
  if (read->streaming && (read->docs.count > 0 || (read->tailing && read->cursor)))
    read->state = LUMO_READ_BATCH;
  else
    read_on(read);
  return true;
}

static void read_restart(lumo_plan *plan) {
  lumo_read_plan *read = (lumo_read_plan *)plan;
  docs_clear(&read->docs);
  read->cursor = 0;
  read->at = 0;
  read->collection = read->first_collection;
  read->state = LUMO_READ_START;
}

static void read_free(lumo_plan *plan) {
  lumo_read_plan *read = (lumo_read_plan *)plan;
  lumo_docs_free(&read->docs);
  lumo_buf_free(&read->token);
  lumo_buf_free(&read->command);
  lumo_free(read);
}

static const lumo_plan_class read_class = {read_next, read_feed, read_restart, read_free};

lumo_read_plan *lumo_read_plan_new(const char *name, const char *collection, lumo_buf *command, bool single,
                                   bool streaming, lumo_error *error) {
  char *copy;
  lumo_read_plan *read = plan_new(sizeof *read, &read_class, name, collection, &copy, command, error);
  if (!read) return NULL;
  read->collection = read->first_collection = copy;
  read->single = single;
  read->streaming = streaming;
  if (take_buffer(&read->command, command, error)) return read;
  lumo_plan_free(&read->plan);
  return NULL;
}

void lumo_read_plan_tail(lumo_read_plan *plan, int32_t await_ms) {
  plan->tailing = true;
  plan->await_ms = await_ms;
}

/* ---- write ---- */

static bool write_next(lumo_plan *plan, lumo_step *step, lumo_error *error) {
  (void)error;
  lumo_write_plan *write = (lumo_write_plan *)plan;
  if (write->sent || write->statements.len == 0) {
    *step = (lumo_step){.kind = LUMO_STEP_DONE};
    return true;
  }
  *step = (lumo_step){.kind = LUMO_STEP_WRITE,
                      .collection = write->collection,
                      .statements = &write->statements,
                      .ordered = write->ordered,
                      .repeatable = write->repeatable};
  return true;
}

static bool write_feed(lumo_plan *plan, lumo_reply *reply, lumo_error *error) {
  (void)error;
  lumo_write_plan *write = (lumo_write_plan *)plan;
  write->sent = true;
  write->reply = reply->data;
  write->reply_len = reply->len;
  reply->data = NULL;
  return true;
}

static void write_restart(lumo_plan *plan) {
  lumo_write_plan *write = (lumo_write_plan *)plan;
  lumo_free(write->reply);
  write->reply = NULL;
  write->reply_len = 0;
  write->sent = false;
}

static void write_free(lumo_plan *plan) {
  lumo_write_plan *write = (lumo_write_plan *)plan;
  lumo_free(write->reply);
  lumo_buf_free(&write->statements);
  lumo_free(write);
}

static const lumo_plan_class write_class = {write_next, write_feed, write_restart, write_free};

lumo_write_plan *lumo_write_plan_new(const char *name, const char *collection, lumo_buf *statements,
                                     bool ordered, bool atomic, lumo_error *error) {
  char *copy;
  lumo_write_plan *write = plan_new(sizeof *write, &write_class, name, collection, &copy, statements, error);
  if (!write) return NULL;
  write->plan.atomic = atomic;
  write->plan.writes = true;
  write->collection = copy;
  write->ordered = ordered;
  if (take_buffer(&write->statements, statements, error)) return write;
  lumo_plan_free(&write->plan);
  return NULL;
}

int64_t lumo_reply_count(const uint8_t *reply, uint32_t len, const char *name) {
  lumo_value v;
  if (!reply || !lumo_bson_find(reply, len, name, strlen(name), &v)) return 0;
  switch (v.type) {
  case LUMO_BSON_INT32: return lumo_value_int32(&v);
  case LUMO_BSON_INT64: return lumo_value_int64(&v);
  case LUMO_BSON_DOUBLE: return (int64_t)lumo_value_double(&v); /* servers have answered counts as doubles */
  default: return 0;
  }
}

/* ---- command ---- */

static bool command_next(lumo_plan *plan, lumo_step *step, lumo_error *error) {
  (void)error;
  lumo_command_plan *command = (lumo_command_plan *)plan;
  if (command->sent) {
    *step = (lumo_step){.kind = LUMO_STEP_DONE};
    return true;
  }
  *step = (lumo_step){.kind = LUMO_STEP_COMMAND,
                      .database = command->database,
                      .command = command->command.data,
                      .command_len = (uint32_t)command->command.len,
                      .writes = command->writes};
  return true;
}

static bool command_feed(lumo_plan *plan, lumo_reply *reply, lumo_error *error) {
  (void)error;
  lumo_command_plan *command = (lumo_command_plan *)plan;
  command->sent = true;
  command->reply = reply->data;
  command->reply_len = reply->len;
  reply->data = NULL;
  return true;
}

static void command_restart(lumo_plan *plan) {
  lumo_command_plan *command = (lumo_command_plan *)plan;
  lumo_free(command->reply);
  command->reply = NULL;
  command->reply_len = 0;
  command->sent = false;
}

static void command_free(lumo_plan *plan) {
  lumo_command_plan *command = (lumo_command_plan *)plan;
  lumo_free(command->reply);
  lumo_buf_free(&command->command);
  lumo_free(command);
}

static const lumo_plan_class command_class = {command_next, command_feed, command_restart, command_free};

lumo_command_plan *lumo_command_plan_new(const char *name, const char *database, lumo_buf *command,
                                         bool writes, lumo_error *error) {
  char *copy;
  lumo_command_plan *plan = plan_new(sizeof *plan, &command_class, name, database, &copy, command, error);
  if (!plan) return NULL;
  plan->database = copy;
  plan->writes = plan->plan.writes = writes;
  if (take_buffer(&plan->command, command, error)) return plan;
  lumo_plan_free(&plan->plan);
  return NULL;
}
