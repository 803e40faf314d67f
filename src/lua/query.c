/* The query builder as a userdata: each method checks its arguments, casts values by the column's type and
 * adds to the core's query. Nothing is sent from here. Methods that take a function (groups), and all that
 * send, are in lua/lumo/query.lua. */
#include "../core/query.h"

#include <string.h>

#include "../core/json.h"
#include "relation.h"

lumo_query_box *lumo_check_query(lua_State *L, int i, const char *method) {
  lumo_query_box *box = lumo_test(L, i, &LUMO_MT_QUERY);
  if (!box)
    lumo_raise_code(L, "E_ARGUMENT",
                    "%s is called on a query, got %s; was it called with a dot instead of a colon?", method,
                    luaL_typename(L, i));
  return box;
}

static int query_gc(lua_State *L) {
  lumo_query_box *box = lua_touserdata(L, 1);
  lumo_query_free(&box->query);
  lumo_buf_free(&box->owner);
  lumo_buf_free(&box->bound);
  memset(&box->query, 0, sizeof box->query);
  return 0;
}

lumo_query_box *lumo_push_query(lua_State *L, int schema, lumo_query_kind kind) {
  schema = lua_absindex(L, schema);
  const lumo_schema *compiled = lumo_check_schema(L, schema);
  lumo_query_box *box = lumo_newud(L, sizeof *box);
  memset(box, 0, sizeof *box);
  box->query.schema = compiled;
  box->kind = kind;
  lumo_get(L, &LUMO_MT_QUERY);
  lua_setmetatable(L, -2);
  lua_newtable(L);
  lua_pushvalue(L, schema);
  lua_rawseti(L, -2, 1);
  lumo_setuv(L, -2);
  return box;
}

static int query_new(lua_State *L) {
  lumo_push_query(L, 1, LUMO_QUERY_MODEL);
  return 1;
}

/* core.query_state(query): the companion table, in which lua/lumo keeps model, connection and the like under
 * names. */
static int query_state(lua_State *L) {
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
  lumo_check_buffer(L, &copy->owner);
  lumo_check_buffer(L, &copy->bound);
  if (!lumo_query_copy(&copy->query, &box->query)) {
    lumo_error error;
    lumo_error_init(&error);
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
  lumo_getuv(L, 4); /* 5 */
  for (lua_pushnil(L); lua_next(L, 2);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, 5);
  }
  lua_settop(L, 4);
  return 1;
}

/* ---- columns ---- */

/* True if the name begins with the collection's and a dot; a declared column of that name wins. Then it is
 * cut off. */
static bool cut_collection(const lumo_schema *schema, const char *collection, const char **name,
                           size_t *len) {
  size_t n = strlen(collection);
  if (*len <= n + 1 || (*name)[n] != '.' || memcmp(*name, collection, n) != 0 ||
      lumo_schema_find(schema, *name, n))
    return false;
  *name += n + 1;
  *len -= n + 1;
  return true;
}

/* Resolves the column named at `index` to its stored path, appended to `path` (a buffer of a userdata), and
 * its type. `id` is the primary column where no column has that name; a name may begin with the collection's
 * and a dot. *side is that of the method (a where_pivot) and becomes the pivot's when the name begins with
 * the pivot's. */
static const lumo_column *resolve(lua_State *L, const lumo_query_box *box, const char *method, int arg,
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
  } else if (*side == LUMO_SIDE_PIVOT && box->kind != LUMO_QUERY_RELATED) {
    lumo_raise_code(L, "E_ARGUMENT", "%s is for queries across a many-to-many relation", method);
  } else if (box->kind == LUMO_QUERY_RELATED &&
             cut_collection(schema, box->relation->pivot.collection, &name, &len)) {
    *side = LUMO_SIDE_PIVOT;
  }
  if (*side == LUMO_SIDE_PIVOT) schema = box->relation->rows;
  cut_collection(schema, schema->collection, &name, &len);
  if (len == 2 && memcmp(name, "id", 2) == 0 && !lumo_schema_find(schema, name, len)) {
    column = schema->columns[schema->primary];
    lumo_buf_append(path, column->stored, column->stored_len);
    return column;
  }
  if (!lumo_schema_resolve(schema, name, len, path, &column, &error)) lumo_raise(L, &error);
  return column;
}

/* The same where only the query's own collection will do. */
static const lumo_column *resolve_own(lua_State *L, const lumo_query_box *box, const char *method, int arg,
                                      int index, lumo_buf *path) {
  lumo_side side = LUMO_SIDE_RELATED;
  const lumo_column *column = resolve(L, box, method, arg, index, path, &side);
  if (side == LUMO_SIDE_PIVOT)
    lumo_raise_code(L, "E_UNSUPPORTED", "%s does not take columns of the pivot", method);
  return column;
}

/* The type by which a value is cast that is compared with a column: of an array column a scalar is compared
 * with its elements. */
static const lumo_column *compared(lua_State *L, const lumo_column *column, int index) {
  return column && column->type == LUMO_ARRAY && !lua_istable(L, index) ? column->of : column;
}

/* ---- conditions ---- */

/* A condition that is being written: { path: { operator: … } }. */
typedef struct {
  lua_State *L;
  lumo_query_box *box;
  lumo_buf *out;
  const lumo_column *column;
  const char *path;
  size_t path_len;
  size_t document, operators;
  lumo_side side;
  bool vacuous;
} condition;

/* Upvalues of every where method: its name, the join, whether it is negated, and whose fields it names. */
static const char *method_name(lua_State *L) {
  return lua_tostring(L, lua_upvalueindex(1));
}

static lumo_join method_join(lua_State *L) {
  return (lumo_join)lua_tointeger(L, lua_upvalueindex(2));
}

static bool method_negated(lua_State *L) {
  return lua_toboolean(L, lua_upvalueindex(3));
}

static lumo_side method_side(lua_State *L) {
  return (lumo_side)lua_tointeger(L, lua_upvalueindex(4));
}

/* Begins a condition on the column named at `index`. The path is copied to the scratch buffer, which must not
 * be used before open_operators. */
static condition begin(lua_State *L, int index) {
  condition c = {.L = L, .box = lumo_check_query(L, 1, method_name(L)), .side = method_side(L)};
  lumo_buf *path = lumo_scratch(L);
  c.column = resolve(L, c.box, method_name(L), 1, index, path, &c.side);
  lumo_check_buffer(L, path);
  c.out = &c.box->query.filter.bytes;
  lumo_filter_begin(&c.box->query.filter);
  c.document = lumo_bson_begin(c.out);
  c.operators = lumo_bson_begin_document(c.out, (const char *)path->data, path->len);
  return c;
}

static int finish(const condition *c, lumo_join join, bool negated) {
  lumo_bson_end(c->out, c->operators);
  lumo_bson_end(c->out, c->document);
  lumo_check_buffer(c->L, c->out);
  if (!lumo_filter_end(&c->box->query.filter, join, negated, c->side)) {
    lumo_error error;
    lumo_error_init(&error);
    lumo_error_memory(&error);
    lumo_raise(c->L, &error);
  }
  struct lumo_filter *filter = &c->box->query.filter;
  filter->clauses[filter->count - 1].vacuous = c->vacuous;
  lua_settop(c->L, 1);
  return 1;
}

static lumo_place place_of(const condition *c) {
  const char *name = c->column ? c->column->name : "value";
  return (lumo_place){.model = c->box->query.schema->model, .key = name, .key_len = strlen(name)};
}

static bool is_empty_table(lua_State *L, int index) {
  if (!lua_istable(L, index)) return false;
  lua_pushnil(L);
  if (lua_next(L, index) == 0) return true;
  lua_pop(L, 2);
  return false;
}

/* Refuses what would silently widen or empty a filter. */
static void check_value(lua_State *L, int arg, int index) {
  if (lua_isnoneornil(L, index))
    lumo_raise_argument(L, method_name(L), arg, "a value (lumo.null matches null)", index);
  if (is_empty_table(L, index))
    lumo_raise_code(L, "E_ARGUMENT", "%s got an empty table as a value", method_name(L));
}

static void put_value(condition *c, const char *operator, int index) {
  lumo_place place = place_of(c);
  lumo_encode(c->L, index, compared(c->L, c->column, index), operator, strlen(operator), NULL, c->out, &place,
              LUMO_ENCODE_DATA);
}

/* operator: [values], each cast as one that is compared. An array column takes lists of elements; a list of
 * whole arrays must hold tables. */
static void put_list(condition *c, const char *operator, int index, int arg) {
  lua_State *L = c->L;
  if (!lua_istable(L, index)) lumo_raise_argument(L, method_name(L), arg, "a list of values", index);
  size_t n = lua_rawlen(L, index), seen = 0;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) seen++;
  if (seen != n)
    lumo_raise_code(L, "E_ARGUMENT", "%s needs a list without holes or named keys", method_name(L));
  lumo_place outer = place_of(c);
  size_t mark = lumo_bson_begin_array(c->out, operator, strlen(operator));
  for (size_t i = 0; i < n; i++) {
    char key[12];
    lua_rawgeti(L, index, (int)i + 1);
    lumo_place place = {.parent = &outer, .position = (lua_Integer)i + 1};
    int len = snprintf(key, sizeof key, "%zu", i);
    int top = lua_gettop(L);
    size_t before = c->out->len;
    lumo_encode(L, top, compared(L, c->column, top), key, (size_t)len, NULL, c->out, &place,
                LUMO_ENCODE_DATA);
    if (!c->out->failed && c->out->data[before] == LUMO_BSON_REGEX) /* would be matched by, not compared */
      lumo_raise_cast(L, &place, NULL, 0, "is a pattern, which no list of values can hold (see where_regex)");
    lua_pop(L, 1);
  }
  c->vacuous = n == 0 && strcmp(operator, "$nin") == 0;
  lumo_bson_end(c->out, mark);
}

/* {$regex: pattern, $options: flags} from text or a lumo.regex. */
static void put_regex(condition *c, int index, int arg) {
  lua_State *L = c->L;
  lumo_value value;
  if (lua_type(L, index) == LUA_TSTRING) {
    size_t len;
    const char *pattern = lua_tolstring(L, index, &len);
    if (!lumo_utf8_valid(pattern, len) || strlen(pattern) != len) {
      lumo_place place = place_of(c);
      lumo_raise_cast(L, &place, NULL, index, "a pattern is UTF-8 text without NUL");
    }
    lumo_bson_string(c->out, LUMO_KEY("$regex"), pattern, len);
  } else if (lumo_test_value(L, index, &value) && value.type == LUMO_BSON_REGEX) {
    lumo_bson_value(c->out, LUMO_KEY("$regex"), &value);
  } else {
    lumo_raise_argument(L, method_name(L), arg, "a pattern (text or lumo.regex)", index);
  }
}

static void put_like(condition *c, int index, int arg, bool ignore_case) {
  lua_State *L = c->L;
  size_t len;
  if (lua_type(L, index) != LUA_TSTRING) lumo_raise_argument(L, method_name(L), arg, "text", index);
  const char *like = lua_tolstring(L, index, &len);
  if (!lumo_utf8_valid(like, len) || strlen(like) != len) {
    lumo_place place = place_of(c);
    lumo_raise_cast(L, &place, NULL, index, "a pattern is UTF-8 text without NUL");
  }
  lumo_buf *pattern = lumo_scratch(L);
  lumo_like_pattern(pattern, like, len);
  lumo_check_buffer(L, pattern);
  lumo_bson_string(c->out, LUMO_KEY("$regex"), (const char *)pattern->data, pattern->len);
  lumo_bson_string(c->out, LUMO_KEY("$options"), ignore_case ? "is" : "s", ignore_case ? 2 : 1);
}

static void put_exists(condition *c, int index, int arg) {
  if (!lua_isboolean(c->L, index)) lumo_raise_argument(c->L, method_name(c->L), arg, "a boolean", index);
  lumo_bson_boolean(c->out, LUMO_KEY("$exists"), lua_toboolean(c->L, index));
}

/* The operators that compare, and MongoDB's names for them. */
static const struct {
  const char *name, *operator;
} comparisons[] = {{"=", "$eq"},   {"!=", "$ne"}, {"<>", "$ne"}, {">", "$gt"},
                   {">=", "$gte"}, {"<", "$lt"},  {"<=", "$lte"}};

/* where(column, operator, value) */
static void put_operation(condition *c, const char *operator, int index) {
  for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
    if (strcmp(operator, comparisons[i].name) != 0) continue;
    check_value(c->L, 3, index);
    put_value(c, comparisons[i].operator, index);
    return;
  }
  if (strcmp(operator, "in") == 0)
    put_list(c, "$in", index, 3);
  else if (strcmp(operator, "not_in") == 0)
    put_list(c, "$nin", index, 3);
  else if (strcmp(operator, "like") == 0)
    put_like(c, index, 3, false);
  else if (strcmp(operator, "ilike") == 0)
    put_like(c, index, 3, true);
  else if (strcmp(operator, "exists") == 0)
    put_exists(c, index, 3);
  else if (strcmp(operator, "regex") == 0)
    put_regex(c, index, 3);
  else
    lumo_raise_code(
        c->L, "E_ARGUMENT",
        "\"%s\" is not an operator; they are = != <> > >= < <= in not_in like ilike exists regex", operator);
}

/* where{a = 1, b = 2}: one clause of several equalities, by name, so that the same table always gives the
 * same filter. */
static int where_table(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, method_name(L));
  lua_settop(L, 2);
  if (is_empty_table(L, 2)) lumo_raise_code(L, "E_ARGUMENT", "%s got an empty table", method_name(L));
  lua_newtable(L); /* 3: the names, sorted */
  int n = 0;
  for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      lumo_raise_code(L, "E_ARGUMENT", "%s needs a table from column names to values", method_name(L));
    lua_pushvalue(L, -2);
    int at = ++n;
    for (; at > 1; at--) {
      lua_rawgeti(L, 3, at - 1);
      bool after = strcmp(lua_tostring(L, -1), lua_tostring(L, -2)) > 0;
      if (!after) {
        lua_pop(L, 1);
        break;
      }
      lua_rawseti(L, 3, at);
    }
    lua_rawseti(L, 3, at);
  }
  /* Written twice: the first round only checks, for a refusal must leave the query as it was. */
  lumo_error error;
  lumo_error_init(&error);
  for (int round = 0; round < 2; round++) {
    if (round == 1 && !lumo_filter_open(&box->query.filter, method_join(L), method_negated(L), &error))
      lumo_raise(L, &error);
    for (int i = 1; i <= n; i++) {
      lua_rawgeti(L, 3, i);
      lua_pushvalue(L, -1);
      lua_rawget(L, 2);
      condition c = begin(L, 4);
      check_value(L, 1, 5);
      put_value(&c, "$eq", 5);
      lua_settop(L, 3);
      if (round == 0) continue;
      lumo_bson_end(c.out, c.operators);
      lumo_bson_end(c.out, c.document);
      if (!lumo_filter_end(&box->query.filter, LUMO_AND, false, c.side))
        box->query.filter.bytes.failed = true;
    }
  }
  lumo_filter_close(&box->query.filter);
  lumo_check_buffer(L, &box->query.filter.bytes);
  lua_settop(L, 1);
  return 1;
}

static int where(lua_State *L) {
  int n = lua_gettop(L);
  if (n <= 2 && lua_istable(L, 2)) return where_table(L);
  if (n == 3 && lua_istable(L, 2))
    lumo_raise_code(L, "E_ARGUMENT", "%s(table, names) needs a list of names", method_name(L));
  if (n < 3) {
    lumo_check_query(L, 1, method_name(L));
    if (n == 2 && lua_type(L, 2) == LUA_TSTRING)
      lumo_raise_code(L, "E_ARGUMENT", "%s(\"%s\") needs a value", method_name(L), lua_tostring(L, 2));
    lumo_raise_argument(L, method_name(L), 1, "a column and a value, a table, or a function", 2);
  }
  condition c = begin(L, 2);
  if (n == 3) {
    check_value(L, 2, 3);
    put_value(&c, "$eq", 3);
  } else if (n > 4) {
    lumo_raise_code(L, "E_ARGUMENT", "%s takes a column, an operator and a value, got %d arguments",
                    method_name(L), n - 1);
  } else {
    if (lua_type(L, 3) != LUA_TSTRING) lumo_raise_argument(L, method_name(L), 2, "an operator", 3);
    put_operation(&c, lua_tostring(L, 3), 4);
  }
  return finish(&c, method_join(L), method_negated(L));
}

static int where_in(lua_State *L) {
  condition c = begin(L, 2);
  put_list(&c, method_negated(L) ? "$nin" : "$in", 3, 2);
  return finish(&c, method_join(L), false);
}

static int where_null(lua_State *L) {
  condition c = begin(L, 2);
  if (method_negated(L))
    lumo_bson_null(c.out, LUMO_KEY("$ne"));
  else
    lumo_bson_null(c.out, LUMO_KEY("$eq"));
  return finish(&c, method_join(L), false);
}

/* where_between(column, {low, high}) or where_between(column, low, high); both ends belong to it */
static int where_between(lua_State *L) {
  if (lua_gettop(L) == 3 && lua_istable(L, 3)) {
    if (lua_rawlen(L, 3) != 2) lumo_raise_argument(L, method_name(L), 2, "a list of two values", 3);
    lua_rawgeti(L, 3, 1);
    lua_rawgeti(L, 3, 2);
    lua_remove(L, 3);
  }
  condition c = begin(L, 2);
  check_value(L, 2, 3);
  check_value(L, 3, 4);
  put_value(&c, "$gte", 3);
  put_value(&c, "$lte", 4);
  return finish(&c, method_join(L), method_negated(L));
}

static int where_like(lua_State *L) {
  condition c = begin(L, 2);
  put_like(&c, 3, 2, false);
  return finish(&c, method_join(L), method_negated(L));
}

static int where_ilike(lua_State *L) {
  condition c = begin(L, 2);
  put_like(&c, 3, 2, true);
  return finish(&c, method_join(L), method_negated(L));
}

static int where_exists(lua_State *L) {
  condition c = begin(L, 2);
  lumo_bson_boolean(c.out, LUMO_KEY("$exists"), !method_negated(L));
  return finish(&c, method_join(L), false);
}

static int where_size(lua_State *L) {
  condition c = begin(L, 2);
  if (!lumo_isinteger(L, 3) || lua_tointeger(L, 3) < 0)
    lumo_raise_argument(L, method_name(L), 2, "a length", 3);
  lumo_bson_int64(c.out, LUMO_KEY("$size"), (int64_t)lua_tointeger(L, 3));
  return finish(&c, method_join(L), method_negated(L));
}

static int where_all(lua_State *L) {
  condition c = begin(L, 2);
  put_list(&c, "$all", 3, 2);
  return finish(&c, method_join(L), method_negated(L));
}

static int where_regex(lua_State *L) {
  condition c = begin(L, 2);
  put_regex(&c, 3, 2);
  return finish(&c, method_join(L), method_negated(L));
}

/* where_column(a, operator, b): { $expr: { $op: ["$a", "$b"] } } */
static int where_column(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, method_name(L));
  const char *operator= NULL, *given = lua_type(L, 3) == LUA_TSTRING ? lua_tostring(L, 3) : "";
  for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++)
    if (strcmp(given, comparisons[i].name) == 0) operator= comparisons[i].operator;
  if (!operator) lumo_raise_argument(L, method_name(L), 2, "one of = != <> > >= < <=", 3);
  lumo_buf *path = lumo_push_buffer(L);
  lumo_buf *out = &box->query.filter.bytes;
  lumo_filter_begin(&box->query.filter);
  size_t document = lumo_bson_begin(out);
  size_t expression = lumo_bson_begin_document(out, LUMO_KEY("$expr"));
  size_t operands = lumo_bson_begin_array(out, operator, strlen(operator));
  for (int i = 0; i < 2; i++) {
    lumo_buf_clear(path);
    lumo_buf_append(path, "$", 1);
    resolve_own(L, box, method_name(L), i ? 3 : 1, i ? 4 : 2, path);
    lumo_check_buffer(L, path);
    lumo_bson_string(out, i ? "1" : "0", 1, (const char *)path->data, path->len);
  }
  lumo_bson_end(out, operands);
  condition c = {.L = L,
                 .box = box,
                 .out = out,
                 .document = document,
                 .operators = expression,
                 .side = LUMO_SIDE_RELATED};
  return finish(&c, method_join(L), method_negated(L));
}

/* where_raw(filter): MongoDB's own filter, operators and all. */
static int where_raw(lua_State *L) {
  condition c = {.L = L, .box = lumo_check_query(L, 1, method_name(L))};
  if (!lua_istable(L, 2)) lumo_raise_argument(L, method_name(L), 1, "a filter document", 2);
  if (is_empty_table(L, 2)) lumo_raise_code(L, "E_ARGUMENT", "%s got an empty filter", method_name(L));
  lumo_place place = {.key = "filter", .key_len = 6};
  lumo_filter_begin(&c.box->query.filter);
  c.out = &c.box->query.filter.bytes;
  lumo_encode_document(L, 2, NULL, NULL, c.out, &place, LUMO_ENCODE_RAW);
  lumo_check_buffer(L, c.out);
  if (!lumo_filter_end(&c.box->query.filter, method_join(L), method_negated(L), LUMO_SIDE_RELATED)) {
    lumo_error error;
    lumo_error_init(&error);
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
  lua_settop(L, 1);
  return 1;
}

/* core.query_open(query, join "and"|"or", negated): → mark; core.query_close(query); core.query_rewind(query,
 * mark): the group around a function. */
static int query_open(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_query_box *box = lumo_check_query(L, 1, "where");
  lumo_filter_mark mark = lumo_filter_position(&box->query.filter);
  lumo_join join = strcmp(luaL_checkstring(L, 2), "or") == 0 ? LUMO_OR : LUMO_AND;
  if (!lumo_filter_open(&box->query.filter, join, lua_toboolean(L, 3), &error)) lumo_raise(L, &error);
  lua_pushinteger(L, mark.count);
  lua_pushinteger(L, mark.depth);
  return 2;
}

/* core.query_bounds(query): limit and offset, 0: none. */
static int query_bounds(lua_State *L) {
  const lumo_query_box *box = lumo_check_query(L, 1, "count");
  lumo_push_int64(L, box->query.limit);
  lumo_push_int64(L, box->query.skip);
  return 2;
}

/* core.query_settle(query): what stands in the filter now belongs to the relation. */
static int query_settle(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "where");
  lumo_filter_settle(&box->query.filter);
  return 0;
}

static int query_close(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "where");
  lumo_filter_close(&box->query.filter);
  lumo_check_buffer(L, &box->query.filter.bytes);
  return 0;
}

static int query_rewind(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "where");
  lumo_filter_mark mark = {(uint32_t)luaL_checkinteger(L, 2), (uint32_t)luaL_checkinteger(L, 3)};
  lumo_filter_rewind(&box->query.filter, mark);
  return 0;
}

/* ---- the rest of the builder ---- */

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
  resolve_own(L, box, "select", arg, index, path);
  lumo_check_buffer(L, path);
  lumo_query_select(draft, (const char *)path->data, path->len);
}

/* select(a, b, …) or select{a, b, …}; the primary key always comes along */
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
    if (lua_rawlen(L, i) == 0) lumo_raise_code(L, "E_ARGUMENT", "select got an empty list");
    for (int k = 1; k <= (int)lua_rawlen(L, i); k++) {
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

static int direction_of(lua_State *L, int index) {
  const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : NULL;
  if (lua_isnoneornil(L, index) || (text && strcmp(text, "asc") == 0)) return 1;
  if (!text || strcmp(text, "desc") != 0) lumo_raise_argument(L, "order_by", 2, "\"asc\" or \"desc\"", index);
  return -1;
}

static void order_one(lua_State *L, const lumo_query_box *box, int column, int direction, lumo_buf *draft) {
  int sign = direction_of(L, direction);
  lumo_buf *path = lumo_scratch(L);
  resolve_own(L, box, "order_by", 1, column, path);
  lumo_check_buffer(L, path);
  lumo_query_order(draft, (const char *)path->data, path->len, sign);
}

/* order_by(column, "asc"|"desc") or order_by{ {"a", "desc"}, {"b"}, "c" } */
static int order_by(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "order_by");
  lua_settop(L, 3);
  lumo_buf *draft = push_draft(L, &box->query.sort); /* 4 */
  if (!lua_istable(L, 2)) {
    order_one(L, box, 2, 3, draft);
  } else {
    if (lua_rawlen(L, 2) == 0) lumo_raise_code(L, "E_ARGUMENT", "order_by got an empty list");
    for (int k = 1; k <= (int)lua_rawlen(L, 2); k++) {
      lua_settop(L, 4);
      lua_rawgeti(L, 2, k);
      if (lua_istable(L, 5)) {
        lua_rawgeti(L, 5, 1);
        lua_rawgeti(L, 5, 2);
        lua_remove(L, 5);
      } else {
        lua_pushnil(L);
      }
      order_one(L, box, 5, 6, draft);
    }
  }
  commit(L, &box->query.sort, draft);
  lua_settop(L, 1);
  return 1;
}

static int64_t whole_number(lua_State *L, const char *method, int arg, int index, int64_t least) {
  int64_t n;
  if (lua_type(L, index) != LUA_TNUMBER || !lumo_to_integer(L, index, &n)) n = -1;
  if (n < least)
    lumo_raise_argument(L, method, arg, least ? "a whole number from 1" : "a whole number from 0", index);
  return n;
}

static int limit(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "limit");
  box->query.limit = whole_number(L, "limit", 1, 2, 1);
  lua_settop(L, 1);
  return 1;
}

static int offset(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "offset");
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

/* ---- plans ---- */

static const uint8_t *bound_of(const lumo_query_box *box, uint32_t *len) {
  *len = (uint32_t)box->bound.len;
  return box->bound.len ? box->bound.data : NULL;
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
    lumo_push_related_plan(L, box, "find", LUMO_RELATED_FIND, most, NULL, NULL);
    return 1;
  }
  lumo_buf *command = lumo_push_buffer(L);
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_query_find(&box->query, bound, bound_len, most, streaming ? 1000 : 0, command);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(
      L, lua_gettop(L), LUMO_PLAN_READ,
      lumo_read_plan_new("find", box->query.schema->collection, command, most == 1, streaming, &error),
      &error);
  return 1;
}

/* core.query_count_plan(query) */
static int query_count_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  lumo_query_box *box = lumo_check_query(L, 1, "count");
  if (box->kind == LUMO_QUERY_RELATED) {
    lumo_push_related_plan(L, box, "count", LUMO_RELATED_COUNT, 0, NULL, NULL);
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
  return 1;
}

/* A bulk write names what it is for: a filter, or everything(); limits and orders have no meaning to it. */
static void check_bulk(lua_State *L, const lumo_query_box *box, const char *method) {
  if (box->query.filter.depth > 0)
    lumo_raise_code(L, "E_ARGUMENT", "%s inside a where group: its filter is not finished", method);
  if (lumo_filter_conditions(&box->query.filter) == 0 && !box->query.everything)
    lumo_raise_code(L, "E_ARGUMENT",
                    "%s without a filter would change every document; say everything() if that is meant",
                    method);
  if (box->query.extra.len > 0)
    lumo_raise_code(L, "E_UNSUPPORTED", "%s takes no hint, collation, comment or time limit", method);
  if (box->query.limit || box->query.skip)
    lumo_raise_code(L, "E_ARGUMENT", "%s cannot be limited: MongoDB changes all that match", method);
}

static void push_bulk_plan(lua_State *L, lumo_query_box *box, const char *method, const lumo_buf *update) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  if (box->kind == LUMO_QUERY_RELATED) {
    lumo_push_related_plan(L, box, method, update ? LUMO_RELATED_UPDATE : LUMO_RELATED_DELETE, 0, update,
                           NULL);
    return;
  }
  lumo_buf *statement = lumo_push_buffer(L);
  const uint8_t *bound = bound_of(box, &bound_len);
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
  const lumo_column *column = resolve_own(L, box, method, 1, index, path);
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

/* $set: {…} from the table of values at stack place 2, each cast by its column; lumo.null stores null. */
static void put_set(lua_State *L, const lumo_query_box *box, const char *method, lumo_buf *update,
                    lumo_buf *path) {
  size_t set = lumo_bson_begin_document(update, LUMO_KEY("$set"));
  for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
    lumo_buf_clear(path);
    const lumo_column *column = updated_column(L, box, method, lua_gettop(L) - 1, path);
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
  if (is_empty_table(L, 2)) lumo_raise_code(L, "E_ARGUMENT", "update got an empty table");
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

/* core.query_increment_plan(query, column, n, method) */
static int query_increment_plan(lua_State *L) {
  const char *method = luaL_checkstring(L, 4);
  lumo_query_box *box = lumo_check_query(L, 1, method);
  if (lua_type(L, 3) != LUA_TNUMBER) lumo_raise_argument(L, method, 2, "a number", 3);
  check_bulk(L, box, method);
  lumo_buf *update = lumo_push_buffer(L), *path = lumo_push_buffer(L);
  const lumo_column *column = updated_column(L, box, method, 2, path);
  if (column && column->type != LUMO_ANY && column->type != LUMO_NUMBER && column->type != LUMO_INTEGER &&
      column->type != LUMO_INT32 && column->type != LUMO_INT64 && column->type != LUMO_DECIMAL)
    lumo_raise_code(L, "E_CAST", "\"%s.%s\" is not a number", box->query.schema->model, column->name);
  const char *name = column ? column->name : "value";
  lumo_place place = {.model = box->query.schema->model, .key = name, .key_len = strlen(name)};
  size_t document = lumo_bson_begin(update);
  size_t inc = lumo_bson_begin_document(update, LUMO_KEY("$inc"));
  lumo_encode(L, 3, column, (const char *)path->data, path->len, NULL, update, &place, LUMO_ENCODE_DATA);
  lumo_bson_end(update, inc);
  lumo_bson_end(update, document);
  lumo_check_buffer(L, update);
  push_bulk_plan(L, box, method, update);
  return 1;
}

/* core.query_delete_plan(query) */
static int query_delete_plan(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "delete");
  check_bulk(L, box, "delete");
  push_bulk_plan(L, box, "delete", NULL);
  return 1;
}

/* core.aggregate_plan(collection, pipeline, streaming) */
static int aggregate_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const char *collection = luaL_checkstring(L, 1);
  bool streaming = lua_toboolean(L, 3);
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
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_READ,
                 lumo_read_plan_new("aggregate", collection, command, false, streaming, &error), &error);
  return 1;
}

/* core.query_group_plan(query, operator, column, method): one value over what matches, as `n` of one
 * document. */
static int query_group_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  const char *operator= luaL_checkstring(L, 2), *method = luaL_checkstring(L, 4);
  const lumo_query_box *box = lumo_check_query(L, 1, method);
  if (box->kind == LUMO_QUERY_RELATED)
    lumo_raise_code(L, "E_UNSUPPORTED", "%s is not supported across a relation", method);
  lumo_buf *path = lumo_push_buffer(L), *command = lumo_push_buffer(L);
  lumo_buf_append(path, "$", 1);
  resolve_own(L, box, method, 1, 3, path);
  lumo_check_buffer(L, path);
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_query_group(&box->query, bound, bound_len, operator,(const char *) path->data, path->len, command);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_READ,
                 lumo_read_plan_new(method, box->query.schema->collection, command, true, false, &error),
                 &error);
  return 1;
}

/* core.query_modify_plan(query, values or nil): findAndModify of the first that matches: a $set of the
 * values, or its removal. The reply has the document as it is afterwards, or as it was. */
static int query_modify_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  bool update = lua_istable(L, 2);
  const char *method = update ? "find_one_and_update" : "find_one_and_delete";
  const lumo_query_box *box = lumo_check_query(L, 1, method);
  if (box->kind == LUMO_QUERY_RELATED)
    lumo_raise_code(L, "E_UNSUPPORTED", "%s is not supported across a relation", method);
  if (box->query.limit || box->query.skip)
    lumo_raise_code(L, "E_ARGUMENT", "%s takes the first that matches: no limit, no offset", method);
  if (update && is_empty_table(L, 2)) lumo_raise_code(L, "E_ARGUMENT", "%s got an empty table", method);
  lua_settop(L, 2);
  const char *collection = box->query.schema->collection;
  lumo_buf *command = lumo_push_buffer(L), *path = lumo_push_buffer(L);
  size_t mark = lumo_bson_begin(command);
  lumo_bson_string(command, LUMO_KEY("findAndModify"), collection, strlen(collection));
  lumo_bson_key(command, LUMO_BSON_DOCUMENT, LUMO_KEY("query"));
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_query_filter(&box->query, bound, bound_len, command);
  if (box->query.sort.len > 0) {
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
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_COMMAND,
                 lumo_command_plan_new(method, NULL, command, true, &error), &error);
  return 1;
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

/* core.query_explain_plan(query, verbosity) */
static int query_explain_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  uint32_t bound_len;
  const lumo_query_box *box = lumo_check_query(L, 1, "explain");
  const char *verbosity = luaL_checkstring(L, 2);
  if (box->kind == LUMO_QUERY_RELATED)
    lumo_raise_code(L, "E_UNSUPPORTED", "explain is not supported across a relation");
  lumo_buf *command = lumo_push_buffer(L);
  const uint8_t *bound = bound_of(box, &bound_len);
  size_t mark = lumo_bson_begin(command);
  lumo_bson_key(command, LUMO_BSON_DOCUMENT, LUMO_KEY("explain"));
  lumo_query_find(&box->query, bound, bound_len, box->query.limit, 0, command);
  lumo_bson_string(command, LUMO_KEY("verbosity"), verbosity, strlen(verbosity));
  lumo_bson_end(command, mark);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_COMMAND,
                 lumo_command_plan_new("explain", NULL, command, false, &error), &error);
  return 1;
}

/* core.query_resolve(query, method, column): its stored path. */
static int query_resolve(lua_State *L) {
  const char *method = luaL_checkstring(L, 2);
  const lumo_query_box *box = lumo_check_query(L, 1, method);
  lumo_buf *path = lumo_push_buffer(L);
  resolve_own(L, box, method, 1, 3, path);
  lumo_check_buffer(L, path);
  lua_pushlstring(L, (const char *)path->data, path->len);
  return 1;
}

/* The command that exec() would send; of a related query, the one to the related collection as far as it is
 * known before the pivot has been read. */
static int query_tostring(lua_State *L) {
  const lumo_query_box *box = lumo_check_query(L, 1, "tostring");
  uint32_t bound_len;
  lumo_buf *command = lumo_push_buffer(L), *text = lumo_push_buffer(L);
  const uint8_t *bound = bound_of(box, &bound_len);
  lumo_query_find(&box->query, bound, bound_len, box->query.limit, 0, command);
  lumo_check_buffer(L, command);
  lumo_json_document(text, command->data, command->len, false, LUMO_JSON_RELAXED);
  lumo_check_buffer(L, text);
  lua_pushlstring(L, (const char *)text->data, text->len);
  return 1;
}

/* ---- the method table ---- */

/* A method, or one of the flags that lua/lumo has put into the companion's `flags`. Upvalue: the methods. */
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

/* A family is a method with its and_ and or_ forms; with `pivot` also the same over the pivot's fields. */
static void add_family(lua_State *L, const char *family, lua_CFunction function, bool negated, bool pivot) {
  static const struct {
    const char *prefix;
    lumo_join join;
  } forms[] = {{"", LUMO_AND}, {"and_", LUMO_AND}, {"or_", LUMO_OR}};
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    for (int side = LUMO_SIDE_RELATED; side <= (pivot ? LUMO_SIDE_PIVOT : LUMO_SIDE_RELATED); side++) {
      const char *suffix = side == LUMO_SIDE_PIVOT ? "_pivot" : "";
      const char *name = lua_pushfstring(L, "%s%s%s", forms[i].prefix, family, suffix);
      lua_pushvalue(L, -1);
      lua_pushinteger(L, forms[i].join);
      lua_pushboolean(L, negated);
      lua_pushinteger(L, side);
      lua_pushcclosure(L, function, 4);
      lua_setfield(L, -3, name);
      lua_pop(L, 1);
    }
  }
}

void lumo_open_query(lua_State *L) {
  static const struct {
    const char *name;
    lua_CFunction function;
    bool negated, pivot;
  } families[] = {
      {"where", where, false, true},
      {"where_not", where, true, true},
      {"where_in", where_in, false, true},
      {"where_not_in", where_in, true, true},
      {"where_null", where_null, false, true},
      {"where_not_null", where_null, true, true},
      {"where_between", where_between, false, false},
      {"where_not_between", where_between, true, false},
      {"where_like", where_like, false, false},
      {"where_ilike", where_ilike, false, false},
      {"where_regex", where_regex, false, false},
      {"where_exists", where_exists, false, false},
      {"where_not_exists", where_exists, true, false},
      {"where_size", where_size, false, false},
      {"where_all", where_all, false, false},
      {"where_column", where_column, false, false},
      {"where_raw", where_raw, false, false},
  };
  static const luaL_Reg methods[] = {
      {"select", select_columns}, {"order_by", order_by},     {"limit", limit}, {"offset", offset},
      {"for_page", for_page},     {"everything", everything}, {NULL, NULL},
  };
  static const luaL_Reg metamethods[] = {{"__gc", query_gc}, {"__tostring", query_tostring}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"query_new", query_new},
      {"query_state", query_state},
      {"query_clone", query_clone},
      {"query_open", query_open},
      {"query_close", query_close},
      {"query_rewind", query_rewind},
      {"query_settle", query_settle},
      {"query_bounds", query_bounds},
      {"query_also", query_also},
      {"query_partial", query_partial},
      {"query_find_plan", query_find_plan},
      {"query_count_plan", query_count_plan},
      {"query_update_plan", query_update_plan},
      {"query_increment_plan", query_increment_plan},
      {"query_delete_plan", query_delete_plan},
      {"query_group_plan", query_group_plan},
      {"query_modify_plan", query_modify_plan},
      {"query_explain_plan", query_explain_plan},
      {"query_extra", query_extra},
      {"query_resolve", query_resolve},
      {"aggregate_plan", aggregate_plan},
      {NULL, NULL},
  };
  luaL_setfuncs(L, functions, 0);
  lumo_metatable(L, &LUMO_MT_QUERY, "lumo.query", NULL, metamethods);
  lua_newtable(L); /* the methods: lua/lumo/query.lua adds its own to this table */
  luaL_setfuncs(L, methods, 0);
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    add_family(L, families[i].name, families[i].function, families[i].negated, families[i].pivot);
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, query_index, 1);
  lua_setfield(L, -3, "__index");
  lua_setfield(L, -3, "query_methods");
  lua_pop(L, 1);
}
