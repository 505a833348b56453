// Vector ALU instructions. Each is one expression over a lane, applied to all 64; EXEC decides which lanes are written.
// Semantics: AMD's CDNA3 instruction set reference, chapters on VOP1, VOP2, VOP3, VOP3P, VOPC, SDWA and DPP.
// Transcendentals are exact to f32 where the machine is within 1 ulp, and flush denormals as it does.

#include <cmath>
#include <cstdarg>
#include <limits>
#include <unordered_map>

#include "lanes.h"

namespace octet::gfx942 {

namespace {

// ---- expressions ----

constexpr float infinity = std::numeric_limits<float>::infinity();

float flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
float quiet(float x) { return std::bit_cast<float>(std::bit_cast<uint32_t>(x) | 0x400000u); }

// One NaN gives the other operand; -0 is below +0.
template <class T>
T lesser(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class T>
T greater(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
float median(float a, float b, float c) {
  if (a != a || b != b || c != c) return lesser(lesser(a, b), c);
  return greater(lesser(greater(a, b), c), lesser(a, b));
}
template <class T>
T median_integer(T a, T b, T c) {
  return std::max(std::min(std::max(a, b), c), std::min(a, b));
}

float exp2_of(float x) {
  x = flush(x);
  return flush(static_cast<float>(std::exp2(static_cast<double>(x))));
}
float log2_of(float x) { return static_cast<float>(std::log2(static_cast<double>(flush(x)))); }
float rcp_of(float x) { return flush(static_cast<float>(1.0 / static_cast<double>(flush(x)))); }
float rsq_of(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(flush(x)))); }
float sqrt_of(float x) { return std::sqrt(flush(x)); }

// Conversions to integers saturate; NaN gives 0.
template <class I, class T>
I to_integer(T x) {
  if (x != x) return 0;
  if (x <= static_cast<T>(std::numeric_limits<I>::min())) return std::numeric_limits<I>::min();
  if (x >= static_cast<T>(std::numeric_limits<I>::max())) return std::numeric_limits<I>::max();
  return static_cast<I>(x);
}

uint32_t perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{a} << 32 | b;
  uint32_t result = 0;
  for (int i = 0; i < 4; i++) {
    const uint32_t s = selector >> 8 * i & 0xFF;
    uint32_t byte;
    if (s >= 13)
      byte = 0xFF;
    else if (s == 12)
      byte = 0;
    else if (s >= 8)  // the sign of a 16-bit half
      byte = bytes >> (16 * (s - 8) + 15) & 1 ? 0xFF : 0;
    else
      byte = bytes >> 8 * s & 0xFF;
    result |= byte << 8 * i;
  }
  return result;
}
uint32_t bfe(uint32_t x, uint32_t at, uint32_t width) {
  at &= 31, width &= 31;
  return x >> at & ((1u << width) - 1);
}
int32_t bfe_signed(int32_t x, uint32_t at, uint32_t width) {
  at &= 31, width &= 31;
  if (width == 0) return 0;
  const uint32_t bits = static_cast<uint32_t>(x) >> at;
  return at + width >= 32 ? x >> at : static_cast<int32_t>(bits << (32 - width)) >> (32 - width);
}
// Leading bits equal to the sign; all equal gives -1.
uint32_t leading_signs(uint32_t x) {
  if (x >> 31) x = ~x;
  return x == 0 ? ~0u : static_cast<uint32_t>(std::countl_zero(x));
}
uint32_t reverse(uint32_t x) {
  uint32_t result = 0;
  for (int i = 0; i < 32; i++) result |= (x >> i & 1) << (31 - i);
  return result;
}

// Bit 0 signalling NaN, 1 quiet NaN, 2 -inf, 3 -normal, 4 -denormal, 5 -0, 6 +0, 7 +denormal, 8 +normal, 9 +inf.
bool is_class(float x, uint32_t classes) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), exponent = bits >> 23 & 0xFF, mantissa = bits & 0x7FFFFF;
  const bool minus = bits >> 31;
  int index;
  if (exponent == 0xFF)
    index = mantissa != 0 ? (mantissa >> 22 ? 1 : 0) : minus ? 2 : 9;
  else if (exponent == 0)
    index = mantissa == 0 ? (minus ? 5 : 6) : minus ? 4 : 7;
  else
    index = minus ? 3 : 8;
  return classes >> index & 1;
}

int exponent_of(float x) { return static_cast<int>(std::bit_cast<uint32_t>(x) >> 23 & 0xFF); }
bool denormal(float x) { return x != 0 && std::fabs(x) < 0x1p-126f; }

// The division sequence: numerator and denominator are scaled away from the ends of the range, and the quotient back.
void div_scale(Wave& wave, const Instruction& in) {
  alignas(64) float x[lanes], denominator[lanes], numerator[lanes];
  read(wave, in, 0, x), read(wave, in, 1, denominator), read(wave, in, 2, numerator);
  uint64_t scaled = 0;
  for (int i = 0; i < lanes; i++) {
    const float s0 = x[i], s1 = denominator[i], s2 = numerator[i];
    bool flag = false;
    float result = s0;
    const auto same = [](float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); };
    const float inverse = static_cast<float>(1.0 / static_cast<double>(s1));
    const float quotient = static_cast<float>(static_cast<double>(s2) / static_cast<double>(s1));
    if (s2 == 0 || s1 == 0) {
      result = std::numeric_limits<float>::quiet_NaN();
    } else if (exponent_of(s2) - exponent_of(s1) >= 96) {
      flag = true;
      if (same(s0, s1)) result = std::ldexp(s0, 64);
    } else if (denormal(s1)) {
      result = std::ldexp(s0, 64);
    } else if (denormal(inverse) && denormal(quotient)) {
      flag = true;
      if (same(s0, s1)) result = std::ldexp(s0, -64);
    } else if (denormal(inverse)) {
      result = std::ldexp(s0, -64);
    } else if (denormal(quotient)) {
      flag = true;
      if (same(s0, s2)) result = std::ldexp(s0, 64);
    } else if (exponent_of(s2) <= 23) {
      result = std::ldexp(s0, 64);
    }
    x[i] = result;
    if (flag) scaled |= uint64_t{1} << i;
  }
  write(wave, in, x);
  write_mask(wave, in.carry, scaled);
}

void div_fmas(Wave& wave, const Instruction& in) {
  alignas(64) float a[lanes], b[lanes], c[lanes];
  read(wave, in, 0, a), read(wave, in, 1, b), read(wave, in, 2, c);
  const uint64_t scaled = wave.vcc();
  for (int i = 0; i < lanes; i++) {
    float result = std::fma(a[i], b[i], c[i]);
    // Rounded once, after the scaling: a quotient may be denormal.
    if (scaled >> i & 1)
      result = static_cast<float>(std::fma(double{a[i]}, double{b[i]}, double{c[i]}) *
                                  (exponent_of(c[i]) > 127 ? 0x1p64 : 0x1p-64));
    a[i] = result;
  }
  write(wave, in, a);
}

float div_fixup(float quotient, float denominator, float numerator) {
  const float sign = std::signbit(denominator) != std::signbit(numerator) ? -1.0f : 1.0f;
  if (numerator != numerator) return quiet(numerator);
  if (denominator != denominator) return quiet(denominator);
  const bool infinite_numerator = std::isinf(numerator), infinite_denominator = std::isinf(denominator);
  if ((denominator == 0 && numerator == 0) || (infinite_numerator && infinite_denominator))
    return std::bit_cast<float>(0xFFC00000u);
  if (denominator == 0 || infinite_numerator) return std::copysign(infinity, sign);
  if (infinite_denominator || numerator == 0) return std::copysign(0.0f, sign);
  if (exponent_of(numerator) - exponent_of(denominator) < -150) return std::copysign(0.0f, sign);
  // NOTE: the reference leaves open how a quotient past the largest number, with a denormal denominator, becomes
  // infinite; IEEE division, which the sequence is for, does not.
  if (std::ilogb(numerator) - std::ilogb(denominator) > 128) return std::copysign(infinity, sign);
  return std::copysign(quotient, sign);
}

// ---- FP8: gfx942 has FNUZ, bias 8, one NaN (0x80), no infinity, no -0; out of range gives the NaN ----

float from_fp8(uint32_t code) {
  if (code == 0x80) return std::numeric_limits<float>::quiet_NaN();
  const int exponent = static_cast<int>(code >> 3 & 15), mantissa = static_cast<int>(code & 7);
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -10)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 11);
  return code & 0x80 ? -magnitude : magnitude;
}
uint32_t to_fp8(float x) {
  const float magnitude = std::fabs(x);
  if (x != x || magnitude >= 248.0f) return 0x80;  // 248 is a tie that rounds to 256
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int quantum = std::max(exponent - 4, -10);  // of the last mantissa bit
  const float steps = std::nearbyint(std::ldexp(magnitude, -quantum));
  if (steps == 0) return 0;
  auto mantissa = static_cast<uint32_t>(steps);
  int biased = quantum + 11;
  if (mantissa == 16) mantissa = 8, biased++;
  const uint32_t code = mantissa < 8 ? mantissa : static_cast<uint32_t>(biased) << 3 | (mantissa & 7);
  return code | (std::signbit(x) ? 0x80u : 0u);
}

// Two codes of the low half of the source, or with SDWA WORD_1 of the high half, widened.
void cvt_pk_f32_fp8(Wave& wave, const Instruction& in) {
  alignas(64) uint32_t x[lanes];
  alignas(64) uint64_t pair[lanes];
  read(wave, in, 0, x);
  if (in.op_sel & 1)
    for (uint32_t& word : x) word >>= 16;
  static const auto table = [] {
    std::vector<uint32_t> values(256);
    for (uint32_t code = 0; code < 256; code++) values[code] = std::bit_cast<uint32_t>(from_fp8(code));
    return values;
  }();
  for (int i = 0; i < lanes; i++) pair[i] = table[x[i] & 0xFF] | uint64_t{table[x[i] >> 8 & 0xFF]} << 32;
  write(wave, in, pair);
}
void cvt_f32_fp8(Wave& wave, const Instruction& in) {
  alignas(64) uint32_t x[lanes];
  alignas(64) float result[lanes];
  read(wave, in, 0, x);
  for (int i = 0; i < lanes; i++) result[i] = from_fp8(x[i] & 0xFF);
  write(wave, in, result);
}
// Narrows two values into one half of the destination (op_sel of the destination: the high half) and keeps the other
// half.
void cvt_pk_fp8_f32(Wave& wave, const Instruction& in) {
  alignas(64) float a[lanes], b[lanes];
  alignas(64) uint32_t result[lanes];
  read(wave, in, 0, a), read(wave, in, 1, b);
  const bool high = in.op_sel >> 2 & 1;
  for (int i = 0; i < lanes; i++) {
    const uint32_t pair = to_fp8(a[i]) | to_fp8(b[i]) << 8, old = wave.v[in.to.reg][i];
    result[i] = high ? (old & 0xFFFF) | pair << 16 : (old & 0xFFFF0000) | pair;
  }
  write(wave, in, result);
}

// ---- packed: each half has its own selection and negation ----

// Half `high` of packed operand `index`: op_sel picks for the low result, op_sel_hi for the high one.
template <class T>
void read_half(Wave& wave, const Instruction& in, int index, bool high, T (&out)[lanes]) {
  const Operand& operand = in.from[index];
  const bool second = (high ? in.op_sel_hi : in.op_sel) >> index & 1;
  const bool negative = (high ? in.neg_hi : in.neg_lo) >> index & 1;
  if constexpr (sizeof(T) == 4) {
    if (operand.kind == Operand_kind::constant) {
      if (second && constant_bits(operand) != 0) fault("the high half of a constant in a packed instruction");
      for (T& x : out) x = std::bit_cast<T>(constant_bits(operand));
    } else if (operand.kind == Operand_kind::sgpr) {
      for (T& x : out) x = std::bit_cast<T>(wave.s[operand.reg + second]);
    } else {
      std::memcpy(out, wave.v[operand.reg + second], sizeof(out));
    }
    if (negative)
      for (T& x : out) x = std::bit_cast<T>(std::bit_cast<uint32_t>(x) ^ 0x80000000u);
  } else {
    alignas(64) uint32_t words[lanes];
    read_dwords(wave, operand, words);
    if (negative) fault("the negation of a packed 16-bit operand");
    for (int i = 0; i < lanes; i++) out[i] = static_cast<T>(words[i] >> (second ? 16 : 0));
  }
}
template <class T, int Count, auto F>
void packed(Wave& wave, const Instruction& in) {
  alignas(64) T a[lanes], b[lanes], c[lanes], low[lanes], high[lanes];
  for (int half = 0; half < 2; half++) {
    read_half(wave, in, 0, half, a);
    if constexpr (Count > 1) read_half(wave, in, 1, half, b);
    if constexpr (Count > 2) read_half(wave, in, 2, half, c);
    T(&result)[lanes] = half ? high : low;
    for (int i = 0; i < lanes; i++)
      if constexpr (Count == 1)
        result[i] = F(a[i]);
      else if constexpr (Count == 2)
        result[i] = F(a[i], b[i]);
      else
        result[i] = F(a[i], b[i], c[i]);
  }
  if constexpr (sizeof(T) == 4) {
    alignas(64) uint64_t pair[lanes];
    for (int i = 0; i < lanes; i++) {
      T x = low[i], y = high[i];
      if constexpr (std::is_same_v<T, float>)
        if (in.clamp) x = std::fmin(std::fmax(x, 0.0f), 1.0f), y = std::fmin(std::fmax(y, 0.0f), 1.0f);
      pair[i] = std::bit_cast<uint32_t>(x) | uint64_t{std::bit_cast<uint32_t>(y)} << 32;
    }
    write(wave, in, pair);
  } else {
    alignas(64) uint32_t pair[lanes];
    for (int i = 0; i < lanes; i++)
      pair[i] = static_cast<uint16_t>(low[i]) | uint32_t{static_cast<uint16_t>(high[i])} << 16;
    write(wave, in, pair);
  }
}

// ---- one, two or three operands ----

template <class R, class A, auto F>
void unary(Wave& wave, const Instruction& in) {
  alignas(64) A a[lanes];
  alignas(64) R result[lanes];
  read(wave, in, 0, a);
  for (int i = 0; i < lanes; i++) result[i] = F(a[i]);
  write(wave, in, result);
}
template <class R, class A, class B, auto F>
void binary(Wave& wave, const Instruction& in) {
  alignas(64) A a[lanes];
  alignas(64) B b[lanes];
  alignas(64) R result[lanes];
  read(wave, in, 0, a), read(wave, in, 1, b);
  for (int i = 0; i < lanes; i++) result[i] = F(a[i], b[i]);
  write(wave, in, result);
}
template <class R, class A, class B, class C, auto F>
void ternary(Wave& wave, const Instruction& in) {
  alignas(64) A a[lanes];
  alignas(64) B b[lanes];
  alignas(64) C c[lanes];
  alignas(64) R result[lanes];
  read(wave, in, 0, a), read(wave, in, 1, b), read(wave, in, 2, c);
  for (int i = 0; i < lanes; i++) result[i] = F(a[i], b[i], c[i]);
  write(wave, in, result);
}
// The destination is the third operand.
template <class T, class A, class B, auto F>
void accumulate(Wave& wave, const Instruction& in) {
  alignas(64) A a[lanes];
  alignas(64) B b[lanes];
  alignas(64) T c[lanes];
  read(wave, in, 0, a), read(wave, in, 1, b), read_operand(wave, in.to, c);
  for (int i = 0; i < lanes; i++) c[i] = F(a[i], b[i], c[i]);
  write(wave, in, c);
}
// Comparisons write one bit a lane, 0 for inactive lanes; x variants write EXEC too, which is not used by compiled
// code.
template <class A, class B, auto F>
void compare(Wave& wave, const Instruction& in) {
  alignas(64) A a[lanes];
  alignas(64) B b[lanes];
  read(wave, in, 0, a), read(wave, in, 1, b);
  uint64_t bits = 0;
  for (int i = 0; i < lanes; i++) bits |= uint64_t{F(a[i], b[i])} << i;
  write_mask(wave, in.to, bits);
}
template <class T>
void compare_class(Wave& wave, const Instruction& in) {
  compare<float, uint32_t, is_class>(wave, in);
}

// Sums with a carry: `in.carry` gets the bit, the third operand where there is one is the carry in.
template <bool subtract, bool reversed, bool with_carry>
void carry_sum(Wave& wave, const Instruction& in) {
  alignas(64) uint32_t a[lanes], b[lanes], result[lanes];
  read(wave, in, reversed ? 1 : 0, a), read(wave, in, reversed ? 0 : 1, b);
  const uint64_t carry_in = with_carry ? scalar64(wave, in.from[2]) : 0;
  uint64_t bits = 0;
  for (int i = 0; i < lanes; i++) {
    const uint64_t one = carry_in >> i & 1;
    const uint64_t wide = subtract ? uint64_t{a[i]} - b[i] - one : uint64_t{a[i]} + b[i] + one;
    result[i] = static_cast<uint32_t>(wide);
    bits |= (wide >> 32 & 1) << i;
  }
  write(wave, in, result);
  write_mask(wave, in.carry, bits);
}

template <class Wide, class Narrow>
void mad_64(Wave& wave, const Instruction& in) {
  alignas(64) Narrow a[lanes], b[lanes];
  alignas(64) uint64_t c[lanes];
  read(wave, in, 0, a), read(wave, in, 1, b), read(wave, in, 2, c);
  uint64_t bits = 0;
  for (int i = 0; i < lanes; i++) {
    const uint64_t product = static_cast<uint64_t>(Wide{a[i]} * Wide{b[i]}), sum = product + c[i];
    bits |= uint64_t{sum < product} << i;
    c[i] = sum;
  }
  write(wave, in, c);
  write_mask(wave, in.carry, bits);
}

void cndmask(Wave& wave, const Instruction& in) {
  alignas(64) uint32_t a[lanes], b[lanes];
  read(wave, in, 0, a), read(wave, in, 1, b);
  const uint64_t pick = scalar64(wave, in.from[2]);
  for (int i = 0; i < lanes; i++) a[i] = pick >> i & 1 ? b[i] : a[i];
  write(wave, in, a);
}

void readfirstlane(Wave& wave, const Instruction& in) {
  const int lane = wave.exec() == 0 ? 0 : std::countr_zero(wave.exec());
  alignas(64) uint32_t x[lanes];
  read(wave, in, 0, x);
  wave.s[in.to.reg] = x[lane];
}
void readlane(Wave& wave, const Instruction& in) {
  alignas(64) uint32_t x[lanes];
  read(wave, in, 0, x);
  wave.s[in.to.reg] = x[scalar(wave, in.from[1]) % lanes];
}
void writelane(Wave& wave, const Instruction& in) {
  wave.v[in.to.reg][scalar(wave, in.from[1]) % lanes] = scalar(wave, in.from[0]);
}

void mbcnt(Wave& wave, const Instruction& in, bool high) {
  alignas(64) uint32_t mask[lanes], base[lanes];
  read(wave, in, 0, mask), read(wave, in, 1, base);
  for (int i = 0; i < lanes; i++) {
    const uint32_t below = high ? (i >= 32 ? (1u << (i - 32)) - 1 : 0) : i >= 32 ? ~0u : (1u << i) - 1;
    base[i] += static_cast<uint32_t>(std::popcount(mask[i] & below));
  }
  write(wave, in, base);
}

void swap_registers(Wave& wave, const Instruction& in) {
  for (int i = 0; i < lanes; i++)
    if (wave.exec() >> i & 1) std::swap(wave.v[in.to.reg][i], wave.v[in.from[0].reg][i]);
}

void nothing(Wave&, const Instruction&) {}

using Table = std::unordered_map<std::string_view, Handler>;
using u16 = uint16_t;
using i16 = int16_t;
using u32 = uint32_t;
using i32 = int32_t;
using u64 = uint64_t;
using i64 = int64_t;

#define EXPRESSION(parameters, result) [] parameters { return result; }

template <class T>
void add_comparisons(Table& table, std::string_view type) {
  static std::vector<std::string> names = [] {
    std::vector<std::string> list;
    list.reserve(256);
    return list;
  }();
  const auto add = [&](const char* name, Handler handler) {
    names.push_back("v_cmp_" + std::string(name) + "_" + std::string(type));
    table[names.back()] = handler;
  };
  add("lt", compare<T, T, EXPRESSION((T a, T b), a < b)>);
  add("eq", compare<T, T, EXPRESSION((T a, T b), a == b)>);
  add("le", compare<T, T, EXPRESSION((T a, T b), a <= b)>);
  add("gt", compare<T, T, EXPRESSION((T a, T b), a > b)>);
  add("ge", compare<T, T, EXPRESSION((T a, T b), a >= b)>);
  if constexpr (std::is_floating_point_v<T>) {
    add("lg", compare<T, T, EXPRESSION((T a, T b), a < b || a > b)>);
    add("o", compare<T, T, EXPRESSION((T a, T b), a == a && b == b)>);
    add("u", compare<T, T, EXPRESSION((T a, T b), a != a || b != b)>);
    add("nge", compare<T, T, EXPRESSION((T a, T b), !(a >= b))>);
    add("nlg", compare<T, T, EXPRESSION((T a, T b), !(a < b || a > b))>);
    add("ngt", compare<T, T, EXPRESSION((T a, T b), !(a > b))>);
    add("nle", compare<T, T, EXPRESSION((T a, T b), !(a <= b))>);
    add("neq", compare<T, T, EXPRESSION((T a, T b), !(a == b))>);
    add("nlt", compare<T, T, EXPRESSION((T a, T b), !(a < b))>);
  } else {
    add("ne", compare<T, T, EXPRESSION((T a, T b), a != b)>);
  }
}

template <class T>
constexpr auto sum = EXPRESSION((T a, T b), static_cast<T>(a + b));
template <class T>
constexpr auto difference = EXPRESSION((T a, T b), static_cast<T>(a - b));
template <class T>
constexpr auto difference_reversed = EXPRESSION((T a, T b), static_cast<T>(b - a));
template <class T>
constexpr auto product = EXPRESSION((T a, T b), static_cast<T>(a* b));
template <class T>
constexpr auto smaller = EXPRESSION((T a, T b), std::min(a, b));
template <class T>
constexpr auto larger = EXPRESSION((T a, T b), std::max(a, b));
template <class T>
constexpr auto fused = EXPRESSION((T a, T b, T c), std::fma(a, b, c));

u32 u24(u32 x) { return x & 0xFFFFFF; }
i32 i24(i32 x) { return static_cast<i32>(static_cast<u32>(x) << 8) >> 8; }

// ---- moves, bits and integers ----
void add_integers(Table& t) {
  t["v_nop"] = nothing;
  t["v_mov_b32"] = unary<u32, u32, EXPRESSION((u32 a), a)>;
  t["v_mov_b64"] = unary<u64, u64, EXPRESSION((u64 a), a)>;
  t["v_accvgpr_read_b32"] = t["v_accvgpr_write_b32"] = t["v_accvgpr_mov_b32"] = t["v_mov_b32"];
  t["v_swap_b32"] = swap_registers;
  t["v_not_b32"] = unary<u32, u32, EXPRESSION((u32 a), ~a)>;
  t["v_bfrev_b32"] = unary<u32, u32, reverse>;
  t["v_ffbh_u32"] = unary<u32, u32, EXPRESSION((u32 a), a == 0 ? ~0u : static_cast<u32>(std::countl_zero(a)))>;
  t["v_ffbh_i32"] = unary<u32, u32, leading_signs>;
  t["v_ffbl_b32"] = unary<u32, u32, EXPRESSION((u32 a), a == 0 ? ~0u : static_cast<u32>(std::countr_zero(a)))>;
  t["v_and_b32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), a & b)>;
  t["v_or_b32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), a | b)>;
  t["v_xor_b32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), a ^ b)>;
  t["v_xnor_b32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), ~(a ^ b))>;
  t["v_lshlrev_b32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), b << (a & 31))>;
  t["v_lshrrev_b32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), b >> (a & 31))>;
  t["v_ashrrev_i32"] = binary<i32, u32, i32, EXPRESSION((u32 a, i32 b), b >> (a & 31))>;
  t["v_lshlrev_b64"] = binary<u64, u32, u64, EXPRESSION((u32 a, u64 b), b << (a & 63))>;
  t["v_lshrrev_b64"] = binary<u64, u32, u64, EXPRESSION((u32 a, u64 b), b >> (a & 63))>;
  t["v_ashrrev_i64"] = binary<i64, u32, i64, EXPRESSION((u32 a, i64 b), b >> (a & 63))>;
  t["v_lshlrev_b16"] = binary<u16, u16, u16, EXPRESSION((u16 a, u16 b), static_cast<u16>(b << (a & 15)))>;
  t["v_lshrrev_b16"] = binary<u16, u16, u16, EXPRESSION((u16 a, u16 b), static_cast<u16>(b >> (a & 15)))>;
  t["v_ashrrev_i16"] = binary<i16, u16, i16, EXPRESSION((u16 a, i16 b), static_cast<i16>(b >> (a & 15)))>;
  t["v_add_u32"] = binary<u32, u32, u32, sum<u32>>;
  t["v_sub_u32"] = binary<u32, u32, u32, difference<u32>>;
  t["v_subrev_u32"] = binary<u32, u32, u32, difference_reversed<u32>>;
  t["v_add_i32"] = t["v_add_u32"];
  t["v_sub_i32"] = t["v_sub_u32"];
  t["v_add_u16"] = binary<u16, u16, u16, sum<u16>>;
  t["v_sub_u16"] = binary<u16, u16, u16, difference<u16>>;
  t["v_subrev_u16"] = binary<u16, u16, u16, difference_reversed<u16>>;
  t["v_mul_lo_u16"] = binary<u16, u16, u16, EXPRESSION((u16 a, u16 b), static_cast<u16>(u32{a} * b))>;
  t["v_mad_u16"] = ternary<u16, u16, u16, u16, EXPRESSION((u16 a, u16 b, u16 c), static_cast<u16>(u32{a} * b + c))>;
  t["v_mad_legacy_u16"] = t["v_mad_u16"];
  t["v_max_u16"] = binary<u16, u16, u16, larger<u16>>;
  t["v_min_u16"] = binary<u16, u16, u16, smaller<u16>>;
  t["v_max_i16"] = binary<i16, i16, i16, larger<i16>>;
  t["v_min_i16"] = binary<i16, i16, i16, smaller<i16>>;
  t["v_max_u32"] = binary<u32, u32, u32, larger<u32>>;
  t["v_min_u32"] = binary<u32, u32, u32, smaller<u32>>;
  t["v_max_i32"] = binary<i32, i32, i32, larger<i32>>;
  t["v_min_i32"] = binary<i32, i32, i32, smaller<i32>>;
  t["v_mul_lo_u32"] = binary<u32, u32, u32, product<u32>>;
  t["v_mul_hi_u32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), static_cast<u32>(u64{a} * b >> 32))>;
  t["v_mul_hi_i32"] = binary<i32, i32, i32, EXPRESSION((i32 a, i32 b), static_cast<i32>(i64{a} * b >> 32))>;
  t["v_mul_u32_u24"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), u24(a) * u24(b))>;
  t["v_mul_i32_i24"] = binary<i32, i32, i32, EXPRESSION((i32 a, i32 b), static_cast<i32>(i64{i24(a)} * i24(b)))>;
  t["v_mul_hi_u32_u24"] =
      binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), static_cast<u32>(u64{u24(a)} * u24(b) >> 32))>;
  t["v_mad_u32_u24"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), u24(a) * u24(b) + c)>;
  t["v_mad_i32_i24"] =
      ternary<u32, i32, i32, u32, EXPRESSION((i32 a, i32 b, u32 c), static_cast<u32>(i64{i24(a)} * i24(b)) + c)>;
  t["v_add3_u32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), a + b + c)>;
  t["v_or3_b32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), a | b | c)>;
  t["v_and_or_b32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), (a & b) | c)>;
  t["v_xad_u32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), (a ^ b) + c)>;
  t["v_lshl_add_u32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), (a << (b & 31)) + c)>;
  t["v_add_lshl_u32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), (a + b) << (c & 31))>;
  t["v_lshl_or_b32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), (a << (b & 31)) | c)>;
  t["v_lshl_add_u64"] = ternary<u64, u64, u32, u64, EXPRESSION((u64 a, u32 b, u64 c), (a << (b & 7)) + c)>;
  t["v_bfe_u32"] = ternary<u32, u32, u32, u32, bfe>;
  t["v_bfe_i32"] = ternary<i32, i32, u32, u32, bfe_signed>;
  t["v_bfi_b32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), (a & b) | (~a & c))>;
  t["v_bfm_b32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), ((1u << (a & 31)) - 1) << (b & 31))>;
  t["v_alignbit_b32"] =
      ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), static_cast<u32>((u64{a} << 32 | b) >> (c & 31)))>;
  t["v_alignbyte_b32"] =
      ternary<u32, u32, u32, u32,
              EXPRESSION((u32 a, u32 b, u32 c), static_cast<u32>((u64{a} << 32 | b) >> 8 * (c & 3)))>;
  t["v_perm_b32"] = ternary<u32, u32, u32, u32, perm>;
  t["v_bcnt_u32_b32"] = binary<u32, u32, u32, EXPRESSION((u32 a, u32 b), static_cast<u32>(std::popcount(a)) + b)>;
  t["v_mbcnt_lo_u32_b32"] = [](Wave& wave, const Instruction& in) { mbcnt(wave, in, false); };
  t["v_mbcnt_hi_u32_b32"] = [](Wave& wave, const Instruction& in) { mbcnt(wave, in, true); };
  t["v_max3_u32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), std::max(std::max(a, b), c))>;
  t["v_max3_i32"] = ternary<i32, i32, i32, i32, EXPRESSION((i32 a, i32 b, i32 c), std::max(std::max(a, b), c))>;
  t["v_min3_u32"] = ternary<u32, u32, u32, u32, EXPRESSION((u32 a, u32 b, u32 c), std::min(std::min(a, b), c))>;
  t["v_min3_i32"] = ternary<i32, i32, i32, i32, EXPRESSION((i32 a, i32 b, i32 c), std::min(std::min(a, b), c))>;
  t["v_med3_u32"] = ternary<u32, u32, u32, u32, median_integer<u32>>;
  t["v_med3_i32"] = ternary<i32, i32, i32, i32, median_integer<i32>>;
  t["v_add_co_u32"] = carry_sum<false, false, false>;
  t["v_addc_co_u32"] = carry_sum<false, false, true>;
  t["v_sub_co_u32"] = carry_sum<true, false, false>;
  t["v_subb_co_u32"] = carry_sum<true, false, true>;
  t["v_subrev_co_u32"] = carry_sum<true, true, false>;
  t["v_subbrev_co_u32"] = carry_sum<true, true, true>;
  t["v_mad_u64_u32"] = mad_64<u64, u32>;
  t["v_mad_i64_i32"] = mad_64<i64, i32>;
  t["v_cndmask_b32"] = cndmask;
  t["v_readfirstlane_b32"] = readfirstlane;
  t["v_readlane_b32"] = readlane;
  t["v_writelane_b32"] = writelane;
}

// ---- floating point ----
void add_floats(Table& t) {
  t["v_add_f32"] = binary<float, float, float, sum<float>>;
  t["v_sub_f32"] = binary<float, float, float, difference<float>>;
  t["v_subrev_f32"] = binary<float, float, float, difference_reversed<float>>;
  t["v_mul_f32"] = binary<float, float, float, product<float>>;
  t["v_max_f32"] = binary<float, float, float, greater<float>>;
  t["v_min_f32"] = binary<float, float, float, lesser<float>>;
  t["v_fma_f32"] = ternary<float, float, float, float, fused<float>>;
  t["v_fmac_f32"] = accumulate<float, float, float, fused<float>>;
  t["v_fmamk_f32"] = t["v_fmaak_f32"] = t["v_fma_f32"];  // operands are written in the order of the formula
  t["v_max3_f32"] =
      ternary<float, float, float, float, EXPRESSION((float a, float b, float c), greater(greater(a, b), c))>;
  t["v_min3_f32"] =
      ternary<float, float, float, float, EXPRESSION((float a, float b, float c), lesser(lesser(a, b), c))>;
  t["v_med3_f32"] = ternary<float, float, float, float, median>;
  t["v_ldexp_f32"] = binary<float, float, i32, EXPRESSION((float a, i32 b), std::ldexp(a, b))>;
  t["v_trunc_f32"] = unary<float, float, EXPRESSION((float a), std::trunc(a))>;
  t["v_floor_f32"] = unary<float, float, EXPRESSION((float a), std::floor(a))>;
  t["v_ceil_f32"] = unary<float, float, EXPRESSION((float a), std::ceil(a))>;
  t["v_rndne_f32"] = unary<float, float, EXPRESSION((float a), std::nearbyint(a))>;
  t["v_fract_f32"] = unary<float, float, EXPRESSION((float a), std::fmin(a - std::floor(a), 0x1.fffffep-1f))>;
  t["v_exp_f32"] = unary<float, float, exp2_of>;
  t["v_log_f32"] = unary<float, float, log2_of>;
  t["v_rcp_f32"] = t["v_rcp_iflag_f32"] = unary<float, float, rcp_of>;
  t["v_rsq_f32"] = unary<float, float, rsq_of>;
  t["v_sqrt_f32"] = unary<float, float, sqrt_of>;
  t["v_frexp_mant_f32"] = unary<float, float, EXPRESSION((float a), [](float x) {
                                  int e;
                                  return std::frexp(x, &e);
                                }(a))>;
  t["v_frexp_exp_i32_f32"] = unary<i32, float, EXPRESSION((float a), [](float x) {
                                     int e = 0;
                                     if (std::isfinite(x)) static_cast<void>(std::frexp(x, &e));
                                     return e;
                                   }(a))>;
  t["v_div_scale_f32"] = div_scale;
  t["v_div_fmas_f32"] = div_fmas;
  t["v_div_fixup_f32"] = ternary<float, float, float, float, div_fixup>;
  t["v_cmp_class_f32"] = compare_class<float>;
  t["v_add_f64"] = binary<double, double, double, sum<double>>;
  t["v_mul_f64"] = binary<double, double, double, product<double>>;
  t["v_max_f64"] = binary<double, double, double, greater<double>>;
  t["v_min_f64"] = binary<double, double, double, lesser<double>>;
  t["v_fma_f64"] = ternary<double, double, double, double, fused<double>>;
  t["v_fmac_f64"] = accumulate<double, double, double, fused<double>>;
  t["v_ldexp_f64"] = binary<double, double, i32, EXPRESSION((double a, i32 b), std::ldexp(a, b))>;
  t["v_trunc_f64"] = unary<double, double, EXPRESSION((double a), std::trunc(a))>;
  t["v_floor_f64"] = unary<double, double, EXPRESSION((double a), std::floor(a))>;
  t["v_rndne_f64"] = unary<double, double, EXPRESSION((double a), std::nearbyint(a))>;
  t["v_cvt_f32_u32"] = unary<float, u32, EXPRESSION((u32 a), static_cast<float>(a))>;
  t["v_cvt_f32_i32"] = unary<float, i32, EXPRESSION((i32 a), static_cast<float>(a))>;
  t["v_cvt_u32_f32"] = unary<u32, float, to_integer<u32, float>>;
  t["v_cvt_i32_f32"] = unary<i32, float, to_integer<i32, float>>;
  t["v_cvt_f64_u32"] = unary<double, u32, EXPRESSION((u32 a), static_cast<double>(a))>;
  t["v_cvt_f64_i32"] = unary<double, i32, EXPRESSION((i32 a), static_cast<double>(a))>;
  t["v_cvt_u32_f64"] = unary<u32, double, to_integer<u32, double>>;
  t["v_cvt_i32_f64"] = unary<i32, double, to_integer<i32, double>>;
  t["v_cvt_f64_f32"] = unary<double, float, EXPRESSION((float a), static_cast<double>(a))>;
  t["v_cvt_f32_f64"] = unary<float, double, EXPRESSION((double a), static_cast<float>(a))>;
  t["v_cvt_f32_ubyte0"] = unary<float, u32, EXPRESSION((u32 a), static_cast<float>(a & 0xFF))>;
  t["v_cvt_f32_ubyte1"] = unary<float, u32, EXPRESSION((u32 a), static_cast<float>(a >> 8 & 0xFF))>;
  t["v_cvt_f32_ubyte2"] = unary<float, u32, EXPRESSION((u32 a), static_cast<float>(a >> 16 & 0xFF))>;
  t["v_cvt_f32_ubyte3"] = unary<float, u32, EXPRESSION((u32 a), static_cast<float>(a >> 24))>;
  t["v_cvt_f32_fp8"] = cvt_f32_fp8;
  t["v_cvt_pk_f32_fp8"] = cvt_pk_f32_fp8;
  t["v_cvt_pk_fp8_f32"] = cvt_pk_fp8_f32;
}

void add_packed(Table& t) {
  t["v_pk_add_f32"] = packed<float, 2, sum<float>>;
  t["v_pk_mul_f32"] = packed<float, 2, product<float>>;
  t["v_pk_fma_f32"] = packed<float, 3, fused<float>>;
  t["v_pk_mov_b32"] = [](Wave& wave, const Instruction& in) {
    // The low result is a half of the first operand, the high one a half of the second; both selected by op_sel.
    alignas(64) uint32_t low[lanes], high[lanes];
    alignas(64) uint64_t pair[lanes];
    Instruction plain = in;
    plain.op_sel_hi = in.op_sel;
    read_half(wave, plain, 0, false, low);
    read_half(wave, plain, 1, true, high);
    for (int i = 0; i < lanes; i++) pair[i] = low[i] | uint64_t{high[i]} << 32;
    write(wave, in, pair);
  };
  t["v_pk_add_u16"] = packed<u16, 2, sum<u16>>;
  t["v_pk_sub_u16"] = packed<u16, 2, difference<u16>>;
  t["v_pk_sub_i16"] = packed<i16, 2, difference<i16>>;
  t["v_pk_add_i16"] = packed<i16, 2, sum<i16>>;
  t["v_pk_mul_lo_u16"] = packed<u16, 2, EXPRESSION((u16 a, u16 b), static_cast<u16>(u32{a} * b))>;
  t["v_pk_mad_u16"] = packed<u16, 3, EXPRESSION((u16 a, u16 b, u16 c), static_cast<u16>(u32{a} * b + c))>;
  t["v_pk_max_u16"] = packed<u16, 2, larger<u16>>;
  t["v_pk_min_u16"] = packed<u16, 2, smaller<u16>>;
  t["v_pk_max_i16"] = packed<i16, 2, larger<i16>>;
  t["v_pk_min_i16"] = packed<i16, 2, smaller<i16>>;
  t["v_pk_lshlrev_b16"] = packed<u16, 2, EXPRESSION((u16 a, u16 b), static_cast<u16>(b << (a & 15)))>;
  t["v_pk_lshrrev_b16"] = packed<u16, 2, EXPRESSION((u16 a, u16 b), static_cast<u16>(b >> (a & 15)))>;
  t["v_pk_ashrrev_i16"] = packed<i16, 2, EXPRESSION((i16 a, i16 b), static_cast<i16>(b >> (a & 15)))>;
}

}  // namespace

void fault(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  throw Fault(text);
}

Handler find_vector(std::string_view mnemonic) {
  static const Table table = [] {
    Table t;
    add_integers(t);
    add_floats(t);
    add_packed(t);
    add_comparisons<float>(t, "f32");
    add_comparisons<double>(t, "f64");
    add_comparisons<u32>(t, "u32");
    add_comparisons<i32>(t, "i32");
    add_comparisons<u64>(t, "u64");
    add_comparisons<i64>(t, "i64");
    add_comparisons<u16>(t, "u16");
    add_comparisons<i16>(t, "i16");
    return t;
  }();
  const auto found = table.find(mnemonic);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace octet::gfx942
