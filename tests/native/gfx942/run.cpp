// Blocks run on two threads. Inside a block one wave runs to its next barrier or its end, then the next wave; the order
// turns round at every barrier, so that a wave that reads what another has yet to write meets its poison.

#include "run.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace octet::gfx942 {

namespace {

constexpr int threads = 2;
constexpr uint64_t instruction_limit = uint64_t{1} << 31;  // of one wave: it hangs

// hsa_kernel_dispatch_packet_t
struct Dispatch_packet {
  uint16_t header, setup, workgroup_size[3], reserved0;
  uint32_t grid_size[3], private_segment_size, group_segment_size;
  uint64_t kernel_object, kernarg_address, reserved2, completion_signal;
};
static_assert(sizeof(Dispatch_packet) == 64);

// What every wave of a launch shares.
struct Shared {
  const Launch* launch;
  Memory memory;
  std::function<void()> pause;
  std::vector<uint8_t> kernarg;
  Dispatch_packet packet;
  uint32_t lds_bytes, threads;
  int arch_registers, acc_registers;
};

// The explicit arguments, then the hidden ones that the metadata asks for.
std::vector<uint8_t> make_kernarg(const Launch& launch) {
  const Kernel& kernel = *launch.kernel;
  std::vector<uint8_t> bytes = launch.kernarg;
  bytes.resize((std::max<size_t>(bytes.size(), kernel.descriptor.kernarg_size) + 63) / 64 * 64);
  for (const Argument& argument : kernel.arguments) {
    if (!argument.kind.starts_with("hidden_")) continue;
    uint64_t value = 0;
    const char axis = argument.kind.back();
    const int at = axis == 'y' ? 1 : axis == 'z' ? 2 : 0;
    if (argument.kind.starts_with("hidden_block_count_"))
      value = launch.grid[at];
    else if (argument.kind.starts_with("hidden_group_size_"))
      value = launch.block[at];
    else if (argument.kind == "hidden_grid_dims")
      value = launch.grid[2] * launch.block[2] > 1 ? 3 : launch.grid[1] * launch.block[1] > 1 ? 2 : 1;
    else if (argument.kind == "hidden_dynamic_lds_size")
      value = launch.dynamic_lds;
    else if (!argument.kind.starts_with("hidden_remainder_") && !argument.kind.starts_with("hidden_global_offset_") &&
             argument.kind != "hidden_none")
      fault("%s: the argument %s is not implemented", kernel.name.c_str(), argument.kind.c_str());
    std::memcpy(&bytes[argument.offset], &value, argument.size);
  }
  return bytes;
}

void check_descriptor(const Kernel& kernel) {
  const uint32_t rsrc1 = kernel.descriptor.rsrc1;
  if ((rsrc1 >> 12 & 15) != 0) fault("%s: a rounding mode other than to nearest", kernel.name.c_str());
  if ((rsrc1 >> 16 & 15) != 15) fault("%s: a mode that flushes denormals", kernel.name.c_str());
}

// ---- waves ----

// Initial SGPRs: what the descriptor enables, in the order of LLVM's guide; v0 packs x, y and z, ten bits each.
void start(Wave& wave, const Shared& shared, const uint32_t (&block)[3], uint32_t first_thread) {
  const Launch& launch = *shared.launch;
  const Descriptor& descriptor = launch.kernel->descriptor;
  for (uint32_t& s : wave.s) s = poison;
  wave.scc = wave.ended = wave.at_barrier = false;
  wave.next = launch.kernel->first;
  wave.vector_accesses.clear(), wave.local_accesses.clear();
  std::memset(wave.v_busy, 0, sizeof(wave.v_busy));
  std::memset(wave.s_busy, 0, sizeof(wave.s_busy));
  wave.in_flight = 0;
  wave.scratch_bytes = descriptor.private_segment_size;
  wave.scratch.assign(size_t{lanes} * wave.scratch_bytes, poison & 0xFF);
  for (int r = 0; r < shared.arch_registers; r++) std::fill_n(wave.v[r], lanes, poison);
  for (int r = 0; r < shared.acc_registers; r++) std::fill_n(wave.v[256 + r], lanes, poison);

  int next = 0;
  const auto add = [&](uint64_t value, int dwords) {
    wave.s[next++] = static_cast<uint32_t>(value);
    if (dwords == 2) wave.s[next++] = static_cast<uint32_t>(value >> 32);
  };
  const uint16_t properties = descriptor.properties;
  const auto kernarg = reinterpret_cast<uint64_t>(shared.kernarg.data());
  if (properties & 1) next += 4;                                           // private segment buffer
  if (properties & 2) add(reinterpret_cast<uint64_t>(&shared.packet), 2);  // dispatch pointer
  if (properties & 4) next += 2;                                           // queue pointer
  if (properties & 8) add(kernarg, 2);                                     // kernarg segment
  if (properties & 16) add(0, 2);                                          // dispatch id
  if (properties & 32) next += 2;                                          // flat scratch
  if (properties & 64) add(0, 1);                                          // private segment size
  const int preloaded = descriptor.kernarg_preload & 0x7F, preload_offset = descriptor.kernarg_preload >> 7;
  for (int i = 0; i < preloaded; i++) {
    uint32_t word;
    std::memcpy(&word, shared.kernarg.data() + 4 * (preload_offset + i), 4);
    add(word, 1);
  }
  next = static_cast<int>(descriptor.rsrc2 >> 1 & 31);
  for (int axis = 0; axis < 3; axis++)
    if (descriptor.rsrc2 >> (7 + axis) & 1) add(block[axis], 1);

  uint64_t exec = 0;
  for (uint32_t lane = 0; lane < lanes; lane++) {
    const uint32_t thread = first_thread + lane;
    if (thread >= shared.threads) break;
    exec |= uint64_t{1} << lane;
    const uint32_t x = thread % launch.block[0], y = thread / launch.block[0] % launch.block[1],
                   z = thread / launch.block[0] / launch.block[1];
    wave.v[0][lane] = x | y << 10 | z << 20;
  }
  wave.set_scalar64(exec_index, exec);
}

void require_arrived(const Wave& wave, const Operand& operand) {
  if (operand.kind == Operand_kind::vgpr) {
    for (int i = 0; i < operand.dwords; i++)
      if (wave.v_busy[operand.reg + i] != 0)
        fault("%c%d is used before the s_waitcnt for its load", operand.reg < 256 ? 'v' : 'a', (operand.reg + i) % 256);
  } else if (operand.kind == Operand_kind::sgpr) {
    for (int i = 0; i < operand.dwords; i++)
      if (wave.s_busy[operand.reg + i] != 0) fault("s%d is used before the s_waitcnt for its load", operand.reg + i);
  }
}

// To the next barrier or the end.
void advance(Wave& wave, int size) {
  for (uint64_t executed = 0; !wave.ended && !wave.at_barrier; executed++) {
    if (wave.next >= size) fault("runs past the end of its code");
    if (executed == instruction_limit)
      fault("does not end after %llu instructions", static_cast<unsigned long long>(executed));
    const Instruction& in = wave.code[wave.next++];
    if (wave.in_flight != 0) {
      for (int i = 0; i < in.count; i++) require_arrived(wave, in.from[i]);
      if (!in.memory) require_arrived(wave, in.to);
    }
    in.handler(wave, in);
  }
  if (wave.at_barrier)
    for (const Access& access : wave.local_accesses)
      if (!access.unordered && access.dwords == 0) fault("s_barrier while an LDS write is under way");
}

// ---- blocks ----

struct Worker {
  std::vector<Wave> waves;
  std::vector<uint32_t> registers;
  std::vector<uint32_t> lds;
};

void run_block(Worker& worker, const Shared& shared, const uint32_t (&id)[3]) {
  const Launch& launch = *shared.launch;
  const Kernel& kernel = *launch.kernel;
  const auto count = static_cast<int>((shared.threads + lanes - 1) / lanes);
  worker.waves.resize(static_cast<size_t>(count));
  worker.registers.resize(static_cast<size_t>(count) * 512 * lanes + 16);
  worker.lds.assign(shared.lds_bytes / 4 + 1, poison);
  Block block{reinterpret_cast<uint8_t*>(worker.lds.data()), shared.lds_bytes, &shared.memory, &shared.pause};
  void* aligned = worker.registers.data();
  size_t space = worker.registers.size() * 4;
  std::align(64, size_t{4}, aligned, space);
  for (int w = 0; w < count; w++) {
    Wave& wave = worker.waves[static_cast<size_t>(w)];
    wave.v = static_cast<uint32_t(*)[lanes]>(aligned) + 512 * w;
    wave.block = &block;
    wave.code = kernel.code.instructions.data();
    wave.code_offset = kernel.object->offset();
    wave.last_range = {0, 0};
    wave.mask_of = 0;
    std::memset(wave.mask, 0, sizeof(wave.mask));
    start(wave, shared, id, static_cast<uint32_t>(w) * lanes);
  }
  const auto size = static_cast<int>(kernel.code.instructions.size());
  for (bool forwards = true;; forwards = !forwards) {
    bool all_ended = true;
    for (int i = 0; i < count; i++) {
      const int w = forwards ? i : count - 1 - i;
      Wave& wave = worker.waves[static_cast<size_t>(w)];
      if (wave.ended) continue;
      wave.at_barrier = false;
      try {
        advance(wave, size);
      } catch (const Fault& problem) {
        const Instruction& in = wave.code[std::max(wave.next - 1, 0)];
        fault("%s: block (%u, %u, %u), wave %d, pc 0x%llx, '%s': %s", kernel.name.c_str(), id[0], id[1], id[2], w,
              static_cast<unsigned long long>(in.pc), in.text.c_str(), problem.what());
      }
      all_ended = all_ended && wave.ended;
    }
    if (all_ended) return;
  }
}

}  // namespace

void run(const Launch& launch, Surroundings surroundings) {
  const Kernel& kernel = *launch.kernel;
  check_descriptor(kernel);
  Shared shared{};
  shared.launch = &launch;
  shared.lds_bytes = kernel.descriptor.group_segment_size + launch.dynamic_lds;
  shared.threads = launch.block[0] * launch.block[1] * launch.block[2];
  shared.arch_registers = static_cast<int>((kernel.descriptor.rsrc3 & 63) + 1) * 4;
  shared.acc_registers = std::max(static_cast<int>((kernel.descriptor.rsrc1 & 63) + 1) * 8 - shared.arch_registers, 0);
  shared.kernarg = make_kernarg(launch);
  shared.packet.setup = 3;
  for (int axis = 0; axis < 3; axis++) {
    shared.packet.workgroup_size[axis] = static_cast<uint16_t>(launch.block[axis]);
    shared.packet.grid_size[axis] = launch.grid[axis] * launch.block[axis];
  }
  shared.packet.group_segment_size = shared.lds_bytes;
  shared.packet.kernarg_address = reinterpret_cast<uint64_t>(shared.kernarg.data());

  const auto range = [](const void* begin, size_t size) {
    return Range{reinterpret_cast<uint64_t>(begin), reinterpret_cast<uint64_t>(begin) + size};
  };
  std::vector<Range>& memory = surroundings.memory;
  memory.push_back(range(shared.kernarg.data(), shared.kernarg.size()));
  memory.push_back(range(&shared.packet, sizeof(shared.packet)));
  memory.push_back(kernel.object->loaded());
  std::sort(memory.begin(), memory.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  shared.memory = {std::move(memory), std::move(surroundings.out_of_reach)};
  shared.pause = std::move(surroundings.pause);

  const uint64_t blocks = uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&](Worker& worker) {
    try {
      for (uint64_t index; (index = next.fetch_add(1)) < blocks;) {
        const uint32_t id[3] = {static_cast<uint32_t>(index % launch.grid[0]),
                                static_cast<uint32_t>(index / launch.grid[0] % launch.grid[1]),
                                static_cast<uint32_t>(index / launch.grid[0] / launch.grid[1])};
        run_block(worker, shared, id);
      }
    } catch (...) {
      next = blocks;
      const std::lock_guard lock(mutex);
      if (failure == nullptr) failure = std::current_exception();
    }
  };
  // A thread's launches run one after the other.
  static thread_local Worker workers[threads];
  std::vector<std::thread> others;
  for (int t = 1; t < threads && static_cast<uint64_t>(t) < blocks; t++)
    others.emplace_back(work, std::ref(workers[t]));
  work(workers[0]);
  for (std::thread& other : others) other.join();
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace octet::gfx942
