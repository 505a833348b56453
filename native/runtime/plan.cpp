// The plan driver: a device of a GPU's size that has no memory and runs nothing. Buffers are addresses only, of any size, but
// for pinned ones, which are the host's to write; and a launch is written down instead: what an op would launch for a shape,
// told by its own launcher on any machine.
#include <cstdlib>
#include <mutex>

#include "../sim/runner.h"
#include "check.h"
#include "driver.h"

namespace octet {

namespace {

class PlanDriver final : public Driver {
 public:
  explicit PlanDriver(Target target) {
    const bool cdna3 = target == Target::gfx942;
    facts.target = target;
    facts.name = cdna3 ? "planned gfx942" : "planned gfx950";
    facts.fp8 = cdna3 ? OCTET_F8_E4M3_FNUZ : OCTET_F8_E4M3;
    facts.wave_size = 64;
    facts.compute_units = cdna3 ? 304 : 256;
    facts.shared_memory = cdna3 ? 64 << 10 : 160 << 10;
    facts.total_memory = int64_t{256} << 30;
  }

  // Addresses that are never reused, so that no two buffers overlap; nothing is behind them.
  void* allocate(int64_t size, octet_memory_kind kind) override {
    const uint64_t bytes = (static_cast<uint64_t>(size) + alignment) / alignment * alignment;
    if (kind == OCTET_PINNED_MEMORY) {
      void* memory = std::aligned_alloc(alignment, bytes);
      if (memory == nullptr)
        fail(OCTET_OUT_OF_MEMORY, "plan: the host has no %lld bytes left", static_cast<long long>(size));
      return memory;
    }
    const std::lock_guard lock(mutex_);
    const uint64_t address = next_;
    if (bytes > limit - next_)
      fail(OCTET_OUT_OF_MEMORY, "plan: no %lld bytes of addresses left", static_cast<long long>(size));
    next_ += bytes;
    return reinterpret_cast<void*>(address);
  }
  void release(void* memory, octet_memory_kind kind) noexcept override {
    if (kind == OCTET_PINNED_MEMORY) std::free(memory);
  }

  void* stream_create() override { return nullptr; }
  void stream_destroy(void*) noexcept override {}
  void stream_synchronize(void*) override {}
  void stream_wait(void*, void*) override {}
  void copy(void*, void*, const void*, int64_t, octet_copy_kind kind) override {
    require(kind != OCTET_DEVICE_TO_HOST, "plan: a planned device has no memory to read back");
  }
  void fill(void*, void*, int, int64_t) override {}

  void launch(void*, const char* kernel, Grid grid, int threads, size_t lds_bytes, const void*, size_t params_size) override {
    sim::require_launch(sim::find_kernel(facts.target, kernel), threads, params_size);
    octet_planned_launch planned{};
    std::snprintf(planned.kernel, sizeof(planned.kernel), "%s", kernel);
    planned.blocks = int64_t{grid.x} * grid.y * grid.z;
    planned.lds_bytes = static_cast<int64_t>(lds_bytes);
    planned.threads = threads;
    const std::lock_guard lock(mutex_);
    launches_.push_back(planned);
  }
  std::vector<octet_planned_launch> launches(bool forget) override {
    const std::lock_guard lock(mutex_);
    std::vector<octet_planned_launch> recorded = launches_;
    if (forget) launches_.clear();
    return recorded;
  }

  void* event_create() override { unsupported("events"); }
  void event_destroy(void*) noexcept override {}
  void event_record(void*, void*) override {}
  void event_synchronize(void*) override {}
  float event_elapsed(void*, void*) override { unsupported("events"); }
  void graph_begin(void*) override { unsupported("graphs"); }
  void* graph_end(void*) override { unsupported("graphs"); }
  void graph_launch(void*, void*) override { unsupported("graphs"); }
  void graph_destroy(void*) noexcept override {}

 private:
  static constexpr uint64_t alignment = 256, limit = uint64_t{1} << 47;

  [[noreturn]] static void unsupported(const char* what) {
    fail(OCTET_UNSUPPORTED, "plan: a planned device has no %s", what);
  }

  std::vector<octet_planned_launch> launches_;
  uint64_t next_ = alignment;
  std::mutex mutex_;
};

}  // namespace

std::unique_ptr<Driver> open_plan(Target target) { return std::make_unique<PlanDriver>(target); }

}  // namespace octet
