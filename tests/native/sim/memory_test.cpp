// The simulated device's memory: buffers, and which of their bytes were written.
#include "../../../native/sim/memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace {

using octet::sim::Memory;

uintptr_t address_of(void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

TEST(Memory, an_address_is_described_by_the_nearest_buffer) {
  Memory memory;
  const uintptr_t first = address_of(memory.allocate(100)), second = address_of(memory.allocate(5000));
  EXPECT_EQ(memory.describe(first + 107), "7 bytes past the end of a buffer of 100 bytes");
  EXPECT_EQ(memory.describe(second - 8), "8 bytes before a buffer of 5000 bytes");
  EXPECT_EQ(memory.describe(second + 5010), "10 bytes past the end of a buffer of 5000 bytes");
  EXPECT_EQ(memory.describe(second + 4990), "10 bytes before the end of a buffer of 5000 bytes");
}

TEST(Memory, written_bytes_move_as_memmove_moves_bytes) {
  Memory memory;
  constexpr size_t size = 1000;
  const uintptr_t buffer = address_of(memory.allocate(size));
  std::mt19937 random(7);
  std::vector<char> expected(size, 0);
  for (int round = 0; round < 500; round++) {
    const size_t start = random() % size, length = random() % (size - start), to = random() % (size - length);
    if (round % 3 == 0) {
      const size_t end = std::min(start + random() % 20, size);
      memory.mark_written(buffer + start, end - start);
      std::fill(expected.begin() + static_cast<long>(start), expected.begin() + static_cast<long>(end), 1);
    } else {
      memory.copy_written(buffer + to, buffer + start, length);
      std::memmove(expected.data() + to, expected.data() + start, length);
    }
    for (size_t i = 0; i < size; i++)
      ASSERT_EQ(memory.written(buffer + i, 1), expected[i] == 1) << "byte " << i << ", round " << round;
    if (round == 250) {
      // So far nearly everything is written: begin again with a few bytes.
      memory.release(reinterpret_cast<void*>(buffer));
      ASSERT_EQ(address_of(memory.allocate(size)), buffer);
      std::fill(expected.begin(), expected.end(), 0);
    }
  }
}

TEST(Memory, a_new_buffer_is_unwritten_where_an_old_one_was_written) {
  Memory memory;
  void* const old = memory.allocate(8192);
  memory.mark_written(address_of(old), 8192);
  EXPECT_TRUE(memory.written(address_of(old) + 4000, 4192));
  memory.release(old);
  void* const fresh = memory.allocate(8192);
  ASSERT_EQ(fresh, old);
  EXPECT_FALSE(memory.written(address_of(fresh) + 8191, 1));
}

}  // namespace
