#include <algorithm>
#include <cmath>

#include "kernels/property_loss/property_loss.h"

namespace moleblend {
namespace {

/// The weight of a molecule's atom tokens in the read-out.
template <class T>
T atom_weight(Readout readout, std::int64_t atoms) {
  return readout == Readout::mean ? T(1) / static_cast<T>(std::max<std::int64_t>(atoms, 1)) : T(1);
}

}  // namespace

template <class T>
void readout_forward(Cpu& cpu, const Packed& packed, Readout readout, std::int64_t features, const T* x, T* out) {
  cpu.parallel([&](int thread) {
    const Range molecules = cost_part(packed.atom_offset, packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = molecules.begin; b < molecules.end; ++b) {
      const T* token = x + packed.token_offset(b) * features;
      T* to = out + b * features;
      if (readout == Readout::cls) {
        std::copy_n(token, features, to);
        continue;
      }
      std::fill_n(to, features, T(0));
      const std::int64_t atoms = packed.atoms_of(b);
      for (std::int64_t i = 1; i <= atoms; ++i)
        for (std::int64_t f = 0; f < features; ++f) to[f] += token[i * features + f];
      const T weight = atom_weight<T>(readout, atoms);
      for (std::int64_t f = 0; f < features; ++f) to[f] *= weight;
    }
  });
}

template <class T>
void readout_backward(Cpu& cpu, const Packed& packed, Readout readout, std::int64_t features, const T* dout, T* dx) {
  cpu.parallel([&](int thread) {
    const Range molecules = cost_part(packed.atom_offset, packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = molecules.begin; b < molecules.end; ++b) {
      const std::int64_t atoms = packed.atoms_of(b);
      const T graph_weight = readout == Readout::cls ? T(1) : T(0);
      const T weight = readout == Readout::cls ? T(0) : atom_weight<T>(readout, atoms);
      T* token = dx + packed.token_offset(b) * features;
      const T* from = dout + b * features;
      for (std::int64_t i = 0; i <= atoms; ++i)
        for (std::int64_t f = 0; f < features; ++f)
          token[i * features + f] = (i == 0 ? graph_weight : weight) * from[f];
    }
  });
}

template <class T>
void property_loss(Cpu&, const PropertyLoss<T>& a) {
  PropertyLossResult result;
  for (std::int64_t k = 0; k < a.molecules * a.tasks; ++k) {
    const double label = a.labels[k], logit = static_cast<double>(a.logits[k]);
    const std::int64_t task = k % a.tasks;
    double gradient = 0;
    if (!std::isnan(label)) {
      ++result.count;
      if (a.task == PropertyTask::classification) {
        // −y log σ(x) − (1 − y) log(1 − σ(x)) = max(x, 0) − x y + log(1 + e^−|x|): no overflow for any x.
        const double e = std::exp(-std::abs(logit));
        const double weight = a.positive_weight && label == 1 ? a.positive_weight[task] : 1;
        result.loss += weight * ((logit < 0 ? 0 : logit) - logit * label + std::log1p(e));
        gradient = weight * ((logit < 0 ? e : 1) / (1 + e) - label);
      } else {
        const double error = logit * a.std[task] + a.mean[task] - label;
        result.loss += error * error;
        gradient = 2 * error * a.std[task];
      }
    }
    if (a.dlogits) a.dlogits[k] = static_cast<T>(a.scale * gradient);
  }
  *a.result = result;
}

template void readout_forward(Cpu&, const Packed&, Readout, std::int64_t, const float*, float*);
template void readout_forward(Cpu&, const Packed&, Readout, std::int64_t, const double*, double*);
template void readout_backward(Cpu&, const Packed&, Readout, std::int64_t, const float*, float*);
template void readout_backward(Cpu&, const Packed&, Readout, std::int64_t, const double*, double*);
template void property_loss(Cpu&, const PropertyLoss<float>&);
template void property_loss(Cpu&, const PropertyLoss<double>&);

}  // namespace moleblend
