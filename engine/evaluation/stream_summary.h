#pragma once
// What became of a stream of molecules that a model was run over.

#include <cstdint>
#include <string>
#include <vector>

#include "io/prepare/reasons.h"

namespace moleblend {

struct StreamSummary {
  std::uint64_t records = 0, molecules = 0, refused = 0;  // records are molecules that the model saw, or refused
  std::uint64_t without_3d = 0;                           // molecules seen in 2D alone although 3D was to be shown too
  ReasonCounts reasons;                                   // of refusal
  std::vector<std::string> remarks;                       // of the source
  double seconds = 0;

  double molecules_per_second() const { return seconds > 0 ? static_cast<double>(molecules) / seconds : 0; }
};

}  // namespace moleblend
