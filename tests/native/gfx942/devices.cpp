#include "devices.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace octet::gfx942 {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// GFX942_EMULATOR_DEVICES: 1 to 8, 1 where it is not set; of another value there is no device.
std::vector<std::unique_ptr<Device>> make_devices() {
  const char* text = std::getenv("GFX942_EMULATOR_DEVICES");
  const int count = text == nullptr ? 1 : std::atoi(text);
  std::vector<std::unique_ptr<Device>> devices;
  if (count < 1 || count > 8)
    std::fprintf(stderr, "gfx942 emulator: GFX942_EMULATOR_DEVICES is '%s', must be 1 to 8\n", text);
  else
    for (int number = 0; number < count; number++) devices.push_back(std::make_unique<Device>(Device{number}));
  return devices;
}

// GFX942_EMULATOR_PATIENCE_MS: how long a kernel may pause while nothing else runs.
milliseconds patience() {
  static const milliseconds limit = [] {
    const char* text = std::getenv("GFX942_EMULATOR_PATIENCE_MS");
    return milliseconds(text == nullptr ? 30'000 : std::atoi(text));
  }();
  return limit;
}
// NOTE: between two looks of a waiting kernel at what it waits for: long enough to leave the processor to its peers.
constexpr std::chrono::microseconds pause_time{50};
// A kernel that has not paused for so long works.
constexpr milliseconds pause_validity{1000};

}  // namespace

World& world = *[] {
  auto* made = new World;
  made->devices = make_devices();
  return made;
}();

// ---- memory ----

namespace {

bool reaches(const Device& device, const Buffer& buffer) {
  if (buffer.device == &device || buffer.is_portable) return true;
  return !buffer.is_pinned && device.peers.contains(buffer.device);
}

const Buffer* find_buffer(const void* pointer, size_t size) {
  const auto address = reinterpret_cast<uint64_t>(pointer);
  auto after = world.buffers.upper_bound(address);
  if (after == world.buffers.begin()) return nullptr;
  --after;
  return address + size <= after->first + after->second.size ? &after->second : nullptr;
}

}  // namespace

void* allocate(Device& device, size_t size, bool is_pinned, bool is_portable) {
  if (size > total_memory - device.live_bytes) return nullptr;
  const size_t rounded = (size + 255) / 256 * 256;
  void* pointer = std::aligned_alloc(4096, (rounded + 4095) / 4096 * 4096);
  if (pointer == nullptr) return nullptr;
  std::fill_n(static_cast<uint32_t*>(pointer), rounded / 4, poison);
  world.buffers[reinterpret_cast<uint64_t>(pointer)] = {size, &device, is_pinned, is_portable};
  device.live_bytes += size;
  return pointer;
}

Error release(Device& device, void* pointer, bool is_pinned) {
  if (pointer == nullptr) return success;
  const auto found = world.buffers.find(reinterpret_cast<uint64_t>(pointer));
  if (found == world.buffers.end() || found->second.is_pinned != is_pinned) return invalid_value;
  const Buffer& buffer = found->second;
  if (buffer.device != &device) {
    std::fprintf(stderr, "gfx942 emulator: hip:%d frees memory of hip:%d\n", device.number, buffer.device->number);
    return invalid_value;
  }
  device.live_bytes -= buffer.size;
  // What still reads it reads poison: later launches do not reach it, and peers' kernels that run may.
  std::fill_n(static_cast<uint32_t*>(pointer), (buffer.size + 255) / 256 * 64, poison);
  world.buffers.erase(found);
  if (world.running == 0)
    std::free(pointer);
  else
    world.freed.push_back(pointer);
  return success;
}

bool is_allocated(const void* pointer, size_t size) { return find_buffer(pointer, size) != nullptr; }
bool is_reached(const Device& device, const void* pointer, size_t size) {
  const Buffer* buffer = find_buffer(pointer, size);
  return buffer != nullptr && reaches(device, *buffer);
}

// ---- pauses ----

namespace {

std::string state_of(const Device& device) {
  std::string state;
  for (const Stream* stream : device.streams) {
    if (stream->queue.empty()) continue;
    const Work& first = stream->queue.front();
    state += state.empty() ? "" : ", ";
    state += stream->is_running ? "waits in " + first.kernel : "waits for an event";
  }
  if (device.fault != success) state = "has failed";
  return "hip:" + std::to_string(device.number) + " " + (state.empty() ? "has nothing to run" : state);
}

bool is_at_work(const Stream& stream, Clock::time_point now) {
  return stream.is_running && !(stream.is_pausing && now - stream.paused_at < pause_validity);
}

// Nobody does anything that could end the pause.
bool is_in_vain(Clock::time_point now) {
  if (now - world.last_progress <= patience()) return false;
  for (const auto& device : world.devices)
    for (const Stream* stream : device->streams)
      if (is_at_work(*stream, now)) return false;
  return true;
}

void pause(Stream& stream) {
  {
    const std::lock_guard lock(world.mutex);
    const Clock::time_point now = Clock::now();
    if (!stream.is_pausing) {
      stream.is_pausing = true;
      world.pausing++;
      world.changed.notify_all();
    }
    stream.paused_at = now;
    if (is_in_vain(now)) {
      std::string others;
      for (const auto& device : world.devices)
        if (device.get() != stream.device) others += "; " + state_of(*device);
      fault("pauses for a peer that never comes: nothing else has run for %lld ms%s",
            static_cast<long long>(patience().count()), others.c_str());
    }
  }
  std::this_thread::sleep_for(pause_time);
}

}  // namespace

Surroundings surroundings_of(Stream& stream) {
  Surroundings all;
  all.pause = [&stream] { pause(stream); };
  const std::lock_guard lock(world.mutex);
  for (const auto& [address, buffer] : world.buffers) {
    const Range range{address, address + buffer.size};
    if (reaches(*stream.device, buffer))
      all.memory.push_back(range);
    else
      all.out_of_reach.push_back({range, buffer.device->number});
  }
  return all;
}

// ---- streams ----

namespace {

bool is_ready(const Stream& stream) {
  if (stream.queue.empty() || (stream.done >= stream.wanted && world.pausing == 0)) return false;
  const Work& first = stream.queue.front();
  return first.after == nullptr || first.after->done >= first.position;
}

void run_first(Stream& stream) {
  Work& work = stream.queue.front();
  stream.is_running = true;
  world.running++;
  Error fault = success;
  if (stream.device->fault == success) {
    world.mutex.unlock();
    try {
      work.run(stream);
    } catch (const std::exception& problem) {
      std::fprintf(stderr, "gfx942 emulator: hip:%d: %s\n", stream.device->number, problem.what());
      fault = launch_failure;
    }
    world.mutex.lock();
  }
  // A fault is no progress: who waits for the device in vain says so at the same time.
  if (fault != success)
    stream.device->fault = fault;
  else
    world.last_progress = Clock::now();
  stream.queue.pop_front();
  stream.done++;
  stream.is_running = false;
  if (stream.is_pausing) world.pausing--;
  stream.is_pausing = false;
  if (--world.running == 0) {
    for (void* pointer : world.freed) std::free(pointer);
    world.freed.clear();
  }
  world.changed.notify_all();
}

void serve(std::unique_ptr<Stream> stream) {
  const std::lock_guard lock(world.mutex);
  while (true) {
    world.changed.wait(world.mutex, [&] { return stream->is_closing || is_ready(*stream); });
    if (stream->is_closing) return;
    run_first(*stream);
  }
}

// Work that waits for another stream wants that one's, too.
void want(Stream& stream, uint64_t position) {
  if (stream.wanted >= position) return;
  const uint64_t first = std::max(stream.wanted, stream.done);
  stream.wanted = position;
  for (uint64_t i = first; i < position; i++) {
    const Work& work = stream.queue[i - stream.done];
    if (work.after != nullptr) want(*work.after, work.position);
  }
}

}  // namespace

Stream* open_stream(Device& device) {
  auto stream = std::make_unique<Stream>(Stream{.device = &device});
  Stream* opened = stream.get();
  device.streams.push_back(opened);
  std::thread(serve, std::move(stream)).detach();
  return opened;
}

void close_stream(Stream& stream) {
  std::erase(stream.device->streams, &stream);
  for (const auto& device : world.devices)
    for (Stream* other : device->streams)
      for (Work& work : other->queue)
        if (work.after == &stream) work.after = nullptr;
  stream.is_closing = true;
  world.changed.notify_all();
}

void enqueue(Stream& stream, Work work) {
  stream.queue.push_back(std::move(work));
  stream.queued++;
  world.last_progress = Clock::now();
  if (world.pausing != 0) world.changed.notify_all();
}

void finish(Stream& stream, uint64_t position) {
  want(stream, position);
  world.changed.notify_all();
  world.changed.wait(world.mutex, [&] { return stream.done >= position; });
}
void finish(Stream& stream) { finish(stream, stream.queued); }
// NOTE: streams may be closed meanwhile, by other threads.
void finish(Device& device) {
  for (Stream* stream : device.streams) want(*stream, stream->queued);
  world.changed.notify_all();
  const auto is_done = [](const Stream* stream) { return stream->done >= stream->wanted; };
  world.changed.wait(world.mutex, [&] { return std::all_of(device.streams.begin(), device.streams.end(), is_done); });
}

}  // namespace octet::gfx942
