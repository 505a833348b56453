// moe_route, moe_sort, moe_combine: which expert serves which token, and the sum of what the experts gave.
//
// route: p = softmax(logits[t]) in f32 over all experts, then the top_k largest logits in descending order (ties: the
// lower expert first; NaN counts as -inf). The softmax is taken as a limit where it would be NaN: logits equal to the
// largest count as exp(0) = 1, so +inf shares all weight among its likes and a row without a finite logit weighs all
// experts alike. One wave to a token; a lane holds neighbouring experts, so the lowest lane of a tie has the lowest
// one.
//
// sort: stable counting sort of the pairs p = token*top_k + choice by local expert. A block takes a chunk of 4,096
// pairs, each of its 8 waves 512 neighbouring ones, and every wave counts in LDS for itself: the rank of a pair among
// those of its wave comes from ballots, not from atomics, so it is stable. Up to 4,096 pairs one launch does it all;
// more take a launch that leaves the counts of each chunk in the workspace, and one that adds them up and places.
//
// combine: output[t] = sum over choices c, in order, of weights[t, c] * y[pair_slots[t*top_k + c]], f32, then bf16.
// A thread takes eight columns of a token.
//
// Floors at Qwen3-235B, 16,384 tokens: route 9.4 MB, sort 1.6 MB: launch latency; combine 1.21 GB (8 rows of 4,096 bf16
// in, one out), 249 us at 4.86 TB/s.
#include <octet.h>
#include <stdint.h>

constexpr int route_waves = 4;  // tokens of a block
constexpr int max_experts = 512;
constexpr int sort_waves = 8;
constexpr int sort_wave_pairs = 512;
constexpr int sort_chunk = sort_waves * sort_wave_pairs;
constexpr int combine_threads = 256;

struct MoeRouteParams {
  const float* logits;  // [tokens, experts]
  int32_t* ids;         // [tokens, top_k]
  float* weights;       // [tokens, top_k]
  int64_t tokens, logits_stride;
  int32_t experts, top_k, renormalize;
};

struct MoeSortParams {
  const int32_t* ids;       // [pairs]
  int32_t* expert_offsets;  // [local_experts + 1]
  int32_t* slot_pairs;      // [pairs]
  int32_t* pair_slots;      // [pairs]
  int32_t* counts;          // [chunks, local_experts], with more than one chunk
  int32_t pairs, chunks;
  int32_t experts, first_expert, local_experts;
};

struct MoeSortLds {
  int32_t next[sort_waves][max_experts];  // pairs of each expert in the wave's part, then the next slot for one
  int32_t begins[max_experts + 1];
};

struct MoeCombineParams {
  const uint16_t* y;          // [slots, hidden] bf16
  const int32_t* pair_slots;  // [tokens, top_k]
  const float* weights;       // [tokens, top_k]
  uint16_t* output;           // [tokens, hidden] bf16
  int64_t tokens, hidden;
  int64_t y_stride, output_stride;
  int32_t top_k;
  uint32_t column_blocks;  // blocks to a token
  bool aligned;
};

#if !defined(OCTET_HOST)
#include "columns.h"

// ---- route ----

// Order-preserving bits of a float that is not NaN. 0 is below them all.
OCTET_INLINE uint32_t order_bits(float x) {
  const uint32_t bits = float_bits(x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
OCTET_INLINE float ordered_float(uint32_t order) { return bits_float(order >> 31 ? order & 0x7FFFFFFFu : ~order); }

OCTET_INLINE uint32_t wave_max(uint32_t x) {
  for (int mask = wave_size / 2; mask > 0; mask /= 2) x = max_of(x, __shfl_xor(x, mask));
  return x;
}

template <int bound>
OCTET_INLINE void moe_route_kernel(const MoeRouteParams& p) {
  constexpr int per_lane = bound / wave_size;
  const int64_t token = static_cast<int64_t>(blockIdx.x) * route_waves + wave_index();
  if (token >= p.tokens) return;
  const int first = lane_index() * per_lane;

  // The logits in order-preserving bits; experts that do not exist, and later those already chosen, are 0.
  uint32_t order[per_lane];
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < per_lane; i++) {
    order[i] = 0;
    if (first + i < p.experts) {
      const float logit = p.logits[token * p.logits_stride + first + i];
      // NOTE: adding +0 makes -0 the +0 it ties with.
      order[i] = order_bits(logit != logit ? -__builtin_inff() : logit + 0.0f);
    }
    largest = max_of(largest, order[i]);
  }
  largest = wave_max(largest);

  const auto exponential = [&](uint32_t x) {
    return x == largest ? 1.0f : exp_fast(ordered_float(x) - ordered_float(largest));
  };
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < per_lane; i++) sum += order[i] != 0 ? exponential(order[i]) : 0.0f;
  sum = wave_sum(sum);

  float chosen_sum = 0.0f, weight = 0.0f;  // lane c keeps choice c
  int id = 0;
  for (int choice = 0; choice < p.top_k; choice++) {
    uint32_t best = 0;
    int at = 0;
#pragma unroll
    for (int i = 0; i < per_lane; i++) {
      if (order[i] > best) {
        best = order[i];
        at = i;
      }
    }
    const uint32_t top = wave_max(best);
    const int owner = __builtin_ctzll(__ballot(best == top));
    const int expert = owner * per_lane + __shfl(at, owner);
#pragma unroll
    for (int i = 0; i < per_lane; i++) order[i] = first + i == expert ? 0 : order[i];
    const float probability = exponential(top) / sum;
    chosen_sum += probability;
    if (lane_index() == choice) {
      weight = probability;
      id = expert;
    }
  }
  if (lane_index() < p.top_k) {
    const int64_t pair = token * p.top_k + lane_index();
    p.ids[pair] = id;
    p.weights[pair] = p.renormalize ? weight / chosen_sum : weight;
  }
}

OCTET_KERNEL(moe_route_e128, MoeRouteParams, (route_waves * wave_size)) { moe_route_kernel<128>(params); }
OCTET_KERNEL(moe_route_e512, MoeRouteParams, (route_waves * wave_size)) { moe_route_kernel<max_experts>(params); }

// ---- sort ----

// The pairs of a wave, 64 or 32 at a time.
struct SortPairs {
  const MoeSortParams& p;
  int begin, end;
  OCTET_INLINE explicit SortPairs(const MoeSortParams& p)
      : p(p),
        begin(static_cast<int>(blockIdx.x) * sort_chunk + wave_index() * sort_wave_pairs),
        end(min_of(begin + sort_wave_pairs, p.pairs)) {}

  // visit(pair, expert, rank, count) for this lane's pair: its local expert, or local_experts where it has no slot
  // here; its rank among the pairs of that expert in this step, and their number. Lanes beyond the end get pair >= end.
  template <class Visit>
  OCTET_INLINE void each_step(const Visit& visit) const {
    for (int step = begin; step < end; step += wave_size) {
      const int pair = step + lane_index();
      int expert = p.local_experts;
      if (pair < end) {
        const int id = p.ids[pair];
        const bool here = id >= p.first_expert && id < p.first_expert + p.local_experts;
        expert = here ? id - p.first_expert : p.local_experts;
      }
      uint64_t same = __ballot(true);
      for (int bit = 1; bit <= p.local_experts; bit *= 2) {
        const uint64_t ones = __ballot((expert & bit) != 0);
        same &= (expert & bit) != 0 ? ones : ~ones;
      }
      const uint64_t below = (uint64_t{1} << lane_index()) - 1;
      visit(pair, expert, __builtin_popcountll(same & below), __builtin_popcountll(same));
    }
  }
};

// Counts the chunk's pairs into lds.next[wave][expert].
OCTET_INLINE void sort_count(const MoeSortParams& p, MoeSortLds& lds) {
  auto& next = lds.next[wave_index()];
  for (int e = lane_index(); e < p.local_experts; e += wave_size) next[e] = 0;
  wave_sync();
  SortPairs(p).each_step([&](int, int expert, int rank, int count) {
    if (rank == 0 && expert < p.local_experts) next[expert] += count;
    wave_sync();
  });
  __syncthreads();
}

OCTET_KERNEL(moe_sort_count, MoeSortParams, (sort_waves * wave_size)) {
  auto& lds = OCTET_LDS(MoeSortLds);
  sort_count(params, lds);
  for (int e = threadIdx.x; e < params.local_experts; e += blockDim.x) {
    int sum = 0;
    for (int wave = 0; wave < sort_waves; wave++) sum += lds.next[wave][e];
    params.counts[static_cast<int64_t>(blockIdx.x) * params.local_experts + e] = sum;
  }
}

OCTET_KERNEL(moe_sort_place, MoeSortParams, (sort_waves * wave_size)) {
  auto& lds = OCTET_LDS(MoeSortLds);
  const int experts = params.local_experts, chunk = static_cast<int>(blockIdx.x);
  sort_count(params, lds);

  // Pairs of each expert: in the chunks before this one, and in all.
  int before[max_experts / (sort_waves * 32)];
#pragma unroll
  for (int i = 0; i < max_experts / (sort_waves * 32); i++) {
    const int e = threadIdx.x + i * blockDim.x;
    before[i] = 0;
    if (e >= experts) continue;
    int total = 0;
    if (params.chunks == 1) {
      for (int wave = 0; wave < sort_waves; wave++) total += lds.next[wave][e];
    } else {
      for (int c = 0; c < params.chunks; c++) {
        if (c == chunk) before[i] = total;
        total += params.counts[static_cast<int64_t>(c) * experts + e];
      }
    }
    lds.begins[e] = total;
  }
  __syncthreads();

  // Exclusive sum over the experts, by one wave: a lane adds neighbouring experts, the wave adds the lanes.
  if (wave_index() == 0) {
    const int per_lane = static_cast<int>(ceil_div(experts, wave_size));
    const int first = min_of(lane_index() * per_lane, experts), last = min_of(first + per_lane, experts);
    int sum = 0;
    for (int e = first; e < last; e++) sum += lds.begins[e];
    int through = sum;
    for (int delta = 1; delta < wave_size; delta *= 2) {
      const int other = __shfl_up(through, delta);
      if (lane_index() >= delta) through += other;
    }
    int begin = through - sum;
    for (int e = first; e < last; e++) {
      const int count = lds.begins[e];
      lds.begins[e] = begin;
      begin += count;
    }
    if (lane_index() == wave_size - 1) lds.begins[experts] = through;
  }
  __syncthreads();

  // The first slot of each expert in each wave's part.
#pragma unroll
  for (int i = 0; i < max_experts / (sort_waves * 32); i++) {
    const int e = threadIdx.x + i * blockDim.x;
    if (e >= experts) continue;
    int slot = lds.begins[e] + before[i];
    for (int wave = 0; wave < sort_waves; wave++) {
      const int count = lds.next[wave][e];
      lds.next[wave][e] = slot;
      slot += count;
    }
  }
  if (chunk == 0) {
    for (int e = threadIdx.x; e <= experts; e += blockDim.x) params.expert_offsets[e] = lds.begins[e];
  }
  __syncthreads();

  auto& next = lds.next[wave_index()];
  const SortPairs pairs(params);
  const int slots = lds.begins[experts];
  pairs.each_step([&](int pair, int expert, int rank, int count) {
    const bool here = expert < experts;
    const int slot = here ? next[expert] + rank : -1;
    wave_sync();
    if (here && rank == 0) next[expert] += count;
    wave_sync();
    if (pair >= pairs.end) return;
    params.pair_slots[pair] = slot;
    if (here) params.slot_pairs[slot] = pair;
    if (pair >= slots) params.slot_pairs[pair] = -1;
  });
}

// ---- combine ----

OCTET_KERNEL(moe_combine_rows, MoeCombineParams, combine_threads) {
  const int64_t token = blockIdx.x / params.column_blocks;
  const int64_t column = (blockIdx.x % params.column_blocks * combine_threads + threadIdx.x) * int64_t{8};
  const int64_t count = params.hidden - column;
  if (count <= 0) return;
  float sum[8] = {};
  for (int choice = 0; choice < params.top_k; choice++) {
    const int64_t pair = token * params.top_k + choice;
    const int64_t slot = params.pair_slots[pair];
    if (slot < 0 || slot >= params.tokens * params.top_k) continue;
    const float weight = params.weights[pair];
    float y[8];
    load_columns(params.y + slot * params.y_stride, column, count, params.aligned, y);
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] += weight * y[i];
  }
  store_columns(params.output + token * params.output_stride, column, count, params.aligned, sum);
}
#endif

#if defined(OCTET_HOST)
#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

constexpr int max_top_k = 16;

// Pairs are numbered in 32 bits.
void require_pairs(const char* op, int64_t tokens, int32_t top_k) {
  require_range(op, "top_k", top_k, 1, max_top_k);
  require_range(op, "tokens", tokens, 0, (int64_t{1} << 30) / top_k);
}

const octet_moe_sort_args& sort_checked(const octet_moe_sort_args* pointer) {
  constexpr const char* op = "moe_sort";
  const auto& args = checked(op, pointer);
  require_pairs(op, args.tokens, args.top_k);
  require_range(op, "experts", args.experts, 1, max_experts);
  require_range(op, "first_expert", args.first_expert, 0, args.experts - 1);
  require_range(op, "local_experts", args.local_experts, 1, args.experts - args.first_expert);
  return args;
}

int64_t sort_chunks(const octet_moe_sort_args& args) {
  const int64_t pairs = args.tokens * args.top_k;
  return pairs <= sort_chunk ? 1 : (pairs + sort_chunk - 1) / sort_chunk;
}

size_t sort_workspace(const octet_moe_sort_args& args) {
  const int64_t chunks = sort_chunks(args);
  return chunks == 1 ? 0 : static_cast<size_t>(chunks * args.local_experts) * sizeof(int32_t);
}

}  // namespace
}  // namespace octet

extern "C" octet_status octet_moe_route(const octet_moe_route_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "moe_route";
    const auto& args = checked(op, pointer);
    require(stream != nullptr, "moe_route: stream is null");
    require_range(op, "experts", args.experts, 1, max_experts);
    require_pairs(op, args.tokens, args.top_k);
    require(args.top_k <= args.experts, "moe_route: top_k = %d of experts = %d", args.top_k, args.experts);
    require_range(op, "logits_stride", args.logits_stride, args.experts, max_stride);
    const int threads = route_waves * facts(stream).wave_size;
    const int64_t blocks = (args.tokens + route_waves - 1) / route_waves;
    require(blocks <= max_blocks(threads), "moe_route: tokens = %lld are too many for one launch",
            static_cast<long long>(args.tokens));
    if (blocks == 0) return;
    require_pointer(op, "logits", args.logits);
    require_pointer(op, "ids", args.ids);
    require_pointer(op, "weights", args.weights);
    const MoeRouteParams params{
        .logits = args.logits,
        .ids = args.ids,
        .weights = args.weights,
        .tokens = args.tokens,
        .logits_stride = args.logits_stride,
        .experts = args.experts,
        .top_k = args.top_k,
        .renormalize = args.renormalize,
    };
    launch(stream, args.experts <= 128 ? "moe_route_e128" : "moe_route_e512", Grid{static_cast<uint32_t>(blocks)},
           route_waves, 0, params);
  });
}

extern "C" octet_status octet_moe_sort(const octet_moe_sort_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "moe_sort";
    const auto& args = sort_checked(pointer);
    require(stream != nullptr, "moe_sort: stream is null");
    require_pointer(op, "expert_offsets", args.expert_offsets);
    if (args.tokens > 0) {
      require_pointer(op, "ids", args.ids);
      require_pointer(op, "slot_pairs", args.slot_pairs);
      require_pointer(op, "pair_slots", args.pair_slots);
    }
    require_workspace(op, args.workspace, args.workspace_size, sort_workspace(args));
    const int64_t chunks = sort_chunks(args);
    const MoeSortParams params{
        .ids = args.ids,
        .expert_offsets = args.expert_offsets,
        .slot_pairs = args.slot_pairs,
        .pair_slots = args.pair_slots,
        .counts = static_cast<int32_t*>(args.workspace),
        .pairs = static_cast<int32_t>(args.tokens * args.top_k),
        .chunks = static_cast<int32_t>(chunks),
        .experts = args.experts,
        .first_expert = args.first_expert,
        .local_experts = args.local_experts,
    };
    const Grid grid{static_cast<uint32_t>(chunks)};
    if (chunks > 1) launch(stream, "moe_sort_count", grid, sort_waves, sizeof(MoeSortLds), params);
    // No pairs are one empty chunk: the offsets are to become zeros.
    launch(stream, "moe_sort_place", grid, sort_waves, sizeof(MoeSortLds), params);
  });
}

extern "C" octet_status octet_moe_sort_workspace(const octet_moe_sort_args* pointer, octet_device* device,
                                                 size_t* size) {
  using namespace octet;
  return guarded([&] {
    const auto& args = sort_checked(pointer);
    require(device != nullptr, "moe_sort: device is null");
    require(size != nullptr, "moe_sort: size is null");
    *size = sort_workspace(args);
  });
}

extern "C" octet_status octet_moe_combine(const octet_moe_combine_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "moe_combine";
    const auto& args = checked(op, pointer);
    require(stream != nullptr, "moe_combine: stream is null");
    require_pairs(op, args.tokens, args.top_k);
    require_range(op, "hidden", args.hidden, 0, INT32_MAX);
    require_range(op, "y_stride", args.y_stride, args.hidden, max_stride);
    require_range(op, "output_stride", args.output_stride, args.hidden, max_stride);
    const int64_t column_blocks = (args.hidden + 8 * combine_threads - 1) / (8 * combine_threads);
    const int64_t blocks = args.tokens * column_blocks;
    require(blocks <= max_blocks(combine_threads),
            "moe_combine: tokens = %lld by hidden = %lld are too many for one launch",
            static_cast<long long>(args.tokens), static_cast<long long>(args.hidden));
    if (blocks == 0) return;
    require_pointer(op, "y", args.y);
    require_pointer(op, "pair_slots", args.pair_slots);
    require_pointer(op, "weights", args.weights);
    require_pointer(op, "output", args.output);
    const MoeCombineParams params{
        .y = static_cast<const uint16_t*>(args.y),
        .pair_slots = args.pair_slots,
        .weights = args.weights,
        .output = static_cast<uint16_t*>(args.output),
        .tokens = args.tokens,
        .hidden = args.hidden,
        .y_stride = args.y_stride,
        .output_stride = args.output_stride,
        .top_k = args.top_k,
        .column_blocks = static_cast<uint32_t>(column_blocks),
        .aligned = args.y_stride % 8 == 0 && args.output_stride % 8 == 0,
    };
    launch(stream, "moe_combine_rows", Grid{static_cast<uint32_t>(blocks)}, combine_threads / facts(stream).wave_size,
           0, params);
  });
}
#endif
