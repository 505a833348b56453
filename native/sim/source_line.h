// The source line behind an address in this library, for fault reports.
#pragma once

#include <cstdint>
#include <string>

namespace octet::sim {

// "gemm.hip:120" where a symbolizer is installed (llvm-symbolizer or addr2line), else "liboctet.so+0x1234".
// site: a return address.
std::string source_line(uintptr_t site);

}  // namespace octet::sim
