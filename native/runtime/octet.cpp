// The exports of octet.h that are not ops: handles, their lifetime and counts, and the last error. A handle holds its
// device; the device counts what is live and cannot be closed before.
#include <octet.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "driver.h"
#include "images.h"
#include "rccl.h"

namespace {

thread_local std::string last_error;

}  // namespace

struct octet_device {
  std::unique_ptr<octet::Driver> driver;
  std::atomic<int64_t> live_bytes{0};
  std::atomic<int64_t> buffers{0}, streams{0}, events{0}, graphs{0}, communicators{0};
};

struct octet_buffer {
  octet_device* device;
  void* pointer;
  int64_t size;
  octet_memory_kind kind;
};

struct octet_stream {
  octet_device* device;
  void* native;
  bool owned;
};

struct octet_event {
  octet_device* device;
  void* native;
};

struct octet_graph {
  octet_device* device;
  void* native;
};

struct octet_communicator {
  std::vector<octet_device*> devices;
  octet::Communicator group;
};

namespace octet {

void set_last_error(const char* text) noexcept {
  try {
    last_error = text;
  } catch (...) {
    last_error.clear();
  }
}

const DeviceFacts& facts(const octet_device* device) {
  require(device != nullptr, "device is null");
  return device->driver->facts;
}

const DeviceFacts& facts(const octet_stream* stream) {
  require(stream != nullptr, "stream is null");
  return stream->device->driver->facts;
}

void launch_bytes(octet_stream* stream, const char* kernel, Grid grid, int waves, size_t lds_bytes, const void* params,
                  size_t params_size) {
  const DeviceFacts& device = facts(stream);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const int threads = waves * device.wave_size;
  const bool fits = grid.y <= 65535 && grid.z <= 65535 && waves > 0 && threads <= 1024 &&
                    uint64_t{grid.x} * static_cast<uint64_t>(threads) < (uint64_t{1} << 32) && grid.x <= 0x7FFFFFFF &&
                    lds_bytes <= static_cast<size_t>(device.shared_memory);
  if (!fits)
    fail(OCTET_UNSUPPORTED, "%s: a launch of %u x %u x %u blocks of %d threads with %zu bytes of LDS exceeds what %s allows",
         kernel, grid.x, grid.y, grid.z, threads, lds_bytes, device.name.c_str());
  static const bool trace = [] {
    const char* value = std::getenv("OCTET_TRACE");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  if (trace)
    std::fprintf(stderr, "octet: %s grid %ux%ux%u waves %d lds %zu\n", kernel, grid.x, grid.y, grid.z, waves, lds_bytes);
  stream->device->driver->launch(stream->native, kernel, grid, threads, lds_bytes, params, params_size);
}

}  // namespace octet

using namespace octet;

namespace {

template <class Handle>
Handle* given(const char* call, const char* name, Handle* handle) {
  require(handle != nullptr, "%s: %s is null", call, name);
  return handle;
}

void same_device(const char* call, const octet_device* a, const octet_device* b) {
  require(a == b, "%s: the handles belong to two devices, %s and %s", call, a->driver->facts.name.c_str(),
          b->driver->facts.name.c_str());
}

// The number behind "hip:" or "cuda:".
int ordinal(const char* name, const char* digits) {
  char* end = nullptr;
  const long value = std::strtol(digits, &end, 10);
  require(*digits >= '0' && *digits <= '9' && *end == '\0' && value <= 1023, "octet_device_open: no device is named '%s'", name);
  return static_cast<int>(value);
}

std::unique_ptr<Driver> open_driver(const char* name) {
  if (std::strcmp(name, "sim") == 0 || std::strcmp(name, "sim:gfx942") == 0) return open_sim(Target::gfx942);
  if (std::strcmp(name, "sim:gfx950") == 0) return open_sim(Target::gfx950);
  if (std::strcmp(name, "sim:sm_90") == 0) return open_sim(Target::sm_90);
  if (std::strcmp(name, "plan:gfx942") == 0) return open_plan(Target::gfx942);
  if (std::strcmp(name, "plan:gfx950") == 0) return open_plan(Target::gfx950);
  if (std::strncmp(name, "hip:", 4) == 0) return open_hip(ordinal(name, name + 4));
  if (std::strncmp(name, "cuda:", 5) == 0) return open_cuda(ordinal(name, name + 5));
  fail(OCTET_INVALID_ARGUMENT,
       "octet_device_open: no device is named '%s'; names are hip:N, cuda:N, sim, sim:gfx942, sim:gfx950, sim:sm_90, "
       "plan:gfx942, plan:gfx950",
       name);
}

}  // namespace

// ---- library ----

int32_t octet_abi_version(void) { return OCTET_ABI_VERSION; }

const char* octet_build_info(void) {
  return "clang " __clang_version__ "; gfx942, gfx950, sm_90 PTX, simulator; commit " OCTET_COMMIT;
}

const char* octet_last_error(void) { return last_error.c_str(); }

// ---- devices ----

octet_status octet_probe(const char* driver, int32_t* count) {
  return guarded([&] {
    given("octet_probe", "driver", driver);
    given("octet_probe", "count", count);
    *count = 0;
    if (std::strcmp(driver, "sim") == 0) {
      *count = 1;
    } else if (std::strcmp(driver, "hip") == 0) {
      *count = hip_count();
    } else if (std::strcmp(driver, "cuda") == 0) {
      *count = cuda_count();
    } else {
      fail(OCTET_INVALID_ARGUMENT, "octet_probe: no driver is named '%s'; drivers are hip, cuda, sim", driver);
    }
  });
}

octet_status octet_device_open(const char* name, octet_device** device) {
  return guarded([&] {
    given("octet_device_open", "name", name);
    given("octet_device_open", "device", device);
    *device = nullptr;
    auto opened = std::make_unique<octet_device>();
    opened->driver = open_driver(name);
    *device = opened.release();
  });
}

octet_status octet_device_close(octet_device* device) {
  return guarded([&] {
    given("octet_device_close", "device", device);
    const auto buffers = static_cast<long long>(device->buffers), streams = static_cast<long long>(device->streams),
               events = static_cast<long long>(device->events), graphs = static_cast<long long>(device->graphs),
               communicators = static_cast<long long>(device->communicators);
    require(buffers + streams + events + graphs + communicators == 0,
            "octet_device_close: still live: %lld buffers, %lld streams, %lld events, %lld graphs, %lld communicators", buffers,
            streams, events, graphs, communicators);
    delete device;
  });
}

octet_status octet_device_get_properties(octet_device* device, octet_device_properties* properties) {
  return guarded([&] {
    given("octet_device_get_properties", "device", device);
    checked("octet_device_get_properties", properties);
    const DeviceFacts& known = device->driver->facts;
    std::snprintf(properties->name, sizeof(properties->name), "%s", known.name.c_str());
    std::snprintf(properties->target, sizeof(properties->target), "%s", target_name(known.target));
    properties->total_memory = known.total_memory;
    properties->live_bytes = device->live_bytes;
    properties->compute_units = known.compute_units;
    properties->wave_size = known.wave_size;
    properties->shared_memory = known.shared_memory;
    properties->fp8 = known.fp8;
    properties->runtime_version = known.runtime_version;
  });
}

octet_status octet_device_enable_peer(octet_device* device, octet_device* peer) {
  return guarded([&] {
    given("octet_device_enable_peer", "device", device);
    given("octet_device_enable_peer", "peer", peer);
    const char *name = device->driver->facts.name.c_str(), *peer_name = peer->driver->facts.name.c_str();
    require(device != peer, "octet_device_enable_peer: device and peer are one, %s", name);
    if (!device->driver->enable_peer(*peer->driver))
      fail(OCTET_UNSUPPORTED, "octet_device_enable_peer: %s cannot reach the memory of %s", name, peer_name);
  });
}

octet_status octet_device_free_memory(octet_device* device, int64_t* bytes) {
  return guarded([&] {
    given("octet_device_free_memory", "device", device);
    given("octet_device_free_memory", "bytes", bytes);
    *bytes = device->driver->free_memory(device->live_bytes);
  });
}

// ---- memory ----

octet_status octet_buffer_create(octet_device* device, int64_t size, octet_memory_kind kind, octet_buffer** buffer) {
  return guarded([&] {
    given("octet_buffer_create", "device", device);
    given("octet_buffer_create", "buffer", buffer);
    *buffer = nullptr;
    require(size >= 0, "octet_buffer_create: size = %lld must not be negative", static_cast<long long>(size));
    require(kind >= OCTET_DEVICE_MEMORY && kind <= OCTET_SIGNAL_MEMORY, "octet_buffer_create: kind = %d is unknown",
            static_cast<int>(kind));
    auto made = std::make_unique<octet_buffer>(octet_buffer{device, nullptr, size, kind});
    made->pointer = device->driver->allocate(size, kind);
    device->buffers++;
    device->live_bytes += size;
    *buffer = made.release();
  });
}

octet_status octet_buffer_destroy(octet_buffer* buffer) {
  return guarded([&] {
    given("octet_buffer_destroy", "buffer", buffer);
    buffer->device->driver->release(buffer->pointer, buffer->kind);
    buffer->device->live_bytes -= buffer->size;
    buffer->device->buffers--;
    delete buffer;
  });
}

octet_status octet_buffer_pointer(octet_buffer* buffer, void** pointer) {
  return guarded([&] {
    given("octet_buffer_pointer", "buffer", buffer);
    given("octet_buffer_pointer", "pointer", pointer);
    *pointer = buffer->pointer;
  });
}

octet_status octet_copy(octet_stream* stream, void* destination, const void* source, int64_t size, octet_copy_kind kind) {
  return guarded([&] {
    given("octet_copy", "stream", stream);
    require(size >= 0, "octet_copy: size = %lld must not be negative", static_cast<long long>(size));
    require(kind >= OCTET_HOST_TO_DEVICE && kind <= OCTET_DEVICE_TO_DEVICE, "octet_copy: kind = %d is unknown",
            static_cast<int>(kind));
    if (size == 0) return;
    given("octet_copy", "destination", destination);
    given("octet_copy", "source", source);
    stream->device->driver->copy(stream->native, destination, source, size, kind);
  });
}

octet_status octet_fill(octet_stream* stream, void* destination, int32_t byte, int64_t size) {
  return guarded([&] {
    given("octet_fill", "stream", stream);
    require(size >= 0, "octet_fill: size = %lld must not be negative", static_cast<long long>(size));
    require(byte >= 0 && byte <= 255, "octet_fill: byte = %d must be 0..255", byte);
    if (size == 0) return;
    given("octet_fill", "destination", destination);
    stream->device->driver->fill(stream->native, destination, byte, size);
  });
}

// ---- streams, events, graphs ----

octet_status octet_stream_create(octet_device* device, octet_stream** stream) {
  return guarded([&] {
    given("octet_stream_create", "device", device);
    given("octet_stream_create", "stream", stream);
    *stream = nullptr;
    auto made = std::make_unique<octet_stream>(octet_stream{device, nullptr, true});
    made->native = device->driver->stream_create();
    device->streams++;
    *stream = made.release();
  });
}

octet_status octet_stream_borrow(octet_device* device, void* native, octet_stream** stream) {
  return guarded([&] {
    given("octet_stream_borrow", "device", device);
    given("octet_stream_borrow", "stream", stream);
    *stream = nullptr;
    device->driver->stream_borrow(native);
    *stream = new octet_stream{device, native, false};
    device->streams++;
  });
}

octet_status octet_stream_destroy(octet_stream* stream) {
  return guarded([&] {
    given("octet_stream_destroy", "stream", stream);
    if (stream->owned) stream->device->driver->stream_destroy(stream->native);
    stream->device->streams--;
    delete stream;
  });
}

octet_status octet_stream_synchronize(octet_stream* stream) {
  return guarded([&] {
    given("octet_stream_synchronize", "stream", stream);
    stream->device->driver->stream_synchronize(stream->native);
  });
}

octet_status octet_stream_wait(octet_stream* stream, octet_event* event) {
  return guarded([&] {
    given("octet_stream_wait", "stream", stream);
    given("octet_stream_wait", "event", event);
    same_device("octet_stream_wait", stream->device, event->device);
    stream->device->driver->stream_wait(stream->native, event->native);
  });
}

octet_status octet_event_create(octet_device* device, octet_event** event) {
  return guarded([&] {
    given("octet_event_create", "device", device);
    given("octet_event_create", "event", event);
    *event = nullptr;
    auto made = std::make_unique<octet_event>(octet_event{device, nullptr});
    made->native = device->driver->event_create();
    device->events++;
    *event = made.release();
  });
}

octet_status octet_event_destroy(octet_event* event) {
  return guarded([&] {
    given("octet_event_destroy", "event", event);
    event->device->driver->event_destroy(event->native);
    event->device->events--;
    delete event;
  });
}

octet_status octet_event_record(octet_event* event, octet_stream* stream) {
  return guarded([&] {
    given("octet_event_record", "event", event);
    given("octet_event_record", "stream", stream);
    same_device("octet_event_record", event->device, stream->device);
    stream->device->driver->event_record(event->native, stream->native);
  });
}

octet_status octet_event_synchronize(octet_event* event) {
  return guarded([&] {
    given("octet_event_synchronize", "event", event);
    event->device->driver->event_synchronize(event->native);
  });
}

octet_status octet_event_elapsed(octet_event* start, octet_event* stop, float* milliseconds) {
  return guarded([&] {
    given("octet_event_elapsed", "start", start);
    given("octet_event_elapsed", "stop", stop);
    given("octet_event_elapsed", "milliseconds", milliseconds);
    same_device("octet_event_elapsed", start->device, stop->device);
    *milliseconds = start->device->driver->event_elapsed(start->native, stop->native);
  });
}

octet_status octet_graph_begin(octet_stream* stream) {
  return guarded([&] {
    given("octet_graph_begin", "stream", stream);
    stream->device->driver->graph_begin(stream->native);
  });
}

octet_status octet_graph_end(octet_stream* stream, octet_graph** graph) {
  return guarded([&] {
    given("octet_graph_end", "stream", stream);
    given("octet_graph_end", "graph", graph);
    *graph = nullptr;
    auto made = std::make_unique<octet_graph>(octet_graph{stream->device, nullptr});
    made->native = stream->device->driver->graph_end(stream->native);
    stream->device->graphs++;
    *graph = made.release();
  });
}

octet_status octet_graph_launch(octet_graph* graph, octet_stream* stream) {
  return guarded([&] {
    given("octet_graph_launch", "graph", graph);
    given("octet_graph_launch", "stream", stream);
    same_device("octet_graph_launch", graph->device, stream->device);
    stream->device->driver->graph_launch(graph->native, stream->native);
  });
}

octet_status octet_graph_destroy(octet_graph* graph) {
  return guarded([&] {
    given("octet_graph_destroy", "graph", graph);
    graph->device->driver->graph_destroy(graph->native);
    graph->device->graphs--;
    delete graph;
  });
}

// ---- the vendor's collectives ----

octet_status octet_communicator_create(octet_device* const* devices, int32_t count, const char* library,
                                       octet_communicator** communicator) {
  return guarded([&] {
    given("octet_communicator_create", "devices", devices);
    given("octet_communicator_create", "communicator", communicator);
    *communicator = nullptr;
    std::vector<octet_device*> ranks(devices, devices + std::max(count, 0));
    std::vector<Driver*> drivers;
    for (octet_device* device : ranks) drivers.push_back(given("octet_communicator_create", "devices", device)->driver.get());
    *communicator = new octet_communicator{ranks, Communicator(std::move(drivers), library)};
    for (octet_device* device : ranks) device->communicators++;
  });
}

octet_status octet_communicator_all_reduce(octet_communicator* communicator, int32_t rank, void* values, int64_t count,
                                           octet_stream* stream) {
  return guarded([&] {
    constexpr const char* call = "octet_communicator_all_reduce";
    given(call, "communicator", communicator);
    given(call, "stream", stream);
    require_range(call, "rank", rank, 0, communicator->group.ranks() - 1);
    require_range(call, "count", count, 0, max_stride);
    same_device(call, communicator->devices[static_cast<size_t>(rank)], stream->device);
    if (count == 0) return;
    require_pointer(call, "values", values);
    communicator->group.all_reduce(rank, stream->native, values, count);
  });
}

octet_status octet_communicator_check(octet_communicator* communicator, int32_t rank) {
  return guarded([&] {
    given("octet_communicator_check", "communicator", communicator);
    require_range("octet_communicator_check", "rank", rank, 0, communicator->group.ranks() - 1);
    communicator->group.check(rank);
  });
}

octet_status octet_communicator_abort(octet_communicator* communicator) {
  return guarded([&] { given("octet_communicator_abort", "communicator", communicator)->group.abort(); });
}

octet_status octet_communicator_destroy(octet_communicator* communicator) {
  return guarded([&] {
    given("octet_communicator_destroy", "communicator", communicator);
    for (octet_device* device : communicator->devices) device->communicators--;
    delete communicator;
  });
}

// ---- the simulator's counters ----

octet_status octet_sim_counters(octet_device* device, octet_kernel_counters* entries, int32_t* count) {
  return guarded([&] {
    given("octet_sim_counters", "device", device);
    given("octet_sim_counters", "count", count);
    const std::vector<octet_kernel_counters> rows = device->driver->counters();
    const auto needed = static_cast<int32_t>(rows.size());
    if (entries != nullptr) {
      require(*count >= needed, "octet_sim_counters: room for %d rows, needs %d", *count, needed);
      std::copy(rows.begin(), rows.end(), entries);
    }
    *count = needed;
  });
}

octet_status octet_sim_reset_counters(octet_device* device) {
  return guarded([&] {
    given("octet_sim_reset_counters", "device", device);
    device->driver->reset_counters();
  });
}

// ---- what a kernel is, and what an op launches ----

int32_t octet_image_count(void) {
  int32_t count = 0;
  while (images[count].family != nullptr) count++;
  return count;
}

octet_status octet_image(int32_t index, const char** family, const char** target, const void** data, int64_t* size) {
  return guarded([&] {
    require_range("octet_image", "index", index, 0, octet_image_count() - 1);
    const Image& image = images[index];
    *given("octet_image", "family", family) = image.family;
    *given("octet_image", "target", target) = image.target;
    *given("octet_image", "data", data) = image.data;
    *given("octet_image", "size", size) = static_cast<int64_t>(image.size);
  });
}

octet_status octet_plan_launches(octet_device* device, octet_planned_launch* entries, int32_t* count) {
  return guarded([&] {
    given("octet_plan_launches", "device", device);
    given("octet_plan_launches", "count", count);
    const auto needed = static_cast<int32_t>(device->driver->launches(false).size());
    if (entries != nullptr) {
      require(*count >= needed, "octet_plan_launches: room for %d launches, needs %d", *count, needed);
      const std::vector<octet_planned_launch> planned = device->driver->launches(true);
      std::copy(planned.begin(), planned.end(), entries);
    }
    *count = needed;
  });
}

octet_status octet_noop(octet_stream* stream) {
  return guarded([&] { given("octet_noop", "stream", stream); });
}
