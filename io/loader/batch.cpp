#include "io/loader/batch.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "io/support/error.h"

namespace moleblend {
namespace {

/// Copies `count` numbers from anywhere; true if all of them are finite.
bool copy_finite(const std::byte* from, std::size_t count, float* to) {
  std::memcpy(to, from, count * sizeof(float));
  constexpr std::uint32_t exponent = 0x7F800000u;  // all ones in infinities and NaN
  bool finite = true;
  for (std::size_t k = 0; k < count; ++k) finite &= (std::bit_cast<std::uint32_t>(to[k]) & exponent) != exponent;
  return finite;
}

/// The molecule as a view, its bonds in memory that the view keeps.
void view_of(const Molecule& molecule, MoleculeView& view) {
  view.atoms = molecule.size();
  view.codes = reinterpret_cast<const std::byte*>(molecule.atoms.data());
  view.bonds.clear();
  for (const Bond& b : molecule.bonds)
    view.bonds.push_back({b.begin, b.end, bond_code(b.type, b.stereo, b.conjugated)});
  view.conformers = molecule.conformers;
  view.positions = reinterpret_cast<const std::byte*>(molecule.positions.data());
  view.label_count = molecule.labels.size();
  view.labels = reinterpret_cast<const std::byte*>(molecule.labels.data());
}

}  // namespace

void Batch::clear() {
  for (auto* offsets : {&atom_offset, &pair_offset, &token_pair_offset}) offsets->assign(1, 0);
  label_count = 0;
  resize();
}

/// Gives every array the size that the offsets ask for.
void Batch::resize() {
  const std::size_t molecules = atom_offset.size() - 1;
  const auto atoms = static_cast<std::size_t>(atom_offset.back()), pairs = static_cast<std::size_t>(pair_offset.back());
  index.resize(molecules);
  key.resize(molecules);
  has_positions.resize(molecules);
  labels.resize(molecules * static_cast<std::size_t>(label_count));
  atom_codes.resize(atoms * kAtomFeatures);
  degree.resize(atoms);
  positions.resize(atoms * 3);
  position_known.resize(atoms);
  spd.resize(pairs);
  path.resize(pairs * kPathHops);
}

void Batch::lay_out(std::span<const std::uint32_t> atoms, std::size_t label_columns) {
  for (auto* offsets : {&atom_offset, &pair_offset, &token_pair_offset}) offsets->resize(atoms.size() + 1);
  std::int64_t n_sum = 0, pair_sum = 0, token_pair_sum = 0;
  for (std::size_t b = 0; b <= atoms.size(); ++b) {
    atom_offset[b] = n_sum;
    pair_offset[b] = pair_sum;
    token_pair_offset[b] = token_pair_sum;
    if (b == atoms.size()) break;
    const std::int64_t n = atoms[b];
    n_sum += n;
    pair_sum += n * n;
    token_pair_sum += (n + 1) * (n + 1);
  }
  label_count = static_cast<std::int64_t>(label_columns);
  resize();
}

void Batch::put(std::size_t b, const MoleculeView& molecule, std::uint64_t molecule_index, std::uint64_t molecule_key,
                std::int64_t conformer, RelationScratch& scratch) {
  const std::size_t n = molecule.atoms, columns = molecule.label_count;
  const auto atom = static_cast<std::size_t>(atom_offset[b]), pair = static_cast<std::size_t>(pair_offset[b]);
  if (columns != static_cast<std::size_t>(label_count))
    throw Error("molecule {} has {} labels where its batch has {}; prepare the data set again", molecule_index, columns,
                label_count);
  if (n != static_cast<std::size_t>(atom_offset[b + 1]) - atom)
    throw Error("molecule {} has {} atoms where its batch has room for {}; prepare the data set again", molecule_index,
                n, static_cast<std::size_t>(atom_offset[b + 1]) - atom);

  relations(n, std::span<const CodedBond>(molecule.bonds), spd.data() + pair, path.data() + pair * kPathHops,
            degree.data() + atom, scratch);
  for (std::size_t k = 0; k < n * kAtomFeatures; ++k)
    atom_codes[atom * kAtomFeatures + k] = std::to_integer<std::uint16_t>(molecule.codes[k]);
  float* const xyz = positions.data() + 3 * atom;
  bool known = conformer >= 0 && molecule.conformers > 0;
  if (known) {
    const std::size_t chosen = static_cast<std::uint64_t>(conformer) % molecule.conformers;
    known = copy_finite(molecule.positions + chosen * 3 * n * sizeof(float), 3 * n, xyz);
  }
  if (!known) std::fill_n(xyz, 3 * n, 0.0f);
  std::fill_n(position_known.data() + atom, n, static_cast<std::uint8_t>(known));
  has_positions[b] = known;
  if (columns > 0) std::memcpy(labels.data() + b * columns, molecule.labels, columns * sizeof(double));
  index[b] = molecule_index;
  key[b] = molecule_key;
}

void Batch::add(const MoleculeView& molecule, std::uint64_t molecule_index, std::uint64_t molecule_key,
                std::int64_t conformer, RelationScratch& scratch) {
  const auto n = static_cast<std::int64_t>(molecule.atoms);
  if (index.empty()) label_count = static_cast<std::int64_t>(molecule.label_count);
  atom_offset.push_back(atom_offset.back() + n);
  pair_offset.push_back(pair_offset.back() + n * n);
  token_pair_offset.push_back(token_pair_offset.back() + (n + 1) * (n + 1));
  resize();
  try {
    put(index.size() - 1, molecule, molecule_index, molecule_key, conformer, scratch);
  } catch (...) {
    for (auto* offsets : {&atom_offset, &pair_offset, &token_pair_offset}) offsets->pop_back();
    resize();
    throw;
  }
}

void Batch::add(const Molecule& molecule, std::uint64_t molecule_index, std::uint64_t molecule_key,
                std::int64_t conformer, RelationScratch& scratch) {
  view_of(molecule, scratch.view);
  add(scratch.view, molecule_index, molecule_key, conformer, scratch);
}

}  // namespace moleblend
