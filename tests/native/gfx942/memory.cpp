// Loads, stores and atomics: scalar, global, buffer and LDS. Every address must lie within a buffer that is alive, or
// within the LDS of the launch. A value arrives at once, but its registers count as busy until the s_waitcnt that waits
// for it. Semantics: AMD's CDNA3 instruction set reference, chapters on SMEM, global, MUBUF and DS.

#include <unordered_map>

#include "lanes.h"

namespace octet::gfx942 {

bool Memory::has(uint64_t address, uint64_t size, Range& last) const {
  if (address >= last.begin && address + size <= last.end && address + size >= address) return true;
  auto after = std::upper_bound(ranges.begin(), ranges.end(), address,
                                [](uint64_t value, const Range& range) { return value < range.begin; });
  if (after == ranges.begin()) return false;
  const Range& range = *--after;
  if (address + size > range.end || address + size < address) return false;
  last = range;
  return true;
}

namespace {

void check_memory(Wave& wave, uint64_t address, uint64_t size, int lane, const char* what) {
  if (wave.block->memory->has(address, size, wave.last_range)) return;
  for (const Foreign& foreign : wave.block->memory->out_of_reach)
    if (address >= foreign.range.begin && address < foreign.range.end)
      fault("lane %d %s %llu bytes at 0x%llx, memory of hip:%d, which the device has no peer access to", lane, what,
            static_cast<unsigned long long>(size), static_cast<unsigned long long>(address), foreign.device);
  const auto& ranges = wave.block->memory->ranges;
  uint64_t below = 0;
  for (const Range& range : ranges)
    if (range.begin <= address) below = range.end;
  fault("lane %d %s %llu bytes at 0x%llx, outside every buffer (the buffer below ends %llu bytes before)", lane, what,
        static_cast<unsigned long long>(size), static_cast<unsigned long long>(address),
        static_cast<unsigned long long>(address - below));
}
// NOTE: base and offset are added in 32 bits: since Sea Islands the compiler relies on a base below zero (LLVM's
// hasUsableDSOffset).
uint8_t* lds_at(Wave& wave, uint64_t sum, uint32_t size, int lane) {
  const uint64_t address = static_cast<uint32_t>(sum);
  if (address + size > wave.block->lds_bytes)
    fault("lane %d accesses LDS bytes %llu to %llu of a launch with %u bytes", lane,
          static_cast<unsigned long long>(address), static_cast<unsigned long long>(address + size),
          wave.block->lds_bytes);
  // The compiler emits an access of n bytes only where it knows the address to be aligned to n (12: to 16).
  const uint32_t alignment = std::bit_ceil(size);
  if (address % alignment != 0)
    fault("lane %d accesses %u bytes of LDS at %llu, not aligned", lane, size,
          static_cast<unsigned long long>(address));
  return wave.block->lds + address;
}

void begin(Wave& wave, const Operand& to, uint16_t dwords, bool local, bool is_scalar = false) {
  auto& queue = local ? wave.local_accesses : wave.vector_accesses;
  queue.push_back({to.reg, dwords, is_scalar, is_scalar});
  uint8_t* busy = is_scalar ? wave.s_busy : wave.v_busy;
  for (int i = 0; i < dwords; i++) busy[to.reg + i]++;
  wave.in_flight += dwords;
}
// flat: counts in both queues, and comes back in any order.
void begin_flat(Wave& wave, const Operand& to, uint16_t dwords) {
  begin(wave, to, dwords, true);
  begin(wave, to, dwords, false);
  wave.local_accesses.back().unordered = wave.vector_accesses.back().unordered = true;
}
void finish(Wave& wave, const Access& access) {
  uint8_t* busy = access.scalar ? wave.s_busy : wave.v_busy;
  for (int i = 0; i < access.dwords; i++) busy[access.reg + i]--;
  wave.in_flight -= access.dwords;
}

// gfx9: vmcnt in bits 3:0 and 15:14, lgkmcnt in bits 11:8. Vector accesses come back in order, LDS accesses in order
// among themselves, scalar loads in any order.
void retire(Wave& wave, std::vector<Access>& queue, size_t left) {
  size_t ordered = 0;
  for (const Access& access : queue) ordered += !access.unordered;
  std::vector<Access> waiting;
  for (const Access& access : queue) {
    const bool stays = access.unordered ? left != 0 : ordered <= left;
    if (!access.unordered) ordered--;
    if (stays)
      waiting.push_back(access);
    else
      finish(wave, access);
  }
  queue.swap(waiting);
}
void waitcnt(Wave& wave, const Instruction& in) {
  const uint32_t word = in.words[0];
  retire(wave, wave.vector_accesses, (word & 15) | (word >> 14 & 3) << 4);
  retire(wave, wave.local_accesses, word >> 8 & 15);
}

// ---- scalar loads: s_load_dwordxN sdst, sbase, offset ----

template <int dwords>
void s_load(Wave& wave, const Instruction& in) {
  // NOTE: the two low bits of the sum are ignored by the machine; compiled code never sets them.
  const int64_t offset =
      in.offset + (in.from[1].kind == Operand_kind::sgpr ? wave.s[in.from[1].reg] : in.from[1].integer);
  const uint64_t address = scalar64(wave, in.from[0]) + static_cast<uint64_t>(offset);
  if (address % 4 != 0)
    fault("a scalar load of the unaligned address 0x%llx", static_cast<unsigned long long>(address));
  check_memory(wave, address, 4 * dwords, 0, "loads");
  std::memcpy(&wave.s[in.to.reg], reinterpret_cast<const void*>(address), 4 * dwords);
  begin(wave, in.to, dwords, true, true);
}
template <int dwords>
void s_buffer_load(Wave& wave, const Instruction& in) {
  const uint64_t base = wave.scalar64(in.from[0].reg) & 0xFFFFFFFFFFFF;
  const uint32_t size = wave.s[in.from[0].reg + 2];
  const int64_t offset =
      in.offset + (in.from[1].kind == Operand_kind::sgpr ? wave.s[in.from[1].reg] : in.from[1].integer);
  for (int i = 0; i < dwords; i++) {
    const int64_t at = offset + 4 * i;
    uint32_t word = 0;
    if (at + 4 <= size) {
      check_memory(wave, base + static_cast<uint64_t>(at), 4, 0, "loads");
      std::memcpy(&word, reinterpret_cast<const void*>(base + static_cast<uint64_t>(at)), 4);
    }
    wave.s[in.to.reg + i] = word;
  }
  begin(wave, in.to, dwords, true, true);
}

// ---- what a vector load does with its bytes ----

enum class Shape {
  whole,
  byte_zero,
  byte_signed,
  half_zero,
  half_signed,
  low_half,
  high_half,
  high_byte_zero,
  low_byte_zero
};

constexpr uint32_t bytes_of(Shape shape, int dwords) {
  switch (shape) {
    case Shape::whole:
      return 4 * static_cast<uint32_t>(dwords);
    case Shape::half_zero:
    case Shape::half_signed:
    case Shape::low_half:
    case Shape::high_half:
      return 2;
    default:
      return 1;
  }
}
// A loaded value of less than a dword, over the register's old content.
template <Shape shape>
uint32_t widen(const void* from, uint32_t old) {
  if constexpr (bytes_of(shape, 1) == 2) {
    uint16_t half;
    std::memcpy(&half, from, 2);
    if constexpr (shape == Shape::half_zero) return half;
    if constexpr (shape == Shape::half_signed) return static_cast<uint32_t>(static_cast<int16_t>(half));
    if constexpr (shape == Shape::low_half) return (old & 0xFFFF0000) | half;
    if constexpr (shape == Shape::high_half) return (old & 0xFFFF) | uint32_t{half} << 16;
  } else {
    const uint8_t byte = *static_cast<const uint8_t*>(from);
    if constexpr (shape == Shape::byte_zero) return byte;
    if constexpr (shape == Shape::byte_signed) return static_cast<uint32_t>(static_cast<int8_t>(byte));
    if constexpr (shape == Shape::low_byte_zero) return (old & 0xFFFF0000) | byte;
    if constexpr (shape == Shape::high_byte_zero) return (old & 0xFFFF) | uint32_t{byte} << 16;
  }
}

template <Shape shape, int dwords>
void load_lane(Wave& wave, int reg, int lane, const void* from) {
  if constexpr (shape == Shape::whole) {
    uint32_t words[dwords];
    std::memcpy(words, from, sizeof(words));
    for (int i = 0; i < dwords; i++) wave.v[reg + i][lane] = words[i];
  } else {
    wave.v[reg][lane] = widen<shape>(from, wave.v[reg][lane]);
  }
}
// Stores of the high half start at bit 16.
template <Shape shape, int dwords>
void store_lane(const Wave& wave, int reg, int lane, void* to) {
  if constexpr (shape == Shape::whole) {
    uint32_t words[dwords];
    for (int i = 0; i < dwords; i++) words[i] = wave.v[reg + i][lane];
    std::memcpy(to, words, sizeof(words));
  } else {
    uint32_t word = wave.v[reg][lane];
    if constexpr (shape == Shape::high_half || shape == Shape::high_byte_zero) word >>= 16;
    std::memcpy(to, &word, bytes_of(shape, dwords));
  }
}

template <class F>
void each_lane(const Wave& wave, F body) {
  for (uint64_t active = wave.exec(); active != 0; active &= active - 1) body(std::countr_zero(active));
}

// global: vaddr is a 64-bit pair with `off`, or a 32-bit offset to an SGPR pair.
uint64_t global_address(const Wave& wave, const Instruction& in, const Operand& vaddr, const Operand& saddr, int lane) {
  uint64_t address;
  if (saddr.kind == Operand_kind::none)
    address = wave.v[vaddr.reg][lane] | uint64_t{wave.v[vaddr.reg + 1][lane]} << 32;
  else
    address = wave.scalar64(saddr.reg) + wave.v[vaddr.reg][lane];
  return address + static_cast<uint64_t>(in.offset);
}

template <Shape shape, int dwords>
void global_load(Wave& wave, const Instruction& in) {
  constexpr uint32_t bytes = bytes_of(shape, dwords);
  each_lane(wave, [&](int lane) {
    const uint64_t address = global_address(wave, in, in.from[0], in.from[1], lane);
    check_memory(wave, address, bytes, lane, "loads");
    load_lane<shape, dwords>(wave, in.to.reg, lane, reinterpret_cast<const void*>(address));
  });
  begin(wave, in.to, dwords, false);
}
template <Shape shape, int dwords>
void global_store(Wave& wave, const Instruction& in) {
  constexpr uint32_t bytes = bytes_of(shape, dwords);
  each_lane(wave, [&](int lane) {
    const uint64_t address = global_address(wave, in, in.from[0], in.from[2], lane);
    check_memory(wave, address, bytes, lane, "stores");
    store_lane<shape, dwords>(wave, in.from[1].reg, lane, reinterpret_cast<void*>(address));
  });
  begin(wave, in.to, 0, false);
}

// flat: an address that the compiler could not place; only global memory is expected behind one here.
template <Shape shape, int dwords, bool is_store>
void flat_access(Wave& wave, const Instruction& in) {
  each_lane(wave, [&](int lane) {
    const uint64_t address = global_address(wave, in, in.from[0], {}, lane);
    check_memory(wave, address, bytes_of(shape, dwords), lane, is_store ? "stores" : "loads");
    if constexpr (is_store)
      store_lane<shape, dwords>(wave, in.from[1].reg, lane, reinterpret_cast<void*>(address));
    else
      load_lane<shape, dwords>(wave, in.to.reg, lane, reinterpret_cast<const void*>(address));
  });
  begin_flat(wave, in.to, is_store ? 0 : dwords);
}

// ---- buffer: a resource of base, size and format in four SGPRs; raw (stride 0) only. Beyond the size loads give 0 and
// stores do nothing, dword by dword ----

struct Buffer {
  uint64_t base;
  uint64_t limit;  // bytes beyond the scalar offset
  uint64_t scalar_offset;
};
Buffer buffer_of(const Wave& wave, const Operand& resource, const Operand& soffset) {
  const uint32_t word1 = wave.s[resource.reg + 1], word3 = wave.s[resource.reg + 3];
  if ((word1 >> 16 & 0x3FFF) != 0 || word1 >> 31 != 0 || (word3 >> 23 & 1) != 0)
    fault("a buffer resource with a stride, a swizzle or a thread id, which raw accesses do not have");
  const uint64_t offset = scalar(wave, soffset), size = wave.s[resource.reg + 2];
  return {wave.s[resource.reg] | uint64_t{word1 & 0xFFFF} << 32, size > offset ? size - offset : 0, offset};
}
template <Shape shape, int dwords, bool is_store>
void buffer_access(Wave& wave, const Instruction& in) {
  if (in.idxen || (in.to_lds && dwords != 1)) fault("a form of buffer access that is not implemented");
  // Operands: [vdata,] vaddr or off, resource, soffset. A load names its destination first, one to LDS has none.
  const Operand &vaddr = in.from[is_store ? 1 : 0], &resource = in.from[is_store ? 2 : 1],
                &soffset = in.from[is_store ? 3 : 2];
  const Buffer buffer = buffer_of(wave, resource, soffset);
  constexpr uint32_t bytes = bytes_of(shape, dwords), step = shape == Shape::whole ? 4 : bytes;
  uint64_t offsets[lanes];
  each_lane(wave, [&](int lane) {
    offsets[lane] = static_cast<uint64_t>(in.offset) + (in.offen ? wave.v[vaddr.reg][lane] : 0u);
  });
  each_lane(wave, [&](int lane) {
    uint8_t data[16] = {};
    if constexpr (is_store) store_lane<shape, dwords>(wave, in.from[0].reg, lane, data);
    for (uint32_t at = 0; at < bytes; at += step) {
      if (offsets[lane] + at + step > buffer.limit) continue;
      const uint64_t address = buffer.base + buffer.scalar_offset + offsets[lane] + at;
      check_memory(wave, address, step, lane, is_store ? "stores" : "loads");
      if constexpr (is_store)
        std::memcpy(reinterpret_cast<void*>(address), data + at, step);
      else
        std::memcpy(data + at, reinterpret_cast<const void*>(address), step);
    }
    if constexpr (!is_store) {
      if (in.to_lds) {
        const uint64_t at =
            (wave.s[m0_index] & 0xFFFF) + static_cast<uint64_t>(in.offset) + 4u * static_cast<uint32_t>(lane);
        uint32_t word = 0;
        std::memcpy(&word, data, std::min(bytes, 4u));
        std::memcpy(lds_at(wave, at, 4, lane), &word, 4);
      } else {
        load_lane<shape, dwords>(wave, in.to.reg, lane, data);
      }
    }
  });
  begin(wave, in.to, is_store || in.to_lds ? 0 : dwords, false);
}

// ---- scratch: each lane's own bytes; the address is an offset from a VGPR, an SGPR or the instruction alone ----

uint8_t* scratch_at(Wave& wave, const Instruction& in, const Operand& vaddr, const Operand& saddr, int lane,
                    uint32_t size) {
  uint64_t at = static_cast<uint64_t>(in.offset);
  if (vaddr.kind == Operand_kind::vgpr) at += wave.v[vaddr.reg][lane];
  if (saddr.kind == Operand_kind::sgpr) at += wave.s[saddr.reg];
  if (at + size > wave.scratch_bytes)
    fault("lane %d accesses scratch bytes %llu to %llu of %u", lane, static_cast<unsigned long long>(at),
          static_cast<unsigned long long>(at + size), wave.scratch_bytes);
  return &wave.scratch[static_cast<size_t>(lane) * wave.scratch_bytes + at];
}
template <Shape shape, int dwords>
void scratch_load(Wave& wave, const Instruction& in) {
  each_lane(wave, [&](int lane) {
    const void* from = scratch_at(wave, in, in.from[0], in.from[1], lane, bytes_of(shape, dwords));
    load_lane<shape, dwords>(wave, in.to.reg, lane, from);
  });
  begin(wave, in.to, dwords, false);
}
template <Shape shape, int dwords>
void scratch_store(Wave& wave, const Instruction& in) {
  each_lane(wave, [&](int lane) {
    store_lane<shape, dwords>(wave, in.from[1].reg, lane,
                              scratch_at(wave, in, in.from[0], in.from[2], lane, bytes_of(shape, dwords)));
  });
  begin(wave, in.to, 0, false);
}

// ---- LDS ----

template <Shape shape, int dwords>
void ds_read(Wave& wave, const Instruction& in) {
  constexpr uint32_t bytes = bytes_of(shape, dwords);
  each_lane(wave, [&](int lane) {
    const void* from = lds_at(wave, wave.v[in.from[0].reg][lane] + static_cast<uint64_t>(in.offset), bytes, lane);
    load_lane<shape, dwords>(wave, in.to.reg, lane, from);
  });
  begin(wave, in.to, dwords, true);
}
template <Shape shape, int dwords>
void ds_write(Wave& wave, const Instruction& in) {
  constexpr uint32_t bytes = bytes_of(shape, dwords);
  each_lane(wave, [&](int lane) {
    void* to = lds_at(wave, wave.v[in.from[0].reg][lane] + static_cast<uint64_t>(in.offset), bytes, lane);
    store_lane<shape, dwords>(wave, in.from[1].reg, lane, to);
  });
  begin(wave, in.to, 0, true);
}
// Two accesses of `dwords` each, at offsets counted in elements (times 64 for st64).
template <int dwords, int stride>
void ds_read2(Wave& wave, const Instruction& in) {
  constexpr uint32_t bytes = 4 * dwords;
  each_lane(wave, [&](int lane) {
    const uint64_t base = wave.v[in.from[0].reg][lane];  // before the destination overwrites it
    load_lane<Shape::whole, dwords>(
        wave, in.to.reg, lane, lds_at(wave, base + static_cast<uint64_t>(in.offset) * bytes * stride, bytes, lane));
    load_lane<Shape::whole, dwords>(
        wave, in.to.reg + dwords, lane,
        lds_at(wave, base + static_cast<uint64_t>(in.offset1) * bytes * stride, bytes, lane));
  });
  begin(wave, in.to, 2 * dwords, true);
}
template <int dwords, int stride>
void ds_write2(Wave& wave, const Instruction& in) {
  constexpr uint32_t bytes = 4 * dwords;
  each_lane(wave, [&](int lane) {
    const uint64_t base = wave.v[in.from[0].reg][lane];
    store_lane<Shape::whole, dwords>(
        wave, in.from[1].reg, lane,
        lds_at(wave, base + static_cast<uint64_t>(in.offset) * bytes * stride, bytes, lane));
    store_lane<Shape::whole, dwords>(
        wave, in.from[2].reg, lane,
        lds_at(wave, base + static_cast<uint64_t>(in.offset1) * bytes * stride, bytes, lane));
  });
  begin(wave, in.to, 0, true);
}
void ds_bpermute(Wave& wave, const Instruction& in) {
  uint32_t addresses[lanes], values[lanes];
  std::memcpy(addresses, wave.v[in.from[0].reg], sizeof(addresses));
  std::memcpy(values, wave.v[in.from[1].reg], sizeof(values));
  each_lane(wave, [&](int lane) {
    const uint32_t source = (addresses[lane] + static_cast<uint32_t>(in.offset)) / 4 % lanes;
    // An inactive source lane gives 0.
    wave.v[in.to.reg][lane] = wave.exec() >> source & 1 ? values[source] : 0;
  });
  begin(wave, in.to, 1, true);
}
void ds_permute(Wave& wave, const Instruction& in) {
  uint32_t result[lanes] = {};
  each_lane(wave, [&](int lane) {
    result[(wave.v[in.from[0].reg][lane] + static_cast<uint32_t>(in.offset)) / 4 % lanes] =
        wave.v[in.from[1].reg][lane];
  });
  each_lane(wave, [&](int lane) { wave.v[in.to.reg][lane] = result[lane]; });
  begin(wave, in.to, 1, true);
}
// offset bit 15: a permutation of each four lanes; else bit masks (and, or, xor) on the lane within 32.
void ds_swizzle(Wave& wave, const Instruction& in) {
  uint32_t values[lanes];
  std::memcpy(values, wave.v[in.from[0].reg], sizeof(values));
  const auto pattern = static_cast<uint32_t>(in.offset);
  each_lane(wave, [&](int lane) {
    const auto at = static_cast<uint32_t>(lane);
    const uint32_t source =
        pattern >> 15 ? (at & ~3u) | (pattern >> 2 * (at & 3) & 3)
                      : (at & 32) | ((((at & 31) & (pattern & 31)) | (pattern >> 5 & 31)) ^ (pattern >> 10 & 31));
    wave.v[in.to.reg][lane] = wave.exec() >> source & 1 ? values[source] : 0;
  });
  begin(wave, in.to, 1, true);
}

// ---- atomics: lanes one after the other, other blocks' accesses through the host's own atomics ----

template <class T, auto F, bool returns>
void ds_atomic(Wave& wave, const Instruction& in) {
  constexpr uint16_t dwords = sizeof(T) / 4;
  const Operand &address = in.from[0], &data = in.from[1];
  each_lane(wave, [&](int lane) {
    uint8_t* at = lds_at(wave, wave.v[address.reg][lane] + static_cast<uint64_t>(in.offset), sizeof(T), lane);
    T old, value;
    std::memcpy(&old, at, sizeof(T));
    store_lane<Shape::whole, dwords>(wave, data.reg, lane, &value);
    const T result = F(old, value);
    std::memcpy(at, &result, sizeof(T));
    if constexpr (returns) load_lane<Shape::whole, dwords>(wave, in.to.reg, lane, &old);
  });
  begin(wave, in.to, returns ? dwords : 0, true);
}
// With sc0 the old value is returned, and the destination is the first operand.
template <class T, auto F>
void global_atomic(Wave& wave, const Instruction& in) {
  constexpr uint16_t dwords = sizeof(T) / 4;
  each_lane(wave, [&](int lane) {
    const uint64_t address = global_address(wave, in, in.from[0], in.from[2], lane);
    check_memory(wave, address, sizeof(T), lane, "updates");
    if (address % sizeof(T) != 0) fault("lane %d: an atomic at an unaligned address", lane);
    auto* at = reinterpret_cast<T*>(address);
    T value;
    store_lane<Shape::whole, dwords>(wave, in.from[1].reg, lane, &value);
    T old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(at, &old, F(old, value), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    if (in.sc0) load_lane<Shape::whole, dwords>(wave, in.to.reg, lane, &old);
  });
  begin(wave, in.to, in.sc0 ? dwords : 0, false);
}

using Table = std::unordered_map<std::string_view, Handler>;
using u32 = uint32_t;
using i32 = int32_t;
using u64 = uint64_t;

#define EXPRESSION(parameters, result) [] parameters { return result; }
#define ATOMICS(handler, prefix, suffix32, suffix64, ...)                                 \
  t[prefix "add" suffix32] = handler<u32, EXPRESSION((u32 a, u32 b), a + b) __VA_ARGS__>; \
  t[prefix "sub" suffix32] = handler<u32, EXPRESSION((u32 a, u32 b), a - b) __VA_ARGS__>; \
  t[prefix "add" suffix64] = handler<u64, EXPRESSION((u64 a, u64 b), a + b) __VA_ARGS__>
#define MORE_ATOMICS(handler, prefix, unsigned_, signed_, bits, ...)                                \
  t[prefix "max" unsigned_] = handler<u32, EXPRESSION((u32 a, u32 b), std::max(a, b)) __VA_ARGS__>; \
  t[prefix "min" unsigned_] = handler<u32, EXPRESSION((u32 a, u32 b), std::min(a, b)) __VA_ARGS__>; \
  t[prefix "max" signed_] = handler<i32, EXPRESSION((i32 a, i32 b), std::max(a, b)) __VA_ARGS__>;   \
  t[prefix "min" signed_] = handler<i32, EXPRESSION((i32 a, i32 b), std::min(a, b)) __VA_ARGS__>;   \
  t[prefix "and" bits] = handler<u32, EXPRESSION((u32 a, u32 b), a& b) __VA_ARGS__>;                \
  t[prefix "or" bits] = handler<u32, EXPRESSION((u32 a, u32 b), a | b) __VA_ARGS__>;                \
  t[prefix "xor" bits] = handler<u32, EXPRESSION((u32 a, u32 b), a ^ b) __VA_ARGS__>

void add_atomics(Table& t) {
#define FLAG , false
  ATOMICS(ds_atomic, "ds_", "_u32", "_u64", FLAG);
  MORE_ATOMICS(ds_atomic, "ds_", "_u32", "_i32", "_b32", FLAG);
#undef FLAG
#define FLAG , true
  ATOMICS(ds_atomic, "ds_", "_rtn_u32", "_rtn_u64", FLAG);
  MORE_ATOMICS(ds_atomic, "ds_", "_rtn_u32", "_rtn_i32", "_rtn_b32", FLAG);
#undef FLAG
  ATOMICS(global_atomic, "global_atomic_", "", "_x2");
  t["global_atomic_umax"] = global_atomic<u32, EXPRESSION((u32 a, u32 b), std::max(a, b))>;
  t["global_atomic_umin"] = global_atomic<u32, EXPRESSION((u32 a, u32 b), std::min(a, b))>;
  t["global_atomic_smax"] = global_atomic<i32, EXPRESSION((i32 a, i32 b), std::max(a, b))>;
  t["global_atomic_smin"] = global_atomic<i32, EXPRESSION((i32 a, i32 b), std::min(a, b))>;
  t["global_atomic_and"] = global_atomic<u32, EXPRESSION((u32 a, u32 b), a & b)>;
  t["global_atomic_or"] = global_atomic<u32, EXPRESSION((u32 a, u32 b), a | b)>;
  t["global_atomic_xor"] = global_atomic<u32, EXPRESSION((u32 a, u32 b), a ^ b)>;
  t["global_atomic_swap"] = global_atomic<u32, EXPRESSION((u32, u32 b), b)>;
}

void add_global(Table& t) {
  t["global_load_ubyte"] = global_load<Shape::byte_zero, 1>;
  t["global_load_sbyte"] = global_load<Shape::byte_signed, 1>;
  t["global_load_ushort"] = global_load<Shape::half_zero, 1>;
  t["global_load_sshort"] = global_load<Shape::half_signed, 1>;
  t["global_load_short_d16"] = global_load<Shape::low_half, 1>;
  t["global_load_short_d16_hi"] = global_load<Shape::high_half, 1>;
  t["global_load_ubyte_d16"] = global_load<Shape::low_byte_zero, 1>;
  t["global_load_ubyte_d16_hi"] = global_load<Shape::high_byte_zero, 1>;
  t["global_load_dword"] = global_load<Shape::whole, 1>;
  t["global_load_dwordx2"] = global_load<Shape::whole, 2>;
  t["global_load_dwordx3"] = global_load<Shape::whole, 3>;
  t["global_load_dwordx4"] = global_load<Shape::whole, 4>;
  t["global_store_byte"] = global_store<Shape::byte_zero, 1>;
  t["global_store_byte_d16_hi"] = global_store<Shape::high_byte_zero, 1>;
  t["global_store_short"] = global_store<Shape::half_zero, 1>;
  t["global_store_short_d16_hi"] = global_store<Shape::high_half, 1>;
  t["global_store_dword"] = global_store<Shape::whole, 1>;
  t["global_store_dwordx2"] = global_store<Shape::whole, 2>;
  t["global_store_dwordx3"] = global_store<Shape::whole, 3>;
  t["global_store_dwordx4"] = global_store<Shape::whole, 4>;
}

void add_flat(Table& t) {
  t["flat_load_ubyte"] = flat_access<Shape::byte_zero, 1, false>;
  t["flat_load_sbyte"] = flat_access<Shape::byte_signed, 1, false>;
  t["flat_load_ushort"] = flat_access<Shape::half_zero, 1, false>;
  t["flat_load_sshort"] = flat_access<Shape::half_signed, 1, false>;
  t["flat_load_dword"] = flat_access<Shape::whole, 1, false>;
  t["flat_load_dwordx2"] = flat_access<Shape::whole, 2, false>;
  t["flat_load_dwordx3"] = flat_access<Shape::whole, 3, false>;
  t["flat_load_dwordx4"] = flat_access<Shape::whole, 4, false>;
  t["flat_store_byte"] = flat_access<Shape::byte_zero, 1, true>;
  t["flat_store_short"] = flat_access<Shape::half_zero, 1, true>;
  t["flat_store_dword"] = flat_access<Shape::whole, 1, true>;
  t["flat_store_dwordx2"] = flat_access<Shape::whole, 2, true>;
  t["flat_store_dwordx4"] = flat_access<Shape::whole, 4, true>;
}

void add_scratch(Table& t) {
  t["scratch_load_ubyte"] = scratch_load<Shape::byte_zero, 1>;
  t["scratch_load_ushort"] = scratch_load<Shape::half_zero, 1>;
  t["scratch_load_dword"] = scratch_load<Shape::whole, 1>;
  t["scratch_load_dwordx2"] = scratch_load<Shape::whole, 2>;
  t["scratch_load_dwordx3"] = scratch_load<Shape::whole, 3>;
  t["scratch_load_dwordx4"] = scratch_load<Shape::whole, 4>;
  t["scratch_store_byte"] = scratch_store<Shape::byte_zero, 1>;
  t["scratch_store_short"] = scratch_store<Shape::half_zero, 1>;
  t["scratch_store_dword"] = scratch_store<Shape::whole, 1>;
  t["scratch_store_dwordx2"] = scratch_store<Shape::whole, 2>;
  t["scratch_store_dwordx3"] = scratch_store<Shape::whole, 3>;
  t["scratch_store_dwordx4"] = scratch_store<Shape::whole, 4>;
}

void add_buffer(Table& t) {
  t["buffer_load_ubyte"] = buffer_access<Shape::byte_zero, 1, false>;
  t["buffer_load_sbyte"] = buffer_access<Shape::byte_signed, 1, false>;
  t["buffer_load_ushort"] = buffer_access<Shape::half_zero, 1, false>;
  t["buffer_load_sshort"] = buffer_access<Shape::half_signed, 1, false>;
  t["buffer_load_short_d16"] = buffer_access<Shape::low_half, 1, false>;
  t["buffer_load_short_d16_hi"] = buffer_access<Shape::high_half, 1, false>;
  t["buffer_load_dword"] = buffer_access<Shape::whole, 1, false>;
  t["buffer_load_dwordx2"] = buffer_access<Shape::whole, 2, false>;
  t["buffer_load_dwordx3"] = buffer_access<Shape::whole, 3, false>;
  t["buffer_load_dwordx4"] = buffer_access<Shape::whole, 4, false>;
  t["buffer_store_byte"] = buffer_access<Shape::byte_zero, 1, true>;
  t["buffer_store_short"] = buffer_access<Shape::half_zero, 1, true>;
  t["buffer_store_short_d16_hi"] = buffer_access<Shape::high_half, 1, true>;
  t["buffer_store_dword"] = buffer_access<Shape::whole, 1, true>;
  t["buffer_store_dwordx2"] = buffer_access<Shape::whole, 2, true>;
  t["buffer_store_dwordx3"] = buffer_access<Shape::whole, 3, true>;
  t["buffer_store_dwordx4"] = buffer_access<Shape::whole, 4, true>;
  // Cache controls: the emulator has no caches.
  t["buffer_wbl2"] = t["buffer_inv"] = [](Wave&, const Instruction&) {};
}

void add_lds(Table& t) {
  t["ds_read_u8"] = ds_read<Shape::byte_zero, 1>;
  t["ds_read_i8"] = ds_read<Shape::byte_signed, 1>;
  t["ds_read_u16"] = ds_read<Shape::half_zero, 1>;
  t["ds_read_i16"] = ds_read<Shape::half_signed, 1>;
  t["ds_read_u16_d16"] = ds_read<Shape::low_half, 1>;
  t["ds_read_u16_d16_hi"] = ds_read<Shape::high_half, 1>;
  t["ds_read_u8_d16"] = ds_read<Shape::low_byte_zero, 1>;
  t["ds_read_u8_d16_hi"] = ds_read<Shape::high_byte_zero, 1>;
  t["ds_read_b32"] = ds_read<Shape::whole, 1>;
  t["ds_read_b64"] = ds_read<Shape::whole, 2>;
  t["ds_read_b96"] = ds_read<Shape::whole, 3>;
  t["ds_read_b128"] = ds_read<Shape::whole, 4>;
  t["ds_write_b8"] = ds_write<Shape::byte_zero, 1>;
  t["ds_write_b8_d16_hi"] = ds_write<Shape::high_byte_zero, 1>;
  t["ds_write_b16"] = ds_write<Shape::half_zero, 1>;
  t["ds_write_b16_d16_hi"] = ds_write<Shape::high_half, 1>;
  t["ds_write_b32"] = ds_write<Shape::whole, 1>;
  t["ds_write_b64"] = ds_write<Shape::whole, 2>;
  t["ds_write_b96"] = ds_write<Shape::whole, 3>;
  t["ds_write_b128"] = ds_write<Shape::whole, 4>;
  t["ds_read2_b32"] = ds_read2<1, 1>;
  t["ds_read2_b64"] = ds_read2<2, 1>;
  t["ds_read2st64_b32"] = ds_read2<1, 64>;
  t["ds_read2st64_b64"] = ds_read2<2, 64>;
  t["ds_write2_b32"] = ds_write2<1, 1>;
  t["ds_write2_b64"] = ds_write2<2, 1>;
  t["ds_write2st64_b32"] = ds_write2<1, 64>;
  t["ds_write2st64_b64"] = ds_write2<2, 64>;
  t["ds_bpermute_b32"] = ds_bpermute;
  t["ds_permute_b32"] = ds_permute;
  t["ds_swizzle_b32"] = ds_swizzle;
}

}  // namespace

Handler find_memory(std::string_view mnemonic) {
  static const Table table = [] {
    Table t;
    t["s_waitcnt"] = waitcnt;
    t["s_load_dword"] = s_load<1>;
    t["s_load_dwordx2"] = s_load<2>;
    t["s_load_dwordx4"] = s_load<4>;
    t["s_load_dwordx8"] = s_load<8>;
    t["s_load_dwordx16"] = s_load<16>;
    t["s_buffer_load_dword"] = s_buffer_load<1>;
    t["s_buffer_load_dwordx2"] = s_buffer_load<2>;
    t["s_buffer_load_dwordx4"] = s_buffer_load<4>;
    t["s_buffer_load_dwordx8"] = s_buffer_load<8>;
    t["s_buffer_load_dwordx16"] = s_buffer_load<16>;
    add_global(t);
    add_flat(t);
    add_scratch(t);
    add_buffer(t);
    add_lds(t);
    add_atomics(t);
    return t;
  }();
  const auto found = table.find(mnemonic);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace octet::gfx942
