// The sim driver: a device whose memory and launches are simulated on the CPU. Streams run what they are given at once;
// a graph is a list of recorded steps. One launch runs at a time, its blocks on OCTET_SIM_THREADS threads (all cores by
// default) with the same results for every number of threads. OCTET_SIM_CHECKS=0 switches the checks off.
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "../sim/ledger.h"
#include "../sim/memory.h"
#include "../sim/peers.h"
#include "../sim/runner.h"
#include "../sim/source_line.h"
#include "check.h"
#include "driver.h"

namespace octet {

namespace {

using Clock = std::chrono::steady_clock;
using Step = std::function<void()>;

struct SimEvent {
  Clock::time_point time;
  bool recorded = false;
};

struct SimGraph {
  std::vector<Step> steps;
};

struct SimStream {
  bool capturing = false;
  std::vector<Step> steps;
};

// A value of the environment between low and high, else the default.
int environment(const char* name, int low, int high, int otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  require(end != text && *end == '\0' && value >= low && value <= high, "%s = '%s' must be a number %d..%d", name, text, low,
          high);
  return static_cast<int>(value);
}

// Threads that stay for the life of the device. run(n, work) calls work(0..n-1), one call on the caller's own thread.
class Workers {
 public:
  explicit Workers(int helpers) {
    for (int i = 0; i < helpers; i++) threads_.emplace_back([this, i] { serve(i + 1); });
  }
  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void run(int count, const std::function<void(int)>& work) {
    {
      const std::lock_guard lock(mutex_);
      work_ = &work;
      wanted_ = running_ = count - 1;
      round_++;
    }
    if (count > 1) wake_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return running_ == 0; });
  }

 private:
  void serve(int index) {
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return closing_ || (round_ != seen && index <= wanted_); });
      if (closing_) return;
      seen = round_;
      const auto* work = work_;
      lock.unlock();
      (*work)(index);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* work_ = nullptr;
  int wanted_ = 0, running_ = 0;
  uint64_t round_ = 0;
  bool closing_ = false;
};

class SimDriver final : public Driver {
 public:
  explicit SimDriver(Target target) {
    facts.target = target;
    facts.name = target == Target::gfx942 ? "simulated gfx942" : target == Target::gfx950 ? "simulated gfx950" : "simulated sm_90";
    facts.fp8 = target == Target::gfx942 ? OCTET_F8_E4M3_FNUZ : OCTET_F8_E4M3;
    facts.wave_size = target == Target::sm_90 ? 32 : 64;
    facts.compute_units = target == Target::gfx942 ? 304 : target == Target::gfx950 ? 256 : 132;
    facts.shared_memory = target == Target::gfx942 ? 64 << 10 : target == Target::gfx950 ? 160 << 10 : 227 << 10;
    facts.total_memory = sim::Memory::capacity;
    checks_ = environment("OCTET_SIM_CHECKS", 0, 1, 1) == 1;
    idle_patience_ = std::chrono::milliseconds(environment("OCTET_SIM_WAIT_MS", 1, 3'600'000, 60'000));
    const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    const int threads = environment("OCTET_SIM_THREADS", 1, 256, std::min(cores, 256));
    for (int i = 0; i < threads; i++) runners_.push_back(std::make_unique<sim::Runner>());
    workers_ = std::make_unique<Workers>(threads - 1);
  }
  ~SimDriver() override {
    if (peer_ != nullptr) sim::Peers::all().remove(*peer_);
  }

  bool enable_peer(Driver& other) override {
    auto* sim = dynamic_cast<SimDriver*>(&other);
    if (sim == nullptr) return false;
    const std::shared_ptr<sim::Peer> peer = as_peer();
    sim::Peers::all().enable(*peer, sim->as_peer());
    return true;
  }

  // Only a library that is named: one that adds what lies in the host's memory, at once.
  CollectiveLibrary collectives() const override { return {"sim", nullptr, nullptr, "one that does", -1}; }

  void* allocate(int64_t size, octet_memory_kind kind) override {
    if (kind == OCTET_DEVICE_MEMORY) return memory_->allocate(size);
    if (kind == OCTET_SIGNAL_MEMORY) {
      void* signals = memory_->allocate(size, true);
      std::memset(signals, 0, static_cast<size_t>(size));
      memory_->mark_written(reinterpret_cast<uintptr_t>(signals), static_cast<size_t>(size));
      return signals;
    }
    void* pointer = std::aligned_alloc(256, (static_cast<size_t>(size) + 256) / 256 * 256);
    if (pointer == nullptr)
      fail(OCTET_OUT_OF_MEMORY, "sim: no %lld bytes of host memory", static_cast<long long>(size));
    return pointer;
  }

  void release(void* pointer, octet_memory_kind kind) noexcept override {
    if (kind == OCTET_PINNED_MEMORY)
      std::free(pointer);
    else
      release_memory(pointer);
  }

  void* stream_create() override {
    auto made = std::make_unique<SimStream>();
    const std::lock_guard lock(streams_mutex_);
    streams_.insert(made.get());
    return made.release();
  }
  void stream_borrow(void* native) override {
    const std::lock_guard lock(streams_mutex_);
    require(native == nullptr || streams_.contains(static_cast<SimStream*>(native)),
            "octet_stream_borrow: %p is not a stream of this simulated device", native);
  }
  void stream_destroy(void* stream) noexcept override {
    const std::lock_guard lock(streams_mutex_);
    streams_.erase(static_cast<SimStream*>(stream));
    delete static_cast<SimStream*>(stream);
  }
  void stream_synchronize(void* stream) override {
    require(!of(stream).capturing, "octet_stream_synchronize: the stream is recording a graph");
    if (peer_ != nullptr) sim::Peers::all().host_synchronizes(*peer_);
  }
  void stream_wait(void*, void*) override {}  // whatever was recorded has already run

  void copy(void* stream, void* destination, const void* source, int64_t size, octet_copy_kind kind) override {
    const auto to = reinterpret_cast<uintptr_t>(destination), from = reinterpret_cast<uintptr_t>(source);
    const auto bytes = static_cast<size_t>(size);
    if (kind != OCTET_DEVICE_TO_HOST) require_device("destination", to, bytes);
    if (kind != OCTET_HOST_TO_DEVICE) require_device("source", from, bytes);
    const bool within = memory_->in_range(to) && memory_->in_range(from);
    submit(stream, kind == OCTET_DEVICE_TO_HOST ? from : to, bytes, [=, this] {
      if (kind != OCTET_HOST_TO_DEVICE) host_touches("a copy", from, bytes, false);
      if (kind != OCTET_DEVICE_TO_HOST) host_touches("a copy", to, bytes, true);
      std::memmove(destination, source, bytes);
      if (kind == OCTET_DEVICE_TO_DEVICE && within)
        memory_->copy_written(to, from, bytes);
      else if (kind != OCTET_DEVICE_TO_HOST)
        memory_of(to).mark_written(to, bytes);
    });
  }

  void fill(void* stream, void* destination, int byte, int64_t size) override {
    const auto to = reinterpret_cast<uintptr_t>(destination);
    const auto bytes = static_cast<size_t>(size);
    require_device("destination", to, bytes);
    submit(stream, to, bytes, [=, this] {
      host_touches("a fill", to, bytes, true);
      std::memset(destination, byte, bytes);
      memory_of(to).mark_written(to, bytes);
    });
  }

  void launch(void* stream, const char* kernel, Grid grid, int threads, size_t lds_bytes, const void* params,
              size_t params_size) override {
    const OctetSimKernel& record = sim::find_kernel(facts.target, kernel);
    sim::require_launch(record, threads, params_size);
    std::vector<char> bytes(static_cast<const char*>(params), static_cast<const char*>(params) + params_size);
    submit(stream, [=, this, &record, bytes = std::move(bytes)] {
      run(sim::Launch{&record, grid, threads, facts.wave_size, lds_bytes, bytes.data(), facts.fp8,
                      facts.target, memory_.get(), checks_, peer_.get()});
    });
  }

  void call(void* stream, void* memory, int64_t size, std::function<void(void*)> enqueue) override {
    const auto address = reinterpret_cast<uintptr_t>(memory);
    const auto bytes = static_cast<size_t>(size);
    require_device("memory of a call", address, bytes);
    submit(stream, [=, this] {
      host_touches("another library", address, bytes, true);
      enqueue(stream);
      memory_of(address).mark_written(address, bytes);
    });
  }

  void* event_create() override { return new SimEvent; }
  void event_destroy(void* event) noexcept override { delete static_cast<SimEvent*>(event); }
  void event_record(void* event, void* stream) override {
    auto* recorded = static_cast<SimEvent*>(event);
    submit(stream, [recorded] {
      recorded->time = Clock::now();
      recorded->recorded = true;
    });
  }
  void event_synchronize(void*) override {}
  float event_elapsed(void* start, void* stop) override {
    const auto *from = static_cast<SimEvent*>(start), *to = static_cast<SimEvent*>(stop);
    require(from->recorded && to->recorded, "octet_event_elapsed: the %s event was never recorded",
            from->recorded ? "stop" : "start");
    return std::chrono::duration<float, std::milli>(to->time - from->time).count();
  }

  void graph_begin(void* stream) override {
    require(stream != nullptr, "octet_graph_begin: the default stream cannot record");
    require(!of(stream).capturing, "octet_graph_begin: the stream is already recording");
    of(stream).capturing = true;
  }
  void* graph_end(void* stream) override {
    require(of(stream).capturing, "octet_graph_end: the stream is not recording");
    of(stream).capturing = false;
    return new SimGraph{std::exchange(of(stream).steps, {})};
  }
  void graph_launch(void* graph, void* stream) override {
    require(!of(stream).capturing, "octet_graph_launch: the stream is recording");
    for (const Step& step : static_cast<SimGraph*>(graph)->steps) {
      const std::lock_guard lock(mutex_);
      step();
    }
  }
  void graph_destroy(void* graph) noexcept override { delete static_cast<SimGraph*>(graph); }

  std::vector<octet_kernel_counters> counters() override {
    const std::lock_guard lock(mutex_);
    std::vector<octet_kernel_counters> rows;
    for (const auto& [name, c] : counters_) {
      octet_kernel_counters row{};
      std::snprintf(row.kernel, sizeof(row.kernel), "%s", name.c_str());
      row.launches = c.launches;
      row.blocks = c.blocks;
      row.global_read_bytes = c.global_read_bytes;
      row.global_write_bytes = c.global_write_bytes;
      row.global_transactions = c.global_transactions;
      row.lds_accesses = c.lds_accesses;
      row.lds_bank_conflicts = c.lds_bank_conflicts;
      row.mfma = c.mfma;
      row.barriers = c.barriers;
      rows.push_back(row);
    }
    return rows;
  }
  void reset_counters() override {
    const std::lock_guard lock(mutex_);
    counters_.clear();
  }

 private:
  SimStream& of(void* stream) { return stream == nullptr ? default_stream_ : *static_cast<SimStream*>(stream); }

  std::shared_ptr<sim::Peer> as_peer() {
    const std::lock_guard lock(mutex_);
    if (peer_ == nullptr) peer_ = sim::Peers::all().add(target_name(facts.target), memory_);
    return peer_;
  }

  // The memory of this device or of a peer that a live buffer lies in.
  sim::Memory& memory_of(uintptr_t address) const {
    const sim::Peer* owner = memory_->in_range(address) || peer_ == nullptr ? nullptr : peer_->owner(address, 1);
    return owner == nullptr ? *memory_ : *owner->memory;
  }

  void require_device(const char* what, uintptr_t address, size_t size) const {
    require(memory_of(address).contains(address, size), "sim: the %s, %zu bytes at %p, is not inside one live buffer: %s", what, size,
            reinterpret_cast<void*>(address), memory_->in_range(address) ? memory_->describe(address).c_str() : "host memory");
  }

  void host_touches(const char* what, uintptr_t address, size_t size, bool writes) {
    if (peer_ != nullptr && checks_ && !memory_of(address).for_signals(address))
      sim::Peers::all().host_touches(*peer_, what, address, size, writes);
  }

  void release_memory(void* pointer) noexcept {
    const int64_t size = memory_->release(pointer);
    if (peer_ != nullptr) sim::Peers::all().forget(reinterpret_cast<uintptr_t>(pointer), static_cast<size_t>(size));
  }

  // A copy or fill from or to [address, address + size). That of counters goes on beside a launch that waits for them.
  void submit(void* stream, uintptr_t address, size_t size, Step step) {
    if (!of(stream).capturing && memory_of(address).for_signals(address))
      sim::Peers::all().host_writes(address, size, step);
    else
      submit(stream, std::move(step));
  }

  void submit(void* stream, Step step) {
    if (of(stream).capturing) {
      of(stream).steps.push_back(std::move(step));
      return;
    }
    const std::lock_guard lock(mutex_);
    step();
  }

  // Blocks are handed out in ascending order. After a fault the blocks before it still run, so that the fault reported is
  // that of the lowest block whatever the number of threads. A block that waits for a signal is set aside on its thread.
  void run(sim::Launch launch) {
    const uint64_t blocks = launch.blocks();
    std::atomic<uint64_t> next{0}, limit{blocks};
    std::mutex fault_mutex;
    sim::Fault first;
    const auto report = [&](const sim::Fault& fault) {
      const std::lock_guard lock(fault_mutex);
      if (fault.block >= limit.load()) return;
      limit.store(fault.block);
      first = fault;
    };
    ledger_.begin(blocks);
    const int workers = static_cast<int>(std::min<uint64_t>(blocks, runners_.size()));
    sim::Knowledge known;
    if (launch.peer != nullptr) {
      known = sim::Peers::all().begin(*launch.peer, launch.kernel->name, workers);
      launch.step = launch.peer->step;
      launch.known = &known;
    }
    const std::function<void(int)> work = [&](int index) {
      sim::Runner* runner = runners_[static_cast<size_t>(index)].get();
      std::vector<sim::Runner*> waiting;
      const auto finish = [&](sim::Runner& of, sim::Outcome outcome, sim::Fault& fault) {
        if (outcome == sim::Outcome::ended && of.is_ordered() && !of.publish_all(fault)) outcome = sim::Outcome::faulted;
        if (outcome == sim::Outcome::faulted) {
          ledger_.stop_at(fault.block, of.take_pages(), of.pool());
          report(fault);
        } else if (launch.checks && !ledger_.enter(of.block, of.take_pages(), of.pool(), fault)) {
          report(fault);
        }
      };
      while (true) {
        const uint64_t block = next.fetch_add(1);
        if (block >= limit.load()) break;
        sim::Fault fault;
        sim::Outcome outcome = runner->run(launch, block, fault);
        if (outcome == sim::Outcome::waits && blocks > static_cast<uint64_t>(facts.compute_units)) {
          outcome = sim::Outcome::faulted;
          fault = stopped(*runner, "waits for a signal in a grid of " + std::to_string(blocks) + " blocks, of which only " +
                                       std::to_string(facts.compute_units) + " are sure to be resident");
        }
        if (outcome == sim::Outcome::waits) {
          ledger_.let_all_run_ahead();
          waiting.push_back(runner);
          runner = spare_runner();
        } else {
          finish(*runner, outcome, fault);
        }
      }
      while (!waiting.empty()) wait_for_signals(launch, waiting, limit, finish);
      if (launch.peer != nullptr) sim::Peers::all().thread_ends(*launch.peer);
    };
    workers_->run(workers, work);
    sim::Counters& total = counters_[launch.kernel->name];
    total.launches++;
    for (int i = 0; i < workers; i++) total.add(runners_[static_cast<size_t>(i)]->take_counters());
    for (const auto& spare : spares_) total.add(spare->take_counters());
    spares_in_use_ = 0;
    ledger_.end(*memory_, launch.peer);
    const bool has_faulted = limit.load() != blocks;
    if (launch.peer != nullptr) sim::Peers::all().end(*launch.peer, has_faulted);
    if (!has_faulted) return;
    fail(OCTET_KERNEL_FAULT, "kernel %s, %s, %s: %s%s", launch.kernel->name,
         sim::lane_name(launch.grid, launch.wave_size, first.block, first.thread).c_str(), sim::source_line(first.site).c_str(),
         first.what.c_str(), race_text(launch, first).c_str());
  }

  // Lets each of this thread's waiting blocks look once more; sleeps where none got further.
  template <class Finish>
  void wait_for_signals(const sim::Launch& launch, std::vector<sim::Runner*>& waiting, const std::atomic<uint64_t>& limit,
                        const Finish& finish) {
    sim::Peers& peers = sim::Peers::all();
    const uint64_t generation = peers.generation();
    const size_t before = waiting.size();
    for (size_t i = 0; i < waiting.size();) {
      sim::Runner& runner = *waiting[i];
      sim::Fault fault;
      sim::Outcome outcome = sim::Outcome::faulted;
      if (runner.block >= limit.load())
        fault = stopped(runner, "");  // behind the fault that is reported
      else
        outcome = runner.resume(fault);
      if (outcome == sim::Outcome::waits) {
        i++;
        continue;
      }
      waiting.erase(waiting.begin() + static_cast<ptrdiff_t>(i));
      finish(runner, outcome, fault);
    }
    if (waiting.size() < before) return;
    sim::Runner& runner = *waiting.front();
    const sim::Watch watch = runner.watch();
    std::string what;
    if (launch.peer == nullptr)
      what = "waits for a signal, and the device reaches no other";
    else if (peers.await(*launch.peer, generation, watch, idle_patience_))
      what = peers.describe(*launch.peer, watch);
    if (what.empty()) return;
    sim::Fault fault = stopped(runner, what);
    waiting.erase(waiting.begin());
    finish(runner, sim::Outcome::faulted, fault);
  }

  // The fault of a block that is given up while it waits.
  static sim::Fault stopped(const sim::Runner& runner, const std::string& what) {
    const sim::Place place = runner.watch().place;
    return {.block = place.block, .thread = place.thread, .site = place.site, .address = 0, .what = what};
  }

  sim::Runner* spare_runner() {
    const std::lock_guard lock(spares_mutex_);
    if (spares_in_use_ == spares_.size()) spares_.push_back(std::make_unique<sim::Runner>());
    return spares_[spares_in_use_++].get();
  }

  // " races with the read by thread 5 at moe.hip:12: ..."
  static std::string race_text(const sim::Launch& launch, const sim::Fault& fault) {
    if (fault.foreign)
      return std::string(" races with the ") + (fault.foreign_writes ? "write" : "read") + " by " +
             sim::Peers::all().describe(*fault.foreign) + ": no release and acquire order them";
    if (!fault.race) return "";
    const auto& race = *fault.race;
    std::string text = race.with_write ? " races with the write by " : " races with the read by ";
    if (race.block != fault.block) {
      text += sim::lane_name(launch.grid, launch.wave_size, race.block, race.thread) + " at " + sim::source_line(race.site);
      if (!race.with_write) text += ", the first to read in these 64 bytes";
      return text + ": blocks of one launch are not ordered";
    }
    const bool one_wave = race.thread / launch.wave_size == fault.thread / launch.wave_size;
    text += race.thread == fault.thread ? "this and other lanes" : "thread " + std::to_string(race.thread);
    return text + " at " + sim::source_line(race.site) +
           (one_wave ? ": no __syncthreads or wave_sync is between them" : ": no __syncthreads is between them");
  }

  const std::shared_ptr<sim::Memory> memory_ = std::make_shared<sim::Memory>();  // peers may look at it longer
  std::shared_ptr<sim::Peer> peer_;                                              // null: it reaches nobody, and nobody it
  sim::Ledger ledger_;
  std::vector<std::unique_ptr<sim::Runner>> runners_;  // one for each thread
  std::vector<std::unique_ptr<sim::Runner>> spares_;   // in the place of those whose block waits
  size_t spares_in_use_ = 0;
  std::mutex spares_mutex_;
  std::chrono::milliseconds idle_patience_;
  std::unique_ptr<Workers> workers_;
  std::map<std::string, sim::Counters> counters_;
  std::set<SimStream*> streams_;
  std::mutex streams_mutex_;  // a stream may be made while a launch waits
  SimStream default_stream_;
  std::mutex mutex_;  // one step at a time
  bool checks_ = true;
};

}  // namespace

std::unique_ptr<Driver> open_sim(Target target) { return std::make_unique<SimDriver>(target); }

}  // namespace octet
