#!/bin/sh
# Builds build/native/liboctet.so where the tools are there, and says in one line what is missing where they are not.
# Called by every build of src/Octet; when nothing changed it costs one look of ninja. Concurrent builds wait in line.
set -e
cd "$(dirname "$0")/.."
trap '' PIPE

missing() {
  echo "octet: the native library is not built, $1 is missing: apt-get install clang-22 lld-22 llvm-22 libboost-context-dev cmake ninja-build"
  exit 0
}
for tool in cmake ninja; do command -v $tool >/dev/null || missing $tool; done
# As in CMakeLists.txt: the first one found must be new enough.
clang=
for name in clang++-22 amdclang++ /opt/rocm/bin/amdclang++ clang++; do
  if command -v "$name" >/dev/null; then clang=$name; break; fi
done
[ -n "$clang" ] || missing "clang 22"
[ "$("$clang" -dumpversion | cut -d. -f1)" -ge 20 ] || missing "clang 20 or newer ($clang is $("$clang" -dumpversion))"
[ -e /usr/include/boost/context/detail/fcontext.hpp ] || missing Boost.Context

# MSBuild keeps what is printed here from people: 'dotnet run' and 'dotnet test' build without a word, and in a terminal its logger
# shows its own lines. So progress goes to the stderr of the dotnet command that waits, where that is a terminal, or where a pipe would
# get nothing else. Fails where this process is no such command.
find_stderr() {
  [ "$(cat "/proc/$1/comm" 2>/dev/null)" = dotnet ] || return 1
  case "$(tr '\0' ' ' <"/proc/$1/cmdline")" in
    *dotnet\ run\ * | *dotnet\ test\ *) mute=mute ;;
    *dotnet\ build\ * | *dotnet\ publish\ * | *dotnet\ pack\ *) mute= ;;
    *) return 1 ;;
  esac
  case "$mute $(readlink "/proc/$1/fd/2")" in
    *\ /dev/pts/* | *\ /dev/tty* | *\ /dev/console | mute\ pipe:*) listener=/proc/$1/fd/2 ;;
  esac
}

# The command is an ancestor, unless MSBuild took a node that an earlier build has left behind.
find_listener() {
  listener=
  pid=$PPID
  while [ "${pid:-0}" -gt 1 ]; do
    if find_stderr "$pid"; then return; fi
    pid=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$pid/status" 2>/dev/null)
  done
  for process in /proc/[0-9]*; do
    if [ -O "$process" ] && find_stderr "${process#/proc/}"; then return; fi
  done
}

say() {
  if [ -n "$listener" ] && printf '%s\n' "octet: $1" 2>/dev/null >>"$listener"; then return; fi
  echo "octet: $1" 2>/dev/null || :
}

# Every ten seconds, from the last "[steps/all]" of ninja, for as long as this script lives.
report() {
  seconds=0
  # With the script's pipes and lock, a sleep left behind would hold up whoever waits for them.
  while sleep 10 </dev/null >/dev/null 2>&1; kill -0 $$ 2>/dev/null; do
    seconds=$((seconds + 10))
    set -- $(sed -n 's/^\[\([0-9]*\)\/\([0-9]*\)\] .*/\1 \2/p' build/native/build.log 2>/dev/null | tail -n 1)
    if [ "${1:-0}" -gt 0 ]; then
      say "native library: $1 of $2 steps ($(($1 * 100 / $2)) %) after $seconds s, about $((seconds * ($2 - $1) / $1)) s to go"
    else
      say "native library: $seconds s"
    fi
  done
}

mkdir -p build/native
find_listener
exec 9>build/native/lock
flock -n 9 || { say "waiting for another build of the native library"; flock 9; }
if [ ! -e build/native/liboctet.so ]; then
  # Some 200 seconds of one core, and no less than a minute.
  cores=$(nproc)
  say "building the native library, which takes about $((1 + 200 / cores / 60)) min on $cores cores the first time; log: build/native/build.log"
fi
if [ ! -e build/native/build.ninja ]; then
  cmake -S . -B build/native -G Ninja >build/native/configure.log 2>&1 || { cat build/native/configure.log; exit 1; }
fi
report 9>&- &
reporter=$!
trap 'kill $reporter 2>/dev/null || :' EXIT
if ! NINJA_STATUS='[%f/%t] ' ninja -C build/native octet >build/native/build.log 2>&1; then
  sed -n '/^FAILED: /,$p' build/native/build.log
  exit 1
fi
