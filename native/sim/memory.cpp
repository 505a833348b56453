#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "../runtime/check.h"

namespace octet::sim {

namespace {

void* reserve(size_t size, int protection) {
  void* p = mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    fail(OCTET_OUT_OF_MEMORY, "sim: cannot reserve %zu bytes of addresses (a limit on virtual memory?)", size);
  madvise(p, size, MADV_DONTDUMP);
  return p;
}

constexpr size_t size_of(int64_t capacity) { return static_cast<size_t>(capacity); }
constexpr int read_write = PROT_READ | PROT_WRITE;

// Calls body(word index, mask) for the 64-bit words that cover the bits [first, first + count).
template <class Body>
void for_bits(uint64_t first, uint64_t count, Body&& body) {
  while (count > 0) {
    const uint64_t shift = first % 64, taken = std::min<uint64_t>(64 - shift, count);
    const uint64_t mask = (taken == 64 ? ~uint64_t{0} : (uint64_t{1} << taken) - 1) << shift;
    if (!body(first / 64, mask)) return;
    first += taken;
    count -= taken;
  }
}

}  // namespace

Memory::Memory() {
  const size_t size = size_of(capacity);
  base_ = reinterpret_cast<uintptr_t>(reserve(size, PROT_NONE));
  page_ends_ = static_cast<uint64_t*>(reserve(size / page * 8, read_write));
  written_ = static_cast<uint64_t*>(reserve(size / 8, read_write));
  holes_[page] = size - page;
}

Memory::~Memory() {
  const size_t size = size_of(capacity);
  munmap(reinterpret_cast<void*>(base_), size);
  munmap(page_ends_, size / page * 8);
  munmap(written_, size / 8);
}

void* Memory::allocate(int64_t size, bool for_signals) {
  if (size > capacity)
    fail(OCTET_OUT_OF_MEMORY, "sim: %lld bytes asked for, the device has %lld", static_cast<long long>(size),
         static_cast<long long>(capacity));
  const std::lock_guard lock(mutex_);
  // An empty buffer still gets an address of its own; a free page behind every buffer is its guard.
  const uintptr_t span = std::max<uintptr_t>((static_cast<uintptr_t>(size) + page - 1) / page * page, page);
  const auto hole = std::find_if(holes_.begin(), holes_.end(), [&](const auto& h) { return h.second >= span + page; });
  if (hole == holes_.end())
    fail(OCTET_OUT_OF_MEMORY, "sim: no free range of %lld bytes among %lld", static_cast<long long>(size),
         static_cast<long long>(capacity));
  const uintptr_t offset = hole->first;
  if (mprotect(reinterpret_cast<void*>(base_ + offset), span, read_write) != 0)
    fail(OCTET_OUT_OF_MEMORY, "sim: the system refused %lld bytes", static_cast<long long>(size));
  const uintptr_t rest = hole->second - span - page;
  holes_.erase(hole);
  if (rest > 0) holes_[offset + span + page] = rest;
  buffers_[offset] = size;
  if (for_signals) signals_.insert(offset);
  const uintptr_t end = offset + static_cast<uintptr_t>(size);
  std::fill(page_ends_ + offset / page, page_ends_ + (offset + span) / page, size == 0 ? 0 : end);
  return reinterpret_cast<void*>(base_ + offset);
}

int64_t Memory::release(void* pointer) noexcept {
  const std::lock_guard lock(mutex_);
  uintptr_t offset = reinterpret_cast<uintptr_t>(pointer) - base_;
  const auto found = buffers_.find(offset);
  if (found == buffers_.end()) return 0;
  const int64_t size = found->second;
  uintptr_t span = std::max<uintptr_t>((static_cast<uintptr_t>(size) + page - 1) / page * page, page);
  buffers_.erase(found);
  signals_.erase(offset);
  std::fill(page_ends_ + offset / page, page_ends_ + (offset + span) / page, 0);
  // Gives the pages back to the system, and with the bitmap's the memory of what was written.
  for_bits(offset, span, [&](uint64_t word, uint64_t) { return written_[word] = 0, true; });
  mmap(pointer, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  span += page;
  const auto after = holes_.find(offset + span);
  if (after != holes_.end()) {
    span += after->second;
    holes_.erase(after);
  }
  auto before = holes_.lower_bound(offset);
  if (before != holes_.begin() && (--before)->first + before->second == offset) {
    before->second += span;
  } else {
    holes_[offset] = span;
  }
  return size;
}

bool Memory::for_signals(uintptr_t address) const {
  const std::lock_guard lock(mutex_);
  const auto next = buffers_.upper_bound(address - base_);
  return next != buffers_.begin() && signals_.contains(std::prev(next)->first) && contains(address, 1);
}

std::string Memory::place_of(uintptr_t address) const {
  const std::lock_guard lock(mutex_);
  const auto next = buffers_.upper_bound(address - base_);
  if (next == buffers_.begin()) return "no buffer";
  const auto& [start, size] = *std::prev(next);
  return "byte " + std::to_string(address - base_ - start) + " of a buffer of " + std::to_string(size) + " bytes";
}

std::string Memory::describe(uintptr_t address) const {
  const std::lock_guard lock(mutex_);
  char text[160];
  const uintptr_t offset = address - base_;
  auto next = buffers_.upper_bound(offset);
  const bool has_next = next != buffers_.end();
  const uintptr_t gap_next = has_next ? next->first - offset : UINTPTR_MAX;
  const int64_t size_next = has_next ? next->second : 0;
  if (next != buffers_.begin()) {
    const auto& [start, size] = *--next;
    const uintptr_t end = start + static_cast<uintptr_t>(size);
    if (offset < end) {
      std::snprintf(text, sizeof(text), "%zu bytes before the end of a buffer of %lld bytes", end - offset,
                    static_cast<long long>(size));
      return text;
    }
    if (offset - end <= gap_next) {
      std::snprintf(text, sizeof(text), "%zu bytes past the end of a buffer of %lld bytes", offset - end,
                    static_cast<long long>(size));
      return text;
    }
  }
  if (!has_next) return "no buffer is live";
  std::snprintf(text, sizeof(text), "%zu bytes before a buffer of %lld bytes", gap_next,
                static_cast<long long>(size_next));
  return text;
}

bool Memory::written(uintptr_t address, size_t size) const {
  bool all = true;
  for_bits(address - base_, size, [&](uint64_t word, uint64_t mask) { return all = (written_[word] & mask) == mask; });
  return all;
}

void Memory::mark_written(uintptr_t address, size_t size) {
  for_bits(address - base_, size, [&](uint64_t word, uint64_t mask) { return written_[word] |= mask, true; });
}

void Memory::copy_written(uintptr_t destination, uintptr_t source, size_t size) {
  if (size == 0) return;
  const uintptr_t to = destination - base_, distance = source - destination;
  // The 64 bits that move to a word: those `distance` further on. No buffer begins at offset 0 or ends at the last
  // page, so there are words around.
  const auto moved = [&](uint64_t word) {
    const uint64_t first = word * 64 + distance, shift = first % 64;
    const uint64_t low = written_[first / 64] >> shift;
    return shift == 0 ? low : low | written_[first / 64 + 1] << (64 - shift);
  };
  const uint64_t first = to / 64, last = (to + size - 1) / 64;
  const auto copy = [&](uint64_t word) {
    uint64_t mask = ~uint64_t{0};
    if (word == first) mask &= ~uint64_t{0} << to % 64;
    if (word == last) mask &= ~uint64_t{0} >> (63 - (to + size - 1) % 64);
    written_[word] = (written_[word] & ~mask) | (moved(word) & mask);
  };
  if (source >= destination)
    for (uint64_t word = first; word <= last; word++) copy(word);
  else
    for (uint64_t word = last + 1; word-- > first;) copy(word);
}

}  // namespace octet::sim
