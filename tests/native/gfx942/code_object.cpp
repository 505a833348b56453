#include "code_object.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace octet::gfx942 {

namespace {

constexpr uint16_t machine_amdgpu = 224;
constexpr uint32_t mach_mask = 0xFF, mach_gfx942 = 0x4C;
constexpr uint32_t note_amdgpu_metadata = 32, relocation_relative64 = 13, relocation_abs64 = 3;

// The part of MessagePack that metadata uses: a reader that skips what nobody asks for.
class MessagePack {
 public:
  MessagePack(const uint8_t* at, const uint8_t* end) : at_(at), end_(end) {}

  uint32_t map() { return container(0x80, 0xDE); }
  uint32_t array() { return container(0x90, 0xDC); }
  std::string string() {
    const uint8_t tag = byte();
    const uint64_t size = (tag & 0xE0) == 0xA0         ? tag & 31
                          : tag >= 0xD9 && tag <= 0xDB ? number(1 << (tag - 0xD9))
                                                       : wrong(tag);
    need(size);
    std::string text(reinterpret_cast<const char*>(at_), size);
    at_ += size;
    return text;
  }
  uint64_t integer() {
    const uint8_t tag = byte();
    if (tag < 0x80) return tag;
    if (tag >= 0xCC && tag <= 0xCF) return number(1 << (tag - 0xCC));
    if (tag >= 0xD0 && tag <= 0xD3) return number(1 << (tag - 0xD0));
    return wrong(tag);
  }
  void skip() {
    need(1);
    const uint8_t tag = *at_;
    if (tag < 0x80 || tag >= 0xE0 || tag == 0xC0 || tag == 0xC2 || tag == 0xC3) {
      at_++;
    } else if ((tag & 0xF0) == 0x80 || tag == 0xDE || tag == 0xDF) {
      for (uint32_t left = 2 * map(); left > 0; left--) skip();
    } else if ((tag & 0xF0) == 0x90 || tag == 0xDC || tag == 0xDD) {
      for (uint32_t left = array(); left > 0; left--) skip();
    } else if ((tag & 0xE0) == 0xA0 || (tag >= 0xD9 && tag <= 0xDB)) {
      string();
    } else {
      integer();
    }
  }

 private:
  uint8_t byte() {
    need(1);
    return *at_++;
  }
  uint64_t number(int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | byte();
    return value;
  }
  uint32_t container(uint8_t fixed, uint8_t wide) {
    const uint8_t tag = byte();
    if ((tag & 0xF0) == fixed) return tag & 15;
    if (tag == wide || tag == wide + 1) return static_cast<uint32_t>(number(tag == wide ? 2 : 4));
    return static_cast<uint32_t>(wrong(tag));
  }
  void need(uint64_t bytes) const {
    if (static_cast<uint64_t>(end_ - at_) < bytes) fault("the metadata of the code object ends early");
  }
  [[noreturn]] static uint64_t wrong(uint8_t tag) {
    fault("the metadata of the code object has an unexpected tag 0x%02x", tag);
  }

  const uint8_t *at_, *end_;
};

std::vector<Argument> read_arguments(MessagePack& in) {
  std::vector<Argument> arguments(in.array());
  for (Argument& argument : arguments)
    for (uint32_t left = in.map(); left > 0; left--) {
      const std::string key = in.string();
      if (key == ".offset")
        argument.offset = static_cast<uint32_t>(in.integer());
      else if (key == ".size")
        argument.size = static_cast<uint32_t>(in.integer());
      else if (key == ".value_kind")
        argument.kind = in.string();
      else
        in.skip();
    }
  return arguments;
}

}  // namespace

size_t size_of_gfx942_image(const void* image) {
  Elf64_Ehdr header;
  std::memcpy(&header, image, sizeof(header));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != machine_amdgpu ||
      (header.e_flags & mach_mask) != mach_gfx942)
    return 0;
  return header.e_shoff + size_t{header.e_shnum} * header.e_shentsize;
}

CodeObject::CodeObject(const void* image, size_t size)
    : image_(static_cast<const uint8_t*>(image), static_cast<const uint8_t*>(image) + size) {
  const auto& header = *reinterpret_cast<const Elf64_Ehdr*>(image_.data());
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(image_.data() + header.e_phoff);
  for (int i = 0; i < header.e_phnum; i++)
    if (segments[i].p_type == PT_LOAD) size_ = std::max<size_t>(size_, segments[i].p_vaddr + segments[i].p_memsz);
  memory_ = std::make_unique<uint8_t[]>(size_);
  for (int i = 0; i < header.e_phnum; i++) {
    const Elf64_Phdr& segment = segments[i];
    if (segment.p_type == PT_LOAD) std::memcpy(&memory_[segment.p_vaddr], &image_[segment.p_offset], segment.p_filesz);
    if (segment.p_type != PT_NOTE) continue;
    for (size_t at = segment.p_offset; at + sizeof(Elf64_Nhdr) <= segment.p_offset + segment.p_filesz;) {
      Elf64_Nhdr note;
      std::memcpy(&note, &image_[at], sizeof(note));
      const size_t name = at + sizeof(note), content = name + ((note.n_namesz + 3) & ~3u);
      if (note.n_type == note_amdgpu_metadata) read_metadata(&image_[content], note.n_descsz);
      at = content + ((note.n_descsz + 3) & ~3u);
    }
  }
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(image_.data() + header.e_shoff);
  for (int i = 0; i < header.e_shnum; i++) {
    const Elf64_Shdr& section = sections[i];
    if (section.sh_type == SHT_DYNSYM) {
      const auto* symbols = reinterpret_cast<const Elf64_Sym*>(&image_[section.sh_offset]);
      const char* strings = reinterpret_cast<const char*>(&image_[sections[section.sh_link].sh_offset]);
      for (size_t s = 0; s < section.sh_size / sizeof(Elf64_Sym); s++) {
        const std::string name = strings + symbols[s].st_name;
        if (!name.ends_with(".kd")) continue;
        const auto kernel = kernels_.find(name.substr(0, name.size() - 3));
        if (kernel == kernels_.end()) fault("%s has no metadata", name.c_str());
        std::memcpy(&kernel->second.descriptor, &memory_[symbols[s].st_value], sizeof(Descriptor));
        kernel->second.entry = symbols[s].st_value + static_cast<uint64_t>(kernel->second.descriptor.entry_offset);
      }
    } else if (section.sh_type == SHT_RELA) {
      const auto* relocations = reinterpret_cast<const Elf64_Rela*>(&image_[section.sh_offset]);
      const Elf64_Shdr& table = sections[section.sh_link];
      for (size_t r = 0; r < section.sh_size / sizeof(Elf64_Rela); r++) {
        const Elf64_Rela& one = relocations[r];
        uint64_t value = offset() + static_cast<uint64_t>(one.r_addend);
        if (ELF64_R_TYPE(one.r_info) == relocation_abs64)
          value += reinterpret_cast<const Elf64_Sym*>(&image_[table.sh_offset])[ELF64_R_SYM(one.r_info)].st_value;
        else if (ELF64_R_TYPE(one.r_info) != relocation_relative64)
          fault("relocation type %u", static_cast<unsigned>(ELF64_R_TYPE(one.r_info)));
        std::memcpy(&memory_[one.r_offset], &value, 8);
      }
    }
  }
}

// {"amdhsa.kernels": [{".name": ..., ".args": [...], ...}], ...}
void CodeObject::read_metadata(const uint8_t* bytes, size_t size) {
  MessagePack in(bytes, bytes + size);
  for (uint32_t entries = in.map(); entries > 0; entries--) {
    if (in.string() != "amdhsa.kernels") {
      in.skip();
      continue;
    }
    for (uint32_t count = in.array(); count > 0; count--) {
      Kernel kernel;
      for (uint32_t left = in.map(); left > 0; left--) {
        const std::string key = in.string();
        if (key == ".name")
          kernel.name = in.string();
        else if (key == ".max_flat_workgroup_size")
          kernel.max_threads = static_cast<uint32_t>(in.integer());
        else if (key == ".args")
          kernel.arguments = read_arguments(in);
        else
          in.skip();
      }
      kernel.object = this;
      const std::string name = kernel.name;
      kernels_[name] = std::move(kernel);
    }
  }
}

std::vector<std::string> CodeObject::names() const {
  std::vector<std::string> names;
  for (const auto& [name, kernel] : kernels_) names.push_back(name);
  return names;
}

const Kernel* CodeObject::find(const std::string& name) {
  const auto found = kernels_.find(name);
  if (found == kernels_.end()) return nullptr;
  Kernel& kernel = found->second;
  if (kernel.code.instructions.empty()) {
    if (text_.empty()) text_ = disassemble(image_.data(), image_.size());
    kernel.code = decode(name, text_[name]);
    const auto& all = kernel.code.instructions;
    // Preloaded arguments: the machine skips the 256 bytes that load them for older firmware.
    const uint64_t entry = kernel.entry + ((kernel.descriptor.kernarg_preload & 0x7F) != 0 ? 256 : 0);
    const auto first = std::find_if(all.begin(), all.end(), [&](const Instruction& in) { return in.pc == entry; });
    if (first == all.end())
      fault("%s: no instruction at its entry 0x%llx", name.c_str(), static_cast<unsigned long long>(entry));
    kernel.first = static_cast<int>(first - all.begin());
  }
  return &kernel;
}

}  // namespace octet::gfx942
