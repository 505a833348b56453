#include "peers.h"

#include <algorithm>

#include "../runtime/check.h"
#include "source_line.h"

namespace octet::sim {

namespace {

using Clock = std::chrono::steady_clock;

std::string lane_of(const Place& place) {
  return lane_name(place.grid, place.wave_size, place.block, place.thread) + ", " + source_line(place.site);
}

}  // namespace

Peers& Peers::all() {
  static Peers peers;
  return peers;
}

std::shared_ptr<Peer> Peers::add(std::string target, std::shared_ptr<Memory> memory) {
  const std::lock_guard lock(mutex_);
  if (peers_.empty()) {
    next_number_ = 0;
    shadow_.clear();
    host_ = {};
  }
  peers_.push_back(std::make_shared<Peer>(next_number_++, std::move(target), std::move(memory)));
  return peers_.back();
}

void Peers::remove(const Peer& peer) {
  const std::lock_guard lock(mutex_);
  std::erase_if(signals_, [&](const auto& signal) { return peer.memory->in_range(signal.first); });
  for (const auto& other : peers_) std::erase_if(other->reached, [&](const auto& reached) { return reached.get() == &peer; });
  std::erase_if(peers_, [&](const auto& other) { return other.get() == &peer; });
}

void Peers::enable(Peer& device, const std::shared_ptr<Peer>& reached) {
  const std::lock_guard lock(mutex_);
  if (std::find(device.reached.begin(), device.reached.end(), reached) == device.reached.end())
    device.reached.push_back(reached);
}

Knowledge Peers::begin(Peer& peer, const char* kernel, int threads) {
  const std::lock_guard lock(mutex_);
  peer.step++;
  peer.known.learn(host_);
  peer.kernel = kernel;
  peer.threads = threads;
  peer.waiting_threads = 0;
  peer.has_faulted = false;
  last_change_ = Clock::now();
  return peer.known;
}

void Peers::thread_ends(Peer& peer) {
  const std::lock_guard lock(mutex_);
  peer.threads--;
}

void Peers::end(Peer& peer, bool has_faulted) {
  const std::lock_guard lock(mutex_);
  peer.kernel = nullptr;
  peer.has_faulted = has_faulted;
  peer.known.learn_step(peer.number, peer.step);
  last_change_ = Clock::now();
}

void Peers::changed() {
  generation_++;
  last_change_ = Clock::now();
  change_.notify_all();
}

void Peers::forget_signals(uintptr_t address, size_t size) {
  std::erase_if(signals_, [&](const auto& signal) { return signal.first - address < size; });
}

void Peers::forget(uintptr_t address, size_t size) {
  const std::lock_guard lock(mutex_);
  shadow_.forget(address, size);
  forget_signals(address, size);
}

bool Peers::enter(const std::vector<Touch>& touches, const std::vector<const Knowledge*>& known, Race& race) {
  const std::lock_guard lock(mutex_);
  for (const Touch& touch : touches)
    if (!shadow_.enter(touch, *known[static_cast<size_t>(touch.place.wave())], race.other)) {
      race.touch = touch;
      return false;
    }
  return true;
}

void Peers::learn(Peer& peer, const Knowledge& known) {
  const std::lock_guard lock(mutex_);
  peer.known.learn(known);
}

void Peers::host_touches(Peer& peer, const char* what, uintptr_t address, size_t size, bool writes) {
  Touch other;
  {
    const std::lock_guard lock(mutex_);
    peer.step++;
    peer.known.learn(host_);
    Touch touch;
    touch.step = peer.step;
    touch.place.peer = peer.number;
    touch.place.kernel = what;
    touch.writes = writes;
    touch.by_step = true;
    const bool right = shadow_.enter_range(touch, address, size, peer.known, other);
    peer.known.learn_step(peer.number, peer.step);
    if (right) return;
  }
  fail(OCTET_KERNEL_FAULT, "%s on device %d (%s) races at %s with the %s by %s: no release and acquire order them", what,
       peer.number, peer.target.c_str(), describe(other.line).c_str(), other.writes ? "write" : "read",
       describe(other.place).c_str());
}

void Peers::host_synchronizes(const Peer& peer) {
  const std::lock_guard lock(mutex_);
  host_.learn(peer.known);
}

std::string Peers::describe(const Place& place) {
  std::string name = "device " + std::to_string(place.peer);
  {
    const std::lock_guard lock(mutex_);
    for (const auto& peer : peers_)
      if (peer->number == place.peer) name = peer->name();
  }
  if (place.site == 0) return name + ", " + place.kernel;
  return name + ", kernel " + place.kernel + ", " + lane_of(place);
}

std::string Peers::describe(uintptr_t address) {
  const std::lock_guard lock(mutex_);
  for (const auto& peer : peers_)
    if (peer->memory->in_range(address)) return peer->memory->place_of(address) + " of " + peer->name();
  return "no buffer";
}

void Peers::store(const Place& place, std::shared_ptr<const Knowledge> released, uint32_t* counter, uint32_t value) {
  const std::lock_guard lock(mutex_);
  signals_[reinterpret_cast<uintptr_t>(counter)] = {place, std::move(released)};
  __atomic_store_n(counter, value, __ATOMIC_RELAXED);
  changed();
}

uint32_t Peers::load(const uint32_t* counter, Knowledge& seen) {
  const std::lock_guard lock(mutex_);
  const auto found = signals_.find(reinterpret_cast<uintptr_t>(counter));
  if (found != signals_.end() && found->second.released != nullptr) seen.learn(*found->second.released);
  return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

uint64_t Peers::generation() {
  const std::lock_guard lock(mutex_);
  return generation_;
}

// All that reach one another, directly or through others.
std::vector<std::shared_ptr<Peer>> Peers::group_of(const Peer& peer) const {
  std::vector<std::shared_ptr<Peer>> group;
  const auto is_in = [&](const Peer& other) {
    return std::any_of(group.begin(), group.end(), [&](const auto& member) { return member.get() == &other; });
  };
  const auto touches = [&](const Peer& a, const Peer& b) {
    return std::any_of(a.reached.begin(), a.reached.end(), [&](const auto& reached) { return reached.get() == &b; });
  };
  for (bool grows = true; grows;) {
    grows = false;
    for (const auto& other : peers_) {
      const bool near = other.get() == &peer || std::any_of(group.begin(), group.end(), [&](const auto& member) {
                          return touches(*member, *other) || touches(*other, *member);
                        });
      if (!near || is_in(*other)) continue;
      group.push_back(other);
      grows = true;
    }
  }
  return group;
}

bool Peers::await(Peer& peer, uint64_t generation, const Watch& watch, std::chrono::milliseconds idle_patience) {
  std::unique_lock lock(mutex_);
  peer.waiting_threads++;
  peer.watch = watch;
  // NOTE: a kernel's own deadline passes without a signal, so a wait looks again after a moment.
  const bool has_changed = change_.wait_for(lock, std::chrono::milliseconds(5), [&] { return generation_ != generation; });
  bool never_ends = false;
  if (!has_changed) {
    bool all_wait = true, some_run = false;
    for (const auto& other : group_of(peer)) {
      const bool waits = other->kernel != nullptr && other->waiting_threads == other->threads;
      all_wait &= waits || (other->kernel == nullptr && other->has_faulted);
      some_run |= other->kernel != nullptr && !waits;
    }
    const auto patience = all_wait ? std::min(deadlock_patience, idle_patience) : idle_patience;
    never_ends = !some_run && Clock::now() - last_change_ > patience;
  }
  peer.waiting_threads--;
  return never_ends;
}

std::string Peers::describe(const Peer& peer, const Watch& watch) {
  std::vector<Peer> states;
  std::optional<Place> last;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& other : group_of(peer)) states.push_back(*other);
    if (const auto found = signals_.find(watch.counter); found != signals_.end()) last = found->second.stored_by;
  }
  const auto counter = [&](uintptr_t address) {
    const uint32_t value = __atomic_load_n(reinterpret_cast<const uint32_t*>(address), __ATOMIC_RELAXED);
    return "the counter at " + describe(address) + ", which stands at " + std::to_string(value);
  };
  std::string text = "waits for a signal that never comes: " + counter(watch.counter);
  text += last ? ", last stored by " + describe(*last) : ", never stored by a kernel";
  for (const Peer& other : states) {
    if (other.number == peer.number) continue;
    if (other.kernel != nullptr)
      text += "; " + describe(other.watch.place) + " waits too, for " + counter(other.watch.counter);
    else
      text += "; " + other.name() + (other.has_faulted ? " ended in a fault" : " has no kernel in flight");
  }
  return text;
}

}  // namespace octet::sim
