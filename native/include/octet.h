/* Octet: FP8 Mixture-of-Experts kernels behind a C ABI (C99).
 *
 * Conventions
 *  - Every call returns an octet_status; the text of the last failure on this thread is octet_last_error().
 *  - Every args struct begins with struct_size = sizeof(the struct); fields are only ever appended.
 *  - Shapes stand behind the pointers. Strides and offsets count elements, sizes and alignments bytes.
 *  - Every device pointer handed to an op is aligned to 16 bytes (octet_buffer_create gives 256); rows may have any stride.
 *  - Ops never allocate, never synchronise and never read back, so each can be captured in a graph. Scratch memory comes
 *    from the caller: octet_<op>_workspace() tells its size for the bounds in args, and never shrinks as they grow.
 *  - Lengths, block tables, slots and expert offsets are device arrays; args carry upper bounds known to the host.
 *  - Handles may be used from any thread; one stream belongs to one thread at a time.
 *  - FP8 blocks: value = code * scale; activations have one f32 scale per row and 128 columns, weights one per 128 x 128.
 *  - Sums that ranks can share are trees: 8, 4, 2 or 1 leaves, equal parts of the unsharded sum, each added in f32 from 0 in
 *    order and rounded to bf16; then ((0+1)+(2+3))+((4+5)+(6+7)), every node bf16(float(left) + float(right)). So whoever
 *    holds neighbouring leaves, a power of two of them from a multiple of it on, has a node, and the root has the same bits
 *    however many share it.
 */
#ifndef OCTET_H
#define OCTET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define OCTET_API __declspec(dllexport)
#else
#define OCTET_API __attribute__((visibility("default")))
#endif

#define OCTET_ABI_VERSION 1
#define OCTET_SCALE_BLOCK 128 /* rows and columns of an FP8 scale block */

typedef enum octet_status {
  OCTET_OK = 0,
  OCTET_INVALID_ARGUMENT = 1, /* the caller broke the contract; the text has the values */
  OCTET_UNSUPPORTED = 2,      /* a legal request this build or device cannot serve */
  OCTET_NO_DEVICE = 3,        /* no such device, or its runtime library is absent */
  OCTET_OUT_OF_MEMORY = 4,
  OCTET_DEVICE_ERROR = 5, /* the vendor's runtime failed; the text has its code and name */
  OCTET_KERNEL_FAULT = 6, /* the simulator's checker stopped a launch; the text has kernel, block, lane, source line */
  OCTET_INTERNAL = 7
} octet_status;

typedef enum octet_dtype {
  OCTET_F32 = 0,
  OCTET_BF16 = 1,
  OCTET_F8_E4M3 = 2,      /* OCP: bias 7, max 448, NaN 0x7F and 0xFF */
  OCTET_F8_E4M3_FNUZ = 3, /* gfx942: bias 8, max 240, NaN 0x80, no -0 */
  OCTET_I32 = 4,
  OCTET_I64 = 5,
  OCTET_U8 = 6
} octet_dtype;

typedef enum octet_layout {
  OCTET_ROW_MAJOR = 0 /* [n, k], k contiguous */
} octet_layout;

typedef struct octet_device octet_device;
typedef struct octet_buffer octet_buffer;
typedef struct octet_stream octet_stream;
typedef struct octet_event octet_event;
typedef struct octet_graph octet_graph;

/* ---- library ---------------------------------------------------------------------------------------------------- */

OCTET_API int32_t octet_abi_version(void);
OCTET_API const char* octet_build_info(void); /* one line: compiler, targets, git commit */
OCTET_API const char* octet_last_error(void); /* of this thread; "" if none; valid until the next call on this thread */

/* One row for each struct ("octet_gemm_args", "", size) and each field ("octet_gemm_args", "m", offset). */
typedef struct octet_layout_entry {
  const char* struct_name;
  const char* field_name;
  int64_t value;
} octet_layout_entry;
OCTET_API octet_status octet_abi_layout(const octet_layout_entry** entries, int32_t* count);

/* ---- devices ---------------------------------------------------------------------------------------------------- */

/* driver: "hip", "cuda" or "sim". count: devices present. OCTET_NO_DEVICE with the reason where the runtime is absent. */
OCTET_API octet_status octet_probe(const char* driver, int32_t* count);

/* name: "hip:0", "cuda:0", "sim" (= "sim:gfx942"), "sim:gfx950", "sim:sm_90"; "plan:gfx942", "plan:gfx950": a device without
 * memory on which ops are planned, not run. */
OCTET_API octet_status octet_device_open(const char* name, octet_device** device);
/* The device must have no live buffers, streams, events, graphs or communicators: else OCTET_INVALID_ARGUMENT with the counts. */
OCTET_API octet_status octet_device_close(octet_device* device);

typedef struct octet_device_properties {
  size_t struct_size;
  char name[128];          /* "AMD Instinct MI325X" */
  char target[32];         /* "gfx942", "gfx950", "sm_90" */
  int64_t total_memory;    /* bytes */
  int64_t live_bytes;      /* bytes in buffers of this handle that are not freed */
  int32_t compute_units;   /* CUs or SMs */
  int32_t wave_size;       /* 64 or 32 */
  int32_t shared_memory;   /* LDS bytes one block may use */
  octet_dtype fp8;         /* the encoding the device computes in */
  int32_t runtime_version; /* the vendor runtime's own number: HIP major * 10000000 + minor * 100000 + patch, CUDA
                              major * 1000 + minor * 10; 0: none */
} octet_device_properties;
OCTET_API octet_status octet_device_get_properties(octet_device* device, octet_device_properties* properties);
/* Kernels of `device` may read and write buffers of `peer` from now on, those not made yet too. Both belong to one driver (hip,
 * cuda or sim); one direction a call; repeating is fine. OCTET_UNSUPPORTED, with both names, where they do not reach each other. */
OCTET_API octet_status octet_device_enable_peer(octet_device* device, octet_device* peer);
/* bytes: memory of the device that nobody holds, other processes included; at this moment. */
OCTET_API octet_status octet_device_free_memory(octet_device* device, int64_t* bytes);

/* ---- memory ----------------------------------------------------------------------------------------------------- */

typedef enum octet_memory_kind {
  OCTET_DEVICE_MEMORY = 0,
  OCTET_PINNED_MEMORY = 1,
  OCTET_SIGNAL_MEMORY = 2 /* of the device, uncached, all zeros: what ranks signal one another through */
} octet_memory_kind;

OCTET_API octet_status octet_buffer_create(octet_device* device, int64_t size, octet_memory_kind kind,
                                           octet_buffer** buffer);
OCTET_API octet_status octet_buffer_destroy(octet_buffer* buffer); /* waits for nothing: synchronise first */
OCTET_API octet_status octet_buffer_pointer(octet_buffer* buffer, void** pointer);

typedef enum octet_copy_kind {
  OCTET_HOST_TO_DEVICE = 0,
  OCTET_DEVICE_TO_HOST = 1,
  OCTET_DEVICE_TO_DEVICE = 2
} octet_copy_kind;
/* Enqueues a copy. Host memory must stay alive until the stream has passed it, and be pinned to overlap. */
OCTET_API octet_status octet_copy(octet_stream* stream, void* destination, const void* source, int64_t size,
                                  octet_copy_kind kind);
OCTET_API octet_status octet_fill(octet_stream* stream, void* destination, int32_t byte, int64_t size);

/* ---- streams, events, graphs ------------------------------------------------------------------------------------ */

OCTET_API octet_status octet_stream_create(octet_device* device, octet_stream** stream);
/* native: a hipStream_t or CUstream the caller owns; destroying the handle leaves it alone. Null: the default stream. */
OCTET_API octet_status octet_stream_borrow(octet_device* device, void* native, octet_stream** stream);
OCTET_API octet_status octet_stream_destroy(octet_stream* stream);
OCTET_API octet_status octet_stream_synchronize(octet_stream* stream);
OCTET_API octet_status octet_stream_wait(octet_stream* stream, octet_event* event);

OCTET_API octet_status octet_event_create(octet_device* device, octet_event** event);
OCTET_API octet_status octet_event_destroy(octet_event* event);
OCTET_API octet_status octet_event_record(octet_event* event, octet_stream* stream);
OCTET_API octet_status octet_event_synchronize(octet_event* event);
OCTET_API octet_status octet_event_elapsed(octet_event* start, octet_event* stop, float* milliseconds);

/* Between begin and end, ops on the stream are recorded, not run. An op that fails leaves the capture usable. */
OCTET_API octet_status octet_graph_begin(octet_stream* stream);
OCTET_API octet_status octet_graph_end(octet_stream* stream, octet_graph** graph);
OCTET_API octet_status octet_graph_launch(octet_graph* graph, octet_stream* stream);
OCTET_API octet_status octet_graph_destroy(octet_graph* graph);

/* ---- the vendor's collectives ------------------------------------------------------------------------------------ */

/* A group of 2, 4 or 8 devices of one driver, rank r the r-th, that add through RCCL (hip) or NCCL (cuda), opened at run time. Their
 * order of summation is their own: sums are not those of octet_group_sync and norm, nor of another number of ranks. library: a file
 * in the vendor's place; null: the vendor's. A simulated device must name one, which adds what lies in the host's memory. The devices
 * must outlive the group. OCTET_NO_DEVICE where the library is absent. */
typedef struct octet_communicator octet_communicator;
OCTET_API octet_status octet_communicator_create(octet_device* const* devices, int32_t count, const char* library,
                                                 octet_communicator** communicator);
/* Enqueues values[i] = the sum over ranks of their values[i], [count] bf16, in place. Each rank does the same, in the same order;
 * it can be captured once it ran. After an abort OCTET_DEVICE_ERROR. */
OCTET_API octet_status octet_communicator_all_reduce(octet_communicator* communicator, int32_t rank, void* values, int64_t count,
                                                     octet_stream* stream);
/* OCTET_DEVICE_ERROR where a sum of this rank failed behind its enqueueing, or after an abort. */
OCTET_API octet_status octet_communicator_check(octet_communicator* communicator, int32_t rank);
/* Has all ranks leave the sums they are in, which are then worth nothing; from any thread, waits for nothing, and repeating is fine. */
OCTET_API octet_status octet_communicator_abort(octet_communicator* communicator);
/* Graphs that recorded its sums are destroyed before, and no rank is in a call. */
OCTET_API octet_status octet_communicator_destroy(octet_communicator* communicator);

/* ---- the simulator's counters ----------------------------------------------------------------------------------- */

typedef struct octet_kernel_counters {
  char kernel[64];
  int64_t launches, blocks;
  int64_t global_read_bytes, global_write_bytes;
  int64_t global_transactions; /* of 64 bytes, per wave access */
  int64_t lds_accesses;        /* wave accesses */
  int64_t lds_bank_conflicts;  /* extra passes beyond one per conflict group */
  int64_t mfma;                /* matrix instructions */
  int64_t barriers;
} octet_kernel_counters;
/* Counters since the device was opened or reset, one row per kernel. OCTET_UNSUPPORTED on a real device.
 * entries may be null to ask for the count. */
OCTET_API octet_status octet_sim_counters(octet_device* device, octet_kernel_counters* entries, int32_t* count);
OCTET_API octet_status octet_sim_reset_counters(octet_device* device);

/* ---- what a kernel is, and what an op launches --------------------------------------------------------------------- */

/* The device code in this library, one image for each kernel family and target: a code object (ELF) for gfx942 and gfx950,
 * PTX ended by a zero byte for sm_90. Valid for the life of the process. index: 0..octet_image_count()-1. */
OCTET_API int32_t octet_image_count(void);
OCTET_API octet_status octet_image(int32_t index, const char** family, const char** target, const void** data,
                                   int64_t* size);

/* A launch an op made on a "plan" device. */
typedef struct octet_planned_launch {
  char kernel[64];
  int64_t blocks;
  int64_t lds_bytes; /* of one block */
  int32_t threads;   /* of one block */
  int32_t reserved;
} octet_planned_launch;
/* The launches since the last call with entries, in order; they are forgotten then. entries may be null to ask for the count.
 * OCTET_UNSUPPORTED on any other device. */
OCTET_API octet_status octet_plan_launches(octet_device* device, octet_planned_launch* entries, int32_t* count);

/* ---- shared descriptors ----------------------------------------------------------------------------------------- */

/* A weight matrix, or a stack of experts. With FP8, element (e, row, col) is
 *   data[e*expert_stride + row*row_stride + col]
 *     * scales[e*scale_expert_stride + (scale_row_offset+row)/128*scale_row_stride + (scale_column_offset+col)/128].
 * The offsets (0..127) say where in its first scale block a tensor-parallel shard begins. */
typedef struct octet_weight {
  const void* data;            /* [experts, n, k] dtype */
  const float* scales;         /* [experts, ceil((scale_row_offset+n)/128), ceil((scale_column_offset+k)/128)]; null: bf16 */
  int64_t n, k;
  int64_t row_stride, expert_stride;
  int64_t scale_row_stride, scale_expert_stride;
  int32_t experts;             /* 1 for a plain matrix */
  int32_t scale_row_offset, scale_column_offset;
  octet_dtype dtype;
  octet_layout layout;
  int32_t reserved;
} octet_weight;

/* Paged KV cache of one layer. slot = block*block_size + offset in the block. FP8: value = code * scale. Fill k and v once
 * when they are allocated: V is read in runs of 16 bytes that may reach past a context. What lies there changes no result. */
typedef struct octet_kv_cache {
  void* k;                /* [blocks, kv_heads, block_size, head_dim] dtype */
  void* v;                /* [blocks, kv_heads, head_dim, block_size] dtype */
  const float* k_scales;  /* [scale_count] f32; null: bf16 */
  const float* v_scales;  /* [scale_count] f32; null: bf16 */
  int64_t blocks;
  int32_t kv_heads, block_size, head_dim; /* block_size 16, 32, 64 or 128; head_dim 64 or 128 */
  int32_t scale_count;                    /* 1: per tensor; kv_heads: per head; 0: bf16 */
  octet_dtype dtype;                      /* bf16 or the device's FP8 */
  int32_t reserved;
} octet_kv_cache;

/* ---- ops -------------------------------------------------------------------------------------------------------- */

#define OCTET_OP(op) OCTET_API octet_status octet_##op(const octet_##op##_args* args, octet_stream* stream)
/* Ops whose args have a workspace: the query ignores the workspace fields, and pointers may be null in it. */
#define OCTET_OP_WITH_WORKSPACE(op) \
  OCTET_OP(op);                     \
  OCTET_API octet_status octet_##op##_workspace(const octet_##op##_args* args, octet_device* device, size_t* size)

/* quantize: rows to FP8 with one scale per row and 128 columns. scale = amax/448 (OCP) or amax/224 (FNUZ), 1 where that is
 * 0; code = nearest even of x/scale, saturated at 448 or 224. NaN and inf take no part in amax and become the NaN code. */
typedef struct octet_quantize_args {
  size_t struct_size;
  const void* x;       /* [rows, columns] x_dtype: bf16 or f32 */
  void* output;        /* [rows, columns] output_dtype: FP8 */
  float* scales;       /* [rows, ceil(columns/128)] */
  int64_t rows, columns;
  int64_t x_stride, output_stride, scale_stride;
  octet_dtype x_dtype, output_dtype;
} octet_quantize_args;
OCTET_OP(quantize);

/* quantize_weight: a matrix to FP8 with one scale per 128 x 128 block; rules as in quantize. */
typedef struct octet_quantize_weight_args {
  size_t struct_size;
  const void* x;       /* [rows, columns] x_dtype: bf16 or f32 */
  void* output;        /* [rows, columns] output_dtype: FP8 */
  float* scales;       /* [ceil(rows/128), ceil(columns/128)] */
  int64_t rows, columns;
  int64_t x_stride, output_stride, scale_stride;
  octet_dtype x_dtype, output_dtype;
} octet_quantize_weight_args;
OCTET_OP(quantize_weight);

/* repack: OCP bytes and scales to FNUZ, exact for every finite code: 0x80 -> 0x00, scales doubled. NaN codes 0x7F and
 * 0xFF become 0x80 (FNUZ NaN). In place where the pointers are equal. */
typedef struct octet_repack_args {
  size_t struct_size;
  const void* x;           /* [count] OCP codes */
  const float* x_scales;   /* [scale_count] */
  void* output;            /* [count] FNUZ codes */
  float* scales;           /* [scale_count] */
  int64_t count, scale_count;
} octet_repack_args;
OCTET_OP(repack);

/* embedding: output[t] = table[ids[t]]; an id outside 0..vocabulary-1 gives a row of zeros. */
typedef struct octet_embedding_args {
  size_t struct_size;
  const void* table;   /* [vocabulary, hidden] bf16 */
  const int32_t* ids;  /* [tokens] */
  void* output;        /* [tokens, hidden] bf16 */
  int64_t vocabulary, tokens, hidden;
  int64_t output_stride;
} octet_embedding_args;
OCTET_OP(embedding);

/* norm: RMSNorm. h = x (+ residual; the sum is rounded to bf16 and written back to residual);
 * y = h / sqrt(mean(h^2) + eps) * weight; output = bf16(y); quantized, scales = quantize(y in f32).
 * x may be bf16 of a sum: of partial sums in order (x_segments), over a token's slots as in moe_combine (pair_slots), or the
 * root of the tree over the nodes that ranks hold (node_count). */
typedef struct octet_norm_args {
  size_t struct_size;
  const void* x;       /* [tokens, hidden] bf16; [x_segments, tokens, hidden] f32; with pair_slots [tokens*top_k, hidden] bf16;
                          with node_count null */
  void* residual;      /* [tokens, hidden] bf16, read and written, or null */
  const void* weight;  /* [hidden] bf16 */
  void* output;        /* [tokens, hidden] bf16, or null */
  void* quantized;     /* [tokens, hidden] fp8_dtype, or null; output and quantized are not both null */
  float* scales;       /* [tokens, ceil(hidden/128)], null with quantized */
  int64_t tokens, hidden;
  int64_t x_stride, residual_stride, output_stride, quantized_stride, scale_stride;
  float eps;
  octet_dtype fp8_dtype;
  const int32_t* pair_slots;  /* [tokens, top_k], or null: x is not slots */
  const float* pair_weights;  /* [tokens, top_k], null with pair_slots */
  int64_t x_segment_stride;
  int32_t x_segments;         /* 0: x is not partial sums */
  int32_t top_k;              /* 1..16, with pair_slots */
  int32_t x_leaves;           /* of the partial sums, as the gemm's leaves: x_segments is a multiple of it, so many
                                 neighbouring ones make a leaf; or it is a multiple of x_segments, which then are nodes of the
                                 tree. 0: one sum, rounded once */
  int32_t node_count;         /* 2, 4 or 8: x is the tree over nodes; 0: it is not */
  const void* nodes[8];       /* [tokens, hidden] bf16 each, rows x_stride apart, in the order of the tree; any memory the
                                 device can read */
  const int32_t* pair_experts; /* [tokens, top_k], or null with leaves <= 1; this and the rest as in moe_combine */
  int32_t first_expert, leaf_experts;
  int32_t leaves;
  int32_t reserved;
} octet_norm_args;
OCTET_OP(norm);

/* gemm: output[i, j] = sum over k of a[i, k] * b[j, k] (+ bias[j]), f32 accumulation. FP8 with FP8, the scale pair applied
 * once per 128-wide k block; or bf16 with bf16. The order of the sum depends on n, k and the target only.
 * With output_segments the sums over the fixed segments of k are left to the op that reads them (norm, moe_route), which adds
 * them in order: as many as octet_gemm_segments says, without bias.
 * A rank's part of a product names the whole one by full_n and full_k. Where it has part of k, or is whole and may be divided
 * so elsewhere, leaves says how many leaves of the tree over k it has; their number in all is the largest of 8, 4, 2 and 1
 * that divides full_k/128 (1 where 128 does not divide full_k). The bias is added to the first leaf. Partial sums are then the
 * unrounded segments of the leaves, or, as many or fewer than the leaves, the nodes themselves: see x_leaves of norm. */
typedef struct octet_gemm_args {
  size_t struct_size;
  const void* a;          /* [m, b.k] b.dtype */
  const float* a_scales;  /* [m, ceil(b.k/128)]; null: bf16 */
  octet_weight b;         /* [b.n, b.k], experts = 1 */
  const void* bias;       /* [b.n] bf16, or null */
  void* output;           /* [m, b.n] output_dtype: bf16 or f32; [output_segments, m, b.n] f32 */
  void* workspace;
  size_t workspace_size;
  int64_t m;
  int64_t a_stride, a_scale_stride, output_stride;
  octet_dtype output_dtype;
  int32_t output_segments; /* 0: the sum itself */
  int64_t output_segment_stride;
  int64_t full_n, full_k;  /* of the matrix of which b is a rank's part: they decide the order of the sum; 0: b.n, b.k */
  int32_t leaves;          /* 1, 2, 4 or 8 leaves of the tree over full_k make b.k; the output is bf16. 0: a plain sum */
  int32_t reserved;
} octet_gemm_args;
OCTET_OP_WITH_WORKSPACE(gemm);
/* How many partial sums a gemm of these shapes can leave; 0: it is not split over k. Ignores output and workspace. */
OCTET_API octet_status octet_gemm_segments(const octet_gemm_args* args, octet_device* device, int32_t* segments);

/* activation: y = silu(gate) * up; output = bf16(y), or FP8 with scales by the rule of quantize from y in f32. */
typedef struct octet_activation_args {
  size_t struct_size;
  const void* gate;    /* [rows, columns] bf16 */
  const void* up;      /* [rows, columns] bf16 */
  void* output;        /* [rows, columns] output_dtype: bf16 or FP8 */
  float* scales;       /* [rows, ceil(columns/128)]; null: bf16 */
  int64_t rows, columns;
  int64_t gate_stride, up_stride, output_stride, scale_stride;
  octet_dtype output_dtype;
  int32_t reserved;
} octet_activation_args;
OCTET_OP(activation);

typedef enum octet_scoring {
  OCTET_SOFTMAX = 0, /* exp(x[e]) / sum of exp(x) over all experts */
  OCTET_SIGMOID = 1  /* 1 / (1 + exp(-x[e])), each expert by itself */
} octet_scoring;

/* moe_route: scores = scoring(logits[t]) in f32; the scores of the top_k largest logits in descending order of these (ties:
 * lower expert first; NaN counts as -inf), divided by their sum if renormalize. With score_bias those of the top_k largest
 * scores + score_bias in f32 instead: the bias chooses and does not weigh (a sum that is NaN counts as -inf).
 * Softmax is taken as a limit: logits equal to the largest weigh exp(0): +inf shares all weight with its likes, and a row
 * without a finite logit weighs every expert alike. Chosen scores whose sum is 0 weigh 1/top_k each when renormalised.
 * The logits may be partial sums, added here in order. With expert_offsets it also sorts the ids as moe_sort does, in the
 * same launch for up to 64 tokens and 128 experts, with sigmoid or a bias 32 and 256. */
typedef struct octet_moe_route_args {
  size_t struct_size;
  const float* logits;  /* [tokens, experts], or [logits_segments, tokens, experts] partial sums */
  int32_t* ids;         /* [tokens, top_k] */
  float* weights;       /* [tokens, top_k] */
  int64_t tokens;
  int64_t logits_stride;
  int32_t experts, top_k; /* 1..512, 1..16 */
  int32_t renormalize;
  int32_t logits_segments;  /* 0: no partial sums */
  int64_t logits_segment_stride;
  int32_t* expert_offsets;  /* [local_experts + 1], or null: no sorting; this and the rest as in moe_sort */
  int32_t* slot_pairs;      /* [tokens*top_k] */
  int32_t* pair_slots;      /* [tokens*top_k] */
  int32_t first_expert, local_experts;
  const float* score_bias;  /* [experts], or null: the logits choose (a checkpoint's e_score_correction_bias) */
  octet_scoring scoring;
  int32_t reserved;
} octet_moe_route_args;
OCTET_OP(moe_route);

/* moe_sort: stable counting sort of the pairs (token, choice) by expert. Pair p = token*top_k + choice; the experts
 * first_expert..first_expert+local_experts-1 live on this device, pairs of all others (and ids outside 0..experts-1) get
 * no slot. Slots of local expert e are expert_offsets[e]..expert_offsets[e+1]-1, pairs ascending within an expert. */
typedef struct octet_moe_sort_args {
  size_t struct_size;
  const int32_t* ids;       /* [tokens, top_k] */
  int32_t* expert_offsets;  /* [local_experts + 1] */
  int32_t* slot_pairs;      /* [tokens*top_k] pair of each slot; slots without a pair: -1 */
  int32_t* pair_slots;      /* [tokens*top_k] slot of each pair; -1: not here */
  void* workspace;
  size_t workspace_size;
  int64_t tokens;
  int32_t top_k, experts, first_expert, local_experts;
} octet_moe_sort_args;
OCTET_OP_WITH_WORKSPACE(moe_sort);

/* moe_gate_up: for each slot s of local expert e with token t = slot_pairs[s]/top_k:
 * y = silu(x[t] . gate[e]^T) * (x[t] . up[e]^T) in f32; output, scales = quantize(y). Slots without a pair: untouched.
 * gate and up have the same shape and scale_column_offset. */
typedef struct octet_moe_gate_up_args {
  size_t struct_size;
  const void* x;                  /* [tokens, hidden] FP8, hidden = gate.k */
  const float* x_scales;          /* [tokens, ceil(hidden/128)] */
  octet_weight gate, up;          /* [local_experts, intermediate, hidden] */
  const int32_t* expert_offsets;  /* [local_experts + 1] */
  const int32_t* slot_pairs;      /* [tokens*top_k] */
  void* output;                   /* [tokens*top_k, intermediate] FP8 */
  float* scales;                  /* [tokens*top_k, ceil(intermediate/128)] */
  void* workspace;
  size_t workspace_size;
  int64_t tokens;
  int64_t x_stride, x_scale_stride, output_stride, scale_stride;
  int32_t top_k;
  int32_t layer_experts; /* of all devices, for the load to be expected here; 0: local_experts */
} octet_moe_gate_up_args;
OCTET_OP_WITH_WORKSPACE(moe_gate_up);

/* moe_down: for each slot s of local expert e: output[s] = x[s] . down[e]^T. Slots without a pair: untouched. */
typedef struct octet_moe_down_args {
  size_t struct_size;
  const void* x;                  /* [tokens*top_k, intermediate] FP8, intermediate = down.k */
  const float* x_scales;          /* [tokens*top_k, ceil(intermediate/128)] */
  octet_weight down;              /* [local_experts, hidden, intermediate] */
  const int32_t* expert_offsets;  /* [local_experts + 1] */
  void* output;                   /* [tokens*top_k, hidden] bf16 */
  void* workspace;
  size_t workspace_size;
  int64_t tokens;
  int64_t x_stride, x_scale_stride, output_stride;
  int32_t top_k;
  int32_t layer_experts; /* of all devices, for the load to be expected here; 0: local_experts */
} octet_moe_down_args;
OCTET_OP_WITH_WORKSPACE(moe_down);

/* moe_combine: output[t] = sum over choices c, by ascending slot, of weights[t, c] * y[pair_slots[t*top_k + c]], f32
 * accumulation; pairs without a slot add nothing, and of pairs with the same slot the lower choice comes first. With leaves > 1
 * the sum is a tree over neighbouring groups of leaf_experts experts: the pair of expert e is in leaf
 * (e - first_expert) / leaf_experts; a leaf without a pair is +0. A pair with a slot has an expert of these
 * leaves, and slots ascend with their experts, as moe_sort leaves them. */
typedef struct octet_moe_combine_args {
  size_t struct_size;
  const void* y;              /* [tokens*top_k, hidden] bf16 */
  const int32_t* pair_slots;  /* [tokens*top_k] */
  const float* weights;       /* [tokens, top_k] */
  void* output;               /* [tokens, hidden] bf16 */
  int64_t tokens, hidden;
  int64_t y_stride, output_stride;
  int32_t top_k;
  int32_t reserved;
  const int32_t* pair_experts; /* [tokens, top_k] expert of each pair, or null with leaves <= 1 */
  int32_t first_expert;        /* of the first leaf here */
  int32_t leaf_experts;        /* >= 1 with leaves > 1 */
  int32_t leaves;              /* of the experts here: 1, 2, 4 or 8; 0: as 1 */
  int32_t reserved2;
} octet_moe_combine_args;
OCTET_OP(moe_combine);

/* rope: per token, optional RMSNorm of q and k (QK-norm), rotary embedding in the rotate-half form of the first rotary_dim
 * values of each head (element i < rotary_dim/2 with i + rotary_dim/2; the others pass), q to q_output, k and v rounded into
 * the cache at slots[t]. The norm is over each head by itself, or over all q heads and over all k heads of the token.
 * A slot outside 0..blocks*block_size-1 writes nothing. */
typedef struct octet_rope_args {
  size_t struct_size;
  const void* q;              /* [tokens, q_heads, head_dim] bf16, token stride q_stride */
  const void* k;              /* [tokens, kv_heads, head_dim] bf16, token stride k_stride */
  const void* v;              /* [tokens, kv_heads, head_dim] bf16, token stride v_stride */
  const void* q_norm;         /* [head_dim], with norm_projection [q_heads*head_dim] bf16; null: no norm */
  const void* k_norm;         /* [head_dim], with norm_projection [kv_heads*head_dim] bf16; null: no norm */
  const float* cos_sin;       /* [max_position, rotary_dim]: rotary_dim/2 cosines, then rotary_dim/2 sines */
  const int32_t* positions;   /* [tokens], 0..max_position-1; outside: clamped */
  const int64_t* slots;       /* [tokens] */
  void* q_output;             /* [tokens, q_heads, head_dim] bf16, token stride q_output_stride */
  octet_kv_cache cache;
  int64_t tokens, max_position;
  int64_t q_stride, k_stride, v_stride, q_output_stride;
  int32_t q_heads;
  float eps;
  int32_t rotary_dim;       /* a multiple of 16, at most head_dim; 0: head_dim */
  int32_t norm_projection;  /* 0: a norm is over one head; 1: over all of them together */
} octet_rope_args;
OCTET_OP(rope);

/* kv_write: k and v rounded into the cache at slots[t]; a slot outside the cache writes nothing. */
typedef struct octet_kv_write_args {
  size_t struct_size;
  const void* k;         /* [tokens, kv_heads, head_dim] bf16, token stride k_stride */
  const void* v;         /* [tokens, kv_heads, head_dim] bf16, token stride v_stride */
  const int64_t* slots;  /* [tokens] */
  octet_kv_cache cache;
  int64_t tokens;
  int64_t k_stride, v_stride;
} octet_kv_write_args;
OCTET_OP(kv_write);

/* kv_copy: copies whole blocks of K and V, pairs[i] = {source, destination}; pairs outside the cache are left out.
 * No block may be both a source and a destination. */
typedef struct octet_kv_copy_args {
  size_t struct_size;
  const int64_t* pairs;  /* [count, 2] */
  octet_kv_cache cache;
  int64_t count;
} octet_kv_copy_args;
OCTET_OP(kv_copy);

/* attention_prefill: causal attention of a chunk of queries over the paged cache, in which their own K and V already are.
 * Query i of sequence s (i from query_starts[s]) stands at position context_lengths[s] - queries(s) + i, and sees
 * positions p <= its own (and > its own - window, if window > 0). Softmax in f32 over scale * q.k (plus exp(sink) in the
 * denominator). Rows that belong to no sequence are untouched. */
typedef struct octet_attention_prefill_args {
  size_t struct_size;
  const void* q;                   /* [tokens, q_heads, head_dim] bf16, token stride q_stride */
  octet_kv_cache cache;
  const int32_t* block_table;      /* [sequences, block_table_stride] block numbers */
  const int32_t* query_starts;     /* [sequences + 1], ascending, last = tokens in use */
  const int32_t* context_lengths;  /* [sequences] tokens in the cache, those of this chunk included */
  const float* sinks;              /* [q_heads], or null */
  void* output;                    /* [tokens, q_heads, head_dim] bf16, token stride output_stride */
  void* workspace;
  size_t workspace_size;
  int64_t tokens, sequences;
  int64_t max_queries, max_context; /* bounds of one sequence */
  int64_t q_stride, output_stride, block_table_stride;
  int32_t q_heads;
  int32_t window; /* 0: none */
  float scale;    /* of the scores, usually 1/sqrt(head_dim) */
  int32_t reserved;
} octet_attention_prefill_args;
OCTET_OP_WITH_WORKSPACE(attention_prefill);

/* attention_decode: the same for query_length (1..4) queries of each sequence, split over the context in splits of a fixed
 * number of tokens that are combined in order. Rows s*query_length + i. context_lengths[s] = 0: the rows become zeros. output = bf16(y);
 * quantized, scales = quantize(y in f32) of rows of q_heads*head_dim columns. */
typedef struct octet_attention_decode_args {
  size_t struct_size;
  const void* q;                   /* [sequences*query_length, q_heads, head_dim] bf16, token stride q_stride */
  octet_kv_cache cache;
  const int32_t* block_table;      /* [sequences, block_table_stride] */
  const int32_t* context_lengths;  /* [sequences] */
  const float* sinks;              /* [q_heads], or null */
  void* output;                    /* [sequences*query_length, q_heads, head_dim] bf16, token stride output_stride, or null */
  void* workspace;
  size_t workspace_size;
  int64_t sequences;
  int64_t max_context;
  int64_t q_stride, output_stride, block_table_stride;
  int32_t query_length;
  int32_t q_heads;
  int32_t window;
  float scale;
  void* quantized;                 /* [sequences*query_length, q_heads*head_dim] the device's FP8, or null; output and
                                      quantized are not both null */
  float* scales;                   /* [sequences*query_length, ceil(q_heads*head_dim/128)], null with quantized */
  int64_t quantized_stride, scale_stride;
} octet_attention_decode_args;
OCTET_OP_WITH_WORKSPACE(attention_decode);

/* sampling: a row with a logit that is not finite (NaN, +inf, -inf), or with no token its mask allows: -1, whatever its
 * settings; the other rows are not affected. In this order:
 *  1. With logprob_counts >= 0, the logarithms of softmax(logits) as they came, before all that follows: of the token
 *     that will be drawn, and of the logprob_counts most likely ones (ties: lowest index first).
 *  2. Adjustments: x = the logit of the token; x / penalty where x > 0, else x * penalty; + bias; what lies beyond the
 *     finite floats, NaN too, becomes the nearest (NaN: the lowest) of them. The lowest is drawn only where nothing else
 *     is left, or at temperatures beyond 1e36: a bias of -inf excludes a token.
 *  3. The mask: tokens whose bit (index % 32 of word index / 32) is 0 take no part.
 *  4. Temperature 0: the index of the largest logit (ties: lowest). Else, with z = logit / temperature: keep the tokens
 *     whose logit is at least the top_k-th largest (0: all); of those the smallest set of largest logits whose
 *     softmax(z) mass over the kept tokens reaches top_p (ties at the edge kept); of those the ones at least min_p times
 *     as likely as the most likely; and draw one by arg max of z - log(-log(u)), u = uniform(seed, counter, index) from
 *     Philox4x32-10: a pure function of its inputs.
 * u: Philox with key {low, high word of seed} and counter {index, 0, low, high word of counter}, first output word w:
 * u = ((w >> 8) + 0.5) * 2^-24. */
typedef struct octet_sampling_args {
  size_t struct_size;
  float* logits;             /* [rows, vocabulary]; as they came when the op is done, adjusted while it runs */
  const float* temperatures; /* [rows] */
  const int32_t* top_k;      /* [rows] */
  const float* top_p;        /* [rows]; >= 1: all */
  const int64_t* seeds;      /* [rows] */
  const int64_t* counters;   /* [rows], usually the position being sampled */
  int32_t* ids;              /* [rows]: an index into the row, or -1 */
  void* workspace;
  size_t workspace_size;
  int64_t rows, vocabulary;
  int64_t logits_stride;
  const float* min_p;                /* [rows], or null: 0, all */
  const int32_t* adjustment_starts;  /* [rows + 1], ascending from 0: the adjustments of each row; or null: none */
  const int32_t* adjusted_tokens;    /* [adjustments]: no token twice in a row; those outside the vocabulary are skipped */
  const float* penalties;            /* [adjustments] > 0; 1: none */
  const float* biases;               /* [adjustments]; 0: none */
  const int32_t* mask_rows;          /* [rows]: a row of masks, or -1: all tokens; or null: all tokens */
  const uint32_t* masks;             /* [any, ceil(vocabulary/32)]: a bit for each token, 1 where it is allowed */
  const int32_t* logprob_counts;     /* [rows] <= alternatives; -1: nothing is written for the row; or null: for none */
  float* token_logprobs;             /* [rows]: of the token drawn; NaN where the id is -1 */
  int32_t* top_ids;                  /* [rows, alternatives], the most likely first; -1 beyond the vocabulary and in
                                        rows that are not finite; or null with alternatives */
  float* top_logprobs;               /* [rows, alternatives]; -inf, and NaN, where top_ids are -1 */
  int64_t adjustments;               /* room of the three arrays */
  int64_t masks_stride;
  int32_t alternatives;
} octet_sampling_args;
OCTET_OP_WITH_WORKSPACE(sampling);

/* ---- ops of a group of devices --------------------------------------------------------------------------------------- */

/* The ranks of a group are devices that reach each other (octet_device_enable_peer), each driven by a host thread of its own. */
#define OCTET_MAX_RANKS 8
#define OCTET_SIGNAL_STRIDE 16           /* words between the counters of a rank: 64 bytes, so that no two share a line */
#define OCTET_SIGNAL_POISON 0xFFFFFFFFu  /* no count */

typedef enum octet_group_status {
  OCTET_GROUP_RUNNING = 0,
  OCTET_GROUP_POISONED = 1, /* a peer or the host stopped the group */
  OCTET_GROUP_TIMED_OUT = 2 /* bit 8 + r is set for each rank r that had not come by the deadline */
} octet_group_status;

/* group_sync: tells every peer that all work before it on this stream is done, and waits until every peer has said so. What the
 * peers' kernels wrote before their sync is then seen by the kernels behind this one, and what they read before it may be
 * overwritten. Counters only grow (they wrap, poison left out) and nothing is reset, so that a graph can be replayed.
 * A group stops where a rank does not come within timeout_ms, or where somebody writes OCTET_SIGNAL_POISON to counter r of
 * signals[r]: the sync writes its status, poisons its peers and ends; so does every later one, at once. To go on the host zeroes
 * signals, epoch and status of all ranks. */
typedef struct octet_group_sync_args {
  size_t struct_size;
  uint32_t* signals[OCTET_MAX_RANKS]; /* signals[r]: signal memory of rank r, OCTET_MAX_RANKS counters OCTET_SIGNAL_STRIDE apart;
                                         counter s is written by rank s, counter r by who poisons r */
  uint32_t* epoch;                    /* [1] own memory: the syncs so far */
  uint32_t* status;                   /* [1] own memory: an octet_group_status; stays once it is not 0 */
  int32_t rank, ranks;                /* 0 <= rank < ranks, 1..OCTET_MAX_RANKS */
  int32_t timeout_ms;                 /* 1..3,600,000 */
  int32_t reserved;
} octet_group_sync_args;
OCTET_OP(group_sync);

/* gather: output[i] = sources[r][i] for the rows i = starts[r] .. starts[r+1]-1 that rank r owns, of every r. Behind a group_sync
 * that all ranks passed after they wrote; the sources may be written again behind the next one. */
typedef struct octet_gather_array {
  const void* sources[OCTET_MAX_RANKS]; /* [rows, row_bytes]; where sources[rank] is output, the own rows are in place */
  void* output;                         /* [rows, row_bytes] own memory; touches no peer's source */
  int64_t row_bytes;
  int64_t source_stride, output_stride; /* bytes */
} octet_gather_array;

#define OCTET_MAX_GATHER_ARRAYS 4
typedef struct octet_gather_args {
  size_t struct_size;
  octet_gather_array arrays[OCTET_MAX_GATHER_ARRAYS];
  int64_t starts[OCTET_MAX_RANKS + 1]; /* [ranks + 1] ascending from 0 */
  int32_t array_count;                 /* 1..OCTET_MAX_GATHER_ARRAYS */
  int32_t rank, ranks;
  int32_t reserved;
} octet_gather_args;
OCTET_OP(gather);

/* noop: checks its arguments and returns; what a call through the ABI costs. */
OCTET_API octet_status octet_noop(octet_stream* stream);

#ifdef __cplusplus
}
#endif
#endif
