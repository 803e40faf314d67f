/* Plain plans, run against replies that the test makes up: no server. */
#include "core/plan.h"

#include "check.h"
#include "core/mem.h"

static lumo_error error;

/* {cursor: {id, <batch>: [{n: from}, …]}, ok: 1} */
static lumo_reply cursor_reply(int64_t id, const char *batch, int from, int count) {
  lumo_buf buf = {0};
  size_t len;
  size_t top = lumo_bson_begin(&buf);
  size_t cursor = lumo_bson_begin_document(&buf, LUMO_KEY("cursor"));
  size_t list = lumo_bson_begin_array(&buf, batch, strlen(batch));
  for (int i = 0; i < count; i++) {
    lumo_bson_index(&buf, LUMO_BSON_DOCUMENT, (uint32_t)i);
    size_t document = lumo_bson_begin(&buf);
    lumo_bson_int32(&buf, LUMO_KEY("n"), from + i);
    lumo_bson_end(&buf, document);
  }
  lumo_bson_end(&buf, list);
  lumo_bson_int64(&buf, LUMO_KEY("id"), id);
  lumo_bson_end(&buf, cursor);
  lumo_bson_int32(&buf, LUMO_KEY("ok"), 1);
  lumo_bson_end(&buf, top);
  uint8_t *data = lumo_buf_take(&buf, &len);
  return (lumo_reply){.data = data, .len = (uint32_t)len};
}

static lumo_reply counter_reply(const char *name, int32_t n) {
  lumo_buf buf = {0};
  size_t len;
  size_t top = lumo_bson_begin(&buf);
  lumo_bson_int32(&buf, name, strlen(name), n);
  lumo_bson_end(&buf, top);
  uint8_t *data = lumo_buf_take(&buf, &len);
  return (lumo_reply){.data = data, .len = (uint32_t)len};
}

static lumo_buf document(const char *key, int32_t n) {
  lumo_buf buf = {0};
  size_t top = lumo_bson_begin(&buf);
  lumo_bson_int32(&buf, key, strlen(key), n);
  lumo_bson_end(&buf, top);
  return buf;
}

static lumo_step next(lumo_plan *plan) {
  lumo_step step = {.kind = LUMO_STEP_DONE};
  CHECK(plan->class->next(plan, &step, &error));
  return step;
}

static bool feed(lumo_plan *plan, lumo_reply reply) {
  bool ok = plan->class->feed(plan, &reply, &error);
  lumo_free(reply.data);
  return ok;
}

static int32_t n_of(const lumo_docs *docs, uint32_t i) {
  lumo_value v;
  return lumo_bson_find(docs->items[i].data, docs->items[i].len, LUMO_KEY("n"), &v) ? lumo_value_int32(&v)
                                                                                    : -1;
}

static void gathered_read(void) {
  lumo_buf command = document("find", 1);
  char collection[] = "posts";
  lumo_read_plan *read = lumo_read_plan_new("all", collection, &command, false, false, &error);
  CHECK(command.data == NULL);
  memset(collection, 'x', 5); /* the name was copied */
  CHECK_TEXT(read->plan.name, strlen(read->plan.name), "all");
  lumo_step step = next(&read->plan);
  CHECK_INT(step.kind, LUMO_STEP_READ);
  CHECK(!step.single);
  CHECK_TEXT(step.collection, strlen(step.collection), "posts");
  CHECK_INT(step.command_len, read->command.len);
  CHECK(feed(&read->plan, cursor_reply(77, "firstBatch", 0, 3)));
  step = next(&read->plan);
  CHECK_INT(step.kind, LUMO_STEP_MORE);
  CHECK_INT(step.cursor, 77);
  CHECK(feed(&read->plan, cursor_reply(77, "nextBatch", 3, 0)));
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_MORE);
  CHECK(feed(&read->plan, cursor_reply(0, "nextBatch", 3, 2)));
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_DONE);
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_DONE);
  CHECK_INT(read->docs.count, 5);
  for (uint32_t i = 0; i < 5; i++) CHECK_INT(n_of(&read->docs, i), i);

  read->plan.class->restart(&read->plan);
  CHECK_INT(read->docs.count, 0);
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_READ);
  CHECK(feed(&read->plan, cursor_reply(0, "firstBatch", 9, 1)));
  CHECK_INT(read->docs.count, 1);
  CHECK_INT(n_of(&read->docs, 0), 9);
  lumo_plan_free(&read->plan);
}

/* A command in lent memory is copied into the plan, which outlives that memory. */
static void lent_command(void) {
  char memory[64];
  lumo_buf command = lumo_buf_lend(memory, sizeof memory), same = document("find", 1);
  lumo_buf_append(&command, same.data, same.len);
  lumo_read_plan *read = lumo_read_plan_new("all", "posts", &command, false, false, &error);
  CHECK(command.data == NULL);
  memset(memory, 'x', sizeof memory);
  lumo_step step = next(&read->plan);
  CHECK(step.command_len == same.len && memcmp(step.command, same.data, same.len) == 0);
  CHECK_TEXT(step.collection, strlen(step.collection), "posts");
  lumo_plan_free(&read->plan);
  command = lumo_buf_lend(memory, sizeof memory);
  command.failed = true;
  CHECK(lumo_read_plan_new("all", "posts", &command, false, false, &error) == NULL);
  lumo_error_reset(&error);
  lumo_buf_free(&same);
}

static void many_replies(void) {
  lumo_buf command = document("find", 1);
  lumo_read_plan *read = lumo_read_plan_new("all", "posts", &command, false, false, &error);
  for (int i = 0; i < 40; i++)
    CHECK(feed(&read->plan, cursor_reply(i < 39, i ? "nextBatch" : "firstBatch", i * 7, 7)));
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_DONE);
  CHECK_INT(read->docs.count, 280);
  for (uint32_t i = 0; i < 280; i++) CHECK_INT(n_of(&read->docs, i), i);
  lumo_plan_free(&read->plan);
}

static void streamed_read(void) {
  lumo_buf command = document("find", 1);
  lumo_read_plan *read = lumo_read_plan_new("each", "posts", &command, false, true, &error);
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_READ);
  CHECK(feed(&read->plan, cursor_reply(5, "firstBatch", 0, 2)));
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_PAUSE);
  CHECK_INT(read->docs.count, 2);
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_MORE);
  CHECK_INT(read->docs.count, 0);
  /* an empty batch of a cursor that is still open: nothing to show, on to the next */
  CHECK(feed(&read->plan, cursor_reply(5, "nextBatch", 2, 0)));
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_MORE);
  CHECK(feed(&read->plan, cursor_reply(0, "nextBatch", 2, 1)));
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_PAUSE);
  CHECK_INT(read->docs.count, 1);
  CHECK_INT(n_of(&read->docs, 0), 2);
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_DONE);
  CHECK_INT(read->docs.count, 0);
  lumo_plan_free(&read->plan);
}

static void single_read(void) {
  lumo_buf command = document("find", 1);
  lumo_read_plan *read = lumo_read_plan_new("find", "posts", &command, true, false, &error);
  CHECK(next(&read->plan).single);
  CHECK(feed(&read->plan, cursor_reply(8, "firstBatch", 4, 1))); /* a cursor that nobody will read */
  CHECK_INT(next(&read->plan).kind, LUMO_STEP_DONE);
  CHECK_INT(n_of(&read->docs, 0), 4);
  lumo_plan_free(&read->plan);
}

static void malformed_replies(void) {
  lumo_docs docs = {0};
  int64_t cursor;
  lumo_reply reply = counter_reply("ok", 1); /* no cursor */
  CHECK(!lumo_docs_take(&docs, &reply, &cursor, &error));
  CHECK_TEXT(error.code, strlen(error.code), "E_SERVER");
  CHECK(reply.data != NULL);
  lumo_free(reply.data);

  reply = cursor_reply(1, "batch", 0, 1); /* no batch */
  CHECK(!lumo_docs_take(&docs, &reply, &cursor, &error));
  lumo_free(reply.data);

  /* {cursor: {id: 0, firstBatch: [{}, 1]}}: the good document before the bad element must not stay */
  lumo_buf buf = {0};
  size_t top = lumo_bson_begin(&buf);
  size_t inner = lumo_bson_begin_document(&buf, LUMO_KEY("cursor"));
  lumo_bson_int64(&buf, LUMO_KEY("id"), 0);
  size_t list = lumo_bson_begin_array(&buf, LUMO_KEY("firstBatch"));
  lumo_bson_end(&buf, lumo_bson_begin_document(&buf, LUMO_KEY("0")));
  lumo_bson_int32(&buf, LUMO_KEY("1"), 1);
  lumo_bson_end(&buf, list);
  lumo_bson_end(&buf, inner);
  lumo_bson_end(&buf, top);
  size_t len;
  uint8_t *bytes = lumo_buf_take(&buf, &len);
  reply = (lumo_reply){.data = bytes, .len = (uint32_t)len};
  CHECK(!lumo_docs_take(&docs, &reply, &cursor, &error));
  CHECK_INT(docs.count, 0);
  for (uint32_t cut = 0; cut < len;
       cut++) { /* cut short anywhere: refused, and nothing read beyond the end */
    uint8_t *part = malloc(cut ? cut : 1);
    memcpy(part, bytes, cut);
    reply = (lumo_reply){.data = part, .len = cut};
    CHECK(!lumo_docs_take(&docs, &reply, &cursor, &error));
    free(part);
  }
  lumo_free(bytes);
  lumo_docs_free(&docs);
  lumo_error_reset(&error);
}

static void append_document(lumo_buf *to, const char *key, int32_t n) {
  lumo_buf one = document(key, n);
  lumo_buf_append(to, one.data, one.len);
  lumo_buf_free(&one);
}

static void statements(void) {
  static const lumo_statement_kind kinds[] = {LUMO_INSERT,     LUMO_UPDATE_ONE, LUMO_UPDATE_MANY,
                                              LUMO_UPSERT_ONE, LUMO_DELETE_ONE, LUMO_DELETE_MANY};
  lumo_buf buf = {0};
  lumo_buf hint = {0};
  lumo_bson_string(&hint, LUMO_KEY("hint"), "by", 2);
  for (int i = 0; i < 6; i++) {
    lumo_statement_options(&buf, hint.data, i % 2 ? hint.len : 0);
    lumo_statement_begin(&buf, kinds[i]);
    append_document(&buf, "a", i);
    if (i >= 1 && i <= 3) append_document(&buf, "b", i);
  }
  size_t at = 0;
  lumo_statement s;
  for (int i = 0; i < 6; i++) {
    CHECK(lumo_statement_next(&buf, &at, &s));
    CHECK_INT(s.kind, kinds[i]);
    CHECK_INT(s.filter != NULL, i != 0);
    CHECK_INT(s.document != NULL, i <= 3);
    CHECK_INT(s.options != NULL, i % 2);
    lumo_value v;
    const uint8_t *first = i ? s.filter : s.document;
    CHECK(lumo_bson_find(first, i ? s.filter_len : s.document_len, LUMO_KEY("a"), &v) &&
          lumo_value_int32(&v) == i);
    CHECK(i % 2 == 0 ||
          (lumo_bson_find(s.options, s.options_len, LUMO_KEY("hint"), &v) && v.type == LUMO_BSON_STRING));
  }
  lumo_buf_free(&hint);
  CHECK(!lumo_statement_next(&buf, &at, &s));
  CHECK_INT(at, buf.len);
  /* A run that ends inside a statement stops before it, and at tells so. */
  lumo_buf cut = {0};
  lumo_buf_append(&cut, buf.data, buf.len - 1);
  for (at = 0; lumo_statement_next(&cut, &at, &s);)
    ;
  CHECK(at < cut.len);
  lumo_buf_free(&cut);
  lumo_buf_free(&buf);
}

static void kept_statements(void) {
  lumo_buf one = document("a", 1), two = document("a", 2), buf = {0}, cut = {0};
  lumo_statement_insert_kept(&buf, one.data, (uint32_t)one.len);
  lumo_statement_begin(&buf, LUMO_DELETE_ONE);
  append_document(&buf, "a", 3);
  lumo_statement_insert_kept(&buf, two.data, (uint32_t)two.len);
  size_t at = 0;
  lumo_statement s;
  CHECK(lumo_statement_next(&buf, &at, &s));
  CHECK_INT(s.kind, LUMO_INSERT);
  CHECK(s.document == one.data && s.document_len == one.len && !s.filter);
  CHECK(lumo_statement_next(&buf, &at, &s));
  CHECK_INT(s.kind, LUMO_DELETE_ONE);
  CHECK(lumo_statement_next(&buf, &at, &s));
  CHECK(s.document == two.data && s.document_len == two.len);
  CHECK(!lumo_statement_next(&buf, &at, &s));
  CHECK_INT(at, buf.len);
  lumo_buf_append(&cut, buf.data, buf.len - 1);
  for (at = 0; lumo_statement_next(&cut, &at, &s);)
    ;
  CHECK(at < cut.len);
  lumo_buf_free(&cut);
  lumo_buf_free(&buf);
  lumo_buf_free(&two);
  lumo_buf_free(&one);
}

static void write_plan(void) {
  lumo_buf buf = {0};
  lumo_statement_begin(&buf, LUMO_INSERT);
  append_document(&buf, "_id", 1);
  lumo_write_plan *write = lumo_write_plan_new("create", "posts", &buf, true, true, &error);
  CHECK(buf.data == NULL);
  CHECK(write->plan.atomic);
  for (int round = 0; round < 2; round++) {
    lumo_step step = next(&write->plan);
    CHECK_INT(step.kind, LUMO_STEP_WRITE);
    CHECK(step.ordered && !step.feed_duplicates && step.statements == &write->statements);
    CHECK(feed(&write->plan, counter_reply("nInserted", 1 + round)));
    CHECK_INT(next(&write->plan).kind, LUMO_STEP_DONE);
    CHECK_INT(lumo_reply_count(write->reply, write->reply_len, "nInserted"), 1 + round);
    CHECK_INT(lumo_reply_count(write->reply, write->reply_len, "nRemoved"), 0);
    if (round == 0) write->plan.class->restart(&write->plan);
  }
  lumo_plan_free(&write->plan);

  lumo_buf none = {0};
  write = lumo_write_plan_new("detach", "posts", &none, true, false, &error);
  CHECK_INT(next(&write->plan).kind, LUMO_STEP_DONE); /* nothing to write is done at once */
  CHECK_INT(lumo_reply_count(write->reply, write->reply_len, "nRemoved"), 0);
  lumo_plan_free(&write->plan);
}

static void old_servers(void) {
  lumo_buf command = document("aggregate", 1);
  lumo_read_plan *read = lumo_read_plan_new("find", "posts", &command, false, false, &error);
  read->plan.wire_version = 9;
  CHECK(lumo_plan_suits(&read->plan, &error)); /* it asks for nothing that is new */
  read->plan.least_version = LUMO_WIRE_JOINS;
  CHECK(!lumo_plan_suits(&read->plan, &error));
  CHECK_TEXT(error.code, strlen(error.code), "E_UNSUPPORTED");
  CHECK(strstr(error.message, "find with conditions") == error.message);
  lumo_error_reset(&error);
  read->plan.wire_version = LUMO_WIRE_JOINS;
  CHECK(lumo_plan_suits(&read->plan, &error));
  read->plan.wire_version = 0; /* not known */
  CHECK(lumo_plan_suits(&read->plan, &error));
  lumo_plan_free(&read->plan);
}

static void command_plan(void) {
  lumo_buf buf = document("ping", 1);
  lumo_command_plan *command = lumo_command_plan_new("command", "admin", &buf, false, &error);
  lumo_step step = next(&command->plan);
  CHECK_INT(step.kind, LUMO_STEP_COMMAND);
  CHECK_TEXT(step.database, strlen(step.database), "admin");
  CHECK(step.collection == NULL && !step.writes);
  CHECK(feed(&command->plan, counter_reply("ok", 1)));
  CHECK_INT(next(&command->plan).kind, LUMO_STEP_DONE);
  CHECK_INT(lumo_reply_count(command->reply, command->reply_len, "ok"), 1);
  command->plan.class->restart(&command->plan);
  CHECK(command->reply == NULL);
  CHECK_INT(next(&command->plan).kind, LUMO_STEP_COMMAND);
  lumo_plan_free(&command->plan);
  buf = document("findAndModify", 1);
  command = lumo_command_plan_new("update", NULL, &buf, true, &error);
  step = next(&command->plan);
  CHECK(step.writes && step.database == NULL);
  lumo_plan_free(&command->plan);
}

static int released;
static void release(void *lease) {
  released += lease == &released;
}

static void leases(void) {
  lumo_buf command = document("find", 1);
  lumo_read_plan *read = lumo_read_plan_new("each", "posts", &command, false, true, &error);
  read->plan.lease = &released;
  read->plan.release_lease = release;
  lumo_plan_free(&read->plan);
  CHECK_INT(released, 1);
  lumo_plan_free(NULL);
}

/* Every allocation of a plan's life fails once: it reports E_MEMORY, and nothing leaks (the sanitizer build
 * sees that). */
static void no_memory(void) {
  for (unsigned long n = 1;; n++) {
    lumo_buf command = document("find", 1);
    lumo_reply first = cursor_reply(3, "firstBatch", 0, 3), second = cursor_reply(0, "nextBatch", 3, 3);
    lumo_error_reset(&error);
    lumo_mem_fail_at(n);
    lumo_read_plan *read = lumo_read_plan_new("all", "posts", &command, false, false, &error);
    bool ok = read && read->plan.class->feed(&read->plan, &first, &error) &&
              read->plan.class->feed(&read->plan, &second, &error);
    lumo_mem_fail_at(0);
    CHECK(command.data == NULL);
    if (!ok) CHECK_TEXT(error.code, strlen(error.code), "E_MEMORY");
    if (read && !ok) CHECK(read->docs.count == 0 || read->docs.count == 3); /* whole batches only */
    if (read) lumo_plan_free(&read->plan);
    lumo_free(first.data);
    lumo_free(second.data);
    if (ok) break;
    CHECK(n < 20);
  }
  lumo_buf failed = {.failed = true};
  lumo_error_reset(&error);
  CHECK(lumo_write_plan_new("create", "posts", &failed, true, false, &error) == NULL);
  CHECK_TEXT(error.code, strlen(error.code), "E_MEMORY");
  lumo_error_reset(&error);
}

int main(void) {
  lumo_error_init(&error);
  gathered_read();
  lent_command();
  many_replies();
  streamed_read();
  single_read();
  malformed_replies();
  statements();
  kept_statements();
  write_plan();
  command_plan();
  old_servers();
  leases();
  no_memory();
  return check_report();
}
