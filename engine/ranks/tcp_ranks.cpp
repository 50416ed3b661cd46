#include "engine/ranks/tcp_ranks.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "io/support/error.h"

namespace moleblend {
namespace {

using Clock = std::chrono::steady_clock;

std::string last_message() {
  return std::system_category().message(errno);
}

class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& o) noexcept : descriptor_(std::exchange(o.descriptor_, -1)) {}
  Socket& operator=(Socket&& o) noexcept {
    std::swap(descriptor_, o.descriptor_);
    return *this;
  }
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const { return descriptor_; }
  explicit operator bool() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

class Deadline {
 public:
  explicit Deadline(double seconds)
      : end_(Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds))) {}
  bool over() const { return Clock::now() >= end_; }

 private:
  Clock::time_point end_;
};
constexpr int kSliceMs = 50;  // of waiting, before it is looked whether to go on

/// Bytes that are on their way to and from one rank.
struct Transfer {
  int descriptor;
  const std::byte* send;
  std::size_t send_left;
  std::byte* receive;
  std::size_t receive_left;

  bool done() const { return send_left == 0 && receive_left == 0; }
  /// What poll() is to wait for.
  int events() const { return (send_left > 0 ? POLLOUT : 0) | (receive_left > 0 ? POLLIN : 0); }
  /// What goes without waiting. False where the other side is gone; errno is 0 where it has hung up.
  bool go_on() {
    while (send_left > 0) {
      const ssize_t sent = ::send(descriptor, send, send_left, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) break;
      if (sent < 0) return false;
      send += sent, send_left -= static_cast<std::size_t>(sent);
    }
    while (receive_left > 0) {
      const ssize_t came = ::recv(descriptor, receive, receive_left, MSG_DONTWAIT);
      if (came < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) break;
      if (came == 0) errno = 0;
      if (came <= 0) return false;
      receive += came, receive_left -= static_cast<std::size_t>(came);
    }
    return true;
  }
};

/// All of it, or false.
bool complete(Transfer t, const Deadline& deadline) {
  while (t.go_on()) {
    if (t.done()) return true;
    if (deadline.over()) return false;
    pollfd p{t.descriptor, static_cast<short>(t.events()), 0};
    ::poll(&p, 1, kSliceMs);
  }
  return false;
}
bool send_all(int descriptor, const void* bytes, std::size_t count, const Deadline& deadline) {
  return complete({descriptor, static_cast<const std::byte*>(bytes), count, nullptr, 0}, deadline);
}
bool receive_all(int descriptor, void* bytes, std::size_t count, const Deadline& deadline) {
  return complete({descriptor, nullptr, 0, static_cast<std::byte*>(bytes), count}, deadline);
}

/// Numbers of one machine are those of all: the ranks of a run have one program.
struct Hello {
  std::array<char, 16> program{};
  std::array<char, 64> job{};
  std::int32_t rank = 0, size = 0;
  std::uint32_t port = 0;  // on which this rank listens
};
constexpr std::string_view kProgram = "moleblend ranks";

/// Where a rank listens.
struct Address {
  sockaddr_storage address{};
  socklen_t length = 0;
};

void set_port(sockaddr_storage& a, std::uint16_t port) {
  if (a.ss_family == AF_INET6)
    reinterpret_cast<sockaddr_in6&>(a).sin6_port = htons(port);
  else
    reinterpret_cast<sockaddr_in&>(a).sin_port = htons(port);
}

std::uint16_t port_of(const sockaddr_storage& a) {
  return ntohs(a.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(a).sin6_port
                                       : reinterpret_cast<const sockaddr_in&>(a).sin_port);
}

/// An address that means another machine on each machine.
bool is_loopback(const sockaddr_storage& a) {
  if (a.ss_family == AF_INET) return ntohl(reinterpret_cast<const sockaddr_in&>(a).sin_addr.s_addr) >> 24 == 127;
  const in6_addr& b = reinterpret_cast<const sockaddr_in6&>(a).sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&b) || (IN6_IS_ADDR_V4MAPPED(&b) && b.s6_addr[12] == 127);
}

class TcpRanks final : public Ranks {
 public:
  explicit TcpRanks(const TcpPlace& place)
      : place_(place), peers_(static_cast<std::size_t>(place.size)), transfers_(peers_.size()) {
    const Deadline deadline(place.deadline_s);
    listen_on(place_.rank == 0 ? place_.port : std::uint16_t{0});
    std::vector<Address> addresses(peers_.size());
    // Rank 0 waits for all before it tells them of each other, so that those who then call find all listening.
    if (place_.rank == 0) {
      answer(place_.size - 1, &addresses, deadline);
      for (std::size_t r = 1; r < peers_.size(); ++r)
        if (!send_all(peers_[r].get(), addresses.data(), addresses.size() * sizeof(Address), deadline)) lost(r);
    } else {
      const Address first = look_up(deadline);
      call(0, first, deadline);
      if (!receive_all(peers_[0].get(), addresses.data(), addresses.size() * sizeof(Address), deadline)) lost(0);
      for (std::size_t r = 1; r < static_cast<std::size_t>(place_.rank); ++r) {
        Address a = addresses[r];
        if (is_loopback(a.address)) {  // it is on the machine of rank 0
          a = first;
          set_port(a.address, port_of(addresses[r].address));
        }
        call(static_cast<int>(r), a, deadline);
      }
      answer(place_.size - 1 - place_.rank, nullptr, deadline);
    }
    listener_ = {};
  }

  int rank() const override { return place_.rank; }
  int size() const override { return place_.size; }
  double deadline_s() const override { return place_.deadline_s; }
  /// The others notice that the connections end.
  [[noreturn]] void abort(int status) override { std::_Exit(status); }
  void cancel() override { cancelled_ = true; }

 private:
  void listen_on(std::uint16_t port) {
    sockaddr_in6 a{};
    a.sin6_family = AF_INET6;
    a.sin6_addr = in6addr_any;
    a.sin6_port = htons(port);
    listener_ = Socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int off = 0, on = 1;
    bool open = static_cast<bool>(listener_);
    if (open) {
      ::setsockopt(listener_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
      ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      open = ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
    } else {  // a machine without IPv6
      sockaddr_in b{};
      b.sin_family = AF_INET;
      b.sin_port = htons(port);
      listener_ = Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      open = listener_ && ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&b), sizeof b) == 0;
    }
    if (!open || ::listen(listener_.get(), place_.size) != 0)
      throw Error("rank {} can't listen on TCP port {}: {}; give all ranks a free one in MASTER_PORT", place_.rank,
                  port, last_message());
  }

  std::uint16_t own_port() const {
    sockaddr_storage a{};
    socklen_t length = sizeof a;
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&a), &length);
    return port_of(a);
  }

  /// Rank 0's. A name may not be known yet when a job's machines have just begun.
  Address look_up(const Deadline& deadline) const {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    for (;;) {
      addrinfo* found = nullptr;
      const int status = ::getaddrinfo(place_.host.c_str(), nullptr, &hints, &found);
      if (status == 0 && found) {
        Address a;
        std::memcpy(&a.address, found->ai_addr, found->ai_addrlen);
        a.length = found->ai_addrlen;
        ::freeaddrinfo(found);
        set_port(a.address, place_.port);
        return a;
      }
      if (deadline.over())
        throw Error("rank {} can't find the machine {} of rank 0: {}; name it in MASTER_ADDR", place_.rank, place_.host,
                    ::gai_strerror(status));
      std::this_thread::sleep_for(std::chrono::milliseconds(kSliceMs));
    }
  }

  Hello own_hello() const {
    Hello h;
    kProgram.copy(h.program.data(), h.program.size() - 1);
    place_.job.copy(h.job.data(), h.job.size() - 1);
    h.rank = place_.rank, h.size = place_.size, h.port = own_port();
    return h;
  }
  bool is_ours(const Hello& h) const {
    const Hello own = own_hello();
    return h.program == own.program && h.job == own.job && h.size == own.size && h.rank >= 0 && h.rank < place_.size &&
           h.rank != place_.rank;
  }

  void call(int rank, const Address& to, const Deadline& deadline) {
    for (;;) {
      Socket s(::socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const timeval patience{.tv_sec = 5, .tv_usec = 0};  // of connect()
      ::setsockopt(s.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
      if (s && ::connect(s.get(), reinterpret_cast<const sockaddr*>(&to.address), to.length) == 0) {
        const Hello hello = own_hello();
        Hello answer;
        if (send_all(s.get(), &hello, sizeof hello, deadline) &&
            receive_all(s.get(), &answer, sizeof answer, deadline) && is_ours(answer) && answer.rank == rank) {
          keep(rank, std::move(s));
          return;
        }
        errno = 0;
      }
      // It may not have begun yet.
      if (deadline.over())
        throw Error(
            "rank {} can't reach rank {} on {}: {}; look at the network, or name another address in MASTER_ADDR",
            place_.rank, rank, place_.host, errno != 0 ? last_message() : "who answers is no rank of this run");
      std::this_thread::sleep_for(std::chrono::milliseconds(kSliceMs));
    }
  }

  /// Of ranks above this one.
  void answer(int callers, std::vector<Address>* addresses, const Deadline& deadline) {
    for (int k = 0; k < callers;) {
      pollfd p{listener_.get(), POLLIN, 0};
      if (::poll(&p, 1, kSliceMs) <= 0) {
        if (deadline.over())
          throw Error(
              "{} of {} ranks have not called rank {} within {:g} s; start all of them, and see that they reach "
              "each other (--rank-deadline waits longer)",
              callers - k, place_.size, place_.rank, place_.deadline_s);
        continue;
      }
      Address from;
      from.length = sizeof from.address;
      Socket s(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&from.address), &from.length, SOCK_CLOEXEC));
      if (!s) continue;
      Hello hello;
      // A stranger must not hold up the others for long.
      if (!receive_all(s.get(), &hello, sizeof hello, Deadline(5)) || !is_ours(hello) || hello.rank < place_.rank ||
          peers_[static_cast<std::size_t>(hello.rank)])
        continue;
      const Hello own = own_hello();
      if (!send_all(s.get(), &own, sizeof own, deadline)) continue;
      if (addresses) {
        set_port(from.address, static_cast<std::uint16_t>(hello.port));
        (*addresses)[static_cast<std::size_t>(hello.rank)] = from;
      }
      keep(hello.rank, std::move(s));
      ++k;
    }
  }

  void keep(int rank, Socket s) {
    const int on = 1;
    ::setsockopt(s.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // exchanges are short, and waited for
    ::setsockopt(s.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);  // a machine that is gone says nothing
    peers_[static_cast<std::size_t>(rank)] = std::move(s);
  }

  void scatter_blocks(const std::byte* data, std::span<const std::size_t> cuts, std::byte* received) override {
    const auto me = static_cast<std::size_t>(place_.rank);
    const std::size_t own = cuts[me + 1] - cuts[me];
    for (std::size_t r = 0; r < peers_.size(); ++r)
      transfers_[r] = {peers_[r].get(), data + cuts[r], cuts[r + 1] - cuts[r], received + r * own, own};
    if (own > 0) std::memcpy(received + me * own, data + cuts[me], own);
    exchange();
  }

  void gather_blocks(std::byte* data, std::span<const std::size_t> cuts) override {
    const auto me = static_cast<std::size_t>(place_.rank);
    for (std::size_t r = 0; r < peers_.size(); ++r)
      transfers_[r] = {peers_[r].get(), data + cuts[me], cuts[me + 1] - cuts[me], data + cuts[r],
                       cuts[r + 1] - cuts[r]};
    exchange();
  }

  /// All transfers but that with itself.
  void exchange() {
    const Deadline deadline(place_.deadline_s);
    transfers_[static_cast<std::size_t>(place_.rank)] = {-1, nullptr, 0, nullptr, 0};
    for (;;) {
      waiting_.clear();
      for (std::size_t r = 0; r < transfers_.size(); ++r) {
        Transfer& t = transfers_[r];
        if (t.done()) continue;
        if (!t.go_on()) lost(r);
        if (t.done()) continue;
        waiting_.push_back({t.descriptor, static_cast<short>(t.events()), 0});
      }
      if (waiting_.empty()) return;
      ::poll(waiting_.data(), waiting_.size(), kSliceMs);
      if (cancelled_) throw Error("an exchange between ranks was given up; this rank has said why");
      if (deadline.over())
        throw Error(
            "no answer from another rank for {:g} s; it hangs, or its machine or network has failed; the run "
            "ends, go on with --resume (--rank-deadline waits longer)",
            place_.deadline_s);
    }
  }

  [[noreturn]] static void lost(std::size_t rank) {
    throw Error("rank {} is gone{}; the run ends, go on with --resume", rank, errno != 0 ? ": " + last_message() : "");
  }

  TcpPlace place_;
  Socket listener_;
  std::vector<Socket> peers_;
  std::vector<Transfer> transfers_;
  std::vector<pollfd> waiting_;
  std::atomic<bool> cancelled_ = false;
};

/// A number of an environment variable; false where it is not set.
bool read_number(const char* variable, std::int64_t& value) {
  const char* text = std::getenv(variable);
  if (!text) return false;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error != std::errc() || *end != '\0' || value < 0)
    throw Error("the environment variable {} is '{}', which is no number; unset it, or start the ranks by another way",
                variable, text);
  return true;
}

std::uint16_t as_port(std::int64_t port) {
  if (port < 1 || port > 65535) throw Error("MASTER_PORT is {}; it must lie between 1 and 65535", port);
  return static_cast<std::uint16_t>(port);
}

}  // namespace

std::unique_ptr<Ranks> make_tcp_ranks(const TcpPlace& place) {
  return std::make_unique<TcpRanks>(place);
}

std::string first_host(const std::string& list) {
  const std::size_t open = list.find('[');
  if (list.find(',') < open || open == std::string::npos) return list.substr(0, list.find(','));
  const std::size_t end = list.find_first_of(",-]", open);
  const std::size_t close = list.find(']', open);
  if (end == std::string::npos || close == std::string::npos) return list;
  return list.substr(0, open) + list.substr(open + 1, end - open - 1) +
         list.substr(close + 1, list.find(',', close) - close - 1);
}

bool find_tcp_place(TcpPlace& place) {
  std::int64_t rank = 0, size = 0, port = 0;
  const char* address = std::getenv("MASTER_ADDR");
  const bool has_port = read_number("MASTER_PORT", port);
  if (address && has_port && read_number("RANK", rank) && read_number("WORLD_SIZE", size) && size > 1) {
    place.host = address;
    place.port = as_port(port);
    const char* run = std::getenv("TORCHELASTIC_RUN_ID");
    place.job = run ? run : fmt::format("{}:{}", address, port);
  } else if (read_number("SLURM_STEP_NUM_TASKS", size) && size > 1 && read_number("SLURM_PROCID", rank)) {
    std::int64_t job = 0, step = 0;
    read_number("SLURM_JOB_ID", job);
    read_number("SLURM_STEP_ID", step);
    const char* nodes = std::getenv("SLURM_STEP_NODELIST");
    place.host = address ? address : first_host(nodes ? nodes : "localhost");
    // Below the ports that systems give to outgoing connections; jobs of one machine seldom have the same.
    place.port = has_port ? as_port(port) : static_cast<std::uint16_t>(15000 + (job * 61 + step) % 15000);
    place.job = fmt::format("slurm {}.{}", job, step);
  } else {
    return false;
  }
  if (rank >= size) throw Error("this process is rank {} of {}; look at how the ranks are started", rank, size);
  place.rank = static_cast<int>(rank);
  place.size = static_cast<int>(size);
  return true;
}

}  // namespace moleblend
