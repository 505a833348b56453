// The simulated device's memory: one reserved range of addresses in which buffers lie between unmapped guard pages,
// with one bit for each byte that tells whether it was ever written. Pages cost memory only once they are touched, so a
// buffer may be larger than the machine's RAM as long as it is sparse.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace octet::sim {

class Memory {
 public:
  static constexpr int64_t capacity = int64_t{64} << 30;

  Memory();
  ~Memory();
  Memory(const Memory&) = delete;

  void* allocate(int64_t size, bool for_signals = false);  // throws OCTET_OUT_OF_MEMORY
  int64_t release(void* pointer) noexcept;  // its size

  // The whole range lies in one live buffer.
  bool contains(uintptr_t address, size_t size) const {
    const uintptr_t offset = address - base_;
    if (offset >= static_cast<uintptr_t>(capacity)) return false;
    const uintptr_t end = page_ends_[offset / page];
    return end != 0 && offset + size <= end;
  }
  bool in_range(uintptr_t address) const { return address - base_ < static_cast<uintptr_t>(capacity); }
  // Lies in a buffer that was allocated for signals.
  bool for_signals(uintptr_t address) const;
  // "byte 64 of a buffer of 512 bytes", for an address in a live buffer.
  std::string place_of(uintptr_t address) const;
  // "64 bytes past the end of a buffer of 256 bytes", for an address that is in no live buffer.
  std::string describe(uintptr_t address) const;

  // ---- which bytes have been written since their buffer was created ----
  bool written(uintptr_t address, size_t size) const;
  void mark_written(uintptr_t address, size_t size);
  uint64_t written_line(uintptr_t address) const { return written_[(address - base_) / 64]; }
  // Those of the 64 bytes at a multiple of 64 whose bits are set. Several devices may write to one line.
  void mark_line_written(uintptr_t address, uint64_t bytes) {
    __atomic_fetch_or(&written_[(address - base_) / 64], bytes, __ATOMIC_RELAXED);
  }
  // As memmove moves the bytes.
  void copy_written(uintptr_t destination, uintptr_t source, size_t size);

 private:
  static constexpr uintptr_t page = 4096;

  uintptr_t base_ = 0;
  uint64_t* page_ends_ = nullptr;         // for each page of a live buffer the buffer's end, as an offset; 0: no buffer
  uint64_t* written_ = nullptr;           // one bit for each byte
  std::map<uintptr_t, int64_t> buffers_;  // offset -> size
  std::map<uintptr_t, uintptr_t> holes_;  // offset -> length of free address ranges
  std::set<uintptr_t> signals_;           // offsets of the buffers for signals
  mutable std::mutex mutex_;
};

}  // namespace octet::sim
