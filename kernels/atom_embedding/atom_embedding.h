#pragma once
// Token embeddings before the first LayerNorm (METHOD sections 3 and 5).
//
//   x[graph token] = graph_token
//   x[atom]        = Σ_f atom_table[code_f + 512 f + 2]
//                    + [shows degree]    · (in_degree[deg + 1] + out_degree[deg + 1])
//                    + [shows Gaussians] · 0.01 · gaussian_term[atom]
//
// Gradients of the tables are summed by column slices, each thread going through all atoms in order: the same bits for every
// number of threads. Row 0 (padding) of a table gets no gradient because no input reaches it.

#include "kernels/common/cpu.h"
#include "kernels/common/packed.h"

namespace moleblend {

inline constexpr double kGaussianTermScale = 0.01;

template <class T>
struct AtomEmbeddingForward {
  Packed packed;
  std::int64_t width;                // D
  const std::uint16_t* atom_codes;   // [N, 9]
  const std::uint16_t* degree;       // [N] number of neighbours; at most 510 is looked up
  const std::uint8_t* atom_visible;  // [N] bits of AtomVisible
  const T* atom_table;               // [9 · 512 + 1, D]
  const T* in_degree_table;          // [512, D]
  const T* out_degree_table;         // [512, D]
  const T* graph_token;              // [D]
  const T* gaussian_term;            // [N, D]; read only for atoms that show Gaussians; may be null if none does
  T* x;                              // [T, D]
};
template <class T>
void atom_embedding_forward(Cpu& cpu, const AtomEmbeddingForward<T>& a);

template <class T>
struct AtomEmbeddingBackward {
  Packed packed;
  std::int64_t width;
  const std::uint16_t* atom_codes;
  const std::uint16_t* degree;
  const std::uint8_t* atom_visible;
  const T* dx;           // [T, D]
  T* datom_table;        // added to, as all tables
  T* din_degree_table;   //
  T* dout_degree_table;  //
  T* dgraph_token;       // [D]
  T* dgaussian_term;     // [N, D] overwritten (zero for atoms that do not show Gaussians), or null
};
template <class T>
void atom_embedding_backward(Cpu& cpu, const AtomEmbeddingBackward<T>& a);

/// atoms [N, D] = x of the atoms' tokens; the heads read atoms only.
template <class T>
void gather_atoms(Cpu& cpu, const Packed& packed, std::int64_t width, const T* x, T* atoms);
/// dx [T, D] = datoms at the atoms' tokens, zero at graph tokens; overwritten.
template <class T>
void scatter_atoms(Cpu& cpu, const Packed& packed, std::int64_t width, const T* datoms, T* dx);

}  // namespace moleblend
