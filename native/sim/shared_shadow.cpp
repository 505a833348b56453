#include "shared_shadow.h"

#include <algorithm>

namespace octet::sim {

namespace {

// Whoever knows the one knows the other.
bool is_known_with(const Touch& a, const Touch& b) {
  return a.writes == b.writes && a.place.peer == b.place.peer && a.step == b.step && a.by_step == b.by_step &&
         (a.by_step || (a.place.block == b.place.block && a.place.wave() == b.place.wave() && a.clock == b.clock));
}

}  // namespace

bool Knowledge::knows(const Touch& touch) const {
  const auto peer = static_cast<size_t>(touch.place.peer);
  if (peer < steps_.size() && touch.step <= steps_[peer]) return true;
  return !touch.by_step && std::any_of(parts_.begin(), parts_.end(), [&](const Part& part) {
    return part.peer == touch.place.peer && part.step == touch.step && part.block == touch.place.block &&
           (touch.clock < part.barrier || (touch.place.wave() == part.wave && touch.clock < part.clock));
  });
}

void Knowledge::learn_step(int peer, uint64_t step) {
  const auto index = static_cast<size_t>(peer);
  if (steps_.size() <= index) steps_.resize(index + 1);
  steps_[index] = std::max(steps_[index], step);
  std::erase_if(parts_, [&](const Part& part) { return part.peer == peer && part.step <= steps_[index]; });
}

void Knowledge::learn(const Part& part) {
  const auto peer = static_cast<size_t>(part.peer);
  if (peer < steps_.size() && part.step <= steps_[peer]) return;
  for (Part& own : parts_)
    if (own.peer == part.peer && own.step == part.step && own.block == part.block && own.wave == part.wave) {
      own.barrier = std::max(own.barrier, part.barrier);
      own.clock = std::max(own.clock, part.clock);
      return;
    }
  parts_.push_back(part);
}

void Knowledge::learn(const Knowledge& other) {
  for (size_t peer = 0; peer < other.steps_.size(); peer++)
    if (other.steps_[peer] > 0) learn_step(static_cast<int>(peer), other.steps_[peer]);
  for (const Part& part : other.parts_) learn(part);
}

bool SharedShadow::enter(Line& line, const Touch& touch, const Knowledge& known, Touch& other) {
  for (const Touch& before : line)
    if (before.place.peer != touch.place.peer && (before.bytes & touch.bytes) != 0 && (before.writes || touch.writes) &&
        !known.knows(before)) {
      other = before;
      return false;
    }
  // A write takes the place of all before; a read that of its own device's reads in earlier steps.
  for (Touch& before : line)
    if (touch.writes || (!before.writes && before.place.peer == touch.place.peer && before.step < touch.step))
      before.bytes &= ~touch.bytes;
  std::erase_if(line, [](const Touch& before) { return before.bytes == 0; });
  for (Touch& before : line)
    if (is_known_with(before, touch)) {
      before.bytes |= touch.bytes;
      return true;
    }
  line.push_back(touch);
  return true;
}

bool SharedShadow::enter(const Touch& touch, const Knowledge& known, Touch& other) {
  Page& page = pages_[touch.line / page_bytes];
  if (page.lines == nullptr) {
    page.lines = std::make_unique<Line[]>(64);
    for (int i = 0; i < 64; i++) page.lines[i] = page.whole;
    page.whole.clear();
  }
  return enter(page.lines[touch.line % page_bytes / 64], touch, known, other);
}

bool SharedShadow::enter_range(Touch touch, uintptr_t address, size_t size, const Knowledge& known, Touch& other) {
  for (uintptr_t end = address + size; address < end;) {
    touch.line = address / 64 * 64;
    if (address % page_bytes == 0 && end - address >= page_bytes) {
      touch.bytes = ~uint64_t{0};
      Page& page = pages_[address / page_bytes];
      if (page.lines == nullptr) {
        if (!enter(page.whole, touch, known, other)) return false;
      } else {
        for (int i = 0; i < 64; i++)
          if (!enter(page.lines[i], touch, known, other)) return false;
        if (touch.writes) {
          page.lines.reset();
          page.whole.assign(1, touch);
        }
      }
      address += page_bytes;
      continue;
    }
    const uintptr_t taken = std::min(touch.line + 64, end) - address;
    touch.bytes = (taken == 64 ? ~uint64_t{0} : (uint64_t{1} << taken) - 1) << address % 64;
    if (!enter(touch, known, other)) return false;
    address += taken;
  }
  return true;
}

void SharedShadow::forget(uintptr_t address, size_t size) {
  // Buffers begin on pages of their own.
  const uintptr_t first = address / page_bytes, last = (address + size + page_bytes - 1) / page_bytes;
  if (last - first > pages_.size())
    std::erase_if(pages_, [&](const auto& page) { return page.first >= first && page.first < last; });
  else
    for (uintptr_t page = first; page < last; page++) pages_.erase(page);
}

}  // namespace octet::sim
