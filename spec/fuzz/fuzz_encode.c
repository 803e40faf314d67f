/* Tables of any shape through the encoder: as documents, as attributes of typed columns, as changes of a
 * record. */
#include "lua_values.h"

static const char script[] = SCHEMA
    "local function class(strict) return core.record_class(schema(strict), {}, {}, function() end) end\n"
    "local classes = { class(true), class(false) }\n"
    "local function lumo_error(ok, err)\n"
    "  if ok or core.is_error(err) then return ok, err end\n"
    "  error('no error object: ' .. tostring(err))\n"
    "end\n"
    "local function try(fn, ...) return lumo_error(pcall(fn, ...)) end\n"
    "local function as_document(value)\n"
    "  local ok, bytes = try(core.bson_encode, value)\n"
    "  if not ok then return end\n"
    "  local decoded = core.bson_decode(bytes)\n" /* what was encoded is valid */
    "  local once = core.bson_encode(decoded)\n"
    "  assert(core.bson_encode(core.bson_decode(once)) == once)\n"
    "  assert(core.bson_from_json(core.bson_to_json(bytes, 'canonical')))\n"
    "end\n"
    "local function as_record(class, value, change)\n"
    "  local ok, record = try(core.record_new, class, value, 0, 1)\n"
    "  if not ok then return end\n"
    "  core.record_json(record)\n"
    "  core.record_table(record, true)\n"
    "  core.record_dirty(record)\n"
    "  try(core.insert_plan, { record }, 1, false)\n"
    "  core.record_stored(record, false, 0)\n"
    "  try(core.record_attributes, record)\n"
    "  try(core.record_merge, record, change, false)\n"
    "  try(core.record_set, record, 'any', change)\n"
    "  try(core.update_plan, record, 2, false)\n"
    "  try(core.record_dirty, record)\n"
    "end\n"
    "function run(value, change)\n"
    "  as_document(value)\n"
    "  if type(change) == 'table' then as_document(change) end\n"
    "  for _, class in ipairs(classes) do as_record(class, value, change) end\n"
    "end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L;
  static unsigned runs;
  input in = {data, size};
  if (!L) L = new_state(script);
  lua_settop(L, 0);
  push_value(L, &in, 0, 0);
  push_value(L, &in, 0, 1);
  call_script(L, "run", 2);
  lua_settop(L, 0);
  if (++runs % 64 == 0) lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}
