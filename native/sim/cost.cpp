#include "cost.h"

#include <algorithm>
#include <array>
#include <bit>

namespace octet::sim {

namespace {

// Which lanes the LDS serves together for accesses of one width.
struct Groups {
  int count = 0;
  uint8_t of[64] = {};
};

constexpr int banks_of(Target target) { return target == Target::gfx950 ? 64 : 32; }

constexpr Groups make_groups(Target target, int width, bool read) {
  Groups groups;
  for (int lane = 0; lane < 64; lane++) {
    int group = lane / (banks_of(target) * 4 / width);
    if (width == 16 && read && target == Target::gfx942)
      group = lane / 32 * 4 + lane / 8 % 2 * 2 + (lane / 4 ^ lane / 16) % 2;
    if (width == 16 && read && target == Target::gfx950) group = lane / 32 * 2 + (lane / 4 ^ lane / 8 ^ lane / 16) % 2;
    groups.of[lane] = static_cast<uint8_t>(group);
    groups.count = std::max(groups.count, group + 1);
  }
  return groups;
}

const Groups& groups_of(Target target, uint32_t width, bool read) {
  static constexpr auto table = [] {
    std::array<Groups, 18> all;
    for (int t = 0; t < 3; t++)
      for (int w = 0; w < 3; w++)
        for (int r = 0; r < 2; r++)
          all[static_cast<size_t>((t * 3 + w) * 2 + r)] = make_groups(static_cast<Target>(t), 4 << w, r == 1);
    return all;
  }();
  const size_t w = width == 4 ? 0 : width == 8 ? 1 : 2;
  return table[(static_cast<size_t>(target) * 3 + w) * 2 + (read ? 1 : 0)];
}

// Aligned accesses of 4, 8 or 16 bytes: a lane wants a whole unit of neighbouring banks, so the queues at units tell.
// False where a lane's address is not aligned.
bool count_aligned(const WaveAccess& access, int banks, const Groups& groups, bool each, int64_t& extra) {
  const uint32_t shift = static_cast<uint32_t>(std::countr_zero(access.size));
  const uint32_t units = static_cast<uint32_t>(banks) * 4 >> shift;
  uint64_t taken[8] = {};  // of each group, the units asked for
  int8_t last[8][64];      // at a unit, the latest entry of its queue
  int8_t length[8][64];
  int8_t before[64];  // of an entry, the one before it
  int longest[8] = {};
  for (int i = 0; i < access.count; i++) {
    const auto address = static_cast<uint32_t>(access.addresses[i]);
    if ((address & (access.size - 1)) != 0) return false;
    const uint32_t unit = (address >> shift) & (units - 1);
    const int group = groups.of[access.lanes[i]];
    const uint64_t bit = uint64_t{1} << unit;
    if ((taken[group] & bit) == 0) {
      taken[group] |= bit;
      before[i] = -1;
      length[group][unit] = 1;
    } else {
      if (!each) {
        int8_t other = last[group][unit];
        while (other >= 0 && access.addresses[other] != access.addresses[i]) other = before[other];
        if (other >= 0) continue;
      }
      before[i] = last[group][unit];
      length[group][unit]++;
    }
    last[group][unit] = static_cast<int8_t>(i);
    longest[group] = std::max<int>(longest[group], length[group][unit]);
  }
  extra = 0;
  for (const int passes : longest) extra += std::max(passes - 1, 0);
  return true;
}

// The longest queue at a bank for the dwords asked for, given as (bank, dword) in one number; each dword once unless
// `each`.
int longest_queue(uint32_t* asked, int count, bool each) {
  std::sort(asked, asked + count);
  int longest = 0, length = 0;
  for (int i = 0; i < count; i++) {
    if (i == 0 || asked[i] >> 16 != asked[i - 1] >> 16)
      length = 1;
    else if (each || asked[i] != asked[i - 1])
      length++;
    longest = std::max(longest, length);
  }
  return longest;
}

}  // namespace

void Counters::add(const Counters& other) {
  launches += other.launches;
  blocks += other.blocks;
  global_read_bytes += other.global_read_bytes;
  global_write_bytes += other.global_write_bytes;
  global_transactions += other.global_transactions;
  lds_accesses += other.lds_accesses;
  lds_bank_conflicts += other.lds_bank_conflicts;
  mfma += other.mfma;
  barriers += other.barriers;
}

int64_t count_lines(const WaveAccess& access) {
  // Lanes mostly ascend: a line above all before it is new, the one just counted is not; others are looked up.
  uintptr_t lines[64];
  int known = 0;
  int64_t total = 0;
  uintptr_t highest = 0;
  for (int i = 0; i < access.count; i++) {
    const uintptr_t first = access.addresses[i] / 64, last = (access.addresses[i] + access.size - 1) / 64;
    if (last - first > 1) {
      // Ranges wider than a line do not share lines worth looking for.
      total += static_cast<int64_t>(last - first + 1);
      continue;
    }
    for (uintptr_t line = first; line <= last; line++) {
      if (known > 0 && line <= highest && std::find(lines, lines + known, line) != lines + known) continue;
      total++;
      highest = std::max(highest, line);
      if (known < 64) lines[known++] = line;
    }
  }
  return total;
}

int64_t count_bank_conflicts(const WaveAccess& access, Target target) {
  const int banks = banks_of(target);
  const bool each = key_kind(access.key) == Access::atomic;
  // What is narrower than a dword travels as one; wider ranges as 16-byte accesses.
  const uint32_t width = access.size <= 4 ? 4 : access.size <= 8 ? 8 : 16;
  const Groups& groups = groups_of(target, width, key_kind(access.key) == Access::read);
  int64_t extra = 0;
  if (access.size == width && count_aligned(access, banks, groups, each, extra)) return extra;
  for (uint32_t offset = 0; offset < access.size; offset += width) {
    const uint32_t size = std::min(width, access.size - offset);
    for (int group = 0; group < groups.count; group++) {
      uint32_t asked[64 * 5];
      int count = 0;
      for (int i = 0; i < access.count; i++) {
        if (groups.of[access.lanes[i]] != group) continue;
        const uint32_t start = static_cast<uint32_t>(access.addresses[i]) + offset;
        for (uint32_t dword = start / 4; dword <= (start + size - 1) / 4; dword++)
          asked[count++] = dword % static_cast<uint32_t>(banks) << 16 | dword;
      }
      extra += std::max(longest_queue(asked, count, each) - 1, 0);
    }
  }
  return extra;
}

}  // namespace octet::sim
