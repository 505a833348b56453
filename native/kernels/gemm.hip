// gemm: output[i, j] = sum over k of a[i, k] * b[j, k] (+ bias[j]): FP8 with block scales, or bf16; f32 accumulation.
//
// Layouts: a [m, k] tokens, b [n, k] weights, both with k contiguous; the tile's main loop is in gemm_tile.h.
// Grid: x counts tiles of n x m (tokens fastest, so that neighbours share weights, and runs of neighbours stay on one
// XCD), times the splits of K where the grid would leave CUs idle. K is cut into segments whose length is a function of
// the whole product's n and k alone; each is summed on its own and the sums are added in order, by the block itself or,
// split, by gemm_reduce from the workspace, or by the op that reads the partial sums (output_segments). So every
// configuration gives the same bits, and a token's row does not depend on m.
//
// With leaves the segments of a leaf are added so, and the leaves by the tree (leaf_tree.h). A split is then a segment,
// or the node of 2^i leaves: the partial sum of a split that has leaves is rounded already, and whoever reads it may
// round it again, so both are read alike.
//
// Floor at Qwen3-235B's fused QKV of TP8, n = 1280, k = 4096, m = 16: 5.2 MB of weights, 1.1 us at 4.86 TB/s; the
// split's partial sums add 16 segments x 16 x 1280 x 4 = 1.3 MB each way. At n = k = m = 4096: 137 GFLOP, 98 us at
// 1,409 TFLOP/s.
#include "gemm_tile.h"

struct GemmParams {
  const uint8_t* a;       // [m, k]
  const float* a_scales;  // [m, ceil(k/128)], FP8
  octet_weight b;         // [n, k]
  const uint16_t* bias;   // [n] bf16, or null
  void* output;           // [m, n]
  float* partials;        // [splits, m, n], rows a multiple of 4 apart, or null: one block sums all segments
  int64_t m;
  int64_t a_stride, a_scale_stride, output_stride;
  int64_t partial_stride, partial_segment_stride;
  uint32_t tiles_n, tiles_m;
  int segment;        // columns
  int split_columns;  // a multiple of segment
  int splits;
  int leaf;    // columns of a leaf, where a split has whole ones and they are a tree; else 0
  int leaves;  // of splits that are segments of leaves
  octet_dtype output_dtype;
};

// Every configuration: the kernel's name and its tile.
#define OCTET_GEMM_CONFIGS(X)                                                                                    \
  X(gemm_fp8_m16n16, .fp8 = true, .n = 16, .m = 16, .waves_n = 1, .waves_m = 1, .aligned = true, .waves_k = 8)   \
  X(gemm_fp8_m32n16, .fp8 = true, .n = 16, .m = 32, .waves_n = 1, .waves_m = 1, .aligned = true, .waves_k = 8)   \
  X(gemm_fp8_m64n16, .fp8 = true, .n = 16, .m = 64, .waves_n = 1, .waves_m = 1, .aligned = true, .waves_k = 4)   \
  X(gemm_fp8_m64n64, .fp8 = true, .n = 64, .m = 64, .waves_n = 2, .waves_m = 2, .aligned = true)                 \
  X(gemm_fp8_m128n128, .fp8 = true, .n = 128, .m = 128, .waves_n = 2, .waves_m = 2, .aligned = true)             \
  X(gemm_fp8_any, .fp8 = true, .n = 64, .m = 64, .waves_n = 2, .waves_m = 2, .aligned = false)                   \
  X(gemm_bf16_m16n16, .fp8 = false, .n = 16, .m = 16, .waves_n = 1, .waves_m = 1, .aligned = true, .waves_k = 8) \
  X(gemm_bf16_m32n16, .fp8 = false, .n = 16, .m = 32, .waves_n = 1, .waves_m = 1, .aligned = true, .waves_k = 8) \
  X(gemm_bf16_m64n16, .fp8 = false, .n = 16, .m = 64, .waves_n = 1, .waves_m = 1, .aligned = true, .waves_k = 4) \
  X(gemm_bf16_m64n64, .fp8 = false, .n = 64, .m = 64, .waves_n = 2, .waves_m = 2, .aligned = true)               \
  X(gemm_bf16_m128n128, .fp8 = false, .n = 128, .m = 128, .waves_n = 2, .waves_m = 2, .aligned = true)           \
  X(gemm_bf16_any, .fp8 = false, .n = 64, .m = 64, .waves_n = 2, .waves_m = 2, .aligned = false)

#define OCTET_GEMM_TILE(name, ...) constexpr TileConfig name##_tile{__VA_ARGS__};
OCTET_GEMM_CONFIGS(OCTET_GEMM_TILE)

constexpr int gemm_reduce_waves = 4, reduce_few = 4;  // of a block at most; segments of gemm_reduce

#if !defined(OCTET_HOST)

struct TokenRows {
  const uint8_t* data;
  const float* scales;
  int64_t last, row_bytes, scale_row_bytes;
  OCTET_INLINE TokenRows(const GemmParams& p, int64_t first, int element)
      : data(wave_uniform(p.a + first * p.a_stride * element)),
        scales(wave_uniform(p.a_scales + first * p.a_scale_stride)),
        last(p.m - 1 - first),
        row_bytes(p.a_stride * element),
        scale_row_bytes(p.a_scale_stride * 4) {}
  OCTET_INLINE TileRow operator()(int i) const {
    const int64_t row = min_of<int64_t>(i, last);
    return {data, static_cast<uint64_t>(row * row_bytes), scales, static_cast<uint64_t>(row * scale_row_bytes)};
  }
};

// Adds the bias to columns n..n+3, as far as they lie in the output.
OCTET_INLINE void add_bias(const GemmParams& p, int64_t n, f32x4& value) {
  if (p.bias == nullptr) return;
#pragma unroll
  for (int i = 0; i < 4; i++) value[i] += n + i < p.b.n ? bf16_to_f32(p.bias[n + i]) : 0.0f;
}

// Rounds columns n..n+3 of a row into the output, as far as they lie in it.
OCTET_INLINE void store_output(const GemmParams& p, int64_t row, int64_t n, f32x4 value) {
  const int64_t at = row * p.output_stride + n;
  const int count = static_cast<int>(min_of<int64_t>(4, p.b.n - n));
  const bool whole = count == 4 && p.output_stride % 4 == 0;
  if (p.output_dtype == OCTET_F32) {
    float* output = static_cast<float*>(p.output) + at;
    if (whole) {
      *reinterpret_cast<f32x4*>(output) = value;
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (i < count) output[i] = value[i];
      }
    }
  } else {
    uint16_t* output = static_cast<uint16_t*>(p.output) + at;
    if (whole) {
      const uint32_t low = f32_to_bf16(value[0]) | static_cast<uint32_t>(f32_to_bf16(value[1])) << 16;
      const uint32_t high = f32_to_bf16(value[2]) | static_cast<uint32_t>(f32_to_bf16(value[3])) << 16;
      *reinterpret_cast<u32x2*>(output) = u32x2{low, high};
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (i < count) output[i] = f32_to_bf16(value[i]);
      }
    }
  }
}

struct GemmStore {
  const GemmParams& p;
  int64_t first_n, first_m;
  int split;
  OCTET_INLINE void operator()(int token, int row, f32x4 value) const {
    const int64_t m = first_m + token, n = first_n + row;
    if (m >= p.m || n >= p.b.n) return;
    if (p.partials != nullptr) {
      *reinterpret_cast<f32x4*>(p.partials + split * p.partial_segment_stride + m * p.partial_stride + n) = value;
    } else {
      if (p.leaf == 0) add_bias(p, n, value);
      store_output(p, m, n, value);
    }
  }
};

// The bias is the first leaf's.
struct GemmLeaves {
  static constexpr bool tree = true;
  const GemmParams& p;
  int64_t first_n;
  int split;
  OCTET_INLINE bool biased() const { return p.bias != nullptr && split == 0; }
  OCTET_INLINE float bias(int row) const { return bf16_to_f32(p.bias[min_of(first_n + row, p.b.n - 1)]); }
};

template <TileConfig C>
OCTET_INLINE void gemm_kernel(const GemmParams& p) {
  const uint32_t tiles = p.tiles_n * p.tiles_m;
  const uint32_t block = xcd_contiguous(blockIdx.x, gridDim.x);
  const int split = static_cast<int>(block / tiles);
  const uint32_t tile_index = block % tiles;
  const int64_t first_n = static_cast<int64_t>(tile_index / p.tiles_m) * C.n;
  const int64_t first_m = static_cast<int64_t>(tile_index % p.tiles_m) * C.m;

  const int k = static_cast<int>(p.b.k);
  TileK range{0, k, p.segment, p.b.scale_column_offset, p.leaf};
  if (p.partials != nullptr) {
    range.begin = split * p.split_columns;
    range.end = min_of(range.begin + p.split_columns, k);
  }

  auto& lds = OCTET_LDS(TileLds<C>);
  GemmTile<C> tile;
  tile.run(lds, WeightRows(p.b, 0, first_n), TokenRows(p, first_m, GemmTile<C>::element), range,
           GemmLeaves{p, first_n, split});
  tile.drain(lds, GemmStore{p, first_n, first_m, split});
}

#define OCTET_GEMM_KERNEL(name, ...) \
  OCTET_KERNEL(name, GemmParams, name##_tile.threads()) { gemm_kernel<name##_tile>(params); }
OCTET_GEMM_CONFIGS(OCTET_GEMM_KERNEL)

// Adds `batch` splits' partial sums of four columns from split `first` on, in order. All loads are on their way
// together; past the last split they are its again, and 0 is added, which changes no bit of a sum that began at 0.
template <int batch>
OCTET_INLINE void add_splits(const GemmParams& p, const float* partials, int first, f32x4& sum) {
  f32x4 part[batch];
#pragma unroll
  for (int i = 0; i < batch; i++) {
    const int split = min_of(first + i, p.splits - 1);
    part[i] = *reinterpret_cast<const f32x4*>(partials + split * p.partial_segment_stride);
  }
#pragma unroll
  for (int i = 0; i < batch; i++) sum += first + i < p.splits ? part[i] : f32x4{0.0f, 0.0f, 0.0f, 0.0f};
}

// A thread takes four columns of row blockIdx.y.
template <class Add>
OCTET_INLINE void reduce(const GemmParams& p, const Add& add) {
  const int64_t m = blockIdx.y, n = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (n >= p.b.n) return;
  f32x4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
  add(p.partials + m * p.partial_stride + n, n, sum);
  store_output(p, m, n, sum);
}

// Up to reduce_few splits: one latency. The others: one for every 16.
OCTET_KERNEL(gemm_reduce, GemmParams, (gemm_reduce_waves * wave_size)) {
  reduce(params, [&](const float* partials, int64_t n, f32x4& sum) {
    add_splits<reduce_few>(params, partials, 0, sum);
    add_bias(params, n, sum);
  });
}
OCTET_KERNEL(gemm_reduce_many, GemmParams, (gemm_reduce_waves * wave_size)) {
  reduce(params, [&](const float* partials, int64_t n, f32x4& sum) {
    for (int first = 0; first < params.splits; first += 16) add_splits<16>(params, partials, first, sum);
    add_bias(params, n, sum);
  });
}
OCTET_INLINE void load_split(const GemmParams& p, const float* partials, int split, float (&part)[4]) {
  const f32x4 value = *reinterpret_cast<const f32x4*>(partials + split * p.partial_segment_stride);
#pragma unroll
  for (int i = 0; i < 4; i++) part[i] = value[i];
}

// So many splits that are nodes, the first of them with the bias.
template <int count>
OCTET_INLINE void reduce_nodes(const GemmParams& p) {
  reduce(p, [&](const float* partials, int64_t, f32x4& sum) {
    float root[4];
    tree_of<count>(
        true, [&](int split, auto, float(&part)[4]) { load_split(p, partials, split, part); }, root);
    sum = f32x4{root[0], root[1], root[2], root[3]};
  });
}
OCTET_KERNEL(gemm_reduce_2_nodes, GemmParams, (gemm_reduce_waves * wave_size)) { reduce_nodes<2>(params); }
OCTET_KERNEL(gemm_reduce_4_nodes, GemmParams, (gemm_reduce_waves * wave_size)) { reduce_nodes<4>(params); }
OCTET_KERNEL(gemm_reduce_8_nodes, GemmParams, (gemm_reduce_waves * wave_size)) { reduce_nodes<8>(params); }
// The splits are segments of leaves: of products so narrow that even a block for each leaf would leave CUs idle.
OCTET_KERNEL(gemm_reduce_leaves, GemmParams, (gemm_reduce_waves * wave_size)) {
  reduce(params, [&](const float* partials, int64_t n, f32x4& sum) {
    float root[4];
    tree_of_segments(
        params.leaves, params.splits / params.leaves, true,
        [&](int split, auto, float(&part)[4]) { load_split(params, partials, split, part); },
        [&](int leaf, float(&part)[4]) {
          f32x4 value = {part[0], part[1], part[2], part[3]};
          if (leaf == 0) add_bias(params, n, value);
#pragma unroll
          for (int i = 0; i < 4; i++) part[i] = value[i];
        },
        root);
    sum = f32x4{root[0], root[1], root[2], root[3]};
  });
}

#endif

#if defined(OCTET_HOST)
#include <algorithm>

#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace {

using namespace octet;

struct GemmConfig {
  const char* kernel;
  TileConfig tile;
  size_t lds_bytes;
};

#define OCTET_GEMM_ENTRY(name, ...) {#name, name##_tile, sizeof(TileLds<name##_tile>)},
constexpr GemmConfig configs[] = {OCTET_GEMM_CONFIGS(OCTET_GEMM_ENTRY)};

struct GemmPlan {
  GemmConfig config;
  int64_t tiles_n, tiles_m;
  int segment;  // columns
  int leaf;     // columns of a leaf of the tree; 0: a plain sum
  int splits;   // blocks that share k, whose partial sums are then reduced; 1: none do
  int64_t split_columns;
};

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int64_t max_k = (int64_t{1} << 30) - OCTET_SCALE_BLOCK;

int64_t full_n(const octet_gemm_args& args) { return args.full_n == 0 ? args.b.n : args.full_n; }
int64_t full_k(const octet_gemm_args& args) { return args.full_k == 0 ? args.b.k : args.full_k; }

// Leaves of the tree over k: the largest of 8, 4, 2 and 1 that divides k/128; 1 where 128 does not divide k.
constexpr int leaves_of(int64_t k) {
  const int64_t blocks = k / OCTET_SCALE_BLOCK;
  return k == 0 || k % OCTET_SCALE_BLOCK != 0 ? 1 : static_cast<int>(std::min<int64_t>(8, blocks & -blocks));
}

// Columns of a K segment: as few segments as give a decode step (tiles of 16 rows) a block for each of the 304 CUs of
// an MI325X, and only one where the waves of a block already take all of k, a window each: a second launch would cost
// more than it fills. Of a tree, each leaf has as many, of equal length. A function of the whole product's shape alone,
// for the bits depend on it.
int64_t segment_columns(int64_t n, int64_t k, int leaves = 1) {
  const int64_t blocks = std::max<int64_t>(ceil_div(k, OCTET_SCALE_BLOCK), 1),
                tiles = std::max<int64_t>(ceil_div(n, 16), 1);
  const int64_t wanted = blocks <= 8 ? 1 : std::min(ceil_div(304, tiles), blocks);
  if (leaves > 1) {
    const int64_t of_leaf = blocks / leaves;
    int64_t count = ceil_div(wanted, leaves);
    while (of_leaf % count != 0) count++;
    return of_leaf / count * OCTET_SCALE_BLOCK;
  }
  const int64_t length = ceil_div(blocks, wanted);
  return (ceil_div(blocks, length) < wanted ? blocks / wanted : length) * OCTET_SCALE_BLOCK;
}

int64_t segment_columns(const octet_gemm_args& args) {
  return segment_columns(full_n(args), full_k(args), args.leaves > 0 ? leaves_of(full_k(args)) : 1);
}

// The partial sums there may be, fewest first: a plain sum's segments; a tree's nodes of 2^i leaves, then its segments.
struct SplitCounts {
  int counts[5] = {1};
  int size = 1;
  explicit SplitCounts(const octet_gemm_args& args) {
    const int segments = static_cast<int>(ceil_div(args.b.k, segment_columns(args)));
    for (int nodes = 2; nodes <= args.leaves; nodes *= 2) counts[size++] = nodes;
    if (segments > most()) counts[size++] = segments;
  }
  int most() const { return counts[size - 1]; }
  const int* begin() const { return counts; }
  const int* end() const { return counts + size; }
};

// K is split only up to this m, where tiles of 64 x 64 would not fill the CUs.
int64_t split_rows(int64_t n, int compute_units) { return std::max<int64_t>(compute_units / ceil_div(n, 64), 1) * 64; }

bool is_aligned(const octet_gemm_args& args) {
  const bool fp8 = args.b.dtype != OCTET_BF16;
  return tile_aligned(args.b) && tile_aligned(args.a_stride * (fp8 ? 1 : 2), fp8 ? args.a_scale_stride : 0);
}

// Modelled cost of a staged plan, in columns of k of one 64 x 64 tile: how often the CUs are filled, times the work of
// a filling. A CU holds as many blocks as its LDS does; large tiles keep the matrix unit busy for 85 % of the time,
// small ones (LDS-bound) for 50 %. Filling and draining a tile costs about 512 columns, a reduction two more launches'
// worth.
int64_t cost(const GemmPlan& plan, int64_t k, int compute_units) {
  const int64_t held = std::max<int64_t>(65536 / static_cast<int64_t>(plan.config.lds_bytes), 1);
  const int64_t blocks = plan.tiles_n * plan.tiles_m * plan.splits;
  const int64_t columns = (plan.splits > 1 ? plan.split_columns : k) + 512;
  const int64_t area = plan.config.tile.n * plan.config.tile.m / 4096;
  const int64_t percent = area == 1 ? 50 : 85;
  return ceil_div(blocks, held * compute_units) * held * columns * area * 100 / percent + (plan.splits > 1 ? 2048 : 0);
}

// Whether more splits of a tree would not pay for the launch that adds them: all CUs have a block, or three in four have
// one whose waves are done after eight turns.
bool is_filled(const GemmPlan& plan, int64_t k, int compute_units) {
  const TileConfig& tile = plan.config.tile;
  const int64_t blocks = plan.tiles_n * plan.splits, turn = tile_row_bytes / (tile.fp8 ? 1 : 2) * tile.waves_k;
  return blocks >= compute_units || (blocks * 4 >= compute_units * 3 && k <= 8 * turn * plan.splits);
}

// The tile: `any` where 16-byte loads do not apply; up to 64 tokens the direct one that holds them all, K split into
// its segments, or into so many nodes of its tree as fill the CUs; beyond, the cheapest of the staged ones.
GemmPlan pick_config(const octet_gemm_args& args, int compute_units) {
  const int64_t n = args.b.n, k = args.b.k;
  const bool fp8 = args.b.dtype != OCTET_BF16, aligned = is_aligned(args);
  const int segment = static_cast<int>(segment_columns(args));
  const int leaf = args.leaves > 1 ? static_cast<int>(k / args.leaves) : 0;
  const SplitCounts split_counts(args);
  GemmPlan best{};
  for (const GemmConfig& config : configs) {
    const TileConfig& tile = config.tile;
    if (tile.fp8 != fp8 || tile.aligned != aligned) continue;
    if (aligned && tile.direct() != (args.m <= 64)) continue;
    if (tile.direct() && args.m > tile.m) continue;
    for (const int splits : split_counts) {
      if (splits > 1 && args.m > split_rows(n, compute_units)) continue;
      const bool nodes = splits > 1 && splits <= args.leaves;
      const GemmPlan plan{config, ceil_div(n, tile.n),         ceil_div(args.m, tile.m), segment, leaf,
                          splits, nodes ? k / splits : segment};
      if (tile.direct()) {
        const bool filled = leaf > 0 && is_filled(best, k, compute_units);
        if (best.config.kernel == nullptr || (best.config.kernel == config.kernel && !filled)) best = plan;
      } else if (best.config.kernel == nullptr || cost(plan, k, compute_units) < cost(best, k, compute_units)) {
        best = plan;
      }
    }
  }
  return best;
}

const char* reduce_kernel(const octet_gemm_args& args, const GemmPlan& plan) {
  if (plan.leaf == 0) return plan.splits <= reduce_few ? "gemm_reduce" : "gemm_reduce_many";
  if (plan.splits > args.leaves) return "gemm_reduce_leaves";
  return plan.splits == 2 ? "gemm_reduce_2_nodes" : plan.splits == 4 ? "gemm_reduce_4_nodes" : "gemm_reduce_8_nodes";
}

// [splits, m, n rounded up to 4] f32 for the largest m up to args.m that may be split: it never shrinks as m grows.
size_t workspace_bytes(const octet_gemm_args& args, int compute_units) {
  const int64_t n = args.b.n, k = args.b.k;
  if (n == 0 || k == 0 || args.output_segments > 0) return 0;
  const int64_t splits = SplitCounts(args).most();
  const int64_t rows = std::min(args.m, split_rows(n, compute_units));
  return splits > 1 ? static_cast<size_t>(splits * rows * ceil_div(n, 4) * 16) : 0;
}

// The partial sums this call would leave to its reader: rows of whole quads only, and no bias, which belongs to the
// sum.
int output_segments(const octet_gemm_args& args, int compute_units) {
  if (args.m == 0 || args.b.n == 0 || args.b.n % 4 != 0 || args.bias != nullptr) return 0;
  const GemmPlan plan = pick_config(args, compute_units);
  return plan.splits > 1 ? plan.splits : 0;
}

void check_shape(const octet_gemm_args& args, const DeviceFacts& device) {
  const octet_weight& b = args.b;
  require_range("gemm", "m", args.m, 0, INT32_MAX);
  require_range("gemm", "b.n", b.n, 0, INT32_MAX);
  require_range("gemm", "b.k", b.k, 0, max_k);
  require(b.experts == 1, "gemm: b.experts = %d must be 1", b.experts);
  require(b.layout == OCTET_ROW_MAJOR, "gemm: b.layout = %d must be row-major (0)", b.layout);
  require(b.dtype == OCTET_BF16 || b.dtype == device.fp8, "gemm: b.dtype = %d must be bf16 (%d) or the FP8 of %s (%d)",
          b.dtype, OCTET_BF16, device.name.c_str(), device.fp8);
  require(args.output_dtype == OCTET_BF16 || args.output_dtype == OCTET_F32,
          "gemm: output_dtype = %d must be f32 (%d) or bf16 (%d)", args.output_dtype, OCTET_F32, OCTET_BF16);
  require_range("gemm", "b.scale_row_offset", b.scale_row_offset, 0, OCTET_SCALE_BLOCK - 1);
  require_range("gemm", "b.scale_column_offset", b.scale_column_offset, 0, OCTET_SCALE_BLOCK - 1);
  require(args.full_n == 0 || (args.full_n >= b.n && args.full_n <= INT32_MAX),
          "gemm: full_n = %lld must be 0 or %lld..%d", static_cast<long long>(args.full_n), static_cast<long long>(b.n),
          INT32_MAX);
  require(args.full_k == 0 || (args.full_k >= b.k && args.full_k <= max_k),
          "gemm: full_k = %lld must be 0 or %lld..%lld", static_cast<long long>(args.full_k),
          static_cast<long long>(b.k), static_cast<long long>(max_k));
  require(args.leaves == 0 || args.leaves == 1 || args.leaves == 2 || args.leaves == 4 || args.leaves == 8,
          "gemm: leaves = %d must be 0, 1, 2, 4 or 8", args.leaves);
  if (args.leaves == 0) return;
  const int64_t whole = full_k(args);
  const int all = leaves_of(whole);
  require(args.leaves <= all && b.k * all == whole * args.leaves,
          "gemm: leaves = %d, but b.k = %lld is %.3g of the %d leaves of full_k = %lld", args.leaves,
          static_cast<long long>(b.k), whole == 0 ? 0.0 : static_cast<double>(b.k) * all / static_cast<double>(whole),
          all, static_cast<long long>(whole));
}

// Rows this far apart must stay within 64-bit byte offsets.
void require_stride(const char* name, int64_t stride, int64_t rows) {
  require_range("gemm", name, stride, 0, (int64_t{1} << 60) / std::max<int64_t>(rows, 1));
}

}  // namespace

extern "C" octet_status octet_gemm_workspace(const octet_gemm_args* args, octet_device* device, size_t* size) {
  return guarded([&] {
    const auto& checked_args = checked("gemm", args);
    require(device != nullptr, "gemm: device is null");
    require(size != nullptr, "gemm: size is null");
    check_shape(checked_args, facts(device));
    *size = workspace_bytes(checked_args, facts(device).compute_units);
  });
}

extern "C" octet_status octet_gemm_segments(const octet_gemm_args* args, octet_device* device, int32_t* segments) {
  return guarded([&] {
    const auto& checked_args = checked("gemm", args);
    require(device != nullptr, "gemm: device is null");
    require(segments != nullptr, "gemm: segments is null");
    check_shape(checked_args, facts(device));
    *segments = output_segments(checked_args, facts(device).compute_units);
  });
}

extern "C" octet_status octet_gemm(const octet_gemm_args* gemm_args, octet_stream* stream) {
  return guarded([&] {
    const octet_gemm_args& args = checked("gemm", gemm_args);
    require(stream != nullptr, "gemm: stream is null");
    const DeviceFacts& device = facts(stream);
    const octet_weight& b = args.b;
    check_shape(args, device);
    require_stride("a_stride", args.a_stride, args.m);
    require_stride("b.row_stride", b.row_stride, b.n);
    require_stride("output_stride", args.output_stride, args.m);
    require(args.m <= 1 || args.output_stride >= b.n, "gemm: output_stride = %lld, rows of b.n = %lld overlap",
            static_cast<long long>(args.output_stride), static_cast<long long>(b.n));
    if (args.m == 0 || b.n == 0) return;

    require_pointer("gemm", "output", args.output);
    require_pointer_or_null("gemm", "bias", args.bias);
    if (b.k > 0) {
      require_pointer("gemm", "a", args.a);
      require_pointer("gemm", "b.data", b.data);
    }
    if (b.k > 0 && b.dtype != OCTET_BF16) {
      require_pointer("gemm", "a_scales", args.a_scales);
      require_pointer("gemm", "b.scales", b.scales);
      require_stride("a_scale_stride", args.a_scale_stride, args.m);
      require_stride("b.scale_row_stride", b.scale_row_stride, b.n);
    }
    require_workspace("gemm", args.workspace, args.workspace_size, workspace_bytes(args, device.compute_units));

    const GemmPlan plan = pick_config(args, device.compute_units);
    const bool deferred = args.output_segments > 0;
    require(args.leaves == 0 || args.output_dtype == OCTET_BF16 || deferred,
            "gemm: output_dtype = %d of a tree must be bf16 (%d)", args.output_dtype, OCTET_BF16);
    if (deferred) {
      const int splits = output_segments(args, device.compute_units);
      require(args.output_segments == splits, "gemm: output_segments = %d, this product leaves %d partial sums",
              args.output_segments, splits);
      require(args.output_dtype == OCTET_F32 && args.output_stride % 4 == 0,
              "gemm: partial sums are f32 (%d) in rows a multiple of 4 apart; output_dtype = %d, output_stride = %lld",
              OCTET_F32, args.output_dtype, static_cast<long long>(args.output_stride));
      require(args.output_segment_stride % 4 == 0 &&
                  args.output_segment_stride >= (args.m - 1) * args.output_stride + b.n &&
                  args.output_segment_stride <= (int64_t{1} << 60) / args.output_segments,
              "gemm: output_segment_stride = %lld must be a multiple of 4 that holds m = %lld rows %lld apart",
              static_cast<long long>(args.output_segment_stride), static_cast<long long>(args.m),
              static_cast<long long>(args.output_stride));
    }
    const int64_t workspace_stride = ceil_div(b.n, 4) * 4;
    const int threads = plan.config.tile.threads();
    const int64_t tiles = plan.tiles_n * plan.tiles_m;
    const int64_t blocks = tiles * plan.splits;
    const bool split = plan.splits > 1;
    require(blocks <= max_blocks(threads), "gemm: m = %lld, n = %lld: %lld blocks, one launch holds %lld",
            static_cast<long long>(args.m), static_cast<long long>(b.n), static_cast<long long>(blocks),
            static_cast<long long>(max_blocks(threads)));
    const GemmParams params{.a = static_cast<const uint8_t*>(args.a),
                            .a_scales = args.a_scales,
                            .b = b,
                            .bias = static_cast<const uint16_t*>(args.bias),
                            .output = args.output,
                            .partials = split ? static_cast<float*>(deferred ? args.output : args.workspace) : nullptr,
                            .m = args.m,
                            .a_stride = args.a_stride,
                            .a_scale_stride = args.a_scale_stride,
                            .output_stride = args.output_stride,
                            .partial_stride = deferred ? args.output_stride : workspace_stride,
                            .partial_segment_stride = deferred ? args.output_segment_stride : args.m * workspace_stride,
                            .tiles_n = static_cast<uint32_t>(plan.tiles_n),
                            .tiles_m = static_cast<uint32_t>(plan.tiles_m),
                            .segment = plan.segment,
                            .split_columns = static_cast<int>(plan.split_columns),
                            .splits = plan.splits,
                            .leaf = plan.splits <= args.leaves ? plan.leaf : 0,
                            .leaves = args.leaves,
                            .output_dtype = args.output_dtype};
    launch(stream, plan.config.kernel, Grid{static_cast<uint32_t>(blocks)}, threads / device.wave_size,
           plan.config.lds_bytes, params);
    if (split && !deferred) {
      // split_rows bounds m here, so the rows always fit a grid.
      const int64_t waves = ceil_div(ceil_div(b.n, 4), device.wave_size);
      const Grid grid{static_cast<uint32_t>(ceil_div(waves, gemm_reduce_waves)), static_cast<uint32_t>(args.m)};
      launch(stream, reduce_kernel(args, plan), grid, static_cast<int>(std::min<int64_t>(waves, gemm_reduce_waves)), 0,
             params);
    }
  });
}

#endif
