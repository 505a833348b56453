// The device vocabulary where the simulator runs a kernel on the CPU (OCTET_SIM): the same names as device_gfx9.h and
// device_sm90.h. Every lane is a fiber; what needs other lanes calls into the simulator, which gathers the wave first.
// Included by device.h only.
//
// NOTE: the three simulated targets compile the same names with different constants into one library, so everything
// that belongs to a device gets internal linkage: the linker must never share a helper between targets.
#pragma once

#include "kernel.h"

#define __device__ __attribute__((internal_linkage))
#define __global__
#define __host__
#define OCTET_INLINE __attribute__((always_inline, internal_linkage)) inline

#if defined(OCTET_TARGET_SM_90)
constexpr int wave_size = 32;
#define OCTET_SIM_TARGET 2
#elif defined(OCTET_TARGET_GFX950)
constexpr int wave_size = 64;
#define OCTET_SIM_TARGET 1
#else
constexpr int wave_size = 64;
#define OCTET_SIM_TARGET 0
#endif

// One record for each kernel and target, gathered by the linker in one section.
#define OCTET_KERNEL(name, Params, threads)                                                         \
  static void name(Params params);                                                                  \
  static void name##_run(const void* params) { name(*static_cast<const Params*>(params)); }         \
  __attribute__((section("octet_kernels"), used)) static constinit OctetSimKernel name##_record = { \
      #name, OCTET_FAMILY, OCTET_SIM_TARGET, threads, sizeof(Params), name##_run};                  \
  static void name(Params params)

// convergent: the compiler must not copy a call into the arms of a branch, since the call site tells where a lane
// waits.
#define OCTET_SIM_COLLECTIVE __attribute__((convergent, nothrow))
// Comes back into the kernel, even as its last call: the return address is the source line.
#define OCTET_SIM_RETURNS __attribute__((not_tail_called))
extern "C" {
__attribute__((const, nothrow)) unsigned octet_sim_thread_index(void);
__attribute__((const, nothrow)) unsigned octet_sim_block_index(int axis);
__attribute__((const, nothrow)) unsigned octet_sim_block_size(void);
__attribute__((const, nothrow)) unsigned octet_sim_grid_size(int axis);
__attribute__((const, nothrow)) char* octet_sim_lds(void);
OCTET_SIM_COLLECTIVE void octet_sim_block_barrier(void);
OCTET_SIM_COLLECTIVE void octet_sim_wave_barrier(void);
OCTET_SIM_COLLECTIVE uint32_t octet_sim_shuffle(uint32_t value, int lane);
OCTET_SIM_COLLECTIVE uint64_t octet_sim_ballot(bool predicate);
OCTET_SIM_COLLECTIVE OCTET_SIM_RETURNS void octet_sim_system_release(void);
OCTET_SIM_COLLECTIVE OCTET_SIM_RETURNS void octet_sim_system_acquire(void);
__attribute__((nothrow)) OCTET_SIM_RETURNS void octet_sim_signal_store(uint32_t* counter, uint32_t value);
__attribute__((nothrow)) OCTET_SIM_RETURNS uint32_t octet_sim_signal_load(const uint32_t* counter);
__attribute__((nothrow)) OCTET_SIM_RETURNS void octet_sim_signal_pause(bool has_to_wait);
__attribute__((nothrow)) uint64_t octet_sim_clock(void);
// D = A B + C in the registers of one lane; words and floats of each as the instruction has them.
OCTET_SIM_COLLECTIVE void octet_sim_mma_fp8(const uint32_t* a, const uint32_t* b, float* d);
OCTET_SIM_COLLECTIVE void octet_sim_mma_bf16(const uint32_t* a, const uint32_t* b, float* d);
}

#define OCTET_LDS(Struct) (*reinterpret_cast<Struct*>(octet_sim_lds()))

struct OctetThreadIdx {
  __declspec(property(get = get_x)) unsigned x;
  OCTET_INLINE static unsigned get_x() { return octet_sim_thread_index(); }
};
struct OctetBlockIdx {
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __declspec(property(get = get_z)) unsigned z;
  OCTET_INLINE static unsigned get_x() { return octet_sim_block_index(0); }
  OCTET_INLINE static unsigned get_y() { return octet_sim_block_index(1); }
  OCTET_INLINE static unsigned get_z() { return octet_sim_block_index(2); }
};
struct OctetBlockDim {
  __declspec(property(get = get_x)) unsigned x;
  OCTET_INLINE static unsigned get_x() { return octet_sim_block_size(); }
};
struct OctetGridDim {
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  OCTET_INLINE static unsigned get_x() { return octet_sim_grid_size(0); }
  OCTET_INLINE static unsigned get_y() { return octet_sim_grid_size(1); }
};
static constexpr OctetThreadIdx threadIdx{};
static constexpr OctetBlockIdx blockIdx{};
static constexpr OctetBlockDim blockDim{};
static constexpr OctetGridDim gridDim{};

OCTET_INLINE void __syncthreads() { octet_sim_block_barrier(); }
OCTET_INLINE void wave_sync() { octet_sim_wave_barrier(); }

OCTET_INLINE uint32_t __shfl(uint32_t x, int lane) { return octet_sim_shuffle(x, lane); }
OCTET_INLINE int __shfl(int x, int lane) { return static_cast<int>(octet_sim_shuffle(static_cast<uint32_t>(x), lane)); }
OCTET_INLINE float __shfl(float x, int lane) {
  return __builtin_bit_cast(float, octet_sim_shuffle(__builtin_bit_cast(uint32_t, x), lane));
}
template <class T>
OCTET_INLINE T __shfl_xor(T x, int mask) {
  return __shfl(x, static_cast<int>(threadIdx.x) % wave_size ^ mask);
}
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
OCTET_INLINE uint64_t __ballot(bool predicate) { return octet_sim_ballot(predicate); }

OCTET_INLINE uint32_t bf16_upper_pair(float low, float high) {
  return __builtin_bit_cast(uint32_t, low) >> 16 | (__builtin_bit_cast(uint32_t, high) & 0xFFFF0000u);
}

OCTET_INLINE float exp2_fast(float x) { return __builtin_exp2f(x); }
OCTET_INLINE float log2_fast(float x) { return __builtin_log2f(x); }
OCTET_INLINE float rcp_fast(float x) { return 1.0f / x; }
OCTET_INLINE float rsqrt_fast(float x) { return 1.0f / __builtin_sqrtf(x); }

OCTET_INLINE int atomic_add(int* address, int value) { return __atomic_fetch_add(address, value, __ATOMIC_RELAXED); }
OCTET_INLINE uint64_t atomic_add(uint64_t* address, uint64_t value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

OCTET_INLINE void system_release() { octet_sim_system_release(); }
OCTET_INLINE void system_acquire() { octet_sim_system_acquire(); }
OCTET_INLINE void signal_store(uint32_t* counter, uint32_t value) { octet_sim_signal_store(counter, value); }
OCTET_INLINE uint32_t signal_load(const uint32_t* counter) { return octet_sim_signal_load(counter); }
OCTET_INLINE void signal_pause(bool has_to_wait) { octet_sim_signal_pause(has_to_wait); }
// Nanoseconds.
constexpr uint64_t clock_ticks_per_ms = 1'000'000;
OCTET_INLINE uint64_t clock_ticks() { return octet_sim_clock(); }

#if defined(OCTET_TARGET_SM_90)
// The pair of instructions mma_sm90.h is made of; registers as PTX names them.
OCTET_INLINE void mma_m16n8k32_e4m3(f32x4& d, u32x4 a, u32x2 b) {
  octet_sim_mma_fp8(reinterpret_cast<const uint32_t*>(&a), reinterpret_cast<const uint32_t*>(&b),
                    reinterpret_cast<float*>(&d));
}
OCTET_INLINE void mma_m16n8k16_bf16(f32x4& d, u32x4 a, u32x2 b) {
  octet_sim_mma_bf16(reinterpret_cast<const uint32_t*>(&a), reinterpret_cast<const uint32_t*>(&b),
                     reinterpret_cast<float*>(&d));
}
#else
using i16x4 = short __attribute__((ext_vector_type(4)));
OCTET_INLINE f32x4 mfma_16x16x32_fp8(int64_t a, int64_t b, f32x4 c) {
  octet_sim_mma_fp8(reinterpret_cast<const uint32_t*>(&a), reinterpret_cast<const uint32_t*>(&b),
                    reinterpret_cast<float*>(&c));
  return c;
}
OCTET_INLINE f32x4 mfma_16x16x16_bf16(i16x4 a, i16x4 b, f32x4 c) {
  octet_sim_mma_bf16(reinterpret_cast<const uint32_t*>(&a), reinterpret_cast<const uint32_t*>(&b),
                     reinterpret_cast<float*>(&c));
  return c;
}
#endif
