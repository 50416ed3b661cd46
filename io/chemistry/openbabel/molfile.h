#pragma once
// What Open Babel does not keep of an MDL mol file.

#include <string_view>
#include <utility>
#include <vector>

namespace moleblend::chemistry {

bool is_molfile(std::string_view format);

/// Whether the header's second line has the mark "3D", in whatever column: many writers miss the two columns where the format wants it,
/// and then Open Babel takes a linear or planar molecule at constant z for a drawing.
bool header_says_3d(std::string_view text);

/// Double bonds whose geometry the file declares unknown (crossed bonds: stereo code 3 in V2000, CFG=2 in V3000), as atom numbers
/// from 1. Nothing for text that is no mol file.
std::vector<std::pair<unsigned, unsigned>> either_double_bonds(std::string_view text);

}  // namespace moleblend::chemistry
