// The paged KV cache as kernels see it: addressing, rounding into it, and the launchers' checks of octet_kv_cache. Used
// by kv_cache, rope and the attention families.
//
//   K [blocks, kv_heads, block_size, head_dim]   V [blocks, kv_heads, head_dim, block_size]
//
// so that contiguous elements lie along the reduced dimension of both products of attention. A run of 8 dims of a token
// (a "chunk") is contiguous in K and 8 rows apart in V: threads that share a chunk and take neighbouring tokens write
// neighbouring elements of V.
#pragma once

#include <stdint.h>

struct KvCache {
  uint8_t* k;  // bytes
  uint8_t* v;
  const float* k_scales;  // null: bf16
  const float* v_scales;
  int64_t blocks;
  int32_t kv_heads, head_dim;
  int32_t block_shift;     // block_size = 1 << block_shift
  int32_t scale_per_head;  // 0: one scale for all
};

constexpr int kv_tokens = 16;  // tokens of a block that writes into the cache
constexpr int kv_chunk = 8;    // dims a thread writes

#if !defined(OCTET_HOST)
#include "columns.h"

OCTET_INLINE int64_t kv_slots(const KvCache& cache) { return cache.blocks << cache.block_shift; }
OCTET_INLINE int64_t k_element(const KvCache& cache, int64_t block, int head, int token) {
  return (((block * cache.kv_heads + head) << cache.block_shift) + token) * cache.head_dim;
}
OCTET_INLINE int64_t v_element(const KvCache& cache, int64_t block, int head, int dim) {
  return ((block * cache.kv_heads + head) * cache.head_dim + dim) << cache.block_shift;
}
OCTET_INLINE float kv_scale(const KvCache& cache, const float* scales, int head) {
  return scales ? scales[cache.scale_per_head ? head : 0] : 1.0f;
}

// 8 bf16 of a row as four pairs; `aligned`: they lie on 16 bytes. NOTE: a load is waited for where its pairs are used,
// so one that is widened later is on its way with whatever else was asked for before it.
OCTET_INLINE u32x4 bf16x8_pairs(const uint16_t* source, bool aligned) {
  if (aligned) return *reinterpret_cast<const u32x4*>(source);
  u32x4 pairs;
  for (int i = 0; i < 4; i++) pairs[i] = source[2 * i] | static_cast<uint32_t>(source[2 * i + 1]) << 16;
  return pairs;
}
OCTET_INLINE void bf16x8_put(uint16_t* output, bool aligned, u32x4 pairs) {
  if (aligned) {
    *reinterpret_cast<u32x4*>(output) = pairs;
  } else {
    for (int i = 0; i < 8; i++) output[i] = static_cast<uint16_t>(pairs[i / 2] >> i % 2 * 16);
  }
}
OCTET_INLINE void bf16x8_widen(u32x4 pairs, float (&x)[8]) {
  for (int i = 0; i < 8; i++) x[i] = bits_float(i % 2 == 0 ? pairs[i / 2] << 16 : pairs[i / 2] & 0xFFFF0000u);
}

// Saturated where x is finite, even if x/scale is not; NaN and infinities give the NaN code.
OCTET_INLINE uint8_t kv_code(float x, float scale) {
  constexpr float limit = fp8_limit<native_fp8>;
  const float code = __builtin_fminf(__builtin_fmaxf(x / scale, -limit), limit);
  return f32_to_fp8<native_fp8>(is_finite(x) ? code : x);
}

// Where a chunk of one head of a token lies, negative for a slot outside the cache: nothing is written then.
OCTET_INLINE int64_t k_place(const KvCache& cache, int64_t slot, int head, int chunk) {
  if (slot < 0 || slot >= kv_slots(cache)) return -1;
  const int token = static_cast<int>(slot & ((1 << cache.block_shift) - 1));
  return k_element(cache, slot >> cache.block_shift, head, token) + chunk * kv_chunk;
}
OCTET_INLINE int64_t v_place(const KvCache& cache, int64_t slot, int head, int chunk) {
  if (slot < 0 || slot >= kv_slots(cache)) return -1;
  const int token = static_cast<int>(slot & ((1 << cache.block_shift) - 1));
  return v_element(cache, slot >> cache.block_shift, head, chunk * kv_chunk) + token;
}

// A chunk of K rounded to codes.
OCTET_INLINE void k_put_codes(uint8_t* place, const float (&x)[8], float scale) {
  u32x2 codes = {0, 0};
  for (int i = 0; i < 8; i++) codes[i / 4] |= uint32_t{kv_code(x[i], scale)} << i % 4 * 8;
  *reinterpret_cast<u32x2*>(place) = codes;
}
// A chunk of V, whose dims lie a block's tokens apart; scale: of its codes, 1 in bf16, which takes the pairs as they
// are.
OCTET_INLINE void v_put(const KvCache& cache, int64_t place, u32x4 pairs, float scale) {
  if (!cache.v_scales) {
    for (int i = 0; i < 8; i++) {
      uint16_t* element = reinterpret_cast<uint16_t*>(cache.v) + place + (static_cast<int64_t>(i) << cache.block_shift);
      *element = static_cast<uint16_t>(pairs[i / 2] >> i % 2 * 16);
    }
    return;
  }
  float x[8];
  bf16x8_widen(pairs, x);
  for (int i = 0; i < 8; i++) cache.v[place + (static_cast<int64_t>(i) << cache.block_shift)] = kv_code(x[i], scale);
}
#endif

#if defined(OCTET_HOST)
#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {

constexpr int64_t max_heads = 1024;
constexpr int64_t max_kv_blocks = INT32_MAX;  // block tables hold 32-bit numbers

// What kernels assume of a cache, checked.
inline KvCache kv_cache_of(const char* op, const octet_kv_cache& cache, const DeviceFacts& device) {
  require_range(op, "cache.blocks", cache.blocks, 0, max_kv_blocks);
  require_range(op, "cache.kv_heads", cache.kv_heads, 1, max_heads);
  require(cache.block_size == 16 || cache.block_size == 32 || cache.block_size == 64 || cache.block_size == 128,
          "%s: cache.block_size = %d must be 16, 32, 64 or 128", op, cache.block_size);
  require(cache.head_dim == 64 || cache.head_dim == 128, "%s: cache.head_dim = %d must be 64 or 128", op,
          cache.head_dim);
  require(cache.dtype == OCTET_BF16 || cache.dtype == device.fp8,
          "%s: cache.dtype = %d must be bf16 (%d) or the FP8 of the device (%d)", op, cache.dtype, OCTET_BF16,
          device.fp8);
  if (cache.blocks > 0) {
    require_pointer(op, "cache.k", cache.k);
    require_pointer(op, "cache.v", cache.v);
  }
  if (cache.dtype == OCTET_BF16) {
    require(cache.k_scales == nullptr && cache.v_scales == nullptr && cache.scale_count == 0,
            "%s: a bf16 cache has no scales, cache.scale_count = %d must be 0", op, cache.scale_count);
  } else {
    require_pointer(op, "cache.k_scales", cache.k_scales);
    require_pointer(op, "cache.v_scales", cache.v_scales);
    require(cache.scale_count == 1 || cache.scale_count == cache.kv_heads,
            "%s: cache.scale_count = %d must be 1 or kv_heads = %d", op, cache.scale_count, cache.kv_heads);
  }
  return KvCache{static_cast<uint8_t*>(cache.k),
                 static_cast<uint8_t*>(cache.v),
                 cache.k_scales,
                 cache.v_scales,
                 cache.blocks,
                 cache.kv_heads,
                 cache.head_dim,
                 __builtin_ctz(static_cast<unsigned>(cache.block_size)),
                 cache.scale_count > 1};
}

// A [tokens, heads, head_dim] bf16 tensor: its pointer and the stride of its tokens.
inline void require_heads(const char* op, const char* name, const void* pointer, int64_t stride, int64_t heads,
                          int64_t head_dim) {
  require_pointer(op, name, pointer);
  require(stride >= heads * head_dim && stride <= max_stride,
          "%s: the token stride of %s = %lld must be at least heads * head_dim = %lld * %lld (and at most %lld)", op,
          name, static_cast<long long>(stride), static_cast<long long>(heads), static_cast<long long>(head_dim),
          static_cast<long long>(max_stride));
}

}  // namespace octet
#endif
