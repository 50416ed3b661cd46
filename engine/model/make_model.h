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
  bool learns = true;              // false: a model that answers only, in a quarter of the memory
  int process = 0;  // of this program's on this machine: each takes another GPU, as long as there are some

  /// Throws UsageError naming the flag and its choices.
  void check() const;
  /// For a network on the CPU. Throws Error where this one has no products in the precision.
  Cpu::Place cpu() const;
};

/// A network with parameters of zero. Throws Error in one line where the device or the precision can't be had; never another device in
/// its place.
std::unique_ptr<Model> make_model(const ModelConfig& config, const DeviceChoice& choice);

}  // namespace moleblend
