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

std::unique_ptr<Model> make_model(const ModelConfig& config, const DeviceChoice& choice) {
  choice.check();
  if (choice.device == "cuda") return with_cuda([&](const CudaPart& cuda) { return cuda.make_model(config, choice); });
  if (choice.precision == "bf16")
    throw Error("--precision bf16 needs --device cuda in this build; use --precision fp32 on the CPU");
  return make_cpu_model(config, choice.threads, false, choice.learns);
}

}  // namespace moleblend
