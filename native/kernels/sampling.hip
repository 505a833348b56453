// sampling: the next token of each row of logits: the arg max, or a draw by temperature, top-k, top-p and min-p, after
// adjustments of single tokens and among those a mask allows; and logarithms of the probabilities.
//
//   logit = adjusted: logit / penalty where it is positive, else logit * penalty; + bias
//   z = (logit - largest logit) / temperature
//   kept by top_k: logits at least the k-th largest;  kept by top_p: of those, the largest ones, until their share of
//   the sum of exp(z) reaches top_p (ties at the edge kept);  kept by min_p: exp(z) at least min_p
//   id = arg max over the kept of z - log(-log(u)), u = uniform(seed, counter, index): the Gumbel-max draw from
//   softmax(z)
//
// Ties go to the lowest index; a row with a logit that is not finite, or with no token allowed, gives -1; a temperature
// that is not above 0 means 0, a top_p that is NaN means 1.
//
// logits [rows, vocabulary] f32. One block of up to 1024 threads serves one row. Both thresholds come from the same
// radix selection on the bits of the logit, mapped to an unsigned key of the same order: three passes (11, 11, 10 bits)
// build a histogram of weights in LDS and descend into the bin that holds the target. The weight is 1 for top_k and
// exp(z) in fixed point (40 fractional bits: 2^17 tokens err by less than an f32 rounding of their sum) for top_p.
// Integer sums have no order, so the atomics keep the result the same on every run. Uniforms are Philox4x32-10 (Salmon
// et al., "Parallel random numbers: as easy as 1, 2, 3", SC11).
//
// Adjusted logits stand in the row while it is drawn from, what they were in the workspace; the row is put back at the
// end, so the logarithms, which come first, and whoever reads the logits later see the model's own. A row without
// adjustments, mask or logarithms pays three loads for them.
//
// Floor: 4 bytes a logit: 152k logits are 608 KB, 0.13 us of the chip's bandwidth but 4.5 us of the 64 B/clk one CU
// gets from its L2; every further pass (3 for top_k, 3 for top_p, 1 for the draw, 2 for logarithms and 1 more for each
// alternative but the first) costs the same again.
#include <stdint.h>

constexpr int sampling_threads = 1024;
constexpr int sampling_bins = 2048;

struct SamplingParams {
  float* logits;                     // [rows, vocabulary]
  const float* temperatures;         // [rows]
  const int32_t* top_k;              // [rows]
  const float* top_p;                // [rows]
  const float* min_p;                // [rows], or null
  const int64_t* seeds;              // [rows]
  const int64_t* counters;           // [rows]
  int32_t* ids;                      // [rows]
  const int32_t* adjustment_starts;  // [rows + 1], or null
  const int32_t* adjusted_tokens;    // [adjustments]
  const float* penalties;            // [adjustments]
  const float* biases;               // [adjustments]
  float* replaced;                   // [adjustments]: the workspace
  const int32_t* mask_rows;          // [rows], or null
  const uint32_t* masks;             // [any, ceil(vocabulary/32)]
  const int32_t* logprob_counts;     // [rows], or null
  float* token_logprobs;             // [rows]
  int32_t* top_ids;                  // [rows, alternatives]
  float* top_logprobs;               // [rows, alternatives]
  int64_t vocabulary, logits_stride, masks_stride;
  int32_t alternatives;
  int32_t aligned;  // 1: every row begins on 16 bytes
};

struct SamplingLds {
  uint64_t histogram[sampling_bins];
  uint64_t waves[sampling_threads / 32];
  uint64_t remaining;
  uint32_t bin;
};

#if !defined(OCTET_HOST)
#include "device.h"

// A key whose order as an unsigned number is the order of the float; -0 equals +0.
OCTET_INLINE uint32_t to_key(float x) {
  const uint32_t bits = float_bits(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
OCTET_INLINE float from_key(uint32_t key) { return bits_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key); }

// The key of a logit that is not finite: above all others, so that the search for the largest finds it at no cost.
constexpr uint32_t not_finite_key = 0xFFFFFFFFu;

// Below the keys of all logits.
constexpr uint32_t no_key = 0;

constexpr float largest_float = 0x1.fffffep127f;

// Key and index in one number: the largest is the largest key at its lowest index.
OCTET_INLINE uint64_t to_candidate(uint32_t key, int64_t index) {
  return static_cast<uint64_t>(key) << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(index));
}
OCTET_INLINE int32_t candidate_index(uint64_t candidate) {
  return static_cast<int32_t>(0xFFFFFFFFu - static_cast<uint32_t>(candidate));
}

OCTET_INLINE uint64_t join_words(uint32_t high, uint32_t low) { return static_cast<uint64_t>(high) << 32 | low; }

// The largest of the block, the same in every thread. Begins with a barrier: scratch may still be read from before.
OCTET_INLINE uint64_t block_largest(uint64_t x, uint64_t* scratch) {
  for (int mask = wave_size / 2; mask > 0; mask /= 2) {
    const uint32_t high = __shfl_xor(static_cast<uint32_t>(x >> 32), mask);
    const uint32_t low = __shfl_xor(static_cast<uint32_t>(x), mask);
    x = max_of(x, join_words(high, low));
  }
  __syncthreads();
  if (lane_index() == 0) scratch[wave_index()] = x;
  __syncthreads();
  x = scratch[0];
  for (int i = 1; i < static_cast<int>(blockDim.x) / wave_size; i++) x = max_of(x, scratch[i]);
  return x;
}

// body(index, logit) for every logit of the row, spread over the block, 16 bytes a lane.
template <class Body>
OCTET_INLINE void for_each_logit(const SamplingParams& params, Body body) {
  const float* row = params.logits + blockIdx.x * params.logits_stride;
  const int64_t step = static_cast<int64_t>(blockDim.x) * 4;
  for (int64_t index = threadIdx.x * 4; index < params.vocabulary; index += step) {
    if (params.aligned && index + 4 <= params.vocabulary) {
      const f32x4 four = *reinterpret_cast<const f32x4*>(row + index);
      for (int i = 0; i < 4; i++) body(index + i, four[i]);
    } else {
      for (int64_t i = index; i < min_of<int64_t>(index + 4, params.vocabulary); i++) body(i, row[i]);
    }
  }
}

// What is asked of the block's row. Loaded first of all: afterwards pointers would take the scalar registers.
struct RowSettings {
  float temperature, top_p, min_p;
  int32_t top_k, logprob_count;
  uint64_t seed, counter;
  int32_t adjustments_begin, adjustments_end;
  const uint32_t* mask;  // null: all tokens take part

  OCTET_INLINE bool allows(int64_t index) const {
    return mask == nullptr || (mask[index / 32] >> (index % 32) & 1) != 0;
  }
};
OCTET_INLINE RowSettings load_row(const SamplingParams& params) {
  const int64_t row = blockIdx.x;
  const int32_t mask = params.mask_rows == nullptr ? -1 : params.mask_rows[row];
  const bool adjusted = params.adjustment_starts != nullptr;
  return {
      .temperature = params.temperatures[row],
      .top_p = params.top_p[row],
      .min_p = params.min_p == nullptr ? 0.0f : params.min_p[row],
      .top_k = params.top_k[row],
      .logprob_count = params.logprob_counts == nullptr ? -1 : params.logprob_counts[row],
      .seed = static_cast<uint64_t>(params.seeds[row]),
      .counter = static_cast<uint64_t>(params.counters[row]),
      .adjustments_begin = adjusted ? params.adjustment_starts[row] : 0,
      .adjustments_end = adjusted ? params.adjustment_starts[row + 1] : 0,
      .mask = mask < 0 ? nullptr : params.masks + mask * params.masks_stride,
  };
}

// The largest key t such that the weights of the logits with key >= t sum to at least target(sum of all weights), which
// lies between 1 and that sum. weight(key): a whole number, 0 for logits that take no part.
template <class Weight, class Target>
OCTET_INLINE uint32_t select_key(const SamplingParams& params, SamplingLds& lds, const RowSettings& settings,
                                 Weight weight, Target target) {
  const int threads = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t prefix = 0;  // the bits of t found so far
  uint64_t remaining = 0;
  for (int pass = 0; pass < 3; pass++) {
    const int shift = pass == 0 ? 21 : pass == 1 ? 10 : 0;
    const int width = pass == 2 ? 10 : 11;
    const int bins = 1 << width;

    // The weights of the next bits, among the logits that share the bits found. The histogram's last readers are behind
    // a barrier already, that of the pass before.
    for (int i = thread; i < bins; i += threads) lds.histogram[i] = 0;
    __syncthreads();
    for_each_logit(params, [&](int64_t index, float x) {
      const uint32_t key = to_key(x);
      if (static_cast<uint64_t>(key) >> (shift + width) != prefix || !settings.allows(index)) return;
      const uint64_t w = weight(key);
      if (w > 0) atomic_add(&lds.histogram[key >> shift & (bins - 1)], w);
    });
    __syncthreads();

    // Each thread owns a run of bins, thread 0 the highest; `above` is the weight of all higher runs.
    const int run = bins / threads;
    const int highest = bins - 1 - thread * run;
    uint64_t own = 0;
    for (int i = 0; i < run; i++) own += lds.histogram[highest - i];
    uint64_t above = own;
    for (int delta = 1; delta < wave_size; delta *= 2) {
      const uint32_t high = __shfl_up(static_cast<uint32_t>(above >> 32), delta);
      const uint32_t low = __shfl_up(static_cast<uint32_t>(above), delta);
      if (lane_index() >= delta) above += join_words(high, low);
    }
    if (lane_index() == wave_size - 1) lds.waves[wave_index()] = above;
    __syncthreads();
    above -= own;
    uint64_t total = 0;
    for (int i = 0; i < threads / wave_size; i++) {
      if (i < wave_index()) above += lds.waves[i];
      total += lds.waves[i];
    }
    if (pass == 0) remaining = target(total);

    // The one thread whose run holds the target finds the bin.
    if (above < remaining && remaining <= above + own) {
      int bin = highest;
      while (above + lds.histogram[bin] < remaining) above += lds.histogram[bin--];
      lds.bin = static_cast<uint32_t>(bin);
      lds.remaining = remaining - above;
    }
    __syncthreads();
    prefix = prefix << width | lds.bin;
    remaining = lds.remaining;
  }
  return prefix;
}

// Philox4x32-10: the first output word for counter {index, 0, low, high of counter} and key {low, high of seed}.
OCTET_INLINE uint32_t philox(uint64_t seed, uint64_t counter, uint32_t index) {
  uint32_t c0 = index, c1 = 0, c2 = static_cast<uint32_t>(counter), c3 = static_cast<uint32_t>(counter >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = static_cast<uint64_t>(c0) * 0xD2511F53u;
    const uint64_t p1 = static_cast<uint64_t>(c2) * 0xCD9E8D57u;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c0;
}

// -log(-log(u)), u = ((word >> 8) + 0.5) * 2^-24.
// NOTE: the winners have u next to 1, where u rounds in f32 and log loses all digits; there -log(u) is taken from v = 1
// - u, which is exact, as 2 atanh(v / (2 - v)).
OCTET_INLINE float gumbel(uint32_t word) {
  const uint32_t n = word >> 8;
  const float v = static_cast<float>(2 * (0xFFFFFFu - n) + 1) * 0x1p-25f;
  float exponential;
  if (v < 0.0625f) {
    const float s = v / (2.0f - v);
    const float s2 = s * s;
    exponential = 2.0f * s * (1.0f + s2 * (1.0f / 3.0f + s2 * (1.0f / 5.0f)));
  } else {
    exponential = -log_fast((static_cast<float>(n) + 0.5f) * 0x1p-24f);
  }
  return -log_fast(exponential);
}

// The token of the row as its logits stand, or -1; the same in every thread.
OCTET_INLINE int32_t draw_token(const SamplingParams& params, SamplingLds& lds, const RowSettings& settings) {
  // Phase 1: the largest logit, which is the answer at temperature 0.
  uint64_t best = to_candidate(no_key, 0);
  for_each_logit(params, [&](int64_t index, float x) {
    if (!is_finite(x)) {
      best = max_of(best, to_candidate(not_finite_key, index));
    } else if (settings.allows(index)) {
      best = max_of(best, to_candidate(to_key(x), index));
    }
  });
  best = block_largest(best, lds.waves);
  const uint32_t largest_key = static_cast<uint32_t>(best >> 32);
  if (largest_key == not_finite_key || largest_key == no_key) return -1;
  if (!(settings.temperature > 0.0f)) return candidate_index(best);
  const float largest = from_key(largest_key);
  // Finite, so that a difference of logits that overflows to -inf stays -inf.
  const float temperature = __builtin_fminf(settings.temperature, 0x1p127f);

  // Phase 2: the key below which nothing is kept.
  uint32_t threshold = 0;
  const int64_t k = settings.top_k;
  if (k > 0 && k < params.vocabulary) {
    threshold = select_key(
        params, lds, settings, [](uint32_t) { return uint64_t{1}; },
        [&](uint64_t total) { return min_of(static_cast<uint64_t>(k), total); });
  }
  const float p = settings.top_p;
  if (p < 1.0f) {
    const auto mass = [&](uint32_t key) {
      if (key < threshold) return uint64_t{0};
      return static_cast<uint64_t>(exp_fast((from_key(key) - largest) / temperature) * 0x1p40f);
    };
    threshold = select_key(params, lds, settings, mass, [&](uint64_t total) {
      const double share = static_cast<double>(max_of(p, 0.0f)) * static_cast<double>(total);
      return min_of(max_of(static_cast<uint64_t>(share), uint64_t{1}), total);
    });
  }
  const float lowest = settings.min_p > 0.0f ? log_fast(__builtin_fminf(settings.min_p, 1.0f)) : -__builtin_inff();

  // Phase 3: the draw.
  best = to_candidate(no_key, 0);
  for_each_logit(params, [&](int64_t index, float x) {
    if (to_key(x) < threshold || !settings.allows(index)) return;
    const float z = (x - largest) / temperature;
    if (z < lowest) return;
    const float score = z + gumbel(philox(settings.seed, settings.counter, static_cast<uint32_t>(index)));
    best = max_of(best, to_candidate(to_key(score), index));
  });
  return candidate_index(block_largest(best, lds.waves));
}

// log(softmax(logits)) is logit - largest - log_sum.
struct LogSum {
  float largest, log_sum;
  OCTET_INLINE float logprob(float logit) const { return (logit - largest) - log_sum; }
};

// The sum of the row, NaN where a logit is not finite; and its most likely tokens, written out.
OCTET_INLINE LogSum log_softmax(const SamplingParams& params, SamplingLds& lds, int32_t count) {
  const auto write = [&](int32_t i, int32_t id, float logprob) {
    if (threadIdx.x != 0) return;
    params.top_ids[static_cast<int64_t>(blockIdx.x) * params.alternatives + i] = id;
    params.top_logprobs[static_cast<int64_t>(blockIdx.x) * params.alternatives + i] = logprob;
  };
  uint64_t next = to_candidate(no_key, 0);
  for_each_logit(params, [&](int64_t index, float x) {
    next = max_of(next, to_candidate(is_finite(x) ? to_key(x) : not_finite_key, index));
  });
  next = block_largest(next, lds.waves);
  if (static_cast<uint32_t>(next >> 32) == not_finite_key) {
    for (int32_t i = 0; i < count; i++) write(i, -1, __builtin_nanf(""));
    return {__builtin_nanf(""), 0.0f};
  }

  const float largest = from_key(static_cast<uint32_t>(next >> 32));
  float sum = 0.0f;
  for_each_logit(params, [&](int64_t, float x) { sum += exp_fast(x - largest); });
  sum = wave_sum(sum);
  __syncthreads();
  if (lane_index() == 0) lds.waves[wave_index()] = float_bits(sum);
  __syncthreads();
  sum = 0.0f;
  for (int i = 0; i < static_cast<int>(blockDim.x) / wave_size; i++) {
    sum += bits_float(static_cast<uint32_t>(lds.waves[i]));
  }
  const LogSum result{largest, log_fast(sum)};

  // Each the largest of those behind the one before.
  for (int32_t i = 0; i < count; i++) {
    if (i > 0) {
      const uint64_t before = next;
      next = 0;
      for_each_logit(params, [&](int64_t index, float x) {
        const uint64_t candidate = to_candidate(to_key(x), index);
        if (candidate < before) next = max_of(next, candidate);
      });
      next = block_largest(next, lds.waves);
    }
    if (next == 0) {
      write(i, -1, -__builtin_inff());
    } else {
      write(i, candidate_index(next), result.logprob(from_key(static_cast<uint32_t>(next >> 32))));
    }
  }
  return result;
}

OCTET_INLINE float adjusted_logit(float x, float penalty, float bias) {
  const float y = (x > 0.0f ? x / penalty : x * penalty) + bias;
  return y > -largest_float ? __builtin_fminf(y, largest_float) : -largest_float;
}

OCTET_KERNEL(sampling_row, SamplingParams, sampling_threads) {
  SamplingLds& lds = OCTET_LDS(SamplingLds);
  const int64_t row = blockIdx.x;
  float* logits = params.logits + row * params.logits_stride;
  const RowSettings settings = load_row(params);
  const int32_t count = settings.logprob_count;
  LogSum raw{0.0f, 0.0f};
  if (count >= 0) raw = log_softmax(params, lds, min_of(count, params.alternatives));

  // body(number of the adjustment, the logit it is of), spread over the block.
  const bool adjusted = settings.adjustments_begin < settings.adjustments_end;
  const auto for_each_adjusted = [&](auto body) {
    for (int64_t i = settings.adjustments_begin + static_cast<int64_t>(threadIdx.x); i < settings.adjustments_end;
         i += blockDim.x) {
      const int64_t token = params.adjusted_tokens[i];
      if (token >= 0 && token < params.vocabulary) body(i, logits[token]);
    }
  };

  // The reads of the logarithms are behind a barrier. What is not finite stays, for the draw to find.
  for_each_adjusted([&](int64_t i, float& logit) {
    params.replaced[i] = logit;
    if (is_finite(logit)) logit = adjusted_logit(logit, params.penalties[i], params.biases[i]);
  });
  if (adjusted) __syncthreads();
  const int32_t id = draw_token(params, lds, settings);
  if (adjusted) {
    // So are those of the draw.
    for_each_adjusted([&](int64_t i, float& logit) { logit = params.replaced[i]; });
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    params.ids[row] = id;
    if (count >= 0) params.token_logprobs[row] = id < 0 ? __builtin_nanf("") : raw.logprob(logits[id]);
  }
}
#endif

#if defined(OCTET_HOST)
#include "../runtime/check.h"
#include "../runtime/driver.h"

namespace octet {
namespace {

// A power of two, so that the threads share the bins evenly; no more than four logits a thread need.
int sampling_waves(int64_t vocabulary, int wave_size) {
  int waves = 1;
  while (waves * wave_size < sampling_threads && waves * wave_size * 4 < vocabulary) waves *= 2;
  return waves;
}

const octet_sampling_args& sampling_checked(const octet_sampling_args* pointer) {
  const auto& args = checked("sampling", pointer);
  require_range("sampling", "rows", args.rows, 0, max_blocks(sampling_threads));
  require_range("sampling", "vocabulary", args.vocabulary, args.rows > 0, INT32_MAX);
  require_range("sampling", "logits_stride", args.logits_stride, args.vocabulary, max_stride);
  require_range("sampling", "adjustments", args.adjustments, 0, INT32_MAX);
  require_range("sampling", "alternatives", args.alternatives, 0, INT32_MAX);
  return args;
}

size_t sampling_bytes(const octet_sampling_args& args) {
  return args.adjustment_starts == nullptr ? 0 : sizeof(float) * static_cast<size_t>(args.adjustments);
}

}  // namespace
}  // namespace octet

extern "C" octet_status octet_sampling(const octet_sampling_args* pointer, octet_stream* stream) {
  using namespace octet;
  return guarded([&] {
    const auto& args = sampling_checked(pointer);
    require(stream != nullptr, "sampling: stream is null");
    if (args.rows == 0) return;
    require_pointer("sampling", "logits", args.logits);
    require_pointer("sampling", "temperatures", args.temperatures);
    require_pointer("sampling", "top_k", args.top_k);
    require_pointer("sampling", "top_p", args.top_p);
    require_pointer("sampling", "seeds", args.seeds);
    require_pointer("sampling", "counters", args.counters);
    require_pointer("sampling", "ids", args.ids);
    require_pointer_or_null("sampling", "min_p", args.min_p);
    require_pointer_or_null("sampling", "adjustment_starts", args.adjustment_starts);
    if (args.adjustment_starts != nullptr && args.adjustments > 0) {
      require_pointer("sampling", "adjusted_tokens", args.adjusted_tokens);
      require_pointer("sampling", "penalties", args.penalties);
      require_pointer("sampling", "biases", args.biases);
    }
    require_pointer_or_null("sampling", "mask_rows", args.mask_rows);
    if (args.mask_rows != nullptr) {
      require_pointer("sampling", "masks", args.masks);
      require_range("sampling", "masks_stride", args.masks_stride, (args.vocabulary + 31) / 32, max_stride);
    }
    require_pointer_or_null("sampling", "logprob_counts", args.logprob_counts);
    if (args.logprob_counts != nullptr) {
      require_pointer("sampling", "token_logprobs", args.token_logprobs);
      if (args.alternatives > 0) {
        require_pointer("sampling", "top_ids", args.top_ids);
        require_pointer("sampling", "top_logprobs", args.top_logprobs);
      }
    }
    require_workspace("sampling", args.workspace, args.workspace_size, sampling_bytes(args));
    const SamplingParams params{
        .logits = args.logits,
        .temperatures = args.temperatures,
        .top_k = args.top_k,
        .top_p = args.top_p,
        .min_p = args.min_p,
        .seeds = args.seeds,
        .counters = args.counters,
        .ids = args.ids,
        .adjustment_starts = args.adjustment_starts,
        .adjusted_tokens = args.adjusted_tokens,
        .penalties = args.penalties,
        .biases = args.biases,
        .replaced = static_cast<float*>(args.workspace),
        .mask_rows = args.mask_rows,
        .masks = args.masks,
        .logprob_counts = args.logprob_counts,
        .token_logprobs = args.token_logprobs,
        .top_ids = args.top_ids,
        .top_logprobs = args.top_logprobs,
        .vocabulary = args.vocabulary,
        .logits_stride = args.logits_stride,
        .masks_stride = args.masks_stride,
        .alternatives = args.alternatives,
        .aligned = args.logits_stride % 4 == 0,
    };
    launch(stream, "sampling_row", Grid{static_cast<uint32_t>(args.rows)},
           sampling_waves(args.vocabulary, facts(stream).wave_size), sizeof(SamplingLds), params);
  });
}

extern "C" octet_status octet_sampling_workspace(const octet_sampling_args* pointer, octet_device* device,
                                                 size_t* size) {
  using namespace octet;
  return guarded([&] {
    const auto& args = sampling_checked(pointer);
    require(device != nullptr, "sampling: device is null");
    require(size != nullptr, "sampling: size is null");
    *size = sampling_bytes(args);
  });
}
#endif
