// Initial values of the parameters (METHOD section 8).

#include <algorithm>
#include <vector>

#include "engine/model/model.h"
#include "kernels/random/normal.h"

namespace moleblend {

namespace {

constexpr double kStandardDeviation = 0.02;  // of weights and embeddings
constexpr double kGaussianRange = 3;         // means and widths of the Gaussians are drawn from U(0, 3)

/// FNV-1a, 64 bits: a parameter's values depend on its name, not on what else the network has.
std::uint64_t name_hash(const std::string& name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const unsigned char c : name) h = (h ^ c) * 0x100000001b3u;
  return h;
}

}  // namespace

void initialise(Model& model, std::uint64_t seed, bool reference) {
  using Kind = ParameterInfo::Kind;
  std::vector<float> values(static_cast<std::size_t>(model.parameter_count()));
  for (const ParameterInfo& p : model.parameters()) {
    const std::uint64_t key = molecule_key(seed, 0, name_hash(p.name));
    const auto normal = [&](std::int64_t k) {
      return static_cast<float>(kStandardDeviation *
                                standard_normal(key, Draw::initial_value, static_cast<std::uint64_t>(k)));
    };
    const auto uniform = [&](std::int64_t k) {
      const PhiloxWords w = philox(key, static_cast<std::uint32_t>(k / 4), Draw::initial_value, 0);
      return static_cast<float>(kGaussianRange) * unit_float(w.word[k % 4]);
    };
    // The reference initialises the Gaussian tables like embeddings; the intended values let the encoding see distances
    // from the start.
    const bool gaussian = p.kind == Kind::gaussian_mean || p.kind == Kind::gaussian_std ||
                          p.kind == Kind::gaussian_mul || p.kind == Kind::gaussian_bias;
    const Kind kind = reference && gaussian ? Kind::embedding : p.kind;
    float* const out = values.data() + p.offset;
    for (std::int64_t k = 0; k < p.count; ++k) {
      switch (kind) {
        case Kind::linear:
        case Kind::embedding:
          out[k] = normal(k);
          break;
        case Kind::gaussian_mean:
        case Kind::gaussian_std:
          out[k] = uniform(k);
          break;
        case Kind::norm_weight:
        case Kind::gaussian_mul:
          out[k] = 1;
          break;
        case Kind::bias:
        case Kind::norm_bias:
        case Kind::gaussian_bias:
          out[k] = 0;
          break;
      }
    }
    if (p.padding_row) std::fill_n(out, p.count / p.shape[0], 0.f);
  }
  model.write(0, values);
  std::fill(values.begin(), values.end(), 0.f);
  model.write(1, values);
  model.write(2, values);
}

}  // namespace moleblend
