#include "engine/property/presets.h"

#include <fmt/ranges.h>

#include "io/support/error.h"

namespace moleblend {
namespace {

constexpr double kHartree = 27.2113825435e3, kKilocalorie = 0.04336414e3;  // in meV

constexpr Shown kGraph{true, false}, kPositions{false, true};

std::vector<TaskPreset> make_presets() {
  std::vector<TaskPreset> all;
  const auto classes = [&](const char* name, const char* about, Metric metric = Metric::roc_auc) {
    all.push_back({.name = name,
                   .about = about,
                   .task = PropertyTask::classification,
                   .metric = metric,
                   .split = "scaffold",
                   .shown = kGraph});
  };
  classes("bbbp", "blood-brain barrier penetration");
  classes("bace", "inhibitors of beta-secretase 1");
  classes("clintox", "approval and clinical toxicity, 2 tasks");
  classes("tox21", "12 assays of toxicity");
  classes("toxcast", "617 assays of toxicity");
  classes("sider", "27 groups of side effects");
  classes("hiv", "inhibition of HIV replication");
  classes("muv", "17 assays with very few actives", Metric::pr_auc);
  const auto values = [&](const char* name, const char* about, const char* column, const char* unit) {
    all.push_back({.name = name,
                   .about = about,
                   .task = PropertyTask::regression,
                   .metric = Metric::rmse,
                   .split = "scaffold",
                   .shown = kGraph,
                   .targets = {{.column = column, .unit = unit}}});
  };
  values("esol", "solubility in water", "measured log solubility in mols per litre", "log10(mol/L)");
  values("freesolv", "hydration free energy", "expt", "kcal/mol");
  values("lipophilicity", "octanol/water distribution coefficient", "exp", "logD");
  const auto qm9 = [&](const char* name, const char* about, const char* column, double factor, const char* unit) {
    all.push_back({.name = name,
                   .about = about,
                   .task = PropertyTask::regression,
                   .metric = Metric::mae,
                   .split = "random",
                   .counts = {110'000, 10'000},
                   .shown = kPositions,
                   .targets = {{.column = column, .factor = factor, .unit = unit}},
                   .epochs = 300});
  };
  qm9("qm9-mu", "dipole moment", "mu", 1, "D");
  qm9("qm9-alpha", "polarisability", "alpha", 1, "a0^3");
  qm9("qm9-homo", "energy of the HOMO", "homo", kHartree, "meV");
  qm9("qm9-lumo", "energy of the LUMO", "lumo", kHartree, "meV");
  qm9("qm9-gap", "HOMO-LUMO gap", "gap", kHartree, "meV");
  qm9("qm9-r2", "electronic spatial extent", "r2", 1, "a0^2");
  qm9("qm9-zpve", "zero-point vibrational energy", "zpve", kHartree, "meV");
  // Atomisation energies, which the table holds in kcal/mol.
  qm9("qm9-u0", "internal energy at 0 K, atomisation", "u0_atom", kKilocalorie, "meV");
  qm9("qm9-u", "internal energy at 298.15 K, atomisation", "u298_atom", kKilocalorie, "meV");
  qm9("qm9-h", "enthalpy at 298.15 K, atomisation", "h298_atom", kKilocalorie, "meV");
  qm9("qm9-g", "free energy at 298.15 K, atomisation", "g298_atom", kKilocalorie, "meV");
  qm9("qm9-cv", "heat capacity at 298.15 K", "cv", 1, "cal/(mol K)");
  all.push_back({.name = "pcqm4mv2",
                 .about = "HOMO-LUMO gap of PCQM4Mv2, graphs alone",
                 .task = PropertyTask::regression,
                 .metric = Metric::mae,
                 .split = "given",
                 .shown = kGraph,
                 .targets = {{.column = "homolumogap", .unit = "eV"}},
                 .batch_size = 256,
                 .epochs = 30});
  return all;
}

}  // namespace

const std::vector<TaskPreset>& task_presets() {
  static const std::vector<TaskPreset> all = make_presets();
  return all;
}

const TaskPreset& task_preset(std::string_view name) {
  std::vector<std::string_view> names;
  for (const TaskPreset& preset : task_presets()) {
    if (preset.name == name) return preset;
    names.push_back(preset.name);
  }
  throw UsageError("no task preset is called '{}'; choose one of {}", name, fmt::join(names, ", "));
}

void apply(const TaskPreset& preset, FinetuneSettings& s) {
  s.head.task = preset.task;
  s.head.shown = preset.shown;
  s.head.targets = preset.targets;
  s.metric = preset.metric;
  s.split.rule = preset.split;
  s.split.counts = preset.counts;
  s.loader.batch_size = preset.batch_size;
  s.epochs = preset.epochs;
}

}  // namespace moleblend
