// The main loop that dense and grouped GEMM share: one block's tile of D[n][m] = sum over k of W[n][k] * X[m][k],
// weights on the matrix instruction's A, tokens on its B. One loop serves both because it knows nothing of matrices:
// two row functors say where each row of the tile lies, and a store functor says where results go (the idea of
// DeepGEMM's tile scheduler).
//
// A user writes
//   GemmTile<config> tile;
//   tile.run(lds, weights, tokens, k, leaves);
//                                        weights(i), tokens(i): the TileRow of tile row i, always one that may be read
//                                        (rows beyond a matrix repeat its last); called once a tile. So a gather of
//                                        token rows, an expert's base, or gate and up rows interleaved by 16 are the
//                                        functor's affair. leaves: NoLeaves, or what a sum that is a tree needs.
//   tile.drain(lds, store);              store(token, row, f32x4): rows row..row+3 of one token, tile-relative; or,
//                                        where tile.holds(j), use tile.sum[i][j] with first_row(i, j) +
//                                        MmaAccumulator::row(r) and first_token(j) + MmaAccumulator::column(r) (then a
//                                        barrier before LDS is reused). Rows of sum[i][j] and sum[i + 1][j] are
//                                        neighbours.
//
// Choosing a configuration
//   staged, waves_k = 1: operands go through LDS. For tiles that are multiplied often: m >= 64. The best ratio of LDS
//   to
//     matrix clocks has waves of 64 x 64; n + m <= 256 lets two blocks share a CU.
//   direct, waves_k > 1: the waves divide k, each loads its operands from global memory in the instruction's own
//   layout,
//     and the waves' partial sums meet in LDS. For tiles so narrow that no weight is used twice: m <= 64, n = 16 or 32.
//   aligned = false: any strides and offsets, byte by byte (staged). tile_aligned() says when it is needed.
//
// K is walked in windows of 128 bytes. A window's product is summed by the matrix unit from zero, multiplied by the
// scale pair (FP8), and added to the segment's sum, windows in order. The activations' scale grid starts at column 0,
// the weights' is shifted by scale_column_offset: at an offset of 64 a window is two products, one for each half.
// Segments, a fixed number of columns that depends on the weight's shape only, are summed on their own and then added
// in order. All this is the same in every aligned configuration, so they give the same bits, as does a block that does
// one segment and one that does all. Where k is in leaves (TileK::leaf), a leaf's segments are added so, and the leaves
// by the tree (tile_leaves.h): a block that has 2^i leaves ends with their node.
//
// Two waves a SIMD on gfx942: 256 registers a lane hold two sums of 64 x 64 (128), the next window (32) and operands.
#pragma once

#include <octet.h>
#include <stdint.h>

// How one block's tile is divided. Waves are counted as waves of 64 lanes: where a wave has 32, twice as many share the
// longer side of a wave's part (or k), so a block always has threads() threads.
struct TileConfig {
  bool fp8;              // else bf16
  int n, m;              // weight rows and tokens of the tile
  int waves_n, waves_m;  // n/waves_n and m/waves_m are multiples of 16
  bool aligned;          // tile_aligned() holds: loads of 16 bytes; else byte by byte
  int waves_k = 1;       // more than 1: direct
  constexpr int threads() const { return waves_n * waves_m * waves_k * 64; }
  constexpr bool direct() const { return waves_k > 1; }
  // Windows of k whose products a direct tile gathers in LDS at a time, about 16 KiB.
  constexpr int slots() const {
    const int fit = 16384 / (n * m * 4);
    return fit < waves_k ? waves_k : fit / waves_k * waves_k;
  }
  // Windows in LDS at a time.
  constexpr int buffers() const { return (n + m) * 128 * 2 <= 65536 ? 2 : 1; }
  // Rows of one token that a wave drains at a time.
  constexpr int drain_rows() const { return direct() || n == 16 * waves_n ? 16 : 32; }
};

constexpr int tile_row_bytes = 128;  // of k in each row: 128 FP8 codes or 64 bf16

// What `aligned` asks of rows so many bytes apart and of their scales, so many floats apart: rows lie on 16 bytes, and
// 256 of either within 2^32 bytes.
constexpr bool tile_aligned(int64_t row_bytes, int64_t scale_stride) {
  return row_bytes % 16 == 0 && row_bytes <= int64_t{1} << 24 && scale_stride <= int64_t{1} << 22;
}

// What it asks of a weight: besides, that a scale block ends in the middle or at the end of a window and between
// fragments of 16 rows.
constexpr bool tile_aligned(const octet_weight& w) {
  const int64_t size = w.dtype == OCTET_BF16 ? 2 : 1;
  return tile_aligned(w.row_stride * size, w.dtype == OCTET_BF16 ? 0 : w.scale_row_stride) && w.k * size % 16 == 0 &&
         w.expert_stride * size % 16 == 0 && w.scale_column_offset % 64 == 0 && w.scale_row_offset % 16 == 0;
}

template <TileConfig C>
union TileLds {
  uint8_t rows[C.buffers()][C.direct() ? 1 : C.n + C.m]
              [tile_row_bytes];  // weights, then tokens; 16-byte chunks swizzled
  struct {
    float blocks[C.slots()][C.direct() ? C.n * C.m : 1];       // [window][fragment][lane]
    float factors[C.slots()][C.n / 16][C.direct() ? C.m : 1];  // [window][weight fragment][token]
  } partial;
  float stage[C.threads() / 32][16][C.drain_rows() + 4];  // [wave][token][row]: results on their way out
  uint32_t votes[C.threads() / 32];                       // [wave]
};

// Columns of k a block walks (end + segment below 2^31), and the column at which the weights' first scale block was
// entered (0..127).
struct TileK {
  int begin, end;  // begin: a multiple of segment
  int segment;     // columns; a multiple of 128
  int scale_column_offset;
  int leaf = 0;  // columns of a leaf, 2^i of which are walked; a multiple of segment; 0: a plain sum
};

#if !defined(OCTET_HOST)
#include "mma.h"
#include "tile_leaves.h"

// A sum that is never a tree; or one that may be, with tree = true, biased(), whether something is added to the first
// leaf before it is rounded, and bias(row), what that is.
struct NoLeaves {
  static constexpr bool tree = false;
};

// Where a row lies: a base, the same for the 16 weight rows of a fragment and for all tokens, in every lane, and this
// row's distance from it in bytes; below 2^32 where the tile is aligned, so that it takes one register.
struct TileRow {
  const uint8_t* data;  // column 0
  uint64_t data_offset;
  const float* scales;  // of the first scale block; unused with bf16
  uint64_t scale_offset;
  OCTET_INLINE const uint8_t* row() const { return data + data_offset; }
  OCTET_INLINE const float* scale_row() const {
    return reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(scales) + scale_offset);
  }
  OCTET_INLINE uint8_t byte(int64_t at) const { return load_global<uint8_t>(row() + at, 0); }
  OCTET_INLINE float scale(int block) const { return load_global<float>(scale_row(), block * 4); }
};

// Rows first, first+1, ... of expert `expert` of a weight.
struct WeightRows {
  const uint8_t* data;
  const float* scales;
  int64_t row_bytes, scale_row_stride;
  int64_t last;  // from the first
  int inside;    // rows from the start of the first one's scale block
  OCTET_INLINE WeightRows(const octet_weight& w, int64_t expert, int64_t first)
      : row_bytes(w.row_stride * (w.dtype == OCTET_BF16 ? 2 : 1)), scale_row_stride(w.scale_row_stride) {
    const int size = w.dtype == OCTET_BF16 ? 2 : 1;
    first = min_of(first, w.n - 1);
    last = w.n - 1 - first;
    const int64_t scale_row = w.scale_row_offset + first;
    inside = static_cast<int>(scale_row % OCTET_SCALE_BLOCK);
    data = wave_uniform(static_cast<const uint8_t*>(w.data) + expert * w.expert_stride * size + first * row_bytes);
    scales = wave_uniform(w.scales + expert * w.scale_expert_stride + scale_row / OCTET_SCALE_BLOCK * scale_row_stride);
  }
  OCTET_INLINE TileRow operator()(int i) const {
    const int64_t row = min_of<int64_t>(i, last);
    return {data, static_cast<uint64_t>(row * row_bytes), scales,
            static_cast<uint64_t>((inside + row) / OCTET_SCALE_BLOCK * scale_row_stride * 4)};
  }
};

// Block ids go round-robin over the 8 XCDs, each with an L2 of its own: number the work so that each XCD gets one
// contiguous run of it. A bijection of 0..blocks-1 for any count.
OCTET_INLINE constexpr uint32_t xcd_contiguous(uint32_t block, uint32_t blocks) {
  constexpr uint32_t xcds = 8;
  const uint32_t xcd = block % xcds;
  return xcd * (blocks / xcds) + min_of(xcd, blocks % xcds) + block / xcds;
}

template <TileConfig C>
struct GemmTile {
  static constexpr int element = C.fp8 ? 1 : 2;
  static constexpr int columns = tile_row_bytes / element;  // of a window
  static constexpr int threads = C.threads();
  // The division among waves of this target.
  static constexpr int more = 64 / wave_size;
  static constexpr bool longer_n = C.n * C.waves_m > C.m* C.waves_n;
  static constexpr bool more_k = C.n <= (C.direct() ? 32 : 16) * C.waves_n && C.m == 16 * C.waves_m;
  static constexpr int waves_n = C.waves_n * (!more_k && longer_n ? more : 1);
  static constexpr int waves_m = C.waves_m * (!more_k && !longer_n ? more : 1);
  static constexpr int waves_k = C.waves_k * (more_k ? more : 1);
  static constexpr int wave_n = C.n / waves_n, wave_m = C.m / waves_m;
  static constexpr int tiles_n = wave_n / 16, tiles_m = wave_m / 16;  // 16 x 16 accumulators of a wave
  static constexpr int rows = C.n + C.m;
  static_assert(wave_n % 16 == 0 && wave_m % 16 == 0 && sizeof(TileLds<C>) <= 65536);
  static_assert(C.direct() ? C.aligned && C.slots() % waves_k == 0 : waves_k == 1);

  // The sums a wave ends with. Those of a direct tile are dealt out, pairs of row neighbours in turn, to the waves that
  // divide k: sum[i][j] is then of the wave's j-th pair.
  static constexpr int held_n = C.direct() ? min_of(tiles_n, 2) : tiles_n;
  static constexpr int pairs = tiles_n / held_n * tiles_m;
  static constexpr int held_m = C.direct() ? (pairs + waves_k - 1) / waves_k : tiles_m;
  static_assert(tiles_n % held_n == 0);

  MmaAccumulator sum[held_n][held_m];

  // Where this wave's part of the tile begins.
  OCTET_INLINE static int wave_row() { return wave_index() / waves_m % waves_n * wave_n; }
  OCTET_INLINE static int wave_token() { return wave_index() % waves_m * wave_m; }
  // Whether this wave has sum[.][j], and where that lies in the tile.
  OCTET_INLINE static bool holds(int j) { return !C.direct() || pairs % waves_k == 0 || pair(j) < pairs; }
  OCTET_INLINE static int first_row(int i, int j) {
    return wave_row() + 16 * (C.direct() ? pair(j) / tiles_m * held_n + i : i);
  }
  OCTET_INLINE static int first_token(int j) { return wave_token() + 16 * (C.direct() ? pair(j) % tiles_m : j); }

  template <class Weights, class Tokens, class Leaves = NoLeaves>
  OCTET_INLINE void run(TileLds<C>& lds, const Weights& weights, const Tokens& tokens, const TileK& k,
                        const Leaves& leaves = {}) {
    clear(sum);
    if (k.begin >= k.end) return;
    if constexpr (!C.aligned) {
      walk_bytes(lds, weights, tokens, k, leaves);
    } else {
      const bool halves = C.fp8 && k.scale_column_offset % OCTET_SCALE_BLOCK != 0;
      if constexpr (C.direct()) {
        halves ? walk_direct<true>(lds, weights, tokens, k, leaves)
               : walk_direct<false>(lds, weights, tokens, k, leaves);
      } else {
        if constexpr (Leaves::tree) {
          if (k.leaf > 0 && k.leaf == k.segment && !halves) {
            walk_staged<false, true>(lds, weights, tokens, k, leaves);
            if (!any_in_block(lds, Fast::failed(sum))) return;
            clear(sum);
          }
        }
        halves ? walk_staged<true, false>(lds, weights, tokens, k, leaves)
               : walk_staged<false, false>(lds, weights, tokens, k, leaves);
      }
    }
  }

  // Hands the sums out: through LDS, so that neighbouring lanes hold neighbouring rows of one token and stores
  // coalesce, but for the 16 rows of a direct tile, which come no further together than they are where a lane has four
  // of them.
  template <class Store>
  OCTET_INLINE void drain(TileLds<C>& lds, const Store& store) {
    if constexpr (C.direct() && MmaAccumulator::columns == 1) {
#pragma unroll
      for (int j = 0; j < held_m; j++) {
        if (!holds(j)) continue;
#pragma unroll
        for (int i = 0; i < held_n; i++) {
          store(first_token(j) + MmaAccumulator::column(0), first_row(i, j) + MmaAccumulator::row(0),
                f32x4{sum[i][j][0], sum[i][j][1], sum[i][j][2], sum[i][j][3]});
        }
      }
    } else {
      constexpr int group = min_of(C.drain_rows() / 16, held_n), quads = group * 4;
      auto& stage = lds.stage[wave_index()];
      __syncthreads();
#pragma unroll
      for (int j = 0; j < held_m; j++) {
        if (!holds(j)) continue;
#pragma unroll
        for (int first = 0; first < held_n; first += group) {
#pragma unroll
          for (int i = 0; i < group; i++) {
#pragma unroll
            for (int r = 0; r < MmaAccumulator::elements; r++) {
              stage[MmaAccumulator::column(r)][16 * i + MmaAccumulator::row(r)] = sum[first + i][j][r];
            }
          }
          wave_sync();
          for (int q = lane_index(); q < 16 * quads; q += wave_size) {
            const int token = q / quads, row = q % quads * 4;
            store(first_token(j) + token, first_row(first, j) + row,
                  *reinterpret_cast<const f32x4*>(&stage[token][row]));
          }
          wave_sync();
        }
      }
    }
  }

 private:
  using Sums = MmaAccumulator[held_n][held_m];

  OCTET_INLINE static int wave_k() { return wave_index() / (waves_n * waves_m); }
  OCTET_INLINE static int pair(int j) { return wave_k() + j * waves_k; }
  OCTET_INLINE static int thread() {
    const int index = static_cast<int>(threadIdx.x);
    __builtin_assume(index >= 0 && index < threads);  // so that which rows are tokens' is known when compiled
    return index;
  }

  OCTET_INLINE static void clear(Sums& sums) {
#pragma unroll
    for (int i = 0; i < held_n; i++) {
#pragma unroll
      for (int j = 0; j < held_m; j++) sums[i][j].clear();
    }
  }

  // ---- segments and leaves ----

  using Fast = FastLeaves<held_n, held_m>;

  // How far a sum is: where its segment and its leaf end.
  struct Progress {
    int segment_end, leaf_end;
    ExactLeaves<held_n, held_m> tree;

    OCTET_INLINE explicit Progress(const TileK& k) : leaf_end(k.leaf > 0 ? k.begin + k.leaf : k.end) {
      segment_end = min_of(k.begin + k.segment, leaf_end);
    }
  };

  // Adds the segment that ends, and begins the next.
  template <class Leaves>
  OCTET_INLINE void end_segment(Sums& segment, Progress& at, const TileK& k, [[maybe_unused]] const Leaves& leaves) {
#pragma unroll
    for (int i = 0; i < held_n; i++) {
#pragma unroll
      for (int j = 0; j < held_m; j++) {
        sum[i][j].add(segment[i][j]);
        segment[i][j].clear();
      }
    }
    const int column = at.segment_end;
    if constexpr (Leaves::tree) {
      if (k.leaf > 0 && column == at.leaf_end) {
        if (at.tree.none() && leaves.biased()) add_bias(leaves);
        at.tree.add(sum);
        column < k.end ? clear(sum) : at.tree.finish(sum);
        at.leaf_end += k.leaf;
      }
    }
    at.segment_end = min_of(column + k.segment, at.leaf_end);
  }

  template <class Leaves>
  OCTET_INLINE void add_bias(const Leaves& leaves) {
#pragma unroll
    for (int i = 0; i < held_n; i++) {
#pragma unroll
      for (int j = 0; j < held_m; j++) {
#pragma unroll
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          sum[i][j][r] += leaves.bias(first_row(i, j) + MmaAccumulator::row(r));
        }
      }
    }
  }

  // Whether it holds for any thread of the block; what was read of LDS before is not needed any more.
  OCTET_INLINE static bool any_in_block(TileLds<C>& lds, bool mine) {
    const uint32_t vote = __ballot(mine) != 0;
    __syncthreads();
    if (lane_index() == 0) lds.votes[wave_index()] = vote;
    __syncthreads();
    uint32_t any = 0;
#pragma unroll
    for (int wave = 0; wave < threads / wave_size; wave++) any |= lds.votes[wave];
    __syncthreads();
    return wave_uniform(static_cast<int>(any)) != 0;
  }

  // A window's scales: of this lane's columns of each token fragment, of each weight fragment, for each half.
  template <bool halves>
  struct Scales {
    float token[tiles_m][MmaAccumulator::columns];
    float weight[tiles_n][halves ? 2 : 1];

    OCTET_INLINE void factor(int i, int j, int half, float (&product)[MmaAccumulator::columns]) const {
#pragma unroll
      for (int c = 0; c < MmaAccumulator::columns; c++) product[c] = token[j][c] * weight[i][half];
    }
  };

  // Of a window whose halves have scales of their own.
  OCTET_INLINE static MmaAccumulator window_sum(const MmaAccumulator (&block)[2],
                                                const float (&factor)[2][MmaAccumulator::columns]) {
    MmaAccumulator sum;
    sum.clear();
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
      for (int quarter = 0; quarter < 4; quarter++) sum.add_scaled(block[half], factor[half], quarter);
    }
    return sum;
  }

  // ---- staged: global memory -> registers -> LDS -> operands ----
  // In the window p that is multiplied, p + 1 goes from registers to LDS and p + 2 from memory to registers.
  // A unit is two chains of matrix instructions, one after the other in turn, so that none waits for the one before:
  // two fragments, or the two halves of one. All else happens in their shadow, a step of a unit being one instruction
  // of the matrix unit: the sums of the unit before are scaled and added, the operands of those after are read.

  template <bool halves>
  struct Unit {
    static constexpr int steps = halves ? 4 : 8;
    static constexpr int fragments = halves ? 1 : 2;
    static constexpr int count = (tiles_n * tiles_m + fragments - 1) / fragments;
    MmaAccumulator block[2];
    float factor[2][MmaAccumulator::columns];

    OCTET_INLINE void clear() {
#pragma unroll
      for (int which = 0; which < 2; which++) {
        block[which].clear();
#pragma unroll
        for (int c = 0; c < MmaAccumulator::columns; c++) factor[which][c] = 0.0f;
      }
    }
  };

  // Step s of unit u.
  template <bool halves>
  OCTET_INLINE static void multiply(Unit<halves>& unit, int u, int s, const MmaSlab (&a)[tiles_n][2],
                                    const MmaSlab (&b)[tiles_m][2], const Scales<halves>& scales) {
    const int which = s % 2, position = s / 2;
    const int fragment = halves ? u : 2 * u + which;
    if (fragment >= tiles_n * tiles_m) return;
    const int i = fragment / tiles_m, j = fragment % tiles_m, half = halves ? which : position / 2;
    if (position == 0) unit.block[which].clear();
    mma_step<C.fp8>(unit.block[which], a[i][half], b[j][half], position % 2);
    if (C.fp8 && position == (halves ? 0 : which)) {  // in steps 0 and 3, or 0 and 1
      scales.factor(i, j, halves ? which : 0, unit.factor[which]);
#pragma unroll
      for (int c = 0; c < MmaAccumulator::columns; c++) hold(unit.factor[which][c]);
    }
  }

  // What is done to the sums of unit u at step s of the one after.
  template <bool halves>
  OCTET_INLINE static void promote(Unit<halves>& unit, int u, int s, Sums& segment) {
    if constexpr (halves) {
      if (s == 2) unit.block[0] = window_sum(unit.block, unit.factor);
      if (s == 3) segment[u / tiles_m][u % tiles_m].add(unit.block[0]);
    } else {
#pragma unroll
      for (int which = 0; which < 2; which++) {
        // Each sum is taken two instructions after its last one at the earliest.
        const int fragment = 2 * u + which, quarter = s - 1 - 3 * which;
        if (fragment >= tiles_n * tiles_m || quarter < 0 || quarter > 3) continue;
        MmaAccumulator& to = segment[fragment / tiles_m][fragment % tiles_m];
        if constexpr (C.fp8) {
          to.add_scaled(unit.block[which], unit.factor[which], quarter);
        } else {
          if (quarter == 0) to.add(unit.block[which]);
        }
      }
    }
  }

  static constexpr int chunks = tile_row_bytes / 16;
  static constexpr int row_step = threads / chunks;  // rows the block fetches at once
  static constexpr int fetches = (rows + row_step - 1) / row_step;

  // The n-th read of a slab: the two halves of what the first unit needs, then what the units after it need.
  struct SlabRead {
    bool weight;
    int index, half;
  };
  static constexpr int slab_reads = (tiles_n + tiles_m) * 2;
  OCTET_INLINE static constexpr SlabRead read_order(int n) {
    constexpr int first = min_of(tiles_n + tiles_m, 3);  // slabs of a half
    const int half = n < 2 * first ? n / first : n % 2;
    const int slab = n < 2 * first ? n % first : n / 2;
    if (slab < 2) return {slab == 0, 0, half};
    if (slab <= tiles_m) return {false, slab - 1, half};
    return {true, slab - tiles_m, half};
  }

  // When, in the steps of a window, the rest happens: reads of its operands, then writes of the next window to LDS,
  // then loads of the one after; a barrier; reads of the next window's first operands. NOTE: the global loads begin
  // when the last operand has come, so that no wait for LDS falls between them.
  template <bool halves>
  struct Schedule {
    static constexpr int steps = Unit<halves>::count * Unit<halves>::steps;
    static constexpr int early = 2 * min_of(tiles_n + tiles_m, 3);  // reads done in the window before
    static constexpr int reads = slab_reads - early;
    static constexpr int writes = C.buffers() == 2 ? fetches : 0;
    static constexpr int write_steps = min_of(writes, steps - reads - 2);
    static constexpr int loads_from = reads + write_steps;
    static constexpr int loads = fetches + (C.fp8 ? tiles_m * MmaAccumulator::columns + (halves ? 2 : 1) : 0);
    static constexpr int load_steps = (steps - loads_from + 1) * 5 / 8;
    static constexpr int barrier = max_of(loads_from, steps - 8);
    static constexpr int early_steps = min_of(early, steps - barrier);
    static_assert(write_steps > 0 || writes == 0);
    // Of n things spread over `over` steps from `from`, how many come before step s.
    static constexpr int before(int s, int from, int over, int n) {
      return s <= from ? 0 : s >= from + over ? n : (s - from) * n / over;
    }
    // When the next window's scales take the place of this one's: in the last unit, or after it where they come so
    // late.
    static constexpr int middle = steps - Unit<halves>::steps / 2;
    static constexpr int take = before(middle, loads_from, load_steps, loads) >= loads - fetches ? middle : steps;
  };

  // The window fetched next.
  template <bool halves>
  struct Ahead {
    const uint8_t* data[fetches];
    uint32_t offset[fetches];
    uint32_t at, last;  // bytes from k.begin to this thread's chunk of the window, of the last one inside k
    const uint8_t* token_scales;
    uint32_t token_offset[tiles_m][MmaAccumulator::columns];
    const uint8_t* weight_scales;  // of fragment lane % tiles_n
    uint32_t block;                // the window's first scale, in bytes
    u32x4 fetched[fetches];
    float token_scale[tiles_m][MmaAccumulator::columns];
    float weight_scale[halves ? 2 : 1];
  };

  OCTET_INLINE static int chunk() { return thread() % chunks; }
  // The row of fetch f; the last fetch may pass the end of the tile.
  OCTET_INLINE static int fetch_row(int f) { return f * row_step + thread() / chunks; }

  template <bool halves, class Weights, class Tokens>
  OCTET_INLINE static void begin(Ahead<halves>& ahead, const Weights& weights, const Tokens& tokens, const TileK& k) {
    const int64_t from = static_cast<int64_t>(k.begin) * element;
    const uint32_t bytes = static_cast<uint32_t>(k.end - k.begin) * element, tail = (bytes - 1) % tile_row_bytes + 1;
    // Chunks beyond the end of k must not be read: there a lane reads one it has read before, or the first.
    const uint32_t mine = chunk() * 16;
    ahead.last = mine < tail ? bytes - tail + mine : bytes > tail ? bytes - tail - tile_row_bytes + mine : 0;
    ahead.at = min_of(mine, ahead.last);
#pragma unroll
    for (int f = 0; f < fetches; f++) {
      const int i = min_of(fetch_row(f), rows - 1);
      const TileRow row = i < C.n ? weights(i) : tokens(i - C.n);
      ahead.data[f] = wave_uniform(row.data) + from;
      ahead.offset[f] = static_cast<uint32_t>(row.data_offset);
    }
    if constexpr (C.fp8) {
      const TileRow weight = weights(wave_row() + lane_index() % tiles_n * 16);
      ahead.weight_scales = reinterpret_cast<const uint8_t*>(weight.scales) + weight.scale_offset;
      ahead.block = k.begin / OCTET_SCALE_BLOCK * 4;
      ahead.token_scales = reinterpret_cast<const uint8_t*>(wave_uniform(tokens(0).scales));
#pragma unroll
      for (int j = 0; j < tiles_m; j++) {
#pragma unroll
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          const TileRow token = tokens(wave_token() + 16 * j + MmaAccumulator::column(r));
          ahead.token_offset[j][MmaAccumulator::slot(r)] = static_cast<uint32_t>(token.scale_offset);
        }
      }
    }
  }

  // The n-th of the loads: the next window's scales, then this thread's part of the one after. Beyond the last window,
  // those of that one again.
  template <bool halves>
  OCTET_INLINE static void load(Ahead<halves>& ahead, int n, const TileK& k) {
    constexpr int scales = Schedule<halves>::loads - fetches, tokens = tiles_m * MmaAccumulator::columns;
    if (n >= scales) {
      ahead.fetched[n - scales] = load_global<u32x4>(ahead.data[n - scales], ahead.offset[n - scales] + ahead.at);
    } else if (n < tokens) {
      const int j = n / MmaAccumulator::columns, slot = n % MmaAccumulator::columns;
      ahead.token_scale[j][slot] = load_global<float>(ahead.token_scales + ahead.block, ahead.token_offset[j][slot]);
    } else {
      const int half = n - tokens;
      const uint32_t last = (k.end - 1 + k.scale_column_offset) / OCTET_SCALE_BLOCK * 4;
      ahead.weight_scale[half] = load_global<float>(ahead.weight_scales, min_of(ahead.block + half * 4, last));
    }
  }

  // fast: leaves, a segment each, by FastLeaves.
  template <bool halves, bool fast, class Weights, class Tokens, class Leaves>
  OCTET_INLINE void walk_staged(TileLds<C>& lds, const Weights& weights, const Tokens& tokens, const TileK& k,
                                const Leaves& leaves) {
    using S = Schedule<halves>;
    using U = Unit<halves>;
    constexpr int last = U::count - 1;
    constexpr bool two = C.buffers() == 2;
    Ahead<halves> ahead;
    Scales<halves> scales;
    MmaSlab next[S::early];  // the first operands of the next window
    U previous;              // the last unit of the window before
    // The buffers of the window that is multiplied and of the next. NOTE: two addresses that change places, for an
    // index would be folded into LDS addresses below zero that rely on wrapping around.
    uint8_t* window = lds.rows[0][0];
    uint8_t* window_after = lds.rows[C.buffers() - 1][0];
    const int first_weight = wave_row(), first_token = C.n + wave_token();
    SlabPlaces places;
    for (auto& half : places.at) {
      for (int& at : half) hold(at);  // else they are added up anew in every window
    }
    const auto read = [&](int n) {
      const SlabRead at = read_order(n);
      return slab(window + (at.weight ? first_weight : first_token) * tile_row_bytes, places, at.index, at.half);
    };

    begin<halves>(ahead, weights, tokens, k);
#pragma unroll
    for (int n = 0; n < S::loads; n++) load<halves>(ahead, n, k);
    write_window(window, ahead, (k.end - k.begin) * element);
    if constexpr (C.fp8) take(scales, ahead);
    if constexpr (two) {
      ahead.at = min_of(ahead.at + tile_row_bytes, ahead.last);
#pragma unroll
      for (int n = S::loads - fetches; n < S::loads; n++) load<halves>(ahead, n, k);
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < S::early; n++) next[n] = read(n);

    int column = k.begin;
    // Adds the windows up to one that ends there.
    const auto add_windows = [&](Sums& segment, int segment_end) __attribute__((always_inline)) {
      previous.clear();
      do {
        column += columns;
        const int left = (k.end - column) * element;
        if (two && __builtin_expect(left < tile_row_bytes, false)) clear_beyond(ahead.fetched, left);
        MmaSlab a[tiles_n][2], b[tiles_m][2];
        U unit;
#pragma unroll
        for (int n = 0; n < S::early; n++) place(a, b, n, next[n]);
        unrolled<S::steps>([&](auto number) __attribute__((always_inline)) {
          constexpr int step = decltype(number)::value, u = step / U::steps, s = step % U::steps;
          multiply<halves>(unit, u, s, a, b, scales);
          promote<halves>(previous, u == 0 ? last : u - 1, s, segment);
          if (step < S::reads) place(a, b, S::early + step, read(S::early + step));
          if (two && step == S::reads) wait_for_loads();
          constexpr int write_at = S::before(step, S::reads, S::write_steps, S::writes);
          unrolled<S::before(step + 1, S::reads, S::write_steps, S::writes) - write_at>(
              [&](auto f) { write(window_after, fetch_row(write_at + f.value), ahead.fetched[write_at + f.value]); });
          if (step == S::loads_from - (two ? 2 : 0)) ahead.at = min_of(ahead.at + tile_row_bytes, ahead.last);
          if (step == S::loads_from - (two ? 1 : 0)) {
            ahead.block = static_cast<uint32_t>(min_of(column, k.end - 1)) / OCTET_SCALE_BLOCK * 4;
          }
          if (step == S::loads_from) wait_for_lds();
          constexpr int load_at = S::before(step, S::loads_from, S::load_steps, S::loads);
          unrolled<S::before(step + 1, S::loads_from, S::load_steps, S::loads) - load_at>(
              [&](auto n) { load<halves>(ahead, load_at + n.value, k); });
          if constexpr (two) {
            if (step == S::barrier) {
              __syncthreads();
              uint8_t* const free = window;
              window = window_after;
              window_after = free;
            }
            constexpr int early_at = S::before(step, S::barrier, S::early_steps, S::early);
            unrolled<S::before(step + 1, S::barrier, S::early_steps, S::early) - early_at>(
                [&](auto n) { next[early_at + n.value] = read(early_at + n.value); });
          }
          unit.block[0].hold();
          if (s > 0) unit.block[1].hold();
          if (s == U::steps - 1) previous = unit;
          // A weight's scale a step: each takes an instruction of its own.
          if constexpr (C.fp8 && step >= S::take) {
            if (step == S::take) {
              pair_up(ahead);
              take_tokens(scales, ahead);
            }
            constexpr int left_steps = S::steps - S::take, weight_at = S::before(step, S::take, left_steps, tiles_n);
            unrolled<S::before(step + 1, S::take, left_steps, tiles_n) - weight_at>(
                [&](auto i) { take_weight(scales, ahead, weight_at + i.value); });
          }
          schedule_fence();
        });
        if constexpr (C.fp8 && S::take == S::steps) take(scales, ahead);
        if constexpr (!two) {
          __syncthreads();
          write_window(window, ahead, left);
          __syncthreads();
#pragma unroll
          for (int n = 0; n < S::early; n++) next[n] = read(n);
        }
      } while (column < segment_end);
#pragma unroll
      for (int s = 0; s < U::steps; s++) promote<halves>(previous, last, s, segment);
    };
    Sums segment;
    if constexpr (fast) {
      Fast tree;
      while (column < k.end) {
        clear(sum);
        add_windows(sum, column + k.leaf);
        if (tree.none() && leaves.biased()) add_bias(leaves);
        if (column >= k.end) {
          tree.add(sum);
        } else {
          clear(segment);
          add_windows(segment, column + k.leaf);
          tree.add(sum, segment);
        }
      }
    } else {
      Progress at(k);
      clear(segment);
      while (column < k.end) {
        add_windows(segment, at.segment_end);
        end_segment(segment, at, k, leaves);
      }
    }
  }

  OCTET_INLINE static void place(MmaSlab (&a)[tiles_n][2], MmaSlab (&b)[tiles_m][2], int n, const MmaSlab& value) {
    const SlabRead at = read_order(n);
    (at.weight ? a[at.index] : b[at.index])[at.half] = value;
  }

  // The window fetched, of which `bytes` of each row are inside k; beyond lie zeros.
  template <bool halves>
  OCTET_INLINE static void write_window(uint8_t* window, Ahead<halves>& ahead, int bytes) {
    if (__builtin_expect(bytes < tile_row_bytes, false)) clear_beyond(ahead.fetched, bytes);
#pragma unroll
    for (int f = 0; f < fetches; f++) write(window, fetch_row(f), ahead.fetched[f]);
  }

  OCTET_INLINE static void write(uint8_t* window, int row, u32x4 fetched) {
    if (rows % row_step == 0 || row < rows) {
      *reinterpret_cast<u32x4*>(window + row * tile_row_bytes + (chunk() ^ MmaSlab::swizzle(row)) * 16) = fetched;
    }
  }

  OCTET_INLINE static void clear_beyond(u32x4 (&fetched)[fetches], int bytes) {
    if (chunk() * 16 < bytes) return;
#pragma unroll
    for (int f = 0; f < fetches; f++) fetched[f] = u32x4{0, 0, 0, 0};
  }

  // NOTE: scales on their way take registers in pairs. A packed FMA with one factor for both halves reads the pair its
  // factor lies in, and would wait for a scale that is being loaded into the other register of it.
  template <bool halves>
  OCTET_INLINE static void pair_up(Ahead<halves>& ahead) {
    const auto pair = [](float& first, float& second) {
      f32x2 both{first, second};
      hold(both);
      first = both[0];
      second = both[1];
    };
    constexpr int count = tiles_m * MmaAccumulator::columns;
    const auto token = [&](int i) -> float& {
      return ahead.token_scale[i / MmaAccumulator::columns][i % MmaAccumulator::columns];
    };
    float none = 0.0f;
#pragma unroll
    for (int i = 0; i < count; i += 2) pair(token(i), i + 1 < count ? token(i + 1) : none);
    pair(ahead.weight_scale[0], halves ? ahead.weight_scale[halves ? 1 : 0] : none);
  }

  template <bool halves, class Loaded>
  OCTET_INLINE static void take(Scales<halves>& scales, const Loaded& loaded) {
    take_tokens(scales, loaded);
#pragma unroll
    for (int i = 0; i < tiles_n; i++) take_weight(scales, loaded, i);
  }
  template <bool halves, class Loaded>
  OCTET_INLINE static void take_tokens(Scales<halves>& scales, const Loaded& loaded) {
#pragma unroll
    for (int j = 0; j < tiles_m; j++) {
#pragma unroll
      for (int s = 0; s < MmaAccumulator::columns; s++) {
        scales.token[j][s] = loaded.token_scale[j][s];
      }
    }
  }
  template <bool halves, class Loaded>
  OCTET_INLINE static void take_weight(Scales<halves>& scales, const Loaded& loaded, int i) {
#pragma unroll
    for (int half = 0; half < (halves ? 2 : 1); half++) {
      scales.weight[i][half] = wave_broadcast(loaded.weight_scale[half], i);
    }
  }

  // Where a lane's vectors of a slab lie, from the first row of its fragment, for each half of a window.
  struct SlabPlaces {
    int at[2][MmaSlab::vectors];
    OCTET_INLINE SlabPlaces() {
#pragma unroll
      for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int v = 0; v < MmaSlab::vectors; v++) {
          const int row = MmaSlab::row(v);
          at[half][v] = row * tile_row_bytes + ((half * 4 + MmaSlab::chunk()) ^ MmaSlab::swizzle(row)) * 16;
        }
      }
    }
  };

  // Half `half` of the window's i-th fragment of the rows at `first`, the address of a row that is a multiple of 16.
  OCTET_INLINE static MmaSlab slab(const uint8_t* first, const SlabPlaces& places, int i, int half) {
    MmaSlab result;
#pragma unroll
    for (int v = 0; v < MmaSlab::vectors; v++) {
      result.v[v] = *reinterpret_cast<const u32x4*>(first + i * 16 * tile_row_bytes + places.at[half][v]);
    }
    return result;
  }

  // ---- direct: global memory -> operands; the waves take turns at the windows of k ----

  // One window's operands as they come from memory.
  template <bool halves>
  struct Window {
    MmaSlab a[tiles_n][2], b[tiles_m][2];
    float token_scale[tiles_m][MmaAccumulator::columns];
    float weight_scale[halves ? 2 : 1];  // of fragment lane % tiles_n
  };

  // Where this lane's rows lie: asked once, for a gather of tokens costs loads of its own, and what a window adds to it
  // is the same in every lane.
  struct Sources {
    const uint8_t* weights[tiles_n];
    uint32_t weight_offset[tiles_n][MmaSlab::vectors];
    const uint8_t* tokens;
    uint32_t token_offset[tiles_m][MmaSlab::vectors];
    const uint8_t* weight_scales;  // of fragment lane % tiles_n
    const uint8_t* token_scales;
    uint32_t token_scale_offset[tiles_m][MmaAccumulator::columns];

    template <class Weights, class Tokens>
    OCTET_INLINE Sources(const Weights& weight_rows, const Tokens& token_rows) {
#pragma unroll
      for (int i = 0; i < tiles_n; i++) {
#pragma unroll
        for (int v = 0; v < MmaSlab::vectors; v++) {
          const TileRow row = weight_rows(wave_row() + 16 * i + MmaSlab::row(v));
          weights[i] = wave_uniform(row.data);
          weight_offset[i][v] = static_cast<uint32_t>(row.data_offset);
        }
      }
#pragma unroll
      for (int j = 0; j < tiles_m; j++) {
#pragma unroll
        for (int v = 0; v < MmaSlab::vectors; v++) {
          const TileRow row = token_rows(wave_token() + 16 * j + MmaSlab::row(v));
          tokens = wave_uniform(row.data);
          token_offset[j][v] = static_cast<uint32_t>(row.data_offset);
        }
      }
      if constexpr (C.fp8) {
        weight_scales =
            reinterpret_cast<const uint8_t*>(weight_rows(wave_row() + lane_index() % tiles_n * 16).scale_row());
#pragma unroll
        for (int j = 0; j < tiles_m; j++) {
#pragma unroll
          for (int r = 0; r < MmaAccumulator::elements; r++) {
            const TileRow row = token_rows(wave_token() + 16 * j + MmaAccumulator::column(r));
            token_scales = reinterpret_cast<const uint8_t*>(wave_uniform(row.scales));
            token_scale_offset[j][MmaAccumulator::slot(r)] = static_cast<uint32_t>(row.scale_offset);
          }
        }
      }
    }
  };

  template <bool halves>
  OCTET_INLINE static void load(Window<halves>& window, const Sources& sources, int column, const TileK& k) {
    const int64_t from = static_cast<int64_t>(column) * element;
    // Chunks beyond the end of k must not be read: there lies the last one again.
    const uint32_t last = static_cast<uint32_t>(k.end - column) * element - 16;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint32_t at = min_of<uint32_t>(half * 64 + MmaSlab::chunk() * 16, last);
#pragma unroll
      for (int i = 0; i < tiles_n; i++) {
#pragma unroll
        for (int v = 0; v < MmaSlab::vectors; v++) {
          window.a[i][half].v[v] = load_global<u32x4>(sources.weights[i] + from, sources.weight_offset[i][v] + at);
        }
      }
#pragma unroll
      for (int j = 0; j < tiles_m; j++) {
#pragma unroll
        for (int v = 0; v < MmaSlab::vectors; v++) {
          window.b[j][half].v[v] = load_global<u32x4>(sources.tokens + from, sources.token_offset[j][v] + at);
        }
      }
    }
    if constexpr (C.fp8) {
#pragma unroll
      for (int half = 0; half < (halves ? 2 : 1); half++) {
        const int shifted = min_of(column + half * 64, k.end - 1) + k.scale_column_offset;
        uint32_t block = static_cast<uint32_t>(shifted) / OCTET_SCALE_BLOCK * 4;
        // NOTE: else it is the same in every lane and loaded into a scalar register, whose counter the LDS accesses
        // share: a barrier would wait for memory.
        hold(block);
        window.weight_scale[half] = load_global<float>(sources.weight_scales, block);
      }
#pragma unroll
      for (int j = 0; j < tiles_m; j++) {
#pragma unroll
        for (int c = 0; c < MmaAccumulator::columns; c++) {
          window.token_scale[j][c] = load_global<float>(sources.token_scales + column / OCTET_SCALE_BLOCK * 4,
                                                        sources.token_scale_offset[j][c]);
        }
      }
    }
  }

  OCTET_INLINE static void clear_beyond(MmaSlab (&slabs)[2], int bytes) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (half * 64 + MmaSlab::chunk() * 16 < bytes) continue;
#pragma unroll
      for (int i = 0; i < MmaSlab::vectors; i++) slabs[half].v[i] = u32x4{0, 0, 0, 0};
    }
  }

  // What lies in LDS of window `slot` of a batch for the fragment at (row, token) of the tile: the product, before its
  // scales, and the product of the scales of element r.
  OCTET_INLINE static MmaAccumulator& block_of(TileLds<C>& lds, int slot, int row, int token) {
    const int fragment = row / 16 * (C.m / 16) + token / 16;
    return reinterpret_cast<MmaAccumulator*>(lds.partial.blocks[slot])[fragment * wave_size + lane_index()];
  }
  OCTET_INLINE static float& factor_of(TileLds<C>& lds, int slot, int row, int token, int r) {
    return lds.partial.factors[slot][row / 16][token + MmaAccumulator::column(r)];
  }

  // Hands the product of a window in. The chains of its fragments run side by side: an instruction that continues one
  // waits for the last.
  template <bool halves>
  OCTET_INLINE static void store(TileLds<C>& lds, int slot, const Window<halves>& window) {
    Scales<halves> scales;
    if constexpr (C.fp8) take(scales, window);
    MmaAccumulator block[tiles_n][tiles_m][halves ? 2 : 1];
    each_fragment([&](int i, int j) {
#pragma unroll
      for (MmaAccumulator& chain : block[i][j]) chain.clear();
    });
#pragma unroll
    for (int step = 0; step < 4; step++) {
      each_fragment([&](int i, int j) {
        mma_step<C.fp8>(block[i][j][halves ? step / 2 : 0], window.a[i][step / 2], window.b[j][step / 2], step % 2);
      });
      schedule_fence();
    }
    each_fragment([&](int i, int j) {
      if constexpr (C.fp8 && halves) {
        float factor[2][MmaAccumulator::columns];
        scales.factor(i, j, 0, factor[0]);
        scales.factor(i, j, 1, factor[1]);
        block[i][j][0] = window_sum(block[i][j], factor);
      }
      block_of(lds, slot, wave_row() + 16 * i, wave_token() + 16 * j) = block[i][j][0];
    });
    if (C.fp8 && !halves && MmaAccumulator::row(0) == 0) {  // one lane for each token
      each_fragment([&](int i, int j) {
        float factor[MmaAccumulator::columns];
        scales.factor(i, j, 0, factor);
#pragma unroll
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          if (MmaAccumulator::row(r) != 0) continue;
          factor_of(lds, slot, wave_row() + 16 * i, wave_token() + 16 * j, r) = factor[MmaAccumulator::slot(r)];
        }
      });
    }
  }

  template <class Visit>
  OCTET_INLINE static void each_fragment(const Visit& visit) {
    unrolled<tiles_n>([&](auto i) { unrolled<tiles_m>([&](auto j) { visit(i.value, j.value); }); });
  }

  // Adds what store() left of a round of windows, of which the first `count` are there. The others are read as the last
  // of those again and left out of the sum, so that all reads are on their way together.
  template <bool halves, bool whole>
  OCTET_INLINE static void add_round(TileLds<C>& lds, int first, int count, Sums& segment) {
    constexpr bool scaled = C.fp8 && !halves;
    unrolled<held_m>([&](auto j) {
      if (!holds(j.value)) return;
      MmaAccumulator block[waves_k][held_n];
      float factor[waves_k][held_n][MmaAccumulator::columns];
      unrolled<waves_k>([&](auto s) {
        const int slot = first + (whole ? s.value : min_of(s.value, count - 1));
        unrolled<held_n>([&](auto i) {
          const int row = first_row(i.value, j.value), token = first_token(j.value);
          block[s.value][i.value] = block_of(lds, slot, row, token);
          if constexpr (scaled) {
#pragma unroll
            for (int r = 0; r < MmaAccumulator::elements; r++) {
              factor[s.value][i.value][MmaAccumulator::slot(r)] = factor_of(lds, slot, row, token, r);
            }
          }
        });
      });
      schedule_fence();
      unrolled<waves_k>([&](auto s) {
        unrolled<held_n>([&](auto i) {
          MmaAccumulator sum = segment[i.value][j.value];
          if constexpr (scaled) {
#pragma unroll
            for (int quarter = 0; quarter < 4; quarter++) {
              sum.add_scaled(block[s.value][i.value], factor[s.value][i.value], quarter);
            }
          } else {
            sum.add(block[s.value][i.value]);
          }
          if (whole || s.value < count) segment[i.value][j.value] = sum;
        });
      });
    });
  }

  // Batches of slots() windows.
  template <bool halves, class Weights, class Tokens, class Leaves>
  OCTET_INLINE void walk_direct(TileLds<C>& lds, const Weights& weights, const Tokens& tokens, const TileK& k,
                                const Leaves& leaves) {
    constexpr int rounds = C.slots() / waves_k;
    const Sources sources(weights, tokens);
    Window<halves> windows[rounds];
    const auto load_batch = [&](int column) {
#pragma unroll
      for (int r = 0; r < rounds; r++) {
        const int at = column + (r * waves_k + wave_k()) * columns;
        if (at < k.end) load(windows[r], sources, at, k);
      }
    };
    int column = k.begin;
    Progress progress(k);
    Sums segment;
    clear(segment);
    load_batch(column);
    while (column < k.end) {
      const int batch = column;
      // NOTE: here, for all of the batch. A wave without a window in it would pass the waits at the products, and the
      // compiler, which cannot know, would wait again among the loads of the next batch.
      wait_for_loads();
#pragma unroll
      for (int r = 0; r < rounds; r++) {
        const int slot = r * waves_k + wave_k();
        const int at = batch + slot * columns;
        if (at >= k.end) break;
        if (__builtin_expect(k.end - at < columns, false)) {
#pragma unroll
          for (int i = 0; i < tiles_n; i++) clear_beyond(windows[r].a[i], (k.end - at) * element);
#pragma unroll
          for (int j = 0; j < tiles_m; j++) clear_beyond(windows[r].b[j], (k.end - at) * element);
        }
        store(lds, slot, windows[r]);
      }
      column = min_of(batch + C.slots() * columns, k.end);
      if (column < k.end) load_batch(column);
      __syncthreads();
      // Rounds of as many windows as there are waves, but for the last of a segment.
      const int slots = holds(0) ? (column - batch + columns - 1) / columns : 0;
#pragma nounroll
      for (int first = 0; first < slots;) {
        const int left = (progress.segment_end - batch + columns - 1) / columns;
        const int end = min_of(min_of(first + waves_k, left), slots);
        if (end - first == waves_k) {
          add_round<halves, true>(lds, first, waves_k, segment);
        } else {
          add_round<halves, false>(lds, first, end - first, segment);
        }
        if (end == left) end_segment(segment, progress, k, leaves);
        first = end;
      }
      if (column < k.end) __syncthreads();  // every wave has read the batch
    }
  }

  // ---- any alignment: byte by byte, a phase at a time: the longest ranges in which neither scale changes ----

  OCTET_INLINE static int phase_end(int begin, const TileK& k) {
    int end = min_of((begin / columns + 1) * columns, k.end);
    if constexpr (C.fp8) {
      const int shifted = begin + k.scale_column_offset;
      end = min_of(end, begin + OCTET_SCALE_BLOCK - shifted % OCTET_SCALE_BLOCK);
    }
    return end;
  }

  template <class Weights, class Tokens, class Leaves>
  OCTET_INLINE void walk_bytes(TileLds<C>& lds, const Weights& weights, const Tokens& tokens, const TileK& k,
                               const Leaves& leaves) {
    Progress at(k);
    Sums segment;
    clear(segment);
    for (int column = k.begin; column < k.end;) {
      const int segment_end = at.segment_end;
      while (column < segment_end) {
        const int end = phase_end(column, k);
        __syncthreads();
        for (int f = 0; f < fetches; f++) {
          int row = fetch_row(f);
          hold(row);  // else its LDS address would start below zero and rely on wrapping around
          if (row >= rows) break;
          const TileRow source = row < C.n ? weights(row) : tokens(row - C.n);
          const int64_t from = static_cast<int64_t>(column) * element + chunk() * 16;
          const int64_t to = static_cast<int64_t>(end) * element;
          u32x4 value = {0, 0, 0, 0};
#pragma unroll
          for (int byte = 0; byte < 16; byte++) {
            if (from + byte < to) value[byte / 4] |= static_cast<uint32_t>(source.byte(from + byte)) << byte % 4 * 8;
          }
          write(lds.rows[0][0], row, value);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < tiles_n; i++) {
          const int row = wave_row() + 16 * i;
#pragma unroll
          for (int j = 0; j < tiles_m; j++) {
            const int token = wave_token() + 16 * j;
            MmaAccumulator block;
            block.clear();
#pragma unroll
            for (int step = 0; step < 4; step++) {
              mma_step<C.fp8>(block, slab(lds.rows[0][row], {}, 0, step / 2),
                              slab(lds.rows[0][C.n + token], {}, 0, step / 2), step % 2);
            }
#pragma unroll
            for (int r = 0; r < MmaAccumulator::elements; r++) {
              float scale = 1.0f;
              if constexpr (C.fp8) {
                scale =
                    weights(row + MmaAccumulator::row(r)).scale((k.scale_column_offset + column) / OCTET_SCALE_BLOCK) *
                    tokens(token + MmaAccumulator::column(r)).scale(column / OCTET_SCALE_BLOCK);
              }
              segment[i][j][r] = __builtin_fmaf(block[r], scale, segment[i][j][r]);
            }
          }
        }
        column = end;
      }
      end_segment(segment, at, k, leaves);
    }
  }
};
#endif
