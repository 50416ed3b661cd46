#include "io/support/fatal_signals.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace moleblend {
namespace {

// In a signal handler only what is safe there: system calls and own memory, no allocation.

void put(std::string_view text) {
  (void)!::write(STDERR_FILENO, text.data(), text.size());
}

/// The path in a line of /proc/self/maps ("begin-end modes offset device inode path") if its range holds the address.
std::string_view path_of_map(std::string_view line, std::uintptr_t address) {
  std::uintptr_t begin = 0, end = 0;
  const auto dash = std::from_chars(line.data(), line.data() + line.size(), begin, 16);
  if (dash.ec != std::errc() || *dash.ptr != '-') return {};
  if (std::from_chars(dash.ptr + 1, line.data() + line.size(), end, 16).ec != std::errc()) return {};
  const std::size_t slash = line.find('/');
  return begin <= address && address < end && slash != std::string_view::npos ? line.substr(slash) : std::string_view();
}

void put_mapped_file(std::uintptr_t address) {
  static char buffer[1 << 14];
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  std::size_t filled = 0;
  for (ssize_t got; maps >= 0 && (got = ::read(maps, buffer + filled, sizeof buffer - filled)) > 0;) {
    filled += static_cast<std::size_t>(got);
    std::string_view rest(buffer, filled);
    for (std::size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
      if (const std::string_view path = path_of_map(rest.substr(0, end), address); !path.empty()) return put(path);
    }
    std::memmove(buffer, rest.data(), rest.size());
    filled = rest.size();
  }
  put("a mapped file");
}

void on_bus_error(int signal, siginfo_t* info, void*) {
  if (info->si_code != BUS_ADRERR) {  // no file's fault
    ::signal(signal, SIG_DFL);
    ::raise(signal);
    return;
  }
  put("moleblend: can't read ");
  put_mapped_file(reinterpret_cast<std::uintptr_t>(info->si_addr));
  put(": it was made shorter while it was read, or its disk fails; put it back, then run again\n");
  ::_exit(1);
}

}  // namespace

void handle_fatal_signals() {
  ::signal(SIGXFSZ, SIG_IGN);
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace moleblend
