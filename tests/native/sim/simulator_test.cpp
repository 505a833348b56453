// The simulator's checker and counters on the kernels of planted.hip: every bug is reported with kernel, block, lane
// and source line, the same on every number of threads, and right kernels are not reported.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <numeric>

#include "../../../native/runtime/check.h"
#include "../../../native/runtime/driver.h"
#include "../../../native/sim/cost.h"
#include "../../../native/sim/memory.h"

namespace {

using octet::Grid;
using octet::Target;

struct PlantedParams {
  int32_t* data;
  int32_t* output;
  int32_t n;
};

constexpr int words = 1 << 14;

class Simulator : public testing::TestWithParam<std::tuple<Target, int>> {
 protected:
  Simulator() {
    setenv("OCTET_SIM_THREADS", std::to_string(std::get<1>(GetParam())).c_str(), 1);
    driver_ = octet::open_sim(target());
    data_ = static_cast<int32_t*>(driver_->allocate(words * 4, OCTET_DEVICE_MEMORY));
    output_ = static_cast<int32_t*>(driver_->allocate(words * 4, OCTET_DEVICE_MEMORY));
    std::vector<int32_t> numbers(words - 1);
    std::iota(numbers.begin(), numbers.end(), 0);
    // The last word stays unwritten.
    driver_->copy(nullptr, data_, numbers.data(), (words - 1) * 4, OCTET_HOST_TO_DEVICE);
    driver_->fill(nullptr, output_, 0, words * 4);
  }
  ~Simulator() override {
    driver_->release(data_, OCTET_DEVICE_MEMORY);
    driver_->release(output_, OCTET_DEVICE_MEMORY);
  }

  Target target() const { return std::get<0>(GetParam()); }
  int lanes() const { return target() == Target::sm_90 ? 32 : 64; }

  void launch(const char* kernel, uint32_t blocks, int threads, int32_t n, size_t lds_bytes = 1024) {
    const PlantedParams params{data_, output_, n};
    driver_->launch(nullptr, kernel, Grid{blocks, 1, 1}, threads, lds_bytes, &params, sizeof(params));
  }
  std::string fault_of(const char* kernel, uint32_t blocks, int threads, int32_t n) {
    try {
      launch(kernel, blocks, threads, n);
    } catch (const octet::Error& error) {
      EXPECT_EQ(error.status, OCTET_KERNEL_FAULT);
      return error.what();
    }
    return "no fault";
  }
  // The report begins with kernel, block, lane and the line marked in planted.hip, and says what.
  void expect_fault(const char* kernel, uint32_t blocks, uint32_t block, int thread, const std::string& what,
                    int32_t n = 0) {
    const std::string fault = fault_of(kernel, blocks, 128, n);
    char place[160];
    std::snprintf(place, sizeof(place), "kernel %s, block (%u, 0, 0), thread %d (wave %d, lane %d), %s: ", kernel,
                  block, thread, thread / lanes(), thread % lanes(), line_of(kernel).c_str());
    EXPECT_EQ(fault.substr(0, std::string(place).size()), place) << fault;
    EXPECT_NE(fault.find(what), std::string::npos) << fault << "\nshould say: " << what;
  }
  // "planted.hip:12" of the line marked with the bug's name.
  static std::string line_of(const std::string& bug) {
    std::ifstream source(PLANTED_SOURCE);
    std::string line;
    for (int number = 1; std::getline(source, line); number++)
      if (line.ends_with("// bug: " + bug)) return "planted.hip:" + std::to_string(number);
    return "no line is marked " + bug;
  }
  octet_kernel_counters counters_of(const std::string& kernel) {
    for (const octet_kernel_counters& row : driver_->counters())
      if (row.kernel == kernel) return row;
    ADD_FAILURE() << kernel << " has no counters";
    return {};
  }

  std::unique_ptr<octet::Driver> driver_;
  int32_t* data_;
  int32_t* output_;
};

// "gfx942_3_threads"
std::string name_of(const testing::TestParamInfo<std::tuple<Target, int>>& info) {
  const auto& [target, threads] = info.param;
  const std::string name = target == Target::gfx942 ? "gfx942" : target == Target::gfx950 ? "gfx950" : "sm_90";
  return name + "_" + std::to_string(threads) + (threads == 1 ? "_thread" : "_threads");
}
const auto targets = testing::Values(std::tuple{Target::gfx942, 1}, std::tuple{Target::gfx942, 3},
                                     std::tuple{Target::gfx950, 1}, std::tuple{Target::sm_90, 3});
INSTANTIATE_TEST_SUITE_P(Targets, Simulator, targets, name_of);

TEST_P(Simulator, accesses_out_of_bounds_are_reported) {
  expect_fault("planted_lds_overrun", 2, 0, 70, " runs past the 1024 bytes of LDS: it begins at offset 1024", 256);
  expect_fault("planted_global_overrun", 2, 0, 37,
               "is outside of every buffer: 8 bytes past the end of a buffer of 65536 bytes", words + 2);
}

TEST_P(Simulator, a_read_of_what_nobody_wrote_is_reported) {
  expect_fault("planted_lds_unwritten", 2, 0, 90,
               "read of 4 bytes at offset 360 of LDS that nobody in this block wrote");
  expect_fault("planted_lds_byte_unwritten", 1, 0, 2,
               "read of 4 bytes at offset 4 of LDS that nobody in this block wrote");
  expect_fault("planted_lds_left_over", 2, 1, 1, "read of 4 bytes at offset 4 of LDS that nobody in this block wrote");
  expect_fault("planted_global_unwritten", 2, 0, 3, "that nobody wrote before this launch, nor this block", words);
  expect_fault("planted_unwritten_index", 2, 0, 3, "that nobody wrote before this launch, nor this block", words);
}

TEST_P(Simulator, races_within_a_block_are_reported) {
  expect_fault("planted_lds_race", 2, 0, 64,
               "write of 4 bytes at offset 256 of LDS races with the read by thread 0 at planted.hip:");
  expect_fault("planted_lds_write_race", 1, 0, 100,
               "races with the write by thread 9 at " + line_of("planted_lds_write_race"));
  expect_fault("planted_missing_wave_sync", 1, 0, 0, ": no __syncthreads or wave_sync is between them");
  expect_fault("planted_wave_sync_between_waves", 1, 0, lanes(), ": no __syncthreads is between them");
  expect_fault("planted_read_then_write", 1, 0, 5, "races with the read by");
  expect_fault("planted_byte_race", 1, 0, 11, "races with the write by thread 14 at planted.hip:");
  expect_fault("planted_atomic_and_plain", 1, 0, 0, "races with the write by");
  expect_fault("planted_global_race_in_block", 1, 0, 3, "races with the write by thread 2");
}

TEST_P(Simulator, races_between_blocks_are_reported_whatever_the_threads) {
  expect_fault(
      "planted_blocks_write", 7, 1, 4,
      "races with the write by block (0, 0, 0), thread 4 (wave 0, lane 4) at " + line_of("planted_blocks_write"));
  expect_fault("planted_blocks_read", 7, 2, 6, "races with the write by block (1, 0, 0), thread 6");
  expect_fault("planted_blocks_read_first", 7, 3, 6, "races with the read by block (1, 0, 0), thread 6");
  expect_fault("planted_blocks_atomic_and_plain", 7, 3, 6, "races with the write by block (2, 0, 0), thread 6");
}

TEST_P(Simulator, divergence_and_misalignment_are_reported) {
  const std::string fault = fault_of("planted_divergent_barrier", 1, 128, 0);
  EXPECT_NE(fault.find("kernel planted_divergent_barrier, block (0, 0, 0)"), std::string::npos) << fault;
  EXPECT_NE(fault.find(line_of("planted_divergent_barrier")), std::string::npos) << fault;
  EXPECT_NE(fault.find(": divergent barrier: thread 33 has left the kernel"), std::string::npos) << fault;
  expect_fault("planted_misaligned", 1, 0, 8, "misaligned", 1);
  expect_fault("planted_misaligned", 1, 0, 8, "misaligned", 2);
}

TEST_P(Simulator, a_fault_leaves_the_device_usable) {
  fault_of("planted_blocks_write", 40, 128, 0);
  fault_of("planted_lds_race", 40, 128, 0);
  EXPECT_NO_THROW(launch("clean_barriers", 1, 128, 0));
}

TEST_P(Simulator, right_kernels_are_not_reported) {
  EXPECT_NO_THROW(launch("clean_barriers", 1, 256, 0));
  EXPECT_NO_THROW(launch("clean_wave_sync", 1, 256, 0));
  EXPECT_NO_THROW(launch("clean_atomics", 9, 256, 0));
  EXPECT_NO_THROW(launch("clean_atomic_kinds", 9, 256, 0));
  EXPECT_NO_THROW(launch("clean_neighbouring_bytes", 9, 64, 0));
  EXPECT_NO_THROW(launch("clean_own_and_constants", 1, 256, 3));
  EXPECT_NO_THROW(launch("clean_uneven_loops", 1, 256, 500));
}

TEST_P(Simulator, launches_are_ordered_after_one_another) {
  EXPECT_NO_THROW(launch("count_global", 1, 256, 1));
  EXPECT_NO_THROW(launch("count_global", 1, 256, 2));
  driver_->copy(nullptr, data_, output_, 1024, OCTET_DEVICE_TO_DEVICE);
  EXPECT_NO_THROW(launch("count_global", 1, 256, 3));
}

TEST_P(Simulator, global_accesses_are_counted_in_lines_of_64_bytes) {
  // One block of 128 threads that reads data[thread * stride] and writes output[thread].
  const int waves = 128 / lanes(), written_lines = 128 * 4 / 64;
  const auto lines_read = [&](int stride) {
    driver_->reset_counters();
    launch("count_global", 1, 128, stride);
    const octet_kernel_counters row = counters_of("count_global");
    EXPECT_EQ(row.launches, 1);
    EXPECT_EQ(row.blocks, 1);
    EXPECT_EQ(row.global_read_bytes, 128 * 4);
    EXPECT_EQ(row.global_write_bytes, 128 * 4);
    EXPECT_EQ(row.lds_accesses, 0);
    return row.global_transactions - written_lines;
  };
  EXPECT_EQ(lines_read(0), waves) << "broadcast";
  EXPECT_EQ(lines_read(1), 128 * 4 / 64) << "coalesced";
  EXPECT_EQ(lines_read(2), 128 * 8 / 64) << "every other word";
  EXPECT_EQ(lines_read(16), 128) << "a line for each lane";
}

TEST_P(Simulator, lds_accesses_and_bank_conflicts_are_counted_per_wave) {
  // One block of 128 threads that writes 64 rows of LDS, without conflicts, and reads words[thread * stride].
  const int waves = 128 / lanes(), banks = target() == Target::gfx950 ? 64 : 32;
  const auto conflicts = [&](int stride) {
    driver_->reset_counters();
    launch("count_lds", 1, 128, stride, 64 * 128 * 4);
    const octet_kernel_counters row = counters_of("count_lds");
    EXPECT_EQ(row.lds_accesses, waves * (64 + 1));
    EXPECT_EQ(row.barriers, 1);
    return row.lds_bank_conflicts;
  };
  const int groups = 128 / banks;  // of lanes served together
  EXPECT_EQ(conflicts(0), 0) << "broadcast";
  EXPECT_EQ(conflicts(1), 0) << "consecutive words";
  EXPECT_EQ(conflicts(33), 0) << "an odd stride";
  EXPECT_EQ(conflicts(2), groups) << "two lanes a bank";
  EXPECT_EQ(conflicts(8), groups * 7) << "eight lanes a bank";
  EXPECT_EQ(conflicts(banks), groups * (banks - 1)) << "all lanes at one bank";
}

TEST_P(Simulator, diverging_lanes_execute_the_rest_together) {
  driver_->reset_counters();
  launch("count_divergent", 1, 128, 0);
  // Three reads of 512 contiguous bytes, one of them by every other lane, and one write.
  EXPECT_EQ(counters_of("count_divergent").global_transactions, 4 * 8);
  EXPECT_EQ(counters_of("count_divergent").global_read_bytes, 128 * 4 * 2 + 64 * 4);
}

TEST_P(Simulator, a_full_log_keeps_the_instructions_whole) {
  driver_->reset_counters();
  launch("clean_uneven_loops", 1, lanes(), 500);
  // 1,500 reads of one word by the lanes that are still in the loop, and one write.
  EXPECT_EQ(counters_of("clean_uneven_loops").global_transactions, 1500 + lanes() * 4 / 64);
}

}  // namespace
