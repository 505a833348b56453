// Simulated devices that reach one another, on the kernels of planted_group.hip: every bug between devices is reported with
// kernel, block, lane and source line on both sides, and right kernels are not reported.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <numeric>
#include <thread>

#include "../../../native/runtime/check.h"
#include "../../../native/runtime/driver.h"

namespace {

using octet::Grid;
using octet::Target;

struct PlantedGroupParams {
  uint32_t* signals[8];
  int32_t* data[8];
  int32_t* output;
  int32_t rank, ranks;
  uint32_t epoch;
  int32_t value;
};

constexpr int elements = 1 << 15, counters = 512;

// The ranks of a group, each on a thread of its own while they run.
class Group {
 public:
  Group(Target target, int ranks, int threads = 1) : ranks_(ranks) {
    setenv("OCTET_SIM_THREADS", std::to_string(threads).c_str(), 1);
    for (int r = 0; r < ranks; r++) drivers_.push_back(octet::open_sim(target));
    for (auto& device : drivers_)
      for (auto& peer : drivers_)
        if (device != peer) EXPECT_TRUE(device->enable_peer(*peer));
    for (int r = 0; r < ranks; r++) {
      octet::Driver& driver = *drivers_[static_cast<size_t>(r)];
      signals_[r] = static_cast<uint32_t*>(driver.allocate(counters * 64, OCTET_SIGNAL_MEMORY));
      data_[r] = static_cast<int32_t*>(driver.allocate(elements * 4, OCTET_DEVICE_MEMORY));
      output_[r] = static_cast<int32_t*>(driver.allocate(elements * 4, OCTET_DEVICE_MEMORY));
      driver.fill(nullptr, data_[r], 0, elements * 4);
      driver.fill(nullptr, output_[r], 0, elements * 4);
      driver.stream_synchronize(nullptr);
    }
  }
  ~Group() {
    for (int r = 0; r < ranks_; r++)
      for (void* pointer : {static_cast<void*>(signals_[r]), static_cast<void*>(data_[r]), static_cast<void*>(output_[r])})
        drivers_[static_cast<size_t>(r)]->release(pointer, OCTET_DEVICE_MEMORY);
  }

  octet::Driver& driver(int rank) { return *drivers_[static_cast<size_t>(rank)]; }
  uint32_t* signals(int rank) { return signals_[rank]; }

  void launch(int rank, const char* kernel, uint32_t epoch, int32_t value = 0, uint32_t blocks = 1, int threads = 64,
              void* stream = nullptr) {
    PlantedGroupParams params{};
    std::copy_n(signals_, 8, params.signals);
    std::copy_n(data_, 8, params.data);
    params.output = output_[rank];
    params.rank = rank, params.ranks = ranks_, params.epoch = epoch, params.value = value;
    driver(rank).launch(stream, kernel, Grid{blocks, 1, 1}, threads, 0, &params, sizeof(params));
  }

  // What each rank's work threw; "" where it did not.
  std::vector<std::string> run(const std::function<void(int)>& work) {
    std::vector<std::string> faults(static_cast<size_t>(ranks_));
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks_; r++)
      threads.emplace_back([&, r] {
        try {
          work(r);
        } catch (const octet::Error& error) {
          EXPECT_EQ(error.status, OCTET_KERNEL_FAULT);
          faults[static_cast<size_t>(r)] = error.what();
        }
      });
    for (std::thread& thread : threads) thread.join();
    return faults;
  }

  void copy_in(int rank, const std::vector<int32_t>& values) {
    driver(rank).copy(nullptr, data_[rank], values.data(), static_cast<int64_t>(values.size()) * 4, OCTET_HOST_TO_DEVICE);
  }
  std::vector<int32_t> output(int rank, int count) {
    std::vector<int32_t> values(static_cast<size_t>(count));
    driver(rank).copy(nullptr, values.data(), output_[rank], count * 4, OCTET_DEVICE_TO_HOST);
    return values;
  }

 private:
  const int ranks_;
  std::vector<std::unique_ptr<octet::Driver>> drivers_;
  uint32_t* signals_[8] = {};
  int32_t *data_[8] = {}, *output_[8] = {};
};

// "planted_group.hip:12" of the line marked with the bug's name.
std::string line_of(const std::string& bug) {
  std::ifstream source(PLANTED_GROUP_SOURCE);
  std::string line;
  for (int number = 1; std::getline(source, line); number++)
    if (line.ends_with("// bug: " + bug)) return "planted_group.hip:" + std::to_string(number);
  return "no line is marked " + bug;
}

// The faults, one after the other.
std::string all(const std::vector<std::string>& faults) {
  return std::accumulate(faults.begin(), faults.end(), std::string(), [](const auto& a, const auto& b) { return a + b + "\n"; });
}
int count(const std::vector<std::string>& faults, const std::string& part) {
  return static_cast<int>(std::count_if(faults.begin(), faults.end(), [&](const auto& f) { return f.find(part) != f.npos; }));
}

class SimulatedGroup : public testing::TestWithParam<std::tuple<Target, int, int>> {
 protected:
  Target target() const { return std::get<0>(GetParam()); }
  int ranks() const { return std::get<1>(GetParam()); }
  int threads() const { return std::get<2>(GetParam()); }
};
std::string name_of(const testing::TestParamInfo<std::tuple<Target, int, int>>& info) {
  const auto& [target, ranks, threads] = info.param;
  return std::string(octet::target_name(target)) + "_" + std::to_string(ranks) + "_ranks_" + std::to_string(threads) + "_threads";
}
INSTANTIATE_TEST_SUITE_P(Ranks, SimulatedGroup,
                         testing::Values(std::tuple{Target::gfx942, 2, 1}, std::tuple{Target::gfx942, 4, 2},
                                         std::tuple{Target::sm_90, 8, 1}),
                         name_of);

TEST_P(SimulatedGroup, ranks_that_sync_read_what_peers_wrote_and_write_it_again) {
  Group group(target(), ranks(), threads());
  constexpr int rounds = 10;
  const auto faults = group.run([&](int rank) {
    for (int round = 0; round < rounds; round++) {
      group.launch(rank, "group_write", 0, (round + 1) << rank, 3, 256);
      group.launch(rank, "clean_sync", static_cast<uint32_t>(2 * round + 1));
      group.launch(rank, "group_read", 0, 0, 3, 256);
      group.launch(rank, "clean_sync", static_cast<uint32_t>(2 * round + 2));
    }
  });
  EXPECT_EQ(count(faults, "kernel"), 0) << all(faults);
  for (int r = 0; r < ranks(); r++)
    EXPECT_EQ(group.output(r, 768), std::vector<int32_t>(768, rounds * ((1 << ranks()) - 1)));
}

TEST_P(SimulatedGroup, a_graph_of_a_sync_is_replayed) {
  Group group(target(), ranks(), threads());
  const auto faults = group.run([&](int rank) {
    octet::Driver& driver = group.driver(rank);
    void* stream = driver.stream_create();
    for (uint32_t epoch = 1; epoch <= 5; epoch++) {
      driver.graph_begin(stream);
      group.launch(rank, "group_write", 0, 1, 1, 256, stream);
      group.launch(rank, "clean_sync", 2 * epoch - 1, 0, 1, 64, stream);
      group.launch(rank, "group_read", 0, 0, 1, 256, stream);
      group.launch(rank, "clean_sync", 2 * epoch, 0, 1, 64, stream);
      void* graph = driver.graph_end(stream);
      driver.graph_launch(graph, stream);
      driver.graph_destroy(graph);
    }
    driver.stream_destroy(stream);
  });
  EXPECT_EQ(count(faults, "kernel"), 0) << all(faults);
  EXPECT_EQ(group.output(0, 256), std::vector<int32_t>(256, ranks()));
}

TEST_P(SimulatedGroup, blocks_that_wait_amid_a_launch_let_the_others_run) {
  Group group(target(), ranks(), threads());
  const auto faults = group.run([&](int rank) {
    for (uint32_t epoch = 1; epoch <= 3; epoch++) {
      group.launch(rank, "clean_exchange", epoch, static_cast<int32_t>(epoch) << rank, 5, 128);
      group.launch(rank, "clean_sync", epoch);
    }
  });
  EXPECT_EQ(count(faults, "kernel"), 0) << all(faults);
  for (int r = 0; r < ranks(); r++) EXPECT_EQ(group.output(r, 640), std::vector<int32_t>(640, 3 * ((1 << ranks()) - 1)));
}

TEST_P(SimulatedGroup, a_read_that_no_release_or_no_acquire_orders_is_a_race) {
  for (const char* sync : {"planted_no_release", "planted_release_behind_the_store", "planted_no_acquire",
                           "planted_acquire_before_the_wait"}) {
    Group group(target(), ranks(), threads());
    const auto faults = group.run([&](int rank) {
      group.launch(rank, "group_write", 0, 1, 2, 128);
      group.launch(rank, sync, 1);
      group.launch(rank, "group_read", 0, 0, 2, 128);
    });
    EXPECT_EQ(count(faults, "kernel group_read, block ("), ranks()) << sync << ": " << all(faults);
    EXPECT_EQ(count(faults, line_of("unordered_read") + ": read at byte "), ranks()) << all(faults);
    EXPECT_EQ(count(faults, " races with the write by device "), ranks()) << all(faults);
    EXPECT_EQ(count(faults, line_of("early_reuse") + ": no release and acquire order them"), ranks()) << all(faults);
  }
}

TEST_P(SimulatedGroup, a_wait_for_the_wrong_counter_is_reported_with_who_waits_for_whom) {
  Group group(target(), ranks(), threads());
  const auto faults = group.run([&](int rank) { group.launch(rank, "planted_wrong_counter", 1); });
  EXPECT_EQ(count(faults, "kernel planted_wrong_counter, block (0, 0, 0), thread "), ranks()) << all(faults);
  EXPECT_EQ(count(faults, line_of("endless_wait") + " (in device_sim.h:"), ranks()) << all(faults);
  EXPECT_EQ(count(faults, ": waits for a signal that never comes: the counter at byte "), ranks()) << all(faults);
  EXPECT_GE(count(faults, " waits too, for the counter at byte "), 1) << all(faults);
}

TEST_P(SimulatedGroup, a_group_goes_on_after_a_fault_once_the_host_has_put_it_in_order) {
  Group group(target(), ranks(), threads());
  const auto round = [&](const char* sync) {
    return group.run([&](int rank) {
      group.launch(rank, "group_write", 0, 1, 1, 128);
      group.launch(rank, sync, 1);
      group.launch(rank, "group_read", 0, 0, 1, 128);
    });
  };
  EXPECT_EQ(count(round("planted_no_acquire"), "kernel"), ranks());
  for (int r = 0; r < ranks(); r++) {
    group.driver(r).fill(nullptr, group.signals(r), 0, counters * 64);
    group.driver(r).stream_synchronize(nullptr);
  }
  const auto faults = round("clean_sync");
  EXPECT_EQ(count(faults, "kernel"), 0) << all(faults);
}

TEST(SimulatedGroups, a_wait_for_a_rank_that_never_comes_is_given_up) {
  setenv("OCTET_SIM_WAIT_MS", "200", 1);
  Group group(Target::gfx942, 3);
  unsetenv("OCTET_SIM_WAIT_MS");
  const auto faults = group.run([&](int rank) {
    if (rank != 1) group.launch(rank, "clean_sync", 1);
  });
  EXPECT_EQ(faults[1], "");
  EXPECT_EQ(count(faults, "kernel clean_sync, block (0, 0, 0), thread 1 (wave 0, lane 1), " + line_of("endless_wait")), 2) << all(faults);
  EXPECT_EQ(count(faults, ", which stands at 0, never stored by a kernel"), 2) << all(faults);
  EXPECT_EQ(count(faults, "device 1 (gfx942) has no kernel in flight"), 2) << all(faults);
}

TEST(SimulatedGroups, a_buffer_that_is_written_before_its_readers_are_done_is_a_race) {
  Group group(Target::gfx942, 4);
  std::atomic<int> readers{0};
  const auto faults = group.run([&](int rank) {
    group.launch(rank, "group_write", 0, 1);
    group.launch(rank, "clean_sync", 1);
    if (rank != 0) {
      group.launch(rank, "group_read", 0);
      readers++;
      return;
    }
    // That the readers are done is seen by nobody but this test.
    while (readers < 3) std::this_thread::yield();
    group.launch(rank, "group_write", 0, 2);
  });
  EXPECT_EQ(faults[0].find("kernel group_write, block (0, 0, 0), thread 0 (wave 0, lane 0), " + line_of("early_reuse") +
                           ": write at byte 0 of a buffer of 131072 bytes of device 0 (gfx942) races with the read by device "),
            0u)
      << faults[0];
  EXPECT_NE(faults[0].find(", kernel group_read, block (0, 0, 0), thread 0 (wave 0, lane 0), " + line_of("unordered_read")),
            std::string::npos)
      << faults[0];
  EXPECT_EQ(count(faults, "kernel"), 1) << all(faults);
}

TEST(SimulatedGroups, a_write_into_a_peer_and_a_copy_race_like_any_other) {
  Group group(Target::gfx942, 2);
  group.launch(1, "group_write", 0, 1);
  const auto writes = group.run([&](int rank) {
    if (rank == 0) group.launch(0, "group_write_peers", 0, 2);
  });
  EXPECT_NE(writes[0].find(line_of("unordered_write") + ": write at byte 0 of a buffer of 131072 bytes of device 1 (gfx942) "
                           "races with the write by device 1 (gfx942), kernel group_write"),
            std::string::npos)
      << writes[0];
  for (int r = 0; r < 2; r++) group.driver(r).stream_synchronize(nullptr);
  group.launch(0, "group_read", 0);
  const std::vector<int32_t> values(64, 3);
  const auto copies = group.run([&](int rank) {
    if (rank == 1) group.copy_in(1, values);
  });
  EXPECT_NE(copies[1].find("a copy on device 1 (gfx942) races at byte 0 of a buffer of 131072 bytes of device 1 (gfx942) with "
                           "the read by device 0 (gfx942), kernel group_read"),
            std::string::npos)
      << copies[1];
}

TEST(SimulatedGroups, a_signal_outside_of_signal_memory_is_reported) {
  Group group(Target::sm_90, 2);
  const auto faults = group.run([&](int rank) {
    if (rank == 0) group.launch(rank, "planted_signal_in_data", 1);
  });
  EXPECT_NE(faults[0].find(line_of("planted_signal_in_data") + " (in device_sim.h:"), std::string::npos) << faults[0];
  EXPECT_NE(faults[0].find(", which is no counter in signal memory that this device reaches"), std::string::npos) << faults[0];
}

TEST(SimulatedGroups, a_release_or_acquire_of_one_wave_does_not_stand_for_a_block_without_a_barrier) {
  for (const std::string kernel : {"planted_exchange_no_barrier_before", "planted_exchange_no_barrier_behind"}) {
    Group group(Target::gfx942, 2);
    const auto faults = group.run([&](int rank) { group.launch(rank, kernel.c_str(), 1, 1, 1, 128); });
    EXPECT_GE(count(faults, line_of(kernel)), 1) << kernel << ": " << all(faults);
    EXPECT_GE(count(faults, " (wave 1, lane "), 1) << kernel << ": " << all(faults);
    EXPECT_GE(count(faults, "no release and acquire order them"), 1) << kernel << ": " << all(faults);
  }
}

TEST(SimulatedGroups, blocks_may_wait_for_blocks_that_come_later) {
  constexpr int blocks = 200;  // more than a thread may otherwise be ahead of another
  for (const int threads : {1, 3}) {
    Group group(Target::gfx942, 2, threads);
    const auto faults = group.run([&](int rank) { group.launch(rank, "clean_crossed_blocks", 1, 100 * rank, blocks); });
    EXPECT_EQ(count(faults, "kernel"), 0) << all(faults);
    EXPECT_LT(64 * blocks, elements);
    const std::vector<int32_t> output = group.output(0, 64 * blocks);
    for (int i = 0; i < 64 * blocks; i++) EXPECT_EQ(output[static_cast<size_t>(i)], 100 + blocks - 1 - i / 64);
  }
}

TEST(SimulatedGroups, a_grid_that_waits_must_be_resident_at_once) {
  Group group(Target::gfx942, 2);
  const auto faults = group.run([&](int rank) {
    if (rank == 0) group.launch(rank, "clean_crossed_blocks", 1, 0, 400);
  });
  EXPECT_NE(faults[0].find("waits for a signal in a grid of 400 blocks, of which only 304 are sure to be resident"),
            std::string::npos)
      << faults[0];
}

}  // namespace
