#include "apps/rank_session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <iostream>
#include <memory>

#include "engine/ranks/start_ranks.h"
#include "io/prepare/reasons.h"

namespace moleblend {
namespace {
std::unique_ptr<Ranks> joined;

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}
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

std::string table_of(Ranks& ranks, const std::string& place) {
  const std::vector<std::string> lines =
      ranks.gather(fmt::format("{:<20} {:<40} {}", host_name(), place, MOLEBLEND_VERSION));
  std::string table = fmt::format("           {:>5} {:<20} {:<40} {}\n", "rank", "host", "device", "moleblend");
  for (std::size_t r = 0; r < lines.size(); ++r) table += fmt::format("           {:>5} {}\n", r, lines[r]);
  return table;
}

}  // namespace moleblend
