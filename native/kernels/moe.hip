// moe_gate_up, moe_down: the two grouped GEMMs of an MoE layer, over slots sorted by expert.
//
//   gate_up: y = silu(x[t] . gate[e]^T) * (x[t] . up[e]^T) in f32 for each slot of expert e with t = slot_pairs[slot] /
//            top_k, then FP8 with one scale per slot and 128 columns
//   down:    output[slot] = x[slot] . down[e]^T, bf16
//
// Layouts: as gemm, with a stack of experts; the main loop is in gemm_tile.h, weights on A, slots on B.
// Grid: x counts (tile of output columns, slot tile), slot tiles fastest: the slot tiles of one expert that share a
// weight tile run together on one XCD, and every XCD has its share of the work wherever the used slot tiles end. How
// many slot tiles an expert has is known on the device only: the grid covers the most there can be, every block finds
// its expert and tile from expert_offsets, and those without one leave after a load or two.
// gate_up: a block owns 128 columns of gate and of up, interleaved by 16 rows, so that a lane holds both factors of its
// y, the scale's amax is local to the block, and y leaves as FP8. Where that would leave CUs idle (few experts at work,
// or narrow shards) a block owns 16 columns: y goes to the workspace in f32 and moe_gate_up_quantize makes the same
// codes of it.
//
// Few slots an expert: the waves of a block divide k and read the weights straight from memory, each byte once
// (gemm_tile.h, direct). Many: 64 or 128 slots a block, through LDS. The sum over k has one order in all of them and no
// slot sees another: a token's bits do not depend on the batch.
//
// Floor at Qwen3-235B on one GPU: 64 tokens reach 125.9 experts of 18.87 MB: 2.38 GB, 489 us at 4.86 TB/s, two thirds
// of it gate_up; 16,384 tokens are 4.95 TFLOP, 3.5 ms at 1,409 TFLOP/s. docs/moe.md has the rest.
#include "moe_gate_up.h"

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
#define OCTET_MOE_GATE_UP_CONFIGS(X)                                                                                \
  X(moe_gate_up_m16n32, .fp8 = true, .n = 32, .m = 16, .waves_n = 1, .waves_m = 1, .aligned = true, .waves_k = 4)   \
  X(moe_gate_up_m16n256, .fp8 = true, .n = 256, .m = 16, .waves_n = 4, .waves_m = 1, .aligned = true, .waves_k = 2) \
  X(moe_gate_up_m64n256, .fp8 = true, .n = 256, .m = 64, .waves_n = 4, .waves_m = 2, .aligned = true)               \
  X(moe_gate_up_m128n128, .fp8 = true, .n = 128, .m = 128, .waves_n = 2, .waves_m = 2, .aligned = true)             \
  X(moe_gate_up_any, .fp8 = true, .n = 256, .m = 16, .waves_n = 4, .waves_m = 1, .aligned = false)
#define OCTET_MOE_DOWN_CONFIGS(X)                                                                              \
  X(moe_down_m16n32, .fp8 = true, .n = 32, .m = 16, .waves_n = 1, .waves_m = 1, .aligned = true, .waves_k = 4) \
  X(moe_down_m64n128, .fp8 = true, .n = 128, .m = 64, .waves_n = 2, .waves_m = 2, .aligned = true)             \
  X(moe_down_m128n128, .fp8 = true, .n = 128, .m = 128, .waves_n = 2, .waves_m = 2, .aligned = true)           \
  X(moe_down_any, .fp8 = true, .n = 128, .m = 16, .waves_n = 4, .waves_m = 1, .aligned = false)

#define OCTET_MOE_TILE(name, ...) constexpr TileConfig name##_tile{__VA_ARGS__};
OCTET_MOE_GATE_UP_CONFIGS(OCTET_MOE_TILE)
OCTET_MOE_DOWN_CONFIGS(OCTET_MOE_TILE)

constexpr int max_experts = 512;

#if !defined(OCTET_HOST)
// Tile number `tile` of those that cut every expert's slots into tiles of m, experts in order. Each wave finds it by
// itself: a lane takes neighbouring experts, and an inclusive sum over the lanes says whose tile it is.
template <int m>
OCTET_INLINE SlotTile find_slot_tile(const int32_t* expert_offsets, int experts, int64_t slots, int tile) {
  constexpr int lane_experts = max_experts / wave_size;
  constexpr SlotTile none{-1, 0, 0};
  const int bound = static_cast<int>(slots);
  // NOTE: clamped, so that offsets from a broken caller cannot lead outside the slots.
  const auto edge = [&](int e) { return min_of(max_of(expert_offsets[min_of(e, experts)], 0), bound); };
  // Most surplus blocks leave here: no more than one tile of each expert is not full.
  const int used = edge(experts);
  if (tile >= (used + int64_t{min_of(used, experts)} * (m - 1)) / m) return none;

  int edges[lane_experts + 1], tiles[lane_experts];
#pragma unroll
  for (int i = 0; i <= lane_experts; i++) edges[i] = edge(lane_index() * lane_experts + i);
  int through = 0;
#pragma unroll
  for (int i = 0; i < lane_experts; i++) {
    edges[i + 1] = max_of(edges[i + 1], edges[i]);
    tiles[i] = (edges[i + 1] - edges[i] + m - 1) / m;
    through += tiles[i];
  }
  const int own = through;
  for (int delta = 1; delta * lane_experts < experts; delta *= 2) {
    const int other = __shfl_up(through, delta);
    if (lane_index() >= delta) through += other;
  }
  const uint64_t reached = __ballot(through > tile);
  if (reached == 0) return none;

  int before = through - own, expert = 0, first = 0, end = 0;
#pragma unroll
  for (int i = 0; i < lane_experts; i++) {
    if (tile >= before && tile < before + tiles[i]) {
      expert = lane_index() * lane_experts + i;
      first = edges[i] + (tile - before) * m;
      end = edges[i + 1];
    }
    before += tiles[i];
  }
  const int owner = __builtin_ctzll(reached);
  expert = __shfl(expert, owner);
  first = __shfl(first, owner);
  end = __shfl(end, owner);
  return {expert, first, min_of(first + m, end) - 1};
}

// Tile rows 16 to 31 of every 32 are of up, the others of gate.
struct GateUpRows {
  WeightRows gate, up;
  OCTET_INLINE TileRow operator()(int i) const {
    const int row = i / 32 * 16 + i % 16;
    return i / 16 % 2 == 0 ? gate(row) : up(row);
  }
};

struct GatheredRows {
  const MoeGateUpParams& p;
  SlotTile slots;
  OCTET_INLINE TileRow operator()(int i) const {
    const uint64_t token = max_of(token_of(p, min_of(slots.first + i, slots.last)), 0);
    return {p.x, token * p.x_stride, p.x_scales, token * p.x_scale_stride * 4};
  }
};

struct SlotRows {
  const uint8_t* data;
  const float* scales;
  int64_t last, row_bytes, scale_row_bytes;
  OCTET_INLINE SlotRows(const MoeDownParams& p, const SlotTile& slots)
      : data(wave_uniform(p.x + slots.first * p.x_stride)),
        scales(wave_uniform(p.x_scales + slots.first * p.x_scale_stride)),
        last(slots.last - slots.first),
        row_bytes(p.x_stride),
        scale_row_bytes(p.x_scale_stride * 4) {}
  OCTET_INLINE TileRow operator()(int i) const {
    const int64_t row = min_of<int64_t>(i, last);
    return {data, static_cast<uint64_t>(row * row_bytes), scales, static_cast<uint64_t>(row * scale_row_bytes)};
  }
};

// One segment: blocks are made enough by narrow tiles, never by cutting k.
OCTET_INLINE TileK whole_k(const octet_weight& w) {
  const int k = static_cast<int>(w.k);
  return {0, k, static_cast<int>(ceil_div(max_of(k, 1), OCTET_SCALE_BLOCK)) * OCTET_SCALE_BLOCK, w.scale_column_offset};
}

template <TileConfig C>
OCTET_INLINE void moe_gate_up_kernel(const MoeGateUpParams& p) {
  const uint32_t block = xcd_contiguous(blockIdx.x, gridDim.x);
  const SlotTile slots =
      find_slot_tile<C.m>(p.expert_offsets, p.gate.experts, p.tokens * p.top_k, static_cast<int>(block % p.slot_tiles));
  if (slots.expert < 0) return;
  const int64_t first_column = static_cast<int64_t>(block / p.slot_tiles) * gate_up_columns(C);

  auto& lds = OCTET_LDS(GateUpLds<C>);
  GateUpResult<C> result{p, lds, slots, first_column, {}};
  unrolled<gate_up_passes(C)>([&](auto pass) {
    const int64_t column = first_column + pass.value * C.n / 2;
    if (pass.value > 0) __syncthreads();  // every wave has read its operands
    GemmTile<C> tile;
    tile.run(lds.tile, GateUpRows{{p.gate, slots.expert, column}, {p.up, slots.expert, column}}, GatheredRows{p, slots},
             whole_k(p.gate));
    result.take(pass.value, tile);
  });
  if constexpr (gate_up_columns(C) == OCTET_SCALE_BLOCK) {
    result.quantize();
  } else {
    result.store();
  }
}

// The codes and scales of what blocks of 16 columns left. A block is a wave and has one scale: with more columns a lane
// more divisions would follow each other.
OCTET_KERNEL(moe_gate_up_quantize, MoeGateUpParams, wave_size) {
  constexpr int run = OCTET_SCALE_BLOCK / wave_size;
  using Run = float __attribute__((ext_vector_type(run)));
  using Codes = uint8_t __attribute__((ext_vector_type(run)));
  const auto& p = params;
  const int64_t slot = blockIdx.x >> p.scale_shift;
  const int64_t scale_block = blockIdx.x - (slot << p.scale_shift);
  const int64_t column = scale_block * OCTET_SCALE_BLOCK + threadIdx.x * run, count = p.gate.n - column;
  const int used = p.expert_offsets[p.gate.experts];
  if (!has_pair(p, slot) || slot >= used || scale_block * OCTET_SCALE_BLOCK >= p.gate.n) return;
  Run y{};
  if (count > 0) y = *reinterpret_cast<const Run*>(p.y + slot * p.y_stride + column);  // rows end on eight columns
  float amax = 0.0f;
#pragma unroll
  for (int i = 0; i < run; i++) {
    amax = is_finite(y[i]) && i < count ? __builtin_fmaxf(amax, __builtin_fabsf(y[i])) : amax;
  }
  const float scale = fp8_scale<native_fp8>(group_max<wave_size>(amax));
  Codes codes;
#pragma unroll
  for (int i = 0; i < run; i++) codes[i] = f32_to_fp8<native_fp8>(y[i] / scale);
  if (lane_index() == 0) p.scales[slot * p.scale_stride + scale_block] = scale;
  uint8_t* to = p.output + slot * p.output_stride + column;
  if (count >= run && p.output_stride % run == 0) {
    *reinterpret_cast<Codes*>(to) = codes;
  } else {
#pragma unroll
    for (int i = 0; i < run; i++) {
      if (i < count) to[i] = codes[i];
    }
  }
}

template <TileConfig C>
OCTET_INLINE void moe_down_kernel(const MoeDownParams& p) {
  const uint32_t block = xcd_contiguous(blockIdx.x, gridDim.x);
  const SlotTile slots =
      find_slot_tile<C.m>(p.expert_offsets, p.down.experts, p.slots, static_cast<int>(block % p.slot_tiles));
  if (slots.expert < 0) return;
  const int64_t first_column = static_cast<int64_t>(block / p.slot_tiles) * C.n;

  auto& lds = OCTET_LDS(TileLds<C>);
  GemmTile<C> tile;
  tile.run(lds, WeightRows(p.down, slots.expert, first_column), SlotRows(p, slots), whole_k(p.down));
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
#include <bit>

#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

struct MoeConfig {
  const char* kernel;
  TileConfig tile;
  size_t lds_bytes;
  int columns;  // of the output, of a block
};

#define OCTET_MOE_GATE_UP_ENTRY(name, ...) \
  {#name, name##_tile, sizeof(GateUpLds<name##_tile>), gate_up_columns(name##_tile)},
constexpr MoeConfig gate_up_configs[] = {OCTET_MOE_GATE_UP_CONFIGS(OCTET_MOE_GATE_UP_ENTRY)};
#define OCTET_MOE_DOWN_ENTRY(name, ...) {#name, name##_tile, sizeof(TileLds<name##_tile>), name##_tile.n},
constexpr MoeConfig down_configs[] = {OCTET_MOE_DOWN_CONFIGS(OCTET_MOE_DOWN_ENTRY)};

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What the choice of a configuration depends on.
struct MoeShape {
  int64_t slots;      // at most: tokens * top_k
  int experts;        // on this device
  int layer_experts;  // in all, among which the slots are spread
  int64_t n;          // columns of the output
  bool aligned;       // tile_aligned() of the weights, and strides of 16 bytes
};

struct MoePlan {
  const MoeConfig* config;
  int64_t slot_tiles, column_tiles;
  bool quantizes;  // gate_up: moe_gate_up_quantize follows
  int64_t blocks() const { return slot_tiles * column_tiles; }
};

// The most tiles of m that slots of so many experts can take: every expert that has slots may leave one tile unfilled.
int64_t slot_tiles(int64_t slots, int experts, int m) {
  return (slots + std::min<int64_t>(slots, experts) * (m - 1)) / m;
}

// Slots to be expected here, were every expert as likely as any other.
int64_t expected_slots(const MoeShape& shape) { return ceil_div(shape.slots * shape.experts, shape.layer_experts); }

// Slots of an expert on average up to which tiles of 16 and of 64 serve. 16: experts with more than one tile are few,
// and read their weights again from L2. 64: until tiles of 128 are mostly full.
constexpr int64_t slots_of_16 = 8, slots_of_64 = 192;

MoePlan plan_of(const MoeConfig& config, const MoeShape& shape) {
  return {&config, slot_tiles(shape.slots, shape.experts, config.tile.m), ceil_div(shape.n, config.columns), false};
}

template <size_t count>
const MoeConfig& tile_config(const MoeConfig (&configs)[count], const MoeShape& shape) {
  if (!shape.aligned) return configs[count - 1];
  const int64_t slots = expected_slots(shape);
  const int step = slots <= slots_of_16 * shape.experts ? 0 : slots <= slots_of_64 * shape.experts ? 1 : 2;
  return configs[count - 4 + step];
}

// The largest number of expected slots for which gate_up takes blocks of 16 columns: while blocks of 128, one for each
// expert that has slots, would not be as many as the CUs.
int64_t narrow_slots(const MoeShape& shape, int compute_units) {
  const int64_t columns = ceil_div(shape.n, OCTET_SCALE_BLOCK);
  if (!shape.aligned || columns == 0) return 0;
  const int64_t few = (compute_units - 1) / columns;  // experts
  return few >= shape.experts ? slots_of_16 * shape.experts : std::min(few, slots_of_16 * shape.experts);
}

MoePlan pick_gate_up(const MoeShape& shape, int compute_units) {
  const bool narrow = expected_slots(shape) <= narrow_slots(shape, compute_units);
  MoePlan plan = plan_of(narrow ? gate_up_configs[0] : tile_config(gate_up_configs, shape), shape);
  plan.quantizes = narrow;
  return plan;
}

MoePlan pick_down(const MoeShape& shape) { return plan_of(tile_config(down_configs, shape), shape); }

// Columns between rows of y: eight of them on 32 bytes.
int64_t y_stride(int64_t n) { return ceil_div(n, 8) * 8; }

// y in f32 for as many slots as narrow blocks serve: it never shrinks as the slots grow.
size_t gate_up_workspace(const MoeShape& shape, int compute_units) {
  const int64_t most = narrow_slots(shape, compute_units) * shape.layer_experts / shape.experts;
  return static_cast<size_t>(std::min(shape.slots, most) * y_stride(shape.n)) * sizeof(float);
}

void launch_grouped(octet_stream* stream, const char* op, const MoePlan& plan, int64_t n, const auto& params) {
  const TileConfig& tile = plan.config->tile;
  require(plan.blocks() <= max_blocks(tile.threads()),
          "%s: %lld slot tiles by %lld columns are too many for one launch", op,
          static_cast<long long>(plan.slot_tiles), static_cast<long long>(n));
  launch(stream, plan.config->kernel, Grid{static_cast<uint32_t>(plan.blocks())},
         tile.threads() / facts(stream).wave_size, plan.config->lds_bytes, params);
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
void require_slots(const char* op, int64_t tokens, int32_t top_k, int32_t experts, int32_t layer_experts) {
  require_pairs(op, tokens, top_k);
  require(layer_experts == 0 || (layer_experts >= experts && layer_experts <= max_experts),
          "%s: layer_experts = %d must be 0 or %d..%d", op, layer_experts, experts, max_experts);
}

const octet_moe_gate_up_args& gate_up_checked(const octet_moe_gate_up_args* pointer, octet_dtype fp8) {
  constexpr const char* op = "moe_gate_up";
  const auto& args = checked(op, pointer);
  require_experts(op, "gate", args.gate, fp8);
  require_experts(op, "up", args.up, fp8);
  require_slots(op, args.tokens, args.top_k, args.gate.experts, args.layer_experts);
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
  require_experts(op, "down", args.down, fp8);
  require_slots(op, args.tokens, args.top_k, args.down.experts, args.layer_experts);
  require_range(op, "x_stride", args.x_stride, args.down.k, max_stride);
  require_range(op, "x_scale_stride", args.x_scale_stride, scale_columns(args.down.k), max_stride);
  require_range(op, "output_stride", args.output_stride, args.down.n, max_stride);
  return args;
}

// Rows reached from the first one by 32 bits of bytes, and their scales too, as gemm_tile.h has them.
bool within_reach(int64_t rows, int64_t stride, int64_t scale_stride) {
  return stride <= UINT32_MAX / rows && scale_stride <= UINT32_MAX / 4 / rows;
}
bool tile_reaches(const octet_weight& w) {
  return tile_aligned(w) && within_reach(w.n / OCTET_SCALE_BLOCK + 2, 0, w.scale_row_stride);
}

MoeShape shape_of(const octet_moe_gate_up_args& args) {
  return {.slots = args.tokens * args.top_k,
          .experts = args.gate.experts,
          .layer_experts = args.layer_experts == 0 ? args.gate.experts : args.layer_experts,
          .n = args.gate.n,
          .aligned = tile_reaches(args.gate) && tile_reaches(args.up) && tile_aligned(args.x_stride, args.x_scale_stride) &&
                     within_reach(std::max<int64_t>(args.tokens, 1), args.x_stride, args.x_scale_stride)};
}

MoeShape shape_of(const octet_moe_down_args& args) {
  return {.slots = args.tokens * args.top_k,
          .experts = args.down.experts,
          .layer_experts = args.layer_experts == 0 ? args.down.experts : args.layer_experts,
          .n = args.down.n,
          .aligned = tile_reaches(args.down) && tile_aligned(args.x_stride, args.x_scale_stride) &&
                     within_reach(128, args.x_stride, args.x_scale_stride)};
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
    const MoeShape shape = shape_of(args);
    const int compute_units = facts(stream).compute_units;
    require_workspace(op, args.workspace, args.workspace_size, gate_up_workspace(shape, compute_units));
    const MoePlan plan = pick_gate_up(shape, compute_units);
    const MoeGateUpParams params{
        .x = static_cast<const uint8_t*>(args.x),
        .x_scales = args.x_scales,
        .gate = args.gate,
        .up = args.up,
        .expert_offsets = args.expert_offsets,
        .slot_pairs = args.slot_pairs,
        .output = static_cast<uint8_t*>(args.output),
        .scales = args.scales,
        .y = static_cast<float*>(args.workspace),
        .tokens = args.tokens,
        .x_stride = args.x_stride,
        .x_scale_stride = args.x_scale_stride,
        .output_stride = args.output_stride,
        .scale_stride = args.scale_stride,
        .y_stride = y_stride(args.gate.n),
        .top_k = args.top_k,
        .slot_tiles = static_cast<uint32_t>(plan.slot_tiles),
        .scale_shift = static_cast<uint32_t>(std::bit_width(static_cast<uint64_t>(scale_columns(args.gate.n) - 1))),
    };
    launch_grouped(stream, op, plan, args.gate.n, params);
    if (plan.quantizes) {
      // narrow_slots bounds the slots here, so the blocks always fit a launch.
      launch(stream, "moe_gate_up_quantize", Grid{static_cast<uint32_t>(shape.slots) << params.scale_shift}, 1, 0, params);
    }
  });
}

extern "C" octet_status octet_moe_gate_up_workspace(const octet_moe_gate_up_args* pointer, octet_device* device,
                                                    size_t* size) {
  using namespace octet;
  return guarded([&] {
    require(device != nullptr, "moe_gate_up: device is null");
    require(size != nullptr, "moe_gate_up: size is null");
    const auto& args = gate_up_checked(pointer, facts(device).fp8);
    *size = gate_up_workspace(shape_of(args), facts(device).compute_units);
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
    const MoePlan plan = pick_down(shape_of(args));
    const MoeDownParams params{
        .x = static_cast<const uint8_t*>(args.x),
        .x_scales = args.x_scales,
        .down = args.down,
        .expert_offsets = args.expert_offsets,
        .output = static_cast<uint16_t*>(args.output),
        .slots = args.tokens * args.top_k,
        .x_stride = args.x_stride,
        .x_scale_stride = args.x_scale_stride,
        .output_stride = args.output_stride,
        .slot_tiles = static_cast<uint32_t>(plan.slot_tiles),
    };
    launch_grouped(stream, op, plan, args.down.n, params);
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
