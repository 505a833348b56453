// activation: y = silu(gate) * up, as bf16 or as FP8 with one scale per row and 128 columns, quantised from y in f32.
//
// gate, up, output [rows, columns]. A lane takes eight columns, so 16 lanes hold a scale block; a block of 256 threads
// takes 16 such runs of 128 columns, numbered along the rows. Each is on its own: nothing depends on the other rows.
//
// Floor: 5 bytes an element with FP8 output. 4,096 rows of 12,288 columns (a dense MLP of the family): 252 MB, 52 us at
// 4.86 TB/s.
#include <octet.h>
#include <stdint.h>

constexpr int activation_threads = 256;
constexpr int activation_runs = activation_threads / 16;  // of 128 columns in a block

struct ActivationParams {
  const uint16_t* gate;  // [rows, columns] bf16
  const uint16_t* up;    // [rows, columns] bf16
  void* output;          // [rows, columns] bf16 or FP8
  float* scales;         // [rows, runs] with FP8
  int64_t rows, columns;
  int64_t runs;  // of 128 columns in a row
  int64_t gate_stride, up_stride, output_stride, scale_stride;
  bool aligned;
};

#if !defined(OCTET_HOST)
#include "columns.h"

// Eight columns of y and where they lie; count <= 0 where this lane has none.
struct ActivationColumns {
  int64_t row, column, count;
  float y[8];
  OCTET_INLINE explicit ActivationColumns(const ActivationParams& p) {
    const int64_t run = static_cast<int64_t>(blockIdx.x) * activation_runs + threadIdx.x / 16;
    row = min_of(run / p.runs, p.rows - 1);
    column = run % p.runs * OCTET_SCALE_BLOCK + threadIdx.x % 16 * 8;
    count = run < p.rows * p.runs ? p.columns - column : 0;
    float gate[8], up[8];
    load_columns(p.gate + row * p.gate_stride, column, count, p.aligned, gate);
    load_columns(p.up + row * p.up_stride, column, count, p.aligned, up);
#pragma unroll
    for (int i = 0; i < 8; i++) y[i] = silu(gate[i]) * up[i];
  }
};

template <Fp8 E>
OCTET_INLINE void activation_quantized(const ActivationParams& p) {
  const ActivationColumns at(p);
  const float scale = block_scale<E>(at.y);
  if (at.count <= 0) return;
  if (at.column % OCTET_SCALE_BLOCK == 0) p.scales[at.row * p.scale_stride + at.column / OCTET_SCALE_BLOCK] = scale;
  store_codes<E>(static_cast<uint8_t*>(p.output) + at.row * p.output_stride, at.column, at.count, p.aligned, at.y,
                 scale);
}

OCTET_KERNEL(activation_bf16, ActivationParams, activation_threads) {
  const ActivationColumns at(params);
  if (at.count <= 0) return;
  store_columns(static_cast<uint16_t*>(params.output) + at.row * params.output_stride, at.column, at.count,
                params.aligned, at.y);
}
OCTET_KERNEL(activation_ocp, ActivationParams, activation_threads) { activation_quantized<Fp8::ocp>(params); }
OCTET_KERNEL(activation_fnuz, ActivationParams, activation_threads) { activation_quantized<Fp8::fnuz>(params); }
#endif

#if defined(OCTET_HOST)
#include "../runtime/check.h"
#include "../runtime/driver.h"

extern "C" octet_status octet_activation(const octet_activation_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    constexpr const char* op = "activation";
    const auto& args = checked(op, pointer);
    require(stream != nullptr, "activation: stream is null");
    const bool quantized = args.output_dtype == OCTET_F8_E4M3 || args.output_dtype == OCTET_F8_E4M3_FNUZ;
    require(quantized || args.output_dtype == OCTET_BF16,
            "activation: output_dtype = %d must be bf16 (%d) or FP8 (%d, %d)", static_cast<int>(args.output_dtype),
            OCTET_BF16, OCTET_F8_E4M3, OCTET_F8_E4M3_FNUZ);
    require_range(op, "rows", args.rows, 0, INT32_MAX);
    require_range(op, "columns", args.columns, 0, INT32_MAX);
    const int64_t runs = (args.columns + OCTET_SCALE_BLOCK - 1) / OCTET_SCALE_BLOCK;
    require_range(op, "gate_stride", args.gate_stride, args.columns, max_stride);
    require_range(op, "up_stride", args.up_stride, args.columns, max_stride);
    require_range(op, "output_stride", args.output_stride, args.columns, max_stride);
    if (quantized) require_range(op, "scale_stride", args.scale_stride, runs, max_stride);
    const int64_t blocks = (args.rows * runs + activation_runs - 1) / activation_runs;
    require(blocks <= max_blocks(activation_threads),
            "activation: rows = %lld by columns = %lld are too many for one launch", static_cast<long long>(args.rows),
            static_cast<long long>(args.columns));
    if (blocks == 0) return;
    require_pointer(op, "gate", args.gate);
    require_pointer(op, "up", args.up);
    require_pointer(op, "output", args.output);
    require_pointer_or_null(op, "scales", args.scales);
    require((args.scales != nullptr) == quantized,
            "activation: scales = %p, but output_dtype is %d: scales go with FP8 only", static_cast<void*>(args.scales),
            static_cast<int>(args.output_dtype));
    const ActivationParams params{
        .gate = static_cast<const uint16_t*>(args.gate),
        .up = static_cast<const uint16_t*>(args.up),
        .output = args.output,
        .scales = args.scales,
        .rows = args.rows,
        .columns = args.columns,
        .runs = runs,
        .gate_stride = args.gate_stride,
        .up_stride = args.up_stride,
        .output_stride = args.output_stride,
        .scale_stride = args.scale_stride,
        .aligned = args.gate_stride % 8 == 0 && args.up_stride % 8 == 0 && args.output_stride % 8 == 0,
    };
    const char* kernel = !quantized                           ? "activation_bf16"
                         : args.output_dtype == OCTET_F8_E4M3 ? "activation_ocp"
                                                              : "activation_fnuz";
    launch(stream, kernel, Grid{static_cast<uint32_t>(blocks)}, activation_threads / facts(stream).wave_size, 0,
           params);
  });
}
#endif
