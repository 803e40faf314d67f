/* The table of contents of the binding: one file per kind of thing, what each offers to the others. A
 * function that may raise says so; whatever is allocated when it does belongs to a userdata or to the scratch
 * buffer. */
#ifndef LUMO_LUA_PRIVATE_H
#define LUMO_LUA_PRIVATE_H

#include "../core/bson.h"
#include "../core/error.h"
#include "../core/keys.h"
#include "../core/plan.h"
#include "../core/schema.h"
#include "../driver/driver.h"
#include "compat.h"

/* Each lumo_open_… adds its file's functions to the table on top of the stack (the module lumo.core) and
 * makes its metatables. */
void lumo_open_error(lua_State *L);
void lumo_open_values(lua_State *L);
void lumo_open_codec(lua_State *L);
void lumo_open_schema(lua_State *L);
void lumo_open_record(lua_State *L);
void lumo_open_operators(lua_State *L);
void lumo_open_row(lua_State *L);
void lumo_open_query(lua_State *L);
void lumo_open_where(lua_State *L); /* after the query, whose methods it adds to */
void lumo_open_query_plan(lua_State *L);
void lumo_open_cursor(lua_State *L);
void lumo_open_relation(lua_State *L);
void lumo_open_has(lua_State *L);
void lumo_open_plan(lua_State *L);
void lumo_open_policy(lua_State *L);
void lumo_open_run(lua_State *L);
void lumo_open_connection(lua_State *L);
void lumo_open_explain(lua_State *L);
void lumo_open_job(lua_State *L);
void lumo_open_embedded(lua_State *L);

/* ---- state.c: what the state shares ---- */

/* Registry slots by address: lumo_get pushes, lumo_set pops. */
extern const char LUMO_MT_ERROR, LUMO_MT_OBJECTID, LUMO_MT_DATETIME, LUMO_MT_DECIMAL, LUMO_MT_BINARY,
    LUMO_MT_UUID, LUMO_MT_INT64, LUMO_MT_VALUE, LUMO_MT_ARRAY, LUMO_MT_ORDERED, LUMO_MT_SCHEMA, LUMO_MT_QUERY,
    LUMO_MT_RELATION, LUMO_MT_PLAN, LUMO_MT_CONNECTION, LUMO_MT_SESSION, LUMO_MT_POLICY, LUMO_MT_JOB,
    LUMO_MT_SLOT, LUMO_MT_LISTENER, LUMO_OBJECTIDS, LUMO_COLUMN_FUNCTION, LUMO_SCRATCH;
void lumo_get(lua_State *L, const char *slot);
void lumo_set(lua_State *L, const char *slot);
/* Pops a metatable into its slot, with its slot as [1], by which lumo_test knows it. */
void lumo_register_metatable(lua_State *L, const char *slot);
/* A new registered metatable with these methods as __index and these metamethods; leaves it on the stack.
 * `__metatable` is set, so that scripts cannot reach it. */
void lumo_metatable(lua_State *L, const char *slot, const char *name, const luaL_Reg *methods,
                    const luaL_Reg *metamethods);
/* Makes the metatable on the top of the stack one of those by which lumo_test knows what belongs to the slot.
 */
void lumo_mark_metatable(lua_State *L, const char *slot);
/* Calls a function of a column's definition (default, validate, …), with `arguments` on the stack above it,
 * for one result. While it runs, lumo sends nothing: lumo_in_column_function says so. */
void lumo_call_column_function(lua_State *L, int arguments);
bool lumo_in_column_function(lua_State *L);
void lumo_refuse_in_column_function(lua_State *L); /* raises there */
/* The userdata at i if it has the metatable of this slot, else NULL. Raises nothing. */
void *lumo_test(lua_State *L, int i, const char *slot);

/* ---- error.c: the one maker of error objects ---- */

/* Raises; frees what the error owns. E_MEMORY becomes Lua's own "not enough memory". */
int lumo_raise(lua_State *L, lumo_error *error) __attribute__((noreturn));
/* For misuse found by the binding. */
int lumo_raise_code(lua_State *L, const char *code, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
/* E_ARGUMENT for argument `arg` (counted as the user sees it, self not included) of public method `method`:
 * what was expected, what came. */
int lumo_raise_argument(lua_State *L, const char *method, int arg, const char *expected, int index)
    __attribute__((noreturn));
/* E_CAST and its like: also says the model (or NULL) and the path inside it. */
int lumo_raise_place(lua_State *L, const char *code, const char *model, const char *attribute,
                     const char *message) __attribute__((noreturn));
/* The error object as a value on the stack (for pcall-like results); frees what the error owns. */
void lumo_push_error(lua_State *L, lumo_error *error);
/* What stands at i, in the words of error messages: "string", "lumo.objectid", "lumo.null". */
const char *lumo_typename(lua_State *L, int i);

/* ---- values.c: BSON values that Lua has no type for ---- */

void lumo_push_new_objectid(lua_State *L, const uint8_t id[12]); /* for objectids.c alone */
const uint8_t *lumo_test_objectid(lua_State *L, int i);          /* its 12 bytes, or NULL */
void lumo_push_datetime(lua_State *L, int64_t ms);
bool lumo_test_datetime(lua_State *L, int i, int64_t *ms);
/* An integer of 64 bits: Lua 5.4 an integer; LuaJIT a number within 2^53, else a lumo.int64. */
void lumo_push_int64(lua_State *L, int64_t v);
bool lumo_test_int64(lua_State *L, int i, int64_t *v); /* a lumo.int64 userdata */
/* The value that a userdata of this file stands for (any of the kinds above, decimal, binary, uuid, rare).
 * False when it is none of ours. The view is into the userdata. */
bool lumo_test_value(lua_State *L, int i, lumo_value *out);
/* Pushes the userdata for a decimal, binary, uuid or rare value. */
void lumo_push_bson_value(lua_State *L, const lumo_value *v);
/* Conversions that lose nothing, shared by the constructors and the encoder; false for all else. Integers: a
 * lumo.int64, an integral number within 64 bits. Dates: a lumo.datetime, seconds, ISO 8601 text, an
 * os.date"*t" table. Decimals: a lumo.decimal, its text, an integer. */
bool lumo_to_integer(lua_State *L, int i, int64_t *v);
bool lumo_to_date(lua_State *L, int i, int64_t *ms);
bool lumo_to_decimal(lua_State *L, int i, uint8_t decimal[16]);
/* lumo.null and the null of cjson and nginx: lightuserdata NULL. */
bool lumo_is_null(lua_State *L, int i);

/* ---- objectids.c: one userdata for equal ids ---- */

void lumo_open_objectids(lua_State *L); /* by lumo_open_values */
void lumo_push_objectid(lua_State *L, const uint8_t id[12]);

/* ---- encode.c: Lua to BSON, the only place that does ---- */

/* Where a value stands, for error messages: `model` may be NULL, the path is made of the frames. */
typedef struct lumo_place {
  const char *model;               /* "Post", or NULL */
  const struct lumo_place *parent; /* the enclosing value, or NULL */
  const char *key;                 /* a field's name; NULL: an array element */
  size_t key_len;
  lua_Integer position; /* of an array element, from 1 */
} lumo_place;

typedef enum {
  LUMO_ENCODE_DATA, /* attributes, values: keys that are empty, dotted or begin with "$" are E_CAST, but for
                       those that the stored value has and DBRef's */
  LUMO_ENCODE_RAW,  /* lumo.bson.encode, commands, where_raw: any key without NUL */
} lumo_encode_mode;

/* Appends the value at `index` to `buf` as the element `key`, cast to `column` (NULL: untyped). `stored` is
 * what the document holds in this place (or NULL): its key order is kept, and its number types where the
 * number is the same. `buf` must be owned by a userdata: this raises E_CAST (with the path) and then leaves
 * `buf` longer than it was. nil is an error here: the caller decides what nil means. lumo.null is written as
 * null for any column. Calls no metamethod and no user function, and makes nothing in Lua unless it raises.
 */
void lumo_encode(lua_State *L, int index, const lumo_column *column, const char *key, size_t key_len,
                 const lumo_value *stored, lumo_buf *buf, const lumo_place *place, lumo_encode_mode mode);
/* A whole document from a table (a plain table with string keys or a lumo.ordered); `fields` may be NULL. Not
 * for sequences. */
void lumo_encode_document(lua_State *L, int index, const lumo_schema *fields, const lumo_value *stored,
                          lumo_buf *buf, const lumo_place *place, lumo_encode_mode mode);
void lumo_open_encode(lua_State *L); /* by lumo_open_codec */
/* The scratch buffer of this state, emptied: for building something within one C function that is used up
 * before anything is called or made in Lua (also lua_pushlstring may run the collector, and so a finalizer
 * that uses lumo). lumo_encode makes nothing. */
lumo_buf *lumo_scratch(lua_State *L);
/* The same, pushed and lent: nobody else gets it before it is returned. An error need not return it. */
lumo_buf *lumo_lend_scratch(lua_State *L);
void lumo_return_scratch(lumo_buf *buf);
/* A buffer as a userdata on the stack, for what must outlive calls. */
lumo_buf *lumo_push_buffer(lua_State *L);
/* Raises E_MEMORY if the buffer has failed. */
void lumo_check_buffer(lua_State *L, lumo_buf *buf);
/* What a value of the column has to be: "an integer"; of NULL: "a value". */
const char *lumo_expectation(const lumo_column *column);
/* E_CAST for the value at `index`: `"Post.views" expects an integer, got string`; never shows the value. With
 * `why` in place of "expects …" (`index` is then not looked at). */
int lumo_raise_cast(lua_State *L, const lumo_place *place, const lumo_column *column, int index,
                    const char *why) __attribute__((noreturn));

/* ---- operators.c ---- */

/* How much an increment adds or, negated, takes: raises E_ARGUMENT unless the second argument of the method,
 * at `index`, is a number, a lumo.int64 or a lumo.decimal. */
void lumo_check_amount(lua_State *L, const char *method, int index);
/* Appends it as the element `path`; it may be changed at its place. Raises E_CAST for a column of no numbers.
 */
void lumo_encode_amount(lua_State *L, int index, bool negated, const lumo_column *column,
                        const lumo_buf *path, lumo_buf *out, const lumo_place *place);

/* ---- decode.c: BSON to Lua ---- */

/* Pushes a value. Documents and arrays become tables (arrays with the lumo.array metatable), null becomes
 * lumo.null; a missing value (LUMO_BSON_END) nil. */
void lumo_push_value(lua_State *L, const lumo_value *v);
/* The same for a column: raises E_CAST if the stored value is not one that the column's type can hold (null
 * and missing become nil). */
void lumo_push_column_value(lua_State *L, const lumo_value *v, const lumo_column *column,
                            const lumo_place *place);
/* Whether reading a document of these fields leaves out the undeclared field `key`, as its name is an
 * attribute's that is stored under another. */
bool lumo_is_hidden(const lumo_schema *fields, const char *key, size_t key_len);
/* The fields that were left out when the table at `index` was read; false: none. Makes nothing in Lua. */
bool lumo_find_hidden(lua_State *L, int index, lumo_iter *it);
/* Pushes the table of a whole document. */
void lumo_push_document(lua_State *L, const uint8_t *doc, size_t len);

/* ---- schema.c ---- */
const lumo_schema *lumo_check_schema(lua_State *L, int i);
/* Whether the companion table of the schema userdata at i holds defaults by column number (from 1). */
bool lumo_schema_has_defaults(lua_State *L, int i);
/* Pushes a function (one LUMO_COLUMN_…) of a column from the schema userdata at i; nil: it has none. */
void lumo_push_column_function(lua_State *L, int i, uint32_t column, int function);

/* ---- record.c ---- */
typedef struct lumo_record lumo_record;
/* NULL if the value at i is not a record. */
lumo_record *lumo_test_record(lua_State *L, int i);
/* Pushes a persisted record of the class (a record metatable) at `klass`, whose schema is given, with a copy
 * of the pivot document (or NULL). `companion` is the stack place of a table that the record shares as its
 * companion until it needs one of its own, 0: none. With `shared` the document is not copied: it lies in the
 * userdata that the companion holds at [0]. */
lumo_record *lumo_push_record(lua_State *L, int klass, const lumo_schema *schema, int companion, bool shared,
                              const uint8_t *doc, uint32_t doc_len, const uint8_t *pivot, uint32_t pivot_len,
                              uint16_t connection);
/* Pushes another record that shares the document of a new one, with its companion at `companion`: its columns
 * need not be looked for. */
void lumo_push_twin(lua_State *L, int klass, const lumo_record *like, int companion, const uint8_t *pivot,
                    uint32_t pivot_len);
/* Pushes a record that is not stored yet; the buffer holds its block: places and document. */
lumo_record *lumo_push_local(lua_State *L, int klass, const lumo_schema *schema, const lumo_buf *block,
                             uint16_t connection);
/* The schema of the class at i. */
const lumo_schema *lumo_class_schema(lua_State *L, int i);
/* Whether the record was read by a select, so that what it lacks may be in the document. */
bool lumo_record_is_partial(lua_State *L, int i);
/* The current value of a column as an element `key` appended to buf (owned by a userdata). False: it has
 * none. */
bool lumo_record_element(lua_State *L, int record, uint32_t column, const char *key, size_t key_len,
                         lumo_buf *buf);

/* Raises E_MISSING_ATTRIBUTE_VALUE if the record has no key by which it is found again. */
void lumo_check_record_key(lua_State *L, const lumo_record *record, const char *method);
/* Appends the filter {_id: id} of a record that is stored, with further conditions (or NULL). */
void lumo_write_id_filter(const lumo_record *record, const lumo_buf *conditions, lumo_buf *out);
/* Whether a column's value differs from what is stored. */
bool lumo_record_changed(lua_State *L, int record, uint32_t column);
/* The record takes over a field as the server has it now; a missing one is removed. Other changes of the
 * record stay as they are. */
void lumo_record_take_field(lua_State *L, int record, const char *stored, size_t len,
                            const lumo_value *value);
/* Puts the cast value on top of the stack in the place of a column of the record at i; pops it. */
void lumo_put_attribute(lua_State *L, int i, lumo_record *record, uint32_t number);
/* Checks a name that no column declares, and its value (nil is none): only models that are not strict take
 * it, and not under a name that a column is stored by. */
void lumo_check_undeclared(lua_State *L, const lumo_schema *schema, const char *name, size_t len, int value);

/* ---- query.c ---- */
typedef struct lumo_relation lumo_relation;
typedef enum {
  LUMO_QUERY_MODEL,
  LUMO_QUERY_RELATED,
  LUMO_QUERY_PIVOT,
  /* What where_elem_match hands to its function: conditions on an array's elements, which are documents … */
  LUMO_QUERY_ELEMENT,
  LUMO_QUERY_VALUE, /* … or values, whose conditions name no column */
} lumo_query_kind;
typedef struct lumo_query_box lumo_query_box;
/* Pushes an empty query over a schema (the userdata at `schema`), with a new companion table that keeps it;
 * lua/lumo keeps its own things there, too. */
lumo_query_box *lumo_push_query(lua_State *L, int schema, lumo_query_kind kind);

/* ---- plan.c ---- */
/* What a plan userdata holds: which struct, and so which results. */
typedef enum {
  LUMO_PLAN_READ,
  LUMO_PLAN_WRITE,
  LUMO_PLAN_COMMAND,
  LUMO_PLAN_PAIRS,
  LUMO_PLAN_RELATED
} lumo_plan_kind;
/* A plan userdata is pushed empty first, so that nothing can raise between making the plan and owning it. */
void lumo_prepare_plan(lua_State *L);
/* Gives the plan to the userdata at i; a NULL plan raises `error`. */
void lumo_fill_plan(lua_State *L, int i, lumo_plan_kind kind, void *plan, lumo_error *error);
void *lumo_check_plan(lua_State *L, int i, lumo_plan_kind kind);
lumo_plan *lumo_check_any_plan(lua_State *L, int i);
/* The plan of the userdata at i is somebody else's from now on, until it is returned. Neither raises. */
void lumo_lend_plan(lua_State *L, int i);
void lumo_return_plan(lua_State *L, int i, lumo_plan *plan);
bool lumo_plan_is_lent(lua_State *L, int i);

/* ---- policy.c ---- */
lumo_policy *lumo_opt_policy(lua_State *L, int i); /* NULL for nil */

/* ---- connection.c ---- */
lumo_connection *lumo_check_connection(lua_State *L, int i);
lumo_session *lumo_opt_session(lua_State *L, int i); /* NULL for nil */
void lumo_mark_threaded(lua_State *L, int i);        /* jobs of the session at i, if there is one */
/* A session userdata, pushed empty first: nothing can raise between making a session and owning it. */
lumo_session **lumo_prepare_session(lua_State *L);
void lumo_push_server(lua_State *L, const lumo_server_info *info);

#endif
