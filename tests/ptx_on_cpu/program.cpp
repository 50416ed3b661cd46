#include "program.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace ptx_on_cpu {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\0';
}
bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.';
}

[[noreturn]] void refuse(std::uint32_t line, const std::string& what) {
  throw PtxError("PTX line " + std::to_string(line) + ": " + what);
}

/// A place in text, that knows its line.
class Cursor {
 public:
  Cursor(std::string_view text, std::uint32_t line, std::size_t at = 0) : text_(text), at_(at), line_(line) {}
  bool ended() {
    skip();
    return at_ >= text_.size();
  }
  char peek() const { return text_[at_]; }
  void step() { advance(at_ + 1); }
  std::uint32_t line() const { return line_; }
  std::size_t at() const { return at_; }
  void advance(std::size_t to) {
    line_ += static_cast<std::uint32_t>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                                   text_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    at_ = to;
  }
  /// Up to the next `end`, which is passed.
  std::string_view until(char end) {
    const std::size_t stop = std::min(text_.find(end, at_), text_.size());
    const std::string_view part = text_.substr(at_, stop - at_);
    advance(std::min(stop + 1, text_.size()));
    return part;
  }
  std::string_view word() const {
    std::size_t stop = at_;
    while (stop < text_.size() && is_name(text_[stop])) ++stop;
    return text_.substr(at_, stop - at_);
  }
  std::string_view rest() const { return text_.substr(at_); }

 private:
  void skip() {  // blanks and comments
    while (at_ < text_.size()) {
      if (is_space(text_[at_])) {
        line_ += text_[at_] == '\n';
        ++at_;
      } else if (text_.compare(at_, 2, "//") == 0) {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else {
        return;
      }
    }
  }
  std::string_view text_;
  std::size_t at_;
  std::uint32_t line_;
};

void split_opcode(std::string_view opcode, std::vector<std::string_view>& parts) {
  while (true) {
    const std::size_t dot = opcode.find('.');
    parts.push_back(opcode.substr(0, dot));
    if (dot == std::string_view::npos) return;
    opcode.remove_prefix(dot + 1);
    // .L1::no_allocate is one modifier: dots only stand before it.
  }
}

Statement read_statement(std::string_view text, std::uint32_t line) {
  Statement s;
  s.text = trimmed(text);
  s.line = line;
  std::string_view rest = s.text;
  if (rest.find("//") != std::string_view::npos) refuse(line, "a comment within an instruction");
  if (rest.starts_with('@')) {
    rest.remove_prefix(1);
    if (rest.starts_with('!')) {
      s.negated = true;
      rest.remove_prefix(1);
    }
    const auto end = static_cast<std::size_t>(std::find_if(rest.begin(), rest.end(), is_space) - rest.begin());
    s.guard = rest.substr(0, end);
    rest = trimmed(rest.substr(end));
  }
  const auto end = static_cast<std::size_t>(std::find_if(rest.begin(), rest.end(), is_space) - rest.begin());
  split_opcode(rest.substr(0, end), s.opcode);
  rest = trimmed(rest.substr(end));
  if (!rest.empty()) s.operands = split_list(rest);
  return s;
}

std::uint64_t to_number(std::string_view text, std::uint32_t line) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
    refuse(line, "no number: " + std::string(text));
  return std::strtoull(std::string(text).c_str(), nullptr, 10);
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t k = 0; k < text.size(); ++k) {
    const char c = text[k];
    depth += (c == '{' || c == '[' || c == '(') - (c == '}' || c == ']' || c == ')');
    if (c != ',' || depth > 0) continue;
    parts.push_back(trimmed(text.substr(begin, k - begin)));
    begin = k + 1;
  }
  parts.push_back(trimmed(text.substr(begin)));
  return parts;
}

std::uint32_t bytes_of_type(std::string_view type, std::uint32_t line) {
  if (type == "pred") return 0;
  if (type == "bf16" || type == "f16") return 2;
  if (type == "bf16x2" || type == "f16x2") return 4;
  if (type.size() >= 2 && std::string_view("busf").find(type[0]) != std::string_view::npos) {
    const std::string_view bits = type.substr(1);
    if (bits == "8") return 1;
    if (bits == "16") return 2;
    if (bits == "32") return 4;
    if (bits == "64") return 8;
  }
  refuse(line, "unknown type ." + std::string(type));
}

Declaration read_declaration(std::string_view text, std::uint32_t line) {
  Declaration d;
  Cursor at(text, line);
  while (!at.ended() && at.peek() == '.') {
    const std::string_view word = at.word().substr(1);
    at.advance(at.at() + word.size() + 1);
    if (word == "align") {
      if (at.ended()) refuse(line, "no alignment");
      d.alignment = to_number(at.word(), line);
      at.advance(at.at() + at.word().size());
    } else if (word != "param" && word != "shared" && word != "local" && word != "reg" && word != "extern") {
      d.type = word;
    }
  }
  if (at.ended() || d.type.empty()) refuse(line, "no declaration: " + std::string(text));
  const std::uint32_t bytes = bytes_of_type(d.type, line);
  if (d.alignment == 0) d.alignment = std::max(bytes, 1u);
  return read_declared_name(d, at.rest(), line);
}

Declaration read_declared_name(Declaration d, std::string_view text, std::uint32_t line) {
  d.name = Cursor(text, line).word();
  if (d.name.empty()) refuse(line, "no name: " + std::string(text));
  std::string_view rest = trimmed(text.substr(d.name.size()));
  d.count = 1;
  d.is_family = d.is_array = d.unknown_length = false;
  if (rest.starts_with('<') && rest.ends_with('>')) {
    d.is_family = true;
    d.count = to_number(rest.substr(1, rest.size() - 2), line);
  } else if (rest.starts_with('[') && rest.ends_with(']')) {
    d.is_array = true;
    rest = trimmed(rest.substr(1, rest.size() - 2));
    d.unknown_length = rest.empty();
    d.count = rest.empty() ? 0 : to_number(rest, line);
  } else if (!rest.empty()) {
    refuse(line, "unknown declaration: " + std::string(text));
  }
  return d;
}

Module::Module(std::string text) : text_(std::move(text)) {
  Cursor at(text_, 1);
  while (!at.ended()) {
    const std::string_view word = at.word();
    if (word == ".version" || word == ".target" || word == ".address_size" || word == ".file" || word == ".loc") {
      at.until('\n');
    } else if (word == ".section") {  // of the debugger
      at.until('{');
      at.until('}');
    } else if (word == ".visible" || word == ".weak") {
      at.advance(at.at() + word.size());
    } else if (word == ".entry") {
      at.advance(at.at() + word.size());
      if (at.ended()) refuse(at.line(), "no kernel's name");
      EntryText entry;
      entry.name = at.word();
      at.until('(');
      entry.parameters = at.until(')');
      entry.directives = at.until('{');
      entry.line = at.line();
      // Its end: braces within statements and scopes come in pairs, and none stand in comments or strings.
      const std::size_t begin = at.at();
      std::size_t end = begin;
      for (int depth = 1; end < text_.size(); ++end) {
        depth += (text_[end] == '{') - (text_[end] == '}');
        if (depth == 0) break;
      }
      if (end == text_.size()) refuse(entry.line, "no end of the kernel " + entry.name);
      entry.body = std::string_view(text_).substr(begin, end - begin);
      at.advance(end + 1);
      entries_.emplace(entry.name, entry);
    } else if (word == ".extern" || word == ".shared") {
      const std::uint32_t line = at.line();
      const std::string_view declared = at.until(';');
      if (declared.find(".shared") == std::string_view::npos) refuse(line, "unknown: " + std::string(declared));
      const Declaration d = read_declaration(declared, line);
      if (word == ".extern" && d.unknown_length)
        dynamic_shared_[d.name] = d.alignment;
      else
        shared_.push_back(declared);
    } else {
      refuse(at.line(), "a module may hold kernels and shared memory, and not: " + std::string(at.until('\n')));
    }
  }
}

std::string Module::source_file(std::uint32_t number) const {
  const std::string mark = ".file\t" + std::to_string(number) + " \"";
  const std::size_t at = text_.find(mark);
  if (at == std::string::npos) return {};
  const std::size_t begin = at + mark.size();
  return text_.substr(begin, text_.find('"', begin) - begin);
}

void read_body(const EntryText& entry, BodyReader& reader) {
  Cursor at(entry.body, entry.line);
  std::uint32_t source_file = 0, source_line = 0;
  while (!at.ended()) {
    const char c = at.peek();
    const std::uint32_t line = at.line();
    if (c == '{') {
      reader.open_scope();
      at.step();
      continue;
    }
    if (c == '}') {
      reader.close_scope();
      at.step();
      continue;
    }
    if (c == ';') {  // after a statement of inline PTX that has its own
      at.step();
      continue;
    }
    if (c == '.') {
      const std::string_view word = at.word();
      if (word == ".loc") {  // number, line, column, perhaps where it was inlined
        std::string_view rest = at.until('\n').substr(word.size());
        char* next = nullptr;
        const std::string copy(rest);
        source_file = static_cast<std::uint32_t>(std::strtoul(copy.c_str(), &next, 10));
        source_line = static_cast<std::uint32_t>(std::strtoul(next, nullptr, 10));
      } else if (word == ".pragma") {
        at.until(';');
      } else if (word == ".reg" || word == ".shared" || word == ".local") {
        reader.declaration(at.until(';'), line);
      } else {
        refuse(line, "unknown directive " + std::string(word));
      }
      continue;
    }
    const std::string_view word = at.word();
    const std::string_view after = at.rest().substr(word.size());
    if (!word.empty() && after.starts_with(':') && !after.starts_with("::")) {
      reader.label(word);
      at.advance(at.at() + word.size() + 1);
      continue;
    }
    Statement s = read_statement(at.until(';'), line);
    s.source_file = source_file;
    s.source_line = source_line;
    reader.statement(s);
  }
}

}  // namespace ptx_on_cpu
