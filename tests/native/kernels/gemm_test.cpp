// The launcher of gemm without a device: which configuration it picks, what it launches, what it refuses. The kernels'
// results are held to references by the parity cases.
#include "../../../native/kernels/gemm.hip"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace {

struct Launch {
  std::string kernel;
  uint32_t blocks;
  int waves;
  size_t lds_bytes;
  GemmParams params;
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

// Addresses the launcher looks at but never follows.
void* address(uintptr_t value) { return reinterpret_cast<void*>(value); }
octet_stream* const stream = static_cast<octet_stream*>(address(0x1000));
octet_device* const device = static_cast<octet_device*>(address(0x1000));

octet_gemm_args gemm_args(int64_t m, int64_t n, int64_t k, octet_dtype dtype = OCTET_F8_E4M3_FNUZ) {
  const bool fp8 = dtype != OCTET_BF16;
  octet_gemm_args args{};
  args.struct_size = sizeof(args);
  args.a = address(0x10000);
  args.a_scales = fp8 ? static_cast<float*>(address(0x20000)) : nullptr;
  args.b.data = address(0x30000);
  args.b.scales = fp8 ? static_cast<float*>(address(0x40000)) : nullptr;
  args.b.n = n;
  args.b.k = k;
  args.b.row_stride = args.a_stride = k;
  args.b.scale_row_stride = args.a_scale_stride = (k + 127) / 128;
  args.b.experts = 1;
  args.b.dtype = dtype;
  args.output = address(0x50000);
  args.output_stride = n;
  args.output_dtype = OCTET_BF16;
  args.m = m;
  args.workspace = address(0x60000);
  args.workspace_size = SIZE_MAX;
  return args;
}

GemmPlan plan(int64_t m, int64_t n, int64_t k, octet_dtype dtype = OCTET_F8_E4M3_FNUZ) {
  return pick_config(gemm_args(m, n, k, dtype), mi325x.compute_units);
}

size_t workspace(int64_t m, int64_t n, int64_t k) {
  const auto args = gemm_args(m, n, k);
  size_t size = 0;
  EXPECT_EQ(octet_gemm_workspace(&args, device, &size), OCTET_OK) << last_error;
  return size;
}

class Gemm : public testing::Test {
 protected:
  void SetUp() override {
    launches.clear();
    last_error.clear();
  }
  void refuse(const octet_gemm_args& args, const char* text) {
    EXPECT_EQ(octet_gemm(&args, stream), OCTET_INVALID_ARGUMENT);
    EXPECT_NE(last_error.find(text), std::string::npos) << last_error;
    EXPECT_TRUE(launches.empty());
  }
};

}  // namespace

namespace octet {
const DeviceFacts& facts(const octet_device*) { return mi325x; }
const DeviceFacts& facts(const octet_stream*) { return mi325x; }
void set_last_error(const char* text) noexcept { last_error = text; }
void launch_bytes(octet_stream*, const char* kernel, Grid grid, int waves, size_t lds_bytes, const void* params,
                  size_t) {
  launches.push_back({kernel, grid.x * grid.y, waves, lds_bytes, *static_cast<const GemmParams*>(params)});
}
}  // namespace octet

// The weights of Qwen3-235B's GEMMs under TP1, TP2, TP4 and TP8, and the router.
constexpr std::pair<int64_t, int64_t> model_weights[] = {{9216, 4096}, {4608, 4096}, {2304, 4096}, {1280, 4096},
                                                         {4096, 8192}, {4096, 4096}, {4096, 2048}, {4096, 1024}};
constexpr int64_t token_counts[] = {1, 2, 8, 16, 17, 32, 33, 64, 65, 96, 128, 200, 256, 512, 1024, 4096, 16384, 32768};

TEST_F(Gemm, Tile_grows_with_the_tokens) {
  EXPECT_STREQ(plan(1, 4096, 4096).config.kernel, "gemm_fp8_m16n16");
  EXPECT_STREQ(plan(16, 4096, 4096).config.kernel, "gemm_fp8_m16n16");
  EXPECT_STREQ(plan(17, 4096, 4096).config.kernel, "gemm_fp8_m32n16");
  EXPECT_STREQ(plan(33, 4096, 4096).config.kernel, "gemm_fp8_m64n16");
  EXPECT_STREQ(plan(65, 4096, 4096).config.kernel, "gemm_fp8_m64n64");
  EXPECT_STREQ(plan(128, 9216, 4096).config.kernel, "gemm_fp8_m64n64");
  EXPECT_STREQ(plan(4096, 4096, 4096).config.kernel, "gemm_fp8_m128n128");
  EXPECT_STREQ(plan(1, 151936, 4096, OCTET_BF16).config.kernel, "gemm_bf16_m16n16");
  EXPECT_STREQ(plan(16384, 4096, 4096, OCTET_BF16).config.kernel, "gemm_bf16_m128n128");
}

TEST_F(Gemm, Every_plan_covers_its_shape_and_fits_the_device) {
  for (const octet_dtype dtype : {OCTET_F8_E4M3_FNUZ, OCTET_BF16}) {
    for (const int64_t n : {1, 15, 16, 17, 64, 100, 128, 512, 1280, 2304, 4096, 4608, 9216, 18992, 151936}) {
      for (const int64_t k : {0, 1, 16, 128, 192, 200, 1024, 2048, 4096, 8192}) {
        for (const int64_t m : token_counts) {
          const GemmPlan picked = plan(m, n, k, dtype);
          const TileConfig& tile = picked.config.tile;
          ASSERT_NE(picked.config.kernel, nullptr) << m << " " << n << " " << k;
          EXPECT_EQ(tile.fp8, dtype != OCTET_BF16);
          EXPECT_GE(picked.tiles_n * tile.n, n);
          EXPECT_LT((picked.tiles_n - 1) * tile.n, n);
          EXPECT_GE(picked.tiles_m * tile.m, m);
          EXPECT_LT((picked.tiles_m - 1) * tile.m, m);
          EXPECT_TRUE(picked.splits == 1 || picked.split_columns * picked.splits >= k) << m << " " << n << " " << k;
          EXPECT_LE(picked.config.lds_bytes, 65536u);
          EXPECT_LE(tile.threads(), 1024);
        }
      }
    }
  }
}

TEST_F(Gemm, Decode_fills_the_device_or_splits_all_of_k) {
  const auto filled = [](const GemmPlan& picked, int64_t k) {
    const int64_t blocks = picked.tiles_n * picked.tiles_m * picked.splits;
    // All of K is split where each segment, or each wave of a block, has one scale block of it.
    return blocks >= 304 || picked.splits == k / 128 || k / 128 <= 8;
  };
  for (const int64_t m : {1, 2, 7, 16, 17, 32, 33, 64}) {
    for (const auto& [n, k] : model_weights) EXPECT_TRUE(filled(plan(m, n, k), k)) << m << " " << n << " " << k;
    EXPECT_TRUE(filled(plan(m, 128, 4096, OCTET_BF16), 4096)) << "router";
    for (const int64_t n : {151936, 75968, 37984, 18992}) {
      EXPECT_TRUE(filled(plan(m, n, 4096, OCTET_BF16), 4096)) << "head " << n;
    }
  }
}

TEST_F(Gemm, Rows_that_16_byte_loads_cannot_read_take_the_generic_kernel) {
  EXPECT_STREQ(plan(16, 64, 200).config.kernel, "gemm_fp8_any");
  EXPECT_STREQ(plan(16, 64, 200, OCTET_BF16).config.kernel, "gemm_bf16_m16n16");
  EXPECT_STREQ(plan(16, 64, 204, OCTET_BF16).config.kernel, "gemm_bf16_any");
  const auto kernel_with = [](auto&& edit) {
    auto args = gemm_args(16, 64, 256);
    edit(args);
    return std::string(pick_config(args, 304).config.kernel);
  };
  EXPECT_EQ(kernel_with([](auto& args) { args.b.scale_column_offset = 64; }), "gemm_fp8_m16n16");
  EXPECT_EQ(kernel_with([](auto& args) { args.b.scale_column_offset = 16; }), "gemm_fp8_any");
  EXPECT_EQ(kernel_with([](auto& args) { args.b.scale_row_offset = 48; }), "gemm_fp8_m16n16");
  EXPECT_EQ(kernel_with([](auto& args) { args.b.scale_row_offset = 50; }), "gemm_fp8_any");
  EXPECT_EQ(kernel_with([](auto& args) { args.a_stride = 257; }), "gemm_fp8_any");
  EXPECT_EQ(kernel_with([](auto& args) { args.a_stride = 1 << 24; }), "gemm_fp8_m16n16");
  EXPECT_EQ(kernel_with([](auto& args) { args.a_stride = (1 << 24) + 16; }), "gemm_fp8_any");
  EXPECT_EQ(kernel_with([](auto& args) { args.b.row_stride = (1 << 24) + 16; }), "gemm_fp8_any");
}

TEST_F(Gemm, Segments_depend_on_the_weight_alone) {
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{1280, 4096}, {4096, 1024}, {4096, 4096}, {64, 127}, {8, 1 << 29}}) {
    for (const int64_t m : {1, 16, 17, 64, 65, 1000, 100000}) {
      EXPECT_EQ(plan(m, n, k).segment, segment_columns(n, k));
      EXPECT_EQ(pick_config(gemm_args(m, n, k), 80).segment, segment_columns(n, k));
    }
    EXPECT_EQ(segment_columns(n, k) % 128, 0);
  }
  EXPECT_EQ(plan(1, 1280, 4096).splits, 4);
  EXPECT_EQ(plan(1, 2304, 4096).splits, 3);
  EXPECT_EQ(plan(1, 4096, 4096).splits, 2);
  EXPECT_EQ(plan(1, 4096, 1024).splits, 1);
  EXPECT_EQ(plan(1, 9216, 4096).splits, 1);
  EXPECT_EQ(plan(1, 151936, 4096).splits, 1);
}

// The part of an [n, k] product that one of `ranks` has, whose k is divided.
octet_gemm_args rank_args(int64_t m, int64_t n, int64_t k, int ranks) {
  auto args = gemm_args(m, n, k / ranks);
  args.full_n = n;
  args.full_k = k;
  args.leaves = leaves_of(k) / ranks;
  return args;
}

TEST_F(Gemm, Leaves_are_the_most_that_scale_blocks_divide_into) {
  EXPECT_EQ(leaves_of(8192), 8);
  EXPECT_EQ(leaves_of(1024), 8);
  EXPECT_EQ(leaves_of(128 * 12), 4);
  EXPECT_EQ(leaves_of(128 * 6), 2);
  EXPECT_EQ(leaves_of(128 * 7), 1);
  EXPECT_EQ(leaves_of(128), 1);
  EXPECT_EQ(leaves_of(1000), 1);
  EXPECT_EQ(leaves_of(0), 1);
}

TEST_F(Gemm, Order_of_a_tree_is_the_whole_products_on_every_rank) {
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{4096, 8192}, {5120, 25600}, {1024, 3072}, {256, 16384}, {64, 1024}}) {
    const int leaves = leaves_of(k);
    const int64_t segment = segment_columns(n, k, leaves);
    EXPECT_EQ(k / leaves % segment, 0) << n << " " << k;
    for (int ranks = 1; ranks <= leaves; ranks *= 2) {
      for (const int64_t m : {1, 16, 17, 64, 65, 200, 1000, 100000}) {
        const GemmPlan picked = pick_config(rank_args(m, n, k, ranks), 304);
        EXPECT_EQ(picked.segment, segment);
        EXPECT_EQ(picked.leaf, ranks < leaves ? k / leaves : 0);  // one leaf is a plain sum
        // A split is whole segments, and whole leaves or a part of one.
        EXPECT_EQ(picked.split_columns % segment, 0);
        if (picked.splits > 1) {
          EXPECT_EQ(picked.split_columns * picked.splits, k / ranks);
          EXPECT_TRUE(picked.split_columns % (k / leaves) == 0 || k / leaves % picked.split_columns == 0);
        }
      }
    }
  }
}

TEST_F(Gemm, Tree_is_split_into_nodes_until_they_fill_the_compute_units) {
  EXPECT_EQ(pick_config(rank_args(32, 4096, 8192, 1), 304).splits, 1);  // 256 tiles, eight turns of eight waves
  EXPECT_EQ(pick_config(rank_args(33, 4096, 8192, 1), 304).splits, 2);  // sixteen turns of four
  EXPECT_EQ(pick_config(rank_args(33, 4096, 8192, 2), 304).splits, 1);  // half the columns
  EXPECT_EQ(pick_config(rank_args(1, 3584, 8192, 1), 304).splits, 2);   // 224 tiles
  EXPECT_EQ(pick_config(rank_args(1, 4096, 8192, 8), 304).splits, 1);   // one leaf, as short as a plain sum's
  EXPECT_EQ(pick_config(rank_args(1, 1024, 8192, 1), 304).splits, 4);   // 64 tiles
  EXPECT_EQ(pick_config(rank_args(1, 256, 16384, 1), 304).splits, 32);  // 16 tiles: segments, four a leaf
  EXPECT_EQ(pick_config(rank_args(4096, 4096, 8192, 1), 304).splits, 1);
}

TEST_F(Gemm, Splits_of_a_tree_are_nodes_or_segments_and_are_reduced_by_it) {
  auto args = rank_args(64, 4096, 8192, 1);
  ASSERT_EQ(octet_gemm(&args, stream), OCTET_OK) << last_error;
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].blocks, 512u);
  EXPECT_EQ(launches[0].params.leaf, 1024);
  EXPECT_EQ(launches[0].params.split_columns, 4096);
  EXPECT_EQ(launches[1].kernel, "gemm_reduce_2_nodes");
  launches.clear();
  args = rank_args(16, 256, 16384, 1);
  ASSERT_EQ(octet_gemm(&args, stream), OCTET_OK) << last_error;
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].params.leaf, 0);
  EXPECT_EQ(launches[0].params.split_columns, 512);
  EXPECT_EQ(launches[1].kernel, "gemm_reduce_leaves");
  EXPECT_EQ(launches[1].params.leaves, 8);
}

TEST_F(Gemm, Leaves_that_do_not_fit_the_whole_product_are_refused) {
  const auto refuse_with = [&](const char* text, auto&& edit) {
    auto args = rank_args(16, 4096, 8192, 2);
    edit(args);
    refuse(args, text);
  };
  refuse_with("leaves = 3 must be 0, 1, 2, 4 or 8", [](auto& args) { args.leaves = 3; });
  refuse_with("leaves = 8, but b.k = 4096 is 4 of the 8 leaves of full_k = 8192", [](auto& args) { args.leaves = 8; });
  refuse_with("full_k = 4095 must be 0 or 4096..", [](auto& args) { args.full_k = 4095; });
  refuse_with("full_n = 100 must be 0 or 4096..", [](auto& args) { args.full_n = 100; });
  refuse_with("output_dtype = 0 of a tree", [](auto& args) { args.output_dtype = OCTET_F32; });
}

TEST_F(Gemm, Decode_shape_is_split_and_reduced_by_a_second_launch) {
  const auto args = gemm_args(16, 1280, 4096);
  ASSERT_EQ(octet_gemm(&args, stream), OCTET_OK) << last_error;
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].kernel, "gemm_fp8_m16n16");
  EXPECT_EQ(launches[0].blocks, 80u * 4u);
  EXPECT_EQ(launches[0].waves, 8);
  EXPECT_EQ(launches[0].lds_bytes, sizeof(TileLds<gemm_fp8_m16n16_tile>));
  EXPECT_EQ(launches[0].params.partials, args.workspace);
  EXPECT_EQ(launches[1].kernel, "gemm_reduce");
  EXPECT_EQ(launches[1].blocks, 16u * 2u);  // 320 quads a row
}

TEST_F(Gemm, Prefill_shape_is_one_launch_without_a_workspace) {
  auto args = gemm_args(4096, 4096, 4096);
  args.workspace_size = workspace(4096, 4096, 4096);
  ASSERT_EQ(octet_gemm(&args, stream), OCTET_OK) << last_error;
  ASSERT_EQ(launches.size(), 1u);
  EXPECT_EQ(launches[0].kernel, "gemm_fp8_m128n128");
  EXPECT_EQ(launches[0].blocks, 32u * 32u);
  EXPECT_EQ(launches[0].params.partials, nullptr);
}

TEST_F(Gemm, Workspace_never_shrinks_and_holds_the_partial_sums) {
  for (const int64_t n : {1, 128, 1280, 2304, 4096, 9216, 151936}) {
    for (const int64_t k : {128, 1000, 4096}) {
      size_t largest = 0;
      for (int64_t m = 0; m < 21000; m += m < 300 ? 1 : 97) {
        const size_t size = workspace(m, n, k);
        EXPECT_GE(size, largest);
        largest = size;
        const GemmPlan picked = plan(m, n, k);
        if (picked.splits > 1) {
          EXPECT_GE(size, static_cast<size_t>(picked.splits * m * n * 4));
        }
      }
    }
  }
  EXPECT_EQ(workspace(1, 151936, 4096), 0u);
}

TEST_F(Gemm, Nothing_to_write_launches_nothing) {
  for (auto args : {gemm_args(0, 64, 128), gemm_args(5, 0, 128)}) {
    args.a = args.output = nullptr;
    EXPECT_EQ(octet_gemm(&args, stream), OCTET_OK) << last_error;
  }
  EXPECT_TRUE(launches.empty());
}

TEST_F(Gemm, Bad_arguments_are_refused_with_their_values) {
  EXPECT_EQ(octet_gemm(nullptr, stream), OCTET_INVALID_ARGUMENT);
  const auto good = gemm_args(16, 64, 256);
  EXPECT_EQ(octet_gemm(&good, nullptr), OCTET_INVALID_ARGUMENT);
  const auto refuse_with = [&](const char* text, auto&& edit) {
    auto args = good;
    edit(args);
    refuse(args, text);
  };
  refuse_with("struct_size = 8", [](auto& args) { args.struct_size = 8; });
  refuse_with("m = -1 ", [](auto& args) { args.m = -1; });
  refuse_with("m = 4611686018427387904", [](auto& args) { args.m = int64_t{1} << 62; });
  refuse_with("b.n = -5", [](auto& args) { args.b.n = -5; });
  refuse_with("b.k = 2147483648", [](auto& args) { args.b.k = int64_t{1} << 31; });
  refuse_with("b.experts = 2", [](auto& args) { args.b.experts = 2; });
  refuse_with("b.dtype = 2", [](auto& args) { args.b.dtype = OCTET_F8_E4M3; });
  refuse_with("output_dtype = 4", [](auto& args) { args.output_dtype = OCTET_I32; });
  refuse_with("b.scale_column_offset = 128", [](auto& args) { args.b.scale_column_offset = 128; });
  refuse_with("b.scale_row_offset = -1", [](auto& args) { args.b.scale_row_offset = -1; });
  refuse_with("a_stride = 4611686018427387904", [](auto& args) { args.a_stride = int64_t{1} << 62; });
  refuse_with("output_stride = 63", [](auto& args) { args.output_stride = 63; });
  refuse_with("a is null", [](auto& args) { args.a = nullptr; });
  refuse_with("b.data = 0x30008", [](auto& args) { args.b.data = address(0x30008); });
  refuse_with("a_scales is null", [](auto& args) { args.a_scales = nullptr; });
  refuse_with("b.scales is null", [](auto& args) { args.b.scales = nullptr; });
  refuse_with("bias = 0x7", [](auto& args) { args.bias = address(0x7); });
  auto decode = gemm_args(16, 1280, 4096);
  decode.workspace_size = 1;
  refuse(decode, "workspace_size = 1, needs 327680");
  decode.workspace = nullptr;
  refuse(decode, "workspace is null");
}

TEST_F(Gemm, More_blocks_than_a_launch_holds_are_refused) { refuse(gemm_args(1 << 24, INT32_MAX, 16), "2199023255552 blocks"); }
