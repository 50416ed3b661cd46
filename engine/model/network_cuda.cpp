// The network on a GPU: what libmoleblend_cuda.so is made of, and its one exported symbol.

#include <cstring>

#include "engine/model/gpu_batch.h"
#include "engine/model/make_model.h"
#include "engine/model/network_impl.h"
#include "kernels/common/gpu.h"

namespace moleblend {

template class Network<Gpu, float>;
template class Network<Gpu, bf16>;

}  // namespace moleblend

extern "C" __attribute__((visibility("default"))) moleblend::Model* moleblend_make_cuda_model(
    const char* program_version, const moleblend::ModelConfig& config, bool in_bf16) {
  using namespace moleblend;
  if (std::strcmp(program_version, MOLEBLEND_VERSION) != 0) return nullptr;
  if (in_bf16) return new Network<Gpu, bf16>(config, 0);
  return new Network<Gpu, float>(config, 0);
}
