// One launch: every block of the grid, wave by wave.
#pragma once

#include <functional>

#include "code_object.h"

namespace octet::gfx942 {

struct Launch {
  const Kernel* kernel;
  uint32_t grid[3], block[3];
  uint32_t dynamic_lds;
  std::vector<uint8_t> kernarg;  // the explicit arguments at their offsets
};

constexpr uint32_t max_lds = 65536;

// What a launch finds when it runs.
struct Surroundings {
  std::vector<Range> memory;               // what it may touch
  std::vector<Foreign> out_of_reach = {};  // what is alive besides
  std::function<void()> pause = [] {};     // at every s_sleep
};

// Throws Fault with kernel, block, wave and instruction.
void run(const Launch& launch, Surroundings surroundings);

}  // namespace octet::gfx942
