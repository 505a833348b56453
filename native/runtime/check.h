// The one error path: require() throws with the values in the text, guarded() turns every exception of an export into a
// status and the thread's last error. Nothing prints, aborts or exits.
#pragma once

#include <octet.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <utility>

namespace octet {

class Error : public std::exception {
 public:
  Error(octet_status status, std::string text) : status(status), text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }
  const octet_status status;

 private:
  std::string text_;
};

[[noreturn]] __attribute__((format(printf, 2, 3))) inline void fail(octet_status status, const char* format, ...) {
  char text[1024];
  va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof(text), format, values);
  va_end(values);
  throw Error(status, text);
}

// require(k > 0, "gemm: k = %lld must be positive", k)
#define require(condition, ...) \
  do {                          \
    if (!(condition)) ::octet::fail(OCTET_INVALID_ARGUMENT, __VA_ARGS__); \
  } while (false)

void set_last_error(const char* text) noexcept;

template <class Body>
octet_status guarded(Body&& body) noexcept {
  try {
    body();
    return OCTET_OK;
  } catch (const Error& error) {
    set_last_error(error.what());
    return error.status;
  } catch (const std::bad_alloc&) {
    set_last_error("out of host memory");
    return OCTET_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    set_last_error(error.what());
    return OCTET_INTERNAL;
  } catch (...) {
    set_last_error("unknown exception");
    return OCTET_INTERNAL;
  }
}

// The args of an op after the checks every op shares.
template <class Args>
const Args& checked(const char* op, const Args* args) {
  require(args != nullptr, "%s: args is null", op);
  require(args->struct_size == sizeof(Args),
          "%s: struct_size = %zu, this library's is %zu: caller and library are of different versions", op,
          args->struct_size, sizeof(Args));
  return *args;
}

// A device pointer of an op: not null, aligned to 16 bytes.
inline void require_pointer(const char* op, const char* name, const void* pointer) {
  require(pointer != nullptr, "%s: %s is null", op, name);
  require(reinterpret_cast<uintptr_t>(pointer) % 16 == 0, "%s: %s = %p must be aligned to 16 bytes", op, name, pointer);
}
inline void require_pointer_or_null(const char* op, const char* name, const void* pointer) {
  if (pointer != nullptr) require_pointer(op, name, pointer);
}
// 0 <= value <= limit
inline void require_range(const char* op, const char* name, int64_t value, int64_t low, int64_t high) {
  require(value >= low && value <= high, "%s: %s = %lld must be %lld..%lld", op, name, static_cast<long long>(value),
          static_cast<long long>(low), static_cast<long long>(high));
}
// Pairs of a token and one of its experts, which are numbered in 32 bits.
inline void require_pairs(const char* op, int64_t tokens, int32_t top_k) {
  require_range(op, "top_k", top_k, 1, 16);
  require_range(op, "tokens", tokens, 0, (int64_t{1} << 30) / top_k);
}
// The leaves of a sum over experts: of which one each pair is.
inline void require_expert_leaves(const char* op, const int32_t* pair_experts, int32_t first_expert,
                                  int32_t leaf_experts, int32_t leaves) {
  require(leaves == 0 || leaves == 1 || leaves == 2 || leaves == 4 || leaves == 8,
          "%s: leaves = %d must be 0, 1, 2, 4 or 8", op, leaves);
  require_pointer_or_null(op, "pair_experts", pair_experts);
  if (leaves <= 1) return;
  require(pair_experts != nullptr, "%s: leaves = %d need pair_experts, which is null", op, leaves);
  require_range(op, "first_expert", first_expert, 0, 511);
  require_range(op, "leaf_experts", leaf_experts, 1, 512);
}
// Rows of up to 2^31 elements this far apart, in a matrix of up to 2^26 rows, stay within 64-bit byte offsets.
constexpr int64_t max_stride = int64_t{1} << 34;
inline void require_workspace(const char* op, const void* workspace, size_t size, size_t needed) {
  if (needed == 0) return;
  require_pointer(op, "workspace", workspace);
  require(size >= needed, "%s: workspace_size = %zu, needs %zu", op, size, needed);
}

}  // namespace octet
