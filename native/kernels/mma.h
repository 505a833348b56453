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
  OCTET_INLINE f32x4& quad(int) { return value; }  // elements 4q to 4q + 3
  OCTET_INLINE void add(const MmaAccumulator& other) { value += other.value; }
  OCTET_INLINE void hold() { ::hold(value); }
  // Adds `part` times a factor for each of this lane's columns, a quarter of the elements at a time.
  OCTET_INLINE void add_scaled(const MmaAccumulator& part, const float (&factor)[1], int quarter) {
    value[quarter] = __builtin_fmaf(part.value[quarter], factor[0], value[quarter]);
  }
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
  // Operands B whose sum is d to 8 bits each: the nearest bf16 of d, then that of the rest. The D layout is already the B
  // layout, four contiguous k a lane. NaN is not kept.
  template <int count>
  OCTET_INLINE static void to_b(MmaAccumulator d, B (&words)[count]) {
    for (B& word : words) {
      MmaAccumulator rounded;
      for (int r = 0; r < 4; r++) rounded[r] = bf16_rounded(d[r]);
      const u32x2 four[rows] = {{bf16_upper_pair(rounded[0], rounded[1]), bf16_upper_pair(rounded[2], rounded[3])}};
      word = b_of(four);
      for (int r = 0; r < 4; r++) d[r] -= bits_float(float_bits(rounded[r]) & 0xFFFF0000u);
    }
  }
  OCTET_INLINE static void mma(MmaAccumulator& d, A a, B b) {
    d.value = mfma_16x16x16_bf16(a, b, d.value);
  }
};

// 16 rows of 64 bytes of k, loaded 16 bytes a lane: an operand of two instructions. The lanes of a row hold k in another
// order than one instruction's layout has it, the same on A and B, so the products meet as they should.
struct MmaSlab {
  static constexpr int vectors = 1;
  u32x4 v[vectors];
  OCTET_INLINE static int row(int) { return lane_index() % 16; }   // of vector i
  OCTET_INLINE static int chunk() { return lane_index() / 16; }    // its 16 bytes of the row's 64
  // In LDS, chunk c of a row of 128 bytes lies at c ^ swizzle(row). NOTE: 8 lanes of a 16-byte access then touch all 32
  // banks once, whether the hardware takes lanes 0-7 together or (as reported for gfx942's reads) 0-3 with 20-23.
  OCTET_INLINE static constexpr int swizzle(int row) { return row % 8; }
};

// D += A B, step 0 or 1 of the two that slabs hold.
template <bool fp8>
OCTET_INLINE void mma_step(MmaAccumulator& d, const MmaSlab& a, const MmaSlab& b, int step) {
  const u32x2 rows{a.v[0][2 * step], a.v[0][2 * step + 1]}, columns{b.v[0][2 * step], b.v[0][2 * step + 1]};
  if constexpr (fp8) {
    MmaFp8::mma(d, __builtin_bit_cast(MmaFp8::A, rows), __builtin_bit_cast(MmaFp8::B, columns));
  } else {
    MmaBf16::mma(d, __builtin_bit_cast(MmaBf16::A, rows), __builtin_bit_cast(MmaBf16::B, columns));
  }
}

#endif
