// The compiler's thread-sanitizer instrumentation calls these before every memory access of a kernel, and its alignment
// sanitizer's where an address does not suit the type; nothing of their runtimes is used. Where an access goes is
// judged before it happens; what it does to others, and what it costs, when the wave's lanes have come together
// (trace.cpp).
#include <link.h>

#include <cstring>

#include "memory.h"
#include "runner.h"

namespace octet::sim {

namespace {

// Parts of this library that hold constants: kernels may read their tables.
class Constants {
 public:
  Constants() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* self) {
          const auto here = reinterpret_cast<uintptr_t>(__ehdr_start);
          bool mine = false;
          for (int i = 0; i < info->dlpi_phnum; i++) {
            const auto& part = info->dlpi_phdr[i];
            mine |= part.p_type == PT_LOAD && info->dlpi_addr + part.p_vaddr <= here &&
                    here < info->dlpi_addr + part.p_vaddr + part.p_memsz;
          }
          for (int i = 0; mine && i < info->dlpi_phnum; i++) {
            const auto& part = info->dlpi_phdr[i];
            if (part.p_type == PT_GNU_RELRO || (part.p_type == PT_LOAD && (part.p_flags & PF_W) == 0))
              static_cast<Constants*>(self)->add(info->dlpi_addr + part.p_vaddr, part.p_memsz);
          }
          return mine ? 1 : 0;
        },
        this);
  }
  bool contains(uintptr_t address, size_t size) const {
    for (int i = 0; i < count_; i++)
      if (address >= starts_[i] && address + size <= ends_[i]) return true;
    return false;
  }

 private:
  void add(uintptr_t start, size_t size) {
    if (count_ == max_parts) return;
    starts_[count_] = start;
    ends_[count_++] = start + size;
  }
  static constexpr int max_parts = 8;
  int count_ = 0;
  uintptr_t starts_[max_parts], ends_[max_parts];
};
const Constants constants;

[[noreturn]] __attribute__((noinline, cold)) void misplaced(Lane& lane, uintptr_t site, const char* problem, bool write,
                                                            uintptr_t address, size_t size) {
  char text[320];
  std::snprintf(text, sizeof(text), "%s of %zu bytes at %p %s", write ? "write" : "read", size,
                reinterpret_cast<void*>(address), problem);
  current_runner->stop(lane, site, text);
}

// Neither LDS nor global memory of this launch: its parameters and constants may be read.
__attribute__((noinline, cold)) void check_elsewhere(Lane& lane, uintptr_t address, size_t size, bool write,
                                                     uintptr_t site) {
  Runner& runner = *current_runner;
  const Launch& launch = *runner.launch;
  const auto params = reinterpret_cast<uintptr_t>(launch.params);
  if (!write && address >= params && address + size <= params + launch.kernel->params_size) return;
  if (!write && constants.contains(address, size)) return;
  const uintptr_t lds_offset = address - reinterpret_cast<uintptr_t>(runner.lds);
  char problem[200];
  if (lds_offset < launch.lds_bytes || lds_offset - launch.lds_bytes < Runner::lds_guard)
    std::snprintf(problem, sizeof(problem), "runs past the %zu bytes of LDS: it begins at offset %zu", launch.lds_bytes,
                  static_cast<size_t>(lds_offset));
  else
    std::snprintf(problem, sizeof(problem), "is outside of every buffer: %s",
                  launch.memory->in_range(address) ? launch.memory->describe(address).c_str() : "no device memory");
  misplaced(lane, site, problem, write, address, size);
}

inline void check(const void* pointer, size_t size, Access kind, uintptr_t site) {
  Lane* lane = current_lane;
  if (lane == nullptr) return;
  auto address = reinterpret_cast<uintptr_t>(pointer);
  if (address >= lane->stack_low && address + size <= lane->stack_high) return;
  Runner& runner = *current_runner;
  const Launch& launch = *runner.launch;
  if (!launch.checks || size == 0) return;
  const bool write = !reads(kind);
  const uintptr_t lds_offset = address - reinterpret_cast<uintptr_t>(runner.lds);
  const bool in_lds = lds_offset < launch.lds_bytes && lds_offset + size <= launch.lds_bytes;
  if (in_lds)
    address = lds_offset;
  else if (!launch.memory->contains(address, size) &&
           (launch.peer == nullptr || launch.peer->owner(address, size) == nullptr))
    return check_elsewhere(*lane, address, size, write, site);
  LogEntry* entry = lane->log_end;
  *entry = {address, make_key(site, in_lds, kind), static_cast<uint32_t>(size)};
  lane->log_end = entry + 1;
  if (entry + 1 == lane->log_limit) runner.log_full(*lane);
}

}  // namespace

// What -fsanitize=alignment hands to its callback, as clang lays it out.
struct TypeMismatch {
  struct {
    const char* file;
    uint32_t line, column;
  } place;
  const struct {
    uint16_t kind, info;
    char name[];
  }* type;
  uint8_t log_alignment;
  uint8_t access;  // 0 load, 1 store, others bind references or name members
};

}  // namespace octet::sim

using octet::sim::Access;
using octet::sim::check;

#define SITE reinterpret_cast<uintptr_t>(__builtin_return_address(0))
#define ACCESS(size)                                                                \
  void __tsan_read##size(void* p) { check(p, size, Access::read, SITE); }           \
  void __tsan_write##size(void* p) { check(p, size, Access::write, SITE); }         \
  void __tsan_unaligned_read##size(void* p) { check(p, size, Access::read, SITE); } \
  void __tsan_unaligned_write##size(void* p) { check(p, size, Access::write, SITE); }

// Atomics of every order are relaxed here: they race with nothing atomic and order nothing.
#define ATOMIC_UPDATE(bits, name)                                                               \
  uint##bits##_t __tsan_atomic##bits##_fetch_##name(uint##bits##_t* p, uint##bits##_t v, int) { \
    check(p, bits / 8, Access::atomic, SITE);                                                   \
    return __atomic_fetch_##name(p, v, __ATOMIC_RELAXED);                                       \
  }
#define ATOMIC(bits)                                                                                               \
  uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t* p, int) {                                        \
    check(p, bits / 8, Access::atomic_load, SITE);                                                                 \
    return __atomic_load_n(p, __ATOMIC_RELAXED);                                                                   \
  }                                                                                                                \
  void __tsan_atomic##bits##_store(uint##bits##_t* p, uint##bits##_t v, int) {                                     \
    check(p, bits / 8, Access::atomic_store, SITE);                                                                \
    __atomic_store_n(p, v, __ATOMIC_RELAXED);                                                                      \
  }                                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_exchange(uint##bits##_t* p, uint##bits##_t v, int) {                        \
    check(p, bits / 8, Access::atomic, SITE);                                                                      \
    return __atomic_exchange_n(p, v, __ATOMIC_RELAXED);                                                            \
  }                                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(uint##bits##_t* p, uint##bits##_t* expected, uint##bits##_t v, \
                                                    int, int) {                                                    \
    check(p, bits / 8, Access::atomic, SITE);                                                                      \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);                 \
  }                                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(uint##bits##_t* p, uint##bits##_t expected,            \
                                                            uint##bits##_t v, int, int) {                          \
    check(p, bits / 8, Access::atomic, SITE);                                                                      \
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);                       \
    return expected;                                                                                               \
  }                                                                                                                \
  ATOMIC_UPDATE(bits, add)                                                                                         \
  ATOMIC_UPDATE(bits, sub)                                                                                         \
  ATOMIC_UPDATE(bits, and)                                                                                         \
  ATOMIC_UPDATE(bits, or)                                                                                          \
  ATOMIC_UPDATE(bits, xor)

extern "C" {

// The thread sanitizer does not say how an access is aligned by its type; the alignment sanitizer checks just that.
void __ubsan_handle_type_mismatch_v1(octet::sim::TypeMismatch* mismatch, uintptr_t address) {
  octet::sim::Lane* lane = octet::sim::current_lane;
  if (lane == nullptr || !octet::sim::current_runner->launch->checks) return;
  char text[320];
  std::snprintf(text, sizeof(text), "%s of %.160s at %p is misaligned: the type asks for %d bytes",
                mismatch->access == 0   ? "read"
                : mismatch->access == 1 ? "write"
                                        : "use",
                mismatch->type->name, reinterpret_cast<void*>(address), 1 << mismatch->log_alignment);
  octet::sim::current_runner->stop(*lane, SITE, text);
}

void __tsan_init(void) {}
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
ATOMIC(32)
ATOMIC(64)
// Fences and barriers of the device vocabulary are calls of the simulator; a fence alone orders nothing here.
void __tsan_atomic_thread_fence(int) {}
void __tsan_read_range(void* p, size_t size) { check(p, size, Access::read, SITE); }
void __tsan_write_range(void* p, size_t size) { check(p, size, Access::write, SITE); }

void* __tsan_memcpy(void* to, const void* from, size_t size) {
  check(from, size, Access::read, SITE);
  check(to, size, Access::write, SITE);
  return std::memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, size_t size) {
  check(from, size, Access::read, SITE);
  check(to, size, Access::write, SITE);
  return std::memmove(to, from, size);
}
void* __tsan_memset(void* to, int byte, size_t size) {
  check(to, size, Access::write, SITE);
  return std::memset(to, byte, size);
}

}  // extern "C"
