/* The query builder as a userdata: each method checks its arguments and adds to the core's query. Nothing is
 * sent from here. Conditions are in where.c, the plans that a query becomes in query_plan.c; methods that
 * call a function of the user, and all that send, in lua/lumo/query.lua. */
#include "query.h"

#include <string.h>

lumo_query_box *lumo_check_builder(lua_State *L, int i, const char *method) {
  lumo_query_box *box = lumo_test(L, i, &LUMO_MT_QUERY);
  if (!box)
    lumo_raise_code(L, "E_ARGUMENT",
                    "%s is called on a query, got %s; was it called with a dot instead of a colon?", method,
                    luaL_typename(L, i));
  return box;
}

lumo_query_box *lumo_check_query(lua_State *L, int i, const char *method) {
  lumo_query_box *box = lumo_check_builder(L, i, method);
  if (box->kind == LUMO_QUERY_ELEMENT || box->kind == LUMO_QUERY_VALUE)
    lumo_raise_code(L, "E_ARGUMENT", "%s inside where_elem_match: its function takes conditions only",
                    method);
  return box;
}

static int query_gc(lua_State *L) {
  lumo_query_box *box = lua_touserdata(L, 1);
  lumo_query_free(&box->query);
  lumo_buf_free(&box->owner);
  lumo_buf_free(&box->bound);
  lumo_buf_free(&box->group_sort);
  memset(&box->query, 0, sizeof box->query);
  return 0;
}

/* A query without a companion. */
static lumo_query_box *push_box(lua_State *L, const lumo_schema *schema, lumo_query_kind kind) {
  lumo_query_box *box = lumo_newud(L, sizeof *box);
  memset(box, 0, offsetof(lumo_query_box, clauses));
  box->query.schema = schema;
  box->query.filter = lumo_filter_lend(box->conditions, sizeof box->conditions, box->clauses,
                                       sizeof box->clauses / sizeof *box->clauses);
  box->query.sort = lumo_buf_lend(box->sort, sizeof box->sort);
  box->kind = kind;
  lumo_get(L, &LUMO_MT_QUERY);
  lua_setmetatable(L, -2);
  return box;
}

lumo_query_box *lumo_push_query(lua_State *L, int schema, lumo_query_kind kind) {
  schema = lua_absindex(L, schema);
  lumo_query_box *box = push_box(L, lumo_check_schema(L, schema), kind);
  lua_createtable(L, 1, 4); /* what most queries come to need */
  lua_pushvalue(L, schema);
  lua_rawseti(L, -2, 1);
  lumo_setuv(L, -2);
  return box;
}

/* core.query_new(schema): → an empty query, its companion table (see query_state). */
static int query_new(lua_State *L) {
  lumo_push_query(L, 1, LUMO_QUERY_MODEL);
  lumo_getuv(L, -1);
  return 2;
}

/* core.query_of(companion): an empty query that shares the companion table, which has the schema at [1],
 * until it needs one of its own: making a table costs as much as all else of a query. */
static int query_of(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_rawgeti(L, 1, 1);
  lumo_query_box *box = push_box(L, lumo_check_schema(L, 2), LUMO_QUERY_MODEL);
  lua_pushvalue(L, 1);
  lumo_setuv(L, 3);
  box->shares = true;
  return 1;
}

/* Copies what the table at `from` holds into the one on the top of the stack. */
static void copy_companion(lua_State *L, int from) {
  int to = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, from);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, to);
  }
}

/* Pushes the companion of the query at 1, as the query's own. */
static void push_own_companion(lua_State *L, lumo_query_box *box) {
  lumo_getuv(L, 1);
  if (!box->shares) return;
  int shared = lua_gettop(L);
  lua_createtable(L, 1, 4);
  copy_companion(L, shared);
  lua_remove(L, shared);
  lua_pushvalue(L, -1);
  lumo_setuv(L, 1);
  box->shares = false;
}

/* core.query_state(query): the companion table, in which lua/lumo keeps model, connection and the like under
 * names; from now on the query's own. */
static int query_state(lua_State *L) {
  push_own_companion(L, lumo_check_query(L, 1, "query"));
  return 1;
}

/* core.query_kept(query): the companion table for reading alone. */
static int query_kept(lua_State *L) {
  lumo_check_query(L, 1, "query");
  lumo_getuv(L, 1);
  return 1;
}

/* core.query_clone(query): the state table is copied one level deep. */
static int query_clone(lua_State *L) {
  const lumo_query_box *box = lumo_check_query(L, 1, "clone");
  lua_settop(L, 1);
  lumo_getuv(L, 1); /* 2 */
  lua_rawgeti(L, 2, 1);
  lumo_query_box *copy = lumo_push_query(L, 3, box->kind); /* 4 */
  copy->relation = box->relation;
  copy->fields = box->fields;
  copy->field_count = box->field_count;
  copy->all_fields = box->all_fields;
  lumo_buf_append(&copy->owner, box->owner.data, box->owner.len);
  lumo_buf_append(&copy->bound, box->bound.data, box->bound.len);
  lumo_buf_append(&copy->group_sort, box->group_sort.data, box->group_sort.len);
  copy->group_limit = box->group_limit;
  lumo_check_buffer(L, &copy->owner);
  lumo_check_buffer(L, &copy->bound);
  lumo_check_buffer(L, &copy->group_sort);
  if (!lumo_query_copy(&copy->query, &box->query)) {
    lumo_error error;
    lumo_error_init(&error);
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
  lua_getmetatable(L, 1);
  lua_setmetatable(L, 4);
  lumo_getuv(L, 4); /* 5 */
  copy_companion(L, 2);
  lua_settop(L, 4);
  return 1;
}

/* ---- columns ---- */

/* A query of a many-to-many relation, or of one through one other model. */
static bool has_pivot(const lumo_query_box *box) {
  return box->kind == LUMO_QUERY_RELATED && box->relation->rows;
}

/* True if the name begins with the collection's and a dot; a declared column of that name wins. Then it is
 * cut off. */
static bool cut_collection(const lumo_schema *schema, const char *collection, const char **name,
                           size_t *len) {
  size_t n = collection ? strlen(collection) : 0; /* nested columns have none */
  if (n == 0 || *len <= n + 1 || (*name)[n] != '.' || memcmp(*name, collection, n) != 0 ||
      lumo_schema_find(schema, *name, n))
    return false;
  *name += n + 1;
  *len -= n + 1;
  return true;
}

const lumo_column *lumo_resolve_column(lua_State *L, const lumo_query_box *box, const char *method, int arg,
                                       int index, lumo_buf *path, lumo_side *side) {
  size_t len;
  const lumo_schema *schema = box->query.schema;
  const lumo_column *column = NULL;
  lumo_error error;
  if (lua_type(L, index) != LUA_TSTRING) lumo_raise_argument(L, method, arg, "the name of a column", index);
  const char *name = lua_tolstring(L, index, &len);
  lumo_error_init(&error);
  if (box->kind == LUMO_QUERY_PIVOT) {
    *side = LUMO_SIDE_RELATED; /* its one collection is the pivot */
  } else if (*side == LUMO_SIDE_PIVOT && !has_pivot(box)) {
    lumo_raise_code(L, "E_ARGUMENT", "%s is for queries across a many-to-many relation", method);
  } else if (has_pivot(box) && cut_collection(schema, box->relation->pivot.collection, &name, &len)) {
    *side = LUMO_SIDE_PIVOT;
  }
  if (*side == LUMO_SIDE_PIVOT) schema = box->relation->rows;
  cut_collection(schema, schema->collection, &name, &len);
  if (len == 2 && memcmp(name, "id", 2) == 0 && schema->primary >= 0 &&
      !lumo_schema_find(schema, name, len)) {
    column = schema->columns[schema->primary];
    lumo_buf_append(path, column->stored, column->stored_len);
    return column;
  }
  if (!lumo_schema_resolve(schema, name, len, path, &column, &error)) lumo_raise(L, &error);
  return column;
}

/* No column has a dot in its name, so none of the other meanings of a name comes before this one. */
const lumo_column *lumo_declared_column(lua_State *L, const lumo_query_box *box, int index) {
  size_t len;
  if (lua_type(L, index) != LUA_TSTRING) return NULL;
  const char *name = lua_tolstring(L, index, &len);
  return lumo_schema_find(box->query.schema, name, len);
}

const lumo_column *lumo_resolve_own_column(lua_State *L, const lumo_query_box *box, const char *method,
                                           int arg, int index, lumo_buf *path) {
  lumo_side side = LUMO_SIDE_RELATED;
  const lumo_column *column = lumo_resolve_column(L, box, method, arg, index, path, &side);
  if (side == LUMO_SIDE_PIVOT)
    lumo_raise_code(L, "E_UNSUPPORTED", "%s does not take columns of the pivot", method);
  return column;
}

bool lumo_is_empty_table(lua_State *L, int index) {
  if (!lua_istable(L, index)) return false;
  lua_pushnil(L);
  if (lua_next(L, index) == 0) return true;
  lua_pop(L, 2);
  return false;
}

/* ---- selection, order, bounds ---- */

/* A copy of a part of the query, pushed: what is added to it takes effect with commit, all or nothing. */
static lumo_buf *push_draft(lua_State *L, const lumo_buf *part) {
  lumo_buf *draft = lumo_push_buffer(L);
  lumo_buf_append(draft, part->data, part->len);
  return draft;
}

static void commit(lua_State *L, lumo_buf *part, lumo_buf *draft) {
  lumo_check_buffer(L, draft);
  lumo_buf before = *part;
  *part = *draft;
  *draft = before;
}

static void select_one(lua_State *L, const lumo_query_box *box, int arg, int index, lumo_buf *draft) {
  lumo_buf *path = lumo_scratch(L);
  lumo_resolve_own_column(L, box, "select", arg, index, path);
  lumo_check_buffer(L, path);
  lumo_query_select(draft, (const char *)path->data, path->len);
}

/* How many elements the list at i has; a list that is empty or has holes raises. */
static int check_list(lua_State *L, int i, const char *method) {
  int count = 0;
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) count++;
  if (count == 0) lumo_raise_code(L, "E_ARGUMENT", "%s got an empty list", method);
  for (int k = 1; k <= count; k++) {
    lua_rawgeti(L, i, k);
    if (lua_isnil(L, -1))
      lumo_raise_code(L, "E_ARGUMENT", "%s needs a list without holes and other keys", method);
    lua_pop(L, 1);
  }
  return count;
}

/* select(a, b, …) or select{a, b, …}; the primary key always comes along. */
static int select_columns(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "select");
  int n = lua_gettop(L);
  if (n < 2) lumo_raise_argument(L, "select", 1, "the name of a column", 2);
  lumo_buf *draft = push_draft(L, &box->query.projection);
  for (int i = 2; i <= n; i++) {
    if (!lua_istable(L, i)) {
      select_one(L, box, i - 1, i, draft);
      continue;
    }
    int count = check_list(L, i, "select");
    for (int k = 1; k <= count; k++) {
      lua_rawgeti(L, i, k);
      select_one(L, box, i - 1, lua_gettop(L), draft);
      lua_pop(L, 1);
    }
  }
  lua_pushstring(L, box->query.schema->columns[box->query.schema->primary]->name);
  select_one(L, box, 1, lua_gettop(L), draft);
  commit(L, &box->query.projection, draft);
  lua_settop(L, 1);
  return 1;
}

/* core.query_also(query, column): selects a column that is needed beside those that were asked for. */
static int query_also(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "select");
  if (box->query.projection.len > 0) select_one(L, box, 1, 2, &box->query.projection);
  return 0;
}

/* core.query_partial(query): for a query that does not read whole documents a table whose keys are the fields
 * of which only parts are read; else nil. */
static int query_partial(lua_State *L) {
  const lumo_query_box *box = lumo_check_query(L, 1, "select");
  const lumo_buf *projection = &box->query.projection;
  if (projection->len == 0) {
    lua_pushnil(L);
    return 1;
  }
  lua_newtable(L);
  lumo_iter it = lumo_iter_elements(projection);
  while (lumo_iter_next(&it)) {
    const char *dot = memchr(it.key, '.', it.key_len);
    if (!dot) continue;
    lua_pushlstring(L, it.key, (size_t)(dot - it.key));
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
  }
  return 1;
}

static int direction_of(lua_State *L, const char *method, int index) {
  const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : NULL;
  if (lua_isnoneornil(L, index) || (text && strcmp(text, "asc") == 0)) return 1;
  if (!text || strcmp(text, "desc") != 0) lumo_raise_argument(L, method, 2, "\"asc\" or \"desc\"", index);
  return -1;
}

/* What is being put in order: the query's sort, or the one by which group_limit counts. */
typedef struct {
  const lumo_query_box *box;
  const char *method;
  lumo_side side; /* whose column a plain name is */
  lumo_buf *draft;
} sorting;

static void put_order(lua_State *L, const sorting *s, const char *path, size_t len, int sign) {
  if (!lumo_buf_reserve(s->draft, len + sizeof(int32_t) + 2)) {
    lumo_error error;
    s->draft->failed = false; /* it may be the query's own */
    lumo_error_init(&error);
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
  lumo_query_order(s->draft, path, len, sign);
}

/* Across a relation an order speaks of paired documents. */
static void order_one(lua_State *L, const sorting *s, int column, int direction) {
  int sign = direction_of(L, s->method, direction);
  const lumo_column *declared = s->side == LUMO_SIDE_RELATED ? lumo_declared_column(L, s->box, column) : NULL;
  if (declared) {
    put_order(L, s, declared->stored, declared->stored_len, sign);
    return;
  }
  lumo_side side = s->side;
  lumo_buf *path = lumo_scratch(L);
  const size_t prefix = sizeof LUMO_PIVOT_FIELD;
  lumo_buf_append(path, LUMO_PIVOT_FIELD ".", prefix);
  lumo_resolve_column(L, s->box, s->method, 1, column, path, &side);
  lumo_check_buffer(L, path);
  size_t from = side == LUMO_SIDE_PIVOT ? 0 : prefix;
  put_order(L, s, (const char *)path->data + from, path->len - from, sign);
}

/* (column, "asc"|"desc") or { {"a", "desc"}, {"b"}, "c" } at the stack places 2 and 3; nothing else is there.
 */
static int order(lua_State *L, const char *method, lumo_side side, lumo_query_box *box, lumo_buf *part) {
  sorting s = {.box = box, .method = method, .side = side, .draft = part};
  if (!lua_istable(L, 2)) { /* needs no draft: it is written when nothing can be refused any more */
    order_one(L, &s, 2, 3);
    lua_settop(L, 1);
    return 1;
  }
  s.draft = push_draft(L, part); /* 4 */
  int count = check_list(L, 2, method);
  for (int k = 1; k <= count; k++) {
    lua_settop(L, 4);
    lua_rawgeti(L, 2, k);
    if (lua_istable(L, 5)) {
      lua_rawgeti(L, 5, 1);
      lua_rawgeti(L, 5, 2);
      lua_remove(L, 5);
    } else {
      lua_pushnil(L);
    }
    order_one(L, &s, 5, 6);
  }
  commit(L, part, s.draft);
  lua_settop(L, 1);
  return 1;
}

/* (column, direction) or (list), and nothing after it. */
static void check_order(lua_State *L, const char *method) {
  if (!lua_isnoneornil(L, 4) || (lua_istable(L, 2) && !lua_isnoneornil(L, 3)))
    lumo_raise_code(L, "E_ARGUMENT", "%s takes a column and its direction, or one list of such pairs",
                    method);
  lua_settop(L, 3);
}

/* order_by(column, direction), order_by_pivot(column, direction) */
static int order_by(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "order_by");
  check_order(L, "order_by");
  return order(L, "order_by", LUMO_SIDE_RELATED, box, &box->query.sort);
}

static int order_by_pivot(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "order_by_pivot");
  check_order(L, "order_by_pivot");
  return order(L, "order_by_pivot", LUMO_SIDE_PIVOT, box, &box->query.sort);
}

static int64_t whole_number(lua_State *L, const char *method, int arg, int index, int64_t least) {
  int64_t n;
  if (lua_type(L, index) != LUA_TNUMBER || !lumo_to_integer(L, index, &n)) n = -1;
  if (n < least)
    lumo_raise_argument(L, method, arg, least ? "a whole number from 1" : "a whole number from 0", index);
  return n;
}

/* limit(5, 10), as SQL has it. */
static void refuse_second(lua_State *L, const char *method, const char *other) {
  if (!lua_isnoneornil(L, 3))
    lumo_raise_code(L, "E_ARGUMENT", "%s takes one number; %s is a method, too", method, other);
}

static int limit(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "limit");
  refuse_second(L, "limit", "offset");
  box->query.limit = whole_number(L, "limit", 1, 2, 1);
  lua_settop(L, 1);
  return 1;
}

/* True for a query of a preload, in which group_limit and group_order_by are each parent's. */
static bool is_preload(lua_State *L, const lumo_query_box *box, const char *method) {
  if (!box->relation || box->kind == LUMO_QUERY_PIVOT)
    lumo_raise_code(L, "E_ARGUMENT", "%s is for queries of a relation", method);
  return box->owner.len == 0;
}

/* group_limit(n), group_order_by(column, direction): elsewhere a plain limit and order */
static int group_limit(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "group_limit");
  bool preload = is_preload(L, box, "group_limit");
  int64_t n = whole_number(L, "group_limit", 1, 2, 1);
  *(preload ? &box->group_limit : &box->query.limit) = n;
  lua_settop(L, 1);
  return 1;
}

static int group_order_by(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "group_order_by");
  bool preload = is_preload(L, box, "group_order_by");
  check_order(L, "group_order_by");
  return order(L, "group_order_by", LUMO_SIDE_RELATED, box, preload ? &box->group_sort : &box->query.sort);
}

static int offset(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "offset");
  refuse_second(L, "offset", "limit");
  box->query.skip = whole_number(L, "offset", 1, 2, 0);
  lua_settop(L, 1);
  return 1;
}

static int for_page(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "for_page");
  int64_t page = whole_number(L, "for_page", 1, 2, 1);
  int64_t per_page = lua_isnoneornil(L, 3) ? 20 : whole_number(L, "for_page", 2, 3, 1);
  if (page - 1 > INT64_MAX / per_page) lumo_raise_argument(L, "for_page", 1, "a page that can be reached", 2);
  box->query.limit = per_page;
  box->query.skip = (page - 1) * per_page;
  lua_settop(L, 1);
  return 1;
}

static int everything(lua_State *L) {
  lumo_check_query(L, 1, "everything")->query.everything = true;
  lua_settop(L, 1);
  return 1;
}

/* core.query_bounds(query): limit and offset, 0: none. */
static int query_bounds(lua_State *L) {
  const lumo_query_box *box = lumo_check_query(L, 1, "count");
  lumo_push_int64(L, box->query.limit);
  lumo_push_int64(L, box->query.skip);
  return 2;
}

/* core.query_extra(query, key, value): an element of the command as it is; a second one of the same key takes
 * its place. */
static int query_extra(lua_State *L) {
  size_t len;
  lumo_query_box *box = lumo_check_query(L, 1, "query");
  const char *key = luaL_checklstring(L, 2, &len);
  lumo_buf *element = lumo_push_buffer(L), *rest = lumo_push_buffer(L);
  lumo_place place = {.key = key, .key_len = len};
  lumo_encode(L, 3, NULL, key, len, NULL, element, &place, LUMO_ENCODE_RAW);
  lumo_iter it = lumo_iter_elements(&box->query.extra);
  while (lumo_iter_next(&it))
    if (strcmp(it.key, key) != 0) lumo_bson_value(rest, it.key, it.key_len, &it.value);
  lumo_buf_append(rest, element->data, element->len);
  lumo_check_buffer(L, rest);
  lumo_buf swap = box->query.extra;
  box->query.extra = *rest;
  *rest = swap; /* freed with its userdata */
  lua_settop(L, 1);
  return 1;
}

/* core.query_filter(query): the conditions as MongoDB's filter, a plain table. */
static int query_filter(lua_State *L) {
  const lumo_query_box *box = lumo_check_query(L, 1, "filter");
  lumo_buf *filter = lumo_push_buffer(L);
  lumo_query_filter(&box->query, NULL, 0, filter);
  lumo_check_buffer(L, filter);
  lumo_push_document(L, filter->data, (uint32_t)filter->len);
  return 1;
}

/* core.query_resolve(query, method, column): its stored path, and whether it is the pivot's. */
static int query_resolve(lua_State *L) {
  const char *method = luaL_checkstring(L, 2);
  const lumo_query_box *box = lumo_check_query(L, 1, method);
  lumo_side side = LUMO_SIDE_RELATED;
  lumo_buf *path = lumo_push_buffer(L);
  lumo_resolve_column(L, box, method, 1, 3, path, &side);
  lumo_check_buffer(L, path);
  lua_pushlstring(L, (const char *)path->data, path->len);
  lua_pushboolean(L, side == LUMO_SIDE_PIVOT);
  return 2;
}

/* ---- the method table ---- */

/* The metatable of queries with flags: they are looked for after the methods. All others have the methods as
 * a table in `__index`, which Lua looks into without a call. */
static const char slot_flagged;

/* core.query_flag(query, flags): what the query answers to beside its methods. */
static int query_flag(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "query");
  lua_settop(L, 2);
  push_own_companion(L, box);
  lua_insert(L, 2);
  lua_setfield(L, 2, "flags");
  lumo_get(L, &slot_flagged);
  lua_setmetatable(L, 1);
  return 0;
}

/* Upvalue: the methods. */
static int query_index(lua_State *L) {
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  if (!lua_isnil(L, -1)) return 1;
  lumo_getuv(L, 1);
  lua_getfield(L, -1, "flags");
  if (!lua_istable(L, -1)) return 0;
  lua_pushvalue(L, 2);
  lua_rawget(L, -2);
  return 1;
}

void lumo_query_set_metamethod(lua_State *L, const char *name, lua_CFunction function) {
  const void *const metatables[] = {&LUMO_MT_QUERY, &slot_flagged};
  for (size_t i = 0; i < 2; i++) {
    lumo_get(L, metatables[i]);
    lua_pushcfunction(L, function);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
  }
}

void lumo_open_query(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"select", select_columns},
      {"order_by", order_by},
      {"order_by_pivot", order_by_pivot},
      {"limit", limit},
      {"offset", offset},
      {"for_page", for_page},
      {"group_limit", group_limit},
      {"group_order_by", group_order_by},
      {"everything", everything},
      {NULL, NULL},
  };
  static const luaL_Reg metamethods[] = {{"__gc", query_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"query_new", query_new},
      {"query_of", query_of},
      {"query_state", query_state},
      {"query_kept", query_kept},
      {"query_flag", query_flag},
      {"query_clone", query_clone},
      {"query_bounds", query_bounds},
      {"query_also", query_also},
      {"query_partial", query_partial},
      {"query_extra", query_extra},
      {"query_resolve", query_resolve},
      {"query_filter", query_filter},
      {NULL, NULL},
  };
  luaL_setfuncs(L, functions, 0);
  lua_newtable(L); /* the methods: where.c and lua/lumo/query.lua add theirs to this table */
  luaL_setfuncs(L, methods, 0);
  lumo_metatable(L, &LUMO_MT_QUERY, "lumo.query", NULL, metamethods);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "__index");
  lumo_metatable(L, &slot_flagged, "lumo.query", NULL, metamethods);
  lumo_mark_metatable(L, &LUMO_MT_QUERY);
  lua_pushvalue(L, -3);
  lua_pushcclosure(L, query_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 2);
  lua_setfield(L, -2, "query_methods");
}
