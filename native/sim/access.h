// One memory access of one lane, as the lane logs it (checker.cpp) and as the wave's log is read back (trace.cpp).
#pragma once

#include <cstdint>

namespace octet::sim {

// atomic: read and written in one step; the others are atomic loads and stores.
enum class Access : uint8_t { read, write, atomic, atomic_load, atomic_store };

constexpr bool reads(Access kind) {
  return kind == Access::read || kind == Access::atomic || kind == Access::atomic_load;
}
constexpr bool is_atomic(Access kind) { return kind >= Access::atomic; }

// The first byte of this library (ELF's own header): instructions are named by their distance from it.
extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));
constexpr int site_bits = 25;
inline uint32_t site_offset(uintptr_t site) {
  return static_cast<uint32_t>(site - reinterpret_cast<uintptr_t>(__ehdr_start));
}
// 0, no place, of 0.
inline uintptr_t site_address(uint32_t offset) {
  return offset == 0 ? 0 : reinterpret_cast<uintptr_t>(__ehdr_start) + offset;
}

// key: instruction, space and kind in one number. Lanes with equal keys and sizes execute one instruction of the wave,
// and keys of one lane's straight-line code ascend.
struct LogEntry {
  uintptr_t address;  // global: the address; LDS: the offset
  uint32_t key;
  uint32_t size;
};
constexpr uint32_t no_key = UINT32_MAX;
inline uint32_t make_key(uintptr_t site, bool lds, Access kind) {
  return site_offset(site) << 4 | static_cast<uint32_t>(lds) << 3 | static_cast<uint32_t>(kind);
}
inline uint32_t key_site(uint32_t key) { return key >> 4; }
inline bool key_lds(uint32_t key) { return (key & 8) != 0; }
inline Access key_kind(uint32_t key) { return static_cast<Access>(key & 7); }

// The same instruction of up to 64 lanes of a wave.
struct WaveAccess {
  uint32_t key;
  uint32_t size;  // bytes of each lane
  int count;
  uint8_t lanes[64];
  uintptr_t addresses[64];
};

}  // namespace octet::sim
