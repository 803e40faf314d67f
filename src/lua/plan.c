/* Plans as userdata: who owns one, and which kind it is. */
#include "../core/plan.h"

#include "private.h"

typedef struct {
  lumo_plan *plan;
  lumo_plan_kind kind;
  bool lent; /* to a job */
} plan_box;

void lumo_prepare_plan(lua_State *L) {
  plan_box *box = lumo_newud(L, sizeof *box);
  *box = (plan_box){0};
  lumo_get(L, &LUMO_MT_PLAN);
  lua_setmetatable(L, -2);
}

void lumo_fill_plan(lua_State *L, int i, lumo_plan_kind kind, void *plan, lumo_error *error) {
  plan_box *box = lua_touserdata(L, i);
  if (!plan) lumo_raise(L, error);
  box->plan = plan;
  box->kind = kind;
}

void *lumo_check_plan(lua_State *L, int i, lumo_plan_kind kind) {
  plan_box *box = lumo_test(L, i, &LUMO_MT_PLAN);
  if (!box || !box->plan || box->kind != kind)
    lumo_raise_code(L, "E_ARGUMENT", "a plan of another kind is expected");
  return box->plan;
}

lumo_plan *lumo_check_any_plan(lua_State *L, int i) {
  plan_box *box = lumo_test(L, i, &LUMO_MT_PLAN);
  if (box && box->lent)
    lumo_raise_code(L, "E_ARGUMENT", "the operation has not come to its end; another coroutine waits for it");
  if (!box || !box->plan) lumo_raise_code(L, "E_ARGUMENT", "a plan is expected");
  return box->plan;
}

bool lumo_plan_is_lent(lua_State *L, int i) {
  plan_box *box = lumo_test(L, i, &LUMO_MT_PLAN);
  return box && box->lent;
}

void lumo_lend_plan(lua_State *L, int i) {
  plan_box *box = lua_touserdata(L, i);
  box->plan = NULL;
  box->lent = true;
}

void lumo_return_plan(lua_State *L, int i, lumo_plan *plan) {
  plan_box *box = lumo_test(L, i, &LUMO_MT_PLAN);
  if (box && box->lent) {
    box->plan = plan;
    box->lent = false;
  } else {
    lumo_plan_free(plan); /* it was closed in the meantime */
  }
}

static int plan_gc(lua_State *L) {
  plan_box *box = lua_touserdata(L, 1);
  lumo_plan_free(box->plan);
  box->plan = NULL;
  box->lent = false;
  return 0;
}

/* core.plan_joined(plans, atomic): the statements of several writes of one collection as one, in their order.
 */
static int plan_joined(lua_State *L) {
  lumo_error error;
  lumo_error_init(&error);
  luaL_checktype(L, 1, LUA_TTABLE);
  bool atomic = lua_toboolean(L, 2);
  const lumo_write_plan *first = NULL;
  lua_settop(L, 1);
  lumo_buf *statements = lumo_push_buffer(L); /* 2 */
  int count = (int)lua_rawlen(L, 1);
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, 1, i);
    const lumo_write_plan *plan = lumo_check_plan(L, -1, LUMO_PLAN_WRITE);
    if (!first) first = plan;
    lumo_buf_append(statements, plan->statements.data, plan->statements.len);
    lua_pop(L, 1); /* the list keeps it */
  }
  if (!first) lumo_raise_code(L, "E_ARGUMENT", "a plan of another kind is expected");
  lumo_check_buffer(L, statements);
  lumo_prepare_plan(L); /* 3 */
  lumo_fill_plan(L, 3, LUMO_PLAN_WRITE,
                 lumo_write_plan_new(first->plan.name, first->collection, statements, true, atomic, &error),
                 &error);
  return 1;
}

/* core.plan_close(plan): frees it now, an open cursor included. */
static int plan_close(lua_State *L) {
  if (!lumo_test(L, 1, &LUMO_MT_PLAN)) lumo_raise_code(L, "E_ARGUMENT", "a plan is expected");
  return plan_gc(L);
}

void lumo_open_plan(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__gc", plan_gc}, {NULL, NULL}};
  lumo_metatable(L, &LUMO_MT_PLAN, "lumo.plan", NULL, metamethods);
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {
      {"plan_joined", plan_joined}, {"plan_close", plan_close}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
