// The matrix instructions D = A B + C on one wave; EXEC plays no part. Operand layouts, with K/blocks contiguous k a
// lane:
//
//   MxM, M = 16: A[i][k] lane 16*(k/c)+i, element k%c (c = K/4);  B[k][j] the same with j;  D[i][j] lane 16*(i/4)+j,
//   register i%4 MxM, M = 32: A[i][k] lane 32*(k/c)+i, element k%c (c = K/2);  B[k][j] the same with j;
//                D[i][j] lane 32*(i/4%2)+j, register 4*(i/8)+i%4
//
// The machine's order of summation is not documented; here k ascends and every step rounds to f32, as in the simulator.

#include <array>
#include <unordered_map>

#include "lanes.h"

namespace octet::gfx942 {

namespace {

float widen_fnuz(uint32_t code) {
  if (code == 0x80) return std::bit_cast<float>(0x7FC00000u);
  const float magnitude = std::bit_cast<float>((code & 0x7F) << 20) * 0x1p119f;  // 2^(127 - 8)
  return code & 0x80 ? -magnitude : magnitude;
}

enum class Type { fp8, bf16 };

template <Type type>
float element(Wave& wave, int reg, int lane, int index) {
  if constexpr (type == Type::fp8) {
    static const auto table = [] {
      std::array<float, 256> values{};
      for (uint32_t code = 0; code < 256; code++) values[code] = widen_fnuz(code);
      return values;
    }();
    return table[wave.v[reg + index / 4][lane] >> 8 * (index % 4) & 0xFF];
  } else {
    return std::bit_cast<float>((wave.v[reg + index / 2][lane] >> 16 * (index % 2) & 0xFFFF) << 16);
  }
}

template <Type type, int M, int K>
void mfma(Wave& wave, const Instruction& in) {
  constexpr int contiguous = K * M / lanes, registers = M * M / lanes;
  float a[M][K], b[K][M], d[M][M];
  for (const Operand* operand : {&in.from[0], &in.from[1]})
    if (operand->kind != Operand_kind::vgpr) fault("a matrix operand that is no vector register");
  for (int lane = 0; lane < lanes; lane++)
    for (int e = 0; e < contiguous; e++) {
      const int k = lane / M * contiguous + e;
      a[lane % M][k] = element<type>(wave, in.from[0].reg, lane, e);
      b[k][lane % M] = element<type>(wave, in.from[1].reg, lane, e);
    }
  const auto row = [](int lane, int r) { return M == 16 ? lane / 16 * 4 + r : r / 4 * 8 + lane / 32 * 4 + r % 4; };
  const Operand& c = in.from[2];
  for (int r = 0; r < registers; r++)
    for (int lane = 0; lane < lanes; lane++)
      d[row(lane, r)][lane % M] =
          std::bit_cast<float>(c.kind == Operand_kind::vgpr ? wave.v[c.reg + r][lane] : constant_bits(c));
  for (int i = 0; i < M; i++) {
    float sum[M];
    std::memcpy(sum, d[i], sizeof(sum));
    for (int k = 0; k < K; k++)
      for (int j = 0; j < M; j++) sum[j] += a[i][k] * b[k][j];
    std::memcpy(d[i], sum, sizeof(sum));
  }
  for (int r = 0; r < registers; r++)
    for (int lane = 0; lane < lanes; lane++)
      wave.v[in.to.reg + r][lane] = std::bit_cast<uint32_t>(d[row(lane, r)][lane % M]);
}

}  // namespace

Handler find_matrix(std::string_view mnemonic) {
  static const std::unordered_map<std::string_view, Handler> table{
      {"v_mfma_f32_16x16x32_fp8_fp8", mfma<Type::fp8, 16, 32>},
      {"v_mfma_f32_32x32x16_fp8_fp8", mfma<Type::fp8, 32, 16>},
      {"v_mfma_f32_16x16x16_bf16", mfma<Type::bf16, 16, 16>},
      {"v_mfma_f32_32x32x8_bf16", mfma<Type::bf16, 32, 8>},
  };
  const auto found = table.find(mnemonic);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace octet::gfx942
