#pragma once
// A batch that the device's memory has no room for. The program says what to do about it: its verbs cut batches by different flags.

#include "io/support/error.h"

namespace moleblend {

struct BatchTooLarge : Error {
  BatchTooLarge(const std::string& what, double fitting_molecules, double fitting_atoms)
      : Error(what), molecules(fitting_molecules), atoms(fitting_atoms) {}
  double molecules, atoms;  // about so many of this batch's kind fit
};

}  // namespace moleblend
