// What libmoleblend_cuda.so is made of, and its one exported symbol.

#include <cstring>

#include "engine/bench/ceilings_impl.h"
#include "engine/bench/kernel_cases_impl.h"
#include "engine/cuda/cuda_part.h"
#include "engine/model/gpu_batch.h"
#include "engine/model/network_impl.h"
#include "kernels/common/gpus.h"

namespace moleblend {

template class Network<Gpu, float>;
template class Network<Gpu, bf16>;

namespace {

constexpr int kDevice = 0;  // of those visible, where one is enough

class Library final : public CudaPart {
 public:
  std::unique_ptr<Model> make_model(const ModelConfig& config, const DeviceChoice& choice) const override {
    const int device = choice.process % visible_gpus();
    if (choice.precision == "bf16") return std::make_unique<Network<Gpu, bf16>>(config, device, choice.learns);
    return std::make_unique<Network<Gpu, float>>(config, device, choice.learns);
  }
  std::unique_ptr<KernelCases> make_kernel_cases(const ModelConfig& config, const Batch& batch,
                                                 bool in_bf16) const override {
    if (in_bf16) return std::make_unique<KernelCasesOn<Gpu, bf16>>(config, batch, kDevice);
    return std::make_unique<KernelCasesOn<Gpu, float>>(config, batch, kDevice);
  }
  Ceilings measure_ceilings(bool in_bf16) const override {
    Gpu gpu(kDevice);
    return {.flop_per_s = in_bf16 ? product_rate<bf16>(gpu) : product_rate<float>(gpu), .bytes_per_s = copy_rate(gpu)};
  }
};

}  // namespace
}  // namespace moleblend

extern "C" __attribute__((visibility("default"))) const moleblend::CudaPart* moleblend_cuda_part(
    const char* program_version) {
  static const moleblend::Library library;
  return std::strcmp(program_version, MOLEBLEND_VERSION) == 0 ? &library : nullptr;
}
