#pragma once
// The processes of a run, and what they say to each other from memory of the host. Gradients on a GPU have a way of their own
// (gradient_sum.h).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace moleblend {

/// Every call but rank() and size() is made by all ranks, in the same order, with lengths that agree; a rank calls from one thread at a
/// time. Where another rank is gone, a call throws Error or ends the process with a message: none waits for ever.
class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool first() const { return rank() == 0; }

  /// Σ over ranks, in place. Terms are added in the order of the ranks (those of float in double), so that all ranks get the same bits, and
  /// so does every run with as many ranks, whatever the network between them.
  template <class T>  // float, double or std::int64_t
  void sum(std::span<T> values);
  /// The text of every rank, in their order.
  std::vector<std::string> gather(const std::string& text);

  /// How long this rank waits for others in one exchange before it ends the run.
  virtual double deadline_s() const { return 600; }

  /// Ends all ranks, where a failure of this one can't be told to the others.
  [[noreturn]] virtual void abort(int status) = 0;
  /// From another thread: the exchange that waits, and all after it, throw Error.
  virtual void cancel() = 0;
  /// All ranks know that the run ends: each leaves by itself, and none need be aborted.
  void all_leave() { all_leave_ = true; }
  bool leaving() const { return all_leave_; }

 protected:
  /// cuts has size() + 1 offsets in bytes. Sends block k of `data`, bytes [cuts[k], cuts[k + 1]), to rank k; `received` gets this rank's
  /// block of all ranks, in their order.
  virtual void scatter_blocks(const std::byte* data, std::span<const std::size_t> cuts, std::byte* received) = 0;
  /// Block k of `data` is that of rank k before, and the same on all ranks after.
  virtual void gather_blocks(std::byte* data, std::span<const std::size_t> cuts) = 0;

 private:
  std::vector<std::byte> received_;
  std::vector<std::size_t> cuts_;
  bool all_leave_ = false;
};

/// The one rank of a run of one process.
class SoleRank final : public Ranks {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  [[noreturn]] void abort(int status) override;
  void cancel() override {}

 private:
  void scatter_blocks(const std::byte* data, std::span<const std::size_t> cuts, std::byte* received) override;
  void gather_blocks(std::byte*, std::span<const std::size_t>) override {}
};
/// For callers that know of no others.
Ranks& sole_rank();

}  // namespace moleblend
