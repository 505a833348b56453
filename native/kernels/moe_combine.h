// The sum of what a token's experts gave: sum over choices c, in order, of weights[t, c] * y[pair_slots[t*top_k + c]]
// in f32. moe_combine writes it; norm takes it in as its x.
#pragma once

#include "columns.h"

struct PairSum {
  const uint16_t* y;          // [tokens*top_k slots, columns] bf16
  const int32_t* pair_slots;  // [tokens, top_k]; a slot outside 0..tokens*top_k-1 adds nothing
  const float* weights;       // [tokens, top_k]
  int64_t tokens, y_stride;
  int32_t top_k;

  // Eight columns of a token, as columns.h has them.
  OCTET_INLINE void load(int64_t token, int64_t column, int64_t count, bool aligned, float (&sum)[8]) const {
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] = 0.0f;
    int64_t some = -1;
    for (int choice = 0; choice < top_k && some < 0; choice++) some = slot_of(token * top_k + choice);
    if (some < 0) return;
    if (aligned && count >= 8) {
#pragma unroll 8
      for (int choice = 0; choice < top_k; choice++) add(token * top_k + choice, some, column, 8, true, sum);
    } else {
      for (int choice = 0; choice < top_k; choice++) add(token * top_k + choice, some, column, count, false, sum);
    }
  }

 private:
  OCTET_INLINE int64_t slot_of(int64_t pair) const {
    const int64_t slot = pair_slots[pair];
    return slot < tokens * top_k ? slot : -1;
  }

  // NOTE: a choice without a slot reads `some` row of one that has it, so that the loads of several choices can be on
  // their way together. The row may hold anything: the choice's 0 is chosen, not multiplied.
  OCTET_INLINE void add(int64_t pair, int64_t some, int64_t column, int64_t count, bool aligned,
                        float (&sum)[8]) const {
    const int64_t slot = slot_of(pair);
    float x[8];
    load_columns(y + (slot < 0 ? some : slot) * y_stride, column, count, aligned, x);
    const float weight = weights[pair];
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] += slot < 0 ? 0.0f : weight * x[i];
  }
};
