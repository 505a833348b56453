// Reading an operand into 64 lanes and writing 64 lanes back, with everything an operand may carry: negation and
// absolute value, the parts of SDWA, the lane shuffles of DPP, output modifiers and EXEC.
#pragma once

#include <algorithm>
#include <cmath>

#include "wave.h"

namespace octet::gfx942 {

inline void read_dwords(Wave& wave, const Operand& operand, uint32_t (&out)[lanes]) {
  if (operand.kind == Operand_kind::vgpr) {
    std::memcpy(out, wave.v[operand.reg], sizeof(out));
  } else {
    const uint32_t value = scalar(wave, operand);
    for (uint32_t& word : out) word = value;
  }
}

// One operand as it is, without DPP.
template <class T>
void read_operand(Wave& wave, const Operand& operand, T (&out)[lanes]) {
  if constexpr (sizeof(T) == 8) {
    if (operand.kind == Operand_kind::vgpr) {
      const uint32_t *low = wave.v[operand.reg], *high = wave.v[operand.reg + 1];
      for (int i = 0; i < lanes; i++) out[i] = std::bit_cast<T>(low[i] | uint64_t{high[i]} << 32);
    } else {
      uint64_t value;
      // A literal of an f64 operand is its high half.
      if (std::is_same_v<T, double> && operand.kind == Operand_kind::constant && !operand.is_float &&
          (operand.integer > 64 || operand.integer < -16))
        value = static_cast<uint64_t>(operand.integer) << 32;
      else
        value = scalar64(wave, operand);
      if (std::is_same_v<T, int64_t> && operand.kind == Operand_kind::constant && operand.integer > INT32_MAX)
        fault("a signed 64-bit operand is a literal of 32 bits with the sign bit set");
      for (T& x : out) x = std::bit_cast<T>(value);
    }
    if (operand.absolute || operand.negative) {
      if constexpr (std::is_same_v<T, double>) {
        for (T& x : out) x = operand.absolute ? std::fabs(x) : x;
        for (T& x : out) x = operand.negative ? -x : x;
      } else {
        fault("a sign modifier on a 64-bit integer");
      }
    }
  } else {
    alignas(64) uint32_t words[lanes];
    read_dwords(wave, operand, words);
    switch (operand.select) {
      case Select::dword:
        break;
      case Select::word_0:
      case Select::word_1: {
        const int shift = operand.select == Select::word_1 ? 16 : 0;
        for (uint32_t& x : words)
          x = operand.sign_extend ? static_cast<uint32_t>(static_cast<int16_t>(x >> shift)) : x >> shift & 0xFFFF;
        break;
      }
      default: {
        const int shift = 8 * (static_cast<int>(operand.select) - static_cast<int>(Select::byte_0));
        for (uint32_t& x : words)
          x = operand.sign_extend ? static_cast<uint32_t>(static_cast<int8_t>(x >> shift)) : x >> shift & 0xFF;
      }
    }
    if (operand.absolute)
      for (uint32_t& x : words) x &= 0x7FFFFFFF;
    if (operand.negative)
      for (uint32_t& x : words) x ^= 0x80000000;
    if constexpr (sizeof(T) == 2) {
      if (operand.absolute || operand.negative) fault("a sign modifier on a 16-bit operand");
      for (int i = 0; i < lanes; i++) out[i] = static_cast<T>(words[i]);
    } else {
      for (int i = 0; i < lanes; i++) out[i] = std::bit_cast<T>(words[i]);
    }
  }
}

// Lanes that a DPP instruction leaves alone: their source is outside the row or inactive, and bound_ctrl is off.
inline uint64_t dpp_lanes(const Wave& wave, const Dpp& dpp) {
  uint64_t active = wave.exec() & dpp.enabled;
  if (!dpp.bound_ctrl)
    for (int i = 0; i < lanes; i++)
      if (dpp.source[i] < 0 || !(wave.exec() >> dpp.source[i] & 1)) active &= ~(uint64_t{1} << i);
  return active;
}

template <class T>
void read(Wave& wave, const Instruction& in, int index, T (&out)[lanes]) {
  read_operand(wave, in.from[index], out);
  if (in.dpp != nullptr && index == 0) {
    T plain[lanes];
    std::memcpy(plain, out, sizeof(out));
    for (int i = 0; i < lanes; i++) {
      const int source = in.dpp->source[i];
      out[i] = source >= 0 && wave.exec() >> source & 1 ? plain[source] : T{};
    }
  }
}

inline uint64_t active_lanes(const Wave& wave, const Instruction& in) {
  return in.dpp != nullptr ? dpp_lanes(wave, *in.dpp) : wave.exec();
}

inline void blend(Wave& wave, uint64_t active, uint32_t* to, const uint32_t* from) {
  if (active == all_lanes) {
    std::memcpy(to, from, lanes * sizeof(uint32_t));
    return;
  }
  const uint32_t* mask = wave.expand(active);
  for (int i = 0; i < lanes; i++) to[i] = (from[i] & mask[i]) | (to[i] & ~mask[i]);
}

template <class T>
void write(Wave& wave, const Instruction& in, T (&values)[lanes]) {
  if constexpr (std::is_floating_point_v<T>) {
    if (in.omod != 1)
      for (T& x : values) x *= in.omod;
    if (in.clamp)  // NaN clamps to 0 as DX10_CLAMP is set
      for (T& x : values) x = std::min(std::max(x, T{0}) == x ? x : T{0}, T{1});
  } else {
    // Packed pairs of f32 come here as 64 bits, clamped by their maker.
    if (in.clamp && sizeof(T) != 8) fault("clamp on an integer result");
  }
  const uint64_t active = active_lanes(wave, in);
  if (in.to.kind != Operand_kind::vgpr) fault("a vector destination was expected");
  if constexpr (sizeof(T) == 8) {
    alignas(64) uint32_t low[lanes], high[lanes];
    for (int i = 0; i < lanes; i++) {
      const auto bits = std::bit_cast<uint64_t>(values[i]);
      low[i] = static_cast<uint32_t>(bits), high[i] = static_cast<uint32_t>(bits >> 32);
    }
    blend(wave, active, wave.v[in.to.reg], low);
    blend(wave, active, wave.v[in.to.reg + 1], high);
  } else {
    alignas(64) uint32_t words[lanes];
    // A 16-bit result clears the upper half of its register.
    if constexpr (sizeof(T) == 2)
      for (int i = 0; i < lanes; i++) words[i] = static_cast<uint16_t>(values[i]);
    else
      std::memcpy(words, values, sizeof(words));
    if (in.sdwa && in.select != Select::dword) {
      const bool word = in.select == Select::word_0 || in.select == Select::word_1;
      const int width = word ? 16 : 8;
      const int shift = word ? (in.select == Select::word_1 ? 16 : 0)
                             : 8 * (static_cast<int>(in.select) - static_cast<int>(Select::byte_0));
      const uint32_t field = ((1u << width) - 1) << shift;
      for (int i = 0; i < lanes; i++) {
        const uint32_t part = words[i] << shift & field;
        const uint32_t sign = part >> (shift + width - 1) & 1 ? ~uint32_t{0} << (shift + width - 1) << 1 : 0;
        words[i] = in.keep_rest ? (wave.v[in.to.reg][i] & ~field) | part : in.extend_rest ? part | sign : part;
      }
    }
    blend(wave, active, wave.v[in.to.reg], words);
  }
}

// A mask of lanes: bits of inactive lanes are 0.
inline void write_mask(Wave& wave, const Operand& to, uint64_t bits) {
  if (to.kind != Operand_kind::sgpr) fault("a scalar destination was expected");
  wave.set_scalar64(to.reg, bits & wave.exec());
}

}  // namespace octet::gfx942
