#include "runner.h"

#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstring>
#include <new>
#include <unordered_map>

#include "../runtime/check.h"

extern OctetSimKernel __start_octet_kernels[] __attribute__((visibility("hidden")));
extern OctetSimKernel __stop_octet_kernels[] __attribute__((visibility("hidden")));

namespace octet::sim {

namespace context = boost::context::detail;

thread_local constinit Lane* current_lane = nullptr;
thread_local constinit Runner* current_runner = nullptr;

namespace {

// NOTE: kernels are compiled with -Wframe-larger-than=32768 as an error and everything is inlined into them, so a lane
// cannot outgrow its stack. The tops are shifted against each other: at equal offsets the stacks of a wave would all
// fall into the same cache sets.
constexpr size_t stack_bytes = 64 << 10;
constexpr size_t stack_colours = 4096;
constexpr size_t stack_colour_step = 5 * 64;

constexpr size_t lds_capacity = 256 << 10;

const char* meeting_name(Meeting kind) {
  switch (kind) {
    case Meeting::none:
      return "nothing";
    case Meeting::barrier:
      return "__syncthreads";
    case Meeting::wave_barrier:
      return "wave_sync";
    case Meeting::shuffle:
      return "a shuffle";
    case Meeting::ballot:
      return "__ballot";
    case Meeting::mma_fp8:
      return "an FP8 matrix instruction";
    case Meeting::mma_bf16:
      return "a bf16 matrix instruction";
    case Meeting::release:
      return "system_release";
    case Meeting::acquire:
      return "system_acquire";
  }
  return "";
}

// Meetings of the lanes that are left; the others want the whole wave.
bool takes_part_of_a_wave(Meeting kind) {
  return kind == Meeting::wave_barrier || kind == Meeting::ballot || kind == Meeting::release || kind == Meeting::acquire;
}

char* map_bytes(size_t size) {
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<char*>(p);
}

std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* text, ...) {
  char buffer[512];
  va_list values;
  va_start(values, text);
  std::vsnprintf(buffer, sizeof(buffer), text, values);
  va_end(values);
  return buffer;
}

}  // namespace

const OctetSimKernel& find_kernel(Target target, const char* name) {
  static const auto table = [] {
    std::unordered_map<std::string, const OctetSimKernel*> built;
    for (const OctetSimKernel* k = __start_octet_kernels; k < __stop_octet_kernels; k++)
      built.emplace(std::to_string(k->target) + k->name, k);
    return built;
  }();
  const auto found = table.find(std::to_string(static_cast<int>(target)) + name);
  if (found == table.end()) fail(OCTET_INTERNAL, "no kernel %s for target %d", name, static_cast<int>(target));
  return *found->second;
}

void require_launch(const OctetSimKernel& kernel, int threads, size_t params_size) {
  if (params_size != kernel.params_size || threads > kernel.max_threads)
    fail(OCTET_INTERNAL, "%s: launched with %zu bytes of parameters and %d threads, made for %zu and at most %d",
         kernel.name, params_size, threads, kernel.params_size, kernel.max_threads);
}

Runner::Runner() {
  lds_mapping_ = map_bytes(lds_capacity + 2 * lds_guard);
  lds = lds_mapping_ + lds_guard;
  lds_pages_ = std::make_unique<ShadowPage[]>(lds_capacity / ShadowPage::bytes);
  log_ = std::make_unique_for_overwrite<LogEntry[]>(64 * log_stride);
}

Runner::~Runner() {
  for (char* stack : stacks_) munmap(stack, stack_bytes);
  munmap(lds_mapping_, lds_capacity + 2 * lds_guard);
}

Counters Runner::take_counters() {
  const Counters taken = counters;
  counters = {};
  return taken;
}

// ---- fibers ----

void Runner::reserve(int threads) {
  while (static_cast<int>(stacks_.size()) < threads) stacks_.push_back(map_bytes(stack_bytes));
  lanes.resize(static_cast<size_t>(threads));
}

void Runner::prepare() {
  const int threads = launch->threads, size = launch->wave_size;
  reserve(threads);
  waves.assign(static_cast<size_t>(threads / size), Wave{});
  for (size_t w = 0; w < waves.size(); w++) {
    Wave& wave = waves[w];
    wave.index = static_cast<int>(w);
    wave.size = wave.live = size;
    wave.lanes = wave.resume = &lanes[w * static_cast<size_t>(size)];
    wave.sync_clock = clock;
    for (int i = 0; i < size; i++) {
      Lane& lane = wave.lanes[i];
      const size_t thread = static_cast<size_t>(wave.index * size + i);
      char* stack = stacks_[thread];
      char* top = stack + stack_bytes - thread * stack_colour_step % stack_colours;
      lane = Lane{};
      lane.wave = &wave;
      lane.index = i;
      lane.thread = static_cast<int>(thread);
      lane.log_end = log_of(i);
      lane.log_limit = lane.log_end + log_capacity;
      lane.next = &wave.lanes[(i + 1) % size];
      lane.previous = &wave.lanes[(i + size - 1) % size];
      lane.stack_low = reinterpret_cast<uintptr_t>(stack);
      lane.stack_high = reinterpret_cast<uintptr_t>(stack + stack_bytes);
      lane.context = context::make_fcontext(top, static_cast<size_t>(top - stack), [](context::transfer_t transfer) {
        lane_main(transfer.fctx, transfer.data);
      });
    }
  }
}

// data of a jump: the lane that was left; its context is stored by the one that was entered.
void Runner::switch_to(Lane& to) {
  Lane* from = current_lane;
  current_lane = &to;
  const context::transfer_t back = context::jump_fcontext(to.context, from);
  static_cast<Lane*>(back.data)->context = back.fctx;
}

void Runner::lane_main(void* from_context, void* data) {
  static_cast<Lane*>(data)->context = from_context;
  Runner& runner = *current_runner;
  runner.launch->kernel->run(runner.launch->params);
  runner.leave(*current_lane);
  __builtin_unreachable();
}

Outcome Runner::run(const Launch& which, uint64_t number, Fault& fault) {
  launch = &which;
  block = number;
  block_index[0] = static_cast<uint32_t>(number % which.grid.x);
  block_index[1] = static_cast<uint32_t>(number / which.grid.x % which.grid.y);
  block_index[2] = static_cast<uint32_t>(number / which.grid.x / which.grid.y);
  // Uninitialised LDS is NaN in every type, so that it shows even where the checks are off, and the same on every run.
  std::memset(lds, 0xFF, which.lds_bytes);
  if (clock > clock_limit / 2) {
    // Half of the clock is left for this block.
    clock = 0;
    for (size_t i = 0; i < lds_capacity / ShadowPage::bytes; i++) lds_pages_[i] = ShadowPage();
    pool_.forget();
  }
  barrier_clock = block_clock_ = ++clock;
  prepare();
  if (is_ordered()) {
    known_ = *which.known;
    orders_ = std::vector<WaveOrder>(waves.size());
    published_ = block_clock_;
  }
  parked_waves_ = paused_waves_ = exited_lanes_ = 0;
  live_waves_ = static_cast<int>(waves.size());
  barrier_first_ = nullptr;
  return enter(*waves[0].resume, fault);
}

Outcome Runner::resume(Fault& fault) { return enter(*waiting_lane_, fault); }

Outcome Runner::enter(Lane& lane, Fault& fault) {
  fault_ = &fault;
  faulted_ = false;
  waiting_lane_ = nullptr;
  Runner* const outer = current_runner;
  current_runner = this;
  current_lane = &scheduler_;
  switch_to(lane);
  current_lane = nullptr;
  current_runner = outer;
  if (faulted_) return Outcome::faulted;
  if (waiting_lane_ != nullptr) return Outcome::waits;
  counters.blocks++;
  return Outcome::ended;
}

void Runner::abandon(const Fault& fault) {
  *fault_ = fault;
  faulted_ = true;
  judging_ = false;
  switch_to(scheduler_);
  __builtin_unreachable();
}

void Runner::stop(const Lane& lane, uintptr_t site, const std::string& what) {
  // What the wave did before may be the cause, and is then what to report.
  if (!judging_) judge_log(*lane.wave, Until::all_is_read);
  abandon({.block = block, .thread = lane.thread, .site = site, .address = 0, .what = what});
}

// ---- meetings ----

void Runner::meet(Lane& lane, Meeting kind, uintptr_t site) {
  Wave& wave = *lane.wave;
  if (wave.waiting == 0) {
    wave.pending = kind;
    wave.site = site;
    wave.first_waiting = &lane;
  } else if (wave.pending != kind || wave.site != site) {
    stop(
        lane, site,
        format("divergence: this lane waits at %s, but thread %d of the same wave waits at %s%s", meeting_name(kind),
               wave.first_waiting->thread, wave.pending == kind ? "another call of " : "", meeting_name(wave.pending)));
  }
  if (kind == Meeting::barrier) {
    if (exited_lanes_ > 0)
      stop(lane, site,
           format("divergent barrier: %d of the block's %d threads have left the kernel", exited_lanes_,
                  launch->threads));
    if (barrier_first_ == nullptr) {
      barrier_first_ = &lane;
      barrier_site_ = site;
    } else if (barrier_site_ != site) {
      stop(lane, site, format("divergent barrier: thread %d waits at another __syncthreads", barrier_first_->thread));
    }
  } else if (!takes_part_of_a_wave(kind) && wave.live < wave.size) {
    stop(lane, site,
         format("divergence: %s with %d of the wave's %d lanes gone", meeting_name(kind), wave.size - wave.live,
                wave.size));
  }

  wave.waiting++;
  flush_if_all_stand(wave);
  if (wave.waiting < wave.live) {
    const uint32_t before = wave.meetings;
    do {
      switch_to(*lane.next);
    } while (wave.meetings == before);
  } else if (kind == Meeting::barrier) {
    park(wave);
  } else {
    complete(wave);
  }
}

// All lanes of the wave have met: the others go on when their turn comes.
void Runner::complete(Wave& wave) {
  judge_log(wave, Until::all_is_read);
  wave.waiting = 0;
  wave.meetings++;
  if (wave.pending == Meeting::wave_barrier || wave.pending == Meeting::release || wave.pending == Meeting::acquire)
    wave.sync_clock = tick();
  if (!is_ordered()) return;
  if (wave.pending == Meeting::release) release(wave);
  if (wave.pending == Meeting::acquire) acquire(wave);
}

// A lane whose log is full stands until the other lanes have come as far, so that the wave's instructions stay whole.
void Runner::log_full(Lane& lane) {
  lane.wave->full++;
  flush_if_all_stand(*lane.wave);
  while (lane.log_end == lane.log_limit) switch_to(*lane.next);
}

// The lane looks for a signal that has not come. The other lanes of its wave go on first, then the other waves; when all
// have paused, the block comes back to its thread.
void Runner::pause(Lane& lane) {
  Wave& wave = *lane.wave;
  if (++wave.pauses < wave.live) {
    if (lane.next != &lane) switch_to(*lane.next);
    return;
  }
  wave.pauses = 0;
  wave.resume = &lane;
  const int others = live_waves_ - parked_waves_ - 1;
  if (++paused_waves_ <= others) {
    next_wave(wave);
    return;
  }
  paused_waves_ = 0;
  waiting_lane_ = &lane;
  switch_to(scheduler_);
}

Place Runner::place_of(const Lane& lane, uintptr_t site) const {
  return {launch->peer == nullptr ? -1 : launch->peer->number, launch->kernel->name, launch->grid, launch->wave_size, block, lane.thread, site};
}

Watch Runner::watch() const {
  for (const Wave& wave : waves)
    for (int i = 0; i < wave.size; i++)
      if (const Lane& lane = wave.lanes[i]; lane.has_to_wait)
        return {place_of(lane, lane.counter_site), reinterpret_cast<uintptr_t>(lane.counter)};
  return {place_of(*waiting_lane_, 0), 0};
}

void Runner::flush_if_all_stand(Wave& wave) {
  if (wave.full == 0 || wave.waiting + wave.full < wave.live) return;
  judge_log(wave, Until::a_full_log_is_read);
  wave.full = 0;
  for (int i = 0; i < wave.size; i++) wave.full += wave.lanes[i].log_end == wave.lanes[i].log_limit;
}

uint64_t Runner::tick() {
  if (clock + 1 == clock_limit)
    stop(*current_lane, 0,
         format("a block of more than %llu barriers and wave_syncs", static_cast<unsigned long long>(clock_limit / 2)));
  return ++clock;
}

void Runner::park(Wave& wave) {
  complete(wave);
  wave.parked = true;
  wave.resume = wave.lanes;
  if (++parked_waves_ < live_waves_) {
    next_wave(wave);
    return;
  }
  counters.barriers++;
  barrier_clock = tick();
  if (is_ordered()) barrier_orders();
  barrier_first_ = nullptr;
  parked_waves_ = 0;
  for (Wave& each : waves) {
    each.parked = false;
    each.sync_clock = clock;
  }
  if (current_lane != waves[0].resume) switch_to(*waves[0].resume);
}

// Goes on with the wave after this one that can run. One exists: the block is neither finished nor all parked.
void Runner::next_wave(Wave& after) {
  size_t w = static_cast<size_t>(after.index);
  do {
    w = (w + 1) % waves.size();
  } while (waves[w].parked || waves[w].live == 0);
  switch_to(*waves[w].resume);
}

void Runner::leave(Lane& lane) {
  Wave& wave = *lane.wave;
  exited_lanes_++;
  if (barrier_first_ != nullptr)
    stop(*barrier_first_, barrier_site_,
         format("divergent barrier: thread %d has left the kernel while this one waits", lane.thread));
  if (wave.waiting > 0 && !takes_part_of_a_wave(wave.pending))
    stop(*wave.first_waiting, wave.site,
         format("divergence: thread %d has left the kernel while this lane of its wave waits at %s", lane.thread,
                meeting_name(wave.pending)));
  lane.next->previous = lane.previous;
  lane.previous->next = lane.next;
  wave.live--;
  if (wave.live > 0) {
    flush_if_all_stand(wave);
    if (wave.waiting == wave.live) complete(wave);
    switch_to(*lane.next);
    return;
  }
  judge_log(wave, Until::all_is_read);
  if (--live_waves_ > 0)
    next_wave(wave);
  else
    switch_to(scheduler_);
}

}  // namespace octet::sim
