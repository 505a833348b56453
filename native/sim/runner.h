// Runs one block at a time on this thread: every lane is a fiber, a wave is wave_size of them, lanes run in ascending
// order from one meeting point to the next, so a block does the same on every run. Deterministic by construction;
// blocks of a launch are independent and may run on several Runners at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../runtime/driver.h"
#include "access.h"
#include "cost.h"
#include "kernel.h"
#include "peers.h"
#include "shadow.h"

namespace octet::sim {

class Memory;

// What a launch has to report when a kernel broke a rule. site: the address of the instruction, for the source line.
struct Fault {
  // The other access of a race; the block differs from the fault's own where blocks race.
  struct Race {
    bool with_write;
    uint64_t block;
    int thread;
    uintptr_t site;
  };
  uint64_t block = 0;
  int thread = 0;
  uintptr_t site = 0;
  uintptr_t address = 0;
  std::string what;
  std::optional<Race> race = std::nullopt;
  std::optional<Place> foreign = std::nullopt;  // the access of another device that it races with
  bool foreign_writes = false;
};

struct Launch {
  const OctetSimKernel* kernel;
  Grid grid;
  int threads;
  int wave_size;
  size_t lds_bytes;
  const void* params;
  octet_dtype fp8;
  Target target;
  Memory* memory;
  bool checks;
  Peer* peer;  // the device among its peers, or null
  uint64_t step = 0;                 // of the device, with a peer
  const Knowledge* known = nullptr;  // to its blocks when they begin
  uint64_t blocks() const { return uint64_t{grid.x} * grid.y * grid.z; }
};

enum class Meeting : uint8_t { none, barrier, wave_barrier, shuffle, ballot, mma_fp8, mma_bf16, release, acquire };

// How a block came back to the thread that runs it.
enum class Outcome : uint8_t { ended, faulted, waits };

struct Wave;

struct Lane {
  void* context = nullptr;
  Lane* next = nullptr;  // the ring of the wave's lanes that have not left the kernel
  Lane* previous = nullptr;
  Wave* wave = nullptr;
  uintptr_t stack_low = 0, stack_high = 0;
  int thread = 0;  // in the block
  int index = 0;   // in the wave
  // Its accesses since the wave's last meeting.
  LogEntry* log_end = nullptr;
  LogEntry* log_limit = nullptr;
  // The counter it looked at last, if it waits for it.
  const uint32_t* counter = nullptr;
  uintptr_t counter_site = 0;
  bool has_to_wait = false;
};

// Operands of a meeting, one slot for each parity: the lane that completes a meeting may reach the next one before the
// others have taken their results, but never the one after.
struct Exchange {
  alignas(64) uint32_t words[64];
  uint32_t a[64][4], b[64][2];
  alignas(64) float d[4][64];  // by registers
};

struct Wave {
  int index = 0;
  int size = 0;
  int live = 0;     // lanes that have not left the kernel
  int waiting = 0;  // lanes at the pending meeting
  int full = 0;     // lanes that stand because their log is full
  int pauses = 0;   // of its lanes, since it last handed on to another wave
  Meeting pending = Meeting::none;
  uintptr_t site = 0;
  Lane* first_waiting = nullptr;
  Lane* lanes = nullptr;
  Lane* resume = nullptr;   // where the wave goes on
  uint32_t meetings = 0;    // completed; its parity chooses the exchange
  bool parked = false;      // all live lanes are at the block barrier
  uint64_t sync_clock = 0;  // accesses of this wave before it are ordered for this wave
  Exchange exchange[2];
};

// What a wave knows of other devices, and makes known to them.
struct WaveOrder {
  std::unique_ptr<Knowledge> own;             // beyond the block's, by an acquire since its last barrier
  Knowledge seen;                             // released with the counters it loaded
  std::shared_ptr<const Knowledge> released;  // by its last release
};

class Runner {
 public:
  static constexpr size_t lds_guard = 64 << 10;  // unused bytes around the LDS
  Runner();
  ~Runner();
  Runner(const Runner&) = delete;

  // A block that broke a rule is abandoned with the fault filled in; one that waits for a signal goes on with resume.
  Outcome run(const Launch& launch, uint64_t block, Fault& fault);
  Outcome resume(Fault& fault);
  // What a lane of the block that waits looks at.
  Watch watch() const;
  // The global memory the block touched, for the ledger.
  std::vector<ShadowPage*> take_pages() { return pages_.take(); }
  PagePool& pool() { return pool_; }
  Counters take_counters();

  // ---- called by the lanes (octet_sim_*, __tsan_*) ----
  void meet(Lane& lane, Meeting kind, uintptr_t site);
  void log_full(Lane& lane);
  void pause(Lane& lane);
  Place place_of(const Lane& lane, uintptr_t site) const;
  WaveOrder& order_of(const Lane& lane) { return orders_[static_cast<size_t>(lane.wave->index)]; }
  bool is_ordered() const { return launch->peer != nullptr && launch->checks; }
  // Behind its last access: what the block touched is entered for its peers, and what it learned is its device's.
  bool publish_all(Fault& fault);
  [[noreturn]] void stop(const Lane& lane, uintptr_t site, const std::string& what);

  const Launch* launch = nullptr;
  uint64_t block = 0;
  uint32_t block_index[3] = {};
  char* lds = nullptr;         // launch->lds_bytes of it belong to the block
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
  uint64_t tick();
  void complete(Wave& wave);
  void flush_if_all_stand(Wave& wave);
  void park(Wave& wave);
  void next_wave(Wave& after);
  Outcome enter(Lane& lane, Fault& fault);

  // ---- order between devices (order.cpp) ----
  bool publish(bool is_last, Fault& fault);
  void publish_or_abandon();
  void release(Wave& wave);
  void acquire(Wave& wave);
  void barrier_orders();
  [[noreturn]] void abandon(const Fault& fault);

  // ---- the log of the wave that is running (trace.cpp) ----
  LogEntry* log_of(int index) { return log_.get() + static_cast<size_t>(index) * log_stride; }
  enum class Until { all_is_read, a_full_log_is_read };
  void judge_log(Wave& wave, Until until);
  static uint32_t least_key(const Wave& wave, LogEntry* const* cursors);
  static void take_access(const Wave& wave, LogEntry** cursors, WaveAccess& access);
  void judge(Wave& wave, const WaveAccess& access);
  Memory& memory_of(uintptr_t address) const;
  template <Access kind>
  void judge_lds(Wave& wave, const WaveAccess& access, const Moment& now);
  template <Access kind>
  void judge_global(Wave& wave, const WaveAccess& access, const Moment& now);
  [[noreturn]] void report(const Wave& wave, const WaveAccess& access, int i, const Verdict& verdict);

  // The strides keep the logs of a wave's lanes out of each other's cache sets.
  static constexpr size_t log_capacity = 256, log_stride = log_capacity + 4;

  std::vector<char*> stacks_;  // one mapping for each lane
  char* lds_mapping_ = nullptr;
  Lane scheduler_;
  int parked_waves_ = 0, paused_waves_ = 0, exited_lanes_ = 0, live_waves_ = 0;
  Lane* waiting_lane_ = nullptr;  // where the block goes on behind a wait
  uintptr_t barrier_site_ = 0;
  const Lane* barrier_first_ = nullptr;
  std::unique_ptr<LogEntry[]> log_;
  std::unique_ptr<ShadowPage[]> lds_pages_;
  uint64_t block_clock_ = 1;  // when this block began
  bool judging_ = false;
  PagePool pool_;
  BlockPages pages_{pool_};
  Knowledge known_;                // of the block
  std::vector<WaveOrder> orders_;  // of each wave, with a peer
  uint64_t published_ = 0;         // accesses of the block before this clock are entered
  std::vector<Touch> touches_;
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
