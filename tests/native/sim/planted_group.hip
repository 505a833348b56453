// Kernels of several devices with one planted bug each, and their right counterparts. A line marked `bug: name` is the one
// the report must name. Compiled for the simulator only; group_test.cpp launches them.
#include "../../../native/kernels/device.h"

// Of one rank. Counters lie 16 words apart.
struct PlantedGroupParams {
  uint32_t* signals[8];  // of each rank; counter r is written by rank r
  int32_t* data[8];      // of each rank, [256 * blocks]
  int32_t* output;       // [256 * blocks]
  int32_t rank, ranks;
  uint32_t epoch;
  int32_t value;
};

static OCTET_INLINE int thread() { return static_cast<int>(threadIdx.x); }
static OCTET_INLINE int index() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

// What every rank does between two syncs: writes its own data, and adds up everybody's.
OCTET_KERNEL(group_write, PlantedGroupParams, 256) {
  params.data[params.rank][index()] = params.value;  // bug: early_reuse
}
OCTET_KERNEL(group_read, PlantedGroupParams, 256) {
  int sum = 0;
  for (int r = 0; r < params.ranks; r++) sum += params.data[r][index()];  // bug: unordered_read
  params.output[index()] = sum;
}
OCTET_KERNEL(group_write_peers, PlantedGroupParams, 256) {
  for (int r = 0; r < params.ranks; r++)
    if (r != params.rank) params.data[r][index()] = params.value;  // bug: unordered_write
}

static OCTET_INLINE void store_counters(const PlantedGroupParams& params, int counter) {
  if (thread() < params.ranks && thread() != params.rank)
    signal_store(params.signals[thread()] + counter * 16, params.epoch);
}
static OCTET_INLINE void wait_for_counters(const PlantedGroupParams& params) {
  if (thread() >= params.ranks || thread() == params.rank) return;
  const uint32_t* counter = params.signals[params.rank] + thread() * 16;
  while (signal_load(counter) < params.epoch) signal_pause(true);  // bug: endless_wait
}

OCTET_KERNEL(clean_sync, PlantedGroupParams, 64) {
  system_release();
  store_counters(params, params.rank);
  wait_for_counters(params);
  system_acquire();
}
OCTET_KERNEL(planted_no_release, PlantedGroupParams, 64) {
  store_counters(params, params.rank);
  wait_for_counters(params);
  system_acquire();
}
OCTET_KERNEL(planted_release_behind_the_store, PlantedGroupParams, 64) {
  store_counters(params, params.rank);
  system_release();
  wait_for_counters(params);
  system_acquire();
}
OCTET_KERNEL(planted_no_acquire, PlantedGroupParams, 64) {
  system_release();
  store_counters(params, params.rank);
  wait_for_counters(params);
}
OCTET_KERNEL(planted_acquire_before_the_wait, PlantedGroupParams, 64) {
  system_release();
  store_counters(params, params.rank);
  system_acquire();
  wait_for_counters(params);
}
OCTET_KERNEL(planted_wrong_counter, PlantedGroupParams, 64) {
  system_release();
  store_counters(params, (params.rank + 1) % params.ranks);
  wait_for_counters(params);
  system_acquire();
}
OCTET_KERNEL(planted_signal_in_data, PlantedGroupParams, 64) {
  if (thread() == 0)
    signal_store(reinterpret_cast<uint32_t*>(params.output), params.epoch);  // bug: planted_signal_in_data
}

// All in one launch: block b of every rank writes its part, says so, waits for the blocks b of its peers, and adds up their
// parts. Counter rank + 8 * (block + 1). The second wave reads behind the barrier.
static OCTET_INLINE void exchange(const PlantedGroupParams& params, bool has_barrier_before, bool has_barrier_behind) {
  params.data[params.rank][index()] = params.value;  // bug: planted_exchange_no_barrier_before
  if (has_barrier_before) __syncthreads();
  const int block = static_cast<int>(blockIdx.x);
  if (wave_index() == 0) {
    system_release();
    if (thread() < params.ranks && thread() != params.rank)
      signal_store(params.signals[thread()] + (params.rank + 8 * (block + 1)) * 16, params.epoch);
    if (thread() < params.ranks && thread() != params.rank) {
      const uint32_t* counter = params.signals[params.rank] + (thread() + 8 * (block + 1)) * 16;
      while (signal_load(counter) < params.epoch) signal_pause(true);
    }
    system_acquire();
  }
  if (has_barrier_behind) __syncthreads();
  int sum = 0;
  for (int r = 0; r < params.ranks; r++) sum += params.data[r][index()];  // bug: planted_exchange_no_barrier_behind
  params.output[index()] = sum;
}
OCTET_KERNEL(clean_exchange, PlantedGroupParams, 256) { exchange(params, true, true); }
OCTET_KERNEL(planted_exchange_no_barrier_before, PlantedGroupParams, 256) { exchange(params, false, true); }
OCTET_KERNEL(planted_exchange_no_barrier_behind, PlantedGroupParams, 256) { exchange(params, true, false); }

// Blocks wait for one another in an order that one thread, or one block after another, could not keep: block b waits for
// the peer's block blocks - 1 - b.
OCTET_KERNEL(clean_crossed_blocks, PlantedGroupParams, 64) {
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x), peer = 1 - params.rank;
  params.data[params.rank][index()] = params.value + block;
  system_release();
  if (thread() == 0) signal_store(params.signals[peer] + block * 16, params.epoch);
  const uint32_t* counter = params.signals[params.rank] + (blocks - 1 - block) * 16;
  while (signal_load(counter) < params.epoch) signal_pause(true);
  system_acquire();
  params.output[index()] = params.data[peer][(blocks - 1 - block) * static_cast<int>(blockDim.x) + thread()];
}
