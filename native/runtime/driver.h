// What a kernel family needs of the machine: a device's facts and one launch function. Behind it, four drivers (hip.cpp,
// cuda.cpp, sim.cpp, plan.cpp) implement one small interface.
#pragma once

#include <octet.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace octet {

enum class Target { gfx942, gfx950, sm_90 };
constexpr const char* target_name(Target target) {
  return target == Target::gfx942 ? "gfx942" : target == Target::gfx950 ? "gfx950" : "sm_90";
}

struct DeviceFacts {
  std::string name;           // "AMD Instinct MI325X"
  Target target;
  octet_dtype fp8;            // FNUZ on gfx942, OCP elsewhere
  int wave_size;              // 64 or 32
  int compute_units;
  int shared_memory;          // bytes of LDS one block may use
  int64_t total_memory;       // bytes
  int runtime_version = 0;    // of the vendor's runtime, as it numbers itself
};

// Blocks. x may be up to 2^31-1 with x * threads < 2^32 (HIP counts threads in 32 bits); y and z up to 65,535.
struct Grid {
  uint32_t x = 1, y = 1, z = 1;
};
constexpr int64_t max_blocks(int threads) { return UINT32_MAX / threads; }

// The facts of the device a handle belongs to (octet.cpp).
const DeviceFacts& facts(const octet_device* device);
const DeviceFacts& facts(const octet_stream* stream);

// Enqueues `kernel` (its extern "C" name) on the stream: `waves` waves a block, lds_bytes of dynamic LDS, params copied.
// An empty grid does nothing. Throws Error.
void launch_bytes(octet_stream* stream, const char* kernel, Grid grid, int waves, size_t lds_bytes, const void* params,
                  size_t params_size);

template <class Params>
void launch(octet_stream* stream, const char* kernel, Grid grid, int waves, size_t lds_bytes, const Params& params) {
  launch_bytes(stream, kernel, grid, waves, lds_bytes, &params, sizeof(Params));
}

// ---- the interface of a driver ----

// The library that adds over a vendor's devices (rccl.cpp).
struct CollectiveLibrary {
  const char* name;        // "rccl"; a vendor's own
  const char* file;        // the names it is found by; null: there is none
  const char* other_file;
  const char* package;     // what brings it
  int ordinal;             // the device's number there; -1: as its rank
};

class Driver {
 public:
  virtual ~Driver() = default;
  DeviceFacts facts;

  // Bytes nobody holds. A device that this process has for itself has all but the live ones.
  virtual int64_t free_memory(int64_t live_bytes);
  // Lets kernels of this device access the other's memory; false where they do not reach each other.
  virtual bool enable_peer(Driver& other);
  // Throws where nobody adds over such devices.
  virtual CollectiveLibrary collectives() const;
  virtual void* allocate(int64_t size, octet_memory_kind kind) = 0;
  virtual void release(void* pointer, octet_memory_kind kind) noexcept = 0;

  // A null stream is the device's default stream everywhere.
  virtual void* stream_create() = 0;
  virtual void stream_borrow(void*) {}  // throws where the native stream cannot be one of this device
  virtual void stream_destroy(void* stream) noexcept = 0;
  virtual void stream_synchronize(void* stream) = 0;
  virtual void stream_wait(void* stream, void* event) = 0;

  virtual void copy(void* stream, void* destination, const void* source, int64_t size, octet_copy_kind kind) = 0;
  virtual void fill(void* stream, void* destination, int byte, int64_t size) = 0;
  virtual void launch(void* stream, const char* kernel, Grid grid, int threads, size_t lds_bytes, const void* params,
                      size_t params_size) = 0;
  // Lets another library enqueue on the stream, given as its native handle, what writes [memory, memory + size).
  virtual void call(void* stream, void* memory, int64_t size, std::function<void(void*)> enqueue);

  virtual void* event_create() = 0;
  virtual void event_destroy(void* event) noexcept = 0;
  virtual void event_record(void* event, void* stream) = 0;
  virtual void event_synchronize(void* event) = 0;
  virtual float event_elapsed(void* start, void* stop) = 0;

  virtual void graph_begin(void* stream) = 0;
  virtual void* graph_end(void* stream) = 0;
  virtual void graph_launch(void* graph, void* stream) = 0;
  virtual void graph_destroy(void* graph) noexcept = 0;

  // The simulator's counters, one row per kernel; a real device has none.
  virtual std::vector<octet_kernel_counters> counters();
  virtual void reset_counters();

  // What the ops on a planned device launched; no other device writes it down.
  virtual std::vector<octet_planned_launch> launches(bool forget);
};

// How many devices the driver sees; throws Error(OCTET_NO_DEVICE) with the reason where its runtime is absent.
int hip_count();
int cuda_count();
std::unique_ptr<Driver> open_hip(int ordinal);
std::unique_ptr<Driver> open_cuda(int ordinal);
std::unique_ptr<Driver> open_sim(Target target);
std::unique_ptr<Driver> open_plan(Target target);  // gfx942 or gfx950

}  // namespace octet
