// The emulated devices behind HIP's interface: the memory each has and reaches, and what runs on their streams.
//
// A stream has a thread of its own, so kernels that wait for one another run at the same time. Work runs only when
// something waits for it, so that a missing wait shows; while a kernel pauses (s_sleep) whatever is queued runs, since
// that may be what the kernel waits for. A pause during which nothing else runs for long is a fault that names the
// kernel and says what the other devices do.
//
// Memory is the host's: what a device writes, its peers see at once. Whether accesses are ordered is for the simulator
// to say (native/sim).
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "run.h"

namespace octet::gfx942 {

using Error = int;  // hipError_t
constexpr Error success = 0, invalid_value = 1, launch_failure = 719;

constexpr size_t total_memory = size_t{16} << 30;  // of a device

struct Device;
struct Stream;

struct Work {
  std::function<void(Stream&)> run;  // with the lock free
  std::string kernel = {};           // empty: no launch
  Stream* after = nullptr;           // begins when that stream has done so many
  uint64_t position = 0;
};

struct Graph {
  Device* device;
  std::vector<Work> work;
};

struct Stream {
  Device* device;
  std::deque<Work> queue = {};  // the first is number `done`, and stays until it is done
  uint64_t queued = 0, done = 0;
  uint64_t wanted = 0;  // so many have to be done for somebody who waits
  bool is_running = false, is_pausing = false;
  std::chrono::steady_clock::time_point paused_at = {};
  bool is_closing = false;   // its thread ends, and the stream with it
  Graph* capture = nullptr;  // while recording
  bool is_origin = false;    // hipStreamBeginCapture was called on it
  bool invalidated = false;
};

struct Device {
  int number;
  size_t live_bytes = 0;
  std::set<const Device*> peers = {};  // whose memory it may touch
  std::vector<Stream*> streams = {};   // open
  Stream* default_stream = nullptr;    // opened when a thread first chooses the device
  Error fault = success;               // the first one; stays
};

struct Buffer {
  size_t size;
  Device* device;
  bool is_pinned;    // memory of the host
  bool is_portable;  // all devices reach it
};

struct World {
  std::mutex mutex;  // of everything below
  std::condition_variable_any changed;
  std::vector<std::unique_ptr<Device>> devices;
  std::map<uint64_t, Buffer> buffers;  // by address
  int running = 0, pausing = 0;        // streams
  std::vector<void*> freed;            // while something runs that may touch it still
  std::chrono::steady_clock::time_point last_progress;
};
// NOTE: never destroyed, as the threads of streams run until the process ends.
extern World& world;

// ---- memory ----

// Null where the device has not so much.
void* allocate(Device& device, size_t size, bool is_pinned, bool is_portable);
// invalid_value where it is no such buffer of the device. The device's streams are done.
Error release(Device& device, void* pointer, bool is_pinned);
// Whether the bytes lie in a buffer, and whether in one that the device may touch.
bool is_allocated(const void* pointer, size_t size);
bool is_reached(const Device& device, const void* pointer, size_t size);
Surroundings surroundings_of(Stream& stream);

// ---- streams; the lock is held ----

Stream* open_stream(Device& device);
// When all its work is done.
void close_stream(Stream& stream);
void enqueue(Stream& stream, Work work);
// Waits until the stream has done so many; without a number all that is queued now.
void finish(Stream& stream, uint64_t position);
void finish(Stream& stream);
void finish(Device& device);

}  // namespace octet::gfx942
