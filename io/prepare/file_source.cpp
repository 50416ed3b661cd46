// Molecule files as a source: the coordinator's process, which owns the reader processes, and this process's end of the socket to it.
//
// Messages from the coordinator: u64 length, MessageKind, then for a molecule u64 bytes done and the molecule, for a refused record the
// same with the reason after the molecule, at the end the remarks, for an error its text.

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <string_view>
#include <thread>

#include "io/prepare/child_process.h"
#include "io/prepare/molecule_source.h"
#include "io/prepare/reader.h"
#include "io/prepare/reasons.h"
#include "io/prepare/record_feed.h"
#include "io/prepare/wire.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

constexpr std::size_t kSendBytes = 1u << 16, kReceiveBytes = 1u << 18;
constexpr std::size_t kShownSmiles = 1000;           // characters of a refused SMILES; it may be any text
constexpr int kStopPollMilliseconds = 100;           // between questions whether to stop
constexpr auto kPatience = std::chrono::seconds(5);  // for a coordinator that was asked to end; it needs milliseconds

enum class MessageKind : std::uint8_t { kept, refused, end, usage_error, error };

/// A number that two processes see.
class SharedNumber {
 public:
  SharedNumber() {
    memory_ = ::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED)
      throw Error("can't share memory with the reader processes: {}; close other programs", std::strerror(errno));
    value_ = new (memory_) std::atomic<int>(0);
  }
  ~SharedNumber() { ::munmap(memory_, sizeof(std::atomic<int>)); }
  SharedNumber(const SharedNumber&) = delete;
  SharedNumber& operator=(const SharedNumber&) = delete;
  std::atomic<int>& operator*() { return *value_; }

 private:
  void* memory_;
  std::atomic<int>* value_;
};

/// Thrown in the coordinator, so that its readers are ended and waited for, when nobody listens any more.
struct NobodyListens {};

/// The coordinator's end.
class Sender {
 public:
  explicit Sender(int socket) : socket_(socket) {}

  template <class Content>
  void send(MessageKind kind, Content&& content) {
    const std::size_t start = out_.bytes().size();
    out_.put(std::uint64_t{0});
    out_.put(kind);
    content(out_);
    const std::uint64_t length = out_.bytes().size() - start - sizeof(std::uint64_t);
    std::memcpy(out_.bytes().data() + start, &length, sizeof(length));
    if (out_.bytes().size() >= kSendBytes) flush();
  }
  void flush() {
    std::string_view left = out_.bytes();
    while (!left.empty()) {
      const ssize_t sent = ::send(socket_, left.data(), left.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) throw NobodyListens{};
      left.remove_prefix(static_cast<std::size_t>(sent));
    }
    out_.bytes().clear();
  }

 private:
  int socket_;
  Packer out_;
};

void coordinate(int socket, const InputOptions& options, Inputs& inputs, Chemistry& chemistry,
                const std::atomic<int>& stop) {
  Sender sender(socket);
  try {
    RecordFeed feed(options, inputs, chemistry, &stop);
    feed.run([&](const Record& record, Outcome& outcome) {
      Molecule& molecule = outcome.molecule;
      if (!outcome.kept) {
        molecule = {};
        molecule.identifier = one_line(record.identifier);
        if (molecule.identifier.empty())
          molecule.identifier = record_name(inputs.files[record.file].path, record.number);
        molecule.smiles = record.smiles;
        if (molecule.smiles.empty() && record.format == "smi")
          molecule.smiles = one_line(std::string_view(record.text).substr(0, kShownSmiles));
        molecule.source_file = record.file;
        molecule.source_record = record.number;
      }
      sender.send(outcome.kept ? MessageKind::kept : MessageKind::refused, [&](Packer& out) {
        out.put(feed.bytes_done());
        pack(out, molecule);
        if (!outcome.kept) out.put(one_line(outcome.reason));
      });
      if (!feed.ready()) sender.flush();
    });
    sender.send(MessageKind::end, [&](Packer& out) {
      out.put(static_cast<std::uint64_t>(feed.remarks().size()));
      for (const std::string& remark : feed.remarks()) out.put(remark);
    });
  } catch (const NobodyListens&) {
    return;
  } catch (const Interrupted&) {
    return;
  } catch (const UsageError& e) {
    sender.send(MessageKind::usage_error, [&](Packer& out) { out.put(std::string_view(e.what())); });
  } catch (const std::exception& e) {
    sender.send(MessageKind::error, [&](Packer& out) { out.put(std::string_view(e.what())); });
  }
  sender.flush();
}

class FileSource : public MoleculeSource {
 public:
  FileSource(const InputOptions& options, Chemistry& chemistry, std::function<int()> stopped)
      : stopped_(std::move(stopped)) {
    check_inputs(options, chemistry);
    Inputs inputs = find_inputs(options, chemistry, Checksums::leave);
    progress_ = {0, inputs.bytes >> 10, "kB"};
    coordinator_ = start_child([&](int socket) { coordinate(socket, options, inputs, chemistry, *stop_); });
  }
  ~FileSource() override { finish(); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  bool next(SourcedMolecule& out) override {
    if (ended_) return false;
    try {
      Unpacker in(message());
      MessageKind kind{};
      in.get(kind);
      switch (kind) {
        case MessageKind::kept:
        case MessageKind::refused: {
          std::uint64_t bytes = 0;
          in.get(bytes);
          progress_.done = bytes >> 10;
          out.number = number_++;
          out.kept = kind == MessageKind::kept;
          unpack(in, out.molecule);
          out.reason.clear();
          if (!out.kept) in.get(out.reason);
          return true;
        }
        case MessageKind::end: {
          std::uint64_t count = 0;
          for (in.get(count); count > 0; --count) in.get(remarks_.emplace_back());
          ended_ = true;
          finish();
          return false;
        }
        case MessageKind::usage_error:
        case MessageKind::error: {
          std::string text;
          in.get(text);
          if (kind == MessageKind::usage_error) throw UsageError("{}", text);
          throw Error("{}", text);
        }
      }
    } catch (const std::out_of_range&) {
    }
    throw Error("the process that reads the molecules sent nonsense; run again");
  }
  Progress progress() const override { return progress_; }
  std::vector<std::string> remarks() const override { return remarks_; }

 private:
  /// The next message, valid until the next call.
  std::string_view message() {
    std::uint64_t length = 0;
    while (input_.size() - taken_ < sizeof(length)) receive();
    std::memcpy(&length, input_.data() + taken_, sizeof(length));
    while (input_.size() - taken_ - sizeof(length) < length) receive();
    const std::string_view found = std::string_view(input_).substr(taken_ + sizeof(length), length);
    taken_ += sizeof(length) + length;
    return found;
  }

  void receive() {
    while (true) {
      if (const int signal = stopped_ ? stopped_() : 0; signal != 0)
        throw Interrupted("stopped by signal {} before the end", signal);
      pollfd polled{coordinator_.socket, POLLIN, 0};
      if (::poll(&polled, 1, kStopPollMilliseconds) > 0) break;
    }
    input_.erase(0, std::exchange(taken_, 0));
    const std::size_t size = input_.size();
    input_.resize(size + kReceiveBytes);
    const ssize_t got = ::recv(coordinator_.socket, input_.data() + size, kReceiveBytes, 0);
    input_.resize(size + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) throw Error("{}", death());
  }

  /// The coordinator has gone before it said that it was done.
  std::string death() {
    int status = 0;
    while (::waitpid(coordinator_.pid, &status, 0) < 0 && errno == EINTR) {
    }
    ::close(coordinator_.socket);
    coordinator_ = {};
    const std::string cause = WIFSIGNALED(status)
                                  ? fmt::format("signal {}: {}", WTERMSIG(status), ::strsignal(WTERMSIG(status)))
                                  : fmt::format("exit status {}", WEXITSTATUS(status));
    return fmt::format(
        "the process that reads the molecules ended early ({}); is the machine out of memory? Run again with fewer "
        "--workers",
        cause);
  }

  /// Ends the coordinator, which ends and waits for its readers first.
  void finish() {
    if (coordinator_.pid < 0) return;
    *stop_ = SIGTERM;
    ::close(coordinator_.socket);
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (::waitpid(coordinator_.pid, nullptr, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > deadline) ::kill(coordinator_.pid, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    coordinator_ = {};
  }

  std::function<int()> stopped_;
  SharedNumber stop_;  // not 0: the coordinator is to end
  ChildProcess coordinator_;
  std::string input_;  // bytes received, of which the first `taken_` are done with
  std::size_t taken_ = 0;
  bool ended_ = false;
  std::uint64_t number_ = 0;
  Progress progress_;
  std::vector<std::string> remarks_;
};

}  // namespace

std::unique_ptr<MoleculeSource> open_molecule_files(const InputOptions& options, Chemistry& chemistry,
                                                    std::function<int()> stopped) {
  return std::make_unique<FileSource>(options, chemistry, std::move(stopped));
}

}  // namespace moleblend
