/* Asking the server how it answers the commands of a plan, before each is sent. */
#include <string.h>

#include "../core/explain.h"
#include "../core/mem.h"
#include "private.h"

/* How long the server may work on an explanation that nobody has asked for by name. */
#define LOOK_LIMIT_MS 1000

struct lumo_inspector {
  lumo_inspect_options options;
  lumo_inspected *items;
  size_t count, capacity;
};

/* ---- what need not be looked at again ---- */

/* Shapes of commands that have been looked at, by place: a newer one takes the place of another. Under the
 * lock. */
static uint64_t known_shapes[4096];

static uint64_t *place_of(uint64_t shape) {
  return &known_shapes[shape % (sizeof known_shapes / sizeof *known_shapes)];
}

static bool is_known(uint64_t shape) {
  lumo_driver_lock();
  bool known = *place_of(shape) == shape;
  lumo_driver_unlock();
  return known;
}

static void remember(uint64_t shape) {
  lumo_driver_lock();
  *place_of(shape) = shape;
  lumo_driver_unlock();
}

void lumo_inspected_forget(void) {
  lumo_driver_lock();
  memset(known_shapes, 0, sizeof known_shapes);
  lumo_driver_unlock();
}

/* Of a command on one database of one deployment; never 0. */
static uint64_t shape_of(const lumo_connection *connection, const lumo_explainable *one) {
  uint64_t shape = lumo_explainable_shape(one);
  const char *const texts[] = {mongoc_uri_get_string(connection->uri), connection->database};
  for (size_t i = 0; i < 2; i++)
    for (const char *c = texts[i]; *c; c++) shape = (shape ^ (uint8_t)*c) * 0x100000001b3u;
  return shape ? shape : 1;
}

/* ---- the inspector of a plan ---- */

static void free_item(lumo_inspected *item) {
  lumo_buf_free(&item->fields);
  lumo_explanation_free(&item->explanation);
  lumo_free(item->reply);
}

void lumo_inspected_free(lumo_inspected *items, size_t count) {
  for (size_t i = 0; i < count; i++) free_item(&items[i]);
  lumo_free(items);
}

static void release(void *data) {
  lumo_inspector *inspector = data;
  lumo_inspected_free(inspector->items, inspector->count);
  lumo_free(inspector);
}

bool lumo_plan_inspect(lumo_plan *plan, const lumo_inspect_options *options) {
  if (!plan->inspector) plan->inspector = lumo_calloc(1, sizeof(lumo_inspector));
  plan->release_inspector = release;
  if (!plan->inspector) return false;
  ((lumo_inspector *)plan->inspector)->options = *options;
  return true;
}

void lumo_plan_inspected(lumo_plan *plan, lumo_inspected **items, size_t *count) {
  lumo_inspector *inspector = plan->inspector;
  *items = inspector ? inspector->items : NULL;
  *count = inspector ? inspector->count : 0;
  if (!inspector) return;
  inspector->items = NULL;
  inspector->count = inspector->capacity = 0;
}

bool lumo_plan_is_dry(const lumo_plan *plan) {
  const lumo_inspector *inspector = plan->inspector;
  return inspector && inspector->options.dry;
}

bool lumo_dry_reply(lumo_reply *reply, lumo_error *error) {
  lumo_buf out = {0};
  size_t len, mark = lumo_bson_begin(&out), cursor = lumo_bson_begin_document(&out, LUMO_KEY("cursor"));
  lumo_bson_int64(&out, LUMO_KEY("id"), 0);
  lumo_bson_end(&out, lumo_bson_begin_array(&out, LUMO_KEY("firstBatch")));
  lumo_bson_end(&out, cursor);
  lumo_bson_end(&out, mark);
  bool ok = !out.failed;
  reply->data = lumo_buf_take(&out, &len);
  reply->len = (uint32_t)len;
  return ok || lumo_error_memory(error);
}

/* ---- looking at a command ---- */

/* Room for one more, zeroed; NULL: no memory. */
static lumo_inspected *add_item(lumo_inspector *inspector) {
  if (inspector->count == inspector->capacity) {
    size_t capacity = inspector->capacity ? inspector->capacity * 2 : 4;
    lumo_inspected *items = lumo_realloc(inspector->items, capacity * sizeof *items);
    if (!items) return NULL;
    inspector->items = items;
    inspector->capacity = capacity;
  }
  lumo_inspected *item = &inspector->items[inspector->count++];
  memset(item, 0, sizeof *item);
  return item;
}

/* Sends the explain: never in a transaction, where the server explains nothing, but by the same client. */
static bool ask(lumo_run_state *run, const lumo_step *step, const lumo_buf *command, lumo_reply *reply) {
  lumo_run_state outside = *run;
  lumo_step asked = {.kind = LUMO_STEP_COMMAND,
                     .command = command->data,
                     .command_len = (uint32_t)command->len,
                     .reads = step->kind == LUMO_STEP_READ};
  outside.transaction = NULL;
  outside.own_transaction = false;
  bool ok = lumo_step_send(&outside, &asked, reply) == LUMO_SENT;
  run->gave_up = outside.gave_up;
  return ok;
}

/* Takes the reply; false with *error: no memory. */
static bool keep(lumo_inspector *inspector, const lumo_explainable *one, lumo_reply *reply,
                 lumo_inspected **kept, lumo_error *error) {
  lumo_inspected *item = *kept = add_item(inspector);
  if (!item) return lumo_error_memory(error);
  strncat(item->name, one->name, sizeof item->name - 1);
  strncat(item->collection, one->collection, sizeof item->collection - 1);
  item->filtered = one->filtered;
  item->reply = reply->data;
  item->reply_len = reply->len;
  reply->data = NULL;
  lumo_filter_fields(&one->filter, &item->fields);
  bool read = lumo_explanation_read(&item->explanation, item->reply, item->reply_len);
  return (read && !item->fields.failed) || lumo_error_memory(error);
}

static bool explain(lumo_run_state *run, const lumo_step *step, const lumo_explainable *one,
                    lumo_buf *command) {
  lumo_inspector *inspector = run->plan->inspector;
  lumo_inspected *item;
  lumo_reply reply = {0};
  lumo_explainable_write(one, inspector->options.verbosity, 0, command);
  if (command->failed) return lumo_error_memory(run->error);
  bool ok = ask(run, step, command, &reply) && keep(inspector, one, &reply, &item, run->error);
  lumo_free(reply.data);
  return ok;
}

/* Whether a command reads a collection as a whole that it has conditions for. What cannot be known is no
 * reason to fail or to ask again. What does is kept, and looked at again with the next plan: an index may
 * have been made for it. */
static bool look(lumo_run_state *run, const lumo_step *step, const lumo_explainable *one, lumo_buf *command) {
  lumo_inspector *inspector = run->plan->inspector;
  lumo_inspected *item = NULL;
  lumo_reply reply = {0};
  if ((!one->filtered && !one->joined) || lumo_explainable_scans(one)) return true;
  uint64_t shape = shape_of(run->connection, one);
  if (is_known(shape)) return true;
  for (size_t i = 0; i < inspector->count; i++)
    if (inspector->items[i].shape == shape) return true;
  /* The server's older engine tells only after it has run it how it looks other collections up. */
  const char *verbosity = one->joined && !one->stores ? "executionStats" : "queryPlanner";
  lumo_explainable_write(one, verbosity, LOOK_LIMIT_MS, command);
  if (command->failed) return lumo_error_memory(run->error);
  lumo_log_pause(true);
  bool asked = ask(run, step, command, &reply);
  lumo_log_pause(false);
  if (!asked) {
    /* What the server refuses to tell it will refuse again; of a broken connection nothing follows. */
    if (strcmp(run->error->code, "E_NETWORK") != 0) remember(shape);
    lumo_error_reset(run->error);
    return true;
  }
  bool kept = keep(inspector, one, &reply, &item, run->error);
  lumo_free(reply.data);
  if (!kept) return false;
  const lumo_explanation *said = &item->explanation;
  item->shape = shape;
  bool scans = (one->filtered && said->scans) || said->join_scans;
  if (!scans) {
    if (!said->empty) remember(shape);
    free_item(item);
    inspector->count--;
  }
  if (!scans || !inspector->options.refuses) return true;
  return lumo_error_set(run->error, "E_ARGUMENT", "%s reads the whole collection", one->name);
}

bool lumo_inspect(lumo_run_state *run, const lumo_step *step) {
  const lumo_inspector *inspector = run->plan->inspector;
  lumo_explainable one = {0};
  lumo_buf command = {0};
  size_t at = 0;
  bool ok = true;
  while (ok && lumo_explainable_next(step, &at, &one)) {
    lumo_buf_clear(&command);
    ok = (inspector->options.verbosity ? explain : look)(run, step, &one, &command);
  }
  if (ok && one.command.failed) ok = lumo_error_memory(run->error);
  lumo_buf_free(&one.command);
  lumo_buf_free(&command);
  return ok;
}
