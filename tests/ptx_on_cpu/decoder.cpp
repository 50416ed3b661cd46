#include "decoder.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

namespace ptx_on_cpu {
namespace {

constexpr std::pair<std::string_view, Type> kTypes[] = {
    {"pred", Type::pred}, {"b8", Type::b8},   {"b16", Type::b16},      {"b32", Type::b32}, {"b64", Type::b64},
    {"u8", Type::u8},     {"u16", Type::u16}, {"u32", Type::u32},      {"u64", Type::u64}, {"s8", Type::s8},
    {"s16", Type::s16},   {"s32", Type::s32}, {"s64", Type::s64},      {"f16", Type::f16}, {"bf16", Type::bf16},
    {"f32", Type::f32},   {"f64", Type::f64}, {"bf16x2", Type::bf16x2}};

Type type_of(std::string_view name) {
  for (const auto& [known, type] : kTypes)
    if (known == name) return type;
  return Type::none;
}

constexpr std::pair<std::string_view, Special> kSpecialNames[] = {
    {"%tid.x", kTidX},         {"%tid.y", kTidY},         {"%tid.z", kTidZ},         {"%ntid.x", kNtidX},
    {"%ntid.y", kNtidY},       {"%ntid.z", kNtidZ},       {"%ctaid.x", kCtaidX},     {"%ctaid.y", kCtaidY},
    {"%ctaid.z", kCtaidZ},     {"%nctaid.x", kNctaidX},   {"%nctaid.y", kNctaidY},   {"%nctaid.z", kNctaidZ},
    {"%laneid", kLaneid},      {"%warpid", kWarpid},      {"%nwarpid", kNwarpid},    {"%lanemask_eq", kMaskEq},
    {"%lanemask_le", kMaskLe}, {"%lanemask_lt", kMaskLt}, {"%lanemask_ge", kMaskGe}, {"%lanemask_gt", kMaskGt}};

constexpr std::uint64_t aligned(std::uint64_t offset, std::uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

const std::multimap<std::string_view, DecodeFunction>& known_opcodes() {
  static const auto& all = *[] {
    auto* map = new std::multimap<std::string_view, DecodeFunction>;
    for (const Opcodes& some :
         {float_opcodes(), integer_opcodes(), bit_opcodes(), compare_opcodes(), conversion_opcodes(), memory_opcodes(),
          atomic_opcodes(), async_copy_opcodes(), warp_opcodes(), matrix_opcodes(), flow_opcodes()})
      for (const Opcode& one : some) map->emplace(one.name, one.decode);
    return map;
  }();
  return all;
}

/// The room that a kernel's own shared variables take.
struct SharedReader : BodyReader {
  void open_scope() override {}
  void close_scope() override {}
  void label(std::string_view) override {}
  void statement(const Statement&) override {}
  void declaration(std::string_view text, std::uint32_t line) override {
    if (text.starts_with(".shared")) declared.emplace_back(text, line);
  }
  std::vector<std::pair<std::string_view, std::uint32_t>> declared;
};

}  // namespace

std::uint32_t bytes_of(Type type) {
  switch (type) {
    case Type::b8:
    case Type::u8:
    case Type::s8:
      return 1;
    case Type::b16:
    case Type::u16:
    case Type::s16:
    case Type::f16:
    case Type::bf16:
      return 2;
    case Type::b32:
    case Type::u32:
    case Type::s32:
    case Type::f32:
    case Type::bf16x2:
      return 4;
    case Type::b64:
    case Type::u64:
    case Type::s64:
    case Type::f64:
      return 8;
    default:
      return 0;
  }
}

bool is_signed(Type type) {
  return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64;
}

void Decoder::refuse(const std::string& what) const {
  std::string text = "kernel " + entry_.name;
  if (statement_)
    text += ", PTX line " + std::to_string(statement_->line) + ": " + what + ": " + std::string(statement_->text);
  else
    text += ": " + what;
  throw PtxError(text);
}

Decoder::Decoder(const Module& module, const EntryText& entry)
    : module_(module), entry_(entry), kernel_(std::make_unique<Kernel>()) {}

std::unique_ptr<Kernel> Decoder::decode(const Module& module, const EntryText& entry) {
  Decoder d(module, entry);
  d.kernel_->name = entry.name;
  d.kernel_->module = &module;
  d.scopes_.emplace_back();
  d.place(4, kSpecials);
  for (std::uint32_t k = 0; k < std::size(kSpecialNames); ++k)
    d.scopes_[0].registers[kSpecialNames[k].first] = {kSpecialNames[k].second * 4 * kLanes, 4};
  d.scopes_[0].registers["_"] = {d.place(8, 1), 8};
  d.read_parameters(entry.parameters);
  d.place_shared();
  read_body(entry, d);
  d.statement_ = nullptr;
  for (const auto& [index, name] : d.branches_) {
    const auto label = d.labels_.find(name);
    if (label == d.labels_.end()) d.refuse("no label " + std::string(name));
    d.kernel_->code[index].value = label->second;
  }
  // A kernel ends with ret, or runs out of its body.
  Instruction last;
  last.flow = Flow::exit;
  last.kind = Class::branch;
  d.kernel_->code.push_back(last);
  d.kernel_->text.push_back("(the end of the kernel)");
  return std::move(d.kernel_);
}

void Decoder::read_parameters(std::string_view parameters) {
  if (!trimmed(parameters).empty()) {
    for (const std::string_view text : split_list(parameters)) {
      const Declaration p = read_declaration(text, entry_.line);
      const std::uint64_t bytes = bytes_of_type(p.type, entry_.line) * p.count;
      const std::uint64_t offset = aligned(kernel_->parameter_bytes, p.alignment);
      symbols_[p.name] = offset;
      kernel_->parameters.push_back({offset, bytes});
      kernel_->parameter_bytes = offset + bytes;
    }
  }
  std::string_view directives = entry_.directives;
  const std::size_t at = directives.find(".maxntid");
  if (at == std::string_view::npos) return;
  std::uint64_t threads = 1;
  directives = directives.substr(at + 8);
  directives = directives.substr(0, directives.find('.'));
  for (const std::string_view number : split_list(trimmed(directives)))
    threads *= std::strtoull(std::string(number).c_str(), nullptr, 10);
  kernel_->most_threads = threads;
}

void Decoder::place_shared() {
  std::uint64_t end = kSharedBegin;
  const auto add = [&](std::string_view text, std::uint32_t line) {
    const Declaration v = read_declaration(text, line);
    end = aligned(end, v.alignment);
    symbols_[v.name] = end;
    end += bytes_of_type(v.type, line) * v.count;
  };
  for (const std::string_view text : module_.shared())
    if (entry_.body.find(read_declaration(text, 0).name) != std::string_view::npos) add(text, 0);
  SharedReader reader;
  read_body(entry_, reader);
  for (const auto& [text, line] : reader.declared) add(text, line);
  kernel_->static_shared = end - kSharedBegin;
  for (const auto& [name, alignment] : module_.dynamic_shared()) end = aligned(end, alignment);
  for (const auto& [name, alignment] : module_.dynamic_shared()) symbols_[name] = end;
  kernel_->dynamic_begin = end;
}

void Decoder::close_scope() {
  if (scopes_.size() < 2) refuse("a brace too many");
  scopes_.pop_back();
}

void Decoder::label(std::string_view name) {
  if (!labels_.emplace(name, static_cast<std::int64_t>(kernel_->code.size())).second)
    refuse("a label twice: " + std::string(name));
}

std::uint32_t Decoder::place(std::uint32_t bytes, std::uint64_t count) {
  const std::uint32_t offset = kernel_->register_bytes;
  const std::uint64_t room = bytes == 0 ? count * sizeof(Mask) : count * bytes * kLanes;
  const std::uint64_t end = aligned(offset + room, 64);
  if (end > kConstant - 1) refuse("too many registers");
  kernel_->register_bytes = static_cast<std::uint32_t>(end);
  return offset;
}

void Decoder::declaration(std::string_view text, std::uint32_t line) {
  if (text.starts_with(".shared")) return;  // place_shared
  const auto parts = split_list(text);
  Declaration d = read_declaration(parts[0], line);
  const std::uint32_t bytes = bytes_of_type(d.type, line);
  if (text.starts_with(".local")) {
    if (parts.size() > 1) refuse("a list of variables: " + std::string(text));
    const std::uint64_t offset = aligned(kernel_->local_bytes, d.alignment);
    symbols_[d.name] = offset;
    kernel_->local_bytes = offset + bytes * d.count;
    return;
  }
  for (std::size_t k = 0; k < parts.size(); ++k) {
    if (k > 0) d = read_declared_name(d, parts[k], line);
    if (d.is_array) refuse("an array of registers: " + std::string(text));
    const Register first{place(bytes, d.count), bytes};
    if (d.is_family)
      scopes_.back().families[d.name] = {first, d.count};
    else
      scopes_.back().registers[d.name] = first;
  }
}

const Register* Decoder::find(std::string_view name, Register& room) const {
  std::size_t digits = name.size();
  while (digits > 0 && std::isdigit(static_cast<unsigned char>(name[digits - 1]))) --digits;
  std::uint64_t number = 0;
  for (std::size_t k = digits; k < name.size(); ++k) number = number * 10 + static_cast<std::uint64_t>(name[k] - '0');
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (const auto one = scope->registers.find(name); one != scope->registers.end()) return &one->second;
    if (digits == name.size()) continue;
    const auto family = scope->families.find(name.substr(0, digits));
    if (family == scope->families.end() || number >= family->second.count) continue;
    const Register& first = family->second.first;
    const std::uint32_t size = first.bytes == 0 ? static_cast<std::uint32_t>(sizeof(Mask)) : first.bytes * kLanes;
    room = {first.offset + static_cast<std::uint32_t>(number) * size, first.bytes};
    return &room;
  }
  return nullptr;
}

bool Decoder::take(std::string_view modifier) {
  for (std::size_t k = 1; k < taken_.size(); ++k) {
    if (!taken_[k] && statement_->opcode[k] == modifier) {
      taken_[k] = true;
      return true;
    }
  }
  return false;
}

bool Decoder::take_all(std::string_view opcode) {
  const auto& parts = statement_->opcode;
  std::string whole;
  for (const std::string_view part : parts) whole.append(whole.empty() ? "" : ".").append(part);
  if (whole != opcode) return false;
  std::fill(taken_.begin(), taken_.end(), true);
  return true;
}

Type Decoder::last_type() const {
  for (std::size_t k = taken_.size(); k-- > 1;)
    if (!taken_[k]) return type_of(statement_->opcode[k]);
  return Type::none;
}

Type Decoder::take_last_type() {
  for (std::size_t k = taken_.size(); k-- > 1;) {
    if (taken_[k]) continue;
    const Type type = type_of(statement_->opcode[k]);
    if (type == Type::none) break;
    taken_[k] = true;
    return type;
  }
  refuse("no type");
}

std::string_view Decoder::operand(std::size_t k) {
  if (k >= operands()) refuse("operands are missing");
  return statement_->operands[k];
}

bool Decoder::immediate_bits(std::string_view text, Type type, std::uint64_t& bits) const {
  const auto hexadecimal = [&](std::size_t digits) {
    if (text.size() != 2 + digits) return false;
    bits = std::strtoull(std::string(text.substr(2)).c_str(), nullptr, 16);
    return true;
  };
  if (text.starts_with("0f") || text.starts_with("0F")) return hexadecimal(8);
  if (text.starts_with("0d") || text.starts_with("0D")) {
    if (!hexadecimal(16)) return false;
    if (type == Type::f32) {  // rounded to the operand's type
      const auto rounded = static_cast<float>(std::bit_cast<double>(bits));
      bits = std::bit_cast<std::uint32_t>(rounded);
    }
    return true;
  }
  if (text == "WARP_SZ") {
    bits = kLanes;
    return true;
  }
  std::string number(text);
  if (number.empty() || !(std::isdigit(static_cast<unsigned char>(number[0])) || number[0] == '-')) return false;
  if (number.back() == 'U') number.pop_back();
  char* end = nullptr;
  bits = number[0] == '-' ? static_cast<std::uint64_t>(std::strtoll(number.c_str(), &end, 0))
                          : std::strtoull(number.c_str(), &end, 0);
  return *end == '\0' && type != Type::f32 && type != Type::f64;
}

std::uint32_t Decoder::constant(std::uint64_t bits, std::uint32_t bytes) {
  if (bytes != 0 && bytes < 8) bits &= (std::uint64_t{1} << bytes * 8) - 1;
  const auto [known, is_new] = constants_.try_emplace({bits, bytes}, 0);
  if (!is_new) return known->second;
  auto& room = kernel_->constants;
  const std::uint32_t offset = static_cast<std::uint32_t>(room.size() * 8) | kConstant;
  known->second = offset;
  const std::size_t begin = room.size();
  if (bytes == 0) {
    room.resize(begin + 8);
    const Mask mask = bits ? kAllLanes : 0;
    std::memcpy(&room[begin], &mask, sizeof(mask));
  } else {
    const std::uint32_t each = std::max(bytes, 2u);
    room.resize(begin + kLanes * each / 8);
    for (std::size_t l = 0; l < kLanes; ++l) std::memcpy(reinterpret_cast<char*>(&room[begin]) + l * each, &bits, each);
  }
  return offset;
}

std::uint32_t Decoder::source(std::string_view text, Type type) {
  Register room;
  if (const Register* r = find(text, room)) {
    if (r->bytes != bytes_of(type)) refuse("an operand of another size than the type");
    return r->offset;
  }
  std::uint64_t bits = 0;
  if (immediate_bits(text, type, bits)) return constant(bits, bytes_of(type));
  if (const auto symbol = symbols_.find(text); symbol != symbols_.end())
    return constant(symbol->second, bytes_of(type));
  refuse("unknown operand " + std::string(text));
}

std::uint32_t Decoder::target(std::string_view text, Type type) {
  Register room;
  if (text == "_") return find(text, room)->offset;
  const Register* r = find(text, room);
  if (!r || r->offset < kSpecials * 4 * kLanes) refuse("no register to write: " + std::string(text));
  if (r->bytes != bytes_of(type)) refuse("a register of another size than the type");
  return r->offset;
}

Register Decoder::any_register(std::string_view text) {
  Register room;
  const Register* r = find(text, room);
  if (!r) refuse("no register: " + std::string(text));
  return *r;
}

std::vector<std::string_view> Decoder::vector(std::size_t k) {
  const std::string_view text = operand(k);
  if (!text.starts_with('{')) return {text};
  if (!text.ends_with('}')) refuse("no end of a vector");
  return split_list(text.substr(1, text.size() - 2));
}

Address Decoder::address(std::size_t k) {
  std::string_view text = operand(k);
  if (!text.starts_with('[') || !text.ends_with(']')) refuse("no address");
  text = trimmed(text.substr(1, text.size() - 2));
  Address a;
  std::string_view base = text;
  if (const std::size_t plus = text.find('+'); plus != std::string_view::npos) {
    base = trimmed(text.substr(0, plus));
    std::uint64_t offset = 0;
    if (!immediate_bits(trimmed(text.substr(plus + 1)), Type::s64, offset)) refuse("no offset");
    a.offset = static_cast<std::int64_t>(offset);
  }
  Register room;
  if (const Register* r = find(base, room)) {
    a.base = r->offset;
    a.base_bytes = r->bytes;
    if (r->bytes != 4 && r->bytes != 8) refuse("an address in a register of another size");
    return a;
  }
  std::uint64_t bits = 0;
  if (const auto symbol = symbols_.find(base); symbol != symbols_.end())
    a.offset += static_cast<std::int64_t>(symbol->second);
  else if (immediate_bits(base, Type::s64, bits))
    a.offset += static_cast<std::int64_t>(bits);
  else
    refuse("unknown address");
  a.base = constant(0, 8);
  return a;
}

std::uint64_t Decoder::immediate(std::size_t k) {
  std::uint64_t bits = 0;
  if (!immediate_bits(operand(k), Type::s64, bits)) refuse("no constant: " + std::string(operand(k)));
  return bits;
}

void Decoder::statement(const Statement& statement) {
  statement_ = &statement;
  out = Instruction{};
  out.line = statement.line;
  out.source_file = statement.source_file;
  out.source_line = statement.source_line;
  if (!statement.guard.empty()) {
    out.guard = source(statement.guard, Type::pred);
    out.negated = statement.negated;
  }
  taken_.assign(statement.opcode.size(), false);
  bool known = false;
  const auto [begin, end] = known_opcodes().equal_range(base());
  for (auto one = begin; one != end && !known; ++one) known = one->second(*this);
  if (!known) refuse("unknown instruction");
  for (std::size_t k = 1; k < taken_.size(); ++k)
    if (!taken_[k]) refuse("unknown modifier ." + std::string(statement.opcode[k]));
  if (out.flow == Flow::branch) branches_.emplace_back(kernel_->code.size(), operand(0));
  if (!out.run && out.flow != Flow::branch && out.flow != Flow::exit) refuse("no handler");
  kernel_->code.push_back(out);
  kernel_->text.emplace_back(statement.text);
}

}  // namespace ptx_on_cpu
