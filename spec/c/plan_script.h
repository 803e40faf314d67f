/* Driving a plan by hand: what it must send is written as JSON, and so is what it gets as a reply. JSON is
 * written with single quotes here; in what is expected, a "?" stands for the 24 digits of a generated id. */
#ifndef LUMO_SPEC_PLAN_SCRIPT_H
#define LUMO_SPEC_PLAN_SCRIPT_H

#include "check.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/plan.h"

/* The bytes of one JSON object; freed with lumo_buf_free. */
static inline lumo_buf from_json(const char *json) {
  lumo_buf out = {0};
  lumo_error error;
  size_t len = strlen(json);
  char *text = malloc(len + 1);
  for (size_t i = 0; i <= len; i++) text[i] = json[i] == '\'' ? '"' : json[i];
  lumo_error_init(&error);
  if (!lumo_json_parse(&out, text, len, &error)) {
    fprintf(stderr, "%s in %s\n", error.message, json);
    abort();
  }
  free(text);
  return out;
}

/* A value out of a JSON object's field `v`; it lives in the buffer. */
static inline lumo_value value_of(const lumo_buf *document) {
  lumo_value value;
  lumo_bson_find(document->data, document->len, "v", 1, &value);
  return value;
}

static inline int same_script(const char *actual, const char *expected) {
  while (*actual && *expected) {
    char wanted = *expected++;
    if (wanted == '?' && strspn(actual, "0123456789abcdef") >= 24) {
      actual += 24;
      continue;
    }
    if (wanted == '\'') wanted = '"';
    if (*actual++ != wanted) return 0;
  }
  return *actual == *expected;
}

/* Takes the text that stands in a buffer, and frees it. */
#define CHECK_SCRIPT(actual, expected) check_script((actual), (expected), __FILE__, __LINE__)
static inline void check_script(lumo_buf *actual, const char *expected, const char *file, int line) {
  lumo_buf_append(actual, "", 1);
  const char *text = (const char *)actual->data;
  if (!check_true(same_script(text, expected), "the same text", file, line))
    fprintf(stderr, "  is        %.4000s\n  should be %.4000s\n", text, expected);
  lumo_buf_free(actual);
}

static inline void show(lumo_buf *out, const char *text) {
  lumo_buf_append(out, text, strlen(text));
}

static inline void show_statements(lumo_buf *out, const lumo_buf *statements) {
  lumo_statement statement;
  size_t at = 0;
  while (lumo_statement_next(statements, &at, &statement)) {
    char kind[] = {' ', (char)statement.kind, '\0'};
    show(out, kind);
    if (statement.filter)
      lumo_json_document(out, statement.filter, statement.filter_len, false, LUMO_JSON_RELAXED);
    if (statement.filter && statement.document) show(out, ",");
    if (!statement.document) continue;
    bool is_pipeline = statement.document_len > 6 && statement.document[4] == LUMO_BSON_DOCUMENT &&
                       memcmp(statement.document + 5, "0", 2) == 0;
    lumo_json_document(out, statement.document, statement.document_len, is_pipeline, LUMO_JSON_RELAXED);
  }
  if (at != statements->len) show(out, " (malformed)");
}

static const lumo_plan *stepped; /* the plan whose step waits for its reply */

/* The next step as a text: "read posts {…}", "more posts 7", "write posts i{…} u{…},{…}" ("write?" where
 * duplicates are fed, "write!" where it is ordered), "done", or "failed E_CODE". */
static inline void next_step(lumo_plan *plan, lumo_buf *out) {
  lumo_step step;
  lumo_error error;
  char number[32];
  lumo_error_init(&error);
  if (!plan->class->next(plan, &step, &error)) {
    show(out, "failed ");
    show(out, error.code);
    lumo_error_reset(&error);
    return;
  }
  stepped = step.kind == LUMO_STEP_DONE ? NULL : plan;
  switch (step.kind) {
  case LUMO_STEP_READ:
    show(out, step.single ? "read1 " : "read ");
    show(out, step.collection);
    show(out, " ");
    lumo_json_document(out, step.command, step.command_len, false, LUMO_JSON_RELAXED);
    break;
  case LUMO_STEP_MORE:
    show(out, "more ");
    show(out, step.collection);
    snprintf(number, sizeof number, " %lld", (long long)step.cursor);
    show(out, number);
    break;
  case LUMO_STEP_WRITE:
    show(out, step.feed_duplicates ? "write? " : step.ordered ? "write! " : "write ");
    show(out, step.collection);
    show_statements(out, step.statements);
    break;
  case LUMO_STEP_DONE: show(out, "done"); break;
  default: show(out, "something else"); break;
  }
}

static inline void restart_plan(lumo_plan *plan) {
  if (stepped == plan) stepped = NULL;
  plan->class->restart(plan);
}

static inline void end_plan(lumo_plan *plan) {
  if (stepped == plan) stepped = NULL;
  lumo_plan_free(plan);
}

#define EXPECT(plan, expected) expect_step((plan), (expected), __FILE__, __LINE__)
static inline void expect_step(lumo_plan *plan, const char *expected, const char *file, int line) {
  lumo_buf out = {0};
  next_step(plan, &out);
  check_script(&out, expected, file, line);
}

/* Feeds bytes; true if the plan went on. A step that the test did not care to look at is made first. */
static inline bool feed_bytes(lumo_plan *plan, const lumo_buf *bytes, bool dead, lumo_error *error) {
  lumo_step step;
  if (stepped != plan && !plan->class->next(plan, &step, error)) return false;
  stepped = NULL;
  lumo_reply reply = {malloc(bytes->len), (uint32_t)bytes->len, dead};
  memcpy(reply.data, bytes->data, bytes->len);
  bool fine = plan->class->feed(plan, &reply, error);
  free(reply.data);
  return fine;
}

static inline bool feed_json(lumo_plan *plan, const char *json, bool dead, lumo_error *error) {
  lumo_buf bytes = from_json(json);
  bool fine = feed_bytes(plan, &bytes, dead, error);
  lumo_buf_free(&bytes);
  return fine;
}

#define FEED(plan, json)                                                                                     \
  do {                                                                                                       \
    lumo_error feed_error;                                                                                   \
    lumo_error_init(&feed_error);                                                                            \
    if (!CHECK(feed_json((plan), (json), false, &feed_error)))                                               \
      fprintf(stderr, "  %s\n", feed_error.message);                                                         \
  } while (0)

/* The reply of a find: the documents of its batch, and whether more follow. */
#define BATCH(documents) "{'cursor':{'id':{'$numberLong':'0'},'firstBatch':[" documents "]},'ok':1}"
#define BATCH_OF(cursor, documents)                                                                          \
  "{'cursor':{'id':{'$numberLong':'" #cursor "'},'nextBatch':[" documents "]},'ok':1}"

/* Runs a whole operation once for every allocation that it makes, which then fails. `make` may fail. Each
 * time the operation must end with E_MEMORY, the last time well. */
typedef lumo_plan *(*plan_maker)(lumo_error *error);

static inline bool run_script(plan_maker make, const lumo_buf *replies, lumo_error *error) {
  lumo_plan *plan = make(error);
  lumo_step step = {0};
  bool fine = plan != NULL;
  while (fine) {
    fine = plan->class->next(plan, &step, error);
    stepped = plan;
    if (!fine || step.kind == LUMO_STEP_DONE) break;
    fine = replies->len > 0 && feed_bytes(plan, replies++, false, error);
  }
  lumo_mem_fail_at(0);
  lumo_plan_free(plan);
  return fine;
}

static inline void check_memory(plan_maker make, const char *const *replies) {
  lumo_buf bytes[16] = {{0}};
  lumo_error error;
  unsigned long n = 1, good = 0;
  for (int i = 0; replies[i]; i++) bytes[i] = from_json(replies[i]);
  for (; good < 20 && n < 10000; n++) {
    lumo_error_init(&error);
    lumo_mem_fail_at(n);
    bool fine = run_script(make, bytes, &error);
    if (fine) {
      good++;
    } else {
      CHECK(error.code && strcmp(error.code, "E_MEMORY") == 0);
      CHECK_INT(good, 0); /* no failure may have been swallowed before */
    }
    lumo_error_reset(&error);
  }
  CHECK_INT(good, 20);
  CHECK(n > 21); /* something was allocated */
  for (int i = 0; replies[i]; i++) lumo_buf_free(&bytes[i]);
}

#endif
