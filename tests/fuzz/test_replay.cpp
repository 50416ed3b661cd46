// The fuzz targets without a fuzzer: each sees its corpus, every byte of the small files of it changed, and some thousand inputs that a
// fixed seed makes of it by cutting, changing and joining. Of a build with sanitizers they do the real work. What libFuzzer finds is put
// into the corpus.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <ostream>
#include <random>
#include <vector>

#include "io/support/files.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" {
int fuzz_checkpoint_state(const std::uint8_t*, std::size_t);
int fuzz_config(const std::uint8_t*, std::size_t);
int fuzz_csv(const std::uint8_t*, std::size_t);
int fuzz_dataset_json(const std::uint8_t*, std::size_t);
int fuzz_mol2(const std::uint8_t*, std::size_t);
int fuzz_parts(const std::uint8_t*, std::size_t);
int fuzz_pdb(const std::uint8_t*, std::size_t);
int fuzz_safetensors(const std::uint8_t*, std::size_t);
int fuzz_sdf(const std::uint8_t*, std::size_t);
int fuzz_shard(const std::uint8_t*, std::size_t);
int fuzz_smiles(const std::uint8_t*, std::size_t);
int fuzz_table(const std::uint8_t*, std::size_t);
int fuzz_wire(const std::uint8_t*, std::size_t);
int fuzz_xyz(const std::uint8_t*, std::size_t);
}

namespace moleblend::fuzz {
namespace {

namespace fs = std::filesystem;
using Random = std::mt19937_64;

struct Target {
  const char* name;
  int (*run)(const std::uint8_t*, std::size_t);
};
void PrintTo(const Target& target, std::ostream* out) {
  *out << target.name;
}

std::vector<std::string> corpus_of(const std::string& target) {
  std::vector<fs::path> files;
  for (const auto& entry :
       fs::directory_iterator(fs::path(MOLEBLEND_SOURCE_DIR) / "tests" / "fuzz" / "corpus" / target))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  for (const fs::path& file : files) corpus.push_back(read_file(file));
  return corpus;
}

/// Empty if the target is content; else what it says, and the input lies in the build folder.
std::string complaint(const Target& target, const std::string& input) {
  std::string what;
  try {
    target.run(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
    return {};
  } catch (const std::exception& e) {
    what = e.what();
  }
  const fs::path file = fs::path(MOLEBLEND_BINARY_DIR) / (std::string("fuzz-failure-") + target.name);
  std::ofstream(file, std::ios::binary) << input;
  return what + "; the input is " + file.string();
}

std::size_t below(Random& random, std::size_t end) {
  return static_cast<std::size_t>(random() % end);
}

/// Numbers at which lengths, signs and sums go wrong, and letters that mean something to a text format.
constexpr std::uint64_t kNumbers[] = {
    0, 1, 7, 0x7f, 0xff, 0x100, 0x7fffffff, 0xffffffff, 0x100000000, 0x7fffffffffffffff, ~std::uint64_t{0}};
constexpr std::string_view kLetters = "\"',;\t\n\r#=[]{}|$@<>-+.0189eE \\";

void change(std::string& bytes, const std::vector<std::string>& corpus, Random& random) {
  const std::size_t at = below(random, bytes.size() + 1), length = std::min(bytes.size() - at, below(random, 16));
  switch (below(random, 8)) {
    case 0:
      bytes.resize(at);
      break;
    case 1:
      bytes.erase(at, length);
      break;
    case 2:
      bytes.insert(at, std::string(bytes, at, length));
      break;
    case 3:
      bytes.insert(at, 1 + below(random, 3), kLetters[below(random, kLetters.size())]);
      break;
    case 4: {
      const std::uint64_t number = kNumbers[below(random, std::size(kNumbers))];
      bytes.replace(at, std::min<std::size_t>(8, bytes.size() - at), reinterpret_cast<const char*>(&number),
                    std::size_t{1} << below(random, 4));
      break;
    }
    case 5: {
      const std::string& other = corpus[below(random, corpus.size())];
      bytes = bytes.substr(0, at) + other.substr(below(random, other.size() + 1));
      break;
    }
    default:
      if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 + below(random, 255)));
  }
}

class FuzzTarget : public ::testing::TestWithParam<Target> {};

TEST_P(FuzzTarget, HoldsOnTheCorpus) {
  const std::vector<std::string> corpus = corpus_of(GetParam().name);
  ASSERT_FALSE(corpus.empty());
  const std::uint64_t before = inputs_read;
  for (const std::string& input : corpus) EXPECT_EQ(complaint(GetParam(), input), "");
  EXPECT_GT(inputs_read, before) << "the parser reads nothing of the corpus";
}

TEST_P(FuzzTarget, HoldsWithEveryByteChanged) {
  constexpr std::string_view kAll("\x00\x07\x7f\xff\"", 5),
      kValues = MOLEBLEND_SANITIZED ? kAll.substr(3) : kAll;  // sanitizers take several times as long
  constexpr std::size_t kSmall = 2100;
  std::string small;  // the largest of the small files
  for (const std::string& input : corpus_of(GetParam().name))
    if (input.size() <= kSmall && input.size() > small.size()) small = input;
  ASSERT_FALSE(small.empty()) << "no file of the corpus is small";
  for (std::size_t at = 0; at < small.size(); ++at) {
    for (const char value : kValues) {
      std::string input = small;
      input[at] = value;
      ASSERT_EQ(complaint(GetParam(), input), "") << "byte " << at;
    }
    ASSERT_EQ(complaint(GetParam(), small.substr(0, at)), "") << "cut at " << at;
  }
}

TEST_P(FuzzTarget, HoldsOnMutations) {
  constexpr int kInputs = MOLEBLEND_SANITIZED ? 1500 : 4000, kMostChanges = 5;
  const std::vector<std::string> corpus = corpus_of(GetParam().name);
  Random random(1);
  for (int k = 0; k < kInputs; ++k) {
    std::string input = corpus[below(random, corpus.size())];
    for (std::size_t n = 1 + below(random, kMostChanges); n > 0; --n) change(input, corpus, random);
    ASSERT_EQ(complaint(GetParam(), input), "") << "input " << k;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Parsers, FuzzTarget,
    ::testing::Values(Target{"checkpoint_state", fuzz_checkpoint_state}, Target{"config", fuzz_config},
                      Target{"csv", fuzz_csv}, Target{"dataset_json", fuzz_dataset_json}, Target{"mol2", fuzz_mol2},
                      Target{"parts", fuzz_parts}, Target{"pdb", fuzz_pdb}, Target{"safetensors", fuzz_safetensors},
                      Target{"sdf", fuzz_sdf}, Target{"shard", fuzz_shard}, Target{"smiles", fuzz_smiles},
                      Target{"table", fuzz_table}, Target{"wire", fuzz_wire}, Target{"xyz", fuzz_xyz}),
    [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace moleblend::fuzz
