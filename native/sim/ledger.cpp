#include "ledger.h"

#include <bit>
#include <cstring>

#include "runner.h"

namespace octet::sim {

namespace {

// Blocks a thread may be ahead: bounds the shadow pages in flight.
constexpr uint64_t max_ahead = 64;
// Kept for the next launch; more is given back to the system.
constexpr size_t kept_pages = 1 << 14;

}  // namespace

void Ledger::begin(uint64_t blocks) {
  next_ = 0;
  limit_ = blocks;
  is_bounded_ = true;
  pages_.clear();
  used_ = 0;
  if (all_.size() > kept_pages) all_.resize(kept_pages);
}

bool Ledger::enter(uint64_t block, std::vector<ShadowPage*> pages, PagePool& pool, Fault& fault) {
  std::unique_lock lock(mutex_);
  advanced_.wait(lock, [&] { return !is_bounded_ || block < next_ + max_ahead || block >= limit_; });
  pending_[block] = {std::move(pages), &pool};
  bool right = true;
  for (auto first = pending_.begin(); first != pending_.end() && (first->first == next_ || first->first >= limit_);
       first = pending_.begin()) {
    const uint64_t number = first->first;
    if (right && number < limit_) {
      right = merge(number, first->second, fault);
      if (!right) limit_ = number;
      next_++;
    }
    for (ShadowPage* page : first->second.pages) first->second.pool->give_back(page);
    pending_.erase(first);
  }
  advanced_.notify_all();
  return right;
}

void Ledger::let_all_run_ahead() {
  const std::lock_guard lock(mutex_);
  is_bounded_ = false;
  advanced_.notify_all();
}

void Ledger::stop_at(uint64_t block, const std::vector<ShadowPage*>& pages, PagePool& pool) {
  for (ShadowPage* page : pages) pool.give_back(page);
  const std::lock_guard lock(mutex_);
  limit_ = std::min(limit_, block);
  advanced_.notify_all();
}

Ledger::Page& Ledger::page_at(uintptr_t base) {
  Page*& page = pages_[base];
  if (page == nullptr) {
    if (used_ == all_.size()) all_.push_back(std::make_unique_for_overwrite<Page>());
    page = all_[used_++].get();
    std::memset(page->read, 0, sizeof(page->read));
    std::memset(page->written, 0, sizeof(page->written));
    std::memset(page->updated, 0, sizeof(page->updated));
  }
  return *page;
}

bool Ledger::merge(uint64_t block, const Pending& pending, Fault& fault) {
  bool right = true;
  for (const ShadowPage* page : pending.pages) {
    Fault found;
    if (merge(block, *page, page_at(page->base), found)) continue;
    if (right || found.address < fault.address) fault = found;
    right = false;
  }
  return right;
}

bool Ledger::merge(uint64_t block, const ShadowPage& from, Page& to, Fault& fault) {
  bool right = true;
  for (uint32_t line = 0; line < 64; line++) {
    const uint64_t read = from.read[line], written = from.written[line], updated = from.updated[line];
    if ((read | written | updated) == 0) continue;
    const uint64_t changed = written | updated, before = to.written[line] | to.updated[line];
    const uint64_t clash =
        (written & (to.read[line] | before)) | (updated & (to.read[line] | to.written[line])) | (read & before);
    if (clash != 0 && right) {
      right = false;
      const auto bit = static_cast<uint32_t>(std::countr_zero(clash));
      const uint32_t offset = line * 64 + bit;
      const bool writes = (changed >> bit & 1) != 0, was_written = (before >> bit & 1) != 0;
      const Cell mine = writes ? from.writer(offset) : from.reader(offset);
      const Owner& other = was_written ? to.writers[offset / 4] : to.readers[line];
      fault.address = from.base + offset;
      fault.block = block;
      fault.thread = cell_thread(mine);
      fault.site = site_address(cell_site(mine));
      char text[64];
      std::snprintf(text, sizeof(text), "%s at %p", writes ? "write" : "read", reinterpret_cast<void*>(fault.address));
      fault.what = text;
      fault.race = Fault::Race{.with_write = was_written,
                               .block = other.block,
                               .thread = cell_thread(other.cell),
                               .site = site_address(cell_site(other.cell))};
    }
    if ((read & ~to.read[line]) != 0) {
      if (to.read[line] == 0)
        to.readers[line] = {block, from.reader(line * 64 + static_cast<uint32_t>(std::countr_zero(read)))};
      to.read[line] |= read;
    }
    if (changed != 0) {
      if (to.writers == nullptr) to.writers = std::make_unique<Owner[]>(ShadowPage::bytes / 4);
      for (uint32_t word = 0; word < 16; word++) {
        const uint64_t bytes = changed >> (word * 4) & 15;
        if (bytes == 0) continue;
        const uint32_t offset = line * 64 + word * 4;
        to.writers[offset / 4] = {block, from.writer(offset + static_cast<uint32_t>(std::countr_zero(bytes)))};
      }
      to.written[line] |= written;
      to.updated[line] |= updated;
    }
  }
  return right;
}

void Ledger::end(Memory& memory, const Peer* peer) {
  for (const auto& [block, pending] : pending_)
    for (ShadowPage* page : pending.pages) pending.pool->give_back(page);
  pending_.clear();
  for (const auto& [base, page] : pages_) {
    Memory* owner = &memory;
    if (!memory.in_range(base))
      for (const auto& other : peer->reached)
        if (other->memory->in_range(base)) owner = other->memory.get();
    for (uint32_t line = 0; line < 64; line++)
      if (const uint64_t changed = page->written[line] | page->updated[line]; changed != 0)
        owner->mark_line_written(base + line * 64, changed);
  }
}

}  // namespace octet::sim
