// What the blocks of one launch touched, to find races between blocks: a byte one block writes and another reads or
// writes, unless both do so atomically. Blocks are entered in ascending order whichever thread ran them, so the first
// conflict found is the same on every run.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "memory.h"
#include "shadow.h"

namespace octet::sim {

struct Fault;
struct Peer;

class Ledger {
 public:
  // Forgets the launch before; `blocks` of them are to come.
  void begin(uint64_t blocks);
  // A block that ran to its end, with the pages it took from `pool`. Waits where it is far ahead of the block that is
  // next. False, with the fault filled in, if a block now entered races with one before it: that one is fault.block.
  bool enter(uint64_t block, std::vector<ShadowPage*> pages, PagePool& pool, Fault& fault);
  // A block waits for a signal: from now on nobody waits for the block that is next, which may wait for those behind it.
  void let_all_run_ahead();
  // A block that broke a rule: neither it nor what comes after it is entered.
  void stop_at(uint64_t block, const std::vector<ShadowPage*>& pages, PagePool& pool);
  // Marks as written what the blocks that were entered wrote, in the device's memory and in that of its peers.
  void end(Memory& memory, const Peer* peer);

 private:
  struct Owner {
    uint64_t block = 0;
    Cell cell = 0;
  };
  struct Page {
    uint64_t read[64], written[64], updated[64];
    Owner readers[64];                 // of each 64 bytes, the block that read there first
    std::unique_ptr<Owner[]> writers;  // of each word, the block that wrote there last
  };
  struct Pending {
    std::vector<ShadowPage*> pages;
    PagePool* pool;
  };

  bool merge(uint64_t block, const Pending& pending, Fault& fault);
  bool merge(uint64_t block, const ShadowPage& from, Page& to, Fault& fault);
  Page& page_at(uintptr_t base);

  std::mutex mutex_;
  std::condition_variable advanced_;
  uint64_t next_ = 0, limit_ = 0;
  bool is_bounded_ = true;
  std::map<uint64_t, Pending> pending_;
  std::unordered_map<uintptr_t, Page*> pages_;
  std::vector<std::unique_ptr<Page>> all_;
  size_t used_ = 0;
};

}  // namespace octet::sim
