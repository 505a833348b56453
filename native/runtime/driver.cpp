// What a driver answers for devices that nobody shares, and that neither count nor plan.
#include "driver.h"

#include "check.h"

namespace octet {

int64_t Driver::free_memory(int64_t live_bytes) { return facts.total_memory - live_bytes; }

bool Driver::enable_peer(Driver&) { return false; }

CollectiveLibrary Driver::collectives() const {
  fail(OCTET_UNSUPPORTED, "octet_communicator_create: there is no library of collectives for %s", facts.name.c_str());
}

void Driver::call(void*, void*, int64_t, std::function<void(void*)>) {
  fail(OCTET_UNSUPPORTED, "no other library works on a stream of %s", facts.name.c_str());
}

std::vector<octet_kernel_counters> Driver::counters() {
  fail(OCTET_UNSUPPORTED, "octet_sim_counters: %s is not a simulated device", facts.name.c_str());
}

void Driver::reset_counters() {
  fail(OCTET_UNSUPPORTED, "octet_sim_reset_counters: %s is not a simulated device", facts.name.c_str());
}

std::vector<octet_planned_launch> Driver::launches(bool) {
  fail(OCTET_UNSUPPORTED, "octet_plan_launches: %s is not a planned device", facts.name.c_str());
}

}  // namespace octet
