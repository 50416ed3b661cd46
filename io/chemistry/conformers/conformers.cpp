#include "io/chemistry/conformers/conformers.h"

#include <fmt/format.h>

#include "io/support/error.h"

namespace moleblend::chemistry {
namespace {

/// SplitMix64 (Steele, Lea and Flood 2014): independent seeds from a counter.
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

struct Built {
  std::vector<std::vector<Point>> conformers;
  std::string fault;  // of the last attempt that failed
};

Built build_all(ConformerBuilder& builder, Record& record, const Snapshot& snapshot, const ConformerOptions& options,
                std::uint64_t seed) {
  Built built;
  built.fault = builder.prepare(record, snapshot);
  if (!built.fault.empty()) return built;
  for (int conformer = 0; conformer < options.count; ++conformer) {
    bool passed = false;
    for (int attempt = 0; attempt < options.attempts && !passed; ++attempt) {
      const auto counter = static_cast<std::uint64_t>(conformer * options.attempts + attempt);
      auto positions = builder.build(mixed(seed + mixed(counter)), options.force_field_steps);
      const auto fault =
          positions.empty() ? std::string("it finds no structure") : geometry_fault(snapshot.graph, positions);
      passed = fault.empty();
      if (passed) {
        built.conformers.push_back(std::move(positions));
      } else {
        built.fault = fault;
      }
    }
    // What fails on every seed will fail for the next conformer too: let the other engine try.
    if (!passed) break;
  }
  return built;
}

const char* engine_name(ConformerEngine engine) {
  return engine == ConformerEngine::openbabel ? "Open Babel" : "RDKit";
}

void store(const Built& built, ConformerEngine engine, Molecule& molecule) {
  molecule.conformer_source =
      engine == ConformerEngine::openbabel ? ConformerSource::openbabel : ConformerSource::rdkit;
  molecule.conformers = static_cast<std::uint32_t>(built.conformers.size());
  for (const auto& conformer : built.conformers) {
    for (const auto& p : conformer) {
      for (const double x : {p.x, p.y, p.z}) molecule.positions.push_back(static_cast<float>(x));
    }
  }
}

}  // namespace

Conformers::Conformers() : openbabel_(make_openbabel_builder()), rdkit_(make_rdkit_builder()) {}

bool Conformers::has(ConformerEngine engine) const {
  return engine == ConformerEngine::openbabel || rdkit_ != nullptr;
}

void Conformers::build(Record& record, const Snapshot& snapshot, const ConformerOptions& options, std::uint64_t seed,
                       Molecule& molecule) {
  const auto other = options.engine == ConformerEngine::openbabel ? ConformerEngine::rdkit : ConformerEngine::openbabel;
  if (!has(options.engine))
    throw Error(
        "conformers with {} were asked for, but this build has none; choose the other engine, or "
        "install librdkit-dev and build again",
        engine_name(options.engine));
  std::vector<ConformerEngine> engines = {options.engine};
  if (options.fallback && has(other)) engines.push_back(other);

  Built best;
  ConformerEngine best_engine = options.engine;
  std::string faults;
  for (const auto engine : engines) {
    auto& builder = engine == ConformerEngine::openbabel ? *openbabel_ : *rdkit_;
    auto built = build_all(builder, record, snapshot, options, seed);
    if (!built.fault.empty())
      faults += fmt::format("{}{}: {}", faults.empty() ? "" : "; ", engine_name(engine), built.fault);
    if (built.conformers.size() > best.conformers.size()) {
      best = std::move(built);
      best_engine = engine;
    }
    if (static_cast<int>(best.conformers.size()) == options.count) break;
  }
  if (!best.conformers.empty()) return store(best, best_engine, molecule);
  if (options.required) throw Rejected("no conformer passes the checks (" + faults + ")");
}

}  // namespace moleblend::chemistry
