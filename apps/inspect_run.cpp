// Checkpoints and runs.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/inspect.h"
#include "engine/training/checkpoint.h"
#include "engine/training/checkpoint_store.h"
#include "engine/training/safetensors.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/progress.h"
#include "io/support/text_source.h"

namespace moleblend::inspect {
namespace {

namespace fs = std::filesystem;

Json parameter_table(const Safetensors& file) {
  Json table = Json::array();
  for (const Safetensors::Tensor& tensor : file.tensors()) {
    double squares = 0, largest = 0;
    bool finite = true;
    for (const double value : file.values<double>(tensor.name)) {
      squares += value * value;
      largest = std::max(largest, std::abs(value));
      finite &= std::isfinite(value);
    }
    table.push_back({{"name", tensor.name},
                     {"shape", tensor.shape},
                     {"count", tensor.count},
                     {"norm", std::sqrt(squares)},
                     {"largest", largest},
                     {"finite", finite}});
  }
  return table;
}

/// What read_checkpoint() found sound, as it stands in the file.
Json state_json(const fs::path& folder) {
  return Json::parse(read_file(folder / "state.json"));
}

std::string key_words(const Json& object, const std::string& prefix = "") {
  std::string text;
  for (const auto& [key, value] : object.items())
    text += value.is_object() ? key_words(value, prefix + key + ".")
                              : fmt::format("  {}{} = {}\n", prefix, key, value.dump());
  return text;
}

/// The lines of metrics.jsonl; a last line that was cut short is left out, as a resumed run would.
std::vector<Json> metric_lines(const fs::path& path) {
  std::vector<Json> lines;
  std::error_code none;
  if (!fs::exists(path, none)) return lines;
  TextSource source(path);
  for (std::string text; source.line(text);) {
    Json line = Json::parse(text, nullptr, false);
    if (line.is_object() && line.contains("step") && line["step"].is_number()) lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

Json describe_checkpoint(const fs::path& path) {
  Json report = {{"kind", "checkpoint"}, {"path", path.string()}};
  const bool folder = fs::is_directory(path);
  if (folder) {
    read_checkpoint(path);  // complete and undamaged, or an Error that says what is wrong
    report["state"] = state_json(path);
  }
  const Safetensors file = Safetensors::open(folder ? path / "model.safetensors" : path);
  std::int64_t count = 0;
  for (const Safetensors::Tensor& tensor : file.tensors()) count += tensor.count;
  report["parameter_count"] = count;
  report["parameters"] = parameter_table(file);
  return report;
}

std::string words_of_checkpoint(const Json& r) {
  std::string text = fmt::format("{}: {} parameters in {} tensors\n", r.at("path").get<std::string>(),
                                 count_text(r.at("parameter_count").get<std::uint64_t>()), r.at("parameters").size());
  if (r.contains("state")) text += key_words(r.at("state"));
  std::size_t name_width = 9, shape_width = 5;  // of the headings
  for (const Json& p : r.at("parameters")) {
    name_width = std::max(name_width, p.at("name").get<std::string>().size());
    shape_width = std::max(shape_width, p.at("shape").dump().size());
  }
  text += fmt::format("\n  {:<{}}  {:<{}} {:>12} {:>12}\n", "parameter", name_width, "shape", shape_width, "norm",
                      "largest");
  for (const Json& p : r.at("parameters")) {
    text += fmt::format("  {:<{}}  {:<{}} {:>12.5g} {:>12.5g}{}\n", p.at("name").get<std::string>(), name_width,
                        p.at("shape").dump(), shape_width, p.at("norm").get<double>(), p.at("largest").get<double>(),
                        p.at("finite").get<bool>() ? "" : "  has values that are not finite");
  }
  return text;
}

Json describe_run(const fs::path& folder) {
  Json report = {{"kind", "run"}, {"path", folder.string()}};
  std::error_code none;
  if (fs::exists(folder / "config.toml", none)) report["config"] = read_file(folder / "config.toml");
  Json steps = Json::array(), losses = Json::array();
  for (Json& line : metric_lines(folder / "metrics.jsonl")) {
    if (line.contains("valid")) report["last_validation"] = line;
    if (!line.contains("loss") || !line["loss"].is_number()) continue;
    steps.push_back(line["step"]);
    losses.push_back(line["loss"]);
    report["last"] = std::move(line);
  }
  report["steps"] = std::move(steps);
  report["losses"] = std::move(losses);
  report["checkpoints"] = Json::array();
  std::vector<fs::path> checkpoints;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints", none))
    if (entry.is_directory() && entry.path().filename().string().starts_with("step-"))
      checkpoints.push_back(entry.path());
  std::sort(checkpoints.begin(), checkpoints.end());
  for (const fs::path& path : checkpoints) {
    Json checkpoint = {{"name", path.filename().string()}};
    try {
      checkpoint["step"] = read_checkpoint(path).step;
    } catch (const Error& e) {
      checkpoint["damage"] = e.what();
    }
    report["checkpoints"].push_back(checkpoint);
  }
  const CheckpointStore store(folder / "checkpoints", {});
  if (const auto best = store.best([](const std::string&) {}))
    report["best_checkpoint"] = best->path.filename().string();
  return report;
}

std::string words_of_run(const Json& r) {
  constexpr std::size_t kWidth = 72, kHeight = 14;
  std::string text = r.at("path").get<std::string>() + "\n";
  if (r.contains("config")) text += fmt::format("\n{}", r.at("config").get<std::string>());
  text += fmt::format("\ncheckpoints: {}\n", r.at("checkpoints").size());
  for (const Json& c : r.at("checkpoints")) {
    const bool best = r.value("best_checkpoint", "") == c.at("name").get<std::string>();
    text += fmt::format("  {}{}{}\n", c.at("name").get<std::string>(), best ? "  the best by validation" : "",
                        c.contains("damage") ? fmt::format("  {}", c.at("damage").get<std::string>()) : "");
  }
  if (!r.contains("last")) return text + "\nno training step is logged yet\n";
  text +=
      fmt::format("\nlast logged step, {}\n", r.at("last").at("step").get<std::int64_t>()) + key_words(r.at("last"));
  if (r.contains("last_validation")) text += fmt::format("\nlast validation\n{}", key_words(r.at("last_validation")));
  text += fmt::format("\nloss by step\n{}", plot(r.at("steps").get<std::vector<double>>(),
                                                 r.at("losses").get<std::vector<double>>(), kWidth, kHeight));
  return text;
}

}  // namespace moleblend::inspect
