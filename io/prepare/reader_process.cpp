#include "io/prepare/reader_process.h"

#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <new>

#include "io/prepare/reader_clock.h"
#include "io/prepare/wire.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

constexpr std::size_t kAnswerBytes = 1u << 18;  // answers are sent in pieces of about this size
constexpr int kOutOfMemoryStatus = 77;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCanBoundMemory = false;  // a sanitizer's own memory can't be told from the program's
#else
constexpr bool kCanBoundMemory = true;
#endif

std::int64_t nanoseconds(clockid_t clock) {
  timespec t{};
  if (::clock_gettime(clock, &t) != 0) return -1;
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

ReaderState* own_state = nullptr;  // of this process, for the handler below

/// Called where operator new finds no memory. Ending here, with nothing allocated in between, is the one thing that works whatever the
/// library that asked would have made of an exception.
void end_out_of_memory() {
  own_state->out_of_memory = 1;
  ::_exit(kOutOfMemoryStatus);
}

void bound_memory(std::uint64_t bytes) {
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  std::set_new_handler(end_out_of_memory);
  if (bytes == 0 || !kCanBoundMemory) return;
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;  // first number: address space in pages
  const rlim_t limit = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) + bytes;
  const rlimit bound{limit, limit};
  ::setrlimit(RLIMIT_AS, &bound);
}

class Reader {
 public:
  Reader(Chemistry& chemistry, const ReaderOptions& options, int socket, ReaderState& state)
      : chemistry_(chemistry), options_(options), socket_(socket), state_(state) {}

  void run() {
    std::string request;
    while (receive(request)) {
      Unpacker in(request);
      RequestKind kind{};
      in.get(kind);
      if (kind == RequestKind::records)
        read_records(in);
      else
        read_file(in);
      answer_at_once_ = 0;
      answer(AnswerKind::done, 0, {});
      flush();
    }
  }

 private:
  void read_records(Unpacker& in) {
    std::uint64_t count = 0;
    in.get(count);
    Record record;
    for (std::uint64_t i = 0; i < count; ++i) {
      std::uint64_t index = 0;
      in.get(index);
      unpack(in, record);
      begin(index);
      try {
        keep(index, read_record(chemistry_, record, options_));
      } catch (const std::exception& e) {
        answer(AnswerKind::rejected, index, e.what());
      } catch (...) {
        answer(AnswerKind::rejected, index, "Open Babel failed on it and gave no reason");
      }
      end();
    }
  }

  void read_file(Unpacker& in) {
    std::uint32_t file = 0;
    std::string path, format;
    std::uint64_t skip = 0;
    in.get(file), in.get(path), in.get(format), in.get(skip), in.get(answer_at_once_);
    begin(0);
    std::unique_ptr<MoleculeStream> stream;
    try {
      stream = chemistry_.open(path, format, options_.read, options_.seed);
    } catch (const std::exception& e) {
      answer(AnswerKind::failed, 0, e.what());
      end();
      return;
    }
    for (std::uint64_t index = 0;; ++index) {
      begin(index);
      try {
        Molecule molecule;
        if (!stream->next(molecule)) break;
        complete_molecule(molecule, file, index, options_);
        if (index >= skip) keep(index, molecule);
      } catch (const std::exception& e) {
        if (index >= skip) answer(AnswerKind::rejected, index, e.what());
      }
      end();
    }
    end();
  }

  /// From here until end(), time counts and death is the record's.
  void begin(std::uint64_t index) {
    state_.cpu_start = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    state_.wall_start = wall_time();
    state_.current = index + 1;
  }
  void end() {
    state_.current = 0;
    if (out_.bytes().size() >= kAnswerBytes || answer_at_once_) flush();
  }

  void keep(std::uint64_t index, const Molecule& molecule) {
    const std::size_t start = open_message(AnswerKind::kept, index);
    pack(out_, molecule);
    close_message(start);
  }
  void answer(AnswerKind kind, std::uint64_t index, std::string_view reason) {
    const std::size_t start = open_message(kind, index);
    out_.put(reason);
    close_message(start);
  }
  std::size_t open_message(AnswerKind kind, std::uint64_t index) {
    const std::size_t start = out_.bytes().size();
    out_.put(std::uint64_t{0});
    out_.put(kind);
    out_.put(index);
    return start;
  }
  void close_message(std::size_t start) {
    const std::uint64_t length = out_.bytes().size() - start - sizeof(std::uint64_t);
    std::memcpy(out_.bytes().data() + start, &length, sizeof(length));
  }

  bool receive(std::string& request) {
    std::uint64_t length = 0;
    if (!receive_bytes(reinterpret_cast<char*>(&length), sizeof(length))) return false;
    request.resize(length);
    return receive_bytes(request.data(), length);
  }
  bool receive_bytes(char* to, std::size_t size) {
    while (size > 0) {
      const ssize_t got = ::recv(socket_, to, size, MSG_WAITALL);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      to += got;
      size -= static_cast<std::size_t>(got);
    }
    return true;
  }
  void flush() {
    std::string_view left = out_.bytes();
    while (!left.empty()) {
      const ssize_t sent = ::send(socket_, left.data(), left.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) ::_exit(0);  // the coordinator is gone
      left.remove_prefix(static_cast<std::size_t>(sent));
    }
    out_.bytes().clear();
  }

  Chemistry& chemistry_;
  const ReaderOptions& options_;
  int socket_;
  ReaderState& state_;
  std::uint8_t answer_at_once_ = 0;
  Packer out_;
};

}  // namespace

std::int64_t wall_time() {
  return nanoseconds(CLOCK_MONOTONIC);
}

std::int64_t cpu_time_of(pid_t pid) {
  clockid_t clock{};
  return ::clock_getcpuclockid(pid, &clock) == 0 ? nanoseconds(clock) : -1;
}

ChildProcess start_reader(Chemistry& chemistry, const ReaderOptions& options, std::uint64_t memory_bytes,
                          ReaderState& state) {
  state.current = 0;
  state.out_of_memory = 0;
  return start_child([&](int socket) {
    own_state = &state;
    bound_memory(memory_bytes);
    count_time_by_own_work();
    // Open Babel uses OpenMP where Debian builds it; the environment is read too early to help in a program that has OpenMP itself.
    if (void* found = ::dlsym(RTLD_DEFAULT, "omp_set_num_threads")) reinterpret_cast<void (*)(int)>(found)(1);
    Reader(chemistry, options, socket, state).run();
  });
}

}  // namespace moleblend
