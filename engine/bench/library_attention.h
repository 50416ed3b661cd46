#pragma once
// Attention with a bias as another library has it, measured beside ours: padded molecules, in the layouts that its users have.

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/common/gpu.h"
#include "kernels/common/precision.h"

namespace moleblend {

/// B molecules of up to S tokens, in device memory. Without dropout. What lies beyond a molecule's tokens is zero in what is read, and
/// undefined in what is written.
struct PaddedAttention {
  std::int64_t molecules, heads, tokens, head_width;  // B, H, S, d
  float scale;                                        // on q · k
  const std::int32_t* length;                         // [B] tokens of each molecule
  const bf16* qkv;                                    // [B, S, 3, H, d]
  const bf16* bias;                                   // [B, H, S, S]
  bf16* out;                                          // [B, S, H, d]; forward writes it, backward reads it
  float* statistics;                                  // [B, H, S]: what forward leaves for backward
  const bf16* dout;                                   // [B, S, H, d]
  bf16* dqkv;                                         // [B, S, 3, H, d]
  bf16* dbias;                                        // [B, H, S, S]; zero before the call
};

struct LibraryOperation {
  std::string library;        // "cuDNN 9.19.0"
  std::function<void()> run;  // queues a call on the device's stream; throws GpuError
};

// cuDNN's, or what stands for it (the executor of the tests). Each throws GpuError where there is none: in one line, whether the library, this
// build or the shape is the reason. `gpu` and the arrays must stay as long as the operation.
LibraryOperation library_attention_forward(Gpu& gpu, const PaddedAttention& a);
LibraryOperation library_attention_backward(Gpu& gpu, const PaddedAttention& a);

}  // namespace moleblend
