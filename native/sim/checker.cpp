// The compiler's thread-sanitizer instrumentation calls these before every memory access of a kernel; nothing of the
// TSan runtime is used. Each access is judged before it happens.
#include <cstring>

#include "memory.h"
#include "runner.h"

namespace octet::sim {

namespace {

// alignment: what the access needs of its address; 1 where the compiler was told that it may be unaligned.
inline void check(const void* pointer, size_t size, size_t alignment, bool write, uintptr_t site) {
  Lane* lane = current_lane;
  if (lane == nullptr) return;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (address >= lane->stack_low && address + size <= lane->stack_high) return;
  Runner& runner = *current_runner;
  const Launch& launch = *runner.launch;
  if (!launch.checks) return;
  const char* what = write ? "write" : "read";
  char text[160];
  if (address % alignment != 0) {
    std::snprintf(text, sizeof(text), "%s of %zu bytes at %p is misaligned", what, size, pointer);
    runner.stop(*lane, site, text);
  }
  const uintptr_t lds_offset = address - reinterpret_cast<uintptr_t>(runner.lds);
  if (lds_offset < launch.lds_bytes) {
    if (lds_offset + size <= launch.lds_bytes) return;
    std::snprintf(text, sizeof(text), "%s of %zu bytes at offset %zu runs past the %zu bytes of LDS", what, size,
                  static_cast<size_t>(lds_offset), static_cast<size_t>(launch.lds_bytes));
    runner.stop(*lane, site, text);
  }
  if (launch.memory->contains(address, size)) {
    if (write) {
      launch.memory->mark_written(address, size);
    } else if (!launch.memory->written(address, size)) {
      std::snprintf(text, sizeof(text), "read of %zu bytes at %p that nobody wrote", size, pointer);
      runner.stop(*lane, site, text);
    }
    return;
  }
  const auto params = reinterpret_cast<uintptr_t>(launch.params);
  if (!write && address >= params && address + size <= params + launch.kernel->params_size) return;
  std::snprintf(text, sizeof(text), "%s of %zu bytes at %p is outside of every buffer", what, size, pointer);
  runner.stop(*lane, site, text);
}

}  // namespace

}  // namespace octet::sim

#define SITE reinterpret_cast<uintptr_t>(__builtin_return_address(0))
#define ACCESS(size)                                                                             \
  void __tsan_read##size(void* p) { octet::sim::check(p, size, size, false, SITE); }             \
  void __tsan_write##size(void* p) { octet::sim::check(p, size, size, true, SITE); }             \
  void __tsan_unaligned_read##size(void* p) { octet::sim::check(p, size, 1, false, SITE); }      \
  void __tsan_unaligned_write##size(void* p) { octet::sim::check(p, size, 1, true, SITE); }

extern "C" {

void __tsan_init(void) {}
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* p, size_t size) { octet::sim::check(p, size, 1, false, SITE); }
void __tsan_write_range(void* p, size_t size) { octet::sim::check(p, size, 1, true, SITE); }

void* __tsan_memcpy(void* to, const void* from, size_t size) {
  octet::sim::check(from, size, 1, false, SITE);
  octet::sim::check(to, size, 1, true, SITE);
  return std::memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, size_t size) {
  octet::sim::check(from, size, 1, false, SITE);
  octet::sim::check(to, size, 1, true, SITE);
  return std::memmove(to, from, size);
}
void* __tsan_memset(void* to, int byte, size_t size) {
  octet::sim::check(to, size, 1, true, SITE);
  return std::memset(to, byte, size);
}
uint32_t __tsan_atomic32_fetch_add(uint32_t* p, uint32_t value, int) {
  octet::sim::check(p, 4, 4, true, SITE);
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
uint64_t __tsan_atomic64_fetch_add(uint64_t* p, uint64_t value, int) {
  octet::sim::check(p, 8, 8, true, SITE);
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}

}  // extern "C"
