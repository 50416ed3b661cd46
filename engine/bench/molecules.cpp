#include "engine/bench/molecules.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <span>

#include "io/graph/bond_type.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {

constexpr std::uint8_t kCarbon = 5, kNitrogen = 6, kOxygen = 7, kFluorine = 8;  // atomic number − 1
constexpr float kBondLength = 1.5f, kContact = 2.2f;  // Å; atoms not bonded are farther apart

/// Random numbers that are the same everywhere, which those of the standard library's distributions are not.
class Dice {
 public:
  explicit Dice(std::uint64_t key) : key_(key) {}
  std::size_t below(std::size_t limit) { return word() % limit; }
  bool chance(double probability) { return uniform() < probability; }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform()); }

 private:
  std::uint64_t word() { return molecule_key(key_, drawn_++, 0); }
  /// In (0, 1).
  double uniform() { return (static_cast<double>(word() >> 12) + 0.5) * 0x1p-52; }

  std::uint64_t key_, drawn_ = 0;
};

/// Atoms and who is joined to whom.
struct Skeleton {
  explicit Skeleton(std::size_t n) : neighbours(n), in_ring(n) {}
  std::size_t degree(std::size_t i) const { return neighbours[i].size(); }
  void join(std::size_t i, std::size_t j) {
    bonds.emplace_back(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(j));
    neighbours[i].push_back(static_cast<std::uint32_t>(j));
    neighbours[j].push_back(static_cast<std::uint32_t>(i));
  }

  std::vector<std::vector<std::uint32_t>> neighbours;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> bonds;
  std::vector<std::vector<std::uint32_t>> rings;  // the atoms of each ring in the order around it
  std::vector<bool> in_ring;
};

/// Mostly the atom before, else one of the last few that has room: chains with short branches.
void grow_tree(Skeleton& skeleton, std::size_t n, Dice& dice) {
  for (std::size_t i = 1; i < n; ++i) {
    std::array<std::size_t, 5> room{};
    std::size_t count = 0;
    for (std::size_t j = i - std::min<std::size_t>(i, 5); j < i; ++j) {
      if (skeleton.degree(j) < 3) room[count++] = j;
    }
    // The atom before has one neighbour at most, so there is always room.
    skeleton.join(dice.chance(0.7) ? i - 1 : room[dice.below(count)], i);
  }
}

/// Joins an atom to one that is `size` − 1 bonds away, so that the new ring is of that size; nothing if none has room.
void close_ring(Skeleton& skeleton, std::size_t size, Dice& dice) {
  const std::size_t n = skeleton.neighbours.size(), first = dice.below(n);
  if (skeleton.degree(first) >= 4) return;
  std::vector<std::uint32_t> before(n, static_cast<std::uint32_t>(n));  // n: not reached
  std::vector<std::uint32_t> ends{static_cast<std::uint32_t>(first)}, next;
  before[first] = static_cast<std::uint32_t>(first);
  for (std::size_t hop = 1; hop < size; ++hop) {
    next.clear();
    for (const std::uint32_t a : ends) {
      for (const std::uint32_t b : skeleton.neighbours[a]) {
        if (before[b] != n) continue;
        before[b] = a;
        next.push_back(b);
      }
    }
    ends.swap(next);
  }
  std::erase_if(ends, [&](std::uint32_t j) { return skeleton.degree(j) >= 4; });
  if (ends.empty()) return;
  std::vector<std::uint32_t> ring;
  const std::uint32_t last = ends[dice.below(ends.size())];
  for (std::uint32_t a = last; a != first; a = before[a]) ring.push_back(a);
  ring.push_back(static_cast<std::uint32_t>(first));
  for (const std::uint32_t a : ring) skeleton.in_ring[a] = true;
  skeleton.join(first, last);
  skeleton.rings.push_back(std::move(ring));
}

int valence_of(std::uint8_t element) {
  constexpr std::array<int, 4> valence = {4, 3, 2, 1};
  return element <= kFluorine ? valence[element - kCarbon] : 2;  // sulphur
}

/// Elements, bond types and what the codes say of them.
void choose_chemistry(const Skeleton& skeleton, Dice& dice, Molecule& molecule) {
  constexpr std::array<std::uint8_t, 100> shares = [] {
    std::array<std::uint8_t, 100> s{};
    s.fill(kCarbon);
    for (std::size_t k = 0; k < 11; ++k) s[k] = kNitrogen, s[11 + k] = kOxygen;
    s[22] = s[23] = kFluorine;
    s[24] = s[25] = 15;  // sulphur
    return s;
  }();
  const std::size_t n = skeleton.neighbours.size();
  std::vector<std::uint8_t> element(n);
  std::vector<int> room(n);  // valences not used yet
  for (std::size_t i = 0; i < n; ++i) {
    element[i] = shares[dice.below(shares.size())];
    if (valence_of(element[i]) < static_cast<int>(skeleton.degree(i))) element[i] = kCarbon;
  }
  std::vector<bool> aromatic(n), unsaturated(n);
  const auto is_ring_bond = [](const std::vector<std::uint32_t>& ring, std::uint32_t a, std::uint32_t b) {
    const auto place = std::find(ring.begin(), ring.end(), a) - ring.begin();
    const auto size = static_cast<std::ptrdiff_t>(ring.size());
    return place < size && (ring[static_cast<std::size_t>((place + 1) % size)] == b ||
                            ring[static_cast<std::size_t>((place + size - 1) % size)] == b);
  };
  std::vector<std::uint8_t> type(skeleton.bonds.size(), kSingle);
  for (const auto& ring : skeleton.rings) {
    const bool fits = ring.size() == 6 && std::all_of(ring.begin(), ring.end(), [&](std::uint32_t a) {
                        return skeleton.degree(a) <= 3 && !aromatic[a];
                      });
    if (!fits || !dice.chance(0.8)) continue;
    for (const std::uint32_t a : ring) {
      aromatic[a] = unsaturated[a] = true;
      if (element[a] != kNitrogen || skeleton.degree(a) > 2) element[a] = kCarbon;
    }
    for (std::size_t e = 0; e < type.size(); ++e) {
      if (is_ring_bond(ring, skeleton.bonds[e].first, skeleton.bonds[e].second)) type[e] = kAromatic;
    }
  }
  for (std::size_t i = 0; i < n; ++i)
    room[i] = valence_of(element[i]) - static_cast<int>(skeleton.degree(i)) - (aromatic[i] ? 1 : 0);
  for (std::size_t e = 0; e < type.size(); ++e) {
    const auto [a, b] = skeleton.bonds[e];
    if (type[e] != kSingle || unsaturated[a] || unsaturated[b] || room[a] < 1 || room[b] < 1 || !dice.chance(0.25))
      continue;
    type[e] = kDouble;
    unsaturated[a] = unsaturated[b] = true;
    --room[a], --room[b];
  }

  for (std::size_t i = 0; i < n; ++i) {
    const auto hydrogens = static_cast<std::uint8_t>(room[i]);
    const std::uint8_t hybridisation = unsaturated[i] ? 1 : 2;  // SP2, SP3
    molecule.atoms.push_back({element[i], 0, static_cast<std::uint8_t>(skeleton.degree(i) + hydrogens), 5, hydrogens, 0,
                              hybridisation, aromatic[i], skeleton.in_ring[i]});
  }
  for (std::size_t e = 0; e < type.size(); ++e) {
    const auto [a, b] = skeleton.bonds[e];
    const bool conjugated = type[e] == kAromatic || (type[e] == kSingle && unsaturated[a] && unsaturated[b]);
    molecule.bonds.push_back({.begin = a, .end = b, .type = type[e], .stereo = 0, .conjugated = conjugated});
  }
}

/// Each atom at bond length from the one that it grew from, in the roomiest of some directions; then bonds are drawn to their
/// length and the others pushed apart.
void place_atoms(const Skeleton& skeleton, Dice& dice, std::vector<float>& positions) {
  using Point = std::array<float, 3>;
  const std::size_t n = skeleton.neighbours.size();
  std::vector<Point> at(n);
  const auto distance = [](const Point& a, const Point& b) {
    const float x = a[0] - b[0], y = a[1] - b[1], z = a[2] - b[2];
    return std::sqrt(x * x + y * y + z * z);
  };
  for (std::size_t i = 1; i < n; ++i) {
    const Point& from = at[skeleton.neighbours[i].front()];  // the tree's bond is the atom's first
    float roomiest = -1;
    for (int trial = 0; trial < 4; ++trial) {
      Point step = {static_cast<float>(dice.normal()), static_cast<float>(dice.normal()),
                    static_cast<float>(dice.normal())};
      const float scale = kBondLength / std::max(distance(step, {}), 1e-6f);
      for (std::size_t c = 0; c < 3; ++c) step[c] = from[c] + scale * step[c];
      float nearest = kBondLength;
      for (std::size_t j = 0; j < i; ++j) nearest = std::min(nearest, distance(step, at[j]));
      if (nearest > roomiest) roomiest = nearest, at[i] = step;
    }
  }
  const auto set_distance = [&](std::size_t i, std::size_t j, float wanted) {
    const float now = std::max(distance(at[i], at[j]), 1e-3f), share = (now - wanted) / (2 * now);
    for (std::size_t c = 0; c < 3; ++c) {
      const float move = share * (at[j][c] - at[i][c]);
      at[i][c] += move;
      at[j][c] -= move;
    }
  };
  const auto too_close = [](const Point& a, const Point& b) {
    const float x = a[0] - b[0], y = a[1] - b[1], z = a[2] - b[2];
    return x * x + y * y + z * z < kContact * kContact;
  };
  for (int sweep = 0; sweep < 12; ++sweep) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (too_close(at[i], at[j])) set_distance(i, j, kContact);
      }
    }
    // Last in each sweep: bonds are what a file's reader looks at.
    for (const auto& [i, j] : skeleton.bonds) set_distance(i, j, kBondLength);
  }
  for (const Point& point : at) positions.insert(positions.end(), point.begin(), point.end());
}

/// The SMILES string, depth first from atom 0.
class SmilesText {
 public:
  explicit SmilesText(const Molecule& molecule)
      : molecule_(molecule), orders_(kekule_orders(molecule)), bonds_of_(molecule.size()), rank_(molecule.size()) {
    for (std::size_t e = 0; e < molecule.bonds.size(); ++e) {
      bonds_of_[molecule.bonds[e].begin].push_back(e);
      bonds_of_[molecule.bonds[e].end].push_back(e);
    }
    closure_.resize(molecule.bonds.size());
    find_closures(0, std::nullopt);
    write(0, std::nullopt);
  }
  std::string take() { return std::move(text_); }

 private:
  std::size_t other(std::size_t bond, std::size_t atom) const {
    const Bond& b = molecule_.bonds[bond];
    return b.begin == atom ? b.end : b.begin;
  }
  void find_closures(std::size_t atom, std::optional<std::size_t> from) {
    rank_[atom] = ++visited_;
    for (const std::size_t e : bonds_of_[atom]) {
      if (e == from || closure_[e]) continue;
      if (rank_[other(e, atom)] > 0) {
        closure_[e] = ++closures_;
      } else {
        find_closures(other(e, atom), e);
      }
    }
  }
  void write(std::size_t atom, std::optional<std::size_t> from) {
    constexpr std::array<const char*, 4> symbols = {"C", "N", "O", "F"};
    const std::uint8_t element = molecule_.atoms[atom][0];
    text_ += element <= kFluorine ? symbols[element - kCarbon] : "S";
    std::vector<std::size_t> branches;
    for (const std::size_t e : bonds_of_[atom]) {
      if (e == from) continue;
      if (closure_[e] == 0) {
        // Not the bond that this atom was reached by, nor one that closes a ring: a branch, from its upper end only.
        if (rank_[other(e, atom)] > rank_[atom]) branches.push_back(e);
        continue;
      }
      if (orders_[e] == 2) text_ += '=';
      if (closure_[e] >= 10) text_ += '%';
      text_ += std::to_string(closure_[e]);
    }
    for (const std::size_t e : branches) {
      const bool last = e == branches.back();
      if (!last) text_ += '(';
      if (orders_[e] == 2) text_ += '=';
      write(other(e, atom), e);
      if (!last) text_ += ')';
    }
  }

  const Molecule& molecule_;
  std::vector<std::uint8_t> orders_;
  std::vector<std::vector<std::size_t>> bonds_of_;
  std::vector<std::size_t> rank_, closure_;  // 1, 2, …; 0: not visited, no ring closure
  std::size_t visited_ = 0, closures_ = 0;
  std::string text_;
};

Molecule random_molecule(std::size_t n, std::uint64_t key) {
  Dice dice(key);
  Skeleton skeleton(n);
  grow_tree(skeleton, n, dice);
  for (std::size_t ring = 0; n >= 6 && ring < std::max<std::size_t>(1, n / 8); ++ring)
    close_ring(skeleton, 5 + dice.below(2), dice);
  Molecule molecule;
  choose_chemistry(skeleton, dice, molecule);
  place_atoms(skeleton, dice, molecule.positions);
  molecule.conformers = 1;
  molecule.conformer_source = ConformerSource::file;
  molecule.smiles = SmilesText(molecule).take();
  return molecule;
}

}  // namespace

std::vector<Molecule> random_molecules(std::uint64_t count, double mean_atoms, double deviation, std::uint64_t seed) {
  if (!(mean_atoms >= 1 && mean_atoms <= 10000 && deviation >= 0))
    throw UsageError("molecules with {} ± {} atoms are impossible; choose a mean from 1 to 10,000", mean_atoms,
                     deviation);
  std::vector<Molecule> molecules;
  molecules.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const double drawn = std::round(mean_atoms + deviation * Dice(molecule_key(seed, 0, i)).normal());
    const auto n = static_cast<std::size_t>(std::clamp(drawn, 2.0, std::max(2.0, std::floor(3 * mean_atoms))));
    Molecule& molecule = molecules.emplace_back(random_molecule(n, molecule_key(seed, 1, i)));
    molecule.identifier = fmt::format("made-up {}", i);
    molecule.source_record = i;
  }
  return molecules;
}

std::vector<std::uint8_t> kekule_orders(const Molecule& molecule) {
  std::vector<std::uint8_t> orders(molecule.bonds.size());
  for (std::size_t e = 0; e < orders.size(); ++e) {
    if (molecule.bonds[e].type != kAromatic) orders[e] = static_cast<std::uint8_t>(molecule.bonds[e].type + 1);
  }
  for (std::size_t e = 0; e < orders.size(); ++e) {
    std::uint8_t order = 2;
    std::uint32_t at = molecule.bonds[e].end;
    for (std::size_t bond = e; bond < orders.size() && orders[bond] == 0;) {
      orders[bond] = order;
      order = static_cast<std::uint8_t>(3 - order);
      // The next bond around the ring: the other aromatic one of the atom that was reached.
      for (bond = 0; bond < orders.size(); ++bond) {
        const Bond& b = molecule.bonds[bond];
        if (orders[bond] == 0 && (b.begin == at || b.end == at)) {
          at = b.begin == at ? b.end : b.begin;
          break;
        }
      }
    }
  }
  return orders;
}

}  // namespace moleblend
