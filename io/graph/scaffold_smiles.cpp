#include "io/graph/scaffold_smiles.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "io/chemistry/rules/elements.h"
#include "io/graph/bond_type.h"
#include "io/graph/canonical_order.h"

namespace moleblend {
namespace {

/// Half bond orders, so that aromatic bonds are whole numbers. A misc bond takes no valence.
int half_orders(std::uint8_t type) {
  constexpr int kHalves[] = {2, 4, 6, 3, 0};
  return kHalves[std::min<std::uint8_t>(type, kMisc)];
}

/// Whether a SMILES needs no brackets to say this atom, hydrogens included.
bool is_plain(const SmilesAtom& atom, int orders) {
  if (atom.charge != 0) return false;
  switch (atom.element) {
    case 6:
      return atom.hydrogens == usual_hydrogens(6, 0, orders);
    case 7:
    case 8:
    case 15:
    case 16:
      return atom.hydrogens == (atom.aromatic ? 0 : usual_hydrogens(atom.element, 0, orders));
    case 5:
    case 9:
    case 17:
    case 35:
    case 53:
      return !atom.aromatic && atom.hydrogens == usual_hydrogens(atom.element, 0, orders);
    default:
      return false;
  }
}

std::string atom_text(const SmilesAtom& atom, int orders) {
  std::string symbol = chemistry::element_symbol(atom.element);
  if (atom.aromatic && symbol[0] >= 'A') symbol[0] = static_cast<char>(symbol[0] - 'A' + 'a');
  if (is_plain(atom, orders)) return symbol;
  std::string text = "[" + symbol;
  if (atom.hydrogens > 0) text += atom.hydrogens == 1 ? "H" : fmt::format("H{}", atom.hydrogens);
  if (atom.charge == 1 || atom.charge == -1)
    text += atom.charge > 0 ? "+" : "-";
  else if (atom.charge != 0)
    text += fmt::format("{:+d}", atom.charge);
  return text + "]";
}

/// Writes one fragment: a walk from the first atom in canonical order, neighbours in that order too.
class Fragment {
 public:
  Fragment(std::vector<SmilesAtom> atoms, ColouredGraph graph)
      : atoms_(std::move(atoms)),
        graph_(std::move(graph)),
        time_(graph_.size()),
        branches_(graph_.size()),
        closures_(graph_.size()),
        closing_(graph_.size()) {
    const std::vector<std::uint32_t> place = canonical_order(graph_).place;
    for (auto& edges : graph_.neighbours)
      std::sort(edges.begin(), edges.end(), [&](const Edge& a, const Edge& b) { return place[a.to] < place[b.to]; });
    const auto first = static_cast<std::uint32_t>(std::find(place.begin(), place.end(), 0u) - place.begin());
    walk(first, first);
    write(first);
  }

  std::string text() && { return std::move(text_); }

 private:
  using Edge = ColouredGraph::Edge;

  /// Finds branches and ring closures.
  void walk(std::uint32_t v, std::uint32_t from) {
    time_[v] = ++clock_;
    for (const Edge& edge : graph_.neighbours[v]) {
      if (edge.to == from) continue;
      if (time_[edge.to] == 0) {
        branches_[v].push_back(edge);
        walk(edge.to, v);
      } else if (time_[edge.to] < time_[v]) {
        closures_[edge.to].push_back({v, edge.colour});  // opened there, as that is written first
      }
    }
  }

  void write(std::uint32_t v) {
    while (true) {
      int halves = 0;
      for (const Edge& edge : graph_.neighbours[v]) halves += half_orders(static_cast<std::uint8_t>(edge.colour));
      text_ += atom_text(atoms_[v], halves / 2);
      for (const int number : closing_[v]) text_ += closure_text(number);
      for (const Edge& edge : closures_[v]) {
        text_ += bond_text(v, edge) + closure_text(++rings_);
        closing_[edge.to].push_back(rings_);
      }
      if (branches_[v].empty()) return;
      for (std::size_t k = 0; k + 1 < branches_[v].size(); ++k) {
        text_ += "(" + bond_text(v, branches_[v][k]);
        write(branches_[v][k].to);
        text_ += ")";
      }
      text_ += bond_text(v, branches_[v].back());
      v = branches_[v].back().to;
    }
  }

  std::string bond_text(std::uint32_t v, const Edge& edge) const {
    const bool aromatic = atoms_[v].aromatic && atoms_[edge.to].aromatic;
    switch (edge.colour) {
      case kSingle:
        return aromatic ? "-" : "";
      case kDouble:
        return "=";
      case kTriple:
        return "#";
      case kAromatic:
        return aromatic ? "" : ":";
      default:
        return "~";
    }
  }

  static std::string closure_text(int number) {
    return number < 10    ? fmt::format("{}", number)
           : number < 100 ? fmt::format("%{}", number)
                          : fmt::format("%({})", number);
  }

  std::vector<SmilesAtom> atoms_;
  ColouredGraph graph_;
  std::uint32_t clock_ = 0;
  std::vector<std::uint32_t> time_;                     // of the walk's arrival, from 1
  std::vector<std::vector<Edge>> branches_, closures_;  // of each atom: where the walk goes on, and the rings that open
  std::vector<std::vector<int>> closing_;               // the rings that close
  int rings_ = 0;
  std::string text_;
};

/// Numbers the fragments; returns that of each atom.
std::vector<std::uint32_t> fragments(const std::vector<std::vector<ColouredGraph::Edge>>& neighbours,
                                     std::uint32_t& count) {
  constexpr std::uint32_t kNone = ~0u;
  std::vector<std::uint32_t> fragment(neighbours.size(), kNone), open;
  for (std::uint32_t start = 0; start < neighbours.size(); ++start) {
    if (fragment[start] != kNone) continue;
    fragment[start] = count;
    open.push_back(start);
    while (!open.empty()) {
      const std::uint32_t v = open.back();
      open.pop_back();
      for (const auto& edge : neighbours[v]) {
        if (fragment[edge.to] != kNone) continue;
        fragment[edge.to] = count;
        open.push_back(edge.to);
      }
    }
    ++count;
  }
  return fragment;
}

/// One number for all that the text tells of an atom.
std::uint32_t colour_of(const SmilesAtom& atom) {
  const auto part = [](int value) { return static_cast<std::uint32_t>(value) & 0xFFu; };
  return part(atom.element) << 24 | part(atom.charge + 128) << 16 | part(atom.hydrogens) << 8 | part(atom.aromatic);
}

}  // namespace

int usual_hydrogens(int element, int charge, int bond_orders) {
  if (chemistry::allowed_valences(element).empty()) return 0;  // transition metals, whatever their charge
  for (const int valence : chemistry::allowed_valences(element - charge)) {
    if (valence >= bond_orders) return valence - bond_orders;
  }
  return 0;
}

std::string canonical_smiles(const std::vector<SmilesAtom>& atoms, const std::vector<SmilesBond>& bonds) {
  std::vector<std::vector<ColouredGraph::Edge>> neighbours(atoms.size());
  for (const SmilesBond& bond : bonds) {
    neighbours[bond.begin].push_back({bond.end, bond.type});
    neighbours[bond.end].push_back({bond.begin, bond.type});
  }
  std::uint32_t count = 0;
  const std::vector<std::uint32_t> fragment = fragments(neighbours, count);
  std::vector<std::vector<SmilesAtom>> parts(count);
  std::vector<ColouredGraph> graphs(count);
  std::vector<std::uint32_t> place(atoms.size());  // in its fragment
  for (std::size_t v = 0; v < atoms.size(); ++v) {
    place[v] = static_cast<std::uint32_t>(parts[fragment[v]].size());
    parts[fragment[v]].push_back(atoms[v]);
    graphs[fragment[v]].colours.push_back(colour_of(atoms[v]));
  }
  for (std::size_t v = 0; v < atoms.size(); ++v) {
    for (auto& edge : neighbours[v]) edge.to = place[edge.to];
    graphs[fragment[v]].neighbours.push_back(std::move(neighbours[v]));
  }
  std::vector<std::string> texts;
  for (std::uint32_t k = 0; k < count; ++k) texts.push_back(Fragment(std::move(parts[k]), std::move(graphs[k])).text());
  std::sort(texts.begin(), texts.end());
  return fmt::format("{}", fmt::join(texts, "."));
}

}  // namespace moleblend
