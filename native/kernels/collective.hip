// What the ranks of a group do together.
//
//   group_sync: every rank says to every peer that it has come this far, and waits until every peer has said so.
//   gather:     output[i] = sources[r][i] for the rows that rank r owns, of up to four arrays, of every r.
//
// group_sync is one wave: lane p stores the new count into the counter of this rank in peer p's signal memory and looks at
// p's counter in its own. A release at system scope goes before the store, an acquire behind the wait; a counter has one
// writer, no line holds two, and there is no read-modify-write across links. Counts only grow and are compared by the sign of
// their difference, so they may wrap, and a recorded launch can be replayed: the count lies in memory, not in its arguments.
// Kernels before it on the stream are done when it begins, so one release covers what they all wrote.
//
// gather pulls: a rank reads what it lacks from its peers, behind a group_sync. Pushing would save the way of the request,
// about 1 us of 2 us (the signal) + 1 us + bytes / 46 GB/s (one link each way; a rank uses its seven at once). But tokens are
// sharded, and rows gathered, only where there are many: at 5,600 tokens on four ranks 5.9 MB come over each link, 128 us, of
// which 1 us is less than 1 %; with few tokens every rank does all of them and there is no gather. In return every buffer has
// one writer, its owner; nobody writes into a peer but a counter, so a rank that stops halfway leaves its peers' data whole;
// and one group_sync before and one behind, which the layer has anyway, are all that orders it.
//
// A block of gather serves one array and one peer. Rank r begins with peer r + 1, so that no two ranks begin at one peer.
// 46 GB/s x 2 us of latency are 92 KB on their way on each link: four loads of 16 bytes a thread, ten blocks of 512 threads
// a peer (seven peers: 70 of 304 CUs) have 328 KB.
#include <octet.h>
#include <stdint.h>

constexpr int gather_threads = 512, gather_run = 4;  // packs on their way in each thread

struct GroupSyncParams {
  uint32_t* signals[OCTET_MAX_RANKS];  // [ranks] of [OCTET_MAX_RANKS] counters OCTET_SIGNAL_STRIDE apart
  uint32_t* epoch;                     // [1]
  uint32_t* status;                    // [1]
  int32_t rank, ranks;
  int64_t timeout_ms;
};

struct GatherArray {
  const uint8_t* sources[OCTET_MAX_RANKS];  // [ranks] of [rows, row_bytes]
  uint8_t* output;                          // [rows, row_bytes]
  int64_t row_bytes, source_stride, output_stride;
  int32_t pack;      // bytes that every row and address is a multiple of: 16, 4 or 1
  int32_t has_gaps;  // 0: rows follow one another without gaps, here and there
};

struct GatherParams {
  GatherArray arrays[OCTET_MAX_GATHER_ARRAYS];
  int64_t starts[OCTET_MAX_RANKS + 1];
  int32_t rank, ranks;
};

#if !defined(OCTET_HOST)
#include "device.h"

OCTET_KERNEL(group_sync, GroupSyncParams, wave_size) {
  const int peer = lane_index();
  const bool is_peer = peer < params.ranks && peer != params.rank;
  if (*params.status != OCTET_GROUP_RUNNING) return;
  uint32_t epoch = *params.epoch + 1;
  if (epoch == OCTET_SIGNAL_POISON) epoch = 0;

  system_release();
  if (is_peer) signal_store(params.signals[peer] + params.rank * OCTET_SIGNAL_STRIDE, epoch);

  // The wave goes round together, so that its end is the same for all lanes. This rank's own counter can only be poison.
  const uint32_t* own = params.signals[params.rank];
  const uint64_t start = clock_ticks(), limit = static_cast<uint64_t>(params.timeout_ms) * clock_ticks_per_ms;
  uint64_t missing = 0;
  bool is_poisoned = false;
  while (true) {
    const uint32_t seen = peer < params.ranks ? signal_load(own + peer * OCTET_SIGNAL_STRIDE) : epoch;
    const bool has_come = !is_peer || static_cast<int32_t>(seen - epoch) >= 0;
    is_poisoned = __ballot(seen == OCTET_SIGNAL_POISON) != 0;
    missing = __ballot(!has_come);
    if (is_poisoned || missing == 0 || __ballot(clock_ticks() - start > limit) != 0) break;
    signal_pause(!has_come);
  }
  system_acquire();

  if (!is_poisoned && missing == 0) {
    if (peer == 0) *params.epoch = epoch;
    return;
  }
  if (is_peer) signal_store(params.signals[peer] + peer * OCTET_SIGNAL_STRIDE, OCTET_SIGNAL_POISON);
  if (peer == 0)
    *params.status = is_poisoned ? OCTET_GROUP_POISONED : OCTET_GROUP_TIMED_OUT | static_cast<uint32_t>(missing) << 8;
}

// Packs first, first + step, ... of `count`.
template <class Pack>
OCTET_INLINE void gather_copy(const uint8_t* source, uint8_t* output, int64_t bytes, int64_t first, int64_t step) {
  const auto* from = reinterpret_cast<const Pack*>(source);
  auto* to = reinterpret_cast<Pack*>(output);
  const int64_t count = bytes / static_cast<int64_t>(sizeof(Pack));
  int64_t i = first;
  for (; i + (gather_run - 1) * step < count; i += gather_run * step) {
    Pack packs[gather_run];
#pragma unroll
    for (int j = 0; j < gather_run; j++) packs[j] = from[i + j * step];
#pragma unroll
    for (int j = 0; j < gather_run; j++) to[i + j * step] = packs[j];
  }
  for (; i < count; i += step) to[i] = from[i];
}

template <class Pack>
OCTET_INLINE void gather_range(const GatherArray& array, int source, int64_t first, int64_t rows) {
  const uint8_t* from = array.sources[source] + first * array.source_stride;
  uint8_t* to = array.output + first * array.output_stride;
  if (!array.has_gaps) {
    gather_copy<Pack>(from, to, rows * array.row_bytes, blockIdx.x * int64_t{gather_threads} + threadIdx.x,
                      gridDim.x * int64_t{gather_threads});
    return;
  }
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
    gather_copy<Pack>(from + row * array.source_stride, to + row * array.output_stride, array.row_bytes, threadIdx.x,
                      gather_threads);
}

OCTET_KERNEL(gather_rows, GatherParams, gather_threads) {
  const GatherArray& array = params.arrays[blockIdx.z];
  const int source = (params.rank + 1 + static_cast<int>(blockIdx.y)) % params.ranks;
  const int64_t first = params.starts[source], rows = params.starts[source + 1] - first;
  if (rows == 0 || array.sources[source] == array.output) return;
  // NOTE: group_sync's acquire was that of one CU; what this one has cached of the peers' memory is older.
  system_acquire();
  if (array.pack == 16)
    gather_range<u32x4>(array, source, first, rows);
  else if (array.pack == 4)
    gather_range<uint32_t>(array, source, first, rows);
  else
    gather_range<uint8_t>(array, source, first, rows);
}
#endif

#if defined(OCTET_HOST)
#include <algorithm>

#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

constexpr int64_t gather_peer_blocks = 10;  // at most, for each peer and array

void require_rank(const char* op, int32_t rank, int32_t ranks) {
  require_range(op, "ranks", ranks, 1, OCTET_MAX_RANKS);
  require_range(op, "rank", rank, 0, ranks - 1);
}

// What one array of gather says, checked.
GatherArray gather_array(const octet_gather_array& from, int32_t rank, int32_t ranks, int64_t rows) {
  constexpr const char* op = "gather";
  require_range(op, "row_bytes", from.row_bytes, 0, INT32_MAX);
  require_range(op, "source_stride", from.source_stride, from.row_bytes, max_stride);
  require_range(op, "output_stride", from.output_stride, from.row_bytes, max_stride);
  GatherArray array{};
  if (rows == 0 || from.row_bytes == 0) return array;
  require_pointer(op, "output", from.output);
  for (int r = 0; r < ranks; r++) {
    require_pointer(op, "sources", from.sources[r]);
    require(r == rank || from.sources[r] != from.output, "gather: the source of rank %d is the output of rank %d, %p", r, rank,
            from.output);
    array.sources[r] = static_cast<const uint8_t*>(from.sources[r]);
  }
  array.output = static_cast<uint8_t*>(from.output);
  array.row_bytes = from.row_bytes;
  array.source_stride = from.source_stride;
  array.output_stride = from.output_stride;
  const int64_t together = from.row_bytes | from.source_stride | from.output_stride;
  array.pack = together % 16 == 0 ? 16 : together % 4 == 0 ? 4 : 1;
  array.has_gaps = from.source_stride != from.row_bytes || from.output_stride != from.row_bytes;
  return array;
}

}  // namespace
}  // namespace octet

extern "C" octet_status octet_group_sync(const octet_group_sync_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "group_sync";
    const auto& args = checked(op, pointer);
    require(stream != nullptr, "group_sync: stream is null");
    require_rank(op, args.rank, args.ranks);
    require_range(op, "timeout_ms", args.timeout_ms, 1, 3'600'000);
    require_pointer(op, "epoch", args.epoch);
    require_pointer(op, "status", args.status);
    GroupSyncParams params{};
    for (int r = 0; r < args.ranks; r++) {
      require_pointer(op, "signals", args.signals[r]);
      params.signals[r] = args.signals[r];
    }
    params.epoch = args.epoch;
    params.status = args.status;
    params.rank = args.rank;
    params.ranks = args.ranks;
    params.timeout_ms = args.timeout_ms;
    launch(stream, "group_sync", Grid{1}, 1, 0, params);
  });
}

extern "C" octet_status octet_gather(const octet_gather_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "gather";
    const auto& args = checked(op, pointer);
    require(stream != nullptr, "gather: stream is null");
    require_rank(op, args.rank, args.ranks);
    require_range(op, "array_count", args.array_count, 1, OCTET_MAX_GATHER_ARRAYS);
    require(args.starts[0] == 0, "gather: starts[0] = %lld must be 0", static_cast<long long>(args.starts[0]));
    GatherParams params{};
    int64_t most_rows = 0;
    for (int r = 0; r < args.ranks; r++) {
      require_range(op, "starts", args.starts[r + 1], args.starts[r], INT32_MAX);
      params.starts[r + 1] = args.starts[r + 1];
      most_rows = std::max(most_rows, args.starts[r + 1] - args.starts[r]);
    }
    // Ranges in place are not copied: with every array in place, nobody serves this rank's own.
    int64_t blocks = 0;
    uint32_t sources = static_cast<uint32_t>(args.ranks) - 1;
    for (int i = 0; i < args.array_count; i++) {
      const GatherArray array = params.arrays[i] = gather_array(args.arrays[i], args.rank, args.ranks, args.starts[args.ranks]);
      if (array.output == nullptr) continue;
      const int64_t packs = most_rows * array.row_bytes / array.pack;
      blocks = std::max(blocks, std::min((packs - 1) / (gather_threads * gather_run) + 1, gather_peer_blocks));
      if (array.sources[args.rank] != array.output) sources = static_cast<uint32_t>(args.ranks);
    }
    params.rank = args.rank;
    params.ranks = args.ranks;
    launch(stream, "gather_rows", Grid{static_cast<uint32_t>(blocks), sources, static_cast<uint32_t>(args.array_count)},
           gather_threads / facts(stream).wave_size, 0, params);
  });
}
#endif
