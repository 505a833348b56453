// Emulated matrix instructions. Operands are gathered from the lanes by the documented register layouts, the product is
// D[i][j] = C[i][j] + A[i][0] B[0][j] + A[i][1] B[1][j] + ... in f32, k ascending, each step rounded. Products of two FP8
// or two bf16 numbers are exact in f32; how the hardware orders its sums is not documented, so kernels must not depend on it.
//
//   gfx9   16x16x32 fp8:  A[i][k] lane 16*(k/8)+i, byte k%8;  B[k][j] lane 16*(k/8)+j, byte k%8
//          16x16x16 bf16: A[i][k] lane 16*(k/4)+i, half k%4;  B[k][j] lane 16*(k/4)+j, half k%4
//          D[i][j] lane 16*(i/4)+j, register i%4
//   sm_90  m16n8k32 e4m3: g = lane/4, t = lane%4. A registers (row g, k 4t..), (row g+8, k 4t..), (row g, k 16+4t..),
//          (row g+8, k 16+4t..); B registers (k 4t.., column g), (k 16+4t.., column g); four codes a register
//          m16n8k16 bf16: the same with two values a register: A (g, 2t), (g+8, 2t), (g, 8+2t), (g+8, 8+2t);
//          B (2t, g), (8+2t, g)
//          D registers (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
#include <cstring>

#include "runner.h"

namespace octet::sim {

void emulate_mma(const Launch& launch, Meeting kind, Exchange& exchange);

namespace {

// One row of D at a time, so that the compiler keeps it in vector registers.
using Row = float __attribute__((ext_vector_type(16)));

// Exact widening by bits; `half_bias` is 2^(127 - bias) in the place of 2^120 (OCP) or 2^119 (FNUZ).
template <bool fnuz>
void widen_fp8(const uint8_t* codes, float* values, int count) {
  for (int i = 0; i < count; i++) {
    const uint32_t code = codes[i];
    uint32_t bits = (code & 0x7F) << 20;
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude *= fnuz ? 0x1p119f : 0x1p120f;
    std::memcpy(&bits, &magnitude, 4);
    bits |= (code & 0x80) << 24;
    if (fnuz ? code == 0x80 : (code & 0x7F) == 0x7F) bits = 0x7FC00000;
    std::memcpy(&values[i], &bits, 4);
  }
}

void widen_bf16(const uint8_t* halves, float* values, int count) {
  for (int i = 0; i < count; i++) {
    uint16_t half;
    std::memcpy(&half, halves + 2 * i, 2);
    const uint32_t bits = uint32_t{half} << 16;
    std::memcpy(&values[i], &bits, 4);
  }
}

// The operand registers as values: [lane][register word][values of a word].
void widen(const Launch& launch, Meeting kind, const void* words, int bytes, float* values) {
  const auto* raw = static_cast<const uint8_t*>(words);
  if (kind == Meeting::mma_bf16)
    widen_bf16(raw, values, bytes / 2);
  else if (launch.fp8 == OCTET_F8_E4M3_FNUZ)
    widen_fp8<true>(raw, values, bytes);
  else
    widen_fp8<false>(raw, values, bytes);
}

template <int K>
void multiply(const float (&a)[16][K], const Row (&b)[K], Row (&d)[16]) {
  for (int i = 0; i < 16; i++) {
    Row sum = d[i];
    for (int k = 0; k < K; k++) sum += a[i][k] * b[k];
    d[i] = sum;
  }
}

template <int K>
void gfx9(const Launch& launch, Meeting kind, Exchange& exchange) {
  constexpr int per_lane = K / 4;  // contiguous k of one lane
  uint32_t packed[64][2];
  float flat_a[64 * per_lane], flat_b[64 * per_lane];
  for (int lane = 0; lane < 64; lane++) std::memcpy(packed[lane], exchange.a[lane], 8);
  widen(launch, kind, packed, sizeof(packed), flat_a);
  widen(launch, kind, exchange.b, sizeof(exchange.b), flat_b);
  float a[16][K];
  Row b[K], d[16];
  for (int lane = 0; lane < 64; lane++)
    for (int e = 0; e < per_lane; e++) {
      a[lane % 16][lane / 16 * per_lane + e] = flat_a[lane * per_lane + e];
      reinterpret_cast<float*>(&b[lane / 16 * per_lane + e])[lane % 16] = flat_b[lane * per_lane + e];
    }
  for (int lane = 0; lane < 64; lane++)
    for (int r = 0; r < 4; r++)
      reinterpret_cast<float*>(&d[lane / 16 * 4 + r])[lane % 16] = exchange.d[lane][r];
  multiply<K>(a, b, d);
  for (int lane = 0; lane < 64; lane++)
    for (int r = 0; r < 4; r++)
      exchange.d[lane][r] = reinterpret_cast<float*>(&d[lane / 16 * 4 + r])[lane % 16];
}

template <int K>
void sm90(const Launch& launch, Meeting kind, Exchange& exchange) {
  constexpr int per_word = K / 8;
  float flat_a[32 * 4 * per_word], flat_b[32 * 2 * per_word];
  widen(launch, kind, exchange.a, 32 * 16, flat_a);
  widen(launch, kind, exchange.b, 32 * 8, flat_b);
  float a[16][K];
  Row b[K] = {}, d[16] = {};  // columns 8..15 stay empty
  for (int lane = 0; lane < 32; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int word = 0; word < 4; word++)
      for (int e = 0; e < per_word; e++)
        a[g + word % 2 * 8][word / 2 * (K / 2) + t * per_word + e] = flat_a[(lane * 4 + word) * per_word + e];
    for (int word = 0; word < 2; word++)
      for (int e = 0; e < per_word; e++)
        reinterpret_cast<float*>(&b[word * (K / 2) + t * per_word + e])[g] = flat_b[(lane * 2 + word) * per_word + e];
    for (int r = 0; r < 4; r++)
      reinterpret_cast<float*>(&d[g + r / 2 * 8])[t * 2 + r % 2] = exchange.d[lane][r];
  }
  multiply<K>(a, b, d);
  for (int lane = 0; lane < 32; lane++)
    for (int r = 0; r < 4; r++)
      exchange.d[lane][r] = reinterpret_cast<float*>(&d[lane / 4 + r / 2 * 8])[lane % 4 * 2 + r % 2];
}

}  // namespace

void emulate_mma(const Launch& launch, Meeting kind, Exchange& exchange) {
  if (launch.wave_size == 64)
    kind == Meeting::mma_fp8 ? gfx9<32>(launch, kind, exchange) : gfx9<16>(launch, kind, exchange);
  else
    kind == Meeting::mma_fp8 ? sm90<32>(launch, kind, exchange) : sm90<16>(launch, kind, exchange);
}

}  // namespace octet::sim
