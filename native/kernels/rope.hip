// rope: per token, optional RMSNorm of each q and k head (QK-norm), rotary embedding in the rotate-half form, q to
// q_output, k and v rounded into the paged cache. One launch.
//
//   y = x / sqrt(mean(x^2) + eps) * weight                      over the head_dim values of a head
//   out[i] = y[i] cos[i] - y[i + d/2] sin[i];  out[i + d/2] = y[i + d/2] cos[i] + y[i] sin[i]     i < d/2 = head_dim/2
//
// All in f32, rounded once. q, k, v [tokens, heads, head_dim] bf16. A block of threads serves 16 tokens of one head;
// grid: token tiles x (q heads, k heads, v heads). A thread takes 8 dims, so a head of a token is 16 (head_dim 128) or
// 8 neighbouring lanes: sums and the rotation's partner travel by lane exchange within them, in the same order on every
// wave size. For V, threads that share dims are neighbours along the tokens (kv_cache.h).
//
// Floor: 64 q and 4 KV heads of 128 dims, one token: 35 KB; 64 tokens 2.3 MB, 0.5 us at 4.86 TB/s: launch latency
// rules.
#include "kv_cache.h"

struct RopeParams {
  const uint16_t* q;       // [tokens, q_heads, head_dim] bf16
  const uint16_t* k;       // [tokens, kv_heads, head_dim] bf16
  const uint16_t* v;       // [tokens, kv_heads, head_dim] bf16
  const uint16_t* q_norm;  // [head_dim] bf16, or null
  const uint16_t* k_norm;  // [head_dim] bf16, or null
  const float* cos_sin;    // [max_position, head_dim]
  const int32_t* positions;
  const int64_t* slots;
  uint16_t* q_output;  // [tokens, q_heads, head_dim] bf16
  KvCache cache;
  int64_t tokens, max_position;
  int64_t q_stride, k_stride, v_stride, q_output_stride;
  int32_t q_heads;
  float eps;
  int32_t aligned;  // 1: every chunk of q, k, v and q_output lies on 16 bytes
};

#if !defined(OCTET_HOST)
template <int head_dim>
OCTET_INLINE void rope(const RopeParams& params) {
  constexpr int lanes = head_dim / kv_chunk;  // of one head of a token
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kv_tokens;
  int head = static_cast<int>(blockIdx.y);
  if (head >= params.q_heads + params.cache.kv_heads) {
    v_write_tokens(params.cache, params.v, params.v_stride, params.aligned, params.slots, first, params.tokens,
                   head - params.q_heads - params.cache.kv_heads);
    return;
  }
  const bool is_q = head < params.q_heads;
  if (!is_q) head -= params.q_heads;
  const bool inside = first + threadIdx.x / lanes < params.tokens;
  // Surplus threads follow the last token through the lane exchanges and write nothing.
  const int64_t token = inside ? first + threadIdx.x / lanes : params.tokens - 1;
  const int chunk = static_cast<int>(threadIdx.x) % lanes;

  const uint16_t* row = is_q ? params.q + token * params.q_stride : params.k + token * params.k_stride;
  float x[8];
  load_columns(row, head * head_dim + chunk * kv_chunk, kv_chunk, params.aligned, x);

  const uint16_t* norm = is_q ? params.q_norm : params.k_norm;
  if (norm) {
    float squares = 0.0f;
    for (int i = 0; i < 8; i++) squares += x[i] * x[i];
    for (int mask = lanes / 2; mask > 0; mask /= 2) squares += __shfl_xor(squares, mask);
    const float inverse = rsqrt_fast(squares / head_dim + params.eps);
    float weight[8];
    load_columns(norm, chunk * kv_chunk, kv_chunk, true, weight);
    for (int i = 0; i < 8; i++) x[i] = x[i] * inverse * weight[i];
  }

  const int64_t position = min_of(max_of(int64_t{params.positions[token]}, int64_t{0}), params.max_position - 1);
  const float* table = params.cos_sin + position * head_dim;
  const int angle = chunk % (lanes / 2) * kv_chunk;
  float cosine[8], sine[8];
  load_columns(table, angle, kv_chunk, true, cosine);
  load_columns(table, head_dim / 2 + angle, kv_chunk, true, sine);
  for (int i = 0; i < 8; i++) {
    const float partner = __shfl_xor(x[i], lanes / 2);
    x[i] = x[i] * cosine[i] + (chunk < lanes / 2 ? -partner : partner) * sine[i];
  }

  if (!inside) return;
  if (is_q) {
    store_columns(params.q_output + token * params.q_output_stride, head * head_dim + chunk * kv_chunk, kv_chunk,
                  params.aligned, x);
  } else {
    k_write(params.cache, params.slots[token], head, chunk, x);
  }
}

OCTET_KERNEL(rope_d64, RopeParams, 128) { rope<64>(params); }
OCTET_KERNEL(rope_d128, RopeParams, 256) { rope<128>(params); }
#endif

#if defined(OCTET_HOST)
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
                               strides % kv_chunk == 0};
    const Grid grid = {static_cast<uint32_t>((args.tokens + kv_tokens - 1) / kv_tokens),
                       static_cast<uint32_t>(args.q_heads + 2 * cache.kv_heads), 1};
    const char* kernel = cache.head_dim == 64 ? "rope_d64" : "rope_d128";
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
