#pragma once
// One pass over all pairs of the batch for any of the three pair heads: outputs r_iᵀ M_k c_j + m_k, a loss that turns a row of them into
// their gradients, and from these the gradients of r, c, M and m.
//
//   U = R M                 [rows, C, 32]   once an atom, not once a pair
//   L_i = U_i · cᵀ + m      [C, n]          the outputs of atom i with all atoms of its molecule
//   dU_i = dL_i · c,  dc += dL_iᵀ · U_i
//   dR = dU · Mᵀ,     dM += Rᵀ · dU
//
// Atoms go through in tiles of at most 32 rows (whole molecules, or a block of one molecule's rows), outputs in blocks (a hop's classes), so that
// scratch is bounded by the largest molecule's n, not n². A block that no pair of a tile needs is skipped.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/common/small_product.h"
#include "kernels/pair_head/pair_head.h"

namespace moleblend::pair_head {

inline constexpr std::int64_t kTileRows = 32;
inline constexpr std::int64_t kMapSize = kPairWidth * kPairWidth;

/// Outputs of a block, and how many rows i go into one product: some 32 rows of (i, output), enough to keep it busy.
struct BlockShape {
  std::int64_t blocks, outputs, group;
  std::int64_t stride;  // from one i to the next in U and dU
  BlockShape(std::int64_t all_outputs, std::int64_t of_blocks)
      : blocks(of_blocks),
        outputs(all_outputs / of_blocks),
        group(std::clamp<std::int64_t>(32 / outputs, 1, kTileRows)),
        // Where nothing asks for rows end to end, a cache line between them keeps a column of U from falling into few sets of the
        // first-level cache (24 outputs: four).
        stride(outputs * kPairWidth + (group == 1 ? 16 : 0)) {}
};

/// Memory of the whole operation that lies in Cpu::shared().
template <class T>
struct SharedParts {
  PairLossResult* sums;   // [B]
  T* transposed;          // [C, 32, 32] M_kᵀ; with gradients only
  T* dweight;             // [threads − 1, C, 32, 32]: the first thread adds to the result itself
  double* dbias;          // [threads, C]
  std::uint8_t* touched;  // [threads, blocks]: whether a thread has written to its part of dweight

  SharedParts(Cpu& cpu, std::int64_t molecules, std::int64_t outputs, std::int64_t blocks, bool gradient) {
    const std::int64_t threads = cpu.threads(), maps = gradient ? outputs * kMapSize : 0;
    const auto bytes = [](std::int64_t count, std::size_t size) {
      return (static_cast<std::size_t>(count) * size + 63) / 64 * 64;
    };
    const std::size_t sizes[] = {bytes(molecules, sizeof(PairLossResult)), bytes(maps, sizeof(T)),
                                 bytes((threads - 1) * maps, sizeof(T)), bytes(threads * outputs, sizeof(double)),
                                 bytes(threads * blocks, 1)};
    std::byte* at = cpu.shared<std::byte>(sizes[0] + sizes[1] + sizes[2] + sizes[3] + sizes[4]);
    sums = reinterpret_cast<PairLossResult*>(at);
    transposed = reinterpret_cast<T*>(at += sizes[0]);
    dweight = reinterpret_cast<T*>(at += sizes[1]);
    dbias = reinterpret_cast<double*>(at += sizes[2]);
    touched = reinterpret_cast<std::uint8_t*>(at += sizes[3]);
  }
};

/// A run of rows (atoms) worked on together.
struct Tile {
  std::int64_t molecule_begin, molecule_end, row_begin, row_end;
};

/// Calls f(tile) for tiles of the molecules [begin, end). Cuts depend on these molecules only.
template <class F>
void for_each_tile(const Packed& packed, Range molecules, F&& f) {
  for (std::int64_t b = molecules.begin; b < molecules.end;) {
    const std::int64_t first = packed.atom_offset[b];
    std::int64_t end = b + 1;
    while (end < molecules.end && packed.atom_offset[end + 1] - first <= kTileRows) ++end;
    for (std::int64_t row = first; row < packed.atom_offset[end]; row += kTileRows) {
      f(Tile{b, end, row, std::min(row + kTileRows, packed.atom_offset[end])});
    }
    b = end;
  }
}

/// What a thread works with while it goes through its tiles.
template <class T, class Loss>
class Pass {
 public:
  Pass(Cpu& cpu, int thread, const Packed& packed, const Bilinear<T>& head, BlockShape shape, const Loss& loss,
       bool gradient, T* logits, const SharedParts<T>& shared)
      : packed_(packed),
        head_(head),
        shape_(shape),
        loss_(loss),
        gradient_(gradient),
        logits_(logits),
        sums_(shared.sums),
        transposed_(shared.transposed),
        dweight_(thread == 0 ? head.dweight : shared.dweight + (thread - 1) * head.outputs * kMapSize),
        dbias_(shared.dbias + thread * head.outputs),
        touched_(shared.touched + thread * shape.blocks),
        overwrites_(thread > 0) {
    std::int64_t longest = 0;
    for (std::int64_t b = 0; b < packed.molecules; ++b) longest = std::max(longest, simd::padded(packed.atoms_of(b)));
    // Up to 32 molecules of one atom share a tile, each padded to 8 columns.
    const std::int64_t columns = std::max<std::int64_t>(longest, 8 * kTileRows), maps = kTileRows * shape.stride;
    column_ = cpu.scratch<T>(thread, static_cast<std::size_t>(kPairWidth * columns + 2 * maps +
                                                              shape.group * shape.outputs * longest + longest));
    u_ = column_ + kPairWidth * columns;
    du_ = u_ + maps;
    outputs_ = du_ + maps;
    room_ = outputs_ + shape.group * shape.outputs * longest;
  }

  void run(Range molecules) {
    std::fill_n(dbias_, head_.outputs, 0.0);
    std::fill_n(touched_, shape_.blocks, std::uint8_t{0});
    for (std::int64_t b = molecules.begin; b < molecules.end; ++b) {
      sums_[b] = {};
      loss_.begin(b, sums_[b]);
    }
    for_each_tile(packed_, molecules, [&](const Tile& tile) { work_on(tile); });
  }

 private:
  /// The rows of one molecule within a tile.
  struct Segment {
    std::int64_t molecule, atom, n, stride, row_begin, row_end;  // `atom`: its first; rows are atoms of the batch
    const T* column;                                             // [32, stride] its c, transposed
  };

  template <class F>
  void for_each_segment(const Tile& tile, F&& f) const {
    const T* column = column_;
    for (std::int64_t b = tile.molecule_begin; b < tile.molecule_end; ++b) {
      const std::int64_t atom = packed_.atom_offset[b], n = packed_.atoms_of(b), stride = simd::padded(n);
      f(Segment{b, atom, n, stride, std::max(atom, tile.row_begin), std::min(atom + n, tile.row_end), column});
      column += kPairWidth * stride;
    }
  }

  const T* row_features(std::int64_t atom) const { return head_.features + atom * head_.stride + head_.row_column; }
  const T* column_features(std::int64_t atom) const {
    return head_.features + atom * head_.stride + head_.column_column;
  }

  void work_on(const Tile& tile) {
    T* column = column_;
    for_each_segment(tile, [&](const Segment& s) {
      simd::transpose_padded(s.n, kPairWidth, column_features(s.atom), head_.stride, column);
      column += kPairWidth * s.stride;
    });
    for (std::int64_t block = 0; block < shape_.blocks; ++block) {
      bool any = logits_ != nullptr;
      for_each_segment(tile, [&](const Segment& s) {
        for (std::int64_t row = s.row_begin; row < s.row_end; ++row) {
          wanted_[row - tile.row_begin] = loss_.any(s.molecule, row - s.atom, block);
          any = any || wanted_[row - tile.row_begin];
        }
      });
      if (any) work_on(tile, block);
    }
  }

  void work_on(const Tile& tile, std::int64_t block) {
    const std::int64_t rows = tile.row_end - tile.row_begin, k_count = shape_.outputs, ld = shape_.stride;
    const simd::LeftOperand<T> r{row_features(tile.row_begin), head_.stride, 1};
    const T* weight = head_.weight + block * k_count * kMapSize;
    for (std::int64_t k = 0; k < k_count; ++k)
      simd::small_product(rows, kPairWidth, kPairWidth, r, weight + k * kMapSize, kPairWidth, u_ + k * kPairWidth, ld);
    for_each_segment(tile, [&](const Segment& s) {
      for (std::int64_t row = s.row_begin; row < s.row_end; row += shape_.group)
        work_on(tile, block, s, row, std::min(row + shape_.group, s.row_end));
    });
    if (!gradient_) return;
    simd::small_product(rows, kPairWidth, k_count * kPairWidth, {du_, ld, 1}, transposed_ + block * k_count * kMapSize,
                        kPairWidth, head_.dfeatures + tile.row_begin * head_.stride + head_.row_column, head_.stride,
                        true);
    T* dweight = dweight_ + block * k_count * kMapSize;
    const bool add = !overwrites_ || touched_[block];
    for (std::int64_t k = 0; k < k_count; ++k)
      simd::small_product(kPairWidth, kPairWidth, rows, {r.data, 1, head_.stride}, du_ + k * kPairWidth, ld,
                          dweight + k * kMapSize, kPairWidth, add);
    touched_[block] = 1;
  }

  /// Rows [begin, end) of a segment, at most a group.
  void work_on(const Tile& tile, std::int64_t block, const Segment& s, std::int64_t begin, std::int64_t end) {
    const std::int64_t k_count = shape_.outputs, all_rows = (end - begin) * k_count;
    const std::int64_t offset = (begin - tile.row_begin) * shape_.stride;  // in u and du
    const bool* wanted = wanted_ + (begin - tile.row_begin);
    if (!logits_ && std::none_of(wanted, wanted + (end - begin), [](bool w) { return w; })) {
      if (gradient_) std::fill_n(du_ + offset, all_rows * kPairWidth, T(0));
      return;
    }
    for (std::int64_t i = 0; i < all_rows; ++i)
      std::fill_n(outputs_ + i * s.stride, s.stride, head_.bias[block * k_count + i % k_count]);
    simd::small_product(all_rows, s.stride, kPairWidth, {u_ + offset, kPairWidth, 1}, s.column, s.stride, outputs_,
                        s.stride, true);
    for (std::int64_t row = begin; row < end; ++row) {
      T* outputs = outputs_ + (row - begin) * k_count * s.stride;
      if (logits_) copy_logits(s, row, block, outputs);
      if (wanted[row - begin])
        loss_.row(s.molecule, row - s.atom, block, s.stride, gradient_, outputs, room_, sums_[s.molecule]);
      else if (gradient_)
        std::fill_n(outputs, k_count * s.stride, T(0));
    }
    if (!gradient_) return;
    for (std::int64_t k = 0; k < k_count; ++k) {
      simd::Vector<T> sum{};  // the padding's gradients are zero
      for (std::int64_t i = k; i < all_rows; i += k_count)
        for (std::int64_t j = 0; j < s.stride; j += simd::kLanes<T>) sum += simd::load(outputs_ + i * s.stride + j);
      dbias_[block * k_count + k] += static_cast<double>(simd::sum_over_lanes<T>(sum)[0]);
    }
    simd::small_product(all_rows, kPairWidth, s.n, {outputs_, s.stride, 1}, column_features(s.atom), head_.stride,
                        du_ + offset, kPairWidth);
    simd::small_product(s.n, kPairWidth, all_rows, {outputs_, 1, s.stride}, u_ + offset, kPairWidth,
                        head_.dfeatures + s.atom * head_.stride + head_.column_column, head_.stride, true);
  }

  void copy_logits(const Segment& s, std::int64_t row, std::int64_t block, const T* outputs) const {
    T* to = logits_ + (packed_.pair_offset[s.molecule] + (row - s.atom) * s.n) * head_.outputs + block * shape_.outputs;
    for (std::int64_t j = 0; j < s.n; ++j)
      for (std::int64_t k = 0; k < shape_.outputs; ++k) to[j * head_.outputs + k] = outputs[k * s.stride + j];
  }

  const Packed& packed_;
  const Bilinear<T>& head_;
  const BlockShape shape_;
  const Loss& loss_;
  const bool gradient_;
  T* const logits_;
  PairLossResult* const sums_;
  const T* const transposed_;
  T* const dweight_;
  double* const dbias_;
  std::uint8_t* const touched_;
  const bool overwrites_;   // this thread's dweight starts undefined
  bool wanted_[kTileRows];  // rows of the tile with a pair that counts in the block
  T* column_;               // [32, padded n] for each molecule of the tile
  T* u_;                    // [rows, outputs, 32]
  T* du_;                   // [rows, outputs, 32]
  T* outputs_;              // [group · outputs, padded n]
  T* room_;                 // [padded n], for the loss
};

/// Runs `loss` over all pairs. Loss has
///   void begin(molecule, PairLossResult&)   once a molecule, before its rows
///   bool any(molecule, i, block)            whether a pair of row i counts in the block
///   void row(molecule, i, block, stride, gradient, T* outputs, T* room, PairLossResult&)
/// `row` adds to the result and, with `gradient`, replaces outputs [K, stride] by their gradients: zero for pairs that do not count.
template <class T, class Loss>
PairLossResult run(Cpu& cpu, const Packed& packed, const Bilinear<T>& head, std::int64_t blocks, double scale,
                   T* logits, const Loss& loss) {
  const BlockShape shape(head.outputs, blocks);
  const bool gradient = head.dfeatures && scale != 0;
  const SharedParts<T> shared(cpu, packed.molecules, head.outputs, blocks, gradient);
  if (gradient) {
    cpu.parallel([&](int thread) {
      const Range maps = even_part(head.outputs, cpu.threads(), thread);
      for (std::int64_t k = maps.begin; k < maps.end; ++k)
        simd::transpose_padded(kPairWidth, kPairWidth, head.weight + k * kMapSize, kPairWidth,
                               shared.transposed + k * kMapSize);
    });
  }
  cpu.parallel([&](int thread) {
    const Range molecules = cost_part(packed.pair_offset, packed.molecules, cpu.threads(), thread);
    if (head.dfeatures) {
      for (std::int64_t atom = packed.atom_offset[molecules.begin]; atom < packed.atom_offset[molecules.end]; ++atom) {
        std::fill_n(head.dfeatures + atom * head.stride + head.row_column, kPairWidth, T(0));
        std::fill_n(head.dfeatures + atom * head.stride + head.column_column, kPairWidth, T(0));
      }
    }
    Pass<T, Loss>(cpu, thread, packed, head, shape, loss, gradient, logits, shared).run(molecules);
  });
  if (gradient) {
    const std::int64_t block_size = shape.outputs * kMapSize;
    cpu.parallel([&](int thread) {
      const Range part = even_part(block_size, cpu.threads(), thread, 64);
      for (std::int64_t t = 1; t < cpu.threads(); ++t)
        for (std::int64_t block = 0; block < blocks; ++block) {
          if (!shared.touched[t * blocks + block]) continue;
          const T* from = shared.dweight + ((t - 1) * blocks + block) * block_size;
          T* to = head.dweight + block * block_size;
          for (std::int64_t k = part.begin; k < part.end; ++k) to[k] += from[k];
        }
    });
    for (std::int64_t k = 0; k < head.outputs; ++k) {
      double sum = 0;
      for (std::int64_t t = 0; t < cpu.threads(); ++t) sum += shared.dbias[t * head.outputs + k];
      head.dbias[k] += static_cast<T>(sum);
    }
  }
  PairLossResult total;
  for (std::int64_t b = 0; b < packed.molecules; ++b) {
    total.loss += shared.sums[b].loss;
    total.count += shared.sums[b].count;
    total.correct += shared.sums[b].correct;
    total.pairs += shared.sums[b].pairs;
    total.pair_error += shared.sums[b].pair_error;
  }
  return total;
}

}  // namespace moleblend::pair_head
