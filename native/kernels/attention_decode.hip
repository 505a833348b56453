// attention_decode: attention of 1 to 4 queries of each sequence over the paged cache, in f32 softmax:
//
//   output[s*query_length + i, h] = sum over p seen of softmax(scale * q . k[p] (, sink[h]))[p] * v[p]
//
// query i stands at position context_lengths[s] - query_length + i and sees p <= its own (and > its own - window).
// q, output [sequences*query_length, q_heads, head_dim] bf16; the cache as in kv_cache.h, FP8 or bf16. quantized,
// scales: the same in FP8 with a scale per row and 128 columns, from the f32 values.
//
// Two launches. `attention_decode_*`: the context is cut at absolute positions into splits of 512 tokens, and four
// splits make a group. A block of 4 waves serves 16 columns (attention.h) of one KV head and one sequence; in each
// split a wave takes 128 tokens in steps of 64 (32 in bf16), then the waves are merged in order. What a block leaves in
// the workspace is a part: O (unscaled), the largest score and the sum, of one split where the blocks would not fill
// the chip otherwise, else of a whole group, whose splits it folds in order (PartSum): a quarter of the bytes.
// `attention_combine_*`: 16 lanes for each row and 128 columns fold the splits of each group, if the blocks did not,
// and add the groups in a fixed order (g, g + 32, ... first, then these sums in order). Either way the same operations
// are done in the same order, so the bits depend on the context alone. Grid: parts x (KV heads x tiles of 16 columns) x
// sequences; parts beyond a context leave at once.
//
// K and V go from the cache into the registers that feed the matrix instruction, 16 bytes a lane: no LDS and no barrier
// within a split (DecodeStep). The matrix unit idles here, so P keeps 16 bits, in two bf16 words.
//
// The idea: Dao et al., "Flash-Decoding", 2023. Floor: the cache is read once: 64 sequences of 4,096 tokens, 4 KV heads
// of 128 dims in FP8: 268 MB, 55 us at 4.86 TB/s; O of the groups adds 2 x 16 x 128 x 4 bytes to every 512 KiB (3 %).
// The essay: docs/attention.md.
#include "attention.h"

constexpr int split_tokens = 512;
constexpr int group_splits = 4;

struct AttentionDecodeParams {
  const uint16_t* q;  // [sequences*query_length, q_heads, head_dim] bf16
  KvCache cache;
  const int32_t* block_table;      // [sequences, block_table_stride]
  const int32_t* context_lengths;  // [sequences]
  const float* sinks;              // [q_heads], or null
  uint16_t* output;                // [sequences*query_length, q_heads, head_dim] bf16, or null
  uint8_t* quantized;              // [sequences*query_length, q_heads*head_dim] FP8, or null
  float* scales;                   // [sequences*query_length, ceil(q_heads*head_dim/128)]
  float* part_o;                   // [sequences*query_length, q_heads, parts, head_dim]
  float* part_softmax;             // [sequences*query_length, q_heads, parts, 2]: largest score in log2, sum
  int64_t q_stride, output_stride, quantized_stride, scale_stride, block_table_stride;
  int64_t rows;  // sequences*query_length
  int32_t max_context;
  int32_t parts;        // of a row, at most: those from the first that any query of the sequence sees
  int32_t part_splits;  // 1 or group_splits
  int32_t query_length, q_heads, window;
  float scale;
  int32_t q_aligned, output_aligned;  // 1: every 8 elements lie on 16 bytes
  int32_t quantized_aligned;          // 1: every 8 lie on 8 bytes
};

// The waves of a split give each other O in turns of 32 dims; 16 columns of them are merged in pieces of two.
constexpr int turn_dims = 32;
constexpr int turn_pieces = 16 * turn_dims / 2;

// Three of them fit a CU's LDS.
template <int head_dim>
struct AttentionDecodeLds {
  alignas(16) float o[attention_waves][16][turn_dims + 4];  // padded: 8 lanes that write 16 bytes touch every bank once
  // Of the group so far, each piece by the thread that merges it: registers would cost a third of the waves.
  float group_o[head_dim / turn_dims][turn_pieces][2];
  float group_softmax[turn_pieces][2];
  // Of every other split in turn: a wave may be done with one split before another has begun to merge it.
  float largest[2][attention_waves][16];
  float sum[2][attention_waves][16];
};

constexpr int combine_columns = 128;  // of an item: one head, or two of 64 dims; a scale block of `quantized`
constexpr int combine_lanes = combine_columns / 8;
// Sets of lanes that add up an item: set s the groups s, s + 32, ... One set takes them all, in the same order, where
// the parts are few, or the items many and no set would have a second group.
constexpr int combine_sets(int64_t parts, int64_t items, int compute_units) {
  return parts <= 8 || (parts <= 32 && items >= 4 * int64_t{compute_units}) ? 1 : 32;
}
constexpr int combine_threads(int sets) { return sets == 1 ? 256 : sets * combine_lanes; }
constexpr int combine_items(int sets) { return combine_threads(sets) / (sets * combine_lanes); }  // of a block

struct AttentionCombineLds {
  alignas(16) float o[32][2][combine_lanes][4];
  float sum[32][combine_lanes];
  float largest[32][combine_lanes];
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

// Parts of a softmax, added one after the other: relative to the largest score so far. The first one stays as it is, to
// the bit.
struct PartSum {
  float largest = -__builtin_inff();
  float sum = 0.0f;

  // Adds a part; its O and that of the sum so far are to be multiplied with what is returned.
  OCTET_INLINE f32x2 add(float part_largest, float part_sum) {
    const float now = __builtin_fmaxf(largest, part_largest);
    const float base = now == -__builtin_inff() ? 0.0f : now;
    const f32x2 weights = {exp2_fast(part_largest - base), exp2_fast(largest - base)};
    largest = now;
    sum = part_sum * weights[0] + sum * weights[1];
    return weights;
  }
};

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

  OCTET_INLINE static Blocks none() { return {{-1, -1, -1, -1}}; }
  // What the table says; to be looked at as late as may be.
  OCTET_INLINE static Blocks look_up(const AttentionContext& context, int position) {
    Blocks blocks;
    for (int i = 0; i < 4; i++) {
      const int first = min_of(position + i * run, context.length - 1);
      blocks.of_run[i] = load_constant(context.table + (first >> context.cache.block_shift));
    }
    return blocks;
  }
  // Negative where the cache ends at `limit`.
  OCTET_INLINE static Blocks below(Blocks blocks, int32_t limit) {
    for (int32_t& block : blocks.of_run) block = block < limit ? block : -1;
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
  using Lds = AttentionDecodeLds<head_dim>;
  Lds& lds = OCTET_LDS(Lds);
  const int group = params.q_heads / params.cache.kv_heads;
  const int columns = group * params.query_length;
  const int column_tiles = static_cast<int>(ceil_div(columns, 16));
  const int head = static_cast<int>(blockIdx.y) / column_tiles;
  const int first = static_cast<int>(blockIdx.y) % column_tiles * 16;
  const int64_t sequence = blockIdx.z;

  const int length = decode_length(params, sequence);
  const int begin = decode_begin(params, length);
  const int part = begin / (params.part_splits * split_tokens) + static_cast<int>(blockIdx.x);
  const int first_split = max_of(part * params.part_splits, begin / split_tokens);
  const int end_split =
      min_of((part + 1) * params.part_splits, static_cast<int>(ceil_div(int64_t{length}, split_tokens)));
  if (first_split >= end_split) return;

  constexpr int threads = attention_waves * wave_size;
  constexpr int pieces = turn_pieces / threads;  // of the merged O: of a thread, in each turn the same of other dims

  // Phase 1: what the wave's columns see.
  constexpr int wave_tokens = split_tokens / attention_waves;
  const int wave = wave_index();
  const int block_end = min_of(end_split * split_tokens, length);
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
  state.begin(group, first, columns, int64_t{length} - params.query_length, params.window);
  bool careful = false;
  // The block numbers that stand for one: none behind the last step of the block of threads.
  const auto limit_at = [&](int position) {
    return position < block_end ? static_cast<int32_t>(params.cache.blocks) : 0;
  };
  // The next step's K is on its way from the end of the first product on, its V from the end of the second.
  const auto take = [&](int position, const typename Step::Blocks blocks, int next) {
    const typename Step::Blocks found = Step::look_up(context, next);
    schedule_fence();
    MmaAccumulator s[1][Step::parts];
    step.scores(q, s[0]);
    schedule_fence();
    const typename Step::Blocks next_blocks = Step::below(found, limit_at(next));
    step.load_k(context, next, next_blocks, params.q);

    for (int tile = 0; tile < Step::parts; tile++) {
      for (int r = 0; r < MmaAccumulator::elements; r++) s[0][tile][r] *= scale;
    }
    const bool plain = blocks.complete() && position >= plain_from && position + Step::tokens <= plain_end;
    const bool exists = blocks[MmaBf16::quarter_of(MmaAccumulator::row(0))] >= 0;
    for (int tile = 0; tile < Step::parts && !plain; tile++) {
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        const int token = position + Step::step_token(tile, MmaAccumulator::row(r));
        const bool sees = exists && state.sees(0, MmaAccumulator::slot(r), token);
        s[0][tile][r] = sees ? s[0][tile][r] : -__builtin_inff();
      }
    }
    state.weigh(s);
    if (careful) step.clean_v();
    step.accumulate(s[0], state.o[0]);
    step.load_v(context, next, next_blocks, params.q);
    return next_blocks;
  };

  const auto begin_of = [&](int split) {
    return max_of(split * split_tokens + wave * wave_tokens, begin / Step::tokens * Step::tokens);
  };
  // Where the window begins behind the wave's tokens of the first split, the wave begins with the second.
  const bool passes = begin_of(first_split) >= first_split * split_tokens + (wave + 1) * wave_tokens;
  const int first_step = begin_of(first_split + passes);
  typename Step::Blocks blocks = Step::below(Step::look_up(context, first_step), limit_at(first_step));
  step.load_k(context, first_step, blocks, params.q);
  schedule_fence();  // K first, as in every step: what may still be under way is counted
  step.load_v(context, first_step, blocks, params.q);

#pragma clang loop unroll(disable)
  for (int split = first_split; split < end_split; split++) {
    // Phase 2: each wave its 128 tokens; the step behind them is the next split's first. V that is not finite shows in
    // O: then, and only then, all is done again without it.
    const int wave_begin = split * split_tokens + wave * wave_tokens;
    const int start = begin_of(split);
    const int end = min_of(wave_begin + wave_tokens, length);
    int from = start;
    while (true) {
      state.clear();
      int position = from;
#pragma clang loop unroll(disable)
      for (; position < end; position += Step::tokens) {
        const int next = position + Step::tokens < end ? position + Step::tokens : wave_begin + split_tokens;
        blocks = take(position, blocks, next);
      }
      if (careful) break;
      bool finite = true;
      for (auto& o : state.o[0]) {
        for (int r = 0; r < MmaAccumulator::elements; r++) finite &= is_finite(o[r]);
      }
      if (__ballot(!finite) == 0) break;
      // A step without blocks adds nothing, and brings the first step back.
      careful = true;
      from = start - Step::tokens;
      blocks = Step::none();
    }
    if (careful) state.template add_not_finite<fp8>(context, start, end);
    careful = false;
    state.finish();

    // Phase 3: the waves of the split in order, each relative to the largest score of all.
    auto& wave_largest = lds.largest[split % 2];
    auto& wave_sum = lds.sum[split % 2];
    for (int r = 0; r < MmaAccumulator::elements; r++) {
      if (MmaAccumulator::row(r) == 0) {
        wave_largest[wave][MmaAccumulator::column(r)] = state.largest[0][MmaAccumulator::slot(r)];
        wave_sum[wave][MmaAccumulator::column(r)] = state.sum[0][MmaAccumulator::slot(r)];
      }
    }
    __syncthreads();
    const auto largest_of = [&](int column) {
      float largest = wave_largest[0][column];
      for (int w = 1; w < attention_waves; w++) largest = __builtin_fmaxf(largest, wave_largest[w][column]);
      return largest;
    };
    const auto weight_of = [&](int w, int column, float largest) {
      return exp2_fast(wave_largest[w][column] - (largest == -__builtin_inff() ? 0.0f : largest));
    };
    for (int r = 0; r < MmaAccumulator::elements; r++) {
      const int column = MmaAccumulator::column(r);
      const float weight = weight_of(wave, column, largest_of(column));
      for (int dim = 0; dim < Columns::dims; dim++) state.o[0][dim][r] *= weight;
    }

    // Phase 4: the split to those of the group before it; the last one's sum is the part.
    // NOTE: made anew in each split, or the addresses of all pieces would be kept in registers through the steps.
    int thread = static_cast<int>(threadIdx.x);
    hold(thread);
    PartSum sums[pieces];
    f32x2 weights[pieces];
    for (int i = 0; i < pieces; i++) {
      const int piece = i * threads + thread, column = piece / (turn_dims / 2);
      if (split > first_split) sums[i] = {lds.group_softmax[piece][0], lds.group_softmax[piece][1]};
      const float largest = largest_of(column);
      float sum = 0.0f;
      for (int w = 0; w < attention_waves; w++) sum += wave_sum[w][column] * weight_of(w, column, largest);
      weights[i] = sums[i].add(largest, sum);
      lds.group_softmax[piece][0] = sums[i].largest;
      lds.group_softmax[piece][1] = sums[i].sum;
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
      for (int i = 0; i < pieces; i++) {
        const int piece = i * threads + thread;
        const int column = piece / (turn_dims / 2), dim = piece % (turn_dims / 2) * 2;
        f32x2 total = *reinterpret_cast<const f32x2*>(&lds.o[0][column][dim]);
        for (int w = 1; w < attention_waves; w++) total += *reinterpret_cast<const f32x2*>(&lds.o[w][column][dim]);
        f32x2& group_o = *reinterpret_cast<f32x2*>(lds.group_o[turn][piece]);
        const f32x2 before = split > first_split ? group_o : f32x2{0.0f, 0.0f};
        group_o = total * weights[i][0] + before * weights[i][1];
      }
    }
  }

  // Phase 5: the part, each piece by the thread that merged it.
  for (int piece = static_cast<int>(threadIdx.x); piece < turn_pieces; piece += threads) {
    const int column = piece / (turn_dims / 2), dim = piece % (turn_dims / 2) * 2;
    if (first + column >= columns) continue;
    const int64_t row = sequence * params.query_length + (first + column) / group;
    const int64_t place = (row * params.q_heads + head * group + (first + column) % group) * params.parts + blockIdx.x;
    for (int turn = 0; turn < head_dim / turn_dims; turn++) {
      *reinterpret_cast<f32x2*>(params.part_o + place * head_dim + turn * turn_dims + dim) =
          *reinterpret_cast<const f32x2*>(lds.group_o[turn][piece]);
    }
    if (dim > 0) continue;
    *reinterpret_cast<f32x2*>(params.part_softmax + place * 2) =
        *reinterpret_cast<const f32x2*>(lds.group_softmax[piece]);
  }
}

// groups: the parts are groups, else splits.
template <int head_dim, bool groups, int sets>
OCTET_INLINE void attention_combine(const AttentionDecodeParams& params) {
  constexpr int head_lanes = head_dim / 8;
  const int lane = static_cast<int>(threadIdx.x) % combine_lanes;
  const int set = sets == 1 ? 0 : static_cast<int>(threadIdx.x) / combine_lanes;
  const int64_t row_items = ceil_div(int64_t{params.q_heads} * head_dim, combine_columns);
  const int64_t own = sets == 1 ? int64_t{blockIdx.x} * combine_items(1) + threadIdx.x / combine_lanes : blockIdx.x;
  // Surplus lanes follow the last item, columns beyond the last head (of 64 dims, where their number is odd) follow it:
  // they write nothing.
  const int64_t item = min_of(own, params.rows * row_items - 1);
  const int64_t row = item / row_items;
  const int scale_block = static_cast<int>(item % row_items);
  const int column = scale_block * combine_columns + lane * 8;
  const int head = min_of(column / head_dim, params.q_heads - 1);
  const bool inside = own == item && column / head_dim < params.q_heads;
  const int length = decode_length(params, row / params.query_length);
  const int begin = decode_begin(params, length);
  constexpr int part_tokens = groups ? group_splits * split_tokens : split_tokens;
  const int first = begin / part_tokens, end = static_cast<int>(ceil_div(int64_t{length}, part_tokens));
  const int64_t place = (row * params.q_heads + head) * params.parts - first;  // of part 0
  const f32x2* softmax = reinterpret_cast<const f32x2*>(params.part_softmax) + place;
  const float* source = params.part_o + place * head_dim + column % head_dim;

  // Phase 1: the groups of the set, relative to the largest score of all. No load is under a condition: what is
  // not there is read as the last part, and left out.
  float largest = -__builtin_inff();
  for (int part = first + set * head_lanes + lane % head_lanes; part < end; part += sets * head_lanes) {
    largest = __builtin_fmaxf(largest, softmax[part][0]);
  }
  for (int mask = head_lanes / 2; mask > 0; mask /= 2) {
    largest = __builtin_fmaxf(largest, __shfl_xor(largest, mask));
  }
  if constexpr (sets > 1) {
    auto& lds = OCTET_LDS(AttentionCombineLds);
    lds.largest[set][lane] = largest;
    __syncthreads();
    for (int s = 0; s < sets; s++) largest = __builtin_fmaxf(largest, lds.largest[s][lane]);
  }
  const float base = largest == -__builtin_inff() ? 0.0f : largest;
  float sum = 0.0f;
  f32x4 o[2] = {};
  constexpr int batch_parts = groups || sets > 1 ? 4 : 2 * group_splits;  // on their way at once
  constexpr int apart = groups ? 1 : group_splits;                        // the parts of neighbouring sets
  const int skipped = first / (batch_parts * sets) * batch_parts * sets;
#pragma clang loop unroll(disable)
  for (int batch = skipped + set * apart; batch < end; batch += batch_parts * sets) {
    f32x2 part_softmax[batch_parts];
    f32x4 part_o[batch_parts][2];
    bool exists[batch_parts];
    for (int i = 0; i < batch_parts; i++) {
      const int part = batch + i / apart * apart * sets + i % apart;
      exists[i] = part >= first && part < end;
      const int64_t read = exists[i] ? part : end - 1;
      const f32x4* from = reinterpret_cast<const f32x4*>(source + read * head_dim);
      part_softmax[i] = softmax[read];
      for (int j = 0; j < 2; j++) part_o[i][j] = from[j];
    }
    schedule_fence();
    PartSum group;
    f32x4 group_o[2];
    for (int i = 0; i < batch_parts; i++) {
      if (i % apart == 0) group = PartSum{}, group_o[0] = group_o[1] = f32x4{0.0f, 0.0f, 0.0f, 0.0f};
      hold(part_softmax[i]), hold(part_o[i][0]), hold(part_o[i][1]);  // or their loads would go under the condition
      if (exists[i]) {
        const f32x2 weights = group.add(part_softmax[i][0], part_softmax[i][1]);
        for (int j = 0; j < 2; j++) group_o[j] = part_o[i][j] * weights[0] + group_o[j] * weights[1];
      }
      if (i % apart < apart - 1) continue;
      const float weight = exp2_fast(group.largest - base);
      sum += group.sum * weight;
      for (int j = 0; j < 2; j++) o[j] += group_o[j] * weight;
    }
  }

  // Phase 2: the sets in order. The first wave stays whole for the exchange of block_scale; 16 of its lanes write.
  if constexpr (sets > 1) {
    auto& lds = OCTET_LDS(AttentionCombineLds);
    for (int j = 0; j < 2; j++) *reinterpret_cast<f32x4*>(lds.o[set][j][lane]) = o[j];
    lds.sum[set][lane] = sum;
    __syncthreads();
    if (threadIdx.x >= wave_size) return;
    o[0] = o[1] = f32x4{0.0f, 0.0f, 0.0f, 0.0f};
    sum = 0.0f;
    for (int s = 0; s < min_of(sets, end); s++) {
      for (int j = 0; j < 2; j++) o[j] += *reinterpret_cast<const f32x4*>(lds.o[s][j][lane]);
      sum += lds.sum[s][lane];
    }
  }
  const float sink = params.sinks ? params.sinks[head] * log2_e : -__builtin_inff();
  const int kv_head = head / (params.q_heads / params.cache.kv_heads);
  const float factor = softmax_factor(largest, sum, sink, kv_scale(params.cache, params.cache.v_scales, kv_head));
  float y[8];
  for (int i = 0; i < 8; i++) y[i] = inside ? o[i / 4][i % 4] * factor : 0.0f;
  const bool writes = inside && (sets == 1 || threadIdx.x < combine_lanes);
  if (params.output && writes) {
    store_columns(params.output + row * params.output_stride, column, 8, params.output_aligned, y);
  }
  if (!params.quantized) return;
  const float scale = block_scale<native_fp8>(y);
  if (!writes) return;
  if (lane == 0) params.scales[row * params.scale_stride + scale_block] = scale;
  store_codes<native_fp8>(params.quantized + row * params.quantized_stride, column, 8, params.quantized_aligned, y,
                          scale);
}

OCTET_KERNEL(attention_decode_d64_bf16, AttentionDecodeParams, 256) { attention_decode<64, false>(params); }
OCTET_KERNEL(attention_decode_d64_fp8, AttentionDecodeParams, 256) { attention_decode<64, true>(params); }
OCTET_KERNEL(attention_decode_d128_bf16, AttentionDecodeParams, 256) { attention_decode<128, false>(params); }
OCTET_KERNEL(attention_decode_d128_fp8, AttentionDecodeParams, 256) { attention_decode<128, true>(params); }
OCTET_KERNEL(attention_combine_d64_groups_1, AttentionDecodeParams, combine_threads(1)) {
  attention_combine<64, true, 1>(params);
}
OCTET_KERNEL(attention_combine_d64_groups_32, AttentionDecodeParams, combine_threads(32)) {
  attention_combine<64, true, 32>(params);
}
OCTET_KERNEL(attention_combine_d64_splits_1, AttentionDecodeParams, combine_threads(1)) {
  attention_combine<64, false, 1>(params);
}
OCTET_KERNEL(attention_combine_d64_splits_32, AttentionDecodeParams, combine_threads(32)) {
  attention_combine<64, false, 32>(params);
}
OCTET_KERNEL(attention_combine_d128_groups_1, AttentionDecodeParams, combine_threads(1)) {
  attention_combine<128, true, 1>(params);
}
OCTET_KERNEL(attention_combine_d128_groups_32, AttentionDecodeParams, combine_threads(32)) {
  attention_combine<128, true, 32>(params);
}
OCTET_KERNEL(attention_combine_d128_splits_1, AttentionDecodeParams, combine_threads(1)) {
  attention_combine<128, false, 1>(params);
}
OCTET_KERNEL(attention_combine_d128_splits_32, AttentionDecodeParams, combine_threads(32)) {
  attention_combine<128, false, 32>(params);
}
#endif

#if defined(OCTET_HOST)
#include <algorithm>

namespace octet {
namespace {

const char* decode_kernel(int head_dim, bool fp8) {
  if (head_dim == 64) return fp8 ? "attention_decode_d64_fp8" : "attention_decode_d64_bf16";
  return fp8 ? "attention_decode_d128_fp8" : "attention_decode_d128_bf16";
}

const char* combine_kernel(int head_dim, bool groups, int sets) {
  if (head_dim == 64) {
    if (groups) return sets == 1 ? "attention_combine_d64_groups_1" : "attention_combine_d64_groups_32";
    return sets == 1 ? "attention_combine_d64_splits_1" : "attention_combine_d64_splits_32";
  }
  if (groups) return sets == 1 ? "attention_combine_d128_groups_1" : "attention_combine_d128_groups_32";
  return sets == 1 ? "attention_combine_d128_splits_1" : "attention_combine_d128_splits_32";
}

int64_t tiles_of(const octet_attention_decode_args& args) {
  return (int64_t{args.q_heads / args.cache.kv_heads} * args.query_length + 15) / 16;
}

// Pieces of `tokens` tokens that the queries of one sequence see something of, at most.
int64_t pieces_of(const octet_attention_decode_args& args, int64_t tokens) {
  const int64_t pieces = (args.max_context + tokens - 1) / tokens;
  if (args.window <= 0) return pieces;
  return std::min(pieces, (int64_t{args.window} + args.query_length + tokens - 3) / tokens + 1);
}

// Whole groups where three in four of the compute units get a block then: what the others could add, the memory does
// not have. Else single splits.
int part_splits_of(const octet_attention_decode_args& args, int compute_units) {
  const int64_t blocks =
      pieces_of(args, group_splits * split_tokens) * args.cache.kv_heads * tiles_of(args) * args.sequences;
  return 4 * blocks >= 3 * int64_t{compute_units} ? group_splits : 1;
}

const octet_attention_decode_args& decode_checked(const octet_attention_decode_args* pointer) {
  const auto& args = checked("attention_decode", pointer);
  require_range("attention_decode", "sequences", args.sequences, 0, 65535);
  require_range("attention_decode", "query_length", args.query_length, 1, 4);
  require_range("attention_decode", "q_heads", args.q_heads, 1, max_heads);
  require_range("attention_decode", "max_context", args.max_context, 0, INT32_MAX - group_splits * split_tokens);
  require_range("attention_decode", "cache.kv_heads", args.cache.kv_heads, 1, max_heads);
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

// O, largest and sum of each row, head and part. As bounds grow, single splits give way to groups, which are fewer: the
// most splits that ever come to be, 16 columns of four for each block, then stay the least.
size_t decode_workspace(const octet_attention_decode_args& args, int compute_units) {
  const int64_t heads = args.sequences * args.query_length * args.q_heads;
  const int64_t groups = heads * pieces_of(args, group_splits * split_tokens);
  const int64_t splits = heads * pieces_of(args, split_tokens);
  const int64_t parts = std::max(groups, std::min(splits, 3 * int64_t{compute_units} / 4 * 16 * group_splits));
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
    require_workspace(op, args.workspace, args.workspace_size, decode_workspace(args, device.compute_units));

    const int64_t rows = args.sequences * args.query_length;
    const int part_splits = part_splits_of(args, device.compute_units);
    const int64_t parts = pieces_of(args, part_splits * split_tokens);
    float* part_o = static_cast<float*>(args.workspace);
    const AttentionDecodeParams params = {static_cast<const uint16_t*>(args.q),
                                          cache,
                                          args.block_table,
                                          args.context_lengths,
                                          args.sinks,
                                          static_cast<uint16_t*>(args.output),
                                          static_cast<uint8_t*>(args.quantized),
                                          args.scales,
                                          part_o,
                                          part_o + rows * args.q_heads * parts * cache.head_dim,
                                          args.q_stride,
                                          args.output_stride,
                                          args.quantized_stride,
                                          args.scale_stride,
                                          args.block_table_stride,
                                          rows,
                                          static_cast<int32_t>(args.max_context),
                                          static_cast<int32_t>(parts),
                                          part_splits,
                                          args.query_length,
                                          args.q_heads,
                                          args.window,
                                          args.scale,
                                          args.q_stride % 8 == 0,
                                          args.output_stride % 8 == 0,
                                          args.quantized_stride % 8 == 0};
    const Grid grid = {static_cast<uint32_t>(parts), static_cast<uint32_t>(cache.kv_heads * tiles_of(args)),
                       static_cast<uint32_t>(args.sequences)};
    launch(stream, decode_kernel(cache.head_dim, cache.k_scales != nullptr), grid, attention_waves,
           cache.head_dim == 128 ? sizeof(AttentionDecodeLds<128>) : sizeof(AttentionDecodeLds<64>), params);
    const int64_t items = rows * ((int64_t{args.q_heads} * cache.head_dim + combine_columns - 1) / combine_columns);
    const int sets = combine_sets(parts, items, device.compute_units);
    const int64_t blocks = (items + combine_items(sets) - 1) / combine_items(sets);
    launch(stream, combine_kernel(cache.head_dim, part_splits > 1, sets), Grid{static_cast<uint32_t>(blocks), 1, 1},
           combine_threads(sets) / device.wave_size, sets == 1 ? 0 : sizeof(AttentionCombineLds), params);
  });
}

extern "C" octet_status octet_attention_decode_workspace(const octet_attention_decode_args* pointer,
                                                         octet_device* device, size_t* size) {
  return guarded([&] {
    const auto& args = decode_checked(pointer);
    require(size != nullptr, "attention_decode: size is null");
    *size = decode_workspace(args, facts(device).compute_units);
  });
}
#endif
