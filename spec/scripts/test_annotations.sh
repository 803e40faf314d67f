#!/usr/bin/env bash
# script/annotations: which checker it takes, when it builds one, and when it does without. No cargo and no checker of
# the machine is run: programs stand for them that answer as they do.
# What is written into other programs is for them to expand.
# shellcheck disable=SC2016
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0
version=$(sed -n 's/^version=//p' script/annotations)

# The least PATH that the script needs, so that nothing of the machine is found.
mkdir "$scratch/bin"
for tool in bash dirname mkdir rm sort head timeout chmod cp mktemp; do
  ln -s "$(type -P "$tool")" "$scratch/bin/$tool"
done

# fake FILE VERSION [STATUS]: something that answers as the checker does, and ends so when it is to check.
fake() {
  mkdir -p "$(dirname "$1")"
  printf '#!/bin/sh\nif [ "$1" = --version ]; then echo "emmylua_check %s"; exit; fi\necho "checks: $*"\nexit %s\n' \
    "$2" "${3:-0}" >"$1"
  chmod +x "$1"
}

# fake_cargo VERSION COMMANDS: a cargo that runs these when it is to install; $root is where.
fake_cargo() {
  printf '#!/bin/sh\nif [ "$1" = --version ]; then echo "cargo %s (0000 2020-01-01)"; exit; fi\n' "$1"
  printf 'while [ "$1" != --root ]; do shift; done\nroot=$2\n%s\n' "$2"
} >"$scratch/bin/cargo"

# Sets `output` and `status`. The cache is $scratch/cache/lumo.
run() {
  status=0
  output=$(env -i HOME="$scratch" XDG_CACHE_HOME="$scratch/cache" PATH="$scratch/bin" script/annotations 2>&1) ||
    status=$?
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
ends() { ((status == $1)); }
folder=$scratch/cache/lumo/emmylua_check-$version
cached=$folder/bin/emmylua_check
nothing_left() { ! compgen -G "$folder/target.*" >/dev/null; }

run
check "without cargo it is skipped" ends 77
check "and says why" says "no cargo"

fake_cargo 1.63.0 'touch "$root/built"'
chmod +x "$scratch/bin/cargo"
run
check "with an old cargo it is skipped" ends 77
check "which is named" says "cargo 1.63.0 is too old"

fake_cargo 1.95.0 'echo "error: no network" >&2; exit 101'
run
check "a build that fails is no failure of the check" ends 77
check "the log is named" says "$folder/build.log"
check "the log has cargo's words" grep -q "error: no network" "$folder/build.log"

fake "$scratch/built" "$version"
fake_cargo 1.95.0 "mkdir -p \"\$root/bin\" && cp $scratch/built \"\$root/bin/emmylua_check\""
fake "$scratch/bin/emmylua_check" 0.1.0
run
check "it is built where PATH has another version" ends 0
check "into the cache" test -x "$cached"
check "what it was built in is gone" nothing_left
check "and checks lua and examples" says "lua examples"

fake_cargo 1.95.0 'exit 101'
run
check "the next run takes it from the cache" ends 0
check "and says so" says "$cached"

fake "$cached" "$version" 1
run
check "what the checker finds is a failure" ends 1

fake "$scratch/bin/emmylua_check" "$version"
run
check "PATH comes before the cache" says "   $scratch/bin/emmylua_check"
check "and is enough" ends 0

echo "$passed passed, $failed failed"
((failed == 0))
