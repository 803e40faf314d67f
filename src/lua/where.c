/* The conditions of the query builder: each where method checks its arguments, casts the values by the
 * column's type and adds a clause to the query's filter. The groups around functions are in
 * lua/lumo/query.lua; what opens and closes them is here. */
#include "query.h"

#include <stdio.h>
#include <string.h>

/* The type by which a value is cast that is compared with a column: of an array column a scalar is compared
 * with its elements. */
static const lumo_column *compared(lua_State *L, const lumo_column *column, int index) {
  return column && column->type == LUMO_ARRAY && !lua_istable(L, index) ? column->of : column;
}

/* What a where method is beside its name: the second of its upvalues, as one number. */
typedef struct {
  lumo_join join;
  bool negated;
  lumo_side side; /* whose fields it names */
} where_method;

static lua_Integer pack_method(where_method m) {
  return (lua_Integer)m.join | (lua_Integer)m.negated << 1 | (lua_Integer)m.side << 2;
}

static where_method this_method(lua_State *L) {
  unsigned packed = (unsigned)lua_tointeger(L, lua_upvalueindex(2));
  return (where_method){(lumo_join)(packed & 1), packed >> 1 & 1, (lumo_side)(packed >> 2)};
}

static const char *method_name(lua_State *L) {
  return lua_tostring(L, lua_upvalueindex(1));
}

static lumo_query_box *check_box(lua_State *L) {
  lumo_query_box *box = lumo_test(L, 1, &LUMO_MT_QUERY);
  return box ? box : lumo_check_builder(L, 1, method_name(L));
}

/* A condition that is being written: { path: { operator: … } }. */
typedef struct {
  lua_State *L;
  lumo_query_box *box;
  lumo_buf *out;
  const lumo_column *column;
  size_t document, operators;
  where_method method;
  lumo_side side;
  lumo_truth truth;
  lumo_place outer; /* of an element: its array */
} condition;

/* The query. Of the elements of an array that are values no column is named: something stands in its place,
 * so that all arguments are where they are in other queries. */
static lumo_query_box *fill_column(lua_State *L) {
  lumo_query_box *box = check_box(L);
  if (box->kind == LUMO_QUERY_VALUE) {
    lua_pushliteral(L, "");
    lua_insert(L, 2);
  }
  return box;
}

/* The same, and refuses more than `most` arguments, the column included: what nobody reads is a mistake. */
static lumo_query_box *take_arguments(lua_State *L, int most) {
  lumo_query_box *box = fill_column(L);
  int unnamed = box->kind == LUMO_QUERY_VALUE;
  while (lua_gettop(L) > most + 1 && lua_isnil(L, -1)) lua_pop(L, 1);
  if (lua_gettop(L) > most + 1)
    lumo_raise_code(L, "E_ARGUMENT", "%s got %d arguments, and takes %d", method_name(L),
                    lua_gettop(L) - 1 - unnamed, most - unnamed);
  return box;
}

/* Appends the path of the column named at `index`. */
static void put_path(condition *c, int index) {
  lua_State *L = c->L;
  if (c->box->kind == LUMO_QUERY_VALUE) {
    if (c->side == LUMO_SIDE_PIVOT)
      lumo_raise_code(L, "E_ARGUMENT", "%s is for queries across a many-to-many relation", method_name(L));
    c->column = c->box->array->of;
    return;
  }
  c->column = c->side == LUMO_SIDE_RELATED ? lumo_declared_column(L, c->box, index) : NULL;
  if (c->column)
    lumo_buf_append(c->out, c->column->stored, c->column->stored_len);
  else
    c->column = lumo_resolve_column(L, c->box, method_name(L), 1, index, c->out, &c->side);
}

/* Begins a condition on the column named at `index`. */
static condition begin(lua_State *L, lumo_query_box *box, int index) {
  condition c = {.L = L, .box = box, .out = &box->query.filter.bytes, .method = this_method(L)};
  const uint8_t head = LUMO_BSON_DOCUMENT;
  c.side = c.method.side;
  lumo_filter_begin(&box->query.filter);
  c.document = lumo_bson_begin(c.out);
  lumo_buf_append(c.out, &head, 1);
  put_path(&c, index);
  lumo_buf_append(c.out, "", 1);
  c.operators = lumo_bson_begin(c.out);
  lumo_check_buffer(L, c.out);
  return c;
}

static int finish_as(const condition *c, bool negated) {
  lumo_filter *filter = &c->box->query.filter;
  lumo_bson_end(c->out, c->operators);
  lumo_bson_end(c->out, c->document);
  lumo_check_buffer(c->L, c->out);
  if (!lumo_filter_end(filter, c->method.join, negated, c->side)) {
    lumo_error error;
    lumo_error_init(&error);
    lumo_error_memory(&error);
    lumo_raise(c->L, &error);
  }
  filter->clauses[filter->count - 1].truth = c->truth;
  lua_settop(c->L, 1);
  return 1;
}

static int finish(const condition *c) {
  return finish_as(c, c->method.negated);
}

static lumo_place place_of(condition *c) {
  const char *name = c->column ? c->column->name : "value";
  size_t len = c->column ? c->column->name_len : 5;
  const lumo_column *array = c->box->array;
  if (!array) return (lumo_place){.model = c->box->query.schema->model, .key = name, .key_len = len};
  c->outer =
      (lumo_place){.model = c->box->query.schema->model, .key = array->name, .key_len = array->name_len};
  if (c->box->kind == LUMO_QUERY_VALUE) return c->outer;
  return (lumo_place){.parent = &c->outer, .key = name, .key_len = len};
}

/* Refuses what would silently widen or empty a filter. */
static void check_value(lua_State *L, int arg, int index) {
  int type = lua_type(L, index);
  if (type == LUA_TNIL || type == LUA_TNONE)
    lumo_raise_argument(L, method_name(L), arg, "a value (lumo.null matches null)", index);
  if (type == LUA_TTABLE && lumo_is_empty_table(L, index))
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
  if (n == 0) c->truth = strcmp(operator, "$nin") == 0 ? LUMO_TRUTH_ALWAYS : LUMO_TRUTH_NEVER;
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

/* $options of where_regex: the third argument, where there is one. */
static void put_flags(condition *c, int pattern, int index) {
  lua_State *L = c->L;
  size_t len;
  if (lua_isnoneornil(L, index)) return;
  if (lua_type(L, index) != LUA_TSTRING) lumo_raise_argument(L, method_name(L), 3, "flags", index);
  if (lua_type(L, pattern) != LUA_TSTRING)
    lumo_raise_code(L, "E_ARGUMENT", "%s got flags beside a lumo.regex, which has its own", method_name(L));
  const char *flags = lua_tolstring(L, index, &len);
  for (size_t i = 0; i < len; i++)
    if (!memchr("imsx", flags[i], 4) || memchr(flags, flags[i], i))
      lumo_raise_code(L, "E_ARGUMENT", "bad argument #3 to \"%s\" (flags are some of i, m, s, x)",
                      method_name(L));
  if (len > 0) lumo_bson_string(c->out, LUMO_KEY("$options"), flags, len);
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
    if (*operator!= * comparisons[i].name || strcmp(operator, comparisons[i].name) != 0) continue;
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
  lumo_query_box *box = check_box(L);
  const where_method m = this_method(L);
  lua_settop(L, 2);
  if (lumo_is_empty_table(L, 2)) lumo_raise_code(L, "E_ARGUMENT", "%s got an empty table", method_name(L));
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
    if (round == 1 && !lumo_filter_open(&box->query.filter, m.join, m.negated, &error)) lumo_raise(L, &error);
    for (int i = 1; i <= n; i++) {
      lua_rawgeti(L, 3, i);
      lua_pushvalue(L, -1);
      lua_rawget(L, 2);
      condition c = begin(L, box, 4);
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

/* where(column, value), where(column, operator, value), where(table). where(function) and where(table, names)
 * are left to lua/lumo/query.lua, which is told by nothing being returned. */
static int where(lua_State *L) {
  int n = lua_gettop(L), first = lua_type(L, 2);
  if ((n == 2 && first == LUA_TFUNCTION) || (n == 3 && first == LUA_TTABLE)) return 0;
  lumo_query_box *box = fill_column(L);
  n = lua_gettop(L);
  if (n <= 2 && lua_istable(L, 2)) return where_table(L);
  if (n < 3) {
    if (n == 2 && lua_type(L, 2) == LUA_TSTRING)
      lumo_raise_code(L, "E_ARGUMENT", "%s(\"%s\") needs a value", method_name(L), lua_tostring(L, 2));
    lumo_raise_argument(L, method_name(L), 1, "a column and a value, a table, or a function", 2);
  }
  condition c = begin(L, box, 2);
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
  return finish(&c);
}

static int where_in(lua_State *L) {
  condition c = begin(L, take_arguments(L, 2), 2);
  put_list(&c, c.method.negated ? "$nin" : "$in", 3, 2);
  return finish_as(&c, false);
}

static int where_null(lua_State *L) {
  condition c = begin(L, take_arguments(L, 1), 2);
  if (c.method.negated)
    lumo_bson_null(c.out, LUMO_KEY("$ne"));
  else
    lumo_bson_null(c.out, LUMO_KEY("$eq"));
  return finish_as(&c, false);
}

/* where_between(column, {low, high}) or where_between(column, low, high); both ends belong to it */
static int where_between(lua_State *L) {
  lumo_query_box *box = take_arguments(L, 3);
  if (lua_gettop(L) == 3 && lua_istable(L, 3)) {
    if (lua_rawlen(L, 3) != 2) lumo_raise_argument(L, method_name(L), 2, "a list of two values", 3);
    lua_rawgeti(L, 3, 1);
    lua_rawgeti(L, 3, 2);
    lua_remove(L, 3);
  }
  condition c = begin(L, box, 2);
  check_value(L, 2, 3);
  check_value(L, 3, 4);
  put_value(&c, "$gte", 3);
  put_value(&c, "$lte", 4);
  return finish(&c);
}

static int where_like(lua_State *L) {
  condition c = begin(L, take_arguments(L, 2), 2);
  put_like(&c, 3, 2, false);
  return finish(&c);
}

static int where_ilike(lua_State *L) {
  condition c = begin(L, take_arguments(L, 2), 2);
  put_like(&c, 3, 2, true);
  return finish(&c);
}

static int where_exists(lua_State *L) {
  condition c = begin(L, take_arguments(L, 1), 2);
  lumo_bson_boolean(c.out, LUMO_KEY("$exists"), !c.method.negated);
  return finish_as(&c, false);
}

static int where_size(lua_State *L) {
  condition c = begin(L, take_arguments(L, 2), 2);
  if (!lumo_isinteger(L, 3) || lua_tointeger(L, 3) < 0)
    lumo_raise_argument(L, method_name(L), 2, "a length", 3);
  lumo_bson_int64(c.out, LUMO_KEY("$size"), (int64_t)lua_tointeger(L, 3));
  return finish(&c);
}

static int where_all(lua_State *L) {
  condition c = begin(L, take_arguments(L, 2), 2);
  put_list(&c, "$all", 3, 2);
  return finish(&c);
}

static int where_regex(lua_State *L) {
  condition c = begin(L, take_arguments(L, 3), 2);
  put_regex(&c, 3, 2);
  put_flags(&c, 3, 4);
  return finish(&c);
}

/* Conditions that MongoDB takes about documents only. */
static void refuse_element(lua_State *L, const lumo_query_box *box) {
  if (box->array)
    lumo_raise_code(L, "E_UNSUPPORTED", "%s is not supported inside where_elem_match", method_name(L));
}

/* where_column(a, operator, b): { $expr: { $op: ["$a", "$b"] } }, with a column of the pivot over joined
 * documents */
static int where_column(lua_State *L) {
  lumo_query_box *box = check_box(L);
  refuse_element(L, box);
  if (!lua_isnoneornil(L, 5))
    lumo_raise_code(L, "E_ARGUMENT", "%s takes a column, an operator and a column", method_name(L));
  const char *operator= NULL, *given = lua_type(L, 3) == LUA_TSTRING ? lua_tostring(L, 3) : "";
  for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++)
    if (strcmp(given, comparisons[i].name) == 0) operator= comparisons[i].operator;
  if (!operator) lumo_raise_argument(L, method_name(L), 2, "one of = != <> > >= < <=", 3);
  const size_t prefix = sizeof LUMO_PIVOT_FIELD + 1; /* "$", the field, and the dot */
  lumo_buf *path = lumo_push_buffer(L);
  lumo_buf *out = &box->query.filter.bytes;
  lumo_filter_begin(&box->query.filter);
  size_t document = lumo_bson_begin(out);
  size_t expression = lumo_bson_begin_document(out, LUMO_KEY("$expr"));
  size_t operands = lumo_bson_begin_array(out, operator, strlen(operator));
  lumo_side both = LUMO_SIDE_RELATED;
  for (int i = 0; i < 2; i++) {
    lumo_side side = LUMO_SIDE_RELATED;
    lumo_buf_clear(path);
    lumo_buf_append(path, "$" LUMO_PIVOT_FIELD ".", prefix);
    lumo_resolve_column(L, box, method_name(L), i ? 3 : 1, i ? 4 : 2, path, &side);
    lumo_check_buffer(L, path);
    if (side == LUMO_SIDE_PIVOT) both = LUMO_SIDE_BOTH;
    size_t from = side == LUMO_SIDE_PIVOT ? 0 : prefix - 1;
    path->data[from] = '$';
    lumo_bson_string(out, i ? "1" : "0", 1, (const char *)path->data + from, path->len - from);
  }
  lumo_bson_end(out, operands);
  condition c = {.L = L,
                 .box = box,
                 .out = out,
                 .document = document,
                 .operators = expression,
                 .method = this_method(L),
                 .side = both};
  return finish(&c);
}

/* core.query_element(query, column, method): a builder for conditions on the elements of the array column. */
static int query_element(lua_State *L) {
  static uint32_t no_names[1];
  static const lumo_schema untyped = {.primary = -1, .by_name = no_names, .by_stored = no_names};
  const char *method = luaL_checkstring(L, 3);
  lumo_query_box *box = lumo_check_builder(L, 1, method);
  lua_settop(L, 3);
  lumo_side side = LUMO_SIDE_RELATED;
  lumo_buf *path = lumo_push_buffer(L); /* 4 */
  const lumo_column *column =
      box->kind == LUMO_QUERY_VALUE ? box->array->of : lumo_resolve_column(L, box, method, 1, 2, path, &side);
  if (!column || column->type != LUMO_ARRAY || !column->of || column->of->type == LUMO_ANY)
    lumo_raise_code(
        L, "E_ARGUMENT",
        "%s needs an array column that declares its elements (of = …); where_raw takes any filter", method);
  lumo_getuv(L, 1);
  lua_rawgeti(L, -1, 1);
  bool documents = column->of->type == LUMO_OBJECT;
  lumo_query_box *element = lumo_push_query(L, -1, documents ? LUMO_QUERY_ELEMENT : LUMO_QUERY_VALUE);
  if (documents) element->query.schema = column->of->fields ? column->of->fields : &untyped;
  element->array = column;
  lumo_getuv(L, -1);
  lua_pushvalue(L, 1); /* keeps the columns alive */
  lua_setfield(L, -2, "outer");
  lua_pop(L, 1);
  return 1;
}

/* where_elem_match(column, builder): some element for which all conditions of the builder hold. */
static int where_elem_match(lua_State *L) {
  lumo_query_box *element = lumo_test(L, 3, &LUMO_MT_QUERY);
  if (!element || !element->array) lumo_raise_argument(L, method_name(L), 2, "a function", 3);
  if (element->query.filter.count == 0)
    lumo_raise_code(L, "E_ARGUMENT", "%s got no condition from its function", method_name(L));
  condition c = begin(L, check_box(L), 2);
  lumo_bson_key(c.out, LUMO_BSON_DOCUMENT, LUMO_KEY("$elemMatch"));
  if (element->kind == LUMO_QUERY_VALUE)
    lumo_filter_write_element(&element->query.filter, c.out);
  else
    lumo_filter_write(&element->query.filter, c.out);
  return finish(&c);
}

/* where_raw(filter): MongoDB's own filter, operators and all. */
static int where_raw(lua_State *L) {
  condition c = {.L = L, .box = check_box(L), .method = this_method(L)};
  if (c.box->kind == LUMO_QUERY_VALUE) refuse_element(L, c.box);
  if (!lua_istable(L, 2)) lumo_raise_argument(L, method_name(L), 1, "a filter document", 2);
  if (lumo_is_empty_table(L, 2)) lumo_raise_code(L, "E_ARGUMENT", "%s got an empty filter", method_name(L));
  lumo_place place = {.key = "filter", .key_len = 6};
  lumo_filter_begin(&c.box->query.filter);
  c.out = &c.box->query.filter.bytes;
  lumo_encode_document(L, 2, NULL, NULL, c.out, &place, LUMO_ENCODE_RAW);
  lumo_check_buffer(L, c.out);
  if (!lumo_filter_end(&c.box->query.filter, c.method.join, c.method.negated, LUMO_SIDE_RELATED)) {
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
  lumo_query_box *box = lumo_check_builder(L, 1, "where");
  lumo_filter_mark mark = lumo_filter_position(&box->query.filter);
  lumo_join join = strcmp(luaL_checkstring(L, 2), "or") == 0 ? LUMO_OR : LUMO_AND;
  if (!lumo_filter_open(&box->query.filter, join, lua_toboolean(L, 3), &error)) lumo_raise(L, &error);
  lua_pushinteger(L, mark.count);
  lua_pushinteger(L, mark.depth);
  lua_pushinteger(L, box->query.join_count);
  return 3;
}

/* core.query_settle(query): what stands in the filter now belongs to the relation. */
static int query_settle(lua_State *L) {
  lumo_query_box *box = lumo_check_builder(L, 1, "where");
  lumo_filter_settle(&box->query.filter);
  return 0;
}

static int query_close(lua_State *L) {
  lumo_query_box *box = lumo_check_builder(L, 1, "where");
  lumo_filter_close(&box->query.filter);
  lumo_check_buffer(L, &box->query.filter.bytes);
  return 0;
}

static int query_rewind(lua_State *L) {
  lumo_query_box *box = lumo_check_builder(L, 1, "where");
  lumo_filter_mark mark = {(uint32_t)luaL_checkinteger(L, 2), (uint32_t)luaL_checkinteger(L, 3)};
  lumo_filter_rewind(&box->query.filter, mark);
  lumo_query_drop_joins(&box->query, (uint32_t)luaL_checkinteger(L, 4));
  return 0;
}

/* ---- the families ---- */

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
      lua_pushinteger(L, pack_method((where_method){forms[i].join, negated, (lumo_side)side}));
      lua_pushcclosure(L, function, 2);
      lua_setfield(L, -3, name);
      lua_pop(L, 1);
    }
  }
}

void lumo_open_where(lua_State *L) {
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
      {"where_elem_match", where_elem_match, false, false},
      {"where_column", where_column, false, false},
      {"where_raw", where_raw, false, false},
  };
  static const luaL_Reg functions[] = {
      {"query_open", query_open},     {"query_close", query_close},     {"query_rewind", query_rewind},
      {"query_settle", query_settle}, {"query_element", query_element}, {NULL, NULL},
  };
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -1, "query_methods");
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    add_family(L, families[i].name, families[i].function, families[i].negated, families[i].pivot);
  lua_pop(L, 1);
}
