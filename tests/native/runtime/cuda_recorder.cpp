// libcuda.so.1 without a GPU: the CUDA driver functions that native/runtime/cuda.cpp opens, each written down as one
// line of a log. Memory is the host's, copies happen at once, kernels are not run. Signatures: CUDA Driver API
// reference.

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::recursive_mutex mutex;
std::string log;
int major = 9;            // compute capability
bool reject_ptx = false;  // modules do not load
thread_local bool has_context = false;

constexpr int invalid_value = 1, out_of_memory = 2, invalid_ptx = 218, invalid_context = 201, invalid_device = 101,
              not_found = 500;
constexpr size_t total_memory = size_t{80} << 30;

__attribute__((format(printf, 1, 2))) void write(const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  const std::lock_guard lock(mutex);
  log += line;
  log += '\n';
}
// A call that needs a current context on its thread.
int with_context() { return has_context ? 0 : invalid_context; }

struct Function {
  char name[128];
};

}  // namespace

// ---- for the test ----

EXPORT const char* cuda_recorder_log() { return log.c_str(); }
EXPORT void cuda_recorder_clear() { log.clear(); }
EXPORT void cuda_recorder_set(int compute_major, bool reject) { major = compute_major, reject_ptx = reject; }

// ---- the driver ----

EXPORT int cuInit(unsigned flags) {
  write("cuInit %u", flags);
  return 0;
}
EXPORT int cuGetErrorName(int error, const char** name) {
  *name = error == out_of_memory   ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == invalid_ptx   ? "CUDA_ERROR_INVALID_PTX"
          : error == invalid_value ? "CUDA_ERROR_INVALID_VALUE"
                                   : nullptr;
  return *name == nullptr ? invalid_value : 0;
}
EXPORT int cuDeviceGetCount(int* count) {
  *count = 1;
  return 0;
}
EXPORT int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal == 0 ? 0 : invalid_device;
}
EXPORT int cuDeviceGetName(char* name, int size, int) {
  std::snprintf(name, static_cast<size_t>(size), "CUDA recorder");
  return 0;
}
EXPORT int cuDriverGetVersion(int* version) {
  *version = 12080;
  return 0;
}
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16:
      *value = 132;
      return 0;  // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    case 75:
      *value = major;
      return 0;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    case 76:
      *value = 0;
      return 0;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
    case 97:
      *value = 232448;
      return 0;  // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default:
      return invalid_value;
  }
}
EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = total_memory;
  return 0;
}
EXPORT int cuDevicePrimaryCtxRetain(void** context, int device) {
  write("cuDevicePrimaryCtxRetain %d", device);
  *context = &log;
  return 0;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  write("cuDevicePrimaryCtxRelease %d", device);
  return 0;
}
EXPORT int cuCtxSetCurrent(void* context) {
  has_context = context == &log;
  return 0;
}

EXPORT int cuMemGetInfo_v2(size_t* available, size_t* total) {
  // As if another process held a part.
  *available = total_memory / 4;
  *total = total_memory;
  return with_context();
}
EXPORT int cuMemAlloc_v2(void** pointer, size_t size) {
  write("cuMemAlloc %zu", size);
  if (size == 0) return invalid_value;
  if (size > total_memory) return out_of_memory;
  *pointer = std::aligned_alloc(256, (size + 255) / 256 * 256);
  return with_context();
}
EXPORT int cuMemFree_v2(void* pointer) {
  write("cuMemFree");
  std::free(pointer);
  return with_context();
}
EXPORT int cuDeviceCanAccessPeer(int* can, int device, int peer) {
  *can = device != peer;
  return 0;
}
EXPORT int cuCtxEnablePeerAccess(void* peer, unsigned flags) {
  write("cuCtxEnablePeerAccess %p %u", peer, flags);
  return with_context();
}
EXPORT int cuMemHostAlloc(void** pointer, size_t size, unsigned flags) {
  write("cuMemHostAlloc %zu %u", size, flags);
  *pointer = std::aligned_alloc(256, (size + 255) / 256 * 256);
  return with_context();
}
EXPORT int cuMemFreeHost(void* pointer) {
  write("cuMemFreeHost");
  std::free(pointer);
  return with_context();
}
EXPORT int cuMemcpyAsync(void* destination, const void* source, size_t size, void*) {
  write("cuMemcpyAsync %zu", size);
  std::memmove(destination, source, size);
  return with_context();
}
EXPORT int cuMemsetD8Async(void* destination, unsigned char byte, size_t size, void*) {
  write("cuMemsetD8Async %d %zu", byte, size);
  std::memset(destination, byte, size);
  return with_context();
}

// Handles are numbers that count up.
#define HANDLE(name, ...)                        \
  static uintptr_t next = 0x1000;                \
  *handle = reinterpret_cast<void*>(next += 16); \
  write(name " " __VA_ARGS__);                   \
  return with_context()
#define NOTED(name, ...)       \
  write(name " " __VA_ARGS__); \
  return with_context()

EXPORT int cuStreamCreate(void** handle, unsigned flags) { HANDLE("cuStreamCreate", "%u", flags); }
EXPORT int cuStreamDestroy_v2(void*) { NOTED("cuStreamDestroy", ""); }
EXPORT int cuStreamSynchronize(void*) { NOTED("cuStreamSynchronize", ""); }
EXPORT int cuStreamWaitEvent(void*, void*, unsigned flags) { NOTED("cuStreamWaitEvent", "%u", flags); }
EXPORT int cuStreamBeginCapture_v2(void*, int mode) { NOTED("cuStreamBeginCapture", "%d", mode); }
EXPORT int cuStreamEndCapture(void*, void** handle) { HANDLE("cuStreamEndCapture", ""); }
EXPORT int cuEventCreate(void** handle, unsigned flags) { HANDLE("cuEventCreate", "%u", flags); }
EXPORT int cuEventDestroy_v2(void*) { NOTED("cuEventDestroy", ""); }
EXPORT int cuEventRecord(void*, void*) { NOTED("cuEventRecord", ""); }
EXPORT int cuEventSynchronize(void*) { NOTED("cuEventSynchronize", ""); }
EXPORT int cuEventElapsedTime(float* milliseconds, void*, void*) {
  *milliseconds = 1.5f;
  NOTED("cuEventElapsedTime", "");
}
EXPORT int cuGraphInstantiateWithFlags(void** handle, void*, unsigned long long flags) {
  HANDLE("cuGraphInstantiate", "%llu", flags);
}
EXPORT int cuGraphLaunch(void*, void*) { NOTED("cuGraphLaunch", ""); }
EXPORT int cuGraphExecDestroy(void*) { NOTED("cuGraphExecDestroy", ""); }
EXPORT int cuGraphDestroy(void*) { NOTED("cuGraphDestroy", ""); }

// PTX is text with a zero behind it.
EXPORT int cuModuleLoadDataEx(void** handle, const void* image, unsigned count, int* options, void** values) {
  const auto* text = static_cast<const char*>(image);
  const bool is_ptx = std::strstr(text, ".target sm_90") != nullptr;
  write("cuModuleLoadDataEx %s", is_ptx ? "PTX of sm_90" : "something else");
  if (reject_ptx || !is_ptx) {
    // CU_JIT_ERROR_LOG_BUFFER and its size
    if (count == 2 && options[0] == 5 && options[1] == 6)
      std::snprintf(static_cast<char*>(values[0]), reinterpret_cast<size_t>(values[1]), "ptxas says no");
    return invalid_ptx;
  }
  *handle = const_cast<char*>(text);
  return with_context();
}
EXPORT int cuModuleUnload(void*) { NOTED("cuModuleUnload", ""); }
EXPORT int cuModuleGetFunction(void** handle, void* module, const char* name) {
  if (std::strstr(static_cast<const char*>(module), (std::string(".entry ") + name + "(").c_str()) == nullptr)
    return not_found;
  auto* function = new Function;  // lives as long as the process, as the driver's do with their module
  std::snprintf(function->name, sizeof(function->name), "%s", name);
  *handle = function;
  NOTED("cuModuleGetFunction", "%s", name);
}
EXPORT int cuFuncSetAttribute(void* function, int attribute, int value) {
  NOTED("cuFuncSetAttribute", "%s %d %d", static_cast<Function*>(function)->name, attribute, value);
}
EXPORT int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared_bytes, void*, void** params,
                          void** extra) {
  if (params == nullptr || params[0] == nullptr || extra != nullptr) return invalid_value;
  uint64_t first = 0;
  std::memcpy(&first, params[0], sizeof(first));
  NOTED("cuLaunchKernel", "%s %u %u %u, %u %u %u, %u bytes, first word 0x%llx", static_cast<Function*>(function)->name,
        grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, static_cast<unsigned long long>(first));
}
