// Runs one block at a time on this thread: every lane is a fiber, a wave is wave_size of them, lanes run in ascending
// order from one meeting point to the next, so a block does the same on every run. Deterministic by construction; blocks
// of a launch are independent and may run on several Runners at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../runtime/driver.h"
#include "kernel.h"

namespace octet::sim {

class Memory;

// What a launch has to report when a kernel broke a rule. site: the address of the instruction, for the source line.
struct Fault {
  uint64_t block = 0;
  int thread = 0;
  uintptr_t site = 0;
  std::string what;
};

struct Counters {
  int64_t launches = 0, blocks = 0;
  int64_t global_read_bytes = 0, global_write_bytes = 0;
  int64_t global_transactions = 0;
  int64_t lds_accesses = 0, lds_bank_conflicts = 0;
  int64_t mfma = 0, barriers = 0;
  void add(const Counters& other);
};

struct Launch {
  const OctetSimKernel* kernel;
  Grid grid;
  int threads;
  int wave_size;
  size_t lds_bytes;
  const void* params;
  octet_dtype fp8;
  Memory* memory;
  bool checks;
  uint64_t blocks() const { return uint64_t{grid.x} * grid.y * grid.z; }
};

enum class Meeting : uint8_t { none, barrier, wave_barrier, shuffle, ballot, mma_fp8, mma_bf16 };

struct Wave;

struct Lane {
  void* context = nullptr;
  Lane* next = nullptr;  // the ring of the wave's lanes that have not left the kernel
  Lane* previous = nullptr;
  Wave* wave = nullptr;
  uintptr_t stack_low = 0, stack_high = 0;
  int thread = 0;   // in the block
  int index = 0;    // in the wave
  bool exited = false;
  size_t log_cursor = 0;
};

// Operands of a meeting, one slot for each parity: the lane that completes a meeting may reach the next one before the
// others have taken their results, but never the one after.
struct Exchange {
  alignas(64) uint32_t words[64];
  int sources[64];
  uint32_t a[64][4], b[64][2];
  float d[64][4];
};

struct Wave {
  int index = 0;
  int size = 0;
  int live = 0;     // lanes that have not left the kernel
  int waiting = 0;  // lanes at the pending meeting
  Meeting pending = Meeting::none;
  uintptr_t site = 0;
  Lane* first_waiting = nullptr;
  Lane* lanes = nullptr;
  Lane* resume = nullptr;  // where the wave goes on
  uint32_t parity = 0;
  bool parked = false;       // all live lanes are at the block barrier
  uint64_t sync_clock = 0;   // accesses of this wave before it are ordered for this wave
  Exchange exchange[2];
};

class Runner {
 public:
  Runner();
  ~Runner();
  Runner(const Runner&) = delete;

  // False with the fault filled in when the kernel broke a rule; the block is then abandoned.
  bool run(const Launch& launch, uint64_t block, Fault& fault);
  Counters take_counters();

  // ---- called by the lanes (octet_sim_*, __tsan_*) ----
  void meet(Lane& lane, Meeting kind, uintptr_t site);
  [[noreturn]] void stop(const Lane& lane, uintptr_t site, const std::string& what);

  const Launch* launch = nullptr;
  uint64_t block = 0;
  uint32_t block_index[3] = {};
  char* lds = nullptr;  // launch->lds_bytes of it belong to the block
  uint64_t clock = 1;          // grows at every barrier and wave_sync
  uint64_t barrier_clock = 1;  // accesses before it are ordered for the whole block
  Counters counters;
  std::vector<Wave> waves;
  std::vector<Lane> lanes;

 private:
  struct Transfer;
  static void lane_main(void* from_context, void* data);
  void prepare();
  void reserve(int threads);
  void switch_to(Lane& to);
  void leave(Lane& lane);
  void complete(Wave& wave);
  void park(Wave& wave);
  void next_wave(Wave& after);

  std::vector<char*> stacks_;  // one mapping for each lane
  char* lds_mapping_ = nullptr;
  Lane scheduler_;
  int parked_waves_ = 0, exited_lanes_ = 0, live_waves_ = 0;
  uintptr_t barrier_site_ = 0;
  const Lane* barrier_first_ = nullptr;
  Fault* fault_ = nullptr;
  bool faulted_ = false;
};

// The kernel's record for the target; throws OCTET_INTERNAL when the library has none.
const OctetSimKernel& find_kernel(Target target, const char* name);
// Throws OCTET_INTERNAL when a launch does not fit the kernel's record.
void require_launch(const OctetSimKernel& kernel, int threads, size_t params_size);

// The lane this thread is running, null outside of a kernel.
extern thread_local constinit Lane* current_lane __attribute__((tls_model("initial-exec")));
extern thread_local constinit Runner* current_runner __attribute__((tls_model("initial-exec")));

}  // namespace octet::sim
