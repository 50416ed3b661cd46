#include <algorithm>
#include <array>

#include "kernels/atom_embedding/atom_embedding.h"

namespace moleblend {
namespace {

std::int64_t atom_row(const std::uint16_t* codes, int feature) {
  return codes[feature] + kAtomFeatureRows * feature + 2;
}
std::int64_t degree_row(std::uint16_t degree) {
  return std::min<std::int64_t>(degree, kAtomFeatureRows - 2) + 1;
}

}  // namespace

template <class T>
void atom_embedding_forward(Cpu& cpu, const AtomEmbeddingForward<T>& a) {
  const std::int64_t width = a.width;
  cpu.parallel([&](int thread) {
    const auto [begin, end] = cost_part(a.packed.atom_offset, a.packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      T* __restrict x = a.x + a.packed.token_offset(b) * width;
      std::copy_n(a.graph_token, width, x);
      for (std::int64_t atom = a.packed.atom_offset[b]; atom < a.packed.atom_offset[b + 1]; ++atom) {
        x += width;
        std::array<const T*, kAtomFeatures> row;
        for (int f = 0; f < kAtomFeatures; ++f) {
          row[static_cast<std::size_t>(f)] = a.atom_table + atom_row(a.atom_codes + atom * kAtomFeatures, f) * width;
        }
        static_assert(kAtomFeatures == 9);
        const auto [r0, r1, r2, r3, r4, r5, r6, r7, r8] = row;
        for (std::int64_t d = 0; d < width; ++d)
          x[d] = r0[d] + r1[d] + r2[d] + r3[d] + r4[d] + r5[d] + r6[d] + r7[d] + r8[d];
        if (a.atom_visible[atom] & kShowDegree) {
          const T* in = a.in_degree_table + degree_row(a.degree[atom]) * width;
          const T* out = a.out_degree_table + degree_row(a.degree[atom]) * width;
          for (std::int64_t d = 0; d < width; ++d) x[d] += in[d] + out[d];
        }
        if (a.atom_visible[atom] & kShowGaussians) {
          const T* term = a.gaussian_term + atom * width;
          for (std::int64_t d = 0; d < width; ++d) x[d] += T(kGaussianTermScale) * term[d];
        }
      }
    }
  });
}

template <class T>
void atom_embedding_backward(Cpu& cpu, const AtomEmbeddingBackward<T>& a) {
  const std::int64_t width = a.width;
  cpu.parallel([&](int thread) {
    // Whole cache lines of columns, so that no two threads write the same one.
    const Range part = even_part(width, cpu.threads(), thread, 64 / static_cast<std::int64_t>(sizeof(T)));
    const std::int64_t begin = part.begin, columns = part.end - part.begin;
    if (columns == 0) return;
    for (std::int64_t b = 0; b < a.packed.molecules; ++b) {
      const T* __restrict dx = a.dx + a.packed.token_offset(b) * width + begin;
      const auto add_to = [&](T* table, std::int64_t row) {
        T* out = table + row * width + begin;
        for (std::int64_t d = 0; d < columns; ++d) out[d] += dx[d];
      };
      add_to(a.dgraph_token, 0);
      for (std::int64_t atom = a.packed.atom_offset[b]; atom < a.packed.atom_offset[b + 1]; ++atom) {
        dx += width;
        for (int f = 0; f < kAtomFeatures; ++f) add_to(a.datom_table, atom_row(a.atom_codes + atom * kAtomFeatures, f));
        if (a.atom_visible[atom] & kShowDegree) {
          add_to(a.din_degree_table, degree_row(a.degree[atom]));
          add_to(a.dout_degree_table, degree_row(a.degree[atom]));
        }
        if (a.dgaussian_term) {
          T* __restrict term = a.dgaussian_term + atom * width + begin;
          const T scale = a.atom_visible[atom] & kShowGaussians ? T(kGaussianTermScale) : T(0);
          for (std::int64_t d = 0; d < columns; ++d) term[d] = scale == T(0) ? T(0) : scale * dx[d];
        }
      }
    }
  });
}

template <class T>
void gather_atoms(Cpu& cpu, const Packed& packed, std::int64_t width, const T* x, T* atoms) {
  cpu.parallel([&](int thread) {
    const auto [begin, end] = cost_part(packed.atom_offset, packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      std::copy_n(x + (packed.token_offset(b) + 1) * width, packed.atoms_of(b) * width,
                  atoms + packed.atom_offset[b] * width);
    }
  });
}

template <class T>
void scatter_atoms(Cpu& cpu, const Packed& packed, std::int64_t width, const T* datoms, T* dx) {
  cpu.parallel([&](int thread) {
    const auto [begin, end] = cost_part(packed.atom_offset, packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      T* out = dx + packed.token_offset(b) * width;
      std::fill_n(out, width, T(0));
      std::copy_n(datoms + packed.atom_offset[b] * width, packed.atoms_of(b) * width, out + width);
    }
  });
}

template void atom_embedding_forward(Cpu&, const AtomEmbeddingForward<float>&);
template void atom_embedding_forward(Cpu&, const AtomEmbeddingForward<double>&);
template void atom_embedding_backward(Cpu&, const AtomEmbeddingBackward<float>&);
template void atom_embedding_backward(Cpu&, const AtomEmbeddingBackward<double>&);
template void gather_atoms(Cpu&, const Packed&, std::int64_t, const float*, float*);
template void gather_atoms(Cpu&, const Packed&, std::int64_t, const double*, double*);
template void scatter_atoms(Cpu&, const Packed&, std::int64_t, const float*, float*);
template void scatter_atoms(Cpu&, const Packed&, std::int64_t, const double*, double*);

}  // namespace moleblend
