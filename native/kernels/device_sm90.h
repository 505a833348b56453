// The device vocabulary for sm_90 (warps of 32 lanes). Included by device.h only.
#pragma once

constexpr int wave_size = 32;

#define OCTET_LAUNCH_BOUNDS(threads) __attribute__((launch_bounds(threads)))

struct OctetThreadIdx {
  __declspec(property(get = get_x)) unsigned x;
  __device__ static unsigned get_x() { return static_cast<unsigned>(__nvvm_read_ptx_sreg_tid_x()); }
};
struct OctetBlockIdx {
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __declspec(property(get = get_z)) unsigned z;
  __device__ static unsigned get_x() { return static_cast<unsigned>(__nvvm_read_ptx_sreg_ctaid_x()); }
  __device__ static unsigned get_y() { return static_cast<unsigned>(__nvvm_read_ptx_sreg_ctaid_y()); }
  __device__ static unsigned get_z() { return static_cast<unsigned>(__nvvm_read_ptx_sreg_ctaid_z()); }
};
struct OctetBlockDim {
  __declspec(property(get = get_x)) unsigned x;
  __device__ static unsigned get_x() { return static_cast<unsigned>(__nvvm_read_ptx_sreg_ntid_x()); }
};
struct OctetGridDim {
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __device__ static unsigned get_x() { return static_cast<unsigned>(__nvvm_read_ptx_sreg_nctaid_x()); }
  __device__ static unsigned get_y() { return static_cast<unsigned>(__nvvm_read_ptx_sreg_nctaid_y()); }
};
extern const __device__ __attribute__((weak)) OctetThreadIdx threadIdx;
extern const __device__ __attribute__((weak)) OctetBlockIdx blockIdx;
extern const __device__ __attribute__((weak)) OctetBlockDim blockDim;
extern const __device__ __attribute__((weak)) OctetGridDim gridDim;

// __syncthreads() is a builtin of this target and orders memory. Lanes of a warp may run apart: bar.warp.sync orders
// them.
OCTET_INLINE void wave_sync() { __nvvm_bar_warp_sync(0xFFFFFFFFu); }

OCTET_INLINE int __shfl(int x, int lane) { return __nvvm_shfl_sync_idx_i32(0xFFFFFFFFu, x, lane, 0x1F); }
OCTET_INLINE uint32_t __shfl(uint32_t x, int lane) { return static_cast<uint32_t>(__shfl(static_cast<int>(x), lane)); }
OCTET_INLINE float __shfl(float x, int lane) {
  return __builtin_bit_cast(float, __shfl(__builtin_bit_cast(int, x), lane));
}
template <class T>
OCTET_INLINE T __shfl_xor(T x, int mask) {
  return __shfl(x, static_cast<int>(threadIdx.x) % wave_size ^ mask);
}
// The value of the lane `delta` below; lanes under delta keep their own.
template <class T>
OCTET_INLINE T __shfl_up(T x, int delta) {
  const int lane = static_cast<int>(threadIdx.x) % wave_size;
  return __shfl(x, lane < delta ? lane : lane - delta);
}
// As on gfx9, where they give a scalar register: a value that every lane has; the value of one lane.
template <class T>
OCTET_INLINE T wave_uniform(T x) {
  return x;
}
template <class T>
OCTET_INLINE T wave_broadcast(T x, int lane) {
  return __shfl(x, lane);
}
template <class T>
OCTET_INLINE T load_global(const void* base, uint32_t offset) {
  return *reinterpret_cast<const T*>(static_cast<const uint8_t*>(base) + offset);
}
template <class T>
OCTET_INLINE T load_constant(const T* address) { return *address; }
OCTET_INLINE void wait_for_loads() {}
OCTET_INLINE void wait_for_lds() {}
OCTET_INLINE void schedule_fence() {}
template <class T>
OCTET_INLINE void hold(T&) {}
// One bit per lane, lane 0 lowest.
OCTET_INLINE uint64_t __ballot(bool predicate) {
  return static_cast<uint32_t>(__nvvm_vote_ballot_sync(0xFFFFFFFFu, predicate));
}

// The upper halves of two f32 as a pair of bf16, the first in the low half.
OCTET_INLINE uint32_t bf16_upper_pair(float low, float high) {
  return __builtin_bit_cast(uint32_t, low) >> 16 | (__builtin_bit_cast(uint32_t, high) & 0xFFFF0000u);
}

// Hardware approximations: ex2.approx, lg2.approx, rcp.approx, rsqrt.approx, all within 2 ulp.
OCTET_INLINE float exp2_fast(float x) { return __nvvm_ex2_approx_f(x); }
OCTET_INLINE float log2_fast(float x) { return __nvvm_lg2_approx_f(x); }
OCTET_INLINE float rcp_fast(float x) { return __nvvm_rcp_approx_ftz_f(x); }
OCTET_INLINE float rsqrt_fast(float x) { return __nvvm_rsqrt_approx_f(x); }

// Integer LDS and global atomics (relaxed): counting only, never for values whose order of summation matters.
OCTET_INLINE int atomic_add(int* address, int value) { return __atomic_fetch_add(address, value, __ATOMIC_RELAXED); }
OCTET_INLINE uint64_t atomic_add(uint64_t* address, uint64_t value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

// What orders the memory of several devices: see device_gfx9.h. NOTE: a fence is that of its own lane; bar.warp.sync orders the
// other lanes' accesses before it, or behind it.
OCTET_INLINE void system_release() {
  wave_sync();
  __scoped_atomic_thread_fence(__ATOMIC_RELEASE, __MEMORY_SCOPE_SYSTEM);
}
OCTET_INLINE void system_acquire() {
  __scoped_atomic_thread_fence(__ATOMIC_ACQUIRE, __MEMORY_SCOPE_SYSTEM);
  wave_sync();
}
OCTET_INLINE void signal_store(uint32_t* counter, uint32_t value) {
  __scoped_atomic_store_n(counter, value, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
OCTET_INLINE uint32_t signal_load(const uint32_t* counter) {
  return __scoped_atomic_load_n(counter, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
OCTET_INLINE void signal_pause([[maybe_unused]] bool has_to_wait) { __nvvm_nanosleep(50); }
// Nanoseconds.
constexpr uint64_t clock_ticks_per_ms = 1'000'000;
OCTET_INLINE uint64_t clock_ticks() { return static_cast<uint64_t>(__nvvm_read_ptx_sreg_globaltimer()); }

// The matrix instructions, D = A B + D on one warp; registers as in the PTX ISA, the layouts are in mma_sm90.h.
OCTET_INLINE void mma_m16n8k32_e4m3(f32x4& d, u32x4 a, u32x2 b) {
  float d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  d = f32x4{d0, d1, d2, d3};
}
OCTET_INLINE void mma_m16n8k16_bf16(f32x4& d, u32x4 a, u32x2 b) {
  float d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  d = f32x4{d0, d1, d2, d3};
}
