#include "io/prepare/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/support/error.h"

namespace moleblend {
namespace {

[[noreturn]] void fail(int error) {
  throw Error("can't start a reader process: {}; use fewer --workers", std::strerror(error));
}

void leave_files(int own) {
  // Other children's sockets and a folder's lock belong to the parent alone.
  if (own > 3) ::close_range(3, static_cast<unsigned>(own) - 1, 0);
  ::close_range(static_cast<unsigned>(own) + 1, ~0u, 0);
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3 && null >= 0; ++fd) ::dup2(null, fd);
}

void leave_signals() {
  // What becomes of the work is the parent's decision.
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGPIPE}) ::signal(number, SIG_IGN);
  for (const int fatal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL}) ::signal(fatal, SIG_DFL);
}

}  // namespace

ChildProcess start_child(const std::function<void(int socket)>& body) {
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) fail(errno);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    const int error = errno;
    ::close(sockets[0]);
    ::close(sockets[1]);
    fail(error);
  }
  if (pid > 0) {
    ::close(sockets[1]);
    return {pid, sockets[0]};
  }

  // In the child, which never returns from here.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  leave_files(sockets[1]);
  leave_signals();
  try {
    body(sockets[1]);
  } catch (...) {
    ::_exit(1);
  }
  ::_exit(0);
}

}  // namespace moleblend
