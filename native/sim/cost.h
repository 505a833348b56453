// What a launch costs in memory accesses: counts of one wave instruction, as pure functions of the lanes' addresses.
#pragma once

#include <cstdint>

#include "../runtime/driver.h"
#include "access.h"

namespace octet::sim {

struct Counters {
  int64_t launches = 0, blocks = 0;
  int64_t global_read_bytes = 0, global_write_bytes = 0;
  int64_t global_transactions = 0;
  int64_t lds_accesses = 0, lds_bank_conflicts = 0;
  int64_t mfma = 0, barriers = 0;
  void add(const Counters& other);
};

// The 64-byte lines the lanes of one instruction touch, each counted once.
int64_t count_lines(const WaveAccess& access);

// Passes of the LDS beyond one for each group of lanes that it serves together. A bank delivers one dword a pass, to
// every lane of the group that wants it; atomic updates of one dword take a pass each. Groups are as many lanes as fill
// all banks, consecutive ones but for 16-byte reads on gfx9:
//   gfx942  32 banks; ds_read_b128 serves lanes 0-3 with 20-23, 4-7 with 16-19, 8-11 with 28-31, 12-15 with 24-27, and
//   so
//           on from lane 32
//   gfx950  64 banks; ds_read_b128 serves lanes 0-3, 12-15 and 20-27; 4-11, 16-19 and 28-31; and so on from lane 32
//   sm_90   32 banks
// (The banks and groups are those AMD's blog on LDS bank conflicts and its Triton back end give.)
// Lanes that are switched off cost nothing; wider ranges count as accesses of 16 bytes.
int64_t count_bank_conflicts(const WaveAccess& access, Target target);

}  // namespace octet::sim
