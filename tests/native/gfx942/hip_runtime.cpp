// libamdhip64.so.6 with one gfx942: the HIP functions that native/runtime/hip.cpp opens, over the emulator. It says
// what the compiled code computes, and whether the driver asks for it rightly; it says nothing about speed.
//
// Stricter than ROCm where a mistake could hide. Work is queued and runs only when something waits for it, so a missing
// wait shows; fresh memory is poisoned; a thread that never called hipSetDevice gets an error; addresses are checked
// against the buffers alive; the first fault of a kernel is printed on stderr and every later call fails, as on a
// device. Signatures and codes: HIP runtime API reference, ROCm 6.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "run.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace octet::gfx942 {

namespace {

using Error = int;
constexpr Error success = 0, invalid_value = 1, out_of_memory = 2, invalid_configuration = 9,
                invalid_memcpy_direction = 21, invalid_device = 101, invalid_context = 201, no_binary_for_gpu = 209,
                invalid_handle = 400, not_found = 500, not_ready = 600, launch_failure = 719, capture_unsupported = 900,
                capture_invalidated = 901, capture_unmatched = 903, capture_unjoined = 904, unknown_error = 999;
constexpr std::pair<Error, const char*> names[] = {
    {success, "hipSuccess"},
    {invalid_value, "hipErrorInvalidValue"},
    {out_of_memory, "hipErrorOutOfMemory"},
    {invalid_configuration, "hipErrorInvalidConfiguration"},
    {invalid_memcpy_direction, "hipErrorInvalidMemcpyDirection"},
    {invalid_device, "hipErrorInvalidDevice"},
    {invalid_context, "hipErrorInvalidContext"},
    {no_binary_for_gpu, "hipErrorNoBinaryForGpu"},
    {invalid_handle, "hipErrorInvalidHandle"},
    {not_found, "hipErrorNotFound"},
    {not_ready, "hipErrorNotReady"},
    {launch_failure, "hipErrorLaunchFailure"},
    {capture_unsupported, "hipErrorStreamCaptureUnsupported"},
    {capture_invalidated, "hipErrorStreamCaptureInvalidated"},
    {capture_unmatched, "hipErrorStreamCaptureUnmatched"},
    {capture_unjoined, "hipErrorStreamCaptureUnjoined"},
};

constexpr size_t total_memory = size_t{16} << 30;
constexpr int compute_units = 304;  // of an MI325X, so that configurations are picked as there

using Work = std::function<void()>;

struct Graph {
  std::vector<Work> work;
};
struct Stream {
  std::vector<Work> queue;
  Graph* capture = nullptr;  // while recording
  bool is_origin = false;    // hipStreamBeginCapture was called on it
  bool invalidated = false;
};
struct Event {
  bool recorded = false, done = false;
  Stream* stream = nullptr;  // whose queue holds the record
  Graph* capture = nullptr;  // the graph it was recorded into
  std::chrono::steady_clock::time_point time;
};
struct Function {
  const Kernel* kernel;
};
struct Module {
  CodeObject code;
  std::map<std::string, Function> functions;
};

// Everything below belongs to one lock.
std::recursive_mutex mutex;
std::map<uint64_t, size_t> device_buffers, host_buffers;  // by address
std::set<Stream*> streams;
std::set<Event*> events;
std::set<Module*> modules;
std::set<Graph*> graphs, executables;
size_t live_bytes = 0;
Error sticky = success;
Stream default_stream;
thread_local bool device_chosen = false;

Stream* stream_of(void* handle) {
  if (handle == nullptr) return &default_stream;
  auto* stream = static_cast<Stream*>(handle);
  return streams.contains(stream) ? stream : nullptr;
}

// ---- memory ----

bool inside(const std::map<uint64_t, size_t>& buffers, const void* pointer, size_t size) {
  const auto address = reinterpret_cast<uint64_t>(pointer);
  auto after = buffers.upper_bound(address);
  if (after == buffers.begin()) return false;
  --after;
  return address + size <= after->first + after->second;
}
bool inside_any(const void* pointer, size_t size) {
  return inside(device_buffers, pointer, size) || inside(host_buffers, pointer, size);
}
std::vector<Range> ranges() {
  std::vector<Range> all;
  for (const auto* buffers : {&device_buffers, &host_buffers})
    for (const auto& [address, size] : *buffers) all.push_back({address, address + size});
  return all;
}

void* allocate(std::map<uint64_t, size_t>& buffers, size_t size) {
  if (size > total_memory - live_bytes) return nullptr;
  const size_t rounded = (size + 255) / 256 * 256;
  void* pointer = std::aligned_alloc(4096, (rounded + 4095) / 4096 * 4096);
  if (pointer == nullptr) return nullptr;
  std::fill_n(static_cast<uint32_t*>(pointer), rounded / 4, poison);
  buffers[reinterpret_cast<uint64_t>(pointer)] = size;
  live_bytes += size;
  return pointer;
}
Error release(std::map<uint64_t, size_t>& buffers, void* pointer) {
  if (pointer == nullptr) return success;
  const auto found = buffers.find(reinterpret_cast<uint64_t>(pointer));
  if (found == buffers.end()) return invalid_value;
  live_bytes -= found->second;
  // What still reads it reads poison.
  std::fill_n(static_cast<uint32_t*>(pointer), (found->second + 255) / 256 * 64, poison);
  buffers.erase(found);
  std::free(pointer);
  return success;
}

// ---- streams ----

void run_queue(Stream& stream) {
  const std::vector<Work> work = std::move(stream.queue);
  stream.queue.clear();
  for (const Work& one : work) {
    if (sticky != success) return;
    try {
      one();
    } catch (const std::exception& problem) {
      std::fprintf(stderr, "gfx942 emulator: %s\n", problem.what());
      sticky = launch_failure;
    }
  }
}
void run_everything() {
  run_queue(default_stream);
  for (Stream* stream : streams) run_queue(*stream);
}

Error enqueue(Stream* stream, Work work) {
  if (stream->capture != nullptr) {
    if (stream->invalidated) return capture_invalidated;
    stream->capture->work.push_back(std::move(work));
  } else {
    stream->queue.push_back(std::move(work));
  }
  return success;
}

// A call that a recording stream forbids.
bool spoils_capture(Stream* stream) {
  if (stream->capture == nullptr) return false;
  stream->invalidated = true;
  return true;
}

// Every entry takes the lock, and answers the first fault of the device for ever.
template <class F>
Error call(F body) {
  const std::lock_guard lock(mutex);
  if (sticky != success) return sticky;
  if (!device_chosen) return invalid_context;
  try {
    return body();
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "gfx942 emulator: %s\n", problem.what());
    return unknown_error;
  }
}

}  // namespace

// ---- device ----

EXPORT const char* hipGetErrorName(Error error) {
  for (const auto& [code, name] : names)
    if (code == error) return name;
  return "hipErrorUnknown";
}
EXPORT Error hipGetDeviceCount(int* count) {
  *count = 1;
  return success;
}
EXPORT Error hipSetDevice(int device) {
  if (device != 0) return invalid_device;
  device_chosen = true;
  return success;
}
EXPORT Error hipDeviceGetName(char* name, int size, int device) {
  if (device != 0) return invalid_device;
  std::snprintf(name, static_cast<size_t>(size), "gfx942 emulator");
  return success;
}
EXPORT Error hipRuntimeGetVersion(int* version) {
  *version = 60400000;  // 6.4
  return success;
}
EXPORT Error hipDeviceGetAttribute(int* value, int attribute, int device) {
  if (device != 0) return invalid_device;
  switch (attribute) {
    case 56:
      *value = 1024;
      return success;  // hipDeviceAttributeMaxThreadsPerBlock
    case 63:
      *value = compute_units;
      return success;  // hipDeviceAttributeMultiprocessorCount
    case 74:
      *value = max_lds;
      return success;  // hipDeviceAttributeMaxSharedMemoryPerBlock
    case 87:
      *value = lanes;
      return success;  // hipDeviceAttributeWarpSize
    default:
      return invalid_value;
  }
}
EXPORT Error hipDeviceCanAccessPeer(int* can, int device, int peer) {
  if (device != 0 || peer != 0) return invalid_device;
  *can = 0;  // not itself
  return success;
}
EXPORT Error hipDeviceEnablePeerAccess(int, unsigned) { return invalid_device; }
EXPORT Error hipMemGetInfo(size_t* available, size_t* total) {
  return call([&] {
    *total = total_memory;
    *available = total_memory - live_bytes;
    return success;
  });
}

// ---- memory ----

EXPORT Error hipMalloc(void** pointer, size_t size) {
  return call([&] {
    *pointer = size == 0 ? nullptr : allocate(device_buffers, size);
    return size != 0 && *pointer == nullptr ? out_of_memory : success;
  });
}
// Nothing is cached here: uncached memory is memory.
EXPORT Error hipExtMallocWithFlags(void** pointer, size_t size, unsigned) { return hipMalloc(pointer, size); }
EXPORT Error hipHostMalloc(void** pointer, size_t size, unsigned) {
  return call([&] {
    *pointer = size == 0 ? nullptr : allocate(host_buffers, size);
    return size != 0 && *pointer == nullptr ? out_of_memory : success;
  });
}
// Both wait for the device first.
EXPORT Error hipFree(void* pointer) {
  return call([&] {
    run_everything();
    return release(device_buffers, pointer);
  });
}
EXPORT Error hipHostFree(void* pointer) {
  return call([&] {
    run_everything();
    return release(host_buffers, pointer);
  });
}
EXPORT Error hipMemcpyAsync(void* destination, const void* source, size_t size, int kind, void* handle) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    if (kind < 1 || kind > 3) return invalid_memcpy_direction;  // host to device, device to host, device to device
    if (size == 0) return success;
    const bool from_device = kind != 1, to_device = kind != 2;
    if (from_device && !inside_any(source, size)) return invalid_value;
    if (to_device && !inside_any(destination, size)) return invalid_value;
    // Memory of the host that is not pinned: read before the call returns, written before it returns.
    if (kind == 1 && !inside_any(source, size) && stream->capture == nullptr) {
      const auto* bytes = static_cast<const uint8_t*>(source);
      return enqueue(stream, [destination, staged = std::vector<uint8_t>(bytes, bytes + size)] {
        std::memcpy(destination, staged.data(), staged.size());
      });
    }
    const Error error = enqueue(stream, [=] { std::memmove(destination, source, size); });
    if (kind == 2 && !inside_any(destination, size) && stream->capture == nullptr) run_queue(*stream);
    return error != success ? error : sticky;
  });
}
EXPORT Error hipMemsetAsync(void* destination, int byte, size_t size, void* handle) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    if (size == 0) return success;
    if (!inside_any(destination, size)) return invalid_value;
    return enqueue(stream, [=] { std::memset(destination, byte, size); });
  });
}

// ---- streams and events ----

EXPORT Error hipStreamCreateWithFlags(void** stream, unsigned flags) {
  return call([&]() -> Error {
    if (flags > 1) return invalid_value;
    *stream = *streams.insert(new Stream).first;
    return success;
  });
}
EXPORT Error hipStreamDestroy(void* handle) {
  return call([&]() -> Error {
    auto* stream = static_cast<Stream*>(handle);
    if (!streams.contains(stream)) return invalid_handle;
    run_queue(*stream);
    for (Event* event : events)
      if (event->stream == stream) event->stream = nullptr;
    streams.erase(stream);
    delete stream;
    return success;
  });
}
EXPORT Error hipStreamSynchronize(void* handle) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    if (spoils_capture(stream)) return capture_unsupported;
    run_queue(*stream);
    return sticky;
  });
}
EXPORT Error hipEventCreate(void** event) {
  return call([&] {
    *event = *events.insert(new Event).first;
    return success;
  });
}
EXPORT Error hipEventDestroy(void* handle) {
  return call([&]() -> Error {
    auto* event = static_cast<Event*>(handle);
    if (!events.contains(event)) return invalid_handle;
    if (event->stream != nullptr) run_queue(*event->stream);
    events.erase(event);
    delete event;
    return success;
  });
}
EXPORT Error hipEventRecord(void* handle, void* stream_handle) {
  return call([&]() -> Error {
    auto* event = static_cast<Event*>(handle);
    Stream* stream = stream_of(stream_handle);
    if (!events.contains(event) || stream == nullptr) return invalid_handle;
    event->recorded = true, event->done = false;
    event->stream = stream->capture == nullptr ? stream : nullptr;
    event->capture = stream->capture;
    if (stream->capture != nullptr) return success;  // an edge of the graph, whose order is that of recording
    return enqueue(stream, [event] {
      event->done = true;
      event->time = std::chrono::steady_clock::now();
    });
  });
}
EXPORT Error hipStreamWaitEvent(void* stream_handle, void* handle, unsigned) {
  return call([&]() -> Error {
    auto* event = static_cast<Event*>(handle);
    Stream* stream = stream_of(stream_handle);
    if (!events.contains(event) || stream == nullptr) return invalid_handle;
    if (!event->recorded) return success;
    if (event->capture != nullptr) {
      // The waiting stream joins the recording.
      if (stream->capture != nullptr && stream->capture != event->capture) return capture_unsupported;
      stream->capture = event->capture;
      return success;
    }
    Stream* other = event->stream;
    if (other == nullptr || other == stream) return success;
    return enqueue(stream, [other] {
      if (streams.contains(other) || other == &default_stream) run_queue(*other);
    });
  });
}
EXPORT Error hipEventSynchronize(void* handle) {
  return call([&]() -> Error {
    auto* event = static_cast<Event*>(handle);
    if (!events.contains(event)) return invalid_handle;
    if (event->capture != nullptr) return capture_unsupported;
    if (event->stream != nullptr) run_queue(*event->stream);
    return sticky;
  });
}
EXPORT Error hipEventElapsedTime(float* milliseconds, void* start_handle, void* stop_handle) {
  return call([&]() -> Error {
    auto *start = static_cast<Event*>(start_handle), *stop = static_cast<Event*>(stop_handle);
    if (!events.contains(start) || !events.contains(stop) || !start->recorded || !stop->recorded) return invalid_handle;
    if (!start->done || !stop->done) return not_ready;
    *milliseconds = std::chrono::duration<float, std::milli>(stop->time - start->time).count();
    return success;
  });
}

// ---- graphs ----

EXPORT Error hipStreamBeginCapture(void* handle, int mode) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    if (mode < 0 || mode > 2) return invalid_value;
    if (stream == &default_stream || stream->capture != nullptr) return capture_unsupported;
    stream->capture = *graphs.insert(new Graph).first;
    stream->is_origin = true, stream->invalidated = false;
    return success;
  });
}
EXPORT Error hipStreamEndCapture(void* handle, void** graph) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    *graph = nullptr;
    if (stream == nullptr) return invalid_handle;
    if (stream->capture == nullptr || !stream->is_origin) return capture_unmatched;
    Graph* recorded = stream->capture;
    bool invalidated = false;
    for (Stream* each : streams)
      if (each->capture == recorded) {
        invalidated = invalidated || each->invalidated;
        each->capture = nullptr, each->is_origin = each->invalidated = false;
      }
    if (invalidated) {
      graphs.erase(recorded);
      delete recorded;
      return capture_invalidated;
    }
    *graph = recorded;
    return success;
  });
}
EXPORT Error hipGraphInstantiate(void** executable, void* handle, void**, char*, size_t) {
  return call([&]() -> Error {
    auto* graph = static_cast<Graph*>(handle);
    if (!graphs.contains(graph)) return invalid_value;
    *executable = *executables.insert(new Graph(*graph)).first;
    return success;
  });
}
EXPORT Error hipGraphLaunch(void* handle, void* stream_handle) {
  return call([&]() -> Error {
    auto* graph = static_cast<Graph*>(handle);
    Stream* stream = stream_of(stream_handle);
    if (!executables.contains(graph) || stream == nullptr) return invalid_value;
    for (const Work& one : graph->work)
      if (const Error error = enqueue(stream, one); error != success) return error;
    return success;
  });
}
EXPORT Error hipGraphExecDestroy(void* handle) {
  return call([&]() -> Error {
    auto* graph = static_cast<Graph*>(handle);
    if (executables.erase(graph) == 0) return invalid_value;
    delete graph;
    return success;
  });
}
EXPORT Error hipGraphDestroy(void* handle) {
  return call([&]() -> Error {
    auto* graph = static_cast<Graph*>(handle);
    if (graphs.erase(graph) == 0) return invalid_value;
    delete graph;
    return success;
  });
}

// ---- modules ----

EXPORT Error hipModuleLoadData(void** module, const void* image) {
  return call([&]() -> Error {
    const size_t size = size_of_gfx942_image(image);
    if (size == 0) return no_binary_for_gpu;
    *module = *modules.insert(new Module{CodeObject(image, size), {}}).first;
    return success;
  });
}
EXPORT Error hipModuleUnload(void* handle) {
  return call([&]() -> Error {
    auto* module = static_cast<Module*>(handle);
    if (!modules.contains(module)) return invalid_handle;
    run_everything();
    modules.erase(module);
    delete module;
    return success;
  });
}
EXPORT Error hipModuleGetFunction(void** function, void* handle, const char* name) {
  return call([&]() -> Error {
    auto* module = static_cast<Module*>(handle);
    if (!modules.contains(module)) return invalid_handle;
    const Kernel* kernel = module->code.find(name);
    if (kernel == nullptr) return not_found;
    *function = &module->functions.emplace(name, Function{kernel}).first->second;
    return success;
  });
}
EXPORT Error hipModuleLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                   unsigned block_y, unsigned block_z, unsigned lds_bytes, void* handle, void** params,
                                   void** extra) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    if (function == nullptr || extra != nullptr) return invalid_value;
    Launch launch{static_cast<const Function*>(function)->kernel,
                  {grid_x, grid_y, grid_z},
                  {block_x, block_y, block_z},
                  lds_bytes,
                  {}};
    const uint64_t block_threads = uint64_t{block_x} * block_y * block_z;
    if (grid_x == 0 || grid_y == 0 || grid_z == 0 || block_threads == 0) return invalid_configuration;
    if (block_threads > launch.kernel->max_threads) return launch_failure;
    for (int axis = 0; axis < 3; axis++)
      if (uint64_t{launch.grid[axis]} * launch.block[axis] > UINT32_MAX) return invalid_configuration;
    if (grid_y > 65536 || grid_z > 65536) return invalid_configuration;
    if (launch.kernel->descriptor.group_segment_size + uint64_t{lds_bytes} > max_lds) return invalid_value;
    int next = 0;
    for (const Argument& argument : launch.kernel->arguments) {
      if (argument.kind.starts_with("hidden_")) continue;
      launch.kernarg.resize(std::max<size_t>(launch.kernarg.size(), argument.offset + argument.size));
      std::memcpy(&launch.kernarg[argument.offset], params[next++], argument.size);
    }
    return enqueue(stream, [launch = std::move(launch)] { run(launch, ranges()); });
  });
}

}  // namespace octet::gfx942
