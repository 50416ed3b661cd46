#pragma once
// What a measurement of `moleblend bench` gives.

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace moleblend {

/// One figure.
struct BenchRow {
  std::string name;       // "train.base.fp32.n14": scripts look for it
  double value = 0;       //
  std::string unit = {};  // "molecules/s", "GFLOP/s", "MiB"
  std::optional<bool> correct =
      std::nullopt;  // the check beside the figure; none where there is nothing to check (a ceiling)
  std::optional<double> share_of_floor =
      std::nullopt;  // value / the best that the ceilings measured in the same run allow
  // Whose operation it is, "cuDNN 9.19.0"; empty: ours. What is wrong with another's is no failure of ours.
  std::string library = {};
  std::string missing = {};  // why there is no figure, in one line; then only the name and the library count
  nlohmann::ordered_json detail = nlohmann::ordered_json::object();  // whatever else was seen: sizes, times, errors
};

/// Takes a finished row, so that it can be shown at once.
using BenchSink = std::function<void(BenchRow)>;

}  // namespace moleblend
