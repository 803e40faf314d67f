/* What the files of the query builder share: the userdata and its columns. */
#ifndef LUMO_LUA_QUERY_H
#define LUMO_LUA_QUERY_H

#include "relation.h"

/* Resolves the column named at `index`, argument `arg` of `method`, to its stored path, appended to `path` (a
 * buffer of a userdata), and its type (NULL: untyped). `id` is the primary column where no column has that
 * name; a name may begin with the collection's and a dot. *side is that of the method (a where_pivot) and
 * becomes the pivot's when the name begins with the pivot's. */
const lumo_column *lumo_resolve_column(lua_State *L, const lumo_query_box *box, const char *method, int arg,
                                       int index, lumo_buf *path, lumo_side *side);
/* The same where only the query's own collection will do. */
const lumo_column *lumo_resolve_own_column(lua_State *L, const lumo_query_box *box, const char *method,
                                           int arg, int index, lumo_buf *path);
/* The column named at `index` if it is what nearly all are: an attribute of the query's own collection, whose
 * path is its stored name. NULL: something else, or nothing, stands there. */
const lumo_column *lumo_declared_column(lua_State *L, const lumo_query_box *box, int index);
/* Any query userdata, a builder over the elements of an array included. */
lumo_query_box *lumo_check_builder(lua_State *L, int i, const char *method);
bool lumo_is_empty_table(lua_State *L, int index);
/* Gives all queries a metamethod. */
void lumo_query_set_metamethod(lua_State *L, const char *name, lua_CFunction function);

#endif
