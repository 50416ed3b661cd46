#pragma once
// From statements to instructions with handlers. Each file of operations knows some opcodes: it takes their modifiers one by one, and a
// modifier that nobody took is an error, as an unknown opcode is.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "machine.h"

namespace ptx_on_cpu {

enum class Type : std::uint8_t {
  none,
  pred,
  b8,
  b16,
  b32,
  b64,
  u8,
  u16,
  u32,
  u64,
  s8,
  s16,
  s32,
  s64,
  f16,
  bf16,
  bf16x2,
  f32,
  f64
};
std::uint32_t bytes_of(Type type);
bool is_signed(Type type);

/// [base + offset]
struct Address {
  std::uint32_t base = kNoOperand;  // a register's operand; none: the offset is all
  std::uint32_t base_bytes = 8;
  std::int64_t offset = 0;
};

class Decoder : private BodyReader {
 public:
  /// All of a kernel. Throws PtxError.
  static std::unique_ptr<Kernel> decode(const Module& module, const EntryText& entry);

  // ---- of the present statement, for the files of operations ----
  Instruction out;
  std::string_view base() const { return statement_->opcode[0]; }
  /// Whether the modifier is there, which is then taken.
  bool take(std::string_view modifier);
  /// The last modifier that is not taken, which must be a type.
  Type take_last_type();
  /// The same modifier, not taken; none if it is no type.
  Type last_type() const;
  /// Whether the opcode is exactly this; all of it is then taken.
  bool take_all(std::string_view opcode);
  std::size_t operands() const { return statement_->operands.size(); }
  std::string_view operand(std::size_t k);
  /// A value that is read, register or immediate, of `bytes` bytes a lane.
  std::uint32_t source(std::size_t k, Type type) { return source(operand(k), type); }
  std::uint32_t source(std::string_view text, Type type);
  /// A register that is written; its size must be the type's.
  std::uint32_t target(std::size_t k, Type type) { return target(operand(k), type); }
  std::uint32_t target(std::string_view text, Type type);
  /// A register of any size. `_` has a place nobody reads, of 8 bytes.
  Register any_register(std::string_view text);
  /// The parts of {a, b}, or the one operand.
  std::vector<std::string_view> vector(std::size_t k);
  Address address(std::size_t k);
  std::uint64_t immediate(std::size_t k);
  std::uint32_t constant(std::uint64_t bits, std::uint32_t bytes);
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  Decoder(const Module& module, const EntryText& entry);
  void read_parameters(std::string_view parameters);
  void open_scope() override { scopes_.emplace_back(); }
  void close_scope() override;
  void label(std::string_view name) override;
  void declaration(std::string_view text, std::uint32_t line) override;
  void statement(const Statement& statement) override;
  void place_shared();

  struct Family {
    Register first;
    std::uint64_t count;
  };
  struct Scope {
    std::map<std::string_view, Register> registers;
    std::map<std::string_view, Family> families;
  };
  const Register* find(std::string_view name, Register& room) const;
  std::uint32_t place(std::uint32_t bytes, std::uint64_t count);
  bool immediate_bits(std::string_view text, Type type, std::uint64_t& bits) const;

  const Module& module_;
  const EntryText& entry_;
  std::unique_ptr<Kernel> kernel_;
  const Statement* statement_ = nullptr;
  std::vector<bool> taken_;
  std::vector<Scope> scopes_;
  std::map<std::string_view, std::uint64_t> symbols_;  // variables of all spaces: their addresses
  std::map<std::string_view, std::int64_t> labels_;
  std::vector<std::pair<std::size_t, std::string_view>> branches_;
  std::map<std::pair<std::uint64_t, std::uint32_t>, std::uint32_t> constants_;
};

/// An opcode's first part, and who decodes it: false if it is of a type that is another's.
using DecodeFunction = bool (*)(Decoder&);
struct Opcode {
  std::string_view name;
  DecodeFunction decode;
};
using Opcodes = std::vector<Opcode>;
Opcodes float_opcodes();
Opcodes integer_opcodes();
Opcodes bit_opcodes();
Opcodes compare_opcodes();
Opcodes conversion_opcodes();
Opcodes memory_opcodes();
Opcodes atomic_opcodes();
Opcodes async_copy_opcodes();
Opcodes warp_opcodes();
Opcodes matrix_opcodes();
Opcodes flow_opcodes();

}  // namespace ptx_on_cpu
