// embedding: output[t] = table[ids[t]]; an id outside the vocabulary gives a row of zeros.
//
// table [vocabulary, hidden] bf16, output [tokens, hidden] bf16. One block of 256 threads copies one token's row, 16
// bytes a thread; rows whose bytes are not a multiple of 16 are copied by elements.
//
// Floor: 4 bytes an element (read, write). Hidden 4096, 4096 tokens: 67 MB, 14 us at 4.86 TB/s; one token is launch
// latency.
#include <stdint.h>

constexpr int embedding_threads = 256;

struct EmbeddingParams {
  const uint16_t* table;  // [vocabulary, hidden] bf16
  const int32_t* ids;     // [tokens]
  uint16_t* output;       // [tokens, hidden] bf16
  int64_t vocabulary, hidden, output_stride;
  int32_t aligned;  // 1: every row begins and ends on 16 bytes
};

#if !defined(OCTET_HOST)
#include "device.h"

OCTET_KERNEL(embedding_row, EmbeddingParams, embedding_threads) {
  const int64_t token = blockIdx.x;
  const int64_t id = params.ids[token];
  const bool known = id >= 0 && id < params.vocabulary;
  const uint16_t* source = params.table + (known ? id * params.hidden : 0);
  uint16_t* destination = params.output + token * params.output_stride;

  if (params.aligned) {
    for (int64_t i = threadIdx.x * 8; i < params.hidden; i += embedding_threads * 8) {
      u32x4 eight = {0, 0, 0, 0};
      if (known) eight = *reinterpret_cast<const u32x4*>(source + i);
      *reinterpret_cast<u32x4*>(destination + i) = eight;
    }
  } else {
    for (int64_t i = threadIdx.x; i < params.hidden; i += embedding_threads) destination[i] = known ? source[i] : 0;
  }
}
#endif

#if defined(OCTET_HOST)
#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

const octet_embedding_args& embedding_checked(const octet_embedding_args* pointer) {
  const auto& args = checked("embedding", pointer);
  require_range("embedding", "tokens", args.tokens, 0, max_blocks(embedding_threads));
  require_range("embedding", "vocabulary", args.vocabulary, 0, INT32_MAX);
  require_range("embedding", "hidden", args.hidden, 0, INT32_MAX);
  require_range("embedding", "output_stride", args.output_stride, args.hidden, max_stride);
  return args;
}

}  // namespace
}  // namespace octet

extern "C" octet_status octet_embedding(const octet_embedding_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    const auto& args = embedding_checked(pointer);
    require(stream != nullptr, "embedding: stream is null");
    if (args.tokens == 0 || args.hidden == 0) return;
    require_pointer("embedding", "ids", args.ids);
    require_pointer("embedding", "output", args.output);
    if (args.vocabulary > 0) require_pointer("embedding", "table", args.table);
    const EmbeddingParams params{
        .table = static_cast<const uint16_t*>(args.table),
        .ids = args.ids,
        .output = static_cast<uint16_t*>(args.output),
        .vocabulary = args.vocabulary,
        .hidden = args.hidden,
        .output_stride = args.output_stride,
        .aligned = args.hidden % 8 == 0 && args.output_stride % 8 == 0,
    };
    launch(stream, "embedding_row", Grid{static_cast<uint32_t>(args.tokens)},
           embedding_threads / facts(stream).wave_size, 0, params);
  });
}

extern "C" octet_status octet_embedding_workspace(const octet_embedding_args* pointer, octet_device* device,
                                                  size_t* size) {
  using namespace octet;
  return guarded([&] {
    embedding_checked(pointer);
    require(device != nullptr, "embedding: device is null");
    require(size != nullptr, "embedding: size is null");
    *size = 0;
  });
}
#endif
