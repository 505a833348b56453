#!/usr/bin/env bash
# Builds Octet, native and managed, and runs every test. The last line is `N passed, N failed`.
# Exit code: 0 all passed, 1 a build or a test failed, 2 something is missing that this script may not install.
set -uo pipefail
cd "$(dirname "$0")/.."

packages=(clang-22 lld-22 llvm-22 libboost-context-dev libgtest-dev cmake ninja-build python3-jinja2 curl)
install_line="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"

passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# As root, or with a sudo that asks nothing.
as_root() {
  if [ "$(id -u)" = 0 ]; then sh -c "$1"; else sudo -n sh -c "$1"; fi
}

install_missing() {
  local missing=()
  for package in "${packages[@]}"; do is_installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] && return
  echo "installing ${missing[*]}"
  if ! as_root "export DEBIAN_FRONTEND=noninteractive; $install_line" >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "eng/test.sh: missing ${missing[*]}. Install with: sudo sh -c '$install_line'" >&2
    exit 2
  fi
}

# For the test of the server's page, which is skipped without a browser: not every distribution has this package.
install_browser() {
  local browser=chromium-headless-shell
  command -v npm >/dev/null || return
  command -v "$browser" >/dev/null || command -v chromium >/dev/null && return
  echo "installing $browser"
  as_root "export DEBIAN_FRONTEND=noninteractive; apt-get update && apt-get install -y --no-install-recommends $browser" >"$log" 2>&1 ||
    echo "eng/test.sh: $browser cannot be installed: the page is not tested"
}

# The totals so far, as the last line, whatever happened before.
finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
  exit
}

# A step that must succeed for the next ones to make sense.
build() {
  echo "--- $*"
  if ! "$@"; then
    echo "failed: $*" >&2
    failed=$((failed + 1))
    finish
  fi
}

# Adds what a test runner counted. One that failed without counting a failure, or counted nothing, is a failure itself.
count() {
  local name=$1 status=$2 total=$3 failures=$4
  if [ -z "$total" ] || [ "$total" = 0 ] || { [ "$status" != 0 ] && [ "$failures" = 0 ]; }; then
    echo "$name: exit code $status after ${total:-0} tests" >&2
    total=$((${total:-0} + 1))
    failures=$((${failures:-0} + 1))
  fi
  passed=$((passed + total - failures))
  failed=$((failed + failures))
}

native_tests() {
  echo "--- native tests"
  ctest --test-dir build/native --output-on-failure --no-tests=error --timeout 600 2>&1 | tee "$log"
  local status=${PIPESTATUS[0]}
  # "98% tests passed, 1 tests failed out of 42"
  local total failures
  read -r failures total < <(sed -nE 's/.* ([0-9]+) tests? failed out of ([0-9]+)$/\1 \2/p' "$log" | tail -n 1)
  count "native tests" "$status" "${total:-}" "${failures:-}"
}

managed_tests() {
  echo "--- managed tests: $1"
  timeout 1800 dotnet run -c Release --project "tests/$1" --no-build -- -noColor 2>&1 | tee "$log"
  local status=${PIPESTATUS[0]}
  # "Octet.Tests  Total: 42, Errors: 0, Failed: 1, Skipped: 2, Not Run: 0, Time: 1.2s"
  local total errors failures skipped not_run
  read -r total errors failures skipped not_run < <(
    sed -nE 's/.*Total: ([0-9]+), Errors: ([0-9]+), Failed: ([0-9]+), Skipped: ([0-9]+), Not Run: ([0-9]+).*/\1 \2 \3 \4 \5/p' "$log" | tail -n 1)
  if [ -z "${total:-}" ]; then count "$1" "$status" "" ""; return; fi
  if [ $((skipped + not_run)) != 0 ]; then echo "$((skipped + not_run)) tests of $1 did not run"; fi
  count "$1" "$status" $((total - skipped - not_run + errors)) $((failures + errors))
}

# Every benchmark once: that they run and their parity holds, not how fast.
benchmarks() {
  echo "--- benchmarks"
  (cd build && timeout 300 dotnet ../benchmarks/Octet.Benchmarks/bin/Release/net10.0/Octet.Benchmarks.dll --filter '*' --job Dry) >"$log" 2>&1
  local status=$?
  tail -n 3 "$log"
  [ "$status" = 0 ] || grep -E "Exception|error" "$log" | head -n 10
  # "Global total time: 00:00:16 (16.4 sec), executed benchmarks: 42"
  local total
  total=$(sed -nE 's/.*executed benchmarks: ([0-9]+).*/\1/p' "$log" | tail -n 1)
  count "benchmarks" "$status" "${total:-}" "$([ "$status" = 0 ] && echo 0 || echo 1)"
}

if command -v apt-get >/dev/null; then
  install_missing
  install_browser
fi
for tool in cmake ninja ctest dotnet; do
  if ! command -v "$tool" >/dev/null; then
    case $tool in
      dotnet) echo "eng/test.sh: dotnet is missing. Install the .NET 10 SDK: https://dotnet.microsoft.com/download" >&2 ;;
      *) echo "eng/test.sh: $tool is missing. On Debian: sudo sh -c '$install_line'" >&2 ;;
    esac
    exit 2
  fi
done

build cmake -S . -B build/native -G Ninja
build cmake --build build/native
build dotnet build Kernels.sln -c Release --nologo -v minimal
native_tests
managed_tests Octet.Tests
managed_tests Octet.Clients.Tests
benchmarks
finish
