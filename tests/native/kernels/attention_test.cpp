// The launchers of attention without a device: what they launch for which bounds, what scratch memory they ask for,
// what they refuse. The kernels' results are held to references by the parity cases.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "../../../native/kernels/attention_decode.hip"
#include "../../../native/kernels/attention_prefill.hip"

namespace {

struct Launch {
  std::string kernel;
  octet::Grid grid;
  int waves;
  size_t lds_bytes;
  std::vector<char> params;

  template <class Params>
  Params as() const {
    Params copy{};
    EXPECT_EQ(params.size(), sizeof(copy));
    std::memcpy(&copy, params.data(), sizeof(copy));
    return copy;
  }
};
std::vector<Launch> launches;
std::string last_error;
const octet::DeviceFacts mi325x{.name = "MI325X",
                                .target = octet::Target::gfx942,
                                .fp8 = OCTET_F8_E4M3_FNUZ,
                                .wave_size = 64,
                                .compute_units = 304,
                                .shared_memory = 65536,
                                .total_memory = int64_t{1} << 38};
const octet::DeviceFacts h200{.name = "H200",
                              .target = octet::Target::sm_90,
                              .fp8 = OCTET_F8_E4M3,
                              .wave_size = 32,
                              .compute_units = 132,
                              .shared_memory = 232448,
                              .total_memory = int64_t{1} << 37};
const octet::DeviceFacts* present = &mi325x;

// Addresses the launchers look at but never follow.
template <class T = void>
T* address(uintptr_t value) {
  return reinterpret_cast<T*>(value);
}
octet_stream* const stream = address<octet_stream>(0x1000);
octet_device* const device = address<octet_device>(0x1000);

template <class Args>
Args attention_args(int q_heads, int kv_heads, int64_t max_context, int head_dim, octet_dtype dtype) {
  const bool fp8 = dtype != OCTET_BF16;
  Args args{};
  args.struct_size = sizeof(args);
  args.q = address(0x10000);
  args.cache.k = address(0x20000);
  args.cache.v = address(0x30000);
  args.cache.k_scales = fp8 ? address<float>(0x40000) : nullptr;
  args.cache.v_scales = fp8 ? address<float>(0x50000) : nullptr;
  args.cache.blocks = 100000;
  args.cache.kv_heads = kv_heads;
  args.cache.block_size = 64;
  args.cache.head_dim = head_dim;
  args.cache.scale_count = fp8;
  args.cache.dtype = dtype;
  args.block_table = address<int32_t>(0x60000);
  args.context_lengths = address<int32_t>(0x70000);
  args.output = address(0x80000);
  args.workspace = address(0x90000);
  args.workspace_size = SIZE_MAX;
  args.max_context = max_context;
  args.q_stride = args.output_stride = int64_t{q_heads} * head_dim;
  args.block_table_stride = (max_context + 63) / 64;
  args.q_heads = q_heads;
  args.scale = 0.1f;
  return args;
}

octet_attention_decode_args decode_args(int64_t sequences, int q_heads, int kv_heads, int64_t max_context,
                                        int query_length = 1, int head_dim = 128,
                                        octet_dtype dtype = OCTET_F8_E4M3_FNUZ) {
  auto args = attention_args<octet_attention_decode_args>(q_heads, kv_heads, max_context, head_dim, dtype);
  args.sequences = sequences;
  args.query_length = query_length;
  return args;
}

octet_attention_prefill_args prefill_args(int64_t tokens, int q_heads, int kv_heads, int64_t max_context,
                                          octet_dtype dtype = OCTET_F8_E4M3_FNUZ) {
  auto args = attention_args<octet_attention_prefill_args>(q_heads, kv_heads, max_context, 128, dtype);
  args.query_starts = address<int32_t>(0xA0000);
  args.tokens = args.max_queries = tokens;
  args.sequences = 1;
  return args;
}

size_t workspace(const octet_attention_decode_args& args) {
  size_t size = 0;
  EXPECT_EQ(octet_attention_decode_workspace(&args, device, &size), OCTET_OK) << last_error;
  return size;
}

class Attention : public testing::Test {
 protected:
  void SetUp() override {
    launches.clear();
    last_error.clear();
    present = &mi325x;
  }
  void decode(const octet_attention_decode_args& args) {
    launches.clear();
    ASSERT_EQ(octet_attention_decode(&args, stream), OCTET_OK) << last_error;
    ASSERT_EQ(launches.size(), 2u);
  }
  void prefill(const octet_attention_prefill_args& args) {
    launches.clear();
    ASSERT_EQ(octet_attention_prefill(&args, stream), OCTET_OK) << last_error;
    ASSERT_EQ(launches.size(), 1u);
  }
};

void expect_launch(const Launch& launch, const char* kernel, uint32_t x, uint32_t y, uint32_t z, int waves) {
  EXPECT_EQ(launch.kernel, kernel);
  EXPECT_EQ(launch.grid.x, x);
  EXPECT_EQ(launch.grid.y, y);
  EXPECT_EQ(launch.grid.z, z);
  EXPECT_EQ(launch.waves, waves);
}

}  // namespace

namespace octet {
const DeviceFacts& facts(const octet_device*) { return *present; }
const DeviceFacts& facts(const octet_stream*) { return *present; }
void set_last_error(const char* text) noexcept { last_error = text; }
void launch_bytes(octet_stream*, const char* kernel, Grid grid, int waves, size_t lds_bytes, const void* params,
                  size_t size) {
  const char* bytes = static_cast<const char*>(params);
  launches.push_back({kernel, grid, waves, lds_bytes, {bytes, bytes + size}});
}
}  // namespace octet

TEST_F(Attention, Decode_is_one_block_a_part_and_kv_head_then_16_lanes_a_row_and_128_columns) {
  decode(decode_args(64, 64, 4, 4096));
  expect_launch(launches[0], "attention_decode_d128_fp8", 2, 4, 64, 4);
  expect_launch(launches[1], "attention_combine_d128_groups_1", 64 * 64 / 16, 1, 1, 4);
  EXPECT_EQ(launches[0].lds_bytes, sizeof(AttentionDecodeLds<128>));
  EXPECT_EQ(launches[1].lds_bytes, 0u);
  decode(decode_args(3, 5, 5, 4096, 1, 64));
  EXPECT_EQ(launches[0].lds_bytes, sizeof(AttentionDecodeLds<64>));
  expect_launch(launches[1], "attention_combine_d64_splits_1", 1, 1, 1, 4);  // 3 rows of 3 items
}

TEST_F(Attention, Parts_are_splits_until_groups_give_a_block_to_three_in_four_units) {
  const auto expect = [&](const octet_attention_decode_args& args, uint32_t parts, int part_splits) {
    decode(args);
    EXPECT_EQ(launches[0].grid.x, parts);
    EXPECT_EQ(launches[0].as<AttentionDecodeParams>().parts, static_cast<int32_t>(parts));
    EXPECT_EQ(launches[0].as<AttentionDecodeParams>().part_splits, part_splits);
  };
  expect(decode_args(1, 8, 1, 1), 1, 1);
  expect(decode_args(1, 8, 1, 512), 1, 1);
  expect(decode_args(1, 8, 1, 513), 2, 1);
  expect(decode_args(1, 8, 1, 131072), 256, 1);  // 64 groups
  expect(decode_args(227, 8, 1, 2048), 4, 1);
  expect(decode_args(228, 8, 1, 2048), 1, 4);
  expect(decode_args(113, 8, 1, 2049), 5, 1);
  expect(decode_args(114, 8, 1, 2049), 2, 4);
  expect(decode_args(57, 64, 4, 2048), 1, 4);
  expect(decode_args(57, 16, 1, 2048, 4), 1, 4);  // four tiles of columns
  expect(decode_args(1, 64, 4, 262144), 128, 4);
  present = &h200;
  expect(decode_args(99, 8, 1, 2048, 1, 128, OCTET_F8_E4M3), 1, 4);
}

TEST_F(Attention, A_window_leaves_only_the_parts_it_can_touch) {
  for (const auto& [window, query_length, splits] :
       {std::tuple{1, 1, 1u}, {2, 1, 2u}, {513, 1, 2u}, {514, 1, 3u}, {511, 4, 3u}, {8190, 1, 17u}, {60000, 1, 20u}}) {
    auto args = decode_args(1, 8, 1, 10000, query_length);
    args.window = window;
    decode(args);
    EXPECT_EQ(launches[0].grid.x, splits);
  }
  auto args = decode_args(228, 8, 1, 131072);
  args.window = 2049;
  decode(args);
  EXPECT_EQ(launches[0].grid.x, 2u);
  EXPECT_EQ(launches[0].as<AttentionDecodeParams>().part_splits, 4);
}

TEST_F(Attention, More_than_8_parts_are_combined_by_32_sets_until_items_fill_the_chip) {
  decode(decode_args(1, 8, 1, 4096));
  expect_launch(launches[1], "attention_combine_d128_splits_1", 1, 1, 1, 4);
  decode(decode_args(1, 8, 1, 4097));
  expect_launch(launches[1], "attention_combine_d128_splits_32", 8, 1, 1, 8);
  EXPECT_EQ(launches[1].lds_bytes, sizeof(AttentionCombineLds));
  decode(decode_args(151, 8, 1, 65536));
  EXPECT_EQ(launches[1].kernel, "attention_combine_d128_groups_32");
  decode(decode_args(152, 8, 1, 65536));
  expect_launch(launches[1], "attention_combine_d128_groups_1", 152 * 8 / 16, 1, 1, 4);
  decode(decode_args(152, 8, 1, 65537));
  EXPECT_EQ(launches[1].kernel, "attention_combine_d128_groups_32");
  present = &h200;
  decode(decode_args(1, 8, 1, 4097, 1, 128, OCTET_F8_E4M3));
  EXPECT_EQ(launches[1].waves, 16);
}

TEST_F(Attention, Queries_of_a_group_beyond_16_columns_take_more_tiles) {
  decode(decode_args(3, 64, 4, 600, 4));
  expect_launch(launches[0], "attention_decode_d128_fp8", 2, 4 * 4, 3, 4);
  EXPECT_EQ(launches[1].grid.x, 12u * 64 / 16);
  decode(decode_args(3, 20, 4, 600, 4));  // 5 heads x 4 queries
  EXPECT_EQ(launches[0].grid.y, 4u * 2u);
}

TEST_F(Attention, Two_heads_of_64_dims_share_a_block_of_the_combine) {
  decode(decode_args(2, 3, 3, 100, 1, 64, OCTET_BF16));
  expect_launch(launches[0], "attention_decode_d64_bf16", 1, 3, 2, 4);
  expect_launch(launches[1], "attention_combine_d64_splits_1", 1, 1, 1, 4);  // 2 rows of 2
}

TEST_F(Attention, Three_blocks_of_decode_fit_a_compute_unit) {
  EXPECT_LE(3 * sizeof(AttentionDecodeLds<128>), mi325x.shared_memory);
  EXPECT_LE(4 * sizeof(AttentionDecodeLds<64>), mi325x.shared_memory);
  EXPECT_LE(3 * sizeof(AttentionCombineLds), mi325x.shared_memory);
  EXPECT_LE(3 * sizeof(AttentionPrefillLds<128>), mi325x.shared_memory);
}

TEST_F(Attention, Workspace_never_shrinks_and_holds_the_parts) {
  const auto needed = [&](const octet_attention_decode_args& args) {
    if (args.sequences == 0) return size_t{0};
    decode(args);
    const auto params = launches[0].as<AttentionDecodeParams>();
    const int64_t heads = args.sequences * args.query_length * args.q_heads;
    EXPECT_EQ(params.part_o, args.workspace);
    EXPECT_EQ(params.part_softmax, params.part_o + heads * params.parts * args.cache.head_dim);
    return static_cast<size_t>(heads * params.parts * (args.cache.head_dim + 2) * 4);
  };
  for (const int window : {0, 700}) {
    for (const auto& [q_heads, kv_heads] : {std::pair{64, 4}, {5, 1}, {3, 3}}) {
      std::vector<size_t> before(80);  // of the same contexts in fewer sequences
      for (int64_t sequences = 0; sequences < 600; sequences += 3) {
        size_t largest = 0;
        for (size_t i = 0; i < before.size(); i++) {
          auto args = decode_args(sequences, q_heads, kv_heads, static_cast<int64_t>(i * i * 41), 2, 128);
          args.window = window;
          const size_t size = workspace(args);
          EXPECT_GE(size, largest);
          EXPECT_GE(size, before[i]);
          EXPECT_GE(size, needed(args));
          largest = before[i] = size;
        }
      }
    }
  }
  auto args = decode_args(2, 8, 1, 1000);
  args.workspace_size = workspace(args);
  EXPECT_EQ(needed(args), args.workspace_size);
  args.workspace_size--;
  EXPECT_EQ(octet_attention_decode(&args, stream), OCTET_INVALID_ARGUMENT);
}

TEST_F(Attention, Output_quantized_or_both_are_passed_on) {
  auto args = decode_args(2, 8, 1, 100);
  args.quantized = address(0xB0000);
  args.scales = address<float>(0xC0000);
  args.quantized_stride = 1027;
  args.scale_stride = 8;
  decode(args);
  auto params = launches[1].as<AttentionDecodeParams>();
  EXPECT_EQ(params.output, args.output);
  EXPECT_EQ(params.quantized, args.quantized);
  EXPECT_EQ(params.scales, args.scales);
  EXPECT_EQ(params.output_aligned, 1);
  EXPECT_EQ(params.quantized_aligned, 0);
  args.output = nullptr;
  decode(args);
  EXPECT_EQ(launches[1].as<AttentionDecodeParams>().output, nullptr);
}

TEST_F(Attention, Prefill_blocks_cover_the_columns_of_the_longest_sequence) {
  prefill(prefill_args(4096, 64, 4, 8192));
  expect_launch(launches[0], "attention_prefill_d128_fp8", 4096 * 16 / 128, 4, 1, 4);
  EXPECT_EQ(launches[0].lds_bytes, sizeof(AttentionPrefillLds<128>));
  prefill(prefill_args(9, 8, 1, 100, OCTET_BF16));
  expect_launch(launches[0], "attention_prefill_d128_bf16", 1, 1, 1, 4);
  auto args = prefill_args(100, 8, 1, 100);
  args.max_queries = 1 << 20;  // a bound above the tokens there are
  prefill(args);
  EXPECT_EQ(launches[0].grid.x, 7u);
  present = &h200;
  prefill(prefill_args(100, 8, 1, 100, OCTET_F8_E4M3));
  EXPECT_EQ(launches[0].grid.x, 13u);
}

TEST_F(Attention, Nothing_to_write_launches_nothing) {
  auto decode = decode_args(0, 8, 1, 100);
  decode.q = decode.output = nullptr;
  EXPECT_EQ(octet_attention_decode(&decode, stream), OCTET_OK) << last_error;
  auto prefill = prefill_args(0, 8, 1, 100);
  prefill.q = prefill.output = nullptr;
  EXPECT_EQ(octet_attention_prefill(&prefill, stream), OCTET_OK) << last_error;
  EXPECT_TRUE(launches.empty());
}

TEST_F(Attention, Bad_arguments_are_refused_with_their_values) {
  const auto refuse = [&](const char* text, auto&& edit) {
    auto args = decode_args(2, 8, 1, 1000);
    edit(args);
    EXPECT_EQ(octet_attention_decode(&args, stream), OCTET_INVALID_ARGUMENT) << text;
    EXPECT_NE(last_error.find(text), std::string::npos) << last_error;
    EXPECT_TRUE(launches.empty());
  };
  refuse("struct_size = 8", [](auto& args) { args.struct_size = 8; });
  refuse("query_length = 5", [](auto& args) { args.query_length = 5; });
  refuse("sequences = 65536", [](auto& args) { args.sequences = 65536; });
  refuse("q_heads = 17", [](auto& args) { args.q_heads = 17; });
  refuse("cache.kv_heads = 0", [](auto& args) { args.cache.kv_heads = 0; });
  refuse("cache.head_dim = 96", [](auto& args) { args.cache.head_dim = 96; });
  refuse("cache.block_size = 8", [](auto& args) { args.cache.block_size = 8; });
  refuse("cache.dtype = 2", [](auto& args) { args.cache.dtype = OCTET_F8_E4M3; });
  refuse("block_table_stride = 15", [](auto& args) { args.block_table_stride = 15; });
  refuse("window = -1", [](auto& args) { args.window = -1; });
  refuse("scale = inf", [](auto& args) { args.scale = __builtin_inff(); });
  refuse("token stride of q = 1023", [](auto& args) { args.q_stride = 1023; });
  refuse("workspace is null", [](auto& args) { args.workspace = nullptr; });
  refuse("output and quantized are both null", [](auto& args) { args.output = nullptr; });
  refuse("quantized = 0xb0000 and scales = (nil) go together", [](auto& args) { args.quantized = address(0xB0000); });
  const auto quantized = [](auto& args) {
    args.quantized = address(0xB0000);
    args.scales = address<float>(0xC0000);
    args.quantized_stride = 1024;
    args.scale_stride = 8;
  };
  refuse("quantized_stride = 1023", [&](auto& args) { quantized(args), args.quantized_stride = 1023; });
  refuse("scale_stride = 7", [&](auto& args) { quantized(args), args.scale_stride = 7; });
  refuse("quantized = 0xb0008", [&](auto& args) { quantized(args), args.quantized = address(0xB0008); });
  auto prefill = prefill_args(10, 8, 1, 100);
  prefill.query_starts = nullptr;
  EXPECT_EQ(octet_attention_prefill(&prefill, stream), OCTET_INVALID_ARGUMENT);
  EXPECT_NE(last_error.find("query_starts is null"), std::string::npos) << last_error;
}
