// A gfx942 code object (ELF, code object version 5) in memory: its segments at addresses of this process, its kernels'
// descriptors and the arguments that its metadata lists.
// Layouts: LLVM's AMDGPU usage guide, "Code Object", "Kernel Descriptor" and "Code Object V5 Metadata".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "decode.h"

namespace octet::gfx942 {

struct Argument {
  uint32_t offset = 0, size = 0;
  std::string kind;  // "by_value", "global_buffer", "hidden_..."
};

struct Descriptor {
  uint32_t group_segment_size, private_segment_size, kernarg_size, reserved0;
  int64_t entry_offset;  // from the descriptor
  uint8_t reserved1[20];
  uint32_t rsrc3, rsrc1, rsrc2;
  uint16_t properties, kernarg_preload;
  uint8_t reserved2[4];
};
static_assert(sizeof(Descriptor) == 64);

class CodeObject;

struct Kernel {
  std::string name;
  const CodeObject* object = nullptr;
  Descriptor descriptor{};
  uint64_t entry = 0;  // the code object's own address
  std::vector<Argument> arguments;
  uint32_t max_threads = 1024;
  Code code;
  int first = 0;  // index of the instruction at the entry
};

// The size of the ELF at `image`, or 0 if it is not for gfx942.
size_t size_of_gfx942_image(const void* image);

class CodeObject {
 public:
  CodeObject(const void* image, size_t size);
  // Decoded when first asked for; null if there is none of that name.
  const Kernel* find(const std::string& name);
  std::vector<std::string> names() const;

  Range loaded() const {
    return {reinterpret_cast<uint64_t>(memory_.get()), reinterpret_cast<uint64_t>(memory_.get()) + size_};
  }
  // What to add to an address of the code object.
  uint64_t offset() const { return reinterpret_cast<uint64_t>(memory_.get()); }

 private:
  void read_metadata(const uint8_t* bytes, size_t size);

  std::unique_ptr<uint8_t[]> memory_;
  size_t size_ = 0;
  std::vector<uint8_t> image_;
  std::map<std::string, Kernel> kernels_;
  std::map<std::string, std::string> text_;
};

}  // namespace octet::gfx942
