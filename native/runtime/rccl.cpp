// The vendor's collectives. Nothing of RCCL or NCCL is linked: the library is opened when the first group asks for it,
// and the functions used are declared here by hand from the public NCCL API reference, which both have. Communicators
// are opaque pointers, ncclResult_t, ncclDataType_t and ncclRedOp_t are ints.
#include "rccl.h"

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "check.h"
#include "library.h"

namespace octet {

namespace {

// nccl.h: ncclSuccess, ncclInProgress, ncclBfloat16, ncclSum.
constexpr int nccl_success = 0, nccl_in_progress = 7, nccl_bfloat16 = 9, nccl_sum = 0;

constexpr const char* otherwise = "let Octet's own kernels add (collectives octet, the default)";

#define NCCL_FUNCTIONS(F)                                                                                \
  F(ncclCommInitAll, int, (void** communicators, int count, const int* devices))                         \
  F(ncclAllReduce, int,                                                                                  \
    (const void* send, void* receive, size_t count, int type, int op, void* communicator, void* stream)) \
  F(ncclCommGetAsyncError, int, (void* communicator, int* error))                                        \
  F(ncclCommAbort, int, (void* communicator))                                                            \
  F(ncclCommDestroy, int, (void* communicator))                                                          \
  F(ncclGetErrorString, const char*, (int result))

}  // namespace

struct Rccl {
#define DECLARE(name, result, parameters) result(*name) parameters;
  NCCL_FUNCTIONS(DECLARE)
#undef DECLARE
};

namespace {

// The library of that name, opened once; the first of `files` that is found where the name is null.
const Rccl& open_rccl(const CollectiveLibrary& vendor, const char* library) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<Rccl>> opened;
  const std::lock_guard lock(mutex);
  std::unique_ptr<Rccl>& known = opened[library == nullptr ? vendor.name : library];
  if (known != nullptr) return *known;
  auto loaded = std::make_unique<Rccl>();
  try {
    void* handle = library == nullptr ? open_library(vendor.name, {vendor.file, vendor.other_file})
                                      : open_library(vendor.name, {library});
#define LOAD(name, result, parameters) load_symbol(handle, #name, loaded->name);
    NCCL_FUNCTIONS(LOAD)
#undef LOAD
  } catch (const Error& error) {
    fail(OCTET_NO_DEVICE,
         "%s; install %s and make it findable (LD_LIBRARY_PATH), name its file (OCTET_COLLECTIVES_LIBRARY), or %s",
         error.what(), vendor.package, otherwise);
  }
  known = std::move(loaded);
  return *known;
}

}  // namespace

Communicator::Communicator(std::vector<Driver*> ranks, const char* library) : ranks_(std::move(ranks)) {
  require(ranks_.size() == 2 || ranks_.size() == 4 || ranks_.size() == 8,
          "octet_communicator_create: %zu ranks, must be 2, 4 or 8", ranks_.size());
  const CollectiveLibrary vendor = ranks_[0]->collectives();
  if (vendor.file == nullptr && library == nullptr)
    fail(OCTET_UNSUPPORTED,
         "%s has no library of collectives: name one that adds in the host's memory (OCTET_COLLECTIVES_LIBRARY), or %s",
         ranks_[0]->facts.name.c_str(), otherwise);
  std::vector<int> devices;
  for (Driver* rank : ranks_) {
    require(std::strcmp(rank->collectives().name, vendor.name) == 0,
            "octet_communicator_create: %s and %s have different libraries of collectives",
            ranks_[0]->facts.name.c_str(), rank->facts.name.c_str());
    const int ordinal = rank->collectives().ordinal;
    devices.push_back(ordinal < 0 ? static_cast<int>(devices.size()) : ordinal);
  }
  rccl_ = &open_rccl(vendor, library);
  name_ = vendor.name;
  communicators_.resize(ranks_.size());
  require_ok("ncclCommInitAll", rccl_->ncclCommInitAll(communicators_.data(), this->ranks(), devices.data()));
}

// NOTE: NCCL does not end a communicator, aborted or not, before the graphs that recorded it are gone; so these go
// first.
Communicator::~Communicator() {
  for (std::thread& thread : aborting_) thread.join();
  if (!aborted_)
    for (void* communicator : communicators_) rccl_->ncclCommDestroy(communicator);
}

void Communicator::all_reduce(int rank, void* stream, void* values, int64_t count) {
  const auto enqueue = [this, rank, values, count](void* native) {
    require_usable();
    require_ok("ncclAllReduce", rccl_->ncclAllReduce(values, values, static_cast<size_t>(count), nccl_bfloat16,
                                                     nccl_sum, communicators_[static_cast<size_t>(rank)], native));
  };
  ranks_[static_cast<size_t>(rank)]->call(stream, values, count * 2, enqueue);
}

void Communicator::check(int rank) {
  require_usable();
  int error = nccl_success;
  require_ok("ncclCommGetAsyncError", rccl_->ncclCommGetAsyncError(communicators_[static_cast<size_t>(rank)], &error));
  require_ok("a sum under way", error);
}

// NOTE: ncclCommAbort may wait for graphs that recorded the communicator, and for peers; so each has a thread.
void Communicator::abort() {
  if (aborted_.exchange(true)) return;
  for (void* communicator : communicators_)
    aborting_.emplace_back([this, communicator] { rccl_->ncclCommAbort(communicator); });
}

void Communicator::require_usable() const {
  if (aborted_) fail(OCTET_DEVICE_ERROR, "%s: the group was told to stop", name_.c_str());
}

void Communicator::require_ok(const char* call, int result) const {
  if (result == nccl_success || result == nccl_in_progress) return;
  const char* text = rccl_->ncclGetErrorString(result);
  fail(OCTET_DEVICE_ERROR, "%s: %s: error %d (%s)", name_.c_str(), call, result, text == nullptr ? "unknown" : text);
}

}  // namespace octet
