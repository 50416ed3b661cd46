// Ranks that MPI has started, and the one exported symbol of libmoleblend_mpi.so.

#include <fmt/format.h>
#include <mpi.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <limits>
#include <thread>

#include "engine/ranks/mpi_part.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

using Clock = std::chrono::steady_clock;

void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw Error("{} failed: {}; look at the network between the ranks, and start the run again with --resume", call,
              std::string_view(text, static_cast<std::size_t>(length)));
}

class MpiRanks final : public Ranks {
 public:
  explicit MpiRanks(const MpiOptions& options) : options_(options) {
    // Calls come from one thread at a time: the training loop's, or while gradients are summed another.
    int provided = MPI_THREAD_SINGLE;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (provided < MPI_THREAD_SERIALIZED)
      throw Error("this MPI library can't be called from more than one thread; install Open MPI or MPICH with threads");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    for (std::vector<int>* v : {&send_count_, &send_offset_, &receive_count_, &receive_offset_})
      v->resize(static_cast<std::size_t>(size_));
  }
  ~MpiRanks() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  double deadline_s() const override { return options_.deadline_s; }
  [[noreturn]] void abort(int status) override {
    MPI_Abort(MPI_COMM_WORLD, status);
    std::_Exit(status);
  }
  void cancel() override { cancelled_ = true; }

 private:
  static int as_int(std::size_t bytes) {
    if (bytes > static_cast<std::size_t>(std::numeric_limits<int>::max()))
      throw Error("an exchange of {} bytes between ranks is too large; this is a fault of the program", bytes);
    return static_cast<int>(bytes);
  }

  void scatter_blocks(const std::byte* data, std::span<const std::size_t> cuts, std::byte* received) override {
    set_blocks(cuts);
    const auto me = static_cast<std::size_t>(rank_);
    const std::size_t own = cuts[me + 1] - cuts[me];
    for (std::size_t r = 0; r < receive_count_.size(); ++r) {
      receive_count_[r] = as_int(own);
      receive_offset_[r] = as_int(r * own);
    }
    MPI_Request request;
    check(MPI_Ialltoallv(data, send_count_.data(), send_offset_.data(), MPI_BYTE, received, receive_count_.data(),
                         receive_offset_.data(), MPI_BYTE, MPI_COMM_WORLD, &request),
          "MPI_Ialltoallv");
    wait(request);
  }

  void gather_blocks(std::byte* data, std::span<const std::size_t> cuts) override {
    set_blocks(cuts);
    MPI_Request request;
    check(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_BYTE, data, send_count_.data(), send_offset_.data(), MPI_BYTE,
                          MPI_COMM_WORLD, &request),
          "MPI_Iallgatherv");
    wait(request);
  }

  void set_blocks(std::span<const std::size_t> cuts) {
    for (std::size_t r = 0; r < send_count_.size(); ++r) {
      send_offset_[r] = as_int(cuts[r]);
      send_count_[r] = as_int(cuts[r + 1] - cuts[r]);
    }
  }

  /// Not MPI_Wait: it takes a whole core from the backward pass, and for ever where a rank has gone.
  void wait(MPI_Request& request) {
    const Clock::time_point begin = Clock::now();
    for (int tries = 0;; ++tries) {
      int done = 0;
      check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (done) return;
      if (cancelled_) throw Error("an exchange between ranks was given up; this rank has said why");
      if (tries < 100) {
        std::this_thread::yield();
        continue;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      if (std::chrono::duration<double>(Clock::now() - begin).count() > options_.deadline_s) give_up();
    }
  }

  [[noreturn]] void give_up() {
    char host[MPI_MAX_PROCESSOR_NAME];
    int length = 0;
    MPI_Get_processor_name(host, &length);
    fmt::print(
        stderr,
        "moleblend: rank {} of {} on {}: no answer from another rank for {:g} s; it hangs, or its machine or network "
        "has failed; the run ends, go on with --resume (--rank-deadline waits longer)\n",
        rank_, size_, std::string_view(host, static_cast<std::size_t>(length)), options_.deadline_s);
    abort(1);
  }

  MpiOptions options_;
  int rank_ = 0, size_ = 1;
  std::atomic<bool> cancelled_ = false;
  std::vector<int> send_count_, send_offset_, receive_count_, receive_offset_;
};

class Library final : public MpiPart {
 public:
  std::unique_ptr<Ranks> start(const MpiOptions& options) const override { return std::make_unique<MpiRanks>(options); }
};

}  // namespace
}  // namespace moleblend

extern "C" __attribute__((visibility("default"))) const moleblend::MpiPart* moleblend_mpi_part(
    const char* program_version) {
  static const moleblend::Library library;
  return std::strcmp(program_version, MOLEBLEND_VERSION) == 0 ? &library : nullptr;
}
