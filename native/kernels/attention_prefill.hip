// attention_prefill: causal attention of a chunk of queries of each sequence over the paged cache, in which their own K
// and V already are:
//
//   output[t, h] = sum over p seen of softmax(scale * q . k[p] (, sink[h]))[p] * v[p]
//
// query i of sequence s (t = query_starts[s] + i) stands at position context_lengths[s] - queries(s) + i and sees p <=
// its own (and > its own - window). q, output [tokens, q_heads, head_dim] bf16; the cache as in kv_cache.h, FP8 or
// bf16.
//
// A block of 4 waves serves neighbouring columns (attention.h) of one KV head and one sequence, each wave 32 of them
// (16 on sm_90), and walks the context from the first position its oldest query sees to its newest query, 32 tokens a
// step: the block stages K and V in LDS, the next step's are then on their way in registers while every wave computes
// S^T, the online softmax and O^T. A wave passes over steps none of its columns sees, and masks only those that some
// column does not see whole. Grid: column tiles x KV heads x sequences, the longest rows first; blocks beyond the
// queries of a sequence leave at once.
//
// The idea: Dao et al., "FlashAttention", 2022. Floor: 4 q_heads head_dim (context - queries/2) flops a query: 8,192
// tokens from empty, 64 heads of 128: 1.1 TFLOP, 0.84 ms at the 1,307 TFLOP/s of the bf16 matrix instructions. The
// essay: docs/attention.md.
#include "attention.h"

// Rows of LDS tiles are padded by 4 elements: an operand's 16 rows of 8 bytes then touch every bank once.
constexpr int step_tokens = 32;
constexpr int tile_pad = 4;
constexpr int v_row = step_tokens + tile_pad;                        // elements of a row of V in LDS
constexpr int dim_row(int head_dim) { return head_dim + tile_pad; }  // of K and of Q

struct AttentionPrefillParams {
  const uint16_t* q;  // [tokens, q_heads, head_dim] bf16
  KvCache cache;
  const int32_t* block_table;      // [sequences, block_table_stride]
  const int32_t* query_starts;     // [sequences + 1]
  const int32_t* context_lengths;  // [sequences]
  const float* sinks;              // [q_heads], or null
  uint16_t* output;                // [tokens, q_heads, head_dim] bf16
  int64_t tokens, max_queries;
  int64_t q_stride, output_stride, block_table_stride;
  int32_t max_context;
  int32_t q_heads, window;
  float scale;
  int32_t q_aligned, output_aligned;  // 1: every 8 elements lie on 16 bytes
};

template <int head_dim>
struct AttentionPrefillLds {
  // K then V of a step; at the start and the end 16 columns of each wave on their way in and out.
  alignas(16) uint16_t tiles[step_tokens * dim_row(head_dim) + head_dim * v_row];
  int32_t not_finite[attention_waves];  // whether the wave met a V that is not
  static_assert(sizeof(tiles) >= attention_waves * 16 * dim_row(head_dim) * sizeof(uint16_t));
};

// Tiles of 16 columns a wave serves: two share each load from LDS; with 32 lanes the registers hold one.
constexpr int prefill_tiles(int lanes) { return lanes == 64 ? 2 : 1; }

#if !defined(OCTET_HOST)
// The blocks of the cache that hold the two halves of a step, negative where none does; a half beyond the context
// stands for its end. The same in all lanes: scalar loads, which wait for no load of K or V.
struct PrefillBlocks {
  int32_t of_half[2];

  OCTET_INLINE static PrefillBlocks find(const AttentionContext& context, int position) {
    PrefillBlocks blocks;
    for (int half = 0; half < 2; half++) {
      const int first = min_of(position + half * (step_tokens / 2), context.length - 1);
      const int32_t block = context.table[first >> context.cache.block_shift];
      blocks.of_half[half] = block < static_cast<int32_t>(context.cache.blocks) ? block : -1;
    }
    return blocks;
  }
  OCTET_INLINE int32_t of(int token) const { return token < step_tokens / 2 ? of_half[0] : of_half[1]; }
  OCTET_INLINE bool complete() const { return (of_half[0] | of_half[1]) >= 0; }
};

// The K or V of one step on its way from the cache to LDS: 16-byte pieces in the registers of `threads` threads. Where
// there is no block, the `idle` bytes of one head are read in its place, which score -inf; nor is a token of K beyond
// the context read.
template <int head_dim, bool fp8, int threads>
struct KvStep {
  static constexpr int element = fp8 ? 1 : 2;  // bytes
  static constexpr int run = 16 / element;     // elements of a piece
  static constexpr int total = step_tokens * head_dim / run;
  static constexpr int pieces = (total + threads - 1) / threads;
  static constexpr int k_pieces = head_dim / run;     // of a token
  static constexpr int v_pieces = step_tokens / run;  // of a dim
  u32x4 data[pieces];

  OCTET_INLINE void load_k(const AttentionContext& context, const PrefillBlocks& blocks, int position, int thread,
                           const void* idle) {
    for (int i = 0; i < pieces; i++) {
      const int piece = min_of(i * threads + thread, total - 1);
      const int token = min_of(position + piece / k_pieces, context.length - 1);
      const int32_t block = blocks.of(piece / k_pieces);
      const int64_t at = k_element(context.cache, block, context.head, place_in_block(context, token));
      const uint8_t* row = block < 0 ? static_cast<const uint8_t*>(idle) : context.cache.k + at * element;
      data[i] = *reinterpret_cast<const u32x4*>(row + piece % k_pieces * 16);
    }
  }

  OCTET_INLINE void load_v(const AttentionContext& context, const PrefillBlocks& blocks, int position, int thread,
                           const void* idle) {
    for (int i = 0; i < pieces; i++) {
      const int piece = min_of(i * threads + thread, total - 1);
      const int token = min_of(position + piece % v_pieces * run, (context.length - 1) / run * run);
      const int32_t block = blocks.of(piece % v_pieces * run);
      const int64_t at =
          v_element(context.cache, block, context.head, piece / v_pieces) + place_in_block(context, token);
      data[i] = *reinterpret_cast<const u32x4*>(block < 0 ? static_cast<const uint8_t*>(idle)
                                                          : context.cache.v + at * element);
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

// A step's products on the columns of one wave: Q in registers, K and V in LDS.
template <int head_dim, int tiles>
struct PrefillProducts {
  static constexpr int k_steps = head_dim / MmaBf16::k;   // of the first product
  static constexpr int parts = step_tokens / MmaBf16::k;  // of the second; tiles of 16 tokens
  using Columns = AttentionColumns<head_dim, tiles>;
  static_assert(MmaBf16::k == 16 && parts == 2, "a tile of P^T is one operand B, and half a step");

  MmaBf16::B q[tiles][k_steps];

  // Reads Q through `staging`, [16][dim_row(head_dim)] of this wave's own. rows: of the heads that share the KV head;
  // first: number of the wave's first column; columns from `count` on are zeros.
  OCTET_INLINE void load_q(const uint16_t* rows, int64_t stride, bool aligned, int group, int first, int count,
                           uint16_t* staging) {
    constexpr int pieces = head_dim / 8;  // of a column
    for (int tile = 0; tile < tiles; tile++) {
      for (int i = lane_index(); i < 16 * pieces; i += wave_size) {
        const int column = first + tile * 16 + i / pieces;
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
    }
  }

  // Scores of the step at `position`; plain: every column sees all of it.
  OCTET_INLINE void scores(const Columns& columns, const uint16_t* k_tile, const PrefillBlocks& blocks, int position,
                           float scale, bool plain, MmaAccumulator (&s)[tiles][parts]) const {
    for (int part = 0; part < parts; part++) {
      const uint16_t* rows = k_tile + part * 16 * dim_row(head_dim);
      for (int tile = 0; tile < tiles; tile++) s[tile][part].clear();
      for (int step = 0; step < k_steps; step++) {
        const MmaBf16::A k = MmaBf16::load_a(rows + step * MmaBf16::k, dim_row(head_dim));
        for (int tile = 0; tile < tiles; tile++) MmaBf16::mma(s[tile][part], k, q[tile][step]);
      }
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        for (int tile = 0; tile < tiles; tile++) s[tile][part][r] *= scale;
      }
    }
    if (plain) return;
    for (int part = 0; part < parts; part++) {
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        const int token = part * 16 + MmaAccumulator::row(r);
        for (int tile = 0; tile < tiles; tile++) {
          float& score = s[tile][part][r];
          const bool sees = blocks.of_half[part] >= 0 && columns.sees(tile, MmaAccumulator::slot(r), position + token);
          score = sees ? score : -__builtin_inff();
        }
      }
    }
  }

  // O^T += V . P^T
  OCTET_INLINE static void accumulate(Columns& columns, const uint16_t* v_tile, MmaAccumulator (&s)[tiles][parts]) {
    MmaBf16::B p[tiles][parts][1];
    for (int tile = 0; tile < tiles; tile++) {
      for (int part = 0; part < parts; part++) MmaBf16::to_b(s[tile][part], p[tile][part]);
    }
    for (int dim = 0; dim < Columns::dims; dim++) {
      for (int part = 0; part < parts; part++) {
        const MmaBf16::A v = MmaBf16::load_a(v_tile + dim * 16 * v_row + part * MmaBf16::k, v_row);
        for (int tile = 0; tile < tiles; tile++) MmaBf16::mma(columns.o[tile][dim], v, p[tile][part][0]);
      }
    }
  }
};

template <int head_dim, bool fp8>
OCTET_INLINE void attention_prefill(const AttentionPrefillParams& params) {
  constexpr int tiles = prefill_tiles(wave_size);
  constexpr int threads = attention_waves * wave_size;
  using Lds = AttentionPrefillLds<head_dim>;
  using Products = PrefillProducts<head_dim, tiles>;
  using Columns = typename Products::Columns;
  Lds& lds = OCTET_LDS(Lds);
  const int64_t sequence = blockIdx.z;
  const int head = static_cast<int>(blockIdx.y);
  const int group = params.q_heads / params.cache.kv_heads;

  // Phase 1: what the block and the wave serve. Bounds that lie are cut, never followed.
  const int64_t start = min_of(max_of(int64_t{params.query_starts[sequence]}, int64_t{0}), params.tokens);
  const int64_t queries = min_of(int64_t{params.query_starts[sequence + 1]}, params.tokens) - start;
  const int length = min_of(max_of(params.context_lengths[sequence], 0), params.max_context);
  const int64_t position0 = length - queries;
  const int columns = static_cast<int>(min_of(queries, params.max_queries) * group);  // below 2^28: prefill_checked
  constexpr int wave_columns = tiles * 16;
  const int block_first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * attention_waves * wave_columns;
  if (block_first >= columns) return;

  const int thread = static_cast<int>(threadIdx.x);
  const int wave = wave_index();
  const int first = block_first + wave * wave_columns;
  // Positions seen by the columns from..to-1, at most: low(from)..high(to). All fit 32 bits; what is kept through the
  // steps is 32 bits wide, or the scalar registers would not hold it.
  const auto query_of = [&](int column) { return position0 + min_of(column, columns - 1) / group; };
  const auto low = [&](int from) {
    return params.window > 0 ? static_cast<int>(max_of(query_of(from) - params.window + 1, int64_t{0})) : 0;
  };
  const auto high = [&](int to) { return static_cast<int>(query_of(to - 1)); };
  const int begin = min_of(low(block_first), length) / step_tokens * step_tokens;
  const int end = max_of(high(block_first + attention_waves * wave_columns), -1) + 1;
  const int wave_low = low(first);
  const int wave_high = first < columns ? high(first + wave_columns) : -1;
  // Seen by all of them.
  const int plain_from = low(first + wave_columns - 1);
  const int plain_to = static_cast<int>(query_of(first));

  // Phase 2: Q to registers.
  const AttentionContext context = {params.cache, params.block_table + sequence * params.block_table_stride, length,
                                    head};
  uint16_t* const k_tile = lds.tiles;
  uint16_t* const v_tile = lds.tiles + step_tokens * dim_row(head_dim);
  uint16_t* const staging = lds.tiles + wave * 16 * dim_row(head_dim);
  Products products;
  products.load_q(params.q + start * params.q_stride + head * group * head_dim, params.q_stride, params.q_aligned,
                  group, first, columns, staging);
  Columns state;
  state.begin(group, first, columns, position0, params.window);
  const float scale = params.scale * kv_scale(params.cache, params.cache.k_scales, head) * log2_e;

  // Phase 3: the context, step by step.
  KvStep<head_dim, fp8, threads> k, v;
  PrefillBlocks blocks = {}, next_blocks = {};
  if (begin < end) {
    next_blocks = PrefillBlocks::find(context, begin);
    k.load_k(context, next_blocks, begin, thread, params.q);
    v.load_v(context, next_blocks, begin, thread, params.q);
  }
#pragma clang loop unroll(disable)
  for (int position = begin; position < end; position += step_tokens) {
    const int next = position + step_tokens;
    blocks = next_blocks;
    if (next < end) next_blocks = PrefillBlocks::find(context, next);
    __syncthreads();
    k.store_k(k_tile, thread);
    const bool met = __ballot(v.store_v(v_tile, thread)) != 0;
    if (thread % wave_size == 0) lds.not_finite[wave] = met;
    if (next < end) {
      k.load_k(context, next_blocks, next, thread, params.q);
      v.load_v(context, next_blocks, next, thread, params.q);
    }
    __syncthreads();
    if (position > wave_high || position + step_tokens <= wave_low) continue;
    const bool plain = blocks.complete() && position >= plain_from && position + step_tokens - 1 <= plain_to;
    MmaAccumulator s[tiles][Products::parts];
    products.scores(state, k_tile, blocks, position, scale, plain, s);
    state.weigh(s);
    Products::accumulate(state, v_tile, s);
    int not_finite = 0;
    for (int w = 0; w < attention_waves; w++) not_finite |= lds.not_finite[w];
    if (not_finite) state.template add_not_finite<fp8>(context, position, position + step_tokens);
  }
  state.finish();
  __syncthreads();

  // Phase 4: O^T / sum, through LDS so that a column's dims leave together.
  const float v_scale = kv_scale(params.cache, params.cache.v_scales, head);
  for (int tile = 0; tile < tiles; tile++) {
    for (int r = 0; r < MmaAccumulator::elements; r++) {
      const int slot = MmaAccumulator::slot(r);
      const int column = first + tile * 16 + MmaAccumulator::column(r);
      const float sink = params.sinks ? params.sinks[head * group + column % group] * log2_e : -__builtin_inff();
      const float factor = softmax_factor(state.largest[tile][slot], state.sum[tile][slot], sink, v_scale);
      for (int dim = 0; dim < Columns::dims; dim++) {
        staging[MmaAccumulator::column(r) * dim_row(head_dim) + dim * 16 + MmaAccumulator::row(r)] =
            f32_to_bf16(state.o[tile][dim][r] * factor);
      }
    }
    wave_sync();
    constexpr int pieces = head_dim / 8;
    for (int i = lane_index(); i < 16 * pieces; i += wave_size) {
      const int column = first + tile * 16 + i / pieces;
      if (column >= columns) continue;
      uint16_t* output = params.output + (start + column / group) * params.output_stride +
                         (head * group + column % group) * head_dim + i % pieces * 8;
      const u32x2* source = reinterpret_cast<const u32x2*>(staging + i / pieces * dim_row(head_dim) + i % pieces * 8);
      bf16x8_put(output, params.output_aligned, u32x4{source[0][0], source[0][1], source[1][0], source[1][1]});
    }
    wave_sync();
  }
}

OCTET_KERNEL(attention_prefill_d64_bf16, AttentionPrefillParams, 256) { attention_prefill<64, false>(params); }
OCTET_KERNEL(attention_prefill_d64_fp8, AttentionPrefillParams, 256) { attention_prefill<64, true>(params); }
OCTET_KERNEL(attention_prefill_d128_bf16, AttentionPrefillParams, 256) { attention_prefill<128, false>(params); }
OCTET_KERNEL(attention_prefill_d128_fp8, AttentionPrefillParams, 256) { attention_prefill<128, true>(params); }
#endif

#if defined(OCTET_HOST)
namespace octet {
namespace {

const char* prefill_kernel(int head_dim, bool fp8) {
  if (head_dim == 64) return fp8 ? "attention_prefill_d64_fp8" : "attention_prefill_d64_bf16";
  return fp8 ? "attention_prefill_d128_fp8" : "attention_prefill_d128_bf16";
}

const octet_attention_prefill_args& prefill_checked(const octet_attention_prefill_args* pointer) {
  const auto& args = checked("attention_prefill", pointer);
  require_range("attention_prefill", "tokens", args.tokens, 0, max_blocks(256));
  require_range("attention_prefill", "sequences", args.sequences, 0, 65535);
  require_range("attention_prefill", "max_queries", args.max_queries, 0, max_blocks(256));
  require_range("attention_prefill", "q_heads", args.q_heads, 1, max_heads);
  require_range("attention_prefill", "max_context", args.max_context, 0, INT32_MAX - step_tokens);
  return args;
}

}  // namespace
}  // namespace octet

using namespace octet;

extern "C" octet_status octet_attention_prefill(const octet_attention_prefill_args* pointer, octet_stream* stream) {
  return guarded([&] {
    const char* op = "attention_prefill";
    const auto& args = prefill_checked(pointer);
    const DeviceFacts& device = facts(stream);
    const KvCache cache = kv_cache_of(op, args.cache, device);
    if (args.sequences == 0 || args.tokens == 0 || args.max_queries == 0) return;
    require_attention(op, args, cache);
    require_heads(op, "output", args.output, args.output_stride, args.q_heads, cache.head_dim);
    require_pointer(op, "query_starts", args.query_starts);

    const AttentionPrefillParams params = {static_cast<const uint16_t*>(args.q),
                                           cache,
                                           args.block_table,
                                           args.query_starts,
                                           args.context_lengths,
                                           args.sinks,
                                           static_cast<uint16_t*>(args.output),
                                           args.tokens,
                                           args.max_queries,
                                           args.q_stride,
                                           args.output_stride,
                                           args.block_table_stride,
                                           static_cast<int32_t>(args.max_context),
                                           args.q_heads,
                                           args.window,
                                           args.scale,
                                           args.q_stride % 8 == 0,
                                           args.output_stride % 8 == 0};
    const int64_t columns =
        (args.max_queries < args.tokens ? args.max_queries : args.tokens) * (args.q_heads / cache.kv_heads);
    const int64_t block_columns = attention_waves * 16 * prefill_tiles(device.wave_size);
    const Grid grid = {static_cast<uint32_t>((columns + block_columns - 1) / block_columns),
                       static_cast<uint32_t>(cache.kv_heads), static_cast<uint32_t>(args.sequences)};
    launch(stream, prefill_kernel(cache.head_dim, cache.k_scales != nullptr), grid, attention_waves,
           cache.head_dim == 128 ? sizeof(AttentionPrefillLds<128>) : sizeof(AttentionPrefillLds<64>), params);
  });
}

extern "C" octet_status octet_attention_prefill_workspace(const octet_attention_prefill_args* pointer, octet_device*,
                                                          size_t* size) {
  return guarded([&] {
    prefill_checked(pointer);
    require(size != nullptr, "attention_prefill: size is null");
    *size = 0;
  });
}
#endif
