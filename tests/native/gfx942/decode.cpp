#include "decode.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>

namespace octet::gfx942 {

namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}
bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}
bool parse_integer(std::string_view text, int64_t& value) {
  const bool minus = take(text, "-");
  const int base = take(text, "0x") ? 16 : 10;
  uint64_t magnitude = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  value = minus ? -static_cast<int64_t>(magnitude) : static_cast<int64_t>(magnitude);
  return error == std::errc() && end == text.data() + text.size();
}
int64_t integer(std::string_view text) {
  int64_t value = 0;
  if (!parse_integer(text, value)) fault("'%.*s' is no integer", static_cast<int>(text.size()), text.data());
  return value;
}

// ---- operands ----

bool parse_registers(std::string_view text, Operand& operand) {
  struct Named {
    const char* name;
    uint16_t reg, dwords;
  };
  static constexpr Named named[] = {{"vcc", vcc_index, 2},        {"vcc_lo", vcc_index, 1},
                                    {"vcc_hi", vcc_index + 1, 1}, {"exec", exec_index, 2},
                                    {"exec_lo", exec_index, 1},   {"exec_hi", exec_index + 1, 1},
                                    {"m0", m0_index, 1},          {"flat_scratch", 102, 2},
                                    {"flat_scratch_lo", 102, 1},  {"flat_scratch_hi", 103, 1}};
  for (const Named& one : named)
    if (text == one.name) {
      operand.kind = Operand_kind::sgpr;
      operand.reg = one.reg, operand.dwords = one.dwords;
      return true;
    }
  const char file = text.empty() ? '\0' : text.front();
  if (file != 'v' && file != 's' && file != 'a') return false;
  text.remove_prefix(1);
  int64_t first = 0, last = 0;
  if (take(text, "[") && text.ends_with("]")) {
    text.remove_suffix(1);
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) return false;
    if (!parse_integer(text.substr(0, colon), first) || !parse_integer(text.substr(colon + 1), last)) return false;
  } else {
    if (!parse_integer(text, first)) return false;
    last = first;
  }
  operand.kind = file == 's' ? Operand_kind::sgpr : Operand_kind::vgpr;
  operand.reg = static_cast<uint16_t>(first + (file == 'a' ? 256 : 0));
  operand.dwords = static_cast<uint16_t>(last - first + 1);
  return true;
}

Operand parse_operand(std::string_view text) {
  const std::string_view whole = text;
  Operand operand;
  if (text == "off") return operand;
  operand.kind = Operand_kind::constant;
  if (parse_integer(text, operand.integer)) return operand;
  if (text.find_first_not_of("-0123456789.e+") == std::string_view::npos) {
    operand.is_float = true;
    operand.real =
        text == "0.15915494" || text == "0.15915494309189532" ? 0.15915494309189532 : std::stod(std::string(text));
    return operand;
  }
  if (take(text, "sext(") && text.ends_with(")")) {
    operand.sign_extend = true;
    text.remove_suffix(1);
  }
  operand.negative = take(text, "-");
  if (take(text, "|") && text.ends_with("|")) {
    operand.absolute = true;
    text.remove_suffix(1);
  }
  if (!parse_registers(text, operand))
    fault("the operand '%.*s' is unknown", static_cast<int>(whole.size()), whole.data());
  return operand;
}

// "a, v[0:1], s[2:3] offset:4 nt" as operands by the commas outside brackets, and the words after the last as
// modifiers.
void split(std::string_view text, std::vector<std::string_view>& operands, std::vector<std::string_view>& modifiers) {
  size_t start = 0;
  int depth = 0;
  const auto finish = [&](size_t end, bool last) {
    std::string_view piece = trim(text.substr(start, end - start));
    const size_t space = last ? piece.find(' ') : std::string_view::npos;
    operands.push_back(piece.substr(0, space));
    while (last && piece.find(' ') != std::string_view::npos) {
      piece = trim(piece.substr(piece.find(' ')));
      const size_t next = piece.find(' ');
      modifiers.push_back(piece.substr(0, next));
      if (next == std::string_view::npos) break;
    }
    start = end + 1;
  };
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '[' || text[i] == '(') depth++;
    if (text[i] == ']' || text[i] == ')') depth--;
    if (text[i] == ',' && depth == 0) finish(i, false);
  }
  if (!trim(text).empty()) finish(text.size(), true);
}

// ---- modifiers ----

Select parse_select(std::string_view text) {
  static const std::unordered_map<std::string_view, Select> names{
      {"DWORD", Select::dword},   {"WORD_0", Select::word_0}, {"WORD_1", Select::word_1}, {"BYTE_0", Select::byte_0},
      {"BYTE_1", Select::byte_1}, {"BYTE_2", Select::byte_2}, {"BYTE_3", Select::byte_3}};
  const auto found = names.find(text);
  if (found == names.end()) fault("the selection '%.*s' is unknown", static_cast<int>(text.size()), text.data());
  return found->second;
}

// [0,1,1] as bits, the first lowest.
uint8_t parse_bits(std::string_view text) {
  uint8_t bits = 0;
  int at = 0;
  for (const char c : text)
    if (c == '0' || c == '1') bits = static_cast<uint8_t>(bits | (c - '0') << at++);
  return bits;
}

// A lane shuffle, or false if the word is none. Rows are 16 lanes.
bool parse_shuffle(std::string_view word, Dpp& dpp) {
  const auto fill = [&](auto source) {
    for (int i = 0; i < lanes; i++) dpp.source[i] = static_cast<int8_t>(source(i));
    return true;
  };
  if (take(word, "quad_perm:")) {
    int pattern[4] = {};
    if (std::sscanf(std::string(word).c_str(), "[%d,%d,%d,%d]", &pattern[0], &pattern[1], &pattern[2], &pattern[3]) !=
        4)
      fault("quad_perm has four lanes");
    return fill([&](int i) { return i / 4 * 4 + pattern[i % 4]; });
  }
  if (word == "row_mirror") return fill([](int i) { return i / 16 * 16 + 15 - i % 16; });
  if (word == "row_half_mirror") return fill([](int i) { return i / 8 * 8 + 7 - i % 8; });
  const size_t colon = word.find(':');
  if (colon == std::string_view::npos || (!word.starts_with("row_") && !word.starts_with("wave_"))) return false;
  const std::string_view name = word.substr(0, colon);
  if (name == "row_mask") return false;
  const int by = static_cast<int>(integer(word.substr(colon + 1)));
  if (name == "row_shl") return fill([&](int i) { return i % 16 + by < 16 ? i + by : -1; });
  if (name == "row_shr") return fill([&](int i) { return i % 16 >= by ? i - by : -1; });
  if (name == "row_ror") return fill([&](int i) { return i / 16 * 16 + (i % 16 + 16 - by) % 16; });
  if (name == "row_newbcast") return fill([&](int i) { return i / 16 * 16 + by; });
  if (name == "wave_shl") return fill([&](int i) { return i + 1 < lanes ? i + 1 : -1; });
  if (name == "wave_shr") return fill([&](int i) { return i - 1; });
  if (name == "wave_rol") return fill([&](int i) { return (i + 1) % lanes; });
  if (name == "wave_ror") return fill([&](int i) { return (i + lanes - 1) % lanes; });
  if (name == "row_bcast" && by == 15) return fill([&](int i) { return i < 16 ? -1 : i / 16 * 16 - 1; });
  if (name == "row_bcast" && by == 31) return fill([&](int i) { return i < 32 ? -1 : 31; });
  fault("the lane shuffle '%.*s' is unknown", static_cast<int>(word.size()), word.data());
}

void parse_modifier(std::string_view word, Instruction& in, Dpp& dpp) {
  const std::string_view whole = word;
  if (word.starts_with("offset:swizzle("))
    in.offset = in.words[0] & 0xFFFF;  // the pattern by its name: its bits are simpler
  else if (take(word, "offset:") || take(word, "offset0:"))
    in.offset = integer(word);
  else if (take(word, "offset1:"))
    in.offset1 = integer(word);
  else if (take(word, "dst_sel:"))
    in.select = parse_select(word);
  else if (take(word, "dst_unused:"))
    in.keep_rest = word == "UNUSED_PRESERVE", in.extend_rest = word == "UNUSED_SEXT";
  else if (take(word, "src0_sel:"))
    in.from[0].select = parse_select(word);
  else if (take(word, "src1_sel:"))
    in.from[1].select = parse_select(word);
  else if (take(word, "op_sel:"))
    in.op_sel = parse_bits(word);
  else if (take(word, "op_sel_hi:"))
    in.op_sel_hi = parse_bits(word);
  else if (take(word, "neg_lo:"))
    in.neg_lo = parse_bits(word);
  else if (take(word, "neg_hi:"))
    in.neg_hi = parse_bits(word);
  else if (take(word, "mul:"))
    in.omod = static_cast<float>(integer(word));
  else if (word == "div:2")
    in.omod = 0.5f;
  else if (word == "clamp")
    in.clamp = true;
  else if (word == "offen")
    in.offen = true;
  else if (word == "idxen")
    in.idxen = true;
  else if (word == "lds")
    in.to_lds = true;
  else if (word == "sc0")
    in.sc0 = true;
  else if (word == "nt" || word == "sc1")
    ;  // cache hints
  else if (take(word, "row_mask:")) {
    const int64_t rows = integer(word);
    for (int i = 0; i < lanes; i++)
      if (!(rows >> i / 16 & 1)) dpp.enabled &= ~(uint64_t{1} << i);
  } else if (take(word, "bank_mask:")) {
    const int64_t banks = integer(word);
    for (int i = 0; i < lanes; i++)
      if (!(banks >> i / 4 % 4 & 1)) dpp.enabled &= ~(uint64_t{1} << i);
  } else if (take(word, "bound_ctrl:"))
    dpp.bound_ctrl = true;
  else if (!parse_shuffle(word, dpp))
    fault("the modifier '%.*s' is unknown", static_cast<int>(whole.size()), whole.data());
}

// ---- instructions ----

bool writes_nothing(std::string_view name, bool sc0) {
  for (const char* prefix :
       {"global_store", "flat_store", "buffer_store", "scratch_store", "ds_write",    "s_cmp",     "s_bitcmp",
        "s_branch",     "s_cbranch",  "s_nop",        "s_waitcnt",     "s_barrier",   "s_endpgm",  "s_setprio",
        "s_sleep",      "s_trap",     "s_dcache",     "s_icache",      "buffer_wbl2", "buffer_inv"})
    if (name.starts_with(prefix)) return true;
  if (name.starts_with("global_atomic")) return !sc0;
  for (const char* atomic : {"ds_add_", "ds_sub_", "ds_max_", "ds_min_", "ds_and_", "ds_or_", "ds_xor_"})
    if (name.starts_with(atomic)) return name.find("_rtn") == std::string_view::npos;
  return false;
}
bool writes_carry(std::string_view name) {
  return name.find("_co_") != std::string_view::npos || name == "v_div_scale_f32" || name == "v_mad_u64_u32" ||
         name == "v_mad_i64_i32";
}

void parse_instruction(std::string_view text, Instruction& in, Code& code) {
  const size_t space = text.find(' ');
  std::string_view name = text.substr(0, space);
  const std::string_view rest = space == std::string_view::npos ? std::string_view() : trim(text.substr(space));
  in.sdwa = name.ends_with("_sdwa");
  const bool dpp_form = name.ends_with("_dpp");
  for (const std::string_view suffix : {"_e32", "_e64", "_sdwa", "_dpp"})
    if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  const bool vector = name.starts_with("v_");
  in.memory = !vector && (!name.starts_with("s_") || name.starts_with("s_load_") || name.starts_with("s_buffer_load_"));
  in.handler = name.starts_with("v_mfma_")        ? find_matrix(name)
               : vector                           ? find_vector(name)
               : in.memory || name == "s_waitcnt" ? find_memory(name)
                                                  : find_scalar(name);
  if (in.handler == nullptr) fault("no instruction '%.*s' is known", static_cast<int>(name.size()), name.data());
  // Their operand is in the encoding.
  if (name.starts_with("s_cbranch") || name == "s_branch" || name == "s_waitcnt" || name == "s_nop" ||
      name == "s_setprio" || name == "s_sleep" || name == "s_barrier" || name == "s_endpgm")
    return;

  std::vector<std::string_view> operands, modifiers;
  split(rest, operands, modifiers);
  if (name == "buffer_wbl2" || name == "buffer_inv") return;
  auto dpp = std::make_unique<Dpp>();
  dpp->enabled = all_lanes, dpp->bound_ctrl = false;
  for (const std::string_view word : modifiers) parse_modifier(word, in, *dpp);
  size_t next = 0;
  if (!writes_nothing(name, in.sc0) && !in.to_lds && next < operands.size()) in.to = parse_operand(operands[next++]);
  if (writes_carry(name) && next < operands.size()) in.carry = parse_operand(operands[next++]);
  for (; next < operands.size(); next++) {
    if (in.count == 5) fault("more than five operands");
    Operand operand = parse_operand(operands[next]);
    operand.select = in.from[in.count].select;
    in.from[in.count++] = operand;
  }
  if (dpp_form) {
    in.dpp = dpp.get();
    code.shuffles.push_back(std::move(dpp));
  }
  // Only packed instructions and the FP8 conversions select halves here.
  if ((in.op_sel | in.neg_lo | in.neg_hi) != 0 && !name.starts_with("v_pk_") && !name.starts_with("v_cvt_pk_"))
    fault("op_sel or neg on an instruction that does not have it here");
  if ((name.starts_with("v_cvt_pk_") || name == "v_cvt_f32_fp8") && in.select != Select::dword)
    fault("dst_sel on a conversion");
}

}  // namespace

std::map<std::string, std::string> disassemble(const void* image, size_t size) {
  const int file = memfd_create("code object", 0);
  if (file < 0 || write(file, image, size) != static_cast<ssize_t>(size))
    fault("memfd_create: %s", std::strerror(errno));
  const std::string command =
      OCTET_OBJDUMP " -d --mcpu=gfx942 /proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file);
  std::map<std::string, std::string> functions;
  std::string* current = nullptr;
  std::FILE* pipe = popen(command.c_str(), "r");
  char* line = nullptr;
  size_t capacity = 0;
  while (pipe != nullptr && getline(&line, &capacity, pipe) > 0) {
    const std::string_view text(line);
    const size_t bracket = text.find('<');
    if (text.front() == '\t' && current != nullptr)
      current->append(text.substr(1));
    else if (text.ends_with(">:\n") && bracket != std::string_view::npos)
      current = &functions[std::string(text.substr(bracket + 1, text.size() - bracket - 4))];
  }
  std::free(line);
  const int status = pipe == nullptr ? -1 : pclose(pipe);
  close(file);
  if (status != 0 || functions.empty()) fault("'%s' gives status %d", command.c_str(), status);
  return functions;
}

Code decode(const std::string& kernel, const std::string& text) {
  Code code;
  std::unordered_map<uint64_t, int> index_of;
  for (size_t start = 0; start < text.size();) {
    const size_t end = text.find('\n', start);
    const std::string_view line = std::string_view(text).substr(start, end - start);
    start = end + 1;
    // "v_mov_b32_e32 v0, 1      // 000000001234: 7E000281 ..."
    const size_t comment = line.find("// ");
    if (comment == std::string_view::npos)
      fault("%s: a line without its encoding: %s", kernel.c_str(), std::string(line).c_str());
    Instruction& in = code.instructions.emplace_back();
    in.text = trim(line.substr(0, comment));
    const std::string encoding(line.substr(comment + 3));
    unsigned long long pc = 0;
    if (std::sscanf(encoding.c_str(), "%llx: %x %x", &pc, &in.words[0], &in.words[1]) < 2)
      fault("%s: an encoding that cannot be read: %s", kernel.c_str(), encoding.c_str());
    in.pc = pc;
    index_of[in.pc] = static_cast<int>(code.instructions.size()) - 1;
    try {
      parse_instruction(in.text, in, code);
    } catch (const Fault& problem) {
      fault("%s: pc 0x%llx: '%s': %s", kernel.c_str(), pc, in.text.c_str(), problem.what());
    }
  }
  for (Instruction& in : code.instructions) {
    if (!in.text.starts_with("s_branch") && !in.text.starts_with("s_cbranch")) continue;
    const uint64_t to = in.pc + 4 + static_cast<uint64_t>(4 * int64_t{static_cast<int16_t>(in.words[0])});
    const auto found = index_of.find(to);
    if (found == index_of.end())
      fault("%s: pc 0x%llx branches out of the kernel", kernel.c_str(), static_cast<unsigned long long>(in.pc));
    in.target = found->second;
  }
  return code;
}

}  // namespace octet::gfx942
