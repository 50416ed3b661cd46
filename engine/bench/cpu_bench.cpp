// The measurements of ceilings.h and kernel_cases.h on the CPU, and the way to those of the GPU.

#include "engine/bench/ceilings_impl.h"
#include "engine/bench/kernel_cases_impl.h"
#include "engine/cuda/cuda_part.h"
#include "kernels/linear/peak_product.h"

namespace moleblend {

namespace {
/// The products of the base model: two thousand tokens, 768 features to 768 and to 2304.
double product_rate(Cpu& cpu, bool bf16, double seconds) {
  double best = 0;
  for (const std::int64_t out : {768, 2304})
    best = std::max(best, peak_product_rate(cpu, 2048, 768, out, bf16, seconds / 2));
  return best;
}
}  // namespace

Ceilings measure_ceilings(const DeviceChoice& choice) {
  choice.check();
  const bool bf16 = choice.precision == "bf16";
  if (choice.device == "cuda") return with_cuda([&](const CudaPart& cuda) { return cuda.measure_ceilings(bf16); });
  Cpu cpu(choice.cpu());
  return {.flop_per_s = product_rate(cpu, bf16, 0.6), .bytes_per_s = copy_rate(cpu)};
}

double measure_product_ceiling(const DeviceChoice& choice) {
  if (choice.device == "cuda") return measure_ceilings(choice).flop_per_s;
  choice.check();
  Cpu cpu(choice.cpu());
  return product_rate(cpu, choice.precision == "bf16", 0.2);
}

std::unique_ptr<KernelCases> make_kernel_cases(const ModelConfig& config, const Batch& batch,
                                               const DeviceChoice& choice) {
  choice.check();
  const bool bf16 = choice.precision == "bf16";
  if (choice.device == "cuda")
    return with_cuda([&](const CudaPart& cuda) { return cuda.make_kernel_cases(config, batch, bf16); });
  return std::make_unique<KernelCasesOn<Cpu, float>>(config, batch, choice.cpu());
}

std::unique_ptr<KernelCases> make_exact_kernel_cases(const ModelConfig& config, const Batch& batch, int threads) {
  return std::make_unique<KernelCasesOn<Cpu, double>>(config, batch, threads);
}

}  // namespace moleblend
