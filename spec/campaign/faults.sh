#!/usr/bin/env bash
# spec/campaign/faults.sh [--long]: all parts of the fault campaign at once, for they wait more than they work. Ends with
# "N passed, N failed". LUA names the interpreter.
set -euo pipefail
parts=(cut-before cut-after cut-alone errors errors-alone frozen frozen-alone killed killed-alone keys steps)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for part in "${parts[@]}"; do
  "${LUA:-lua5.4}" spec/campaign/faults.lua "$part" "$@" >"$folder/$part" 2>&1 || true &
done
wait
passed=0 failed=0
for part in "${parts[@]}"; do
  grep -v '^[0-9]* passed' "$folder/$part" || true
  # A part that broke off has said nothing of the kind.
  read -r good bad < <(awk '/^[0-9]+ passed, [0-9]+ failed/ { good += $1; bad += $3; said = 1 }
                            END { print good + 0, said ? bad + 0 : 1 }' "$folder/$part")
  passed=$((passed + good)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
