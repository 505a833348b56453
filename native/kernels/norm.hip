// norm: RMSNorm with an optional residual add before it and an optional FP8 quantisation behind it.
//
//   h = x, or bf16(x + residual), written back to residual
//   x in bf16; or the bf16 of a sum: of partial sums of a split GEMM in order or by the tree (leaf_tree.h), of a
//   token's MoE slots (moe_combine.h), or of the nodes of a tree that ranks hold
//
//   y = h / sqrt(mean(h^2) + eps) * weight
//
//   output = bf16(y); quantized, scales = quantize(y in f32), one scale per token and 128 columns
//
// x, residual, output [tokens, hidden] bf16; weight [hidden] bf16; quantized [tokens, hidden] FP8. One block of 512
// threads serves one token. A thread takes 8 columns at a time, so 16 neighbouring lanes hold a scale block
// (columns.h). What 512 threads take in one turn, 4,096 columns, stays in registers; of wider rows the second phase
// reads the rest of h again from the cache, each thread only columns it wrote itself. The sum of squares has an order
// fixed by hidden and the wave size: along a thread's columns, over the wave, over the waves.
//
// Floor: 7 bytes an element with residual and FP8 (x, residual twice, codes). Hidden 4096, 4096 tokens: 117 MB, 24 us
// at 4.86 TB/s; one token is launch latency.
#include <stdint.h>

constexpr int norm_threads = 512;

struct NormParams {
  const void* x;                // [tokens, hidden] bf16, [segments, tokens, hidden] f32 or [tokens*top_k, hidden] bf16
  uint16_t* residual;           // [tokens, hidden] bf16, or null
  const uint16_t* weight;       // [hidden] bf16
  uint16_t* output;             // [tokens, hidden] bf16, or null
  uint8_t* quantized;           // [tokens, hidden] FP8, or null
  float* scales;                // [tokens, ceil(hidden/128)]
  const int32_t* pair_slots;    // [tokens, top_k], or null: nothing to combine
  const float* pair_weights;    // [tokens, top_k]
  const int32_t* pair_experts;  // [tokens, top_k]; not read with one leaf
  const uint16_t* nodes[8];     // [tokens, hidden] bf16 each, x_stride apart
  int64_t tokens, hidden;
  int64_t x_segment_stride;
  int32_t segments;  // 0: no partial sums
  int32_t leaves;    // of the partial sums or of the slots
  int32_t node_count;
  int32_t top_k;
  int32_t first_expert;
  uint32_t leaf_reciprocal;
  int64_t x_stride, residual_stride, output_stride, quantized_stride, scale_stride;
  float eps;
  int32_t fnuz;     // the encoding of quantized
  int32_t aligned;  // 1: every run of 8 columns lies on 16 bytes (8 in quantized)
};

struct NormLds {
  float sums[norm_threads / 32];
};

#include "moe_combine.h"

#if !defined(OCTET_HOST)
constexpr int norm_step = norm_threads * 8;  // columns of one turn of the block

// What x is: itself, partial sums, those of a tree, the slots of a token's pairs, or the nodes of a tree.
enum class NormSource { rows, partials, leaves, slots, nodes };

OCTET_INLINE PairSum pair_sum(const NormParams& params) {
  return {static_cast<const uint16_t*>(params.x),
          params.pair_slots,
          params.pair_weights,
          params.pair_experts,
          params.tokens,
          params.x_stride,
          params.top_k,
          params.leaves,
          params.first_expert,
          params.leaf_reciprocal};
}

// Eight columns of x, rounded to bf16 where they are a sum. Every lane of the wave takes part.
template <NormSource source>
OCTET_INLINE void norm_load(const NormParams& params, int64_t token, const PairSum::Choices& choices, int64_t column,
                            int64_t count, float (&x)[8]) {
  const bool aligned = params.aligned;
  if constexpr (source == NormSource::partials) {
    for (int i = 0; i < 8; i++) x[i] = 0.0f;
    const float* row = static_cast<const float*>(params.x) + token * params.x_stride;
    constexpr int batch = 4;  // segments on their way together
    const bool whole = aligned && count >= 8;
    for (int first = 0; first < params.segments; first += batch) {
      float part[batch][8];
      // Past the last segment it is read again, and 0 is added, which changes no bit of a sum that began at 0.
      const auto segment = [&](int s) {
        return row + min_of(first + s, params.segments - 1) * params.x_segment_stride;
      };
      if (whole) {
#pragma unroll
        for (int s = 0; s < batch; s++) load_columns(segment(s), column, 8, true, part[s]);
      } else {
#pragma unroll
        for (int s = 0; s < batch; s++) load_columns(segment(s), column, count, false, part[s]);
      }
#pragma unroll
      for (int s = 0; s < batch; s++) {
        for (int i = 0; i < 8; i++) x[i] += first + s < params.segments ? part[s][i] : 0.0f;
      }
    }
  } else if constexpr (source == NormSource::leaves) {
    const float* row = static_cast<const float*>(params.x) + token * params.x_stride;
    const int length = params.segments / params.leaves;
    const auto load = [&](int segment, auto whole, float(&part)[8]) {
      load_columns(row + segment * params.x_segment_stride, column, whole.value ? 8 : count, whole.value != 0, part);
    };
    if (length == 1) {
      tree_of(params.leaves, aligned && count >= 8, load, x);
    } else {
      tree_of_segments(
          params.leaves, length, aligned && count >= 8, load, [](int, float(&)[8]) {}, x);
    }
    return;
  } else if constexpr (source == NormSource::nodes) {
    const auto load = [&](int node, auto whole, float(&part)[8]) {
      load_columns(params.nodes[node] + token * params.x_stride, column, whole.value ? 8 : count, whole.value != 0,
                   part);
    };
    tree_of(params.node_count, aligned && count >= 8, load, x);
    return;
  } else if constexpr (source == NormSource::slots) {
    pair_sum(params).load(choices, column, count, aligned, x);
  } else {
    load_columns(static_cast<const uint16_t*>(params.x) + token * params.x_stride, column, count, aligned, x);
    return;
  }
  for (int i = 0; i < 8; i++) x[i] = bf16_to_f32(f32_to_bf16(x[i]));
}

// The codes and the scale of a block; every lane of the wave takes part.
template <Fp8 E>
OCTET_INLINE void norm_quantize(const NormParams& params, int64_t token, int64_t column, int64_t count,
                                const float (&y)[8]) {
  const float scale = block_scale<E>(y);
  if (count > 0 && column % 128 == 0) params.scales[token * params.scale_stride + column / 128] = scale;
  store_codes<E>(params.quantized + token * params.quantized_stride, column, count, params.aligned, y, scale);
}

template <NormSource source>
OCTET_INLINE void norm_kernel(const NormParams& params) {
  NormLds& lds = OCTET_LDS(NormLds);
  const int64_t token = blockIdx.x;
  const bool aligned = params.aligned;
  uint16_t* residual = params.residual ? params.residual + token * params.residual_stride : nullptr;

  PairSum::Choices choices{};
  if constexpr (source == NormSource::slots) choices = pair_sum(params).choices(token);
  // NOTE: nodes may lie in peers' memory, and group_sync's acquire was that of one CU: what this one has cached is older.
  if constexpr (source == NormSource::nodes) system_acquire();

  // Phase 1: h and its sum of squares. All lanes make the same turns, here for the exchange of choices.
  float squares = 0.0f;
  const auto take = [&](int64_t base, float(&h)[8]) {
    const int64_t column = base + threadIdx.x * 8;
    const int64_t count = params.hidden - column;
    norm_load<source>(params, token, choices, column, count, h);
    if (residual) {
      float added[8];
      load_columns(residual, column, count, aligned, added);
      for (int i = 0; i < 8; i++) h[i] = bf16_to_f32(f32_to_bf16(h[i] + added[i]));
      store_columns(residual, column, count, aligned, h);
    }
    for (int i = 0; i < 8; i++) squares += h[i] * h[i];
  };
  float first[8], first_weight[8];
  load_columns(params.weight, threadIdx.x * 8, params.hidden - threadIdx.x * 8, aligned, first_weight);
  take(0, first);
  for (int64_t base = norm_step; base < params.hidden; base += norm_step) {
    float h[8];
    take(base, h);
  }
  const float mean = block_sum<norm_threads>(squares, lds.sums) / static_cast<float>(params.hidden);
  const float inverse = rsqrt_fast(mean + params.eps);

  // Phase 2: y and what was asked of it. Again the same turns, for the exchange inside a scale block.
  const auto give = [&](int64_t base, float(&y)[8], const float(&weight)[8]) {
    const int64_t column = base + threadIdx.x * 8;
    const int64_t count = params.hidden - column;
    for (int i = 0; i < 8; i++) y[i] = i < count ? y[i] * inverse * weight[i] : 0.0f;
    if (params.output) store_columns(params.output + token * params.output_stride, column, count, aligned, y);
    if (!params.quantized) return;
    if (params.fnuz) {
      norm_quantize<Fp8::fnuz>(params, token, column, count, y);
    } else {
      norm_quantize<Fp8::ocp>(params, token, column, count, y);
    }
  };
  give(0, first, first_weight);
  for (int64_t base = norm_step; base < params.hidden; base += norm_step) {
    const int64_t column = base + threadIdx.x * 8;
    const int64_t count = params.hidden - column;
    float y[8], weight[8];
    if (residual) {
      load_columns(residual, column, count, aligned, y);
    } else {
      norm_load<source>(params, token, choices, column, count, y);
    }
    load_columns(params.weight, column, count, aligned, weight);
    give(base, y, weight);
  }
}

OCTET_KERNEL(norm_row, NormParams, norm_threads) { norm_kernel<NormSource::rows>(params); }
OCTET_KERNEL(norm_row_partials, NormParams, norm_threads) { norm_kernel<NormSource::partials>(params); }
OCTET_KERNEL(norm_row_leaves, NormParams, norm_threads) { norm_kernel<NormSource::leaves>(params); }
OCTET_KERNEL(norm_row_nodes, NormParams, norm_threads) { norm_kernel<NormSource::nodes>(params); }
OCTET_KERNEL(norm_row_slots, NormParams, norm_threads) { norm_kernel<NormSource::slots>(params); }
#endif

#if defined(OCTET_HOST)
#include <algorithm>

#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

const octet_norm_args& norm_checked(const octet_norm_args* pointer) {
  const auto& args = checked("norm", pointer);
  require_range("norm", "tokens", args.tokens, 0, max_blocks(norm_threads));
  require_range("norm", "hidden", args.hidden, 0, INT32_MAX);
  require_range("norm", "x_stride", args.x_stride, args.hidden, max_stride);
  if (args.residual) require_range("norm", "residual_stride", args.residual_stride, args.hidden, max_stride);
  if (args.output) require_range("norm", "output_stride", args.output_stride, args.hidden, max_stride);
  if (args.quantized) {
    require_range("norm", "quantized_stride", args.quantized_stride, args.hidden, max_stride);
    require_range("norm", "scale_stride", args.scale_stride, (args.hidden + OCTET_SCALE_BLOCK - 1) / OCTET_SCALE_BLOCK,
                  max_stride);
    require(args.fp8_dtype == OCTET_F8_E4M3 || args.fp8_dtype == OCTET_F8_E4M3_FNUZ,
            "norm: fp8_dtype = %d must be OCTET_F8_E4M3 (2) or OCTET_F8_E4M3_FNUZ (3)",
            static_cast<int>(args.fp8_dtype));
  }
  require_range("norm", "x_segments", args.x_segments, 0, 1 << 16);
  require_range("norm", "x_segment_stride", args.x_segment_stride, 0, max_stride);
  if (args.pair_slots) {
    require(args.x_segments == 0, "norm: x_segments = %d and pair_slots exclude each other", args.x_segments);
    require_range("norm", "top_k", args.top_k, 1, 16);
  }
  require(args.x_leaves == 0 || args.x_leaves == 1 || args.x_leaves == 2 || args.x_leaves == 4 || args.x_leaves == 8,
          "norm: x_leaves = %d must be 0, 1, 2, 4 or 8", args.x_leaves);
  require(args.x_leaves == 0 ||
              (args.x_segments > 0 && (args.x_segments % args.x_leaves == 0 || args.x_leaves % args.x_segments == 0)),
          "norm: x_leaves = %d must divide, or be a multiple of, x_segments = %d", args.x_leaves, args.x_segments);
  require(args.pair_slots != nullptr || (args.pair_experts == nullptr && args.leaves == 0),
          "norm: pair_experts and leaves = %d go with pair_slots, which is null", args.leaves);
  require_expert_leaves("norm", args.pair_experts, args.first_expert, args.leaf_experts, args.leaves);
  require(args.node_count == 0 || args.node_count == 2 || args.node_count == 4 || args.node_count == 8,
          "norm: node_count = %d must be 0, 2, 4 or 8", args.node_count);
  require(args.node_count == 0 || (args.x == nullptr && args.x_segments == 0 && args.pair_slots == nullptr),
          "norm: node_count = %d, x = %p, x_segments = %d and pair_slots exclude each other", args.node_count, args.x,
          args.x_segments);
  require(args.eps >= 0.0f && args.eps < __builtin_inff(), "norm: eps = %g must be finite and not negative",
          static_cast<double>(args.eps));
  return args;
}

}  // namespace
}  // namespace octet

extern "C" octet_status octet_norm(const octet_norm_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    const auto& args = norm_checked(pointer);
    require(stream != nullptr, "norm: stream is null");
    if (args.tokens == 0 || args.hidden == 0) return;
    if (args.node_count == 0) require_pointer("norm", "x", args.x);
    for (int i = 0; i < args.node_count; i++) require_pointer("norm", "nodes", args.nodes[i]);
    require_pointer("norm", "weight", args.weight);
    require_pointer_or_null("norm", "residual", args.residual);
    require_pointer_or_null("norm", "pair_slots", args.pair_slots);
    if (args.pair_slots) require_pointer("norm", "pair_weights", args.pair_weights);
    require_pointer_or_null("norm", "output", args.output);
    require_pointer_or_null("norm", "quantized", args.quantized);
    require_pointer_or_null("norm", "scales", args.scales);
    require(args.output || args.quantized, "norm: output and quantized are both null");
    require((args.quantized == nullptr) == (args.scales == nullptr), "norm: quantized = %p and scales = %p go together",
            args.quantized, static_cast<void*>(args.scales));
    const auto on_eight = [](const void* pointer, int64_t stride) { return pointer == nullptr || stride % 8 == 0; };
    // Of the slots or the partial sums; fewer partial sums than leaves are nodes.
    const int32_t leaves = args.pair_slots ? args.leaves : std::min(args.x_leaves, args.x_segments);
    NormParams params{
        .x = args.x,
        .residual = static_cast<uint16_t*>(args.residual),
        .weight = static_cast<const uint16_t*>(args.weight),
        .output = static_cast<uint16_t*>(args.output),
        .quantized = static_cast<uint8_t*>(args.quantized),
        .scales = args.scales,
        .pair_slots = args.pair_slots,
        .pair_weights = args.pair_weights,
        .pair_experts = args.pair_experts,
        .nodes = {},
        .tokens = args.tokens,
        .hidden = args.hidden,
        .x_segment_stride = args.x_segment_stride,
        .segments = args.x_segments,
        .leaves = leaves > 1 ? leaves : 1,
        .node_count = args.node_count,
        .top_k = args.top_k,
        .first_expert = args.first_expert,
        .leaf_reciprocal = leaf_reciprocal(args.leaf_experts),
        .x_stride = args.x_stride,
        .residual_stride = args.residual_stride,
        .output_stride = args.output_stride,
        .quantized_stride = args.quantized_stride,
        .scale_stride = args.scale_stride,
        .eps = args.eps,
        .fnuz = args.fp8_dtype == OCTET_F8_E4M3_FNUZ,
        .aligned = args.x_stride % 8 == 0 && args.x_segment_stride % 8 == 0 &&
                   on_eight(args.residual, args.residual_stride) && on_eight(args.output, args.output_stride) &&
                   on_eight(args.quantized, args.quantized_stride),
    };
    for (int i = 0; i < args.node_count; i++) params.nodes[i] = static_cast<const uint16_t*>(args.nodes[i]);
    const char* kernel = args.pair_slots        ? "norm_row_slots"
                         : args.node_count > 0  ? "norm_row_nodes"
                         : args.x_segments == 0 ? "norm_row"
                         : params.leaves > 1    ? "norm_row_leaves"
                                                : "norm_row_partials";
    launch(stream, kernel, Grid{static_cast<uint32_t>(args.tokens)}, norm_threads / facts(stream).wave_size,
           sizeof(NormLds), params);
  });
}

extern "C" octet_status octet_norm_workspace(const octet_norm_args* pointer, octet_device* device, size_t* size) {
  using namespace octet;
  return guarded([&] {
    norm_checked(pointer);
    require(device != nullptr, "norm: device is null");
    require(size != nullptr, "norm: size is null");
    *size = 0;
  });
}
#endif
