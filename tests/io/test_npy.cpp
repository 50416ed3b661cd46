// Matrices in NumPy's format.

#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "io/support/files.h"
#include "io/support/npy.h"

namespace moleblend {
namespace {

/// What numpy 2.4's save() writes for arange(6) as little-endian float32 of shape (3, 2).
std::string expected_file() {
  std::string bytes("\x93NUMPY\x01\x00\x76\x00", 10);
  bytes += "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
  bytes += std::string(127 - bytes.size(), ' ') + "\n";
  for (const unsigned char high : {0x00, 0x3F, 0x40, 0x40, 0x40, 0x40}) {
    const std::size_t k = (bytes.size() - 128) / 4;
    const std::array<unsigned char, 6> third{0x00, 0x80, 0x00, 0x40, 0x80, 0xA0};
    bytes += std::string("\0\0", 2) + static_cast<char>(third[k]) + static_cast<char>(high);
  }
  return bytes;
}

class Npy : public ::testing::Test {
 protected:
  Npy() { std::filesystem::create_directories(folder_); }
  ~Npy() override { std::filesystem::remove_all(folder_); }
  const std::filesystem::path folder_ = std::filesystem::path(::testing::TempDir()) / "moleblend-npy";
  const std::filesystem::path file_ = folder_ / "matrix.npy";
};

TEST_F(Npy, FileIsNumpysByteForByte) {
  NpyWriter writer(file_, 2);
  writer.add(std::array<float, 4>{0, 1, 2, 3});
  EXPECT_FALSE(std::filesystem::exists(file_)) << "before its number of rows is known";
  writer.add(std::array<float, 2>{4, 5});
  EXPECT_EQ(writer.rows(), 3u);
  writer.commit();
  EXPECT_EQ(read_file(file_), expected_file());
}

TEST_F(Npy, RowsInTheMiddleOfABlockAreWhole) {
  // Far more than is kept in memory before it is written: the number of rows is filled in behind what is on disk.
  constexpr std::size_t rows = 100'000;
  NpyWriter writer(file_, 3);
  for (std::size_t row = 0; row < rows; ++row) writer.add(std::array<float, 3>{static_cast<float>(row), 1, 2});
  writer.commit();
  const std::string bytes = read_file(file_);
  ASSERT_EQ(bytes.size(), 128 + rows * 12);
  EXPECT_EQ(bytes.substr(0, 128), npy_header(rows, 3));
  float value = 0;
  std::copy_n(bytes.data() + 128 + 12 * (rows - 1), sizeof(value), reinterpret_cast<char*>(&value));
  EXPECT_EQ(value, static_cast<float>(rows - 1));
}

TEST_F(Npy, NothingIsLeftOfWhatWasNotCommitted) {
  {
    NpyWriter writer(file_, 2);
    writer.add(std::array<float, 2>{4, 5});
    EXPECT_THROW(writer.add(std::array<float, 1>{4}), std::invalid_argument);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST(NpyHeader, LargestShapesFit) {
  const std::string header = npy_header(~std::uint64_t{0}, ~std::uint64_t{0});
  EXPECT_EQ(header.size(), 128u);
  EXPECT_NE(header.find("(18446744073709551615, 18446744073709551615), }"), std::string::npos);
  EXPECT_EQ(header.back(), '\n');
}

}  // namespace
}  // namespace moleblend
