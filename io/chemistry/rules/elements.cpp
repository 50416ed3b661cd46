#include "io/chemistry/rules/elements.h"

#include <array>
#include <cstddef>
#include <initializer_list>

namespace moleblend::chemistry {
namespace {

// One line a period (the long ones in two), from H to Og.
constexpr std::array<int, kElements> kOuterElectrons = {
    1, 2,                                                            //
    1, 2, 3, 4, 5, 6, 7,  8,                                         //
    1, 2, 3, 4, 5, 6, 7,  8,                                         //
    1, 2, 3, 4, 5, 6, 7,  8,  9, 10, 11, 2,  3,  4,  5,  6,  7,  8,  //
    1, 2, 3, 4, 5, 6, 7,  8,  9, 10, 11, 2,  3,  4,  5,  6,  7,  8,  //
    1, 2, 3, 4, 3, 4, 5,  6,  7, 8,  9,  10, 11, 12, 13, 14, 15,     // Cs … Lu
    4, 5, 6, 7, 8, 9, 10, 11, 2, 3,  4,  5,  6,  7,  8,              // Hf … Rn
    1, 2, 3, 4, 3, 4, 5,  6,  7, 8,  9,  10, 11, 12, 13, 14, 15,     // Fr … Lr
    2, 2, 2, 2, 2, 2, 2,  2,  2, 2,  2,  2,  2,  2,  2};             // Rf … Og

// Å. Cordero et al., Covalent radii revisited, Dalton Trans. 2008, 2832, as Open Babel 3.1 has them; C is sp³, Mn, Fe and Co
// are low spin; 1.60 beyond Cm, where none are known.
constexpr std::array<float, kElements> kCovalentRadii = {
    0.31F, 0.28F,                                                                                      //
    1.28F, 0.96F, 0.84F, 0.76F, 0.71F, 0.66F, 0.57F, 0.58F,                                            //
    1.66F, 1.41F, 1.21F, 1.11F, 1.07F, 1.05F, 1.02F, 1.06F,                                            //
    2.03F, 1.76F, 1.70F, 1.60F, 1.53F, 1.39F, 1.39F, 1.32F, 1.26F,                                     // K …
    1.24F, 1.32F, 1.22F, 1.22F, 1.20F, 1.19F, 1.20F, 1.20F, 1.16F,                                     // … Kr
    2.20F, 1.95F, 1.90F, 1.75F, 1.64F, 1.54F, 1.47F, 1.46F, 1.42F,                                     // Rb …
    1.39F, 1.45F, 1.44F, 1.42F, 1.39F, 1.39F, 1.38F, 1.39F, 1.40F,                                     // … Xe
    2.44F, 2.15F, 2.07F, 2.04F, 2.03F, 2.01F, 1.99F, 1.98F, 1.98F, 1.96F, 1.94F, 1.92F, 1.92F, 1.89F,  // Cs …
    1.90F, 1.87F, 1.87F, 1.75F, 1.70F, 1.62F, 1.51F, 1.44F, 1.41F, 1.36F, 1.36F, 1.32F, 1.45F, 1.46F,  //
    1.48F, 1.40F, 1.50F, 1.50F,                                                                        // … Rn
    2.60F, 2.21F, 2.15F, 2.06F, 2.00F, 1.96F, 1.90F, 1.87F, 1.80F, 1.69F, 1.60F, 1.60F, 1.60F, 1.60F,  // Fr …
    1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F, 1.60F,  //
    1.60F, 1.60F, 1.60F, 1.60F};                                                                       // … Og

constexpr std::array<const char*, kElements> kSymbols = {
    "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al", "Si", "P",  "S",  "Cl",
    "Ar", "K",  "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se",
    "Br", "Kr", "Rb", "Sr", "Y",  "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb",
    "Te", "I",  "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er",
    "Tm", "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At",
    "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",  "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No",
    "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"};

struct Valences {
  std::array<int, 4> values{};
  std::size_t count = 0;
};

constexpr auto kValences = [] {
  std::array<Valences, kElements + 1> table{};
  const auto set = [&](std::initializer_list<int> valences, std::initializer_list<int> elements) {
    for (const int z : elements) {
      auto& entry = table[static_cast<std::size_t>(z)];
      for (const int valence : valences) entry.values[entry.count++] = valence;
    }
  };
  set({0}, {2, 10, 18, 36, 86});                    // noble gases but Xe
  set({1}, {1, 3, 9, 11, 17, 19, 35, 37, 55, 87});  // H, alkali metals, F, Cl, Br
  set({2}, {4, 8, 12, 20, 38, 56, 88});             // alkaline earth metals, O
  set({3}, {5, 7, 31, 49, 81});                     // B, N, Ga, In, Tl
  set({4}, {6, 32});                                // C, Ge
  set({3, 6}, {13});                                // Al
  set({4, 6}, {14});                                // Si
  set({3, 5, 7}, {15, 33, 51, 83});                 // P, As, Sb, Bi
  set({2, 4, 6}, {16, 34, 52, 84});                 // S, Se, Te, Po
  set({2, 4}, {50, 82});                            // Sn, Pb
  set({1, 3, 5}, {53, 85});                         // I, At
  set({0, 2, 4, 6}, {54});                          // Xe
  return table;
}();

bool is_element(int z) {
  return z >= 1 && z <= kElements;
}

}  // namespace

const char* element_symbol(int z) {
  return is_element(z) ? kSymbols[static_cast<std::size_t>(z - 1)] : "*";
}

int outer_electrons(int z) {
  return is_element(z) ? kOuterElectrons[static_cast<std::size_t>(z - 1)] : 0;
}

std::span<const int> allowed_valences(int z) {
  if (!is_element(z)) return {};
  const auto& entry = kValences[static_cast<std::size_t>(z)];
  return {entry.values.data(), entry.count};
}

int default_valence(int z) {
  const auto valences = allowed_valences(z);
  return valences.empty() ? -1 : valences.front();
}

double covalent_radius(int z) {
  return is_element(z) ? kCovalentRadii[static_cast<std::size_t>(z - 1)] : 1.6;
}

}  // namespace moleblend::chemistry
