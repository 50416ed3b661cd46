// The network on the CPU against the reference program's numbers.

#include "engine/model/cpu_model.h"
#include "tests/golden/checks.h"

namespace moleblend::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kThreads = 2;

class Golden : public ::testing::TestWithParam<fs::path> {};

TEST_P(Golden, Double) {
  check<Cpu, double>(GetParam(), kThreads);
}
TEST_P(Golden, Float) {
  check<Cpu, float>(GetParam(), kThreads);
}
/// On a processor without products in bf16 there is nothing to compare; that they are refused there is an end-to-end test's.
TEST_P(Golden, Bf16) {
  if (!has_bf16_products()) GTEST_SKIP() << "this processor has no AVX512-BF16";
  check<Cpu, float>(GetParam(), {kThreads, true});
}

/// Relations and embedding rows exactly as the reference's own collator gives them.
TEST_P(Golden, InputsAreTheReferences) {
  const GoldenCase golden(GetParam());
  const Packed packed = golden.batch.packed();
  if (golden.file.find("batch.spatial_pos")) {
    const auto spatial = golden.file.values<std::int32_t>("batch.spatial_pos"),
               edges = golden.file.values<std::int32_t>("batch.edge_input"),
               degree = golden.file.values<std::int32_t>("batch.in_degree");
    const auto padded = static_cast<std::size_t>(golden.file.at("batch.spatial_pos").shape.at(1));
    const auto hops = static_cast<std::size_t>(golden.file.at("batch.edge_input").shape.at(3));
    for (std::size_t b = 0; b < static_cast<std::size_t>(packed.molecules); ++b) {
      const auto n = static_cast<std::size_t>(packed.atoms_of(static_cast<std::int64_t>(b)));
      for (std::size_t i = 0; i < n; ++i) {
        ASSERT_EQ(golden.batch.degree[static_cast<std::size_t>(packed.atom_offset[b]) + i] + 1, degree[b * padded + i]);
        for (std::size_t j = 0; j < n; ++j) {
          const std::size_t pair = static_cast<std::size_t>(packed.pair_offset[b]) + i * n + j,
                            theirs = (b * padded + i) * padded + j;
          ASSERT_EQ(golden.batch.spd[pair] + 1, spatial[theirs]) << "molecule " << b << ", pair " << i << ", " << j;
          for (std::size_t hop = 0; hop < kPathHops; ++hop) {
            const std::uint8_t code = golden.batch.path[pair * kPathHops + hop];
            const int ours[3] = {code ? bond_type(code) + 3 : 0, code ? bond_stereo(code) + 515 : 0,
                                 code ? bond_conjugated(code) + 1027 : 0};
            for (std::size_t f = 0; f < 3; ++f)
              ASSERT_EQ(ours[f], hop < hops ? edges[(theirs * hops + hop) * 3 + f] : 0)
                  << "molecule " << b << ", pair " << i << ", " << j << ", hop " << hop;
          }
        }
      }
    }
  }
  CpuModel<float> model(golden.config, 1);
  for (const ParameterInfo& p : model.parameters()) {
    const std::vector<float> values = golden.parameter(p);
    const std::vector<double> sums = golden.file.values<double>("pcheck." + p.name);
    double sum = 0, squares = 0;
    for (const float v : values) sum += v, squares += static_cast<double>(v) * v;
    if (sums.size() > 8) {
      EXPECT_NEAR(sum, sums[7], 1e-6 * std::max(1.0, std::sqrt(static_cast<double>(p.count)))) << p.name;
      EXPECT_NEAR(squares, sums[8], 1e-9 * sums[8] + 1e-12) << p.name;
    }
    if (golden.parameters) {
      EXPECT_EQ(values, golden.parameters->values<float>(p.name)) << p.name << ": the formula gives what is stored";
    }
  }
}

class GoldenTraining : public ::testing::TestWithParam<fs::path> {};
TEST_P(GoldenTraining, Double) {
  check_training<Cpu, double>(GoldenCase(GetParam()), kThreads);
}
TEST_P(GoldenTraining, Float) {
  check_training<Cpu, float>(GoldenCase(GetParam()), kThreads);
}
TEST_P(GoldenTraining, Bf16) {
  if (!has_bf16_products()) GTEST_SKIP() << "this processor has no AVX512-BF16";
  check_training<Cpu, float>(GoldenCase(GetParam()), {kThreads, true});
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, ::testing::ValuesIn(golden_files()), case_name);
INSTANTIATE_TEST_SUITE_P(Cases, GoldenTraining, ::testing::ValuesIn(training_files()), case_name);

}  // namespace
}  // namespace moleblend::testing
