// kv_write: k and v rounded into the paged cache at slots[t].   kv_copy: whole blocks of K and V, source to
// destination.
//
// kv_write: a block of threads serves 16 tokens of one head of K or V, a thread 8 dims of one token. In K the threads
// of a token are neighbours (its dims are contiguous), in V the threads of a chunk (its tokens are). Grid: token tiles
// x (K heads, then V heads). A value is rounded once: code = nearest even of x/scale, saturated. kv_copy: grid pairs x
// {K, V}; a block of threads moves one cache block in 16-byte pieces.
//
// Floor: kv_write moves 3 bytes an element: 4 KV heads of 128 dims, 8,192 tokens: 25 MB, 5 us at 4.86 TB/s; a decode
// step is launch latency.
#include "kv_cache.h"

constexpr int kv_copy_threads = 256;

struct KvWriteParams {
  const uint16_t* k;  // [tokens, kv_heads, head_dim] bf16
  const uint16_t* v;  // [tokens, kv_heads, head_dim] bf16
  const int64_t* slots;
  KvCache cache;
  int64_t tokens;
  int64_t k_stride, v_stride;
  int32_t aligned;  // 1: every chunk of k and v lies on 16 bytes
};

struct KvCopyParams {
  const int64_t* pairs;  // [count, 2]
  KvCache cache;
  int64_t count;
  int64_t block_bytes;  // of K or V, all heads
};

#if !defined(OCTET_HOST)
OCTET_KERNEL(kv_write, KvWriteParams, 256) {
  const KvCache& cache = params.cache;
  const bool is_v = static_cast<int>(blockIdx.y) >= cache.kv_heads;
  const int head = static_cast<int>(blockIdx.y) - (is_v ? cache.kv_heads : 0);
  const int thread = static_cast<int>(threadIdx.x);
  const int chunks = cache.head_dim / kv_chunk;
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kv_tokens + (is_v ? thread % kv_tokens : thread / chunks);
  const int chunk = is_v ? thread / kv_tokens : thread % chunks;
  if (token >= params.tokens) return;
  const int64_t slot = params.slots[token];
  const uint16_t* row = is_v ? params.v + token * params.v_stride : params.k + token * params.k_stride;
  const u32x4 pairs = bf16x8_pairs(row + head * cache.head_dim + chunk * kv_chunk, params.aligned);
  const float scale = kv_scale(cache, is_v ? cache.v_scales : cache.k_scales, head);
  if (is_v) {
    const int64_t place = v_place(cache, slot, head, chunk);
    if (place >= 0) v_put(cache, place, pairs, scale);
    return;
  }
  const int64_t place = k_place(cache, slot, head, chunk);
  if (place < 0) return;
  if (!cache.k_scales) {
    *reinterpret_cast<u32x4*>(reinterpret_cast<uint16_t*>(cache.k) + place) = pairs;
    return;
  }
  float x[8];
  bf16x8_widen(pairs, x);
  k_put_codes(cache.k + place, x, scale);
}

OCTET_KERNEL(kv_copy, KvCopyParams, kv_copy_threads) {
  uint8_t* data = blockIdx.y == 0 ? params.cache.k : params.cache.v;
  for (int64_t i = blockIdx.x; i < params.count; i += gridDim.x) {
    const int64_t source = params.pairs[2 * i], destination = params.pairs[2 * i + 1];
    if (source < 0 || source >= params.cache.blocks || destination < 0 || destination >= params.cache.blocks) continue;
    const u32x4* from = reinterpret_cast<const u32x4*>(data + source * params.block_bytes);
    u32x4* to = reinterpret_cast<u32x4*>(data + destination * params.block_bytes);
    for (int64_t j = threadIdx.x; j < params.block_bytes / 16; j += blockDim.x) to[j] = from[j];
  }
}
#endif

#if defined(OCTET_HOST)
namespace octet {
namespace {

const octet_kv_write_args& kv_write_checked(const octet_kv_write_args* pointer) {
  const auto& args = checked("kv_write", pointer);
  require_range("kv_write", "tokens", args.tokens, 0, max_blocks(256));
  return args;
}

const octet_kv_copy_args& kv_copy_checked(const octet_kv_copy_args* pointer) {
  const auto& args = checked("kv_copy", pointer);
  require_range("kv_copy", "count", args.count, 0, int64_t{1} << 40);
  return args;
}

}  // namespace
}  // namespace octet

using namespace octet;

extern "C" octet_status octet_kv_write(const octet_kv_write_args* pointer, octet_stream* stream) {
  return guarded([&] {
    const auto& args = kv_write_checked(pointer);
    const DeviceFacts& device = facts(stream);
    const KvCache cache = kv_cache_of("kv_write", args.cache, device);
    if (args.tokens == 0) return;
    require_heads("kv_write", "k", args.k, args.k_stride, cache.kv_heads, cache.head_dim);
    require_heads("kv_write", "v", args.v, args.v_stride, cache.kv_heads, cache.head_dim);
    require_pointer("kv_write", "slots", args.slots);
    const KvWriteParams params = {static_cast<const uint16_t*>(args.k),
                                  static_cast<const uint16_t*>(args.v),
                                  args.slots,
                                  cache,
                                  args.tokens,
                                  args.k_stride,
                                  args.v_stride,
                                  (args.k_stride | args.v_stride) % kv_chunk == 0};
    const Grid grid = {static_cast<uint32_t>((args.tokens + kv_tokens - 1) / kv_tokens),
                       static_cast<uint32_t>(2 * cache.kv_heads), 1};
    launch(stream, "kv_write", grid, kv_tokens * cache.head_dim / kv_chunk / device.wave_size, 0, params);
  });
}

extern "C" octet_status octet_kv_write_workspace(const octet_kv_write_args* pointer, octet_device*, size_t* size) {
  return guarded([&] {
    kv_write_checked(pointer);
    require(size != nullptr, "kv_write: size is null");
    *size = 0;
  });
}

extern "C" octet_status octet_kv_copy(const octet_kv_copy_args* pointer, octet_stream* stream) {
  return guarded([&] {
    const auto& args = kv_copy_checked(pointer);
    const DeviceFacts& device = facts(stream);
    const KvCache cache = kv_cache_of("kv_copy", args.cache, device);
    if (args.count == 0) return;
    require_pointer("kv_copy", "pairs", args.pairs);
    const int64_t element = cache.k_scales ? 1 : 2;
    const int64_t block_bytes = (static_cast<int64_t>(cache.kv_heads) * cache.head_dim << cache.block_shift) * element;
    const KvCopyParams params = {args.pairs, cache, args.count, block_bytes};
    const Grid grid = {static_cast<uint32_t>(args.count < 65535 ? args.count : 65535), 2, 1};
    launch(stream, "kv_copy", grid, kv_copy_threads / device.wave_size, 0, params);
  });
}

extern "C" octet_status octet_kv_copy_workspace(const octet_kv_copy_args* pointer, octet_device*, size_t* size) {
  return guarded([&] {
    kv_copy_checked(pointer);
    require(size != nullptr, "kv_copy: size is null");
    *size = 0;
  });
}
#endif
