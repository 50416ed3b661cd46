#include "io/chemistry/rules/elements.h"

#include <array>

namespace moleblend::chemistry {
namespace {

constexpr std::array<int, kElements> kOuterElectrons = {
    1, 2,                                                            // H He
    1, 2, 3, 4, 5, 6, 7,  8,                                         // Li … Ne
    1, 2, 3, 4, 5, 6, 7,  8,                                         // Na … Ar
    1, 2, 3, 4, 5, 6, 7,  8,  9, 10, 11, 2,  3,  4,  5,  6,  7,  8,  // K … Kr
    1, 2, 3, 4, 5, 6, 7,  8,  9, 10, 11, 2,  3,  4,  5,  6,  7,  8,  // Rb … Xe
    1, 2, 3, 4, 3, 4, 5,  6,  7, 8,  9,  10, 11, 12, 13, 14, 15,     // Cs Ba, La … Lu
    4, 5, 6, 7, 8, 9, 10, 11, 2, 3,  4,  5,  6,  7,  8,              // Hf … Rn
    1, 2, 3, 4, 3, 4, 5,  6,  7, 8,  9,  10, 11, 12, 13, 14, 15,     // Fr Ra, Ac … Lr
    2, 2, 2, 2, 2, 2, 2,  2,  2, 2,  2,  2,  2,  2,  2};             // Rf … Og

constexpr int k0[] = {0}, k1[] = {1}, k2[] = {2}, k3[] = {3}, k4[] = {4}, k24[] = {2, 4}, k36[] = {3, 6},
              k46[] = {4, 6}, k135[] = {1, 3, 5}, k246[] = {2, 4, 6}, k357[] = {3, 5, 7}, k0246[] = {0, 2, 4, 6};

bool is_element(int z) {
  return z >= 1 && z <= kElements;
}

}  // namespace

int outer_electrons(int z) {
  return is_element(z) ? kOuterElectrons[static_cast<std::size_t>(z - 1)] : 0;
}

std::span<const int> allowed_valences(int z) {
  switch (z) {
    case 1:
    case 3:
    case 9:
    case 11:
    case 17:
    case 19:
    case 35:
    case 37:
    case 55:
    case 87:
      return k1;  // H, alkali metals, F, Cl, Br
    case 2:
    case 10:
    case 18:
    case 36:
    case 86:
      return k0;  // noble gases but Xe
    case 4:
    case 8:
    case 12:
    case 20:
    case 38:
    case 56:
    case 88:
      return k2;  // alkaline earth metals, O
    case 5:
    case 7:
    case 31:
    case 49:
    case 81:
      return k3;  // B, N, Ga, In, Tl
    case 6:
    case 32:
      return k4;  // C, Ge
    case 13:
      return k36;  // Al
    case 14:
      return k46;  // Si
    case 15:
    case 33:
    case 51:
    case 83:
      return k357;  // P, As, Sb, Bi
    case 16:
    case 34:
    case 52:
    case 84:
      return k246;  // S, Se, Te, Po
    case 50:
    case 82:
      return k24;  // Sn, Pb
    case 53:
    case 85:
      return k135;  // I, At
    case 54:
      return k0246;  // Xe
    default:
      return {};
  }
}

bool allows_any_higher_valence(int z) {
  return z == 12 || z == 20 || z == 38 || z == 56 || z == 88;
}

int default_valence(int z) {
  const auto valences = allowed_valences(z);
  return valences.empty() ? -1 : valences.front();
}

}  // namespace moleblend::chemistry
