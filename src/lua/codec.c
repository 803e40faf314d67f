/* lumo.bson: Lua tables, BSON bytes and Extended JSON text, each into the next. */
#include "private.h"

#include <string.h>

#include "../core/json.h"

/* The bytes of argument 1 of a codec function, checked: everything behind this walks them without fear. */
static const uint8_t *check_document(lua_State *L, const char *method, size_t *len) {
  size_t at;
  if (lua_type(L, 1) != LUA_TSTRING) lumo_raise_argument(L, method, 1, "a string of BSON bytes", 1);
  const uint8_t *doc = (const uint8_t *)lua_tolstring(L, 1, len);
  if (!lumo_bson_validate(doc, *len, &at))
    lumo_raise_code(L, "E_ARGUMENT", "bad argument #1 to \"%s\" (not a BSON document: byte %llu is wrong)",
                    method, (unsigned long long)at);
  return doc;
}

/* The bytes of the lent buffer as the result. */
static int push_buffer(lua_State *L, lumo_buf *buf) {
  lumo_check_buffer(L, buf);
  lua_pushlstring(L, (const char *)buf->data, buf->len);
  lumo_return_scratch(buf);
  return 1;
}

static int codec_encode(lua_State *L) {
  if (lua_type(L, 1) != LUA_TTABLE) lumo_raise_argument(L, "lumo.bson.encode", 1, "a table", 1);
  lumo_buf *buf = lumo_lend_scratch(L);
  lumo_encode_document(L, 1, NULL, NULL, buf, NULL, LUMO_ENCODE_RAW);
  return push_buffer(L, buf);
}

static int codec_decode(lua_State *L) {
  size_t len;
  const uint8_t *doc = check_document(L, "lumo.bson.decode", &len);
  lumo_push_document(L, doc, len);
  return 1;
}

static int codec_to_json(lua_State *L) {
  size_t len;
  const uint8_t *doc = check_document(L, "lumo.bson.to_json", &len);
  const char *mode = lua_isnoneornil(L, 2)           ? "relaxed"
                     : lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2)
                                                     : "";
  bool canonical = strcmp(mode, "canonical") == 0;
  if (!canonical && strcmp(mode, "relaxed") != 0)
    lumo_raise_argument(L, "lumo.bson.to_json", 2, "\"canonical\" or \"relaxed\"", 2);
  lumo_buf *buf = lumo_lend_scratch(L);
  lumo_json_document(buf, doc, len, false, canonical ? LUMO_JSON_CANONICAL : LUMO_JSON_RELAXED);
  return push_buffer(L, buf);
}

static int codec_from_json(lua_State *L) {
  size_t len;
  lumo_error error;
  if (lua_type(L, 1) != LUA_TSTRING) lumo_raise_argument(L, "lumo.bson.from_json", 1, "a string", 1);
  const char *text = lua_tolstring(L, 1, &len);
  lumo_buf *buf = lumo_lend_scratch(L);
  lumo_error_init(&error);
  if (!lumo_json_parse(buf, text, len, &error)) lumo_raise(L, &error);
  return push_buffer(L, buf);
}

static const luaL_Reg functions[] = {{"bson_encode", codec_encode},
                                     {"bson_decode", codec_decode},
                                     {"bson_to_json", codec_to_json},
                                     {"bson_from_json", codec_from_json},
                                     {NULL, NULL}};

void lumo_open_codec(lua_State *L) {
  lumo_open_encode(L);
  luaL_setfuncs(L, functions, 0);
}
