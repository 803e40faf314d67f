/* Paging by key: a query becomes one for the page that a cursor names, and its result names the next ones. */
#include "../core/cursor.h"

#include <stdio.h>
#include <string.h>

#include "query.h"

/* ---- the keys of the order ---- */

/* Elements of a sort are `type int32, name, NUL, 4 bytes`. */
static uint32_t keys_of(lua_State *L, const lumo_query_box *box, const lumo_buf *sort,
                        lumo_order_key **keys) {
  static const char prefix[] = LUMO_PIVOT_PREFIX;
  bool paired = box->kind == LUMO_QUERY_RELATED;
  uint32_t count = 0, n = 0;
  lumo_iter it = lumo_iter_elements(sort);
  while (lumo_iter_next(&it)) count++;
  *keys = lua_newuserdata(L, (count + 1) * sizeof **keys);
  it = lumo_iter_elements(sort);
  while (lumo_iter_next(&it))
    (*keys)[n++] = (lumo_order_key){.path = it.key,
                                    .path_len = it.key_len,
                                    .descending = lumo_value_int32(&it.value) < 0,
                                    .side = paired && strncmp(it.key, prefix, sizeof prefix - 1) == 0
                                                ? LUMO_SIDE_PIVOT
                                                : LUMO_SIDE_RELATED};
  return n;
}

/* In the direction of the last key: so one index serves both. */
static void add_key(lumo_buf *sort, const char *path) {
  int32_t direction = 1;
  lumo_iter it = lumo_iter_elements(sort);
  while (lumo_iter_next(&it)) {
    if (strcmp(it.key, path) == 0) return;
    direction = lumo_value_int32(&it.value);
  }
  lumo_query_order(sort, path, strlen(path), direction);
}

/* The primary key tells apart what the order leaves equal; where a record may be there twice, its rows'. */
static void complete_order(lua_State *L, lumo_query_box *box) {
  const lumo_schema *schema = box->query.schema;
  add_key(&box->query.sort, schema->columns[schema->primary]->stored);
  if (box->kind == LUMO_QUERY_RELATED && box->relation->pivot.duplicates)
    add_key(&box->query.sort, LUMO_PIVOT_PREFIX "_id");
  lumo_check_buffer(L, &box->query.sort);
}

static void reverse_order(lumo_buf *sort) {
  lumo_iter it = lumo_iter_elements(sort);
  while (lumo_iter_next(&it))
    lumo_store32(sort->data + (it.value.data - sort->data), (uint32_t)-lumo_value_int32(&it.value));
}

/* An order by an array is one by its least or greatest element: no place in it can be told. */
static void check_order(lua_State *L, const lumo_query_box *box) {
  lumo_iter it = lumo_iter_elements(&box->query.sort);
  while (lumo_iter_next(&it)) {
    static const char prefix[] = LUMO_PIVOT_PREFIX;
    bool paired = box->kind == LUMO_QUERY_RELATED && strncmp(it.key, prefix, sizeof prefix - 1) == 0;
    const lumo_schema *schema = paired ? box->relation->rows : box->query.schema;
    for (const char *path = it.key + (paired ? sizeof prefix - 1 : 0); schema && *path;) {
      size_t len = strcspn(path, ".");
      const lumo_column *column = lumo_schema_find_stored(schema, path, len);
      if (column && column->type == LUMO_ARRAY)
        lumo_raise_code(L, "E_UNSUPPORTED", "cursor_paginate cannot order by \"%s\": it is an array", it.key);
      schema = column && column->type == LUMO_OBJECT ? column->fields : NULL;
      path += path[len] ? len + 1 : len;
    }
  }
}

/* ---- what a cursor is bound to ---- */

static void put_elements(lumo_buf *out, const char *key, const lumo_buf *elements) {
  size_t mark = lumo_bson_begin_document(out, key, strlen(key));
  lumo_buf_append(out, elements->data, elements->len);
  lumo_bson_end(out, mark);
}

/* A document for what decides which results there are and in which order. */
static void put_query(const lumo_query_box *box, lumo_buf *out) {
  const lumo_schema *schema = box->query.schema;
  size_t mark = lumo_bson_begin(out);
  lumo_bson_string(out, LUMO_KEY("model"), schema->model, strlen(schema->model));
  lumo_bson_string(out, LUMO_KEY("collection"), schema->collection, strlen(schema->collection));
  if (box->relation)
    lumo_bson_string(out, LUMO_KEY("relation"), box->relation->name, strlen(box->relation->name));
  put_elements(out, "owner", &box->owner);
  if (box->bound.len > 0)
    lumo_bson_document(out, LUMO_KEY("bound"), box->bound.data, (uint32_t)box->bound.len);
  lumo_bson_key(out, LUMO_BSON_DOCUMENT, LUMO_KEY("filter"));
  lumo_filter_write(&box->query.filter, out);
  lumo_bson_key(out, LUMO_BSON_DOCUMENT, LUMO_KEY("paired")); /* tells whose fields they are */
  lumo_filter_write_paired(&box->query.filter, out);
  put_elements(out, "sort", &box->query.sort);
  const lumo_buf *joins = &box->query.joins; /* documents one after the other: read here as bytes alone */
  if (joins->len > 0) {
    lumo_bson_key(out, LUMO_BSON_BINARY, LUMO_KEY("joins"));
    uint8_t head[5] = {0};
    lumo_store32(head, (uint32_t)joins->len);
    lumo_buf_append(out, head, sizeof head);
    lumo_buf_append(out, joins->data, joins->len);
  }
  lumo_iter it = lumo_iter_elements(&box->query.extra);
  while (lumo_iter_next(&it))
    if (strcmp(it.key, "collation") == 0) lumo_bson_value(out, it.key, it.key_len, &it.value);
  lumo_bson_end(out, mark);
}

/* ---- the page ---- */

static void check_pageable(lua_State *L, const lumo_query_box *box) {
  if (box->query.limit || box->query.skip)
    lumo_raise_code(L, "E_ARGUMENT",
                    "cursor_paginate takes no limit and no offset but per_page and a cursor");
  if (box->query.filter.depth > 0)
    lumo_raise_code(L, "E_ARGUMENT", "cursor_paginate inside a where group: its filter is not finished");
  check_order(L, box);
}

/* What is read of each document must hold the keys. */
static void select_keys(lua_State *L, lumo_query_box *box, const lumo_order_key *keys, uint32_t count) {
  for (uint32_t i = 0; i < count && box->query.projection.len > 0; i++)
    if (keys[i].side == LUMO_SIDE_RELATED)
      lumo_query_select(&box->query.projection, keys[i].path, keys[i].path_len);
  lumo_check_buffer(L, &box->query.projection);
}

static lumo_buf *push_place(lua_State *L, int text, const lumo_buf *query, uint32_t count, unsigned *flags) {
  size_t len;
  lumo_buf *place = lumo_push_buffer(L);
  if (lua_type(L, text) != LUA_TSTRING)
    lumo_raise_code(L, "E_ARGUMENT", "the cursor of cursor_paginate is a text, got %s",
                    lumo_typename(L, text));
  const char *given = lua_tolstring(L, text, &len);
  if (!lumo_cursor_read(given, len, query, count, place, flags)) {
    lumo_check_buffer(L, place);
    lumo_raise_code(L, "E_ARGUMENT",
                    "the cursor is none of this query: its model, filter and order must be those "
                    "of the query that gave it");
  }
  return place;
}

/* core.cursor_begin(query, cursor or nil): makes the query one for the page → what its cursors are bound to,
 * and whether the page is read backwards. */
static int cursor_begin(lua_State *L) {
  lumo_error error;
  lumo_order_key *keys;
  unsigned flags = 0;
  lumo_error_init(&error);
  lumo_query_box *box = lumo_check_query(L, 1, "cursor_paginate");
  lua_settop(L, 2);
  check_pageable(L, box);
  complete_order(L, box);
  lumo_buf *order = lumo_push_buffer(L), *query = lumo_push_buffer(L);
  lumo_buf_append(order, box->query.sort.data, box->query.sort.len); /* which the keys' paths point into */
  put_query(box, query);
  lumo_check_buffer(L, order);
  lumo_check_buffer(L, query);
  uint32_t count = keys_of(L, box, order, &keys);
  select_keys(L, box, keys, count);
  if (!lua_isnil(L, 2)) {
    const lumo_buf *place = push_place(L, 2, query, count, &flags);
    if (!lumo_cursor_filter(&box->query.filter, keys, count, place, flags, &error)) lumo_raise(L, &error);
    if (flags & LUMO_CURSOR_BACKWARD) reverse_order(&box->query.sort);
  }
  lua_pushlstring(L, (const char *)query->data, query->len);
  lua_pushboolean(L, (flags & LUMO_CURSOR_BACKWARD) != 0);
  return 2;
}

/* core.cursor_pivot_fields(query): the fields of the pivot to be read, those of the order included; nil where
 * they are read anyway. */
static int cursor_pivot_fields(lua_State *L) {
  lumo_order_key *keys;
  const lumo_query_box *box = lumo_check_query(L, 1, "cursor_paginate");
  if (box->kind != LUMO_QUERY_RELATED || box->all_fields || (!box->fields && box->relation->all_fields))
    return 0;
  uint32_t field_count = box->fields ? box->field_count : box->relation->field_count;
  const char **fields = box->fields ? box->fields : box->relation->fields;
  uint32_t count = keys_of(L, box, &box->query.sort, &keys), n = 0, asked = 0;
  lua_newtable(L);
  for (uint32_t i = 0; i < field_count; i++) {
    lua_pushstring(L, fields[i]);
    lua_rawseti(L, -2, (int)++n);
  }
  for (uint32_t i = 0; i < count; i++) {
    if (keys[i].side != LUMO_SIDE_PIVOT) continue;
    const char *path = keys[i].path + lumo_order_prefix(&keys[i]);
    lua_pushlstring(L, path, strcspn(path, "."));
    lua_rawseti(L, -2, (int)++n);
    asked++;
  }
  return asked > 0 ? 1 : 0;
}

/* A result: a document, and its row of the pivot. */
typedef struct {
  struct lumo_doc document, pivot;
} result;

/* The i-th of a plan, from 0; false: there is none. */
static bool result_at(lua_State *L, int index, bool related, uint32_t i, result *found) {
  if (related) {
    const lumo_related_plan *plan = lumo_check_plan(L, index, LUMO_PLAN_RELATED);
    if (i >= plan->row_count) return false;
    found->document = plan->documents.items[plan->rows[i].document];
    found->pivot = plan->pivots.items[plan->rows[i].pivot];
    return true;
  }
  const lumo_read_plan *plan = lumo_check_plan(L, index, LUMO_PLAN_READ);
  if (i < plan->docs.count) found->document = plan->docs.items[i];
  return i < plan->docs.count;
}

/* The value of a key; an array, also where the path leads through one. */
static lumo_value value_at(const result *found, const lumo_order_key *key) {
  const struct lumo_doc *doc = key->side == LUMO_SIDE_PIVOT ? &found->pivot : &found->document;
  const char *path = key->path + lumo_order_prefix(key);
  uint32_t path_len = key->path_len - lumo_order_prefix(key);
  lumo_value v;
  for (uint32_t len = 0; len <= path_len; len++) {
    if (len < path_len && path[len] != '.') continue;
    lumo_bson_find_path(doc->data, doc->len, path, len, &v);
    if (v.type == LUMO_BSON_ARRAY) break;
  }
  return v;
}

static void put_place(lua_State *L, const result *found, const lumo_order_key *keys, uint32_t count,
                      lumo_buf *place) {
  size_t mark = lumo_bson_begin(place);
  for (uint32_t i = 0; i < count; i++) {
    lumo_value v = value_at(found, &keys[i]);
    char key[12];
    if (!lumo_cursor_takes(&v))
      lumo_raise_code(L, "E_UNSUPPORTED",
                      "cursor_paginate cannot order by \"%s\": a document has an array there",
                      keys[i].path + lumo_order_prefix(&keys[i]));
    int len = snprintf(key, sizeof key, "%u", (unsigned)i);
    if (lumo_value_is_null(&v))
      lumo_bson_null(place, key, (size_t)len);
    else
      lumo_bson_value(place, key, (size_t)len, &v);
  }
  lumo_bson_end(place, mark);
}

static int push_text(lua_State *L, const lumo_buf *query, const lumo_buf *place, unsigned flags) {
  lumo_buf *text = lumo_push_buffer(L);
  lumo_cursor_write(query, place, flags, text);
  lumo_check_buffer(L, text);
  lua_pushlstring(L, (const char *)text->data, text->len);
  return 1;
}

/* A copy of the bytes that stand for the query. */
static const lumo_buf *push_bound(lua_State *L, int index) {
  size_t len;
  const char *bytes = luaL_checklstring(L, index, &len);
  lumo_buf *query = lumo_push_buffer(L);
  lumo_buf_append(query, bytes, len);
  lumo_check_buffer(L, query);
  return query;
}

/* core.cursor_text(query, bound, plan, position, backward): the cursor of what stands behind (or before) the
 * result at that position of the plan. */
static int cursor_text(lua_State *L) {
  result found = {0};
  lumo_order_key *keys;
  const lumo_query_box *box = lumo_check_query(L, 1, "cursor_paginate");
  uint32_t position = (uint32_t)luaL_checkinteger(L, 4) - 1;
  bool backward = lua_toboolean(L, 5);
  if (!result_at(L, 3, box->kind == LUMO_QUERY_RELATED, position, &found)) return 0;
  const lumo_buf *query = push_bound(L, 2);
  lumo_buf *place = lumo_push_buffer(L);
  uint32_t count = keys_of(L, box, &box->query.sort, &keys);
  put_place(L, &found, keys, count, place);
  lumo_check_buffer(L, place);
  return push_text(L, query, place, backward ? LUMO_CURSOR_BACKWARD : 0);
}

/* core.cursor_turned(query, bound, cursor): the cursor of all that the given one leaves out. */
static int cursor_turned(lua_State *L) {
  unsigned flags;
  lumo_order_key *keys;
  const lumo_query_box *box = lumo_check_query(L, 1, "cursor_paginate");
  lua_settop(L, 3);
  const lumo_buf *query = push_bound(L, 2);
  uint32_t count = keys_of(L, box, &box->query.sort, &keys);
  const lumo_buf *place = push_place(L, 3, query, count, &flags);
  return push_text(L, query, place, flags ^ (LUMO_CURSOR_BACKWARD | LUMO_CURSOR_AT));
}

void lumo_open_cursor(lua_State *L) {
  static const luaL_Reg functions[] = {{"cursor_begin", cursor_begin},
                                       {"cursor_pivot_fields", cursor_pivot_fields},
                                       {"cursor_text", cursor_text},
                                       {"cursor_turned", cursor_turned},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
