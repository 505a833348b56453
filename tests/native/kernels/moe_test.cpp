// The launchers of moe_gate_up and moe_down without a device: which configuration they pick, what they launch, what
// they refuse. The kernels' results are held to references by the parity cases.
#include "../../../native/kernels/moe.hip"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "../../../native/kernels/moe_combine.h"

namespace {

using namespace octet;

struct Launch {
  std::string kernel;
  uint32_t blocks;
  int waves;
  size_t lds_bytes;
};
std::vector<Launch> launches;
MoeGateUpParams gate_up_params;
std::string last_error;
const DeviceFacts mi325x{.name = "MI325X",
                         .target = Target::gfx942,
                         .fp8 = OCTET_F8_E4M3_FNUZ,
                         .wave_size = 64,
                         .compute_units = 304,
                         .shared_memory = 65536,
                         .total_memory = int64_t{1} << 38};

// Addresses the launcher looks at but never follows.
void* address(uintptr_t value) { return reinterpret_cast<void*>(value); }
octet_stream* const stream = static_cast<octet_stream*>(address(0x1000));
octet_device* const device = static_cast<octet_device*>(address(0x1000));

octet_weight weight(int32_t experts, int64_t n, int64_t k) {
  octet_weight w{};
  w.data = address(0x10000);
  w.scales = static_cast<float*>(address(0x20000));
  w.n = n;
  w.k = k;
  w.row_stride = k;
  w.expert_stride = n * k;
  w.scale_row_stride = (k + 127) / 128;
  w.scale_expert_stride = (n + 127) / 128 * w.scale_row_stride;
  w.experts = experts;
  w.dtype = OCTET_F8_E4M3_FNUZ;
  return w;
}

octet_moe_gate_up_args gate_up_args(int64_t tokens, int32_t experts = 128, int64_t intermediate = 1536,
                                    int32_t layer_experts = 128) {
  octet_moe_gate_up_args args{};
  args.struct_size = sizeof(args);
  args.x = address(0x30000);
  args.x_scales = static_cast<float*>(address(0x40000));
  args.gate = args.up = weight(experts, intermediate, 4096);
  args.expert_offsets = static_cast<int32_t*>(address(0x50000));
  args.slot_pairs = static_cast<int32_t*>(address(0x60000));
  args.output = address(0x70000);
  args.scales = static_cast<float*>(address(0x80000));
  args.workspace = address(0x90000);
  args.workspace_size = SIZE_MAX;
  args.tokens = tokens;
  args.x_stride = 4096;
  args.x_scale_stride = 32;
  args.output_stride = intermediate;
  args.scale_stride = (intermediate + 127) / 128;
  args.top_k = 8;
  args.layer_experts = layer_experts;
  return args;
}

octet_moe_down_args down_args(int64_t tokens, int32_t experts = 128, int64_t intermediate = 1536,
                              int32_t layer_experts = 128) {
  octet_moe_down_args args{};
  args.struct_size = sizeof(args);
  args.x = address(0x30000);
  args.x_scales = static_cast<float*>(address(0x40000));
  args.down = weight(experts, 4096, intermediate);
  args.expert_offsets = static_cast<int32_t*>(address(0x50000));
  args.output = address(0x70000);
  args.tokens = tokens;
  args.x_stride = intermediate;
  args.x_scale_stride = (intermediate + 127) / 128;
  args.output_stride = 4096;
  args.top_k = 8;
  args.layer_experts = layer_experts;
  return args;
}

MoePlan gate_up_plan(const octet_moe_gate_up_args& args) { return pick_gate_up(shape_of(args), 304); }
MoePlan down_plan(const octet_moe_down_args& args) { return pick_down(shape_of(args)); }
std::string gate_up_kernel(const octet_moe_gate_up_args& args) { return gate_up_plan(args).config->kernel; }
std::string down_kernel(const octet_moe_down_args& args) { return down_plan(args).config->kernel; }

size_t workspace(const octet_moe_gate_up_args& args) {
  size_t size = 0;
  EXPECT_EQ(octet_moe_gate_up_workspace(&args, device, &size), OCTET_OK) << last_error;
  return size;
}

class Moe : public testing::Test {
 protected:
  void SetUp() override {
    launches.clear();
    last_error.clear();
  }
};

}  // namespace

namespace octet {
const DeviceFacts& facts(const octet_device*) { return mi325x; }
const DeviceFacts& facts(const octet_stream*) { return mi325x; }
void set_last_error(const char* text) noexcept { last_error = text; }
void launch_bytes(octet_stream*, const char* kernel, Grid grid, int waves, size_t lds_bytes, const void* params,
                  size_t size) {
  launches.push_back({kernel, grid.x, waves, lds_bytes});
  if (size == sizeof(MoeGateUpParams)) gate_up_params = *static_cast<const MoeGateUpParams*>(params);
}
}  // namespace octet

TEST_F(Moe, Tile_grows_with_the_slots_of_an_expert) {
  EXPECT_EQ(gate_up_kernel(gate_up_args(4)), "moe_gate_up_m16n256");
  EXPECT_EQ(gate_up_kernel(gate_up_args(128)), "moe_gate_up_m16n256");  // 8 slots an expert
  EXPECT_EQ(gate_up_kernel(gate_up_args(129)), "moe_gate_up_m64n256");
  EXPECT_EQ(gate_up_kernel(gate_up_args(3072)), "moe_gate_up_m64n256");  // 192
  EXPECT_EQ(gate_up_kernel(gate_up_args(3073)), "moe_gate_up_m128n128");
  EXPECT_EQ(down_kernel(down_args(1)), "moe_down_m16n32");
  EXPECT_EQ(down_kernel(down_args(128)), "moe_down_m16n32");
  EXPECT_EQ(down_kernel(down_args(1024)), "moe_down_m64n128");
  EXPECT_EQ(down_kernel(down_args(16384)), "moe_down_m128n128");
}

TEST_F(Moe, Load_is_that_of_the_whole_layer_under_expert_parallelism) {
  EXPECT_EQ(down_kernel(down_args(64, 16, 1536, 128)), "moe_down_m16n32");  // 4 slots an expert, not 32
  EXPECT_EQ(down_kernel(down_args(64, 16, 1536, 0)), "moe_down_m64n128");
  EXPECT_EQ(gate_up_kernel(gate_up_args(4096, 16, 1536, 128)), "moe_gate_up_m128n128");
}

TEST_F(Moe, Gate_up_takes_16_columns_a_block_where_128_would_leave_CUs_idle) {
  EXPECT_EQ(gate_up_kernel(gate_up_args(1)), "moe_gate_up_m16n32");              // 8 experts x 12
  EXPECT_EQ(gate_up_kernel(gate_up_args(3)), "moe_gate_up_m16n32");              // 24 x 12 < 304
  EXPECT_EQ(gate_up_kernel(gate_up_args(64, 128, 192)), "moe_gate_up_m16n32");   // TP8: 128 x 2
  EXPECT_EQ(gate_up_kernel(gate_up_args(64, 128, 384)), "moe_gate_up_m16n256");  // TP4: 128 x 3
  EXPECT_EQ(gate_up_kernel(gate_up_args(64, 16, 1536)), "moe_gate_up_m16n32");   // EP8: 16 x 12
  EXPECT_EQ(gate_up_kernel(gate_up_args(4096, 16, 1536)), "moe_gate_up_m128n128");
}

// Blocks with slots, for tokens that spread over the experts as evenly as they can.
TEST_F(Moe, Decode_of_the_model_fills_the_CUs) {
  struct Shard {
    int32_t experts;
    int64_t intermediate;
  };
  for (const auto& [experts, intermediate] :
       {Shard{128, 1536}, {128, 768}, {128, 384}, {128, 192}, {64, 1536}, {32, 1536}}) {
    for (const int64_t tokens : {1, 2, 4, 8, 16, 64}) {
      const int64_t here = std::min<int64_t>(std::max<int64_t>(tokens * 8 * experts / 128, 1), experts);
      const MoePlan up = gate_up_plan(gate_up_args(tokens, experts, intermediate));
      const MoePlan down = down_plan(down_args(tokens, experts, intermediate));
      if (here * intermediate >= 8 * 768) EXPECT_GE(here * up.column_tiles, 304) << tokens << " x " << intermediate;
      EXPECT_GE(here * down.column_tiles, 128 * here);
    }
  }
}

TEST_F(Moe, Rows_that_16_byte_loads_or_32_bit_offsets_cannot_reach_take_the_generic_kernel) {
  auto args = gate_up_args(64);
  args.gate.row_stride = 4097;
  EXPECT_EQ(gate_up_kernel(args), "moe_gate_up_any");
  args = gate_up_args(64);
  args.up.scale_row_offset = 71;
  EXPECT_EQ(gate_up_kernel(args), "moe_gate_up_any");
  args = gate_up_args(64);
  args.gate.scale_row_offset = args.up.scale_row_offset = 64;
  EXPECT_EQ(gate_up_kernel(args), "moe_gate_up_m16n256");
  args = gate_up_args(1 << 20);  // x of 4 GiB, gathered
  EXPECT_EQ(gate_up_kernel(args), "moe_gate_up_any");
  auto down = down_args(64, 128, 192);
  down.down.scale_column_offset = 64;
  EXPECT_EQ(down_kernel(down), "moe_down_m16n32");
  down.down.scale_column_offset = 100;
  EXPECT_EQ(down_kernel(down), "moe_down_any");
}

TEST_F(Moe, Slot_tiles_cover_every_way_of_spreading_the_slots) {
  for (const int m : {16, 64, 128}) {
    for (const int64_t slots : {0, 1, 15, 16, 17, 127, 129, 1000}) {
      for (const int experts : {1, 2, 7, 128}) {
        const int64_t bound = slot_tiles(slots, experts, m);
        // The worst: as many experts as can be have one slot, one expert all the others.
        const int64_t single = std::min<int64_t>(std::max<int64_t>(slots - 1, 0), experts - 1);
        EXPECT_GE(bound, single + ceil_div(slots - single, m));
        EXPECT_GE(bound, ceil_div(slots, m));
      }
    }
  }
}

TEST_F(Moe, Narrow_gate_up_is_two_launches_and_wide_one) {
  const auto one = gate_up_args(1);
  ASSERT_EQ(octet_moe_gate_up(&one, stream), OCTET_OK) << last_error;
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].kernel, "moe_gate_up_m16n32");
  EXPECT_EQ(launches[0].blocks, 8u * 96u);
  EXPECT_EQ(gate_up_params.y, one.workspace);
  EXPECT_EQ(gate_up_params.y_stride, 1536);
  EXPECT_EQ(launches[1].kernel, "moe_gate_up_quantize");
  EXPECT_EQ(launches[1].blocks, 8u * 16u);  // twelve scales of a slot, rounded up to a power of two
  launches.clear();
  const auto many = gate_up_args(64);
  ASSERT_EQ(octet_moe_gate_up(&many, stream), OCTET_OK) << last_error;
  ASSERT_EQ(launches.size(), 1u);
  EXPECT_EQ(launches[0].blocks, (512u + 128u * 15u) / 16u * 12u);
}

TEST_F(Moe, Workspace_never_shrinks_and_holds_what_narrow_blocks_leave) {
  for (const int64_t intermediate : {1, 192, 384, 1536}) {
    for (const int32_t experts : {1, 16, 128}) {
      size_t largest = 0;
      for (int64_t tokens = 0; tokens < 600; tokens++) {
        const auto args = gate_up_args(tokens, experts, intermediate);
        const size_t size = workspace(args);
        EXPECT_GE(size, largest);
        largest = size;
        if (gate_up_plan(args).quantizes) EXPECT_GE(size, static_cast<size_t>(tokens * 8 * intermediate * 4));
      }
    }
  }
}

TEST_F(Moe, Configurations_fit_the_LDS_and_differ_in_name) {
  std::set<std::string> names;
  for (const auto& config : gate_up_configs) {
    EXPECT_LE(config.lds_bytes, 65536u) << config.kernel;
    EXPECT_TRUE(names.insert(config.kernel).second);
    EXPECT_TRUE(config.columns == 128 || config.columns == 16) << config.kernel;
  }
  for (const auto& config : down_configs) {
    EXPECT_LE(config.lds_bytes, 65536u) << config.kernel;
    EXPECT_TRUE(names.insert(config.kernel).second);
  }
}

TEST_F(Moe, Leaf_of_an_expert_is_the_quotient) {
  for (int32_t experts = 1; experts <= 512; experts++) {
    for (uint32_t e = 0; e < 512; e++)
      ASSERT_EQ(e * leaf_reciprocal(experts) >> 20, e / experts) << e << " / " << experts;
  }
}

TEST_F(Moe, Bad_arguments_are_refused_with_their_values) {
  const auto refuse = [&](const char* text, auto&& edit) {
    auto args = gate_up_args(3);
    edit(args);
    EXPECT_EQ(octet_moe_gate_up(&args, stream), OCTET_INVALID_ARGUMENT);
    EXPECT_NE(last_error.find(text), std::string::npos) << last_error;
    EXPECT_TRUE(launches.empty());
  };
  refuse("top_k = 17", [](auto& args) { args.top_k = 17; });
  refuse("layer_experts = 127 must be 0 or 128..512", [](auto& args) { args.layer_experts = 127; });
  refuse("layer_experts = 513", [](auto& args) { args.layer_experts = 513; });
  refuse("gate.experts = 513", [](auto& args) { args.gate.experts = args.up.experts = 513; });
  refuse("must agree", [](auto& args) { args.up.n = 1535; });
  refuse("x is null", [](auto& args) { args.x = nullptr; });
  refuse("workspace_size = 1, needs 147456", [](auto& args) { args.workspace_size = 1; });
}
