#include "engine/model/make_model.h"

#include "io/support/error.h"
#include "io/support/plugin.h"

namespace moleblend {
namespace {

std::unique_ptr<Model> make_cuda_model(const ModelConfig& config, bool bf16) {
  constexpr const char* kLibrary = "libmoleblend_cuda.so";
  const Plugin plugin = open_plugin(kLibrary, kCudaModelFactory);
  if (!plugin.factory) {
    throw Error(
        "--device cuda needs {}, which can't be opened: {}; build moleblend where nvcc is (configure with "
        "-DMOLEBLEND_CUDA=on), or use --device cpu",
        kLibrary, plugin.cause);
  }
  std::unique_ptr<Model> model;
  try {
    model.reset(reinterpret_cast<CudaModelFactory*>(plugin.factory)(MOLEBLEND_VERSION, config, bf16));
  } catch (const std::exception& error) {
    throw Error("--device cuda: {}; use --device cpu, or a machine with a GPU", error.what());
  }
  if (!model) {
    throw Error("{} belongs to another version of moleblend than this one ({}); reinstall moleblend", kLibrary,
                MOLEBLEND_VERSION);
  }
  return model;
}

}  // namespace

void DeviceChoice::check() const {
  if (device != "cpu" && device != "cuda") throw UsageError("--device can't be '{}'; choose cpu or cuda", device);
  if (precision != "fp32" && precision != "bf16")
    throw UsageError("--precision can't be '{}'; choose fp32 or bf16", precision);
  if (threads < 1 || threads > 1024) throw UsageError("--threads must lie between 1 and 1024, and is {}", threads);
}

std::unique_ptr<Model> make_model(const ModelConfig& config, const DeviceChoice& choice) {
  choice.check();
  const bool bf16 = choice.precision == "bf16";
  if (choice.device == "cuda") return make_cuda_model(config, bf16);
  if (bf16) throw Error("--precision bf16 needs --device cuda in this build; use --precision fp32 on the CPU");
  return make_cpu_model(config, choice.threads);
}

}  // namespace moleblend
