// The CUDA driver through the C ABI, against the recorder of cuda_recorder.cpp in the place of libcuda: what it calls,
// in which order and with which arguments. Nothing runs on a GPU here.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <octet.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

void ok(octet_status status) { ASSERT_EQ(status, OCTET_OK) << octet_last_error(); }
void expect_failure(octet_status status, octet_status expected, const char* part) {
  EXPECT_EQ(status, expected);
  EXPECT_NE(std::string(octet_last_error()).find(part), std::string::npos) << octet_last_error();
}

template <class Function>
Function* recorder(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  void* found = library == nullptr ? nullptr : dlsym(library, name);
  if (found == nullptr)
    throw std::runtime_error(std::string(name) + " is not in libcuda.so.1: the recorder is not the one loaded");
  return reinterpret_cast<Function*>(found);
}
void pretend(int compute_major, bool reject_ptx) {
  recorder<void(int, bool)>("cuda_recorder_set")(compute_major, reject_ptx);
}

// The lines written since the last look.
std::vector<std::string> calls() {
  std::istringstream text(recorder<const char*()>("cuda_recorder_log")());
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line.substr(0, line.find_last_not_of(' ') + 1));
  recorder<void()>("cuda_recorder_clear")();
  return lines;
}
std::ptrdiff_t count(const std::vector<std::string>& lines, const std::string& line) {
  return std::count(lines.begin(), lines.end(), line);
}

class CudaDriver : public testing::Test {
 protected:
  void SetUp() override {
    pretend(9, false);
    ok(octet_device_open("cuda:0", &device_));
    ok(octet_stream_create(device_, &stream_));
    calls();
  }
  void TearDown() override {
    ok(octet_stream_destroy(stream_));
    ok(octet_device_close(device_));
    calls();
  }
  octet_quantize_args quantize_args() {
    octet_quantize_args args{};
    args.struct_size = sizeof(args);
    args.x = reinterpret_cast<const void*>(0x123400);
    args.output = reinterpret_cast<void*>(0x20000), args.scales = reinterpret_cast<float*>(0x30000);
    args.rows = 3, args.columns = args.x_stride = args.output_stride = 256, args.scale_stride = 2;
    args.x_dtype = OCTET_BF16, args.output_dtype = OCTET_F8_E4M3;
    return args;
  }

  octet_device* device_ = nullptr;
  octet_stream* stream_ = nullptr;
};

TEST_F(CudaDriver, Knows_the_device_and_refuses_one_that_is_too_old) {
  octet_device_properties properties{};
  properties.struct_size = sizeof(properties);
  ok(octet_device_get_properties(device_, &properties));
  EXPECT_STREQ(properties.target, "sm_90");
  EXPECT_EQ(properties.fp8, OCTET_F8_E4M3);
  EXPECT_EQ(properties.wave_size, 32);
  EXPECT_EQ(properties.compute_units, 132);
  EXPECT_EQ(properties.shared_memory, 232448);
  int64_t free_bytes = 0;
  ok(octet_device_free_memory(device_, &free_bytes));
  EXPECT_EQ(free_bytes, properties.total_memory / 4);
  octet_device* other = nullptr;
  expect_failure(octet_device_open("cuda:1", &other), OCTET_NO_DEVICE, "cuda:1: no such device, 1 present");
  pretend(8, false);
  expect_failure(octet_device_open("cuda:0", &other), OCTET_UNSUPPORTED, "compute capability 8.0, needs 9.0");
}

TEST_F(CudaDriver, Retains_the_primary_context_once_for_a_device_and_releases_it) {
  octet_device* other = nullptr;
  ok(octet_device_open("cuda:0", &other));
  EXPECT_EQ(count(calls(), "cuDevicePrimaryCtxRetain 0"), 1);
  ok(octet_device_close(other));
  EXPECT_EQ(calls(), std::vector<std::string>{"cuDevicePrimaryCtxRelease 0"});
}

TEST_F(CudaDriver, Launches_with_the_grid_of_the_op_and_compiles_a_family_once) {
  const octet_quantize_args args = quantize_args();
  ok(octet_quantize(&args, stream_));
  ok(octet_quantize(&args, stream_));
  const auto lines = calls();
  EXPECT_EQ(count(lines, "cuModuleLoadDataEx PTX of sm_90"), 1);
  EXPECT_EQ(count(lines, "cuModuleGetFunction quantize_bf16_ocp"), 1);
  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, all that the device allows.
  EXPECT_EQ(count(lines, "cuFuncSetAttribute quantize_bf16_ocp 8 232448"), 1);
  int launches = 0;
  for (const std::string& line : lines)
    if (line.starts_with("cuLaunchKernel")) {
      launches++;
      EXPECT_NE(line.find("quantize_bf16_ocp"), std::string::npos) << line;
      EXPECT_NE(line.find(" 1 1, "), std::string::npos) << line;
      EXPECT_NE(line.find("first word 0x123400"), std::string::npos) << line;
    }
  EXPECT_EQ(launches, 2);
}

TEST_F(CudaDriver, Ptx_that_does_not_compile_gives_the_compiler_s_words_and_is_tried_again) {
  const octet_quantize_args args = quantize_args();
  pretend(9, true);
  expect_failure(octet_quantize(&args, stream_), OCTET_DEVICE_ERROR,
                 "cuModuleLoadDataEx of quantize: error 218 (CUDA_ERROR_INVALID_PTX): ptxas says no");
  pretend(9, false);
  ok(octet_quantize(&args, stream_));
}

TEST_F(CudaDriver, Memory_is_allocated_freed_and_copied_by_kind) {
  octet_buffer *device_buffer = nullptr, *pinned = nullptr;
  void *to = nullptr, *from = nullptr;
  ok(octet_buffer_create(device_, 0, OCTET_DEVICE_MEMORY, &device_buffer));
  ok(octet_buffer_create(device_, 64, OCTET_PINNED_MEMORY, &pinned));
  ok(octet_buffer_pointer(device_buffer, &to));
  ok(octet_buffer_pointer(pinned, &from));
  ok(octet_copy(stream_, to, from, 1, OCTET_HOST_TO_DEVICE));
  ok(octet_fill(stream_, from, 7, 64));
  ok(octet_stream_synchronize(stream_));
  ok(octet_buffer_destroy(device_buffer));
  ok(octet_buffer_destroy(pinned));
  const std::vector<std::string> expected{"cuMemAlloc 1",         "cuMemHostAlloc 64 0", "cuMemcpyAsync 1",
                                          "cuMemsetD8Async 7 64", "cuStreamSynchronize", "cuMemFree",
                                          "cuMemFreeHost"};
  EXPECT_EQ(calls(), expected);
  expect_failure(octet_buffer_create(device_, int64_t{1} << 40, OCTET_DEVICE_MEMORY, &pinned), OCTET_OUT_OF_MEMORY,
                 "cuMemAlloc_v2: error 2 (CUDA_ERROR_OUT_OF_MEMORY)");
}

TEST_F(CudaDriver, Signal_memory_is_zeroed_and_a_device_opened_twice_reaches_itself) {
  octet_buffer* signals = nullptr;
  ok(octet_buffer_create(device_, 512, OCTET_SIGNAL_MEMORY, &signals));
  ok(octet_buffer_destroy(signals));
  const std::vector<std::string> expected{"cuMemAlloc 512", "cuMemsetD8Async 0 512", "cuStreamSynchronize", "cuMemFree"};
  EXPECT_EQ(calls(), expected);
  octet_device* again = nullptr;
  ok(octet_device_open("cuda:0", &again));
  ok(octet_device_enable_peer(device_, again));
  ok(octet_device_close(again));
}

TEST_F(CudaDriver, A_graph_is_recorded_relaxed_instantiated_launched_and_destroyed) {
  octet_graph* graph = nullptr;
  ok(octet_graph_begin(stream_));
  ok(octet_graph_end(stream_, &graph));
  ok(octet_graph_launch(graph, stream_));
  ok(octet_graph_destroy(graph));
  const std::vector<std::string> expected{"cuStreamBeginCapture 2", "cuStreamEndCapture", "cuGraphInstantiate 0",
                                          "cuGraphDestroy",         "cuGraphLaunch",      "cuGraphExecDestroy"};
  EXPECT_EQ(calls(), expected);
}

TEST_F(CudaDriver, Events_order_and_time_streams) {
  octet_event *start = nullptr, *stop = nullptr;
  float milliseconds = 0;
  ok(octet_event_create(device_, &start));
  ok(octet_event_create(device_, &stop));
  ok(octet_event_record(start, stream_));
  ok(octet_event_record(stop, stream_));
  ok(octet_stream_wait(stream_, stop));
  ok(octet_event_synchronize(stop));
  ok(octet_event_elapsed(start, stop, &milliseconds));
  EXPECT_EQ(milliseconds, 1.5f);
  ok(octet_event_destroy(start));
  ok(octet_event_destroy(stop));
  const std::vector<std::string> expected{"cuEventCreate 0",    "cuEventCreate 0",     "cuEventRecord",
                                          "cuEventRecord",      "cuStreamWaitEvent 0", "cuEventSynchronize",
                                          "cuEventElapsedTime", "cuEventDestroy",      "cuEventDestroy"};
  EXPECT_EQ(calls(), expected);
}

// The recorder refuses a call from a thread without a current context.
TEST_F(CudaDriver, Any_thread_may_call) {
  std::thread([&] {
    const octet_quantize_args args = quantize_args();
    octet_buffer* buffer = nullptr;
    ok(octet_buffer_create(device_, 64, OCTET_DEVICE_MEMORY, &buffer));
    ok(octet_quantize(&args, stream_));
    ok(octet_stream_synchronize(stream_));
    ok(octet_buffer_destroy(buffer));
  }).join();
}

}  // namespace
