// The emulator against this machine: functions compiled for both give the same bits, exchanges between lanes and matrix
// products give what their definitions say, and each planted mistake is reported.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <random>

#include "machine.h"
#include "run.h"

namespace octet::gfx942 {
namespace {

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
CodeObject& machine_code() {
  static CodeObject code = [] {
    const std::vector<char> bytes = read_file(OCTET_MACHINE_IMAGE);
    return CodeObject(bytes.data(), bytes.size());
  }();
  return code;
}

struct Grid {
  uint32_t blocks[3] = {1, 1, 1}, threads[3] = {64, 1, 1};
  uint32_t lds = 0;
};

template <class T>
Range range_of(const std::vector<T>& values) {
  return {reinterpret_cast<uint64_t>(values.data()), reinterpret_cast<uint64_t>(values.data() + values.size())};
}
void add_memory(std::vector<Range>&, int) {}
template <class T>
void add_memory(std::vector<Range>& memory, const std::vector<T>* values) {
  memory.push_back(range_of(*values));
}

template <class T>
uint64_t value_of(const std::vector<T>* values) {
  return reinterpret_cast<uint64_t>(values->data());
}
uint64_t value_of(int value) { return static_cast<uint32_t>(value); }

// Pointers to vectors become device pointers to memory that is alive.
template <class... Arguments>
void launch(const std::string& name, const Grid& grid, Arguments... arguments) {
  const Kernel* kernel = machine_code().find(name);
  ASSERT_NE(kernel, nullptr) << name;
  Launch launch{kernel, {}, {}, grid.lds, std::vector<uint8_t>(kernel->descriptor.kernarg_size)};
  std::copy_n(grid.blocks, 3, launch.grid);
  std::copy_n(grid.threads, 3, launch.block);
  size_t next = 0;
  const auto add = [&](uint64_t value) {
    std::memcpy(&launch.kernarg[kernel->arguments[next].offset], &value, kernel->arguments[next].size);
    next++;
  };
  (add(value_of(arguments)), ...);
  std::vector<Range> memory;
  (add_memory(memory, arguments), ...);
  run(launch, {memory});
}

// ---- functions of one lane ----

constexpr int samples = 4096;

// Random numbers of every size, and those at the ends of each range.
std::vector<uint64_t> numbers(uint64_t seed) {
  std::mt19937_64 random(seed);
  static const uint64_t ends[] = {0,
                                  1,
                                  2,
                                  3,
                                  0x7FFFFFFF,
                                  0x80000000,
                                  0xFFFFFFFF,
                                  0x100000000,
                                  ~0ull,
                                  1ull << 63,
                                  (1ull << 63) - 1,
                                  0x7F800000,
                                  0xFF800000,
                                  0x7FC00000,
                                  0x00000001,
                                  0x807FFFFF,
                                  0x00800000,
                                  0x7F7FFFFF,
                                  0x3F800000,
                                  0xBF800000,
                                  0x3F000000,
                                  0x4F000000,
                                  0x7FF0000000000000,
                                  0x3FF0000000000000,
                                  0x7FF8000000000000};
  std::vector<uint64_t> values(samples);
  for (uint64_t& x : values) {
    x = random() >> random() % 64;
    if (random() % 4 == 0) x = ends[random() % std::size(ends)];
    if (random() % 4 == 0) x = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(random())) * 0x1p-20f);
    if (random() % 8 == 0) x = std::bit_cast<uint64_t>(static_cast<double>(static_cast<int64_t>(random())) * 0x1p-40);
  }
  return values;
}

using Function = uint64_t (*)(uint64_t, uint64_t, uint64_t);
struct Named {
  const char* name;
  Function function;
  int float_bits;  // 0 for integers
  bool uniform = false;
};
std::ostream& operator<<(std::ostream& out, const Named& one) {
  return out << (one.uniform ? "uniform_" : "") << one.name;
}

class Machine : public testing::TestWithParam<Named> {};

TEST_P(Machine, Function_gives_the_bits_it_gives_here) {
  const Named& one = GetParam();
  const auto a = numbers(1), b = numbers(2), c = numbers(3);
  std::vector<uint64_t> result(samples);
  const std::string name = (one.uniform ? "uniform_" : "") + std::string(one.name);
  const Grid grid = one.uniform ? Grid{{samples, 1, 1}} : Grid{{samples / 256, 1, 1}, {256, 1, 1}};
  launch(name, grid, &a, &b, &c, &result, samples);
  for (size_t i = 0; i < samples; i++) {
    const uint64_t expected = one.function(a[i], b[i], c[i]);
    if (one.float_bits == 32 && std::isnan(F32(expected)) && std::isnan(F32(result[i]))) continue;
    if (one.float_bits == 64 && std::isnan(F64(expected)) && std::isnan(F64(result[i]))) continue;
    ASSERT_EQ(result[i], expected) << std::hex << one.name << "(0x" << a[i] << ", 0x" << b[i] << ", 0x" << c[i] << ")";
  }
}

#define INTEGER_CASE(name, expression) Named{#name, machine::name, 0},
#define UNIFORM_CASE(name, expression) Named{#name, machine::name, 0, true},
#define FLOAT_CASE(name, expression) Named{#name, machine::name, 32},
#define DOUBLE_CASE(name, expression) Named{#name, machine::name, 64},
const Named functions[] = {INTEGER_FUNCTIONS(INTEGER_CASE) INTEGER_FUNCTIONS(UNIFORM_CASE) FLOAT_FUNCTIONS(FLOAT_CASE)
                               DOUBLE_FUNCTIONS(DOUBLE_CASE)};
INSTANTIATE_TEST_SUITE_P(All, Machine, testing::ValuesIn(functions),
                         [](const auto& info) { return testing::PrintToString(info.param); });

TEST(Gfx942, Approximations_are_within_one_ulp_and_flush_denormals) {
  std::vector<float> x;
  for (const uint64_t bits : numbers(4)) x.push_back(F32(bits));
  std::vector<float> out(4 * samples);
  launch("approximations", {{samples / 64, 1, 1}}, &x, &out, samples);
  const auto flushed = [](double value) { return std::fabs(value) < 0x1p-126 ? std::copysign(0.0, value) : value; };
  for (size_t i = 0; i < samples; i++) {
    const double in = flushed(x[i]);
    const double expected[] = {std::exp2(in), std::log2(in), 1 / in, 1 / std::sqrt(in)};
    for (size_t f = 0; f < 4; f++) {
      const float got = out[f * samples + i];
      const auto want = static_cast<float>(flushed(expected[f]));
      if (std::isnan(want) || std::isinf(want))
        ASSERT_TRUE(std::isnan(want) ? std::isnan(got) : got == want) << f << " of " << x[i];
      else
        ASSERT_LE(std::fabs(got - want), std::fabs(want) * 0x1p-23f) << f << " of " << x[i];
    }
  }
}

// ---- launches ----

TEST(Gfx942, Threads_know_their_place_in_three_axes) {
  std::vector<uint32_t> result(24 * 30);
  launch("places", {{2, 3, 4}, {5, 3, 2}}, &result);
  for (uint32_t i = 0; i < result.size(); i++) {
    const uint32_t thread = i % 30;
    ASSERT_EQ(result[i], (thread % 5) | (thread / 5 % 3) << 8 | (thread / 15) << 16 | 2u << 24) << i;
  }
}

TEST(Gfx942, Arguments_arrive_at_their_offsets) {
  std::vector<uint64_t> result(1);
  struct {
    uint8_t byte = 200;
    uint64_t* result;
    int16_t half = -100;
    double real = 1e6;
  } mixed{.result = result.data()};
  const Kernel* kernel = machine_code().find("arguments");
  Launch launch{kernel, {1, 1, 1}, {64, 1, 1}, 0, std::vector<uint8_t>(kernel->descriptor.kernarg_size)};
  std::memcpy(launch.kernarg.data(), &mixed, sizeof(mixed));
  launch.kernarg[kernel->arguments[1].offset] = 7;
  run(launch, {{range_of(result)}});
  EXPECT_EQ(result[0], 200u - 100u + 1000000u + 7u);
}

// ---- lanes ----

TEST(Gfx942, Waves_exchange_through_lds_across_barriers) {
  constexpr uint32_t size = 1024;
  std::vector<uint32_t> in(size), out(3 * size);
  std::iota(in.begin(), in.end(), 0u);
  launch("exchange", {{1, 1, 1}, {size, 1, 1}, 4 * size}, &in, &out);
  for (uint32_t round = 0; round < 3; round++)
    for (uint32_t t = 0; t < size; t++) ASSERT_EQ(out[round * size + t], size - 1 - t + round);
}

TEST(Gfx942, Atomics_count_every_lane_of_every_block) {
  std::vector<uint32_t> out(8);
  launch("lds_count", {{100, 1, 1}, {256, 1, 1}, 32}, &out);
  for (uint32_t i = 0; i < 8; i++) EXPECT_EQ(out[i], 100 * (32 * i + 8 * (31 * 32 / 2)));
}

TEST(Gfx942, Shuffles_take_the_lanes_they_name) {
  std::vector<int> in(64), out(9 * 64);
  for (int i = 0; i < 64; i++) in[static_cast<size_t>(i)] = 100 + i * i % 37;
  launch("shuffles", {}, &in, &out);
  const auto x = [&](int lane) { return in[static_cast<size_t>(lane)]; };
  uint64_t odd = 0;
  for (int t = 0; t < 64; t++) odd |= static_cast<uint64_t>(x(t) & 1) << t;
  for (int t = 0; t < 64; t++) {
    const auto got = [&](int row) { return out[static_cast<size_t>(64 * row + t)]; };
    EXPECT_EQ(got(0), x(63 - t));
    EXPECT_EQ(got(1), x(t ^ 1));
    EXPECT_EQ(got(2), t % 16 == 0 ? -1 : x(t - 1));
    EXPECT_EQ(got(3), x(t ^ 3));
    EXPECT_EQ(got(4), t / 16 % 2 == 0 ? x(t ^ 15) : -1);
    EXPECT_EQ(got(5), t % 16 == 15 ? 0 : x(t + 1));
    EXPECT_EQ(got(6), x(17) + x(0));
    EXPECT_EQ(got(7), t % 3 == 1 ? x(1) + std::min(t, 32) : -1);
    EXPECT_EQ(got(8), static_cast<int>(t < 32 ? odd : odd >> 32));
  }
}

// ---- matrices ----

// Small whole numbers, whose sums are exact in any order.
uint8_t fp8_code(int value) {  // FNUZ, -8 to 8
  if (value == 0) return 0;
  const int magnitude = std::abs(value), exponent = std::bit_width(static_cast<unsigned>(magnitude)) - 1;
  return static_cast<uint8_t>((value < 0 ? 0x80 : 0) | (exponent + 8) << 3 | ((magnitude << 3 >> exponent) & 7));
}
uint16_t bf16_code(int value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16);
}
template <class Code>
void expect_product(const char* kernel, int size, int depth, Code (*encode)(int)) {
  std::mt19937 random(5);
  const auto at = [](int row, int column, int width) { return static_cast<size_t>(row * width + column); };
  std::vector<int> a(at(size, 0, depth)), b(a.size());
  for (int& x : a) x = static_cast<int>(random() % 17) - 8;
  for (int& x : b) x = static_cast<int>(random() % 17) - 8;
  const int each = depth * size / 64;  // values of a lane
  std::vector<Code> lanes_a(at(64, 0, each)), lanes_b(lanes_a.size());
  for (int i = 0; i < size; i++)
    for (int k = 0; k < depth; k++) {
      lanes_a[at(k / each * size + i, k % each, each)] = encode(a[at(i, k, depth)]);
      lanes_b[at(k / each * size + i, k % each, each)] = encode(b[at(i, k, depth)]);
    }
  std::vector<float> d(at(size, 0, size));
  launch(kernel, {}, &lanes_a, &lanes_b, &d);
  for (int i = 0; i < size; i++)
    for (int j = 0; j < size; j++) {
      int sum = 1;
      for (int k = 0; k < depth; k++) sum += a[at(i, k, depth)] * b[at(j, k, depth)];
      ASSERT_EQ(d[at(i, j, size)], static_cast<float>(sum)) << kernel << " " << i << " " << j;
    }
}
TEST(Gfx942, Matrix_instructions_multiply) {
  expect_product("mfma_16_fp8", 16, 32, fp8_code);
  expect_product("mfma_32_fp8", 32, 16, fp8_code);
  expect_product("mfma_16_bf16", 16, 16, bf16_code);
  expect_product("mfma_32_bf16", 32, 8, bf16_code);
}

// ---- FP8 ----

// FNUZ by its definition.
float fp8_value(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  if (code == 0x80) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude =
      exponent == 0 ? std::ldexp(mantissa / 8.0f, -7) : std::ldexp(1 + mantissa / 8.0f, exponent - 8);
  return code & 0x80 ? -magnitude : magnitude;
}
TEST(Gfx942, Every_fp8_code_widens) {
  std::vector<uint32_t> codes(64);
  for (uint32_t i = 0; i < 64; i++) codes[i] = 0x03020100u + 0x04040404u * i;
  std::vector<float> values(256);
  launch("widen_fp8", {}, &codes, &values);
  for (int code = 0; code < 256; code++) {
    const float got = values[static_cast<size_t>(code)];
    EXPECT_TRUE(code == 0x80 ? std::isnan(got) : got == fp8_value(code)) << code << " gives " << got;
  }
}
TEST(Gfx942, Fp8_narrows_to_the_nearest_code_and_to_even_at_midpoints) {
  std::vector<float> values;
  for (int code = 0; code < 0x7F; code++) {
    const float low = fp8_value(code), middle = (low + fp8_value(code + 1)) / 2;
    for (const float x : {low, std::nextafter(middle, 0.0f), middle, std::nextafter(middle, 300.0f)})
      values.push_back(x), values.push_back(-x);
  }
  for (const float x : {0.0f, 1e-30f, 240.0f, 247.99f, 248.0f, 300.0f, std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::quiet_NaN()})
    values.push_back(x), values.push_back(-x);
  values.resize((values.size() + 255) / 256 * 256);
  std::vector<uint32_t> codes(values.size() / 4);
  launch("narrow_fp8", {{static_cast<uint32_t>(codes.size() / 64), 1, 1}}, &values, &codes);
  for (size_t i = 0; i < values.size(); i++) {
    const int got = static_cast<int>(codes[i / 4] >> 8 * (i % 4) & 0xFF);
    const float magnitude = std::fabs(values[i]);
    int expected = 0x80;
    if (magnitude < 248) {
      expected = 0;
      for (int code = 1; code < 0x80; code++) {
        const float now = std::fabs(fp8_value(expected) - magnitude), next = std::fabs(fp8_value(code) - magnitude);
        if (next < now || (next == now && code % 2 == 0)) expected = code;
      }
      if (expected != 0 && std::signbit(values[i])) expected |= 0x80;
    }
    ASSERT_EQ(got, expected) << values[i];
  }
}

TEST(Gfx942, Buffer_loads_give_zero_beyond_the_resource) {
  std::vector<uint32_t> in(256, 9), out(256);
  launch("buffer_tail", {}, &in, &out, 4 * 101);
  for (size_t i = 0; i < 256; i++) EXPECT_EQ(out[i], i < 101 ? 9u : 0u) << i;
}

// ---- mistakes ----

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Fault& problem) {
    return problem.what();
  }
  return "no fault";
}
#define EXPECT_FAULT(part, ...)                                           \
  do {                                                                    \
    const std::string message = message_of([&] { launch(__VA_ARGS__); }); \
    EXPECT_NE(message.find(part), std::string::npos) << message;          \
  } while (false)

TEST(Gfx942, Mistakes_are_reported_with_their_place) {
  std::vector<uint32_t> in(64, 41), out(256);
  EXPECT_FAULT("is used before the s_waitcnt", "wrong_no_wait", {}, &in, &out);
  EXPECT_FAULT("is used before the s_waitcnt", "wrong_wait_too_short", {}, &in, &out);
  EXPECT_FAULT("is used before the s_waitcnt", "wrong_scalar_wait", {}, &in, &out);
  EXPECT_FAULT("s_barrier while an LDS write is under way", "wrong_barrier", (Grid{{1, 1, 1}, {256, 1, 1}, 1024}),
               &out);
  EXPECT_FAULT("lane 5 stores 4 bytes", "wrong_store", {}, &out, 251);
  EXPECT_FAULT("wrong_store: block (0, 0, 0), wave 3, pc 0x", "wrong_store", (Grid{{1, 1, 1}, {256, 1, 1}}), &out, 40);
  EXPECT_FAULT("lane 63 accesses LDS bytes 256 to 260 of a launch with 256 bytes", "wrong_lds",
               (Grid{{1, 1, 1}, {64, 1, 1}, 256}), &out, 1);
  EXPECT_FAULT("not aligned", "wrong_alignment", (Grid{{1, 1, 1}, {64, 1, 1}, 4096}), &out, 4);
  EXPECT_FAULT("no instruction 'v_sin_f32' is known", "wrong_unknown", {}, &out);
  launch("right_wait", {}, &in, &out);
  EXPECT_EQ(out[0], 42u + 41u);
}

// Every kernel of the library decodes, so that a new instruction is noticed here and not first by the case that reaches
// it.
TEST(Gfx942, Every_kernel_of_the_library_decodes) {
  int kernels = 0;
  for (const char* path : {OCTET_IMAGES}) {
    const std::vector<char> bytes = read_file(path);
    ASSERT_NE(size_of_gfx942_image(bytes.data()), 0u) << path;
    CodeObject code(bytes.data(), bytes.size());
    for (const std::string& name : code.names()) {
      EXPECT_NE(code.find(name), nullptr);
      kernels++;
    }
  }
  EXPECT_GT(kernels, 40);
}

}  // namespace
}  // namespace octet::gfx942
