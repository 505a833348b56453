// Where in a kernel something happened, for fault reports: the source line behind an address in this library, and the lane.
#pragma once

#include <cstdint>
#include <string>

#include "../runtime/driver.h"

namespace octet::sim {

// "gemm.hip:120" where a symbolizer is installed (llvm-symbolizer or addr2line), else "liboctet.so+0x1234".
// site: a return address.
std::string source_line(uintptr_t site);

// "block (3, 0, 0), thread 70 (wave 1, lane 6)"
std::string lane_name(const Grid& grid, int wave_size, uint64_t block, int thread);

}  // namespace octet::sim
