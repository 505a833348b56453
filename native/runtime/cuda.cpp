// The CUDA driver, for sm_90 and newer: the same kernels on a second make of GPU. Nothing of CUDA is linked: libcuda is
// opened at run time, and the functions used are declared here by hand from the public CUDA Driver API reference. Handles
// are opaque pointers, CUdevice is an int, CUdeviceptr an address. PTX is compiled by the driver when a kernel of its family
// is first launched, and kept in the driver's own cache.

#include <cstring>
#include <mutex>
#include <unordered_map>

#include "../sim/runner.h"
#include "check.h"
#include "driver.h"
#include "images.h"
#include "library.h"

namespace octet {

namespace {

using CUresult = int;
constexpr CUresult cuda_error_out_of_memory = 2, cuda_error_no_device = 100, cuda_error_peer_access_already_enabled = 704;

// cuda.h: CUdevice_attribute, CUfunction_attribute, CUjit_option, CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_RELAXED.
constexpr int attribute_multiprocessor_count = 16, attribute_compute_capability_major = 75,
              attribute_compute_capability_minor = 76, attribute_max_shared_memory_optin = 97;
constexpr int function_max_dynamic_shared_size_bytes = 8;
constexpr int jit_error_log_buffer = 5, jit_error_log_buffer_size_bytes = 6;
constexpr unsigned stream_non_blocking = 1;
// NOTE: relaxed, so that other threads and a first use of a module may call the driver while a stream records.
constexpr int capture_relaxed = 2;

#define CUDA_FUNCTIONS(F)                                                                                         \
  F(cuInit, (unsigned flags))                                                                                     \
  F(cuGetErrorName, (CUresult error, const char** name))                                                          \
  F(cuDeviceGetCount, (int* count))                                                                               \
  F(cuDriverGetVersion, (int* version))                                                                           \
  F(cuDeviceGet, (int* device, int ordinal))                                                                      \
  F(cuDeviceGetName, (char* name, int size, int device))                                                          \
  F(cuDeviceGetAttribute, (int* value, int attribute, int device))                                                \
  F(cuDeviceTotalMem_v2, (size_t * bytes, int device))                                                            \
  F(cuDevicePrimaryCtxRetain, (void** context, int device))                                                       \
  F(cuDevicePrimaryCtxRelease_v2, (int device))                                                                   \
  F(cuCtxSetCurrent, (void* context))                                                                             \
  F(cuDeviceCanAccessPeer, (int* can, int device, int peer))                                                      \
  F(cuCtxEnablePeerAccess, (void* peer, unsigned flags))                                                          \
  F(cuMemGetInfo_v2, (size_t * available, size_t* total))                                                         \
  F(cuMemAlloc_v2, (void** pointer, size_t size))                                                                 \
  F(cuMemFree_v2, (void* pointer))                                                                                \
  F(cuMemHostAlloc, (void** pointer, size_t size, unsigned flags))                                                \
  F(cuMemFreeHost, (void* pointer))                                                                               \
  F(cuMemcpyAsync, (void* destination, const void* source, size_t size, void* stream))                            \
  F(cuMemsetD8Async, (void* destination, unsigned char byte, size_t size, void* stream))                          \
  F(cuStreamCreate, (void** stream, unsigned flags))                                                              \
  F(cuStreamDestroy_v2, (void* stream))                                                                           \
  F(cuStreamSynchronize, (void* stream))                                                                          \
  F(cuStreamWaitEvent, (void* stream, void* event, unsigned flags))                                               \
  F(cuStreamBeginCapture_v2, (void* stream, int mode))                                                            \
  F(cuStreamEndCapture, (void* stream, void** graph))                                                             \
  F(cuEventCreate, (void** event, unsigned flags))                                                                \
  F(cuEventDestroy_v2, (void* event))                                                                             \
  F(cuEventRecord, (void* event, void* stream))                                                                   \
  F(cuEventSynchronize, (void* event))                                                                            \
  F(cuEventElapsedTime, (float* milliseconds, void* start, void* stop))                                           \
  F(cuGraphInstantiateWithFlags, (void** executable, void* graph, unsigned long long flags))                      \
  F(cuGraphLaunch, (void* executable, void* stream))                                                              \
  F(cuGraphExecDestroy, (void* executable))                                                                       \
  F(cuGraphDestroy, (void* graph))                                                                                \
  F(cuModuleLoadDataEx, (void** module, const void* image, unsigned count, int* options, void** values))          \
  F(cuModuleUnload, (void* module))                                                                               \
  F(cuModuleGetFunction, (void** function, void* module, const char* name))                                       \
  F(cuFuncSetAttribute, (void* function, int attribute, int value))                                               \
  F(cuLaunchKernel,                                                                                               \
    (void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,       \
     unsigned block_z, unsigned shared_bytes, void* stream, void** params, void** extra))

struct Cuda {
#define DECLARE(name, parameters) CUresult(*name) parameters;
  CUDA_FUNCTIONS(DECLARE)
#undef DECLARE
};

// Throws OCTET_NO_DEVICE while the library cannot be opened.
const Cuda& cuda() {
  static const Cuda functions = [] {
    void* library = open_library("cuda", {"libcuda.so.1"});
    Cuda loaded;
#define LOAD(name, parameters) load_symbol(library, #name, loaded.name);
    CUDA_FUNCTIONS(LOAD)
#undef LOAD
    return loaded;
  }();
  return functions;
}

const char* name_of(CUresult error) {
  const char* name = nullptr;
  cuda().cuGetErrorName(error, &name);
  return name == nullptr ? "unknown" : name;
}

[[noreturn]] void fail_with(const char* call, CUresult error) {
  fail(error == cuda_error_out_of_memory ? OCTET_OUT_OF_MEMORY : OCTET_DEVICE_ERROR, "%s: error %d (%s)", call, error,
       name_of(error));
}

#define CALL(name, ...)                               \
  do {                                                \
    const CUresult error = cuda().name(__VA_ARGS__);  \
    if (error != 0) fail_with(#name, error);          \
  } while (false)

class CudaDriver final : public Driver {
 public:
  explicit CudaDriver(int ordinal) {
    CALL(cuDeviceGet, &device_, ordinal);
    char name[128] = {};
    CALL(cuDeviceGetName, name, sizeof(name) - 1, device_);
    facts.name = name;
    int major = 0, minor = 0;
    CALL(cuDeviceGetAttribute, &major, attribute_compute_capability_major, device_);
    CALL(cuDeviceGetAttribute, &minor, attribute_compute_capability_minor, device_);
    if (major < 9)
      fail(OCTET_UNSUPPORTED, "cuda:%d (%s): compute capability %d.%d, needs 9.0 (H100) or newer", ordinal, name, major, minor);
    size_t total = 0;
    CALL(cuDeviceTotalMem_v2, &total, device_);
    facts.total_memory = static_cast<int64_t>(total);
    facts.target = Target::sm_90;
    facts.wave_size = 32;
    facts.fp8 = OCTET_F8_E4M3;
    CALL(cuDriverGetVersion, &facts.runtime_version);
    CALL(cuDeviceGetAttribute, &facts.compute_units, attribute_multiprocessor_count, device_);
    CALL(cuDeviceGetAttribute, &facts.shared_memory, attribute_max_shared_memory_optin, device_);
    // The primary context is the one the CUDA runtime API of other libraries in the process uses too.
    CALL(cuDevicePrimaryCtxRetain, &context_, device_);
  }
  ~CudaDriver() override {
    cuda().cuCtxSetCurrent(context_);
    for (const auto& [family, module] : modules_) cuda().cuModuleUnload(module);
    cuda().cuDevicePrimaryCtxRelease_v2(device_);
  }

  bool enable_peer(Driver& other) override {
    const auto* cuda_device = dynamic_cast<const CudaDriver*>(&other);
    if (cuda_device == nullptr) return false;
    if (cuda_device->context_ == context_) return true;  // one GPU, opened twice
    int can = 0;
    CALL(cuDeviceCanAccessPeer, &can, device_, cuda_device->device_);
    if (can == 0) return false;
    select();
    const CUresult error = cuda().cuCtxEnablePeerAccess(cuda_device->context_, 0);
    if (error != 0 && error != cuda_error_peer_access_already_enabled) fail_with("cuCtxEnablePeerAccess", error);
    return true;
  }

  CollectiveLibrary collectives() const override {
    return {"nccl", "libnccl.so.2", "libnccl.so", "NVIDIA's NCCL", device_};
  }

  int64_t free_memory(int64_t) override {
    select();
    size_t available = 0, total = 0;
    CALL(cuMemGetInfo_v2, &available, &total);
    return static_cast<int64_t>(available);
  }
  void* allocate(int64_t size, octet_memory_kind kind) override {
    select();
    void* pointer = nullptr;
    // An empty buffer still has an address of its own.
    const size_t bytes = size == 0 ? 1 : static_cast<size_t>(size);
    if (kind == OCTET_PINNED_MEMORY) {
      CALL(cuMemHostAlloc, &pointer, bytes, 0);
      return pointer;
    }
    CALL(cuMemAlloc_v2, &pointer, bytes);
    if (kind == OCTET_DEVICE_MEMORY) return pointer;
    // Signals lie in ordinary memory: loads and stores at system scope pass the caches here.
    try {
      CALL(cuMemsetD8Async, pointer, 0, bytes, nullptr);
      CALL(cuStreamSynchronize, nullptr);
    } catch (...) {
      cuda().cuMemFree_v2(pointer);
      throw;
    }
    return pointer;
  }
  void release(void* pointer, octet_memory_kind kind) noexcept override {
    cuda().cuCtxSetCurrent(context_);
    if (kind == OCTET_PINNED_MEMORY)
      cuda().cuMemFreeHost(pointer);
    else
      cuda().cuMemFree_v2(pointer);
  }

  void* stream_create() override {
    select();
    void* stream = nullptr;
    CALL(cuStreamCreate, &stream, stream_non_blocking);
    return stream;
  }
  void stream_destroy(void* stream) noexcept override {
    cuda().cuCtxSetCurrent(context_);
    cuda().cuStreamDestroy_v2(stream);
  }
  void stream_synchronize(void* stream) override {
    select();
    CALL(cuStreamSynchronize, stream);
  }
  void stream_wait(void* stream, void* event) override {
    select();
    CALL(cuStreamWaitEvent, stream, event, 0);
  }

  void copy(void* stream, void* destination, const void* source, int64_t size, octet_copy_kind) override {
    select();
    CALL(cuMemcpyAsync, destination, source, static_cast<size_t>(size), stream);
  }
  void fill(void* stream, void* destination, int byte, int64_t size) override {
    select();
    CALL(cuMemsetD8Async, destination, static_cast<unsigned char>(byte), static_cast<size_t>(size), stream);
  }

  void launch(void* stream, const char* kernel, Grid grid, int threads, size_t lds_bytes, const void* params,
              size_t params_size) override {
    select();
    sim::require_launch(sim::find_kernel(facts.target, kernel), threads, params_size);
    // The runtime copies the parameters before it returns.
    void* arguments[] = {const_cast<void*>(params)};
    CALL(cuLaunchKernel, function(kernel), grid.x, grid.y, grid.z, static_cast<unsigned>(threads), 1, 1,
         static_cast<unsigned>(lds_bytes), stream, arguments, nullptr);
  }

  void call(void* stream, void*, int64_t, std::function<void(void*)> enqueue) override {
    select();
    enqueue(stream);
  }

  void* event_create() override {
    select();
    void* event = nullptr;
    CALL(cuEventCreate, &event, 0);
    return event;
  }
  void event_destroy(void* event) noexcept override {
    cuda().cuCtxSetCurrent(context_);
    cuda().cuEventDestroy_v2(event);
  }
  void event_record(void* event, void* stream) override {
    select();
    CALL(cuEventRecord, event, stream);
  }
  void event_synchronize(void* event) override {
    select();
    CALL(cuEventSynchronize, event);
  }
  float event_elapsed(void* start, void* stop) override {
    select();
    float milliseconds = 0.0f;
    CALL(cuEventElapsedTime, &milliseconds, start, stop);
    return milliseconds;
  }

  void graph_begin(void* stream) override {
    select();
    CALL(cuStreamBeginCapture_v2, stream, capture_relaxed);
  }
  void* graph_end(void* stream) override {
    select();
    void *graph = nullptr, *executable = nullptr;
    CALL(cuStreamEndCapture, stream, &graph);
    const CUresult error = cuda().cuGraphInstantiateWithFlags(&executable, graph, 0);
    cuda().cuGraphDestroy(graph);
    if (error != 0) fail_with("cuGraphInstantiateWithFlags", error);
    return executable;
  }
  void graph_launch(void* graph, void* stream) override {
    select();
    CALL(cuGraphLaunch, graph, stream);
  }
  void graph_destroy(void* graph) noexcept override {
    cuda().cuCtxSetCurrent(context_);
    cuda().cuGraphExecDestroy(graph);
  }

 private:
  // The current context belongs to the thread, and any thread may call.
  void select() const { CALL(cuCtxSetCurrent, context_); }

  void* module(const char* family) {
    void*& found = modules_[family];
    if (found != nullptr) return found;
    const Image* image = images;
    while (std::strcmp(image->target, "sm_90") != 0 || std::strcmp(image->family, family) != 0) image++;
    char log[512] = {};
    int options[] = {jit_error_log_buffer, jit_error_log_buffer_size_bytes};
    void* values[] = {log, reinterpret_cast<void*>(sizeof(log) - 1)};
    const CUresult error = cuda().cuModuleLoadDataEx(&found, image->data, 2, options, values);
    if (error != 0)
      fail(OCTET_DEVICE_ERROR, "cuModuleLoadDataEx of %s: error %d (%s): %s", family, error, name_of(error), log);
    return found;
  }

  void* function(const char* kernel) {
    const std::lock_guard lock(mutex_);
    void*& found = functions_[kernel];
    if (found == nullptr) {
      void* function = nullptr;
      CALL(cuModuleGetFunction, &function, module(sim::find_kernel(facts.target, kernel).family), kernel);
      // Without this, 48 KiB are the limit whatever the device has.
      CALL(cuFuncSetAttribute, function, function_max_dynamic_shared_size_bytes, facts.shared_memory);
      found = function;
    }
    return found;
  }

  int device_ = 0;
  void* context_ = nullptr;
  std::unordered_map<std::string, void*> modules_;  // by family
  std::unordered_map<std::string, void*> functions_;
  std::mutex mutex_;
};

}  // namespace

int cuda_count() {
  const CUresult started = cuda().cuInit(0);
  int count = 0;
  const CUresult error = started != 0 ? started : cuda().cuDeviceGetCount(&count);
  if (error == cuda_error_no_device || (error == 0 && count == 0))
    fail(OCTET_NO_DEVICE, "cuda: no device: the CUDA driver is installed but sees no GPU");
  if (error != 0)
    fail(OCTET_NO_DEVICE, "cuda: no device: %s gives error %d (%s)", started != 0 ? "cuInit" : "cuDeviceGetCount", error,
         name_of(error));
  return count;
}

std::unique_ptr<Driver> open_cuda(int ordinal) {
  const int count = cuda_count();
  if (ordinal >= count) fail(OCTET_NO_DEVICE, "cuda:%d: no such device, %d present", ordinal, count);
  return std::make_unique<CudaDriver>(ordinal);
}

}  // namespace octet
