#pragma once
// Answers of property models: in a target's unit (regression) or as the probability of label 1 (classification).

#include <cstdint>
#include <vector>

#include "engine/model/model.h"
#include "engine/property/settings.h"
#include "engine/ranks/ranks.h"
#include "io/dataset/dataset.h"
#include "io/loader/subset.h"
#include "io/support/progress.h"

namespace moleblend {

inline constexpr std::int64_t kPassAtoms = 2048;  // of a forward pass, where nothing else is asked for

/// Collects molecules until a batch is worth a pass, then answers for them in order; several models answer for the same batch. With
/// head.all_conformers a molecule's answer is the mean over its conformers. Deterministic; what shares a batch matters to rounding only.
class Predictor {
 public:
  struct Member {
    Model* model;       // with head.targets.size() tasks
    PropertyHead head;  // of all members alike but for means and deviations of the targets
  };
  explicit Predictor(std::vector<Member> members, std::int64_t batch_atoms = kPassAtoms);

  /// Whether the models can see anything of such a molecule: where positions alone are shown, it has some.
  bool can_see(std::size_t conformers) const { return head().shown.graph || conformers > 0; }
  void add(const MoleculeView& molecule) { add(molecule, molecule.conformers); }
  void add(const Molecule& molecule) { add(molecule, molecule.conformers); }
  /// Whether what was added fills a batch.
  bool full() const { return batch_.atoms() >= batch_atoms_; }
  /// For each member its answers for what was added since the last call, [molecules, tasks]. Valid until the next call.
  const std::vector<std::vector<double>>& run();

 private:
  template <class M>
  void add(const M& molecule, std::size_t conformers);
  void answer(const Member& member, std::vector<double>& answers);
  const PropertyHead& head() const { return members_.front().head; }

  std::vector<Member> members_;
  std::int64_t batch_atoms_;
  Batch batch_;
  std::vector<std::size_t> conformers_;  // of each molecule added: so many of the batch's entries are its
  RelationScratch scratch_;
  std::vector<double> logits_;
  std::vector<std::vector<double>> answers_;
};

/// Answers for the molecules of a part, [molecules, tasks]. `progress` may be null; it is told how many molecules are done.
std::vector<double> predict(Model& model, const PropertyHead& head, const Dataset& data, const Subset& part,
                            Progress* progress = nullptr, std::int64_t batch_atoms = kPassAtoms);

/// The same, where every rank has the model and answers for a stretch of the part: all of the answers on all. Called by all ranks. What shares
/// a batch, which depends on their number, matters to rounding.
std::vector<double> predict_together(Ranks& ranks, Model& model, const PropertyHead& head, const Dataset& data,
                                     const Subset& part, Progress* progress = nullptr);

}  // namespace moleblend
