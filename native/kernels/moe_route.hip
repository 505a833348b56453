// moe_route, moe_sort, moe_combine: which expert serves which token, and the sum of what the experts gave.
//
// route: p = softmax(logits[t]) in f32 over all experts, then the top_k largest logits in descending order (ties: the
// lower expert first; NaN counts as -inf). The softmax is taken as a limit where it would be NaN: logits equal to the
// largest count as exp(0) = 1, so +inf shares all weight among its likes and a row without a finite logit weighs all
// experts alike. A team of 16 lanes, or 32 with more than 128 experts, routes a token; a lane holds neighbouring
// experts, so the lowest lane of a tie has the lowest one. Logits may come as the partial sums of a split GEMM: they
// are added here, in order.
//
// sort: stable counting sort of the pairs p = token*top_k + choice by local expert, in one launch. A block places a
// chunk of 8,192 pairs, each of its 16 waves a run of neighbouring ones, and every wave counts in LDS for itself: the
// rank of a pair among those of its wave comes from ballots, not from atomics, so it is stable. What the other chunks
// hold, every block counts again for itself (LDS atomics: integers, in any order): no block waits for another.
//
// route and sort of at most 64 tokens and 128 experts are one launch of one block: its teams route, then it sorts.
//
// combine: output[t] = sum over choices c, in order, of weights[t, c] * y[pair_slots[t*top_k + c]], f32, then bf16.
// A thread takes eight columns of a token. norm does the same sum on its way in (moe_combine.h).
//
// Floors at Qwen3-235B: 64 tokens, route and sort: 39 KB, launch latency. 16,384 tokens: route 9.4 MB; sort 16 blocks
// that read 0.5 MB each from L2 and write 1 MB in all; combine 1.21 GB (8 rows of 4,096 bf16 in, one out), 249 us at
// 4.86 TB/s.
#include <octet.h>
#include <stdint.h>

constexpr int route_waves = 4;  // of a block that only routes
constexpr int max_experts = 512;
constexpr int sort_waves = 16;
constexpr int sort_chunk = 8192;  // pairs; a multiple of sort_waves * 64
constexpr int combine_threads = 256;

// Lanes that route a token of so many experts at most: 8 or 16 experts a lane stay in registers.
constexpr int route_team(int bound) { return bound <= 128 ? 16 : 32; }

struct MoeRouteParams {
  const float* logits;  // [max(segments, 1), tokens, experts]
  int32_t* ids;         // [tokens, top_k]
  float* weights;       // [tokens, top_k]
  int64_t tokens, logits_stride, segment_stride;
  int32_t segments;  // partial sums to be added; 0: the logits themselves
  int32_t experts, top_k, renormalize;
  int32_t aligned;  // 1: every fourth logit of a row lies on 16 bytes
};

struct MoeSortParams {
  const int32_t* ids;       // [pairs]
  int32_t* expert_offsets;  // [local_experts + 1]
  int32_t* slot_pairs;      // [pairs]
  int32_t* pair_slots;      // [pairs]
  int32_t pairs;
  int32_t first_expert, local_experts;
};

struct MoeRouteSortParams {
  MoeRouteParams route;
  MoeSortParams sort;
};

struct MoeSortLds {
  int32_t next[sort_waves][max_experts];  // pairs of each expert in the wave's part, then the next slot for one
  int32_t before[max_experts];            // in the chunks before this one
  int32_t after[max_experts];             // in those after it
  int32_t begins[max_experts + 1];
};

// Tokens that one block routes and sorts at once: more of them would keep the other CUs waiting.
constexpr int fused_tokens = 64;
constexpr int max_top_k = 16;

struct MoeRouteSortLds {
  MoeSortLds sort;
  int32_t ids[fused_tokens * max_top_k];  // handed on by the routing: its stores need not come back from memory
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
#include "moe_combine.h"

// ---- route ----

// Order-preserving bits of a float that is not NaN. 0 is below them all.
OCTET_INLINE uint32_t order_bits(float x) {
  const uint32_t bits = float_bits(x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
OCTET_INLINE float ordered_float(uint32_t order) { return bits_float(order >> 31 ? order & 0x7FFFFFFFu : ~order); }

template <int team>
OCTET_INLINE uint32_t team_max(uint32_t x) {
#pragma unroll
  for (int mask = team / 2; mask > 0; mask /= 2) x = max_of(x, __shfl_xor(x, mask));
  return x;
}
template <int team>
OCTET_INLINE float team_sum(float x) {
#pragma unroll
  for (int mask = team / 2; mask > 0; mask /= 2) x += __shfl_xor(x, mask);
  return x;
}

// Adds partial sums first..first+batch-1 of a lane's logits, in order; all loads are on their way together. Past the
// last segment they are its again, and 0 is added, which changes no bit of a sum that began at 0.
template <int batch, int quads>
OCTET_INLINE void add_logits(const float* row, int64_t segment_stride, int first, int segments, f32x4 (&sum)[quads]) {
  f32x4 part[batch][quads];
#pragma unroll
  for (int i = 0; i < batch; i++) {
#pragma unroll
    for (int q = 0; q < quads; q++) {
      part[i][q] = *reinterpret_cast<const f32x4*>(row + min_of(first + i, segments - 1) * segment_stride + 4 * q);
    }
  }
#pragma unroll
  for (int i = 0; i < batch; i++) {
#pragma unroll
    for (int q = 0; q < quads; q++) sum[q] += first + i < segments ? part[i][q] : f32x4{0.0f, 0.0f, 0.0f, 0.0f};
  }
}

// A lane's logits of a row, from expert `first` on; beyond the last expert they are its.
template <int quads>
OCTET_INLINE void load_logits(const MoeRouteParams& p, int64_t token, int first, f32x4 (&sum)[quads]) {
  constexpr int batch = 16 / quads;
#pragma unroll
  for (int q = 0; q < quads; q++) sum[q] = f32x4{0.0f, 0.0f, 0.0f, 0.0f};
  const float* row = p.logits + token * p.logits_stride;
  const int segments = max_of(p.segments, 1);
  if (!p.aligned || first + 4 * quads > p.experts) {
    for (int segment = 0; segment < segments; segment++, row += p.segment_stride) {
#pragma unroll
      for (int i = 0; i < 4 * quads; i++) sum[i / 4][i % 4] += row[min_of(first + i, p.experts - 1)];
    }
  } else if (segments == 1) {
    add_logits<1>(row + first, 0, 0, 1, sum);
  } else {
    for (int segment = 0; segment < segments; segment += batch) {
      add_logits<batch>(row + first, p.segment_stride, segment, segments, sum);
    }
  }
}

// Routes a token by each team of the block, from `base` on; every lane of a wave takes part. bound: experts at most.
// Teams whose token lies beyond the end work on the last one and store nothing. chosen(pair, id) is told of every
// choice.
template <int bound, class Chosen>
OCTET_INLINE void route(const MoeRouteParams& p, int64_t base, const Chosen& chosen) {
  constexpr int team = route_team(bound), per_lane = bound / team;
  const int team_lane = lane_index() % team, team_begin = lane_index() - team_lane;
  const int64_t wanted = base + static_cast<int>(threadIdx.x) / team;
  const int64_t token = min_of(wanted, p.tokens - 1);
  const int first = team_lane * per_lane;

  // The logits in order-preserving bits; experts that do not exist, and later those already chosen, are 0.
  uint32_t order[per_lane];
  uint32_t largest = 0;
  f32x4 logits[per_lane / 4];
  load_logits(p, token, first, logits);
#pragma unroll
  for (int i = 0; i < per_lane; i++) {
    const float x = logits[i / 4][i % 4];
    // NOTE: adding +0 makes -0 the +0 it ties with.
    const float logit = x != x ? -__builtin_inff() : x + 0.0f;
    order[i] = first + i < p.experts ? order_bits(logit) : 0;
    largest = max_of(largest, order[i]);
  }
  largest = team_max<team>(largest);

  const auto exponential = [&](uint32_t x) {
    return x == largest ? 1.0f : exp_fast(ordered_float(x) - ordered_float(largest));
  };
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < per_lane; i++) sum += order[i] != 0 ? exponential(order[i]) : 0.0f;
  sum = team_sum<team>(sum);

  float chosen_sum = 0.0f, weight = 0.0f;  // lane c of the team keeps choice c
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
    const uint32_t top = team_max<team>(best);
    const int owner = __builtin_ctz(static_cast<uint32_t>(__ballot(best == top) >> team_begin));
    const int expert = owner * per_lane + __shfl(at, team_begin + owner);
#pragma unroll
    for (int i = 0; i < per_lane; i++) order[i] = first + i == expert ? 0 : order[i];
    const float probability = exponential(top) / sum;
    chosen_sum += probability;
    if (team_lane == choice) {
      weight = probability;
      id = expert;
    }
  }
  if (wanted < p.tokens && team_lane < p.top_k) {
    const int64_t pair = token * p.top_k + team_lane;
    p.ids[pair] = id;
    chosen(pair, id);
    p.weights[pair] = p.renormalize ? weight / chosen_sum : weight;
  }
}

// Tokens that a block routes at once.
template <int bound>
OCTET_INLINE int64_t block_teams() {
  return blockDim.x / route_team(bound);
}

OCTET_KERNEL(moe_route_e128, MoeRouteParams, (route_waves * wave_size)) {
  route<128>(params, blockIdx.x * block_teams<128>(), [](int64_t, int) {});
}
OCTET_KERNEL(moe_route_e512, MoeRouteParams, (route_waves * wave_size)) {
  route<max_experts>(params, blockIdx.x * block_teams<max_experts>(), [](int64_t, int) {});
}

// ---- sort ----

// The local expert of an id; local_experts where it has no slot here.
OCTET_INLINE int local_expert(const MoeSortParams& p, int id) {
  const bool here = id >= p.first_expert && id - p.first_expert < p.local_experts;
  return here ? id - p.first_expert : p.local_experts;
}

// The pairs of a wave, 64 or 32 at a time.
struct SortPairs {
  const MoeSortParams& p;
  const int32_t* ids;  // of the pairs
  int begin, end;
  OCTET_INLINE SortPairs(const MoeSortParams& p, const int32_t* ids, int chunk_begin, int chunk_end) : p(p), ids(ids) {
    const int waves = static_cast<int>(blockDim.x) / wave_size;
    const int steps = static_cast<int>(ceil_div(chunk_end - chunk_begin, waves * wave_size));
    begin = chunk_begin + wave_index() * steps * wave_size;
    end = min_of(begin + steps * wave_size, chunk_end);
  }

  // visit(pair, expert, rank, count) for this lane's pair: its local expert; its rank among the pairs of that expert in
  // this step, and their number. Lanes beyond the end get pair >= end and no expert.
  template <class Visit>
  OCTET_INLINE void each_step(const Visit& visit) const {
    for (int step = begin; step < end; step += wave_size) {
      const int pair = step + lane_index();
      const int expert = pair < end ? local_expert(p, ids[pair]) : p.local_experts;
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

// Counts the pairs of all chunks but begin..end-1 into lds.before and lds.after.
OCTET_INLINE void count_others(const MoeSortParams& p, MoeSortLds& lds, int begin, int end) {
  const int threads = static_cast<int>(blockDim.x);
  const auto count = [&](int pair, int id) {
    const int expert = local_expert(p, id);
    if (expert < p.local_experts) atomic_add(pair < begin ? &lds.before[expert] : &lds.after[expert], 1);
  };
  // Four loads of a thread are on their way together; `begin` and `end` are multiples of four unless `end` ends all.
  for (int first = static_cast<int>(threadIdx.x) * 4; first < p.pairs; first += 16 * threads) {
    i32x4 ids[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int at = first + 4 * i * threads;
      if (at + 4 <= p.pairs) ids[i] = *reinterpret_cast<const i32x4*>(p.ids + at);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int at = first + 4 * i * threads;
      if (at >= begin && at < end) continue;
      if (at + 4 <= p.pairs) {
#pragma unroll
        for (int j = 0; j < 4; j++) count(at, ids[i][j]);
      } else {
        for (int pair = at; pair < p.pairs; pair++) count(pair, p.ids[pair]);
      }
    }
  }
}

// Sorts the chunk's pairs into their slots. alone: there is no other chunk. ids: those of p, or the same in LDS.
template <bool alone>
OCTET_INLINE void sort_chunk_pairs(const MoeSortParams& p, const int32_t* ids, MoeSortLds& lds, int chunk) {
  const int experts = p.local_experts, waves = static_cast<int>(blockDim.x) / wave_size;
  const int begin = chunk * sort_chunk, end = min_of(begin + sort_chunk, p.pairs);
  auto& next = lds.next[wave_index()];
  const SortPairs pairs(p, ids, begin, end);

  // Phase 1: pairs of each expert in each wave's part, and in the other chunks.
  for (int e = lane_index(); e < experts; e += wave_size) next[e] = 0;
  if constexpr (!alone) {
    for (int e = threadIdx.x; e < experts; e += blockDim.x) lds.before[e] = lds.after[e] = 0;
  }
  __syncthreads();
  if (!alone && (begin > 0 || end < p.pairs)) count_others(p, lds, begin, end);
  pairs.each_step([&](int, int expert, int rank, int count) {
    if (rank == 0 && expert < experts) next[expert] += count;
    wave_sync();
  });
  __syncthreads();

  // Phase 2: the exclusive sum over the experts, by one wave: a lane adds neighbouring experts, the wave adds the
  // lanes.
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int total = alone ? 0 : lds.before[e] + lds.after[e];
    for (int wave = 0; wave < waves; wave++) total += lds.next[wave][e];
    lds.begins[e] = total;
  }
  __syncthreads();
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
    int slot = through - sum;
    for (int e = first; e < last; e++) {
      const int count = lds.begins[e];
      lds.begins[e] = slot;
      slot += count;
    }
    if (lane_index() == wave_size - 1) lds.begins[experts] = through;
  }
  __syncthreads();

  // Phase 3: the first slot of each expert in each wave's part.
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int slot = lds.begins[e] + (alone ? 0 : lds.before[e]);
    for (int wave = 0; wave < waves; wave++) {
      const int count = lds.next[wave][e];
      lds.next[wave][e] = slot;
      slot += count;
    }
  }
  if (chunk == 0) {
    for (int e = threadIdx.x; e <= experts; e += blockDim.x) p.expert_offsets[e] = lds.begins[e];
  }
  __syncthreads();

  // Phase 4: every pair to its slot.
  const int slots = lds.begins[experts];
  pairs.each_step([&](int pair, int expert, int rank, int count) {
    const bool here = expert < experts;
    const int slot = here ? next[expert] + rank : -1;
    wave_sync();
    if (here && rank == 0) next[expert] += count;
    wave_sync();
    if (pair >= pairs.end) return;
    p.pair_slots[pair] = slot;
    if (here) p.slot_pairs[slot] = pair;
    if (pair >= slots) p.slot_pairs[pair] = -1;
  });
}

OCTET_KERNEL(moe_sort_pairs, MoeSortParams, (sort_waves * wave_size)) {
  sort_chunk_pairs<false>(params, params.ids, OCTET_LDS(MoeSortLds), static_cast<int>(blockIdx.x));
}

// ---- route and sort in one block ----

OCTET_KERNEL(moe_route_sort_e128, MoeRouteSortParams, (sort_waves * wave_size)) {
  auto& lds = OCTET_LDS(MoeRouteSortLds);
  for (int64_t base = 0; base < params.route.tokens; base += block_teams<128>()) {
    route<128>(params.route, base, [&](int64_t pair, int id) { lds.ids[pair] = id; });
  }
  sort_chunk_pairs<true>(params.sort, lds.ids, lds.sort, 0);
}

// ---- combine ----

OCTET_KERNEL(moe_combine_rows, MoeCombineParams, combine_threads) {
  const int64_t token = blockIdx.x / params.column_blocks;
  const int64_t column = (blockIdx.x % params.column_blocks * blockDim.x + threadIdx.x) * int64_t{8};
  const int64_t count = params.hidden - column;
  const PairSum pairs{params.y, params.pair_slots, params.weights, params.tokens, params.y_stride, params.top_k};
  float sum[8];
  pairs.load(pairs.choices(token), column, count, params.aligned, sum);
  store_columns(params.output + token * params.output_stride, column, count, params.aligned, sum);
}
#endif

#if defined(OCTET_HOST)
#include <algorithm>

#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

// Elements of the combined output up to which a block is one wave, so that a decode step has more of them.
constexpr int64_t combine_few = 64 * 4096;

// Pairs are numbered in 32 bits.
void require_pairs(const char* op, int64_t tokens, int32_t top_k) {
  require_range(op, "top_k", top_k, 1, max_top_k);
  require_range(op, "tokens", tokens, 0, (int64_t{1} << 30) / top_k);
}

void require_experts_here(const char* op, int32_t experts, int32_t first_expert, int32_t local_experts) {
  require_range(op, "first_expert", first_expert, 0, experts - 1);
  require_range(op, "local_experts", local_experts, 1, experts - first_expert);
}

const octet_moe_sort_args& sort_checked(const octet_moe_sort_args* pointer) {
  constexpr const char* op = "moe_sort";
  const auto& args = checked(op, pointer);
  require_pairs(op, args.tokens, args.top_k);
  require_range(op, "experts", args.experts, 1, max_experts);
  require_experts_here(op, args.experts, args.first_expert, args.local_experts);
  return args;
}

// Blocks of a sort; no pairs are one empty chunk, for the offsets are to become zeros.
uint32_t sort_chunks(int64_t pairs) {
  return static_cast<uint32_t>(std::max<int64_t>((pairs + sort_chunk - 1) / sort_chunk, 1));
}

// Waves of a sort's blocks: no more than have pairs.
int sort_block_waves(int64_t pairs, int wave_size) {
  return static_cast<int>(std::clamp<int64_t>((pairs + wave_size - 1) / wave_size, 1, sort_waves));
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
    require_range(op, "logits_segments", args.logits_segments, 0, 1 << 16);
    require_range(op, "logits_segment_stride", args.logits_segment_stride, 0, max_stride);
    const bool sorts = args.expert_offsets != nullptr;
    if (sorts) require_experts_here(op, args.experts, args.first_expert, args.local_experts);
    const int wave_size = facts(stream).wave_size;
    const int team = route_team(args.experts);
    const int block_tokens = route_waves * wave_size / team;
    const int64_t blocks = (args.tokens + block_tokens - 1) / block_tokens;
    require(blocks <= max_blocks(route_waves * wave_size), "moe_route: tokens = %lld are too many for one launch",
            static_cast<long long>(args.tokens));
    if (args.tokens > 0) {
      require_pointer(op, "logits", args.logits);
      require_pointer(op, "ids", args.ids);
      require_pointer(op, "weights", args.weights);
    }
    if (sorts) require_pointer(op, "expert_offsets", args.expert_offsets);
    if (sorts && args.tokens > 0) {
      require_pointer(op, "slot_pairs", args.slot_pairs);
      require_pointer(op, "pair_slots", args.pair_slots);
    }
    const MoeRouteParams route{
        .logits = args.logits,
        .ids = args.ids,
        .weights = args.weights,
        .tokens = args.tokens,
        .logits_stride = args.logits_stride,
        .segment_stride = args.logits_segment_stride,
        .segments = args.logits_segments,
        .experts = args.experts,
        .top_k = args.top_k,
        .renormalize = args.renormalize,
        .aligned = args.logits_stride % 4 == 0 && args.logits_segment_stride % 4 == 0,
    };
    const MoeSortParams sort{
        .ids = args.ids,
        .expert_offsets = args.expert_offsets,
        .slot_pairs = args.slot_pairs,
        .pair_slots = args.pair_slots,
        .pairs = static_cast<int32_t>(args.tokens * args.top_k),
        .first_expert = args.first_expert,
        .local_experts = args.local_experts,
    };
    const bool few_experts = args.experts <= 128;
    if (sorts && few_experts && args.tokens <= fused_tokens) {
      launch(stream, "moe_route_sort_e128", Grid{}, sort_block_waves(args.tokens * team, wave_size),
             sizeof(MoeRouteSortLds), MoeRouteSortParams{route, sort});
      return;
    }
    launch(stream, few_experts ? "moe_route_e128" : "moe_route_e512", Grid{static_cast<uint32_t>(blocks)}, route_waves,
           0, route);
    if (sorts) {
      launch(stream, "moe_sort_pairs", Grid{sort_chunks(sort.pairs)}, sort_block_waves(sort.pairs, wave_size),
             sizeof(MoeSortLds), sort);
    }
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
    const MoeSortParams params{
        .ids = args.ids,
        .expert_offsets = args.expert_offsets,
        .slot_pairs = args.slot_pairs,
        .pair_slots = args.pair_slots,
        .pairs = static_cast<int32_t>(args.tokens * args.top_k),
        .first_expert = args.first_expert,
        .local_experts = args.local_experts,
    };
    launch(stream, "moe_sort_pairs", Grid{sort_chunks(params.pairs)},
           sort_block_waves(params.pairs, facts(stream).wave_size), sizeof(MoeSortLds), params);
  });
}

extern "C" octet_status octet_moe_sort_workspace(const octet_moe_sort_args* pointer, octet_device* device,
                                                 size_t* size) {
  using namespace octet;
  return guarded([&] {
    sort_checked(pointer);
    require(device != nullptr, "moe_sort: device is null");
    require(size != nullptr, "moe_sort: size is null");
    *size = 0;
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
    const int wave_size = facts(stream).wave_size;
    const int threads = args.tokens * args.hidden <= combine_few ? wave_size : combine_threads;
    const int64_t column_blocks = (args.hidden + 8 * threads - 1) / (8 * threads);
    const int64_t blocks = args.tokens * column_blocks;
    require(blocks <= max_blocks(threads), "moe_combine: tokens = %lld by hidden = %lld are too many for one launch",
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
    launch(stream, "moe_combine_rows", Grid{static_cast<uint32_t>(blocks)}, threads / wave_size, 0, params);
  });
}
#endif
