// The operations as `moleblend bench --kernels` runs them on a GPU: each is right by the bench's own check.

#include <gtest/gtest.h>

#include "engine/bench/kernel_bench.h"
#include "engine/bench/kernel_cases_impl.h"
#include "engine/model/gpu_batch.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

class KernelCasesTest : public CudaTest {
 protected:
  template <class T>
  void expect_right(const char* precision) {
    ModelConfig config = ModelConfig::named("tiny");
    config.hidden_dropout = 0.1;
    const Batch batch = std::move(made_up_batches(kSmallMolecules, 3, 1)[0]);
    const KernelCasesOn<Gpu, T> found(config, batch, 0);
    const auto truth = make_exact_kernel_cases(config, batch, 1);
    ASSERT_EQ(found.cases().size(), truth->cases().size());
    for (std::size_t k = 0; k < truth->cases().size(); ++k) {
      const KernelError error = compare(found.cases()[k], truth->cases()[k]);
      EXPECT_TRUE(error.worst <= kernel_tolerance(precision))
          << found.cases()[k].name << ", " << error.array << ": " << error.worst;
    }
  }
};

TEST_F(KernelCasesTest, Float) {
  expect_right<float>("fp32");
}
TEST_F(KernelCasesTest, Bf16) {
  expect_right<bf16>("bf16");
}

}  // namespace
}  // namespace moleblend::testing
