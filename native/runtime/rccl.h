// What ranks add up through the vendor's own library of collectives, RCCL or NCCL, instead of Octet's kernels.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "driver.h"

namespace octet {

struct Rccl;

// One group: the library's communicator of each rank.
class Communicator {
 public:
  // `library` names a file in the vendor's place; null: the vendor's. Throws Error.
  Communicator(std::vector<Driver*> ranks, const char* library);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int ranks() const { return static_cast<int>(ranks_.size()); }
  // Enqueues the sum over ranks of [count] bf16, in place.
  void all_reduce(int rank, void* stream, void* values, int64_t count);
  // Throws what went wrong since on a rank's device.
  void check(int rank);
  // Has all ranks leave the sums they are in; waits for nothing.
  void abort();

 private:
  void require_usable() const;
  void require_ok(const char* call, int result) const;

  const std::vector<Driver*> ranks_;
  const Rccl* rccl_ = nullptr;
  std::string name_;
  std::vector<void*> communicators_;
  std::atomic<bool> aborted_{false};
  std::vector<std::thread> aborting_;
};

}  // namespace octet
