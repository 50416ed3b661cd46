#pragma once
// The one symbol that libmoleblend_chemistry.so exports.

#include "io/chemistry/chemistry.h"

namespace moleblend {

/// Gives a new Chemistry, which the caller owns, or null if the program that asks has another version: the classes that
/// cross the boundary may differ between versions.
using ChemistryFactory = Chemistry*(const char* program_version);
constexpr const char* kChemistryFactory = "moleblend_make_chemistry";

}  // namespace moleblend
