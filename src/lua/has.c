/* Relations inside queries: has and its kin, and aggregates by record. A relation comes from lua/lumo as a
 * list of hops, { collection =, from =, to = (stored names), side = "related", "pivot" or nil, optional = },
 * and a sub-query over its last hop. */
#include <string.h>

#include "../core/aggregates.h"
#include "../core/record.h"
#include "query.h"
#include "relation.h"

static const char *hop_text(lua_State *L, int hop, const char *name) {
  lua_getfield(L, hop, name);
  const char *text = luaL_checkstring(L, -1);
  lua_pop(L, 1); /* the relation keeps it */
  return text;
}

uint32_t lumo_read_hops(lua_State *L, int index, lumo_hop *hops) {
  uint32_t count = (uint32_t)lua_rawlen(L, index);
  if (count == 0 || count > LUMO_MAX_HOPS) luaL_error(L, "a relation has 1 to %d hops", LUMO_MAX_HOPS);
  for (uint32_t i = 0; i < count; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    int hop = lua_gettop(L);
    hops[i] = (lumo_hop){.collection = hop_text(L, hop, "collection"),
                         .from = hop_text(L, hop, "from"),
                         .to = hop_text(L, hop, "to")};
    lua_getfield(L, hop, "side");
    if (!lua_isnil(L, -1))
      hops[i].side = strcmp(lua_tostring(L, -1), "pivot") == 0 ? LUMO_SIDE_PIVOT : LUMO_SIDE_RELATED;
    lua_getfield(L, hop, "optional");
    hops[i].optional = lua_toboolean(L, -1);
    lua_settop(L, hop - 1);
  }
  return count;
}

/* A builder that can stand inside of another query. */
static const lumo_query *check_inner(lua_State *L, int index, const char *method) {
  const lumo_query_box *box = lumo_check_query(L, index, method);
  if (box->query.limit || box->query.skip)
    lumo_raise_code(L, "E_ARGUMENT", "%s: a query inside of another one has no limit and no offset", method);
  if (box->query.extra.len > 0)
    lumo_raise_code(L, "E_UNSUPPORTED",
                    "%s: a query inside of another one takes no hint, collation, comment or time limit",
                    method);
  return &box->query;
}

/* core.query_check_inner(query, method): raises for what cannot stand inside of another query. */
static int query_check_inner(lua_State *L) {
  check_inner(L, 1, luaL_checkstring(L, 2));
  return 0;
}

static lumo_comparison check_comparison(lua_State *L, const char *method, int arg, int index) {
  static const char *const names[] = {"=", "!=", "<>", ">", ">=", "<", "<="};
  static const lumo_comparison values[] = {LUMO_COMPARE_EQ, LUMO_COMPARE_NE,  LUMO_COMPARE_NE,
                                           LUMO_COMPARE_GT, LUMO_COMPARE_GTE, LUMO_COMPARE_LT,
                                           LUMO_COMPARE_LTE};
  const char *given = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : "";
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(given, names[i]) == 0) return values[i];
  lumo_raise_argument(L, method, arg, "one of = != <> > >= < <=", index);
}

/* core.query_has(query, method, inner query, hops, "and"|"or", negated, place of the operator among the
 * method's arguments, operator, count): a document is to have so many behind it. */
static int query_has(lua_State *L) {
  lumo_hop hops[LUMO_MAX_HOPS];
  int64_t n;
  const char *method = luaL_checkstring(L, 2);
  lumo_query_box *box = lumo_check_query(L, 1, method);
  const lumo_query *inner = check_inner(L, 3, method);
  lumo_join join = strcmp(luaL_checkstring(L, 5), "or") == 0 ? LUMO_OR : LUMO_AND;
  int arg = (int)luaL_checkinteger(L, 7);
  lua_settop(L, 9);
  lumo_comparison comparison = check_comparison(L, method, arg, 8);
  if (lua_type(L, 9) != LUA_TNUMBER || !lumo_to_integer(L, 9, &n) || n < 0 || n > INT32_MAX)
    lumo_raise_argument(L, method, arg + 1, "a whole number from 0", 9);
  lumo_way way = {hops, lumo_read_hops(L, 4, hops), inner};
  if (!lumo_query_has(&box->query, &way, comparison, n, join, lua_toboolean(L, 6))) {
    lumo_error error;
    lumo_error_init(&error);
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
  return 0;
}

/* core.query_is_joined(query) */
static int query_is_joined(lua_State *L) {
  lua_pushboolean(L, lumo_check_query(L, 1, "query")->query.join_count > 0);
  return 1;
}

/* core.query_check_column(query, method, name): raises unless it is a column of either side. */
static int query_check_column(lua_State *L) {
  const char *method = luaL_checkstring(L, 2);
  lumo_side side = LUMO_SIDE_RELATED;
  lua_settop(L, 3);
  lumo_resolve_column(L, lumo_check_query(L, 1, method), method, 1, 3, lumo_push_buffer(L), &side);
  return 0;
}

/* ---- aggregates by record ---- */

/* What a plan of aggregates leaves to be asked afterwards; its companion table keeps what it borrows:
 * [1..count] the list of each record's place among the owners. */
typedef struct {
  uint32_t count;
  lumo_aggregate items[];
} aggregates;

static const char AGGREGATES_MT = 0;

static int aggregates_gc(lua_State *L) {
  aggregates *all = lua_touserdata(L, 1);
  for (uint32_t i = 0; i < all->count; i++) lumo_keys_free(&all->items[i].owners);
  all->count = 0;
  return 0;
}

static lumo_aggregate_op check_op(lua_State *L, int index) {
  static const char *const names[] = {"count", "sum", "avg", "min", "max", "count_distinct", NULL};
  return (lumo_aggregate_op)luaL_checkoption(L, index, NULL, names);
}

static bool is_optional(lua_State *L, int spec) {
  lua_getfield(L, spec, "optional");
  bool optional = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return optional;
}

/* Adds the value that a record has in the column `name` to the keys. Gives its place from 1; 0 when it has
 * none and needs none. */
static lua_Integer add_owner(lua_State *L, int record, const char *name, int spec, const char *method,
                             lumo_buf *element, lumo_keys *owners) {
  lumo_error error;
  uint32_t place;
  const lumo_schema *schema = lumo_test_record(L, record)->schema;
  const lumo_column *column = lumo_schema_find(schema, name, strlen(name));
  lumo_buf_clear(element);
  bool there = column && lumo_record_element(L, record, column->index, "k", 1, element);
  lumo_check_buffer(L, element);
  if ((!there || element->data[0] == LUMO_BSON_NULL) && is_optional(L, spec)) return 0;
  if (!there || element->data[0] == LUMO_BSON_NULL || element->data[0] == LUMO_BSON_REGEX) {
    lua_getfield(L, spec, "name");
    lumo_raise_code(L, "E_MISSING_ATTRIBUTE_VALUE", "Cannot %s \"%s\", value of \"%s.%s\" is nil", method,
                    lua_tostring(L, -1), schema->model, name);
  }
  lumo_value key = {.type = element->data[0], .data = element->data + 3, .len = (uint32_t)element->len - 3};
  lumo_error_init(&error);
  if (lumo_keys_add(owners, &key, &place) < 0) {
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
  return (lua_Integer)place + 1;
}

/* Gathers the keys of the records at `records` and pushes the list of their places. */
static void gather_owners(lua_State *L, int records, int spec, const char *method, lumo_keys *owners) {
  int count = (int)lua_rawlen(L, records);
  lua_getfield(L, spec, "key");
  const char *name = lua_tostring(L, -1);
  lumo_buf *element = lumo_push_buffer(L);
  lua_createtable(L, count, 0);
  int places = lua_gettop(L);
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, records, i);
    lua_pushinteger(L, add_owner(L, places + 1, name, spec, method, element, owners));
    lua_rawseti(L, places, i);
    lua_settop(L, places);
  }
  lua_replace(L, places - 2);
  lua_settop(L, places - 2);
}

/* The field of the spec at `spec`, kept in the list at `kept`. */
static void read_field(lua_State *L, int spec, int kept, const char *method, lumo_aggregate *a) {
  lua_getfield(L, spec, "query");
  lua_getfield(L, spec, "column");
  int column = lua_gettop(L);
  if (!lua_isnil(L, column)) {
    lumo_buf *path = lumo_push_buffer(L);
    a->side = LUMO_SIDE_RELATED;
    lumo_resolve_column(L, lumo_check_query(L, column - 1, method), method, 1, column, path, &a->side);
    lumo_buf_append(path, "", 1);
    lumo_check_buffer(L, path);
    a->field = (const char *)path->data;
    lua_rawseti(L, kept, (int)lua_rawlen(L, kept) + 1);
  }
  lua_settop(L, column - 2);
}

/* core.aggregates_plan(specs, records, method, apart): one plan for all of a list of { name =, key =
 * (attribute of the records), optional =, hops =, query =, operator =, column = or nil }: → plan, what
 * core.aggregates_values wants. */
static int aggregates_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const char *method = luaL_checkstring(L, 3);
  bool apart = lua_toboolean(L, 4);
  uint32_t count = (uint32_t)lua_rawlen(L, 1);
  lua_settop(L, 3);
  aggregates *all = lumo_newud(L, sizeof *all + count * sizeof *all->items); /* 4 */
  memset(all, 0, sizeof *all + count * sizeof *all->items);
  lumo_get(L, &AGGREGATES_MT);
  lua_setmetatable(L, 4);
  lumo_hop *hops = lua_newuserdata(L, count * LUMO_MAX_HOPS * sizeof *hops); /* 5 */
  lua_newtable(L);                                                           /* 6: the companion */
  lua_newtable(L); /* 7: paths, until the plan is made */
  all->count = count;
  for (uint32_t i = 0; i < count; i++) {
    lumo_aggregate *a = &all->items[i];
    lua_rawgeti(L, 1, (int)i + 1); /* 8 */
    lua_getfield(L, 8, "query");
    a->way.query = check_inner(L, 9, method);
    lua_getfield(L, 8, "hops");
    a->way.hops = hops + i * LUMO_MAX_HOPS;
    a->way.count = lumo_read_hops(L, 10, hops + i * LUMO_MAX_HOPS);
    lua_getfield(L, 8, "operator");
    a->op = check_op(L, 11);
    lua_settop(L, 8);
    read_field(L, 8, 7, method, a);
    gather_owners(L, 2, 8, method, &a->owners);
    lua_rawseti(L, 6, (int)i + 1);
    lua_settop(L, 7);
  }
  lua_pushvalue(L, 6);
  lumo_setuv(L, 4);
  lumo_prepare_plan(L); /* 8 */
  lumo_fill_plan(L, 8, LUMO_PLAN_READ, lumo_aggregates_plan_new(method, all->items, count, apart, &error),
                 &error);
  lua_pushvalue(L, 4);
  return 2;
}

/* Pushes a list with the value of each owner while there are no rows; at 0 that of a record without a key. */
static void push_defaults(lua_State *L, const lumo_aggregate *a) {
  bool zero = a->op == LUMO_COUNT || a->op == LUMO_SUM || a->op == LUMO_COUNT_DISTINCT;
  lua_createtable(L, (int)a->owners.count, 0);
  for (uint32_t i = 0; zero && i <= a->owners.count; i++) {
    lua_pushinteger(L, 0);
    lua_rawseti(L, -2, (int)i);
  }
}

static uint32_t aggregate_number(const struct lumo_doc *doc) {
  lumo_value number;
  if (!lumo_bson_find(doc->data, doc->len, LUMO_KEY("a"), &number)) return 0;
  return (uint32_t)lumo_value_int32(&number);
}

/* core.aggregates_values(plan, gathered): → for each aggregate a list of its values by owner's place, and a
 * list of each record's place. */
static int aggregates_values(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  const aggregates *all = lumo_test(L, 2, &AGGREGATES_MT);
  luaL_argcheck(L, all, 2, "gathered owners");
  lua_settop(L, 2);
  lua_createtable(L, (int)all->count, 0); /* 3 */
  for (uint32_t i = 0; i < all->count; i++) {
    push_defaults(L, &all->items[i]);
    lua_rawseti(L, 3, (int)i + 1);
  }
  uint32_t last = UINT32_MAX;
  for (uint32_t i = 0; i < plan->docs.count; i++) {
    const struct lumo_doc *doc = &plan->docs.items[i];
    uint32_t number = aggregate_number(doc);
    lumo_value id, result;
    if (number >= all->count) continue;
    if (number != last) {
      lua_settop(L, 3);
      lua_rawgeti(L, 3, (int)number + 1); /* 4 */
      last = number;
    }
    lumo_bson_find(doc->data, doc->len, LUMO_KEY("_id"), &id);
    int64_t place = lumo_keys_find(&all->items[number].owners, &id);
    lumo_bson_find(doc->data, doc->len, LUMO_KEY("n"), &result);
    if (place < 0 || lumo_value_is_null(&result)) continue;
    lumo_push_value(L, &result);
    lua_rawseti(L, 4, (int)place + 1);
  }
  lua_settop(L, 3);
  lumo_getuv(L, 2);
  return 2;
}

void lumo_open_has(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__gc", aggregates_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"query_has", query_has},
      {"query_is_joined", query_is_joined},
      {"query_check_column", query_check_column},
      {"query_check_inner", query_check_inner},
      {"aggregates_plan", aggregates_plan},
      {"aggregates_values", aggregates_values},
      {NULL, NULL},
  };
  lumo_metatable(L, &AGGREGATES_MT, "lumo.aggregates", NULL, metamethods);
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
