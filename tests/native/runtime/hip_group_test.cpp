// The HIP driver on four devices, emulated by tests/native/gfx942: what each has for itself, what it reaches of its
// peers, and kernels that wait for one another.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <octet.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int ranks = 4;

void ok(octet_status status) { ASSERT_EQ(status, OCTET_OK) << octet_last_error(); }
void expect_failure(octet_status status, octet_status expected, const char* part) {
  EXPECT_EQ(status, expected);
  EXPECT_NE(std::string(octet_last_error()).find(part), std::string::npos) << octet_last_error();
}

// A function of the runtime, for what the driver never does.
template <class... Arguments>
int hip(const char* name, Arguments... arguments) {
  static void* library = dlopen("libamdhip64.so.6", RTLD_NOW);
  return reinterpret_cast<int (*)(Arguments...)>(dlsym(library, name))(arguments...);
}
void* const default_stream = nullptr;
constexpr int invalid_value = 1, invalid_device = 101, invalid_handle = 400, already_enabled = 704;

// NOTE: access to a peer stays with the process, so tests that begin without it have a pair of devices each, or a
// process.
class HipGroup : public testing::Test {
 protected:
  void SetUp() override {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    for (size_t r = 0; r < ranks; r++) {
      ok(octet_device_open(("hip:" + std::to_string(r)).c_str(), &devices_[r]));
      ok(octet_stream_create(devices_[r], &streams_[r]));
    }
  }
  void TearDown() override {
    for (octet_buffer* buffer : buffers_) ok(octet_buffer_destroy(buffer));
    for (octet_stream* stream : streams_) ok(octet_stream_destroy(stream));
    for (octet_device* device : devices_) ok(octet_device_close(device));
  }
  template <class T>
  T* allocate(size_t rank, int64_t count, octet_memory_kind kind = OCTET_DEVICE_MEMORY) {
    octet_buffer* buffer = nullptr;
    void* pointer = nullptr;
    const int64_t size = count * static_cast<int64_t>(sizeof(T));
    EXPECT_EQ(octet_buffer_create(devices_[rank], size, kind, &buffer), OCTET_OK) << octet_last_error();
    EXPECT_EQ(octet_buffer_pointer(buffer, &pointer), OCTET_OK);
    buffers_.push_back(buffer);
    return static_cast<T*>(pointer);
  }
  int64_t free_memory(size_t rank) {
    int64_t bytes = 0;
    EXPECT_EQ(octet_device_free_memory(devices_[rank], &bytes), OCTET_OK);
    return bytes;
  }
  void connect() {
    for (octet_device* device : devices_)
      for (octet_device* peer : devices_)
        if (device != peer) ok(octet_device_enable_peer(device, peer));
  }

  std::array<octet_device*, ranks> devices_{};
  std::array<octet_stream*, ranks> streams_{};
  std::vector<octet_buffer*> buffers_;
};

// 128 ones that lie on one device, quantised by another: the scale is 1 / 224, the number of FNUZ that ones are made
// to.
struct Ones {
  const float* x;
  uint8_t* codes;
  float* scale;
  octet_status quantize(octet_stream* stream) const {
    octet_quantize_args args{};
    args.struct_size = sizeof(args);
    args.x = x, args.output = codes, args.scales = scale;
    args.rows = 1, args.columns = args.x_stride = args.output_stride = 128, args.scale_stride = 1;
    args.x_dtype = OCTET_F32, args.output_dtype = OCTET_F8_E4M3_FNUZ;
    return octet_quantize(&args, stream);
  }
};

// group_sync of all ranks. Each has its counters, its epoch and its status.
struct Syncs {
  std::array<octet_group_sync_args, ranks> args{};
  octet_status enqueue(size_t rank, octet_stream* stream) const { return octet_group_sync(&args[rank], stream); }
};

class HipRanks : public HipGroup {
 protected:
  void SetUp() override {
    HipGroup::SetUp();
    connect();
    uint32_t* signals[ranks];
    for (size_t r = 0; r < ranks; r++) signals[r] = allocate<uint32_t>(r, 128, OCTET_SIGNAL_MEMORY);
    for (size_t r = 0; r < ranks; r++) {
      auto* state = allocate<uint32_t>(r, 8);
      ok(octet_fill(streams_[r], state, 0, 32));
      ok(octet_stream_synchronize(streams_[r]));
      octet_group_sync_args& args = syncs_.args[r];
      args.struct_size = sizeof(args);
      std::copy_n(signals, ranks, args.signals);
      args.epoch = state, args.status = state + 4;
      args.rank = static_cast<int32_t>(r), args.ranks = ranks, args.timeout_ms = 600'000;
    }
  }
  uint32_t read(size_t rank, const uint32_t* from) {
    uint32_t value = 0;
    EXPECT_EQ(octet_copy(streams_[rank], &value, from, 4, OCTET_DEVICE_TO_HOST), OCTET_OK) << octet_last_error();
    EXPECT_EQ(octet_stream_synchronize(streams_[rank]), OCTET_OK) << octet_last_error();
    return value;
  }

  Syncs syncs_;
};

TEST_F(HipGroup, Devices_are_counted_and_each_has_memory_of_its_own) {
  octet_device* fifth = nullptr;
  expect_failure(octet_device_open("hip:4", &fifth), OCTET_NO_DEVICE, "hip:4: no such device, 4 present");
  const int64_t zero = free_memory(0), one = free_memory(1);
  allocate<char>(1, 1 << 20);
  EXPECT_EQ(free_memory(0), zero);
  EXPECT_EQ(free_memory(1), one - (1 << 20));
}

TEST_F(HipGroup, A_kernel_reads_the_memory_of_a_peer_it_has_access_to) {
  auto* x = allocate<float>(1, 128);
  const std::vector<float> row(128, 224.0f);
  ok(octet_copy(streams_[1], x, row.data(), 512, OCTET_HOST_TO_DEVICE));
  ok(octet_stream_synchronize(streams_[1]));
  ok(octet_device_enable_peer(devices_[0], devices_[1]));
  ok(octet_device_enable_peer(devices_[0], devices_[1]));
  const Ones ones{x, allocate<uint8_t>(0, 128), allocate<float>(0, 1)};
  float scale = 0;
  ok(ones.quantize(streams_[0]));
  ok(octet_copy(streams_[0], &scale, ones.scale, 4, OCTET_DEVICE_TO_HOST));
  ok(octet_stream_synchronize(streams_[0]));
  EXPECT_EQ(scale, 1);
}

TEST_F(HipGroup, A_kernel_that_touches_a_peer_without_access_faults_and_its_device_alone_has_failed) {
  const Ones ones{allocate<float>(1, 128), allocate<uint8_t>(0, 128), allocate<float>(0, 1)};
  EXPECT_EXIT(
      {
        ok(octet_device_enable_peer(devices_[1], devices_[0]));  // the other way round
        const bool queued = ones.quantize(streams_[0]) == OCTET_OK;
        const bool failed = octet_stream_synchronize(streams_[0]) == OCTET_DEVICE_ERROR;
        const bool goes_on = octet_stream_synchronize(streams_[1]) == OCTET_OK;
        std::_Exit(queued && failed && goes_on ? 0 : 1);
      },
      testing::ExitedWithCode(0), "hip:0: quantize.*memory of hip:1, which the device has no peer access to");
}

TEST_F(HipGroup, Copies_reach_a_peer_only_with_access) {
  auto *here = allocate<uint8_t>(2, 64), *there = allocate<uint8_t>(1, 64);
  expect_failure(octet_copy(streams_[2], here, there, 64, OCTET_DEVICE_TO_DEVICE), OCTET_DEVICE_ERROR,
                 "hipMemcpyAsync: error 1");
  ok(octet_device_enable_peer(devices_[2], devices_[1]));
  ok(octet_fill(streams_[1], there, 7, 64));
  ok(octet_stream_synchronize(streams_[1]));
  ok(octet_copy(streams_[2], here, there, 64, OCTET_DEVICE_TO_DEVICE));
  uint8_t byte = 0;
  ok(octet_copy(streams_[2], &byte, here, 1, OCTET_DEVICE_TO_HOST));
  EXPECT_EQ(byte, 7);
}

TEST_F(HipGroup, What_belongs_to_another_device_is_refused) {
  ASSERT_EQ(hip("hipSetDevice", 1), 0);
  void *stream = nullptr, *event = nullptr, *memory = nullptr;
  ASSERT_EQ(hip("hipStreamCreateWithFlags", &stream, 1u), 0);
  ASSERT_EQ(hip("hipEventCreate", &event), 0);
  ASSERT_EQ(hip("hipMalloc", &memory, size_t{64}), 0);

  ASSERT_EQ(hip("hipSetDevice", 3), 0);
  EXPECT_EQ(hip("hipStreamSynchronize", stream), invalid_handle);
  EXPECT_EQ(hip("hipStreamDestroy", stream), invalid_handle);
  EXPECT_EQ(hip("hipEventRecord", event, default_stream), invalid_handle);
  EXPECT_EQ(hip("hipMemsetAsync", memory, 0, size_t{64}, default_stream), invalid_value);
  EXPECT_EQ(hip("hipFree", memory), invalid_value);
  octet_stream* borrowed = nullptr;
  ok(octet_stream_borrow(devices_[3], stream, &borrowed));
  expect_failure(octet_fill(borrowed, allocate<uint8_t>(3, 1), 0, 1), OCTET_DEVICE_ERROR, "hipMemsetAsync: error 400");
  ok(octet_stream_destroy(borrowed));

  ASSERT_EQ(hip("hipSetDevice", 1), 0);
  EXPECT_EQ(hip("hipFree", memory), 0);
  EXPECT_EQ(hip("hipEventDestroy", event), 0);
  EXPECT_EQ(hip("hipStreamDestroy", stream), 0);
}

TEST_F(HipGroup, Peers_are_other_devices_that_there_are_and_are_enabled_once) {
  int can = -1;
  EXPECT_EQ(hip("hipDeviceCanAccessPeer", &can, 2, 3), 0);
  EXPECT_EQ(can, 1);
  EXPECT_EQ(hip("hipDeviceCanAccessPeer", &can, 2, 2), 0);
  EXPECT_EQ(can, 0);
  EXPECT_EQ(hip("hipDeviceCanAccessPeer", &can, 2, 4), invalid_device);
  ASSERT_EQ(hip("hipSetDevice", 2), 0);
  EXPECT_EQ(hip("hipDeviceEnablePeerAccess", 2, 0u), invalid_device);
  EXPECT_EQ(hip("hipDeviceEnablePeerAccess", 4, 0u), invalid_device);
  EXPECT_EQ(hip("hipDeviceEnablePeerAccess", 3, 1u), invalid_value);
  EXPECT_EQ(hip("hipDeviceEnablePeerAccess", 3, 0u), 0);
  EXPECT_EQ(hip("hipDeviceEnablePeerAccess", 3, 0u), already_enabled);
}

// The driver refuses it, the runtime does not.
TEST_F(HipGroup, A_stream_waits_for_an_event_of_another_device) {
  auto *here = allocate<uint8_t>(0, 64), *there = allocate<uint8_t>(1, 64);
  ok(octet_device_enable_peer(devices_[1], devices_[0]));
  ASSERT_EQ(hip("hipSetDevice", 0), 0);
  void* event = nullptr;
  ASSERT_EQ(hip("hipEventCreate", &event), 0);
  ASSERT_EQ(hip("hipMemsetAsync", here, 9, size_t{64}, default_stream), 0);
  ASSERT_EQ(hip("hipEventRecord", event, default_stream), 0);
  ASSERT_EQ(hip("hipMemsetAsync", here, 1, size_t{64}, default_stream), 0);  // nobody waits for it
  ASSERT_EQ(hip("hipSetDevice", 1), 0);
  ASSERT_EQ(hip("hipStreamWaitEvent", default_stream, event, 0u), 0);
  ASSERT_EQ(hip("hipMemcpyAsync", there, here, size_t{64}, 3, default_stream), 0);
  uint8_t byte = 0;
  ASSERT_EQ(hip("hipMemcpyAsync", &byte, there, size_t{1}, 2, default_stream), 0);
  EXPECT_EQ(byte, 9);
  EXPECT_EQ(hip("hipEventDestroy", event), 0);
}

TEST_F(HipRanks, Waiting_for_one_rank_runs_what_its_peers_have_queued) {
  for (size_t r = 0; r < ranks; r++) ok(syncs_.enqueue(r, streams_[r]));
  EXPECT_EQ(read(2, syncs_.args[2].epoch), 1u);
  for (size_t r = 0; r < ranks; r++) EXPECT_EQ(read(r, syncs_.args[r].status), OCTET_GROUP_RUNNING);
}

TEST_F(HipRanks, Recorded_syncs_meet_when_each_rank_has_a_thread) {
  constexpr int replays = 5, syncs = 3;
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ranks; r++)
    threads.emplace_back([this, r] {
      octet_graph* graph = nullptr;
      ok(octet_graph_begin(streams_[r]));
      for (int i = 0; i < syncs; i++) ok(syncs_.enqueue(r, streams_[r]));
      ok(octet_graph_end(streams_[r], &graph));
      for (int i = 0; i < replays; i++) {
        ok(octet_graph_launch(graph, streams_[r]));
        if (i % 2 == 0) ok(octet_stream_synchronize(streams_[r]));
      }
      ok(octet_stream_synchronize(streams_[r]));
      ok(octet_graph_destroy(graph));
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t r = 0; r < ranks; r++) EXPECT_EQ(read(r, syncs_.args[r].epoch), uint32_t{replays * syncs});
}

TEST_F(HipRanks, A_wait_for_an_absent_rank_is_reported_with_what_the_others_do) {
  EXPECT_EXIT(
      {
        setenv("GFX942_EMULATOR_PATIENCE_MS", "200", 1);
        for (size_t r = 0; r < 3; r++) ok(syncs_.enqueue(r, streams_[r]));
        const bool failed = octet_stream_synchronize(streams_[0]) == OCTET_DEVICE_ERROR;
        std::_Exit(failed ? 0 : 1);
      },
      testing::ExitedWithCode(0),
      "group_sync: block.*s_sleep.*never comes: nothing else has run for 200 ms; "
      "hip:[01] waits in group_sync; hip:[12] waits in group_sync; hip:3 has nothing to run");
}

// The library in RCCL's place knows the devices by HIP's numbers. It adds at once, not behind what is queued.
TEST_F(HipGroup, Ranks_add_through_the_library_in_RCCL_s_place_and_leave_a_sum_that_is_given_up) {
  constexpr int64_t count = 40;
  constexpr uint16_t one_to_four[] = {0x3F80, 0x4000, 0x4040, 0x4080}, ten = 0x4120;  // bf16
  octet_communicator* group = nullptr;
  ok(octet_communicator_create(devices_.data(), ranks, nullptr, &group));
  expect_failure(octet_device_close(devices_[1]), OCTET_INVALID_ARGUMENT, "1 communicators");
  std::array<uint16_t*, ranks> values{};
  std::vector<uint16_t> read(count);
  for (size_t r = 0; r < ranks; r++) {
    const std::vector<uint16_t> row(count, one_to_four[r]);
    values[r] = allocate<uint16_t>(r, count);
    ok(octet_copy(streams_[r], values[r], row.data(), count * 2, OCTET_HOST_TO_DEVICE));
    ok(octet_stream_synchronize(streams_[r]));
  }
  const auto add = [&](size_t r) {
    return octet_communicator_all_reduce(group, static_cast<int32_t>(r), values[r], count, streams_[r]);
  };
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ranks; r++) threads.emplace_back([&, r] { ok(add(r)); });
  for (std::thread& thread : threads) thread.join();
  for (size_t r = 0; r < ranks; r++) {
    ok(octet_copy(streams_[r], read.data(), values[r], count * 2, OCTET_DEVICE_TO_HOST));
    ok(octet_stream_synchronize(streams_[r]));
    EXPECT_EQ(read, std::vector<uint16_t>(count, ten));
    ok(octet_communicator_check(group, static_cast<int32_t>(r)));
  }

  std::thread waiting([&] { expect_failure(add(0), OCTET_DEVICE_ERROR, "rccl: "); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  ok(octet_communicator_abort(group));
  waiting.join();
  expect_failure(add(1), OCTET_DEVICE_ERROR, "rccl: the group was told to stop");
  expect_failure(octet_communicator_check(group, 1), OCTET_DEVICE_ERROR, "rccl: the group was told to stop");
  ok(octet_communicator_destroy(group));
}

}  // namespace
