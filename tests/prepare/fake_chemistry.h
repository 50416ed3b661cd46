#pragma once
// Chemistry that needs no Open Babel and misbehaves on demand.

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "io/chemistry/chemistry.h"
#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {

inline Molecule chain(std::size_t atoms, std::string_view name) {
  Molecule molecule;
  molecule.identifier = name;
  molecule.smiles = std::string(atoms, 'C');
  molecule.atoms.assign(atoms, AtomCodes{5});
  return molecule;
}

/// Chemistry that does what the text says.
class FakeChemistry : public Chemistry {
 public:
  Molecule read(std::string_view, std::string_view text, const ReadOptions&, std::uint64_t) override {
    ++records_of_this_process_;
    if (text == "crash") ::raise(SIGSEGV);
    if (text == "abort") std::abort();
    if (text == "exit") ::_exit(3);
    if (text == "spin")
      for (volatile int forever = 0;;) forever = forever + 1;
    if (text == "sleep")
      for (;;) ::pause();
    if (text == "throw") throw Rejected("refused on purpose");
    if (text == "odd") throw 7;
    if (text == "print") {
      if (::write(STDOUT_FILENO, "noise", 5) < 0 || ::write(STDERR_FILENO, "noise", 5) < 0) throw Rejected("no output");
    }
    if (text == "eat") {
      std::vector<std::unique_ptr<char[]>> kept;
      for (;;) kept.push_back(std::make_unique<char[]>(16u << 20));
    }
    // Crashes only where other records were read before it in the same process: what they left behind is to blame.
    if (text == "victim" && records_of_this_process_ > 1) ::raise(SIGSEGV);
    return chain(3, text);
  }

  /// A file "number crash-at": so many molecules, a crash at one of them.
  std::unique_ptr<MoleculeStream> open(const std::string& path, std::string_view, const ReadOptions&,
                                       std::uint64_t) override {
    class Stream : public MoleculeStream {
     public:
      Stream(int count, int crash_at) : count_(count), crash_at_(crash_at) {}
      bool next(Molecule& out) override {
        if (at_ == crash_at_) ::raise(SIGSEGV);
        if (at_ == count_) return false;
        if (++at_ % 10 == 0) throw Rejected("every tenth");
        out = chain(2, fmt::format("m{}", at_ - 1));
        return true;
      }

     private:
      int at_ = 0, count_, crash_at_;
    };
    int count = 0, crash_at = -1;
    if (std::sscanf(read_file(path).c_str(), "%d %d", &count, &crash_at) != 2) throw Error("not a file of this test");
    return std::make_unique<Stream>(count, crash_at);
  }
  std::uint64_t stream(const std::string&, std::string_view) override { return 0; }
  bool knows_format(std::string_view format) override { return format == "stream"; }
  bool has_engine(ConformerEngine) override { return false; }
  std::string versions() override { return "fake"; }

 private:
  int records_of_this_process_ = 0;
};

}  // namespace moleblend
