#include "io/loader/molecule_batches.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moleblend {
namespace {

constexpr std::size_t kMaxItems = 8192;  // a batch: of records that are all refused there is no end of atoms

bool has_positions(const Molecule& molecule) {
  const auto end = molecule.positions.begin() + static_cast<std::ptrdiff_t>(3 * molecule.size());
  return molecule.conformers > 0 &&
         std::all_of(molecule.positions.begin(), end, [](float x) { return std::isfinite(x); });
}

}  // namespace

MoleculeBatches::MoleculeBatches(MoleculeSource& source, PackOptions options) : source_(source), options_(options) {
  start();
}

void MoleculeBatches::start() {
  work_ = std::async(std::launch::async, [this] { return fill(made_); });
}

const MoleculeBatch* MoleculeBatches::next() {
  if (!work_.valid() || !work_.get()) return nullptr;
  std::swap(given_, made_);
  start();
  return &given_;
}

/// Takes the next record from the source into waiting_. False at the end.
bool MoleculeBatches::pull() {
  if (waiting_) return true;
  SourcedMolecule& item = waiting_.emplace();
  if (!source_.next(item)) {
    waiting_.reset();
    return false;
  }
  if (item.kept && options_.require_positions && !has_positions(item.molecule)) {
    item.kept = false;
    item.reason = "it has no positions";
  }
  return true;
}

/// False if there is nothing left.
bool MoleculeBatches::fill(MoleculeBatch& out) {
  out.items.clear();
  out.batch.clear();
  while (out.items.size() < kMaxItems && pull()) {
    SourcedMolecule& item = *waiting_;
    if (item.kept) {
      const auto atoms = static_cast<std::int64_t>(item.molecule.size());
      if (out.batch.molecules() > 0 && out.batch.atoms() + atoms > options_.batch_atoms) break;
      // Nothing is drawn, so the key decides nothing.
      out.batch.add(item.molecule, item.number, item.number, options_.positions ? 0 : -1, scratch_);
    }
    out.items.push_back(std::move(item));
    waiting_.reset();
  }
  out.progress = source_.progress();
  return !out.items.empty();
}

}  // namespace moleblend
