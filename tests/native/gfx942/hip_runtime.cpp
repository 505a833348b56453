// libamdhip64.so.6 with one gfx942 or, by GFX942_EMULATOR_DEVICES, up to eight: the HIP functions that
// native/runtime/hip.cpp opens, over the emulator. It says what the compiled code computes, and whether the driver asks
// for it rightly; it says nothing about speed.
//
// Stricter than ROCm where a mistake could hide. Work is queued and runs only when something waits for it, so a missing
// wait shows (devices.h); fresh memory is poisoned; a thread that never called hipSetDevice gets an error; addresses
// are checked against the buffers alive and within reach; a device takes no stream, event, function, graph or buffer of
// another, but waits for its events; pinned memory belongs to its device, too, unless it is portable; the first fault
// of a kernel is printed on stderr and every later call for its device fails, as on a device. Signatures and codes: HIP
// runtime API reference, ROCm 6.

#include <algorithm>
#include <cstdio>

#include "devices.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace octet::gfx942 {

namespace {

constexpr Error out_of_memory = 2, invalid_configuration = 9, invalid_memcpy_direction = 21, no_device = 100,
                invalid_device = 101, invalid_context = 201, no_binary_for_gpu = 209, invalid_handle = 400,
                not_found = 500, not_ready = 600, peer_access_already_enabled = 704, capture_unsupported = 900,
                capture_invalidated = 901, capture_unmatched = 903, capture_isolation = 905, unknown_error = 999;
constexpr std::pair<Error, const char*> names[] = {
    {success, "hipSuccess"},
    {invalid_value, "hipErrorInvalidValue"},
    {out_of_memory, "hipErrorOutOfMemory"},
    {invalid_configuration, "hipErrorInvalidConfiguration"},
    {invalid_memcpy_direction, "hipErrorInvalidMemcpyDirection"},
    {no_device, "hipErrorNoDevice"},
    {invalid_device, "hipErrorInvalidDevice"},
    {invalid_context, "hipErrorInvalidContext"},
    {no_binary_for_gpu, "hipErrorNoBinaryForGpu"},
    {invalid_handle, "hipErrorInvalidHandle"},
    {not_found, "hipErrorNotFound"},
    {not_ready, "hipErrorNotReady"},
    {peer_access_already_enabled, "hipErrorPeerAccessAlreadyEnabled"},
    {launch_failure, "hipErrorLaunchFailure"},
    {capture_unsupported, "hipErrorStreamCaptureUnsupported"},
    {capture_invalidated, "hipErrorStreamCaptureInvalidated"},
    {capture_unmatched, "hipErrorStreamCaptureUnmatched"},
    {capture_isolation, "hipErrorStreamCaptureIsolation"},
};

constexpr int compute_units = 304;  // of an MI325X, so that configurations are picked as there
constexpr unsigned host_malloc_portable = 1;

struct Event {
  Device* device;
  bool recorded = false, done = false;
  Stream* stream = nullptr;  // that it was recorded on, while it is open
  uint64_t position = 0;     // what the stream has done then
  Graph* capture = nullptr;  // the graph it was recorded into
  std::chrono::steady_clock::time_point time = {};
};
struct Function {
  const Kernel* kernel;
  const Device* device;
};
struct Module {
  Device* device;
  CodeObject& code;
  std::map<std::string, Function> functions;
};

// What handles stand for, under the world's lock, and like the world never destroyed.
struct Handles {
  std::set<Event*> events;
  std::set<Module*> modules;
  std::set<Graph*> graphs, executables;
  std::map<std::vector<uint8_t>, CodeObject> code;  // by image
};
Handles& handles = *new Handles;
thread_local Device* current = nullptr;  // chosen by hipSetDevice

// Null where it is no stream of the current device.
Stream* stream_of(void* handle) {
  if (handle == nullptr) return current->default_stream;
  const auto& streams = current->streams;
  const auto found = std::find(streams.begin(), streams.end(), handle);
  return found == streams.end() ? nullptr : *found;
}
Event* event_of(void* handle) {
  auto* event = static_cast<Event*>(handle);
  return handles.events.contains(event) ? event : nullptr;
}
bool is_device(int device) { return device >= 0 && static_cast<size_t>(device) < world.devices.size(); }

Error submit(Stream* stream, Work work) {
  if (stream->capture == nullptr)
    enqueue(*stream, std::move(work));
  else if (stream->invalidated)
    return capture_invalidated;
  else
    stream->capture->work.push_back(std::move(work));
  return success;
}
Error submit(Stream* stream, std::function<void(Stream&)> run) { return submit(stream, Work{.run = std::move(run)}); }

// A call that a recording stream forbids.
bool spoils_capture(Stream* stream) {
  if (stream->capture == nullptr) return false;
  stream->invalidated = true;
  return true;
}

// Devices run the same code objects, which have constants and no variables: each is disassembled once in a process.
CodeObject& code_of(const void* image, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(image);
  return handles.code.try_emplace({bytes, bytes + size}, image, size).first->second;
}

// Every entry takes the lock, and answers the first fault of the current device for ever.
template <class F>
Error call(F body) {
  const std::lock_guard lock(world.mutex);
  if (current == nullptr) return invalid_context;
  if (current->fault != success) return current->fault;
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
  *count = static_cast<int>(world.devices.size());
  return *count == 0 ? no_device : success;
}
EXPORT Error hipSetDevice(int device) {
  if (!is_device(device)) return invalid_device;
  const std::lock_guard lock(world.mutex);
  current = world.devices[static_cast<size_t>(device)].get();
  if (current->default_stream == nullptr) current->default_stream = open_stream(*current);
  return success;
}
EXPORT Error hipDeviceGetName(char* name, int size, int device) {
  if (!is_device(device)) return invalid_device;
  std::snprintf(name, static_cast<size_t>(size), "gfx942 emulator");
  return success;
}
EXPORT Error hipRuntimeGetVersion(int* version) {
  *version = 60400000;  // 6.4
  return success;
}
EXPORT Error hipDeviceGetAttribute(int* value, int attribute, int device) {
  if (!is_device(device)) return invalid_device;
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
  if (!is_device(device) || !is_device(peer)) return invalid_device;
  *can = device != peer;
  return success;
}
EXPORT Error hipDeviceEnablePeerAccess(int peer, unsigned flags) {
  return call([&]() -> Error {
    if (!is_device(peer) || peer == current->number) return invalid_device;
    if (flags != 0) return invalid_value;
    const bool is_new = current->peers.insert(world.devices[static_cast<size_t>(peer)].get()).second;
    return is_new ? success : peer_access_already_enabled;
  });
}
EXPORT Error hipMemGetInfo(size_t* available, size_t* total) {
  return call([&] {
    *total = total_memory;
    *available = total_memory - current->live_bytes;
    return success;
  });
}

// ---- memory ----

EXPORT Error hipMalloc(void** pointer, size_t size) {
  return call([&] {
    *pointer = size == 0 ? nullptr : allocate(*current, size, false, false);
    return size != 0 && *pointer == nullptr ? out_of_memory : success;
  });
}
// Nothing is cached here: fine-grained (1) and uncached (3) memory are memory.
EXPORT Error hipExtMallocWithFlags(void** pointer, size_t size, unsigned flags) {
  return flags == 0 || flags == 1 || flags == 3 ? hipMalloc(pointer, size) : invalid_value;
}
EXPORT Error hipHostMalloc(void** pointer, size_t size, unsigned flags) {
  return call([&] {
    *pointer = size == 0 ? nullptr : allocate(*current, size, true, (flags & host_malloc_portable) != 0);
    return size != 0 && *pointer == nullptr ? out_of_memory : success;
  });
}
// Both wait for the device first.
EXPORT Error hipFree(void* pointer) {
  return call([&] {
    finish(*current);
    return release(*current, pointer, false);
  });
}
EXPORT Error hipHostFree(void* pointer) {
  return call([&] {
    finish(*current);
    return release(*current, pointer, true);
  });
}
EXPORT Error hipMemcpyAsync(void* destination, const void* source, size_t size, int kind, void* handle) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    if (kind < 1 || kind > 3) return invalid_memcpy_direction;  // host to device, device to host, device to device
    if (size == 0) return success;
    // Memory of the host need not be pinned; what is a buffer has to be within reach.
    const bool is_staged = kind == 1 && !is_allocated(source, size);
    const bool is_waited_for = kind == 2 && !is_allocated(destination, size);
    if (!is_staged && !is_reached(*current, source, size)) return invalid_value;
    if (!is_waited_for && !is_reached(*current, destination, size)) return invalid_value;
    // Where it is not pinned: read before the call returns, written before it returns.
    if (is_staged && stream->capture == nullptr) {
      const auto* bytes = static_cast<const uint8_t*>(source);
      return submit(stream, [destination, staged = std::vector<uint8_t>(bytes, bytes + size)](Stream&) {
        std::memcpy(destination, staged.data(), staged.size());
      });
    }
    const Error error = submit(stream, [=](Stream&) { std::memmove(destination, source, size); });
    if (is_waited_for && stream->capture == nullptr) finish(*stream);
    return error != success ? error : current->fault;
  });
}
EXPORT Error hipMemsetAsync(void* destination, int byte, size_t size, void* handle) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    if (size == 0) return success;
    if (!is_reached(*current, destination, size)) return invalid_value;
    return submit(stream, [=](Stream&) { std::memset(destination, byte, size); });
  });
}

// ---- streams and events ----

EXPORT Error hipStreamCreateWithFlags(void** stream, unsigned flags) {
  return call([&]() -> Error {
    if (flags > 1) return invalid_value;
    *stream = open_stream(*current);
    return success;
  });
}
EXPORT Error hipStreamDestroy(void* handle) {
  return call([&]() -> Error {
    Stream* stream = handle == nullptr ? nullptr : stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    finish(*stream);
    for (Event* event : handles.events)
      if (event->stream == stream) event->stream = nullptr;
    close_stream(*stream);
    return success;
  });
}
EXPORT Error hipStreamSynchronize(void* handle) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    if (spoils_capture(stream)) return capture_unsupported;
    finish(*stream);
    return current->fault;
  });
}
EXPORT Error hipEventCreate(void** event) {
  return call([&] {
    *event = *handles.events.insert(new Event{.device = current}).first;
    return success;
  });
}
EXPORT Error hipEventDestroy(void* handle) {
  return call([&]() -> Error {
    Event* event = event_of(handle);
    if (event == nullptr) return invalid_handle;
    handles.events.erase(event);
    delete event;
    return success;
  });
}
EXPORT Error hipEventRecord(void* handle, void* stream_handle) {
  return call([&]() -> Error {
    Event* event = event_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (event == nullptr || stream == nullptr || event->device != current) return invalid_handle;
    event->recorded = true, event->done = false;
    event->stream = stream->capture == nullptr ? stream : nullptr;
    event->capture = stream->capture;
    if (stream->capture != nullptr) return success;  // an edge of the graph, whose order is that of recording
    event->position = stream->queued + 1;
    return submit(stream, [event, position = event->position](Stream& on) {
      const std::lock_guard lock(world.mutex);
      // Destroyed by now, or recorded again.
      if (!handles.events.contains(event) || event->stream != &on || event->position != position) return;
      event->done = true;
      event->time = std::chrono::steady_clock::now();
    });
  });
}
// The event may be another device's.
EXPORT Error hipStreamWaitEvent(void* stream_handle, void* handle, unsigned) {
  return call([&]() -> Error {
    Event* event = event_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (event == nullptr || stream == nullptr) return invalid_handle;
    if (!event->recorded) return success;
    if (event->capture != nullptr) {
      // The waiting stream joins the recording.
      if (stream->capture != nullptr && stream->capture != event->capture) return capture_unsupported;
      if (event->device != current) return capture_unsupported;
      stream->capture = event->capture;
      return success;
    }
    if (stream->capture != nullptr) return capture_isolation;
    if (event->stream == nullptr || event->stream == stream) return success;
    return submit(stream, Work{.run = [](Stream&) {}, .after = event->stream, .position = event->position});
  });
}
EXPORT Error hipEventSynchronize(void* handle) {
  return call([&]() -> Error {
    Event* event = event_of(handle);
    if (event == nullptr) return invalid_handle;
    if (event->capture != nullptr) return capture_unsupported;
    if (event->stream != nullptr) finish(*event->stream, event->position);
    return current->fault;
  });
}
EXPORT Error hipEventElapsedTime(float* milliseconds, void* start_handle, void* stop_handle) {
  return call([&]() -> Error {
    const Event *start = event_of(start_handle), *stop = event_of(stop_handle);
    if (start == nullptr || stop == nullptr || !start->recorded || !stop->recorded) return invalid_handle;
    if (start->device != stop->device) return invalid_handle;
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
    if (stream == current->default_stream || stream->capture != nullptr) return capture_unsupported;
    stream->capture = *handles.graphs.insert(new Graph{current, {}}).first;
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
    for (Stream* each : current->streams)
      if (each->capture == recorded) {
        invalidated = invalidated || each->invalidated;
        each->capture = nullptr, each->is_origin = each->invalidated = false;
      }
    if (invalidated) {
      handles.graphs.erase(recorded);
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
    if (!handles.graphs.contains(graph)) return invalid_value;
    *executable = *handles.executables.insert(new Graph(*graph)).first;
    return success;
  });
}
EXPORT Error hipGraphLaunch(void* handle, void* stream_handle) {
  return call([&]() -> Error {
    auto* graph = static_cast<Graph*>(handle);
    Stream* stream = stream_of(stream_handle);
    if (!handles.executables.contains(graph) || stream == nullptr || graph->device != current) return invalid_value;
    for (const Work& one : graph->work)
      if (const Error error = submit(stream, one); error != success) return error;
    return success;
  });
}
EXPORT Error hipGraphExecDestroy(void* handle) {
  return call([&]() -> Error {
    auto* graph = static_cast<Graph*>(handle);
    if (handles.executables.erase(graph) == 0) return invalid_value;
    delete graph;
    return success;
  });
}
EXPORT Error hipGraphDestroy(void* handle) {
  return call([&]() -> Error {
    auto* graph = static_cast<Graph*>(handle);
    if (handles.graphs.erase(graph) == 0) return invalid_value;
    delete graph;
    return success;
  });
}

// ---- modules ----

EXPORT Error hipModuleLoadData(void** module, const void* image) {
  return call([&]() -> Error {
    const size_t size = size_of_gfx942_image(image);
    if (size == 0) return no_binary_for_gpu;
    *module = *handles.modules.insert(new Module{current, code_of(image, size), {}}).first;
    return success;
  });
}
EXPORT Error hipModuleUnload(void* handle) {
  return call([&]() -> Error {
    auto* module = static_cast<Module*>(handle);
    if (!handles.modules.contains(module) || module->device != current) return invalid_handle;
    finish(*current);
    handles.modules.erase(module);
    delete module;
    return success;
  });
}
EXPORT Error hipModuleGetFunction(void** function, void* handle, const char* name) {
  return call([&]() -> Error {
    auto* module = static_cast<Module*>(handle);
    if (!handles.modules.contains(module) || module->device != current) return invalid_handle;
    const Kernel* kernel = module->code.find(name);
    if (kernel == nullptr) return not_found;
    *function = &module->functions.emplace(name, Function{kernel, current}).first->second;
    return success;
  });
}
EXPORT Error hipModuleLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                   unsigned block_y, unsigned block_z, unsigned lds_bytes, void* handle, void** params,
                                   void** extra) {
  return call([&]() -> Error {
    Stream* stream = stream_of(handle);
    if (stream == nullptr) return invalid_handle;
    const auto* called = static_cast<const Function*>(function);
    if (called == nullptr || extra != nullptr) return invalid_value;
    if (called->device != current) return invalid_handle;
    Launch launch{called->kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, lds_bytes, {}};
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
    const std::string& name = called->kernel->name;
    return submit(stream, Work{[launch = std::move(launch)](Stream& on) { run(launch, surroundings_of(on)); }, name});
  });
}

}  // namespace octet::gfx942
