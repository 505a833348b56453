// moe_route, moe_sort: which expert serves which token. What the experts give is summed up by moe_combine.
//
// route: scores = softmax(logits[t]) over all experts or sigmoid of each, in f32, then the top_k largest logits, or
// scores + bias, in descending order (ties: the lower expert first; NaN counts as -inf). The softmax is taken as a
// limit where it would be NaN: logits equal to the largest count as exp(0) = 1, so +inf shares all weight among its
// likes and a row without a finite logit weighs all experts alike. A team of 16 lanes, or 32 with more than 128
// experts, routes a token; a lane holds neighbouring experts, so the lowest lane of a tie has the lowest one. Logits
// may come as the partial sums of a split GEMM: they are added here, in order. The logits order softmax's experts, and
// only the chosen few become probabilities; the kernels named scores_ give every expert its score first: for sigmoid,
// and where a bias chooses (DeepSeek-V3, 2024).
//
// sort: stable counting sort of the pairs p = token*top_k + choice by local expert, in one launch. A block places a
// chunk of 8,192 pairs, each of its 16 waves a run of neighbouring ones, and every wave counts in LDS for itself: the
// rank of a pair among those of its wave comes from ballots, not from atomics, so it is stable. What the other chunks
// hold, every block counts again for itself (LDS atomics: integers, in any order): no block waits for another.
//
// route and sort of at most 64 tokens and 128 experts (by score: 32, with waves of 32 lanes 16, and 256) are one launch
// of one block, whose every wave sorts the pairs it
// routed: it counts for each expert how many of them have a lower one. With what all waves counted a pair's slot is a
// sum over the waves: one barrier. One or two tokens (decode) have a wave each that ranks: of 32 experts it finds the
// rank of every one by counting those that are better. First of the best ones of four, for the eight best experts lie
// in the eight fours with the best; then of those. Meanwhile another wave adds up the softmax.
//
// Floors at Qwen3-235B: 64 tokens, route and sort: 39 KB, launch latency. 16,384 tokens: route 9.4 MB; sort 16 blocks
// that read 0.5 MB each from L2 and write 1 MB in all.
#include <octet.h>
#include <stdint.h>

constexpr int route_waves = 4;  // of a block that only routes
constexpr int max_experts = 512;
constexpr int sort_waves = 16;
constexpr int sort_chunk = 8192;  // pairs; a multiple of sort_waves * 64

// Lanes that route a token of so many experts at most: 8 or 16 experts a lane stay in registers.
constexpr int route_team(int bound) { return bound <= 128 ? 16 : 32; }

struct MoeRouteParams {
  const float* logits;  // [max(segments, 1), tokens, experts]
  int32_t* ids;         // [tokens, top_k]
  float* weights;       // [tokens, top_k]
  int64_t tokens, logits_stride, segment_stride;
  int32_t segments;  // partial sums to be added; 0: the logits themselves
  int32_t experts, top_k, renormalize;
  int32_t aligned;          // 1: every fourth logit of a row lies on 16 bytes
  int32_t sigmoid;          // 0: softmax
  const float* score_bias;  // [experts], or null: the logits choose
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

constexpr int few_experts = 128;         // up to which one block routes and sorts by logit,
constexpr int few_scored_experts = 256;  // and by score

struct MoeSortLds {
  int32_t next[sort_waves][max_experts];  // pairs of each expert in the wave's part, then the next slot for one
  int32_t before[max_experts];            // in the chunks before this one
  int32_t after[max_experts];             // in those after it
  int32_t begins[max_experts + 1];
};

template <int bound>
struct MoeRouteSortLds {
  int32_t lower[sort_waves][bound + 1];  // of a wave's pairs those whose expert is lower than e; in the end all
};

constexpr int ranked_tokens = 2, ranked_top_k = 8, ranked = 32;  // tokens at most, choices at most, experts at once

struct MoeRankSortLds {
  struct {
    int64_t best[ranked];     // of every four experts; the better one is the larger number
    int64_t kept[ranked];     // the fours with the best
    int64_t ordered[ranked];  // the same in descending order
  } token[ranked_tokens];
};

#if !defined(OCTET_HOST)
#include "columns.h"

// ---- route ----

constexpr int max_top_k = 16;

// Order-preserving bits of a float that is not NaN. 0 is below them all.
OCTET_INLINE uint32_t order_bits(float x) {
  const uint32_t bits = float_bits(x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
OCTET_INLINE float ordered_float(uint32_t order) { return bits_float(order >> 31 ? order & 0x7FFFFFFFu : ~order); }

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
  // NOTE: else the compiler adds some parts before it loads the last ones into their registers: four waits, not one.
  schedule_fence();
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

// Order-preserving bits of a logit that may be NaN, which counts as -inf.
OCTET_INLINE uint32_t logit_order(float x) {
  // NOTE: adding +0 makes -0 the +0 it ties with.
  return order_bits(x != x ? -__builtin_inff() : x + 0.0f);
}

// A lane's neighbouring experts of a token, 0 where there are none.
template <int per_lane>
OCTET_INLINE void load_orders(const MoeRouteParams& p, int64_t token, int first, uint32_t (&order)[per_lane]) {
  f32x4 logits[per_lane / 4];
  load_logits(p, token, first, logits);
#pragma unroll
  for (int i = 0; i < per_lane; i++) order[i] = first + i < p.experts ? logit_order(logits[i / 4][i % 4]) : 0;
}

// The softmax of a token, whose experts a team holds.
struct Softmax {
  uint32_t largest;
  float sum;

  template <int team, int per_lane>
  OCTET_INLINE static Softmax of(const uint32_t (&order)[per_lane]) {
    uint32_t largest = order[0];
#pragma unroll
    for (int i = 1; i < per_lane; i++) largest = max_of(largest, order[i]);
    Softmax result{group_max<team>(largest), 0.0f};
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < per_lane; i++) sum += order[i] != 0 ? result.exponential(order[i]) : 0.0f;
    result.sum = team_sum<team>(sum);
    return result;
  }

  OCTET_INLINE float probability(uint32_t order) const { return exponential(order) / sum; }

 private:
  // NOTE: exp2 of 0 is 1 everywhere; what is chosen is the distance, so that no lane branches around an exponential.
  OCTET_INLINE float exponential(uint32_t order) const {
    return exp_fast(order == largest ? 0.0f : ordered_float(order) - ordered_float(largest));
  }
};

// What chooses an expert: its logit, the weight being its probability; or its score + bias, or its logit without one.
enum class Ranking { logits, scores };

// The scores of a lane's neighbouring experts, whose logits `order` holds; it becomes what chooses.
template <int team, int per_lane>
OCTET_INLINE void score_experts(const MoeRouteParams& p, int first, uint32_t (&order)[per_lane],
                                float (&scores)[per_lane]) {
  if (p.sigmoid) {
#pragma unroll
    for (int i = 0; i < per_lane; i++)
      scores[i] = order[i] != 0 ? 1.0f / (1.0f + exp_fast(-ordered_float(order[i]))) : 0.0f;
  } else {
    const Softmax softmax = Softmax::of<team>(order);
#pragma unroll
    for (int i = 0; i < per_lane; i++) scores[i] = order[i] != 0 ? softmax.probability(order[i]) : 0.0f;
  }
  if (!p.score_bias) return;
#pragma unroll
  for (int run = 0; run < per_lane; run += 8) {
    float bias[8];
    load_columns(p.score_bias, first + run, p.experts - first - run, true, bias);
#pragma unroll
    for (int i = 0; i < 8; i++) order[run + i] = order[run + i] != 0 ? logit_order(scores[run + i] + bias[i]) : 0;
  }
}

// The weight of choice c in lane c of a team, of its score; lanes beyond the last choice give 0.
template <int team, Ranking ranking = Ranking::logits>
OCTET_INLINE float choice_weight(const MoeRouteParams& p, float score) {
  const int team_begin = lane_index() - lane_index() % team;
  float sum = 0.0f;  // of the chosen, in order
#pragma unroll
  for (int choice = 0; choice < max_top_k; choice++) sum += __shfl(score, team_begin + choice);
  // The largest logit has no probability of 0, but every score that was chosen may have underflowed.
  if (ranking == Ranking::scores && p.renormalize && sum == 0.0f) return 1.0f / static_cast<float>(p.top_k);
  return p.renormalize ? score / sum : score;
}

// Lane c of a team has choice c of its token.
struct Choice {
  int64_t pair;  // -1: none
  int id;
};

// Routes a token by each team of the block, from `base` on; every lane of a wave takes part. bound: experts at most.
// Teams whose token lies beyond the end work on the last one and store nothing.
template <int bound, Ranking ranking>
OCTET_INLINE Choice route(const MoeRouteParams& p, int64_t base) {
  constexpr int team = route_team(bound), per_lane = bound / team;
  const int team_lane = lane_index() % team, team_begin = lane_index() - team_lane;
  const int64_t wanted = base + static_cast<int>(threadIdx.x) / team;
  const int64_t token = min_of(wanted, p.tokens - 1);
  const int first = team_lane * per_lane;

  uint32_t order[per_lane];  // those already chosen become 0
  load_orders(p, token, first, order);
  [[maybe_unused]] Softmax softmax;
  [[maybe_unused]] float scores[per_lane];
  if constexpr (ranking == Ranking::logits) {
    softmax = Softmax::of<team>(order);
  } else {
    score_experts<team>(p, first, order, scores);
  }

  uint32_t kept = 0;  // lane c of the team keeps choice c
  [[maybe_unused]] float kept_score = 0.0f;
  int id = 0;
  for (int choice = 0; choice < p.top_k; choice++) {
    uint32_t best = 0;
    int at = 0;
    [[maybe_unused]] float best_score = 0.0f;
#pragma unroll
    for (int i = 0; i < per_lane; i++) {
      if (order[i] > best) {
        best = order[i];
        at = i;
        if constexpr (ranking == Ranking::scores) best_score = scores[i];
      }
    }
    const uint32_t top = group_max<team>(best);
    const int owner = __builtin_ctz(static_cast<uint32_t>(__ballot(best == top) >> team_begin));
    const int expert = owner * per_lane + __shfl(at, team_begin + owner);
    if constexpr (ranking == Ranking::scores) best_score = __shfl(best_score, team_begin + owner);
#pragma unroll
    for (int i = 0; i < per_lane; i++) order[i] = first + i == expert ? 0 : order[i];
    if (team_lane == choice) {
      kept = top;
      id = expert;
      if constexpr (ranking == Ranking::scores) kept_score = best_score;
    }
  }
  const bool chooses = team_lane < p.top_k;
  float score;
  if constexpr (ranking == Ranking::logits) {
    score = chooses ? softmax.probability(kept) : 0.0f;
  } else {
    score = kept_score;
  }
  const float weight = choice_weight<team, ranking>(p, score);
  if (wanted >= p.tokens || !chooses) return {-1, 0};
  const int64_t pair = token * p.top_k + team_lane;
  p.ids[pair] = id;
  p.weights[pair] = weight;
  return {pair, id};
}

// Tokens that a block routes at once.
template <int bound>
OCTET_INLINE int64_t block_teams() {
  return blockDim.x / route_team(bound);
}

OCTET_KERNEL(moe_route_e128, MoeRouteParams, (route_waves * wave_size)) {
  route<few_experts, Ranking::logits>(params, blockIdx.x * block_teams<few_experts>());
}
OCTET_KERNEL(moe_route_e512, MoeRouteParams, (route_waves * wave_size)) {
  route<max_experts, Ranking::logits>(params, blockIdx.x * block_teams<max_experts>());
}
OCTET_KERNEL(moe_route_scores_e256, MoeRouteParams, (route_waves * wave_size)) {
  route<few_scored_experts, Ranking::scores>(params, blockIdx.x * block_teams<few_scored_experts>());
}
OCTET_KERNEL(moe_route_scores_e512, MoeRouteParams, (route_waves * wave_size)) {
  route<max_experts, Ranking::scores>(params, blockIdx.x * block_teams<max_experts>());
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
  int begin, end;
  OCTET_INLINE SortPairs(const MoeSortParams& p, int chunk_begin, int chunk_end) : p(p) {
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
      const int expert = pair < end ? local_expert(p, p.ids[pair]) : p.local_experts;
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

OCTET_KERNEL(moe_sort_pairs, MoeSortParams, (sort_waves * wave_size)) {
  const auto& p = params;
  auto& lds = OCTET_LDS(MoeSortLds);
  const int chunk = static_cast<int>(blockIdx.x);
  const int experts = p.local_experts, waves = static_cast<int>(blockDim.x) / wave_size;
  const int begin = chunk * sort_chunk, end = min_of(begin + sort_chunk, p.pairs);
  auto& next = lds.next[wave_index()];
  const SortPairs pairs(p, begin, end);

  // Phase 1: pairs of each expert in each wave's part, and in the other chunks.
  for (int e = lane_index(); e < experts; e += wave_size) next[e] = 0;
  for (int e = threadIdx.x; e < experts; e += blockDim.x) lds.before[e] = lds.after[e] = 0;
  __syncthreads();
  if (begin > 0 || end < p.pairs) count_others(p, lds, begin, end);
  pairs.each_step([&](int, int expert, int rank, int count) {
    if (rank == 0 && expert < experts) next[expert] += count;
    wave_sync();
  });
  __syncthreads();

  // Phase 2: the exclusive sum over the experts, by one wave: a lane adds neighbouring experts, the wave adds the
  // lanes.
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int total = lds.before[e] + lds.after[e];
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
    int slot = lds.begins[e] + lds.before[e];
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

// ---- route and sort in one block ----

// A wave's pairs by expert, lane by lane: a pair of a lower lane comes first among equals. bound: experts at most.
template <int bound>
struct WaveSort {
  static constexpr int steps = bound / wave_size;
  int expert;        // local; local_experts: this lane has no pair, or one without a slot here
  int rank;          // of this lane's pair among those of the wave
  int lower[steps];  // pairs whose expert is lower than lane_index() + i * wave_size
  int pairs;

  OCTET_INLINE WaveSort(const MoeSortParams& p, const Choice& choice) : rank(0), lower{} {
    expert = choice.pair >= 0 ? local_expert(p, choice.id) : p.local_experts;
    const int key = expert * wave_size + lane_index();
    const uint64_t here = __ballot(expert < p.local_experts);
    pairs = __builtin_popcountll(here);
    constexpr int batch = 8;  // lanes; a team's choices lie in one or two
    int first;
    for (uint64_t left = here; left != 0; left &= ~(uint64_t{0xFF} << first)) {
      first = __builtin_ctzll(left) / batch * batch;
#pragma unroll
      for (int i = 0; i < batch; i++) {
        const int other = wave_broadcast(key, first + i);
        rank += other < key;
#pragma unroll
        for (int step = 0; step < steps; step++) lower[step] += other < (lane_index() + step * wave_size) * wave_size;
      }
    }
  }
};

OCTET_INLINE void store_slot(const MoeSortParams& p, int64_t pair, int slot, int slots) {
  if (pair < 0) return;
  p.pair_slots[pair] = slot;
  if (slot >= 0) p.slot_pairs[slot] = static_cast<int32_t>(pair);
  if (pair >= slots) p.slot_pairs[pair] = -1;
}

template <int bound, Ranking ranking>
OCTET_INLINE void route_and_sort(const MoeRouteSortParams& params) {
  const MoeSortParams& p = params.sort;
  auto& lds = OCTET_LDS(MoeRouteSortLds<bound>);
  const int experts = p.local_experts, wave = wave_index();
  constexpr int wave_batch = 4;  // whose counts are on their way together
  const Choice choice = route<bound, ranking>(params.route, 0);
  const WaveSort<bound> sort(p, choice);
#pragma unroll
  for (int step = 0; step < WaveSort<bound>::steps; step++) {
    lds.lower[wave][lane_index() + step * wave_size] = sort.lower[step];
  }
  if (lane_index() == 0) lds.lower[wave][bound] = sort.pairs;
  __syncthreads();

  // Before a pair come those of all waves with a lower expert, and those of the waves before with the same one.
  const int waves = static_cast<int>(blockDim.x) / wave_size;
  int slot = sort.rank, slots = 0;
  for (int first = 0; first < waves; first += wave_batch) {
#pragma unroll
    for (int i = 0; i < wave_batch; i++) {
      const int other = min_of(first + i, waves - 1);
      const int before = lds.lower[other][min_of(sort.expert + (other < wave), experts)];
      slot += other == wave || first + i >= waves ? 0 : before;
      slots += first + i >= waves ? 0 : lds.lower[other][bound];
    }
  }
  for (int e = threadIdx.x; e <= experts; e += blockDim.x) {
    int offset = 0;
    for (int first = 0; first < waves; first += wave_batch) {
#pragma unroll
      for (int i = 0; i < wave_batch; i++) {
        const int pairs = lds.lower[min_of(first + i, waves - 1)][e < experts ? e : bound];
        offset += first + i >= waves ? 0 : pairs;
      }
    }
    p.expert_offsets[e] = offset;
  }
  store_slot(p, choice.pair, sort.expert < experts ? slot : -1, slots);
}

OCTET_KERNEL(moe_route_sort_e128, MoeRouteSortParams, (sort_waves * wave_size)) {
  route_and_sort<few_experts, Ranking::logits>(params);
}
OCTET_KERNEL(moe_route_scores_sort_e256, MoeRouteSortParams, (sort_waves * wave_size)) {
  route_and_sort<few_scored_experts, Ranking::scores>(params);
}

// How many of 32 keys are larger. The halves of a wave of 64 lanes share the work; lane l and l + 32 ask for the same.
OCTET_INLINE int rank_of(int64_t key, const int64_t (&keys)[ranked]) {
  constexpr int halves = wave_size / ranked, share = ranked / halves;
  const int64_t* others = keys + lane_index() / ranked * share;
  int rank = 0;
#pragma unroll
  for (int i = 0; i < share; i++) rank += others[i] > key;
  if constexpr (halves == 2) rank += __shfl_xor(rank, ranked);
  return rank;
}

// Leaves the best experts of a token in order, at least ranked_top_k of them.
OCTET_INLINE void rank_experts(const MoeRouteParams& p, int64_t token, MoeRankSortLds& lds) {
  static_assert(few_experts == 4 * ranked && 4 * ranked_top_k == ranked);
  auto& own = lds.token[token];
  const int lane = lane_index() % ranked, first = 4 * lane;
  uint32_t order[4];
  load_orders(p, token, first, order);
  int64_t keys[4], best = INT64_MIN;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    // Of equals the lower expert is better. The sign makes a signed number of the unsigned one.
    keys[i] = static_cast<int64_t>(uint64_t{order[i] ^ 0x80000000u} << 32) | (few_experts - 1 - first - i);
    best = max_of(best, keys[i]);
  }
  if (lane_index() < ranked) own.best[lane] = best;
  wave_sync();
  const int four = rank_of(best, own.best);
  if (lane_index() < ranked && four < ranked_top_k) {
#pragma unroll
    for (int i = 0; i < 4; i++) own.kept[4 * four + i] = keys[i];
  }
  wave_sync();
  const int64_t key = own.kept[lane];
  const int rank = rank_of(key, own.kept);
  if (lane_index() < ranked) own.ordered[rank] = key;
}

// What lane c of a team works on after the ranking: choice c of the team's token.
struct RankedChoice {
  Choice choice;
  uint32_t order;  // its logit
  OCTET_INLINE RankedChoice(const MoeRouteParams& p, const MoeRankSortLds& lds) {
    constexpr int team = route_team(few_experts);
    const int token = lane_index() / team, team_lane = lane_index() % team, tokens = static_cast<int>(p.tokens);
    const int64_t key = lds.token[min_of(token, tokens - 1)].ordered[team_lane];
    const bool chooses = token < tokens && team_lane < p.top_k;
    choice = {chooses ? token * p.top_k + team_lane : -1, few_experts - 1 - static_cast<int>(key & (few_experts - 1))};
    order = static_cast<uint32_t>(key >> 32) ^ 0x80000000u;
  }
};

// At most ranked_tokens tokens of ranked_top_k choices, by a wave each and one more.
OCTET_KERNEL(moe_rank_sort_e128, MoeRouteSortParams, ((ranked_tokens + 1) * wave_size)) {
  constexpr int team = route_team(few_experts), per_lane = few_experts / team;
  static_assert(ranked_tokens * team <= wave_size);
  const MoeRouteParams& p = params.route;
  auto& lds = OCTET_LDS(MoeRankSortLds);
  const int wave = wave_index(), tokens = static_cast<int>(p.tokens);
  const bool weighs = wave == tokens;
  Softmax softmax{};
  if (!weighs) {
    rank_experts(p, wave, lds);
  } else {
    uint32_t order[per_lane];
    load_orders(p, min_of(lane_index() / team, tokens - 1), lane_index() % team * per_lane, order);
    softmax = Softmax::of<team>(order);
  }
  __syncthreads();
  if (weighs) {
    const RankedChoice ranked(p, lds);
    const bool chooses = ranked.choice.pair >= 0;
    const float probability = softmax.probability(ranked.order);  // of a lane without a choice: of some expert
    const float weight = choice_weight<team>(p, chooses ? probability : 0.0f);
    if (chooses) p.weights[ranked.choice.pair] = weight;
    return;
  }
  if (wave != 0) return;
  const RankedChoice ranked(p, lds);
  const Choice& choice = ranked.choice;
  const int experts = params.sort.local_experts;
  const WaveSort<few_experts> sort(params.sort, choice);
  if (choice.pair >= 0) p.ids[choice.pair] = choice.id;
  store_slot(params.sort, choice.pair, sort.expert < experts ? sort.rank : -1, sort.pairs);
#pragma unroll
  for (int step = 0; step < WaveSort<few_experts>::steps; step++) {
    const int e = lane_index() + step * wave_size;
    if (e < experts) params.sort.expert_offsets[e] = sort.lower[step];
  }
  if (lane_index() == 0) params.sort.expert_offsets[experts] = sort.pairs;
}

#endif

#if defined(OCTET_HOST)
#include <algorithm>

#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

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
    require_range(op, "scoring", args.scoring, OCTET_SOFTMAX, OCTET_SIGMOID);
    require_pointer_or_null(op, "score_bias", args.score_bias);
    const bool sorts = args.expert_offsets != nullptr;
    if (sorts) require_experts_here(op, args.experts, args.first_expert, args.local_experts);
    const bool scores = args.scoring == OCTET_SIGMOID || args.score_bias != nullptr;
    const int few_bound = scores ? few_scored_experts : few_experts;
    const bool few = args.experts <= few_bound;
    const int wave_size = facts(stream).wave_size;
    const int team = route_team(few ? few_bound : max_experts);
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
        .sigmoid = args.scoring == OCTET_SIGMOID,
        .score_bias = args.score_bias,
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
    if (sorts && few && args.tokens > 0 && args.tokens * team <= sort_waves * wave_size) {
      const MoeRouteSortParams both{route, sort};
      if (!scores && args.tokens <= ranked_tokens && args.top_k <= ranked_top_k) {
        launch(stream, "moe_rank_sort_e128", Grid{}, static_cast<int>(args.tokens) + 1, sizeof(MoeRankSortLds), both);
      } else {
        const char* kernel = scores ? "moe_route_scores_sort_e256" : "moe_route_sort_e128";
        const size_t lds = scores ? sizeof(MoeRouteSortLds<few_scored_experts>) : sizeof(MoeRouteSortLds<few_experts>);
        launch(stream, kernel, Grid{}, sort_block_waves(args.tokens * team, wave_size), lds, both);
      }
      return;
    }
    const char* kernel = few ? "moe_route_e128" : "moe_route_e512";
    if (scores) kernel = few ? "moe_route_scores_e256" : "moe_route_scores_e512";
    launch(stream, kernel, Grid{static_cast<uint32_t>(blocks)}, route_waves, 0, route);
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

#endif
