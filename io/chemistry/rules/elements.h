#pragma once
// Symbols, outer electrons and allowed valences of the elements, as RDKit's periodic table (2022.09) has them: the features follow its
// valence model, not nature. Covalent radii for the checks of a geometry.

#include <span>

namespace moleblend::chemistry {

inline constexpr int kElements = 118;

/// "H", "He" …; "*" for atomic numbers outside 1 … 118.
const char* element_symbol(int atomic_number);

/// Electrons outside the noble-gas core (and filled d shell). 0 for atomic numbers outside 1 … 118.
int outer_electrons(int atomic_number);

/// Allowed valences, smallest first. Empty where the model has no opinion: transition metals, lanthanides, actinides.
std::span<const int> allowed_valences(int atomic_number);

/// The smallest allowed valence, −1 where there is none.
int default_valence(int atomic_number);

/// Å.
double covalent_radius(int atomic_number);

}  // namespace moleblend::chemistry
