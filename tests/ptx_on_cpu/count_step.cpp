// What the kernels of one training step do, counted from their PTX: base model, bf16, all dropouts. Needs a minute or two, most of it for
// the products that stand for cuBLASLt's.
//
//   count_step [molecules] [n14|n25]      default: 1024 n14; the table goes to standard output
//
// A multiprocessor issues at most four instructions a cycle, so that 132 of them at 1.755 GHz need at least `issue_us`; what ptxas removes
// (`move`) is left out, what it adds is unknown. sector_us is what all sectors would take at 4.3 TB/s if none came from a cache.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "counts.h"
#include "engine/bench/bench_size.h"
#include "engine/bench/molecules.h"
#include "engine/model/gpu_batch.h"
#include "engine/model/network.h"

namespace {

using moleblend::Batch;

constexpr double kIssuedPerMicrosecond = 132 * 4 * 1755.0, kBytesPerMicrosecond = 4.3e6;

/// Without namespaces and arguments.
std::string short_name(std::string name) {
  for (const std::string part : {"moleblend::", "(anonymous namespace)::", "void "}) {
    for (std::size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, part.size());
  }
  int depth = 0;
  for (std::size_t k = 0; k < name.size(); ++k) {
    depth += (name[k] == '<') - (name[k] == '>');
    if (depth == 0 && name[k] == '(') return name.substr(0, k);
  }
  return name;
}

void count_step(const Batch& batch) {
  moleblend::ModelConfig config = moleblend::ModelConfig::named("base");
  const moleblend::Objective objective;
  const moleblend::PretrainStep step{.objective = &objective, .counts = count_targets(batch, objective)};
  moleblend::Network<moleblend::Gpu, moleblend::bf16> model(config, 0);
  initialise(model, 1, false);
  ptx_on_cpu::clear_counts();
  model.zero_gradients();
  model.pretrain(batch, step);
  model.update({}, 1e-4, 1);
}

}  // namespace

int main(int argc, char** argv) {
  const long molecules = argc > 1 ? std::atol(argv[1]) : 1024;
  const std::string size = argc > 2 ? argv[2] : "n14";
  if (molecules < 1 || (size != "n14" && size != "n25")) {
    std::fprintf(stderr, "count_step [molecules] [n14|n25]\n");
    return 2;
  }
  const auto& sizes = size == "n14" ? moleblend::kSmallMolecules : moleblend::kDrugSizedMolecules;
  const Batch batch = std::move(moleblend::made_up_batches(sizes, molecules, 1)[0]);
  count_step(batch);

  struct Row {
    std::string kernel;
    ptx_on_cpu::Counts counts;
    double issued;
  };
  std::vector<Row> rows;
  for (const auto& [kernel, counts] : ptx_on_cpu::counts()) {
    double issued = 0;
    for (int k = 0; k < ptx_on_cpu::kClasses; ++k) {
      const auto kind = static_cast<ptx_on_cpu::Class>(k);
      if (kind != ptx_on_cpu::Class::move) issued += static_cast<double>(counts.of(kind));
    }
    rows.push_back({short_name(ptx_on_cpu::demangled(kernel)), counts, issued});
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.issued > b.issued; });
  std::printf("%ld molecules, %lld tokens, %lld pairs of tokens\n", molecules,
              static_cast<long long>(batch.packed().tokens()), static_cast<long long>(batch.packed().token_pairs()));
  std::printf("launches  Minstructions  issue_us  lanes  sector_MB  sector_us  shuffle%%  special%%  wide%%  kernel\n");
  double issued = 0, sectors = 0;
  for (const Row& row : rows) {
    const ptx_on_cpu::Counts& c = row.counts;
    double all = 0;
    for (const auto n : c.instructions) all += static_cast<double>(n);
    const double bytes = 32.0 * static_cast<double>(c.load_sectors + c.store_sectors + c.copy_sectors);
    const auto share = [&](ptx_on_cpu::Class kind) { return 100 * static_cast<double>(c.of(kind)) / row.issued; };
    std::printf("%8llu  %13.3f  %8.1f  %5.1f  %9.1f  %9.1f  %8.1f  %8.1f  %5.1f  %s\n",
                static_cast<unsigned long long>(c.launches), 1e-6 * row.issued, row.issued / kIssuedPerMicrosecond,
                static_cast<double>(c.lanes) / all, 1e-6 * bytes, bytes / kBytesPerMicrosecond,
                share(ptx_on_cpu::Class::warp_wide), share(ptx_on_cpu::Class::special),
                share(ptx_on_cpu::Class::wide_multiply), row.kernel.c_str());
    issued += row.issued;
    sectors += bytes;
  }
  std::printf("all: %.1f us of issuing, %.1f us of sectors\n", issued / kIssuedPerMicrosecond,
              sectors / kBytesPerMicrosecond);
}
