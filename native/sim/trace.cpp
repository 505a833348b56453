// Reads back what the lanes of a wave logged between two meetings: lanes that executed the same instruction together
// make one access of the wave, which is counted as the hardware would serve it, and judged lane by lane against what
// the block touched before.
//
// Which lanes execute together is found as on the hardware: of the instructions the lanes stand at, the lowest goes
// first, with every lane that stands there. So lanes that leave a loop early wait behind it, and the arms of a branch
// follow one another.
#include <bit>
#include <cstring>

#include "memory.h"
#include "runner.h"

namespace octet::sim {

namespace {

// Calls body(line, mask) for the 64-byte lines of a page under [offset, offset + size).
template <class Body>
void for_lines(uint32_t offset, uint32_t size, Body&& body) {
  while (size > 0) {
    const uint32_t shift = offset % 64, taken = std::min(64 - shift, size);
    body(offset / 64, (taken == 64 ? ~uint64_t{0} : (uint64_t{1} << taken) - 1) << shift);
    offset += taken;
    size -= taken;
  }
}

const char* name_of(Access kind) {
  switch (kind) {
    case Access::read:
      return "read";
    case Access::write:
      return "write";
    case Access::atomic:
      return "atomic update";
    case Access::atomic_load:
      return "atomic load";
    case Access::atomic_store:
      return "atomic store";
  }
  return "";
}

}  // namespace

// The lowest instruction a lane stands at; no_key when all logs are at their end.
uint32_t Runner::least_key(const Wave& wave, LogEntry* const* cursors) {
  uint32_t least = no_key;
  for (int i = 0; i < wave.size; i++) least = std::min(least, cursors[i]->key);
  return least;
}

// What the lanes that stand at access.key execute together.
void Runner::take_access(const Wave& wave, LogEntry** cursors, WaveAccess& access) {
  access.count = 0;
  for (int i = 0; i < wave.size; i++) {
    LogEntry*& entry = cursors[i];
    if (entry->key != access.key) continue;
    if (access.count == 0) access.size = entry->size;
    if (entry->size != access.size) continue;
    access.lanes[access.count] = static_cast<uint8_t>(i);
    access.addresses[access.count++] = entry->address;
    entry++;
  }
}

// Reads the logs to their ends, or only until that of a lane which goes on is read: what the lane does next belongs to
// what the others did last, which then stays in their logs.
void Runner::judge_log(Wave& wave, Until until) {
  LogEntry* cursors[64];
  bool any = false;
  for (int i = 0; i < wave.size; i++) {
    cursors[i] = log_of(i);
    any |= wave.lanes[i].log_end != cursors[i];
    wave.lanes[i].log_end->key = no_key;
  }
  if (!any) return;
  judging_ = true;
  const auto a_full_log_is_read = [&] {
    for (int i = 0; i < wave.size; i++)
      if (cursors[i] == wave.lanes[i].log_limit) return true;
    return false;
  };
  WaveAccess access;
  while ((access.key = least_key(wave, cursors)) != no_key) {
    if (until == Until::a_full_log_is_read && a_full_log_is_read()) break;
    take_access(wave, cursors, access);
    judge(wave, access);
  }
  judging_ = false;
  for (int i = 0; i < wave.size; i++) {
    Lane& lane = wave.lanes[i];
    const auto left = static_cast<size_t>(lane.log_end - cursors[i]);
    if (left > 0) std::memmove(log_of(i), cursors[i], left * sizeof(LogEntry));
    lane.log_end = log_of(i) + left;
  }
}

void Runner::judge(Wave& wave, const WaveAccess& access) {
  const Moment now = {.barrier = barrier_clock << clock_shift,
                      .sync = wave.sync_clock << clock_shift,
                      .block = block_clock_ << clock_shift,
                      .wave_shift = std::countr_zero(static_cast<unsigned>(wave.size))};
  const Access kind = key_kind(access.key);
  if (key_lds(access.key)) {
    counters.lds_accesses++;
    counters.lds_bank_conflicts += count_bank_conflicts(access, launch->target);
    switch (kind) {
      case Access::read:
        return judge_lds<Access::read>(wave, access, now);
      case Access::write:
        return judge_lds<Access::write>(wave, access, now);
      case Access::atomic:
        return judge_lds<Access::atomic>(wave, access, now);
      case Access::atomic_load:
        return judge_lds<Access::atomic_load>(wave, access, now);
      case Access::atomic_store:
        return judge_lds<Access::atomic_store>(wave, access, now);
    }
  }
  const int64_t bytes = int64_t{access.size} * access.count;
  if (reads(kind)) counters.global_read_bytes += bytes;
  if (kind != Access::read && kind != Access::atomic_load) counters.global_write_bytes += bytes;
  counters.global_transactions += count_lines(access);
  switch (kind) {
    case Access::read:
      return judge_global<Access::read>(wave, access, now);
    case Access::write:
      return judge_global<Access::write>(wave, access, now);
    case Access::atomic:
      return judge_global<Access::atomic>(wave, access, now);
    case Access::atomic_load:
      return judge_global<Access::atomic_load>(wave, access, now);
    case Access::atomic_store:
      return judge_global<Access::atomic_store>(wave, access, now);
  }
}

template <Access kind>
void Runner::judge_lds(Wave& wave, const WaveAccess& access, const Moment& now) {
  const Cell site = make_cell(clock, wave.index * wave.size, key_site(access.key));
  for (int i = 0; i < access.count; i++) {
    const Cell me = site + (static_cast<Cell>(access.lanes[i]) << thread_shift);
    auto offset = static_cast<uint32_t>(access.addresses[i]);
    for (uint32_t left = access.size; left > 0;) {
      const uint32_t within = offset % ShadowPage::bytes, taken = std::min(ShadowPage::bytes - within, left);
      const Verdict verdict = lds_pages_[offset / ShadowPage::bytes].touch<kind, true>(within, taken, now, me);
      if (verdict.kind != Verdict::right) report(wave, access, i, verdict);
      offset += taken;
      left -= taken;
    }
  }
}

// The memory a global address of the launch lies in.
Memory& Runner::memory_of(uintptr_t address) const {
  if (launch->memory->in_range(address)) [[likely]] return *launch->memory;
  for (const auto& other : launch->peer->reached)
    if (other->memory->in_range(address)) return *other->memory;
  __builtin_unreachable();
}

template <Access kind>
void Runner::judge_global(Wave& wave, const WaveAccess& access, const Moment& now) {
  const Cell site = make_cell(clock, wave.index * wave.size, key_site(access.key));
  for (int i = 0; i < access.count; i++) {
    const Cell me = site + (static_cast<Cell>(access.lanes[i]) << thread_shift);
    uintptr_t address = access.addresses[i];
    for (uint32_t left = access.size; left > 0;) {
      ShadowPage& page = pages_.at(address);
      const auto within = static_cast<uint32_t>(address % ShadowPage::bytes);
      const uint32_t taken = std::min(ShadowPage::bytes - within, left);
      if constexpr (reads(kind)) {
        const Memory& memory = memory_of(address);
        // What this block has written itself is entered in the memory's bits only after the launch.
        if (!memory.written(address, taken)) {
          bool own = true;
          for_lines(within, taken, [&](uint32_t line, uint64_t mask) {
            const uint64_t known =
                page.written[line] | page.updated[line] | memory.written_line(page.base + line * 64);
            own &= (known & mask) == mask;
          });
          if (!own) report(wave, access, i, {Verdict::unwritten, 0});
        }
      }
      uint64_t* bits = kind == Access::read ? page.read : kind == Access::write ? page.written : page.updated;
      if constexpr (kind != Access::atomic_load)
        for_lines(within, taken, [&](uint32_t line, uint64_t mask) { bits[line] |= mask; });
      const Verdict verdict = page.touch<kind, false>(within, taken, now, me);
      if (verdict.kind != Verdict::right) report(wave, access, i, verdict);
      address += taken;
      left -= taken;
    }
  }
}

void Runner::report(const Wave& wave, const WaveAccess& access, int i, const Verdict& verdict) {
  const bool in_lds = key_lds(access.key);
  const Access kind = key_kind(access.key);
  char text[160];
  if (in_lds)
    std::snprintf(text, sizeof(text), "%s of %u bytes at offset %zu of LDS", name_of(kind), access.size,
                  access.addresses[i]);
  else
    std::snprintf(text, sizeof(text), "%s of %u bytes at %p", name_of(kind), access.size,
                  reinterpret_cast<void*>(access.addresses[i]));
  Fault fault{.block = block,
              .thread = wave.index * wave.size + access.lanes[i],
              .site = site_address(key_site(access.key)),
              .address = access.addresses[i],
              .what = text};
  if (verdict.kind == Verdict::unwritten)
    fault.what += in_lds ? " that nobody in this block wrote" : " that nobody wrote before this launch, nor this block";
  else
    fault.race = Fault::Race{.with_write = verdict.kind == Verdict::races_with_write,
                             .block = block,
                             .thread = cell_thread(verdict.with),
                             .site = site_address(cell_site(verdict.with))};
  abandon(fault);
}

}  // namespace octet::sim
