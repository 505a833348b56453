// The sum of what a token's experts gave: sum over choices c, in order, of weights[t, c] * y[pair_slots[t*top_k + c]]
// in f32. moe_combine writes it; norm takes it in as its x.
#pragma once

#include "columns.h"

struct PairSum {
  const uint16_t* y;          // [tokens*top_k slots, columns] bf16
  const int32_t* pair_slots;  // [tokens, top_k]; a slot outside 0..tokens*top_k-1 adds nothing
  const float* weights;       // [tokens, top_k], top_k <= 16
  int64_t tokens, y_stride;
  int32_t top_k;

  // A token's choices, choice c in lane c: slots and weights come with one latency, the rows they name with the next.
  // NOTE: a choice without a slot, or beyond the last, has the slot of another, so that no load waits for a branch.
  // That row may hold anything: its bits are cleared and so is the weight, and adding 0 changes no bit of a sum that
  // began at 0.
  struct Choices {
    int64_t row;  // y_stride times the slot
    float weight;
    uint32_t here;  // one bit for each choice that has a slot of its own, the same in every lane
  };
  OCTET_INLINE Choices choices(int64_t token) const {
    const int choice = min_of(lane_index(), top_k - 1);
    const int64_t pair = token * top_k + choice;
    const int32_t slot = pair_slots[pair];
    const float weight = weights[pair];
    const bool here = lane_index() == choice && static_cast<uint32_t>(slot) < static_cast<uint32_t>(tokens * top_k);
    const uint32_t all = static_cast<uint32_t>(__ballot(here));
    if (all == 0) return {};
    const int32_t some = wave_broadcast(slot, __builtin_ctz(all));
    return {(here ? slot : some) * y_stride, here ? weight : 0.0f, all};
  }

  // Eight columns of the token, or another run, as columns.h has them. Every lane of the wave takes part.
  template <int run>
  OCTET_INLINE void load(const Choices& c, int64_t column, int64_t count, bool aligned, float (&sum)[run]) const {
#pragma unroll
    for (int i = 0; i < run; i++) sum[i] = 0.0f;
    if (c.here == 0) return;
    constexpr int batch = 8;  // rows on their way together
    const bool whole = aligned && count >= run;
    for (int first = 0; first < top_k; first += batch) {
      const uint16_t* row[batch];
      float weight[batch];
#pragma unroll
      for (int i = 0; i < batch; i++) {
        row[i] = row_of(c, first + i);
        weight[i] = wave_broadcast(c.weight, first + i);
      }
      if (!whole) continue;
      Bf16Run<run> packed[batch];
#pragma unroll
      for (int i = 0; i < batch; i++) packed[i] = *reinterpret_cast<const Bf16Run<run>*>(row[i] + column);
#pragma unroll
      for (int i = 0; i < batch; i++) {
#pragma unroll
        for (int pair = 0; pair < run / 2; pair++) {
          const uint32_t bits = packed[i][pair] & mask_of(c, first + i);
          sum[2 * pair] += weight[i] * bits_float(bits << 16);
          sum[2 * pair + 1] += weight[i] * bits_float(bits & 0xFFFF0000u);
        }
      }
    }
    if (__ballot(!whole && count > 0) == 0) return;
    for (int choice = 0; choice < top_k; choice++) {
      const uint16_t* row = row_of(c, choice);
      const float weight = wave_broadcast(c.weight, choice);
      if (whole) continue;
#pragma unroll
      for (int e = 0; e < run; e++) {
        if (e >= count) continue;
        const uint32_t bits = static_cast<uint32_t>(row[column + e]) << 16;
        sum[e] += weight * bits_float(bits & mask_of(c, choice));
      }
    }
  }

 private:
  OCTET_INLINE const uint16_t* row_of(const Choices& c, int choice) const {
    const uint32_t low = wave_broadcast(static_cast<int>(c.row), choice);
    return y + (static_cast<int64_t>(wave_broadcast(static_cast<int>(c.row >> 32), choice)) << 32 | low);
  }
  OCTET_INLINE static uint32_t mask_of(const Choices& c, int choice) { return 0u - (c.here >> choice & 1); }
};
