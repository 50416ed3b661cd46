#pragma once
// What the CUDA files of the denoising head share: its scratch memory, and the attention part as it is called by the rest.

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/denoise_head/denoise_head.h"

namespace moleblend::denoise {

/// A molecule's part of the loss and of the gradient of the maps' bias.
struct MoleculeSums {
  double loss;
  double dbias[3];
  std::int64_t count;  // atoms that count
};

/// Values that pass from kernel to kernel. All are float: bf16 would save little of so few bytes, and the loss hangs on them.
struct Scratch {
  float4* projected;   // [N, H] (s_x, s_y, s_z, unused) of an atom's v
  float4* head_force;  // [N, H] (f_x, f_y, f_z of this head alone, logarithm of the sum of exponentials of its scores)
  MoleculeSums* sums;  // [B]
  // Where gradients are wanted:
  float4* df;          // [N] gradient of the prediction
  float4* dprojected;  // [N, H]
  float* weight_part;  // [slices of atoms, 3, D] parts of dforce_weight
};

/// Queues: head_force of all molecules with positions, from q, k, the bias and `projected`.
template <class T>
void queue_attend(Gpu& gpu, const DenoiseHead<T>& a, const Scratch& s);

/// Queues: dq, dk (in a.dqkv), dbias and dprojected, from all the rest. Zero for molecules that no atom's noise is asked of.
template <class T>
void queue_attend_backward(Gpu& gpu, const DenoiseHead<T>& a, const Scratch& s);

}  // namespace moleblend::denoise
