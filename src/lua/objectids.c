/* The ObjectIds that a state has as values: equal ids are one userdata, so that == and table keys work.
 *
 * A set of the 12 bytes in C, by open addressing, beside a table that holds the userdata weakly, each under
 * the number of its id's slot (from 1). No string is made of an id, and nothing needs a finalizer: the slot
 * of an id whose userdata has been collected stays until that id comes again or the set is made anew. */
#include <string.h>

#include "../core/text.h"
#include "private.h"

typedef struct slot {
  uint8_t id[12];
  uint32_t tag; /* of the id's hash; 0: free */
} slot;

/* A userdata whose companion is the weak table. */
typedef struct id_set {
  uint64_t seed[2]; /* ids may come from outside: nobody shall know which of them collide */
  uint32_t count, used;
  bool replaced; /* it is the state's no more */
  slot slots[];  /* count of them, a power of two */
} id_set;

enum { LEAST_SLOTS = 64 };

static uint64_t hash_id(const id_set *set, const uint8_t id[12]) {
  uint64_t parts[2]; /* they overlap */
  memcpy(&parts[0], id, 8);
  memcpy(&parts[1], id + 4, 8);
  __uint128_t product = (__uint128_t)(parts[0] ^ set->seed[0]) * (parts[1] ^ set->seed[1]);
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t tag_of(uint64_t hash) {
  return (uint32_t)(hash >> 32) | 1;
}

/* The slot that has the id, or the free one where it belongs. */
static uint32_t find_slot(const id_set *set, const uint8_t id[12], uint64_t hash) {
  uint32_t at = (uint32_t)hash & (set->count - 1), tag = tag_of(hash);
  while (set->slots[at].tag && (set->slots[at].tag != tag || memcmp(set->slots[at].id, id, 12) != 0))
    at = (at + 1) & (set->count - 1);
  return at;
}

/* How many slots may be used, so that searches stay short. */
static uint32_t room_of(const id_set *set) {
  return set->count / 4 * 3;
}

/* Pushes the state's set and its weak table. */
static id_set *push_set(lua_State *L) {
  lumo_get(L, &LUMO_OBJECTIDS);
  lumo_getuv(L, -1);
  return lua_touserdata(L, -2);
}

/* Gives a slot to the id and to the userdata on the top of the stack, which it pops. Makes nothing in Lua:
 * the slots are the array of the table. */
static void enter_id(lua_State *L, id_set *set, int table, uint32_t at, const uint8_t id[12], uint64_t hash) {
  if (!set->slots[at].tag) {
    memcpy(set->slots[at].id, id, 12);
    set->slots[at].tag = tag_of(hash);
    set->used++;
  }
  lua_rawseti(L, table, (int)at + 1);
}

static uint32_t count_live(lua_State *L, const id_set *set, int table) {
  uint32_t live = 0;
  for (uint32_t at = 0; at < set->count; at++) {
    lua_rawgeti(L, table, (int)at + 1);
    if (!lua_isnil(L, -1)) live++;
    lua_pop(L, 1);
  }
  return live;
}

/* Pushes an empty set with slots for twice as many ids, and for `least`, and its weak table. */
static id_set *push_new_set(lua_State *L, uint32_t ids, uint32_t least, const uint64_t seed[2]) {
  uint32_t count = LEAST_SLOTS;
  while (count / 2 < ids || count < least) count *= 2;
  size_t size = sizeof(id_set) + count * sizeof(slot);
  id_set *set = lumo_newud(L, size);
  memset(set, 0, size);
  memcpy(set->seed, seed, sizeof set->seed);
  set->count = count;
  lua_createtable(L, (int)count, 0);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lumo_setuv(L, -3);
  return set;
}

static void move_ids(lua_State *L, const id_set *from, int from_table, id_set *to, int to_table) {
  for (uint32_t at = 0; at < from->count; at++) {
    const uint8_t *id = from->slots[at].id;
    lua_rawgeti(L, from_table, (int)at + 1);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    uint64_t hash = hash_id(to, id);
    enter_id(L, to, to_table, find_slot(to, id, hash), id, hash);
  }
}

/* Puts a new set of the ids that are alive in the place of the state's, half as large at least: what came and
 * went will come again. Making it may run finalizers, which may push ids and even come here themselves: what
 * is moved is looked for afterwards. */
static void renew_set(lua_State *L) {
  int top = lua_gettop(L);
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  for (;;) {
    id_set *old = push_set(L); /* top + 1, 2 */
    uint64_t seed[2] = {old->seed[0], old->seed[1]};
    id_set *set = push_new_set(L, count_live(L, old, top + 2), old->count / 2, seed); /* 3, 4 */
    old = push_set(L);                                                                /* 5, 6 */
    if (count_live(L, old, top + 6) <= room_of(set)) {
      move_ids(L, old, top + 6, set, top + 4);
      lua_pushvalue(L, top + 3);
      lumo_set(L, &LUMO_OBJECTIDS);
      old->replaced = true;
      break;
    }
    lua_settop(L, top);
  }
  lua_settop(L, top);
}

void lumo_push_objectid(lua_State *L, const uint8_t id[12]) {
  int top = lua_gettop(L);
  bool made = false;
  id_set *set = push_set(L); /* top + 1, 2 */
  for (;;) {
    uint64_t hash = hash_id(set, id);
    uint32_t at = find_slot(set, id, hash);
    bool known = set->slots[at].tag != 0;
    if (known) {
      lua_rawgeti(L, top + 2, (int)at + 1);
      if (!lua_isnil(L, -1)) break;
      lua_pop(L, 1);
    }
    if (made && (known || set->used < room_of(set))) {
      lua_pushvalue(L, top + 3);
      enter_id(L, set, top + 2, at, id, hash);
      break;
    }
    /* Both may run finalizers, which may make the same id: then that one is the object. */
    if (made)
      renew_set(L);
    else
      lumo_push_new_objectid(L, id); /* top + 3 */
    made = true;
    if (!set->replaced) continue;
    set = push_set(L);
    lua_replace(L, top + 2);
    lua_replace(L, top + 1);
  }
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
}

void lumo_open_objectids(lua_State *L) {
  uint8_t random[16];
  uint64_t seed[2];
  lumo_uuid_new(random);
  memcpy(seed, random, sizeof seed);
  push_new_set(L, 0, 0, seed);
  lua_pop(L, 1);
  lumo_set(L, &LUMO_OBJECTIDS);
}
