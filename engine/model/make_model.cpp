#include "engine/model/make_model.h"

#include "engine/cuda/cuda_part.h"
#include "io/support/error.h"

namespace moleblend {

void DeviceChoice::check() const {
  if (device != "cpu" && device != "cuda") throw UsageError("--device can't be '{}'; choose cpu or cuda", device);
  if (precision != "fp32" && precision != "bf16")
    throw UsageError("--precision can't be '{}'; choose fp32 or bf16", precision);
  if (threads < 1 || threads > 1024) throw UsageError("--threads must lie between 1 and 1024, and is {}", threads);
}

Cpu::Place DeviceChoice::cpu() const {
  const bool bf16 = precision == "bf16";
  if (bf16 && !has_bf16_products())
    throw Error("--precision bf16 needs a CPU with AVX512-BF16, or --device cuda; use --precision fp32 here");
  return {threads, bf16};
}

std::unique_ptr<Model> make_model(const ModelConfig& config, const DeviceChoice& choice) {
  choice.check();
  if (choice.device == "cuda") return with_cuda([&](const CudaPart& cuda) { return cuda.make_model(config, choice); });
  return make_cpu_model(config, choice.cpu(), false, choice.learns);
}

}  // namespace moleblend
