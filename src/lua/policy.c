/* Policies as userdata: what lua/lumo/policy.lua has checked, for connections, transactions and plans. */
#include "../driver/driver.h"

#include "private.h"

typedef struct {
  lumo_policy *policy;
} policy_box;

lumo_policy *lumo_opt_policy(lua_State *L, int i) {
  if (lua_isnoneornil(L, i)) return NULL;
  policy_box *box = lumo_test(L, i, &LUMO_MT_POLICY);
  if (!box || !box->policy) lumo_raise_code(L, "E_ARGUMENT", "a policy is expected");
  return box->policy;
}

static int policy_gc(lua_State *L) {
  policy_box *box = lua_touserdata(L, 1);
  lumo_policy_unref(box->policy);
  box->policy = NULL;
  return 0;
}

static const char *text_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  const char *text = lua_tostring(L, -1);
  lua_pop(L, 1); /* the table keeps it */
  return text;
}

static int32_t number_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  int32_t number = (int32_t)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return number;
}

static int flag_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  int flag = lua_isnil(L, -1) ? 0 : lua_toboolean(L, -1) ? 1 : -1;
  lua_pop(L, 1);
  return flag;
}

/* The list of tag documents as the bytes of an array, in a buffer that is left on the stack. */
static void take_tags(lua_State *L, lumo_policy_options *options) {
  static const lumo_column list = {.name = "tags", .type = LUMO_ARRAY};
  lumo_place place = {.key = "tags", .key_len = 4};
  lumo_buf *buf = lumo_push_buffer(L);
  lua_getfield(L, 1, "tags");
  if (lua_isnil(L, -1)) return;
  lumo_value tags;
  size_t mark = lumo_bson_begin(buf);
  lumo_encode(L, lua_gettop(L), &list, LUMO_KEY("tags"), NULL, buf, &place, LUMO_ENCODE_RAW);
  lumo_bson_end(buf, mark);
  lumo_check_buffer(L, buf);
  if (!lumo_bson_find(buf->data, (uint32_t)buf->len, LUMO_KEY("tags"), &tags)) return;
  options->tags = tags.data;
  options->tags_len = tags.len;
}

/* core.policy_new{ read_mode, tags, max_staleness, read_concern, w_tag, w, journal, wtimeout, max_commit } */
static int policy_new(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  policy_box *box = lumo_newud(L, sizeof *box); /* 2 */
  box->policy = NULL;
  lumo_get(L, &LUMO_MT_POLICY);
  lua_setmetatable(L, 2);
  lumo_policy_options options = {.read_mode = text_field(L, "read_mode"),
                                 .max_staleness_s = number_field(L, "max_staleness"),
                                 .read_concern = text_field(L, "read_concern"),
                                 .w_tag = text_field(L, "w_tag"),
                                 .w = number_field(L, "w"),
                                 .journal = flag_field(L, "journal"),
                                 .wtimeout_ms = number_field(L, "wtimeout"),
                                 .max_commit_ms = number_field(L, "max_commit")};
  take_tags(L, &options);
  box->policy = lumo_policy_new(&options, &error);
  if (!box->policy) lumo_raise(L, &error);
  lua_settop(L, 2);
  return 1;
}

/* core.plan_policy(plan, policy): the plan goes by it from now on. */
static int plan_policy(lua_State *L) {
  lumo_plan *plan = lumo_check_any_plan(L, 1);
  lumo_policy *policy = lumo_opt_policy(L, 2);
  if (policy) lumo_policy_give(policy, plan);
  return 0;
}

void lumo_open_policy(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__gc", policy_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"policy_new", policy_new}, {"plan_policy", plan_policy}, {NULL, NULL}};
  lumo_metatable(L, &LUMO_MT_POLICY, "lumo.policy", NULL, metamethods);
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
