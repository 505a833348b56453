// What a block makes known to other devices and learns from them (shared_shadow.h has the rule).
#include <bit>

#include "peers.h"
#include "runner.h"

namespace octet::sim {

// Enters what the block touched since it last did, behind a step of the clock. is_last: the block has ended, so that no release of its own can make
// these known.
bool Runner::publish(bool is_last, Fault& fault) {
  touches_.clear();
  const auto add = [&](const ShadowPage& page, uint32_t line, uint64_t bytes, Cell cell, bool writes) {
    const uint64_t since = cell >> clock_shift;
    if (since < published_) return;
    Touch touch;
    touch.line = page.base + line * 64;
    touch.bytes = bytes;
    touch.step = launch->step;
    touch.clock = since;
    touch.place = {launch->peer->number, launch->kernel->name, launch->grid, launch->wave_size, block, cell_thread(cell),
                   site_address(cell_site(cell))};
    touch.writes = writes;
    touch.by_step = is_last;
    if (!touches_.empty()) {
      Touch& last = touches_.back();
      if (last.line == touch.line && last.writes == writes && last.place.wave() == touch.place.wave() &&
          (is_last || last.clock == since)) {
        last.bytes |= bytes;
        return;
      }
    }
    touches_.push_back(touch);
  };
  // The cells of the bytes set in `bits`: one for a word, or one for each byte of a split word.
  const auto add_line = [&](const ShadowPage& page, uint32_t line, uint64_t bits, bool writes) {
    const auto cell = [&](uint32_t offset) { return writes ? page.writer(offset) : page.reader(offset); };
    while (bits != 0) {
      const auto bit = static_cast<uint32_t>(std::countr_zero(bits));
      const uint32_t offset = line * 64 + bit;
      const uint64_t unit = page.is_split(offset) ? uint64_t{1} << bit : uint64_t{15} << bit / 4 * 4;
      add(page, line, bits & unit, cell(offset), writes);
      bits &= ~unit;
    }
  };
  for (const ShadowPage* page : pages_.all())
    for (uint32_t line = 0; line < 64; line++) {
      add_line(*page, line, page->read[line], false);
      add_line(*page, line, page->written[line] | page->updated[line], true);
    }
  published_ = clock;
  if (touches_.empty()) return true;
  std::vector<const Knowledge*> known;
  for (const WaveOrder& order : orders_) known.push_back(order.own == nullptr ? &known_ : order.own.get());
  Peers::Race race;
  if (Peers::all().enter(touches_, known, race)) return true;
  const Touch& mine = race.touch;
  const uintptr_t address =
      mine.line + static_cast<uintptr_t>(std::countr_zero(mine.bytes & race.other.bytes));
  fault = {.block = block,
           .thread = mine.place.thread,
           .site = mine.place.site,
           .address = address,
           .what = std::string(mine.writes ? "write" : "read") + " at " + Peers::all().describe(address)};
  fault.foreign = race.other.place;
  fault.foreign_writes = race.other.writes;
  return false;
}

bool Runner::publish_all(Fault& fault) {
  if (!publish(true, fault)) return false;
  for (const WaveOrder& order : orders_)
    if (order.own != nullptr) Peers::all().learn(*launch->peer, *order.own);
  Peers::all().learn(*launch->peer, known_);
  return true;
}

void Runner::publish_or_abandon() {
  Fault fault;
  if (!publish(false, fault)) abandon(fault);
}

void Runner::release(Wave& wave) {
  publish_or_abandon();
  WaveOrder& order = orders_[static_cast<size_t>(wave.index)];
  auto released = std::make_shared<Knowledge>(order.own == nullptr ? known_ : *order.own);
  released->learn(Knowledge::Part{.peer = launch->peer->number,
                                  .wave = wave.index,
                                  .step = launch->step,
                                  .block = block,
                                  .barrier = barrier_clock,
                                  .clock = wave.sync_clock});
  order.released = std::move(released);
}

void Runner::acquire(Wave& wave) {
  publish_or_abandon();
  WaveOrder& order = orders_[static_cast<size_t>(wave.index)];
  if (order.own == nullptr) order.own = std::make_unique<Knowledge>(known_);
  order.own->learn(order.seen);
  order.seen = {};
}

// Behind a barrier every wave knows what one of them acquired.
void Runner::barrier_orders() {
  bool any = false;
  for (const WaveOrder& order : orders_) any |= order.own != nullptr;
  if (!any) return;
  publish_or_abandon();
  for (WaveOrder& order : orders_)
    if (order.own != nullptr) {
      known_.learn(*order.own);
      order.own.reset();
    }
}

}  // namespace octet::sim
