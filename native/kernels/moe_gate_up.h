// What a block of moe_gate_up makes of its sums: y = silu(gate) * up in registers, then FP8 codes and the scales of 128
// columns, or y in f32 where the block has only 16 of them. The main loop before it is in gemm_tile.h, the kernel in
// moe.hip.
//
// Only the largest magnitudes of 16 columns of each slot pass through LDS; y goes from registers to its codes to
// memory.
#pragma once

#include "gemm_tile.h"

struct MoeGateUpParams {
  const uint8_t* x;               // [tokens, hidden]
  const float* x_scales;          // [tokens, ceil(hidden/128)]
  octet_weight gate, up;          // [experts, intermediate, hidden]
  const int32_t* expert_offsets;  // [experts + 1]
  const int32_t* slot_pairs;      // [slots]
  uint8_t* output;                // [slots, intermediate]
  float* scales;                  // [slots, ceil(intermediate/128)]
  float* y;                       // [slots, y_stride] f32, where blocks of 16 columns leave it
  int64_t tokens;
  int64_t x_stride, x_scale_stride, output_stride, scale_stride, y_stride;
  int32_t top_k;
  uint32_t slot_tiles;
  uint32_t scale_shift;  // moe_gate_up_quantize: 1 << scale_shift blocks to a slot, no fewer than it has scales
};

// How often a block of gate_up walks k for its columns: 128 of gate and of up by 128 slots are more than the registers
// hold, so that tile does 64 of each, then the others.
constexpr int gate_up_passes(const TileConfig& tile) { return tile.n == 128 ? 2 : 1; }
constexpr int gate_up_columns(const TileConfig& tile) { return tile.n / 2 * gate_up_passes(tile); }

template <TileConfig C>
union GateUpLds {
  TileLds<C> tile;
  struct {
    float amax[gate_up_columns(C) / 16][C.m];  // [16 columns of y][slot]
    int32_t here[C.m];                         // whether the slot has a pair
  } y;
};

#if !defined(OCTET_HOST)
#include "columns.h"

// The slots first..last of one expert that a block works on; expert -1: none.
struct SlotTile {
  int expert;
  int64_t first, last;
};

// The token of a slot; -1: a slot without a pair.
OCTET_INLINE int token_of(const MoeGateUpParams& p, int64_t slot) {
  const int pair = p.slot_pairs[slot];
  return pair >= 0 && pair / p.top_k < p.tokens ? pair / p.top_k : -1;
}

OCTET_INLINE bool has_pair(const MoeGateUpParams& p, int64_t slot) {
  const int pair = p.slot_pairs[slot];
  return pair >= 0 && pair < p.tokens * p.top_k;
}

// y of one block: both factors of each are in one lane.
template <TileConfig C>
struct GateUpResult {
  using Tile = GemmTile<C>;
  static constexpr int passes = gate_up_passes(C), lane_slots = MmaAccumulator::columns;
  static_assert(Tile::held_n % 2 == 0);
  const MoeGateUpParams& p;
  GateUpLds<C>& lds;
  SlotTile slots;
  int64_t first_column;
  float y[passes][Tile::held_n / 2][Tile::held_m][MmaAccumulator::elements];

  OCTET_INLINE void take(int pass, Tile& tile) {
    each_fragment([&](int i, int j) {
      unrolled<MmaAccumulator::elements>([&](auto r) {
        y[pass][i][j][r.value] = silu(tile.sum[2 * i][j][r.value]) * tile.sum[2 * i + 1][j][r.value];
      });
    });
  }

  // f32, [slot][column]; y_stride has room for the four rows of a lane.
  OCTET_INLINE void store() {
    find_slots();
    __syncthreads();
    each_pass([&](int pass, int i, int j) {
      each_run(pass, i, j, [&](int64_t slot, int64_t n, const float(&values)[run]) {
        if (n >= p.y_stride) return;
        float* to = p.y + slot * p.y_stride + n;
        if constexpr (run == 4) {
          *reinterpret_cast<f32x4*>(to) = f32x4{values[0], values[1], values[2], values[3]};
        } else {
          *to = values[0];
        }
      });
    });
  }

  // FP8 with a scale for the 128 columns of each slot.
  OCTET_INLINE void quantize() {
    find_slots();
    each_pass([&](int pass, int i, int j) {
      float amax[lane_slots] = {};
      unrolled<MmaAccumulator::elements>([&](auto r) {
        const float value = y[pass][i][j][r.value];
        const bool counts =
            is_finite(value) && first_column + column(pass, i, j) + MmaAccumulator::row(r.value) < p.gate.n;
        float& largest = amax[MmaAccumulator::slot(r.value)];
        largest = counts ? __builtin_fmaxf(largest, __builtin_fabsf(value)) : largest;
      });
#pragma unroll
      for (int s = 0; s < lane_slots; s++) amax[s] = MmaAccumulator::column_max(amax[s]);
#pragma unroll
      for (int r = 0; r < MmaAccumulator::elements; r++) {
        if (MmaAccumulator::row(r) == 0) {
          lds.y.amax[column(pass, i, j) / 16][slot(j, r)] = amax[MmaAccumulator::slot(r)];
        }
      }
    });
    __syncthreads();

    for (int at = static_cast<int>(threadIdx.x); at < C.m; at += C.threads()) {
      if (!lds.y.here[at]) continue;
      p.scales[(slots.first + at) * p.scale_stride + first_column / OCTET_SCALE_BLOCK] = scale_of(at);
    }
    each_pass([&](int pass, int i, int j) {
      each_run(pass, i, j, [&](int64_t slot, int64_t n, const float(&values)[run]) {
        const float scale = scale_of(static_cast<int>(slot - slots.first));
        uint32_t codes = 0;
#pragma unroll
        for (int e = 0; e < run; e++) {
          codes |= static_cast<uint32_t>(f32_to_fp8<native_fp8>(values[e] / scale)) << 8 * e;
        }
        uint8_t* to = p.output + slot * p.output_stride + n;
        if (run == 4 && n + 4 <= p.gate.n && p.output_stride % 4 == 0) {
          *reinterpret_cast<uint32_t*>(to) = codes;
        } else {
          for (int e = 0; e < run && n + e < p.gate.n; e++) to[e] = static_cast<uint8_t>(codes >> 8 * e);
        }
      });
    });
  }

 private:
  // Neighbouring columns of a slot that a lane holds in neighbouring elements of a fragment.
  static constexpr int run = lane_slots == 1 ? MmaAccumulator::elements : 1;

  // The first column of fragment (i, j) of a pass, and the slot of its element r, in the block.
  OCTET_INLINE static int column(int pass, int i, int j) { return pass * C.n / 2 + Tile::first_row(2 * i, j) / 2; }
  OCTET_INLINE static int slot(int j, int r) { return Tile::first_token(j) + MmaAccumulator::column(r); }

  // Which of the tile's slots there are, once every wave has read its operands.
  OCTET_INLINE void find_slots() const {
    __syncthreads();
    for (int at = static_cast<int>(threadIdx.x); at < C.m; at += C.threads()) {
      const int64_t slot = slots.first + at;
      lds.y.here[at] = slot <= slots.last && has_pair(p, slot);
    }
  }

  OCTET_INLINE float scale_of(int at) const {
    float amax = lds.y.amax[0][at];
#pragma unroll
    for (int i = 1; i < gate_up_columns(C) / 16; i++) amax = __builtin_fmaxf(amax, lds.y.amax[i][at]);
    return fp8_scale<native_fp8>(amax);
  }

  // visit(i, j) for the fragments of y that this wave holds.
  template <class Visit>
  OCTET_INLINE static void each_fragment(const Visit& visit) {
    unrolled<Tile::held_m>([&](auto j) {
      if (!Tile::holds(j.value)) return;
      unrolled<Tile::held_n / 2>([&](auto i) { visit(i.value, j.value); });
    });
  }
  template <class Visit>
  OCTET_INLINE static void each_pass(const Visit& visit) {
    unrolled<passes>([&](auto pass) { each_fragment([&](int i, int j) { visit(pass.value, i, j); }); });
  }

  // visit(slot, column, values) for the runs of a fragment, but those of slots without a pair.
  template <class Visit>
  OCTET_INLINE void each_run(int pass, int i, int j, const Visit& visit) {
    unrolled<MmaAccumulator::elements / run>([&](auto step) {
      constexpr int r = step.value * run;
      const int at = slot(j, r);
      if (!lds.y.here[at]) return;
      float values[run];
      unrolled<run>([&](auto e) { values[e.value] = y[pass][i][j][r + e.value]; });
      visit(slots.first + at, first_column + column(pass, i, j) + MmaAccumulator::row(r), values);
    });
  }
};

#endif
