#include "engine/bench/kernel_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/bench/timing.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

/// Root mean square of the difference over that of the truth; NaN in either comes through.
double relative_error(const std::vector<double>& found, const std::vector<double>& truth) {
  double difference = 0, size = 0;
  for (std::size_t k = 0; k < truth.size(); ++k) {
    difference += (found[k] - truth[k]) * (found[k] - truth[k]);
    size += truth[k] * truth[k];
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

}  // namespace

double kernel_tolerance(std::string_view precision) {
  return precision == "bf16" ? 2e-2 : 2e-5;
}

KernelError compare(const KernelCase& found, const KernelCase& truth) {
  KernelError worst;
  for (const KernelCase* one : {&found, &truth}) {
    for (const KernelCase::Output& output : one->outputs) output.clear();
    one->run();
  }
  for (std::size_t k = 0; k < found.outputs.size(); ++k) {
    const double error = relative_error(found.outputs[k].read(), truth.outputs[k].read());
    if (!(error <= worst.worst)) worst = {error, found.outputs[k].name};
    if (std::isnan(worst.worst)) break;
  }
  return worst;
}

const KernelCase& truth_of(const KernelCase& one, const KernelCases& cases) {
  const std::string& name = one.truth.empty() ? one.name : one.truth;
  for (const KernelCase& other : cases.cases())
    if (other.name == name) return other;
  throw Error("bench --kernels has nothing to hold {} against; please report this", one.name);
}

void bench_kernels(const NetworkBenchOptions& o, const BenchSink& sink) {
  constexpr std::int64_t kChecked = 16;  // molecules
  const std::vector<Batch> few = made_up_batches(o.size, kChecked, 1), many = made_up_batches(o.size, o.batch_size, 1);
  std::vector<KernelError> errors;
  {
    const auto found = make_kernel_cases(o.config, few[0], o.place);
    const auto truth = make_exact_kernel_cases(o.config, few[0], o.place.threads);
    for (const KernelCase& one : found->cases())
      errors.push_back(one.missing.empty() ? compare(one, truth_of(one, *truth)) : KernelError{});
  }
  const auto cases = make_kernel_cases(o.config, many[0], o.place);
  for (std::size_t k = 0; k < cases->cases().size(); ++k) {
    const KernelCase& one = cases->cases()[k];
    const std::string name =
        fmt::format("kernels.{}.{}.{}.{}", o.config.name, o.place.precision, o.size.name, one.name);
    if (!one.missing.empty()) {
      sink({.name = name, .missing = one.missing});
      continue;
    }
    const double seconds = seconds_of(0.1 * o.seconds, one.run, [&] { cases->wait(); });
    const double floor = std::max(one.flop / o.ceilings.flop_per_s, one.bytes / o.ceilings.bytes_per_s);
    const bool products = one.flop / o.ceilings.flop_per_s > one.bytes / o.ceilings.bytes_per_s;
    BenchRow row{.name = name,
                 .value = 1e-9 * (products ? one.flop : one.bytes) / seconds,
                 .unit = products ? "GFLOP/s" : "GB/s",
                 .correct = errors[k].worst <= kernel_tolerance(o.place.precision),
                 .share_of_floor = floor / seconds,
                 .library = one.library};
    row.detail = {{"us", 1e6 * seconds},
                  {"gflop", 1e-9 * one.flop},
                  {"mb", 1e-6 * one.bytes},
                  {"relative_error", errors[k].worst},
                  {"molecules", o.batch_size}};
    if (!*row.correct) row.detail["wrong"] = errors[k].array;
    if (one.padded_tokens > 0) row.detail["padded_tokens"] = one.padded_tokens;
    sink(std::move(row));
  }
}

}  // namespace moleblend
