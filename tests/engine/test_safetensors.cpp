// Tensor files: what is written is read back, and no damaged or malicious file is believed.

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/training/safetensors.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "tests/engine/temporary_folder.h"

namespace moleblend {
namespace {

using testing::TemporaryFolder;

template <class T>
TensorToWrite tensor(const std::string& name, TensorType type, std::vector<std::int64_t> shape,
                     const std::vector<T>& values) {
  return {name, type, std::move(shape), std::as_bytes(std::span(values))};
}

void write_raw(const std::filesystem::path& path, std::uint64_t length, const std::string& header,
               std::size_t data_bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&length), 8);
  out << header << std::string(data_bytes, '\0');
}

/// Opens a file with this header and so many data bytes, and returns the error's text ("" if it was accepted).
std::string refusal(const std::string& header, std::size_t data_bytes) {
  const TemporaryFolder folder;
  write_raw(folder.path() / "x.safetensors", header.size(), header, data_bytes);
  try {
    Safetensors::open(folder.path() / "x.safetensors");
    return "";
  } catch (const Error& e) {
    const std::string what = e.what();
    EXPECT_NE(what.find("x.safetensors"), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    return what;
  }
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "a.safetensors";
  const std::vector<float> f{1.5f, -2, 3e-30f, 4, 5, 6};
  const std::vector<double> d{0.1};
  const std::vector<std::int32_t> i{-7, 1 << 30, 3};
  const std::vector<std::int64_t> l{std::int64_t{1} << 60};
  const std::vector<float> none;
  // The I32 tensor of three leaves the F64 behind it unaligned.
  const TensorToWrite tensors[] = {tensor("f", TensorType::f32, {2, 3}, f), tensor("i", TensorType::i32, {3}, i),
                                   tensor("d", TensorType::f64, {}, d), tensor("l", TensorType::i64, {1, 1}, l),
                                   tensor("none", TensorType::f32, {0, 4}, none)};
  write_safetensors(path, tensors, {{"format", "pt"}, {"who", "a \"name\""}});

  const Safetensors file = Safetensors::open(path);
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}, {"who", "a \"name\""}}));
  ASSERT_EQ(file.tensors().size(), 5u);
  EXPECT_EQ(file.at("f").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.values<float>("f"), f);
  EXPECT_EQ(file.values<double>("d"), d);
  EXPECT_EQ(file.at("d").count, 1);
  EXPECT_EQ(file.values<std::int32_t>("i"), i);
  EXPECT_EQ(file.values<std::int64_t>("l"), l);
  EXPECT_EQ(file.values<double>("f")[2], double(3e-30f));
  EXPECT_EQ(file.values<float>("i")[0], -7.f);
  EXPECT_TRUE(file.values<float>("none").empty());
  EXPECT_EQ(file.find("g"), nullptr);
  EXPECT_THROW(file.at("g"), Error);
  EXPECT_THROW(file.values<std::int32_t>("f"), Error);
  EXPECT_THROW(file.values<std::int32_t>("l"), Error);
  // The header is padded so that data begins aligned.
  std::uint64_t length = 0;
  std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(&length), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1)
      << "a temporary file was left behind";
}

TEST(Safetensors, SameTensorsSameBytes) {
  const TemporaryFolder folder;
  const std::vector<float> f{1, 2, 3};
  const TensorToWrite tensors[] = {tensor("b", TensorType::f32, {3}, f), tensor("a", TensorType::f32, {3}, f)};
  write_safetensors(folder.path() / "1", tensors, {{"format", "pt"}});
  write_safetensors(folder.path() / "2", tensors, {{"format", "pt"}});
  EXPECT_EQ(read_file(folder.path() / "1"), read_file(folder.path() / "2"));
}

TEST(Safetensors, RefusesHeadersThatLie) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  ASSERT_EQ(refusal(good, 8), "");
  EXPECT_NE(refusal(good, 7).find("'a' lies at bytes 0 to 8 of 7"), std::string::npos);
  EXPECT_NE(refusal(good, 12).find("4 bytes at its end"), std::string::npos);
  const auto one = [](const std::string& shape, const std::string& offsets, const std::string& type = "F32") {
    return R"({"a":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  EXPECT_NE(refusal(one("[3]", "[0,8]"), 8), "") << "shape and length differ";
  EXPECT_NE(refusal(one("[2]", "[8,0]"), 8), "") << "the end before the beginning";
  EXPECT_NE(refusal(one("[-2]", "[0,8]"), 8), "") << "a negative size";
  EXPECT_NE(refusal(one("[2.5]", "[0,10]"), 10), "") << "half a row";
  EXPECT_NE(refusal(one("[4611686018427387904,4]", "[0,0]"), 0), "") << "a product that wraps to 0";
  EXPECT_NE(refusal(one("[9223372036854775807]", "[0,18446744073709551612]"), 8), "") << "beyond 63 bits";
  EXPECT_NE(refusal(one("[1e400]", "[0,8]"), 8), "");
  EXPECT_NE(refusal(one("[2]", "[0,8,8]"), 8), "") << "three offsets";
  EXPECT_NE(refusal(one("{}", "[0,8]"), 8), "");
  EXPECT_NE(refusal(one("[4]", "[0,8]", "BF16"), 8).find("BF16"), std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"dtype":"F32","shape":[2]}})", 8), "");
  EXPECT_NE(refusal(R"({"a":7})", 8), "");
  EXPECT_NE(refusal(R"([1,2])", 0), "");
  EXPECT_NE(refusal(R"({"a":)", 0), "");
  EXPECT_NE(refusal(R"({"__metadata__":{"n":3}})", 0), "");
  EXPECT_NE(refusal(std::string(100000, '['), 0), "");
  EXPECT_NE(refusal(R"({"two\nlines":7})", 0), "");
  const std::string b = R"("b":{"dtype":"F32","shape":[2],"data_offsets":)";
  EXPECT_NE(refusal(good.substr(0, good.size() - 1) + "," + b + "[4,12]}}", 12).find("overlaps"), std::string::npos);
  EXPECT_NE(refusal(good.substr(0, good.size() - 1) + "," + b + "[12,20]}}", 20).find("gap"), std::string::npos);
  EXPECT_NE(
      refusal(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          8)
          .find("twice"),
      std::string::npos);
}

TEST(Safetensors, RefusesFilesThatAreTooShortForTheirHeader) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "x";
  EXPECT_THROW(Safetensors::open(path), Error);
  std::ofstream(path).close();
  EXPECT_THROW(Safetensors::open(path), Error);
  write_raw(path, 3, "", 0);
  EXPECT_THROW(Safetensors::open(path), Error);
  write_raw(path, ~std::uint64_t{0}, "{}", 0);
  EXPECT_THROW(Safetensors::open(path), Error);
  EXPECT_THROW(Safetensors::open(folder.path()), Error);
  write_raw(path, 2, "{}", 0);
  EXPECT_TRUE(Safetensors::open(path).tensors().empty());
}

/// Changed bytes are tests/fuzz/fuzz_safetensors.cpp's.
TEST(Safetensors, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::vector<float> f{1, 2, 3, 4};
  const TensorToWrite tensors[] = {tensor("weight", TensorType::f32, {2, 2}, f),
                                   tensor("bias", TensorType::f32, {4}, f)};
  write_safetensors(folder.path() / "good", tensors, {{"format", "pt"}});
  const std::string good = read_file(folder.path() / "good");
  const std::filesystem::path path = folder.path() / "bad";
  const auto accepts = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    try {
      const Safetensors file = Safetensors::open(path);
      for (const auto& t : file.tensors()) file.values<double>(t.name);
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  ASSERT_TRUE(accepts(good));
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(accepts(good.substr(0, n))) << "cut at " << n;
}

TEST(Safetensors, WriterRefusesWhatItCannotMean) {
  const TemporaryFolder folder;
  const std::vector<float> f{1, 2};
  const TensorToWrite twice[] = {tensor("a", TensorType::f32, {2}, f), tensor("a", TensorType::f32, {2}, f)};
  EXPECT_THROW(write_safetensors(folder.path() / "x", twice, {}), std::invalid_argument);
  const TensorToWrite wrong[] = {tensor("a", TensorType::f32, {3}, f)};
  EXPECT_THROW(write_safetensors(folder.path() / "x", wrong, {}), std::invalid_argument);
  const TensorToWrite good[] = {tensor("a", TensorType::f32, {2}, f)};
  EXPECT_THROW(write_safetensors(folder.path() / "no" / "such" / "folder", good, {}), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, ReadsTheGoldenFiles) {
  const char* set = std::getenv("MOLEBLEND_GOLDEN");
  const std::filesystem::path folder = set ? set : MOLEBLEND_SOURCE_DIR "/../shared/golden";
  if (!std::filesystem::exists(folder / "tiny.params.safetensors"))
    GTEST_SKIP() << "no golden files at " << folder << "; set MOLEBLEND_GOLDEN";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const Safetensors file = Safetensors::open(entry.path());
    EXPECT_FALSE(file.tensors().empty());
    EXPECT_TRUE(file.metadata().contains("case")) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 4);
}

}  // namespace
}  // namespace moleblend
