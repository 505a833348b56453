#include "shadow.h"

#include <cstring>
#include <utility>

namespace octet::sim {

ShadowPage* PagePool::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    all_.push_back(std::make_unique<ShadowPage>());
    free_.push_back(all_.back().get());
    free_.back()->era = era_;
  }
  ShadowPage* page = free_.back();
  free_.pop_back();
  if (page->era != era_) {
    *page = ShadowPage();
    page->era = era_;
  }
  return page;
}

void PagePool::give_back(ShadowPage* page) {
  std::memset(page->read, 0, sizeof(page->read));
  std::memset(page->written, 0, sizeof(page->written));
  std::memset(page->updated, 0, sizeof(page->updated));
  const std::lock_guard lock(mutex_);
  free_.push_back(page);
}

void PagePool::forget() {
  const std::lock_guard lock(mutex_);
  era_++;
}

ShadowPage& BlockPages::find(uintptr_t number) {
  ShadowPage*& page = map_[number];
  if (page == nullptr) {
    page = pool_.take();
    page->base = number * ShadowPage::bytes;
    pages_.push_back(page);
  }
  slots_[number % slot_count] = {number, page};
  return *page;
}

std::vector<ShadowPage*> BlockPages::take() {
  for (const ShadowPage* page : pages_) slots_[page->base / ShadowPage::bytes % slot_count] = {};
  map_.clear();
  return std::exchange(pages_, {});
}

}  // namespace octet::sim
