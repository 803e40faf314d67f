/* What a query becomes: the plans that read, count or change what it matches. A query across a
 * relation becomes one of relation.c. */
#include "query.h"

#include <string.h>

#include "../core/found.h"
#include "../core/json.h"
#include "relation.h"

static const uint8_t *bound_of(const lumo_query_box *box, uint32_t *len) {
  *len = (uint32_t)box->bound.len;
  return box->bound.len ? box->bound.data : NULL;
}

/* Says of the plan on top of the stack what its query needs of the server. */
static void tell_needs(lua_State *L, const lumo_query_box *box) {
  if (box->query.join_count > 0) lumo_check_any_plan(L, -1)->least_version = LUMO_WIRE_JOINS;
}

/* core.query_find_plan(query, method, limit or 0, streaming): a plan of records; with a limit of its own it
 * overrides the query's. */
static int query_find_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  const char *method = luaL_checkstring(L, 2);
  lumo_query_box *box = lumo_check_query(L, 1, method);
  int64_t most = (int64_t)luaL_checkinteger(L, 3);
  bool streaming = lua_toboolean(L, 4);
  if (!most || (box->query.limit && box->query.limit < most)) most = box->query.limit;
  if (box->kind == LUMO_QUERY_RELATED) {
    lumo_related_request request = {
        .name = "find", .op = LUMO_RELATED_FIND, .limit = most, .streaming = streaming};
    lumo_push_related_plan(L, box, &request);
    return 1;
  }
  lumo_prepare_plan(L);
  uint8_t usual[512];
  lumo_buf command = lumo_buf_lend(usual, sizeof usual); /* the plan's before anything can raise */
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_query_find(&box->query, bound, bound_len, most, streaming ? 1000 : 0, &command);
  lumo_fill_plan(
      L, lua_gettop(L), LUMO_PLAN_READ,
      lumo_read_plan_new("find", box->query.schema->collection, &command, most == 1, streaming, &error),
      &error);
  tell_needs(L, box);
  return 1;
}

/* core.query_count_plan(query) */
static int query_count_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  lumo_query_box *box = lumo_check_query(L, 1, "count");
  if (box->kind == LUMO_QUERY_RELATED) {
    lumo_push_related_plan(L, box, &(lumo_related_request){.name = "count", .op = LUMO_RELATED_COUNT});
    return 1;
  }
  lumo_buf *command = lumo_push_buffer(L);
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_query_count(&box->query, bound, bound_len, command);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_READ,
                 lumo_read_plan_new("count", box->query.schema->collection, command, true, false, &error),
                 &error);
  tell_needs(L, box);
  return 1;
}

/* A bulk write names what it is for: a filter, or everything(); limits and orders have no meaning to it. */
static void check_bulk(lua_State *L, const lumo_query_box *box, const char *method) {
  if (box->query.filter.depth > 0)
    lumo_raise_code(L, "E_ARGUMENT", "%s inside a where group: its filter is not finished", method);
  if (!lumo_filter_narrows(&box->query.filter) && !box->query.everything)
    lumo_raise_code(L, "E_ARGUMENT",
                    "%s without a filter would change every document; say everything() if that is meant",
                    method);
  if (box->query.limit || box->query.skip)
    lumo_raise_code(L, "E_ARGUMENT", "%s cannot be limited: MongoDB changes all that match", method);
}

/* What of the elements that go along with a command also goes with the write by the ids that it found: not
 * an index for another filter, nor rules under which two ids may be equal. True if there were such rules. */
static bool put_write_options(const lumo_query *query, lumo_buf *out) {
  bool collated = false;
  lumo_iter it = lumo_iter_elements(&query->extra);
  while (lumo_iter_next(&it)) {
    bool is_collation = strcmp(it.key, "collation") == 0;
    collated = collated || is_collation;
    if (!is_collation && strcmp(it.key, "hint") != 0) lumo_bson_value(out, it.key, it.key_len, &it.value);
  }
  return collated;
}

/* A write to what a query with joins finds. Its conditions on stored fields are asked once more with the
 * write, unless they need the rules of a collation. */
static void push_found_plan(lua_State *L, const lumo_query_box *box, const char *method,
                            const lumo_buf *update) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  const char *collection = box->query.schema->collection;
  lumo_buf *filter = lumo_push_buffer(L), *command = lumo_push_buffer(L), *options = lumo_push_buffer(L);
  const uint8_t *bound = bound_of(box, &bound_len);
  if (put_write_options(&box->query, options))
    lumo_bson_end(filter, lumo_bson_begin(filter));
  else
    lumo_query_filter(&box->query, bound, bound_len, filter);
  lumo_query_ids(&box->query, bound, bound_len, command);
  lumo_check_buffer(L, filter);
  lumo_check_buffer(L, command);
  lumo_check_buffer(L, options);
  lumo_found found = {.source = collection,
                      .collection = collection,
                      .filter = filter->data,
                      .filter_len = (uint32_t)filter->len,
                      .update = update ? update->data : NULL,
                      .update_len = update ? (uint32_t)update->len : 0,
                      .options = options->data,
                      .options_len = (uint32_t)options->len};
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_WRITE, lumo_found_plan_new(method, &found, command, &error),
                 &error);
  tell_needs(L, box);
}

static void push_bulk_plan(lua_State *L, lumo_query_box *box, const char *method, const lumo_buf *update) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  if (box->kind == LUMO_QUERY_RELATED) {
    lumo_related_request request = {
        .name = method, .op = update ? LUMO_RELATED_UPDATE : LUMO_RELATED_DELETE, .update = update};
    lumo_push_related_plan(L, box, &request);
    return;
  }
  if (box->query.join_count > 0) {
    push_found_plan(L, box, method, update);
    return;
  }
  lumo_buf *statement = lumo_push_buffer(L);
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_statement_options(statement, box->query.extra.data, box->query.extra.len);
  lumo_statement_begin(statement, update ? LUMO_UPDATE_MANY : LUMO_DELETE_MANY);
  lumo_query_filter(&box->query, bound, bound_len, statement);
  if (update) lumo_buf_append(statement, update->data, update->len);
  lumo_check_buffer(L, statement);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_WRITE,
                 lumo_write_plan_new(method, box->query.schema->collection, statement, true, false, &error),
                 &error);
}

static const lumo_column *updated_column(lua_State *L, const lumo_query_box *box, const char *method,
                                         int index, lumo_buf *path) {
  const lumo_column *column = lumo_resolve_own_column(L, box, method, 1, index, path);
  lumo_check_buffer(L, path);
  if (column && column->primary)
    lumo_raise_code(L, "E_ARGUMENT", "%s cannot change the primary key \"%s.%s\"", method,
                    box->query.schema->model, column->name);
  if (box->kind == LUMO_QUERY_PIVOT && column &&
      (strcmp(column->stored, box->relation->pivot.owner_key) == 0 ||
       strcmp(column->stored, box->relation->pivot.related_key) == 0))
    lumo_raise_code(L, "E_ARGUMENT", "%s cannot change the key \"%s\" of a pair", method, column->stored);
  return column;
}

/* MongoDB sets no place together with one inside of it: refuses the path at `key` of the table at stack place
 * 2 if the table has the beginning of it, too. */
static void check_apart(lua_State *L, const char *method, int key) {
  size_t len;
  const char *path = lua_tolstring(L, key, &len);
  for (const char *dot = memchr(path, '.', len); dot;
       dot = memchr(dot + 1, '.', len - (size_t)(dot + 1 - path))) {
    lua_pushlstring(L, path, (size_t)(dot - path));
    lua_pushvalue(L, -1);
    lua_rawget(L, 2);
    if (!lua_isnil(L, -1))
      lumo_raise_code(L, "E_ARGUMENT", "%s got \"%s\" and \"%s\", of which one is inside of the other",
                      method, lua_tostring(L, -2), path);
    lua_pop(L, 2);
  }
}

/* $set: {…} from the table of values at stack place 2, each cast by its column; lumo.null stores null. */
static void put_set(lua_State *L, const lumo_query_box *box, const char *method, lumo_buf *update,
                    lumo_buf *path) {
  size_t set = lumo_bson_begin_document(update, LUMO_KEY("$set"));
  for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
    lumo_buf_clear(path);
    const lumo_column *column = updated_column(L, box, method, lua_gettop(L) - 1, path);
    check_apart(L, method, lua_gettop(L) - 1);
    const char *name = column ? column->name : "value";
    lumo_place place = {.model = box->query.schema->model, .key = name, .key_len = strlen(name)};
    lumo_encode(L, lua_gettop(L), column, (const char *)path->data, path->len, NULL, update, &place,
                LUMO_ENCODE_DATA);
  }
  lumo_bson_end(update, set);
}

/* core.query_update_plan(query, values): $set of the values, cast by their columns; lumo.null stores null. */
static int query_update_plan(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "update");
  if (!lua_istable(L, 2)) lumo_raise_argument(L, "update", 1, "a table of attributes", 2);
  if (lumo_is_empty_table(L, 2)) lumo_raise_code(L, "E_ARGUMENT", "update got an empty table");
  check_bulk(L, box, "update");
  lua_settop(L, 2);
  lumo_buf *update = lumo_push_buffer(L), *path = lumo_push_buffer(L);
  size_t document = lumo_bson_begin(update);
  put_set(L, box, "update", update, path);
  lumo_bson_end(update, document);
  lumo_check_buffer(L, update);
  push_bulk_plan(L, box, "update", update);
  return 1;
}

/* core.query_increment_plan(query, column, n, method "increment"|"decrement") */
static int query_increment_plan(lua_State *L) {
  const char *method = luaL_checkstring(L, 4);
  lumo_query_box *box = lumo_check_query(L, 1, method);
  lumo_check_amount(L, method, 3);
  check_bulk(L, box, method);
  lumo_buf *update = lumo_push_buffer(L), *path = lumo_push_buffer(L);
  const lumo_column *column = updated_column(L, box, method, 2, path);
  if (column && (column->functions & LUMO_COLUMN_PREPARE))
    lumo_raise_code(L, "E_ARGUMENT", "%s cannot change \"%s.%s\": a function prepares what is stored of it",
                    method, box->query.schema->model, column->name);
  const char *name = column ? column->name : "value";
  lumo_place place = {.model = box->query.schema->model, .key = name, .key_len = strlen(name)};
  size_t document = lumo_bson_begin(update);
  size_t inc = lumo_bson_begin_document(update, LUMO_KEY("$inc"));
  lumo_encode_amount(L, 3, strcmp(method, "decrement") == 0, column, path, update, &place);
  lumo_bson_end(update, inc);
  lumo_bson_end(update, document);
  lumo_check_buffer(L, update);
  push_bulk_plan(L, box, method, update);
  return 1;
}

/* core.query_unset_plan(query, column): takes a field out of all documents that match. */
static int query_unset_plan(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "unset");
  check_bulk(L, box, "unset");
  lumo_buf *update = lumo_push_buffer(L), *path = lumo_push_buffer(L);
  updated_column(L, box, "unset", 2, path);
  size_t document = lumo_bson_begin(update);
  size_t unset = lumo_bson_begin_document(update, LUMO_KEY("$unset"));
  lumo_bson_boolean(update, (const char *)path->data, path->len, true);
  lumo_bson_end(update, unset);
  lumo_bson_end(update, document);
  lumo_check_buffer(L, update);
  push_bulk_plan(L, box, "unset", update);
  return 1;
}

/* core.query_delete_plan(query) */
static int query_delete_plan(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "delete");
  check_bulk(L, box, "delete");
  push_bulk_plan(L, box, "delete", NULL);
  return 1;
}

/* core.aggregate_plan(collection, pipeline, streaming, await_ms or nil): with a time to wait for something
 * new it is a tailing plan, of a change stream. */
static int aggregate_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const char *collection = luaL_checkstring(L, 1);
  bool streaming = lua_toboolean(L, 3);
  int32_t await_ms = (int32_t)luaL_optinteger(L, 4, 0);
  if (!lua_istable(L, 2)) lumo_raise_argument(L, "aggregate", 1, "a list of stages", 2);
  static const lumo_column stages = {.name = "pipeline", .type = LUMO_ARRAY};
  lumo_place place = {.key = "pipeline", .key_len = 8};
  lumo_buf *command = lumo_push_buffer(L);
  size_t mark = lumo_bson_begin(command);
  lumo_bson_string(command, LUMO_KEY("aggregate"), collection, strlen(collection));
  lumo_encode(L, 2, &stages, LUMO_KEY("pipeline"), NULL, command, &place, LUMO_ENCODE_RAW);
  size_t cursor = lumo_bson_begin_document(command, LUMO_KEY("cursor"));
  lumo_bson_int32(command, LUMO_KEY("batchSize"), streaming ? 1000 : 2147483647);
  lumo_bson_end(command, cursor);
  lumo_bson_end(command, mark);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_read_plan *plan = lumo_read_plan_new("aggregate", collection, command, false, streaming, &error);
  if (plan && await_ms > 0) lumo_read_plan_tail(plan, await_ms);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_READ, plan, &error);
  return 1;
}

/* Whether a field may hold several values: only a declared scalar may not. */
static bool has_elements(const lumo_column *column, const lumo_buf *path) {
  return !column || column->type == LUMO_ARRAY || column->type == LUMO_ANY ||
         memchr(path->data, '.', path->len);
}

/* One value over what matches across a relation, or without an operator the distinct ones, of the column at
 * `index`, which may be the pivot's. */
static int push_related_value(lua_State *L, lumo_query_box *box, const char *operator, const char * method,
                              int index) {
  lumo_side side = LUMO_SIDE_RELATED;
  lumo_buf *path = lumo_push_buffer(L), *field = lumo_push_buffer(L);
  const lumo_column *column = lumo_resolve_column(L, box, method, 1, index, path, &side);
  lumo_check_buffer(L, path);
  lumo_buf_append(field, "$", 1);
  if (side == LUMO_SIDE_PIVOT) lumo_buf_append(field, LUMO_KEY(LUMO_PIVOT_FIELD "."));
  lumo_buf_append(field, path->data, path->len);
  lumo_buf_append(field, "", 1);
  lumo_check_buffer(L, field);
  lumo_related_request request = {.name = method,
                                  .op = operator? LUMO_RELATED_VALUE : LUMO_RELATED_DISTINCT,
                                  .limit = box->query.limit,
                                  .accumulator = operator,
                                  .field =(const char *) field->data,
                                  .elements = has_elements(column, path)};
  lumo_push_related_plan(L, box, &request);
  return 1;
}

/* core.query_group_plan(query, operator, column, method): one value over what matches, as `n` of one
 * document. */
static int query_group_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  const char *operator= luaL_checkstring(L, 2), *method = luaL_checkstring(L, 4);
  lumo_query_box *box = lumo_check_query(L, 1, method);
  if (box->kind == LUMO_QUERY_RELATED) return push_related_value(L, box, operator, method, 3);
  lumo_buf *path = lumo_push_buffer(L), *command = lumo_push_buffer(L);
  lumo_buf_append(path, "$", 1);
  lumo_resolve_own_column(L, box, method, 1, 3, path);
  lumo_check_buffer(L, path);
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_query_group(&box->query, bound, bound_len, operator,(const char *) path->data, path->len, command);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_READ,
                 lumo_read_plan_new(method, box->query.schema->collection, command, true, false, &error),
                 &error);
  tell_needs(L, box);
  return 1;
}

/* core.query_distinct_plan(query, column): the values as `_id`s. */
static int query_distinct_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  lumo_query_box *box = lumo_check_query(L, 1, "distinct");
  if (box->kind == LUMO_QUERY_RELATED) return push_related_value(L, box, NULL, "distinct", 2);
  lumo_buf *path = lumo_push_buffer(L), *command = lumo_push_buffer(L);
  lumo_buf_append(path, "$", 1);
  const lumo_column *column = lumo_resolve_own_column(L, box, "distinct", 1, 2, path);
  lumo_check_buffer(L, path);
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_query_distinct(&box->query, bound, bound_len, (const char *)path->data, path->len,
                      has_elements(column, path), command);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_READ,
                 lumo_read_plan_new("distinct", box->query.schema->collection, command, false, false, &error),
                 &error);
  tell_needs(L, box);
  return 1;
}

/* The documents that a plan of either kind has found. */
static const lumo_docs *found_documents(lua_State *L, const lumo_query_box *box, int found) {
  if (box->kind != LUMO_QUERY_RELATED)
    return &((const lumo_read_plan *)lumo_check_plan(L, found, LUMO_PLAN_READ))->docs;
  return &((const lumo_related_plan *)lumo_check_plan(L, found, LUMO_PLAN_RELATED))->documents;
}

/* The filter of the one record that was found, if it still is what the filter demands of it alone. */
static void write_found_filter(lua_State *L, const lumo_query_box *box, int found, lumo_buf *command) {
  const lumo_docs *documents = found_documents(L, box, found);
  lumo_value id = {0};
  if (documents->count > 0)
    lumo_bson_find(documents->items[0].data, documents->items[0].len, LUMO_KEY("_id"), &id);
  size_t filter = lumo_bson_begin(command);
  lumo_bson_value(command, LUMO_KEY("_id"), &id);
  size_t list = lumo_bson_begin_array(command, LUMO_KEY("$and"));
  lumo_bson_key(command, LUMO_BSON_DOCUMENT, LUMO_KEY("0"));
  lumo_filter_write_side(&box->query.filter, LUMO_SIDE_RELATED, command);
  lumo_bson_end(command, list);
  lumo_bson_end(command, filter);
}

/* core.query_modify_plan(query, values or nil, found or nil): findAndModify of the first that matches: a $set
 * of the values, or its removal. The reply has the document as it is afterwards, or as it was. Where
 * one command cannot find it, `found` is the plan that has found the record; without it the arguments are
 * checked, for nil. */
static int query_modify_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  bool update = lua_istable(L, 2);
  const char *method = update ? "find_one_and_update" : "find_one_and_delete";
  const lumo_query_box *box = lumo_check_query(L, 1, method);
  if (box->query.limit || box->query.skip)
    lumo_raise_code(L, "E_ARGUMENT", "%s takes the first that matches: no limit, no offset", method);
  if (update && lumo_is_empty_table(L, 2)) lumo_raise_code(L, "E_ARGUMENT", "%s got an empty table", method);
  lua_settop(L, 3);
  const char *collection = box->query.schema->collection;
  lumo_buf *command = lumo_push_buffer(L), *path = lumo_push_buffer(L);
  size_t mark = lumo_bson_begin(command);
  lumo_bson_string(command, LUMO_KEY("findAndModify"), collection, strlen(collection));
  lumo_bson_key(command, LUMO_BSON_DOCUMENT, LUMO_KEY("query"));
  const uint8_t *bound = bound_of(box, &bound_len);
  bool two = box->kind == LUMO_QUERY_RELATED || box->query.join_count > 0, found = two && !lua_isnil(L, 3);
  if (found)
    write_found_filter(L, box, 3, command);
  else
    lumo_query_filter(&box->query, bound, bound_len, command);
  if (box->query.sort.len > 0 && !two) {
    size_t sort = lumo_bson_begin_document(command, LUMO_KEY("sort"));
    lumo_buf_append(command, box->query.sort.data, box->query.sort.len);
    lumo_bson_end(command, sort);
  }
  if (update) {
    size_t document = lumo_bson_begin_document(command, LUMO_KEY("update"));
    put_set(L, box, method, command, path);
    lumo_bson_end(command, document);
    lumo_bson_boolean(command, LUMO_KEY("new"), true);
  } else {
    lumo_bson_boolean(command, LUMO_KEY("remove"), true);
  }
  lumo_buf_append(command, box->query.extra.data, box->query.extra.len);
  lumo_bson_end(command, mark);
  lumo_check_buffer(L, command);
  if (two && !found) return 0;
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_COMMAND,
                 lumo_command_plan_new(method, NULL, command, true, &error), &error);
  return 1;
}

/* The commands of a query across a relation, as far as they are known before the pivot has been read, into
 * the two buffers. False: there is but one. */
static bool show_related(lua_State *L, lumo_query_box *box, lumo_buf *pivot, lumo_buf *related) {
  static const lumo_keys nobody;
  lumo_related_request request = {.name = "find",
                                  .op = LUMO_RELATED_FIND,
                                  .limit = box->query.limit,
                                  .owners = box->owner.len == 0 ? &nobody : NULL};
  lumo_push_related_plan(L, box, &request);
  bool two = lumo_related_plan_show(lumo_check_plan(L, -1, LUMO_PLAN_RELATED), pivot, related);
  lumo_check_buffer(L, pivot);
  lumo_check_buffer(L, related);
  return two;
}

static void put_command(const lumo_query_box *box, lumo_buf *command) {
  uint32_t bound_len;
  const uint8_t *bound = bound_of(box, &bound_len);
  if (box->kind == LUMO_QUERY_VALUE)
    lumo_filter_write_element(&box->query.filter, command);
  else if (box->kind == LUMO_QUERY_ELEMENT)
    lumo_filter_write(&box->query.filter, command);
  else
    lumo_query_find(&box->query, bound, bound_len, box->query.limit, 0, command);
}

/* The command that exec() would send, and of a related query the one to the related collection, too, as far
 * as it is known before the pivot has been read; of a builder over elements its conditions. */
static int query_tostring(lua_State *L) {
  lumo_query_box *box = lumo_check_builder(L, 1, "tostring");
  lumo_buf *command = lumo_push_buffer(L), *text = lumo_push_buffer(L), *second = lumo_push_buffer(L);
  bool two = box->kind == LUMO_QUERY_RELATED && show_related(L, box, command, second);
  if (box->kind != LUMO_QUERY_RELATED) put_command(box, command);
  lumo_check_buffer(L, command);
  lumo_json_document(text, command->data, command->len, false, LUMO_JSON_RELAXED);
  if (two) {
    lumo_buf_append(text, "\n", 1);
    lumo_json_document(text, second->data, second->len, false, LUMO_JSON_RELAXED);
  }
  lumo_check_buffer(L, text);
  lua_pushlstring(L, (const char *)text->data, text->len);
  return 1;
}

void lumo_open_query_plan(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"query_find_plan", query_find_plan},
      {"query_count_plan", query_count_plan},
      {"query_update_plan", query_update_plan},
      {"query_increment_plan", query_increment_plan},
      {"query_unset_plan", query_unset_plan},
      {"query_delete_plan", query_delete_plan},
      {"aggregate_plan", aggregate_plan},
      {"query_group_plan", query_group_plan},
      {"query_distinct_plan", query_distinct_plan},
      {"query_modify_plan", query_modify_plan},
      {NULL, NULL},
  };
  luaL_setfuncs(L, functions, 0);
  lumo_query_set_metamethod(L, "__tostring", query_tostring);
}
