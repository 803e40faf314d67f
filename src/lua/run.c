/* The call that runs a plan, and what results look like in Lua. */
#include <string.h>

#include "../core/relation_read.h"
#include "private.h"

/* core.run(connection, plan, session or nil): true when it is done, false when it has paused. Blocks. Raises
 * the plan's error. */
static int run(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_connection *connection = lumo_check_connection(L, 1);
  lumo_plan *plan = lumo_check_any_plan(L, 2);
  lumo_refuse_in_column_function(L);
  lumo_run_result result = lumo_run(connection, plan, lumo_opt_session(L, 3), NULL, &error);
  if (result == LUMO_RUN_FAILED) lumo_raise(L, &error);
  lua_pushboolean(L, result == LUMO_RUN_DONE);
  return 1;
}

/* ---- results ---- */

/* core.plan_records(plan, class, connection number, companion or nil): the documents of a read as a list of
 * records, which share the companion. */
static int plan_records(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  uint16_t connection = (uint16_t)luaL_checkinteger(L, 3);
  const lumo_schema *schema = lumo_class_schema(L, 2);
  int companion = lua_istable(L, 4) ? 4 : 0;
  lua_settop(L, 4);
  lua_createtable(L, (int)plan->docs.count, 0);
  for (uint32_t i = 0; i < plan->docs.count; i++) {
    lumo_push_record(L, 2, schema, companion, false, plan->docs.items[i].data, plan->docs.items[i].len, NULL,
                     0, connection);
    lua_rawseti(L, 5, (int)i + 1);
  }
  return 1;
}

/* core.plan_documents(plan): the same as plain tables. */
static int plan_documents(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  lua_createtable(L, (int)plan->docs.count, 0);
  for (uint32_t i = 0; i < plan->docs.count; i++) {
    lumo_push_document(L, plan->docs.items[i].data, plan->docs.items[i].len);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.plan_ordered(plan, field): of each document that field's own fields in their order, which a table
 * would not keep, as a list of { name, value }; an empty one where it is no document. */
static int plan_ordered(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  size_t len;
  const char *name = luaL_checklstring(L, 2, &len);
  lua_createtable(L, (int)plan->docs.count, 0);
  for (uint32_t i = 0; i < plan->docs.count; i++) {
    lumo_value document;
    lumo_iter it;
    int n = 0;
    lua_newtable(L);
    lumo_bson_find(plan->docs.items[i].data, plan->docs.items[i].len, name, len, &document);
    bool is_document = document.type == LUMO_BSON_DOCUMENT && lumo_iter_value(&it, &document);
    while (is_document && lumo_iter_next(&it)) {
      lua_createtable(L, 2, 0);
      lua_pushlstring(L, it.key, it.key_len);
      lua_rawseti(L, -2, 1);
      lumo_push_value(L, &it.value);
      lua_rawseti(L, -2, 2);
      lua_rawseti(L, -2, ++n);
    }
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.plan_values(plan, stored name, nulls): the field's values of the documents; those that have none are
 * left out, or with `nulls` are lumo.null. */
static int plan_values(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  size_t len;
  const char *name = luaL_checklstring(L, 2, &len);
  bool nulls = lua_toboolean(L, 3);
  int n = 0;
  lua_createtable(L, (int)plan->docs.count, 0);
  for (uint32_t i = 0; i < plan->docs.count; i++) {
    lumo_value value;
    lumo_bson_find_path(plan->docs.items[i].data, plan->docs.items[i].len, name, len, &value);
    if (lumo_value_is_null(&value) && !nulls) continue;
    if (lumo_value_is_null(&value))
      lua_pushlightuserdata(L, NULL);
    else
      lumo_push_value(L, &value);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* core.plan_size(plan): how many documents were read. */
static int plan_size(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  lua_pushinteger(L, (lua_Integer)plan->docs.count);
  return 1;
}

static int64_t number_of(const lumo_value *v) {
  if (v->type == LUMO_BSON_INT32) return lumo_value_int32(v);
  if (v->type == LUMO_BSON_INT64) return lumo_value_int64(v);
  return v->type == LUMO_BSON_DOUBLE ? (int64_t)lumo_value_double(v) : 0;
}

/* core.plan_count(plan): the `n` of a counting read, 0 when it matched nothing. */
static int plan_count(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  lumo_value n = {0};
  if (plan->docs.count > 0)
    lumo_bson_find(plan->docs.items[0].data, plan->docs.items[0].len, LUMO_KEY("n"), &n);
  lumo_push_int64(L, number_of(&n));
  return 1;
}

/* core.plan_field(plan, name): a field of the first document read; nil when there is none or it is null. */
static int plan_field(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  size_t len;
  const char *name = luaL_checklstring(L, 2, &len);
  lumo_value value = {0};
  if (plan->docs.count > 0)
    lumo_bson_find(plan->docs.items[0].data, plan->docs.items[0].len, name, len, &value);
  if (lumo_value_is_null(&value))
    lua_pushnil(L);
  else
    lumo_push_value(L, &value);
  return 1;
}

/* core.plan_token(plan): where a tailing plan has got to, as BSON bytes; nil when it is not known. */
static int plan_token(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  if (plan->token.len == 0)
    lua_pushnil(L);
  else
    lua_pushlstring(L, (const char *)plan->token.data, plan->token.len);
  return 1;
}

/* core.plan_field_records(plan, field, class, connection number, companion or nil): the documents in that
 * field as a list of records, with false where there is none. */
static int plan_field_records(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  size_t len;
  const char *field = luaL_checklstring(L, 2, &len);
  const lumo_schema *schema = lumo_class_schema(L, 3);
  uint16_t connection = (uint16_t)luaL_checkinteger(L, 4);
  int companion = lua_istable(L, 5) ? 5 : 0;
  lua_settop(L, 5);
  lua_createtable(L, (int)plan->docs.count, 0); /* 6 */
  for (uint32_t i = 0; i < plan->docs.count; i++) {
    lumo_value document;
    lumo_bson_find(plan->docs.items[i].data, plan->docs.items[i].len, field, len, &document);
    if (document.type == LUMO_BSON_DOCUMENT)
      lumo_push_record(L, 3, schema, companion, false, document.data, document.len, NULL, 0, connection);
    else
      lua_pushboolean(L, false);
    lua_rawseti(L, 6, (int)i + 1);
  }
  return 1;
}

/* core.plan_field_bytes(plan, field): the documents in that field as BSON bytes, with false where there is
 * none. */
static int plan_field_bytes(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  size_t len;
  const char *field = luaL_checklstring(L, 2, &len);
  lua_createtable(L, (int)plan->docs.count, 0);
  for (uint32_t i = 0; i < plan->docs.count; i++) {
    lumo_value document;
    lumo_bson_find(plan->docs.items[i].data, plan->docs.items[i].len, field, len, &document);
    if (document.type == LUMO_BSON_DOCUMENT)
      lua_pushlstring(L, (const char *)document.data, document.len);
    else
      lua_pushboolean(L, false);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.plan_modified(plan, class, connection number, companion or nil, found or nil): the `value` of a
 * findAndModify as a record, or nil; with the pivot row of the plan that had found it. */
static int plan_modified(lua_State *L) {
  const lumo_command_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_COMMAND);
  const lumo_related_plan *found = lua_isnoneornil(L, 5) ? NULL : lumo_check_plan(L, 5, LUMO_PLAN_RELATED);
  struct lumo_doc pivot = {0};
  if (found) pivot = found->pivots.items[found->rows[0].pivot];
  uint16_t connection = (uint16_t)luaL_checkinteger(L, 3);
  int companion = lua_istable(L, 4) ? 4 : 0;
  lumo_value document;
  if (lumo_bson_find(plan->reply, plan->reply_len, LUMO_KEY("value"), &document) &&
      document.type == LUMO_BSON_DOCUMENT)
    lumo_push_record(L, 2, lumo_class_schema(L, 2), companion, false, document.data, document.len, pivot.data,
                     pivot.len, connection);
  else
    lua_pushnil(L);
  return 1;
}

/* core.plan_written(plan, counter): a counter of a write's reply: "nMatched". */
static int plan_written(lua_State *L) {
  const lumo_write_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_WRITE);
  const char *counter = luaL_checkstring(L, 2);
  lumo_push_int64(L, plan->reply ? lumo_reply_count(plan->reply, plan->reply_len, counter) : 0);
  return 1;
}

/* core.plan_reply(plan): a command's reply as a table. */
static int plan_reply(lua_State *L) {
  const lumo_command_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_COMMAND);
  lumo_push_document(L, plan->reply, plan->reply_len);
  return 1;
}

static void push_fate(lua_State *L, const lumo_pairs_plan *plan, lumo_pair_fate fate, const lumo_keys *more,
                      const char *name) {
  int n = 0;
  lua_newtable(L);
  for (uint32_t i = 0; i < plan->pairs.keys.count; i++) {
    if (plan->fates[i] != fate) continue;
    lumo_value id = lumo_keys_at(&plan->pairs.keys, i);
    lumo_push_value(L, &id);
    lua_rawseti(L, -2, ++n);
  }
  for (uint32_t i = 0; more && i < more->count; i++) {
    lumo_value id = lumo_keys_at(more, i);
    lumo_push_value(L, &id);
    lua_rawseti(L, -2, ++n);
  }
  lua_setfield(L, -2, name);
}

/* core.plan_pairs(plan): { attached, updated, unchanged, detached }. */
static int plan_pairs(lua_State *L) {
  const lumo_pairs_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_PAIRS);
  lua_createtable(L, 0, 4);
  push_fate(L, plan, LUMO_PAIR_ATTACHED, NULL, "attached");
  push_fate(L, plan, LUMO_PAIR_UPDATED, NULL, "updated");
  push_fate(L, plan, LUMO_PAIR_UNCHANGED, NULL, "unchanged");
  push_fate(L, plan, LUMO_PAIR_DETACHED, &plan->detached, "detached");
  return 1;
}

/* core.pairs_ids(plan): the ids that a plan was given. */
static int pairs_ids(lua_State *L) {
  const lumo_pairs_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_PAIRS);
  lua_createtable(L, (int)plan->pairs.keys.count, 0);
  for (uint32_t i = 0; i < plan->pairs.keys.count; i++) {
    lumo_value id = lumo_keys_at(&plan->pairs.keys, i);
    lumo_push_value(L, &id);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.related_count(plan): related records counted, matched or removed. */
static int related_count(lua_State *L) {
  const lumo_related_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_RELATED);
  lumo_push_int64(L, plan->count);
  return 1;
}

/* Pushes the companion table of a document that several records share: a copy of the one at `companion` whose
 * [0] holds the document. `cache` keeps one per document. */
static void push_shared_companion(lua_State *L, int companion, int cache, const struct lumo_doc *doc,
                                  uint32_t number) {
  lua_rawgeti(L, cache, (int)number + 1);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  for (lua_pushnil(L); lua_next(L, companion);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  memcpy(lumo_newud(L, doc->len), doc->data, doc->len);
  lua_rawseti(L, -2, 0);
  lua_pushvalue(L, -1);
  lua_rawseti(L, cache, (int)number + 1);
}

/* What related_records knows of a document. */
typedef struct {
  uint32_t rows;
  const lumo_record *first; /* of those that share it; its list keeps it */
} lumo_related_use;

static lumo_related_use *push_uses(lua_State *L, const lumo_related_plan *plan) {
  size_t size = (plan->documents.count + 1) * sizeof(lumo_related_use);
  lumo_related_use *uses = lumo_newvalue(L, size);
  memset(uses, 0, size);
  for (uint32_t i = 0; i < plan->row_count; i++) uses[plan->rows[i].document].rows++;
  return uses;
}

/* Pushes the record of a row, and perhaps things below it. The stack is that of related_records. */
static void push_related(lua_State *L, const lumo_related_plan *plan, uint32_t row, const lumo_schema *schema,
                         uint16_t connection, lumo_related_use *use) {
  const struct lumo_doc *doc = &plan->documents.items[plan->rows[row].document];
  static const struct lumo_doc none;
  uint32_t place = plan->rows[row].pivot;
  const struct lumo_doc *pivot = place == LUMO_NO_PIVOT ? &none : &plan->pivots.items[place];
  if (use->rows == 1) {
    lumo_push_record(L, 2, schema, 3, false, doc->data, doc->len, pivot->data, pivot->len, connection);
    return;
  }
  push_shared_companion(L, 3, 5, doc, plan->rows[row].document); /* 8 */
  if (use->first) {
    lumo_push_twin(L, 2, use->first, 8, pivot->data, pivot->len);
    return;
  }
  lua_rawgeti(L, 8, 0);
  const uint8_t *data = lua_touserdata(L, -1);
  use->first = lumo_push_record(L, 2, schema, 8, true, data, doc->len, pivot->data, pivot->len, connection);
}

/* core.related_records(plan, class, companion, connection number, owners): a list with a list of records for
 * each owner, empty ones included. A document that several rows share is held once. */
static int related_records(lua_State *L) {
  const lumo_related_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_RELATED);
  const lumo_schema *schema = lumo_class_schema(L, 2);
  uint16_t connection = (uint16_t)luaL_checkinteger(L, 4);
  uint32_t owners = (uint32_t)luaL_checkinteger(L, 5), row = 0;
  lua_settop(L, 3);
  lumo_related_use *uses = push_uses(L, plan); /* 4 */
  lua_newtable(L);                             /* 5: companions of shared documents */
  lua_createtable(L, (int)owners, 0);          /* 6 */
  for (uint32_t owner = 0; owner < owners; owner++) {
    uint32_t end = row;
    while (end < plan->row_count && plan->rows[end].owner == owner) end++;
    lua_createtable(L, (int)(end - row), 0); /* 7 */
    for (int n = 1; row < end; row++, n++) {
      push_related(L, plan, row, schema, connection, &uses[plan->rows[row].document]);
      lua_rawseti(L, 7, n);
      lua_settop(L, 7);
    }
    lua_rawseti(L, 6, (int)owner + 1);
  }
  return 1;
}

/* core.related_documents(plan): the related records as plain tables, the pivot row of each as its `pivot`. */
static int related_documents(lua_State *L) {
  const lumo_related_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_RELATED);
  lua_createtable(L, (int)plan->row_count, 0);
  for (uint32_t i = 0; i < plan->row_count; i++) {
    const struct lumo_doc *doc = &plan->documents.items[plan->rows[i].document];
    const struct lumo_doc *pivot = &plan->pivots.items[plan->rows[i].pivot];
    lumo_push_document(L, doc->data, doc->len);
    lumo_push_document(L, pivot->data, pivot->len);
    lua_setfield(L, -2, "pivot");
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.related_values(plan, stored path, is pivot's): the field's values, lumo.null where there is none. */
static int related_values(lua_State *L) {
  const lumo_related_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_RELATED);
  size_t len;
  const char *path = luaL_checklstring(L, 2, &len);
  bool of_pivot = lua_toboolean(L, 3);
  lua_createtable(L, (int)plan->row_count, 0);
  for (uint32_t i = 0; i < plan->row_count; i++) {
    const struct lumo_doc *doc =
        of_pivot ? &plan->pivots.items[plan->rows[i].pivot] : &plan->documents.items[plan->rows[i].document];
    lumo_value value;
    lumo_bson_find_path(doc->data, doc->len, path, len, &value);
    if (lumo_value_is_null(&value))
      lua_pushlightuserdata(L, NULL);
    else
      lumo_push_value(L, &value);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.related_distinct(plan): the values of a distinct across a relation, without null. */
static int related_distinct(lua_State *L) {
  const lumo_related_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_RELATED);
  int n = 0;
  lua_newtable(L);
  for (uint32_t i = 0; i < plan->documents.count; i++) {
    lumo_value value;
    lumo_bson_find(plan->documents.items[i].data, plan->documents.items[i].len, LUMO_KEY("_id"), &value);
    if (lumo_value_is_null(&value)) continue;
    lumo_push_value(L, &value);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* core.related_size(plan): how many records were found. */
static int related_size(lua_State *L) {
  const lumo_related_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_RELATED);
  lua_pushinteger(L, (lua_Integer)plan->row_count);
  return 1;
}

/* core.related_value(plan): what an aggregation across a relation came to; nil for nothing. */
static int related_value(lua_State *L) {
  const lumo_related_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_RELATED);
  lumo_value value = {0};
  if (plan->documents.count > 0)
    lumo_bson_find(plan->documents.items[0].data, plan->documents.items[0].len, LUMO_KEY("n"), &value);
  if (lumo_value_is_null(&value))
    lua_pushnil(L);
  else
    lumo_push_value(L, &value);
  return 1;
}

/* core.column_call(fn, value, …): calls a function of a column's definition, for two results at most. */
static int column_call(lua_State *L) {
  lumo_call_column_function(L, lua_gettop(L) - 1);
  return 1;
}

void lumo_open_run(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"run", run},
      {"column_call", column_call},

      {"plan_records", plan_records},
      {"plan_documents", plan_documents},
      {"plan_ordered", plan_ordered},
      {"plan_values", plan_values},
      {"plan_size", plan_size},
      {"plan_count", plan_count},
      {"plan_written", plan_written},
      {"plan_field", plan_field},
      {"plan_token", plan_token},
      {"plan_field_records", plan_field_records},
      {"plan_field_bytes", plan_field_bytes},
      {"plan_modified", plan_modified},
      {"plan_reply", plan_reply},
      {"plan_pairs", plan_pairs},
      {"pairs_ids", pairs_ids},
      {"related_count", related_count},
      {"related_records", related_records},
      {"related_documents", related_documents},
      {"related_values", related_values},
      {"related_distinct", related_distinct},
      {"related_size", related_size},
      {"related_value", related_value},
      {NULL, NULL},
  };
  luaL_setfuncs(L, functions, 0);
}
