// attention_decode: attention of 1 to 4 queries of each sequence over the paged cache, in f32 softmax:
//
//   output[s*query_length + i, h] = sum over p seen of softmax(scale * q . k[p] (, sink[h]))[p] * v[p]
//
// query i stands at position context_lengths[s] - query_length + i and sees p <= its own (and > its own - window).
// q, output [sequences*query_length, q_heads, head_dim] bf16; the cache as in kv_cache.h, FP8 or bf16. quantized,
// scales: the same in FP8 with a scale per row and 128 columns, from the f32 values.
//
// Two launches. `attention_decode_*`: the context is cut into splits of 512 tokens at absolute positions; a block of 4
// waves serves one split, 16 columns (attention.h) of one KV head and one sequence: a wave takes 128 tokens in steps of
// 64 (32 in bf16), then the waves are merged in order and O (unscaled), the largest score and the sum go to the
// workspace. `attention_combine_*`: one block for each row and 128 columns adds the splits in a fixed order (group g of
// 16 lanes takes splits g, g + 32, ..., then the groups in order). The length of a split is fixed, so the bits depend
// on the context alone. Grid: splits x (KV heads x tiles of 16 columns) x sequences; splits beyond a context leave at
// once.
//
// K and V go from the cache into the registers that feed the matrix instruction, 16 bytes a lane: no LDS and no barrier
// before the merge (DecodeStep). The matrix unit idles here, so P keeps 16 bits, in two bf16 words.
//
// The idea: Dao et al., "Flash-Decoding", 2023. Floor: the cache is read once: 64 sequences of 4,096 tokens, 4 KV heads
// of 128 dims in FP8: 268 MB, 55 us at 4.86 TB/s; O of the splits adds 2 x 16 x 128 x 4 bytes to every 128 KiB (12 %).
// The essay: docs/attention.md.
#include "attention.h"

constexpr int split_tokens = 512;

struct AttentionDecodeParams {
  const uint16_t* q;  // [sequences*query_length, q_heads, head_dim] bf16
  KvCache cache;
  const int32_t* block_table;      // [sequences, block_table_stride]
  const int32_t* context_lengths;  // [sequences]
  const float* sinks;              // [q_heads], or null
  uint16_t* output;                // [sequences*query_length, q_heads, head_dim] bf16, or null
  uint8_t* quantized;              // [sequences*query_length, q_heads*head_dim] FP8, or null
  float* scales;                   // [sequences*query_length, ceil(q_heads*head_dim/128)]
  float* split_o;                  // [sequences*query_length, q_heads, splits, head_dim]
  float* split_softmax;            // [sequences*query_length, q_heads, splits, 2]: largest score in log2, sum
  int64_t q_stride, output_stride, quantized_stride, scale_stride, block_table_stride;
  int32_t max_context, splits;
  int32_t query_length, q_heads, window;
  float scale;
  int32_t q_aligned, output_aligned;  // 1: every 8 elements lie on 16 bytes
  int32_t quantized_aligned;          // 1: every 8 lie on 8 bytes
};

// The waves of a split give each other O in turns of 64 dims.
constexpr int turn_dims = 64;
struct AttentionDecodeLds {
  alignas(16) float o[attention_waves][16][turn_dims + 4];  // padded: 8 lanes that write 16 bytes touch every bank once
  float largest[attention_waves][16];
  float sum[attention_waves][16];
};

constexpr int combine_columns = 128;  // of a block: one head, or two of 64 dims; a scale block of `quantized`
constexpr int combine_lanes = combine_columns / 8;
// Groups of 16 lanes: split s belongs to group s % 32. Where there are at most 16 splits, 16 groups do the same.
constexpr int combine_groups(int64_t splits) { return splits <= 16 ? 16 : 32; }

template <int groups>
struct AttentionCombineLds {
  alignas(16) float o[groups][combine_lanes][2][4];
  float sum[groups][combine_lanes];
};

#if !defined(OCTET_HOST)
OCTET_INLINE int decode_length(const AttentionDecodeParams& params, int64_t sequence) {
  return min_of(max_of(params.context_lengths[sequence], 0), params.max_context);
}
// The first position any query of the sequence sees.
OCTET_INLINE int decode_begin(const AttentionDecodeParams& params, int length) {
  if (params.window == 0) return 0;
  return static_cast<int>(max_of(int64_t{length} - params.query_length - params.window + 1, int64_t{0}));
}

// K and V of one step of one wave, in registers as the cache holds them. A lane's piece is contiguous along the reduced
// dimension: `run` dims of a token in K, `run` tokens of a dim in V, from which it makes an operand with every four
// elements. So each quarter of the lanes (mma.h) reads its own run of 4 * run dims or tokens, and the k of operand
// `part` are those with number 4 * part + place in the runs of their quarters: the same for K and Q, and for V and P,
// since the rows of S are assigned to tokens in this way (step_token).
template <int head_dim, bool fp8>
struct DecodeStep {
  static constexpr int words = wave_size / 16;  // of a piece: 16 bytes; 8 with 32 lanes, which hold twice the rows
  static constexpr int element = fp8 ? 1 : 2;   // bytes
  static constexpr int run = words * 4 / element;
  static constexpr int tokens = 4 * run;
  static constexpr int parts = run / 4;
  static constexpr int k_pieces = head_dim / (4 * run);
  static constexpr int dims = head_dim / 16;
  static constexpr int rows = MmaBf16::rows;
  using Piece = uint32_t __attribute__((ext_vector_type(words)));
  using Operands = MmaBf16::B[k_pieces][parts];

  // The blocks of the cache that hold the four runs of a step, negative where none does; runs beyond the context stand
  // for its last one. The same in all lanes: scalar loads, which wait for no load of K or V.
  struct Blocks {
    int32_t of_run[4];
    OCTET_INLINE int32_t operator[](int run) const {
      const int32_t low = run % 2 == 0 ? of_run[0] : of_run[1];
      const int32_t high = run % 2 == 0 ? of_run[2] : of_run[3];
      return run / 2 == 0 ? low : high;
    }
    OCTET_INLINE bool complete() const { return (of_run[0] | of_run[1] | of_run[2] | of_run[3]) >= 0; }
  };

  Piece k[parts][rows][k_pieces] = {};
  Piece v[dims][rows] = {};

  // The token of the step that row `row` of tile `part` of S is.
  OCTET_INLINE static int step_token(int part, int row) {
    return MmaBf16::quarter_of(row) * run + part * 4 + MmaBf16::place_of(row);
  }

  OCTET_INLINE static Blocks find(const AttentionContext& context, int position) {
    Blocks blocks;
    for (int i = 0; i < 4; i++) {
      const int first = min_of(position + i * run, context.length - 1);
      const int32_t block = context.table[first >> context.cache.block_shift];
      blocks.of_run[i] = block < context.cache.blocks ? block : -1;
    }
    return blocks;
  }

  // NOTE: every lane loads in every step, so that the compiler can count how many loads may still be under way when the
  // first are needed: a load under a condition makes it wait for all. A lane without a block reads its `idle` bytes,
  // those of one head that are there: its scores are -inf, and its P 0. Nor is a token of K beyond the context read.
  OCTET_INLINE void load_k(const AttentionContext& context, int position, const Blocks& blocks, const void* idle) {
    const int quarter = MmaBf16::quarter_of(MmaBf16::row(0));
    const int first = min_of(position + quarter * run, (context.length - 1) / run * run);
    const bool exists = blocks[quarter] >= 0;
    const int last = exists ? context.length - 1 - first : 0;
    const int64_t at = k_element(context.cache, blocks[quarter], context.head, place_in_block(context, first));
    const uint8_t* source = exists ? context.cache.k + at * element : static_cast<const uint8_t*>(idle);
    source += MmaBf16::quarter() * run * element;
    for (int part = 0; part < parts; part++) {
      for (int i = 0; i < rows; i++) {
        const int token = min_of(part * 4 + MmaBf16::place_of(MmaBf16::row(i)), last);
        for (int piece = 0; piece < k_pieces; piece++) {
          const int offset = (token * head_dim + piece * 4 * run) * element;
          k[part][i][piece] = *reinterpret_cast<const Piece*>(source + offset);
        }
      }
    }
  }

  OCTET_INLINE void load_v(const AttentionContext& context, int position, const Blocks& blocks, const void* idle) {
    const int quarter = MmaBf16::quarter();
    const int first = min_of(position + quarter * run, (context.length - 1) / run * run);
    const bool exists = blocks[quarter] >= 0;
    const int tile = exists ? (16 * element) << context.cache.block_shift : 0;  // bytes of 16 dims
    for (int i = 0; i < rows; i++) {
      const int64_t at =
          v_element(context.cache, blocks[quarter], context.head, MmaBf16::row(i)) + place_in_block(context, first);
      const uint8_t* source = exists ? context.cache.v + at * element : static_cast<const uint8_t*>(idle);
      for (int dim = 0; dim < dims; dim++) v[dim][i] = *reinterpret_cast<const Piece*>(source + dim * tile);
    }
  }

  // The elements of part `part` of the pieces of a lane's rows, as an operand's four.
  template <class Pieces>
  OCTET_INLINE static void widen(const Pieces& pieces, int part, u32x2 (&four)[rows]) {
    for (int i = 0; i < rows; i++) {
      if constexpr (fp8) {
        four[i] = fp8x4_to_bf16(pieces(i)[part]);
      } else {
        four[i] = u32x2{pieces(i)[2 * part], pieces(i)[2 * part + 1]};
      }
    }
  }

  // S^T = K Q^T
  OCTET_INLINE void scores(const Operands& q, MmaAccumulator (&s)[parts]) const {
    for (int tile = 0; tile < parts; tile++) {
      s[tile].clear();
      for (int piece = 0; piece < k_pieces; piece++) {
        for (int part = 0; part < parts; part++) {
          u32x2 four[rows];
          widen([&](int i) { return k[tile][i][piece]; }, part, four);
          MmaBf16::mma(s[tile], MmaBf16::a_of(four), q[piece][part]);
        }
      }
    }
  }

  // O^T += V P^T, P in two words.
  OCTET_INLINE void accumulate(const MmaAccumulator (&p)[parts], MmaAccumulator (&o)[dims]) const {
    for (int part = 0; part < parts; part++) {
      MmaBf16::B b[2];
      MmaBf16::to_b(p[part], b);
      for (int dim = 0; dim < dims; dim++) {
        u32x2 four[rows];
        widen([&](int i) { return v[dim][i]; }, part, four);
        const MmaBf16::A a = MmaBf16::a_of(four);
        for (const MmaBf16::B& word : b) MmaBf16::mma(o[dim], a, word);
      }
    }
  }

  // 0 in place of every V that is not finite.
  OCTET_INLINE void clean_v() {
    for (auto& pieces : v) {
      for (Piece& piece : pieces) {
        for (int word = 0; word < words; word++) {
          piece[word] &= ~(fp8 ? fp8x4_nan_mask<native_fp8>(piece[word]) : bf16x2_not_finite_mask(piece[word]));
        }
      }
    }
  }
};

// Q of one wave's columns, gathered as K is. rows: of the heads that share the KV head. What stands in columns from
// `count` on is never stored.
template <int head_dim, bool fp8>
OCTET_INLINE void decode_load_q(const uint16_t* rows, int64_t stride, bool aligned, int group, int first, int count,
                                typename DecodeStep<head_dim, fp8>::Operands& q) {
  using Step = DecodeStep<head_dim, fp8>;
  const uint16_t* row[Step::rows];
  for (int i = 0; i < Step::rows; i++) {
    const int column = min_of(first + MmaBf16::row(i), count - 1);
    row[i] = rows + column / group * stride + column % group * head_dim + MmaBf16::quarter() * Step::run;
  }
  const auto load = [&](auto&& four_of) {
    for (int piece = 0; piece < Step::k_pieces; piece++) {
      for (int part = 0; part < Step::parts; part++) {
        u32x2 four[Step::rows];
        for (int i = 0; i < Step::rows; i++) four[i] = four_of(row[i] + piece * 4 * Step::run + part * 4);
        q[piece][part] = MmaBf16::b_of(four);
      }
    }
  };
  if (aligned) {
    load([](const uint16_t* four) { return *reinterpret_cast<const u32x2*>(four); });
  } else {
    load([](const uint16_t* four) {
      return u32x2{four[0] | static_cast<uint32_t>(four[1]) << 16, four[2] | static_cast<uint32_t>(four[3]) << 16};
    });
  }
}

template <int head_dim, bool fp8>
OCTET_INLINE void attention_decode(const AttentionDecodeParams& params) {
  using Step = DecodeStep<head_dim, fp8>;
  using Columns = AttentionColumns<head_dim, 1>;
  AttentionDecodeLds& lds = OCTET_LDS(AttentionDecodeLds);
  const int group = params.q_heads / params.cache.kv_heads;
  const int columns = group * params.query_length;
  const int column_tiles = static_cast<int>(ceil_div(columns, 16));
  const int split = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y) / column_tiles;
  const int first = static_cast<int>(blockIdx.y) % column_tiles * 16;
  const int64_t sequence = blockIdx.z;

  const int length = decode_length(params, sequence);
  const int begin = decode_begin(params, length);
  if (split < begin / split_tokens || split >= ceil_div(length, split_tokens)) return;

  // Phase 1: each wave its 128 tokens. The next step's K is on its way from the end of the first product on, its V from
  // the end of the second. V that is not finite shows in O: then, and only then, all is done again without it.
  constexpr int wave_tokens = split_tokens / attention_waves;
  const int wave = wave_index();
  const int wave_begin = split * split_tokens + wave * wave_tokens;
  const int start = max_of(wave_begin, begin / Step::tokens * Step::tokens);
  const int end = static_cast<int>(min_of(int64_t{wave_begin} + wave_tokens, int64_t{length}));
  // Every column sees these positions.
  const int plain_from = params.window > 0 ? max_of(length - params.window, 0) : 0;
  const int plain_end = length - params.query_length + 1;
  const AttentionContext context = {params.cache, params.block_table + sequence * params.block_table_stride, length,
                                    head};
  const float scale = params.scale * kv_scale(params.cache, params.cache.k_scales, head) * log2_e;
  typename Step::Operands q;
  decode_load_q<head_dim, fp8>(params.q + sequence * params.query_length * params.q_stride + head * group * head_dim,
                               params.q_stride, params.q_aligned, group, first, columns, q);
  Step step;
  Columns state;
  bool careful = false;
  const auto take = [&]<bool more>(int position, typename Step::Blocks& blocks) {
    const int next = position + Step::tokens;
    typename Step::Blocks next_blocks = blocks;
    if constexpr (more) next_blocks = Step::find(context, next);
    MmaAccumulator s[1][Step::parts];
    step.scores(q, s[0]);
    if constexpr (more) step.load_k(context, next, next_blocks, params.q);

    for (int part = 0; part < Step::parts; part++) {
      for (int r = 0; r < MmaAccumulator::elements; r++) s[0][part][r] *= scale;
    }
    const bool plain = blocks.complete() && position >= plain_from && next <= plain_end;
    const bool exists = blocks[MmaBf16::quarter_of(MmaAccumulator::row(0))] >= 0;
    for (int part = 0; part < Step::parts && !plain; part++) {
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        const int token = position + Step::step_token(part, MmaAccumulator::row(r));
        const bool sees = exists && state.sees(0, MmaAccumulator::slot(r), token);
        s[0][part][r] = sees ? s[0][part][r] : -__builtin_inff();
      }
    }
    state.weigh(s);
    if (careful) step.clean_v();
    step.accumulate(s[0], state.o[0]);
    if constexpr (more) step.load_v(context, next, next_blocks, params.q);
    blocks = next_blocks;
  };
  while (true) {
    state.begin(group, first, columns, int64_t{length} - params.query_length, params.window);
    // NOTE: read anew in every pass, or the addresses of its loads would be kept in registers through the steps.
    int position = wave_uniform(start);
    if (position < end) {
      typename Step::Blocks blocks = Step::find(context, position);
      step.load_k(context, position, blocks, params.q);
      step.load_v(context, position, blocks, params.q);
#pragma clang loop unroll(disable)
      for (; position + Step::tokens < end; position += Step::tokens) take.template operator()<true>(position, blocks);
      take.template operator()<false>(position, blocks);
    }
    if (careful) break;
    bool finite = true;
    for (auto& o : state.o[0]) {
      for (int r = 0; r < MmaAccumulator::elements; r++) finite &= is_finite(o[r]);
    }
    if (__ballot(!finite) == 0) break;
    careful = true;
  }
  if (careful) state.template add_not_finite<fp8>(context, start, end);
  state.finish();

  // Phase 2: the waves of the split in order, each relative to the largest score of all.
  for (int r = 0; r < MmaAccumulator::elements; r++) {
    if (MmaAccumulator::row(r) == 0) {
      lds.largest[wave][MmaAccumulator::column(r)] = state.largest[0][MmaAccumulator::slot(r)];
      lds.sum[wave][MmaAccumulator::column(r)] = state.sum[0][MmaAccumulator::slot(r)];
    }
  }
  __syncthreads();
  const auto largest_of = [&](int column) {
    float largest = lds.largest[0][column];
    for (int w = 1; w < attention_waves; w++) largest = __builtin_fmaxf(largest, lds.largest[w][column]);
    return largest;
  };
  const auto weight_of = [&](int w, int column, float largest) {
    return exp2_fast(lds.largest[w][column] - (largest == -__builtin_inff() ? 0.0f : largest));
  };
  for (int r = 0; r < MmaAccumulator::elements; r++) {
    const int column = MmaAccumulator::column(r);
    const float weight = weight_of(wave, column, largest_of(column));
    for (int dim = 0; dim < Columns::dims; dim++) state.o[0][dim][r] *= weight;
  }
  for (int turn = 0; turn < head_dim / turn_dims; turn++) {
    if (turn > 0) __syncthreads();
    for (int dim = 0; dim < turn_dims / 16; dim++) {
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        lds.o[wave][MmaAccumulator::column(r)][dim * 16 + MmaAccumulator::row(r)] =
            state.o[0][turn * (turn_dims / 16) + dim][r];
      }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < 16 * turn_dims / 4; i += attention_waves * wave_size) {
      const int column = i / (turn_dims / 4), dim = i % (turn_dims / 4) * 4;
      if (first + column >= columns) break;
      f32x4 total = *reinterpret_cast<const f32x4*>(&lds.o[0][column][dim]);
      for (int w = 1; w < attention_waves; w++) total += *reinterpret_cast<const f32x4*>(&lds.o[w][column][dim]);
      const int64_t row = sequence * params.query_length + (first + column) / group;
      const int64_t part = (row * params.q_heads + head * group + (first + column) % group) * params.splits + split;
      *reinterpret_cast<f32x4*>(params.split_o + part * head_dim + turn * turn_dims + dim) = total;
      if (turn > 0 || dim > 0) continue;
      const float largest = largest_of(column);
      float sum = 0.0f;
      for (int w = 0; w < attention_waves; w++) sum += lds.sum[w][column] * weight_of(w, column, largest);
      *reinterpret_cast<f32x2*>(params.split_softmax + part * 2) = f32x2{largest, sum};
    }
  }
}

template <int head_dim, int groups>
OCTET_INLINE void attention_combine(const AttentionDecodeParams& params) {
  auto& lds = OCTET_LDS(AttentionCombineLds<groups>);
  constexpr int head_lanes = head_dim / 8;
  const int64_t row = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % combine_lanes;
  const int group = static_cast<int>(threadIdx.x) / combine_lanes;
  const int column = static_cast<int>(blockIdx.y) * combine_columns + lane * 8;
  // Columns beyond the last head (of 64 dims, where their number is odd) follow it and write nothing.
  const bool inside = column / head_dim < params.q_heads;
  const int head = min_of(column / head_dim, params.q_heads - 1);
  const int length = decode_length(params, row / params.query_length);
  const int first = decode_begin(params, length) / split_tokens;
  const int end = static_cast<int>(ceil_div(length, split_tokens));
  const int64_t part = (row * params.q_heads + head) * params.splits;
  const f32x2* softmax = reinterpret_cast<const f32x2*>(params.split_softmax) + part;

  // Phase 1: each group of lanes its splits, relative to the largest score of all.
  float largest = -__builtin_inff();
  for (int split = first + lane % head_lanes; split < end; split += head_lanes) {
    largest = __builtin_fmaxf(largest, softmax[split][0]);
  }
  for (int mask = head_lanes / 2; mask > 0; mask /= 2) {
    largest = __builtin_fmaxf(largest, __shfl_xor(largest, mask));
  }
  const float base = largest == -__builtin_inff() ? 0.0f : largest;
  float sum = 0.0f;
  f32x4 o[2] = {};
  const int skipped = static_cast<int>(ceil_div(max_of(first - group, 0), groups));
  const float* source = params.split_o + part * head_dim + column % head_dim;
#pragma unroll 4
  for (int split = group + skipped * groups; split < end; split += groups) {
    const float weight = exp2_fast(softmax[split][0] - base);
    sum += softmax[split][1] * weight;
    for (int i = 0; i < 2; i++) o[i] += reinterpret_cast<const f32x4*>(source + int64_t{split} * head_dim)[i] * weight;
  }
  auto* mine = reinterpret_cast<f32x4*>(lds.o[group][lane]);
  for (int i = 0; i < 2; i++) mine[i] = o[i];
  lds.sum[group][lane] = sum;
  __syncthreads();

  // Phase 2: the groups in order. The first wave stays whole for the exchange of block_scale; 16 of its lanes write.
  if (threadIdx.x >= wave_size) return;
  o[0] = o[1] = f32x4{0.0f, 0.0f, 0.0f, 0.0f};
  sum = 0.0f;
  for (int g = 0; g < min_of(groups, end); g++) {
    for (int i = 0; i < 2; i++) o[i] += reinterpret_cast<const f32x4*>(lds.o[g][lane])[i];
    sum += lds.sum[g][lane];
  }
  const float sink = params.sinks ? params.sinks[head] * log2_e : -__builtin_inff();
  const int kv_head = head / (params.q_heads / params.cache.kv_heads);
  const float factor = softmax_factor(largest, sum, sink, kv_scale(params.cache, params.cache.v_scales, kv_head));
  float y[8];
  for (int i = 0; i < 8; i++) y[i] = inside ? o[i / 4][i % 4] * factor : 0.0f;
  const bool writes = inside && threadIdx.x < combine_lanes;
  if (params.output && writes) {
    store_columns(params.output + row * params.output_stride, column, 8, params.output_aligned, y);
  }
  if (!params.quantized) return;
  const float scale = block_scale<native_fp8>(y);
  if (!writes) return;
  if (lane == 0) params.scales[row * params.scale_stride + blockIdx.y] = scale;
  store_codes<native_fp8>(params.quantized + row * params.quantized_stride, column, 8, params.quantized_aligned, y,
                          scale);
}

OCTET_KERNEL(attention_decode_d64_bf16, AttentionDecodeParams, 256) { attention_decode<64, false>(params); }
OCTET_KERNEL(attention_decode_d64_fp8, AttentionDecodeParams, 256) { attention_decode<64, true>(params); }
OCTET_KERNEL(attention_decode_d128_bf16, AttentionDecodeParams, 256) { attention_decode<128, false>(params); }
OCTET_KERNEL(attention_decode_d128_fp8, AttentionDecodeParams, 256) { attention_decode<128, true>(params); }
OCTET_KERNEL(attention_combine_d64_16, AttentionDecodeParams, 256) { attention_combine<64, 16>(params); }
OCTET_KERNEL(attention_combine_d64_32, AttentionDecodeParams, 512) { attention_combine<64, 32>(params); }
OCTET_KERNEL(attention_combine_d128_16, AttentionDecodeParams, 256) { attention_combine<128, 16>(params); }
OCTET_KERNEL(attention_combine_d128_32, AttentionDecodeParams, 512) { attention_combine<128, 32>(params); }
#endif

#if defined(OCTET_HOST)
namespace octet {
namespace {

const char* decode_kernel(int head_dim, bool fp8) {
  if (head_dim == 64) return fp8 ? "attention_decode_d64_fp8" : "attention_decode_d64_bf16";
  return fp8 ? "attention_decode_d128_fp8" : "attention_decode_d128_bf16";
}

int64_t splits_of(int64_t max_context) { return (max_context + split_tokens - 1) / split_tokens; }

const octet_attention_decode_args& decode_checked(const octet_attention_decode_args* pointer) {
  const auto& args = checked("attention_decode", pointer);
  require_range("attention_decode", "sequences", args.sequences, 0, 65535);
  require_range("attention_decode", "query_length", args.query_length, 1, 4);
  require_range("attention_decode", "q_heads", args.q_heads, 1, max_heads);
  require_range("attention_decode", "max_context", args.max_context, 0, INT32_MAX - split_tokens);
  require(args.cache.head_dim == 64 || args.cache.head_dim == 128,
          "attention_decode: cache.head_dim = %d must be 64 or 128", args.cache.head_dim);
  return args;
}

void require_outputs(const char* op, const octet_attention_decode_args& args) {
  const int64_t columns = int64_t{args.q_heads} * args.cache.head_dim;
  require(args.output || args.quantized, "%s: output and quantized are both null", op);
  require((args.quantized == nullptr) == (args.scales == nullptr), "%s: quantized = %p and scales = %p go together", op,
          args.quantized, static_cast<void*>(args.scales));
  if (args.output) require_heads(op, "output", args.output, args.output_stride, args.q_heads, args.cache.head_dim);
  if (!args.quantized) return;
  require_pointer(op, "quantized", args.quantized);
  require_pointer(op, "scales", args.scales);
  require_range(op, "quantized_stride", args.quantized_stride, columns, max_stride);
  require_range(op, "scale_stride", args.scale_stride, (columns + OCTET_SCALE_BLOCK - 1) / OCTET_SCALE_BLOCK,
                max_stride);
}

// O, largest and sum of each row, head and split.
size_t decode_workspace(const octet_attention_decode_args& args) {
  const int64_t parts = args.sequences * args.query_length * args.q_heads * splits_of(args.max_context);
  return static_cast<size_t>(parts) * (static_cast<size_t>(args.cache.head_dim) + 2) * sizeof(float);
}

}  // namespace
}  // namespace octet

using namespace octet;

extern "C" octet_status octet_attention_decode(const octet_attention_decode_args* pointer, octet_stream* stream) {
  return guarded([&] {
    const char* op = "attention_decode";
    const auto& args = decode_checked(pointer);
    const DeviceFacts& device = facts(stream);
    const KvCache cache = kv_cache_of(op, args.cache, device);
    if (args.sequences == 0) return;
    require_attention(op, args, cache);
    require_outputs(op, args);
    require_workspace(op, args.workspace, args.workspace_size, decode_workspace(args));

    const int64_t rows = args.sequences * args.query_length;
    const int64_t splits = splits_of(args.max_context);
    float* split_o = static_cast<float*>(args.workspace);
    const AttentionDecodeParams params = {static_cast<const uint16_t*>(args.q),
                                          cache,
                                          args.block_table,
                                          args.context_lengths,
                                          args.sinks,
                                          static_cast<uint16_t*>(args.output),
                                          static_cast<uint8_t*>(args.quantized),
                                          args.scales,
                                          split_o,
                                          split_o + rows * args.q_heads * splits * cache.head_dim,
                                          args.q_stride,
                                          args.output_stride,
                                          args.quantized_stride,
                                          args.scale_stride,
                                          args.block_table_stride,
                                          static_cast<int32_t>(args.max_context),
                                          static_cast<int32_t>(splits),
                                          args.query_length,
                                          args.q_heads,
                                          args.window,
                                          args.scale,
                                          args.q_stride % 8 == 0,
                                          args.output_stride % 8 == 0,
                                          args.quantized_stride % 8 == 0};
    const int columns = args.q_heads / cache.kv_heads * args.query_length;
    const Grid grid = {static_cast<uint32_t>(splits), static_cast<uint32_t>(cache.kv_heads * ((columns + 15) / 16)),
                       static_cast<uint32_t>(args.sequences)};
    const bool wide = cache.head_dim == 128;
    launch(stream, decode_kernel(cache.head_dim, cache.k_scales != nullptr), grid, attention_waves,
           sizeof(AttentionDecodeLds), params);
    const bool many = combine_groups(splits) == 32;
    const char* combine = wide ? (many ? "attention_combine_d128_32" : "attention_combine_d128_16")
                               : (many ? "attention_combine_d64_32" : "attention_combine_d64_16");
    const int64_t blocks = (args.q_heads * cache.head_dim + combine_columns - 1) / combine_columns;
    launch(stream, combine, Grid{static_cast<uint32_t>(rows), static_cast<uint32_t>(blocks), 1},
           combine_groups(splits) * combine_lanes / device.wave_size,
           many ? sizeof(AttentionCombineLds<32>) : sizeof(AttentionCombineLds<16>), params);
  });
}

extern "C" octet_status octet_attention_decode_workspace(const octet_attention_decode_args* pointer, octet_device*,
                                                         size_t* size) {
  return guarded([&] {
    const auto& args = decode_checked(pointer);
    require(size != nullptr, "attention_decode: size is null");
    *size = decode_workspace(args);
  });
}
#endif
