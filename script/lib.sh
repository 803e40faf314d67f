# shellcheck shell=bash
# Functions that the scripts share. To be sourced; changes to the project's folder.

# A relative path in the environment means the caller's folder.
if [[ ${LUMO_MONGOD:-/} != /* ]]; then export LUMO_MONGOD=$PWD/$LUMO_MONGOD; fi

LUMO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$LUMO_ROOT" || exit
export LUMO_ROOT
export MONGOC_DISABLE_SHM=1 # libmongoc keeps counters by pid in shared memory, which killed processes leave behind

say() { printf '== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
fail() {
  printf 'lumo: %s\n' "$*" >&2
  exit 1
}

# progress TEXT: reads percentages, one per line, and shows the latest: in place on a terminal, else a line per
# quarter.
progress() {
  local text=$1 percent shown=-1
  while read -r percent; do
    percent=${percent%%.*}
    if [[ ! $percent =~ ^[0-9]+$ ]] || ((percent <= shown)); then continue; fi
    if [[ -t 1 ]]; then
      shown=$percent
      printf '\r   %s: %3d %%' "$text" "$shown"
    elif ((percent / 25 > shown / 25 || shown < 0)); then
      shown=$percent
      printf '   %s: %d %%\n' "$text" "$shown"
    fi
  done
  if [[ -t 1 ]] && ((shown >= 0)); then printf '\n'; fi
}

# cache_dir: where things that outlive the project's folder are kept.
cache_dir() {
  [[ -n ${XDG_CACHE_HOME:-} || -n ${HOME:-} ]] ||
    fail "neither XDG_CACHE_HOME nor HOME is set, so there is no cache folder"
  printf '%s/lumo\n' "${XDG_CACHE_HOME:-$HOME/.cache}"
}

# as_root CMD…: with sudo unless already root.
as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; else sudo -- "$@"; fi
}

# run_apt TEXT CMD…: apt-get with its output in build/setup.log and its progress shown.
run_apt() {
  local text=$1
  shift
  # The status goes to the pipe, everything else to the log; sudo passes on no other descriptors than these. A
  # status line is kind:package:percent:words; an installation's first half is the download.
  # shellcheck disable=SC2016
  as_root sh -c 'exec env DEBIAN_FRONTEND=noninteractive apt-get "$@" 3>&1 1>&2' apt \
    -o APT::Status-Fd=3 -o DPkg::Lock::Timeout=300 "$@" 2>>build/setup.log </dev/null |
    awk -F: -v half="$([[ $1 == install ]] && echo 0.5 || echo 1)" '
      $1 == "dlstatus" { print int($3 * half); fflush() }
      $1 == "pmstatus" { print int(50 + $3 / 2); fflush() }' |
    progress "$text"
}

# installed NAME… and available NAME…: are they all?
installed() {
  local name
  for name; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || return 1
  done
}
available() {
  local name
  for name; do
    [[ $(apt-cache policy "$name" 2>/dev/null) =~ Candidate:\ [^\(] ]] || return 1
  done
}

# choose "A B|C D": of these sets of packages the one to install: one that is there in part (the sets exclude
# each other), else the first that can be had.
choose() {
  local sets set name
  IFS='|' read -ra sets <<<"$1"
  for set in "${sets[@]}"; do
    for name in $set; do
      if installed "$name"; then
        echo "$set"
        return
      fi
    done
  done
  for set in "${sets[@]}"; do
    # shellcheck disable=SC2086
    if available $set; then
      echo "$set"
      return
    fi
  done
  echo "${sets[0]}"
}

# missing WANT…: those of which no set is wholly installed.
missing() {
  local want sets set
  for want; do
    IFS='|' read -ra sets <<<"$want"
    for set in "${sets[@]}"; do
      # shellcheck disable=SC2086
      installed $set && continue 2
    done
    printf '%s\n' "$want"
  done
}

# install_packages WANT…: installs what is missing of the packages named; a WANT is a name, or sets of names as
# in choose. Touches neither the network nor apt when nothing is missing.
install_packages() {
  local want wants names=() new=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    fail "no apt-get: this script knows Debian 12 and Ubuntu 24.04; what it would install: $*"
  fi
  mapfile -t wants < <(missing "$@")
  ((${#wants[@]})) || return 0
  [[ $(id -u) == 0 ]] || command -v sudo >/dev/null ||
    fail "neither root nor sudo, to install: ${wants[*]}"
  mkdir -p build
  : >build/setup.log
  say "Installing system packages"
  # A foreign repository that fails to load does no harm: whether the packages are there shows next.
  run_apt "reading package lists" update || note "apt-get update had errors (build/setup.log)"
  for want in "${wants[@]}"; do
    read -ra names <<<"$(choose "$want")"
    available "${names[@]}" || fail "package ${names[*]} is not available: $(apt_reason) (build/setup.log)"
    new+=("${names[@]}")
  done
  note "${new[*]}"
  run_apt "installing" install -y --no-install-recommends "${new[@]}" ||
    fail "cannot install ${new[*]}: $(apt_reason) (build/setup.log)"
}

# The first error in apt's log of this run, on one line.
apt_reason() {
  local line
  line=$(grep -m 1 '^E: ' build/setup.log || tail -n 1 build/setup.log)
  printf '%s' "${line#E: }"
}

# use_build DIR: Lua 5.4 and LuaJIT find the modules of DIR (of the project, or absolute) and lua/lumo, in this
# process's children too.
use_build() {
  local lua="$LUMO_ROOT/lua/?.lua;$LUMO_ROOT/lua/?/init.lua;;" folder=$1
  if [[ $folder != /* ]]; then folder=$LUMO_ROOT/$folder; fi
  export LUMO_BUILD=$1
  export LUA_PATH=$lua LUA_CPATH="$folder/luajit/?.so;;"
  export LUA_PATH_5_4=$lua LUA_CPATH_5_4="$folder/lua5.4/?.so;;"
}

# build FOLDER PRESET [OPTION…]: configures and builds there; the output is in FOLDER/build.log. One at a time.
build() {
  local folder=$1 preset=$2 log=$1/build.log lock
  shift 2
  mkdir -p "$folder"
  exec {lock}>"$folder/build.lock"
  flock "$lock"
  # A project that was moved or copied is configured anew.
  local cache=$folder/CMakeCache.txt
  if [[ -f $cache ]] && ! grep -qx "CMAKE_HOME_DIRECTORY:INTERNAL=$LUMO_ROOT" "$cache"; then
    rm -rf "$cache" "$folder/CMakeFiles"
  fi
  cmake --preset "$preset" -B "$folder" "$@" >"$log" 2>&1 ||
    fail "cmake --preset $preset: $(build_reason "$log") ($log)"
  cmake --build "$folder" --parallel "$(nproc)" 2>&1 | tee -a "$log" |
    sed -n -u 's/^\[ *\([0-9]*\)%\].*/\1/p' | progress "compiling $folder" ||
    fail "compiling $folder: $(build_reason "$log") ($log)"
  exec {lock}>&-
}

# The first error in a build's log, on one line.
build_reason() {
  awk '/^CMake Error at/ { getline; sub(/^ +/, ""); print; exit }
       /(error|Error)[: ]|undefined reference/ { print; exit }
       { last = $0 } END { print last }' "$1" | head -n 1
}
