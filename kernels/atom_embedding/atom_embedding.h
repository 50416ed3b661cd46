#pragma once
// Token embeddings before the first LayerNorm (METHOD sections 3 and 5).
//
//   x[graph token] = graph_token
//   x[atom]        = Σ_f atom_table[code_f + 512 f + 2]
//                    + [shows degree]    · (in_degree[deg + 1] + out_degree[deg + 1])
//                    + [shows Gaussians] · 0.01 · gaussian_term[atom]
//
// Gradients of the tables: on the CPU by column slices, each thread going through all atoms in order: the same bits for every number of
// threads. On a GPU each row's atoms are listed by a counting sort and added in an order that depends on the batch alone.
// Row 0 (padding) of a table gets no gradient because no input reaches it. Codes are below 512.
// On a GPU all arrays of features are 32-byte aligned if D is a multiple of 8; widths that are not take a slower path.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "kernels/common/precision.h"

namespace moleblend {

inline constexpr double kGaussianTermScale = 0.01;

template <class T>
struct AtomEmbeddingForward {
  Packed packed;
  std::int64_t width;                // D
  const std::uint16_t* atom_codes;   // [N, 9]
  const std::uint16_t* degree;       // [N] number of neighbours; at most 510 is looked up
  const std::uint8_t* atom_visible;  // [N] bits of AtomVisible
  const Wide<T>* atom_table;         // [9 · 512 + 1, D]
  const Wide<T>* in_degree_table;    // [512, D]
  const Wide<T>* out_degree_table;   // [512, D]
  const Wide<T>* graph_token;        // [D]
  const T* gaussian_term;            // [N, D]; read only for atoms that show Gaussians; may be null if none does
  T* x;                              // [T, D]
};
template <class T>
void atom_embedding_forward(Cpu& cpu, const AtomEmbeddingForward<T>& a);
template <class T>
void atom_embedding_forward(Gpu& gpu, const AtomEmbeddingForward<T>& a);

template <class T>
struct AtomEmbeddingBackward {
  Packed packed;
  std::int64_t width;
  const std::uint16_t* atom_codes;
  const std::uint16_t* degree;
  const std::uint8_t* atom_visible;
  const T* dx;                 // [T, D]
  Wide<T>* datom_table;        // added to, as all tables
  Wide<T>* din_degree_table;   //
  Wide<T>* dout_degree_table;  //
  Wide<T>* dgraph_token;       // [D]
  T* dgaussian_term;           // [N, D] overwritten (zero for atoms that do not show Gaussians), or null
};
template <class T>
void atom_embedding_backward(Cpu& cpu, const AtomEmbeddingBackward<T>& a);
template <class T>
void atom_embedding_backward(Gpu& gpu, const AtomEmbeddingBackward<T>& a);

/// atoms [N, D] = x of the atoms' tokens; the heads read atoms only.
template <class T>
void gather_atoms(Cpu& cpu, const Packed& packed, std::int64_t width, const T* x, T* atoms);
template <class T>
void gather_atoms(Gpu& gpu, const Packed& packed, std::int64_t width, const T* x, T* atoms);
/// dx [T, D] = datoms at the atoms' tokens, zero at graph tokens; overwritten.
template <class T>
void scatter_atoms(Cpu& cpu, const Packed& packed, std::int64_t width, const T* datoms, T* dx);
template <class T>
void scatter_atoms(Gpu& gpu, const Packed& packed, std::int64_t width, const T* datoms, T* dx);

}  // namespace moleblend
