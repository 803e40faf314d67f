/* Calls of the query builder with arguments of any kind: refused without a trace, or a filter that is a
 * document. */
#include "lua_values.h"

static const char script[] = SCHEMA
    "local methods, list = core.query_methods, {}\n"
    "for name, fn in pairs(methods) do if type(fn) == 'function' then list[#list + 1] = name end end\n"
    "table.sort(list)\n"
    "local schemas = { schema(true), schema(false) }\n"
    "local query\n"
    "function begin(n) query = core.query_new(schemas[n % 2 + 1]) end\n"
    "function call(n, ...)\n"
    "  local before = tostring(query)\n"
    "  local ok, err = pcall(methods[list[n % #list + 1]], query, ...)\n"
    "  if ok then return end\n"
    "  assert(core.is_error(err), tostring(err))\n"
    "  assert(tostring(query) == before, list[n % #list + 1] .. ' was refused and has changed the query')\n"
    "end\n"
    "function open(n)\n"
    "  local ok, count, depth, joins = pcall(core.query_open, query, n % 2 == 0 and 'and' or 'or', n % 4 > 1)\n"
    "  if ok and n % 8 > 5 then core.query_rewind(query, count, depth, joins) end\n"
    "end\n"
    "function close() core.query_close(query) end\n"
    "function finish(values)\n"
    "  local text = tostring(query)\n"
    "  assert(tostring(core.query_clone(query)) == text)\n"
    "  assert(core.query_find_plan(query, 'find', 0, false))\n"
    "  pcall(core.query_update_plan, query, values)\n"
    "  pcall(core.query_delete_plan, query)\n"
    "end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L;
  static unsigned runs;
  input in = {data, size};
  if (!L) L = new_state(script);
  lua_settop(L, 0);
  lua_pushinteger(L, take(&in));
  call_script(L, "begin", 1);
  for (int calls = 0; in.left > 0 && calls < 12; calls++) {
    unsigned what = take(&in);
    lua_pushinteger(L, what >> 3);
    switch (what % 8) {
    case 0: call_script(L, "open", 1); break;
    case 1:
      lua_pop(L, 1);
      call_script(L, "close", 0);
      break;
    default: {
      int arguments = (int)(take(&in) % 4);
      lua_pop(L, 1);
      lua_pushinteger(L, take(&in));
      for (int i = 0; i < arguments; i++) {
        if (i == 0 && take(&in) % 4)
          push_name(L, &in);
        else
          push_value(L, &in, 0, lua_gettop(L));
      }
      call_script(L, "call", 1 + arguments);
    }
    }
    lua_settop(L, 0);
  }
  push_value(L, &in, 0, 0);
  call_script(L, "finish", 1);
  lua_settop(L, 0);
  if (++runs % 64 == 0) lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}
