#pragma once
// PTX as text: a module's kernels, and a kernel's statements. What the statements mean is decoder.h's.

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ptx_on_cpu {

/// PTX that the machine cannot run; says where.
struct PtxError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One instruction as it was written. The views are of the module's text.
struct Statement {
  std::string_view guard;                  // the predicate's name; empty: none
  bool negated = false;                    // @!p
  std::vector<std::string_view> opcode;    // the parts between dots: "ld", "global", "v2", "f32"
  std::vector<std::string_view> operands;  // `{a, b}` and `[a+4]` are one each
  std::string_view text;
  std::uint32_t line = 0;         // of the PTX
  std::uint32_t source_file = 0;  // of what nvcc compiled, as .file numbers it; 0: unknown
  std::uint32_t source_line = 0;
};

/// Room in one of the state spaces.
struct Variable {
  std::uint64_t offset = 0, bytes = 0;
};

struct Register {
  std::uint32_t offset = 0;  // in a warp's register file
  std::uint32_t bytes = 0;   // of one lane's value; 0: a predicate, one bit of a 32-bit mask for each lane
};

/// What receives the parts of a kernel's body in their order.
class BodyReader {
 public:
  virtual ~BodyReader() = default;
  virtual void open_scope() = 0;
  virtual void close_scope() = 0;
  virtual void label(std::string_view name) = 0;
  /// .reg, .shared, .local: the words before the `;`.
  virtual void declaration(std::string_view text, std::uint32_t line) = 0;
  virtual void statement(const Statement& statement) = 0;
};

/// A kernel before it is decoded.
struct EntryText {
  std::string name;
  std::string_view parameters;  // between the parentheses
  std::string_view directives;  // between them and the body: .maxntid …
  std::string_view body;        // between the braces
  std::uint32_t line = 0;       // where the body begins
};

/// The text of a translation unit.
class Module {
 public:
  /// Throws PtxError where the text holds what is neither a kernel nor shared memory: functions, global variables.
  explicit Module(std::string text);
  Module(const Module&) = delete;

  const std::map<std::string, EntryText, std::less<>>& entries() const { return entries_; }
  /// .extern .shared name[]: alignment of each.
  const std::map<std::string_view, std::uint64_t>& dynamic_shared() const { return dynamic_shared_; }
  /// .shared outside of kernels, as declared.
  const std::vector<std::string_view>& shared() const { return shared_; }
  /// The path behind a number of .loc; empty if there is none.
  std::string source_file(std::uint32_t number) const;

 private:
  std::string text_;
  std::map<std::string, EntryText, std::less<>> entries_;
  std::map<std::string_view, std::uint64_t> dynamic_shared_;
  std::vector<std::string_view> shared_;
};

/// Hands a body's parts to `reader`, in order.
void read_body(const EntryText& entry, BodyReader& reader);

// Small parts of the language.
std::string_view trimmed(std::string_view text);
/// At commas that are in no bracket.
std::vector<std::string_view> split_list(std::string_view text);
/// `.align 8 .b8 name[16]`, `.u64 name`, `name<5>`: what a declaration says.
struct Declaration {
  std::string_view type, name;
  std::uint64_t alignment = 0, count = 1;
  bool is_array = false;        // name[…]
  bool is_family = false;       // name<count>
  bool unknown_length = false;  // name[]
};
Declaration read_declaration(std::string_view text, std::uint32_t line);
/// Another name of the same type: what follows a comma.
Declaration read_declared_name(Declaration type, std::string_view text, std::uint32_t line);
/// Of a type's name, without the dot: bytes of one value; 0: a predicate. Throws PtxError for what is no type.
std::uint32_t bytes_of_type(std::string_view type, std::uint32_t line);

}  // namespace ptx_on_cpu
