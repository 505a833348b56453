// The sum of what a token's experts gave: sum over choices c, by ascending slot, of weights[t, c] *
// y[pair_slots[t*top_k + c]] in f32; or, with leaves, a tree over neighbouring groups of experts (leaf_tree.h).
// moe_combine writes it; norm takes it in as its x. Slots ascend with the experts, so that is the order of the experts,
// whatever the router's.
#pragma once

#include <stdint.h>

// The leaf of expert e < 512 is (e - first) * leaf_reciprocal >> 20: exact, for the reciprocal of at most 512 is too
// large by less than 1 in 2^20.
constexpr uint32_t leaf_reciprocal(int32_t leaf_experts) {
  return leaf_experts > 0 ? ((1u << 20) + static_cast<uint32_t>(leaf_experts) - 1) / static_cast<uint32_t>(leaf_experts)
                          : 0;
}

#if !defined(OCTET_HOST)
#include "columns.h"
#include "leaf_tree.h"

struct PairSum {
  const uint16_t* y;            // [tokens*top_k slots, columns] bf16
  const int32_t* pair_slots;    // [tokens, top_k]; a slot outside 0..tokens*top_k-1 adds nothing
  const float* weights;         // [tokens, top_k], top_k <= 16
  const int32_t* pair_experts;  // [tokens, top_k]; not read with one leaf
  int64_t tokens, y_stride;
  int32_t top_k;
  int32_t leaves;  // 1, 2, 4 or 8
  int32_t first_expert;
  uint32_t reciprocal;  // leaf_reciprocal

  // A token's choices, choice c in lane c: slots and weights come with one latency, the rows they name with the next.
  struct Choices {
    int64_t row;    // y_stride times the slot
    float weight;   // a NaN is the default one
    int32_t leaf;   // of the expert
    int32_t place;  // among the choices that have slots, by these; top_k: has none
    int32_t count;  // of choices that have slots, the same in every lane
  };
  OCTET_INLINE Choices choices(int64_t token) const {
    const int choice = min_of(lane_index(), top_k - 1);
    const int64_t pair = token * top_k + choice;
    const int32_t slot = pair_slots[pair];
    const float weight = weights[pair];
    const int32_t expert = leaves > 1 ? pair_experts[pair] : 0;
    const bool here = lane_index() == choice && static_cast<uint32_t>(slot) < static_cast<uint32_t>(tokens * top_k);
    const uint32_t all = static_cast<uint32_t>(__ballot(here));
    // Of equal slots, which only a token has that names an expert twice, the lower choice comes first.
    int32_t place = 0;
    const uint32_t key = here ? slot : INT32_MAX;
    for (int first = 0; first < top_k; first += 8) {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const int other = first + i;
        const uint32_t bound = key + (lane_index() > other ? 1 : 0);
        place += static_cast<uint32_t>(wave_broadcast(static_cast<int>(key), other)) < bound ? 1 : 0;
      }
    }
    const uint32_t leaf = static_cast<uint32_t>(expert - first_expert) * reciprocal >> 20;
    return {slot * y_stride, weight == weight ? weight : __builtin_nanf(""),
            static_cast<int32_t>(min_of<uint32_t>(leaf, leaves - 1)), here ? place : top_k, __builtin_popcount(all)};
  }

  // Eight columns of the token, or another run, as columns.h has them. Every lane of the wave takes part.
  template <int run>
  OCTET_INLINE void load(const Choices& c, int64_t column, int64_t count, bool aligned, float (&sum)[run]) const {
    const bool whole = aligned && count >= run;
    Tree<run> tree(leaves, sum);
    constexpr int batch = 8;  // rows on their way together
    for (int first = 0; first < c.count; first += batch) {
      // NOTE: past the last pair its row is read again, so that no load waits for a branch.
      int lane[batch];
      const uint16_t* row[batch];
#pragma unroll
      for (int i = 0; i < batch; i++) {
        lane[i] = lane_of(c, min_of(first + i, c.count - 1));
        row[i] = row_of(c, lane[i]) + column;
      }
      Bf16Run<run> packed[batch];  // where the run is not whole: anything
      if (whole) {
#pragma unroll
        for (int i = 0; i < batch; i++) packed[i] = *reinterpret_cast<const Bf16Run<run>*>(row[i]);
      }
#pragma unroll
      for (int i = 0; i < batch; i++) {
        if (first + i >= c.count) continue;
        tree.add(wave_broadcast(c.leaf, lane[i]), wave_broadcast(c.weight, lane[i]), packed[i]);
      }
    }
    tree.finish();
#pragma unroll
    for (int e = 0; e < run; e++) sum[e] = whole ? sum[e] : 0.0f;
    if (__ballot(!whole && count > 0) != 0) load_ragged(c, column, whole ? 0 : count, sum);
  }

 private:
  // The tree over the leaves that have pairs, entered in their order; `sum` is the leaf's. A leaf without pairs is +0,
  // which changes no node but a -0, and no root. NOTE: which leaves there are is the same in every lane, so the branches are scalar.
  template <int run>
  struct Tree {
    const int32_t leaves;
    float (&sum)[run];
    uint32_t left[3][run / 2];  // nodes of 1, 2 and 4 leaves that wait for their right ones
    uint32_t waiting = 0;       // one bit for each of these
    int32_t leaf = -1;          // none yet

    OCTET_INLINE Tree(int32_t leaves, float (&sum)[run]) : leaves(leaves), sum(sum) {
#pragma unroll
      for (int e = 0; e < run; e++) sum[e] = 0.0f;
    }
    OCTET_INLINE void add(int32_t of, float weight, const Bf16Run<run>& packed) {
      enter(of);
#pragma unroll
      for (int pair = 0; pair < run / 2; pair++) {
        sum[2 * pair] += weight * bits_float(packed[pair] << 16);
        sum[2 * pair + 1] += weight * bits_float(packed[pair] & 0xFFFF0000u);
      }
    }
    OCTET_INLINE void finish() {
      if (leaves <= 1 || leaf < 0) return;
      close(leaves);
#pragma unroll
      for (int e = 0; e < run; e++) sum[e] = root_of(sum[e]);
    }

   private:
    OCTET_INLINE void enter(int32_t next) {
      if (next == leaf) return;
      if (leaf >= 0) {
        close(next);
#pragma unroll
        for (int e = 0; e < run; e++) sum[e] = 0.0f;
      }
      leaf = next;
    }
    // NOTE: what is rounded is no NaN that could become a number: weights have the default one, rows are bf16.
    OCTET_INLINE void close(int32_t next) {
#pragma unroll
      for (int e = 0; e < run; e++) sum[e] = bias_bf16(sum[e]);
      settle<0>(next);
    }
    template <int level>
    OCTET_INLINE void settle(int32_t next) {
      if constexpr (level < 3) {
        if (leaf >> level & 1) {
          if (waiting >> level & 1) {
#pragma unroll
            for (int e = 0; e < run; e += 2) join_node(left[level][e / 2], sum[e], sum[e + 1]);
            waiting &= ~(1u << level);
          }
        } else if (leaf >> (level + 1) == next >> (level + 1)) {
#pragma unroll
          for (int e = 0; e < run; e += 2) left[level][e / 2] = waiting_node(sum[e], sum[e + 1]);
          waiting |= 1u << level;
          return;
        }
        settle<level + 1>(next);
      }
    }
  };

  // The lane of the choice at a place.
  OCTET_INLINE static int lane_of(const Choices& c, int place) { return __builtin_ctzll(__ballot(c.place == place)); }
  OCTET_INLINE const uint16_t* row_of(const Choices& c, int lane) const {
    const uint32_t low = wave_broadcast(static_cast<int>(c.row), lane);
    return y + (static_cast<int64_t>(wave_broadcast(static_cast<int>(c.row >> 32), lane)) << 32 | low);
  }
  // The columns of lanes whose run is not whole, one row and one element at a time; count: 0 where it is.
  template <int run>
  OCTET_INLINE void load_ragged(const Choices& c, int64_t column, int64_t count, float (&sum)[run]) const {
    float ragged[run];
    Tree<run> tree(leaves, ragged);
    for (int place = 0; place < c.count; place++) {
      const int lane = lane_of(c, place);
      const uint16_t* row = row_of(c, lane) + column;
      Bf16Run<run> packed;
#pragma unroll
      for (int pair = 0; pair < run / 2; pair++) {
        const uint32_t low = 2 * pair < count ? row[2 * pair] : 0;
        const uint32_t high = 2 * pair + 1 < count ? row[2 * pair + 1] : 0;
        packed[pair] = high << 16 | low;
      }
      tree.add(wave_broadcast(c.leaf, lane), wave_broadcast(c.weight, lane), packed);
    }
    tree.finish();
#pragma unroll
    for (int e = 0; e < run; e++) sum[e] = count > 0 ? ragged[e] : sum[e];
  }
};
#endif
