// A data set in numbers and words.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "apps/inspect.h"
#include "io/prepare/blocks.h"
#include "io/support/progress.h"

namespace moleblend::inspect {
namespace {

constexpr std::size_t kBars = 16;         // of the size histogram
constexpr std::size_t kMostClasses = 10;  // a label with so few different values is shown as classes

const char* name_of(ConformerSource source) {
  switch (source) {
    case ConformerSource::file:
      return "from the file";
    case ConformerSource::openbabel:
      return "built by Open Babel";
    case ConformerSource::rdkit:
      return "built by RDKit";
    case ConformerSource::none:
      break;
  }
  return "no positions";
}

class LabelSummary {
 public:
  void add(double value) {
    if (std::isnan(value)) {
      ++missing_;
      return;
    }
    ++present_;
    // Welford's running mean: exact to rounding also for a billion large values.
    const double before = value - mean_;
    mean_ += before / static_cast<double>(present_);
    squares_ += before * (value - mean_);
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
    if (classes_.size() <= kMostClasses) ++classes_[value];
  }

  Json json(const std::string& name) const {
    Json j = {{"name", name}, {"present", present_}, {"missing", missing_}};
    if (present_ == 0) return j;
    j["min"] = low_;
    j["mean"] = mean_;
    j["std"] = std::sqrt(squares_ / static_cast<double>(present_));
    j["max"] = high_;
    if (classes_.size() <= kMostClasses) {
      for (const auto& [value, count] : classes_) j["values"].push_back({{"value", value}, {"molecules", count}});
    }
    return j;
  }

 private:
  std::uint64_t present_ = 0, missing_ = 0;
  double mean_ = 0, squares_ = 0;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -low_;
  std::map<double, std::uint64_t> classes_;
};

/// Counts of molecules by atoms, in at most kBars ranges of equal width.
Json histogram(const std::vector<std::uint32_t>& sorted) {
  Json bars = Json::array();
  const std::uint32_t low = sorted.front(), high = sorted.back();
  const std::uint32_t width = (high - low) / kBars + 1;
  for (std::uint64_t from = low; from <= high; from += width) {
    const std::uint64_t to = std::min<std::uint64_t>(from + width - 1, high);
    const auto begin = std::lower_bound(sorted.begin(), sorted.end(), from),
               end = std::upper_bound(sorted.begin(), sorted.end(), to);
    bars.push_back({{"from", from}, {"to", to}, {"molecules", end - begin}});
  }
  return bars;
}

Json sizes(const Dataset& dataset) {
  std::vector<std::uint32_t> atoms(dataset.size());
  for (std::uint64_t i = 0; i < dataset.size(); ++i) atoms[i] = dataset.atoms(i);
  std::sort(atoms.begin(), atoms.end());
  const auto quantile = [&](double q) {
    return atoms[static_cast<std::size_t>(q * static_cast<double>(atoms.size() - 1))];
  };
  return {{"min", atoms.front()},
          {"mean", static_cast<double>(dataset.info().atoms) / static_cast<double>(atoms.size())},
          {"median", quantile(0.5)},
          {"p95", quantile(0.95)},
          {"p99", quantile(0.99)},
          {"max", atoms.back()},
          {"histogram", histogram(atoms)}};
}

std::string count_of(const Json& j) {
  return count_text(j.get<std::uint64_t>());
}

std::string label_words(const Json& label) {
  std::string text = fmt::format("  {}: {} present, {} missing", label.at("name").get<std::string>(),
                                 count_of(label.at("present")), count_of(label.at("missing")));
  if (label.contains("values")) {
    const char* separator = "; ";
    for (const Json& value : label.at("values")) {
      text += fmt::format("{}{:g}: {}", separator, value.at("value").get<double>(), count_of(value.at("molecules")));
      separator = ", ";
    }
  } else if (label.contains("mean")) {
    text +=
        fmt::format("; from {:.5g} to {:.5g}, mean {:.5g}, standard deviation {:.5g}", label.at("min").get<double>(),
                    label.at("max").get<double>(), label.at("mean").get<double>(), label.at("std").get<double>());
  }
  return text + "\n";
}

}  // namespace

Json describe_dataset(const std::filesystem::path& folder, const Dataset& dataset, bool verified, bool quiet) {
  const DatasetInfo& info = dataset.info();
  std::uint64_t bytes = 0;
  for (const ShardEntry& shard : info.shards) bytes += shard.bytes;
  Json report = {{"kind", "data set"},
                 {"path", folder.string()},
                 {"molecules", info.molecules},
                 {"rejected", info.rejected},
                 {"with_positions", info.with_positions},
                 {"atoms", info.atoms},
                 {"pairs", info.pairs},
                 {"shards", info.shards.size()},
                 {"bytes", bytes},
                 {"schema", info.schema},
                 {"program_version", info.program_version},
                 {"fingerprint", info.fingerprint},
                 {"verified", verified},
                 {"options", Json::parse(info.options)}};
  for (const SourceFile& s : info.sources)
    report["sources"].push_back({{"path", s.path}, {"records", s.records}, {"bytes", s.bytes}, {"sha256", s.sha256}});
  if (dataset.size() > 0) report["atoms_per_molecule"] = sizes(dataset);

  std::vector<LabelSummary> labels(info.labels.size());
  std::array<std::uint64_t, 4> by_source{};
  std::uint64_t conformers = 0;
  Molecule molecule;
  Progress progress("inspect", dataset.size(), "molecules", quiet);
  for (std::uint64_t i = 0; i < dataset.size(); ++i) {
    dataset.read(i, molecule);
    for (std::size_t k = 0; k < labels.size(); ++k) labels[k].add(molecule.labels[k]);
    ++by_source[static_cast<std::size_t>(molecule.conformer_source)];
    conformers += molecule.conformers;
    if (i % 1024 == 0) progress.update(i);
  }
  report["conformers"] = conformers;
  for (std::size_t k = 0; k < by_source.size(); ++k)
    if (by_source[k] > 0)
      report["positions"].push_back(
          {{"source", name_of(static_cast<ConformerSource>(k))}, {"molecules", by_source[k]}});
  for (std::size_t k = 0; k < labels.size(); ++k) report["labels"].push_back(labels[k].json(info.labels[k]));

  if (!std::filesystem::exists(folder / "rejected.csv")) return report;
  const auto reasons = rejected_reasons(folder);
  std::vector<std::pair<std::string, std::uint64_t>> by_count(reasons.begin(), reasons.end());
  std::stable_sort(by_count.begin(), by_count.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  for (const auto& [reason, count] : by_count)
    report["rejected_reasons"].push_back({{"reason", reason}, {"records", count}});
  return report;
}

std::string words_of_dataset(const Json& r) {
  constexpr std::size_t kReasons = 10, kBarWidth = 40;
  std::string text =
      fmt::format("{}: {} molecules, {} of them with positions; {} records rejected\n", r.at("path").get<std::string>(),
                  count_of(r.at("molecules")), count_of(r.at("with_positions")), count_of(r.at("rejected")));
  text += fmt::format("{} atoms, {} ordered pairs, conformers: {}, shards: {}, {:.1f} MB on disk{}\n",
                      count_of(r.at("atoms")), count_of(r.at("pairs")), count_of(r.at("conformers")),
                      count_of(r.at("shards")), r.at("bytes").get<double>() / 1e6,
                      r.at("verified").get<bool>() ? ", every checksum right" : "");
  text += fmt::format("fingerprint {}\nwritten by moleblend {}, schema {}\n", r.at("fingerprint").get<std::string>(),
                      r.at("program_version").get<std::string>(), r.at("schema").get<int>());
  for (const Json& s : r.value("sources", Json::array()))
    text += fmt::format("source {}: {} records, SHA-256 {}\n", s.at("path").get<std::string>(),
                        count_of(s.at("records")), s.at("sha256").get<std::string>());
  if (r.contains("atoms_per_molecule")) {
    const Json& a = r.at("atoms_per_molecule");
    text += fmt::format("\natoms in a molecule: {} to {}, mean {:.1f}, median {}, 95 % up to {}, 99 % up to {}\n",
                        a.at("min").get<int>(), a.at("max").get<int>(), a.at("mean").get<double>(),
                        a.at("median").get<int>(), a.at("p95").get<int>(), a.at("p99").get<int>());
    double largest = 0;
    for (const Json& b : a.at("histogram")) largest = std::max(largest, b.at("molecules").get<double>());
    for (const Json& b : a.at("histogram")) {
      const auto from = b.at("from").get<std::uint64_t>(), to = b.at("to").get<std::uint64_t>();
      text += fmt::format("  {:>9} {:>12} {}\n", from == to ? fmt::format("{}", from) : fmt::format("{}-{}", from, to),
                          count_of(b.at("molecules")), bar(b.at("molecules").get<double>(), largest, kBarWidth));
    }
  }
  if (r.contains("positions")) text += "\npositions\n";
  for (const Json& p : r.value("positions", Json::array()))
    text += fmt::format("  {:>12} {}\n", count_of(p.at("molecules")), p.at("source").get<std::string>());
  if (r.contains("labels")) text += "\nlabels\n";
  for (const Json& label : r.value("labels", Json::array())) text += label_words(label);
  if (r.contains("rejected_reasons")) text += "\nrejected, by reason (each record is in rejected.csv)\n";
  std::size_t shown = 0;
  for (const Json& reason : r.value("rejected_reasons", Json::array()))
    if (shown++ < kReasons)
      text += fmt::format("  {:>12} {}\n", count_of(reason.at("records")), reason.at("reason").get<std::string>());
  return text;
}

}  // namespace moleblend::inspect
