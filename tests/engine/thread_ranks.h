#pragma once
// Ranks that are threads of one process: what they say to each other goes through its memory.

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/ranks/ranks.h"
#include "io/support/error.h"

namespace moleblend::testing {

class ThreadRanks final : public Ranks {
 public:
  /// What they share.
  struct Hub {
    explicit Hub(int size) : data(static_cast<std::size_t>(size)), left(size) {}

    /// Returns when all ranks are there; they then read each other's memory, up to the next meeting. Throws where one has ended and will
    /// never be there, when nobody reads any more.
    void meet(bool reads_before, bool reads_after) {
      std::unique_lock lock(mutex);
      if (reads_before && --reading == 0) changed.notify_all();
      if (ended && !reads_before) throw Error("another rank has ended");  // who waited here may have gone
      const int round = rounds;
      if (--left == 0) {
        left = static_cast<int>(data.size());
        if (reads_after) reading = left;
        ++rounds;
        changed.notify_all();
      }
      changed.wait(lock, [&] { return rounds != round || (ended && reading == 0); });
      if (rounds == round) throw Error("another rank has ended");
    }
    void end() {
      const std::lock_guard lock(mutex);
      ended = true;
      changed.notify_all();
    }

    std::vector<const std::byte*> data;
    std::mutex mutex;
    std::condition_variable changed;
    int left, reading = 0, rounds = 0;
    bool ended = false;
  };

  ThreadRanks(Hub& hub, int rank) : hub_(hub), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(hub_.data.size()); }
  [[noreturn]] void abort(int status) override { std::_Exit(status); }
  void cancel() override { hub_.end(); }
  double deadline_s() const override { return deadline; }

  std::size_t exchanges = 0;
  double deadline = 600;

 private:
  void scatter_blocks(const std::byte* data, std::span<const std::size_t> cuts, std::byte* received) override {
    show(data);
    const std::size_t begin = cuts[index()], length = cuts[index() + 1] - begin;
    for (std::size_t r = 0; r < hub_.data.size(); ++r) std::memcpy(received + r * length, hub_.data[r] + begin, length);
    hub_.meet(true, false);
  }
  void gather_blocks(std::byte* data, std::span<const std::size_t> cuts) override {
    show(data);
    for (std::size_t r = 0; r < hub_.data.size(); ++r)
      if (r != index()) std::memcpy(data + cuts[r], hub_.data[r] + cuts[r], cuts[r + 1] - cuts[r]);
    hub_.meet(true, false);
  }
  void show(const std::byte* data) {
    ++exchanges;
    hub_.data[index()] = data;
    hub_.meet(false, true);
  }
  std::size_t index() const { return static_cast<std::size_t>(rank_); }

  Hub& hub_;
  int rank_;
};

/// work(ranks) on so many ranks at once. What the first rank that fails throws is thrown when all have ended.
inline void run_ranks(int size, const std::function<void(ThreadRanks&)>& work) {
  ThreadRanks::Hub hub(size);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank)
      threads.emplace_back([&, rank] {
        ThreadRanks ranks(hub, rank);
        try {
          work(ranks);
        } catch (...) {
          errors[static_cast<std::size_t>(rank)] = std::current_exception();
          hub.end();
        }
      });
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace moleblend::testing
