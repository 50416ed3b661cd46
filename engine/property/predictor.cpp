#include "engine/property/predictor.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace moleblend {
namespace {

/// σ(x) without overflow.
double probability(double logit) {
  const double e = std::exp(-std::abs(logit));
  return (logit < 0 ? e : 1) / (1 + e);
}

}  // namespace

Predictor::Predictor(std::vector<Member> members, std::int64_t batch_atoms)
    : members_(std::move(members)), batch_atoms_(batch_atoms), answers_(members_.size()) {
  for (const Member& member : members_)
    if (member.model->config().tasks != static_cast<std::int64_t>(head().targets.size()))
      throw std::invalid_argument("a property model with another number of tasks");
}

template <class M>
void Predictor::add(const M& molecule, std::size_t conformers) {
  const bool positions = head().shown.positions;
  const std::size_t used = positions && head().all_conformers ? std::max<std::size_t>(conformers, 1) : 1;
  for (std::size_t c = 0; c < used; ++c)
    batch_.add(molecule, 0, 0, positions ? static_cast<std::int64_t>(c) : -1, scratch_);
  conformers_.push_back(used);
}
template void Predictor::add(const MoleculeView&, std::size_t);
template void Predictor::add(const Molecule&, std::size_t);

const std::vector<std::vector<double>>& Predictor::run() {
  for (std::size_t m = 0; m < members_.size(); ++m) answer(members_[m], answers_[m]);
  batch_.clear();
  conformers_.clear();
  return answers_;
}

void Predictor::answer(const Member& member, std::vector<double>& answers) {
  answers.clear();
  if (conformers_.empty()) return;
  const PropertyHead& head = member.head;
  std::vector<double> mean, std;
  for (const Target& target : head.targets) mean.push_back(target.mean), std.push_back(target.std);
  member.model->property(batch_,
                         {.task = head.task,
                          .readout = head.readout,
                          .show_2d = head.shown.graph,
                          .show_3d = head.shown.positions,
                          .mean = mean,
                          .std = std,
                          .dropout = false,
                          .gradients = false},
                         &logits_);
  const std::size_t tasks = head.targets.size();
  std::size_t entry = 0;
  for (const std::size_t conformers : conformers_) {
    for (std::size_t t = 0; t < tasks; ++t) {
      double sum = 0;
      for (std::size_t c = 0; c < conformers; ++c) {
        const double logit = logits_[(entry + c) * tasks + t];
        sum += head.task == PropertyTask::classification ? probability(logit) : logit;
      }
      answers.push_back(sum / static_cast<double>(conformers));
    }
    entry += conformers;
  }
}

std::vector<double> predict(Model& model, const PropertyHead& head, const Dataset& data, const Subset& part,
                            Progress* progress, std::int64_t batch_atoms) {
  Predictor predictor({{&model, head}}, batch_atoms);
  std::vector<double> answers;
  answers.reserve(part.size() * head.targets.size());
  MoleculeView molecule;
  for (std::uint64_t k = 0; k < part.size(); ++k) {
    data.view(part[k], molecule);
    predictor.add(molecule);
    if (!predictor.full() && k + 1 < part.size()) continue;
    const std::vector<double>& batch = predictor.run().front();
    answers.insert(answers.end(), batch.begin(), batch.end());
    if (progress) progress->update(k + 1);
  }
  return answers;
}

std::vector<double> predict_together(Ranks& ranks, Model& model, const PropertyHead& head, const Dataset& data,
                                     const Subset& part, Progress* progress) {
  if (ranks.size() == 1) return predict(model, head, data, part, progress);
  const auto rank = static_cast<std::uint64_t>(ranks.rank()), count = static_cast<std::uint64_t>(ranks.size());
  const std::uint64_t begin = part.size() * rank / count, end = part.size() * (rank + 1) / count;
  std::vector<std::uint64_t> own;
  for (std::uint64_t k = begin; k < end; ++k) own.push_back(part[k]);
  const std::vector<double> answers = predict(model, head, data, own, progress);
  std::vector<double> all(part.size() * head.targets.size(), 0.);
  std::copy(answers.begin(), answers.end(), all.begin() + static_cast<std::ptrdiff_t>(begin * head.targets.size()));
  ranks.sum(std::span(all));  // with zeros of the others: exact
  return all;
}

}  // namespace moleblend
