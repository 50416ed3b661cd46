#pragma once
// A network on the device that the user chose.

#include <memory>
#include <string>

#include "engine/model/model.h"

namespace moleblend {

struct DeviceChoice {
  std::string device = "cpu";      // cpu or cuda
  std::string precision = "fp32";  // fp32 or bf16
  int threads = 1;                 // of the CPU

  /// Throws UsageError naming the flag and its choices.
  void check() const;
};

/// A network with parameters of zero. Throws Error in one line where the device or the precision can't be had; never another device in
/// its place.
std::unique_ptr<Model> make_model(const ModelConfig& config, const DeviceChoice& choice);

/// The one symbol that libmoleblend_cuda.so exports. Gives a new Model, which the caller owns, or null if the program that asks has
/// another version. Throws GpuError if there is no GPU to use.
using CudaModelFactory = Model*(const char* program_version, const ModelConfig& config, bool bf16);
constexpr const char* kCudaModelFactory = "moleblend_make_cuda_model";

}  // namespace moleblend
