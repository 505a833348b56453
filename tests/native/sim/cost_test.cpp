// The costs of one wave instruction: lines of memory and passes of the LDS.
#include "../../../native/sim/cost.h"

#include <gtest/gtest.h>

namespace {

using octet::Target;
using octet::sim::Access;
using octet::sim::WaveAccess;

// The access of `count` lanes, lane i at address(i).
template <class Address>
WaveAccess access(Access kind, uint32_t size, int count, Address&& address) {
  WaveAccess made{};
  made.key = static_cast<uint32_t>(kind);
  made.size = size;
  made.count = count;
  for (int i = 0; i < count; i++) {
    made.lanes[i] = static_cast<uint8_t>(i);
    made.addresses[i] = static_cast<uintptr_t>(address(i));
  }
  return made;
}

TEST(Cost, lines_are_counted_once_each) {
  const auto lines = [](uint32_t size, auto&& address) { return count_lines(access(Access::read, size, 64, address)); };
  EXPECT_EQ(lines(16, [](int i) { return 4096 + 16 * i; }), 16);
  EXPECT_EQ(lines(16, [](int i) { return 4096 + 16 * (63 - i); }), 16) << "descending";
  EXPECT_EQ(lines(4, [](int i) { return 4096 + 4 * (i * 37 % 64); }), 4) << "shuffled";
  EXPECT_EQ(lines(4, [](int) { return 4096; }), 1);
  EXPECT_EQ(lines(16, [](int i) { return 4096 + 8 + 16 * i; }), 17) << "across lines";
  EXPECT_EQ(lines(8, [](int i) { return 4096 + 4096 * i + 60; }), 128) << "each lane across two lines";
  EXPECT_EQ(lines(256, [](int i) { return 4096 + 256 * i; }), 256) << "wide ranges";
}

int64_t conflicts(Target target, Access kind, uint32_t size, int count, int stride) {
  return count_bank_conflicts(access(kind, size, count, [&](int i) { return i * stride; }), target);
}

TEST(Cost, contiguous_lds_accesses_of_every_width_have_no_conflict) {
  for (const Target target : {Target::gfx942, Target::gfx950, Target::sm_90})
    for (const Access kind : {Access::read, Access::write})
      for (const int size : {1, 2, 4, 8, 16})
        EXPECT_EQ(conflicts(target, kind, static_cast<uint32_t>(size), target == Target::sm_90 ? 32 : 64, size), 0)
            << size << " bytes, target " << static_cast<int>(target);
}

TEST(Cost, groups_grow_as_accesses_narrow) {
  // Twice the width apart, two lanes of each group meet in a bank: one pass more for each group.
  EXPECT_EQ(conflicts(Target::gfx942, Access::write, 4, 64, 8), 2);
  EXPECT_EQ(conflicts(Target::gfx942, Access::write, 8, 64, 16), 4);
  EXPECT_EQ(conflicts(Target::gfx942, Access::write, 16, 64, 32), 8);
  EXPECT_EQ(conflicts(Target::gfx950, Access::write, 4, 64, 8), 1);
  EXPECT_EQ(conflicts(Target::gfx950, Access::write, 8, 64, 16), 2);
  EXPECT_EQ(conflicts(Target::gfx950, Access::write, 16, 64, 32), 4);
  EXPECT_EQ(conflicts(Target::sm_90, Access::write, 4, 32, 8), 1);
  EXPECT_EQ(conflicts(Target::sm_90, Access::write, 8, 32, 16), 2);
  EXPECT_EQ(conflicts(Target::sm_90, Access::write, 16, 32, 32), 4);
}

TEST(Cost, a_16_byte_read_on_gfx942_is_served_in_its_own_groups) {
  // The groups of the first half wave; the second half is the same.
  const int groups[4][8] = {{0, 1, 2, 3, 20, 21, 22, 23},
                            {4, 5, 6, 7, 16, 17, 18, 19},
                            {8, 9, 10, 11, 28, 29, 30, 31},
                            {12, 13, 14, 15, 24, 25, 26, 27}};
  int place[64];
  for (int group = 0; group < 4; group++)
    for (int i = 0; i < 8; i++) {
      place[groups[group][i]] = group * 8 + i;
      place[groups[group][i] + 32] = 32 + group * 8 + i;
    }
  const auto ordered = [&](int lane) { return place[lane] * 16; };
  EXPECT_EQ(count_bank_conflicts(access(Access::read, 16, 64, ordered), Target::gfx942), 0);
  EXPECT_GT(count_bank_conflicts(access(Access::write, 16, 64, ordered), Target::gfx942), 0);
  // All lanes of one group at the same four banks, the others at one word: seven passes more.
  const auto crowded = [&](int lane) { return place[lane] < 8 ? place[lane] * 128 : 1 << 14; };
  EXPECT_EQ(count_bank_conflicts(access(Access::read, 16, 64, crowded), Target::gfx942), 7);
}

TEST(Cost, a_16_byte_read_on_gfx950_is_served_in_its_own_groups) {
  const auto in_first = [](int lane) { return lane < 4 || (lane >= 12 && lane < 16) || (lane >= 20 && lane < 28); };
  const auto crowded = [&](int lane) { return in_first(lane) ? lane * 256 : 1 << 15; };
  EXPECT_EQ(count_bank_conflicts(access(Access::read, 16, 64, crowded), Target::gfx950), 15);
}

TEST(Cost, one_word_for_all_is_a_broadcast_but_not_for_atomics) {
  EXPECT_EQ(conflicts(Target::gfx942, Access::read, 4, 64, 0), 0);
  EXPECT_EQ(conflicts(Target::gfx942, Access::atomic, 4, 64, 0), 2 * 31);
}

TEST(Cost, misaligned_accesses_and_wide_ranges_count_by_dwords) {
  // 8 bytes at 4 modulo 8: lanes still ask for 32 dwords in a row, of which the last wraps to the first bank.
  const auto shifted = access(Access::read, 8, 64, [](int i) { return 4 + i * 8; });
  EXPECT_EQ(count_bank_conflicts(shifted, Target::gfx942), 0);
  // 32 bytes of each lane are two accesses of 16, two lanes of eight in one place each time.
  EXPECT_EQ(conflicts(Target::gfx942, Access::write, 32, 64, 32), 2 * 8);
}

}  // namespace
