#include "io/chemistry/rules/geometry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "io/chemistry/rules/elements.h"

namespace moleblend::chemistry {
namespace {

Point operator-(const Point& a, const Point& b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
Point operator*(const Point& a, double s) {
  return {a.x * s, a.y * s, a.z * s};
}
double dot(const Point& a, const Point& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
Point cross(const Point& a, const Point& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
double length(const Point& a) {
  return std::sqrt(dot(a, a));
}
Point unit(const Point& a) {
  return a * (1 / length(a));
}

// Every comparison below is written so that NaN is a fault.

std::string coordinate_fault(std::span<const Point> positions) {
  constexpr double kLargest = 1e4;  // Å; an optimiser that ran away
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const auto& p = positions[i];
    const double largest = std::max({std::abs(p.x), std::abs(p.y), std::abs(p.z)});
    const bool finite = std::isfinite(p.x) && std::isfinite(p.y) && std::isfinite(p.z);
    if (!finite || !(largest <= kLargest)) return fmt::format("atom {} has no finite position", i + 1);
  }
  return {};
}

std::string clash_fault(std::span<const Point> positions) {
  for (std::size_t i = 0; i < positions.size(); ++i) {
    for (std::size_t j = i + 1; j < positions.size(); ++j) {
      const auto d = positions[i] - positions[j];
      if (!(dot(d, d) >= kClosestAtoms * kClosestAtoms)) {
        return fmt::format("atoms {} and {} are {:.2f} Å apart", i + 1, j + 1, length(d));
      }
    }
  }
  return {};
}

/// Real bonds lie within some 15 % of the sum of the covalent radii (triple bonds 20 % below it); the range leaves room for half
/// relaxed ones and for metals, and still finds broken rings and collapsed chains.
std::string bond_fault(const MolecularGraph& graph, std::span<const Point> positions) {
  constexpr double kShortest = 0.65, kLongest = 1.35;
  for (const auto& bond : graph.bonds) {
    const auto radius = [&](std::uint32_t atom) { return covalent_radius(graph.atoms[atom].atomic_number); };
    const double usual = radius(bond.begin) + radius(bond.end);
    const double found = length(positions[bond.begin] - positions[bond.end]);
    if (!(found >= kShortest * usual && found <= kLongest * usual)) {
      return fmt::format("the bond of atoms {} and {} is {:.2f} Å long, usual is {:.2f} Å", bond.begin + 1,
                         bond.end + 1, found, usual);
    }
  }
  return {};
}

/// Signed volume that the directions to three neighbours span, positive if the second to the fourth of `around` run clockwise
/// seen from the first. 0.77 in size for a regular tetrahedron.
double handedness(const TetrahedralCentre& centre, std::span<const Point> positions) {
  auto around = centre.around;
  double sign = 1;
  // A folded hydrogen points away from the other three: move it last (each exchange mirrors the centre), then leave it out.
  const auto folded = std::find(around.begin(), around.end(), kNoAtom);
  if (folded != around.end() && folded != around.end() - 1) {
    std::swap(*folded, around.back());
    sign = -1;
  }
  const auto direction = [&](std::size_t i) { return unit(positions[around[i]] - positions[centre.centre]); };
  // With a towards the viewer, b → c → d run clockwise exactly if a · (b × c) is negative.
  return -sign * dot(direction(0), cross(direction(1), direction(2)));
}

std::string centre_fault(const MolecularGraph& graph, std::span<const Point> positions) {
  constexpr double kFlat = 0.1;  // an eighth of a regular tetrahedron's
  for (const auto& centre : graph.centres) {
    const double found = handedness(centre, positions);
    if (!(std::abs(found) >= kFlat)) return fmt::format("stereocentre {} came out flat", centre.centre + 1);
    if ((found > 0) != centre.clockwise)
      return fmt::format("stereocentre {} came out with the wrong handedness", centre.centre + 1);
  }
  return {};
}

std::string double_bond_fault(const MolecularGraph& graph, std::span<const Point> positions) {
  constexpr double kTwisted = 0.5;  // cosine of 60°
  for (const auto& geometry : graph.double_bonds) {
    const auto& bond = graph.bonds[geometry.bond];
    const auto axis = positions[bond.end] - positions[bond.begin];
    const auto begin = cross(axis, positions[geometry.begin_side] - positions[bond.begin]);
    const auto end = cross(axis, positions[geometry.end_side] - positions[bond.end]);
    const double cosine = dot(unit(begin), unit(end));  // of the torsion: 1 is cis, −1 trans
    if (!(std::abs(cosine) >= kTwisted)) {
      return fmt::format("the double bond of atoms {} and {} came out twisted", bond.begin + 1, bond.end + 1);
    }
    if ((cosine > 0) != geometry.cis) {
      return fmt::format("the double bond of atoms {} and {} came out {} instead of {}", bond.begin + 1, bond.end + 1,
                         geometry.cis ? "trans" : "cis", geometry.cis ? "cis" : "trans");
    }
  }
  return {};
}

}  // namespace

std::string geometry_fault(const MolecularGraph& graph, std::span<const Point> positions) {
  if (positions.size() != graph.size()) return "it has not one position an atom";
  auto fault = coordinate_fault(positions);
  if (fault.empty()) fault = clash_fault(positions);
  if (fault.empty()) fault = bond_fault(graph, positions);
  if (fault.empty()) fault = centre_fault(graph, positions);
  if (fault.empty()) fault = double_bond_fault(graph, positions);
  return fault;
}

void separate_fragments(std::span<Point> positions, std::span<const std::pair<std::uint32_t, std::uint32_t>> bonds) {
  constexpr double kGap = 4.0;
  // Each atom's fragment is named after its first atom.
  std::vector<std::size_t> fragment(positions.size());
  std::iota(fragment.begin(), fragment.end(), std::size_t{0});
  const auto root = [&](std::size_t atom) {
    while (fragment[atom] != atom) atom = fragment[atom] = fragment[fragment[atom]];
    return atom;
  };
  for (const auto& [a, b] : bonds) {
    const auto ra = root(a), rb = root(b);
    fragment[std::max(ra, rb)] = std::min(ra, rb);
  }

  double right_edge = 0;
  for (std::size_t first = 0; first < positions.size(); ++first) {
    if (root(first) != first) continue;
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (std::size_t atom = first; atom < positions.size(); ++atom) {
      if (root(atom) != first) continue;
      low = std::min(low, positions[atom].x);
      high = std::max(high, positions[atom].x);
    }
    const double shift = first == 0 ? 0 : right_edge + kGap - low;
    for (std::size_t atom = first; shift != 0 && atom < positions.size(); ++atom) {
      if (root(atom) == first) positions[atom].x += shift;
    }
    right_edge = high + shift;
  }
}

}  // namespace moleblend::chemistry
