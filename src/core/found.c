#include "found.h"

#include <string.h>

#include "keys.h"
#include "mem.h"

typedef struct found_plan {
  lumo_write_plan head; /* its statements are made of the ids */
  lumo_buf texts;       /* what it is given, one after the other */
  lumo_found found;     /* its pointers lead into the texts */
  lumo_buf command;
  /* ---- what a restart forgets ---- */
  lumo_keys ids;
  int64_t cursor;
  enum { START, MORE, WRITE } phase;
} found_plan;

static void write_statements(found_plan *plan) {
  const lumo_found *found = &plan->found;
  lumo_buf *out = &plan->head.statements;
  lumo_buf_clear(out);
  lumo_statement_options(out, found->options, found->options_len);
  for (uint32_t from = 0, to; from < plan->ids.count; from = to) {
    to = lumo_keys_portion(&plan->ids, from, LUMO_PORTION_KEYS);
    lumo_statement_begin(out, found->update ? LUMO_UPDATE_MANY : LUMO_DELETE_MANY);
    size_t filter = lumo_bson_begin(out);
    lumo_keys_filter(&plan->ids, from, to, out, "_id");
    size_t list = lumo_bson_begin_array(out, LUMO_KEY("$and"));
    lumo_bson_document(out, LUMO_KEY("0"), found->filter, found->filter_len);
    lumo_bson_end(out, list);
    lumo_bson_end(out, filter);
    if (found->update) lumo_buf_append(out, found->update, found->update_len);
  }
}

static bool found_next(lumo_plan *base, lumo_step *step, lumo_error *error) {
  found_plan *plan = (found_plan *)base;
  *step = (lumo_step){.kind = LUMO_STEP_DONE};
  switch (plan->phase) {
  case START:
    *step = (lumo_step){.kind = LUMO_STEP_READ,
                        .collection = plan->found.source,
                        .command = plan->command.data,
                        .command_len = (uint32_t)plan->command.len};
    break;
  case MORE:
    *step = (lumo_step){.kind = LUMO_STEP_MORE, .collection = plan->found.source, .cursor = plan->cursor};
    break;
  case WRITE:
    if (plan->head.sent || plan->ids.count == 0) break;
    write_statements(plan);
    if (plan->head.statements.failed) return lumo_error_memory(error);
    *step = (lumo_step){.kind = LUMO_STEP_WRITE,
                        .collection = plan->found.collection,
                        .statements = &plan->head.statements,
                        .ordered = true};
  }
  return true;
}

static bool take_ids(found_plan *plan, lumo_reply *reply, lumo_error *error) {
  lumo_docs docs = {0};
  lumo_value id;
  uint32_t place;
  bool fine = lumo_docs_take(&docs, reply, &plan->cursor, error);
  for (uint32_t i = 0; fine && i < docs.count; i++) {
    lumo_bson_find(docs.items[i].data, docs.items[i].len, LUMO_KEY("_id"), &id);
    fine = lumo_keys_add(&plan->ids, &id, &place) >= 0 || lumo_error_memory(error);
  }
  lumo_docs_free(&docs);
  plan->phase = plan->cursor ? MORE : WRITE;
  return fine;
}

static bool found_feed(lumo_plan *base, lumo_reply *reply, lumo_error *error) {
  found_plan *plan = (found_plan *)base;
  if (plan->phase != WRITE) return take_ids(plan, reply, error);
  plan->head.sent = true;
  plan->head.reply = reply->data;
  plan->head.reply_len = reply->len;
  reply->data = NULL;
  return true;
}

static void found_restart(lumo_plan *base) {
  found_plan *plan = (found_plan *)base;
  lumo_free(plan->head.reply);
  plan->head.reply = NULL;
  plan->head.reply_len = 0;
  plan->head.sent = false;
  lumo_keys_free(&plan->ids);
  plan->cursor = 0;
  plan->phase = START;
}

static void found_free(lumo_plan *base) {
  found_plan *plan = (found_plan *)base;
  found_restart(base);
  lumo_buf_free(&plan->head.statements);
  lumo_buf_free(&plan->texts);
  lumo_buf_free(&plan->command);
  lumo_free(plan);
}

static bool copy_found(found_plan *plan, const lumo_found *from) {
  lumo_buf *texts = &plan->texts;
  size_t source = strlen(from->source) + 1, collection = strlen(from->collection) + 1;
  lumo_buf_append(texts, from->source, source);
  lumo_buf_append(texts, from->collection, collection);
  lumo_buf_append(texts, from->filter, from->filter_len);
  if (from->update) lumo_buf_append(texts, from->update, from->update_len);
  lumo_buf_append(texts, from->options, from->options_len);
  if (texts->failed) return false;
  plan->found = *from;
  plan->found.source = (const char *)texts->data;
  plan->found.collection = plan->found.source + source;
  plan->found.filter = texts->data + source + collection;
  if (from->update) plan->found.update = plan->found.filter + from->filter_len;
  plan->found.options = texts->data + texts->len - from->options_len;
  return true;
}

lumo_write_plan *lumo_found_plan_new(const char *name, const lumo_found *found, lumo_buf *command,
                                     lumo_error *error) {
  static const lumo_plan_class class = {found_next, found_feed, found_restart, found_free};
  found_plan *plan = command->failed ? NULL : lumo_calloc(1, sizeof *plan);
  if (!plan) {
    lumo_buf_free(command);
    lumo_error_memory(error);
    return NULL;
  }
  lumo_plan_init(&plan->head.plan, &class, name);
  plan->head.plan.atomic = plan->head.plan.writes = true;
  plan->command = *command;
  memset(command, 0, sizeof *command);
  if (copy_found(plan, found)) return &plan->head;
  lumo_plan_free(&plan->head.plan);
  lumo_error_memory(error);
  return NULL;
}
