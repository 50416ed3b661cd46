// Text sources (plain, gzip, memory) and CSV.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <random>

#include "io/support/csv.h"
#include "io/support/files.h"
#include "io/support/text_source.h"
#include "tests/engine/temporary_folder.h"
#include "tests/io/molecules.h"

namespace moleblend {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::string gzip(const std::filesystem::path& path, const std::string& text) {
  gzFile file = ::gzopen(path.c_str(), "wb");
  ::gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  ::gzclose(file);
  return read_file(path);
}

std::vector<std::string> lines_of(TextSource source) {
  std::vector<std::string> lines;
  for (std::string line; source.line(line);) lines.push_back(line);
  EXPECT_EQ(source.line_number(), lines.size());
  return lines;
}

using Rows = std::vector<std::vector<std::string>>;
Rows rows_of(const std::string& text, char delimiter = ',') {
  CsvReader reader(TextSource::of_text(text, "t.csv"), delimiter);
  Rows rows;
  for (std::vector<std::string> row; reader.next(row);) rows.push_back(row);
  return rows;
}

TEST(TextSource, LinesOfPlainAndGzipFiles) {
  const TemporaryFolder folder;
  std::string text;
  std::vector<std::string> expected;
  for (int k = 0; k < 40000; ++k) {  // longer than the buffer, so that lines lie across its border
    expected.push_back(std::string(static_cast<std::size_t>(k % 37), 'x') + std::to_string(k));
    text += expected.back() + (k % 3 == 0 ? "\r\n" : "\n");
  }
  text += "last";
  expected.push_back("last");
  write_file(folder.path() / "plain", text);
  gzip(folder.path() / "packed", text);
  EXPECT_EQ(lines_of(TextSource(folder.path() / "plain")), expected);
  EXPECT_EQ(lines_of(TextSource(folder.path() / "packed")), expected);
  EXPECT_EQ(lines_of(TextSource::of_text(text)), expected);
}

TEST(TextSource, GzipMembersFollowEachOther) {
  const TemporaryFolder folder;
  const std::string two = gzip(folder.path() / "a", "one\n") + gzip(folder.path() / "b", "two\n");
  write_file(folder.path() / "ab", two);
  EXPECT_EQ(lines_of(TextSource(folder.path() / "ab")), (std::vector<std::string>{"one", "two"}));
}

TEST(TextSource, EveryTruncationOfAGzipFileIsAnError) {
  const TemporaryFolder folder;
  std::string text;
  for (int k = 0; k < 200; ++k) text += std::to_string(k * k) + "\n";
  const std::string packed = gzip(folder.path() / "whole", text);
  const auto path = folder.path() / "cut";
  // From the third byte on the file is known as gzip.
  for (std::size_t length = 3; length < packed.size(); ++length) {
    testing::write_quickly(path, packed.substr(0, length));
    EXPECT_THAT(error_of([&] { lines_of(TextSource(path)); }), HasSubstr("truncated gzip file")) << length;
  }
  std::string damaged = packed;
  damaged[packed.size() / 2] ^= 0x10;
  write_file(path, damaged);
  EXPECT_THAT(error_of([&] { lines_of(TextSource(path)); }), HasSubstr("gzip file"));
}

TEST(TextSource, ByteOrderMarks) {
  EXPECT_EQ(lines_of(TextSource::of_text("\xEF\xBB\xBF"
                                         "a\n")),
            (std::vector<std::string>{"a"}));
  EXPECT_THAT(error_of([] {
                TextSource::of_text(
                    std::string("\xFF\xFE"
                                "a\0",
                                4));
              }),
              HasSubstr("UTF-16"));
  EXPECT_TRUE(lines_of(TextSource::of_text("")).empty());
}

TEST(TextSource, SaysWhatIsNotThere) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { TextSource source(folder.path() / "absent.smi"); }), HasSubstr("absent.smi"));
  EXPECT_THAT(error_of([&] { TextSource source(folder.path()); }), HasSubstr("folder"));
}

TEST(Csv, QuotesDelimitersAndLineEnds) {
  EXPECT_EQ(rows_of("a,b\n1,2\n"), (Rows{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(rows_of("a,\"b,\"\"c\"\"\",\r\n\"line\r\none\",2,3"),
            (Rows{{"a", "b,\"c\"", ""}, {"line\r\none", "2", "3"}}));
  EXPECT_EQ(rows_of("a\rb\r\nc\n\n\r\nd"), (Rows{{"a"}, {"b"}, {"c"}, {"d"}}));
  EXPECT_EQ(rows_of("a\tb,c\td", '\t'), (Rows{{"a", "b,c", "d"}}));
  EXPECT_EQ(rows_of("5\" nail,\"\"\n"), (Rows{{"5\" nail", ""}}));
  EXPECT_EQ(rows_of("\xEF\xBB\xBF\"smiles\",y\n"), (Rows{{"smiles", "y"}}));
  EXPECT_EQ(rows_of(",\n"), (Rows{{"", ""}}));
  EXPECT_TRUE(rows_of("").empty());
}

TEST(Csv, TellsLines) {
  CsvReader reader(TextSource::of_text("h\n\"two\nlines\"\r\n\nlast\n", "t.csv"));
  std::vector<std::string> row;
  for (const std::uint64_t line : {1, 2, 5}) {
    ASSERT_TRUE(reader.next(row));
    EXPECT_EQ(reader.line(), line);
  }
  EXPECT_FALSE(reader.next(row));
  EXPECT_THAT(error_of([] { rows_of("a\nb,\"never\nends\n"); }), HasSubstr("t.csv, line 2"));
}

TEST(Csv, WhatIsWrittenIsRead) {
  std::mt19937_64 g(3);
  const std::string letters = "ab,\"\n\r\t ;";
  for (const char delimiter : {',', '\t', ';'}) {
    Rows rows;
    std::string text;
    for (int r = 0; r < 300; ++r) {
      std::vector<std::string> row(1 + g() % 4);
      for (std::string& field : row)
        for (std::size_t k = g() % 6; k > 0; --k) field += letters[g() % letters.size()];
      text += csv_row(row, delimiter);
      rows.push_back(row);
    }
    EXPECT_EQ(rows_of(text, delimiter), rows);
  }
}

}  // namespace
}  // namespace moleblend
