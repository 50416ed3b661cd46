#include "io/support/npy.h"

#include <fmt/format.h>

#include <bit>
#include <stdexcept>

namespace moleblend {
namespace {

static_assert(std::endian::native == std::endian::little, "rows are written as they lie in memory");

// The format asks for a multiple of 64 bytes in all; two numbers of 20 digits fit.
constexpr std::size_t kHeaderBytes = 128;
constexpr std::size_t kFixedBytes = 10;  // magic, version, length

}  // namespace

std::string npy_header(std::uint64_t rows, std::uint64_t columns) {
  std::string header("\x93NUMPY\x01\x00", 8);  // format version 1.0
  constexpr std::size_t length = kHeaderBytes - kFixedBytes;
  header += static_cast<char>(length & 0xFF);
  header += static_cast<char>(length >> 8);
  header += fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  header.resize(kHeaderBytes - 1, ' ');
  return header + '\n';
}

NpyWriter::NpyWriter(const std::filesystem::path& path, std::uint64_t columns) : file_(path), columns_(columns) {
  file_.write(npy_header(0, columns));
}

void NpyWriter::add(std::span<const float> values) {
  if (values.size() % columns_ != 0) throw std::invalid_argument("not whole rows");
  file_.write(std::as_bytes(values));
  rows_ += values.size() / columns_;
}

void NpyWriter::commit() {
  file_.rewrite(0, std::as_bytes(std::span<const char>(npy_header(rows_, columns_))));
  file_.commit();
}

}  // namespace moleblend
