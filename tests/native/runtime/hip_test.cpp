// The HIP driver through the C ABI, on the emulated gfx942 of tests/native/gfx942 in the place of libamdhip64: memory,
// streams, events, graphs, errors, and what belongs to a thread. The emulator runs queued work only when something
// waits for it.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <octet.h>

#include <bit>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

void ok(octet_status status) { ASSERT_EQ(status, OCTET_OK) << octet_last_error(); }
void expect_failure(octet_status status, octet_status expected, const char* part) {
  EXPECT_EQ(status, expected);
  EXPECT_NE(std::string(octet_last_error()).find(part), std::string::npos) << octet_last_error();
}

class HipDriver : public testing::Test {
 protected:
  void SetUp() override {
    ok(octet_device_open("hip:0", &device_));
    ok(octet_stream_create(device_, &stream_));
  }
  void TearDown() override {
    for (octet_buffer* buffer : buffers_) ok(octet_buffer_destroy(buffer));
    ok(octet_stream_destroy(stream_));
    ok(octet_device_close(device_));
  }
  template <class T>
  T* allocate(int64_t count, octet_memory_kind kind = OCTET_DEVICE_MEMORY) {
    octet_buffer* buffer = nullptr;
    void* pointer = nullptr;
    EXPECT_EQ(octet_buffer_create(device_, count * static_cast<int64_t>(sizeof(T)), kind, &buffer), OCTET_OK)
        << octet_last_error();
    EXPECT_EQ(octet_buffer_pointer(buffer, &pointer), OCTET_OK);
    buffers_.push_back(buffer);
    return static_cast<T*>(pointer);
  }
  // One row of 128 ones times `value`, quantised: every code is that of 224, the scale is value / 224.
  octet_quantize_args quantize_args(const float* x, uint8_t* codes, float* scale) {
    octet_quantize_args args{};
    args.struct_size = sizeof(args);
    args.x = x, args.output = codes, args.scales = scale;
    args.rows = 1, args.columns = args.x_stride = args.output_stride = 128, args.scale_stride = 1;
    args.x_dtype = OCTET_F32, args.output_dtype = OCTET_F8_E4M3_FNUZ;
    return args;
  }

  octet_device* device_ = nullptr;
  octet_stream* stream_ = nullptr;
  std::vector<octet_buffer*> buffers_;
};

TEST_F(HipDriver, Knows_the_device_by_the_code_objects_it_takes) {
  octet_device_properties properties{};
  properties.struct_size = sizeof(properties);
  ok(octet_device_get_properties(device_, &properties));
  EXPECT_STREQ(properties.target, "gfx942");
  EXPECT_EQ(properties.fp8, OCTET_F8_E4M3_FNUZ);
  EXPECT_EQ(properties.wave_size, 64);
  EXPECT_EQ(properties.compute_units, 304);
  EXPECT_EQ(properties.shared_memory, 65536);
  EXPECT_GT(properties.total_memory, int64_t{1} << 30);
  int64_t before = 0, after = 0;
  ok(octet_device_free_memory(device_, &before));
  EXPECT_LE(before, properties.total_memory);
  allocate<char>(1 << 20);
  ok(octet_device_free_memory(device_, &after));
  EXPECT_EQ(before - after, 1 << 20);
  octet_device* other = nullptr;
  expect_failure(octet_device_open("hip:1", &other), OCTET_NO_DEVICE, "hip:1: no such device, 1 present");
}

TEST_F(HipDriver, Copies_and_fills_run_in_the_order_of_the_stream_and_not_before_somebody_waits) {
  auto* on_device = allocate<int>(64);
  auto* pinned = allocate<int>(64, OCTET_PINNED_MEMORY);
  pinned[7] = 5;
  ok(octet_fill(stream_, on_device, 1, 256));
  ok(octet_copy(stream_, on_device + 8, on_device, 16, OCTET_DEVICE_TO_DEVICE));
  ok(octet_copy(stream_, pinned, on_device, 256, OCTET_DEVICE_TO_HOST));
  EXPECT_EQ(pinned[7], 5);
  ok(octet_stream_synchronize(stream_));
  EXPECT_EQ(pinned[7], 0x01010101);
  std::vector<int> pageable(64, 9), back(64);
  ok(octet_copy(stream_, on_device, pageable.data(), 256, OCTET_HOST_TO_DEVICE));
  ok(octet_copy(stream_, back.data(), on_device, 256, OCTET_DEVICE_TO_HOST));
  ok(octet_stream_synchronize(stream_));
  EXPECT_EQ(back, pageable);
}

TEST_F(HipDriver, An_event_orders_two_streams_and_tells_the_time_between) {
  auto* on_device = allocate<uint8_t>(64);
  auto* pinned = allocate<uint8_t>(64, OCTET_PINNED_MEMORY);
  octet_stream* second = nullptr;
  octet_event *start = nullptr, *stop = nullptr;
  ok(octet_stream_create(device_, &second));
  ok(octet_event_create(device_, &start));
  ok(octet_event_create(device_, &stop));
  float milliseconds = -1;
  EXPECT_NE(octet_event_elapsed(start, stop, &milliseconds), OCTET_OK);
  ok(octet_event_record(start, stream_));
  ok(octet_fill(stream_, on_device, 3, 64));
  ok(octet_event_record(stop, stream_));
  ok(octet_stream_wait(second, stop));
  ok(octet_copy(second, pinned, on_device, 64, OCTET_DEVICE_TO_HOST));
  ok(octet_stream_synchronize(second));
  EXPECT_EQ(pinned[63], 3);
  ok(octet_event_synchronize(stop));
  ok(octet_event_elapsed(start, stop, &milliseconds));
  EXPECT_GE(milliseconds, 0);
  ok(octet_event_destroy(start));
  ok(octet_event_destroy(stop));
  ok(octet_stream_destroy(second));
}

TEST_F(HipDriver, A_graph_replays_its_launches_on_what_the_buffers_hold_then) {
  auto* x = allocate<float>(128);
  auto* codes = allocate<uint8_t>(128);
  auto* scale = allocate<float>(1);
  auto* result = allocate<float>(1, OCTET_PINNED_MEMORY);
  octet_graph* graph = nullptr;
  *result = -1;
  ok(octet_graph_begin(stream_));
  const octet_quantize_args args = quantize_args(x, codes, scale);
  ok(octet_quantize(&args, stream_));
  octet_quantize_args wrong = args;
  wrong.rows = -1;
  EXPECT_EQ(octet_quantize(&wrong, stream_), OCTET_INVALID_ARGUMENT);  // leaves the recording usable
  ok(octet_copy(stream_, result, scale, 4, OCTET_DEVICE_TO_HOST));
  ok(octet_graph_end(stream_, &graph));
  ok(octet_stream_synchronize(stream_));
  EXPECT_EQ(*result, -1);
  for (const float value : {448.0f, 112.0f}) {
    const std::vector<float> row(128, value);
    ok(octet_copy(stream_, x, row.data(), 512, OCTET_HOST_TO_DEVICE));
    ok(octet_graph_launch(graph, stream_));
    ok(octet_stream_synchronize(stream_));
    EXPECT_EQ(*result, value / 224);
  }
  ok(octet_graph_destroy(graph));
}

TEST_F(HipDriver, Waiting_while_recording_is_an_error_and_the_stream_survives_it) {
  auto* on_device = allocate<uint8_t>(64);
  auto* pinned = allocate<uint8_t>(64, OCTET_PINNED_MEMORY);
  octet_graph* graph = nullptr;
  ok(octet_graph_begin(stream_));
  ok(octet_fill(stream_, on_device, 1, 64));
  expect_failure(octet_stream_synchronize(stream_), OCTET_DEVICE_ERROR, "hipStreamSynchronize: error 900");
  expect_failure(octet_graph_end(stream_, &graph), OCTET_DEVICE_ERROR, "hipStreamEndCapture: error 901");
  ok(octet_fill(stream_, on_device, 2, 64));
  ok(octet_copy(stream_, pinned, on_device, 64, OCTET_DEVICE_TO_HOST));
  ok(octet_stream_synchronize(stream_));
  EXPECT_EQ(pinned[0], 2);
}

TEST_F(HipDriver, Any_thread_may_call) {
  auto* x = allocate<float>(128);
  auto* codes = allocate<uint8_t>(128);
  auto* scale = allocate<float>(1);
  float result = 0;
  std::thread([&] {
    const std::vector<float> row(128, 224.0f);
    const octet_quantize_args args = quantize_args(x, codes, scale);
    ok(octet_copy(stream_, x, row.data(), 512, OCTET_HOST_TO_DEVICE));
    ok(octet_quantize(&args, stream_));
    ok(octet_copy(stream_, &result, scale, 4, OCTET_DEVICE_TO_HOST));
    ok(octet_stream_synchronize(stream_));
  }).join();
  EXPECT_EQ(result, 1);
}

TEST_F(HipDriver, Borrowed_streams_work_and_are_left_alone) {
  void* library = dlopen("libamdhip64.so.6", RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto create = reinterpret_cast<int (*)(void**, unsigned)>(dlsym(library, "hipStreamCreateWithFlags"));
  const auto destroy = reinterpret_cast<int (*)(void*)>(dlsym(library, "hipStreamDestroy"));
  void* native = nullptr;
  ASSERT_EQ(create(&native, 1), 0);
  auto* on_device = allocate<uint8_t>(64);
  auto* pinned = allocate<uint8_t>(64, OCTET_PINNED_MEMORY);
  int byte = 1;
  for (void* each : {native, static_cast<void*>(nullptr)}) {
    octet_stream* borrowed = nullptr;
    ok(octet_stream_borrow(device_, each, &borrowed));
    ok(octet_fill(borrowed, on_device, ++byte, 64));
    ok(octet_copy(borrowed, pinned, on_device, 64, OCTET_DEVICE_TO_HOST));
    ok(octet_stream_synchronize(borrowed));
    EXPECT_EQ(pinned[0], byte);
    ok(octet_stream_destroy(borrowed));
  }
  EXPECT_EQ(destroy(native), 0);
}

TEST_F(HipDriver, Memory_that_is_not_there_is_out_of_memory_with_the_runtime_s_own_words) {
  octet_buffer* buffer = nullptr;
  expect_failure(octet_buffer_create(device_, int64_t{1} << 40, OCTET_DEVICE_MEMORY, &buffer), OCTET_OUT_OF_MEMORY,
                 "hipMalloc: error 2 (hipErrorOutOfMemory)");
  EXPECT_NE(allocate<uint8_t>(0), nullptr);
}

TEST_F(HipDriver, A_device_opens_again_after_it_was_closed) {
  for (int round = 0; round < 2; round++) {
    octet_device* again = nullptr;
    ok(octet_device_open("hip:0", &again));
    ok(octet_device_close(again));
  }
}

TEST_F(HipDriver, Signal_memory_is_zero_and_a_device_reaches_itself_opened_twice) {
  octet_device* again = nullptr;
  ok(octet_device_open("hip:0", &again));
  ok(octet_device_enable_peer(device_, again));
  expect_failure(octet_device_enable_peer(device_, device_), OCTET_INVALID_ARGUMENT, "device and peer are one");
  octet_device* simulated = nullptr;
  ok(octet_device_open("sim", &simulated));
  expect_failure(octet_device_enable_peer(device_, simulated), OCTET_UNSUPPORTED,
                 "gfx942 emulator cannot reach the memory of simulated gfx942");
  ok(octet_device_close(simulated));
  ok(octet_device_close(again));
  const uint32_t* signals = allocate<uint32_t>(128, OCTET_SIGNAL_MEMORY);
  std::vector<uint32_t> read(128, 1);
  ok(octet_copy(stream_, read.data(), signals, 512, OCTET_DEVICE_TO_HOST));
  ok(octet_stream_synchronize(stream_));
  EXPECT_EQ(read, std::vector<uint32_t>(128));
}

// The compiled group_sync, as rank 0 of two: its peer's counter lies in memory of the same device.
TEST_F(HipDriver, A_group_sync_counts_while_its_peer_does_and_gives_up_at_the_deadline) {
  constexpr int rank = 0, peer = 1;
  auto* state = allocate<uint32_t>(8);
  octet_group_sync_args args{};
  args.struct_size = sizeof(args);
  for (uint32_t*& signals : args.signals) signals = allocate<uint32_t>(128, OCTET_SIGNAL_MEMORY);
  args.epoch = state, args.status = state + 4;
  args.rank = rank, args.ranks = 2, args.timeout_ms = 20;
  ok(octet_fill(stream_, state, 0, 32));
  const auto read = [&](const uint32_t* from) {
    uint32_t value = 0;
    EXPECT_EQ(octet_copy(stream_, &value, from, 4, OCTET_DEVICE_TO_HOST), OCTET_OK);
    EXPECT_EQ(octet_stream_synchronize(stream_), OCTET_OK);
    return value;
  };
  const uint32_t two = 2;  // the peer is two syncs ahead
  ok(octet_copy(stream_, args.signals[rank] + peer * OCTET_SIGNAL_STRIDE, &two, 4, OCTET_HOST_TO_DEVICE));
  for (uint32_t epoch = 1; epoch <= two; epoch++) {
    ok(octet_group_sync(&args, stream_));
    EXPECT_EQ(read(args.epoch), epoch);
    EXPECT_EQ(read(args.status), OCTET_GROUP_RUNNING);
    EXPECT_EQ(read(args.signals[peer] + rank * OCTET_SIGNAL_STRIDE), epoch);
  }
  ok(octet_group_sync(&args, stream_));
  EXPECT_EQ(read(args.status), OCTET_GROUP_TIMED_OUT | 1u << (8 + peer));
  EXPECT_EQ(read(args.epoch), two);
  EXPECT_EQ(read(args.signals[peer] + peer * OCTET_SIGNAL_STRIDE), OCTET_SIGNAL_POISON);
}

// The library under RCCL's name is found; it refuses one GPU twice, and other groups are not brought to it.
TEST_F(HipDriver, A_group_over_RCCL_is_refused_in_its_own_words_and_a_missing_library_with_the_remedy) {
  octet_device* again = nullptr;
  ok(octet_device_open("hip:0", &again));
  octet_device* const devices[] = {device_, again, device_};
  octet_communicator* group = nullptr;
  expect_failure(octet_communicator_create(devices, 2, nullptr, &group), OCTET_DEVICE_ERROR,
                 "rccl: ncclCommInitAll: error 5 (told so by a test)");
  expect_failure(octet_communicator_create(devices, 3, nullptr, &group), OCTET_INVALID_ARGUMENT,
                 "3 ranks, must be 2, 4 or 8");
  expect_failure(octet_communicator_create(devices, 2, "/nowhere/librccl.so.1", &group), OCTET_NO_DEVICE,
                 "install RCCL, which comes with ROCm, and make it findable");
  EXPECT_EQ(group, nullptr);
  ok(octet_device_close(again));
}

// A fault stays with the device, so it has a process of its own.
TEST_F(HipDriver, A_kernel_that_faults_is_a_device_error_and_is_named) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        auto* codes = allocate<uint8_t>(128);
        auto* scale = allocate<float>(1);
        const octet_quantize_args args = quantize_args(std::bit_cast<const float*>(uintptr_t{0x10000}), codes, scale);
        const bool queued = octet_quantize(&args, stream_) == OCTET_OK;
        const bool failed = octet_stream_synchronize(stream_) == OCTET_DEVICE_ERROR;
        const bool named = std::strstr(octet_last_error(), "error 719 (hipErrorLaunchFailure)") != nullptr;
        std::_Exit(queued && failed && named ? 0 : 1);
      },
      testing::ExitedWithCode(0), "quantize.*block.*wave.*pc.*lane.*outside every buffer");
}

}  // namespace
