// Attention on GPUs. Molecules are small, so that scores fit in registers: a warp (bf16) or a lane (float) holds rows of them, and nothing
// of size n² but the bias and its gradient is ever in memory.
//   attention_small.cu   bf16 on tensor cores, molecules of up to 24 tokens, head widths that are multiples of 8 up to 64 (and 4, 12)
//   attention_tensor.cu  the same of larger molecules
//   attention_simt.cu    float, and bf16 of any other head width
// Molecules are taken from the largest to the smallest, in six classes by size.

#include "kernels/attention/attention_gpu.cuh"

namespace moleblend {

template <class T>
void attention_forward(Gpu& gpu, const AttentionForward<T>& a) {
  if constexpr (std::is_same_v<T, bf16>) {
    if (attention_gpu::tensor_cores_take(a.in.width / a.in.heads)) return attention_gpu::forward_tensor(gpu, a);
  }
  attention_gpu::forward_simt(gpu, a);
}

template <class T>
void attention_backward(Gpu& gpu, const AttentionBackward<T>& a) {
  if constexpr (std::is_same_v<T, bf16>) {
    if (attention_gpu::tensor_cores_take(a.in.width / a.in.heads)) return attention_gpu::backward_tensor(gpu, a);
  }
  attention_gpu::backward_simt(gpu, a);
}

template void attention_forward(Gpu&, const AttentionForward<float>&);
template void attention_forward(Gpu&, const AttentionForward<bf16>&);
template void attention_backward(Gpu&, const AttentionBackward<float>&);
template void attention_backward(Gpu&, const AttentionBackward<bf16>&);

}  // namespace moleblend
