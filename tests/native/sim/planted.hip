// Kernels with one planted bug each, for the simulator's checker, and their right counterparts. A line marked `bug: name`
// is the one the report must name. Compiled for the simulator only; simulator_test.cpp launches them.
#include "../../../native/kernels/device.h"

struct PlantedParams {
  int32_t* data;
  int32_t* output;
  int32_t n;
};

struct PlantedLds {
  int32_t words[256];
};

static OCTET_INLINE int thread() { return static_cast<int>(threadIdx.x); }

// ---- out of bounds ----

OCTET_KERNEL(planted_lds_overrun, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  if (thread() == 70) lds.words[params.n] = 1;  // bug: planted_lds_overrun
}

OCTET_KERNEL(planted_global_overrun, PlantedParams, 256) {
  if (thread() == 37) params.output[0] = params.data[params.n];  // bug: planted_global_overrun
}

// ---- never written ----

OCTET_KERNEL(planted_lds_unwritten, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  if (thread() != 90) lds.words[thread()] = thread();
  __syncthreads();
  params.output[thread()] = lds.words[thread()];  // bug: planted_lds_unwritten
}

// Bytes 0..2 of a word are written, byte 3 is not.
OCTET_KERNEL(planted_lds_byte_unwritten, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(lds.words);
  if (thread() % 4 != 3) bytes[thread()] = 7;
  __syncthreads();
  if (thread() == 2) params.output[0] = lds.words[1];  // bug: planted_lds_byte_unwritten
}

// What an earlier block left in the LDS is no value of this one: thread 1 of block 1 reads what block 0 wrote.
OCTET_KERNEL(planted_lds_left_over, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  if (blockIdx.x == 0) lds.words[thread()] = 5;
  if (blockIdx.x == 1 && thread() == 1) params.output[1] = lds.words[1];  // bug: planted_lds_left_over
}

OCTET_KERNEL(planted_global_unwritten, PlantedParams, 256) {
  if (thread() == 3) params.output[0] = params.data[params.n - 1];  // bug: planted_global_unwritten
}

// The value nobody wrote sends another access astray; the report must name the cause.
OCTET_KERNEL(planted_unwritten_index, PlantedParams, 256) {
  if (thread() != 3) return;
  const int index = params.data[params.n - 1];  // bug: planted_unwritten_index
  params.output[index + (1 << 28)] = 0;
}

// ---- races within a block: of two accesses the later in the simulator's order is reported, and names the other ----

OCTET_KERNEL(planted_lds_race, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  const int threads = static_cast<int>(blockDim.x);
  lds.words[thread()] = 0;
  __syncthreads();
  lds.words[thread()] = thread();  // bug: planted_lds_race
  params.output[thread()] = lds.words[(thread() + threads / 2) % threads];
}

OCTET_KERNEL(planted_lds_write_race, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  if (thread() == 9 || thread() == 100) lds.words[17] = params.n;  // bug: planted_lds_write_race
}

// The lanes of one wave; a shuffle between the accesses orders nothing.
OCTET_KERNEL(planted_missing_wave_sync, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  lds.words[thread()] = 0;
  __syncthreads();
  lds.words[thread()] = thread();
  const int other = __shfl_xor(thread(), 1);
  params.output[thread()] = lds.words[other];  // bug: planted_missing_wave_sync
}

// wave_sync orders the lanes of a wave, not the waves.
OCTET_KERNEL(planted_wave_sync_between_waves, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  const int threads = static_cast<int>(blockDim.x);
  lds.words[thread()] = 0;
  __syncthreads();
  lds.words[thread()] = thread();  // bug: planted_wave_sync_between_waves
  wave_sync();
  params.output[thread()] = lds.words[(thread() + wave_size) % threads];
}

// Every lane of the wave has read the word when one of them writes it.
OCTET_KERNEL(planted_read_then_write, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  if (thread() == 0) lds.words[0] = 1;
  __syncthreads();
  params.output[thread()] = lds.words[0];
  __shfl(thread(), 0);
  if (thread() == 5) lds.words[0] = 2;  // bug: planted_read_then_write
}

OCTET_KERNEL(planted_byte_race, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(lds.words);
  bytes[thread()] = 1;
  if (thread() == 11) bytes[14 + params.n] = 1;  // bug: planted_byte_race
}

OCTET_KERNEL(planted_atomic_and_plain, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  if (thread() == 0) lds.words[0] = 0;
  __syncthreads();
  atomic_add(&lds.words[0], 1);
  params.output[thread()] = lds.words[0];  // bug: planted_atomic_and_plain
}

OCTET_KERNEL(planted_global_race_in_block, PlantedParams, 256) {
  if (thread() == 2 || thread() == 3) params.output[0] = 1;  // bug: planted_global_race_in_block
}

// ---- races between blocks ----

OCTET_KERNEL(planted_blocks_write, PlantedParams, 256) {
  if (thread() == 4) params.output[blockIdx.x / 2] = 1;  // bug: planted_blocks_write
}

// Block 2 reads what block 1 writes; both orders of running must give one report.
OCTET_KERNEL(planted_blocks_read, PlantedParams, 256) {
  if (thread() != 6) return;
  if (blockIdx.x == 1) params.data[0] = 1;
  if (blockIdx.x == 2) params.output[0] = params.data[0];  // bug: planted_blocks_read
}

// Block 1 reads, block 3 writes.
OCTET_KERNEL(planted_blocks_read_first, PlantedParams, 256) {
  if (thread() != 6) return;
  if (blockIdx.x == 1) params.output[0] = params.data[0];
  if (blockIdx.x == 3) params.data[0] = 1;  // bug: planted_blocks_read_first
}

OCTET_KERNEL(planted_blocks_atomic_and_plain, PlantedParams, 256) {
  if (thread() != 6) return;
  if (blockIdx.x < 3) atomic_add(&params.data[0], 1);
  if (blockIdx.x == 3) params.output[0] = params.data[0];  // bug: planted_blocks_atomic_and_plain
}

// ---- divergence, misalignment ----

OCTET_KERNEL(planted_divergent_barrier, PlantedParams, 256) {
  if (thread() < 33) __syncthreads();  // bug: planted_divergent_barrier
  params.output[thread()] = 1;
}

OCTET_KERNEL(planted_misaligned, PlantedParams, 256) {
  if (thread() != 8) return;
  const auto* words = reinterpret_cast<const u32x4*>(params.data + params.n);
  *reinterpret_cast<u32x4*>(params.output) = *words;  // bug: planted_misaligned
}

// ---- nothing wrong ----

// Exchange through LDS behind barriers, in words, bytes and halves, over and over.
OCTET_KERNEL(clean_barriers, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  const int threads = static_cast<int>(blockDim.x);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(lds.words);
  int sum = 0;
  for (int turn = 0; turn < 3; turn++) {
    lds.words[thread()] = thread() + turn;
    __syncthreads();
    sum += lds.words[(thread() + 1) % threads];
    __syncthreads();
    bytes[thread()] = static_cast<uint8_t>(thread());
    __syncthreads();
    sum += lds.words[thread() / 4];
    __syncthreads();
  }
  params.output[thread()] = sum;
}

// Exchange between the lanes of a wave behind wave_sync, in words and bytes, and a reader of many lanes before a writer.
OCTET_KERNEL(clean_wave_sync, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  const int first = wave_index() * wave_size;
  uint8_t* bytes = reinterpret_cast<uint8_t*>(lds.words + first);
  int sum = 0;
  for (int turn = 0; turn < 3; turn++) {
    lds.words[thread()] = thread();
    wave_sync();
    sum += lds.words[first + (lane_index() + 1) % wave_size];
    wave_sync();
    bytes[lane_index()] = 1;
    wave_sync();
    sum += bytes[0] + bytes[lane_index()];
    wave_sync();
  }
  params.output[thread()] = sum;
}

// A histogram of the block in LDS, added to one of the launch.
OCTET_KERNEL(clean_atomics, PlantedParams, 256) {
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  if (thread() < 4) lds.words[thread()] = 0;
  __syncthreads();
  atomic_add(&lds.words[thread() % 4], 1);
  __syncthreads();
  if (thread() < 4) atomic_add(&params.output[thread()], lds.words[thread()]);
}

// All kinds of atomic access to one word, from every lane of every block.
OCTET_KERNEL(clean_atomic_kinds, PlantedParams, 256) {
  int32_t* word = params.output;
  int32_t expected = __atomic_load_n(word, __ATOMIC_RELAXED);
  __atomic_compare_exchange_n(word, &expected, 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  __atomic_store_n(word, 2, __ATOMIC_RELAXED);
  __atomic_exchange_n(word, 3, __ATOMIC_RELAXED);
  __atomic_fetch_or(word, 7, __ATOMIC_RELAXED);
}

// Blocks write neighbouring bytes of one word, and all read the same input.
OCTET_KERNEL(clean_neighbouring_bytes, PlantedParams, 256) {
  if (thread() == 0) reinterpret_cast<uint8_t*>(params.output)[blockIdx.x] = static_cast<uint8_t>(params.data[0]);
}

// A lane's own write is no race with its own reads and writes; a table of constants may be read through a pointer.
OCTET_KERNEL(clean_own_and_constants, PlantedParams, 256) {
  static constexpr int32_t low[4] = {1, 2, 3, 4}, high[4] = {5, 6, 7, 8};
  PlantedLds& lds = OCTET_LDS(PlantedLds);
  const int32_t* table = thread() % 2 == 0 ? low : high;
  lds.words[thread()] = table[thread() % 4];
  lds.words[thread()] += table[params.n % 4];
  params.output[thread()] = lds.words[thread()];
}

// A loop of as many turns as the lane has ahead of it, long enough to fill a lane's log more than once.
OCTET_KERNEL(clean_uneven_loops, PlantedParams, 256) {
  int sum = 0;
  for (int i = 0; i < params.n * (1 + thread() % 3); i++) sum += params.data[i % 64];
  params.output[thread()] = sum;
}

// ---- for the counters: each lane reads the word at its thread number times n, and writes it to its own ----

OCTET_KERNEL(count_global, PlantedParams, 256) { params.output[thread()] = params.data[thread() * params.n]; }

OCTET_KERNEL(count_lds, PlantedParams, 256) {
  int32_t* words = &OCTET_LDS(int32_t);
  for (int i = 0; i < 64; i++) words[i * static_cast<int>(blockDim.x) + thread()] = i;
  __syncthreads();
  params.output[thread()] = words[thread() * params.n];
}

// Lanes of odd number skip one read: both parts of the wave execute the others together.
OCTET_KERNEL(count_divergent, PlantedParams, 256) {
  int sum = params.data[thread()];
  if (thread() % 2 == 0) sum += params.data[256 + thread()];
  sum += params.data[512 + thread()];
  params.output[thread()] = sum;
}
