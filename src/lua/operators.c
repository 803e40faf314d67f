/* Atomic changes of a stored record: one operator of MongoDB on one path, whose outcome the record takes over
 * from the reply. */
#include <string.h>

#include "../core/record.h"
#include "private.h"

/* What an operator changes. The texts belong to the stack. */
typedef struct target {
  const lumo_record *record;
  const char *method, *name; /* the public method; the path as it was given */
  size_t name_len;
  lumo_buf *path;            /* as it is stored */
  size_t top_len;            /* of the path's first part: the field of the document */
  const lumo_column *column; /* at the path's end; NULL: untyped */
  const lumo_column *top;    /* NULL: undeclared */
} target;

/* Whether nothing of the column's value is left after the operator but what that makes of it. */
static bool replaces_column(const target *to) {
  return to->path->len == to->top_len &&
         (strcmp(to->method, "unset") == 0 || strncmp(to->method, "inc", 3) == 0);
}

/* Pushes the stored path. */
static void resolve(lua_State *L, int record, int name, target *to) {
  lumo_error error;
  lumo_error_init(&error);
  if (lua_type(L, name) != LUA_TSTRING) lumo_raise_argument(L, to->method, 1, "the name of a column", name);
  const lumo_schema *schema = to->record->schema;
  to->name = lua_tolstring(L, name, &to->name_len);
  to->path = lumo_push_buffer(L);
  if (!lumo_schema_resolve(schema, to->name, to->name_len, to->path, &to->column, &error))
    lumo_raise(L, &error);
  const uint8_t *dot = memchr(to->path->data, '.', to->path->len);
  to->top_len = dot ? (size_t)(dot - to->path->data) : to->path->len;
  to->top = lumo_schema_find_stored(schema, (const char *)to->path->data, to->top_len);
  if (!to->top) return;
  if (to->top->primary)
    lumo_raise_code(L, "E_ARGUMENT", "the primary key \"%s.%s\" of a persisted record cannot be changed",
                    schema->model, to->top->name);
  if (to->top->functions & LUMO_COLUMN_PREPARE)
    lumo_raise_code(L, "E_ARGUMENT",
                    "%s cannot change \"%s.%s\" in the database: a function prepares what is stored of it",
                    to->method, schema->model, to->top->name);
  if (!replaces_column(to) && lumo_record_changed(L, record, to->top->index))
    lumo_raise_code(L, "E_ARGUMENT", "%s \"%s.%s\": the attribute has changes that are not saved", to->method,
                    schema->model, to->top->name);
}

static lumo_place place_of(const target *to) {
  return (lumo_place){.model = to->record->schema->model, .key = to->name, .key_len = to->name_len};
}

/* The column that the values of a list are cast to, as one array. */
static const lumo_column *array_column(lua_State *L, const target *to) {
  if (!to->column || to->column->type == LUMO_ANY) return NULL;
  if (to->column->type != LUMO_ARRAY)
    lumo_raise_place(L, "E_CAST", to->record->schema->model, to->name,
                     lua_pushfstring(L, "\"%s.%s\" is not an array", to->record->schema->model, to->name));
  return to->column;
}

static const char *path_text(const target *to) {
  return (const char *)to->path->data;
}

/* ---- what the operators are given ---- */

/* $push and $addToSet: each of the values. Where the elements are declared, the list gives way to that of the
 * values as they are cast; else to nil. */
static void write_each(lua_State *L, const target *to, int list, lumo_buf *out) {
  lumo_place place = place_of(to);
  const lumo_column *column = array_column(L, to);
  lumo_value values;
  size_t mark = lumo_bson_begin_document(out, path_text(to), to->path->len);
  lumo_encode(L, list, column, LUMO_KEY("$each"), NULL, out, &place, LUMO_ENCODE_DATA);
  lumo_bson_end(out, mark);
  lumo_check_buffer(L, out);
  lua_pushnil(L);
  if (column && column->of && lumo_bson_find(out->data + mark, out->len - mark, LUMO_KEY("$each"), &values)) {
    lua_pop(L, 1);
    lumo_push_column_value(L, &values, column, &place);
  }
  lua_replace(L, list);
}

/* Whether the values of the array are documents: true, false, or an error when they are both or empty. */
static bool are_documents(lua_State *L, const target *to, const lumo_value *values) {
  lumo_iter it;
  uint32_t documents = 0, others = 0;
  lumo_iter_value(&it, values);
  while (lumo_iter_next(&it)) {
    if (it.value.type == LUMO_BSON_DOCUMENT && it.value.len <= 5)
      lumo_raise_code(L, "E_ARGUMENT", "pull \"%s.%s\" got an empty table, which every element would match",
                      to->record->schema->model, to->name);
    if (it.value.type == LUMO_BSON_DOCUMENT)
      documents++;
    else
      others++;
  }
  if (documents && others)
    lumo_raise_code(L, "E_ARGUMENT", "pull \"%s.%s\" takes tables of fields or values, not both at once",
                    to->record->schema->model, to->name);
  return documents > 0;
}

/* A condition on elements: the fields are these, whatever others there are. */
static void write_condition(const lumo_value *fields, lumo_buf *out) {
  lumo_iter it;
  lumo_iter_value(&it, fields);
  while (lumo_iter_next(&it)) {
    size_t mark = lumo_bson_begin_document(out, it.key, it.key_len);
    lumo_bson_value(out, LUMO_KEY("$eq"), &it.value);
    lumo_bson_end(out, mark);
  }
}

/* Scalars go by being equal, documents by having the fields given. Gives the operator. */
static const char *write_pull(lua_State *L, const target *to, int list, lumo_buf *out) {
  lumo_place place = place_of(to);
  lumo_buf *buf = lumo_push_buffer(L);
  lumo_iter it;
  lumo_encode(L, list, array_column(L, to), "", 0, NULL, buf, &place, LUMO_ENCODE_DATA);
  lumo_check_buffer(L, buf);
  lumo_value values = {.type = LUMO_BSON_ARRAY, .data = buf->data + 2, .len = (uint32_t)buf->len - 2};
  bool documents = are_documents(L, to, &values);
  if (documents) {
    size_t mark = lumo_bson_begin_document(out, path_text(to), to->path->len);
    size_t or = lumo_bson_begin_array(out, LUMO_KEY("$or"));
    lumo_iter_value(&it, &values);
    for (uint32_t i = 0; lumo_iter_next(&it); i++) {
      lumo_bson_index(out, LUMO_BSON_DOCUMENT, i);
      size_t condition = lumo_bson_begin(out);
      write_condition(&it.value, out);
      lumo_bson_end(out, condition);
    }
    lumo_bson_end(out, or);
    lumo_bson_end(out, mark);
  } else {
    lumo_bson_value(out, path_text(to), to->path->len, &values);
  }
  lumo_check_buffer(L, out);
  lua_pop(L, 1);
  return documents ? "$pull" : "$pullAll";
}

static bool is_number(const lumo_column *column) {
  return !column || column->type == LUMO_ANY || column->type == LUMO_INTEGER || column->type == LUMO_INT32 ||
         column->type == LUMO_INT64 || column->type == LUMO_NUMBER || column->type == LUMO_DECIMAL;
}

void lumo_check_amount(lua_State *L, const char *method, int index) {
  lumo_value value;
  if (lua_type(L, index) == LUA_TNUMBER) return;
  if (lumo_test_value(L, index, &value) && (value.type == LUMO_BSON_INT64 || value.type == LUMO_BSON_DECIMAL))
    return;
  lumo_raise_argument(L, method, 2, "a number", index);
}

/* The number at `index` gives way to its opposite; of a decimal the encoder's bytes are turned round. */
static void negate(lua_State *L, int index, const lumo_column *column, const lumo_place *place) {
  int64_t v;
  if (lumo_isinteger(L, index) || lumo_test_int64(L, index, &v)) {
    lumo_to_integer(L, index, &v);
    if (v == INT64_MIN) lumo_raise_cast(L, place, column, index, "cannot be decremented by -2^63");
    lumo_push_int64(L, -v);
  } else if (lua_type(L, index) == LUA_TNUMBER) {
    lua_pushnumber(L, -lua_tonumber(L, index));
  } else {
    return;
  }
  lua_replace(L, index);
}

void lumo_encode_amount(lua_State *L, int index, bool negated, const lumo_column *column,
                        const lumo_buf *path, lumo_buf *out, const lumo_place *place) {
  if (!is_number(column)) lumo_raise_cast(L, place, column, index, "is not a number");
  bool decimal = lua_type(L, index) == LUA_TUSERDATA && !lumo_test_int64(L, index, &(int64_t){0});
  if (negated) negate(L, index, column, place);
  lumo_encode(L, index, column, (const char *)path->data, path->len, NULL, out, place, LUMO_ENCODE_DATA);
  if (negated && decimal && !out->failed) out->data[out->len - 1] ^= 0x80; /* the sign is the highest bit */
}

/* Appends the elements of the operator's document; gives its name. */
static const char *write_operator(lua_State *L, const target *to, int argument, lumo_buf *out) {
  if (strcmp(to->method, "push") == 0) {
    write_each(L, to, argument, out);
    return "$push";
  }
  if (strcmp(to->method, "add_to_set") == 0) {
    write_each(L, to, argument, out);
    return "$addToSet";
  }
  if (strcmp(to->method, "pull") == 0) return write_pull(L, to, argument, out);
  if (strcmp(to->method, "unset") == 0) {
    lumo_bson_boolean(out, path_text(to), to->path->len, true);
    return "$unset";
  }
  lumo_place place = place_of(to);
  lumo_check_amount(L, to->method, argument);
  lumo_encode_amount(L, argument, false, to->column, to->path, out, &place);
  return "$inc";
}

/* ---- the plan and its outcome ---- */

static lumo_record *check_stored(lua_State *L, const char *method) {
  lumo_record *record = lumo_test_record(L, 1);
  if (!record) lumo_raise_code(L, "E_ARGUMENT", "%s needs a record", method);
  lumo_check_record_key(L, record, method);
  return record;
}

/* core.operator_plan(record, method, path, argument): → a findAndModify that gives the field as it is
 * afterwards; of push and add_to_set also the list of the values as they are cast, where elements are
 * declared. The methods are push pull add_to_set unset inc increment, the argument a list of values (of the
 * first three), a number (of the last two), nil. */
static int operator_plan(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  target to = {.method = luaL_checkstring(L, 2)};
  to.record = check_stored(L, to.method);
  lua_settop(L, 4);
  resolve(L, 1, 3, &to);                    /* 5 */
  lumo_buf *elements = lumo_push_buffer(L); /* 6 */
  lumo_buf *command = lumo_push_buffer(L);  /* 7 */
  const char *name = write_operator(L, &to, 4, elements);
  const char *collection = to.record->schema->collection;
  size_t mark = lumo_bson_begin(command);
  lumo_bson_string(command, LUMO_KEY("findAndModify"), collection, strlen(collection));
  lumo_bson_key(command, LUMO_BSON_DOCUMENT, LUMO_KEY("query"));
  lumo_write_id_filter(to.record, NULL, command);
  size_t update = lumo_bson_begin_document(command, LUMO_KEY("update"));
  size_t inner = lumo_bson_begin_document(command, name, strlen(name));
  lumo_buf_append(command, elements->data, elements->len);
  lumo_bson_end(command, inner);
  lumo_bson_end(command, update);
  size_t fields = lumo_bson_begin_document(command, LUMO_KEY("fields"));
  lumo_bson_boolean(command, path_text(&to), to.top_len, true);
  lumo_bson_end(command, fields);
  lumo_bson_boolean(command, LUMO_KEY("new"), true);
  lumo_bson_end(command, mark);
  lumo_check_buffer(L, elements);
  lumo_check_buffer(L, command);
  lumo_prepare_plan(L);
  lumo_fill_plan(L, lua_gettop(L), LUMO_PLAN_COMMAND,
                 lumo_command_plan_new(to.method, NULL, command, true, &error), &error);
  if (strcmp(to.method, "push") != 0 && strcmp(to.method, "add_to_set") != 0) return 1;
  lua_pushvalue(L, 4);
  return 2;
}

/* core.record_operated(record, plan, path): the record takes over the field that the operator has changed,
 * and nothing else. False when there was no document. */
static int record_operated(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  const lumo_record *record = check_stored(L, "change");
  const lumo_command_plan *plan = lumo_check_plan(L, 2, LUMO_PLAN_COMMAND);
  const lumo_column *column;
  size_t len;
  const char *name = luaL_checklstring(L, 3, &len);
  lumo_value document, value = {0};
  bool found = lumo_bson_find(plan->reply, plan->reply_len, LUMO_KEY("value"), &document) &&
               document.type == LUMO_BSON_DOCUMENT;
  lua_pushboolean(L, found);
  if (!found) return 1;
  lumo_buf *path = lumo_push_buffer(L);
  if (!lumo_schema_resolve(record->schema, name, len, path, &column, &error)) lumo_raise(L, &error);
  const uint8_t *dot = memchr(path->data, '.', path->len);
  size_t top_len = dot ? (size_t)(dot - path->data) : path->len;
  lumo_bson_find(document.data, document.len, (const char *)path->data, top_len, &value);
  lumo_record_take_field(L, 1, (const char *)path->data, top_len, &value);
  lua_pop(L, 1);
  return 1;
}

void lumo_open_operators(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"operator_plan", operator_plan}, {"record_operated", record_operated}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
