// The device vocabulary for gfx942 and gfx950 (wave64). Included by device.h only.
#pragma once

constexpr int wave_size = 64;

#define OCTET_LAUNCH_BOUNDS(threads) __attribute__((amdgpu_flat_work_group_size(1, threads)))

// threadIdx and its kin read the workitem registers through properties, as HIP's own headers do.
struct OctetThreadIdx {
  __declspec(property(get = get_x)) unsigned x;
  __device__ static unsigned get_x() { return __builtin_amdgcn_workitem_id_x(); }
};
struct OctetBlockIdx {
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __declspec(property(get = get_z)) unsigned z;
  __device__ static unsigned get_x() { return __builtin_amdgcn_workgroup_id_x(); }
  __device__ static unsigned get_y() { return __builtin_amdgcn_workgroup_id_y(); }
  __device__ static unsigned get_z() { return __builtin_amdgcn_workgroup_id_z(); }
};
struct OctetBlockDim {
  __declspec(property(get = get_x)) unsigned x;
  __device__ static unsigned get_x() { return __builtin_amdgcn_workgroup_size_x(); }
};
struct OctetGridDim {
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __device__ static unsigned get_x() { return __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x(); }
  __device__ static unsigned get_y() { return __builtin_amdgcn_grid_size_y() / __builtin_amdgcn_workgroup_size_y(); }
};
extern const __device__ __attribute__((weak)) OctetThreadIdx threadIdx;
extern const __device__ __attribute__((weak)) OctetBlockIdx blockIdx;
extern const __device__ __attribute__((weak)) OctetBlockDim blockDim;
extern const __device__ __attribute__((weak)) OctetGridDim gridDim;

// NOTE: s_barrier alone does not wait for LDS writes; the release fence emits the s_waitcnt, the acquire fence keeps
// later reads behind it.
OCTET_INLINE void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

// Orders LDS accesses between the lanes of one wave: the lanes run in lockstep, so a wavefront fence (which only stops
// the compiler and waits for the wave's own accesses) is enough.
OCTET_INLINE void wave_sync() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}

// ds_bpermute pulls a 32-bit value from any lane; the address is in bytes.
OCTET_INLINE int __shfl(int x, int lane) { return __builtin_amdgcn_ds_bpermute(lane << 2, x); }
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
// x, which is the same in every lane, in a scalar register: what follows from it costs no vector instructions.
OCTET_INLINE int wave_uniform(int x) { return __builtin_amdgcn_readfirstlane(x); }
template <class T>
OCTET_INLINE T* wave_uniform(T* x) {
  const uint64_t bits = reinterpret_cast<uint64_t>(x);
  const uint32_t low = __builtin_amdgcn_readfirstlane(static_cast<int>(bits));
  const uint32_t high = __builtin_amdgcn_readfirstlane(static_cast<int>(bits >> 32));
  return reinterpret_cast<T*>(static_cast<uint64_t>(high) << 32 | low);
}
// The value of one lane, the same lane for the whole wave; a scalar register again.
OCTET_INLINE int wave_broadcast(int x, int lane) { return __builtin_amdgcn_readlane(x, lane); }
OCTET_INLINE float wave_broadcast(float x, int lane) {
  return __builtin_bit_cast(float, __builtin_amdgcn_readlane(__builtin_bit_cast(int, x), lane));
}
// One bit per lane, lane 0 lowest.
OCTET_INLINE uint64_t __ballot(bool predicate) { return __builtin_amdgcn_ballot_w64(predicate); }

// The upper halves of two f32 as a pair of bf16, the first in the low half: one v_perm_b32, which the compiler does not
// make of shifts.
OCTET_INLINE uint32_t bf16_upper_pair(float low, float high) {
  return __builtin_amdgcn_perm(__builtin_bit_cast(uint32_t, high), __builtin_bit_cast(uint32_t, low), 0x07060302);
}

// Hardware approximations, 1 ulp: v_exp_f32, v_log_f32, v_rcp_f32, v_rsq_f32. Denormal inputs of exp2 and log2 flush.
OCTET_INLINE float exp2_fast(float x) { return __builtin_amdgcn_exp2f(x); }
OCTET_INLINE float log2_fast(float x) { return __builtin_amdgcn_logf(x); }
OCTET_INLINE float rcp_fast(float x) { return __builtin_amdgcn_rcpf(x); }
OCTET_INLINE float rsqrt_fast(float x) { return __builtin_amdgcn_rsqf(x); }

// Integer LDS and global atomics (relaxed): counting only, never for values whose order of summation matters.
OCTET_INLINE int atomic_add(int* address, int value) {
  return __hip_atomic_fetch_add(address, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
OCTET_INLINE uint64_t atomic_add(uint64_t* address, uint64_t value) {
  return __hip_atomic_fetch_add(address, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

// What orders the memory of several devices, in three parts: a release, a relaxed store of a counter; relaxed loads of it, an
// acquire. Release and acquire are of whole waves: of what its lanes did before, and what a barrier ordered before that.
// They order the wave's lanes as wave_sync does. NOTE: the empty scope is the system's. The release writes the L2 back
// (buffer_wbl2), which the compiler does not wait for where no store of this wave is under way: vmcnt(0) by hand.
OCTET_INLINE void system_release() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "");
  __builtin_amdgcn_s_waitcnt(0x0F70);
}
OCTET_INLINE void system_acquire() { __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, ""); }
OCTET_INLINE void signal_store(uint32_t* counter, uint32_t value) {
  __scoped_atomic_store_n(counter, value, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
OCTET_INLINE uint32_t signal_load(const uint32_t* counter) {
  return __scoped_atomic_load_n(counter, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
// Between two looks at a counter: 64 clocks. has_to_wait: whether it is this lane's counter that has not come; the simulator
// asks.
OCTET_INLINE void signal_pause([[maybe_unused]] bool has_to_wait) { __builtin_amdgcn_s_sleep(1); }
// A clock that runs on: 100 MHz.
constexpr uint64_t clock_ticks_per_ms = 100'000;
OCTET_INLINE uint64_t clock_ticks() { return __builtin_amdgcn_s_memrealtime(); }

// A load of global memory at a base that is the same in every lane and a lane's own distance from it in bytes: the
// instruction takes the one from scalar registers, the other from one vector register.
template <class T>
OCTET_INLINE T load_global(const void* base, uint32_t offset) {
  using Bytes = const __attribute__((address_space(1))) uint8_t*;
  using Element = const __attribute__((address_space(1))) T*;
  return *(Element)((Bytes)base + offset);
}

// A load of what nobody writes during the launch, at an address that is the same in every lane: a scalar load, which does
// not come back behind the vector loads that are under way. NOTE: the compiler finds that out by itself, but gives up
// where there are many stores to LDS on the way.
template <class T>
OCTET_INLINE T load_constant(const T* address) {
  return *(const __attribute__((address_space(4))) T*)address;
}

// Waits for this wave's loads of global memory: vmcnt(0), the other counters at their most.
OCTET_INLINE void wait_for_loads() { __builtin_amdgcn_s_waitcnt(0x0F70); }
// Waits for this wave's LDS accesses: lgkmcnt(0), the other counters at their most.
OCTET_INLINE void wait_for_lds() { __builtin_amdgcn_s_waitcnt(0xC07F); }
// Nothing is scheduled across: what a kernel interleaves by hand stays so. NOTE: instructions without side effects are
// placed before the scheduler sees the fence; hold() keeps those that make x before it and those that take it after.
OCTET_INLINE void schedule_fence() { __builtin_amdgcn_sched_barrier(0); }
template <class T>
OCTET_INLINE void hold(T& x) {
  asm volatile("" : "+v"(x));
}

// The matrix instructions, D = A B + C on one wave; the lane layouts are in mma.h. All lanes must be active.
using i16x4 = short __attribute__((ext_vector_type(4)));
OCTET_INLINE f32x4 mfma_16x16x32_fp8(int64_t a, int64_t b, f32x4 c) {
  return __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(a, b, c, 0, 0, 0);
}
OCTET_INLINE f32x4 mfma_16x16x16_bf16(i16x4 a, i16x4 b, f32x4 c) {
  return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c, 0, 0, 0);
}
