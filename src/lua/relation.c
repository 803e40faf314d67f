/* Many-to-many relations: the compiled relation, the one place that turns Lua's ids and attributes into
 * packed pairs, and the plans of the relation's client. */
#include "relation.h"

#include <string.h>

#include "../core/record.h"

lumo_relation *lumo_check_relation(lua_State *L, int i) {
  lumo_relation *relation = lumo_test(L, i, &LUMO_MT_RELATION);
  if (!relation) lumo_raise_code(L, "E_ARGUMENT", "a relation is expected");
  return relation;
}

/* ---- compiling ---- */

static const char *text_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  lua_pop(L, 1); /* the definition, which the companion keeps, holds it */
  return text;
}

static const lumo_schema *schema_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  const lumo_schema *schema = lumo_check_schema(L, -1);
  lua_pop(L, 1);
  return schema;
}

static const lumo_column *column_field(lua_State *L, const lumo_schema *schema, const char *name) {
  const char *column = text_field(L, name);
  return lumo_schema_find(schema, column, strlen(column));
}

static bool flag_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

/* Pushes a userdata with pointers to the texts of the list at `list`, which must be kept as long. */
static const char **push_field_names(lua_State *L, int list, uint32_t *count) {
  *count = (uint32_t)lua_rawlen(L, list);
  const char **names = lua_newuserdata(L, (*count + 1) * sizeof *names);
  for (uint32_t i = 0; i < *count; i++) {
    lua_rawgeti(L, list, (int)i + 1);
    names[i] = lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  return names;
}

/* Rows that stand in no collection: what is made of the documents of several. */
static void make_rows(lua_State *L, lumo_relation *relation) {
  lumo_hop hops[LUMO_MAX_HOPS];
  lua_getfield(L, 1, "hops");
  uint32_t count = lumo_read_hops(L, lua_gettop(L), hops);
  lumo_buf *stages = lumo_push_buffer(L);
  lumo_pivot_stages(stages, hops, count);
  lumo_check_buffer(L, stages);
  relation->pivot.collection = hops[0].collection;
  relation->pivot.source_key = hops[0].to;
  relation->pivot.owner_key = LUMO_MADE_OWNER;
  relation->pivot.related_key = LUMO_MADE_RELATED;
  relation->pivot.stages = stages->data;
  relation->pivot.stages_len = (uint32_t)stages->len;
  lua_setfield(L, 1, "stages");
  lua_pop(L, 1);
}

/* core.relation{ name, parent, related, rows, attributes (schemas), local_key, related_key (attributes that
 * exist), pivot_table, owner_field, related_field, created_at, updated_at, duplicates, atomic, fields (a list
 * of stored names, or nil: all), optional, shares_keys, hops }. Without a pivot there are no rows, attributes
 * and fields, and the related key is what the local key is compared with; with hops in place of a pivot its
 * rows are made on the way over them. The table becomes the relation's own. */
static int relation_new(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lumo_relation *relation = lumo_newud(L, sizeof *relation);
  memset(relation, 0, sizeof *relation);
  relation->name = text_field(L, "name");
  relation->parent = schema_field(L, "parent");
  relation->related = schema_field(L, "related");
  relation->local = column_field(L, relation->parent, "local_key");
  relation->key = column_field(L, relation->related, "related_key");
  relation->pivot = (lumo_pivot){
      .collection = text_field(L, "pivot_table"),
      .owner_key = text_field(L, "owner_field"),
      .related_key = text_field(L, "related_field"),
      .created_at = text_field(L, "created_at"),
      .updated_at = text_field(L, "updated_at"),
      .duplicates = flag_field(L, "duplicates"),
      .atomic = flag_field(L, "atomic"),
  };
  relation->optional = flag_field(L, "optional");
  relation->shares_keys = flag_field(L, "shares_keys");
  if (relation->pivot.collection) {
    relation->rows = schema_field(L, "rows");
    relation->attributes = schema_field(L, "attributes");
  }
  lua_getfield(L, 1, "hops");
  bool made = !lua_isnil(L, -1);
  lua_pop(L, 1);
  if (made) make_rows(L, relation);
  lua_getfield(L, 1, "fields");
  relation->all_fields = !lua_istable(L, 3);
  if (!relation->all_fields) {
    relation->fields = push_field_names(L, 3, &relation->field_count);
    lua_setfield(L, 1, "field_pointers");
  }
  lua_settop(L, 2);
  lumo_get(L, &LUMO_MT_RELATION);
  lua_setmetatable(L, 2);
  lua_pushvalue(L, 1);
  lumo_setuv(L, 2);
  return 1;
}

/* ---- under a condition ---- */

/* Whether `field: {$eq: value}` can be had by giving a row that value: not a part of a field, nor one element
 * of an array, nor a key. */
static bool can_be_given(const lumo_relation *relation, const lumo_iter *field, const lumo_value *value) {
  const lumo_column *column = lumo_schema_find_stored(relation->attributes, field->key, field->key_len);
  if (column && column->type == LUMO_ARRAY && value->type != LUMO_BSON_ARRAY) return false;
  return !strchr(field->key, '.') && strcmp(field->key, "_id") != 0 &&
         strcmp(field->key, relation->pivot.owner_key) != 0 &&
         strcmp(field->key, relation->pivot.related_key) != 0;
}

/* Appends the fields that the condition compares with one value each, alone or in an $and, the first of each
 * name. */
static void collect_given(const lumo_relation *relation, const lumo_value *condition, lumo_buf *out) {
  lumo_iter it, inner;
  lumo_value value;
  lumo_iter_value(&it, condition);
  while (lumo_iter_next(&it)) {
    if (strcmp(it.key, "$and") == 0) {
      lumo_iter_value(&inner, &it.value);
      while (lumo_iter_next(&inner)) collect_given(relation, &inner.value, out);
    } else if (it.key[0] != '$' && it.value.type == LUMO_BSON_DOCUMENT &&
               lumo_bson_find(it.value.data, it.value.len, LUMO_KEY("$eq"), &value) &&
               can_be_given(relation, &it, &value)) {
      lumo_iter known = lumo_iter_elements(out);
      bool again = false;
      while (!again && lumo_iter_next(&known)) again = strcmp(known.key, it.key) == 0;
      if (!again) lumo_bson_value(out, it.key, it.key_len, &value);
    }
  }
}

/* A relation as `from` that keeps what the two buffers on top of the stack hold, which it pops. */
static void push_bound(lua_State *L, int from, const lumo_buf *condition, const lumo_buf *given) {
  lumo_relation *relation = lumo_newud(L, sizeof *relation);
  *relation = *(const lumo_relation *)lua_touserdata(L, from);
  relation->pivot.condition = condition->data;
  relation->pivot.condition_len = (uint32_t)condition->len;
  relation->given = given->len > 5 ? given->data : NULL;
  relation->given_len = (uint32_t)given->len;
  lumo_get(L, &LUMO_MT_RELATION);
  lua_setmetatable(L, -2);
  lua_insert(L, -3); /* below the buffers */
  lua_newtable(L);
  lua_insert(L, -3);
  lua_rawseti(L, -3, 2);
  lua_rawseti(L, -2, 1);
  lumo_getuv(L, from);
  for (lua_pushnil(L); lua_next(L, -2);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -5);
  }
  lua_pop(L, 1);
  lumo_setuv(L, -2);
}

/* core.relation_guard(relation): the pivot has other unique indexes than those on the keys. */
static int relation_guard(lua_State *L) {
  lumo_check_relation(L, 1)->pivot.guarded = true;
  return 0;
}

/* core.relation_under(relation, query): the relation under the query's conditions on the pivot; itself when
 * there are none. */
static int relation_under(lua_State *L) {
  const lumo_relation *relation = lumo_check_relation(L, 1);
  lumo_query_box *box = lumo_check_query(L, 2, "on_query");
  lua_settop(L, 2);
  if (!lumo_filter_splits(&box->query.filter))
    lumo_raise_code(L, "E_UNSUPPORTED",
                    "on_query of \"%s\" says \"or\" between conditions on the related records and on the "
                    "pivot: what reads and writes pairs alone cannot be bound by that",
                    relation->name);
  if (!lumo_filter_has(&box->query.filter, LUMO_SIDE_PIVOT)) {
    lua_settop(L, 1);
    return 1;
  }
  lumo_buf *condition = lumo_push_buffer(L), *given = lumo_push_buffer(L);
  lumo_filter_write_side(&box->query.filter, LUMO_SIDE_PIVOT, condition);
  lumo_check_buffer(L, condition);
  lumo_value document = {condition->data, (uint32_t)condition->len, LUMO_BSON_DOCUMENT};
  lumo_buf *fields = lumo_push_buffer(L);
  collect_given(relation, &document, fields);
  size_t mark = lumo_bson_begin(given);
  lumo_buf_append(given, fields->data, fields->len);
  lumo_bson_end(given, mark);
  lumo_check_buffer(L, fields);
  lumo_check_buffer(L, given);
  lua_settop(L, 4);
  push_bound(L, 1, condition, given);
  return 1;
}

/* ---- keys of records ---- */

/* In a list of keys MongoDB would match by a pattern, not compare it. */
static void refuse_pattern(lua_State *L, const lumo_buf *out, const lumo_relation *relation,
                           const char *method) {
  if (out->data[0] == LUMO_BSON_REGEX)
    lumo_raise_code(L, "E_CAST", "%s \"%s\" cannot have a regular expression as a key", method,
                    relation->name);
}

static void raise_missing(lua_State *L, const lumo_relation *relation, const char *method, int record,
                          const lumo_schema *schema, const lumo_column *column) {
  bool partial = lumo_test_record(L, record) && lumo_record_is_partial(L, record);
  lumo_raise_code(L, "E_MISSING_ATTRIBUTE_VALUE", "Cannot %s \"%s\", value of \"%s.%s\" is nil%s", method,
                  relation->name, schema->model, column->name,
                  partial ? ": the record was read by a select without it, or the document has none" : "");
}

/* The parent's key as an element "k" in `out`, and a view of it. Raises E_MISSING_ATTRIBUTE_VALUE. */
static lumo_value owner_value(lua_State *L, const lumo_relation *relation, const char *method, int parent,
                              lumo_buf *out) {
  lumo_record *record = lumo_test_record(L, parent);
  if (!record)
    lumo_raise_code(L, "E_ARGUMENT", "%s needs a record of \"%s\"", method, relation->parent->model);
  lumo_buf_clear(out);
  bool there = lumo_record_element(L, parent, relation->local->index, "k", 1, out);
  lumo_check_buffer(L, out);
  if (!there || out->data[0] == LUMO_BSON_NULL)
    raise_missing(L, relation, method, parent, relation->parent, relation->local);
  refuse_pattern(L, out, relation, method);
  return (lumo_value){.type = out->data[0], .data = out->data + 3, .len = (uint32_t)out->len - 3};
}

/* One id as an element "k" in `out`: a value of the related key's type, or a saved record of the related
 * model. */
static lumo_value id_value(lua_State *L, const lumo_relation *relation, const char *method, int index,
                           lumo_buf *out) {
  lumo_record *record = lumo_test_record(L, index);
  lumo_buf_clear(out);
  if (record) {
    if (strcmp(record->schema->model, relation->related->model) != 0)
      lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" takes records of \"%s\", got one of \"%s\"", method,
                      relation->name, relation->related->model, record->schema->model);
    if (!(record->flags & LUMO_RECORD_PERSISTED))
      lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" takes saved records, got one that is not stored", method,
                      relation->name);
    const lumo_column *key = lumo_schema_find(record->schema, relation->key->name, relation->key->name_len);
    if (!key || !lumo_record_element(L, index, key->index, "k", 1, out))
      raise_missing(L, relation, method, index, relation->related, relation->key);
  } else {
    if (lua_isnoneornil(L, index) || lumo_is_null(L, index) || lua_istable(L, index))
      lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" needs an id, got %s", method, relation->name,
                      lua_isnoneornil(L, index) ? "nil"
                      : lua_istable(L, index)   ? "a table"
                                                : "null");
    lumo_place place = {
        .model = relation->related->model, .key = relation->key->name, .key_len = relation->key->name_len};
    lumo_encode(L, index, relation->key, "k", 1, NULL, out, &place, LUMO_ENCODE_DATA);
  }
  lumo_check_buffer(L, out);
  if (out->data[0] == LUMO_BSON_NULL)
    raise_missing(L, relation, method, index, relation->related, relation->key);
  refuse_pattern(L, out, relation, method);
  return (lumo_value){.type = out->data[0], .data = out->data + 3, .len = (uint32_t)out->len - 3};
}

/* ---- ids and attributes ---- */

/* Owned pairs, being gathered: everything that may raise happens with this userdata on the stack. */
typedef struct {
  lumo_pairs pairs;
  lumo_keys owners;
  lumo_buf id, set, fresh, joined;
} gathering;

static const char GATHERING_MT = 0;

static int gathering_gc(lua_State *L) {
  gathering *g = lua_touserdata(L, 1);
  lumo_pairs_free(&g->pairs);
  lumo_keys_free(&g->owners);
  lumo_buf_free(&g->id);
  lumo_buf_free(&g->set);
  lumo_buf_free(&g->fresh);
  lumo_buf_free(&g->joined);
  return 0;
}

static gathering *push_gathering(lua_State *L) {
  gathering *g = lumo_newud(L, sizeof *g);
  memset(g, 0, sizeof *g);
  lumo_get(L, &GATHERING_MT);
  lua_setmetatable(L, -2);
  return g;
}

typedef struct {
  lua_State *L;
  const lumo_relation *relation;
  const char *method;
  gathering *g;
  int64_t now;
  int defaults; /* stack place of the pivot model's defaults by column number, 0: none */
  int given;    /* stack place of a table that gets the attributes as they stand, by id, 0: none */
} gatherer;

static bool names_key(const lumo_relation *relation, const lumo_buf *doc) {
  static const char *const id = "_id";
  const char *const keys[] = {relation->pivot.owner_key, relation->pivot.related_key, id};
  lumo_value value;
  for (size_t i = 0; i < 3; i++)
    if (lumo_bson_find(doc->data, doc->len, keys[i], strlen(keys[i]), &value)) return true;
  return false;
}

/* The attributes at `index` as a document in g->set; false when there are none. */
static bool gather_attributes(const gatherer *w, int index) {
  lua_State *L = w->L;
  if (lua_isnoneornil(L, index)) return false;
  if (!lua_istable(L, index))
    lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" takes pivot attributes as a table, got %s", w->method,
                    w->relation->name, luaL_typename(L, index));
  lumo_place place = {.model = w->relation->attributes->model, .key = NULL};
  lumo_buf_clear(&w->g->set);
  lumo_encode_document(L, index, w->relation->attributes, NULL, &w->g->set, &place, LUMO_ENCODE_DATA);
  lumo_check_buffer(L, &w->g->set);
  if (names_key(w->relation, &w->g->set))
    lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\": pivot attributes cannot change the keys of a pair",
                    w->method, w->relation->name);
  return w->g->set.len > 5;
}

/* Adds to the attributes in g->set what the relation's condition asks for. One that contradicts it would make
 * a pair that the relation does not see. */
static bool join_given(const gatherer *w, bool has_set) {
  const lumo_relation *relation = w->relation;
  lumo_buf *joined = &w->g->joined, *set = &w->g->set;
  lumo_value own = {set->data, (uint32_t)set->len, LUMO_BSON_DOCUMENT}, value;
  lumo_iter it;
  if (!relation->given) return has_set;
  lumo_buf_clear(joined);
  size_t mark = lumo_bson_begin(joined);
  if (has_set) {
    lumo_iter_value(&it, &own);
    while (lumo_iter_next(&it)) lumo_bson_value(joined, it.key, it.key_len, &it.value);
  }
  lumo_iter_init(&it, relation->given, relation->given_len);
  while (lumo_iter_next(&it)) {
    if (!has_set || !lumo_bson_find(own.data, own.len, it.key, it.key_len, &value))
      lumo_bson_value(joined, it.key, it.key_len, &it.value);
    else if (!lumo_value_equal(&value, &it.value))
      lumo_raise_code(w->L, "E_ARGUMENT",
                      "%s \"%s\": pivot attribute \"%s\" contradicts what on_query says of it", w->method,
                      relation->name, it.key);
  }
  lumo_bson_end(joined, mark);
  lumo_check_buffer(w->L, joined);
  lumo_buf swap = *set;
  *set = *joined;
  *joined = swap;
  return true;
}

/* What a new row gets beside the attributes given: the pivot model's defaults and automatic dates. False:
 * nothing. Default functions are called here. */
static bool gather_fresh(const gatherer *w, bool has_set) {
  lua_State *L = w->L;
  const lumo_schema *schema = w->relation->attributes;
  lumo_value value;
  lumo_buf *fresh = &w->g->fresh;
  lumo_buf_clear(fresh);
  size_t mark = lumo_bson_begin(fresh);
  for (uint32_t i = 0; i < schema->count; i++) {
    const lumo_column *column = schema->columns[i];
    const lumo_pivot *pivot = &w->relation->pivot;
    if (column->primary || strcmp(column->stored, pivot->owner_key) == 0 ||
        strcmp(column->stored, pivot->related_key) == 0)
      continue;
    if (has_set && lumo_bson_find(w->g->set.data, w->g->set.len, column->stored, column->stored_len, &value))
      continue;
    bool stamped = (pivot->created_at && strcmp(pivot->created_at, column->stored) == 0) ||
                   (pivot->updated_at && strcmp(pivot->updated_at, column->stored) == 0);
    if (stamped) continue; /* the plan's own */
    if (w->defaults) {
      lua_rawgeti(L, w->defaults, (int)i + 1);
      if (lua_isfunction(L, -1)) lumo_call_column_function(L, 0);
      if (!lua_isnil(L, -1)) {
        lumo_place place = {.model = schema->model, .key = column->name, .key_len = column->name_len};
        lumo_encode(L, lua_gettop(L), column, column->stored, column->stored_len, NULL, fresh, &place,
                    LUMO_ENCODE_DATA);
        lua_pop(L, 1);
        continue;
      }
      lua_pop(L, 1);
    }
    if (column->auto_create || column->auto_update)
      lumo_bson_date(fresh, column->stored, column->stored_len, w->now);
  }
  lumo_bson_end(fresh, mark);
  lumo_check_buffer(L, fresh);
  return fresh->len > 5;
}

/* The type and bytes of a key as a text. */
static void push_key(lua_State *L, const lumo_value *key) {
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  luaL_addchar(&text, (char)key->type);
  luaL_addlstring(&text, (const char *)key->data, key->len);
  luaL_pushresult(&text);
}

static void gather_pair(const gatherer *w, int id, int attributes) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_pairs *pairs = &w->g->pairs;
  uint32_t before = pairs->keys.count;
  bool has_set = join_given(w, attributes && gather_attributes(w, attributes));
  bool has_fresh = gather_fresh(w, has_set);
  lumo_value value = id_value(w->L, w->relation, w->method, id, &w->g->id);
  if (!lumo_pairs_add(pairs, &value, has_set ? w->g->set.data : NULL, has_set ? (uint32_t)w->g->set.len : 0,
                      has_fresh ? w->g->fresh.data : NULL, has_fresh ? (uint32_t)w->g->fresh.len : 0, &error))
    lumo_raise(w->L, &error);
  if (!w->given || !attributes || pairs->keys.count == before) return;
  push_key(w->L, &value);
  lua_pushvalue(w->L, attributes);
  lua_rawset(w->L, w->given);
}

/* Field `snake` or `camel` of the table at `index`, pushed. */
static void push_either(lua_State *L, int index, const char *snake, const char *camel) {
  lua_getfield(L, index, snake);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_getfield(L, index, camel);
}

/* { {id =, pivot_data =}, … } */
static void gather_pivot_list(const gatherer *w, int list) {
  lua_State *L = w->L;
  for (int i = 1; i <= (int)lua_rawlen(L, list); i++) {
    lua_rawgeti(L, list, i);
    int item = lua_gettop(L);
    if (!lua_istable(L, item))
      lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" takes a list of { id =, pivot_data = }, entry %d is %s",
                      w->method, w->relation->name, i, luaL_typename(L, item));
    for (lua_pushnil(L); lua_next(L, item); lua_pop(L, 1)) {
      const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "a number";
      if (strcmp(key, "id") != 0 && strcmp(key, "pivot_data") != 0 && strcmp(key, "pivotData") != 0)
        lumo_raise_code(L, "E_ARGUMENT",
                        "%s \"%s\" takes a list of { id =, pivot_data = }, entry %d has \"%s\"", w->method,
                        w->relation->name, i, key);
    }
    lua_getfield(L, item, "id");
    push_either(L, item, "pivot_data", "pivotData");
    gather_pair(w, item + 1, item + 2);
    lua_settop(L, item - 1);
  }
}

static bool is_only_key(lua_State *L, int table, const char *name) {
  int n = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) n++;
  lua_getfield(L, table, name);
  bool only = n == 1 && !lua_isnil(L, -1);
  lua_pop(L, 1);
  return only;
}

/* What the table at `index` is. */
typedef struct {
  int entries, tables, length;
  bool pivot_list; /* its first entry looks like {id =, pivot_data =} */
} table_shape;

static table_shape shape_of(lua_State *L, int index) {
  table_shape shape = {.length = (int)lua_rawlen(L, index)};
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    shape.entries++;
    if (!lua_istable(L, -1)) continue;
    shape.tables++;
    if (lua_type(L, -2) != LUA_TNUMBER) continue;
    int entry = lua_gettop(L);
    push_either(L, entry, "pivot_data", "pivotData");
    lua_getfield(L, entry, "id");
    if (!lua_isnil(L, -1) && (lua_istable(L, -2) || is_only_key(L, entry, "id"))) shape.pivot_list = true;
    lua_settop(L, entry);
  }
  return shape;
}

static void gather_list(const gatherer *w, int list, const table_shape *shape) {
  lua_State *L = w->L;
  if (shape->entries != shape->length)
    lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" takes a list of ids without holes%s", w->method,
                    w->relation->name,
                    shape->tables ? "; ids and a map from ids to attributes cannot be mixed" : "");
  for (int i = 1; i <= shape->length; i++) {
    lua_rawgeti(L, list, i);
    gather_pair(w, lua_gettop(L), 0);
    lua_pop(L, 1);
  }
}

static void gather_map(const gatherer *w, int map) {
  lua_State *L = w->L;
  lumo_error error;
  lumo_error_init(&error);
  for (lua_pushnil(L); lua_next(L, map); lua_pop(L, 1)) {
    int attributes = lua_gettop(L);
    lua_pushvalue(L, attributes - 1); /* a copy, for converting the key in place would confuse lua_next */
    gather_pair(w, attributes + 1, attributes);
    lua_pop(L, 1);
  }
  if (!lumo_pairs_sort(&w->g->pairs)) {
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
}

typedef enum { FORM_IDS, FORM_IDS_OR_MAP, FORM_PIVOT_LIST } ids_form;

/* The one normaliser of ids. */
static void gather(const gatherer *w, int index, ids_form form) {
  lua_State *L = w->L;
  if (lua_isnoneornil(L, index))
    lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" got nil; an empty list is {}", w->method, w->relation->name);
  if (!lua_istable(L, index)) {
    if (form == FORM_PIVOT_LIST)
      lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" takes a list of { id =, pivot_data = }, got %s", w->method,
                      w->relation->name, luaL_typename(L, index));
    gather_pair(w, index, 0);
    return;
  }
  table_shape shape = shape_of(L, index);
  if (form == FORM_PIVOT_LIST) {
    if (shape.entries != shape.length)
      lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" takes a list of { id =, pivot_data = } without holes",
                      w->method, w->relation->name);
    gather_pivot_list(w, index);
  } else if (shape.tables == 0 || shape.tables != shape.entries) {
    gather_list(w, index, &shape);
  } else if (shape.pivot_list) {
    bool sync = strncmp(w->method, "sync", 4) == 0;
    lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" got a list of { id =, pivot_data = }; that is what %s takes",
                    w->method, w->relation->name, sync ? "sync_with_pivot_data" : "attach_with_pivot_data");
  } else if (form == FORM_IDS) {
    lumo_raise_code(L, "E_ARGUMENT", "%s \"%s\" takes ids, not attributes", w->method, w->relation->name);
  } else {
    gather_map(w, index);
  }
}

/* A table with pairs for the writing of new rows has the defaults of the pivot model at hand. Pushes one
 * value. */
static int push_pivot_defaults(lua_State *L, int relation) {
  lumo_getuv(L, relation);
  lua_getfield(L, -1, "attributes");
  if (lumo_schema_has_defaults(L, -1)) {
    lumo_getuv(L, -1);
    lua_replace(L, -3);
    lua_pop(L, 1);
    return lua_gettop(L);
  }
  lua_pop(L, 1);
  return 0;
}

/* ---- plans of the client ---- */

/* core.pairs_plan(op, method, relation, parent, value, form, now, keep): → plan; with `keep` also the
 * attributes by id, as pairs_entries takes them */
static int pairs_plan(lua_State *L) {
  static const char *const ops[] = {"attach",       "attach_made", "attach_each", "sync",
                                    "sync_keeping", "toggle",      NULL};
  static const lumo_pairs_op values[] = {
      LUMO_ATTACH, LUMO_ATTACH_MADE, LUMO_ATTACH_EACH, LUMO_SYNC, LUMO_SYNC_WITHOUT_DETACHING, LUMO_TOGGLE};
  static const char *const forms[] = {"ids", "ids_or_map", "pivot_list", NULL};
  lumo_error error;
  lumo_error_init(&error);
  lumo_pairs_op op = values[luaL_checkoption(L, 1, NULL, ops)];
  gatherer w = {.L = L, .method = luaL_checkstring(L, 2), .relation = lumo_check_relation(L, 3)};
  ids_form form = (ids_form)luaL_checkoption(L, 6, NULL, forms);
  w.now = (int64_t)luaL_checknumber(L, 7);
  bool keep = lua_toboolean(L, 8);
  lua_settop(L, 7);
  w.g = push_gathering(L);               /* 8 */
  lumo_buf *owner = lumo_push_buffer(L); /* 9 */
  lumo_value key = owner_value(L, w.relation, w.method, 4, owner);
  lua_newtable(L); /* 10 */
  if (keep) w.given = 10;
  w.defaults = push_pivot_defaults(L, 3); /* 11 */
  gather(&w, 5, form);
  lua_settop(L, 10);
  lumo_prepare_plan(L); /* 11 */
  lumo_fill_plan(L, 11, LUMO_PLAN_PAIRS,
                 lumo_pairs_plan_new(op, w.method, &w.relation->pivot, &key, &w.g->pairs, w.now, &error),
                 &error);
  lua_insert(L, 10);
  return 2;
}

/* Pushes what a pivot document says beside _id and keys, under the names and types of the pivot model's
 * columns. Null stands for nothing in a row, and for itself in what is to be written. */
static void push_attributes(lua_State *L, const lumo_relation *relation, const uint8_t *document,
                            uint32_t len, bool nulls) {
  lumo_iter it;
  lua_newtable(L);
  if (!lumo_iter_init(&it, document, len)) return;
  while (lumo_iter_next(&it)) {
    bool null = lumo_value_is_null(&it.value);
    if (strcmp(it.key, "_id") == 0 || strcmp(it.key, relation->pivot.owner_key) == 0 ||
        strcmp(it.key, relation->pivot.related_key) == 0 || (null && !nulls))
      continue;
    const lumo_column *column = lumo_schema_find_stored(relation->attributes, it.key, it.key_len);
    lua_pushstring(L, column ? column->name : it.key);
    lumo_place place = {.model = relation->attributes->model, .key = it.key, .key_len = it.key_len};
    if (column && !null)
      lumo_push_column_value(L, &it.value, column, &place);
    else
      lumo_push_value(L, &it.value);
    lua_rawset(L, -3);
  }
}

/* core.check_pair(method, relation, attributes or nil): raises what a plan with these attributes of a pair
 * would. */
static int check_pair(lua_State *L) {
  gatherer w = {.L = L, .method = luaL_checkstring(L, 1), .relation = lumo_check_relation(L, 2)};
  lua_settop(L, 3);
  w.g = push_gathering(L);
  join_given(&w, gather_attributes(&w, 3));
  return 0;
}

/* core.relation_given(relation): what its condition asks rows to have, by attribute. */
static int relation_given(lua_State *L) {
  const lumo_relation *relation = lumo_check_relation(L, 1);
  if (relation->given)
    push_attributes(L, relation, relation->given, relation->given_len, true);
  else
    lua_newtable(L);
  return 1;
}

/* core.relation_condition(relation): what it asks of the rows of its pivot as MongoDB's filter, a plain
 * table; nil for nothing. */
static int relation_condition(lua_State *L) {
  const lumo_pivot *pivot = &lumo_check_relation(L, 1)->pivot;
  if (!pivot->condition) return 0;
  lumo_push_document(L, pivot->condition, pivot->condition_len);
  return 1;
}

/* core.pairs_entries(plan, given): the ids that a plan was given, in order, with the attributes that the call
 * gave: { id =, attributes = }. */
static int pairs_entries(lua_State *L) {
  const lumo_pairs_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_PAIRS);
  luaL_checktype(L, 2, LUA_TTABLE);
  const lumo_keys *keys = &plan->pairs.keys;
  lua_createtable(L, (int)keys->count, 0);
  for (uint32_t i = 0; i < keys->count; i++) {
    lumo_value id = lumo_keys_at(keys, i);
    lua_createtable(L, 0, 2);
    lumo_push_value(L, &id);
    lua_setfield(L, -2, "id");
    push_key(L, &id);
    lua_rawget(L, 2);
    lua_setfield(L, -2, "attributes");
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* core.pairs_row(plan, relation, method, id or record, class or nil, connection number): what is known of the
 * row of a pair of the plan, once that is done: as a record of the class, else as a table by stored names. */
static int pairs_row(lua_State *L) {
  const lumo_pairs_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_PAIRS);
  const lumo_relation *relation = lumo_check_relation(L, 2);
  const char *method = luaL_checkstring(L, 3);
  uint16_t connection = (uint16_t)luaL_optinteger(L, 6, 0);
  lua_settop(L, 5);
  lumo_buf *row = lumo_push_buffer(L), *key = lumo_push_buffer(L); /* 6, 7 */
  lumo_value id = id_value(L, relation, method, 4, key);
  int64_t place = lumo_keys_find(&plan->pairs.keys, &id);
  if (place < 0) lumo_raise_code(L, "E_ARGUMENT", "the plan has no such pair");
  lumo_pairs_row(plan, (uint32_t)place, row);
  lumo_check_buffer(L, row);
  if (lua_isnil(L, 5))
    lumo_push_document(L, row->data, row->len);
  else
    lumo_push_record(L, 5, lumo_class_schema(L, 5), 0, false, row->data, (uint32_t)row->len, NULL, 0,
                     connection);
  return 1;
}

/* core.pair_id(relation, method, parent, id): the _id of a new row. */
static int pair_id(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const lumo_relation *relation = lumo_check_relation(L, 1);
  const char *method = luaL_checkstring(L, 2);
  uint8_t id[12];
  lua_settop(L, 4);
  lumo_buf *owner = lumo_push_buffer(L), *related = lumo_push_buffer(L); /* 5, 6 */
  lumo_value key = owner_value(L, relation, method, 3, owner);
  lumo_value other = id_value(L, relation, method, 4, related);
  if (!lumo_pair_id(relation->pivot.owner_key, &key, relation->pivot.related_key, &other, id)) {
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
  lumo_push_objectid(L, id);
  return 1;
}

/* core.detach_plan(relation, parent, value): value nil is an error here; core.detach_all_plan(relation,
 * parent). */
static int detach_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  gatherer w = {.L = L, .method = "detach", .relation = lumo_check_relation(L, 1)};
  lua_settop(L, 3);
  w.g = push_gathering(L);               /* 4 */
  lumo_buf *owner = lumo_push_buffer(L); /* 5 */
  lumo_value key = owner_value(L, w.relation, "detach", 2, owner);
  gather(&w, 3, FORM_IDS);
  lumo_prepare_plan(L); /* 6 */
  lumo_fill_plan(L, 6, LUMO_PLAN_WRITE,
                 lumo_detach_plan_new("detach", &w.relation->pivot, &key, &w.g->pairs.keys, &error), &error);
  return 1;
}

static int detach_all_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const lumo_relation *relation = lumo_check_relation(L, 1);
  lua_settop(L, 2);
  lumo_buf *owner = lumo_push_buffer(L); /* 3 */
  lumo_value key = owner_value(L, relation, "detach", 2, owner);
  lumo_prepare_plan(L); /* 4 */
  lumo_fill_plan(L, 4, LUMO_PLAN_WRITE, lumo_detach_plan_new("detach", &relation->pivot, &key, NULL, &error),
                 &error);
  return 1;
}

/* core.pivot_rows_plan(method, relation, parent, id): the rows of one pair, at most one of them. */
static int pivot_rows_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const char *method = luaL_checkstring(L, 1);
  const lumo_relation *relation = lumo_check_relation(L, 2);
  lua_settop(L, 4);
  lumo_buf *owner = lumo_push_buffer(L), *related = lumo_push_buffer(L); /* 5, 6 */
  lumo_value key = owner_value(L, relation, method, 3, owner);
  lumo_value id = id_value(L, relation, method, 4, related);
  lumo_prepare_plan(L); /* 7 */
  lumo_fill_plan(L, 7, LUMO_PLAN_READ,
                 lumo_pivot_rows_plan_new(method, &relation->pivot, &key, &id, 1, &error), &error);
  return 1;
}

static int pivot_ids_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const lumo_relation *relation = lumo_check_relation(L, 1);
  lua_settop(L, 2);
  lumo_buf *owner = lumo_push_buffer(L);
  lumo_value key = owner_value(L, relation, "ids", 2, owner);
  lumo_prepare_plan(L); /* 4 */
  lumo_fill_plan(L, 4, LUMO_PLAN_READ, lumo_pivot_ids_plan_new("ids", &relation->pivot, &key, &error),
                 &error);
  return 1;
}

static int pivot_count_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const lumo_relation *relation = lumo_check_relation(L, 1);
  lua_settop(L, 2);
  lumo_buf *owner = lumo_push_buffer(L);
  lumo_value key = owner_value(L, relation, "count", 2, owner);
  lumo_prepare_plan(L); /* 4 */
  lumo_fill_plan(L, 4, LUMO_PLAN_READ, lumo_pivot_count_plan_new("count", &relation->pivot, &key, &error),
                 &error);
  return 1;
}

/* core.orphans_plan(relation) */
static int orphans_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const lumo_relation *relation = lumo_check_relation(L, 1);
  lua_settop(L, 1);
  lumo_prepare_plan(L); /* 2 */
  lumo_fill_plan(L, 2, LUMO_PLAN_READ,
                 lumo_pivot_orphans_plan_new("prune", &relation->pivot, relation->related->collection,
                                             relation->key->stored, &error),
                 &error);
  return 1;
}

/* core.pivot_update_plan(relation, parent, id, attributes, now) */
static int pivot_update_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  gatherer w = {.L = L, .method = "update_pivot_data", .relation = lumo_check_relation(L, 1)};
  int64_t now = (int64_t)luaL_checknumber(L, 5);
  lua_settop(L, 4);
  w.g = push_gathering(L);               /* 5 */
  lumo_buf *owner = lumo_push_buffer(L); /* 6 */
  lumo_value key = owner_value(L, w.relation, w.method, 2, owner);
  lumo_value id = id_value(L, w.relation, w.method, 3, &w.g->id);
  if (!lua_istable(L, 4)) lumo_raise_argument(L, w.method, 2, "a table of pivot attributes", 4);
  if (!gather_attributes(&w, 4))
    lumo_raise_code(L, "E_ARGUMENT", "update_pivot_data \"%s\" got no attributes", w.relation->name);
  lumo_prepare_plan(L); /* 7 */
  lumo_fill_plan(L, 7, LUMO_PLAN_WRITE,
                 lumo_pivot_update_plan_new(w.method, &w.relation->pivot, &key, &id, w.g->set.data,
                                            (uint32_t)w.g->set.len, now, &error),
                 &error);
  return 1;
}

/* core.pivot_row(plan, relation): the attributes of the first row of a pivot_rows_plan; nil when there is no
 * row. */
static int pivot_row(lua_State *L) {
  const lumo_read_plan *plan = lumo_check_plan(L, 1, LUMO_PLAN_READ);
  const lumo_relation *relation = lumo_check_relation(L, 2);
  if (plan->docs.count == 0)
    lua_pushnil(L);
  else
    push_attributes(L, relation, plan->docs.items[0].data, plan->docs.items[0].len, false);
  return 1;
}

/* ---- queries across the relation ---- */

/* core.bound_query(relation without a pivot, method, parent): a query of the related model that sees what
 * belongs to the parent. */
static int bound_query(lua_State *L) {
  lumo_relation *relation = lumo_check_relation(L, 1);
  const char *method = luaL_checkstring(L, 2);
  lua_settop(L, 3);
  lumo_getuv(L, 1);
  lua_getfield(L, 4, "related");
  lumo_query_box *box = lumo_push_query(L, 5, LUMO_QUERY_MODEL); /* 6 */
  box->relation = relation;
  lumo_getuv(L, 6);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 2); /* the companion keeps the relation */
  lua_settop(L, 6);
  lumo_value key = owner_value(L, relation, method, 3, &box->owner);
  size_t document = lumo_bson_begin(&box->bound);
  size_t equal = lumo_bson_begin_document(&box->bound, relation->key->stored, relation->key->stored_len);
  lumo_bson_value(&box->bound, LUMO_KEY("$eq"), &key);
  lumo_bson_end(&box->bound, equal);
  lumo_bson_end(&box->bound, document);
  lumo_check_buffer(L, &box->bound);
  return 1;
}

/* core.related_query(relation, method, parent or nil): a query over the related records, bound to the parent
 * when there is one. */
static int related_query(lua_State *L) {
  lumo_relation *relation = lumo_check_relation(L, 1);
  const char *method = luaL_checkstring(L, 2);
  lua_settop(L, 3);
  lumo_getuv(L, 1);
  lua_getfield(L, 4, "related");
  lumo_query_box *box = lumo_push_query(L, 5, LUMO_QUERY_RELATED); /* 6 */
  box->relation = relation;
  lumo_getuv(L, 6);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 2); /* the companion keeps the relation */
  if (!lua_isnil(L, 3)) owner_value(L, relation, method, 3, &box->owner);
  lua_settop(L, 6);
  return 1;
}

/* core.query_pivot_fields(query, list of stored names or nil: all) */
static int query_pivot_fields(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "pivot_columns");
  lua_settop(L, 2);
  box->all_fields = !lua_istable(L, 2);
  if (box->all_fields) return 0;
  lumo_getuv(L, 1); /* 3 */
  box->fields = push_field_names(L, 2, &box->field_count);
  lua_rawseti(L, 3, 4);
  lua_pushvalue(L, 2);
  lua_rawseti(L, 3, 3);
  return 0;
}

/* core.pivot_query(relation, parent): a query over the pivot documents of one parent. */
static int pivot_query(lua_State *L) {
  lumo_relation *relation = lumo_check_relation(L, 1);
  lua_settop(L, 2);
  lumo_getuv(L, 1);
  lua_getfield(L, 3, "rows");
  lumo_query_box *box = lumo_push_query(L, 4, LUMO_QUERY_PIVOT); /* 5 */
  box->relation = relation;
  lumo_getuv(L, 5);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 2);
  lumo_value key = owner_value(L, relation, "pivot_query", 2, &box->owner);
  size_t mark = lumo_bson_begin(&box->bound);
  lumo_pivot_filter(&box->bound, &relation->pivot, &key);
  lumo_bson_end(&box->bound, mark);
  lumo_check_buffer(L, &box->bound);
  lua_settop(L, 5);
  return 1;
}

/* A document of the elements, in a new buffer on the stack; NULL when there are none. */
static const uint8_t *push_part(lua_State *L, const lumo_buf *elements, uint32_t *len) {
  if (elements->len == 0) return NULL;
  lumo_buf *document = lumo_push_buffer(L);
  size_t mark = lumo_bson_begin(document);
  lumo_buf_append(document, elements->data, elements->len);
  lumo_bson_end(document, mark);
  lumo_check_buffer(L, document);
  *len = (uint32_t)document->len;
  return document->data;
}

/* What the filter demands of one side, in a new buffer; NULL for nothing. */
static const uint8_t *push_side(lua_State *L, const lumo_filter *filter, lumo_side side, uint32_t *len) {
  lumo_buf *document = lumo_push_buffer(L);
  lumo_filter_write_side(filter, side, document);
  lumo_check_buffer(L, document);
  if (document->len <= 5) return NULL;
  *len = (uint32_t)document->len;
  return document->data;
}

static void fill_filters(lua_State *L, const lumo_query *of, lumo_related_query *query) {
  const lumo_filter *filter = &of->filter;
  query->filter = push_side(L, filter, LUMO_SIDE_RELATED, &query->filter_len);
  query->pivot_filter = push_side(L, filter, LUMO_SIDE_PIVOT, &query->pivot_filter_len);
  if (lumo_filter_splits(filter) && of->join_count == 0) return;
  lumo_buf *paired = lumo_push_buffer(L);
  lumo_filter_write_paired(filter, paired);
  lumo_check_buffer(L, paired);
  query->paired_filter = paired->data;
  query->paired_filter_len = (uint32_t)paired->len;
  query->joins = of->joins.data;
  query->joins_len = (uint32_t)of->joins.len;
  query->join_count = of->join_count;
}

/* The order of a group_limit where none was given: by the related key as the pivot has it, or by _id,
 * descending. */
static const uint8_t *push_group_order(lua_State *L, const lumo_relation *relation, uint32_t *len) {
  lumo_buf *name = lumo_push_buffer(L), *elements = lumo_push_buffer(L);
  if (relation->shares_keys) {
    lumo_buf_append(name, LUMO_KEY("_id"));
  } else {
    lumo_buf_append(name, LUMO_KEY(LUMO_PIVOT_FIELD "."));
    lumo_buf_append(name, relation->pivot.related_key, strlen(relation->pivot.related_key));
  }
  lumo_check_buffer(L, name);
  lumo_bson_int32(elements, (const char *)name->data, name->len, -1);
  lumo_check_buffer(L, elements);
  return push_part(L, elements, len);
}

/* Orders and limits. In an eager load they are each parent's. */
static void fill_orders(lua_State *L, const lumo_query_box *box, lumo_related_query *query) {
  query->sort = push_part(L, &box->query.sort, &query->sort_len);
  if (!query->eager) return;
  if (box->group_limit == 0) { /* only the order of the result is left of it */
    if (!query->sort) query->sort = push_part(L, &box->group_sort, &query->sort_len);
    return;
  }
  if (query->limit == 0 || box->group_limit < query->limit) query->limit = box->group_limit;
  query->group_sort = push_part(L, &box->group_sort, &query->group_sort_len);
  if (!query->group_sort) query->group_sort = push_group_order(L, box->relation, &query->group_sort_len);
}

/* The owner of a query that belongs to one parent. */
static const lumo_keys *push_owner(lua_State *L, const lumo_query_box *box) {
  lumo_error error;
  uint32_t index;
  gathering *g = push_gathering(L);
  if (box->owner.len == 0)
    lumo_raise_code(
        L, "E_ARGUMENT",
        "this query is made for eager loading, or stands inside of another one: it is not sent itself");
  lumo_value key = {
      .type = box->owner.data[0], .data = box->owner.data + 3, .len = (uint32_t)box->owner.len - 3};
  lumo_error_init(&error);
  if (lumo_keys_add(&g->owners, &key, &index) < 0) {
    lumo_error_memory(&error);
    lumo_raise(L, &error);
  }
  return &g->owners;
}

/* The buffers below the plan are garbage. */
void lumo_push_related_plan(lua_State *L, lumo_query_box *box, const lumo_related_request *request) {
  lumo_error error;
  lumo_error_init(&error);
  luaL_checkstack(L, 16, NULL);
  const lumo_relation *relation = box->relation;
  bool finds = request->op == LUMO_RELATED_FIND;
  lumo_related_query query = {
      .collection = relation->related->collection,
      .key = relation->key->stored,
      .shares_keys = relation->shares_keys,
      .op = request->op,
      .limit = request->limit,
      .skip = request->op == LUMO_RELATED_COUNT ? 0 : box->query.skip,
      .eager = request->owners != NULL,
      .streaming = request->streaming,
      .accumulator = request->accumulator,
      .field = request->field,
      .elements = request->elements,
      .pivot_fields = box->fields ? box->fields : relation->fields,
      .pivot_field_count = box->fields ? box->field_count : relation->field_count,
      .all_pivot_fields = (relation->all_fields || box->all_fields) && finds,
  };
  fill_filters(L, &box->query, &query);
  fill_orders(L, box, &query);
  if (box->query.projection.len > 0) /* the key must come along for the join */
    lumo_query_select(&box->query.projection, relation->key->stored, relation->key->stored_len);
  query.projection = push_part(L, &box->query.projection, &query.projection_len);
  if (box->query.extra.len > 0) {
    query.extra = box->query.extra.data;
    query.extra_len = (uint32_t)box->query.extra.len;
  }
  if (request->update) {
    query.update = request->update->data;
    query.update_len = (uint32_t)request->update->len;
  }
  const lumo_keys *owners = request->owners ? request->owners : push_owner(L, box);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_RELATED,
                 lumo_related_plan_new(request->name, &relation->pivot, owners, &query, &error), &error);
}

static bool has_key(lua_State *L, const lumo_relation *relation, int parent, lumo_buf *scratch) {
  lumo_buf_clear(scratch);
  return lumo_test_record(L, parent) &&
         lumo_record_element(L, parent, relation->local->index, "k", 1, scratch) && !scratch->failed &&
         scratch->data[0] != LUMO_BSON_NULL;
}

/* core.load_plan(query, parents): → plan, number of distinct parents, list of each parent's place among them
 * (0: it has no key, and needs none). */
static int load_plan(lua_State *L) {
  lumo_query_box *box = lumo_check_query(L, 1, "load");
  lumo_error error;
  lumo_error_init(&error);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  int count = (int)lua_rawlen(L, 2);
  gathering *g = push_gathering(L); /* 3 */
  lua_createtable(L, count, 0);     /* 4 */
  for (int i = 1; i <= count; i++) {
    uint32_t index;
    lua_rawgeti(L, 2, i);
    if (box->relation->optional && !has_key(L, box->relation, 5, &g->id)) {
      lua_pushinteger(L, 0);
      lua_rawseti(L, 4, i);
      lua_settop(L, 4);
      continue;
    }
    lumo_value key = owner_value(L, box->relation, "load", 5, &g->id);
    if (lumo_keys_add(&g->owners, &key, &index) < 0) {
      lumo_error_memory(&error);
      lumo_raise(L, &error);
    }
    lua_pushinteger(L, (lua_Integer)index + 1);
    lua_rawseti(L, 4, i);
    lua_settop(L, 4);
  }
  lumo_related_request request = {
      .name = "load", .op = LUMO_RELATED_FIND, .limit = box->query.limit, .owners = &g->owners};
  lumo_push_related_plan(L, box, &request);
  lua_pushinteger(L, (lua_Integer)g->owners.count);
  lua_pushvalue(L, 4);
  return 3;
}

/* ---- handles: what a relation's property is until it is loaded ---- */

static const char HANDLE_MT = 0;

/* core.handle_metatable(metatable): its functions are Lua's; it is a userdata that wears it, so that # and
 * pairs can refuse on LuaJIT, too. */
static int handle_metatable(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lumo_register_metatable(L, &HANDLE_MT);
  return 0;
}

/* core.handle_new(state table) */
static int handle_new(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lumo_newud(L, 1);
  lumo_get(L, &HANDLE_MT);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 1);
  lumo_setuv(L, -2);
  return 1;
}

/* core.handle_state(value): its state table, nil for anything else. */
static int handle_state(lua_State *L) {
  if (lumo_test(L, 1, &HANDLE_MT))
    lumo_getuv(L, 1);
  else
    lua_pushnil(L);
  return 1;
}

void lumo_open_relation(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__gc", gathering_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"relation", relation_new},
      {"relation_under", relation_under},
      {"relation_guard", relation_guard},
      {"pairs_plan", pairs_plan},
      {"check_pair", check_pair},
      {"relation_given", relation_given},
      {"relation_condition", relation_condition},
      {"pair_id", pair_id},
      {"pairs_entries", pairs_entries},
      {"pairs_row", pairs_row},
      {"detach_plan", detach_plan},
      {"detach_all_plan", detach_all_plan},
      {"pivot_rows_plan", pivot_rows_plan},
      {"pivot_ids_plan", pivot_ids_plan},
      {"pivot_count_plan", pivot_count_plan},
      {"orphans_plan", orphans_plan},
      {"pivot_update_plan", pivot_update_plan},
      {"pivot_row", pivot_row},
      {"bound_query", bound_query},
      {"related_query", related_query},
      {"pivot_query", pivot_query},
      {"query_pivot_fields", query_pivot_fields},
      {"load_plan", load_plan},
      {"handle_metatable", handle_metatable},
      {"handle_new", handle_new},
      {"handle_state", handle_state},
      {NULL, NULL},
  };
  lumo_metatable(L, &GATHERING_MT, "lumo.gathering", NULL, metamethods);
  lumo_metatable(L, &LUMO_MT_RELATION, "lumo.relation", NULL, NULL);
  lua_pop(L, 2);
  luaL_setfuncs(L, functions, 0);
}
