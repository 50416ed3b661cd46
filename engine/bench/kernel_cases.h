#pragma once
// Each operation of a training step, one by one, on made-up values of a model's and a batch's sizes.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/make_model.h"
#include "io/loader/batch.h"

namespace moleblend {

/// One operation, forward or backward.
struct KernelCase {
  std::string name;  // "attention.backward"
  double flop = 0;   // of a call: multiplications and additions of its products; 0 where it has none to speak of
  double bytes = 0;  // of a call: every array that it reads or writes, once
  std::function<void()> run = {};  // queues a call
  /// An array that a call writes or adds to.
  struct Output {
    std::string name;
    std::function<void()> clear;                // zero, as a check starts
    std::function<std::vector<double>()> read;  // waits
  };
  std::vector<Output> outputs = {};

  // Of another library's operation, beside ours:
  std::string library = {};        // "cuDNN 9.19.0"; empty: ours
  std::string truth = {};          // the case of ours whose results it must give; empty: its own name
  std::string missing = {};        // why there is none here, in one line; then it has a name and nothing else
  std::int64_t padded_tokens = 0;  // S, to which it has its molecules padded
};

/// The cases on one device in one precision. All values are exact in bf16, so that every precision is given the same ones. Not thread-safe.
class KernelCases {
 public:
  virtual ~KernelCases() = default;
  /// As Model::place().
  virtual std::string place() const = 0;
  virtual std::span<const KernelCase> cases() const = 0;
  virtual void wait() = 0;
};

/// The case of `cases` that gives the true results of `one`. Throws Error if there is none.
const KernelCase& truth_of(const KernelCase& one, const KernelCases& cases);

/// `batch` must stay while the cases do. Throws as make_model().
std::unique_ptr<KernelCases> make_kernel_cases(const ModelConfig& config, const Batch& batch,
                                               const DeviceChoice& choice);
/// The same in double on the CPU: the truth that others are held against.
std::unique_ptr<KernelCases> make_exact_kernel_cases(const ModelConfig& config, const Batch& batch, int threads);

}  // namespace moleblend
