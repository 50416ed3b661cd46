#pragma once
// Processes that work for this one and never outlive it.

#include <sys/types.h>

#include <functional>

namespace moleblend {

struct ChildProcess {
  pid_t pid = -1;
  int socket = -1;  // to the child; closed when a fork of another child begins its work
};

/// Forks a child that runs `body` with its end of a stream socket and then ends: with status 0, or 1 if `body` throws. Of this process's
/// files it has no other (standard input, output and error are /dev/null), it ignores SIGINT, SIGTERM and SIGUSR1, which a terminal or a
/// batch system sends to the whole group, and it is killed when the thread that made it ends. The caller must have one thread only.
/// Throws Error if the system refuses.
ChildProcess start_child(const std::function<void(int socket)>& body);

}  // namespace moleblend
