// The device vocabulary: what makes one kernel source possible on gfx942, gfx950, sm_90 and in the simulator.
//
// Kernels are written in the HIP dialect against this header only. Exactly one of these is defined by the build:
//   OCTET_TARGET_GFX942, OCTET_TARGET_GFX950, OCTET_TARGET_SM_90   what the code is for
// and OCTET_SIM in addition where the simulator runs it on the CPU. Each intrinsic is written once, here or in fp8.h and
// mma.h, with its reason. No CUDA or HIP header is used (-nogpuinc, -nocudainc).
#pragma once

#include <stddef.h>
#include <stdint.h>

// No vector is wider than 16 bytes: the widest load every target has.
using u32x2 = uint32_t __attribute__((ext_vector_type(2)));
using u32x4 = uint32_t __attribute__((ext_vector_type(4)));
using i32x4 = int32_t __attribute__((ext_vector_type(4)));
using f32x2 = float __attribute__((ext_vector_type(2)));
using f32x4 = float __attribute__((ext_vector_type(4)));

#if defined(OCTET_SIM)
#include "../sim/device_sim.h"
#else

#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
#define OCTET_INLINE __device__ inline __attribute__((always_inline))

// A kernel instance: OCTET_KERNEL(gemm_m64n128k128, GemmParams, 256) { ... params ... }
// threads: the largest block it is launched with. The simulator registers the same line under the same name.
#define OCTET_KERNEL(name, Params, threads) \
  extern "C" __global__ __attribute__((visibility("default"))) OCTET_LAUNCH_BOUNDS(threads) void name(Params params)

// All LDS is dynamic; a configuration lays it out in one named struct whose sizeof is the launch parameter.
extern "C" {
extern __shared__ __attribute__((aligned(16))) char octet_lds[];
}
#define OCTET_LDS(Struct) (*reinterpret_cast<Struct*>(octet_lds))

#if defined(OCTET_TARGET_SM_90)
#include "device_sm90.h"
#else
#include "device_gfx9.h"
#endif

#endif  // OCTET_SIM

// ---- the same on every target ------------------------------------------------------------------------------------

OCTET_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
template <class T>
OCTET_INLINE constexpr T min_of(T a, T b) { return a < b ? a : b; }
template <class T>
OCTET_INLINE constexpr T max_of(T a, T b) { return a > b ? a : b; }

// step(Constant<0>), ..., step(Constant<count - 1>): a loop that is always unrolled, however long its body.
template <int n>
struct Constant {
  static constexpr int value = n;
};
template <class T, T... n>
struct Constants {
  template <class Step>
  OCTET_INLINE static void each([[maybe_unused]] const Step& step) { (step(Constant<n>{}), ...); }
};
template <int count, class Step>
OCTET_INLINE void unrolled([[maybe_unused]] const Step& step) { __make_integer_seq<Constants, int, count>::each(step); }

OCTET_INLINE float exp_fast(float x) { return exp2_fast(x * 1.4426950408889634f); }
OCTET_INLINE float log_fast(float x) { return log2_fast(x) * 0.6931471805599453f; }
// silu(x) = x / (1 + exp(-x)); exp overflows to inf for x < -88 and the quotient is then -0, as it should be.
OCTET_INLINE float silu(float x) { return x / (1.0f + exp_fast(-x)); }
OCTET_INLINE bool is_finite(float x) { return __builtin_fabsf(x) < __builtin_inff(); }

OCTET_INLINE uint32_t float_bits(float x) { return __builtin_bit_cast(uint32_t, x); }
OCTET_INLINE float bits_float(uint32_t x) { return __builtin_bit_cast(float, x); }

// bf16 is carried as its 16 bits. Narrowing is to nearest even; NaN stays NaN.
OCTET_INLINE float bf16_to_f32(uint16_t x) { return bits_float(static_cast<uint32_t>(x) << 16); }
OCTET_INLINE uint16_t f32_to_bf16(float x) {
  const uint32_t bits = float_bits(x);
  if (x != x) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// x rounded to bf16, still an f32.
OCTET_INLINE float round_bf16(float x) { return bits_float(static_cast<uint32_t>(f32_to_bf16(x)) << 16); }
// A float whose upper half is x rounded to bf16, for an x that is no NaN, or one whose low half is 0, or such as the
// hardware makes of other numbers: on gfx9 (0x7FC00000) the bias to the nearest even does not carry out of it.
OCTET_INLINE float bias_bf16(float x) {
#if defined(OCTET_TARGET_SM_90)  // 0x7FFFFFFF
  return round_bf16(x);
#else
  const uint32_t bits = float_bits(x);
  return bits_float(bits + 0x7FFF + (bits >> 16 & 1));
#endif
}
OCTET_INLINE float upper_bf16(float x) { return bits_float(float_bits(x) & 0xFFFF0000u); }

// The upper half of the result is the nearest bf16 (ties away from 0; a NaN may become anything).
OCTET_INLINE float bf16_rounded(float x) { return bits_float(float_bits(x) + 0x8000u); }

// Butterfly reductions over the wave: every lane ends with the same bits, in an order fixed by wave_size.
OCTET_INLINE float wave_sum(float x) {
  for (int mask = wave_size / 2; mask > 0; mask /= 2) x += __shfl_xor(x, mask);
  return x;
}
OCTET_INLINE float wave_max(float x) {
  for (int mask = wave_size / 2; mask > 0; mask /= 2) x = __builtin_fmaxf(x, __shfl_xor(x, mask));
  return x;
}

// The largest of each group of so many neighbouring lanes, the same in all of them. Three exchanges are on their way
// together: two latencies for 16 lanes, where a butterfly has four.
OCTET_INLINE float larger(float a, float b) { return __builtin_fmaxf(a, b); }
OCTET_INLINE uint32_t larger(uint32_t a, uint32_t b) { return max_of(a, b); }
template <int lanes, class T>
OCTET_INLINE T group_max(T x) {
#pragma unroll
  for (int step = 1; step < lanes; step *= 4) {
    const T second = __shfl_xor(x, step);
    if (2 * step == lanes) return larger(x, second);
    const T third = __shfl_xor(x, 2 * step), fourth = __shfl_xor(x, 3 * step);
    x = larger(larger(x, second), larger(third, fourth));
  }
  return x;
}

OCTET_INLINE int lane_index() { return static_cast<int>(threadIdx.x) % wave_size; }
OCTET_INLINE int wave_index() { return wave_uniform(static_cast<int>(threadIdx.x) / wave_size); }

// Sum over a block of so many threads, the same in every one; the waves' sums are read together. scratch: one float per
// wave, in LDS; free again after the next barrier.
template <int threads>
OCTET_INLINE float block_sum(float x, float* scratch) {
  x = wave_sum(x);
  if (lane_index() == 0) scratch[wave_index()] = x;
  __syncthreads();
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < threads / wave_size; i++) total += scratch[i];
  return total;
}
OCTET_INLINE float block_max(float x, float* scratch) {
  x = wave_max(x);
  if (lane_index() == 0) scratch[wave_index()] = x;
  __syncthreads();
  float largest = scratch[0];
  for (int i = 1; i < static_cast<int>(blockDim.x) / wave_size; i++) largest = __builtin_fmaxf(largest, scratch[i]);
  return largest;
}
