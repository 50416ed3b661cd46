#include "engine/property/settings.h"

#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "engine/training/settings.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;

/// The named values of a setting.
template <class T, std::size_t N>
using Names = std::array<std::pair<std::string_view, T>, N>;

constexpr Names<Shown, 3> kShown{{{"2d", {true, false}}, {"3d", {false, true}}, {"both", {true, true}}}};
constexpr Names<Readout, 3> kReadouts{{{"cls", Readout::cls}, {"mean", Readout::mean}, {"sum", Readout::sum}}};
constexpr Names<PropertyTask, 2> kTasks{
    {{"classification", PropertyTask::classification}, {"regression", PropertyTask::regression}}};

template <class T, std::size_t N>
T named(const Names<T, N>& names, std::string_view what, std::string_view name) {
  std::vector<std::string_view> choices;
  for (const auto& [choice, value] : names) {
    if (choice == name) return value;
    choices.push_back(choice);
  }
  throw UsageError("--{} can't be '{}'; choose {}", what, name, fmt::join(choices, " or "));
}

template <class T, std::size_t N>
std::string_view name_in(const Names<T, N>& names, const T& value) {
  for (const auto& [name, known] : names)
    if (known == value) return name;
  return names[0].first;
}

}  // namespace

Shown shown_named(std::string_view name) {
  return named(kShown, "show", name);
}
std::string_view name_of(Shown shown) {
  return name_in(kShown, shown);
}
Readout readout_named(std::string_view name) {
  return named(kReadouts, "readout", name);
}
std::string_view name_of(Readout readout) {
  return name_in(kReadouts, readout);
}
PropertyTask property_task_named(std::string_view name) {
  return named(kTasks, "task", name);
}
std::string_view name_of(PropertyTask task) {
  return name_in(kTasks, task);
}

void FinetuneSettings::check() const {
  const auto need = [](bool ok, std::string_view flag, std::string_view what) {
    if (!ok) throw UsageError("--{} {}", flag, what);
  };
  model.check();
  place.check();
  need(epochs > 0 && std::isfinite(epochs), "epochs", "must be positive");
  need(patience >= 0, "patience", "must not be negative (0: never stop early)");
  need(loader.batch_size >= 1, "batch-size", "must be at least 1");
  need(loader.micro_batch_atoms >= 0, "micro-batch-atoms", "must not be negative (0: no limit)");
  need(loader.threads >= 1 && loader.threads <= 1024, "loader-threads", "must lie between 1 and 1024");
  need(seeds >= 1 && seeds <= 1000, "seeds", "must lie between 1 and 1000");
  need(layer_decay > 0 && layer_decay <= 1, "layer-decay", "must be above 0 and at most 1");
  need(!freeze || layer_decay == 1, "layer-decay", "has nothing to slow with --freeze; leave one of them away");
  need(adam.clip_norm >= 0 && std::isfinite(adam.clip_norm), "clip", "must not be negative (0: no clipping)");
  need(adam.weight_decay >= 0 && adam.weight_decay < 1, "weight-decay", "must be at least 0 and below 1");
  need(log_every >= 1, "log-every", "must be at least 1");
  need(!balance_classes || head.task == PropertyTask::classification, "balance-classes",
       "is for --task classification");
  for (const double f : split.fractions) need(f >= 0 && f <= 1, "fractions", "must lie between 0 and 1");
  need(std::abs(std::accumulate(split.fractions.begin(), split.fractions.end(), 0.0) - 1) < 1e-9, "fractions",
       "of training, validation and test must sum to 1");
}

Json to_json(const PropertyHead& head) {
  Json targets = Json::array();
  for (const Target& t : head.targets) {
    Json target = {{"column", t.column}, {"factor", t.factor}, {"unit", t.unit}};
    if (head.task == PropertyTask::regression) {
      target["mean"] = t.mean, target["std"] = t.std;
    } else {
      target["positive_weight"] = t.positive_weight;
    }
    targets.push_back(std::move(target));
  }
  return {{"task", name_of(head.task)},
          {"readout", name_of(head.readout)},
          {"show", name_of(head.shown)},
          {"all_conformers", head.all_conformers},
          {"targets", targets}};
}

PropertyHead property_head_from(const Json& json) {
  PropertyHead head;
  head.task = property_task_named(json.at("task").get<std::string>());
  head.readout = readout_named(json.at("readout").get<std::string>());
  head.shown = shown_named(json.at("show").get<std::string>());
  json.at("all_conformers").get_to(head.all_conformers);
  for (const Json& t : json.at("targets")) {
    Target target;
    t.at("column").get_to(target.column);
    t.at("factor").get_to(target.factor);
    t.at("unit").get_to(target.unit);
    target.mean = t.value("mean", 0.0);
    target.std = t.value("std", 1.0);
    target.positive_weight = t.value("positive_weight", 1.0);
    head.targets.push_back(std::move(target));
  }
  return head;
}

SplitChoice split_choice_from(const Json& json) {
  SplitChoice choice;
  json.at("rule").get_to(choice.rule);
  json.at("fractions").get_to(choice.fractions);
  json.at("counts").get_to(choice.counts);
  json.at("file").get_to(choice.file);
  json.at("column").get_to(choice.column);
  json.at("seed").get_to(choice.seed);
  return choice;
}

Json to_json(const FinetuneSettings& s, std::uint64_t seed) {
  return {{"model", to_json(s.model)},
          {"init", s.init},
          {"head", to_json(s.head)},
          {"split",
           {{"rule", s.split.rule},
            {"fractions", s.split.fractions},
            {"counts", s.split.counts},
            {"file", s.split.file},
            {"column", s.split.column},
            {"seed", s.split.seed}}},
          {"balance_classes", s.balance_classes},
          {"freeze", s.freeze},
          {"layer_decay", s.layer_decay},
          {"metric", name_of(s.metric)},
          {"epochs", s.epochs},
          {"patience", s.patience},
          {"schedule", name_of(s.schedule.decay)},
          {"lr", s.schedule.peak},
          {"steps", s.schedule.steps},
          {"warmup", s.schedule.warmup},
          {"final_lr", s.schedule.floor},
          {"weight_decay", s.adam.weight_decay},
          {"clip", s.adam.clip_norm},
          {"batch_size", s.loader.batch_size},
          {"micro_batch_atoms", s.loader.micro_batch_atoms},
          {"random_conformer", s.loader.random_conformer},
          {"seed", seed},
          {"precision", s.place.precision}};
}

}  // namespace moleblend
