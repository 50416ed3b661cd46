#include "apps/rank_session.h"

#include <fmt/format.h>

#include <iostream>
#include <memory>

#include "engine/ranks/agreement.h"
#include "engine/ranks/host.h"
#include "engine/ranks/start_ranks.h"
#include "io/prepare/reasons.h"
#include "io/support/error.h"

namespace moleblend {
namespace {
std::unique_ptr<Ranks> joined;
}  // namespace

Ranks& join_ranks(double deadline_s) {
  joined = start_ranks({.deadline_s = deadline_s});
  return *joined;
}

int end_over(const std::string& what, int status) {
  const bool many = joined && joined->size() > 1;
  const bool tell_rank = many && !joined->leaving();
  std::cerr << "moleblend: "
            << (tell_rank ? fmt::format("rank {} on {}: ", joined->rank(), host_name()) : std::string())
            << one_line(what) << std::endl;
  if (tell_rank) joined->abort(status);
  return status;
}

void leave_ranks() {
  joined.reset();
}

void check_same_start(Ranks& ranks, std::int64_t batch_size, const DeviceChoice& place, const Dataset& data) {
  if (batch_size < ranks.size()) {
    first_tells(ranks);
    throw UsageError(
        "a batch of {} molecules leaves some of the {} ranks without one; raise --batch-size, or start fewer",
        batch_size, ranks.size());
  }
  check_same(ranks, "version", MOLEBLEND_VERSION, kSameStart);
  check_same(ranks, "device", place.device + ", " + place.precision, kSameStart);
  check_same(ranks, "data set", data.info().fingerprint, kSameStart);
}

std::optional<CheckpointStore::Found> share_checkpoint(
    Ranks& ranks, const std::function<std::optional<CheckpointStore::Found>()>& find) {
  std::optional<CheckpointStore::Found> found;
  together(ranks, [&] {
    if (ranks.first()) found = find();
  });
  const std::string path = ranks.gather(found ? found->path.string() : "")[0];
  together(ranks, [&] {
    if (!ranks.first() && !path.empty()) found = {path, read_checkpoint(path)};
  });
  return found;
}

std::string table_of(Ranks& ranks, const std::string& place) {
  const std::vector<std::string> lines =
      ranks.gather(fmt::format("{:<20} {:<40} {}", host_name(), place, MOLEBLEND_VERSION));
  std::string table = fmt::format("           {:>5} {:<20} {:<40} {}\n", "rank", "host", "device", "moleblend");
  for (std::size_t r = 0; r < lines.size(); ++r) table += fmt::format("           {:>5} {}\n", r, lines[r]);
  return table;
}

}  // namespace moleblend
