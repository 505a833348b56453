// rope: per token, optional RMSNorm of q and k (QK-norm), rotary embedding in the rotate-half form, q to q_output, k
// and v rounded into the paged cache. One launch.
//
//   y = x / sqrt(mean(x^2) + eps) * weight           over the head_dim values of a head, or over all heads of the token
//   out[i] = y[i] cos[i] - y[i + d/2] sin[i];  out[i + d/2] = y[i + d/2] cos[i] + y[i] sin[i]   i < d/2, d = rotary_dim
//   out[i] = y[i]                                                                              i >= d
//
// All in f32, rounded once. q, k, v [tokens, heads, head_dim] bf16. A block of threads serves 16 tokens of one head;
// grid: token tiles x (q heads, k heads, v heads). A thread takes 8 dims, so a head of a token is 16 (head_dim 128) or
// 8 neighbouring lanes: sums and the rotation's partner travel by lane exchange within them, in the same order on every
// wave size. For V, threads that share dims are neighbours along the tokens (kv_cache.h).
//
// rope_projection is for norms over all heads of a token (MiniMax-M2, OLMo 2): a block serves the q, or the k, of one
// token, so that what all heads share is one sum over the block; further blocks serve V by heads as above.
//
// Floor: 64 q and 4 KV heads of 128 dims, one token: 35 KB; 64 tokens 2.3 MB, 0.5 us at 4.86 TB/s: latency rules, and
// only one load has to wait for another: the table's for the position.
#include "kv_cache.h"

struct RopeParams {
  const uint16_t* q;       // [tokens, q_heads, head_dim] bf16
  const uint16_t* k;       // [tokens, kv_heads, head_dim] bf16
  const uint16_t* v;       // [tokens, kv_heads, head_dim] bf16
  const uint16_t* q_norm;  // [head_dim] bf16, in rope_projection [q_heads, head_dim]; or null
  const uint16_t* k_norm;  // [head_dim] bf16, in rope_projection [kv_heads, head_dim]; or null
  const float* cos_sin;    // [max_position, rotary_dim]
  const int32_t* positions;
  const int64_t* slots;
  uint16_t* q_output;  // [tokens, q_heads, head_dim] bf16
  KvCache cache;
  int64_t tokens, max_position;
  int64_t q_stride, k_stride, v_stride, q_output_stride;
  int32_t q_heads;
  float eps;
  int32_t aligned;  // 1: every chunk of q, k, v and q_output lies on 16 bytes
  int32_t rotary_dim;
};

constexpr int max_projection_threads = 1024;  // 8 columns each: 64 heads of 128 in one turn

struct RopeProjectionLds {
  float sums[max_projection_threads / 32];
};

#if !defined(OCTET_HOST)
// Where the lanes of a head rotate: lane l of the first `half` with lane l + half; those beyond 2 * half do not.
template <int head_dim, bool partial>
struct Rotation {
  static constexpr int lanes = head_dim / kv_chunk;
  int half;

  OCTET_INLINE explicit Rotation(const RopeParams& params) : half(lanes / 2) {
    if constexpr (partial) half = params.rotary_dim / (2 * kv_chunk);
  }

  // This lane's cosines and sines, any where it does not rotate.
  OCTET_INLINE void load(const RopeParams& params, int32_t asked_position, int chunk, float (&cosine)[8],
                         float (&sine)[8]) const {
    const int64_t position = min_of(max_of(int64_t{asked_position}, int64_t{0}), params.max_position - 1);
    const int rotary_dim = partial ? 2 * half * kv_chunk : head_dim;
    const int column = partial ? (chunk < half ? chunk : min_of(chunk - half, half - 1)) : chunk % (lanes / 2);
    const float* table = params.cos_sin + position * rotary_dim + column * kv_chunk;
    load_columns(table, 0, kv_chunk, true, cosine);
    load_columns(table, rotary_dim / 2, kv_chunk, true, sine);
  }

  // Every lane of the wave takes part.
  OCTET_INLINE void rotate(int chunk, const float (&cosine)[8], const float (&sine)[8], float (&x)[8]) const {
    if constexpr (partial) {
      const bool rotates = chunk < 2 * half;
      const int partner_lane = lane_index() + (chunk < half ? half : rotates ? -half : 0);
      for (int i = 0; i < 8; i++) {
        const float partner = __shfl(x[i], partner_lane);
        const float rotated = x[i] * cosine[i] + (chunk < half ? -partner : partner) * sine[i];
        x[i] = rotates ? rotated : x[i];
      }
    } else {
      for (int i = 0; i < 8; i++) {
        const float partner = __shfl_xor(x[i], lanes / 2);
        x[i] = x[i] * cosine[i] + (chunk < lanes / 2 ? -partner : partner) * sine[i];
      }
    }
  }
};

// A chunk of a head that is done: of q to its output, of k into the cache.
template <int head_dim>
OCTET_INLINE void put_chunk(const RopeParams& params, bool is_q, int64_t token, int64_t slot, int head, int chunk,
                            float scale, const float (&x)[8]) {
  const KvCache& cache = params.cache;
  uint16_t* row = params.q_output + token * params.q_output_stride + head * head_dim + chunk * kv_chunk;
  if (!is_q) {
    const int64_t place = k_place(cache, slot, head, chunk);
    if (place < 0) return;
    if (cache.k_scales) return k_put_codes(cache.k + place, x, scale);
    row = reinterpret_cast<uint16_t*>(cache.k) + place;
  }
  store_columns(row, 0, kv_chunk, params.aligned || !is_q, x);
}

template <int head_dim, bool partial>
OCTET_INLINE void rope(const RopeParams& params) {
  constexpr int lanes = head_dim / kv_chunk;  // of one head of a token
  const KvCache& cache = params.cache;
  const int thread = static_cast<int>(threadIdx.x);
  int head = static_cast<int>(blockIdx.y);
  const bool is_q = head < params.q_heads, is_v = head >= params.q_heads + cache.kv_heads;
  head -= is_q ? 0 : is_v ? params.q_heads + cache.kv_heads : params.q_heads;
  const int64_t own = static_cast<int64_t>(blockIdx.x) * kv_tokens + (is_v ? thread % kv_tokens : thread / lanes);
  const int chunk = is_v ? thread / kv_tokens : thread % lanes;
  // Surplus threads follow the last token through the lane exchanges and write nothing.
  const int64_t token = min_of(own, params.tokens - 1);

  // Phase 1: all loads that wait for no other, at once. The position comes first, since the table is asked for by it:
  // loads come back in order. What a head does not need is read all the same, from the first row of x or the table
  // where there is nothing to read: a load under a condition would be waited for before the next.
  const int32_t asked_position = params.positions[token];
  const int64_t slot = params.slots[token];
  const uint16_t* rows = is_q ? params.q : is_v ? params.v : params.k;
  const int64_t stride = is_q ? params.q_stride : is_v ? params.v_stride : params.k_stride;
  const u32x4 pairs = bf16x8_pairs(rows + token * stride + head * head_dim + chunk * kv_chunk, params.aligned);
  const uint16_t* norm = is_q ? params.q_norm : params.k_norm;
  const uint16_t* weights = norm ? norm : rows;
  const u32x4 weight_pairs = bf16x8_pairs(weights + thread % lanes * kv_chunk, true);
  const float* scales = is_v ? cache.v_scales : cache.k_scales;
  const float scale = *(scales ? scales + (cache.scale_per_head && !is_q ? head : 0) : params.cos_sin);
  if (is_v) {
    const int64_t place = v_place(cache, slot, head, chunk);
    if (own == token && place >= 0) v_put(cache, place, pairs, scale);
    return;
  }
  const Rotation<head_dim, partial> rotation(params);
  float cosine[8], sine[8];
  rotation.load(params, asked_position, chunk, cosine, sine);

  schedule_fence();

  // Phase 2: the norm, while the table is on its way.
  float x[8], weight[8];
  bf16x8_widen(pairs, x);
  bf16x8_widen(weight_pairs, weight);
  float squares = 0.0f;
  for (int i = 0; i < 8; i++) squares += x[i] * x[i];
  for (int mask = lanes / 2; mask > 0; mask /= 2) squares += __shfl_xor(squares, mask);
  const float inverse = rsqrt_fast(squares / head_dim + params.eps);
  for (int i = 0; i < 8; i++) x[i] = norm ? x[i] * inverse * weight[i] : x[i];

  // Phase 3: the rotation.
  rotation.rotate(chunk, cosine, sine, x);
  if (own == token) put_chunk<head_dim>(params, is_q, token, slot, head, chunk, scale, x);
}

OCTET_KERNEL(rope_d64, RopeParams, 128) { rope<64, false>(params); }
OCTET_KERNEL(rope_d128, RopeParams, 256) { rope<128, false>(params); }
OCTET_KERNEL(rope_partial_d64, RopeParams, 128) { rope<64, true>(params); }
OCTET_KERNEL(rope_partial_d128, RopeParams, 256) { rope<128, true>(params); }

// Blocks: the q of each token, the k of each, then the tiles of V as in rope, of kv_tokens * lanes threads.
template <int head_dim>
OCTET_INLINE void rope_projection(const RopeParams& params) {
  constexpr int lanes = head_dim / kv_chunk;
  const KvCache& cache = params.cache;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int64_t work = blockIdx.x;
  if (work >= 2 * params.tokens) {
    const int64_t tiles = ceil_div(params.tokens, kv_tokens), tile = work - 2 * params.tokens;
    const int64_t token = tile % tiles * kv_tokens + thread % kv_tokens;
    const int head = static_cast<int>(tile / tiles), chunk = thread / kv_tokens;
    if (token >= params.tokens || chunk >= lanes) return;
    const uint16_t* row = params.v + token * params.v_stride + head * head_dim + chunk * kv_chunk;
    const u32x4 pairs = bf16x8_pairs(row, params.aligned);
    const int64_t place = v_place(cache, params.slots[token], head, chunk);
    if (place >= 0) v_put(cache, place, pairs, kv_scale(cache, cache.v_scales, head));
    return;
  }
  const bool is_q = work < params.tokens;
  const int64_t token = is_q ? work : work - params.tokens;
  const int chunks = (is_q ? params.q_heads : cache.kv_heads) * lanes;
  if (chunks == 0) return;
  const uint16_t* row = is_q ? params.q + token * params.q_stride : params.k + token * params.k_stride;
  const uint16_t* norm = is_q ? params.q_norm : params.k_norm;
  const int32_t position = params.positions[token];
  const int64_t slot = params.slots[token];
  const Rotation<head_dim, true> rotation(params);

  // What becomes of a chunk, asked for at once. Surplus threads follow the last one through the lane exchanges and
  // write nothing.
  struct Chunk {
    int at;
    bool own;
    u32x4 pairs, weights;
    float cosine[8], sine[8];
  };
  const auto load = [&](int first) {
    Chunk chunk;
    chunk.at = min_of(first + thread, chunks - 1);
    chunk.own = first + thread < chunks;
    chunk.pairs = bf16x8_pairs(row + chunk.at * kv_chunk, params.aligned);
    chunk.weights = bf16x8_pairs((norm ? norm : row) + chunk.at * kv_chunk, norm || params.aligned);
    rotation.load(params, position, chunk.at % lanes, chunk.cosine, chunk.sine);
    return chunk;
  };

  // Phase 1: the sum of squares over all heads: along a thread's chunks, over the wave, over the waves.
  auto& lds = OCTET_LDS(RopeProjectionLds);
  float squares = 0.0f;
  const auto add = [&](u32x4 pairs) {
    float x[8];
    bf16x8_widen(pairs, x);
    for (int i = 0; i < 8; i++) squares += x[i] * x[i];
  };
  const Chunk held = load(0);
  schedule_fence();
  if (held.own) add(held.pairs);
  for (int at = threads + thread; at < chunks; at += threads) add(bf16x8_pairs(row + at * kv_chunk, params.aligned));
  squares = wave_sum(squares);
  if (lane_index() == 0) lds.sums[wave_index()] = squares;
  __syncthreads();
  const int waves = threads / wave_size;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < max_projection_threads / wave_size; i++) {
    const float part = lds.sums[min_of(i, waves - 1)];
    sum += i < waves ? part : 0.0f;
  }
  const float inverse = rsqrt_fast(sum / static_cast<float>(chunks * kv_chunk) + params.eps);

  // Phase 2: the norm and the rotation. A wave without a chunk is done.
  const auto finish = [&](const Chunk& chunk) {
    float x[8], weight[8];
    bf16x8_widen(chunk.pairs, x);
    bf16x8_widen(chunk.weights, weight);
    for (int i = 0; i < 8; i++) x[i] = norm ? x[i] * inverse * weight[i] : x[i];
    rotation.rotate(chunk.at % lanes, chunk.cosine, chunk.sine, x);
    if (!chunk.own) return;
    const int head = chunk.at / lanes;
    const float scale = kv_scale(cache, cache.k_scales, is_q ? 0 : head);
    put_chunk<head_dim>(params, is_q, token, slot, head, chunk.at % lanes, scale, x);
  };
  const int wave_begin = wave_index() * wave_size;
  if (wave_begin < chunks) finish(held);
  for (int first = threads; first + wave_begin < chunks; first += threads) finish(load(first));
}

OCTET_KERNEL(rope_projection_d64, RopeParams, max_projection_threads) { rope_projection<64>(params); }
OCTET_KERNEL(rope_projection_d128, RopeParams, max_projection_threads) { rope_projection<128>(params); }
#endif

#if defined(OCTET_HOST)
#include <algorithm>

namespace octet {
namespace {

const octet_rope_args& rope_checked(const octet_rope_args* pointer) {
  const auto& args = checked("rope", pointer);
  require_range("rope", "tokens", args.tokens, 0, max_blocks(256));
  require_range("rope", "q_heads", args.q_heads, 0, max_heads);
  return args;
}

}  // namespace
}  // namespace octet

using namespace octet;

extern "C" octet_status octet_rope(const octet_rope_args* pointer, octet_stream* stream) {
  return guarded([&] {
    const auto& args = rope_checked(pointer);
    const DeviceFacts& device = facts(stream);
    const KvCache cache = kv_cache_of("rope", args.cache, device);
    if (args.tokens == 0) return;
    if (args.q_heads > 0) {
      require_heads("rope", "q", args.q, args.q_stride, args.q_heads, cache.head_dim);
      require_heads("rope", "q_output", args.q_output, args.q_output_stride, args.q_heads, cache.head_dim);
    }
    require_heads("rope", "k", args.k, args.k_stride, cache.kv_heads, cache.head_dim);
    require_heads("rope", "v", args.v, args.v_stride, cache.kv_heads, cache.head_dim);
    require_pointer_or_null("rope", "q_norm", args.q_norm);
    require_pointer_or_null("rope", "k_norm", args.k_norm);
    require_pointer("rope", "cos_sin", args.cos_sin);
    require_pointer("rope", "positions", args.positions);
    require_pointer("rope", "slots", args.slots);
    require_range("rope", "max_position", args.max_position, 1, INT32_MAX);
    const int32_t rotary_dim = args.rotary_dim == 0 ? cache.head_dim : args.rotary_dim;
    require(rotary_dim >= 16 && rotary_dim <= cache.head_dim && rotary_dim % 16 == 0,
            "rope: rotary_dim = %d must be a multiple of 16 up to head_dim = %d, or 0: all of it", args.rotary_dim,
            cache.head_dim);
    const int64_t strides = args.q_stride | args.k_stride | args.v_stride | args.q_output_stride;
    const RopeParams params = {static_cast<const uint16_t*>(args.q),
                               static_cast<const uint16_t*>(args.k),
                               static_cast<const uint16_t*>(args.v),
                               static_cast<const uint16_t*>(args.q_norm),
                               static_cast<const uint16_t*>(args.k_norm),
                               args.cos_sin,
                               args.positions,
                               args.slots,
                               static_cast<uint16_t*>(args.q_output),
                               cache,
                               args.tokens,
                               args.max_position,
                               args.q_stride,
                               args.k_stride,
                               args.v_stride,
                               args.q_output_stride,
                               args.q_heads,
                               args.eps,
                               strides % kv_chunk == 0,
                               rotary_dim};
    const bool d64 = cache.head_dim == 64;
    if (args.norm_projection && (args.q_norm || args.k_norm)) {
      const int lanes = cache.head_dim / kv_chunk;
      const int chunks = std::max(args.q_heads, cache.kv_heads) * lanes;
      const int waves =
          (std::clamp(chunks, kv_tokens * lanes, max_projection_threads) + device.wave_size - 1) / device.wave_size;
      const int64_t blocks = 2 * args.tokens + (args.tokens + kv_tokens - 1) / kv_tokens * cache.kv_heads;
      require(blocks <= max_blocks(max_projection_threads), "rope: tokens = %lld are too many for one launch",
              static_cast<long long>(args.tokens));
      launch(stream, d64 ? "rope_projection_d64" : "rope_projection_d128", Grid{static_cast<uint32_t>(blocks)}, waves,
             sizeof(RopeProjectionLds), params);
      return;
    }
    const Grid grid = {static_cast<uint32_t>((args.tokens + kv_tokens - 1) / kv_tokens),
                       static_cast<uint32_t>(args.q_heads + 2 * cache.kv_heads), 1};
    const char* kernel = d64 ? "rope_d64" : "rope_d128";
    if (rotary_dim < cache.head_dim) kernel = d64 ? "rope_partial_d64" : "rope_partial_d128";
    launch(stream, kernel, grid, kv_tokens * cache.head_dim / kv_chunk / device.wave_size, 0, params);
  });
}

extern "C" octet_status octet_rope_workspace(const octet_rope_args* pointer, octet_device*, size_t* size) {
  return guarded([&] {
    rope_checked(pointer);
    require(size != nullptr, "rope: size is null");
    *size = 0;
  });
}
#endif
