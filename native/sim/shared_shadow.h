// Which device touched which bytes since when: the memory of the race checker, for devices that reach one another.
//
// What a device does is a row of steps: launches, copies, fills. Two accesses to a byte by two devices, at least one a
// write, race unless one is known to the other: a release after the first, a counter stored behind it, the counter loaded,
// an acquire before the second. A step knows all steps of its own device before it and what those knew; a block that
// releases amid a launch makes known what its wave did, and what the block did before its last barrier; a block that
// acquires knows more from there on, its other waves behind the next barrier. The host orders too: what a stream was
// synchronised behind is known to every step that is enqueued later.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "../runtime/driver.h"

namespace octet::sim {

// A lane of some launch, and where in its kernel; of a copy or fill, what it is called.
struct Place {
  int peer = -1;
  const char* kernel = nullptr;
  Grid grid;
  int wave_size = 1;
  uint64_t block = 0;
  int thread = 0;
  uintptr_t site = 0;
  int wave() const { return thread / wave_size; }
};

// Bytes of one line of 64 that lanes of a wave touched between two of its meetings; one of them is named.
struct Touch {
  uintptr_t line = 0;  // the line's address
  uint64_t bytes = 0;  // a bit for each
  uint64_t step = 0;
  uint64_t clock = 0;  // of the block
  Place place;
  bool writes = false;
  bool by_step = false;  // no release amid its launch makes it known: it is when the whole step is
};

// What is known of what the devices did.
class Knowledge {
 public:
  // What a wave of a block released amid a launch.
  struct Part {
    int peer;
    int wave;
    uint64_t step, block;
    uint64_t barrier;  // of the block: everything before this clock
    uint64_t clock;    // of the wave: everything before this one
  };

  bool knows(const Touch& touch) const;
  void learn_step(int peer, uint64_t step);
  void learn(const Part& part);
  void learn(const Knowledge& other);

 private:
  std::vector<uint64_t> steps_;  // of each device: all its steps up to this one
  std::vector<Part> parts_;
};

class SharedShadow {
 public:
  // Enters an access that knows `known`. False if it races with an earlier one, which is then `other`.
  bool enter(const Touch& touch, const Knowledge& known, Touch& other);
  // The same for [address, address + size), of a copy or fill.
  bool enter_range(Touch touch, uintptr_t address, size_t size, const Knowledge& known, Touch& other);
  // The range is no buffer any more.
  void forget(uintptr_t address, size_t size);
  void clear() { pages_.clear(); }

 private:
  using Line = std::vector<Touch>;  // nobody's bytes twice, but for readers beside readers
  struct Page {
    Line whole;  // of every line, while all are alike
    std::unique_ptr<Line[]> lines;
  };
  static constexpr uintptr_t page_bytes = 4096;

  static bool enter(Line& line, const Touch& touch, const Knowledge& known, Touch& other);

  std::unordered_map<uintptr_t, Page> pages_;
};

}  // namespace octet::sim
