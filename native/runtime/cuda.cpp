#include "check.h"
#include "driver.h"

namespace octet {

int cuda_count() { fail(OCTET_NO_DEVICE, "cuda: not part of this build"); }
std::unique_ptr<Driver> open_cuda(int) { fail(OCTET_NO_DEVICE, "cuda: not part of this build"); }

}  // namespace octet
