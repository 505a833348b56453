// Simulated devices that reach one another's memory: signals between them, and what waits for whom.
//
// Each device runs its launches on the threads of its host thread's calls; a block that waits for a signal is set aside, so
// that other blocks of its launch run, and its thread sleeps until some counter changes. A wait that can never end is found
// and reported: no device that could store the counter is running, and none has stored one for a while.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "memory.h"
#include "shared_shadow.h"

namespace octet::sim {

// What a lane that waits looks at.
struct Watch {
  Place place;
  uintptr_t counter = 0;
};

// A device among its peers.
struct Peer {
  Peer(int number, std::string target, std::shared_ptr<Memory> memory)
      : number(number), target(std::move(target)), memory(std::move(memory)) {}
  std::string name() const { return "device " + std::to_string(number) + " (" + target + ")"; }
  // The reached peer in whose live buffers the range lies, or null. Called by this device's launches.
  const Peer* owner(uintptr_t address, size_t size) const {
    for (const auto& other : reached)
      if (other->memory->contains(address, size)) return other.get();
    return nullptr;
  }

  const int number;  // in the order in which devices of the process became peers
  const std::string target;
  const std::shared_ptr<Memory> memory;
  std::vector<std::shared_ptr<Peer>> reached;  // whose memory this device's kernels may access

  // Guarded by Peers' mutex.
  const char* kernel = nullptr;          // in flight
  int threads = 0, waiting_threads = 0;  // that run it; of them, those with nothing left but blocks that wait
  Watch watch;                           // what one of them waits for
  bool has_faulted = false;              // its last launch ended in a fault: its host thread is not expected again
  uint64_t step = 0;                     // the last that was begun
  Knowledge known;                       // to the next step: all steps before it, and what those knew
};

// What the devices of the process share: counters, waits, who has a kernel in flight, and who touched which bytes.
class Peers {
 public:
  // No counter stored for so long, and every device waits: none ever will be.
  static constexpr std::chrono::milliseconds deadlock_patience{1000};

  static Peers& all();

  std::shared_ptr<Peer> add(std::string target, std::shared_ptr<Memory> memory);
  void remove(const Peer& peer);
  void enable(Peer& device, const std::shared_ptr<Peer>& reached);

  // ---- launches of a peer ----
  // What the launch knows when it begins; its step is peer.step.
  Knowledge begin(Peer& peer, const char* kernel, int threads);
  void thread_ends(Peer& peer);
  void end(Peer& peer, bool has_faulted);

  // ---- accesses ----
  // Enters what a block touched, each with what its wave knows (by its index). False if one races with an earlier access
  // of another device: `race` is then the two.
  struct Race {
    Touch touch, other;
  };
  bool enter(const std::vector<Touch>& touches, const std::vector<const Knowledge*>& known, Race& race);
  // A block that has ended knows so much.
  void learn(Peer& peer, const Knowledge& known);
  // A copy or fill as a step of its own. Throws OCTET_KERNEL_FAULT if it races.
  void host_touches(Peer& peer, const char* what, uintptr_t address, size_t size, bool writes);
  // The host waited for all steps of the device.
  void host_synchronizes(const Peer& peer);
  // A buffer is freed.
  void forget(uintptr_t address, size_t size);
  // "device 1 (gfx942), kernel group_sync, block (0, 0, 0), thread 3 (wave 0, lane 3), collective.hip:70"
  std::string describe(const Place& place);
  // "byte 64 of a buffer of 512 bytes of device 1 (gfx942)"
  std::string describe(uintptr_t address);

  // ---- signals ----
  // released: what the storing wave has released, or null.
  void store(const Place& place, std::shared_ptr<const Knowledge> released, uint32_t* counter, uint32_t value);
  // Adds to `seen` what was released with the value.
  uint32_t load(const uint32_t* counter, Knowledge& seen);
  // The host's copies to signal memory, in the midst of launches.
  template <class Body>
  void host_writes(uintptr_t address, size_t size, Body&& body) {
    const std::lock_guard lock(mutex_);
    body();
    forget_signals(address, size);
    changed();
  }

  // Grows with every signal.
  uint64_t generation();
  // Sleeps until the generation is another one, or for a moment. True if the wait can never end: every device waits, or
  // there is one without a kernel in flight, and nothing has changed for `idle_patience`.
  bool await(Peer& peer, uint64_t generation, const Watch& watch, std::chrono::milliseconds idle_patience);
  // Who waits for whom, for the report of a wait that never ends.
  std::string describe(const Peer& peer, const Watch& watch);

 private:
  struct Signal {
    Place stored_by;
    std::shared_ptr<const Knowledge> released;
  };

  void changed();
  void forget_signals(uintptr_t address, size_t size);
  std::vector<std::shared_ptr<Peer>> group_of(const Peer& peer) const;

  std::mutex mutex_;
  std::condition_variable change_;
  uint64_t generation_ = 0;
  std::chrono::steady_clock::time_point last_change_{};
  int next_number_ = 0;
  std::vector<std::shared_ptr<Peer>> peers_;
  std::unordered_map<uintptr_t, Signal> signals_;  // the last of each counter
  SharedShadow shadow_;
  Knowledge host_;  // what the host waited for
};

}  // namespace octet::sim
