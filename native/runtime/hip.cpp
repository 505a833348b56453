#include "check.h"
#include "driver.h"

namespace octet {

int hip_count() { fail(OCTET_NO_DEVICE, "hip: not part of this build"); }
std::unique_ptr<Driver> open_hip(int) { fail(OCTET_NO_DEVICE, "hip: not part of this build"); }

}  // namespace octet
