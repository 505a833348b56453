// The simulated device's memory: one reserved range of addresses in which buffers lie between unmapped guard pages, with
// the checker's shadow at fixed distances. Pages cost memory only once they are touched, so a buffer may be larger than
// the machine's RAM as long as it is sparse.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace octet::sim {

// One shadow word per 4 bytes: who wrote it last in this launch and who read it (shadow.h has the fields).
using ShadowWord = uint64_t;

class Memory {
 public:
  static constexpr int64_t capacity = int64_t{64} << 30;

  Memory();
  ~Memory();
  Memory(const Memory&) = delete;

  void* allocate(int64_t size);  // throws OCTET_OUT_OF_MEMORY
  void release(void* pointer) noexcept;

  // The whole range lies in one live buffer.
  bool contains(uintptr_t address, size_t size) const {
    const uintptr_t offset = address - base_;
    if (offset >= static_cast<uintptr_t>(capacity)) return false;
    const uintptr_t end = page_ends_[offset / page];
    return end != 0 && offset + size <= end;
  }
  bool in_range(uintptr_t address) const { return address - base_ < static_cast<uintptr_t>(capacity); }
  // "64 bytes past the end of a buffer of 256 bytes", for an address that is in no live buffer.
  std::string describe(uintptr_t address) const;

  // ---- which bytes have been written since their buffer was created ----
  bool written(uintptr_t address, size_t size) const;
  void mark_written(uintptr_t address, size_t size);
  void copy_written(uintptr_t destination, uintptr_t source, size_t size);

  ShadowWord* writers(uintptr_t address) { return writers_ + (address - base_) / 4; }
  ShadowWord* readers(uintptr_t address) { return readers_ + (address - base_) / 4; }
  // Remembers that shadow words of this address are in use, for clear_shadow.
  void touch_shadow(uintptr_t address) {
    uint8_t& chunk = touched_[(address - base_) / chunk_bytes];
    if (chunk == 0) chunk = 1;
  }
  // Forgets all accesses: what was before a launch is ordered before it.
  void clear_shadow();

 private:
  static constexpr uintptr_t page = 4096;
  static constexpr uintptr_t chunk_bytes = 1 << 20;

  uintptr_t base_ = 0;
  uint64_t* page_ends_ = nullptr;  // for each page of a live buffer the buffer's end, as an offset; 0: no buffer
  uint64_t* written_ = nullptr;    // one bit for each byte
  ShadowWord* writers_ = nullptr;
  ShadowWord* readers_ = nullptr;
  uint8_t* touched_ = nullptr;
  std::map<uintptr_t, int64_t> buffers_;  // offset -> size
  std::map<uintptr_t, uintptr_t> holes_;  // offset -> length of free address ranges
  mutable std::mutex mutex_;
};

}  // namespace octet::sim
