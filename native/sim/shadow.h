// Who touched which bytes since when: the memory of the race checker, for one block.
//
// Two accesses to a byte by different lanes of a block, at least one a write, race unless a block barrier lies between
// them, or a wave_sync where both lanes belong to one wave. Two atomic accesses never race, and order nothing. That is
// the rule on every target: lanes of a gfx9 wave execute in lockstep and lanes of an sm_90 warp need not, but in both
// cases only the fences inside wave_sync keep the compiler from moving one lane's access across another's, whose
// address it cannot see. Shuffles, ballots and matrix instructions have no such fence (ds_bpermute is no memory
// operation to the compiler, shfl.sync promises no memory ordering), so they order nothing here. Equal values make no
// difference.
//
// A block's logical clock grows at every barrier and wave_sync. Each word of four bytes has a cell for its last writer
// and one for its readers; a word of which only some bytes are accessed is split into cells for each byte. As lanes run
// in turn and only ordered accesses are forgotten, nothing is missed: the last writer and the set of readers (one lane,
// several lanes of a wave, several waves) since the last barrier decide every case.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "access.h"

namespace octet::sim {

// clock: 25 | thread: 10 | four flags | site: 25. The clock is on top, so that one comparison tells what is ordered.
using Cell = uint64_t;
constexpr int clock_shift = 39, thread_shift = 29;
constexpr Cell many_lanes = Cell{1} << 25;  // of the wave of `thread`
constexpr Cell many_waves = Cell{1} << 26;
constexpr Cell by_atomic = Cell{1} << 27;
constexpr Cell split_word = Cell{1} << 28;  // in a writer's cell: the bytes have cells of their own
constexpr uint64_t clock_limit = uint64_t{1} << (64 - clock_shift);
constexpr Cell site_mask = (Cell{1} << site_bits) - 1;

inline int cell_thread(Cell cell) { return static_cast<int>(cell >> thread_shift & 1023); }
inline uint32_t cell_site(Cell cell) { return static_cast<uint32_t>(cell & site_mask); }
// A site that does not fit, beyond 32 MiB of this library, is left out.
inline Cell make_cell(uint64_t clock, int thread, uint32_t site) {
  return clock << clock_shift | static_cast<Cell>(thread) << thread_shift | (site <= site_mask ? site : 0);
}

// What is ordered before the accesses of a wave now: cells below these values.
struct Moment {
  Cell barrier;    // for every lane of the block
  Cell sync;       // for lanes of the same wave
  Cell block;      // before this block began
  int wave_shift;  // log2 of the lanes of a wave
};

// What is wrong with an access, if anything; with: the cell of the earlier access it races with.
struct Verdict {
  enum Kind : uint8_t { right, unwritten, races_with_write, races_with_read } kind = right;
  Cell with = 0;
};

// The shadow of 4096 bytes.
class ShadowPage {
 public:
  static constexpr uint32_t bytes = 4096;

  // The access [offset, offset + size) of the lane whose cell is `me`. In LDS (lds) what is read must have been written
  // in this block.
  template <Access kind, bool lds>
  Verdict touch(uint32_t offset, uint32_t size, const Moment& now, Cell me);

  bool is_split(uint32_t offset) const { return (writers_[offset / 4] & split_word) != 0; }
  Cell writer(uint32_t offset) const { return is_split(offset) ? split_->writers[offset] : writers_[offset / 4]; }
  Cell reader(uint32_t offset) const { return is_split(offset) ? split_->readers[offset] : readers_[offset / 4]; }

  // Bytes this block has accessed, 64 a word. In global memory only.
  uint64_t read[64] = {}, written[64] = {}, updated[64] = {};
  uintptr_t base = 0;  // the page's first address
  uint32_t era = 0;    // of the pool's clock

 private:
  struct Bytes {
    Cell writers[bytes], readers[bytes];
  };
  template <Access kind, bool lds>
  Verdict touch_split(uint32_t offset, uint32_t size, const Moment& now, Cell me);

  Cell writers_[bytes / 4] = {}, readers_[bytes / 4] = {};
  std::unique_ptr<Bytes> split_;
};

// The pages of global memory one block has touched. Pages of finished blocks come back through `give_back` from
// whichever thread has entered them in the ledger; they need no clearing but of their bits, since the clock only grows.
class PagePool {
 public:
  ShadowPage* take();
  void give_back(ShadowPage* page);
  // The clock starts anew: pages of before are cleared when they are taken again.
  void forget();

 private:
  std::mutex mutex_;
  uint32_t era_ = 0;
  std::vector<std::unique_ptr<ShadowPage>> all_;
  std::vector<ShadowPage*> free_;
};

class BlockPages {
 public:
  explicit BlockPages(PagePool& pool) : pool_(pool) {}
  // The page of an address.
  ShadowPage& at(uintptr_t address) {
    const uintptr_t number = address / ShadowPage::bytes;
    Slot& slot = slots_[number % slot_count];
    return slot.number == number ? *slot.page : find(number);
  }
  // All pages, in the order of their first access.
  const std::vector<ShadowPage*>& all() const { return pages_; }
  // The same; the block is then empty again.
  std::vector<ShadowPage*> take();

 private:
  struct Slot {
    uintptr_t number = 0;
    ShadowPage* page = nullptr;
  };
  ShadowPage& find(uintptr_t number);

  static constexpr size_t slot_count = 512;
  Slot slots_[slot_count];
  std::unordered_map<uintptr_t, ShadowPage*> map_;
  std::vector<ShadowPage*> pages_;
  PagePool& pool_;
};

// ---- the rule, for a unit of memory (a word or a byte) ----

inline bool same_lane(Cell cell, Cell me) {
  return ((cell ^ me) >> thread_shift & 1023) == 0 && (cell & (many_lanes | many_waves)) == 0;
}
inline bool same_wave(Cell cell, Cell me, const Moment& now) {
  return (((cell ^ me) >> thread_shift & 1023) >> now.wave_shift) == 0 && (cell & many_waves) == 0;
}
inline bool ordered(Cell cell, Cell me, const Moment& now) {
  return cell < now.barrier || (cell < now.sync && same_wave(cell, me, now));
}
// The set of lanes in `cell`, and this one.
inline Cell joined(Cell cell, Cell me, const Moment& now) {
  constexpr Cell below_clock = (Cell{1} << clock_shift) - 1;
  const Cell more =
      same_wave(cell, me, now) ? (((cell ^ me) >> thread_shift & 1023) == 0 ? 0 : many_lanes) : many_waves;
  return (me & ~below_clock) | (cell & below_clock) | more;
}

template <Access kind, bool lds>
inline Verdict touch_unit(Cell& writer, Cell& reader, const Moment& now, Cell me) {
  if constexpr (lds && reads(kind))
    if (writer < now.block) return {Verdict::unwritten, 0};
  const bool writer_ordered = ordered(writer, me, now);
  const bool writer_harmless =
      writer_ordered || same_lane(writer, me) || (is_atomic(kind) && (writer & by_atomic) != 0);
  if (!writer_harmless) return {Verdict::races_with_write, writer};
  if constexpr (kind == Access::read) {
    reader = ordered(reader, me, now) || same_lane(reader, me) ? me : joined(reader, me, now);
  } else if constexpr (kind != Access::atomic_load) {
    // NOTE: an atomic load leaves no trace. As a reader it would race with atomic stores, which it does not.
    if (!ordered(reader, me, now) && !same_lane(reader, me)) return {Verdict::races_with_read, reader};
    if constexpr (kind == Access::write)
      writer = me;
    else if (writer_ordered)
      writer = me | by_atomic;
    else if ((writer & by_atomic) != 0)
      writer = joined(writer, me, now);
    // else this lane has written it plainly since the last barrier: that stays the access others may race with.
  }
  return {};
}

template <Access kind, bool lds>
inline Verdict ShadowPage::touch(uint32_t offset, uint32_t size, const Moment& now, Cell me) {
  uint32_t end = offset + size;
  if ((offset | size) % 4 != 0) {
    // The ragged ends byte by byte.
    const uint32_t head = offset % 4 == 0 ? 0 : (4 - offset % 4 < size ? 4 - offset % 4 : size);
    if (head > 0) {
      const Verdict verdict = touch_split<kind, lds>(offset, head, now, me);
      if (verdict.kind != Verdict::right) return verdict;
      offset += head;
    }
    const uint32_t tail = (end - offset) % 4;
    if (tail > 0) {
      const Verdict verdict = touch_split<kind, lds>(end - tail, tail, now, me);
      if (verdict.kind != Verdict::right) return verdict;
      end -= tail;
    }
  }
  for (; offset < end; offset += 4) {
    Cell& writer = writers_[offset / 4];
    Cell& reader = readers_[offset / 4];
    if ((writer & split_word) != 0) {
      const Verdict verdict = touch_split<kind, lds>(offset, 4, now, me);
      if (verdict.kind != Verdict::right) return verdict;
    } else if (kind == Access::read && writer < now.barrier && reader < now.barrier && (!lds || writer >= now.block)) {
      reader = me;
    } else if (kind == Access::write && writer < now.barrier && reader < now.barrier) {
      writer = me;
    } else {
      const Verdict verdict = touch_unit<kind, lds>(writer, reader, now, me);
      if (verdict.kind != Verdict::right) return verdict;
    }
  }
  return {};
}

// Within one word, by its bytes.
template <Access kind, bool lds>
Verdict ShadowPage::touch_split(uint32_t offset, uint32_t size, const Moment& now, Cell me) {
  constexpr Cell below_clock = (Cell{1} << clock_shift) - 1;
  Cell& writer = writers_[offset / 4];
  Cell& reader = readers_[offset / 4];
  const uint32_t word = offset / 4 * 4;
  if ((writer & split_word) == 0) {
    if (split_ == nullptr) split_ = std::make_unique<Bytes>();
    for (uint32_t i = word; i < word + 4; i++) {
      split_->writers[i] = writer;
      split_->readers[i] = reader;
    }
  } else if (size == 4 && writer < now.barrier) {
    // Everything in the word is ordered before: it becomes whole again.
    const auto [first, last] = std::minmax_element(split_->writers + word, split_->writers + word + 4);
    if (lds && reads(kind) && *first < now.block) return {Verdict::unwritten, 0};
    writer = *last;
    reader = *std::max_element(split_->readers + word, split_->readers + word + 4);
    return touch_unit<kind, lds>(writer, reader, now, me);
  }
  for (uint32_t i = offset; i < offset + size; i++) {
    const Verdict verdict = touch_unit<kind, lds>(split_->writers[i], split_->readers[i], now, me);
    if (verdict.kind != Verdict::right) return verdict;
  }
  writer = (me & ~below_clock) | split_word;
  return {};
}

}  // namespace octet::sim
