// FP8 E4M3 in both encodings: exact widening, saturating round-to-nearest-even narrowing.
//
// OCP  (E4M3FN):   bias 7, max 448, NaN 0x7F and 0xFF, has -0.
// FNUZ (E4M3FNUZ): bias 8, max 240, the single NaN 0x80, no -0. The same code means half the OCP value.
// Quantisation uses 448 and 224: with the FNUZ scale twice the OCP one, the bytes agree on every target.
#pragma once

#include "device.h"

enum class Fp8 { ocp, fnuz };

#if defined(OCTET_TARGET_GFX942)
constexpr Fp8 native_fp8 = Fp8::fnuz;
#else
constexpr Fp8 native_fp8 = Fp8::ocp;
#endif

// The largest magnitude quantisation produces, and the NaN code.
template <Fp8 E>
constexpr float fp8_limit = E == Fp8::ocp ? 448.0f : 224.0f;
template <Fp8 E>
constexpr uint8_t fp8_nan = E == Fp8::ocp ? 0x7F : 0x80;

// Exact widening of one code, in either encoding, by bits alone.
template <Fp8 E>
OCTET_INLINE float fp8_to_f32(uint8_t code) {
  constexpr int bias = E == Fp8::ocp ? 7 : 8;
  const bool nan = E == Fp8::ocp ? (code & 0x7F) == 0x7F : code == 0x80;
  if (nan) return __builtin_nanf("");
  const uint32_t sign = static_cast<uint32_t>(code & 0x80) << 24;
  // The seven magnitude bits at the top of an f32's exponent and mantissa, then the difference of the biases by an exact
  // multiplication, which also makes subnormals right.
  const float magnitude = bits_float(static_cast<uint32_t>(code & 0x7F) << 20);
  const float rebias = bits_float(static_cast<uint32_t>(127 + 127 - bias) << 23);
  return bits_float(float_bits(magnitude * rebias) | sign);
}

// Narrowing to nearest even, saturated at fp8_limit; NaN and inf give the NaN code.
template <Fp8 E>
OCTET_INLINE uint8_t f32_to_fp8(float x) {
  if (!is_finite(x)) return fp8_nan<E>;
  constexpr int bias = E == Fp8::ocp ? 7 : 8;
  constexpr float smallest_normal = E == Fp8::ocp ? 0x1p-6f : 0x1p-7f;
  const float magnitude = __builtin_fminf(__builtin_fabsf(x), fp8_limit<E>);
  uint32_t code;
  if (magnitude < smallest_normal) {
    // Adding 2^23 units of the subnormal step rounds to nearest even in the last mantissa bits.
    constexpr float anchor = smallest_normal * 0x1p20f;
    code = float_bits(magnitude + anchor) - float_bits(anchor);
  } else {
    const uint32_t bits = float_bits(magnitude);
    const uint32_t rounded = bits + 0x7FFFF + ((bits >> 20) & 1);
    code = (rounded >> 20) - (static_cast<uint32_t>(127 - bias) << 3);
  }
  const uint32_t sign = float_bits(x) >> 24 & 0x80;
  if (E == Fp8::fnuz && code == 0) return 0;  // FNUZ has no -0: its code is the NaN
  return static_cast<uint8_t>(code | sign);
}

// scale = amax/limit, 1 where that is 0.
template <Fp8 E>
OCTET_INLINE float fp8_scale(float amax) {
  const float scale = amax / fp8_limit<E>;
  return scale == 0.0f ? 1.0f : scale;
}

// Four codes of the target's own encoding to four bf16, exactly: E4M3 has fewer exponent and mantissa bits.
#if !defined(OCTET_SIM) && !defined(OCTET_TARGET_SM_90)
OCTET_INLINE u32x2 fp8x4_to_bf16(uint32_t codes) {
  const f32x2 low = __builtin_amdgcn_cvt_pk_f32_fp8(static_cast<int>(codes), false);
  const f32x2 high = __builtin_amdgcn_cvt_pk_f32_fp8(static_cast<int>(codes), true);
  return u32x2{bf16_upper_pair(low[0], low[1]), bf16_upper_pair(high[0], high[1])};
}
#else
OCTET_INLINE u32x2 fp8x4_to_bf16(uint32_t codes) {
  uint32_t halves[4];
  for (int i = 0; i < 4; i++) {
    halves[i] = float_bits(fp8_to_f32<native_fp8>(static_cast<uint8_t>(codes >> 8 * i))) >> 16;
  }
  return u32x2{halves[0] | halves[1] << 16, halves[2] | halves[3] << 16};
}
#endif

// Ones in the bytes that are NaN codes: where x + the ones of seven bits does not carry, all of them were 0.
template <Fp8 E>
OCTET_INLINE uint32_t fp8x4_nan_mask(uint32_t codes) {
  constexpr uint32_t low = 0x7F7F7F7F;
  const uint32_t x = E == Fp8::ocp ? ~codes & low : codes ^ ~low;
  return (~(((x & low) + low) | x | low) >> 7) * 0xFF;
}
// Ones in the halves that are a bf16 NaN or infinity: their magnitude and 0x80 overflow into the sign.
OCTET_INLINE uint32_t bf16x2_not_finite_mask(uint32_t pair) {
  return ((((pair & 0x7FFF7FFF) + 0x00800080) & 0x80008000) >> 15) * 0xFFFF;
}
