// moe_gate_up, moe_down: the two grouped GEMMs of an MoE layer, over slots sorted by expert.
//
//   gate_up: y = silu(x[t] . gate[e]^T) * (x[t] . up[e]^T) in f32 for each slot of expert e with t = slot_pairs[slot] /
//            top_k, then FP8 with one scale per slot and 128 columns
//   down:    output[slot] = x[slot] . down[e]^T, bf16
//
// Layouts: as gemm, with a stack of experts; the main loop is in gemm_tile.h, weights on A, slots on B.
// Grid: x counts (tile of output columns, slot tile), slot tiles fastest, so that the slot tiles of one expert that
// share a weight tile run together on one XCD. How many slot tiles an expert has is known on the device only: the grid
// covers the most there can be, every block finds its expert and tile from expert_offsets, and those without one leave
// at once.
// gate_up: a block owns 128 columns of gate and of up, interleaved by 16 rows, so that a lane holds both factors of its
// y and the scale's amax is local to the block.
//
// The sum over k is cut into segments of moe_segment columns, added in order, and no slot sees another: a token's bits
// do not depend on the batch.
//
// Floor at Qwen3-235B on one GPU: 64 tokens reach 125.9 experts of 18.87 MB: 2.38 GB, 489 us at 4.86 TB/s, two thirds
// of it gate_up; 16,384 tokens are 4.95 TFLOP, 3.5 ms at 1,409 TFLOP/s.
#include "gemm_tile.h"

struct MoeGateUpParams {
  const uint8_t* x;               // [tokens, hidden]
  const float* x_scales;          // [tokens, ceil(hidden/128)]
  octet_weight gate, up;          // [experts, intermediate, hidden]
  const int32_t* expert_offsets;  // [experts + 1]
  const int32_t* slot_pairs;      // [slots]
  uint8_t* output;                // [slots, intermediate]
  float* scales;                  // [slots, ceil(intermediate/128)]
  int64_t tokens;
  int64_t x_stride, x_scale_stride, output_stride, scale_stride;
  int32_t top_k;
  uint32_t slot_tiles;
};

struct MoeDownParams {
  const uint8_t* x;               // [slots, intermediate]
  const float* x_scales;          // [slots, ceil(intermediate/128)]
  octet_weight down;              // [experts, hidden, intermediate]
  const int32_t* expert_offsets;  // [experts + 1]
  uint16_t* output;               // [slots, hidden] bf16
  int64_t slots;
  int64_t x_stride, x_scale_stride, output_stride;
  uint32_t slot_tiles;
};

// Every configuration: the kernel's name and its tile. gate_up's n counts rows of gate and up together.
#define OCTET_MOE_GATE_UP_CONFIGS(X)                                                              \
  X(moe_gate_up_m16, .fp8 = true, .n = 256, .m = 16, .waves_n = 4, .waves_m = 1, .aligned = true) \
  X(moe_gate_up_m64, .fp8 = true, .n = 256, .m = 64, .waves_n = 4, .waves_m = 2, .aligned = true) \
  X(moe_gate_up_any, .fp8 = true, .n = 256, .m = 16, .waves_n = 4, .waves_m = 1, .aligned = false)
#define OCTET_MOE_DOWN_CONFIGS(X)                                                              \
  X(moe_down_m16, .fp8 = true, .n = 128, .m = 16, .waves_n = 4, .waves_m = 1, .aligned = true) \
  X(moe_down_m64, .fp8 = true, .n = 128, .m = 64, .waves_n = 2, .waves_m = 2, .aligned = true) \
  X(moe_down_any, .fp8 = true, .n = 128, .m = 16, .waves_n = 4, .waves_m = 1, .aligned = false)

#define OCTET_MOE_TILE(name, ...) constexpr TileConfig name##_tile{__VA_ARGS__};
OCTET_MOE_GATE_UP_CONFIGS(OCTET_MOE_TILE)
OCTET_MOE_DOWN_CONFIGS(OCTET_MOE_TILE)

constexpr int moe_columns = 128;  // output columns of a block

template <TileConfig C>
union GateUpLds {
  TileLds<C> tile;
  float y[C.m][moe_columns + 4];  // [slot][column]
};

#if !defined(OCTET_HOST)
#include "columns.h"

constexpr int moe_segment = 512;  // columns of k

// The slots first..last of one expert that a block works on; expert -1: none.
struct SlotTile {
  int expert;
  int64_t first, last;
};

// Tile number `tile` of those that cut every expert's slots into tiles of m, experts in order. Each wave finds it by
// itself: an inclusive sum over the experts, a wave's worth at a time.
OCTET_INLINE SlotTile find_slot_tile(const int32_t* expert_offsets, int experts, int64_t slots, int tile, int m) {
  const int bound = static_cast<int>(slots);
  int before = 0;
  for (int base = 0; base < experts; base += wave_size) {
    const int e = base + lane_index();
    // NOTE: clamped, so that offsets from a broken caller cannot lead outside the slots.
    const int begin = e < experts ? min_of(max_of(expert_offsets[e], 0), bound) : bound;
    const int end = e < experts ? min_of(max_of(expert_offsets[e + 1], begin), bound) : bound;
    const int tiles = (end - begin + m - 1) / m;
    int through = tiles;
    for (int delta = 1; delta < wave_size; delta *= 2) {
      const int other = __shfl_up(through, delta);
      if (lane_index() >= delta) through += other;
    }
    const uint64_t reached = __ballot(before + through > tile);
    if (reached != 0) {
      const int owner = __builtin_ctzll(reached);
      const int inside = tile - before - __shfl(through - tiles, owner);
      const int first = __shfl(begin, owner) + inside * m;
      return {base + owner, first, min_of(first + m, __shfl(end, owner)) - 1};
    }
    before += __shfl(through, wave_size - 1);
  }
  return {-1, 0, 0};
}

// Tile rows 16 to 31 of every 32 are of up, the others of gate.
struct GateUpRows {
  WeightRows gate, up;
  OCTET_INLINE TileRow operator()(int i) const {
    const int row = i / 32 * 16 + i % 16;
    return i / 16 % 2 == 0 ? gate(row) : up(row);
  }
};

// The token of a slot; -1: a slot without a pair.
OCTET_INLINE int64_t token_of(const MoeGateUpParams& p, int64_t slot) {
  const int pair = p.slot_pairs[slot];
  return pair >= 0 && pair / p.top_k < p.tokens ? pair / p.top_k : -1;
}

struct GatheredRows {
  const MoeGateUpParams& p;
  SlotTile slots;
  OCTET_INLINE TileRow operator()(int i) const {
    const int64_t token = max_of<int64_t>(token_of(p, min_of(slots.first + i, slots.last)), 0);
    return {p.x, static_cast<uint64_t>(token * p.x_stride), p.x_scales,
            static_cast<uint64_t>(token * p.x_scale_stride * 4)};
  }
};

struct SlotRows {
  const MoeDownParams& p;
  SlotTile slots;
  OCTET_INLINE TileRow operator()(int i) const {
    const int64_t slot = min_of<int64_t>(i, slots.last - slots.first);
    return {p.x + slots.first * p.x_stride, static_cast<uint64_t>(slot * p.x_stride),
            p.x_scales + slots.first * p.x_scale_stride, static_cast<uint64_t>(slot * p.x_scale_stride * 4)};
  }
};

template <TileConfig C>
OCTET_INLINE void moe_gate_up_kernel(const MoeGateUpParams& p) {
  const uint32_t block = xcd_contiguous(blockIdx.x, gridDim.x);
  const SlotTile slots =
      find_slot_tile(p.expert_offsets, p.gate.experts, p.tokens * p.top_k, static_cast<int>(block % p.slot_tiles), C.m);
  if (slots.expert < 0) return;
  const int64_t first_column = static_cast<int64_t>(block / p.slot_tiles) * moe_columns;

  auto& lds = OCTET_LDS(GateUpLds<C>);
  using Tile = GemmTile<C>;
  Tile tile;
  tile.run(lds.tile, GateUpRows{{p.gate, slots.expert, first_column}, {p.up, slots.expert, first_column}},
           GatheredRows{p, slots}, TileK{0, static_cast<int>(p.gate.k), moe_segment, p.gate.scale_column_offset});

  // Both factors of a y are in one lane.
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Tile::tiles_n; i += 2) {
#pragma unroll
    for (int j = 0; j < Tile::tiles_m; j++) {
#pragma unroll
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        const int slot = Tile::wave_token() + 16 * j + MmaAccumulator::column(r);
        const int column = (Tile::wave_row() + 16 * i) / 2 + MmaAccumulator::row(r);
        lds.y[slot][column] = silu(tile.sum[i][j][r]) * tile.sum[i + 1][j][r];
      }
    }
  }
  __syncthreads();

  // 16 lanes quantise the 128 columns of a slot.
  const int64_t column = first_column + threadIdx.x % 16 * 8;
  const int64_t count = p.gate.n - column;
  const bool aligned = p.output_stride % 8 == 0;
  for (int row = 0; row < C.m; row += Tile::threads / 16) {
    const int at = row + static_cast<int>(threadIdx.x) / 16;
    float y[8];
#pragma unroll
    for (int i = 0; i < 8; i++) y[i] = i < count && at < C.m ? lds.y[at][threadIdx.x % 16 * 8 + i] : 0.0f;
    const float scale = block_scale<native_fp8>(y);
    const int64_t slot = slots.first + at;
    if (slot > slots.last || at >= C.m || token_of(p, slot) < 0) continue;
    if (threadIdx.x % 16 == 0) p.scales[slot * p.scale_stride + first_column / OCTET_SCALE_BLOCK] = scale;
    store_codes<native_fp8>(p.output + slot * p.output_stride, column, count, aligned, y, scale);
  }
}

template <TileConfig C>
OCTET_INLINE void moe_down_kernel(const MoeDownParams& p) {
  const uint32_t block = xcd_contiguous(blockIdx.x, gridDim.x);
  const SlotTile slots =
      find_slot_tile(p.expert_offsets, p.down.experts, p.slots, static_cast<int>(block % p.slot_tiles), C.m);
  if (slots.expert < 0) return;
  const int64_t first_column = static_cast<int64_t>(block / p.slot_tiles) * moe_columns;

  auto& lds = OCTET_LDS(TileLds<C>);
  GemmTile<C> tile;
  tile.run(lds, WeightRows(p.down, slots.expert, first_column), SlotRows{p, slots},
           TileK{0, static_cast<int>(p.down.k), moe_segment, p.down.scale_column_offset});
  tile.drain(lds, [&](int row, int column, f32x4 value) {
    const int64_t slot = slots.first + row, n = first_column + column;
    if (slot > slots.last || n >= p.down.n) return;
    uint16_t* output = p.output + slot * p.output_stride + n;
    if (p.output_stride % 4 == 0 && n + 4 <= p.down.n) {
      *reinterpret_cast<u32x2*>(output) =
          u32x2{f32_to_bf16(value[0]) | static_cast<uint32_t>(f32_to_bf16(value[1])) << 16,
                f32_to_bf16(value[2]) | static_cast<uint32_t>(f32_to_bf16(value[3])) << 16};
    } else {
      for (int i = 0; i < 4; i++) {
        if (n + i < p.down.n) output[i] = f32_to_bf16(value[i]);
      }
    }
  });
}

#define OCTET_MOE_GATE_UP_KERNEL(name, ...) \
  OCTET_KERNEL(name, MoeGateUpParams, name##_tile.threads()) { moe_gate_up_kernel<name##_tile>(params); }
OCTET_MOE_GATE_UP_CONFIGS(OCTET_MOE_GATE_UP_KERNEL)

#define OCTET_MOE_DOWN_KERNEL(name, ...) \
  OCTET_KERNEL(name, MoeDownParams, name##_tile.threads()) { moe_down_kernel<name##_tile>(params); }
OCTET_MOE_DOWN_CONFIGS(OCTET_MOE_DOWN_KERNEL)
#endif

#if defined(OCTET_HOST)
#include <algorithm>

#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

constexpr int max_experts = 512;

struct MoeConfig {
  const char* kernel;
  TileConfig tile;
  size_t lds_bytes;
};

#define OCTET_MOE_GATE_UP_ENTRY(name, ...) {#name, name##_tile, sizeof(GateUpLds<name##_tile>)},
constexpr MoeConfig gate_up_configs[] = {OCTET_MOE_GATE_UP_CONFIGS(OCTET_MOE_GATE_UP_ENTRY)};
#define OCTET_MOE_DOWN_ENTRY(name, ...) {#name, name##_tile, sizeof(TileLds<name##_tile>)},
constexpr MoeConfig down_configs[] = {OCTET_MOE_DOWN_CONFIGS(OCTET_MOE_DOWN_ENTRY)};

// The small tile while an expert has no more than two of them on average: reading weights twice from L2 costs less than
// multiplying padding.
const MoeConfig& pick_config(const MoeConfig (&configs)[3], int64_t slots, int experts, bool aligned) {
  if (!aligned) return configs[2];
  return slots <= 2 * configs[0].tile.m * int64_t{experts} ? configs[0] : configs[1];
}

// The most tiles of m that slots of so many experts can take: every expert that has slots may leave one tile unfilled.
int64_t slot_tiles(int64_t slots, int experts, int m) {
  return (slots + std::min<int64_t>(slots, experts) * (m - 1)) / m;
}

void launch_grouped(octet_stream* stream, const char* op, const MoeConfig& config, int64_t slot_tiles, int64_t n,
                    const auto& params) {
  const int64_t blocks = slot_tiles * ((n + moe_columns - 1) / moe_columns);
  require(blocks <= max_blocks(config.tile.threads()),
          "%s: %lld slot tiles by %lld columns are too many for one launch", op, static_cast<long long>(slot_tiles),
          static_cast<long long>(n));
  launch(stream, config.kernel, Grid{static_cast<uint32_t>(blocks)}, config.tile.threads() / facts(stream).wave_size,
         config.lds_bytes, params);
}

// A stack of FP8 experts in the encoding the device multiplies.
void require_experts(const char* op, const char* name, const octet_weight& w, octet_dtype fp8) {
  const std::string prefix = std::string(name) + ".";
  const auto range = [&](const char* field, int64_t value, int64_t low, int64_t high) {
    require_range(op, (prefix + field).c_str(), value, low, high);
  };
  require(w.dtype == fp8, "%s: %s.dtype = %d, this device computes in %d", op, name, static_cast<int>(w.dtype),
          static_cast<int>(fp8));
  require(w.layout == OCTET_ROW_MAJOR, "%s: %s.layout = %d must be OCTET_ROW_MAJOR (0)", op, name,
          static_cast<int>(w.layout));
  // Experts this far apart stay within 64-bit offsets.
  constexpr int64_t max_expert_stride = int64_t{1} << 50;
  range("experts", w.experts, 1, max_experts);
  range("n", w.n, 0, int64_t{1} << 26);
  range("k", w.k, 0, int64_t{1} << 30);
  range("scale_row_offset", w.scale_row_offset, 0, OCTET_SCALE_BLOCK - 1);
  range("scale_column_offset", w.scale_column_offset, 0, OCTET_SCALE_BLOCK - 1);
  range("row_stride", w.row_stride, w.k, max_stride);
  range("expert_stride", w.expert_stride, 0, max_expert_stride);
  range("scale_row_stride", w.scale_row_stride,
        (w.scale_column_offset + w.k + OCTET_SCALE_BLOCK - 1) / OCTET_SCALE_BLOCK, max_stride);
  range("scale_expert_stride", w.scale_expert_stride, 0, max_expert_stride);
}

void require_expert_pointers(const char* op, const char* name, const octet_weight& w) {
  require_pointer(op, (std::string(name) + ".data").c_str(), w.data);
  require_pointer(op, (std::string(name) + ".scales").c_str(), w.scales);
}

int64_t scale_columns(int64_t columns) { return (columns + OCTET_SCALE_BLOCK - 1) / OCTET_SCALE_BLOCK; }

// Slots are numbered in 32 bits.
void require_slots(const char* op, int64_t tokens, int32_t top_k) {
  require_range(op, "top_k", top_k, 1, 16);
  require_range(op, "tokens", tokens, 0, (int64_t{1} << 30) / top_k);
}

const octet_moe_gate_up_args& gate_up_checked(const octet_moe_gate_up_args* pointer, octet_dtype fp8) {
  constexpr const char* op = "moe_gate_up";
  const auto& args = checked(op, pointer);
  require_slots(op, args.tokens, args.top_k);
  require_experts(op, "gate", args.gate, fp8);
  require_experts(op, "up", args.up, fp8);
  const auto &gate = args.gate, &up = args.up;
  require(gate.n == up.n && gate.k == up.k && gate.experts == up.experts &&
              gate.scale_column_offset == up.scale_column_offset,
          "moe_gate_up: gate [%d, %lld, %lld] with scale_column_offset %d and up [%d, %lld, %lld] with %d must agree",
          gate.experts, static_cast<long long>(gate.n), static_cast<long long>(gate.k), gate.scale_column_offset,
          up.experts, static_cast<long long>(up.n), static_cast<long long>(up.k), up.scale_column_offset);
  require_range(op, "x_stride", args.x_stride, gate.k, max_stride);
  require_range(op, "x_scale_stride", args.x_scale_stride, scale_columns(gate.k), max_stride);
  require_range(op, "output_stride", args.output_stride, gate.n, max_stride);
  require_range(op, "scale_stride", args.scale_stride, scale_columns(gate.n), max_stride);
  return args;
}

const octet_moe_down_args& down_checked(const octet_moe_down_args* pointer, octet_dtype fp8) {
  constexpr const char* op = "moe_down";
  const auto& args = checked(op, pointer);
  require_slots(op, args.tokens, args.top_k);
  require_experts(op, "down", args.down, fp8);
  require_range(op, "x_stride", args.x_stride, args.down.k, max_stride);
  require_range(op, "x_scale_stride", args.x_scale_stride, scale_columns(args.down.k), max_stride);
  require_range(op, "output_stride", args.output_stride, args.down.n, max_stride);
  return args;
}

}  // namespace
}  // namespace octet

extern "C" octet_status octet_moe_gate_up(const octet_moe_gate_up_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "moe_gate_up";
    require(stream != nullptr, "moe_gate_up: stream is null");
    const auto& args = gate_up_checked(pointer, facts(stream).fp8);
    if (args.tokens == 0 || args.gate.n == 0) return;
    require_pointer(op, "x", args.x);
    require_pointer(op, "x_scales", args.x_scales);
    require_expert_pointers(op, "gate", args.gate);
    require_expert_pointers(op, "up", args.up);
    require_pointer(op, "expert_offsets", args.expert_offsets);
    require_pointer(op, "slot_pairs", args.slot_pairs);
    require_pointer(op, "output", args.output);
    require_pointer(op, "scales", args.scales);
    const int64_t slots = args.tokens * args.top_k;
    // Rows of x are gathered: each must lie within 2^32 bytes of the first.
    const bool aligned = tile_aligned(args.gate) && tile_aligned(args.up) && tile_aligned(args.x_stride) &&
                         args.tokens * args.x_stride <= UINT32_MAX;
    const MoeConfig& config = pick_config(gate_up_configs, slots, args.gate.experts, aligned);
    const int64_t tiles = slot_tiles(slots, args.gate.experts, config.tile.m);
    const MoeGateUpParams params{
        .x = static_cast<const uint8_t*>(args.x),
        .x_scales = args.x_scales,
        .gate = args.gate,
        .up = args.up,
        .expert_offsets = args.expert_offsets,
        .slot_pairs = args.slot_pairs,
        .output = static_cast<uint8_t*>(args.output),
        .scales = args.scales,
        .tokens = args.tokens,
        .x_stride = args.x_stride,
        .x_scale_stride = args.x_scale_stride,
        .output_stride = args.output_stride,
        .scale_stride = args.scale_stride,
        .top_k = args.top_k,
        .slot_tiles = static_cast<uint32_t>(tiles),
    };
    launch_grouped(stream, op, config, tiles, args.gate.n, params);
  });
}

extern "C" octet_status octet_moe_gate_up_workspace(const octet_moe_gate_up_args* pointer, octet_device* device,
                                                    size_t* size) {
  using namespace octet;
  return guarded([&] {
    require(device != nullptr, "moe_gate_up: device is null");
    require(size != nullptr, "moe_gate_up: size is null");
    gate_up_checked(pointer, facts(device).fp8);
    *size = 0;
  });
}

extern "C" octet_status octet_moe_down(const octet_moe_down_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "moe_down";
    require(stream != nullptr, "moe_down: stream is null");
    const auto& args = down_checked(pointer, facts(stream).fp8);
    if (args.tokens == 0 || args.down.n == 0) return;
    require_pointer(op, "x", args.x);
    require_pointer(op, "x_scales", args.x_scales);
    require_expert_pointers(op, "down", args.down);
    require_pointer(op, "expert_offsets", args.expert_offsets);
    require_pointer(op, "output", args.output);
    const int64_t slots = args.tokens * args.top_k;
    const MoeConfig& config =
        pick_config(down_configs, slots, args.down.experts, tile_aligned(args.down) && tile_aligned(args.x_stride));
    const int64_t tiles = slot_tiles(slots, args.down.experts, config.tile.m);
    const MoeDownParams params{
        .x = static_cast<const uint8_t*>(args.x),
        .x_scales = args.x_scales,
        .down = args.down,
        .expert_offsets = args.expert_offsets,
        .output = static_cast<uint16_t*>(args.output),
        .slots = slots,
        .x_stride = args.x_stride,
        .x_scale_stride = args.x_scale_stride,
        .output_stride = args.output_stride,
        .slot_tiles = static_cast<uint32_t>(tiles),
    };
    launch_grouped(stream, op, config, tiles, args.down.n, params);
  });
}

extern "C" octet_status octet_moe_down_workspace(const octet_moe_down_args* pointer, octet_device* device,
                                                 size_t* size) {
  using namespace octet;
  return guarded([&] {
    require(device != nullptr, "moe_down: device is null");
    require(size != nullptr, "moe_down: size is null");
    down_checked(pointer, facts(device).fp8);
    *size = 0;
  });
}
#endif
