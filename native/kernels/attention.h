// The tile arithmetic attention_prefill and attention_decode share: staging of K and V, scores, the online softmax.
//
//   S^T = K (A: 16 tokens x dims) . Q^T (B: 16 columns)      O^T += V (A: 16 dims x tokens) . P^T (B, from the
//   accumulator)
//
// A column is one query of one head: column c of a (sequence, KV head) is query c/group, head c%group of the group, so
// all heads that share K and V fill the matrix together. A step is 32 tokens of the context, at absolute positions that
// are multiples of 32: what a query computes depends neither on the chunk nor on the tile of columns it stands in, and
// a step no part of which it sees changes none of its bits (alpha = 1, p = 0).
//
// K and V codes are widened to bf16 exactly on the way to LDS, without their scale: k's is part of the score scale, v's
// of the last division. Scores are in units of log2. Rows of LDS tiles are padded by 4 elements: an operand's 16 rows
// of 8 bytes then touch every bank once.
//
// What lies beyond the context or in a block number outside the cache is staged as zeros and hidden by a bias of -inf.
// A V that is not finite would reach, as 0 * NaN, queries that do not see it: it is staged as 0 and added to those that
// do.
#pragma once

#include "kv_cache.h"

constexpr int attention_waves = 4;
constexpr int step_tokens = 32;
constexpr int tile_pad = 4;
constexpr int v_row = step_tokens + tile_pad;                        // elements of a row of V in LDS
constexpr int dim_row(int head_dim) { return head_dim + tile_pad; }  // of K and of Q

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

// 8 bf16 of a row as four pairs; `aligned`: they lie on 16 bytes.
OCTET_INLINE u32x4 bf16x8_pairs(const uint16_t* source, bool aligned) {
  if (aligned) return *reinterpret_cast<const u32x4*>(source);
  u32x4 pairs;
  for (int i = 0; i < 4; i++) pairs[i] = source[2 * i] | static_cast<uint32_t>(source[2 * i + 1]) << 16;
  return pairs;
}
OCTET_INLINE void bf16x8_put(uint16_t* output, bool aligned, u32x4 pairs) {
  if (aligned) {
    *reinterpret_cast<u32x4*>(output) = pairs;
  } else {
    for (int i = 0; i < 8; i++) output[i] = static_cast<uint16_t>(pairs[i / 2] >> i % 2 * 16);
  }
}

// The block of the cache that holds a position, -1 if none does.
OCTET_INLINE int64_t block_of(const AttentionContext& context, int position) {
  if (position >= context.length) return -1;
  const int64_t block = context.table[position >> context.cache.block_shift];
  return block < context.cache.blocks ? block : -1;
}
OCTET_INLINE int place_in_block(const AttentionContext& context, int position) {
  return position & ((1 << context.cache.block_shift) - 1);
}

OCTET_INLINE float step_bias(const AttentionContext& context, int position) {
  return block_of(context, position) < 0 ? -__builtin_inff() : 0.0f;
}

// The K or V of one step on its way from the cache to LDS: 16-byte pieces in the registers of `threads` threads.
template <int head_dim, bool fp8, int threads>
struct KvStep {
  static constexpr int element = fp8 ? 1 : 2;  // bytes
  static constexpr int run = 16 / element;     // elements of a piece
  static constexpr int total = step_tokens * head_dim / run;
  static constexpr int pieces = (total + threads - 1) / threads;
  static constexpr int k_pieces = head_dim / run;     // of a token
  static constexpr int v_pieces = step_tokens / run;  // of a dim
  u32x4 data[pieces];

  OCTET_INLINE void load_k(const AttentionContext& context, int position, int thread) {
    for (int i = 0; i < pieces; i++) {
      const int piece = i * threads + thread;
      const int token = position + piece / k_pieces;
      data[i] = u32x4{0, 0, 0, 0};
      if (total % threads != 0 && piece >= total) continue;
      const int64_t block = block_of(context, token);
      if (block < 0) continue;
      const int64_t at = k_element(context.cache, block, context.head, place_in_block(context, token));
      data[i] = *reinterpret_cast<const u32x4*>(context.cache.k + (at + piece % k_pieces * run) * element);
    }
  }

  OCTET_INLINE void load_v(const AttentionContext& context, int position, int thread) {
    for (int i = 0; i < pieces; i++) {
      const int piece = i * threads + thread;
      const int token = position + piece % v_pieces * run;
      data[i] = u32x4{0, 0, 0, 0};
      if (total % threads != 0 && piece >= total) continue;
      const int64_t block = block_of(context, token);
      if (block < 0) continue;
      const int64_t at = v_element(context.cache, block, context.head, piece / v_pieces);
      data[i] = *reinterpret_cast<const u32x4*>(context.cache.v + (at + place_in_block(context, token)) * element);
      const int inside = (context.length - token) * element;  // bytes of the piece that belong to the context, if < 16
      for (int word = 0; inside < 16 && word < 4; word++) {
        const int bytes = inside - word * 4;
        data[i][word] &= bytes >= 4 ? ~0u : bytes <= 0 ? 0u : (1u << bytes * 8) - 1;
      }
    }
  }

  // A piece as pairs of bf16.
  OCTET_INLINE static void widen(u32x4 piece, uint32_t (&pairs)[run / 2]) {
    for (int word = 0; word < 4; word++) {
      if constexpr (fp8) {
        const u32x2 four = fp8x4_to_bf16(piece[word]);
        pairs[2 * word] = four[0];
        pairs[2 * word + 1] = four[1];
      } else {
        pairs[word] = piece[word];
      }
    }
  }

  OCTET_INLINE static void put(uint16_t* tile, const uint32_t (&pairs)[run / 2]) {
    for (int i = 0; i < run / 4; i++) reinterpret_cast<u32x2*>(tile)[i] = u32x2{pairs[2 * i], pairs[2 * i + 1]};
  }

  // tile: [step_tokens][dim_row(head_dim)]
  OCTET_INLINE void store_k(uint16_t* tile, int thread) const {
    for (int i = 0; i < pieces; i++) {
      const int piece = i * threads + thread;
      if (total % threads != 0 && piece >= total) continue;
      uint32_t pairs[run / 2];
      widen(data[i], pairs);
      put(tile + piece / k_pieces * dim_row(head_dim) + piece % k_pieces * run, pairs);
    }
  }

  // tile: [head_dim][v_row]. Returns whether this thread met a value that is not finite; 0 is stored in its place.
  OCTET_INLINE bool store_v(uint16_t* tile, int thread) const {
    using u16x2 = uint16_t __attribute__((ext_vector_type(2)));
    constexpr uint32_t infinite = 0x7F80;
    bool met = false;
    for (int i = 0; i < pieces; i++) {
      const int piece = i * threads + thread;
      if (total % threads != 0 && piece >= total) continue;
      uint32_t pairs[run / 2];
      widen(data[i], pairs);
      u16x2 largest = {0, 0};
      for (uint32_t pair : pairs) {
        largest = __builtin_elementwise_max(largest, __builtin_bit_cast(u16x2, pair & 0x7FFF7FFFu));
      }
      if (largest[0] >= infinite || largest[1] >= infinite) {
        for (uint32_t& pair : pairs) {
          if ((pair & infinite) == infinite) pair &= 0xFFFF0000u;
          if ((pair >> 16 & infinite) == infinite) pair &= 0xFFFFu;
        }
        met = true;
      }
      put(tile + piece / v_pieces * v_row + piece % v_pieces * run, pairs);
    }
    return met;
  }
};

// The columns of one wave, `tiles` times 16: Q and the state of the online softmax. p_words: bf16 words that carry a
// value of P; 2 keep 16 bits of it, for twice the matrix instructions of the second product.
template <int head_dim, bool fp8, int tiles, int p_words>
struct AttentionColumns {
  static constexpr int k_steps = head_dim / MmaBf16::k;     // of the first product
  static constexpr int v_steps = step_tokens / MmaBf16::k;  // of the second
  static constexpr int dims = head_dim / 16;
  static constexpr int slots = MmaAccumulator::columns;
  static_assert(MmaBf16::k == 16, "a tile of P^T is one operand B");
  struct P {
    MmaBf16::B tile[tiles][v_steps][p_words];
  };

  MmaBf16::B q[tiles][k_steps];
  MmaAccumulator o[tiles][dims];  // O^T: row = dim
  float largest[tiles][slots];    // score so far, -inf if none was seen
  float sum[tiles][slots];        // of exp2(score - largest) over this lane's rows
  int32_t seen_from[tiles][slots];
  uint32_t seen_span[tiles][slots];  // a column sees positions seen_from .. seen_from + seen_span

  // Reads Q through `staging`, [16][dim_row(head_dim)] of this wave's own. rows: of the heads that share the KV head;
  // query i of the sequence stands at `position` + i. first: number of the wave's first column; columns from `count` on
  // see nothing.
  OCTET_INLINE void begin(const uint16_t* rows, int64_t stride, bool aligned, int group, int64_t first, int64_t count,
                          int64_t position, int64_t window, uint16_t* staging) {
    constexpr int pieces = head_dim / 8;  // of a column
    for (int tile = 0; tile < tiles; tile++) {
      for (int i = lane_index(); i < 16 * pieces; i += wave_size) {
        const int64_t column = first + tile * 16 + i / pieces;
        const uint16_t* row = rows + column / group * stride + column % group * head_dim;
        u32x4 pairs = {0, 0, 0, 0};
        if (column < count) pairs = bf16x8_pairs(row + i % pieces * 8, aligned);
        u32x2* place = reinterpret_cast<u32x2*>(staging + i / pieces * dim_row(head_dim) + i % pieces * 8);
        place[0] = u32x2{pairs[0], pairs[1]};
        place[1] = u32x2{pairs[2], pairs[3]};
      }
      wave_sync();
      for (int step = 0; step < k_steps; step++) {
        q[tile][step] = MmaBf16::load_b(staging + step * MmaBf16::k, dim_row(head_dim));
      }
      wave_sync();
      for (int dim = 0; dim < dims; dim++) o[tile][dim].clear();
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        const int slot = MmaAccumulator::slot(r);
        const int64_t column = first + tile * 16 + MmaAccumulator::column(r);
        const int64_t to = position + column / group;
        const int64_t from = window > 0 ? max_of(to - window + 1, int64_t{0}) : 0;
        const bool sees_any = column < count && to >= 0;
        seen_from[tile][slot] = sees_any ? static_cast<int32_t>(from) : INT32_MAX;
        seen_span[tile][slot] = sees_any ? static_cast<uint32_t>(to - from) : 0;
        largest[tile][slot] = -__builtin_inff();
        sum[tile][slot] = 0.0f;
      }
    }
  }

  OCTET_INLINE bool sees(int tile, int slot, int position) const {
    return static_cast<uint32_t>(position - seen_from[tile][slot]) <= seen_span[tile][slot];
  }

  // P^T of the step at `position` from K in LDS; brings largest, sum and O to the new maximum. scale: of the scores.
  OCTET_INLINE P scores(const uint16_t* k_tile, const float* bias, int position, float scale) {
    MmaAccumulator s[tiles][v_steps];
    float step_largest[tiles][slots];
    for (int tile = 0; tile < tiles; tile++) {
      for (int slot = 0; slot < slots; slot++) step_largest[tile][slot] = -__builtin_inff();
    }
    for (int part = 0; part < v_steps; part++) {
      const uint16_t* rows = k_tile + part * 16 * dim_row(head_dim);
      for (int tile = 0; tile < tiles; tile++) s[tile][part].clear();
      for (int step = 0; step < k_steps; step++) {
        const MmaBf16::A k = MmaBf16::load_a(rows + step * MmaBf16::k, dim_row(head_dim));
        for (int tile = 0; tile < tiles; tile++) MmaBf16::mma(s[tile][part], k, q[tile][step]);
      }
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        const int slot = MmaAccumulator::slot(r);
        const int token = part * 16 + MmaAccumulator::row(r);
        for (int tile = 0; tile < tiles; tile++) {
          float& score = s[tile][part][r];
          score = sees(tile, slot, position + token) ? score * scale + bias[token] : -__builtin_inff();
          step_largest[tile][slot] = __builtin_fmaxf(step_largest[tile][slot], score);
        }
      }
    }
    P p;
    for (int tile = 0; tile < tiles; tile++) {
      float alpha[slots], base[slots];
      for (int slot = 0; slot < slots; slot++) {
        const float now = __builtin_fmaxf(largest[tile][slot], MmaAccumulator::column_max(step_largest[tile][slot]));
        // Nothing seen yet: with any finite base every exp2(-inf - base) is 0.
        base[slot] = now == -__builtin_inff() ? 0.0f : now;
        alpha[slot] = exp2_fast(largest[tile][slot] - base[slot]);
        largest[tile][slot] = now;
        sum[tile][slot] *= alpha[slot];
      }
      for (int part = 0; part < v_steps; part++) {
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          const int slot = MmaAccumulator::slot(r);
          s[tile][part][r] = exp2_fast(s[tile][part][r] - base[slot]);
          sum[tile][slot] += s[tile][part][r];
        }
        for (int word = 0; word < p_words; word++) {
          p.tile[tile][part][word] = MmaBf16::to_b(s[tile][part]);
          for (int r = 0; r < MmaAccumulator::elements; r++) {
            s[tile][part][r] -= bf16_to_f32(f32_to_bf16(s[tile][part][r]));
          }
        }
      }
      for (int dim = 0; dim < dims; dim++) {
        for (int r = 0; r < MmaAccumulator::elements; r++) o[tile][dim][r] *= alpha[MmaAccumulator::slot(r)];
      }
    }
    return p;
  }

  // O^T += V . P^T, V in LDS.
  OCTET_INLINE void accumulate(const uint16_t* v_tile, const P& p) {
    for (int dim = 0; dim < dims; dim++) {
      for (int part = 0; part < v_steps; part++) {
        const MmaBf16::A v = MmaBf16::load_a(v_tile + dim * 16 * v_row + part * MmaBf16::k, v_row);
        for (int tile = 0; tile < tiles; tile++) {
          for (int word = 0; word < p_words; word++) MmaBf16::mma(o[tile][dim], v, p.tile[tile][part][word]);
        }
      }
    }
  }

  // Adds what store_v left out. Rare, so it reads the cache again, element by element.
  OCTET_INLINE void add_not_finite(const AttentionContext& context, int position) {
#pragma clang loop unroll(disable)
    for (int token = position; token < position + step_tokens; token++) {
      const int64_t block = block_of(context, token);
      if (block < 0) continue;
      for (int dim = 0; dim < dims; dim++) {
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          const int64_t at = v_element(context.cache, block, context.head, dim * 16 + MmaAccumulator::row(r)) +
                             place_in_block(context, token);
          const float v = fp8 ? fp8_to_f32<native_fp8>(context.cache.v[at])
                              : bf16_to_f32(reinterpret_cast<const uint16_t*>(context.cache.v)[at]);
          if (is_finite(v)) continue;
          for (int tile = 0; tile < tiles; tile++) {
            if (sees(tile, MmaAccumulator::slot(r), token)) o[tile][dim][r] += v;
          }
        }
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
