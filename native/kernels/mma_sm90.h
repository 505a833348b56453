// Matrix fragments for sm_90: the 16 x 16 product is two m16n8 instructions side by side, columns 0..7 and 8..15.
// Included by mma.h only. With g = lane/4 and t = lane%4 (PTX ISA, "matrix fragments for mma.m16n8k32 / m16n8k16"):
//   A registers: row g, k w*t..; row g+8, k w*t..; row g, k K/2+w*t..; row g+8, k K/2+w*t..   w = 4 codes or 2 bf16
//   B registers: k w*t.., column g; k K/2+w*t.., column g
//   D registers: (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
#pragma once

// Elements 0..3 are the left instruction's, 4..7 the right one's.
struct MmaAccumulator {
  static constexpr int elements = 8;
  static constexpr int columns = 4;
  f32x4 left, right;
  OCTET_INLINE void clear() { left = right = f32x4{0.0f, 0.0f, 0.0f, 0.0f}; }
  OCTET_INLINE float& operator[](int r) { return reinterpret_cast<float*>(r < 4 ? &left : &right)[r % 4]; }
  OCTET_INLINE f32x4& quad(int q) { return q == 0 ? left : right; }
  OCTET_INLINE void add(const MmaAccumulator& other) {
    left += other.left;
    right += other.right;
  }
  OCTET_INLINE void hold() {}
  OCTET_INLINE void add_scaled(const MmaAccumulator& part, const float (&factor)[4], int quarter) {
    f32x4& to = quarter < 2 ? left : right;
    const f32x4& from = quarter < 2 ? part.left : part.right;
    for (int r = quarter % 2 * 2; r < quarter % 2 * 2 + 2; r++) {
      to[r] = __builtin_fmaf(from[r], factor[quarter / 2 * 2 + r % 2], to[r]);
    }
  }
  OCTET_INLINE static int row(int r) { return lane_index() / 4 + r % 4 / 2 * 8; }
  OCTET_INLINE static int column(int r) { return r / 4 * 8 + lane_index() % 4 * 2 + r % 2; }
  OCTET_INLINE static constexpr int slot(int r) { return r / 4 * 2 + r % 2; }
  OCTET_INLINE static float column_max(float x) {
    x = __builtin_fmaxf(x, __shfl_xor(x, 4));
    x = __builtin_fmaxf(x, __shfl_xor(x, 8));
    return __builtin_fmaxf(x, __shfl_xor(x, 16));
  }
  OCTET_INLINE static float column_sum(float x) {
    x += __shfl_xor(x, 4);
    x += __shfl_xor(x, 8);
    return x + __shfl_xor(x, 16);
  }
};

// The fragments of a tile of 16 rows, `half` bytes being K/2 of a row; the same for both element types.
OCTET_INLINE u32x4 mma_rows_a(const uint8_t* tile, int row_bytes, int half) {
  const uint8_t* low = tile + lane_index() / 4 * row_bytes + lane_index() % 4 * 4;
  const uint8_t* high = low + 8 * row_bytes;
  return u32x4{*reinterpret_cast<const uint32_t*>(low), *reinterpret_cast<const uint32_t*>(high),
               *reinterpret_cast<const uint32_t*>(low + half), *reinterpret_cast<const uint32_t*>(high + half)};
}
// Registers 0 and 1 are the left instruction's, 2 and 3 the right one's.
OCTET_INLINE u32x4 mma_rows_b(const uint8_t* tile, int row_bytes, int half) {
  const u32x4 rows = mma_rows_a(tile, row_bytes, half);
  return u32x4{rows[0], rows[2], rows[1], rows[3]};
}

struct MmaFp8 {
  static constexpr int k = 32;
  using A = u32x4;
  using B = u32x4;
  // tile: 16 rows of at least 32 contiguous codes, row_stride bytes apart; 8-byte aligned rows.
  OCTET_INLINE static A load_a(const uint8_t* tile, int row_stride) { return mma_rows_a(tile, row_stride, 16); }
  OCTET_INLINE static B load_b(const uint8_t* tile, int row_stride) { return mma_rows_b(tile, row_stride, 16); }
  OCTET_INLINE static void mma(MmaAccumulator& d, A a, B b) {
    mma_m16n8k32_e4m3(d.left, a, u32x2{b[0], b[1]});
    mma_m16n8k32_e4m3(d.right, a, u32x2{b[2], b[3]});
  }
};

struct MmaBf16 {
  static constexpr int k = 16;
  using A = u32x4;
  using B = u32x4;
  // tile: 16 rows of at least 16 contiguous bf16, row_stride elements apart; 8-byte aligned rows.
  OCTET_INLINE static A load_a(const uint16_t* tile, int row_stride) {
    return mma_rows_a(reinterpret_cast<const uint8_t*>(tile), row_stride * 2, 16);
  }
  OCTET_INLINE static B load_b(const uint16_t* tile, int row_stride) {
    return mma_rows_b(reinterpret_cast<const uint8_t*>(tile), row_stride * 2, 16);
  }
  // Operands a lane gathers itself: it holds `rows` rows of A or columns of B, and of each the four k of its quarter,
  // those with quarter_of(k) == quarter(), in the order of place_of(k).
  static constexpr int rows = 2;
  OCTET_INLINE static int row(int i) { return lane_index() / 4 + 8 * i; }
  OCTET_INLINE static int quarter() { return lane_index() % 4; }
  OCTET_INLINE static constexpr int quarter_of(int k) { return k % 8 / 2; }
  OCTET_INLINE static constexpr int place_of(int k) { return k % 2 + k / 8 * 2; }
  OCTET_INLINE static A a_of(const u32x2 (&four)[rows]) {
    return u32x4{four[0][0], four[1][0], four[0][1], four[1][1]};
  }
  OCTET_INLINE static B b_of(const u32x2 (&four)[rows]) {
    return u32x4{four[0][0], four[0][1], four[1][0], four[1][1]};
  }
  // The operand B of pairs of an accumulator's elements 2i and 2i+1. B wants rows 2t and 2t+1 of column g: they lie in
  // lanes 4*(2t)+g/2 and 4*(2t+1)+g/2, in the register of g's parity; both parities travel in one word.
  OCTET_INLINE static B from_pairs(const uint32_t (&pairs)[4]) {
    const int even = lane_index() % 4 * 8 + lane_index() / 8;
    const int shift = lane_index() / 4 % 2 * 16;
    B b;
    for (int i = 0; i < 4; i++) {
      const uint32_t first = __shfl(pairs[i], even) >> shift & 0xFFFF;
      const uint32_t second = __shfl(pairs[i], even + 4) >> shift & 0xFFFF;
      b[i] = first | second << 16;
    }
    return b;
  }
  // Operands B whose sum is d to 8 bits each: the nearest bf16 of d, then that of the rest. NaN is not kept.
  template <int count>
  OCTET_INLINE static void to_b(MmaAccumulator d, B (&words)[count]) {
    for (B& word : words) {
      MmaAccumulator rounded;
      for (int r = 0; r < 8; r++) rounded[r] = bf16_rounded(d[r]);
      uint32_t pairs[4];
      for (int i = 0; i < 4; i++) pairs[i] = bf16_upper_pair(rounded[2 * i], rounded[2 * i + 1]);
      word = from_pairs(pairs);
      for (int r = 0; r < 8; r++) d[r] -= bits_float(float_bits(rounded[r]) & 0xFFFF0000u);
    }
  }
  OCTET_INLINE static void mma(MmaAccumulator& d, A a, B b) {
    mma_m16n8k16_bf16(d.left, a, u32x2{b[0], b[1]});
    mma_m16n8k16_bf16(d.right, a, u32x2{b[2], b[3]});
  }
};

// 16 rows of 64 bytes of k, as in mma.h: lane (g, t) holds chunk t of rows g and g+8.
struct MmaSlab {
  static constexpr int vectors = 2;
  u32x4 v[vectors];
  OCTET_INLINE static int row(int i) { return lane_index() / 4 + 8 * i; }
  OCTET_INLINE static int chunk() { return lane_index() % 4; }
  // 8 lanes read two neighbouring rows.
  OCTET_INLINE static constexpr int swizzle(int row) { return row % 2 * 4; }
};

// D += A B, step 0 or 1 of the two that slabs hold.
template <bool fp8>
OCTET_INLINE void mma_step(MmaAccumulator& d, const MmaSlab& a, const MmaSlab& b, int step) {
  const int i = 2 * step;
  const u32x4 rows{a.v[0][i], a.v[1][i], a.v[0][i + 1], a.v[1][i + 1]};
  const u32x2 left{b.v[0][i], b.v[0][i + 1]}, right{b.v[1][i], b.v[1][i + 1]};
  if constexpr (fp8) {
    mma_m16n8k32_e4m3(d.left, rows, left);
    mma_m16n8k32_e4m3(d.right, rows, right);
  } else {
    mma_m16n8k16_bf16(d.left, rows, left);
    mma_m16n8k16_bf16(d.right, rows, right);
  }
}
