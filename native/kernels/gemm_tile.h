// The main loop that dense and grouped GEMM share: one block's tile of D[n][m] = sum over k of W[n][k] * X[m][k],
// weights on the matrix instruction's A, tokens on its B. One loop serves both because it knows nothing of matrices:
// two row functors say where each row of the tile lies, and a store functor says where results go (the idea of
// DeepGEMM's tile scheduler).
//
// A user writes
//   GemmTile<config> tile;
//   tile.run(lds, weights, tokens, k);   weights(i), tokens(i): the TileRow of tile row i, always one that may be read
//   (rows
//                                        beyond a matrix repeat its last); called once a tile. So a gather of token
//                                        rows, an expert's base, or gate and up rows interleaved by 16 are the
//                                        functor's affair.
//   tile.drain(lds, store);              store(token, row, f32x4): rows row..row+3 of one token, tile-relative; or use
//                                        tile.sum[i][j] with wave_row() + 16*i + MmaAccumulator::row(r) and
//                                        wave_token() + 16*j + MmaAccumulator::column(r) (then a barrier before LDS is
//                                        reused).
//
// K is walked in phases: the longest ranges of at most 128 bytes of k in which neither scale changes. The activations'
// scale grid starts at column 0, the weights' is shifted by scale_column_offset, so a shard that starts inside a scale
// block has two phases to each 128 columns. A phase is 128 bytes of k for each row, zero beyond its end: four matrix
// instructions, whose FP8 partial sum is multiplied by the scale pair into the segment's sum (bf16 accumulates there
// directly). Segments, a fixed number of columns that depends on the weight's shape only, are summed on their own and
// then added in order: a block that does one segment and one that does all give the same bits.
//
// LDS: rows of 128 bytes, 144 apart. NOTE: the 16 bytes of padding shift neighbouring rows by four banks, so the 8-byte
// operand reads of a matrix instruction (16 rows x 4 groups of 8 bytes) touch each bank equally often, and 8 lanes
// write one row without conflict. The next phase is fetched into registers while the matrix unit works on this one.
#pragma once

#include <octet.h>
#include <stdint.h>

struct TileConfig {
  bool fp8;              // else bf16
  int n, m;              // weight rows and tokens of the tile
  int waves_n, waves_m;  // how the waves divide it: n/waves_n and m/waves_m are multiples of 16
  bool aligned;  // strides, k and the scale column offset are multiples of 16 bytes: loads of 16; else byte by byte
  constexpr int waves() const { return waves_n * waves_m; }
};

constexpr int tile_row_bytes = 128;  // of k in each row: 128 FP8 codes or 64 bf16
constexpr int tile_pitch = tile_row_bytes + 16;

template <TileConfig C>
union TileLds {
  struct {
    uint8_t rows[C.n + C.m][tile_pitch];  // weights, then tokens
    float scales[C.n + C.m];
  } tile;
  float stage[C.waves()][16][C.n / C.waves_n + 4];  // [wave][token][row]: results on their way out
};

// Columns of k a block walks (end + segment below 2^31), and the column at which the weights' first scale block was
// entered (0..127).
struct TileK {
  int begin, end;  // begin: a multiple of segment
  int segment;     // columns; a multiple of 128
  int scale_column_offset;
};

#if !defined(OCTET_HOST)
#include "mma.h"

struct TileRow {
  const uint8_t* data;  // column 0
  const float* scales;  // of the first scale block; unused with bf16
};

// Rows first, first+1, ... of expert `expert` of a weight.
struct WeightRows {
  const uint8_t* data;
  const float* scales;
  int64_t first, last, row_bytes, scale_row_stride;
  int scale_row_offset;
  OCTET_INLINE WeightRows(const octet_weight& w, int64_t expert, int64_t first)
      : first(first), last(w.n - 1), scale_row_stride(w.scale_row_stride), scale_row_offset(w.scale_row_offset) {
    const int size = w.dtype == OCTET_BF16 ? 2 : 1;
    data = static_cast<const uint8_t*>(w.data) + expert * w.expert_stride * size;
    scales = w.scales + expert * w.scale_expert_stride;
    row_bytes = w.row_stride * size;
  }
  OCTET_INLINE TileRow operator()(int i) const {
    const int64_t row = min_of(first + i, last);
    return {data + row * row_bytes, scales + (scale_row_offset + row) / OCTET_SCALE_BLOCK * scale_row_stride};
  }
};

// Block ids go round-robin over the 8 XCDs, each with an L2 of its own: number the work so that each XCD gets one
// contiguous run of it. A bijection of 0..blocks-1 for any count.
OCTET_INLINE constexpr uint32_t xcd_contiguous(uint32_t block, uint32_t blocks) {
  constexpr uint32_t xcds = 8;
  const uint32_t xcd = block % xcds;
  return xcd * (blocks / xcds) + min_of(xcd, blocks % xcds) + block / xcds;
}

template <bool fp8>
struct TileElement {
  using Mma = MmaFp8;
  using Storage = uint8_t;
};
template <>
struct TileElement<false> {
  using Mma = MmaBf16;
  using Storage = uint16_t;
};

template <TileConfig C>
struct GemmTile {
  using Mma = typename TileElement<C.fp8>::Mma;
  using Storage = typename TileElement<C.fp8>::Storage;
  static constexpr int element = sizeof(Storage);
  static constexpr int columns = tile_row_bytes / element;
  static constexpr int steps = columns / Mma::k;
  static constexpr int wave_n = C.n / C.waves_n, wave_m = C.m / C.waves_m;
  static constexpr int tiles_n = wave_n / 16, tiles_m = wave_m / 16;  // 16 x 16 accumulators of a wave
  static constexpr int threads = C.waves() * wave_size;
  static constexpr int rows = C.n + C.m;
  static constexpr int chunks = tile_row_bytes / 16;  // of 16 bytes in a row
  static constexpr int row_step = threads / chunks;   // rows the block fetches at once
  static constexpr int fetches = (rows + row_step - 1) / row_step;
  static constexpr int scale_fetches = (rows + threads - 1) / threads;
  static_assert(wave_n % 16 == 0 && wave_m % 16 == 0 && sizeof(TileLds<C>) <= 65536);

  MmaAccumulator sum[tiles_n][tiles_m];

  // Where this wave's accumulators begin in the tile.
  OCTET_INLINE static int wave_row() { return wave_index() / C.waves_m * wave_n; }
  OCTET_INLINE static int wave_token() { return wave_index() % C.waves_m * wave_m; }

  template <class Weights, class Tokens>
  OCTET_INLINE void run(TileLds<C>& lds, const Weights& weights, const Tokens& tokens, const TileK& k) {
    source(weights, tokens);
    MmaAccumulator segment[tiles_n][tiles_m];
#pragma unroll
    for (int i = 0; i < tiles_n; i++) {
#pragma unroll
      for (int j = 0; j < tiles_m; j++) {
        sum[i][j].clear();
        segment[i][j].clear();
      }
    }
    int begin = k.begin;
    int end = phase_end(begin, k);
    int segment_end = min_of(begin + k.segment, k.end);
    if (begin < end) fetch(begin, end, k.scale_column_offset);
    while (begin < end) {
      __syncthreads();  // every wave has read the phase before
      fill(lds);
      __syncthreads();
      begin = end;
      end = phase_end(begin, k);
      if (begin < end) fetch(begin, end, k.scale_column_offset);
      multiply(lds, segment);
      if (begin == segment_end) {
        segment_end = min_of(begin + k.segment, k.end);
#pragma unroll
        for (int i = 0; i < tiles_n; i++) {
#pragma unroll
          for (int j = 0; j < tiles_m; j++) {
#pragma unroll
            for (int r = 0; r < MmaAccumulator::elements; r++) sum[i][j][r] += segment[i][j][r];
            segment[i][j].clear();
          }
        }
      }
    }
  }

  // Hands the sums out through LDS, so that neighbouring lanes hold neighbouring rows of one token and stores coalesce.
  template <class Store>
  OCTET_INLINE void drain(TileLds<C>& lds, const Store& store) {
    constexpr int quads = wave_n / 4;
    auto& stage = lds.stage[wave_index()];
    __syncthreads();
#pragma unroll
    for (int j = 0; j < tiles_m; j++) {
#pragma unroll
      for (int i = 0; i < tiles_n; i++) {
#pragma unroll
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          stage[MmaAccumulator::column(r)][16 * i + MmaAccumulator::row(r)] = sum[i][j][r];
        }
      }
      wave_sync();
      for (int q = lane_index(); q < 16 * quads; q += wave_size) {
        const int token = q / quads, row = q % quads * 4;
        store(wave_token() + 16 * j + token, wave_row() + row, *reinterpret_cast<const f32x4*>(&stage[token][row]));
      }
      wave_sync();
    }
  }

 private:
  const uint8_t* data_[fetches];        // this thread's rows
  const float* scales_[scale_fetches];  // of row thread + i*threads
  u32x4 fetched_[fetches];
  float fetched_scales_[scale_fetches];

  OCTET_INLINE static int thread() { return static_cast<int>(threadIdx.x); }
  OCTET_INLINE static int chunk() { return thread() % chunks; }
  // The row of fetch f; the last fetch may pass the end of the tile.
  OCTET_INLINE static int fetch_row(int f) { return f * row_step + thread() / chunks; }

  template <class Weights, class Tokens>
  OCTET_INLINE void source(const Weights& weights, const Tokens& tokens) {
#pragma unroll
    for (int f = 0; f < fetches; f++) {
      const int row = min_of(fetch_row(f), rows - 1);
      data_[f] = row < C.n ? weights(row).data : tokens(row - C.n).data;
    }
    if constexpr (C.fp8) {
#pragma unroll
      for (int f = 0; f < scale_fetches; f++) {
        const int row = min_of(f * threads + thread(), rows - 1);
        scales_[f] = row < C.n ? weights(row).scales : tokens(row - C.n).scales;
      }
    }
  }

  OCTET_INLINE static int phase_end(int begin, const TileK& k) {
    int end = min_of((begin / columns + 1) * columns, k.end);
    if constexpr (C.fp8) {
      const int shifted = begin + k.scale_column_offset;
      end = min_of(end, begin + OCTET_SCALE_BLOCK - shifted % OCTET_SCALE_BLOCK);
    }
    return end;
  }

  OCTET_INLINE void fetch(int begin, int end, int scale_column_offset) {
    const int64_t from = static_cast<int64_t>(begin) * element + chunk() * 16;
    const int64_t to = static_cast<int64_t>(end) * element;
#pragma unroll
    for (int f = 0; f < fetches; f++) {
      if constexpr (C.aligned) {
        // Lanes beyond the phase read its first chunk: no branch, and never outside the row.
        const int64_t at = from < to ? from : static_cast<int64_t>(begin) * element;
        const u32x4 value = *reinterpret_cast<const u32x4*>(data_[f] + at);
        fetched_[f] = from < to ? value : u32x4{0, 0, 0, 0};
      } else {
        u32x4 value = {0, 0, 0, 0};
#pragma unroll
        for (int byte = 0; byte < 16; byte++) {
          if (from + byte < to) value[byte / 4] |= static_cast<uint32_t>(data_[f][from + byte]) << byte % 4 * 8;
        }
        fetched_[f] = value;
      }
    }
    if constexpr (C.fp8) {
#pragma unroll
      for (int f = 0; f < scale_fetches; f++) {
        const int offset = f * threads + thread() < C.n ? scale_column_offset : 0;
        fetched_scales_[f] = scales_[f][(offset + begin) / OCTET_SCALE_BLOCK];
      }
    }
  }

  OCTET_INLINE void fill(TileLds<C>& lds) const {
#pragma unroll
    for (int f = 0; f < fetches; f++) {
      const int row = fetch_row(f);
      if (row < rows) *reinterpret_cast<u32x4*>(&lds.tile.rows[row][chunk() * 16]) = fetched_[f];
    }
    if constexpr (C.fp8) {
#pragma unroll
      for (int f = 0; f < scale_fetches; f++) {
        const int row = f * threads + thread();
        if (row < rows) lds.tile.scales[row] = fetched_scales_[f];
      }
    }
  }

  OCTET_INLINE static const Storage* operand(const TileLds<C>& lds, int row, int step) {
    return reinterpret_cast<const Storage*>(&lds.tile.rows[row][step * Mma::k * element]);
  }

  OCTET_INLINE static void multiply(const TileLds<C>& lds, MmaAccumulator (&segment)[tiles_n][tiles_m]) {
    constexpr int pitch = tile_pitch / element;
    typename Mma::B b[tiles_m][steps];
    float token_scale[tiles_m][MmaAccumulator::columns];
#pragma unroll
    for (int j = 0; j < tiles_m; j++) {
      const int first = C.n + wave_token() + 16 * j;
#pragma unroll
      for (int s = 0; s < steps; s++) b[j][s] = Mma::load_b(operand(lds, first, s), pitch);
      if constexpr (C.fp8) {
#pragma unroll
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          token_scale[j][MmaAccumulator::slot(r)] = lds.tile.scales[first + MmaAccumulator::column(r)];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < tiles_n; i++) {
      const int first = wave_row() + 16 * i;
      typename Mma::A a[steps];
      float weight_scale[MmaAccumulator::elements];
#pragma unroll
      for (int s = 0; s < steps; s++) a[s] = Mma::load_a(operand(lds, first, s), pitch);
      if constexpr (C.fp8) {
#pragma unroll
        for (int r = 0; r < MmaAccumulator::elements; r++) {
          weight_scale[r] = lds.tile.scales[first + MmaAccumulator::row(r)];
        }
      }
#pragma unroll
      for (int j = 0; j < tiles_m; j++) {
        if constexpr (C.fp8) {
          MmaAccumulator block;
          block.clear();
#pragma unroll
          for (int s = 0; s < steps; s++) Mma::mma(block, a[s], b[j][s]);
#pragma unroll
          for (int r = 0; r < MmaAccumulator::elements; r++) {
            const float scale = weight_scale[r] * token_scale[j][MmaAccumulator::slot(r)];
            segment[i][j][r] = __builtin_fmaf(block[r], scale, segment[i][j][r]);
          }
        } else {
#pragma unroll
          for (int s = 0; s < steps; s++) Mma::mma(segment[i][j], a[s], b[j][s]);
        }
      }
    }
  }
};
#endif
