#pragma once
// What the rules of engine/property/splits.h share.

#include "engine/property/splits.h"

namespace moleblend {

enum class Part : std::uint8_t { train, valid, test, none };

/// Makes the parts from that of each molecule. Throws UsageError if one is empty.
Parts parts_of(const std::vector<Part>& part, std::string rule);

}  // namespace moleblend
