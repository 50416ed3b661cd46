#pragma once
// Another library's attention as cases of `bench --kernels`, on the values of ours.

#include <deque>
#include <utility>
#include <vector>

#include "engine/bench/kernel_cases.h"
#include "engine/bench/library_attention.h"
#include "engine/bench/padding.h"
#include "kernels/attention/attention.h"

namespace moleblend {

/// Two cases, held against ours without dropout. Molecules are padded once: whoever uses such a library keeps them so. Time counts against the
/// products and bytes of ours, since padding is no use to anyone. Where the library refuses, a case says why.
class LibraryAttentionCases {
 public:
  /// `packed` has its offsets in host memory. `ours` has its arrays in the device's; forward and backward are our cases of it.
  LibraryAttentionCases(Gpu& gpu, const Packed& packed, const AttentionBackward<bf16>& ours, const KernelCase& forward,
                        const KernelCase& backward)
      : gpu_(gpu) {
    const std::int64_t B = packed.molecules, D = ours.in.width, H = ours.in.heads;
    const std::int64_t S = (packed.largest + 1 + 7) / 8 * 8;  // rows of the bias begin at multiples of 16 bytes
    const Padding row = Padding::of_rows(packed, S, D), qkv = Padding::of_rows(packed, S, 3 * D),
                  square = Padding::of_squares(packed, S, H);
    std::vector<std::int32_t> length;
    for (std::int64_t b = 0; b < B; ++b) length.push_back(static_cast<std::int32_t>(packed.atoms_of(b) + 1));
    const PaddedAttention a{.molecules = B,
                            .heads = H,
                            .tokens = S,
                            .head_width = D / H,
                            .scale = ours.in.scale,
                            .length = uploaded(length),
                            .qkv = padded(ours.in.qkv, qkv),
                            .bias = padded(ours.in.bias, square),
                            .out = zeros<bf16>(row.padded_count()),
                            .statistics = zeros<float>(B * H * S),
                            .dout = padded(ours.dout, row),
                            .dqkv = zeros<bf16>(qkv.padded_count()),
                            .dbias = zeros<bf16>(square.padded_count())};
    add(forward, a, library_attention_forward, {output("out", a.out, row)});
    if (cases_[0].missing.empty()) cases_[0].run();  // what backward reads
    add(backward, a, library_attention_backward, {output("dqkv", a.dqkv, qkv), output("dbias", a.dbias, square)});
  }

  /// They read and write arrays of this object.
  const std::vector<KernelCase>& cases() const { return cases_; }

 private:
  void add(const KernelCase& ours, const PaddedAttention& a, LibraryOperation (*make)(Gpu&, const PaddedAttention&),
           std::vector<KernelCase::Output> outputs) {
    KernelCase one{.name = ours.name + ".cudnn", .truth = ours.name};
    try {
      LibraryOperation operation = make(gpu_, a);
      one.flop = ours.flop;
      one.bytes = ours.bytes;
      one.run = std::move(operation.run);
      one.outputs = std::move(outputs);
      one.library = std::move(operation.library);
      one.padded_tokens = a.tokens;
    } catch (const GpuError& error) {
      one.missing = error.what();
    }
    cases_.push_back(std::move(one));
  }

  template <class U>
  U* empty(std::int64_t count) {
    return static_cast<U*>(blocks_.emplace_back().reserve(static_cast<std::size_t>(count) * sizeof(U)));
  }
  template <class U>
  U* zeros(std::int64_t count) {
    U* p = empty<U>(count);
    gpu_.zero(p, count);
    return p;
  }
  template <class U>
  const U* uploaded(const std::vector<U>& v) {
    U* p = empty<U>(static_cast<std::int64_t>(v.size()));
    gpu_.upload(p, v.data(), static_cast<std::int64_t>(v.size()));
    return p;
  }
  const bf16* padded(const bf16* packed, const Padding& padding) {
    return uploaded(padding.pad(downloaded(packed, padding.packed_count())));
  }
  std::vector<bf16> downloaded(const bf16* p, std::int64_t count) {
    std::vector<bf16> v(static_cast<std::size_t>(count));
    gpu_.download(v.data(), p, count);
    return v;
  }
  /// Of the tokens that molecules have.
  KernelCase::Output output(std::string name, bf16* p, const Padding& padding) {
    return {std::move(name), [this, p, count = padding.padded_count()] { gpu_.zero(p, count); },
            [this, p, padding] {
              std::vector<double> r;
              for (const bf16 x : padding.unpad(downloaded(p, padding.padded_count()))) r.push_back(to_float(x));
              return r;
            }};
  }

  Gpu& gpu_;
  std::deque<GpuBlock> blocks_;
  std::vector<KernelCase> cases_;
};

}  // namespace moleblend
