// One launch: every block of the grid, wave by wave.
#pragma once

#include "code_object.h"

namespace octet::gfx942 {

struct Launch {
  const Kernel* kernel;
  uint32_t grid[3], block[3];
  uint32_t dynamic_lds;
  std::vector<uint8_t> kernarg;  // the explicit arguments at their offsets
};

constexpr uint32_t max_lds = 65536;

// Throws Fault with kernel, block, wave and instruction. `memory` is what is alive when the launch runs.
void run(const Launch& launch, std::vector<Range> memory);

}  // namespace octet::gfx942
