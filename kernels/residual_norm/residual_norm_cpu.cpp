#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/common/vector_math.h"
#include "kernels/residual_norm/residual_norm.h"

namespace moleblend {
namespace {

/// What multiplies a molecule's branch: one factor for all of it, and one an element where hidden dropout is active.
template <class T>
struct BranchFactors {
  T path;           // 0 or 1 / (1 − p)
  const T* hidden;  // [n + 1, D], or null
};

/// `buffer` has room for (n + 1) · D values if hidden dropout is active.
template <class T>
BranchFactors<T> branch_factors(std::uint64_t key, std::uint32_t layer, Dropout drop_path, Dropout hidden,
                                std::int64_t count, T* buffer) {
  BranchFactors<T> f{T(1), nullptr};
  if (drop_path.active()) dropout_factors(key, Draw::drop_path, layer, 0, 1, drop_path, &f.path);
  if (hidden.active()) {
    dropout_factors(key, Draw::hidden_dropout, layer, 0, count, hidden, buffer);
    f.hidden = buffer;
  }
  return f;
}

/// A row's part of the parameters' gradients, and g = dy · weight. A function of its own for its parameters' __restrict: without
/// it the three outputs keep the loop from being vectorised.
template <class T>
void add_row(std::int64_t width, const T* __restrict dy, const T* __restrict normalised, const T* __restrict weight,
             T* __restrict g, T* __restrict dweight, T* __restrict dbias) {
  for (std::int64_t d = 0; d < width; ++d) {
    g[d] = dy[d] * weight[d];
    dweight[d] += dy[d] * normalised[d];
    dbias[d] += dy[d];
  }
}

}  // namespace

template <class T>
void residual_norm_forward(Cpu& cpu, const ResidualNormForward<T>& a) {
  const std::int64_t width = a.width;
  const bool draws = a.branch && (a.drop_path.active() || a.hidden_dropout.active());
  cpu.parallel([&](int thread) {
    const auto [begin, end] = cost_part(a.packed.atom_offset, a.packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t first = a.packed.token_offset(b), tokens = a.packed.atoms_of(b) + 1;
      T* buffer = draws && a.hidden_dropout.active() ? cpu.scratch<T>(thread, static_cast<std::size_t>(tokens * width))
                                                     : nullptr;
      const BranchFactors<T> factors =
          draws ? branch_factors(a.molecule_key[b], a.layer, a.drop_path, a.hidden_dropout, tokens * width, buffer)
                : BranchFactors<T>{T(1), nullptr};
      for (std::int64_t token = first; token < first + tokens; ++token) {
        const T* x = a.x + token * width;
        T* __restrict y = a.y + token * width;
        // y holds the sum until it is normalised: the row stays in the first-level cache.
        if (!a.branch || factors.path == T(0)) {
          std::copy_n(x, width, y);
        } else if (const T* branch = a.branch + token * width; factors.hidden) {
          const T* hidden = factors.hidden + (token - first) * width;
          for (std::int64_t d = 0; d < width; ++d) y[d] = x[d] + factors.path * hidden[d] * branch[d];
        } else {
          for (std::int64_t d = 0; d < width; ++d) y[d] = x[d] + factors.path * branch[d];
        }
        const T mean = vector_sum<T>(width, [&](std::int64_t d) { return y[d]; }) / static_cast<T>(width);
        const T variance =
            vector_sum<T>(width, [&](std::int64_t d) { return (y[d] - mean) * (y[d] - mean); }) / static_cast<T>(width);
        const T rstd = T(1) / std::sqrt(variance + T(kLayerNormEpsilon));
        if (a.rstd) a.rstd[token] = rstd;
        if (a.normalised) {
          T* __restrict normalised = a.normalised + token * width;
          for (std::int64_t d = 0; d < width; ++d) {
            normalised[d] = (y[d] - mean) * rstd;
            y[d] = normalised[d] * a.weight[d] + a.bias[d];
          }
        } else {
          for (std::int64_t d = 0; d < width; ++d) y[d] = (y[d] - mean) * rstd * a.weight[d] + a.bias[d];
        }
      }
    }
  });
}

template <class T>
void residual_norm_backward(Cpu& cpu, const ResidualNormBackward<T>& a) {
  if (a.dbranch_sum) throw std::invalid_argument("LayerNorm on the CPU does not sum its branch's gradient");
  const std::int64_t width = a.width;
  const bool draws = a.dbranch && (a.drop_path.active() || a.hidden_dropout.active());
  // A thread's sums of dweight and dbias, and a row; each on cache lines of its own.
  const std::int64_t padded = (width + 15) / 16 * 16;
  T* const partial = cpu.shared<T>(static_cast<std::size_t>(cpu.threads() * 3 * padded));
  cpu.parallel([&](int thread) {
    T* const dweight = partial + thread * 3 * padded;
    T* const dbias = dweight + padded;
    T* const g = dbias + padded;  // dy · weight of a row: dx may be written over dy
    std::fill_n(dweight, 2 * padded, T(0));
    const auto [begin, end] = cost_part(a.packed.atom_offset, a.packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t first = a.packed.token_offset(b), tokens = a.packed.atoms_of(b) + 1;
      T* buffer = draws && a.hidden_dropout.active() ? cpu.scratch<T>(thread, static_cast<std::size_t>(tokens * width))
                                                     : nullptr;
      const BranchFactors<T> factors =
          draws ? branch_factors(a.molecule_key[b], a.layer, a.drop_path, a.hidden_dropout, tokens * width, buffer)
                : BranchFactors<T>{T(1), nullptr};
      for (std::int64_t token = first; token < first + tokens; ++token) {
        const T* dy = a.dy + token * width;
        const T* normalised = a.normalised + token * width;
        add_row(width, dy, normalised, a.weight, g, dweight, dbias);
        // With x̂ = (x − mean) · rstd:  dx = rstd · (g − mean(g) − x̂ · mean(g x̂)).
        const T mean_g = vector_sum<T>(width, [&](std::int64_t d) { return g[d]; }) / static_cast<T>(width);
        const T mean_gx =
            vector_sum<T>(width, [&](std::int64_t d) { return g[d] * normalised[d]; }) / static_cast<T>(width);
        const T rstd = a.rstd[token];
        T* __restrict dx = a.dx + token * width;
        for (std::int64_t d = 0; d < width; ++d) dx[d] = rstd * (g[d] - mean_g - normalised[d] * mean_gx);
        if (!a.dbranch) continue;
        T* __restrict dbranch = a.dbranch + token * width;
        if (factors.path == T(0)) {
          std::fill_n(dbranch, width, T(0));
        } else if (factors.hidden) {
          const T* hidden = factors.hidden + (token - first) * width;
          for (std::int64_t d = 0; d < width; ++d) dbranch[d] = factors.path * hidden[d] * dx[d];
        } else {
          for (std::int64_t d = 0; d < width; ++d) dbranch[d] = factors.path * dx[d];
        }
      }
    }
  });
  for (int thread = 0; thread < cpu.threads(); ++thread) {
    const T* part = partial + thread * 3 * padded;
    for (std::int64_t d = 0; d < width; ++d) {
      a.dweight[d] += part[d];
      a.dbias[d] += part[padded + d];
    }
  }
}

template void residual_norm_forward(Cpu&, const ResidualNormForward<float>&);
template void residual_norm_forward(Cpu&, const ResidualNormForward<double>&);
template void residual_norm_backward(Cpu&, const ResidualNormBackward<float>&);
template void residual_norm_backward(Cpu&, const ResidualNormBackward<double>&);

}  // namespace moleblend
