#pragma once
// A bound on what a JSON text may ask of the stack.

#include <string_view>

namespace moleblend {

/// Whether arrays and objects of a JSON text lie more than `levels` deep in each other. The JSON library reads any depth, but copies,
/// compares and writes by recursion: a made-up file of a few hundred kilobytes would overflow the stack.
bool nested_deeper(std::string_view json, int levels);

}  // namespace moleblend
