// What kernels call (device_sim.h): a lane's place in the launch, barriers, and the collectives that gather a wave.
#include <chrono>
#include <cstring>

#include "memory.h"
#include "peers.h"
#include "runner.h"

using namespace octet::sim;

// The matrix of one emulated instruction, from the registers of all lanes.
namespace octet::sim {
void emulate_mma(const Launch& launch, Meeting kind, Exchange& exchange);
}

#define SITE reinterpret_cast<uintptr_t>(__builtin_return_address(0))

extern "C" {

unsigned octet_sim_thread_index(void) { return static_cast<unsigned>(current_lane->thread); }
unsigned octet_sim_block_index(int axis) { return current_runner->block_index[axis]; }
unsigned octet_sim_block_size(void) { return static_cast<unsigned>(current_runner->launch->threads); }
unsigned octet_sim_grid_size(int axis) {
  const octet::Grid& grid = current_runner->launch->grid;
  return axis == 0 ? grid.x : axis == 1 ? grid.y : grid.z;
}
char* octet_sim_lds(void) { return current_runner->lds; }

void octet_sim_block_barrier(void) { current_runner->meet(*current_lane, Meeting::barrier, SITE); }
void octet_sim_wave_barrier(void) { current_runner->meet(*current_lane, Meeting::wave_barrier, SITE); }

// As ds_bpermute and shfl.sync do, the source lane counts modulo the wave.
uint32_t octet_sim_shuffle(uint32_t value, int source) {
  Lane& lane = *current_lane;
  Wave& wave = *lane.wave;
  Exchange& exchange = wave.exchange[wave.meetings % 2];
  exchange.words[lane.index] = value;
  current_runner->meet(lane, Meeting::shuffle, SITE);
  return exchange.words[static_cast<unsigned>(source) % static_cast<unsigned>(wave.size)];
}

uint64_t octet_sim_ballot(bool predicate) {
  Lane& lane = *current_lane;
  Wave& wave = *lane.wave;
  Exchange& exchange = wave.exchange[wave.meetings % 2];
  // Lanes that have left vote no.
  if (wave.waiting == 0) std::memset(exchange.words, 0, sizeof(exchange.words));
  exchange.words[lane.index] = predicate;
  current_runner->meet(lane, Meeting::ballot, SITE);
  uint64_t bits = 0;
  for (int i = 0; i < wave.size; i++) bits |= uint64_t{exchange.words[i]} << i;
  return bits;
}

void octet_sim_system_release(void) { current_runner->meet(*current_lane, Meeting::release, SITE); }
void octet_sim_system_acquire(void) { current_runner->meet(*current_lane, Meeting::acquire, SITE); }

// A counter lies in memory for signals, of this device or of one that it reaches: elsewhere a GPU may keep it in a cache.
static void require_counter(const uint32_t* counter, uintptr_t site) {
  const Launch& launch = *current_runner->launch;
  if (!launch.checks) return;
  const auto address = reinterpret_cast<uintptr_t>(counter);
  const Peer* owner = launch.peer == nullptr ? nullptr : launch.peer->owner(address, sizeof(*counter));
  const Memory& memory = owner == nullptr ? *launch.memory : *owner->memory;
  if (address % sizeof(*counter) == 0 && memory.contains(address, sizeof(*counter)) && memory.for_signals(address)) return;
  char text[128];
  std::snprintf(text, sizeof(text), "signal at %p, which is no counter in signal memory that this device reaches",
                static_cast<const void*>(counter));
  current_runner->stop(*current_lane, site, text);
}

void octet_sim_signal_store(uint32_t* counter, uint32_t value) {
  require_counter(counter, SITE);
  Runner& runner = *current_runner;
  Peers::all().store(runner.place_of(*current_lane, SITE),
                     runner.is_ordered() ? runner.order_of(*current_lane).released : nullptr, counter, value);
}
uint32_t octet_sim_signal_load(const uint32_t* counter) {
  require_counter(counter, SITE);
  current_lane->counter = counter;
  current_lane->counter_site = SITE;
  Knowledge none;
  Runner& runner = *current_runner;
  return Peers::all().load(counter, runner.is_ordered() ? runner.order_of(*current_lane).seen : none);
}
void octet_sim_signal_pause(bool has_to_wait) {
  Lane& lane = *current_lane;
  lane.has_to_wait = has_to_wait;
  current_runner->pause(lane);
  lane.has_to_wait = false;
}
uint64_t octet_sim_clock(void) {
  return static_cast<uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

static void mma(Meeting kind, uintptr_t site, const uint32_t* a, const uint32_t* b, float* d) {
  Lane& lane = *current_lane;
  Wave& wave = *lane.wave;
  Runner& runner = *current_runner;
  Exchange& exchange = wave.exchange[wave.meetings % 2];
  std::memcpy(exchange.a[lane.index], a, wave.size == 64 ? 8 : 16);
  std::memcpy(exchange.b[lane.index], b, 8);
  for (int r = 0; r < 4; r++) exchange.d[r][lane.index] = d[r];
  const bool last = wave.waiting + 1 == wave.live;
  runner.meet(lane, kind, site);
  if (last) {
    emulate_mma(*runner.launch, kind, exchange);
    runner.counters.mfma++;
  }
  for (int r = 0; r < 4; r++) d[r] = exchange.d[r][lane.index];
}

void octet_sim_mma_fp8(const uint32_t* a, const uint32_t* b, float* d) { mma(Meeting::mma_fp8, SITE, a, b, d); }
void octet_sim_mma_bf16(const uint32_t* a, const uint32_t* b, float* d) { mma(Meeting::mma_bf16, SITE, a, b, d); }

}  // extern "C"
