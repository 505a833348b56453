// The state of the machine that instructions act on, and the instructions themselves: what decode.cpp makes of the
// disassembly, and valu.cpp, salu.cpp, memory.cpp and mfma.cpp execute.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace octet::gfx942 {

constexpr int lanes = 64;
constexpr uint64_t all_lanes = ~uint64_t{0};
// Registers nobody wrote, LDS and fresh device memory hold this: NaN as f32, infinity as bf16, NaN in its FNUZ bytes
// 0x80, an address no buffer has.
constexpr uint32_t poison = 0x7F807F80;

// What a kernel or a code object did wrong; the runner adds where.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] __attribute__((format(printf, 1, 2))) void fault(const char* format, ...);

// ---- instructions ----

enum class Operand_kind : uint8_t { none, vgpr, sgpr, constant };
enum class Select : uint8_t { dword, word_0, word_1, byte_0, byte_1, byte_2, byte_3 };  // SDWA

struct Operand {
  Operand_kind kind = Operand_kind::none;
  uint16_t reg = 0;     // VGPR 0..255, accumulation register 256..511; SGPR by its encoding: 106 VCC, 124 M0, 126 EXEC
  uint16_t dwords = 0;  // registers named
  bool negative = false, absolute = false;
  bool sign_extend = false;
  bool is_float = false;  // a constant written as 1.0
  Select select = Select::dword;
  int64_t integer = 0;
  double real = 0;
};

struct Wave;
struct Instruction;
using Handler = void (*)(Wave&, const Instruction&);

struct Dpp {
  int8_t source[lanes];  // -1: outside the row
  uint64_t enabled;      // by row_mask and bank_mask
  bool bound_ctrl;
};

struct Instruction {
  Handler handler = nullptr;
  Operand to;     // the first operand where the instruction writes one
  Operand carry;  // VOP3B: the mask written besides
  Operand from[5];
  int count = 0;    // of from
  int target = -1;  // branches: index of the instruction jumped to
  uint32_t words[2] = {};
  int64_t offset = 0;  // memory: offset:, or offset0: and offset1:
  int64_t offset1 = 0;
  bool clamp = false, sdwa = false, keep_rest = false, extend_rest = false;
  bool offen = false, idxen = false, to_lds = false, sc0 = false;
  bool memory = false;            // an access whose destination fills later
  Select select = Select::dword;  // SDWA: dst_sel
  uint8_t op_sel = 0, op_sel_hi = 7, neg_lo = 0, neg_hi = 0;
  float omod = 1;
  const Dpp* dpp = nullptr;
  uint64_t pc = 0;  // in the code object's own addresses
  std::string text;
};

// ---- waves ----

constexpr int vcc_index = 106, m0_index = 124, exec_index = 126;

// A memory access under way: what it will write, so that using it before the matching s_waitcnt is found.
struct Access {
  uint16_t reg;     // first register written
  uint16_t dwords;  // 0: nothing (a store)
  bool scalar;      // s_load: the registers are SGPRs
  bool unordered;   // comes back in any order: s_load and flat
};

struct Range {
  uint64_t begin, end;
};

// Memory of a device that this one has no peer access to.
struct Foreign {
  Range range;
  int device;
};

// The memory a launch may touch, and what it may not.
struct Memory {
  std::vector<Range> ranges;  // sorted, disjoint
  std::vector<Foreign> out_of_reach;
  bool has(uint64_t address, uint64_t size, Range& last) const;
};

struct Block {
  uint8_t* lds;
  uint32_t lds_bytes;
  const Memory* memory;
  const std::function<void()>* pause;  // called by s_sleep
};

struct Wave {
  uint32_t s[130];
  bool scc;
  bool ended, at_barrier;
  int next;              // index of the next instruction
  uint32_t (*v)[lanes];  // [512][64]
  Block* block;
  const Instruction* code;
  uint64_t code_offset;  // address in memory = pc + code_offset
  std::vector<Access> vector_accesses, local_accesses;
  uint8_t v_busy[512], s_busy[130];  // accesses under way into each register
  int in_flight;                     // sum of both
  Range last_range;
  std::vector<uint8_t> scratch;  // [64][scratch_bytes]
  uint32_t scratch_bytes;
  alignas(64) uint32_t mask[lanes];  // EXEC, a word per lane
  uint64_t mask_of;

  uint64_t exec() const { return scalar64(exec_index); }
  uint64_t vcc() const { return scalar64(vcc_index); }
  uint64_t scalar64(int index) const { return s[index] | uint64_t{s[index + 1]} << 32; }
  void set_scalar64(int index, uint64_t value) {
    s[index] = static_cast<uint32_t>(value);
    s[index + 1] = static_cast<uint32_t>(value >> 32);
  }
  // A word of ones for each lane of `active`.
  const uint32_t* expand(uint64_t active) {
    if (active != mask_of) {
      for (int i = 0; i < lanes; i++) mask[i] = active >> i & 1 ? ~0u : 0u;
      mask_of = active;
    }
    return mask;
  }
};

// The handlers of one kind of instruction by base mnemonic (without _e32, _e64, _sdwa, _dpp); null where unknown.
Handler find_vector(std::string_view mnemonic);
Handler find_scalar(std::string_view mnemonic);
Handler find_memory(std::string_view mnemonic);
Handler find_matrix(std::string_view mnemonic);

// ---- operands as scalars (salu.cpp, memory.cpp) ----

inline uint32_t constant_bits(const Operand& operand) {
  return operand.is_float ? std::bit_cast<uint32_t>(static_cast<float>(operand.real))
                          : static_cast<uint32_t>(operand.integer);
}
// Inline constants (-16 to 64) are sign-extended, a 32-bit literal, written without a sign, is zero-extended.
inline uint64_t constant_bits64(const Operand& operand) {
  if (operand.is_float) return std::bit_cast<uint64_t>(operand.real);
  return static_cast<uint64_t>(operand.integer);
}
inline uint32_t scalar(const Wave& wave, const Operand& operand) {
  if (operand.kind == Operand_kind::sgpr) return wave.s[operand.reg];
  if (operand.kind == Operand_kind::constant) return constant_bits(operand);
  fault("a scalar operand was expected");
}
inline uint64_t scalar64(const Wave& wave, const Operand& operand) {
  if (operand.kind == Operand_kind::sgpr) return wave.scalar64(operand.reg);
  if (operand.kind == Operand_kind::constant) return constant_bits64(operand);
  fault("a scalar operand was expected");
}

}  // namespace octet::gfx942
