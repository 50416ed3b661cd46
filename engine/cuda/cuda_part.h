#pragma once
// What the program asks of libmoleblend_cuda.so: one program serves machines with and without CUDA.

#include <exception>
#include <memory>

#include "engine/model/make_model.h"
#include "io/support/error.h"

namespace moleblend {

class KernelCases;
struct Ceilings;

class CudaPart {
 public:
  virtual ~CudaPart() = default;
  // Each throws GpuError if there is no GPU to use.
  /// On the visible GPU number `choice.process`, counted round.
  virtual std::unique_ptr<Model> make_model(const ModelConfig& config, const DeviceChoice& choice) const = 0;
  virtual std::unique_ptr<KernelCases> make_kernel_cases(const ModelConfig& config, const Batch& batch,
                                                         bool bf16) const = 0;
  virtual Ceilings measure_ceilings(bool bf16) const = 0;
};

/// The one symbol that the library exports. Gives null if the program that asks has another version.
using CudaPartGetter = const CudaPart*(const char* program_version);
constexpr const char* kCudaPartGetter = "moleblend_cuda_part";

/// Opens the library. Throws Error in one line, with the remedy, where it is missing or does not fit.
const CudaPart& cuda_part();

/// f of the library; what it throws becomes an Error in one line, with the remedy.
template <class F>
auto with_cuda(const F& f) {
  const CudaPart& part = cuda_part();
  try {
    return f(part);
  } catch (const std::exception& error) {
    throw Error("--device cuda: {}; use --device cpu, or a machine with a GPU", error.what());
  }
}

}  // namespace moleblend
