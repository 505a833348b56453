// Functions compiled twice: for this machine, and for gfx942, where the emulator executes what the compiler made of
// them. Both must give the same bits. Each takes and returns 64 bits; float functions use the low half or all of it.
#pragma once

#include <stdint.h>

#if defined(__HIP__)
#define MACHINE_INLINE __attribute__((device, always_inline)) inline
#else
#define MACHINE_INLINE inline
#endif

#define I32(x) static_cast<int32_t>(x)
#define U32(x) static_cast<uint32_t>(x)
#define I64(x) static_cast<int64_t>(x)
#define F32(x) __builtin_bit_cast(float, static_cast<uint32_t>(x))
#define F64(x) __builtin_bit_cast(double, x)
// Bounded, so that conversions to integers are defined.
#define NEAR(x, limit) ((x) > -(limit) && (x) < (limit) ? (x) : (limit) / 4)

// name, expression in a, b, c
#define INTEGER_FUNCTIONS(F)                                                                                          \
  F(quotient_i32, U32(I32(a) / (I32(b) == 0 || I32(b) == -1 ? 7 : I32(b))))                                           \
  F(remainder_i32, U32(I32(a) % (I32(b) == 0 || I32(b) == -1 ? 7 : I32(b))))                                          \
  F(quotient_u32, U32(a) / (U32(b) | 1))                                                                              \
  F(remainder_u32, U32(a) % (U32(b) | 1))                                                                             \
  F(quotient_i64, static_cast<uint64_t>(I64(a) / (I64(b) == 0 || I64(b) == -1 ? 7 : I64(b))))                         \
  F(remainder_u64, a % (b | 1))                                                                                       \
  F(quotient_mixed, a / (U32(b) | 1u))                                                                                \
  F(product_64, a* b + c)                                                                                             \
  F(product_high, static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64))                               \
  F(product_high_i32, U32((I64(I32(a)) * I32(b)) >> 32))                                                              \
  F(product_24, (U32(a) & 0xFFFFFF) * (U32(b) & 0xFFFFFF) + U32(c))                                                   \
  F(product_signed_24, U32((I32(U32(a) << 8) >> 8) * ((I32(U32(b) << 8) >> 8) % 128) + I32(c % 1024)))                \
  F(sums, (U32(a) + U32(b) + U32(c)) ^ ((a - b) << 3) ^ (a + b < a ? 1 : 0))                                          \
  F(shifts_32, (U32(a) << (b & 31)) ^ (U32(a) >> (c & 31)) ^ U32(I32(a) >> (b & 31)))                                 \
  F(shifts_64, (a << (b & 63)) ^ (a >> (c & 63)) ^ static_cast<uint64_t>(I64(a) >> (b & 63)))                         \
  F(rotate, __builtin_rotateleft32(U32(a), U32(b)) ^ __builtin_rotateright64(a, c))                                   \
  F(counts,                                                                                                           \
    U32(__builtin_popcountll(a) * 10000 + __builtin_clz(U32(b) | 1) * 100 + __builtin_ctz(U32(c) | 0x80000000u)))     \
  F(counts_64, U32(__builtin_clzll(a | 1) * 100 + __builtin_ctzll(b | (1ull << 63))))                                 \
  F(reversed, __builtin_bitreverse64(a) ^ __builtin_bswap64(b) ^ __builtin_bitreverse32(U32(c)))                      \
  F(fields,                                                                                                           \
    ((a >> 5) & 0x7FF) + static_cast<uint64_t>((I32(b) << 7) >> 21) + ((U32(c) & 0xFF00FF) | (U32(b) & 0xFF00)))      \
  F(narrow_bytes,                                                                                                     \
    U32(static_cast<uint8_t>(static_cast<uint8_t>(a) + static_cast<uint8_t>(b >> 8)) * static_cast<int8_t>(c >> 16))) \
  F(narrow_halves,                                                                                                    \
    U32(static_cast<uint16_t>(static_cast<uint16_t>(a >> 16) - static_cast<uint16_t>(b)) ^ static_cast<int16_t>(c)))  \
  F(extremes, U32((I32(a) < I32(b) ? I32(a) : I32(b)) ^ (I32(a) > I32(c) ? I32(a) : I32(c))) ^                        \
                  (U32(a) < U32(c) ? U32(a) : U32(c)))                                                                \
  F(median, U32(I32(a) < -500 ? -500 : I32(a) > 70000 ? 70000 : I32(a)))                                              \
  F(chosen_64, I64(a) < I64(b) ? c : a <= c ? b : a)                                                                  \
  F(chosen_16, static_cast<uint16_t>(a) < static_cast<uint16_t>(b) ? b : static_cast<int16_t>(c) >= 5 ? a : c)        \
  F(magnitude, U32(I32(a) < 0 ? 0u - U32(a) : U32(a)) + (I64(b) < 0 ? 0 - b : b))                                     \
  F(looped, machine_looped(a, b))

#define FLOAT_FUNCTIONS(F)                                                                                         \
  F(sum_f32, F32(a) + F32(b) - F32(c))                                                                             \
  F(product_f32, F32(a) * F32(b))                                                                                  \
  F(fused_f32, __builtin_fmaf(F32(a), -F32(b), __builtin_fabsf(F32(c))))                                           \
  F(quotient_f32, F32(a) / F32(b))                                                                                 \
  F(root_f32, __builtin_sqrtf(F32(a)))                                                                             \
  F(rounded_f32, __builtin_floorf(F32(a)) + __builtin_truncf(F32(b)))                                              \
  F(rounded_more_f32, __builtin_ceilf(F32(a)) - __builtin_rintf(F32(b)))                                           \
  F(extremes_f32, __builtin_fminf(F32(a), F32(b)) + __builtin_fmaxf(F32(b), F32(c)))                               \
  F(clamped_f32, F32(a) < -2.0f ? -2.0f : F32(a) > 3.5f ? 3.5f : F32(a))                                           \
  F(ordered_f32, F32(a) < F32(b) ? 1.0f : F32(a) >= F32(c) ? 2.0f : F32(b) != F32(c) ? 3.0f : 4.0f)                \
  F(unordered_f32, !(F32(a) < F32(b)) ? 1.0f : !(F32(a) >= F32(c)) ? 2.0f : __builtin_isnan(F32(c)) ? 3.0f : 4.0f) \
  F(from_i32, static_cast<float>(I32(a)))                                                                          \
  F(from_u32, static_cast<float>(U32(a)))                                                                          \
  F(from_u64, static_cast<float>(a))                                                                               \
  F(from_i64, static_cast<float>(I64(a)))                                                                          \
  F(from_byte, static_cast<float>(static_cast<uint8_t>(a >> 16)))                                                  \
  F(through_i32, static_cast<float>(I32(NEAR(F32(a), 1e9f))))                                                      \
  F(through_u32, static_cast<float>(U32(__builtin_fabsf(NEAR(F32(a), 4e9f)))))                                     \
  F(through_i64, static_cast<float>(static_cast<int64_t>(NEAR(F32(a), 9e18f))))                                    \
  F(from_f64, static_cast<float>(F64(a)))                                                                          \
  F(scaled_f32, __builtin_ldexpf(F32(a), I32(b % 300) - 150))

#define DOUBLE_FUNCTIONS(F)                                                                      \
  F(sum_f64, F64(a) + F64(b))                                                                    \
  F(product_f64, F64(a) * F64(b))                                                                \
  F(fused_f64, __builtin_fma(F64(a), F64(b), -F64(c)))                                           \
  F(rounded_f64, __builtin_floor(F64(a)) + __builtin_trunc(F64(b)))                              \
  F(widened, static_cast<double>(F32(a)) * static_cast<double>(I32(b)))                          \
  F(through_u64, static_cast<double>(static_cast<uint64_t>(__builtin_fabs(NEAR(F64(a), 1e19))))) \
  F(scaled_f64, __builtin_ldexp(F64(a), I32(b % 300) - 150))

// Loops and branches that differ from lane to lane.
MACHINE_INLINE uint64_t machine_looped(uint64_t a, uint64_t b) {
  uint64_t steps = 0;
  uint32_t x = U32(a) % 1000 + 1;
  while (x != 1 && steps < 300) {
    x = x % 2 == 0 ? x / 2 : 3 * x + 1;
    if (x == U32(b) % 64) continue;
    steps++;
    if (steps == b % 97) break;
  }
  return steps << 32 | x;
}

#define DEFINE_INTEGER(name, expression)                             \
  MACHINE_INLINE uint64_t name(uint64_t a, uint64_t b, uint64_t c) { \
    return static_cast<void>(b), static_cast<void>(c), (expression); \
  }
#define DEFINE_FLOAT(name, expression)                               \
  MACHINE_INLINE uint64_t name(uint64_t a, uint64_t b, uint64_t c) { \
    static_cast<void>(b), static_cast<void>(c);                      \
    return __builtin_bit_cast(uint32_t, (expression));               \
  }
#define DEFINE_DOUBLE(name, expression)                              \
  MACHINE_INLINE uint64_t name(uint64_t a, uint64_t b, uint64_t c) { \
    static_cast<void>(b), static_cast<void>(c);                      \
    return __builtin_bit_cast(uint64_t, (expression));               \
  }
namespace machine {
INTEGER_FUNCTIONS(DEFINE_INTEGER)
FLOAT_FUNCTIONS(DEFINE_FLOAT)
DOUBLE_FUNCTIONS(DEFINE_DOUBLE)
}  // namespace machine
