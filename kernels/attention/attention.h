#pragma once
// Multi-head attention with an additive bias on packed molecules: each molecule attends to its own tokens only.
//
//   out_i = Σ_j drop(softmax_j(scale · q_i · k_j + bias_ij)) v_j      for each head
//
// Probabilities are never stored: backward recomputes them from q, k and the bias. The softmax has the row's maximum subtracted; it is
// taken in T on a CPU, in float on a GPU (where products of bf16 are summed in float, and probabilities are rounded to bf16 only as
// operands of the products that follow). A row whose scores are all −∞ gives NaN.
//
// Deterministic: the same bits for every number of threads (a molecule is one thread's work), and in every run on the same kind of GPU (a
// head of a molecule is one block's work). A molecule's results do not depend on the others of the batch.
//
// On a GPU arrays must begin at multiples of 16 bytes; a head wider than 1,024 throws GpuError.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "kernels/common/precision.h"
#include "kernels/random/philox.h"

namespace moleblend {

template <class T>
struct AttentionInput {
  Packed packed;
  std::int64_t heads, width;          // H, D; head h owns columns [h · D/H, (h + 1) · D/H)
  const T* qkv;                       // [T, 3 D]: q | k | v
  const T* bias;                      // [H · token_pairs], per molecule [H, n + 1, n + 1]; or null: none
  Wide<T> scale;                      // on q · k; (D / H)^-½
  Dropout dropout;                    // on the probabilities
  std::uint32_t layer;                // of the dropout draws (Draw::attention_dropout)
  const std::uint64_t* molecule_key;  // [B]; may be null if dropout is not active
};

template <class T>
struct AttentionForward {
  AttentionInput<T> in;
  T* out;  // [T, D]
};
template <class T>
void attention_forward(Cpu& cpu, const AttentionForward<T>& a);
template <class T>
void attention_forward(Gpu& gpu, const AttentionForward<T>& a);

template <class T>
struct AttentionBackward {
  AttentionInput<T> in;
  const T* dout;   // [T, D]
  T* dqkv;         // [T, 3 D]; overwritten
  Wide<T>* dbias;  // [H · token_pairs], added to (the bias is shared by all layers); or null: not wanted
};
template <class T>
void attention_backward(Cpu& cpu, const AttentionBackward<T>& a);
template <class T>
void attention_backward(Gpu& gpu, const AttentionBackward<T>& a);

}  // namespace moleblend
