// moleblend: molecule files in, a pretrained molecular encoder out.

#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>

#include "apps/config_file.h"
#include "apps/rank_session.h"
#include "apps/verb.h"
#include "engine/model/batch_too_large.h"
#include "engine/ranks/agreement.h"
#include "io/prepare/reasons.h"
#include "io/support/error.h"
#include "io/support/fatal_signals.h"

namespace moleblend {

CLI::App* add_verb(CLI::App& program, const std::string& name, const std::string& description, CommonFlags& flags) {
  CLI::App* verb = program.add_subcommand(name, description);
  verb->add_flag("--json", flags.json, "Print results as JSON on standard output");
  verb->add_flag("--quiet", flags.quiet, "No progress; warnings and errors only");
  verb->add_option("--config", flags.config,
                   "Read flags from a TOML file: any flag of this verb without its dashes, as in `steps = 1000`");
  return verb;
}

void warn(const std::string& text) {
  std::cerr << "moleblend: warning: " << one_line(text) << "\n";
}

namespace {
/// CLI11 would only say that a subcommand is missing.
void check_verb(const CLI::App& program, const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0].starts_with("-")) return;
  std::vector<std::string> names;
  for (const CLI::App* verb : program.get_subcommands({})) names.push_back(verb->get_name());
  if (std::find(names.begin(), names.end(), arguments[0]) != names.end()) return;
  throw UsageError("there is no verb '{}'; choose {}", arguments[0], fmt::join(names, ", "));
}

/// What can be done about such a batch, by the flags that the verb has.
std::string remedy(const CLI::App& verb, const BatchTooLarge& batch) {
  const auto has = [&](const char* name) { return verb.get_option_no_throw(name) != nullptr; };
  if (has("--batch-atoms")) return fmt::format("lower --batch-atoms to {:.0f}", batch.atoms);
  if (has("--micro-batch-atoms"))
    return fmt::format("lower --batch-size, or keep it and cut it up with --micro-batch-atoms {:.0f}", batch.atoms);
  return fmt::format("lower --batch-size to {:.0f}", batch.molecules);
}
}  // namespace

}  // namespace moleblend

int main(int argc, char** argv) {
  using namespace moleblend;
  handle_fatal_signals();
  CLI::App program{
      "moleblend turns molecule files into a pretrained molecular encoder (MoleBLEND) and uses it.\n"
      "A usual day: prepare, pretrain, evaluate. `moleblend VERB --help` explains each verb."};
  program.set_version_flag("--version", "moleblend " MOLEBLEND_VERSION);
  program.require_subcommand(1);
  add_prepare(program);
  add_inspect(program);
  add_pretrain(program);
  add_replay(program);
  add_evaluate(program);
  add_finetune(program);
  add_predict(program);
  add_embed(program);
  add_bench(program);

  // Exit status: 2 for usage, 1 for failure; one line that says what, where, why and what to do.
  const auto run = [&] {
    try {
      std::vector<std::string> arguments = expand_config({argv + 1, argv + argc});
      check_verb(program, arguments);
      std::reverse(arguments.begin(), arguments.end());  // the order that CLI11 takes
      program.parse(std::move(arguments));
      return 0;
    } catch (const ExitStatus& e) {
      return e.status;
    } catch (const AnotherRankTells&) {
      return 0;
    } catch (const CLI::ParseError& e) {
      if (e.get_exit_code() == 0) return program.exit(e);  // --help, --version
      return end_over(fmt::format("{}; see `moleblend --help` or `moleblend VERB --help`", e.what()), 2);
    } catch (const BatchTooLarge& e) {
      return end_over(fmt::format("{}; {}", e.what(), remedy(*program.get_subcommands().front(), e)), 1);
    } catch (const UsageError& e) {
      return end_over(e.what(), 2);
    } catch (const std::exception& e) {
      return end_over(e.what(), 1);
    }
  };
  const int status = run();
  leave_ranks();
  return status;
}
