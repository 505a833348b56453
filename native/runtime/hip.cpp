// The HIP driver. Nothing of ROCm is linked: libamdhip64 is opened at run time, and the functions used are declared here
// by hand from the public API reference (HIP runtime API, "Modules", "Stream", "Graph" chapters), the same in ROCm 6 and 7.
// Handles are opaque pointers, hipDevice_t is an int; hipDeviceProp_t, whose layout changed, is not used.

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

using hipError_t = int;
constexpr hipError_t hipErrorOutOfMemory = 2, hipErrorNoDevice = 100, hipErrorInvalidImage = 200, hipErrorNoBinaryForGpu = 209,
                     hipErrorInvalidKernelFile = 218, hipErrorPeerAccessAlreadyEnabled = 704;

// hip_runtime_api.h: hipDeviceAttribute_t, hipMemcpyKind, hipStreamNonBlocking, hipStreamCaptureModeRelaxed.
constexpr int attribute_multiprocessor_count = 63, attribute_max_shared_memory_per_block = 74;
constexpr int memcpy_kinds[] = {1, 2, 3};  // by octet_copy_kind
constexpr unsigned stream_non_blocking = 1;
constexpr unsigned malloc_uncached = 3;  // hipDeviceMallocUncached
// NOTE: relaxed, so that other threads and a first use of a module may call the runtime while a stream records.
constexpr int capture_relaxed = 2;

#define HIP_FUNCTIONS(F)                                                                                            \
  F(hipGetDeviceCount, (int* count))                                                                                \
  F(hipRuntimeGetVersion, (int* version))                                                                           \
  F(hipSetDevice, (int device))                                                                                     \
  F(hipDeviceGetName, (char* name, int size, int device))                                                           \
  F(hipDeviceGetAttribute, (int* value, int attribute, int device))                                                 \
  F(hipDeviceCanAccessPeer, (int* can, int device, int peer))                                                       \
  F(hipDeviceEnablePeerAccess, (int peer, unsigned flags))                                                          \
  F(hipMemGetInfo, (size_t * available, size_t* total))                                                             \
  F(hipMalloc, (void** pointer, size_t size))                                                                       \
  F(hipExtMallocWithFlags, (void** pointer, size_t size, unsigned flags))                                           \
  F(hipFree, (void* pointer))                                                                                       \
  F(hipHostMalloc, (void** pointer, size_t size, unsigned flags))                                                   \
  F(hipHostFree, (void* pointer))                                                                                   \
  F(hipMemcpyAsync, (void* destination, const void* source, size_t size, int kind, void* stream))                   \
  F(hipMemsetAsync, (void* destination, int byte, size_t size, void* stream))                                       \
  F(hipStreamCreateWithFlags, (void** stream, unsigned flags))                                                      \
  F(hipStreamDestroy, (void* stream))                                                                               \
  F(hipStreamSynchronize, (void* stream))                                                                           \
  F(hipStreamWaitEvent, (void* stream, void* event, unsigned flags))                                                \
  F(hipStreamBeginCapture, (void* stream, int mode))                                                                \
  F(hipStreamEndCapture, (void* stream, void** graph))                                                              \
  F(hipEventCreate, (void** event))                                                                                 \
  F(hipEventDestroy, (void* event))                                                                                 \
  F(hipEventRecord, (void* event, void* stream))                                                                    \
  F(hipEventSynchronize, (void* event))                                                                             \
  F(hipEventElapsedTime, (float* milliseconds, void* start, void* stop))                                            \
  F(hipGraphInstantiate, (void** executable, void* graph, void** error_node, char* log, size_t log_size))           \
  F(hipGraphLaunch, (void* executable, void* stream))                                                               \
  F(hipGraphExecDestroy, (void* executable))                                                                        \
  F(hipGraphDestroy, (void* graph))                                                                                 \
  F(hipModuleLoadData, (void** module, const void* image))                                                          \
  F(hipModuleUnload, (void* module))                                                                                \
  F(hipModuleGetFunction, (void** function, void* module, const char* name))                                        \
  F(hipModuleLaunchKernel,                                                                                          \
    (void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,         \
     unsigned block_z, unsigned lds_bytes, void* stream, void** params, void** extra))

struct Hip {
#define DECLARE(name, parameters) hipError_t(*name) parameters;
  HIP_FUNCTIONS(DECLARE)
#undef DECLARE
  const char* (*hipGetErrorName)(hipError_t);
};

// Throws OCTET_NO_DEVICE while the library cannot be opened.
const Hip& hip() {
  static const Hip functions = [] {
    void* library = open_library("hip", {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so", "libamdhip64.so.5"});
    Hip loaded;
#define LOAD(name, parameters) load_symbol(library, #name, loaded.name);
    HIP_FUNCTIONS(LOAD)
#undef LOAD
    load_symbol(library, "hipGetErrorName", loaded.hipGetErrorName);
    return loaded;
  }();
  return functions;
}

[[noreturn]] void fail_with(const char* call, hipError_t error) {
  const char* name = hip().hipGetErrorName(error);
  fail(error == hipErrorOutOfMemory ? OCTET_OUT_OF_MEMORY : OCTET_DEVICE_ERROR, "%s: error %d (%s)", call, error,
       name == nullptr ? "unknown" : name);
}

#define CALL(name, ...)                                                      \
  do {                                                                       \
    const hipError_t error = hip().name(__VA_ARGS__);                        \
    if (error != 0) fail_with(#name, error);                                 \
  } while (false)

class HipDriver final : public Driver {
 public:
  explicit HipDriver(int ordinal) : ordinal_(ordinal) {
    select();
    char name[128] = {};
    CALL(hipDeviceGetName, name, sizeof(name) - 1, ordinal);
    facts.name = name;
    size_t available = 0, total = 0;
    CALL(hipMemGetInfo, &available, &total);
    facts.total_memory = static_cast<int64_t>(total);
    facts.wave_size = 64;
    CALL(hipDeviceGetAttribute, &facts.compute_units, attribute_multiprocessor_count, ordinal);
    CALL(hipDeviceGetAttribute, &facts.shared_memory, attribute_max_shared_memory_per_block, ordinal);
    CALL(hipRuntimeGetVersion, &facts.runtime_version);
    load_modules();
    facts.fp8 = facts.target == Target::gfx942 ? OCTET_F8_E4M3_FNUZ : OCTET_F8_E4M3;
  }
  ~HipDriver() override { unload_modules(); }

  bool enable_peer(Driver& other) override {
    const auto* hip_device = dynamic_cast<const HipDriver*>(&other);
    if (hip_device == nullptr) return false;
    if (hip_device->ordinal_ == ordinal_) return true;  // one GPU, opened twice
    int can = 0;
    CALL(hipDeviceCanAccessPeer, &can, ordinal_, hip_device->ordinal_);
    if (can == 0) return false;
    select();
    const hipError_t error = hip().hipDeviceEnablePeerAccess(hip_device->ordinal_, 0);
    if (error != 0 && error != hipErrorPeerAccessAlreadyEnabled) fail_with("hipDeviceEnablePeerAccess", error);
    return true;
  }

  CollectiveLibrary collectives() const override {
    return {"rccl", "librccl.so.1", "librccl.so", "RCCL, which comes with ROCm,", ordinal_};
  }

  int64_t free_memory(int64_t) override {
    select();
    size_t available = 0, total = 0;
    CALL(hipMemGetInfo, &available, &total);
    return static_cast<int64_t>(available);
  }
  void* allocate(int64_t size, octet_memory_kind kind) override {
    select();
    void* pointer = nullptr;
    // An empty buffer still has an address of its own.
    const size_t bytes = size == 0 ? 1 : static_cast<size_t>(size);
    if (kind == OCTET_DEVICE_MEMORY) {
      CALL(hipMalloc, &pointer, bytes);
    } else if (kind == OCTET_PINNED_MEMORY) {
      CALL(hipHostMalloc, &pointer, bytes, 0);
    } else {
      CALL(hipExtMallocWithFlags, &pointer, bytes, malloc_uncached);
      try {
        CALL(hipMemsetAsync, pointer, 0, bytes, nullptr);
        CALL(hipStreamSynchronize, nullptr);
      } catch (...) {
        hip().hipFree(pointer);
        throw;
      }
    }
    return pointer;
  }
  void release(void* pointer, octet_memory_kind kind) noexcept override {
    hip().hipSetDevice(ordinal_);
    if (kind == OCTET_PINNED_MEMORY)
      hip().hipHostFree(pointer);
    else
      hip().hipFree(pointer);
  }

  void* stream_create() override {
    select();
    void* stream = nullptr;
    CALL(hipStreamCreateWithFlags, &stream, stream_non_blocking);
    return stream;
  }
  void stream_destroy(void* stream) noexcept override {
    hip().hipSetDevice(ordinal_);
    hip().hipStreamDestroy(stream);
  }
  void stream_synchronize(void* stream) override {
    select();
    CALL(hipStreamSynchronize, stream);
  }
  void stream_wait(void* stream, void* event) override {
    select();
    CALL(hipStreamWaitEvent, stream, event, 0);
  }

  void copy(void* stream, void* destination, const void* source, int64_t size, octet_copy_kind kind) override {
    select();
    CALL(hipMemcpyAsync, destination, source, static_cast<size_t>(size), memcpy_kinds[kind], stream);
  }
  void fill(void* stream, void* destination, int byte, int64_t size) override {
    select();
    CALL(hipMemsetAsync, destination, byte, static_cast<size_t>(size), stream);
  }

  void launch(void* stream, const char* kernel, Grid grid, int threads, size_t lds_bytes, const void* params,
              size_t params_size) override {
    select();
    sim::require_launch(sim::find_kernel(facts.target, kernel), threads, params_size);
    // The runtime copies the parameters before it returns.
    void* arguments[] = {const_cast<void*>(params)};
    CALL(hipModuleLaunchKernel, function(kernel), grid.x, grid.y, grid.z, static_cast<unsigned>(threads), 1, 1,
         static_cast<unsigned>(lds_bytes), stream, arguments, nullptr);
  }

  void call(void* stream, void*, int64_t, std::function<void(void*)> enqueue) override {
    select();
    enqueue(stream);
  }

  void* event_create() override {
    select();
    void* event = nullptr;
    CALL(hipEventCreate, &event);
    return event;
  }
  void event_destroy(void* event) noexcept override {
    hip().hipSetDevice(ordinal_);
    hip().hipEventDestroy(event);
  }
  void event_record(void* event, void* stream) override {
    select();
    CALL(hipEventRecord, event, stream);
  }
  void event_synchronize(void* event) override {
    select();
    CALL(hipEventSynchronize, event);
  }
  float event_elapsed(void* start, void* stop) override {
    select();
    float milliseconds = 0.0f;
    CALL(hipEventElapsedTime, &milliseconds, start, stop);
    return milliseconds;
  }

  void graph_begin(void* stream) override {
    select();
    CALL(hipStreamBeginCapture, stream, capture_relaxed);
  }
  void* graph_end(void* stream) override {
    select();
    void *graph = nullptr, *executable = nullptr;
    CALL(hipStreamEndCapture, stream, &graph);
    const hipError_t error = hip().hipGraphInstantiate(&executable, graph, nullptr, nullptr, 0);
    hip().hipGraphDestroy(graph);
    if (error != 0) fail_with("hipGraphInstantiate", error);
    return executable;
  }
  void graph_launch(void* graph, void* stream) override {
    select();
    CALL(hipGraphLaunch, graph, stream);
  }
  void graph_destroy(void* graph) noexcept override {
    hip().hipSetDevice(ordinal_);
    hip().hipGraphExecDestroy(graph);
  }

 private:
  // The current device belongs to the thread, and any thread may call.
  void select() const { CALL(hipSetDevice, ordinal_); }

  // The device's arch is that of the first image it takes; then all families of that arch are loaded, since a module
  // cannot be loaded while a stream records on every runtime.
  void load_modules() {
    const char* target = nullptr;
    try {
      for (const Image* image = images; image->family != nullptr; image++) {
        if (std::strncmp(image->target, "gfx", 3) != 0 || (target != nullptr && std::strcmp(image->target, target) != 0)) continue;
        void* module = nullptr;
        const hipError_t error = hip().hipModuleLoadData(&module, image->data);
        // Which of the three a code object of another arch gives depends on the version of ROCm.
        const bool other_arch =
            error == hipErrorNoBinaryForGpu || error == hipErrorInvalidImage || error == hipErrorInvalidKernelFile;
        if (target == nullptr && other_arch) continue;
        if (error != 0) fail_with("hipModuleLoadData", error);
        target = image->target;
        modules_.emplace(image->family, module);
      }
      if (target == nullptr)
        fail(OCTET_UNSUPPORTED, "hip:%d (%s): runs none of the code objects of this library, gfx942 and gfx950", ordinal_,
             facts.name.c_str());
    } catch (...) {
      unload_modules();
      throw;
    }
    facts.target = std::strcmp(target, "gfx942") == 0 ? Target::gfx942 : Target::gfx950;
  }
  void unload_modules() noexcept {
    hip().hipSetDevice(ordinal_);
    for (const auto& [family, module] : modules_) hip().hipModuleUnload(module);
  }

  void* function(const char* kernel) {
    const std::lock_guard lock(mutex_);
    void*& found = functions_[kernel];
    if (found == nullptr)
      CALL(hipModuleGetFunction, &found, modules_.at(sim::find_kernel(facts.target, kernel).family), kernel);
    return found;
  }

  const int ordinal_;
  std::unordered_map<std::string, void*> modules_;  // by family
  std::unordered_map<std::string, void*> functions_;
  std::mutex mutex_;
};

}  // namespace

int hip_count() {
  int count = 0;
  const hipError_t error = hip().hipGetDeviceCount(&count);
  if (error == hipErrorNoDevice || (error == 0 && count == 0))
    fail(OCTET_NO_DEVICE, "hip: no device: the HIP runtime is installed but sees no AMD GPU");
  if (error != 0) {
    const char* name = hip().hipGetErrorName(error);
    fail(OCTET_NO_DEVICE, "hip: no device: hipGetDeviceCount gives error %d (%s)", error, name == nullptr ? "unknown" : name);
  }
  return count;
}

std::unique_ptr<Driver> open_hip(int ordinal) {
  const int count = hip_count();
  if (ordinal >= count) fail(OCTET_NO_DEVICE, "hip:%d: no such device, %d present", ordinal, count);
  return std::make_unique<HipDriver>(ordinal);
}

}  // namespace octet
