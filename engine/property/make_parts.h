#pragma once
// The split that a user chose.

#include "engine/property/settings.h"
#include "engine/property/splits.h"

namespace moleblend {

/// Throws UsageError naming the flag, and what the rules of splits.h throw.
Parts make_parts(const Dataset& data, const SplitChoice& choice, int threads);

}  // namespace moleblend
