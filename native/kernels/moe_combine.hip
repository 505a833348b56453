// moe_combine: output[t] = sum over choices c, by ascending slot, of weights[t, c] * y[pair_slots[t*top_k + c]], f32, then
// bf16; or a tree over neighbouring groups of experts.
//
// A thread takes eight columns of a token, or four of a decode step's. norm does the same sum on its way in (moe_combine.h).
//
// Floor at Qwen3-235B: 16,384 tokens: 1.21 GB (8 rows of 4,096 bf16 in, one out), 249 us at 4.86 TB/s.
#include <octet.h>
#include <stdint.h>

constexpr int combine_threads = 256, combine_run = 8;  // columns a thread
constexpr int combine_few_run = 4;                     // of a decode step, in blocks of one wave

struct MoeCombineParams {
  const uint16_t* y;          // [slots, hidden] bf16
  const int32_t* pair_slots;  // [tokens, top_k]
  const float* weights;       // [tokens, top_k]
  const int32_t* pair_experts;  // [tokens, top_k]; not read with one leaf
  uint16_t* output;           // [tokens, hidden] bf16
  int64_t tokens, hidden;
  int64_t y_stride, output_stride;
  int32_t top_k;
  int32_t leaves;  // 1, 2, 4 or 8
  int32_t first_expert;
  uint32_t leaf_reciprocal;
  uint32_t column_shift;  // 1 << column_shift blocks to a token: a power of two, so that none has to divide
  bool aligned;
};

#include "moe_combine.h"

#if !defined(OCTET_HOST)

template <int run>
OCTET_INLINE void moe_combine_kernel(const MoeCombineParams& params) {
  const int64_t token = blockIdx.x >> params.column_shift;
  const uint32_t column_block = blockIdx.x - (static_cast<uint32_t>(token) << params.column_shift);
  const int64_t column = (column_block * blockDim.x + threadIdx.x) * int64_t{run};
  const int64_t count = params.hidden - column;
  const PairSum pairs{params.y, params.pair_slots, params.weights, params.pair_experts, params.tokens, params.y_stride,
                      params.top_k, params.leaves, params.first_expert, params.leaf_reciprocal};
  float sum[run];
  pairs.load(pairs.choices(token), column, count, params.aligned, sum);
  store_columns(params.output + token * params.output_stride, column, count, params.aligned, sum);
}

OCTET_KERNEL(moe_combine_rows, MoeCombineParams, combine_threads) { moe_combine_kernel<combine_run>(params); }
OCTET_KERNEL(moe_combine_few, MoeCombineParams, wave_size) { moe_combine_kernel<combine_few_run>(params); }
#endif

#if defined(OCTET_HOST)
#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

// Elements of the combined output up to which moe_combine_few serves: a decode step leaves CUs idle in any case, and
// what a lane does for its columns is the length of the launch.
constexpr int64_t combine_few = 64 * 4096;

}  // namespace
}  // namespace octet

extern "C" octet_status octet_moe_combine(const octet_moe_combine_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "moe_combine";
    const auto& args = checked(op, pointer);
    require(stream != nullptr, "moe_combine: stream is null");
    require_pairs(op, args.tokens, args.top_k);
    require_range(op, "hidden", args.hidden, 0, INT32_MAX);
    require_range(op, "y_stride", args.y_stride, args.hidden, max_stride);
    require_range(op, "output_stride", args.output_stride, args.hidden, max_stride);
    const int wave_size = facts(stream).wave_size;
    const bool few = args.tokens * args.hidden <= combine_few;
    const int threads = few ? wave_size : combine_threads;
    int column_shift = 0;
    while (args.hidden > int64_t{few ? combine_few_run : combine_run} * threads << column_shift) column_shift++;
    const int64_t blocks = args.hidden == 0 ? 0 : args.tokens << column_shift;
    require(blocks <= max_blocks(threads), "moe_combine: tokens = %lld by hidden = %lld are too many for one launch",
            static_cast<long long>(args.tokens), static_cast<long long>(args.hidden));
    require_expert_leaves(op, args.pair_experts, args.first_expert, args.leaf_experts, args.leaves);
    if (blocks == 0) return;
    require_pointer(op, "y", args.y);
    require_pointer(op, "pair_slots", args.pair_slots);
    require_pointer(op, "weights", args.weights);
    require_pointer(op, "output", args.output);
    const MoeCombineParams params{
        .y = static_cast<const uint16_t*>(args.y),
        .pair_slots = args.pair_slots,
        .weights = args.weights,
        .pair_experts = args.pair_experts,
        .output = static_cast<uint16_t*>(args.output),
        .tokens = args.tokens,
        .hidden = args.hidden,
        .y_stride = args.y_stride,
        .output_stride = args.output_stride,
        .top_k = args.top_k,
        .leaves = args.leaves > 1 ? args.leaves : 1,
        .first_expert = args.first_expert,
        .leaf_reciprocal = leaf_reciprocal(args.leaf_experts),
        .column_shift = static_cast<uint32_t>(column_shift),
        .aligned = args.y_stride % 8 == 0 && args.output_stride % 8 == 0,
    };
    launch(stream, few ? "moe_combine_few" : "moe_combine_rows", Grid{static_cast<uint32_t>(blocks)}, threads / wave_size, 0, params);
  });
}
#endif
