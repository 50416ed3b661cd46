#include "engine/ranks/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "io/support/checksum.h"
#include "io/support/error.h"

namespace moleblend {

void first_tells(Ranks& ranks) {
  ranks.all_leave();
  if (!ranks.first()) throw AnotherRankTells();
}

TargetCounts sum_over(Ranks& ranks, const TargetCounts& c, std::int64_t& molecules, std::int64_t& tokens) {
  std::array values{c.spd_pairs, c.edge_hops, c.distance_molecules, c.denoise_atoms, molecules, tokens};
  ranks.sum(std::span<std::int64_t>(values));
  molecules = values[4], tokens = values[5];
  return {.spd_pairs = values[0], .edge_hops = values[1], .distance_molecules = values[2], .denoise_atoms = values[3]};
}

PretrainResult sum_over(Ranks& ranks, const PretrainResult& result) {
  // Counts are exact in double up to 2^53.
  PretrainResult sum = result;
  std::vector<double> values;
  const auto for_each = [](PretrainResult& r, auto&& f) {
    for (double* v : {&r.spd, &r.edge, &r.distance, &r.denoise, &r.total, &r.denoise_cosine}) f(*v);
    f(r.denoise_atoms);
    for (PairLossResult* p : {&r.spd_detail, &r.edge_detail, &r.distance_detail}) {
      f(p->loss), f(p->count), f(p->correct), f(p->pairs), f(p->pair_error);
    }
  };
  for_each(sum, [&](auto& v) { values.push_back(static_cast<double>(v)); });
  ranks.sum(std::span(values));
  auto value = values.begin();
  for_each(sum, [&](auto& v) { v = static_cast<std::remove_reference_t<decltype(v)>>(*value++); });
  return sum;
}

double of_first(Ranks& ranks, double value) {
  double own = ranks.first() ? value : 0;
  ranks.sum(std::span(&own, 1));
  return own;
}

int any_signal(Ranks& ranks, int own) {
  // Signals here have numbers below 64: how many ranks had each.
  std::array<std::int64_t, 64> had{};
  had[static_cast<std::size_t>(own)] = own != 0;
  ranks.sum(std::span<std::int64_t>(had));
  const auto first = std::find_if(had.begin(), had.end(), [](std::int64_t count) { return count > 0; });
  return first == had.end() ? 0 : static_cast<int>(first - had.begin());
}

namespace {

/// Texts that differ, with the ranks that say them: "rank 0: …", "rank 1 and 2 more: …"; one text without ranks if all say it.
std::string told(const std::vector<std::string>& texts) {
  std::vector<std::pair<std::string, std::vector<std::size_t>>> groups;
  for (std::size_t r = 0; r < texts.size(); ++r) {
    if (texts[r].empty()) continue;
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == texts[r]; });
    if (same == groups.end())
      groups.push_back({texts[r], {r}});
    else
      same->second.push_back(r);
  }
  if (groups.size() == 1 && groups[0].second.size() == texts.size()) return groups[0].first;
  std::string all;
  for (const auto& [text, ranks] : groups)
    all += fmt::format("{}rank {}{}: {}", all.empty() ? "" : "; ", ranks[0],
                       ranks.size() > 1 ? fmt::format(" and {} more", ranks.size() - 1) : "", text);
  return all;
}

}  // namespace

void together(Ranks& ranks, const std::function<void()>& work) {
  if (ranks.size() == 1) return work();
  // What went wrong, after a letter for its kind.
  std::string failure;
  try {
    work();
  } catch (const UsageError& error) {
    failure = fmt::format("u{}", error.what());
  } catch (const std::exception& error) {
    failure = fmt::format("e{}", error.what());
  }
  std::vector<std::string> failures = ranks.gather(failure);
  if (std::all_of(failures.begin(), failures.end(), [](const std::string& f) { return f.empty(); })) return;
  bool usage = true;
  for (std::string& f : failures) {
    if (f.empty()) continue;
    usage &= f[0] == 'u';
    f.erase(0, 1);
  }
  first_tells(ranks);
  if (usage) throw UsageError("{}", told(failures));
  throw Error("{}", told(failures));
}

void check_same(Ranks& ranks, const std::string& what, const std::string& text, const std::string& remedy) {
  const std::vector<std::string> all = ranks.gather(text);
  const auto other = std::find_if(all.begin(), all.end(), [&](const std::string& t) { return t != all[0]; });
  if (other == all.end()) return;
  first_tells(ranks);
  throw Error("the ranks differ in their {}: {} on rank 0, {} on rank {}; {}", what, all[0], *other,
              other - all.begin(), remedy);
}

void check_same_values(Ranks& ranks, const Model& model, std::int64_t step) {
  if (ranks.size() == 1) return;
  std::vector<float> values(static_cast<std::size_t>(model.parameter_count()));
  std::uint32_t sum = 0;
  for (int moment = 0; moment < 3; ++moment) {
    model.read(moment, values);
    sum = crc32(std::as_bytes(std::span(values)), sum);
  }
  check_same(ranks, fmt::format("parameters after step {}", step), fmt::format("checksum {:08x}", sum),
             "go on with --resume from the last checkpoint, on other machines if it happens again");
}

}  // namespace moleblend
