#include "engine/ranks/host.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>

namespace moleblend {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

std::string machine_id() {
  // Of the running kernel: containers may all have the same name, or each one of its own.
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  return std::getline(file, id) ? id : host_name();
}

int rank_on_host(Ranks& ranks) {
  const std::vector<std::string> hosts = ranks.gather(machine_id());
  return static_cast<int>(
      std::count(hosts.begin(), hosts.begin() + ranks.rank(), hosts[static_cast<std::size_t>(ranks.rank())]));
}

}  // namespace moleblend
