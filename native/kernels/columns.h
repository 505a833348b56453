// Rows in runs of eight columns a lane, so that 16 neighbouring lanes hold a scale block: loads of bf16 and f32, stores
// of bf16, and the quantisation to FP8.
//
// count: columns from `column` to the end of the row; those at and beyond it read as 0 and are not written.
// aligned: every run of eight columns lies on 16 bytes (8 for FP8): one access instead of eight.
#pragma once

#include "fp8.h"

OCTET_INLINE void load_columns(const uint16_t* row, int64_t column, int64_t count, bool aligned, float (&x)[8]) {
  if (aligned && count >= 8) {
    const u32x4 packed = *reinterpret_cast<const u32x4*>(row + column);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      x[2 * i] = bits_float(packed[i] << 16);
      x[2 * i + 1] = bits_float(packed[i] & 0xFFFF0000u);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = i < count ? bf16_to_f32(row[column + i]) : 0.0f;
  }
}

OCTET_INLINE void load_columns(const float* row, int64_t column, int64_t count, bool aligned, float (&x)[8]) {
  if (aligned && count >= 8) {
    const f32x4 low = *reinterpret_cast<const f32x4*>(row + column);
    const f32x4 high = *reinterpret_cast<const f32x4*>(row + column + 4);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      x[i] = low[i];
      x[4 + i] = high[i];
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = i < count ? row[column + i] : 0.0f;
  }
}

// A run of neighbouring bf16: 8 or 4.
template <int run>
using Bf16Run = uint32_t __attribute__((ext_vector_type(run / 2)));

template <int run>
OCTET_INLINE void store_columns(uint16_t* row, int64_t column, int64_t count, bool aligned, const float (&x)[run]) {
  if (aligned && count >= run) {
    Bf16Run<run> packed;
#pragma unroll
    for (int i = 0; i < run / 2; i++) {
      packed[i] = f32_to_bf16(x[2 * i]) | static_cast<uint32_t>(f32_to_bf16(x[2 * i + 1])) << 16;
    }
    *reinterpret_cast<Bf16Run<run>*>(row + column) = packed;
  } else {
#pragma unroll
    for (int i = 0; i < run; i++) {
      if (i < count) row[column + i] = f32_to_bf16(x[i]);
    }
  }
}

// The scale of the block that 16 neighbouring lanes hold, the same in each. NaN and inf take no part. Every lane of the
// wave must call it.
template <Fp8 E>
OCTET_INLINE float block_scale(const float (&x)[8]) {
  float amax = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; i++) amax = is_finite(x[i]) ? __builtin_fmaxf(amax, __builtin_fabsf(x[i])) : amax;
  return fp8_scale<E>(group_max<16>(amax));
}

template <Fp8 E>
OCTET_INLINE void store_codes(uint8_t* row, int64_t column, int64_t count, bool aligned, const float (&x)[8],
                              float scale) {
  if (aligned && count >= 8) {
    u32x2 packed = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; i++) packed[i / 4] |= static_cast<uint32_t>(f32_to_fp8<E>(x[i] / scale)) << i % 4 * 8;
    *reinterpret_cast<u32x2*>(row + column) = packed;
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      if (i < count) row[column + i] = f32_to_fp8<E>(x[i] / scale);
    }
  }
}
