#!/bin/sh
# Builds build/native/liboctet.so where the tools are there, and says in one line what is missing where they are not.
# Called by every build of src/Octet; when nothing changed it costs one look of ninja. Concurrent builds wait in line.
set -e
cd "$(dirname "$0")/.."

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

mkdir -p build/native
exec 9>build/native/lock
flock 9
if [ ! -e build/native/build.ninja ]; then
  echo "octet: building the native library, a few minutes the first time"
  cmake -S . -B build/native -G Ninja >build/native/configure.log 2>&1 || { cat build/native/configure.log; exit 1; }
fi
ninja -C build/native --quiet octet
