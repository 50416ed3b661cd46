#include "engine/cuda/cuda_part.h"

#include "io/support/plugin.h"

namespace moleblend {

const CudaPart& cuda_part() {
  constexpr const char* kLibrary = "libmoleblend_cuda.so";
  const Plugin plugin = open_plugin(kLibrary, kCudaPartGetter);
  if (!plugin.symbol) {
    throw Error(
        "--device cuda needs {}, which can't be opened: {}; build moleblend where nvcc is (configure with "
        "-DMOLEBLEND_CUDA=on), or use --device cpu",
        kLibrary, plugin.cause);
  }
  const CudaPart* part = reinterpret_cast<CudaPartGetter*>(plugin.symbol)(MOLEBLEND_VERSION);
  if (!part) {
    throw Error("{} belongs to another version of moleblend than this one ({}); reinstall moleblend", kLibrary,
                MOLEBLEND_VERSION);
  }
  return *part;
}

}  // namespace moleblend
