// One molecule: its atoms, bonds and relations in words, and the blend that training draws for it.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "apps/inspect.h"
#include "io/chemistry/rules/elements.h"
#include "io/loader/batch.h"
#include "io/support/error.h"
#include "kernels/random/draws.h"
#include "kernels/random/philox.h"

namespace moleblend::inspect {
namespace {

// Categories of METHOD section 1, in their order; the last name also stands for all beyond.
constexpr std::array kChirality = {"unspecified", "clockwise", "counterclockwise", "other"};
constexpr std::array kHybridisation = {"SP", "SP2", "SP3", "SP3D", "SP3D2", "other"};
constexpr std::array kBondType = {"single", "double", "triple", "aromatic", "misc"};
constexpr std::array kBondStereo = {"none", "Z", "E", "cis", "trans", "any"};
constexpr std::array kSource = {"none", "file", "Open Babel", "RDKit"};
constexpr int kNeutral = 5, kChargeMisc = 11;  // categories of the formal charges 0 and "misc"
constexpr std::size_t kWideMatrix = 40;        // more columns than this don't fit a terminal

template <class Names>
std::string name(const Names& names, std::size_t category) {
  return names[std::min(category, names.size() - 1)];
}

/// A count, or "more" for the category after the last one that is named.
std::string count_category(int category, int last) {
  return category > last ? "more" : fmt::format("{}", category);
}

Json atom_json(std::size_t i, const AtomCodes& codes) {
  const std::string charge = codes[3] >= kChargeMisc ? "other" : fmt::format("{:+d}", codes[3] - kNeutral);
  return {{"atom", i},
          {"element", codes[0] < chemistry::kElements ? chemistry::element_symbol(codes[0] + 1) : "?"},
          {"chirality", name(kChirality, codes[1])},
          {"degree", count_category(codes[2], 10)},
          {"charge", codes[3] == kNeutral ? "0" : charge},
          {"hydrogens", count_category(codes[4], 8)},
          {"radical_electrons", count_category(codes[5], 4)},
          {"hybridisation", name(kHybridisation, codes[6])},
          {"aromatic", codes[7] == 1},
          {"in_ring", codes[8] == 1},
          {"codes", codes}};
}

Json bond_json(std::size_t begin, std::size_t end, int type, int stereo, int conjugated) {
  return {{"begin", begin},
          {"end", end},
          {"type", name(kBondType, static_cast<std::size_t>(type))},
          {"stereo", name(kBondStereo, static_cast<std::size_t>(stereo))},
          {"conjugated", conjugated == 1}};
}

std::string bond_words(const Json& bond) {
  std::string text = bond.at("type").get<std::string>();
  if (bond.at("stereo") != "none") text += fmt::format(" {}", bond.at("stereo").get<std::string>());
  if (bond.at("conjugated").get<bool>()) text += " conjugated";
  return text;
}

/// The first hops of the path between the two atoms that are farthest apart (of equal ones, the first).
Json path_example(const Batch& batch) {
  const auto n = static_cast<std::size_t>(batch.atoms());
  std::size_t best = 0;
  for (std::size_t p = 0; p < n * n; ++p) {
    if (batch.spd[p] < kUnreachable && batch.spd[p] > batch.spd[best]) best = p;
  }
  Json hops = Json::array();
  for (std::size_t hop = 0; hop < kPathHops; ++hop) {
    const std::uint8_t code = batch.path[best * kPathHops + hop];
    if (code == 0) break;
    Json bond = bond_json(0, 0, bond_type(code), bond_stereo(code), bond_conjugated(code));
    bond.erase("begin");
    bond.erase("end");
    hops.push_back(bond);
  }
  return {{"from", best / n}, {"to", best % n}, {"distance", batch.spd[best]}, {"first_hops", hops}};
}

/// Modality letters: S, E, D for SPD, edge, distance; + where SPD and edge are both shown (no positions).
Json blend_json(const Batch& batch, const BlendRequest& request) {
  const auto n = static_cast<std::size_t>(batch.atoms());
  std::vector<std::uint8_t> pair(n * n), atom(n);
  Cpu cpu(1);
  const Blend blend;
  draw_modalities(cpu, {.packed = batch.packed(),
                        .molecule_key = batch.key.data(),
                        .has_positions = batch.has_positions.data(),
                        .blend = blend,
                        .pair_visible = pair.data(),
                        .atom_visible = atom.data()});
  const auto letter = [](std::uint8_t visible) {
    return visible == kShowSpd ? 'S' : visible == kShowEdge ? 'E' : visible == kShowDistance ? 'D' : '+';
  };
  Json rows = Json::array(), atoms = Json::array();
  std::array<std::size_t, 3> counts{};
  for (std::size_t i = 0; i < n; ++i) {
    std::string row;
    for (std::size_t j = 0; j < n; ++j) {
      const std::uint8_t visible = pair[i * n + j];
      row += letter(visible);
      for (std::size_t m = 0; m < counts.size(); ++m) counts[m] += (visible >> m) & 1u;
    }
    rows.push_back(row);
    atoms.push_back(atom[i] == kShowDegree ? "2D" : "3D");
  }
  return {{"seed", request.seed},
          {"epoch", request.epoch},
          {"probabilities", {{"spd", blend.pair_spd}, {"edge", blend.pair_edge}, {"distance", blend.pair_distance}}},
          {"shown", {{"spd", counts[0]}, {"edge", counts[1]}, {"distance", counts[2]}}},
          {"pairs", rows},
          {"atoms", atoms}};
}

std::string matrix_words(const Json& matrix, std::size_t columns) {
  std::size_t width = 1;
  for (const Json& row : matrix)
    for (const Json& d : row)
      width = std::max<std::size_t>(width, fmt::formatted_size("{}", d.get<int>() == kUnreachable ? 0 : d.get<int>()));
  std::string text;
  for (std::size_t i = 0; i < columns; ++i) {
    text += fmt::format("  {:>4} ", i);
    for (std::size_t j = 0; j < columns; ++j) {
      const int d = matrix[i][j].get<int>();
      text += d == kUnreachable ? fmt::format(" {:>{}}", ".", width) : fmt::format(" {:>{}}", d, width);
    }
    text += "\n";
  }
  return text;
}

}  // namespace

std::uint64_t find_molecule(const Dataset& dataset, const std::string& wanted) {
  std::uint64_t index = 0;
  const auto [end, error] = std::from_chars(wanted.data(), wanted.data() + wanted.size(), index);
  if (error == std::errc() && end == wanted.data() + wanted.size() && index < dataset.size()) return index;
  Molecule molecule;
  for (std::uint64_t i = 0; i < dataset.size(); ++i) {
    dataset.read(i, molecule);
    if (molecule.identifier == wanted) return i;
  }
  throw Error("there is no molecule \"{}\" in the data set: neither an index below {} nor an identifier; check it",
              wanted, dataset.size());
}

Json describe_molecule(const Dataset& dataset, std::uint64_t index, const BlendRequest& blend) {
  Molecule molecule;
  dataset.read(index, molecule);
  const auto& sources = dataset.info().sources;
  Json report = {{"kind", "molecule"},
                 {"index", index},
                 {"identifier", molecule.identifier},
                 {"smiles", molecule.smiles},
                 {"source", molecule.source_file < sources.size() ? sources[molecule.source_file].path : "?"},
                 {"source_record", molecule.source_record},
                 {"conformers", molecule.conformers},
                 {"conformer_source", kSource[static_cast<std::size_t>(molecule.conformer_source)]}};
  for (std::size_t k = 0; k < molecule.labels.size(); ++k)
    report["labels"][dataset.info().labels[k]] = molecule.labels[k];  // NaN, a missing one, becomes null
  for (std::size_t i = 0; i < molecule.size(); ++i) {
    Json atom = atom_json(i, molecule.atoms[i]);
    if (molecule.conformers > 0)
      atom["position"] = {molecule.positions[3 * i], molecule.positions[3 * i + 1], molecule.positions[3 * i + 2]};
    report["atoms"].push_back(atom);
  }
  report["bonds"] = Json::array();
  for (const Bond& b : molecule.bonds)
    report["bonds"].push_back(bond_json(b.begin, b.end, b.type, b.stereo, b.conjugated));

  Batch batch;
  RelationScratch scratch;
  batch.add(molecule, index, molecule_key(blend.seed, blend.epoch, index), 0, scratch);
  const std::size_t n = molecule.size();
  for (std::size_t i = 0; i < n; ++i)
    report["shortest_path_distance"].push_back(
        std::vector<int>(batch.spd.begin() + static_cast<std::ptrdiff_t>(i * n),
                         batch.spd.begin() + static_cast<std::ptrdiff_t>((i + 1) * n)));
  report["path_example"] = path_example(batch);
  if (blend.wanted) report["blend"] = blend_json(batch, blend);
  return report;
}

std::string words_of_molecule(const Json& r) {
  std::string text = fmt::format("molecule {}: {}\n{}\nfrom {}, record {}\n", r.at("index").get<std::uint64_t>(),
                                 r.at("identifier").get<std::string>(), r.at("smiles").get<std::string>(),
                                 r.at("source").get<std::string>(), r.at("source_record").get<std::uint64_t>());
  const Json labels = r.value("labels", Json::object());
  for (const auto& [label, value] : labels.items())
    text += value.is_number() && !std::isnan(value.get<double>())
                ? fmt::format("{} = {:g}\n", label, value.get<double>())
                : fmt::format("{} is missing\n", label);
  const bool positions = r.at("conformers").get<int>() > 0;
  text += positions ? fmt::format("conformers: {} (source: {}); positions of the first in ångström\n",
                                  r.at("conformers").get<int>(), r.at("conformer_source").get<std::string>())
                    : "no positions\n";

  text += "\n  atom        charge  H  degree  hybridisation\n";
  for (const Json& a : r.at("atoms")) {
    std::string remarks;
    if (a.at("aromatic").get<bool>()) remarks += " aromatic";
    if (a.at("in_ring").get<bool>()) remarks += " ring";
    if (a.at("chirality") != "unspecified") remarks += fmt::format(" {}", a.at("chirality").get<std::string>());
    if (a.at("radical_electrons") != "0")
      remarks += fmt::format(" {} radical electrons", a.at("radical_electrons").get<std::string>());
    std::string position;
    if (positions)
      position = fmt::format("{:9.4f}{:9.4f}{:9.4f}", a["position"][0].get<float>(), a["position"][1].get<float>(),
                             a["position"][2].get<float>());
    text += fmt::format("  {:>4} {:<2}     {:>6} {:>2}  {:>6}  {:<13}{}{}\n", a.at("atom").get<int>(),
                        a.at("element").get<std::string>(), a.at("charge").get<std::string>(),
                        a.at("hydrogens").get<std::string>(), a.at("degree").get<std::string>(),
                        a.at("hybridisation").get<std::string>(), position, remarks);
  }
  text += fmt::format("\n{} bonds\n", r.at("bonds").size());
  for (const Json& b : r.at("bonds"))
    text += fmt::format("  {:>4} - {:<4} {}\n", b.at("begin").get<int>(), b.at("end").get<int>(), bond_words(b));

  const Json& matrix = r.at("shortest_path_distance");
  const std::size_t columns = std::min(matrix.size(), kWideMatrix);
  text += fmt::format(
      "\nshortest path distances (hops; . = other fragment){}\n",
      columns < matrix.size() ? fmt::format(", first {} of {} atoms (all with --json)", columns, matrix.size()) : "");
  text += matrix_words(matrix, columns);
  const Json& path = r.at("path_example");
  if (path.at("distance").get<int>() > 0) {
    text += fmt::format("\npath from {} to {} ({} hops)", path.at("from").get<int>(), path.at("to").get<int>(),
                        path.at("distance").get<int>());
    const char* separator = ": ";
    for (const Json& hop : path.at("first_hops")) {
      text += fmt::format("{}{}", separator, bond_words(hop));
      separator = ", ";
    }
    text += path.at("distance").get<std::size_t>() > kPathHops ? ", … (five hops are used)\n" : "\n";
  }
  if (r.contains("blend")) {
    const Json& b = r.at("blend");
    text += fmt::format(
        "\nblend of seed {}, epoch {}: row atom sees column atom by S = SPD ({}), E = edge ({}), D = distance ({}){}\n",
        b.at("seed").get<std::uint64_t>(), b.at("epoch").get<std::uint64_t>(),
        b.at("shown").at("spd").get<std::size_t>(), b.at("shown").at("edge").get<std::size_t>(),
        b.at("shown").at("distance").get<std::size_t>(),
        positions ? "" : "; + = SPD and edge, as there are no positions");
    for (std::size_t i = 0; i < b.at("pairs").size(); ++i)
      text += fmt::format("  {:>4} {} {}\n", i, b["pairs"][i].get<std::string>(), b["atoms"][i].get<std::string>());
  }
  return text;
}

}  // namespace moleblend::inspect
