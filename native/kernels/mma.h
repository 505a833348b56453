// Matrix fragments: D[16][16] += A[16][k] * B[k][16] on one wave, FP8 (k = 32, the target's own encoding) and bf16
// (k = 16), f32 accumulation.
//
// Kernels use only this: load_a/load_b from a tile whose rows hold contiguous k (B is given transposed: row j of the tile
// is column j of B), mma, and row(r)/column(r) of an accumulator element. The lane layouts behind it:
//   gfx9  16x16x32 fp8:  A[i][k] lane 16*(k/8)+i, byte k%8;  B[k][j] lane 16*(k/8)+j, byte k%8
//         16x16x16 bf16: A[i][k] lane 16*(k/4)+i, half k%4;  B[k][j] lane 16*(k/4)+j, half k%4
//         D[i][j] lane 16*(i/4)+j, register i%4
//   sm_90 two m16n8k32 / m16n8k16 side by side, PTX ISA's fragment layouts (mma_sm90.h)
// The simulator compiles this very file: only the instruction behind it is emulated, in the same layouts.
#pragma once

#include "fp8.h"

// Accumulator elements of one lane: `elements` of them, element r is D[row(r)][column(r)]. They lie in `columns` different
// columns, element r in the slot(r)-th of them; column_max and column_sum reduce a value of one slot over the lanes that
// share its column (on sm_90: columns = 4, slot(r) = r/4*2 + r%2, lanes xor 4, 8, 16).
#if defined(OCTET_TARGET_SM_90)
#include "mma_sm90.h"
#else

// Where this lane's elements of a 16 x 16 accumulator lie; the four rows of a lane are contiguous.
struct MmaAccumulator {
  static constexpr int elements = 4;
  f32x4 value;
  OCTET_INLINE void clear() { value = f32x4{0.0f, 0.0f, 0.0f, 0.0f}; }
  OCTET_INLINE float& operator[](int r) { return reinterpret_cast<float*>(&value)[r]; }
  OCTET_INLINE static int row(int r) { return lane_index() / 16 * 4 + r; }
  OCTET_INLINE static int column(int) { return lane_index() % 16; }
  OCTET_INLINE static constexpr int slot(int) { return 0; }
  static constexpr int columns = 1;
  OCTET_INLINE static float column_max(float x) {
    x = __builtin_fmaxf(x, __shfl_xor(x, 16));
    return __builtin_fmaxf(x, __shfl_xor(x, 32));
  }
  OCTET_INLINE static float column_sum(float x) {
    x += __shfl_xor(x, 16);
    return x + __shfl_xor(x, 32);
  }
};

struct MmaFp8 {
  static constexpr int k = 32;
  using A = int64_t;
  using B = int64_t;
  // tile: 16 rows of at least 32 contiguous codes, row_stride bytes apart; 8-byte aligned rows.
  OCTET_INLINE static A load_a(const uint8_t* tile, int row_stride) {
    const int lane = lane_index();
    return *reinterpret_cast<const int64_t*>(tile + lane % 16 * row_stride + lane / 16 * 8);
  }
  OCTET_INLINE static B load_b(const uint8_t* tile, int row_stride) { return load_a(tile, row_stride); }
  OCTET_INLINE static void mma(MmaAccumulator& d, A a, B b) {
    d.value = mfma_16x16x32_fp8(a, b, d.value);
  }
};

struct MmaBf16 {
  static constexpr int k = 16;
  using A = i16x4;
  using B = i16x4;
  // tile: 16 rows of at least 16 contiguous bf16, row_stride elements apart; 8-byte aligned rows.
  OCTET_INLINE static A load_a(const uint16_t* tile, int row_stride) {
    const int lane = lane_index();
    return *reinterpret_cast<const i16x4*>(tile + lane % 16 * row_stride + lane / 16 * 4);
  }
  OCTET_INLINE static B load_b(const uint16_t* tile, int row_stride) { return load_a(tile, row_stride); }
  // Operands a lane gathers itself: it holds `rows` rows of A or columns of B, and of each the four k of its quarter,
  // those with quarter_of(k) == quarter(), in the order of place_of(k).
  static constexpr int rows = 1;
  OCTET_INLINE static int row(int) { return lane_index() % 16; }
  OCTET_INLINE static int quarter() { return lane_index() / 16; }
  OCTET_INLINE static constexpr int quarter_of(int k) { return k / 4; }
  OCTET_INLINE static constexpr int place_of(int k) { return k % 4; }
  OCTET_INLINE static A a_of(const u32x2 (&four)[rows]) { return __builtin_bit_cast(A, four[0]); }
  OCTET_INLINE static B b_of(const u32x2 (&four)[rows]) { return a_of(four); }
  // The operand B whose B[k][j] is bf16(d[k][j]): the D layout is already the B layout, four contiguous k a lane.
  OCTET_INLINE static B to_b(MmaAccumulator d) {
    return i16x4{static_cast<short>(f32_to_bf16(d[0])), static_cast<short>(f32_to_bf16(d[1])),
                  static_cast<short>(f32_to_bf16(d[2])), static_cast<short>(f32_to_bf16(d[3]))};
  }
  // Two operands B whose sum is d to 16 bits: the nearest bf16 of d, and that of the rest. NaN is not kept.
  OCTET_INLINE static void to_b_split(MmaAccumulator d, B (&words)[2]) {
    for (B& word : words) {
      MmaAccumulator near;
      for (int r = 0; r < 4; r++) near[r] = bf16_nearest(d[r]);
      const u32x2 four[rows] = {{bf16_upper_pair(near[0], near[1]), bf16_upper_pair(near[2], near[3])}};
      word = b_of(four);
      d.value -= near.value;
    }
  }
  OCTET_INLINE static void mma(MmaAccumulator& d, A a, B b) {
    d.value = mfma_16x16x16_bf16(a, b, d.value);
  }
};

#endif
