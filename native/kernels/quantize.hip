// quantize, quantize_weight: bf16 or f32 to FP8 blocks; repack: OCP codes and scales to FNUZ.
//
//   scale = amax/448 (OCP) or amax/224 (FNUZ), 1 where that is 0;  code = nearest even of x/scale, saturated
//   quantize: one scale for each row and 128 columns;  quantize_weight: one for each 128 x 128 block
//   repack: 0x80 -> 0x00 (FNUZ has no -0), 0x7F and 0xFF -> 0x80 (NaN), scale doubled (the same code means half the
//   value)
//
// Rows have any stride, columns are contiguous. quantize: 16 lanes hold a run of 128 columns, eight each; a block of
// 256 threads takes 16 runs, numbered along the rows. quantize_weight: a block of 256 threads holds one 128 x 128 block
// in registers, 16 rows at a time. repack: 16 codes and one scale a thread.
//
// Floor: 3 bytes an element from bf16 and 2 for repack. 4,096 tokens of 4,096: 50 MB, 10 us at 4.86 TB/s. The division
// is the exact one, some 10 instructions an element, to give the same bytes on every target.
#include <octet.h>
#include <stdint.h>

constexpr int quantize_threads = 256;
constexpr int quantize_runs = quantize_threads / 16;  // of 128 columns in a block

struct QuantizeParams {
  const void* x;    // [rows, columns] bf16 or f32
  uint8_t* output;  // [rows, columns] FP8
  float* scales;    // [rows, runs], or [ceil(rows/128), runs]
  int64_t rows, columns;
  int64_t x_stride, output_stride, scale_stride;
  uint32_t runs;    // of 128 columns in a row
  uint32_t blocks;  // in all: runs of every row, or 128 x 128 blocks
  bool aligned;     // every run of eight columns lies on 16 bytes (8 in the output)
};

struct QuantizeWeightLds {
  float amax[quantize_threads / 32];
};

struct RepackParams {
  const uint8_t* x;       // [count]
  const float* x_scales;  // [scale_count]
  uint8_t* output;        // [count]
  float* scales;          // [scale_count]
  int64_t count, scale_count;
};

// The kernels of both ops for each input type and encoding.
#define OCTET_QUANTIZE_KINDS(X)     \
  X(bf16_ocp, uint16_t, Fp8::ocp)   \
  X(bf16_fnuz, uint16_t, Fp8::fnuz) \
  X(f32_ocp, float, Fp8::ocp)       \
  X(f32_fnuz, float, Fp8::fnuz)

#if !defined(OCTET_HOST)
#include "columns.h"

template <class T, Fp8 E>
OCTET_INLINE void quantize_runs_kernel(const QuantizeParams& p) {
  // Every lane stays for the exchange inside a run; those beyond the last run read nothing.
  const uint32_t run = blockIdx.x * quantize_runs + threadIdx.x / 16;
  const int64_t row = run / p.runs;
  const int64_t column = run % p.runs * OCTET_SCALE_BLOCK + threadIdx.x % 16 * 8;
  const int64_t count = run < p.blocks ? p.columns - column : 0;
  float x[8];
  load_columns(static_cast<const T*>(p.x) + row * p.x_stride, column, count, p.aligned, x);
  const float scale = block_scale<E>(x);
  if (count <= 0) return;
  if (threadIdx.x % 16 == 0) p.scales[row * p.scale_stride + column / OCTET_SCALE_BLOCK] = scale;
  store_codes<E>(p.output + row * p.output_stride, column, count, p.aligned, x, scale);
}

template <class T, Fp8 E>
OCTET_INLINE void quantize_weight_kernel(const QuantizeParams& p) {
  constexpr int passes = OCTET_SCALE_BLOCK / (quantize_threads / 16);
  const int64_t block_row = blockIdx.x / p.runs, block_column = blockIdx.x % p.runs;
  const int64_t first_row = block_row * OCTET_SCALE_BLOCK + threadIdx.x / 16;
  const int64_t column = block_column * OCTET_SCALE_BLOCK + threadIdx.x % 16 * 8;
  float x[passes][8];
  float amax = 0.0f;
#pragma unroll
  for (int i = 0; i < passes; i++) {
    const int64_t row = first_row + i * (quantize_threads / 16);
    const int64_t count = row < p.rows ? p.columns - column : 0;
    load_columns(static_cast<const T*>(p.x) + row * p.x_stride, column, count, p.aligned, x[i]);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      if (is_finite(x[i][j])) amax = __builtin_fmaxf(amax, __builtin_fabsf(x[i][j]));
    }
  }
  const float scale = fp8_scale<E>(block_max(amax, OCTET_LDS(QuantizeWeightLds).amax));
  if (threadIdx.x == 0) p.scales[block_row * p.scale_stride + block_column] = scale;
#pragma unroll
  for (int i = 0; i < passes; i++) {
    const int64_t row = first_row + i * (quantize_threads / 16);
    const int64_t count = row < p.rows ? p.columns - column : 0;
    if (count > 0) store_codes<E>(p.output + row * p.output_stride, column, count, p.aligned, x[i], scale);
  }
}

#define OCTET_QUANTIZE_KERNELS(kind, T, E)                                                                \
  OCTET_KERNEL(quantize_##kind, QuantizeParams, quantize_threads) { quantize_runs_kernel<T, E>(params); } \
  OCTET_KERNEL(quantize_weight_##kind, QuantizeParams, quantize_threads) { quantize_weight_kernel<T, E>(params); }
OCTET_QUANTIZE_KINDS(OCTET_QUANTIZE_KERNELS)

OCTET_INLINE uint32_t repack_code(uint32_t code) {
  return code == 0x80 ? 0 : (code & 0x7F) == 0x7F ? fp8_nan<Fp8::fnuz> : code;
}

OCTET_KERNEL(repack_codes, RepackParams, quantize_threads) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * quantize_threads + threadIdx.x;
  if (thread < params.scale_count) params.scales[thread] = 2.0f * params.x_scales[thread];
  const int64_t first = thread * 16;
  if (first + 16 <= params.count) {
    u32x4 codes = *reinterpret_cast<const u32x4*>(params.x + first);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      uint32_t four = 0;
#pragma unroll
      for (int shift = 0; shift < 32; shift += 8) four |= repack_code(codes[i] >> shift & 0xFF) << shift;
      codes[i] = four;
    }
    *reinterpret_cast<u32x4*>(params.output + first) = codes;
  } else {
    for (int64_t i = first; i < params.count; i++) params.output[i] = static_cast<uint8_t>(repack_code(params.x[i]));
  }
}
#endif

#if defined(OCTET_HOST)
#include <algorithm>

#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace {

using namespace octet;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// quantize and quantize_weight: their args have the same fields. scale_rows: rows that share a scale.
template <class Args>
void launch_quantize(const char* op, const Args* pointer, int64_t scale_rows, octet_stream* stream) {
  const Args& args = checked(op, pointer);
  require(stream != nullptr, "%s: stream is null", op);
  require(args.x_dtype == OCTET_BF16 || args.x_dtype == OCTET_F32, "%s: x_dtype = %d must be f32 (%d) or bf16 (%d)", op,
          args.x_dtype, OCTET_F32, OCTET_BF16);
  require(args.output_dtype == OCTET_F8_E4M3 || args.output_dtype == OCTET_F8_E4M3_FNUZ,
          "%s: output_dtype = %d must be FP8 (%d or %d)", op, args.output_dtype, OCTET_F8_E4M3, OCTET_F8_E4M3_FNUZ);
  require_range(op, "rows", args.rows, 0, INT32_MAX);
  require_range(op, "columns", args.columns, 0, INT32_MAX);
  const int64_t runs = ceil_div(args.columns, OCTET_SCALE_BLOCK);
  const int64_t limit = (int64_t{1} << 60) / std::max<int64_t>(args.rows, 1);  // offsets stay within 64 bits
  require_range(op, "x_stride", args.x_stride, 0, limit);
  require_range(op, "output_stride", args.output_stride, args.rows > 1 ? args.columns : 0, limit);
  require_range(op, "scale_stride", args.scale_stride, args.rows > scale_rows ? runs : 0, limit);
  if (args.rows == 0 || args.columns == 0) return;
  require_pointer(op, "x", args.x);
  require_pointer(op, "output", args.output);
  require_pointer(op, "scales", args.scales);

  const int64_t scales = ceil_div(args.rows, scale_rows) * runs;
  const int64_t blocks = scale_rows == 1 ? ceil_div(scales, quantize_runs) : scales;
  require(blocks <= max_blocks(quantize_threads), "%s: rows = %lld by columns = %lld are too many for one launch", op,
          static_cast<long long>(args.rows), static_cast<long long>(args.columns));
  const QuantizeParams params{.x = args.x,
                              .output = static_cast<uint8_t*>(args.output),
                              .scales = args.scales,
                              .rows = args.rows,
                              .columns = args.columns,
                              .x_stride = args.x_stride,
                              .output_stride = args.output_stride,
                              .scale_stride = args.scale_stride,
                              .runs = static_cast<uint32_t>(runs),
                              .blocks = static_cast<uint32_t>(scales),
                              .aligned = args.x_stride % 8 == 0 && args.output_stride % 8 == 0};
  const std::string kernel = std::string(op) + (args.x_dtype == OCTET_BF16 ? "_bf16" : "_f32") +
                             (args.output_dtype == OCTET_F8_E4M3 ? "_ocp" : "_fnuz");
  launch(stream, kernel.c_str(), Grid{static_cast<uint32_t>(blocks)}, quantize_threads / facts(stream).wave_size,
         scale_rows == 1 ? 0 : sizeof(QuantizeWeightLds), params);
}

}  // namespace

extern "C" octet_status octet_quantize(const octet_quantize_args* args, octet_stream* stream) {
  return guarded([&] { launch_quantize("quantize", args, 1, stream); });
}

extern "C" octet_status octet_quantize_weight(const octet_quantize_weight_args* args, octet_stream* stream) {
  return guarded([&] { launch_quantize("quantize_weight", args, OCTET_SCALE_BLOCK, stream); });
}

extern "C" octet_status octet_repack(const octet_repack_args* repack_args, octet_stream* stream) {
  return guarded([&] {
    const octet_repack_args& args = checked("repack", repack_args);
    require(stream != nullptr, "repack: stream is null");
    const int64_t limit = max_blocks(quantize_threads) * quantize_threads;
    require_range("repack", "count", args.count, 0, limit * 16);
    require_range("repack", "scale_count", args.scale_count, 0, limit);
    if (args.count > 0) {
      require_pointer("repack", "x", args.x);
      require_pointer("repack", "output", args.output);
    }
    if (args.scale_count > 0) {
      require_pointer("repack", "x_scales", args.x_scales);
      require_pointer("repack", "scales", args.scales);
    }
    const RepackParams params{.x = static_cast<const uint8_t*>(args.x),
                              .x_scales = args.x_scales,
                              .output = static_cast<uint8_t*>(args.output),
                              .scales = args.scales,
                              .count = args.count,
                              .scale_count = args.scale_count};
    const int64_t threads = std::max(ceil_div(args.count, 16), args.scale_count);
    launch(stream, "repack_codes", Grid{static_cast<uint32_t>(ceil_div(threads, quantize_threads))},
           quantize_threads / facts(stream).wave_size, 0, params);
  });
}

#endif
