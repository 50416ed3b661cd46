#pragma once
// Matrices of float in NumPy's file format, which numpy.load reads (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html):
// a header of text, then little-endian rows.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "io/support/files.h"

namespace moleblend {

/// The header of a [rows, columns] matrix of float32 in C order. As long for every shape: the number of rows can be filled in at the end.
std::string npy_header(std::uint64_t rows, std::uint64_t columns);

/// Writes rows one after another; the file appears under its name, with as many rows as were added, at commit(). Throws Error as
/// AtomicFile does.
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, std::uint64_t columns);

  /// Whole rows.
  void add(std::span<const float> values);
  std::uint64_t rows() const { return rows_; }
  void commit();

 private:
  AtomicFile file_;
  std::uint64_t columns_, rows_ = 0;
};

}  // namespace moleblend
