// Emulated matrix instructions. Operands are gathered from the lanes by the documented register layouts, the product is
// D[i][j] = C[i][j] + A[i][0] B[0][j] + A[i][1] B[1][j] + ... in f32, k ascending, each step rounded. Products of two
// FP8 or two bf16 numbers are exact in f32; how the hardware orders its sums is not documented, so kernels must not
// depend on it.
//
//   gfx9   16x16x32 fp8:  A[i][k] lane 16*(k/8)+i, byte k%8;  B[k][j] lane 16*(k/8)+j, byte k%8
//          16x16x16 bf16: A[i][k] lane 16*(k/4)+i, half k%4;  B[k][j] lane 16*(k/4)+j, half k%4
//          D[i][j] lane 16*(i/4)+j, register i%4
//   sm_90  m16n8k32 e4m3: g = lane/4, t = lane%4. A registers (row g, k 4t..), (row g+8, k 4t..), (row g, k 16+4t..),
//          (row g+8, k 16+4t..); B registers (k 4t.., column g), (k 16+4t.., column g); four codes a register
//          m16n8k16 bf16: the same with two values a register: A (g, 2t), (g+8, 2t), (g, 8+2t), (g+8, 8+2t);
//          B (2t, g), (8+2t, g)
//          D registers (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
#include <bit>
#include <cstring>

#include "runner.h"

namespace octet::sim {

void emulate_mma(const Launch& launch, Meeting kind, Exchange& exchange);

namespace {

// Everything is inlined into emulate_mma, of which the compiler makes one version for each width of vectors.
#define OCTET_FLATTEN __attribute__((always_inline)) inline

// One row of D at a time, so that it stays in vector registers.
using Row = float __attribute__((ext_vector_type(16)));

// Exact widening by bits; 2^(127 - bias) is 2^120 (OCP) or 2^119 (FNUZ).
template <bool fnuz>
OCTET_FLATTEN void widen(const uint8_t* codes, float* values, int count) {
  for (int i = 0; i < count; i++) {
    const uint32_t code = codes[i];
    const float magnitude = std::bit_cast<float>((code & 0x7F) << 20) * (fnuz ? 0x1p119f : 0x1p120f);
    const uint32_t bits = std::bit_cast<uint32_t>(magnitude) | (code & 0x80) << 24;
    values[i] = std::bit_cast<float>((fnuz ? code == 0x80 : (code & 0x7F) == 0x7F) ? 0x7FC00000 : bits);
  }
}

template <bool>
OCTET_FLATTEN void widen(const uint16_t* halves, float* values, int count) {
  for (int i = 0; i < count; i++) values[i] = std::bit_cast<float>(uint32_t{halves[i]} << 16);
}

template <class Element, int K>
struct Operands {
  Element a[16][K];
  Element b[K][16];
};

// d[i] += a[i][k] * b[k], k ascending, each step rounded.
template <bool fnuz, class Element, int K>
OCTET_FLATTEN void multiply(const Operands<Element, K>& operands, Row (&d)[16]) {
  float a[16][K];
  Row b[K];
  widen<fnuz>(operands.a[0], a[0], 16 * K);
  widen<fnuz>(operands.b[0], reinterpret_cast<float*>(b), 16 * K);
  for (int i = 0; i < 16; i += 4) {
    // Four rows at once: their sums do not wait for one another.
    Row s0 = d[i], s1 = d[i + 1], s2 = d[i + 2], s3 = d[i + 3];
    for (int k = 0; k < K; k++) {
      s0 += a[i][k] * b[k];
      s1 += a[i + 1][k] * b[k];
      s2 += a[i + 2][k] * b[k];
      s3 += a[i + 3][k] * b[k];
    }
    d[i] = s0, d[i + 1] = s1, d[i + 2] = s2, d[i + 3] = s3;
  }
}

template <bool fnuz, class Element, int K>
OCTET_FLATTEN void gfx9(Exchange& exchange) {
  constexpr int per_lane = K / 4;  // contiguous k of one lane
  Operands<Element, K> operands;
  for (int lane = 0; lane < 64; lane++) {
    std::memcpy(&operands.a[lane % 16][lane / 16 * per_lane], exchange.a[lane], 8);
    Element of_b[per_lane];
    std::memcpy(of_b, exchange.b[lane], 8);
    for (int e = 0; e < per_lane; e++) operands.b[lane / 16 * per_lane + e][lane % 16] = of_b[e];
  }
  // Register r of 16 lanes is a row of D.
  Row d[16];
  for (int i = 0; i < 16; i++) std::memcpy(&d[i], &exchange.d[i % 4][i / 4 * 16], sizeof(Row));
  multiply<fnuz>(operands, d);
  for (int i = 0; i < 16; i++) std::memcpy(&exchange.d[i % 4][i / 4 * 16], &d[i], sizeof(Row));
}

template <class Element, int K>
OCTET_FLATTEN void sm90(Exchange& exchange) {
  constexpr int per_word = K / 8;
  Operands<Element, K> operands{};  // columns 8..15 stay empty
  Row d[16] = {};
  for (int lane = 0; lane < 32; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int word = 0; word < 4; word++)
      std::memcpy(&operands.a[g + word % 2 * 8][word / 2 * (K / 2) + t * per_word], &exchange.a[lane][word], 4);
    for (int word = 0; word < 2; word++) {
      Element of_b[per_word];
      std::memcpy(of_b, &exchange.b[lane][word], 4);
      for (int e = 0; e < per_word; e++) operands.b[word * (K / 2) + t * per_word + e][g] = of_b[e];
    }
    for (int r = 0; r < 4; r++) d[g + r / 2 * 8][t * 2 + r % 2] = exchange.d[r][lane];
  }
  multiply<false>(operands, d);
  for (int lane = 0; lane < 32; lane++)
    for (int r = 0; r < 4; r++) exchange.d[r][lane] = d[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2];
}

}  // namespace

// NOTE: wider vectors change only the speed: every element is multiplied and added by itself, and nothing is
// contracted.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
void emulate_mma(const Launch& launch, Meeting kind, Exchange& exchange) {
  const bool fp8 = kind == Meeting::mma_fp8;
  if (launch.wave_size == 32)
    fp8 ? sm90<uint8_t, 32>(exchange) : sm90<uint16_t, 16>(exchange);
  else if (!fp8)
    gfx9<false, uint16_t, 16>(exchange);
  else if (launch.fp8 == OCTET_F8_E4M3_FNUZ)
    gfx9<true, uint8_t, 32>(exchange);
  else
    gfx9<false, uint8_t, 32>(exchange);
}

}  // namespace octet::sim
