// A library in RCCL's place, for devices whose memory is the host's: the sums are made at once, on the threads that ask
// for them, when all ranks have come. A part of the elements begins at each rank and goes round the ring, rounded at
// every rank, as in a real one; so sums are not those of Octet's tree. Tests tell it what shall go wrong.
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace {

constexpr int success = 0, internal_error = 3, invalid_argument = 4, invalid_usage = 5, remote_error = 6;
constexpr int bfloat16 = 9, sum = 0;

struct Group {
  int ranks = 0, arrived = 0, result = success;
  uint64_t generation = 0;
  bool aborted = false;
  size_t count = 0;
  std::vector<uint16_t*> values;
};

struct Member {
  std::shared_ptr<Group> group;
  int rank;
};

std::mutex mutex;
std::condition_variable changed;
std::map<void*, Member> members;  // by the communicator
int64_t sums = 0, failing = -1;
bool stalled = false, broken = false;

float widen(uint16_t value) {
  const uint32_t bits = uint32_t{value} << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

uint16_t narrow(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void add_up(const Group& group) {
  const size_t ranks = group.values.size(), part = (group.count + ranks - 1) / ranks;
  for (size_t i = 0; i < group.count; i++) {
    const size_t first = i / part;
    uint16_t total = group.values[first][i];
    for (size_t hop = 1; hop < ranks; hop++)
      total = narrow(widen(total) + widen(group.values[(first + hop) % ranks][i]));
    for (uint16_t* values : group.values) values[i] = total;
  }
}

int end(void* communicator, bool aborts) {
  const std::lock_guard lock(mutex);
  const auto member = members.find(communicator);
  if (member == members.end()) return invalid_argument;
  member->second.group->aborted |= aborts;
  members.erase(member);
  delete static_cast<char*>(communicator);
  changed.notify_all();
  return success;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// ---- what tests ask and tell ----

EXPORT int64_t stand_in_sums() {
  const std::lock_guard lock(mutex);
  return sums;
}
EXPORT int stand_in_communicators() {
  const std::lock_guard lock(mutex);
  return static_cast<int>(members.size());
}
// The call of that number from now on fails; -1: none.
EXPORT void stand_in_fail(int64_t call) {
  const std::lock_guard lock(mutex);
  failing = call;
}
// Sums do not end, as where a peer is gone.
EXPORT void stand_in_stall(int stall) {
  const std::lock_guard lock(mutex);
  stalled = stall != 0;
}
// Sums are reported as failed behind their end.
EXPORT void stand_in_break(int breaks) {
  const std::lock_guard lock(mutex);
  broken = breaks != 0;
}

// ---- RCCL's interface ----

EXPORT const char* ncclGetErrorString(int result) { return result == success ? "no error" : "told so by a test"; }

EXPORT int ncclCommInitAll(void** communicators, int count, const int* devices) {
  for (int rank = 0; rank < count; rank++)
    for (int other = 0; other < rank; other++)
      if (devices[rank] == devices[other]) return invalid_usage;
  const auto group = std::make_shared<Group>();
  group->ranks = count;
  group->values.resize(static_cast<size_t>(count));
  const std::lock_guard lock(mutex);
  for (int rank = 0; rank < count; rank++) members.emplace(communicators[rank] = new char, Member{group, rank});
  return success;
}

EXPORT int ncclAllReduce(const void* send, void* receive, size_t count, int type, int op, void* communicator, void*) {
  std::unique_lock lock(mutex);
  const auto found = members.find(communicator);
  if (found == members.end() || send != receive || type != bfloat16 || op != sum) return invalid_argument;
  const auto [group, rank] = found->second;
  if (failing >= 0 && failing-- == 0) return internal_error;
  group->values[static_cast<size_t>(rank)] = static_cast<uint16_t*>(receive);
  if (group->arrived == 0) group->result = success;
  if (group->arrived > 0 && group->count != count) group->result = invalid_usage;
  group->count = count;
  const uint64_t generation = group->generation;
  if (++group->arrived == group->ranks && !stalled) {
    if (group->result == success) add_up(*group);
    sums++;
    group->arrived = 0;
    group->generation++;
    changed.notify_all();
  }
  changed.wait(lock, [&] { return group->generation != generation || group->aborted; });
  return group->generation != generation ? group->result : internal_error;
}

EXPORT int ncclCommGetAsyncError(void* communicator, int* error) {
  const std::lock_guard lock(mutex);
  if (!members.contains(communicator)) return invalid_argument;
  *error = broken ? remote_error : success;
  return success;
}

EXPORT int ncclCommAbort(void* communicator) { return end(communicator, true); }
EXPORT int ncclCommDestroy(void* communicator) { return end(communicator, false); }
