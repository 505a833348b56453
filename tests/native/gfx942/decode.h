// Machine code as instructions: llvm-objdump disassembles, and its text is parsed once. A mnemonic, an operand or a
// modifier that is not known here is a fault that names it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "wave.h"

namespace octet::gfx942 {

struct Code {
  std::vector<Instruction> instructions;
  std::vector<std::unique_ptr<Dpp>> shuffles;
};

// The text of each function of a code object, by its symbol.
std::map<std::string, std::string> disassemble(const void* image, size_t size);

Code decode(const std::string& kernel, const std::string& text);

}  // namespace octet::gfx942
