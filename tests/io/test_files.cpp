// Atomic files, locks, checksums and the progress line.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <cmath>
#include <csignal>

#include "io/support/checksum.h"
#include "io/support/files.h"
#include "io/support/lock.h"
#include "io/support/progress.h"
#include "tests/engine/temporary_folder.h"
#include "tests/io/molecules.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "result";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
    EXPECT_EQ(read_file(path), "old");
    file.commit();
  }
  EXPECT_EQ(read_file(path), "new");
  {
    AtomicFile abandoned(path);
    abandoned.write("half");
  }
  EXPECT_EQ(read_file(path), "new");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, LargeContent) {
  const TemporaryFolder folder;
  std::string content;
  AtomicFile file(folder.path() / "large");
  for (int k = 0; k < 300000; ++k) {
    const std::string piece = std::to_string(k);
    content += piece;
    file.write(piece);
  }
  EXPECT_EQ(file.size(), content.size());
  file.commit();
  EXPECT_EQ(read_file(folder.path() / "large"), content);
  const MappedFile map(folder.path() / "large");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size()), content);
}

TEST(AtomicFile, FollowsTheUmask) {
  const TemporaryFolder folder;
  const mode_t before = ::umask(027);
  write_file(folder.path() / "f", "x");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((folder.path() / "f").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST(AtomicFile, SaysWhereItCanNotWrite) {
  EXPECT_THAT(error_of([] { write_file("/nonexistent-folder/file", "x"); }), HasSubstr("/nonexistent-folder/file"));
}

TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  // A limit on file sizes gives the same kind of error as a disk without space, and needs no special file system.
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "kept";
  write_file(path, "old");
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error = error_of([&] { write_file(path, std::string(1 << 20, 'x')); });
    ::_exit(error.find("can't write") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, LeftoversOfAKilledProgramAreRemoved) {
  const TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(folder.path() / "result");
    ::_exit(0);  // no destructor, as after kill -9
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(entries(folder.path()), 1u);
  EXPECT_EQ(remove_partial_files(folder.path()), 1u);
  EXPECT_EQ(entries(folder.path()), 0u);
}

TEST(FolderLock, ASecondProgramIsRefused) {
  const TemporaryFolder folder;
  const fs::path output = folder.path() / "new" / "output";
  {
    const FolderLock lock(output);
    const std::string error = error_of([&] { const FolderLock second(output); });
    EXPECT_THAT(error, HasSubstr("in use by process " + std::to_string(::getpid())));
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
  const FolderLock again(output);
}

TEST(Checksum, KnownAnswers) {
  // FIPS 180-4 examples and the check value of CRC-32.
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(crc32(std::as_bytes(std::span(std::string_view("123456789")))), 0xCBF43926u);
}

TEST(Checksum, CrcIsZlibsAtEveryLengthAndPlace) {
  std::vector<std::byte> bytes(700);
  for (std::size_t k = 0; k < bytes.size(); ++k) bytes[k] = static_cast<std::byte>(k * k * 31 >> 3);
  for (std::size_t length = 0; length <= 640; ++length) {
    for (const std::size_t at : {0, 1, 15, 33}) {
      const auto part = std::span(bytes).subspan(at, length);
      for (const std::uint32_t start : {0u, 0xFFFFFFFFu, static_cast<std::uint32_t>(length * 2654435761u)}) {
        const auto expected = ::crc32_z(start, reinterpret_cast<const Bytef*>(part.data()), length);
        ASSERT_EQ(crc32(part, start), expected) << length << " bytes at " << at;
      }
    }
  }
}

TEST(Checksum, PiecesDoNotMatter) {
  std::string text;
  for (int k = 0; k < 500; ++k) text += static_cast<char>(k * 31);
  for (std::size_t length = 0; length <= 200; ++length) {
    const std::string_view part = std::string_view(text).substr(0, length);
    Sha256 hash;
    for (std::size_t at = 0, step = 1; at < length; at += step, step = step % 67 + 1)
      hash.update(part.substr(at, step));
    EXPECT_EQ(hex(hash.digest()), sha256(part)) << length;
  }
}

// ---- progress, with a clock of the test's own -------------------------------------------------------

Progress::Clock::time_point fake_now{};
Progress::Clock::time_point fake_clock() {
  return fake_now;
}

/// What a Progress writes while `seconds` pass in steps of 0.05 s and 100 of 1,000 units are done a second, and all are in the end.
std::string progress_output(double seconds, bool terminal, bool quiet) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* out = ::open_memstream(&text, &size);
  {
    Progress progress("prepare", 1000, "molecules",
                      {.quiet = quiet, .out = out, .terminal = terminal, .now = fake_clock});
    const auto start = fake_now;
    for (int ms = 0; ms <= static_cast<int>(1000 * seconds); ms += 50) {
      fake_now = start + std::chrono::milliseconds(ms);
      progress.update(static_cast<std::uint64_t>(ms / 10), "loss 0.5");
    }
    progress.finish_at(1000);
  }
  std::fclose(out);
  const std::string written(text, size);
  ::free(text);
  return written;
}

TEST(Progress, TerminalLogAndSilence) {
  EXPECT_EQ(progress_output(1.9, true, false), "");
  EXPECT_EQ(progress_output(9, true, true), "");
  const std::string redrawn = progress_output(9, true, false);
  const auto draws = static_cast<std::size_t>(std::count(redrawn.begin(), redrawn.end(), '\r'));
  EXPECT_GT(draws, 30u);
  EXPECT_LE(draws, 72u);  // from 2 s to 9 s at ten a second, and the last
  EXPECT_THAT(redrawn, HasSubstr("prepare: 800 of 1,000 molecules (80 %), 100 molecules/s, 2 s left, loss 0.5"));
  EXPECT_EQ(std::count(redrawn.begin(), redrawn.end(), '\n'), 1);
  const std::string log = progress_output(9, false, false);
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  EXPECT_THAT(log, HasSubstr("1,000 of 1,000 molecules (100 %)"));
  EXPECT_THAT(log, HasSubstr("took 9 s"));
  EXPECT_EQ(log.find('\r'), std::string::npos);
}

TEST(Progress, Numbers) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1234567), "1,234,567");
  EXPECT_EQ(duration_text(42.4), "42 s");
  EXPECT_EQ(duration_text(185), "3 min 5 s");
  EXPECT_EQ(duration_text(8040), "2 h 14 min");
  EXPECT_EQ(duration_text(std::nan("")), "unknown");
}

}  // namespace
}  // namespace moleblend
