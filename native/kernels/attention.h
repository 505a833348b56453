// What attention_prefill and attention_decode share: the columns of a wave, what they see, and the online softmax.
//
//   S^T = K (A: 16 tokens x dims) . Q^T (B: 16 columns)      O^T += V (A: 16 dims x tokens) . P^T (B, from the
//   accumulator)
//
// A column is one query of one head: column c of a (sequence, KV head) is query c/group, head c%group of the group, so
// all heads that share K and V fill the matrix together. A step is a fixed number of tokens of the context, at absolute
// positions that are multiples of it: what a query computes depends neither on the chunk nor on the tile of columns it
// stands in, and a step no part of which it sees changes none of its bits (alpha = 1, p = 0).
//
// K and V codes are widened to bf16 exactly, without their scale: k's is part of the score scale, v's of the last
// division. Scores are in units of log2.
//
// What lies beyond the context or in a block number outside the cache scores -inf. A V that is not finite would reach,
// as 0 * NaN, queries that do not see it: it is taken as 0 and added to those that do.
#pragma once

#include "kv_cache.h"

constexpr int attention_waves = 4;

// The context of one KV head of one sequence.
struct AttentionContext {
  KvCache cache;
  const int32_t* table;  // block numbers of the sequence
  int32_t length;        // tokens in the cache
  int32_t head;          // KV head
};

#if !defined(OCTET_HOST)
#include "mma.h"

constexpr float log2_e = 1.4426950408889634f;

// The block of the cache that holds a position, -1 if none does.
OCTET_INLINE int64_t block_of(const AttentionContext& context, int position) {
  if (position >= context.length) return -1;
  const int64_t block = context.table[position >> context.cache.block_shift];
  return block < context.cache.blocks ? block : -1;
}
OCTET_INLINE int place_in_block(const AttentionContext& context, int position) {
  return position & ((1 << context.cache.block_shift) - 1);
}

// The state of one wave's columns, `tiles` times 16.
template <int head_dim, int tiles>
struct AttentionColumns {
  static constexpr int dims = head_dim / 16;
  static constexpr int slots = MmaAccumulator::columns;

  MmaAccumulator o[tiles][dims];  // O^T: row = dim
  float largest[tiles][slots];    // score so far, -inf if none was seen
  float sum[tiles][slots];        // of exp2(score - largest) over this lane's rows
  int32_t seen_from[tiles][slots];
  uint32_t seen_span[tiles][slots];  // a column sees positions seen_from .. seen_from + seen_span

  // Query i of the sequence stands at `position` + i. first: number of the wave's first column; columns from `count` on
  // see nothing.
  OCTET_INLINE void begin(int group, int first, int count, int64_t position, int64_t window) {
    clear();
    for (int tile = 0; tile < tiles; tile++) {
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        const int slot = MmaAccumulator::slot(r);
        const int column = first + tile * 16 + MmaAccumulator::column(r);
        const int64_t to = position + column / group;
        const int64_t from = window > 0 ? max_of(to - window + 1, int64_t{0}) : 0;
        const bool sees_any = column < count && to >= 0;
        seen_from[tile][slot] = sees_any ? static_cast<int32_t>(from) : INT32_MAX;
        seen_span[tile][slot] = sees_any ? static_cast<uint32_t>(to - from) : 0;
      }
    }
  }

  // Nothing seen yet.
  OCTET_INLINE void clear() {
    for (int tile = 0; tile < tiles; tile++) {
      for (int dim = 0; dim < dims; dim++) o[tile][dim].clear();
      for (int slot = 0; slot < slots; slot++) {
        largest[tile][slot] = -__builtin_inff();
        sum[tile][slot] = 0.0f;
      }
    }
  }

  OCTET_INLINE bool sees(int tile, int slot, int position) const {
    return static_cast<uint32_t>(position - seen_from[tile][slot]) <= seen_span[tile][slot];
  }

  // Scores to P, in place; brings largest, sum and O to the new maximum.
  template <int parts>
  OCTET_INLINE void weigh(MmaAccumulator (&s)[tiles][parts]) {
    for (int tile = 0; tile < tiles; tile++) {
      float step_largest[slots];
      for (int slot = 0; slot < slots; slot++) step_largest[slot] = -__builtin_inff();
      for (int part = 0; part < parts; part++) {
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          float& so_far = step_largest[MmaAccumulator::slot(r)];
          so_far = __builtin_fmaxf(so_far, s[tile][part][r]);
        }
      }
      float alpha[slots], base[slots];
      for (int slot = 0; slot < slots; slot++) {
        const float now = __builtin_fmaxf(largest[tile][slot], MmaAccumulator::column_max(step_largest[slot]));
        // Nothing seen yet: with any finite base every exp2(-inf - base) is 0.
        base[slot] = now == -__builtin_inff() ? 0.0f : now;
        alpha[slot] = exp2_fast(largest[tile][slot] - base[slot]);
        largest[tile][slot] = now;
        sum[tile][slot] *= alpha[slot];
      }
      for (int part = 0; part < parts; part++) {
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          const int slot = MmaAccumulator::slot(r);
          s[tile][part][r] = exp2_fast(s[tile][part][r] - base[slot]);
          sum[tile][slot] += s[tile][part][r];
        }
      }
      for (int dim = 0; dim < dims; dim++) {
        for (int r = 0; r < MmaAccumulator::elements; r++) o[tile][dim][r] *= alpha[MmaAccumulator::slot(r)];
      }
    }
  }

  // Adds the V of positions from..to-1 that were taken as 0. Rare, so it reads the cache again, element by element.
  template <bool fp8>
  OCTET_INLINE void add_not_finite(const AttentionContext& context, int from, int to) {
#pragma clang loop unroll(disable)
    for (int token = from; token < to; token++) {
      const int64_t block = block_of(context, token);
      if (block < 0) continue;
      const int64_t at = v_element(context.cache, block, context.head, 0) + place_in_block(context, token);
      // NOTE: made anew for each token, or the offsets of all rows would be kept in registers through the hot loop.
      int first_row = MmaAccumulator::row(0);
      hold(first_row);
      for (int dim = 0; dim < dims; dim++) {
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          const int row = dim * 16 + first_row + (MmaAccumulator::row(r) - MmaAccumulator::row(0));
          const int32_t offset = row << context.cache.block_shift;
          const float v = fp8 ? fp8_to_f32<native_fp8>((context.cache.v + at)[offset])
                              : bf16_to_f32((reinterpret_cast<const uint16_t*>(context.cache.v) + at)[offset]);
          if (is_finite(v)) continue;
          for (int tile = 0; tile < tiles; tile++) {
            if (sees(tile, MmaAccumulator::slot(r), token)) o[tile][dim][r] += v;
          }
        }
        // A few at a time: the registers are full of what the next step needs.
        for (int tile = 0; tile < tiles; tile++) o[tile][dim].hold();
      }
    }
  }

  // After the last step: every lane of a column gets its whole sum.
  OCTET_INLINE void finish() {
    for (int tile = 0; tile < tiles; tile++) {
      for (int slot = 0; slot < slots; slot++) sum[tile][slot] = MmaAccumulator::column_sum(sum[tile][slot]);
    }
  }
};

// What O is multiplied with at the end: v_scale / (sum + exp2(sink - largest)), 0 where nothing was seen. sink and
// largest in units of log2; no sink: -inf.
OCTET_INLINE float softmax_factor(float largest, float sum, float sink, float v_scale) {
  if (largest == -__builtin_inff() && sum == 0.0f) return 0.0f;
  const float base = __builtin_fmaxf(largest, sink);
  const float own = exp2_fast(largest - base);
  return own * v_scale / (sum * own + exp2_fast(sink - base));
}
#endif

#if defined(OCTET_HOST)
namespace octet {

// What both attention ops ask of the arguments they share.
template <class Args>
void require_attention(const char* op, const Args& args, const KvCache& cache) {
  require(args.q_heads >= cache.kv_heads && args.q_heads % cache.kv_heads == 0 && args.q_heads / cache.kv_heads <= 16,
          "%s: q_heads = %d must be 1 to 16 times kv_heads = %d", op, args.q_heads, cache.kv_heads);
  require_heads(op, "q", args.q, args.q_stride, args.q_heads, cache.head_dim);
  if (args.max_context > 0) require_pointer(op, "block_table", args.block_table);
  require_range(op, "block_table_stride", args.block_table_stride,
                (args.max_context + (1 << cache.block_shift) - 1) >> cache.block_shift, max_stride);
  require_pointer(op, "context_lengths", args.context_lengths);
  require_pointer_or_null(op, "sinks", args.sinks);
  require_range(op, "window", args.window, 0, INT32_MAX);
  require(args.scale - args.scale == 0.0f, "%s: scale = %g must be finite", op, static_cast<double>(args.scale));
}

}  // namespace octet
#endif
