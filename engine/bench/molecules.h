#pragma once
// Made-up molecules for measurements: what they cost is like what real ones cost, and anyone can make the same again.

#include <cstdint>
#include <string>
#include <vector>

#include "io/dataset/molecule.h"

namespace moleblend {

/// The sizes that measurements are named after. A deviation of a seventh of the mean, as in scripts/peer_torch.py, so that figures
/// of both programs can be compared.
struct MadeUpSizes {
  const char* name;
  double mean_atoms, deviation;
};
/// Like PCQM4Mv2 and like drugs.
inline constexpr MadeUpSizes kSmallMolecules{"n14", 14.1, 14.1 / 7}, kDrugSizedMolecules{"n25", 25.5, 25.5 / 7};

/// `count` drug-like molecules: numbers of heavy atoms from a normal distribution, rounded and kept between 2 and 3 · mean_atoms;
/// chain-like trees with about one ring of five or six atoms for every eight atoms, no atom with more than four neighbours;
/// C, N, O, F and S in about the shares of drugs with their usual valences, single, double and aromatic bonds; OGB codes that
/// follow from that; one conformer with bonds near 1.5 Å and no two atoms on top of each other; a SMILES string; no labels.
/// Atoms are written in the order in which the tree grew, as most files have them. Molecule i depends on (mean_atoms, deviation,
/// seed, i) alone. Throws UsageError unless 1 <= mean_atoms <= 10,000 and deviation >= 0.
std::vector<Molecule> random_molecules(std::uint64_t count, double mean_atoms, double deviation, std::uint64_t seed);

/// One order (1, 2 or 3) a bond, with single and double bonds in turns around each aromatic ring: what files of molecules hold.
/// For molecules made above, whose aromatic rings are of even size and share no atoms.
std::vector<std::uint8_t> kekule_orders(const Molecule& molecule);

}  // namespace moleblend
