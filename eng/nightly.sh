#!/usr/bin/env bash
# What takes longer than the half hour of eng/test.sh, in a build that passed it: eng/nightly.sh [cases] [random] [emulator] [serving]; all of them
# where none is named. The last line is `N passed, N failed`, of the steps; exit code 1 where one failed.
#   cases     every parity case, those that take long too, on the processor and on the simulator
#   random    the tests that draw at random, TEST_ROUNDS (20) times as often
#   emulator  every short parity case on eight emulated devices, and the bits of several devices from compiled gfx942 code
#   serving   FUZZ_BODIES (100,000) requests that nobody should send, and SOAK_SECONDS (an hour) of clients that behave badly
set -uo pipefail
cd "$(dirname "$0")/.."

hours=6        # of a step, before it counts as failed
environment=() # of the steps to come
passed=0
failed=0

step() {
  echo "--- $*"
  local start=$SECONDS
  if env "${environment[@]}" timeout "${hours}h" "$@" >build/nightly.log 2>&1; then
    passed=$((passed + 1))
    tail -n 1 build/nightly.log
  else
    failed=$((failed + 1))
    tail -n 40 build/nightly.log
    echo "failed: $*"
  fi
  echo "    $((SECONDS - start)) s"
}

check() { step dotnet exec tests/Octet.Tests/bin/Release/net10.0/Octet.Cli.dll check "$@"; }

tests() {
  local classes=()
  for class in "$@"; do classes+=(-class "*.$class"); done
  step dotnet exec tests/Octet.Tests/bin/Release/net10.0/Octet.Tests.dll -noColor "${classes[@]}"
}

cases() {
  environment=()
  for device in cpu cpu:fnuz sim:gfx942 sim:gfx950 sim:sm_90; do check --full --device "$device"; done
}

random() {
  environment=(TEST_ROUNDS="${TEST_ROUNDS:-20}")
  tests RandomTextsTests SchedulerTests RequestRouterTests
}

emulator() {
  environment=(LD_LIBRARY_PATH="$PWD/build/native/gfx942_emulator" GFX942_EMULATOR_DEVICES=8 RANK_BITS_DEVICE=hip)
  check --device hip:7
  tests RankBitsTests
}

serving() {
  environment=(FUZZ_BODIES="${FUZZ_BODIES:-100000}" SOAK_SECONDS="${SOAK_SECONDS:-3600}")
  tests Server.FuzzTests Server.SoakTests
}

[ $# -gt 0 ] || set -- cases random emulator serving
for part in "$@"; do
  case $part in
    cases | random | emulator | serving) $part ;;
    *) echo "eng/nightly.sh: no part is named '$part'; parts are cases, random, emulator, serving" >&2; exit 2 ;;
  esac
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
