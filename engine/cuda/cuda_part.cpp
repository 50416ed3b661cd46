#include "engine/cuda/cuda_part.h"

#include "io/support/plugin.h"

namespace moleblend {

const CudaPart& cuda_part() {
  return *open_part<const CudaPart>(
      {.file = "libmoleblend_cuda.so",
       .getter = kCudaPartGetter,
       .need = "--device cuda",
       .remedy = "build moleblend where nvcc is (configure with -DMOLEBLEND_CUDA=on), or use --device cpu"});
}

}  // namespace moleblend
