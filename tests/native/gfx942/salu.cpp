// Scalar ALU instructions and the control flow: SCC, EXEC as a register pair, branches.
// Semantics: AMD's CDNA3 instruction set reference, chapters on SOP1, SOP2, SOPC, SOPK and SOPP.

#include <algorithm>
#include <chrono>
#include <unordered_map>

#include "wave.h"

namespace octet::gfx942 {

namespace {

using Table = std::unordered_map<std::string_view, Handler>;
using u32 = uint32_t;
using i32 = int32_t;
using u64 = uint64_t;
using i64 = int64_t;

template <class T>
T get(const Wave& wave, const Operand& operand) {
  if constexpr (sizeof(T) == 8)
    return std::bit_cast<T>(scalar64(wave, operand));
  else
    return std::bit_cast<T>(scalar(wave, operand));
}
template <class T>
void set(Wave& wave, const Operand& to, T value) {
  if (to.kind != Operand_kind::sgpr) fault("a scalar destination was expected");
  if constexpr (sizeof(T) == 8)
    wave.set_scalar64(to.reg, std::bit_cast<u64>(value));
  else
    wave.s[to.reg] = std::bit_cast<u32>(value);
}

// SCC says whether the result is other than zero.
template <class T, auto F>
void logical(Wave& wave, const Instruction& in) {
  const T result = F(get<T>(wave, in.from[0]), get<T>(wave, in.from[1]));
  set(wave, in.to, result);
  wave.scc = result != 0;
}
// The second operand is a count of bits.
template <class T, auto F>
void shift(Wave& wave, const Instruction& in) {
  const T result = F(get<T>(wave, in.from[0]), get<u32>(wave, in.from[1]) & (8 * sizeof(T) - 1));
  set(wave, in.to, result);
  wave.scc = result != 0;
}
template <class T, class R, auto F>
void unary(Wave& wave, const Instruction& in) {
  set<R>(wave, in.to, F(get<T>(wave, in.from[0])));
}
template <class T, class R, auto F>
void unary_scc(Wave& wave, const Instruction& in) {
  const R result = F(get<T>(wave, in.from[0]));
  set(wave, in.to, result);
  wave.scc = result != 0;
}
// SCC is left alone.
template <class T, auto F>
void plain(Wave& wave, const Instruction& in) {
  set<T>(wave, in.to, F(get<T>(wave, in.from[0]), get<T>(wave, in.from[1])));
}
template <class T, auto F>
void compare(Wave& wave, const Instruction& in) {
  wave.scc = F(get<T>(wave, in.from[0]), get<T>(wave, in.from[1]));
}
template <class T, bool low>
void extreme(Wave& wave, const Instruction& in) {
  const T a = get<T>(wave, in.from[0]), b = get<T>(wave, in.from[1]);
  wave.scc = low ? a < b : a > b;
  set(wave, in.to, wave.scc ? a : b);
}

template <bool subtract, bool with_carry>
void sum_unsigned(Wave& wave, const Instruction& in) {
  const u64 a = get<u32>(wave, in.from[0]), b = get<u32>(wave, in.from[1]), carry = with_carry && wave.scc;
  const u64 wide = subtract ? a - b - carry : a + b + carry;
  set(wave, in.to, static_cast<u32>(wide));
  wave.scc = wide >> 32 & 1;
}
template <bool subtract>
void sum_signed(Wave& wave, const Instruction& in) {
  const i64 a = get<i32>(wave, in.from[0]), b = get<i32>(wave, in.from[1]), wide = subtract ? a - b : a + b;
  set(wave, in.to, static_cast<u32>(wide));
  wave.scc = wide != static_cast<i32>(wide);
}
template <int by>
void shift_add(Wave& wave, const Instruction& in) {
  const u64 wide = (u64{get<u32>(wave, in.from[0])} << by) + get<u32>(wave, in.from[1]);
  set(wave, in.to, static_cast<u32>(wide));
  wave.scc = wide >> 32 != 0;
}

// The saveexec family: the old EXEC goes to the destination, the new one is F(operand, EXEC).
template <auto F>
void saveexec(Wave& wave, const Instruction& in) {
  const u64 operand = get<u64>(wave, in.from[0]), old = wave.exec(), next = F(operand, old);
  set(wave, in.to, old);
  wave.set_scalar64(exec_index, next);
  wave.scc = next != 0;
}

template <class T, class Shifted>
T extract(T x, u32 field) {
  const u32 bits = 8 * sizeof(T), at = field & (bits - 1), width = std::min(field >> 16 & 0x7F, bits);
  if (width == 0) return 0;
  const u32 up = at + width >= bits ? 0 : bits - at - width;
  return static_cast<T>(static_cast<Shifted>(x << up) >> (at + up));
}

template <class T>
i32 find_first_one(T x) {
  return x == 0 ? -1 : std::countr_zero(x);
}
template <class T>
i32 leading_zeros(T x) {
  return x == 0 ? -1 : std::countl_zero(x);
}
// Leading bits equal to the sign.
i32 leading_signs(u32 x) {
  if (static_cast<i32>(x) < 0) x = ~x;
  return x == 0 ? -1 : std::countl_zero(x);
}
u32 reverse(u32 x) {
  u32 result = 0;
  for (int i = 0; i < 32; i++) result |= (x >> i & 1) << (31 - i);
  return result;
}
u64 reverse64(u64 x) { return u64{reverse(static_cast<u32>(x))} << 32 | reverse(static_cast<u32>(x >> 32)); }

void jump(Wave& wave, const Instruction& in) { wave.next = in.target; }
template <auto Condition>
void branch(Wave& wave, const Instruction& in) {
  if (Condition(wave)) wave.next = in.target;
}
// The 16-bit constant of SOPK, sign-extended: objdump writes it as an unsigned number.
i32 constant16(const Operand& operand) { return static_cast<int16_t>(operand.integer); }
template <class T, auto F>
void compare_constant(Wave& wave, const Instruction& in) {
  const T constant =
      std::is_signed_v<T> ? static_cast<T>(constant16(in.from[1])) : static_cast<T>(in.from[1].integer & 0xFFFF);
  wave.scc = F(get<T>(wave, in.from[0]), constant);
}

#define EXPRESSION(parameters, result) [] parameters { return result; }

template <class T>
constexpr auto equal = EXPRESSION((T a, T b), a == b);
template <class T>
constexpr auto unequal = EXPRESSION((T a, T b), a != b);
template <class T>
constexpr auto less = EXPRESSION((T a, T b), a < b);
template <class T>
constexpr auto less_equal = EXPRESSION((T a, T b), a <= b);
template <class T>
constexpr auto greater = EXPRESSION((T a, T b), a > b);
template <class T>
constexpr auto greater_equal = EXPRESSION((T a, T b), a >= b);

void nothing(Wave&, const Instruction&) {}

void add_logic(Table& t) {
  t["s_and_b32"] = logical<u32, EXPRESSION((u32 a, u32 b), a & b)>;
  t["s_and_b64"] = logical<u64, EXPRESSION((u64 a, u64 b), a & b)>;
  t["s_or_b32"] = logical<u32, EXPRESSION((u32 a, u32 b), a | b)>;
  t["s_or_b64"] = logical<u64, EXPRESSION((u64 a, u64 b), a | b)>;
  t["s_xor_b32"] = logical<u32, EXPRESSION((u32 a, u32 b), a ^ b)>;
  t["s_xor_b64"] = logical<u64, EXPRESSION((u64 a, u64 b), a ^ b)>;
  t["s_andn2_b32"] = logical<u32, EXPRESSION((u32 a, u32 b), a & ~b)>;
  t["s_andn2_b64"] = logical<u64, EXPRESSION((u64 a, u64 b), a & ~b)>;
  t["s_orn2_b32"] = logical<u32, EXPRESSION((u32 a, u32 b), a | ~b)>;
  t["s_orn2_b64"] = logical<u64, EXPRESSION((u64 a, u64 b), a | ~b)>;
  t["s_nand_b64"] = logical<u64, EXPRESSION((u64 a, u64 b), ~(a & b))>;
  t["s_nor_b64"] = logical<u64, EXPRESSION((u64 a, u64 b), ~(a | b))>;
  t["s_xnor_b32"] = logical<u32, EXPRESSION((u32 a, u32 b), ~(a ^ b))>;
  t["s_xnor_b64"] = logical<u64, EXPRESSION((u64 a, u64 b), ~(a ^ b))>;
  t["s_lshl_b32"] = shift<u32, EXPRESSION((u32 a, u32 b), a << b)>;
  t["s_lshl_b64"] = shift<u64, EXPRESSION((u64 a, u32 b), a << b)>;
  t["s_lshr_b32"] = shift<u32, EXPRESSION((u32 a, u32 b), a >> b)>;
  t["s_lshr_b64"] = shift<u64, EXPRESSION((u64 a, u32 b), a >> b)>;
  t["s_ashr_i32"] = shift<i32, EXPRESSION((i32 a, u32 b), a >> b)>;
  t["s_ashr_i64"] = shift<i64, EXPRESSION((i64 a, u32 b), a >> b)>;
  t["s_bfe_u32"] = logical<u32, extract<u32, u32>>;
  t["s_bfe_i32"] = logical<u32, extract<u32, i32>>;
  t["s_bfe_u64"] = [](Wave& wave, const Instruction& in) {
    const u64 result = extract<u64, u64>(get<u64>(wave, in.from[0]), get<u32>(wave, in.from[1]));
    set(wave, in.to, result);
    wave.scc = result != 0;
  };
  t["s_bfe_i64"] = [](Wave& wave, const Instruction& in) {
    const u64 result = extract<u64, i64>(get<u64>(wave, in.from[0]), get<u32>(wave, in.from[1]));
    set(wave, in.to, result);
    wave.scc = result != 0;
  };
  t["s_bfm_b32"] = plain<u32, EXPRESSION((u32 a, u32 b), ((1u << (a & 31)) - 1) << (b & 31))>;
  t["s_bfm_b64"] = [](Wave& wave, const Instruction& in) {
    set(wave, in.to, ((u64{1} << (get<u32>(wave, in.from[0]) & 63)) - 1) << (get<u32>(wave, in.from[1]) & 63));
  };
  t["s_not_b32"] = unary_scc<u32, u32, EXPRESSION((u32 a), ~a)>;
  t["s_not_b64"] = unary_scc<u64, u64, EXPRESSION((u64 a), ~a)>;
  t["s_brev_b32"] = unary<u32, u32, reverse>;
  t["s_brev_b64"] = unary<u64, u64, reverse64>;
  t["s_bcnt1_i32_b32"] = unary_scc<u32, i32, EXPRESSION((u32 a), std::popcount(a))>;
  t["s_bcnt1_i32_b64"] = unary_scc<u64, i32, EXPRESSION((u64 a), std::popcount(a))>;
  t["s_bcnt0_i32_b32"] = unary_scc<u32, i32, EXPRESSION((u32 a), std::popcount(~a))>;
  t["s_bcnt0_i32_b64"] = unary_scc<u64, i32, EXPRESSION((u64 a), std::popcount(~a))>;
  t["s_ff1_i32_b32"] = unary<u32, i32, find_first_one<u32>>;
  t["s_ff1_i32_b64"] = unary<u64, i32, find_first_one<u64>>;
  t["s_flbit_i32_b32"] = unary<u32, i32, leading_zeros<u32>>;
  t["s_flbit_i32_b64"] = unary<u64, i32, leading_zeros<u64>>;
  t["s_flbit_i32"] = unary<u32, i32, leading_signs>;
  t["s_sext_i32_i8"] = unary<u32, i32, EXPRESSION((u32 a), i32{static_cast<int8_t>(a)})>;
  t["s_sext_i32_i16"] = unary<u32, i32, EXPRESSION((u32 a), i32{static_cast<int16_t>(a)})>;
  t["s_bitset0_b32"] = [](Wave& wave, const Instruction& in) {
    wave.s[in.to.reg] &= ~(1u << (scalar(wave, in.from[0]) & 31));
  };
  t["s_bitset1_b32"] = [](Wave& wave, const Instruction& in) {
    wave.s[in.to.reg] |= 1u << (scalar(wave, in.from[0]) & 31);
  };
  t["s_pack_ll_b32_b16"] = plain<u32, EXPRESSION((u32 a, u32 b), (a & 0xFFFF) | b << 16)>;
  t["s_pack_lh_b32_b16"] = plain<u32, EXPRESSION((u32 a, u32 b), (a & 0xFFFF) | (b & 0xFFFF0000))>;
  t["s_pack_hh_b32_b16"] = plain<u32, EXPRESSION((u32 a, u32 b), a >> 16 | (b & 0xFFFF0000))>;
}

void add_arithmetic(Table& t) {
  t["s_add_u32"] = sum_unsigned<false, false>;
  t["s_addc_u32"] = sum_unsigned<false, true>;
  t["s_sub_u32"] = sum_unsigned<true, false>;
  t["s_subb_u32"] = sum_unsigned<true, true>;
  t["s_add_i32"] = sum_signed<false>;
  t["s_sub_i32"] = sum_signed<true>;
  t["s_mul_i32"] = plain<u32, EXPRESSION((u32 a, u32 b), a * b)>;
  t["s_mul_hi_u32"] = plain<u32, EXPRESSION((u32 a, u32 b), static_cast<u32>(u64{a} * b >> 32))>;
  t["s_mul_hi_i32"] = plain<i32, EXPRESSION((i32 a, i32 b), static_cast<i32>(i64{a} * b >> 32))>;
  t["s_lshl1_add_u32"] = shift_add<1>;
  t["s_lshl2_add_u32"] = shift_add<2>;
  t["s_lshl3_add_u32"] = shift_add<3>;
  t["s_lshl4_add_u32"] = shift_add<4>;
  t["s_min_i32"] = extreme<i32, true>;
  t["s_min_u32"] = extreme<u32, true>;
  t["s_max_i32"] = extreme<i32, false>;
  t["s_max_u32"] = extreme<u32, false>;
  t["s_abs_i32"] = unary_scc<u32, u32, EXPRESSION((u32 a), static_cast<i32>(a) < 0 ? 0 - a : a)>;
  t["s_absdiff_i32"] = logical<u32, EXPRESSION((u32 a, u32 b), static_cast<i32>(a - b) < 0 ? b - a : a - b)>;
  t["s_addk_i32"] = [](Wave& wave, const Instruction& in) {
    const i64 wide = i64{static_cast<i32>(wave.s[in.to.reg])} + constant16(in.from[0]);
    wave.s[in.to.reg] = static_cast<u32>(wide);
    wave.scc = wide != static_cast<i32>(wide);
  };
  t["s_mulk_i32"] = [](Wave& wave, const Instruction& in) {
    wave.s[in.to.reg] *= static_cast<u32>(constant16(in.from[0]));
  };
}

void add_moves(Table& t) {
  t["s_mov_b32"] = unary<u32, u32, EXPRESSION((u32 a), a)>;
  t["s_mov_b64"] = unary<u64, u64, EXPRESSION((u64 a), a)>;
  t["s_movk_i32"] = [](Wave& wave, const Instruction& in) { set(wave, in.to, constant16(in.from[0])); };
  t["s_cmov_b32"] = [](Wave& wave, const Instruction& in) {
    if (wave.scc) set(wave, in.to, scalar(wave, in.from[0]));
  };
  t["s_cmov_b64"] = [](Wave& wave, const Instruction& in) {
    if (wave.scc) set(wave, in.to, scalar64(wave, in.from[0]));
  };
  t["s_cmovk_i32"] = [](Wave& wave, const Instruction& in) {
    if (wave.scc) set(wave, in.to, constant16(in.from[0]));
  };
  t["s_cselect_b32"] = [](Wave& wave, const Instruction& in) {
    set(wave, in.to, scalar(wave, in.from[wave.scc ? 0 : 1]));
  };
  t["s_cselect_b64"] = [](Wave& wave, const Instruction& in) {
    set(wave, in.to, scalar64(wave, in.from[wave.scc ? 0 : 1]));
  };
  t["s_and_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), s & e)>;
  t["s_or_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), s | e)>;
  t["s_xor_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), s ^ e)>;
  t["s_andn2_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), s & ~e)>;
  t["s_orn2_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), s | ~e)>;
  t["s_andn1_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), ~s & e)>;
  t["s_orn1_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), ~s | e)>;
  t["s_nand_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), ~(s & e))>;
  t["s_nor_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), ~(s | e))>;
  t["s_xnor_saveexec_b64"] = saveexec<EXPRESSION((u64 s, u64 e), ~(s ^ e))>;
  t["s_andn2_wrexec_b64"] = [](Wave& wave, const Instruction& in) {
    const u64 next = scalar64(wave, in.from[0]) & ~wave.exec();
    wave.set_scalar64(exec_index, next);
    set(wave, in.to, next);
    wave.scc = next != 0;
  };
}

void add_comparisons(Table& t) {
  t["s_cmp_eq_u32"] = t["s_cmp_eq_i32"] = compare<u32, equal<u32>>;
  t["s_cmp_lg_u32"] = t["s_cmp_lg_i32"] = compare<u32, unequal<u32>>;
  t["s_cmp_eq_u64"] = compare<u64, equal<u64>>;
  t["s_cmp_lg_u64"] = compare<u64, unequal<u64>>;
  t["s_cmp_gt_i32"] = compare<i32, greater<i32>>;
  t["s_cmp_ge_i32"] = compare<i32, greater_equal<i32>>;
  t["s_cmp_lt_i32"] = compare<i32, less<i32>>;
  t["s_cmp_le_i32"] = compare<i32, less_equal<i32>>;
  t["s_cmp_gt_u32"] = compare<u32, greater<u32>>;
  t["s_cmp_ge_u32"] = compare<u32, greater_equal<u32>>;
  t["s_cmp_lt_u32"] = compare<u32, less<u32>>;
  t["s_cmp_le_u32"] = compare<u32, less_equal<u32>>;
  t["s_cmpk_eq_i32"] = compare_constant<i32, equal<i32>>;
  t["s_cmpk_lg_i32"] = compare_constant<i32, unequal<i32>>;
  t["s_cmpk_gt_i32"] = compare_constant<i32, greater<i32>>;
  t["s_cmpk_ge_i32"] = compare_constant<i32, greater_equal<i32>>;
  t["s_cmpk_lt_i32"] = compare_constant<i32, less<i32>>;
  t["s_cmpk_le_i32"] = compare_constant<i32, less_equal<i32>>;
  t["s_cmpk_eq_u32"] = compare_constant<u32, equal<u32>>;
  t["s_cmpk_lg_u32"] = compare_constant<u32, unequal<u32>>;
  t["s_cmpk_gt_u32"] = compare_constant<u32, greater<u32>>;
  t["s_cmpk_ge_u32"] = compare_constant<u32, greater_equal<u32>>;
  t["s_cmpk_lt_u32"] = compare_constant<u32, less<u32>>;
  t["s_cmpk_le_u32"] = compare_constant<u32, less_equal<u32>>;
  t["s_bitcmp0_b32"] = compare<u32, EXPRESSION((u32 a, u32 b), (a >> (b & 31) & 1) == 0)>;
  t["s_bitcmp1_b32"] = compare<u32, EXPRESSION((u32 a, u32 b), (a >> (b & 31) & 1) == 1)>;
  t["s_bitcmp0_b64"] = [](Wave& wave, const Instruction& in) {
    wave.scc = (scalar64(wave, in.from[0]) >> (scalar(wave, in.from[1]) & 63) & 1) == 0;
  };
  t["s_bitcmp1_b64"] = [](Wave& wave, const Instruction& in) {
    wave.scc = (scalar64(wave, in.from[0]) >> (scalar(wave, in.from[1]) & 63) & 1) == 1;
  };
}

void add_control(Table& t) {
  t["s_branch"] = jump;
  t["s_cbranch_scc0"] = branch<EXPRESSION((const Wave& w), !w.scc)>;
  t["s_cbranch_scc1"] = branch<EXPRESSION((const Wave& w), w.scc)>;
  t["s_cbranch_vccz"] = branch<EXPRESSION((const Wave& w), w.vcc() == 0)>;
  t["s_cbranch_vccnz"] = branch<EXPRESSION((const Wave& w), w.vcc() != 0)>;
  t["s_cbranch_execz"] = branch<EXPRESSION((const Wave& w), w.exec() == 0)>;
  t["s_cbranch_execnz"] = branch<EXPRESSION((const Wave& w), w.exec() != 0)>;
  t["s_getpc_b64"] = [](Wave& wave, const Instruction& in) { set(wave, in.to, in.pc + 4 + wave.code_offset); };
  // 100 MHz.
  t["s_memrealtime"] = [](Wave& wave, const Instruction& in) {
    const std::chrono::nanoseconds now = std::chrono::steady_clock::now().time_since_epoch();
    set(wave, in.to, static_cast<u64>(now.count() / 10));
  };
  t["s_endpgm"] = [](Wave& wave, const Instruction&) { wave.ended = true; };
  t["s_barrier"] = [](Wave& wave, const Instruction&) { wave.at_barrier = true; };
  t["s_trap"] = [](Wave&, const Instruction&) { fault("s_trap was reached"); };
  t["s_sleep"] = [](Wave& wave, const Instruction&) { (*wave.block->pause)(); };
  for (const char* hint : {"s_nop", "s_setprio", "s_icache_inv", "s_dcache_inv", "s_dcache_wb", "s_inst_prefetch",
                           "s_sethalt", "s_ttracedata"})
    t[hint] = nothing;
}

}  // namespace

Handler find_scalar(std::string_view mnemonic) {
  static const Table table = [] {
    Table t;
    add_logic(t);
    add_arithmetic(t);
    add_moves(t);
    add_comparisons(t);
    add_control(t);
    return t;
  }();
  const auto found = table.find(mnemonic);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace octet::gfx942
