#!/usr/bin/env bash
# spec/campaign/banned.sh MODULE…: no module imports a function of libbson or libmongoc that is known as unsafe here.
# Ends with "N passed, N failed".
set -euo pipefail

# A pattern of whole names, and why nothing of lumo may call them.
banned() {
  cat <<'LIST'
bson_(array_)?as_(legacy_|canonical_extended_|relaxed_extended_)?json.* # recurse by the document's nesting, which comes from outside
bson_(new|init)_from_json                        # the parser recurses likewise; and it takes what the corpus refuses
bson_json_(data_)?reader_.*                      # the same parser
bson_validate(_with_error.*)?                    # recurses by the document's nesting
bson_iter_visit_all                              # what the recursive ones are built of
bcon_.*                                          # variadic, untyped: one wrong argument reads the stack
bson_mem_set_vtable                              # changes allocation for every user of libbson in the process
mongoc_client_session_with_transaction           # calls back through C frames: a Lua error would jump over them
mongoc_gridfs.*                                  # its files write without checking every reply
mongoc_cleanup                                   # ends libmongoc for every other user of it in the process
mongoc_(client|collection|database)_command      # the cursor forms, deprecated: they hide the reply
mongoc_client_command_simple(_with_server_id)?   # takes no session and no write concern
mongoc_collection_(insert|update|remove|delete|replace|find_and_modify|create_bulk).* # a second path for writes beside the bulk, which alone retries
mongoc_collection_(find|aggregate|count|watch).* # cursors of libmongoc's own: lumo's plans hold the cursor
mongoc_uri_new                                   # NULL without a reason; mongoc_uri_new_with_error says why
LIST
}

# imports FILE: the names that a module expects from others.
imports() {
  nm --dynamic --undefined-only --format=just-symbols "$1" | sed 's/@.*//'
}

# unsafe FILE: those of its imports that are banned.
unsafe() {
  imports "$1" | grep -xE -f <(banned | sed -E 's/ +#.*//') || true
}

passed=0 failed=0
check() {
  if "${@:2}"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "   failed: $1"
  fi
}

# The check itself can fail: a module that imports one of each kind is found out.
sees_what_is_banned() {
  local folder found
  folder=$(mktemp -d)
  printf 'extern void %s(void); void lumo_call(void) { %s(); %s(); }\n' \
    'bson_as_canonical_extended_json(void), mongoc_gridfs_create_file' \
    bson_as_canonical_extended_json mongoc_gridfs_create_file |
    cc -shared -fPIC -x c -o "$folder/probe.so" -
  found=$(unsafe "$folder/probe.so" | wc -l)
  rm -r "$folder"
  [[ $found == 2 ]]
}

# A list of imports that holds nothing of libmongoc would prove nothing.
is_a_module() {
  [[ $(imports "$1") == *mongoc_client_pool_new* ]]
}

imports_nothing_banned() {
  local found
  found=$(unsafe "$1")
  [[ -z $found ]] || {
    echo "   $1 imports ${found//$'\n'/, }"
    return 1
  }
}

check "a module with banned imports passes" sees_what_is_banned
for module; do
  check "$module has imports of libmongoc" is_a_module "$module"
  check "$module imports what is banned" imports_nothing_banned "$module"
done
echo "$passed passed, $failed failed"
if ((failed > 0)); then exit 1; fi
