#include "source_line.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <mutex>
#include <unordered_map>

namespace octet::sim {

namespace {

// The program's answer for one address: pairs of lines, function and file:line, innermost inlined call first.
std::string ask(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  std::string answer;
  char part[512];
  while (std::fgets(part, sizeof(part), pipe) != nullptr) answer += part;
  return pclose(pipe) == 0 ? answer : "";
}

// "/path/gemm.hip:12:5" -> "gemm.hip:12"; "" where the place is unknown.
std::string place(const std::string& line) {
  std::string text = line.substr(line.find_last_of('/') + 1);
  const size_t colon = text.find(':');
  if (colon == std::string::npos || text[0] == '?') return "";
  const size_t end = text.find_first_not_of("0123456789", colon + 1);
  text = text.substr(0, end);
  return text.back() == ':' || text.substr(colon + 1) == "0" ? "" : text;
}

std::string find_line(uintptr_t site) {
  Dl_info info;
  if (site == 0 || dladdr(reinterpret_cast<void*>(site), &info) == 0 || info.dli_fname == nullptr)
    return "unknown place";
  const uintptr_t offset = site - reinterpret_cast<uintptr_t>(info.dli_fbase);
  char module[64];
  const char* name = std::strrchr(info.dli_fname, '/');
  std::snprintf(module, sizeof(module), "%.40s+0x%zx", name == nullptr ? info.dli_fname : name + 1, offset);
  // The path goes through a shell: one that could be misread there is left alone.
  if (std::strpbrk(info.dli_fname, "'\\\n") != nullptr) return module;
  // The call itself is before its return address.
  char tail[64];
  std::snprintf(tail, sizeof(tail), "' 0x%zx 2>/dev/null", offset - 1);
  for (const char* program : {"llvm-symbolizer-22 --inlines --functions=none -e '",
                              "llvm-symbolizer --inlines --functions=none -e '", "addr2line -i -e '"}) {
    const std::string answer = ask(program + std::string(info.dli_fname) + tail);
    // The innermost place in a kernel file tells most; inlined vocabulary (device.h, mma.h) is named before it.
    std::string best, inner;
    for (size_t start = 0; start < answer.size();) {
      const size_t end = std::min(answer.find('\n', start), answer.size());
      const std::string at = place(answer.substr(start, end - start));
      if (!at.empty() && inner.empty()) inner = at;
      if (best.empty() && at.find(".hip:") != std::string::npos) best = at;
      start = end + 1;
    }
    if (best.empty()) best = inner;
    if (!best.empty()) return best == inner ? best : best + " (in " + inner + ")";
  }
  return module;
}

}  // namespace

std::string source_line(uintptr_t site) {
  // Asking costs a process, and a report of many devices names few lines.
  static std::mutex mutex;
  static std::unordered_map<uintptr_t, std::string> known;
  const std::lock_guard lock(mutex);
  std::string& line = known[site];
  if (line.empty()) line = find_line(site);
  return line;
}

std::string lane_name(const Grid& grid, int wave_size, uint64_t block, int thread) {
  char text[160];
  std::snprintf(text, sizeof(text), "block (%u, %u, %u), thread %d (wave %d, lane %d)",
                static_cast<uint32_t>(block % grid.x), static_cast<uint32_t>(block / grid.x % grid.y),
                static_cast<uint32_t>(block / grid.x / grid.y), thread, thread / wave_size, thread % wave_size);
  return text;
}

}  // namespace octet::sim
