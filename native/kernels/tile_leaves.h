// The leaves of a tile's sums, met one after the other and taken up the tree (leaf_tree.h) with the left nodes that
// wait for them, for gemm_tile.h. Two ways that give the same bits:
//
// ExactLeaves round as device.h does, whatever the sums are.
//
// FastLeaves are for waves of 64 x 64, which have a SIMD to themselves and nothing else to do meanwhile: what counts
// is instructions. Leaves come in pairs, so that of nodes that wait only those of 2 and 4 leaves need room. Rounding is
// two packed operations for two neighbours, where integers take four and leave low halves that have to be cleared:
//   a leaf     h(x) = x + fma(x, 2^-16, -x) = bf16(x) 2^-16     what is added to x rounds away its last 16 bits
//   a node     fma(s, 2^32, -65535 2^16 s) = bf16(2^16 s)       s = h(x) + h(y)
//              fma(s, 2^16, -65535 s) = bf16(s)                 s = the sum of two nodes
// Subnormal numbers are no exception: h, as every number, is a multiple of 2^-149, so 2^16 h is one of 2^-133, as bf16
// is; and a sum of nodes that is subnormal has no more than 7 bits. (Held to integers for all finite x.) Exceptions are
// NaN, infinities, and nodes from 2^112 on, where 65535 s overflows: the root is then NaN or infinite, whatever it
// should be, and all has to be done again the exact way. What is rounded to zero loses its sign, which changes no node
// but a zero; so the root is +0 where it is zero, whoever makes it (root_of).
#pragma once

#include "leaf_tree.h"
#include "mma.h"

template <int held_n, int held_m>
class ExactLeaves {
 public:
  using Sums = MmaAccumulator[held_n][held_m];

  OCTET_INLINE bool none() const { return leaf == 0; }

  // Takes in a leaf, which becomes the node that ends here, before upper_bf16.
  OCTET_INLINE void add(Sums& sum) {
    // NOTE: one question for all elements, whether one is NaN (or infinities of both signs are there), for a NaN of any
    // bits could be rounded to a number.
    MmaAccumulator all;
    all.clear();
#pragma unroll
    for (int i = 0; i < held_n; i++) {
#pragma unroll
      for (int j = 0; j < held_m; j++) all.add(sum[i][j]);
    }
    float total = 0.0f;
#pragma unroll
    for (int r = 0; r < MmaAccumulator::elements; r++) total += all[r];
    if (__builtin_expect(__ballot(total != total) != 0, false)) {
      each_pair(sum, [](int, int, int, float& even, float& odd) __attribute__((always_inline)) {
        even = round_bf16(even);
        odd = round_bf16(odd);
      });
    }
    each_pair(sum, [](int, int, int, float& even, float& odd) __attribute__((always_inline)) {
      even = bias_bf16(even);
      odd = bias_bf16(odd);
    });
    settle<0>(sum);
    leaf++;
  }

  // After the last.
  OCTET_INLINE static void finish(Sums& sum) {
    each_pair(sum, [](int, int, int, float& even, float& odd) __attribute__((always_inline)) {
      even = root_of(even);
      odd = root_of(odd);
    });
  }

 private:
  int leaf = 0;                                                    // those before
  uint32_t left[3][held_n][held_m][MmaAccumulator::elements / 2];  // nodes of 1, 2 and 4 leaves, two bf16 each

  // visit(i, j, pair, even, odd): two neighbours at a time.
  template <class Visit>
  OCTET_INLINE static void each_pair(Sums& sums, const Visit& visit) {
#pragma unroll
    for (int i = 0; i < held_n; i++) {
#pragma unroll
      for (int j = 0; j < held_m; j++) {
#pragma unroll
        for (int r = 0; r < MmaAccumulator::elements; r += 2) visit(i, j, r / 2, sums[i][j][r], sums[i][j][r + 1]);
      }
    }
  }

  // As far as the node is a right one.
  template <int level>
  OCTET_INLINE void settle(Sums& sum) {
    if constexpr (level < 3) {
      if (leaf >> level & 1) {
        each_pair(sum, [&](int i, int j, int pair, float& even, float& odd)
                           __attribute__((always_inline)) { join_node(left[level][i][j][pair], even, odd); });
        settle<level + 1>(sum);
      } else {
        each_pair(sum, [&](int i, int j, int pair, float& even, float& odd)
                           __attribute__((always_inline)) { left[level][i][j][pair] = waiting_node(even, odd); });
      }
    }
  }
};

template <int held_n, int held_m>
class FastLeaves {
 public:
  using Sums = MmaAccumulator[held_n][held_m];

  OCTET_INLINE bool none() const { return pair == 0; }

  // Takes in two leaves; the even one becomes the node that ends here.
  OCTET_INLINE void add(Sums& even, Sums& odd) {
    each_quad([&](int i, int j, int q) {
      f32x4& sum = even[i][j].quad(q);
      sum = rounded(scaled(sum) + scaled(odd[i][j].quad(q)), whole);
    });
    settle<0>(even);
    pair++;
  }

  // A leaf without another one.
  OCTET_INLINE static void add(Sums& leaf) {
    each_quad([&](int i, int j, int q) {
      f32x4& sum = leaf[i][j].quad(q);
      sum = scaled(sum) * whole;
    });
  }

  // Whether there was an exception.
  OCTET_INLINE static bool failed(Sums& root) {
    f32x4 zeros = {};
    each_quad([&](int i, int j, int q) { zeros = fma(root[i][j].quad(q), 0.0f, zeros); });
    return zeros[0] + zeros[1] + zeros[2] + zeros[3] != 0.0f;
  }

 private:
  static constexpr float whole = 0x1p16f;

  int pair = 0;                                                 // those before
  u32x2 left[2][held_n][held_m][MmaAccumulator::elements / 4];  // nodes of 1 and 2 pairs, four bf16 each

  // visit(i, j, q): four neighbours at a time, two chains of packed operations.
  template <class Visit>
  OCTET_INLINE static void each_quad(const Visit& visit) {
    unrolled<held_n>([&](auto i) {
      unrolled<held_m>([&](auto j) {
        unrolled<MmaAccumulator::elements / 4>([&](auto q) { visit(i.value, j.value, q.value); });
      });
    });
  }

  OCTET_INLINE static f32x2 fma(f32x2 a, float b, f32x2 c) { return __builtin_elementwise_fma(a, f32x2{b, b}, c); }
  OCTET_INLINE static f32x4 fma(f32x4 a, float b, f32x4 c) {
    return __builtin_elementwise_fma(a, f32x4{b, b, b, b}, c);
  }

  // NOTE: by twos, for of four the compiler negates two with instructions of their own.
  OCTET_INLINE static f32x2 scaled(f32x2 x) { return x + fma(x, 1.0f / whole, -x); }
  OCTET_INLINE static f32x4 scaled(f32x4 x) {
    const f32x2 low = scaled(f32x2{x[0], x[1]}), high = scaled(f32x2{x[2], x[3]});
    return {low[0], low[1], high[0], high[1]};
  }
  // Of a sum of nodes that were divided by the factor.
  OCTET_INLINE static f32x4 rounded(f32x4 s, float factor) {
    return fma(s, whole * factor, s * -((whole - 1.0f) * factor));
  }

  OCTET_INLINE static f32x4 unpacked(u32x2 node) {
    return {bits_float(node[0] << 16), bits_float(node[0] & 0xFFFF0000u), bits_float(node[1] << 16),
            bits_float(node[1] & 0xFFFF0000u)};
  }

  // As far as the node is a right one.
  template <int level>
  OCTET_INLINE void settle(Sums& sum) {
    if constexpr (level < 2) {
      if (pair >> level & 1) {
        each_quad([&](int i, int j, int q) {
          f32x4& x = sum[i][j].quad(q);
          x = rounded(unpacked(left[level][i][j][q]) + x, 1.0f);
        });
        settle<level + 1>(sum);
      } else {
        each_quad([&](int i, int j, int q) {
          const f32x4 x = sum[i][j].quad(q);
          left[level][i][j][q] = u32x2{waiting_node(x[0], x[1]), waiting_node(x[2], x[3])};
        });
      }
    }
  }
};
