// Kernels for gfx942_test.cpp, compiled for gfx942 alone: machine.h's functions over arrays, what lanes exchange, the matrix
// instructions, and kernels that do something wrong on purpose.
#include "machine.h"

#define KERNEL extern "C" __attribute__((global)) void
#define LDS __attribute__((shared, aligned(16)))
using f32x4 = float __attribute__((ext_vector_type(4)));
using f32x16 = float __attribute__((ext_vector_type(16)));
using i16x4 = short __attribute__((ext_vector_type(4)));

__attribute__((device)) inline unsigned thread() { return __builtin_amdgcn_workitem_id_x(); }
__attribute__((device)) inline unsigned index() {
  return __builtin_amdgcn_workgroup_id_x() * __builtin_amdgcn_workgroup_size_x() + thread();
}
__attribute__((device)) inline void sync() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

#define KERNEL_OF(name, expression)                                                                     \
  KERNEL name(const uint64_t* a, const uint64_t* b, const uint64_t* c, uint64_t* result, int count) {   \
    const unsigned i = index();                                                                         \
    if (i < static_cast<unsigned>(count)) result[i] = machine::name(a[i], b[i], c[i]);                  \
  }
INTEGER_FUNCTIONS(KERNEL_OF)
FLOAT_FUNCTIONS(KERNEL_OF)
DOUBLE_FUNCTIONS(KERNEL_OF)

// The same with the operands in SGPRs.
#define UNIFORM_KERNEL_OF(name, expression)                                                             \
  KERNEL uniform_##name(const uint64_t* a, const uint64_t* b, const uint64_t* c, uint64_t* result, int) { \
    const unsigned i = __builtin_amdgcn_workgroup_id_x();                                               \
    result[i] = machine::name(a[i], b[i], c[i]);                                                        \
  }
INTEGER_FUNCTIONS(UNIFORM_KERNEL_OF)

// ---- launches ----

// Where each thread of a grid of blocks with three axes finds itself.
KERNEL places(uint32_t* result) {
  const uint32_t x = __builtin_amdgcn_workitem_id_x(), y = __builtin_amdgcn_workitem_id_y(), z = __builtin_amdgcn_workitem_id_z();
  const uint32_t block = __builtin_amdgcn_workgroup_id_x() + 2 * (__builtin_amdgcn_workgroup_id_y() + 3 * __builtin_amdgcn_workgroup_id_z());
  const uint32_t width = __builtin_amdgcn_workgroup_size_x(), height = __builtin_amdgcn_workgroup_size_y();
  result[x + width * (y + height * (z + __builtin_amdgcn_workgroup_size_z() * block))] =
      x | y << 8 | z << 16 | (__builtin_amdgcn_grid_size_x() / width) << 24;
}
// Arguments of every width.
struct Mixed {
  uint8_t byte;
  uint64_t* result;
  int16_t half;
  double real;
};
KERNEL arguments(Mixed mixed, uint8_t last) {
  if (thread() == 0) mixed.result[0] = mixed.byte + static_cast<uint64_t>(mixed.half) + static_cast<uint64_t>(mixed.real) + last;
}

// ---- lanes ----

extern "C" LDS uint32_t lds[];
// Each wave writes its part of LDS and reads another wave's.
KERNEL exchange(const uint32_t* in, uint32_t* out) {
  const unsigned t = thread(), size = __builtin_amdgcn_workgroup_size_x();
  for (int round = 0; round < 3; round++) {
    lds[t] = in[t] + static_cast<uint32_t>(round);
    sync();
    const uint32_t x = lds[size - 1 - t];
    sync();
    out[static_cast<unsigned>(round) * size + t] = x;
  }
}
KERNEL lds_count(uint32_t* out) {
  if (thread() < 8) lds[thread()] = 0;
  sync();
  __hip_atomic_fetch_add(&lds[thread() % 8], thread(), __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
  sync();
  if (thread() < 8) __hip_atomic_fetch_add(&out[thread()], lds[thread()], __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
KERNEL shuffles(const int* in, int* out) {
  const int t = static_cast<int>(thread()), x = in[t];
  out[t] = __builtin_amdgcn_ds_bpermute(4 * (63 - t), x);
  out[64 + t] = __builtin_amdgcn_ds_swizzle(x, 0x041F);                                // lane ^ 1
  out[128 + t] = __builtin_amdgcn_update_dpp(-1, x, 0x111, 0xF, 0xF, false);           // row_shr:1
  out[192 + t] = __builtin_amdgcn_update_dpp(-1, x, 0x1B, 0xF, 0xF, true);             // quad_perm:[3,2,1,0]
  out[256 + t] = __builtin_amdgcn_update_dpp(-1, x, 0x140, 0x5, 0xF, true);            // row_mirror, rows 0 and 2
  out[320 + t] = __builtin_amdgcn_update_dpp(0, x, 0x101, 0xF, 0xF, true);             // row_shl:1, 0 beyond the row
  out[384 + t] = __builtin_amdgcn_readlane(x, 17) + __builtin_amdgcn_readfirstlane(x);
  int kept = -1;
  if (t % 3 == 1) kept = __builtin_amdgcn_readfirstlane(x) + static_cast<int>(__builtin_amdgcn_mbcnt_lo(~0u, 0));
  out[448 + t] = kept;
  const uint64_t odd = __builtin_amdgcn_ballot_w64(x & 1);
  out[512 + t] = static_cast<int>(t < 32 ? odd : odd >> 32);
}

// ---- matrices: A and B as lanes hold them, D row by row ----

KERNEL mfma_16_fp8(const long* a, const long* b, float* d) {
  const unsigned lane = thread();
  const f32x4 sum = __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(a[lane], b[lane], f32x4{1, 1, 1, 1}, 0, 0, 0);
  for (unsigned r = 0; r < 4; r++) d[(lane / 16 * 4 + r) * 16 + lane % 16] = sum[r];
}
KERNEL mfma_32_fp8(const long* a, const long* b, float* d) {
  const unsigned lane = thread();
  f32x16 one;
  for (unsigned r = 0; r < 16; r++) one[r] = 1;
  const f32x16 sum = __builtin_amdgcn_mfma_f32_32x32x16_fp8_fp8(a[lane], b[lane], one, 0, 0, 0);
  for (unsigned r = 0; r < 16; r++) d[(r / 4 * 8 + lane / 32 * 4 + r % 4) * 32 + lane % 32] = sum[r];
}
KERNEL mfma_16_bf16(const i16x4* a, const i16x4* b, float* d) {
  const unsigned lane = thread();
  const f32x4 sum = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a[lane], b[lane], f32x4{1, 1, 1, 1}, 0, 0, 0);
  for (unsigned r = 0; r < 4; r++) d[(lane / 16 * 4 + r) * 16 + lane % 16] = sum[r];
}
KERNEL mfma_32_bf16(const i16x4* a, const i16x4* b, float* d) {
  const unsigned lane = thread();
  f32x16 one;
  for (unsigned r = 0; r < 16; r++) one[r] = 1;
  const f32x16 sum = __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(a[lane], b[lane], one, 0, 0, 0);
  for (unsigned r = 0; r < 16; r++) d[(r / 4 * 8 + lane / 32 * 4 + r % 4) * 32 + lane % 32] = sum[r];
}

// ---- FP8 ----

KERNEL widen_fp8(const uint32_t* codes, float* values) {
  const unsigned t = index();
  const auto low = __builtin_amdgcn_cvt_pk_f32_fp8(static_cast<int>(codes[t]), false);
  const auto high = __builtin_amdgcn_cvt_pk_f32_fp8(static_cast<int>(codes[t]), true);
  values[4 * t] = low[0], values[4 * t + 1] = low[1], values[4 * t + 2] = high[0], values[4 * t + 3] = high[1];
}
KERNEL narrow_fp8(const float* values, uint32_t* codes) {
  const unsigned t = index();
  const int low = __builtin_amdgcn_cvt_pk_fp8_f32(values[4 * t], values[4 * t + 1], 0, false);
  codes[t] = static_cast<uint32_t>(__builtin_amdgcn_cvt_pk_fp8_f32(values[4 * t + 2], values[4 * t + 3], low, true));
}
KERNEL approximations(const float* x, float* out, int count) {
  const unsigned t = index(), n = static_cast<unsigned>(count);
  if (t >= n) return;
  out[t] = __builtin_amdgcn_exp2f(x[t]);
  out[n + t] = __builtin_amdgcn_logf(x[t]);
  out[2 * n + t] = __builtin_amdgcn_rcpf(x[t]);
  out[3 * n + t] = __builtin_amdgcn_rsqf(x[t]);
}

// ---- buffers ----

KERNEL buffer_tail(const uint32_t* in, uint32_t* out, int bytes) {
  const auto resource = __builtin_amdgcn_make_buffer_rsrc(const_cast<uint32_t*>(in), 0, bytes, 0x27000);
  const auto words = __builtin_amdgcn_raw_buffer_load_b128(resource, static_cast<int>(16 * thread()), 0, 0);
  for (unsigned i = 0; i < 4; i++) out[4 * thread() + i] = words[i];
}

// ---- mistakes ----

KERNEL wrong_no_wait(const uint32_t* in, uint32_t* out) {
  uint32_t x;
  asm volatile("global_load_dword %0, %1, off\n\tv_add_u32 %0, 1, %0\n\ts_waitcnt vmcnt(0)" : "=&v"(x) : "v"(in));
  out[thread()] = x;
}
KERNEL wrong_wait_too_short(const uint32_t* in, uint32_t* out) {
  uint32_t x, y;
  asm volatile(
      "global_load_dword %0, %2, off\n\tglobal_load_dword %1, %2, off offset:4\n\ts_waitcnt vmcnt(1)\n\t"
      "v_add_u32 %0, %0, %1\n\ts_waitcnt vmcnt(0)"
      : "=&v"(x), "=&v"(y)
      : "v"(in));
  out[thread()] = x + y;
}
KERNEL right_wait(const uint32_t* in, uint32_t* out) {
  uint32_t x, y;
  asm volatile(
      "global_load_dword %0, %2, off\n\tglobal_load_dword %1, %2, off offset:4\n\ts_waitcnt vmcnt(1)\n\t"
      "v_add_u32 %0, 1, %0\n\ts_waitcnt vmcnt(0)"
      : "=&v"(x), "=&v"(y)
      : "v"(in));
  out[thread()] = x + y;
}
KERNEL wrong_scalar_wait(const uint32_t* in, uint32_t* out) {
  uint32_t x;
  asm volatile("s_load_dword %0, %1, 0x0\n\ts_add_u32 %0, %0, 1\n\ts_waitcnt lgkmcnt(0)" : "=&s"(x) : "s"(in) : "scc");
  out[thread()] = x;
}
KERNEL wrong_barrier(uint32_t* out) {
  lds[thread()] = thread();
  __builtin_amdgcn_s_barrier();
  out[thread()] = lds[255 - thread()];
}
KERNEL wrong_store(uint32_t* out, int beyond) { out[static_cast<int>(thread()) + beyond] = 1; }
KERNEL wrong_lds(uint32_t* out, int beyond) {
  lds[static_cast<int>(thread()) + beyond] = 1;
  sync();
  out[thread()] = lds[thread()];
}
KERNEL wrong_alignment(uint32_t* out, unsigned by) {
  asm volatile("ds_write_b64 %0, v[0:1]\n\ts_waitcnt lgkmcnt(0)" ::"v"(16 * thread() + by));
  out[thread()] = lds[thread()];
}
KERNEL wrong_unknown(float* out) { out[thread()] = __builtin_amdgcn_sinf(out[thread()]); }
