#pragma once
// What the verbs have in common that run a trained model over molecules from files or a data set and keep none of them.

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "apps/input_flags.h"
#include "apps/verb.h"
#include "engine/evaluation/stream_summary.h"
#include "engine/model/make_model.h"
#include "io/prepare/molecule_source.h"
#include "io/prepare/reader_pool.h"

namespace moleblend {

struct StreamFlags {
  CommonFlags common;
  InputFlags input;
  InputOptions options;
  std::string checkpoint, data, output;
  std::int64_t batch_atoms = 0;  // 0: what suits the device
  DeviceChoice place;

  /// Completes the options and batch_atoms. Throws UsageError.
  void resolve();
};

/// Adds --data, --batch-atoms, the machine's flags and those of the input, which write into `flags`.
void add_stream_flags(CLI::App& verb, StreamFlags& flags);

struct OpenedSource {
  std::unique_ptr<Chemistry> chemistry;  // of the source
  std::unique_ptr<MoleculeSource> source;
};
/// Forks reader processes, so there must be no thread and no use of a GPU before it. Throws as what it opens.
OpenedSource open_stream(const StreamFlags& flags);

/// Runs `work`, which a signal may interrupt: then it throws ExitStatus with the signal's.
void until_interrupted(const std::function<void()>& work);

/// Of the summary what all such verbs report.
void add_summary(nlohmann::ordered_json& json, const StreamSummary& summary);
/// The same for people. `why`: "the index says why"; `done`: "embedded".
void print_summary(const StreamFlags& flags, const StreamSummary& summary, std::string_view why, std::string_view done);
void print_json(const nlohmann::ordered_json& json);

}  // namespace moleblend
