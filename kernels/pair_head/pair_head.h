#pragma once
// The three heads that recover a pair's relations, and their losses (METHOD section 7).
//
// Each head has a row and a column map of width 32: r = LN(gelu(W_r x + b_r)), c = LN(gelu(W_c x + b_c)), and predicts from r_i ⊗ c_j.
// Since that is linear in the outer product, output k of a pair is bilinear: r_iᵀ M_k c_j + m_k. r_iᵀ M_k is computed once an atom,
// and value and gradient of the loss come from one pass over a molecule's pairs: nothing of size pairs × 1024 exists.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "kernels/common/precision.h"

namespace moleblend {

inline constexpr std::int64_t kPairWidth = 32;
inline constexpr double kPairNormEpsilon = 1e-12;
inline constexpr int kSpdClasses = 11;
inline constexpr int kEdgeClasses = 24;  // a hop's: 4 types · 3 stereos · 2 conjugated

/// `maps` blocks of 32 features a row: y = LayerNorm(gelu(x)) · weight + bias, each block by itself. On a GPU all arrays begin at multiples
/// of 16 bytes.
template <class T>
struct PairMapForward {
  std::int64_t rows, maps;  // N; 6 for the three heads' row and column maps
  const T* x;               // [rows, maps, 32]
  const Wide<T>* weight;    // [maps, 32]
  const Wide<T>* bias;      // [maps, 32]
  T* y;                     // [rows, maps, 32]
};
template <class T>
void pair_map_forward(Cpu& cpu, const PairMapForward<T>& a);
template <class T>
void pair_map_forward(Gpu& gpu, const PairMapForward<T>& a);
template <class T>
struct PairMapBackward {
  std::int64_t rows, maps;
  const T* x;             // the input of forward; the rest is recomputed
  const Wide<T>* weight;  //
  const T* dy;            // [rows, maps, 32]
  T* dx;                  // overwritten; may alias dy
  Wide<T>* dweight;       // added to
  Wide<T>* dbias;         // added to
};
template <class T>
void pair_map_backward(Cpu& cpu, const PairMapBackward<T>& a);
template <class T>
void pair_map_backward(Gpu& gpu, const PairMapBackward<T>& a);

/// One head's bilinear form and where its two inputs and their gradients lie: r_i = features[i · stride + row_column …], 32 wide.
/// On a GPU `weight`, `features` and `dfeatures` begin at multiples of 16 bytes, and `stride` and both columns are multiples of 8.
template <class T>
struct Bilinear {
  std::int64_t outputs;  // C
  const T* weight;       // [C, 32, 32]: M_k[a, b] on r[a] c[b]
  const Wide<T>* bias;   // [C]
  const T* features;     // [N, stride]
  std::int64_t stride, row_column, column_column;
  T* dfeatures;      // [N, stride]: the head's own 2 × 32 columns are overwritten; null: value only, no gradient
  Wide<T>* dweight;  // [C, 32, 32] added to
  Wide<T>* dbias;    // [C] added to
};

/// Class of an SPD: s − 1 for 1 … 10, 10 for more; −1 (ignored) on the diagonal and for unreachable pairs.
MOLEBLEND_HD constexpr int spd_class(int s) {
  return s <= 0 || s >= kUnreachable ? -1 : (s <= 10 ? s - 1 : 10);
}
/// Class of a hop: 6 · type + 2 · stereo + conjugated; −1 (ignored) where there is no hop, for type misc and past the last class.
/// As in the reference, whose numbering has room for stereo none, Z and E only: a double bond of stereo `any` lands on the classes
/// of a triple bond with stereo E, which no molecule has, so that it is a class of its own in effect.
MOLEBLEND_HD constexpr int edge_class(std::uint8_t code) {
  if (code == 0 || bond_type(code) >= 4) return -1;
  const int c = 6 * bond_type(code) + 2 * bond_stereo(code) + bond_conjugated(code);
  return c < kEdgeClasses ? c : -1;
}

/// What a loss pass found, summed over the molecules of the call; sums are in double and in a fixed order. It lies in memory of the device.
struct PairLossResult {
  double loss = 0;  // Σ of the unweighted loss: over pairs, (pair, hop)s, or molecules (each its mean over pairs)
  std::int64_t count = 0;    // what `loss` is summed over
  std::int64_t correct = 0;  // classes: predictions that hit
  std::int64_t pairs = 0;    // 3D: valid pairs
  double pair_error =
      0;  // 3D: Σ over valid pairs of the cosine (displacement) or of |predicted − true| in Å (distance)
};

/// Cross-entropy of the SPD class (C = 11). `scale` multiplies the gradient: loss factor / number of valid pairs of the global batch.
template <class T>
struct SpdLoss {
  Packed packed;
  Bilinear<T> head;
  const std::uint16_t* spd;  // [P]
  double scale;
  Wide<T>* logits;         // [P, C], or null; for inspection
  PairLossResult* result;  // overwritten
};
template <class T>
void spd_loss(Cpu& cpu, const SpdLoss<T>& a);
template <class T>
void spd_loss(Gpu& gpu, const SpdLoss<T>& a);

/// Cross-entropy of each hop's bond class (C = 5 · 24). `scale`: loss factor / number of valid (pair, hop)s of the global batch.
template <class T>
struct EdgeLoss {
  Packed packed;
  Bilinear<T> head;
  const std::uint8_t* path;  // [P, 5]
  double scale;
  Wide<T>* logits;         // [P, C], or null
  PairLossResult* result;  // overwritten
};
template <class T>
void edge_loss(Cpu& cpu, const EdgeLoss<T>& a);
template <class T>
void edge_loss(Gpu& gpu, const EdgeLoss<T>& a);

enum class DistanceTarget { displacement, distance };

/// 3D loss. displacement (C = 3): 1 − cosine to x_j − x_i, norms clamped at 1e-8. distance (C = 1): smooth L1 (threshold 1 Å) to |x_j − x_i|.
/// Mean over a molecule's valid pairs, then summed over molecules that have any. Valid: i ≠ j, both positions known, not coincident.
/// `scale`: loss factor / number of molecules with valid pairs in the global batch.
template <class T>
struct DistanceLoss {
  Packed packed;
  Bilinear<T> head;
  DistanceTarget target;
  const float* positions;              // [N, 3] ångström, clean
  const std::uint8_t* has_positions;   // [B]
  const std::uint8_t* position_known;  // [N], or null: all known
  double scale;
  Wide<T>* predictions;    // [P, C], or null
  PairLossResult* result;  // overwritten
};
template <class T>
void distance_loss(Cpu& cpu, const DistanceLoss<T>& a);
template <class T>
void distance_loss(Gpu& gpu, const DistanceLoss<T>& a);

/// A factorised map 1024 → hidden → outputs multiplied out: weight = outer · inner, bias = outer · inner_bias + outer_bias.
template <class T>
struct FactorisedMap {
  std::int64_t inputs, hidden, outputs;  // 1024, 256, 3 or 1
  const Wide<T>* inner;                  // [hidden, inputs]
  const Wide<T>* inner_bias;             // [hidden]
  const Wide<T>* outer;                  // [outputs, hidden]
  const Wide<T>* outer_bias;             // [outputs]
};
template <class T>
void multiply_out(Cpu& cpu, const FactorisedMap<T>& map, T* weight, Wide<T>* bias);
template <class T>
void multiply_out(Gpu& gpu, const FactorisedMap<T>& map, T* weight, Wide<T>* bias);
/// Gradients of the factors (added to) from those of the product.
template <class T>
struct FactorisedGradients {
  Wide<T>*inner, *inner_bias, *outer, *outer_bias;
};
template <class T>
void multiply_out_backward(Cpu& cpu, const FactorisedMap<T>& map, const Wide<T>* dweight, const Wide<T>* dbias,
                           const FactorisedGradients<T>& gradients);
template <class T>
void multiply_out_backward(Gpu& gpu, const FactorisedMap<T>& map, const Wide<T>* dweight, const Wide<T>* dbias,
                           const FactorisedGradients<T>& gradients);

}  // namespace moleblend
