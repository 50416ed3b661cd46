#pragma once
// Errors that a person reads: one line that says what, where, why and what to do.

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace moleblend {

/// Something failed (exit status 1): a file, a record, a checkpoint. The message is one line: statement, place, cause;
/// remedy.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  template <class... A>
  explicit Error(fmt::format_string<A...> format, A&&... args)
      : std::runtime_error(fmt::format(format, std::forward<A>(args)...)) {}
};

/// The command line or a configuration asks for something impossible (exit status 2).
class UsageError : public Error {
 public:
  using Error::Error;
};

}  // namespace moleblend
