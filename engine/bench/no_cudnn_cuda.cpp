// A build without cuDNN's headers.

#include "engine/bench/library_attention.h"

namespace moleblend {
namespace {

[[noreturn]] void refuse() {
  throw GpuError("cuDNN is not in this build: configure where cudnn.h and cudnn_frontend.h are (docs/benchmarks.md)");
}

}  // namespace

LibraryOperation library_attention_forward(Gpu&, const PaddedAttention&) {
  refuse();
}

LibraryOperation library_attention_backward(Gpu&, const PaddedAttention&) {
  refuse();
}

}  // namespace moleblend
