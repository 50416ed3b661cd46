#include "engine/ranks/host.h"

#include <unistd.h>

#include <algorithm>
#include <array>

namespace moleblend {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

int rank_on_host(Ranks& ranks) {
  const std::vector<std::string> hosts = ranks.gather(host_name());
  return static_cast<int>(
      std::count(hosts.begin(), hosts.begin() + ranks.rank(), hosts[static_cast<std::size_t>(ranks.rank())]));
}

}  // namespace moleblend
